"""Hidden contexts: how many steps, which ones, and nothing else."""

import numpy as np
import pandas as pd
import pytest

from scidiffuse.timeseries.data import Panel
from scidiffuse.timeseries.missing import hidden, hide


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_blocks_are_where_they_are_said_to_be(share):
    begin, end = hidden(8, "begin", share), hidden(8, "end", share)
    count = round(8 * share)
    assert begin.tolist() == [True] * count + [False] * (8 - count)
    assert end.tolist() == begin.tolist()[::-1]
    assert hidden(8, "BM-B", share).tolist() == begin.tolist()
    assert hidden(8, "BM-E", share).tolist() == end.tolist()


def test_random_steps_are_spread_evenly():
    rng = np.random.default_rng(0)
    total = sum(hidden(20, "RM", 0.5, rng).astype(int) for _ in range(4000))
    assert total.sum() == 4000 * 10
    assert np.abs(total / 4000 - 0.5).max() < 5 * 0.5 / 4000**0.5


def test_only_the_context_is_touched_and_rows_differ():
    y = np.arange(30.0)
    panel = Panel(("a", "b", "c"), (pd.Timestamp("2020-01-01"),) * 3, (y, y, y[:5]), "h")
    out = hide(panel, 10, "random", 0.5, seed=3)
    for before, after in zip(panel.values, out.values, strict=True):
        assert np.array_equal(before[:-10], after[:-10])
        seen = ~np.isnan(after)
        assert np.array_equal(before[seen], after[seen])
    assert [int(np.isnan(v).sum()) for v in out.values] == [5, 5, 2]
    assert not np.array_equal(np.isnan(out.values[0]), np.isnan(out.values[1]))
    again = hide(panel, 10, "random", 0.5, seed=3)
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(out.values, again.values, strict=True))
    assert np.isfinite(y).all()


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match="'begin' \\(BM-B\\)"):
        hidden(8, "middle")
    with pytest.raises(ValueError, match="share must lie in"):
        hidden(8, "begin", 1.5)
    with pytest.raises(ValueError, match="rng="):
        hidden(8, "random")
