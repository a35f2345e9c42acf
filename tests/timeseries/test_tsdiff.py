"""TSDiff end to end at toy size: training, forecasting, files, and everything it refuses."""

from __future__ import annotations

import dataclasses
import json
import warnings

import numpy as np
import pytest

pd = pytest.importorskip("pandas")
pytest.importorskip("lightning")

from scidiffuse import timeseries as ts  # noqa: E402
from scidiffuse.core.checkpoint import CheckpointError  # noqa: E402
from scidiffuse.timeseries.guidance import DivergenceError  # noqa: E402
from scidiffuse.timeseries.tsdiff import Windows  # noqa: E402

TINY = {"context_length": 24, "prediction_length": 6, "channels": 8, "blocks": 1, "d_state": 8, "embedding": 16}
FAST = {"max_steps": 6, "batch_size": 8, "seed": 0}
SOME = {"max_steps": 100, "batch_size": 16, "lr": 1e-2, "ema": 0.9, "seed": 0}  # enough to denoise at all


def series(n=200, ids=("a", "b"), seed=0, start="2024-01-01"):
    rng = np.random.default_rng(seed)
    t = np.arange(n)
    parts = [
        pd.DataFrame({
            "unique_id": u,
            "ds": pd.date_range(start, periods=n, freq="h"),
            "y": 50.0 * (k + 1) + 10 * np.sin(2 * np.pi * (t + 3 * k) / 12) + rng.normal(size=n),
        })
        for k, u in enumerate(ids)
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def model():
    return ts.TSDiff(**TINY, scaler="standard", guidance_scale=0.1).fit(series(), **SOME)


@pytest.fixture(scope="module")
def learned():
    """Long enough to know a sine with 6 % noise; a few seconds."""
    return ts.TSDiff(**{**TINY, "channels": 16, "d_state": 16}, scaler="standard", guidance_scale=1.0).fit(
        series(600), max_steps=400, batch_size=32, lr=3e-3, ema=0.98, seed=0
    )


# ---------------------------------------------------------------- it learns


def test_a_short_training_beats_the_mean_and_knows_its_spread(learned):
    history, y = ts.rolling(series(700, seed=0), 6, n_windows=8)
    forecast = learned.forecast(history, num_samples=40, seed=1)
    scores = ts.evaluate(forecast, y, history)
    flat = np.stack([np.full(6, v[-24:].mean()) for v in history.values])
    assert np.abs(forecast.median() - y).mean() < 0.5 * np.abs(flat - y).mean()
    assert scores["coverage_95"] > 0.6
    assert not forecast.iid
    loss = [row["loss"] for row in learned.history]
    assert loss[-1] < 0.6 * loss[0]


@pytest.mark.parametrize(("sampler", "steps"), [("ddim", 10), ("ddpm", 100)])
def test_guided_context_is_met(learned, sampler, steps):
    """A forecast continues the phase: series a and b differ by a quarter of a period."""
    forecast = learned.forecast(series(600), num_samples=30, sampler=sampler, steps=steps)
    t = np.arange(600, 606)
    for k in range(2):
        wave = np.sin(2 * np.pi * (t + 3 * k) / 12)
        assert np.corrcoef(forecast.median()[k], wave)[0, 1] > 0.9
        assert abs(forecast.mean()[k].mean() - (50 * (k + 1) + 10 * wave.mean())) < 4


def test_other_horizons_and_missing_context_need_no_retraining(learned):
    df = series(600)
    df.loc[df.index % 3 == 0, "y"] = np.nan
    for h in (1, 12, 20):
        assert learned.forecast(df, h, num_samples=8).samples.shape == (2, 8, h)
    gappy = learned.forecast(df, num_samples=30).median()
    t = np.arange(600, 606)
    assert np.corrcoef(gappy[0], np.sin(2 * np.pi * t / 12))[0, 1] > 0.8


# ---------------------------------------------------------------- promises


def test_same_seed_same_bytes_other_seed_other_paths(model):
    a, b, c = (model.forecast(series(), num_samples=4, steps=4, seed=s).samples for s in (1, 1, 2))
    assert np.array_equal(a, b) and not np.allclose(a, c)


def test_batches_do_not_change_the_forecast(model):
    whole = model.forecast(series(), num_samples=6, steps=4, max_batch=None).samples
    assert np.allclose(model.forecast(series(), num_samples=6, steps=4, max_batch=5).samples, whole, rtol=1e-4)


def test_forecast_is_equivariant_to_the_unit(model):
    """Scaling the data scales the forecast: everything the model sees is relative to the context."""
    df = series()
    celsius = df.assign(y=(df["y"] - 32) / 1.8)
    a = model.forecast(df, num_samples=4, steps=4).samples
    b = model.forecast(celsius, num_samples=4, steps=4).samples
    assert np.allclose((a - 32) / 1.8, b, rtol=1e-3, atol=1e-3)


@pytest.mark.filterwarnings("ignore:.*inside the training period")
def test_the_future_of_a_frame_does_not_reach_the_forecast(model):
    """Rows that `rolling` cut off cannot matter; NaN rows at the end only move the origin."""
    df = series()
    history, _ = ts.rolling(df, 6)
    cut = df.groupby("unique_id", sort=False).head(194)
    assert np.array_equal(
        model.forecast(history, num_samples=4, steps=4).samples, model.forecast(cut, num_samples=4, steps=4).samples
    )


def test_long_frame_out_matches_ids_and_times(model):
    forecast = model.forecast(series(), num_samples=4, steps=4)
    table = forecast.to_long()
    assert table["unique_id"].tolist() == ["a"] * 6 + ["b"] * 6
    assert table["ds"].iloc[0] == series()["ds"].max() + pd.Timedelta("1h")
    assert forecast.info["guidance"] == "QuantileGuidance(scale=0.1)"


def test_mse_guidance_gives_independent_paths(learned):
    assert learned.forecast(series(600), num_samples=1, sampler="ddpm", guidance=ts.MSEGuidance(0.5)).iid


def test_unconditional_windows(model):
    x = model.sample(3, steps=5)
    assert x.shape == (3, 30) and np.array_equal(x, model.sample(3, steps=5))
    plain = model.sample(3, sampler="ddim", max_batch=2)
    assert np.allclose(plain, model.sample(3, sampler="ddim"), atol=1e-5) and not np.allclose(plain, x)
    model.config, before = dataclasses.replace(model.config, sampler="ddim", sampling_steps=5), model.config
    configured = model.sample(3)
    model.config = before
    assert np.array_equal(configured, model.sample(3, sampler="ddim", steps=5))
    for wrong, said in (({"n": 0}, "positive integer, got 0"), ({"n": 1, "sampler": "euler"}, "got 'euler'")):
        with pytest.raises(ValueError, match=said):
            model.sample(**wrong)


# ---------------------------------------------------------------- training data


def test_windows_mask_gaps_and_scale_by_the_context_alone():
    df = series(60)
    df.loc[10:12, "y"] = np.nan
    panel = ts.to_panel(df)
    config = ts.TSDiffConfig(**TINY, freq="h", scaler="standard")
    data = Windows(panel, config, (0.0, 1.0))
    assert len(data) == 2 * (60 - 30 + 1)
    item = data[0]
    assert item["mask"][:, 0].tolist() == [not 10 <= k <= 12 for k in range(30)]
    assert (item["x"][10:13] == 0).all()
    context = item["x"][:24][item["mask"][:24]]
    assert abs(context.mean()) < 1e-5 and abs(context.std(unbiased=False) - 1) < 1e-5
    changed = df.copy()
    changed.loc[24:29, "y"] += 1000.0  # the horizon of window 0
    other = Windows(ts.to_panel(changed), config, (0.0, 1.0))[0]
    assert np.array_equal(other["x"][:24], item["x"][:24])


def test_lag_channels_hold_the_past_and_are_observed_where_it_is_known():
    from scidiffuse.timeseries.windows import cut_window

    y = np.arange(100.0)
    w = cut_window(y, 60, 12, 4, lags=(4, 6), hide_future=True)
    assert np.allclose(w.x[:8, 0] * w.scale, y[60:68]) and not w.observed[8:, 0].any()
    assert np.allclose(w.x[:, 1] * w.scale, y[56:68]) and w.observed[:, 1].all()  # lag >= H: known throughout
    assert w.observed[:, 2].all()
    short = cut_window(y, 60, 12, 4, lags=(2,), hide_future=True)
    assert short.observed[:, 1].tolist() == [True] * 10 + [False] * 2  # its source enters the horizon
    assert (short.x[10:, 1] == 0).all()


@pytest.mark.filterwarnings("ignore:guidance diverged")  # 100 steps are too few for three channels
def test_lags_train_and_forecast():
    fitted = ts.TSDiff(**TINY, lags=(24, 48), scaler="standard", guidance_scale=0.05).fit(series(), **SOME)
    forecast = fitted.forecast(series(), num_samples=3, steps=4, on_divergence="warn")
    assert forecast.samples.shape == (2, 3, 6) and np.isfinite(forecast.samples).all()
    assert ts.TSDiffConfig(lags="auto", freq="h").lags[:3] == (24, 48, 72)
    assert ts.TSDiffConfig(lags="auto", freq="15min").lags is None


def test_holdout_is_never_seen():
    """Poisoned held-out values change nothing."""
    clean, poisoned = series(), series()
    poisoned.loc[poisoned.groupby("unique_id").cumcount() >= 170, "y"] = 1e9
    a, b = (ts.TSDiff(**TINY).fit(df, holdout=30, **FAST) for df in (clean, poisoned))
    assert a.default == b.default
    x, y = a.sample(2, steps=3), b.sample(2, steps=3)
    assert np.array_equal(x, y)
    assert a.trained_until["a"] == str(clean["ds"].iloc[169])


def test_validation_is_after_the_training_data_and_selects(tmp_path):
    fitted = ts.TSDiff(**TINY).fit(series(), val_windows=2, out=tmp_path, save_every=2, **FAST)
    assert fitted.trained_until["a"] == str(series()["ds"].iloc[200 - 12 - 1])
    values = [row["val_loss"] for row in fitted.history if np.isfinite(row.get("val_loss", np.nan))]
    assert values and all(np.isfinite(values))
    best = ts.TSDiff.load(tmp_path / "best")
    assert np.array_equal(best.sample(2, steps=3), fitted.sample(2, steps=3))


def test_validation_that_leaks_is_refused():
    df = series()
    with pytest.raises(ValueError, match=r"validation leaks: the horizons of series 'a' begin at 2024-01-09"):
        ts.TSDiff(**TINY).fit(df, val_df=df, **FAST)
    early = df.groupby("unique_id", sort=False).head(190)
    with pytest.raises(ValueError, match="validation leaks"):
        ts.TSDiff(**TINY).fit(early, val_df=df, val_windows=2, **FAST)
    ts.TSDiff(**TINY).fit(early, val_df=df, val_windows=1, **FAST)
    whole = ts.to_panel(df)
    twice = ts.Panel(("a", "a"), whole.starts[:1] * 2, (whole.values[0], whole.values[0][:150]), "h")
    with pytest.raises(ValueError, match="validation leaks"):  # the longer of two rows of a series counts
        ts.TSDiff(**TINY).fit(twice, val_df=whole, val_windows=1, **FAST)


# ---------------------------------------------------------------- files


def test_save_load_same_forecast(model, tmp_path):
    folder = model.save(tmp_path / "m")
    back = ts.TSDiff.load(folder)
    assert back.config == model.config and back.default == model.default
    a, b = (m.forecast(series(), num_samples=3, steps=4).samples for m in (model, back))
    assert np.array_equal(a, b)
    head = json.loads((folder / "checkpoint.json").read_text())
    assert head["kind"] == "TSDiff"


def test_killed_training_leaves_a_loadable_model_and_resumes_to_the_same_weights(tmp_path):
    whole = ts.TSDiff(**TINY).fit(series(), max_steps=8, batch_size=8, seed=0)
    first = ts.TSDiff(**TINY).fit(series(), max_steps=4, batch_size=8, seed=0, out=tmp_path, save_every=2)
    assert np.array_equal(ts.TSDiff.load(tmp_path / "model").sample(2, steps=3), first.sample(2, steps=3))
    with pytest.raises(ValueError, match="resume=True"):
        ts.TSDiff(**TINY).fit(series(), max_steps=8, batch_size=8, seed=0, out=tmp_path)
    resumed = ts.TSDiff(**TINY).fit(series(), max_steps=8, batch_size=8, seed=0, out=tmp_path, resume=True)
    assert np.array_equal(resumed.sample(2, steps=3), whole.sample(2, steps=3))


def test_foreign_and_corrupted_checkpoints_are_refused(model, tmp_path):
    folder = model.save(tmp_path / "m")
    head = json.loads((folder / "checkpoint.json").read_text())
    (folder / "checkpoint.json").write_text(json.dumps({**head, "kind": "CSDI"}))
    with pytest.raises(CheckpointError, match="CSDI"):
        ts.TSDiff.load(folder)
    head["config"]["config"]["layers"] = 3
    (folder / "checkpoint.json").write_text(json.dumps(head))
    with pytest.raises(CheckpointError, match="layers"):
        ts.TSDiff.load(folder)
    with pytest.raises(FileNotFoundError):
        ts.TSDiff.load(tmp_path / "nothing")


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: m.forecast(series(), 30), "from 1 to 29"),
        (lambda m: m.forecast(series(), 0), "from 1 to 29"),
        (lambda m: m.forecast(series(), 2.5), "from 1 to 29"),
        (lambda m: m.forecast(series(), num_samples=1), "at least 2"),
        (lambda m: m.forecast(series(), num_samples=0), "at least 1"),
        (lambda m: m.forecast(series(), sampler="heun"), "'ddim' or 'ddpm'"),
        (lambda m: m.forecast(series(), on_divergence="ignore"), "'raise' or 'warn'"),
        (lambda m: m.forecast(series().assign(ds=lambda d: d["ds"].dt.normalize())), "duplicate"),
        (lambda m: m.forecast(series(), steps=101), "more than the 100 steps"),
    ],
)
def test_bad_forecast_calls(model, call, words):
    with pytest.raises(ValueError, match=words):
        call(model)


@pytest.mark.parametrize(
    "verb",
    [
        lambda m, size: m.forecast(series(), num_samples=2, steps=2, max_batch=size),
        lambda m, size: m.impute(series(), num_samples=2, steps=2, max_batch=size),
        lambda m, size: m.refine(ts.seasonal_naive(series(), 6), series(), num_samples=2, max_batch=size),
        lambda m, size: m.sample(2, steps=2, max_batch=size),
    ],
)
def test_every_verb_refuses_a_batch_of_nothing(model, verb):
    for size in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match="max_batch must be a positive integer"):
            verb(model, size)


def test_another_frequency_is_refused(model):
    daily = series().assign(ds=lambda d: pd.date_range("2020-01-01", periods=200).tolist() * 2)
    with pytest.raises(ValueError, match=r"the model is hourly \('h'\), the data are daily \('D'\): resample them or"):
        model.forecast(ts.to_panel(daily))
    with pytest.raises(ValueError, match="configured for freq='h'"):
        ts.TSDiff(**TINY, freq="h").fit(ts.to_panel(daily), **FAST)


def test_too_short_series_are_counted_and_listed():
    df = pd.concat([series(20, ids=("s1", "s2")), series(29, ids=("s3",))])
    with pytest.raises(ValueError, match=r"3 of 3 series are too short, the longest: 's3' \(29\)"):
        ts.TSDiff(**TINY).fit(df, **FAST)
    with pytest.raises(ValueError, match="longest lag 672"):
        ts.TSDiff(**TINY, lags="auto").fit(series(400), **FAST)
    with pytest.warns(UserWarning, match=r"1 of 2 series are shorter than 30 steps .* 's3' \(29\)"):
        ts.TSDiff(**TINY).fit(pd.concat([series(60, ids=("ok",)), series(29, ids=("s3",))]), **FAST)


def test_scaleless_and_short_contexts_warn_and_still_forecast(model):
    flat = series(ids=("a",)).assign(y=3.0, unique_id="flat")
    with pytest.warns(UserWarning, match="'flat': the observed context is constant"):
        out = model.forecast(flat, num_samples=3, steps=4)
    assert np.isfinite(out.samples).all()
    with pytest.warns(UserWarning, match=r"shorter than the context of 24 steps.*'n' \(9\)"):
        model.forecast(series(9, ids=("n",)), num_samples=3, steps=4)
    silent = series(ids=("s",))
    silent.loc[150:, "y"] = np.nan
    with pytest.warns(UserWarning, match="empty"), pytest.warns(UserWarning, match=r"'s' \(100% missing\)"):
        assert np.isfinite(model.forecast(silent, num_samples=3, steps=4).samples).all()


def test_unseen_series_are_fine_and_in_sample_origins_warn(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.forecast(series(ids=("new",)), num_samples=3, steps=4)
        model.forecast(series(), num_samples=3, steps=4)
    with pytest.warns(UserWarning, match="inside the training period"):
        model.forecast(series(150), num_samples=3, steps=4)


def test_divergence_is_caught(learned):
    with pytest.raises(DivergenceError, match="Reduce the scale"):
        learned.forecast(series(600), num_samples=4, guidance=ts.MSEGuidance(200.0), steps=10)


def test_untrained_and_misused_models():
    with pytest.raises(RuntimeError, match="not trained"):
        ts.TSDiff().forecast(series())
    with pytest.raises(TypeError, match="not both"):
        ts.TSDiff(ts.TSDiffConfig(), channels=3)
    with pytest.raises(TypeError, match="TSDiffConfig"):
        ts.TSDiff({"channels": 3})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"context_length": 0}, "context_length"),
        ({"channels": 2.5}, "channels"),
        ({"scaler": "minmax"}, "'mean_abs' or 'standard'"),
        ({"lags": "weekly"}, "'auto'"),
        ({"lags": (24, 24)}, "distinct"),
        ({"lags": (0,)}, "positive"),
        ({"dropout": 1.0}, "dropout"),
        ({"guidance_scale": -1.0}, "scale"),
        ({"freq": "hourly"}, "unknown frequency"),
        ({"beta_start": 0.2}, "beta_start <= beta_end"),
        ({"embedding": 7}, "embedding must be even"),
    ],
)
def test_bad_settings(settings, words):
    with pytest.raises(ValueError, match=words):
        ts.TSDiffConfig(**settings)


def test_config_is_frozen_and_documented():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ts.TSDiffConfig().channels = 3
    text = ts.TSDiffConfig.__doc__
    assert all(f.name in text for f in dataclasses.fields(ts.TSDiffConfig))


# ---------------------------------------------------------------- what a new user tripped over


def test_daily_and_quarter_hourly_frames_are_refused_by_an_hourly_model(model):
    for freq, name in (("D", r"daily \('D'\)"), ("15min", r"every 15 minutes \('15min'\)")):
        df = series(ids=("a",)).assign(ds=pd.date_range("2020-01-01", periods=200, freq=freq))
        with pytest.raises(ValueError, match=rf"the model is hourly \('h'\), the data are {name}.*resample"):
            model.forecast(df)


def test_a_context_mostly_unobserved_is_named(model):
    df = series(ids=("full", "holey"))
    df.loc[(df["unique_id"] == "holey") & (df.index % 4 > 0), "y"] = np.nan
    with pytest.warns(
        UserWarning, match=r"more than half of the context .* in 1 of 2 series: 'holey' \(7\d% missing\)"
    ):
        model.forecast(df, num_samples=3, steps=4)


@pytest.mark.filterwarnings("ignore:guidance diverged")  # hardly trained
@pytest.mark.parametrize("scaler", ["standard", "mean_abs"])
def test_a_constant_context_is_continued_without_spread(scaler):
    fitted = ts.TSDiff(**TINY, scaler=scaler, guidance_scale=0.1).fit(series(), **FAST)
    df = pd.concat([series(ids=("flat",)).assign(y=7.0), series(ids=("other",))])
    with pytest.warns(UserWarning, match=r"series 'flat': the observed context is constant \(7\)"):
        out = fitted.forecast(df, num_samples=3, steps=4, on_divergence="warn")
    assert (out.samples[0] == 7).all() and np.ptp(out.samples[1]) > 0


def test_resume_refuses_other_data_other_models_and_fewer_steps(tmp_path):
    fast = {"batch_size": 8, "seed": 0, "out": tmp_path}
    ts.TSDiff(**TINY).fit(series(), max_steps=4, **fast)
    with pytest.raises(ValueError, match="on other data"):
        ts.TSDiff(**TINY).fit(series(seed=1), max_steps=8, resume=True, **fast)
    with pytest.raises(ValueError, match="channels was 8, now 16"):
        ts.TSDiff(**{**TINY, "channels": 16}).fit(series(), max_steps=8, resume=True, **fast)
    with pytest.raises(ValueError, match="already at step 4, nothing to do up to max_steps=2"):
        ts.TSDiff(**TINY).fit(series(), max_steps=2, resume=True, **fast)
    again = ts.TSDiff(**TINY, guidance_scale=1.0).fit(series(), max_steps=6, resume=True, **fast)  # not of the network
    assert again.steps == 6 and ts.TSDiff.load(tmp_path / "model").data == again.data


def test_divergence_recommends_what_is_not_in_use(learned):
    with pytest.raises(DivergenceError, match="QuantileGuidance"):
        learned.forecast(series(600), num_samples=4, guidance=ts.MSEGuidance(200.0), steps=10)
    with pytest.raises(DivergenceError, match=r"Reduce the scale \(now 1e\+06\) or take more steps;") as told:
        learned.forecast(series(600), num_samples=4, guidance=ts.QuantileGuidance(1e6), steps=10)
    assert "QuantileGuidance" not in str(told.value)
