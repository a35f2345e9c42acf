"""The demonstration page: one function a wing, one HTML file for all.

A wing takes part by having a module ``demo.py`` with one function,

    ``demo(folder: Path) -> Section``

which runs the wing's main job on real data that its extra installs, in under a minute on two cores, writes its pictures
into ``folder`` (which exists and is the wing's own) and says what came out: a title, a few sentences, the pictures, a
table with the model and the simplest baselines side by side, and the commands that do the same by hand. `build` runs
those functions one after another, prints each table, and writes ``index.html`` with everything inside (pictures as
``data:`` URIs), so that the file can be mailed. A wing that fails is named on the page and in `Page.failed`; the others
are still shown.
"""

from __future__ import annotations

import base64
import html
import mimetypes
import os
import platform
import sys
import tempfile
import textwrap
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from .. import __version__

__all__ = ["Page", "Section", "build", "table"]

Metrics = Mapping[str, Mapping[str, float | str]]


@dataclass(frozen=True)
class Section:
    """What one wing shows.

    Arguments:
        title: Heading, plain text.
        summary: Plain text; a blank line starts a new paragraph. Says which data, which model, how to read the table.
        figures: PNG, JPEG or SVG files.
        captions: One plain-text line a figure, in the same order; may be shorter than `figures`.
        metrics: ``{row: {column: value}}``, rows being the model and its baselines, columns named as the metric's
            definition (``wql_gluonts``), so that a number never stands without its protocol.
        commands: Shell lines that do the same by hand.
        seconds: Wall-clock time; `build` fills it in.
    """

    title: str
    summary: str
    figures: Sequence[Path] = ()
    captions: Sequence[str] = ()
    metrics: Metrics = field(default_factory=dict)
    commands: Sequence[str] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Page:
    """What `build` made: the file, the sections that ran, and the error message of each that did not."""

    path: Path
    sections: Mapping[str, Section]
    failed: Mapping[str, str]


def build(folder: str | Path, wings: Mapping[str, Callable[[Path], Section]]) -> Page:
    """Run the demonstrations and write ``folder/index.html``.

    Arguments:
        folder: Made if absent. A wing's own files go to ``folder/<wing>``.
        wings: ``{name: demo}``, run in this order.

    The page replaces an older one in a single step, and only when it is complete. Errors of a wing are caught, printed
    to stderr with their traceback, and named on the page; `KeyboardInterrupt` is not caught.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sections: dict[str, Section] = {}
    failed: dict[str, str] = {}
    parts: dict[str, str] = {}
    for name, demo in wings.items():
        print(f"{name} ...", flush=True)
        start = time.perf_counter()
        try:
            own = folder / name
            own.mkdir(exist_ok=True)
            section = demo(own)
            if not isinstance(section, Section):
                raise TypeError(f"the demo of {name!r} returned {type(section).__name__}, expected Section")
            section = replace(section, seconds=time.perf_counter() - start)
            parts[name] = _section(name, section)  # here: a picture that cannot be read is this wing's failure
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            failed[name] = f"{type(error).__name__}: {error}"
            parts[name] = _failure(name, failed[name])
            print(f"{name} FAILED after {time.perf_counter() - start:.1f} s: {failed[name]}\n", flush=True)
        else:
            sections[name] = section
            text = "\n".join(textwrap.fill(part, 110) for part in section.summary.split("\n\n"))
            print(f"{section.title}\n{text}\n\n{table(section.metrics)}\n{section.seconds:.1f} s\n", flush=True)
    path = folder / "index.html"
    _write(path, _page(parts))
    return Page(path, sections, failed)


def table(metrics: Metrics) -> str:
    """Plain-text table, rows × columns; columns in order of first appearance, an absent value as ``-``."""
    columns = _columns(metrics)
    cells = [["", *columns], *([row, *(_cell(values.get(c)) for c in columns)] for row, values in metrics.items())]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns) + 1)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))])
        for line in cells
    )


def _columns(metrics: Metrics) -> list[str]:
    return list(dict.fromkeys(column for values in metrics.values() for column in values))


def _cell(value: float | int | str | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _write(path: Path, text: str) -> None:
    """Write the whole file or leave the old one: a temporary neighbour, then a rename."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, suffix=".tmp", delete=False) as file:
        file.write(text)
    try:
        os.chmod(file.name, 0o644)
        os.replace(file.name, path)
    except BaseException:
        os.unlink(file.name)
        raise


def _figure(path: Path, caption: str) -> str:
    kind = mimetypes.guess_type(path.name)[0]
    if kind not in ("image/png", "image/jpeg", "image/svg+xml"):
        raise ValueError(f"got the figure {path.name!r}, expected a .png, .jpg or .svg file")
    data = base64.b64encode(path.read_bytes()).decode()
    caption = html.escape(caption)
    return (
        f'<figure><img alt="{caption or html.escape(path.stem)}" src="data:{kind};base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _table(metrics: Metrics) -> str:
    if not metrics:
        return ""
    columns = _columns(metrics)
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    rows = "".join(
        f"<tr><th>{html.escape(row)}</th>"
        + "".join(f"<td>{html.escape(_cell(values.get(column)))}</td>" for column in columns)
        + "</tr>\n"
        for row, values in metrics.items()
    )
    return f'<div class="wide"><table><thead><tr><th></th>{head}</tr></thead>\n<tbody>{rows}</tbody></table></div>'


def _section(name: str, section: Section) -> str:
    paragraphs = "".join(f"<p>{html.escape(text.strip())}</p>\n" for text in section.summary.split("\n\n"))
    captions = [*section.captions, *[""] * len(section.figures)]
    figures = "\n".join(_figure(Path(path), text) for path, text in zip(section.figures, captions, strict=False))
    commands = html.escape("\n".join(section.commands))
    return (
        f'<section id="{html.escape(name)}"><h2>{html.escape(section.title)}</h2>\n{paragraphs}'
        f"{_table(section.metrics)}\n{figures}"
        + (f"\n<h3>On the command line</h3>\n<pre>{commands}</pre>" if commands else "")
        + f'\n<p class="note">{section.seconds:.1f} s on this machine</p></section>'
    )


STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --line: #d9dee5; --paper: #ffffff; --pane: #f5f7f9;
        --mark: #0b6bcb; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e5e9ee; --soft: #9aa5b3; --line: #323a45; --paper: #14181d; --pane: #1c2229; --mark: #6cb2ff;
          --bad: #ff8a80; } }
body { margin: 0 auto; max-width: 60rem; padding: 2rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
       font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.9rem; margin: 0 0 .25rem; } h2 { margin: 0 0 .5rem; } h3 { font-size: 1rem; margin: 1.5rem 0 .4rem; }
section { border-top: 1px solid var(--line); margin-top: 2.5rem; padding-top: 1.75rem; }
p { max-width: 46rem; } .note { color: var(--soft); font-size: .875rem; } .failed { color: var(--bad); }
nav a { color: var(--mark); margin-right: 1rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0; }
th, td { border-bottom: 1px solid var(--line); padding: .4rem .9rem .4rem 0; text-align: right; }
tr > :first-child { text-align: left; } thead th { color: var(--soft); font-weight: 600; }
figure { margin: 1.25rem 0; } figcaption { color: var(--soft); font-size: .875rem; }
img { background: #ffffff; border: 1px solid var(--line); border-radius: 6px; box-sizing: border-box; max-width: 100%; }
pre { background: var(--pane); border-radius: 6px; overflow-x: auto; padding: .8rem 1rem; font-size: .9rem; }
"""


def _failure(name: str, error: str) -> str:
    return (
        f'<section id="{html.escape(name)}"><h2>{html.escape(name)}</h2>\n'
        f'<p class="failed">This demonstration failed: {html.escape(error)}</p></section>'
    )


def _page(parts: Mapping[str, str]) -> str:
    links = "".join(f'<a href="#{html.escape(name)}">{html.escape(name)}</a>' for name in parts)
    body = "\n".join(parts.values()) or "<section><p>No wing has a demonstration yet.</p></section>"
    torch = sys.modules.get("torch")
    versions = f"scidiffuse {__version__}, Python {platform.python_version()}" + (
        f", torch {torch.__version__}" if torch else ""
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>scidiffuse demo</title><style>{STYLE}</style></head>
<body>
<h1>scidiffuse</h1>
<p>Every number and picture below was made by the run that wrote this page.</p>
<nav>{links}</nav>
{body}
<section><p class="note">{versions}, {os.cpu_count()} cores, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC</p></section>
</body></html>
"""
