"""Scaling, lags and windows."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

pd = pytest.importorskip("pandas")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from scidiffuse.timeseries.data import Panel  # noqa: E402
from scidiffuse.timeseries.windows import LAGS, context_scale, cut_window, default_scale, lags_for, window_starts  # noqa: E402


def panel(*series):
    start = pd.Timestamp("2024-01-01")
    return Panel(tuple("abcdef"[: len(series)]), (start,) * len(series), tuple(np.array(y, float) for y in series), "h")


def test_scales_by_hand():
    y = np.array([-2.0, np.nan, 4.0, 6.0])
    assert context_scale(y, "mean_abs") == (0.0, 4.0)
    shift, scale = context_scale(y, "standard")
    assert shift == pytest.approx(8 / 3) and scale == pytest.approx(np.std([-2, 4, 6]))
    with pytest.raises(ValueError, match="'mean_abs' or 'standard'"):
        context_scale(y, "minmax")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.one_of(st.floats(-1e4, 1e4), st.just(float("nan"))), min_size=12, max_size=40),
    st.integers(-5, 30),
    st.sampled_from(["mean_abs", "standard"]),
)
def test_windows_invert_to_the_data_wherever_observed(y, start, scaler):
    y = np.array(y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        w = cut_window(y, start, 10, 3, scaler=scaler, default=(0.5, 2.0), lags=(2,))
    assert w.scale > 0 and np.isfinite(w.x).all()
    for k, lag in enumerate((0, 2)):
        t = np.arange(start, start + 10) - lag
        known = (t >= 0) & (t < len(y))
        known[known] &= ~np.isnan(y[t[known]])
        assert np.array_equal(w.observed[:, k], known)
        assert np.allclose(w.shift + w.scale * w.x[known, k], y[t[known]], rtol=1e-5, atol=1e-5 * (1 + abs(w.shift)))


@pytest.mark.parametrize(
    ("context", "scaler", "shift"),
    [
        ([0.0] * 6, "mean_abs", 0.0),
        ([3.0] * 6, "standard", 3.0),
        ([np.nan] * 6, "mean_abs", 0.0),
        ([np.nan] * 6, "standard", 7.0),
    ],
)
def test_a_context_without_scale_takes_the_default_and_says_whose(context, scaler, shift):
    default = (7.0 if scaler == "standard" else 0.0, 5.0)
    with pytest.warns(UserWarning, match=r"series 'zoe': the observed context is .* training default 5"):
        w = cut_window(np.array([*context, 1.0, 2.0]), 0, 8, 2, scaler=scaler, default=default, name="zoe")
    assert (w.shift, w.scale) == (shift, 5.0)


def test_default_scale_is_the_mean_over_series_that_have_one():
    assert default_scale(panel([1, -3], [0, 0], [5, 7]), "mean_abs") == (0.0, 4.0)
    assert default_scale(panel([0, 0]), "mean_abs") == (0.0, 1.0)


def test_window_starts_need_context_horizon_and_lag():
    y = np.arange(20.0)
    assert window_starts(panel(y), 8, 2)[:, 1].tolist() == list(range(13))
    assert window_starts(panel(y), 8, 2, lags=(5,))[:, 1].tolist() == list(range(5, 13))
    y[:9] = np.nan  # less than half of the first contexts is seen
    starts = window_starts(panel(y), 8, 2)[:, 1]
    assert starts.min() == 6
    y[18:] = np.nan  # an unknown horizon
    assert window_starts(panel(y), 8, 2)[:, 1].max() == 11
    with pytest.raises(ValueError, match=r"at least 100% of the context observed"):
        window_starts(panel(np.where(np.arange(20) % 2, 1.0, np.nan)), 8, 2, min_observed=1.0)


def test_lag_presets():
    assert lags_for("auto", "h") == LAGS["h"] == (24, 48, 72, 96, 120, 144, 168, 336, 504, 672)
    assert len(lags_for("auto", "D")) == 12 and lags_for("auto", "W-SUN") == () and lags_for(None, "h") == ()
    for bad in ("week", (0,), (1.5,), (3, 3)):
        with pytest.raises(ValueError, match="lags"):
            lags_for(bad, "h")


def test_too_short_series_are_told_what_adds_up():
    with pytest.raises(ValueError, match=r"needs 360 steps \(context \+ horizon: 336 \+ 24 = 360\) with"):
        window_starts(panel(np.arange(20.0)), 360, 24)
