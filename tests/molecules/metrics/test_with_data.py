"""The containers of the wing go into the scores as they are."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

pytest.importorskip("rdkit")
pytest.importorskip("networkx")

from rdkit import Chem
from rdkit.Chem import AllChem

from scidiffuse import molecules as mo
from scidiffuse.molecules import metrics as m
from scidiffuse.molecules.samples import graph_samples

SMILES = ["CCO", "CC(=O)N", "C1CC1", "C#N", "CO"]


def test_dense_graphs():
    graphs = mo.from_smiles(SMILES, "CNO", max_atoms=5)
    out = m.graph_validity(graphs.to_mols(sanitise=False))
    assert [float(score) for score in out.scores().values()] == [1.0] * 4
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


def alike(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert (float(a[name]), a[name].n) == (pytest.approx(float(b[name]), abs=1e-12), b[name].n), name


@pytest.fixture(scope="module")
def padded():
    """Graphs of 3 to 5 nodes in 7 places, and in an order in which the absent nodes come first."""
    graphs = mo.from_smiles(["CCO", "CC(=O)N", "C1CC1", "CCCO", "CC=O"], "CNO").padded(7)
    back = torch.arange(6, -1, -1)
    turned = replace(graphs, A=graphs.A[:, back][:, :, back], mask=graphs.mask[:, back], types=graphs.types[:, back])
    return graphs, turned


def test_absent_nodes_of_dense_graphs_count_nowhere(padded):
    for graphs in padded:
        plain = graphs.to_networkx()
        samples = mo.GraphSamples(graphs, None, None, {}, {})
        for given in (graphs, samples):
            alike(m.graph_mmd(given, plain[:2], draws=2), m.graph_mmd(plain, plain[:2], draws=2))
            alike(m.graph_mmd(plain[:2], given, draws=2), m.graph_mmd(plain[:2], plain, draws=2))
            alike(m.graph_vun(given, graphs[:2]), m.graph_vun(plain, plain[:2]))
            alike(m.graph_vun(plain, given), m.graph_vun(plain, plain))
        with pytest.raises(TypeError, match="these samples are other graphs"):
            m.evaluate(samples, suite="valid_rdkit")


def test_molecules_of_dense_graphs(padded):
    for graphs in padded:
        known = list(graphs.smiles)
        names = ("valid_rdkit", "unique_all", "novel", "snn", "mmd_nspdk", "mean_weight")
        expected = m.evaluate(known, train=known[:2], reference=known[1:], suite=names)
        bare = replace(graphs, smiles=None)  # as a model samples them
        samples = graph_samples(bare, len(bare), {})
        for given in (graphs, bare, samples):
            alike(m.evaluate(given, train=graphs[:2], reference=bare[1:], suite=names), expected)
        alike(m.graph_validity(bare).scores(), samples.report)
        with pytest.raises(TypeError, match="GraphSamples have these scores in their report"):
            m.graph_validity(samples)
        assert float(m.nspdk_mmd(bare, known)) == pytest.approx(0.0, abs=1e-15)


def test_graphs_without_molecules_have_a_kernel_and_no_chemistry():
    graphs = mo.load("community_small")[:4]
    plain = graphs.to_networkx()
    assert float(m.nspdk_mmd(graphs, plain[1:])) == pytest.approx(float(m.nspdk_mmd(plain, plain[1:])), abs=1e-12)
    with pytest.raises(TypeError, match="these graphs have no atom types"):
        m.validity(graphs)
    with pytest.raises(TypeError, match="these graphs have no atom types"):
        m.graph_validity(graphs)


def test_a_nitrogen_of_four_bonds_is_a_cation_by_the_protocol():
    """Samples of a model without charged types: their bonds are those of the published protocol."""
    cation = mo.from_smiles(["C[N+](C)(C)C"], ["C", "N+"])
    bare = replace(cation, smiles=None, vocabulary=("C", "N"))
    assert float(m.novelty(bare, ["C[N+](C)(C)C"])) == 0.0


def test_samples_in_space_are_the_molecules_they_are():
    water = [[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]
    positions = torch.tensor([water, [[0.0, 0, 0], [0.96, 0, 0], [0, 0, 0]]])
    numbers = torch.tensor([[8, 1, 1], [8, 1, 0]], dtype=torch.uint8)
    mask = numbers > 0
    atoms = mo.Atoms(positions, numbers, torch.zeros(2, 3, dtype=torch.int8), mask)
    samples = mo.AtomSamples.of(atoms, {"x": positions, "h": positions}, {}, {}, {})
    assert samples.report["connected_edm"].value == 1.0
    scores = m.evaluate(samples, train=["O"], suite="basic")
    assert scores["valid_rdkit"] == samples.report["valid_rdkit"] and scores["novel"].value == 0.5
    alike(m.stability(samples), m.stability(atoms))
    for function in (m.graph_mmd, m.graph_vun):
        with pytest.raises(TypeError, match="expected graphs, got atoms in space"):
            function(samples, samples)
    with pytest.raises(TypeError, match="without SMILES"):
        m.validity(atoms)
