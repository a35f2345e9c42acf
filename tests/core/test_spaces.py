"""Spaces: projections, noise in them, norms, dimensions, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scidiffuse.core.noise import SlotNoise
from scidiffuse.core.spaces import (
    Euclidean,
    Graph,
    Masked,
    Product,
    Space,
    ZeroCoM,
    default_space,
    expand,
    projects,
)

MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 1, 1]], dtype=torch.bool)
CASES = {
    "euclidean": (Euclidean(), (3, 4, 2), [8, 8, 8]),
    "masked": (Masked(MASK), (3, 4, 2), [8, 4, 6]),
    "masked element by element": (Masked(MASK[:, :, None] & torch.tensor([True, False])), (3, 4, 2), [4, 2, 3]),
    "one mask for all": (Masked(MASK[1:2]), (3, 4), [2, 2, 2]),
    "points": (ZeroCoM(MASK), (3, 4, 2), [6, 2, 4]),
    "graph": (Graph(MASK), (3, 4, 4), [6, 1, 3]),
    "graph with channels": (Graph(MASK), (3, 4, 4, 2), [12, 2, 6]),
}


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> tuple[Space, tuple[int, ...], list[int]]:
    return CASES[request.param]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def basis(space: Space, shape: tuple[int, ...]) -> Tensor:
    """The projection as a matrix, one a sample: (B, n, n)."""
    n = normal(*shape)[0].numel()
    columns = [
        space.project(e.expand(shape[0], n).reshape(shape)).flatten(1) for e in torch.eye(n, dtype=torch.float64)
    ]
    return torch.stack(columns, 2)


def test_projection_is_orthogonal_and_its_rank_is_the_dimension(case: tuple[Space, tuple[int, ...], list[int]]) -> None:
    space, shape, ndof = case
    p = basis(space, shape)
    torch.testing.assert_close(p @ p, p)
    torch.testing.assert_close(p.transpose(1, 2), p)
    assert space.ndof(normal(*shape)).tolist() == ndof
    torch.testing.assert_close(p.diagonal(dim1=1, dim2=2).sum(1), torch.tensor(ndof, dtype=torch.float64))


def test_noise_lives_in_the_space_with_its_covariance(case: tuple[Space, tuple[int, ...], list[int]]) -> None:
    """The projection itself; for graphs twice it, since every edge has unit variance and is written twice."""
    space, shape, _ = case
    noise = SlotNoise(1, range(shape[0]))
    z = torch.stack([space.randn(noise, torch.empty(shape, dtype=torch.float64), k) for k in range(2500)])
    torch.testing.assert_close(space.project(z[0]), z[0])
    flat = z.flatten(2).transpose(0, 1)
    covariance = flat.transpose(1, 2) @ flat / z.shape[0]
    expected = basis(space, shape) * (2.0 if isinstance(space, Graph) else 1.0)
    assert (covariance - expected).abs().max() < 0.15


def test_norm_counts_what_is_in_the_space(case: tuple[Space, tuple[int, ...], list[int]]) -> None:
    space, shape, _ = case
    x = normal(*shape)
    torch.testing.assert_close(space.norm(x), space.project(x).flatten(1).square().sum(1).sqrt())
    junk = x + 7.0 * (x - space.project(x))
    torch.testing.assert_close(space.norm(junk), space.norm(x))


def test_padding_appends_nothing_to_the_stream(case: tuple[Space, tuple[int, ...], list[int]]) -> None:
    """A longest sample twice as long, or another neighbour, changes no number."""
    space, shape, _ = case
    noise, like = SlotNoise(2, range(3)), torch.empty(shape, dtype=torch.float64)
    whole = space.randn(noise, like, 0)
    for k in range(3):
        part = space.take(slice(k, k + 1)).randn(SlotNoise(2, range(k, k + 1)), like[k : k + 1], 0)
        torch.testing.assert_close(part, whole[k : k + 1], rtol=0, atol=1e-15)


def test_take_is_the_space_of_those_samples(case: tuple[Space, tuple[int, ...], list[int]]) -> None:
    space, shape, ndof = case
    index = torch.tensor([2, 2, 0, 1])
    x = normal(*shape)
    torch.testing.assert_close(space.take(index).project(x[index]), space.project(x)[index])
    assert space.take(index).ndof(x[index]).tolist() == [ndof[k] for k in index.tolist()]


def test_nan_behind_a_mask_is_dropped() -> None:
    x = normal(3, 4, 2)
    dirty = torch.where(MASK[..., None], x, torch.nan)
    for space in (Masked(MASK), ZeroCoM(MASK)):
        torch.testing.assert_close(space.project(dirty), space.project(x))


def test_lincomb_and_where() -> None:
    space = Product(a=Euclidean(), b=Euclidean())
    x, y = {"a": normal(3, 2), "b": normal(3, seed=1)}, {"a": normal(3, 2, seed=2), "b": normal(3, seed=3)}
    kept = {name: leaf.clone() for name, leaf in x.items()}
    per_walker = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    out = space.lincomb([(2.0, x), ({"a": -1.0, "b": 0.5}, y), (per_walker, x)])
    torch.testing.assert_close(out["a"], 2 * x["a"] - y["a"] + per_walker[:, None] * x["a"])
    torch.testing.assert_close(out["b"], 2 * x["b"] + 0.5 * y["b"] + per_walker * x["b"])
    assert all(torch.equal(x[name], kept[name]) for name in x)
    mask = torch.tensor([True, False, True])
    chosen = space.where(mask, x, y)
    assert torch.equal(chosen["a"], torch.stack([x["a"][0], y["a"][1], x["a"][2]]))


def test_product_sums_over_its_leaves() -> None:
    space = Product(X=ZeroCoM(MASK), A=Graph(MASK))
    x = {"X": normal(3, 4, 2), "A": normal(3, 4, 4)}
    assert space.ndof(x).tolist() == [12, 3, 7] and not space.elementwise and projects(space)
    torch.testing.assert_close(space.norm(x).square(), sum(space.spaces[k].norm(x[k]).square() for k in x))
    z = space.randn(SlotNoise(0, range(3)), {"X": x["X"], "A": x["X"].new_empty(3, 4, 4)}, 0)
    assert not torch.equal(z["X"].flatten()[:6], z["A"].flatten()[:6])  # leaves have streams of their own
    assert (
        default_space(x).elementwise and not projects(default_space(x)) and isinstance(default_space(x["X"]), Euclidean)
    )


def test_expand_lines_up_with_the_front() -> None:
    like = torch.zeros(2, 3, 4, dtype=torch.float32)
    assert expand(torch.ones(2, dtype=torch.float64), like).shape == (2, 1, 1)
    assert (
        expand(torch.ones(2, 3), like).shape == (2, 3, 1) and expand(torch.ones(()).double(), like).dtype == like.dtype
    )


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Masked(torch.ones(2, 3)), TypeError, r"float32.*mask\.bool\(\)"),
        (lambda: Masked([True]), TypeError, "list"),
        (lambda: Masked(torch.ones(3, dtype=torch.bool)), ValueError, r"\(3,\)"),
        (lambda: Masked(torch.tensor([[True, False], [False, False]])), ValueError, r"sample 1 \(1 such\)"),
        (lambda: ZeroCoM(torch.ones(2, 3, 1, dtype=torch.bool)), ValueError, r"\(2, 3, 1\)"),
        (lambda: ZeroCoM(torch.tensor([[True, True], [True, False]])), ValueError, "sample 1 has one point"),
        (lambda: Graph(torch.ones(2, 3, dtype=torch.long)), TypeError, "int64"),
        (lambda: Graph(torch.zeros(2, 3, dtype=torch.bool)), ValueError, "sample 0"),
        (lambda: Product(), ValueError, "at least one named space"),
        (lambda: Product(X=3), TypeError, "'X'.*int"),
        (lambda: Masked(MASK).check(torch.zeros(3, 5)), ValueError, r"\(3, 4\).*\(3, 5\)"),
        (lambda: Masked(MASK).check(torch.zeros(2, 4)), ValueError, r"\(3, 4\).*\(2, 4\)"),
        (lambda: Graph(MASK).check(torch.zeros(3, 4, 5)), ValueError, r"\(B, 4, 4, \.\.\.\), got \(3, 4, 5\)"),
        (lambda: Euclidean().check({"a": torch.zeros(1)}), TypeError, "dict"),
        (lambda: ZeroCoM(MASK).check({"a": torch.zeros(1)}), TypeError, "dict"),
        (lambda: Product(X=Euclidean()).check(torch.zeros(3)), TypeError, r"\['X'\], got Tensor"),
        (lambda: Product(X=Euclidean()).check({"Y": torch.zeros(3)}), TypeError, r"\['X'\], got \['Y'\]"),
    ],
)  # fmt: skip
def test_refusals(make: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_graphs_of_single_nodes_have_no_edges() -> None:
    space = Graph(torch.tensor([[True, False], [True, False]]))
    z = space.randn(SlotNoise(0, range(2)), torch.empty(2, 2, 2), 0)
    assert (z == 0).all() and space.ndof(z).tolist() == [0, 0]
