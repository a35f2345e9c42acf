"""The trajectory variance against its definition, its windows and its refusals."""

import json
from pathlib import Path

import pytest
import torch

from scidiffuse.core import (
    DDIM,
    DDPM,
    EDM,
    AdaptiveDPM,
    Denoiser,
    Euclidean,
    Graph,
    Heun,
    Masked,
    Product,
    ProductSchedule,
    Record,
    VPLinear,
    ZeroCoM,
    grids,
    sample,
)
from scidiffuse.core.closed_form import GaussianMixture
from scidiffuse.core.diagnostics import TrajectoryVariance, keep, trajectory_variance, variance_of
from scidiffuse.core.spaces import Space
from scidiffuse.core.steering import FeynmanKac

MIXTURE = GaussianMixture.example()
_RULE = TrajectoryVariance(between=(0.0, 2.0 / 16))  # modes at -1 and 1
SCHEDULE = VPLinear()


def run(hooks, sampler=None, steps=20, n=12, **options):
    denoiser = MIXTURE.denoiser(SCHEDULE)
    options = {"shape": (n, 2), "seed": 3, "dtype": torch.float64, **options}
    return sample(denoiser, sampler or DDPM(), steps=steps, hooks=hooks, **options)


@pytest.mark.parametrize("sampler", [DDPM(), DDIM(), Heun()], ids=lambda s: type(s).__name__)
def test_it_is_the_variance_of_the_last_data_predictions(sampler):
    result = run([Record(what=("data",)), TrajectoryVariance(last=7)], sampler)
    data = torch.stack(result.records["data"])
    expected = data[-7:].var(0, unbiased=False).mean(1)
    torch.testing.assert_close(trajectory_variance(result), expected)
    torch.testing.assert_close(variance_of(result.records["data"], last=7), expected)
    assert float(expected.min()) > 0


def test_a_window_of_noise_levels():
    low, high = 0.05, 0.8
    hooks = [TrajectoryVariance(last=4, name="late"), TrajectoryVariance(between=(low, high))]
    result = run([Record(what=("data",)), *hooks], steps=40)
    inside = [low <= SCHEDULE.kappa(float(t)) <= high for t in result.records["t"]]
    assert 3 < sum(inside) < 30
    data = torch.stack([d for d, take in zip(result.records["data"], inside, strict=True) if take])
    torch.testing.assert_close(trajectory_variance(result), data.var(0, unbiased=False).mean(1))
    torch.testing.assert_close(trajectory_variance(result, "late"), variance_of(result.records["data"], last=4))


def test_cutting_the_batch_or_stopping_on_the_way_changes_nothing():
    hook = [TrajectoryVariance(last=6)]
    whole = trajectory_variance(run(hook))
    torch.testing.assert_close(trajectory_variance(run(hook, max_batch=5)), whole)
    first = run(hook, until=17)
    second = sample(
        MIXTURE.denoiser(SCHEDULE), DDPM(), steps=20, state=first.state, hooks=hook, seed=3, dtype=torch.float64
    )
    torch.testing.assert_close(trajectory_variance(second), whole)


def test_walkers_that_are_resampled_take_their_variance_along():
    """The reward names one region; the variance of each survivor is that of its ancestors' predictions."""
    steering = FeynmanKac(lambda x, step: 3.0 * x[:, 0], walkers=6, threshold=1.0)
    result = run([Record(what=("data",)), TrajectoryVariance(last=20), steering], n=6)
    data = result.records["data"]
    ancestors = next(a for name, a in result.records.items() if name.endswith("ancestors"))
    *ancestors, here = ancestors  # the last resampling is that of the samples
    paths = []
    for d, index in zip(reversed(data), reversed(ancestors), strict=True):
        here = index[here]
        paths.append(d[here])
    expected = torch.stack(paths).var(0, unbiased=False).mean(1)
    torch.testing.assert_close(trajectory_variance(result), expected)


MASK = torch.tensor([[True, True, True, False], [True, True, True, True]])


@pytest.mark.parametrize(
    ("space", "shape"),
    [
        (Euclidean(), (2, 3)),
        (Masked(MASK), (2, 4)),
        (ZeroCoM(MASK), (2, 4, 3)),
        (Graph(MASK), (2, 4, 4)),
        (Product(X=Masked(MASK), A=Graph(MASK)), {"X": (2, 4), "A": (2, 4, 4)}),
    ],
    ids=["euclidean", "masked", "zero-com", "graph", "product"],
)
def test_in_every_space_only_what_counts_is_counted(space, shape):
    """Data predictions c_i times a fixed unit state have variance var(c) |unit|^2 / ndof."""

    def network(x, t):
        return {k: v * 0.9 for k, v in x.items()} if isinstance(x, dict) else 0.9 * x

    denoiser = Denoiser(network, EDM(0.1, 5.0), "data", space)
    result = sample(
        denoiser, Heun(), steps=6, shape=shape, seed=0, hooks=[Record(what=("data",)), TrajectoryVariance(last=4)],
        dtype=torch.float64,
    )  # fmt: skip
    got = trajectory_variance(result)
    torch.testing.assert_close(got, variance_of(result.records["data"], space, last=4))
    for b in range(2):
        rows = []
        for data in result.records["data"][-4:]:
            leaves = data if isinstance(data, dict) else {"X": data}
            parts = []
            for name, leaf in leaves.items():
                part = space.spaces[name] if isinstance(space, Product) else space
                n = int(MASK[b].sum())
                if isinstance(part, Graph):
                    i, j = torch.triu_indices(n, n, 1)
                    parts.append(leaf[b][i, j])
                else:
                    parts.append((leaf[b] if isinstance(part, Euclidean) else leaf[b, :n]).flatten())
            rows.append(torch.cat(parts))
        gap = torch.stack(rows).var(0, unbiased=False).sum()
        like = result.x
        torch.testing.assert_close(got[b], gap / space.ndof(like)[b])


def test_keep():
    scores = torch.tensor([3.0, 1.0, 2.0, 1.0, 9.0])
    assert keep(scores, 0.4).tolist() == [False, True, False, True, False]
    assert keep(scores, 0.2).tolist() == [False, True, False, False, False]
    assert keep(scores, 0.41).sum() == 3
    assert bool(keep(scores, 1.0).all())
    assert keep(torch.arange(10.0), 0.7).sum() == 7
    for fraction in (0.0, 1.1, -0.1):
        with pytest.raises(ValueError, match="fraction"):
            keep(scores, fraction)
    with pytest.raises(ValueError, match="score 1 is not finite"):
        keep(torch.tensor([0.0, torch.nan]), 0.5)
    with pytest.raises(ValueError, match="shape"):
        keep(torch.zeros(2, 2), 0.5)


def test_walkers_between_two_modes_have_the_larger_variance():
    """A denoiser with a step of finite slope, as a smooth network's is, leaves walkers between the modes -1 and 1. They
    are found in a late window (up to a sixteenth of the distance), and less well in an earlier one."""
    schedule = EDM(0.02, 10.0)
    denoiser = Denoiser(lambda x, t: (x / 0.7).clamp(-1, 1), schedule, "data")
    hooks = [TrajectoryVariance(between=(0.0, high), name=str(high)) for high in (0.25, 0.5)]
    result = sample(denoiser, DDPM(), grids.karras(schedule, 60), shape=(2000, 1), seed=0, hooks=[*hooks, _RULE])
    outside = (result.x.abs() - 1).abs()[:, 0] > 0.1
    assert 10 < int(outside.sum()) < 100
    removed = []
    for name in ("trajectory_variance", "0.25", "0.5"):
        kept = keep(trajectory_variance(result, name), 0.9)
        assert float((kept & ~outside).sum() / (~outside).sum()) > 0.9
        removed.append(float((~kept & outside).sum() / outside.sum()))
    assert removed[0] > 0.95
    assert removed[0] > removed[1] > removed[2]


def test_what_is_recorded_of_the_papers_experiments():
    """`benchmarks/hallucination.py`: more than 90 % removed with more than 90 % kept, everywhere."""
    path = Path(__file__).parents[3] / "benchmarks" / "results" / "hallucination.json"
    recorded = json.loads(path.read_text())
    rows = [row for row in recorded["rows"] if row["radius"] == recorded["settings"]["radius"]]
    assert sorted({row["experiment"] for row in rows}) == ["1-D, 3 modes", "2-D, 5 x 5 grid"] and len(rows) == 4
    for row in rows:
        assert row["out"] > 10 and row["removed"] > 0.9 and row["kept"] > 0.9


class _Tokens(Space):
    pass


def test_refusals():
    with pytest.raises(ValueError, match="at least 2 calls"):
        TrajectoryVariance(last=1)
    with pytest.raises(ValueError, match="0 <= low < high"):
        TrajectoryVariance(between=(0.5, 0.1))
    with pytest.raises(ValueError, match="fewer than last=10"):
        run([TrajectoryVariance()], steps=5)
    with pytest.raises(ValueError, match="in the window, a variance needs 2"):
        trajectory_variance(run([TrajectoryVariance(between=(1e-9, 1e-8))]))
    with pytest.raises(ValueError, match="no call was recorded"):
        trajectory_variance(run([]))
    with pytest.raises(ValueError, match="chooses its own steps"):
        run([TrajectoryVariance()], AdaptiveDPM(), steps=None)
    assert trajectory_variance(run([TrajectoryVariance(between=(0.0, 2.0))], AdaptiveDPM(), steps=None)).shape == (12,)
    with pytest.raises(ValueError, match="towards the noise"):
        sample(
            MIXTURE.denoiser(SCHEDULE), DDIM(), grids.uniform(20, 0.01, 0.9), x=torch.zeros(2, 2),
            hooks=[TrajectoryVariance()],
        )  # fmt: skip
    both = ProductSchedule(X=VPLinear(), Y=EDM(), clock="X")
    with pytest.raises(ValueError, match="no single noise level"):
        sample(
            Denoiser(lambda x, t: x, both, "data"), DDIM(), steps=4, shape={"X": (2, 2), "Y": (2, 2)}, seed=0,
            hooks=[TrajectoryVariance(between=(0.1, 0.2))],
        )  # fmt: skip
    with pytest.raises(ValueError, match="predictions are recorded"):
        variance_of([torch.zeros(2, 2)])
    with pytest.raises(ValueError, match="not defined"):
        variance_of([torch.zeros(2, 2)] * 3, _Tokens())
