"""The network of CSDI against a peer, against its own definition, and what must not enter it."""

from __future__ import annotations

import math

import pytest
import torch

from scidiffuse.timeseries.networks import CSDINetwork, EncoderLayer, StepEmbedding

SMALL = {"channels": 8, "layers": 2, "heads": 2, "feedforward": 12, "timesteps": 10, "embedding": 8}


def network(series=4, **settings):
    torch.manual_seed(0)
    net = CSDINetwork(series, **SMALL, **settings).double().eval()
    torch.nn.init.normal_(net.outputs.weight)  # it starts from zero, where nothing could be seen
    return net


def question(batch=3, series=4, steps=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    x, values = (torch.randn(batch, series, steps, generator=g, dtype=torch.float64) for _ in range(2))
    given = torch.rand(batch, series, steps, generator=g) < 0.5
    who = torch.arange(series).expand(batch, series).clone()
    return x, torch.randint(0, 10, (batch,), generator=g), {"values": values, "given": given, "who": who}


def test_encoder_layer_is_that_of_torch():
    torch.manual_seed(1)
    peer = torch.nn.TransformerEncoderLayer(8, 2, 12, activation="gelu", batch_first=True).double().eval()
    ours = EncoderLayer(8, 2, 12).double().eval()
    for name, layer in {
        "self_attn.out_proj": ours.out,
        "linear1": ours.first,
        "linear2": ours.second,
        "norm1": ours.norm1,
        "norm2": ours.norm2,
    }.items():
        layer.load_state_dict(peer.get_submodule(name).state_dict())
    ours.qkv.load_state_dict({"weight": peer.self_attn.in_proj_weight, "bias": peer.self_attn.in_proj_bias})
    x = torch.randn(5, 7, 8, dtype=torch.float64)
    assert torch.allclose(ours(x), peer(x), atol=1e-12)
    with pytest.raises(ValueError, match="8 channels do not divide into 3 heads"):
        EncoderLayer(8, 3)


def test_step_embedding_has_rising_frequencies_and_a_code_a_step():
    table = StepEmbedding(50, 128).table.double()
    j = torch.arange(64, dtype=torch.float64)
    phase = 7 * 10 ** (4 * j / 63)
    assert torch.allclose(table[7], torch.cat([phase.sin(), phase.cos()]), atol=1e-6)
    away = torch.cdist(table, table) + 100 * torch.eye(50)
    assert away.min() > 1


def test_one_layer_is_the_published_equations():
    """Written once more, cell by cell, with the whole table of side information and 1x1 maps."""
    net = network()
    layer = net.layers[0]
    h, e = torch.randn(2, 3, 5, 8, dtype=torch.float64), torch.randn(2, 8, dtype=torch.float64)
    place, who = torch.randn(5, 128, dtype=torch.float64), torch.randn(2, 3, 16, dtype=torch.float64)
    given = (torch.rand(2, 3, 5) < 0.5).double()
    side = torch.cat(
        [place.expand(2, 3, 5, 128), who[:, :, None].expand(2, 3, 5, 16), given[..., None]], dim=-1
    )  # (B, K, L, 145)
    y = h + layer.step(e)[:, None, None]
    y = torch.stack([layer.over_time(y[:, k]) for k in range(3)], dim=1)
    y = torch.stack([layer.over_series(y[:, :, t]) for t in range(5)], dim=2)
    a, b = (layer.mid(y) + layer.side(side)).chunk(2, dim=-1)
    residual, skip = layer.out(torch.sigmoid(a) * torch.tanh(b)).chunk(2, dim=-1)
    new, kept = layer(h, e, place, who, given)
    assert torch.allclose(new, (h + residual) / math.sqrt(2), atol=1e-12)
    assert torch.allclose(kept, skip, atol=1e-12)


def test_it_starts_from_zero():
    x, label, rest = question()
    assert (CSDINetwork(4, **SMALL).double()(x, label, **rest) == 0).all()


def test_what_is_hidden_never_enters():
    net = network()
    x, label, rest = question()
    before = net(x, label, **rest)
    given = rest["given"]
    for poison in (1e9, math.nan):
        other = {**rest, "values": rest["values"].masked_fill(~given, poison)}
        assert torch.equal(net(x.masked_fill(given, poison), label, **other), before)
    assert not torch.allclose(net(x + (~given), label, **rest), before)  # and what is not hidden does
    assert not torch.allclose(net(x, label, **{**rest, "values": rest["values"] + 1}), before)


def test_gradients_of_what_is_hidden_are_zero():
    net = network()
    x, label, rest = question()
    x.requires_grad_()
    rest["values"].requires_grad_()
    net(x, label, **rest).square().sum().backward()
    given = rest["given"]
    assert (x.grad[given] == 0).all() and (x.grad[~given] != 0).all()
    assert (rest["values"].grad[~given] == 0).all() and (rest["values"].grad[given] != 0).all()


def test_samples_of_a_batch_do_not_meet_and_series_have_no_order():
    net = network()
    x, label, rest = question()
    out = net(x, label, **rest)
    order = [2, 0, 1]
    assert torch.allclose(net(x[order], label[order], **{k: v[order] for k, v in rest.items()}), out[order], atol=1e-12)
    rows = [3, 1, 0, 2]
    assert torch.allclose(net(x[:, rows], label, **{k: v[:, rows] for k, v in rest.items()}), out[:, rows], atol=1e-12)


def test_place_in_the_window_series_and_diffusion_step_matter():
    net = network()
    x, label, rest = question()
    out = net(x, label, **rest)
    assert not torch.allclose(net(x.flip(-1), label, **{**rest, "values": rest["values"].flip(-1),
                                                         "given": rest["given"].flip(-1)}), out.flip(-1))  # fmt: skip
    assert not torch.allclose(net(x, label, **{**rest, "who": rest["who"].flip(-1)}), out)
    assert not torch.allclose(net(x, (label + 1) % 10, **rest), out)


def test_series_see_each_other_and_any_number_of_them_is_taken():
    net = network()
    x, label, rest = question()
    changed = rest["values"].clone()
    changed[:, 0] += 1
    assert not torch.allclose(net(x, label, **{**rest, "values": changed})[:, 1:], net(x, label, **rest)[:, 1:])
    for series, steps in ((1, 6), (2, 1), (1, 1), (3, 40)):
        few = {k: v[:, :series] for k, v in question(steps=steps)[2].items()}
        assert net(question(steps=steps)[0][:, :series], label, **few).shape == (3, series, steps)


def test_half_precision_stays_near():
    x, label, rest = question()
    net = network()
    exact = net(x, label, **rest)
    assert (net.to(torch.bfloat16)(x, label, **rest).double() - exact).abs().max() < 0.1 * exact.abs().max()
