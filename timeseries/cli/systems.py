"""Models from options: a preset, and single settings that override it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from .options import given

__all__ = ["PRESETS", "lags_of", "names_of", "untrained"]

#: Words for presets -> the frequency alias they stand for; an alias or the name of a published data set is taken, too.
PRESETS = {
    "hourly": "h",
    "daily": "D",
    "business": "B",
    "weekly": "W",
    "monthly": "MS",
    "quarterly": "QS",
    "minutely": "min",
}


def lags_of(text: str) -> str | tuple[int, ...] | None:
    """``none``, ``auto`` or ``24,168``."""
    if text in ("none", ""):
        return None
    if text == "auto":
        return text
    try:
        return tuple(int(k) for k in text.split(","))
    except ValueError:
        raise ValueError(f"--lags is 'none', 'auto' or numbers like '24,168', got {text!r}") from None


def names_of(text: str | None) -> tuple[str, ...] | None:
    """``a,b`` as names; None where nothing was given."""
    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise ValueError(f"--covariates are column names like 'price,holiday', got {text!r}")
    return names


def untrained(name: str, preset: str | None, size: str | None, lags: str | None, **options: Any) -> Any:
    """A model to be trained.

    Args:
        name: of the system. preset, size: of :mod:`..presets`. lags: as :func:`lags_of` reads them.
        options: fields of the system's configuration; None where the preset or the default decides.

    Raises:
        ValueError: a setting that the system does not have, a preset that does not exist, a size without a preset, or a
            setting out of range.
    """
    from ..models import system

    cls = system(name)
    known = {f.name for f in fields(cls.config_class)}
    chosen = given(**options)
    words = {"prediction_length": "--horizon"}
    foreign = [words.get(k, f"--{k.replace('_', '-')}") for k in chosen if k not in known]
    foreign += ["--lags"] if lags is not None and "lags" not in known else []
    if foreign:
        raise ValueError(f"--system {name} has no {', '.join(foreign)}: leave out what it does not take")
    if lags is not None:
        chosen["lags"] = lags_of(lags)
    if preset is None:
        if size is not None:
            raise ValueError(f"--size {size} is that of a preset: give --preset too, or --channels")
        return cls(**chosen)
    try:
        return cls(cls.config_class.preset(PRESETS.get(preset, preset), size or "small", **chosen))
    except ValueError as error:
        lacking = "no preset" in str(error) or "unknown" in str(error)
        hint = f"; or one of the words {', '.join(PRESETS)}" if lacking else ""
        raise ValueError(f"--preset {preset}: {error}{hint}") from error
