"""The wing's section of the demonstration page: molecules drawn by the model that ships, and steered towards QED.

Every run loads the weights, samples with the splitting sampler, reads the graphs as molecules by the published protocol
and compares with what the model was trained on; then the same seeds are sampled again under a reward that has no
gradient, beside the best of as many unguided samples as cost the same network calls. Nothing is stored but the weights.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.demo import Section
from ..core.outputs import draw
from .systems import load_model, pretrained

if TYPE_CHECKING:
    from ..core.scores import Score

__all__ = ["GUIDED", "SAMPLES", "STEPS", "demo"]

SAMPLES = 160
STEPS = 100
#: Of the steered samples: how many, and candidates a step. Best-of-N takes GUIDED * CANDIDATES of the SAMPLES.
GUIDED, CANDIDATES = 24, 5
SEED = 2026
#: Molecules of QM9 that stand for it in the pictures.
REFERENCE = 2000


def training_smiles() -> list[str] | None:
    """QM9 as canonical SMILES without stereo marks, where qm9pack is installed; None elsewhere."""
    from .data.qm9 import qm9_table

    try:
        return [str(s) for s in qm9_table(["SMILES"])["SMILES"]]
    except ImportError:
        return None


def known_among(smiles: list[str], train: list[str]) -> int:
    """How many different molecules of a list are in the training set.

    Only training molecules of the same formula of heavy atoms are made canonical: all would take a minute.
    """
    from .chem import canonical

    wanted = {_heavy(s) for s in smiles}
    likely = [s for s in train if _heavy(s) in wanted]
    return len(set(smiles) & {canonical(s, stereo=False) for s in likely})


def _heavy(smiles: str) -> tuple[int, ...]:
    """Counts of C, N, O, F in a SMILES of those and hydrogens; aromatic atoms are written small."""
    return tuple(smiles.count(a) + (smiles.count(a.lower()) if a != "F" else 0) for a in "CNOF")


def in_threads(model: Any, n: int, workers: int = 2, **options: Any) -> list[Any]:
    """Samples of n, dealt out to threads that use one core each: networks this small gain nothing from two.

    Part k is a run of its own with the seed SEED + k.
    """
    import torch

    def part(k: int) -> Any:
        torch.set_num_threads(1)
        return model.sample(len(range(k, n, workers)), steps=STEPS, sampler="s4", seed=SEED + k, **options)

    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(part, range(workers)))
    finally:
        torch.set_num_threads(before)


def demo(folder: Path, model_folder: Path | None = None) -> Section:
    """Sample, score, steer and draw; under a minute on two cores.

    Args:
        folder: of the pictures. model_folder: of a GDSS of molecules; the one that ships by default.
    """
    from ..core.steering import SVDD
    from . import chem
    from .metrics.uncertainty import mean, share
    from .metrics.validity import uniqueness
    from .plots import molecule_grid, property_histograms

    model = load_model(pretrained() if model_folder is None else model_folder)
    parts = in_threads(model, SAMPLES)
    mols = [mol for part in parts for mol in part.mols]
    smiles = [s for part in parts for s in part.smiles if s is not None]
    scores: dict[str, Score] = {}
    for name in ("valid_uncorrected_gdss", "valid_corrected_gdss", "connected", "neutral"):
        some = [part.report[name] for part in parts]
        hits = sum(round(s.value * s.n) for s in some)
        scores[name] = share(name, hits, sum(s.n for s in some), some[0].definition)
    scores["unique_all"] = uniqueness(smiles)
    train = training_smiles()
    if train is not None:
        different = sorted({str(chem.canonical(s, stereo=False)) for s in smiles})
        new = len(different) - known_among(different, train)
        scores["novel"] = share("novel", new, len(different), f"different molecules not among {len(train)} of QM9")

    reward: Any = chem.qed  # of molecules; the model makes it one of states
    steered = in_threads(model, GUIDED, steering=SVDD(reward, CANDIDATES, 0.0))
    control = in_threads(model, GUIDED, corrector="none")
    guided, bare = ([mol for part in some for mol in part.mols] for some in (steered, control))
    plain = [mol for k, part in enumerate(parts) for mol in part.mols[: len(steered[k])]]

    def qed(some: list[Any]) -> list[float]:
        return [0.0 if mol is None else chem.qed(mol) for mol in some]

    rewards = qed(mols)
    values = {
        f"SVDD, {CANDIDATES} candidates a step": qed(guided),
        f"best of {CANDIDATES}, the same network calls": [
            max(rewards[k : k + CANDIDATES]) for k in range(0, GUIDED * CANDIDATES, CANDIDATES)
        ],
        "unguided, the same seeds": qed(plain),
        "unguided, the same seeds, without corrector": qed(bare),
    }
    table: dict[str, dict[str, float | str]] = {name: _row(score) for name, score in scores.items()}
    found = {name: mean("qed", v, "1", "mean QED, no molecule counts 0", what="samples") for name, v in values.items()}
    table |= {f"mean QED: {name}": _row(score) for name, score in found.items()}

    figures = [folder / "molecules.png", folder / "guided.png", folder / "properties.png"]
    molecule_grid(smiles[:24], columns=8, size=(150, 120)).save(figures[0])
    chosen = [mol for mol in guided if mol is not None][:16]
    legends = [f"QED {chem.qed(mol):.2f}" for mol in chosen]
    molecule_grid(chosen, legends, columns=8, size=(150, 130)).save(figures[1])
    sets: dict[str, list[Any]] = {"GDSS": smiles, "GDSS, steered": [m for m in guided if m is not None]}
    if train is not None:
        step = max(1, len(train) // REFERENCE)
        sets["QM9"] = train[::step]
    draw(property_histograms(sets), figures[2])

    svdd, best, same, bare_mean = found.values()
    overlap = svdd.low <= best.high and best.low <= svdd.high
    summary = (
        "GDSS (Jo, Lee and Hwang, 2022) draws the atoms and the bonds of a molecule by one joint diffusion. The "
        f"weights that ship are small; {SAMPLES} molecules were drawn just now, in {STEPS} steps of one network call "
        "each.\n\n"
        f"Valid without any correction: {_percent(scores['valid_uncorrected_gdss'])}; bonds of the others are lowered "
        "by the published protocol until no atom is above its valence, and the fragment of the longest SMILES is "
        "kept. The protocol counts cations of N, O and S as valid; in one piece and without a net charge are "
        f"{_percent(scores['neutral'])}. Different from each other: {_percent(scores['unique_all'])}"
        + (f"; not in QM9: {_percent(scores['novel'])}. " if "novel" in scores else ". ")
        + "QM9 enumerates the molecules of up to nine of these atoms under stated rules, so that novelty is no merit "
        "here: a new molecule mostly breaks one of them.\n\n"
        f"A reward needs no gradient: with {CANDIDATES} candidates a step, of which the best is kept (SVDD, Li et al., "
        f"2024), the mean QED of {GUIDED} samples is {svdd.value:.3f}. For the best of {CANDIDATES} unguided samples, "
        f"which cost the same network calls, it is {best.value:.3f}; the two intervals "
        f"{'overlap' if overlap else 'do not overlap'}. Unguided, on the same seeds, it is {same.value:.3f}. Steered "
        "samples are drawn without the Langevin corrector, which would undo the choices; without it the unguided ones "
        f"have {bare_mean.value:.3f}. What was made to please QED is to be judged by something else."
    )
    return Section(
        title="Drawing molecules, and steering them",
        summary=summary,
        figures=figures,
        captions=[
            "Samples, after correction.",
            "Samples steered towards QED.",
            "Properties of both" + (", and of QM9 (grey)." if train is not None else "."),
        ],
        metrics=table,
        commands=[
            "scidiffuse demo --wing molecules",
            f"scidiffuse molecules sample -n {SAMPLES} --sampler s4 --steps {STEPS} --train qm9 --out samples",
            f"scidiffuse molecules guide qed -n {GUIDED} --candidates {CANDIDATES} --sampler s4 --steps {STEPS} "
            "--best-of --out guided",
        ],
    )


def _row(score: Score) -> dict[str, float | str]:
    return {"value": score.value, "95 % interval": f"{score.low:.3f} to {score.high:.3f}", "n": str(score.n)}


def _percent(score: Score) -> str:
    return f"{100 * score.value:.0f} % (n = {score.n})"
