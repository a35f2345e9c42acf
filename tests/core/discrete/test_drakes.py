"""Fine-tuning by gradients through relaxed samples, on sequences whose laws can be enumerated."""

import csv
import itertools

import pytest
import torch
from torch import nn

from scidiffuse.core.discrete import Masked, MaskUniform, TokenDenoiser, Uniform
from scidiffuse.core.discrete.drakes import drakes, relaxed_steps, straight_through
from scidiffuse.core.discrete.path_kl import hard_steps, step_kl
from scidiffuse.core.networks import TokenTransformer
from scidiffuse.core.noise import SlotNoise
from scidiffuse.core.spaces import Euclidean
from scidiffuse.core.spaces import Masked as Padded

S, L = 4, 3  # three tokens and the mask


class Pairs(nn.Module):
    """Logits that are linear in the embeddings of all tokens, with a table for each of `times` values of the label."""

    def __init__(self, times=1, seed=0, states=S, length=L):
        super().__init__()
        g = torch.Generator().manual_seed(seed)
        self.embed = nn.Embedding(states, 6, _weight=torch.randn(states, 6, generator=g, dtype=torch.float64))
        self.w = nn.Parameter(torch.randn(times, length * 6, length * states, generator=g, dtype=torch.float64) / 3)
        self.shape = (-1, length, states)

    def forward(self, x, t):
        k = (t[0] / 1000.0 * len(self.w)).round().long().clamp_max(len(self.w)) - 1
        return (self.embed(x).flatten(1) @ self.w[k]).reshape(self.shape)


def tiny(times=1, mask_id=None):
    return TokenDenoiser(Pairs(times), Masked(S, mask_id=mask_id))


STATES = torch.tensor(list(itertools.product(range(S), repeat=L)))
TABLE = torch.randn(3, 3, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
R = torch.zeros(S, S, S, dtype=torch.float64)
R[:3, :3, :3] = TABLE
R = R.flatten()


def reward(y):
    return torch.einsum("ba,bc,bd,acd->b", y[:, 0], y[:, 1], y[:, 2], TABLE)


def chain(denoiser, base, steps):
    """Law of the samples and divergence of the paths, exact and differentiable."""
    process = denoiser.process
    times = [1.0 - k / steps for k in range(steps + 1)]
    law, kl = torch.zeros(len(STATES), dtype=torch.float64), 0.0
    law[-1] = 1.0
    weight = (process.mask == STATES).double()
    for t, s in itertools.pairwise(times):
        log_p = denoiser(STATES, t).log_probs
        kl = kl + law @ step_kl(process, log_p, base(STATES, t).log_probs, weight, s, t)
        q = process.log_posterior(log_p, STATES, s, t).exp()
        matrix = torch.ones(len(STATES), len(STATES), dtype=torch.float64)
        for j in range(L):
            matrix = matrix * q[:, j, STATES[:, j]]
        law = law @ matrix
    return law, kl


def everywhere(n):
    return torch.ones(n, L, dtype=torch.bool)


def masks(n):
    return nn.functional.one_hot(torch.full((n, L), S - 1), S).double()


def flat(gradients):
    return torch.cat([g.flatten() for g in gradients])


SETTINGS = {"length": L, "steps": 4, "truncate": 2, "batch_size": 8, "accumulate": 2, "lr": 0.02, "seed": 0}


# ---------------------------------------------------------------- the relaxed chain
def ends(denoiser, n, steps, temperature, straight="end"):
    """How often each sequence ends relaxed chains that start from masks."""
    times = tuple(1.0 - k / steps for k in range(steps + 1))
    noise = SlotNoise(0, range(n))
    with torch.no_grad():
        x, kl = relaxed_steps(denoiser, denoiser, masks(n), times, noise, everywhere(n), {}, temperature, straight)
    torch.testing.assert_close(x.sum(-1), torch.ones(n, L, dtype=torch.float64), rtol=0, atol=1e-12)
    assert float(x[..., S - 1].max()) == 0.0 and float(kl.abs().max()) == 0.0  # no mask is left; a model is itself
    return torch.bincount((x.argmax(-1) * torch.tensor([16, 4, 1])).sum(1), minlength=64)


def test_cold_relaxed_chains_have_nearly_the_law_of_the_exact_ones_and_hot_ones_have_not():
    denoiser, n = tiny(), 6000
    law = chain(denoiser, denoiser, 4)[0].detach()
    noise = 0.4 * float((law * (1 - law) / n).sqrt().sum())  # mean distance of n exact draws
    cold, hot = (float((ends(denoiser, n, 4, temperature) / n - law).abs().sum() / 2) for temperature in (0.02, 1.0))
    assert cold < 2.0 * noise and hot > 4.0 * noise


@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_straight_in_every_step_has_the_law_of_the_exact_chain(temperature):
    denoiser, n = tiny(), 6000
    law = chain(denoiser, denoiser, 4)[0].detach()
    counts = ends(denoiser, n, 4, temperature, "step")
    reached = law > 0
    assert int(reached.sum()) == 27 and int(counts[~reached].sum()) == 0
    small = reached & (law * n < 5)
    cells = [(counts[reached & ~small], law[reached & ~small] * n), (counts[small].sum(), law[small].sum() * n)]
    statistic = sum(float(((c - e) ** 2 / e).sum()) for c, e in cells if float(e.sum()) > 0)
    assert statistic < 70.0  # at most 26 degrees of freedom: exceeded with probability 7e-6


def test_gradient_of_the_relaxed_chain_is_its_derivative():
    denoiser, base, n, h = tiny(), tiny(), 16, 1e-6
    with torch.no_grad():
        denoiser.network.w.add_(0.3 * torch.randn(denoiser.network.w.shape, generator=torch.Generator().manual_seed(1)))
    base.network.requires_grad_(False)
    times = (0.75, 0.5, 0.25, 0.0)
    weight = torch.randn(n, L, S, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def value():
        x, kl = relaxed_steps(denoiser, base, masks(n), times, SlotNoise(3, range(n)), everywhere(n), {}, 0.7)
        return (weight * x).sum() + kl.sum()

    parameters = list(denoiser.network.parameters())
    gradients = torch.autograd.grad(value(), parameters)
    for p, gradient in zip(parameters, gradients, strict=True):
        direction = torch.randn(p.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
        with torch.no_grad():
            p.add_(h * direction)
            up = float(value())
            p.sub_(2 * h * direction)
            down = float(value())
            p.add_(h * direction)
        assert float((gradient * direction).sum()) == pytest.approx((up - down) / (2 * h), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("z", [-40.0, 9.0])  # uniforms that float32 rounds to 0 and to 1
def test_extreme_uniforms_stay_finite(dtype, z):
    def noise(like, draw, role):
        out = torch.zeros_like(like)
        out[:, 0, 1] = z
        return out

    denoiser = tiny()
    x, kl = relaxed_steps(denoiser, denoiser, masks(2).to(dtype), (1.0, 0.5, 0.0), noise, everywhere(2), {}, 1.0)
    (x[..., 0].sum() + kl.sum()).backward()
    assert x.dtype == dtype and bool(torch.isfinite(x).all())
    assert all(bool(torch.isfinite(p.grad).all()) for p in denoiser.network.parameters())


def test_straight_through_is_one_hot_with_the_gradient_of_the_row():
    x = torch.tensor([[[0.2, 0.5, 0.3], [0.6, 0.0, 0.4]]], requires_grad=True)
    y = straight_through(x, 0, torch.tensor([[True, False]]))
    assert torch.equal(y, torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]))
    (y * torch.tensor([3.0, 5.0])).sum().backward()
    assert torch.equal(x.grad, torch.tensor([[[0.0, 3.0, 5.0], [0.0, 0.0, 0.0]]]))


@pytest.mark.parametrize(
    ("truncate", "straight", "least", "shortest"),
    [(8, "end", 0.85, 0.4), (1, "end", 0.75, 0.05), (8, "step", 0.85, 0.8)],
)
def test_direction_of_the_gradient_agrees_with_the_exact_one(truncate, straight, least, shortest):
    # the exact gradient is that of sum_x p(x) r(x), which enumeration gives; relaxed ones are biased, but point there
    denoiser, n, steps = tiny(), 4000, 8
    times = tuple(1.0 - k / steps for k in range(steps + 1))
    parameters = list(denoiser.network.parameters())
    exact = flat(torch.autograd.grad(chain(denoiser, denoiser, steps)[0] @ R, parameters))
    x = torch.full((n, L), S - 1)
    with torch.no_grad():
        first = times[: steps - truncate + 1]
        for _, new in hard_steps(denoiser, denoiser, x, first, SlotNoise(0, range(n)), Euclidean(), {}):
            x = new
    soft, _ = relaxed_steps(
        denoiser, denoiser, nn.functional.one_hot(x, S).double(), times[steps - truncate :], SlotNoise(1, range(n)),
        everywhere(n), {}, 1.0, straight,
    )  # fmt: skip
    found = flat(torch.autograd.grad(reward(straight_through(soft, S - 1, everywhere(n))).mean(), parameters))
    assert float(torch.cosine_similarity(exact, found, 0)) > least
    assert shortest < float(found.norm() / exact.norm()) < 1.3


@pytest.mark.parametrize(("truncate", "alpha"), [(1, 0.0), (3, 0.0), (1, 0.5)])
def test_the_reward_reaches_the_last_steps_alone_and_the_divergence_all(truncate, alpha):
    denoiser = tiny(times=4)  # a table of weights for each of the four steps
    moved = drakes(
        denoiser, reward, iterations=2, **SETTINGS | {"truncate": truncate, "alpha": alpha, "grad_clip": None}
    )
    change = (moved.denoiser.network.w - denoiser.network.w).detach().abs().amax((1, 2))  # step t = 1/4 comes first
    last = change[:truncate]
    assert bool((last > 1e-3).all())
    if alpha:
        # the base is where it started: no divergence at first, some as soon as the last steps (the embedding) moved
        assert bool((change[truncate:] > 0).all())
    else:
        assert float(change[truncate:].max()) == 0.0


# ---------------------------------------------------------------- fine-tuning
@pytest.mark.parametrize("straight", ["end", "step"])
def test_reward_rises_and_alpha_bounds_the_divergence(straight):
    denoiser = tiny()
    settings = SETTINGS | {"truncate": 4, "batch_size": 32, "accumulate": 1, "straight": straight}
    with torch.no_grad():
        law, _ = chain(denoiser, denoiser, 4)
    before = float(law @ R)
    found = {}
    for alpha in (0.0, 1.0):
        tuned = drakes(denoiser, reward, iterations=60, alpha=alpha, **settings)
        with torch.no_grad():
            after, kl = chain(tuned.denoiser, denoiser, 4)
        found[alpha] = float(after @ R), float(kl)
        assert tuned.history[0]["kl"] == 0.0
        assert [row["iteration"] for row in tuned.history] == list(range(60))
        row = tuned.history[-1]
        assert row["loss"] == pytest.approx(alpha * row["kl"] - row["reward"], abs=1e-12)
    assert found[0.0][0] > found[1.0][0] > before + 0.3
    assert found[1.0][1] < 0.6 * found[0.0][1]
    best = float((law[law > 0].log() + R[law > 0]).logsumexp(0))  # log Z bounds E[r] - KL
    assert before + 0.15 < found[1.0][0] - found[1.0][1] < best
    assert found[0.0][0] - found[0.0][1] < found[1.0][0] - found[1.0][1]


@pytest.mark.parametrize(("straight", "truncate"), [("end", 1), ("step", 12)])
def test_the_divergence_of_the_history_is_that_of_the_paths_where_steps_are_exact(straight, truncate):
    denoiser = tiny()
    settings = SETTINGS | {"steps": 12, "truncate": truncate, "batch_size": 512, "accumulate": 1, "lr": 0.05}
    settings |= {"straight": straight, "alpha": 0.05}
    row = drakes(denoiser, reward, iterations=9, **settings).history[8]
    before = drakes(denoiser, reward, iterations=8, **settings)  # the weights that made that row
    with torch.no_grad():
        law, kl = chain(before.denoiser, denoiser, 12)
    assert float(kl) > 0.05
    assert row["kl"] == pytest.approx(float(kl), rel=0.12)
    assert row["reward"] == pytest.approx(float(law @ R), abs=0.2)


def test_same_seed_same_result_without_the_global_generator():
    denoiser = tiny()
    given = {name: value.clone() for name, value in denoiser.network.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    a = drakes(denoiser, reward, iterations=3, **SETTINGS)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    seen = []
    b = drakes(denoiser, reward, iterations=3, callback=lambda row, tuned: seen.append(row), **SETTINGS)
    other = drakes(denoiser, reward, iterations=3, **SETTINGS | {"seed": 1})
    assert a.history == b.history == seen and a.history != other.history
    assert torch.equal(a.denoiser.network.w, b.denoiser.network.w)
    for name, value in denoiser.network.state_dict().items():
        assert torch.equal(value, given[name])
    assert all(p.requires_grad and p.grad is None for p in denoiser.network.parameters())


def test_clipping_bounds_what_adam_sees_and_parameters_of_the_reward_get_no_gradient():
    judge = nn.Linear(9, 1).double()
    free = drakes(tiny(), lambda y: 1e3 * judge(y.flatten(1)).squeeze(1), iterations=1, **SETTINGS)
    assert judge.weight.grad is None
    assert free.history[0]["grad_norm"] > 1.0  # recorded before clipping


@pytest.mark.parametrize("network", ["transformer", "labels"])
def test_networks_of_the_core(network):
    torch.manual_seed(0)
    labels = {"condition_classes": 2} if network == "labels" else {}
    denoiser = TokenDenoiser(TokenTransformer(S, 16, 1, 2, time=None, dropout=0.5, **labels), Masked(S))
    asked = []

    def condition(slots):
        asked.append(slots)
        return {"condition": torch.tensor([k % 2 for k in slots])}

    result = drakes(
        denoiser, lambda y: y[..., 0].sum(1), iterations=25, alpha=0.01,
        condition=condition if labels else None, **SETTINGS | {"lr": 1e-2},
    )  # fmt: skip
    assert result.history[-1]["reward"] > result.history[0]["reward"] + 1.0  # of 3
    if labels:
        assert asked[:3] == [range(8), range(8, 16), range(16, 24)]


def test_padding_and_a_mask_that_comes_first():
    space = Padded(torch.tensor([[True, True, False]]))
    denoiser = TokenDenoiser(Pairs(), Masked(S, mask_id=0), space)
    seen = []

    def judge(y):
        seen.append(y.detach())
        return y[..., 2].sum(1)  # id 3 of the data, the third without the mask

    result = drakes(denoiser, judge, iterations=30, alpha=0.0, **SETTINGS)
    assert all(bool((y[:, 2] == 0).all()) and bool((y[:, :2].sum(-1) == 1).all()) for y in seen)
    assert result.history[-1]["reward"] > result.history[0]["reward"] + 0.3


def test_resuming_gives_the_uninterrupted_run(tmp_path):
    whole = drakes(tiny(), reward, iterations=5, **SETTINGS)
    first = drakes(tiny(), reward, iterations=3, out=tmp_path / "run", **SETTINGS)
    assert first.history == whole.history[:3]
    second = drakes(tiny(), reward, iterations=5, out=tmp_path / "run", resume=True, **SETTINGS)
    assert second.history == whole.history and second.iterations == 5
    assert torch.equal(second.denoiser.network.w, whole.denoiser.network.w)
    with (tmp_path / "run" / "losses.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["reward"]) for row in rows] == [row["reward"] for row in whole.history]
    from scidiffuse.core import checkpoint

    assert torch.equal(checkpoint.load(tmp_path / "run" / "model").tensors["w"], whole.denoiser.network.w)
    done = drakes(tiny(), reward, iterations=5, out=tmp_path / "run", resume=True, **SETTINGS)
    assert torch.equal(done.denoiser.network.w, whole.denoiser.network.w)
    with pytest.raises(ValueError, match="holds a fine-tuning already: pass resume=True"):
        drakes(tiny(), reward, iterations=5, out=tmp_path / "run", **SETTINGS)
    with pytest.raises(ValueError, match="differs in alpha"):
        drakes(tiny(), reward, iterations=5, out=tmp_path / "run", resume=True, alpha=0.5, **SETTINGS)
    with pytest.raises(ValueError, match="differs in base"):
        drakes(tiny(2), reward, iterations=5, out=tmp_path / "run", resume=True, **SETTINGS)
    with pytest.raises(ValueError, match="needs the folder"):
        drakes(tiny(), reward, iterations=5, resume=True, **SETTINGS)


# ---------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"alpha": -0.1}, "alpha must be finite and >= 0, got -0.1"),
        ({"alpha": float("nan")}, "alpha must be finite"),
        ({"truncate": 5}, "truncate=5 relaxed steps are more than the steps=4"),
        ({"truncate": 0}, "truncate must be an integer >= 1"),
        ({"length": 0}, "length must be an integer >= 1"),
        ({"iterations": 1.5}, "iterations must be an integer"),
        ({"save_every": 0}, "save_every must be an integer"),
        ({"temperature": 0.0}, "temperature must be finite and > 0"),
        ({"lr": 0.0}, "lr must be finite and > 0"),
        ({"grad_clip": -1.0}, "grad_clip must be finite and > 0"),
        ({"straight": "always"}, 'straight is "end" or "step", got'),
        ({"condition": {"t": 1}}, "condition='t' means something else"),
    ],
)
def test_settings_out_of_range(changed, message):
    with pytest.raises(ValueError, match=message):
        drakes(tiny(), reward, **{"iterations": 1} | SETTINGS | changed)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused(dtype):
    with pytest.raises(TypeError, match="Gumbel numbers in"):
        drakes(tiny(), reward, iterations=1, dtype=dtype, **SETTINGS)
    with pytest.raises(TypeError, match="network's own type"):
        drakes(tiny().in_half(dtype), reward, iterations=1, **SETTINGS)


def test_denoisers_of_another_kind():
    for process in (Uniform(S), MaskUniform(S)):
        with pytest.raises(ValueError, match="is defined for the process Masked"):
            drakes(TokenDenoiser(Pairs(), process), reward, iterations=1, **SETTINGS)
    with pytest.raises(TypeError, match="must be a TokenDenoiser"):
        drakes(Pairs(), reward, iterations=1, **SETTINGS)
    with pytest.raises(TypeError, match=r"trains an nn\.Module"):
        drakes(TokenDenoiser(lambda x, t: x, Masked(S)), reward, iterations=1, **SETTINGS)
    with pytest.raises(TypeError, match="takes ids alone"):
        drakes(TokenDenoiser(nn.Linear(1, 1), Masked(S)), reward, iterations=1, **SETTINGS)
    frozen = tiny()
    frozen.network.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to tune"):
        drakes(frozen, reward, iterations=1, **SETTINGS)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (lambda y: y.argmax(-1).double().sum(1), TypeError, "no gradient with respect to the one-hot tokens"),
        (lambda y: y.detach().sum((1, 2)), TypeError, "no gradient"),
        (lambda y: y.sum(), ValueError, r"must return shape \(8,\), one number a sequence; got \(\)"),
        (lambda y: y.sum(2), ValueError, r"got \(8, 3\)"),
        (lambda y: [0.0] * len(y), TypeError, "must return a tensor"),
        (lambda y: (y.sum((1, 2)) - 3.0).log(), ValueError, "reward of sequence 0 of 8 is -inf: it must be finite"),
    ],
)
def test_rewards_that_answer_badly(bad, error, message):
    with pytest.raises(error, match=message):
        drakes(tiny(), bad, iterations=1, **SETTINGS)


def test_a_gradient_that_is_not_finite_is_named():
    with pytest.raises(FloatingPointError, match=r"gradient is .* in iteration 0"):
        drakes(tiny(), lambda y: (1.0 - y[:, 0].sum(-1)).abs().sqrt() + y[:, 0, 0].sqrt(), iterations=1, **SETTINGS)
