"""What was sampled and measured, as files and as a table: ``report.json``, samples in their formats, pictures.

Every file appears when it is complete. ``report.json`` holds every score with its value, interval, n, definition and
how the interval was made; what is not a number is null. It also names the files of its run: those of an earlier run in
the same folder go when a new one writes there, so that old samples never stand beside new scores.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.outputs import draw, write_json
from .options import FASTA, SDF, TABLES, XYZ, folder_of, known_of, read, strings_of, suffix_of

if TYPE_CHECKING:
    from ...core.scores import Score

__all__ = [
    "Known",
    "clear",
    "folder_for",
    "kind_of_file",
    "known_beside",
    "model_name",
    "pictures",
    "report",
    "scores_of",
    "table_of",
    "write_samples",
]


@dataclass(frozen=True)
class Known:
    """What samples are compared with: SMILES, `Graphs` that are no molecules, or the strings of sequences.

    Attributes:
        train, reference: those of --train and --reference, None where they are not given.
    """

    train: Any = None
    reference: Any = None


def known_beside(model: Any, train: str | None, reference: str | None, **reading: Any) -> Known:
    """Read what the samples of a model will be compared with, before any is drawn.

    Args:
        model: trained. train, reference: files or named sets. reading: errors, and the alphabet of sequences.

    Raises:
        ValueError: data of another kind. FileNotFoundError: no such file.
    """
    from ..systems import kind_of

    kind = kind_of(model)

    def of(name: str | None) -> Any:
        if name is None:
            return None
        if kind == "sequences":
            return read(name, kind, **reading).strings()
        if kind == "graphs" and getattr(getattr(model, "meaning", model), "hydrogens", None) is None:
            return read(name, kind, **reading)
        return strings_of(name, **reading)

    return Known(of(train), of(reference))


def table_of(scores: Mapping[str, Score]) -> str:
    """The scores, one a line."""
    from ...core.demo import table

    rows: dict[str, dict[str, float | str]] = {}
    for name, score in scores.items():
        unit = "" if score.unit == "1" else score.unit
        rows[name] = {"value": score.value, "low95": score.low, "high95": score.high, "n": str(score.n), "unit": unit}
    if not any(row["unit"] for row in rows.values()):
        rows = {name: {k: v for k, v in row.items() if k != "unit"} for name, row in rows.items()}
    return table(rows)


@contextmanager
def folder_for(out: Path) -> Iterator[Path]:
    """The folder for results, made now, see :func:`.options.folder_of`; those that were made for a run that fails
    before it writes anything are taken away again.

    Raises:
        ValueError: the name of a file.
    """
    new = [p for p in (out, *out.parents) if not p.exists()]
    folder = folder_of(out)
    try:
        yield folder
    except BaseException:
        for made in new:
            if not made.is_dir() or any(made.iterdir()):
                break
            made.rmdir()
        raise


def clear(folder: Path) -> None:
    """Remove the files that an earlier run wrote into the folder, as its ``report.json`` names them; nothing else."""
    try:
        names = json.loads((folder / "report.json").read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):  # no report, or one that names no files
        return
    for name in names if isinstance(names, list) else ():
        if isinstance(name, str) and Path(name).name == name and (folder / name).is_file():
            (folder / name).unlink()


def model_name(model: Path | None) -> str:
    """The model as it was named, or the name of the one that ships."""
    from ..systems import pretrained

    return pretrained().name if model is None else str(model)


def report(folder: Path, scores: Mapping[str, Score], files: Sequence[Path] | None = None, **facts: Any) -> Path:
    """``report.json``: the facts of the run, the scores by name, and the files that were written with it."""
    path = folder / "report.json"
    names = {} if files is None else {"files": sorted({p.name for p in files} | {path.name})}
    return write_json(
        facts | names | {"scores": {name: score.to_dict() for name, score in scores.items()}},
        path,
    )


def kind_of_file(name: str) -> str:
    """What a file or named set holds: "smiles" (also graphs of molecules), "graphs", "atoms" or "sequences".

    Raises:
        ValueError: it cannot be told.
    """
    from ..data import NAMED, Atoms, Graphs, load

    suffix = suffix_of(name)
    if name == "qm9" or suffix in TABLES:
        return "smiles"
    if suffix in SDF or suffix in XYZ:
        return "atoms"
    if suffix in FASTA:
        return "sequences"
    if name in NAMED or Path(name).exists():
        data = load(name)
        if isinstance(data, Atoms):
            return "atoms"
        if isinstance(data, Graphs):
            return "smiles" if data.hydrogens is not None else "graphs"
    raise ValueError(f"{name} is no file of molecules, graphs or sequences, nor a named set")


def scores_of(result: Any, known: Known) -> dict[str, Score]:
    """The scores of samples of a model: its own report, uniqueness, novelty and what compares with a reference."""
    from .. import metrics

    scores = dict(getattr(result, "report", {}))
    if hasattr(result, "sequences"):
        strings = result.sequences.strings()
        different = len(set(strings))
        scores |= {s.name: s for s in (_share("unique_sequences", different, len(strings), "different sequences"),)}
        if known.train is not None:
            before = set(known.train)
            new = sum(s not in before for s in set(strings))
            text = f"different sequences not among the {len(before)} of training"
            scores["novel_sequences"] = _share("novel_sequences", new, different, text)
        if known.reference is not None:
            found = metrics.kmer_pearson(strings, known.reference, alphabet=result.sequences.alphabet)
            scores[found.name] = found
        return scores
    if getattr(result, "smiles", None) is not None:
        names = [n for n in ("unique_all",) if n not in scores]
        names += ["novel", "valid_unique_novel"] if known.train is not None else []
        if names and any(s is not None for s in result.smiles):
            train: Any = None if known.train is None else known_of(known.train, result.smiles)
            scores |= metrics.evaluate(result.smiles, train=train, suite=names)
    elif hasattr(result, "graphs"):
        scores |= metrics.graph_vun(result, known.train)
        if known.reference is not None:
            scores |= metrics.graph_mmd(result, known.reference)
    return scores


def _share(name: str, hits: int, n: int, text: str) -> Score:
    from ..metrics.uncertainty import share

    return share(name, hits, n, text)


def write_samples(result: Any, folder: Path) -> list[Path]:
    """Samples in every format that fits them."""
    from ..data import write_fasta

    if hasattr(result, "sequences"):
        return [write_fasta(result.sequences, folder / "samples.fasta")]
    if hasattr(result, "atoms"):
        names = ["samples.sdf", "samples.xyz"]
    else:
        names = ["samples.npz"] if result.smiles is None else ["samples.smi", "samples.npz"]
    return [result.write(folder / name) for name in names]


def pictures(
    result: Any,
    folder: Path,
    count: int,
    reference: Sequence[Any] | None,
    scores: Mapping[str, Score],
    *,
    label: str = "samples",
    highlight: str | None = None,
    sets: Mapping[str, Sequence[Any]] | None = None,
    legends: Sequence[str] | None = None,
) -> list[Path]:
    """What there is to look at, the first `count` samples; nothing at 0.

    Args:
        result: samples. folder: of the files. reference: molecules, drawn beside molecules. scores: MMDs among them are
            drawn.
        label: of the samples in legends. highlight: a scaffold's SMILES, marked in drawings of graphs. sets: further
            molecules for the histograms. legends: one a sample, below the drawings of molecules.
    """
    from .. import plots

    if count < 1:
        return []
    written = []
    if hasattr(result, "sequences"):
        strings = result.sequences.strings()
        figure = plots.sequence_logo(strings, result.sequences.alphabet, title=f"{label}, n = {len(strings)}")
        return [draw(figure, folder / "logo.png")]
    if hasattr(result, "atoms"):
        titles = None if result.smiles is None else [_title(s) for s in result.smiles[: min(count, 16)]]
        figure = plots.molecules_3d(result.atoms, min(count, 16), titles=titles)
        written.append(draw(figure, folder / "geometries.png"))
    if getattr(result, "smiles", None) is not None:
        places = [i for i, m in enumerate(result.smiles) if m is not None]
        mols = [result.smiles[i] for i in places]
        if mols:
            marked = None if hasattr(result, "atoms") else highlight
            below = None if legends is None else [legends[i] for i in places[:count]]
            image = plots.molecule_grid(mols[:count], below, highlight=marked)
            written.append(_save(image, folder / "molecules.png"))
        if whole := _whole(mols):
            # loose atoms and fragments have properties that say nothing about molecules
            together: dict[str, Sequence[Any]] = {label: whole}
            together |= {name: known for name, some in (sets or {}).items() if (known := _whole(some))}
            if reference is not None:
                together["reference"] = list(reference[:5000])
            written.append(draw(plots.property_histograms(together), folder / "properties.png"))
    elif hasattr(result, "graphs") and len(result.graphs):
        written.append(draw(plots.graph_drawings(result.graphs, min(count, 16)), folder / "graphs.png"))
        mmds = {name: s for name, s in scores.items() if name.startswith("mmd_")}
        if mmds:
            written.append(draw(plots.mmd_bars({label: mmds}), folder / "mmd.png"))
    return written


def _title(smiles: str | None) -> str:
    """A molecule in a few letters."""
    if smiles is None:
        return "no molecule"
    if "." in smiles:
        return f"{smiles.count('.') + 1} fragments"
    return smiles if len(smiles) <= 30 else smiles[:29] + "…"


def _whole(smiles: Sequence[str | None]) -> list[str]:
    """Those that are one piece."""
    return [s for s in smiles if s is not None and "." not in s]


def _save(image: Any, path: Path) -> Path:
    from ...core.files import replacing

    with replacing(path) as partial:
        image.save(partial, format="PNG")
    return path
