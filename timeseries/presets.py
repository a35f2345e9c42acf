"""Settings by frequency and by data set: what TSDiff was published with, and what we take where nothing was published.

============  =======  =======  ====================================================================
frequency     context  horizon  lags
============  =======  =======  ====================================================================
``h``         336      24       1 .. 7, 14, 21 and 28 days                                (published)
``D``, ``B``  360      30       30, 60, .. 360 steps                                      (published)
``15min``     672      96       1 .. 7 days                                                    (ours)
``30min``     336      48       1 .. 7 days                                                    (ours)
``min``       480      60       none                                                           (ours)
``W``         104      13       52                                                             (ours)
``MS, ME``    60       12       12, 24                                                         (ours)
``QS, QE``    32       8        4, 8                                                           (ours)
============  =======  =======  ====================================================================

By data set, from the published configurations: the strength of the quantile guidance and whether the input is added to
the output; M4 looks back 312 hours for 48 ahead, and M4 and Wikipedia have no lags.

A *size* is the width of the network and the state of its layers: ``small`` (32, 64) trains in minutes on two cores,
``medium`` (64, 64), ``paper`` (64, 128). Kollovieh et al., "Predict, Refine, Synthesize", NeurIPS 2023, appendix, and
its configuration files.
"""

from __future__ import annotations

import re
from typing import Any

from .data import canonical_freq

__all__ = ["BY_DATA_SET", "BY_FREQUENCY", "SIZES", "settings"]

SIZES: dict[str, dict[str, int]] = {
    "small": {"channels": 32, "d_state": 64},
    "medium": {"channels": 64, "d_state": 64},
    "paper": {"channels": 64, "d_state": 128},
}

_DAYS = tuple(range(1, 8))

#: frequency -> context, horizon, lags
BY_FREQUENCY: dict[str, tuple[int, int, str | tuple[int, ...] | None]] = {
    "h": (336, 24, "auto"),
    "D": (360, 30, "auto"),
    "B": (360, 30, "auto"),
    "15min": (672, 96, tuple(96 * d for d in _DAYS)),
    "30min": (336, 48, tuple(48 * d for d in _DAYS)),
    "min": (480, 60, None),
    "W": (104, 13, (52,)),
    "MS": (60, 12, (12, 24)),
    "ME": (60, 12, (12, 24)),
    "QS": (32, 8, (4, 8)),
    "QE": (32, 8, (4, 8)),
}

#: published data set -> what differs from its frequency
BY_DATA_SET: dict[str, dict[str, Any]] = {
    "solar_nips": {"freq": "h", "guidance_scale": 8.0},
    "electricity_nips": {"freq": "h", "guidance_scale": 4.0},
    "traffic_nips": {"freq": "h", "guidance_scale": 4.0, "init_skip": True},
    "exchange_rate_nips": {"freq": "B", "guidance_scale": 8.0, "init_skip": True},
    "m4_hourly": {
        "freq": "h",
        "guidance_scale": 2.0,
        "context_length": 312,
        "prediction_length": 48,
        "lags": None,
    },
    "uber_tlc_hourly": {"freq": "h", "guidance_scale": 2.0},
    "kdd_cup_2018_without_missing": {"freq": "h", "prediction_length": 48, "context_length": 312,
                                     "guidance_scale": 1.0, "init_skip": True},
    "wiki2000_nips": {"freq": "D", "guidance_scale": 2.0, "lags": None},
}  # fmt: skip


def settings(name: str, size: str = "small") -> dict[str, Any]:
    """The fields of a :class:`.TSDiffConfig` for a frequency or a published data set.

    Args:
        name: a pandas alias, old or new, or a key of `BY_DATA_SET`. size: a key of `SIZES`.

    Raises:
        ValueError: neither is known, or there is no preset for the frequency; what there is is listed.
    """
    if size not in SIZES:
        raise ValueError(f"size must be one of {', '.join(SIZES)}, got {size!r}")
    change = BY_DATA_SET.get(name, {})
    freq = canonical_freq(str(change.get("freq", name)))
    base = re.sub(r"-.*", "", freq)
    if base not in BY_FREQUENCY:
        raise ValueError(
            f"no preset for the frequency {freq!r}; there are {', '.join(BY_FREQUENCY)} and the data sets "
            f"{', '.join(BY_DATA_SET)}: give context_length and prediction_length yourself"
        )
    context, horizon, lags = BY_FREQUENCY[base]
    out = {"context_length": context, "prediction_length": horizon, "lags": lags} | SIZES[size] | change
    return out | {"freq": freq}
