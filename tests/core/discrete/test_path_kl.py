"""The divergence of two reverse chains, against the enumeration of all their paths."""

import itertools

import pytest
import torch

from scidiffuse.core.discrete import Masked, TokenDenoiser, Uniform
from scidiffuse.core.discrete.closed_form import Sequences
from scidiffuse.core.discrete.path_kl import divergence, path_kl, step_kl


def pair(tokens=2, length=3, keep="linear", mask_id=None):
    """Two exact denoisers of unlike laws, and their process."""
    process = Masked(tokens + 1, keep=keep, mask_id=mask_id)
    p, q = (Sequences.random(tokens, length, seed=k).denoiser(process) for k in (0, 1))
    return p, q, process


def states(process, length):
    return torch.tensor(list(itertools.product(range(process.states), repeat=length)))


def matrix(denoiser, x, s, t, start=None):
    """The transition matrix of one ancestral step among the states x (N, L), from those or from `start`: (M, N)."""
    start = x if start is None else start
    q = denoiser.process.log_posterior(denoiser(start, t).log_probs, start, s, t).exp()
    out = torch.ones(len(start), len(x), dtype=torch.float64)
    for j in range(x.shape[1]):
        out = out * q[:, j, x[:, j]]
    return out


def path_law(denoiser, x, times):
    """Probability of every path x_1 .. x_T that starts at the last state (all masks): (N,) * T."""
    out = matrix(denoiser, x, times[1], times[0], x[-1:])[0]
    for t, s in itertools.pairwise(times[1:]):
        out = out.unsqueeze(-1) * matrix(denoiser, x, s, t)
    return out


def expected(p, q, x, times):
    """Sum over steps of the mean of `step_kl` under the chain p."""
    law, total = torch.zeros(len(x), dtype=torch.float64), 0.0
    law[-1] = 1.0
    for t, s in itertools.pairwise(times):
        law, here = law[law > 0], x[law > 0]  # at t = 1 no other state has a posterior
        weight = (here == p.process.mask).double()
        total += float(law @ step_kl(p.process, p(here, t).log_probs, q(here, t).log_probs, weight, s, t))
        law = law @ matrix(p, x, s, t, here)
    return total, law


def kl_of(p, q):
    keep = p > 0
    return float((p[keep] * (p[keep] / q[keep]).log()).sum())


@pytest.mark.parametrize("keep", ["linear", "cosine"])
@pytest.mark.parametrize(("tokens", "length", "times"), [(2, 3, (1.0, 0.7, 0.2, 0.0)), (3, 3, (1.0, 0.45, 0.0))])
def test_summed_steps_are_the_divergence_of_the_paths(tokens, length, times, keep):
    p, q, process = pair(tokens, length, keep)
    x = states(process, length)
    total, law = expected(p, q, x, times)
    P, Q = (path_law(d, x, times) for d in (p, q))
    torch.testing.assert_close(P.sum(), torch.ones((), dtype=torch.float64), rtol=0, atol=1e-12)
    assert total == pytest.approx(kl_of(P, Q), rel=1e-10)
    ends = P.flatten(0, -2).sum(0), Q.flatten(0, -2).sum(0)
    torch.testing.assert_close(ends[0], law, rtol=0, atol=1e-12)
    assert 0.01 < kl_of(*ends) <= total  # what a path ends in is a function of the path


def test_zero_exactly_where_the_models_agree():
    p, q, process = pair()
    x = states(process, 3)
    assert expected(p, p, x, (1.0, 0.5, 0.0))[0] == 0.0
    lp, lq = p(x, 0.5).log_probs, q(x, 0.5).log_probs
    kl = divergence(lp, lq)
    differ = (lp.exp() - lq.exp()).abs().amax(-1) > 1e-9
    assert bool((kl[differ] > 0).all()) and differ.any()
    assert bool((kl[~differ].abs() < 1e-12).all())
    assert bool((x == process.mask)[differ].all())  # known tokens are carried over by both


def test_the_weight_on_decided_mass_counts_nothing_on_hard_states():
    # the published weight: the share that is not masked, times p log(p / p_base) - p + p_base over all tokens
    p, q, process = pair()
    x = states(process, 3)
    lp, lq = p(x, 0.5).log_probs[..., :2], q(x, 0.5).log_probs[..., :2]
    decided = (x != process.mask).double()
    ratio = torch.where(torch.isneginf(lp), 0.0, lp - lq)
    terms = (lp.exp() * ratio - lp.exp() + lq.exp()).sum(-1)
    assert float((decided * terms).abs().max()) == 0.0
    assert float(((1.0 - decided) * terms).max()) > 0.1  # and on masked tokens it does count


@pytest.mark.parametrize("mask_id", [None, 0])
def test_sampled_divergence_has_the_exact_mean(mask_id):
    process = Masked(3, mask_id=mask_id)
    order = [1, 2] if mask_id == 0 else [0, 1]

    def denoiser(shift):
        def network(x, t):
            known = torch.where(x == process.mask, 0.0, x.double() + 1.0)
            logits = torch.zeros(*x.shape, 3, dtype=torch.float64)
            logits[..., order[0]] = shift * (known.sum(1, keepdim=True) - 2.0)
            return logits

        return TokenDenoiser(network, process)

    p, q = denoiser(0.5), denoiser(-0.4)
    x = states(process, 3)
    start = torch.full((1, 3), process.mask)
    x = torch.cat([x[~(x == start).all(1)], start])  # `expected` starts at the last state
    exact, _ = expected(p, q, x, (1.0, 0.75, 0.5, 0.25, 0.0))
    measured = path_kl(p, q, shape=(4000, 3), steps=4, seed=0)
    assert abs(measured.mean - exact) < 4.5 * measured.standard_error < 0.2 * exact
    assert set(measured.x.unique().tolist()) == set(order)
    again = path_kl(p, q, shape=(4000, 3), steps=4, seed=0)
    assert torch.equal(measured.x, again.x) and torch.equal(measured.kl, again.kl)
    assert float(path_kl(p, p, shape=(10, 3), steps=4, seed=0).kl.abs().max()) == 0.0


def test_padding_counts_nothing():
    from scidiffuse.core.spaces import Masked as Padded

    process = Masked(3, mask_id=0)  # padded tokens read 0, the mask's own id here
    space = Padded(torch.tensor([[True, True, False]]))
    one = TokenDenoiser(lambda x, t: torch.zeros(*x.shape, 3, dtype=torch.float64), process, space)
    other = TokenDenoiser(lambda x, t: torch.arange(3.0).double().expand(*x.shape, 3), process, space)
    result = path_kl(other, one, shape=(5, 3), steps=3, seed=0)
    logits = torch.tensor([1.0, 2.0], dtype=torch.float64).log_softmax(0)
    a_token = float(divergence(logits, torch.full((2,), 0.5, dtype=torch.float64).log()))
    # each of two tokens leaves the mask once: 2 KL in the mean; here the sum is over rho * masked of a path
    expected_mean = 2 * a_token
    assert result.kl.max() < 3 * expected_mean and result.kl.min() > 0
    assert bool((result.x[:, 2] == 0).all()) and bool((result.x[:, :2] > 0).all())
    many = path_kl(other, one, shape=(2000, 3), steps=3, seed=1)
    assert abs(many.mean - expected_mean) < 4.5 * many.standard_error


def test_refusals():
    p, _, _ = pair()
    uniform = TokenDenoiser(lambda x, t: torch.zeros(*x.shape, 3), Uniform(3))
    with pytest.raises(ValueError, match=r"base walks back Uniform"):
        path_kl(p, uniform, shape=(2, 3), steps=2, seed=0)
    with pytest.raises(ValueError, match=r"give the same process"):
        path_kl(p, pair(keep="cosine")[1], shape=(2, 3), steps=2, seed=0)

    class Own(Masked):
        def local(self, t, reference):
            return t

    with pytest.raises(ValueError, match="every token has a time of its own"):
        path_kl(TokenDenoiser(p.network, Own(3)), p, shape=(2, 3), steps=2, seed=0)
    with pytest.raises(TypeError, match="must be a TokenDenoiser, got Uniform"):
        path_kl(Uniform(3), p, shape=(2, 3), steps=2, seed=0)
    with pytest.raises(ValueError, match="at least one token"):
        path_kl(p, p, shape=(2, 0), steps=2, seed=0)
