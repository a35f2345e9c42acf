"""Steering of the core on tokens, against exactly tilted laws.

The law that steering tilts is that of the sampler, few steps and all: it is propagated through the transitions between
all states, so that nothing but the steering can be wrong. A statistic fails when |z| > 5.2 (2e-7, two-sided): with
fewer than 450 of them, and one chi-square test at a p-value of 1e-5, a false alarm of the file has a probability below
1e-4. Seeds are fixed.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import Tensor

from scidiffuse.core import grids, sample
from scidiffuse.core.discrete import (
    Ancestral,
    ConfidenceOrdered,
    Euler,
    FirstHitting,
    Masked,
    Remasking,
    TauLeaping,
    TokenDenoiser,
    Uniform,
)
from scidiffuse.core.discrete.closed_form import Sequences, all_states, chain_law, p_value, total_variation
from scidiffuse.core.discrete.rewards import OverDraws
from scidiffuse.core.steering import (
    SVDD,
    FeynmanKac,
    log_mean,
    random_search,
    search_over_paths,
    svdd,
    zero_order_search,
)

Z = 5.2
STEPS, LAM = 6, 1.0
LAW = Sequences.random(3, 4, seed=1)
R = torch.randn(81, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
MASKED, UNIFORM = Masked(4), Uniform(3)
DENOISER = {process: LAW.denoiser(process) for process in (MASKED, UNIFORM)}
X = LAW.support
# what is compared: the reward, the tokens' values, and whether neighbours are equal
STATISTICS = torch.cat([R[:, None], (X == 0).double(), (X == 1).double(), (X[:, 1:] == X[:, :-1]).double()], 1)


def reward(x: Tensor, step: Any) -> Tensor:
    return R[LAW.index(x)]


@lru_cache
def law_of(process: Any, steps: int = STEPS) -> Tensor:
    """The exact law of ancestral sampling, (81,)."""
    x = all_states(process.states, 4)

    def rows(k: int) -> Tensor:
        t, s = 1.0 - k / steps, 1.0 - (k + 1) / steps
        w = process.log_posterior(DENOISER[process](x, t).log_probs, x, s, t).softmax(-1)
        return w.nan_to_num(0.0)  # states that do not exist at t

    return chain_law(process.prior()[x].prod(1), steps, rows)[(x < 3).all(1)]


def tilted(law: Tensor, lam: float) -> tuple[Tensor, float]:
    weight = law * (lam * R).exp()
    return weight / weight.sum(), float(weight.sum().log())


def z_scores(x: Tensor, log_w: Tensor, log_z: float, truth: Tensor, group: int) -> Tensor:
    """z of the mean weight and of the weighted statistics, from independent groups."""
    values = STATISTICS[LAW.index(x)].view(-1, group, STATISTICS.shape[1])
    w = (log_w.view(-1, group) - log_z).exp()
    mass, parts = w.mean(1), (w[..., None] * values).mean(1)
    error = torch.cat([mass.mean()[None] - 1.0, parts.mean(0) - truth @ STATISTICS])  # E[W f], unbiased
    se = torch.cat([mass.std()[None], parts.std(0)]) / len(w) ** 0.5
    return error.abs() / se


def run(process: Any, hook: Any, n: int, seed: int = 0, steps: int = STEPS, **options: Any) -> Any:
    return sample(DENOISER[process], Ancestral(), steps=steps, shape=(n, 4), seed=seed, hooks=[hook], **options)


CASES = [
    ("difference", 0.5, "resample"),
    ("difference", 1.0, "weights"),
    ("max", 0.5, "weights"),
    ("sum", 0.5, "resample"),
    ("sum", 0.0, "weights"),
]


@pytest.mark.parametrize("process", [MASKED, UNIFORM], ids=["masked", "uniform"])
@pytest.mark.parametrize(("potential", "threshold", "final"), CASES)
def test_feynman_kac_reaches_the_tilted_law(process: Any, potential: Any, threshold: float, final: Any) -> None:
    k, lam = 8, 0.2 if potential == "sum" else LAM
    truth, log_z = tilted(law_of(process), lam)
    result = run(process, FeynmanKac(reward, k, lam, potential, threshold, final=final), 8000, seed=3)
    z = z_scores(result.x, result.state.aux["fk_log_w"], log_z, truth, k)
    assert z.max() < Z, z
    plain = z_scores(result.x, result.state.aux["fk_log_w"], 0.0, law_of(process), k)
    assert plain.max() > Z  # the test can fail
    moved = [bool((a.view(-1, k) != torch.arange(k)).any()) for a in result.records["fk_ancestors"][:-1]]
    assert any(moved) == (threshold > 0.0) and result.x.dtype == torch.long


def test_feynman_kac_with_first_hitting_tilts_the_law_of_the_data_itself() -> None:
    truth, log_z = tilted(LAW.probs, LAM)
    # the posterior of a masked process does not depend on the time: one table serves all
    denoiser = TokenDenoiser(lambda x, t: DENOISER[MASKED](x, 0.5).raw, MASKED)
    for asked in (reward, OverDraws(reward, 4, lam=LAM)):
        hook = FeynmanKac(asked, 8, LAM)
        result = sample(denoiser, FirstHitting(), shape=(8000, 4), seed=1, hooks=[hook])
        assert z_scores(result.x, result.state.aux["fk_log_w"], log_z, truth, 8).max() < Z
        assert z_scores(result.x, result.state.aux["fk_log_w"], 0.0, LAW.probs, 8).max() > Z


@lru_cache
def values_of(process: Any, t: float) -> Tensor:
    """log E[exp(r) | x_t] for every state, exact for the true posterior."""
    x = all_states(process.states, 4)
    return (LAW.posterior(process, x, t) @ R.exp()).log()


def soft_value(process: Any) -> Any:
    weights = process.states ** torch.arange(3, -1, -1)
    return lambda x, t: values_of(process, t)[(x * weights).sum(1)]


def nothing(x: Tensor, t: Any) -> Tensor:
    return torch.zeros(len(x))


@pytest.mark.parametrize("process", [MASKED, UNIFORM], ids=["masked", "uniform"])
@pytest.mark.parametrize("value", ["mode", "draws", "soft", "nothing"])
@pytest.mark.parametrize("candidates", [2, 6])
def test_svdd_weighted_is_exact_for_every_value_and_number(process: Any, value: str, candidates: int) -> None:
    truth, log_z = tilted(law_of(process), 1.0)
    asked = OverDraws(reward, 3) if value == "draws" else reward
    learned = {"soft": soft_value(process), "nothing": nothing}.get(value)
    result = svdd(
        DENOISER[process], Ancestral(), steps=STEPS, shape=(2000, 4), seed=5, reward=asked, candidates=candidates,
        alpha=1.0, value=learned,
    )  # fmt: skip
    z = z_scores(result.x, result.state.aux["svdd_log_w"], log_z, truth, 1)
    assert z.max() < Z, z
    assert z_scores(result.x, result.state.aux["svdd_log_w"], 0.0, law_of(process), 1).max() > Z
    assert result.records["svdd_evaluations"] == STEPS * (candidates if learned is None else 1)


# ---------------------------------------------------------------------- every sampler
@lru_cache
def law_under(sampler: Any, process: Any) -> Tensor:
    """The law of a run of a sampler, (81,): propagated; the data's where one token a step is decided, in any order."""
    if isinstance(sampler, ConfidenceOrdered):
        return LAW.probs
    x = all_states(process.states, 4)
    plan = sampler.plan(process, grids.uniform(STEPS))
    hot, real = torch.eye(process.states, dtype=torch.float64), torch.ones_like(x, dtype=torch.bool)

    def rows(k: int) -> Tensor:
        t, s = plan.times[k], plan.times[k + 1]
        log_p = DENOISER[process](x, t).log_probs
        if not isinstance(sampler, Remasking):
            return sampler.law(process, log_p, x, s, t).nan_to_num(0.0)  # states that do not exist at t
        stay, sigma = sampler._chances(process, plan.active[k], s, t, x, real, ~real, None)
        stay, sigma = stay.unsqueeze(-1), sigma.unsqueeze(-1)
        decided = stay * hot[process.mask] + (1.0 - stay) * log_p.exp().nan_to_num(0.0)
        return torch.where(
            (x == process.mask).unsqueeze(-1), decided, (1.0 - sigma) * hot[x] + sigma * hot[process.mask]
        )

    return chain_law(process.prior()[x].prod(1), STEPS, rows)[(x < 3).all(1)]


EVERY = [
    (Euler(), UNIFORM),
    (Euler(), MASKED),
    (TauLeaping(), UNIFORM),
    (TauLeaping(target="draw"), MASKED),
    (Remasking(cap=0.3), MASKED),
    (ConfidenceOrdered("linear", noise=math.inf), MASKED),
    (ConfidenceOrdered("linear", noise=0.0, order="margin"), MASKED),
]


@pytest.mark.parametrize(("sampler", "process"), EVERY, ids=repr)
def test_every_sampler_is_steered_to_its_own_tilted_law(sampler: Any, process: Any) -> None:
    base = law_under(sampler, process)
    assert float(base.sum()) == pytest.approx(1.0, abs=1e-9)
    truth, log_z = tilted(base, LAM)
    given: dict[str, Any] = {"steps": STEPS, "seed": 11}
    result = sample(DENOISER[process], sampler, shape=(8000, 4), hooks=[FeynmanKac(reward, 8, LAM)], **given)
    log_w = result.state.aux["fk_log_w"]
    assert z_scores(result.x, log_w, log_z, truth, 8).max() < Z < z_scores(result.x, log_w, 0.0, base, 8).max()
    result = svdd(DENOISER[process], sampler, shape=(2000, 4), reward=reward, candidates=4, alpha=1 / LAM, **given)
    log_w = result.state.aux["svdd_log_w"]
    assert z_scores(result.x, log_w, log_z, truth, 1).max() < Z < z_scores(result.x, log_w, 0.0, base, 1).max()


def test_svdd_unweighted_needs_many_candidates() -> None:
    truth, _ = tilted(law_of(UNIFORM), 1.0)
    z = []
    for candidates in (2, 24):
        x = svdd(
            DENOISER[UNIFORM], Ancestral(), steps=STEPS, shape=(2000, 4), seed=2, reward=reward, candidates=candidates,
            alpha=1.0, value=soft_value(UNIFORM),
        ).x  # fmt: skip
        f = STATISTICS[LAW.index(x)]
        z.append(float(((f.mean(0) - truth @ STATISTICS).abs() / f.std(0) * 2000**0.5).max()))
    assert z[1] < Z < z[0], z


@pytest.mark.parametrize("process", [MASKED, UNIFORM], ids=["masked", "uniform"])
def test_chunks_two_parts_and_records(process: Any) -> None:
    def hook() -> FeynmanKac:
        return FeynmanKac(OverDraws(reward, 2), 4, 3.0)

    whole = run(process, hook(), 64, seed=7)
    assert any(bool((a.view(-1, 4) != torch.arange(4)).any()) for a in whole.records["fk_ancestors"])
    chunks = run(process, hook(), 64, seed=7, max_batch=10)
    assert torch.equal(chunks.x, whole.x)
    for name in ("fk_ess", "fk_ancestors", "fk_log_w", "fk_reward"):
        assert len(whole.records[name]) == STEPS + 1
        for one, other in zip(chunks.records[name], whole.records[name], strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
    torch.testing.assert_close(
        torch.tensor(whole.records["fk_t"]), torch.tensor([1 - k / STEPS for k in range(STEPS + 1)])
    )
    last = whole.records["fk_log_w"][-1].view(-1, 4)
    torch.testing.assert_close(whole.state.aux["fk_log_w"].view(-1, 4), log_mean(last)[:, None].expand(-1, 4))
    first = run(process, hook(), 64, seed=7, until=3)
    again = sample(DENOISER[process], Ancestral(), steps=STEPS, state=first.state, seed=7, hooks=[hook()])
    assert torch.equal(again.x, whole.x)
    for value in (None, soft_value(process)):
        given: dict[str, Any] = {"steps": STEPS, "shape": (12, 4), "seed": 5, "candidates": 3, "alpha": 0.5}
        given |= {"reward": reward, "value": value}
        ours, parts = (svdd(DENOISER[process], Ancestral(), **given, **more) for more in ({}, {"max_batch": 7}))
        assert torch.equal(parts.x, ours.x)
        torch.testing.assert_close(parts.state.aux["svdd_log_w"], ours.state.aux["svdd_log_w"], rtol=0, atol=1e-10)


def test_random_search_has_the_law_of_the_best_of_n() -> None:
    n, b = 3, 4000
    found = random_search(
        DENOISER[UNIFORM], Ancestral(), reward=reward, shape=(b, 4), seed=4, candidates=n, steps=STEPS
    )
    order = R.argsort()
    c = law_of(UNIFORM)[order].cumsum(0)
    truth = torch.zeros(81, dtype=torch.float64)
    truth[order] = c**n - torch.cat([c.new_zeros(1), c[:-1]]) ** n
    assert p_value(LAW.counts(found.x), truth) > 1e-5
    torch.testing.assert_close(found.score, reward(found.x, None))
    one = random_search(DENOISER[MASKED], Ancestral(), reward=reward, shape=(5, 4), seed=9, candidates=1, steps=4)
    assert torch.equal(one.x, sample(DENOISER[MASKED], Ancestral(), steps=4, shape=(5, 4), seed=9).x)


def test_search_over_paths_masks_again_what_it_is_told_to() -> None:
    def renoise(x: Tensor, s: float, t: float, noise: Any) -> Tensor:
        kept = MASKED.schedule.alpha(t) / MASKED.schedule.alpha(s)
        u = torch.special.ndtr(noise(torch.empty(x.shape, dtype=torch.float64), 0, "renoise"))
        return torch.where(u < kept, x, MASKED.mask)

    given: dict[str, Any] = {"reward": reward, "shape": (200, 4), "seed": 0, "grid": grids.uniform(STEPS)}
    found = search_over_paths(DENOISER[MASKED], Ancestral(), paths=2, branches=3, renoise=renoise, **given)
    best = random_search(DENOISER[MASKED], Ancestral(), candidates=2, **given)
    assert found.score.mean() > best.score.mean() + 0.2 and int(found.x.max()) < 3
    with pytest.raises(ValueError, match="that of tokens: give renoise="):
        search_over_paths(DENOISER[MASKED], Ancestral(), **given)
    with pytest.raises(ValueError, match="stochastic"):
        zero_order_search(DENOISER[MASKED], Ancestral(), **given)


# ---------------------------------------------------------------------- rewards over draws
def test_over_draws_estimates_the_value_and_asks_finished_samples_plainly() -> None:
    seen: list[tuple[Tensor, bool]] = []

    def spy(x: Tensor, step: Any) -> Tensor:
        seen.append((x, step is not None and step.new is not None))
        return reward(x, step)

    x = torch.tensor([[3, 3, 3, 3], [0, 3, 3, 1]]).repeat_interleave(4000, 0)
    for kind, lam in (("mean", 1.0), ("log_mean_exp", 1.5), ("log_mean_exp", -0.5)):
        seen.clear()
        hook = FeynmanKac(OverDraws(spy, 5, kind, lam), 2, LAM, final="weights", threshold=0.0)
        result = sample(DENOISER[MASKED], Ancestral(), grids.explicit([0.5, 0.0]), x=x, seed=0, hooks=[hook])
        assert [final for _, final in seen] == [False] * 5 + [True]
        assert torch.equal(seen[-1][0], result.x)
        assert all(bool((x0 < 3).all() and (x0[4000:, 0] == 0).all()) for x0, _ in seen)
        assert len({tuple(x0[:4000].flatten().tolist()) for x0, _ in seen[:5]}) == 5  # every draw is another
        r = result.records["fk_reward"][0].view(2, 4000)
        asked = torch.stack([reward(x0, None) for x0, _ in seen[:5]])
        estimate = asked.mean(0) if kind == "mean" else ((lam * asked).exp().mean(0).log() / lam)
        torch.testing.assert_close(r.flatten(), estimate)
        p = DENOISER[MASKED](x[::4000], 0.5).probs
        mu = torch.stack([p[:, i][:, X[:, i]] for i in range(4)]).prod(0)  # (2, 81)
        values = r if kind == "mean" else (lam * r).exp()
        truth = mu @ (R if kind == "mean" else (lam * R).exp())
        z = (values.mean(1) - truth) / values.std(1) * 4000**0.5
        assert z.abs().max() < Z, z
        torch.testing.assert_close(result.records["fk_reward"][-1], reward(result.x, None))
    assert torch.equal(OverDraws(reward)(X, None), R)  # outside of a run: finished samples


def test_over_draws_steers_better_than_the_mode_at_equal_network_calls() -> None:
    # masked sequences and a strong reward: groups of 8 walkers, or 8 candidates, the same calls
    lam, steps = 2.0, 6
    truth, _ = tilted(law_of(MASKED, steps), lam)

    def far(asked: Any) -> tuple[float, float]:
        """Total variation to the tilted law of Feynman-Kac's and SVDD's samples, unweighted."""
        x = run(MASKED, FeynmanKac(asked, 8, lam), 8000, seed=1, steps=steps).x
        given: dict[str, Any] = {"steps": steps, "shape": (1000, 4), "seed": 1, "candidates": 8, "alpha": 1 / lam}
        y = svdd(DENOISER[MASKED], Ancestral(), reward=asked, **given).x
        return total_variation(LAW.counts(x) / len(x), truth), total_variation(LAW.counts(y) / len(y), truth)

    mode, draws = far(reward), far(OverDraws(reward, 8, lam=lam))
    assert draws[0] < 0.85 * mode[0] and draws[1] < 0.7 * mode[1], (mode, draws)


def test_refusals() -> None:
    for arguments, message in (
        ({"draws": 0}, "draws"),
        ({"draws": 2.0}, "draws"),
        ({"kind": "median"}, "median"),
        ({"lam": 0.0}, "not 0"),
        ({"lam": float("nan")}, "finite"),
    ):
        with pytest.raises(ValueError, match=message):
            OverDraws(reward, **arguments)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="callable"):
        OverDraws(1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"reward must return shape \(8,\)"):
        run(MASKED, FeynmanKac(OverDraws(lambda x, step: x), 4), 8)
    with pytest.raises(ValueError, match=r"fill a batch|multiple"):
        run(MASKED, SVDD(reward, 3), 4)
