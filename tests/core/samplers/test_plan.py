"""Tables of rows: consistency of every row of every method, registers, levels, gathering."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from scidiffuse.core import grids
from scidiffuse.core.denoisers import Denoiser
from scidiffuse.core.hooks import Record
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
    UniPC,
)
from scidiffuse.core.schedules import (
    VE,
    CondOT,
    DiscreteBetas,
    MeanReverting,
    ProductSchedule,
    Residual,
    Schedule,
    Spectral,
    VPCosine,
    VPLinear,
)

CALLS = {
    DDIM(): 1, DDIM(0.5): 1, DDPM(): 1, DDPM("large"): 1, Euler(): 1, EDMStochastic(heun=False): 1, DPMSolver(1): 1,
    DPMSolver(2): 2, DPMSolver(3): 3, DPMSolver(3, "multistep"): 1, DPMSolverPP(1): 1, DPMSolverPP(2): 1,
    DPMSolverPP(2, variant="heun"): 1, DPMSolverPP(3): 1, DPMSolverPP(3, compat="published"): 1,
    DPMSolverPP(2, "singlestep"): 2, DPMSolverPP(2, "singlestep", "heun"): 2, DPMSolverPP(3, "singlestep"): 3,
    DPMSolverPP(2, eta=1.0): 1, DPMSolverPP(3, eta=0.5): 1, DPMSolverPP(2, "singlestep", eta=1.0): 2, UniPC(1): 1,
    UniPC(2): 1, UniPC(3): 1, UniPC(2, "bh1"): 1, UniPC(3, "exact"): 1, IPNDM(): 1, BDIA(): 1, BDIA(0.3): 1, BELM(): 1,
    Heun(): 2, EDMStochastic(): 2,
}  # fmt: skip
SAMPLERS = [*CALLS, PNDM(), PLMS(), DPMSolverPP(3, startup="singlestep"), UniPC(3, startup="singlestep")]
GRID = grids.uniform(9, 0.95, 0.02)


@pytest.mark.parametrize("schedule", [VPLinear(), VPCosine(), VE(), CondOT(), MeanReverting(), Residual()], ids=repr)
@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
@pytest.mark.parametrize("end", [0.0, 0.02])
def test_rows_are_exact_where_the_predictions_do_not_change(
    sampler: LinearSampler, schedule: object, end: float
) -> None:
    """x = alpha x0 + beta y + sigma n with constant x0 and n stays so: exactly, at every row and every age.

    Of stochastic methods that is the mean: they replace part of sigma n by fresh noise.
    """
    grid = grids.uniform(9, 0.95, end)
    plan = sampler.plan(schedule, grid)
    x0, n, y = 1.3, (0.0 if sampler.stochastic else -0.7), 0.4

    def state(t: float) -> float:
        return schedule.alpha(t) * x0 + schedule.beta(t) * y + schedule.sigma(t) * n

    levels = {"x": grid.times[0]}
    registers, known = {"x": state(grid.times[0])}, 0
    for ages in plan.rows:
        written = {}
        for age, row in enumerate(ages):
            assert row.levels.keys() <= row.out.keys() and row.gains in (0, 1)
            letters = {**registers, "D": x0, "N": n, "P": x0 if row.use == "data" else n, "z": 0.0, "y": y}
            letters["q"] = sum(c * letters[s] for s, c in row.query.items())
            assert letters["q"] == pytest.approx(state(row.t), abs=1e-11)
            if age > known:
                continue  # more history than there can be
            for register, terms in row.out.items():
                value = sum(c * letters[s] for s, c in terms.items())
                if register == "x":
                    assert value == pytest.approx(state(row.t_next), abs=2e-11)
                elif register in row.levels:
                    assert value == pytest.approx(state(row.levels[register]), abs=2e-11)
                written[register] = value
        registers |= written
        known += ages[0].gains
        levels["x"] = ages[-1].t_next
    assert levels["x"] == end


@pytest.mark.parametrize(("sampler", "calls"), CALLS.items(), ids=repr)
def test_calls_steps_and_levels(sampler: LinearSampler, calls: int) -> None:
    for end in (0.02, 0.0):
        grid = grids.uniform(9, 0.95, end)
        plan = sampler.plan(VPLinear(), grid)
        assert plan.calls == len(plan.rows) == (9 * calls if end else 8 * calls + 1) == sampler.total(plan)
        assert [plan.rows[i][-1].step for i in range(plan.calls)] == sorted(r[-1].step for r in plan.rows)
        ends = [row[-1].t_next for row in plan.rows if row[-1].last]
        assert ends == list(grid.times[1:])
        assert plan.time(0) == grid.times[0] and plan.time(plan.calls) == end
        assert plan.row(plan.calls - 1, 99) is plan.rows[-1][-1]


def test_warm_up_calls() -> None:
    assert PNDM().plan(VPLinear(), GRID).calls == 9 + 3 * 3
    assert PLMS().plan(VPLinear(), GRID).calls == 9 + 1
    assert DPMSolverPP(3, startup="singlestep").plan(VPLinear(), GRID).calls == 9 + 2 * 2


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_planned_once(sampler: LinearSampler) -> None:
    plan = sampler.plan(VPLinear(), GRID)
    again = replace(sampler)
    assert again is not sampler
    assert again.plan(VPLinear(), grids.uniform(9, 0.95, 0.02)) is plan
    assert again.plan(VPLinear(beta_max=19.0), GRID) is not plan
    assert plan.scalar and any(row.noisy for ages in plan.rows for row in ages) == sampler.stochastic
    # the noise of churn is part of what is asked about: x afterwards is known with the prediction
    assert all(row.std == row.out["x"].get("z", 0.0) for ages in plan.rows for row in ages)


@pytest.mark.parametrize("sampler", [s for s in SAMPLERS if not isinstance(s, PNDM | PLMS)], ids=repr)
def test_registers_hold_what_they_claim(sampler: LinearSampler) -> None:
    """Every letter that a row reads is there: written before, or given by the engine."""
    plan = sampler.plan(VPLinear(), GRID)
    held = {"x"}
    age = 0
    for i in range(plan.calls):
        row = plan.row(i, age)
        assert row.sources <= held | {"P", "D", "N", "V", "z", "y", "q"}
        held |= set(row.out)
        age += row.gains
    assert held == {"x", *plan.memory}


def test_references_enter_by_what_is_missing() -> None:
    """beta(t_next) - sum of c beta(level): for one DDIM row that is beta(t_next) itself, for UniPC at each register."""
    schedule = MeanReverting()
    row = DDIM().plan(schedule, GRID).row(3, 0)
    assert row.out["x"]["y"] == schedule.beta(row.t_next)
    row = UniPC(2).plan(schedule, GRID).row(4, 2)
    assert row.out["xs"]["y"] == pytest.approx(
        schedule.beta(row.t) - row.out["xs"]["xs"] * schedule.beta(GRID.times[3])
    )
    assert "y" not in DDIM().plan(VPLinear(), GRID).row(3, 0).out["x"]


def test_products_merge_the_rows_of_their_leaves() -> None:
    schedule = ProductSchedule(X=VPLinear(), A=CondOT(), r=MeanReverting(), clock="X")
    plan = DPMSolverPP(2).plan(schedule, GRID)
    assert not plan.scalar and plan.calls == 9 and plan.memory == ("P1",)
    for name, leaf in schedule.leaves.items():
        alone = DPMSolverPP(2).plan(leaf, GRID)
        for i in range(9):
            for age in range(2):
                row, own = plan.row(i, age), alone.row(i, age)
                for source in ("x", "P", "P1", "y"):
                    c = row.out["x"].get(source, 0.0)
                    assert (c[name] if isinstance(c, dict) else c) == own.out["x"].get(source, 0.0)
    same = ProductSchedule(X=VPLinear(), A=VPLinear(), clock="X")
    assert DPMSolverPP(2).plan(same, GRID).scalar  # equal leaves share plain numbers


def test_gathered_rows_are_the_rows() -> None:
    plan = DPMSolverPP(3).plan(VPLinear(), GRID)
    i, age = torch.tensor([-2, 0, 1, 5, 8, 9, 30]), torch.tensor([0, 0, 1, 2, 7, 2, 2])
    row = plan.gather(i, age)
    assert row.t.dtype == torch.float64
    for k in range(1, 5):
        own = plan.row(int(i[k]), int(age[k]))
        assert row.t[k] == own.t and row.t_next[k] == own.t_next and row.gains[k] == own.gains and row.std[k] == own.std
        for source in ("x", "P", "P1", "P2"):
            assert row.out["x"][source][k] == own.out["x"].get(source, 0.0)
    for k in (0, 5, 6):  # waiting, done, long done: identity
        assert row.out["x"]["x"][k] == 1.0 and row.out["P1"]["P1"][k] == 1.0 and row.gains[k] == 0
        assert row.out["x"]["P"][k] == row.out["P1"]["P"][k] == 0.0
    assert row.t[0] == 0.95 and row.t[5] == row.t[6] == 0.02
    spectral = DDIM().plan(Spectral((4.0, 1.0, 0.5, 1.0), (4,)), GRID)
    assert not spectral.scalar
    with pytest.raises(ValueError, match="spectral"):
        spectral.gather(i, age)


def test_spectral_last_step_of_large_variance_adds_no_noise() -> None:
    schedule = Spectral((4.0, 1.0, 0.5, 1.0), (4,))
    plan = DDPM("large").plan(schedule, grids.uniform(5, 0.9, 0.0))
    assert (torch.as_tensor(plan.rows[-1][0].out["x"]["z"]) == 0).all()
    assert (plan.rows[0][0].out["x"]["z"] > 0).all()


@pytest.mark.parametrize(
    "schedule",
    [MeanReverting(), MeanReverting(theta="linear"), VPLinear(0.1, 8.0), DiscreteBetas.linear(1e-4, 0.1, 100)],
    ids=repr,
)
def test_churn_goes_as_far_as_the_schedule(schedule: Schedule) -> None:
    """Their largest noise level lies below s_max: from the last time nothing is added, and never more than there."""
    sampler, grid = EDMStochastic(), grids.uniform(50)
    rows = [ages[0] for ages in sampler.plan(schedule, grid).rows]
    assert all(row.t <= 1.0 for row in rows)
    assert rows[0].t == 1.0 and not rows[0].noisy
    assert rows[2].t == 1.0 and rows[2].noisy  # 0.98, raised to the end
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    given = {"x": x, "seed": 0, "reference": torch.ones(4, 3) if isinstance(schedule, MeanReverting) else None}
    denoiser = Denoiser(lambda x, t: 0.5 * x, schedule, "data")
    seen = sample(denoiser, sampler, grid, hooks=[Record()], **given).x
    assert torch.equal(sample(denoiser, sampler, grid, **given).x, seen)
