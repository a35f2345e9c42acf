"""Kinetic-optimal paths: the energy formula, the chord, and the claims that follow."""

import math
from itertools import pairwise

import pytest
import torch
from scipy.integrate import quad, solve_ivp

from scidiffuse.core.schedules import GVP, CondOT, KineticOptimal, Separation, VPLinear, kinetic_energy

HALF_PI = math.pi / 2
S = [10 ** (i / 12 - 2) for i in range(49)]


def two_points_mmse(s):
    """x0 = +-1 with equal odds: E[x0 | x] = tanh(s x), x = s x0 + n; the separation is E tanh(s x)."""
    f = lambda n: math.exp(-n * n / 2) / math.sqrt(2 * math.pi) * (1 - math.tanh(s * (s + n)))  # noqa: E731
    return quad(f, -12, 12, epsabs=1e-13, limit=200, points=[-s])[0]


@pytest.fixture(scope="module")
def two_points():
    return Separation.from_mmse(S, [max(two_points_mmse(s), 0.0) for s in S])


def test_gaussian_data_have_no_energy():
    k = KineticOptimal.from_separation(S, [s * s / (1 + s * s) for s in S])  # the linear denoiser is the best
    assert k.energy < 1e-3
    assert kinetic_energy(k, k.separation) < 1e-3


def test_separated_data_give_conditional_ot():
    k = KineticOptimal.from_denoiser_losses(S, [0.0] * len(S))
    assert k.separation.Psi == pytest.approx(HALF_PI, rel=1e-14)
    for t in (0.0, 1e-6, 0.2, 0.5, 0.9):
        assert k.alpha(t) == pytest.approx(1 - t, abs=1e-14)
        assert k.sigma(t) == pytest.approx(t, rel=1e-12, abs=1e-16)
    assert k.energy == pytest.approx(2.0)
    assert kinetic_energy(CondOT(), k.separation) == pytest.approx(2.0, rel=1e-12)


def test_energy_formula_against_its_definition(two_points):
    # int a'^2 + s'^2 - (1 - lam) s^2 (d(a/s)/dt)^2 dt, away from the ends where it is 0 * inf
    path = GVP()

    edges = [2 * phi / math.pi for phi in two_points.phi]  # where sqrt(g) bends along this path

    def integrand(t):
        a, s = path.alpha(t), path.sigma(t)
        da, _, ds = path.derivatives(t)
        phi = math.atan2(s, a)
        mmse = math.sin(phi) ** 2 * (1 - two_points.root_g(phi) ** 2)
        return da**2 + ds**2 - mmse * (da - a * ds / s) ** 2

    direct = sum(quad(integrand, max(a, 1e-9), b, epsabs=1e-10)[0] for a, b in pairwise(edges))
    assert kinetic_energy(path, two_points) == pytest.approx(direct, rel=1e-6)


def test_energy_against_monte_carlo(two_points):
    # E|E[dx/dt | x]|^2 with the exact posterior of x0 = +-1 along GVP
    g = torch.Generator().manual_seed(0)
    n = 200_000
    t = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    x0 = torch.randint(0, 2, (n,), generator=g).double() * 2 - 1
    a, s = GVP().alpha(t), GVP().sigma(t)
    da, _, ds = GVP().derivatives(t)
    x = a * x0 + s * torch.randn(n, generator=g, dtype=torch.float64)
    mean = torch.tanh(a * x / s**2)
    v = da * mean + ds * (x - a * mean) / s
    error = float(v.square().std()) / math.sqrt(n)
    assert kinetic_energy(GVP(), two_points) == pytest.approx(float(v.square().mean()), abs=4 * error + 1e-3)


def test_chord_is_the_least(two_points):
    k = KineticOptimal(two_points)
    best = kinetic_energy(k, two_points)
    assert best == pytest.approx(k.energy, rel=1e-6)
    for path in (CondOT(), GVP(), VPLinear()):
        assert kinetic_energy(path, two_points) > best * 1.01
    g = torch.Generator().manual_seed(0)
    for _ in range(20):  # perturbations that keep the ends
        wobble = torch.randn(2, 4, generator=g, dtype=torch.float64) * 0.05
        modes = torch.arange(1, 5, dtype=torch.float64)[:, None] * math.pi

        def perturbed(t, wobble=wobble, modes=modes):
            a, s = k.alpha(t), k.sigma(t)
            da, _, ds = k.derivatives(t)
            bump, rate = torch.sin(modes * t), modes * torch.cos(modes * t)
            return a + wobble[0] @ bump, s + wobble[1] @ bump, da + wobble[0] @ rate, ds + wobble[1] @ rate

        assert kinetic_energy(perturbed, two_points) > best


def test_chord_solves_its_differential_equation(two_points):
    # phi' = sin Psi/(r^2 sqrt g), phi(0) = 0
    k = KineticOptimal(two_points)
    Psi = two_points.Psi

    def rate(t, phi):
        r2 = 1 - 2 * t * (1 - t) * (1 - math.cos(Psi))
        return [math.sin(Psi) / (r2 * two_points.root_g(float(phi[0])))]

    solution = solve_ivp(rate, (0, 1), [0.0], rtol=1e-10, atol=1e-12, max_step=0.01, t_eval=[0.25, 0.5, 0.75, 0.95])
    for t, phi in zip(solution.t, solution.y[0], strict=True):
        assert math.atan2(k.sigma(t), k.alpha(t)) == pytest.approx(phi, abs=1e-6)


def segmented(f, nodes, end):
    """Integral of a piecewise linear function from 0 to end: trapezoids between its nodes."""
    points = [p for p in nodes if p < end] + [end]
    return sum(0.5 * (f(a) + f(b)) * (b - a) for a, b in pairwise(points))


def test_separation_inverts(two_points):
    for phi in (0.0, 1e-9, 0.3, 1.0, 1.5, HALF_PI):
        chi = two_points.chi(phi)
        assert two_points.phi_of_chi(chi) == pytest.approx(phi, rel=1e-12, abs=1e-15)
        as_tensor = two_points.phi_of_chi(torch.tensor(chi, dtype=torch.float64))
        assert float(as_tensor) == pytest.approx(phi, rel=1e-12, abs=1e-15)
        assert two_points.chi(phi) == pytest.approx(segmented(two_points.root_g, two_points.phi, phi), abs=1e-13)
    assert two_points.chi(HALF_PI) == pytest.approx(two_points.Psi, rel=1e-14)


def test_separation_grows_with_dimension():
    # few points in many dimensions are told apart: Psi -> pi/2; a large Gaussian sample is not
    Psi = []
    for d in (4, 16, 64):
        g = torch.Generator().manual_seed(0)
        centres = torch.randn(5, d, generator=g)
        x = centres[torch.randint(0, 5, (300,), generator=g)]
        Psi.append(KineticOptimal.from_data(x, g).separation.Psi / HALF_PI)
    assert Psi == sorted(Psi) and Psi[-1] > 0.9
    g = torch.Generator().manual_seed(0)
    assert KineticOptimal.from_data(torch.randn(1600, 2, generator=g), g).separation.Psi / HALF_PI < 0.25


def test_bad_input():
    with pytest.raises(ValueError, match=r"lie in \[0, 1\], got 1\.2"):
        KineticOptimal.from_separation([1.0], [1.2])
    with pytest.raises(ValueError, match="positive"):
        Separation.from_mmse([-1.0], [0.5])
    with pytest.raises(ValueError, match="equal"):
        Separation.from_mmse([1.0, 1.0], [0.5, 0.4])
    with pytest.raises(ValueError, match="not negative"):
        Separation.from_mmse([1.0], [-0.5])
    with pytest.raises(ValueError, match="at least one"):
        Separation.from_mmse([], [])
    with pytest.raises(ValueError, match="constant"):
        KineticOptimal.from_data(torch.ones(10, 2), torch.Generator())
    with pytest.raises(ValueError, match="N >= 4"):
        KineticOptimal.from_data(torch.ones(3, 2), torch.Generator())
    with pytest.raises(ValueError, match="from 0 to pi/2"):
        Separation((0.1, HALF_PI), (1.0, 1.0))
    with pytest.raises(ValueError, match=r"\(0, 1\]"):
        Separation((0.0, HALF_PI), (1.0, 0.0))
