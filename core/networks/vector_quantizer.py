r"""Vector quantisation: a bottleneck that says every vector by the number of the nearest one of K codes.

An encoder's vector z in R^D is replaced by the nearest row of a codebook e_1..e_K,

    k = argmin_j |z - e_j|^2 = argmin_j (|e_j - m|^2 / 2 - <z - m, e_j - m>),    q = e_k,

the same for every m; m is the mean of the codes here, so that a common offset costs no digits in single precision.

*Gradient to the encoder.* k is piecewise constant in z, so the decoder's gradient at q is handed to z unchanged
("straight-through"). The value handed on is q exactly, not z + (q - z) with its rounding. With <.> the mean over real
elements and features and sg[.] a constant,

    loss = beta <(z - sg[q])^2> + <(sg[z] - q)^2> + lambda |E E^T - I|_F^2:

the commitment of the encoder to its code, the codebook term, and the orthogonality of the codes
("Neural Discrete Representation Learning", van den Oord, Vinyals, Kavukcuoglu, 2017, section 3.2).

*Moving averages* replace the codebook term (the paper's appendix A.1; "Generating Diverse High-Fidelity Images with
VQ-VAE-2", Razavi, van den Oord, Vinyals, 2019). For fixed codes q the term is least at the mean of the elements of each
code, the step of k-means. With n_k elements of sum s_k in a batch and gamma = `decay`,

    N_k = gamma N_k + (1 - gamma) n_k,    m_k = gamma m_k + (1 - gamma) s_k,
    e_k = m_k / N'_k,    N'_k = (N_k + eps) / (N + K eps) N,    N = sum_j N_j,    eps = 1e-5 (Laplace smoothing).

*Orthogonality.* The rows of E are the codes divided by their lengths. |E E^T - I|_F^2 sums the squared cosines of all
ordered pairs; it is the square, and it is divided neither by K nor by K^2. It is 0 for orthogonal codes, possible if
K <= D, and at least K^2/D - K otherwise. It pushes codes apart that would collapse onto few directions; M2DM uses it
("Priority-Centric Human Motion Generation in Discrete Latent Space", Kong et al., 2023). It is a function of the codes,
so it acts where the codes follow a gradient.

*Dead codes.* A code that is nearest to nothing gets no gradient and no elements: it stays where it is. (With moving
averages the smoothing draws it to the origin in the end, when N_k has decayed to eps: after log(N_k/eps)/(1 - gamma)
updates, a thousand or so.) A code with N_k < `dead_below` N/K for `dead_after` updates in a row is put on an element of
the next batch, drawn at random.

*Several books.* What one book leaves over, z - q, is quantised by the next ("SoundStream: An End-to-End Neural Audio
Codec", Zeghidour et al., 2021, section III.C): `ResidualQuantizer`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from ..noise import keyed_generator
from .precision import FullPrecision, working_dtype

__all__ = ["CodebookUsage", "Quantized", "ResidualQuantizer", "VectorQuantizer", "codebook_orthogonality"]

_SCORES = 1 << 24  # numbers of the table (elements, codes) that exist at once: 64 MiB in float32
_EPSILON = 1e-5  # of the Laplace smoothing


@dataclass(frozen=True, eq=False)
class Quantized:
    """What a quantiser makes of z.

    Attributes:
        z: the codes' vectors, shape and dtype of the input; 0 where the mask is False. Its gradient goes to the input.
        codes: long, 0..K-1; 0 where the mask is False. Shape of the input without its last axis; a ResidualQuantizer
            adds an axis of levels.
        loss: beta * commitment + codebook + lambda * orthogonality, to be added to the loss of the decoder.
        commitment: <(z - sg[q])^2>, mean over real elements and features, not weighted.
        codebook: <(sg[z] - q)^2>; 0 with update="ema".
        orthogonality: |E E^T - I|_F^2, not weighted; 0 (not computed) where its weight is 0.
    """

    z: Tensor
    codes: Tensor
    loss: Tensor
    commitment: Tensor
    codebook: Tensor
    orthogonality: Tensor


@dataclass(frozen=True)
class CodebookUsage:
    """How many codes some data use, and how evenly.

    Attributes:
        used: codes that occur.
        total: K.
        perplexity: exp(-sum_k p_k log p_k) of the codes' frequencies p: K if all are used alike, 1 if one is used.
    """

    used: int
    total: int
    perplexity: float

    @property
    def fraction(self) -> float:
        """used / total."""
        return self.used / self.total


def codebook_orthogonality(codes: Tensor) -> Tensor:
    """|E E^T - I|_F^2 with E the codes (K, D) divided by their lengths: a number >= 0, not divided by K or K^2."""
    e = nn.functional.normalize(codes, dim=-1)
    k, d = e.shape
    if k <= d:
        return (e @ e.T - torch.eye(k, dtype=e.dtype, device=e.device)).square().sum()
    return (e.T @ e).square().sum() - k  # |E E^T|_F = |E^T E|_F and tr E E^T = K: a (D, D) table is enough


class VectorQuantizer(FullPrecision):
    """The bottleneck of a VQ-VAE (van den Oord et al., 2017): quantizer(z, mask=None) -> Quantized.

    In training mode a call also updates the codebook (update="ema") and its statistics; in eval mode nothing changes.
    Draws (start, dead codes) depend on the seed and the number of updates alone, which is saved: a run that is loaded
    goes on as if it had not stopped (to the bit where torch adds in a fixed order, as on the CPU). With
    torch.distributed initialised every process must call together; counts, sums and draws are those of all batches.

    Distances, averages and the codebook stay in single precision (or double, in a double network) under autocast and in
    a half-precision network. Distances come from one matrix product for every 2^24 / K elements (64 MiB of scores).

    Args:
        codes: K >= 2, number of codes.
        dim: D, features of an element.
        update: "ema" (moving averages; the codebook is a buffer) or "gradient" (the codebook is a parameter).
        decay: gamma of the averages; with update="gradient" of the counts alone. 0.99 is the published value.
        commitment: beta; 0.25 is the published value.
        orthogonality: lambda; needs update="gradient".
        dead_after: updates in a row below `dead_below` after which a code is dead and drawn anew; None for never.
            With update="gradient" an optimiser's memory of the old code stays.
        dead_below: share of an even usage, N_k / (N / K), below which a code counts as unused. A new code starts there.
        distance: "euclidean", or "cosine": elements and codes are divided by their lengths first, so that z, the loss
            and the averages are those of unit vectors (as in "Vector-Quantized Image Modeling with Improved VQGAN", Yu
            et al., 2022); the gradient to the input passes the division.
        init: "data": codes are elements of the first training batch, drawn at random (without replacement; of fewer
            than K some are repeated, with noise of 1 % of their standard deviation); "random": standard normal.
        seed: of all draws.

    Shapes:
        z (B, ..., D), mask (B, ...) bool, True where an element is real. Others are no part of the loss, the statistics
        and the draws, may hold anything (NaN too), and get code 0 and z = 0.

    Raises:
        TypeError: z is not floating point, the mask not bool.
        ValueError: settings out of range, orthogonality with update="ema", shapes that do not fit, an element that is
            not finite (named with its place), nothing to quantise.
    """

    counts: Tensor
    sums: Tensor
    idle: Tensor
    updates: Tensor

    def __init__(
        self,
        codes: int,
        dim: int,
        *,
        update: Literal["ema", "gradient"] = "ema",
        decay: float = 0.99,
        commitment: float = 0.25,
        orthogonality: float = 0.0,
        dead_after: int | None = 20,
        dead_below: float = 0.1,
        distance: Literal["euclidean", "cosine"] = "euclidean",
        init: Literal["data", "random"] = "data",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if codes < 2 or dim < 1:
            raise ValueError(f"a codebook has two or more codes of one or more features, got codes={codes}, dim={dim}")
        for name, value, allowed in (
            ("update", update, ("ema", "gradient")),
            ("distance", distance, ("euclidean", "cosine")),
            ("init", init, ("data", "random")),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be {' or '.join(map(repr, allowed))}, got {value!r}")
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {decay}")
        if not (commitment >= 0 and orthogonality >= 0):
            raise ValueError(f"weights must be >= 0, got commitment={commitment}, orthogonality={orthogonality}")
        if orthogonality and update == "ema":
            raise ValueError(
                f"orthogonality={orthogonality} needs update='gradient': it acts on the codes through their gradient, "
                "and moving averages have none"
            )
        if dead_after is not None and dead_after < 1:
            raise ValueError(f"dead_after must be >= 1 updates, or None for never, got {dead_after}")
        if not 0 < dead_below < 1:
            raise ValueError(f"dead_below is a share of an even usage and must lie in (0, 1), got {dead_below}")
        self.codes, self.dim, self.update, self.distance, self.init = codes, dim, update, distance, init
        self.decay, self.commitment, self.orthogonality = decay, commitment, orthogonality
        self.dead_after, self.dead_below, self.seed = dead_after, dead_below, seed
        start = keyed_generator(seed, "codebook").standard_normal((codes, dim))
        codebook = torch.from_numpy(start).to(torch.get_default_dtype())
        if update == "gradient":
            self.codebook: Tensor = nn.Parameter(codebook)
        else:
            self.register_buffer("codebook", codebook)
            self.register_buffer("sums", torch.zeros_like(codebook))
        self.register_buffer("counts", torch.zeros_like(codebook[:, 0]))
        self.register_buffer("idle", torch.zeros(codes, dtype=torch.long))
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    def extra_repr(self) -> str:
        return f"codes={self.codes}, dim={self.dim}, update={self.update!r}, distance={self.distance!r}"

    def vectors(self) -> Tensor:
        """The codes (K, D); of unit length with distance="cosine"."""
        return nn.functional.normalize(self.codebook, dim=-1) if self.distance == "cosine" else self.codebook

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        self.check(z, mask)
        with _full_precision(z):
            real = (z if mask is None else z[mask]).reshape(-1, self.dim)
            real = real.to(working_dtype(z, self.codebook))
            if self.distance == "cosine":
                real = nn.functional.normalize(real, dim=-1)
            constant = real.detach()
            if self.training:
                self._prepare(constant)
            e = self.vectors()
            codes = _nearest(constant, e.detach().to(real.dtype))
            q = nn.functional.embedding(codes, e).to(real.dtype)
            none = real.new_zeros(())
            commitment = (real - q.detach()).square().mean()
            codebook = (constant - q).square().mean() if self.update == "gradient" else none
            orthogonality = codebook_orthogonality(self.codebook) if self.orthogonality else none
            loss = self.commitment * commitment + codebook + self.orthogonality * orthogonality
            through = q.detach() + (real - constant)  # the difference is 0; its gradient is not
            if self.training:
                self._count(constant, codes)
        through = through.to(z.dtype)
        if mask is None:
            through, codes = through.reshape(z.shape), codes.reshape(z.shape[:-1])
        else:
            through = z.new_zeros(z.shape).masked_scatter(mask.unsqueeze(-1), through)
            codes = codes.new_zeros(mask.shape).masked_scatter(mask, codes)
        return Quantized(through, codes, loss, commitment, codebook, orthogonality)

    def decode(self, codes: Tensor, mask: Tensor | None = None) -> Tensor:
        """The vectors of codes: long (...) -> (..., D); 0 where the mask (...) is False, whatever stands there.

        Raises:
            TypeError: codes are not integers.
            ValueError: a code outside 0..K-1 (named with its place).
        """
        codes = self._check_codes(codes, mask)
        vectors = nn.functional.embedding(codes, self.vectors())
        return vectors if mask is None else vectors.masked_fill(~mask.unsqueeze(-1), 0)

    def usage(self, codes: Tensor, mask: Tensor | None = None) -> CodebookUsage:
        """How many of the K codes occur in `codes` (...) where the mask (...) is True, and how evenly.

        Raises:
            TypeError: codes are not integers.
            ValueError: a code outside 0..K-1 (named with its place), or none at all.
        """
        codes = self._check_codes(codes, mask)
        real = codes.flatten() if mask is None else codes[mask]
        if not real.numel():
            raise ValueError("usage of no codes: pass at least one code that the mask does not hide")
        n = torch.bincount(real, minlength=self.codes).double()
        p = n[n > 0] / n.sum()
        return CodebookUsage(len(p), self.codes, float((-(p * p.log()).sum()).exp()))

    # -- the codebook in training ------------------------------------------------------------------
    @torch.no_grad()
    def _prepare(self, z: Tensor) -> None:
        """Before a training batch z (N, D) is coded: the start, or new places for dead codes."""
        step = int(self.updates)
        if step == 0:
            rows = torch.arange(self.codes, device=z.device)
            new = (
                self._draw(z, self.codes, "codebook from data", step) if self.init == "data" else self.vectors().clone()
            )
            elements = _together(z.new_tensor(float(len(z))))
        elif self.dead_after is None:
            return
        else:
            rows = (self.idle >= self.dead_after).nonzero().squeeze(1)
            if not len(rows):
                return
            new, elements = self._draw(z, len(rows), "dead codes", step), self.counts.sum()
        new, border = new.to(self.codebook.dtype), self.dead_below * elements.to(self.counts.dtype) / self.codes
        self.codebook[rows] = new
        self.counts[rows] = border
        self.idle[rows] = 0
        if self.update == "ema":
            self.sums[rows] = border * new

    @torch.no_grad()
    def _count(self, z: Tensor, codes: Tensor) -> None:
        """After a training batch z (N, D) was coded: counts, and with update="ema" the codes."""
        z, new = z.to(self.counts.dtype), 1 - self.decay
        n = _together(torch.bincount(codes, minlength=self.codes).to(z.dtype))
        self.counts.mul_(self.decay).add_(n, alpha=new)
        total = self.counts.sum()
        self.idle.add_(1).masked_fill_(self.counts >= self.dead_below * total / self.codes, 0)
        self.updates.add_(1)
        if self.update == "ema":
            s = _together(z.new_zeros(self.codes, self.dim).index_add_(0, codes, z))
            self.sums.mul_(self.decay).add_(s, alpha=new)
            smooth = (self.counts + _EPSILON) / (total + self.codes * _EPSILON) * total
            self.codebook.copy_(self.sums / smooth[:, None])

    def _draw(self, z: Tensor, m: int, role: str, step: int) -> Tensor:
        """m elements of z (N, D), or of the batches of all processes: (m, D), the same in every process."""
        rank, world = _ranks()
        generator = keyed_generator(self.seed, role, step, rank)
        rows = generator.choice(len(z), m, replace=len(z) < m)
        drawn = z[torch.from_numpy(rows).to(z.device)]
        if len(z) < m:
            noise = torch.from_numpy(generator.standard_normal((m, self.dim))).to(z)
            drawn = drawn + 0.01 * z.std(0, correction=0) * noise
        if world == 1:
            return drawn
        sizes, pools = [z.new_zeros(()) for _ in range(world)], [torch.empty_like(drawn) for _ in range(world)]
        torch.distributed.all_gather(sizes, z.new_tensor(float(len(z))))
        torch.distributed.all_gather(pools, drawn.contiguous())
        share = torch.stack(sizes).double().cpu().numpy()
        source = keyed_generator(self.seed, f"{role}: process", step).choice(world, m, p=share / share.sum())
        return torch.stack(pools)[torch.from_numpy(source).to(z.device), torch.arange(m, device=z.device)]

    # -- what comes in -----------------------------------------------------------------------------
    def check(self, z: Tensor, mask: Tensor | None = None) -> None:
        """Refuse what cannot be quantised (see Raises)."""
        if not isinstance(z, Tensor) or not z.is_floating_point():
            came = str(z.dtype) if isinstance(z, Tensor) else type(z).__name__
            raise TypeError(f"z: got {came}, expected a floating-point tensor of shape (B, ..., {self.dim})")
        if z.ndim < 2 or z.shape[-1] != self.dim:
            hint = "; channels come last here" if self.dim in z.shape[1:-1] else ""
            raise ValueError(f"z: got shape {tuple(z.shape)}, expected (B, ..., {self.dim}){hint}")
        _check_mask(mask, tuple(z.shape[:-1]))
        if not z.numel() or (mask is not None and not bool(mask.any())):
            why = "is empty" if not z.numel() else "has no real element: the mask hides all of them"
            raise ValueError(f"nothing to quantise: z of shape {tuple(z.shape)} {why}")
        wrong = ~z.isfinite().all(-1)
        wrong = wrong if mask is None else wrong & mask
        if bool(wrong.any()):
            place = tuple(wrong.nonzero()[0].tolist())
            raise ValueError(
                f"z is not finite at element {place}: {z[place].tolist()[:8]} ({int(wrong.sum())} such elements); the "
                "encoder has diverged, or padding is not masked"
            )

    def _check_codes(self, codes: Tensor, mask: Tensor | None) -> Tensor:
        if not isinstance(codes, Tensor) or codes.dtype not in (torch.int32, torch.int64):
            came = str(codes.dtype) if isinstance(codes, Tensor) else type(codes).__name__
            raise TypeError(f"codes: got {came}, expected a long tensor")
        _check_mask(mask, tuple(codes.shape))
        codes = codes if mask is None else codes.masked_fill(~mask, 0)
        wrong = (codes < 0) | (codes >= self.codes)
        if bool(wrong.any()):
            place = tuple(wrong.nonzero()[0].tolist())
            raise ValueError(f"code {int(codes[place])} at {place} lies outside 0..{self.codes - 1}")
        return codes


class ResidualQuantizer(nn.Module):
    """Quantisers in a row, each of what the ones before left over (Zeghidour et al., 2021): -> Quantized.

    z is the sum of the levels' vectors, its gradient passes to the input; the terms of the loss are sums over levels.

    Args:
        levels: number of quantisers >= 1.
        codes, dim, settings: of each, see VectorQuantizer (Euclidean distance only: what unit vectors leave over has no
            length that a unit vector could match). Level i draws from a seed of its own.

    Shapes:
        z (B, ..., D), mask (B, ...) bool -> codes (B, ..., levels).
    """

    def __init__(self, levels: int, codes: int, dim: int, *, seed: int = 0, **settings: Any) -> None:
        super().__init__()
        if levels < 1:
            raise ValueError(f"a residual quantiser has one level or more, got {levels}")
        if settings.get("distance", "euclidean") != "euclidean":
            raise ValueError(f"a residual quantiser measures Euclidean distances, got {settings['distance']!r}")
        self.levels = nn.ModuleList(
            [VectorQuantizer(codes, dim, seed=seed + (i << 32), **settings) for i in range(levels)]
        )

    @property
    def books(self) -> list[VectorQuantizer]:
        """The quantisers, coarse to fine."""
        return [cast(VectorQuantizer, level) for level in self.levels]

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        self.books[0].check(z, mask)
        if mask is not None:
            z = z.masked_fill(~mask.unsqueeze(-1), 0)
        rest = z.to(working_dtype(z))
        parts: list[Quantized] = []
        for level in self.books:
            parts.append(level(rest, mask))
            rest = rest - parts[-1].z.detach()
        total = torch.stack([part.z.detach() for part in parts]).sum(0).to(z.dtype) + (z - z.detach())
        terms = [
            torch.stack([getattr(part, name) for part in parts]).sum()
            for name in ("loss", "commitment", "codebook", "orthogonality")
        ]
        return Quantized(total, torch.stack([part.codes for part in parts], -1), *terms)

    def decode(self, codes: Tensor, mask: Tensor | None = None) -> Tensor:
        """The sum of the vectors of codes (..., n), n of 1..levels: fewer levels are a coarser z (..., D)."""
        n = codes.shape[-1] if codes.ndim else 0
        if not 1 <= n <= len(self.levels):
            raise ValueError(f"codes of shape {tuple(codes.shape)}, expected (..., n) with n in 1..{len(self.levels)}")
        return torch.stack([self.books[i].decode(codes[..., i], mask) for i in range(n)]).sum(0)

    def usage(self, codes: Tensor, mask: Tensor | None = None) -> list[CodebookUsage]:
        """Of each level's codes (..., levels)."""
        return [level.usage(codes[..., i], mask) for i, level in enumerate(self.books)]


def _nearest(z: Tensor, e: Tensor) -> Tensor:
    """The row of e (K, D) nearest to each row of z (N, D): long (N,); of equally near ones the first."""
    m = e.mean(0)
    e = e - m
    half = e.square().sum(-1) / 2
    rows = max(1, _SCORES // len(e))
    return torch.cat([torch.addmm(half, part - m, e.T, alpha=-1).argmin(-1) for part in z.split(rows)])


def _check_mask(mask: Tensor | None, shape: tuple[int, ...]) -> None:
    if mask is None:
        return
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        came = str(mask.dtype) if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"mask: got {came}, expected a bool tensor of shape {shape}, True where an element is real")
    if mask.shape != shape:
        raise ValueError(f"mask: got shape {tuple(mask.shape)}, expected {shape}")


@contextmanager
def _full_precision(z: Tensor) -> Iterator[None]:
    with torch.autocast(z.device.type, enabled=False):
        yield


def _ranks() -> tuple[int, int]:
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _together(x: Tensor) -> Tensor:
    """The sum of x over all processes, in place."""
    if _ranks()[1] > 1:
        torch.distributed.all_reduce(x)
    return x
