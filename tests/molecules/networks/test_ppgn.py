"""The causal graph transformer: the product by its definition, no look ahead, and no dependence on the numbering."""

from __future__ import annotations

import pytest
import torch

from scidiffuse.molecules.networks.ppgn import PPGNTransformer, causal_product
from scidiffuse.molecules.pard.network import sees

BLOCK = torch.tensor([[0, 1, 1, 2, -1, 0, 1, 1, 2, -1], [0, 0, 1, 2, 3, 0, 0, 1, 2, 3]])
VIRTUAL = (torch.arange(10) >= 5).expand(2, 10)


def inputs(seed=0, width=8, pair=6):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    return draw(2, 10, width), draw(2, 10, 10, pair)


def network(layers=2):
    torch.manual_seed(0)
    return PPGNTransformer(8, 6, layers, 2).double()


def test_who_sees_whom():
    M = sees(BLOCK[:1], VIRTUAL[:1])[0]
    assert M[2].nonzero().flatten().tolist() == [0, 1, 2]  # real: own and earlier blocks, real
    assert M[6].nonzero().flatten().tolist() == [0, 6, 7]  # virtual: own virtual block, earlier real ones
    assert M[8].nonzero().flatten().tolist() == [0, 1, 2, 8]
    assert not M[4].any() and not M[:, 4].any()


def test_the_causal_product_is_the_sum_over_what_the_owner_sees():
    M = sees(BLOCK, VIRTUAL)
    pairs = (M | M.transpose(1, 2)).unsqueeze(1)
    X1, X2 = (inputs(seed)[1].movedim(-1, 1) * pairs for seed in (1, 2))
    found = causal_product(X1, X2, M.double())
    for b, i, j in pairs.squeeze(1).nonzero().tolist():
        owner = i if M[b, i, j] else j
        expected = sum(X1[b, :, i, k] * X2[b, :, k, j] for k in M[b, owner].nonzero().flatten().tolist())
        torch.testing.assert_close(found[b, :, i, j], expected)
    S1, S2 = X1 * M.unsqueeze(1), X2 * M.transpose(1, 2).unsqueeze(1)
    torch.testing.assert_close(found, S1 @ X2 + X1 @ S2 - S1 @ S2)  # as published


def hidden(b, i):
    """Positions that i does not see, and pairs that it may know nothing of."""
    M = sees(BLOCK, VIRTUAL)[b]
    unseen = ~M[i]
    return unseen, unseen[:, None] | unseen[None, :]


@pytest.mark.parametrize(("b", "i"), [(0, 0), (0, 2), (0, 3), (0, 6), (0, 8), (1, 1), (1, 7), (1, 9)])
def test_nothing_ahead_leaks(b, i):
    net, M, (h, e) = network(), sees(BLOCK, VIRTUAL), inputs()
    unseen, pairs = hidden(b, i)
    other_h, other_e = (torch.full_like(part, 7.0) for part in (h, e))
    h2, e2 = h.clone(), e.clone()
    h2[b, unseen], e2[b, pairs] = other_h[b, unseen], other_e[b, pairs]
    (y, z), (y2, z2) = net(h, e, M), net(h2, e2, M)
    assert torch.equal(y[b, i], y2[b, i])
    owned = M[b, i].nonzero().flatten()
    assert torch.equal(z[b, i, owned], z2[b, i, owned]) and torch.equal(z[b, owned, i], z2[b, owned, i])
    assert not torch.equal(y[b], y2[b])  # it was a change


@pytest.mark.parametrize(("b", "i"), [(0, 2), (0, 6), (1, 9)])
def test_gradients_reach_all_that_is_seen_and_nothing_else(b, i):
    net, M, (h, e) = network(3), sees(BLOCK, VIRTUAL), inputs()
    h.requires_grad_()
    e.requires_grad_()
    y, z = net(h, e, M)
    owned = M[b, i]
    weight = torch.linspace(1.0, 2.0, 8).double()
    ((y[b, i] * weight).sum() + (z[b, i, owned] * weight[:6]).sum() + (z[b, owned, i] * weight[2:]).sum()).backward()
    unseen, pairs = hidden(b, i)
    assert not h.grad[b, unseen].any() and not h.grad[1 - b].any()
    assert not e.grad[b, pairs].any()
    assert bool(h.grad[b, ~unseen].abs().sum(-1).gt(0).all())
    # all pairs of seen positions in which one sees the other
    known = ~pairs & (M[b] | M[b].T)
    assert bool(e.grad[b][known].abs().sum(-1).gt(0).all())


def test_permuted_positions_give_permuted_outputs():
    net, M, (h, e) = network(), sees(BLOCK, VIRTUAL), inputs()
    p = torch.randperm(10, generator=torch.Generator().manual_seed(3))
    y, z = net(h, e, M)
    yp, zp = net(h[:, p], e[:, p][:, :, p], M[:, p][:, :, p])
    there = (BLOCK >= 0)[:, p]
    torch.testing.assert_close(yp[there], y[:, p][there])
    torch.testing.assert_close(zp, z[:, p][:, :, p])


def test_empty_pairs_are_zero_and_heads_divide_the_width():
    M, (h, e) = sees(BLOCK, VIRTUAL), inputs()
    _, z = network()(h, e, M)
    assert not z[~(M | M.transpose(1, 2))].any()
    with pytest.raises(ValueError, match="heads=3 do not divide the width 8"):
        PPGNTransformer(8, 6, 1, 3)
