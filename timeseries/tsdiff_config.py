"""The settings of :mod:`.tsdiff`, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass

from .guidance import QuantileGuidance
from .window_config import Sampling, WindowConfig, lags_of

__all__ = ["Sampling", "TSDiffConfig", "lags_of"]


@dataclass(frozen=True)
class TSDiffConfig(WindowConfig):
    """Everything that defines a TSDiff model. Immutable; stored in the checkpoint.

    Attributes:
        context_length, prediction_length, freq, scaler, lags: the windows, see `WindowConfig`.
        channels, blocks, d_state, embedding, init_skip, dropout: the network, see `WindowConfig`.
        timesteps, beta_start, beta_end, sampler, sampling_steps: the diffusion, see `WindowConfig`.
        guidance_scale: scale of the quantile guidance when `forecast` is given none. 4, the middle of the paper's range
            of 1 to 8; tune it on validation windows, once a model.
    """

    guidance_scale: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        QuantileGuidance(self.guidance_scale)  # checks the scale
