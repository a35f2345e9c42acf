"""CSDI against a Gaussian law known in closed form, then trained at toy size, and everything it refuses.

Two series a and b are, at each step independently, jointly normal with correlation RHO. All conditional laws are known,
and so is the noise prediction of a perfect network (:class:`Perfect`), with which the walks are tested apart from any
training.
"""

from __future__ import annotations

import dataclasses
import math
import warnings

import numpy as np
import pytest
import torch

pd = pytest.importorskip("pandas")
pytest.importorskip("lightning")

from scidiffuse import timeseries as ts  # noqa: E402
from scidiffuse.core.denoisers import Denoiser  # noqa: E402
from scidiffuse.core.training import Keys  # noqa: E402
from scidiffuse.timeseries.csdi import CSDI, CSDIConfig  # noqa: E402
from scidiffuse.timeseries.csdi_data import Aligned, Scales, TrainingWindows, split  # noqa: E402
from scidiffuse.timeseries.csdi_sampling import _place  # noqa: E402
from scidiffuse.timeseries.steering import ConstraintError  # noqa: E402

RHO = 0.8
MEAN, STD = np.array([10.0, -3.0]), np.array([2.0, 5.0])
SMALL = {"channels": 16, "layers": 1, "heads": 2, "feedforward": 16, "embedding": 16, "time_embedding": 8,
         "series_embedding": 4, "dropout": 0.0}  # fmt: skip
TINY = {**SMALL, "channels": 8, "context_length": 12, "prediction_length": 4}
FAST = {"max_steps": 4, "batch_size": 8, "seed": 0}


def frame(table, ids, start="2024-01-01", freq="h"):
    """A long frame of a table (n, series)."""
    ds = pd.date_range(start, periods=len(table), freq=freq)
    return pd.concat(
        [pd.DataFrame({"unique_id": u, "ds": ds, "y": table[:, k]}) for k, u in enumerate(ids)], ignore_index=True
    )


def pair(n, seed=0):
    z = np.random.default_rng(seed).multivariate_normal([0, 0], [[1, RHO], [RHO, 1]], n)
    return frame(MEAN + STD * z, ("a", "b"))


def waves(n, ids=("u", "v", "w"), seed=0, noise=0.1, start="2024-01-01"):
    """Sines of period 8, a third of a period apart."""
    t, rng = np.arange(n), np.random.default_rng(seed)
    table = [
        20 * (k + 1) + 5 * np.sin(2 * np.pi * (t / 8 + k / 3)) + 5 * noise * rng.normal(size=n) for k in range(len(ids))
    ]
    return frame(np.stack(table, axis=1), ids, start)


def without(df, u, first, stop):
    """The frame with y = NaN at steps first .. stop-1 of series u."""
    place = df.groupby("unique_id").cumcount()
    return df.assign(y=df["y"].where((df["unique_id"] != u) | (place < first) | (place >= stop)))


class Perfect(torch.nn.Module):
    """E[n | x_t, what is given] of the pair, in scaled units."""

    def __init__(self, schedule):
        super().__init__()
        self.bar = torch.tensor(schedule.alphas_cumprod, dtype=torch.float64)

    def forward(self, x, label, *, values, given, who):
        bar = self.bar[label][:, None, None].to(x)
        alpha, sigma, c = bar.sqrt(), (1 - bar).sqrt(), bar * RHO
        knowing = sigma * (x - alpha * RHO * values.flip(1)) / (bar * (1 - RHO**2) + 1 - bar)
        alone = sigma * (x - c * x.flip(1)) / (1 - c**2)
        return torch.where(given.flip(1), knowing, alone)


@pytest.fixture
def perfect():
    model = CSDI(context_length=12, prediction_length=4, freq="h")
    model.scales = Scales(("a", "b"), MEAN, STD)
    model.denoiser = Denoiser(Perfect(model.schedule), model.schedule, prediction="noise", label="integer")
    return model


@pytest.fixture(scope="module")
def tiny():
    """Hardly trained: for promises that hold of any network."""
    model = CSDI(**TINY).fit(waves(120), **{**FAST, "max_steps": 30, "lr": 1e-2, "ema": 0.5})
    return model


def spread(betas, v):
    """Standard deviation to which the published recursion brings N(0, v), with a perfect network.

    x <- (x - beta / sqrt(1 - abar) eps) / sqrt(1 - beta) + sqrt((1 - abar_before) / (1 - abar) beta) z.
    """
    bar = np.cumprod(1 - np.array(betas))
    var = 1.0
    for i in range(len(betas) - 1, -1, -1):
        eps = math.sqrt(1 - bar[i]) / (bar[i] * v + 1 - bar[i])
        factor = (1 - betas[i] / math.sqrt(1 - bar[i]) * eps) / math.sqrt(1 - betas[i])
        before = bar[i - 1] if i else 1.0
        var = factor**2 * var + (1 - before) / (1 - bar[i]) * betas[i]
    return math.sqrt(var)


# ---------------------------------------------------------------- a perfect network


def test_the_process_is_the_published_one():
    betas = np.array(CSDI().schedule.betas)
    assert len(betas) == 50 and np.allclose(np.diff(np.sqrt(betas), 2), 0)
    assert np.isclose(betas[0], 1e-4) and np.isclose(betas[-1], 0.5)


def test_a_perfect_network_imputes_the_conditional_law(perfect):
    df = pair(64, seed=1)
    gap = without(without(df, "a", 3, 40), "a", 50, 64)
    out = perfect.impute(gap, num_samples=600, seed=0)
    missing = out.missing[0]
    b = df["y"].to_numpy()[64:][missing]
    exact = MEAN[0] + STD[0] * RHO * (b - MEAN[1]) / STD[1]
    sd = STD[0] * spread(perfect.schedule.betas, 1 - RHO**2)
    z = (out.mean()[0][missing] - exact) / (sd / math.sqrt(600))
    assert abs(z).max() < 4.5 and abs(z.mean()) < 4 / math.sqrt(len(z))
    assert abs(out.samples[0][:, missing].std(axis=0).mean() / sd - 1) < 0.02
    assert 0.9 < sd / (STD[0] * math.sqrt(1 - RHO**2)) < 0.95  # fifty ancestral steps are a little too sure


def test_a_perfect_network_forecasts_the_joint_law(perfect):
    """Paths of all series belong together: along and across the axis of correlation as the recursion says."""
    a, b = perfect.forecast(pair(40), num_samples=3000, seed=3).samples
    a, b = ((y - m) / s for y, m, s in zip((a, b), MEAN, STD, strict=True))
    betas = perfect.schedule.betas
    assert abs(((a + b) / math.sqrt(2)).std() / spread(betas, 1 + RHO) - 1) < 0.02
    assert abs(((a - b) / math.sqrt(2)).std() / spread(betas, 1 - RHO) - 1) < 0.02
    assert abs(a.mean()) < 0.05 and abs(b.mean()) < 0.05


def test_groups_of_series_are_independent(perfect):
    """With one series a table, nothing is known of the other: what `max_features` costs."""
    perfect.denoiser.network.forward = lambda x, label, *, values, given, who: (
        (1 - perfect.denoiser.network.bar[label][:, None, None].to(x)).sqrt() * x
    )
    out = perfect.forecast(pair(40), num_samples=3000, max_features=1, seed=0)
    a, b = out.samples
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.03 and out.info["groups"] == 2


def test_ddim_has_the_same_mean_and_less_bias_in_the_spread(perfect):
    gap = without(pair(40, seed=1), "a", 5, 20)
    out = perfect.impute(gap, num_samples=1500, sampler="ddim", steps=50, seed=0)
    sd = out.samples[0][:, out.missing[0]].std(axis=0).mean()
    assert abs(sd / (STD[0] * math.sqrt(1 - RHO**2)) - 1) < 0.05
    again = perfect.impute(gap, num_samples=1500, sampler="ddim", steps=50, seed=0)
    assert np.array_equal(again.samples[0], out.samples[0])


def test_a_total_over_both_series_is_steered_jointly(perfect):
    """The sum of a and b over two steps is N(14, 90): at least 25 has the probability Phi(-11 / sqrt(90)) = 0.12."""
    total = ts.Scenario(lambda y: y.sum(axis=(1, 2)), at_least=25.0, joint=True, size=9.5)
    out = perfect.forecast(pair(40), 2, num_samples=40, steer=total, walkers=16, seed=0)
    report = out.info["steering"]
    assert (out.samples.sum(axis=(0, 2)) >= 25).all() and report["satisfied"] == 1
    assert abs(report["log_z"][0] - math.log(0.12)) < 0.35
    cut = perfect.forecast(pair(40), 2, num_samples=40, steer=total, walkers=16, seed=0, max_batch=320)
    assert np.allclose(cut.samples, out.samples, rtol=1e-4, atol=1e-4)


def test_constraints_on_single_series_hold_for_all_at_once_or_are_reported(perfect):
    out = perfect.forecast(pair(40), 2, num_samples=30, steer=ts.Capacity({"a": 11.0}), walkers=16, seed=0)
    assert (out.samples[0] <= 11).all() and (out.samples[1] > 0).any()
    with pytest.raises(ConstraintError, match="violate a hard constraint"):
        perfect.forecast(pair(40), 2, num_samples=4, steer=ts.Bounds(lower={"a": 60.0}), walkers=2, seed=0)
    moved = perfect.forecast(
        pair(40), 2, num_samples=4, steer=ts.Bounds(lower={"a": 60.0}), walkers=2, on_violation="project"
    )
    assert (moved.samples[0] == 60).all() and moved.info["steering"]["projected"] == 4


# ---------------------------------------------------------------- it learns


def test_a_short_training_imputes_one_series_from_the_other():
    config = CSDIConfig(**SMALL, context_length=14, prediction_length=2, target_strategy="random")
    model = CSDI(config).fit(pair(3000), max_steps=450, batch_size=32, lr=1e-2, ema=0.98, seed=0)
    df = pair(60, seed=1)
    out = model.impute(without(df, "a", 2, 59), num_samples=40, seed=0)
    missing = out.missing[0]
    y, b = df["y"].to_numpy()[:60][missing], df["y"].to_numpy()[60:][missing]
    exact = MEAN[0] + STD[0] * RHO * (b - MEAN[1]) / STD[1]
    mean = out.mean()[0][missing]
    assert np.corrcoef(mean, exact)[0, 1] > 0.9
    assert np.sqrt(np.mean((mean - y) ** 2)) < 0.75 * y.std()  # the best is 0.6, the marginal 1
    assert 0.7 < out.samples[0][:, missing].std(axis=0).mean() / (STD[0] * math.sqrt(1 - RHO**2)) < 1.4


def periods(count, seed):
    """Sines of period 12 around a level that is drawn anew in every period, with a little noise; and the sines."""
    rng, phase = np.random.default_rng(seed), 2 * np.pi * (np.arange(12)[:, None] / 12 + np.array([0, 0.5]))
    shape = np.array([20.0, 40.0]) + 5 * np.sin(phase)
    noise = rng.normal(size=(count, 1, 2)) + 0.1 * rng.normal(size=(count, 12, 2))
    return frame((shape + 5 * noise).reshape(-1, 2), ("u", "v")), shape


@pytest.mark.filterwarnings("ignore:.*inside the training period")
def test_a_short_training_forecasts_waves():
    """The level must be read off the context, the shape be learnt: neither alone is enough."""
    df, shape = periods(300, seed=0)
    config = CSDIConfig(**SMALL, context_length=8, prediction_length=4, stride=12, target_strategy="forecast")
    model = CSDI(config).fit(df, max_steps=250, batch_size=32, lr=1e-2, ema=0.98, seed=0)
    history, y = ts.rolling(periods(12, seed=9)[0], 4, n_windows=10, step=12)
    out = model.forecast(history, num_samples=20, seed=0)
    error = np.abs(out.median() - y).mean()
    assert error < 0.4 * np.abs(np.tile(shape[8:].T, (10, 1)) - y).mean()  # the shape alone
    assert error < 0.4 * np.abs(np.stack([np.full(4, v[-8:].mean()) for v in history.values]) - y).mean()  # the level
    assert out.iid and out.info["origins"] == 10


# ---------------------------------------------------------------- what is hidden


@pytest.mark.parametrize("strategy", ["random", "historical", "forecast", "blocks"])
def test_targets_are_observed_and_there_is_one(strategy):
    rng = np.random.default_rng(0)
    for _ in range(60):
        seen, other = (rng.random((3, 12)) < rng.uniform(0.1, 1) for _ in range(2))
        seen[0, 0] = True
        given = split(seen, strategy, rng, horizon=4, pattern=other)
        assert not (given & ~seen).any() and (seen & ~given).any()
        if strategy == "forecast" and seen[:, 8:].any():
            assert np.array_equal(given, seen & (np.arange(12) < 8))
        if strategy == "historical" and (seen & ~other).any():
            assert np.array_equal(given, seen & other)
    everything = np.ones((3, 12), bool)
    hidden = ~split(everything, "blocks", rng, horizon=4)
    assert (np.abs(np.diff(hidden.astype(int), axis=1)).sum(1) <= 2).all()  # one run a series
    assert not split(everything, "forecast", rng, horizon=4)[:, 8:].any()


def test_the_hidden_share_is_uniform():
    rng = np.random.default_rng(1)
    share = [1 - split(np.ones((4, 25), bool), "random", rng, horizon=5).mean() for _ in range(4000)]
    assert abs(np.mean(share) - 0.5) < 0.02 and abs(np.std(share) - 12**-0.5) < 0.01


def windows(df, scaler="series", **settings):
    model = CSDI(**{**TINY, "scaler": scaler, **settings})
    panel = ts.to_panel(df)
    model.config = dataclasses.replace(model.config, freq="h")
    model._measure(panel)
    return model, model._windows(panel, 0.0)


def test_only_observed_hidden_cells_teach():
    """The gradient of the loss with respect to the network's output is zero elsewhere, and nothing else leaks in."""
    df = without(waves(60), "v", 10, 30)
    model, data = windows(df)
    batch = torch.utils.data.default_collate([data.draw(i, np.random.default_rng(i)) for i in range(12)])
    answer = torch.randn(12, 3, 16, requires_grad=True)
    denoiser = Denoiser(lambda x, label, **condition: answer, model.schedule, label="integer")
    model._objective()(denoiser, batch, Keys.of(0, 0, range(12))).sum().backward()
    seen = batch["mask"] | batch["condition"]["given"]
    assert torch.equal(answer.grad != 0, batch["mask"])
    assert not (batch["mask"] & batch["condition"]["given"]).any()
    assert not seen[:, 1, 8:].all() and seen[:, 0].all()  # v has its gap, u has none
    assert (batch["condition"]["values"][~batch["condition"]["given"]] == 0).all()


@pytest.mark.parametrize("scaler", ["series", "window"])
def test_hidden_values_do_not_reach_the_condition(scaler):
    """The horizon of a window multiplied, under one training scale: what is given stays to the bit."""
    df = waves(60)
    place = df.groupby("unique_id").cumcount()
    other = df.assign(y=df["y"].where((place < 12) | (place >= 16), 1e6))
    model, data = windows(df, scaler, target_strategy="forecast")
    wild = TrainingWindows(ts.to_panel(other), model.config, model.scales)
    parts = [one.draw(0, np.random.default_rng(0)) for one in (data, wild)]
    assert torch.equal(parts[0]["condition"]["values"], parts[1]["condition"]["values"])
    assert torch.equal(parts[0]["condition"]["given"], parts[1]["condition"]["given"])
    assert not torch.allclose(parts[0]["x"], parts[1]["x"])


def test_scales_are_per_series_or_per_window():
    df = waves(200)
    model, data = windows(df)
    y = df["y"].to_numpy().reshape(3, 200)
    assert np.allclose(model.scales.mean, y.mean(1)) and np.allclose(model.scales.std, y.std(1))
    item = data.draw(5, np.random.default_rng(0))
    assert np.allclose(item["x"], (y[:, 5:21] - y.mean(1)[:, None]) / y.std(1)[:, None], atol=1e-4)
    _, data = windows(df, "window", target_strategy="forecast")
    context = data.draw(5, np.random.default_rng(0))["x"][:, :12]
    assert context.mean(1).abs().max() < 1e-5 and (context.std(1, unbiased=False) - 1).abs().max() < 1e-5


def test_many_series_are_shown_in_part():
    df = waves(60, tuple("abcdef"))
    _, data = windows(df, features_per_step=4)
    rows = {tuple(data.draw(i, np.random.default_rng(i))["condition"]["who"].tolist()) for i in range(20)}
    assert all(len(set(r)) == 4 for r in rows) and len(rows) > 5 and set().union(*rows) == set(range(6))
    model = CSDI(**TINY, features_per_step=4).fit(df, **FAST)
    out = model.forecast(df, num_samples=3, steps=3)
    assert out.samples.shape == (6, 3, 4)
    assert model.forecast(df, num_samples=3, steps=3, max_features=4).info["groups"] == 2


# ---------------------------------------------------------------- promises


def test_same_seed_same_bytes_other_seed_other_paths(tiny):
    a, b, c = (tiny.forecast(waves(120), num_samples=4, steps=5, seed=s).samples for s in (1, 1, 2))
    assert np.array_equal(a, b) and not np.allclose(a, c)


@pytest.mark.parametrize("batch", [1, 4])
def test_batches_do_not_change_a_path(tiny, batch):
    df = without(waves(120), "v", 40, 80)
    whole = tiny.forecast(df, num_samples=6, steps=5)
    cut = tiny.forecast(df, num_samples=6, steps=5, max_batch=batch)
    assert np.allclose(cut.samples, whole.samples, rtol=1e-4, atol=1e-3)
    more = tiny.forecast(df, num_samples=9, steps=5)
    assert np.allclose(more.samples[:, :6], whole.samples, rtol=1e-4, atol=1e-3)
    filled, parts = (tiny.impute(df, num_samples=6, steps=5, max_batch=m) for m in (None, batch))
    assert np.allclose(filled.samples[1], parts.samples[1], rtol=1e-4, atol=1e-3)


def test_later_rows_of_other_windows_do_not_reach_an_origin(tiny):
    history, _ = ts.rolling(waves(140), 4, n_windows=3)
    out = tiny.forecast(history, num_samples=3, steps=4)
    alone = tiny.forecast(history.rows([0, 1, 2]), num_samples=3, steps=4)
    assert np.array_equal(out.samples[:3], alone.samples) and out.starts[:3] == alone.starts
    wild = dataclasses.replace(
        history, values=(*history.values[:3], *(np.r_[v[:-4], [1e6] * 4] for v in history.values[3:]))
    )
    assert np.array_equal(tiny.forecast(wild, num_samples=3, steps=4).samples[:3], alone.samples)


@pytest.mark.filterwarnings("ignore:.*inside the training period")
def test_series_of_other_ends_have_their_own_origins(tiny):
    df = waves(130)
    place = df.groupby("unique_id").cumcount()
    early = df[(df["unique_id"] != "v") | (place < 124)]
    with pytest.warns(UserWarning, match="3 series end at 2 different times"):
        out = tiny.forecast(early, num_samples=3, steps=4)
    assert [str(s) for s in out.starts] == ["2024-01-06 10:00:00", "2024-01-06 04:00:00", "2024-01-06 10:00:00"]
    cut = tiny.forecast(df[place < 124], num_samples=3, steps=4)  # what was known then: all three until then
    poisoned = early.copy()
    poisoned.loc[(place >= 124) & (df["unique_id"] == "u"), "y"] = 1e6
    with pytest.warns(UserWarning, match="different times"):
        again = tiny.forecast(poisoned, num_samples=3, steps=4)
    assert np.array_equal(again.samples[1], out.samples[1])  # u is not looked at after the origin of v
    assert cut.samples.shape == out.samples.shape
    together = tiny.forecast(without(df, "v", 124, 130), num_samples=3, steps=4)
    assert len(set(together.starts)) == 1 and together.info["origins"] == 1


def test_series_may_begin_late_be_left_out_and_be_alone(tiny):
    df = waves(130)
    late = df[(df["unique_id"] != "w") | (df.groupby("unique_id").cumcount() >= 125)]
    with pytest.warns(UserWarning, match=r"shorter than the context of 12 steps.*'w' \(5\)") as told:
        assert np.isfinite(tiny.forecast(late, num_samples=2, steps=3).samples).all()
    assert {w.filename for w in told} == {__file__}  # they point at the caller
    some = df[df["unique_id"].isin(["w", "u"])]
    assert tiny.forecast(some, num_samples=2, steps=3).ids == ("u", "w")
    alone = CSDI(**TINY).fit(waves(60, ("u",)), **FAST)
    assert alone.forecast(waves(60, ("u",)), num_samples=2, steps=3).samples.shape == (1, 2, 4)
    assert alone.impute(without(waves(60, ("u",)), "u", 5, 9), num_samples=2, steps=3).samples[0].shape == (2, 60)


def test_windows_without_anything_known(tiny):
    x = tiny.sample(3, steps=4)
    assert x.shape == (3, 3, 16) and np.array_equal(x, tiny.sample(3, steps=4))
    assert tiny.sample(2, ids=["v"], steps=4).shape == (2, 1, 16)


# ---------------------------------------------------------------- imputation


def test_observations_stay_and_every_gap_is_filled(tiny):
    df = without(without(without(waves(120), "u", 0, 7), "v", 30, 90), "w", 115, 120)
    out = tiny.impute(df, num_samples=3, steps=4)
    y = df["y"].to_numpy().reshape(3, 120)
    for x, truth, missing in zip(out.samples, y, out.missing, strict=True):
        assert np.isfinite(x).all() and (x[:, ~missing] == truth[~missing]).all()
        assert np.ptp(x[:, missing], axis=0).min() > 0
        assert np.array_equal(missing, np.isnan(truth))
    assert out.iid and out.info["windows"] >= 60 / 12


def test_what_has_no_gap_costs_nothing(tiny):
    out = tiny.impute(waves(120), num_samples=3)
    assert out.info["windows"] == 0 and not any(m.any() for m in out.missing)
    assert tiny.impute(without(waves(120), "v", 50, 53), num_samples=2, steps=3).info["windows"] == 1


def test_steps_outside_a_series_are_no_gap(tiny):
    df = waves(120)
    late = df[(df["unique_id"] != "w") | (df.groupby("unique_id").cumcount() >= 100)]
    out = tiny.impute(without(late, "u", 110, 112), num_samples=2, steps=3)
    assert [len(m) for m in out.missing] == [120, 120, 20] and out.info["windows"] == 1


def test_series_shorter_than_a_window_are_filled(tiny):
    out = tiny.impute(without(waves(10), "u", 3, 5), num_samples=2, steps=3)
    assert np.isfinite(out.samples[0]).all() and out.info["windows"] == 1


def test_windows_leave_room_on_both_sides_and_gaps_whole():
    left = np.zeros((2, 100), bool)
    left[0, 40:44] = True
    assert _place(left, 40, 100, 16) == (36, 48)
    left[1, 46:52] = True
    assert _place(left, 40, 100, 16) == (36, 46)  # the second gap would be cut at 48: it waits, whole
    left[1] = False
    left[0, 40:90] = True
    assert _place(left, 40, 100, 16) == (36, 48)  # longer than a window: continued
    assert _place(left, 2, 100, 16) == (0, 12)
    assert _place(left, 95, 100, 16) == (84, 100)
    assert _place(left, 3, 10, 16) == (0, 10)


# ---------------------------------------------------------------- training and files


def test_save_load_same_samples(tiny, tmp_path):
    back = CSDI.load(tiny.save(tmp_path / "m"))
    assert back.config == tiny.config and back.ids == ("u", "v", "w")
    df = without(waves(120), "u", 30, 40)
    assert np.array_equal(
        back.forecast(df, num_samples=2, steps=3).samples, tiny.forecast(df, num_samples=2, steps=3).samples
    )
    assert np.array_equal(
        back.impute(df, num_samples=2, steps=3).samples[0], tiny.impute(df, num_samples=2, steps=3).samples[0]
    )


def test_resumed_training_is_the_same_to_the_bit(tmp_path):
    """Dropout and masks are drawn anew in every step, and still."""
    settings = {**TINY, "dropout": 0.1, "target_strategy": ("random", "historical", "blocks", "forecast")}
    df = without(waves(40), "v", 5, 11)
    fixed = {"batch_size": 8, "seed": 0, "decay": "constant"}
    whole = CSDI(**settings).fit(df, max_steps=8, **fixed)
    CSDI(**settings).fit(df, max_steps=4, out=tmp_path, save_every=2, **fixed)
    with pytest.raises(ValueError, match="target_strategy was"):
        CSDI(**{**settings, "target_strategy": "random"}).fit(df, max_steps=8, out=tmp_path, resume=True, **fixed)
    resumed = CSDI(**settings).fit(df, max_steps=8, out=tmp_path, resume=True, **fixed)
    for a, b in zip(whole._network().parameters(), resumed._network().parameters(), strict=True):
        assert torch.equal(a, b)


def test_validation_horizons_select(tmp_path):
    df = waves(60)
    model = CSDI(**TINY).fit(df, val_windows=2, out=tmp_path, save_every=2, **FAST)
    assert model.trained_until["u"] == str(df["ds"].iloc[60 - 8 - 1])
    assert any(np.isfinite(row.get("val_loss", np.nan)) for row in model.history)
    best = CSDI.load(tmp_path / "best")
    assert np.array_equal(best.sample(2, steps=2), model.sample(2, steps=2))
    with pytest.raises(ValueError, match="validation leaks"):
        CSDI(**TINY).fit(df, val_df=df, **FAST)


def test_holdout_is_never_seen():
    clean = waves(80)
    poisoned = clean.assign(y=clean["y"].where(clean.groupby("unique_id").cumcount() < 60, 1e9))
    a, b = (CSDI(**TINY).fit(df, holdout=20, **FAST) for df in (clean, poisoned))
    assert np.array_equal(a.scales.std, b.scales.std)
    assert np.array_equal(a.sample(1, steps=2), b.sample(1, steps=2))


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: m.forecast(waves(120), 16), "from 1 to 15"),
        (lambda m: m.forecast(waves(120), num_samples=0), "at least 1"),
        (lambda m: m.forecast(waves(120), sampler="heun"), "'ddim' or 'ddpm'"),
        (lambda m: m.forecast(waves(120), steps=51), "more than the 50 steps"),
        (lambda m: m.forecast(waves(120), max_batch=0), "max_batch must be a positive integer"),
        (lambda m: m.forecast(waves(120), max_features=0), "max_features must be a positive integer"),
        (lambda m: m.forecast(waves(120), steer=ts.NonNegative(), max_features=2), "all 3 series in one table"),
        (lambda m: m.forecast(waves(120), steer=ts.NonNegative(), walkers=1), "walkers >= 2"),
        (lambda m: m.forecast(waves(120, ("u", "x", "y"))), "2 of 3 were not in its training: 'x', 'y'.*'u', 'v', 'w'"),
        (lambda m: m.impute(waves(120, ("u", "x"))), "were not in its training: 'x'"),
        (lambda m: m.impute(waves(120), num_samples=0), "at least 1"),
        (lambda m: m.sample(0), "positive integer"),
        (lambda m: m.sample(2, ids=["q"]), "'q'"),
        (lambda m: m.forecast(ts.to_panel(waves(120)).before("2023")), "no series has a value"),
    ],
)
def test_bad_calls(tiny, call, words):
    with pytest.raises(ValueError, match=words):
        call(tiny)


@pytest.mark.filterwarnings("ignore:.*inside the training period")
def test_bad_data(tiny):
    daily = waves(120).assign(ds=lambda d: pd.date_range("2020-01-01", periods=120).tolist() * 3)
    with pytest.raises(ValueError, match=r"the model is hourly \('h'\), the data are daily"):
        tiny.forecast(ts.to_panel(daily))
    with pytest.raises(ValueError, match=r"longer than the data, 12 \+ 4 = 16 steps .* against 10"):
        CSDI(**TINY).fit(waves(10), **FAST)
    panel = ts.to_panel(waves(60))
    with pytest.raises(ValueError, match="'u' comes more than once"):
        CSDI(**TINY).fit(ts.rolling(waves(60), 4, n_windows=2)[0], **FAST)
    with pytest.raises(ValueError, match="'u' comes more than once"):
        tiny.impute(ts.rolling(waves(60), 4, n_windows=2)[0])
    silent = dataclasses.replace(panel, values=(panel.values[0], np.full(60, np.nan), panel.values[2]))
    with pytest.raises(ValueError, match=r"1 of 3 series have no observed value to train on: \['v'\]"):
        CSDI(**TINY).fit(silent, **FAST)
    with pytest.raises(ValueError, match="'v' has no observed value"):
        tiny.impute(silent)
    endless = dataclasses.replace(panel, values=(panel.values[0], np.full(60, np.inf), panel.values[2]))
    with pytest.raises(ValueError, match="'v' holds infinite values"):
        tiny.forecast(endless)
    with pytest.raises(ValueError, match="at most 48 are observed, 96 are needed: lower"):
        CSDI(**TINY).fit(waves(60), min_observed=2.0, **FAST)


@pytest.mark.filterwarnings("ignore:more than half")
@pytest.mark.filterwarnings("ignore:.*inside the training period")
def test_nothing_observed_is_refused_where_something_is_needed(tiny):
    df = waves(120)
    blank = df.assign(y=df["y"].where(df.groupby("unique_id").cumcount() < 100))
    with pytest.raises(
        ValueError, match="none of the 3 series has an observed value in the 12 steps before 2024-01-05"
    ):
        tiny.forecast(blank, num_samples=2)
    with pytest.raises(ValueError, match="no validation window"):
        CSDI(**TINY).fit(blank, val_windows=1, **FAST)


def test_series_that_share_no_grid_are_refused():
    panel = ts.to_panel(waves(60))
    half = panel.starts[0] + pd.Timedelta("30min")
    with pytest.raises(ValueError, match="the series share no time grid: 'v' starts at 2024-01-01 00:30"):
        CSDI(**TINY).fit(dataclasses.replace(panel, starts=(panel.starts[0], half, panel.starts[2])), **FAST)


def test_series_that_never_change_are_named():
    df = waves(40)
    df.loc[df["unique_id"] == "v", "y"] = 7.0
    with pytest.warns(UserWarning, match=r"1 of 3 series never change.*\['v'\]"):
        model = CSDI(**TINY).fit(df, **FAST)
    assert model.scales.std[1] == 1.0 and model.scales.mean[1] == 7.0


def test_refinement_names_the_model_that_can(tiny):
    with pytest.raises(NotImplementedError, match=r"CSDI, a conditional model, .* train a TSDiff"):
        tiny.refine(None, waves(120))


def test_untrained_models_say_so():
    for call in (
        lambda m: m.forecast(waves(60)),
        lambda m: m.impute(waves(60)),
        lambda m: m.sample(1),
        lambda m: m.ids,
    ):
        with pytest.raises(RuntimeError, match=r"this CSDI is not trained: call fit\(df\) first, or CSDI.load"):
            call(CSDI())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"context_length": 0}, "context_length"),
        ({"channels": 30}, "multiple of heads"),
        ({"scaler": "mean_abs"}, "'series' or 'window'"),
        ({"target_strategy": "test"}, "random, historical, forecast, blocks"),
        ({"target_strategy": ()}, "target_strategy"),
        ({"dropout": 1.0}, "dropout"),
        ({"embedding": 7}, "even"),
        ({"beta_end": 1.0}, "betas"),
        ({"sampler": "euler"}, "'ddim' or 'ddpm'"),
        ({"sampling_steps": 51}, "1 .. 50"),
        ({"freq": "hourly"}, "unknown frequency"),
    ],
)
def test_bad_settings(settings, words):
    with pytest.raises(ValueError, match=words):
        CSDIConfig(**settings)


def test_config_is_frozen_documented_and_has_presets():
    with pytest.raises(dataclasses.FrozenInstanceError):
        CSDIConfig().channels = 3
    assert all(f.name in CSDIConfig.__doc__ for f in dataclasses.fields(CSDIConfig))
    assert CSDIConfig(target_strategy="mix").target_strategy == ("random", "historical")
    daily = CSDIConfig.preset("D", stride=2)
    assert (daily.freq, daily.stride, daily.prediction_length) == ("D", 2, 30)


def test_the_common_grid_of_rows_with_other_starts():
    panel = ts.to_panel(waves(30))
    later = ts.Panel(("p", "q"), (panel.starts[0], panel.times(0, 5, 6)[0]), (np.arange(8.0), np.arange(4.0)), "h")
    data = Aligned.of(later)
    assert len(data) == 9 and data.starts.tolist() == [0, 5] and data.ends.tolist() == [8, 9]
    nan = np.nan
    assert np.array_equal(data.table([0, 1], -1, 7), [[nan, 0, 1, 2, 3, 4, 5, 6], [*[nan] * 6, 0, 1]], equal_nan=True)
    assert data.counts().tolist() == [0, 1, 2, 3, 4, 5, 7, 9, 11, 12]


def test_a_series_with_a_handful_of_observations_is_imputed_with_a_warning(perfect):
    few = without(without(pair(40), "a", 0, 20), "a", 29, 40)  # 9 are left
    with pytest.warns(UserWarning, match=r"1 of 2 series have fewer than 10 observations.*'a' \(9 of 40\)") as caught:
        perfect.impute(few, num_samples=2, steps=3)
    assert [w.filename for w in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        perfect.impute(without(pair(40), "a", 0, 30), num_samples=2, steps=3)  # 10


@pytest.mark.parametrize(
    ("strategy", "warned"), [("forecast", True), (("forecast", "historical"), True), ("blocks", False), ("mix", False)]
)
def test_windows_of_nothing_from_a_model_that_always_saw_something_come_with_a_warning(perfect, strategy, warned):
    perfect.config = dataclasses.replace(perfect.config, target_strategy=strategy)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        perfect.sample(2, steps=2)
    assert [w.filename for w in caught if "hardly ever hides all" in str(w.message)] == [__file__] * warned
