"""What sizes that cannot be say."""

from __future__ import annotations

import pytest
import torch

from scidiffuse.molecules.sizes import counts_of


@pytest.mark.parametrize(
    ("asked", "came"), [(20, "got 20$"), ([20, 20], "got 20$"), ([20, 3], "got 3 to 20$"), (0, "got 0$")]
)
def test_counts_out_of_range_are_told_as_they_came(asked, came):
    with pytest.raises(ValueError, match=r"samples have 1 to 3 nodes \(the model's largest\), " + came):
        counts_of(torch.ones(4), 2, asked, seed=0)


def test_a_scaffold_as_large_as_the_largest_graph_is_told():
    with pytest.raises(ValueError, match="no training graph has 4 nodes or more, the largest has 3: take a smaller"):
        counts_of(torch.ones(4), 2, None, seed=0, held=3)
