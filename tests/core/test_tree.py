"""States as tensors and dictionaries of tensors."""

from __future__ import annotations

import pytest
import torch

from scidiffuse.core.tree import batch_size, cat, leaves, take, tree_map

X = {"a": torch.arange(6.0).reshape(3, 2), "b": torch.arange(3.0)}


def test_tree_map_acts_leaf_by_leaf_and_keeps_plain_tensors_plain() -> None:
    doubled = tree_map(torch.add, X, X)
    assert (
        list(doubled) == ["a", "b"] and torch.equal(doubled["a"], 2 * X["a"]) and torch.equal(doubled["b"], 2 * X["b"])
    )
    assert torch.equal(tree_map(torch.mul, X["b"], X["b"]), torch.tensor([0.0, 1.0, 4.0]))


def test_leaves_in_order_of_insertion() -> None:
    assert [leaf.shape for leaf in leaves(X)] == [(3, 2), (3,)]
    assert leaves(X["b"])[0] is X["b"]


def test_take_and_cat_undo_each_other() -> None:
    parts = [take(X, slice(0, 1)), take(X, slice(1, 3))]
    again = cat(parts)
    assert all(torch.equal(again[name], X[name]) for name in X)
    assert torch.equal(take(X["b"], torch.tensor([2, 0, 2])), torch.tensor([2.0, 0.0, 2.0]))
    assert cat([X]) is X
    assert torch.equal(cat([X["b"], X["b"]]), X["b"].repeat(2))


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        ({"a": torch.zeros(3), "b": torch.zeros(2)}, ValueError, r"\[2, 3\]"),
        (torch.zeros(()), ValueError, "batch dimension"),
        ([1.0, 2.0], TypeError, "list"),
        ({"a": torch.zeros(3), "b": 1.0}, TypeError, "float"),
        ({}, ValueError, r"\[\]"),
    ],
)
def test_batch_size_refuses(x: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        batch_size(x)


def test_batch_size() -> None:
    assert batch_size(X) == 3 and batch_size(torch.zeros(4, 0)) == 4
