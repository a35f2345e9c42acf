r"""Energies: what a factorised prediction misses, put back by importance weights.

M. Xu et al., "Energy-based diffusion language models for text generation" (EDLM), ICLR 2025. A denoiser of tokens
predicts each token on its own, mu(x_0 | x_t) = prod_i mu(x_0^i | x_t); when several tokens are decided in one step,
what they have to do with each other is lost. An energy of whole sequences corrects the prediction,

    p(x_0 | x_t)  =  mu(x_0 | x_t) exp(-E(x_0, x_t, t)) / Z,        Z = E_mu exp(-E),

and is used by importance: k whole sequences x^1..x^k are drawn from mu, one of them is chosen with the probability
softmax_j(-E(x^j) / T), and the step goes on as if the prediction were sure of it. For T = 1 the chosen one has the law
p as k goes to infinity, for finite k a law between mu and p; (1/k) sum_j exp(-E(x^j)) is an unbiased estimate of Z.
With the exact p(x_0 | x_t) every step is exact, however many tokens it decides.

**Autoregressive energy.** With log p_AR of whole sequences,

    E = -log p_AR(x_0) + log mu(x_0 | x_t) - log q(x_t | x_0),        so that mu exp(-E) = p_AR(x_0) q(x_t | x_0),

the true posterior if p_AR is the law of the data: what mu says cancels. In a masked process q(x_t | x_0) is the same
for all x_0 that agree with x_t, and drops out.

**Learned energy.** Noise-contrastive estimation tells x_0 of the data from x_0 drawn from mu at the same x_t,

    loss = -log sigmoid(-E(x_0)) - log sigmoid(E(x_0^-)),

whose optimum is E* = log mu(x_0 | x_t) - log p(x_0 | x_t): exactly what is missing, and Z = 1.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ..hooks import Hook, Step
from ..samplers.state import State
from ..spaces import Space, default_space
from ..steering.resampling import effective_size, log_mean
from ..tree import Tree, batch_size, leaves, tree_map
from .categorical import categorical, uniforms
from .denoiser import TokenPrediction
from .interpolating import Interpolating, Masked
from .places import places
from .process import Process, level

__all__ = ["EDLM", "AutoregressiveEnergy", "Energy", "NeuralEnergy", "nce_loss"]


class Energy(Protocol):
    """E of whole sequences, given what the denoiser said about x_t."""

    def __call__(self, x0: Tree, pred: TokenPrediction, **condition: Any) -> Tensor:
        """Energies (B,) of candidates x0 (B, L, ...), one a row of `pred`; +inf for what is impossible."""
        ...


@dataclass(frozen=True)
class AutoregressiveEnergy:
    """The energy that turns a factorised prediction into the posterior of an autoregressive model.

    Args:
        log_prob: (x0 (B, L), **condition) -> log p_AR(x0), of whole sequences (B,) or of each token given those before
            it (B, L); padding is not counted in the latter.
        carry_over: count only the tokens that are masked in x_t (`log_prob` must then answer (B, L), the process be
            `Masked`). It leaves out what known tokens say about masked ones before them, and Z = 1 where mu = p_AR.

    Raises:
        ValueError: when asked, for answers of another shape, and `carry_over` where it has no meaning.
    """

    log_prob: Callable[..., Tensor]
    carry_over: bool = False

    def __call__(self, x0: Tree, pred: TokenPrediction, **condition: Any) -> Tensor:
        real = places(pred.denoiser.space or default_space(x0), x0)
        log_p = self.log_prob(x0, **condition)
        b = batch_size(x0)
        if self.carry_over:
            real = self._masked(pred, real)
        if isinstance(log_p, Tensor) and isinstance(x0, Tensor) and log_p.shape == x0.shape:
            log_p = _total(log_p, real)
        elif not isinstance(log_p, Tensor) or log_p.shape != (b,) or self.carry_over:
            came = tuple(log_p.shape) if isinstance(log_p, Tensor) else type(log_p).__name__
            want = "one number a token (carry_over leaves some out)" if self.carry_over else f"shape ({b},)"
            raise ValueError(f"log_prob of an autoregressive energy must return {want}; it returned {came}")

        def said(log_mu: Tensor, tokens: Tensor, counts: Tensor) -> Tensor:
            return _total(log_mu.gather(-1, tokens.unsqueeze(-1)).squeeze(-1), counts)

        def noised(process: Process, tokens: Tensor, x: Tensor, counts: Tensor, y: Tensor | None) -> Tensor | float:
            if isinstance(process, Masked):
                return 0.0
            return _total(_log_q(process, tokens, x, process.local(pred.t, y)), counts)

        log_mu = sum(leaves(tree_map(said, pred.log_probs, x0, real)))
        log_q = sum(leaves(pred.denoiser.leafwise(noised, x0, pred.x, real, pred.reference)))
        return log_mu - log_p.double() - log_q

    def _masked(self, pred: TokenPrediction, real: Tree) -> Tensor:
        process = pred.denoiser.process
        if not isinstance(process, Masked):
            raise ValueError(f"carry_over counts the masked tokens alone, and {process!r} has none that stay known")
        masked: Tensor = (pred.x == process.mask) & real
        return masked


def _total(values: Tensor, counts: Tensor) -> Tensor:
    """Sum of each sample's values where they count, (B,), float64."""
    return torch.where(counts, values, values.new_zeros(())).flatten(1).sum(1, dtype=torch.float64)


def _log_q(process: Process, x0: Tensor, x: Tensor, t: Any) -> Tensor:
    """log q(x_t | x_0) of each token, (B, L, ...), float64."""
    if isinstance(process, Interpolating):
        lost = process.schedule.lost(t)
        r = process.replacement().to(x.device)[x]
        lost = level(lost, r)
        return ((1.0 - lost) * (x0 == x).to(r) + lost * r).log()
    if isinstance(t, Tensor):
        raise ValueError(f"the marginal of {process!r} is known at one time for all tokens; got a tensor of times")
    return process.marginal(t).to(x.device).log()[x0, x]


@dataclass(frozen=True)
class NeuralEnergy:
    """A learned energy; `nce_loss` trains it.

    Args:
        network: (x0, x_t, t, **condition) -> E, (B,); x0 and x_t token ids (B, L, ...), t (B,) or (B, L), float64, in
            [0, 1].
    """

    network: Callable[..., Tensor]

    def __call__(self, x0: Tree, pred: TokenPrediction, **condition: Any) -> Tensor:
        return self.energy(x0, pred.x, pred.t, **condition)

    def energy(self, x0: Tree, x: Tree, t: Any, **condition: Any) -> Tensor:
        """E(x_0, x_t, t), (B,).

        Raises:
            ValueError: if the network returns anything else.
        """
        b = batch_size(x0)
        times = torch.as_tensor(t, dtype=torch.float64, device=leaves(x0)[0].device)
        value = self.network(x0, x, times.expand(b) if times.ndim == 0 else times, **condition)
        if not isinstance(value, Tensor) or value.shape != (b,):
            came = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"an energy network must return one number a sequence, shape ({b},); it returned {came}")
        return value


def nce_loss(
    energy: NeuralEnergy, x0: Tree, x: Tree, t: Any, negatives: Tree | Sequence[Tree], **condition: Any
) -> Tensor:
    """Noise-contrastive loss of each sample, (B,).

    Args:
        energy: what is trained.
        x0: sequences of the data, (B, L, ...).
        x: x_t drawn from x0 at time t.
        t: a float, (B,) or (B, L).
        negatives: drawn from the (frozen) denoiser at the same x_t, `denoiser(x, t).draw(noise, space, draw)`; one
            for each sample, of the shape of x0, or a sequence of several, whose mean counts.
        condition: passed to the network.

    Raises:
        ValueError: for negatives of another shape than x0.
    """
    several = list(negatives) if isinstance(negatives, list | tuple) else [negatives]
    if not several:
        raise ValueError("the loss needs at least one negative for each sample, got none")
    for negative in several:
        for mine, theirs in zip(leaves(negative), leaves(x0), strict=True):
            if mine.shape != theirs.shape:
                raise ValueError(
                    f"negatives have the shape of x0, {tuple(theirs.shape)}, got {tuple(mine.shape)}; give several as "
                    "a list"
                )
    told = logsigmoid(-energy.energy(x0, x, t, **condition))
    fooled = torch.stack([logsigmoid(energy.energy(negative, x, t, **condition)) for negative in several])
    return -told - fooled.mean(0)


@dataclass(eq=False)
class EDLM(Hook):
    """Importance sampling of whole predictions by an energy (see the module); for any sampler of tokens.

    Candidates are asked about one after the other, each for the whole batch: rows never meet, and memory does not grow
    with their number. Where every candidate of a row is impossible (E = +inf), one is taken at random.

    Args:
        energy: see `Energy`; `AutoregressiveEnergy` or `NeuralEnergy`.
        candidates: k, at least 2.
        temperature: T of the weights; 1 for the law above, smaller for lower energies.
        window: times (low, high), both included, in which predictions are corrected; elsewhere they pass as they are.
            (0, 1) is all of them. The default is that of the authors' released configuration. A run that meets no time
            of the window warns.
        condition: passed to the energy; its tensors hold one entry a sample and are cut with the batch.
        name: prefix of the records.

    Records, lists with one entry a corrected call:
        ``<name>_t`` times, ``<name>_log_z`` (B,) the estimate of log Z (of exp(-E / T)), ``<name>_ess`` (B,) effective
        number of candidates; nan in rows outside of the window, where rows have times of their own.

    Raises:
        ValueError: for fewer than two candidates, a temperature that is not positive or a window that is none; in a run
            for energies that are nan or -inf, or have another shape.
    """

    energy: Energy
    candidates: int = 2
    temperature: float = 1.0
    window: tuple[float, float] = (0.4, 0.6)
    condition: dict[str, Any] | None = None
    name: str = "edlm"
    offset: int = field(default=0, repr=False)
    _kept: dict[str, list[Any]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.candidates, bool) or not isinstance(self.candidates, int) or self.candidates < 2:
            raise ValueError(f"a choice needs at least 2 candidates, got candidates={self.candidates!r}")
        if not 0.0 < self.temperature < float("inf"):
            raise ValueError(f"the temperature must be positive and finite, got {self.temperature}")
        low, high = self.window
        if not 0.0 <= low < high <= 1.0:
            raise ValueError(f"the window must be (low, high) with 0 <= low < high <= 1, got {self.window}")
        if not callable(self.energy):
            raise TypeError(f"the energy must be callable, got {type(self.energy).__name__}")

    def on_start(self, state: State, space: Space) -> State:
        self._kept = {f"{self.name}_{what}": [] for what in ("t", "log_z", "ess")}
        return state

    def on_step(self, step: Step) -> State:
        state = super().on_step(step)
        if step.sampler.done(step.plan, state) and not self._kept[f"{self.name}_t"]:
            warnings.warn(
                f"EDLM corrected nothing: no call of this run was at a time in the window {self.window}; widen it, "
                "(0, 1) is every call",
                stacklevel=2,
            )
        return state

    def on_prediction(self, step: Step) -> Step:
        t, b = step.query.t, batch_size(step.query.x)
        acts = self._acts(t, b).to(leaves(step.query.x)[0].device)
        if not bool(acts.any()):
            if isinstance(t, Tensor):  # rows of another chunk may be inside: every chunk keeps as many entries
                self._keep(t, torch.full((b,), torch.nan, device=acts.device, dtype=torch.float64), 1.0)
            return step
        if step.noise is None:
            raise ValueError("candidates draw from the run's noise, this step carries none: run it through sample()")
        noise, space, draw = step.noise, step.space, step.state.draws
        given: Any = step.pred
        pred: TokenPrediction = given.with_log_probs(given.log_probs)  # once, for all candidates
        found = [pred.draw(noise, space, draw, f"{self.name}/{j}") for j in range(self.candidates)]
        log_w = torch.stack([self._log_weight(x0, pred, step) for x0 in found], 1)
        possible = (log_w > -torch.inf).any(1, keepdim=True)
        weights = torch.where(possible, log_w, log_w.new_zeros(()))
        choice = categorical(
            weights, uniforms(noise, default_space(log_w), log_w[:, :1], draw, f"{self.name}/choice")[:, 0]
        )
        x0 = found[0]
        for j in range(1, self.candidates):
            x0 = space.where(choice == j, found[j], x0)
        self._keep(t, torch.where(acts, log_mean(log_w), torch.nan), effective_size(weights))
        sure = pred.with_data(x0)
        if not bool(acts.all()):
            sure = pred.with_log_probs(space.where(acts, sure.log_probs, pred.log_probs))
        return replace(step, pred=sure)

    def _acts(self, t: Any, b: int) -> Tensor:
        low, high = self.window
        if isinstance(t, Tensor) and t.ndim > 1:
            raise ValueError(
                f"whole sequences are chosen, and tokens of this run have times of their own, {tuple(t.shape)}: an "
                "energy needs one time a sequence"
            )
        t = torch.as_tensor(t, dtype=torch.float64)
        return ((t >= low) & (t <= high)).expand(b)

    def _log_weight(self, x0: Tree, pred: TokenPrediction, step: Step) -> Tensor:
        energy = self.energy(x0, pred, **(self.condition or {}))
        b = batch_size(x0)
        if not isinstance(energy, Tensor) or energy.shape != (b,):
            came = tuple(energy.shape) if isinstance(energy, Tensor) else type(energy).__name__
            raise ValueError(f"an energy must return one number a sequence, shape ({b},); it returned {came}")
        bad = (energy.isnan() | energy.isneginf()).nonzero().flatten().tolist()
        if bad:
            raise ValueError(
                f"the energy of sample {self.offset + bad[0]} is {float(energy[bad[0]])} at call {step.call}; energies "
                "are finite, or +inf for what is impossible"
            )
        return -energy.double() / self.temperature

    def _keep(self, t: Any, log_z: Tensor, size: Tensor | float) -> None:
        values = (t.clone() if isinstance(t, Tensor) else t, log_z, torch.where(log_z.isnan(), log_z, size))
        for what, value in zip(("t", "log_z", "ess"), values, strict=True):
            self._kept[f"{self.name}_{what}"].append(value)

    def records(self) -> dict[str, Any]:
        return dict(self._kept)

    def take(self, index: Any) -> Hook:
        def pick(v: Any) -> Any:
            return v[index] if isinstance(v, Tensor) and v.ndim else v

        condition = None if self.condition is None else {name: pick(v) for name, v in self.condition.items()}
        start = index.start or 0 if isinstance(index, slice) else 0
        return replace(self, condition=condition, offset=self.offset + start, _kept={})
