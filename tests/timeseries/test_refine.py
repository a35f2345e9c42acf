"""Refinement on a Gaussian process: the chain's exact law, what it converges to, and the verb on anybody's forecast."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import solve_discrete_lyapunov

pd = pytest.importorskip("pandas")

from scidiffuse import timeseries as ts  # noqa: E402
from scidiffuse.core.schedules import DiscreteBetas, VPCosine  # noqa: E402
from scidiffuse.timeseries.bases import base_paths  # noqa: E402
from scidiffuse.timeseries.guidance import DivergenceError, quantile_levels  # noqa: E402
from scidiffuse.timeseries.oracle import GaussianAR  # noqa: E402
from scidiffuse.timeseries.refine import Refinement, refine, representative_step, step_losses  # noqa: E402

SCHEDULE = DiscreteBetas.linear(1e-4, 0.1, 100)
L, H = 12, 4
ORACLE = GaussianAR([0.8], L)
DENOISER = ORACLE.denoiser(SCHEDULE)
K, EYE = ORACLE.covariance, torch.eye(L, dtype=torch.float64)
SEEN = torch.arange(L) < L - H
Y0 = torch.where(SEEN, ORACLE.prior.draw(1, 5)[0], 0.5)


def believed(index, energy):
    """Precision of the law exp(-E_theta) at a diffusion step."""
    a, s = SCHEDULE.alpha((index + 1) / 100), SCHEDULE.sigma((index + 1) / 100)
    M = torch.linalg.inv(a * a * K + s * s * EYE)
    return 2 * a * a * s * s * M @ M if energy == "denoising" else a * a * M


def product(index, energy, weight):
    """Mean and precision of exp(-E_theta - weight sum_obs (y - y0)^2)."""
    P = 2 * weight * torch.diag(SEEN.double())
    precision = believed(index, energy) + P
    return torch.linalg.solve(precision, P @ Y0), precision


def chain(settings, index, paths, seed=0, **options):
    start = Y0.expand(paths, L)[..., None].contiguous()
    mask = SEEN.expand(paths, L)[..., None]
    step = index if settings.step == "representative" else None
    return refine(DENOISER, start, mask, settings, step=step, seed=seed, max_batch=None, **options)[..., 0]


def affine(settings, index):
    """The chain is y <- mean + A (y - mean) + N(0, Q): its fresh noises are normal."""
    mean, precision = product(index, settings.energy, settings.regulariser.scale)
    eta, A = settings.step_size, EYE - settings.step_size * precision
    Q = 2 * eta * settings.noise_scale**2 * EYE if settings.method == "lmc" else torch.zeros_like(EYE)
    if settings.energy == "denoising":  # the part of the gradient that the fresh noise makes
        a, s = SCHEDULE.alpha((index + 1) / 100), SCHEDULE.sigma((index + 1) / 100)
        B = s * torch.linalg.inv(a * a * K + s * s * EYE)
        G = 2 * a * B @ (EYE - s * B)
        Q = Q + eta**2 * G @ G.T
    return mean, A, Q


def exact(settings, index):
    """Mean and covariance after the iterations."""
    mean, A, Q = affine(settings, index)
    m, C = Y0.clone(), torch.zeros_like(EYE)
    for _ in range(settings.iterations):
        m, C = mean + A @ (m - mean), A @ C @ A.T + Q
    return m, C


def close(x, mean, cov):
    """Sampled mean and covariance against exact ones, to Monte Carlo error."""
    sd = cov.diagonal().sqrt()
    assert ((x.mean(0) - mean) / (sd / len(x) ** 0.5)).abs().max() < 4.5
    assert ((torch.cov(x.T) - cov).abs() / torch.outer(sd, sd)).max() < 5.5 * (2 / len(x)) ** 0.5


# ---------------------------------------------------------------- laws


@pytest.mark.parametrize("energy", ["denoising", "score"])
@pytest.mark.parametrize("method", ["lmc", "ml"])
@pytest.mark.parametrize("iterations", [1, 20])
def test_the_published_chain_has_its_exact_law(method, energy, iterations):
    settings = Refinement(method, ts.MSEGuidance(1.0), iterations, 0.1, 0.1, energy=energy)
    x = chain(settings, 55, 3000)
    m, C = exact(settings, 55)
    if method == "ml" and energy == "score":
        assert torch.allclose(x, m.expand_as(x), atol=1e-6)  # nothing is random
    else:
        close(x, m, C)


@pytest.mark.parametrize(("energy", "index"), [("denoising", 40), ("score", 20)])
def test_langevin_converges_to_the_product_of_model_and_regulariser(energy, index):
    """gamma = 1: mean and covariance are those of the product; what the step size adds is known, and small."""
    settings = Refinement("lmc", ts.MSEGuidance(1.0), 400, 0.05, 1.0, energy=energy)
    mean, precision = product(index, energy, 1.0)
    sd = torch.linalg.inv(precision).diagonal().sqrt()
    m, C = exact(settings, index)
    x = chain(settings, index, 600)
    close(x, m, C)
    assert ((m - mean) / sd).abs().max() < 0.02 and torch.allclose(C.diagonal().sqrt(), sd, rtol=0.05)
    assert ((x.mean(0) - mean) / sd).abs().max() < 0.17 and torch.allclose(x.std(0), sd, rtol=0.15)


@pytest.mark.parametrize("energy", ["denoising", "score"])
def test_the_limit_of_small_steps_is_the_product(energy):
    """The stationary law of the chain, in closed form, goes to the product linearly in eta."""
    mean, precision = product(40, energy, 1.0)
    off = []
    for eta in (0.02, 0.01, 0.005):
        m, A, Q = affine(Refinement("lmc", ts.MSEGuidance(1.0), 1, eta, 1.0, energy=energy), 40)
        C = torch.from_numpy(solve_discrete_lyapunov(A.numpy(), Q.numpy()))
        off.append(float((C - torch.linalg.inv(precision)).abs().max()))
        assert torch.equal(m, mean)
    assert off[0] / off[1] == pytest.approx(2, abs=0.1) and off[1] / off[2] == pytest.approx(2, abs=0.1)


def test_the_temperature_is_gamma_squared():
    settings = Refinement("lmc", ts.MSEGuidance(1.0), 400, 0.05, 0.1, energy="score")
    mean, precision = product(20, "score", 1.0)
    x = chain(settings, 20, 500)
    close(x, *exact(settings, 20))
    assert torch.allclose(x.std(0), 0.1 * torch.linalg.inv(precision).diagonal().sqrt(), rtol=0.14)
    assert (x.mean(0) - mean).abs().max() < 0.02


def test_maximum_likelihood_converges_to_the_mode():
    mean, _ = product(20, "score", 1.0)
    x = chain(Refinement("ml", ts.MSEGuidance(1.0), 500, 0.1, energy="score"), 20, 2)
    assert torch.allclose(x, mean.expand_as(x), atol=1e-5)
    mean, _ = product(40, "denoising", 1.0)  # fresh noise at every iteration: around the mode
    x = chain(Refinement("ml", ts.MSEGuidance(1.0), 400, 0.1), 40, 200)
    assert (x.mean(0) - mean).abs().max() < 0.05 and x.std(0).max() < 0.4


def test_a_strong_regulariser_and_a_small_blur_give_the_posterior():
    """The score energy at an early step: the product is near the oracle's own posterior of the horizon."""
    mean, precision = product(8, "score", 20.0)
    post = ORACLE.condition(Y0, SEEN)
    assert torch.allclose(mean[-H:], post.mean[-H:], atol=0.01)
    assert torch.allclose(torch.linalg.inv(precision).diagonal().sqrt()[-H:], post.sd[-H:], atol=0.1)
    x = chain(Refinement("ml", ts.MSEGuidance(20.0), 500, 0.03, energy="score"), 8, 1)
    assert torch.allclose(x[0], mean, atol=1e-3)


def test_random_steps_average_the_energy_over_all_of_them():
    precision = torch.stack([believed(i, "denoising") for i in range(100)]).mean(0)
    P = 2 * torch.diag(SEEN.double())
    mean = torch.linalg.solve(precision + P, P @ Y0)
    x = chain(Refinement("ml", ts.MSEGuidance(1.0), 400, 0.1, step="random"), None, 200)
    assert (x.mean(0) - mean).abs().max() < 4.5 * x.std(0).max() / 200**0.5


def test_the_quantile_regulariser_holds_each_path_at_its_level():
    """The mode where the model says nothing (alpha next to 0): each path rests at its own start; the pinball's kink."""
    paths = 9
    level = quantile_levels(paths)
    start = torch.linspace(-1, 1, paths).double()[:, None, None].expand(paths, L, 1).contiguous()
    mask = SEEN.expand(paths, L)[..., None]
    flat = GaussianAR([], L, variance=1e4).denoiser(SCHEDULE)  # no opinion
    out = refine(flat, start, mask, Refinement("ml", iterations=50, step_size=0.01), step=99, level=level, seed=0)
    assert (out - start).abs().max() < 0.011
    # one step of the gradient: -k where y < y0, 1 - k where y > y0
    moved = refine(DENOISER, start, mask, Refinement("ml", iterations=2, energy="score"), step=55, level=level, seed=0)
    once = refine(DENOISER, start, mask, Refinement("ml", iterations=1, energy="score"), step=55, level=level, seed=0)
    a, s = SCHEDULE.alpha(0.56), SCHEDULE.sigma(0.56)
    pull = a / s * DENOISER(a * once, 0.56).noise
    e, k = start - once, level.double()[:, None, None]
    slope = -torch.where(e > 0, k, k - 1) * (e != 0)
    assert torch.allclose(moved, once - 0.1 * (pull + slope), atol=1e-6)


# ---------------------------------------------------------------- the representative step


def test_step_losses_are_the_closed_form_and_so_is_the_step():
    losses = step_losses(DENOISER, ORACLE.prior.draw(2000, 0)[..., None], torch.ones(2000, L, 1, dtype=torch.bool))
    values = torch.linalg.eigvalsh(K)
    t = (torch.arange(100).double() + 1) / 100
    a, s = SCHEDULE.alpha(t)[:, None], SCHEDULE.sigma(t)[:, None]
    want = (a * a * values / (a * a * values + s * s)).mean(1)  # E (n - E[n | x])^2
    assert torch.allclose(losses, want, rtol=0.04)
    tau = int((want - want.mean()).square().argmin())
    assert abs(representative_step(losses) - tau) <= 1
    assert representative_step(torch.tensor([0.0, 1.0, 5.0])) == 1


def test_only_what_is_observed_counts_in_the_losses():
    x = ORACLE.prior.draw(50, 0)[..., None]
    half = torch.zeros(50, L, 1, dtype=torch.bool)
    half[:, :6] = True
    pad = step_losses(DENOISER, x, half, max_batch=7)
    assert torch.allclose(pad, step_losses(DENOISER, x, half), atol=1e-9)  # batches do not matter
    with pytest.raises(ValueError, match="no window"):
        step_losses(DENOISER, x, ~half & half)


# ---------------------------------------------------------------- promises


@pytest.mark.parametrize("step", ["representative", "random"])
def test_noise_belongs_to_the_path_not_to_the_batch(step):
    settings, start = Refinement(regulariser="mse", step=step), Y0.expand(7, L)[..., None].contiguous()
    mask, index = SEEN.expand(7, L)[..., None], None if step == "random" else 50
    whole = refine(DENOISER, start, mask, settings, step=index, seed=3)
    assert torch.allclose(refine(DENOISER, start, mask, settings, step=index, seed=3, max_batch=3), whole, atol=1e-12)
    assert not torch.allclose(refine(DENOISER, start, mask, settings, step=index, seed=4), whole)


def test_divergence_is_guarded():
    settings = Refinement("ml", ts.MSEGuidance(1.0), 60, 1.5)
    with pytest.raises(DivergenceError, match=r"refinement diverged .* reduce step_size \(now 1.5\)"):
        chain(settings, 55, 3)
    with pytest.warns(UserWarning, match="refinement diverged") as told:
        chain(settings, 55, 3, on_divergence="warn")
    assert len(told) == 1


def test_the_documented_bound_of_the_step_size():
    """eta < 1 / (w + a^2/s^2): just below it a long walk stays, whatever the process."""
    a, s = SCHEDULE.alpha(0.3), SCHEDULE.sigma(0.3)
    eta = 0.98 / (1.0 + (a / s) ** 2)
    chain(Refinement("ml", ts.MSEGuidance(1.0), 300, eta), 29, 3)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "hmc"}, "'lmc'"),
        ({"regulariser": "l1"}, "'quantile' or 'mse'"),
        ({"iterations": 0}, "iterations"),
        ({"step_size": 0.0}, "step_size must be finite and positive"),
        ({"noise_scale": -1.0}, "noise_scale must be finite and not negative"),
        ({"step": -1}, "index >= 0"),
        ({"step": True}, "index >= 0"),
        ({"energy": "elbo"}, "'denoising' or 'score'"),
        ({"sort": False}, "sort=False goes with MSEGuidance"),
    ],
)
def test_settings_are_checked(settings, words):
    with pytest.raises(ValueError, match=words):
        Refinement(**settings)


def test_calls_are_checked():
    start, mask = Y0.expand(2, L)[..., None], SEEN.expand(2, L)[..., None]
    with pytest.raises(TypeError, match="regulariser"):
        Refinement(regulariser=3)
    with pytest.raises(ValueError, match="level"):
        refine(DENOISER, start, mask, Refinement(), step=5)
    mse = Refinement(regulariser="mse")
    with pytest.raises(ValueError, match=r"outside the schedule's 0 \.\. 99"):
        refine(DENOISER, start, mask, mse, step=100)
    with pytest.raises(ValueError, match="give step="):
        refine(DENOISER, start, mask, mse)
    with pytest.raises(ValueError, match="same shape"):
        refine(DENOISER, start, mask[:1], mse, step=5)
    with pytest.raises(ValueError, match="table of diffusion steps"):
        refine(ORACLE.denoiser(VPCosine()), start, mask, mse, step=5)


# ---------------------------------------------------------------- base forecasts


def panel(n=40, ids=("a", "b"), seed=0):
    start = pd.Timestamp("2024-01-01")
    rng = np.random.default_rng(seed)
    return ts.Panel(tuple(ids), (start,) * len(ids), tuple(rng.normal(size=n) + 5 for _ in ids), "h")


def point_frame(p, h=4, **columns):
    parts = [
        pd.DataFrame({"unique_id": u, "ds": p.times(i, len(v), len(v) + h), "M": np.arange(h) + 10.0 * i})
        for i, (u, v) in enumerate(zip(p.ids, p.values, strict=True))
    ]
    return pd.concat(parts, ignore_index=True).assign(**columns)


def test_points_are_repeated_and_paths_sorted_step_by_step():
    p, rng = panel(), np.random.default_rng(0)
    point, name = base_paths(np.arange(8.0).reshape(2, 4), p)
    assert point.shape == (2, 100, 4) and name == "array" and (point[1] == [4, 5, 6, 7]).all()
    paths = rng.normal(size=(2, 30, 4))
    assert np.array_equal(base_paths(paths, p)[0], np.sort(paths, axis=1))
    assert np.array_equal(base_paths(paths, p, sort=False)[0], paths)
    fewer = base_paths(paths, p, num_samples=9)[0]
    assert np.allclose(fewer[:, 4], np.median(paths, axis=1))


def test_frames_of_other_libraries_in_any_row_order():
    p = panel()
    frame = point_frame(p).sample(frac=1, random_state=0)
    out, name = base_paths(frame, p, 5)
    assert name == "M" and np.array_equal(out[1, 2], [10, 11, 12, 13])
    assert np.array_equal(base_paths(frame.set_index("unique_id"), p, 5)[0], out)  # older Nixtla


def test_intervals_become_normal_quantiles_exactly():
    from scipy.special import ndtri

    p = panel()
    frame = point_frame(p)
    for level in (80, 95):
        for side, sign in (("lo", -1), ("hi", 1)):
            frame[f"M-{side}-{level}"] = frame["M"] + sign * 2.0 * ndtri(0.5 + level / 200)
    out, _ = base_paths(frame, p, 99)
    want = np.arange(4)[None] + 2.0 * ndtri(np.arange(1, 100) / 100)[:, None]
    assert np.allclose(out[0], want)
    start, loc = p.times(0, 40, 41)[0], np.stack([np.arange(4.0), np.arange(4.0) + 10])
    normal = ts.NormalForecast(p.ids, (start, start), "h", np.zeros((2, 0, 0)), "N", loc=loc, sd=np.full((2, 4), 2.0))
    assert np.allclose(base_paths(normal, p, 99)[0][0], want)


def test_forecasts_find_their_series():
    p = panel()
    start = p.times(0, 40, 41)[0]
    base = ts.Forecast(("b", "a"), (start, start), "h", np.stack([np.ones((3, 4)), np.zeros((3, 4))]), "X")
    out, name = base_paths(base, p)
    assert name == "X" and (out[0] == 0).all() and (out[1] == 1).all()


@pytest.mark.parametrize(
    ("base", "kind", "words"),
    [
        (lambda p: [1, 2], TypeError, "list"),
        (lambda p: np.zeros(4), ValueError, r"2 series, got \(4,\)"),
        (lambda p: np.zeros((3, 4)), ValueError, r"got \(3, 4\)"),
        (lambda p: np.array([[0.0, 1], [np.nan, 2]]), ValueError, "first of series 'b'"),
        (lambda p: point_frame(p).iloc[:4], ValueError, r"without a forecast \['b'\]"),
        (lambda p: point_frame(panel(ids=("a", "b", "c"))), ValueError, r"without a history \['c'\]"),
        (lambda p: point_frame(p, other=1.0), ValueError, "name one with column="),
        (lambda p: point_frame(p).drop(columns="ds"), ValueError, "unique_id, ds"),
        (lambda p: point_frame(panel(41)), ValueError, "series 'a' is not the 4 steps .* 17:00:00 where .* 16:00:00"),
        (lambda p: point_frame(p).iloc[:7], ValueError, r"different horizons: \[3, 4\]"),
        (lambda p: ts.Forecast(("a", "b"), (p.starts[0],) * 2, "h", np.zeros((2, 3, 4))), ValueError, "both must meet"),
    ],
)
def test_bases_that_do_not_fit_are_named(base, kind, words):
    p = panel()
    with pytest.raises(kind, match=words):
        base_paths(base(p), p)


def test_paths_cannot_be_resampled_unsorted():
    p = panel()
    with pytest.raises(ValueError, match="leave num_samples out"):
        base_paths(np.zeros((2, 30, 4)), p, num_samples=9, sort=False)
    with pytest.raises(ValueError, match="at least 1"):
        base_paths(np.zeros((2, 4)), p, num_samples=0)
    with pytest.raises(ValueError, match="no forecast 'Z'"):
        base_paths(point_frame(p), p, column="Z")


# ---------------------------------------------------------------- the verb, on a model that is exact


def oracle_model(**settings):
    model = ts.TSDiff(context_length=24, prediction_length=6, freq="h", **settings)
    lags = model.config.lags or ()
    model.denoiser = GaussianAR([0.95], 30, lags=lags).denoiser(model.schedule)
    return model


def history(n=60, count=3, seed=0):
    y = GaussianAR([0.95], n).prior.draw(count, seed).numpy()
    y = 10 + 3 * y
    start = pd.Timestamp("2024-01-01")
    return ts.Panel(tuple("abcdefgh"[:count]), (start,) * count, tuple(y), "h")


@pytest.mark.parametrize("regulariser", ["quantile", "mse"])
@pytest.mark.parametrize("method", ["lmc", "ml"])
def test_a_bad_base_is_improved(method, regulariser):
    """The base forgets where the series is (the context's mean): refined, it begins at the last value again."""
    whole = history(66, 8, 3)
    past, y = ts.rolling(whole, 6)
    base = np.stack([np.full(6, v[-24:].mean()) for v in past.values])
    model = oracle_model(scaler="standard")
    out = model.refine(base, past, method=method, regulariser=regulariser, num_samples=20, seed=0)
    assert out.name == "array-refined" and out.samples.shape == (8, 20, 6) and not out.iid
    least = 0.96 if regulariser == "quantile" else 0.9  # a pinball that holds the base itself moves it less
    assert out.crps(y).mean() < least * np.abs(base - y).mean()
    last = np.array([v[-1] for v in past.values])
    assert np.abs(out.median()[:, 0] - last).mean() < 0.96 * np.abs(base[:, 0] - last).mean()


def test_the_verb_promises_what_all_verbs_do():
    model, past = oracle_model(scaler="standard"), history()
    base = ts.seasonal_naive_intervals(past, 6, season=24)
    a, b = (model.refine(base, past, num_samples=8, seed=1) for _ in range(2))
    assert np.array_equal(a.samples, b.samples)
    split = model.refine(base, past, num_samples=8, seed=1, max_batch=5)
    assert np.allclose(a.samples, split.samples, rtol=1e-4, atol=1e-4)
    assert a.starts == tuple(past.times(i, 60, 61)[0] for i in range(3))
    assert 0 <= a.info["step"] < 100 and a.info["base"] == base.name
    assert model.refine(base, past, num_samples=8, step=7, seed=1).info["step"] == 7
    assert model.refine(base, past, num_samples=8, step="random", seed=1).info["step"] == "random"


def test_progress_is_shown_when_asked_for(capsys):
    model, past = oracle_model(scaler="standard"), history()
    model.refine(np.zeros((3, 6)) + 10, past, num_samples=4, iterations=3, step=40, max_batch=6, progress=True)
    assert "refining" in (told := capsys.readouterr().err) and "6/6" in told  # 2 batches of 3 iterations
    model.refine(np.zeros((3, 6)) + 10, past, num_samples=4, iterations=3, step=40)
    assert "refining" not in capsys.readouterr().err


def test_units_do_not_matter():
    model, past = oracle_model(scaler="standard"), history()
    base = np.stack([np.full(6, v[-1]) for v in past.values])
    other = ts.Panel(past.ids, past.starts, tuple(32 + 1.8 * v for v in past.values), "h")
    a = model.refine(base, past, num_samples=6, seed=0).samples
    b = model.refine(32 + 1.8 * base, other, num_samples=6, seed=0).samples
    assert np.allclose(32 + 1.8 * a, b, atol=2e-3)


def test_kept_paths_stay_independent_draws():
    model, past = oracle_model(scaler="standard"), history()
    first = model.forecast(past, num_samples=30, guidance=ts.MSEGuidance(1.0), seed=0)
    out = model.refine(first, past, regulariser="mse", sort=False, seed=0)
    assert out.iid and out.samples.shape == first.samples.shape and out.name == "TSDiff-refined"
    rank = [np.corrcoef(out.samples[i, :, -1], first.samples[i, :, -1])[0, 1] for i in range(3)]
    assert min(rank) > 0.8  # path i is still path i
    base = ts.seasonal_naive_intervals(past, 6, season=24)
    with pytest.raises(ValueError, match="sort=True"):
        model.refine(base, past, regulariser="mse", sort=False)


def test_gaps_and_lags_are_filled_before_the_walk():
    model = oracle_model(scaler="standard", lags=(2, 24))
    past = history(80)
    values = past.values[0].copy()
    values[60:63] = np.nan
    past = ts.Panel(past.ids, past.starts, (values, *past.values[1:]), "h")
    from scidiffuse.timeseries.tsdiff_inputs import prepare

    inputs = prepare(past, 6, model.config, (0.0, 1.0), {})
    base = np.arange(18.0).reshape(3, 1, 6).repeat(2, 1)
    start, known = inputs.filled(past.values, base, model.config)
    x = (
        start.reshape(3, 2, 30, 3).double().numpy() * inputs.scale[:, None, None, None]
        + (inputs.shift[:, None, None, None])
    )
    assert np.allclose(x[1, 0, 24:, 0], base[1, 0], atol=1e-5)
    assert np.allclose(x[1, 0, 26:, 1], base[1, 0, :4], atol=1e-5)  # lag 2 looks into the horizon
    assert np.allclose(x[0, 0, 4:7, 0], np.interp([1, 2, 3], [0, 4], values[[59, 63]]), atol=1e-5)
    assert known.reshape(3, 2, 30, 3)[0, 0, :, 0].tolist() == [not 4 <= t < 7 for t in range(30)]
    out = model.refine(base, past, step_size=0.01, seed=0)
    assert np.isfinite(out.samples).all()


def test_the_verb_refuses_what_it_cannot_do():
    model, past = oracle_model(scaler="standard"), history()
    base = np.zeros((3, 6))
    with pytest.raises(RuntimeError, match="not trained"):
        ts.TSDiff(context_length=24, prediction_length=6, freq="h").refine(base, past)
    with pytest.raises(ValueError, match="num_samples=1"):
        model.refine(base, past, num_samples=1)
    with pytest.raises(ValueError, match="from 1 to 29"):
        model.refine(np.zeros((3, 30)), past)
    with pytest.raises(ValueError, match="'raise' or 'warn'"):
        model.refine(base, past, on_divergence="stop")
    with pytest.raises(DivergenceError, match="reduce step_size"):
        model.refine(base, past, num_samples=4, step_size=5.0)
    flat = ts.Panel(("a",), past.starts[:1], (np.full(60, 7.0),), "h")
    with pytest.warns(UserWarning, match="constant"):
        assert (model.refine(np.full((1, 6), 9.0), flat, num_samples=4).samples == 7).all()
