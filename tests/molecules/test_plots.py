"""Pictures: they show the numbers that they were given, and refuse what they cannot show."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")
pytest.importorskip("rdkit")

from scidiffuse import molecules as mo
from scidiffuse.core.scores import wilson
from scidiffuse.molecules import plots


def pixels(image):
    return np.asarray(image.convert("L"))


def test_a_grid_has_a_place_for_each_and_a_mark_where_asked():
    image = plots.molecule_grid(["CCO", "c1ccccc1", None, "CN"], list("abcd"), columns=3, size=(100, 80))
    assert image.size == (300, 160)
    red, green, blue = np.asarray(
        plots.molecule_grid(["CCO", "CC"], columns=2, size=(100, 80), highlight="CO").convert("RGB"), dtype=int
    ).transpose(2, 0, 1)
    marked = (red > 240) & (green == blue) & (green > 100) & (green < 200)  # RDKit's pink
    assert marked[:, :100].any() and not marked[:, 100:].any()
    with pytest.raises(ValueError, match="one legend for each of 1 molecules, got 2"):
        plots.molecule_grid(["C"], ["a", "b"])
    with pytest.raises(ValueError, match="no molecule to draw"):
        plots.molecule_grid([])


def test_a_geometry_is_drawn_as_its_structure():
    flat = pixels(plots.molecule_grid([mo.chem.parse("CCO")]))
    from rdkit import Chem
    from rdkit.Chem import AllChem

    mol = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    AllChem.EmbedMolecule(mol, randomSeed=0)
    assert (pixels(plots.molecule_grid([mol])) == flat).all() and mol.GetNumConformers() == 1


def test_graphs_are_drawn_with_all_edges():
    graphs = mo.load("community_small")[:5]
    figure = plots.graph_drawings(graphs, 4, columns=2)
    axes = [axis for axis in figure.axes if axis.collections]
    assert len(axes) == 4
    for axis, a, n in zip(axes, graphs.A, graphs.num_nodes, strict=False):
        lines, points = axis.collections
        assert len(lines.get_segments()) == int(a.sum()) // 2 and len(points.get_offsets()) == int(n)
    matrix = np.ones((3, 3)) - np.eye(3)
    assert plots.graph_drawings([matrix]).axes[0].get_title() == "3 nodes, 3 edges"
    with pytest.raises(ValueError, match="no graph to draw"):
        plots.graph_drawings([])


def test_a_geometry_is_seen_flat_on():
    """Water tilted in space: seen along the normal of its plane all distances are true."""
    flat = np.array([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    positions = torch.tensor(flat @ turn.T, dtype=torch.float32)[None]
    atoms = mo.Atoms(
        positions,
        torch.tensor([[8, 1, 1]], dtype=torch.uint8),
        torch.zeros(1, 3, dtype=torch.int8),
        torch.ones(1, 3, dtype=torch.bool),
    )
    axis = plots.molecules_3d(atoms).axes[0]
    centres = np.array([circle.center for circle in axis.patches])
    radii = np.array([circle.radius for circle in axis.patches])
    assert np.linalg.norm(centres[radii < 0.3][0] - centres[radii > 0.3][0]) == pytest.approx(0.96, abs=2e-3)
    assert len(axis.lines) == 2  # the two bonds of the distance table
    far = plots.molecules_3d(replace(atoms, positions=atoms.positions * 100)).axes[0]
    assert min(c.radius for c in far.patches) / far.get_xlim()[1] > 0.015  # seen, however far apart
    with pytest.raises(ValueError, match="no molecule to draw"):
        plots.molecules_3d(atoms[:0])


def test_histograms_say_mean_and_number():
    figure = plots.property_histograms({"a": ["CCO", None, "CCC", "C1CC"], "b": ["C"]}, ["weight", "qed"])
    texts = [t.get_text() for t in figure.axes[0].get_legend().get_texts()]
    assert [(a.get_xlabel(), a.get_ylabel()) for a in figure.axes] == [("weight, g/mol", "density"), ("QED", "density")]
    mean = (mo.chem.weight(mo.chem.parse("CCO")) + mo.chem.weight(mo.chem.parse("CCC"))) / 2
    assert texts == ["b, mean 16, n = 1", f"a, mean {mean:.3g}, n = 2"]
    with pytest.raises(ValueError, match="no property 'mass'"):
        plots.property_histograms({"a": ["C"]}, ["mass"])
    with pytest.raises(ValueError, match="b: no molecule"):
        plots.property_histograms({"a": ["C"], "b": ["C1CC"]})


def test_mmd_bars_are_as_high_as_the_scores():
    graphs = [np.diag(np.ones(k), 1) + np.diag(np.ones(k), -1) for k in range(2, 6)]  # paths
    scores = mo.graph_mmd(graphs[:2], graphs[2:], which=["degree", "clustering"])
    axis = plots.mmd_bars({"x": scores}).axes[0]
    assert [bar.get_height() for bar in axis.patches] == pytest.approx([s.value for s in scores.values()])
    with pytest.raises(ValueError, match="no scores"):
        plots.mmd_bars({})


def test_the_validity_curve_ends_at_the_share():
    hits = [True] * 30 + [False] * 10
    axis = plots.validity_curve({"x": hits}).axes[0]
    (line,) = axis.lines
    assert line.get_xdata()[-1] == 40 and line.get_ydata()[-1] == 0.75
    band = axis.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() >= min(wilson(sum(hits[:n]), n)[0] for n in range(10, 41)) - 1e-12
    with pytest.raises(ValueError, match="no samples"):
        plots.validity_curve({"x": []})


def test_the_reward_curve_has_the_means():
    values = {"svdd": {1: [0.0, 2.0], 4: [3.0, 5.0]}}
    axis = plots.reward_curve(values, reward="QED").axes[0]
    assert axis.lines[0].get_ydata().tolist() == [1.0, 4.0] and axis.get_ylabel() == "mean QED"
    with pytest.raises(ValueError, match="no rewards"):
        plots.reward_curve({"svdd": {1: []}})


def test_the_training_curve_has_the_losses():
    rows = [{"step": 1, "loss": 3.0, "val_loss": math.nan}, {"step": 2, "loss": 2.0, "val_loss": 2.5}]
    first, second = plots.training_curve(rows).axes[0].lines
    assert list(first.get_xdata()) == [1, 2] and list(first.get_ydata()) == [3.0, 2.0]
    assert list(second.get_xdata()) == [2] and list(second.get_ydata()) == [2.5]
    with pytest.raises(ValueError, match="no loss"):
        plots.training_curve([])


def test_information_of_known_frequencies():
    f = np.array([[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25] * 4])
    assert plots.information(f) == pytest.approx([2.0, 1.0, 0.0])
    assert plots.information(f, 10) == pytest.approx([2 - 3 / (20 * math.log(2)), 1 - 3 / (20 * math.log(2)), 0.0])
    with pytest.raises(ValueError, match="sum to 1"):
        plots.information(np.ones((2, 4)))


def test_letters_of_a_logo_are_as_high_as_their_share_of_the_information():
    sequences = ["AC", "AG", "AC", "AC"] * 50
    axis = plots.sequence_logo(sequences).axes[0]
    boxes = [patch.get_path().get_extents() for patch in axis.patches]
    few = 3 / (2 * math.log(2) * 200)
    bits = 2 + 0.75 * math.log2(0.75) + 0.25 * math.log2(0.25) - few
    assert [box.height for box in boxes] == pytest.approx([2 - few, 0.25 * bits, 0.75 * bits])
    assert boxes[2].y0 == pytest.approx(boxes[1].y1)  # the frequent letter is on top
    assert boxes[0].x0 == pytest.approx(0.54) and boxes[1].x1 == pytest.approx(2.46)
    with pytest.raises(ValueError, match="without a letter of ACGT"):
        plots.sequence_logo(["NN"])
    with pytest.raises(ValueError, match="height must be"):
        plots.sequence_logo(["A"], height="nats")


@pytest.mark.parametrize(
    ("draw", "given", "says"),
    [
        (plots.property_histograms, {}, "there are no molecules to draw: give"),
        (plots.value_histograms, {}, "there are no numbers to draw"),
        (plots.value_histograms, {"QED": {}}, "there are no numbers to draw"),
        (plots.value_histograms, {"QED": {"a": []}}, "there are no numbers to draw"),
        (plots.reward_curve, {}, "there are no rewards to draw"),
        (plots.reward_curve, {"svdd": {}}, "there are no rewards to draw"),
    ],
)
def test_nothing_to_draw_is_told(draw, given, says):
    with pytest.raises(ValueError, match=says):
        draw(given)


def test_samples_of_graphs_are_drawn_as_they_are():
    graphs = mo.load("community_small")[:2]
    figure = plots.graph_drawings(mo.GraphSamples(graphs, None, None, {}, {}))
    assert [a.get_title() for a in figure.axes] == [a.get_title() for a in plots.graph_drawings(graphs).axes]
