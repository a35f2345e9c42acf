"""Long frames on disk: names stay names, numbers come back to the last bit, bad lines are named."""

from __future__ import annotations

import numpy as np
import pytest

pd = pytest.importorskip("pandas")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from scidiffuse.timeseries.data import Panel, SkippedData, load, read_long, to_panel, write_long  # noqa: E402

names = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=6)
finite = st.floats(allow_nan=False, allow_infinity=False)
values = st.lists(st.one_of(finite, st.just(float("nan"))), min_size=1, max_size=8).map(lambda y: [*y, 1.5])


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(names, values, min_size=1, max_size=3), st.sampled_from(["h", "D", "ME"]))
def test_what_is_written_comes_back_to_the_last_bit(tmp_path, suffix, series, freq):
    stamps = [pd.date_range("2024-01-01", periods=1, freq=freq)[0]] * len(series)
    panel = Panel(tuple(series), tuple(stamps), tuple(np.array(y) for y in series.values()), freq)
    back = to_panel(read_long(write_long(panel, tmp_path / f"x{suffix}")), freq)
    assert [str(u) for u in back.ids] == list(panel.ids)
    for a, b in zip(panel.values, back.values, strict=True):
        assert np.array_equal(a, b, equal_nan=True)


def text(tmp_path, content: str, name: str = "x.csv"):
    (tmp_path / name).write_text(content)
    return tmp_path / name


@pytest.mark.parametrize(
    ("ids", "kept"),
    [
        (["007", "010"], ["007", "010"]),
        (["NA", "DE"], ["NA", "DE"]),
        (["7", "10"], [7, 10]),
        (["7", "x"], ["7", "x"]),
        (["-3", "0"], [-3, 0]),
        (["1.0", "2.0"], ["1.0", "2.0"]),
        (["99999999999999999999", "1"], ["99999999999999999999", "1"]),
    ],
)
def test_names_stay_what_they_are(tmp_path, ids, kept):
    path = text(tmp_path, "unique_id,ds,y\n" + "".join(f"{u},2024-01-01,1\n" for u in ids))
    assert read_long(path)["unique_id"].tolist() == kept


def test_missing_cells_and_missing_names(tmp_path):
    path = text(tmp_path, "unique_id,ds,y\na,2024-01-01,1\na,2024-01-02,NA\na,2024-01-03,\na,2024-01-04,null\n")
    assert read_long(path)["y"].isna().tolist() == [False, True, True, True]
    path = text(tmp_path, "unique_id,ds,y\na,2024-01-01,1\n,2024-01-02,2\n")
    with pytest.raises(ValueError, match="1 rows have no unique_id"):
        to_panel(read_long(path), "D")


def test_daylight_saving_survives_a_csv(tmp_path):
    times = pd.date_range("2024-10-26", periods=72, freq="h", tz="Europe/Berlin")
    panel = Panel(("a",), (times[0],), (np.arange(72.0),), "h")
    path = write_long(panel, tmp_path / "x.csv")
    with pytest.raises(ValueError, match=r"tz='Europe/Berlin'"):
        read_long(path)
    back = to_panel(read_long(path, tz="Europe/Berlin"), gaps="error")
    assert (back.times(0) == times).all() and back.values[0].tolist() == list(range(72))
    parquet = write_long(panel, tmp_path / "x.parquet")
    assert (to_panel(load(parquet)).times(0) == times).all()


def test_bad_lines_and_times_are_skipped_and_named(tmp_path):
    path = text(tmp_path, "unique_id,ds,y\na,2024-01-01,1\na,2024-01-02,2,9,9\na,soon,3\na,2024-01-04,4\n")
    with pytest.raises(ValueError, match=r"x\.csv cannot be read as a table: .*line 3"):
        read_long(path)
    with pytest.warns(SkippedData, match=r"x\.csv: left out 2: line 'a,2024-01-02,2,9,9': it has 5 cells.*row 2: col"):
        frame = read_long(path, errors="skip")
    assert frame["y"].tolist() == [1, 4] and frame.index.tolist() == [0, 1]


def test_damaged_files_are_named(tmp_path):
    for name, content in (("x.parquet", b"PAR0"), ("x.csv.gz", b"no gzip")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name):
            read_long(tmp_path / name)


def test_parquet_with_the_columns_in_the_index(tmp_path):
    frame = pd.DataFrame({"unique_id": "a", "ds": pd.date_range("2024-01-01", periods=3), "y": [1.0, 2, 3]})
    frame.set_index(["unique_id", "ds"]).to_parquet(tmp_path / "x.parquet")
    assert read_long(tmp_path / "x.parquet")["y"].tolist() == [1, 2, 3]


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    (tmp_path / "x.csv").write_bytes("unique_id,ds,y\na,2024-01-01,1\n".encode("utf-8-sig"))
    assert list(read_long(tmp_path / "x.csv").columns) == ["unique_id", "ds", "y"]
