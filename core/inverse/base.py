r"""What every solver is: a frozen description that turns a denoiser into one that knows the measurement.

A `Method` answers two questions: `guide(denoiser, measurement)` gives the denoiser to sample with,
`hooks(measurement)` what must happen between the steps. `reconstruct` puts them together, and by hand it
is the same:

    guided = method.guide(denoiser, measurement)
    sample(guided, sampler, steps=50, shape=..., hooks=[*method.hooks(measurement), *others], seed=0)

Order: what a model was trained for goes inside, what it was not trained for outside,

    classifier-free (network)  ->  measurement (Bayes on what the network says)  ->  hooks (rewards, resampling),

so a gradient through the network is one through the guided network, and a reward sees states that
explain the measurement. The other order is another model: a measurement answers differently for each
condition, and classifier-free guidance would extrapolate those answers. `reconstruct` refuses it.

Bayes' rule in the letters of this package. With the score of the state plus the likelihood's,
g = grad_x log p(y | x), Tweedie's formula says data' = data + (sigma^2 / alpha) g and
noise' = noise - sigma g = noise - (alpha / sigma) (data' - data): `moved(..., "rederive")`. Proximal methods
change the data and keep the noise: `moved(..., "keep")`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ..denoisers import Prediction
from ..guidance.base import Guidance
from ..hooks import Hook
from ..samplers import DDIM, Sampler
from ..schedules import ProductSchedule
from ..spaces import Euclidean, Product, Space, expand
from ..tree import Tree, leaves, tree_map
from .measurement import Bound, Measurement

__all__ = ["Measured", "Method", "levels", "moved", "through", "vjp"]


@dataclass(frozen=True)
class Method:
    """Base of all solvers.

    Attributes:
        needs_linear: whether A must be linear.
        needs_noise: whether the method divides by the noise level.
        needs_gaussian: whether it takes the noise of the state for Gaussian.
        needs_ode: whether only deterministic samplers are meant.
        needs_euclidean: whether single values must be free (no padding, symmetry, centre of mass).
        needs_grad: whether gradients through the network are taken.
        vjps: products with the transposed Jacobian of the network in each call, at most.
        scale: name of the field to lower if a run diverges.
    """

    needs_linear: ClassVar[bool] = True
    needs_noise: ClassVar[bool] = False
    needs_gaussian: ClassVar[bool] = True
    needs_ode: ClassVar[bool] = False
    needs_euclidean: ClassVar[bool] = False
    scale: ClassVar[str | None] = None

    @property
    def needs_grad(self) -> bool:
        return self.vjps > 0

    @property
    def vjps(self) -> int:
        return 0

    def sampler(self, measurement: Measurement) -> Sampler:
        """The sampler to use when none is given."""
        return DDIM()

    def guide(self, denoiser: Any, measurement: Measurement) -> Any:
        """The denoiser that knows the measurement."""
        self.check(measurement, denoiser.schedule, denoiser.space)
        return Measured(denoiser, self, measurement)

    def hooks(self, measurement: Measurement) -> list[Hook]:
        """What must happen between the steps."""
        return []

    def predict(self, denoiser: Any, bound: Bound, x: Tree, t: Any, condition: dict[str, Any]) -> Prediction:
        """The changed prediction at `x` and `t`."""
        return denoiser(x, t, **condition)

    def check(
        self, measurement: Measurement, schedule: Any, space: Space | None = None, sampler: Sampler | None = None
    ) -> None:
        """Refuse what the method is not defined for.

        Raises:
            ValueError: for nonlinear operators, noise 0, Student-t noise, elementwise schedules, spaces
                or stochastic samplers that the method cannot deal with; the message names a way out.
        """
        name = type(self).__name__
        operator = measurement.operator
        if self.needs_linear and not operator.linear:
            raise ValueError(
                f"{name} needs a linear operator, {operator!r} is not one; DPS, RedDiff, FlowChef and Steered "
                "take nonlinear operators"
            )
        if self.needs_noise and measurement.noise == 0.0:
            raise ValueError(
                f"{name} divides by the noise of the measurement, which is 0; give the noise level (a small one if "
                "need be), or use DDNM, DDRM, DDS or PiGDM"
            )
        one = schedule.leaves.get(operator.leaf or "") if isinstance(schedule, ProductSchedule) else schedule
        if isinstance(schedule, ProductSchedule) and one is None:
            raise ValueError(
                f"the operator measures leaf {operator.leaf!r}, the schedule has {sorted(schedule.leaves)}"
            )
        if self.needs_gaussian and schedule.family != "gaussian":
            raise ValueError(
                f"{name} takes the state's noise for Gaussian, {schedule!r} has Student-t noise; "
                "use DDS, DDNM or FlowChef"
            )
        if schedule.elementwise or schedule.basis is not None:
            raise ValueError(f"{name} needs one noise level a sample in the data's own coordinates, not {schedule!r}")
        if isinstance(space, Product):
            if operator.leaf not in space.spaces:
                raise ValueError(f"the operator measures leaf {operator.leaf!r}, the state has {sorted(space.spaces)}")
            space = space.spaces[operator.leaf]
        if self.needs_euclidean and space is not None and not isinstance(space, Euclidean):
            raise ValueError(
                f"{name} moves single values and would leave {space!r}; use DDS, DiffPIR, MMPS or DPS there"
            )
        if self.needs_ode and sampler is not None and sampler.stochastic:
            raise ValueError(
                f"{name} is defined along the probability-flow ODE, {sampler!r} adds noise; "
                "use DDIM(), Euler() or Heun()"
            )


class Measured(Guidance):
    """The denoiser around a denoiser that a `Method` makes."""

    def __init__(self, denoiser: Any, method: Method, measurement: Measurement) -> None:
        super().__init__(denoiser)
        self.method, self.measurement = method, measurement

    @property
    def needs_grad(self) -> bool:
        return self.method.needs_grad or bool(self.denoiser.needs_grad)

    def __call__(self, x: Tree, t: Any, **condition: Any) -> Prediction:
        return self.method.predict(self.denoiser, self.measurement.on(self.space, x), x, t, condition)

    def __repr__(self) -> str:
        return f"{self.method!r}.guide({self.denoiser!r})"


def levels(schedule: Any, t: Any, bound: Bound, like: Tensor) -> tuple[Any, Any]:
    """alpha and sigma of the measured leaf: floats, or tensors that multiply `like`.

    Raises:
        ValueError: where alpha = 0: there the state says nothing about the data.
    """
    one = schedule.leaves[bound.leaf or ""] if isinstance(schedule, ProductSchedule) else schedule
    a, s = one.alpha(t), one.sigma(t)
    if bool((a == 0.0).any()) if isinstance(a, Tensor) else a == 0.0:
        raise ValueError(f"t={t} has alpha = 0: measurement guidance is not defined there; start at a smaller t")
    if isinstance(a, Tensor):
        if a.ndim > 1:
            raise ValueError("measurement guidance needs one time a sample, got one time an element")
        return expand(a, like), expand(s, like)
    return a, s


def moved(pred: Prediction, denoiser: Any, data: Tree, noise: Literal["keep", "rederive"]) -> Prediction:
    """The prediction with other data; its noise kept, or changed by -(alpha / sigma) of the data's change.

    The same as `Prediction.with_data`, without its cancellation at small sigma.
    """
    if noise == "keep":
        return pred.with_data(data, noise="keep")
    if noise != "rederive":
        raise ValueError(f'noise must be "keep" or "rederive", got {noise!r}')

    def leaf(schedule: Any, n: Tensor, new: Tensor, old: Tensor) -> Tensor:
        if new is old:
            return n
        a, s = schedule.alpha(pred.t), schedule.sigma(pred.t)
        ratio = a / s
        return n - (ratio if isinstance(ratio, float) else expand(ratio, n)) * (new - old)

    derived = denoiser.leafwise(leaf, pred.noise, data, pred.data)
    return Prediction(pred.denoiser, pred.x, pred.t, pred.raw, pred.reference, data, derived, pred.parts)


def through(denoiser: Any, x: Tree, t: Any, condition: dict[str, Any]) -> tuple[Prediction, Tree, Tree]:
    """One call that remembers how the data came from the state.

    Returns:
        the prediction, cut from the graph; the states that gradients refer to; the data with the graph.
    """
    with torch.enable_grad():
        source = tree_map(lambda v: v.detach().requires_grad_(), x)
        pred = denoiser(source, t, **condition)
        data = pred.data
        if not any(leaf.requires_grad for leaf in leaves(data)):
            raise ValueError(
                "the network's output does not depend on its input for autograd (detached, or no_grad inside)"
            )
        noise = pred.noise if pred._noise is not None else None

    def cut(v: Any) -> Any:
        return None if v is None else tree_map(lambda leaf: leaf.detach(), v)

    plain = Prediction(pred.denoiser, cut(source), pred.t, cut(pred.raw), pred.reference, cut(data), cut(noise))
    return plain, source, data


def vjp(source: Tree, leaf: Tensor, v: Tensor, keep: bool = True) -> Tree:
    """(d leaf / d source)^T v, a tree like `source`; zero for leaves that do not matter."""
    at = leaves(source)
    grads = torch.autograd.grad(leaf, at, v.detach(), retain_graph=keep, allow_unused=True)
    found = iter([torch.zeros_like(a) if g is None else g for a, g in zip(at, grads, strict=True)])
    return tree_map(lambda _: next(found), source)
