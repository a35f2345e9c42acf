"""NSPDK features against rooted isomorphism, decided by search, and against the kernel's definition."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest

nx = pytest.importorskip("networkx")
pytest.importorskip("rdkit")

import importlib  # noqa: E402

n = importlib.import_module("scidiffuse.molecules.metrics.nspdk")

SOME = ["CCO", "CCN", "c1ccccc1O", "CC(=O)O", "C1CC1N", "C#N"]


def plain(graph: nx.Graph):
    return n._labelled(graph)


def test_neighbourhoods_are_told_apart_on_all_small_graphs():
    """Connected graphs of 1 .. 6 nodes with a root: 1, 1, 3, 11, 58, 407 of them (OEIS A126100)."""
    names: dict = {}
    seen: dict[int, set] = {k: set() for k in range(1, 7)}
    for graph in nx.graph_atlas_g()[1:209]:
        if nx.is_connected(graph):
            labels, edges = plain(graph)
            D = n._distances(len(labels), edges)
            seen[len(labels)] |= {n._neighbourhood(v, 6, D, labels, edges, {}, names) for v in range(len(labels))}
    assert [len(found) for found in seen.values()] == [1, 1, 3, 11, 58, 407]


def test_distances_are_those_of_networkx():
    for seed in range(5):
        graph = nx.gnp_random_graph(12, 0.15, seed=seed)  # some in several parts
        lengths = dict(nx.all_pairs_shortest_path_length(graph))
        D = n._distances(12, plain(graph)[1])
        assert all(D[i, j] == lengths[i].get(j, np.inf) for i in range(12) for j in range(12))


def by_definition(a: nx.Graph, b: nx.Graph, radius: int, distance: int) -> float:
    """The kernel with neighbourhoods compared by a search for an isomorphism."""
    match = {
        "node_match": lambda u, v: u["label"] == v["label"] and u.get("root") == v.get("root"),
        "edge_match": lambda u, v: u["label"] == v["label"],
    }
    known: list[nx.Graph] = []

    def number(part: nx.Graph) -> int:
        for k, other in enumerate(known):
            if nx.is_isomorphic(part, other, **match):
                return k
        known.append(part)
        return len(known) - 1

    def count(graph: nx.Graph, r: int, d: int) -> Counter:
        lengths = dict(nx.all_pairs_shortest_path_length(graph))
        names = {}
        for v in graph:
            part = graph.subgraph([w for w, length in lengths[v].items() if length <= r]).copy()
            part.nodes[v]["root"] = True
            names[v] = number(part)
        pairs = ((u, v) for u in graph for v in graph if u <= v and lengths[u].get(v) == d)
        return Counter(tuple(sorted((names[u], names[v]))) for u, v in pairs)

    def k(x: nx.Graph, y: nx.Graph) -> float:
        total = 0.0
        for r, d in product(range(radius + 1), range(distance + 1)):
            f, h = count(x, r, d), count(y, r, d)
            if f and h:
                norm = np.sqrt(sum(c * c for c in f.values()) * sum(c * c for c in h.values()))
                total += sum(c * h[key] for key, c in f.items()) / norm
        return total

    return k(a, b) / np.sqrt(k(a, a) * k(b, b))


def as_networkx(smiles: str) -> nx.Graph:
    labels, edges = n._labelled(smiles)
    graph = nx.Graph()
    graph.add_nodes_from((i, {"label": label}) for i, label in enumerate(labels))
    graph.add_edges_from((i, j, {"label": label}) for (i, j), label in edges.items())
    return graph


def test_it_is_the_kernel():
    phi = n.nspdk_features([n._labelled(s) for s in SOME], 2, 3)
    K = (phi @ phi.T).toarray()
    for (i, a), (j, b) in product(enumerate(SOME[:4]), enumerate(SOME[:4])):
        assert K[i, j] == pytest.approx(by_definition(as_networkx(a), as_networkx(b), 2, 3), abs=1e-12)
    assert np.allclose(K.diagonal(), 1)


def test_it_does_not_see_the_order_of_atoms():
    phi = n.nspdk_features([n._labelled("OCC(N)=O"), n._labelled("NC(=O)CO")])
    assert (phi @ phi.T)[0, 1] == pytest.approx(1.0)
    bonds = n.nspdk_features([n._labelled("CCO"), n._labelled("CC=O")])
    assert (bonds @ bonds.T)[0, 1] < 0.9  # the same atoms, another bond


def test_mmd_is_the_mean_over_pairs_and_zero_for_the_same():
    x, y = SOME[:3], SOME[3:]
    score = n.nspdk_mmd(x, y)
    phi = n.nspdk_features([n._labelled(s) for s in SOME])
    K = (phi @ phi.T).toarray()
    assert float(score) == pytest.approx(K[:3, :3].mean() + K[3:, 3:].mean() - 2 * K[:3, 3:].mean())
    assert float(n.nspdk_mmd(SOME, SOME)) == pytest.approx(0.0, abs=1e-15)
    assert score.name == "mmd_nspdk" and score.n == 3


def test_what_is_no_molecule_is_left_out_and_nothing_is_refused():
    score = n.nspdk_mmd([*SOME, "C((", None], SOME)
    assert score.left_out == 2 and float(score) == pytest.approx(0.0, abs=1e-15)
    for generated, reference in (([], SOME), (SOME, []), (["C(("], SOME)):
        with pytest.raises(ValueError, match="is valid: there is nothing"):
            n.nspdk_mmd(generated, reference)
    with pytest.raises(ValueError, match="at least 0"):
        n.nspdk_features([n._labelled("C")], -1)


def test_hydrogens_that_are_atoms_become_implicit():
    from rdkit import Chem

    explicit = [Chem.AddHs(Chem.MolFromSmiles(s)) for s in SOME]
    for reference in (SOME, [Chem.MolFromSmiles(s) for s in SOME]):
        assert float(n.nspdk_mmd(explicit, reference)) == pytest.approx(0.0, abs=1e-15)


@pytest.mark.parametrize(("given", "says"), [("CNO.smi", "one string, 'CNO.smi'"), ([3], "networkx graphs, got a int")])
def test_what_is_no_list_of_molecules(given, says):
    with pytest.raises(TypeError, match=says):
        n.nspdk_mmd(given, SOME)
    with pytest.raises(TypeError, match=says):
        n.nspdk_mmd(SOME, given)
