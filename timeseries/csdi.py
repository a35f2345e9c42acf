r"""CSDI: conditional diffusion of several series at once, for gaps and for forecasts.

Tashiro, Song, Song, Ermon, "CSDI: Conditional Score-based Diffusion Models for Probabilistic Time Series Imputation",
NeurIPS 2021.

*Process.* The unknown cells of a table of K series and L steps are a clean sample x0, the known ones a condition. With
50 betas whose square roots are evenly spaced, x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) n, and a network
(:mod:`.networks`) that attends over time and over series predicts n from x_t on the unknown cells, the values of the
known ones, and which cells those are. Sampling is plain ancestral sampling (or DDIM): no guidance, one call a step. The
50 published steps are coarse: with a perfect network for N(0, 1) they end at a standard deviation of 0.94 (DDIM at
0.97); the tests compute that in closed form.

*Training.* Of every window some observed cells are hidden and asked for (:mod:`.csdi_data`); the loss is the mean of
|n - eps(x_t, t)|^2 over these targets alone. What is missing in the data is never a target.

*Joint.* Path j of a forecast is one draw of the future of *all* series: their dependence is in it (sums, energy
scores). The price is that the model knows its series by name, through an embedding: others are refused.

*Many series.* A training window shows at most ``features_per_step`` series, drawn anew each time, as published. A
sample takes all series in one table, as published; ``max_features`` cuts them into groups where memory does not allow
that, and paths of different groups are then independent of each other.

Differences from the paper: the loss of a window is the mean over its own targets, and that of a batch the mean over
windows (published: the mean over all targets of a batch, in which windows with few targets hardly count); an
exponential moving average of the weights and a cosine decay of the learning rate (published: none, and two steps down);
one mixture of strategies for all tasks; softmax attention throughout (the published forecasts use a linear
approximation; here memory does not grow with the square of L or K anyway).

*Order.* The place of a cell in the window enters a layer behind its attention: a model of one layer sees what was
observed, but not when.

*Scores.* What the paper calls CRPS is the weighted quantile loss at 19 levels with interpolated quantiles,
``wql(..., method="csdi")``: no number to be set beside another definition's.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import torch

from ..core.checkpoint import Checkpoint
from ..core.denoisers import Denoiser
from ..core.schedules import DiscreteBetas
from ..core.settings import positive_integers
from .constraints import Steering
from .csdi_config import CSDIConfig
from .csdi_data import Aligned, Scales, TrainingWindows, ValidationWindows, who_of
from .csdi_sampling import JointTarget, Origin, Run, fill, origins
from .data import Panel, to_model_panel
from .forecast import Forecast
from .imputation import Imputation
from .impute import tell_few
from .networks import CSDINetwork
from .steering import OnViolation, Steered, chosen, report_violation, settle
from .tsdiff_inputs import check_horizon, remind
from .walks import check_steering
from .window_config import Sampling
from .window_model import WindowModel

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CSDI", "CSDIConfig"]

KIND = "CSDI"


class CSDI(WindowModel):
    """Conditional diffusion of tables of series: joint forecasts and imputations.

    >>> model = CSDI(CSDIConfig(context_length=168, prediction_length=24)).fit(df, max_steps=4000, seed=0)
    >>> forecast = model.forecast(df, num_samples=100, seed=0)
    >>> filled = model.impute(df_with_gaps, num_samples=100, seed=0)

    Training, files and attributes: see `WindowModel`.

    Args:
        config: a `CSDIConfig`; or give its fields by name.

    Attributes:
        scales: names, means and standard deviations of the training series; None before training.
    """

    kind = KIND
    config_class = CSDIConfig
    config: CSDIConfig
    scales: Scales | None = None

    @property
    def schedule(self) -> DiscreteBetas:
        """The noise schedule of the configuration."""
        return DiscreteBetas.quadratic(self.config.beta_start, self.config.beta_end, self.config.timesteps)

    @property
    def ids(self) -> tuple[str, ...]:
        """The series that the model knows."""
        return self._scales().ids

    # -- training --------------------------------------------------------------------------------------------------
    def fit(
        self, df: pd.DataFrame | Panel, *, batch_size: int = 16, min_observed: float = 0.0, **settings: Any
    ) -> Self:
        """Train on the windows of the common time grid of all series; earlier weights are forgotten.

        Series may begin and end at different times: where one has no value it is not observed.

        Args:
            df: long frame or panel with the series that the model is to know. Missing values are allowed.
            batch_size: windows a step, each with all series (at most `features_per_step`); 16 as the paper's
                imputation (8 for its forecasting).
            min_observed: smallest observed share of the cells of a training window; two cells at least.
            settings: everything else of `WindowModel.fit`, with ``decay="cosine"`` where it is not given.

        Raises:
            ImportError: Lightning is missing.
            ValueError: bad data, series that share no time grid, a window longer than the data, windows of which too
                little is observed, and whatever `WindowModel.fit` refuses.
        """
        settings = {"decay": "cosine"} | settings
        return super().fit(df, batch_size=batch_size, min_observed=min_observed, **settings)

    def _build(self, seed: int) -> Denoiser:
        c = self.config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed % 2**63)
            network = CSDINetwork(
                len(self.ids),
                c.channels,
                c.layers,
                c.heads,
                c.feedforward,
                c.timesteps,
                c.embedding,
                c.time_embedding,
                c.series_embedding,
                c.dropout,
            )
        return Denoiser(network, self.schedule, prediction="noise", label="integer")

    def _measure(self, train: Panel) -> None:
        self.scales = Scales.of(train)

    def _scales(self) -> Scales:
        if self.scales is None:
            self._trained()
        assert self.scales is not None
        return self.scales

    def _windows(self, panel: Panel, min_observed: float) -> TrainingWindows:
        return TrainingWindows(panel, self.config, self._scales(), min_observed)

    def _validation(self, panel: Panel, count: int) -> ValidationWindows:
        return ValidationWindows(panel, self.config, self._scales(), count)

    def _header(self) -> dict[str, Any]:
        s = self._scales()
        series = {"ids": list(s.ids), "mean": s.mean.tolist(), "std": s.std.tolist()}
        return super()._header() | {"series": series}

    def _restore(self, read: Checkpoint) -> None:
        super()._restore(read)
        stored = read.config
        series = stored["series"]
        self.scales = Scales(tuple(series["ids"]), np.array(series["mean"]), np.array(series["std"]))

    # -- forecasting -----------------------------------------------------------------------------------------------
    def forecast(
        self,
        df: pd.DataFrame | Panel,
        h: int | None = None,
        *,
        num_samples: int = 100,
        sampler: Sampling | None = None,
        steps: int | None = None,
        seed: int = 0,
        max_batch: int | None = None,
        max_features: int | None = None,
        steer: Steering | Callable[..., Any] | Sequence[Steering | Callable[..., Any]] | None = None,
        walkers: int = 16,
        on_violation: OnViolation = "raise",
        progress: bool = False,
    ) -> Forecast:
        """Sample joint paths of the h steps after the end of all series.

        Path j of all series with the same last timestamp is one draw of their common future. A series that ends earlier
        is forecast from its own end, from what all series were then: no row after an origin is looked at. To forecast
        such series together with the others, give them rows up to the common end whose y is NaN: these are part of the
        (unobserved) past. The noise of path j from origin o (in their order) depends on the
        seed and on o S + j alone, not on ``max_batch``.

        Args:
            df: the histories, long frame or panel, of all or some of the series that the model knows; a frame must have
                the model's frequency by itself. Rows of a panel may be windows of one series (as `rolling` makes them).
            h: horizon; the model's H when None. Any h < L; the context is then L - h steps. Only H was trained, unless
                the strategies hide blocks or cells at random.
            num_samples: S, paths.
            sampler: "ddpm" (ancestral, as the paper) or "ddim" (deterministic given the start); the configured one
                when None.
            steps: network calls; the configured number when None.
            seed: of the noise.
            max_batch: paths at a time, each of all series; None for as many as make 65,536 cells.
            max_features: largest number of series in one table; None for all. Groups are independent of each other.
            steer: hard constraints and rewards that the paths should meet, in the data's unit; see :mod:`.steering`. A
                particle is a path of all series: what is asked of single series must be met by all of them together.
            walkers: particles a path, when steering.
            on_violation: "raise", "warn" or "project", see `TSDiff.forecast`. What happened stands in
                `Forecast.info["steering"]`, one entry an origin.
            progress: show a progress bar for every origin and group.

        Raises:
            RuntimeError: not trained, or a hard constraint was not met (`ConstraintError`).
            ValueError: bad data, series that the model does not know (all named), another frequency, h out of range,
                nothing observed in the context of any series, constraints that do not fit.

        Warns:
            UserWarning: series that end at different times, short or sparse histories, origins in the training period.
        """
        denoiser, c, scales = self._trained(), self.config, self._scales()
        panel = to_model_panel(df, c.freq or "h")
        names = tuple(dict.fromkeys(panel.ids))
        who = who_of(names, scales)
        h = check_horizon(h, cast("Any", c))
        groups = _groups(len(names), max_features)
        check_steering(num_samples, steer, walkers, on_violation)
        if steer is not None and len(groups) > 1:
            raise ValueError(
                f"steering needs all {len(names)} series in one table: leave out max_features={max_features}, or "
                "forecast fewer series"
            )
        run = Run.of(denoiser, self.schedule, c, sampler, steps, seed, max_batch, progress)
        context = c.length - h
        remind(panel, context, self.trained_until, stacklevel=3)
        data = Aligned.of(panel)
        all_origins = origins(data, names, context)
        _warn_of_ends(panel, names, len(all_origins))
        paths = np.empty((len(panel), num_samples, h))
        reports: list[dict[str, Any]] = []
        messages: list[str] = []
        for number, origin in enumerate(all_origins):
            if np.isnan(origin.history).all():
                raise ValueError(
                    f"none of the {len(names)} series has an observed value in the {context} steps before "
                    f"{data.times[data.ends[origin.rows[0]] - 1]}: there is nothing to forecast from (sample(n) draws "
                    "windows without any)"
                )
            if steer is None:
                future = self._future(origin, who, groups, run, h, num_samples, number)
            else:
                ask = _Ask(steer, names, walkers, on_violation)
                future, report, message = self._steered(origin, who, run, h, num_samples, number, ask)
                reports.append(report)
                messages += [message] if message else []
            paths[list(origin.rows)] = future
        info = self._info(run, num_samples) | {"origins": len(all_origins), "groups": len(groups)}
        if steer is not None:
            info["steering"] = reports[0] if len(reports) == 1 else reports
        starts = tuple(panel.times(i, len(y), len(y) + 1)[0] for i, y in enumerate(panel.values))
        forecast = Forecast(panel.ids, starts, panel.freq, paths, KIND, True, info)
        if messages:
            report_violation("; ".join(messages), forecast, on_violation)
        return forecast

    def _table(self, history: np.ndarray, who: np.ndarray, h: int) -> tuple[torch.Tensor, ...]:
        """A history (K, C) with h unknown steps behind it: scaled values and which are given (K, L); shift, scale."""
        y = np.concatenate([history, np.full((len(history), h), np.nan)], axis=1)
        given = ~np.isnan(y)
        shift, scale = self._scales().of_window(y, given, who, self.config)
        values = torch.from_numpy(np.where(given, (y - shift) / scale, 0.0).astype(np.float32))
        return values, torch.from_numpy(given), torch.from_numpy(shift), torch.from_numpy(scale)

    def _future(
        self, origin: Origin, who: np.ndarray, groups: list[np.ndarray], run: Run, h: int, count: int, number: int
    ) -> np.ndarray:
        """Paths of the rows that end at an origin, (rows, count, h) in the data's unit, group by group."""
        out = np.empty((len(who), count, h))
        for k, group in enumerate(groups):
            values, given, shift, scale = self._table(origin.history[group], who[group], h)
            first = (number * len(groups) + k) * count
            x = run(values, given, who[group], range(first, first + count)).x
            assert isinstance(x, torch.Tensor)
            out[group] = (shift + scale * x[..., -h:].double()).transpose(0, 1).numpy()
        return out[list(origin.wanted)]

    def _steered(
        self, origin: Origin, who: np.ndarray, run: Run, h: int, count: int, number: int, ask: _Ask
    ) -> tuple[np.ndarray, dict[str, Any], str | None]:
        """The same by steering; with what is to be reported, and what to say of violations."""
        values, given, shift, scale = self._table(origin.history, who, h)
        wanted, walkers = list(origin.wanted), ask.walkers
        target = JointTarget.of(
            ask.steer,
            tuple(ask.names[k] for k in wanted),
            origin.wanted,
            shift=shift[wanted, 0].numpy(),
            scale=scale[wanted, 0].numpy(),
            h=h,
        )
        first = number * count * walkers
        slots = range(first, first + count * walkers)
        result = run(values, given, who, slots, [Steered(target, walkers, first)], walkers)
        x, report = chosen(result, target, walkers, run.seed)
        out, message = settle(np.swapaxes(target.data(x), 0, 1), target, ask.on_violation, report)
        return out, report, message

    # -- imputation ------------------------------------------------------------------------------------------------
    def impute(
        self,
        df: pd.DataFrame | Panel,
        *,
        num_samples: int = 100,
        sampler: Sampling | None = None,
        steps: int | None = None,
        seed: int = 0,
        max_batch: int | None = None,
        max_features: int | None = None,
        progress: bool = False,
    ) -> Imputation:
        """Sample what may have been at every missing step (NaN) of all series together, of any length.

        Rows with a NaN at the beginning and at the end of a frame are missing steps, too. Windows are walked from left
        to right, see :mod:`.csdi_sampling`; where nothing is missing nothing is done. Path j is one joint draw for all
        series.

        Args:
            df: long frame or panel, of all or some of the series that the model knows, every name once.
            num_samples: S, paths.
            sampler, steps, seed, max_batch, max_features: as for `forecast`.
            progress: show a progress bar for every window.

        Raises:
            RuntimeError: not trained.
            ValueError: bad data, a series without one observation or that comes twice (named), series that the model
                does not know, another frequency, settings out of range.

        Warns:
            UserWarning: a series with gaps has fewer than 10 observations.
        """
        denoiser, c, scales = self._trained(), self.config, self._scales()
        panel = to_model_panel(df, c.freq or "h")
        who = who_of(panel.ids, scales)
        check_steering(num_samples, None, 2, "raise")
        for k, (u, y) in enumerate(zip(panel.ids, panel.values, strict=True)):
            if u in panel.ids[:k]:
                raise ValueError(f"series {u!r} comes more than once: impute one row a series")
            if np.isnan(y).all():
                raise ValueError(f"series {u!r} has no observed value: there is nothing to impute it from")
        run = Run.of(denoiser, self.schedule, c, sampler, steps, seed, max_batch, progress)
        tell_few(panel, "hardly anything of their own says what fills their gaps", stacklevel=3)
        data, windows = Aligned.of(panel), 0
        found: dict[int, np.ndarray] = {}
        for group in _groups(len(panel), max_features):
            more, count = fill(data, group.tolist(), who[group], scales, c, run, num_samples, windows)
            found |= more
            windows += count
        paths = [found.get(i) for i in range(len(panel))]
        info = self._info(run, num_samples) | {"windows": windows}
        return Imputation.completing(panel, paths, num_samples, KIND, True, info)

    def _info(self, run: Run, num_samples: int) -> dict[str, Any]:
        return {
            "model": KIND,
            "sampler": run.sampler,
            "steps": run.steps,
            "num_samples": num_samples,
            "seed": run.seed,
        }

    # -- synthesis -------------------------------------------------------------------------------------------------
    def sample(
        self,
        n: int,
        *,
        ids: Sequence[Any] | None = None,
        sampler: Sampling | None = None,
        steps: int | None = None,
        seed: int = 0,
        max_batch: int | None = None,
        progress: bool = False,
    ) -> np.ndarray:
        """Windows of which nothing is known, in scaled units: float64 (n, K, L).

        The strategies "random" and "blocks" train for that now and then; "forecast" and "historical" hardly do.

        Args:
            n: how many.
            ids: of which series, all by default.
            sampler, steps, seed, max_batch, progress: as for `forecast`.

        Raises:
            RuntimeError: not trained.
            ValueError: n < 1, series that the model does not know, an unknown sampler.

        Warns:
            UserWarning: the model was trained with neither "random" nor "blocks".
        """
        denoiser, c, scales = self._trained(), self.config, self._scales()
        positive_integers({"the number of windows": n})
        who = who_of(scales.ids if ids is None else tuple(ids), scales)
        run = Run.of(denoiser, self.schedule, c, sampler, steps, seed, max_batch, progress)
        if not {"random", "blocks"} & set(c.target_strategy):
            warnings.warn(
                f"this model was trained with target_strategy={c.target_strategy!r}, which hardly ever hides all of a "
                "window: windows of which nothing is known are not what it has learned; train with 'random' or "
                "'blocks' among the strategies",
                stacklevel=2,
            )
        nothing = torch.zeros(len(who), c.length)
        x = run(nothing, nothing.bool(), who, range(n)).x
        assert isinstance(x, torch.Tensor)
        return x.double().numpy()


@dataclass(frozen=True)
class _Ask:
    """What a forecast is steered towards: `steer`, the names of all series, walkers a path, and `on_violation`."""

    steer: Any
    names: tuple[Any, ...]
    walkers: int
    on_violation: OnViolation


def _groups(series: int, largest: int | None) -> list[np.ndarray]:
    """The places of the series in groups of at most `largest`."""
    if largest is not None and (isinstance(largest, bool) or not isinstance(largest, int) or largest < 1):
        raise ValueError(f"max_features must be a positive integer or None, got {largest!r}")
    return list(np.array_split(np.arange(series), 1 if largest is None else -(-series // largest)))


def _warn_of_ends(panel: Panel, names: tuple[Any, ...], count: int) -> None:
    """Say so where series of one frame are not forecast together."""
    if count > 1 and len(names) == len(panel):
        warnings.warn(
            f"the {len(names)} series end at {count} different times: each is forecast from its own end, jointly only "
            "with those that end there. Give all of them rows up to the last timestamp, with y = NaN where nothing is "
            "known, to forecast them together",
            stacklevel=3,
        )
