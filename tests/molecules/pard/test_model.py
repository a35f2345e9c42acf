"""PARD end to end at toy size: training, samples, files, and what it refuses."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from scipy.stats import chisquare

pytest.importorskip("lightning")
pytest.importorskip("rdkit")

from scidiffuse.core.checkpoint import CheckpointError
from scidiffuse.molecules.data.graphs import Graphs
from scidiffuse.molecules.data.smiles import from_smiles
from scidiffuse.molecules.pard import PARD, PARDConfig
from scidiffuse.molecules.pard.config import PRESETS

SMILES = ["C", "CCO", "C1CC1", "CC(=O)N", "O=C=O", "N#CC", "CF", "C=C", "CCCCO"]
TINY = {"layers": 1, "hidden": 8, "edge_hidden": 6, "heads": 2, "steps": 3}
FAST = {"max_steps": 6, "batch_size": 8, "seed": 0}


def molecules():
    return from_smiles(SMILES, "CNOF", max_atoms=5)


def graphs_of(*edges, nodes=3):
    A = torch.zeros(len(edges), nodes, nodes, dtype=torch.uint8)
    mask = torch.zeros(len(edges), nodes, dtype=torch.bool)
    for b, pairs in enumerate(edges):
        for i, j in pairs:
            A[b, i, j] = A[b, j, i] = 1
        mask[b, : 1 + max(max(pair) for pair in pairs)] = True
    return Graphs(A, mask)


EDGE, PATH, TRIANGLE = [(0, 1)], [(0, 1), (1, 2)], [(0, 1), (1, 2), (0, 2)]
# the same path in its three numberings
PATHS = [PATH, [(0, 1), (0, 2)], [(0, 2), (1, 2)]]


@pytest.fixture(scope="module")
def model():
    return PARD.for_dataset(molecules(), "small", **TINY).fit(molecules(), **FAST)


# ---------------------------------------------------------------- what it learns


def test_three_graphs_come_with_their_frequencies():
    # 2 edges, 5 paths, 3 triangles of ten
    graphs = graphs_of(EDGE, EDGE, *PATHS, *PATHS[:2], TRIANGLE, TRIANGLE, TRIANGLE)
    settings = {"layers": 1, "hidden": 16, "edge_hidden": 8, "heads": 2, "steps": 6, "shared": True, "ema": 0.95}
    model = PARD.for_dataset(graphs, "community_small", max_hops=3, noise="uniform", **settings)
    model.fit(graphs[list(range(10)) * 4], max_steps=120, batch_size=40, lr=2e-2, seed=0)
    out = model.sample(400, seed=0).graphs
    found = Counter(zip(out.num_nodes.tolist(), (out.A.sum((1, 2)) // 2).tolist(), strict=True))
    share = {name: found[key] / 400 for name, key in {"edge": (2, 1), "path": (3, 2), "triangle": (3, 3)}.items()}
    for name, true in {"edge": 0.2, "path": 0.5, "triangle": 0.3}.items():
        assert share[name] == pytest.approx(true, abs=0.08), share  # of 400 samples, standard errors are below 0.025
    assert sum(share.values()) > 0.98


def test_no_numbering_of_a_graph_is_likelier_than_another():
    # one block of three nodes, a network with random weights: paths are equally often centred at each of them
    graphs = graphs_of(*PATHS, TRIANGLE)
    settings = {"layers": 1, "hidden": 16, "edge_hidden": 8, "heads": 2, "steps": 3, "noise": "uniform"}
    model = PARD.for_dataset(graphs, "community_small", max_hops=0, **settings).fit(graphs, max_steps=1, seed=0)
    A = model.sample(3000, seed=0).graphs.A[:, :3, :3]
    centres = (A.sum(2) == 2)[A.sum((1, 2)) == 4].sum(0)  # of the paths
    found = centres.double().numpy()
    assert found.sum() > 600 and chisquare(found).pvalue > 1e-3, found


def test_training_learns_and_samples_have_their_words(model):
    out = model.sample(12, seed=0)
    assert len(out) == len(out.mols) == len(out.smiles) == 12
    assert set(out.report) == {"valid_uncorrected_gdss", "valid_corrected_gdss", "connected", "neutral"}
    assert float(out.report["valid_corrected_gdss"]) == sum(s is not None for s in out.smiles) / 12
    assert out.graphs.vocabulary == ("C", "N", "O", "F") and out.graphs.ids == tuple(range(12))
    assert out.info["model"] == "PARD" and 1.0 <= out.info["blocks"] <= 5.0
    longer = PARD.for_dataset(molecules(), "small", **TINY).fit(molecules(), max_steps=60, batch_size=9, log_every=10)
    assert longer.history[-1]["loss"] < 0.8 * longer.history[0]["loss"]


def test_one_type_needs_no_leaf_of_types():
    graphs = from_smiles(["C", "CC", "CCC", "C=C"], "C")
    fitted = PARD.for_dataset(graphs, "small", **TINY).fit(graphs, **FAST)
    assert list(fitted.denoiser.process.leaves) == ["A"]
    out = fitted.sample(5, seed=0)
    assert out.graphs.vocabulary == ("C",) and all(set(s) <= set("C=#1()") for s in out.smiles if s)


# ---------------------------------------------------------------- samples


def test_samples_depend_on_seed_and_number_alone(model):
    whole = model.sample(9, seed=3)
    parts = model.sample(9, seed=3, max_batch=4)
    assert torch.equal(whole.graphs.A, parts.graphs.A) and torch.equal(whole.graphs.types, parts.graphs.types)
    fewer = model.sample(5, seed=3)
    assert torch.equal(fewer.graphs.A, whole.graphs.A[:5])
    other = model.sample(9, seed=4)
    assert not torch.equal(other.graphs.A, whole.graphs.A)


def test_the_largest_graph_is_kept_to(model):
    out = model.sample(40, seed=0, max_nodes=3)
    assert int(out.graphs.num_nodes.max()) == 3 and out.graphs.max_nodes == 3
    assert int(model.sample(40, seed=0).graphs.num_nodes.max()) > 3


def test_steps_of_sampling_may_differ_from_those_of_training(model):
    few, many = model.sample(4, seed=0, steps=1), model.sample(4, seed=0, steps=7)
    assert few.info["steps"] == 1 and many.info["network_calls"] > few.info["network_calls"]


def test_without_hops_there_is_one_block_and_its_size_is_that_of_the_data():
    graphs = molecules()
    fitted = PARD.for_dataset(graphs, "small", **(TINY | {"max_hops": 0})).fit(graphs, **FAST)
    shares = fitted.first.sum(1)
    assert torch.equal(shares, torch.bincount(graphs.num_nodes, minlength=6).double() / 9)


# ---------------------------------------------------------------- files


def test_saved_and_loaded_models_sample_the_same(model, tmp_path):
    model.save(tmp_path / "m")
    again = PARD.load(tmp_path / "m")
    assert again.config == model.config and again.shape == model.shape and torch.equal(again.first, model.first)
    a, b = model.sample(6, seed=2), again.sample(6, seed=2)
    assert torch.equal(a.graphs.A, b.graphs.A) and a.smiles == b.smiles
    lines = a.write(tmp_path / "s.smi").read_text().splitlines()
    assert lines == [f"{s} {i}" for i, s in enumerate(a.smiles) if s is not None]
    text = (tmp_path / "m" / "checkpoint.json").read_text()
    (tmp_path / "m" / "checkpoint.json").write_text(text.replace('"layers"', '"depth"'))
    with pytest.raises(CheckpointError, match=r"\['depth'\]"):
        PARD.load(tmp_path / "m")


def test_a_resumed_training_is_the_uninterrupted_one(tmp_path):
    graphs, settings = molecules(), TINY | {"ema": 0.9, "noise": "marginal"}
    run = {"batch_size": 3, "seed": 1}
    whole = PARD.for_dataset(graphs, "small", **settings).fit(graphs, max_steps=8, **run)
    # the learning rate falls until max_steps: an interrupted training is one that was to go as far
    part = PARD.for_dataset(graphs, "small", **settings)
    with pytest.raises(_StoppedError):
        part.fit(graphs, max_steps=8, out=tmp_path, save_every=1, callbacks=[_stop_after(4)], **run)
    part.fit(graphs, max_steps=8, out=tmp_path, save_every=1, resume=True, **run)
    for name, value in whole._network().state_dict().items():
        torch.testing.assert_close(part._network().state_dict()[name], value, rtol=0, atol=0)
    other = PARD.for_dataset(graphs, "small", **(settings | {"layers": 2}))
    with pytest.raises(ValueError, match="layers was 1, now 2"):
        other.fit(graphs, max_steps=9, out=tmp_path, resume=True, **run)
    with pytest.raises(ValueError, match="other data"):
        part.fit(graphs[:7], max_steps=9, out=tmp_path, resume=True, **run)


class _StoppedError(Exception):
    """A training broken off."""


def _stop_after(steps):
    from lightning.pytorch.callbacks import Callback

    class Stop(Callback):
        def on_train_batch_start(self, trainer, module, batch, index):
            if trainer.global_step >= steps:
                raise _StoppedError

    return Stop()


def test_validation_is_watched_and_its_best_weights_are_kept(tmp_path):
    graphs = molecules()
    fitted = PARD.for_dataset(graphs, "small", **TINY)
    fitted.fit(graphs[:7], val=graphs[7:], out=tmp_path, **(FAST | {"batch_size": 3}))
    assert any("val_loss" in row for row in fitted.history)
    assert (tmp_path / "best" / "checkpoint.json").is_file()


# ---------------------------------------------------------------- bad input


def test_presets_are_the_published_settings():
    for name in PRESETS:
        PARDConfig.preset(name)
    qm9, planar = PARDConfig.preset("qm9"), PARDConfig.preset("planar")
    assert qm9 == PARDConfig() and (qm9.max_hops, qm9.steps, qm9.coeff_ce, qm9.noise) == (3, 50, 0.1, "uniform")
    assert (qm9.layers, qm9.hidden, qm9.edge_hidden, qm9.lr, qm9.epochs, qm9.batch_size) == (8, 256, 64, 4e-4, 100, 128)
    assert (planar.max_hops, planar.layers, planar.absolute) == (1, 10, False)
    community = PARDConfig.preset("community_small")
    assert (community.noise, community.steps, community.coeff_ce) == ("marginal", 40, 0.01)
    assert PARD.for_dataset(molecules()).config == qm9
    assert PARD.for_dataset(graphs_of(PATH)).config == community
    with pytest.raises(ValueError, match="no preset 'qm10'; there are qm9"):
        PARDConfig.preset("qm10")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_hops": -1}, "max_hops must be a number of hops"),
        ({"steps": 0}, "steps must be a positive integer"),
        ({"heads": 3}, "multiple of heads=3"),
        ({"noise": "masked"}, "noise must be 'uniform' or 'marginal'"),
        ({"keep": "sigmoid"}, "unknown schedule 'sigmoid'"),
        ({"coeff_ce": -0.1}, "coeff_ce must be finite and not negative"),
        ({"lr": 0.0}, "lr must be positive"),
        ({"ema": 1.0}, "ema must lie between"),
    ],
)
def test_settings_out_of_range(settings, words):
    with pytest.raises(ValueError, match=words):
        PARDConfig(**settings)


def test_what_a_model_refuses(model):
    some = molecules()
    fresh = PARD.for_dataset(some, "small", **TINY)
    with pytest.raises(RuntimeError, match="not trained"):
        fresh.sample(2)
    with pytest.raises(RuntimeError, match="has seen no graphs"):
        PARD().inputs(some)
    with pytest.raises(ValueError, match="vocabulary"):
        fresh.fit(from_smiles(["CS"], "CS"), **FAST)
    with pytest.raises(ValueError, match="hydrogens"):
        fresh.fit(replace(some, hydrogens="explicit"), **FAST)
    with pytest.raises(ValueError, match="7 nodes, 5 are asked for"):
        fresh.fit(from_smiles(["CCCCCCC"], "CNOF"), **FAST)
    with pytest.raises(ValueError, match="nodes in a block up to 3, these graphs have 4"):
        fresh.fit(from_smiles(["C1CCC1"], "CNOF"), **FAST)
    with pytest.raises(ValueError, match="no graphs"):
        fresh.fit(Graphs(some.A[:0], some.mask[:0], some.types[:0], some.vocabulary, "implicit"), **FAST)
    with pytest.raises(ValueError, match="4 real features"):
        PARD.for_dataset(replace(some, features=some.X))
    with pytest.raises(TypeError, match="takes Graphs"):
        fresh.fit(SMILES, **FAST)
    with pytest.raises(ValueError, match="not both"):
        fresh.fit(some, epochs=1, max_steps=1)
    with pytest.raises(ValueError, match="epochs must be positive"):
        fresh.fit(some, epochs=0)
    for n in (0, 2.0, True):
        with pytest.raises(ValueError, match="number of samples must be a positive integer"):
            model.sample(n)
    with pytest.raises(ValueError, match="steps must be a positive integer"):
        model.sample(2, steps=0)
    with pytest.raises(ValueError, match="to 5, the largest training graph; got 6"):
        model.sample(2, max_nodes=6)
    with pytest.raises(TypeError, match="not both"):
        PARD(PARDConfig(), layers=3)
    with pytest.raises(TypeError, match="must be a PARDConfig"):
        PARD({"layers": 3})
