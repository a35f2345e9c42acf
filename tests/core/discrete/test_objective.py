"""The objective of tokens: keyed, conditional, padded; trained through `fit`, stopped and resumed."""

import math

import pytest
import torch
from torch import nn

from scidiffuse.core import checkpoint
from scidiffuse.core.discrete import Masked, MaskUniform, ProductProcess, TokenDenoiser, Uniform
from scidiffuse.core.discrete.closed_form import Sequences
from scidiffuse.core.discrete.likelihood import bits_per_token
from scidiffuse.core.discrete.losses import continuous_elbo, cross_entropy, discrete_elbo
from scidiffuse.core.discrete.objective import TokenObjective
from scidiffuse.core.discrete.priority import PriorityMasked
from scidiffuse.core.spaces import Masked as MaskedSpace
from scidiffuse.core.training import Discrete, Keys, PerElement, Stratified, fit
from scidiffuse.core.training import Uniform as UniformTimes

K, L = 3, 4


class Net(nn.Module):
    """Logits of each token from all tokens."""

    def __init__(self, states=K + 1, width=32, groups=0):
        super().__init__()
        self.states = states
        self.group = nn.Embedding(groups, width) if groups else None
        self.into = nn.Linear(L * states + 1, width)
        self.out = nn.Linear(width, L * states)

    def forward(self, x, t, group=None):
        hot = nn.functional.one_hot(x, self.states).flatten(1).to(self.into.weight)
        t = (t if t.ndim == 1 else t.mean(1))[:, None].to(hot) / 1000
        h = self.into(torch.cat([hot, t], 1))
        if self.group is not None:
            h = h + self.group(group)
        return self.out(nn.functional.silu(h)).reshape(-1, L, self.states)


def toy(process=None, **options):
    torch.manual_seed(0)
    process = process or Masked(K + 1)
    return TokenDenoiser(Net(process.states, **options), process)


X = torch.randint(K, (12, L), generator=torch.Generator().manual_seed(1))
KEYS = Keys.of(3, 1, range(12))


# ---------------------------------------------------------------------- what it computes
@pytest.mark.parametrize("process", [Masked(K + 1), Uniform(K), MaskUniform(K + 1)])
def test_it_is_the_loss_at_keyed_times(process):
    denoiser = toy(process)
    u = (torch.arange(12) + KEYS.uniforms("time")[:, 0]) / 12  # one time in each twelfth
    t = 1e-3 + (1 - 1e-3) * u
    assert torch.equal(TokenObjective()(denoiser, X, KEYS), continuous_elbo(denoiser, X, t, noise=KEYS.noise))
    assert torch.equal(
        TokenObjective(weighting="uniform")(denoiser, X, KEYS), cross_entropy(denoiser, X, t, noise=KEYS.noise)
    )
    step = (u * 8).floor().long() + 1
    objective = TokenObjective("discrete", T=8, auxiliary=0.01, adaptive=True)
    expected = discrete_elbo(denoiser, X, step, 8, noise=KEYS.noise, auxiliary=0.01, adaptive=True)
    assert torch.allclose(objective(denoiser, X, KEYS), expected)
    again = TokenObjective("discrete", T=8, auxiliary=0.01, adaptive=True, times=Stratified(Discrete(8)))
    assert torch.allclose(again(denoiser, X, KEYS), expected)


def test_every_step_occurs_equally_often():
    """Also the first one, and with steps that are no sums of powers of two."""
    seen = []

    class Seen(TokenObjective):
        def value(self, asked, t, keys):
            seen.append((t * self.T).round())
            return super().value(asked, t, keys)

    keys = Keys.of(0, 0, range(700))
    for times in (None, Discrete(7), Stratified(Discrete(7))):
        seen.clear()
        Seen("discrete", T=7, times=times)(toy(), X[:1].expand(700, L), keys)
        counts = torch.bincount(seen[0].long(), minlength=8)
        assert int(counts[0]) == 0 and len(counts) == 8
        assert bool((counts[1:] == 100).all()) if times != Discrete(7) else bool(((counts[1:] - 100).abs() < 40).all())


def test_a_sample_has_its_loss_whatever_it_is_batched_with():
    denoiser, objective = toy(), TokenObjective(times=UniformTimes(0.01))
    whole = objective(denoiser, X, Keys.of(3, 1, range(12)))
    part = objective(denoiser, X[5:7], Keys.of(3, 1, [5, 6]))
    assert torch.allclose(whole[5:7], part)
    assert not torch.allclose(objective(denoiser, X, Keys.of(3, 2, range(12))), whole)


def test_padding_of_the_batch_and_one_time_a_token():
    denoiser = toy()
    real = torch.tensor([[True] * 3 + [False]]).expand(12, L)
    padded = TokenObjective(space=lambda batch: MaskedSpace(batch["real"]))
    x = torch.where(real, X, 55)
    loss = padded(denoiser, {"x": x, "real": real}, KEYS)
    t = Stratified(UniformTimes(1e-3)).times(KEYS.uniforms("time"), KEYS.stratum, 12)
    assert torch.equal(loss, continuous_elbo(denoiser.on(MaskedSpace(real)), x, t, noise=KEYS.noise))
    times = PerElement(UniformTimes(0.01), p=1.0)
    loss = TokenObjective(times=times)(denoiser, X, KEYS)
    t = times.times(KEYS.uniforms("time", times.columns(L)), KEYS.stratum, 12)
    assert t.shape == (12, L)
    assert torch.equal(loss, continuous_elbo(denoiser, X, t, noise=KEYS.noise))


def test_priorities_known_tokens_and_loss_masks_reach_the_loss():
    process = PriorityMasked(K + 1)
    denoiser, reference = toy(process), torch.linspace(-1, 1, L).expand(12, L)
    known = torch.tensor([[True, False, False, False]]).expand(12, L)
    mask = torch.tensor([[True, True, True, False]]).expand(12, L)
    batch = {"x": X, "reference": reference, "known": known, "mask": mask}
    t = Stratified(UniformTimes(1e-3)).times(KEYS.uniforms("time"), KEYS.stratum, 12)
    expected = continuous_elbo(denoiser, X, t, noise=KEYS.noise, reference=reference, known=known, mask=mask)
    assert torch.equal(TokenObjective()(denoiser, batch, KEYS), expected)
    with pytest.raises(ValueError, match="importance of each token"):
        TokenObjective()(denoiser, X, KEYS)


def test_conditions_are_dropped_in_training_only():
    seen = []

    class Recording(Net):
        def forward(self, x, t, group):
            seen.append(group)
            return super().forward(x, t, group)

    denoiser = TokenDenoiser(Recording(groups=6), Masked(K + 1))
    n = 1000
    group = torch.arange(n) % 5
    batch = {"x": X[:1].expand(n, L), "condition": {"group": group}}
    objective = TokenObjective(dropout=0.2, null={"group": 5})
    objective(denoiser, batch, Keys.of(0, 0, range(n)))
    objective(denoiser, batch, Keys.of(0, 0, range(n)), training=False)
    rate = float((seen[0] == 5).double().mean())
    assert abs(rate - 0.2) < 4.5 * math.sqrt(0.16 / n)
    assert torch.equal(seen[0][seen[0] < 5], group[seen[0] < 5]) and torch.equal(seen[1], group)


def test_product_states():
    process = ProductProcess(X=Uniform(K), Y=Masked(K + 1))
    denoiser = TokenDenoiser(
        lambda x, t: {"X": torch.zeros(*x["X"].shape, K), "Y": torch.zeros(*x["Y"].shape, K + 1)}, process
    )
    loss = TokenObjective(weighting="uniform", leaf_weights={"X": 1.0, "Y": 2.0})(
        denoiser, {"x": {"X": X, "Y": X}}, KEYS
    )
    assert loss.shape == (12,) and bool(((loss / math.log(K)).round(decimals=5).frac() == 0).all())


# ---------------------------------------------------------------------- through fit
SMALL = {"max_steps": 12, "batch_size": 4, "lr": 1e-2, "log_every": 3, "accelerator": "cpu", "devices": 1}


class Stop(Exception):
    pass


def stopper(step):
    import lightning.pytorch as pl

    class Stopper(pl.Callback):
        def on_train_batch_start(self, trainer, *args):
            if trainer.global_step == step:
                raise Stop

    return Stopper()


def resumed_equals_whole(tmp_path, make, objective, data, **settings):
    """Train in one go, and stopped at step 7 and resumed from disk by new objects: every saved tensor is the same."""
    settings = SMALL | {"save_every": 4, "val": data[:6], "val_every": 4} | settings
    fit(make(), data, objective=objective(), out=tmp_path / "whole", **settings)
    with pytest.raises(Stop):
        fit(make(), data, objective=objective(), out=tmp_path / "b", callbacks=[stopper(7)], **settings)
    rest = fit(make(), data, objective=objective(), out=tmp_path / "b", resume=True, **settings)
    assert rest.steps == 12
    tensors = {}
    for part in ("model", "state", "best"):
        one, two = (checkpoint.load(tmp_path / name / part).tensors for name in ("whole", "b"))
        assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one), part
        tensors[part] = one
    return tensors


@pytest.mark.parametrize(
    "objective",
    [TokenObjective(), TokenObjective("discrete", T=10, auxiliary=0.01), TokenObjective(weighting="uniform")],
)
def test_stopped_and_resumed_is_the_same_training(tmp_path, objective):
    pytest.importorskip("lightning")
    data = [{"x": x, "condition": {"group": torch.tensor(i % 3)}} for i, x in enumerate(X)]
    from dataclasses import replace

    keyed = replace(objective, dropout=0.3, null={"group": 3})
    resumed_equals_whole(tmp_path, lambda: toy(groups=4), lambda: keyed, data)


def test_a_tiny_network_learns_the_law():
    """From sequences alone: bits a token below those of independent tokens, and not below the entropy."""
    pytest.importorskip("lightning")
    law = Sequences.random(K, L, seed=3, sharpness=2.0)
    data, test = law.sample(4000, seed=0), law.sample(2000, seed=1)
    denoiser = toy(width=64)
    options = SMALL | {"max_steps": 250, "batch_size": 64, "ema": 0.95}
    fit(denoiser, data, objective=TokenObjective(), **options)
    result = bits_per_token(denoiser, test, seed=0, draws=16)
    frequencies = torch.stack([(data[:, j, None] == torch.arange(K)).double().mean(0) for j in range(L)])
    independent = float(-frequencies[torch.arange(L), test].log2().mean())
    assert law.bits(test) - 4.5 * result.error < result.bits < independent - 0.15


# ---------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"loss": "both"}, "'both'"),
        ({"weighting": "snr"}, "'snr'"),
        ({"loss": "discrete"}, "T=None"),
        ({"loss": "discrete", "T": 0}, "T=0"),
        ({"T": 10}, "T=10"),
        ({"auxiliary": -1.0}, ">= 0"),
        ({"auxiliary": 0.1}, "bound in steps"),
        ({"loss": "discrete", "T": 5, "times": PerElement()}, "continuous"),
        ({"dropout": 0.1}, "null condition"),
    ],
)
def test_bad_settings(options, match):
    with pytest.raises(ValueError, match=match):
        TokenObjective(**options)


@pytest.mark.parametrize(
    ("batch", "error", "match"),
    [
        ({"y": X[:2]}, ValueError, "needs 'x'"),
        ({"x": X[:2], "conditions": {}}, ValueError, r"\['conditions'\] too"),
        ({"x": X[:2], "condition": {"label": torch.zeros(2)}}, ValueError, "'label' means something else"),
        ({"x": X[:3]}, ValueError, "3 samples, there are 2 keys"),
        ("x", TypeError, "got str"),
        (X[:2].float(), TypeError, "integer ids"),
        (X[:2, :0], ValueError, "at least one token"),
        (torch.tensor([[0, 1, 2, 0], [1, 4, 0, 0]]), ValueError, r"token 4 at \(1, 1\) is out of range"),
        (torch.tensor([[0, 1, 2, 0], [1, 1, 0, 3]]), ValueError, r"clean token 3 at \(1, 3\) is the mask"),
    ],
)
def test_bad_batches(batch, error, match):
    with pytest.raises(error, match=match):
        TokenObjective()(toy(), batch, Keys.of(0, 0, [0, 1]))
