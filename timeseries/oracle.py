r"""A process whose diffusion is known in closed form: the truth that guidance, refinement and steering are held to.

The stationary Gaussian autoregression of order p,

    y_t - mu = phi_1 (y_{t-1} - mu) + ... + phi_p (y_{t-p} - mu) + e_t,        e_t ~ N(0, s_e^2) independent,

has the autocovariance g(k) that solves the Yule-Walker equations g(k) = sum_j phi_j g(k - j) + s_e^2 [k = 0]: linear
for k = 0 .. p, a recursion above. A window of L steps, with lag channels y_{t-lag}, is normal with mean mu and the
covariance K that has g(i - j) for times i and j. Under x = a x0 + s n (any Gaussian schedule),

    x ~ N(a mu, M),   M = a^2 K + s^2 I,
    E[x0 | x] = mu + a K M^-1 (x - a mu),        E[n | x] = s M^-1 (x - a mu),

which in the eigenvectors of K (one decomposition for all times) are multiplications by a k/(a^2 k + s^2) and
s/(a^2 k + s^2). Given the entries O of a window (any: a context with random holes, RM, or with a missing block at its
beginning, BM-B, or its end, BM-E),

    x0 | x0_O = y  ~  N(mu + K_{.O} K_OO^-1 (y - mu),  K - K_{.O} K_OO^-1 K_{O.}).

Sums, differences and bounds of such a normal law have closed forms, too: :meth:`Normal.linear`, and, for w x >= c with
m, v the mean and variance of w x, z = (c - m)/sqrt(v) and h = pdf(z)/(1 - cdf(z)) (the hazard),

    E[x | w x >= c] = mean + C w h / sqrt(v),
    Cov[x | w x >= c] = C - C w (C w)^T h (h - z) / v.

*Mean-square self-guidance* (:mod:`.guidance`) is linear in x on this process: the guided sampler maps a normal law to a
normal law at every step, and :func:`guided_gain` follows it without any sampling. It answers where guidance is exact.
The posterior would be reached with the gradient of log p(y | x), a normal law of the covariance C_OO, C = s^2 K M^-1;
guidance puts I/(2 scale) in its place. On white noise of variance k that is right at the one time where
scale = (a^2 k + s^2)/(2 s^2 k), a number that runs from 1/(2k) (all noise) to infinity (no noise): a constant scale is
exact nowhere, too strong early and too soft late. How far off the result is: see the table in :mod:`.guidance`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..core.denoisers import Denoiser
from ..core.schedules import DiscreteBetas, Schedule

__all__ = ["GaussianAR", "Normal", "guided_gain", "guided_law"]


@dataclass(frozen=True)
class Normal:
    """A multivariate normal law, float64.

    Attributes:
        mean: (d,).
        covariance: (d, d); may be singular (what is known exactly has variance 0).
    """

    mean: Tensor
    covariance: Tensor

    @property
    def sd(self) -> Tensor:
        """Standard deviations (d,)."""
        return self.covariance.diagonal().clamp_min(0.0).sqrt()

    def take(self, index: Any) -> Normal:
        """The marginal law of the entries `index` (a slice or a list)."""
        return Normal(self.mean[index], self.covariance[index][:, index])

    def linear(self, weights: Tensor) -> tuple[float, float]:
        """Mean and standard deviation of w x, w (d,)."""
        w = weights.to(self.mean)
        return float(w @ self.mean), float((w @ self.covariance @ w).clamp_min(0.0).sqrt())

    def exceeding(self, weights: Tensor, threshold: float) -> tuple[float, Tensor, Tensor]:
        """P(w x >= c), and mean (d,) and covariance (d, d) of x given that."""
        w = weights.to(self.mean)
        m, sd = self.linear(w)
        z = torch.tensor((threshold - m) / sd, dtype=torch.float64)
        tail = torch.special.log_ndtr(-z)
        hazard = torch.exp(-0.5 * z * z - 0.5 * np.log(2 * np.pi) - tail)
        cw = self.covariance @ w / sd
        covariance = self.covariance - torch.outer(cw, cw) * hazard * (hazard - z)
        return float(tail.exp()), self.mean + cw * hazard, covariance

    def draw(self, n: int, seed: int) -> Tensor:
        """n exact draws (n, d)."""
        values, vectors = torch.linalg.eigh(self.covariance)
        z = torch.randn(n, len(self.mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return self.mean + (z * values.clamp_min(0.0).sqrt()) @ vectors.T


class GaussianAR:
    """The exact denoiser and posterior of a stationary Gaussian autoregression.

    Its :meth:`denoiser` stands wherever that of a :class:`.tsdiff.TSDiff` does; with
    ``model.denoiser = oracle.denoiser(model.schedule)`` the verbs of a model run on it (in the units that the model
    scales its windows to).

    Args:
        coefficients: phi_1 .. phi_p.
        length: L, steps of a window.
        variance: g(0) of the process, 1 by default; s_e follows.
        mean: mu.
        lags: steps back of lag channels, which make a state (L, 1 + lags); none by default.

    Attributes:
        covariance: K (L (1 + lags), L (1 + lags)), entries in the order of a flattened state.
        innovation: s_e.

    Raises:
        ValueError: coefficients that do not make a stationary process (named with their largest root), a length below
            1, a variance that is not positive, lags that are not positive.
    """

    def __init__(
        self,
        coefficients: Sequence[float],
        length: int,
        *,
        variance: float = 1.0,
        mean: float = 0.0,
        lags: Sequence[int] = (),
    ) -> None:
        phi = np.asarray(coefficients, dtype=np.float64).reshape(-1)
        if not np.isfinite(phi).all():
            raise ValueError(f"coefficients must be finite, got {list(coefficients)}")
        root = float(np.abs(np.roots(np.concatenate([[1.0], -phi]))).max()) if len(phi) else 0.0
        if root >= 1:
            raise ValueError(
                f"coefficients {phi.tolist()} do not make a stationary process: the largest root has the modulus "
                f"{root:.4g}, it must be below 1"
            )
        if length < 1 or not (0 < variance < float("inf")) or any(k < 1 for k in lags):
            raise ValueError(
                f"need length >= 1, a positive variance and positive lags, got {length}, {variance}, {tuple(lags)}"
            )
        self.coefficients, self.length, self.mean, self.lags = phi, length, float(mean), tuple(int(k) for k in lags)
        self.variance = float(variance)
        reach = length + max(self.lags, default=0)
        self.autocovariance, self.innovation = _autocovariance(phi, reach, self.variance)
        times = np.arange(length)[:, None] - np.array([0, *self.lags])[None, :]
        apart = np.abs(times.reshape(-1)[:, None] - times.reshape(-1)[None, :])
        self.covariance = torch.from_numpy(self.autocovariance[apart])
        values, self._vectors = torch.linalg.eigh(self.covariance)
        self._values = values.clamp_min(0.0)

    def __repr__(self) -> str:
        return f"GaussianAR({self.coefficients.tolist()}, length={self.length}, variance={self.variance:g})"

    @property
    def prior(self) -> Normal:
        """The law of a window."""
        return Normal(torch.full((len(self.covariance),), self.mean, dtype=torch.float64), self.covariance)

    def condition(self, values: Tensor | np.ndarray, observed: Tensor | np.ndarray, noise: float = 0.0) -> Normal:
        """The law of a whole window given some of its entries.

        Args:
            values: (L,) or (L, 1 + lags); what is not observed does not matter.
            observed: boolean, the same shape.
            noise: standard deviation of what the values were measured with; 0: they are exact.

        Raises:
            ValueError: shapes that are not those of a window.
        """
        values, observed = torch.as_tensor(values).double(), torch.as_tensor(observed).bool()
        size = len(self.covariance)
        if values.numel() != size or observed.shape != values.shape:
            raise ValueError(
                f"values and observed must have the {size} entries of a window, got {tuple(values.shape)} and "
                f"{tuple(observed.shape)}"
            )
        y, o, K = values.reshape(-1), observed.reshape(-1), self.covariance
        if not bool(o.any()):
            return self.prior
        inner = K[o][:, o] + noise**2 * torch.eye(int(o.sum()), dtype=torch.float64)
        gain = K[:, o] @ torch.linalg.pinv(inner, hermitian=True, rtol=1e-12)
        mean = self.mean + gain @ (y[o] - self.mean)
        covariance = K - gain @ K[o]
        if noise == 0.0:
            mean, known = torch.where(o, y, mean), (~o).double()
            covariance = covariance * known[:, None] * known[None, :]
        return Normal(mean, 0.5 * (covariance + covariance.T))

    def data(self, x: Tensor, a: Any, s: Any) -> Tensor:
        """E[x0 | x] for x = a x0 + s n; x (B, L) or (B, L, 1 + lags), a and s numbers or (B,)."""
        return self._filtered(x, a, s, "data")

    def noise(self, x: Tensor, a: Any, s: Any) -> Tensor:
        """E[n | x], arguments as for :meth:`data`."""
        return self._filtered(x, a, s, "noise")

    def _filtered(self, x: Tensor, a: Any, s: Any, what: Literal["data", "noise"]) -> Tensor:
        a, s = (torch.as_tensor(c, dtype=torch.float64, device=x.device).reshape(-1, 1) for c in (a, s))
        k, v = self._values.to(x.device), self._vectors.to(x.device)
        z = (x.double().reshape(len(x), -1) - a * self.mean) @ v
        total = (a * a * k + s * s).clamp_min(1e-300)
        out = (z * (a * k if what == "data" else s) / total) @ v.T
        return (out + self.mean if what == "data" else out).reshape(x.shape).to(x)

    def denoiser(self, schedule: Schedule, prediction: Literal["noise", "data"] = "noise") -> Denoiser:
        """The exact denoiser under a Gaussian schedule, of states (B, L, 1 + lags).

        Args:
            schedule: any of the core's Gaussian schedules without a basis and without a reference.
            prediction: what its "network" answers. "noise" keeps all digits near the data, "data" also serves
                schedules that reach alpha = 0.

        Raises:
            ValueError: a schedule that is not Gaussian, that acts in a basis, or another prediction.
        """
        if schedule.family != "gaussian" or schedule.basis is not None or schedule.elementwise:
            raise ValueError(f"the oracle knows plain Gaussian schedules, got {schedule!r}")
        if prediction not in ("noise", "data"):
            raise ValueError(f"prediction must be 'noise' or 'data', got {prediction!r}")

        def network(x: Tensor, t: Tensor) -> Tensor:
            t = t.double()
            return self._filtered(x, schedule.alpha(t), schedule.sigma(t), prediction)

        return Denoiser(network, schedule, prediction, label=_time)


def _time(schedule: Schedule, t: Any) -> Any:
    """Tell the network the time itself."""
    return t


def _autocovariance(phi: np.ndarray, n: int, variance: float) -> tuple[np.ndarray, float]:
    """g(0) .. g(n) of the process with g(0) = variance, and the innovation's standard deviation."""
    p = len(phi)
    A = np.eye(p + 1)  # the equations k = 0 .. p with s_e = 1
    for k in range(p + 1):
        for j in range(1, p + 1):
            A[k, abs(k - j)] -= phi[j - 1]
    g = np.zeros(max(n, p) + 1)
    g[: p + 1] = np.linalg.solve(A, np.eye(p + 1)[0])
    for k in range(p + 1, len(g)):
        g[k] = phi @ g[k - 1 : k - 1 - p : -1] if k > p else 0.0
    return g[: n + 1] * (variance / g[0]), float(np.sqrt(variance / g[0]))


def guided_gain(
    oracle: GaussianAR,
    schedule: DiscreteBetas,
    times: Sequence[float],
    scale: float,
    observed: Tensor,
    rule: Literal["ddpm", "ddim"] = "ddpm",
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Mean-square self-guidance on the oracle, as what it does to the observations: exact, without sampling.

    With J = dE[x0|x]/dx = a K M^-1 (symmetric) and P the observed entries, grad E = -2 J P (y - E[x0 | x]) is affine in
    x and y, and so is every step from (a, s) to (a', s').

    Args:
        oracle: the process, d = L (1 + lags) entries a window.
        schedule: of the run.
        times: from noise to data, as the grid of the run (``grids.discrete(...).times``).
        scale: of :class:`.guidance.MSEGuidance`.
        observed: boolean (L,) or (L, 1 + lags).
        rule: "ddpm", or "ddim" with eta = 0.

    Returns:
        gain (d, d), offset (d,) and covariance (d, d): samples are N(gain y + offset, covariance), whatever y is.
    """
    if rule not in ("ddpm", "ddim"):
        raise ValueError(f"rule must be 'ddim' or 'ddpm', got {rule!r}")
    K, mu, d = oracle.covariance, oracle.prior.mean, len(oracle.covariance)
    eye, o = torch.eye(d, dtype=torch.float64), observed.reshape(-1).double()
    gain, offset = torch.zeros_like(K), torch.zeros_like(mu)
    cov = eye * float(schedule.prior_std(times[0])) ** 2
    values, vectors = torch.linalg.eigh(K)
    for t, u in pairwise(times):
        a, s, b, r = (float(c) for c in (schedule.alpha(t), schedule.sigma(t), schedule.alpha(u), schedule.sigma(u)))
        N = (vectors * (s / (a * a * values + s * s))) @ vectors.T  # noise = N x + n0
        n0 = -a * N @ mu
        J, j0 = (eye - s * N) / a, -s * n0 / a  # data = J x + j0
        PJ = 2 * J * o  # grad E = PJ (J x + j0 - y)
        if rule == "ddim":
            step, var = scale * s * (r - b * s / a), 0.0  # the noise moves by scale s grad E, the data by -s/a of it
            keep = r
        else:
            var = r * r / (s * s) * (s * s - (a / b) ** 2 * r * r)
            step, keep = -scale * var, max(r * r - var, 0.0) ** 0.5
        A = b * J + keep * N + step * PJ @ J
        offset = A @ offset + b * j0 + keep * n0 + step * PJ @ j0
        gain = A @ gain - step * PJ
        cov = A @ cov @ A.T + var * eye
    return gain, offset, 0.5 * (cov + cov.T)


def guided_law(
    oracle: GaussianAR,
    schedule: DiscreteBetas,
    times: Sequence[float],
    scale: float,
    values: Tensor,
    observed: Tensor,
    rule: Literal["ddpm", "ddim"] = "ddpm",
) -> Normal:
    """The exact law of the samples of mean-square self-guidance towards `values`; arguments as `guided_gain`."""
    gain, offset, covariance = guided_gain(oracle, schedule, times, scale, observed, rule)
    y = torch.where(observed, values.double(), 0.0).reshape(-1)
    return Normal(gain @ y + offset, covariance)
