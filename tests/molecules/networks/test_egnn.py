"""The two networks of molecules in space keep every symmetry; what is said of both is tested on both."""

from __future__ import annotations

import pytest
import torch

from scidiffuse.molecules.networks.dual_track import DualTrack
from scidiffuse.molecules.networks.egnn import EGNN, Pairs, centred

F, C = 5, 2
NETWORKS = {
    "egnn": lambda: EGNN(F, C, hidden=16, layers=2),
    "dtn blocks": lambda: DualTrack(F, C, 16, 16, 2, 2, 0.0, 4, "blocks", 0.4),
    "dtn input": lambda: DualTrack(F, C, 16, 16, 2, 2, 0.0, None, "input", 0.4),
}


@pytest.fixture(params=NETWORKS)
def network(request):
    torch.manual_seed(0)
    net = NETWORKS[request.param]().double()
    with torch.no_grad():  # shifts begin near zero, which would hide what they do
        for name, parameter in net.named_parameters():
            if "shift" in name and parameter.shape[0] == 1:
                parameter.copy_(torch.randn_like(parameter))
    return net


def batch(sizes=(2, 5, 7, 4), n=7, seed=1):
    g = torch.Generator().manual_seed(seed)
    mask = torch.arange(n) < torch.tensor(sizes)[:, None]
    x = torch.randn(len(sizes), n, 3, generator=g, dtype=torch.float64)
    h = torch.randn(len(sizes), n, F, generator=g, dtype=torch.float64) * mask[..., None]
    t = torch.rand(len(sizes), generator=g, dtype=torch.float64)
    context = torch.randn(len(sizes), C, generator=g, dtype=torch.float64)
    return {"x": centred(x, mask), "h": h}, t, mask, context


def rotation(seed=0, reflect=False):
    q, r = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    q = q * r.diagonal().sign()
    return q * (torch.det(q).sign() * (-1.0 if reflect else 1.0))


def same(a, b, tolerance=1e-9):
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("reflect", [False, True])
def test_rotations_and_reflections_of_the_input_turn_the_output(network, reflect):
    x, t, mask, context = batch()
    q = rotation(3, reflect)
    assert torch.det(q).item() == pytest.approx(-1.0 if reflect else 1.0)
    plain = network(x, t, mask, context)
    turned = network({"x": x["x"] @ q.T, "h": x["h"]}, t, mask, context)
    same(turned, {"x": plain["x"] @ q.T, "h": plain["h"]})
    assert float(plain["x"].detach().abs().max()) > 0.05  # something moves


def test_translations_change_nothing(network):
    x, t, mask, context = batch()
    moved = x["x"] + torch.tensor([3.0, -1.0, 2.0], dtype=torch.float64) * mask[..., None]
    same(network({"x": moved, "h": x["h"]}, t, mask, context), network(x, t, mask, context))


def test_permuted_atoms_give_the_permuted_output(network):
    x, t, mask, context = batch()
    order = torch.randperm(7, generator=torch.Generator().manual_seed(4))
    plain = network(x, t, mask, context)
    mixed = network({k: v[:, order] for k, v in x.items()}, t, mask[:, order], context)
    same(mixed, {k: v[:, order] for k, v in plain.items()})


def test_padding_and_the_rest_of_the_batch_change_nothing(network):
    x, t, mask, context = batch()
    out = network(x, t, mask, context)
    assert all(bool((v[~mask] == 0).all()) for v in out.values())
    torch.testing.assert_close(out["x"].sum(1), torch.zeros(4, 3, dtype=torch.float64), rtol=0, atol=1e-12)
    dirty = {k: torch.where(mask[..., None], v, 7.0) for k, v in x.items()}  # what pads hold is never read
    same(network(dirty, t, mask, context), out)
    for b, n in enumerate((2, 5, 7, 4)):
        alone = network({k: v[b : b + 1, :n] for k, v in x.items()}, t[b : b + 1], mask[b : b + 1, :n], context[[b]])
        same(alone, {k: v[b : b + 1, :n] for k, v in out.items()})
    wide = {k: torch.cat([v, v.new_zeros(4, 3, v.shape[-1])], 1) for k, v in x.items()}
    wider = network(wide, t, torch.cat([mask, mask.new_zeros(4, 3)], 1), context)
    same({k: v[:, :7] for k, v in wider.items()}, out)


def test_time_context_and_every_atom_matter(network):
    x, t, mask, context = batch()
    out = network(x, t, mask, context)["h"]
    assert not torch.allclose(out, network(x, t + 0.1, mask, context)["h"])
    assert not torch.allclose(out, network(x, t, mask, context + 0.1)["h"])
    far = x["x"].clone()
    far[1, 4] += 0.3
    changed = network({"x": far, "h": x["h"]}, t, mask, context)["h"]
    assert bool((changed[1, :5] != out[1, :5]).any(-1).all())  # it reaches all atoms of its molecule,
    same({"h": changed[[0, 2, 3]]}, {"h": out[[0, 2, 3]]})  # and no other


def test_atoms_in_one_place_have_finite_gradients(network):
    x, t, mask, context = batch()
    spot = torch.zeros_like(x["x"], requires_grad=True)
    out = network({"x": spot, "h": x["h"]}, t, mask, context)
    (out["x"].square().sum() + out["h"].square().sum()).backward()
    assert bool(spot.grad.isfinite().all())


def test_pairs_are_those_of_one_molecule():
    mask = torch.tensor([[True, True, False], [False, True, True]])
    pairs = Pairs.of(mask)
    assert pairs.count == 4
    assert list(zip(pairs.i.tolist(), pairs.j.tolist(), strict=True)) == [(0, 1), (1, 0), (2, 3), (3, 2)]
    messages = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    assert pairs.sum(messages).flatten().tolist() == [1.0, 2.0, 3.0, 4.0]
