"""A training's state goes through safetensors and JSON unchanged."""

import math

import pytest
import torch

pytest.importorskip("lightning")
from scidiffuse.core.checkpoint import CheckpointError, save
from scidiffuse.core.training.state import SafeCheckpointIO, decode, encode


def test_round_trip(tmp_path):
    weight = torch.randn(3, 2)
    state = {
        "optimizer_states": [{"state": {0: {"step": torch.tensor(3.0), "avg": weight}}, "betas": (0.9, 0.999)}],
        "best": math.inf, "nothing": None, "flag": True, "loops": {"a": {"b": [1, {}, []]}}, ("x", 1): "tuple key",
        "count": torch.tensor(7),
    }  # fmt: skip
    SafeCheckpointIO().save_checkpoint(state, tmp_path / "state")
    read = SafeCheckpointIO().load_checkpoint(tmp_path / "state")
    adam = read["optimizer_states"][0]
    assert torch.equal(adam["state"][0]["avg"], weight) and adam["state"][0]["step"].shape == ()
    assert adam["betas"] == (0.9, 0.999) and read["best"] == math.inf and read["count"].dtype == torch.int64
    for name in ("nothing", "flag", "loops", ("x", 1)):
        assert read[name] == state[name]
    assert not any(b"pickle" in p.read_bytes() for p in (tmp_path / "state").iterdir())


@pytest.mark.parametrize("value", [float("nan"), -math.inf, 1e-300, 3, "a", [], (), {}, {"tensor": "0"}, {1: {2: ()}}])
def test_plain_values(value):
    back = decode(encode(value, {}), {})
    assert type(back) is type(value) and (back == value or value != value)


def test_what_cannot_be_saved_safely_is_refused():
    with pytest.raises(TypeError, match=r"state\.callbacks\.mine\[0\] is a function"):
        encode({"callbacks": {"mine": [lambda: 0]}}, {})


def test_a_model_is_not_a_state(tmp_path):
    save(tmp_path, {"w": torch.ones(1)}, kind="Denoiser")
    with pytest.raises(CheckpointError, match="'Denoiser', expected a 'training-state'"):
        SafeCheckpointIO().load_checkpoint(tmp_path)
