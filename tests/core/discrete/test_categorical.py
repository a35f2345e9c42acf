"""Draws of categories: exact in law, exact in the tail, and where float32 fails.

Chi-square and z statistics of this file fail by chance with a probability below 1e-5 together.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from scidiffuse.core import Masked as MaskedSpace
from scidiffuse.core import SlotNoise
from scidiffuse.core.discrete import categorical as module
from scidiffuse.core.discrete.categorical import categorical, gumbel, gumbel_max, uniforms
from scidiffuse.core.spaces import Euclidean, Graph, Product


def draws(n: int, seed: int = 0, dtype: type = np.float64, columns: tuple[int, ...] = ()) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((n, *columns), dtype=dtype))


def test_the_draw_is_the_inverse_of_the_distribution_function() -> None:
    w = torch.tensor([0.2, 0.0, 0.5, 0.3], dtype=torch.float64)
    u = torch.tensor([0.0, 0.1999, 0.2001, 0.6999, 0.7001, 1.0 - 2.0**-53], dtype=torch.float64)
    assert categorical(w.log().expand(6, 4), u).tolist() == [0, 0, 2, 2, 3, 3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_law_is_exact(dtype: torch.dtype) -> None:
    p = torch.tensor([0.4, 0.3, 0.2, 0.07, 0.02, 0.01], dtype=torch.float64)
    n = 200_000
    got = torch.bincount(categorical((3.0 + p.log()).to(dtype).expand(n, 6), draws(n)), minlength=6)
    statistic = ((got - n * p).square() / (n * p)).sum()
    assert statistic < chi2.isf(1e-6, 5)


def test_a_category_without_weight_is_never_drawn() -> None:
    log_w = torch.tensor([-torch.inf, 0.0, -torch.inf])
    u = torch.tensor([2.0**-1074, 0.5, 1.0 - 2.0**-53], dtype=torch.float64)
    assert categorical(log_w.expand(3, 3), u).tolist() == [1, 1, 1]
    # the largest uniform times a total that rounds up must not run past the last positive weight
    totals = torch.tensor([1 / 3, 1 / 7, 0.1, 3.0, 7e-300], dtype=torch.float64)
    for total in totals:
        log_w = torch.tensor([math.log(total), -torch.inf], dtype=torch.float64)
        assert categorical(log_w[None], u[2:]).item() == 0


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    log_w = torch.randn(37, 11, generator=torch.Generator().manual_seed(0))
    u = draws(37)
    whole = categorical(log_w, u)
    monkeypatch.setattr(module, "BLOCK", 25)
    assert torch.equal(categorical(log_w, u), whole)


def test_rare_events_keep_their_rate_in_float64_and_lose_it_in_float32() -> None:
    """A masked token that is to be decided with probability 1/1000, by one of 50,000 equally likely tokens.

    The best of equally likely tokens is the one with the largest uniform number, the maximum of 50,000: U^(1/50000). A
    float32 generator returns multiples of 2^-24, so it is rounded down to one there.
    """
    tokens, n, rate = 50_000, 300_000, 1e-3
    log_w = torch.tensor([math.log(rate / tokens), math.log(1.0 - rate)])
    top, mask = draws(n, 0) ** (1.0 / tokens), draws(n, 1)
    fine = torch.stack([top, mask], 1)
    coarse = (torch.stack([top, mask], 1) * 2.0**24).floor() / 2.0**24
    hits64 = int((gumbel_max(log_w, fine) == 0).sum())
    hits32 = int((gumbel_max(log_w, coarse.float()) == 0).sum())
    full = torch.full((tokens + 1,), math.log(rate / tokens), dtype=torch.float64)
    full[-1] = math.log(1.0 - rate)
    edge = torch.tensor([rate * (1.0 - 1e-9), rate * (1.0 + 1e-9)], dtype=torch.float64)
    assert hits64 == pytest.approx(n * rate, abs=5 * math.sqrt(n * rate))
    assert categorical(full.expand(2, -1), edge).tolist() == [tokens - 1, tokens]
    assert hits32 < 0.3 * n * rate


def test_float32_gumbels_end_where_float32_ends() -> None:
    top32 = gumbel(torch.tensor(1.0 - 2.0**-24, dtype=torch.float32))
    top64 = gumbel(torch.tensor(1.0 - 2.0**-53, dtype=torch.float64))
    assert float(top32) == pytest.approx(16.6355, abs=1e-3)
    assert float(top64) == pytest.approx(36.7368, abs=1e-3)


def test_gumbel_maximum_has_the_same_law() -> None:
    p = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    n = 100_000
    got = torch.bincount(gumbel_max(p.log().expand(n, 4), draws(n, 3, columns=(4,))), minlength=4)
    assert ((got - n * p).square() / (n * p)).sum() < chi2.isf(1e-6, 3)


def test_no_float64_copy_of_the_whole_batch() -> None:
    """Peak memory beside the logits: a block, whatever the batch (counted, not timed)."""
    biggest = 0
    original = torch.Tensor.double

    def watched(self: Tensor) -> Tensor:
        nonlocal biggest
        biggest = max(biggest, self.numel())
        return original(self)

    log_w = torch.zeros(4000, 5000)
    torch.Tensor.double = watched  # type: ignore[method-assign]
    try:
        categorical(log_w, draws(4000))
    finally:
        torch.Tensor.double = original  # type: ignore[method-assign]
    assert 0 < biggest <= module.BLOCK < log_w.numel() / 4


def test_uniforms_are_keyed_and_fill_the_space() -> None:
    noise = SlotNoise(7, range(6))
    x = torch.zeros(6, 5, dtype=torch.long)
    u = uniforms(noise, Euclidean(), x, 0)
    assert u.dtype == torch.float64
    assert bool(((u > 0) & (u < 1)).all())
    assert torch.equal(u, uniforms(noise, Euclidean(), x, 0))
    assert not torch.equal(u, uniforms(noise, Euclidean(), x, 1))
    assert torch.equal(u[2:4], uniforms(SlotNoise(7, range(2, 4)), Euclidean(), x[2:4], 0))
    mask = torch.ones(6, 5, dtype=torch.bool)
    mask[0, 3:] = False
    padded = uniforms(noise, MaskedSpace(mask), x, 0)
    short = uniforms(SlotNoise(7, range(1)), Euclidean(), x[:1, :3], 0)
    assert torch.equal(padded[:1, :3], short)  # padding takes no numbers
    edges = uniforms(noise, Product(A=Graph(torch.ones(6, 4, dtype=torch.bool))), {"A": x.new_zeros(6, 4, 4)}, 0)["A"]
    off = ~torch.eye(4, dtype=torch.bool)
    assert torch.equal(edges, edges.transpose(1, 2))
    assert len(edges[0][off].unique()) == 6


def test_refusals() -> None:
    rows = torch.zeros(3, 4)
    with pytest.raises(TypeError, match=r"float64 uniforms, got torch\.float32"):
        categorical(rows, torch.zeros(3))
    with pytest.raises(ValueError, match=r"\(3,\); got \(2,\)"):
        categorical(rows, torch.zeros(2, dtype=torch.float64))
    for bad in (math.nan, math.inf):
        broken = rows.clone()
        broken[1, 2] = bad
        with pytest.raises(FloatingPointError, match="row 1 of 3"):
            categorical(broken, draws(3))
    with pytest.raises(FloatingPointError, match="row 0 of 3"):
        categorical(torch.full((3, 4), -torch.inf), draws(3))
    for half in (torch.float16, torch.bfloat16):
        with pytest.raises(TypeError, match=rf"Gumbel numbers in {half}.*use float64"):
            gumbel(torch.full((4,), 0.5, dtype=half))
