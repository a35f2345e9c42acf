"""Runs that do not fit into memory: samples in shards on disk, each one drawn once.

A folder holds one run::

    manifest.json             what the run is: seed, number and shape of the samples, sampler, grid, schedule,
                              denoiser, type, and digests of the network's weights, conditions and references
    shard-00003.safetensors   samples 3 * shard to 4 * shard, with their digest and that of the manifest

Noise is keyed by the index of a sample in the whole run, so the shards together are the run that
`sample` would have made in one piece, whatever the shard size, the number of processes and the number
of interruptions. A shard is written under another name and renamed when it is complete: what has a
shard's name is whole. A killed run goes on where it stopped; a run that differs in anything is refused.

With `torch.distributed` initialised, rank r draws the shards r, r + world, ...: processes share nothing
but the folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .grids import Grid
from .hooks import Hook
from .sample import _grid, sample
from .samplers.base import Sampler
from .settings import positive_integers
from .spaces import Space
from .tree import Tree, take, tree_map

__all__ = ["ShardError", "Shards", "load_shards", "sample_shards"]

FORMAT = "scidiffuse-shards"
FORMAT_VERSION = 1

_MANIFEST = "manifest.json"
_PARTIAL = ".partial-"


class ShardError(ValueError):
    """A folder of shards that is incomplete, corrupted, foreign, or of another run."""


@dataclass(frozen=True)
class Shards:
    """What a call of `sample_shards` did (in this process).

    Attributes:
        folder: of the run.
        written: indices of the shards drawn now.
        skipped: indices of the shards that were there already.
        redrawn: those of `written` that were there but corrupt.
    """

    folder: Path
    written: list[int] = field(default_factory=list)
    skipped: list[int] = field(default_factory=list)
    redrawn: list[int] = field(default_factory=list)


def sample_shards(
    folder: str | os.PathLike[str],
    denoiser: Any,
    sampler: Sampler,
    grid: Grid | None = None,
    *,
    steps: int | None = None,
    shape_of_one: Sequence[int] | dict[str, Sequence[int]],
    total: int,
    shard: int = 256,
    seed: int,
    space: Space | Callable[[range], Space] | None = None,
    reference: Tree | Callable[[range], Tree] | None = None,
    condition: dict[str, Any] | Callable[[range], dict[str, Any]] | None = None,
    hooks: Sequence[Hook] = (),
    max_batch: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
    resume: bool = True,
    progress: bool = False,
) -> Shards:
    """Draw `total` samples into a folder, shard by shard, and go on where an earlier call stopped.

    Args:
        folder: created with its parents where missing; one folder, one run.
        denoiser, sampler, grid, steps, hooks, max_batch, dtype, device: as in `sample`.
        shape_of_one: shape of one sample, without the batch (a dictionary for product states).
        total: number of samples of the whole run.
        shard: samples a file; the last file may hold fewer.
        seed: any integer.
        space, reference, condition: as in `sample`, for all `total` samples; or a function of the slots (a
            range of sample indices) that makes them for one shard. What functions return is not compared
            when a run goes on.
        resume: False refuses a folder that already holds a run.
        progress: show a progress bar over the shards of this process.

    Returns:
        What this process wrote and skipped.

    Raises:
        ValueError: for sizes that are not positive.
        ShardError: if the folder holds another run (the message says what differs), or any run with
            `resume=False`.
        RuntimeError: if another process failed.
    """
    positive_integers({"total": total, "shard": shard})
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed must be an integer, got {type(seed).__name__}")
    group = max([1, *(hook.group for hook in hooks)])
    if shard % group:
        raise ValueError(f"a hook needs groups of {group} walkers, shard={shard} is not a multiple of it")
    if grid is None and steps is None and sampler.adaptive:
        steps = 1
    grid = _grid(denoiser.schedule, grid, steps)
    folder = Path(folder)
    run = _identity(
        denoiser, sampler, grid, shape_of_one, total, shard, seed, space, reference, condition, hooks, dtype
    )
    rank, world = _ranks()
    _together(lambda: _open(folder, run, resume) if rank == 0 else None, "opening the folder")
    key = _key(run)
    report = Shards(folder)

    def draw() -> None:
        mine = range(rank, _count(run), world)
        for index in _bar(mine, progress and rank == 0):
            path = _path(folder, index)
            if path.exists():
                fault = _fault(path, run, key, index)
                if fault is None:
                    report.skipped.append(index)
                    continue
                warnings.warn(f"{path.name} is corrupt ({fault}) and is drawn again", RuntimeWarning, stacklevel=2)
                report.redrawn.append(index)
            slots = _slots(run, index)
            part = slice(slots.start, slots.stop)
            whole = denoiser.space if space is None else space
            local = whole(slots) if not isinstance(whole, Space) and callable(whole) else whole
            local = local.take(part) if isinstance(whole, Space) else local
            result = sample(
                denoiser,
                sampler,
                grid,
                shape=_batch_shape(shape_of_one, len(slots)),
                space=local,
                reference=_part(reference, slots),
                condition=_conditions(condition, slots, total),
                hooks=[hook if len(slots) == total else hook.take(part) for hook in hooks],
                seed=seed,
                slots=slots,
                max_batch=max_batch,
                dtype=dtype,
                device=device,
            )
            _write(path, result.x, slots, key)
            report.written.append(index)

    _together(draw, "drawing shards")
    return report


def load_shards(folder: str | os.PathLike[str], *, strict: bool = True, device: torch.device | str = "cpu") -> Tree:
    """All samples of a folder, in order, (total, ...), or a dictionary of leaves for product states.

    Args:
        folder: what `sample_shards` was given.
        strict: refuse a run that is not complete; False returns the samples that are there, with a warning
            that names the missing shards.
        device: where the samples go.

    Raises:
        FileNotFoundError: if there is no such folder.
        ShardError: if the folder holds no run, or shards are missing or corrupt; the message names them.
    """
    folder = Path(folder)
    run = _read_manifest(folder)
    key = _key(run)
    faults = {}
    for index in range(_count(run)):
        path = _path(folder, index)
        fault = _fault(path, run, key, index) if path.exists() else "missing"
        if fault is not None:
            faults[index] = f"{path.name} ({fault})"
    good = [index for index in range(_count(run)) if index not in faults]
    if faults:
        text = f"{len(faults)} of {_count(run)} shards of {str(folder)!r} are not there: {_some(list(faults.values()))}"
        if strict or not good:
            raise ShardError(f"{text}; call sample_shards again with the same arguments to draw them")
        warnings.warn(text, RuntimeWarning, stacklevel=2)
    parts = [_read(_path(folder, index), str(device)) for index in good]
    if isinstance(parts[0], dict):
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return torch.cat(parts)


# -- what a run is -------------------------------------------------------------------------------
def _identity(
    denoiser: Any,
    sampler: Sampler,
    grid: Grid,
    shape_of_one: Any,
    total: int,
    shard: int,
    seed: int,
    space: Any,
    reference: Any,
    condition: Any,
    hooks: Sequence[Hook],
    dtype: torch.dtype,
) -> dict[str, Any]:
    """Everything that the samples depend on, as JSON values."""
    shape = {k: list(v) for k, v in shape_of_one.items()} if isinstance(shape_of_one, dict) else list(shape_of_one)
    whole = denoiser.space if space is None else space
    return {
        "seed": seed,
        "total": total,
        "shard": shard,
        "shape_of_one": shape,
        "dtype": str(dtype).removeprefix("torch."),
        "sampler": _repr(sampler),
        "grid": list(grid.times),
        "schedule": _repr(denoiser.schedule),
        "denoiser": _repr(denoiser),
        "weights": _weights(denoiser),
        "space": _digest_of(whole) if isinstance(whole, Space) else _named(whole),
        "reference": _named(reference) if callable(reference) else _digest_of(reference),
        "condition": _named(condition) if callable(condition) else _digest_of(condition),
        "hooks": [_repr(hook) for hook in hooks],
    }


def _repr(value: Any) -> str:
    """`repr` without the addresses, which another process has elsewhere."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def _named(value: Any) -> str | None:
    return None if value is None else f"function {getattr(value, '__qualname__', type(value).__name__)}"


def _weights(denoiser: Any) -> str | None:
    """Digest of the parameters and buffers of every network inside the denoiser."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()

    def walk(value: Any, name: str, depth: int) -> None:
        if id(value) in seen or depth > 3:
            return
        seen.add(id(value))
        if isinstance(value, nn.Module):
            found.update({f"{name}.{k}": v for k, v in value.state_dict().items() if isinstance(v, Tensor)})
        elif isinstance(value, list | tuple):
            for k, item in enumerate(value):
                walk(item, f"{name}.{k}", depth + 1)
        elif type(value).__module__.startswith(__name__.split(".", 1)[0]) and hasattr(value, "__dict__"):
            for k, item in vars(value).items():
                walk(item, f"{name}.{k}", depth + 1)

    walk(denoiser, "denoiser", 0)
    return _digest_of(found) if found else None


def _digest_of(value: Any) -> str | None:
    """Digest of tensors, spaces and plain values, nested in dictionaries and lists."""
    if value is None:
        return None
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, Tensor):
            digest.update(f"tensor {tuple(value.shape)} {value.dtype}".encode())
            digest.update(_bytes(value))
        elif isinstance(value, dict):
            for name in sorted(value, key=str):
                digest.update(f"key {name}".encode())
                add(value[name])
        elif isinstance(value, list | tuple):
            digest.update(f"list {len(value)}".encode())
            for item in value:
                add(item)
        elif isinstance(value, Space):
            digest.update(type(value).__name__.encode())
            add(dict(vars(value)))
        else:
            digest.update(_repr(value).encode())

    add(value)
    return digest.hexdigest()[:16]


def _bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def _key(run: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()[:16]


def _count(run: dict[str, Any]) -> int:
    return -(-int(run["total"]) // int(run["shard"]))


def _slots(run: dict[str, Any], index: int) -> range:
    return range(index * run["shard"], min((index + 1) * run["shard"], run["total"]))


def _batch_shape(shape_of_one: Any, n: int) -> Any:
    if isinstance(shape_of_one, dict):
        return {name: (n, *shape) for name, shape in shape_of_one.items()}
    return (n, *shape_of_one)


def _part(value: Any, slots: range) -> Any:
    if value is None:
        return None
    return value(slots) if callable(value) else take(value, slice(slots.start, slots.stop))


def _conditions(condition: Any, slots: range, total: int) -> dict[str, Any] | None:
    if condition is None or callable(condition):
        return condition(slots) if callable(condition) else None
    part = slice(slots.start, slots.stop)
    return {
        name: v[part] if isinstance(v, Tensor) and v.ndim and v.shape[0] == total else v
        for name, v in condition.items()
    }


# -- files ---------------------------------------------------------------------------------------
def _path(folder: Path, index: int) -> Path:
    return folder / f"shard-{index:05d}.safetensors"


def _open(folder: Path, run: dict[str, Any], resume: bool) -> None:
    """Write the manifest of a new run, or compare that of the run that is there."""
    if folder.exists() and not folder.is_dir():
        raise ShardError(f"{str(folder)!r} is a file; shards need a folder of their own")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _MANIFEST
    if not path.exists():
        if any(folder.glob("shard-*.safetensors")):
            raise ShardError(f"{str(folder)!r} holds shards but no {_MANIFEST}; use another folder")
        partial = folder / f"{_PARTIAL}{os.getpid()}-{_MANIFEST}"
        head = {"format": FORMAT, "version": FORMAT_VERSION, "run": run}
        partial.write_text(json.dumps(head, indent=1) + "\n", encoding="utf-8")
        _flush(partial)
        os.replace(partial, path)
        return
    if not resume:
        raise ShardError(f"{str(folder)!r} holds a run already; use another folder, or resume=True to go on with it")
    saved = _read_manifest(folder)
    differing = [name for name in sorted({*saved, *run}) if saved.get(name) != run.get(name)]
    if differing:
        what = "; ".join(f"{name} was {_short(saved.get(name))}, is {_short(run.get(name))}" for name in differing)
        raise ShardError(f"{str(folder)!r} holds another run: {what}; use another folder, or the same arguments")


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / _MANIFEST
    if not folder.is_dir():
        raise FileNotFoundError(f"no shards at {str(folder)!r}: the folder does not exist")
    if not path.is_file():
        raise ShardError(f"{str(folder)!r} holds no run: it has no {_MANIFEST}; give the folder of sample_shards")
    try:
        head = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ShardError(f"{str(path)!r} is corrupted: not JSON ({error})") from None
    if not isinstance(head, dict) or head.get("format") != FORMAT or not isinstance(head.get("run"), dict):
        raise ShardError(f"{str(path)!r} is foreign: expected format {FORMAT!r}")
    if head.get("version") != FORMAT_VERSION:
        raise ShardError(f"{str(path)!r} has version {head.get('version')!r}, this program reads {FORMAT_VERSION}")
    run: dict[str, Any] = head["run"]
    return run


def _write(path: Path, x: Tree, slots: range, key: str) -> None:
    """Write a shard under another name, flush it, and give it its name."""
    tensors = _tensors(x)
    about = {"run": key, "start": slots.start, "stop": slots.stop, "digest": _digest_of(tensors)}
    partial = path.with_name(f"{_PARTIAL}{os.getpid()}-{path.name}")
    save_file(tensors, partial, metadata={"shard": json.dumps(about)})  # one entry: their order is not fixed
    partial.chmod(0o644)  # safetensors writes for the owner alone
    _flush(partial)
    os.replace(partial, path)
    for left in path.parent.glob(f"{_PARTIAL}*-{path.name}"):  # of a process that was killed in the middle
        left.unlink(missing_ok=True)


def _tensors(x: Tree) -> dict[str, Tensor]:
    x = tree_map(lambda leaf: leaf.detach().cpu().contiguous(), x)
    return {f"x/{name}": leaf for name, leaf in x.items()} if isinstance(x, dict) else {"x": x}


def _fault(path: Path, run: dict[str, Any], key: str, index: int) -> str | None:
    """What is wrong with a shard, or None."""
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("shard", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    except (SafetensorError, OSError, ValueError) as error:
        return f"unreadable: {error}"
    if not isinstance(about, dict) or about.get("run") != key:
        return "of another run"
    slots = _slots(run, index)
    if (about.get("start"), about.get("stop")) != (slots.start, slots.stop):
        return f"samples {about.get('start')} to {about.get('stop')}, expected {slots.start} to {slots.stop}"
    if about.get("digest") != _digest_of(tensors):
        return "its content does not fit its digest"
    return None


def _read(path: Path, device: str) -> Tree:
    with safe_open(path, framework="pt", device=device) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    return tensors["x"] if "x" in tensors else {name.removeprefix("x/"): leaf for name, leaf in tensors.items()}


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


# -- processes -----------------------------------------------------------------------------------
def _ranks() -> tuple[int, int]:
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _together(work: Callable[[], None], what: str) -> None:
    """Do `work` in every process, wait for all, and fail in all if one failed."""
    world = _ranks()[1]
    if world == 1:
        work()
        return
    failure: Exception | None = None
    try:
        work()
    except Exception as error:  # handed to the other processes, then raised
        failure = error
    messages: list[str | None] = [None] * world
    torch.distributed.all_gather_object(messages, None if failure is None else f"{type(failure).__name__}: {failure}")
    if failure is not None:
        raise failure
    for other, message in enumerate(messages):
        if message is not None:
            raise RuntimeError(f"process {other} failed in {what}: {message}")


def _bar(items: range, progress: bool) -> Any:
    if not progress:
        return items
    from tqdm.auto import tqdm

    return tqdm(items, desc="shards", unit="shard")


def _short(value: Any, limit: int = 160) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit // 2]} ... {text[-limit // 2 :]}"


def _some(names: list[str], limit: int = 4) -> str:
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest
