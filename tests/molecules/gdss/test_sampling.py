"""GDSS: samplers against closed forms and symmetries, and quantisation on cases made by hand."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("lightning")
pytest.importorskip("rdkit")

from scidiffuse.core import grids
from scidiffuse.core.denoisers import Denoiser
from scidiffuse.core.sample import sample
from scidiffuse.core.samplers import DDIM
from scidiffuse.core.spaces import Graph, Masked, Product
from scidiffuse.core.steering import SVDD
from scidiffuse.molecules.chem import canonical, molecule_of
from scidiffuse.molecules.data.graphs import Graphs
from scidiffuse.molecules.data.smiles import from_smiles
from scidiffuse.molecules.data.standardise import ChangedMolecules
from scidiffuse.molecules.gdss import GDSS
from scidiffuse.molecules.gdss.config import GDSSConfig
from scidiffuse.molecules.gdss.quantise import Meaning, elements_only, quantise, to_graphs, to_molecules
from scidiffuse.molecules.gdss.sampling import moments_of, run, sampler_of, times_of
from scidiffuse.molecules.gdss.schedules import schedules_of
from scidiffuse.molecules.gdss.training import build
from scidiffuse.molecules.sizes import draw_sizes
from scidiffuse.molecules.training import time_itself

SMILES = ["C", "CCO", "C1CC1", "CC(=O)N", "O=C=O", "N#CC", "CF", "C=C", "CCCCO"]
TINY = {"hidden": 8, "attention": 8, "depth": 1, "layers": 2, "linears": 1, "c_hidden": 4, "c_final": 2, "heads": 2}
FAST = {"max_steps": 6, "batch_size": 8, "seed": 0}
VP = ("VP", 0.1, 1.0)


def molecules():
    return from_smiles(SMILES, "CNOF", max_atoms=5)


@pytest.fixture(scope="module")
def model():
    return GDSS.for_dataset(molecules(), **TINY).fit(molecules(), **FAST)


# ---------------------------------------------------------------- sampling: closed form and symmetries

MEAN = torch.tensor([0.3, 0.3, 0.5], dtype=torch.float64)  # of x_1, x_2 and the edge
COV = torch.tensor([[0.45, 0.15, 0.2], [0.15, 0.45, 0.2], [0.2, 0.2, 0.6]], dtype=torch.float64)
MOMENTS = {"X_mean": [0.3], "X_var": [0.45], "A_mean": [0.5], "A_var": [0.6]}


def gaussian(schedule):
    """The exact network of two nodes with a feature each and the edge between them, jointly Gaussian."""

    def network(x, t, nodes):
        leaves = schedule.leaves
        t = float(t[0])
        a = torch.tensor([leaves[k].alpha(t) for k in "XXA"], dtype=torch.float64)
        s = torch.tensor([leaves[k].sigma(t) for k in "XXA"], dtype=torch.float64)
        cov = a[:, None] * COV * a + torch.diag(s**2)
        v = torch.cat([x["X"][..., 0], x["A"][:, 0, 1, None]], 1)
        n = (v - a * MEAN) @ torch.linalg.inv(cov) * s
        edge = torch.zeros_like(x["A"])
        edge[:, 0, 1] = edge[:, 1, 0] = n[:, 2]
        return {"X": n[:, :2, None], "A": edge}

    return Denoiser(network, schedule, "noise", label=time_itself)


def draw(schedule, config, name, n, steps):
    """x_1, x_2 and the edge of n samples, (n, 3)."""
    out = run(
        gaussian(schedule), config, torch.ones(n, 2, dtype=torch.bool), 1, MOMENTS, one_hot=False,
        sampler=sampler_of(config, name), steps=steps, seed=0, max_batch=None, dtype=torch.float64,
    ).x  # fmt: skip
    return torch.cat([out["X"][..., 0], out["A"][:, 0, 1, None]], 1)


@pytest.mark.parametrize("name", ["pc", "s4"])
@pytest.mark.parametrize(
    ("x", "a"), [(("VP", 0.1, 20.0), ("VE", 0.05, 5.0)), (("subVP", 0.1, 20.0), ("VP", 0.2, 15.0))]
)
def test_joint_gaussian_of_both_leaves_is_sampled(name, x, a):
    """Linear scores with correlations between the leaves: mean and covariance come out, to the order of the step."""
    config = GDSSConfig(x, a, snr=0.05, scale_eps=1.0, start="moments")
    v = draw(schedules_of(x, a), config, name, 2000, 150)
    torch.testing.assert_close(v.mean(0), MEAN, atol=0.05, rtol=0)
    torch.testing.assert_close(torch.cov(v.T), COV, atol=0.07, rtol=0)


def test_the_published_start_misses_the_law_that_moments_meet():
    """With rates .1 to 1, p_1 is not N(0, I): starting there costs the mean; its moments do not."""
    error = {}
    for start in ("standard", "moments"):
        config = GDSSConfig(VP, VP, corrector="none", start=start)
        v = draw(schedules_of(VP, VP), config, "pc", 2000, 60)
        error[start] = float((v.mean(0) - MEAN).abs().max())
    assert error["moments"] < 0.05 < 0.1 < error["standard"]


SAMPLERS = [
    ("pc", {}), ("pc", {"predictor": "euler_maruyama"}), ("pc", {"corrector": "none"}), ("pc", {"compat": "published"}),
    ("s4", {}), ("s4", {"corrector": "none"}), ("s4", {"compat": "published"}),
]  # fmt: skip


class Permuted(Product):
    """The space whose noise is that of another one with its nodes permuted."""

    def __init__(self, p, **spaces):
        super().__init__(**spaces)
        self.p = p

    def randn(self, noise, like, draw, role="step"):
        z = super().randn(noise, like, draw, role)
        return {"X": z["X"][:, self.p], "A": z["A"][:, self.p][:, :, self.p]}


@pytest.mark.parametrize(("name", "settings"), SAMPLERS)
def test_permuted_noise_gives_the_permuted_sample(name, settings):
    config = GDSSConfig(**TINY, **settings)
    denoiser = build(config, 4, 0)
    denoiser.network.double()
    mask = torch.ones(3, 5, dtype=torch.bool)
    p = torch.tensor([3, 0, 4, 2, 1])

    def draw(space):
        return sample(
            denoiser, sampler_of(config, name), times_of(8, 1e-4), space=space, condition={"nodes": mask},
            shape={"X": (3, 5, 4), "A": (3, 5, 5)}, seed=0, dtype=torch.float64,
        ).x  # fmt: skip

    plain = draw(Product(X=Masked(mask), A=Graph(mask)))
    other = draw(Permuted(p, X=Masked(mask), A=Graph(mask)))
    torch.testing.assert_close(other["X"], plain["X"][:, p])
    torch.testing.assert_close(other["A"], plain["A"][:, p][:, :, p])


@pytest.mark.parametrize(("name", "settings"), SAMPLERS)
def test_samples_stay_graphs(model, name, settings):
    out = model.sample(6, sampler=name, steps=5, nodes=[1, 2, 3, 4, 5, 5], seed=0, virtual="argmax", **settings)
    assert torch.equal(out.A, out.A.mT) and float(out.A.diagonal(dim1=1, dim2=2).abs().max()) == 0.0
    assert torch.equal(out.mask.sum(1), torch.tensor([1, 2, 3, 4, 5, 5]))
    assert float(out.X[~out.mask].abs().max()) == 0.0
    pairs = out.mask[:, :, None] & out.mask[:, None, :]
    assert float(out.A[~pairs].abs().max()) == 0.0
    assert float(out.X[0, 0].abs().max()) > 0.0  # the single atom is there
    assert out.graphs.mask[0].tolist() == [True, False, False, False, False]


def test_a_sample_depends_on_seed_and_number_alone(model):
    whole = model.sample(7, sampler="s4", steps=4, seed=5, virtual="argmax")
    cut = model.sample(7, sampler="s4", steps=4, seed=5, virtual="argmax", max_batch=3)
    fewer = model.sample(3, sampler="s4", steps=4, seed=5, virtual="argmax")
    torch.testing.assert_close(cut.A, whole.A)
    torch.testing.assert_close(fewer.X, whole.X[:3])
    assert not torch.allclose(model.sample(3, sampler="s4", steps=4, seed=6, virtual="argmax").X, fewer.X)


def test_network_calls_of_the_samplers(model):
    calls = {s: model.sample(2, sampler=s, steps=6, virtual="argmax").info["network_calls"] for s in ("pc", "s4")}
    assert calls == {"pc": 12, "s4": 6}
    assert model.sample(2, sampler=DDIM(), steps=6, virtual="argmax").info["network_calls"] == 6


def test_grid_is_the_published_one_and_a_last_step_to_the_data():
    grid = times_of(1000, 1e-4)
    assert len(grid) == 1000 and grid.times[0] == 1.0 and grid.times[-2:] == (1e-4, 0.0)
    assert grid.times[0] - grid.times[1] == pytest.approx((1 - 1e-4) / 999)
    assert times_of(1, 1e-4) == grids.Grid((1.0, 0.0))
    with pytest.raises(ValueError, match="positive integer"):
        times_of(0, 1e-4)


def test_sizes_follow_the_histogram():
    histogram = torch.tensor([0.0, 0.2, 0.0, 0.8, 0.0], dtype=torch.float64)
    sizes = draw_sizes(histogram, 4000, 0)
    assert set(sizes.tolist()) == {1, 3}
    assert float((sizes == 3).double().mean()) == pytest.approx(0.8, abs=0.02)
    assert torch.equal(draw_sizes(histogram, 10, 0), sizes[:10])
    assert set(draw_sizes(histogram, 50, 0, least=2).tolist()) == {3}
    with pytest.raises(ValueError, match="no training graph has 4 nodes or more, the largest has 3"):
        draw_sizes(histogram, 5, 0, least=4)


def test_moments_count_existing_nodes_and_pairs_alone():
    m = moments_of(from_smiles(["C", "C=O"], "CO").padded(6))
    assert m["X_mean"] == pytest.approx([2 / 3, 1 / 3])
    assert m["X_var"] == pytest.approx([2 / 9, 2 / 9])
    assert (m["A_mean"], m["A_var"]) == ([2.0], [0.0])


def test_sequential_draws_nodes_first_and_edges_under_them():
    graphs = molecules()
    fitted = GDSS.for_dataset(graphs, **TINY, coupling="sequential").fit(graphs, **FAST)
    out = fitted.sample(4, sampler="s4", steps=4, seed=0)
    assert torch.equal(out.X.sum(-1), out.mask.float())  # finished, one-hot
    assert out.info["network_calls"] == 8
    with pytest.raises(ValueError, match="one run"):
        fitted.sample(2, steps=2, steering=SVDD(lambda mol: 0.0, candidates=2))


# ---------------------------------------------------------------- quantisation

MOLECULE = Meaning("types", ("C", "N", "O"), "implicit")
GENERIC = Meaning("degrees", None, None)


def test_molecules_are_thresholded_as_published():
    A = torch.zeros(1, 4, 4)
    for (i, j), value in {(0, 1): 0.5, (0, 2): 1.5, (1, 2): 2.49, (0, 3): 2.5, (1, 3): 0.49}.items():
        A[0, i, j] = A[0, j, i] = value
    X = torch.tensor([[[0.51, 0.9, 0.0], [0.1, 0.6, 0.2], [0.5, 0.5, 0.4], [-1.0, 0.2, 0.7]]])
    d = quantise(X, A, torch.ones(1, 4, dtype=torch.bool), GDSSConfig(), True)
    # node 2 has no type above 1/2 and goes; node 3 moves up
    assert d.mask.tolist() == [[True, True, True, False]]
    assert d.types[0, :3].tolist() == [0, 1, 2]  # of two above 1/2 the first
    assert d.order.tolist() == [[0, 1, 3, 2]]
    assert d.A[0].tolist() == [[0, 1, 3, 0], [1, 0, 0, 0], [3, 0, 0, 0], [0, 0, 0, 0]]
    kept = quantise(X, A, torch.ones(1, 4, dtype=torch.bool), GDSSConfig(virtual="argmax"), True)
    assert kept.types.tolist() == [[1, 1, 0, 2]] and bool(kept.mask.all())
    assert kept.A[0, 0].tolist() == [0, 1, 2, 3]


def test_other_graphs_drop_or_keep_isolated_nodes():
    A = torch.zeros(2, 4, 4)
    A[0, 0, 2] = A[0, 2, 0] = 0.5
    A[0, 1, 2] = A[0, 2, 1] = 0.4999
    mask = torch.tensor([[True, True, True, False], [False, True, True, False]])
    X = torch.zeros(2, 4, 1)
    d = quantise(X, A, mask, GDSSConfig(), False)
    assert d.mask.sum(1).tolist() == [2, 1]  # a graph without an edge is one node
    assert d.A[0, :2, :2].tolist() == [[0, 1], [1, 0]] and int(d.A[1].sum()) == 0
    assert quantise(X, A, mask, GDSSConfig(isolated="keep"), False).mask.sum(1).tolist() == [3, 2]
    graphs, kept = to_graphs(X, A, mask, GDSSConfig(), GENERIC)
    assert kept == [0, 1] and graphs.types is None


def decode(d, meaning):
    return [molecule_of(graph) for graph in to_molecules(d, meaning)]


def test_decoding_gives_back_molecules_and_corrects_impossible_ones():
    graphs = from_smiles(["CCO", "C", "N#CC"], "CNO")
    d = quantise(graphs.X, graphs.A.float(), graphs.mask, GDSSConfig(), True)
    found = decode(d, MOLECULE)
    assert [canonical(f.mol) for f in found] == ["CCO", "C", "CC#N"]
    assert all(f.uncorrected and f.sanitised for f in found)
    A = torch.zeros(1, 2, 2)
    A[0, 0, 1] = A[0, 1, 0] = 3.0  # a triple bond to oxygen: charged by the protocol
    bond = quantise(torch.eye(3)[None, [0, 2]], A, torch.ones(1, 2, dtype=torch.bool), GDSSConfig(), True)
    assert canonical(decode(bond, MOLECULE)[0].mol) == "C#[O+]"
    four = torch.zeros(1, 4, 4)
    four[0, 0, 1:] = four[0, 1:, 0] = 2.0  # carbon with three double bonds
    wrong = decode(quantise(torch.eye(3)[None, [0, 0, 0, 0]], four, torch.ones(1, 4, dtype=torch.bool), GDSSConfig(), True), MOLECULE)[0]  # fmt: skip  # noqa: E501
    assert not wrong.uncorrected and wrong.mol is not None and wrong.lowered == 2


def test_charged_types_keep_their_charge():
    graphs = from_smiles(["C[N+](=O)[O-]"], ("C", "N", "O", "N+", "O-"))
    d = quantise(graphs.X, graphs.A.float(), graphs.mask, GDSSConfig(), True)
    assert canonical(decode(d, Meaning("types", graphs.vocabulary, "implicit"))[0].mol) == "C[N+](=O)[O-]"


def test_elements_only_merges_charged_types_and_the_protocol_charges_them_again():
    graphs = from_smiles(["C[NH2+]C", "[O-]C"], ("N+", "C", "O-", "N", "O"))
    merged = elements_only(graphs)
    assert merged.vocabulary == ("N", "C", "O")
    assert merged.types[0].tolist() == [1, 0, 1] and merged.types[1, :2].tolist() == [2, 1]
    four = elements_only(from_smiles(["C[N+](C)(C)C"], ("C", "N+")))
    d = quantise(four.X, four.A.float(), four.mask, GDSSConfig(), True)
    assert canonical(decode(d, Meaning("types", ("C", "N"), "implicit"))[0].mol) == "C[N+](C)(C)C"
    with pytest.raises(ValueError, match="no molecules"):
        elements_only(Graphs(torch.zeros(1, 2, 2, dtype=torch.uint8), torch.ones(1, 2, dtype=torch.bool)))


def test_elements_only_says_what_it_drops(recwarn):
    graphs = from_smiles(["CC(=O)[O-]", "C[N+](=O)[O-]", "C"])
    with pytest.warns(ChangedMolecules, match=r"charges dropped in 2 of 3 molecules \(1 N\+, 2 O-\)") as caught:
        merged = elements_only(graphs)
    assert caught[0].filename == __file__ and merged.to_smiles(errors="none")[::2] == ["CC(=O)O", "C"]
    elements_only(graphs[[2]])
    assert not recwarn.list


def test_all_virtual_atoms_are_an_empty_sample():
    X, A, mask = torch.zeros(2, 3, 3), torch.zeros(2, 3, 3), torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match="all 2 samples are empty"):
        to_graphs(X, A, mask, GDSSConfig(), MOLECULE)
    X[1, 2, 0] = 1.0
    graphs, kept = to_graphs(X, A, mask, GDSSConfig(), MOLECULE)
    assert kept == [1] and graphs.ids == (1,) and graphs.to_smiles() == ["C"]
    assert decode(quantise(X, A, mask, GDSSConfig(), True), MOLECULE)[0].mol is None
