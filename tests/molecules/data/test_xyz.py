"""XYZ and extended XYZ."""

import numpy as np
import pytest
import torch

from scidiffuse.molecules.data import SkippedData, read_xyz
from scidiffuse.molecules.data.atoms import stack_atoms
from scidiffuse.molecules.data.xyz import number

WATER = "3\nwater\nO 0 0 0.117\nH 0 0.757 -0.469\nH 0 -0.757 -0.469\n"


def test_frames_of_any_kind(tmp_path):
    (tmp_path / "a.xyz").write_text(WATER + "\n1\n\nHe 5 5 5 0.1\n" + "2\nX\n1 0 0 0\n1 0 0 0.74\n")
    atoms = read_xyz(tmp_path / "a.xyz")
    assert atoms.num_atoms.tolist() == [3, 1, 2] and atoms.elements == ("H", "He", "O")
    assert torch.allclose(atoms.positions[0, 1], torch.tensor([0.0, 0.757, -0.469]))
    assert atoms.bonds is None and len(read_xyz(tmp_path / "a.xyz", limit=2)) == 2


def test_extended(tmp_path):
    (tmp_path / "a.extxyz").write_text(
        '2\nLattice="9 0 0 0 9 0 0 0 9" pbc="F F F" energy=-1.5 Properties=id:I:1:pos:R:3:species:S:1 name="a b"\n'
        "7 0 0 0 C\n8 0 0 1.13 O\n"
    )
    atoms = read_xyz(tmp_path / "a.extxyz", properties=["energy", "absent"])
    assert atoms.numbers[0].tolist() == [6, 8] and atoms.positions[0, 1, 2] == pytest.approx(1.13)
    assert atoms.properties["energy"].tolist() == [-1.5] and atoms.properties["absent"].isnan().all()


@pytest.mark.parametrize("name", ["x.xyz", "x.extxyz.gz"])
def test_written_and_read_back_to_the_last_bit(tmp_path, name):
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(3.0)] * 3), -1).reshape(-1, 3) * 1.3 + rng.normal(size=(27, 3)) * 0.02
    parts = [(rng.integers(1, 119, k), None, grid[:k], None) for k in (1, 5, 27)]
    atoms = stack_atoms(parts, properties={"e": np.array([0.1 + 0.2, np.nan, -1e-300])})
    again = read_xyz(atoms.to_xyz(tmp_path / name), properties=["e"])
    assert torch.equal(again.positions, atoms.positions) and torch.equal(again.numbers, atoms.numbers)
    assert again.properties["e"][[0, 2]].tolist() == [0.1 + 0.2, -1e-300] and again.properties["e"][1].isnan()


def test_bohr(tmp_path):
    (tmp_path / "a.xyz").write_text("2\n\nC 0 0 0\nC 0 0 2.91\n")
    with pytest.raises(ValueError, match=r"a.xyz, frame 1: the shortest distance .*Bohr\? units='bohr' converts"):
        read_xyz(tmp_path / "a.xyz")
    assert read_xyz(tmp_path / "a.xyz", units="bohr").positions[0, 1, 2] == pytest.approx(1.5399, abs=1e-4)
    assert read_xyz(tmp_path / "a.xyz", units="angstrom").positions[0, 1, 2] == pytest.approx(2.91)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1\n\nQq 0 0 0\n", "frame 1: 'Qq' is no element"),
        ("1\n\n0 0 0 0\n", "'0' is no element"),
        ("1\n\nC 0 0\n", "atom 1: expected an element and three coordinates"),
        ("1\n\nC 0 0 x\n", "expected a number, got 'x'"),
        ("1\n\n300 0 0 0\n", "atom 1: '300' is no element"),
        ("1\n\n² 0 0 0\n", "'²' is no element"),
        ('1\nLattice="9 0 0 0 9 0 0 0 9"\nC 0 0 0\n', "a Lattice without pbc.*say pbc=.F F F."),
        ('1\nlattice="9 0 0 0 9 0 0 0 9" pbc=""\nC 0 0 0\n', "a Lattice without pbc"),
        ("1\npbc=[T, T, T]\nC 0 0 0\n", "periodic box"),
        ('1\nLattice="9 0 0 0 9 0 0 0 9" pbc="F F T"\nC 0 0 0\n', "periodic box"),
        ('1\npbc="T T T"\nC 0 0 0\n', "periodic box"),
        ("1\nProperties=Q:S:1:pos:R:3\nC 0 0 0\n", "expected the columns species and pos"),
        ("1\n\nC 0 0 nan\n", "not finite"),
    ],
)
def test_a_bad_frame_is_named_and_the_others_remain(tmp_path, text, words):
    (tmp_path / "a.xyz").write_text(text + WATER)
    with pytest.raises(ValueError, match=words):
        read_xyz(tmp_path / "a.xyz")
    with pytest.warns(SkippedData, match="left out 1 of 2: frame 1"):
        assert read_xyz(tmp_path / "a.xyz", errors="skip").ids == ("water",)


@pytest.mark.parametrize("errors", ["raise", "skip"])
def test_a_file_that_is_out_of_step_ends(tmp_path, errors):
    (tmp_path / "a.xyz").write_text(WATER + "C 0 0 0\n")
    with pytest.raises(ValueError, match=r"a.xyz, line 6: expected the number of atoms of a frame, got 'C 0 0 0'"):
        read_xyz(tmp_path / "a.xyz", errors=errors)
    (tmp_path / "b.xyz").write_text(WATER + "3\n\nC 0 0 0\n")
    with pytest.raises(ValueError, match="line 6: a frame of 3 atoms, the file ends after 1"):
        read_xyz(tmp_path / "b.xyz", errors=errors)


def test_exponents_of_mathematica():
    assert number("1.2997*^-6") == 1.2997e-6 and number("-2") == -2


def test_suffix(tmp_path):
    with pytest.raises(ValueError, match=r"expected .xyz"):
        stack_atoms([(np.array([1]), None, np.zeros((1, 3)), None)]).to_xyz(tmp_path / "a.txt")
    with pytest.raises(FileNotFoundError):
        read_xyz(tmp_path / "absent.xyz")


@pytest.mark.parametrize(
    ("comment", "name"),
    [("a name of words", "a name of words"), ("", 1), ('id="m 1" e=2', "m 1"), ("name=x", "x"), ("e=2", 1)],
)
def test_the_name_of_a_frame(tmp_path, comment, name):
    (tmp_path / "a.xyz").write_text(f"1\n{comment}\nC 0 0 0\n")
    assert read_xyz(tmp_path / "a.xyz").ids == (name,)
