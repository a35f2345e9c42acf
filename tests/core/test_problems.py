"""Refuse, or name and go on."""

from __future__ import annotations

import pytest

from scidiffuse.core.problems import Problems, Skipped, SkippedData


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
        skipped = problems.done(5, counted=False)
    assert skipped[0] == Skipped("line 0", "bad cell") and len(skipped) == 13
    with pytest.raises(ValueError, match="nothing is left, 13 bad"):
        problems.done(0)
    with pytest.raises(ValueError, match=r"x\.csv holds no entry"):
        Problems("skip", "x.csv").done(0)
    with pytest.warns(SkippedData, match="left out 13 of 18: line 0"):
        problems.done(5)


def test_an_error_is_raised_with_its_place():
    text = r"^x\.csv, line 1: bad \(errors='skip' leaves such entries out and names them\)$"
    with pytest.raises(ValueError, match=text), Problems(source="x.csv").at("line 1"):
        raise ValueError("bad")
    with pytest.raises(TypeError, match=r"^bad cell in line 1$"), Problems(source="x.csv").at("line 1"):
        raise TypeError("bad cell in line 1")
