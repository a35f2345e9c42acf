"""Every steering method once on a model of real data, and the model itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("sklearn")

from scidiffuse.core import DDIM, DDPM, Clamp, ClassifierFree, DPMSolverPP, checkpoint, sample
from scidiffuse.core.digits import ASSET, NULL, QDA, digits, load, train
from scidiffuse.core.steering import (
    FeynmanKac,
    boundary_search,
    random_search,
    search_over_paths,
    svdd,
    zero_order_search,
)

TARGET, SIZE, STEPS = 3, 8, 12


@pytest.fixture(scope="module")
def judge() -> QDA:
    return QDA(*digits())


def reward_of(judge: QDA) -> Any:
    return lambda x, step: judge.log_posterior(x)[:, TARGET]


def anything(size: int) -> dict[str, torch.Tensor]:
    return {"condition": torch.full((size,), NULL)}


def test_the_judge_is_independent_and_right(judge: QDA) -> None:
    x, c = digits(held_out=True)
    assert len(x) == 179 and len(digits()[0]) == 1618
    assert (judge.log_posterior(x).argmax(1) == c).float().mean() > 0.97
    normal = torch.distributions.MultivariateNormal(judge.means[4], scale_tril=judge.roots[4])
    exact = normal.log_prob(x.flatten(1).double()) + judge.log_shares[4]
    difference = exact - judge.log_joint(x)[:, 4]
    torch.testing.assert_close(difference, difference[:1].expand_as(difference), rtol=0, atol=1e-8)


def test_the_asset_makes_digits_of_the_class_it_is_told(judge: QDA) -> None:
    denoiser = load()
    labels = torch.arange(10).repeat(6)
    x = sample(denoiser, DPMSolverPP(order=2), steps=15, shape=(60, 1, 8, 8), seed=0, condition={"condition": labels}).x
    assert (judge.log_posterior(x).argmax(1) == labels).float().mean() > 0.9
    guided = ClassifierFree(denoiser, 2.0, null={"condition": NULL})
    y = sample(guided, DPMSolverPP(order=2), steps=15, shape=(60, 1, 8, 8), seed=0, condition={"condition": labels}).x
    own = torch.arange(60), labels
    assert judge.log_posterior(y)[own].mean() > judge.log_posterior(x)[own].mean()


def test_the_asset_is_small_and_has_its_card() -> None:
    assert sum(file.stat().st_size for file in ASSET.iterdir()) < 300_000
    card = (ASSET / "README.md").read_text()
    for word in ("CC BY 4.0", "scidiffuse.core.digits", "seed 0", "1500"):
        assert word in card


def test_feynman_kac_steers_to_a_class(judge: QDA) -> None:
    hook = FeynmanKac(reward_of(judge), 8)
    common: dict[str, Any] = {"steps": STEPS, "shape": (64, 1, 8, 8), "seed": 0, "condition": anything(64)}
    plain = sample(load(), DDPM(), **common).x
    result = sample(load(), DDPM(), hooks=[hook], **common)
    assert (judge.log_posterior(plain).argmax(1) == TARGET).float().mean() < 0.3
    assert (judge.log_posterior(result.x).argmax(1) == TARGET).float().mean() > 0.6


def test_steering_composes_with_guidance(judge: QDA) -> None:
    # the guided law is what is tilted: towards class 3 by the label, and among those towards much ink by the reward
    guided = ClassifierFree(load(), 1.5, null={"condition": NULL})
    common: dict[str, Any] = {
        "steps": STEPS, "shape": (32, 1, 8, 8), "seed": 0, "condition": {"condition": torch.full((32,), TARGET)},
    }  # fmt: skip

    def ink(x: torch.Tensor, step: Any) -> torch.Tensor:
        return x.flatten(1).sum(1)

    plain = sample(guided, DDPM(), **common).x
    inked = sample(guided, DDPM(), hooks=[Clamp(), FeynmanKac(ink, 8)], **common).x
    assert ink(inked, None).mean() > ink(plain, None).mean() + ink(plain, None).std()
    assert (judge.log_posterior(inked).argmax(1) == TARGET).float().mean() > 0.8


@pytest.mark.parametrize("method", ["svdd", "random", "zero_order", "paths"])
def test_svdd_and_the_searches_steer_to_a_class(judge: QDA, method: str) -> None:
    reward = reward_of(judge)
    problem: dict[str, Any] = {
        "reward": reward, "steps": STEPS, "shape": (SIZE, 1, 8, 8), "seed": 0, "condition": anything(SIZE),
    }  # fmt: skip
    if method == "svdd":
        x = svdd(load(), DDPM(), candidates=6, alpha=0.5, **problem).x
    elif method == "random":
        x = random_search(load(), DDIM(), candidates=6, **problem).x
    elif method == "zero_order":
        x = zero_order_search(load(), DDIM(), rounds=2, neighbours=3, radius=0.7, **problem).x
    else:
        x = search_over_paths(load(), DDIM(), paths=2, branches=2, begin=3, forward=1, backward=4, **problem).x
    plain = sample(load(), DDIM(), steps=STEPS, shape=(SIZE, 1, 8, 8), seed=0, condition=anything(SIZE)).x
    assert reward(x, None).mean() > reward(plain, None).mean() + 3.0  # nats


def test_a_shared_noise_chosen_on_pairs_serves_others() -> None:
    (x, c), (held, labels) = digits(), digits(held_out=True)

    def search(target: torch.Tensor, label: torch.Tensor) -> Any:
        return boundary_search(
            load(), DDIM(), steps=6, reward=lambda x, s: -(x - target).square().flatten(1).mean(1), shape=(20, 1, 8, 8),
            seed=0, candidates=8, condition={"condition": label},
        )  # fmt: skip

    chosen, others = search(x[:20], c[:20]), search(held[:20], labels[:20])
    assert others.scores.mean(1)[chosen.best] > others.scores.mean()


def test_the_training_command_writes_what_load_reads(tmp_path: Path) -> None:
    denoiser = train(tmp_path, steps=2)
    assert checkpoint.is_checkpoint(tmp_path / "model")
    head = json.loads((tmp_path / "model" / "checkpoint.json").read_text())
    assert head["kind"] == "Digits" and head["config"] == json.loads((ASSET / "checkpoint.json").read_text())["config"]
    again = load(tmp_path / "model")
    x = torch.randn(3, 1, 8, 8)
    c = {"condition": torch.tensor([0, 5, NULL])}
    assert torch.equal(denoiser(x, 0.5, **c).data, again(x, 0.5, **c).data)
