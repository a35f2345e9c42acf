"""The grammar of --steer, word by word, and errors that show it."""

from __future__ import annotations

import numpy as np
import pytest

from scidiffuse.timeseries import Bounds, Capacity, NonNegative, Scenario, Total
from scidiffuse.timeseries.cli.steer import GRAMMAR, constraint

IDS = ("a", "b", 7)
ROWS = np.arange(3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("non-negative", NonNegative()),
        ("capacity=100", Capacity(100.0)),
        ("upper = 1e2", Capacity(100.0)),
        ("lower=-3.5", Bounds(lower=-3.5)),
        ("total>=480", Total(at_least=480.0)),
        ("total <= 4.8e2", Total(at_most=480.0)),
        ("total>=-480/7", Total(at_least=-480.0, window=7)),
    ],
)
def test_what_a_word_stands_for(text, expected):
    found = constraint(text)
    assert type(found) is type(expected) and found.label == expected.label
    y = np.random.default_rng(0).normal(size=(3, 14)) * 100
    assert np.array_equal(found.margins(y, ROWS, IDS), expected.margins(y, ROWS, IDS))


def test_a_total_of_several_series_sums_them_and_nothing_else():
    y = np.arange(24.0).reshape(2, 3, 4)
    found = constraint("total(a, 7)>=30")
    assert isinstance(found, Scenario) and found.joint and found.label == "30 <= total(a,7)"
    assert found.margins(y, ROWS, IDS)[:, 0].tolist() == [v[[0, 2]].sum() - 30 for v in y]
    spaced = constraint(" total (a, 7) >= 30 ")
    assert spaced.label == found.label and np.array_equal(spaced.margins(y, ROWS, IDS), found.margins(y, ROWS, IDS))
    assert constraint("total(a)<=30").margins(y, ROWS, IDS)[:, 0].tolist() == [30 - v[0].sum() for v in y]
    with pytest.raises(ValueError, match=r"no series \['c'\]; there are \['a', 'b', '7'\]"):
        constraint("total(a,c)>=30").margins(y, ROWS, IDS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonnegative", "expected"),
        ("total", "quote it"),
        ("total>=much", "'much' is no number"),
        ("upper=nan", "'nan' is not finite"),
        ("total>=1/0", "'0' is no number of steps"),
        ("total>=1/2.5", "'2.5' is no number of steps"),
        ("total(a,b)>=3/7", "whole horizon"),
        ("total>5", "expected"),
        ("upper<=5", "expected"),
        ("", "expected"),
    ],
)
def test_everything_else_is_refused_with_the_grammar(text, words):
    with pytest.raises(ValueError, match="expected") as caught:
        constraint(text)
    assert words in str(caught.value) and GRAMMAR in str(caught.value) and repr(text) in str(caught.value)
