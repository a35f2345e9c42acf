"""Sphinx configuration: ``make docs``."""

import re
import shutil
from pathlib import Path

import scidiffuse

HERE = Path(__file__).parent

project = "scidiffuse"
author = "the scidiffuse developers"
copyright = "the scidiffuse developers, Apache-2.0"
version = release = scidiffuse.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "myst_nb",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"scidiffuse {version}"

default_role = "code"  # `name` in docstrings is a name
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"ignore-module-all": True}  # an object is documented where it is defined, once
napoleon_use_ivar = True
suppress_warnings = ["mystnb.unknown_mime_type", "ref.python"]

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # the notebooks are stored executed; `make notebooks` executes them again

# The notebooks live beside the package; Sphinx reads only what is below this folder.
(HERE / "notebooks").mkdir(exist_ok=True)
for notebook in sorted(HERE.parent.glob("notebooks/*.ipynb")):
    shutil.copyfile(notebook, HERE / "notebooks" / notebook.name)

CODE = re.compile(r"(^\s*\* |``.*?``|`.*?`|(?<![\w*])\*{1,2}[^\s*](?:[^*]*[^\s*])?\*{1,2}(?![\w*]))")


def formulas(app, what, name, obj, options, lines):
    """An indented paragraph in a module's docstring is a formula or a table: show it as it was written."""
    if what != "module":
        return
    out, paragraph = [], ""
    for i, line in enumerate(lines):
        before = lines[i - 1].strip() if i else ""
        if line.strip() and not before and not line.startswith(" "):
            paragraph = line  # the first line of the last paragraph at the margin
        opens = line.startswith("    ") and not before and not _inside(out)
        if opens and not re.match(r"[*-] |\d+\. |>>>", paragraph):
            out += ["::", ""]
        out.append(line)
    lines[:] = out


def _inside(out):
    """Is the last line that is not blank part of an indented block already?"""
    last = next((line for line in reversed(out) if line.strip()), "")
    return last.startswith(" ") or last.rstrip().endswith("::")


def plain_maths(app, what, name, obj, options, lines):
    """Docstrings write |y| and **condition: escape what reStructuredText would take for its own marks."""
    literal = None  # indentation of the line that opened a literal block
    for i, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if literal is not None and line.strip() and indent <= literal:
            literal = None
        text = line.strip()
        row = text.startswith("|") and text.endswith("|")  # of a table
        if literal is None and not row and text[:3] not in (">>>", "..."):
            parts = CODE.split(line)
            parts[::2] = [re.sub(r"([|*])", r"\\\1", part) for part in parts[::2]]
            lines[i] = "".join(parts)
        if literal is None and line.rstrip().endswith("::"):
            literal = indent


def setup(app):
    app.connect("autodoc-process-docstring", formulas, priority=800)  # after napoleon
    app.connect("autodoc-process-docstring", plain_maths, priority=900)
