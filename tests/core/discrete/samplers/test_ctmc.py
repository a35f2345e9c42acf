"""Euler and tau-leaping, held to their exact laws: a sampler of independent tokens is a Markov chain on S^L states.

The law of a run is propagated with the sampler's own probabilities; what it draws is held to that, that to the data.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import pytest
import torch

from scidiffuse.core import Hook, grids, sample, spaces
from scidiffuse.core.discrete import Ancestral, Marginal, Masked, MaskUniform, ProductProcess, TokenDenoiser, Uniform
from scidiffuse.core.discrete.closed_form import Sequences, all_states, chain_law, p_value, total_variation
from scidiffuse.core.discrete.paths import MetricPath, MixturePath
from scidiffuse.core.discrete.samplers.ctmc import Euler, TauLeaping
from scidiffuse.core.guidance.base import Guidance
from scidiffuse.core.noise import keyed_generator

LAW = Sequences.random(tokens=3, length=3, seed=1)
PROCESSES = {
    "masked": Masked(4, keep="cosine"),
    "uniform": Uniform(3),
    "mask_uniform": MaskUniform(4, uniform=0.3),
    "metric": MetricPath.ordinal(3, a=1.0, c=2.0),
    "mixture": MixturePath(probs=(0.2, 0.3, 0.5)),
}
SAMPLERS = {
    "euler": Euler(),
    "first": TauLeaping(),
    "reject": TauLeaping(multiple="reject"),
    "euler_draw": Euler(target="draw"),
    "first_draw": TauLeaping(target="draw"),
}
ALARM = 1e-6
"""False alarms of one chi-square test; the file makes fewer than 60: one in 1.6e4 runs."""


@dataclass(frozen=True)
class Quick:
    """Keyed noise with one generator for a whole batch, whose thousands of slots need not be told apart here."""

    seed: int

    def __call__(self, like, draw, role):
        z = keyed_generator(self.seed, role, draw).standard_normal(like.shape)
        return torch.from_numpy(z).to(like.dtype)


def draws(denoiser, sampler, grid, n, seed, **options) -> torch.Tensor:
    """n samples of three tokens."""
    return sample(denoiser, sampler, grid, shape=(n, 3), noise=Quick(seed), **options).x


@lru_cache
def exact(process) -> TokenDenoiser:
    """The exact denoiser of LAW, every state of every time asked once in the whole file."""
    network, states, tables = LAW.denoiser(process).network, all_states(process.states, 3), {}
    weights = process.states ** torch.arange(LAW.length - 1, -1, -1)

    def looked_up(x, t):
        key = float(t[0])
        if key not in tables:
            tables[key] = network(states, t.new_full((len(states),), key))
        return tables[key][(x * weights).sum(1)]

    return TokenDenoiser(looked_up, process, label=lambda process, t: t)


def one_step(law: torch.Tensor, per_token: torch.Tensor) -> torch.Tensor:
    """The law after a step of independent tokens, from their laws (S^L, L, S)."""
    return chain_law(law, 1, lambda k: per_token)


def at_prior(process, length=3) -> torch.Tensor:
    out = process.prior()
    for _ in range(length - 1):
        out = torch.outer(out, process.prior()).reshape(-1)
    return out


def propagated(sampler, denoiser, grid, reference=None, length=3) -> torch.Tensor:
    """The law of a run's samples over S^L states."""
    process, plan = denoiser.schedule, sampler.plan(denoiser.schedule, grid)
    states, law = all_states(process.states, length), at_prior(process, length)
    for i, (t, s) in enumerate(pairwise(plan.times)):
        pred = denoiser(states, t)
        now = process.local(t, reference)
        if s == t:
            r = next(v for v in reversed(plan.times[:i]) if v > t)
            step = sampler.corrector_law(process, pred.log_probs, states, now, process.local(r, reference), pred.tilt)
        else:
            step = sampler.law(process, pred.log_probs, states, process.local(s, reference), now, pred.tilt)
        torch.testing.assert_close(step[law > 0].sum(-1), torch.ones_like(step[law > 0][..., 0]), rtol=0, atol=1e-9)
        law = one_step(law, torch.where((law > 0)[:, None, None], step, 0.0))
    return law


def embedded(law: Sequences, process) -> torch.Tensor:
    """The data's law over S^L states."""
    out = torch.zeros((process.states,) * law.length, dtype=torch.float64)
    out[(slice(0, law.tokens),) * law.length] = law.table
    return out.reshape(-1)


def order(errors) -> float:
    return float(torch.log2(torch.tensor(errors[-2] / errors[-1])))


def assert_law(x: torch.Tensor, want: torch.Tensor, states: int) -> None:
    """Chi-square of samples (n, L) against probabilities of S^L states; cells below 5 are pooled."""
    weights = states ** torch.arange(x.shape[1] - 1, -1, -1)
    counts = torch.bincount((x * weights).sum(1), minlength=len(want))
    assert p_value(counts, torch.where(want > 1e-12, want, 0.0)) > ALARM  # what is rounding should not occur


# ---------------------------------------------------------------------- convergence and laws
@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_the_law_converges_at_order_one(process, sampler):
    denoiser, data = exact(process), embedded(LAW, process)
    errors = [total_variation(propagated(sampler, denoiser, grids.uniform(n)), data) for n in (16, 32, 64)]
    assert errors[-1] < 0.02
    # one target each under tau-leaping: rates of 1/t given x_0 cost a logarithm of the steps
    logarithm = sampler == SAMPLERS["first_draw"] and process in (PROCESSES["uniform"], PROCESSES["mask_uniform"])
    assert (0.65 if logarithm else 0.87) < order(errors) < 1.35


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_samples_have_the_propagated_law_at_few_steps(process, sampler):
    denoiser, grid = exact(process), grids.explicit((1.0, 0.6, 0.45, 0.1, 0.0))
    want = propagated(sampler, denoiser, grid)
    assert total_variation(want, embedded(LAW, process)) > 0.02  # the test below would not tell the two apart otherwise
    x = draws(denoiser, sampler, grid, 8000, seed=5)
    assert_law(x, want, process.states)


@pytest.mark.parametrize("sampler", [Euler(), TauLeaping(), TauLeaping(multiple="reject")], ids=repr)
@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_samples_have_the_law_of_the_data_at_many_steps(process, sampler):
    denoiser = exact(process)
    x = draws(denoiser, sampler, grids.uniform(64), 3000, seed=6)
    assert_law(x, embedded(LAW, process), process.states)


def test_small_a_converges_from_the_noisy_end():
    path = MetricPath.ordinal(3, a=0.5, c=3.0)
    errors = [
        total_variation(propagated(Euler(), exact(path), grids.uniform(n)), embedded(LAW, path)) for n in (16, 32, 64)
    ]
    assert errors[-1] < 0.01 and order(errors) > 0.8


def test_a_step_for_masked_linear_is_the_ancestral_one():
    process, states = Masked(4), all_states(4, 3)
    log_p = exact(process)(states, 0.7).log_probs
    ancestral = process.log_posterior(log_p, states, 0.4, 0.7).exp()
    torch.testing.assert_close(Euler().law(process, log_p, states, 0.4, 0.7), ancestral, rtol=1e-12, atol=1e-14)
    assert total_variation(
        propagated(Euler(), exact(process), grids.uniform(8)),
        propagated(Euler(final="rate"), exact(process), grids.uniform(8)),
    ) == pytest.approx(0.0, abs=1e-12)
    assert Ancestral().families == Euler().families


# ---------------------------------------------------------------------- the formulas of a step
def test_probabilities_of_a_step():
    process = MixturePath(probs=(0.1, 0.2, 0.3, 0.4))
    rng = torch.Generator().manual_seed(0)
    x = torch.randint(4, (2, 5), generator=rng)
    log_p = torch.randn(2, 5, 4, generator=rng).double().log_softmax(-1)
    s, t = 0.35, 0.5
    n = 0.15 * process.reverse_rate(log_p, x, t)
    total = n.sum(-1, keepdim=True)
    assert bool((total < 1.0).all())

    def with_rest(p):
        return p.scatter(-1, x.unsqueeze(-1), 1.0 - p.sum(-1, keepdim=True))

    torch.testing.assert_close(Euler().law(process, log_p, x, s, t), with_rest(n))
    first = n / total * (1.0 - (-total).exp())
    torch.testing.assert_close(TauLeaping().law(process, log_p, x, s, t), with_rest(first))
    # independent Poisson numbers to each state: one of them is 1, the others 0
    none = torch.where(n > 0.0, (-n).exp(), 1.0)
    one_jump = n * none * torch.stack([none[..., [j for j in range(4) if j != v]].prod(-1) for v in range(4)], -1)
    rejecting = TauLeaping(multiple="reject")
    torch.testing.assert_close(rejecting.law(process, log_p, x, s, t), with_rest(one_jump))

    tilt = torch.randn(2, 5, 4, generator=rng).double()
    torch.testing.assert_close(Euler().law(process, log_p, x, s, t, tilt - 3.0), with_rest(n * (tilt - 3.0).exp()))
    torch.testing.assert_close(Euler(target="draw").law(process, log_p, x, s, t), Euler().law(process, log_p, x, s, t))
    given = sum(
        log_p[..., k : k + 1].exp() * TauLeaping().law(process, one.log(), x, s, t)
        for k, one in enumerate(torch.eye(4).double().expand(2, 5, 4, 4).unbind(-2))
    )
    torch.testing.assert_close(TauLeaping(target="draw").law(process, log_p, x, s, t), given)


def test_a_step_that_is_too_long_for_the_rate():
    process, x = MixturePath(probs=(0.5, 0.25, 0.25)), torch.tensor([[0]])
    log_p = torch.tensor([[[0.1, 0.3, 0.6]]]).double().log()
    n = 0.09 * process.reverse_rate(log_p, x, 0.1)[0, 0]
    total = float(n.sum())
    assert total > 1.0
    law = Euler().law(process, log_p, x, 0.01, 0.1)[0, 0]
    torch.testing.assert_close(law, n / total)
    law = TauLeaping(multiple="reject").law(process, log_p, x, 0.01, 0.1)[0, 0]
    assert float(law[0]) == pytest.approx(1.0 - total * 2.718281828459045**-total, rel=1e-12)
    huge = TauLeaping(multiple="reject").law(Uniform(3), log_p, x, 0.5, 1.0)[0, 0]  # rate infinite: many jumps, no move
    torch.testing.assert_close(huge, torch.tensor([1.0, 0.0, 0.0]).double())
    moved = TauLeaping().law(Uniform(3), log_p, x, 0.5, 1.0)[0, 0]
    torch.testing.assert_close(moved, torch.tensor([0.0, 0.5, 0.5]).double(), rtol=0, atol=1e-6)


def test_the_last_step_decides_everything_unless_told_otherwise():
    process = Masked(4)
    denoiser, data = exact(process), embedded(LAW, process)
    full = all_states(process.states, 3)
    masks = (full == 3).any(1)
    predicted = propagated(TauLeaping(), denoiser, grids.uniform(16))
    assert float(predicted[masks].sum()) == 0.0
    left = propagated(TauLeaping(final="rate"), denoiser, grids.uniform(16))
    assert float(left[masks].sum()) > 0.05
    assert total_variation(left, data) > 2.0 * total_variation(predicted, data)
    early = propagated(Euler(), denoiser, grids.uniform(16, end=0.2))  # stops before: as the law at 0.2
    assert total_variation(early, LAW.marginals(process, 0.2)) < 0.02
    x = draws(denoiser, TauLeaping(final="rate"), grids.uniform(4), 4000, seed=0)
    assert_law(x, propagated(TauLeaping(final="rate"), denoiser, grids.uniform(4)), 4)


# ---------------------------------------------------------------------- correctors
@pytest.mark.parametrize(
    "process", [Masked(4), Uniform(3), MaskUniform(4, uniform=0.3), Marginal(probs=(0.2, 0.3, 0.5))]
)
def test_correctors_leave_the_law_of_their_level_as_it_is(process):
    t, p = 0.5, LAW.marginals(process, 0.5)
    states = all_states(process.states, 3)
    log_p = exact(process)(states, t).log_probs
    changes, moves = [], []
    for h in (0.02, 0.01):
        step = Euler(corrector_step=h).corrector_law(process, log_p, states, t, t + 1.0)
        changes.append(total_variation(one_step(p, step), p))
        still = step.gather(-1, states.unsqueeze(-1)).squeeze(-1).prod(1)
        moves.append(float((p * (1.0 - still)).sum()))
    assert moves[-1] > 0.01  # tokens do move
    assert changes[-1] < 0.02 * moves[-1]
    assert 1.9 < order(changes) < 2.2  # zero at first order in the length


@pytest.mark.parametrize("process", [Masked(4), Uniform(3)], ids=repr)
def test_tilted_correctors_leave_the_tilted_law_as_it_is(process):
    """Only the way back is tilted: noise is added to what is known of y as to anything else."""
    weight = torch.where(LAW.support.sum(1) == 3, 0.9, 0.05).double()
    states = all_states(process.states, 3)
    pred = Told(exact(process), LAW, weight)(states, 0.5)
    p = LAW.marginals(process, 0.5) * (LAW.posterior(process, states, 0.5) @ weight)
    p = p / p.sum()
    changes = []
    for h in (0.02, 0.01):
        sampler = Euler(corrector_step=h)
        step = sampler.corrector_law(process, pred.log_probs, states, 0.5, 1.5, pred.tilt)
        changes.append(total_variation(one_step(p, step), p))
    assert changes[-1] < 0.001
    assert 1.9 < order(changes) < 2.2


@pytest.mark.parametrize("name", ["uniform", "masked"])
def test_correctors_bring_samples_closer_and_are_drawn_from_their_law(name):
    process = PROCESSES[name]
    denoiser, data, grid = exact(process), embedded(LAW, process), grids.uniform(8)
    plain = total_variation(propagated(TauLeaping(), denoiser, grid), data)
    corrected = TauLeaping(correctors=2, corrector_step=0.5, correct_below=0.6)
    want = propagated(corrected, denoiser, grid)
    assert total_variation(want, data) < 0.8 * plain
    assert len(corrected.plan(process, grid).times) == 1 + 8 + 2 * 4  # at 1/2, 3/8, 1/4, 1/8
    assert_law(draws(denoiser, corrected, grid, 6000, seed=1), want, process.states)
    drawn = replace(corrected, target="draw")
    assert_law(draws(denoiser, drawn, grid, 6000, seed=2), propagated(drawn, denoiser, grid), process.states)


# ---------------------------------------------------------------------- guidance
class Told(Guidance):
    """Tilts by log p(y | x with token l set to v) - log p(y | x), from the enumerated law: exact guidance."""

    def __init__(self, denoiser, law, weight):
        super().__init__(denoiser)
        self.law, self.weight = law, weight  # p(y | x_0) over the support

    def __call__(self, x, t, **condition):
        pred, process = self.denoiser(x, t, **condition), self.schedule
        states = all_states(process.states, 3)
        likely = (self.law.posterior(process, states, t) @ self.weight).log()
        powers = process.states ** torch.arange(x.shape[1] - 1, -1, -1)
        here = (x * powers).sum(1)
        tilt = torch.stack(
            [
                torch.stack([likely[here + (v - x[:, k]) * powers[k]] for v in range(process.states)], -1)
                for k in range(x.shape[1])
            ],
            1,
        )
        return pred.with_tilt((tilt - likely[here][:, None, None]).nan_to_num(nan=-torch.inf))


@pytest.mark.parametrize("sampler", [Euler(), TauLeaping()], ids=repr)
@pytest.mark.parametrize("name", ["masked", "uniform", "mask_uniform"])
def test_exactly_tilted_rates_sample_the_conditional_law(name, sampler):
    process = PROCESSES[name]
    weight = torch.where(LAW.support.sum(1) == 3, 0.9, 0.05).double()  # p(y | x_0)
    conditional = embedded(LAW.tilted(weight.log()), process)
    guided = Told(exact(process), LAW, weight)
    errors = [total_variation(propagated(sampler, guided, grids.uniform(n)), conditional) for n in (24, 48, 96)]
    assert total_variation(embedded(LAW, process), conditional) > 0.3
    assert errors[-1] < 0.025
    assert 0.8 < order(errors) < 1.4
    if sampler == Euler():
        x = draws(guided, sampler, grids.uniform(12), 3000, seed=3)
        assert_law(x, propagated(sampler, guided, grids.uniform(12)), process.states)


@pytest.mark.parametrize("name", ["masked", "mask_uniform"])
@pytest.mark.parametrize(
    "sampler",
    [Euler(correctors=1), TauLeaping(correctors=1, target="draw"), TauLeaping(multiple="reject", final="rate")],
    ids=repr,
)
def test_tilted_steps_and_correctors_are_drawn_from_their_law(name, sampler):
    process, grid = PROCESSES[name], grids.explicit((1.0, 0.6, 0.45, 0.1, 0.0))
    weight = torch.where(LAW.support.sum(1) == 3, 0.9, 0.05).double()
    guided = Told(exact(process), LAW, weight)
    want = propagated(sampler, guided, grid)
    assert total_variation(want, propagated(sampler, exact(process), grid)) > 0.1
    assert_law(draws(guided, sampler, grid, 6000, seed=7), want, process.states)


def test_tilted_rates_of_a_path_do_not_sample_the_conditional_law_and_conditioned_predictions_do():
    """A path's chain has its marginals but not its p(x_0 | x_t), so that p(y | x_t) is no martingale under it."""
    path = PROCESSES["mixture"]
    weight = torch.where(LAW.support.sum(1) == 3, 0.9, 0.05).double()
    told = LAW.tilted(weight.log())
    conditional = embedded(told, path)
    guided = Told(exact(path), LAW, weight)
    errors = [total_variation(propagated(Euler(), guided, grids.uniform(n)), conditional) for n in (32, 64)]
    assert min(errors) > 0.05 and errors[1] > 0.85 * errors[0]
    errors = [
        total_variation(propagated(Euler(), told.denoiser(path), grids.uniform(n)), conditional) for n in (32, 64)
    ]
    assert errors[1] < 0.01 and order(errors) > 0.87


# ---------------------------------------------------------------------- times of their own
@dataclass(frozen=True)
class Late(Masked):
    """Tokens of reference r are at the time max(0, (t - r) / (1 - r)): they are done before others."""

    def local(self, t, reference):
        if reference is None:
            return t
        return ((t - reference.double()) / (1.0 - reference.double())).clamp(0.0, 1.0)


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_each_token_has_its_time(sampler):
    process, grid = Late(4, keep="cosine"), grids.explicit((1.0, 0.75, 0.4, 0.2, 0.0))
    denoiser = exact(process)  # of a masked process: the same at all times
    r = torch.tensor([0.0, 0.3, 0.5])
    want = propagated(sampler, denoiser, grid, reference=r.expand(64, 3))
    plain = propagated(sampler, denoiser, grid)
    assert total_variation(want, plain) > 0.02
    assert_law(draws(denoiser, sampler, grid, 6000, seed=4, reference=r.expand(6000, 3)), want, 4)
    half = sample(denoiser, sampler, grid, shape=(200, 3), reference=r.expand(200, 3), seed=4, until=2).x
    assert bool((half[:, 2] != 3).all())  # its time is 0 from t = 1/2 on
    assert bool((half[:, 0] == 3).any())
    whole = sample(denoiser, sampler, grid, shape=(200, 3), reference=r.expand(200, 3), seed=4).x
    assert bool((whole[half != 3] == half[half != 3]).all())


def test_a_token_that_is_done_stays_where_rates_are_infinite():
    @dataclass(frozen=True)
    class Early(Uniform):
        def local(self, t, reference):
            return ((t - reference.double()) / (1.0 - reference.double())).clamp(0.0, 1.0)

    process = Early(3)
    denoiser = TokenDenoiser(lambda x, t: torch.zeros(*x.shape, 3), process)
    r = torch.tensor([[0.0, 0.6]]).expand(64, 2)
    for sampler in (Euler(), TauLeaping(correctors=1), Euler(target="draw")):
        half = sample(denoiser, sampler, grids.uniform(10), shape=(64, 2), reference=r, seed=0, until=7).x
        x = sample(denoiser, sampler, grids.uniform(10), shape=(64, 2), reference=r, seed=0).x
        assert bool((x[:, 1] == half[:, 1]).all()) and bool((x[:, 0] != half[:, 0]).any())


# ---------------------------------------------------------------------- under the shared loop
@pytest.mark.parametrize("sampler", [*SAMPLERS.values(), TauLeaping(correctors=1)], ids=repr)
def test_runs_do_not_depend_on_the_batch_and_go_on_where_they_stopped(sampler):
    denoiser, grid = (
        exact(PROCESSES["mask_uniform"] if sampler.correctors else PROCESSES["metric"]),
        grids.uniform(5),
    )
    whole = sample(denoiser, sampler, grid, shape=(20, 3), seed=9)
    assert torch.equal(whole.x, sample(denoiser, sampler, grid, shape=(20, 3), seed=9, max_batch=7).x)
    half = sample(denoiser, sampler, grid, shape=(20, 3), seed=9, until=3)
    assert torch.equal(whole.x, sample(denoiser, sampler, grid, state=half.state, seed=9).x)
    assert whole.calls == (9 if sampler.correctors else 5)


def test_products_and_padding():
    process = ProductProcess(X=Masked(4), A=MetricPath.ordinal(3))
    mask = torch.tensor([[True, True, False], [True, False, False]])
    space = spaces.Product(X=spaces.Masked(mask), A=spaces.Euclidean())

    def network(x, t):
        return {name: torch.full((*leaf.shape, {"X": 4, "A": 3}[name]), 0.1) for name, leaf in x.items()}

    for sampler in (Euler(), TauLeaping(target="draw")):
        x = sample(
            TokenDenoiser(network, process, space), sampler, grids.uniform(4), shape={"X": (2, 3), "A": (2, 5)}, seed=0
        ).x
        assert bool((x["X"][~mask] == 0).all()) and bool((x["X"] < 3).all())
        assert x["A"].shape == (2, 5) and bool((x["A"] < 3).all())


# ---------------------------------------------------------------------- errors
def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match='final is "predict" or "rate"'):
        Euler(final="argmax")
    with pytest.raises(ValueError, match='target is "mean" or "draw"'):
        TauLeaping(target="mode")
    with pytest.raises(ValueError, match='multiple is "first" or "reject"'):
        TauLeaping(multiple="all")
    with pytest.raises(ValueError, match="correctors is a number"):
        Euler(correctors=-1)
    with pytest.raises(ValueError, match="corrector_step must be positive"):
        Euler(corrector_step=0.0)
    with pytest.raises(ValueError, match="must descend"):
        sample(exact(Masked(4)), Euler(), grids.uniform(4).reverse(), x=torch.zeros(1, 3).long(), seed=0)


def test_correctors_and_ancestral_steps_are_refused_for_paths():
    denoiser = exact(PROCESSES["metric"])
    with pytest.raises(ValueError, match=r"forward rate.*correctors=0"):
        sample(denoiser, Euler(correctors=1), grids.uniform(4), shape=(2, 3), seed=0)
    with pytest.raises(ValueError, match=r"Euler\(\) or TauLeaping\(\)"):
        sample(denoiser, Ancestral(), grids.uniform(4), shape=(2, 3), seed=0)


class NoTilt(Hook):
    """A tilt that is no number."""

    def on_prediction(self, step):
        return replace(step, pred=step.pred.with_tilt(torch.full((*step.state.x.shape, 3), torch.nan)))


def test_rates_that_are_no_numbers_are_reported():
    denoiser = TokenDenoiser(lambda x, t: torch.full((*x.shape, 3), torch.nan), Uniform(3))
    with pytest.raises(FloatingPointError, match=r"network's output stopped being finite at call 0 \(t=1\)"):
        sample(denoiser, Euler(), grids.uniform(4), shape=(2, 3), seed=0)
    for process in (Uniform(3), Masked(3)):
        denoiser = TokenDenoiser(lambda x, t: torch.zeros(*x.shape, 3), process)
        with pytest.raises(FloatingPointError, match="rates hold nan"):
            sample(denoiser, Euler(), grids.uniform(4), shape=(2, 3), seed=0, hooks=[NoTilt()])


# ---------------------------------------------------------------------- who is asked about
@pytest.mark.parametrize("sampler", [*SAMPLERS.values(), Euler(correctors=1)], ids=repr)
def test_only_masked_tokens_that_are_decided_are_asked_about(sampler):
    asked = []

    class Count(Masked):
        def log_probs(self, logits, x):
            asked.append(x.numel())
            return super().log_probs(logits, x)

    x = sample(
        TokenDenoiser(lambda x, t: torch.zeros(*x.shape, 4), Count(4)), sampler, grids.uniform(16), shape=(8, 50),
        seed=0,
    ).x  # fmt: skip
    assert bool((x < 3).all())
    assert sum(asked) == 400 if not sampler.correctors else 400 < sum(asked) < 4000


@pytest.mark.parametrize("sampler", [*SAMPLERS.values(), TauLeaping(correctors=1)], ids=repr)
@pytest.mark.parametrize("process", [Masked(4, mask_id=0), Masked(4), Uniform(4), MaskUniform(4)], ids=repr)
def test_padding_is_never_drawn(process, sampler):
    """The network may say anything there; tokens get what they would get without padding."""
    real = torch.arange(7) < torch.tensor([[7], [4]])

    def network(x, t):
        logits = torch.tensor([0.3, -0.2, 0.5, 0.0]).expand(*x.shape, 4).clone()
        logits[1, 4:] = torch.nan
        return logits

    x = sample(TokenDenoiser(network, process, spaces.Masked(real)), sampler, grids.uniform(6), shape=(2, 7), seed=0).x
    assert bool((x[~real] == 0).all())
    alone = TokenDenoiser(lambda x, t: torch.tensor([0.3, -0.2, 0.5, 0.0]).expand(*x.shape, 4), process)
    assert torch.equal(x[1, :4], sample(alone, sampler, grids.uniform(6), shape=(2, 4), seed=0).x[1])
