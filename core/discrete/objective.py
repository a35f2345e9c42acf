r"""What a training of token denoisers minimises: the losses of `losses` with keyed times, corruption and dropout.

===========================================  =======================================================================
`TokenObjective()`                           the bound in continuous time: MDLM, MD4, UDLM
`TokenObjective("discrete", T=1000)`         the bound in T steps: D3PM, VQ-Diffusion (`auxiliary=`, `adaptive=`)
`TokenObjective(weighting="uniform")`        cross-entropy without the bound's weight: MaskGIT, DiGress
===========================================  =======================================================================

Samples take times in strata of the batch (`Stratified`), so that every batch sees the whole way; the weight 1/t of
masked losses makes that worth while.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import Tensor

from ..denoisers import check_condition
from ..spaces import Space
from ..training.conditioning import check_null, drop_condition, perturbing
from ..training.keys import Keys
from ..training.losses import entries_of
from ..training.times import Stratified, TimeSampler, Uniform
from ..tree import batch_size, leaves
from .asked import Asked, ask
from .losses import discrete_terms, path_divergence, unweighted

__all__ = ["EARLIEST", "TokenObjective"]

EARLIEST = 1e-3
"""Default first time of training and bounds in continuous time, see `losses`."""


Loss = Literal["continuous", "discrete"]
TokenWeighting = Literal["elbo", "uniform"]


@dataclass(frozen=True)
class TokenObjective:
    """The loss of each sample in nats a token: `objective(denoiser, batch, keys)` -> (B,). `fit` takes it as it is.

    A batch is a tensor of token ids (B, L, ...), or a dictionary with

    - "x": the tokens, a tensor or a dictionary of leaves;
    - "condition": tensors (B, ...) by name, passed to the network;
    - "reference": priorities of the tokens, for processes that have them;
    - "mask": boolean, True = counts in the loss;
    - "known": boolean (B, L), True = given as clean data.

    Attributes:
        loss: "continuous" or "discrete" time.
        T: number of steps of the discrete loss.
        weighting: "elbo", a bound on -log p(x_0) / L (where times are uniform); "uniform", the cross-entropy alone.
        auxiliary, adaptive: of the discrete bound, see `discrete_elbo`.
        times: at which times; None is uniform in strata, from 0.001 in continuous time. The discrete loss takes the
            step in which a time falls.
        leaf_weights: weight of each leaf of a product state.
        dropout: probability of replacing the condition by the null condition (training only).
        null: the null condition by name, see `drop_condition`.
        space: builds the space of a batch from its dictionary, for padding that differs from batch to batch, as in
            `lambda batch: Masked(batch["real"])`; the dictionary may then hold further entries. None: the denoiser's.

    Raises:
        ValueError: for settings that do not go together.
    """

    loss: Loss = "continuous"
    T: int | None = None
    weighting: TokenWeighting = "elbo"
    auxiliary: float = 0.0
    adaptive: bool = False
    times: TimeSampler | None = None
    leaf_weights: Mapping[str, float] | None = None
    dropout: float = 0.0
    null: Mapping[str, Any] | None = None
    space: Callable[[Mapping[str, Any]], Space] | None = None

    def __post_init__(self) -> None:
        check_null(self.null, self.dropout)
        for name, value, choices in (("loss", self.loss, Loss), ("weighting", self.weighting, TokenWeighting)):
            if value not in get_args(choices):
                raise ValueError(f"{name} is one of {', '.join(map(repr, get_args(choices)))}; got {value!r}")
        if self.loss == "discrete" and (isinstance(self.T, bool) or not isinstance(self.T, int) or self.T < 1):
            raise ValueError(f"the discrete loss needs its number of steps, as T=1000; got T={self.T!r}")
        if self.loss == "continuous" and self.T is not None:
            raise ValueError(f'T={self.T} steps belong to loss="discrete"; the continuous loss has none')
        if not self.auxiliary >= 0.0:
            raise ValueError(f"auxiliary is the weight of a cross-entropy, >= 0; got {self.auxiliary}")
        if self.auxiliary and (self.loss, self.weighting) != ("discrete", "elbo"):
            raise ValueError(
                f'auxiliary={self.auxiliary} is added to the bound in steps: loss="discrete", weighting="elbo"'
            )
        if self.loss == "discrete" and self.times is not None and self.times.per_element:
            raise ValueError(f'{self.times!r} gives every token its own time, which needs loss="continuous"')

    @property
    def steps(self) -> int:
        """T of a discrete loss."""
        if self.T is None:
            raise ValueError('the continuous loss has no steps: use loss="discrete", T=...')
        return self.T

    def __call__(self, denoiser: Any, batch: Any, keys: Keys, *, training: bool = True) -> Tensor:
        """The loss of each sample, (B,).

        Raises:
            TypeError, ValueError: for a batch that is not as described above, and as `ask`.
        """
        entries = entries_of(batch, self.space is not None)
        first = leaves(entries["x"])[0]
        times = self.times or Stratified(Uniform(0.0 if self.loss == "discrete" else EARLIEST))
        if times.per_element and (not isinstance(first, Tensor) or first.ndim < 2):
            raise ValueError(f"one time a token needs tokens (B, L, ...), got {tuple(first.shape)}")
        columns = times.columns(first.shape[1] if times.per_element else 1)
        t = times.times(keys.uniforms("time", columns), keys.stratum, keys.strata)
        if self.loss == "discrete":
            t = (t * self.steps - 1e-9).ceil().clamp(1, self.steps) / self.steps
        return self.at(denoiser, entries, keys, t, training=training)

    def at(self, denoiser: Any, batch: Any, keys: Keys, t: Tensor, *, training: bool = True) -> Tensor:
        """The loss of each sample at given times, (B,).

        Args:
            t: (B,) or (B, L), float64; multiples of 1/T for a discrete loss.
        """
        entries = entries_of(batch, self.space is not None)
        x0 = entries["x"]
        if batch_size(x0) != len(keys):
            raise ValueError(f"the batch holds {batch_size(x0)} samples, there are {len(keys)} keys")
        if self.space is not None:
            denoiser = denoiser.on(self.space(entries))
        condition = dict(entries.get("condition") or {})
        check_condition(condition)
        if training and self.dropout:
            condition = drop_condition(condition, self.null or {}, self.dropout, keys.uniforms("drop")[:, 0])
        with perturbing(getattr(denoiser, "network", None) if training else None, keys.noise):
            asked = ask(
                denoiser,
                x0,
                t,
                noise=keys.noise,
                condition=condition,
                reference=entries.get("reference"),
                mask=entries.get("mask"),
                known=entries.get("known"),
            )
        return self.value(asked, t, keys)

    def value(self, asked: Asked, t: Tensor, keys: Keys) -> Tensor:
        """The loss of what has been asked at times t, (B,)."""
        if self.weighting == "uniform":
            return unweighted(asked, self.leaf_weights)
        if self.loss == "continuous":
            return asked.mean(path_divergence(asked.pred, asked.x0), self.leaf_weights)
        step = (t * self.steps).round().long()
        return discrete_terms(asked, step, self.steps, self.auxiliary, self.adaptive, self.leaf_weights)
