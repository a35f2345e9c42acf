"""Constrained states keep their constraint through every linear sampler, and padding changes nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scidiffuse.core import grids
from scidiffuse.core.denoisers import Denoiser
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
from scidiffuse.core.schedules import CondOT, MeanReverting, ProductSchedule, Spectral, VPLinear
from scidiffuse.core.spaces import Graph, Masked, Product, Space, ZeroCoM

DETERMINISTIC = [
    DDIM(), Euler(), Euler("time"), Heun(), Heun("time"), DPMSolver(1), DPMSolver(2), DPMSolver(3),
    DPMSolver(2, "multistep"), DPMSolver(3, "multistep"), DPMSolverPP(1), DPMSolverPP(2), DPMSolverPP(3),
    DPMSolverPP(3, compat="published"), DPMSolverPP(2, "singlestep"), DPMSolverPP(2, "singlestep", "heun"),
    DPMSolverPP(3, "singlestep"), DPMSolverPP(3, startup="singlestep"), UniPC(1), UniPC(2), UniPC(3),
    UniPC(2, startup="singlestep"), PNDM(), PLMS(), IPNDM(), BDIA(), BELM(),
]  # fmt: skip
STOCHASTIC = [
    DDIM(0.6), DDPM(), DDPM("large"), EDMStochastic(), EDMStochastic(heun=False), DPMSolverPP(2, eta=1.0),
    DPMSolverPP(3, eta=0.5), DPMSolverPP(2, "singlestep", eta=1.0),
]  # fmt: skip
EVERY = DETERMINISTIC + STOCHASTIC
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0]], dtype=torch.bool)
SCHEDULE = ProductSchedule(X=VPLinear(), A=CondOT(), clock="X")
STEPS = 6


def network(x: object, t: Tensor) -> object:
    """Leaves every subspace: a constant, and values at padded places and on the diagonal."""
    if isinstance(x, dict):
        return {name: network(leaf, t) for name, leaf in x.items()}
    ramp = torch.arange(x.shape[-1], dtype=x.dtype) / x.shape[-1]
    return torch.tanh(1.3 * x + ramp + 0.4) + (t / 1000).view(-1, *[1] * (x.ndim - 1)).to(x)


def run(
    sampler: LinearSampler, schedule: object, space: Space, shape: object, prediction: str = "data", **more: object
):
    grid = grids.uniform(STEPS, 0.9, 0.0)
    denoiser = Denoiser(network, schedule, prediction, space)
    return sample(denoiser, sampler, grid, shape=shape, seed=3, dtype=torch.float64, **more)


def assert_centred(x: Tensor, mask: Tensor) -> None:
    assert x[~mask].abs().max() == 0.0
    assert x.sum(1).abs().max() < 1e-13 * (1.0 + x.abs().max())


def assert_graph(x: Tensor, mask: Tensor) -> None:
    assert torch.equal(x, x.transpose(1, 2))
    assert x.diagonal(dim1=1, dim2=2).abs().max() == 0.0
    assert x[~mask].abs().max() == 0.0


@pytest.mark.parametrize("sampler", EVERY, ids=repr)
def test_point_clouds_stay_centred(sampler: LinearSampler) -> None:
    result = run(sampler, VPLinear(), ZeroCoM(MASK), (3, 5, 2))
    assert_centred(result.x, MASK)
    for register in result.state.memory.values():
        assert_centred(register, MASK)
    assert result.x[MASK].abs().min() > 1e-6


@pytest.mark.parametrize("sampler", EVERY, ids=repr)
def test_flow_predictions_are_projected(sampler: LinearSampler) -> None:
    assert_centred(run(sampler, CondOT(), ZeroCoM(MASK), (3, 5, 2), "flow").x, MASK)


@pytest.mark.parametrize("sampler", EVERY, ids=repr)
def test_product_of_a_graph_and_points_keeps_both(sampler: LinearSampler) -> None:
    space = Product(X=ZeroCoM(MASK), A=Graph(MASK))
    result = run(sampler, SCHEDULE, space, {"X": (3, 5, 2), "A": (3, 5, 5)})
    assert_centred(result.x["X"], MASK)
    assert_graph(result.x["A"], MASK)


@pytest.mark.parametrize("sampler", EVERY, ids=repr)
def test_reference_is_projected_too(sampler: LinearSampler) -> None:
    y = torch.randn(3, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 4.0
    assert_centred(run(sampler, MeanReverting(), ZeroCoM(MASK), (3, 5, 2), reference=y).x, MASK)


@pytest.mark.parametrize("sampler", EVERY, ids=repr)
def test_a_leaf_of_a_product_runs_as_if_alone(sampler: LinearSampler) -> None:
    """Leaves that do not talk: the clock's leaf equals its own run, whatever the other leaf is."""
    x = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    grid = grids.uniform(STEPS, SCHEDULE.t_start, 0.0)

    def noise(like: Tensor, draw: int, role: str) -> Tensor:
        return torch.randn(like.shape, dtype=like.dtype, generator=torch.Generator().manual_seed(draw))

    both = sample(
        Denoiser(network, SCHEDULE, "data"), sampler, grid, x={"X": x, "A": x}, noise=noise, dtype=torch.float64
    ).x
    alone = sample(Denoiser(network, VPLinear(), "data"), sampler, grid, x=x, noise=noise, dtype=torch.float64).x
    torch.testing.assert_close(both["X"], alone, rtol=0, atol=1e-13)
    assert (both["A"] - alone).abs().max() > 1e-3


@pytest.mark.parametrize(
    "sampler", [s for s in EVERY if not isinstance(s, PNDM | PLMS | IPNDM | BDIA | BELM)], ids=repr
)
def test_one_leaf_may_start_without_data(sampler: LinearSampler) -> None:
    """At t = 1 conditional OT holds no data while the other leaf does: the rows of both stay of one kind."""
    shape = {"X": (3, 4), "A": (3, 4)}
    denoiser = Denoiser(network, SCHEDULE, "data")
    x, fine = (
        sample(denoiser, method, grids.uniform(steps), shape=shape, seed=0, dtype=torch.float64).x
        for method, steps in ((sampler, 48), (DPMSolverPP(2), 400))
    )
    assert all(torch.isfinite(leaf).all() for leaf in x.values())
    if not sampler.stochastic:
        assert max((x[name] - fine[name]).abs().max() for name in x) < 0.1


def padded(mask: Tensor, more: int = 3) -> Tensor:
    return torch.cat([mask, mask.new_zeros(mask.shape[0], more)], 1)


def shrink(x: object, t: Tensor) -> object:
    """Elementwise, without regard for masks."""
    return {k: shrink(v, t) for k, v in x.items()} if isinstance(x, dict) else torch.tanh(1.5 * x) + 0.2


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)], ids=str)
@pytest.mark.parametrize("sampler", [DPMSolverPP(2), UniPC(3), Heun(), *STOCHASTIC], ids=repr)
def test_padding_changes_nothing(sampler: LinearSampler, dtype: torch.dtype, tolerance: float) -> None:
    grid = grids.uniform(STEPS, 0.9, 0.0)

    def go(mask: Tensor) -> dict[str, Tensor]:
        n = mask.shape[1]
        space = Product(X=ZeroCoM(mask), A=Graph(mask), h=Masked(mask))
        schedule = ProductSchedule(X=VPLinear(), A=CondOT(), h=VPLinear(), clock="X")
        shape = {"X": (3, n, 2), "A": (3, n, n, 2), "h": (3, n, 4)}
        return sample(Denoiser(shrink, schedule, "data", space), sampler, grid, shape=shape, seed=5, dtype=dtype).x

    small, large = go(MASK), go(padded(MASK))
    for name, leaf in small.items():
        cut = large[name][:, :5, :5] if name == "A" else large[name][:, :5]
        torch.testing.assert_close(cut, leaf, rtol=0, atol=tolerance)
        assert (large[name][:, 5:] == 0).all()


@pytest.mark.parametrize("space", [ZeroCoM(MASK), Product(X=ZeroCoM(MASK), h=Masked(MASK))], ids=repr)
def test_coefficients_that_vary_inside_a_sample_are_refused(space: Space) -> None:
    spectral = Spectral((4.0, 1.0, 0.5, 1.0, 4.0), (5, 1), axes=(-2,))
    plain = torch.zeros(3, 5, 2)
    single = isinstance(space, ZeroCoM)
    schedule = spectral if single else ProductSchedule(X=spectral, h=VPLinear(), clock="h")
    x = plain if single else {"X": plain, "h": plain}
    with pytest.raises(ValueError, match=r"ZeroCoM"):
        sample(Denoiser(network, schedule, "data", space), DDIM(), steps=5, x=x)
    denoiser = Denoiser(network, VPLinear(), "data", space)
    grid = grids.uniform(5, 0.9)
    state = DDIM().stagger(DDIM().plan(VPLinear(), grid), x, torch.zeros(3, 5, dtype=torch.long))
    with pytest.raises(ValueError, match=r"ZeroCoM.*\(B,\)"):
        sample(denoiser, DDIM(), grid, state=state)
    with pytest.raises(ValueError, match=r"ZeroCoM"):
        denoiser(x, torch.full((3, 5), 0.5))
    with pytest.raises(ValueError, match=r"ZeroCoM"):
        denoiser.add_noise(x, x, torch.full((3, 5), 0.5))


def test_an_unconstrained_leaf_may_be_spectral_beside_a_point_cloud() -> None:
    space = Product(X=ZeroCoM(MASK), h=Masked(torch.ones(3, 4, dtype=torch.bool)))
    schedule = ProductSchedule(X=VPLinear(), h=Spectral((4.0, 1.0, 0.5, 1.0), (4,)), clock="X")
    with pytest.raises(ValueError, match="frequencies"):  # a mask has no meaning there
        sample(Denoiser(network, schedule, "data", space), DDIM(), steps=5, shape={"X": (3, 5, 2), "h": (3, 4)}, seed=0)
