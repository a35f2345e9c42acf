"""Refuse, or name and go on."""

from __future__ import annotations

import pytest

from scidiffuse.timeseries.data import Skipped, SkippedData
from scidiffuse.timeseries.data.problems import Problems


def test_raise_is_the_default_and_other_errors_pass_through_a_skip():
    with pytest.raises(ValueError, match="bad"), Problems().at("line 1"):
        raise ValueError("bad")
    with pytest.raises(KeyError), Problems("skip").at("line 1"):
        raise KeyError


def test_a_long_list_is_counted():
    problems = Problems("skip", "x.csv")
    for k in range(13):
        with problems.at(f"line {k}"):
            raise TypeError(f"bad cell in line {k}" if k % 2 else "bad cell")
    with pytest.warns(SkippedData, match=r"x\.csv: left out 13: line 0: bad cell; bad cell in line 1; .*; and 3 more$"):
        skipped = problems.done(5)
    assert skipped[0] == Skipped("line 0", "bad cell") and len(skipped) == 13
    with pytest.raises(ValueError, match="nothing is left, 13 bad"):
        problems.done(0)
    assert Problems("skip").done(0) == ()
