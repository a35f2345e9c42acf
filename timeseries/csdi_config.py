"""The settings of :mod:`.csdi`, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from ..core.settings import positive_integers
from .data import canonical_freq
from .presets import settings
from .window_config import Sampling, check_diffusion

__all__ = ["CSDIConfig", "Scaling", "Strategy"]

Scaling = Literal["series", "window"]
Strategy = Literal["random", "historical", "forecast", "blocks"]

_WORDS = {"history": ("historical",), "mix": ("random", "historical")}


@dataclass(frozen=True)
class CSDIConfig:
    """Everything that defines a CSDI model. Immutable; stored in the checkpoint.

    Attributes:
        context_length: C, steps a window looks back. 168 (a week of hours), as the paper's forecasting.
        prediction_length: H, steps ahead. 24, as the paper. A window has L = C + H steps, for imputation, too: there H
            is merely how far the horizon of a forecast would reach.
        freq: pandas alias. None: read from the training data, then fixed.
        scaler: "series" subtracts each series' mean and divides by its standard deviation over the training data, as
            the paper. "window" takes them from what is given in the window (the training's where fewer than two values
            or no spread are given): for series whose level wanders off.
        target_strategy: what is hidden from a training window and asked for: one name, or several of which each window
            draws one. "random": a share of the observed cells, uniform in (0, 1). "historical": the cells that were
            missing in another window. "forecast": the last H steps. These are the paper's; its "mix" is ("random",
            "historical"). "blocks" is ours: runs of consecutive steps, series by series, as broken sensors leave them.
            The default serves `forecast` and `impute` with one model; the paper trains one for each task.
        stride: steps between the starts of two training windows. 1: all windows.
        features_per_step: a training window shows at most so many series, drawn anew each time. 64, as the paper does
            for hundreds of series; fewer series are always all shown.
        channels: width of the network, 64 in the paper.
        layers: residual layers, 4 in the paper. The place in the window enters behind the attention of a layer: 2 at
            least, where the order in time matters.
        heads: of attention, 8 in the paper.
        feedforward: width inside the encoder layers, 64 in the paper.
        embedding: features of the diffusion-step embedding, 128 in the paper.
        time_embedding: features of the place in the window, 128 in the paper.
        series_embedding: features of the series, 16 in the paper.
        dropout: probability in the encoder layers; 0.1, torch's default, which the published code takes. Without, a
            training step on a CPU takes about half the time (attention with dropout has no fast path there).
        timesteps, beta_start, beta_end: T = 50 betas from 1e-4 to 0.5, square roots evenly spaced, as the paper.
        sampler: "ddpm" (ancestral, as the paper) or "ddim" when a verb is given none.
        sampling_steps: network calls when a verb is given none; None: all T for ddpm, 20 for ddim.
    """

    context_length: int = 168
    prediction_length: int = 24
    freq: str | None = None
    scaler: Scaling = "series"
    target_strategy: str | tuple[str, ...] = ("random", "blocks", "forecast")
    stride: int = 1
    features_per_step: int = 64
    channels: int = 64
    layers: int = 4
    heads: int = 8
    feedforward: int = 64
    embedding: int = 128
    time_embedding: int = 128
    series_embedding: int = 16
    dropout: float = 0.1
    timesteps: int = 50
    beta_start: float = 1e-4
    beta_end: float = 0.5
    sampler: Sampling = "ddpm"
    sampling_steps: int | None = None

    def __post_init__(self) -> None:
        names = (
            "context_length", "prediction_length", "stride", "features_per_step", "channels", "layers", "heads",
            "feedforward", "embedding", "time_embedding", "series_embedding", "timesteps",
        )  # fmt: skip
        positive_integers({name: getattr(self, name) for name in names})
        if self.channels % self.heads:
            raise ValueError(f"channels must be a multiple of heads, got {self.channels} and {self.heads}")
        for name, least in (("embedding", 4), ("time_embedding", 2)):
            if getattr(self, name) % 2 or getattr(self, name) < least:
                raise ValueError(f"{name} must be even and at least {least}, got {getattr(self, name)}")
        if self.scaler not in get_args(Scaling):
            raise ValueError(f"scaler must be 'series' or 'window', got {self.scaler!r}")
        object.__setattr__(self, "target_strategy", _strategies(self.target_strategy))
        check_diffusion(self)
        if self.freq is not None:
            object.__setattr__(self, "freq", canonical_freq(self.freq))

    @classmethod
    def preset(cls, name: str, size: str = "small", **changes: Any) -> Self:
        """The window for a frequency (``"h"``, ``"D"`` ...) or a published data set, and the width of the network.

        Args:
            name: see :mod:`.presets`; of what it says, context, horizon, frequency and channels are taken.
            size: "small" (32 channels), "medium" or "paper" (64). changes: fields that differ.

        Raises:
            ValueError: no such preset or size; both are listed.
        """
        own = ("context_length", "prediction_length", "freq", "channels")
        return cls(**({k: v for k, v in settings(name, size).items() if k in own} | changes))

    @property
    def length(self) -> int:
        """L = C + H."""
        return self.context_length + self.prediction_length


def _strategies(given: str | tuple[str, ...]) -> tuple[str, ...]:
    """The strategies as a tuple of names."""
    names = (given,) if isinstance(given, str) else tuple(given)
    out = tuple(name for word in names for name in _WORDS.get(word, (word,)))
    foreign = [name for name in out if name not in get_args(Strategy)]
    if foreign or not out:
        raise ValueError(
            f"target_strategy is one or several of {', '.join(get_args(Strategy))}, or 'mix' (random and historical); "
            f"got {given!r}"
        )
    return out
