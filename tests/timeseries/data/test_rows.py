"""Lists of numbers, as files have them."""

from __future__ import annotations

import numpy as np
import pytest

pd = pytest.importorskip("pandas")
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from scidiffuse.timeseries.data.rows import stamp, values_of  # noqa: E402


@given(st.lists(st.one_of(st.floats(), st.none(), st.sampled_from(["NaN", "?", "NA", "null", ""])), min_size=1))
def test_every_word_for_missing_is_nan_and_every_number_itself(target):
    expected = [v if isinstance(v, float) else np.nan for v in target]
    assert np.array_equal(values_of(target, "x"), expected, equal_nan=True)


def test_largest_integers():
    assert values_of([2**53, -(2**53)], "x").tolist() == [2.0**53, -(2.0**53)]
    for bad in ([2**53 + 2, 0], [-(2**70), 1], [2**63, None]):
        with pytest.raises(ValueError, match=r"2\^53"):
            values_of(bad, "x")


def test_stamps():
    assert stamp(pd.Period("2024-03", "M"), "x") == pd.Timestamp("2024-03-01")
    assert stamp(np.datetime64("2024-03-01"), "x") == pd.Timestamp("2024-03-01")
    for bad in (None, True, 3.0, "soon", pd.NaT, []):
        with pytest.raises(ValueError, match="cannot be read as a time"):
            stamp(bad, "x")
