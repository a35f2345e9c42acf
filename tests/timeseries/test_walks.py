"""How walkers lie in a batch: rows of series, paths and particles, and what they are told."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pd = pytest.importorskip("pandas")

from scidiffuse import timeseries as ts  # noqa: E402
from scidiffuse.core.denoisers import Denoiser  # noqa: E402
from scidiffuse.core.schedules import DiscreteBetas  # noqa: E402
from scidiffuse.timeseries.tsdiff_inputs import prepare  # noqa: E402
from scidiffuse.timeseries.walks import Walk, check_max_batch, check_steering, sampling_of  # noqa: E402
from scidiffuse.timeseries.window_config import WindowConfig  # noqa: E402

CONFIG = WindowConfig(context_length=6, prediction_length=2, freq="h", timesteps=50)


def walk(steer=None, walkers=4, num_samples=3, n=2, **settings):
    frame = pd.DataFrame({
        "unique_id": np.repeat([f"s{k}" for k in range(n)], 10),
        "ds": np.tile(pd.date_range("2024-01-01", periods=10, freq="h"), n),
        "y": np.concatenate([10.0**k * (1 + np.arange(10)) for k in range(n)]),
    })  # fmt: skip
    panel = ts.to_panel(frame)
    inputs = prepare(panel, 2, CONFIG, (0.0, 1.0), {})
    settings = {"sampler": "ddpm", "steps": 5, "seed": 0, "max_batch": None} | settings
    return Walk.of(panel, inputs, steer=steer, walkers=walkers, num_samples=num_samples, **settings)


def sure(denoiser_data):
    """A denoiser that is sure of `denoiser_data(x, **condition)`, whatever the noise."""
    return Denoiser(
        lambda x, label, **told: denoiser_data(x, **told),
        DiscreteBetas.linear(1e-4, 0.1, 50),
        prediction="data",
        label="index",
    )


def test_sampler_and_steps_by_default_by_configuration_and_by_call():
    assert sampling_of(CONFIG, None, None) == ("ddpm", 50) and sampling_of(CONFIG, "ddim", None) == ("ddim", 20)
    set_ = WindowConfig(sampler="ddim", sampling_steps=7)
    assert sampling_of(set_, None, None) == ("ddim", 7) and sampling_of(set_, "ddim", 9) == ("ddim", 9)
    assert sampling_of(set_, "ddpm", None) == ("ddpm", 100)  # 7 were meant for ddim
    with pytest.raises(ValueError, match="'ddim' or 'ddpm'"):
        sampling_of(CONFIG, "heun", None)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ((0, None, 16, "raise"), "num_samples must be an integer of at least 1, got 0"),
        ((2.5, None, 16, "raise"), "num_samples must be an integer of at least 1, got 2.5"),
        ((1, None, 16, "ignore"), "'raise', 'warn' or 'project'"),
        ((1, ts.NonNegative(), 1, "raise"), "walkers >= 2, got 1"),
        ((1, ts.NonNegative(), 2.5, "raise"), "walkers >= 2, got 2.5"),
    ],
)
def test_settings_out_of_range(call, words):
    with pytest.raises(ValueError, match=words):
        check_steering(*call)
    check_steering(1, None, 1, "raise")  # no steering, no particles


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "all"])
def test_a_batch_is_a_positive_integer_or_everything(size):
    for one in (check_max_batch, lambda given: walk(max_batch=given)):
        with pytest.raises(ValueError, match=f"max_batch must be a positive integer, or None .*, got {size!r}"):
            one(size)
        one(None), one(1)


def test_rows_of_series_paths_and_particles():
    each = torch.arange(2)
    assert walk().spread(each).tolist() == [0, 0, 0, 1, 1, 1]
    steered = walk(ts.NonNegative(), walkers=2)
    assert steered.spread(each).tolist() == [0] * 6 + [1] * 6
    assert steered.levels().tolist() == pytest.approx([0.25, 0.25, 0.5, 0.5, 0.75, 0.75] * 2)
    joint = walk(ts.Aggregate("s1", ["s0"]), walkers=2)
    assert joint.joint and joint.spread(each).tolist() == [[0, 1]] * 6
    assert joint.levels().tolist() == pytest.approx([0.25, 0.25, 0.5, 0.5, 0.75, 0.75])


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
@pytest.mark.parametrize("max_batch", [None, 1, 4])
def test_each_walker_is_told_its_own_series(sampler, max_batch):
    """The denoiser is sure of the series' number: after scaling back, the forecast is it in the series' unit."""
    one = walk(sampler=sampler, max_batch=max_batch)
    told = {"window": one.spread(torch.tensor([1.0, 2.0]))}
    answer = sure(lambda x, window: window.view(-1, 1, 1).expand_as(x))
    forecast = one.forecast(answer, answer.schedule, told, 1, "sure", info={"model": "sure"})
    scale = np.array([7.5, 75.0])  # mean of the last six values
    assert np.allclose(forecast.samples, (np.array([1, 2]) * scale)[:, None, None], rtol=1e-5)
    assert forecast.samples.shape == (2, 3, 2) and forecast.iid
    assert forecast.info == {"model": "sure", "sampler": sampler, "steps": 5, "num_samples": 3, "seed": 0}
    assert [str(s) for s in forecast.starts] == ["2024-01-01 10:00:00"] * 2


def test_joint_particles_are_told_series_by_series():
    one = walk(ts.Aggregate("s1", ["s0"]), walkers=2, num_samples=2, max_batch=4)
    answer = sure(lambda x, window: torch.where(window == 0, 10.0, 1.0).view(-1, 1, 1).expand_as(x))
    told = {"window": one.spread(torch.arange(2))}
    forecast = one.forecast(one.denoiser(answer), answer.schedule, told, 1, "sure")
    assert np.allclose(forecast.samples, 75.0, rtol=1e-5)  # 10 x 7.5 and 1 x 75: the two agree, as was asked
    assert forecast.info["steering"]["satisfied"] == 1.0
