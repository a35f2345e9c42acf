"""Charts: distributions of properties, scores with their intervals, trainings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.scores import Score, wilson
from .. import chem
from ..data.extras import quiet
from .figures import figure_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "PROPERTIES", "mmd_bars", "property_histograms", "reward_curve", "training_curve", "validity_curve",
    "value_histograms",
]  # fmt: skip

#: The properties that are drawn: function of a molecule, and the label of its axis.
PROPERTIES = {
    "qed": (chem.qed, "QED"),
    "logp": (chem.logp, "logP (Crippen)"),
    "sa": (chem.sa_score, "SA score"),
    "weight": (chem.weight, "weight, g/mol"),
}


def value_histograms(values: Mapping[str, Mapping[str, Sequence[float]]], *, bins: int = 40) -> Figure:
    """Histograms, a panel a quantity, one line a set.

    Args:
        values: by quantity (the label of the axis), by label of the set, its numbers. Where there are several sets the
            last one is drawn filled and grey: the reference. bins: a panel, at most;
            sets of few numbers get fewer.

    Raises:
        ValueError: nothing to draw, or a set without a number.
    """
    if not values or any(not sets or any(len(v) == 0 for v in sets.values()) for sets in values.values()):
        raise ValueError(
            "there are no numbers to draw: give {quantity: {label of a set: its numbers}}, none of them empty"
        )
    columns = min(2, len(values))
    figure, axes = figure_of(math.ceil(len(values) / columns), columns, (4.4, 2.7))
    for axis in list(axes.flat)[len(values) :]:
        axis.set_axis_off()
    for axis, (text, sets) in zip(axes.flat, values.items(), strict=False):
        arrays = {label: np.asarray(v, dtype=np.float64) for label, v in sets.items()}
        everything = np.concatenate(list(arrays.values()))
        low, high = everything.min(), everything.max()
        few = 4 + int(2 * math.sqrt(min(map(len, arrays.values()))))
        edges = np.linspace(low, high if high > low else low + 1, min(bins, few) + 1)
        for k, (label, v) in enumerate(reversed(arrays.items())):
            behind = k == 0 and len(arrays) > 1
            style: dict[str, Any] = {"histtype": "stepfilled", "color": "#c9ced6"}
            if not behind:
                style = {"histtype": "step", "color": f"C{len(arrays) - 1 - k}", "lw": 1.5}
            axis.hist(v, edges, density=True, label=f"{label}, mean {v.mean():.3g}, n = {len(v)}", **style)
        axis.set_xlabel(text)
        axis.set_ylabel("density")
        axis.set_yticks([])
        axis.spines["left"].set_visible(False)
        axis.set_ylim(0, axis.get_ylim()[1] * (1.12 + 0.13 * len(arrays)))
        axis.legend(frameon=False, fontsize=7, loc="upper left")
    return figure


def property_histograms(
    molecules: Mapping[str, Sequence[Any]], which: Sequence[str] = ("qed", "logp", "sa", "weight"), *, bins: int = 40
) -> Figure:
    """Histograms of properties of sets of molecules, see :func:`value_histograms`.

    Args:
        molecules: by label, RDKit molecules or SMILES; None and what cannot be read is left out. which: of
            :data:`PROPERTIES`. bins: a panel.

    Raises:
        ValueError: an unknown property, or a set without a valid molecule.
    """
    if strange := [p for p in which if p not in PROPERTIES]:
        raise ValueError(f"no property {strange[0]!r}; there are {', '.join(PROPERTIES)}")
    if not molecules:
        raise ValueError("there are no molecules to draw: give {label: molecules}")
    sets = {}
    for label, some in molecules.items():
        sets[label] = [m for m in (chem.parse(s) if isinstance(s, str) else s for s in some) if m is not None]
        if not sets[label]:
            raise ValueError(f"{label}: no molecule to draw a histogram of")
    values = {}
    with quiet():
        for function, text in (PROPERTIES[name] for name in which):
            values[text] = {label: [function(m) for m in mols] for label, mols in sets.items()}
    return value_histograms(values, bins=bins)


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
    figure, axes = figure_of(1, 1, (1.3 + 1.5 * len(names), 3.2))
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
    figure, axes = figure_of(1, 1, (5.2, 3.4))
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
    if not values or any(not some or any(len(v) == 0 for v in some.values()) for some in values.values()):
        raise ValueError("there are no rewards to draw: give {method: {cost: rewards}}, none of them empty")
    figure, axes = figure_of(1, 1, (5.2, 3.4))
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


def training_curve(history: Sequence[Mapping[str, float]]) -> Figure:
    """Loss against steps, and the validation loss where there is one.

    Args:
        history: rows of step, loss, val_loss, as `fit` leaves them in ``model.history``.

    Raises:
        ValueError: no row with a loss.
    """
    figure, axes = figure_of(1, 1, (5.2, 3.2))
    axis, drawn = axes[0, 0], 0
    for k, (name, text) in enumerate((("loss", "training"), ("val_loss", "validation"))):
        rows = [(row["step"], row[name]) for row in history if row.get(name) is not None and math.isfinite(row[name])]
        if rows:
            drawn += 1
            axis.plot(*zip(*rows, strict=True), color=f"C{k}", lw=1.2, marker="." if len(rows) < 30 else "", label=text)
    if not drawn:
        raise ValueError("there is no loss to draw")
    axis.set_xlabel("step")
    axis.set_ylabel("loss")
    axis.legend(frameon=False, fontsize=8)
    return figure
