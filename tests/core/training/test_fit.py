"""`fit`: killed and resumed, or spread over processes, it is the same training."""

import csv
import os
import signal
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

from scidiffuse.core import checkpoint
from scidiffuse.core.denoisers import Denoiser
from scidiffuse.core.schedules import VPLinear
from scidiffuse.core.training import Keys, LogitNormal, Objective, Stratified, fit, hardware

pytest.importorskip("lightning")

# One training in a program of its own, with a dropout layer and random crops: argv = folder, resume, kill, devices.
PROGRAM = textwrap.dedent("""
    import os, signal, sys
    import numpy as np
    import torch
    from torch import nn
    from scidiffuse.core.denoisers import Denoiser
    from scidiffuse.core.schedules import VPLinear
    from scidiffuse.core.training import ConditionPerturbation, Objective, Stratified, fit
    torch.set_num_threads(1)
    folder, resume, kill, devices = sys.argv[1], sys.argv[2] == "1", int(sys.argv[3]), int(sys.argv[4])

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.cep = nn.Embedding(4, 8), ConditionPerturbation(1.0)
            self.drop = nn.Dropout(0.2 if devices == 0 else 0.0)
            self.body = nn.Sequential(nn.Linear(14, 16), nn.SiLU(), nn.Linear(16, 5))
        def forward(self, x, t, group):
            c = self.drop(self.cep(self.embed(group)))
            return self.body(torch.cat([x, t[:, None] / 1000, c], 1))

    class Crops:
        def __init__(self):
            self.series = torch.randn(21, 30, generator=torch.Generator().manual_seed(1))
        def __len__(self):
            return len(self.series)
        def draw(self, i, generator):
            start = int(generator.integers(26))
            return {"x": self.series[i, start:start + 5], "condition": {"group": torch.tensor(i % 3)}}

    import lightning.pytorch as pl
    class Kill(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, i):
            if trainer.global_step == kill:
                os.kill(os.getpid(), signal.SIGKILL)

    torch.manual_seed(0 if int(os.environ.get("LOCAL_RANK", 0)) == 0 else 99)
    denoiser = Denoiser(Net(), VPLinear())
    val = [Crops().draw(i, np.random.default_rng(i)) for i in range(7)]
    fit(denoiser, Crops(), max_steps=24, batch_size=8, lr=1e-2, seed=3, val=val,
        val_every=6, save_every=5, log_every=4, out=folder, resume=resume, warmup=4, decay="cosine", ema=0.9,
        objective=Objective(times=Stratified(), dropout=0.3, null={"group": 3}), accelerator="cpu",
        devices=max(1, devices), strategy="ddp" if devices > 1 else "auto", callbacks=[Kill()])
""")


def run(tmp_path, folder, resume=False, kill=-1, devices=0):
    """Train in a new process; its return code."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    arguments = [str(tmp_path / folder), str(int(resume)), str(kill), str(devices)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(program), *arguments],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    assert done.stdout == "" and "Warning" not in done.stderr
    return done.returncode


def tensors(folder):
    return checkpoint.load(folder).tensors


def losses(folder):
    with (folder / "losses.csv").open() as file:
        return list(csv.DictReader(file))


def test_killed_and_resumed_is_bit_for_bit_the_uninterrupted_training(tmp_path):
    assert run(tmp_path, "whole") == 0
    assert run(tmp_path, "killed", kill=13) == -signal.SIGKILL  # in the middle of an epoch, three steps after a save
    left = checkpoint.load(tmp_path / "killed" / "model")
    assert left.tensors.keys() == tensors(tmp_path / "whole" / "model").keys()
    assert run(tmp_path, "killed", resume=True) == 0
    for part in ("model", "best", "state"):
        whole, resumed = tensors(tmp_path / "whole" / part), tensors(tmp_path / "killed" / part)
        assert whole.keys() == resumed.keys()
        for name in whole:
            assert torch.equal(whole[name], resumed[name]), (part, name)
    assert losses(tmp_path / "whole") == losses(tmp_path / "killed")


def test_two_processes_equal_one_with_the_same_global_batch(tmp_path):
    assert run(tmp_path, "one", devices=1) == 0
    assert run(tmp_path, "two", devices=2) == 0
    one, two = tensors(tmp_path / "one" / "model"), tensors(tmp_path / "two" / "model")
    assert one.keys() == two.keys()
    for name in one:
        assert torch.allclose(one[name], two[name], rtol=0, atol=1e-5), name
    for a, b in zip(losses(tmp_path / "one"), losses(tmp_path / "two"), strict=True):
        for column in ("loss", "val_loss"):
            assert bool(a[column]) == bool(b[column])
            if a[column]:
                assert float(a[column]) == pytest.approx(float(b[column]), abs=1e-5)


# -- in this process ---------------------------------------------------------------------------------
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(3, 2)
        self.register_buffer("table", torch.tensor([5, 7]))

    def forward(self, x, t):
        return self.body(torch.cat([x, t[:, None] / 1000], 1))


def toy():
    torch.manual_seed(0)
    return Denoiser(Net(), VPLinear())


DATA = torch.randn(20, 2, generator=torch.Generator().manual_seed(1))
SMALL = {"max_steps": 12, "batch_size": 4, "lr": 1e-2, "log_every": 3, "accelerator": "cpu", "devices": 1}


class Stop(Exception):
    pass


def stopper(hook, step):
    import lightning.pytorch as pl

    def stop(self, trainer, *args):
        if trainer.global_step == step:
            raise Stop

    return type("Stopper", (pl.Callback,), {hook: stop})()


@pytest.mark.parametrize(
    ("hook", "step"),
    [
        ("on_train_batch_start", 1),  # before anything was saved
        ("on_validation_start", 4),  # after the save of a step, before its validation
        ("on_train_batch_start", 8),  # after both
        ("on_train_batch_start", 11),
    ],
)
def test_stopped_anywhere_the_rest_is_the_same(tmp_path, hook, step):
    settings = SMALL | {"val": DATA[:6], "save_every": 4, "val_every": 4}
    whole = fit(toy(), DATA, out=tmp_path / "whole", **settings)
    with pytest.raises(Stop):
        fit(toy(), DATA, out=tmp_path / "b", callbacks=[stopper(hook, step)], **settings)
    rest = fit(toy(), DATA, out=tmp_path / "b", resume=True, **settings)
    assert rest.steps == whole.steps == 12 and rest.best_val == whole.best_val
    for part in ("model", "state", "best"):
        one, two = tensors(tmp_path / "whole" / part), tensors(tmp_path / "b" / part)
        assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    for a, b in zip(whole.history, rest.history, strict=True):
        assert {k: v for k, v in a.items() if k != "val_loss"} == {k: v for k, v in b.items() if k != "val_loss"}


def test_the_average_is_the_stated_recursion():
    weights = []
    import lightning.pytorch as pl

    class Record(pl.Callback):
        def on_train_batch_end(self, trainer, module, *args):
            weights.append(module.network.body.weight.detach().clone())

    denoiser = fit(toy(), DATA, ema=0.5, callbacks=[Record()], **SMALL).denoiser
    average = weights[0]
    for k, weight in enumerate(weights[1:], start=1):
        decay = min(0.5, (1 + k) / (10 + k))
        average = decay * average + (1 - decay) * weight
    assert torch.allclose(denoiser.network.body.weight, average, atol=1e-6)
    assert denoiser.network.table.tolist() == [5, 7] and not denoiser.network.training


def test_without_average_and_without_folder(tmp_path):
    with_out = fit(toy(), DATA, ema=None, out=tmp_path / "a", **SMALL)
    without = fit(toy(), DATA, ema=None, **SMALL)
    assert torch.equal(with_out.denoiser.network.body.weight, without.denoiser.network.body.weight)
    assert torch.equal(tensors(tmp_path / "a" / "model")["body.weight"], without.denoiser.network.body.weight)
    assert [row["step"] for row in without.history] == [3, 6, 9, 12]


def test_fit_is_the_plain_loop():
    """No averaging, no clipping: Lightning adds nothing to SGD on the keyed objective."""
    plain = toy()
    optimizer = torch.optim.SGD(plain.network.parameters(), lr=0.1)
    from scidiffuse.core.training import KeyedBatches

    objective = Objective(times=LogitNormal())
    for _, batch in zip(range(12), KeyedBatches(20, 4, 9), strict=False):
        loss = objective(plain, DATA[[key.sample for key in batch]], Keys(9, tuple(batch), 4)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    denoiser = toy()
    fit(denoiser, DATA, objective=objective, seed=9, ema=None, grad_clip=None, **SMALL,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1))  # fmt: skip
    assert torch.equal(denoiser.network.body.weight, plain.network.body.weight)


def test_gradient_clipping_bounds_the_step():
    before = toy().network.body.weight.detach()
    settings = SMALL | {"max_steps": 1}
    denoiser = fit(toy(), 100 * DATA, ema=None, grad_clip=1e-3, **settings,
                   optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1.0)).denoiser  # fmt: skip
    moved = (denoiser.network.body.weight.detach() - before).norm()
    assert 0 < float(moved) <= 1e-3 + 1e-6


def test_longer_training_goes_on(tmp_path):
    whole = fit(toy(), DATA, **SMALL).denoiser
    fit(toy(), DATA, out=tmp_path / "a", **(SMALL | {"max_steps": 7}))
    longer = fit(toy(), DATA, out=tmp_path / "a", resume=True, **SMALL)
    assert torch.equal(longer.denoiser.network.body.weight, whole.network.body.weight)
    again = fit(toy(), DATA, out=tmp_path / "a", resume=True, **SMALL)  # nothing left to do: the trained weights, still
    assert again.steps == 12 and torch.equal(again.denoiser.network.body.weight, whole.network.body.weight)


def test_model_folder_holds_what_it_was_given(tmp_path):
    fit(toy(), DATA, out=tmp_path, kind="Toy", config={"width": 2}, extra={"scale": torch.ones(2)}, **SMALL)
    read = checkpoint.load(tmp_path / "model", kind="Toy")
    assert read.config == {"width": 2} and torch.equal(read.extra["scale"], torch.ones(2))
    read.load_into(Net())


def test_a_loss_that_explodes_stops_and_keeps_the_last_checkpoint(tmp_path):
    def objective(denoiser, batch, keys, *, training):
        loss = Objective()(denoiser, batch, keys, training=training)
        return loss * (float("nan") if any(key.epoch >= 1 for key in keys.keys) else 1.0)

    with pytest.raises(FloatingPointError, match=r"loss became nan .* before step 6 .*of step 4, is kept"):
        fit(toy(), DATA, objective=objective, out=tmp_path, save_every=4, **SMALL)
    assert all(bool(v.isfinite().all()) for v in tensors(tmp_path / "model").values())


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"max_steps": 0}, "max_steps must be at least 1"),
        ({"batch_size": 0}, "batch_size"),
        ({"lr": -1.0}, "lr must be positive"),
        ({"lr": float("inf")}, "lr must be positive"),
        ({"ema": 1.0}, "ema"),
        ({"grad_clip": 0.0}, "grad_clip"),
        ({"decay": "linear"}, "'linear'"),
        ({"data": DATA[:0]}, "data set is empty"),
        ({"val": []}, "validation set is empty"),
        ({"save_every": 0}, "save_every"),
        ({"resume": True}, "needs the folder"),
    ],
)
def test_bad_settings(change, match):
    with pytest.raises(ValueError, match=match):
        fit(**({"denoiser": toy(), "data": DATA} | SMALL | change))


def test_bad_folders_and_networks(tmp_path):
    fit(toy(), DATA, out=tmp_path, **SMALL)
    with pytest.raises(ValueError, match="holds a training already"):
        fit(toy(), DATA, out=tmp_path, **SMALL)
    with pytest.raises(ValueError, match="seed: 0 then, 1 now"):
        fit(toy(), DATA, out=tmp_path, resume=True, seed=1, **SMALL)
    with pytest.raises(TypeError, match="function"):
        fit(Denoiser(lambda x, t: x, VPLinear()), DATA, **SMALL)


def test_without_lightning(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning", None)
    with pytest.raises(ImportError, match=r'pip install "scidiffuse\[train\]"'):
        fit(toy(), DATA, **SMALL)
    assert Stratified() is not None  # the rest of the package does not need it


@pytest.mark.parametrize(
    ("given", "devices"), [("auto", "auto"), ("4", 4), ("0,2", [0, 2]), ("3,", [3]), (2, 2), ([1, 0], [1, 0])]
)
def test_hardware(given, devices):
    options = hardware(given, 2, "ddp")
    assert options["devices"] == devices and options["num_nodes"] == 2 and options["strategy"] == "ddp"


@pytest.mark.parametrize("given", ["all", "0.5", "", "0", 0])
def test_bad_hardware(given):
    with pytest.raises(ValueError, match="devices"):
        hardware(given)


def test_dropout_layers_are_keyed_by_the_step():
    """New masks in every step, the same whatever the global generator's state, which is left as it was."""

    def train(state):
        masks = []

        class Dropping(Net):
            def forward(self, x, t):
                masks.append(nn.functional.dropout(torch.ones(64), 0.5, self.training))
                return super().forward(x, t)

        torch.manual_seed(0)
        denoiser = Denoiser(Dropping(), VPLinear())
        torch.manual_seed(state)
        before = torch.get_rng_state()
        fit(denoiser, DATA, **SMALL)
        assert torch.equal(torch.get_rng_state(), before)
        return torch.stack(masks)

    one, two = train(1), train(2)
    assert len(one) == 12 and torch.equal(one, two) and len(one.unique(dim=0)) == 12


def test_tokens_have_an_objective_of_their_own() -> None:
    from scidiffuse.core.discrete import Masked, TokenDenoiser
    from scidiffuse.core.networks import TokenTransformer

    denoiser = TokenDenoiser(TokenTransformer(4, 8, 1, 2, time=None), Masked(4))
    result = fit(denoiser, torch.randint(0, 3, (16, 5)), max_steps=2, batch_size=4)
    assert result.steps == 2
