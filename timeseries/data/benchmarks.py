r"""The data sets of published tables, built exactly as GluonTS builds them.

A :class:`Benchmark` is a training panel, a test panel whose rows are (window, series), windows in the outer loop, and a
horizon H: each test row is scored on its last H values, forecast from what is before.

``exchange_rate_nips``
    Eight exchange rates, business days from 1990-01-01. The published tar, as it is: training series of 6071 values,
    H = 30, 5 rolling windows, so 40 test rows of 6101, 6131, ..., 6221 values. (It is LSTNet's ``exchange_rate.txt``
    under :func:`rolling_benchmark`: the training part ends with index int(0.8 n) of the n = 7588 days.)

``m4_hourly``
    The 414 hourly series of the M4 competition, which have no dates: all start on 1750-01-01. Training series of 700 or
    960 values, H = 48, one window: the test row is the training series with the 48 values of the test file behind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...core.files import existing
from .files import is_tar
from .gluonts import gluonts_metadata, read_gluonts
from .m4 import m4_pair, read_m4
from .panel import Panel

__all__ = ["BENCHMARKS", "Benchmark", "benchmark", "read_benchmark", "rolling_benchmark"]


@dataclass(frozen=True)
class Benchmark:
    """Training series, test rows, horizon.

    Attributes:
        name: of the data set. train: what a model may learn from.
        test: rows (window, series), windows in the outer loop, each with its horizon at the end.
        horizon: H, steps.
    """

    name: str
    train: Panel
    test: Panel
    horizon: int

    def __post_init__(self) -> None:
        short = [(u, len(v)) for u, v in zip(self.test.ids, self.test.values, strict=True) if len(v) <= self.horizon]
        if self.horizon < 1 or short:
            raise ValueError(
                f"{self.name}: horizon {self.horizon} leaves no history in {len(short)} test rows, first "
                f"{short[:1]}; expected 1 <= horizon < length"
            )

    @property
    def windows(self) -> int:
        """Test rows a series."""
        return len(self.test) // len(set(self.test.ids))

    @property
    def history(self) -> Panel:
        """The test rows without their horizons: what a forecast is made from."""
        values = tuple(v[: -self.horizon] for v in self.test.values)
        return Panel(self.test.ids, self.test.starts, values, self.test.freq)

    @property
    def actual(self) -> np.ndarray:
        """The horizons, float64 (rows, H)."""
        return np.stack([v[-self.horizon :] for v in self.test.values])

    @property
    def series(self) -> Panel:
        """Every series once, as long as the files have it."""
        return self.test.longest()


def rolling_benchmark(
    series: Panel,
    horizon: int,
    windows: int,
    *,
    train_length: int | None = None,
    share: float = 0.8,
    name: str = "rolling",
) -> Benchmark:
    """GluonTS's construction for the LSTNet files.

    The training part ends with index int(share n) of the common n steps (so it has int(share n) + 1 values); test row
    (w, i) has the training part of series i and (w + 1) H values behind.

    Args:
        series: equally long, of one start. horizon: H. windows: how many.
        train_length: values of a training series, instead of the share.
        share: of the steps. name: of the result.

    Raises:
        ValueError: series of different length or start, or too short (what is needed is said).
    """
    n = len(series.values[0])
    if len({len(v) for v in series.values}) > 1 or len(set(series.starts)) > 1:
        raise ValueError("this construction needs series of one start and one length")
    cut = int(n * share) + 1 if train_length is None else train_length
    if horizon < 1 or windows < 1 or cut < 1 or cut + windows * horizon > n:
        raise ValueError(
            f"{windows} windows of {horizon} behind {cut} training steps need {cut + windows * horizon} steps, the "
            f"series have {n}"
        )
    train = Panel(series.ids, series.starts, tuple(v[:cut] for v in series.values), series.freq)
    test = Panel(
        series.ids * windows,
        series.starts * windows,
        tuple(v[: cut + (w + 1) * horizon] for w in range(windows) for v in series.values),
        series.freq,
    )
    return Benchmark(name, train, test, horizon)


def _m4(folder: Path, group: str | None = None) -> Benchmark:
    train, test, _ = m4_pair(folder, group)
    if test is None:
        raise ValueError(f"{folder.name} has {train.name} and no {train.name.replace('-train', '-test')}")
    past, whole = read_m4(train), read_m4(train, test)
    lengths = {len(b) - len(a) for a, b in zip(past.values, whole.values, strict=True)}
    if len(lengths) > 1:
        raise ValueError(f"{test.name}: horizons of different length {sorted(lengths)}")
    return Benchmark(f"m4_{train.name.split('-')[0].lower()}", past, whole, lengths.pop())


def _gluonts(path: Path, horizon: int | None = None, name: str | None = None) -> Benchmark:
    metadata = gluonts_metadata(path)
    train, test = read_gluonts(path, "train"), read_gluonts(path, "test")
    horizon = metadata["prediction_length"] if horizon is None else horizon
    if horizon is None:  # older files do not say it: the first window has it behind the training series
        horizon = len(test.values[0]) - len(train.values[0])
    return Benchmark(name or path.name.split(".")[0], train, test, int(horizon))


#: Named benchmarks -> how they are built from the folder of their registered files.
BENCHMARKS: dict[str, Callable[[Path], Benchmark]] = {
    "exchange_rate_nips": lambda folder: _gluonts(folder / "exchange_rate_nips.tar.gz", 30),
    "m4_hourly": lambda folder: _m4(folder, "Hourly"),
}


def benchmark(name: str) -> Benchmark:
    """A named benchmark: ``"exchange_rate_nips"`` or ``"m4_hourly"``.

    Its files are looked for in ``$SCIDIFFUSE_DATA``, then in the cache, then downloaded; their SHA-256 is checked.

    Raises:
        ValueError: an unknown name, or files that are not the published ones.
        ConnectionError: they are nowhere and cannot be downloaded; the message says how to supply them.
    """
    if name not in BENCHMARKS:
        raise ValueError(f"no benchmark is named {name!r}; there are {sorted(BENCHMARKS)}. read_benchmark reads a path")
    return BENCHMARKS[name](files_of(name))


def files_of(name: str) -> Path:
    """The folder of a registered data set."""
    from ...core.datasets import locate
    from .. import registry

    return locate(registry.DATASETS[name].name)


def read_benchmark(path: str | Path, horizon: int | None = None) -> Benchmark:
    """A benchmark from a GluonTS folder or tar with both splits, or from a folder with an M4 pair of csv files.

    Args:
        path: where it is. horizon: H; by default that of the metadata, else how much longer the first test row is.

    Raises:
        FileNotFoundError: nothing there. ValueError: neither layout, or no horizon is left.
    """
    path = existing(path)
    if path.is_dir() and any(path.glob("*-train.csv")):
        return _m4(path)
    if path.is_dir() or is_tar(path):
        return _gluonts(path, horizon)
    raise ValueError(f"{path.name}: expected a GluonTS folder or tar, or a folder with Hourly-train.csv and its test")
