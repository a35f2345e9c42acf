r"""Scores of synthetic windows: would a model trained on them work on real data, and can they be told from real ones?

*Linear predictive score* (LPS; Kollovieh et al., "Predict, Refine, Synthesize: Self-Guiding Diffusion Models for
Probabilistic Time Series Forecasting", 2023, https://arxiv.org/abs/2307.11494): a ridge regression (alpha = 1, with
intercept) from the C steps of context to the H steps of horizon is fitted to 10,000 synthetic windows, which live in
scaled space; each test series' last C + H steps are divided by s = mean |context|, and the score is the wQL of the
point forecast s * ridge(context / s), which by any definition is ND = sum |f - y| / sum |y|. It stands beside
LPS(real): the same with windows of the training series (:func:`scaled_windows`).

*Discriminative score* (TimeGAN; Yoon, Jarrett and van der Schaar, "Time-series generative adversarial networks", 2019):
|accuracy - 1/2| of a classifier of real and synthetic windows on a fifth of either that it was not trained on. 0 = not
told apart, 1/2 = always. Chance alone gives sqrt(2/pi) * sqrt(1/4n) on n test windows (``reference``): smaller scores
mean nothing. Two classifiers, by name:

- ``gru``: TimeGAN's protocol: one GRU layer of K/2 units (K variables) and a linear layer on its last state, Adam at
  1e-3, 2,000 steps of 128 windows of either kind;
- ``logistic``: logistic regression (scikit-learn, C = 1) on all standardised values and their squares: deterministic
  given the split, a matter of seconds, and blind to dependence over time beyond its means.

For normal windows with one covariance and means that lie d apart (in Mahalanobis distance), the best possible accuracy
is Phi(d/2).

*Predictive score* (TimeGAN): a GRU of K/2 units predicts variable K at t+1 from variables 1 .. K-1 up to t, trained on
synthetic windows (mean absolute error, Adam at 1e-3, 5,000 steps of 128 windows), scored by its mean absolute error on
all real ones. Its reference is the same trained on real windows: ``predictive_score(real, real)``.

Both scale every variable by the minimum and maximum of the *real* windows. Where TimeGAN leaves the protocol undefined
(one variable: a GRU of 0 units, and no input) we use 4 units and predict the variable from itself. The networks are
PyTorch's, initialised uniformly in +-1/sqrt(units): numbers agree with TensorFlow's in distribution only.

*Uncertainty.* LPS: bootstrap over test rows. The other two: several seeds, each with a new split, initialisation and
order of batches; the interval is Student's for their mean. All three are conditional on the windows that were given.

*Missing values.* Windows must be complete: there is no score of half a window. A test row of LPS whose context has a
gap is left out and counted; a missing horizon step counts nowhere.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .quantile import over_weight
from .score import Score, bootstrap

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..data import Panel

__all__ = ["discriminative_score", "linear_predictive_score", "predictive_score", "scaled_windows"]


# --------------------------------------------------------------------------------------------------------------------
# linear predictive score


def scaled_windows(panel: Panel, context: int, horizon: int, n: int = 10_000, seed: int = 0) -> np.ndarray:
    """``n`` complete windows of the series, each divided by its mean |context|: float64 (n, C + H), for LPS(real).

    Drawn uniformly over all complete windows with a context that is not all zero, with replacement.

    Args:
        panel: *training* data: what the test scores must not be in it. context, horizon: C and H, in steps.

    Raises:
        ValueError: no such window.
    """
    if context < 1 or horizon < 1 or n < 1:
        raise ValueError(f"context, horizon and n must be at least 1, got {context}, {horizon}, {n}")
    where = []
    for i, y in enumerate(panel.values):
        if len(y) < context + horizon:
            continue
        gaps = np.concatenate([[0], np.cumsum(np.isnan(y))])
        size = np.concatenate([[0.0], np.cumsum(np.nan_to_num(np.abs(y)) > 0)])
        start = np.arange(len(y) - context - horizon + 1)
        good = (gaps[start + context + horizon] == gaps[start]) & (size[start + context] > size[start])
        where.append(np.stack([np.full(int(good.sum()), i), start[good]], axis=1))
    table = np.concatenate(where) if where else np.zeros((0, 2), dtype=np.int64)
    if len(table) == 0:
        longest = max(len(v) for v in panel.values)
        raise ValueError(
            f"no complete window of {context} + {horizon} steps (the longest of {len(panel)} series has {longest})"
        )
    rng = np.random.Generator(np.random.PCG64(seed))
    pick = table[rng.integers(0, len(table), size=n)]
    windows = np.stack([panel.values[i][s : s + context + horizon] for i, s in pick])
    return windows / np.abs(windows[:, :context]).mean(axis=1, keepdims=True)


def linear_predictive_score(
    windows: np.ndarray,
    test: Panel | np.ndarray | Sequence[np.ndarray],
    context: int,
    horizon: int,
    *,
    clusters: Sequence[Any] | None = None,
    draws: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Score:
    """LPS of windows in scaled space; the protocol is in the module docstring (it takes 10,000 windows).

    Args:
        windows: (n, C + H), complete, scaled as a model of mean |context| = 1 makes them.
        test: series whose last C + H steps are used: a panel that *includes* the horizon to be scored, an array (rows,
            >= C + H), or a sequence of arrays.
        context, horizon: C and H. clusters: labels of test rows that are redrawn together (:func:`.bootstrap`).

    Returns:
        score ``lps_ridge``, dimensionless; n counts the observations of the horizon that were scored.

    Raises:
        ValueError: wrong lengths, windows that are not finite, a test row too short (the first is named), or none
            with a complete context.

    Warns:
        UserWarning: contexts that are all zero, scaled by the mean scale of the others; sum |y| = 0 (NaN).
    """
    try:
        from sklearn.linear_model import Ridge
    except ImportError as error:  # pragma: no cover - exercised by hiding the module
        raise ImportError('linear_predictive_score needs scikit-learn: pip install "scidiffuse[timeseries]"') from error
    C, L = context, context + horizon
    x = np.asarray(windows, dtype=np.float64)
    if context < 1 or horizon < 1:
        raise ValueError(f"context and horizon must be at least 1, got {context} and {horizon}")
    if x.ndim != 2 or x.shape[1] != L or len(x) < 2:
        raise ValueError(f"expected at least 2 windows of context + horizon = {L} steps, (n, {L}), got {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError(f"{int((~np.isfinite(x).all(axis=1)).sum())} of {len(x)} windows are not finite")
    rows = _last(test, L)
    whole = np.isfinite(rows[:, :C]).all(axis=1)
    if not whole.any():
        raise ValueError(f"none of the {len(rows)} test rows has a complete context of {C} steps")
    past, future = rows[whole, :C], rows[whole, C:]
    scale = np.abs(past).mean(axis=1)
    if (scale < 1e-10).any():
        flat = np.flatnonzero(whole)[scale < 1e-10]
        default = float(scale[scale >= 1e-10].mean()) if (scale >= 1e-10).any() else 1.0
        warnings.warn(
            f"{len(flat)} test rows (first {int(flat[0])}) have an all-zero context, so no scale; using {default:g}",
            stacklevel=2,
        )
        scale = np.where(scale < 1e-10, default, scale)
    ridge = Ridge(alpha=1.0).fit(x[:, :C], x[:, C:])
    f = ridge.predict(past / scale[:, None]).reshape(future.shape) * scale[:, None]
    known = ~np.isnan(future)
    above, below = np.where(known, np.abs(f - future), 0.0).sum(axis=1), np.nan_to_num(np.abs(future)).sum(axis=1)
    value = over_weight(float(above.sum()), future)
    labels = None if clusters is None else [c for c, good in zip(clusters, whole, strict=True) if good]

    def ratio(sums: np.ndarray) -> np.ndarray:
        return sums[:, 0] / np.where(sums[:, 1] > 0, sums[:, 1], np.nan)

    columns = np.stack([above, below], axis=1)
    low, high, units = bootstrap(columns, ratio, labels, draws=draws, level=confidence, seed=seed)
    return Score(
        "lps_ridge",
        value,
        low,
        high,
        int(known.sum()),
        units,
        "1",
        f"ND of ridge regression (alpha 1) from {C} to {horizon} steps, fitted to {len(x)} windows in scaled space",
        f"bootstrap over {units} test rows, {draws} draws, the windows held fixed",
        confidence,
        int((~whole).sum()),
    )


def _last(test: Panel | np.ndarray | Sequence[np.ndarray], length: int) -> np.ndarray:
    from ..data import Panel

    series = test.values if isinstance(test, Panel) else test
    names = test.ids if isinstance(test, Panel) else range(len(test))
    out = []
    for name, y in zip(names, series, strict=True):
        y = np.asarray(y, dtype=np.float64)
        if y.ndim != 1 or len(y) < length:
            raise ValueError(f"test series {name!r} has shape {y.shape}: context + horizon needs {length} steps")
        if np.isinf(y[-length:]).any():
            raise ValueError(f"test series {name!r} is infinite somewhere: write NaN for 'not observed'")
        out.append(y[-length:])
    if not out:
        raise ValueError("no test series")
    return np.stack(out)


# --------------------------------------------------------------------------------------------------------------------
# discriminative and predictive score


def discriminative_score(
    real: np.ndarray,
    synthetic: np.ndarray,
    classifier: Literal["gru", "logistic"] = "gru",
    *,
    steps: int = 2000,
    batch: int = 128,
    units: int | None = None,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    confidence: float = 0.95,
) -> Score:
    """|accuracy - 1/2| of a classifier of real and synthetic windows; protocols in the module docstring.

    Args:
        real, synthetic: (n, L, K) or (n, L), complete, in the same unit. TimeGAN uses as many of either.
        classifier: ``"gru"`` | ``"logistic"``. steps, batch, units: of the GRU; None: K/2, or 4 for K = 1.
        seeds: one run each.

    Returns:
        score ``discriminative_gru`` or ``discriminative_logistic``, in [0, 1/2]; a GRU with other settings than
        TimeGAN's has them in its name. n: test windows of one run.

    Raises:
        ValueError: shapes that do not fit, windows that are not finite, fewer than 10 of either, an unknown classifier.
    """
    a, b = _windows(real, synthetic, least=10)
    if classifier not in ("gru", "logistic"):
        raise ValueError(f"classifier must be 'gru' or 'logistic', got {classifier!r}")
    _positive(steps=steps, batch=batch)
    K = a.shape[2]
    hidden = _units(units, K)
    run = []
    for s in _seeds(seeds):
        fit = _logistic if classifier == "logistic" else partial(_gru_classifier, hidden, steps, batch, s)
        run.append(_classify(a, b, s, fit))
    values = [abs(accuracy - 0.5) for accuracy, _ in run]
    n = run[0][1]
    name, text = "discriminative_logistic", "logistic regression on standardised values and their squares"
    if classifier == "gru":
        name = "discriminative_gru" + _changed(steps, 2000, hidden, _units(None, K), batch)
        text = f"a GRU of {hidden} units after {steps} steps of {batch} + {batch} windows"
    definition = f"|accuracy - 1/2| on a fifth of the windows, of {text} ({len(a)} real, {len(b)} synthetic)"
    return _of_seeds(
        name, values, n, "1", definition, confidence, reference=math.sqrt(2 / math.pi) / (2 * math.sqrt(n))
    )


def predictive_score(
    real: np.ndarray,
    synthetic: np.ndarray,
    *,
    steps: int = 5000,
    batch: int = 128,
    units: int | None = None,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    confidence: float = 0.95,
) -> Score:
    """Mean absolute error, on real windows, of a one-step predictor trained on synthetic ones (module docstring).

    Args:
        real, synthetic: (n, L, K) or (n, L), complete, L >= 2, in the same unit.
        steps, batch, units: of the GRU; None: K/2, or 4 for K = 1. seeds: one run each.

    Returns:
        score ``predictive_gru``, in units of the range of the real windows' last variable; a GRU with other settings
        than TimeGAN's has them in its name. n: predictions of one run.

    Raises:
        ValueError: shapes that do not fit, windows that are not finite, fewer than 2 of either.
    """
    a, b = _windows(real, synthetic, least=2)
    _positive(steps=steps, batch=batch)
    if a.shape[1] < 2:
        raise ValueError("a window of one step has no next step to predict")
    K = a.shape[2]
    hidden = _units(units, K)
    values = [_predict(a, b, hidden, steps, batch, s) for s in _seeds(seeds)]
    name = "predictive_gru" + _changed(steps, 5000, hidden, _units(None, K), batch)
    inputs = "itself" if K == 1 else f"the other {K - 1} variables"
    definition = (
        f"mean absolute error one step ahead of the last variable, from {inputs}, on {len(a)} real windows, of a "
        f"GRU of {hidden} units after {steps} steps of {batch} of {len(b)} synthetic windows"
    )
    n = len(a) * (a.shape[1] - 1)
    return _of_seeds(name, values, n, "range of the last variable", definition, confidence)


def _windows(real: np.ndarray, synthetic: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Both as (n, L, K), each variable scaled by the minimum and maximum of the real ones."""
    out = []
    for name, x in (("real", real), ("synthetic", synthetic)):
        x = np.asarray(x, dtype=np.float64)
        x = x[:, :, None] if x.ndim == 2 else x
        if x.ndim != 3 or len(x) < least:
            raise ValueError(f"expected at least {least} {name} windows, (n, steps, variables), got {x.shape}")
        if not np.isfinite(x).all():
            bad = int((~np.isfinite(x).all(axis=(1, 2))).sum())
            raise ValueError(f"{bad} of {len(x)} {name} windows are not finite: only complete windows have this score")
        out.append(x)
    a, b = out
    if a.shape[1:] != b.shape[1:]:
        raise ValueError(f"real windows are {a.shape[1:]} (steps, variables), synthetic ones {b.shape[1:]}")
    low, high = a.min(axis=(0, 1)), a.max(axis=(0, 1))
    if (high <= low).any():
        raise ValueError(f"variable {int(np.argmax(high <= low))} of the real windows is constant: it has no range")
    return (a - low) / (high - low), (b - low) / (high - low)


def _units(units: int | None, variables: int) -> int:
    if units is None:
        return variables // 2 if variables > 1 else 4
    _positive(units=units)
    return units


def _positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def _seeds(seeds: Sequence[int]) -> list[int]:
    out = list(seeds)
    if not out or len(set(out)) < len(out):
        raise ValueError(f"seeds must be different and at least one, got {out}")
    return out


def _changed(steps: int, usual_steps: int, units: int, usual_units: int, batch: int) -> str:
    parts = [("steps", steps, usual_steps), ("units", units, usual_units), ("batch", batch, 128)]
    return "".join(f"_{name}{value}" for name, value, usual in parts if value != usual)


def _of_seeds(
    name: str,
    values: Sequence[float],
    n: int,
    unit: str,
    definition: str,
    confidence: float,
    reference: float | None = None,
) -> Score:
    from scipy.stats import t

    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")
    k, mean = len(values), float(np.mean(values))
    half = float("nan")
    if k > 1:
        half = float(t.ppf(0.5 + confidence / 2, k - 1) * np.std(values, ddof=1) / math.sqrt(k))
    how = f"Student's interval over {k} seeds" if k > 1 else "none: one seed"
    return Score(name, mean, mean - half, mean + half, n, k, unit, definition, how, confidence, 0, reference)


def _classify(a: np.ndarray, b: np.ndarray, seed: int, fit: Callable[..., np.ndarray]) -> tuple[float, int]:
    """Accuracy on the fifth of either that ``fit(train, labels, test)`` did not see, and how many windows that is."""
    rng = np.random.Generator(np.random.PCG64(seed))
    parts = []
    for x in (a, b):
        order, cut = rng.permutation(len(x)), int(0.8 * len(x))
        parts.append((x[order[:cut]], x[order[cut:]]))
    (train_a, test_a), (train_b, test_b) = parts
    says_real = fit(train_a, train_b, np.concatenate([test_a, test_b]))
    truth = np.arange(len(test_a) + len(test_b)) < len(test_a)
    return float((says_real == truth).mean()), len(truth)


def _logistic(train_a: np.ndarray, train_b: np.ndarray, test: np.ndarray) -> np.ndarray:
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:  # pragma: no cover - exercised by hiding the module
        raise ImportError('discriminative_score needs scikit-learn: pip install "scidiffuse[timeseries]"') from error
    x = np.concatenate([train_a, train_b])
    centre = x.mean(axis=0)

    def features(z: np.ndarray) -> np.ndarray:
        flat = (z - centre).reshape(len(z), -1)
        return np.concatenate([flat, flat**2], axis=1)

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(features(x), np.arange(len(x)) < len(train_a))
    return np.asarray(model.predict(features(test)), dtype=bool)


def _gru(inputs: int, hidden: int, generator: Any) -> tuple[nn.GRU, nn.Linear]:
    import torch
    from torch import nn

    gru, linear = nn.GRU(inputs, hidden, batch_first=True), nn.Linear(hidden, 1)
    bound = 1 / math.sqrt(hidden)
    with torch.no_grad():
        for p in [*gru.parameters(), *linear.parameters()]:
            p.copy_((2 * torch.rand(p.shape, generator=generator) - 1) * bound)
    return gru, linear


def _batches(n: int, size: int, generator: Any) -> Iterator[Tensor]:
    """Endless batches of ``size`` different indices (all n where there are fewer)."""
    import torch

    while True:
        yield torch.randperm(n, generator=generator)[:size]


def _gru_classifier(
    hidden: int, steps: int, batch: int, seed: int, train_a: np.ndarray, train_b: np.ndarray, test: np.ndarray
) -> np.ndarray:
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

    g = torch.Generator().manual_seed(seed)
    a, b, z = (torch.as_tensor(x, dtype=torch.float32) for x in (train_a, train_b, test))
    gru, linear = _gru(a.shape[2], hidden, g)
    adam = torch.optim.Adam([*gru.parameters(), *linear.parameters()], lr=1e-3)
    picks = zip(_batches(len(a), batch, g), _batches(len(b), batch, g), strict=False)
    for _, (i, j) in zip(range(steps), picks, strict=False):
        logits = linear(gru(torch.cat([a[i], b[j]]))[1][0])[:, 0]
        real = torch.ones(len(i))
        loss = cross_entropy(logits[: len(i)], real) + cross_entropy(logits[len(i) :], torch.zeros(len(j)))
        adam.zero_grad()
        loss.backward()
        adam.step()
    with torch.no_grad():
        return (linear(gru(z)[1][0])[:, 0] > 0).numpy()


def _predict(real: np.ndarray, synthetic: np.ndarray, hidden: int, steps: int, batch: int, seed: int) -> float:
    import torch

    g = torch.Generator().manual_seed(seed)
    K = real.shape[2]
    inputs = slice(0, 1) if K == 1 else slice(0, K - 1)
    x, z = (torch.as_tensor(v, dtype=torch.float32) for v in (synthetic, real))
    gru, linear = _gru(max(1, K - 1), hidden, g)
    adam = torch.optim.Adam([*gru.parameters(), *linear.parameters()], lr=1e-3)

    def error(w: Tensor) -> Tensor:
        guess = torch.sigmoid(linear(gru(w[:, :-1, inputs])[0])[..., 0])
        return (guess - w[:, 1:, -1]).abs().mean()

    for _, i in zip(range(steps), _batches(len(x), batch, g), strict=False):
        loss = error(x[i])
        adam.zero_grad()
        loss.backward()
        adam.step()
    with torch.no_grad():
        return float(error(z))
