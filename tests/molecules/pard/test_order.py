"""The structural partial order: hand cases, an independent reference, and independence of the numbering."""

from __future__ import annotations

import pytest
import torch

from scidiffuse.molecules.pard.order import structural_order


def adjacency(n, edges, padded=None):
    A = torch.zeros(1, padded or n, padded or n, dtype=torch.uint8)
    for i, j in edges:
        A[0, i, j] = A[0, j, i] = 1
    return A, (torch.arange(padded or n) < n)[None]


def random_graphs(count, n, seed):
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, n + 1, (count,), generator=generator)
    mask = torch.arange(n) < sizes[:, None]
    p = torch.rand(count, 1, 1, generator=generator)
    upper = (torch.rand(count, n, n, generator=generator) < p).triu(1) & mask[:, :, None] & mask[:, None, :]
    return (upper | upper.transpose(1, 2)).to(torch.uint8), mask


def reference(a, hops):
    """Blocks by sets and exact integers: lists of nodes, as they are removed."""
    n = len(a)
    near = {i: {j for j in range(n) if a[i][j]} for i in range(n)}
    left, out = set(range(n)), []
    while left:
        d = [dict.fromkeys(left, 1)]
        for _ in range(hops):
            d.append({i: d[-1][i] + sum(d[-1][j] for j in near[i] & left) for i in left})
        key = {i: (sum(d[k][i] * n ** (hops - k) for k in range(1, hops + 1)), d[1][i]) for i in left}
        least = min(key.values())
        block = sorted(i for i in left if key[i] == least)
        out.append((block, least[1] - 1))
        left -= set(block)
    return out[::-1]


PATH = [(0, 1), (1, 2), (2, 3), (3, 4)]
RING = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 0)]


@pytest.mark.parametrize(
    ("n", "edges", "hops", "block", "degree"),
    [
        (1, [], 3, [0], [0]),
        (5, PATH, 1, [2, 1, 0, 1, 2], [1, 1, 0, 1, 1]),
        (5, RING, 3, [0] * 5, [2] * 5),
        (5, [(0, 1), (0, 2), (0, 3), (0, 4)], 2, [0, 1, 1, 1, 1], [0, 1, 1, 1, 1]),
        # a triangle with a tail of two: the end of the tail goes first, then its root's neighbour, then the triangle
        (5, [(0, 1), (1, 2), (2, 0), (2, 3), (3, 4)], 3, [0, 0, 0, 1, 2], [2, 2, 2, 1, 1]),
        (3, [(0, 1)], 1, [0, 0, 1], [1, 1, 0]),
        (5, PATH, 0, [0] * 5, [0] * 5),
    ],
)
def test_hand_cases(n, edges, hops, block, degree):
    found = structural_order(*adjacency(n, edges), hops)
    assert found.block[0].tolist() == block and found.degree[0].tolist() == degree


def test_two_hops_see_what_one_hop_does_not():
    # two arms of a path with one end each: both ends have degree 1, but the neighbour of one of them branches
    edges = [(0, 1), (1, 2), (2, 3), (3, 4), (3, 5)]
    one, two = (structural_order(*adjacency(6, edges), hops).block[0] for hops in (1, 2))
    assert one[0] == one[4] == one[5]  # all leaves at once
    assert two[4] == two[5] < two[0]  # the leaf at the plain end is removed first, so generated last


def test_of_equal_weights_a_block_has_one_degree():
    # K_{2,17} and K_4: 17 nodes of degree 2 and 4 nodes of degree 3, all with w = 108 over two hops
    edges = [(h, v) for h in (0, 1) for v in range(2, 19)] + [(i, j) for i in range(19, 23) for j in range(i) if j > 18]
    A, mask = adjacency(23, edges)
    found = structural_order(A, mask, 2)
    last = (found.block[0] == found.block.max()).nonzero().flatten().tolist()
    assert last == list(range(2, 19))
    assert set(found.degree[0, 2:19].tolist()) == {2}


@pytest.mark.parametrize("hops", [1, 2, 3])
def test_the_order_is_that_of_the_reference_and_blocks_partition_the_nodes(hops):
    A, mask = random_graphs(60, 9, hops)
    found = structural_order(A, mask, hops)
    sizes, degrees = found.by_block()
    assert torch.equal(sizes.sum(1), mask.sum(1)) and torch.equal(found.block >= 0, mask)
    for b in range(len(A)):
        n = int(mask[b].sum())
        expected = reference(A[b, :n, :n].tolist(), hops)
        assert found.number[b] == len(expected)
        for k, (block, degree) in enumerate(expected):
            assert (found.block[b] == k).nonzero().flatten().tolist() == block
            assert sizes[b, k] == len(block) and degrees[b, k] == degree
        # the degree of a block is that of its nodes towards their own and earlier blocks
        before = (found.block[b, :n, None] >= found.block[b, None, :n]) & A[b, :n, :n].bool()
        assert torch.equal(before.sum(1), found.degree[b, :n])


@pytest.mark.parametrize("hops", [0, 1, 3])
def test_the_order_does_not_depend_on_the_numbering_or_on_padding(hops):
    A, mask = random_graphs(40, 8, 11)
    found = structural_order(A, mask, hops)
    p = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    moved = structural_order(A[:, p][:, :, p], mask[:, p], hops)
    assert torch.equal(moved.block, found.block[:, p]) and torch.equal(moved.degree, found.degree[:, p])
    wide = structural_order(torch.nn.functional.pad(A, (0, 3, 0, 3)), torch.nn.functional.pad(mask, (0, 3)), hops)
    assert torch.equal(wide.block[:, :8], found.block) and bool((wide.block[:, 8:] == -1).all())
    orders = structural_order(A * 3, mask, hops)  # bond orders are not degrees
    assert torch.equal(orders.block, found.block)


def test_refusals():
    A, mask = adjacency(5, PATH)
    for hops in (-1, 1.0, True):
        with pytest.raises(ValueError, match="number of hops"):
            structural_order(A, mask, hops)
    with pytest.raises(ValueError, match="max_hops=30 exceed"):
        structural_order(A, mask, 30)
