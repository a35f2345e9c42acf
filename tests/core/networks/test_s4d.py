"""S4D: the convolution against the recurrence, the initialisations, and a cache that is never stale."""

import copy
import math

import numpy as np
import pytest
import torch

from scidiffuse.core.networks import S4D
from scidiffuse.core.networks.s4d import expm1_complex, hippo_legs, initial_poles

pytestmark = pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")

INITS = ["legs", "lin", "inv"]


def make(channels=4, d_state=8, init="legs", bidirectional=True, seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    layer = S4D(channels, d_state, init, bidirectional).to(dtype)
    with torch.no_grad():
        for p in layer.parameters():
            p.mul_(1 + 1e-6 * torch.randn_like(p))  # every digit of float64 in use
    return layer


def signal(*shape, seed=1, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


# ---------------------------------------------------------------- the map
@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("length", [1, 2, 3, 31, 100])
def test_convolution_equals_recurrence(init, bidirectional, length):
    layer, u = make(init=init, bidirectional=bidirectional).requires_grad_(False), signal(2, length, 4)
    for training in (True, False):
        y = layer.train(training)(u)
        assert float((y - layer.recurrence(u)).abs().max()) < 1e-10
    assert float((y - layer.D * u).abs().max()) > 1e-3  # D alone would not do


def test_kernel_equals_the_plain_vandermonde_product():
    layer, length = make(d_state=16), 57
    a = torch.complex(-layer.log_decay.exp(), layer.frequency)
    z = a * layer.log_dt.exp()[:, None]
    w = torch.view_as_complex(layer.C) * torch.expm1(z) / a
    powers = torch.exp(z[..., None] * torch.arange(length))
    expected = 2 * torch.einsum("dhn,hnl->dhl", w, powers).real
    torch.testing.assert_close(layer.kernels(length), expected, rtol=0, atol=1e-12)


def test_zero_order_hold_of_one_real_mode_is_exact():
    """h' = -h/2 + u with u = 1: h(t) = 2 (1 - exp(-t/2)) at every step, whatever dt."""
    layer = make(channels=1, d_state=2, init="lin", bidirectional=False)
    with torch.no_grad():
        layer.C.copy_(torch.tensor([0.5, 0.0]).view(1, 1, 1, 2))  # the pair counts twice
        layer.D.zero_()
        layer.log_dt.fill_(math.log(0.3))
        layer.log_decay.fill_(math.log(0.5))
        layer.frequency.zero_()
    y = layer(torch.ones(1, 20, 1, dtype=torch.float64))[0, :, 0]
    t = 0.3 * torch.arange(1, 21, dtype=torch.float64)
    torch.testing.assert_close(y, 2 * (1 - torch.exp(-t / 2)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_who_sees_whom(bidirectional):
    layer, u = make(bidirectional=bidirectional), signal(1, 12, 4).requires_grad_()
    (gradient,) = torch.autograd.grad(layer(u)[0, 5].sum(), u)
    seen = gradient[0].abs().amin(-1) > 1e-9
    assert bool(seen[:6].all())
    assert bool(seen[6:].all()) == bidirectional
    if not bidirectional:
        assert float(gradient[0, 6:].abs().max()) < 1e-12


def test_reversed_signal_with_exchanged_directions():
    """Reading the reversed signal with the two kernels exchanged is reading it reversed, up to the kernels' lag 0."""
    layer, u = make(), signal(2, 15, 4)
    k = layer.kernels(15).detach()
    expected = torch.zeros_like(u)
    for i in range(15):
        for j in range(15):
            tap = k[0, :, i - j] if j <= i else k[1, :, j - i - 1]
            expected[:, i] += tap * u[:, j]
    torch.testing.assert_close(layer(u), expected + layer.D * u, rtol=0, atol=1e-10)


def test_channels_and_samples_do_not_mix():
    layer, u = make(), signal(3, 20, 4)
    y, v = layer(u), u.clone()
    v[1, :, 2] += 1.0
    changed = (layer(v) - y).abs().amax(1) > 1e-9
    assert changed.sum() == 1 and bool(changed[1, 2])


def test_float32_is_close_to_float64():
    layer = make(d_state=64).eval()
    u = signal(2, 360, 4)
    y32 = copy.deepcopy(layer).float()(u.float())
    assert float((y32.double() - layer(u)).abs().max()) < 1e-3 * float(layer(u).abs().max())


def test_half_precision_keeps_the_poles():
    layer = make(dtype=torch.float32).eval()
    u = signal(2, 200, 4, dtype=torch.float32)
    y = layer(u)
    half = copy.deepcopy(layer).to(torch.bfloat16)
    assert half.frequency.dtype == torch.float32
    out = half(u.bfloat16())
    assert out.dtype == torch.bfloat16
    assert float((out.float() - y).abs().max()) < 0.02 * float(y.abs().max())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(copy.deepcopy(layer)(u), y, rtol=0, atol=1e-6)


# ---------------------------------------------------------------- initialisation
@pytest.mark.parametrize("n", [2, 8, 64])
def test_legs_poles_are_the_eigenvalues_of_the_normal_part(n):
    k = np.arange(n)
    a = np.where(k[:, None] > k[None, :], -np.sqrt(np.outer(2 * k + 1, 2 * k + 1)), 0.0) - np.diag(k + 1.0)
    normal = a + np.outer(np.sqrt(k + 0.5), np.sqrt(k + 0.5))
    assert np.abs(normal @ normal.T - normal.T @ normal).max() < 1e-8 * n**4  # it is normal
    eigenvalues = np.linalg.eigvals(normal)
    upper = np.sort(eigenvalues.imag[eigenvalues.imag > 0])
    poles, _ = initial_poles("legs", n)
    np.testing.assert_allclose(eigenvalues.real, -0.5, atol=1e-9 * n)
    np.testing.assert_allclose(poles.real.numpy(), -0.5, atol=1e-12)
    np.testing.assert_allclose(poles.imag.numpy(), upper, rtol=1e-10)
    np.testing.assert_allclose(hippo_legs(n)[0].numpy(), a, rtol=1e-14)


def test_legs_normal_part_remembers_like_legs_in_the_mean():
    """Theorem 3 of S4D: exp(tA') B/2 of the normal part A' tends to exp(tA) B of LegS; it oscillates around it."""
    n = 256
    a, b = hippo_legs(n)
    p = torch.sqrt(torch.arange(n, dtype=torch.float64) + 0.5)
    w, v = torch.linalg.eigh(-1j * (a + torch.outer(p, p) + 0.5 * torch.eye(n)))
    x = torch.exp(-torch.linspace(0.3, 2.0, 1000, dtype=torch.float64))
    powers = x.sqrt() * torch.exp(-1j * w[:, None] * x.log())  # exp(t (-1/2 + iw))
    normal = (v[:2] @ (powers * (v.conj().T @ (b / 2 + 0j))[:, None])).real
    legs = torch.stack([x, 3**0.5 * (2 * x - 1) * x])  # state k of LegS: sqrt(2k+1) P_k(2x-1) x with x = exp(-t)
    matrix = torch.linalg.matrix_exp(-math.log(x[400]) * a[:8, :8]) @ b[:8]
    torch.testing.assert_close(matrix[:2], legs[:, 400], rtol=0, atol=1e-12)
    for part in (slice(0, 500), slice(500, 1000), slice(0, 1000)):
        torch.testing.assert_close(normal[:, part].mean(-1), legs[:, part].mean(-1), rtol=0, atol=0.02)


def test_lin_and_inv_poles():
    lin, _ = initial_poles("lin", 8)
    np.testing.assert_allclose(lin.imag.numpy(), math.pi * np.arange(4), rtol=1e-14)
    inv, _ = initial_poles("inv", 8)
    expected = sorted(8 / math.pi * (8 / (2 * k + 1) - 1) for k in range(4))
    np.testing.assert_allclose(inv.imag.numpy(), expected, rtol=1e-13)
    legs, _ = initial_poles("legs", 256)
    inv, _ = initial_poles("inv", 256)
    assert abs(float(inv.imag[-1] / legs.imag[-1]) - 1) < 0.05  # inv follows the largest pole of legs


@pytest.mark.parametrize("init", INITS)
def test_initial_layer(init):
    layer = make(channels=256, d_state=64, init=init)
    dt = layer.log_dt.exp()
    assert 0.999e-3 <= float(dt.min()) < 2e-3 and 5e-2 < float(dt.max()) <= 1.001e-1
    assert abs(float(layer.log_dt.mean()) - 0.5 * (math.log(1e-3) + math.log(1e-1))) < 0.3
    torch.testing.assert_close(-layer.log_decay.exp(), torch.full((256, 32), -0.5).double(), rtol=0, atol=1e-5)
    _, b = initial_poles(init, 64)
    assert abs(float(b.abs().square().mean()) - 1) < 1e-12


# ---------------------------------------------------------------- cache
def fresh(layer, u):
    other = copy.deepcopy(layer)
    other.clear_cache()
    return other.train()(u)


def change_step(layer):
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    layer(signal(2, 20, 4)).square().sum().backward()
    optimizer.step()


def change_load(layer):
    layer.load_state_dict(make(seed=9).state_dict())


def change_data(layer):
    layer.C.data.mul_(1.5)


def change_dtype_and_back(layer):
    layer.float()
    layer.double()


def change_replace(layer):
    layer.frequency = torch.nn.Parameter(layer.frequency.detach() + 1.0)


CHANGES = [change_step, change_load, change_data, change_dtype_and_back, change_replace]


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
def test_cache_follows_every_change_of_weights(change):
    layer, u = make().eval(), signal(2, 20, 4)
    with torch.no_grad():
        before = layer(u)
        layer.D.data.add_(0.0)
        change_free = layer(u)
    assert torch.equal(before, change_free) and layer.generations == 1
    change(layer)
    with torch.no_grad():
        after = layer(u)
    assert float((after - before).abs().max()) > 1e-9
    torch.testing.assert_close(after, fresh(layer, u).detach(), rtol=0, atol=1e-12)


def test_cache_follows_the_length_and_counts_generations():
    layer = make()
    layer(signal(2, 20, 4))
    layer(signal(2, 20, 4))
    assert layer.generations == 2  # training: one a forward
    layer.eval()
    with torch.no_grad():
        for length in (20, 21, 20, 21, 20):
            u = signal(2, length, 4)
            torch.testing.assert_close(layer(u), layer.recurrence(u), rtol=0, atol=1e-10)
        assert layer.generations == 4
        for length in range(1, 12):
            layer(signal(1, length, 4))
    assert layer._cache is not None and len(layer._cache[1]) <= 4


def test_cache_stays_out_of_state_dict_and_pickles():
    layer = make().eval()
    names = set(layer.state_dict())
    layer(signal(2, 20, 4))
    assert set(layer.state_dict()) == names == {"log_dt", "log_decay", "frequency", "C", "D"}
    assert copy.deepcopy(layer)._cache is None


@pytest.mark.parametrize("frozen", [True, False])
def test_input_gradient_through_the_cache(frozen):
    layer, u = make(), signal(2, 20, 4).requires_grad_()
    weight = signal(2, 20, 4, seed=2)
    (expected,) = torch.autograd.grad((layer(u) * weight).sum(), u)
    layer.eval().requires_grad_(not frozen)
    with torch.inference_mode():
        layer(u.detach())  # the kernel is made inside inference mode
    (gradient,) = torch.autograd.grad((layer(u) * weight).sum(), u)
    assert layer.generations == 2
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-12)


def test_parameter_gradients_through_the_cache():
    layer, u = make(), signal(2, 20, 4)
    layer.log_dt.requires_grad_(False)
    weight = signal(2, 20, 4, seed=2)
    (layer(u) * weight).sum().backward()
    expected = {name: p.grad.clone() for name, p in layer.named_parameters() if p.grad is not None}
    assert set(expected) == {"log_decay", "frequency", "C", "D"}
    layer.eval().zero_grad()
    for _ in range(2):
        layer.zero_grad()
        (layer(u) * weight).sum().backward()
    assert layer.log_dt.grad is None
    for name, value in expected.items():
        torch.testing.assert_close(layer.get_parameter(name).grad, value, rtol=0, atol=1e-10)


def test_gradients_pass_gradcheck_in_both_modes():
    layer = make(channels=2, d_state=4)
    names = [name for name, _ in layer.named_parameters()]
    u = signal(1, 5, 2).requires_grad_()

    def call(u, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (u,))

    values = [p.detach().clone().requires_grad_() for p in layer.parameters()]
    assert torch.autograd.gradcheck(call, (u, *values))
    layer.eval()
    assert torch.autograd.gradcheck(layer, (u,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(layer, (u,))


def test_second_derivative_by_a_parameter_through_the_cache():
    """d/dC of |d loss/du|^2, as in training through a guidance gradient."""
    layer, u = make(channels=2, d_state=4), signal(1, 6, 2).requires_grad_()

    def second(mode):
        layer.train(mode)
        (g,) = torch.autograd.grad(layer(u).square().sum(), u, create_graph=True)
        (gc,) = torch.autograd.grad(layer(u).square().sum(), layer.C, create_graph=True)
        return torch.autograd.grad(g.square().sum() + gc.square().sum(), layer.C)[0]

    torch.testing.assert_close(second(False), second(True), rtol=1e-9, atol=1e-9)


def test_functional_transforms():
    layer, u = make().eval(), signal(3, 10, 4)
    expected = layer(u).detach()
    mapped = torch.func.vmap(lambda v: layer(v[None])[0])(u)
    torch.testing.assert_close(mapped.detach(), expected, rtol=0, atol=1e-12)
    _, tangent = torch.func.jvp(lambda v: layer(v), (u,), (u,))
    torch.testing.assert_close(tangent.detach(), expected, rtol=0, atol=1e-10)  # the layer is linear


def test_cached_and_uncached_batches_split():
    layer, u = make().eval(), signal(5, 33, 4)
    whole = layer(u)
    torch.testing.assert_close(torch.cat([layer(u[:2]), layer(u[2:])]), whole, rtol=0, atol=1e-12)


# ---------------------------------------------------------------- pieces and bad input
def test_expm1_does_not_cancel():
    x, y = torch.tensor(-1e-6), torch.tensor(3e-4)
    real, imag = expm1_complex(x, y)
    exact = np.expm1(complex(float(x), float(y)))
    assert abs(float(real) / exact.real - 1) < 1e-6 and abs(float(imag) / exact.imag - 1) < 1e-6


def test_refusals():
    with pytest.raises(ValueError, match="even"):
        S4D(4, 7)
    with pytest.raises(ValueError, match="legs"):
        S4D(4, 8, "random")
    with pytest.raises(ValueError, match="dt_min"):
        S4D(4, 8, dt_min=0.1, dt_max=0.01)
    with pytest.raises(ValueError, match=r"\(B, L >= 1, 4\), got \(2, 4, 10\)"):
        make()(torch.zeros(2, 4, 10))
    with pytest.raises(ValueError, match="length 0"):
        make().kernels(0)
