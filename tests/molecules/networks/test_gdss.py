"""The networks on graphs: the published sizes, equivariance, padding, and each part against its formula."""

from __future__ import annotations

import math

import pytest
import torch

import scidiffuse.molecules.networks.gdss as nets


def count(module):
    return sum(p.numel() for p in module.parameters())


def graphs(sizes=(5, 3, 1), features=4, seed=0, nodes=None):
    """Noisy states: real weights of any sign, zero where no node is."""
    generator = torch.Generator().manual_seed(seed)
    n = nodes or max(sizes)
    mask = torch.arange(n) < torch.tensor(sizes)[:, None]
    X = torch.randn(len(sizes), max(sizes), features, generator=generator, dtype=torch.float64)
    A = torch.randn(len(sizes), max(sizes), max(sizes), generator=generator, dtype=torch.float64).triu(1)
    pad = n - max(sizes)
    X, A = torch.nn.functional.pad(X, (0, 0, 0, pad)), torch.nn.functional.pad(A + A.mT, (0, pad, 0, pad))
    pairs = mask[:, :, None] & mask[:, None, :]
    return X * mask[..., None], A * pairs, mask


def both(time=0, features=4):
    torch.manual_seed(0)
    node = nets.NodeScore(features, 2, 16, time).double()
    edge = nets.EdgeScore(features, 16, 3, 3, time=time).double()
    for p in [*node.parameters(), *edge.parameters()]:  # biases too: zero ones would hide what leaks through them
        torch.nn.init.normal_(p, std=0.3)
    return node, edge


def test_sizes_of_the_published_networks_for_qm9():
    assert count(nets.NodeScore(4, 2, 16)) == 8_564
    assert count(nets.EdgeScore(4, 16, 3, 3)) == 23_825


def test_normalised_adjacency_by_hand():
    A = torch.tensor([[[5.0, 3.0, 0.0], [3.0, 7.0, -4.0], [0.0, -4.0, 0.0]]])
    # degrees: 1 + 3, max(1, 3 + 1 - 4), max(1, 1 - 4)
    expected = torch.tensor([[1 / 4, 3 / 2, 0.0], [3 / 2, 1.0, -4.0], [0.0, -4.0, 1.0]])
    torch.testing.assert_close(nets.normalised(A)[0], expected)


def test_powers_of_a_path():
    A = torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]])
    out = nets.powers(A[None], 3)[0]
    assert out[1].tolist() == [[1, 0, 1], [0, 2, 0], [1, 0, 1]]
    assert torch.equal(out[2], 2 * A)


def test_attention_of_all_channels_is_that_of_each_alone():
    """One product for all channels is what a loop of single convolutions and heads gives."""
    torch.manual_seed(1)
    X, A, _ = graphs((5, 4))
    channels = torch.stack([A, A @ A], 1)
    layer = nets.GraphAttention(2, 4, 8, 3, heads=4).double()
    torch.nn.init.normal_(layer.bias)
    values, attention = layer(X, channels)
    for c in range(2):
        q, k, v = (
            nets.normalised(channels[:, c]) @ (X @ w) + b
            for w, b in zip(layer.weight[:, c].split((8, 8, 3), 1), layer.bias[c, 0].split((8, 8, 3)), strict=True)
        )
        heads = [torch.tanh(q[..., 2 * h : 2 * h + 2] @ k[..., 2 * h : 2 * h + 2].mT / math.sqrt(3)) for h in range(4)]
        mean = sum(heads) / 4
        torch.testing.assert_close(attention[:, c], (mean + mean.mT) / 2)
        torch.testing.assert_close(values[..., 3 * c : 3 * c + 3], v)


@pytest.mark.parametrize("time", [0, 4])
def test_permuting_the_nodes_permutes_the_scores(time):
    X, A, mask = graphs((5, 5, 5))
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64) if time else None
    node, edge = both(time)
    p = torch.tensor([3, 0, 4, 2, 1])
    PX, PA = X[:, p], A[:, p][:, :, p]
    torch.testing.assert_close(node(PX, PA, mask, t), node(X, A, mask, t)[:, p])
    torch.testing.assert_close(edge(PX, PA, mask, t), edge(X, A, mask, t)[:, p][:, :, p])
    assert not torch.allclose(edge(PX, PA, mask, t), edge(X, A, mask, t))


def test_padding_changes_nothing_and_scores_stay_in_the_space():
    node, edge = both()
    X, A, mask = graphs()
    wide = graphs(nodes=9)
    x, a = node(X, A, mask), edge(X, A, mask)
    torch.testing.assert_close(node(*wide)[:, :5], x)
    torch.testing.assert_close(edge(*wide)[:, :5, :5], a)
    for out in (x, node(*wide)):
        assert out[~(mask if out.shape[1] == 5 else wide[2])].abs().max() == 0
    wide_a = edge(*wide)
    assert wide_a[:, 5:].abs().max() == 0 == wide_a.diagonal(dim1=1, dim2=2).abs().max()
    torch.testing.assert_close(a, a.mT)
    assert x[2, 0].abs().min() > 0  # a single node has a score
    assert a[2].abs().max() == 0  # and no edge


def test_batch_mates_do_not_matter():
    node, edge = both()
    X, A, mask = graphs()
    for net in (node, edge):
        torch.testing.assert_close(net(X[1:2], A[1:2], mask[1:2]), net(X, A, mask)[1:2])


def test_time_is_told_only_where_asked_for():
    X, A, mask = graphs()
    early, late = torch.full((3,), 0.1, dtype=torch.float64), torch.full((3,), 0.9, dtype=torch.float64)
    for deaf, told in zip(both(0), both(4), strict=True):
        assert torch.equal(deaf(X, A, mask, early), deaf(X, A, mask, late))
        assert not torch.allclose(told(X, A, mask, early), told(X, A, mask, late))
        with pytest.raises(ValueError, match="told the time"):
            told(X, A, mask)


def test_what_networks_refuse():
    with pytest.raises(ValueError, match="at least 2 layers"):
        nets.EdgeScore(4, 16, 1, 2)
    with pytest.raises(ValueError, match="heads do not divide"):
        nets.GraphAttention(2, 4, 10, 4, heads=4)
