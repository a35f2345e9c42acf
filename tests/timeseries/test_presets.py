"""Presets: every one makes a configuration, the published ones the published one."""

import pytest

from scidiffuse.timeseries import TSDiffConfig
from scidiffuse.timeseries.presets import BY_DATA_SET, BY_FREQUENCY, SIZES
from scidiffuse.timeseries.tsdiff_config import lags_of


@pytest.mark.parametrize("name", [*BY_FREQUENCY, *BY_DATA_SET])
def test_every_preset_is_a_configuration(name):
    config = TSDiffConfig.preset(name)
    assert config.freq is not None and config.channels == 32
    assert config.context_length >= 4 * config.prediction_length
    assert all(lag >= 1 for lag in lags_of(config))


def test_published_settings():
    hourly, business, m4 = (TSDiffConfig.preset(n, "paper") for n in ("h", "B", "m4_hourly"))
    assert (hourly.context_length, hourly.prediction_length) == (336, 24)
    assert lags_of(hourly) == tuple(24 * d for d in (1, 2, 3, 4, 5, 6, 7, 14, 21, 28))
    assert (business.context_length, business.prediction_length) == (360, 30)
    assert lags_of(business) == tuple(range(30, 361, 30))
    assert (m4.context_length, m4.prediction_length, lags_of(m4), m4.guidance_scale) == (312, 48, (), 2.0)
    assert (m4.channels, m4.d_state) == (64, 128)
    assert TSDiffConfig.preset("exchange_rate_nips").init_skip
    assert set(SIZES) == {"small", "medium", "paper"}


def test_anchored_frequencies_and_changes():
    assert TSDiffConfig.preset("W-MON").context_length == 104
    assert TSDiffConfig.preset("QS-OCT").prediction_length == 8
    assert TSDiffConfig.preset("h", lags=None, context_length=48).length == 72


def test_unknown_names_are_answered_with_what_there_is():
    with pytest.raises(ValueError, match=r"no preset for the frequency .s.; .*m4_hourly"):
        TSDiffConfig.preset("s")
    with pytest.raises(ValueError, match="size must be one of small, medium, paper"):
        TSDiffConfig.preset("h", "huge")
    with pytest.raises(ValueError, match="unknown frequency"):
        TSDiffConfig.preset("fortnight")
