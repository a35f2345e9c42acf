"""What a wing's command line says: errors in one line, warnings on stderr, Ctrl-C as 130.

The library speaks to Python users (``pass resume=True``); a command line says the same in its own options (``add
--resume``). A wing states its words once, as patterns, and wraps the body of every verb:

>>> from scidiffuse.core.messages import Words
>>> words = Words({r"pass resume=True": "add --resume"})
>>> words.in_flags("pass resume=True, or leave it")
'add --resume, or leave it'
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from .training.interruption import Position

__all__ = ["EXPECTED", "Words", "resumable"]

#: What bad input and missing packages raise; anything else is a defect of ours and keeps its traceback.
EXPECTED = (ValueError, TypeError, OSError, RuntimeError, ImportError)


@dataclass(frozen=True)
class Words:
    """How one wing's command line speaks.

    Arguments:
        flags: Regular expression -> what it is called here, applied in this order.
        code: Exit status of an error.
    """

    flags: Mapping[str, str | Callable[[re.Match[str]], str]] = field(default_factory=dict)
    code: int = 1

    def in_flags(self, message: str) -> str:
        """A message of the library with its keyword arguments named as the options of the command."""
        for pattern, flag in self.flags.items():
            message = re.sub(pattern, flag, message)
        return re.sub(r"(--[a-z-]+)=(?=\S)", r"\1 ", message)

    def stop(self, error: BaseException) -> typer.Exit:
        """Print what is wrong, without a traceback, and give the exit to raise."""
        typer.echo(f"error: {self.in_flags(str(error)) or type(error).__name__}", err=True)
        return typer.Exit(self.code)

    @contextmanager
    def told(self) -> Iterator[None]:
        """The body of a verb: its errors end the command with one line, its warnings are lines on stderr, each once."""
        said: set[str] = set()
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            if not issubclass(category, UserWarning | FutureWarning):
                usual(message, category, *rest, **more)
            elif (text := self.in_flags(str(message))) not in said:
                said.add(text)
                typer.echo(f"warning: {text}", err=True)

        with warnings.catch_warnings():
            warnings.filterwarnings("always", category=UserWarning)
            warnings.showwarning = show
            try:
                yield
            except typer.Exit:  # a RuntimeError by descent
                raise
            except EXPECTED as error:
                if isinstance(error, ImportError) and "pip install" not in str(error):
                    raise  # a missing extra names its remedy; anything else is our defect
                raise self.stop(error) from error
            except KeyboardInterrupt as error:
                typer.echo("interrupted", err=True)
                raise typer.Exit(130) from error


@contextmanager
def resumable(folder: Path) -> Iterator[Position]:
    """Wrap a training in `folder`: Ctrl-C says which steps were reached and saved, and exits with 130.

    Yields:
        the position, whose callbacks the training is given.
    """
    from .training.interruption import Position, interrupted, saved_step

    at = Position(saved_step(folder))
    try:
        yield at
    except (KeyboardInterrupt, SystemExit) as error:
        if not interrupted(error):
            raise
        saved = saved_step(folder)
        last = "no checkpoint yet" if saved is None else f"last checkpoint {saved}; continue with --resume"
        typer.echo(f"interrupted at step {at.step or at.before or 0}; {last}", err=True)
        raise typer.Exit(130) from error
