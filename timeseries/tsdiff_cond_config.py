"""The settings of :mod:`.tsdiff_cond`, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from .calendar import calendar_names
from .covariates import check_columns
from .window_config import Sampling, WindowConfig

__all__ = ["Missing", "Sampling", "TSDiffCondConfig", "features_of", "known_of"]

Missing = Literal["none", "random", "begin", "end", "mixed"]


@dataclass(frozen=True)
class TSDiffCondConfig(WindowConfig):
    """Everything that defines a TSDiffCond model. Immutable; stored in the checkpoint.

    Attributes:
        context_length, prediction_length, freq, scaler, lags: the windows, see `WindowConfig`.
        channels, blocks, d_state, embedding, init_skip, dropout: the network, see `WindowConfig`.
        timesteps, beta_start, beta_end, sampler, sampling_steps: the diffusion, see `WindowConfig`. There is no
            guidance here that few calls would upset: on electricity demand, a small model after 500 steps has a wQL of
            0.0671 with 20 calls of "ddim" and 0.0644 with 100 of "ddpm" (with covariates 0.0478 and 0.0474).
        covariates: columns whose values are known through the horizon (prices, holidays ...); none by default.
        calendar: tell the network the calendar features of the frequency (:mod:`.calendar`). The paper's model has
            none; they cost nothing and are known always.
        missing: what is hidden in training beside the horizon. "none": nothing. "random", "begin", "end": half of every
            context, as the paper trains one model a scenario. "mixed", the default: complete contexts half of the
            time, else contexts with a random share hidden in one of these ways, gaps anywhere in the window, or
            all of it, so that one model forecasts after gaps, imputes and samples (:mod:`.tsdiff_cond_windows`). In
            that model, with covariates, it cost nothing on complete contexts (wQL 0.0478, "none" 0.0500) and helped
            where half of the context was hidden: at random 0.0544 ("none" 0.0684), its beginning 0.0595 (0.0617), its
            end 0.0650 (0.1010). One training each.
    """

    covariates: tuple[str, ...] = ()
    calendar: bool = True
    missing: Missing = "mixed"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "covariates", check_columns(self.covariates))
        if not isinstance(self.calendar, bool):
            raise ValueError(f"calendar must be True or False, got {self.calendar!r}")
        if self.missing not in get_args(Missing):
            raise ValueError(f"missing must be one of {', '.join(get_args(Missing))}, got {self.missing!r}")
        if self.calendar and self.freq is not None:
            calendar_names(self.freq)  # refuses a frequency without


def known_of(config: TSDiffCondConfig) -> int:
    """K, features known of the future: calendar and covariates."""
    calendar = calendar_names(config.freq or "h") if config.calendar else ()
    return len(calendar) + len(config.covariates)


def features_of(config: TSDiffCondConfig, lags: int) -> int:
    """F, features a position: lag channels, what is observed, its mask, and what is known."""
    return lags + 2 + known_of(config)
