"""Headerless text, one column a series."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

pd = pytest.importorskip("pandas")

from scidiffuse.timeseries.data import LSTNET, SkippedData, load, read_lstnet  # noqa: E402


def put(tmp_path, content: str, name: str = "exchange_rate.txt.gz"):
    (tmp_path / name).write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    return tmp_path / name


def test_the_published_files_have_their_dates(tmp_path):
    for name, (freq, start) in LSTNET.items():
        panel = read_lstnet(put(tmp_path, "1,2\n3,4\n5,6\n", f"{name}.txt.gz"))
        assert panel.freq == freq and panel.ids == (0, 1) and panel.values[1].tolist() == [2, 4, 6]
        assert panel.starts[0] == pd.Timestamp(start)


def test_other_files_are_told(tmp_path):
    path = put(tmp_path, "1,2\nnan,4\n5,nan\n", "mine.txt")
    with pytest.raises(ValueError, match=r"mine\.txt holds no dates and is none of .*pass freq= and start="):
        read_lstnet(path)
    panel = read_lstnet(path, "T", "2024-01-01")
    assert panel.freq == "min" and np.array_equal(panel.values[0], [1, np.nan, 5], equal_nan=True)
    assert panel.values[1].tolist() == [2, 4]  # what is missing at the end is no part of the series
    assert len(load(path, "min", start="2024-01-01")) == 5


def test_missing_at_the_start_moves_the_start(tmp_path):
    panel = read_lstnet(put(tmp_path, "nan,2\n,4\n5,6\n"))
    assert panel.starts[0] == pd.Timestamp("1990-01-03") and panel.values[0].tolist() == [5]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("1,2\n3\n", r"line 2 has 1 columns, the first 2"),
        ("1,2\n3,x\n", r"column 2: value 2 is 'x', expected a number"),
        ("1,\n3,\n", "series 1 has no observed value"),
        ("1,2\n3,inf\n", "series 1 is infinite at step 2"),
    ],
)
def test_bad_files(tmp_path, content, words):
    path = put(tmp_path, content)
    with pytest.raises((ValueError, TypeError), match=words):
        read_lstnet(path)
    if ("1" in words and "line" not in words) or words.startswith("column"):
        with pytest.warns(SkippedData, match=words):
            assert read_lstnet(path, errors="skip").ids == (0,)
