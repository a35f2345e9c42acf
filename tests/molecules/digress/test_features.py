"""Features of noisy graphs: counts against enumeration, spectra against closed forms, equivariance, padding."""

from __future__ import annotations

import math

import pytest
import torch

from scidiffuse.molecules.digress.features import (
    EIGENVALUES,
    HEAT,
    atom_table,
    cycles,
    extra_features,
    molecular,
    spectral,
    widths,
)


def random_graphs(count, n, p, seed):
    g = torch.Generator().manual_seed(seed)
    A = (torch.rand(count, n, n, generator=g) < p).double().triu(1)
    return A + A.mT


def padded(A, nodes, more):
    return torch.nn.functional.pad(A, (0, more, 0, more)), torch.nn.functional.pad(nodes, (0, more))


@pytest.mark.parametrize("p", [0.3, 0.6, 1.0])
def test_cycles_are_as_many_as_enumeration_finds(p):
    nx = pytest.importorskip("networkx")
    A = random_graphs(4, 7, p, seed=1)
    of_nodes, of_graphs = cycles(A)
    for a, node, whole in zip(A, of_nodes, of_graphs, strict=True):
        found = [c for c in nx.simple_cycles(nx.from_numpy_array(a.numpy()), length_bound=6) if len(c) > 2]
        assert whole.tolist() == [sum(len(c) == k for c in found) for k in (3, 4, 5, 6)]
        for i in range(7):
            assert node[i].tolist() == [sum(len(c) == k and i in c for c in found) for k in (3, 4, 5)]


def test_the_spectrum_of_a_ring_and_a_lonely_node():
    A = torch.zeros(1, 5, 5, dtype=torch.float64)
    for i in range(4):
        A[0, i, (i + 1) % 4] = A[0, (i + 1) % 4, i] = 1.0
    nodes = torch.ones(1, 5, dtype=torch.bool)
    kernels, values = spectral(A, nodes)
    # eigenvalues of the ring are 2 - 2 cos(2 pi k / 4) = 0, 2, 2, 4; of the node 0; over n = 5
    assert values[0].tolist() == pytest.approx([2, 0.4, 0.4, 0.8, 2.0, 2.0])
    for k, tau in enumerate(HEAT):
        near = sum(math.exp(-tau * v) for v in (0, 2, 2, 4)) / 4
        far = sum(math.exp(-tau * v) * c for v, c in ((0, 1), (2, 0), (2, 0), (4, -1))) / 4
        assert kernels[0, 0, [0, 1, 3, 4], k].tolist() == pytest.approx([near, far, far, 0.0], abs=1e-12)
        assert float(kernels[0, 4, 4, k]) == pytest.approx(1.0)
        torch.testing.assert_close(kernels[0, :, :, k], torch.linalg.matrix_exp(-tau * (A[0].sum(1).diag() - A[0])))


def test_a_triangle_with_a_tail_has_no_cycle_of_five_nodes():
    A = torch.zeros(1, 4, 4, dtype=torch.float64)
    for i, j in ((0, 1), (1, 2), (0, 2), (2, 3)):
        A[0, i, j] = A[0, j, i] = 1.0
    of_nodes, of_graphs = cycles(A)
    assert of_graphs.tolist() == [[1, 0, 0, 0]]
    assert of_nodes[0].tolist() == [[1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("kind", ["all", "cycles", "none"])
@pytest.mark.parametrize("molecules", [True, False])
def test_features_are_equivariant_and_blind_to_padding(kind, molecules):
    table = torch.tensor([[4.0, 3.0], [12.0, 14.0]]) if molecules else None
    A = random_graphs(5, 6, 0.5, seed=2)
    A[0] = 0.0
    A[0, :2, :2] = 1.0 - torch.eye(2)  # many equal eigenvalues
    bonds, nodes = A.long() * 2, torch.arange(6) < torch.tensor([6, 4, 5, 1, 6])[:, None]
    bonds = bonds * (nodes[:, :, None] & nodes[:, None, :])
    types = torch.arange(6).expand(5, 6) % 2 * nodes
    out = extra_features(types, bonds, nodes, kind, table, most=6)
    assert (out.nodes.shape[-1], out.pairs.shape[-1], out.graph.shape[-1]) == widths(kind, molecules)
    p = torch.tensor([3, 5, 0, 1, 4, 2])
    moved = extra_features(types[:, p], bonds[:, p][:, :, p], nodes[:, p], kind, table, most=6)
    torch.testing.assert_close(moved.nodes, out.nodes[:, p], rtol=0, atol=1e-6)
    torch.testing.assert_close(moved.pairs, out.pairs[:, p][:, :, p], rtol=0, atol=1e-6)
    torch.testing.assert_close(moved.graph, out.graph, rtol=0, atol=1e-6)
    wide, more = padded(bonds, nodes, 3)
    other = extra_features(torch.nn.functional.pad(types, (0, 3)), wide, more, kind, table, most=6)
    torch.testing.assert_close(other.nodes[:, :6], out.nodes, rtol=0, atol=1e-6)
    torch.testing.assert_close(other.pairs[:, :6, :6], out.pairs, rtol=0, atol=1e-6)
    torch.testing.assert_close(other.graph, out.graph, rtol=0, atol=1e-6)
    assert not other.nodes[~more].any()


def test_few_nodes_have_few_eigenvalues():
    A = torch.zeros(1, 1, 1, dtype=torch.float64)
    _, values = spectral(A, torch.ones(1, 1, dtype=torch.bool))
    assert values.tolist() == [[1.0] + [2.0] * EIGENVALUES]


def test_valences_and_weights_of_atoms():
    pytest.importorskip("rdkit")
    table = atom_table(("C", "N", "O", "F", "N+", "O-"))
    assert table[0].tolist() == [4, 3, 2, 1, 4, 1]
    assert table[1].tolist() == pytest.approx([12.011, 14.007, 15.999, 18.998, 14.007, 15.999])
    types = torch.tensor([[0, 2, 0]])  # C=O and padding
    A = torch.tensor([[[0, 2, 0], [2, 0, 0], [0, 0, 0]]])
    nodes = torch.tensor([[True, True, False]])
    node, weight = molecular(types, A, nodes, table)
    assert node[0].tolist() == [[0.5, 0.5], [0.5, 0.0], [0.0, 0.0]]
    assert float(weight) == pytest.approx((12.011 + 15.999) / 36)
