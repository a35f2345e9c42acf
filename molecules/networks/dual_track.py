r"""The dual-track transformer network (DTN): atoms attend to atoms, and pairs to pairs through angles.

C. Xu et al., "Geometric-facilitated denoising diffusion model for 3D molecule generation" (GFMDiff), AAAI 2024,
https://arxiv.org/abs/2401.02683. With features h_i of atoms and p_ij of ordered pairs, a block does four things.

*Atoms.* Attention with keys and values that know of the pair,

    h_i += sum_j softmax_j(q_i . (k_j + k_ij)) (v_i + v_j + v_ij),      h_i += FFN(h_i).

*Atoms to pairs.* The outer product of two vectors of width r, or both side by side (``outer=None``):

    p_ij += W (u_i (x) w_j)      or      p_ij += W [u_i, w_j].

*Pairs.* Each pair (i, j) attends to the pairs (i, k) through the angle theta at i between j and k, given by a radial
basis g (:class:`RadialBasis`), and a gate decides how much of it enters:

    p_ij += sigmoid(G p_ij) W sum_k softmax_k(q_ij . (k_ik + K g(theta_ijk))) (v_ik + V g(theta_ijk)),
    p_ij += FFN(p_ij).

*Positions.* With three numbers d_ij read off p_ij,

    x_i += sum_j (x_i - x_j) / (|x_i - x_j| + 1) 20 tanh(MLP(h_i, h_j, d_ij)).

Pairs start as a basis of *squared* distances. With ``geometry="blocks"`` every block is told the distances and angles
of the positions as moved so far, as published; with ``"input"`` all work on those that came in, which are computed once
and have no gradient: less than half the time.

**Memory.** The angles of N atoms are N^3 numbers a molecule. Here K and V act on the basis linearly, so that the query
goes through K, and V acts on what attention has summed: products of width N^3 A (A centres), never N^3 D. The centres i
are gone through in chunks of ``chunk``: the largest tensors are B chunk N^2 (A + heads) numbers, linear in ``chunk``,
also in training, where each chunk is computed again in the backward pass. The result does not depend on the chunk (to
rounding, 1e-6).

What differs from the published code: *masks are masks*. There absent atoms of triplets get the bias 1e-9 instead of a
large negative one, so that the padding takes part in attention and a molecule depends on its batch; here logits of what
is absent are -inf. A ReLU between basis and K, V, and the mixing of one block's angles into the next are left out.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .egnn import centred, inputs_of

__all__ = ["DualTrack", "Geometry", "RadialBasis", "TripletAttention", "cosines"]

Geometry = Literal["blocks", "input"]

_GROUP = 16
"""About how many molecules of like sizes are computed together; fewer would make tensors too small."""


class RadialBasis(nn.Module):
    """Gaussians exp(-gamma (x - c)^2) at the centres c = 0, step, 2 step, ... below `top`.

    Shapes:
        x (...,) -> (..., A).
    """

    centres: Tensor

    def __init__(self, top: float, step: float, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma
        self.register_buffer("centres", torch.arange(math.ceil(top / step - 1e-9)) * step, persistent=False)

    def __len__(self) -> int:
        return len(self.centres)

    def forward(self, x: Tensor) -> Tensor:
        return torch.exp(-self.gamma * (x.unsqueeze(-1) - self.centres.to(x.dtype)).square())


def cosines(differences: Tensor) -> Tensor:
    """Cosines of the angles at i between j and k, (B, I, N, N), from x_j - x_i as (B, I, N, 3); 0 where j or k is i."""
    unit = differences / (differences.square().sum(-1, keepdim=True) + 1e-12).sqrt()
    return unit @ unit.transpose(-1, -2)


class TripletAttention(nn.Module):
    """Gated attention of pairs (i, j) to pairs (i, k) through angles; see the module.

    Args:
        width: D of pairs. heads: divide it. basis: of angles.

    Shapes:
        p (B, N, N, D), differences x_j - x_i (B, N, N, 3), pairs (B, N, N) bool -> (B, N, N, D).
    """

    def __init__(self, width: int, heads: int, basis: RadialBasis) -> None:
        super().__init__()
        self.heads, self.basis = heads, basis
        self.qkv = nn.Linear(width, 3 * width)
        self.angle_key = nn.Parameter(torch.randn(heads, width // heads, len(basis)) / len(basis) ** 0.5)
        self.angle_value = nn.Parameter(torch.randn(heads, len(basis), width // heads) / len(basis) ** 0.5)
        self.out, self.gate = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, p: Tensor, differences: Tensor, pairs: Tensor, chunk: int | None) -> Tensor:
        n = p.shape[1]
        size = n if chunk is None else min(chunk, n)
        q, k, v = self.qkv(p).chunk(3, -1)
        parts = []
        for first in range(0, n, size):
            here = slice(first, first + size)
            centre = (q[:, here], k[:, here], v[:, here], differences[:, here], pairs[:, here])
            if size < n and torch.is_grad_enabled():
                parts.append(checkpoint(self._attend, *centre, use_reentrant=False))
            else:
                parts.append(self._attend(*centre))
        return torch.sigmoid(self.gate(p)) * self.out(torch.cat(parts, 1))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, differences: Tensor, pairs: Tensor) -> Tensor:
        """The sums over k of some centres i: (B, I, N, D)."""
        b, i, n, width = q.shape
        q, k, v = (part.view(b, i, n, self.heads, -1).transpose(2, 3) for part in (q, k, v))  # (B, I, H, N, d)
        angles = self.basis(torch.acos(cosines(differences).clamp(-1 + 1e-6, 1 - 1e-6)))  # (B, I, J, K, A)
        logits = q @ k.transpose(-1, -2)  # (B, I, H, J, K)
        through = (q @ self.angle_key).transpose(2, 3)  # (B, I, J, H, A)
        logits = logits + (through @ angles.transpose(-1, -2)).transpose(2, 3)
        absent = ~pairs[:, :, None, None, :] & pairs[:, :, None, :, None]  # rows of absent pairs: anything finite
        weights = (logits / q.shape[-1] ** 0.5).masked_fill(absent, -torch.inf).softmax(-1)
        summed = (weights.transpose(2, 3) @ angles).transpose(2, 3)  # (B, I, H, J, A)
        return (weights @ v + summed @ self.angle_value).transpose(2, 3).reshape(b, i, n, width)


class _NodeAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.kv, self.own = nn.Linear(width, 3 * width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, h: Tensor, p: Tensor, pairs: Tensor) -> Tensor:
        b, n, width = h.shape
        q, k, v = (part.view(b, n, self.heads, -1) for part in self.qkv(h).chunk(3, -1))
        kp, vp = (part.view(b, n, n, self.heads, -1) for part in self.kv(p).chunk(2, -1))
        logits = torch.einsum("bihd,bjhd->bhij", q, k) + torch.einsum("bihd,bijhd->bhij", q, kp)
        absent = ~pairs[:, None] & pairs.any(-1)[:, None, :, None]
        weights = (logits / q.shape[-1] ** 0.5).masked_fill(absent, -torch.inf).softmax(-1)
        mixed = torch.einsum("bhij,bjhd->bihd", weights, v) + torch.einsum("bhij,bijhd->bihd", weights, vp)
        return self.out(mixed.reshape(b, n, width) + self.own(h))  # the weights of v_i sum to one


class _ToPairs(nn.Module):
    def __init__(self, width: int, outer: int | None) -> None:
        super().__init__()
        self.outer, own = outer, width if outer is None else outer
        self.left, self.right = nn.Linear(width, own), nn.Linear(width, own)
        self.mix = nn.Linear(2 * width if outer is None else outer * outer, width)

    def forward(self, h: Tensor) -> Tensor:
        b, n, _ = h.shape
        left, right = self.left(h), self.right(h)
        if self.outer is None:
            a, c = self.mix.weight.chunk(2, 1)
            both: Tensor = (left @ a.T).unsqueeze(2) + (right @ c.T).unsqueeze(1) + self.mix.bias
            return both
        weight = self.mix.weight.view(-1, self.outer, self.outer)
        through = torch.einsum("bic,dce->bide", left, weight)  # first one side: B N D r, then pairs
        return (through.reshape(b, -1, self.outer) @ right.transpose(1, 2)).view(b, n, -1, n).transpose(
            2, 3
        ) + self.mix.bias


def _ffn(width: int, hidden: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width))


class _Block(nn.Module):
    def __init__(
        self, width: int, hidden: int, heads: int, dropout: float, outer: int | None, reach: float,
        angles: RadialBasis, squares: RadialBasis | None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.reach, self.squares = reach, squares
        self.told = None if squares is None else nn.Linear(len(squares), width)
        self.h_norm, self.h_norm2, self.p_norm, self.p_norm2, self.p_norm3, self.out_norm = (
            nn.LayerNorm(width) for _ in range(6)
        )
        self.attend = _NodeAttention(width, heads)
        self.h_ffn, self.p_ffn = _ffn(width, hidden, dropout), _ffn(width, hidden, dropout)
        self.to_pairs = _ToPairs(width, outer)
        self.triplets = TripletAttention(width, heads, angles)
        self.read = nn.Linear(width, 3)
        self.at_i, self.at_j, self.at_pair = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(3, width)
        last = nn.Linear(width, 1, bias=False)
        nn.init.xavier_uniform_(last.weight, gain=0.001)  # positions stay where they are at first
        self.shift = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU(), last)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, h: Tensor, p: Tensor, x: Tensor, pairs: Tensor, given: Tensor | None, chunk: int | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        differences = x.unsqueeze(1) - x.unsqueeze(2)  # at (i, j): x_j - x_i
        squared = differences.square().sum(-1)
        if self.told is not None and self.squares is not None:
            p = p + self.told(self.squares(squared))
        h = h + self.dropout(self.attend(self.h_norm(h), self.p_norm(p), pairs))
        h = h + self.dropout(self.h_ffn(self.h_norm2(h)))
        p = p + self.dropout(self.to_pairs(h))
        angles_of = differences if given is None else given
        p = p + self.dropout(self.triplets(self.p_norm2(p), angles_of, pairs, chunk))
        p = p + self.dropout(self.p_ffn(self.p_norm3(p)))
        seen, own = self.out_norm(h), self.read(p)
        step = self.shift(self.at_i(seen).unsqueeze(2) + self.at_j(seen).unsqueeze(1) + self.at_pair(own))
        direction = -differences / ((squared + 1e-8).sqrt() + 1.0).unsqueeze(-1)
        moved = direction * self.reach * torch.tanh(step) * pairs.unsqueeze(-1).to(x.dtype)
        return h, p, x + moved.sum(2)


class DualTrack(nn.Module):
    """The noise in positions and features of molecules; see the module.

    Args:
        features: F, features an atom.
        context: C, numbers known of the whole molecule.
        width: D of atoms and pairs. hidden: of the feed-forward networks. blocks, heads, dropout: as named.
        outer: width r of the vectors whose outer product enters pairs; None: both side by side.
        geometry: "blocks" or "input": which distances and angles blocks are told.
        angle_step: distance of the centres of angles, radians; the basis is as narrow.
        reach: largest shift of a pair in a block, Å.
        chunk: centres of angles at a time; None: all. May be changed at any time.

    Shapes:
        x {"x": (B, N, 3), "h": (B, N, F)}, t (B,) in [0, 1], atoms (B, N) bool, context (B, C) -> like x.
    """

    def __init__(
        self,
        features: int,
        context: int = 0,
        width: int = 256,
        hidden: int = 512,
        blocks: int = 5,
        heads: int = 8,
        dropout: float = 0.1,
        outer: int | None = 256,
        geometry: Geometry = "blocks",
        angle_step: float = 0.1,
        reach: float = 20.0,
        chunk: int | None = None,
    ) -> None:
        super().__init__()
        self.geometry, self.chunk = geometry, chunk
        squares = RadialBasis(10.0, 0.2, 10.0)
        of_angles = RadialBasis(math.pi, angle_step, 10.0 if angle_step <= 0.1 else 0.4 / angle_step**2)
        self.into = nn.Linear(features + 1 + context, width)
        self.pair = nn.Linear(len(squares), width)
        self.squares = squares
        self.blocks = nn.ModuleList(
            _Block(
                width,
                hidden,
                heads,
                dropout,
                outer,
                reach,
                of_angles,
                squares if told and geometry == "blocks" else None,
            )
            for told in range(blocks)
        )
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, features))

    def forward(
        self, x: dict[str, Tensor], t: Tensor, atoms: Tensor, context: Tensor | None = None
    ) -> dict[str, Tensor]:
        shift, features = torch.zeros_like(x["x"]), torch.zeros_like(x["h"])
        by_size = atoms.sum(1).argsort(stable=True)
        # molecules of like sizes together: padding that none of them needs costs nothing
        for rows in by_size.chunk(max(1, len(by_size) // _GROUP)):
            there = atoms[rows]
            kept = int(there.any(0).nonzero().max()) + 1
            own = None if context is None else context[rows]
            parts = self._group(x["x"][rows, :kept], x["h"][rows, :kept], t[rows], there[:, :kept], own)
            shift[rows, :kept], features[rows, :kept] = parts[0].to(shift.dtype), parts[1].to(features.dtype)
        return {"x": shift, "h": features}

    def _group(
        self, start: Tensor, h: Tensor, t: Tensor, there: Tensor, context: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        kept = start.shape[1]
        pairs = there[:, :, None] & there[:, None] & ~torch.eye(kept, dtype=torch.bool, device=there.device)
        differences = (start.unsqueeze(1) - start.unsqueeze(2)).detach()
        given = differences if self.geometry == "input" else None
        p = self.pair(self.squares(differences.square().sum(-1)))
        h, moved = self.into(inputs_of(h, t, context)), start
        for block in self.blocks:
            h, p, moved = block(h, p, moved, pairs, given, self.chunk)
        return centred(moved - start, there), self.out(h) * there.unsqueeze(-1).to(h.dtype)
