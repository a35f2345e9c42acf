r"""TSDiff-Cond: a diffusion model of windows that is told what was observed, the calendar and known-future covariates.

Kollovieh, Ansari, Bohlke-Schneider, Zschiegner, Wang, Wang, "Predict, Refine, Synthesize: Self-Guiding Diffusion Models
for Probabilistic Time Series Forecasting", NeurIPS 2023: the conditional model beside TSDiff.

*Model.* A window x0 in R^{L x 1} of L = C + H steps, scaled by what is observed of it, under the same 100-step schedule
x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) n and the same S4D blocks as :mod:`.tsdiff`, with features of every position
added after each S4D layer:

    lag channels | observed values, 0 where hidden | mask of what is observed | calendar | covariates

so that the network is eps(x_t, t | features). The loss is the mean of |n - eps|^2 over *all* positions of the window
that were really observed, hidden or not. In training the horizon is hidden, and in part of the windows more
(:mod:`.tsdiff_cond_windows`): one model forecasts, from contexts with gaps too, fills gaps, and samples.

*Forecasting* is plain sampling, ancestral or DDIM: no guidance and no scale to tune, and one forward pass a step where
TSDiff takes a forward and a backward one. Paths are independent draws. The price: what is not told in training is not
known; TSDiff takes new conditions, and refines others' forecasts, without retraining.

*No leak.* Features are computed from the past alone: what is after the origin is NaN before anything is measured. Only
covariates and the calendar reach into the horizon, for they are known there (:mod:`.covariates`).

Differences from the paper: calendar and covariates (the paper's model has neither), ``missing="mixed"``, and those of
:mod:`.tsdiff` (S4D, average of the weights, ``scaler="standard"``).
"""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from ..core import grids
from ..core.checkpoint import Checkpoint
from ..core.denoisers import Denoiser
from ..core.networks import S4DBackbone
from ..core.noise import keyed_generator
from ..core.sample import sample
from ..core.samplers import DDIM, DDPM
from ..core.schedules import DiscreteBetas
from ..core.settings import positive_integers
from .calendar import calendar_features, times_around
from .constraints import Steering
from .covariates import Exogenous, Known, Standard, read_known
from .data import Panel, _pandas, to_model_panel
from .data.clock import as_timestamp, grid, zone_name
from .forecast import Forecast
from .imputation import Imputation
from .impute import Batch, conditional, fill_gaps
from .steering import OnViolation
from .tsdiff_cond_config import Sampling, TSDiffCondConfig, features_of, known_of
from .tsdiff_cond_windows import CondWindows, HidingWindows, condition_of
from .tsdiff_inputs import check_horizon, prepare
from .tsdiff_training import validation_rows
from .walks import Walk, check_max_batch, check_steering, sampling_of
from .window_config import lags_of
from .window_model import WindowModel

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["KIND", "TSDiffCond", "TSDiffCondConfig"]

KIND = "TSDiffCond"


class Told:
    """A network that is told the features of the window which each walker completes.

    Args:
        network: `network(x, label, features=...)`.
        features: (windows, L, F), each kept once however many walkers complete it.
    """

    def __init__(self, network: Callable[..., Tensor], features: Tensor) -> None:
        self.network, self.features = network, features

    def __call__(self, x: Tensor, label: Tensor, window: Tensor) -> Tensor:
        """The answers; `window` (B,) says which window each walker completes."""
        return self.network(x, label, features=self.features.to(x)[window])


def told(denoiser: Denoiser, features: Tensor) -> Denoiser:
    """The denoiser of windows with these features, to be asked with the condition ``window``."""
    other = copy.copy(denoiser)
    other.network = Told(denoiser.network, features)
    return other


class TSDiffCond(WindowModel):
    """Conditional diffusion of windows, with calendar features and covariates known of the future.

    >>> model = TSDiffCond(context_length=336, prediction_length=24, covariates=("price",)).fit(df, max_steps=4000)
    >>> forecast = model.forecast(df, covariates=future, num_samples=100, seed=0)

    Training, files and attributes: see `WindowModel`.

    Args:
        config: a `TSDiffCondConfig`; or give its fields by name.

    Attributes:
        standard: mean and standard deviation of each covariate in training.
        tz: name of the time zone of the training data, None where they have none (or one without a name).
    """

    kind = KIND
    config_class = TSDiffCondConfig
    config: TSDiffCondConfig

    def __init__(self, config: TSDiffCondConfig | None = None, **settings: Any) -> None:
        super().__init__(config, **settings)
        self.standard = Standard()
        self.tz: str | None = None
        self._reading: tuple[Known | None, Known | None] = (None, None)  # while fit runs: of training, of validation

    @property
    def schedule(self) -> DiscreteBetas:
        """The noise schedule of the configuration."""
        return DiscreteBetas.linear(self.config.beta_start, self.config.beta_end, self.config.timesteps)

    def _build(self, seed: int) -> Denoiser:
        c = self.config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed % 2**63)
            network = S4DBackbone(
                1,
                c.channels,
                c.blocks,
                c.d_state,
                features=features_of(c, len(lags_of(c))),
                embedding=c.embedding,
                init_skip=c.init_skip,
                dropout=c.dropout,
            )
        return Denoiser(network, self.schedule, prediction="noise", label="index")

    # -- training --------------------------------------------------------------------------------------------------
    def fit(self, df: pd.DataFrame | Panel, *, covariates: pd.DataFrame | None = None, **training: Any) -> Self:
        """Train on every window of every series; earlier weights of this object are forgotten.

        Args:
            df: long frame or panel, with the configured covariates as further columns, or without.
            covariates: a long frame that has them, where `df` does not; where both do, this one is right.
            training: the arguments of `WindowModel.fit`: freq, max_steps, batch_size, lr, holdout, val_windows, out,
                resume, seed, progress ...

        Returns:
            self.

        Raises:
            ValueError, TypeError: as `WindowModel.fit`; and covariates that are missing, not numbers, or not known at
                every step of every series (see :mod:`.covariates`).
        """
        val_df = training.get("val_df")
        known = self._read(df, covariates)
        try:
            self._reading = known, known if val_df is None else self._read(val_df, covariates)
            return super().fit(df, **training)
        finally:
            self._reading = (None, None)

    def _read(self, df: pd.DataFrame | Panel, covariates: pd.DataFrame | None) -> Known | None:
        """The covariates of this model in `covariates` and in the columns of `df`."""
        columns = self.config.covariates
        if not columns:
            if covariates is not None:
                raise ValueError(
                    "covariates= was given to a model that has none: name their columns when it is made, "
                    "TSDiffCond(covariates=('price', ...))"
                )
            return None
        if covariates is None:
            if isinstance(df, Panel):
                raise ValueError(
                    f"this model has the covariates {list(columns)}, and a Panel holds none: give covariates=, a long "
                    "frame with unique_id, ds and these columns"
                )
            return read_known(df, columns, "the data frame")
        known = read_known(covariates, columns)
        if isinstance(df, Panel) or not set(columns) <= set(getattr(df, "columns", ())):
            return known
        return known.over(read_known(df, columns, "the data frame"))

    def _exogenous(self, known: Known | None) -> Exogenous:
        return Exogenous(self.config.calendar, known, self.standard)

    def _known_steps(self, panel: Panel, known: Known | None) -> list[np.ndarray]:
        exogenous = self._exogenous(known)
        return [exogenous.on(panel, i, 0, len(y)) for i, y in enumerate(panel.values)]

    def _measure(self, train: Panel) -> None:
        super()._measure(train)
        self.tz = zone_name(train.starts[0].tz)
        known = self._reading[0]
        steps = None if known is None else [known.on(train, i, 0, len(y)) for i, y in enumerate(train.values)]
        self.standard = Standard() if steps is None else Standard.of(steps)

    def _digest(self, train: Panel) -> str:
        panel = super()._digest(train)
        if self._reading[0] is None:
            return panel
        digest = hashlib.sha256(panel.encode())
        for values in self._known_steps(train, self._reading[0]):
            digest.update(values.astype("<f4").tobytes())
        return digest.hexdigest()[:16]

    def _windows(self, panel: Panel, min_observed: float) -> HidingWindows:
        known = self._known_steps(panel, self._reading[0])
        return HidingWindows(panel, self.config, self.default, known, min_observed)

    def _validation(self, panel: Panel, count: int) -> CondWindows:
        known, rows = self._known_steps(panel, self._reading[1]), validation_rows(panel, self.config, count)
        return CondWindows(panel, self.config, self.default, known, horizon_only=True, rows=rows)

    # -- the condition ---------------------------------------------------------------------------------------------
    def _condition(self, values: Any, observed: Any, known: Any = None) -> dict[str, Tensor]:
        """What the denoiser is told of windows of which some entries are observed: ``{"features": (B, L, F)}``.

        Args:
            values: (B, L, 1 + lags), scaled; what is not observed is not looked at. observed: bool, the same shape.
            known: (B, L, K), calendar and covariates as `_exogenous` gives them, K = `known_of(config)`; may be left
                out where K is 0.
        """
        values, observed = np.asarray(values), np.asarray(observed)
        known = np.zeros((*values.shape[:2], 0), np.float32) if known is None else np.asarray(known)
        shape, k = (*values.shape[:2], 1 + len(lags_of(self.config))), known_of(self.config)
        if values.shape != shape or observed.shape != shape or known.shape != (*shape[:2], k):
            raise ValueError(
                f"values and observed must be {shape} and known {(*shape[:2], k)}, got {values.shape}, "
                f"{observed.shape} and {known.shape}"
            )
        return {"features": torch.from_numpy(condition_of(values, observed, known))}

    # -- forecasting -----------------------------------------------------------------------------------------------
    def forecast(
        self,
        df: pd.DataFrame | Panel,
        h: int | None = None,
        *,
        covariates: pd.DataFrame | None = None,
        num_samples: int = 100,
        sampler: Sampling | None = None,
        steps: int | None = None,
        seed: int = 0,
        max_batch: int | None = 256,
        steer: Steering | Callable[..., Any] | Sequence[Steering | Callable[..., Any]] | None = None,
        walkers: int = 16,
        on_violation: OnViolation = "raise",
        progress: bool = False,
    ) -> Forecast:
        """Sample independent paths of the h steps after the end of every series.

        All series and paths are walked together, in batches of ``max_batch``; the noise of path j of series i depends
        on the seed and on i S + j alone: another S is another draw. Series that the model never saw are welcome, and so
        are contexts with gaps. Rows at the end of a frame whose y is NaN are part of the (unobserved) past: the
        forecast starts after the last row. Where all that a context shows is one value, the forecast is that value,
        without spread, and a warning names the series.

        Args:
            df: the histories, long frame or panel; a frame must have the model's frequency by itself.
            h: horizon; the model's H when None. Others that leave a context (h < L) are allowed: the model was trained
                for H, though.
            covariates: long frame with the model's covariates through the horizon; those of the past may stand in `df`
                instead.
            num_samples: S, paths a series.
            sampler: "ddpm" (ancestral, as the paper) or "ddim" (deterministic given the start); the configured one
                when None.
            steps: network calls; the configured number when None.
            seed: of the noise.
            max_batch: windows at a time; memory grows with it.
            steer, walkers, on_violation: hard constraints and rewards that the paths should meet, as for
                `TSDiff.forecast`; see :mod:`.steering`.
            progress: show a progress bar.

        Raises:
            RuntimeError: not trained; or a hard constraint was not met (`ConstraintError`).
            ValueError: bad data, another frequency, h out of range, covariates that are missing, have holes, or do not
                cover the horizon, constraints that do not fit the series or the horizon.
        """
        denoiser, c = self._trained(), self.config
        panel = to_model_panel(df, c.freq or "h")
        h = check_horizon(h, c)
        check_steering(num_samples, steer, walkers, on_violation)
        sampler, steps = sampling_of(c, sampler, steps)
        if c.covariates and covariates is None:
            raise ValueError(
                f"this model has the covariates {list(c.covariates)}: give their values for the {h} steps ahead in "
                "covariates=, a long frame with unique_id, ds and these columns"
            )
        exogenous = self._exogenous(self._read(df, covariates))
        known = [exogenous.on(panel, i, len(y) + h - c.length, len(y) + h) for i, y in enumerate(panel.values)]
        inputs = prepare(panel, h, c, self.default, self.trained_until)
        features = self._condition(inputs.values(1), inputs.observed(1), np.stack(known))["features"]
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
        return walk.forecast(
            walk.denoiser(told(denoiser, features)),
            self.schedule,
            {"window": walk.spread(torch.arange(len(panel)))},
            1,
            KIND,
            info={"model": KIND},
            progress=progress,
        )

    def impute(
        self,
        df: pd.DataFrame | Panel,
        *,
        covariates: pd.DataFrame | None = None,
        num_samples: int = 100,
        sampler: Sampling | None = None,
        steps: int | None = None,
        seed: int = 0,
        max_batch: int | None = 256,
        join: bool = True,
        progress: bool = False,
    ) -> Imputation:
        """Sample what may have been at every missing step (NaN) of every series, of any length, in independent paths.

        Where windows lie and how they follow one another: as for `TSDiff.impute`, see :mod:`.impute`.

        Args:
            df: long frame or panel; a frame must have the model's frequency by itself.
            covariates: long frame with the model's covariates at every step, where `df` does not hold them.
            num_samples, sampler, steps, seed, max_batch, progress: as for `forecast`.
            join: let every gap begin and end at the observations around it: what the model misses there is interpolated
                over the gap. False: as the model says.

        Raises:
            RuntimeError: not trained.
            ValueError: bad data, a series without one observation (named), another frequency, covariates that are
                missing or have holes, settings out of range.

        Warns:
            UserWarning: the model never saw a horizon in training (``missing`` other than "mixed"); a series has fewer
                than 10 observations, or shows one constant around a gap, with which the gap is then filled.
        """
        denoiser, c = self._trained(), self.config
        panel = to_model_panel(df, c.freq or "h")
        sampler, steps = sampling_of(c, sampler, steps)
        if c.missing != "mixed":
            warnings.warn(
                f"this model was trained with missing={c.missing!r}, which always hides the horizon: it has learned to "
                "forecast, not to fill gaps from both sides; train with missing='mixed'",
                stacklevel=2,
            )
        exogenous = self._exogenous(self._read(df, covariates))

        def condition(batch: Batch) -> dict[str, Tensor]:
            spans = [(t.series, t.spot.start, t.spot.start + c.length) for t in batch.tasks]
            known = np.stack([exogenous.on(panel, *span) for span in spans])
            return self._condition(batch.values, batch.observed, known.repeat(num_samples, axis=0))

        paths = fill_gaps(
            panel,
            conditional(denoiser, condition, sampler, steps, max_batch, join),
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
            "sampler": sampler,
            "steps": steps,
            "join": join,
            "num_samples": num_samples,
            "seed": seed,
        }
        return Imputation.completing(panel, paths, num_samples, KIND, True, info)

    def sample(
        self,
        n: int,
        *,
        start: Any = None,
        covariates: np.ndarray | None = None,
        sampler: Sampling | None = None,
        steps: int | None = None,
        seed: int = 0,
        max_batch: int | None = 256,
        progress: bool = False,
    ) -> np.ndarray:
        """Windows of which nothing was observed, in scaled units: float64 (n, L). Trained for with "mixed" hiding only.

        Args:
            n: how many.
            start: first timestamp of all windows, for the calendar; in the zone of the training data where it has none
                itself. None: another one for each, from the year before
                the training data end.
            covariates: (L, K) or (n, L, K), in their own unit, for a model that has some.
            sampler, steps, seed, max_batch, progress: as for `forecast`.

        Raises:
            RuntimeError: not trained.
            ValueError: n < 1, an unknown sampler, covariates that are missing or of another shape, a `start` for a
                model without calendar, or with a zone where the training data had none.

        Warns:
            UserWarning: the model was never shown nothing in training (``missing`` other than "mixed").
        """
        c, denoiser = self.config, self._trained()
        positive_integers({"the number of windows": n})
        sampler, steps = sampling_of(c, sampler, steps)
        check_max_batch(max_batch)
        if start is not None and not c.calendar:
            raise ValueError(f"start={start!r} is for the calendar, which this model was made without (calendar=False)")
        if c.missing != "mixed":
            warnings.warn(
                f"this model was trained with missing={c.missing!r}, which never hides all of a window: windows of "
                "which nothing was observed are not what it has learned; train with missing='mixed'",
                stacklevel=2,
            )
        parts = [self._dates(n, start, seed)] if c.calendar else []
        if c.covariates or covariates is not None:
            values = np.asarray(np.nan if covariates is None else covariates, dtype=np.float64)
            shape = (c.length, len(c.covariates))
            if values.shape not in (shape, (n, *shape)) or not np.isfinite(values).all():
                raise ValueError(
                    f"this model has the covariates {list(c.covariates)}: give covariates=, finite, of shape {shape} "
                    f"or {(n, *shape)}, got {'none' if covariates is None else values.shape}"
                )
            parts.append(np.broadcast_to(self.standard(values), (n, *shape)))
        nothing = np.zeros((n, c.length, 1 + len(lags_of(c))))
        known = np.concatenate(parts, axis=-1) if parts else None
        result = sample(
            denoiser,
            DDIM() if sampler == "ddim" else DDPM(),
            grids.discrete(self.schedule, steps, "trailing"),
            shape=(n, c.length, 1),
            condition=self._condition(nothing, nothing.astype(bool), known),
            seed=seed,
            max_batch=max_batch,
            progress=progress,
        )
        assert isinstance(result.x, Tensor)
        return result.x[..., 0].double().numpy()

    def _dates(self, n: int, start: Any, seed: int) -> np.ndarray:
        """Calendar features (n, L, K) of windows that begin at `start`, or in the last year of training."""
        pd, c, freq = _pandas(), self.config, self.config.freq or "h"
        ends = [pd.Timestamp(end) for end in self.trained_until.values()]
        last = max(ends, key=lambda end: end.timestamp(), default=pd.Timestamp("2024-01-01"))
        if self.tz is not None:
            last = last.tz_convert(self.tz)  # files hold the offset of that day alone
        if start is not None:
            first = as_timestamp(start, last)
            first = first if self.tz is None else first.tz_convert(self.tz)
            one = calendar_features(times_around(first, freq, 0, c.length), freq)
            return np.broadcast_to(one, (n, *one.shape))
        year = len(grid(last - pd.Timedelta(days=366), freq, end=last))
        features = calendar_features(times_around(last, freq, 1 - max(year, 1), c.length), freq)
        begin = keyed_generator(seed, "tsdiff-cond/dates").integers(max(year, 1), size=n)
        return features[begin[:, None] + np.arange(c.length)]

    # -- files -----------------------------------------------------------------------------------------------------
    def _header(self) -> dict[str, Any]:
        return super()._header() | {"standard": asdict(self.standard)} | ({"tz": self.tz} if self.tz else {})

    def _restore(self, read: Checkpoint) -> None:
        super()._restore(read)
        stored = read.config
        self.tz = stored.get("tz")
        self.standard = Standard(**{k: tuple(float(v) for v in values) for k, values in stored["standard"].items()})
