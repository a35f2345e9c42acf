"""Elements of one state at different rows equal separate scalar runs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scidiffuse.core import grids
from scidiffuse.core.denoisers import Denoiser
from scidiffuse.core.noise import SlotNoise
from scidiffuse.core.sample import sample
from scidiffuse.core.samplers import (
    BDIA,
    BELM,
    DDIM,
    DDPM,
    IPNDM,
    PLMS,
    PNDM,
    DPMSolver,
    DPMSolverPP,
    EDMStochastic,
    Euler,
    Heun,
    LinearSampler,
    State,
    UniPC,
)
from scidiffuse.core.schedules import VE, CondOT, MeanReverting, ProductSchedule, Spectral, VPLinear

SAMPLERS = [
    DDIM(), Euler(), Euler("time"), Heun(), Heun("time"), EDMStochastic(churn=0.0), DPMSolver(2), DPMSolver(3),
    DPMSolver(3, "multistep"), DPMSolverPP(1), DPMSolverPP(2), DPMSolverPP(3), DPMSolverPP(2, "singlestep"),
    DPMSolverPP(3, "singlestep"), DPMSolverPP(3, startup="singlestep"), UniPC(1), UniPC(2), UniPC(3),
    UniPC(3, startup="singlestep"), PNDM(), PLMS(), IPNDM(), BDIA(), BDIA(0.5), BELM(),
]  # fmt: skip
DELAY = torch.tensor([0, 3, 1, 7])
STEPS = 7


def network(x: Tensor, t: Tensor) -> Tensor:
    """Elementwise in (x, t), for t (B,) or (B, L)."""
    t = (t / 1000).reshape(*t.shape, *[1] * (x.ndim - t.ndim)).to(x)
    return torch.tanh(1.2 * x + t) * (0.4 + t)


def start(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def go(sampler: LinearSampler, denoiser: Denoiser, grid: grids.Grid, **given: object) -> Tensor:
    return sample(denoiser, sampler, grid, dtype=torch.float64, **given).x


@pytest.mark.parametrize("end", [0.0, 0.05])
@pytest.mark.parametrize("kind", ["data", "noise", "flow"])
@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_delayed_walkers_equal_the_scalar_run(sampler: LinearSampler, kind: str, end: float) -> None:
    """Early ones wait at the end for the late ones, late ones at the start: neither changes."""
    denoiser, grid, x = Denoiser(network, VPLinear(), kind), grids.uniform(STEPS, 0.9, end), start(4, 3)
    scalar = go(sampler, denoiser, grid, x=x)
    ragged = go(sampler, denoiser, grid, state=sampler.stagger(sampler.plan(VPLinear(), grid), x, DELAY))
    torch.testing.assert_close(ragged, scalar, rtol=0, atol=1e-12)


@pytest.mark.parametrize("schedule", [VE(), CondOT(), MeanReverting()], ids=repr)
@pytest.mark.parametrize("sampler", [DDIM(), Heun(), DPMSolverPP(3), UniPC(2), PNDM(), BELM()], ids=repr)
def test_elements_of_a_sample_at_different_rows(sampler: LinearSampler, schedule: object) -> None:
    """One time an element (B, L): each equals its own scalar run, references included."""
    denoiser, grid, x = Denoiser(network, schedule, "velocity"), grids.uniform(STEPS, 0.8, 0.0), start(2, 4, 3)
    y = (
        torch.linspace(-1.0, 1.0, 24, dtype=torch.float64).reshape(2, 4, 3)
        if isinstance(schedule, MeanReverting)
        else None
    )
    delay = torch.stack([DELAY, 2 * DELAY])
    scalar = go(sampler, denoiser, grid, x=x, reference=y)
    ragged = go(sampler, denoiser, grid, state=sampler.stagger(sampler.plan(schedule, grid), x, delay), reference=y)
    torch.testing.assert_close(ragged, scalar, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_walkers_gathered_from_different_rows_go_on(sampler: LinearSampler) -> None:
    """Rows, ages and registers of runs that were stopped at 2, 4, 5 and at the end, put in one state."""
    denoiser, grid, x = Denoiser(network, VPLinear(), "data"), grids.uniform(STEPS, 0.9, 0.02), start(4, 3)
    stops = [2, 4, 5, sampler.plan(VPLinear(), grid).calls]
    parts = [
        sample(denoiser, sampler, grid, x=x[k : k + 1], until=stop, dtype=torch.float64).state
        for k, stop in enumerate(stops)
    ]
    names = sorted({name for s in parts for name in s.memory})
    memory = {n: torch.cat([s.memory.get(n, torch.zeros_like(s.x)) for s in parts]) for n in names}
    age = torch.tensor([s.age for s in parts])
    gathered = State(torch.cat([s.x for s in parts]), torch.tensor(stops), age, memory)
    torch.testing.assert_close(
        go(sampler, denoiser, grid, state=gathered), go(sampler, denoiser, grid, x=x), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(
    "sampler", [DDIM(0.7), DDPM(), DDPM("large"), DPMSolverPP(2, eta=1.0), EDMStochastic(churn=20.0)], ids=repr
)
def test_noise_is_the_same_where_rows_are(sampler: LinearSampler) -> None:
    denoiser, grid, x = Denoiser(network, VPLinear(), "data"), grids.uniform(STEPS, 0.9, 0.02), start(4, 3)

    def by_level(slots: range) -> object:  # one draw for all calls: the ragged run counts other calls
        noise = SlotNoise(3, slots)
        return lambda like, draw, role: noise(like, 0, role)

    state = State(x, torch.zeros(4, dtype=torch.long), torch.zeros(4, dtype=torch.long))
    scalar = go(sampler, denoiser, grid, x=x, noise=by_level)
    for given in (state, sampler.stagger(sampler.plan(VPLinear(), grid), x, DELAY)):
        torch.testing.assert_close(go(sampler, denoiser, grid, state=given, noise=by_level), scalar, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sampler", [DDIM(), Heun(), DPMSolverPP(3), DPMSolverPP(2, "singlestep"), UniPC(2)], ids=repr)
def test_product_states_at_different_rows(sampler: LinearSampler) -> None:
    """Coefficients are one a leaf and one a walker."""
    schedule = ProductSchedule(X=VPLinear(), A=CondOT(), clock="X")

    def both(x: dict[str, Tensor], t: Tensor) -> dict[str, Tensor]:
        mixed = x["X"].mean(1, keepdim=True)
        return {name: network(leaf + mixed, t) for name, leaf in x.items()}

    denoiser, grid = Denoiser(both, schedule, "data"), grids.uniform(STEPS, 0.9, 0.0)
    x = {"X": start(4, 3), "A": start(4, 5)}
    ragged = go(sampler, denoiser, grid, state=sampler.stagger(sampler.plan(schedule, grid), x, DELAY))
    torch.testing.assert_close(ragged, go(sampler, denoiser, grid, x=x), rtol=0, atol=1e-12)


def test_walkers_past_the_end_keep_while_others_walk() -> None:
    """Also where a noise prediction at sigma = 0 would be infinite; they are shown time 0."""
    seen = []

    def spy(x: Tensor, t: Tensor) -> Tensor:
        seen.append((t.clone(), x.clone()))
        return network(x, t)

    grid, x = grids.uniform(3, 0.9, 0.0), start(2, 3)
    sampler = DDIM()
    state = sampler.stagger(sampler.plan(VPLinear(), grid), x, torch.tensor([0, 2]))
    result = sample(Denoiser(spy, VPLinear(), "data"), sampler, grid, state=state, dtype=torch.float64)
    assert result.calls == 5
    times = torch.stack([t for t, _ in seen])
    torch.testing.assert_close(times[:, 0], torch.tensor([900.0, 600.0, 300.0, 0.0, 0.0], dtype=torch.float64))
    torch.testing.assert_close(times[:, 1], torch.tensor([900.0, 900.0, 900.0, 600.0, 300.0], dtype=torch.float64))
    assert torch.equal(seen[3][1][0], seen[4][1][0]) and torch.equal(seen[0][1][1], seen[2][1][1])
    assert torch.equal(result.x[0], seen[4][1][0])


def test_what_cannot_be_is_refused() -> None:
    grid, x = grids.uniform(4, 0.9), start(2, 4)
    plan = DDIM().plan(VPLinear(), grid)
    for delay in (torch.tensor([0, -1]), torch.tensor([0.0, 1.0])):
        with pytest.raises(ValueError, match=">= 0"):
            DDIM().stagger(plan, x, delay)
    with pytest.raises(ValueError, match=r"\(2, 4\), got \(3,\)"):
        DDIM().stagger(plan, x, torch.tensor([0, 1, 2]))
    spectral = Spectral((4.0, 1.0, 0.5, 1.0), (4,))
    state = DDIM().stagger(DDIM().plan(spectral, grid), x, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="spectral"):
        sample(Denoiser(network, spectral, "data"), DDIM(), grid, state=state)
