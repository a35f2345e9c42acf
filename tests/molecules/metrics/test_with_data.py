"""The containers of the wing go into the scores as they are."""

from __future__ import annotations

import pytest

pytest.importorskip("rdkit")
pytest.importorskip("networkx")

from rdkit import Chem
from rdkit.Chem import AllChem

from scidiffuse import molecules as mo
from scidiffuse.molecules import metrics as m

SMILES = ["CCO", "CC(=O)N", "C1CC1", "C#N", "CO"]


def test_dense_graphs():
    graphs = mo.from_smiles(SMILES, "CNO", max_atoms=5)
    out = m.graph_validity(graphs.to_mols(sanitise=False))
    assert [float(score) for score in out.scores().values()] == [1.0, 1.0, 1.0]
    assert float(m.novelty(out.mols, SMILES)) == 0.0
    assert float(m.nspdk_mmd(out.mols, SMILES)) == pytest.approx(0.0, abs=1e-12)
    scores = m.graph_mmd(graphs.to_networkx(), graphs.to_networkx(), draws=2)
    assert all(float(score) == pytest.approx(0.0, abs=1e-12) for score in scores.values())
    same = m.graph_mmd([a[k][:, k].numpy() for a, k in zip(graphs.A, graphs.mask, strict=True)], graphs.to_networkx())
    assert all(float(score) == pytest.approx(0.0, abs=1e-12) for score in same.values())


def test_atoms_in_space():
    mols = []
    for smiles in SMILES:
        mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
        AllChem.EmbedMolecule(mol, randomSeed=7)
        AllChem.MMFFOptimizeMolecule(mol)
        mols.append(mol)
    atoms = mo.Atoms.from_mols(mols)
    scores = m.stability(atoms.numbers, atoms.positions, atoms.mask)
    assert float(scores["atom_stability_edm"]) == 1.0 and scores["atom_stability_edm"].n == sum(
        mol.GetNumAtoms() for mol in mols
    )
    assert float(m.strain(atoms.to_mols())) == pytest.approx(0.0, abs=1e-2)
