"""XYZ and extended XYZ: atoms with coordinates, no bonds; one file may hold many frames.

A frame is a line with the number of atoms, a line of comment, and a line an atom: an element (or atomic number) and
x, y, z in Å; more columns are ignored. An extended XYZ says in its comment what the columns are
(``Properties=species:S:1:pos:R:3:...``) and gives ``key=value`` pairs, of which numbers become properties on request.
Periodic boxes are refused, since a crystal is no set of molecules: ``pbc="T T T"``, and a ``Lattice`` of which ``pbc``
does not say that it is none (as ASE writes and reads it, a lattice alone is periodic).

The units are not written in the file; they are checked, see :mod:`.atoms`. QM9's own ``dsgdb9nsd_*.xyz`` files have
more lines behind the atoms and numbers like ``1.2997*^-6``: :func:`.qm9.read_qm9_raw` reads them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ...core.problems import Errors, Problems
from .atoms import Atoms, Units, converted, stack_atoms
from .files import check_limit, read_lines, write_text
from .vocabulary import element, number_of

__all__ = ["number", "read_xyz", "write_xyz", "xyz_pairs"]

_PAIR = re.compile(r"""([\w/:-]+)=("[^"]*"|'[^']*'|\S+)""")


def number(text: str) -> float:
    """A number, also as Mathematica writes exponents: ``1.2997*^-6``.

    Raises:
        ValueError: none.
    """
    try:
        return float(text.replace("*^", "e"))
    except ValueError:
        raise ValueError(f"expected a number, got {text!r}") from None


def read_xyz(
    path: str | Path,
    *,
    properties: Sequence[str] = (),
    limit: int | None = None,
    units: Units | None = None,
    errors: Errors = "raise",
) -> Atoms:
    """The frames of an ``.xyz`` or ``.extxyz`` file, also with ``.gz``.

    A frame is named by the ``id`` or ``name`` of its comment, or by the whole comment where it has no pairs, else by
    its number.

    Args:
        path: the file. properties: keys of the comment that are numbers; absent = NaN.
        limit: as many frames, from the beginning.
        units: None checks that the coordinates are Å; ``"bohr"`` converts, ``"angstrom"`` takes the file's word.
        errors: ``"skip"`` leaves bad frames out and names them.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a frame that cannot be read (with its number), an unknown element, a periodic box, distances that
            are not in Å, or nothing left. A line that is no number of atoms where a frame should begin ends the reading
            whatever ``errors`` says: what follows cannot be told apart.
    """
    check_limit(limit)
    source = Path(path).name
    problems = Problems(errors, source)
    parts, ids, found = [], [], {p: [] for p in properties}  # type: ignore[var-annotated]
    for count, (comment, lines) in enumerate(_frames(path, limit), start=1):
        with problems.at(f"frame {count}"):
            numbers, positions, values = _frame(comment, lines)
            positions = converted(positions, units)
            wanted = [number(values[p]) if p in values else math.nan for p in properties]
            parts.append((numbers, None, positions, None))
            ids.append(_name(comment, values) or count)
            for p, value in zip(properties, wanted, strict=True):
                found[p].append(value)
    problems.done(len(parts))
    return stack_atoms(parts, ids=tuple(ids), properties={k: np.array(v) for k, v in found.items()})


def _name(comment: str, values: dict[str, str]) -> str:
    """The name of a frame, "" where its comment has none."""
    return values.get("id") or values.get("name") or ("" if values else comment.strip())


def xyz_pairs(path: str | Path) -> Iterator[dict[str, str]]:
    """The ``key=value`` pairs of the comment of each frame, without its name and what says how to read it.

    Raises:
        FileNotFoundError: no such file. ValueError: frames that cannot be told apart.
    """
    layout = ("properties", "lattice", "pbc", "id", "name")
    for comment, _ in _frames(path, None):
        yield {k: v.strip("\"'") for k, v in _PAIR.findall(comment) if k.lower() not in layout}


def _frames(path: str | Path, limit: int | None) -> Iterator[tuple[str, list[str]]]:
    """The comment and atom lines of each frame."""
    lines = read_lines(path)
    at = count = 0
    for head in lines:
        at += 1
        if not head.strip():
            continue
        if limit is not None and count >= limit:
            return
        if not head.strip().isdigit() or int(head) < 1:
            raise ValueError(f"{Path(path).name}, line {at}: expected the number of atoms of a frame, got {head!r}")
        size = int(head)
        body = [line for _, line in zip(range(size + 1), lines, strict=False)]
        if len(body) < size + 1:
            raise ValueError(
                f"{Path(path).name}, line {at}: a frame of {size} atoms, the file ends after {len(body) - 1}"
            )
        at += size + 1
        count += 1
        yield body[0], body[1:]


def _frame(comment: str, lines: list[str]) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """Atomic numbers (n,), coordinates (n, 3), and the pairs of the comment."""
    values = {key: value.strip("\"'") for key, value in _PAIR.findall(comment)}
    flags = set(re.findall(r"\w+", values.get("pbc", "").upper()))
    if flags & {"T", "TRUE", "1"}:
        raise ValueError(f"a periodic box (pbc={values['pbc']!r}), which is no molecule")
    if "lattice" in map(str.lower, values) and not (flags and flags <= {"F", "FALSE", "0"}):
        raise ValueError('a periodic box (a Lattice without pbc), which is no molecule; if it is none, say pbc="F F F"')
    species, place = _columns(values.get("Properties", "species:S:1:pos:R:3"))
    numbers = []
    positions = np.zeros((len(lines), 3))
    for i, line in enumerate(lines):
        words = line.split()
        if len(words) < max(species + 1, place + 3):
            raise ValueError(f"atom {i + 1}: expected an element and three coordinates, got {line!r}")
        word = words[species]
        numbers.append(int(word) if word.isdecimal() else number_of(word))
        if not 1 <= numbers[i] <= 118:
            raise ValueError(f"atom {i + 1}: {word!r} is no element")
        positions[i] = [number(w) for w in words[place : place + 3]]
    return np.array(numbers, dtype=np.uint8), positions, values


def _columns(layout: str) -> tuple[int, int]:
    """Where element and coordinates stand, by ``name:type:count`` triples."""
    words = layout.split(":")
    starts: dict[str, int] = {}
    at = 0
    for name, count in zip(words[0::3], words[2::3], strict=False):
        starts[name] = at
        at += int(count) if count.isdigit() else 1
    species = starts.get("species", starts.get("Z", starts.get("element")))
    if species is None or "pos" not in starts:
        raise ValueError(f"Properties={layout!r}: expected the columns species and pos")
    return species, starts["pos"]


def write_xyz(atoms: Atoms, path: str | Path) -> Path:
    """Write ``.xyz``, ``.extxyz``, also ``.gz``, at once; coordinates come back to the last bit of float32.

    The comment names the columns, and the properties and the id as ``key=value`` pairs (extended XYZ, which plain
    readers take as a comment). Charges and bonds have no place in the format.

    Raises:
        ValueError: another suffix.
    """
    path = Path(path)
    if not path.name.lower().removesuffix(".gz").endswith((".xyz", ".extxyz")):
        raise ValueError(f"cannot tell the format of {path.name}: expected .xyz or .extxyz, also with .gz")
    text = []
    for b in range(len(atoms)):
        there = atoms.mask[b].nonzero().flatten()
        pairs = [f"{k}={float(v[b])!r}" for k, v in atoms.properties.items() if not math.isnan(float(v[b]))]
        name = str(atoms.ids[b]).replace('"', "'")
        text.append(f"{len(there)}")
        text.append(" ".join(["Properties=species:S:1:pos:R:3", f'id="{name}"', *pairs]))
        for z, x in zip(atoms.numbers[b, there].tolist(), atoms.positions[b, there].tolist(), strict=True):
            text.append(" ".join([element(z), *(f"{c:.9g}" for c in x)]))
    return write_text(path, "\n".join(text) + "\n")
