r"""Condition, measurement and reward on one model, in the documented order, against the closed form.

The model knows x0 | c ~ N(m_c, S) and, without condition, N(m_0, S). Everything that is put around it is Gaussian:

    condition     p_0 (p_c / p_0)^w = N(m_0 + w (m_c - m_0), S): with equal covariances this holds at every noise
                  level, so that the denoiser under classifier-free guidance is exactly right;
    measurement   times N(y; A x, noise^2): Bayes' rule, which `MMPS` follows exactly on Gaussians;
    reward        times exp(b.x - x'Cx / 2): Gaussian once more, and `FeynmanKac` weighs its walkers so.

Groups of walkers are independent, so the standard error of a statistic is measured from them. A statistic fails when
it is more than Z = 5.2 errors off: with 63 degrees of freedom that is a false alarm with a probability of 2.3e-6, and
below 1e-4 for the ten statistics of the run. (The sampler's own error, with 400 steps, is a third of a standard error.)
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from scidiffuse.core import DDPM, ClassifierFree, Denoiser, Hook, VPLinear, grids, guidance, sample
from scidiffuse.core.hooks import Step
from scidiffuse.core.inverse import MMPS, Measurement, Method, reconstruct
from scidiffuse.core.inverse.base import Measured
from scidiffuse.core.operators import Matrix
from scidiffuse.core.steering import FeynmanKac

Z = 5.2
GROUPS, WALKERS, STEPS = 64, 32, 400
SCALE, NOISE = 2.0, 0.4
SCHEDULE = VPLinear()


def double(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


MEANS = double([[0.0, 0.0, 0.0], [0.6, -0.4, 0.3]])  # null, condition 1
S = double([[1.0, 0.5, 0.0], [0.5, 0.8, -0.2], [0.0, -0.2, 0.5]])
A, Y = double([[1.0, 1.0, 0.0], [0.0, -0.5, 1.0]]), double([[1.2, 0.1]])
B, C = double([2.0, -1.5, 1.0]), torch.diag(double([0.5, 0.0, 2.0]))
EYE = torch.eye(3, dtype=torch.float64)


@dataclass(frozen=True)
class Gaussian:
    """N(mean, cov), with the tilts of this file."""

    mean: Tensor
    cov: Tensor

    def measured(self) -> Gaussian:
        gain = self.cov @ A.T @ torch.linalg.inv(A @ self.cov @ A.T + NOISE**2 * torch.eye(2, dtype=torch.float64))
        return Gaussian(self.mean + gain @ (Y[0] - A @ self.mean), self.cov - gain @ A @ self.cov)

    def rewarded(self) -> tuple[Gaussian, float]:
        """The tilted law and log E[exp(reward)]."""
        precision = torch.linalg.inv(self.cov)
        cov = torch.linalg.inv(precision + C)
        mean = cov @ (precision @ self.mean + B)
        log = torch.logdet(cov) - torch.logdet(self.cov) + mean @ (precision + C) @ mean
        return Gaussian(mean, cov), float(log - self.mean @ precision @ self.mean) / 2

    def data(self, x: Tensor, t: float) -> Tensor:
        """E[x0 | x_t = x]."""
        a, s = SCHEDULE.alpha(t), SCHEDULE.sigma(t)
        gain = a * self.cov @ torch.linalg.inv(a * a * self.cov + s * s * EYE)
        return self.mean + (x - a * self.mean) @ gain.T

    def moments(self) -> Tensor:
        return moments(self.mean) + torch.cat([torch.zeros(3, dtype=torch.float64), self.cov[UPPER]])


UPPER = torch.ones(3, 3).triu() > 0


def moments(x: Tensor) -> Tensor:
    """Coordinates and their products, (..., 9)."""
    return torch.cat([x, (x[..., :, None] * x[..., None, :])[..., UPPER]], -1)


def model(covariances: tuple[Tensor, Tensor] = (S, S)) -> Denoiser:
    """The exact conditional denoiser; c = 0 is the null condition."""

    def network(x: Tensor, t: Tensor, c: Tensor) -> Tensor:
        time = float(t.reshape(-1)[0])
        each = [Gaussian(m, cov).data(x, time) for m, cov in zip(MEANS, covariances, strict=True)]
        return torch.where(c.view(-1, 1) == 1, each[1], each[0])

    return Denoiser(network, SCHEDULE, "data", label=lambda schedule, t: t)


def reward(x: Tensor, step: Step | None) -> Tensor:
    return x @ B - ((x @ C) * x).sum(-1) / 2


CONDITION = {"c": torch.ones(1, dtype=torch.long)}
GUIDED = ClassifierFree(model(), SCALE, null={"c": 0})
CONDITIONED = Gaussian(MEANS[0] + SCALE * (MEANS[1] - MEANS[0]), S)
METHOD: Method = MMPS(2)


def run(hooks: list[Hook], steps: int = STEPS, samples: int = GROUPS * WALKERS) -> Any:
    return reconstruct(
        GUIDED, Matrix(A), Y, noise=NOISE, method=METHOD, sampler=DDPM("large"), samples=samples, seed=0,
        grid=grids.log_snr(SCHEDULE, steps, end=1e-3), condition=CONDITION, hooks=hooks, dtype=torch.float64,
    )  # fmt: skip


def errors_off(x: Tensor, weight: Tensor, truth: Tensor) -> Tensor:
    """How many standard errors the groups' weighted moments are from the truth."""
    each = moments(x).mean(1)
    found = (weight[:, None] * each).sum(0) / weight.sum()
    error = (weight[:, None] * (each - found)).square().sum(0).sqrt() / weight.sum()
    return (found - truth) / error


def test_condition_measurement_and_reward_together() -> None:
    result = run([FeynmanKac(reward, WALKERS)])
    x = result.x[0].view(GROUPS, WALKERS, 3)
    weight = result.records["fk_log_w"][-1].view(GROUPS, WALKERS).exp().mean(1)
    assert any((a.view(GROUPS, WALKERS).diff() == 0).any() for a in result.records["fk_ancestors"][:-1])  # resampled

    truth, log_z = CONDITIONED.measured().rewarded()
    assert errors_off(x, weight, truth.moments()).abs().max() < Z
    assert (weight.mean() - math.exp(log_z)).abs() < Z * weight.std() / math.sqrt(GROUPS)  # the normaliser
    # and it would tell if one of the three were missing
    for other in (
        CONDITIONED.measured(),
        CONDITIONED.rewarded()[0],
        Gaussian(MEANS[1], S).measured().rewarded()[0],
        Gaussian(MEANS[0], S).measured().rewarded()[0],
    ):
        assert errors_off(x, weight, other.moments()).abs().max() > 3 * Z


@pytest.mark.parametrize("t", [0.02, 0.3, 0.8])
def test_every_layer_is_exact_at_every_noise_level(t: float) -> None:
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    c = torch.ones(50, dtype=torch.long)
    inner = GUIDED(x, t, c=c)
    assert torch.allclose(inner.data, CONDITIONED.data(x, t), atol=1e-12)
    outer = METHOD.guide(GUIDED, Measurement(Matrix(A), Y, NOISE))(x, t, c=c)
    assert torch.allclose(outer.data, CONDITIONED.measured().data(x, t), atol=1e-9)
    a, s = SCHEDULE.alpha(t), SCHEDULE.sigma(t)
    assert torch.allclose(a * outer.data + s * outer.noise, x, atol=1e-9)


def test_the_reward_is_asked_about_the_answer_of_the_whole_nest() -> None:
    seen: list[tuple[Tensor, Tensor, float]] = []

    def spy(x: Tensor, step: Step | None) -> Tensor:
        assert step is not None
        seen.append((x, step.query.x if step.new is None else step.new.x, float(step.query.t)))
        return reward(x, step)

    run([FeynmanKac(spy, 4)], steps=5, samples=8)
    assert len(seen) == 6  # five predictions and the final samples
    for data, state, t in seen[:-1]:
        assert torch.allclose(data, CONDITIONED.measured().data(state, t), atol=1e-8)
    assert torch.equal(seen[-1][0], seen[-1][1])


def test_by_hand_is_the_same_as_reconstruct() -> None:
    nest = METHOD.guide(GUIDED, Measurement(Matrix(A), Y, NOISE))
    assert isinstance(nest, Measured) and isinstance(nest.denoiser, ClassifierFree)
    by_hand = sample(
        nest, DDPM("large"), grids.log_snr(SCHEDULE, 20, end=1e-3), shape=(16, 3), seed=0, dtype=torch.float64,
        condition={"c": torch.ones(16, dtype=torch.long)}, hooks=[FeynmanKac(reward, 8)],
    )  # fmt: skip
    assert torch.equal(by_hand.x, run([FeynmanKac(reward, 8)], steps=20, samples=16).x[0])


def test_the_other_order_is_another_model_and_refused() -> None:
    """Covariances that differ: then guidance of measured models is not the measurement of the guided model."""
    base = model((2.0 * S, S))
    guided = ClassifierFree(base, SCALE, null={"c": 0})
    measurement = Measurement(Matrix(A), Y, NOISE)
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    c, t = torch.ones(50, dtype=torch.long), 0.3
    a, s = SCHEDULE.alpha(t), SCHEDULE.sigma(t)
    # Bayes' rule with the guided model's own mean and covariance (it is affine in x)
    jacobian = torch.func.jacrev(lambda v: guided(v[None], t, c=c[:1]).data[0])(x[0])
    cov = s * s / a * jacobian
    gain = cov @ A.T @ torch.linalg.inv(A @ cov @ A.T + NOISE**2 * torch.eye(2, dtype=torch.float64))
    data = guided(x, t, c=c).data
    right = METHOD.guide(guided, measurement)(x, t, c=c).data
    assert torch.allclose(right, data + (Y - data @ A.T) @ gain.T, atol=1e-9)

    wrong = ClassifierFree(METHOD.guide(base, measurement), SCALE, null={"c": 0})
    assert (wrong(x, t, c=c).data - right).abs().max() > 0.1
    with pytest.raises(ValueError, match="put ClassifierFree inside, the measurement goes around"):
        reconstruct(wrong, Matrix(A), Y, noise=NOISE, method=METHOD, seed=0, condition=CONDITION)


def test_the_order_is_documented() -> None:
    text = " ".join((guidance.__doc__ or "").split())
    places = [text.index(word) for word in ("innermost", "measurements (`core.inverse`) outermost", "hooks act")]
    assert places == sorted(places)


def test_the_example_of_the_readme_runs() -> None:
    page = (Path(__file__).parents[2] / "README.md").read_text()
    (code,) = re.findall(r"^```python\n(from scidiffuse import core\n.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    seen: list[Tensor] = []

    def network(x: Tensor, t: Tensor, kind: Tensor) -> Tensor:
        seen.append(kind.unique())
        return 0.5 * x

    names: dict[str, Any] = {
        "denoiser": Denoiser(network, SCHEDULE, "noise"),
        "y": torch.zeros(2, 3, 8, 8),
        "kinds": torch.tensor([1, 2]),
        "reward": lambda x, step: -x.flatten(1).square().mean(1),
    }
    exec(code, names)
    assert names["result"].mean.shape == (2, 3, 32, 32) and names["result"].misfit.shape == (2, 16)
    assert torch.equal(seen[0], torch.tensor([0, 1, 2]))  # both conditions and the null, in one call
    assert names["result"].calls == len(seen)
