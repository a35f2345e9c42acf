"""The one-step model: probabilities by hand, training, files."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("rdchiral")
pytest.importorskip("lightning")

from scidiffuse.core.checkpoint import CheckpointError
from scidiffuse.molecules import synthesis as sy
from scidiffuse.molecules.data.reactions import Reaction
from scidiffuse.molecules.synthesis.networks import fingerprints

from .world import AMIDE, CHLORIDE, ESTER, TARGET, policy


def reaction(mapped):
    from rdkit import Chem

    sides = [Chem.MolFromSmiles(part) for part in mapped.split(">>")]
    for mol in sides:
        for atom in mol.GetAtoms():
            atom.SetAtomMapNum(0)
    left, right = (Chem.CanonSmiles(Chem.MolToSmiles(mol)) for mol in sides)
    return Reaction(tuple(left.split(".")), (), (right,), mapped, 0)


def reactions():
    """Amides and esters of several acids: two templates, told apart by the product."""
    out = []
    for length in range(4):
        acid = "[CH3:1]" + "".join(f"[CH2:{20 + i}]" for i in range(length)) + "[CH2:30][C:2](=[O:3])"
        out.append(reaction(f"{acid}[OH:9].[NH2:4][CH2:5][CH3:6]>>{acid}[NH:4][CH2:5][CH3:6]"))
        out.append(reaction(f"{acid}[OH:9].[OH:4][CH2:5][CH3:6]>>{acid}[O:4][CH2:5][CH3:6]"))
    return out


def test_probabilities_by_hand():
    """The ester's bond alone: one template applies. The amide's: two, 0.6 and 0.3, so 2/3 and 1/3."""
    ester = policy().propose("CCC(=O)OC")
    assert [(s.reactants, s.template) for s in ester] == [(("CCC(=O)O", "CO"), ESTER)]
    assert ester[0].probability == pytest.approx(1.0)
    amide = policy().propose("CCC(=O)NC")
    assert [s.template for s in amide] == [CHLORIDE, AMIDE]
    assert [s.probability for s in amide] == pytest.approx([2 / 3, 1 / 3])
    assert policy().propose("CCO") == []


def test_outcomes_share_and_equal_reactants_add_up():
    """A template with two outcomes gives each half; two templates with the same outcome add up."""
    again = AMIDE.replace("[N:3]", "[N;+0:3]")
    model = policy((0.5, 0.3, 0.2), (AMIDE, again, ESTER))
    found = {s.reactants: s for s in model.propose("CC(=O)NCCNC(=O)CC")}
    assert len(found) == 2
    assert [s.probability for s in found.values()] == pytest.approx([0.5, 0.5])
    assert {s.template for s in found.values()} == {AMIDE}  # the likelier of the two
    both = {s.reactants: s.probability for s in model.propose("CC(=O)NCCOC(=O)CC")}
    assert sorted(both.values()) == pytest.approx([0.2, 0.8])


def test_only_the_top_is_tried():
    assert [s.template for s in policy(top=1).propose(TARGET)] == [CHLORIDE]
    assert policy(top=1).propose("CCC(=O)OC") == []


def test_fingerprints_are_those_of_rdkit():
    from rdkit.Chem import AllChem, MolFromSmiles

    config = sy.PolicyConfig(bits=128)
    expected = AllChem.GetMorganFingerprintAsBitVect(MolFromSmiles(TARGET), 2, nBits=128)
    assert fingerprints([TARGET], config)[0].tolist() == list(expected)
    with pytest.raises(ValueError, match="molecule 2: 'C1CC'"):
        fingerprints(["C", "C1CC"], config)


@pytest.fixture(scope="module")
def trained():
    return sy.TemplatePolicy.for_dataset(reactions(), "toy").fit(reactions(), max_steps=60, seed=0, accelerator="cpu")


def test_training_learns_which_template(trained):
    assert len(trained.templates) == 2 and trained.steps == 60
    assert trained.accuracy(reactions(), 1).value == 1.0
    assert trained.history[-1]["loss"] < 0.1


def test_an_extraction_saves_extracting_again(trained):
    found = sy.extract(reactions())
    products = [r.products[0] for r in reactions()]
    again = sy.TemplatePolicy.for_dataset(found, "toy").fit(
        found, products=products, max_steps=60, seed=0, accelerator="cpu"
    )
    assert _same(again, trained)
    with pytest.raises(ValueError, match="needs products="):
        sy.TemplatePolicy().fit(found)


def test_seeds_and_resuming(trained, tmp_path):
    def fit(steps, seed=0, **more):
        model = sy.TemplatePolicy.for_dataset(reactions(), "toy", dropout=0.3)
        return model.fit(reactions(), max_steps=steps, seed=seed, accelerator="cpu", **more)

    whole = fit(6)
    assert _same(whole, fit(6)) and not _same(whole, fit(6, 1))
    fit(3, out=tmp_path / "a", save_every=1)
    assert _same(whole, fit(6, out=tmp_path / "a", save_every=1, resume=True))
    assert _same(whole, sy.TemplatePolicy.load(tmp_path / "a" / "model"))
    with pytest.raises(ValueError, match=r"cannot resume.*dropout"):
        trained.fit(reactions(), max_steps=9, out=tmp_path / "a", resume=True)


def test_files(trained, tmp_path):
    trained.save(tmp_path)
    back = sy.TemplatePolicy.load(tmp_path)
    assert back.templates == trained.templates and back.config == trained.config
    assert back.propose("CCCC(=O)NCC") == trained.propose("CCCC(=O)NCC")
    with pytest.raises(CheckpointError, match="holds a 'TemplatePolicy', expected a 'DualValues'"):
        sy.DualValues.load(tmp_path)


def test_syntheseus_takes_it(trained):
    pytest.importorskip("syntheseus")
    from syntheseus.interface.models import BackwardReactionModel
    from syntheseus.interface.molecule import Molecule

    model = trained.reaction_model()
    assert isinstance(model, BackwardReactionModel) and model.num_calls() == 0
    ((first, *_),) = model([Molecule("CCCC(=O)NCC")])
    assert model.num_calls() == 1
    assert {m.smiles for m in first.reactants} == {"CCCC(=O)O", "CCN"}
    assert first.metadata["probability"] == trained.propose("CCCC(=O)NCC")[0].probability


def test_what_is_refused(trained):
    with pytest.raises(RuntimeError, match="not trained"):
        sy.TemplatePolicy.for_dataset(reactions()).propose("CC")
    with pytest.raises(ValueError, match="unknown preset"):
        sy.TemplatePolicy.for_dataset(reactions(), "none")
    with pytest.raises(ValueError, match="top must be"):
        sy.PolicyConfig(top=0)
    with pytest.raises(ValueError, match="expected mapped reactions"):
        sy.TemplatePolicy.for_dataset(["CC>>CO"])
    with pytest.raises(ValueError, match="none of these reactions has one of the model's templates"):
        policy().fit(reactions(), max_steps=1)


def _same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.network.parameters(), b.network.parameters(), strict=True))
