"""scidiffuse: diffusion models for scientists.

One sentence describes everything in this package: *a schedule corrupts data, a denoiser predicts the data back, a
sampler walks from noise to data along a grid of times, guidance changes what the denoiser says, steering weighs many
walkers on the way.* The ``core`` sub-package knows that sentence and no scientific field; six wings (``medical``,
``molecules``, ``audio``, ``motion``, ``timeseries``, ``robotics``) each know one field.

Importing the package loads none of them: a sub-package is imported when it is named, ``scidiffuse.timeseries`` or
``from scidiffuse import timeseries``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

WINGS: tuple[str, ...] = ("medical", "molecules", "audio", "motion", "timeseries", "robotics")
"""The six wings, in the order in which the README, the command line and the demo page list them."""

__all__ = ["WINGS", "__version__", "audio", "core", "medical", "molecules", "motion", "robotics", "timeseries"]


def __getattr__(name: str) -> ModuleType:
    if name == "core" or name in WINGS:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has core and the wings {', '.join(WINGS)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _unbuilt(module: str) -> Callable[[str], Any]:
    """The module-level ``__getattr__`` of a wing that is not built yet.

    Whatever public name is asked of the wing raises `NotImplementedError`; names with a leading underscore raise
    `AttributeError`, as Python's own machinery expects of names that it merely probes.
    """

    def __getattr__(name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        raise NotImplementedError(
            f"{module}.{name}: the wing {module.rpartition('.')[2]!r} is not built yet; this version of scidiffuse "
            "holds only its place. The table of wings in the README says what works."
        )

    return __getattr__
