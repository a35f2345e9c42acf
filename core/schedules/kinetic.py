"""Kinetic-optimal Gaussian paths from the separation of the data.

Among the paths x_t = alpha x0 + sigma n one asks for the least kinetic energy of the marginal velocity,
KE/d = int E|E[dx/dt | x_t]|^2/d dt. Let the data be centred and of variance 1 a dimension. All that the energy
needs to know of them is how well they can be told from the noise, the minimum mean squared error of denoising
at s = alpha/sigma,

    mmse(s) = E|x0 - E[x0 | s x0 + n]|^2/d,    data separation  lam(s) = E|E[x0 | s x0 + n]|^2/d = 1 - mmse(s),

which is the data-prediction loss of any trained denoiser. In polar coordinates alpha = r cos(phi),
sigma = r sin(phi), phi = 0 at the data,

    KE/d = int r'^2 + r^2 g(phi) phi'^2 dt,     g = (lam - cos^2 phi)/sin^2 phi = 1 - mmse/(1/(1 + s^2)),

so g in [0, 1] is the share of the *linear* denoiser's error that the best denoiser removes: 0 for Gaussian
data, 1 for data that are told apart perfectly. With chi = int_0^phi sqrt(g) and Psi = chi(pi/2) this is the flat
plane in polar coordinates (r, chi), where the shortest way from (1, 0) to (1, Psi) is the chord:

    chi(t) = atan2(t sin Psi, 1 - t + t cos Psi),   r^2 = 1 - 2 t (1 - t)(1 - cos Psi),   KE*/d = 4 sin^2(Psi/2).

Well separated data have Psi = pi/2 and the chord is conditional OT, alpha = 1 - t, sigma = t, KE 2.

Here sqrt(g) is linear in phi between the nodes where it is known, so that chi is quadratic there, its inverse a
square root, and every function of the schedule, its derivatives and the time of a log-SNR are closed forms.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from . import maths as m
from .base import Schedule
from .maths import Scalar

__all__ = ["KineticOptimal", "Separation", "kinetic_energy"]

_FLOOR = 1e-4  # least sqrt(g): keeps chi invertible where the data are Gaussian
_HALF_PI = 0.5 * math.pi


@dataclass(frozen=True, eq=False)
class Separation:
    """sqrt(g) over the angle phi = atan(sigma/alpha), linear between nodes.

    Args:
        phi: angles, strictly increasing from 0 to pi/2.
        root: sqrt(g) there, in (0, 1].
    """

    phi: tuple[float, ...]
    root: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.phi) != len(self.root) or len(self.phi) < 2:
            raise ValueError(
                f"phi and root must be of one length, at least 2; got {len(self.phi)} and {len(self.root)}"
            )
        if self.phi[0] != 0.0 or abs(self.phi[-1] - _HALF_PI) > 1e-12:
            raise ValueError(f"phi must run from 0 to pi/2, got {self.phi[0]} to {self.phi[-1]}")
        for a, b in pairwise(self.phi):
            if not b > a:
                raise ValueError(f"phi must be strictly increasing, {a} is followed by {b}")
        for q in self.root:
            if not 0.0 < q <= 1.0:
                raise ValueError(f"root must lie in (0, 1], got {q}")

    @classmethod
    def from_mmse(cls, s_values: Sequence[float], mmse: Sequence[float]) -> Separation:
        """From the denoising error a dimension at the ratios s = alpha/sigma (any order).

        Errors above the linear denoiser's 1/(1 + s^2) count as equal to it (g = 0). Beyond the given ratios
        g is held constant.
        """
        if len(s_values) != len(mmse) or len(s_values) < 1:
            raise ValueError(f"need as many errors as ratios, at least one; got {len(mmse)} and {len(s_values)}")
        nodes: list[tuple[float, float]] = []
        for s, e in sorted(zip((float(s) for s in s_values), (float(e) for e in mmse), strict=True), reverse=True):
            if not (math.isfinite(s) and s > 0.0):
                raise ValueError(f"s = alpha/sigma must be positive and finite, got {s}")
            if not (math.isfinite(e) and e >= 0.0):
                raise ValueError(f"the error at s={s} must be finite and not negative, got {e}")
            g = 1.0 - e * (1.0 + s * s)
            nodes.append((math.atan2(1.0, s), max(math.sqrt(min(max(g, 0.0), 1.0)), _FLOOR)))
        if any(b[0] <= a[0] for a, b in pairwise(nodes)):
            raise ValueError("two of the ratios s are equal")
        nodes = [(0.0, nodes[0][1]), *nodes, (_HALF_PI, nodes[-1][1])]
        return cls(tuple(p for p, _ in nodes), tuple(q for _, q in nodes))

    @cached_property
    def chi_nodes(self) -> tuple[float, ...]:
        """chi at the nodes; the last is Psi."""
        out = [0.0]
        for i in range(len(self.phi) - 1):
            out.append(out[-1] + 0.5 * (self.root[i] + self.root[i + 1]) * (self.phi[i + 1] - self.phi[i]))
        return tuple(out)

    @property
    def Psi(self) -> float:
        """chi(pi/2): the angle between noise and data as the energy sees it, pi/2 for separated data."""
        return self.chi_nodes[-1]

    @cached_property
    def _hash(self) -> int:
        return hash((self.phi, self.root))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Separation) and self.phi == other.phi and self.root == other.root)

    def __repr__(self) -> str:
        return f"Separation(nodes={len(self.phi)}, Psi={self.Psi / _HALF_PI:.4g} * pi/2)"

    @cached_property
    def _tables(self) -> dict[str, Tensor]:
        rows = {"phi": self.phi, "root": self.root, "chi": self.chi_nodes}
        return {name: torch.tensor(row, dtype=torch.float64) for name, row in rows.items()}

    def _segment(self, name: str, x: Scalar) -> tuple[Scalar, Scalar, Scalar, Scalar]:
        """(phi, root, chi) at the left node of the segment where `name` holds x, and the slope of root."""
        top = len(self.phi) - 2
        if isinstance(x, Tensor):
            tables = {k: v.to(x.device) for k, v in self._tables.items()}
            i = (torch.searchsorted(tables[name], x.detach().double().contiguous(), right=True) - 1).clamp(0, top)
            phi, root, chi = (tables[k] for k in ("phi", "root", "chi"))
            slope = (root[i + 1] - root[i]) / (phi[i + 1] - phi[i])
            return phi[i].to(x.dtype), root[i].to(x.dtype), chi[i].to(x.dtype), slope.to(x.dtype)
        j = min(max(bisect_right(self.phi if name == "phi" else self.chi_nodes, x) - 1, 0), top)
        rise = (self.root[j + 1] - self.root[j]) / (self.phi[j + 1] - self.phi[j])
        return self.phi[j], self.root[j], self.chi_nodes[j], rise

    def root_g(self, phi: Scalar) -> Scalar:
        """sqrt(g) at the angle phi."""
        left, root, _, slope = self._segment("phi", phi)
        return root + slope * (phi - left)

    def chi(self, phi: Scalar) -> Scalar:
        """The flat angle, integral of sqrt(g) from the data end."""
        left, root, chi, slope = self._segment("phi", phi)
        d = phi - left
        return chi + d * (root + 0.5 * slope * d)

    def phi_of_chi(self, chi: Scalar) -> Scalar:
        """Inverse of `chi`."""
        left, root, start, slope = self._segment("chi", chi)
        rest = chi - start
        return left + 2.0 * rest / (root + m.sqrt(m.clip(root * root + 2.0 * slope * rest, 0.0, math.inf)))


@dataclass(frozen=True)
class KineticOptimal(Schedule):
    """The path of least kinetic energy for data of the given separation.

    On Kinetic Optimal Probability Paths for Generative Models (Shaul et al., 2023). The data must be centred and
    of variance 1 a dimension on average, as the separation supposes. A lower energy does not promise fewer
    steps of a solver.

    Args:
        separation: how the data stand out of the noise; see the `from_...` constructors.
    """

    separation: Separation

    @classmethod
    def from_separation(cls, s_values: Sequence[float], lam_values: Sequence[float]) -> KineticOptimal:
        """From data separations lam = E|E[x0 | x]|^2/d in [0, 1] at ratios s = alpha/sigma.

        At large s use `from_denoiser_losses`: 1 - lam is all that matters there and lam holds few of its digits.
        """
        for s, lam in zip(s_values, lam_values, strict=True):
            if not 0.0 <= lam <= 1.0:
                raise ValueError(f"the separation at s={s} must lie in [0, 1], got {lam}")
        return cls(Separation.from_mmse(s_values, [1.0 - float(lam) for lam in lam_values]))

    @classmethod
    def from_denoiser_losses(cls, s_values: Sequence[float], losses: Sequence[float]) -> KineticOptimal:
        """From a denoiser's mean squared error of the data a dimension, measured on held-out data."""
        return cls(Separation.from_mmse(s_values, losses))

    @classmethod
    def from_data(
        cls,
        x: Tensor,
        generator: torch.Generator,
        s_values: Sequence[float] | None = None,
        max_points: int = 2000,
    ) -> KineticOptimal:
        """Estimate the separation from samples alone.

        Half of the data acts as the prior of an exact posterior mean, the other half is denoised with it: judged
        on its own points the posterior would remember them and the data seem more separated than they are.

        Args:
            x: data (N, *features); centred and scaled to variance 1 here, and to be used so.
            generator: draws the split and the noise.
            s_values: ratios alpha/sigma; default 49 from 0.02 to 50, evenly in log.
            max_points: at most so many points in each half.

        Raises:
            ValueError: for fewer than 4 samples, or data that are constant or not finite.
        """
        if x.ndim < 2 or x.shape[0] < 4:
            raise ValueError(f"x must be (N, *features) with N >= 4, got {tuple(x.shape)}")
        flat = x.double().flatten(1)
        if not bool(torch.isfinite(flat).all()):
            raise ValueError("x contains values that are not finite")
        flat = flat - flat.mean(0)
        scale = float(flat.square().mean().sqrt())
        if scale == 0.0:
            raise ValueError("x is constant: nothing separates it")
        flat = (flat / scale)[torch.randperm(len(flat), generator=generator)]
        half = len(flat) // 2
        prior, held = flat[:half][:max_points], flat[half:][:max_points]
        noise = torch.randn(held.shape, generator=generator, dtype=torch.float64)
        ratios = [50.0 ** (i / 24.0 - 1.0) for i in range(49)] if s_values is None else [float(s) for s in s_values]
        losses = []
        for s in ratios:
            logits = -0.5 * torch.cdist(s * held + noise, s * prior).square()
            losses.append(float((held - logits.softmax(1) @ prior).square().mean()))
        return cls(Separation.from_mmse(ratios, losses))

    def _polar(self, t: Scalar) -> tuple[Scalar, Scalar]:
        """r and phi."""
        Psi = self.separation.Psi
        r = m.sqrt(1.0 - 2.0 * t * (1.0 - t) * (1.0 - math.cos(Psi)))
        chi = m.atan2(t * math.sin(Psi), 1.0 - t + t * math.cos(Psi))
        return r, m.clip(self.separation.phi_of_chi(chi), 0.0, _HALF_PI)

    def _rates(self, t: Scalar) -> tuple[Scalar, Scalar, Scalar, Scalar]:
        """r, phi, r', phi' = sin Psi/(r^2 sqrt g)."""
        Psi = self.separation.Psi
        r, phi = self._polar(t)
        return (
            r,
            phi,
            (2.0 * t - 1.0) * (1.0 - math.cos(Psi)) / r,
            math.sin(Psi) / (r * r * self.separation.root_g(phi)),
        )

    def alpha(self, t: Scalar) -> Scalar:
        r, phi = self._polar(t)
        return r * m.sin(_HALF_PI - phi)

    def sigma(self, t: Scalar) -> Scalar:
        r, phi = self._polar(t)
        return r * m.sin(phi)

    def log_snr(self, t: Scalar) -> Scalar:
        _, phi = self._polar(t)
        return m.log(m.sin(_HALF_PI - phi)) - m.log(m.sin(phi))

    def time_of_log_snr(self, value: Scalar) -> Scalar:
        Psi = self.separation.Psi
        chi = self.separation.chi(m.atan(m.exp(-value)))
        top = m.sin(chi)
        return m.clip(top / (top + m.sin(Psi - chi)), 0.0, 1.0)

    def derivatives(self, t: Scalar) -> tuple[Scalar, Scalar, Scalar]:
        r, phi, dr, dphi = self._rates(t)
        sin, cos = m.sin(phi), m.sin(_HALF_PI - phi)
        return dr * cos - r * sin * dphi, m.as_like(0.0, t), dr * sin + r * cos * dphi

    def drift(self, t: Scalar) -> Scalar:
        r, phi, dr, dphi = self._rates(t)
        return dr / r - m.div(m.sin(phi), m.sin(_HALF_PI - phi)) * dphi

    def g2(self, t: Scalar) -> Scalar:
        r, phi, _, dphi = self._rates(t)
        return 2.0 * r * r * m.div(m.sin(phi), m.sin(_HALF_PI - phi)) * dphi

    @property
    def energy(self) -> float:
        """KE*/d = 4 sin^2(Psi/2), the least there is."""
        return 4.0 * math.sin(0.5 * self.separation.Psi) ** 2


def kinetic_energy(
    schedule: Schedule | Callable[[Tensor], tuple[Tensor, Tensor, Tensor, Tensor]],
    separation: Separation,
    panels: int = 400,
) -> float:
    """KE/d of a path for data of the given separation, by Gauss-Legendre quadrature on panels of [0, 1].

    Paths whose sigma starts like sqrt(t) (VP) have infinite energy unless g vanishes at the data; the number
    returned for them is that of the quadrature, finite and growing with `panels`.

    Args:
        schedule: the path, or a function t -> (alpha, sigma, alpha', sigma') of float64 tensors.
        separation: of the data, see `Separation.from_mmse`.
        panels: number of panels, with five points in each.
    """
    x1, x2 = math.sqrt(5.0 - 2.0 * math.sqrt(10.0 / 7.0)) / 3.0, math.sqrt(5.0 + 2.0 * math.sqrt(10.0 / 7.0)) / 3.0
    w1, w2 = (322.0 + 13.0 * math.sqrt(70.0)) / 900.0, (322.0 - 13.0 * math.sqrt(70.0)) / 900.0
    points = torch.tensor([-x2, -x1, 0.0, x1, x2], dtype=torch.float64)
    weights = torch.tensor([w2, w1, 128.0 / 225.0, w1, w2], dtype=torch.float64)
    edges = torch.linspace(0.0, 1.0, panels + 1, dtype=torch.float64)
    t = (edges[:-1, None] + 0.5 * (points + 1.0) / panels).flatten()
    w = (weights * 0.5 / panels).repeat(panels)
    if isinstance(schedule, Schedule):
        a, s = schedule.alpha(t), schedule.sigma(t)
        da, _, ds = schedule.derivatives(t)
    else:
        a, s, da, ds = schedule(t)
    r2 = a * a + s * s
    dr = (a * da + s * ds) / r2.sqrt()
    dphi = (a * ds - s * da) / r2
    g = separation.root_g(torch.atan2(s, a)).square()
    return float((w * (dr * dr + r2 * g * dphi * dphi)).sum())
