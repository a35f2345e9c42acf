"""What every model of windows shares: training on a panel without leaks.

A window model cuts windows of L = C + H steps (context and horizon) out of every series of a panel, scaled by what it
may know (:mod:`.windows`), and trains one denoiser on all of them. Files and resuming are those of `core.model`; a
system says what is its own in the hooks there and a few more:

    config_class                its frozen dataclass, which has freq, prediction_length and scaler
    _windows(panel, share)      the training set: a map-style data set, or one with ``draw(index, generator)``
    _validation(panel, count)   the last `count` horizons of every series, as such a data set
    _objective()                what is minimised
    _measure(train)             everything that is read off the training data, the default scale first
    _digest(train)              by which a resumed training knows its data

*No leak.* Held-out steps (``holdout``) are cut off before anything is measured; validation horizons begin after the
training data of their series end, and a validation frame in which they do not is refused. All of this counts from the
end of each series: where series end at different times, what others did later is in the training (`data.backtest`
has cutoffs that all series share).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch

from ..core.checkpoint import Checkpoint
from ..core.model import Model
from .data import Panel, freq_words, to_panel
from .tsdiff_training import digest_of, refuse_leak, shorten
from .windows import default_scale

if TYPE_CHECKING:
    import pandas as pd

    from .forecast import Forecast

__all__ = ["WindowModel"]


class WindowModel(Model):
    """A diffusion model of windows of series; see the module for what a subclass defines.

    Args:
        config: the configuration of the system; or give its fields by name.

    Attributes:
        config: with the frequency filled in after `fit`.
        denoiser: the trained `Denoiser`, None before.
        default: (shift, scale) for contexts that give none.
        history: training log of the last `fit`: rows of step, epoch, loss, lr, val_loss.
        trained_until: last training timestamp of each series, by name; forecasts from earlier origins warn.
        data: digest of the training panel, by which a resumed training knows that its data are the same ones.
        steps: optimizer steps taken, earlier runs included; 0 for a loaded model.
    """

    fits: ClassVar[str] = "df"
    digested: ClassVar[str] = "series, timestamps, values, holdout and validation all count"
    free: ClassVar[frozenset[str]] = frozenset({"guidance_scale", "sampler", "sampling_steps"})  # of forecasting alone

    def __init__(self, config: Any = None, **settings: Any) -> None:
        super().__init__(config, **settings)
        self.default: tuple[float, float] = (0.0, 1.0)
        self.trained_until: dict[str, str] = {}

    # -- what a system defines -------------------------------------------------------------------------------------
    def _windows(self, panel: Panel, min_observed: float) -> Any:
        """The training set of a panel."""
        raise NotImplementedError

    def _validation(self, panel: Panel, count: int) -> Any:
        """The validation set: the last `count` horizons of every series."""
        raise NotImplementedError

    def _objective(self) -> Callable[..., torch.Tensor]:
        """What is minimised: the loss of `core.training`, at a time drawn uniformly from the T steps."""
        from ..core.training import Discrete, Objective

        return Objective(times=Discrete(self.config.timesteps))

    def _measure(self, train: Panel) -> None:
        """Read off the training data what forecasts will need."""
        self.default = default_scale(train, self.config.scaler)

    def _digest(self, train: Panel) -> str:
        """Digest of the training data."""
        return digest_of(train)

    def _header(self) -> dict[str, Any]:
        return super()._header() | {"default": list(self.default), "trained_until": self.trained_until}

    def _restore(self, read: Checkpoint) -> None:
        super()._restore(read)
        shift, scale = read.config["default"]
        self.default = (float(shift), float(scale))
        self.trained_until = dict(read.config.get("trained_until", {}))

    # -- training --------------------------------------------------------------------------------------------------
    def fit(
        self,
        df: pd.DataFrame | Panel,
        *,
        freq: str | None = None,
        max_steps: int = 4000,
        batch_size: int = 64,
        lr: float = 1e-3,
        warmup: int = 0,
        decay: Literal["constant", "cosine"] = "constant",
        ema: float | None = 0.999,
        grad_clip: float | None = 0.5,
        holdout: int = 0,
        val_windows: int = 0,
        val_df: pd.DataFrame | Panel | None = None,
        min_observed: float = 0.5,
        seed: int = 0,
        out: str | os.PathLike[str] | None = None,
        resume: bool = False,
        save_every: int | None = None,
        progress: bool = False,
        **hardware: Any,
    ) -> Self:
        """Train on every window of every series; earlier weights of this object are forgotten.

        Args:
            df: long frame or panel; one global model is trained on all its series. Missing values are allowed.
            freq: of the frame; inferred when None.
            max_steps: optimizer steps in all (the paper takes 128,000).
            batch_size, lr, grad_clip: 64, 1e-3, 0.5, as the paper.
            warmup, decay: of the learning rate, see `core.training`.
            ema: decay of the average of the weights that is used for sampling; None for none.
            holdout: this many last steps of every series are cut off before anything else: the test period.
            val_windows: the last val_windows x H steps before that are kept for validation.
            val_df: instead, a frame whose last val_windows (at least 1) horizons are the validation windows; their
                horizons must lie after the training data.
            min_observed: smallest observed share of a training window's context.
            seed: of the initial weights, the order, the noise.
            out: folder for checkpoints; resume: go on with the training in it. save_every: steps between saves.
            progress: show a progress bar.
            hardware: accelerator, devices, num_nodes, strategy, precision, workers, callbacks, log_every of
                `core.training.fit`.

        Returns:
            self. With validation and ``out``, the weights of the lowest validation loss; else the last.

        Warns:
            UserWarning: series end at different times, so that what is held out of one was learnt from others.

        Raises:
            ImportError: Lightning is missing.
            ValueError: bad data (see `to_panel`), no series long enough (with the count), a validation that leaks,
                settings out of range, or a training to resume that had other data, other settings of the model (both
                named), or more than ``max_steps`` steps.
        """
        panel = df if isinstance(df, Panel) else to_panel(df, freq or self.config.freq)
        if self.config.freq is not None and panel.freq != self.config.freq:
            raise ValueError(
                f"the model is configured for freq={self.config.freq!r}, the data are {freq_words(panel.freq)}"
            )
        if holdout < 0 or val_windows < 0:
            raise ValueError(f"holdout and val_windows must not be negative, got {holdout} and {val_windows}")
        self.config = replace(self.config, freq=panel.freq)
        horizon = self.config.prediction_length
        if holdout or (val_windows and val_df is None):
            _warn_of_ends(panel, stacklevel=3 if type(self).fit is WindowModel.fit else 4)
        if holdout:
            panel = shorten(panel, holdout, "holdout")
        train, valid = panel, None
        if val_df is not None:
            valid = val_df if isinstance(val_df, Panel) else to_panel(val_df, panel.freq)
            val_windows = max(1, val_windows)
            refuse_leak(train, valid, val_windows * horizon)
        elif val_windows:
            train, valid = shorten(panel, val_windows * horizon, "val_windows x H"), panel
        self._measure(train)
        self.trained_until = {str(u): str(train.end(i)) for i, u in enumerate(train.ids)}
        self.data = self._digest(train)
        data = self._windows(train, min_observed)
        val = None if valid is None else self._validation(valid, val_windows)
        return self._train(
            self._build(seed),
            data,
            max_steps=max_steps,
            batch_size=batch_size,
            objective=self._objective(),
            lr=lr,
            warmup=warmup,
            decay=decay,
            ema=ema,
            grad_clip=grad_clip,
            seed=seed,
            val=val,
            out=out,
            resume=resume,
            save_every=save_every,
            progress=progress,
            **hardware,
        )

    def refine(self, *args: Any, **kwargs: Any) -> Forecast:
        """Improve somebody else's forecast: what an unconditional model can, see :meth:`.TSDiff.refine`.

        Raises:
            NotImplementedError: this system is conditional.
        """
        raise NotImplementedError(
            f"refinement asks how likely a whole window is, which {self.kind}, a conditional model, does not say: "
            "train a TSDiff and call its refine"
        )


def _warn_of_ends(panel: Panel, stacklevel: int) -> None:
    """Say so where the end of one series is not the end of all."""
    ends = {panel.end(i) for i in range(len(panel))}
    if len(ends) > 1:
        warnings.warn(
            f"the series end at {len(ends)} different times, from {min(ends)} to {max(ends)}, and holdout and "
            "val_windows count back from each series' own end: the model learns from some series what happened on "
            "dates that are held out of others. Where series depend on each other, score it on cutoffs that all share "
            "(backtest)",
            stacklevel=stacklevel,
        )
