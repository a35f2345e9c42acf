"""The transformer over tokens: positions, padding, context, with a time and without."""

import math

import pytest
import torch

from scidiffuse.core.networks import TokenBlock, TokenTransformer
from scidiffuse.core.networks.attention import CrossAttention, SelfAttention, rotary

pytestmark = pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")

S = 7


def build(perturb=True, **kw):
    torch.manual_seed(0)
    network = TokenTransformer(S, 16, 2, 2, **kw).double().eval()
    if perturb:  # leave the zero start
        with torch.no_grad():
            for p in network.parameters():
                p.add_(0.2 * torch.randn(p.shape, dtype=torch.float64))
    return network


def tokens(*shape, seed=1):
    return torch.randint(S, shape, generator=torch.Generator().manual_seed(seed))


def draw(*shape, seed=2):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def padding(batch, length, *real):
    return torch.arange(length) < torch.tensor(real).reshape(batch, 1)


def close(a, b, atol=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


def apart(a, b, least=1e-4):
    assert float((a - b).abs().max()) > least


FORMS = [
    {},
    {"time": None},
    {"time": None, "condition_classes": 3},
    {"condition_dim": 4, "context_dim": 5},
    {"time": None, "context_dim": 5, "classes": 6},
]


def inputs(form, batch):
    given = {}
    if "condition_classes" in form:
        given["condition"] = torch.arange(batch) % 3
    if "condition_dim" in form:
        given["condition"] = draw(batch, 4, seed=5)
    if "context_dim" in form:
        given["context"] = draw(batch, 3, 5, seed=6)
    return given


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_uniform_start_shapes_batch_split_and_gradient_to_every_parameter(form):
    x, t, given = tokens(3, 6), torch.tensor([1.0, 50.0, 900.0]), inputs(form, 3)
    start = build(perturb=False, **form)
    assert float(start(x, t, **given).detach().abs().max()) == 0
    start(x, t, **given)[..., 0].sum().backward()
    assert float(start.output.weight.grad.abs().max()) > 0  # and it can leave
    network = build(**form)
    y = network(x, t, **given)
    assert y.shape == (3, 6, form.get("classes", S)) and y.dtype == torch.float64
    parts = [network(x[i : i + 1], t[i], **{k: v[i : i + 1] for k, v in given.items()}) for i in range(3)]
    close(torch.cat(parts), y)
    y.square().sum().backward()
    for name, p in network.named_parameters():
        assert p.grad is not None and float(p.grad.abs().max()) > 1e-8, name


def test_a_modulated_block_is_the_identity_at_initialisation_and_a_plain_one_is_not():
    h, c, context = draw(2, 5, 16), draw(2, 1, 16, seed=3), draw(2, 3, 4)
    block = TokenBlock(16, 2, context_dim=4).double()
    assert torch.equal(block(h, c, context=context), h)
    assert torch.equal(block(h, draw(2, 5, 16, seed=4), context=context), h)
    plain = TokenBlock(16, 2, adaptive=False).double()
    apart(plain(h), h)
    assert plain.modulation is None and all(norm.weight is not None for norm in plain.norms)
    with pytest.raises(ValueError, match="needs c"):
        block(h, context=context)


def test_a_plain_block_is_the_formula():
    h, block = draw(2, 5, 16), TokenBlock(16, 2, adaptive=False).double()
    u = h + block.attention(block.norms[0](h))
    close(block(h), u + block.mlp(block.norms[1](u)))


def test_attention_with_a_rotation_of_nothing_is_attention():
    layer, x = SelfAttention(16, 2).double(), draw(2, 5, 16)
    assert torch.equal(layer(x, None, lambda q: q), layer(x))
    assert sorted(layer.state_dict()) == ["out.bias", "out.weight", "qkv.weight"]  # those of existing checkpoints


def test_rotary_scores_depend_on_differences_of_positions_alone():
    rotate = rotary(9, 8, draw(1))
    q, k = draw(8), draw(8, seed=7)
    score = rotate(q.expand(9, 8)) @ rotate(k.expand(9, 8)).T
    for shift in range(1, 9):
        close(score[shift:, shift:], score[:-shift, :-shift])
        apart(score[shift:, 0], score[0, 0].expand(9 - shift))
    close(score.diagonal(), (q @ k).expand(9))  # same position: nothing is turned
    close(rotate(q.expand(9, 8)).norm(dim=-1), q.norm().expand(9))
    pair = torch.tensor([1.0, 0.0], dtype=torch.float64)
    angle = torch.arange(4.0, dtype=torch.float64)
    close(rotary(4, 2, pair)(pair.expand(4, 2)), torch.stack([angle.cos(), angle.sin()], -1))  # one radian a position


@pytest.mark.parametrize(("positions", "invariant"), [("rotary", True), ("none", True), ("sinusoidal", False)])
def test_translation_of_the_sequence(positions, invariant):
    network, x = build(positions=positions), tokens(2, 4)
    late = torch.cat([torch.zeros(2, 3, dtype=torch.long), x], dim=1)
    mask = (torch.arange(7) >= 3).expand(2, 7)
    y, z = network(x, torch.tensor(3.0)), network(late, torch.tensor(3.0), mask=mask)[:, 3:]
    if invariant:
        close(z, y)
    else:
        apart(z, y)


@pytest.mark.parametrize(("positions", "commutes"), [("none", True), ("rotary", False), ("sinusoidal", False)])
def test_permutations_of_tokens(positions, commutes):
    network, x, t = build(positions=positions), torch.arange(6).expand(2, 6), torch.rand(2, 6).double() * 100
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    y, z = network(x, t)[:, order], network(x[:, order], t[:, order])
    if commutes:
        close(z, y)
    else:
        apart(z, y)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("positions", ["rotary", "sinusoidal", "none"])
def test_what_stands_in_the_padding_never_matters(form, positions):
    network, x, given = build(positions=positions, **form), tokens(3, 6), inputs(form, 3)
    mask = padding(3, 6, 6, 4, 0)
    t = torch.rand(3, 6).double() * 100
    y = network(x, t, mask=mask, **given)
    assert bool(y.isfinite().all())  # the sample of padding alone too
    other, time = x.masked_fill(~mask, -100), t.masked_fill(~mask, math.nan)
    assert torch.equal(network(other, time, mask=mask, **given)[mask], y[mask])
    alone = network(x[1:2, :4], t[1:2, :4], **{k: v[1:2] for k, v in given.items()})
    close(y[1:2, :4], alone)
    apart(network(x, t, **given)[1, :4], y[1, :4])
    y[mask].sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize("form", [{}, {"condition_classes": 3}])
def test_the_time_agnostic_network_ignores_the_time(form):
    network, x, given = build(time=None, **form), tokens(2, 6), inputs(form, 2)
    y = network(x, torch.tensor(3.0), **given)
    for t in (torch.tensor([0.0, 900.0]), torch.full((2, 6), math.nan), torch.zeros(5), None):
        assert torch.equal(network(x, t, **given), y)
    assert not any("time" in name for name, _ in network.named_parameters())
    assert any("modulation" in name for name, _ in network.named_parameters()) == bool(form)


def test_a_time_for_each_token():
    network, x, t = build(), tokens(2, 6), torch.tensor([3.0, 700.0])
    y = network(x, t)
    apart(network(x, t.flip(0)), y)
    close(network(x, t[:, None].expand(2, 6)), y)
    vector = t[:, None].expand(2, 6).clone()
    vector[1, 4] = 10.0
    change = (network(x, vector) - y).abs().amax(-1)
    assert float(change[0].max()) < 1e-12 and int(change[1].argmax()) == 4 and float(change[1, 4]) > 1e-3


def test_condition_reaches_its_own_sample():
    for form in ({"condition_classes": 3}, {"condition_classes": 3, "time": None}):
        network, x, t = build(**form), tokens(2, 6), torch.tensor(5.0)
        y = network(x, t, condition=torch.tensor([0, 1]))
        z = network(x, t, condition=torch.tensor([0, 2]))
        close(z[0], y[0])
        apart(z[1], y[1])


@pytest.mark.parametrize("time", ["sinusoidal", None])
def test_context(time):
    network, x, t = build(time=time, context_dim=5), tokens(2, 6), torch.tensor(5.0)
    context, mask = draw(2, 4, 5).requires_grad_(), padding(2, 4, 4, 2)
    y = network(x, t, context=context, context_mask=mask)
    y[1].square().sum().backward()
    size = context.grad.abs().amax(-1)
    assert float(size[1, :2].min()) > 1e-6 and float(size[1, 2:].max()) == 0 and float(size[0].max()) == 0
    hidden = context.detach().masked_fill(~mask[..., None], math.nan)
    assert torch.equal(network(x, t, context=hidden, context_mask=mask), y)
    close(network(x[1:], t, context=context[1:, :2]), y[1:])
    apart(network(x, t, context=context)[1], y[1])
    close(network(x, t, context=context.flip(1), context_mask=mask.flip(1)), y)  # a context is a set


def test_a_context_that_is_hidden_adds_nothing():
    layer = CrossAttention(16, 5, 2).double()
    y = layer(draw(2, 6, 16), draw(2, 4, 5), padding(2, 4, 0, 3))
    assert float(y[0].detach().abs().max()) == 0 and float(y[1].detach().abs().min()) > 0
    network, x, t = build(context_dim=5), tokens(2, 6), torch.tensor(5.0)
    none = torch.zeros(2, 1, dtype=torch.bool)
    y = network(x, t, context=draw(2, 1, 5), context_mask=none)
    assert bool(y.isfinite().all())
    bare = build(context_dim=5)
    for block in bare.blocks:
        torch.nn.init.zeros_(block.cross.out.weight)
        torch.nn.init.zeros_(block.cross.out.bias)
    assert torch.equal(bare(x, t, context=draw(2, 1, 5)), y)
    y.sum().backward()
    for name, p in network.named_parameters():
        assert p.grad is None or bool(p.grad.isfinite().all()), name


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_at_is_the_gathered_output(form):
    network, x, given = build(**form), tokens(2, 6), inputs(form, 2)
    at = torch.tensor([[5, 0, 0], [2, 3, 1]])
    for t in (torch.tensor(3.0), torch.tensor([3.0, 700.0]), torch.rand(2, 6).double() * 100):
        full = network(x, t, **given)
        some = network(x, t, at=at, **given)
        close(some, full.gather(1, at[..., None].expand(-1, -1, full.shape[-1])))
    assert network(x, t, at=at[:, :0], **given).shape == (2, 0, full.shape[-1])


def test_at_computes_the_head_for_these_tokens_alone():
    network, seen = build(), []
    network.output.register_forward_hook(lambda module, args, out: seen.append(args[0].shape))
    network(tokens(2, 6), torch.tensor(3.0), at=torch.tensor([[1], [4]]))
    assert seen == [(2, 1, 16)]


def test_save_and_load():
    form = {"condition_dim": 4, "context_dim": 5}
    network, x, t, given = build(**form), tokens(2, 6), torch.tensor(5.0), inputs(form, 2)
    torch.manual_seed(9)
    other = TokenTransformer(S, 16, 2, 2, **form).double().eval()
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(x, t, **given), network(x, t, **given))


def test_dropout_is_for_training():
    network, x, t = build(dropout=0.5), tokens(2, 6), torch.tensor(5.0)
    assert torch.equal(network(x, t), network(x, t))
    network.train()
    apart(network(x, t), network(x, t))


def test_half_precision():
    form = {"context_dim": 5}
    network, x, t = build(**form).float(), tokens(2, 6), torch.rand(2, 6) * 1000
    context = inputs(form, 2)["context"].float()
    y = network(x, t, context=context)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(x, t, context=context)
    assert half.dtype == torch.bfloat16
    assert float((half.float() - y).abs().max()) < 0.1 * float(y.abs().max())
    half = network.bfloat16()(x, t, context=context)
    assert half.dtype == torch.bfloat16
    assert float((half.float() - y).abs().max()) < 0.1 * float(y.abs().max())


def test_one_graph_under_compile():
    network, x, t = build(context_dim=5), tokens(2, 6), torch.tensor([3.0, 7.0])
    given = {"context": draw(2, 3, 5), "mask": padding(2, 6, 6, 4), "at": torch.tensor([[1], [3]])}
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    close(compiled(x, t, **given), network(x, t, **given))


def test_refusals():
    network, x, t = build(), tokens(2, 6), torch.tensor(1.0)
    bad = x.clone()
    bad[1, 4] = 7
    with pytest.raises(ValueError, match=r"token 7 of sample 1, column 4, lies outside 0\.\.6"):
        network(bad, t)
    bad[0, 2] = -1
    with pytest.raises(ValueError, match=r"token -1 of sample 0, column 2.*\(2 of 12 do\)"):
        network(bad, t)
    with pytest.raises(TypeError, match=r"got torch.float32, expected a long tensor"):
        network(x.float(), t)
    with pytest.raises(ValueError, match=r"x: got shape \(6,\)"):
        network(x[0], t)
    with pytest.raises(ValueError, match="holds no tokens"):
        network(x[:, :0], t)
    with pytest.raises(TypeError, match="NoneType"):
        network(x, None)
    with pytest.raises(ValueError, match="6 tokens"):
        network(x, torch.zeros(2, 5))
    with pytest.raises(ValueError, match=r"mask: got shape \(2, 5\), expected \(2, 6\)"):
        network(x, t, mask=torch.ones(2, 5, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"mask: got torch.float32"):
        network(x, t, mask=torch.ones(2, 6))
    with pytest.raises(ValueError, match="no condition"):
        network(x, t, condition=torch.zeros(2, 3))
    with pytest.raises(ValueError, match="context_dim=D"):
        network(x, t, context=draw(2, 3, 5))
    with pytest.raises(ValueError, match=r"position 6 of sample 1, column 0, lies outside 0\.\.5"):
        network(x, t, at=torch.tensor([[0], [6]]))
    with pytest.raises(ValueError, match=r"at of shape \(1, 2\), expected positions of shape \(2, M\)"):
        network(x, t, at=torch.tensor([[0, 1]]))
    seeing = build(context_dim=5)
    with pytest.raises(ValueError, match=r"got none, expected shape .*context_mask that is False"):
        seeing(x, t)
    with pytest.raises(ValueError, match=r"got \(2, 3, 4\), expected shape \(2, M, 5\)"):
        seeing(x, t, context=draw(2, 3, 4))
    with pytest.raises(ValueError, match="no elements"):
        seeing(x, t, context=draw(2, 0, 5))
    with pytest.raises(ValueError, match=r"context_mask: got shape \(2, 2\), expected \(2, 3\)"):
        seeing(x, t, context=draw(2, 3, 5), context_mask=torch.ones(2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="must all be >= 1"):
        TokenTransformer(0)
    with pytest.raises(ValueError, match="got 'learned'"):
        TokenTransformer(S, positions="learned")
    with pytest.raises(ValueError, match="10 features of 2 heads are 5 a head"):
        TokenTransformer(S, 10, 1, 2)
    with pytest.raises(ValueError, match="3 heads"):
        TokenTransformer(S, 16, 1, 3)
    with pytest.raises(ValueError, match="even number"):
        rotary(4, 5, draw(1))
