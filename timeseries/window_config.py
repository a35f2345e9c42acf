"""The settings that every diffusion model of windows has, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, Self, get_args

from ..core.settings import positive_integers
from .data import canonical_freq
from .presets import settings
from .windows import Scaler, lags_for

__all__ = ["Sampling", "WindowConfig", "check_diffusion", "lags_of"]

Sampling = Literal["ddpm", "ddim"]


@dataclass(frozen=True)
class WindowConfig:
    """What TSDiff and its conditional sibling have in common. Immutable; stored in the checkpoint.

    Attributes:
        context_length: C, steps a window looks back. 336 (two weeks of hours), as the paper's KDD setting; 360 for
            daily and business-day data.
        prediction_length: H, steps ahead. 24 (a day of hours); 30 for daily data.
        freq: pandas alias. None: read from the training data, then fixed.
        scaler: "mean_abs" divides by the mean of |context|, as the paper and DeepAR do: right for non-negative data
            with a meaningful zero. "standard" also subtracts the context's mean and divides by its standard deviation,
            for quantities such as temperatures, whose zero means nothing. Measured with TSDiff on the demo's validation
            after 1,200 steps: equal wQL at the best guidance scale of each (2 and 8); 80 % intervals cover 85 and 72 %.
        lags: lag channels: "auto" (the paper's preset of the frequency), None or steps back. None by default: they need
            a longer history, and in TSDiff each is one more guided observation a step, which takes a smaller scale.
        channels: width of the network, 64 in the paper.
        blocks: residual blocks, 3 in the paper.
        d_state: state size of the S4D layers. 64: with 128 (the paper's S4) the kernel takes most of a training step.
        embedding: features of the diffusion-step embedding, 128 in the paper.
        init_skip: add the network's input to its output; the paper does so on three of its eight data sets.
        dropout: probability after each S4D layer; none in the paper.
        timesteps, beta_start, beta_end: T = 100 linear betas from 1e-4 to 0.1, as the paper (abar_T = 0.0056).
        sampler: "ddpm" (ancestral, as the paper) or "ddim" when a verb is given none. At equal calls the guided
            ancestral sampler meets the observations better: its noise heals what guidance overshoots.
        sampling_steps: network calls when a verb is given none; None: all T for ddpm, 20 for ddim.
    """

    context_length: int = 336
    prediction_length: int = 24
    freq: str | None = None
    scaler: Scaler = "mean_abs"
    lags: str | tuple[int, ...] | None = None
    channels: int = 64
    blocks: int = 3
    d_state: int = 64
    embedding: int = 128
    init_skip: bool = False
    dropout: float = 0.0
    timesteps: int = 100
    beta_start: float = 1e-4
    beta_end: float = 0.1
    sampler: Sampling = "ddpm"
    sampling_steps: int | None = None

    def __post_init__(self) -> None:
        names = (
            "context_length", "prediction_length", "channels", "blocks", "d_state", "embedding", "timesteps",
        )  # fmt: skip
        positive_integers({name: getattr(self, name) for name in names})
        if self.scaler not in ("mean_abs", "standard"):
            raise ValueError(f"scaler must be 'mean_abs' or 'standard', got {self.scaler!r}")
        check_diffusion(self)
        if self.embedding % 2:
            raise ValueError(f"embedding must be even (sines and cosines), got {self.embedding}")
        if self.freq is not None:
            object.__setattr__(self, "freq", canonical_freq(self.freq))
        if self.freq is not None or not isinstance(self.lags, str):
            object.__setattr__(self, "lags", lags_for(self.lags, self.freq or "h") or None)
        elif self.lags != "auto":
            lags_for(self.lags, "h")  # raises

    @classmethod
    def preset(cls, name: str, size: str = "small", **changes: Any) -> Self:
        """The settings for a frequency (``"h"``, ``"D"``, ``"B"`` ...) or a published data set (``"m4_hourly"`` ...).

        Args:
            name: see :mod:`.presets`; what it says of settings that this system has not is left out. size: "small" (32
                channels), "medium" (64) or "paper" (64, state 128).
            changes: fields that differ.

        Raises:
            ValueError: no such preset or size; both are listed.
        """
        own = {f.name for f in fields(cls)}
        return cls(**({k: v for k, v in settings(name, size).items() if k in own} | changes))

    @property
    def length(self) -> int:
        """L = C + H."""
        return self.context_length + self.prediction_length


def lags_of(config: WindowConfig) -> tuple[int, ...]:
    """The lag channels of a configuration, steps back."""
    return () if config.lags is None else lags_for(config.lags, config.freq or "h")


def check_diffusion(config: Any) -> None:
    """Refuse a dropout, betas, a sampler or a number of calls that no system takes.

    Raises:
        ValueError: which one, and what it may be.
    """
    if not 0 <= config.dropout < 1:
        raise ValueError(f"dropout must lie in [0, 1), got {config.dropout}")
    if not 0 < config.beta_start <= config.beta_end < 1:
        raise ValueError(f"betas need 0 < beta_start <= beta_end < 1, got {config.beta_start} and {config.beta_end}")
    if config.sampler not in get_args(Sampling):
        raise ValueError(f"sampler must be 'ddim' or 'ddpm', got {config.sampler!r}")
    if config.sampling_steps is not None and not 1 <= config.sampling_steps <= config.timesteps:
        raise ValueError(f"sampling_steps must lie in 1 .. {config.timesteps}, got {config.sampling_steps}")
