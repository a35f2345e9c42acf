"""Old aliases, multipliers of one, and what was there before: see also ``tests/timeseries/test_data.py``."""

from __future__ import annotations

import warnings

import pytest

pd = pytest.importorskip("pandas")

from scidiffuse.timeseries.data import canonical_freq, season_length  # noqa: E402
from scidiffuse.timeseries.data.frequencies import freq_words  # noqa: E402


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("H", "h"), ("1H", "h"), ("T", "min"), ("5T", "5min"), ("M", "ME"), ("12M", "12ME"), ("Q", "QE-DEC"),
        ("A", "YE-DEC"), ("Y", "YE-DEC"), ("A-JUN", "YE-JUN"), ("d", "D"), ("b", "B"), ("4S", "4s"),
    ],
)  # fmt: skip
def test_legacy_aliases(old, new):
    with pytest.warns(FutureWarning, match=rf"'{old}' (is deprecated|was removed) in pandas 3; reading it as"):
        assert canonical_freq(old) == new


@pytest.mark.parametrize(("given", "plain"), [("1B", "B"), ("1h", "h"), ("01D", "D"), ("B", "B"), ("10min", "10min")])
def test_a_multiplier_of_one_is_none(given, plain):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert canonical_freq(given) == plain
    assert season_length(given) == season_length(plain)


@pytest.mark.parametrize(("word", "alias"), [("hourly", "h"), ("Days", "D"), ("monthly", "MS"), ("minutes", "min")])
def test_words_are_told_the_alias(word, alias):
    with pytest.raises(ValueError, match=rf"unknown frequency '{word}'; did you mean '{alias}'\?: expected a pandas"):
        canonical_freq(word)


def test_words():
    assert freq_words("B") == "of business days ('B')"
    assert freq_words("3ME") == "every 3 months ('3ME')"
    assert freq_words("bh") == "of step 'bh'"
