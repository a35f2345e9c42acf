"""Rewards by name, or the user's own, asked so that a bad answer names who gave it."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["LOWEST", "OWN", "Reward", "reward_of"]

#: Reward of what is no molecule unless the user says otherwise: below that of any molecule, and finite, as steering
#: needs it.
LOWEST = -1e9
OWN = {"qed": "qed", "logp": "logp", "sa": "sa_score", "weight": "weight"}
_ASKED = "it is asked about one RDKit molecule at a time, or a sequence as text, or a graph as an array of 0 and 1"


@dataclass(frozen=True)
class Reward:
    """A property as a reward: larger is better.

    Attributes:
        name: as the user gave it. function: of a sample. minimise: less of the property is better.
    """

    name: str
    function: Callable[[Any], Any]
    minimise: bool = False

    @property
    def sign(self) -> float:
        return -1.0 if self.minimise else 1.0

    @property
    def label(self) -> str:
        """Of an axis."""
        from ..plots import PROPERTIES

        text = PROPERTIES[self.name][1] if self.name in PROPERTIES else self.name
        return f"{text}, minimised" if self.minimise else text

    def value(self, sample: Any) -> float:
        """The property of a sample, as the function gives it.

        Raises:
            ValueError: the function failed, or gave no number; it names the reward and the sample.
        """
        try:
            answer = self.function(sample)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            raise ValueError(
                f"the reward {self.name} failed for {_words(sample)}: {type(error).__name__}: {error} "
                f"({Path(last.filename).name}, line {last.lineno}); {_ASKED}"
            ) from error
        try:
            return float(answer)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"the reward {self.name} gave {answer!r} for {_words(sample)}, expected a number; {_ASKED}"
            ) from error

    def __call__(self, sample: Any) -> float:
        return self.sign * self.value(sample)


def reward_of(name: str, minimise: bool = False) -> Reward:
    """One of this package's properties, in capitals or not, or the user's ``module:function``.

    Raises:
        ValueError: neither, or nothing that can be called. ImportError: from the user's module.
    """
    if name.lower() in OWN:
        from .. import chem

        return Reward(name.lower(), getattr(chem, OWN[name.lower()]), minimise)
    module, colon, attribute = name.partition(":")
    if not colon or not module or not attribute:
        raise ValueError(f"REWARD {name}: expected {', '.join(OWN)}, or module:function")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        function = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name != module.split(".")[0] and error.name != module:
            raise
        raise ValueError(f"REWARD {name}: no module {module!r} here or among what is installed") from error
    except AttributeError as error:
        raise ValueError(f"REWARD {name}: {module} has no {attribute!r}") from error
    if not callable(function):
        raise ValueError(f"REWARD {name}: {attribute} is no function")
    return Reward(name, function, minimise)


def _words(sample: Any) -> str:
    """A sample in a message."""
    if isinstance(sample, str):
        return sample if len(sample) <= 40 else sample[:40] + "..."
    if isinstance(sample, np.ndarray):
        return f"a graph of {len(sample)} nodes"
    from ..chem import canonical

    return canonical(sample) or "a molecule"
