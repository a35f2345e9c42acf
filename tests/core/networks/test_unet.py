"""U-Net in 1, 2 and 3 dimensions."""

import pytest
import torch

from scidiffuse.core.networks import UNet
from scidiffuse.core.networks.unet import AttentionBlock, ResidualBlock, group_norm

pytestmark = pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")

SIZES = {1: (16,), 2: (8, 12), 3: (4, 8, 4)}


def build(dims, perturb=True, **kw):
    torch.manual_seed(0)
    network = UNet(dims, 2, 8, (1, 2, 3), 1, **{"attention": (1,), "heads": 2, **kw}).double()
    if perturb:  # leave the zero start
        with torch.no_grad():
            for p in network.parameters():
                p.add_(0.05 * torch.randn_like(p))
    return network


def image(dims, batch=2, channels=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, *SIZES[dims], generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_shape_batch_split_and_gradient_to_every_parameter(dims):
    network, x, t = build(dims, condition_dim=3, concat_channels=1), image(dims, 3), torch.tensor([1.0, 50.0, 900.0])
    c, k = image(dims, 3, 3).flatten(2).mean(-1), image(dims, 3, 1)
    y = network(x, t, condition=c, concat=k)
    assert y.shape == x.shape
    parts = [network(x[i : i + 1], t[i], condition=c[i : i + 1], concat=k[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(torch.cat(parts), y, rtol=0, atol=1e-11)
    y.square().sum().backward()
    for name, p in network.named_parameters():
        assert p.grad is not None and float(p.grad.abs().max()) > 1e-8, name


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_starts_at_zero(dims):
    assert float(build(dims, perturb=False)(image(dims), torch.tensor(3.0)).abs().max()) == 0


def test_blocks_start_as_the_identity():
    x, e = image(2, channels=8), torch.randn(1, 16).double()
    assert torch.equal(ResidualBlock(2, 8, 8, 16).double()(x, e), x)
    assert torch.equal(AttentionBlock(8, 2).double()(x), x)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_every_output_depends_on_every_input_through_the_middle(dims):
    network, x = build(dims), image(dims, 1).requires_grad_()
    corner = (0, 0) + (0,) * dims
    (g,) = torch.autograd.grad(network(x, torch.tensor(3.0))[corner], x)
    assert bool((g.abs() > 0).all())


def test_time_condition_and_concat_matter_for_their_own_sample_alone():
    network, x, t = build(2, classes=5, concat_channels=1), image(2), torch.tensor([1.0, 2.0])
    labels, k = torch.tensor([0, 4]), image(2, channels=1)
    y = network(x, t, condition=labels, concat=k)
    variants = [
        network(x, torch.tensor([1.0, 3.0]), condition=labels, concat=k),
        network(x, t, condition=torch.tensor([0, 3]), concat=k),
        network(x, t, condition=labels, concat=k * torch.tensor([1.0, 2.0])[:, None, None, None]),
    ]
    for other in variants:
        assert torch.equal(other[0], y[0]) or float((other[0] - y[0]).abs().max()) < 1e-12
        assert float((other[1] - y[1]).abs().max()) > 1e-6


def test_attention_sees_positions_as_a_set():
    block, x = AttentionBlock(8, 2).double(), image(1, channels=8)
    with torch.no_grad():
        block.attention.out.weight.normal_()
    order = torch.randperm(16)
    torch.testing.assert_close(block(x[..., order]), block(x)[..., order], rtol=0, atol=1e-12)
    changed = block(x + 3.0 * (torch.arange(16) == 5)) - block(x)
    assert float(changed[..., 0].abs().max()) > 1e-6


def test_group_norm_never_has_one_channel_a_group():
    for channels in (2, 8, 12, 24, 64, 128, 96, 256):
        norm = group_norm(channels)
        assert channels % norm.num_groups == 0 and norm.num_groups <= 32
        assert norm.num_groups == 1 or channels // norm.num_groups >= 4
    assert group_norm(128).num_groups == 32


def test_channels_out_levels_and_half_precision():
    network = UNet(2, 1, 8, (1,), 1, channels_out=3, heads=2)
    assert network.multiple == 1
    assert network(torch.zeros(1, 1, 5, 7), torch.tensor(1.0)).shape == (1, 3, 5, 7)
    network, x = build(2).float(), image(2).float()
    y = network(x, torch.tensor(3.0))
    half = network.bfloat16()(x.bfloat16(), torch.tensor(3.0))
    assert half.dtype == torch.bfloat16
    assert float((half.float() - y).abs().max()) < 0.1 * float(y.abs().max())


def test_refusals():
    network, x, t = build(2), image(2), torch.tensor(1.0)
    with pytest.raises(ValueError, match=r"multiple of 4, got \(9, 12\); pad to \(12, 12\)"):
        network(torch.zeros(1, 2, 9, 12).double(), t)
    with pytest.raises(ValueError, match=r"\(B, 2, H, W\), got \(2, 3, 8, 12\)"):
        network(image(2, channels=3), t)
    with pytest.raises(ValueError, match=r"\(B, 2, H, W\), got \(2, 2, 16\)"):
        network(image(1), t)
    with pytest.raises(ValueError, match="one time a sample"):
        network(x, torch.zeros(2, 2))
    with pytest.raises(ValueError, match="concat_channels=1"):
        network(x, t, concat=x[:, :1])
    with pytest.raises(ValueError, match="no condition"):
        network(x, t, condition=torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"concat of shape \(2, 1, 8, 12\), got none"):
        build(2, concat_channels=1)(x, t)
    with pytest.raises(ValueError, match=r"got none, expected a vector of shape \(2, 3\)"):
        build(2, condition_dim=3)(x, t)
    labelled = build(2, classes=5)
    with pytest.raises(ValueError, match=r"0..4, got 1..5"):
        labelled(x, t, condition=torch.tensor([1, 5]))
    with pytest.raises(ValueError, match="integer class labels"):
        labelled(x, t, condition=torch.tensor([1.0, 2.0]))
    with pytest.raises(ValueError, match="not both"):
        build(2, classes=5, condition_dim=3)
    with pytest.raises(ValueError, match="got 4"):
        UNet(4, 1)
    with pytest.raises(ValueError, match=r"attention at levels \[3\].*0..2"):
        build(2, attention=(3,))
    with pytest.raises(ValueError, match="heads"):
        build(2, heads=3)
    with pytest.raises(ValueError, match="at least one level"):
        UNet(2, 1, 8, ())
