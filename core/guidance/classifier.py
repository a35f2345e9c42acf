r"""Guidance by a classifier: of noisy states, of clean predictions, or of ranges of noise.

Bayes' rule for scores, grad log p_t(x | c) = grad log p_t(x) + w grad log p(c | x), moves a model that
was never trained on c (P. Dhariwal and A. Nichol, "Diffusion models beat GANs on image synthesis",
NeurIPS 2021, algorithms 1 and 2). The classifier may know noisy states (`Classifier`), or be an
off-the-shelf one for clean data that looks at the data prediction (`OffTheShelf`), or be several
experts, one a range of noise (`NoiseRangeExperts`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..denoisers import Prediction
from ..tree import Tree, leaves, tree_map
from .base import Guidance, gradient_of, scores, taken
from .batched import tilted

__all__ = ["Classifier", "NoiseRangeExperts", "OffTheShelf", "smooth_relu"]


def _continuous(denoiser: Any, who: str) -> None:
    """Refuse tokens: they have no gradient to be moved along."""
    if denoiser.schedule.family == "categorical":
        raise ValueError(
            f"{who} moves states along a gradient, and tokens are not moved but replaced: use "
            "core.discrete.TokenClassifier, which weighs every replacement"
        )


class Classifier(Guidance):
    """Classifier guidance by a function of the noisy state.

    Args:
        denoiser: the model that is guided.
        log_prob: (states at time t, t, **condition) -> log p(c | x_t), shape (B,), differentiable in the
            states. `NoiseRangeExperts` is one such function.
        scale: w; 1 is Bayes' rule, larger sharpens.
        conditions: names of the call's conditions that go to `log_prob` instead of to the network
            (for example ("target",)).

    Raises:
        ValueError: if `log_prob` returns another shape, or values that are not finite.
    """

    needs_grad = True

    def __init__(
        self, denoiser: Any, log_prob: Callable[..., Tensor], scale: float = 1.0, conditions: Sequence[str] = ()
    ) -> None:
        super().__init__(denoiser)
        _continuous(denoiser, "Classifier")
        if not math.isfinite(scale):
            raise ValueError(f"scale must be finite, got {scale}")
        self.log_prob, self.scale, self.conditions = log_prob, float(scale), tuple(conditions)

    def __call__(self, x: Tree, t: Any, **condition: Any) -> Prediction:
        mine = taken(condition, self.conditions)
        pred = self.denoiser(x, t, **condition)
        with torch.enable_grad():
            z = tree_map(lambda leaf: leaf.detach().requires_grad_(True), x)
            value = scores(self.log_prob(z, t, **mine), leaves(x)[0].shape[0], "log_prob")
            gradient = gradient_of(value.sum(), z)
        return tilted(pred, _finite(gradient, t, self.scale), self.scale)


class OffTheShelf(Guidance):
    r"""Guidance by a classifier that was trained on clean data, asked about the data prediction.

    J. Ma et al., "Elucidating the design space of classifier-guided diffusion generation", ICLR 2024
    (EluCD). Log-probabilities are calibrated with two temperatures,

        log( exp(tau1 f_y) / sum_k exp(tau2 f_k) ),      tau1 = 1, tau2 = 0.5,

    whose smaller tau2 keeps the gradient alive where the classifier is sure; rectifiers are smoothed
    (`smooth_relu`); and the weight follows w (1 + gamma sin(pi t)). The gradient is taken at the data
    prediction D, not through the network: with the noise held, dD/dx = 1/alpha.

    Args:
        denoiser: the model that is guided.
        logits: data predictions -> logits (B, classes), differentiable.
        scale: w.
        tau1, tau2: temperatures.
        gamma: height of the sine.
        through_network: take the exact gradient through the network instead (one backward pass more).

    The call takes the condition `target`, long (B,), the wanted classes; it does not reach the network.
    """

    needs_grad = True

    def __init__(
        self,
        denoiser: Any,
        logits: Callable[[Tree], Tensor],
        scale: float = 1.0,
        tau1: float = 1.0,
        tau2: float = 0.5,
        gamma: float = 0.3,
        through_network: bool = False,
    ) -> None:
        super().__init__(denoiser)
        _continuous(denoiser, "OffTheShelf")
        if tau1 <= 0.0 or tau2 <= 0.0 or not math.isfinite(scale):
            raise ValueError(f"need a finite scale and positive temperatures, got {scale}, {tau1}, {tau2}")
        self.logits, self.scale, self.tau1, self.tau2 = logits, float(scale), tau1, tau2
        self.gamma, self.through_network = gamma, through_network

    def __call__(self, x: Tree, t: Any, **condition: Any) -> Prediction:
        target = taken(condition, ["target"])["target"]
        if isinstance(t, Tensor) and t.ndim:
            raise ValueError("off-the-shelf guidance is defined for one time for all samples, got a tensor of times")
        if self.through_network:
            with torch.enable_grad():
                z = tree_map(lambda leaf: leaf.detach().requires_grad_(True), x)
                pred = self.denoiser(z, t, **condition)
                gradient = gradient_of(self._log_prob(pred.data, target).sum(), z)
            detached = [tree_map(lambda leaf: leaf.detach(), tree) for tree in (pred.raw, pred.data, pred.noise)]
            pred = Prediction(pred.denoiser, x, pred.t, detached[0], pred.reference, detached[1], detached[2])
        else:
            pred = self.denoiser(x, t, **condition)
            with torch.enable_grad():
                data = tree_map(lambda leaf: leaf.detach().requires_grad_(True), pred.data)
                gradient = gradient_of(self._log_prob(data, target).sum(), data)
            gradient = pred.denoiser.leafwise(lambda schedule, g: g / schedule.alpha(pred.t), gradient)
        weight = self.scale * (1.0 + self.gamma * math.sin(math.pi * float(t)))
        return tilted(pred, _finite(gradient, t, self.scale), weight)

    def _log_prob(self, data: Tree, target: Tensor) -> Tensor:
        f = self.logits(data)
        if f.ndim != 2 or target.shape != f.shape[:1]:
            raise ValueError(
                f"logits must be (B, classes) and target (B,), got {tuple(f.shape)} and {tuple(target.shape)}"
            )
        wanted = f.gather(1, target.long()[:, None])[:, 0]
        return self.tau1 * wanted - (self.tau2 * f).logsumexp(1)


class NoiseRangeExperts:
    """Several functions of noisy states, each for its own range of times.

    H. Go et al., "Towards practical plug-and-play diffusion models" (PPAP), CVPR 2023: a network that
    knows clean data is made into experts by low-rank updates, each distilled on one range of noise.

    Args:
        bounds: times between the ranges, ascending, strictly inside (0, 1); K - 1 of them.
        experts: K functions (states, t, **condition) -> log p, (B,); the first for the least noise.

    Raises:
        ValueError: if numbers do not fit or bounds do not ascend.
    """

    def __init__(self, bounds: Sequence[float], experts: Sequence[Callable[..., Tensor]]) -> None:
        ends = [0.0, *bounds, 1.0]
        if len(experts) != len(bounds) + 1 or any(a >= b for a, b in pairwise(ends)):
            raise ValueError(
                f"K experts need K - 1 ascending bounds inside (0, 1), got {len(experts)} experts and bounds "
                f"{list(bounds)}"
            )
        self.bounds, self.experts = tuple(bounds), tuple(experts)

    def expert(self, t: float) -> Callable[..., Tensor]:
        """The expert for time `t`."""
        return self.experts[sum(t > bound for bound in self.bounds)]

    def __call__(self, x: Tree, t: Any, **condition: Any) -> Tensor:
        if isinstance(t, Tensor) and t.ndim:
            raise ValueError("noise-range experts need one time for all samples, got a tensor of times")
        return self.expert(float(t))(x, float(t), **condition)


def smooth_relu(module: nn.Module, beta: float = 3.0) -> nn.Module:
    """A copy of `module` with every ReLU replaced by softplus of sharpness `beta` (EluCD: smoother gradients)."""
    module = copy.deepcopy(module)

    def replace(parent: nn.Module) -> None:
        for name, child in parent.named_children():
            if isinstance(child, nn.ReLU):
                setattr(parent, name, nn.Softplus(beta=beta))
            else:
                replace(child)

    if isinstance(module, nn.ReLU):
        return nn.Softplus(beta=beta)
    replace(module)
    return module


def _finite(gradient: Tree, t: Any, scale: float) -> Tree:
    for leaf in leaves(gradient):
        if not bool(torch.isfinite(leaf).all()):
            bad = (~torch.isfinite(leaf.flatten(1)).all(1)).nonzero().flatten().tolist()
            raise FloatingPointError(
                f"the classifier's gradient is not finite at t={t} in sample {bad[0]}; lower scale={scale:g} or check "
                "the classifier on such inputs"
            )
    return gradient
