"""DiT: adaLN-Zero, patches, a time a token, masks, permutations."""

import pytest
import torch

from scidiffuse.core.networks import DiT, DiTBlock
from scidiffuse.core.networks.dit import position_embedding

pytestmark = pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")


def build(dims=1, perturb=True, patch=1, **kw):
    torch.manual_seed(0)
    network = DiT(dims, 2, 16, 2, 2, patch, **kw).double()
    if perturb:  # leave the zero start
        with torch.no_grad():
            for p in network.parameters():
                p.add_(0.1 * torch.randn_like(p))
    return network


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_adaln_zero_is_the_identity_at_initialisation():
    block, x = DiTBlock(16, 2).double(), draw(2, 5, 16)
    assert torch.equal(block(x, draw(2, 1, 16)), x)
    assert torch.equal(block(x, draw(2, 5, 16)), x)
    for dims, shape in ((1, (2, 6, 2)), (2, (2, 2, 4, 6))):
        network = build(dims, perturb=False, patch=2)
        assert float(network(draw(*shape), torch.tensor(3.0)).abs().max()) == 0
        network(draw(*shape), torch.tensor(3.0)).sum().backward()
        assert float(network.output.bias.grad.abs().max()) > 0  # and it can leave


@pytest.mark.parametrize(("dims", "shape", "patch"), [(1, (3, 12, 2), 1), (1, (3, 12, 2), 3), (2, (3, 2, 6, 4), 2)])
def test_shape_batch_split_and_gradient_to_every_parameter(dims, shape, patch):
    network = build(dims, patch=patch, condition_dim=3, concat_channels=1, channels_out=5)
    x, t, c = draw(*shape), torch.tensor([1.0, 50.0, 900.0]), draw(3, 3)
    k = x[..., :1] if dims == 1 else x[:, :1]
    y = network(x, t, condition=c, concat=k)
    assert y.shape == ((3, 12, 5) if dims == 1 else (3, 5, 6, 4))
    parts = [network(x[i : i + 1], t[i], condition=c[i : i + 1], concat=k[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(torch.cat(parts), y, rtol=0, atol=1e-11)
    y.square().sum().backward()
    for name, p in network.named_parameters():
        assert p.grad is not None and float(p.grad.abs().max()) > 1e-8, name


def test_patches_are_cut_and_put_back():
    network = build(2, patch=2)
    x = torch.arange(2 * 2 * 4 * 6).double().reshape(2, 2, 4, 6)
    tokens = network._tokens(x, (2, 3))
    assert tokens.shape == (2, 6, 8)
    assert torch.equal(tokens[1, 4], x[1, :, 2:4, 2:4].flatten())  # row 1, column 1
    assert torch.equal(network._untoken(tokens, (2, 3)), x)
    x = draw(2, 6, 2)
    network = build(1, patch=3)
    assert torch.equal(network._tokens(x, (2,))[0, 1], x[0, 3:].flatten())
    assert torch.equal(network._untoken(network._tokens(x, (2,)), (2,)), x)


@pytest.mark.parametrize(("dims", "shape", "tokens"), [(1, (2, 6, 2), 6), (2, (2, 2, 4, 6), 6)])
def test_a_time_for_each_token(dims, shape, tokens):
    network, x = build(dims, patch=dims), draw(*shape)
    t = torch.tensor([3.0, 700.0])
    y = network(x, t)
    torch.testing.assert_close(network(x, t[:, None].expand(2, tokens)), y, rtol=0, atol=1e-12)
    vector = t[:, None].expand(2, tokens).clone()
    vector[1, 4] = 10.0
    z = network(x, vector)
    change = network._tokens((z - y).abs(), (6,) if dims == 1 else (2, 3)).amax(-1)
    assert float(change[0].max()) < 1e-12
    assert int(change[1].argmax()) == 4 and float(change[1, 4]) > 1e-3


def test_permutations_of_tokens():
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    x, t = draw(2, 6, 2), torch.rand(2, 6) * 100
    free = build(positions=False)
    torch.testing.assert_close(free(x[:, order], t[:, order]), free(x, t)[:, order], rtol=0, atol=1e-12)
    placed = build()
    assert float((placed(x[:, order], t[:, order]) - placed(x, t)[:, order]).abs().max()) > 1e-3


def test_padding_never_changes_the_unmasked_result():
    network, x, t = build(), draw(2, 6, 2), torch.tensor(5.0)
    mask = torch.arange(6) < torch.tensor([[6], [4]])
    y = network(x, t, mask=mask)
    noisy = torch.where(mask[..., None], x, 1e3)
    torch.testing.assert_close(network(noisy, t, mask=mask)[mask], y[mask], rtol=0, atol=1e-11)
    torch.testing.assert_close(network(x[1:, :4], t), y[1:, :4], rtol=0, atol=1e-11)
    assert float((network(x, t)[1, :4] - y[1, :4]).abs().max()) > 1e-6


def test_positions_are_distinct_and_split_between_axes():
    p = position_embedding((5, 7), 16, torch.zeros((), dtype=torch.float64))
    assert p.shape == (35, 16)
    distance = torch.cdist(p, p) + torch.eye(35)
    assert float(distance.min()) > 0.1
    grid = p.reshape(5, 7, 16)
    assert torch.equal(grid[2, :, :8], grid[2, :1, :8].expand(7, 8))  # first half: rows
    assert torch.equal(grid[:, 3, 8:], grid[:1, 3, 8:].expand(5, 8))  # second half: columns


def test_condition_labels():
    network, x, t = build(classes=3), draw(2, 6, 2), torch.tensor(5.0)
    y = network(x, t, condition=torch.tensor([0, 1]))
    z = network(x, t, condition=torch.tensor([0, 2]))
    assert float((y[0] - z[0]).abs().max()) < 1e-12 and float((y[1] - z[1]).abs().max()) > 1e-3


def test_half_precision():
    network, x, t = build().float(), draw(2, 6, 2).float(), torch.rand(2, 6) * 1000
    y = network(x, t)
    half = network.bfloat16()(x.bfloat16(), t)
    assert half.dtype == torch.bfloat16
    assert float((half.float() - y).abs().max()) < 0.1 * float(y.abs().max())


def test_refusals():
    network, x, t = build(), draw(2, 6, 2), torch.tensor(1.0)
    with pytest.raises(ValueError, match=r"\(B, L, 2\), got \(2, 6, 3\)"):
        network(draw(2, 6, 3), t)
    with pytest.raises(ValueError, match=r"\(B, 2, H, W\), got \(2, 6, 2\)"):
        build(2)(x, t)
    with pytest.raises(ValueError, match=r"size \(5, 4\).*patch 2; pad to \(6, 4\)"):
        build(2, patch=2)(draw(1, 2, 5, 4), t)
    with pytest.raises(ValueError, match="6 tokens"):
        network(x, torch.zeros(2, 5))
    with pytest.raises(ValueError, match="2 tokens"):
        build(patch=3)(x, torch.zeros(2, 6))
    with pytest.raises(ValueError, match="mask"):
        network(x, t, mask=torch.ones(2, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match="no condition"):
        network(x, t, condition=torch.zeros(2, 3))
    with pytest.raises(ValueError, match="concat_channels=2"):
        network(x, t, concat=x)
    with pytest.raises(ValueError, match="got none"):
        build(concat_channels=1)(x, t)
    with pytest.raises(ValueError, match="dims=3"):
        DiT(3, 1)
    with pytest.raises(ValueError, match="divisible by 4"):
        DiT(2, 1, width=18, heads=2)
    with pytest.raises(ValueError, match="heads"):
        DiT(1, 1, width=16, heads=3)
