"""Panels: the wide form, rows, tails."""

from __future__ import annotations

import numpy as np
import pytest

pd = pytest.importorskip("pandas")

from scidiffuse.timeseries.data import Panel, from_wide, to_panel  # noqa: E402


def panel() -> Panel:
    stamps = (pd.Timestamp("2024-01-01"), pd.Timestamp("2024-01-03"))
    return Panel(("a", "b"), stamps, (np.arange(5.0), np.array([1.0, np.nan, 3.0])), "D")


def test_wide_and_back():
    wide = panel().to_wide()
    assert wide.shape == (5, 2) and wide.index.name == "ds"
    assert np.array_equal(wide["b"], [np.nan, np.nan, 1, np.nan, 3], equal_nan=True)
    back = to_panel(from_wide(wide), "D")
    assert back.starts == panel().starts
    assert all(np.array_equal(x, y, equal_nan=True) for x, y in zip(back.values, panel().values, strict=True))


def test_rows_longest_tail():
    twice = Panel(("a", "b", "a"), (*panel().starts, panel().starts[0]), (*panel().values, np.arange(9.0)), "D")
    with pytest.raises(ValueError, match="series 'a' comes more than once"):
        twice.to_wide()
    assert [len(v) for v in twice.longest().values] == [9, 3]
    last = twice.tail(4)
    assert last.starts[0] == pd.Timestamp("2024-01-02") and last.values[0].tolist() == [1, 2, 3, 4]
    assert last.starts[1] == panel().starts[1] and len(last.values[1]) == 3
    assert last.end(2) == twice.end(2)
    with pytest.raises(ValueError, match="at least 1"):
        twice.tail(0)
