"""The networks of PARD: one pass says of every block what the sequential pass says, and nothing is told ahead."""

from __future__ import annotations

import pytest
import torch

from scidiffuse.core.discrete.process import leafwise
from scidiffuse.molecules.data.smiles import from_smiles
from scidiffuse.molecules.pard.config import PARDConfig
from scidiffuse.molecules.pard.network import Shape
from scidiffuse.molecules.pard.training import TrainingSet, build
from scidiffuse.molecules.tokens import frequencies

SMILES = ["C", "CCO", "C1CC1", "CC(=O)N", "O=C=O", "N#CC", "CC(C)CO", "CCCCO"]
TINY = {"layers": 2, "hidden": 8, "edge_hidden": 6, "heads": 2, "steps": 5}
SHAPE = Shape(4, 4, 5, 5, 3)


def batch_of(hops=3, nodes=5):
    graphs = from_smiles(SMILES, "CNOF", max_atoms=5).padded(nodes)
    data = TrainingSet(graphs, hops)
    return TrainingSet.collate([data[i] for i in range(len(graphs))]), frequencies(graphs, SHAPE.bonds, SHAPE.types)


def network(seed=0, **changes):
    """In float64, and no weight at zero or alike."""
    config = PARDConfig(**(TINY | changes))
    denoiser = build(config, SHAPE, batch_of()[1], seed)
    net = denoiser.network.double()
    generator = torch.Generator().manual_seed(seed)
    for p in net.parameters():
        p.data += 0.2 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    return net


def noisy(net, batch, seed=0):
    u = {
        k: torch.rand(v.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        for k, v in batch["x"].items()
    }
    u["A"] = u["A"].triu(1) + u["A"].triu(1).transpose(1, 2)
    t = torch.linspace(0.2, 1.0, len(batch["mask"]), dtype=torch.float64)
    xt = leafwise(net.process, lambda process, x, w: process.corrupt(x, t, w), batch["x"], u)
    real = batch["mask"]
    apart = ~torch.eye(real.shape[1], dtype=torch.bool)
    return {"X": xt["X"] * real, "A": xt["A"] * (real[:, :, None] & real[:, None, :] & apart)}, t


def parallel(net, batch, xt, t, clean=None):
    return net.parallel(clean or batch["x"], xt, t, batch["block"], batch["degree"], batch["sizes"])


def targets(block, number):
    """Nodes and pairs of one block."""
    new = block == number
    some = (block >= 0) & (block <= number)
    pairs = (new[:, :, None] & some[:, None, :]) | (new[:, None, :] & some[:, :, None])
    return {"X": new, "A": pairs & ~torch.eye(block.shape[1], dtype=torch.bool)}


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("hops", "noise"), [(0, "uniform"), (1, "marginal"), (3, "uniform")])
def test_the_parallel_pass_is_the_sequential_one_of_every_block(hops, noise, shared):
    net, (batch, _) = network(shared=shared, noise=noise), batch_of(hops)
    xt, t = noisy(net, batch)
    raw, following = parallel(net, batch, xt, t)
    block, seen = batch["block"], 0
    for number in range(int(block.max()) + 1):
        there = (block.amax(1) >= number).nonzero().flatten()
        so_far = torch.where(block[there] <= number, block[there], -1)
        target, pairs = targets(so_far, number)["X"], targets(so_far, number)["A"]
        old = (so_far >= 0) & ~target
        state = {  # earlier blocks are clean, this one is noisy, later ones are not there
            "X": torch.where(target, xt["X"][there], batch["x"]["X"][there] * old),
            "A": torch.where(pairs, xt["A"][there], batch["x"]["A"][there] * (old[:, :, None] & old[:, None, :])),
        }
        degree = batch["degree"][there] * (so_far >= 0)
        current = torch.full((len(there),), number)
        one = net.sequential(state, t[there], so_far, degree, current)
        for leaf, own in {"X": target, "A": pairs}.items():
            torch.testing.assert_close(raw[leaf][there][own], one[leaf][own], rtol=1e-9, atol=1e-9)
            seen += int(own.sum())
        finished = {
            "X": batch["x"]["X"][there] * (so_far >= 0),
            "A": batch["x"]["A"][there] * ((so_far >= 0)[:, :, None] & (so_far >= 0)[:, None, :]),
        }
        size, known = net.next_size(finished, so_far, degree)
        torch.testing.assert_close(following.size[there, number], size, rtol=1e-9, atol=1e-9)
        after = torch.nn.functional.pad(batch["sizes"], (0, 1))[there, number + 1]
        torch.testing.assert_close(following.degree[there, number], net.next_degree(known, after), rtol=1e-9, atol=1e-9)
    mask = batch["mask"]
    n = mask.sum(1)
    assert seen == int(n.sum() + (n * (n - 1)).sum())  # every node and pair once, in one block


@pytest.mark.parametrize("shared", [True, False])
def test_a_block_is_told_nothing_of_itself_and_of_later_ones(shared):
    net, (batch, _) = network(shared=shared), batch_of()
    xt, t = noisy(net, batch)
    raw, following = parallel(net, batch, xt, t)
    block = batch["block"]
    other = lambda x, states: (x + 1) % states  # noqa: E731
    for number in range(int(block.max()) + 1):
        ahead, pairs = block >= number, torch.maximum(block[:, :, None], block[:, None, :]) >= number
        clean = {
            "X": torch.where(ahead, other(batch["x"]["X"], 4), batch["x"]["X"]),
            "A": torch.where(pairs, other(batch["x"]["A"], 4), batch["x"]["A"]),
        }
        own = targets(block, number)  # what the noisy copy says of other blocks must not matter either
        noise = {leaf: torch.where(own[leaf], xt[leaf], other(xt[leaf], 4)) for leaf in xt}
        degree = torch.where(block > number, 0, batch["degree"])
        raw2, following2 = net.parallel(clean, noise, t, block, degree, batch["sizes"])
        for leaf in raw:
            assert torch.equal(raw[leaf][own[leaf]], raw2[leaf][own[leaf]])
            if number + 1 <= int(block.max()):
                later = targets(block, number + 1)[leaf]
                assert not torch.equal(raw[leaf][later], raw2[leaf][later])  # it was a change
        if number > 0:  # what comes next is told from what is there
            assert torch.equal(following.size[:, number - 1], following2.size[:, number - 1])
            assert torch.equal(following.degree[:, number - 1], following2.degree[:, number - 1])


def test_renumbered_graphs_have_renumbered_logits():
    net, (batch, _) = network(), batch_of()
    xt, t = noisy(net, batch)
    raw, following = parallel(net, batch, xt, t)
    p = torch.randperm(5, generator=torch.Generator().manual_seed(1))

    def moved(x):
        return {"X": x["X"][:, p], "A": x["A"][:, p][:, :, p]}

    raw2, following2 = net.parallel(
        moved(batch["x"]), moved(xt), t, batch["block"][:, p], batch["degree"][:, p], batch["sizes"]
    )
    real = batch["mask"]
    pairs = real[:, :, None] & real[:, None, :] & ~torch.eye(5, dtype=torch.bool)
    torch.testing.assert_close(raw2["X"][real[:, p]], raw["X"][:, p][real[:, p]])
    torch.testing.assert_close(
        raw2["A"][moved({"X": real, "A": pairs})["A"]], moved(raw)["A"][moved({"X": real, "A": pairs})["A"]]
    )
    assert torch.equal(raw["A"], raw["A"].transpose(1, 2))  # of a bond, whichever end is asked
    there = batch["sizes"] > 0
    torch.testing.assert_close(following2.size[there], following.size[there])


def test_padding_and_company_change_nothing():
    net, (batch, _) = network(), batch_of()
    xt, t = noisy(net, batch)
    raw, following = parallel(net, batch, xt, t)
    for b, n in enumerate(batch["mask"].sum(1).tolist()):
        cut = {"X": (slice(b, b + 1), slice(n)), "A": (slice(b, b + 1), slice(n), slice(n))}
        few = [{leaf: part[leaf][cut[leaf]] for leaf in part} for part in (batch["x"], xt)]
        raw2, following2 = net.parallel(
            *few, t[b : b + 1], batch["block"][cut["X"]], batch["degree"][cut["X"]], batch["sizes"][b : b + 1]
        )
        for leaf in raw:
            torch.testing.assert_close(raw2[leaf], raw[leaf][cut[leaf]], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(following2.size[0, 0], following.size[b, 0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("noise", ["uniform", "marginal"])
def test_a_network_that_knows_nothing_says_what_the_noisy_value_says(noise):
    net, (batch, _) = network(noise=noise), batch_of()
    xt, t = noisy(net, batch)
    for head in (net.node_out, net.pair_out):
        head[-1].weight.data.zero_()
        head[-1].bias.data.zero_()
    raw, _ = parallel(net, batch, xt, t)
    for leaf, process in net.process.leaves.items():
        for b in range(len(t)):
            q = process.marginal(float(t[b]))  # rows x_0
            posterior = (q / q.sum(0)).T  # p(x_0 | x_t) under a flat prior, rows x_t
            found = raw[leaf][b].softmax(-1)
            expected = posterior[xt[leaf][b]]
            reached = q.sum(0)[xt[leaf][b]] > 1e-9  # "marginal" never makes what the data do not hold
            torch.testing.assert_close(found[reached], expected[reached], rtol=1e-9, atol=1e-12)
