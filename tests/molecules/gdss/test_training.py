"""GDSS: processes, the published parametrisation, its loss and its optimiser against formulas."""

from __future__ import annotations

import copy
import math

import pytest
import torch

pytest.importorskip("lightning")
pytest.importorskip("rdkit")

from scidiffuse.core.denoisers import Denoiser
from scidiffuse.core.training import Keys
from scidiffuse.molecules.data.smiles import from_smiles
from scidiffuse.molecules.gdss import GDSS
from scidiffuse.molecules.gdss.config import GDSSConfig
from scidiffuse.molecules.gdss.schedules import GeometricVE, schedules_of
from scidiffuse.molecules.gdss.training import GraphLoss, SeparateAdam, TrainingSet, build, space_of
from scidiffuse.molecules.training import time_itself

SMILES = ["C", "CCO", "C1CC1", "CC(=O)N", "O=C=O", "N#CC", "CF", "C=C", "CCCCO"]
TINY = {"hidden": 8, "attention": 8, "depth": 1, "layers": 2, "linears": 1, "c_hidden": 4, "c_final": 2, "heads": 2}
VE, VP, SUB = ("VE", 0.1, 1.0), ("VP", 0.1, 1.0), ("subVP", 0.1, 1.0)


def molecules():
    return from_smiles(SMILES, "CNOF", max_atoms=5)


def batch_of(graphs):
    data = TrainingSet(graphs)
    return data.collate([data[i] for i in range(len(graphs))])


# ---------------------------------------------------------------- processes and parametrisation


def test_geometric_ve_is_the_published_level_and_clean_at_zero():
    ve = GeometricVE(0.1, 1.0)
    assert ve.sigma(1.0) == pytest.approx(1.0) and ve.sigma(0.5) == pytest.approx(math.sqrt(0.1))
    assert ve.sigma(1e-9) == pytest.approx(0.1) and ve.sigma(0.0) == 0.0
    t = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    assert ve.sigma(t).tolist() == pytest.approx([ve.sigma(float(s)) for s in t])
    assert math.sqrt(ve.g2(0.3)) == pytest.approx(ve.sigma(0.3) * math.sqrt(2 * math.log(10.0)))
    step = 1e-6
    slope = (ve.sigma(0.3 + step) - ve.sigma(0.3 - step)) / (2 * step)
    assert ve.derivatives(0.3)[2] == pytest.approx(slope, rel=1e-6)
    assert ve.time_of_log_snr(ve.log_snr(0.37)) == pytest.approx(0.37)


def test_vp_constants_leave_three_quarters_of_the_data_at_the_end():
    assert schedules_of(VP, VE).leaves["X"].alpha(1.0) == pytest.approx(math.exp(-0.275))
    assert schedules_of(VP, VE).leaves["A"].alpha(1.0) == 1.0


@pytest.mark.parametrize("process", [VP, VE, SUB])
def test_scores_are_the_published_ones(process):
    """VP and subVP: -net / sigma(t). VE: net."""
    config = GDSSConfig(**TINY, x_process=process, a_process=process)
    denoiser, batch = build(config, 4, 0), batch_of(molecules())
    x, nodes, t = batch["x"], batch["nodes"], 0.4
    score = denoiser.on(space_of(nodes))(x, t, nodes=nodes).score
    net = {"X": denoiser.network.nodes, "A": denoiser.network.edges}
    sigma = denoiser.schedule.leaves["X"].sigma(t)
    for leaf, network in net.items():
        raw = network(x["X"], x["A"], nodes)
        torch.testing.assert_close(score[leaf], raw if process is VE else -raw / sigma)


def test_what_each_coupling_lets_the_networks_see():
    batch = batch_of(molecules())
    x, nodes = batch["x"], batch["nodes"]
    t = torch.full((len(nodes),), 0.5)
    pairs = nodes[:, :, None] & nodes[:, None, :]
    other = {"X": (x["X"] + 1) * nodes[..., None], "A": (x["A"] + 1).triu(1) * pairs}
    other["A"] = other["A"] + other["A"].mT
    seen = {}
    for coupling in ("joint", "independent", "sequential"):
        network = build(GDSSConfig(**TINY, coupling=coupling), 4, 0).network
        given = x["X"] if coupling == "sequential" else None
        here = network(x, t, nodes, given)
        new_a = network({"X": x["X"], "A": other["A"]}, t, nodes, given)
        new_x = network({"X": other["X"], "A": x["A"]}, t, nodes, given)
        seen[coupling] = (not torch.equal(here["X"], new_a["X"]), not torch.equal(here["A"], new_x["A"]))
        if coupling == "sequential":
            assert not torch.equal(here["A"], network(x, t, nodes, other["X"])["A"])
            with pytest.raises(ValueError, match="finished X"):
                network(x, t, nodes)
    assert seen == {"joint": (True, True), "independent": (False, False), "sequential": (False, False)}


# ---------------------------------------------------------------- loss and optimiser


def test_loss_by_hand():
    """Two nodes, one bond, one feature, networks that say c: L = sum (z - n)^2 / 2, both triangles of A counted."""
    c, t = 0.3, 0.5

    class Constant(torch.nn.Module):
        def forward(self, x, label, nodes):
            return {name: torch.full_like(leaf, c) for name, leaf in x.items()}

    mask = torch.tensor([[True, True, False]])
    x0 = {"X": torch.tensor([[[1.0], [1.0], [0.0]]]), "A": torch.zeros(1, 3, 3)}
    x0["A"][0, 0, 1] = x0["A"][0, 1, 0] = 2.0
    recorded = {"noise/X": torch.tensor([[0.7, -0.2]]), "noise/A": torch.tensor([[1.1]])}

    def noise(like, draw, role):
        assert like.shape == recorded[role].shape
        return recorded[role]

    denoiser = Denoiser(Constant(), schedules_of(VP, VE), "noise", label=time_itself)
    parts = GraphLoss().leaves(denoiser, {"x": x0, "nodes": mask}, torch.tensor([t], dtype=torch.float64), noise)
    # what the networks say of the absent node and of the diagonal counts nowhere
    assert float(parts["X"]) == pytest.approx(0.5 * ((0.7 - c) ** 2 + (-0.2 - c) ** 2))
    assert float(parts["A"]) == pytest.approx(0.5 * 2 * (1.1 - c) ** 2)


def test_loss_of_a_graph_does_not_depend_on_padding_or_company():
    denoiser, graphs = build(GDSSConfig(**TINY), 4, 0), molecules()
    keys = Keys.of(0, 3, range(len(graphs)))
    loss = GraphLoss()(denoiser, batch_of(graphs), keys)
    assert loss.shape == (len(graphs),) and bool((loss > 0).all())  # methane, one node, has a loss
    torch.testing.assert_close(GraphLoss()(denoiser, batch_of(graphs.padded(9)), keys), loss)
    alone = Keys(0, keys.keys[2:3], keys.strata)
    torch.testing.assert_close(GraphLoss()(denoiser, batch_of(graphs[2]), alone), loss[2:3])


def test_one_adam_takes_the_steps_of_the_two_published_ones():
    graphs = molecules()
    one, batch = build(GDSSConfig(**TINY), 4, 0), batch_of(graphs)
    two = copy.deepcopy(one)
    both = SeparateAdam([one.network.nodes, one.network.edges], 0.01, 1e-4, 0.05)
    apart = [torch.optim.Adam(m.parameters(), 0.01, weight_decay=1e-4) for m in (two.network.nodes, two.network.edges)]
    start = copy.deepcopy(one.network.state_dict())
    for step in range(3):
        keys = Keys.of(0, step, range(len(graphs)))
        both.zero_grad()

        def closure(keys=keys):
            loss = GraphLoss()(one, batch, keys).mean()
            loss.backward()
            return loss

        both.step(closure)
        t = 1e-5 + (1 - 1e-5) * keys.uniforms("time")[:, 0]
        for leaf, optimizer, part in zip("XA", apart, (two.network.nodes, two.network.edges), strict=True):
            optimizer.zero_grad()
            GraphLoss().leaves(two, batch, t, keys.noise)[leaf].mean().backward()
            torch.nn.utils.clip_grad_norm_(part.parameters(), 0.05)
        for optimizer in apart:
            optimizer.step()
    for name, value in two.network.state_dict().items():
        torch.testing.assert_close(one.network.state_dict()[name], value, rtol=1e-4, atol=1e-6)
    assert any(not torch.equal(start[k], v) for k, v in one.network.state_dict().items())


def test_learning_rate_falls_once_an_epoch():
    fitted = GDSS.for_dataset(molecules(), **TINY, decay=0.5)
    fitted.fit(molecules()[:8], epochs=3, batch_size=4, lr=0.01, log_every=1)
    assert fitted.steps == 6
    # the rate that is logged is the one of the next step
    assert [row["lr"] for row in fitted.history] == pytest.approx([0.01, 0.005, 0.005, 0.0025, 0.0025, 0.00125])
