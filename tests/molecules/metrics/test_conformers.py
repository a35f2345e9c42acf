"""PoseBusters on aspirin, whole and broken; strain: zero in a minimum, the difference of two energies elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rdkit")

from rdkit import Chem
from rdkit.Chem import AllChem

from scidiffuse.molecules.metrics.conformers import posebusters, strain, strain_energy


def embedded(smiles: str):
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert AllChem.EmbedMolecule(mol, randomSeed=7) == 0
    AllChem.MMFFOptimizeMolecule(mol, maxIters=5000)
    return mol


def moved(mol, by: float):
    """A copy with every atom moved at random."""
    out = Chem.Mol(mol)
    x = out.GetConformer().GetPositions()
    out.GetConformer().SetPositions(x + by * np.random.default_rng(0).normal(size=x.shape))
    return out


def test_aspirin_passes_every_check_and_a_broken_one_does_not():
    pytest.importorskip("posebusters")
    aspirin = embedded("CC(=O)Oc1ccccc1C(=O)O")
    scores = posebusters([aspirin])
    assert len(scores) == 13 and all(float(score) == 1.0 for score in scores.values())
    mixed = posebusters([aspirin, moved(aspirin, 0.5), None, None])
    assert float(mixed["posebusters_valid"]) == 1 / 4 and mixed["posebusters_valid"].n == 4
    assert float(mixed["posebusters_bond_lengths"]) == 1 / 4
    assert float(mixed["posebusters_sanitization"]) == 2 / 4


def test_a_check_that_could_not_be_done_counts_as_failed_and_is_not_logged(caplog):
    pytest.importorskip("posebusters")
    mol = Chem.AddHs(Chem.MolFromInchi("InChI=1S/C5H7N/c1-3-4(1)6-2-5(3)6/h3-5H,1-2H2/t3-,4+,5-,6+/m0/s1"))
    mol.AddConformer(Chem.Conformer(mol.GetNumAtoms()))
    cage = moved(mol, 1.0)  # RDKit finds no conformers of this cage, so that there is no energy to compare with
    assert float(posebusters([cage])["posebusters_internal_energy"]) == 0.0
    assert not [record for record in caplog.records if record.name.startswith("posebusters")]


def test_strain_is_the_energy_above_the_minimum():
    mol = embedded("CCO")
    assert strain_energy(mol) == pytest.approx(0.0, abs=1e-3)
    away = moved(mol, 0.05)

    def energy(m):
        return AllChem.MMFFGetMoleculeForceField(m, AllChem.MMFFGetMoleculeProperties(m)).CalcEnergy()

    assert strain_energy(away) == pytest.approx(energy(away) - energy(mol), rel=0.02)
    assert strain_energy(away) > 5
    assert np.allclose(away.GetConformer().GetPositions(), moved(mol, 0.05).GetConformer().GetPositions())  # untouched
    assert np.isnan(strain_energy(moved(mol, 0.3), max_steps=1))


def test_median_leaves_out_what_has_no_energy():
    mol = embedded("CCO")
    boron = Chem.AddHs(Chem.MolFromSmiles("CB(C)C"))
    boron.AddConformer(Chem.Conformer(boron.GetNumAtoms()))
    boron.GetConformer().Set3D(True)
    score = strain([moved(mol, 0.02), moved(mol, 0.05), moved(mol, 0.1), None, boron])
    assert float(score) == pytest.approx(strain_energy(moved(mol, 0.05)))
    assert (score.n, score.left_out, score.unit) == (3, 2, "kcal/mol") and score.low <= float(score) <= score.high
    with pytest.raises(ValueError, match="none of the 2 molecules has an MMFF94"):
        strain([boron, None])


def test_bad_input():
    pytest.importorskip("posebusters")
    flat = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    for function in (posebusters, strain):
        with pytest.raises(ValueError, match="list of molecules is empty"):
            function([])
        with pytest.raises(ValueError, match="molecule 0 has no positions in three"):
            function([flat])
    with pytest.raises(ValueError, match="none of the 1 molecules could be made"):
        posebusters([None])
    with pytest.raises(ValueError, match="6 hydrogens are implicit"):
        strain_energy(Chem.RemoveHs(embedded("CCO")))
