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
# # The core, from schedule to guidance
#
# *A schedule corrupts data, a denoiser predicts the data back, a sampler walks from noise to data along a grid of
# times, guidance changes what the denoiser says.* This notebook says that sentence in code, on data for which
# everything is known exactly: a mixture of Gaussians. Where everything is known, nothing has to be believed: every
# cell that makes a claim asserts it.

# %%
import math

import matplotlib.pyplot as plt
import torch

from scidiffuse.core import (
    BDIA,
    DDIM,
    EDM,
    ClassifierFree,
    CondOT,
    Denoiser,
    DPMSolverPP,
    Known,
    Record,
    UniPC,
    VPCosine,
    VPLinear,
    grids,
    invert,
    sample,
)

double = torch.float64
torch.set_default_dtype(double)

# %% [markdown]
# ## Schedules
#
# A schedule is three functions of a continuous time, $x_t = \alpha(t)\,x_0 + \beta(t)\,y + \sigma(t)\,n$, with data
# at $t = 0$. What a sampler cares about is the log-SNR $\lambda = \log(\alpha/\sigma)$: two schedules with the same
# range of $\lambda$ differ only in how fast they run through it, and in the scale of $x$.

# %%
schedules = {"VP linear": VPLinear(), "VP cosine": VPCosine(), "conditional OT": CondOT(), "EDM": EDM()}
t = torch.linspace(0.01, 0.99, 99)
figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for name, schedule in schedules.items():
    axes[0].plot(t, schedule.log_snr(t), label=name)
    axes[1].plot(t, schedule.alpha(t), label=name)
axes[0].set(xlabel="t", title="log-SNR λ(t)")
axes[1].set(xlabel="t", title="α(t)")
axes[1].legend(frameon=False)

for schedule in schedules.values():
    assert (schedule.log_snr(t).diff() < 0).all()  # more time, more noise
    assert math.isclose(schedule.time_of_log_snr(schedule.log_snr(0.3)), 0.3, rel_tol=1e-9)  # and back
    assert torch.allclose(schedule.log_snr(t), (schedule.alpha(t) / schedule.sigma(t)).log())

# %% [markdown]
# ## A denoiser that is exactly right
#
# For a mixture $\sum_k w_k\,\mathcal N(\mu_k, s_k^2)$ the noisy density is again a mixture, with means $\alpha\mu_k$
# and variances $v_k = \alpha^2 s_k^2 + \sigma^2$, and $E[x_0 \mid x_t]$ is a weighted mean of the components' own. A
# network would have to learn this; here it is written down. The condition `only` (one component a sample, or -1 for
# all of them) makes it a class-conditional model.

# %%
weights = torch.tensor([0.5, 0.3, 0.2])
means = torch.tensor([[-2.0, 0.0], [1.5, 1.5], [1.0, -2.0]])
spreads = torch.tensor([0.5, 0.3, 0.4])


def mixture(schedule):
    """The exact E[x0 | x] under `schedule`, called as a network is: x (B, 2), the time (B,), conditions."""

    def network(x, t, only=None):
        a, s = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
        v = a**2 * spreads**2 + s**2
        d2 = (x[:, None] - a[..., None] * means).square().sum(-1)
        logits = weights.log() - d2 / (2 * v) - v.log()
        if only is not None:
            kept = (only[:, None] == torch.arange(3)) | (only[:, None] < 0)
            logits = logits.masked_fill(~kept, -torch.inf)
        own = means + (a * spreads**2 / v)[..., None] * (x[:, None] - a[..., None] * means)
        return (logits.softmax(-1)[..., None] * own).sum(1)

    return network


def exact(schedule):
    return Denoiser(mixture(schedule), schedule, prediction="data", label=lambda schedule, t: t)


vp = VPLinear()
denoiser = exact(vp)
x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
prediction = denoiser(x, 0.4)
assert torch.allclose(vp.alpha(0.4) * prediction.data + vp.sigma(0.4) * prediction.noise, x)
assert torch.allclose(prediction.score, -prediction.noise / vp.sigma(0.4))
print(prediction.data)

# %% [markdown]
# ## Sampling
#
# A sampler, a number of steps, a shape and a seed. The result carries the samples, the full state of the run, and
# what hooks collected, here the trajectory.

# %%
result = sample(denoiser, DPMSolverPP(order=2), steps=20, shape=(4000, 2), seed=0, hooks=[Record()], dtype=double)
path = torch.stack(result.records["x"])
figure, axes = plt.subplots(1, 4, figsize=(10, 2.6), sharex=True, sharey=True, layout="constrained")
for axis, k in zip(axes, (0, 10, 15, len(path)), strict=True):
    points = result.x if k == len(path) else path[k]
    axis.scatter(*points.T, s=1, alpha=0.3)
    axis.set_title("result" if k == len(path) else f"call {k}, t = {result.records['t'][k]:.2f}")

nearest = (result.x[:, None] - means).square().sum(-1).argmin(1)
share = torch.bincount(nearest, minlength=3) / len(nearest)
assert torch.allclose(share, weights, atol=0.03)
print(f"{result.calls} network calls; shares of the components: {share.numpy().round(3)}, exact: {weights.numpy()}")

# %% [markdown]
# The noise of a sample depends on the seed and its own index, not on how the batch was cut:

# %%
cut = sample(denoiser, DPMSolverPP(order=2), steps=20, shape=(4000, 2), seed=0, max_batch=1500, dtype=double)
assert torch.allclose(cut.x, result.x, atol=1e-12)

# %% [markdown]
# ## Orders
#
# Halve the steps' length and the error of a method of order $p$ falls by $2^p$. With the exact denoiser the error is
# the sampler's alone, so the order can be read off. (`scidiffuse core convergence` does this for all samplers and
# schedules. `startup="singlestep"` makes the first steps of a multistep method with single steps of its own order.)

# %%
start = torch.randn(64, 2, generator=torch.Generator().manual_seed(1))


def solve(sampler, steps):
    grid = grids.log_snr(vp, steps, end=0.01)
    return sample(denoiser, sampler, grid, x=start, dtype=double).x


truth = solve(UniPC(order=3, startup="singlestep"), 1000)
methods = {
    "DDIM": (DDIM(), 1),
    "DPM-Solver++(2M)": (DPMSolverPP(order=2), 2),
    "DPM-Solver++(3M) as published": (DPMSolverPP(order=3, compat="published"), 2),
    "DPM-Solver++(3M)": (DPMSolverPP(order=3, startup="singlestep"), 3),
    "UniPC-2": (UniPC(order=2, startup="singlestep"), 3),
}
steps = [12, 24, 48, 96, 192]
figure, axis = plt.subplots(figsize=(6, 3.6), layout="constrained")
for name, (sampler, order) in methods.items():
    errors = [(solve(sampler, n) - truth).square().mean().sqrt().item() for n in steps]
    measured = math.log2(errors[-2] / errors[-1])
    axis.loglog(steps, errors, marker="o", label=f"{name}: {measured:.2f}")
    assert measured > order - 0.15, name
    assert measured < order + 0.5, name
axis.set(xlabel="steps", ylabel="error")
_ = axis.legend(frameon=False, title="measured order")

# %% [markdown]
# The third-order method as published is of second order: a factor of two is missing in its second difference. The
# corrected form is the default.
#
# ## Back to the noise
#
# The ODE can be walked the other way. DDIM returns with the error of its order; BDIA and BELM are algebraically
# invertible, from the state that the run returned, to rounding.

# %%
grid = grids.log_snr(vp, 40, end=0.01)
forward = sample(denoiser, DDIM(), grid, x=start, dtype=double)
back = sample(denoiser, DDIM(), grid.reverse(), x=forward.x, dtype=double)
ddim = (back.x - start).abs().max().item()

sampler = BDIA()
forward = sample(denoiser, sampler, grid, x=start, dtype=double)
home = invert(denoiser, sampler, sampler.plan(vp, grid), forward.state)
bdia = (home - start).abs().max().item()
assert bdia < 1e-12 < ddim
print(f"largest error after the way there and back: DDIM {ddim:.1e}, BDIA {bdia:.1e}")

# %% [markdown]
# ## Guidance
#
# Classifier-free guidance is a denoiser around a denoiser: it asks twice, with and without the condition, and
# extrapolates. On the mixture the conditional model is exact too, so it is plain to see what guidance does: scale 1
# is the conditional distribution, and larger scales do *not* sample a sharpened version of it, they push away from
# the other components.

# %%
only = torch.full((2000,), 1)
figure, axes = plt.subplots(1, 3, figsize=(9, 2.8), sharex=True, sharey=True, layout="constrained")
moments = {}
for axis, scale in zip(axes, (1.0, 2.0, 6.0), strict=True):
    guided = ClassifierFree(denoiser, scale=scale, null={"only": -1})
    points = sample(
        guided, DPMSolverPP(order=2), steps=60, shape=(2000, 2), seed=0, condition={"only": only}, dtype=double
    ).x
    moments[scale] = points.mean(0), points.std(0).mean()
    axis.scatter(*points.T, s=1, alpha=0.3)
    axis.scatter(*means.T, marker="+", color="black")
    axis.set_title(f"scale {scale:g}")

mean, spread = moments[1.0]
assert torch.allclose(mean, means[1], atol=0.03) and torch.isclose(spread, spreads[1], atol=0.02)
assert (moments[6.0][0] - means[1]).norm() > (moments[2.0][0] - means[1]).norm() > (mean - means[1]).norm()

# %% [markdown]
# ## Known elements
#
# A hook sees every call. `Known` holds elements whose value is known, on their own exact path, and lets the rest
# follow: here the first coordinate. This is an approximation of the posterior (the network never knew that the
# coordinate was certain), cheap and often good enough.

# %%
known = torch.zeros(2000, 2)
known[:, 0] = 1.2
mask = torch.tensor([True, False]).expand(2000, 2)
points = sample(
    denoiser, DPMSolverPP(order=2), steps=60, shape=(2000, 2), seed=0, hooks=[Known(known, mask)], dtype=double
).x
assert torch.allclose(points[:, 0], known[:, 0], atol=1e-6)

log_w = weights.log() - (1.2 - means[:, 0]) ** 2 / (2 * spreads**2) - spreads.log()
posterior = log_w.softmax(0)
upper = (points[:, 1] > 0).double().mean().item()
figure, axis = plt.subplots(figsize=(5, 2.6), layout="constrained")
axis.hist(points[:, 1].numpy(), bins=80, density=True, alpha=0.6, label="sampled")
y = torch.linspace(-4, 4, 400)
density = (
    posterior / spreads / math.sqrt(2 * math.pi) * torch.exp(-((y[:, None] - means[:, 1]) ** 2) / (2 * spreads**2))
).sum(1)
axis.plot(y, density, label="exact posterior")
axis.legend(frameon=False)
axis.set(xlabel="second coordinate, given that the first is 1.2")
assert abs(upper - posterior[1]) < 0.1
print(f"share of the upper component: sampled {upper:.2f}, exact {posterior[1]:.2f}")
