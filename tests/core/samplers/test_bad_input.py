"""What is wrong is refused, with the number or the name in the message."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from scidiffuse.core import grids
from scidiffuse.core.denoisers import Denoiser
from scidiffuse.core.grids import Grid
from scidiffuse.core.hooks import Clamp
from scidiffuse.core.noise import Recorded
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
    UniPC,
    invert,
)
from scidiffuse.core.schedules import EDM, CondOT, MeanReverting, PFGMpp, ProductSchedule, VPLinear
from scidiffuse.core.spaces import Euclidean, Masked, Product, ZeroCoM

X = torch.zeros(3, 4)
GRID = grids.uniform(6, 0.9, 0.0)


def go(
    sampler: Sampler | None = None, schedule: object = None, kind: str = "data", network: object = None, **given: object
):
    denoiser = Denoiser(
        network or (lambda x, t, **condition: 0.5 * x), schedule or VPLinear(), kind, given.pop("on", None)
    )
    given = {"grid": GRID, "shape": (3, 4), "seed": 0, **given}
    return sample(denoiser, sampler or DDIM(), **{k: v for k, v in given.items() if v is not None})


STATE = go().state

CASES = {
    # the grid
    "one time": (lambda: Grid((0.5,)), ValueError, "at least two times"),
    "not monotone": (lambda: Grid((0.9, 0.5, 0.6)), ValueError, "0.6"),
    "repeated time": (lambda: Grid((0.9, 0.5, 0.5)), ValueError, "0.5"),
    "not finite": (lambda: Grid((math.nan, 0.5)), ValueError, r"times\[0\]"),
    "outside": (lambda: go(grid=Grid((1.5, 0.5))), ValueError, r"1\.5.*VPLinear"),
    "index as time": (lambda: go(grid=Grid((999, 500, 0))), ValueError, "999"),
    "clean inside": (lambda: go(EDMStochastic(), EDM(), grid=Grid((0.5, 0.0, -0.5))), ValueError, r"-0\.5|times\[1\]"),
    "clean start": (lambda: go(UniPC(2), grid=Grid((0.0, 0.2, 0.4)), kind="data"), ValueError, "sigma = 0"),
    "no grid": (lambda: go(grid=None), ValueError, "grid= or steps="),
    "no steps": (lambda: go(grid=None, steps=0), ValueError, "got 0"),
    "both": (lambda: go(steps=7), ValueError, "6 steps, steps=7"),
    "times for a grid": (lambda: go(grid=(0.9, 0.5)), TypeError, "tuple"),
    "until below 0": (lambda: go(until=-1), ValueError, "-1"),
    "until 1.5": (lambda: go(until=1.5), ValueError, r"1\.5"),
    # the method
    "name for a sampler": (lambda: go("ddim"), TypeError, r"DDIM\(\), got 'ddim'"),
    "class for a sampler": (lambda: go(DDIM), TypeError, r"DDIM\(\), got <class"),
    "one hook": (lambda: go(hooks=Clamp()), TypeError, r"hooks=\[\.\.\.\]"),
    "order 4": (lambda: DPMSolverPP(4), ValueError, "1, 2 or 3, got 4"),
    "order 0": (lambda: UniPC(0), ValueError, "got 0"),
    "order 5": (lambda: IPNDM(5), ValueError, "got 5"),
    "order above steps": (lambda: go(DPMSolverPP(3), grid=grids.uniform(2, 0.9)), ValueError, "order 3, the grid has 2"),  # noqa: E501
    "order above one step": (lambda: go(UniPC(2), grid=None, steps=1), ValueError, "order 2, the grid has 1"),
    "method": (lambda: DPMSolver(2, "many"), ValueError, "'many'"),
    "variant": (lambda: UniPC(2, "bh3"), ValueError, "'bh3'"),
    "variable": (lambda: Euler("kappa"), ValueError, "'kappa'"),
    "compat": (lambda: DPMSolverPP(3, compat="theirs"), ValueError, "'theirs'"),
    "eta above 1": (lambda: DDIM(1.5), ValueError, "1.5"),
    "eta below 0": (lambda: DPMSolverPP(2, eta=-0.5), ValueError, "-0.5"),
    "variance": (lambda: DDPM("huge"), ValueError, "'huge'"),
    "churn": (lambda: EDMStochastic(churn=-1.0), ValueError, "churn=-1.0"),
    "gamma 0": (lambda: BDIA(0.0), ValueError, r"\(0, 1\], got 0.0"),
    "gamma above 1": (lambda: BDIA(1.2), ValueError, "got 1.2"),
    "third-order SDE": (lambda: DPMSolverPP(3, "singlestep", eta=1.0), ValueError, "third-order"),
    # noise families
    "student SDE": (lambda: go(DDPM(), PFGMpp(), grid=grids.karras(PFGMpp(), 5)), ValueError, "Student-t.*deterministic"),  # noqa: E501
    "student churn": (lambda: go(EDMStochastic(), PFGMpp(), grid=grids.karras(PFGMpp(), 5)), ValueError, "student"),
    "student SDE++": (lambda: go(DPMSolverPP(2, eta=1.0), PFGMpp(), grid=grids.karras(PFGMpp(), 5)), ValueError, "Student-t"),  # noqa: E501
    # the state
    "nothing": (lambda: go(shape=None), ValueError, "got none"),
    "x and shape": (lambda: go(x=X), ValueError, "got x and shape"),
    "x and state": (lambda: go(x=X, shape=None, state=STATE), ValueError, "got x and state"),
    "empty batch": (lambda: go(shape=(0, 4)), ValueError, "empty"),
    "no batch": (lambda: go(shape=None, x=torch.zeros(())), ValueError, "batch dimension"),
    "numpy": (lambda: go(shape=None, x=np.zeros((3, 4))), TypeError, "ndarray"),
    "integers as type": (lambda: go(dtype=torch.int64), TypeError, "int64"),
    "leaves": (lambda: go(shape={"X": (3, 4), "B": (3,)}, schedule=ProductSchedule(X=VPLinear(), A=VPLinear(), clock="X")),  # noqa: E501
               ValueError, r"\['A', 'X'\], got leaves \['B', 'X'\]"),
    "no leaves": (lambda: go(schedule=ProductSchedule(X=VPLinear(), clock="X")), ValueError, "got one tensor"),
    "leaf sizes": (lambda: go(shape={"X": (3, 4), "A": (2, 4)}), ValueError, r"\[2, 3\]"),
    "space and state": (lambda: go(on=Product(X=Euclidean())), TypeError, r"\['X'\], got Tensor"),
    "mask and state": (lambda: go(on=Masked(torch.ones(3, 5).bool())), ValueError, r"\(3, 5\).*\(3, 4\)"),
    "mask of numbers": (lambda: Masked(torch.ones(3, 5)), TypeError, "boolean"),
    "empty mask": (lambda: Masked(torch.zeros(3, 5).bool()), ValueError, "sample 0"),
    "one atom": (lambda: ZeroCoM(torch.tensor([[True, False]])), ValueError, "sample 0 has one point"),
    # the network
    "output shape": (lambda: go(network=lambda x, t: x[:, :3]), ValueError, r"\(3, 4\), got \(3, 3\)"),
    "output type": (lambda: go(network=lambda x, t: (x, t)), ValueError, "got tuple"),
    "condition name": (lambda: go(condition={"label": torch.zeros(3)}), ValueError, "'label'"),
    # references
    "reference missing": (lambda: go(schedule=MeanReverting()), ValueError, r"MeanReverting.*reference="),
    "reference missing, encoding": (
        lambda: go(schedule=MeanReverting(), grid=Grid((0.1, 0.9)), shape=None, x=X), ValueError, "reference="),
    "reference shape": (lambda: go(schedule=MeanReverting(), reference=torch.zeros(3, 5)), ValueError, r"\(3, 4\), got \(3, 5\)"),  # noqa: E501
    # randomness
    "no seed": (lambda: go(seed=None), ValueError, "seed="),
    "no seed on the way": (lambda: go(DDPM(), seed=None, shape=None, x=X), ValueError, "seed="),
    "generator as seed": (lambda: go(seed=torch.Generator()), TypeError, "Generator"),
    "seed 0.5": (lambda: go(seed=0.5), TypeError, "float"),
    "seed True": (lambda: go(seed=True), TypeError, "bool"),
    "seed and noise": (lambda: go(noise=Recorded([])), ValueError, "not both"),
    "noise used up": (lambda: go(noise=Recorded([X]), seed=None, sampler=DDPM()), ValueError, "1 recorded draws are used up"),  # noqa: E501
    "slots": (lambda: go(slots=range(4)), ValueError, "4 samples, the batch holds 3"),
    "max_batch 0": (lambda: go(max_batch=0), ValueError, "max_batch=0"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(CASES))
def test_refused(name: str) -> None:
    make, error, message = CASES[name]
    with pytest.raises(error, match=message):
        make()


ENCODING = Grid((0.1, 0.4, 0.8))


@pytest.mark.parametrize("sampler", [DDIM(0.3), DDPM(), EDMStochastic(), DPMSolverPP(2, eta=0.5)], ids=repr)
def test_noise_cannot_be_added_on_the_way_back(sampler: Sampler) -> None:
    with pytest.raises(ValueError, match=r"encode"):
        go(sampler, grid=ENCODING, shape=None, x=X)
    assert go(DDIM(), grid=ENCODING, shape=None, x=X).calls == 2


@pytest.mark.parametrize("sampler", [DDIM(), Euler(), Heun(), DPMSolverPP(2), DPMSolver(2), UniPC(2)], ids=repr)
def test_no_data_at_the_start(sampler: Sampler) -> None:
    """alpha = 0 at t = 1: a noise prediction says nothing about data there, the others do."""
    grid = grids.uniform(6)
    with pytest.raises(ValueError, match=r"alpha = 0.*data, velocity or flow"):
        go(sampler, CondOT(), "noise", grid=grid)
    for kind in ("data", "velocity", "flow"):
        assert torch.isfinite(go(sampler, CondOT(), kind, grid=grid).x).all()


@pytest.mark.parametrize("sampler", [PNDM(), PLMS(), IPNDM(), BDIA(), BELM()], ids=repr)
def test_methods_on_the_noise_cannot_start_without_data(sampler: Sampler) -> None:
    with pytest.raises(ValueError, match=r"t=1\.0, where alpha = 0"):
        go(sampler, CondOT(), grid=grids.uniform(6))


@pytest.mark.parametrize("width", [None, 2])
@pytest.mark.parametrize("sampler", [DDIM(), DDPM(), DPMSolverPP(2)], ids=repr)
def test_a_network_that_breaks_is_named_by_call_and_time(sampler: Sampler, width: int | None) -> None:
    calls = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        calls.append(len(x))
        return torch.where(t[:, None] < 500.0, math.nan, 0.5) * x

    where = r"network's output stopped being finite at call 3 \(t=0\.45\), first in sample 0"
    with pytest.raises(FloatingPointError, match=where):
        go(sampler, network=network, max_batch=width)
    assert len(calls) == 6 + 4  # the run, and its repetition up to the broken call


def test_only_the_broken_sample_is_named_and_recorded_noise_plays_again() -> None:
    def network(x: Tensor, t: Tensor) -> Tensor:
        return torch.where((t < 500.0)[:, None] & (torch.arange(len(x)) == 2)[:, None], math.inf, 0.5 * x)

    draws = [torch.randn(3, 4, generator=torch.Generator().manual_seed(k)) for k in range(7)]
    with pytest.raises(FloatingPointError, match=r"call 3 .* first in sample 2 of 3"):
        go(DDPM(), network=network, seed=None, noise=Recorded(draws))


def test_a_good_run_asks_nothing_twice() -> None:
    calls = []
    for sampler, n in ((DDIM(), 6), (DDPM(), 6), (Heun(), 11), (UniPC(2), 6)):
        calls.clear()
        result = go(sampler, network=lambda x, t: calls.append(t) or 0.5 * x)
        assert len(calls) == result.calls == n


def test_a_start_that_is_not_finite() -> None:
    with pytest.raises(FloatingPointError, match=r"state stopped being finite at call 0 \(t=0\.9\), first in sample 1"):
        go(shape=None, x=torch.tensor([[0.0], [math.nan]]))


def test_inversion_needs_a_method_and_the_end_of_its_run() -> None:
    denoiser = Denoiser(lambda x, t: 0.5 * x, VPLinear(), "data")
    grid = grids.uniform(6, 0.9, 0.1)
    with pytest.raises(ValueError, match=r"DDIM.*BDIA\(\) or BELM\(\)"):
        invert(denoiser, DDIM(), DDIM().plan(VPLinear(), grid), STATE)
    plan = BDIA().plan(VPLinear(), grid)
    x = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    half = sample(denoiser, BDIA(), grid, x=x, until=3, dtype=torch.float64).state
    with pytest.raises(ValueError, match=r"run of 6 calls.*got i=3, age=3"):
        invert(denoiser, BDIA(), plan, half)
    end = sample(denoiser, BDIA(), grid, state=half, dtype=torch.float64).state
    with pytest.raises(ValueError, match="age=0"):
        invert(denoiser, BDIA(), plan, end.restart(end.x))
    torch.testing.assert_close(invert(denoiser, BDIA(), plan, end), x, rtol=0, atol=1e-12)


def test_numpy_seeds_are_integers() -> None:
    assert torch.equal(go(seed=np.int64(3)).x, go(seed=3).x)
