"""What is particular to the dual-track transformer; its symmetries are tested beside those of the EGNN."""

from __future__ import annotations

import math

import pytest
import torch

from scidiffuse.molecules.networks.dual_track import DualTrack, RadialBasis, TripletAttention, _ToPairs, cosines


def test_cosines_are_those_of_the_angles():
    x = torch.tensor([[[0.0, 0, 0], [2, 0, 0], [0, 3, 0], [1, 1, 0]]], dtype=torch.float64)
    found = cosines(x.unsqueeze(1) - x.unsqueeze(2))[0, 0]  # at the first atom
    torch.testing.assert_close(found[1, 2], torch.tensor(0.0, dtype=torch.float64))
    torch.testing.assert_close(found[1, 3], torch.tensor(math.sqrt(0.5), dtype=torch.float64))
    torch.testing.assert_close(found[1, 1], torch.tensor(1.0, dtype=torch.float64))
    assert float(found[0].abs().max()) == 0.0


def test_the_basis_has_the_published_centres():
    squares, angles = RadialBasis(10.0, 0.2, 10.0), RadialBasis(math.pi, 0.1, 10.0)
    assert len(squares) == 50 and len(angles) == 32
    torch.testing.assert_close(squares(torch.tensor(1.0))[4:7], torch.exp(-10 * torch.tensor([0.04, 0.0, 0.04])))


def test_triplet_attention_is_what_the_formula_says():
    """Against a loop over i, j, k and heads with keys and values written out at full width."""
    torch.manual_seed(0)
    n, width, heads = 4, 6, 2
    layer = TripletAttention(width, heads, RadialBasis(math.pi, 0.5, 2.0)).double()
    x = torch.randn(1, n, 3, dtype=torch.float64)
    p, diff = torch.randn(1, n, n, width, dtype=torch.float64), x.unsqueeze(1) - x.unsqueeze(2)
    there = torch.tensor([True, True, True, False])
    pairs = (there[:, None] & there & ~torch.eye(n, dtype=torch.bool))[None]
    out = layer(p, diff, pairs, None)[0]
    q, k, v = (part.view(n, n, heads, -1) for part in layer.qkv(p[0]).chunk(3, -1))
    for i, j in ((0, 1), (2, 0)):
        mixed = []
        for head in range(heads):
            keys, values = [], []
            for other in [m for m in range(3) if m != i]:
                unit = [diff[0, i, m] / diff[0, i, m].norm() for m in (j, other)]
                g = layer.basis(torch.acos((unit[0] @ unit[1]).clamp(-1 + 1e-6, 1 - 1e-6)))
                keys.append(q[i, j, head] @ (k[i, other, head] + layer.angle_key[head] @ g) / math.sqrt(3))
                values.append(v[i, other, head] + g @ layer.angle_value[head])
            weights = torch.stack(keys).softmax(0)
            mixed.append((weights[:, None] * torch.stack(values)).sum(0))
        wanted = torch.sigmoid(layer.gate(p[0, i, j])) * layer.out(torch.cat(mixed))
        torch.testing.assert_close(out[i, j], wanted)


@pytest.mark.parametrize("chunk", [1, 2, 3, 50])
def test_chunks_change_neither_output_nor_gradients(chunk):
    torch.manual_seed(0)
    net = DualTrack(4, 0, 16, 16, 2, 2, 0.0, 4, "blocks", 0.3)
    mask = torch.arange(7) < torch.tensor([7, 5, 3])[:, None]
    x = {"x": torch.randn(3, 7, 3), "h": torch.randn(3, 7, 4)}
    results = []
    for size in (None, chunk):
        net.chunk = size
        net.zero_grad()
        out = net(x, torch.rand(3, generator=torch.Generator().manual_seed(0)), mask)
        (out["x"].square().sum() + out["h"].square().sum()).backward()
        results.append([*out.values(), *(p.grad for p in net.parameters())])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("chunk", [2, 4])
def test_a_chunked_training_keeps_no_tensor_of_all_triplets(chunk):
    """The largest tensor saved for the backward pass, without chunks (N^3 A) and with them (N^2 D)."""
    torch.manual_seed(0)
    n, layer = 16, TripletAttention(8, 2, RadialBasis(math.pi, 0.1, 10.0))
    x, p = torch.randn(1, n, 3), torch.randn(1, n, n, 8, requires_grad=True)
    pairs = ~torch.eye(n, dtype=torch.bool)[None]

    def largest(chunk):
        sizes = []

        def note(tensor):
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            layer(p, x.unsqueeze(1) - x.unsqueeze(2), pairs, chunk)
        return max(sizes)

    assert largest(None) >= n**3 * 32
    assert largest(chunk) <= n**2 * 24


def test_the_full_outer_product_is_one_linear_map_of_all_products():
    torch.manual_seed(0)
    layer = _ToPairs(6, 3)
    h = torch.randn(2, 4, 6)
    products = torch.einsum("bic,bje->bijce", layer.left(h), layer.right(h)).flatten(3)
    torch.testing.assert_close(layer(h), layer.mix(products))
    both = _ToPairs(6, None)
    left, right = both.left(h).unsqueeze(2).expand(-1, -1, 4, -1), both.right(h).unsqueeze(1).expand(-1, 4, -1, -1)
    torch.testing.assert_close(both(h), both.mix(torch.cat([left, right], -1)))
