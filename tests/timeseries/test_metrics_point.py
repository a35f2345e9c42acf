"""Point and interval scores by hand, beside utilsforecast and scoringrules."""

from __future__ import annotations

import numpy as np
import pytest

pd = pytest.importorskip("pandas")

from scidiffuse.timeseries import metrics as m  # noqa: E402
from scidiffuse.timeseries.baselines import seasonal_scale  # noqa: E402
from scidiffuse.timeseries.data import Panel  # noqa: E402

RNG = np.random.default_rng(0)
Y = np.array([[1.0, 2.0, 4.0], [10.0, np.nan, -10.0]])
F = np.array([[2.0, 2.0, 2.0], [8.0, 0.0, -10.0]])


def test_by_hand():
    assert m.nd(Y, F) == pytest.approx(5 / 27)
    assert m.nrmse(Y, F) == pytest.approx(np.sqrt((1 + 4 + 4) / 5) / (27 / 5))
    assert m.mase(Y, F, np.array([0.5, 4.0])) == pytest.approx((1 / 0.5 + 1 / 4) / 2)
    for shape in ((3, 1), (1, 3), (1, 1)):
        assert m.interval_score(np.zeros(shape), np.zeros(shape), np.ones(shape)).shape == shape
    low, high = F - 1, F + 1
    score = m.interval_score(Y, low, high, 0.1)
    assert score[0].tolist() == [2.0, 2.0, 2 + 20.0]  # 4 lies 1 above 3: 2/0.1
    assert score[1, 0] == pytest.approx(2 + 20.0) and np.isnan(score[1, 1]) and score[1, 2] == 2
    assert m.msis(Y, low, high, np.array([2.0, 12.0]), 0.1) == pytest.approx((26 / 3 / 2 + 24 / 2 / 12) / 2)


def test_the_interval_score_is_least_at_the_quantiles():
    """Proper: its expectation over a standard normal is smallest at the true alpha/2 and 1 - alpha/2 quantiles."""
    from scipy.special import ndtri

    y = ndtri((np.arange(20000) + 0.5) / 20000)[None]
    right = ndtri(0.95)

    def expected(width: float, shift: float = 0.0) -> float:
        return float(m.interval_score(y, np.full_like(y, shift - width), np.full_like(y, shift + width), 0.1).mean())

    # closed form: 2 z + 2 * 2/alpha * (phi(z) - alpha/2 z) = 4 phi(z) / alpha
    assert expected(right) == pytest.approx(4 / 0.1 * np.exp(-(right**2) / 2) / np.sqrt(2 * np.pi), abs=2e-3)
    others = [(right * 0.9, 0.0), (right * 1.1, 0.0), (right, 0.1), (right, -0.1)]
    assert all(expected(*other) > expected(right) + 1e-3 for other in others)


def frames():
    """Three series of history and horizon, with a forecast and an 80 % interval."""
    history, truth = RNG.normal(size=(3, 40)).cumsum(axis=1), RNG.normal(size=(3, 6))
    f = truth + RNG.normal(size=(3, 6))
    ids, days = np.repeat(["a", "b", "c"], 40), pd.date_range("2024-01-01", periods=46)
    train = pd.DataFrame({"unique_id": ids, "ds": np.tile(days[:40], 3), "y": history.ravel()})
    test = pd.DataFrame({
        "unique_id": np.repeat(["a", "b", "c"], 6), "ds": np.tile(days[40:], 3), "y": truth.ravel(), "f": f.ravel(),
        "f-lo-80": f.ravel() - 1, "f-hi-80": f.ravel() + 1,
    })  # fmt: skip
    scale = seasonal_scale(Panel(("a", "b", "c"), (days[0],) * 3, tuple(history), "D"), 7)
    return train, test, truth, f, scale


def test_agrees_with_utilsforecast():
    losses = pytest.importorskip("utilsforecast.losses")
    train, test, y, f, scale = frames()
    mase = losses.mase(test, models=["f"], seasonality=7, train_df=train)["f"]
    assert m.mase(y, f, scale) == pytest.approx(mase.mean(), rel=1e-12)
    nd = losses.nd(test, models=["f"])["f"].to_numpy()
    assert m.nd(y, f) == pytest.approx((nd * np.abs(y).sum(1)).sum() / np.abs(y).sum(), rel=1e-12)
    winkler = losses.winkler_score(test, models=["f"], level=80)["f"]
    assert np.allclose(m.interval_score(y, f - 1, f + 1, 0.2).mean(1), winkler, rtol=1e-12)
    assert m.coverage(y, f - 1, f + 1) == pytest.approx(losses.coverage(test, models=["f"], level=80)["f"].mean())
    half = losses.quantile_loss(test, models={"f": "f"}, q=0.3)["f"]  # without the factor 2
    assert np.allclose(m.pinball(y, f, 0.3).mean(1), 2 * half, rtol=1e-12)


def test_rows_without_a_scale_are_left_out_with_a_warning():
    y, f = np.array([[1.0], [2.0], [3.0]]), np.zeros((3, 1))
    with pytest.warns(UserWarning, match=r"2 of 3 rows .*row 1, 2.*MASE"):
        assert m.mase(y, f, np.array([0.5, 0.0, np.nan])) == 2.0
    with pytest.warns(UserWarning, match="MSIS"):
        assert np.isnan(m.msis(y, f, f, np.zeros(3)))
    with pytest.warns(UserWarning, match="undefined"):
        assert np.isnan(m.nd(np.zeros((2, 2)), np.ones((2, 2))))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: m.nd(Y, F[:1]), "shape of y"),
        (lambda: m.nd(Y, np.where(F == 0, np.nan, F)), "1 values of f are not finite"),
        (lambda: m.mase(np.full((2, 3), np.inf), F, np.ones(2)), "6 observations are infinite"),
        (lambda: m.mase(Y, F, np.ones(3)), "one scale a row"),
        (lambda: m.mase(Y, F, np.array([1.0, -1.0])), "never negative"),
        (lambda: m.interval_score(Y, F + 1, F), "swapped"),
        (lambda: m.interval_score(Y, F, F, 1.0), "alpha"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()
