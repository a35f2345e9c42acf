r"""TSDiff: one unconditional diffusion model of windows, turned into a forecaster at sampling time.

Kollovieh, Ansari, Bohlke-Schneider, Zschiegner, Wang, Wang, "Predict, Refine, Synthesize: Self-Guiding Diffusion Models
for Probabilistic Time Series Forecasting", NeurIPS 2023.

*Training.* A window of L = C + H steps (context and horizon) of any series, scaled by its own context
(:mod:`.windows`), with optional lag channels, is a clean sample x0 in R^{L x (1 + lags)}. With the 100-step schedule
x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) n and a noise-predicting network of S4D blocks, the loss is the mean of
|n - eps(x_t, t)|^2 over what was observed: a window with gaps is used, its gaps teach nothing. There is no condition,
so one model serves any pattern of observed and missing entries.

*Forecasting.* The last L - h known steps are the observed part of a window whose last h are not; samples of the window
are guided towards the observations (:mod:`.guidance`) and their last h steps, in the data's unit, are the forecast. A
missing value in the context is simply not observed. h may differ from the training horizon if a context is left.

*No leak.* Scales come from the context alone. Held-out steps (``holdout``) are cut off before anything is measured;
validation losses are taken on the horizons of windows that begin after the training data end, and a validation frame
whose horizons reach into the training data is refused.

Differences from the paper: S4D with state 64 instead of S4 with 128 (the kernel is cheaper and can be cached), an
exponential moving average of the weights (none in the paper), and ``scaler="standard"`` beside the paper's mean |y|.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from ..core import checkpoint, grids
from ..core.denoisers import Denoiser
from ..core.networks import S4DBackbone
from ..core.sample import sample
from ..core.samplers import DDIM, DDPM
from ..core.schedules import DiscreteBetas
from .data import Panel, _as_timestamp, canonical_freq, freq_words, to_model_panel, to_panel
from .forecast import Forecast
from .guidance import AncestralGuidance, DivergenceGuard, MSEGuidance, QuantileGuidance, SelfGuided, quantile_levels
from .windows import Scaler, cut_window, default_scale, lags_for, window_starts

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["KIND", "TSDiff", "TSDiffConfig", "Windows"]

KIND = "TSDiff"
Sampling = Literal["ddpm", "ddim"]


@dataclass(frozen=True)
class TSDiffConfig:
    """Everything that defines a TSDiff model. Immutable; stored in the checkpoint.

    Attributes:
        context_length: C, steps a window looks back. 336 (two weeks of hours), as the paper's KDD setting; 360 for
            daily and business-day data.
        prediction_length: H, steps ahead. 24 (a day of hours); 30 for daily data.
        freq: pandas alias. None: read from the training data, then fixed.
        scaler: "mean_abs" divides by the mean of |context|, as the paper and DeepAR do: right for non-negative data
            with a meaningful zero. "standard" also subtracts the context's mean and divides by its standard deviation,
            for quantities such as temperatures, whose zero means nothing. Measured on the demo's validation after
            1,200 steps: equal wQL at the best guidance scale of each (2 and 8); 80 % intervals cover 85 and 72 %.
        lags: lag channels: "auto" (the paper's preset of the frequency), None or steps back. None by default: each
            channel adds a guided observation a step, which needs a smaller guidance scale, and a longer history.
        channels: width of the network, 64 in the paper.
        blocks: residual blocks, 3 in the paper.
        d_state: state size of the S4D layers. 64: with 128 (the paper's S4) the kernel takes most of a training step.
        embedding: features of the diffusion-step embedding, 128 in the paper.
        init_skip: add the network's input to its output; the paper does so on three of its eight data sets.
        dropout: probability after each S4D layer; none in the paper.
        timesteps, beta_start, beta_end: T = 100 linear betas from 1e-4 to 0.1, as the paper (abar_T = 0.0056).
        guidance_scale: scale of the quantile guidance when `forecast` is given none. 4, the middle of the paper's range
            of 1 to 8; tune it on validation windows, once a model.
        sampler: "ddpm" (ancestral, as the paper) or "ddim" when `forecast` is given none. At equal calls the guided
            ancestral sampler meets the observations better: its noise heals what guidance overshoots.
        sampling_steps: network calls when `forecast` is given none; None: all T for ddpm, 20 for ddim.
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
    guidance_scale: float = 4.0
    sampler: Sampling = "ddpm"
    sampling_steps: int | None = None

    def __post_init__(self) -> None:
        for name in ("context_length", "prediction_length", "channels", "blocks", "d_state", "embedding", "timesteps"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        if self.scaler not in ("mean_abs", "standard"):
            raise ValueError(f"scaler must be 'mean_abs' or 'standard', got {self.scaler!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")
        if self.freq is not None:
            object.__setattr__(self, "freq", canonical_freq(self.freq))
        if self.freq is not None or not isinstance(self.lags, str):
            object.__setattr__(self, "lags", lags_for(self.lags, self.freq or "h") or None)
        elif self.lags != "auto":
            lags_for(self.lags, "h")  # raises
        QuantileGuidance(self.guidance_scale)  # checks the scale
        if self.sampler not in ("ddim", "ddpm"):
            raise ValueError(f"sampler must be 'ddim' or 'ddpm', got {self.sampler!r}")
        if self.sampling_steps is not None and not 1 <= self.sampling_steps <= self.timesteps:
            raise ValueError(f"sampling_steps must lie in 1 .. {self.timesteps}, got {self.sampling_steps}")

    @property
    def length(self) -> int:
        """L = C + H."""
        return self.context_length + self.prediction_length


class Windows:
    """The training set: every window of every series, cut and scaled when asked for.

    Args:
        panel: the training data, and nothing else.
        config: with frequency and lags resolved.
        default: (shift, scale) for contexts that give none.
        min_observed: smallest observed share of a window's context.
        horizon_only: count the loss on the last H steps only (validation).
        rows: which windows, (n, 2) of (series, start); all by default.
    """

    def __init__(
        self,
        panel: Panel,
        config: TSDiffConfig,
        default: tuple[float, float],
        min_observed: float = 0.5,
        horizon_only: bool = False,
        rows: np.ndarray | None = None,
    ) -> None:
        self.panel, self.config, self.default, self.horizon_only = panel, config, default, horizon_only
        self.lags = _lags(config)
        horizon = config.prediction_length
        self.rows = window_starts(panel, config.length, horizon, self.lags, min_observed) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        i, start = (int(v) for v in self.rows[index])
        c = self.config
        window = cut_window(
            self.panel.values[i],
            start,
            c.length,
            c.prediction_length,
            lags=self.lags,
            scaler=c.scaler,
            default=self.default,
        )
        observed = window.observed
        if self.horizon_only:
            observed = observed.copy()
            observed[: c.context_length] = False
        return {"x": torch.from_numpy(window.x), "mask": torch.from_numpy(observed)}


def _lags(config: TSDiffConfig) -> tuple[int, ...]:
    return () if config.lags is None else lags_for(config.lags, config.freq or "h")


def _shorten(panel: Panel, steps: int, what: str) -> Panel:
    for u, y in zip(panel.ids, panel.values, strict=True):
        if len(y) <= steps:
            raise ValueError(f"series {u!r} has {len(y)} steps; {what}={steps} would leave nothing to train on")
    return replace(panel, values=tuple(y[: len(y) - steps] for y in panel.values))


class TSDiff:
    """Unconditional diffusion of windows, guided to forecast.

    >>> model = TSDiff(TSDiffConfig(context_length=336, prediction_length=24)).fit(df, max_steps=4000, seed=0)
    >>> forecast = model.forecast(df, num_samples=100, seed=0)

    Args:
        config: a `TSDiffConfig`; or give its fields by name.

    Attributes:
        config: with the frequency filled in after `fit`.
        denoiser: the trained `Denoiser`, None before.
        history: training log of the last `fit`: rows of step, epoch, loss, lr, val_loss.
        trained_until: last training timestamp of each series, by name; forecasts from earlier origins warn.
        data: digest of the training panel, by which a resumed training knows that its data are the same ones.
        steps: optimizer steps taken, earlier runs included; 0 for a loaded model.
    """

    def __init__(self, config: TSDiffConfig | None = None, **settings: Any) -> None:
        if config is not None and settings:
            raise TypeError(f"give a TSDiffConfig or its fields, not both (got config and {sorted(settings)})")
        if config is not None and not isinstance(config, TSDiffConfig):
            raise TypeError(f"config must be a TSDiffConfig, got {type(config).__name__}")
        self.config = config or TSDiffConfig(**settings)
        self.denoiser: Denoiser | None = None
        self.default: tuple[float, float] = (0.0, 1.0)
        self.trained_until: dict[str, str] = {}
        self.history: list[dict[str, float]] = []
        self.data = ""
        self.steps = 0

    def __repr__(self) -> str:
        return f"TSDiff({self.config}, {'trained' if self.denoiser is not None else 'not trained'})"

    @property
    def schedule(self) -> DiscreteBetas:
        """The noise schedule of the configuration."""
        return DiscreteBetas.linear(self.config.beta_start, self.config.beta_end, self.config.timesteps)

    def _build(self, seed: int) -> Denoiser:
        c = self.config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed % 2**63)
            network = S4DBackbone(
                1 + len(_lags(c)),
                c.channels,
                c.blocks,
                c.d_state,
                embedding=c.embedding,
                init_skip=c.init_skip,
                dropout=c.dropout,
            )
        return Denoiser(network, self.schedule, prediction="noise", label="index")

    def _trained(self) -> Denoiser:
        if self.denoiser is None:
            raise RuntimeError("this TSDiff is not trained: call fit(df) first, or TSDiff.load(folder)")
        return self.denoiser

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
    ) -> TSDiff:
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

        Raises:
            ImportError: Lightning is missing.
            ValueError: bad data (see `to_panel`), no series long enough (with the count), a validation that leaks,
                settings out of range, or a training to resume that had other data, other settings of the model (both
                named), or more than ``max_steps`` steps.
        """
        from ..core.training import Discrete, Objective, fit

        panel = df if isinstance(df, Panel) else to_panel(df, freq or self.config.freq)
        if self.config.freq is not None and panel.freq != self.config.freq:
            raise ValueError(
                f"the model is configured for freq={self.config.freq!r}, the data are {freq_words(panel.freq)}"
            )
        if holdout < 0 or val_windows < 0:
            raise ValueError(f"holdout and val_windows must not be negative, got {holdout} and {val_windows}")
        self.config = config = replace(self.config, freq=panel.freq)
        horizon = config.prediction_length
        if holdout:
            panel = _shorten(panel, holdout, "holdout")
        train, valid = panel, None
        if val_df is not None:
            valid = val_df if isinstance(val_df, Panel) else to_panel(val_df, panel.freq)
            val_windows = max(1, val_windows)
            _refuse_leak(train, valid, val_windows * horizon)
        elif val_windows:
            train, valid = _shorten(panel, val_windows * horizon, "val_windows x H"), panel
        self.default = default_scale(train, config.scaler)
        self.trained_until = {str(u): str(train.end(i)) for i, u in enumerate(train.ids)}
        self.data = _digest(train)
        if resume and out is not None:
            self._same_training(Path(out), max_steps)
        data = Windows(train, config, self.default, min_observed)
        val = None if valid is None else self._validation(valid, val_windows)
        denoiser = self._build(seed)
        result = fit(
            denoiser,
            data,
            max_steps=max_steps,
            batch_size=batch_size,
            objective=Objective(times=Discrete(config.timesteps)),
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
            kind=KIND,
            config=self._header(),
            progress=progress,
            **hardware,
        )
        self.history, self.steps = result.history, result.steps
        self.denoiser = result.denoiser
        if val is not None and out is not None and checkpoint.is_checkpoint(Path(out) / "best"):
            checkpoint.load(Path(out) / "best", kind=KIND).load_into(self._network())
        self._freeze()
        return self

    def _same_training(self, out: Path, max_steps: int) -> None:
        """Refuse to go on with a training of another model or of other data, or one that has gone further."""
        if not checkpoint.is_checkpoint(out / "state"):
            return
        from ..core.training.state import SafeCheckpointIO

        if checkpoint.is_checkpoint(out / "model"):
            before = checkpoint.load(out / "model", kind=KIND).config
            was, now = before.get("config", {}), asdict(self.config)
            free = {"guidance_scale", "sampler", "sampling_steps"}  # of forecasting alone
            different = [
                f"{k} was {was[k]!r}, now {now[k]!r}"
                for k in now
                if k in was and k not in free and (tuple(was[k]) if isinstance(was[k], list) else was[k]) != now[k]
            ]
            if different:
                raise ValueError(
                    f"cannot resume the training in {str(out)!r} with another model ({'; '.join(different)}): use the "
                    "same settings, or another folder"
                )
            if before.get("data", self.data) != self.data:
                raise ValueError(
                    f"cannot resume the training in {str(out)!r} on other data: it had the digest {before['data']}, "
                    f"these have {self.data} (series, timestamps, values, holdout and validation all count); use the "
                    "same data, or another folder"
                )
        step = int(SafeCheckpointIO().load_checkpoint(out / "state")["global_step"])
        if step > max_steps:
            raise ValueError(
                f"the training in {str(out)!r} is already at step {step}, nothing to do up to max_steps={max_steps}: "
                "ask for more steps, or load its model"
            )

    def _validation(self, panel: Panel, windows: int) -> Windows:
        c, rows = self.config, []
        first = max(_lags(c), default=0)
        for i, y in enumerate(panel.values):
            for w in range(windows):
                start = len(y) - c.length - w * c.prediction_length
                if start >= first and not np.isnan(y[start + c.context_length : start + c.length]).all():
                    rows.append((i, start))
        if not rows:
            raise ValueError(f"no validation window: a series needs {c.length + first} steps, the longest has "
                             f"{max(len(y) for y in panel.values)}")  # fmt: skip
        return Windows(panel, c, self.default, horizon_only=True, rows=np.array(rows, dtype=np.int64))

    def _network(self) -> torch.nn.Module:
        network = self._trained().network
        assert isinstance(network, torch.nn.Module)
        return network

    def _freeze(self) -> None:
        self._network().eval().requires_grad_(False)

    # -- forecasting -----------------------------------------------------------------------------------------------
    def forecast(
        self,
        df: pd.DataFrame | Panel,
        h: int | None = None,
        *,
        num_samples: int = 100,
        guidance: MSEGuidance | QuantileGuidance | None = None,
        sampler: Sampling | None = None,
        steps: int | None = None,
        seed: int = 0,
        max_batch: int | None = 256,
        on_divergence: Literal["raise", "warn"] = "raise",
        progress: bool = False,
    ) -> Forecast:
        """Sample paths of the h steps after the end of every series.

        All series and paths are walked together, in batches of ``max_batch``; the noise of path j of series i depends
        on (seed, i, j) alone. Series that the model never saw are welcome. Rows at the end of a frame whose y is NaN
        are part of the (unobserved) past: the forecast starts after the last row. Where all that a context shows is
        one value, the forecast is that value, without spread, and a warning names the series.

        Args:
            df: the histories, long frame or panel; a frame must have the model's frequency by itself.
            h: horizon; the model's H when None. Any h that leaves a context: h < L. The context is then L - h steps.
            num_samples: S, paths a series.
            guidance: `QuantileGuidance` (default, with the configured scale) or `MSEGuidance`. Under quantile guidance
                path i aims at level i/(S+1): the paths are not independent (`Forecast.iid` is False).
            sampler: "ddpm" (ancestral, as the paper) or "ddim" (deterministic given the start); the configured one
                when None.
            steps: network calls; the configured number when None. Fewer steps bear a smaller scale.
            seed: of the noise.
            max_batch: walkers at a time; memory grows with it.
            on_divergence: "raise" or "warn" when guidance blows up.
            progress: show a progress bar.

        Raises:
            RuntimeError: not trained; or guidance diverged (`DivergenceError`).
            ValueError: bad data, another frequency, h out of range, S = 1 with quantile guidance.
        """
        denoiser, c = self._trained(), self.config
        panel = to_model_panel(df, c.freq or "h")
        h = c.prediction_length if h is None else h
        if isinstance(h, bool) or not isinstance(h, int) or not 1 <= h < c.length:
            raise ValueError(
                f"h={h!r}: this model's windows have {c.length} steps, so the horizon must be an integer from 1 to "
                f"{c.length - 1} (the rest is context)"
            )
        if num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, got {num_samples}")
        if steps is None and sampler in (None, c.sampler):
            steps = c.sampling_steps
        sampler = c.sampler if sampler is None else sampler
        if sampler not in ("ddim", "ddpm"):
            raise ValueError(f"sampler must be 'ddim' or 'ddpm', got {sampler!r}")
        if on_divergence not in ("raise", "warn"):
            raise ValueError(f"on_divergence must be 'raise' or 'warn', got {on_divergence!r}")
        guidance = QuantileGuidance(c.guidance_scale) if guidance is None else guidance
        steps = (min(20, c.timesteps) if sampler == "ddim" else c.timesteps) if steps is None else steps
        level = quantile_levels(num_samples, len(panel)) if guidance.leveled else None
        self._remind(panel, c.length - h)
        constant = _constants(panel, c.length - h)

        windows = [
            cut_window(
                y,
                len(y) - (c.length - h),
                c.length,
                h,
                lags=_lags(c),
                scaler=c.scaler,
                default=self.default,
                hide_future=True,
                name=u if np.isnan(flat) else None,
            )
            for u, y, flat in zip(panel.ids, panel.values, constant, strict=True)
        ]
        values = _repeat([w.x for w in windows], num_samples)
        observed = _repeat([w.observed for w in windows], num_samples)
        condition = {"values": values, "observed": observed} | ({} if level is None else {"level": level})
        guard = DivergenceGuard(values, observed, action=on_divergence, scale=guidance.scale, leveled=guidance.leveled)
        result = sample(
            SelfGuided(denoiser, guidance, sampler),
            DDIM() if sampler == "ddim" else DDPM(),
            grids.discrete(self.schedule, steps, "trailing"),
            shape=tuple(values.shape),
            condition=condition,
            hooks=[guard] if sampler == "ddim" else [AncestralGuidance(guidance.scale), guard],
            seed=seed,
            max_batch=max_batch,
            progress=progress,
        )
        assert isinstance(result.x, torch.Tensor)
        paths = result.x[:, c.length - h :, 0].double().numpy().reshape(len(panel), num_samples, h)
        scale = np.array([w.scale for w in windows])[:, None, None]
        shift = np.array([w.shift for w in windows])[:, None, None]
        paths = np.where(np.isnan(constant)[:, None, None], shift + scale * paths, constant[:, None, None])
        starts = tuple(panel.times(i, len(y), len(y) + 1)[0] for i, y in enumerate(panel.values))
        info = {
            "model": KIND,
            "guidance": f"{type(guidance).__name__}(scale={guidance.scale:g})",
            "sampler": sampler,
            "steps": steps,
            "num_samples": num_samples,
            "seed": seed,
        }
        return Forecast(panel.ids, starts, panel.freq, paths, KIND, not guidance.leveled, info)

    def _remind(self, panel: Panel, context: int) -> None:
        short = [(u, len(y)) for u, y in zip(panel.ids, panel.values, strict=True) if len(y) < context]
        if short:
            listing = ", ".join(f"{u!r} ({n})" for u, n in short[:5])
            warnings.warn(
                f"{len(short)} of {len(panel)} histories are shorter than the context of {context} steps; the rest "
                f"counts as not observed: {listing}",
                stacklevel=3,
            )
        sparse = [
            (u, float(np.isnan(y[len(y) - context :]).mean()))
            for u, y in zip(panel.ids, panel.values, strict=True)
            if len(y) >= context
        ]
        sparse = [(u, share) for u, share in sparse if share > 0.5]
        if sparse:
            listing = ", ".join(f"{u!r} ({share:.0%} missing)" for u, share in sparse[:5])
            warnings.warn(
                f"more than half of the context of {context} steps is not observed in {len(sparse)} of {len(panel)} "
                f"series: {listing}",
                stacklevel=3,
            )
        inside = []
        for i, u in enumerate(panel.ids):
            until = self.trained_until.get(str(u))
            if until is not None:
                try:
                    early = panel.end(i) < _as_timestamp(until, panel.starts[i])
                except ValueError:  # one has a time zone and the other has none: another series of that name
                    continue
                if early:
                    inside.append(u)
        if inside:
            warnings.warn(
                f"{len(inside)} forecasts begin inside the training period (first: series {inside[0]!r}): their "
                "scores would not be out of sample",
                stacklevel=3,
            )

    def sample(self, n: int, *, steps: int | None = None, seed: int = 0, max_batch: int | None = 256) -> np.ndarray:
        """Unconditional windows (n, L), in scaled units, by ancestral sampling: what the model believes of series."""
        c = self.config
        grid = grids.discrete(self.schedule, c.timesteps if steps is None else steps, "trailing")
        shape = (n, c.length, 1 + len(_lags(c)))
        result = sample(self._trained(), DDPM(), grid, shape=shape, seed=seed, max_batch=max_batch)
        assert isinstance(result.x, torch.Tensor)
        return result.x[..., 0].numpy()

    # -- files -----------------------------------------------------------------------------------------------------
    def _header(self) -> dict[str, Any]:
        head = {"config": asdict(self.config), "default": list(self.default), "trained_until": self.trained_until}
        return head | ({"data": self.data} if self.data else {})

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write weights (safetensors) and configuration (JSON) into ``folder``, atomically; returns it."""
        self._trained()
        return checkpoint.save(folder, self._network(), self._header(), kind=KIND)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> TSDiff:
        """Read what `save`, or `fit` with ``out`` (its ``model`` and ``best``), wrote.

        Raises:
            FileNotFoundError, CheckpointError: nothing there, corrupted, foreign, or of another kind.
        """
        read = checkpoint.load(folder, kind=KIND)
        stored = dict(read.config.get("config", {}))
        known = {f.name for f in fields(TSDiffConfig)}
        if not stored or set(stored) - known:
            raise checkpoint.CheckpointError(
                f"checkpoint {str(folder)!r} has the settings {sorted(set(stored) - known)}, which this version lacks"
            )
        settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
        model = cls(TSDiffConfig(**settings))
        shift, scale = read.config["default"]
        model.default = (float(shift), float(scale))
        model.trained_until = dict(read.config.get("trained_until", {}))
        model.data = str(read.config.get("data", ""))
        model.denoiser = model._build(0)
        read.load_into(model._network())
        model._freeze()
        return model


def _digest(panel: Panel) -> str:
    """The first 16 hex digits of SHA-256 over frequency, names, first timestamps and values."""
    digest = hashlib.sha256(repr(panel.freq).encode())
    for u, s, y in zip(panel.ids, panel.starts, panel.values, strict=True):
        digest.update(repr((str(u), str(s), len(y))).encode())
        digest.update(np.where(np.isnan(y), np.nan, y).astype("<f8").tobytes())
    return digest.hexdigest()[:16]


def _constants(panel: Panel, context: int) -> np.ndarray:
    """The one value that each context shows, (series,), with a warning; NaN where there are several, or fewer than two
    observations."""
    out = np.full(len(panel), np.nan)
    for i, (u, y) in enumerate(zip(panel.ids, panel.values, strict=True)):
        seen = y[max(0, len(y) - context) :]
        seen = seen[~np.isnan(seen)]
        if len(seen) > 1 and np.ptp(seen) <= 1e-10 * np.abs(seen).max():
            out[i] = seen[-1]
            warnings.warn(
                f"series {u!r}: the observed context is constant ({seen[-1]:g}); its forecast is that value, without "
                "spread",
                stacklevel=3,
            )
    return out


def _repeat(arrays: Sequence[np.ndarray], times: int) -> torch.Tensor:
    return torch.from_numpy(np.stack(arrays)).repeat_interleave(times, dim=0)


def _refuse_leak(train: Panel, valid: Panel, horizon: int) -> None:
    if valid.freq != train.freq:
        raise ValueError(f"val_df has freq={valid.freq!r}, the training data {train.freq!r}")
    ends = {u: train.end(i) for i, u in enumerate(train.ids)}
    for i, u in enumerate(valid.ids):
        first = valid.times(i, max(0, len(valid.values[i]) - horizon))[0]
        if u in ends and first <= _as_timestamp(ends[u], first):
            raise ValueError(
                f"validation leaks: the horizons of series {u!r} begin at {first}, the training data end at {ends[u]}; "
                f"cut them before that, or let fit do it with val_windows="
            )
