"""DiGress end to end at toy size: training, samples, files, properties, steering, scaffolds, and what it refuses."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

pytest.importorskip("lightning")
pytest.importorskip("rdkit")

from scidiffuse.core.discrete import Ancestral, TokenDenoiser
from scidiffuse.core.hooks import Record
from scidiffuse.core.sample import sample
from scidiffuse.core.steering import SVDD, FeynmanKac
from scidiffuse.molecules.data.graphs import Graphs
from scidiffuse.molecules.data.smiles import from_smiles
from scidiffuse.molecules.digress import DiGress, DiGressConfig
from scidiffuse.molecules.tokens import space_of
from scidiffuse.molecules.training import time_itself

SMILES = ["C", "CCO", "C1CC1", "CC(=O)N", "O=C=O", "N#CC", "CF", "C=C", "CCCCO"]
TINY = {
    "layers": 1, "dx": 16, "de": 8, "dy": 8, "heads": 2, "ff_x": 16, "ff_e": 8, "ff_y": 8, "mlp_x": 16, "mlp_e": 8,
    "mlp_y": 8, "dropout": 0.0, "steps": 10, "lr": 3e-3,
}  # fmt: skip
LEARN = TINY | {
    "layers": 2, "dx": 32, "de": 16, "ff_x": 64, "ff_e": 32, "mlp_x": 64, "mlp_e": 32, "lr": 5e-3, "ema": None,
    "features": "none",
}  # fmt: skip
FAST = {"max_steps": 6, "batch_size": 8, "seed": 0}


def molecules():
    return from_smiles(SMILES, "CNOF", max_atoms=5)


def rings(sizes=(3, 4, 5)):
    """Cycles, as graphs without types."""
    n = max(sizes)
    A, mask = torch.zeros(len(sizes), n, n, dtype=torch.uint8), torch.zeros(len(sizes), n, dtype=torch.bool)
    for b, k in enumerate(sizes):
        i = torch.arange(k)
        A[b, i, (i + 1) % k] = A[b, (i + 1) % k, i] = 1
        mask[b, :k] = True
    return Graphs(A, mask)


@pytest.fixture(scope="module")
def model():
    return DiGress.for_dataset(molecules(), "small", **TINY).fit(molecules(), **FAST)


# ---------------------------------------------------------------- end to end


def test_three_graphs_learnt_by_heart_come_back():
    graphs = from_smiles(["C1CC1", "C=CO", "O"] * 10, "CO", max_atoms=3)
    fitted = DiGress.for_dataset(graphs, "small", **LEARN).fit(graphs, max_steps=300, batch_size=30, seed=0)
    out = fitted.sample(60, steps=20, seed=0)
    counts = Counter(out.smiles)
    assert sum(counts[s] for s in ("C1CC1", "C=CO", "O")) >= 42, counts  # without training 20, nearly all of them O
    assert counts["O"] == int((out.graphs.num_nodes == 1).sum())  # single atoms survive
    assert min(counts["C1CC1"], counts["C=CO"]) >= 6
    assert float(out.report["valid_uncorrected_gdss"]) > 0.8 and len(out) == len(out.mols) == 60


def whole_or_empty():
    """Graphs of 4 nodes, half of them with all edges and half with none."""
    A = torch.zeros(30, 4, 4, dtype=torch.uint8)
    A[::2] = 1 - torch.eye(4, dtype=torch.uint8)
    return Graphs(A, torch.ones(30, 4, dtype=torch.bool))


def edges_of(out):
    return (out.graphs.A.sum((1, 2)) // 2).tolist()


def test_an_exact_network_samples_its_law():
    """Of graphs with all edges or none, p(edge | A_t) is the posterior of all, the same for every pair."""
    model = DiGress.for_dataset(whole_or_empty(), "small", **TINY)
    model.fit(whole_or_empty(), max_steps=1, seed=0)
    keep = model.denoiser.process.leaves["A"].schedule

    def network(x, t, nodes):
        alpha = keep.alpha(t)[:, None]
        ones = x["A"].sum((1, 2)).double()[:, None] / 2
        odds = (2 * ones - 6) * (torch.log1p(alpha) - torch.log1p(-alpha))
        logits = torch.cat([torch.zeros_like(odds), odds], 1)[:, None, None].expand(*x["A"].shape, 2)
        return {"A": logits}

    model.denoiser = TokenDenoiser(network, model.denoiser.process, label=time_itself)
    edges = edges_of(model.sample(400, steps=60, seed=0))
    assert edges.count(0) + edges.count(6) >= 390
    assert 160 <= edges.count(6) <= 240  # 200 +- 10


def test_graphs_without_types():
    fitted = DiGress.for_dataset(whole_or_empty(), "small", **LEARN)
    fitted.fit(whole_or_empty(), max_steps=120, batch_size=30, seed=0)
    assert (fitted.typed, fitted.bonds, fitted.probs) == (False, 2, {"A": [0.5, 0.5]})
    out = fitted.sample(40, steps=20, seed=0)
    assert out.mols is None and out.report == {} and out.graphs.types is None
    assert edges_of(out).count(0) + edges_of(out).count(6) >= 28  # of independent edges 1 in 32: 1.25


def test_adjacency_is_symmetric_at_every_step_and_absent_nodes_stay_absent(model):
    nodes = torch.arange(5) < torch.tensor([5, 1, 3])[:, None]
    run = sample(
        model.denoiser, Ancestral(), steps=6,
        shape={"X": (3, 5), "A": (3, 5, 5)}, space=space_of(nodes, True), condition={"nodes": nodes}, seed=0,
        hooks=[Record(what=("x",))],
    )  # fmt: skip
    states = [*run.records["x"], run.x]
    assert len(states) == 7
    for x in states:
        assert x["A"].equal(x["A"].transpose(1, 2)) and not x["A"].diagonal(dim1=1, dim2=2).any()
        assert not x["A"][1].any() and not x["X"][~nodes].any()


def test_a_sample_depends_on_its_number_not_on_its_batch_or_the_padding(model):
    whole = model.sample(7, seed=3)
    again, parts = model.sample(7, seed=3), model.sample(7, seed=3, max_batch=2)
    assert whole.graphs.A.equal(again.graphs.A) and whole.smiles == again.smiles
    assert whole.graphs.A.equal(parts.graphs.A) and whole.graphs.types.equal(parts.graphs.types)
    assert model.sample(7, seed=4).smiles != whole.smiles
    assert model.sample(3, nodes=[1, 2, 5], seed=0).graphs.num_nodes.tolist() == [1, 2, 5]


def test_saved_and_loaded_models_sample_the_same(model, tmp_path):
    model.save(tmp_path / "m")
    again = DiGress.load(tmp_path / "m")
    assert (again.config, again.vocabulary, again.probs) == (model.config, model.vocabulary, model.probs)
    a, b = model.sample(5, seed=2), again.sample(5, seed=2)
    assert a.graphs.A.equal(b.graphs.A) and a.graphs.types.equal(b.graphs.types)
    assert Graphs.load(a.write(tmp_path / "s.npz")).A.equal(a.graphs.A)


def test_a_resumed_training_is_the_uninterrupted_one(tmp_path):
    graphs, settings = molecules(), TINY | {"ema": 0.9}
    whole = DiGress.for_dataset(graphs, "small", **settings).fit(graphs, max_steps=8, batch_size=3, seed=1)
    # the rate falls to zero at max_steps, so that the interrupted run must have had the same end
    part = DiGress.for_dataset(graphs, "small", **settings, decay="constant")
    part.fit(graphs, max_steps=4, batch_size=3, seed=1, out=tmp_path)
    part.fit(graphs, max_steps=8, batch_size=3, seed=1, out=tmp_path, resume=True)
    straight = DiGress.for_dataset(graphs, "small", **settings, decay="constant")
    straight.fit(graphs, max_steps=8, batch_size=3, seed=1)
    for name, value in straight._network().state_dict().items():
        torch.testing.assert_close(part._network().state_dict()[name], value, rtol=0, atol=0)
    assert not torch.equal(whole._network().graph.out[0][0].weight, straight._network().graph.out[0][0].weight)
    with pytest.raises(ValueError, match="layers was 1, now 2"):
        DiGress.for_dataset(graphs, "small", **settings | {"layers": 2}, decay="constant").fit(
            graphs, max_steps=9, batch_size=3, seed=1, out=tmp_path, resume=True
        )
    with pytest.raises(ValueError, match="other data"):
        part.fit(graphs[:7], max_steps=9, batch_size=3, seed=1, out=tmp_path, resume=True)


# ---------------------------------------------------------------- properties, steering, scaffolds


def test_properties_that_are_asked_for_are_what_samples_have():
    graphs = from_smiles(["CC", "OO"] * 15, "CO", max_atoms=2)
    object.__setattr__(graphs, "properties", {"oxygen": torch.tensor([0.0, 2.0] * 15, dtype=torch.float64)})
    settings = LEARN | {"properties": ("oxygen",), "dropout_properties": 0.3}
    fitted = DiGress.for_dataset(graphs, "small", **settings).fit(graphs, max_steps=80, batch_size=30, seed=0)
    assert fitted.scales == {"oxygen": [1.0, 1.0]}
    asked = [fitted.sample(20, steps=10, seed=0, condition={"oxygen": v}).smiles for v in (0.0, 2.0)]
    assert asked[0].count("CC") >= 18 and asked[1].count("OO") >= 18
    either = Counter(fitted.sample(20, steps=10, seed=0).smiles)
    assert min(either["CC"], either["OO"]) >= 4
    each = fitted.sample(4, steps=10, seed=1, condition={"oxygen": [0.0, 2.0, 0.0, 2.0]}, guidance_scale=2.0)
    assert each.smiles == ["CC", "OO", "CC", "OO"]
    with pytest.raises(ValueError, match=r"cannot be asked for \['mu'\]"):
        fitted.sample(2, condition={"mu": 1.0})
    with pytest.raises(ValueError, match="needs a condition"):
        fitted.sample(2, guidance_scale=2.0)
    with pytest.raises(ValueError, match="one for each of 2 samples"):
        fitted.sample(2, condition={"oxygen": [1.0, 2.0, 0.0]})
    with pytest.raises(ValueError, match="no property 'oxygen'"):
        fitted.fit(from_smiles(["CC"], "CO", max_atoms=2), max_steps=1)


def heavy(mol):
    return float(sum(atom.GetAtomicNum() for atom in mol.GetAtoms()))


@pytest.mark.parametrize("steering", [SVDD(heavy, candidates=4, alpha=0.0), FeynmanKac(heavy, walkers=4, lam=2.0)])
def test_steering_raises_a_reward_of_molecules(model, steering):
    settings = {"seed": 0, "nodes": 4}
    plain = model.sample(12, **settings)
    steered = model.sample(12, steering=steering, **settings)
    reward = [sum(heavy(mol) for mol in out.mols if mol is not None) / 12 for out in (plain, steered)]
    assert reward[1] > reward[0] + 1.0
    assert steered.info["network_calls"] == 4 * plain.info["network_calls"] and len(steered) == 12


def test_steering_of_other_graphs_sees_their_adjacency():
    fitted = DiGress.for_dataset(rings(), "small", **TINY).fit(rings(), max_steps=2, seed=0)
    out = [
        fitted.sample(6, nodes=4, seed=0, steering=s)
        for s in (None, SVDD(lambda a: float(a.sum()), candidates=4, alpha=0.0))
    ]
    assert out[1].graphs.A.sum() > out[0].graphs.A.sum()


def test_scaffolds_stay(model):
    out = model.sample(6, seed=0, scaffold="C=CO")
    assert int(out.graphs.num_nodes.min()) >= 4
    assert torch.equal(out.graphs.types[:, :3], torch.tensor([[0, 0, 2]], dtype=torch.uint8).expand(6, 3))
    bonds = torch.tensor([[0, 2, 0], [2, 0, 1], [0, 1, 0]], dtype=torch.uint8)
    assert torch.equal(out.graphs.A[:, :3, :3], bonds.expand(6, 3, 3))
    ring = rings((3,))
    fitted = DiGress.for_dataset(rings(), "small", **TINY).fit(rings(), max_steps=2, seed=0)
    held = fitted.sample(4, nodes=5, seed=0, scaffold=ring)
    assert torch.equal(held.graphs.A[:, :3, :3], ring.A.expand(4, 3, 3))


# ---------------------------------------------------------------- refusals


def test_what_cannot_be(model, tmp_path):
    graphs = molecules()
    with pytest.raises(RuntimeError, match="not trained"):
        DiGress.for_dataset(graphs, "small").sample(2)
    with pytest.raises(TypeError, match="not both"):
        DiGress(DiGressConfig(), layers=2)
    with pytest.raises(ValueError, match="number of samples must be a positive integer, got 0"):
        model.sample(0)
    with pytest.raises(ValueError, match="number of steps must be a positive integer, got 0"):
        model.sample(1, steps=0)
    with pytest.raises(ValueError, match="1 to 5 nodes"):
        model.sample(1, nodes=6)
    with pytest.raises(ValueError, match="vocabulary="):
        model.fit(from_smiles(["CCO"], "CO", max_atoms=5), max_steps=1)
    with pytest.raises(ValueError, match="features, which are numbers"):
        DiGress.for_dataset(rings().with_degrees())
    A, types = torch.zeros(0, 5, 5, dtype=torch.uint8), torch.zeros(0, 5, dtype=torch.uint8)
    with pytest.raises(ValueError, match="no graphs"):
        model.fit(Graphs(A, types.bool(), types, tuple("CNOF"), "implicit"), max_steps=1)
    with pytest.raises(TypeError, match="takes Graphs"):
        model.fit(["CCO"], max_steps=1)
    with pytest.raises(ValueError, match="no molecule"):
        model.sample(1, scaffold="C(")
    with pytest.raises(TypeError, match=r"one of core.discrete, such as Ancestral\(\), got 'ancestral'"):
        model.sample(2, sampler="ancestral")
    with pytest.raises(TypeError, match="steering must be"):
        model.sample(1, steering="qed")
    with pytest.raises(ValueError, match="epochs or max_steps"):
        model.fit(graphs, epochs=1, max_steps=1)
