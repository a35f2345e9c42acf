"""Losses of tokens: bounds are equalities where they must be, by enumeration; masks, padding, gradients, refusals."""

import math

import numpy as np
import pytest
import torch

from scidiffuse.core.discrete import (
    Marginal,
    Masked,
    MaskUniform,
    MetricPath,
    MixturePath,
    ProductProcess,
    TokenDenoiser,
    Uniform,
)
from scidiffuse.core.discrete.asked import ask
from scidiffuse.core.discrete.categorical import uniforms
from scidiffuse.core.discrete.closed_form import Sequences, all_states
from scidiffuse.core.discrete.keep import Exponential
from scidiffuse.core.discrete.losses import (
    continuous_elbo,
    cross_entropy,
    discrete_elbo,
    path_divergence,
    prior_divergence,
    prior_kl,
    step_divergence,
    token_nll,
)
from scidiffuse.core.discrete.paths import TokenPath
from scidiffuse.core.discrete.priority import PriorityMasked
from scidiffuse.core.noise import SlotNoise
from scidiffuse.core.spaces import Graph, Product
from scidiffuse.core.spaces import Masked as MaskedSpace

K = 3
PROCESSES = [
    Masked(K + 1),
    Masked(K + 1, keep="cosine", mask_id=K),
    Uniform(K),
    Marginal(probs=(0.5, 0.3, 0.2)),
    MaskUniform(K + 1, uniform=0.4),
]
IDS = ["masked", "masked-cosine", "uniform", "marginal", "mask-uniform"]
every_process = pytest.mark.parametrize("process", PROCESSES, ids=IDS)
PATHS = [
    MixturePath(probs=(0.5, 0.3, 0.2)),
    MixturePath(probs=(1.0, 1.0, 1.0), keep="linear"),
    MetricPath.ordinal(K, a=1.0, c=2.0),
]
PATH_IDS = ["mixture", "mixture-linear", "metric"]
every_path = pytest.mark.parametrize("process", PATHS, ids=PATH_IDS)
every_rate = pytest.mark.parametrize("process", PROCESSES + PATHS, ids=IDS + PATH_IDS)


def corruption(process, x0, x, t, reference=None):
    """q(x_t | x_0) of one x0 (L,) for every x (N, L)."""
    out = torch.ones(len(x), dtype=torch.float64)
    for j in range(x.shape[1]):
        y = None if reference is None else reference[:, j : j + 1]
        out *= process.marginal(float(process.local(t, y)))[x0[j], x[:, j]]
    return out


def expected(law, denoiser, process, t, values, reference=None):
    """E_{q(x_t | x_0)} of values(pred, x0) summed over the tokens, for every x_0 of the support: (N,)."""
    x = all_states(process.states, law.length)
    asked = {} if reference is None else {"reference": reference.expand(len(x), -1)}
    pred = denoiser(x, t, **asked)
    out = []
    for x0 in law.support:
        q = corruption(process, x0, x, t, reference)
        each = values(pred, x0.expand(len(x), -1)).sum(1)
        out.append((q * torch.where(q > 0, each, 0.0)).sum())
    return torch.stack(out)


def integral(law, denoiser, process, nodes, reference=None):
    """The path bound of every x_0 in nats; t = v^3 (10 - 15 v + 6 v^2) smooths what is not analytic at the ends."""
    v, w = np.polynomial.legendre.leggauss(nodes)
    v, w = (v + 1) / 2, w / 2
    total = prior_divergence(process)[law.support].sum(1)
    for a, b in zip(v.tolist(), w.tolist(), strict=True):
        t, speed = a**3 * (10 - 15 * a + 6 * a * a), 30 * (a * (1 - a)) ** 2
        total = total + b * speed * expected(law, denoiser, process, t, path_divergence, reference)
    return total


@every_process
def test_path_bound_of_the_exact_denoiser_is_the_likelihood(process):
    """For every x_0, not only in the mean; quadrature over t, all x_t enumerated."""
    law = Sequences.random(K, 2, seed=3)
    bound = integral(law, law.denoiser(process), process, 24)
    assert torch.allclose(bound, -law.probs.log(), atol=2e-4)


@every_process
def test_path_bound_of_a_wrong_denoiser_is_larger(process):
    law, other = Sequences.random(K, 2, seed=3), Sequences.random(K, 2, seed=4)
    bound = integral(law, other.denoiser(process), process, 24)
    assert float((law.probs * (bound + law.probs.log())).sum()) > 0.1
    assert torch.allclose(bound, -other.probs.log(), atol=2e-4)  # it is the exact denoiser of the other law


@every_path
def test_path_bounds_of_paths_are_not_tight(process):
    """The exact denoiser samples the law (`samplers.test_ctmc`), and pays more than -log p(x_0) for every x_0."""
    law = Sequences.random(K, 2, seed=2)
    denoiser = law.denoiser(process)
    bound = integral(law, denoiser, process, 24)
    gap = float((law.probs * (bound + law.probs.log())).sum()) / 2 / math.log(2)
    assert bool((bound > 0.2 - law.probs.log()).all()) and 0.29 < gap < 0.33  # bits a token; the law has 1.04


def test_priorities_change_the_way_and_not_the_likelihood():
    law = Sequences.random(K, 2, seed=5)
    process = PriorityMasked(K + 1, strength=0.3)
    network = law.denoiser(Masked(K + 1)).network  # what stands behind masks does not depend on the time
    denoiser = TokenDenoiser(lambda x, t: network(x, torch.full((len(x),), 0.5).double()), process)
    reference = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    bound = integral(law, denoiser, process, 16, reference)
    assert torch.allclose(bound, -law.probs.log(), atol=1e-6)


@every_process
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_steps_of_one_token_are_exact_for_any_number_of_them(process, steps):
    law = Sequences(torch.tensor([0.6, 0.3, 0.1]))
    denoiser = law.denoiser(process)
    total = prior_divergence(process)[law.support].sum(1)
    for k in range(1, steps + 1):
        s = (k - 1) / steps
        total = total + expected(law, denoiser, process, k / steps, lambda p, x0, s=s: step_divergence(p, x0, s))
    assert torch.allclose(total, -law.probs.log(), atol=1e-10)


@every_process
def test_steps_of_several_tokens_approach_the_likelihood_from_above(process):
    law = Sequences.random(K, 2, seed=3)
    denoiser = law.denoiser(process)
    gaps = []
    for steps in (4, 8, 16):
        total = prior_divergence(process)[law.support].sum(1)
        for k in range(1, steps + 1):
            s = (k - 1) / steps
            total = total + expected(law, denoiser, process, k / steps, lambda p, x0, s=s: step_divergence(p, x0, s))
        gaps.append(float((law.probs * (total + law.probs.log())).sum()))
    assert gaps[0] > gaps[1] > gaps[2] > 0
    assert 1.5 < gaps[1] / gaps[2] < 2.6  # first order in 1/T


# ---------------------------------------------------------------------- single numbers
def ragged(process, b=5, length=4, seed=0):
    """A denoiser with arbitrary logits, and clean tokens."""
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(b, length, process.states, generator=g, dtype=torch.float64)
    x0 = torch.randint(K, (b, length), generator=g)
    return TokenDenoiser(lambda x, t: logits[: len(x), : x.shape[1]], process), x0


def test_masked_closed_form_is_the_general_one():
    process = Masked(K + 1, keep="cosine")
    denoiser, x0 = ragged(process)
    t = torch.linspace(0.2, 0.9, 5, dtype=torch.float64)
    asked = ask(denoiser, x0, t, noise=SlotNoise(0, range(5)))
    log_p = asked.pred.log_probs
    certain = torch.full_like(log_p, -torch.inf).scatter(-1, x0.unsqueeze(-1), 0.0)
    r, r0 = (process.reverse_rate(p, asked.pred.x, t) for p in (log_p, certain))
    general = (r - r0 + torch.where(r0 > 0, r0 * (r0.clamp_min(1e-300) / r.clamp_min(1e-300)).log(), 0.0)).sum(-1)
    assert torch.allclose(path_divergence(asked.pred, x0), general)
    s = 0.5 * t
    q, p = (process.log_posterior(p, asked.pred.x, s, t) for p in (certain, log_p))
    kl = torch.where(q > -torch.inf, q.exp() * (q - p), 0.0).sum(-1)
    assert torch.allclose(step_divergence(asked.pred, x0, s), kl)


def test_uniform_is_the_formula_of_udlm():
    """Its network says x_theta, and p(x_0 | x_t) ~ x_theta q(x_t | x_0) is the same model."""
    process = Uniform(K, keep="cosine")
    denoiser, x0 = ragged(process)
    t = torch.linspace(0.2, 0.9, 5, dtype=torch.float64)
    asked = ask(denoiser, x0, t, noise=SlotNoise(1, range(5)))
    theta = asked.pred.probs
    likelihood = torch.stack([process.marginal(float(v)) for v in t])  # (B, x_0, x_t)
    q = likelihood.transpose(1, 2)[torch.arange(5)[:, None], asked.pred.x]
    pred = asked.pred.with_log_probs((theta * q / (theta * q).sum(-1, keepdim=True)).log())
    alpha = process.schedule.alpha(t)[:, None, None]
    slope = -process.schedule.speed(t)[:, None]
    hot = torch.nn.functional.one_hot(x0, K).double()
    b, model = (K * alpha * p + 1 - alpha for p in (hot, theta))
    i = asked.pred.x.unsqueeze(-1)
    bi, mi = b.gather(-1, i), model.gather(-1, i)
    inner = (K / bi - K / mi).squeeze(-1) - (b / bi * (mi * b / (model * bi)).log()).sum(-1)
    assert torch.allclose(path_divergence(pred, x0), slope / (K * alpha[..., 0]) * inner)


@every_process
def test_many_steps_are_the_continuous_loss(process):
    denoiser, x0 = ragged(process)
    t = torch.linspace(0.3, 0.8, 5, dtype=torch.float64)
    asked = ask(denoiser, x0, t, noise=SlotNoise(0, range(5)))
    h = 1e-5
    assert torch.allclose(
        step_divergence(asked.pred, x0, t - h) / h, path_divergence(asked.pred, x0), rtol=1e-3, atol=1e-6
    )


@every_rate
def test_losses_are_means_of_the_numbers_a_token(process):
    denoiser, x0 = ragged(process)
    t, noise = torch.linspace(0.3, 0.9, 5, dtype=torch.float64), SlotNoise(0, range(5))
    asked = ask(denoiser, x0, t, noise=noise)
    nll = token_nll(asked.pred, x0)
    assert torch.allclose(continuous_elbo(denoiser, x0, t, noise=noise), path_divergence(asked.pred, x0).mean(1))
    undecided = asked.pred.x == K if isinstance(process, Masked) else torch.ones_like(x0, dtype=torch.bool)
    mean = torch.where(undecided, nll, 0).sum(1) / undecided.sum(1).clamp_min(1)
    assert torch.allclose(cross_entropy(denoiser, x0, t, noise=noise), mean)
    if isinstance(process, TokenPath):
        return
    step = torch.tensor([1, 3, 5, 8, 10])
    asked = ask(denoiser, x0, step / 10, noise=noise)
    plain = discrete_elbo(denoiser, x0, step, 10, noise=noise)
    assert torch.allclose(plain, 10 * step_divergence(asked.pred, x0, (step - 1) / 10).mean(1))
    nll = token_nll(asked.pred, x0).mean(1)
    both = discrete_elbo(denoiser, x0, step, 10, noise=noise, auxiliary=0.01)
    assert torch.allclose(both, plain + 0.1 * nll)
    both = discrete_elbo(denoiser, x0, step, 10, noise=noise, auxiliary=0.01, adaptive=True)
    assert torch.allclose(both, plain + 0.1 * (2 - (step - 1) / 10) * nll)


@every_rate
def test_padding_given_tokens_and_loss_masks(process):
    """Padding changes nothing; tokens that are given are seen clean and, as masked ones, do not count."""
    denoiser, x0 = ragged(process)
    t = torch.linspace(0.3, 0.9, 5, dtype=torch.float64)
    real = torch.tensor([[True, True, True, False]] * 5)
    noise = SlotNoise(0, range(5))
    short = continuous_elbo(denoiser, x0[:, :3], t, noise=noise)
    padded = x0.clone()
    padded[:, 3] = 99
    long = continuous_elbo(denoiser.on(MaskedSpace(real)), padded, t, noise=noise)
    assert torch.allclose(short, long)

    known = torch.tensor([[False, True, False, True]] * 5)
    u = torch.rand(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    asked = ask(denoiser, x0, t, noise=u, known=known)
    assert torch.equal(asked.pred.x[known], x0[known])
    value = path_divergence(asked.pred, x0)
    assert bool(torch.isfinite(value).all()) and bool((value[known] == 0).all())
    assert torch.allclose(continuous_elbo(denoiser, x0, t, noise=u, known=known), value[:, ::2].mean(1))
    everywhere = path_divergence(ask(denoiser, x0, t, noise=u).pred, x0)
    assert torch.allclose(continuous_elbo(denoiser, x0, t, noise=u, mask=~known), everywhere[:, ::2].mean(1))
    if isinstance(process, TokenPath):
        return
    step = torch.tensor([1, 2, 4, 7, 10])
    inner = discrete_elbo(denoiser, x0, step, 10, noise=u, known=known)
    assert torch.allclose(inner, discrete_elbo(denoiser, x0, step, 10, noise=u, mask=~known))


@every_rate
def test_times_a_token_are_those_times(process):
    denoiser, x0 = ragged(process)
    t = torch.linspace(0.05, 0.95, 20, dtype=torch.float64).reshape(5, 4)
    u = torch.rand(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pred = ask(denoiser, x0, t, noise=u).pred
    together = path_divergence(pred, x0)
    steps = None if isinstance(process, TokenPath) else step_divergence(pred, x0, 0.7 * t)
    for j in range(4):
        one = ask(denoiser, x0, t[:, j].contiguous(), noise=u).pred
        assert torch.equal(one.x[:, j], pred.x[:, j])
        assert torch.allclose(path_divergence(one, x0)[:, j], together[:, j])
        if steps is not None:
            assert torch.allclose(step_divergence(one, x0, 0.7 * t[:, j])[:, j], steps[:, j])


def test_leaves_of_product_states_add():
    nodes = torch.tensor([[True, True, True], [True, True, False]])
    process = ProductProcess(X=Uniform(K), A=Marginal(probs=(0.7, 0.3)))
    g = torch.Generator().manual_seed(0)
    out = {
        "X": torch.randn(2, 3, K, generator=g).double(),
        "A": torch.randn(2, 3, 3, 2, generator=g).double(),
    }
    out["A"] = out["A"] + out["A"].transpose(1, 2)
    space = Product(X=MaskedSpace(nodes), A=Graph(nodes))
    denoiser = TokenDenoiser(lambda x, t: out, process, space)
    x0 = {"X": torch.randint(K, (2, 3), generator=g), "A": torch.randint(2, (2, 3, 3), generator=g)}
    t, noise = torch.tensor([0.4, 0.7]).double(), uniforms(SlotNoise(0, range(2)), space, x0, 0)
    both = continuous_elbo(denoiser, x0, t, noise=noise, leaf_weights={"X": 1.0, "A": 5.0})
    parts = [continuous_elbo(denoiser, x0, t, noise=noise, leaf_weights={"X": a, "A": b}) for a, b in ((1, 0), (0, 1))]
    assert torch.allclose(both, parts[0] + 5 * parts[1])
    edges = TokenDenoiser(lambda x, t: out["A"], process.leaves["A"], Graph(nodes))
    assert torch.allclose(parts[1], continuous_elbo(edges, x0["A"], t, noise=noise["A"]))
    asked = ask(edges, x0["A"], t, noise=noise["A"])
    assert asked.counts.flatten(1).sum(1).tolist() == [3, 1]  # a mirrored pair is one token
    with pytest.raises(ValueError, match=r"leaf_weights names \['X'\]"):
        continuous_elbo(denoiser, x0, t, noise=noise, leaf_weights={"X": 1.0})


def test_prior_term():
    """By the tables, for a process that keeps 5 % of the tokens at the end."""
    x0 = torch.tensor([[0, 1, 2, 2]])
    for process in (Uniform(K, keep=Exponential(5.0)), MaskUniform(K + 1, keep=Exponential(5.0), uniform=0.3)):
        q, r = process.marginal(1.0), process.prior()
        kl = torch.where(q > 0, q * (q / r).log(), 0.0).sum(-1)
        assert torch.allclose(prior_divergence(process)[:K], kl[:K], atol=1e-14)
        value = prior_kl(TokenDenoiser(None, process), x0)
        assert torch.allclose(value, kl[x0].mean(1)) and float(value) > 1e-6
    assert float(prior_kl(TokenDenoiser(None, Masked(K + 1)), x0)) == 0.0
    assert math.isinf(float(prior_kl(TokenDenoiser(None, Masked(K + 1, keep="log_linear")), x0)))


# ---------------------------------------------------------------------- gradients
@every_rate
def test_gradients_are_those_of_differences_and_finite(process):
    """Also where posteriors hold -inf, at the first step, and at tokens that are given (time 0)."""
    _, x0 = ragged(process, b=4)
    u = torch.rand(4, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    known = torch.tensor([[False, True, False, False]] * 4)
    step = torch.tensor([1, 2, 7, 10])
    logits = torch.randn(4, 4, process.states, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def losses(logits):
        denoiser = TokenDenoiser(lambda x, t: logits, process)
        t = torch.tensor([0.01, 0.3, 0.6, 0.99], dtype=torch.float64)
        out = [continuous_elbo(denoiser, x0, t, noise=u, known=known), cross_entropy(denoiser, x0, t, noise=u)]
        if not isinstance(process, TokenPath):
            out.append(discrete_elbo(denoiser, x0, step, 10, noise=u, known=known, auxiliary=0.1, adaptive=True))
        return torch.stack(out)

    assert torch.autograd.gradcheck(losses, logits.requires_grad_(), eps=1e-6, atol=1e-5, fast_mode=True)


@every_rate
def test_gradients_in_float32_with_extreme_logits(process):
    _, x0 = ragged(process, b=4)
    logits = (60 * torch.randn(4, 4, process.states, generator=torch.Generator().manual_seed(3))).requires_grad_()
    denoiser = TokenDenoiser(lambda x, t: logits, process)
    step = torch.tensor([1, 2, 7, 10])
    noise = SlotNoise(0, range(4))
    loss = continuous_elbo(denoiser, x0, step / 10 - 0.05, noise=noise)
    if not isinstance(process, TokenPath):
        loss = loss + discrete_elbo(denoiser, x0, step, 10, noise=noise, auxiliary=0.1)
    loss.sum().backward()
    assert bool(torch.isfinite(loss).all()) and bool(torch.isfinite(logits.grad).all())


@every_path
@pytest.mark.parametrize("spread", [20.0, 60.0, 600.0])
def test_paths_of_confident_float32_networks(process, spread):
    """Twenty batches: losses and gradients are those of float64 logits, where rates are too small for float32."""
    g = torch.Generator().manual_seed(5)
    for k in range(20):
        x0, raw = torch.randint(K, (4, 6), generator=g), spread * torch.randn(4, 6, K, generator=g)
        t, both = torch.rand(4, generator=g).double() * 0.98 + 0.01, []
        for dtype in (torch.float32, torch.float64):
            logits = raw.to(dtype, copy=True).requires_grad_()
            denoiser = TokenDenoiser(lambda x, t, logits=logits: logits, process)
            loss = continuous_elbo(denoiser, x0, t, noise=SlotNoise(k, range(4)))
            loss.sum().backward()
            assert loss.dtype == dtype and bool(torch.isfinite(loss).all())
            assert bool(torch.isfinite(logits.grad).all())
            both.append((loss.detach().double(), logits.grad.double()))
        torch.testing.assert_close(both[0], both[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("process", [MixturePath(probs=(0.5, 0.5)), MetricPath.ordinal(2, c=0.7)], ids=repr)
@pytest.mark.parametrize("surprise", [3.0, 900.0, 1e4])
def test_one_way_to_jump_costs_its_logarithm(process, surprise):
    """Of two states only the other can be jumped to: D_t = Rev_0 (p - 1 - log p), also where p is zero in float64."""
    logits = torch.tensor([[[0.0, -surprise]]], dtype=torch.float64, requires_grad=True)
    x, x0, t = torch.tensor([[0]]), torch.tensor([[1]]), torch.tensor([0.4], dtype=torch.float64)
    value = path_divergence(TokenDenoiser(lambda x, t: logits, process)(x, t), x0)
    value.sum().backward()
    rate = process.conditional_rate(x0, x, 0.4)[0, 0, 1]
    log_p = logits.detach().log_softmax(-1)[0, 0, 1]
    torch.testing.assert_close(value[0, 0].detach(), rate * (log_p.exp() - 1 - log_p), rtol=1e-12, atol=0)
    slope = rate * (log_p.exp() - 1) * (1 - log_p.exp())
    torch.testing.assert_close(logits.grad[0, 0], torch.stack([-slope, slope]), rtol=1e-10, atol=0)


def test_masked_losses_leave_known_tokens_alone():
    """Nothing is asked at tokens that are not masked, and a batch without any masked token still has a gradient."""
    logits = torch.zeros(2, 3, K + 1, dtype=torch.float64, requires_grad=True)
    denoiser = TokenDenoiser(lambda x, t: logits, Masked(K + 1))
    x0 = torch.zeros(2, 3, dtype=torch.long)
    u = torch.tensor([[0.9, 0.9, 0.1], [0.9, 0.9, 0.9]], dtype=torch.float64)
    loss = continuous_elbo(denoiser, x0, torch.tensor([0.5, 0.5]), noise=u)
    loss.sum().backward()
    assert torch.allclose(loss, torch.tensor([2 * math.log(3) / 3, 0.0]).double())
    touched = logits.grad.abs().sum(-1) > 0
    assert touched.tolist() == [[False, False, True], [False] * 3]


# ---------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("step", "T", "error", "match"),
    [
        (torch.tensor([0, 1]), 4, ValueError, r"numbers 1\.\.4"),
        (torch.tensor([5, 1]), 4, ValueError, r"numbers 1\.\.4"),
        (torch.tensor([0.5, 1.0]), 4, TypeError, "long tensor"),
        (torch.tensor([1, 1]), 0, ValueError, "T=0"),
    ],
)
def test_bad_steps(step, T, error, match):
    denoiser = TokenDenoiser(lambda x, t: torch.zeros(*x.shape, 4), Masked(4))
    with pytest.raises(error, match=match):
        discrete_elbo(denoiser, torch.zeros(2, 4, dtype=torch.long), step, T, noise=SlotNoise(0, range(2)))
