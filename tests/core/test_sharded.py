import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from scidiffuse.core import grids
from scidiffuse.core.denoisers import Denoiser
from scidiffuse.core.sample import sample
from scidiffuse.core.samplers import DDIM, AdaptiveDPM, DPMSolverPP
from scidiffuse.core.schedules import ProductSchedule, VPLinear
from scidiffuse.core.sharded import ShardError, load_shards, sample_shards
from scidiffuse.core.spaces import Graph, Masked, Product

SAMPLER, GRID = DPMSolverPP(order=2, eta=1.0), grids.uniform(4, 1.0, 0.01)


class Net(torch.nn.Module):
    """Counts its calls; fails at one of them when asked to."""

    def __init__(self, fail_at=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.3))
        self.calls, self.fail_at = 0, fail_at

    def forward(self, x, t, shift=None):
        if self.calls == self.fail_at:
            raise KeyboardInterrupt
        self.calls += 1
        return self.weight * x + (0.0 if shift is None else shift)


def denoiser(**kwargs):
    return Denoiser(Net(**kwargs), VPLinear(), "data")


def shards(folder, den=None, sampler=SAMPLER, grid=GRID, **kwargs):
    return sample_shards(
        folder,
        den or denoiser(),
        sampler,
        grid,
        **({"shape_of_one": (3,), "total": 22, "shard": 5, "seed": 7} | kwargs),
    )


def test_shards_are_the_whole_run(tmp_path):
    report = shards(tmp_path)
    assert report.written == [0, 1, 2, 3, 4] and not report.skipped
    whole = sample(denoiser(), SAMPLER, GRID, shape=(22, 3), seed=7)
    torch.testing.assert_close(load_shards(tmp_path), whole.x, rtol=0, atol=1e-5)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["manifest.json", *(f"shard-{k:05d}.safetensors" for k in range(5))]
    shards(tmp_path / "other", shard=8, max_batch=3)
    torch.testing.assert_close(load_shards(tmp_path / "other"), whole.x, rtol=0, atol=1e-5)


def test_a_killed_run_goes_on(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        shards(tmp_path, denoiser(fail_at=10))  # four calls a shard: in the middle of the third
    with pytest.raises(ShardError, match=r"3 of 5 shards.*shard-00002.safetensors \(missing\)"):
        load_shards(tmp_path)
    with pytest.warns(RuntimeWarning, match="3 of 5"):
        assert load_shards(tmp_path, strict=False).shape == (10, 3)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("shard-*")}
    den = denoiser()
    report = shards(tmp_path, den)
    assert report.skipped == [0, 1] and report.written == [2, 3, 4] and den.network.calls == 12
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    shards(tmp_path / "whole")
    assert torch.equal(load_shards(tmp_path), load_shards(tmp_path / "whole"))
    again = denoiser()
    assert shards(tmp_path, again).skipped == [0, 1, 2, 3, 4] and again.network.calls == 0


@pytest.mark.parametrize("damage", ["truncated", "flipped", "foreign"])
def test_corrupt_shards_are_named_and_drawn_again(tmp_path, damage):
    shards(tmp_path / "run")
    good = load_shards(tmp_path / "run")
    path = tmp_path / "run" / "shard-00003.safetensors"
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[:-5])
    elif damage == "flipped":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        shards(tmp_path / "foreign", seed=8)
        path.write_bytes((tmp_path / "foreign" / path.name).read_bytes())
    with pytest.raises(ShardError, match="shard-00003"):
        load_shards(tmp_path / "run")
    with pytest.warns(RuntimeWarning, match=r"shard-00003.safetensors is corrupt"):
        report = shards(tmp_path / "run")
    assert report.redrawn == [3] == report.written and report.skipped == [0, 1, 2, 4]
    assert torch.equal(load_shards(tmp_path / "run"), good)


def test_another_run_is_refused_by_what_differs(tmp_path):
    shards(tmp_path)
    other = denoiser()
    other.network.weight.data += 0.1
    cases = [
        ({"seed": 8}, "seed was 7, is 8"),
        ({"total": 23}, "total was 22, is 23"),
        ({"sampler": DDIM()}, r"sampler was .DPMSolverPP.*is .DDIM"),
        ({"grid": grids.uniform(4, 1.0, 0.02)}, "grid was"),
        ({"dtype": torch.float64}, "dtype was 'float32', is 'float64'"),
        ({"den": Denoiser(Net(), VPLinear(0.2), "data")}, "schedule was"),
        ({"den": other}, "weights was"),
        ({"condition": {"shift": torch.ones(22, 3)}}, "condition was None"),
    ]
    for change, message in cases:
        with pytest.raises(ShardError, match=message):
            shards(tmp_path, **change)
    with pytest.raises(ShardError, match="holds a run already"):
        shards(tmp_path, resume=False)
    assert torch.isfinite(load_shards(tmp_path)).all()


def test_conditions_and_references_are_cut(tmp_path):
    shift = torch.arange(22.0)[:, None].expand(22, 3).contiguous()
    shards(tmp_path / "a", condition={"shift": shift})
    shards(tmp_path / "b", condition=lambda slots: {"shift": shift[slots.start : slots.stop]})
    whole = sample(denoiser(), SAMPLER, GRID, shape=(22, 3), seed=7, condition={"shift": shift})
    torch.testing.assert_close(load_shards(tmp_path / "a"), whole.x, rtol=1e-5, atol=1e-5)
    assert torch.equal(load_shards(tmp_path / "a"), load_shards(tmp_path / "b"))


def test_product_states_with_masks(tmp_path):
    mask = torch.arange(4) < torch.tensor([2, 3, 4, 2, 4, 3, 2])[:, None]
    space = Product(X=Masked(mask), A=Graph(mask))
    schedule = ProductSchedule(X=VPLinear(), A=VPLinear(), clock="X")
    den = Denoiser(lambda x, t: {k: 0.3 * v for k, v in x.items()}, schedule, "data", space)
    kwargs = {"shape_of_one": {"X": (4, 2), "A": (4, 4)}, "total": 7, "shard": 3}
    shards(tmp_path, den, **kwargs)
    whole = sample(den, SAMPLER, GRID, shape={"X": (7, 4, 2), "A": (7, 4, 4)}, seed=7)
    got = load_shards(tmp_path)
    for name in ("X", "A"):
        torch.testing.assert_close(got[name], whole.x[name], rtol=0, atol=1e-5)
    narrow = Product(X=Masked(mask & (torch.arange(4) < 3)), A=Graph(mask))
    with pytest.raises(ShardError, match="space was"):
        shards(tmp_path, den, space=narrow, **kwargs)


def test_adaptive_runs_need_no_grid(tmp_path):
    shards(tmp_path, sampler=AdaptiveDPM(2), grid=None, total=6)
    whole = sample(denoiser(), AdaptiveDPM(2), shape=(6, 3), seed=7)
    torch.testing.assert_close(load_shards(tmp_path), whole.x, rtol=0, atol=1e-5)


def test_refusals(tmp_path):
    for name in ("total", "shard"):
        with pytest.raises(ValueError, match=name):
            shards(tmp_path, **{name: 0})
    with pytest.raises(TypeError, match="seed"):
        shards(tmp_path, seed=None)
    with pytest.raises(FileNotFoundError):
        load_shards(tmp_path / "nothing")
    with pytest.raises(ShardError, match="no manifest"):
        load_shards(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"format": "other"}))
    with pytest.raises(ShardError, match="foreign"):
        load_shards(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ShardError, match="not JSON"):
        shards(tmp_path)


SCRIPT = """
import sys, torch, torch.distributed as dist
from scidiffuse.core import grids
from scidiffuse.core.denoisers import Denoiser
from scidiffuse.core.samplers import DPMSolverPP
from scidiffuse.core.schedules import VPLinear
from scidiffuse.core.sharded import ShardError, sample_shards
rank, store, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=2)
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.3))
    def forward(self, x, t):
        return self.weight * x
den = Denoiser(Net(), VPLinear(), "data")
args = dict(shape_of_one=(3,), total=22, shard=5)
report = sample_shards(folder, den, DPMSolverPP(order=2, eta=1.0), grids.uniform(4, 1.0, 0.01), seed=7, **args)
assert report.written == list(range(rank, 5, 2)), report
try:
    sample_shards(folder, den, DPMSolverPP(order=2, eta=1.0), grids.uniform(4, 1.0, 0.01), seed=8, **args)
except (ShardError, RuntimeError) as error:
    assert "seed was 7, is 8" in str(error)
else:
    raise SystemExit("a different run was not refused")
dist.destroy_process_group()
"""


def test_two_processes_write_the_same_files(tmp_path):
    script = tmp_path / "work.py"
    script.write_text(textwrap.dedent(SCRIPT))
    folder = tmp_path / "run"
    work = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), str(tmp_path / "store"), str(folder)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in work:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    shards(tmp_path / "one")
    for path in sorted((tmp_path / "one").glob("shard-*")):
        assert Path(folder / path.name).read_bytes() == path.read_bytes()
    assert (folder / "manifest.json").read_bytes() == (tmp_path / "one" / "manifest.json").read_bytes()
