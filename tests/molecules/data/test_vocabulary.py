"""Atom types: element and charge."""

import numpy as np
import pytest
from rdkit import Chem

from scidiffuse.molecules.data import vocabulary as v


@pytest.mark.parametrize(
    ("name", "pair"),
    [("C", (6, 0)), ("N+", (7, 1)), ("O-", (8, -1)), ("Ca+2", (20, 2)), ("Cl", (17, 0)), ("S-2", (16, -2))],
)
def test_a_type_is_its_name(name, pair):
    assert v.parse_type(name) == pair and v.atom_type(*pair) == name


def test_elements_are_those_of_rdkit():
    table = Chem.GetPeriodicTable()
    assert [v.element(z) for z in range(1, 119)] == [table.GetElementSymbol(z) for z in range(1, 119)]
    assert v.number_of("cL") == 17


def test_written_together_or_apart():
    assert v.parse_vocabulary("CNOF") == v.parse_vocabulary("C, N O F") == v.parse_vocabulary(["C", "N", "O", "F"])
    assert v.parse_vocabulary("ClCN+O-") == ("Cl", "C", "N+", "O-")


@pytest.mark.parametrize("bad", ["", "CNC", "c", "C?", "Xx", "C1", [], ["C", "C"], ["nope"]])
def test_no_vocabulary(bad):
    with pytest.raises(ValueError, match=r"atom type|vocabulary"):
        v.parse_vocabulary(bad)


def test_no_element():
    with pytest.raises(ValueError, match="'Qq' is no element"):
        v.number_of("Qq")


def test_neutral_types_come_first():
    assert v.sort_types([(8, -1), (7, 1), (7, 0), (6, 0), (7, 1)]) == ("C", "N", "N+", "O-")


def test_atomic_numbers():
    assert v.atomic_numbers([1.0, 118.0]).tolist() == [1, 118] and v.atomic_numbers([6]).dtype == np.int64
    for bad in (0, 119, 300.0, 6.5, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=rf"atom 2: {bad} is no element: expected a whole number, 1 to 118"):
            v.atomic_numbers(np.array([6, bad]))
    for bad in ([[6]], ["C"], 6):
        with pytest.raises(ValueError, match="a list of numbers"):
            v.atomic_numbers(bad)
