"""Importance-sampled steps: unbiased, of lower variance, part of a training's state."""

import pytest
import torch
from torch import nn

from scidiffuse.core import checkpoint
from scidiffuse.core.discrete import Masked, MaskUniform, TokenDenoiser
from scidiffuse.core.discrete.losses import discrete_elbo
from scidiffuse.core.discrete.objective import TokenObjective
from scidiffuse.core.discrete.step_times import ImportanceObjective, StepTimes
from scidiffuse.core.training import Discrete, Keys, fit

K, L = 3, 4
X = torch.randint(K, (12, L), generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    """Logits of each token from the token and the time."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(K + 1, K + 1)

    def forward(self, x, t):
        return self.table(x) * (1 + t[:, None, None].float() / 1000)


def toy(process=None):
    torch.manual_seed(0)
    return TokenDenoiser(Net(), process or Masked(K + 1))


def grid(n):
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


def seen(times, loss, rounds=11):
    """`times` after every step was seen `rounds` times with its loss."""
    for _ in range(rounds):
        times.update(torch.arange(1, times.T + 1), loss)
    return times


LOSS = torch.tensor([5.0, 1.0, 0.5, 0.25, 0.0, 3.0], dtype=torch.float64)


def test_uniform_until_every_step_was_seen_more_than_ten_times():
    times = seen(StepTimes(6), LOSS, 10)
    assert not times.ready and torch.equal(times.probs(), torch.full((6,), 1 / 6, dtype=torch.float64))
    times.update(torch.arange(1, 6), LOSS[:5])
    assert not times.ready
    times.update(torch.tensor([6]), LOSS[5:])
    assert times.ready and times.counts.tolist() == [11] * 6
    step, factor = StepTimes(6).draw(grid(12))
    assert step.tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6] and torch.allclose(factor, torch.ones(12).double())


def test_history_is_the_stated_recursion():
    """A step that occurs twice in a batch adds the mean of its squares, once."""
    times = StepTimes(3, rate=0.25)
    times.update(torch.tensor([1, 3, 3]), torch.tensor([2.0, 1.0, 3.0]))
    assert times.history.tolist() == [1.0, 0.0, 1.25] and times.counts.tolist() == [1, 0, 2]
    times.update(torch.tensor([3, 2, 3]), torch.tensor([3.0, -4.0, 1.0]))
    assert times.history.tolist() == [1.0, 4.0, 0.75 * 1.25 + 1.25]
    order = StepTimes(3, rate=0.25)
    order.update(torch.tensor([3, 1, 3]), torch.tensor([3.0, 2.0, 1.0]))
    order.update(torch.tensor([2, 3, 3]), torch.tensor([-4.0, 1.0, 3.0]))
    assert torch.equal(order.history, times.history)


def test_processes_share_what_they_saw(monkeypatch):
    """Sums of squares and counts are added over processes: here a second one that saw the same."""
    alone, shared = StepTimes(3), StepTimes(3)
    alone.update(torch.tensor([1, 3]), torch.tensor([2.0, 1.0]))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda sums: sums.mul_(2))
    shared.update(torch.tensor([1, 3]), torch.tensor([2.0, 1.0]))
    assert torch.equal(alone.history, shared.history) and shared.counts.tolist() == [2, 0, 2]


def test_probabilities():
    times = seen(StepTimes(6, floor=0.1), LOSS)
    assert torch.allclose(times.probs(), 0.9 * LOSS / LOSS.sum() + 0.1 / 6)
    assert float(1 / (6 * times.probs()).min()) <= 10 + 1e-9  # no loss is multiplied by more than 1 / floor
    assert torch.equal(seen(StepTimes(6), 0 * LOSS).probs(), torch.full((6,), 1 / 6, dtype=torch.float64))


def test_losses_that_are_not_finite_leave_no_trace():
    """One nan would stay in the history for ever, and the steps uniform."""
    times, clean = seen(StepTimes(6), LOSS), seen(StepTimes(6), LOSS)
    for bad in (float("nan"), float("inf"), -float("inf"), 1e200):  # the last one's square
        times.update(torch.tensor([2, 3, 2]), torch.tensor([bad, 1.0, 2.0], dtype=torch.float64))
        clean.update(torch.tensor([3, 2]), torch.tensor([1.0, 2.0], dtype=torch.float64))
    assert torch.equal(times.history, clean.history) and torch.equal(times.counts, clean.counts)
    assert torch.equal(times.probs(), clean.probs()) and float(times.probs().max()) > 1 / 6
    never = seen(StepTimes(6), LOSS * float("nan"))
    assert int(never.counts.sum()) == 0 and torch.equal(never.probs(), torch.full((6,), 1 / 6, dtype=torch.float64))


def test_unbiased_and_of_lower_variance():
    """A loss that is known: L_k (1 + noise). The mean stays, the variance falls to nearly the least possible."""
    g = torch.Generator().manual_seed(0)
    times = seen(StepTimes(6), LOSS, 30)
    n = 200_000
    u = torch.rand(n, generator=g, dtype=torch.float64)
    noise = 1 + 0.3 * torch.randn(n, generator=g, dtype=torch.float64)
    step, factor = times.draw(u)
    weighted = factor * LOSS[step - 1] * noise
    plain = LOSS[(6 * u).long()] * noise
    mean = float(LOSS.mean())
    for each in (weighted, plain):
        assert abs(float(each.mean()) - mean) < 4.5 * float(each.std()) / n**0.5
    least = float(LOSS.mean() ** 2) * 1.09 - mean**2  # p ~ |L|: only the noise is left
    assert float(weighted.var()) < 1.3 * least < 0.2 * float(plain.var())
    step, factor = times.draw(grid(100_000))  # without chance: quadrature over u
    assert abs(float((factor * LOSS[step - 1]).mean()) - mean) < 1e-3


def test_objective_is_the_mean_over_uniform_steps():
    """With steps by importance, the same expectation as with uniform ones: all (step, u) pairs of one sample."""
    process = MaskUniform(K + 1)
    denoiser = toy(process)
    objective = ImportanceObjective(TokenObjective("discrete", T=4, auxiliary=0.05), floor=0.3)
    seen(objective.times, torch.tensor([4.0, 1.0, 1.0, 0.1]))
    frozen = objective.times.probs().clone()
    n = 4000
    x = X[:1].expand(n, L)
    with torch.no_grad():
        keys = Keys.of(0, 0, range(n))
        loss = objective(denoiser, x, keys)
        assert not torch.equal(objective.times.probs(), frozen)  # it goes on learning
        uniform = torch.cat(
            [discrete_elbo(denoiser, x, torch.full((n,), k), 4, noise=keys.noise, auxiliary=0.05) for k in (1, 2, 3, 4)]
        )
    error = float(loss.std()) / n**0.5
    assert abs(float(loss.mean()) - float(uniform.mean())) < 4.5 * error < 0.2 * float(uniform.mean())


def test_validation_is_at_uniform_steps_and_leaves_no_trace():
    denoiser, inner = toy(), TokenObjective("discrete", T=4)
    objective = ImportanceObjective(inner)
    seen(objective.times, torch.tensor([4.0, 1.0, 1.0, 0.1]))
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    keys = Keys.of(0, 0, range(12))
    assert torch.equal(objective(denoiser, X, keys, training=False), inner(denoiser, X, keys, training=False))
    assert all(torch.equal(value, before[name]) for name, value in objective.state_dict().items())
    assert set(before) == {"times.history", "times.counts"} and not list(objective.parameters())


def test_history_survives_a_stop(tmp_path):
    """Saved in state/ and read from there by new objects, the training goes on with the same steps."""
    pl = pytest.importorskip("lightning.pytorch")

    class Stop(pl.Callback):
        def on_train_batch_start(self, trainer, *args):
            if trainer.global_step == 7:
                raise InterruptedError

    def train(folder, **options):
        objective = ImportanceObjective(TokenObjective("discrete", T=3), seen=1)
        fit(toy(), X, objective=objective, out=tmp_path / folder, max_steps=12, batch_size=4, lr=1e-2, val=X[:6],
            save_every=4, log_every=3, accelerator="cpu", devices=1, **options)  # fmt: skip
        return objective.times

    whole = train("whole")
    with pytest.raises(InterruptedError):
        train("b", callbacks=[Stop()])
    rest = train("b", resume=True)
    assert whole.ready and int(whole.counts.sum()) == 12 * 4
    assert torch.equal(whole.history, rest.history) and torch.equal(whole.counts, rest.counts)
    for part in ("model", "state", "best"):
        one, two = (checkpoint.load(tmp_path / name / part).tensors for name in ("whole", "b"))
        assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one), part
        counts = [value for value in one.values() if value.dtype == torch.long and torch.equal(value, whole.counts)]
        assert bool(counts) == (part == "state")


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: StepTimes(0), ValueError, "got 0"),
        (lambda: StepTimes(4, rate=0.0), ValueError, "rate"),
        (lambda: StepTimes(4, floor=0.0), ValueError, "floor"),
        (lambda: ImportanceObjective(TokenObjective()), ValueError, "importance is that of steps"),
        (
            lambda: ImportanceObjective(TokenObjective("discrete", T=4, times=Discrete(4))),
            ValueError,
            "leave out times",
        ),
        (lambda: ImportanceObjective(StepTimes(4)), TypeError, "StepTimes"),
    ],
)
def test_refusals(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_repr():
    text = repr(ImportanceObjective(TokenObjective("discrete", T=4)))
    assert "StepTimes(T=4" in text
