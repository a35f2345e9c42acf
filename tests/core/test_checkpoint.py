"""Checkpoints: what goes in comes out; every way to be broken is refused by name; saving is atomic."""

import json
import os
import pickle
import subprocess
import sys
import textwrap
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from scidiffuse.core import checkpoint
from scidiffuse.core.checkpoint import CheckpointError


@dataclass(frozen=True)
class Config:
    width: int = 3
    lags: tuple[int, ...] = (1, 24)
    rate: float = 1e-3
    name: str | None = None


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))


@pytest.fixture
def folder(tmp_path, network):
    return checkpoint.save(
        tmp_path / "run" / "model", network, Config(), kind="Toy", extra={"scale": torch.tensor([2.5, 1e-9])}
    )


def edit(folder, **changes):
    path = folder / "checkpoint.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_round_trip(folder, network):
    read = checkpoint.load(folder, kind="Toy")
    assert read.config == {"width": 3, "lags": [1, 24], "rate": 1e-3, "name": None}
    assert read.kind == "Toy" and read.version == checkpoint.FORMAT_VERSION and read.folder == folder
    assert torch.equal(read.extra["scale"], torch.tensor([2.5, 1e-9]))
    other = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    read.load_into(other)
    for name, value in network.state_dict().items():
        assert torch.equal(other.state_dict()[name], value) and other.state_dict()[name].dtype == value.dtype
    assert sorted(p.suffix for p in folder.iterdir()) == [".json", ".safetensors"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.bool])
def test_dtypes_and_shared_or_strided_memory(tmp_path, dtype):
    x = torch.arange(6).reshape(2, 3).to(dtype)
    checkpoint.save(tmp_path, {"a": x, "b": x.T, "c": x}, kind="T")
    read = checkpoint.load(tmp_path).tensors
    assert torch.equal(read["a"], x) and torch.equal(read["b"], x.T) and torch.equal(read["c"], x)
    assert read["b"].dtype == dtype


def test_saving_again_replaces_and_keeps_other_files(folder):
    (folder / "README.md").write_text("card")
    checkpoint.save(folder, {"w": torch.ones(2)}, {"a": 1}, kind="Other")
    read = checkpoint.load(folder)
    assert read.kind == "Other" and read.config == {"a": 1} and list(read.tensors) == ["w"]
    assert len(list(folder.glob("*.safetensors"))) == 1 and (folder / "README.md").read_text() == "card"


def test_same_bytes_for_the_same_content(tmp_path, network):
    a = checkpoint.save(tmp_path / "a", network, Config(), kind="Toy")
    b = checkpoint.save(tmp_path / "b", network, Config(), kind="Toy")
    assert {p.name: p.read_bytes() for p in a.iterdir()} == {p.name: p.read_bytes() for p in b.iterdir()}


@pytest.mark.parametrize("call", [1, 2])
def test_killed_while_saving_leaves_the_previous_checkpoint(folder, call):
    """The process dies right before each of the two renames that a save makes."""
    before = checkpoint.load(folder)
    program = textwrap.dedent(f"""
        import os, torch
        from scidiffuse.core import checkpoint
        replace, calls = os.replace, []
        def die(*args):
            calls.append(args)
            if len(calls) == {call}:
                os._exit(9)
            replace(*args)
        os.replace = die
        checkpoint.save({str(folder)!r}, {{"w": torch.zeros(5)}}, {{}}, kind="Toy")
    """)
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    after = checkpoint.load(folder)
    assert after.config == before.config
    assert all(torch.equal(after.tensors[name], before.tensors[name]) for name in before.tensors)
    checkpoint.save(folder, {"w": torch.ones(1)}, kind="Toy")  # and the next save clears what was left over
    assert len(list(folder.iterdir())) == 2


def test_another_kind_is_refused(folder):
    with pytest.raises(CheckpointError, match="holds a 'Toy', expected a 'TSDiff'"):
        checkpoint.load(folder, kind="TSDiff")


def test_newer_format_is_refused(folder):
    edit(folder, version=checkpoint.FORMAT_VERSION + 1, scidiffuse="9.9")
    with pytest.raises(CheckpointError, match=r"format version 2.*reads up to 1.*'9\.9'"):
        checkpoint.load(folder)


@pytest.mark.parametrize("version", [0, -1, "1", None, True])
def test_bad_version_is_refused(folder, version):
    edit(folder, version=version)
    with pytest.raises(CheckpointError, match="not a positive integer"):
        checkpoint.load(folder)


def test_truncated_and_changed_tensors_are_refused(folder):
    (path,) = folder.glob("*.safetensors")
    whole = path.read_bytes()
    for broken in (whole[:-1], whole[: len(whole) // 2], b"", whole[:-1] + bytes([whole[-1] ^ 1])):
        path.write_bytes(broken)
        with pytest.raises(CheckpointError, match=r"corrupted.*SHA-256"):
            checkpoint.load(folder)
    path.unlink()
    with pytest.raises(CheckpointError, match="incomplete"):
        checkpoint.load(folder)


@pytest.mark.parametrize("text", ["", "{", '{"format": "scidiffuse-checkpoint"', "\xff"])
def test_broken_head_is_refused(folder, text):
    (folder / "checkpoint.json").write_bytes(text.encode("latin1"))
    with pytest.raises(CheckpointError, match="corrupted"):
        checkpoint.load(folder)


@pytest.mark.parametrize("text", ["[]", "3", "{}", '{"format": "diffusers"}'])
def test_foreign_head_is_refused(folder, text):
    (folder / "checkpoint.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"foreign.*expected 'scidiffuse-checkpoint'"):
        checkpoint.load(folder)


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", "model.pkl", 3])
def test_tensor_file_outside_the_folder_is_refused(folder, name):
    edit(folder, tensors={"file": name, "sha256": "0" * 64})
    with pytest.raises(CheckpointError, match="needs 'kind', 'config' and 'tensors'"):
        checkpoint.load(folder)


def test_foreign_folder_file_and_nothing(tmp_path):
    (tmp_path / "weights.bin").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"no checkpoint\.json \(it holds weights\.bin\)"):
        checkpoint.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        checkpoint.load(tmp_path / "absent")


def test_pickles_are_never_read(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    path = tmp_path / "model.ckpt"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError, match="never read"):
        checkpoint.load(path)
    with pytest.raises(ValueError, match="is a file"):
        checkpoint.save(path, {}, kind="T")
    assert not (tmp_path / "exploded").exists()


def test_module_of_another_shape_is_refused(folder):
    with pytest.raises(CheckpointError, match=r"0\.weight: \(3, 4\) saved, \(3, 5\) in the module"):
        checkpoint.load(folder).load_into(nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3)))
    with pytest.raises(CheckpointError, match=r"unexpected 0\.bias"):
        checkpoint.load(folder).load_into(nn.Sequential(nn.Linear(4, 3, bias=False), nn.BatchNorm1d(3)))


@pytest.mark.parametrize(
    ("config", "error", "match"),
    [
        ({"a": {"b": [1, object()]}}, TypeError, r"config\.a\.b\[1\] is a object"),
        ({"a": float("nan")}, ValueError, r"config\.a is nan"),
        ({1: 2}, TypeError, "keys are strings"),
        ({"w": torch.ones(1)}, TypeError, "as `extra`"),
        ([1], TypeError, "must be a dictionary"),
    ],
)
def test_config_that_json_cannot_hold(tmp_path, config, error, match):
    with pytest.raises(error, match=match):
        checkpoint.save(tmp_path / "x", {}, config, kind="T")
    assert not (tmp_path / "x").exists()


def test_other_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="non-empty"):
        checkpoint.save(tmp_path, {}, kind="")
    with pytest.raises(TypeError, match="'n' is a int"):
        checkpoint.save(tmp_path, {"n": 3}, kind="T")


def test_a_denoiser_is_not_a_module(tmp_path):
    from scidiffuse.core import Denoiser, VPLinear

    with pytest.raises(TypeError, match=r"got Denoiser; pass its \.network"):
        checkpoint.save(tmp_path / "model", Denoiser(torch.nn.Linear(2, 2), VPLinear()), kind="Denoiser")


def test_loaded_modules_are_in_eval_mode(tmp_path):
    module = torch.nn.Dropout(0.5)
    checkpoint.load(checkpoint.save(tmp_path / "model", module, kind="Dropout"), kind="Dropout").load_into(module)
    assert not module.training
