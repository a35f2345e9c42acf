r"""Diffusion of tokens on real sequences: the molecules of QM9 as SELFIES.

    python -m benchmarks.discrete_sequences [--only A B C] [--budget 1.0] [--work FOLDER] [--output FILE.json]

Data, tokens and what is scored: `benchmarks.common.qm9_selfies`. Three experiments, with the simplest baseline beside
each. Every (experiment, arm, seed) is a run of its own, skipped where the results hold it; a training that was stopped
goes on from its checkpoint under `--work`. `--budget` is a factor on all training steps (other budgets need another
`--output`). One thread.

**A. A masked model against n-grams.** A transformer that is not told the time, trained with the bound in continuous
time. Bits a token on the first 4,000 test sequences, for all models the same:

    any order        the bound over all orders of unmasking (each number of masked tokens once a sequence), which is of
                     what `FirstHitting` samples;
    left to right    -log2 p of the same network when it decodes from left to right, exact: what n-grams do.

The network is not told where a sequence ends: it predicts the padding, whose bits are counted, over the tokens up to
[eos]. *Rotary* positions know differences of places alone: where all is masked, all places look the same. *Marked* is
that network, trained on with a mark of the beginning before the tokens, which tells the places apart. Intervals are
bootstrapped over sequences (not over trainings: one seed). 2,000 samples stand beside 2,000 of the best n-gram and five
times 2,000 of the training part: *well formed* ends with one [eos] and padding alone behind it; *round trip* is what
SELFIES would write for the molecule itself; *unique* and *novel* count molecules by what SELFIES writes for them (two
such strings may be one molecule: no canonical form is computed); JS is the Jensen-Shannon distance (root of the
divergence, base 2) of tokens, pairs and lengths from the whole test part.

**B. Priorities** (H. Kong et al., M2DM, ICCV 2023). `PriorityMasked` against `Masked`, same network, steps and bound;
the importance of a token is -log of its frequency in the training part, centred over each sequence's real tokens. The
test: tokens of held-out sequences are masked at a fraction on average, by each process, and restored. Rare tokens stay
longest under priorities, so that easier ones are asked for: both models are asked about both kinds of masks, and the
most frequent token stands beside them. *All right* is the share of sequences with no mistake, decided at once, or
("greedy") the surest token first, one a call. The importance belongs to the data: this tests restoring, not generating.

**C. Contrastive training** (Y. Zhu et al., CDCD, ICLR 2023) against the plain bound in T = 50 steps, mask-and-uniform
process. The condition: how many tokens of C, N, O, F, ring and branch a sequence has (as written: the symbols that
SELFIES reads as lengths count as what they are spelt); dropped for 10 % in training. Samples are asked for the
compositions of 1,000 test molecules: the share that has all six numbers right, and the mean absolute error of a number;
beside it what another test molecule scores. Weights of the negatives are the published ones, and 200 times those.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scidiffuse.benchmarks.common import ngram, qm9_selfies
from scidiffuse.benchmarks.common.runs import Row, Runs
from scidiffuse.core import grids, sample
from scidiffuse.core.datasets import cache_folder
from scidiffuse.core.discrete import (
    Ancestral,
    ContrastiveObjective,
    FirstHitting,
    Masked,
    MaskUniform,
    PriorityMasked,
    TokenDenoiser,
    TokenObjective,
    bits_per_token,
    importance,
)
from scidiffuse.core.guidance import ClassifierFree
from scidiffuse.core.networks import TokenTransformer
from scidiffuse.core.noise import keyed_generator
from scidiffuse.core.training import fit

RESULTS = Path(__file__).parent / "results" / "discrete_sequences.json"
SEEDS = (0, 1, 2)
A = {"width": 96, "depth": 4, "heads": 4, "batch_size": 64, "lr": 3e-3}
ARMS_A = {"rotary": {"steps": 5500}, "marked": {"steps": 6000, "lr": 2.5e-3}}  # the second goes on from the first
B = {"width": 96, "depth": 3, "heads": 4, "batch_size": 64, "lr": 2e-3, "steps": 1500}
C = {"width": 96, "depth": 3, "heads": 4, "batch_size": 64, "lr": 2e-3, "steps": 1000}
SUBSET, SAMPLES = 4000, 2000  # A: test sequences that are scored; samples
FRACTIONS, RESTORED, GREEDY = (0.25, 0.5, 0.75), 2000, 500  # B: masked on average; sequences at once; one a call
T, ASKED, BOUNDED = 50, 1000, 500  # C: steps of the bound; compositions; sequences whose bound is taken
CALLS = ((50, 1.0), (30, 1.0), (20, 1.0), (20, 2.0))  # C: steps of sampling, scale of the guidance
ARMS_C = {
    "vanilla": None,
    "cdcd": {"step": 5e-5, "sample": 5e-6},
    "cdcd x200": {"step": 1e-2, "sample": 1e-3},
}
NULL = torch.zeros(7)


class Trainings(Runs):
    """Runs with trainings that go on from their checkpoints."""

    def train(self, name: str, denoiser: Any, data: Any, objective: Any, seed: int, setting: Row) -> Row:
        """Train, or go on, or take what has been trained. CPU seconds are of the last session of a training."""
        steps = max(1, round(setting["steps"] * self.budget))
        folder = self.work / f"{name}-{seed}-{steps}".replace(" ", "_")
        start, seconds = time.process_time(), folder / "cpu_seconds.txt"
        fit(
            denoiser, data, max_steps=steps, batch_size=setting["batch_size"], objective=objective, lr=setting["lr"],
            weight_decay=0.01, warmup=100, decay="cosine", ema=0.999, seed=seed, out=folder, resume=True,
            save_every=250, accelerator="cpu",
        )  # fmt: skip
        if not seconds.exists():
            seconds.write_text(f"{time.process_time() - start:.1f}")
        size = sum(p.numel() for p in denoiser.network.parameters())
        return {"steps": steps, "parameters": size, "train_cpu_seconds": float(seconds.read_text())}


def network(states: int, seed: int, setting: Row, **options: Any) -> TokenTransformer:
    torch.manual_seed(seed)
    return TokenTransformer(states, setting["width"], setting["depth"], setting["heads"], **options)


# ------------------------------------------------------------------------------------------ A: bits and samples
def left_to_right(denoiser: TokenDenoiser, x: Tensor, batch: int = 250) -> Tensor:
    """-log2 p of every token (N, L), each given those before it, all later ones masked."""
    out = torch.zeros(x.shape, dtype=torch.float64)
    with torch.no_grad():
        for first in range(0, len(x), batch):
            part = x[first : first + batch]
            for i in range(x.shape[1]):
                seen = part.clone()
                seen[:, i:] = denoiser.process.mask
                log_p = denoiser(seen, 1.0 - i / x.shape[1]).log_probs[:, i].double()
                out[first : first + batch, i] = -log_p.gather(1, part[:, i, None])[:, 0] / math.log(2.0)
    return out


def difference(bits: np.ndarray, other: np.ndarray, tokens: np.ndarray) -> Row:
    """Bits a token less those of another model on the same sequences, with a 95 % bootstrap interval."""
    row = ngram.per_token(bits - other, tokens)
    return {"difference": row["bits_per_token"], "low": row["low"], "high": row["high"]}


def js(p: np.ndarray, q: np.ndarray) -> float:
    """Jensen-Shannon distance of two tables of counts."""
    p, q = p / p.sum(), q / q.sum()
    m = (p + q) / 2
    kl = [np.sum(a[a > 0] * np.log2(a[a > 0] / m[a > 0])) for a in (p, q)]
    return math.sqrt(max(0.0, 0.5 * sum(kl)))


def tables(x: Tensor, size: int) -> list[np.ndarray]:
    """Counts of tokens, of pairs (a mark of the beginning included) and of lengths."""
    scored = qm9_selfies.Sequences.mask(x)
    before = torch.nn.functional.pad(x[:, :-1], (1, 0))
    pairs = (before * size + x)[scored]
    return [
        np.bincount(x[scored].numpy(), minlength=size),
        np.bincount(pairs.numpy(), minlength=size * size),
        np.bincount(scored.sum(1).numpy(), minlength=x.shape[1] + 1),
    ]


def described(x: Tensor, data: Any, train: set[str], truth: list[np.ndarray]) -> Row:
    """What the module's docstring names, of tokens (N, L)."""
    import selfies

    n, size = len(x), len(data.vocabulary)
    scored = data.mask(x)
    ends = (x == qm9_selfies.EOS).any(1)
    clean = ends & ~((x == qm9_selfies.NOP) & scored).any(1) & ~((x != qm9_selfies.NOP) & ~scored).any(1)
    strings, forms, same = data.strings(x), set(), 0
    for string, smiles in zip(strings, data.smiles(x), strict=True):
        if smiles:
            form = selfies.encoder(smiles)
            forms.add(form)
            same += form == string
    row: Row = {
        "samples": n, "well_formed": float(clean.double().mean()), "round_trip": same / n,
        "unique": len(forms) / n, "novel_of_unique": sum(form not in train for form in forms) / max(len(forms), 1),
        "length": float(scored.sum(1).double().mean()),
    }  # fmt: skip
    for name, p, q in zip(("js_token", "js_pair", "js_length"), tables(x, size), truth, strict=True):
        row[name] = js(p, q)
    return row


def sampled_ngram(model: ngram.NGram, n: int, length: int, seed: int = 0) -> Tensor:
    """(n, length) tokens, drawn from left to right; padding after [eos]."""
    u = keyed_generator(seed, "ngram").random((n, length))
    x = np.zeros((n, model.order - 1 + length), dtype=np.int64)
    on = np.ones(n, dtype=bool)
    for i in range(length):
        p = model.probabilities(x[on, i : i + model.order - 1]).cumsum(1)
        token = (u[on, i, None] * p[:, -1:] >= p).sum(1).clip(max=model.size - 1)
        x[on, model.order - 1 + i] = token
        on[on] = token != qm9_selfies.EOS
    return torch.from_numpy(x[:, model.order - 1 :].copy())


def ngrams(data: Any) -> Row:
    """Bits of all n-grams on the subset, and samples of the best one and of the training part."""
    train, val, test = (part.numpy() for part in (data.train, data.val, data.test[:SUBSET]))
    size = len(data.vocabulary)
    rows = ngram.baselines(train, val, test, size)
    best = next(row for row in rows if row.get("best_on_val"))
    model = ngram.NGram(best["order"], size, best["model"]).fit(train)
    known, truth = set(data.strings(data.train)), tables(data.test, size)
    x = sampled_ngram(model, SAMPLES, data.train.shape[1])
    some = torch.from_numpy(keyed_generator(0, "train").permutation(len(train)))[: 5 * SAMPLES].split(SAMPLES)
    floor = [described(data.train[index], data, known, truth) for index in some]
    spread = {k: stated([f[k] for f in floor]) for k in floor[0]}
    return {"rows": rows, "samples": described(x, data, known, truth), "train_mean_sd_of_five": spread}


class Marked(nn.Module):
    """A network that sees a mark of the beginning before the tokens; weights of one without it, the mark's are new."""

    def __init__(self, inner: TokenTransformer, states: int) -> None:
        super().__init__()
        self.inner = network(states + 1, 0, A, classes=states, time=None)
        weights = dict(inner.state_dict())
        weights["embed.weight"] = torch.cat([weights["embed.weight"], self.inner.embed.weight[-1:].detach()])
        self.inner.load_state_dict(weights)
        self.mark = states

    def forward(self, x: Tensor, t: Tensor | None) -> Tensor:
        return self.inner(nn.functional.pad(x, (1, 0), value=self.mark), t)[:, 1:]


def masked(runs: Trainings, data: Any, arm: str, seed: int) -> Row:
    states, length = len(data.vocabulary) + 1, data.train.shape[1]
    denoiser, row = TokenDenoiser(network(states, seed, A, time=None), Masked(states)), {}
    for kind in ("rotary", "marked")[: 1 + (arm == "marked")]:
        if kind == "marked":
            denoiser = TokenDenoiser(Marked(denoiser.network, states), Masked(states))
        now = runs.train(f"A-{kind}", denoiser, data.train, TokenObjective(), seed, A | ARMS_A[kind])
        row = now | {k: row.get(k, 0) + now[k] for k in ("steps", "train_cpu_seconds")}
    test = data.test[:SUBSET]
    tokens = data.mask(test).sum(1).numpy()
    result = bits_per_token(denoiser, test, seed=0, draws=length, bound="orders", max_batch=250)
    bits = (result.per_sequence * result.lengths).numpy()  # padding included; divided by the real tokens below
    row["any_order"] = ngram.per_token(bits, tokens) | {"protocol": result.protocol}
    every = left_to_right(denoiser, test).numpy()
    row["left_to_right"] = ngram.per_token(every.sum(1), tokens)
    row["left_to_right"]["of_padding"] = float(every[~data.mask(test).numpy()].sum() / tokens.sum())
    size = len(data.vocabulary)
    best = next(r for r in runs.read()["runs"]["A/ngrams/0"]["rows"] if r.get("best_on_val"))
    other = ngram.NGram(best["order"], size, best["model"]).fit(data.train.numpy()).bits(test.numpy()).sum(1)
    row["less_best_ngram"] = {
        "any_order": difference(bits, other, tokens), "left_to_right": difference(every.sum(1), other, tokens)
    }  # fmt: skip
    run = sample(denoiser, FirstHitting(), shape=(SAMPLES, length), seed=seed, max_batch=250)
    known, truth = set(data.strings(data.train)), tables(data.test, size)
    return row | {"calls_a_sample": length, "samples": described(run.x, data, known, truth)}


# ------------------------------------------------------------------------------------------ B: priorities
class Ranked:
    """Sequences with the importance of their tokens."""

    def __init__(self, x: Tensor, reference: Tensor) -> None:
        self.x, self.reference = x, reference

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {"x": self.x[i], "reference": self.reference[i]}


def ranks(x: Tensor, frequency: Tensor) -> Tensor:
    """Importance -log frequency of the real tokens, zero for the padding."""
    return importance(-frequency[x].log().float(), qm9_selfies.Sequences.mask(x))


def greedy(denoiser: TokenDenoiser, x: Tensor) -> Tensor:
    """Masked tokens decided one a call, the surest first."""
    mask, x = denoiser.process.mask, x.clone()
    while bool((x == mask).any()):
        left = (x == mask).any(1).nonzero()[:, 0]
        p, token = denoiser(x[left], 0.5).probs.max(-1)
        where = torch.where(x[left] == mask, p, -1.0).argmax(1)
        x[left, where] = token[torch.arange(len(left)), where]
    return x


def restored(denoiser: TokenDenoiser, x0: Tensor, x: Tensor) -> Row:
    """How the masked real tokens of x come back."""
    real, batches = qm9_selfies.Sequences.mask(x0), range(0, len(x), 250)
    log_p = torch.cat([denoiser(x[i : i + 250], 0.5).log_probs for i in batches])
    asked = (x == denoiser.process.mask) & real
    right = log_p.argmax(-1) == x0
    nll = -log_p.gather(-1, x0[..., None])[..., 0]
    return {
        "masked": float(asked.sum() / real.sum()), "accuracy": float(right[asked].double().mean()),
        "bits_a_masked_token": float(nll[asked].double().mean() / math.log(2.0)),
        "all_right": float((right | ~asked).all(1).double().mean()),
    }  # fmt: skip


def priorities(runs: Trainings, data: Any, arm: str, seed: int) -> Row:
    states = len(data.vocabulary) + 1
    real = data.mask(data.train)
    frequency = torch.bincount(data.train[real], minlength=states).double()
    frequency = frequency.clamp_min(1.0) / frequency.sum()
    kinds = {"uniform": Masked(states), "priority": PriorityMasked(states)}
    own = kinds[arm]
    train: Any = data.train if arm == "uniform" else Ranked(data.train, ranks(data.train, frequency))
    denoiser = TokenDenoiser(network(states, seed, B, time=None), own)
    row = runs.train(f"B-{arm}", denoiser, train, TokenObjective(), seed, B)
    plain = TokenDenoiser(denoiser.network, kinds["uniform"])  # what is masked is all that the network is told
    x0 = data.test[:RESTORED]
    reference = ranks(x0, frequency)
    commonest = int(frequency.argmax())
    with torch.no_grad():
        for kind, process in kinds.items():
            for m in FRACTIONS:
                u = torch.from_numpy(keyed_generator(0, "restore", round(100 * m)).random(x0.shape))
                x = process.corrupt(x0, process.local(m, reference if kind == "priority" else None), u)
                cell = restored(plain, x0, x)
                cell["accuracy_of_commonest"] = float((x0 == commonest)[(x != x0) & data.mask(x0)].double().mean())
                if m == 0.5:
                    done, part = greedy(plain, x[:GREEDY]), data.mask(x0[:GREEDY])
                    cell["all_right_greedy"] = float(((done == x0[:GREEDY]) | ~part).all(1).double().mean())
                row[f"{kind} masks {m}"] = cell
    return row


# ------------------------------------------------------------------------------------------ C: contrastive
class Composed(Ranked):
    """Sequences with their condition."""

    def __getitem__(self, i: int) -> dict[str, Any]:  # type: ignore[override]
        return {"x": self.x[i], "condition": {"condition": self.reference[i]}}


def composition(x: Tensor, vocabulary: list[str]) -> Tensor:
    """Numbers of C, N, O, F, ring and branch tokens before [eos], (N, 6), float."""
    table = torch.zeros(len(vocabulary), 6)
    for i, symbol in enumerate(vocabulary[2:], start=2):
        name = symbol.strip("[]").lstrip("=#-")
        kind = 4 if name.startswith("Ring") else 5 if name.startswith("Branch") else "CNOF".index(name[0])
        table[i, kind] = 1.0
    return (table[x] * qm9_selfies.Sequences.mask(x)[..., None]).sum(1)


def contrastive(runs: Trainings, data: Any, arm: str, seed: int) -> Row:
    states, length = len(data.vocabulary) + 1, data.train.shape[1]
    numbers = composition(data.train, data.vocabulary)
    mean, sd = numbers.mean(0), numbers.std(0)

    def condition(numbers: Tensor) -> Tensor:
        return torch.cat([(numbers - mean) / sd, torch.ones(len(numbers), 1)], 1)  # the last says that there is one

    common: Row = {"T": T, "dropout": 0.1, "null": {"condition": NULL}}
    weights = ARMS_C[arm]
    objective = TokenObjective("discrete", **common) if weights is None else ContrastiveObjective(**common, **weights)
    denoiser = TokenDenoiser(network(states, seed, C, condition_dim=7), MaskUniform(states))
    row = runs.train(f"C-{arm}", denoiser, Composed(data.train, condition(numbers)), objective, seed, C)
    wanted = composition(data.test[:ASKED], data.vocabulary)
    asked = {"condition": condition(wanted)}
    for steps, scale in CALLS:
        guided = denoiser if scale == 1.0 else ClassifierFree(denoiser, scale, null={"condition": NULL})
        run = sample(
            guided, Ancestral(), grids.uniform(steps), shape=(ASKED, length), condition=asked, seed=seed, max_batch=125
        )
        row[f"{steps} steps, scale {scale:g}"] = matched(composition(run.x, data.vocabulary), wanted)
    x = data.test[:BOUNDED]
    result = bits_per_token(
        denoiser, x, seed=0, draws=T // 2, bound="discrete", T=T, max_batch=125,
        condition={"condition": asked["condition"][:BOUNDED]},
    )  # fmt: skip
    bits = (result.per_sequence * result.lengths).numpy()
    return row | {"bits_given_composition": ngram.per_token(bits, data.mask(x).sum(1).numpy())}


def matched(got: Tensor, wanted: Tensor) -> Row:
    error = (got - wanted).abs()
    return {"exact": float((error == 0).all(1).double().mean()), "absolute_error": float(error.double().mean())}


def chance(data: Any) -> Row:
    """What another test molecule scores."""
    numbers = composition(data.test[: 2 * ASKED], data.vocabulary)
    return matched(numbers[ASKED:], numbers[:ASKED])


# ------------------------------------------------------------------------------------------ all
def over_seeds(runs: Row, prefix: str, *path: str) -> list[float]:
    """One number of the seeds of an arm, in order."""
    out = []
    for seed in SEEDS:
        value: Any = runs.get(f"{prefix}/{seed}")
        for name in path:
            value = None if value is None else value.get(name)
        if value is not None:
            out.append(float(value))
    return out


def stated(values: list[float]) -> list[float]:
    """Mean and standard deviation."""
    return [round(float(np.mean(values)), 5), round(float(np.std(values, ddof=1)), 5) if len(values) > 1 else math.nan]


def summary(runs: Row) -> Row:
    """Means and standard deviations over seeds, and differences of arms seed by seed."""
    out: Row = {}
    for kind in ("uniform", "priority"):
        for m in FRACTIONS:
            for name in ("accuracy", "bits_a_masked_token", "all_right", "all_right_greedy"):
                a, b = (over_seeds(runs, f"B/{arm}", f"{kind} masks {m}", name) for arm in ("uniform", "priority"))
                if a and len(a) == len(b):
                    out[f"B {kind} masks {m} {name}"] = {
                        "uniform": stated(a), "priority": stated(b),
                        "priority_less_uniform": stated([q - p for p, q in zip(a, b, strict=True)]),
                    }  # fmt: skip
    for m in FRACTIONS:  # each on its own masks: what the masks do, and what the training does
        names = [f"{kind} masks {m}" for kind in ("uniform", "priority")]
        u_u, u_p = (over_seeds(runs, "B/uniform", name, "accuracy") for name in names)
        p_p = over_seeds(runs, "B/priority", names[1], "accuracy")
        commonest = [over_seeds(runs, "B/uniform", name, "accuracy_of_commonest")[:1] for name in names]
        if u_u and len(u_u) == len(p_p):
            out[f"B own masks {m} accuracy"] = {
                "priority_less_uniform": stated([q - p for p, q in zip(u_u, p_p, strict=True)]),
                "of_the_masks": stated([q - p for p, q in zip(u_u, u_p, strict=True)]),
                "of_the_training": stated([q - p for p, q in zip(u_p, p_p, strict=True)]),
                "commonest_token": [round(value[0], 5) for value in commonest],
            }
    cells = [(f"{steps} steps, scale {scale:g}", ("exact", "absolute_error")) for steps, scale in CALLS]
    for cell, names in [*cells, ("bits_given_composition", ("bits_per_token",))]:
        for name in names:
            base = over_seeds(runs, "C/vanilla", cell, name)
            entry = {"vanilla": stated(base)} if base else {}
            for arm in list(ARMS_C)[1:]:
                values = over_seeds(runs, f"C/{arm}", cell, name)
                if base and len(values) == len(base):
                    entry[arm] = stated(values)
                    entry[f"{arm}_less_vanilla"] = stated([q - p for p, q in zip(base, values, strict=True)])
            if entry:
                out[f"C {cell} {name}"] = entry
    for arm in list(ARMS_C)[1:]:  # the claim: as good with fewer steps
        few = over_seeds(runs, f"C/{arm}", "30 steps, scale 1", "exact")
        many = over_seeds(runs, "C/vanilla", "50 steps, scale 1", "exact")
        if few and len(few) == len(many):
            less = [p - q for p, q in zip(few, many, strict=True)]
            out[f"C exact, {arm} in 30 steps less vanilla in 50"] = stated(less)
    return out


def plots(runs: Row, folder: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    models = {arm: runs[f"A/{arm}/0"] for arm in ARMS_A if f"A/{arm}/0" in runs}
    if "A/ngrams/0" in runs and models:
        rows = runs["A/ngrams/0"]["rows"]
        figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.6))
        for name, style in (("kneser-ney", "o-"), ("witten-bell", "s--")):
            some = [row for row in rows if row["model"] in (name, "unigram")]
            left.plot([r["order"] for r in some], [r["bits_per_token"] for r in some], style, label=f"n-gram, {name}")
        for (arm, model), colour in zip(models.items(), ("tab:red", "tab:purple"), strict=False):
            for name, line, label in (("any_order", "-", "any order (bound)"), ("left_to_right", ":", "left to right")):
                label = f"masked model ({arm}), {label}"
                left.axhline(model[name]["bits_per_token"], color=colour, linestyle=line, label=label)
                left.axhspan(model[name]["low"], model[name]["high"], color=colour, alpha=0.15)
        left.set(xlabel="order of the n-gram", ylabel="bits a token", ylim=(1.2, 2.6))
        left.set_title("First 4,000 test sequences")
        left.legend(fontsize=9)
        groups = {
            **{f"masked model ({arm})": model["samples"] for arm, model in models.items()},
            "best n-gram": runs["A/ngrams/0"]["samples"],
            "training part": {k: v[0] for k, v in runs["A/ngrams/0"]["train_mean_sd_of_five"].items()},
        }  # fmt: skip
        names = {"js_token": "tokens", "js_pair": "pairs", "js_length": "lengths"}
        for j, (label, row) in enumerate(groups.items()):
            right.bar(np.arange(3) + 0.2 * (j - 1.5), [row[k] for k in names], 0.19, label=label)
        right.set_xticks(range(3), list(names.values()))
        right.set(ylabel="Jensen-Shannon distance from the test part", title="2,000 samples each")
        right.legend(fontsize=9)
        figure.tight_layout()
        figure.savefig(folder / "discrete_sequences_bits.png", dpi=110)
        plt.close(figure)

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.6))
    for arm, colour in (("uniform", "tab:blue"), ("priority", "tab:orange")):
        for kind, style in (("uniform", "o-"), ("priority", "s--")):
            values = [over_seeds(runs, f"B/{arm}", f"{kind} masks {m}", "accuracy") for m in FRACTIONS]
            if all(values):
                mean, sd = np.array([stated(v) for v in values]).T
                label = f"{arm} model, {kind} masks"
                left.errorbar(FRACTIONS, mean, sd, fmt=style, color=colour, capsize=3, label=label)
    left.set(xlabel="masked fraction", ylabel="accuracy of masked tokens", title="Restoring (mean, sd of the seeds)")
    for j, (arm, colour) in enumerate(zip(ARMS_C, ("tab:blue", "tab:orange", "tab:green"), strict=True)):
        for scale, style in ((1.0, "o-"), (2.0, "s--")):
            cells = [
                (k, over_seeds(runs, f"C/{arm}", f"{k} steps, scale {s:g}", "exact")) for k, s in CALLS if s == scale
            ]
            if all(values for _, values in cells):
                mean, sd = np.array([stated(v) for _, v in cells]).T
                x = [k + 0.4 * (j - 1) for k, _ in cells]
                right.errorbar(x, mean, sd, fmt=style, color=colour, capsize=3, label=f"{arm}, guidance {scale:g}")
    right.set(
        xlabel="steps of sampling",
        ylabel="share with the composition asked for",
        title="Composition (mean, sd of the seeds)",
    )
    for axis in (left, right):
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=9)
    figure.tight_layout()
    figure.savefig(folder / "discrete_sequences_arms.png", dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description="Token diffusion on QM9 as SELFIES: bits, priorities, contrasts.")
    parser.add_argument("--only", nargs="+", choices=("A", "B", "C"), default=["A", "B", "C"])
    parser.add_argument("--budget", type=float, default=1.0, help="factor on all training steps")
    parser.add_argument("--work", type=Path, default=cache_folder() / "discrete_sequences")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runs, data = Trainings(arguments.output, arguments.work, arguments.budget), qm9_selfies.load()
    head = {
        "data": {k: v for k, v in data.report.items() if k not in ("train", "val", "test")}
        | {part: {k: v for k, v in data.report[part].items() if k != "lengths"} for part in ("train", "val", "test")},
        "machine": {
            "cores": os.cpu_count(), "threads": 1, "processor": platform.processor() or platform.machine(),
            "python": platform.python_version(), "torch": torch.__version__,
            "note": "CPU seconds of a process on a machine that was shared by several others",
        },
        "command": "python -m benchmarks.discrete_sequences" + (
            "" if arguments.budget == 1.0 else f" --budget {arguments.budget:g}"),
        "settings": {
            "A": A | {"steps": ARMS_A}, "B": B | {"positions": "rotary"},
            "C": C | {"T": T, "arms": ARMS_C, "positions": "rotary"}, "seeds": {"A": [0], "B": SEEDS, "C": SEEDS},
        },
        "optimiser": "AdamW, weight decay 0.01, warmup 100, cosine, average 0.999, gradient norm 1",
    }  # fmt: skip
    runs.change(lambda content: content.update(head))
    if "A" in arguments.only:
        runs.run("A/ngrams/0", lambda: ngrams(data))
        for arm in ARMS_A:
            runs.run(f"A/{arm}/0", lambda arm=arm: masked(runs, data, arm, 0))
    if "B" in arguments.only:
        for seed, arm in product(SEEDS, ("uniform", "priority")):
            runs.run(f"B/{arm}/{seed}", lambda arm=arm, seed=seed: priorities(runs, data, arm, seed))
    if "C" in arguments.only:
        runs.run("C/chance/0", lambda: chance(data))
        pairs = [*product(SEEDS, list(ARMS_C)[:2]), *product(SEEDS, list(ARMS_C)[2:])]  # what the paper claims first
        for seed, arm in pairs:
            runs.run(f"C/{arm}/{seed}", lambda arm=arm, seed=seed: contrastive(runs, data, arm, seed))
    found = runs.read()
    runs.change(lambda content: content.update(summary=summary(found["runs"])))
    plots(found["runs"], arguments.output.parent)
    for name, row in runs.read()["summary"].items():
        print(f"{name:60} {json.dumps(row)}")


if __name__ == "__main__":
    main()
