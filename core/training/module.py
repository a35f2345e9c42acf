"""The Lightning side of `fit`: module, averaging, saving, progress. Imported by `fit` only, when Lightning is there."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from torch import Tensor, nn
from torch.utils.data import DataLoader, default_collate

from ..denoisers import Denoiser
from ..noise import keyed_generator
from .keys import Key, KeyedBatches, KeyedDataset, Keys

__all__ = ["EMA", "DenoisingModule", "Progress", "Saver"]

Loss = Callable[..., Tensor]


class DenoisingModule(pl.LightningModule):
    """A denoiser in training.

    Args:
        denoiser: its network is registered as `network`.
        objective: `objective(denoiser, batch, keys, training=...)` -> loss of each sample, (B,).
        data, val: the data sets.
        optimizer: parameters -> optimizer.
        rate: step -> factor of the learning rate.
        collate: list of samples -> batch.
        seed, batch_size, workers: see `fit`.
    """

    network: nn.Module

    def __init__(
        self,
        denoiser: Denoiser,
        objective: Loss,
        data: Any,
        val: Any | None,
        optimizer: Callable[[Any], torch.optim.Optimizer],
        rate: Callable[[int], float],
        collate: Callable[[list[Any]], Any] | None,
        seed: int,
        batch_size: int,
        workers: int,
    ) -> None:
        super().__init__()
        self.network = denoiser.network
        self.denoiser, self.objective = denoiser, objective
        self.optimizer_of, self.rate = optimizer, rate
        self.collate, self.seed, self.batch_size, self.workers = collate or default_collate, seed, batch_size, workers
        self.datasets = _Shared((data, val))
        self.recent: list[Tensor] = []
        self._sums = torch.zeros(2, dtype=torch.float64)

    # -- data ------------------------------------------------------------------------------------
    def _loader(self, data: Any, batches: Any) -> Any:
        generator = torch.Generator().manual_seed(self.seed % 2**63)
        return DataLoader(
            KeyedDataset(data, self.seed),
            batch_sampler=batches,
            collate_fn=_Collate(self.collate),
            num_workers=self.workers,
            generator=generator,
        )

    def train_dataloader(self) -> Any:
        """The endless stream, from the step that the training stands at."""
        trainer, data = self.trainer, self.datasets.content[0]
        return self._loader(
            data,
            KeyedBatches(
                len(data),
                self.batch_size,
                self.seed,
                lambda: trainer.global_step,
                trainer.global_rank,
                trainer.world_size,
            ),
        )

    def val_dataloader(self) -> Any:
        """The validation set once, in equally many batches on every rank."""
        data = self.datasets.content[1]
        if data is None:
            return []
        world, rank = self.trainer.world_size, self.trainer.global_rank
        return self._loader(data, _Once(len(data), max(1, self.batch_size // world), rank, world))

    def transfer_batch_to_device(self, batch: tuple[Any, list[Key]], device: torch.device, dataloader_idx: int) -> Any:
        """The content moves, the keys stay: they are integers."""
        return super().transfer_batch_to_device(batch[0], device, dataloader_idx), batch[1]

    # -- steps -----------------------------------------------------------------------------------
    def training_step(self, batch: tuple[Any, list[Key]], _: int) -> Tensor:
        """The mean loss of this rank's part of the global batch."""
        content, where = batch
        keys = Keys(self.seed, tuple(where), self.batch_size)
        device = self.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else [], device_type="cuda"):
            word = keyed_generator(self.seed, "train/dropout", self.global_step, self.global_rank).integers(2**63)
            torch.manual_seed(int(word))  # layers that draw (Dropout) read the global generator: keyed by the step
            loss = self.objective(self.denoiser, content, keys, training=True).mean()
        self.recent.append(loss.detach())
        return loss

    def on_validation_epoch_start(self) -> None:
        """Reset the sums."""
        self._sums = torch.zeros(2, dtype=torch.float64, device=self.device)

    def validation_step(self, batch: tuple[Any, list[Key]], _: int) -> None:
        """Sum of the losses at times and noise that are the same in every validation."""
        content, where = batch
        data = self.datasets.content[1]
        keys = Keys(self.seed, tuple(Key(-1, key.sample, key.sample) for key in where), len(data))
        losses = self.objective(self.denoiser, content, keys, training=False).double()
        real = torch.tensor([key.epoch == 0 for key in where], device=losses.device, dtype=losses.dtype)
        self._sums += torch.stack([(losses * real).sum(), real.sum()]).to(self._sums)

    def on_validation_epoch_end(self) -> None:
        """The mean over the whole validation set, over all ranks."""
        total = self.trainer.strategy.reduce(self._sums.clone(), reduce_op="sum")
        self.trainer.callback_metrics["val_loss"] = (total[0] / total[1]).float()

    def configure_optimizers(self) -> Any:
        """The optimizer and its learning rate, a function of the step."""
        optimizer = self.optimizer_of(self.network.parameters())
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.rate)  # a plain function: leaves no state
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _Shared:
    """Content that copies of the module (the averaged one) share instead of copying."""

    def __init__(self, content: tuple[Any, Any]) -> None:
        self.content = content

    def __deepcopy__(self, memo: dict[int, Any]) -> _Shared:
        return self


class _Collate:
    """Collates samples and keeps their keys beside them."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, items: list[tuple[Any, Key]]) -> tuple[Any, list[Key]]:
        return self.collate([item for item, _ in items]), [key for _, key in items]


class _Once:
    """Batches of a validation set for one rank. Places that only fill up the last batches have epoch 1, not 0."""

    def __init__(self, n: int, batch_size: int, rank: int, world: int) -> None:
        if n < 1:
            raise ValueError("the validation set is empty: pass val=None to train without one")
        self.n, self.batch_size, self.rank, self.world = n, batch_size, rank, world

    def __len__(self) -> int:
        return math.ceil(math.ceil(self.n / self.world) / self.batch_size)

    def __iter__(self) -> Any:
        share = math.ceil(self.n / self.world)
        places = [self.rank * share + i for i in range(share)]
        keys = [Key(0, p, 0) if p < self.n else Key(1, p % self.n, 0) for p in places]
        for i in range(0, share, self.batch_size):
            yield keys[i : i + self.batch_size]


class EMA(EMAWeightAveraging):
    """Lightning's exponential moving average of the parameters, with a warm-up.

    After k updates the decay is min(decay, (1 + k) / (10 + k)): the average forgets the initial weights also in a
    training that is short beside 1 / (1 - decay) (as in TensorFlow's `ExponentialMovingAverage`). Buffers are copied,
    not averaged: averages of constants and counters drift by rounding.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(decay=decay, use_buffers=False)

        def average(averaged: Tensor, current: Tensor, updates: Any) -> Tensor:
            k = float(updates)
            return averaged.lerp(current.to(averaged), 1 - min(decay, (1 + k) / (10 + k)))

        self._kwargs["avg_fn"] = average

        self._settled = False

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        super().on_train_end(trainer, pl_module)
        self._settled = True

    def settle(self, module: Any) -> None:
        """Leave the averaged weights in the module, also where there was no step left to train."""
        if not self._settled and self._average_model is not None:
            self._copy_average_to_current(module)

    def averaged(self) -> Mapping[str, Tensor]:
        """State dict of the averaged network."""
        assert self._average_model is not None
        network: Any = self._average_model.module.network
        return dict(network.state_dict())


class Saver(Callback):
    """Writes the training's state, the model and the losses, and stops at a loss that is not finite."""

    def __init__(
        self,
        out: Path | None,
        write: Callable[[Path, Mapping[str, Tensor]], Any],
        ema: EMA | None,
        save_every: int,
        log_every: int,
        identity: dict[str, Any],
    ) -> None:
        self.out, self.write, self.ema = out, write, ema
        self.save_every, self.log_every, self.identity = save_every, log_every, identity
        self.best = math.inf
        self.history: list[dict[str, float]] = []
        self.saved = -1

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "identity": self.identity, "history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        now = self.identity
        different = [
            f"{k}: {was} then, {now.get(k)} now" for k, was in state_dict["identity"].items() if was != now.get(k)
        ]
        if different:
            raise ValueError(
                f"cannot resume the training in {str(self.out)!r}, it was another one ({'; '.join(different)}): use "
                "the same settings, or another folder"
            )
        self.best, self.history = state_dict["best"], state_dict["history"]

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if self.out is None:
            return
        if trainer.is_global_zero:
            self.recall(trainer.global_step)
            self._write_csv()
        self.best = float(trainer.strategy.broadcast(self.best))

    def recall(self, step: int) -> None:
        """Take up validations that came between the last save and the end of an earlier run.

        Those up to the present step are history. Later ones will come again with the same value, but `best` holds
        the best of them already.
        """
        if step == 0 or self.out is None or not (self.out / "losses.csv").is_file():
            return
        with (self.out / "losses.csv").open(newline="") as file:
            past = {int(row["step"]): float(row["val_loss"]) for row in csv.DictReader(file) if row["val_loss"]}
        rows = {int(row["step"]): row for row in self.history}
        for when, value in past.items():
            self.best = min(self.best, value)
            if when <= step:
                rows.setdefault(when, {"step": when})["val_loss"] = value
        self.history = [rows[when] for when in sorted(rows)]

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        step = trainer.global_step
        last = step >= trainer.max_steps
        save = self.out is not None and (step % self.save_every == 0 or last) and step != self.saved
        if save or last or step % self.log_every == 0:
            self._log(trainer, pl_module, step)
        if save:
            self.saved = step
            assert self.out is not None
            trainer.save_checkpoint(self.out / "state")
            self._model(trainer, self.out / "model")

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.sanity_checking:
            return
        value = float(trainer.callback_metrics["val_loss"])
        if value < self.best:
            self.best = value
            if self.out is not None:
                self._model(trainer, self.out / "best")
        self._row(trainer, {"step": trainer.global_step, "val_loss": value})

    def _model(self, trainer: Any, folder: Path) -> None:
        if self.ema is not None:
            state = self.ema.averaged()
        else:
            whole = trainer.strategy.lightning_module_state_dict()  # collective where the weights are sharded
            state = {name[8:]: value for name, value in whole.items() if name.startswith("network.")}
        if trainer.is_global_zero:
            self.write(folder, state)
        trainer.strategy.barrier()

    def _log(self, trainer: Any, module: Any, step: int) -> None:
        if not module.recent:
            return
        loss = float(trainer.strategy.reduce(torch.stack(module.recent).mean(), reduce_op="mean"))
        module.recent.clear()
        if not math.isfinite(loss):
            kept = f"the last checkpoint, of step {self.saved}, is kept" if self.saved > 0 else "nothing was saved"
            raise FloatingPointError(
                f"the training loss became {loss} in the last {self.log_every} steps before step {step} ({kept}): "
                "lower lr or grad_clip, or look for values in the data that are not finite"
            )
        rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        epoch = step * module.batch_size / len(module.datasets.content[0])
        self._row(trainer, {"step": step, "epoch": epoch, "loss": loss, "lr": rate})

    def _row(self, trainer: Any, row: dict[str, float]) -> None:
        if self.history and self.history[-1]["step"] == row["step"] and "val_loss" in row:
            self.history[-1].update(row)
        else:
            self.history.append(row)
        if trainer.is_global_zero and self.out is not None:
            self._write_csv()

    def _write_csv(self) -> None:
        assert self.out is not None
        partial = self.out / f".partial-{os.getpid()}.csv"
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["step", "epoch", "loss", "lr", "val_loss"])
            writer.writeheader()
            writer.writerows(self.history)
        os.replace(partial, self.out / "losses.csv")


class Progress(Callback):
    """One progress bar over all steps."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        from tqdm.auto import tqdm

        total, done, hide = trainer.max_steps, trainer.global_step, not trainer.is_global_zero
        self.bar = tqdm(total=total, initial=done, desc="training", unit="step", disable=hide)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.bar.update(1)
        if trainer.global_step % 20 == 0 and pl_module.recent:
            self.bar.set_postfix(loss=f"{float(pl_module.recent[-1]):.4g}", refresh=False)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.bar.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        if hasattr(self, "bar"):
            self.bar.close()
