"""Calibration on conjugate Gaussians, where the posterior is known. Seeds are fixed; false alarms are stated."""

import pytest
import torch
from scipy import stats

from scidiffuse.core.diagnostics import coverage, pit, pit_p_value, rank_histogram, ranks

B, S = 600, 99


def cases(width=1.0, shift=0.0, features=(2,), seed=0, cases=B, draws=S):
    """x ~ N(0, 1), y = x + n: posterior N(y/2, 1/2), reported with another width and a shift (in its sd)."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(cases, *features, generator=g)
    y = x + torch.randn(cases, *features, generator=g)
    z = torch.randn(draws, cases, *features, generator=g)
    return y / 2 + 0.5**0.5 * (width * z + shift), x


def test_ranks_and_ties():
    samples = torch.tensor([[1.0], [2.0], [3.0]])
    for truth, rank in ((0.5, 0), (1.5, 1), (2.5, 2), (9.0, 3)):
        assert ranks(samples, torch.tensor([truth])).tolist() == [rank]
    # all equal: the rank is uniform on 0 ... S
    r = ranks(torch.zeros(4, 5000), torch.zeros(5000), seed=1)
    counts = torch.bincount(r, minlength=5)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3  # a false alarm once in a thousand seeds
    assert torch.equal(r, ranks(torch.zeros(4, 5000), torch.zeros(5000), seed=1))
    assert not torch.equal(r, ranks(torch.zeros(4, 5000), torch.zeros(5000), seed=2))


def test_coverage_of_an_honest_posterior():
    """Each interval misses with probability below 5 % (Clopper-Pearson over cases, features averaged)."""
    result = coverage(*cases())
    assert result.nominal == pytest.approx((0.5, 0.8, 0.9, 0.94))
    assert all(result.calibrated)
    assert result.features.shape == (4, 2) and result.cases == B
    assert "observed" in str(result)


def test_coverage_of_other_posteriors_is_the_closed_form():
    """A width w covers Phi(w q) - Phi(-w q) of the truths in place of the nominal level."""
    for width in (0.5, 2.0):
        result = coverage(*cases(width, cases=4000, features=()))
        for nominal, observed in zip(result.nominal, result.observed, strict=True):
            expected = 2 * stats.norm.cdf(width * stats.norm.ppf((1 + nominal) / 2)) - 1
            assert observed == pytest.approx(expected, abs=0.035)
        assert not any(result.calibrated)
    assert coverage(*cases(shift=2.0)).observed[0] < 0.1


def test_the_nominal_level_of_few_samples_is_exact():
    """With S = 4 samples the middle interval (smallest to largest) has probability 3/5, not what a quantile says."""
    result = coverage(*cases(draws=4, cases=8000, features=()), levels=(0.6,))
    assert result.nominal == (pytest.approx(0.6),)
    assert result.calibrated == (True,)
    assert coverage(*cases(draws=19), levels=(0.9,)).nominal == (pytest.approx(0.9),)
    with pytest.raises(ValueError, match="need at least 39"):
        coverage(*cases(draws=38), levels=(0.95,))
    coverage(*cases(draws=39), levels=(0.95,))


def test_confidence_intervals_are_clopper_pearsons():
    samples, truth = cases(features=(), cases=50)
    result = coverage(samples, truth, levels=(0.8,))
    interval = stats.binomtest(round(result.observed[0] * 50), 50).proportion_ci(0.95, "exact")
    assert (result.low[0], result.high[0]) == pytest.approx((interval.low, interval.high))
    # features do not count as cases
    wide = coverage(samples[..., None].expand(-1, -1, 30), truth[:, None].expand(-1, 30), levels=(0.8,))
    assert (wide.low[0], wide.high[0]) == pytest.approx((result.low[0], result.high[0]))


def test_rank_histogram():
    honest = rank_histogram(*cases())
    assert honest.counts.sum(0).tolist() == [B, B]
    torch.testing.assert_close(honest.expected.sum(), torch.tensor(float(B), dtype=torch.float64))
    assert honest.p_min > 0.01  # a false alarm once in a hundred seeds
    for wrong in (cases(0.6), cases(1.6), cases(shift=0.4)):
        assert rank_histogram(*wrong).p_min < 1e-4
    narrow = rank_histogram(*cases(0.5, features=())).counts
    assert narrow[0] + narrow[-1] > 3 * (narrow[9] + narrow[10])  # U-shaped


def test_uneven_bins_expect_what_they_hold():
    """S + 1 = 10 ranks in 4 bins: 2, 3, 2, 3 ranks."""
    samples, truth = cases(draws=9, cases=1000, features=())
    result = rank_histogram(samples, truth, 4)
    assert (result.expected / 100).tolist() == pytest.approx([2, 3, 2, 3])
    r = ranks(samples, truth)
    assert result.counts.tolist() == [int(((r >= a) & (r < b)).sum()) for a, b in ((0, 2), (2, 5), (5, 7), (7, 10))]
    by_scipy = stats.chisquare(result.counts.numpy(), result.expected.numpy())
    assert (float(result.chi2), float(result.p_value)) == pytest.approx((by_scipy.statistic, by_scipy.pvalue))
    assert bool(((result.low <= result.expected) & (result.expected <= result.high)).all())


def test_pit():
    values = pit(*cases())
    assert bool(((values > 0) & (values < 1)).all())
    assert float(pit_p_value(values).min()) > 0.005  # of two features: a false alarm once in a hundred seeds
    assert float(pit_p_value(pit(*cases(0.5))).max()) < 1e-6


def test_p_values_of_honest_posteriors_are_uniform():
    """60 runs of the chi-square test: the share below 0.2 is within 4.5 standard deviations."""
    p = [float(rank_histogram(*cases(features=(), seed=k, cases=200, draws=19), 10).p_value) for k in range(60)]
    low = sum(v < 0.2 for v in p) / 60
    assert abs(low - 0.2) < 4.5 * (0.2 * 0.8 / 60) ** 0.5
    assert min(p) < 0.2 < max(p)


def test_plots():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    ax = coverage(*cases(cases=100)).plot()
    assert ax.get_xlabel() == "nominal coverage"
    histogram = rank_histogram(*cases(cases=100))
    assert len(histogram.plot(feature=(1,)).patches) == len(histogram.expected)
    with pytest.raises(ValueError, match="name one feature"):
        histogram.plot()
    pyplot.close("all")


def test_refusals():
    samples, truth = cases(cases=30)
    with pytest.raises(ValueError, match="draws come first"):
        ranks(samples.transpose(0, 1), truth)
    with pytest.raises(ValueError, match="not finite"):
        ranks(samples * torch.nan, truth)
    with pytest.raises(TypeError, match="real tensor"):
        ranks(samples.to(torch.complex64), truth)
    with pytest.raises(ValueError, match="levels must lie"):
        coverage(samples, truth, levels=(1.0,))
    with pytest.raises(ValueError, match="confidence"):
        coverage(samples, truth, confidence=1.0)
    with pytest.raises(ValueError, match="fewer than 5"):
        rank_histogram(samples, truth, 10)
    with pytest.raises(ValueError, match="bins must lie"):
        rank_histogram(samples, truth, 101)
