r"""DRAKES: fine-tune a masked model for a differentiable reward, by gradients through its own samples.

C. Wang et al., "Fine-tuning discrete diffusion models via reward optimization with applications to DNA and protein
design", ICLR 2025. Sought is the model P that maximises, among reverse chains,

    E_P[ r(x_0) ] - alpha KL(P || P_base)                                    (paths; see `path_kl`)

whose solution draws x_0 from p_base(x_0) exp(r(x_0) / alpha) / Z. The first term has no derivative through draws of
tokens, so the last `truncate` of the `steps` steps are *relaxed*. A token is a row x of S shares that sum to one, m its
share of the mask. With q the law of one exact step from the likeliest reading of x (a masked token: rho p(k) on tokens,
1 - rho on the mask; any other token stays) and Gumbel numbers g, what is decided is copied and the mask's share moves:

    x~ = softmax((log q + g) / temperature),        x_s = (x without m) + m x~.

The network is asked about the soft x (see `soft_tokens`). At the end the likeliest token replaces the row, and its
gradient stays the row's (straight-through): y = x + stop(onehot(argmax x) - x) goes into the reward. Steps before are
exact draws without gradient: their states are data for the rest.

With straight="step" every x~ is replaced by onehot(argmax x~) in the same way. argmax(log q + g) *is* an exact draw of
q: the trajectories are then the sampler's own, the network sees nothing but tokens, and only derivatives are relaxed.

The gradient is not that of E_P[r]. Relaxed trajectories have another law than the draws (nearer at low temperature),
straight-through takes the derivative at another point than the value, and truncation leaves out how the early draws
depend on the model. Its variance is small in return. Against the exact gradient of an enumerable model of 3 tokens in 8
steps, all of them relaxed: cosine 0.90 and 0.53 of the length at temperature 1, 0.99 and 0.65 at 0.2; with
straight="step" 0.95 and 1.09 at temperature 1, but 0.70 at 0.05. A shorter reward gradient is a larger alpha.

The divergence is summed over all steps, exact ones too: rho m KL(p || p_base) for each token, on *masked* tokens and
masked shares, as derived in `path_kl`. In exact steps its derivative is that of the last factor, at the state as drawn.

Here and not in the published code: the divergence sits on masked tokens, not on the decided share (where known tokens
carried over make it zero on hard states); decided shares are copied whole, not in proportion to their sum, so that no
mask is left at t = 0; where a soft token's likeliest reading is no longer the mask, what is left of the mask goes to
that reading in one step instead of several.

**Memory.** An exact step's graph is freed at once. The relaxed steps keep the activations of both networks until the
reward is known: about truncate times what two calls on `batch_size` sequences keep for a backward pass. Three copies of
the network's weights exist (yours, the base, the tuned one), and Adam's two for the tuned one.
"""

from __future__ import annotations

import copy
import csv
import hashlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .. import checkpoint, grids
from ..denoisers import check_condition
from ..noise import Noise, SlotNoise
from ..sample import _bar
from ..spaces import Space, default_space
from .categorical import check_gumbel, gumbel, uniforms
from .denoiser import TokenDenoiser
from .interpolating import Masked
from .path_kl import check_masked, hard_steps, step_kl
from .places import places
from .soft_tokens import check_soft, soft_logits

__all__ = ["DrakesResult", "Reward", "drakes", "relaxed_steps", "straight_through"]

Reward = Callable[[Tensor], Tensor]
"""One-hot tokens (B, L, K) -> (B,), differentiable; larger is better.

K = S - 1: the ids without the mask, in their order. Padded tokens are rows of zeros.
"""

STATE = "drakes-state"
_COLUMNS = ("iteration", "reward", "kl", "loss", "grad_norm")


@dataclass(frozen=True)
class DrakesResult:
    """What a fine-tuning came to.

    Attributes:
        denoiser: the fine-tuned denoiser; the one that was given is unchanged.
        iterations: optimizer steps taken in all, earlier runs included.
        history: a row an iteration: iteration, reward (mean), kl (mean, nats a sequence), loss, grad_norm before
            clipping. Means over the sequences of the iteration, at the weights before its step. With relaxed steps the
            reward and kl are those of relaxed trajectories; `path_kl` measures what sampling does.
        out: the folder, or None.
    """

    denoiser: TokenDenoiser
    iterations: int
    history: list[dict[str, float]] = field(repr=False)
    out: Path | None = None


def relaxed_steps(
    denoiser: TokenDenoiser, base: TokenDenoiser, x: Tensor, times: Sequence[float], noise: Noise, real: Tensor,
    condition: dict[str, Any], temperature: float = 1.0, straight: Literal["end", "step"] = "end",
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The relaxed chain from x at times[0] to times[-1].

    Args:
        denoiser, base: model and base, of one masked process.
        x: soft tokens (B, L, S), float64 or float32, the type of what is kept. Gumbel numbers are drawn in float64.
        times: falling.
        noise: keyed noise; draws are numbered from zero.
        real: bool (B, L), which tokens exist; others never move.
        condition: keyword arguments of the networks.
        temperature: of the softmax.
        straight: "step" makes the value of every step an exact draw, and relaxes its derivative alone.

    Returns:
        (soft tokens at the end (B, L, S), summed divergence (B,)), both differentiable.
    """
    process = check_masked(denoiser)
    check_gumbel(x.dtype)
    space = default_space(x)
    is_mask = torch.arange(process.states, device=x.device) == process.mask
    total = x.new_zeros(len(x))
    for i, (t, s) in enumerate(pairwise(times)):
        hard = x.detach().argmax(-1)
        log_p = process.log_probs(soft_logits(denoiser, x, t, **condition), hard).to(x.dtype)
        log_base = process.log_probs(soft_logits(base, x, t, **condition), hard).to(x.dtype)
        left = torch.where(real, x[..., process.mask], x.new_zeros(()))
        total = total + step_kl(process, log_p, log_base, torch.where(hard == process.mask, left, 0.0), s, t)
        g = gumbel(uniforms(noise, space, x, i, "drakes/gumbel")).to(x.dtype)
        new = ((process.log_posterior(log_p, hard, s, t) + g) / temperature).softmax(-1)
        if straight == "step":
            new = _straight(new)
        decided = torch.where(is_mask, 0.0, x)
        x = torch.where(real.unsqueeze(-1), decided + x[..., process.mask, None] * new, x)
    return x, total


def straight_through(x: Tensor, mask: int, real: Tensor) -> Tensor:
    """One-hot rows of the likeliest tokens, with the gradient of the soft ones.

    Args:
        x: soft tokens (B, L, S).
        mask: id of the mask, whose column is left out.
        real: bool (B, L), which tokens exist; others become rows of zeros.

    Returns:
        (B, L, S - 1).
    """
    x = torch.cat([x[..., :mask], x[..., mask + 1 :]], -1)
    return torch.where(real.unsqueeze(-1), _straight(x), x.new_zeros(()))


def _straight(x: Tensor) -> Tensor:
    return nn.functional.one_hot(x.detach().argmax(-1), x.shape[-1]).to(x.dtype) + (x - x.detach())


def drakes(
    denoiser: TokenDenoiser,
    reward: Reward,
    *,
    length: int,
    iterations: int,
    seed: int,
    steps: int = 128,
    truncate: int = 50,
    temperature: float = 1.0,
    straight: Literal["end", "step"] = "end",
    alpha: float = 1e-3,
    lr: float = 1e-4,
    batch_size: int = 32,
    accumulate: int = 4,
    grad_clip: float | None = 1.0,
    condition: dict[str, Any] | Callable[[range], dict[str, Any]] | None = None,
    dtype: torch.dtype = torch.float64,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    save_every: int | None = None,
    progress: bool = False,
    callback: Callable[[dict[str, float], TokenDenoiser], Any] | None = None,
) -> DrakesResult:
    """Fine-tune a masked model for a reward.

    Args:
        denoiser: the base: an `nn.Module` that takes soft tokens (see `soft_tokens`) and a `Masked` process. It is not
            changed. Networks run in evaluation mode, without dropout.
        reward: see `Reward`. On the scale of alpha.
        length: L, tokens of a sample.
        iterations: optimizer steps in all, earlier runs included.
        seed: any integer; all noise is keyed by it.
        steps: equal steps of the chain from t = 1 to 0.
        truncate: how many of them, the last ones, are relaxed: 1..steps.
        temperature: of the Gumbel softmax (published: 1 for DNA, 0.5 for proteins).
        straight: where the value of relaxed tokens is made one-hot: at the "end" (published), or in every "step", which
            makes the trajectories exact.
        alpha: weight of the divergence from the base, in reward a nat; 0 for none.
        lr: learning rate of Adam.
        batch_size: B, sequences at a time.
        accumulate: batches for one optimizer step.
        grad_clip: largest norm of the gradient; None for no clipping.
        condition: keyword arguments of the network for a batch, or a function from the indices of the batch's
            sequences (a range; no index occurs twice in a run) to them.
        dtype: of soft tokens, float64 or float32 (half their memory); Gumbel numbers are drawn in float64 either way.
        out: folder for `model` (the tuned weights), `state` (what resuming needs) and losses.csv; None writes nothing.
        resume: go on from `out`'s state where there is one; the result is that of the uninterrupted run.
        save_every: iterations between saves; default iterations / 10. The last one is always saved.
        progress: show a progress bar.
        callback: called as callback(row of the history, tuned denoiser) after every iteration.

    Returns:
        A `DrakesResult`.

    Raises:
        TypeError: for a denoiser or network of another kind, one that takes ids alone, half-precision Gumbel numbers,
            a reward that is not a tensor or has no gradient.
        ValueError: for settings out of range, processes without a mask (or whose tokens move once decided), rewards of
            another shape or not finite, an `out` that holds another run, or one while `resume` is False.
        FloatingPointError: if the gradient is not finite.
    """
    process = check_masked(denoiser)
    _check_settings(
        length=length, iterations=iterations, steps=steps, truncate=truncate, batch_size=batch_size,
        accumulate=accumulate, temperature=temperature, alpha=alpha, lr=lr, grad_clip=grad_clip, save_every=save_every,
    )  # fmt: skip
    check_gumbel(dtype)
    if straight not in ("end", "step"):
        raise ValueError(f'straight is "end" or "step", got {straight!r}')
    if not isinstance(denoiser.network, nn.Module):
        raise TypeError(f"drakes trains an nn.Module, the denoiser's network is a {type(denoiser.network).__name__}")
    if denoiser.half is not None:
        raise TypeError(f"drakes trains in the network's own type, this denoiser runs its network in {denoiser.half}")
    check_soft(denoiser.network, process.states)
    if not callable(condition):
        check_condition(condition or {})
    tuned, base = _copy(denoiser), _copy(denoiser)
    base.network.requires_grad_(False)
    parameters = [p for p in tuned.network.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("no parameter of the network requires a gradient: there is nothing to tune")
    optimizer = torch.optim.Adam(parameters, lr=lr)
    batch = _Batch(
        tuned, base, process, reward, parameters, grids.uniform(steps).times, truncate, temperature, straight, alpha,
        length, dtype, seed, batch_size, condition, accumulate,
    )  # fmt: skip
    settings = {
        "seed": seed, "length": length, "steps": steps, "truncate": truncate, "temperature": temperature,
        "straight": straight, "alpha": alpha, "lr": lr, "batch_size": batch_size, "accumulate": accumulate,
        "grad_clip": grad_clip, "dtype": str(dtype), "base": _digest(base.network),
    }  # fmt: skip
    folder = None if out is None else Path(out)
    history = _start(folder, resume, settings, tuned.network, optimizer)
    save_every = max(1, iterations // 10) if save_every is None else save_every

    bar = _bar(max(iterations - len(history), 0), progress)
    if bar.shown:
        bar.set_description("drakes")
        bar.unit = "step"
    with bar:
        for iteration in range(len(history), iterations):
            optimizer.zero_grad(set_to_none=True)
            rows = [batch(iteration * accumulate + k) for k in range(accumulate)]
            norm = torch.nn.utils.clip_grad_norm_(parameters, math.inf if grad_clip is None else grad_clip)
            if not bool(torch.isfinite(norm)):
                raise FloatingPointError(
                    f"the gradient is {float(norm)} in iteration {iteration}: the reward's derivative is not finite at "
                    "some one-hot input, or lr is too large"
                )
            optimizer.step()
            r, kl = (sum(values) / accumulate for values in zip(*rows, strict=True))
            row = dict(zip(_COLUMNS, (iteration, r, kl, alpha * kl - r, float(norm)), strict=True))
            history.append(row)
            if folder is not None and ((iteration + 1) % save_every == 0 or iteration + 1 == iterations):
                _save(folder, settings, tuned.network, optimizer, history)
            if callback is not None:
                callback(row, tuned)
            bar.update(1)
    return DrakesResult(tuned, len(history), history, folder)


@dataclass
class _Batch:
    """One batch of sequences: a rollout and its part of the gradient."""

    tuned: TokenDenoiser
    base: TokenDenoiser
    process: Masked
    reward: Reward
    parameters: list[nn.Parameter]
    times: tuple[float, ...]
    truncate: int
    temperature: float
    straight: Literal["end", "step"]
    alpha: float
    length: int
    dtype: torch.dtype
    seed: int
    size: int
    condition: Any
    accumulate: int

    def __call__(self, number: int) -> tuple[float, float]:
        """Add the gradient of the loss / accumulate; return the mean reward and divergence."""
        slots = range(number * self.size, (number + 1) * self.size)
        condition = self.condition(slots) if callable(self.condition) else self.condition or {}
        noise = SlotNoise(self.seed, slots)
        x = torch.full((self.size, self.length), self.process.mask, device=self.parameters[0].device)
        space: Space = self.tuned.space or default_space(x)
        real: Any = places(space, x)
        x = space.project(x)
        first = len(self.times) - 1 - self.truncate

        divergence = 0.0
        with torch.set_grad_enabled(self.alpha > 0.0):
            steps = hard_steps(
                self.tuned, self.base, x, self.times[: first + 1], noise, space, condition, "drakes/step"
            )  # fmt: skip
            for kl, new in steps:
                x = new
                divergence += float(kl.detach().mean())
                self._backward(self.alpha * kl.mean())
        soft = nn.functional.one_hot(x, self.process.states).to(self.dtype)
        soft, kl = relaxed_steps(
            self.tuned, self.base, soft, self.times[first:], noise, real, condition, self.temperature, self.straight
        )
        r = self._ask(straight_through(soft, self.process.mask, real))
        self._backward(self.alpha * kl.mean() - r.mean())
        return float(r.detach().mean()), divergence + float(kl.detach().mean())

    def _backward(self, loss: Tensor) -> None:
        if loss.requires_grad:
            (loss / self.accumulate).backward(inputs=self.parameters)

    def _ask(self, y: Tensor) -> Tensor:
        """The reward of one-hot tokens, in the type of the network."""
        kind = self.parameters[0].dtype
        r = self.reward(y.to(kind if kind.is_floating_point else torch.float32))
        if not isinstance(r, Tensor):
            raise TypeError(f"the reward must return a tensor of shape ({self.size},), got {type(r).__name__}")
        if r.shape != (self.size,):
            raise ValueError(
                f"the reward must return shape ({self.size},), one number a sequence; got {tuple(r.shape)}"
            )
        bad = (~torch.isfinite(r)).nonzero().flatten().tolist()
        if bad:
            raise ValueError(f"the reward of sequence {bad[0]} of {self.size} is {r[bad[0]].item()}: it must be finite")
        if not r.requires_grad:
            raise TypeError(
                "the reward has no gradient with respect to the one-hot tokens: it must be differentiable torch code "
                "without argmax, detach() or no_grad(); steer with core.steering.svdd where it cannot be"
            )
        return r


def _check_settings(**settings: Any) -> None:
    for name in ("length", "iterations", "steps", "truncate", "batch_size", "accumulate", "save_every"):
        value = settings[name]
        if name == "save_every" and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be an integer >= 1, got {value!r}")
    if settings["truncate"] > settings["steps"]:
        raise ValueError(
            f"truncate={settings['truncate']} relaxed steps are more than the steps={settings['steps']} of the chain"
        )
    for name, least in (("temperature", "> 0"), ("lr", "> 0"), ("alpha", ">= 0"), ("grad_clip", "> 0")):
        value = settings[name]
        if name == "grad_clip" and value is None:
            continue
        if not (math.isfinite(value) and (value > 0.0 or (least == ">= 0" and value == 0.0))):
            raise ValueError(f"{name} must be finite and {least}, got {value!r}")


def _copy(denoiser: TokenDenoiser) -> TokenDenoiser:
    other = copy.copy(denoiser)
    other.network = copy.deepcopy(denoiser.network).eval()
    return other


def _digest(network: nn.Module) -> str:
    """A fingerprint of the weights."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _start(
    folder: Path | None, resume: bool, settings: dict[str, Any], network: nn.Module, optimizer: torch.optim.Optimizer
) -> list[dict[str, float]]:
    """The history so far; network and optimizer are set to what they were then."""
    if folder is None:
        if resume:
            raise ValueError("resume=True needs the folder `out` of the run to go on with")
        return []
    if not checkpoint.is_checkpoint(folder / "state"):
        return []
    if not resume:
        raise ValueError(f"{str(folder)!r} holds a fine-tuning already: pass resume=True, or give another folder")
    saved = checkpoint.load(folder / "state", kind=STATE)
    changed = [name for name, value in settings.items() if saved.config["settings"].get(name) != value]
    if changed:
        raise ValueError(
            f"{str(folder)!r} holds another run, which differs in {', '.join(changed)}: give its settings, or another "
            "folder"
        )
    saved.load_into(network)
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in saved.extra.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    history: list[dict[str, float]] = saved.config["history"]
    return history


def _save(
    folder: Path, settings: Mapping[str, Any], network: nn.Module, optimizer: torch.optim.Optimizer,
    history: list[dict[str, float]],
) -> None:  # fmt: skip
    moments = {f"{i}.{key}": v for i, entry in optimizer.state_dict()["state"].items() for key, v in entry.items()}
    config = {"settings": dict(settings), "history": history}
    checkpoint.save(folder / "model", network, {"settings": dict(settings)}, kind="TokenDenoiser")
    checkpoint.save(folder / "state", network, config, kind=STATE, extra=moments)
    partial = folder / f".partial-{os.getpid()}.csv"
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        writer.writerows(history)
    os.replace(partial, folder / "losses.csv")
