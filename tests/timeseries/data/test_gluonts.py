"""GluonTS data: lines, folders, tars, Arrow, objects; rolling windows get their names; bad lines are named."""

from __future__ import annotations

import gzip
import json
import tarfile

import numpy as np
import pytest

pd = pytest.importorskip("pandas")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from scidiffuse.timeseries.data import (  # noqa: E402
    Panel,
    SkippedData,
    from_gluonts,
    gluonts_metadata,
    load,
    read_benchmark,
    read_gluonts,
    read_jsonl,
    rolling_benchmark,
    write_gluonts,
    write_jsonl,
)

finite = st.floats(allow_nan=False, allow_infinity=False)
values = st.lists(st.one_of(finite, st.just(float("nan"))), max_size=8).map(lambda y: [*y, 1.5])
ids = st.one_of(st.integers(-9, 99), st.text(min_size=1, max_size=5))


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".jsonl.gz"])
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(ids, values, min_size=1, max_size=4), st.sampled_from(["h", "D", "B", "MS", "W-MON"]))
def test_what_is_written_comes_back_to_the_last_bit(tmp_path, suffix, series, freq):
    start = pd.date_range("2024-01-01", periods=1, freq=freq)[0]
    panel = Panel(tuple(series), (start,) * len(series), tuple(np.array(y) for y in series.values()), freq)
    back = read_jsonl(write_jsonl(panel, tmp_path / f"x{suffix}"), freq)
    assert (back.ids, back.starts, back.freq) == (panel.ids, panel.starts, freq)
    for a, b in zip(panel.values, back.values, strict=True):
        assert np.array_equal(a, b, equal_nan=True)


def rolling(windows: int = 2) -> tuple[Panel, Panel]:
    whole = Panel((0, 1), (pd.Timestamp("2024-01-01"),) * 2, (np.arange(20.0), np.arange(20.0) ** 2), "h")
    bench = rolling_benchmark(whole, 3, windows, train_length=10)
    return bench.train, bench.test


def packed(tmp_path, named: bool = True, metadata: dict | None = None):
    """A folder as old GluonTS versions wrote it, and its tar."""
    train, test = rolling()
    folder = tmp_path / "set"
    for split, panel in (("train", train), ("test", test)):
        path = write_jsonl(panel, folder / split / "data.json")
        if not named:
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            path.write_text("\n".join(json.dumps({k: e[k] for k in ("start", "target")}) for e in lines))
    (folder / "metadata").mkdir()
    text = json.dumps({"freq": "1H", "prediction_length": 3} if metadata is None else metadata)
    (folder / "metadata" / "metadata.json").write_text(text)
    with tarfile.open(tmp_path / "set.tar.gz", "w:gz") as tar:
        tar.add(folder, "set")
    return folder, tmp_path / "set.tar.gz"


@pytest.mark.parametrize("named", [True, False])
def test_folder_and_tar_with_rolling_windows(tmp_path, named):
    for path in packed(tmp_path, named):
        test = read_gluonts(path, "test")
        assert test.ids == (0, 1, 0, 1) and test.freq == "h"
        assert [len(v) for v in test.values] == [13, 13, 16, 16]
        bench = read_benchmark(path)
        assert (bench.horizon, bench.windows, bench.name) == (3, 2, "set")
        assert bench.actual[3].tolist() == [169, 196, 225]
        assert gluonts_metadata(path)["prediction_length"] == 3
        assert load(path).groupby("unique_id").size().tolist() == [16, 16]


def test_windows_that_do_not_continue_the_training_series_are_numbered(tmp_path):
    folder, _ = packed(tmp_path, named=False)
    path = folder / "test" / "data.json"
    path.write_text(path.read_text().replace("[0.0, 1.0", "[0.5, 1.0", 1))
    assert read_gluonts(folder, "test").ids == (0, 1, 2, 3)


def test_a_folder_is_written_whole_or_not_at_all(tmp_path):
    train, test = rolling()
    folder = write_gluonts(tmp_path / "new", train, test, prediction_length=3)
    bench = read_benchmark(folder)
    assert bench.horizon == 3 and bench.test.ids == test.ids
    assert all(np.array_equal(a, b) for a, b in zip(bench.test.values, test.values, strict=True))
    with pytest.raises(FileExistsError, match="new folder"):
        write_gluonts(folder, train)
    zoned = Panel(("z",), (pd.Timestamp("2024-01-01", tz="UTC"),), (np.arange(3.0),), "h")
    with pytest.raises(ValueError, match="time zone UTC"):
        write_gluonts(tmp_path / "zoned", train, zoned)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new"]


def test_arrow_and_parquet(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = [{"start": pd.Timestamp("2024-01-01"), "target": [1.0, None, 3.0], "item_id": "a"}]
    table = pa.Table.from_pylist(rows)
    for kind in ("file", "stream"):
        with getattr(pa, f"{'RecordBatchFileWriter' if kind == 'file' else 'RecordBatchStreamWriter'}")(
            str(tmp_path / f"{kind}.arrow"), table.schema
        ) as writer:
            writer.write_table(table)
    for name in ("file.arrow", "stream.arrow"):
        panel = read_jsonl(tmp_path / name, "D")
        assert panel.ids == ("a",) and np.array_equal(panel.values[0], [1, np.nan, 3], equal_nan=True)
    (tmp_path / "set" / "train").mkdir(parents=True)
    pq.write_table(table, tmp_path / "set" / "train" / "data.parquet")
    assert read_gluonts(tmp_path / "set", freq="D").ids == ("a",)
    (tmp_path / "x.arrow").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"x\.arrow is damaged, or no Arrow file"):
        read_jsonl(tmp_path / "x.arrow", "D")


def test_objects_with_periods_numpy_and_channels():
    entries = [
        {"start": pd.Period("2024-03", "M"), "target": np.array([1, 2, 3]), "item_id": np.int64(4)},
        {"start": pd.Period("2024-05", "M"), "target": np.ones((2, 3)), "item_id": "joint"},
    ]
    panel = from_gluonts(entries)
    assert panel.ids == (4, "joint/0", "joint/1") and panel.freq == "MS"
    assert panel.starts[1] == pd.Timestamp("2024-05-01") and isinstance(panel.ids[0], int)


BAD = [
    ("{", r"line 2 is no JSON object"),
    ("[1, 2]", r"line 2: expected an object with start and target"),
    ('{"start": "2024-01-01"}', r"line 2 lacks \['target'\]; it has \['start'\]"),
    ('{"start": "soon", "target": [1]}', r"start 'soon' cannot be read as a time"),
    ('{"start": 2024, "target": [1]}', r"start 2024 cannot be read as a time"),
    ('{"start": "2024-01-01", "target": 3}', r"has no list of values, got 3"),
    ('{"start": "2024-01-01", "target": []}', r"has no list of values"),
    ('{"start": "2024-01-01", "target": [1, "two"]}', r"value 2 is 'two', expected a number \(or null"),
    ('{"start": "2024-01-01", "target": [1, true, "NaN"]}', r"value 2 is True"),
    ('{"start": "2024-01-01", "target": [1, Infinity]}', r"is infinite at step 2"),
    ('{"start": "2024-01-01", "target": [null, "NaN"]}', r"has no observed value"),
    ('{"start": "2024-01-01", "target": [1, 36893488147419103232]}', r"integers beyond 2\^53"),
    ('{"start": "2024-01-01", "target": [1, 9223372036854775807]}', r"integers beyond 2\^53"),
    ('{"start": "2024-01-01", "target": [1, [2, 3]]}', r"lists of different lengths"),
]


@pytest.mark.parametrize(("line", "words"), BAD)
def test_bad_lines_are_refused_or_skipped_by_name(tmp_path, line, words):
    good = '{"start": "2024-01-01", "target": [1, null, "NaN", 2], "item_id": "g"}'
    (tmp_path / "x.json").write_text(f"{good}\n{line}\n{good}\n")
    with pytest.raises((ValueError, TypeError), match=words):
        read_jsonl(tmp_path / "x.json", "h")
    with pytest.warns(SkippedData, match=words):
        panel = read_jsonl(tmp_path / "x.json", "h", errors="skip")
    assert panel.ids == ("g", "g") and len(panel.skipped) == 1
    assert np.array_equal(panel.values[0], [1, np.nan, np.nan, 2], equal_nan=True)


def test_bad_sets(tmp_path):
    folder, tar = packed(tmp_path, metadata={"freq": "h"})
    with pytest.raises(ValueError, match="'train' or 'test'"):
        read_gluonts(folder, "valid")
    with pytest.raises(FileNotFoundError, match="no file"):
        read_gluonts(tmp_path / "nowhere")
    tar.write_bytes(tar.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"set\.tar\.gz is damaged, or no tar"):
        read_gluonts(tar)
    (folder / "test" / "data.json").unlink()
    with pytest.raises(ValueError, match=r"set has no test/ with"):
        read_gluonts(folder, "test")
    (folder / "metadata" / "metadata.json").write_text("[]")
    with pytest.raises(ValueError, match="no JSON object"):
        read_gluonts(folder)
    (folder / "metadata" / "metadata.json").write_text("{}")
    with pytest.raises(ValueError, match="does not name its frequency: pass freq="):
        read_gluonts(folder)
    (folder / "metadata" / "metadata.json").unlink()
    with pytest.raises(ValueError, match=r"no GluonTS data set: it has no metadata/metadata\.json"):
        read_gluonts(folder)
    (tmp_path / "x.json.gz").write_bytes(b"no gzip")
    with pytest.raises(ValueError, match="damaged, or no gzip"):
        read_jsonl(tmp_path / "x.json.gz", "h")
    (tmp_path / "e.json.gz").write_bytes(gzip.compress(b""))
    with pytest.raises(ValueError, match="holds no series"):
        read_jsonl(tmp_path / "e.json.gz", "h")
    with pytest.raises(ValueError, match="pass freq="):
        read_jsonl(tmp_path / "e.json.gz")


def test_mixed_zones_and_weekends(tmp_path):
    entries = [{"start": "2024-01-01", "target": [1]}, {"start": "2024-01-01T00:00+01:00", "target": [1]}]
    with pytest.raises(ValueError, match="mixes time zones"):
        from_gluonts(entries, "h")
    entries = [{"start": "2024-01-01", "target": [1]}, {"start": "2024-01-06", "target": [1]}]
    with pytest.raises(ValueError, match="Saturday"):
        from_gluonts(entries, "B")
    with pytest.warns(SkippedData, match="Saturday"):
        assert len(from_gluonts(entries, "B", errors="skip")) == 1
    moved = [{"start": "2024-01-01", "target": [1]}, {"start": "2024-01-17", "target": [1]}]
    with pytest.warns(UserWarning, match="series 1: 2024-01-17 00:00:00 -> 2024-01-01"):
        assert from_gluonts(moved, "MS").starts[1] == pd.Timestamp("2024-01-01")
