"""The csv pairs of M4."""

from __future__ import annotations

import numpy as np
import pytest

pd = pytest.importorskip("pandas")

from scidiffuse.timeseries.data import M4, SkippedData, load, read_benchmark, read_m4  # noqa: E402
from scidiffuse.timeseries.data.m4 import m4_group, m4_pair  # noqa: E402


def pair(tmp_path, group: str = "Hourly", rows: dict | None = None, future: dict | None = None):
    rows = {"H1": [1.0, 2.0, 3.0], "H2": [4.0, 5.0]} if rows is None else rows
    future = {u: [7.0, 8.0] for u in rows} if future is None else future
    for name, series in (("train", rows), ("test", future)):
        width = max(len(v) for v in series.values())
        lines = [",".join(f'"V{k + 1}"' for k in range(width + 1))]
        lines += [",".join([f'"{u}"', *map(str, v), *[""] * (width - len(v))]) for u, v in series.items()]
        (tmp_path / f"{group}-{name}.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / f"{group}-train.csv", tmp_path / f"{group}-test.csv"


def test_padding_ends_a_series_and_the_test_follows(tmp_path):
    train, test = pair(tmp_path)
    past, whole = read_m4(train), read_m4(train, test)
    assert [v.tolist() for v in past.values] == [[1, 2, 3], [4, 5]]
    assert [v.tolist() for v in whole.values] == [[1, 2, 3, 7, 8], [4, 5, 7, 8]]
    assert past.ids == ("H1", "H2") and past.freq == "h" and past.starts[0] == pd.Timestamp("1750-01-01")
    bench = read_benchmark(tmp_path)
    assert bench.name == "m4_hourly" and bench.horizon == 2 and bench.actual.tolist() == [[7, 8]] * 2
    assert len(load(tmp_path)) == 9 and len(load(train)) == 5


@pytest.mark.parametrize("group", sorted(M4))
def test_every_group_has_its_frequency(tmp_path, group):
    panel = read_m4(pair(tmp_path, group)[0])
    expected = {"Weekly": "W-THU", "Quarterly": "QS-JAN", "Yearly": "YS-JAN"}.get(group, M4[group][0])
    assert m4_group(f"x/{group}-train.csv") == group
    assert panel.freq == pd.tseries.frequencies.to_offset(expected).freqstr
    assert panel.times(0)[0] == pd.Timestamp("1750-01-01")


def test_yearly_series_of_more_than_300_years_are_left_out(tmp_path):
    train, _ = pair(tmp_path, "Yearly", {"Y1": list(range(301)), "Y2": list(range(300))})
    assert read_m4(train).ids == ("Y2",)


def test_true_dates(tmp_path):
    train, test = pair(tmp_path)
    (tmp_path / "M4-info.csv").write_text(
        "M4id,category,Frequency,Horizon,SP,StartingDate\nH1,Other,24,48,Hourly,01-07-15 12:00\n"
        "H2,Other,24,48,Hourly,15-03-50 00:00\n"
    )
    assert m4_pair(tmp_path) == (train, test, tmp_path / "M4-info.csv")
    panel = read_m4(train, info=tmp_path / "M4-info.csv")
    assert panel.starts == (pd.Timestamp("2015-07-01 12:00"), pd.Timestamp("1950-03-15"))
    (tmp_path / "M4-info.csv").write_text("M4id,StartingDate\nH1,01-07-15 12:00\n")
    with pytest.raises(ValueError, match="no series 'H2'"):
        read_m4(train, info=tmp_path / "M4-info.csv")
    (tmp_path / "M4-info.csv").write_text("id,Start\nH1,01-07-15 12:00\n")
    with pytest.raises(ValueError, match="expected the columns M4id and StartingDate"):
        read_m4(train, info=tmp_path / "M4-info.csv")


@pytest.mark.parametrize(
    ("rows", "future", "words"),
    [
        ({"H1": [1.0], "H2": [1.0, "x", 2.0]}, None, "series 'H2': value 2 is 'x', expected a number"),
        ({"H1": [1.0], "H2": []}, None, "series 'H2' has no observed value"),
        ({"H1": [1.0], "H2": [2.0, np.inf]}, None, "series 'H2' is infinite at step 2"),
        ({"H1": [1.0], "H2": [2.0]}, {"H1": [3.0]}, r"Hourly-test\.csv lacks series 'H2' of Hourly-train\.csv"),
    ],
)
def test_bad_rows(tmp_path, rows, future, words):
    train, test = pair(tmp_path, rows=rows, future=future or {"H1": [1.0], "H2": [2.0]})
    with pytest.raises((ValueError, TypeError), match=words):
        read_m4(train, test)
    with pytest.warns(SkippedData, match=words):
        assert read_m4(train, test, errors="skip").ids == ("H1",)


def test_bad_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        read_m4(tmp_path / "Hourly-train.csv")
    (tmp_path / "Hourly-train.csv").write_text("")
    with pytest.raises(ValueError, match="cannot be read as an M4 table"):
        read_m4(tmp_path / "Hourly-train.csv")
    (tmp_path / "Hourly-train.csv").write_text("V1\nH1\n")
    with pytest.raises(ValueError, match="expected an id and values"):
        read_m4(tmp_path / "Hourly-train.csv")
    (tmp_path / "mine.csv").write_text("V1,V2,V3\nH1,1,2\nH1,1,2\n")
    with pytest.raises(ValueError, match=r"does not begin with one of .*pass freq="):
        read_m4(tmp_path / "mine.csv")
    with pytest.raises(ValueError, match="holds series 'H1' twice"):
        read_m4(tmp_path / "mine.csv", freq="h")
    with pytest.raises(ValueError, match=r"Hourly-train\.csv and no Hourly-test\.csv"):
        read_benchmark(tmp_path)
    pair(tmp_path, "Daily")
    with pytest.raises(ValueError, match="pass group="):
        m4_pair(tmp_path)
