"""The base class by a system of its own: three hooks, and it trains, resumes, saves and refuses."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import pytest
import torch

pd = pytest.importorskip("pandas")
pytest.importorskip("lightning")

import numpy as np  # noqa: E402

from scidiffuse import timeseries as ts  # noqa: E402
from scidiffuse.core.checkpoint import CheckpointError  # noqa: E402
from scidiffuse.core.denoisers import Denoiser  # noqa: E402
from scidiffuse.core.schedules import DiscreteBetas  # noqa: E402
from scidiffuse.timeseries.tsdiff_training import Windows, validation_rows  # noqa: E402
from scidiffuse.timeseries.window_config import WindowConfig  # noqa: E402
from scidiffuse.timeseries.window_model import WindowModel  # noqa: E402


@dataclass(frozen=True)
class LineConfig(WindowConfig):
    context_length: int = 8
    prediction_length: int = 4
    width: int = 5


class Line(torch.nn.Module):
    """One layer a position."""

    def __init__(self, width):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(2, width), torch.nn.SiLU(), torch.nn.Linear(width, 1))

    def forward(self, x, label):
        time = (label.float() / 100).view(-1, 1, 1).expand_as(x)
        return self.layers(torch.cat([x, time], dim=-1))


class LineModel(WindowModel):
    kind = "Line"
    config_class = LineConfig

    def _build(self, seed):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = Line(self.config.width)
        return Denoiser(network, DiscreteBetas.linear(1e-4, 0.1, 100), prediction="noise", label="index")

    def _windows(self, panel, min_observed):
        return Windows(panel, self.config, self.default, min_observed)

    def _validation(self, panel, count):
        rows = validation_rows(panel, self.config, count)
        return Windows(panel, self.config, self.default, horizon_only=True, rows=rows)


def series(n=60, seed=0):
    y = 5 + np.random.default_rng(seed).normal(size=n)
    return pd.DataFrame({"unique_id": "a", "ds": pd.date_range("2024-01-01", periods=n, freq="D"), "y": y})


def weights(model):
    return torch.cat([p.flatten() for p in model._network().parameters()])


FAST = {"batch_size": 4, "seed": 0}


def test_three_hooks_make_a_model(tmp_path):
    model = LineModel(width=7)
    assert repr(model).startswith("Line(LineConfig(") and "not trained" in repr(model)
    with pytest.raises(RuntimeError, match=r"this Line is not trained: call fit\(df\) first, or LineModel.load"):
        model.save(tmp_path / "none")
    assert model.fit(series(), max_steps=4, val_windows=2, out=tmp_path, **FAST) is model
    assert model.config.freq == "D" and model.steps == 4 and model.trained_until == {"a": "2024-02-21 00:00:00"}
    assert not any(p.requires_grad for p in model._network().parameters()) and not model._network().training
    back = LineModel.load(model.save(tmp_path / "saved"))
    assert isinstance(back, LineModel) and back.config == model.config and back.default == model.default
    assert torch.equal(weights(back), weights(model)) and back.data == model.data
    with pytest.raises(CheckpointError, match="Line"):
        ts.TSDiff.load(tmp_path / "saved")


def test_a_killed_training_resumes_to_the_same_weights(tmp_path):
    whole = LineModel().fit(series(), max_steps=6, **FAST)
    LineModel().fit(series(), max_steps=3, out=tmp_path, **FAST)
    resumed = LineModel().fit(series(), max_steps=6, out=tmp_path, resume=True, **FAST)
    assert torch.equal(weights(whole), weights(resumed))
    with pytest.raises(ValueError, match="width was 5, now 6"):
        LineModel(width=6).fit(series(), max_steps=9, out=tmp_path, resume=True, **FAST)
    with pytest.raises(ValueError, match="on other data"):
        LineModel().fit(series(seed=1), max_steps=9, out=tmp_path, resume=True, **FAST)


def test_what_the_system_must_define_and_what_it_is_given():
    with pytest.raises(NotImplementedError):
        type("Empty", (WindowModel,), {"kind": "Empty", "config_class": LineConfig})().fit(series(), max_steps=1)
    with pytest.raises(TypeError, match="config must be a LineConfig, got WindowConfig"):
        LineModel(WindowConfig())
    with pytest.raises(TypeError, match="give a LineConfig or its fields, not both"):
        LineModel(LineConfig(), width=3)


@pytest.mark.parametrize("call", [{"holdout": -1}, {"val_windows": -1}])
def test_bad_splits(call):
    with pytest.raises(ValueError, match="must not be negative"):
        LineModel().fit(series(), max_steps=1, **call)


class OtherLine(LineModel):
    """With a `fit` of its own, as some systems have."""

    def fit(self, df, **settings):
        return super().fit(df, **settings)


@pytest.mark.parametrize("model", [LineModel, OtherLine])
@pytest.mark.parametrize("call", [{}, {"holdout": 4}, {"val_windows": 1}, {"val_df": "after"}])
def test_ends_that_differ_are_told_where_something_is_held_out(model, call):
    together = pd.concat([series(), series(seed=1).assign(unique_id="b")])
    apart = pd.concat([series(), series(50, seed=1).assign(unique_id="b")])
    if "val_df" in call:
        call = {"val_df": series(70)}
    for df in (together, apart):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model().fit(df, max_steps=1, **call, **FAST)
        told = [w.filename for w in caught if "end at 2 different times, from 2024-02-19" in str(w.message)]
        assert told == [__file__] * (df is apart and "val_df" not in call and bool(call))


def test_the_checkpoint_that_ships_loads():
    model = ts.TSDiff.load(ts.pretrained())
    assert model.config.freq == "h" and model.trained_until and model.denoiser is not None
