"""TSDiffCond: what reaches its condition and what cannot, what it learns at toy size, files, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import warnings

import numpy as np
import pytest
import torch

pd = pytest.importorskip("pandas")
pytest.importorskip("lightning")

from scidiffuse import timeseries as ts  # noqa: E402
from scidiffuse.timeseries.tsdiff_cond import TSDiffCond, TSDiffCondConfig  # noqa: E402
from scidiffuse.timeseries.tsdiff_cond_windows import CondWindows, HidingWindows, hide_mixed  # noqa: E402

TINY = {"context_length": 24, "prediction_length": 6, "channels": 8, "blocks": 1, "d_state": 8, "embedding": 16}
FAST = {"max_steps": 6, "batch_size": 8, "seed": 0}
FEW = {"num_samples": 3, "steps": 4}


def series(n=200, ids=("a", "b"), seed=0, tz=None):
    """y = 50 (k+1) + 10 price + noise, price white noise: its past says nothing of its future."""
    rng = np.random.default_rng(seed)
    parts = []
    for k, u in enumerate(ids):
        price = rng.normal(size=n)
        ds = pd.date_range("2024-01-01", periods=n, freq="h", tz=tz)
        y = 50.0 * (k + 1) + 10 * price + 0.5 * rng.normal(size=n)
        parts.append(pd.DataFrame({"unique_id": u, "ds": ds, "y": y, "price": price}))
    return pd.concat(parts, ignore_index=True)


def split(df, h=6):
    """Histories, and what is known of the h steps after them."""
    history = df.groupby("unique_id", sort=False).head(int(df.groupby("unique_id").size().iloc[0]) - h)
    return history, df.drop(columns="y")


@pytest.fixture(scope="module")
def model():
    return TSDiffCond(**TINY, scaler="standard", covariates=("price",)).fit(series(), max_steps=20, batch_size=8)


@pytest.fixture(scope="module")
def plain():
    return TSDiffCond(**TINY, scaler="standard", lags=(4, 24)).fit(series(), max_steps=20, batch_size=8)


@pytest.fixture(scope="module")
def learned():
    """Long enough to know that y follows the price."""
    return TSDiffCond(**{**TINY, "channels": 16}, scaler="standard", covariates=("price",), calendar=False).fit(
        series(600), max_steps=300, batch_size=32, lr=5e-3, ema=0.98, seed=0
    )


def told(model, df, monkeypatch, **call):
    """The features that a forecast tells the network, (series, L, F)."""
    seen = []
    inner = TSDiffCond._condition
    with monkeypatch.context() as patch:
        patch.setattr(TSDiffCond, "_condition", lambda *args: seen.append(inner(*args)) or seen[-1])
        model.forecast(df, **FEW, **call)
    return seen[0]["features"]


# ---------------------------------------------------------------- it learns


def test_the_forecast_follows_the_covariate(learned):
    history, future = split(series(700, ids=("a", "new"), seed=5))
    truth = series(700, ids=("a", "new"), seed=5).groupby("unique_id", sort=False).tail(6)["y"].to_numpy().reshape(2, 6)
    forecast = learned.forecast(history, covariates=future, num_samples=50, sampler="ddim")
    error = np.abs(forecast.median() - truth).mean()
    assert error < 0.5 * np.abs(truth - truth.mean(1, keepdims=True)).mean()  # the best that is blind to the price
    assert np.corrcoef(forecast.median()[0], truth[0])[0, 1] > 0.97
    assert np.median(forecast.samples.std(1)) < 5  # the series has 10, the noise 0.5
    assert forecast.iid and forecast.name == "TSDiffCond"


def test_other_futures_other_forecasts(learned):
    history, future = split(series(600, ids=("c", "d")))
    flipped = future.assign(price=-future["price"])
    past = future.groupby("unique_id").cumcount() < 594
    flipped.loc[past, "price"] = future.loc[past, "price"]  # the context stays
    up, down = (learned.forecast(history, covariates=f, num_samples=20, sampler="ddim") for f in (future, flipped))
    assert np.corrcoef(up.median()[0] - 50, down.median()[0] - 50)[0, 1] < -0.8
    z = future[~past]["price"].to_numpy().reshape(2, 6)
    swapped = future.copy()
    swapped.loc[~past, "price"] = z[:, ::-1].ravel()
    turned = learned.forecast(history, covariates=swapped, num_samples=20, sampler="ddim").median()
    assert np.abs(turned[:, ::-1] - up.median()).max() < 6 < np.abs(turned - up.median()).max()


def test_a_context_with_gaps_and_a_cold_start_do_as_well(learned):
    df = series(600, ids=("c", "d"))
    history, future = split(df)
    truth = df.groupby("unique_id", sort=False).tail(6)["y"].to_numpy().reshape(2, 6)
    gone = history.copy()
    gone.loc[gone.groupby("unique_id").cumcount() % 2 == 0, "y"] = np.nan
    cold = history.groupby("unique_id").tail(14)
    for frame, words in ((gone, None), (cold, "shorter than the context of 24 steps")):
        if words:
            with pytest.warns(UserWarning, match=words):
                forecast = learned.forecast(frame, covariates=future, num_samples=30, sampler="ddim")
        else:
            forecast = learned.forecast(frame, covariates=future, num_samples=30, sampler="ddim")
        assert np.corrcoef(forecast.median()[1], truth[1])[0, 1] > 0.9
        assert np.abs(forecast.median() - truth).mean() < 6


# ---------------------------------------------------------------- what reaches the condition


def test_the_condition_of_a_forecast_in_full(plain, monkeypatch):
    """Lag channels, observed values, mask, calendar: each entry by its definition."""
    df = series(100, ids=("c",))
    df.loc[[95, 90], "y"] = np.nan
    features = told(plain, df, monkeypatch)[0].numpy()
    y = df["y"].to_numpy()
    window = y[76:100]
    shift, scale = np.nanmean(window), np.nanstd(window)
    x = (y - shift) / scale
    t = np.arange(76, 106)
    assert features.shape == (30, 2 + 2 + 4)
    for column, lag in ((0, 4), (1, 24), (2, 0)):
        source = t - lag
        shown = (source < 100) & ~np.isnan(y[source.clip(0, 99)])
        assert np.allclose(features[:, column], np.where(shown, x[source.clip(0, 99)], 0), atol=1e-5)
    assert features[:, 3].tolist() == [float(i < 100 and i not in (90, 95)) for i in t]
    hours = df["ds"].iloc[0].hour + t
    assert np.allclose(features[:, 4], hours % 24 / 23 - 0.5, atol=1e-6)


def test_what_lies_after_the_origin_changes_no_byte(model, plain, monkeypatch):
    df = series()
    cut = df.groupby("unique_id", sort=False).head(180)
    wild = df.copy()
    wild.loc[wild.groupby("unique_id").cumcount() >= 180, "y"] = 1e9
    for one, call in ((plain, {}), (model, {"covariates": df.drop(columns="y")})):
        panels = [ts.to_panel(f).before(cut["ds"].max() + pd.Timedelta("1h")) for f in (df, wild)]
        with pytest.warns(UserWarning, match="inside the training period"):
            clean, poisoned, frame = (told(one, f, monkeypatch, **call) for f in (*panels, cut))
        assert torch.equal(clean, poisoned) and torch.equal(clean, frame)


@pytest.mark.parametrize("missing", ["none", "random", "begin", "end", "mixed"])
@pytest.mark.parametrize("scaler", ["standard", "mean_abs"])
def test_hidden_values_never_enter_the_condition_of_training(missing, scaler):
    """Every hidden value is replaced by 1e9: the features stay as they are, byte for byte."""
    config = TSDiffCondConfig(**TINY, freq="h", scaler=scaler, lags=(4, 24), missing=missing)
    panel = ts.to_panel(series(120))
    known = [np.zeros((len(y), 4), np.float32) for y in panel.values]
    data = HidingWindows(panel, config, (0.0, 1.0), known)
    for index in range(0, len(data), 3):
        item = data.draw(index, np.random.default_rng(index))
        shown = item["condition"]["features"][:, 3].bool().numpy()
        i, start = data.rows[index]
        values = [y.copy() for y in panel.values]
        values[i][start : start + 30][~shown] = 1e9
        if not shown.any():
            values[i][:start] = 1e9
        poisoned = dataclasses.replace(panel, values=tuple(values))
        other = HidingWindows(poisoned, config, (0.0, 1.0), known, rows=data.rows)
        other = other.draw(index, np.random.default_rng(index))
        assert torch.equal(other["condition"]["features"], item["condition"]["features"])
        assert other["x"].isfinite().all()


def test_the_target_is_the_whole_window_in_the_unit_of_what_is_shown():
    df = series(60)
    df.loc[10:12, "y"] = np.nan
    panel = ts.to_panel(df)
    config = TSDiffCondConfig(**TINY, freq="h", scaler="standard", calendar=False, missing="end")
    data = HidingWindows(panel, config, (0.0, 1.0), [np.zeros((60, 0), np.float32)] * 2)
    item = data.draw(0, np.random.default_rng(0))
    y = panel.values[0][:30]
    shift, scale = np.nanmean(y[:12]), np.nanstd(y[:12])
    seen = ~np.isnan(y)
    assert np.allclose(item["x"][:, 0].numpy()[seen], (y[seen] - shift) / scale, atol=1e-4)
    assert item["mask"][:, 0].tolist() == seen.tolist()  # hidden entries count, missing ones do not
    features = item["condition"]["features"].numpy()
    assert features[:, 1].tolist() == [float(s and t < 12) for t, s in enumerate(seen)]
    valid = CondWindows(panel, config, (0.0, 1.0), data.known, horizon_only=True, rows=data.rows)[0]
    assert valid["mask"][:, 0].tolist() == [t >= 24 for t in range(30)]
    assert valid["condition"]["features"][:, 1].tolist() == [float(s and t < 24) for t, s in enumerate(seen)]


def test_mixed_hiding_holds_its_shares_and_is_keyed():
    masks = np.array([hide_mixed(24, 30, np.random.default_rng((0, i))) for i in range(4000)])
    again = np.array([hide_mixed(24, 30, np.random.default_rng((0, i))) for i in range(50)])
    assert np.array_equal(masks[:50], again)
    horizon, context = masks[:, 24:].all(1), masks[:, :24].any(1)
    alone = (horizon & ~context).mean()
    assert 0.5 < alone < 0.54  # 50 %, and shares that round to nothing
    assert abs(masks.all(1).mean() - 0.05) < 0.025
    interior = ~masks[:, 0] & ~masks[:, -1] & masks[:, 1:-1].any(1)
    assert interior.mean() > 0.05  # gaps with observations on both sides
    shares = masks[horizon & context & ~masks.all(1)][:, :24].mean(1)
    assert abs(shares.mean() - 0.4) < 0.04 and abs(shares.std() - 0.8 * 12**-0.5) < 0.03  # uniform in (0, 0.8)


def test_a_unit_of_nothing_teaches_nothing_beyond_it():
    """Twelve nearly equal values are shown: the rest of the window is 1e8 units away."""
    y = np.sin(np.arange(30.0))
    y[:12] = 5.0 + 1e-8 * np.arange(12)
    panel = ts.Panel(("a",), (pd.Timestamp("2024-01-01"),), (y,), "h")
    config = TSDiffCondConfig(**TINY, freq="h", scaler="standard", calendar=False, missing="end")
    data = HidingWindows(panel, config, (0.0, 1.0), [np.zeros((30, 0), np.float32)])
    item = data.draw(0, np.random.default_rng(0))
    assert item["mask"][:, 0].tolist() == [True] * 12 + [False] * 18
    assert item["x"].abs().max() == 20 and item["condition"]["features"][:12].abs().max() < 2
    spike = np.where(np.arange(30) == 20, 1e6, np.sin(np.arange(30.0)))
    whole = CondWindows(dataclasses.replace(panel, values=(spike,)), config, (0.0, 1.0), data.known)[0]
    assert whole["mask"].all()  # a complete context keeps its spikes


def test_local_hours_reach_the_network_when_the_clocks_change(plain, monkeypatch):
    df = series(30, ids=("a",)).assign(ds=pd.date_range("2024-03-30 00:00", periods=30, freq="h", tz="Europe/Berlin"))
    features = told(plain, df.iloc[:25], monkeypatch)[0].numpy()  # begins at 01:00 on that day
    hours = ((features[:, 4] + 0.5) * 23).round().astype(int)
    assert hours[-6:].tolist() == [1, 3, 4, 5, 6, 7] and hours[:3].tolist() == [1, 2, 3]


def test_what_is_not_observed_is_not_looked_at(model):
    values, observed = np.ones((2, 30, 1)), np.zeros((2, 30, 1), bool)
    observed[:, :5] = True
    wild = np.where(observed, values, 1e9)
    known = np.zeros((2, 30, 5), np.float32)
    a, b = (model._condition(v, observed, known)["features"] for v in (values, wild))
    assert torch.equal(a, b) and torch.isfinite(b).all()
    with pytest.raises(ValueError, match=r"known \(2, 30, 5\), got .* \(2, 30, 0\)"):
        model._condition(values, observed)


# ---------------------------------------------------------------- promises


def test_same_seed_same_bytes_and_batches_do_not_change_the_forecast(model):
    history, future = split(series())
    call = {"covariates": future, "num_samples": 6, "steps": 5}
    with pytest.warns(UserWarning, match="inside the training period"):
        a, b, c, d = (model.forecast(history, **call, **k) for k in ({}, {}, {"seed": 1}, {"max_batch": 5}))
    assert np.array_equal(a.samples, b.samples) and not np.allclose(a.samples, c.samples)
    assert np.allclose(a.samples, d.samples, rtol=1e-4)


def test_constraints_are_met(learned):
    history, future = split(series(700, seed=3))
    call = {"covariates": future, "num_samples": 6, "sampler": "ddpm", "steps": 20, "walkers": 8}
    free = learned.forecast(history, covariates=future, num_samples=20, sampler="ddim").samples
    floor = float(np.quantile(free[0].sum(-1), 0.3))
    steered = learned.forecast(history, steer=ts.Scenario(lambda y: y.sum(-1), at_least=floor), **call)
    assert (steered.samples.sum(-1) >= floor).all() and steered.info["steering"]["satisfied"] == 1
    joint = learned.forecast(history, steer=ts.Aggregate("b", ["a"]), on_violation="project", **call)
    assert np.allclose(joint.samples[0], joint.samples[1], rtol=1e-6)


def test_windows_of_nothing_observed(model, plain):
    x = plain.sample(3, steps=4)
    assert x.shape == (3, 30) and np.array_equal(x, plain.sample(3, steps=4))
    night, day = (plain.sample(2, steps=4, start=f"2024-06-01 {h}:00") for h in ("00", "12"))
    assert not np.allclose(night, day)
    prices = np.zeros((30, 1))
    low, high = (model.sample(2, steps=4, start="2024-06-01", covariates=p) for p in (prices, prices + 3))
    assert not np.allclose(low, high)
    with pytest.raises(ValueError, match=r"covariates \['price'\]: .* shape \(30, 1\) or \(2, 30, 1\), got none"):
        model.sample(2)
    with pytest.raises(ValueError, match=r"got \(30, 2\)"):
        model.sample(2, covariates=np.zeros((30, 2)))
    with pytest.raises(ValueError, match="positive integer"):
        plain.sample(0)


@pytest.mark.parametrize("missing", ["none", "random", "begin", "end", "mixed"])
def test_windows_of_nothing_from_a_model_that_always_saw_something_come_with_a_warning(missing):
    model = TSDiffCond(**TINY, scaler="standard", calendar=False, missing=missing).fit(series(60), **FAST)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.sample(2, steps=2)
    told = [w.filename for w in caught if f"missing={missing!r}, which never hides all" in str(w.message)]
    assert told == [__file__] * (missing != "mixed")
    with pytest.raises(ValueError, match=r"start='2024-06-01' is for the calendar.*calendar=False"):
        model.sample(2, steps=2, start="2024-06-01")


def test_windows_follow_the_clocks_of_the_training_zone_all_year(tmp_path):
    """Data that end in winter: the windows of the year before have the 23 and the 25 hours of the changes."""
    df = series(60, tz="Europe/Berlin")
    fitted = TSDiffCond(**TINY, scaler="standard").fit(df, **FAST)
    for model in (fitted, TSDiffCond.load(fitted.save(tmp_path))):
        hours = np.rint((model._dates(4000, None, 0)[..., 0] + 0.5) * 23).astype(int)
        assert set(np.unique(np.diff(hours) % 24)) == {0, 1, 2}
        assert (hours[:, :-1][np.diff(hours) % 24 == 2] == 1).all()  # 2 o'clock is skipped in spring
        assert (hours[:, :-1][np.diff(hours) % 24 == 0] == 2).all()  # and comes twice in autumn
        for start in ("2024-03-31", "2024-03-30T23:00Z", pd.Timestamp("2024-03-31", tz="Europe/Berlin")):
            assert np.rint((model._dates(1, start, 0)[0, :4, 0] + 0.5) * 23).tolist() == [0, 1, 3, 4]


def test_windows_lie_in_the_year_before_the_last_series_ends():
    early, late = series(60, ids=("a",)), series(60, ids=("b",))
    late["ds"] += pd.Timedelta("200D")
    model = TSDiffCond(**TINY, scaler="standard").fit(pd.concat([early, late]), **FAST)
    end = late["ds"].max()
    year = pd.date_range(end - pd.Timedelta("366D"), end + pd.Timedelta("2D"), freq="h")
    days = {tuple(row) for row in ts.calendar_features(year, "h")}
    assert {tuple(row) for row in model._dates(400, None, 0).reshape(-1, 4)} <= days


def test_refinement_names_the_model_that_can(model):
    with pytest.raises(NotImplementedError, match="train a TSDiff"):
        model.refine(None, series())


# ---------------------------------------------------------------- training and files


def test_held_out_covariates_and_values_are_never_seen():
    clean, poisoned = series(), series()
    late = poisoned.groupby("unique_id").cumcount() >= 170
    poisoned.loc[late, ["y", "price"]] = 1e9
    a, b = (TSDiffCond(**TINY, covariates=("price",)).fit(df, holdout=30, **FAST) for df in (clean, poisoned))
    assert a.standard == b.standard and a.default == b.default and a.data == b.data
    for p, q in zip(a._network().state_dict().values(), b._network().state_dict().values(), strict=True):
        assert torch.equal(p, q)
    assert a.standard.mean[0] == pytest.approx(clean[~late]["price"].mean())


def test_save_load_same_forecast(model, tmp_path):
    folder = model.save(tmp_path / "m")
    back = TSDiffCond.load(folder)
    assert back.config == model.config and back.standard == model.standard
    history, future = split(series(230))
    a, b = (m.forecast(history, covariates=future, **FEW).samples for m in (model, back))
    assert np.array_equal(a, b)
    head = json.loads((folder / "checkpoint.json").read_text())
    assert head["kind"] == "TSDiffCond" and head["config"]["config"]["covariates"] == ["price"]


def test_a_training_that_was_killed_resumes_to_the_same_weights(tmp_path):
    settings = {**TINY, "covariates": ("price",), "missing": "mixed"}
    call = {"batch_size": 8, "seed": 0}
    whole = TSDiffCond(**settings).fit(series(), max_steps=8, **call)
    TSDiffCond(**settings).fit(series(), max_steps=4, out=tmp_path, save_every=2, **call)
    resumed = TSDiffCond(**settings).fit(series(), max_steps=8, out=tmp_path, resume=True, **call)
    for p, q in zip(whole._network().state_dict().values(), resumed._network().state_dict().values(), strict=True):
        assert torch.equal(p, q)
    other = series().assign(price=lambda d: d["price"] + 1)  # standardised alike, and yet other data
    other.loc[3, "price"] = 9.0
    with pytest.raises(ValueError, match="on other data"):
        TSDiffCond(**settings).fit(other, max_steps=9, out=tmp_path, resume=True, **call)
    with pytest.raises(ValueError, match="missing was 'mixed', now 'none'"):
        TSDiffCond(**{**settings, "missing": "none"}).fit(series(), max_steps=9, out=tmp_path, resume=True, **call)


def test_validation_reads_its_covariates_and_selects(tmp_path):
    df = series()
    early = df.groupby("unique_id", sort=False).head(190)
    settings = {**TINY, "covariates": ("price",)}
    for k, call in enumerate((
        {"df": df, "val_windows": 2},
        {"df": early, "val_df": df},
        {"df": early.drop(columns="price"), "val_df": df.drop(columns="price"), "covariates": df.drop(columns="y")},
    )):  # fmt: skip
        fitted = TSDiffCond(**settings).fit(call.pop("df"), out=tmp_path / str(k), save_every=2, **call, **FAST)
        values = [row["val_loss"] for row in fitted.history if "val_loss" in row]
        assert values and np.isfinite(values).all()
        best = TSDiffCond.load(tmp_path / str(k) / "best")
        prices = np.zeros((30, 1))
        assert np.array_equal(best.sample(1, steps=3, covariates=prices), fitted.sample(1, steps=3, covariates=prices))


# ---------------------------------------------------------------- bad input


def test_covariates_that_are_missing_are_named(model, plain):
    df = series()
    history, future = split(df)
    with pytest.raises(ValueError, match=r"\['price'\]: give their values for the 6 steps ahead in covariates="):
        model.forecast(df)
    with pytest.raises(ValueError, match=r"6 of 6 steps are missing, from 2024-01-09 08:00:00"):
        model.forecast(df, covariates=df)
    with pytest.raises(ValueError, match=r"no row of series 'b'"):
        model.forecast(history.drop(columns="price"), covariates=future[future["unique_id"] == "a"])
    with pytest.raises(ValueError, match=r"columns \['price'\] are missing"):
        TSDiffCond(**TINY, covariates=("price",)).fit(df.drop(columns="price"), **FAST)
    with pytest.raises(ValueError, match="a Panel holds none: give covariates="):
        TSDiffCond(**TINY, covariates=("price",)).fit(ts.to_panel(df), **FAST)
    with pytest.raises(ValueError, match="a model that has none"):
        plain.forecast(df, covariates=df)
    df.loc[33, "price"] = np.nan
    with pytest.raises(ValueError, match=r"'price' of series 'a' has no value at 2024-01-02 09:00:00"):
        TSDiffCond(**TINY, covariates=("price",)).fit(df, **FAST)


def test_the_past_may_stand_in_the_data_and_the_future_apart(model):
    df = series(230)
    history, future = split(df)
    ahead = future.groupby("unique_id", sort=False).tail(6)
    a = model.forecast(history.drop(columns="price"), covariates=future, **FEW).samples
    b = model.forecast(history, covariates=ahead, **FEW).samples
    c = model.forecast(ts.to_panel(history), covariates=future, **FEW).samples
    assert np.array_equal(a, b) and np.array_equal(a, c)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"missing": "block"}, "missing must be one of none, random, begin, end, mixed"),
        ({"calendar": 1}, "calendar must be True or False"),
        ({"covariates": ("y",)}, "'y' cannot be a covariate"),
        ({"freq": "ms"}, "calendar=False"),
        ({"channels": 0}, "channels"),
    ],
)
def test_bad_settings(settings, words):
    with pytest.raises(ValueError, match=words):
        TSDiffCondConfig(**settings)
    assert all(f.name in TSDiffCondConfig.__doc__ for f in dataclasses.fields(TSDiffCondConfig))


def test_presets_leave_out_what_only_guidance_needs():
    config = TSDiffCondConfig.preset("m4_hourly", covariates=("price",))
    assert (config.context_length, config.prediction_length, config.covariates) == (312, 48, ("price",))


def test_untrained_and_foreign(model, tmp_path):
    with pytest.raises(RuntimeError, match="this TSDiffCond is not trained"):
        TSDiffCond(**TINY).forecast(series())
    with pytest.raises(ValueError, match="TSDiffCond"):
        ts.TSDiff.load(model.save(tmp_path / "m"))
