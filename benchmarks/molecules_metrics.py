"""What the scores of molecules cost, and the reference values they must give.

Each part one thread; a part that lacks its data is skipped and says so:

- *earth mover*: W1 between all pairs of 100 and 100 spectral histograms (200 bins), in closed form, by scipy's
  `wasserstein_distance` pair by pair, by pyemd on some pairs, as the reference implementations of the field call it
  (`make bench` installs it), and by a linear program (scipy's HiGHS). The values must agree.
- *suite*: the four graph MMDs, 100 graphs against 100, in both kernels with their intervals: two-community graphs of 12
  to 20 nodes (synthetic), and ENZYMES (real, up to 125 nodes) from `$SCIDIFFUSE_DATA`.
- *real molecules*: stability and NSPDK of QM9 (qm9pack): the first 6,000 molecules of the file and 6,000 at random.
- *FCD*: with `--moses FOLDER`, which holds `test.csv.gz` and `test_scaffolds.csv.gz` of molsets 0.3.1: A = test rows 0
  to 999, B = 1,000 to 1,999, C = the first 1,000 with test scaffolds; and the same again with the reference cached.
- *MOSES*: the statistics of the test set that molsets itself ships (`test_stats.npz` in the same folder) against ours:
  fragments and scaffolds of all 176,074 molecules, fingerprints and properties of the first 2,000.
- *community-small*: MMDs of parts of SPECTRE's file against each other.

    python -m benchmarks.molecules_metrics [--moses FOLDER] [--parts NAME ...]

writes benchmarks/results/molecules_metrics.json; other parts stay as they were.
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import importlib.util
import json
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import linprog
from scipy.stats import wasserstein_distance

from scidiffuse.core.scores import Score
from scidiffuse.molecules.metrics import earth_mover, graph_mmd, nspdk_mmd, stability
from scidiffuse.molecules.metrics.graphs import adjacency, descriptor

OUTPUT = Path(__file__).parent / "results" / "molecules_metrics.json"


def clock(function: Callable[[], Any], repeat: int = 3) -> tuple[float, Any]:
    """Least CPU seconds of some runs, and what the last gave."""
    seconds = []
    for _ in range(repeat):
        start = time.process_time()
        out = function()
        seconds.append(time.process_time() - start)
    return min(seconds), out


def communities(n: int, seed: int) -> list[np.ndarray]:
    """Two equal communities, edges with probability 0.7 inside and 0.05 between: synthetic."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(n):
        half = int(rng.integers(6, 11))
        p = np.kron(np.array([[0.7, 0.05], [0.05, 0.7]]), np.ones((half, half)))
        upper = np.triu(rng.random(p.shape) < p, 1)
        out.append((upper + upper.T).astype(float))
    return out


def brief(scores: dict[str, Score]) -> dict[str, dict[str, float | None]]:
    return {
        name: {
            "value": float(f"{s.value:.5g}"),
            "low": float(f"{s.low:.4g}"),
            "high": float(f"{s.high:.4g}"),
            "n": s.n,
            "reference": s.reference if s.reference is None else float(f"{s.reference:.4g}"),
        }
        for name, s in scores.items()
    }


def earth() -> dict[str, Any]:
    """Closed form, scipy, linear program."""
    x, y = (np.stack(descriptor("spectral", communities(100, seed))) for seed in (0, 1))
    bins = np.arange(x.shape[1])
    ours, d = clock(lambda: earth_mover(x, y), 5)
    loop, by_scipy = clock(lambda: np.array([[wasserstein_distance(bins, bins, p, q) for q in y] for p in x]), 1)

    def program(p: np.ndarray, q: np.ndarray) -> float:
        p, q = p.reshape(-1, 10).sum(1), q.reshape(-1, 10).sum(1)  # 20 bins: the program grows with the square
        n = len(p)
        cost = np.abs(np.subtract.outer(np.arange(n), np.arange(n))).ravel()
        rows = np.vstack([np.kron(np.eye(n), np.ones(n)), np.kron(np.ones(n), np.eye(n))])
        return float(linprog(cost, A_eq=rows, b_eq=np.concatenate([p, q])).fun)

    pairs = [(i, (7 * i) % 100) for i in range(20)]
    solver, by_program = clock(lambda: [program(x[i], y[j]) for i, j in pairs], 1)
    some = [(i, (7 * i) % 100) for i in range(100)]
    rival, by_pyemd = by_flow(x, y, some)
    coarse = earth_mover(x.reshape(100, 20, 10).sum(2), y.reshape(100, 20, 10).sum(2))
    return {
        "pairs": d.size,
        "bins": x.shape[1],
        "closed_form_microseconds_per_pair": round(1e6 * ours / d.size, 3),
        "scipy_microseconds_per_pair": round(1e6 * loop / d.size, 1),
        "linear_program_20_bins_microseconds_per_pair": round(1e6 * solver / len(pairs), 1),
        "scipy_over_closed_form": round(loop / ours, 1),
        "largest_difference_from_scipy": float(np.abs(d - by_scipy).max()),
        "largest_difference_from_linear_program": max(
            abs(coarse[i, j] - v) for (i, j), v in zip(pairs, by_program, strict=True)
        ),
        **({"pyemd": "not installed, not timed"} if by_pyemd is None else {
            "pyemd_microseconds_per_pair": round(1e6 * rival / len(some), 1),
            "pyemd_over_closed_form": round(rival / len(some) / (ours / d.size), 1),
            "largest_difference_from_pyemd": max(abs(d[i, j] - v) for (i, j), v in zip(some, by_pyemd, strict=True)),
        }),
    }  # fmt: skip


def by_flow(x: np.ndarray, y: np.ndarray, pairs: list[tuple[int, int]]) -> tuple[float, list[float] | None]:
    """Seconds and values of pyemd for some pairs; the matrix of distances is made once, which favours it."""
    if importlib.util.find_spec("pyemd") is None:
        return 0.0, None
    emd = importlib.import_module("pyemd").emd
    bins = np.arange(x.shape[1], dtype=float)
    cost = np.abs(np.subtract.outer(bins, bins))
    return clock(lambda: [emd(x[i], y[j], cost) for i, j in pairs], 1)


def enzymes() -> list[np.ndarray] | None:
    folder = Path(os.environ.get("SCIDIFFUSE_DATA", "/nowhere")) / "molecules" / "ENZYMES"
    if not folder.exists():
        return None
    graph_of = np.loadtxt(folder / "ENZYMES_graph_indicator.txt", dtype=int)
    edges = np.loadtxt(folder / "ENZYMES_A.txt", dtype=int, delimiter=",") - 1
    out = []
    for graph in range(1, graph_of.max() + 1):
        nodes = np.flatnonzero(graph_of == graph)
        mine = edges[graph_of[edges[:, 0]] == graph] - nodes[0]
        A = np.zeros((len(nodes), len(nodes)))
        A[mine[:, 0], mine[:, 1]] = A[mine[:, 1], mine[:, 0]] = 1
        out.append(adjacency(A))
    return out


def suite() -> dict[str, Any]:
    """Seconds of the whole suite, 100 graphs against 100."""
    real = enzymes()
    sets = {"communities, synthetic": (communities(100, 0), communities(100, 1))}
    if real is not None:
        order = np.random.default_rng(0).permutation(len(real))
        sets["ENZYMES"] = ([real[i] for i in order[:100]], [real[i] for i in order[100:200]])
    out: dict[str, Any] = {} if real is not None else {"ENZYMES": "SCIDIFFUSE_DATA does not hold it"}
    for name, (x, y) in sets.items():
        out[name] = {"largest_graph": max(map(len, x + y))}
        for kernel in ("emd", "tv"):
            seconds, scores = clock(lambda x=x, y=y, kernel=kernel: graph_mmd(x, y, kernel))
            out[name][kernel] = {"cpu_seconds": round(seconds, 3), "scores": brief(scores)}
    return out


def real_molecules() -> dict[str, Any]:
    """Stability and NSPDK of QM9."""
    spec = importlib.util.find_spec("qm9pack")  # finds the folder, executes nothing
    if spec is None or not spec.submodule_search_locations:
        return {"skipped": "qm9pack is not installed"}
    import pandas as pd

    files = [Path(spec.submodule_search_locations[0]) / "data" / f"qm9_part{part}.csv" for part in (1, 2, 3)]
    table = pd.concat([pd.read_csv(file, usecols=["SMILES", "Elements", "XYZ_Ang"]) for file in files])
    number = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}

    def geometry(part: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        z, x = np.zeros((len(part), 29), dtype=int), np.zeros((len(part), 29, 3))
        for row, (elements, text) in enumerate(zip(part["Elements"], part["XYZ_Ang"], strict=True)):
            own = [number[symbol.strip(" '")] for symbol in elements.strip("[]").split(",")]
            numbers = text.replace("[", "").replace("]", "").replace("*^", "e").split(",")
            z[row, : len(own)], x[row, : len(own)] = own, np.array(numbers, dtype=float).reshape(-1, 3)
        return z, x

    out: dict[str, Any] = {"molecules": len(table)}
    for name, part in (
        ("first 6,000", table[:6000]),
        ("sample(6000, random_state=0)", table.sample(6000, random_state=0)),
    ):
        z, x = geometry(part)
        seconds, scores = clock(lambda z=z, x=x: stability(z, x), 1)
        out[f"stability, {name}"] = {"cpu_seconds": round(seconds, 2), "scores": brief(scores)}
    smiles = table.sample(2000, random_state=1)["SMILES"].tolist()
    seconds, score = clock(lambda: nspdk_mmd(smiles[:1000], smiles[1000:]), 1)
    out["NSPDK, 1,000 against 1,000 at random"] = {
        "cpu_seconds": round(seconds, 2),
        "scores": brief({score.name: score}),
    }
    return out


def frechet(folder: Path | None) -> dict[str, Any]:
    """FCD of parts of MOSES."""
    if folder is None or not (folder / "test.csv.gz").exists():
        return {"skipped": "needs --moses FOLDER with test.csv.gz and test_scaffolds.csv.gz of molsets 0.3.1"}
    module = importlib.import_module("scidiffuse.molecules.metrics.fcd")

    def rows(name: str, start: int, stop: int) -> list[str]:
        with gzip.open(folder / name, "rt") as file:
            return [line.split(",")[0].strip() for line in list(file)[1 + start : 1 + stop]]

    A, B, C = rows("test.csv.gz", 0, 1000), rows("test.csv.gz", 1000, 2000), rows("test_scaffolds.csv.gz", 0, 1000)
    out: dict[str, Any] = {"expected of fcd-torch 1.0.7": {"A-B": 4.19786, "A-C": 7.85882}}
    with tempfile.TemporaryDirectory() as cache:
        module.cache_folder = lambda: Path(cache)
        module.fcd_statistics(A[:2])  # loads the network
        for name, reference in (("A-B", B), ("A-B, reference cached", B), ("A-C", C)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                seconds, score = clock(lambda r=reference: module.fcd(A, r, allow_small=True), 1)
            out[name] = {"cpu_seconds": round(seconds, 1), "value": round(score.value, 5), "low": round(score.low, 3)}
            out[name]["high"] = round(score.high, 3)
            print(name, out[name], flush=True)
    return out


def moses(folder: Path | None) -> dict[str, Any]:
    """Our statistics of the test set against those that molsets ships."""
    if folder is None or not (folder / "test_stats.npz").exists():
        return {"skipped": "needs --moses FOLDER with test.csv.gz and test_stats.npz of molsets 0.3.1"}
    from collections import Counter

    from scidiffuse.molecules import chem
    from scidiffuse.molecules.metrics import moses as ours

    known = np.load(folder / "test_stats.npz", allow_pickle=True)["stats"].item()  # a pickle, of a package we trust
    with gzip.open(folder / "test.csv.gz", "rt") as file:
        mols = [chem.parse(line.split(",")[0].strip()) for line in list(file)[1:]]
    out: dict[str, Any] = {"molecules": len(mols)}
    for name, parts, theirs in (
        ("fragments", ours._brics, known["Frag"]["frag"]),
        ("scaffolds", ours._scaffold, known["Scaf"]["scaf"]),
    ):
        start = time.process_time()
        own = Counter(part for mol in mols for part in parts(mol))
        every = [*dict.fromkeys([*own, *theirs])]
        x, y = (np.array([float(c.get(part, 0)) for part in every]) for c in (own, theirs))
        out[name] = {
            "cpu_seconds": round(time.process_time() - start, 1), "different": len(own), "molsets": len(theirs),
            "counted_alike": float((x == y).mean()), "cosine": float(x @ y / np.linalg.norm(x) / np.linalg.norm(y)),
        }  # fmt: skip
        print(name, out[name], flush=True)
    some = mols[:2000]
    theirs = known["SNN"]["fps"][: len(some)] > 0
    equal = (ours._fingerprints(some) == theirs).all(1).mean()
    out["fingerprints"] = {"bits": theirs.shape[1], "equal": float(equal)}
    for name, function in (("logP", chem.logp), ("SA", chem.sa_score), ("QED", chem.qed), ("weight", chem.weight)):
        values = np.array([function(mol) for mol in some])
        apart = np.abs(values - np.array(known[name]["values"][: len(some)]))
        out[name] = {"largest_difference": float(apart.max()), "mean_difference": float(apart.mean())}
    return out


def community_small() -> dict[str, Any]:
    """Twenty graphs of SPECTRE's file against the eighty others, first and last."""
    from scidiffuse.molecules import load

    try:
        graphs = load("spectre_community_small")
    except (FileNotFoundError, ValueError) as error:
        return {"skipped": str(error)}
    out: dict[str, Any] = {"not reproduced": "first 20 of the pickle of GDSS: emd .00338, .00923, .00097, .03405"}
    for name, some, rest in (("first 20", graphs[:20], graphs[20:]), ("last 20", graphs[80:], graphs[:80])):
        for kernel in ("emd", "tv"):
            found = graph_mmd(list(some.to_networkx()), list(rest.to_networkx()), kernel)  # type: ignore[arg-type]
            out[f"{name} against the rest, {kernel}"] = brief(found)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "earth_mover": earth,
        "suite": suite,
        "real_molecules": real_molecules,
        "fcd": lambda: frechet(arguments.moses),
        "moses": lambda: moses(arguments.moses),
        "community_small": community_small,
    }
    parser.add_argument("--moses", type=Path, default=None)
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = json.loads(OUTPUT.read_text()) if OUTPUT.exists() else {}
    result["machine"] = (
        f"{platform.machine()}, one thread, numpy {np.__version__}; CPU seconds, other work on the machine"
    )
    for name in arguments.parts:
        result[name] = parts[name]()
        print(name, json.dumps(result[name], indent=1), flush=True)
    partial = OUTPUT.with_suffix(".part")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    os.replace(partial, OUTPUT)


if __name__ == "__main__":
    main()
