"""The divergence of two reverse chains, against the enumeration of all their paths."""

import itertools

import pytest
import torch

from scidiffuse.core.discrete import Masked, TokenDenoiser, Uniform
from scidiffuse.core.discrete.closed_form import Sequences, all_states, chain_law
from scidiffuse.core.discrete.path_kl import _device, divergence, path_kl, step_kl


def pair(tokens=2, length=3, keep="linear", mask_id=None):
    """Two exact denoisers of unlike laws, and their process."""
    process = Masked(tokens + 1, keep=keep, mask_id=mask_id)
    p, q = (Sequences.random(tokens, length, seed=k).denoiser(process) for k in (0, 1))
    return p, q, process


def rows(denoiser, x, s, t):
    """The law of each token after one ancestral step from the states x (N, L): (N, L, S)."""
    q = denoiser.process.log_posterior(denoiser(x, t).log_probs, x, s, t).exp()
    return q.nan_to_num(0.0)  # at t = 1 only the masks have a posterior, and nothing else is asked about


def path_law(denoiser, x, times):
    """Probability of every path x_1 .. x_T that starts at all masks: (N,) * T."""
    masks = (x == denoiser.process.mask).all(1).double()
    out = chain_law(masks, 1, lambda k: rows(denoiser, x, times[1], times[0]))
    for t, s in itertools.pairwise(times[1:]):
        matrix = chain_law(torch.eye(len(x), dtype=torch.float64), 1, lambda k, s=s, t=t: rows(denoiser, x, s, t))
        out = out.unsqueeze(-1) * matrix
    return out


def expected(p, q, x, times):
    """Sum over steps of the mean of `step_kl` under the chain p, and where it ends."""
    law, total = (x == p.process.mask).all(1).double(), 0.0
    for t, s in itertools.pairwise(times):
        here = law > 0  # at t = 1 no other state has a posterior
        weight = (x[here] == p.process.mask).double()
        kl = step_kl(p.process, p(x[here], t).log_probs, q(x[here], t).log_probs, weight, s, t)
        total += float(law[here] @ kl)
        law = chain_law(law, 1, lambda k, s=s, t=t: rows(p, x, s, t))
    return total, law


def kl_of(p, q):
    keep = p > 0
    return float((p[keep] * (p[keep] / q[keep]).log()).sum())


@pytest.mark.parametrize("keep", ["linear", "cosine"])
@pytest.mark.parametrize(("tokens", "length", "times"), [(2, 3, (1.0, 0.7, 0.2, 0.0)), (3, 3, (1.0, 0.45, 0.0))])
def test_summed_steps_are_the_divergence_of_the_paths(tokens, length, times, keep):
    p, q, process = pair(tokens, length, keep)
    x = all_states(process.states, length)
    total, law = expected(p, q, x, times)
    P, Q = (path_law(d, x, times) for d in (p, q))
    torch.testing.assert_close(P.sum(), torch.ones((), dtype=torch.float64), rtol=0, atol=1e-12)
    assert total == pytest.approx(kl_of(P, Q), rel=1e-10)
    ends = P.flatten(0, -2).sum(0), Q.flatten(0, -2).sum(0)
    torch.testing.assert_close(ends[0], law, rtol=0, atol=1e-12)
    assert 0.01 < kl_of(*ends) <= total  # what a path ends in is a function of the path


def test_zero_exactly_where_the_models_agree():
    p, q, process = pair()
    x = all_states(process.states, 3)
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
    x = all_states(process.states, 3)
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
    x = all_states(3, 3)
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


def test_samples_are_on_the_device_of_the_model():
    """Or on the one that is asked for: as the network sees them."""

    class Seen(Exception):
        pass

    class Net(torch.nn.Module):
        def __init__(self, device):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1, device=device))

        def forward(self, x, t):
            assert t.device == x.device
            raise Seen(x.device.type)

    def seen(network, **options):
        denoiser = TokenDenoiser(network, Masked(3))
        with pytest.raises(Seen) as caught:
            path_kl(denoiser, denoiser, shape=(2, 3), steps=2, seed=0, **options)
        return caught.value.args[0]

    assert seen(Net("meta"), device="cpu") == "cpu" == seen(Net("cpu"))
    assert path_kl(*pair()[:2], shape=(2, 3), steps=2, seed=0).kl.device.type == "cpu"  # no module, no parameters
    assert _device(Net("meta")) == torch.device("meta") and _device(torch.nn.Identity()) == torch.device("cpu")


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
