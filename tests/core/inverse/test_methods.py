"""Each solver's own formula, and what holds for all of them: spaces, leaves, per-sample times, precision."""

import pytest
import torch

from scidiffuse.core import (
    DDIM,
    CondOT,
    Denoiser,
    Masked,
    PFGMpp,
    Product,
    ProductSchedule,
    SlotNoise,
    VPCosine,
    VPLinear,
    ZeroCoM,
    grids,
    sample,
)
from scidiffuse.core.closed_form import GaussianMixture
from scidiffuse.core.inverse import (
    DDNM,
    DDRM,
    DDS,
    DPS,
    MMPS,
    DiffPIR,
    FlowChef,
    Measurement,
    PiGDM,
    RedDiff,
    Steered,
    reconstruct,
)
from scidiffuse.core.inverse.diffpir import Remix
from scidiffuse.core.operators import Function, LinearFunction, Mask, Matrix

MIXTURE = GaussianMixture.example()
SCHEDULE = VPLinear()
A = Matrix(torch.tensor([[1.0, 0.5]], dtype=torch.float64))
Y = torch.tensor([[0.8]], dtype=torch.float64)
T = 0.4


def _x(n=3, d=2, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _jacobian(denoiser, x, t):
    """dD/dx of each sample, (B, d, d)."""
    return torch.stack([torch.autograd.functional.jacobian(lambda v: denoiser(v[None], t).data[0], row) for row in x])


def test_pigdm_is_bayes_with_one_variance():
    denoiser, x = MIXTURE.denoiser(SCHEDULE), _x()
    pred = PiGDM(0.8).guide(denoiser, Measurement(A, Y, 0.2))(x, T)
    a, s = SCHEDULE.alpha(T), SCHEDULE.sigma(T)
    plain, jac, m = denoiser(x, T), _jacobian(denoiser, x, T), A.matrix
    r2 = 0.8 * (s / a) ** 2 / (0.8 + (s / a) ** 2)
    inverse = torch.linalg.inv(r2 * m @ m.T + 0.04 * torch.eye(1))
    score = torch.stack([j.T @ m.T @ inverse @ (Y[0] - m @ d) for j, d in zip(jac, plain.data, strict=True)])
    torch.testing.assert_close(pred.data, plain.data + s * s / a * score)
    torch.testing.assert_close(pred.noise, plain.noise - s * score)
    torch.testing.assert_close(x, a * pred.data + s * pred.noise)  # the state stays explained


def test_mmps_is_bayes_with_the_jacobian():
    denoiser, x = MIXTURE.denoiser(SCHEDULE), _x()
    operator = Matrix(torch.tensor([[1.0, 0.5], [0.0, 2.0]], dtype=torch.float64))
    y = torch.tensor([[0.8, -0.3]], dtype=torch.float64)
    pred = MMPS(iterations=2, tolerance=0.0).guide(denoiser, Measurement(operator, y, 0.2))(x, T)
    a, s = SCHEDULE.alpha(T), SCHEDULE.sigma(T)
    plain, jac, m = denoiser(x, T), _jacobian(denoiser, x, T), operator.matrix
    expected = []
    for j, d in zip(jac, plain.data, strict=True):
        covariance = s * s / a * j
        torch.testing.assert_close(covariance, covariance.T)  # Tweedie's second formula
        gain = covariance @ m.T @ torch.linalg.inv(m @ covariance @ m.T + 0.04 * torch.eye(2))
        expected.append(d + gain @ (y[0] - m @ d))
    torch.testing.assert_close(pred.data, torch.stack(expected))


def test_dps_step_is_the_gradient_of_the_misfit():
    """One step of DPS is the step of DDIM minus zeta grad |y - A D(x)|^2, by autograd through everything."""
    denoiser, x, grid = MIXTURE.denoiser(SCHEDULE), _x(), grids.uniform(1, 0.6, 0.5)
    operator = Function(lambda x: (x**2).sum(1, keepdim=True))
    for weight in ("constant", "residual"):
        run = reconstruct(
            denoiser, operator, Y, noise=0.1, method=DPS(0.3, weight), sampler=DDIM(), grid=grid, samples=3, x=x,
            seed=0, dtype=torch.float64,
        )  # fmt: skip
        leaf = x.clone().requires_grad_()
        misfit = (Y - operator(denoiser(leaf, 0.6).data)).square().sum(1)
        (grad,) = torch.autograd.grad(misfit.sum(), leaf)
        scale = 0.3 if weight == "constant" else 0.3 / misfit.detach().sqrt()[:, None]
        plain = sample(denoiser, DDIM(), grid, x=x, dtype=torch.float64).x
        torch.testing.assert_close(run.x[0], plain - scale * grad)
        assert (run.calls, run.vjps) == (1, 1)


def test_dds_run_to_the_end_is_the_proximal_point_and_keeps_the_noise():
    denoiser, x = MIXTURE.denoiser(SCHEDULE), _x()
    plain, m, gamma = denoiser(x, T), A.matrix, 3.0
    pred = DDS(10, gamma).guide(denoiser, Measurement(A, Y, 0.2))(x, T)
    expected = torch.linalg.solve(torch.eye(2) + gamma * m.T @ m, (plain.data + gamma * Y @ m).T).T
    torch.testing.assert_close(pred.data, expected)
    torch.testing.assert_close(pred.noise, plain.noise, rtol=0, atol=0)
    free = DDS(10).guide(denoiser, Measurement(A, Y, 0.2))(x, T)
    null = DDNM().guide(denoiser, Measurement(A, Y))(x, T)
    torch.testing.assert_close(free.data, null.data)  # least squares from D is the null-space projection
    torch.testing.assert_close(A(null.data), Y.expand(3, 1))


def test_diffpir_is_the_proximal_point_and_derives_the_noise():
    denoiser, x = MIXTURE.denoiser(SCHEDULE), _x()
    pred = DiffPIR(8.0).guide(denoiser, Measurement(A, Y, 0.2))(x, T)
    plain, m, k2 = denoiser(x, T), A.matrix, SCHEDULE.kappa(T) ** 2
    rho = 8.0 * 0.04 / k2
    expected = torch.linalg.solve(m.T @ m + rho * torch.eye(2), (Y @ m + rho * plain.data).T).T
    torch.testing.assert_close(pred.data, expected)
    torch.testing.assert_close(x, SCHEDULE.alpha(T) * pred.data + SCHEDULE.sigma(T) * pred.noise)


def test_remix_without_fresh_noise_is_ddim():
    denoiser, x, grid = MIXTURE.denoiser(SCHEDULE), _x(), grids.uniform(5)
    runs = [sample(denoiser, s, grid, x=x, seed=0, dtype=torch.float64).x for s in (Remix(0.0), DDIM())]
    torch.testing.assert_close(*runs)
    assert Remix().stochastic and not Remix(0.0).stochastic


def test_flowchef_skips_the_network():
    denoiser, x, grid = MIXTURE.denoiser(SCHEDULE), _x(), grids.uniform(1, 0.6, 0.5)
    run = reconstruct(
        denoiser, A, Y, noise=0.1, method=FlowChef(0.3, inner=2), grid=grid, samples=3, x=x, seed=0, dtype=torch.float64
    )
    data, m = denoiser(x, 0.6).data, A.matrix
    first = 0.3 * (Y - data @ m.T) @ m
    second = 0.3 * (Y - (data + first) @ m.T) @ m
    torch.testing.assert_close(run.x[0], sample(denoiser, DDIM(), grid, x=x, dtype=torch.float64).x + first + second)
    assert run.vjps == 0


def test_steered_walks_down_the_energy():
    denoiser, x = MIXTURE.denoiser(SCHEDULE), _x()
    plain, jac, m = denoiser(x, T), _jacobian(denoiser, x, T), A.matrix
    slope = (Y - plain.data @ m.T) @ m
    measurement = Measurement(A, Y, 0.1)
    pred = Steered(0.5).guide(denoiser, measurement)(x, T)
    torch.testing.assert_close(pred.data, plain.data + 0.5 * torch.einsum("bij,bi->bj", jac, slope))
    in_data = Steered(0.5, through_network=False).guide(denoiser, measurement)(x, T)
    torch.testing.assert_close(in_data.data, plain.data + 0.5 * slope)
    own = Steered(0.5, energy=lambda d: d.square().sum(1) / 2, through_network=False).guide(denoiser, measurement)(x, T)
    torch.testing.assert_close(own.data, 0.5 * plain.data)
    with pytest.raises(ValueError, match="one number a sample"):
        Steered(energy=lambda d: d).guide(denoiser, measurement)(x, T)


def test_red_diff_first_step_is_adam_on_the_paper_gradient():
    """Adam's first step has the length of its rate, against the sign of the gradient."""
    denoiser = MIXTURE.denoiser(SCHEDULE)
    run = reconstruct(
        denoiser, A, Y, noise=0.1, method=RedDiff(rate=0.05), grid=grids.uniform(1, 0.6, 0.0), samples=16, seed=3,
        dtype=torch.float64, x=_x(16),
    )  # fmt: skip
    x0, m = _x(16), A.matrix
    n = SlotNoise(3, range(16))(x0, 0, "step")
    a, s = SCHEDULE.alpha(0.6), SCHEDULE.sigma(0.6)
    score_gap = denoiser(a * x0 + s * n, 0.6).noise - n
    gradient = -(Y - x0 @ m.T) @ m + 0.25 * s / a * score_gap / 2  # means over m = 1 and d = 2 numbers
    torch.testing.assert_close(run.x[0] - x0, -0.05 * gradient.sign(), rtol=1e-4, atol=0)
    assert run.calls == 1  # t = 0 has no noise level and is not visited


def test_times_of_each_sample():
    denoiser, x, t = MIXTURE.denoiser(SCHEDULE), _x(), torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    for method in (PiGDM(), MMPS(2), DDS(3), DiffPIR(), DPS(), Steered()):
        guided = method.guide(denoiser, Measurement(A, Y, 0.2))
        together = guided(x, t)
        alone = torch.cat([guided(x[k : k + 1], float(t[k])).data for k in range(3)])
        torch.testing.assert_close(together.data, alone)


class _Joint:
    """Gaussian data on two leaves with different schedules; the network sees both."""

    def __init__(self):
        g = torch.Generator().manual_seed(5)
        root = torch.randn(5, 5, generator=g, dtype=torch.float64)
        self.covariance = root @ root.T / 5 + 0.1 * torch.eye(5)
        self.schedule = ProductSchedule(X=VPLinear(), A=VPCosine(), clock="X")

    def network(self, x, t):
        a, s = self.schedule.alpha(float(t[0])), self.schedule.sigma(float(t[0]))
        scale = torch.tensor([a["X"]] * 3 + [a["A"]] * 2, dtype=torch.float64)
        noise = torch.tensor([s["X"]] * 3 + [s["A"]] * 2, dtype=torch.float64)
        gain = self.covariance * scale
        gain = gain @ torch.linalg.inv(scale[:, None] * self.covariance * scale + torch.diag(noise**2))
        d = torch.cat([x["X"], x["A"]], 1) @ gain.T
        return {"X": d[:, :3], "A": d[:, 3:]}

    def denoiser(self):
        return Denoiser(self.network, self.schedule, "data", label=lambda _, t: t)


def test_a_measured_leaf_informs_the_other():
    joint = _Joint()
    m = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]], dtype=torch.float64)
    y = torch.tensor([[1.0, -0.5]], dtype=torch.float64)
    zero = {"X": torch.zeros(1, 3, dtype=torch.float64), "A": torch.zeros(1, 2, dtype=torch.float64)}
    run = reconstruct(
        joint.denoiser(),
        Matrix(m, leaf="X"),
        y,
        noise=0.2,
        method=MMPS(4),
        x=zero,
        seed=0,
        steps=100,
        dtype=torch.float64,
    )
    full = torch.cat([m, torch.zeros(2, 2, dtype=torch.float64)], 1)
    inner = full @ joint.covariance @ full.T + 0.04 * torch.eye(2)
    expected = joint.covariance @ full.T @ torch.linalg.solve(inner, y[0])
    found = torch.cat([run.mean["X"][0], run.mean["A"][0]])
    assert float((found - expected).norm() / expected.norm()) < 0.01
    assert float(found[3:].norm()) > 0.1  # the leaf that was not measured moved
    assert set(run.x) == {"X", "A"} and run.std is None


@pytest.mark.parametrize("method", [DPS(), PiGDM(), MMPS(), DDS(), DDS(3, 2.0), DiffPIR(), FlowChef(), Steered()])
def test_subspaces_are_kept(method):
    mask = torch.tensor([[True, True, True, False], [True, True, False, False]])
    m = _x(3, 8, seed=1).float()
    operator = LinearFunction(lambda x: x.flatten(1) @ m.T.to(x), (4, 2), lambda v: (v @ m.to(v)).reshape(-1, 4, 2))

    def network(x, t):
        return 0.3 * x + 0.1 * x.roll(1, 1) + 0.2

    for space in (ZeroCoM(mask), Masked(mask)):
        denoiser = Denoiser(network, VPLinear(), "data", space)
        y = torch.ones(2, 3)
        run = reconstruct(denoiser, operator, y, noise=0.5, method=method, steps=4, samples=2, seed=0)
        x = run.x.flatten(0, 1)
        again = space.take(torch.tensor([0, 0, 1, 1])).project(x)
        torch.testing.assert_close(again, x, rtol=1e-4, atol=1e-4)
        assert x.abs().sum() > 0


def test_masked_values_come_back_without_noise():
    denoiser = MIXTURE.denoiser(SCHEDULE)
    operator = Mask(torch.tensor([True, False]))
    y = torch.tensor([[0.7, float("nan")]], dtype=torch.float64)
    for method in (DDNM(), DDRM(), DDS()):
        run = reconstruct(
            denoiser, operator, y, noise=0.0, method=method, steps=20, samples=4, seed=1, dtype=torch.float64
        )
        torch.testing.assert_close(run.x[0, :, 0], torch.full((4,), 0.7, dtype=torch.float64))
        assert run.residual.max() < 1e-9 and run.expected_residual.item() == 0
    nearly = reconstruct(
        denoiser, operator, y, noise=0.0, method=PiGDM(), steps=50, samples=4, seed=1, dtype=torch.float64
    )
    assert nearly.residual.max() < 0.02


def test_flow_models_on_a_straight_path():
    denoiser = MIXTURE.denoiser(CondOT())
    for method in (FlowChef(0.5), MMPS(1)):
        run = reconstruct(denoiser, A, Y, noise=0.05, method=method, steps=50, samples=64, seed=0, dtype=torch.float64)
        assert run.misfit.mean() < 2


@pytest.mark.parametrize(
    ("method", "change", "message"),
    [
        (DDS(), {"operator": Function(torch.sin)}, "DDS needs a linear operator"),
        (PiGDM(), {"operator": Function(torch.sin)}, "PiGDM needs a linear operator"),
        (MMPS(), {"noise": 0.0}, "MMPS divides by the noise"),
        (DiffPIR(), {"noise": 0.0}, "DiffPIR divides by the noise"),
        (DDRM(), {"operator": A.T @ A}, "singular value decomposition"),
        (DDNM(), {"operator": A.T @ A}, "needs the singular values"),
        (DDNM(), {"sampler": DDIM()}, "needs DDIM"),
        (DDRM(), {"sampler": DDIM()}, "sampler of its own"),
        (RedDiff(), {"sampler": DDIM()}, "takes no sampler"),
        (FlowChef(), {"sampler": DDIM(1.0)}, "FlowChef is defined along the probability-flow ODE"),
        (PiGDM(), {"schedule": PFGMpp(D=64)}, "Student-t"),
        (DDRM(), {"space": Masked(torch.ones(1, 2, dtype=torch.bool))}, "DDRM moves single values"),
        (RedDiff(), {"space": Masked(torch.ones(1, 2, dtype=torch.bool))}, "RedDiff moves single values"),
        (DPS(), {"space": Product(X=Masked(torch.ones(1, 2, dtype=torch.bool)))}, "measures leaf None"),
    ],
)
def test_what_a_method_is_not_defined_for(method, change, message):
    schedule = change.get("schedule", SCHEDULE)
    measurement = Measurement(change.get("operator", A), Y, change.get("noise", 0.1))
    with pytest.raises(ValueError, match=message):
        method.check(measurement, schedule, change.get("space"), change.get("sampler"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: DPS(weight="other"),
        lambda: PiGDM(variance=0.0),
        lambda: MMPS(iterations=0),
        lambda: DDS(iterations=0),
        lambda: DDS(gamma=-1.0),
        lambda: DDRM(eta=2.0),
        lambda: DiffPIR(lambda_=0.0),
        lambda: Remix(1.5),
        lambda: FlowChef(inner=0),
        lambda: Steered(repeats=0),
    ],
)
def test_settings_out_of_range(make):
    with pytest.raises(ValueError, match=r"must|got"):
        make()


def test_small_noise_in_single_precision():
    """The two ways to solve agree, and neither divides rounding by the noise level."""
    denoiser = GaussianMixture.example().denoiser(SCHEDULE)
    matrix = torch.tensor([[1.0, 0.5], [0.2, 1.0]])
    plain = LinearFunction(lambda x: x @ matrix.T.to(x), (2,), lambda v: v @ matrix.to(v))
    x, y = _x().float(), torch.tensor([[0.8, 0.1]])
    for method in (PiGDM(), DiffPIR(1.0)):
        exact = method.guide(denoiser, Measurement(Matrix(matrix.double()), y.double(), 1e-5))(x.double(), T).data
        for operator in (Matrix(matrix), plain):
            found = method.guide(denoiser, Measurement(operator, y, 1e-5))(x, T).data
            torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-4)
