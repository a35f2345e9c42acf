"""Bidirectional transformer over token sequences: the network of masked and other discrete diffusion models.

A token is one of S states (the mask of a masked process is one of them). Each gets a learned vector of W features,
positions come in, a stack of blocks lets all tokens look at each other, and a linear head gives the logits of what each
token was before it was corrupted:

    h = E[x],    h = block_k(h, c, context),    logits = W_out (modulated) norm(h).

*With a time or a condition* the block is the one of DiT ("Scalable Diffusion Models with Transformers", Peebles and
Xie, 2023, section 3.2). For each part f (self-attention, cross-attention if there is a context, a two-layer map)

    (s, b, g) from W_c silu(c),    h = h + g * f((1 + s) norm(h) + b),

with c the embedded time plus the embedded condition, norm without weights, and W_c zero at the start ("adaLN-Zero").

*Time-agnostic.* In a masked (absorbing) process the time says nothing that the sequence does not: given which tokens
are masked, what stands behind them does not depend on t, and the ideal network is a function of x alone ("Simple and
Effective Masked Diffusion Language Models", Sahoo et al., 2024). With `time=None` no weights for a time exist. If no
condition takes its place in c either, the block is the plain pre-norm block h = h + f(norm(h)), norm with weights.

*Positions* are rotary by default ("RoFormer", Su et al., 2021; derived in `attention`): the logits then depend on
differences of positions alone. Without positions the network commutes with permutations of the tokens.

The head starts at zero, so that the first prediction is uniform.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from .attention import CrossAttention, SelfAttention, rotary
from .conditioning import Conditioning
from .dit import position_embedding
from .time_embedding import TimeEmbedding, check_time

__all__ = ["TokenBlock", "TokenTransformer"]


def _layer_norm(width: int, adaptive: bool) -> nn.LayerNorm:
    return nn.LayerNorm(width, elementwise_affine=not adaptive, eps=1e-6)


class TokenBlock(nn.Module):
    """Self-attention, cross-attention if there is a context, two-layer map; modulated (Peebles and Xie, 2023) or plain.

    Args:
        width: W.
        heads: number of heads of the attentions.
        mlp_ratio: hidden features of the two-layer map, as a multiple of W.
        adaptive: modulated by c (then the identity at initialisation); False is the plain pre-norm block.
        context_dim: D of the context; None for no cross-attention.
        dropout: probability, on what each part adds (Vaswani et al., 2017, section 5.4).

    Shapes:
        h (B, L, W), c (1 or B, 1 or L, W) or None, mask (B, L) bool, context (B, M, D), context_mask (B, M) bool
        -> (B, L, W).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float = 4.0,
        *,
        adaptive: bool = True,
        context_dim: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        hidden = int(mlp_ratio * width)
        parts = 2 if context_dim is None else 3
        self.norms = nn.ModuleList([_layer_norm(width, adaptive) for _ in range(parts)])
        self.attention = SelfAttention(width, heads)
        self.cross = None if context_dim is None else CrossAttention(width, context_dim, heads)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width))
        self.dropout = nn.Dropout(dropout)
        self.modulation: nn.Linear | None = None
        if adaptive:
            self.modulation = nn.Linear(width, 3 * parts * width)
            nn.init.zeros_(self.modulation.weight)
            nn.init.zeros_(self.modulation.bias)

    def forward(
        self,
        h: Tensor,
        c: Tensor | None = None,
        mask: Tensor | None = None,
        rotate: Callable[[Tensor], Tensor] | None = None,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
    ) -> Tensor:
        parts: list[Callable[[Tensor], Tensor]] = [lambda u: self.attention(u, mask, rotate)]
        if self.cross is not None:
            cross = self.cross
            parts.append(lambda u: cross(u, context, context_mask))
        parts.append(self.mlp)
        if self.modulation is None:
            for norm, f in zip(self.norms, parts, strict=True):
                h = h + self.dropout(f(norm(h)))
            return h
        if c is None:
            raise ValueError("a modulated block needs c, the embedded time or condition; adaptive=False needs none")
        signals = self.modulation(nn.functional.silu(c)).chunk(3 * len(parts), dim=-1)
        for k, (norm, f) in enumerate(zip(self.norms, parts, strict=True)):
            s, b, g = signals[3 * k : 3 * k + 3]
            h = h + g * self.dropout(f(norm(h) * (1 + s) + b))
        return h


class TokenTransformer(nn.Module):
    """Transformer over tokens: network(x, t, condition=None, context=None, mask=None, context_mask=None, at=None).

    Blocks of Peebles and Xie, 2023; rotary positions of Su et al., 2021; without a time as in Sahoo et al., 2024.

    Args:
        states: S, number of token ids, the mask included where there is one.
        width: W, features of a token.
        depth: number of blocks.
        heads: heads of the attentions, a divisor of W.
        mlp_ratio: hidden features of the blocks' two-layer maps, as a multiple of W.
        classes: K, number of logits a token; None is S, as `TokenDenoiser` needs.
        positions: "rotary" (differences of positions), "sinusoidal" (fixed, added to the embedding) or "none". Rotary
            ones alone cannot tell places apart where all tokens are equal, as in the first call of a masked model.
        time, time_scale: kind and scale of the time embedding (256 features); time=None is the time-agnostic network,
            which takes a t and ignores it, whatever it is.
        condition_dim: D_c of a condition vector for the whole sequence; or
        condition_classes: number of classes of integer labels for the whole sequence.
        context_dim: D of a context sequence that every block looks at; None for none.
        dropout: probability, on what each part of a block adds.

    Shapes:
        x: long (B, L), ids in 0..S-1; L >= 1, any length.
        t: (), (B,) or one time a token (B, L).
        condition: (B, D_c) or labels (B,).
        context: (B, M, D), M >= 1; context_mask: bool (B, M), True where an element exists.
        mask: bool (B, L), True where a token exists.
        at: long (B, M'), positions in 0..L-1: the head is computed for these alone.
        Output: logits (B, L, K), or (B, M', K) with `at`.

    Where `context_mask` hides all of a sample's context (the way to say "no context" for some samples of a batch), the
    context adds nothing. What stands where `mask` or `context_mask` is False may be anything, in t too, and never
    changes the logits of tokens that exist; logits elsewhere mean nothing. `at` saves most of the work and memory of a
    large K when few tokens are asked about.

    Raises:
        TypeError: x or `at` is not integer, a mask not bool, t not a tensor where one is needed.
        ValueError: an id outside 0..S-1 (named with its place; not checked while torch compiles), an empty sequence,
            shapes that do not fit, inputs missing or not asked for.
    """

    def __init__(
        self,
        states: int,
        width: int = 256,
        depth: int = 6,
        heads: int = 4,
        *,
        mlp_ratio: float = 4.0,
        classes: int | None = None,
        positions: Literal["rotary", "sinusoidal", "none"] = "rotary",
        time: Literal["sinusoidal", "fourier"] | None = "sinusoidal",
        time_scale: float | None = None,
        condition_dim: int | None = None,
        condition_classes: int | None = None,
        context_dim: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        classes = states if classes is None else classes
        if min(states, classes, width, depth) < 1:
            raise ValueError(
                f"states, classes, width and depth must all be >= 1, got {states}, {classes}, {width}, {depth}"
            )
        if positions not in ("rotary", "sinusoidal", "none"):
            raise ValueError(f'positions must be "rotary", "sinusoidal" or "none", got {positions!r}')
        if positions == "sinusoidal" and width % 2:
            raise ValueError(f"sines and cosines of positions need an even width, got {width}")
        self.states, self.classes, self.positions, self.context_dim = states, classes, positions, context_dim
        adaptive = time is not None or condition_dim is not None or condition_classes is not None
        self.embed = nn.Embedding(states, width)
        self.time = None if time is None else TimeEmbedding(256, width, time, time_scale)
        self.condition = Conditioning(width, condition_dim, condition_classes)
        self.blocks = nn.ModuleList(
            [
                TokenBlock(width, heads, mlp_ratio, adaptive=adaptive, context_dim=context_dim, dropout=dropout)
                for _ in range(depth)
            ]
        )
        self.head_dim = width // heads
        if positions == "rotary" and self.head_dim % 2:
            raise ValueError(
                f"rotary positions turn pairs of features: {width} features of {heads} heads are {self.head_dim} "
                "a head, an odd number; change width or heads"
            )
        self.norm = _layer_norm(width, adaptive)
        self.modulation = nn.Linear(width, 2 * width) if adaptive else None
        self.output = nn.Linear(width, classes)
        for layer in (self.modulation, self.output):
            if layer is not None:
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)

    def _check_context(self, context: Tensor | None, context_mask: Tensor | None, batch: int) -> None:
        d = self.context_dim
        if d is None:
            if context is not None or context_mask is not None:
                raise ValueError("this network takes no context: build it with context_dim=D")
            return
        if context is None or context.ndim != 3 or (context.shape[0], context.shape[2]) != (batch, d):
            came = "none" if context is None else str(tuple(context.shape))
            hint = "; for no context pass a context_mask that is False" if context is None else ""
            raise ValueError(f"context: got {came}, expected shape ({batch}, M, {d}){hint}")
        if context.shape[1] == 0:
            raise ValueError("a context of no elements: for no context pass one element and a context_mask of False")
        if context_mask is not None:
            _check_mask("context_mask", context_mask, (batch, context.shape[1]))

    def _condition(self, t: Tensor | None, condition: Tensor | None, mask: Tensor | None, batch: int) -> Tensor | None:
        """c of shape (1 or B, 1 or L, W), or None."""
        c = self.condition(condition, batch)
        c = None if c is None else c.unsqueeze(1)
        if self.time is None or t is None:
            return c
        if t.ndim == 2 and mask is not None:
            t = t.masked_fill(~mask, 0)
        e = self.time(t)
        e = e if t.ndim == 2 else e.reshape(-1, 1, e.shape[-1])
        return e if c is None else e + c

    def forward(
        self,
        x: Tensor,
        t: Tensor | None,
        condition: Tensor | None = None,
        context: Tensor | None = None,
        mask: Tensor | None = None,
        context_mask: Tensor | None = None,
        at: Tensor | None = None,
    ) -> Tensor:
        _check_integers("x", x, "token ids of shape (B, L)")
        if x.shape[1] == 0:
            raise ValueError(f"x of shape {tuple(x.shape)} holds no tokens; a sequence has one or more")
        batch, length = x.shape
        if self.time is not None:
            check_time(t, batch, length, f"one time a sample, or one for each of the {length} tokens")  # type: ignore[arg-type]
        self._check_context(context, context_mask, batch)
        keys = mask
        if mask is not None:
            _check_mask("mask", mask, (batch, length))
            x = x.masked_fill(~mask, 0)
            keys = mask | ~mask.any(-1, keepdim=True)  # a sample of padding alone looks at itself
        _check_range("token", x, self.states)
        if context is not None and context_mask is not None:
            context = context.masked_fill(~context_mask.unsqueeze(-1), 0)

        h = self.embed(x)
        if context is not None:
            context = context.to(h.dtype)
        c = self._condition(t, condition, mask, batch)
        rotate = None
        if self.positions == "sinusoidal":
            h = h + position_embedding((length,), h.shape[-1], h)
        elif self.positions == "rotary":
            rotate = rotary(length, self.head_dim, h)
        for block in self.blocks:
            h = block(h, c, keys, rotate, context, context_mask)
        if at is not None:
            h, c = self._take(at, h), (c if c is None or c.shape[1] == 1 else self._take(at, c))
        if self.modulation is None or c is None:
            return self.output(self.norm(h))
        s, b = self.modulation(nn.functional.silu(c)).chunk(2, dim=-1)
        return self.output(self.norm(h) * (1 + s) + b)

    def _take(self, at: Tensor, h: Tensor) -> Tensor:
        """The rows of h (B, L, W) at positions (B, M): (B, M, W)."""
        _check_integers("at", at, f"positions of shape ({h.shape[0]}, M)")
        if at.shape[0] != h.shape[0]:
            raise ValueError(f"at of shape {tuple(at.shape)}, expected positions of shape ({h.shape[0]}, M)")
        _check_range("position", at, h.shape[1])
        return h.gather(1, at.long().unsqueeze(-1).expand(-1, -1, h.shape[-1]))


def _check_integers(name: str, x: Tensor, wanted: str) -> None:
    if not isinstance(x, Tensor) or x.dtype not in (torch.int32, torch.int64):
        came = str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{name}: got {came}, expected a long tensor: {wanted}")
    if x.ndim != 2:
        raise ValueError(f"{name}: got shape {tuple(x.shape)}, expected {wanted}")


def _check_range(what: str, x: Tensor, size: int) -> None:
    """Name the first entry of x (B, L) outside 0..size-1 (a read of the device: not while torch compiles)."""
    if torch.compiler.is_compiling():
        return
    wrong = (x < 0) | (x >= size)
    if bool(wrong.any()):
        row, column = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"{what} {int(x[row, column])} of sample {row}, column {column}, lies outside 0..{size - 1} "
            f"({int(wrong.sum())} of {x.numel()} do)"
        )


def _check_mask(name: str, mask: Tensor, shape: tuple[int, int]) -> None:
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        came = str(mask.dtype) if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"{name}: got {came}, expected a bool tensor of shape {shape}, True where an element exists")
    if mask.shape != shape:
        raise ValueError(f"{name}: got shape {tuple(mask.shape)}, expected {shape}")
