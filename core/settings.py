"""What the settings of all models share: presets by name, and the commonest checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

__all__ = ["Settings", "positive_integers"]


def positive_integers(values: Mapping[str, Any]) -> None:
    """Refuse values, by name, that are no positive integers.

    Raises:
        ValueError: the first that is not.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a positive integer, got {value!r}")


class Settings:
    """Base of the frozen dataclasses that define a model.

    Attributes:
        presets: name -> the settings that differ from the defaults.
    """

    presets: ClassVar[Mapping[str, dict[str, Any]]] = {}

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """Settings by name, one of ``presets``; `changes` are settings that differ.

        Raises:
            ValueError: no such preset; they are listed.
        """
        if name not in cls.presets:
            raise ValueError(f"no preset {name!r}; there are {', '.join(cls.presets)}")
        return cls(**(cls.presets[name] | changes))

    def _positive(self, *names: str) -> None:
        """Refuse settings that are no positive integers."""
        positive_integers({name: getattr(self, name) for name in names})

    def _one_of(self, **allowed: tuple[Any, ...]) -> None:
        """Refuse settings that are none of what they may be."""
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise ValueError(f"{name} must be one of {', '.join(map(repr, values))}, got {getattr(self, name)!r}")
