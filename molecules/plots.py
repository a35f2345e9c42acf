r"""Pictures of molecules, graphs, sequences and of how good they are.

Charts are matplotlib's (``.savefig(path)``; no pyplot, no global state, no display), drawings of molecules RDKit's.

*Sequence logo* (T. D. Schneider, R. M. Stephens, "Sequence logos: a new way to display consensus sequences", Nucleic
Acids Research 1990, https://doi.org/10.1093/nar/18.20.6097). With f_l(a) the frequency of letter a at place l among n
sequences and |A| letters, the height of the stack is its information in bits,

    R_l = log2 |A| - (H_l + e_n),      H_l = -sum_a f_l(a) log2 f_l(a),      e_n = (|A| - 1) / (2 n ln 2),

e_n being the correction for few sequences, never below 0, and a letter takes the share f_l(a) of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..core.scores import Score, wilson
from . import chem
from .data.extras import quiet, rdkit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .data.atoms import Atoms
    from .data.graphs import Graphs

__all__ = [
    "PROPERTIES",
    "graph_drawings",
    "information",
    "mmd_bars",
    "molecule_grid",
    "molecules_3d",
    "property_histograms",
    "reward_curve",
    "sequence_logo",
    "validity_curve",
]

#: The properties that are drawn: function of a molecule, and the label of its axis.
PROPERTIES = {
    "qed": (chem.qed, "QED"),
    "logp": (chem.logp, "logP (Crippen)"),
    "sa": (chem.sa_score, "SA score"),
    "weight": (chem.weight, "weight, g/mol"),
}
#: Colours of elements (white background) and of letters; what is not named is grey.
ELEMENTS = {
    1: "#dddddd", 6: "#404040", 7: "#2f5fd0", 8: "#d03020", 9: "#3f9f3f", 15: "#e08020", 16: "#c9a800", 17: "#2f8f2f",
    35: "#8b3a1a", 53: "#6a2a8a",
}  # fmt: skip
_DNA = {"A": "#2e8b3d", "C": "#2457c5", "G": "#e69a00", "T": "#c62828", "U": "#c62828"}
_PROTEIN = {
    **dict.fromkeys("AVLIMFWP", "#404040"), **dict.fromkeys("GSTYCQN", "#2e8b3d"), **dict.fromkeys("KRH", "#2457c5"),
    **dict.fromkeys("DE", "#c62828"),
}  # fmt: skip
_TYPE_COLOURS = ("C0", "C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8", "C9")


def _figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:  # pragma: no cover - exercised by hiding the module
        raise ImportError('plots need matplotlib: pip install "scidiffuse[molecules]"') from error
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _panels(count: int, columns: int, size: float) -> tuple[Any, list[Any]]:
    """Square panels without frames, `columns` in a row; those beyond `count` stay empty."""
    columns = max(1, min(columns, count))
    figure, axes = _figure(math.ceil(count / columns), columns, (size, size))
    for axis in axes.flat:
        axis.set_axis_off()
        axis.set_aspect("equal")
    return figure, list(axes.flat)[:count]


# --------------------------------------------------------------------------------------------------------------------
# drawings


def molecule_grid(
    molecules: Sequence[Any],
    legends: Sequence[str] | None = None,
    *,
    columns: int = 6,
    size: tuple[int, int] = (220, 180),
    highlight: str | None = None,
) -> Any:
    """Drawings of molecules side by side.

    Args:
        molecules: RDKit molecules or SMILES; None leaves a place empty. legends: a line below each.
        columns: in a row. size: of a drawing, pixels. highlight: a SMILES whose atoms are marked where they occur.

    Returns:
        a PIL image (``.save(path)``).

    Raises:
        ValueError: no molecule, legends of another number.
    """
    mols = [chem.parse(m) if isinstance(m, str) else m for m in molecules]
    if not mols:
        raise ValueError("there is no molecule to draw")
    if legends is not None and len(legends) != len(mols):
        raise ValueError(f"expected one legend for each of {len(mols)} molecules, got {len(legends)}")
    draw, chemistry = rdkit("Chem.Draw"), rdkit("Chem")
    with quiet():
        flat = [None if mol is None else _flat(chemistry, mol) for mol in mols]
        marked = None
        if highlight is not None:
            part = chem.parse(highlight)
            if part is None:
                raise ValueError(f"highlight={highlight!r} is no SMILES")
            marked = [() if mol is None else mol.GetSubstructMatch(part) for mol in flat]
        return draw.MolsToGridImage(
            flat,
            molsPerRow=max(1, min(columns, len(flat))),
            subImgSize=size,
            legends=None if legends is None else list(legends),
            highlightAtomLists=marked,
            returnPNG=False,
        )


def _flat(chemistry: Any, mol: Any) -> Any:
    """A copy without coordinates of its own, so that geometries are drawn as structures, too."""
    copy = chemistry.RemoveHs(mol) if mol.GetNumHeavyAtoms() else chemistry.Mol(mol)
    copy.RemoveAllConformers()
    return copy


def graph_drawings(
    graphs: Graphs | Sequence[Any], n: int = 12, *, columns: int = 4, titles: Sequence[str] | None = None
) -> Figure:
    """Drawings of the first n graphs: nodes coloured by type, lines as wide as the bond order.

    Args:
        graphs: `Graphs`, networkx graphs, or adjacency matrices.
        n: how many at most. columns: in a row. titles: one a drawn graph; default: nodes and edges.

    Raises:
        ValueError: no graph.
    """
    from .data.extras import networkx

    nx = networkx()
    matrices, types = _matrices(graphs, n)
    figure, axes = _panels(len(matrices), columns, 2.6)
    from matplotlib.collections import LineCollection

    for k, (axis, a) in enumerate(zip(axes, matrices, strict=True)):
        graph = nx.from_numpy_array((a != 0).astype(int))
        at = nx.spring_layout(graph, seed=0, iterations=200, k=1.2 / math.sqrt(max(len(a), 1)))
        xy = np.array([at[i] for i in range(len(a))]).reshape(-1, 2)
        i, j = np.nonzero(np.triu(a, 1))
        lines = LineCollection(
            list(np.stack([xy[i], xy[j]], 1)), linewidths=0.8 * np.sqrt(a[i, j].astype(float)), colors="#8a929c"
        )
        axis.add_collection(lines)
        colours = "C0" if types is None else [_TYPE_COLOURS[t % 10] for t in types[k]]
        axis.scatter(xy[:, 0], xy[:, 1], s=26, c=colours, zorder=2, edgecolors="white", linewidths=0.5)
        axis.set_title(f"{len(a)} nodes, {len(i)} edges" if titles is None else titles[k], fontsize=8, color="#404850")
        middle, half = (xy.max(0) + xy.min(0)) / 2, 0.54 * (np.ptp(xy, axis=0).max() or 1.0)
        axis.set_xlim(middle[0] - half, middle[0] + half)
        axis.set_ylim(middle[1] - half, middle[1] + half)
    return figure


def _matrices(graphs: Any, n: int) -> tuple[list[np.ndarray], list[Any] | None]:
    """The first n as matrices, and their types where there are some."""
    from .data.graphs import Graphs
    from .metrics.graphs import adjacency

    if len(graphs) == 0:
        raise ValueError("there is no graph to draw")
    if not isinstance(graphs, Graphs):
        return [adjacency(g) for g in list(graphs)[:n]], None
    some = graphs[:n]
    masks = some.mask.numpy()
    matrices = [a[m][:, m] for a, m in zip(some.A.numpy(), masks, strict=True)]
    kinds = None if some.types is None else [t[m].tolist() for t, m in zip(some.types.numpy(), masks, strict=True)]
    return matrices, kinds


def molecules_3d(
    atoms: Atoms, n: int = 8, *, columns: int = 4, titles: Sequence[str] | None = None, size: float = 2.8
) -> Figure:
    """Geometries of the first n molecules, seen along their shortest axis; what is farther away is paler.

    Bonds are those of `atoms`, else those that EDM's table sees in the distances.

    Args:
        atoms: the molecules. n: how many at most. columns: in a row. titles: one a molecule. size: of a panel, inches.

    Raises:
        ValueError: no molecule.
    """
    if len(atoms) == 0:
        raise ValueError("there is no molecule to draw")
    from matplotlib.colors import to_rgb

    some = atoms[:n]
    figure, axes = _panels(len(some), columns, size)
    for b, axis in enumerate(axes):
        there = some.mask[b].numpy()
        z, x = some.numbers[b].numpy()[there], some.positions[b].double().numpy()[there]
        orders = _by_distance(z, x) if some.bonds is None else some.bonds[b].numpy()[there][:, there]
        x = x - x.mean(0)
        _, _, axes_of = np.linalg.svd(x, full_matrices=True) if len(x) > 1 else (None, None, np.eye(3))
        x = x @ axes_of.T
        depth = x[:, 2]
        near = (depth - depth.min()) / (np.ptp(depth) or 1.0)  # 0 far .. 1 near
        for i, j in np.argwhere(np.triu(orders, 1)):
            pale, order = 0.5 * (near[i] + near[j]), int(orders[i, j])
            grey = 0.65 - 0.3 * pale
            for shift in np.linspace(-0.09 * (order - 1), 0.09 * (order - 1), order):
                along = x[j, :2] - x[i, :2]
                aside = shift * np.array([-along[1], along[0]]) / (np.hypot(*along) or 1.0)
                ends = np.stack([x[i, :2] + aside, x[j, :2] + aside])
                axis.plot(*ends.T, color=(grey,) * 3, lw=1.6, zorder=2 * pale, solid_capstyle="round")
        from matplotlib.patches import Circle

        for k in np.argsort(depth):
            colour = np.array(to_rgb(ELEMENTS.get(int(z[k]), "#9a9a9a")))
            colour = colour + (1 - colour) * 0.35 * (1 - near[k])
            circle = Circle(
                x[k, :2], 0.2 if z[k] == 1 else 0.33, fc=colour, ec="#303030", lw=0.5, zorder=2 * near[k] + 0.1
            )
            axis.add_patch(circle)
        axis.set_title("" if titles is None else titles[b], fontsize=8, color="#404850")
        half = max(np.abs(x[:, :2]).max() + 0.5, 2.0)
        axis.set_xlim(-half, half)
        axis.set_ylim(-half, half)
    return figure


def _by_distance(z: np.ndarray, x: np.ndarray) -> np.ndarray:
    from .metrics.stability import bond_orders

    try:
        orders: np.ndarray = bond_orders(z[None].astype(np.int64), x[None])[0]
    except ValueError:  # elements without bond lengths in EDM's table
        return np.zeros((len(z), len(z)), dtype=np.int64)
    return orders


# --------------------------------------------------------------------------------------------------------------------
# distributions and scores


def property_histograms(
    molecules: Mapping[str, Sequence[Any]], which: Sequence[str] = ("qed", "logp", "sa", "weight"), *, bins: int = 40
) -> Figure:
    """Histograms of properties, a panel each, one line a set of molecules.

    Args:
        molecules: by label, RDKit molecules or SMILES; None and what cannot be read is left out. The last one is drawn
            filled and grey where there are several: the reference. which: of :data:`PROPERTIES`. bins: a panel.

    Raises:
        ValueError: an unknown property, or a set without a valid molecule.
    """
    if strange := [p for p in which if p not in PROPERTIES]:
        raise ValueError(f"no property {strange[0]!r}; there are {', '.join(PROPERTIES)}")
    sets = {}
    for label, some in molecules.items():
        mols = [m for m in (chem.parse(s) if isinstance(s, str) else s for s in some) if m is not None]
        if not mols:
            raise ValueError(f"{label}: no molecule to draw a histogram of")
        sets[label] = mols
    columns = min(2, len(which))
    figure, axes = _figure(math.ceil(len(which) / columns), columns, (4.4, 2.7))
    for axis in list(axes.flat)[len(which) :]:
        axis.set_axis_off()
    for axis, name in zip(axes.flat, which, strict=False):
        function, text = PROPERTIES[name]
        with quiet():
            values = {label: np.array([function(m) for m in mols]) for label, mols in sets.items()}
        everything = np.concatenate(list(values.values()))
        low, high = everything.min(), everything.max()
        edges = np.linspace(low, high if high > low else low + 1, bins + 1)
        for k, (label, v) in enumerate(reversed(values.items())):
            behind = k == 0 and len(values) > 1
            style: dict[str, Any] = {"histtype": "stepfilled", "color": "#c9ced6"} if behind else {"histtype": "step"}
            if not behind:
                style |= {"color": f"C{len(values) - 1 - k}", "lw": 1.5}
            axis.hist(v, edges, density=True, label=f"{label}, mean {v.mean():.3g}, n = {len(v)}", **style)
        axis.set_xlabel(text)
        axis.set_yticks([])
        axis.spines["left"].set_visible(False)
        axis.set_ylim(0, axis.get_ylim()[1] * (1.12 + 0.13 * len(values)))
        axis.legend(frameon=False, fontsize=7, loc="upper left")
    return figure


def mmd_bars(scores: Mapping[str, Mapping[str, Score]]) -> Figure:
    """Squared MMDs with their intervals, a group of bars a statistic; the line is what chance alone gives.

    Args:
        scores: by label (a model, a baseline), what :func:`.metrics.graph_mmd` returned.

    Raises:
        ValueError: nothing to draw.
    """
    names = list(dict.fromkeys(name for some in scores.values() for name in some))
    if not names:
        raise ValueError("there are no scores to draw")
    figure, axes = _figure(1, 1, (1.3 + 1.5 * len(names), 3.2))
    axis, width = axes[0, 0], 0.8 / len(scores)
    for k, (label, some) in enumerate(scores.items()):
        here = [(i, some[name]) for i, name in enumerate(names) if name in some]
        x = np.array([i - 0.4 + (k + 0.5) * width for i, _ in here])
        values = np.array([s.value for _, s in here])
        axis.bar(x, values, width * 0.92, color=f"C{k}", label=f"{label}, n = {here[0][1].n}" if here else label)
        low = np.array([min(s.value, s.low) if math.isfinite(s.low) else s.value for _, s in here])
        high = np.array([max(s.value, s.high) if math.isfinite(s.high) else s.value for _, s in here])
        axis.errorbar(x, values, [values - low, high - values], fmt="none", ecolor="#303030", elinewidth=1, capsize=2)
        chance = [(i, s.reference) for i, s in here if s.reference is not None]
        for c, (i, value) in enumerate(chance if k == 0 else []):
            axis.hlines(value, i - 0.45, i + 0.45, colors="#303030", ls="--", lw=1, label=None if c else "chance alone")
    axis.set_xticks(range(len(names)), [name.removeprefix("mmd_").replace("_", "\n") for name in names], fontsize=8)
    axis.set_ylabel("MMD²")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, fontsize=8)
    return figure


def validity_curve(valid: Mapping[str, Sequence[bool]], *, level: float = 0.95) -> Figure:
    """The share that is valid among the first n samples against n, with Wilson's interval: how many samples it takes.

    Args:
        valid: by label, one truth value a sample, in their order. level: of the intervals.

    Raises:
        ValueError: nothing to draw.
    """
    if not valid or any(len(v) == 0 for v in valid.values()):
        raise ValueError("there are no samples to draw")
    figure, axes = _figure(1, 1, (5.2, 3.4))
    axis = axes[0, 0]
    for k, (label, hits) in enumerate(valid.items()):
        total = np.cumsum(np.asarray(hits, dtype=np.int64))
        n = np.unique(np.geomspace(min(10, len(total)), len(total), 200).astype(int))
        bounds = np.array([wilson(int(total[i - 1]), int(i), level) for i in n])
        axis.fill_between(n, *bounds.T, color=f"C{k}", alpha=0.18, lw=0)
        axis.plot(n, total[n - 1] / n, color=f"C{k}", label=f"{label}: {total[-1] / len(total):.3f}, n = {len(total)}")
    axis.set_xscale("log")
    axis.set_xlabel("samples")
    axis.set_ylabel("share valid")
    axis.set_ylim(top=1.005)
    axis.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def reward_curve(
    values: Mapping[str, Mapping[int, Sequence[float]]], *, reward: str = "reward", x: str = "candidates a step"
) -> Figure:
    """Mean reward and its 95 % interval (normal) against the cost, one line a method.

    Args:
        values: by method, cost (candidates, walkers, or N of best-of-N) -> the rewards of its samples.
        reward, x: labels of the axes.

    Raises:
        ValueError: nothing to draw.
    """
    if not values or any(len(v) == 0 for some in values.values() for v in some.values()):
        raise ValueError("there are no rewards to draw")
    figure, axes = _figure(1, 1, (5.2, 3.4))
    axis = axes[0, 0]
    costs: set[int] = set()
    for k, (label, some) in enumerate(values.items()):
        at = sorted(some)
        costs.update(at)
        data = [np.asarray(some[c], dtype=np.float64) for c in at]
        half = [1.96 * v.std(ddof=1) / math.sqrt(len(v)) if len(v) > 1 else 0.0 for v in data]
        axis.errorbar(
            at, [v.mean() for v in data], half, color=f"C{k}", marker="o", ms=4, capsize=3,
            label=f"{label}, n = {min(map(len, data))}",
        )  # fmt: skip
    axis.set_xscale("log", base=2)
    ticks = sorted(costs)
    axis.set_xticks(ticks, [str(c) for c in ticks])
    axis.minorticks_off()
    axis.set_xlabel(x)
    axis.set_ylabel(f"mean {reward}")
    axis.legend(frameon=False, fontsize=8)
    return figure


# --------------------------------------------------------------------------------------------------------------------
# sequences


def information(frequencies: np.ndarray, n: int | np.ndarray | None = None) -> np.ndarray:
    """Bits of each place, (L,), from frequencies (L, |A|) of ``n`` sequences (None: exact frequencies); see the module.

    Raises:
        ValueError: frequencies that are no distributions.
    """
    f = np.asarray(frequencies, dtype=np.float64)
    if f.ndim != 2 or (f < 0).any() or not np.allclose(f.sum(1), 1.0):
        raise ValueError("expected frequencies (places, letters) that sum to 1 at every place")
    entropy = -(f * np.log2(np.where(f > 0, f, 1.0))).sum(1)
    few = 0.0 if n is None else (f.shape[1] - 1) / (2 * math.log(2) * np.asarray(n, dtype=np.float64))
    bits: np.ndarray = np.maximum(math.log2(f.shape[1]) - entropy - few, 0.0)
    return bits


def sequence_logo(
    sequences: Sequence[str],
    alphabet: str = "ACGT",
    *,
    height: Literal["bits", "frequency"] = "bits",
    per_row: int = 50,
    title: str | None = None,
) -> Figure:
    """Stacks of letters, the frequent ones on top, one stack a place.

    Args:
        sequences: their places are compared as they stand: aligned, or of one design. Letters outside the alphabet are
            not counted. alphabet: the letters.
        height: "bits", information (Schneider and Stephens), or "frequency", every stack as high as 1.
        per_row: places a line. title: of the picture.

    Raises:
        ValueError: no sequence, no known letter, another word for height.
    """
    if height not in ("bits", "frequency"):
        raise ValueError(f"height must be 'bits' or 'frequency', got {height!r}")
    length = max(map(len, sequences), default=0)
    counts = np.zeros((length, len(alphabet)))
    place = {letter: k for k, letter in enumerate(alphabet)}
    for text in sequences:
        for at, letter in enumerate(text):
            if letter in place:
                counts[at, place[letter]] += 1
    n = counts.sum(1)
    if not n.any():
        raise ValueError(f"{len(sequences)} sequences without a letter of {alphabet}: there is nothing to draw")
    f = np.where(n[:, None] > 0, counts / np.maximum(n, 1)[:, None], 1 / len(alphabet))
    tall = np.where(n > 0, information(f, np.maximum(n, 1)) if height == "bits" else 1.0, 0.0)
    rows, columns = math.ceil(length / per_row), min(length, per_row)
    figure, axes = _figure(rows, 1, (max(4.0, 0.22 * columns + 0.8), 1.7))
    for row, axis in enumerate(axes[:, 0]):
        first, last = row * per_row, min((row + 1) * per_row, length)
        for at in range(first, last):
            floor = 0.0
            for k in np.argsort(f[at], kind="stable"):
                piece = float(f[at, k] * tall[at])
                if piece > 1e-3:
                    axis.add_patch(_letter(alphabet[k], at + 0.5, floor, piece, _colours(alphabet)))
                    floor += piece
        axis.set_xlim(first + 0.5, first + columns + 0.5)
        axis.set_ylim(0, math.log2(len(alphabet)) if height == "bits" else 1)
        axis.set_ylabel("bits" if height == "bits" else "frequency")
        step = 5 if columns > 15 else 1
        axis.set_xticks([p for p in range(first + 1, last + 1) if p % step == 0 or p == 1])
    axes[-1, 0].set_xlabel("place")
    figure.suptitle(title if title is not None else f"{len(sequences)} sequences", fontsize=9)
    return figure


def _colours(alphabet: str) -> dict[str, str]:
    return _DNA if len(alphabet) <= 5 else _PROTEIN


def _letter(letter: str, left: float, floor: float, height: float, colours: Mapping[str, str]) -> Any:
    """The outline of a letter, stretched to fill the box (1 wide)."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.patches import PathPatch
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D

    path = TextPath((0, 0), letter, size=1, prop=FontProperties(family="DejaVu Sans", weight="bold"))
    box = path.get_extents()
    wide = 0.92 if letter != "I" else 0.35
    grow = Affine2D().translate(-box.x0, -box.y0).scale(wide / box.width, height / box.height)
    place = grow.translate(left + (1 - wide) / 2, floor)
    return PathPatch(place.transform_path(path), fc=colours.get(letter, "#777777"), lw=0)
