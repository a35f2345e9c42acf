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
from scidiffuse.molecules.networks.dual_track import DualTrack
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
class Moved:
    """Noise whose vectors of positions are turned by q, and whose atoms are permuted by p."""

    noise: SlotNoise
    q: torch.Tensor
    p: list[int]

    def __call__(self, like, draw, role):
        z = self.noise(like, draw, role)
        z = z.view(len(z), len(self.p), -1)[:, self.p]
        return (z @ self.q.T if role.endswith("/x") else z).reshape(like.shape)


def egnn():
    network = EGNN(4, hidden=16, layers=2).double()
    with torch.no_grad():
        for layer in network.layers:
            layer.shift[-1].weight.normal_()
    return network


def dual_track():
    network = DualTrack(4, width=8, hidden=8, blocks=2, heads=2, outer=2, angle_step=0.5, dropout=0.0).double()
    with torch.no_grad():
        for block in network.blocks:
            block.shift[-1].weight.normal_()
    return network


@pytest.mark.parametrize("network", [egnn, dual_track])
def test_turned_and_permuted_noise_gives_the_turned_and_permuted_sample(network):
    torch.manual_seed(0)
    net = network()
    q, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    mask = torch.arange(5) < torch.tensor([5, 3])[:, None]
    p = [2, 0, 1, 3, 4]  # among atoms that both have

    def draw(q, p):
        return sample(
            Denoiser(net, polynomial(20), "noise", label=level), DDPM(), times_of(polynomial(20), None),
            shape={"x": (2, 5, 3), "h": (2, 5, 4)}, space=space_of(mask), condition={"atoms": mask},
            noise=lambda slots: Moved(SlotNoise(0, slots), q, p), dtype=torch.float64,
        ).x  # fmt: skip

    plain, other = draw(torch.eye(3, dtype=torch.float64), list(range(5))), draw(q, p)
    torch.testing.assert_close(other["x"], plain["x"][:, p] @ q.T, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(other["h"], plain["h"][:, p], rtol=1e-7, atol=1e-7)
    assert float((plain["x"][0] - plain["x"][0, p]).abs().max()) > 0.1
