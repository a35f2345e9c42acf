"""What the library says, in the words of the command line: errors in one line, warnings on stderr, Ctrl-C as 130."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer

__all__ = ["EXPECTED", "in_flags", "stop", "told"]

#: What bad input and missing packages raise; anything else is a defect of ours and keeps its traceback.
EXPECTED = (ValueError, TypeError, OSError, RuntimeError, ImportError)

#: What messages say to Python users, as patterns, and what it is called here.
_FLAGS: dict[str, str | Callable[[re.Match[str]], str]] = {
    r" \(the paths are in the error's \.forecast\)": "",
    r"pass resume=True": "add --resume",
    r"pass (another )?(freq|start|tz)=": r"give \1--\2",
    r"(name one with|see) (column|tz)=": r"\1 --\2",
    r"""\b(on_violation|errors|regulariser|missing)=['"](\w+)['"]""": lambda m: f"--{m[1].replace('_', '-')} {m[2]}",
    r"(?<!\()\bcovariates=": "--covariates-file",
    r"\bh=": "--horizon ",
    r"\bQuantileGuidance\b(?!\()": "--guidance quantile",
    r"\bMSEGuidance\b(?!\()": "--guidance mse",
    r"\bprediction_length\b": "--horizon",
    r"\bn_windows\b": "--windows",
    r"\b(context_length|num_samples|sampling_steps|max_steps|batch_size|save_every|val_windows|d_state|guidance_scale|"
    r"num_nodes|dropout|step_size|noise_scale|with_ets)\b": lambda match: "--" + match[1].replace("_", "-"),
}


def in_flags(message: str) -> str:
    """A message of the library with its keyword arguments named as the options of this command."""
    for pattern, flag in _FLAGS.items():
        message = re.sub(pattern, flag, message)
    return re.sub(r"(--[a-z-]+)=(?=\S)", r"\1 ", message)


def stop(error: BaseException) -> typer.Exit:
    """Print what is wrong, without a traceback, and give the exit to raise."""
    typer.echo(f"error: {in_flags(str(error)) or type(error).__name__}", err=True)
    return typer.Exit(1)


@contextmanager
def told() -> Iterator[None]:
    """The body of a verb: its errors end the command with one line, its warnings are lines on stderr, each once."""
    said: set[str] = set()
    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        if not issubclass(category, UserWarning | FutureWarning):
            usual(message, category, *rest, **more)
        elif (text := in_flags(str(message))) not in said:
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
            raise stop(error) from error
        except KeyboardInterrupt as error:
            typer.echo("interrupted", err=True)
            raise typer.Exit(130) from error
