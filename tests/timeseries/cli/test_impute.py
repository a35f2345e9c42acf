"""Imputation of files: quantiles of the gaps, paths, filled series, pictures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scidiffuse import timeseries as ts
from scidiffuse.timeseries.imputation import Imputation


@pytest.fixture
def gappy(table, tmp_path):
    frame = table()
    frame.loc[50:57, "y"] = np.nan
    frame = frame.drop(index=[80, 200, 201])  # rows may be missing, too
    frame.to_csv(tmp_path / "gappy.csv", index=False)
    return tmp_path / "gappy.csv"


def test_gaps_are_filled_and_nothing_else_is_touched(gappy, tmp_path, call, quick):
    filled, picture = tmp_path / "filled.csv", tmp_path / "gaps.png"
    text = call("impute", gappy, *quick, "--out", tmp_path / "g.csv", "--filled", filled, "--plot", picture)
    assert "11 missing steps in 3 gaps of 2 series" in text
    gaps = pd.read_csv(tmp_path / "g.csv")
    assert len(gaps) == 11 and "TSDiff-lo-80" in gaps and np.isfinite(gaps["TSDiff"]).all()
    whole, before = ts.load(filled), ts.to_panel(ts.load(gappy))
    assert len(whole) == 300 and whole["y"].notna().all()
    old = before.to_long()["y"].to_numpy()
    seen = ~np.isnan(old)
    assert np.array_equal(whole["y"].to_numpy()[seen], old[seen])
    assert np.allclose(whole["y"].to_numpy()[~seen], gaps["TSDiff-median"])
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_paths(gappy, tmp_path, call, quick):
    call("impute", gappy, *quick, "--out", tmp_path / "g.npz", "--seed", 3)
    back = Imputation.load(tmp_path / "g.npz")
    assert back.num_samples == 6 and sum(int(m.sum()) for m in back.missing) == 11


def test_what_is_refused(data, tmp_path, call, quick):
    assert "nothing is missing" in call("impute", data, *quick, "--out", tmp_path / "g.csv", code=1)
    words = ["impute", "nothing", "--out"]
    assert "--out" in call(*words, tmp_path / "g.txt", code=1)
    assert "--filled" in call(*words, tmp_path / "g.csv", "--filled", tmp_path / "f.npz", code=1)
    assert "--plot" in call(*words, tmp_path / "g.csv", "--plot", tmp_path / "f.txt", code=1)
