"""Local dimension against planes, whose score is exact."""

import math
import warnings

import pytest
import torch

from scidiffuse.core import (
    EDM,
    VE,
    CondOT,
    Denoiser,
    Graph,
    Masked,
    PFGMpp,
    Product,
    ProductSchedule,
    VPLinear,
    ZeroCoM,
)
from scidiffuse.core.diagnostics import local_dimension, score_rank
from scidiffuse.core.noise import SlotNoise

N = 20


def plane(k, schedule=None, space=None, n=N):
    """Exact denoiser of standard normal data on a randomly turned k-plane in n dimensions, and its basis."""
    schedule = schedule or EDM()
    generator = torch.Generator().manual_seed(k)
    basis = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))[0][:, :k]

    def network(x, t):
        a, s = schedule.alpha(t.double()), schedule.sigma(t.double())
        return (a / (a * a + s * s))[:, None] * (x @ basis @ basis.T).to(x)

    return Denoiser(network, schedule, "data", space=space, label=lambda _, t: t), basis


def on_plane(basis, square):
    """A point of the plane with |x|^2 = square."""
    k = basis.shape[1]
    return (basis @ torch.full((k,), math.sqrt(square / k), dtype=torch.float64))[None]


@pytest.mark.parametrize("schedule", [EDM(), VE(), VPLinear(), CondOT()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize(("k", "square", "small", "large"), [(3, 2.19, 2.9997, 2.7504), (7, 9.125, 7.0008, 7.06)])
def test_recorded_values(schedule, k, square, small, large):
    """LID = k - k s^2/(1 + s^2) + s^2 |x|^2/(1 + s^2)^2 for a plane, at any noise level s."""
    denoiser, basis = plane(k, schedule)
    levels = (0.02, 0.1, 0.5)
    result = local_dimension(denoiser, on_plane(basis, square), levels)
    curve = result.curve[:, 0].tolist()
    assert (curve[0], curve[2]) == pytest.approx((small, large), abs=1e-4)
    assert curve == pytest.approx(
        [k - k * s * s / (1 + s * s) + s * s * square / (1 + s * s) ** 2 for s in levels], abs=1e-9
    )
    assert float(result.value) == pytest.approx(k, abs=0.1)
    assert float(result.asymmetry.max()) < 1e-12
    assert result.plateau.tolist() == [[0, 2]]


def test_hutchinson_agrees_and_does_not_depend_on_batches():
    denoiser, basis = plane(3)
    x = torch.cat([on_plane(basis, q) for q in (1.0, 2.0, 3.0, 4.0, 5.0)])
    levels = (0.02, 0.05, 0.1)
    exact = local_dimension(denoiser, x, levels)
    options = {"divergence": "hutchinson", "seed": 1, "probe_kind": "gaussian"}
    estimate = local_dimension(denoiser, x, levels, probes=2000, tolerance=2.0, **options)
    spread = math.sqrt(2 * 17 / 2000)  # of sum of 17 chi-squares over 2000 probes
    assert 0.0 < float((estimate.curve - exact.curve).abs().max()) < 5 * spread
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = local_dimension(denoiser, x, levels, probes=2, **options).curve
        parts = local_dimension(denoiser, x, levels, probes=2, max_batch=2, **options).curve
    torch.testing.assert_close(parts, whole)


@pytest.mark.parametrize("divergence", ["exact", "hutchinson"])
def test_asymmetry_of_a_score_that_is_no_gradient(divergence):
    """J = -(1 + w R) / sigma with R antisymmetric, R^T R = 1: |J - J^T| / |J| = 2 w / sqrt(1 + w^2)."""
    w, turn = 0.5, torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    denoiser = Denoiser(lambda x, t: x + w * x @ turn, EDM(), "noise")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = local_dimension(denoiser, torch.ones(2, 2).double(), divergence=divergence, seed=0)
    torch.testing.assert_close(result.asymmetry, torch.full_like(result.curve, 2 * w / math.sqrt(1 + w * w)))


def test_a_warning_without_a_plateau():
    """A plane that is 0.1 thick: 20 dimensions below that, 3 above, and nothing flat between far levels."""
    _, basis = plane(3)

    def network(x, t):
        s2 = (EDM().sigma(t.double()) ** 2)[:, None]
        along = x @ basis @ basis.T
        return along / (1 + s2) + (x - along) * 0.01 / (0.01 + s2)

    denoiser = Denoiser(network, EDM(), "data", label=lambda _, t: t)
    x = on_plane(basis, 3.0)
    with pytest.warns(UserWarning, match="no plateau"):
        result = local_dimension(denoiser, x, (0.05, 0.1, 0.2))
    assert bool(result.value.isnan().all()) and result.plateau.tolist() == [[-1, -1]]
    fine = local_dimension(denoiser, x, (1e-3, 2e-3, 4e-3, 0.1, 0.2))
    assert float(fine.value) == pytest.approx(20, abs=0.1)
    assert fine.plateau.tolist() == [[0, 2]]


@pytest.mark.parametrize("k", [0, 1, 7, 19, 20])
def test_rank(k):
    denoiser, basis = plane(k)
    x = torch.zeros(2, N, dtype=torch.float64) if k == 0 else torch.cat([on_plane(basis, q) for q in (1.0, k)])
    result = score_rank(denoiser, x, 0.02, seed=0)
    assert result.dimension.tolist() == [k, k]
    assert float(result.gap.min()) > 3.5
    across = result.singular_values[:, : N - k]
    if k < N:
        assert float(across.min()) > 0.3 and float(across.max()) < 2.0


def test_rank_does_not_depend_on_batches_and_warns_without_a_gap():
    denoiser, basis = plane(3)
    x = torch.cat([on_plane(basis, q) for q in (1.0, 2.0, 3.0)])
    whole = score_rank(denoiser, x, seed=2)
    cut = score_rank(denoiser, x, seed=2, max_batch=17)
    torch.testing.assert_close(cut.singular_values, whole.singular_values)
    alone = score_rank(denoiser, x[2:], seed=2, slots=range(2, 3))
    torch.testing.assert_close(alone.singular_values, whole.singular_values[2:])

    slopes = 0.95 ** torch.arange(N, dtype=torch.float64)
    smooth = Denoiser(lambda x, t: x * slopes / 0.05, EDM(), "noise")
    with pytest.warns(UserWarning, match="no clear gap"):
        score_rank(smooth, torch.zeros(1, N, dtype=torch.float64), 0.05, seed=0)


MASK = torch.tensor([[True, True, True, True, False]])


@pytest.mark.parametrize(
    ("space", "like", "ndof"),
    [
        (Masked(MASK), torch.zeros(1, 5, 2), 8),
        (ZeroCoM(MASK), torch.zeros(1, 5, 3), 9),
        (Graph(MASK), torch.zeros(1, 5, 5), 6),
        (Product(X=Masked(MASK), A=Graph(MASK)), {"X": torch.zeros(1, 5), "A": torch.zeros(1, 5, 5)}, 10),
    ],
    ids=["masked", "zero-com", "graph", "product"],
)
def test_degrees_of_freedom_of_spaces(space, like, ndof):
    """Data that fill the space have its dimension, a point has none."""
    like = {k: v.double() for k, v in like.items()} if isinstance(like, dict) else like.double()
    x = space.randn(SlotNoise(0, range(1)), like, 0)

    def scaled(x, c):
        return {k: v * c for k, v in x.items()} if isinstance(x, dict) else x * c

    full = Denoiser(lambda x, t: scaled(x, 1 / (1 + float(t[0]) ** 2)), EDM(), "data", space, label=_sigma)
    point = Denoiser(lambda x, t: scaled(x, 0.0), EDM(), "data", space, label=_sigma)
    small = (1e-3, 2e-3, 4e-3)
    result = local_dimension(full, x, small)
    assert float(result.value) == pytest.approx(ndof, abs=1e-2)
    assert score_rank(full, x, seed=0).dimension.tolist() == [ndof]
    zero = scaled(x, 0.0)
    assert float(local_dimension(point, zero, small).value) == pytest.approx(0, abs=1e-6)
    assert score_rank(point, zero, seed=0).dimension.tolist() == [0]


def _sigma(schedule, t):
    return schedule.sigma(t)


def test_refusals():
    denoiser, basis = plane(3)
    x = on_plane(basis, 1.0)
    student = Denoiser(lambda x, t: x, PFGMpp(D=64), "data")
    for call in (local_dimension, lambda d, x: score_rank(d, x, seed=0)):
        with pytest.raises(ValueError, match="Student-t noise"):
            call(student, x)
        with pytest.raises(ValueError, match="one noise level"):
            call(Denoiser(lambda x, t: x, ProductSchedule(X=VPLinear(), clock="X")), {"X": x})
        with pytest.raises(TypeError, match="floating point"):
            call(denoiser, x.long())
    with pytest.raises(ValueError, match="increasing positive"):
        local_dimension(denoiser, x, (0.1, 0.05, 0.01))
    with pytest.raises(ValueError, match="increasing positive"):
        local_dimension(denoiser, x, (0.1, 0.2))
    with pytest.raises(ValueError, match="does not reach"):
        local_dimension(denoiser, x, (0.1, 0.2, 1e4))
    with pytest.raises(ValueError, match="give seed="):
        local_dimension(denoiser, x, divergence="hutchinson")
    with pytest.raises(ValueError, match="probes must be"):
        local_dimension(denoiser, x, divergence="hutchinson", seed=0, probes=0)
    with pytest.raises(ValueError, match="max_batch"):
        local_dimension(denoiser, x, max_batch=0)
    with pytest.raises(ValueError, match="must be differentiable"):
        local_dimension(Denoiser(lambda x, t: torch.zeros_like(x), EDM(), "noise"), x)
    with pytest.raises(ValueError, match="cannot span"):
        score_rank(denoiser, x, samples=5, seed=0)
