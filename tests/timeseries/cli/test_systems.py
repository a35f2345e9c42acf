"""The other systems through every verb that they have: covariates of TSDiffCond, joint series of CSDI."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from scidiffuse import timeseries as ts
from scidiffuse.timeseries.cli.options import covariates_of
from scidiffuse.timeseries.models import load_model

FEW = ["--num-samples", 4, "--steps", 5, "--no-progress"]


@pytest.fixture(scope="module")
def priced(table, tmp_path_factory):
    """Data with a covariate, and a file with the covariate of the 6 hours that follow."""
    folder = tmp_path_factory.mktemp("priced")
    frame = table(n=156)
    frame["price"] = np.tile(np.arange(156) % 7 * 1.0, 2)
    rows = frame.groupby("unique_id", group_keys=False)
    rows.head(150).to_csv(folder / "data.csv", index=False)
    rows.tail(6).drop(columns="y").to_csv(folder / "future.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def conditional(priced, call, tiny):
    words = ["fit", priced / "data.csv", "--out", priced / "run", "--system", "tsdiff-cond", "--covariates", "price"]
    call(*words, *tiny, "--max-steps", 2, "--holdout", 12)
    return priced / "run"


@pytest.fixture(scope="module")
def joint(data, tmp_path_factory, call):
    out = tmp_path_factory.mktemp("csdi") / "run"
    words = ["--context-length", 24, "--horizon", 6, "--channels", 8, "--heads", 2, "--layers", 1, "--batch-size", 4]
    call("fit", data, "--out", out, "--system", "csdi", *words, "--max-steps", 2, "--holdout", 12, "--no-progress")
    return out


def test_covariates_of_the_data_and_of_the_file_reach_the_model(priced, conditional, tmp_path, call):
    model = load_model(conditional)
    assert type(model) is ts.TSDiffCond and model.config.covariates == ("price",)
    words = ["forecast", priced / "data.csv", "--model", conditional, *FEW, "--out", tmp_path / "f.npz"]
    call(*words, "--covariates-file", priced / "future.csv")
    frame, future = ts.load(priced / "data.csv"), pd.read_csv(priced / "future.csv", parse_dates=["ds"])
    expected = model.forecast(frame, covariates=future, num_samples=4, steps=5, seed=0)
    assert np.array_equal(ts.Forecast.load(tmp_path / "f.npz").samples, expected.samples)
    call(*words, "--covariates-file", priced / "future.csv", "--steer", "lower=-1e9", "--walkers", 2)
    assert ts.Forecast.load(tmp_path / "f.npz").info["steering"]["satisfied"] == 1


def test_what_covariates_lack_is_said(priced, conditional, data, trained, tmp_path, call):
    words = ["forecast", priced / "data.csv", "--model", conditional, *FEW, "--out", tmp_path / "f.csv"]
    assert "does not cover the horizon" in call(*words, code=1) and "--covariates-file" in call(*words, code=1)
    assert "data lack the columns price" in call("forecast", data, *words[2:], code=1)
    future = pd.read_csv(priced / "future.csv").drop(columns="price")
    future.to_csv(tmp_path / "empty.csv", index=False)
    assert "file lack the columns price" in call(*words, "--covariates-file", tmp_path / "empty.csv", code=1)
    plain = ["forecast", data, "--model", trained, "--out", tmp_path / "f.csv"]
    assert "has no covariates" in call(*plain, "--covariates-file", priced / "future.csv", code=1)
    assert "have no --guidance or --scale" in call(*words, "--scale", 2, code=1)
    fit = ["fit", data, "--out", tmp_path / "x", "--no-progress"]
    assert "--system tsdiff has no --covariates" in call(*fit, "--covariates", "price", code=1)
    assert "data lack the columns price" in call(*fit, "--system", "tsdiff-cond", "--covariates", "price", code=1)


def test_conditional_models_are_scored_with_their_covariates(priced, conditional, tmp_path, call):
    call("evaluate", priced / "data.csv", "--model", conditional, *FEW, "--windows", 1, "--out", tmp_path)
    assert "TSDiffCond, 4 paths" in json.loads((tmp_path / "metrics.json").read_text())["scores"]
    assert "which its windows need" in call("sample", "--model", conditional, "--out", tmp_path / "w.npz", code=1)
    gappy = pd.read_csv(priced / "data.csv")
    gappy.loc[60:67, "y"] = np.nan
    gappy.to_csv(tmp_path / "gappy.csv", index=False)
    call("impute", tmp_path / "gappy.csv", "--model", conditional, *FEW, "--out", tmp_path / "g.csv")
    assert len(pd.read_csv(tmp_path / "g.csv")) == 8
    refine = ["refine", "random-walk", priced / "data.csv", "--model", conditional, "--out", tmp_path / "r.csv"]
    assert "train a TSDiff" in call(*refine, code=1)


def test_every_verb_reads_a_file_of_covariates(priced, conditional, tmp_path, call, tiny):
    """The data without their covariate, which stands in a file: the answers are those of both together."""
    whole = pd.read_csv(priced / "data.csv")
    gone = (whole["unique_id"] == "a") & whole.groupby("unique_id").cumcount().between(60, 67)
    whole.loc[gone, "y"] = np.nan
    whole.to_csv(tmp_path / "whole.csv", index=False)
    whole.drop(columns="price").to_csv(tmp_path / "bare.csv", index=False)
    whole.drop(columns="y").to_csv(tmp_path / "price.csv", index=False)
    few = ["--model", conditional, *FEW]
    found = {}
    for name, extra in {"whole": [], "bare": ["--covariates-file", tmp_path / "price.csv"]}.items():
        data, out = tmp_path / f"{name}.csv", tmp_path / name
        call("impute", data, *few, *extra, "--out", tmp_path / "g.csv")
        call("evaluate", data, *few, *extra, "--windows", 1, "--out", out / "scores")
        words = ["--windows", 1, "--refit", "--max-steps", 1, "--batch-size", 4]
        call("backtest", data, *few, *extra, *words, "--out", out / "test")
        fit = ["fit", data, *extra, "--out", out / "run", "--system", "tsdiff-cond", "--covariates", "price", *tiny]
        call(*fit, "--max-steps", 2)
        found[name] = [
            (tmp_path / "g.csv").read_text(),
            (out / "scores" / "per_horizon.csv").read_text(),
            (out / "test" / "forecasts.csv").read_text(),
            load_model(out / "run").data,
        ]
    assert found["bare"] == found["whole"]


@pytest.mark.parametrize("verb", ["impute", "evaluate", "backtest"])
def test_a_file_of_covariates_for_a_model_without_is_refused(verb, priced, table, trained, tmp_path, call):
    data = tmp_path / "data.csv"
    table().assign(y=lambda rows: rows["y"].where(rows.index != 50)).to_csv(data, index=False)
    out = tmp_path / ("x.csv" if verb == "impute" else "x")
    words = [verb, data, "--model", trained, "--out", out, "--covariates-file", priced / "future.csv"]
    assert "has no covariates" in call(*words, code=1)


def test_refit_trains_on_what_lies_before_each_cutoff(priced, conditional, tmp_path, call, monkeypatch):
    seen = []
    usual = ts.TSDiffCond.fit

    def fit(self, panel, **settings):
        seen.append((str(max(panel.end(i) for i in range(len(panel)))), settings["max_steps"], self.config))
        return usual(self, panel, **settings)

    monkeypatch.setattr(ts.TSDiffCond, "fit", fit)
    words = ["--refit", "--max-steps", 1, "--batch-size", 4, "--lr", "0.01", "--windows", 2, "--out", tmp_path]
    call("backtest", priced / "data.csv", "--model", conditional, *FEW, *words)
    told = json.loads((tmp_path / "metrics.json").read_text())
    assert [end for end, _, _ in seen] == told["cutoffs"] and [n for _, n, _ in seen] == [1, 1]
    assert all(config == load_model(conditional).config for *_, config in seen)
    assert told["refit"]["lr"] == 0.01 and told["in_training_period"] == 0
    assert "TSDiffCond-lo-80" in pd.read_csv(tmp_path / "forecasts.csv")


def test_joint_models_forecast_impute_and_sample(data, joint, table, tmp_path, call):
    model = load_model(joint)
    assert type(model) is ts.CSDI
    words = ["--model", joint, *FEW]
    call("forecast", data, *words, "--out", tmp_path / "f.npz")
    expected = model.forecast(ts.load(data), num_samples=4, steps=5, seed=0)
    assert np.array_equal(ts.Forecast.load(tmp_path / "f.npz").samples, expected.samples)
    text = call("forecast", data, *words, "--steer", "total(a,b)>=-1e9", "--walkers", 2, "--out", tmp_path / "f.npz")
    assert "all series: ln Z = " in text
    gappy = table()
    gappy.loc[50:57, "y"] = np.nan
    gappy.to_csv(tmp_path / "gappy.csv", index=False)
    call("impute", tmp_path / "gappy.csv", *words, "--out", tmp_path / "g.csv")
    assert len(pd.read_csv(tmp_path / "g.csv")) == 8
    windows = ["sample", "-n", 3, "--model", joint, "--steps", 2, "--no-progress"]
    call(*windows, "--out", tmp_path / "w.npz")
    call(*windows, "--out", tmp_path / "w.csv")
    with np.load(tmp_path / "w.npz", allow_pickle=False) as read:
        assert read["windows"].shape == (3, 2, 30) and read["unique_id"].tolist() == ["a", "b"]
        long = pd.read_csv(tmp_path / "w.csv")
        one = long[(long["window"] == 1) & (long["unique_id"] == "b")].sort_values("step")
        assert np.allclose(one["y"], read["windows"][1, 1])
    assert "--report is for windows" in call(*windows, "--report", data, code=1)
    refine = ["refine", "random-walk", data, "--model", joint, "--out", tmp_path / "r.csv"]
    assert "which CSDI, a conditional model, does not say: train a TSDiff" in call(*refine, code=1)


def test_joint_models_are_scored(data, joint, tmp_path, call):
    text = call("backtest", data, "--model", joint, *FEW, "--windows", 2, "--out", tmp_path)
    assert "CSDI, 4 paths" in text and "random walk" in text
    assert len(pd.read_csv(tmp_path / "forecasts.csv")) == 24


def test_a_file_of_covariates_goes_before_the_data_cell_by_cell(tmp_path):
    ds = pd.date_range("2024-01-01", periods=3, freq="h")
    frame = pd.DataFrame({"unique_id": "a", "ds": ds, "y": 1.0, "price": [1.0, 2.0, 3.0]})
    config = SimpleNamespace(covariates=("price",))
    file = tmp_path / "price.csv"
    pd.DataFrame({"unique_id": "a", "ds": ds + pd.Timedelta("1h"), "price": [9.0, np.nan, 7.0]}).to_csv(
        file, index=False
    )
    found = covariates_of(config, frame, file)
    assert found["ds"].tolist() == pd.date_range(ds[0], periods=4, freq="h").tolist()
    assert found["price"].tolist() == [1.0, 9.0, 3.0, 7.0]
    pd.DataFrame({"unique_id": "a", "ds": ds[[0, 0]], "price": [8.0, 9.0]}).to_csv(file, index=False)
    with pytest.raises(ValueError, match="--covariates-file: series 'a' has two rows at 2024-01-01"):
        covariates_of(config, frame, file)
