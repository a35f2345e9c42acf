"""Pictures: they show the numbers that they were given, and refuse what they cannot show."""

from __future__ import annotations

import numpy as np
import pytest

pd = pytest.importorskip("pandas")
pytest.importorskip("matplotlib")

from scidiffuse import timeseries as ts  # noqa: E402
from scidiffuse.timeseries.plots import pit_plot  # noqa: E402


def panel(n=60, k=2):
    start = pd.Timestamp("2024-01-01")
    return ts.Panel(tuple("abc"[:k]), (start,) * k, tuple(np.arange(n) + 100.0 * i for i in range(k)), "h")


def forecast(paths=200, h=4):
    start = pd.Timestamp("2024-01-03 12:00")
    samples = np.random.default_rng(0).normal(size=(2, paths, h)) + np.array([60.0, 160.0])[:, None, None]
    return ts.Forecast(("a", "b"), (start, start), "h", samples, "M")


def calibrated(rows=300, paths=99, h=10, spread=1.0):
    rng = np.random.default_rng(5)
    start = pd.Timestamp("2024-01-01")
    f = ts.Forecast(("a",) * rows, (start,) * rows, "h", spread * rng.normal(size=(rows, paths, h)), "M")
    return f, rng.normal(size=(rows, h))


def test_fan_chart_draws_what_it_is_given(tmp_path):
    f = forecast()
    figure = f.plot(
        panel(), actual=f.mean(), baseline=ts.seasonal_naive(panel(), 4), paths=3, level=(50, 90), titles=["A", "B"]
    )
    axis = figure.axes[0]
    labels = axis.get_legend_handles_labels()[1]
    assert labels == ["history", "90 %", "50 %", "M median", "SeasonalNaive", "what happened"]
    line = next(line for line in axis.lines if line.get_label() == "M median")
    assert np.allclose(line.get_ydata(), f.median()[0])
    history = next(line for line in axis.lines if line.get_label() == "history")
    assert history.get_ydata().tolist() == list(range(48, 60))
    figure.savefig(tmp_path / "fan.png")
    assert (tmp_path / "fan.png").stat().st_size > 5000
    with pytest.raises(ValueError, match="rows"):
        ts.fan_chart(f, rows=[7])


@pytest.mark.parametrize("zone", [None, "Asia/Tokyo"])
def test_labels_of_time_are_short_and_in_the_zone_of_the_data(zone):
    from matplotlib.dates import date2num

    start = pd.Timestamp("2024-07-01", tz=zone)
    history = ts.Panel(("a",), (start,), (np.arange(12.0),), "h")
    figure = ts.seasonal_naive(history, 12, season=1).plot(history)
    figure.canvas.draw()
    axis = figure.axes[0].xaxis
    shown = [label.get_text() for label in axis.get_ticklabels()]
    assert shown[:3] == ["Jul-01", "04:00", "08:00"] and axis.get_offset_text().get_text().startswith("2024-Jul")
    assert axis.get_ticklocs()[0] == pytest.approx(date2num(start))


def test_reliability_of_a_calibrated_forecast_is_the_diagonal_within_its_band():
    f, y = calibrated()
    axis = ts.reliability([f], y).axes[0]
    curve = axis.lines[1]
    x, share = curve.get_xdata(), curve.get_ydata()
    assert np.allclose(share, [(y <= np.quantile(f.samples, q, axis=1)).mean() for q in x])
    assert np.abs(share - x).max() < 0.04
    from scipy.stats import binom

    corners = axis.collections[0].get_paths()[0].vertices
    for q in (0.1, 0.5, 0.8):
        at = corners[np.isclose(corners[:, 0], q), 1]
        assert (at.min(), at.max()) == pytest.approx(np.array(binom.interval(0.95, 3000, q)) / 3000)
    wide, _ = calibrated(spread=3.0)
    shares = ts.reliability([wide], y, band=None, names=["wide"]).axes[0]
    assert not shares.collections and np.abs(shares.lines[1].get_ydata() - x).max() > 0.15


def test_pit_plot_shows_the_counts_and_tells_too_wide_from_too_narrow():
    f, y = calibrated()
    y[:3, 0] = np.nan
    start = pd.Timestamp("2024-01-01")
    empty = np.zeros((300, 0, 10))
    normal = ts.NormalForecast(
        ("a",) * 300, (start,) * 300, "h", empty, "N", loc=np.zeros((300, 10)), sd=np.ones((300, 10))
    )
    wide, narrow = calibrated(spread=3.0)[0], calibrated(spread=0.3)[0]
    figure = pit_plot([f, normal, wide, narrow], y, names=["right", "normal", "wide", "narrow"])
    drawn = [axis for axis in figure.axes if axis.get_visible()]
    counts = [np.array([bar.get_height() for bar in axis.containers[0]]) for axis in drawn]
    assert [len(c) for c in counts] == [10] * 4 and all(c.sum() == 2997 for c in counts)
    assert np.array_equal(counts[0], ts.pit_histogram(ts.pit(y, f.samples, "random")).counts)
    from scipy.special import ndtr

    assert np.array_equal(counts[1], np.histogram(ndtr(y[~np.isnan(y)]), bins=10, range=(0, 1))[0])
    low, high = ts.pit_histogram(np.linspace(0, 1, 2997)).low, ts.pit_histogram(np.linspace(0, 1, 2997)).high
    for right in counts[:2]:
        assert ((right >= low - 20) & (right <= high + 20)).all()
    assert counts[2][4:6].min() > 2 * counts[2][[0, 9]].max() and counts[3][[0, 9]].min() > 2 * counts[3][4:6].max()
    assert drawn[0].get_title() == "right, n = 2997"


def test_pictures_of_nothing_are_refused():
    f, y = calibrated(rows=4)
    for draw in (ts.reliability, pit_plot):
        with pytest.raises(ValueError, match="no forecast"):
            draw([], y)
        with pytest.raises(ValueError, match=r"\(4, 10\), the truth \(3, 10\)"):
            draw([f], y[:3])
        with pytest.raises(ValueError, match="none of the 40"):
            draw([f], np.full((4, 10), np.nan))
        with pytest.raises(ValueError, match="one name"):
            draw([f], y, names=["a", "b"])
    for draw, words in (
        (lambda: forecast().plot(panel(k=1)), r"the history has no series 'b'; it has \['a'\]"),
        (lambda: f.plot(actual=y[:3]), r"\(4, 10\), the truth \(3, 10\)"),
    ):
        with pytest.raises(ValueError, match=words):
            draw()
    with pytest.raises(ValueError, match="band"):
        ts.reliability([f], y, band=95)
    with pytest.raises(ValueError, match="point forecast"):
        pit_plot([ts.seasonal_naive(panel(), 4)], np.zeros((2, 4)))


def test_the_legend_of_a_fan_chart_has_the_colours_of_the_plot():
    """Opaque bands: a pixel inside the innermost band has the colour of its legend entry, whatever lies below."""
    start = pd.Timestamp("2024-01-03 12:00")
    samples = np.tile(np.linspace(-1, 1, 1001)[None, :, None], (1, 1, 8))
    figure = ts.Forecast(("a",), (start,), "h", samples, "M").plot(level=(50, 80, 95))
    figure.canvas.draw()
    image, axis = np.asarray(figure.canvas.buffer_rgba()), figure.axes[0]
    for band, y in zip(axis.collections, (0.87, 0.65, 0.25), strict=True):
        colour = band.get_facecolor()[0]
        assert colour[3] == 1
        x = axis.transData.transform((axis.lines[0].get_xdata(orig=False)[3], y))
        pixel = image[image.shape[0] - 1 - int(x[1]), int(x[0]), :3] / 255
        assert np.abs(pixel - colour[:3]).max() < 0.01
