"""S4DBackbone and DilatedConvNet: one interface, vector times, features, starts at zero, refusals."""

import copy

import pytest
import torch

from scidiffuse.core.networks import DilatedConvNet, S4DBackbone

pytestmark = pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")

SMALL = {
    "s4d": lambda **kw: S4DBackbone(2, channels=8, blocks=2, d_state=8, embedding=8, **kw),
    "dilated": lambda **kw: DilatedConvNet(2, channels=8, blocks=3, embedding=8, **kw),
}
both = pytest.mark.parametrize("name", list(SMALL))


def build(name, **kw):
    torch.manual_seed(0)
    return SMALL[name](**{"zero_init": False, **kw}).double()


def window(batch=3, length=13, channels=2, seed=1):
    return torch.randn(batch, length, channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@both
def test_vector_time_of_equal_entries_is_scalar_time(name):
    network, x = build(name), window()
    t = torch.tensor(7.0)
    scalar = network(x, t)
    torch.testing.assert_close(network(x, t.expand(3)), scalar, rtol=0, atol=1e-12)
    torch.testing.assert_close(network(x, t.expand(3, 13)), scalar, rtol=0, atol=1e-12)
    other = t.expand(3, 13).clone()
    other[1, 4] = 8.0
    changed = (network(x, other) - scalar).abs().amax(-1)
    assert float(changed[1, 4]) > 1e-6 and float(changed[[0, 2]].max()) < 1e-12


@both
def test_batch_split(name):
    network, x, t = build(name), window(5), torch.arange(5.0)
    for mode in (True, False):
        network.train(mode)
        parts = torch.cat([network(x[:2], t[:2]), network(x[2:], t[2:])])
        torch.testing.assert_close(parts, network(x, t), rtol=0, atol=1e-12)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(network(x[order], t[order]), network(x, t)[order], rtol=0, atol=1e-12)


@both
def test_every_parameter_is_used(name):
    network = build(name, features=3, condition_dim=4)
    out = network(window(), torch.arange(3.0), features=window(channels=3), condition=window(3, 1, 4)[:, 0])
    out.square().sum().backward()
    last = list(network.blocks)[-1]
    unused = {id(p) for p in last.residual.parameters()} if name == "s4d" else set()  # the last state is not read
    for key, p in network.named_parameters():
        if id(p) in unused:
            assert p.grad is None
        else:
            assert p.grad is not None and float(p.grad.abs().max()) > 1e-10, key


@both
def test_zero_start_and_init_skip(name):
    x, t = window(), torch.arange(3.0)
    assert float(build(name, zero_init=True)(x, t).abs().max()) == 0
    assert torch.equal(build(name, zero_init=True, init_skip=True)(x, t), x)
    difference = build(name, init_skip=True)(x, t) - build(name)(x, t)
    torch.testing.assert_close(difference, x, rtol=0, atol=1e-12)


@both
def test_features_and_condition_act_where_they_should(name):
    network, x, t = build(name, features=1, condition_dim=2), window(), torch.tensor(3.0)
    f, c = window(channels=1), window(3, 1, 2)[:, 0]
    y = network(x, t, features=f, condition=c)
    g = f.clone()
    g[1, 6] += 1
    changed = (network(x, t, features=g, condition=c) - y).abs().amax(-1)
    assert float(changed[1, 6]) > 1e-6 and float(changed[[0, 2]].max()) < 1e-12
    d = c.clone()
    d[2] += 1
    changed = (network(x, t, features=f, condition=d) - y).abs().amax(-1)
    assert bool((changed[2] > 1e-9).all()) and float(changed[:2].max()) < 1e-12


def test_channels_out_and_any_length():
    for name in SMALL:
        network = build(name, channels_out=5)
        assert network(window(2, 9), torch.tensor(1.0)).shape == (2, 9, 5)
        assert network(window(2, 1), torch.tensor(1.0)).shape == (2, 1, 5)


def test_receptive_fields():
    x = window(1, 41).requires_grad_()
    reach = {}
    for name in SMALL:
        (g,) = torch.autograd.grad(build(name)(x, torch.tensor(1.0))[0, 20].sum(), x)
        reach[name] = int((g[0].abs().amax(-1) > 1e-14).sum())
    assert reach["dilated"] == build("dilated").receptive_field == 1 + 2 * (1 + 2 + 4)
    assert reach["s4d"] == 41
    (g,) = torch.autograd.grad(build("s4d", bidirectional=False)(x, torch.tensor(1.0))[0, 20].sum(), x)
    assert float(g[0, 21:].abs().max()) < 1e-12 < 1e-6 < float(g[0, :21].abs().max())
    assert DilatedConvNet(1).receptive_field == 511


@both
def test_half_precision(name):
    network, x, t = build(name).float().eval(), window().float(), torch.tensor([10.0, 500.0, 999.0])
    y = network(x, t)
    half = copy.deepcopy(network).to(torch.bfloat16)(x.bfloat16(), t)
    assert half.dtype == torch.bfloat16
    assert float((half.float() - y).abs().max()) < 0.05 * float(y.abs().max())


def test_cached_backbone_gradient_equals_training_gradient():
    network, x = build("s4d"), window().requires_grad_()
    t = torch.rand(3, 13)
    (expected,) = torch.autograd.grad(network(x, t).square().sum(), x)
    network.eval().requires_grad_(False)
    for _ in range(2):
        (gradient,) = torch.autograd.grad(network(x, t).square().sum(), x)
        torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12)
    assert [block.s4d.generations for block in network.blocks] == [2, 2]


@both
def test_refusals(name):
    network, x, t = build(name), window(), torch.tensor(1.0)
    with pytest.raises(ValueError, match=r"\(B, L >= 1, 2\), got \(3, 13, 4\)"):
        network(window(channels=4), t)
    with pytest.raises(ValueError, match=r"\(13,\), expected .*\(3, 13\)"):
        network(x, torch.zeros(13))
    with pytest.raises(ValueError, match="features=1"):
        network(x, t, features=x[..., :1])
    with pytest.raises(ValueError, match="condition_dim"):
        network(x, t, condition=x[:, 0])
    with pytest.raises(ValueError, match=r"features=3.*\(3, 13, 3\), got none"):
        build(name, features=3)(x, t)
    with pytest.raises(ValueError, match=r"got \(3, 2\), expected shape \(3, 4\)"):
        build(name, condition_dim=4)(x, t, condition=x[:, 0])
    with pytest.raises(ValueError, match="init_skip"):
        build(name, init_skip=True, channels_out=3)
    with pytest.raises(ValueError, match=">= 1"):
        S4DBackbone(2, blocks=0)
    with pytest.raises(ValueError, match="odd"):
        DilatedConvNet(2, kernel=4)
    with pytest.raises(ValueError, match="cycle"):
        DilatedConvNet(2, cycle=0)
