"""Atomic writing: what was there stays until the new file is whole."""

from __future__ import annotations

import numpy as np
import pytest

pd = pytest.importorskip("pandas")

from scidiffuse.timeseries.data import Panel, read_long, write_gluonts, write_jsonl, write_long  # noqa: E402


def panel(tz: str | None = None) -> Panel:
    return Panel(("a",), (pd.Timestamp("2024-01-01", tz=tz),), (np.array([1.0, np.nan, 3.0]),), "h")


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "x.parquet"])
def test_a_write_that_fails_leaves_the_old_file(tmp_path, name, monkeypatch):
    write_long(panel(), tmp_path / name)
    before = (tmp_path / name).read_bytes()

    def half(self, path, **_):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(pd.DataFrame, "to_csv", half)
    monkeypatch.setattr(pd.DataFrame, "to_parquet", half)
    with pytest.raises(OSError, match="disk full"):
        write_long(panel(), tmp_path / name)
    assert (tmp_path / name).read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_folders_are_made_and_frames_are_taken(tmp_path):
    path = write_long(panel().to_long(), tmp_path / "new" / "x.csv")
    assert read_long(path)["y"].isna().tolist() == [False, True, False]


def test_bytes_are_the_same_every_time(tmp_path):
    a, b = (write_jsonl(panel(), tmp_path / f"{k}.json.gz").read_bytes() for k in "ab")
    assert a == b
    text = write_jsonl(panel(), tmp_path / "x.json").read_text()
    assert text == '{"item_id": "a", "start": "2024-01-01 00:00:00", "target": [1.0, "NaN", 3.0]}\n'


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match=r"expected \.csv"):
        write_long(panel(), tmp_path / "x.xlsx")
    with pytest.raises(ValueError, match=r"expected \.json"):
        write_jsonl(panel(), tmp_path / "x.csv")
    with pytest.raises(ValueError, match="series 'a' has the time zone UTC"):
        write_jsonl(panel("UTC"), tmp_path / "x.json")
    daily = Panel(("a",), panel().starts, panel().values, "D")
    with pytest.raises(ValueError, match="train has freq='h', test 'D'"):
        write_gluonts(tmp_path / "set", panel(), daily)
    assert list(tmp_path.iterdir()) == []
