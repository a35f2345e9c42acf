"""Denoisers of tokens: what predictions say, how they are taken, edited and mixed, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from scidiffuse.core import DDPM, ClassifierFree, Denoiser, DPMSolverPP, Grid, SlotNoise, VPLinear, sample
from scidiffuse.core import Masked as MaskedSpace
from scidiffuse.core.discrete import (
    Ancestral,
    ConfidenceOrdered,
    FirstHitting,
    Masked,
    ProductProcess,
    Remasking,
    TokenDenoiser,
    Uniform,
)
from scidiffuse.core.networks import TokenTransformer

X = torch.tensor([[4, 1, 4], [0, 4, 2]])


def network(x: Tensor, t: Tensor, shift: Tensor | float = 0.0) -> Tensor:
    shift = torch.as_tensor(shift).reshape(-1, 1)
    return torch.stack([0.3 * x, -0.1 * x + shift, 0.0 * x, 0.2 * x - shift, 5.0 + 0.0 * x], -1)


def asked(x: Tensor = X, **condition: Tensor) -> object:
    return TokenDenoiser(network, Masked(5))(x, 0.5, **condition)


def test_predictions() -> None:
    pred = asked()
    assert pred.log_probs.shape == (2, 3, 5)
    torch.testing.assert_close(pred.probs.sum(-1), torch.ones(2, 3))
    assert pred.probs[..., 4].eq(0).all()  # never the mask
    assert pred.data[0, 1] == 1  # what is known stays
    assert pred.data.tolist() == [[0, 1, 0], [0, 0, 2]]
    which = X == 4
    assert torch.equal(pred.rows()(which), pred.log_probs[which])
    part = pred.take(torch.tensor([1]))
    assert torch.equal(part.log_probs, pred.log_probs[1:])
    assert torch.equal(part.x, X[1:])


def test_the_label_is_made_in_one_place() -> None:
    seen: list[Tensor] = []

    def spy(x: Tensor, t: Tensor) -> Tensor:
        seen.append(t)
        return torch.zeros(*x.shape, 5)

    TokenDenoiser(spy, Masked(5))(X, 0.25)
    TokenDenoiser(spy, Masked(5))(X, torch.tensor([0.25, 0.5]))
    TokenDenoiser(spy, Masked(5), label=lambda process, t: process.schedule.lost(t))(X, 0.25)
    TokenDenoiser(spy, Masked(5))(X, 0.25, label=torch.tensor([7.0, 8.0]))
    assert [t.tolist() for t in seen] == [[250.0, 250.0], [250.0, 500.0], [0.25, 0.25], [7.0, 8.0]]


def test_edits() -> None:
    pred = asked()
    sure = pred.with_data(torch.tensor([[3, 1, 2], [0, 0, 2]]))
    assert sure.data.tolist() == [[3, 1, 2], [0, 0, 2]]
    assert sure.edited
    assert not pred.edited
    known = pred.with_known(torch.tensor([[3, 0, 0]]), torch.tensor([[True, False, False]]))
    assert known.data.tolist() == [[3, 1, 0], [3, 0, 2]]
    assert torch.equal(known.rows()(X == 4), known.log_probs[X == 4])
    tilted = pred.with_tilt(torch.ones(2, 3, 5)).with_tilt(torch.ones(2, 3, 5))
    assert tilted.tilt.eq(2.0).all()
    assert tilted.take(torch.tensor([0])).tilt.shape == (1, 3, 5)


def test_draws_are_of_the_prediction_and_keyed() -> None:
    x = torch.full((4000, 1), 4)
    pred = asked(x)
    one = pred.draw(SlotNoise(0, range(4000)), None, 0)
    assert torch.equal(one, pred.draw(SlotNoise(0, range(4000)), None, 0))
    got = torch.bincount(one[:, 0], minlength=5) / 4000
    torch.testing.assert_close(got, pred.probs[0, 0], atol=0.04, rtol=0.0)


def test_mixing_is_a_product_of_powers() -> None:
    a, b = asked(shift=torch.tensor([1.0, 1.0])), asked(shift=torch.tensor([0.0, 0.0]))
    mixed = a.mixed([a, b], [2.5, -1.5], {"a": a})
    by_hand = (2.5 * a.log_probs - 1.5 * b.log_probs).masked_fill(a.log_probs.isneginf(), -torch.inf).log_softmax(-1)
    torch.testing.assert_close(mixed.log_probs, by_hand)
    edited = a.mixed([a.with_log_probs(a.log_probs), b], [2.5, -1.5], {})
    torch.testing.assert_close(edited.log_probs, by_hand)
    assert bool(torch.isfinite(mixed.probs).all())


def test_impossible_tokens_in_mixtures() -> None:
    hard = asked().with_log_probs(torch.tensor([-torch.inf, 0.0, -torch.inf, -torch.inf, -torch.inf]).expand(2, 3, 5))
    soft = asked(torch.full((2, 3), 4))
    soft = soft.with_log_probs(soft.log_probs)
    torch.testing.assert_close(hard.mixed([hard, soft], [0.0, 1.0], {}).log_probs, soft.log_probs)
    forbidden = hard.mixed([hard, soft], [1.0, 0.0], {})
    torch.testing.assert_close(forbidden.probs[0, 0], torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0]))


def test_guidance_works_inside_a_run() -> None:
    denoiser = TokenDenoiser(network, Masked(5))
    condition = {"shift": torch.full((500,), 2.0)}
    share = {}
    for scale in (0.0, 1.0, 3.0):
        guided = ClassifierFree(denoiser, scale, null={"shift": 0.0})
        x = sample(guided, Ancestral(), steps=4, shape=(500, 6), seed=0, condition=condition).x
        share[scale] = float((x == 1).double().mean())
    plain = sample(denoiser, Ancestral(), steps=4, shape=(500, 6), seed=0, condition={"shift": torch.zeros(500)}).x
    assert share[0.0] == float((plain == 1).double().mean())
    assert share[0.0] < share[1.0] < share[3.0]


def test_tilted_predictions_are_not_mixed() -> None:
    pred = asked()
    with pytest.raises(ValueError, match="put TokenClassifier around ClassifierFree"):
        pred.mixed([pred.with_tilt(torch.zeros(2, 3, 5)), pred], [2.0, -1.0], {})


@pytest.mark.parametrize(("token", "place"), [(4, (1, 0)), (7, (1, 0)), (-1, (1, 0))])
def test_known_tokens_must_be_data(token: int, place: tuple[int, int]) -> None:
    values = torch.tensor([[0, 9, 9], [token, 9, 9]])  # what is not known may hold anything
    known = torch.tensor([True, False, False]).expand(2, 3)
    with pytest.raises(ValueError, match=rf"known token {token} at \(1, 0\) is no data"):
        asked().with_known(values, known)
    assert asked().with_known(torch.tensor([[0, 9, 9]]), known).data[:, 0].eq(0).all()


def go(process: object = None, sampler: object = None, net: object = None, **given: object) -> object:
    denoiser = TokenDenoiser(
        net or (lambda x, t: torch.zeros(*x.shape, 5)), process or Masked(5), given.pop("space", None)
    )
    given = {"steps": 3, "shape": (2, 4), "seed": 0, **given}
    return sample(denoiser, sampler or Ancestral(), **{k: v for k, v in given.items() if v is not None})


CASES = {
    "token out of range": (lambda: go(x=torch.tensor([[1, 9]]), shape=None), ValueError, r"token 9 at \(0, 1\).*0\.\.4"),  # noqa: E501
    "negative token": (lambda: go(x=torch.tensor([[-1, 2]]), shape=None), ValueError, r"token -1 at \(0, 0\)"),
    "real numbers": (lambda: go(x=torch.zeros(2, 3), shape=None), TypeError, r"integer ids 0\.\.4.*float32"),
    "empty sequences": (lambda: go(shape=(2, 0)), ValueError, r"at least one token, got \(2, 0\)"),
    "empty batch": (lambda: go(shape=(0, 4)), ValueError, "empty"),
    "padding only": (lambda: go(space=MaskedSpace(torch.tensor([[True], [False]]))), ValueError, "sample 1"),
    "no mask": (lambda: go(Uniform(5), FirstHitting(), steps=None), ValueError, r"Masked\(\).*got Uniform"),
    "no mask, confidence": (lambda: go(Uniform(5), ConfidenceOrdered()), ValueError, "Uniform"),
    "no mask, remasking": (lambda: go(Uniform(5), Remasking(rescale=0.1)), ValueError, "Uniform"),
    "mask id of no state": (lambda: Masked(5, mask_id=5), ValueError, "mask_id=5 is none of the ids"),
    "schedule stops early": (lambda: Masked(5, "sigmoid"), ValueError, "unknown schedule"),
    "classes": (lambda: go(net=lambda x, t: torch.zeros(*x.shape, 4)), ValueError, r"\(2, 4, 5\), got \(2, 4, 4\)"),
    "no logits": (lambda: go(net=lambda x, t: None), ValueError, "NoneType"),
    "nan": (lambda: go(net=lambda x, t: torch.full((*x.shape, 5), math.nan)), FloatingPointError, r"output stopped being finite at call 0 \(t=1\)"),  # noqa: E501
    "ascending": (lambda: go(steps=None, grid=Grid((0.0, 1.0))), ValueError, "must descend"),
    "outside": (lambda: go(steps=None, grid=Grid((1.5, 0.0))), ValueError, r"1\.5"),
    "late start": (lambda: go(Uniform(5), steps=None, grid=Grid((0.5, 0.0))), ValueError, r"t=0\.5.*0\.5 of the data.*x="),  # noqa: E501
    "no seed": (lambda: go(seed=None), ValueError, "give seed="),
    "continuous sampler": (lambda: go(sampler=DPMSolverPP(2)), ValueError, r"categorical noise.*core\.discrete\.Ancestral"),  # noqa: E501
    "continuous noise": (lambda: go(sampler=DDPM()), ValueError, "categorical"),
    "token sampler": (
        lambda: sample(Denoiser(lambda x, t: x, VPLinear()), Ancestral(), steps=3, shape=(2, 3), seed=0),
        ValueError, "samples tokens; continuous data take",
    ),
    "schedule for a process": (lambda: TokenDenoiser(None, VPLinear()), TypeError, r"Masked\(27\).*use Denoiser"),
    "label": (lambda: TokenDenoiser(None, Masked(5), label="index"), ValueError, "'index'"),
    "leaves": (lambda: go(ProductProcess(a=Uniform(5)), shape={"b": (2, 3)}), ValueError, r"\['a'\], got leaves \['b'\]"),  # noqa: E501
    "guidance without dropout": (
        lambda: ClassifierFree(TokenDenoiser(network, Masked(5)), 2.0), ValueError, "without condition dropout",
    ),
    "process as space": (lambda: TokenDenoiser(None, Masked(5), Masked(5)), TypeError, "core.Masked.* is a process"),
    "process as space, later": (lambda: TokenDenoiser(None, Masked(5)).on(Masked(5)), TypeError, "where tokens exist"),
    "mask as states": (lambda: Masked(torch.ones(2, 3).bool()), ValueError, r"got states=Tensor; padded.*core\.Masked"),
    "network of other states": (
        lambda: TokenDenoiser(TokenTransformer(4, 8, 1, 2, time=None), Masked(5)), ValueError, "4 states.*count the mask",  # noqa: E501
    ),
    "condition is no dictionary": (lambda: go(condition=1), TypeError, "dictionary of the network's arguments, got int"),  # noqa: E501
    "null is no dictionary": (lambda: ClassifierFree(TokenDenoiser(network, Masked(5)), 2.0, null=2), TypeError, "by name"),  # noqa: E501
    "rescale": (
        lambda: ClassifierFree(TokenDenoiser(network, Masked(5)), 2.0, null={"shift": 0.0}, rescale=0.5),
        ValueError, "tokens have none",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_refusals(name: str) -> None:
    call, kind, message = CASES[name]
    with pytest.raises(kind, match=message):
        call()
