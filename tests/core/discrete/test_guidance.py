"""Guidance of tokens against Bayes' rule on enumerated laws: identities to rounding, and one order of convergence.

Two chi-square tests, each failing below a p-value of 1e-5.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from scidiffuse.core import Denoiser, Graph, VPLinear, sample
from scidiffuse.core import Masked as MaskedSpace
from scidiffuse.core.discrete import (
    Ancestral,
    FirstHitting,
    Masked,
    MaskUniform,
    ProductProcess,
    TokenDenoiser,
    Uniform,
)
from scidiffuse.core.discrete.closed_form import Sequences, all_states, chain_law, p_value, total_variation
from scidiffuse.core.discrete.guidance import TokenClassifier
from scidiffuse.core.guidance import Classifier, ClassifierFree, Compose, OffTheShelf, Regional, TwoModels

LAW = Sequences.random(3, 3, seed=2)
LOG_Y = (
    torch.randn(27, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).sigmoid().log()
)  # log p(y | x_0)
GIVEN = LAW.tilted(LOG_Y)  # p(x_0 | y)
PROCESSES = [Masked(4), Uniform(3), MaskUniform(4, uniform=0.3)]
seen: list[int] = []


def states_of(process: Any) -> Tensor:
    return all_states(process.states, 3)


def predictor(process: Any, log_y: Tensor = LOG_Y) -> Any:
    """log p(y | x_t) = log sum_{x_0} p(y | x_0) p(x_0 | x_t); neighbours of a whole mask exist just before t = 1."""

    def log_prob(x: Tensor, t: Any) -> Tensor:
        seen.append(len(x))
        return (LAW.posterior(process, x, min(t, 1.0 - 1e-9)) @ log_y.exp()).log()

    return log_prob


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("t", [0.2, 0.7])
def test_guided_rates_are_the_rates_of_the_conditional_law(process: Any, t: float) -> None:
    x = states_of(process)
    pred = TokenClassifier(LAW.denoiser(process), predictor(process))(x, t)
    guided = process.reverse_rate(pred.log_probs, x, t) * pred.tilt.exp()
    truth = process.reverse_rate(GIVEN.denoiser(process)(x, t).log_probs, x, t)
    torch.testing.assert_close(guided, truth, rtol=1e-9, atol=1e-12)
    plain = process.reverse_rate(pred.log_probs, x, t)
    assert float((plain - truth).abs().max()) > 0.1  # the test can fail


def test_one_token_a_step_samples_the_conditional_law_exactly() -> None:
    # any masked position, its value by the tilted prediction: the way of first-hitting sampling
    process = Masked(4)
    x = states_of(process)
    for scale, target in ((1.0, GIVEN), (0.0, LAW)):
        pred = TokenClassifier(LAW.denoiser(process), predictor(process), scale)(x, 0.5)
        step = (pred.log_probs + (0.0 if pred.tilt is None else pred.tilt)).exp()
        torch.testing.assert_close(step.sum(-1), torch.ones(64, 3, dtype=torch.float64), rtol=1e-9, atol=0)
        mass = torch.zeros(64, dtype=torch.float64)
        mass[-1] = 1.0
        for _ in range(3):
            new = torch.zeros_like(mass)
            for row in mass.nonzero().flatten().tolist():
                open_ = (x[row] == 3).nonzero().flatten().tolist()
                for i in open_:
                    for v in range(3):
                        other = x[row].clone()
                        other[i] = v
                        new[int(other @ torch.tensor([16, 4, 1]))] += mass[row] / len(open_) * step[row, i, v]
            mass = new
        torch.testing.assert_close(mass[(x < 3).all(1)], target.probs, rtol=1e-9, atol=1e-12)


def law_of(denoiser: Any, process: Any, steps: int) -> Tensor:
    """The exact law of ancestral sampling, by its transitions between all states."""
    x = states_of(process)

    def rows(k: int) -> Tensor:
        t, s = 1.0 - k / steps, 1.0 - (k + 1) / steps
        pred = denoiser(x, t)
        log_w = process.log_posterior(pred.log_probs, x, s, t) + (0.0 if pred.tilt is None else pred.tilt)
        return log_w.softmax(-1).nan_to_num(0.0)  # states that do not exist at t

    return chain_law(process.prior()[x].prod(1), steps, rows)[(x < 3).all(1)]


@pytest.mark.parametrize("process", PROCESSES[:2], ids=lambda p: type(p).__name__)
def test_ancestral_sampling_converges_to_the_conditional_law(process: Any) -> None:
    guided = TokenClassifier(LAW.denoiser(process), predictor(process))
    far = [total_variation(law_of(guided, process, steps), GIVEN.probs) for steps in (8, 16, 32)]
    assert 1.7 < far[0] / far[1] < 2.4 and 1.8 < far[1] / far[2] < 2.2, far  # of first order
    assert far[2] < 0.03 < 0.15 < total_variation(LAW.probs, GIVEN.probs)


def test_a_run_draws_from_the_tilted_transitions() -> None:
    # y is a function of x_0: only steps that decide several tokens at once miss it
    process, wanted = Masked(4), LAW.support.sum(1) == 4
    guided = TokenClassifier(LAW.denoiser(process), predictor(process, wanted.double().log()))
    x = sample(guided, Ancestral(), steps=32, shape=(1500, 3), seed=0).x
    counts = LAW.counts(x)
    hit = float(counts[wanted].sum()) / 1500
    truth = LAW.probs * wanted / LAW.probs[wanted].sum()
    plain = LAW.counts(sample(LAW.denoiser(process), Ancestral(), steps=32, shape=(1500, 3), seed=0).x)
    assert hit > 0.95 and float(plain[wanted].sum()) / 1500 < 0.4
    exact = law_of(guided, process, 32)
    assert total_variation(exact, truth) < 0.05
    assert p_value(counts, exact) > 1e-5


def test_first_hitting_draws_the_conditional_law() -> None:
    process, log_prob = Masked(4), predictor(Masked(4))
    # neither posterior nor predictor of a masked process depend on the time: one table serves every row
    inner = TokenDenoiser(lambda x, t: LAW.denoiser(process)(x, 0.5).raw, process)
    guided = TokenClassifier(inner, lambda x, t: log_prob(x, 0.5))
    counts = LAW.counts(sample(guided, FirstHitting(), shape=(4000, 3), seed=0).x)
    assert p_value(counts, GIVEN.probs) > 1e-5 > p_value(counts, LAW.probs)


def test_cost_and_chunks() -> None:
    process = Masked(4)
    x = torch.tensor([[3, 3, 1], [0, 1, 2], [3, 3, 3]])  # 2, 0 and 3 masked
    seen.clear()
    whole = TokenClassifier(LAW.denoiser(process), predictor(process))(x, 0.5)
    assert seen == [3, 5 * 3]  # the states, and three values of every masked token
    seen.clear()
    parts = TokenClassifier(LAW.denoiser(process), predictor(process), max_rows=4)(x, 0.5)
    assert seen == [3, 4, 4, 4, 3]
    torch.testing.assert_close(parts.tilt, whole.tilt)
    assert bool((whole.tilt[1] == 0).all()) and bool((whole.tilt[..., 3] == 0).all())  # known tokens, and staying
    seen.clear()
    tilt = TokenClassifier(LAW.denoiser(Uniform(3)), predictor(Uniform(3)))(x % 3, 0.5).tilt
    assert seen == [3, 3 * 3 * 2]
    assert bool((tilt.gather(-1, (x % 3)[..., None]) == 0).all())


@pytest.mark.parametrize("process", [Masked(4), Uniform(4)], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("t", [0.5, torch.tensor([0.3, 0.6], dtype=torch.float64)], ids=["float", "(B,)"])
def test_taylor_is_exact_for_a_predictor_linear_in_the_one_hot_input(process: Any, t: Any) -> None:
    weight = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(3))
    calls: list[tuple[int, ...]] = []

    def soft(h: Tensor, t: Any, y: Tensor) -> Tensor:
        calls.append(tuple(h.shape))
        return (h * weight[y]).sum((1, 2)) * (1.0 + torch.as_tensor(t, dtype=h.dtype))

    def hard(x: Tensor, t: Any, y: Tensor) -> Tensor:
        return soft(torch.nn.functional.one_hot(x, 4).float(), t, y)

    def network(x: Tensor, t: Tensor) -> Tensor:
        return torch.zeros(*x.shape, 4)

    inner = TokenDenoiser(network, process)
    x, y = torch.tensor([[3, 0, 3], [1, 3, 2]]), torch.tensor([1, 0])
    taylor = TokenClassifier(inner, soft, 2.5, "taylor", ("y",))
    exact = TokenClassifier(inner, hard, 2.5, conditions=("y",))
    assert taylor.needs_grad and not exact.needs_grad
    one = taylor(x, t, y=y).tilt
    assert calls == [(2, 3, 4)]
    torch.testing.assert_close(one, exact(x, t, y=y).tilt, rtol=1e-5, atol=1e-5)
    assert float(one.abs().max()) > 1.0 and not one.requires_grad
    for guided in (taylor, exact):  # inside a run, where gradients are off unless asked for
        given: dict[str, Any] = {"steps": 4, "shape": (2, 3), "seed": 0, "condition": {"y": y}}
        ours = sample(guided, Ancestral(), **given).x
        assert torch.equal(sample(guided, Ancestral(), max_batch=1, **given).x, ours)


def test_padding_is_not_asked_about() -> None:
    mask = torch.tensor([[True, True, False], [True, True, True]])
    inner = TokenDenoiser(lambda x, t: torch.zeros(*x.shape, 4), Uniform(4), MaskedSpace(mask))
    asked = []

    def log_prob(x: Tensor, t: Any) -> Tensor:
        asked.append(x)
        return -x.double().sum(1)

    pred = TokenClassifier(inner, log_prob)(torch.tensor([[1, 2, 0], [1, 2, 3]]), 0.5)
    assert [len(x) for x in asked] == [2, 5 * 3] and bool((asked[1][:, 2][:6] == 0).all())
    truth = torch.tensor([[1.0, 2.0, 0.0], [1.0, 2.0, 3.0]])[..., None] - torch.arange(4.0)
    torch.testing.assert_close(pred.tilt, torch.where(mask[..., None], truth, 0.0))


def test_graphs_and_products() -> None:
    mask = torch.ones(2, 3, dtype=torch.bool)
    process, space = Uniform(3), Graph(mask)
    a = space.project(torch.tensor([[[0, 1, 2], [0, 0, 1], [0, 0, 0]]]).expand(2, 3, 3))
    inner = TokenDenoiser(lambda x, t: torch.zeros(*x.shape, 3), process, space)
    weight = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    weight = weight + weight.T

    def exact(x: Tensor, t: Any) -> Tensor:
        assert bool((x == x.transpose(1, 2)).all())
        return (x.float() * weight).sum((1, 2))

    tilt = TokenClassifier(inner, exact)(a, 0.5).tilt
    torch.testing.assert_close(tilt, tilt.transpose(1, 2))
    torch.testing.assert_close(tilt[0, 0, 1], 2 * weight[0, 1] * (torch.arange(3.0) - 1))

    def soft(h: Tensor, t: Any) -> Tensor:
        return ((h * torch.arange(3.0)).sum(-1) * weight).sum((1, 2))

    torch.testing.assert_close(TokenClassifier(inner, soft, method="taylor")(a, 0.5).tilt, tilt)

    both = ProductProcess(n=Masked(3), e=Uniform(3))
    product_ = TokenDenoiser(lambda x, t: {k: torch.zeros(*v.shape, 3) for k, v in x.items()}, both)
    x = {"n": torch.tensor([[2, 0], [1, 1]]), "e": torch.tensor([[1, 2, 0], [0, 0, 1]])}

    def hard(x: dict[str, Tensor], t: Any) -> Tensor:
        return 0.5 * x["n"].double().sum(1) * (1 + x["e"].double().sum(1))

    def linear(h: dict[str, Tensor], t: Any) -> Tensor:
        return hard({k: (v * torch.arange(3.0)).sum(-1) for k, v in h.items()}, t).float()

    tilts = TokenClassifier(product_, hard)(x, 0.5).tilt
    torch.testing.assert_close(tilts["n"][0, 0], 0.5 * 4 * torch.tensor([-2.0, -1.0, 0.0]))
    torch.testing.assert_close(tilts["e"][1, 2], 0.5 * 2 * torch.tensor([-1.0, 0.0, 1.0]))
    assert bool((tilts["n"][1] == 0).all())
    taylor = TokenClassifier(product_, linear, method="taylor")(x, 0.5).tilt
    for name in x:
        torch.testing.assert_close(taylor[name], tilts[name])


def test_impossible_states_are_very_unlikely_and_guidance_adds_up() -> None:
    process = Masked(3)
    inner = TokenDenoiser(lambda x, t: torch.zeros(*x.shape, 3), process)
    never = TokenClassifier(inner, lambda x, t: torch.where((x == 0).any(1), -torch.inf, 0.0))
    x = torch.tensor([[2, 2], [0, 2]])
    tilt = never(x, 0.5).tilt
    assert tilt[0, 0].tolist() == [-100.0, 0.0, 0.0] and bool((tilt[1] == 0).all())
    drawn = sample(never, Ancestral(), steps=4, shape=(500, 2), seed=0).x
    assert bool((drawn == 1).all())
    twice = TokenClassifier(never, lambda x, t: x.double().sum(1), 2.0)
    torch.testing.assert_close(twice(x, 0.5).tilt[0, 0], torch.tensor([-104.0, -2.0, 0.0]))
    assert TokenClassifier(inner, lambda x, t: x, 0.0)(x, 0.5).tilt is None
    half = twice(x, 0.5).take(torch.tensor([1]))  # walkers take their tilt along
    torch.testing.assert_close(half.tilt, twice(x[1:], 0.5).tilt)


def test_refusals() -> None:
    inner = TokenDenoiser(lambda x, t: torch.zeros(*x.shape, 3), Masked(3))
    continuous = Denoiser(lambda x, t: x, VPLinear(), "data")
    x = torch.full((2, 2), 2)
    for make, error, message in (
        (lambda: TokenClassifier(inner, len, scale=float("inf")), ValueError, "scale"),
        (lambda: TokenClassifier(inner, len, method="magic"), ValueError, "magic"),  # type: ignore[arg-type]
        (lambda: TokenClassifier(inner, len, max_rows=0), ValueError, "max_rows"),
        (lambda: TokenClassifier(continuous, len), ValueError, "core.guidance.Classifier"),
        (lambda: Classifier(inner, len), ValueError, "TokenClassifier"),
        (lambda: OffTheShelf(inner, len), ValueError, "TokenClassifier"),
        (lambda: TokenClassifier(inner, len, conditions=("y",))(x, 0.5), ValueError, "condition 'y'"),
        (lambda: TokenClassifier(inner, lambda x, t: x)(x, 0.5), ValueError, r"shape \(2,\), got \(2, 2\)"),
        (lambda: TokenClassifier(inner, lambda x, t: x.sum(1) + torch.nan)(x, 0.5), FloatingPointError, "nan at t=0.5"),
        (
            lambda: TokenClassifier(inner, lambda h, t: torch.zeros(2), method="taylor")(x, 0.5),
            ValueError,
            "method='exact'",
        ),
    ):
        with pytest.raises(error, match=message):
            make()


# ---------------------------------------------------------------------- guidance that the core has already
TABLE = torch.randn(3, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(5))  # condition 2 is the null
calls: list[int] = []


def network(x: Tensor, t: Tensor, c: Tensor) -> Tensor:
    calls.append(len(x))
    return TABLE[c] + 0.1 * (x == 0).sum(1)[:, None, None]


X, C, NULL = torch.tensor([[3, 3], [3, 1], [0, 3]]), torch.tensor([0, 1, 0]), {"c": 2}


@pytest.mark.parametrize("process", [Masked(4), Uniform(4)], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("w", [0.0, 1.0, 2.5, -0.5])
def test_classifier_free_is_the_normalised_product_of_powers(process: Any, w: float) -> None:
    inner = TokenDenoiser(network, process)
    p, p0 = inner(X, 0.5, c=C).probs, inner(X, 0.5, c=torch.full((3,), 2)).probs
    calls.clear()
    pred = ClassifierFree(inner, w, NULL)(X, 0.5, c=C)
    assert calls == [3 if w == 1.0 else 6]
    product_ = torch.where(p > 0, p**w * p0 ** (1 - w), 0.0)
    torch.testing.assert_close(pred.probs, product_ / product_.sum(-1, keepdim=True))
    if w in (0.0, 1.0):
        torch.testing.assert_close(pred.probs, p if w else p0)
    if isinstance(process, Masked):
        assert pred.probs[1, 1].tolist() == [0.0, 1.0, 0.0, 0.0] and bool((pred.probs[0, :, 3] == 0).all())


def test_by_hand() -> None:
    def network(x: Tensor, t: Tensor, c: Tensor) -> Tensor:  # p = (0.8, 0.2) with the condition, (0.5, 0.5) without
        p = torch.where(c[:, None] == 1, torch.tensor([0.8, 0.2, 1.0]), torch.tensor([0.5, 0.5, 1.0]))
        return p.log()[:, None, :].expand(len(x), x.shape[1], 3)

    pred = ClassifierFree(TokenDenoiser(network, Masked(3)), 2.0, {"c": 0})(
        torch.tensor([[2, 0]]), 0.3, c=torch.tensor([1])
    )
    torch.testing.assert_close(pred.probs[0, 0], torch.tensor([0.64, 0.04, 0.0]) / 0.68)


def test_edited_predictions_inside_never_become_nan() -> None:
    inner = TokenDenoiser(network, Masked(4))

    class Edited(TokenDenoiser):
        def __call__(self, *args: Any, **condition: Any) -> Any:
            pred = super().__call__(*args, **condition)
            return pred.with_log_probs(pred.log_probs)  # -inf at the mask, and beside known tokens

    for w in (-1.0, 0.0, 0.5, 3.0):
        pred = ClassifierFree(Edited(network, Masked(4)), w, NULL)(X, 0.5, c=C)
        assert not bool(pred.log_probs.isnan().any())
        torch.testing.assert_close(pred.probs, ClassifierFree(inner, w, NULL)(X, 0.5, c=C).probs)


def test_interval_and_runs() -> None:
    inner = TokenDenoiser(network, Masked(4))
    guided = ClassifierFree(inner, 3.0, NULL, interval=(0.3, 0.6))
    torch.testing.assert_close(guided(X, 0.7, c=C).probs, inner(X, 0.7, c=C).probs)
    full = ClassifierFree(inner, 3.0, NULL)
    torch.testing.assert_close(guided(X, 0.45, c=C).probs, full(X, 0.45, c=C).probs)
    t = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    probs = guided(X, t, c=C).probs
    torch.testing.assert_close(probs[1], full(X, t, c=C).probs[1])
    torch.testing.assert_close(probs[[0, 2]], inner(X, t, c=C).probs[[0, 2]])
    given: dict[str, Any] = {"steps": 5, "shape": (6, 2), "seed": 0, "condition": {"c": torch.arange(6) % 2}}
    whole = sample(guided, Ancestral(), **given).x
    assert torch.equal(sample(guided, Ancestral(), max_batch=4, **given).x, whole)
    # stronger guidance, more of what the condition favours over the null
    c = torch.zeros(2000, dtype=torch.long)
    favoured = (TABLE[0, :, :3] - TABLE[2, :, :3]).argmax(-1)
    rates = [
        float(
            (sample(ClassifierFree(inner, w, NULL), Ancestral(), steps=4, shape=(2000, 2), seed=1, condition={"c": c}).x
             == favoured).double().mean()
        )
        for w in (0.0, 1.0, 3.0)
    ]  # fmt: skip
    assert rates[0] < rates[1] < rates[2]


def test_guidance_of_the_core_that_has_no_meaning_for_tokens_says_so() -> None:
    inner = TokenDenoiser(network, Masked(4))
    with pytest.raises(ValueError, match="without condition dropout"):
        ClassifierFree(inner, 2.0)
    with pytest.raises(ValueError, match="tokens have none"):
        ClassifierFree(inner, 2.0, NULL, rescale=0.5)


def test_compose_is_and_and_not() -> None:
    inner = TokenDenoiser(network, Masked(4))
    p = [inner(X, 0.5, c=torch.full((3,), k)).probs for k in range(3)]
    weights = (0.7, -0.4)
    calls.clear()
    pred = Compose(inner, weights, NULL)(X, 0.5, c=torch.tensor([[0, 1]]).expand(3, 2))
    assert calls == [9]
    product_ = torch.where(p[2] > 0, p[2] ** (1 - sum(weights)) * p[0] ** weights[0] * p[1] ** weights[1], 0.0)
    torch.testing.assert_close(pred.probs, product_ / product_.sum(-1, keepdim=True))


def test_regions_and_two_models() -> None:
    inner = TokenDenoiser(network, Masked(4))
    regions = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).double().expand(3, 2, 2)
    conditions = torch.tensor([[0, 1]]).expand(3, 2)
    pred = Regional(inner, ["c"])(X, 0.5, c=conditions, regions=regions)
    torch.testing.assert_close(pred.probs[:, 0], inner(X, 0.5, c=torch.zeros(3).long()).probs[:, 0])
    torch.testing.assert_close(pred.probs[:, 1], inner(X, 0.5, c=torch.ones(3).long()).probs[:, 1])

    def worse(x: Tensor, t: Tensor, c: Tensor) -> Tensor:
        return 0.5 * network(x, t, c)

    pred = TwoModels(inner, TokenDenoiser(worse, Masked(4)), 2.0)(X, 0.5, c=C)
    torch.testing.assert_close(
        pred.log_probs, TokenDenoiser(lambda x, t, c: 1.5 * network(x, t, c), Masked(4))(X, 0.5, c=C).log_probs
    )


def test_predictors_around_classifier_free_guidance() -> None:
    inner = ClassifierFree(TokenDenoiser(network, Masked(4)), 2.0, NULL)
    pred = TokenClassifier(inner, lambda x, t: x.double().sum(1))(X, 0.5, c=C)
    torch.testing.assert_close(pred.probs, inner(X, 0.5, c=C).probs)
    torch.testing.assert_close(pred.tilt[0, 0], torch.tensor([-3.0, -2.0, -1.0, 0.0]).double())
