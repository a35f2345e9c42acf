"""A run is its State: stopping, going on, taking walkers, dropping history, looking on."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import Tensor

from scidiffuse.core import grids
from scidiffuse.core.closed_form import GaussianMixture
from scidiffuse.core.denoisers import Denoiser
from scidiffuse.core.hooks import Hook, Step
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
    Sampler,
    State,
    UniPC,
)
from scidiffuse.core.samplers.adaptive import AdaptiveDPM
from scidiffuse.core.schedules import VPLinear

DETERMINISTIC = [
    DDIM(), Euler(), Euler("time"), Heun(), DPMSolver(2), DPMSolver(3), DPMSolver(3, "multistep"), DPMSolverPP(2),
    DPMSolverPP(3), DPMSolverPP(3, "singlestep"), DPMSolverPP(3, startup="singlestep"), UniPC(1), UniPC(2), UniPC(3),
    UniPC(3, startup="singlestep"), PNDM(), PLMS(), IPNDM(), BDIA(), BELM(), AdaptiveDPM(3),
]  # fmt: skip
STOCHASTIC = [
    DDIM(0.7), DDPM(), DDPM("large"), EDMStochastic(churn=8.0), DPMSolverPP(2, eta=1.0),
    DPMSolverPP(2, "singlestep", eta=1.0),
]  # fmt: skip
DENOISER = GaussianMixture.example().denoiser(VPLinear())
GRID = grids.uniform(8, 0.9, 0.01)


def start(n: int = 6) -> Tensor:
    return torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def run(sampler: Sampler, **given: object):
    return sample(DENOISER, sampler, GRID, dtype=torch.float64, seed=2, **given)


def assert_same(a: State, b: State) -> None:
    assert torch.equal(a.x, b.x)
    assert set(a.memory) == set(b.memory) and all(torch.equal(a.memory[k], b.memory[k]) for k in a.memory)
    for left, right in ((a.i, b.i), (a.age, b.age), (a.t, b.t), (a.draws, b.draws)):
        assert torch.equal(left, right) if isinstance(left, Tensor) else left == right


@pytest.mark.parametrize("stop", [1, 3, 7])
@pytest.mark.parametrize("sampler", DETERMINISTIC + STOCHASTIC, ids=repr)
def test_stop_and_go_on_is_one_run_to_the_bit(sampler: Sampler, stop: int) -> None:
    whole = run(sampler, x=start())
    part = run(sampler, x=start(), until=stop)
    assert bool(torch.as_tensor(part.state.i == stop).all())
    rest = run(sampler, state=part.state)
    assert_same(rest.state, whole.state)
    assert part.calls + rest.calls == whole.calls


@pytest.mark.parametrize("sampler", DETERMINISTIC + STOCHASTIC, ids=repr)
def test_looking_on_changes_nothing_to_the_bit(sampler: Sampler) -> None:
    class LooksOn(Hook):
        seen = 0

        def on_prediction(self, step: Step) -> Step:
            LooksOn.seen += 1
            return step

    hooked, plain = run(sampler, x=start(), hooks=[LooksOn()]), run(sampler, x=start())
    assert_same(hooked.state, plain.state)
    assert LooksOn.seen == hooked.calls == plain.calls


@pytest.mark.parametrize("index", [[3, 0, 0, 5], [5, 4, 3, 2, 1, 0], [2]], ids=str)
@pytest.mark.parametrize("sampler", DETERMINISTIC, ids=repr)
def test_taken_walkers_go_on_as_if_alone(sampler: Sampler, index: list[int]) -> None:
    part = run(sampler, x=start(), until=4).state
    together = run(sampler, state=part.take(torch.tensor(index))).x
    for k, walker in enumerate(index):
        alone = run(sampler, x=start()[walker : walker + 1]).x
        torch.testing.assert_close(together[k : k + 1], alone, rtol=0, atol=1e-13)


@pytest.mark.parametrize("sampler", STOCHASTIC, ids=repr)
def test_taken_walkers_get_the_noise_of_their_new_place(sampler: Sampler) -> None:
    """Copies of one walker part ways, and slot k gets the noise of slot k."""
    part = run(sampler, x=start(), until=4).state
    together = run(sampler, state=part.take(torch.tensor([3, 0, 0, 5]))).x
    for k, walker in enumerate([3, 0, 0, 5]):
        alone = run(sampler, state=part.take(slice(walker, walker + 1)), slots=range(k, k + 1)).x
        torch.testing.assert_close(together[k : k + 1], alone, rtol=0, atol=1e-13)
    assert (together[1] - together[2]).abs().max() > 1e-3


def test_take_takes_everything_that_belongs_to_a_walker() -> None:
    place = torch.arange(3)
    state = State(
        {"X": torch.eye(3)}, place, 10 + place, {"P1": {"X": torch.eye(3)}}, {"w": 0.1 * place}, 0.5 * place, draws=4
    )
    taken = state.take(torch.tensor([2, 2, 0]))
    assert taken.i.tolist() == [2, 2, 0] and taken.age.tolist() == [12, 12, 10] and taken.draws == 4
    assert torch.equal(taken.x["X"], torch.eye(3)[[2, 2, 0]]) and torch.equal(taken.memory["P1"]["X"], taken.x["X"])
    assert torch.allclose(taken.aux["w"], torch.tensor([0.2, 0.2, 0.0])) and taken.t.tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("sampler", [DPMSolverPP(3), UniPC(2), IPNDM(), BDIA()], ids=repr)
def test_restart_forgets(sampler: Sampler) -> None:
    """Going on after a restart is a run that begins there."""
    part = run(sampler, x=start(), until=3).state
    edited = part.restart(part.x + 0.1)
    assert edited.memory == {} and edited.age == 0 and edited.i == 3
    rest = sample(DENOISER, sampler, grids.explicit(GRID.times[3:]), x=part.x + 0.1, dtype=torch.float64).x
    again = run(sampler, state=edited).x
    kept = run(sampler, state=State(part.x + 0.1, 3, part.age, part.memory)).x
    torch.testing.assert_close(again, rest, rtol=0, atol=1e-13)
    assert (again - kept).abs().max() > 1e-4


@pytest.mark.parametrize("sampler", [DDIM(), DPMSolverPP(3), UniPC(3), IPNDM()], ids=repr)
def test_accepting_and_rejecting_a_sample_at_a_time(sampler: Sampler) -> None:
    """Walkers of a restarted state and of an untouched one, in one state: ages differ, results do not."""
    part = run(sampler, x=start(), until=4).state
    mask = torch.tensor([True, False, True, False, False, True])
    restarted = part.restart(part.x - 0.2)
    mixed = run(sampler, state=restarted.where(mask, part)).x
    expected = torch.where(mask[:, None], run(sampler, state=restarted).x, run(sampler, state=part).x)
    torch.testing.assert_close(mixed, expected, rtol=0, atol=1e-12)
    back = run(sampler, x=start(), until=2).state  # accepted walkers at row 4, rejected ones at row 2
    mixed = run(sampler, state=part.where(mask, back)).x
    torch.testing.assert_close(mixed, run(sampler, x=start()).x, rtol=0, atol=1e-12)


def test_restart_and_where_with_one_row_an_element() -> None:
    i = torch.tensor([[0, 1], [2, 3]])
    state = State(torch.zeros(2, 2, 3), i, i)
    assert torch.equal(state.restart(state.x).age, torch.zeros_like(i))
    chosen = state.where(torch.tensor([True, False]), State(torch.ones(2, 2, 3), 7, 5))
    assert chosen.i.tolist() == [[0, 1], [7, 7]] and chosen.age.tolist() == [[0, 1], [5, 5]]
    assert chosen.x[:, 0, 0].tolist() == [0.0, 1.0]


def test_nothing_is_left_to_do() -> None:
    done = run(DDIM(), x=start())
    assert done.state.i == 8 and run(DDIM(), state=done.state).calls == 0
    again = run(DDIM(), state=done.state, until=3)  # does not go back
    assert again.state.i == 8 and torch.equal(again.x, done.x)


@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize(
    ("sampler", "registers"), [(DDIM(), 0), (DPMSolverPP(2), 1), (DPMSolverPP(3), 2), (BDIA(), 1)], ids=str
)
def test_memory_is_x_and_the_registers(sampler: Sampler, registers: int, hooked: bool) -> None:
    """What lives while the network is asked: x, the declared registers, and the start (needed to repeat a run)."""
    shape, counts, calls = (3, 97), [], []

    def network(x: Tensor, t: Tensor) -> Tensor:
        calls.append(t)
        if len(calls) == 6:
            storages = (o.untyped_storage() for o in gc.get_objects() if type(o) is Tensor and o.shape == shape)
            counts.append(len({s.data_ptr() for s in storages if s.nbytes() >= 4 * 3 * 97}))
        return 0.1 * x

    denoiser = Denoiser(network, VPLinear(), "velocity")
    assert len(sampler.plan(VPLinear(), GRID).memory) == registers
    sample(denoiser, sampler, GRID, shape=shape, seed=0, hooks=[Hook()] if hooked else ())
    assert counts == [2 + registers]
