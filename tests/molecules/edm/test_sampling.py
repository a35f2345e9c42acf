"""The law of samples through the joint space, and its invariance."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch

from scidiffuse.core.denoisers import Denoiser
from scidiffuse.core.noise import SlotNoise
from scidiffuse.core.sample import sample
from scidiffuse.core.samplers import DDIM, DDPM
from scidiffuse.molecules.edm.features import space_of
from scidiffuse.molecules.edm.schedule import level, polynomial, times_of
from scidiffuse.molecules.networks.egnn import EGNN

SD = {"x": 1.5, "h": 0.2}


def gaussian(schedule):
    """The exact noise prediction for data N(0, sd^2) in each leaf: sigma x_t / (alpha^2 sd^2 + sigma^2)."""

    def network(x, label, atoms):
        t = (float(label[0]) * (schedule.num_steps - 1) + 1) / schedule.num_steps
        a, s = schedule.alpha(t), schedule.sigma(t)
        return {name: leaf * (s / (a * a * SD[name] ** 2 + s * s)) for name, leaf in x.items()}

    return Denoiser(network, schedule, "noise", label=level)


def chain(schedule, times, sd, eta):
    """Variance of the samples of Gaussian data: the sampler is linear, so that its variances follow by hand."""
    v = 1.0
    for t, u in pairwise(times):
        a, s, a2, s2 = schedule.alpha(t), schedule.sigma(t), schedule.alpha(u), schedule.sigma(u)
        noise = s / (a * a * sd * sd + s * s)
        data = (1 - s * noise) / a
        posterior = eta * (s2 / s) ** 2 * (s * s - (a / a2) ** 2 * s2 * s2)
        v = (a2 * data + (s2 * s2 - posterior) ** 0.5 * noise) ** 2 * v + posterior
    return v


@pytest.mark.parametrize(("sampler", "eta"), [(DDPM(), 1.0), (DDIM(), 0.0)])
def test_a_perfect_denoiser_samples_the_right_law(sampler, eta):
    schedule = polynomial(60)
    mask = torch.arange(6) < torch.tensor([2, 6, 4]).repeat(200)[:, None]
    grid = times_of(schedule, None)
    out = sample(
        gaussian(schedule), sampler, grid, shape={"x": (600, 6, 3), "h": (600, 6, 4)}, space=space_of(mask),
        condition={"atoms": mask}, seed=0, dtype=torch.float64,
    ).x  # fmt: skip
    freedom = {"x": (mask.sum(1) - 1) * 3, "h": mask.sum(1) * 4}
    for name, sd in SD.items():
        wanted = chain(schedule, grid.times, sd, eta)
        per_size = out[name].square().flatten(1).sum(1)
        for n in (2, 4, 6):
            rows = mask.sum(1) == n
            count = int(freedom[name][rows].sum())
            assert float(per_size[rows].sum() / count) == pytest.approx(wanted, rel=4.5 * (2 / count) ** 0.5)
    assert float(out["x"].sum(1).abs().max()) < 1e-10
    assert float(out["h"][~mask].abs().max()) == 0.0


def test_many_steps_reach_the_variance_of_the_data():
    schedule = polynomial(1000)
    for sd in SD.values():
        assert chain(schedule, times_of(schedule, None).times, sd, 1.0) == pytest.approx(sd * sd, rel=0.02)


@dataclass(frozen=True)
class Turned:
    """Noise whose positions are turned by q: what is drawn for x is a stream of 3 numbers an atom."""

    noise: SlotNoise
    q: torch.Tensor

    def __call__(self, like, draw, role):
        z = self.noise(like, draw, role)
        return (z.view(len(z), -1, 3) @ self.q.T).reshape(z.shape) if role.endswith("/x") else z


def test_turned_noise_gives_the_turned_sample():
    torch.manual_seed(0)
    network = EGNN(4, hidden=16, layers=2).double()
    with torch.no_grad():
        for layer in network.layers:
            layer.shift[-1].weight.normal_()
    q, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    mask = torch.arange(5) < torch.tensor([5, 3])[:, None]
    runs = [
        sample(
            Denoiser(network, polynomial(20), "noise", label=level), DDPM(), times_of(polynomial(20), None),
            shape={"x": (2, 5, 3), "h": (2, 5, 4)}, space=space_of(mask), condition={"atoms": mask},
            noise=lambda slots, turn=turn: Turned(SlotNoise(0, slots), turn), dtype=torch.float64,
        ).x
        for turn in (torch.eye(3, dtype=torch.float64), q)
    ]  # fmt: skip
    torch.testing.assert_close(runs[1]["x"], runs[0]["x"] @ q.T, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(runs[1]["h"], runs[0]["h"], rtol=1e-7, atol=1e-7)
