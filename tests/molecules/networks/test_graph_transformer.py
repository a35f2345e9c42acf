"""The graph transformer: equivariant, blind to padding, symmetric in edges, every input heard."""

from __future__ import annotations

import pytest
import torch

from scidiffuse.molecules.networks.graph_transformer import GraphLayer, GraphTransformer, pooled

INPUTS, OUTPUTS = (5, 4, 3), (3, 2)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return GraphTransformer(INPUTS, OUTPUTS, 2, (8, 6, 4), 2, (8, 8, 8), (8, 8, 8)).double().eval()


def graphs(sizes=(4, 1, 3), n=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    nodes = torch.arange(n) < torch.tensor(sizes)[:, None]
    x = torch.randn(len(sizes), n, INPUTS[0], generator=g, dtype=torch.float64) * nodes[..., None]
    e = torch.randn(len(sizes), n, n, INPUTS[1], generator=g, dtype=torch.float64)
    e = (e + e.transpose(1, 2)) * (nodes[:, :, None] & nodes[:, None, :])[..., None]
    return x, e, torch.randn(len(sizes), INPUTS[2], generator=g, dtype=torch.float64), nodes


def test_permuting_nodes_permutes_the_logits(network):
    x, e, y, nodes = graphs()
    X, E = network(x, e, y, nodes)
    p = torch.tensor([2, 0, 3, 1])
    X2, E2 = network(x[:, p], e[:, p][:, :, p], y, nodes[:, p])
    torch.testing.assert_close(X2, X[:, p], rtol=0, atol=1e-12)
    torch.testing.assert_close(E2, E[:, p][:, :, p], rtol=0, atol=1e-12)
    assert float((X[0, 0] - X[0, 1]).detach().abs().max()) > 1e-3  # nodes are told apart at all


def test_edges_are_symmetric_and_what_does_not_exist_is_zero(network):
    x, e, y, nodes = graphs()
    X, E = network(x, e, y, nodes)
    torch.testing.assert_close(E, E.transpose(1, 2), rtol=0, atol=0)
    assert not E.diagonal(dim1=1, dim2=2).any() and not X[~nodes].any()
    assert not E[(~nodes)[:, :, None] | (~nodes)[:, None, :]].any()


def test_padding_changes_nothing_whatever_stands_in_it(network):
    x, e, y, nodes = graphs()
    X, E = network(x, e, y, nodes)
    pad = torch.nn.functional.pad
    wide = (pad(x, (0, 0, 0, 2)), pad(e, (0, 0, 0, 2, 0, 2)), y, pad(nodes, (0, 2)))
    absent = ~wide[3]
    wide[0][absent] = 7.0
    wide[1][absent[:, :, None] | absent[:, None, :]] = -3.0
    X2, E2 = network(*wide)
    torch.testing.assert_close(X2[:, :4], X, rtol=0, atol=1e-12)
    torch.testing.assert_close(E2[:, :4, :4], E, rtol=0, atol=1e-12)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_nodes_edges_and_the_graph_are_all_heard_by_both_outputs(network, which):
    x, e, y, nodes = (part.clone() for part in graphs((4,), 4))
    before = network(x, e, y, nodes)
    changed = [x, e, y]
    if which == 1:
        changed[1][:, 0, 1, -1] += 1.0
        changed[1][:, 1, 0, -1] += 1.0
    else:
        changed[which][:, ..., -1] += 1.0
    after = network(*changed, nodes)
    assert all(float((a - b).detach().abs().max()) > 1e-4 for a, b in zip(before, after, strict=True))


def test_every_parameter_has_a_gradient(network):
    x, e, y, nodes = graphs()
    X, E = network(x, e, y, nodes)
    (X.square().sum() + E.square().sum()).backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not bool(p.grad.ne(0).any())]
    network.zero_grad()
    assert silent == []


def test_pools_are_those_of_what_exists():
    x = torch.tensor([[[1.0], [4.0], [99.0]]])
    out = pooled(x, torch.tensor([[True, True, False]]))
    torch.testing.assert_close(out, torch.tensor([[2.5, 1.0, 4.0, (1.5**2 + 1e-6) ** 0.5]]))


def test_heads_divide_the_width():
    with pytest.raises(ValueError, match="3 heads do not divide 8"):
        GraphLayer((8, 4, 4), 3, (8, 8, 8))
