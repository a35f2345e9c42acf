"""Atom types: an element and its formal charge, written ``C``, ``N+``, ``O-``, ``Ca+2``.

A molecular graph holds one category a node. An atom whose charge the type did not name would come back with another
number of hydrogens, or not at all: the N of a nitro group has four bonds, which a neutral N cannot have. So a charged
atom is a type of its own; a vocabulary without ``N+`` refuses a molecule that needs it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

__all__ = ["atom_type", "atomic_numbers", "element", "number_of", "parse_type", "parse_vocabulary", "sort_types"]

_TYPE = re.compile(r"([A-Z][a-z]?)([+-]\d*)?")


_TABLE = """
    H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr
    Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir
    Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl
    Mc Lv Ts Og
"""
_SYMBOLS = _TABLE.split()  # by atomic number, from 1
_NUMBERS = {symbol: i + 1 for i, symbol in enumerate(_SYMBOLS)}


def element(number: int) -> str:
    """The symbol of an atomic number."""
    return _SYMBOLS[int(number) - 1]


def number_of(symbol: str) -> int:
    """The atomic number of a symbol.

    Raises:
        ValueError: no element has it.
    """
    with_case = symbol[:1].upper() + symbol[1:].lower()
    number = _NUMBERS.get(with_case)
    if number is None:
        raise ValueError(f"{symbol!r} is no element")
    return number


def atomic_numbers(values: Any) -> np.ndarray:
    """Atomic numbers (n,) as integers, whatever kind of number they were read as.

    Raises:
        ValueError: not a list of whole numbers from 1 to 118; the first atom that is none is named.
    """
    numbers = np.asarray(values)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iuf":
        raise ValueError(f"atomic numbers are a list of numbers (n,), got {numbers.dtype} of shape {numbers.shape}")
    bad = ~((numbers >= 1) & (numbers <= len(_SYMBOLS)) & (numbers == np.round(numbers)))
    if bad.any():
        at = int(bad.argmax())
        raise ValueError(f"atom {at + 1}: {numbers[at]} is no element: expected a whole number, 1 to {len(_SYMBOLS)}")
    return numbers.astype(np.int64)


def atom_type(number: int, charge: int = 0) -> str:
    """The name of a type: ``atom_type(7, 1)`` is ``"N+"``."""
    sign = "" if charge == 0 else ("+" if charge > 0 else "-") + (str(abs(charge)) if abs(charge) > 1 else "")
    return _SYMBOLS[number - 1] + sign


def parse_type(name: str) -> tuple[int, int]:
    """Atomic number and charge of a type.

    Raises:
        ValueError: not a type.
    """
    match = _TYPE.fullmatch(name)
    if not match or match[1] not in _NUMBERS:
        raise ValueError(f"{name!r} is no atom type: expected an element and its charge, as 'C', 'N+' or 'Ca+2'")
    sign = match[2] or ""
    charge = 0 if not sign else int(sign[0] + (sign[1:] or "1"))
    return _NUMBERS[match[1]], charge


def parse_vocabulary(vocabulary: str | Sequence[str]) -> tuple[str, ...]:
    """The types of ``"CNOF"``, ``"C N O N+ O-"`` or a sequence, in the order given.

    Raises:
        ValueError: something else, a type twice, or none.
    """
    if isinstance(vocabulary, str):
        types = tuple(m[0] for m in _TYPE.finditer(vocabulary))
        if "".join(types) != re.sub(r"[\s,]", "", vocabulary):
            raise ValueError(f"{vocabulary!r} is no list of atom types: expected e.g. 'CNOF' or 'C N O N+ O-'")
    else:
        types = tuple(vocabulary)
    for name in types:
        parse_type(name)
    if not types or len(set(types)) < len(types):
        raise ValueError(f"a vocabulary names every type once and at least one, got {list(types)}")
    return types


def sort_types(types: Iterable[tuple[int, int]]) -> tuple[str, ...]:
    """The vocabulary of (atomic number, charge) pairs: neutral ones first, then by number and charge."""
    return tuple(atom_type(z, q) for z, q in sorted(set(types), key=lambda t: (t[1] != 0, t[0], t[1])))
