"""Weightings: their formulas, and that one weighting is one loss whatever the network predicts."""

import math

import pytest
import torch

from scidiffuse.core.denoisers import Denoiser
from scidiffuse.core.schedules import CondOT, Residual, VPLinear
from scidiffuse.core.training import SNR, EDMWeight, MinSNR, UniformNoise, denoising_loss
from scidiffuse.core.training.weightings import raw_weight

LAM = torch.linspace(-6, 6, 49, dtype=torch.float64)
SNR_ = (2 * LAM).exp()
K = (-LAM).exp()
WEIGHTINGS = [
    UniformNoise(),
    MinSNR(5.0),
    MinSNR(1.0),
    SNR(),
    SNR(0.5),
    SNR(shift=1.0),
    SNR(floor=1.0),
    EDMWeight(),
    EDMWeight(1.5),
]


@pytest.mark.parametrize(
    ("weighting", "expected"),
    [
        (UniformNoise(), SNR_),
        (MinSNR(5.0), SNR_.clamp(max=5)),
        (SNR(), SNR_),
        (SNR(0.5), SNR_.sqrt()),
        (SNR(shift=1.0), SNR_ + 1),
        (SNR(floor=1.0), SNR_.clamp(min=1)),
        (EDMWeight(0.5), (K**2 + 0.25) / (K * 0.5) ** 2),
    ],
)
def test_formulas(weighting, expected):
    assert torch.allclose(weighting(LAM), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("kind", "weighting", "schedule"),
    [
        ("noise", UniformNoise(), VPLinear()),
        ("data", SNR(0.0), VPLinear()),
        ("velocity", SNR(shift=1.0), VPLinear()),
        ("edm", EDMWeight(0.5), VPLinear()),
        ("edm", EDMWeight(0.5), CondOT()),
    ],
)
def test_weighting_of_one_on_the_raw_error(kind, weighting, schedule):
    """Each kind has a weighting of its own under which its plain loss is recovered."""
    t = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    weight = raw_weight(weighting, Denoiser(lambda x, t: x, schedule, kind), t)
    assert torch.allclose(weight, torch.ones_like(t), rtol=1e-10)


@pytest.mark.parametrize("schedule", [VPLinear(), CondOT()])
@pytest.mark.parametrize("kind", ["noise", "data", "velocity", "flow", "edm"])
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_loss_is_omega_times_the_error_of_the_data(kind, weighting, schedule):
    generator = torch.Generator().manual_seed(0)
    x0, n = (torch.randn(12, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    t = torch.linspace(0.05, 0.95, 12, dtype=torch.float64)
    denoiser = Denoiser(lambda x, label: torch.sin(3 * x) + 0.2, schedule, kind)
    loss = denoising_loss(denoiser, x0, t, noise=n, weighting=weighting, reduction="none")
    data = denoiser(denoiser.add_noise(x0, n, t), t).data
    expected = weighting(schedule.log_snr(t)) * (x0 - data).square().mean(1)
    assert torch.allclose(loss, expected, rtol=1e-9)


def test_vector_times_weigh_elements():
    generator = torch.Generator().manual_seed(0)
    x0, n = (torch.randn(3, 4, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    t = torch.rand(3, 4, generator=generator, dtype=torch.float64) * 0.9 + 0.05
    schedule = VPLinear()
    denoiser = Denoiser(lambda x, label: 0.3 * x, schedule, "data")
    loss = denoising_loss(denoiser, x0, t, noise=n, weighting=MinSNR())
    data = denoiser(denoiser.add_noise(x0, n, t), t).data
    expected = (MinSNR()(schedule.log_snr(t))[..., None] * (x0 - data).square()).mean()
    assert math.isclose(float(loss), float(expected), rel_tol=1e-10)


def test_refusals():
    noise = Denoiser(lambda x, t: x, CondOT(), "noise")
    with pytest.raises(ValueError, match=r"weight inf to a 'noise' network at t=1\.0.*Uniform"):
        raw_weight(EDMWeight(), noise, torch.tensor([0.5, 1.0]))
    with pytest.raises(ValueError, match="two heads"):
        raw_weight(EDMWeight(), Denoiser(lambda x, t: x, Residual(), "residual"), torch.tensor([0.5]))
    for build in (lambda: MinSNR(0), lambda: EDMWeight(-1), lambda: SNR(shift=-1)):
        with pytest.raises(ValueError, match="got"):
            build()
