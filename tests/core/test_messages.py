"""What a command line says: the library's messages in its words, errors in one line, warnings once."""

from __future__ import annotations

import warnings

import pytest
import typer

from scidiffuse.core.messages import Words

WORDS = Words({r"pass resume=True": "add --resume", r"\bh=": "--horizon=", r"\b(max_steps)\b": r"--\1"}, code=2)


def test_patterns_apply_in_order_and_options_take_a_space():
    assert WORDS.in_flags("pass resume=True, or h=3") == "add --resume, or --horizon 3"
    assert Words({"a": "b", "b": "c"}).in_flags("a") == "c"
    assert Words().in_flags("h=3") == "h=3"


def test_warnings_are_lines_each_once(capsys):
    with WORDS.told():
        for _ in range(3):
            warnings.warn("h=3", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == "warning: --horizon 3\n"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ValueError("h=3"), 2, "error: --horizon 3\n"),
        (ImportError('needs pandas: pip install "scidiffuse[x]"'), 2, "error: needs pandas: pip install"),
        (PermissionError(13, "Permission denied", "/x"), 2, "error: [Errno 13] Permission denied: '/x'"),
        (RuntimeError(), 2, "error: RuntimeError\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_errors_end_with_one_line_and_the_code_of_the_words(capsys, error, code, line):
    with pytest.raises(typer.Exit) as caught, WORDS.told():
        raise error
    assert caught.value.exit_code == code and capsys.readouterr().err.startswith(line)


@pytest.mark.parametrize("error", [KeyError("x"), ImportError("cannot import name 'y'"), AssertionError()])
def test_defects_keep_their_traceback(error):
    with pytest.raises(type(error)), WORDS.told():
        raise error


def test_an_exit_passes_with_its_own_code():
    with pytest.raises(typer.Exit) as caught, WORDS.told():
        raise typer.Exit(130)
    assert caught.value.exit_code == 130
