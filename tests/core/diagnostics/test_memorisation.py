"""The memorisation audit finds what was planted, and nothing in fresh draws."""

import pytest
import torch

from scidiffuse.core import Euclidean, Graph, ZeroCoM
from scidiffuse.core.diagnostics import audit_memorisation, nearest, tile_groups


def draw(n, *shape, seed=0):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


def test_nearest_against_brute_force():
    x, y = draw(7, 3, 2), draw(11, 3, 2, seed=1)
    gaps = (x[:, None] - y[None]).double().square().flatten(2).mean(2).sqrt()
    for size in (1, 4, 1024):
        distance, index = nearest(x, y, max_batch=size)
        torch.testing.assert_close(distance, gaps.min(1).values)
        assert index.tolist() == gaps.argmin(1).tolist()
    own = (y[:, None] - y[None]).double().square().flatten(2).mean(2).sqrt().fill_diagonal_(torch.inf)
    for size in (1, 3, 1024):
        distance, index = nearest(y, None, max_batch=size)
        torch.testing.assert_close(distance, own.min(1).values)
        assert index.tolist() == own.argmin(1).tolist()


def test_fresh_draws_are_not_flagged_and_their_ranks_are_uniform():
    report = audit_memorisation(draw(200, 16), draw(400, 16, seed=1))
    assert report.pairs == [] and report.groups == [] and report.share == 0.0
    assert 0.8 < float(report.ratio.median()) < 1.3
    assert 0.35 < float(report.rank.mean()) < 0.65


def test_chance_in_few_dimensions():
    """Half as near as the neighbour happens by chance with probability of the order 2^-n."""
    for n in (2, 4, 6):
        report = audit_memorisation(draw(1500, n), draw(1500, n, seed=1), tile_threshold=0.0, group=1500)
        assert 0.4 * 2.0**-n < report.share < 2.5 * 2.0**-n


def test_planted_copies_are_named():
    training, generated = draw(60, 1, 8, 8, seed=1), draw(20, 1, 8, 8)
    generated[3] = training[17]
    generated[11] = training[42] + 0.02 * draw(1, 1, 8, 8, seed=9)[0]
    report = audit_memorisation(
        generated, training, names=[f"g{i}" for i in range(20)], training_names=[f"patient {i}" for i in range(60)]
    )
    assert [(p.generated, p.training) for p in report.pairs] == [("g3", "patient 17"), ("g11", "patient 42")]
    first, second = report.pairs
    assert first.distance == first.ratio == first.tile == 0.0
    assert second.distance == pytest.approx(0.02, rel=0.3)
    assert second.tile >= second.distance
    assert first.by == second.by == ("ratio", "tile")
    assert report.share == 0.1
    assert float(report.rank[3]) == 0.0
    assert "g3 ~ patient 17" in str(report) and "2 of 20" in str(report)


def test_tiles_see_what_the_average_hides():
    """A large equal background with one patch that differs: near on average, far in a tile."""
    training = torch.zeros(10, 1, 16, 16)
    training[:, :, 4:8, 8:12] = draw(10, 1, 4, 4)
    report = audit_memorisation(training[:1] + 0.0, training[1:], tile_threshold=0.3)
    assert float(report.tile_distance[0]) == pytest.approx(4.0 * float(report.distance[0]), rel=1e-6)
    patch = (training[:1] - training[1:])[:, 0, 4:8, 8:12].square().mean((1, 2)).sqrt().min()
    assert float(report.tile_distance[0]) == pytest.approx(float(patch), rel=1e-6)
    assert all("tile" not in pair.by for pair in report.pairs)


@pytest.mark.parametrize(
    ("shape", "tiles", "count"), [((10,), 4, 4), ((3, 10), 4, 12), ((2, 9, 7), (3, 2), 6), ((5,), 9, 5)]
)
def test_tiles_cover_every_element_once(shape, tiles, count):
    from scidiffuse.core.diagnostics.memorisation import _cuts

    seen = torch.zeros(1, *shape)
    cuts = _cuts(shape, tiles)
    for cut in cuts:
        assert seen[cut].numel() > 0
        seen[cut] += 1
    assert len(cuts) == count and bool((seen == 1).all())


def test_groups_are_connected_components_whatever_the_block():
    """A chain a-b-c of neighbours is one group although a and c are far apart; a pair is too small."""
    x = torch.tensor([0.0, 5.0, 0.9, 9.0, 1.8, 5.5, 20.0, 20.1, 20.2, 20.3])[:, None]
    for size in (1, 2, 3, 100):
        assert tile_groups(x, 1.0, max_batch=size) == [(6, 7, 8, 9), (0, 2, 4)]
        assert tile_groups(x, 1.0, least=2, max_batch=size) == [(6, 7, 8, 9), (0, 2, 4), (1, 5)]


def test_generations_that_repeat_each_other_are_a_group():
    generated = draw(12, 1, 8, 8)
    generated[[2, 5, 9]] = generated[2] + 0.001 * draw(3, 1, 8, 8, seed=4)
    report = audit_memorisation(generated, draw(30, 1, 8, 8, seed=1))
    assert report.groups == [("2", "5", "9")]
    assert report.pairs == []


def test_duplicates_in_the_training_set_do_not_hide_copies():
    training = draw(40, 5, seed=1)
    training[7] = training[3]
    generated = draw(5, 5)
    generated[1] = training[3] + 1e-3
    report = audit_memorisation(generated, training)
    assert report.duplicates == 2
    assert [p.generated for p in report.pairs] == ["1"]
    assert bool(torch.isfinite(report.ratio).all())


def test_features_make_distances_of_points_meaningful():
    """A rotated and relabelled copy is far in coordinates and found by sorted distances between points."""

    def descriptor(x):
        return torch.cdist(x, x).flatten(1).sort(1).values

    training, generated = draw(30, 6, 3, seed=1), draw(8, 6, 3)
    turn = torch.linalg.qr(draw(1, 3, 3, seed=5)[0])[0]
    generated[4] = (training[21] @ turn)[torch.randperm(6, generator=torch.Generator().manual_seed(0))]
    mask = torch.ones(1, 6, dtype=torch.bool)
    with pytest.raises(ValueError, match="give features="):
        audit_memorisation(generated, training, space=ZeroCoM(mask))
    with pytest.raises(ValueError, match="give features="):
        audit_memorisation(generated, training, space=Graph(mask))
    assert audit_memorisation(generated, training, space=Euclidean(), tile_threshold=0.0).pairs == []
    report = audit_memorisation(generated, training, space=ZeroCoM(mask), features=descriptor, max_batch=7)
    assert [(p.generated, p.training) for p in report.pairs] == [("4", "21")]


def test_refusals():
    x, y = draw(4, 8), draw(6, 8, seed=1)
    with pytest.raises(ValueError, match=r"generated samples are \(8,\), training \(7,\)"):
        audit_memorisation(x, y[:, :7])
    with pytest.raises(ValueError, match="at least 2 training"):
        audit_memorisation(x, y[:1])
    with pytest.raises(TypeError, match="floating-point"):
        audit_memorisation(x.long(), y)
    with pytest.raises(ValueError, match="not finite"):
        audit_memorisation(x.log(), y)
    with pytest.raises(ValueError, match="3 names for 4"):
        audit_memorisation(x, y, names=["a", "b", "c"])
    with pytest.raises(ValueError, match="do not fit into"):
        audit_memorisation(x, y, tiles=(9,))
    with pytest.raises(ValueError, match="does not fit samples"):
        audit_memorisation(x, y, tiles=(2, 2))
    with pytest.raises(ValueError, match="ratio must be positive"):
        audit_memorisation(x, y, ratio=0.0)
    with pytest.raises(ValueError, match="max_batch"):
        audit_memorisation(x, y, max_batch=0)
    with pytest.raises(ValueError, match="features must map"):
        audit_memorisation(x, y, features=lambda v: v.sum(1))
