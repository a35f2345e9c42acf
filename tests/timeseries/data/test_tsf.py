"""Monash files."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

pd = pytest.importorskip("pandas")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from scidiffuse.timeseries.data import SkippedData, load, read_tsf, tsf_header  # noqa: E402
from scidiffuse.timeseries.data.tsf import FREQUENCIES  # noqa: E402

HEADER = """# Dataset: a sample
# of its comments
@relation sample
@attribute series_name string
@attribute state string
@attribute start_timestamp date
@frequency {freq}
@horizon 12
@missing true
@equallength false
@data
"""


def put(tmp_path, lines: str, freq: str = "hourly", header: str = HEADER):
    (tmp_path / "x.tsf").write_text(header.replace("{freq}", freq) + lines)
    return tmp_path / "x.tsf"


def test_attributes_times_and_missing_values(tmp_path):
    path = put(tmp_path, "T1:NSW:2024-01-01 00-30-00:1,2,?,4.5\nT2:VIC:2023-12-31 00-00-00:7\n")
    panel = read_tsf(path)
    assert panel.ids == ("T1", "T2") and panel.freq == "h"
    assert panel.starts == (pd.Timestamp("2024-01-01 00:30"), pd.Timestamp("2023-12-31"))
    assert np.array_equal(panel.values[0], [1, 2, np.nan, 4.5], equal_nan=True)
    assert tsf_header(path)["horizon"] == 12 and tsf_header(path)["missing"] == "true"
    assert len(load(path)) == 5
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.write(path, "x.tsf")
    assert read_tsf(tmp_path / "x.zip").ids == panel.ids


@pytest.mark.parametrize("word", sorted(FREQUENCIES))
def test_every_word_of_the_archive_is_a_frequency(tmp_path, word):
    panel = read_tsf(put(tmp_path, "T1:x:1979-01-01 00-00-00:1,2\n", word))
    assert panel.times(0)[0] == pd.Timestamp("1979-01-01") and len(panel.times(0)) == 2


def test_without_names_or_dates(tmp_path):
    panel = read_tsf(put(tmp_path, "1,2\n3\n", header="@frequency daily\n@data\n"))
    assert panel.ids == (0, 1) and panel.starts[0] == pd.Timestamp("1750-01-01")
    assert tsf_header(tmp_path / "x.tsf")["horizon"] is None


names = st.text(
    st.characters(codec="ascii", exclude_categories=("Cc",), exclude_characters=":"), min_size=1, max_size=5
)
cells = st.lists(st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.none()), max_size=6)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(names.filter(lambda n: n.strip() == n and not n.startswith("#")), cells, min_size=1, max_size=3))
def test_what_was_written_is_read(tmp_path, series):
    lines = [
        f"{u}:x:2024-01-01 00-00-00:" + ",".join(["1.5", *("?" if v is None else repr(v) for v in y)])
        for u, y in series.items()
    ]
    panel = read_tsf(put(tmp_path, "\n".join(lines)))
    assert panel.ids == tuple(series)
    for y, v in zip(series.values(), panel.values, strict=True):
        assert np.array_equal(v, [1.5, *(np.nan if k is None else k for k in y)], equal_nan=True)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("T2:2024-01-01 00-00-00:1,2", r"line 13 has 3 parts between colons, expected 4 \(series_name, state, start"),
        ("T2:x:soon:1,2", r"line 13: start 'soon' cannot be read"),
        ("T2:x:2024-01-01 00-00-00:1,two", r"line 13: value 2 is 'two', expected a number"),
        ("T2:x:2024-01-01 00-00-00:?,?", "series 'T2' has no observed value"),
    ],
)
def test_bad_lines(tmp_path, line, words):
    path = put(tmp_path, f"T1:x:2024-01-01 00-00-00:1,2\n{line}\nT3:x:2024-01-01 00-00-00:1\n")
    with pytest.raises((ValueError, TypeError), match=words):
        read_tsf(path)
    with pytest.warns(SkippedData, match=words):
        assert read_tsf(path, errors="skip").ids == ("T1", "T3")


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("@frequency fortnightly\n@data\n", r"has @frequency 'fortnightly', known are .*pass freq="),
        ("@data\n", "names no @frequency: pass freq="),
        ("@frequency daily\n", "has no @data line"),
        ("@attribute a\n@data\n", r"line 1: expected '@attribute <name> <string\|numeric\|date>'"),
        ("series,of,something\n@data\n", r"line 1: expected '@<word> <value>'"),
        ("@frequency daily\n@data\n", "holds no series"),
    ],
)
def test_bad_headers(tmp_path, header, words):
    lines = "" if "holds" in words else "1,2\n"
    with pytest.raises(ValueError, match=words):
        read_tsf(put(tmp_path, "" if "no @data" in words else lines, header=header))


def test_bad_archives(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"no zip")
    with pytest.raises(ValueError, match="damaged, or no zip"):
        read_tsf(tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("x.txt", "")
    with pytest.raises(ValueError, match=r"no \.tsf file, expected one"):
        read_tsf(tmp_path / "x.zip")
