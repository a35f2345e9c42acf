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

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from ..core import grids
from ..core.denoisers import Denoiser
from ..core.networks import S4DBackbone
from ..core.sample import sample
from ..core.samplers import DDIM, DDPM
from ..core.schedules import DiscreteBetas
from ..core.settings import positive_integers
from .bases import base_paths
from .constraints import Steering
from .data import Panel, to_model_panel
from .forecast import Forecast
from .guidance import AncestralGuidance, DivergenceGuard, MSEGuidance, QuantileGuidance, SelfGuided, quantile_levels
from .imputation import Imputation
from .impute import fill_gaps, guided
from .refine import Refinement, Regulariser, refine, representative_step, step_losses
from .steering import OnViolation
from .tsdiff_config import Sampling, TSDiffConfig, lags_of
from .tsdiff_inputs import Inputs, check_horizon, prepare
from .tsdiff_training import Windows, validation_rows
from .walks import Walk, check_max_batch, check_steering, sampling_of
from .window_model import WindowModel
from .windows import cut_window

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["KIND", "TSDiff", "TSDiffConfig", "Windows"]

KIND = "TSDiff"


class TSDiff(WindowModel):
    """Unconditional diffusion of windows, guided to forecast.

    >>> model = TSDiff(TSDiffConfig(context_length=336, prediction_length=24)).fit(df, max_steps=4000, seed=0)
    >>> forecast = model.forecast(df, num_samples=100, seed=0)

    Training, files and attributes: see `WindowModel`.

    Args:
        config: a `TSDiffConfig`; or give its fields by name.
    """

    kind = KIND
    config_class = TSDiffConfig
    config: TSDiffConfig

    @property
    def schedule(self) -> DiscreteBetas:
        """The noise schedule of the configuration."""
        return DiscreteBetas.linear(self.config.beta_start, self.config.beta_end, self.config.timesteps)

    def _build(self, seed: int) -> Denoiser:
        c = self.config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed % 2**63)
            network = S4DBackbone(
                1 + len(lags_of(c)),
                c.channels,
                c.blocks,
                c.d_state,
                embedding=c.embedding,
                init_skip=c.init_skip,
                dropout=c.dropout,
            )
        return Denoiser(network, self.schedule, prediction="noise", label="index")

    def _windows(self, panel: Panel, min_observed: float) -> Windows:
        return Windows(panel, self.config, self.default, min_observed)

    def _validation(self, panel: Panel, count: int) -> Windows:
        rows = validation_rows(panel, self.config, count)
        return Windows(panel, self.config, self.default, horizon_only=True, rows=rows)

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
        steer: Steering | Callable[..., Any] | Sequence[Steering | Callable[..., Any]] | None = None,
        walkers: int = 16,
        on_violation: OnViolation = "raise",
        on_divergence: Literal["raise", "warn"] = "raise",
        progress: bool = False,
    ) -> Forecast:
        """Sample paths of the h steps after the end of every series.

        All series and paths are walked together, in batches of ``max_batch``; the noise of path j of series i depends
        on the seed and on i S + j alone: another S is another draw. Series that the model never saw are welcome. Rows
        at the end of a frame whose y is NaN are part of the (unobserved) past: the forecast starts after the last row.
        Where all that a context shows is one value, the forecast is that value, without spread, and a warning names the
        series.

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
            max_batch: windows at a time; memory grows with it.
            on_divergence: "raise" or "warn" when guidance blows up.
            steer: hard constraints and rewards that the paths should meet, in the data's unit: `NonNegative()`,
                `Capacity(upper)`, `Bounds`, `Total(at_least=..., window=7)`, `Scenario(function, at_least=...)`,
                `Aggregate(total, parts)`, `Reward(function)`, a function of paths, or several. See :mod:`.steering`.
            walkers: K particles a path, when steering; the cost is K times that of a forecast without.
            on_violation: what to do with paths for which no particle met a hard constraint: "raise" a
                `ConstraintError`, "warn" and return them as they are, or "project" them to the nearest that meets it.
                What happened stands in `Forecast.info["steering"]`, with an estimate ``log_z`` of the log-probability
                that the model gives to what was asked.
            progress: show a progress bar.

        Raises:
            RuntimeError: not trained; guidance diverged (`DivergenceError`); or a hard constraint was not met
                (`ConstraintError`).
            ValueError: bad data, another frequency, h out of range, S = 1 with quantile guidance, constraints that do
                not fit the series or the horizon.
        """
        denoiser, c = self._trained(), self.config
        panel = to_model_panel(df, c.freq or "h")
        h = check_horizon(h, c)
        check_steering(num_samples, steer, walkers, on_violation)
        sampler, steps = sampling_of(c, sampler, steps)
        if on_divergence not in ("raise", "warn"):
            raise ValueError(f"on_divergence must be 'raise' or 'warn', got {on_divergence!r}")
        guidance = QuantileGuidance(c.guidance_scale) if guidance is None else guidance
        if guidance.leveled:
            quantile_levels(num_samples)  # refuses a single path
        inputs = prepare(panel, h, c, self.default, self.trained_until)
        walk = Walk.of(
            panel,
            inputs,
            steer=steer,
            walkers=walkers,
            on_violation=on_violation,
            sampler=sampler,
            steps=steps,
            num_samples=num_samples,
            seed=seed,
            max_batch=max_batch,
        )
        values, observed = walk.spread(inputs.values(1)), walk.spread(inputs.observed(1))
        condition = {"values": values, "observed": observed} | ({"level": walk.levels()} if guidance.leveled else {})
        guard = DivergenceGuard(values, observed, action=on_divergence, scale=guidance.scale, leveled=guidance.leveled)
        return walk.forecast(
            SelfGuided(walk.denoiser(denoiser), guidance, sampler),
            self.schedule,
            condition,
            values.shape[-1],
            KIND,
            before=[] if sampler == "ddim" else [AncestralGuidance(guidance.scale)],
            after=[guard],
            iid=not guidance.leveled,
            info={"model": KIND, "guidance": f"{type(guidance).__name__}(scale={guidance.scale:g})"},
            progress=progress,
        )

    # -- imputation ------------------------------------------------------------------------------------------------
    def impute(
        self,
        df: pd.DataFrame | Panel,
        *,
        num_samples: int = 100,
        guidance: MSEGuidance | QuantileGuidance | None = None,
        sampler: Sampling | None = None,
        steps: int | None = None,
        seed: int = 0,
        max_batch: int | None = 256,
        join: bool = True,
        on_divergence: Literal["raise", "warn"] = "raise",
        progress: bool = False,
    ) -> Imputation:
        """Sample what may have been at every missing step (NaN) of every series, of any length.

        Rows with a NaN at the beginning and at the end of a frame are missing steps, too. Windows are walked from left
        to right, see :mod:`.impute`: a gap is sampled in a window that has observed values on both sides of it whenever
        the series has them, a gap longer than that is continued window by window, path by path. Series without a gap
        pass through and cost nothing. The noise of path j of window w of series i depends on (seed, i, w, j) alone.

        Args:
            df: long frame or panel; a frame must have the model's frequency by itself.
            num_samples: S, paths a series.
            guidance, sampler, steps, max_batch, on_divergence: as for `forecast`. Under quantile guidance path i aims
                at level i/(S+1) everywhere: the paths are not independent (`Imputation.iid` is False).
            seed: of the noise.
            join: let every gap begin and end at the observations around it: what guidance, which is soft, leaves there
                is interpolated over the gap. False: as guidance left it.
            progress: show a progress bar of windows.

        Raises:
            RuntimeError: not trained; or guidance diverged (`DivergenceError`).
            ValueError: bad data, a series without one observation (named), another frequency, S = 1 with quantile
                guidance, settings out of range.

        Warns:
            UserWarning: a series has fewer than 10 observations, or shows one constant around a gap, with which the gap
                is then filled without spread.
        """
        denoiser, c = self._trained(), self.config
        panel = to_model_panel(df, c.freq or "h")
        sampler, steps = sampling_of(c, sampler, steps)
        guidance = QuantileGuidance(c.guidance_scale) if guidance is None else guidance
        if guidance.leveled:
            quantile_levels(num_samples)  # refuses a single path
        paths = fill_gaps(
            panel,
            guided(denoiser, guidance, sampler, steps, max_batch, on_divergence, join),
            length=c.length,
            lags=lags_of(c),
            scaler=c.scaler,
            default=self.default,
            num_samples=num_samples,
            seed=seed,
            max_batch=max_batch,
            progress=progress,
        )
        info = {
            "model": KIND,
            "guidance": f"{type(guidance).__name__}(scale={guidance.scale:g})",
            "sampler": sampler,
            "steps": steps,
            "join": join,
            "num_samples": num_samples,
            "seed": seed,
        }
        return Imputation.completing(panel, paths, num_samples, KIND, not guidance.leveled, info)

    # -- refinement ------------------------------------------------------------------------------------------------
    def refine(
        self,
        forecast: Forecast | np.ndarray | pd.DataFrame,
        df: pd.DataFrame | Panel,
        *,
        method: Literal["lmc", "ml"] = "lmc",
        regulariser: Regulariser | Literal["quantile", "mse"] = "quantile",
        iterations: int = 20,
        step_size: float = 0.1,
        noise_scale: float = 0.1,
        step: int | Literal["representative", "random"] = "representative",
        energy: Literal["denoising", "score"] = "denoising",
        sort: bool = True,
        num_samples: int | None = None,
        column: str | None = None,
        seed: int = 0,
        max_batch: int | None = 256,
        on_divergence: Literal["raise", "warn"] = "raise",
        progress: bool = False,
    ) -> Forecast:
        """Improve a base forecast of any model, with this one as a prior. See :mod:`.refine`.

        Args:
            forecast: of the steps after the end of every series of `df`: a `Forecast`, an array (series, H) or
                (series, S, H), or a long frame ``unique_id, ds, <model>`` with or without intervals, as the Nixtla
                libraries return; see :mod:`.bases`.
            df: the histories, as for `forecast`.
            method, regulariser, iterations, step_size, noise_scale, step, energy, sort: see `Refinement`; the defaults
                are the paper's.
            num_samples: S; the base's own number of paths, or 100 for a point forecast.
            column: which model, in a frame that holds several.
            seed, max_batch, on_divergence, progress: as for `forecast`.

        Returns:
            a forecast named "<base>-refined"; `info["step"]` is the diffusion step.

        Raises:
            RuntimeError: not trained; or the walk diverged (`DivergenceError`).
            ValueError, TypeError: bad data, a base that does not continue them, settings out of range.
        """
        check_max_batch(max_batch)
        settings = Refinement(method, regulariser, iterations, step_size, noise_scale, step, energy, sort)
        if on_divergence not in ("raise", "warn"):
            raise ValueError(f"on_divergence must be 'raise' or 'warn', got {on_divergence!r}")
        denoiser, c = self._trained(), self.config
        panel = to_model_panel(df, c.freq or "h")
        base, name = base_paths(forecast, panel, num_samples, sort, column)
        count, h = base.shape[1], check_horizon(base.shape[2], c)
        level = quantile_levels(count, len(panel)) if settings.leveled else None
        inputs = prepare(panel, h, c, self.default, self.trained_until)
        start, known = inputs.filled(panel.values, base, c)
        tau = self._representative(panel, seed, max_batch) if step == "representative" else step
        x = refine(
            denoiser,
            start,
            inputs.observed(count),
            settings,
            step=tau if isinstance(tau, int) else None,
            anchored=known,
            level=level,
            seed=seed,
            max_batch=max_batch,
            on_divergence=on_divergence,
            progress=progress,
        )
        paths = inputs.to_data(x, count)
        starts = tuple(panel.times(i, len(y), len(y) + 1)[0] for i, y in enumerate(panel.values))
        info = {"model": KIND, "base": name, "step": tau, "num_samples": count, "seed": seed} | asdict(settings)
        info |= {"regulariser": repr(settings.regulariser), "step": tau}
        return Forecast(panel.ids, starts, panel.freq, paths, f"{name}-refined", not sort, info)

    def _representative(self, panel: Panel, seed: int, max_batch: int | None) -> int:
        """The representative diffusion step, on the last window of every series (256 series at most)."""
        c = self.config
        windows = [
            cut_window(
                y, len(y) - c.length, c.length, c.prediction_length, lags=lags_of(c), scaler=c.scaler,
                default=self.default,
            )
            for y in panel.values[:256]
        ]  # fmt: skip
        last = Inputs(tuple(windows), np.zeros(0), np.ones(0), np.zeros(0), c.prediction_length)
        losses = step_losses(self._trained(), last.values(1), last.observed(1), seed, max_batch=max_batch)
        return representative_step(losses)

    def sample(
        self,
        n: int,
        *,
        sampler: Sampling | None = None,
        steps: int | None = None,
        seed: int = 0,
        max_batch: int | None = 256,
        progress: bool = False,
    ) -> np.ndarray:
        """Unconditional windows, in scaled units: what the model believes of series. float64 (n, L).

        Args:
            n: how many.
            sampler, steps, seed, max_batch, progress: as for `forecast`.

        Raises:
            RuntimeError: not trained.
            ValueError: n < 1, or an unknown sampler.
        """
        c, denoiser = self.config, self._trained()
        positive_integers({"the number of windows": n})
        sampler, steps = sampling_of(c, sampler, steps)
        check_max_batch(max_batch)
        result = sample(
            denoiser,
            DDIM() if sampler == "ddim" else DDPM(),
            grids.discrete(self.schedule, steps, "trailing"),
            shape=(n, c.length, 1 + len(lags_of(c))),
            seed=seed,
            max_batch=max_batch,
            progress=progress,
        )
        assert isinstance(result.x, torch.Tensor)
        return result.x[..., 0].double().numpy()
