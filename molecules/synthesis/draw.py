"""The picture of a route as SVG: RDKit draws the molecules, no other program is needed."""

from __future__ import annotations

import re
from typing import Any
from xml.sax.saxutils import escape

from ..chem import parse
from ..data.extras import rdkit
from .routes import Made, Route

__all__ = ["route_svg"]

WIDTH, HEIGHT = 200, 140  # of a molecule's box
BOND = 22.0
GAP_X, GAP_Y = 24, 70
MARGIN = 16
GREEN, GREY = "#2e7d32", "#757575"
_BODY = re.compile(r"<svg[^>]*>(.*)</svg>", re.DOTALL)


def route_svg(route: Route) -> str:
    """A tree with the target on top. Boxes in green are bought; an arrow goes from the reactants up to the product,
    with the probability that the one-step model gives the reaction."""
    places: list[tuple[Made, float, int]] = []
    lines: list[tuple[float, int, float, int]] = []
    columns = _place(route.tree, 0, 0, places, lines)[1]
    rows = 1 + max(row for _, _, row in places)
    width = 2 * MARGIN + columns * (WIDTH + GAP_X) - GAP_X
    height = 2 * MARGIN + rows * (HEIGHT + GAP_Y) - GAP_Y
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        f"<title>{escape(repr(route))}</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="{GREY}"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for x0, row0, x1, row1 in lines:
        a, b = (_middle(x0), _top(row0) + HEIGHT), (_middle(x1), _top(row1))
        knee = (a[1] + b[1]) / 2
        path = f"M{b[0]:.1f} {b[1]:.1f}V{knee:.1f}H{a[0]:.1f}V{a[1] + 2:.1f}"
        parts.append(f'<path d="{path}" fill="none" stroke="{GREY}" stroke-width="1.5" marker-end="url(#tip)"/>')
    for made, x, row in places:
        left, top = _middle(x) - WIDTH / 2, _top(row)
        colour = GREEN if made.step is None else GREY
        parts.append(
            f'<g transform="translate({left:.1f},{top:.1f})"><title>{escape(made.smiles)}</title>'
            f"{_drawing(made.smiles)}"
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="{colour}" stroke-width="2" rx="6"/></g>'
        )
        if made.step is not None:
            where = f'x="{_middle(x) + 6:.1f}" y="{top + HEIGHT + 16:.1f}"'
            text = f"p = {made.step.probability:.2g}"
            parts.append(f'<text {where} font-family="sans-serif" font-size="11" fill="{GREY}">{text}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _place(made: Made, row: int, column: float, places: list[Any], lines: list[Any]) -> tuple[float, float]:
    """Give this molecule and all below it a column and a row; returns its own column and the first free one."""
    if not made.parts:
        places.append((made, column, row))
        return column, column + 1
    free, below = column, []
    for part in made.parts:
        own, free = _place(part, row + 1, free, places, lines)
        below.append(own)
    own = (below[0] + below[-1]) / 2
    places.append((made, own, row))
    lines += [(own, row, x, row + 1) for x in below]
    return own, free


def _middle(column: float) -> float:
    return MARGIN + column * (WIDTH + GAP_X) + WIDTH / 2


def _top(row: int) -> float:
    return MARGIN + row * (HEIGHT + GAP_Y)


def _drawing(smiles: str) -> str:
    """The inside of RDKit's drawing of one molecule."""
    drawer = rdkit("Chem.Draw.rdMolDraw2D").MolDraw2DSVG(WIDTH, HEIGHT)
    drawer.drawOptions().padding = 0.08
    drawer.drawOptions().fixedBondLength = BOND  # at most: large molecules are drawn smaller
    rdkit("Chem.Draw.rdMolDraw2D").PrepareAndDrawMolecule(drawer, parse(smiles))
    drawer.FinishDrawing()
    found = _BODY.search(drawer.GetDrawingText())
    return found.group(1).replace("<!-- END OF HEADER -->", "") if found else ""
