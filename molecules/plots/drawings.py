"""Drawings: structures of molecules, graphs, geometries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import chem
from ..data.extras import quiet, rdkit
from .figures import panels_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..data.atoms import Atoms
    from ..data.graphs import Graphs
    from ..samples import GraphSamples

__all__ = ["graph_drawings", "molecule_grid", "molecules_3d"]

#: Colours of elements by atomic number; what is not named is grey.
ELEMENTS = {
    1: "#dddddd", 6: "#404040", 7: "#2f5fd0", 8: "#d03020", 9: "#3f9f3f", 15: "#e08020", 16: "#c9a800", 17: "#2f8f2f",
    35: "#8b3a1a", 53: "#6a2a8a",
}  # fmt: skip
_TYPE_COLOURS = ("C0", "C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8", "C9")


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
    graphs: Graphs | GraphSamples | Sequence[Any], n: int = 12, *, columns: int = 4, titles: Sequence[str] | None = None
) -> Figure:
    """Drawings of the first n graphs: nodes coloured by type, lines as wide as the bond order.

    Args:
        graphs: `Graphs`, `GraphSamples`, networkx graphs, or adjacency matrices.
        n: how many at most. columns: in a row. titles: one a drawn graph; default: nodes and edges.

    Raises:
        ValueError: no graph.
    """
    from ..data.extras import networkx

    nx = networkx()
    matrices, types = _matrices(graphs, n)
    figure, axes = panels_of(len(matrices), columns, 2.6)
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
    from ..data.graphs import Graphs
    from ..metrics.containers import as_graphs, as_matrices
    from ..metrics.graphs import adjacency

    graphs = as_graphs(graphs)
    if len(graphs) == 0:
        raise ValueError("there is no graph to draw")
    if not isinstance(graphs, Graphs):
        return [adjacency(g) for g in list(graphs)[:n]], None
    some = graphs[:n]
    masks = some.mask.numpy()
    kinds = None if some.types is None else [t[m].tolist() for t, m in zip(some.types.numpy(), masks, strict=True)]
    return as_matrices(some), kinds


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
    figure, axes = panels_of(len(some), columns, size)
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

        reach = np.abs(x[:, :2]).max()
        grown = max(1.0, reach / 11)  # atoms that are far apart stay large enough to be seen
        half = max(reach + 0.5 * grown, 2.0)
        for k in np.argsort(depth):
            colour = np.array(to_rgb(ELEMENTS.get(int(z[k]), "#9a9a9a")))
            colour = colour + (1 - colour) * 0.35 * (1 - near[k])
            circle = Circle(
                x[k, :2],
                (0.2 if z[k] == 1 else 0.33) * grown,
                fc=colour,
                ec="#303030",
                lw=0.5,
                zorder=2 * near[k] + 0.1,
            )
            axis.add_patch(circle)
        axis.set_title("" if titles is None else titles[b], fontsize=8, color="#404850")
        axis.set_xlim(-half, half)
        axis.set_ylim(-half, half)
    return figure


def _by_distance(z: np.ndarray, x: np.ndarray) -> np.ndarray:
    from ..metrics.stability import bond_orders

    try:
        orders: np.ndarray = bond_orders(z[None].astype(np.int64), x[None])[0]
    except ValueError:  # elements without bond lengths in EDM's table
        return np.zeros((len(z), len(z)), dtype=np.int64)
    return orders
