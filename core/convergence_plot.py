"""The picture of `convergence`: error against network calls, one panel a schedule.

Colour is the order of a method, so that lines of one colour end up parallel; the marker tells methods of one order
apart. Other packages' solvers have hollow markers and dotted lines. Methods that coincide with one that is shown (PLMS
and iPNDM with PNDM, Euler with DDIM, ...) are left out: the table has them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .convergence import Measurement

__all__ = ["plot"]

_COLOURS = {1: "#8a8f98", 2: "#2b6cb0", 3: "#d9730d", 4: "#b4232c"}
_ADAPTIVE = "#1f7a4d"
# name: (marker, order that gives the colour, dashes)
_OURS: dict[str, tuple[str, int, Any]] = {
    "DDIM": ("o", 1, "-"),
    "Heun": ("s", 2, "-"),
    "PNDM": ("v", 2, "-"),
    "BELM": ("P", 2, "-"),
    "DPM-Solver++2M": ("o", 2, "-"),
    "DPM-Solver++3M, published": ("D", 2, "--"),
    "DPM-Solver++3S": ("s", 3, "-"),
    "DPM-Solver++3M": ("D", 3, "-"),
    "UniPC-2": ("^", 3, "-"),
    "UniPC-3": ("^", 4, "-"),
}
_NAMES = {"DDIM": "DDIM, Euler", "PNDM": "PNDM, PLMS, iPNDM"}
_PEERS: dict[str, tuple[str, int]] = {
    "DPM-Solver++2M": ("o", 2),
    "DPM-Solver++3M": ("D", 2),
    "UniPC-2": ("^", 3),
    "UniPC-3": ("^", 4),
    "xEAB-3": ("h", 3),
    "REAB-3": ("X", 1),
}


def plot(rows: Sequence[Measurement], path: str | Path, *, note: str = "") -> Path:
    """Draw error against network calls on logarithmic axes.

    Args:
        rows: what `convergence.table` and `convergence_peers.peers` return.
        path: .png, .svg or .pdf; its folder is made.
        note: a line below the panels (which peers are absent).

    Raises:
        ImportError: without matplotlib; the message says how to install it.
        ValueError: without rows.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("the plot needs matplotlib: pip install 'scidiffuse[plot]'") from error
    if not rows:
        raise ValueError("there is nothing to draw: rows is empty")
    where = list(dict.fromkeys(row.schedule for row in rows))
    figure = Figure(figsize=(4.2 * len(where) + 2.9, 6.2), dpi=150, facecolor="white")
    axes = figure.subplots(1, len(where), sharex=True, sharey=True, squeeze=False)[0]
    handles: dict[str, Any] = {}
    for panel, name in zip(axes, where, strict=True):
        _panel(panel, name, [row for row in rows if row.schedule == name], handles)
    axes[0].set_ylabel("distance to the exact solution (r.m.s.)")
    errors = [e for row in rows for e in row.errors if e > 0.0]
    axes[0].set_ylim(0.4 * min(errors), 3.0 * max(errors))
    left, right = 0.9 / figure.get_figwidth(), 1.0 - 3.0 / figure.get_figwidth()
    figure.subplots_adjust(left=left, right=right, top=0.855, bottom=0.125, wspace=0.06)
    figure.text(left, 0.962, "Error against network calls", fontsize=15, weight="bold", va="center")
    figure.text(
        left, 0.916, "mixture of Gaussians with its exact denoiser, even steps in log-SNR, float64; colour = order",
        fontsize=10, color="#555555", va="center",
    )  # fmt: skip
    if note:
        figure.text(left, 0.015, note, fontsize=8, color="#777777")
    _legend(figure, handles, right + 0.012)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def _panel(panel: Any, name: str, rows: Sequence[Measurement], handles: dict[str, Any]) -> None:
    panel.set_title(name, fontsize=12, loc="left", pad=6)
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel("network calls")
    panel.set_xticks([10, 30, 100, 300, 1000], ["10", "30", "100", "300", "1000"])
    panel.minorticks_off()
    panel.grid(True, color="#e9ecef", linewidth=0.8)
    panel.set_axisbelow(True)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        panel.spines[side].set_color("#adb5bd")
    panel.tick_params(colors="#495057", length=3)
    for row in rows:
        style: dict[str, Any]
        if row.tolerances:
            style = {
                "color": _ADAPTIVE,
                "marker": "*" if "23" in row.method else ".",
                "linestyle": "-",
                "linewidth": 1.2,
            }
            key = f"adaptive\n{row.method.removesuffix(', adaptive')}"
        elif row.package == "scidiffuse":
            if row.method not in _OURS:
                continue
            marker, order, dashes = _OURS[row.method]
            style = {"color": _COLOURS[order], "marker": marker, "linestyle": dashes, "linewidth": 1.7}
            key = f"order {order}\n{_NAMES.get(row.method, row.method)}"
        else:
            if row.method not in _PEERS:
                continue
            marker, order = _PEERS[row.method]
            style = {
                "color": _COLOURS[order], "marker": marker, "linestyle": ":", "linewidth": 1.2,
                "markerfacecolor": "white", "markersize": 8, "zorder": 1.8,
            }  # fmt: skip
            key = f"{row.package}\n{row.method}"
        style.setdefault("markersize", 5)
        (line,) = panel.plot(row.calls, row.errors, markeredgewidth=1.0, **style)
        handles.setdefault(key, line)


def _legend(figure: Any, handles: dict[str, Any], left: float) -> None:
    """One column right of the panels: the package's methods by order, then each peer's."""
    groups: dict[str, dict[str, Any]] = {}
    for key, line in handles.items():
        group, _, method = key.partition("\n")
        groups.setdefault(group, {})[method] = line
    line_height, top = 0.174 / figure.get_figheight(), 0.93
    for group, lines in groups.items():
        legend = figure.legend(
            lines.values(), lines.keys(), loc="upper left", bbox_to_anchor=(left, top), title=group, frameon=False,
            fontsize=9, handlelength=2.6, labelspacing=0.3, alignment="left", borderpad=0.2, title_fontsize=9.5,
        )  # fmt: skip
        legend.get_title().set_fontweight("bold")
        top -= line_height * (len(lines) + 1.9)
