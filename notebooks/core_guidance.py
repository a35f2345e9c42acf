# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # One model, many answers
#
# A diffusion model is trained once. Afterwards it can be asked for conditions that it was never trained on, for the
# data behind a measurement, for samples that a reward prefers, and for the probability of a point. Here the model is
# exact (a mixture of three Gaussians, for which the denoiser can be written down), so that every answer can be held
# against the truth: figures show samples on contours of the exact density (1, 10 and 50 % of its peak), and cells
# assert what they claim.

# %%
import matplotlib.pyplot as plt
import torch

from scidiffuse.core import DDIM, DDPM, ClassifierFree, Denoiser, DPMSolverPP, UniPC, VPLinear, grids, sample
from scidiffuse.core.closed_form import GaussianMixture
from scidiffuse.core.composition import Ensemble, SuperDiff
from scidiffuse.core.convergence import measure
from scidiffuse.core.diagnostics import rank_histogram
from scidiffuse.core.guidance import Classifier
from scidiffuse.core.inverse import DPS, MMPS, PiGDM, reconstruct
from scidiffuse.core.likelihood import ItoDensity, log_likelihood
from scidiffuse.core.operators import Matrix
from scidiffuse.core.steering import FeynmanKac, svdd

double = torch.float64
torch.set_default_dtype(double)
torch.set_num_threads(1)  # states of two numbers: more threads would only wait for each other
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 110, "axes.titlesize": 10})

# %% [markdown]
# ## The mixture
#
# Noise blurs it; at $t = 1$ nothing is left of it. The model has one condition, `only`: the component wanted, or -1
# for all of them.

# %%
schedule = VPLinear()
mixture = GaussianMixture.example()
parts = [GaussianMixture(mixture.means[k : k + 1], mixture.stds[k : k + 1]) for k in range(3)]


def network(x, t, only=None):
    """E[x0 | x], as a network that predicts data; `only` (B,) picks components."""
    a, s = schedule.alpha(t), schedule.sigma(t)
    if only is None:
        return mixture.data(x, a, s)
    each = torch.stack([mixture.data(x, a, s), *(part.data(x, a, s) for part in parts)])
    return each[only.long() + 1, torch.arange(len(x))]


denoiser = Denoiser(network, schedule, prediction="data", label=lambda schedule, t: t)
axis = torch.linspace(-3.0, 3.0, 121)
plane = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(-1, 2)


def show(axes, log_density, points=None, title="", color="tab:blue"):
    """Samples on the contours of half, 10 and 1 percent of the greatest density."""
    levels = (log_density - log_density.max()).exp().reshape(121, 121)
    axes.contour(axis, axis, levels, levels=[0.01, 0.1, 0.5], colors="0.35", linewidths=[0.6, 0.9, 1.2])
    if points is not None:
        axes.scatter(*points[:1500].T, s=3, alpha=0.35, color=color, linewidths=0)
    axes.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal", xticks=[-2, 0, 2], yticks=[-2, 0, 2], title=title)


figure, axes = plt.subplots(1, 4, figsize=(10, 2.7), layout="constrained")
for one, t in zip(axes, (0.0, 0.1, 0.3, 1.0), strict=True):
    show(one, mixture.log_prob(plane, schedule, t), title=f"t = {t:g},  σ/α = {schedule.kappa(t):.2g}")

x, only = torch.randn(6, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, -1, -1, -1])
asked = denoiser(x, 0.3, only=only).data
assert torch.allclose(asked[3:], denoiser(x, 0.3).data[3:])
assert torch.allclose(asked[1], parts[1].data(x, schedule.alpha(0.3), schedule.sigma(0.3))[1])

# %% [markdown]
# ## Orders
#
# With an exact model the error is the sampler's, and the order of a sampler can be read off: halve the steps and an
# error of order $p$ grows by $2^p$. (All samplers on three schedules: `scidiffuse core convergence`.)

# %%
steps = (12, 24, 48, 96)
figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
for sampler, order in ((DDIM(), 1), (DPMSolverPP(order=2), 2), (UniPC(order=2, startup="singlestep"), 3)):
    found = measure(sampler, schedule, steps)
    axes.loglog(steps, found.errors, "o-", label=f"{type(sampler).__name__}, order {found.measured:.2f}")
    assert abs(found.measured - order) < 0.35
axes.set(xlabel="network calls", ylabel="error", xticks=steps, xticklabels=steps)
axes.minorticks_off()
_ = axes.legend(frameon=False)

# %% [markdown]
# ## Guidance: a denoiser around a denoiser
#
# *Classifier-free* guidance extrapolates from the unconditional to the conditional answer. At scale 1 it is the
# conditional model; at scale 4 it is nobody's conditional model, but pushed away from the other components.
# *Classifier* guidance adds the gradient of any $\log p(c \mid x_t)$: here "not component 1", which the unconditional
# model was never asked to learn. With the exact classifier it is exact.


# %%
def not_one(x, t):
    """log p(the component is not 1 | x_t)."""
    log = mixture._components(x, schedule.alpha(t), schedule.sigma(t))[0].log_softmax(1)
    return log[:, [0, 2]].logsumexp(1)


def draw(model, **options):
    grid = grids.log_snr(schedule, 30, end=1e-3)
    return sample(model, DPMSolverPP(order=2), grid, shape=(1500, 2), seed=0, dtype=double, **options).x


zero = {"only": torch.zeros(1500, dtype=torch.long)}
drawn = {
    "no guidance": draw(denoiser),
    "classifier-free, scale 1": draw(ClassifierFree(denoiser, scale=1.0, null={"only": -1}), condition=zero),
    "classifier-free, scale 4": draw(ClassifierFree(denoiser, scale=4.0, null={"only": -1}), condition=zero),
    "classifier: not component 1": draw(Classifier(denoiser, not_one)),
}
rest = GaussianMixture(mixture.means[[0, 2]], mixture.stds[[0, 2]], mixture.weights[[0, 2]])
truths = [mixture, parts[0], parts[0], rest]
figure, axes = plt.subplots(1, 4, figsize=(10, 2.7), layout="constrained")
for one, (name, points), truth in zip(axes, drawn.items(), truths, strict=True):
    show(one, truth.log_prob(plane), points, name)

assert torch.allclose(drawn["classifier-free, scale 1"].mean(0), mixture.means[0], atol=0.05)
pushed = drawn["classifier-free, scale 4"].mean(0) - mixture.means[0]
assert pushed @ (mixture.means[0] - mixture.means[1:].mean(0)) > 0.1
share = rest._components(drawn["classifier: not component 1"], 1.0, 0.0)[0].softmax(1).mean(0)
assert torch.allclose(share, rest.weights, atol=0.04)

# %% [markdown]
# ## Composition of models
#
# Two models, one sample. *Or*: what either would give. *And*: points that both find equally likely, on the line where
# their densities cross. SuperDiff follows both densities along the path, without a divergence.

# %%
left, right = (GaussianMixture(torch.tensor([[m, 0.0]]), torch.tensor([0.6])).denoiser(schedule) for m in (-1.1, 1.1))
figure, axes = plt.subplots(1, 2, figsize=(5.4, 2.8), layout="constrained")
both = GaussianMixture(torch.tensor([[-1.1, 0.0], [1.1, 0.0]]), torch.tensor([0.6, 0.6]))
superposed = {}
for one, mode in zip(axes, ("or", "and"), strict=True):
    superposed[mode] = sample(
        Ensemble([left, right]), DDPM(), grids.log_snr(schedule, 150, end=1e-3), shape=(1500, 2), seed=0, dtype=double,
        hooks=[SuperDiff(2, mode)],
    ).x  # fmt: skip
    show(one, both.log_prob(plane), superposed[mode], mode, "tab:purple")
assert superposed["and"][:, 0].abs().max() < 0.1 and abs(superposed["and"][:, 1].std() - 0.6) < 0.05
assert abs((superposed["or"][:, 0] > 0).double().mean() - 0.5) < 0.05

# %% [markdown]
# ## Inverse problems
#
# A measurement $y = Ax + \text{noise}$ of one mixed coordinate. The exact posterior of a mixture is a mixture too, here
# with most of its mass in the upper left. Three of the solvers, by what each assumes about the covariance of the data
# given the noisy state: nothing (DPS), one number (ΠGDM), the denoiser's own Jacobian (moment-matched, MMPS).

# %%
direction, y, noise = torch.tensor([[0.6, 0.8]]), torch.tensor([[0.25]]), 0.2
across = (direction @ mixture.means.T)[0]
evidence = mixture.stds**2 + noise**2
posterior = (mixture.weights.log() - 0.5 * evidence.log() - (y[0] - across) ** 2 / (2 * evidence)).softmax(0)
centres = mixture.means + (mixture.stds**2 / evidence)[:, None] * (y - across[:, None]) * direction


def log_likelihood_of_y(x, step=None):
    return -((x @ direction[0] - y[0]) ** 2) / (2 * noise**2)


def judge(x):
    """The modes' shares, and the largest distance of a main mode's mean from the exact one."""
    nearest = torch.cdist(x, centres).argmin(1)
    shares = torch.bincount(nearest, minlength=3) / len(x)
    return shares, max((x[nearest == k].mean(0) - centres[k]).norm().item() for k in (0, 1))


log_posterior = mixture.log_prob(plane) + log_likelihood_of_y(plane)
found = {}
figure, axes = plt.subplots(1, 3, figsize=(8.2, 2.9), layout="constrained")
print(f"exact    shares {posterior.numpy().round(2)}")
for one, method in zip(axes, (DPS(zeta=0.1), PiGDM(), MMPS()), strict=True):
    run = reconstruct(
        denoiser, Matrix(direction), y, noise=noise, method=method, samples=1500, seed=0, dtype=double,
        grid=grids.log_snr(schedule, 100, end=1e-3),
    )  # fmt: skip
    name = type(method).__name__
    found[name] = judge(run.x[0])
    show(one, log_posterior, run.x[0], f"{name}: {found[name][0][1]:.0%} upper left", "tab:orange")
    shares, off = found[name]
    print(f"{name:8} shares {shares.numpy().round(2)}, modes off by {off:.2f}, misfit {run.misfit.mean():.2f}")
assert found["MMPS"][1] < 0.1  # each mode is right ...
assert all(shares[1] < posterior[1] - 0.1 for shares, _ in found.values())  # ... their shares are not

# %% [markdown]
# Every solver finds the modes, and none gives them their shares: all replace $p(y \mid x_t)$ by one Gaussian, which a
# multimodal law far from the data is not. On Gaussian data MMPS is exact (`benchmarks/inverse.py`). If the shares
# matter, many walkers can put them right.
#
# ## Steering: many walkers and a reward
#
# A reward is any function of the sample; nothing takes its gradient. Feynman-Kac steering carries groups of walkers,
# weighs them by what they promise, resamples them, and aims at the density times $e^{r}$. With the log-likelihood of
# the same measurement as the reward that is the posterior, exactly, the more walkers the better. The second reward
# is 2 inside a ring and 0 outside. SVDD keeps the best of several candidates a step: it
# climbs, and samples no stated law.


# %%
def ring(x, step=None):
    r = x.norm(dim=-1)
    return 2.0 * ((r > 1.4) & (r < 1.9))


grid = grids.log_snr(schedule, 60, end=1e-3)
options = {"seed": 0, "dtype": double}


def steer(reward):
    hooks = [FeynmanKac(reward, walkers=100)]
    return sample(denoiser, DDPM("large"), grid, shape=(4000, 2), hooks=hooks, **options).x


by_likelihood, by_ring = steer(log_likelihood_of_y), steer(ring)
climbed = svdd(denoiser, DDPM("large"), grid, reward=ring, candidates=8, alpha=0.0, shape=(800, 2), **options).x

exact = ring(mixture.sample(400_000, torch.Generator().manual_seed(0))) > 0
wanted = torch.sigmoid(torch.logit(exact.double().mean()) + 2.0).item()  # the odds of the ring, times e^2
inside = {name: (ring(x) > 0).double().mean().item() for name, x in (("FK", by_ring), ("SVDD", climbed))}
shares = judge(by_likelihood)[0]
figure, axes = plt.subplots(1, 3, figsize=(8.2, 2.9), layout="constrained")
show(axes[0], log_posterior, by_likelihood, f"FK: {shares[1]:.0%} upper left, exact {posterior[1]:.0%}", "tab:green")
show(axes[1], mixture.log_prob(plane), by_ring, f"FK: {inside['FK']:.0%} in the ring, exact {wanted:.0%}", "tab:green")
show(axes[2], mixture.log_prob(plane), climbed, f"SVDD: {inside['SVDD']:.0%} in the ring", "tab:green")
for one in axes[1:]:
    for radius in (1.4, 1.9):
        one.add_patch(plt.Circle((0, 0), radius, fill=False, color="tab:red", linewidth=0.8, linestyle="--"))
assert (shares - posterior).abs().max() < 0.05
assert abs(inside["FK"] - wanted) < 0.04 and inside["SVDD"] > wanted + 0.04

# %% [markdown]
# ## All at once
#
# Guidance composes by nesting: conditions inside, measurements around them, and rewards act on the answer of the whole
# nest. Component 0; of which $y = 1.7$ was measured; preferably with a large second coordinate. Each of the three is
# Gaussian, so the exact law is known after every one. (The same on full covariances: `tests/core`.)

# %%
inner = ClassifierFree(denoiser, scale=1.0, null={"only": -1})
prefer = FeynmanKac(lambda x, step: 3.0 * x[:, 1], walkers=100)
one_condition, y0 = {"only": torch.zeros(1, dtype=torch.long)}, torch.tensor([[1.7]])


def composed(hooks):
    return reconstruct(
        inner, Matrix(direction), y0, noise=noise, method=MMPS(), sampler=DDPM("large"), samples=2000, seed=0,
        grid=grid, condition=one_condition, hooks=hooks, dtype=double,
    ).x[0]  # fmt: skip


cov0 = mixture.stds[0] ** 2 * torch.eye(2)
cov1 = torch.linalg.inv(torch.linalg.inv(cov0) + direction.T @ direction / noise**2)
mean1 = mixture.means[0] + cov1 @ direction[0] * (y0[0] - direction[0] @ mixture.means[0]) / noise**2
stages = {
    "condition": (draw(inner, condition=zero), mixture.means[0], cov0),
    "... and measurement": (composed([]), mean1, cov1),
    "... and reward": (composed([prefer]), mean1 + 3.0 * cov1[:, 1], cov1),
}
figure, axes = plt.subplots(1, 3, figsize=(8.2, 2.9), layout="constrained")
for one, (name, (points, mean, cov)) in zip(axes, stages.items(), strict=True):
    gap = plane - mean
    show(one, -0.5 * ((gap @ torch.linalg.inv(cov)) * gap).sum(1), points, name, "tab:red")
    print(f"{name:20} mean {points.mean(0).numpy().round(2)}, exact {mean.numpy().round(2)}")
    assert (points.mean(0) - mean).norm() < 0.05
    assert (points.T.cov() - cov).abs().max() < 0.02

# %% [markdown]
# ## Likelihood
#
# The probability-flow ODE carries a density with it: the log-likelihood of any point, exact up to the ODE solver. A
# stochastic run can keep the density of its own samples without any divergence (Itô); its error falls with the steps,
# slowly.

# %%
points = mixture.sample(64, torch.Generator().manual_seed(1))
ends = grids.log_snr(schedule, 1, end=1e-3)
ode = log_likelihood(denoiser, points, ends, rtol=1e-9, atol=1e-9, prior=lambda x, t: mixture.log_prob(x, schedule, t))
exact = mixture.log_prob(points, schedule, 1e-3)

times = grids.log_snr(schedule, 1000, end=0.02)
run = sample(denoiser, DDPM(), times, shape=(400, 2), hooks=[ItoDensity(tolerance=1.0)], **options)
kept, known = run.state.aux["log_q"], mixture.log_prob(run.x, schedule, 0.02)
errors = (ode.log_prob - exact).abs().max().item(), (kept - known).square().mean().sqrt().item()
figure, axes = plt.subplots(1, 2, figsize=(6.4, 2.9), layout="constrained")
axes[0].set_title(f"ODE: largest error {errors[0]:.0e}")
axes[1].set_title(f"Itô, 1000 steps: error {errors[1]:.2f} nats")
for one, a, b in ((axes[0], exact, ode.log_prob), (axes[1], known, kept)):
    one.axline((-4, -4), slope=1, color="0.6", linewidth=0.8)
    one.scatter(a, b, s=8, alpha=0.5, linewidths=0)
    one.set(xlabel="exact log density", ylabel="found", xlim=(-6, 0), ylim=(-6, 0), aspect="equal")
assert errors[0] < 1e-6 and errors[1] < 0.5

# %% [markdown]
# ## Diagnostics: is a posterior calibrated?
#
# Where nothing is known exactly one can still do this: draw a truth from the model, measure it, reconstruct. If the
# samples are draws of the posterior, the rank of the truth among them is uniform. Horns say too narrow, a hump says
# too wide; the grey band is what chance allows, $p$ the probability of a histogram as uneven as this.

# %%
cases, count = 300, 23
truths = mixture.sample(cases, torch.Generator().manual_seed(2))
measured = truths @ direction.T + noise * torch.randn(cases, 1, generator=torch.Generator().manual_seed(3))
figure, axes = plt.subplots(1, 3, figsize=(8.2, 2.6), sharey=True, layout="constrained")
p = {}
for one, method in zip(axes, (DPS(zeta=0.1), PiGDM(), MMPS()), strict=True):
    run = reconstruct(
        denoiser, Matrix(direction), measured, noise=noise, method=method, sampler=DDPM("large"), samples=count, seed=0,
        grid=grid, dtype=double,
    )  # fmt: skip
    histogram = rank_histogram((run.x @ direction[0]).T, truths @ direction[0], bins=12)
    histogram.plot(one)
    name = type(method).__name__
    p[name] = histogram.p_min
    one.set(title=f"{name}: p = {p[name]:.2g}", ylabel="cases" if one is axes[0] else "")
assert p["DPS"] < 1e-6 < 0.01 < p["MMPS"]

# %% [markdown]
# DPS at this step size is far too sure of itself, and its fit to the measurement (misfit 0.5 above) had said so. How
# the solvers compare where scales differ: `benchmarks/inverse.py`; with a trained network:
# `benchmarks/inverse_digits.py`.
