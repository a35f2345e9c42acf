"""Graph MMDs against a slow computation by networkx and scipy, graph by graph and pair by pair."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from scidiffuse.molecules.metrics import graphs as g
from scidiffuse.molecules.metrics.orbits import node_orbits

nx = pytest.importorskip("networkx")


def some(n: int, p: float, seed: int) -> list[nx.Graph]:
    return [nx.gnp_random_graph(6 + k % 5, p, seed=seed + k) for k in range(n)]


def slow(name: str, x: list[nx.Graph], y: list[nx.Graph], kernel: str) -> float:
    """The definition, with networkx's statistics and one pair at a time."""

    def describe(graph: nx.Graph) -> np.ndarray:
        if name == "degree":
            return np.array(nx.degree_histogram(graph), dtype=float)
        if name == "clustering":
            return np.histogram(list(nx.clustering(graph).values()), bins=100, range=(0, 1))[0].astype(float)
        if name == "spectral":
            values = np.linalg.eigvalsh(nx.normalized_laplacian_matrix(graph).toarray())
            return np.histogram(np.minimum(values, 2), bins=200, range=(-1e-5, 2))[0].astype(float)
        return node_orbits(nx.to_numpy_array(graph)).sum(axis=0) / len(graph)

    sigma = {"degree": 1.0, "clustering": 0.1, "orbit": 30.0, "spectral": 1.0}[name]

    def k(a: np.ndarray, b: np.ndarray) -> float:
        size = max(len(a), len(b))
        a, b = (np.pad(v, (0, size - len(v))) for v in (a, b))
        if name == "orbit":
            d = np.linalg.norm(a - b) if kernel == "emd" else np.abs(a - b).sum() / 2
        elif kernel == "tv":
            d = np.abs(a / a.sum() - b / b.sum()).sum() / 2
        else:
            d = wasserstein_distance(range(size), range(size), a, b) / (100 if name == "clustering" else 1)
        return np.exp(-d * d / (2 * sigma**2))

    X, Y = [describe(graph) for graph in x], [describe(graph) for graph in y]
    pairs = lambda a, b: np.mean([k(u, v) for u in a for v in b])  # noqa: E731
    return pairs(X, X) + pairs(Y, Y) - 2 * pairs(X, Y)


@pytest.mark.parametrize("kernel", ["emd", "tv"])
def test_it_is_the_definition(kernel):
    x, y = some(7, 0.3, 0), some(9, 0.5, 50)
    scores = g.graph_mmd(x, y, kernel, draws=5)
    assert set(scores) == {f"mmd_{name}_{kernel}" for name in g.DESCRIPTORS}
    for name in g.DESCRIPTORS:
        score = scores[f"mmd_{name}_{kernel}"]
        assert float(score) == pytest.approx(slow(name, x, y, kernel), abs=1e-12), name
        assert (score.n, score.reference > 0) == (7, True)


def test_order_of_nodes_kind_of_container_and_weights_do_not_matter():
    x, y = some(5, 0.4, 0), some(5, 0.4, 9)
    rng = np.random.default_rng(0)
    shuffled = []
    for graph in x:
        p = rng.permutation(len(graph))
        shuffled.append(3 * nx.to_numpy_array(graph)[np.ix_(p, p)])  # bond orders: an edge is an edge
    a, b = g.graph_mmd(x, y, draws=2), g.graph_mmd(shuffled, y, draws=2)
    for name in a:
        assert float(a[name]) == pytest.approx(float(b[name]), abs=1e-12)


def test_a_set_against_itself_is_zero_and_another_set_above_chance():
    x, y = some(20, 0.2, 0), some(20, 0.7, 100)
    for kernel in ("emd", "tv"):
        assert all(abs(float(s)) < 1e-12 for s in g.graph_mmd(x, x, kernel, draws=2).values())
        assert all(float(s) > s.reference for s in g.graph_mmd(x, y, kernel, draws=2).values())


def test_spectra_of_bipartite_and_isolated_graphs_stay_on_the_axis():
    """2 is an eigenvalue of a bipartite graph up to rounding, and a lone node has the eigenvalue 0."""
    for graph in (nx.complete_bipartite_graph(3, 4), nx.cycle_graph(8), nx.empty_graph(3)):
        (histogram,) = g.descriptor("spectral", [g.adjacency(graph)])
        assert histogram.sum() == pytest.approx(1.0)
    assert histogram[0] == 1.0


def test_graphs_without_nodes_are_left_out_and_counted():
    x, y = some(4, 0.4, 0), some(4, 0.4, 9)
    plain = g.graph_mmd(x, y, which=["degree"])["mmd_degree_emd"]
    score = g.graph_mmd([*x, nx.Graph()], y, which=["degree"])["mmd_degree_emd"]
    assert (score.left_out, score.n) == (1, 4) and float(score) == float(plain)


def test_bad_input():
    x = some(2, 0.4, 0)
    with pytest.raises(ValueError, match="list of generated graphs is empty"):
        g.graph_mmd([], x)
    with pytest.raises(ValueError, match="list of reference graphs is empty"):
        g.graph_mmd(x, [])
    with pytest.raises(ValueError, match="none of the 1 generated graphs has a node"):
        g.graph_mmd([nx.Graph()], x)
    with pytest.raises(ValueError, match="as SPECTRE"):
        g.graph_mmd(x, x, "gaussian")
    with pytest.raises(ValueError, match="no descriptor 'motif'"):
        g.graph_mmd(x, x, which=["motif"])
    with pytest.raises(ValueError, match=r"the edge \(0, 1\) has no \(1, 0\)"):
        g.graph_mmd([np.triu(np.ones((3, 3)), 1)], x)
    with pytest.raises(ValueError, match="finite square"):
        g.adjacency(np.full((2, 2), np.nan))
    with pytest.raises(TypeError, match="directed"):
        g.adjacency(nx.DiGraph([(0, 1)]))


def test_community_small_of_spectre():
    """The 100 graphs that SPECTRE ships, the first 20 against the others: by the definition, and as recorded."""
    torch = pytest.importorskip("torch")
    path = Path(os.environ.get("SCIDIFFUSE_DATA", "/nowhere")) / "molecules" / "spectre_community_12_21_100.pt"
    if not path.exists():
        pytest.skip("SCIDIFFUSE_DATA does not hold molecules/spectre_community_12_21_100.pt")
    matrices = [a.numpy() for a in torch.load(path, weights_only=True)[0]]
    assert len(matrices) == 100
    recorded = {"emd": [0.00793, 0.02445, 0.00047, 0.07355], "tv": [0.00303, 0.0664, 0.00019, 0.0222]}
    x, y = ([nx.from_numpy_array(a) for a in part] for part in (matrices[:20], matrices[20:]))
    for kernel, values in recorded.items():
        scores = g.graph_mmd(x, y, kernel, draws=2)
        for (name, score), value in zip(scores.items(), values, strict=True):
            assert float(score) == pytest.approx(value, abs=6e-6), name
    assert float(g.graph_mmd(x, y, "tv", ["degree"])["mmd_degree_tv"]) == pytest.approx(slow("degree", x, y, "tv"))
    assert float(scores["mmd_orbit_tv"]) == pytest.approx(slow("orbit", x, y, "tv"), abs=1e-12)
