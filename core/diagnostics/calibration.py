r"""Are posteriors honest? Coverage of credible intervals, rank histograms, PIT.

Draw a truth x* from the prior, a measurement y from x*, and S posterior samples from y: then x* and the samples are
exchangeable, so the rank of x* among them is uniform on 0 ... S, exactly, for any S and any data. Everything here is a
function of that rank (of each scalar feature), with ties broken at random:

    coverage    the central interval from the (m+1)-th smallest to the (m+1)-th largest sample holds x* with
                probability 1 - 2 m / (S + 1) -- which is why a 95 % interval needs S >= 39 samples;
    histogram   counts of ranks in bins against their expectation: chi-square p-value and binomial bands.
                U-shaped: too narrow; arched: too wide; sloped: biased;
    PIT         (rank + u) / (S + 1), u uniform: uniform on (0, 1); Kolmogorov-Smirnov p-value.

What counts as one observation is a *case* (one truth). Features of a case depend on each other: intervals of coverages
averaged over features are therefore those of B cases, not of B times the features, and p-values are given for each
feature, with the smallest one corrected for their number (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from ..noise import keyed_generator

__all__ = ["Coverage", "RankHistogram", "coverage", "pit", "pit_p_value", "rank_histogram", "ranks"]


@dataclass(frozen=True)
class Coverage:
    """What `coverage` returns, one entry a level.

    Attributes:
        level: what was asked for.
        nominal: the probability that an interval of order statistics has exactly, the nearest to `level`.
        observed: share of truths inside, averaged over cases and features.
        low, high: confidence interval of the observed share (Clopper-Pearson, B cases).
        features: share of truths inside for each feature, (levels, ...).
        cases: B.
        confidence: of low and high.
    """

    level: tuple[float, ...]
    nominal: tuple[float, ...]
    observed: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    features: Tensor
    cases: int
    confidence: float

    @property
    def calibrated(self) -> tuple[bool, ...]:
        """Whether the nominal level lies in the confidence interval, for each level."""
        return tuple(a <= p <= b for a, p, b in zip(self.low, self.nominal, self.high, strict=True))

    def __str__(self) -> str:
        rows = zip(self.nominal, self.observed, self.low, self.high, strict=True)
        return "\n".join(f"{p:6.1%}: observed {o:6.1%} ({a:.1%} to {b:.1%})" for p, o, a, b in rows)

    def plot(self, ax: Any = None) -> Any:
        """Observed against nominal coverage, with the confidence intervals; returns the axes (needs matplotlib)."""
        ax = _axes(ax)
        ax.plot([0, 1], [0, 1], color="0.7")
        gaps = [
            [o - a for o, a in zip(self.observed, self.low, strict=True)],
            [b - o for o, b in zip(self.observed, self.high, strict=True)],
        ]
        ax.errorbar(self.nominal, self.observed, yerr=gaps, fmt="o")
        ax.set(xlabel="nominal coverage", ylabel="observed coverage")
        return ax


@dataclass(frozen=True)
class RankHistogram:
    """What `rank_histogram` returns.

    Attributes:
        counts: of ranks, long, (bins, ...).
        expected: (bins,).
        low, high: band of each count if calibrated, (bins,).
        chi2, p_value: of each feature, (...).
        p_min: smallest p-value times the number of features, at most 1.
        cases: B.
    """

    counts: Tensor
    expected: Tensor
    low: Tensor
    high: Tensor
    chi2: Tensor
    p_value: Tensor
    p_min: float
    cases: int

    def plot(self, ax: Any = None, feature: tuple[int, ...] = ()) -> Any:
        """The histogram of one feature with its band; returns the axes (needs matplotlib)."""
        ax = _axes(ax)
        place: tuple[Any, ...] = (slice(None), *feature)
        counts = self.counts[place]
        if counts.ndim != 1:
            raise ValueError(f"name one feature of {tuple(self.counts.shape[1:])}, got {feature}")
        bins = range(len(counts))
        ax.bar(bins, counts.tolist(), width=1.0, alpha=0.6)
        ax.fill_between(bins, self.low.tolist(), self.high.tolist(), step="mid", color="0.5", alpha=0.4)
        ax.set(xlabel="rank of the truth", ylabel="cases")
        return ax


def ranks(samples: Tensor, truth: Tensor, *, seed: int = 0) -> Tensor:
    """Rank of the truth among its posterior samples, 0 ... S, ties broken at random (keyed by `seed`).

    Args:
        samples: (S, B, ...): S draws for each of B cases.
        truth: (B, ...).

    Returns:
        long, (B, ...).

    Raises:
        TypeError: for values that are not numbers of a dtype.
        ValueError: for shapes that do not fit, values that are not finite.
    """
    for name, x in (("samples", samples), ("truth", truth)):
        if not isinstance(x, Tensor) or x.is_complex():
            came = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"{name} must be a real tensor, got {came}")
    if samples.ndim < 2 or samples.shape[1:] != truth.shape:
        raise ValueError(
            f"samples must have shape (S, B, ...) and truth (B, ...), got {tuple(samples.shape)} and "
            f"{tuple(truth.shape)}; draws come first"
        )
    if len(samples) < 1 or truth.numel() == 0:
        raise ValueError(f"need samples and cases, got samples of shape {tuple(samples.shape)}")
    if not (bool(torch.isfinite(samples).all()) and bool(torch.isfinite(truth).all())):
        raise ValueError("samples or truth hold values that are not finite: a failed run has no rank")
    below = (samples < truth).sum(0)
    equal = (samples == truth).sum(0)
    u = torch.from_numpy(keyed_generator(seed, "ties").random(tuple(truth.shape))).to(below.device)
    return below + torch.minimum((u * (equal + 1)).long(), equal)


def coverage(
    samples: Tensor,
    truth: Tensor,
    levels: Sequence[float] = (0.5, 0.8, 0.9, 0.95),
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> Coverage:
    """Coverage of central credible intervals.

    Args:
        samples: (S, B, ...): S posterior draws for each of B cases.
        truth: (B, ...).
        levels: probabilities of the intervals.
        confidence: of the interval of the observed share (C. Clopper and E. Pearson, "The use of confidence or
            fiducial limits", Biometrika 1934).
        seed: for ties.

    Raises:
        ValueError: for levels that S samples are too few for (S >= 2 / (1 - level) - 1), and as `ranks`.
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
    r = ranks(samples, truth, seed=seed)
    count, cases = len(samples), len(truth)
    rows, per_feature = [], []
    for level in levels:
        if not 0.0 < level < 1.0:
            raise ValueError(f"levels must lie in (0, 1), got {level}")
        if (count + 1) * (1.0 - level) < 2.0 - 1e-9:
            raise ValueError(
                f"{count} samples are too few for an interval of {level:g}: need at least "
                f"{math.ceil(2.0 / (1.0 - level) - 1e-9) - 1}"
            )
        m = min(max(1, round((count + 1) * (1.0 - level) / 2.0)), count // 2)
        inside = ((r >= m) & (r <= count - m)).double()
        per_feature.append(inside.mean(0))
        observed = float(inside.mean())
        low, high = _clopper_pearson(observed * cases, cases, confidence)
        rows.append((float(level), 1.0 - 2.0 * m / (count + 1), observed, low, high))
    level_, nominal, observed_, low_, high_ = zip(*rows, strict=True)
    return Coverage(level_, nominal, observed_, low_, high_, torch.stack(per_feature), cases, confidence)


def rank_histogram(
    samples: Tensor, truth: Tensor, bins: int | None = None, *, confidence: float = 0.95, seed: int = 0
) -> RankHistogram:
    """Simulation-based calibration: the histogram of ranks and its chi-square test.

    S. Talts, M. Betancourt, D. Simpson, A. Vehtari, A. Gelman, "Validating Bayesian inference algorithms with
    simulation-based calibration", 2018, algorithm 1.

    Args:
        samples: (S, B, ...): S posterior draws for each of B cases.
        truth: (B, ...).
        bins: number of bins; default at most 20, at most S + 1, and at least 5 cases expected in each. The S + 1
            ranks are shared out as evenly as they go, and expectations follow.
        confidence: of the bands, each bin by itself.
        seed: for ties.

    Raises:
        ValueError: for bins that hold fewer than 5 cases on average (the chi-square test is not valid), and as `ranks`.
    """
    r = ranks(samples, truth, seed=seed)
    count, cases = len(samples), len(truth)
    if bins is None:
        bins = max(2, min(20, count + 1, cases // 6))
    if not 2 <= bins <= count + 1:
        raise ValueError(f"bins must lie between 2 and S + 1 = {count + 1}, got {bins}")
    edges = torch.tensor([k * (count + 1) // bins for k in range(bins + 1)])
    share = (edges[1:] - edges[:-1]).double() / (count + 1)
    expected = share * cases
    if float(expected.min()) < 5.0:
        raise ValueError(
            f"{cases} cases in {bins} bins leave {float(expected.min()):.2g} in a bin, fewer than 5: use more cases or "
            "fewer bins"
        )
    place = torch.bucketize(r.cpu(), edges[1:-1], right=True)
    counts = torch.stack([(place == k).sum(0) for k in range(bins)])
    flat = counts.reshape(bins, -1).double()
    chi2 = ((flat - expected[:, None]).square() / expected[:, None]).sum(0)
    p_value = torch.from_numpy(stats.chi2.sf(chi2.numpy(), bins - 1)).reshape(counts.shape[1:])
    low, high = stats.binom.interval(confidence, cases, share.numpy())
    return RankHistogram(
        counts, expected, torch.from_numpy(low), torch.from_numpy(high), chi2.reshape(counts.shape[1:]), p_value,
        min(1.0, float(p_value.min()) * p_value.numel()), cases,
    )  # fmt: skip


def pit(samples: Tensor, truth: Tensor, *, seed: int = 0) -> Tensor:
    """Randomised probability integral transform (rank + u) / (S + 1), exactly uniform on (0, 1) if calibrated.

    Args:
        samples: (S, B, ...).
        truth: (B, ...).
        seed: of u and of ties.

    Returns:
        float64, (B, ...).
    """
    r = ranks(samples, truth, seed=seed)
    u = torch.from_numpy(keyed_generator(seed, "pit").random(tuple(truth.shape))).to(r.device)
    return (r + u) / (len(samples) + 1)


def pit_p_value(values: Tensor) -> Tensor:
    """Kolmogorov-Smirnov p-value of uniformity for each feature of `pit`, (...)."""
    flat = values.reshape(len(values), -1).cpu()
    p = [stats.kstest(flat[:, k].numpy(), "uniform").pvalue for k in range(flat.shape[1])]
    return torch.tensor(p, dtype=torch.float64).reshape(values.shape[1:])


def _clopper_pearson(k: float, n: int, confidence: float) -> tuple[float, float]:
    tail = (1.0 - confidence) / 2.0
    low = 0.0 if k <= 0.0 else float(stats.beta.ppf(tail, k, n - k + 1))
    high = 1.0 if k >= n else float(stats.beta.ppf(1.0 - tail, k + 1, n - k))
    return low, high


def _axes(ax: Any) -> Any:
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError('plots need matplotlib: pip install "scidiffuse[plot]"') from error
    return pyplot.subplots(figsize=(4, 3))[1]
