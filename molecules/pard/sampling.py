"""Sampling of :mod:`.model`: block by block, each block by diffusion given the earlier ones.

All graphs of a batch go on together, each with blocks of its own: in round r every unfinished graph is told the size
and the degree of its r-th block, gets as many nodes, and they and their bonds (to each other and to all earlier nodes)
walk from noise to data in the same steps. A graph whose next block has size 0 is finished and costs nothing more.

Random numbers are keyed by (seed, number of the sample), so that a sample does not depend on those beside it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...core.discrete.categorical import categorical, uniforms
from ...core.discrete.denoiser import TokenDenoiser
from ...core.discrete.process import leafwise
from ...core.noise import SlotNoise
from ..tokens import space_of
from .network import BlockNetwork

__all__ = ["Sampled", "generate"]


class Sampled(NamedTuple):
    """X (n, N) long or None, A (n, N, N) long, block (n, N) long (-1: no node), and the calls of the network that the
    longest sample took."""

    X: Tensor | None
    A: Tensor
    block: Tensor
    calls: int


class _Batch:
    """The graphs of one batch while they grow.

    Attributes:
        x: {"X": (B, N), "A": (B, N, N)} long, "X" where nodes have types; zero where nothing is yet.
        block, degree: (B, N) long.
        count: (B,) long, nodes so far.
        alive: (B,) bool, not finished.
    """

    def __init__(self, denoiser: TokenDenoiser, slots: range, seed: int, nodes: int) -> None:
        network = denoiser.network
        assert isinstance(network, BlockNetwork)
        self.network, self.noise = network, SlotNoise(seed, slots)
        self.device = next(network.parameters()).device
        size = len(slots)
        shapes = {"X": (size, nodes), "A": (size, nodes, nodes)}
        self.x = {
            leaf: torch.zeros(shapes[leaf], dtype=torch.long, device=self.device) for leaf in network.process.leaves
        }
        self.block = torch.full((size, nodes), -1, device=self.device)
        self.degree = torch.zeros(size, nodes, dtype=torch.long, device=self.device)
        self.count = torch.zeros(size, dtype=torch.long, device=self.device)
        self.alive = torch.ones(size, dtype=torch.bool, device=self.device)

    def uniform(self, draw: int, role: str) -> Tensor:
        """One uniform number a sample, (B,), float64."""
        like = torch.zeros(len(self.block), 1, dtype=torch.float64)
        z: Tensor = torch.special.ndtr(self.noise(like, draw, role))[:, 0]
        return z.to(self.device)

    def cut(self, n: int) -> dict[str, Tensor]:
        """The first n nodes of the unfinished graphs."""
        parts = {"X": (slice(None), slice(n)), "A": (slice(None), slice(n), slice(n))}
        return {leaf: x[self.alive][parts[leaf]] for leaf, x in self.x.items()}

    def next_block(self, number: int, first: Tensor, most: int) -> None:
        """Draw size and degree of block `number` of every unfinished graph and append its nodes; or finish the graph.

        Args:
            first: (S + 1, D + 1), the law of the first block.
            most: largest number of nodes; larger sizes are left out of the law.
        """
        u, v = self.uniform(number, "size")[self.alive], self.uniform(number, "degree")[self.alive]
        room = most - self.count[self.alive]
        sizes = torch.arange(len(first), device=self.device)
        if number == 0:
            law = first.to(self.device).log()
            size = categorical(law.logsumexp(1).masked_fill(sizes > room[:, None], -torch.inf), u)
            degree = categorical(law[size], v)
        else:
            n = int(self.count[self.alive].max())
            logits, known = self.network.next_size(self.cut(n), self.block[self.alive, :n], self.degree[self.alive, :n])
            size = categorical(logits.masked_fill(sizes > room[:, None], -torch.inf), u)
            degree = categorical(self.network.next_degree(known, size), v)
        rows = self.alive.nonzero().flatten()
        place = torch.arange(self.block.shape[1], device=self.device)
        count = self.count[rows]
        new = (place >= count[:, None]) & (place < (count + size)[:, None])
        self.block[rows] = torch.where(new, number, self.block[rows])
        self.degree[rows] = torch.where(new, degree[:, None], self.degree[rows])
        self.count[rows] = count + size
        self.alive[rows[size == 0]] = False

    def denoise(self, number: int, steps: int) -> None:
        """Walk block `number` of every unfinished graph from noise to data in so many steps."""
        n, rows = int(self.count[self.alive].max()), self.alive.nonzero().flatten()
        block, degree = self.block[rows, :n], self.degree[rows, :n]
        exists, process = self.block[:, :n] >= 0, self.network.process
        space = space_of(exists, "X" in self.x)
        like = {"X": self.block[:, :n], "A": self.x["A"][:, :n, :n]}
        like = {leaf: like[leaf] for leaf in self.x}
        new = block == number
        pairs = ((new[:, :, None] & (block >= 0)[:, None, :]) | (new[:, None, :] & (block >= 0)[:, :, None])).triu(1)
        target = {"X": new, "A": pairs}
        current = torch.full((len(rows),), number, device=self.device)
        x = self.cut(n)

        def replace(leaf: str, value: Tensor) -> None:
            x[leaf] = x[leaf].masked_scatter(target[leaf], value)
            if leaf == "A":
                x[leaf] = x[leaf].triu(1) + x[leaf].triu(1).transpose(1, 2)

        u = uniforms(self.noise, space, like, number, "prior")
        for leaf, one in process.leaves.items():
            law = one.prior().to(self.device).log()
            chosen = u[leaf][rows][target[leaf]]
            replace(leaf, categorical(law.expand(len(chosen), -1), chosen))
        for k in range(steps, 0, -1):
            t = torch.full((len(rows),), k / steps, dtype=torch.float64, device=self.device)
            raw = self.network.sequential(x, t, block, degree, current)
            u = uniforms(self.noise, space, like, number * steps + k, "step")
            drawn = leafwise(
                process,
                lambda one, logits, x, u, own, k=k: one.draw(
                    one.log_probs(logits[own], x[own]), x[own], (k - 1) / steps, k / steps, u[rows][own]
                ),
                raw, x, u, target,
            )  # fmt: skip
            for leaf, value in drawn.items():
                replace(leaf, value)
        for leaf, value in x.items():
            whole = self.x[leaf]
            whole[(rows[:, None], torch.arange(n)) if leaf == "X" else (rows[:, None, None], *_square(n))] = value


def _square(n: int) -> tuple[Tensor, Tensor]:
    return torch.arange(n)[:, None], torch.arange(n)[None, :]


@torch.inference_mode()
def generate(
    denoiser: TokenDenoiser,
    first: Tensor,
    n: int,
    *,
    nodes: int,
    steps: int,
    seed: int,
    max_batch: int | None,
    progress: bool = False,
) -> Sampled:
    """Sample n graphs of at most `nodes` nodes.

    Args:
        denoiser: trained.
        first: (S + 1, D + 1), the law of size and degree of the first block.
        steps: a block. seed: of everything. max_batch: largest batch for the network. progress: show a progress bar.
    """
    from tqdm.auto import tqdm

    size = n if max_batch is None else min(n, max_batch)
    parts, calls = [], 0
    with tqdm(total=n, disable=not progress, desc="graphs") as bar:
        for start in range(0, n, size):
            batch, number = _Batch(denoiser, range(start, min(start + size, n)), seed, nodes), 0
            own = 0
            while True:
                before = int(batch.alive.sum())
                batch.next_block(number, first, nodes)
                own += int(number > 0)
                bar.update(before - int(batch.alive.sum()))
                if not bool(batch.alive.any()):
                    break
                batch.denoise(number, steps)
                own, number = own + steps, number + 1
            parts.append(batch)
            calls = max(calls, own)
    X = torch.cat([b.x["X"] for b in parts]).cpu() if "X" in parts[0].x else None
    return Sampled(X, torch.cat([b.x["A"] for b in parts]).cpu(), torch.cat([b.block for b in parts]).cpu(), calls)
