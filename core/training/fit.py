"""`fit`: train a denoiser, stop it anywhere, resume it exactly, spread it over machines.

What a training writes to its folder `out`::

    model/      the averaged weights, a checkpoint of `core.checkpoint`: what sampling loads
    best/       the same at the lowest validation loss (with a validation set)
    state/      weights, averages, optimizer and counters: what resuming needs, in the same safe format
    losses.csv  step, epoch, loss, lr, val_loss

Each is replaced atomically, so a training that is killed at any instant leaves the last complete ones. Order, times,
noise and dropout are keyed (see `keys`): the resumed training computes the very numbers of the uninterrupted one.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .. import checkpoint
from ..denoisers import Denoiser
from .losses import Objective

__all__ = ["FitResult", "fit", "hardware"]


@dataclass(frozen=True)
class FitResult:
    """What a training came to.

    Attributes:
        denoiser: the denoiser; its network holds the averaged weights (the last ones without averaging).
        steps: optimizer steps taken in all, earlier runs included.
        history: rows of step, epoch, loss, lr, val_loss.
        best_val: lowest validation loss, None without a validation set.
        out: the folder.
    """

    denoiser: Denoiser
    steps: int
    history: list[dict[str, float]] = field(repr=False)
    best_val: float | None
    out: Path | None


def hardware(
    devices: str | int | Sequence[int] = "auto",
    num_nodes: int = 1,
    strategy: str = "auto",
    accelerator: str = "auto",
    precision: str = "32-true",
) -> dict[str, Any]:
    """Turn the command line's ``--devices --num-nodes --strategy --accelerator --precision`` into arguments of `fit`.

    Args:
        devices: "auto", a number ("4"), a list ("0,2"), or those as Python values.
        num_nodes: number of machines.
        strategy: Lightning's name: "auto", "ddp", "fsdp", ...
        accelerator: "auto", "cpu", "gpu", ...
        precision: "32-true", "bf16-mixed", "16-mixed", ...

    Raises:
        ValueError: for devices that are neither of these, or fewer than one machine.
    """
    if isinstance(devices, str) and devices != "auto":
        try:
            numbers = [int(part) for part in devices.split(",") if part.strip()]
        except ValueError:
            numbers = []
        if not numbers:
            raise ValueError(f'devices is "auto", a number like "4" or a list like "0,2"; got {devices!r}')
        devices = numbers if "," in devices else numbers[0]
    if isinstance(devices, int) and devices < 1:
        raise ValueError(f"devices must be at least 1, got {devices}")
    if num_nodes < 1:
        raise ValueError(f"num_nodes must be at least 1, got {num_nodes}")
    return {
        "devices": devices,
        "num_nodes": num_nodes,
        "strategy": strategy,
        "accelerator": accelerator,
        "precision": precision,
    }


def fit(
    denoiser: Denoiser,
    data: Any,
    *,
    max_steps: int,
    batch_size: int = 64,
    objective: Callable[..., Tensor] | None = None,
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    warmup: int = 0,
    decay: Literal["constant", "cosine"] | float = "constant",
    optimizer: Callable[[Any], torch.optim.Optimizer] | None = None,
    ema: float | None = 0.999,
    grad_clip: float | None = 1.0,
    seed: int = 0,
    val: Any | None = None,
    val_every: int | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    save_every: int | None = None,
    log_every: int = 50,
    kind: str = "Denoiser",
    config: Any = None,
    extra: Mapping[str, Tensor] | None = None,
    write: Callable[[Path, Mapping[str, Tensor]], Any] | None = None,
    collate: Callable[[list[Any]], Any] | None = None,
    workers: int = 0,
    accelerator: str = "auto",
    devices: str | int | Sequence[int] = "auto",
    num_nodes: int = 1,
    strategy: str = "auto",
    precision: str = "32-true",
    callbacks: Sequence[Any] = (),
    progress: bool = False,
) -> FitResult:
    """Train `denoiser.network` on `data` with Lightning.

    Args:
        denoiser: network (an `nn.Module`), schedule, prediction kind and space.
        data: a map-style data set, `len(data)` and `data[i]`: tensors x0, or dictionaries as in `Objective`. With a
            method `draw(index, generator)` samples are drawn anew in every epoch (`keys.Augmented`). A tensor (N, ...)
            is a data set, too.
        max_steps: optimizer steps in all, earlier runs included.
        batch_size: size of the *global* batch; each process takes an equal part.
        objective: loss of each sample, `objective(denoiser, batch, keys, training=...)` -> (B,). Default `Objective()`,
            for tokens `TokenObjective()`.
        lr: learning rate of AdamW.
        weight_decay: of AdamW.
        warmup: steps that lead up to `lr` linearly.
        decay: "constant"; "cosine": lead `lr` to 0 at `max_steps`; or a number in (0, 1], the factor that `lr` takes
            after every epoch.
        optimizer: parameters -> optimizer, instead of AdamW.
        ema: decay of the average of the weights (warmed up), None for no average.
        grad_clip: largest norm of the gradient, None for no clipping.
        seed: key of the order, times, noise and dropout. Initial weights are the network's own. Masks of dropout
            layers are drawn a process, so several processes equal one to rounding only without such layers.
        val: validation set; its loss is taken at the same times and noise every `val_every` steps (default: at every
            save), with the averaged weights.
        out: folder for checkpoints and losses; None writes nothing.
        resume: go on from `out`'s state where there is one.
        save_every: steps between two saves; default max_steps / 10, at most 500. The last step is always saved.
        log_every: steps between two rows of losses.
        kind, config, extra: what `checkpoint.save` writes beside the weights in `model` and `best`.
        write: `write(folder, state_dict)` instead of that, for classes with checkpoints of their own.
        collate: list of samples -> batch; default torch's.
        workers: processes that load data.
        accelerator, devices, num_nodes, strategy, precision: Lightning's, see `hardware`.
        callbacks: further Lightning callbacks.
        progress: show a progress bar.

    Raises:
        ImportError: without Lightning.
        TypeError: if the network is no `nn.Module`.
        ValueError: for settings out of range, for an `out` that holds another training, or one while `resume` is False.
        FloatingPointError: if the loss stops being finite.
    """
    if not isinstance(denoiser.network, nn.Module):
        raise TypeError(f"fit trains an nn.Module, the denoiser's network is a {type(denoiser.network).__name__}")
    for name, value in {"max_steps": max_steps, "batch_size": batch_size, "log_every": log_every}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if not lr > 0 or not math.isfinite(lr):
        raise ValueError(f"lr must be positive and finite, got {lr}")
    if ema is not None and not 0.0 < ema < 1.0:
        raise ValueError(f"ema is a decay between 0 and 1 (such as 0.999), or None; got {ema}")
    if grad_clip is not None and not grad_clip > 0:
        raise ValueError(f"grad_clip is a positive norm, or None; got {grad_clip}")
    if not (decay in ("constant", "cosine") or (isinstance(decay, float) and 0.0 < decay <= 1.0)):
        raise ValueError(f'decay must be "constant", "cosine" or a factor an epoch in (0, 1], got {decay!r}')
    if len(data) < 1:
        raise ValueError("the data set is empty: there is nothing to train on")
    if val is not None and len(val) < 1:
        raise ValueError("the validation set is empty: pass val=None to train without one")
    save_every = max(1, min(500, max_steps // 10)) if save_every is None else save_every
    val_every = save_every if val_every is None else val_every
    if save_every < 1 or val_every < 1:
        raise ValueError(f"save_every and val_every must be at least 1, got {save_every} and {val_every}")

    out = None if out is None else Path(out)
    state = None
    if out is not None:
        if checkpoint.is_checkpoint(out / "state"):
            state = out / "state"
            if not resume:
                raise ValueError(f"{str(out)!r} holds a training already: pass resume=True, or give another folder")
        out.mkdir(parents=True, exist_ok=True)
    elif resume:
        raise ValueError("resume=True needs the folder `out` of the training to go on with")

    _need_lightning()
    import lightning.pytorch as pl

    from .module import EMA, DenoisingModule, Progress, Saver
    from .state import SafeCheckpointIO

    denoiser.network.train()  # Lightning keeps the mode that it finds, and a loaded network is in eval mode
    module = DenoisingModule(
        denoiser,
        objective or _objective(denoiser),
        data,
        val,
        optimizer or (lambda parameters: torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay)),
        _rate(warmup, decay, max_steps, len(data) / batch_size),
        collate,
        seed,
        batch_size,
        workers,
    )
    average = None if ema is None else EMA(ema)
    identity: dict[str, Any] = {
        "seed": seed,
        "batch_size": batch_size,
        "samples": len(data),
        "lr": lr,
        "ema": ema,
        "grad_clip": grad_clip,
    }
    identity |= {"warmup": warmup, "decay": decay, "weight_decay": weight_decay}
    saver = Saver(
        out,
        write or (lambda folder, weights: checkpoint.save(folder, weights, config, kind=kind, extra=extra)),
        average,
        save_every,
        log_every,
        identity,
    )
    with _quiet():
        trainer = pl.Trainer(
            max_steps=max_steps,
            max_epochs=-1,
            accelerator=accelerator,
            devices=devices,  # type: ignore[arg-type]
            num_nodes=num_nodes,
            strategy=strategy,
            precision=precision,  # type: ignore[arg-type]
            gradient_clip_val=grad_clip,
            callbacks=[*([] if average is None else [average]), saver, *([Progress()] if progress else []), *callbacks],
            plugins=[SafeCheckpointIO()],
            val_check_interval=val_every if val is not None else None,
            check_val_every_n_epoch=None if val is not None else 1,
            limit_val_batches=None if val is not None else 0,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            inference_mode=False,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, ckpt_path=None if state is None else str(state))
    if average is not None:
        average.settle(module)
    saver.recall(trainer.global_step)
    best = None if math.isinf(saver.best) else saver.best
    denoiser.network.eval()
    return FitResult(denoiser, trainer.global_step, saver.history, best, out)


def _objective(denoiser: Any) -> Callable[..., Tensor]:
    """What a denoiser is trained by where nothing else is said."""
    if denoiser.schedule.family != "categorical":
        return Objective()
    from ..discrete.objective import TokenObjective

    return TokenObjective()


def _rate(warmup: int, decay: str | float, until: int, epoch: float) -> Callable[[int], float]:
    """Step -> factor of the learning rate; an epoch lasts `epoch` steps."""

    def factor(step: int) -> float:
        up = min(1.0, (step + 1) / (warmup + 1))
        if isinstance(decay, float):
            return up * decay ** math.floor(step / epoch)
        if decay == "constant":
            return up
        return up * 0.5 * (1 + math.cos(math.pi * min(1.0, step / until)))

    return factor


def _need_lightning() -> None:
    if importlib.util.find_spec("lightning") is None:
        raise ImportError(
            'fit needs Lightning: pip install "scidiffuse[train]" (every wing brings it too, such as '
            '"scidiffuse[timeseries]"); `denoising_loss` in a plain loop needs torch alone'
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's banners and hints silenced; its errors are exceptions anyway."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
