"""Remasking: exact marginals for one token, exact laws of short sequences by propagation, order of convergence.

A chi-square test fails below p = 1e-6, a z-test beyond 5.5; the file has fewer than 30 of them, so a false alarm has a
probability below 1e-4.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from scidiffuse.core import Graph, Hook, Product, Record, grids, sample
from scidiffuse.core import Masked as Padded
from scidiffuse.core.discrete import Ancestral, Masked, MaskUniform, ProductProcess, TokenDenoiser, Uniform
from scidiffuse.core.discrete.closed_form import Sequences, all_states, chain_law, p_value, total_variation
from scidiffuse.core.discrete.priority import PriorityMasked
from scidiffuse.core.discrete.samplers.remasking import Loop, Remasking
from scidiffuse.core.hooks import Step

K, L = 3, 4
MASK = K
PROCESS = Masked(K + 1)
LAW = Sequences.random(K, L, seed=0)
STATES = all_states(K + 1, L)
MASKED = STATES == MASK
FULL = ~MASKED.any(1)
EXACT = LAW.denoiser(PROCESS)(STATES, 0.5).probs
ALL = {
    "cap": Remasking(cap=0.2),
    "rescale": Remasking(rescale=0.4),
    "rate": Remasking(rate=2.0),
    "most": Remasking(rescale=1.0),
    "both": Remasking(cap=0.3, rescale=0.5),
    "switch": Remasking(cap=0.4, switch=0.5),
    "loop": Remasking(cap=0.1, loop=Loop(0.7, 0.2, 0.8)),
}


def times(steps: int, first: float = 1.0) -> grids.Grid:
    return grids.explicit([first * (1.0 - k / steps) for k in range(steps + 1)])


def strength(sampler: Remasking, t: float, s: float, tau: float) -> float:
    """sigma of a step of the linear process, in the paper's letters; `tau` is the time of the grid."""
    if (sampler.loop is None and tau > sampler.switch) or (sampler.loop is not None and s != t):
        return 0.0
    bounds = [1.0, s / (1.0 - t) if t < 1.0 else 1.0]
    if sampler.cap is not None:
        bounds.append(sampler.cap)
    if sampler.rate is not None and t < 1.0:
        bounds.append(sampler.rate * (t - s) / (1.0 - t))
    return (1.0 if sampler.rescale is None else sampler.rescale) * min(bounds)


def propagated(
    sampler: Remasking, steps: int, probs: Tensor = EXACT, start: tuple[int, ...] = (MASK,) * L, first: float = 1.0
) -> Tensor:
    """The exact law of all (K+1)^L states after a run, from the formula of one step."""
    plan, p = sampler.plan(PROCESS, times(steps, first)), torch.zeros(len(STATES), dtype=torch.float64)
    p[(torch.tensor(start) == STATES).all(1)] = 1.0
    free = torch.tensor([[v == MASK] for v in start]).double()
    hot = torch.eye(K + 1, dtype=torch.float64)

    def rows(k: int) -> Tensor:
        t, s = plan.times[k], plan.times[k + 1]
        sigma = strength(sampler, t, s, first * (1.0 - k / steps))
        stay = (s - sigma * (1.0 - t)) / t
        taken = sigma * free  # known tokens stay
        return torch.where(
            MASKED[..., None], stay * hot[MASK] + (1.0 - stay) * probs, (1.0 - taken) * hot[STATES] + taken * hot[MASK]
        )

    return chain_law(p, steps, rows)


def distance(sampler: Remasking, steps: int, probs: Tensor = EXACT) -> float:
    """Total variation from the law of the data."""
    return total_variation(propagated(sampler, steps, probs)[FULL], LAW.probs)


def fits(law: Tensor, x: Tensor) -> None:
    assert p_value(LAW.counts(x), law) > 1e-6


# -- laws ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", [*ALL, "conf"])
def test_one_token_follows_its_marginals_whatever_is_remasked(name: str) -> None:
    """alpha_s of every value after every step: the chain's matrices act on q_t exactly."""
    sampler = Remasking(conf=True) if name == "conf" else ALL[name]
    process = Masked(4, keep="cosine")
    p0 = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    plan = sampler.plan(process, times(9))
    x, own = torch.tensor([[MASK], [0]]), torch.ones(2, 1, dtype=torch.bool)
    q = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    remasked = 0.0
    for k in range(9):
        t, s = plan.times[k], plan.times[k + 1]
        psi = torch.zeros(2, 1) if sampler.conf else None
        stay, sigma = sampler._chances(process, plan.active[k], s, t, x, own, ~own, psi)
        matrix = torch.cat([(1.0 - sigma[1]) * torch.eye(3), sigma[1].expand(3, 1)], 1)
        q = q @ torch.cat([matrix, torch.cat([(1.0 - stay[0]) * p0, stay[0]])[None]])
        alpha = process.schedule.alpha(s)
        assert torch.allclose(q, torch.cat([alpha * p0, torch.tensor([1.0 - alpha])]), atol=1e-12)
        remasked += float(sigma[1])
        assert 0.0 <= float(sigma[1]) <= min(1.0, (1.0 - alpha) / max(process.schedule.alpha(t), 1e-300)) + 1e-12
    assert remasked > 0.1


@pytest.mark.parametrize("name", ALL)
def test_samples_have_the_propagated_law(name: str) -> None:
    steps = 6
    p = propagated(ALL[name], steps)
    assert float(p[FULL].sum()) == pytest.approx(1.0, abs=1e-12)
    x = sample(LAW.denoiser(PROCESS), ALL[name], times(steps), shape=(20_000, L), seed=1).x
    fits(p[FULL], x)
    plain = propagated(Remasking(rescale=0.0), steps)[FULL]
    assert float((p[FULL] - plain).abs().sum()) > 0.02


def test_the_order_of_convergence() -> None:
    """1/N as in ancestral sampling where remasking is a rate, 1/sqrt(N) where each step remasks as much.

    The stay of a loop at a fixed cap has an error of its own, the smaller the smaller the cap.
    """
    for sampler, order in ((Remasking(rate=1.0), 1.0), (Remasking(rescale=1.0), 0.5), (Remasking(rescale=0.0), 1.0)):
        assert math.log2(distance(sampler, 128) / distance(sampler, 256)) == pytest.approx(order, abs=0.06)
    few, many = (distance(Remasking(cap=0.1, loop=Loop()), n) for n in (256, 512))
    assert many == pytest.approx(few, rel=0.03)
    assert distance(Remasking(cap=0.02, loop=Loop()), 512) < 0.3 * many


def test_what_remasking_repairs_and_what_it_does_not() -> None:
    """A network that errs the more, the more is masked: errors are taken back. One that errs equally: they are not."""
    wrong = torch.rand(L, K, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wrong = torch.nn.functional.pad(wrong / wrong.sum(1, keepdim=True), (0, 1))

    def blurred(w: Tensor) -> Tensor:
        return torch.where(MASKED[..., None], (1.0 - w) * EXACT + w * wrong, EXACT)

    far = blurred(0.3 * (MASKED.sum(1) - 1).clamp_min(0)[:, None, None] / (L - 1))
    plain, cap = Remasking(rescale=0.0), Remasking(cap=0.02)
    assert distance(plain, 256, far) > 0.9 * distance(plain, 64, far)
    assert distance(cap, 256, far) < 0.7 * distance(cap, 64, far)
    assert distance(cap, 256, far) < 0.65 * distance(plain, 256, far)
    same = blurred(torch.tensor(0.1))
    assert distance(cap, 256, same) > distance(plain, 256, same)


def test_priorities_give_every_token_its_own_step() -> None:
    """Tokens of a priority process that know nothing of each other follow their own marginals."""
    process, n = PriorityMasked(4, strength=0.3), 40_000
    y = torch.tensor([[1.0, 0.0, -1.0]])
    denoiser = TokenDenoiser(lambda x, t: torch.zeros(*x.shape, 4, dtype=torch.float64), process)
    options: dict[str, Any] = {"shape": (n, 3), "reference": y.expand(n, 3), "seed": 0}
    x = sample(denoiser, Remasking(cap=0.3), grids.explicit([1.0, 0.8, 0.6, 0.4]), **options).x
    lost = process.schedule.lost(process.local(0.4, y))[0]
    z = ((x == 3).double().mean(0) - lost) / (lost * (1.0 - lost) / n).sqrt()
    assert float(z.abs().max()) < 5.5


# -- which tokens ----------------------------------------------------------------------------------------------------
def flat(x: Tensor, t: Tensor) -> Tensor:
    return torch.zeros(*x.shape, 4, dtype=torch.float64)


def peaked(x: Tensor, t: Tensor) -> Tensor:
    """Even places are sure of value 0 (0.98), odd ones of nothing."""
    sure = (torch.arange(x.shape[1]) % 2 == 0).double()
    return torch.stack([math.log(98.0) * sure, 0 * sure, 0 * sure, 0 * sure], -1).expand(*x.shape, 4)


class Watch(Hook):
    """States between steps."""

    def __init__(self) -> None:
        self.states: list[Any] = []

    def on_step(self, step: Step) -> Any:
        self.states.append(super().on_step(step))
        return self.states[-1]


def test_confidences_are_kept_and_shares_sum_to_one() -> None:
    real = torch.arange(10) < torch.tensor([[10], [7]])
    denoiser, watch = TokenDenoiser(peaked, PROCESS, space=Padded(real)), Watch()
    sampler = Remasking(conf=True)
    sample(denoiser, sampler, times(12), shape=(2, 10), seed=3, hooks=[watch])
    p = torch.tensor([0.98, 1.0 / 3.0]).repeat(5).expand(2, 10)
    for k, state in enumerate(watch.states[:-1]):
        x, psi = state.x, state.memory["psi"]
        decided = (x != MASK) & real
        hit = torch.where(torch.arange(10) % 2 == 0, torch.where(x == 0, 98.0 / 100.0, 1.0 / 100.0), p)
        assert torch.allclose(psi[decided], hit[decided].float())
        t, s = times(12).times[k + 1 : k + 3]
        _, sigma = sampler._chances(PROCESS, True, s, t, x, real, torch.zeros_like(real), psi)
        assert bool((sigma[~decided] == 0.0).all())
        total = min(1.0, s / (1.0 - t)) * decided.any(1)
        assert torch.allclose(sigma.sum(1), total.double(), atol=1e-12)
        ratio = sigma[decided] / (-psi[decided].double()).exp()
        for row in ratio.split(decided.sum(1).tolist()):
            assert torch.allclose(row, row[:1].expand_as(row))


def test_confidence_takes_back_what_it_gives_on_average() -> None:
    """With equal confidences the masked fraction stays 1 - alpha, in a loop's stay too; uncertain tokens go first."""
    n, watch = 5_000, Watch()
    sampler = Remasking(conf=True, loop=Loop(0.8, 0.1, 0.5))
    sample(TokenDenoiser(flat, PROCESS), sampler, times(20), shape=(n, 5), seed=0, hooks=[watch])
    plan = sampler.plan(PROCESS, times(20))
    for k, state in enumerate(watch.states[:-1]):
        lost = plan.times[k + 1]
        mean = float((state.x == MASK).double().sum(1).mean()) / 5
        assert abs(mean - lost) < 5.5 * math.sqrt(0.25 / n)
    changed, before = torch.zeros(10), None
    watch = Watch()
    sample(TokenDenoiser(peaked, PROCESS), sampler, times(20), shape=(n, 10), seed=0, hooks=[watch])
    for state in watch.states:
        if before is not None:
            changed += ((state.x == MASK) & (before != MASK)).sum(0)
        before = state.x
    assert float(changed[1::2].sum()) > 1.3 * float(changed[::2].sum())


def test_known_tokens_stay_unless_they_are_to_be_improved() -> None:
    x = torch.full((500, 6), MASK)
    x[:, :3] = torch.tensor([0, 1, 2])
    grid, denoiser = grids.explicit([0.5, 0.4, 0.3, 0.2, 0.1, 0.0]), TokenDenoiser(flat, PROCESS)
    for conf in (False, True):
        kept = sample(denoiser, Remasking(rescale=1.0, conf=conf), grid, x=x, seed=0).x
        assert torch.equal(kept[:, :3], x[:, :3])
        moved = sample(denoiser, Remasking(rescale=1.0, conf=conf, keep_known=False), grid, x=x, seed=0).x
        assert float((moved[:, :3] != x[:, :3]).double().mean()) > 0.02
        assert not bool((moved == MASK).any())


def test_infilling_has_the_propagated_law_and_in_many_steps_the_conditional_one() -> None:
    start, sampler = (MASK, MASK, 1, MASK), Remasking(rate=2.0)
    x = torch.tensor(start).expand(20_000, L)
    x = sample(LAW.denoiser(PROCESS), sampler, times(5, 0.9), x=x, seed=0).x
    fits(propagated(sampler, 5, start=start, first=0.9)[FULL], x)
    law = LAW.probs * (LAW.support[:, 2] == 1)
    far, near = (propagated(sampler, n, start=start, first=0.9)[FULL] - law / law.sum() for n in (64, 128))
    assert math.log2(float(far.abs().sum() / near.abs().sum())) == pytest.approx(1.0, abs=0.1)


def test_only_tokens_that_move_are_asked_about() -> None:
    asked = []

    class Count(Masked):
        def log_probs(self, logits: Tensor, x: Tensor) -> Tensor:
            asked.append(len(x))
            return super().log_probs(logits, x)

    hook = Record(what=("x",))
    sample(TokenDenoiser(flat, Count(4)), Remasking(cap=0.1), times(20), shape=(8, 50), seed=0, hooks=[hook])
    states = [*hook.records()["x"]]
    decided = [int(((a == MASK) & (b != MASK)).sum()) for a, b in itertools.pairwise(states)]
    assert asked[: len(decided)] == decided
    assert sum(asked) < 8 * 50 * 4


# -- where, and the plan ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("keep", ["linear", "cosine", "log_linear"])
@pytest.mark.parametrize("steps", [5, 20, 97])
def test_a_loop_covers_the_levels_once_and_stays_between(keep: str, steps: int) -> None:
    process, loop = Masked(4, keep=keep), Loop(0.55, 0.05, 0.9)
    plan = Remasking(cap=0.02, loop=loop).plan(process, times(steps))
    assert plan.times[0] == 1.0 and plan.times[-1] == 0.0
    assert all(s <= t for t, s in itertools.pairwise(plan.times))
    stay = [t for t, active in zip(plan.times, plan.active, strict=False) if active]
    assert {round(float(process.schedule.alpha(t)), 12) for t in stay} == {0.9}
    inside = [loop.off <= tau <= loop.on for tau in times(steps).times]
    assert list(plan.active) == [a and b for a, b in itertools.pairwise(inside)]
    assert all(s < t for (t, s), active in zip(itertools.pairwise(plan.times), plan.active, strict=True) if not active)
    if keep == "linear":  # the paper's code, level by level
        for tau, t in zip(times(steps).times, plan.times, strict=True):
            if tau > 0.55:
                assert t == pytest.approx(1.0 - (1.0 - tau) * 0.9 / 0.45)
            elif tau < 0.05:
                assert t == pytest.approx(tau * 0.1 / 0.05)


def test_the_network_is_told_the_level_of_the_loop() -> None:
    hook = Record(what=("x",))
    denoiser = TokenDenoiser(flat, PROCESS)
    sampler = Remasking(cap=0.5, loop=Loop(0.6, 0.3, 0.75))
    sample(denoiser, sampler, times(10), shape=(2, 5), seed=0, hooks=[hook])
    told = hook.records()["t"]
    assert told == list(sampler.plan(PROCESS, times(10)).times[:-1])
    assert told.count(told[5]) == 4


def test_a_switch_remasks_from_its_time_on() -> None:
    watch = Watch()
    sampler = Remasking(rescale=1.0, switch=0.5)
    sample(TokenDenoiser(flat, PROCESS), sampler, times(10), shape=(50, 20), seed=0, hooks=[watch])
    x = [torch.full((50, 20), MASK), *(state.x for state in watch.states)]
    taken = [int(((a != MASK) & (b == MASK)).sum()) for a, b in itertools.pairwise(x)]
    assert taken[:5] == [0] * 5
    assert min(taken[5:9]) > 0
    assert taken[9] == 0


# -- what it shares with ancestral sampling --------------------------------------------------------------------------
class Tilt(Hook):
    def __init__(self, tilt: Tensor) -> None:
        self.tilt = tilt

    def on_prediction(self, step: Step) -> Step:
        return replace(step, pred=step.pred.with_tilt(self.tilt.expand(*step.state.x.shape, -1)))


@pytest.mark.parametrize("hooks", [[], [Tilt(torch.tensor([0.5, -1.0, 0.0, 0.7], dtype=torch.float64))]])
@pytest.mark.parametrize("nothing", [Remasking(rescale=0.0), Remasking(cap=0.0), Remasking(rate=0.0)])
def test_without_remasking_it_is_ancestral_sampling_token_for_token(nothing: Remasking, hooks: list[Hook]) -> None:
    for keep in ("linear", "cosine"):
        denoiser = LAW.denoiser(Masked(4, keep=keep))
        grid = grids.explicit([1.0, 0.7, 0.6, 0.25, 0.1, 0.0])
        a, b = (sample(denoiser, s, grid, shape=(300, L), seed=1, hooks=hooks).x for s in (nothing, Ancestral()))
        assert torch.equal(a, b)


def test_a_tilt_multiplies_transitions() -> None:
    """One token, two steps: values with exp(tilt), staying masked and being remasked with the mask's."""
    tilt = torch.tensor([0.5, -1.0, 0.0, 0.7], dtype=torch.float64)
    sampler, grid, n = Remasking(cap=0.3), grids.explicit([0.8, 0.5, 0.3]), 40_000
    q = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    for t, s in grid.pairs():
        sigma = min(0.3, s / (1.0 - t))
        stay = (s - sigma * (1.0 - t)) / t
        m = torch.eye(4, dtype=torch.float64) * (1.0 - sigma)
        m[:, 3] = sigma
        m[3] = torch.tensor([*[(1.0 - stay) / 3] * 3, stay])
        m = m * tilt.exp()
        q = q @ (m / m.sum(1, keepdim=True))
    x = sample(TokenDenoiser(flat, PROCESS), sampler, grid, x=torch.full((n, 1), 3), seed=0, hooks=[Tilt(tilt)]).x
    assert p_value(torch.bincount(x[:, 0], minlength=4), q) > 1e-6


@pytest.mark.parametrize("sampler", [Remasking(cap=0.2), Remasking(conf=True)])
def test_batches_may_be_cut_and_runs_stopped(sampler: Remasking) -> None:
    denoiser = LAW.denoiser(PROCESS)
    whole = sample(denoiser, sampler, times(8), shape=(21, L), seed=5)
    assert torch.equal(whole.x, sample(denoiser, sampler, times(8), shape=(21, L), seed=5, max_batch=8).x)
    part = sample(denoiser, sampler, times(8), shape=(21, L), seed=5, until=3)
    assert torch.equal(whole.x, sample(denoiser, sampler, times(8), state=part.state, seed=5).x)
    few = part.state.take(torch.tensor([4, 2]))
    for name, value in part.state.memory.items():
        assert torch.equal(few.memory[name], value[[4, 2]])


@pytest.mark.parametrize("conf", [False, True])
@pytest.mark.parametrize("mask_id", [0, 3])
def test_padding_and_graphs(mask_id: int, conf: bool) -> None:
    nodes = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    process = Masked(4, mask_id=mask_id)

    def network(x: dict[str, Tensor], t: Tensor) -> dict[str, Tensor]:
        return {name: flat(leaf, t) for name, leaf in x.items()}

    space = Product(X=Padded(nodes), A=Graph(nodes))
    denoiser, watch = TokenDenoiser(network, ProductProcess(X=process, A=process), space), Watch()
    shape = {"X": (2, 6), "A": (2, 6, 6)}
    sampler = Remasking(rescale=0.8, conf=conf)
    x = sample(denoiser, sampler, times(12), shape=shape, seed=0, hooks=[watch]).x
    states = [state.x for state in watch.states]
    assert any(bool(((a["A"] != mask_id) & (b["A"] == mask_id)).any()) for a, b in itertools.pairwise(states))
    for state in states:
        assert torch.equal(state["A"], state["A"].transpose(1, 2))
        assert int(state["A"].diagonal(dim1=1, dim2=2).sum()) == 0
        assert int(state["X"][1, 4:].sum()) == 0
    assert not bool((x["X"][nodes] == mask_id).any())
    alone = TokenDenoiser(flat, process)
    padded = sample(TokenDenoiser(flat, process, Padded(nodes)), sampler, times(12), shape=(2, 6), seed=0).x
    assert torch.equal(padded[1, :4], sample(alone, sampler, times(12), shape=(2, 4), seed=0).x[1])


def test_an_edit_that_drops_the_memory_is_a_new_start() -> None:
    class Restart(Hook):
        def on_step(self, step: Step) -> Any:
            state = super().on_step(step)
            return state.restart(state.x)

    denoiser = TokenDenoiser(flat, PROCESS)
    for conf in (False, True):
        sampler, watch = Remasking(rescale=1.0, conf=conf), Watch()
        sample(denoiser, sampler, times(6), shape=(9, 8), seed=0, hooks=[Restart(), watch])
        for a, b in itertools.pairwise(state.x for state in watch.states):
            assert torch.equal(b[a != MASK], a[a != MASK])  # what was there at the restart is known


# -- bad input -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "say how much to remask"),
        ({"switch": 0.5}, "say how much to remask"),
        ({"cap": 1.5}, r"cap lies in \[0, 1\]"),
        ({"rescale": -0.1}, r"rescale lies in \[0, 1\]"),
        ({"cap": math.nan}, r"cap lies in \[0, 1\]"),
        ({"rate": -1.0}, "rate must be finite"),
        ({"cap": 0.1, "switch": 2.0}, r"switch is a time in \[0, 1\]"),
        ({"cap": 0.1, "loop": Loop(), "switch": 0.5}, "a loop says itself when"),
        ({"rate": 1.0, "loop": Loop()}, "a loop says itself when"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Remasking(**options)


def test_bad_loops_are_named() -> None:
    with pytest.raises(TypeError, match="loop must be a Loop"):
        Remasking(cap=0.1, loop=(0.5, 0.1))  # type: ignore[arg-type]
    for on, off in ((0.1, 0.5), (1.0, 0.1), (0.5, 0.0)):
        with pytest.raises(ValueError, match="1 > on > off > 0"):
            Loop(on, off)
    with pytest.raises(ValueError, match="alpha, the fraction"):
        Loop(alpha=1.0)
    with pytest.raises(ValueError, match="no step of this grid of 2"):
        sample(TokenDenoiser(flat, PROCESS), Remasking(cap=0.1, loop=Loop()), times(2), shape=(1, 3), seed=0)


@pytest.mark.parametrize(
    ("process", "why"), [(Uniform(4), "has no mask"), (MaskUniform(4), "replaces tokens as well as masking them")]
)
def test_other_processes_are_refused(process: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why + r".*use Ancestral\(\)"):
        sample(TokenDenoiser(flat, process), Remasking(cap=0.1), times(3), shape=(1, 3), seed=0)
