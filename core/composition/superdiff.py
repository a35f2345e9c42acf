r"""SuperDiff: superpose models while sampling, with densities that the path itself provides.

M. Skreta et al., "The superposition of diffusion models using the Ito density estimator", ICLR 2025. M models with
scores s_i and one schedule are sampled together with the score sum_i kappa_i s_i, sum_i kappa_i = 1, and the Ito
estimator (`likelihood.ito`) follows log q_i of every model at the moving point.

**OR**: kappa_i = softmax_i(T (log q_i + l_i)). At T = 1 the composed score is exactly that of the mixture with weights
proportional to exp(l_i), so samples are samples of the mixture.

**AND**: the point moves so that all models find it equally likely. A step of a linear sampler is
affine in the prediction: with x^(j) the end of the step under model j alone and the *same* noise, it ends at
sum_j kappa_j x^(j), and

    d log q_i = a_i + sum_j G_ij kappa_j

with a and G from the estimator. Requiring log q_i + d log q_i equal for all i, and sum kappa = 1, is a linear system of
M + 1 equations for each sample; it is solved for the deviation from 1/M of least norm, so that models that agree are
averaged. Its solution takes the noise of the step into account and cancels what would drive the densities
apart, hence kappa may be large where models hardly differ: the step is not.

AND does not sample the normalised product of the densities. Its closed form on Gaussians q_i = N(m_i, S): samples lie
on {q_1 = ... = q_M}, and across the directions in which the means differ not at all they are distributed as every
q_i is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from ..grids import _least
from ..hooks import Hook, Step
from ..likelihood.ito import check_path, ito_increment, log_prior, warn_few_steps
from ..samplers.state import State
from ..spaces import Space
from .ensemble import combine

__all__ = ["SuperDiff"]


@dataclass(frozen=True, eq=False)
class SuperDiff(Hook):
    """Hook that weighs the models of an `Ensemble` by their densities at the moving sample.

    Accumulators in the state: `aux["log_q"]` (B, M), the models' log densities, and `aux["kappa"]` (B, M), the weights
    of the last step. Samplers must add the SDE's noise: `DDPM()`, `DDPM("large")` or `DDIM(eta=1.0)`.

    Args:
        models: number M of models of the ensemble.
        mode: "or" (samples that any of the models would give) or "and" (samples that all find equally likely).
        temperature: T of "or"; larger decides for one model earlier.
        bias: l of "or", one number a model, the log of the mixture's weights up to a constant; of "and" wanted
            differences: log q_i + l_i are made equal. Default zeros.
        tolerance: warn if the expected error of the log densities exceeds this many nats.

    Raises:
        ValueError: for fewer than two models, an unknown mode, a bias that does not fit; when run: for a denoiser that
            is no Ensemble of M models, and for samplers and spaces without an Ito estimator.
    """

    models: int
    mode: Literal["or", "and"] = "or"
    temperature: float = 1.0
    bias: Sequence[float] | None = None
    tolerance: float = 2.0

    def __post_init__(self) -> None:
        if self.mode not in ("or", "and"):
            raise ValueError(f'mode must be "or" or "and", got {self.mode!r}')
        if self.models < 2:
            raise ValueError(f"a composition needs at least two models, got {self.models}")
        if self.bias is not None and len(self.bias) != self.models:
            raise ValueError(f"bias needs one number for each of {self.models} models, got {len(self.bias)}")
        if not self.temperature > 0.0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")

    def on_start(self, state: State, space: Space) -> State:
        if "log_q" in state.aux:
            return state
        x = state.x if isinstance(state.x, Tensor) else next(iter(state.x.values()))
        unknown = torch.full((x.shape[0], self.models), torch.nan, dtype=torch.float64, device=x.device)
        return replace(state, aux={**state.aux, "log_q": unknown, "kappa": torch.zeros_like(unknown)})

    def on_prediction(self, step: Step) -> Step:
        preds = [step.pred.parts.get(str(i)) for i in range(self.models)]
        if any(p is None for p in preds) or str(self.models) in step.pred.parts:
            raise ValueError(
                f"SuperDiff(models={self.models}) weighs an Ensemble of {self.models} models; the denoiser of this run "
                f"answered with the parts {sorted(step.pred.parts)}"
            )
        state = step.state
        if step.call == 0:
            check_path(step.sampler, step.plan, step.schedule, step.space, last_may_be_clean=True)
            warn_few_steps(step, self.tolerance)
            if bool(state.aux["log_q"].isnan().any()):
                start = log_prior(step.schedule, step.space, state.x, step.plan.time(state.i), step.reference)
                state = replace(state, aux={**state.aux, "log_q": start[:, None].expand(-1, self.models).clone()})
        log_q = state.aux["log_q"]
        bias = torch.zeros(self.models) if self.bias is None else torch.as_tensor(self.bias)
        target = log_q + bias.to(log_q)
        kappa = (self.temperature * target).softmax(1) if self.mode == "or" else self._equal(step, preds, target)
        pred = combine(preds, kappa)
        state = replace(state, aux={**state.aux, "kappa": kappa})
        return replace(step, state=state, pred=pred)

    def _equal(self, step: Step, preds: Sequence[Any], target: Tensor) -> Tensor:
        """kappa (B, M) for which log q_i + l_i are equal after the step."""
        m, sampler, plan, space = self.models, step.sampler, step.plan, step.space
        ends = [sampler.advance(plan, step.state, step.query, pred, step.z, space, step.reference).x for pred in preds]
        t_next = plan.time(step.state.i + 1)
        # d log q_i of the step that model j would make; affine in the end point
        change = torch.stack([torch.stack([ito_increment(p, x, t_next, space) for x in ends], 1) for p in preds], 1)
        level = target[:, :, None] + change  # (B, i, j)
        # sum_j level_ij kappa_j is the same for all i (kappa adds up to one)
        gaps = level[:, 1:] - level[:, :1]
        even = torch.full((m,), 1.0 / m, dtype=level.dtype, device=level.device)
        flat = torch.cat([torch.eye(m - 1), -torch.ones(1, m - 1)]).to(level)
        flat = torch.linalg.qr(flat).Q  # orthonormal directions that keep the sum
        solution = torch.linalg.pinv(gaps @ flat, rtol=1e-9) @ -(gaps @ even)[..., None]
        return even + (flat @ solution)[..., 0]

    def on_step(self, step: Step) -> State:
        if step.new is None:
            raise ValueError("on_step needs the new state")
        t_next = step.plan.time(step.new.i)
        if _least(step.schedule.sigma(t_next)) <= 0.0:
            return step.new  # the last step, to no noise: the densities are those before it
        parts: list[Any] = [step.pred.parts[str(i)] for i in range(self.models)]
        change = torch.stack([ito_increment(p, step.new.x, t_next, step.space) for p in parts], 1)
        return replace(step.new, aux={**step.new.aux, "log_q": step.state.aux["log_q"] + change})
