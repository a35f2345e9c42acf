"""Contrastive terms: negatives are negatives, the term is the formula, and it is bounded with its gradient."""

import math

import pytest
import torch

from scidiffuse.core.discrete import Marginal, Masked, MaskUniform, TokenDenoiser, Uniform
from scidiffuse.core.discrete.asked import ask
from scidiffuse.core.discrete.contrastive import (
    ContrastiveObjective,
    bounded_contrast,
    other_samples,
    shuffled_chunks,
)
from scidiffuse.core.discrete.losses import step_divergence, token_nll
from scidiffuse.core.discrete.objective import TokenObjective
from scidiffuse.core.discrete.step_times import ImportanceObjective
from scidiffuse.core.training import Keys

K, L, B = 5, 8, 6
X = torch.randint(K, (B, L), generator=torch.Generator().manual_seed(1))
KEYS = Keys.of(3, 1, range(B))
PROCESSES = [MaskUniform(K + 1, uniform=0.3), Masked(K + 1), Uniform(K), Marginal(probs=(0.3, 0.3, 0.2, 0.1, 0.1))]
every_process = pytest.mark.parametrize("process", PROCESSES, ids=["mask-uniform", "masked", "uniform", "marginal"])


def arbitrary(process, seed=0):
    logits = torch.randn(B, L, process.states, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return TokenDenoiser(lambda x, t: logits, process), logits


# ---------------------------------------------------------------------- negatives
def test_shuffles_are_all_orders_but_the_present_one_equally_often():
    x0 = torch.arange(4)[None]
    n = 23 * 200
    u = ((torch.arange(n, dtype=torch.float64) + 0.5) / n)[None]
    orders = shuffled_chunks(x0, u, chunks=4)[0]
    found, counts = orders.unique(dim=0, return_counts=True)
    assert len(found) == 23 and bool((counts == 200).all())
    assert not bool((orders == x0).all(1).any())
    edge = shuffled_chunks(torch.arange(18)[None], torch.tensor([[1e-300, 1.0 - 2.0**-53]], dtype=torch.float64), 18)[0]
    assert bool((edge.sort(1).values == torch.arange(18)).all()) and not bool((edge == torch.arange(18)).all(1).any())


def test_chunks_stay_together():
    u = torch.rand(1, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    out = shuffled_chunks(torch.arange(16)[None], u)[0]
    pairs = out.reshape(50, 8, 2)
    assert bool((pairs[..., 1] == pairs[..., 0] + 1).all()) and bool((pairs[..., 0] % 2 == 0).all())
    uneven = shuffled_chunks(torch.arange(11)[None], u, chunks=3)[0]  # chunks 0-3, 4-7, 8-10
    for row in uneven.tolist():
        starts = [row.index(k) for k in (0, 4, 8)]
        assert [row[i : i + n] for i, n in zip(starts, (4, 4, 3), strict=True)] == [
            [0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]
        ]  # fmt: skip


def test_padding_is_not_shuffled_and_does_not_change_the_shuffle():
    u = torch.rand(2, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x0 = torch.arange(8).repeat(2, 1)
    real = torch.ones(2, 11, dtype=torch.bool)
    real[:, [0, 4, 10]] = False
    padded = torch.full((2, 11), 99)
    padded[real] = x0.flatten()
    out = shuffled_chunks(padded, u, 4, real)
    assert torch.equal(out[:, :, real[0]], shuffled_chunks(x0, u, 4)) and bool((out[:, :, ~real[0]] == 99).all())


def test_other_samples_are_others_and_none_twice():
    u = torch.rand(B, B - 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x0 = torch.arange(B)[:, None].expand(B, L)
    out = other_samples(x0, u, B - 1)[..., 0]
    assert all(set(row.tolist()) == set(range(B)) - {i} for i, row in enumerate(out))
    assert torch.equal(other_samples(x0, u, 2)[..., 0], out[:, :2])
    with pytest.raises(ValueError, match="batch of at least 7, this one has 6"):
        other_samples(x0, u, 6)


# ---------------------------------------------------------------------- the term
@every_process
def test_the_term_is_the_formula(process):
    denoiser, _ = arbitrary(process)
    t = torch.linspace(0.3, 0.8, B, dtype=torch.float64)
    asked = ask(denoiser, X, t, noise=KEYS.noise)
    z = shuffled_chunks(X, KEYS.uniforms("z", 3), 4)
    s = t - 0.1
    undecided = asked.pred.x == process.mask if isinstance(process, Masked) else torch.ones_like(X, dtype=torch.bool)
    for how in (s, None):
        cost = [
            token_nll(asked.pred, z[:, k]) if how is None else step_divergence(asked.pred, z[:, k], s) for k in range(3)
        ]
        free = sum(c.mean(1) for c in cost) / 3
        counted = torch.stack([((z[:, k] != X) & undecided).any(1) for k in range(3)], 1)
        assert bool(counted.any(0).all())
        expected = sum(torch.where(counted[:, k], c.mean(1), 0.0) for k, c in enumerate(cost)) / 3
        assert torch.allclose(bounded_contrast(asked, z, how, bound=1e9), expected)
        assert bool((expected <= free + 1e-12).all())
    if not isinstance(process, Masked):
        return
    masked = (asked.pred.x == process.mask).double()
    nll = -(denoiser.network(X, t)[..., :K].log_softmax(-1).gather(-1, z[:, 0, :, None])).squeeze(-1)
    assert torch.allclose(step_divergence(asked.pred, z[:, 0], s), masked * nll * (0.1 / t)[:, None])


@every_process
@pytest.mark.parametrize("stepwise", [True, False])
@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0])
def test_value_and_gradient_are_those_of_the_minimum_written_out(process, stepwise, scale):
    """One graph a negative, as the formula stands; at scale 0 and bound 1 all negatives cost exactly the bound."""
    logits = scale * torch.randn(B, L, process.states, generator=torch.Generator().manual_seed(5)).double()
    t = torch.tensor([0.05, 0.2, 0.3, 0.6, 0.8, 1.0], dtype=torch.float64)
    s = torch.cat([torch.zeros(1).double(), t[1:] - 0.1]) if stepwise else None  # the first sample's first step
    z = torch.cat([shuffled_chunks(X, KEYS.uniforms("z", 3), 4), X[:, None]], 1)
    real = torch.ones(B, L, dtype=torch.bool)
    real[:, -2:] = False
    both = []
    for written_out in (True, False):
        leaf = logits.clone().requires_grad_()
        asked = ask(TokenDenoiser(lambda x, t, leaf=leaf: 1.0 * leaf, process), X, t, noise=KEYS.noise, mask=real)
        if not written_out:
            value = bounded_contrast(asked, z, s, bound=1.0)
        else:
            blind = asked.pred.with_log_probs(process.log_probs(0.0 * leaf.detach(), asked.pred.x))
            undecided = asked.counts & (asked.pred.x == process.mask) if isinstance(process, Masked) else asked.counts
            value = 0.0
            for one in z.unbind(1):
                cost, limit = (
                    asked.mean(token_nll(p, one) if s is None else step_divergence(p, one, s))
                    for p in (asked.pred, blind)
                )
                differs = ((one != X) & undecided).any(1)
                value = value + torch.where(differs, torch.minimum(cost, limit), 0.0) / 4
        (value * torch.arange(1.0, B + 1)).sum().backward()
        both.append((value.detach(), leaf.grad))
    torch.testing.assert_close(*both, rtol=1e-12, atol=1e-14)
    assert float(both[0][0].min()) >= 0 and float(both[0][1].abs().max()) > 0


@every_process
def test_negatives_that_are_the_data_count_nothing(process):
    denoiser, _ = arbitrary(process)
    asked = ask(denoiser, X, torch.full((B,), 0.9).double(), noise=KEYS.noise)
    same = X[:, None].expand(B, 3, L)
    assert bool((bounded_contrast(asked, same) == 0).all())
    mixed = torch.stack([X, (X + 1) % K, X], 1)
    one = bounded_contrast(asked, ((X + 1) % K)[:, None])
    assert bool((one > 0).all()) and torch.allclose(bounded_contrast(asked, mixed), one / 3)


@every_process
@pytest.mark.parametrize("stepwise", [True, False])
def test_the_term_and_its_gradient_are_bounded(process, stepwise):
    """Making a negative ever more impossible gains nothing beyond `bound` blind guesses."""
    t = torch.full((B,), 0.8, dtype=torch.float64)
    s = t - 0.2 if stepwise else None
    z = ((X + 1) % K)[:, None]
    values, gradients = [], []
    for strength in (0.0, 0.5, 50.0, 500.0):
        logits = torch.zeros(B, L, process.states, dtype=torch.float64).scatter(-1, z[:, 0, :, None], -strength)
        logits.requires_grad_()
        asked = ask(TokenDenoiser(lambda x, t, logits=logits: logits, process), X, t, noise=KEYS.noise)
        value = bounded_contrast(asked, z, s)
        value.sum().backward()
        values.append(value.detach())
        gradients.append(logits.grad.abs().sum())
    blind = values[0]  # what an untrained network pays
    assert bool((blind > 0).all()) and float(gradients[0]) > 0 and float(gradients[1]) > 0
    assert bool((values[1] > values[0]).all())
    if not stepwise or isinstance(process, Masked):
        assert torch.allclose(values[2], 2 * blind) and torch.allclose(values[3], 2 * blind)
        assert float(gradients[2]) == 0.0 == float(gradients[3])
    assert bool((values[3] <= 2 * blind + 1e-12).all())


# ---------------------------------------------------------------------- the objective
@every_process
def test_the_objective_adds_the_terms_to_the_bound(process):
    denoiser, _ = arbitrary(process)
    plain = TokenObjective("discrete", T=10, auxiliary=0.01)
    none = ContrastiveObjective(T=10, auxiliary=0.01, step=0.0, sample=0.0)
    assert torch.equal(plain(denoiser, X, KEYS), none(denoiser, X, KEYS))
    step = ((torch.arange(B) + KEYS.uniforms("time")[:, 0]) / B * 10).floor().long() + 1
    asked = ask(denoiser, X, step / 10, noise=KEYS.noise)
    s = (step - 1) / 10
    intra = shuffled_chunks(X, KEYS.uniforms("negatives/step", 3), 4)
    inter = other_samples(X, KEYS.uniforms("negatives/sample", B - 1), 3)
    both = ContrastiveObjective(T=10, auxiliary=0.01, step=0.2, sample=0.1, negatives=3, chunks=4)
    expected = plain(denoiser, X, KEYS) - 10 * (1 + s) * (
        0.2 * bounded_contrast(asked, intra, s.double()) + 0.1 * bounded_contrast(asked, inter)
    )
    assert torch.allclose(both(denoiser, X, KEYS), expected)
    swapped = ContrastiveObjective(
        T=10, step=0.2, sample=0.0, step_negatives="inter", negatives=2
    )  # fmt: skip
    assert not torch.allclose(swapped(denoiser, X, KEYS), TokenObjective("discrete", T=10)(denoiser, X, KEYS))


@every_process
def test_the_loss_has_a_lower_bound_that_the_published_one_has_not(process):
    """Gradient descent on logits with a large weight: it settles; without the bound it goes on falling."""

    def descend(bound):
        logits = torch.zeros(B, L, process.states, dtype=torch.float64, requires_grad=True)
        denoiser = TokenDenoiser(lambda x, t: logits, process)
        objective = ContrastiveObjective(T=4, step=0.0, sample=1.0, negatives=3, bound=bound)
        optimizer = torch.optim.SGD([logits], lr=20.0)
        losses = []
        for _ in range(100):
            loss = objective(denoiser, X, KEYS).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        return losses

    bounded, free = descend(2.0), descend(1e12)
    floor = -4 * 2 * 2 * math.log(process.states)  # -T w (1 + (k - 1)/T) bound log S, at most
    assert min(bounded) > floor and math.isfinite(bounded[-1])
    assert free[-1] < floor and free[-1] < free[50] - 1


def test_with_importance_and_in_any_batch_of_the_same_samples():
    process = MaskUniform(K + 1)
    denoiser, _ = arbitrary(process)
    objective = ImportanceObjective(ContrastiveObjective(T=4, negatives=3))
    loss = objective(denoiser, X, KEYS)
    assert loss.shape == (B,) and bool(torch.isfinite(loss).all()) and int(objective.times.counts.sum()) == B
    again = ImportanceObjective(ContrastiveObjective(T=4, negatives=3))(denoiser, X, KEYS)
    assert torch.equal(loss, again)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"T": None}, "T=None"),
        ({"loss": "continuous"}, "belong to the bound in steps"),
        ({"weighting": "uniform"}, "belong to the bound in steps"),
        ({"step": -1.0}, "weights"),
        ({"negatives": 0}, "at least one negative"),
        ({"bound": math.inf}, "no lower bound"),
        ({"step_negatives": "all"}, "'all'"),
    ],
)
def test_bad_settings(options, match):
    options = {"T": 4} | options
    if options.get("loss") == "continuous":
        options.pop("T")
    with pytest.raises(ValueError, match=match):
        ContrastiveObjective(**options)


def test_bad_shapes():
    with pytest.raises(ValueError, match=r"2\.\.18 chunks"):
        shuffled_chunks(X, torch.rand(B, 2).double(), 19)
    with pytest.raises(ValueError, match=r"sequences \(B, L\)"):
        shuffled_chunks(X[..., None], torch.rand(B, 2).double())
    denoiser = TokenDenoiser(lambda x, t: torch.zeros(*x.shape, K), Uniform(K))
    with pytest.raises(ValueError, match="batch of at least 11"):
        ContrastiveObjective(T=4)(denoiser, X, KEYS)
    with pytest.raises(ValueError, match="sequences of tokens"):
        ContrastiveObjective(T=4)(denoiser, X[..., None], KEYS)
