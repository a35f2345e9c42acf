"""DRAKES on synthetic DNA with planted motifs: a reward model tuned for, and another one that was kept aside.

    python -m benchmarks.drakes_dna [--output benchmarks/results/drakes_dna.json] [--cache FOLDER]

**Data (synthetic).** 64 bases from a second-order Markov chain (its table is drawn from a Dirichlet law, seed 0), with
none to three binding sites of four transcription factors of the liver drawn from their JASPAR matrices. The *activity*
is a sum over motifs of log(1 + sum_positions exp(log odds - 4)), the log odds being those of the matrix against equal
bases; it is measured with normal noise of its own standard deviation. All scores below are in standard deviations of
the noiseless activity of the data, from its mean.

**Judges.** The training oracle is a small convolutional regressor, fitted to one half of the 2000 sequences with a
measurement: its word is the reward. The held-out oracle has another architecture and seed and saw the other half only.
The true score is the noiseless activity itself. No method sees the last two.

**Methods.** The base is a masked diffusion of 64 tokens (a convolutional network) in 32 ancestral steps.
DRAKES tunes it at several weights alpha of the divergence, the last 16 steps relaxed. Best of N and SVDD steer the base
with the training oracle and change no weights.

**What is reported** of n samples: the three scores; Pearson correlation of 3-mer frequencies with the tenth of the data
that is most active, and with all data (the two correlate themselves: see the rows of the data); bits a base under the
*base* model (the bound over orders of unmasking: what the base finds natural), and the divergence of the reverse chains
from the base's in nats a sequence, exact but for sampling. Seeds are of the tuning; base and oracles are shared. A run
that is stopped goes on from its cache; all together take about 20 minutes of one core.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scidiffuse.core import checkpoint, sample
from scidiffuse.core.discrete import Ancestral, Masked, TokenDenoiser
from scidiffuse.core.discrete.drakes import drakes
from scidiffuse.core.discrete.likelihood import bits_per_token
from scidiffuse.core.discrete.path_kl import path_kl
from scidiffuse.core.noise import keyed_generator
from scidiffuse.core.steering import svdd

RESULTS = Path(__file__).parent / "results" / "drakes_dna.json"
L, STEPS, RELAXED = 64, 32, 16
DATA, MEASURED, HELD = 8000, 2000, 1000  # sequences; with a measured activity; kept aside to judge judges and base
LR = 1e-3
THRESHOLD = 4.0  # of a site's log odds, nats

MOTIFS = {  # counts of A, C, G, T: JASPAR 2024 CORE (I. Rauluseviciute et al., NAR 2024; CC BY 4.0)
    "MA0114.4 HNF4A": (
        (10046, 9788, 1468, 43321, 40217, 43264, 716, 927, 2770, 1363, 36654, 13574, 15279),
        (7136, 14435, 41443, 1257, 1370, 544, 916, 695, 37804, 42341, 2782, 9863, 9070),
        (13905, 9294, 1237, 1061, 3615, 1897, 43528, 2184, 1826, 643, 2936, 13014, 11714),
        (15417, 12987, 2356, 865, 1302, 799, 1344, 42698, 4104, 2157, 4132, 10053, 10441),
    ),
    "MA0046.2 HNF1A": (
        (5209, 6981, 376, 2914, 14149, 14149, 1274, 3340, 14149, 711, 42, 14149, 14149, 1488, 3972),
        (2441, 415, 1060, 2170, 3, 633, 423, 3750, 9, 13, 228, 237, 695, 14149, 3427),
        (3490, 7168, 903, 544, 246, 8, 7, 4540, 339, 845, 4, 1337, 1095, 655, 2275),
        (3009, 636, 14149, 14149, 14, 364, 14149, 2518, 651, 14149, 14149, 1638, 174, 914, 4475),
    ),
    "MA0102.4 CEBPA": (
        (24010, 17688, 54374, 869, 1002, 9252, 1148, 62409, 6095, 71916, 75177, 4506, 28052, 21658),
        (14823, 12801, 7284, 826, 282, 936, 75124, 3535, 61538, 5655, 1034, 16193, 17396, 17147),
        (15847, 20062, 12772, 722, 2365, 57887, 678, 6751, 1583, 340, 1381, 7312, 12932, 16045),
        (24323, 28452, 4573, 76586, 75354, 10928, 2053, 6308, 9787, 1092, 1411, 50992, 20623, 24153),
    ),
    "MA0099.3 FOS::JUN": (
        (592, 3, 7, 820, 78, 5, 30, 992, 24, 277),
        (111, 5, 1, 131, 180, 2, 963, 2, 313, 397),
        (257, 2, 824, 4, 688, 2, 3, 2, 95, 164),
        (40, 990, 168, 45, 54, 991, 4, 4, 568, 162),
    ),
}


# ------------------------------------------------------------------------------------------ data
def matrices() -> list[np.ndarray]:
    """Probabilities of the bases at each place of each motif, (width, 4), one pseudocount."""
    out = []
    for counts in MOTIFS.values():
        c = np.array(counts, dtype=float).T + 0.25
        out.append(c / c.sum(1, keepdims=True))
    return out


def sequences(n: int, seed: int = 0) -> np.ndarray:
    """Ids of A, C, G, T, (n, L): a Markov background with planted sites."""
    g = keyed_generator(seed, "dna")
    table = g.dirichlet([3.0] * 4, size=(4, 4)).cumsum(-1)
    x = np.zeros((n, L), dtype=np.int64)
    x[:, :2] = g.integers(0, 4, (n, 2))
    for j in range(2, L):
        x[:, j] = (g.random((n, 1)) > table[x[:, j - 2], x[:, j - 1]]).sum(1).clip(max=3)
    motifs = matrices()
    for row in x:
        for slot in g.permutation(4)[: g.choice(4, p=[0.3, 0.4, 0.2, 0.1])]:  # four slots of 16 bases
            p = motifs[g.integers(4)]
            first = 16 * slot + g.integers(16 - len(p) + 1)
            row[first : first + len(p)] = (g.random((len(p), 1)) > p.cumsum(1)).sum(1).clip(max=3)
    return x


def activity(x: Tensor) -> Tensor:
    """The noiseless activity of ids (N, L)."""
    hot = nn.functional.one_hot(x, 4).double().transpose(1, 2)
    total = torch.zeros(len(x), dtype=torch.float64)
    for p in matrices():
        odds = torch.from_numpy(np.log(4.0 * p)).T.unsqueeze(0)
        total += (nn.functional.conv1d(hot, odds).squeeze(1) - THRESHOLD).exp().sum(1).log1p()
    return total


def triples(x: Tensor) -> Tensor:
    """Frequencies of the 64 3-mers."""
    k = x[:, :-2] * 16 + x[:, 1:-1] * 4 + x[:, 2:]
    return torch.bincount(k.flatten(), minlength=64) / k.numel()


def pearson(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.double(), b.double()]))[0, 1])


# ------------------------------------------------------------------------------------------ models
class Oracle(nn.Module):
    """One-hot bases (B, L, 4) -> score (B,)."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        if kind == "training":  # one wide filter bank, pooled
            self.features = nn.Sequential(nn.Conv1d(4, 48, 13, padding=6), nn.GELU())
            self.head = nn.Sequential(nn.Linear(96, 32), nn.GELU(), nn.Linear(32, 1))
        else:  # three narrow layers with growing steps
            width = 40
            self.features = nn.Sequential(
                nn.Conv1d(4, width, 7, padding=3), nn.ReLU(),
                nn.Conv1d(width, width, 5, padding=4, dilation=2), nn.ReLU(),
                nn.Conv1d(width, width, 5, padding=4, dilation=2), nn.ReLU(),
            )  # fmt: skip
            self.head = nn.Linear(2 * width, 1)

    def forward(self, y: Tensor) -> Tensor:
        h = self.features(y.transpose(1, 2))
        return self.head(torch.cat([h.amax(-1), h.mean(-1)], -1)).squeeze(-1)

    def of(self, x: Tensor) -> Tensor:
        """The score of ids."""
        with torch.no_grad():
            return self(nn.functional.one_hot(x, 4).float())


def fit_oracle(kind: str, x: Tensor, y: Tensor, seed: int, epochs: int = 15) -> Oracle:
    torch.manual_seed(seed)
    oracle, g = Oracle(kind), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(oracle.parameters(), lr=2e-3, weight_decay=1e-2)
    hot = nn.functional.one_hot(x, 4).float()
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=g).split(64):
            optimizer.zero_grad()
            (oracle(hot[rows]) - y[rows]).square().mean().backward()
            optimizer.step()
    return oracle.eval().requires_grad_(False)


def any_order(denoiser: TokenDenoiser, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """-log p(x), bounded by the mean over orders of unmasking: L / n times the cost of n masked bases, n uniform.

    The bound "orders" of `bits_per_token`, in which results are reported, as a loss.

    u (N,) and v (N, L) are uniforms: of n, and of which bases.
    """
    n = (u * L).long() + 1
    masked = v.argsort(1).argsort(1) < n[:, None]
    log_p = denoiser(torch.where(masked, 4, x), 0.5).log_probs.gather(-1, x.unsqueeze(-1)).squeeze(-1)
    return L / n * (-log_p * masked).sum(1)


class Convolutions(nn.Module):
    """Logits of masked bases from 61 bases around: network(x, t), ids (B, L) -> (B, L, 5); time-agnostic."""

    def __init__(self, width: int = 64, kernel: int = 5) -> None:
        super().__init__()
        steps = (1, 2, 4, 8)
        self.embed = nn.Embedding(5, width)
        self.norms = nn.ModuleList([nn.GroupNorm(1, width) for _ in steps])
        self.convolutions = nn.ModuleList(
            [nn.Conv1d(width, width, kernel, padding=d * (kernel // 2), dilation=d) for d in steps]
        )
        self.mixes = nn.ModuleList([nn.Conv1d(width, width, 1) for _ in steps])
        self.output = nn.Linear(width, 5)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h = self.embed(x).transpose(1, 2)
        for norm, convolution, mix in zip(self.norms, self.convolutions, self.mixes, strict=True):
            h = h + mix(nn.functional.gelu(convolution(norm(h))))
        return self.output(nn.functional.gelu(h).transpose(1, 2))


def network() -> Convolutions:
    torch.manual_seed(0)
    return Convolutions()


def fit_base(x: Tensor, iterations: int) -> TokenDenoiser:
    denoiser, g = TokenDenoiser(network(), Masked(5)), keyed_generator(0, "train")
    optimizer = torch.optim.AdamW(denoiser.network.parameters(), lr=2e-3, weight_decay=1e-2)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
    size = 64
    for _ in range(iterations):
        rows = torch.from_numpy(g.integers(0, len(x), size))
        u = torch.from_numpy((np.arange(size) + g.random(size)) / size)
        loss = any_order(denoiser, x[rows], u, torch.from_numpy(g.random((size, L)))).mean() / L
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(denoiser.network.parameters(), 1.0)
        optimizer.step()
        rate.step()
    denoiser.network.eval()
    return denoiser


# ------------------------------------------------------------------------------------------ the study
class Study:
    """Data, judges and base."""

    def __init__(self, cache: Path, iterations: int) -> None:
        self.x = torch.from_numpy(sequences(DATA))
        truth = activity(self.x)
        self.centre, self.scale = truth.mean(), truth.std()
        score = self.true(self.x)
        noise = torch.from_numpy(keyed_generator(0, "activity noise").standard_normal(DATA))
        noisy = (score + noise).float()
        self.train, self.held = self.x[:-HELD], self.x[-HELD:]
        half = MEASURED // 2
        self.oracle = fit_oracle("training", self.x[:half], noisy[:half], seed=1)
        self.other = fit_oracle("held-out", self.x[half:MEASURED], noisy[half:MEASURED], seed=2)
        truth_held = score[-HELD:]
        self.about = {
            "pearson_training_oracle": pearson(self.oracle.of(self.held), truth_held),
            "pearson_held_out_oracle": pearson(self.other.of(self.held), truth_held),
        }
        self.top = self.train[score[:-HELD].topk(len(self.train) // 10).indices]
        self.profile = {"top": triples(self.top), "all": triples(self.train)}
        folder = cache / f"base-{iterations}"
        if checkpoint.is_checkpoint(folder):
            self.base = TokenDenoiser(network().eval(), Masked(5))
            checkpoint.load(folder).load_into(self.base.network)
        else:
            self.base = fit_base(self.train, iterations)
            checkpoint.save(folder, self.base.network, kind="TokenDenoiser")

    def true(self, x: Tensor) -> Tensor:
        return (activity(x) - self.centre) / self.scale

    def report(self, x: Tensor) -> dict[str, float]:
        """Everything that samples alone tell."""
        out = {}
        for name, values in (
            ("training", self.oracle.of(x)), ("held_out", self.other.of(x)), ("true", self.true(x))
        ):  # fmt: skip
            out[name] = float(values.mean())
            out[f"{name}_se"] = float(values.std()) / len(x) ** 0.5
        own = triples(x)
        out["pearson_3mer_top"] = pearson(own, self.profile["top"])
        out["pearson_3mer_all"] = pearson(own, self.profile["all"])
        out["bits"] = bits_per_token(self.base, x, seed=0, draws=16, bound="orders").bits
        out["distinct"] = len({tuple(row) for row in x.tolist()}) / len(x)
        return out

    def judge(self, denoiser: TokenDenoiser, n: int, seed: int) -> dict[str, float]:
        """Sample a model and report on it."""
        paths = path_kl(denoiser, self.base, shape=(n, L), steps=STEPS, seed=seed)
        return {**self.report(paths.x), "kl": paths.mean, "kl_se": paths.standard_error}


def tune(
    study: Study, cache: Path, alpha: float, seed: int, iterations: int, n: int, straight: str, every: int = 30
) -> dict[str, Any]:  # fmt: skip
    """One fine-tuning; what the cache holds of it is not done again."""
    name = f"{straight}-{alpha}-{seed}-{iterations}-{n}"
    kept = cache / f"{name}.json"
    seen: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {"curve": [], "cpu_seconds": 0.0}
    start = time.process_time()

    def look(row: dict[str, float], denoiser: TokenDenoiser) -> None:
        nonlocal start
        if (row["iteration"] + 1) % every == 0:
            seen["cpu_seconds"] += time.process_time() - start
            seen["curve"].append({"iteration": row["iteration"] + 1, **study.judge(denoiser, 128, seed=10_000)})
            kept.write_text(json.dumps(seen))
            start = time.process_time()

    result = drakes(
        study.base, study.oracle, length=L, steps=STEPS, truncate=RELAXED, straight=straight, alpha=alpha, lr=LR,
        batch_size=16, accumulate=1, iterations=iterations, seed=seed, out=cache / name, resume=True, save_every=every,
        dtype=torch.float32, callback=look,
    )  # fmt: skip
    if "end" not in seen:
        seen["end"] = study.judge(result.denoiser, n, seed=20_000 + seed)
        kept.write_text(json.dumps(seen))
    return seen


def best_of(study: Study, n: int, many: int, seed: int) -> Tensor:
    x = sample(study.base, Ancestral(), steps=STEPS, shape=(n * many, L), seed=seed, max_batch=256).x
    return x.view(n, many, L)[torch.arange(n), study.oracle.of(x).view(n, many).argmax(1)]


def baselines(study: Study, cache: Path, n: int) -> dict[str, dict[str, float]]:
    """Rows of the data, the base, and steering of the base."""
    kept = cache / f"baselines-{n}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    rows = {
        "data kept aside": study.report(study.held),
        "top tenth of the data": study.report(study.top),
        "base": study.judge(study.base, n, seed=30_000),
    }
    many = 16
    rows["best of 16"] = {**study.report(best_of(study, n, many, 40_000)), "kl": math.log(many) - (many - 1) / many}
    steered = svdd(
        study.base, Ancestral(), reward=lambda x, step: study.oracle.of(x), candidates=8, alpha=0.0, shape=(n, L),
        steps=STEPS, seed=50_000, max_batch=256,
    )  # fmt: skip
    rows["svdd 8"] = study.report(steered.x)
    kept.write_text(json.dumps(rows))
    return rows


def plot(results: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 4), sharex=True)
    panels = (("training", "training oracle"), ("held_out", "held-out oracle"), ("true", "true score"))
    base = results["rows"]["base"]
    for axis, (key, title) in zip(axes, panels, strict=True):
        for colour, (name, runs) in enumerate(results["runs"].items()):
            for i, run in enumerate(runs):
                points = [base, *run["curve"], run["end"]]
                kl = [p.get("kl", 0.0) for p in points]
                axis.plot(
                    kl, [p[key] for p in points], color=f"C{colour}", marker=".", lw=1, label=name if i == 0 else None
                )  # fmt: skip
        for name, style in (("best of 16", ":"), ("svdd 8", "--"), ("top tenth of the data", "-.")):
            axis.axhline(results["rows"][name][key], color="0.5", ls=style, lw=1, label=name)
        axis.set(title=title, xlabel="KL from the base, nats a sequence", ylabel="score, sd of the data")
    axes[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "scidiffuse" / "drakes_dna")
    parser.add_argument("--seeds", type=int, nargs="+", default=[3], help="runs: one number, or one for each method")
    parser.add_argument("--alphas", type=float, nargs="+", default=[0.0, 0.02, 0.1])
    parser.add_argument("--iterations", type=int, default=150)
    parser.add_argument("--base-iterations", type=int, default=2500)
    parser.add_argument("--samples", type=int, default=256)
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.cache.mkdir(parents=True, exist_ok=True)
    study = Study(given.cache, given.base_iterations)
    n = given.samples
    print(study.about, flush=True)

    rows: dict[str, dict[str, float]] = baselines(study, given.cache, n)
    plans = [(f"alpha {alpha}", alpha, "end") for alpha in given.alphas]
    plans.append((f"alpha {given.alphas[1]}, straight in every step", given.alphas[1], "step"))
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name, _, _ in plans}
    seeds = given.seeds * len(plans) if len(given.seeds) == 1 else given.seeds
    if len(seeds) != len(plans):
        parser.error(f"--seeds takes one number or {len(plans)}, one for each of {', '.join(runs)}")
    for seed in range(max(seeds)):
        for (name, alpha, straight), many in zip(plans, seeds, strict=True):
            if seed >= many:
                continue
            runs[name].append(tune(study, given.cache, alpha, seed, given.iterations, n, straight))
            print(name, seed, {k: round(v, 3) for k, v in runs[name][-1]["end"].items()}, flush=True)
    for name, of in runs.items():
        ends = [run["end"] for run in of]
        rows[name] = {key: float(np.mean([e[key] for e in ends])) for key in ends[0]}
        for key in ("training", "held_out", "true", "pearson_3mer_top", "pearson_3mer_all", "bits", "kl"):
            sd = float(np.std([e[key] for e in ends], ddof=1)) if len(ends) > 1 else None
            rows[name][f"{key}_sd_of_seeds"] = sd  # type: ignore[assignment]
    results = {
        "data": "synthetic: Markov background with planted JASPAR motifs; see benchmarks/drakes_dna.py",
        "length": L, "steps": STEPS, "relaxed_steps": RELAXED, "lr": LR, "batch": 16, "iterations": given.iterations,
        "samples": n, "seeds": dict(zip(runs, seeds, strict=True)), "about": study.about, "rows": rows, "runs": runs,
    }  # fmt: skip
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(results, indent=1, default=float) + "\n")
    plot(results, given.output.with_suffix(".png"))
    columns = ("training", "held_out", "true", "pearson_3mer_top", "pearson_3mer_all", "bits", "kl", "distinct")
    print(f"{'':40}" + "".join(f"{c:>18}" for c in columns))
    for name, row in rows.items():
        print(f"{name:40}" + "".join(f"{row.get(c, math.nan):18.3f}" for c in columns))


if __name__ == "__main__":
    main()
