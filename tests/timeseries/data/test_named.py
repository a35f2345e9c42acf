"""One verb for every format: what is told apart, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

pd = pytest.importorskip("pandas")

from scidiffuse.timeseries.data import (  # noqa: E402
    Panel,
    SkippedData,
    load,
    read,
    to_panel,
    write_gluonts,
    write_jsonl,
    write_long,
)


def panel() -> Panel:
    return Panel(("a", "b"), (pd.Timestamp("2024-01-01"),) * 2, (np.arange(6.0), np.arange(4.0) ** 2), "h")


def saved(tmp_path, kind: str):
    """The same two series in one of the formats."""
    path = tmp_path / kind
    if kind.startswith("long"):
        return write_long(panel(), path)
    if kind.startswith("wide"):
        wide = panel().to_wide().reset_index()
        wide.to_parquet(path, index=False) if kind.endswith("parquet") else wide.to_csv(path, index=False)
    elif kind.endswith(("json", "jsonl.gz")):
        write_jsonl(panel(), path)
    elif kind == "folder":
        write_gluonts(path, panel())
    elif kind.endswith("tsf"):
        lines = "\n".join(f"{u}:{','.join(map(str, v))}" for u, v in zip(panel().ids, panel().values, strict=True))
        path.write_text(f"@attribute series_name string\n@frequency hourly\n@data\n{lines}\n")
    elif kind.endswith("csv"):  # M4
        path.write_text("V1,V2,V3,V4,V5,V6,V7\na,0,1,2,3,4,5\nb,0,1,4,9,,\n")
    elif kind.endswith("txt"):
        path.write_text("0,0\n1,1\n2,4\n3,9\n4,\n5,\n")
    elif kind.endswith("npz"):
        np.savez(
            path, values=[[0, 1, 2, 3, 4, 5], [0, 1, 4, 9, np.nan, np.nan]], unique_id=["a", "b"], start="2024-01-01"
        )
    return path


KINDS = [
    "long.csv", "long.parquet", "wide.csv", "wide.parquet", "x.json", "x.jsonl.gz", "folder", "x.tsf",
    "Hourly-train.csv", "x.txt", "x.npz",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_loads_as_the_same_long_frame(tmp_path, kind):
    freq = "h" if kind.endswith(("json", "jsonl.gz", "txt", "npz")) else None
    frame = load(saved(tmp_path, kind), freq, start="2024-01-01" if kind.endswith("txt") else None)
    assert list(frame.columns) == ["unique_id", "ds", "y"]
    back = to_panel(frame, "h")
    assert len(back) == 2 and back.ids in (("a", "b"), (0, 1))
    for got, y in zip(back.values, panel().values, strict=True):
        assert (
            np.array_equal(got[: len(y)], y) and np.isnan(got[len(y) :]).all()
            if kind == "x.npz"
            else np.array_equal(got, y)
        )


def test_read_keeps_the_grid_where_the_format_has_one(tmp_path):
    assert isinstance(read(saved(tmp_path, "x.tsf")), Panel)
    assert isinstance(read(saved(tmp_path, "long.csv")), pd.DataFrame)


def test_names_and_formats_that_are_not_known(tmp_path):
    with pytest.raises(
        ValueError, match=r"neither a file nor a named data set; the names are \[.*'exchange_rate_nips'"
    ):
        load("exchange")
    (tmp_path / "x.xlsx").write_text("")
    with pytest.raises(ValueError, match=r"cannot tell the format of x\.xlsx: expected \.csv"):
        load(tmp_path / "x.xlsx")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no GluonTS data set"):
        load(tmp_path / "empty")
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"x\.csv lacks the columns \['unique_id', 'ds', 'y'\]"):
        load(tmp_path / "x.csv")
    assert len(load(tmp_path / "x.csv", "D", start="2024-01-01")) == 2


def test_a_batch_goes_on_and_names_what_was_bad(tmp_path):
    path = saved(tmp_path, "x.tsf")
    path.write_text(path.read_text() + "c:1,x\n")
    with pytest.raises(TypeError, match="line 6: value 2 is 'x'"):
        load(path)
    with pytest.warns(SkippedData, match=r"x\.tsf: left out 1: .*line 6: value 2 is 'x'"):
        assert load(path, errors="skip")["unique_id"].unique().tolist() == ["a", "b"]


def test_missing_files_say_how_to_supply_them(monkeypatch, tmp_path):
    from scidiffuse.core import datasets

    monkeypatch.setenv("SCIDIFFUSE_DATA", str(tmp_path))
    monkeypatch.setattr(datasets, "cache_folder", lambda: tmp_path / "cache")

    def offline(folder, dataset):
        raise ConnectionError(datasets._ways(dataset))

    monkeypatch.setattr(datasets, "_fetch", offline)
    with pytest.raises(ConnectionError, match=r"set \$SCIDIFFUSE_DATA to a folder that holds timeseries/m4_hourly/"):
        load("m4_hourly")
    wrong = tmp_path / "timeseries" / "exchange_rate_nips"
    wrong.mkdir(parents=True)
    (wrong / "exchange_rate_nips.tar.gz").write_bytes(b"another file")
    with pytest.raises(ValueError, match="is not the named file: SHA-256"):
        load("exchange_rate_nips")
