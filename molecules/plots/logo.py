r"""The logo of a set of sequences.

T. D. Schneider, R. M. Stephens, "Sequence logos: a new way to display consensus sequences", Nucleic Acids Research
1990, https://doi.org/10.1093/nar/18.20.6097. With f_l(a) the frequency of letter a at place l among n sequences and |A|
letters, the height of the stack is its information in bits,

    R_l = log2 |A| - (H_l + e_n),      H_l = -sum_a f_l(a) log2 f_l(a),      e_n = (|A| - 1) / (2 n ln 2),

e_n being the correction for few sequences, never below 0, and a letter takes the share f_l(a) of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .figures import figure_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["information", "sequence_logo"]

_DNA = {"A": "#2e8b3d", "C": "#2457c5", "G": "#e69a00", "T": "#c62828", "U": "#c62828"}
_PROTEIN = {
    **dict.fromkeys("AVLIMFWP", "#404040"), **dict.fromkeys("GSTYCQN", "#2e8b3d"), **dict.fromkeys("KRH", "#2457c5"),
    **dict.fromkeys("DE", "#c62828"),
}  # fmt: skip


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
    figure, axes = figure_of(rows, 1, (max(4.0, 0.22 * columns + 0.8), 1.7))
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
    axes[-1, 0].set_xlabel("position")
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
