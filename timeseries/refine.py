r"""Refinement: a trained diffusion model as a prior that improves somebody else's forecast.

Kollovieh et al., "Predict, Refine, Synthesize", NeurIPS 2023, section 3.2 and algorithm 2. Let y be a whole window, its
context as observed and its horizon as a base forecast says. The model's opinion of y is how well it denoises it,

    E_theta(y) = |n - eps_theta(a y + s n, tau)|^2,      n ~ N(0, I) fresh at every iteration,    (sum, a^2 + s^2 = 1)

at one diffusion step tau, and a regulariser R (weight 1 in the paper) keeps y near what is known:

    mean square   R = w sum_obs (y - y0)^2                     over the observed entries (context, lag channels);
    quantile      R = w sum max(k e, (k - 1) e),  e = y0 - y   over these *and* the base forecast, path i of S at the
                                                               level k_i = i/(S + 1).

Two ways down E = E_theta + R, both starting from the base:

    Langevin            y <- y - eta grad E(y) + sqrt(2 eta) gamma z,   z ~ N(0, I)
    maximum likelihood  y <- y - eta grad E(y)

with eta = 0.1 and 20 iterations (the paper's exchange-rate runs take eta = 0.01), gamma = 0.1.

*The representative step* is the one whose loss is nearest to the average over all steps,
tau = argmin_t (L_t - mean L)^2; a fixed step, or another one for every path and iteration ("random"), may be asked for.

*What Langevin converges to.* For a small eta, the law with density prop. to exp(-E/gamma^2), E averaged over n: the
product of what the model believes and of what the regulariser says, at the temperature gamma^2 = 0.01 in the paper,
where the spread of an ensemble comes from its members' starts and levels, not from the noise. For a normal law of
covariance K and M = a^2 K + s^2 I, eps_theta(x) = s M^-1 x and E averages to a^2 s^2 y M^-2 y + const: the believed
law is normal, but its precision is 2 a^2 s^2 M^-2, not K^-1. ``energy="score"`` walks along the model's score instead,

    grad E_theta(y) = (a/s) eps_theta(a y, tau) = - grad_y log p_tau(a y),

for which the believed law is that of the data blurred by s/a, of covariance K + (s/a)^2 I: with gamma = 1 the product
is a posterior in the usual sense. It takes no backward pass through the network and adds no noise of its own; the price
is a small s/a, hence a small eta, for a sharp law. Both laws, and the exact law of the chain at a finite eta, are held
to their closed forms in the tests.

*Starts.* The published code sorts the base samples of every time step, so that path i starts at the quantile k_i: that
is kept (``sort``), and destroys the dependence between steps; with the mean-square regulariser ``sort=False`` keeps the
base's own paths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ..core.denoisers import Denoiser
from ..core.noise import SlotNoise
from ..core.schedules import DiscreteBetas
from .guidance import DivergenceError, MSEGuidance, QuantileGuidance

__all__ = ["Refinement", "Regulariser", "refine", "representative_step", "step_losses"]

Regulariser = MSEGuidance | QuantileGuidance


@dataclass(frozen=True)
class Refinement:
    """How a forecast is refined. Immutable.

    Attributes:
        method: "lmc" (Langevin) or "ml" (maximum likelihood: the same walk without its noise).
        regulariser: `QuantileGuidance` or `MSEGuidance`: the formulas are those of guidance, the scale is the weight w,
            1 in the paper; or their names "quantile" and "mse", with weight 1.
        iterations: 20 in the paper.
        step_size: eta, 0.1 in the paper (0.01 on exchange rates). On a Gaussian process, with a mean-square regulariser
            of weight w, the walk is stable for eta < 1 / (w + a^2 / s^2), whatever the process.
        noise_scale: gamma of Langevin, 0.1 in the paper; 1 for the law exp(-E) itself.
        step: diffusion step: "representative", "random", or an index 0 .. T - 1.
        energy: "denoising" as published, or "score" (see the module).
        sort: sort the base's samples step by step; needed by the quantile regulariser.
    """

    method: Literal["lmc", "ml"] = "lmc"
    regulariser: Regulariser | Literal["quantile", "mse"] = "quantile"
    iterations: int = 20
    step_size: float = 0.1
    noise_scale: float = 0.1
    step: int | Literal["representative", "random"] = "representative"
    energy: Literal["denoising", "score"] = "denoising"
    sort: bool = True

    def __post_init__(self) -> None:
        if self.method not in ("lmc", "ml"):
            raise ValueError(f"method must be 'lmc' (Langevin) or 'ml' (maximum likelihood), got {self.method!r}")
        if isinstance(self.regulariser, str):
            if self.regulariser not in ("quantile", "mse"):
                raise ValueError(f"regulariser must be 'quantile' or 'mse', got {self.regulariser!r}")
            one = QuantileGuidance(1.0) if self.regulariser == "quantile" else MSEGuidance(1.0)
            object.__setattr__(self, "regulariser", one)
        elif not isinstance(self.regulariser, MSEGuidance | QuantileGuidance):
            raise TypeError(f"regulariser must be a QuantileGuidance or MSEGuidance, got {self.regulariser!r}")
        if isinstance(self.iterations, bool) or not isinstance(self.iterations, int) or self.iterations < 1:
            raise ValueError(f"iterations must be a positive integer, got {self.iterations!r}")
        for name, low in (("step_size", "positive"), ("noise_scale", "not negative")):
            value = getattr(self, name)
            good = isinstance(value, int | float) and 0 <= value < float("inf") and (value > 0 or name != "step_size")
            if not good:
                raise ValueError(f"{name} must be finite and {low}, got {value!r}")
        if isinstance(self.step, bool) or not (
            self.step in ("representative", "random") or (isinstance(self.step, int) and self.step >= 0)
        ):
            raise ValueError(f"step must be 'representative', 'random' or an index >= 0, got {self.step!r}")
        if self.energy not in ("denoising", "score"):
            raise ValueError(f"energy must be 'denoising' or 'score', got {self.energy!r}")
        if self.leveled and not self.sort:
            raise ValueError(
                "the quantile regulariser sends path i to level i/(S+1) and needs the base sorted; sort=False goes "
                "with MSEGuidance"
            )

    @property
    def leveled(self) -> bool:
        """Whether the paths have levels."""
        return bool(getattr(self.regulariser, "leveled", False))


def step_losses(
    denoiser: Denoiser, x: Tensor, observed: Tensor, seed: int = 0, draws: int = 1, max_batch: int | None = 256
) -> Tensor:
    """L_t, t = 0 .. T - 1: the mean squared error of the predicted noise at every step, float64 (T,).

    Args:
        denoiser: under a `DiscreteBetas` schedule.
        x, observed: clean windows (B, L, K) and which entries count.
        seed: of the noise; the same at every step, so that the curve is smooth.
        draws: noises a window.
        max_batch: windows at a time.

    Raises:
        ValueError: another schedule, or nothing observed.
    """
    schedule = _table(denoiser)
    if not bool(observed.any()):
        raise ValueError("no window has an observed value: the representative step cannot be found")
    size, total = max_batch or len(x), torch.zeros(schedule.num_steps, dtype=torch.float64)
    with torch.no_grad():
        for k in range(0, len(x), size):
            part, mask = x[k : k + size], observed[k : k + size]
            noise = SlotNoise(seed, range(k, k + len(part)))
            for draw in range(draws):
                n = noise(part, draw, "refine/loss")
                for i in range(schedule.num_steps):
                    t = (i + 1) / schedule.num_steps
                    pred = denoiser(denoiser.add_noise(part, n, t), t)
                    total[i] += ((pred.noise - n).square() * mask).double().sum()
    return total / (float(observed.sum()) * draws)


def representative_step(losses: Tensor) -> int:
    """tau = argmin_t (L_t - mean L)^2."""
    return int((losses - losses.mean()).square().argmin())


def refine(
    denoiser: Denoiser,
    start: Tensor,
    observed: Tensor,
    settings: Refinement,
    *,
    step: int | None = None,
    anchored: Tensor | None = None,
    level: Tensor | None = None,
    seed: int = 0,
    max_batch: int | None = 256,
    on_divergence: Literal["raise", "warn"] = "raise",
    progress: bool = False,
) -> Tensor:
    """Walk windows down the energy; the refined windows, of the shape of `start`.

    The noise of walker j depends on (seed, j, iteration) alone, not on the batches.

    Args:
        denoiser: the model, under a `DiscreteBetas` schedule.
        start: y0 (B, L, K), scaled: the observed values, and the base forecast where nothing was observed.
        observed: boolean (B, L, K).
        settings: see `Refinement`.
        step: the index of the diffusion step where `settings` asks for the representative one.
        anchored: which entries the quantile regulariser holds; all by default.
        level: (B,), of the quantile regulariser.
        seed, max_batch, progress: as in `core.sample`.
        on_divergence: "raise" or "warn" when the walk runs away.

    Raises:
        DivergenceError: the walk ran away: the step size is too large.
        ValueError: shapes that do not fit, a step beyond the schedule, missing levels.
    """
    schedule, asked = _table(denoiser), settings.step
    if start.shape != observed.shape:
        raise ValueError(f"start {tuple(start.shape)} and observed {tuple(observed.shape)} must have the same shape")
    if settings.leveled and (level is None or level.shape != (len(start),)):
        raise ValueError(f"the quantile regulariser needs one level a walker, shape ({len(start)},)")
    index = step if asked == "representative" else asked if isinstance(asked, int) else None
    if index is None and asked == "representative":
        raise ValueError("the representative step is found by representative_step(step_losses(...)): give step=")
    if index is not None and not 0 <= index < schedule.num_steps:
        raise ValueError(f"step={index} is outside the schedule's 0 .. {schedule.num_steps - 1}")
    held = observed if not settings.leveled else torch.ones_like(observed) if anchored is None else anchored
    size = max_batch or len(start)
    chunks = [slice(k, min(k + size, len(start))) for k in range(0, len(start), size)]
    told, out = [False], []
    with _bar(settings.iterations * len(chunks), progress) as bar:
        for part in chunks:
            y0, mask = start[part], held[part]
            noise, y = SlotNoise(seed, range(part.start, part.stop)), y0
            limit = 50.0 * y0.square().flatten(1).mean(1).sqrt().clamp_min(1.0)
            k = None if level is None else level[part]
            for i in range(settings.iterations):
                y = _iterate(denoiser, schedule, y, y0, mask, k, settings, index, noise, i)
                _guard(y, limit, i, settings, on_divergence, told)
                bar.update(1)
            out.append(y)
    return torch.cat(out)


def _iterate(
    denoiser: Denoiser,
    schedule: DiscreteBetas,
    y: Tensor,
    y0: Tensor,
    held: Tensor,
    level: Tensor | None,
    settings: Refinement,
    index: int | None,
    noise: SlotNoise,
    i: int,
) -> Tensor:
    """One step of the walk."""
    t: Any
    if index is None:  # another step for each walker: from the bits of one normal number each
        u = torch.special.ndtr(noise(y[:, :1, 0].double(), i, "refine/step")[:, 0])
        t = ((u * schedule.num_steps).floor().clamp_max(schedule.num_steps - 1) + 1) / schedule.num_steps
    else:
        t = (index + 1) / schedule.num_steps
    regulariser = settings.regulariser
    assert not isinstance(regulariser, str)
    gradient = torch.zeros_like(y)
    if settings.energy == "score":
        with torch.no_grad():
            a, s = (torch.as_tensor(c).to(y).reshape(-1, 1, 1) for c in (schedule.alpha(t), schedule.sigma(t)))
            gradient = a / s * denoiser(a * y, t).noise
    with torch.enable_grad():
        z = y.detach().requires_grad_(True)
        energy = regulariser.scale * regulariser.energy(y0 - z, held, level).sum()
        if settings.energy == "denoising":
            n = noise(y, i, "refine/noise")
            pred = denoiser(denoiser.add_noise(z, n, t), t)
            energy = energy + (n - pred.noise).square().sum()
        gradient = gradient + torch.autograd.grad(energy, z)[0]
    y = y - settings.step_size * gradient
    if settings.method == "lmc" and settings.noise_scale:
        y = y + (2 * settings.step_size) ** 0.5 * settings.noise_scale * noise(y, i, "refine/langevin")
    return y


def _guard(y: Tensor, limit: Tensor, i: int, settings: Refinement, action: str, told: list[bool]) -> None:
    bad = ~(y.square().flatten(1).mean(1).sqrt() <= limit)
    if not bool(bad.any()):
        return
    message = (
        f"refinement diverged in {int(bad.sum())} of {len(bad)} paths at iteration {i + 1} of {settings.iterations}: "
        f"reduce step_size (now {settings.step_size:g}) or the regulariser's scale"
        + (", or take a later diffusion step" if settings.energy == "score" else "")
        + "; a model that was hardly trained fails in the same way"
    )
    if action == "raise":
        raise DivergenceError(message)
    if not told[0]:
        import warnings

        told[0] = True
        warnings.warn(message, stacklevel=4)


def _table(denoiser: Denoiser) -> DiscreteBetas:
    if not isinstance(denoiser.schedule, DiscreteBetas):
        raise ValueError(f"refinement is defined on a table of diffusion steps, got {denoiser.schedule!r}")
    return denoiser.schedule


def _bar(total: int, progress: bool) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=total, desc="refining", unit="step", disable=not progress)
