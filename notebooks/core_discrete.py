# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Tokens
#
# Atoms, bases and codes have no noise that could be added to them: they are kept or lost. A *process* says how tokens
# lose their values, a *denoiser* predicts, for every token, which value it had, and a *sampler* walks back. First all
# of it on a law that is a table, so that samplers can be held against the truth; then a small network is trained on
# hairpins of RNA, which are synthetic (generated below) and whose entropy, conditionals and tilted laws are known too.

# %%
import math
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import ListedColormap

from scidiffuse.core import ClassifierFree, sample
from scidiffuse.core.discrete import (
    EDLM,
    Ancestral,
    AutoregressiveEnergy,
    ConfidenceOrdered,
    Euler,
    FirstHitting,
    Masked,
    MaskUniform,
    OverDraws,
    Remasking,
    TauLeaping,
    TokenDenoiser,
    TokenObjective,
    Uniform,
    bits_per_token,
)
from scidiffuse.core.discrete.categorical import categorical
from scidiffuse.core.discrete.closed_form import Sequences, all_states, total_variation
from scidiffuse.core.networks import TokenTransformer
from scidiffuse.core.steering import FeynmanKac, svdd
from scidiffuse.core.training import fit

torch.set_num_threads(1)
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 110, "axes.titlesize": 10})

# %% [markdown]
# ## How tokens are lost
#
# Time runs from the data, $t = 0$, to a law that knows nothing of them, $t = 1$. *Masked*: a token becomes a mask, once
# and for all. *Uniform*: it becomes any token, and may change again. *Mask and uniform*: both. Below are paths of the
# three chains, drawn step by step from their transition matrices: one sequence of 40 bases, time going down. Only under
# the masked process can one see what is lost; a denoiser of the others has to guess which of the tokens are still good.

# %%
ALPHABET = "ACGU"
colors = ListedColormap(["#4c9f70", "#4c72b0", "#e0a030", "#b0506a", "0.88"])
times = torch.linspace(0.0, 1.0, 41).tolist()
g = torch.Generator().manual_seed(0)
x0 = torch.randint(0, 4, (1, 40), generator=g)
figure, axes = plt.subplots(1, 3, figsize=(10, 3.3), layout="constrained", sharey=True)
for one, process in zip(axes, (Masked(5), Uniform(4), MaskUniform(5, uniform=0.3)), strict=True):
    path = [x0]
    for s, t in pairwise(times):
        u = torch.rand(x0.shape, generator=g, dtype=torch.float64)
        path.append(categorical(process.transition(s, t)[path[-1]].log(), u))
        law_s, law_t = process.marginal(s)[:4], process.marginal(t)[:4]  # of the four bases at both times
        assert torch.allclose(law_s @ process.transition(s, t), law_t)  # it is one chain ...
    assert torch.allclose(law_t, process.prior().expand(4, -1))  # ... and forgets
    one.imshow(torch.cat(path), cmap=colors, vmin=-0.5, vmax=4.5, aspect="auto", extent=(0, 40, 1, 0))
    one.set(title=f"{type(process).__name__}({process.states})", xlabel="place in the sequence", xticks=[0, 20, 40])
axes[0].set_ylabel("time t")
swatches = [plt.Rectangle((0, 0), 1, 1, color=colors(k)) for k in range(5)]
_ = figure.legend(swatches, [*ALPHABET, "mask"], loc="outside right center", frameon=False)

# %% [markdown]
# ## A law that is a table
#
# Eight tokens of two values: 256 sequences, each with its own probability, far from independent. Its exact denoiser is
# the network here, so that whatever a sampler gets wrong is the sampler's. (Under a masked process the answer does not
# depend on the time, so it is computed once for all 3⁸ states and looked up.) What can be wrong: the network speaks of
# every token *on its own*, and tokens that are decided in one call are taken as independent. One token a call is
# right, all in one call is only the product of the single-token laws. (Total variation: half the summed difference of
# two laws; that of as many exact draws is the grey band.)

# %%
law = Sequences.random(tokens=2, length=8, seed=0)
process, n = Masked(3), 10_000  # two values and the mask
answers = law.denoiser(process)(all_states(3, 8), 0.5).raw
denoiser = TokenDenoiser(lambda x, t: answers[(x * 3 ** torch.arange(7, -1, -1)).sum(1)], process)


def error(x):
    return total_variation(law.counts(x).double() / len(x), law.probs)


def run(sampler, steps=None, **options):
    result = sample(denoiser, sampler, steps=steps, shape=(n, 8), seed=0, **options)
    return result.calls, error(result.x)


counts = (1, 2, 4, 8, 16, 32)
curves = {
    "Ancestral": [run(Ancestral(), k) for k in counts],
    "Euler": [run(Euler(), k) for k in counts],
    "TauLeaping": [run(TauLeaping(), k) for k in counts],
    "ConfidenceOrdered": [run(ConfidenceOrdered(), k) for k in counts],
    "ConfidenceOrdered(noise=0)": [run(ConfidenceOrdered(noise=0.0), k) for k in counts],
    "Remasking(cap=0.1)": [run(Remasking(cap=0.1), k) for k in counts],
    "FirstHitting(tokens=4, 2, 1)": [run(FirstHitting(tokens=k)) for k in (4, 2, 1)],
    "FirstHitting(tokens=4, 2, order=2)": [run(FirstHitting(tokens=k, order=2)) for k in (4, 2)],
}
floor = error(law.sample(n, seed=1))
figure, one = plt.subplots(figsize=(7.6, 3.8), layout="constrained")
one.axhspan(0.0, 1.15 * floor, color="0.9")
for (name, points), mark in zip(curves.items(), "o+xsv^D*", strict=True):
    wide = {"markersize": 9, "linewidth": 1.8} if name.startswith("First") else {"linewidth": 1.0}
    one.loglog(*zip(*points, strict=True), marker=mark, label=name, **wide)
one.set(xlabel="network calls", ylabel="total variation from the law", xticks=counts, xticklabels=counts)
one.set(yticks=[0.05, 0.1, 0.2, 0.5], yticklabels=[0.05, 0.1, 0.2, 0.5], ylim=(0.04, 1.0))
one.minorticks_off()
one.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))

at = {name: dict(points) for name, points in curves.items()}
first = at["FirstHitting(tokens=4, 2, 1)"]
assert list(first) == [2, 4, 8] and first[8] < 1.15 * floor  # exact, with one call a token
assert at["Ancestral"][8] > 1.6 * floor  # not so with as many calls
assert 0.4 < at["Ancestral"][8] / at["Ancestral"][4] < 0.7  # first order: twice the steps, half the error
assert at["Euler"] == at["Ancestral"]  # the same law of a step, for masks that go linearly
assert at["TauLeaping"][4] > at["Ancestral"][4]
assert at["FirstHitting(tokens=4, 2, order=2)"][4] < first[4] < at["Ancestral"][4]
assert at["ConfidenceOrdered(noise=0)"][8] > at["ConfidenceOrdered(noise=0)"][1]  # the surest first is no sampling
assert at["Remasking(cap=0.1)"][32] > at["Ancestral"][32]  # an exact network makes nothing that must be repaired

# %% [markdown]
# `FirstHitting` jumps from one event to the next and leaves no step size to be chosen: exact with as many calls as
# tokens. Fewer calls than that cost accuracy with every sampler, and it loses least there too. `ConfidenceOrdered`
# keeps what the network is sure of: with little noise it piles up likely sequences and is no sampler of the law, which
# may be what one wants of pictures and is wrong for statistics. `Remasking` takes tokens back to repair a network's
# errors; this network makes none, and then it does harm.
#
# ## A network, and sequences with long ties
#
# Hairpins of RNA: a strand of six bases, a loop of one of two families (GAAA, UUCG), and the strand back, complement
# to the first. One base in ten of the last ten is wrong. Partners stand up to fifteen places apart, which no n-gram
# sees. The masked process needs no time (`time=None`): how much is masked can be seen. The condition is the loop's
# family, with 2 for "not told", to be guided by later.

# %%
MASK, COMPLEMENT, RIGHT = 4, torch.tensor([3, 2, 1, 0]), 0.9
LOOPS = torch.tensor([[ALPHABET.index(base) for base in loop] for loop in ("GAAA", "UUCG")])
FREQUENCY = torch.tensor([0.2, 0.3, 0.3, 0.2], dtype=torch.float64)


def hairpins(n, seed):
    """n sequences (n, 16) and the families of their loops (n,)."""
    rng = np.random.default_rng(seed)
    strand = torch.from_numpy(rng.choice(4, (n, 6), p=FREQUENCY.numpy()))
    family = torch.from_numpy(rng.integers(0, 2, n))
    rest = torch.cat([LOOPS[family], COMPLEMENT[strand.flip(1)]], 1)
    wrong = torch.from_numpy(rng.random((n, 10)) > RIGHT)
    return torch.cat(
        [strand, torch.where(wrong, (rest + torch.from_numpy(rng.integers(1, 4, (n, 10)))) % 4, rest)], 1
    ), family


def log_law(x):
    """log p of hairpins (B, 16), exactly."""

    def matches(a, b):
        return torch.where(a == b, RIGHT, (1 - RIGHT) / 3).double().log().sum(-1)

    strand, loop, back = x.split([6, 4, 6], 1)
    return (
        FREQUENCY.log()[strand].sum(1)
        + (matches(loop[:, None], LOOPS) - math.log(2)).logsumexp(1)
        + matches(back, COMPLEMENT[strand.flip(1)])
    )


def ngram_bits(n, train, test):
    """Bits a token of an n-gram model, add-one counts, shorter contexts at the start."""
    total = torch.zeros(len(test), dtype=torch.float64)
    for j in range(test.shape[1]):
        m = min(j + 1, n)
        power = 4 ** torch.arange(m - 1, -1, -1)
        table = (1.0 + torch.bincount((train.unfold(1, m, 1) * power).sum(-1).flatten(), minlength=4**m)).view(-1, 4)
        p = (table / table.sum(1, keepdim=True)).flatten()
        total -= p[(test[:, j - m + 1 : j + 1] * power).sum(1)].double().log2()
    return total.mean().item() / test.shape[1]


class Hairpins(torch.utils.data.Dataset):
    def __init__(self, x, family):
        self.x, self.family = x, family

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return {"x": self.x[i], "condition": {"condition": self.family[i]}}


train, test = hairpins(8000, seed=0), hairpins(1000, seed=1)
torch.manual_seed(0)
network = TokenTransformer(
    states=5, width=32, depth=2, heads=4, time=None, condition_classes=3, positions="sinusoidal"
)  # fmt: skip
null = {"condition": 2}
model = fit(
    TokenDenoiser(network, Masked(5)), Hairpins(*train), objective=TokenObjective(dropout=0.5, null=null),
    max_steps=500, lr=8e-3, warmup=50, decay="cosine", ema=0.99,
).denoiser  # fmt: skip


def told(family, size):
    return {"condition": torch.full((size,), family)}


bound = bits_per_token(model, test[0], seed=0, draws=16, condition=told(2, 1000))
exact = -log_law(test[0]).mean().item() / math.log(2) / 16
baselines = {f"{n}-gram": ngram_bits(n, train[0], test[0]) for n in (1, 2, 4, 6)}
print(bound)
rows = {**baselines, "masked diffusion, at most": bound.bits, "the law itself": exact}
figure, one = plt.subplots(figsize=(6, 2.2), layout="constrained")
shades = ["0.75"] * 4 + ["tab:blue", "0.3"]
one.barh(list(rows), list(rows.values()), color=shades, xerr=[0] * 4 + [1.96 * bound.error, 0])
one.set(xlabel="bits a token, 1000 held-out sequences")
one.invert_yaxis()
assert bound.interval[1] < 0.75 * min(baselines.values())
assert exact - 0.02 < bound.bits < exact + 0.12

# %% [markdown]
# The bound is what `FirstHitting` samples: the mean over orders of the chain rule. It stands beside the entropy of the
# law, 1.19, which no model can go below, and what is between them is what the network has not learned.
#
# ## Infilling
#
# Under a masked process nothing has to be done for it: put the known tokens into `x=`, masks elsewhere. Known here are
# the first strand and half of the loop; the rest follows from the law by Bayes' rule, and from the model by
# sampling. Sampling keeps their dependence: what is filled in are whole hairpins.

# %%
known = torch.tensor([ALPHABET.index(base) for base in "GGCAUCUU"])
start = torch.full((4000, 16), MASK)
start[:, :8] = known
filled = sample(model, FirstHitting(), x=start, condition=told(2, 4000), seed=0)
assert filled.calls == 8 and (filled.x[:, :8] == known).all()

drawn = torch.nn.functional.one_hot(filled.x, 4).double().mean(0)
wrong = (1 - RIGHT) / 3
family = torch.where(LOOPS[:, :2] == known[6:], RIGHT, wrong).double().prod(1)
family /= family.sum()
truth = torch.full((16, 4), wrong, dtype=torch.float64)
truth[:8] = torch.nn.functional.one_hot(known, 4)
truth[torch.arange(10, 16), COMPLEMENT[known[:6].flip(0)]] = RIGHT
truth[8:10] = sum(
    p * torch.where(torch.nn.functional.one_hot(loop[2:], 4) == 1, RIGHT, wrong)
    for p, loop in zip(family, LOOPS, strict=True)
)
figure, axes = plt.subplots(2, 1, figsize=(7, 3.0), layout="constrained", sharex=True)
for one, table, name in zip(axes, (truth, drawn), ("exact", "4000 samples of the model"), strict=True):
    picture = one.imshow(table.T, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    one.axvline(7.5, color="tab:red", linewidth=1.2)
    one.set(yticks=range(4), yticklabels=list(ALPHABET), title=name)
axes[1].set(xticks=range(16), xlabel="place; known left of the red line")
figure.colorbar(picture, ax=axes, label="probability")
print(f"largest difference {(drawn - truth).abs().max():.3f}")
assert (drawn - truth).abs().max() < 0.08

# %% [markdown]
# ## Guidance
#
# Classifier-free guidance mixes the logits of the told and the untold network. At scale 1 it is the conditional model.
# Above, it sharpens: of the law's hairpins of the first family 66 % have the loop GAAA without an error, at scale 3
# more do. That follows the condition more closely than the data, and is nobody's conditional law. It does not go far
# here: once two bases of the loop are decided, the untold network knows the family as well, and there is nothing to
# extrapolate. What the condition does not speak of, the pairs, is left alone.


# %%
def pairs(x):
    """Share of right pairs of the two strands."""
    return (x[:, 10:] == COMPLEMENT[x[:, :6].flip(1)]).double().mean().item()


scales, faultless, paired = (0.0, 1.0, 2.0, 3.0), {}, {}
for scale in scales:
    guided = ClassifierFree(model, scale, null=null)
    x = sample(guided, FirstHitting(), shape=(1000, 16), condition=told(0, 1000), seed=0).x
    faultless[scale], paired[scale] = (x[:, 6:10] == LOOPS[0]).all(1).double().mean().item(), pairs(x)
figure, one = plt.subplots(figsize=(4.6, 2.8), layout="constrained")
one.plot(scales, list(faultless.values()), "o-", label="loop GAAA without an error")
one.plot(scales, list(paired.values()), "s-", label="right pairs")
for value, where in ((RIGHT**4 / 2, 0.0), (RIGHT**4, 1.0)):
    one.plot(where, value, "k_", markersize=18, label="the law's" if where else None)
one.set(xlabel="scale of the guidance", ylabel="share", ylim=(0, 1.02), xticks=scales)
one.legend(frameon=False, fontsize=8, loc="lower right")
assert abs(faultless[0.0] - RIGHT**4 / 2) < 0.07 and abs(faultless[1.0] - RIGHT**4) < 0.07
assert faultless[3.0] > faultless[1.0] + 0.02
assert max(paired.values()) - min(paired.values()) < 0.06 and abs(paired[1.0] - RIGHT) < 0.04

# %% [markdown]
# ## Steering: any function of a sequence
#
# The reward is a loop over strings: the hydrogen bonds of the stem, three for G with C, two for A with U, one for G
# with U. Steering aims at $p(x)\,e^{\lambda r(x)} / Z$, which is known for this law. The baseline needs no steering: of
# 20 finished samples, draw one by its weight. Feynman-Kac steering resamples its 20 walkers on the way, by the reward
# of a guess of the finished sequence: the likeliest value of every token, or (`OverDraws`) sequences drawn from the
# prediction, which cost calls of the reward and none of the network. SVDD keeps one of 4 candidates at every step, each
# with a network call of its own.

# %%
BONDS = {"GC": 3, "CG": 3, "AU": 2, "UA": 2, "GU": 1, "UG": 1}


def bonds(x, step=None):
    texts = ["".join(ALPHABET[k] for k in row) for row in x.tolist()]
    return [sum(BONDS.get(text[i] + text[15 - i], 0) for i in range(6)) for text in texts]


one_pair = np.zeros(4)  # the law of the bonds of one pair
for a, left in enumerate(ALPHABET):
    for b, right in enumerate(ALPHABET):
        one_pair[BONDS.get(left + right, 0)] += FREQUENCY[a].item() * (RIGHT if b == COMPLEMENT[a] else wrong)


def exactly(lam):
    """Mean of the bonds of six pairs under the tilted law."""
    tilted = one_pair * np.exp(lam * np.arange(4))
    return 6 * (tilted @ np.arange(4)) / tilted.sum()


def steer(reward, lam, **options):
    hooks = [FeynmanKac(reward, walkers=20, lam=lam, **options)]
    return np.mean(bonds(sample(model, FirstHitting(), shape=(600, 16), condition=told(2, 600), seed=0, hooks=hooks).x))


def climb(reward, lam):
    options = {"shape": (300, 16), "condition": told(2, 300), "seed": 0}
    return np.mean(bonds(svdd(model, FirstHitting(), reward=reward, candidates=4, alpha=1 / lam, **options).x))


lams, found = (1.0, 3.0), {}
for lam in lams:
    found["weighed at the end", lam] = steer(bonds, lam, threshold=0.0)
    found["FK, mode", lam] = steer(bonds, lam)
    found["FK, 8 draws", lam] = steer(OverDraws(bonds, draws=8, lam=lam), lam)
    found["SVDD, 8 draws", lam] = climb(OverDraws(bonds, draws=8, lam=lam), lam)
figure, one = plt.subplots(figsize=(6, 3), layout="constrained")
along = np.linspace(0.0, 3.2, 50)
one.plot(along, [exactly(lam) for lam in along], "k", linewidth=1.0, label="the tilted law")
for (name, mark), shift in zip(
    {"weighed at the end": "o", "FK, mode": "s", "FK, 8 draws": "D", "SVDD, 8 draws": "^"}.items(),
    (-0.06, -0.02, 0.02, 0.06),
    strict=True,
):
    one.plot([lam + shift for lam in lams], [found[name, lam] for lam in lams], mark, label=name)
    print(f"{name:18}", *(f"{found[name, lam]:.2f} (exact {exactly(lam):.2f})" for lam in lams))
one.set(xlabel="strength λ of the reward", ylabel="mean hydrogen bonds")
one.legend(frameon=False, fontsize=8, loc="lower right")
assert all(exactly(0.0) + 1.0 < value < exactly(lam) + 0.15 for (_, lam), value in found.items())
assert abs(found["FK, mode", 1.0] - found["weighed at the end", 1.0]) < 0.3  # no gain while the wish is not rare
assert found["FK, mode", 3.0] > found["weighed at the end", 3.0] + 0.15  # it pays when it is
assert found["FK, 8 draws", 3.0] < found["FK, mode", 3.0]  # and here the mode is the better guess

# %% [markdown]
# At $\lambda = 1$ steering gains nothing over weighing finished samples: of 20 there are enough good ones. At
# $\lambda = 3$ it does. `OverDraws` does not help with this reward: the likeliest partner of a base *is* the right one,
# and few draws of a steep reward are a noisy guess. It is meant for rewards of which the mode says nothing. SVDD with 4
# candidates falls short most, at four times the network calls (weighted by its `svdd_log_w` it would be exact on
# average, but not with few samples). And all of them fall a little short: exact is the limit of many walkers.
#
# ## An energy for what the factors miss
#
# Back to the table. Few steps are wrong because tokens that are decided together do not know of each other. EDLM draws
# whole candidates from the prediction and chooses one by an energy of whole sequences; with an autoregressive model's
# log-probability (here the law itself) the choice tends to the true posterior, and a single network call is enough.
# The price is one call of the energy for each candidate and step; an autoregressive model can score all tokens of a
# candidate at once, while sampling from it takes one call a token.

# %%
energy = AutoregressiveEnergy(lambda x: law.probs.log()[law.index(x)])
choices = (2, 4, 8, 16, 32)
figure, one = plt.subplots(figsize=(5.6, 3.2), layout="constrained")
one.axhspan(0.0, 1.15 * floor, color="0.9")
corrected = {}
for steps, mark in zip((1, 2, 4), "osD", strict=True):
    corrected[steps] = [at["Ancestral"][steps]]
    for k in choices:
        edlm = EDLM(energy, candidates=k, window=(0.0, 1.0))
        corrected[steps].append(run(Ancestral(), steps, hooks=[edlm])[1])
    one.loglog((1, *choices), corrected[steps], mark + "-", label=f"{steps} network call{'s' * (steps > 1)}")
one.set(xlabel="candidates (1: no energy)", ylabel="total variation from the law", ylim=(0.04, 0.7))
one.set(
    xticks=(1, *choices), xticklabels=(1, *choices), yticks=[0.05, 0.1, 0.2, 0.5], yticklabels=[0.05, 0.1, 0.2, 0.5]
)
one.minorticks_off()
one.legend(frameon=False)
for values in corrected.values():
    assert all(b < 1.05 * a for a, b in pairwise(values))
assert corrected[1][0] > 0.5 and corrected[1][-1] < 0.1  # one call: hopeless without, and nearly right
assert corrected[4][-1] < 1.15 * floor
