"""The loop: the same noise whatever the batch, types, priors, what is returned."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor, nn

from scidiffuse.core import grids
from scidiffuse.core.closed_form import GaussianMixture
from scidiffuse.core.denoisers import Denoiser
from scidiffuse.core.hooks import Hook, Record, Step
from scidiffuse.core.noise import SlotNoise
from scidiffuse.core.sample import prior, sample
from scidiffuse.core.samplers import BDIA, DDIM, DDPM, DPMSolverPP, EDMStochastic, Heun, Sampler, UniPC, invert
from scidiffuse.core.samplers.adaptive import AdaptiveDPM
from scidiffuse.core.schedules import EDM, VE, MeanReverting, PFGMpp, Spectral, VPLinear
from scidiffuse.core.spaces import Euclidean

GRID = grids.uniform(6, 0.95, 0.0)


class Net(nn.Module):
    """A small real network with a condition."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Linear(9, 32), nn.SiLU(), nn.Linear(32, 6))

    def forward(self, x: Tensor, t: Tensor, c: Tensor) -> Tensor:
        return self.layers(torch.cat([x, c, t[:, None] / 1000], 1))


DENOISER = Denoiser(Net(), VPLinear(), "velocity")
CONDITION = {"c": torch.randn(11, 2, generator=torch.Generator().manual_seed(1))}


def go(sampler: Sampler, **given: object):
    return sample(DENOISER, sampler, GRID, **{"shape": (11, 6), "condition": CONDITION, "seed": 4, **given})


@pytest.mark.parametrize(
    "sampler", [DDIM(), DPMSolverPP(2), DDPM(), EDMStochastic(), DPMSolverPP(2, eta=1.0)], ids=repr
)
@pytest.mark.parametrize("width", [1, 3, 8, 10, 11, 50])
def test_the_batch_split_does_not_matter(sampler: Sampler, width: int) -> None:
    whole, parts = go(sampler), go(sampler, max_batch=width)
    torch.testing.assert_close(parts.x, whole.x, rtol=0, atol=1e-5)
    assert parts.calls == whole.calls and set(parts.state.memory) == set(whole.state.memory)
    torch.testing.assert_close(parts.state.memory, whole.state.memory, rtol=0, atol=1e-5)
    assert parts.state.draws == whole.state.draws


@pytest.mark.parametrize("sampler", [DDPM(), EDMStochastic(), DPMSolverPP(2, eta=1.0)], ids=repr)
def test_the_noise_is_the_same_to_the_bit(sampler: Sampler) -> None:
    heard: list[tuple[range, int, str, Tensor]] = []

    def spying(slots: range) -> object:
        noise = SlotNoise(4, slots)

        def draw(like: Tensor, k: int, role: str) -> Tensor:
            z = noise(like, k, role)
            heard.append((slots, k, role, z))
            return z

        return draw

    go(sampler, seed=None, noise=spying)
    whole = {(k, role): z for _, k, role, z in heard}
    heard.clear()
    go(sampler, seed=None, noise=spying, max_batch=4)
    assert {slots for slots, *_ in heard} == {range(4), range(4, 8), range(8, 11)}
    for slots, k, role, z in heard:
        assert torch.equal(z, whole[k, role][slots.start : slots.stop])
    assert len(heard) == 3 * len(whole) and ("prior" in {role for _, role in whole})


def test_shards_of_a_run_are_the_run() -> None:
    """Processes that sample slots 0..4 and 5..10 give what one process gives."""
    whole = go(DDPM()).x
    for slots in (range(5), range(5, 11)):
        part = slice(slots.start, slots.stop)
        x = go(DDPM(), shape=(len(slots), 6), slots=slots, condition={"c": CONDITION["c"][part]}).x
        torch.testing.assert_close(x, whole[part], rtol=0, atol=1e-5)
    assert torch.equal(go(DDPM()).x, whole) and not torch.equal(go(DDPM(), seed=5).x, whole)


@pytest.mark.parametrize(
    "noise", [functools.partial(SlotNoise, 4), lambda slots: SlotNoise(4, slots), SlotNoise(4, range(11))]
)
def test_noise_may_be_given_in_place_of_a_seed(noise: object) -> None:
    assert torch.equal(go(DDPM(), seed=None, noise=noise).x, go(DDPM()).x)


def test_conditions_references_and_samples_are_cut_together() -> None:
    seen = []

    def spy(x: Tensor, t: Tensor, c: Tensor, table: Tensor, flag: str) -> Tensor:
        seen.append((len(x), len(c), len(table), flag))
        return c.expand_as(x)

    y = torch.arange(5.0)[:, None].expand(5, 3)
    condition = {"c": torch.arange(5.0)[:, None], "table": torch.zeros(7, 2), "flag": "on"}
    denoiser = Denoiser(spy, MeanReverting(), "data")
    x = sample(denoiser, DDIM(), GRID, shape=(5, 3), seed=0, reference=y, condition=condition, max_batch=2).x
    torch.testing.assert_close(x, y)  # the data prediction is the condition, which equals y
    assert {s[:3] for s in seen} == {(2, 2, 7), (1, 1, 7)} and {s[3] for s in seen} == {"on"}


@pytest.mark.parametrize(
    ("dtype", "state", "tolerance"),
    [(torch.float32, torch.float32, 1e-5), (torch.bfloat16, torch.float32, 0.1), (torch.float16, torch.float32, 0.02)],
    ids=str,
)
def test_types_of_state_and_network(dtype: torch.dtype, state: torch.dtype, tolerance: float) -> None:
    wide = Denoiser(Net().double(), VPLinear(), "velocity")
    given = {"x": torch.randn(11, 6, generator=torch.Generator().manual_seed(0)), "shape": None}
    c = CONDITION["c"].double()
    exact = sample(wide, DPMSolverPP(2), GRID, x=given["x"], condition={"c": c}, dtype=torch.float64)
    result = go(DPMSolverPP(2), dtype=dtype, **given)
    assert exact.x.dtype == torch.float64 and result.x.dtype == state == result.state.memory["P1"].dtype
    error = (result.x - exact.x).abs().max()
    assert error < tolerance and (dtype == torch.float32 or error > 1e-5)


@pytest.mark.parametrize("schedule", [VPLinear(), VE(), EDM(), MeanReverting(), PFGMpp(D=50)], ids=repr)
def test_the_prior_is_the_state_without_data(schedule: object) -> None:
    reference = torch.full((20000, 2), 3.0, dtype=torch.float64)
    like, noise = torch.empty(20000, 2, dtype=torch.float64), SlotNoise(0, range(20000))
    x = prior(Denoiser(None, schedule), like, 0.8, noise, Euclidean(), reference)
    std = schedule.prior_std(0.8) * (50 / 48) ** (0.5 if schedule.family == "student" else 0.0)
    assert abs(x.mean() - 3.0 * schedule.beta(0.8)) < 0.02 * std
    assert abs(x.std() / std - 1.0) < 0.02
    again = sample(Denoiser(lambda x, t: x, schedule, "data"), DDIM(), grids.uniform(1, 0.8), shape=(20000, 2), seed=0,
                   reference=reference, dtype=torch.float64, until=0).x  # fmt: skip
    assert torch.equal(again, x)


def test_a_spectral_run_takes_and_gives_data_in_their_own_coordinates() -> None:
    """Gaussian data with a known spectrum: samples have it; encoding and decoding returns the data."""
    power = torch.tensor([6.0, 1.0, 0.3, 0.1, 0.05, 0.1, 0.3, 1.0], dtype=torch.float64)
    schedule = Spectral(tuple(power.tolist()), (8,))

    def network(x: Tensor, t: Tensor) -> Tensor:
        a, s = schedule.alpha(t.double()), schedule.sigma(t.double())
        gain = a * power / (a * a * power + s * s)
        return schedule.basis.inverse(gain * schedule.basis.forward(x))

    denoiser = Denoiser(network, schedule, "data", label=lambda schedule, t: t)
    x = sample(denoiser, DPMSolverPP(2), grids.uniform(60, 0.999), shape=(3000, 8), seed=0, dtype=torch.float64).x
    assert (schedule.basis.forward(x).square().mean(0) / power - 1.0).abs().max() < 0.15
    assert (x.square().mean(0) / power.mean() - 1.0).abs().max() < 0.1  # stationary
    times = grids.uniform(100, 0.9, 0.01).times
    encoded = sample(denoiser, DPMSolverPP(2), grids.explicit(times[::-1]), x=x[:5], dtype=torch.float64)
    decoded = sample(denoiser, DPMSolverPP(2), grids.explicit(times), x=encoded.x, dtype=torch.float64).x
    torch.testing.assert_close(decoded, x[:5], rtol=0, atol=1e-2)
    assert (encoded.x - x[:5]).abs().max() > 0.1


def test_results_may_take_part_in_autograd_and_be_written_to() -> None:
    result = go(DPMSolverPP(2), hooks=[Record()])
    for tensor in (result.x, *result.state.memory.values(), result.records["x"][0]):
        tensor.add_(1.0)
        w = torch.ones_like(tensor, requires_grad=True)
        (w * tensor).sum().backward()
        assert torch.equal(w.grad, tensor)


def test_gradients_are_possible_where_a_hook_needs_them() -> None:
    class Pull(Hook):
        needs_grad = True

        def on_prediction(self, step: Step) -> Step:
            with torch.enable_grad():
                x = step.query.x.clone().requires_grad_()
                loss = DENOISER(x, step.query.t, **CONDITION).data.square().sum()
                self.gradient = torch.autograd.grad(loss, x)[0]
            return step

    hook = Pull()
    assert torch.equal(go(DDIM(), hooks=[hook]).x, go(DDIM()).x) and hook.gradient.abs().max() > 0


def test_inversion_builds_no_graph() -> None:
    result = go(BDIA(), dtype=torch.float32)
    x = invert(DENOISER, BDIA(), BDIA().plan(VPLinear(), GRID), result.state, condition=CONDITION)
    assert not x.requires_grad


def test_records_of_chunks_that_need_different_numbers_of_calls() -> None:
    denoiser = GaussianMixture.example().denoiser(VPLinear())
    x = 3.0 * torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    given = {"x": x, "dtype": torch.float64, "hooks": [Record(what=("data",))]}
    parts = sample(denoiser, AdaptiveDPM(2, atol=1e-3), max_batch=1, **given)
    whole = sample(denoiser, AdaptiveDPM(2, atol=1e-3), **given)
    lengths = {sample(denoiser, AdaptiveDPM(2, atol=1e-3), **{**given, "x": x[k : k + 1]}).calls for k in range(4)}
    assert len(lengths) > 1 and parts.calls == whole.calls == max(lengths) == len(parts.records["data"])
    torch.testing.assert_close(parts.x, whole.x, rtol=0, atol=1e-12)
    assert all(entry.shape == (4, 2) for entry in parts.records["data"])


def test_calls_and_default_grid_and_progress(capsys: pytest.CaptureFixture[str]) -> None:
    for sampler, calls in ((DDIM(), 5), (Heun(), 9), (UniPC(2), 5), (DPMSolverPP(3, "singlestep"), 13)):
        result = sample(
            DENOISER, sampler, steps=5, shape=(3, 6), seed=0, condition={"c": torch.zeros(3, 2)}, progress=True
        )
        assert result.calls == calls and f"{calls}/{calls}" in capsys.readouterr().err
        same = sample(
            DENOISER, sampler, grids.default(VPLinear(), 5), shape=(3, 6), seed=0, condition={"c": torch.zeros(3, 2)}
        )
        assert torch.equal(same.x, result.x)
    go(DDIM(), progress=True, max_batch=4)
    assert "18/18" in capsys.readouterr().err


def test_states_of_one_number_a_sample() -> None:
    denoiser = Denoiser(lambda x, t: 0.5 * x, VPLinear(), "data")
    assert sample(denoiser, DPMSolverPP(2), GRID, shape=(4,), seed=0).x.shape == (4,)
    with pytest.raises(FloatingPointError, match="call 0"):
        sample(Denoiser(lambda x, t: x / 0.0, VPLinear(), "data"), DDIM(), GRID, shape=(4,), seed=0)


def test_what_is_no_denoiser_is_refused() -> None:
    from scidiffuse.core.training import FitResult

    result = FitResult(None, 0, [], None, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"got FitResult; pass its \.denoiser"):
        sample(result, DDIM(), steps=2, shape=(1, 2), seed=0)
