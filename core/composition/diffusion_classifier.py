r"""A conditional diffusion model as a classifier.

A. C. Li et al., "Your diffusion model is secretly a zero-shot classifier", ICCV 2023. By Bayes' rule with a flat prior,
and with the denoising loss in the place of the log-likelihood it bounds,

    class(x) = argmin_c  E_{t, n} |n - n_c(alpha x + sigma n, t)|^2 / dimension.

**Shared times and noise.** The error of one pair (t, n) varies far more from pair to pair than from class to class;
all classes are therefore asked about the same pairs, and only differences count. What is reported is the mean paired
difference between the best class and the runner-up, with its confidence interval: an interval that contains zero says
that more samples could change the answer. (Times are spread, not random, so the interval is rather too wide.)

**Early elimination.** Stages keep the few best classes and spend the remaining samples on those.
Times are spread evenly over each stage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import torch
from torch import Tensor

from ..denoisers import check_condition
from ..noise import SlotNoise
from ..sample import _same_shape
from ..spaces import Space, default_space, projects
from ..tree import Tree, batch_size, leaves, take, tree_map

__all__ = ["Classification", "DiffusionClassifier"]


@dataclass(frozen=True)
class Classification:
    """What a `DiffusionClassifier` says.

    Attributes:
        label: index of the best class, long (B,).
        runner_up: index of the second best among those that reached the last stage, long (B,).
        errors: mean denoising error of each class over the samples it was given, (B, C). Classes with fewer samples
            were eliminated; their means are not comparable with the others'.
        samples: number of samples that each class was given, long (B, C).
        margin: mean paired difference, error of the runner-up minus error of the best, (B,).
        margin_error: its standard error, (B,); nan for a single sample.
        interval: confidence interval of the margin, (B, 2).
        calls: network evaluations, counted as pairs (sample, class, time).
    """

    label: Tensor
    runner_up: Tensor
    errors: Tensor
    samples: Tensor
    margin: Tensor
    margin_error: Tensor
    interval: Tensor
    calls: int


class DiffusionClassifier:
    """argmin over conditions of the expected denoising error.

    Args:
        denoiser: the conditional denoiser (no guidance: it changes what the error measures).
        conditions: one dictionary of the network's keyword arguments for each class; tensors hold one sample's
            condition.
        n_samples: number of (time, noise) samples after each stage, increasing; one number for a single stage.
        to_keep: number of classes kept after each stage, decreasing to 1; default (1,), no elimination.
        times: (low, high), the range over which times are spread.
        norm: "l2" (mean squared error) or "l1" (mean absolute error).
        shared: whether classes share times and noise. False only serves to show why they should.
        confidence: of the interval.

    Raises:
        ValueError: for fewer than two classes, conditions with different names, stages that do not fit, times outside
            the schedule, Student-t noise, or an unknown norm.
    """

    def __init__(
        self,
        denoiser: Any,
        conditions: Sequence[dict[str, Any]],
        n_samples: int | Sequence[int] = 100,
        to_keep: Sequence[int] = (1,),
        times: tuple[float, float] = (0.01, 0.99),
        norm: Literal["l2", "l1"] = "l2",
        shared: bool = True,
        confidence: float = 0.95,
    ) -> None:
        self.denoiser = denoiser
        self.conditions = [dict(c) for c in conditions]
        self.n_samples = (n_samples,) if isinstance(n_samples, int) else tuple(n_samples)
        self.to_keep = tuple(to_keep)
        self.times, self.norm, self.shared, self.confidence = times, norm, shared, confidence
        self._check()

    def _check(self) -> None:
        classes = len(self.conditions)
        if classes < 2:
            raise ValueError(f"a classifier chooses between at least two classes, got {classes} condition(s)")
        if len({frozenset(c) for c in self.conditions}) != 1 or not self.conditions[0]:
            raise ValueError(f"conditions must all have the same names, got {[sorted(c) for c in self.conditions]}")
        check_condition(self.conditions[0])
        if len(self.n_samples) != len(self.to_keep):
            raise ValueError(f"n_samples={self.n_samples} and to_keep={self.to_keep} must have one entry a stage")
        before = 0
        for n in self.n_samples:
            if isinstance(n, bool) or not isinstance(n, int) or n <= before:
                raise ValueError(f"n_samples must be positive integers that increase, got {self.n_samples}")
            before = n
        kept = classes
        for k in self.to_keep:
            if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k < kept:
                raise ValueError(f"to_keep must decrease from below {classes} classes to 1, got {self.to_keep}")
            kept = k
        if kept != 1:
            raise ValueError(f"to_keep must end at 1, got {self.to_keep}")
        schedule = self.denoiser.schedule
        if schedule.family != "gaussian":
            raise ValueError(f"{schedule!r} has Student-t noise: its denoising error bounds no likelihood known here")
        low, high = self.times
        schedule.check_time(low)
        schedule.check_time(high)
        if not low < high:
            raise ValueError(f"times must be (low, high) with low < high, got {self.times}")
        if self.norm not in ("l2", "l1"):
            raise ValueError(f'norm must be "l2" or "l1", got {self.norm!r}')
        if not 0.0 < self.confidence < 1.0:
            raise ValueError(f"confidence must lie in (0, 1), got {self.confidence}")
        if self.denoiser.needs_state:
            raise ValueError(f"{self.denoiser!r} depends on a run's state and has no denoising error of its own")

    def __repr__(self) -> str:
        return (
            f"DiffusionClassifier(classes={len(self.conditions)}, n_samples={self.n_samples}, to_keep={self.to_keep}, "
            f"norm={self.norm!r})"
        )

    def __call__(
        self,
        x: Tree,
        *,
        seed: int,
        slots: range | None = None,
        reference: Tree | None = None,
        condition: dict[str, Any] | None = None,
        space: Space | None = None,
        max_batch: int | None = None,
    ) -> Classification:
        """Classify clean data.

        Args:
            x: data (B, ...), float32 or float64.
            seed: of the noise; slots: indices of the samples in a larger run.
            reference: the known y of restoration schedules.
            condition: further arguments of the network, the same for all classes; tensors with B rows are per sample.
            space: where the states live; default the denoiser's, else plain tensors.
            max_batch: largest batch that the network is given; default all samples times all classes.
        """
        schedule, count = self.denoiser.schedule, len(self.conditions)
        space = space or self.denoiser.space or default_space(x)
        space.check(x)
        x = space.project(x)
        if reference is not None:
            _same_shape(reference, x, "reference")
            reference = space.project(reference)
        if schedule.basis is not None:
            x = schedule.basis.forward(x)
            reference = None if reference is None else schedule.basis.forward(reference)
        n, device = batch_size(x), leaves(x)[0].device
        if max_batch is not None and max_batch < 1:
            raise ValueError(f"max_batch must be positive, got {max_batch}")
        noise = SlotNoise(seed, range(n) if slots is None else slots)
        table = {name: torch.stack([_tensor(c[name], device) for c in self.conditions]) for name in self.conditions[0]}
        active = torch.ones(n, count, dtype=torch.bool, device=device)
        scores: list[Tensor] = []
        done = calls = 0
        for keep, upto in zip(self.to_keep, self.n_samples, strict=True):
            for k in range(done, upto):
                t = self._time((k - done + 0.5) / (upto - done))
                row, column = active.nonzero(as_tuple=True)
                values = self._errors(x, t, row, column, k, noise, table, reference, condition or {}, space, max_batch)
                score = torch.full((n, count), torch.nan, dtype=torch.float64, device=device)
                score[row, column] = values
                scores.append(score)
                calls += len(row)
            done = upto
            mean = torch.stack(scores).nanmean(0)
            ranked = torch.where(active, mean, torch.inf).argsort(dim=1, stable=True)
            active = torch.zeros_like(active).scatter_(1, ranked[:, :keep], True)
        return self._answer(torch.stack(scores), ranked, calls)

    def _time(self, fraction: float) -> float:
        low, high = self.times
        return low + (high - low) * fraction

    def _errors(
        self, x: Tree, t: float, row: Tensor, column: Tensor, k: int, noise: SlotNoise, table: dict[str, Tensor],
        reference: Tree | None, condition: dict[str, Any], space: Space, max_batch: int | None,
    ) -> Tensor:  # fmt: skip
        """Mean error a degree of freedom of each pair (sample `row`, class `column`), float64."""
        n = batch_size(x)
        if self.shared:
            z = space.randn(noise, x, k, "classifier")
            drawn = take(z, row)
        else:
            each = [space.randn(noise, x, k, f"classifier/{c}") for c in range(len(self.conditions))]
            drawn = tree_map(lambda *zs: torch.stack(zs)[column, row], *each)
        size = len(row) if max_batch is None else max_batch
        out = []
        with torch.no_grad():
            for first in range(0, len(row), size):
                cut = slice(first, first + size)
                rows, columns, eps = row[cut], column[cut], take(drawn, cut)
                denoiser = self.denoiser.on(space.take(rows)) if projects(space) else self.denoiser
                y = None if reference is None else take(reference, rows)
                at = _add_noise(denoiser, take(x, rows), eps, t, y)
                extra = {
                    name: v[rows] if isinstance(v, Tensor) and v.ndim and v.shape[0] == n else v
                    for name, v in condition.items()
                }
                pred = denoiser(at, t, reference=y, **extra, **{name: v[columns] for name, v in table.items()})
                gap = tree_map(lambda a, b: a.double() - b.double(), eps, pred.noise)
                power = tree_map(lambda g: g.abs() if self.norm == "l1" else g.square(), gap)
                total = sum(p.reshape(p.shape[0], -1).sum(1) for p in leaves(power))
                out.append(total / space.take(rows).ndof(take(x, rows)).clamp_min(1))
        return torch.cat(out)

    def _answer(self, scores: Tensor, ranked: Tensor, calls: int) -> Classification:
        best, second = ranked[:, 0], ranked[:, 1]
        pick = torch.arange(len(best), device=best.device)
        gap = scores[:, pick, second] - scores[:, pick, best]
        n = gap.shape[0]
        margin = gap.mean(0)
        error = gap.std(0) / math.sqrt(n) if n > 1 else torch.full_like(margin, torch.nan)
        width = NormalDist().inv_cdf(0.5 + self.confidence / 2) * error.nan_to_num(torch.inf)
        interval = torch.stack([margin - width, margin + width], 1)
        return Classification(best, second, scores.nanmean(0), (~scores.isnan()).sum(0), margin, error, interval, calls)


def _tensor(value: Any, device: Any) -> Tensor:
    return value.to(device) if isinstance(value, Tensor) else torch.as_tensor(value, device=device)


def _add_noise(denoiser: Any, x: Tree, eps: Tree, t: float, reference: Tree | None) -> Tree:
    """alpha x + beta y + sigma n; guidance has no `add_noise`."""

    def leaf(schedule: Any, x: Tensor, n: Tensor, y: Tensor | None) -> Tensor:
        levels = (schedule.alpha(t), schedule.beta(t), schedule.sigma(t))
        a, b, s = (c.to(x) if isinstance(c, Tensor) else c for c in levels)
        out: Tensor = a * x + s * n
        return out if y is None else out + b * y

    out: Tree = denoiser.leafwise(leaf, x, eps, reference)
    return out
