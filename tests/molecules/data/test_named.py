"""Data by name or by path."""

import numpy as np
import pytest

from scidiffuse.core import datasets
from scidiffuse.molecules import data as d


def test_formats_are_told_apart(tmp_path):
    from rdkit import Chem
    from rdkit.Chem import AllChem

    mol = Chem.AddHs(Chem.MolFromSmiles("C"))
    AllChem.EmbedMolecule(mol, randomSeed=1)
    atoms = d.Atoms.from_mols([mol])
    graphs = d.from_smiles(["CCO"])
    (tmp_path / "a.csv").write_text("smiles\nCCO\n")
    (tmp_path / "a.smi").write_text("CCO\n")
    (tmp_path / "a.fasta").write_text(">a\nACGT\n")
    np.savez(tmp_path / "adj.npz", A=np.zeros((1, 2, 2)))
    paths = {
        d.Graphs: ["a.csv", "a.smi", graphs.save(tmp_path / "g.npz").name, "adj.npz"],
        d.Atoms: [atoms.to_sdf(tmp_path / "a.sdf.gz").name, atoms.to_xyz(tmp_path / "a.xyz").name, "a.npz"],
        d.Sequences: ["a.fasta"],
    }
    atoms.save(tmp_path / "a.npz")
    for kind, names in paths.items():
        for name in names:
            assert type(d.load(tmp_path / name)) is kind, name
    assert d.load(tmp_path / "a.csv", vocabulary="CNO").vocabulary == ("C", "N", "O")


def test_neither_name_nor_file(tmp_path):
    with pytest.raises(
        ValueError, match=r"'zinc' is neither a file nor a named data set; the names are \['community_small'"
    ):
        d.load("zinc")
    with pytest.raises(FileNotFoundError):
        d.read(tmp_path / "absent.smi")
    (tmp_path / "a.docx").write_text("")
    with pytest.raises(ValueError, match=r"cannot tell the format of a.docx: .*'.npz'.* also with .gz"):
        d.read(tmp_path / "a.docx")
    with pytest.raises(ValueError, match=r"'sbm' takes no options, got \['n'\]"):
        d.load("sbm", n=1)


def test_recipes_by_name():
    g = d.load("community_small")
    assert len(g) == 100 and (g.A == d.community_small(seed=0).A).all()


@pytest.mark.parametrize(("name", "count"), [("spectre_community_small", 100), ("enzymes", 587)])
def test_files_by_name(data, name, count):
    from scidiffuse.molecules import registry  # noqa: F401

    if datasets.where(name) == "absent":
        pytest.skip(f"no {name} in the folder of real files")
    assert len(d.load(name)) == count
