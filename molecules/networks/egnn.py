r"""E(n)-equivariant graph network on all pairs of atoms: what EDM asks for the noise in a molecule.

V. G. Satorras, E. Hoogeboom, M. Welling, "E(n) equivariant graph neural networks", ICML 2021, with the attention, the
bounded shifts and the sizes of E. Hoogeboom et al., "Equivariant diffusion for molecule generation in 3D", ICML 2022.
Each layer sends a message along every ordered pair i <- j, moves features by them, then positions:

    m_ij = phi_e(h_i, h_j, |x_i - x_j|^2, |x0_i - x0_j|^2),       h_i += phi_h(h_i, 1/c sum_j sigmoid(w m_ij) m_ij)
    x_i += 1/c sum_j (x_i - x_j) / (|x_i - x_j| + 1) r/L tanh(phi_x(h_i, h_j, both distances))

with x0 the positions that came in, L layers, the reach r, and phi networks with SiLU. Features see positions by
distances alone, and positions move along differences: rotations, reflections and translations of the input do the same
to the output. The noise in the positions is the shift x - x0 without its mean.

Only pairs of atoms that exist are listed, so that padding costs nothing and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

__all__ = ["EGNN", "Pairs", "centred", "inputs_of"]


@dataclass(frozen=True)
class Pairs:
    """Ordered pairs i <- j of atoms of one molecule, E in all, as rows of the list of all M existing atoms.

    Attributes:
        i, j: (E,) rows. count: M.
    """

    i: Tensor
    j: Tensor
    count: int

    @classmethod
    def of(cls, mask: Tensor) -> Self:
        """All pairs i != j of existing atoms of the molecules with the mask (B, N)."""
        row = mask.flatten().cumsum(0).view_as(mask) - 1
        both = mask[:, :, None] & mask[:, None]
        both &= ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
        b, i, j = both.nonzero(as_tuple=True)
        return cls(row[b, i], row[b, j], int(mask.sum()))

    def sum(self, messages: Tensor) -> Tensor:
        """The sum over j of messages (E, C): (M, C)."""
        return messages.new_zeros(self.count, messages.shape[1]).index_add_(0, self.i, messages)


def centred(x: Tensor, mask: Tensor) -> Tensor:
    """Positions or shifts (B, N, 3) without their mean over existing atoms, zero elsewhere."""
    there = mask.unsqueeze(-1).to(x.dtype)
    x = x * there
    return x - there * (x.sum(1, keepdim=True) / there.sum(1, keepdim=True))


def inputs_of(h: Tensor, t: Tensor, context: Tensor | None) -> Tensor:
    """Features of atoms (B, N, F), the time (B,) and what is known of the molecule (B, C): (B, N, F + 1 + C)."""
    parts = [h, t.to(h.dtype).view(-1, 1, 1).expand(-1, h.shape[1], 1)]
    if context is not None:
        parts.append(context.to(h.dtype).unsqueeze(1).expand(-1, h.shape[1], -1))
    return torch.cat(parts, -1)


class _OnPairs(nn.Module):
    """The first layer of a network of (h_i, h_j, distances): linear in each, so that it runs on atoms, not pairs."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.receiver = nn.Linear(hidden, hidden)
        self.sender = nn.Linear(hidden, hidden, bias=False)
        self.distances = nn.Linear(2, hidden, bias=False)

    def forward(self, h: Tensor, pairs: Pairs, distances: Tensor) -> Tensor:
        at_i, at_j = self.receiver(h).index_select(0, pairs.i), self.sender(h).index_select(0, pairs.j)
        return nn.functional.silu(at_i + at_j + self.distances(distances))


class _Layer(nn.Module):
    def __init__(self, hidden: int, reach: float, scale: float) -> None:
        super().__init__()
        self.reach, self.scale = reach, scale
        self.edge = _OnPairs(hidden)
        self.message = nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU())
        self.attention = nn.Sequential(nn.Linear(hidden, 1), nn.Sigmoid())
        self.node = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        self.shift_edge = _OnPairs(hidden)
        last = nn.Linear(hidden, 1, bias=False)
        nn.init.xavier_uniform_(last.weight, gain=0.001)  # positions stay where they are at first
        self.shift = nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU(), last)

    def forward(self, h: Tensor, x: Tensor, pairs: Pairs, first: Tensor) -> tuple[Tensor, Tensor]:
        difference = x.index_select(0, pairs.i) - x.index_select(0, pairs.j)
        squared = difference.square().sum(-1, keepdim=True)
        distances = torch.cat([squared, first], -1)
        m = self.message(self.edge(h, pairs, distances))
        h = h + self.node(torch.cat([h, pairs.sum(self.attention(m) * m) / self.scale], -1))
        step = self.reach * torch.tanh(self.shift(self.shift_edge(h, pairs, distances)))
        direction = difference / ((squared + 1e-8).sqrt() + 1.0)
        return h, x + pairs.sum(direction * step) / self.scale


class EGNN(nn.Module):
    """The noise in positions and features of molecules; see the module.

    Args:
        features: F, features an atom.
        context: C, numbers known of the whole molecule.
        hidden: width of all networks.
        layers: L.
        reach: r, the largest shift in one network, shared by its layers.
        scale: c, what sums over neighbours are divided by.

    Shapes:
        x {"x": (B, N, 3), "h": (B, N, F)}, t (B,) in [0, 1], atoms (B, N) bool, context (B, C) -> like x.
    """

    def __init__(
        self, features: int, context: int = 0, hidden: int = 256, layers: int = 9, reach: float = 15.0,
        scale: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.into = nn.Linear(features + 1 + context, hidden)
        self.layers = nn.ModuleList(_Layer(hidden, reach / layers, scale) for _ in range(layers))
        self.out = nn.Linear(hidden, features)

    def forward(
        self, x: dict[str, Tensor], t: Tensor, atoms: Tensor, context: Tensor | None = None
    ) -> dict[str, Tensor]:
        pairs, start = Pairs.of(atoms), x["x"][atoms]
        first = (start.index_select(0, pairs.i) - start.index_select(0, pairs.j)).square().sum(-1, keepdim=True)
        h, moved = self.into(inputs_of(x["h"], t, context)[atoms]), start
        for layer in self.layers:
            h, moved = layer(h, moved, pairs, first)
        shift, features = torch.zeros_like(x["x"]), torch.zeros_like(x["h"])
        shift[atoms], features[atoms] = (moved - start).to(shift.dtype), self.out(h).to(features.dtype)
        return {"x": centred(shift, atoms), "h": features}
