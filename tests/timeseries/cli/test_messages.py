"""The library's messages in the words of the command line."""

from __future__ import annotations

import warnings

import pytest
import typer

from scidiffuse.timeseries.cli.messages import in_flags, told


def test_messages_speak_of_flags():
    assert in_flags("pass resume=True, or") == "add --resume, or"
    assert in_flags("pass freq= such as 'h'") == "give --freq such as 'h'"
    assert in_flags("with num_samples=1 every") == "with --num-samples 1 every"
    assert in_flags("up to max_steps=2: Shorten context_length") == "up to --max-steps 2: Shorten --context-length"
    assert in_flags("or use QuantileGuidance; the QuantileGuidance(scale=4)").startswith(
        "or use --guidance quantile; the Q"
    )
    assert in_flags("or ask for on_violation='project', which") == "or ask for --on-violation project, which"
    assert in_flags("satisfy it (the paths are in the error's .forecast)") == "satisfy it"
    assert in_flags("give their values in covariates=, or") == "give their values in --covariates-file, or"
    assert in_flags("train with missing='mixed'") == "train with --missing mixed"
    assert in_flags("holds the forecasts ['a', 'b']: name one with column=").endswith("name one with --column")


def test_warnings_are_lines_each_once(capsys):
    with told():
        for _ in range(3):
            warnings.warn("series 'a': pass another freq=", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == "warning: series 'a': give another --freq\n"


def test_errors_end_with_one_line_and_status_1(capsys):
    with pytest.raises(typer.Exit) as caught, told():
        raise ValueError("h=3")
    assert caught.value.exit_code == 1 and capsys.readouterr().err == "error: --horizon 3\n"
