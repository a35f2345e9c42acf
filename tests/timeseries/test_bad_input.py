"""Bad input, one test a kind: what came, what was expected and what to do are in every message.

The readers' own tests hold the details (cells, rows, files); here stands what a forecaster meets.
"""

import warnings

import numpy as np
import pandas as pd
import pytest

from scidiffuse import timeseries as ts

TINY = {"context_length": 24, "prediction_length": 6, "channels": 4, "blocks": 1, "d_state": 4, "embedding": 8,
        "timesteps": 10, "guidance_scale": 0.1}  # fmt: skip


def series(n=120, name="a", start="2024-01-01"):
    y = 10 + np.sin(np.arange(n) * 2 * np.pi / 24)
    return pd.DataFrame({"unique_id": name, "ds": pd.date_range(start, periods=n, freq="h"), "y": y})


@pytest.fixture(scope="module")
def model():
    return ts.TSDiff(**TINY).fit(series(), max_steps=1, batch_size=4, seed=0, accelerator="cpu")


def test_irregular_timestamps_name_the_series_and_the_first_one():
    df = series()
    df.loc[50, "ds"] += pd.Timedelta("7min")
    with pytest.raises(ValueError, match=r"'a'.*2024-01-03 02:07"):
        ts.to_panel(df, "h")


def test_duplicate_timestamps_name_the_series_and_the_first_one():
    df = pd.concat([series(), series().iloc[[30, 31]]], ignore_index=True)
    with pytest.raises(ValueError, match=r"'a'.*2024-01-02 06:00"):
        ts.to_panel(df)


def test_gaps_are_missing_values_and_do_not_move_anything(model):
    """A gap is no error: its steps are not observed."""
    df = series()
    holes = df.drop(index=range(100, 104))
    panel = ts.to_panel(holes)
    assert np.flatnonzero(np.isnan(panel.values[0])).tolist() == [100, 101, 102, 103]
    empty = df.assign(y=df["y"].where(~df.index.isin(range(100, 104))))
    same = [model.forecast(d, num_samples=2, sampler="ddim", steps=2).samples for d in (holes, empty)]
    assert np.array_equal(*same)


def test_unknown_frequencies_are_answered_with_a_suggestion():
    with pytest.raises(ValueError, match="unknown frequency 'hourly'; did you mean 'h'"):
        ts.canonical_freq("hourly")


def test_old_frequencies_are_translated_with_a_warning():
    with pytest.warns(FutureWarning, match="'H' was removed in pandas 3; reading it as 'h'"):
        assert ts.TSDiffConfig(freq="H").freq == "h"


def test_series_too_short_for_the_window_and_its_lags_are_counted_and_listed():
    """As M4: 700 steps are fewer than the 672 of the longest lag and the 360 of a window."""
    df = pd.concat([series(700, "H1"), series(700, "H2")])
    model = ts.TSDiff(context_length=312, prediction_length=48, lags="auto", channels=4, blocks=1, d_state=4)
    with pytest.raises(ValueError, match=r"1032.*2 of 2 series are too short.*'H1' \(700\).*drop the lags"):
        model.fit(df, max_steps=1, accelerator="cpu")


@pytest.mark.parametrize(("value", "words"), [(0.0, "constant"), (5.0, "constant"), (np.nan, "not observed")])
def test_contexts_without_a_scale_are_named(model, value, words):
    df = pd.concat([series(120, "good"), series(120, "flat")])
    flat = (df["unique_id"] == "flat") & (df["ds"] >= "2024-01-03")
    df.loc[flat, "y"] = value
    with pytest.warns(UserWarning, match=f"(?s)flat.*{words}|{words}.*flat"):
        out = model.forecast(df, num_samples=2, sampler="ddim", steps=2, on_divergence="warn")
    assert np.isfinite(out.samples).all()
    if np.isfinite(value):
        assert (out.samples[1] == value).all()


def test_infinite_values_are_named():
    df = series()
    df.loc[7, "y"] = np.inf
    with pytest.raises(ValueError, match=r"'a'.*infinite"):
        ts.to_panel(df)


def test_mixed_time_zones_are_refused():
    a, b = series(name="a"), series(name="b")
    df = pd.concat([a.assign(ds=a["ds"].dt.tz_localize("UTC")), b])
    with pytest.raises(ValueError, match="time zone"):
        ts.to_panel(df)


def test_integers_beyond_what_floats_can_hold_are_refused():
    df = series(20).assign(y=np.full(20, 2**60 + 1))
    with pytest.raises(ValueError, match=r"beyond 2\^53.*rescale the unit"):
        ts.to_panel(df)


def test_a_series_that_training_never_saw_is_forecast(model):
    out = model.forecast(series(name="new"), num_samples=2, sampler="ddim", steps=2)
    assert out.ids == ("new",) and np.isfinite(out.samples).all()


def test_a_mask_that_promises_what_is_missing_is_refused(tmp_path):
    y = np.ones((1, 40))
    y[0, 3] = np.nan
    np.savez(tmp_path / "a.npz", values=y, mask=np.ones((1, 40), bool), freq="h", start="2024-01-01")
    with pytest.raises(ValueError, match="mask and NaN disagree at step 4"):
        ts.load(tmp_path / "a.npz")


def test_another_horizon_is_welcome_while_a_context_is_left(model):
    assert model.forecast(series(), 12, num_samples=2, sampler="ddim", steps=2).horizon == 12
    with pytest.raises(ValueError, match=r"h=30: this model's windows have 30 steps.*1 to 29"):
        model.forecast(series(), 30, num_samples=2)


def test_one_path_has_no_quantiles(model):
    with pytest.raises(ValueError, match="ask for at least 2"):
        model.forecast(series(), num_samples=1)
    assert model.forecast(series(), num_samples=1, guidance=ts.MSEGuidance(0.1), steps=3).samples.shape == (1, 1, 6)


def test_a_diverging_guidance_says_what_to_reduce(model):
    with pytest.raises(ts.DivergenceError, match="Reduce the scale"):
        model.forecast(series(), num_samples=2, sampler="ddim", steps=10, guidance=ts.MSEGuidance(1e4))


def test_validation_that_leaks_into_the_training_is_refused():
    with pytest.raises(ValueError, match=r"validation leaks.*'a'.*val_windows="):
        ts.TSDiff(**TINY).fit(series(), val_df=series(), max_steps=1, accelerator="cpu")


def test_a_truth_of_zeros_has_no_weighted_loss():
    forecast = ts.Forecast(("a",), (pd.Timestamp("2024-01-01"),), "h", np.zeros((1, 4, 6)))
    with pytest.warns(UserWarning, match="wQL is undefined"):
        assert np.isnan(forecast.wql(np.zeros((1, 6))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.isnan(ts.scores(forecast, np.zeros((1, 6)))["wql_gluonts"].value)


def test_scores_of_different_definitions_are_not_compared():
    rng = np.random.default_rng(0)
    y = rng.standard_normal((3, 6))
    stamps = (pd.Timestamp("2024-01-01"),) * 3
    a = ts.scores(ts.Forecast(("a", "b", "c"), stamps, "h", rng.standard_normal((3, 9, 6))), y)
    with pytest.raises(ValueError, match="no score with the same definition"):
        ts.skill({"wql_gluonts": a["wql_gluonts"]}, {"wql_csdi": a["wql_csdi"]})
