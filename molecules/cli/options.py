"""The options that verbs share, and reading what they name: data, model, settings."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from ..data import Atoms, Graphs, Sequences

__all__ = [
    "condition_of",
    "entries_of",
    "folder_of",
    "given",
    "known_of",
    "load",
    "policy_of",
    "read",
    "scaffold_of",
    "settings_of",
    "smiles_of",
    "strings_of",
    "suffix_of",
    "taken",
]

# -- data
Errors = Annotated[
    Literal["raise", "skip"], typer.Option(help="What to do with bad entries: stop, or leave them out and name them.")
]
Limit = Annotated[int | None, typer.Option(help="Read only the first so many entries.")]
Column = Annotated[str | None, typer.Option(help="Column of the SMILES or sequences in a table; found by its name.")]
Properties = Annotated[
    list[str] | None, typer.Option("--property", help="Column of numbers to read beside them; may be repeated.")
]
Vocabulary = Annotated[
    str | None, typer.Option(help="Atom types that are taken, 'CNOF' or 'C N O N+ O-'; default: all there are.")
]
MaxAtoms = Annotated[int | None, typer.Option(help="Largest molecule that is taken.")]
Fragments = Annotated[Literal["refuse", "largest"] | None, typer.Option(help="Salts and mixtures [default: refuse].")]
Charges = Annotated[
    Literal["keep", "neutralise", "refuse"] | None, typer.Option(help="Charged molecules [default: keep].")
]
Stereo = Annotated[Literal["drop", "refuse"] | None, typer.Option(help="Stereo marks [default: drop].")]
Isotopes = Annotated[Literal["drop", "refuse"] | None, typer.Option(help="Isotopes [default: drop].")]
Radicals = Annotated[Literal["refuse", "fill"] | None, typer.Option(help="Radicals [default: refuse].")]
Hydrogens = Annotated[
    Literal["implicit", "explicit"] | None, typer.Option(help="Whether hydrogens are atoms [default: implicit].")
]
Units = Annotated[Literal["angstrom", "bohr"] | None, typer.Option(help="Of coordinates; default: Å, checked.")]
Alphabet = Annotated[str | None, typer.Option(help="dna, rna, protein, or the letters themselves [default: dna].")]
Unknown = Annotated[
    Literal["raise", "skip", "keep"] | None, typer.Option(help="Letters outside the alphabet [default: raise].")
]
Lower = Annotated[
    Literal["raise", "upper", "unknown"] | None, typer.Option(help="Lower-case letters [default: raise].")
]
# -- model and sampling
Model = Annotated[
    Path | None,
    typer.Option(
        help="Folder of a trained model, or the --out of a training, or one that ships: gdss-qm9 (graphs; the "
        "default), edm-qm9 (3-D)."
    ),
]
Number = Annotated[int, typer.Option("-n", "--number", help="How many samples.")]
Steps = Annotated[int | None, typer.Option(help="Steps of the sampler; default: the model's.")]
Sampler = Annotated[
    str | None, typer.Option(help='By its name in the system, s4 or pc (gdss), or one of the core, "DDIM(eta=0.5)".')
]
Nodes = Annotated[int | None, typer.Option(help="Nodes (atoms) of every sample; default: drawn as in the training.")]
Scaffold = Annotated[
    str | None,
    typer.Option(
        help="SMILES of atoms and bonds that every sample has (of an aromatic ring its single and double bonds: what "
        "is added may end its aromaticity); in 3-D a file (.sdf, .xyz) of one molecule, whose atoms every sample has "
        "where they are."
    ),
]
Condition = Annotated[
    list[str] | None, typer.Option(help="Property that is asked for, mu=2.5, of a model trained with it; repeatable.")
]
GuidanceScale = Annotated[float | None, typer.Option(help="Strength of classifier-free guidance towards --condition.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Any other setting, key=value: of a training (ema=0.999), or of a sampling (snr=0.1 of gdss); repeatable.",
    ),
]
MaxBatch = Annotated[int | None, typer.Option(help="Largest batch for the networks; default: the model's.")]
Seed = Annotated[int, typer.Option(help="Same seed, same samples.")]
Progress = Annotated[bool, typer.Option(help="Show a progress bar.")]
# -- comparison and output
Out = Annotated[Path, typer.Option(help="Folder that receives the files.")]
Train = Annotated[str | None, typer.Option(help="What the model was trained on (file or named set), for novelty.")]
Reference = Annotated[str | None, typer.Option(help="Held-out data (file or named set) to compare with.")]
Draw = Annotated[int, typer.Option(help="How many samples to draw in pictures; 0 for none.")]

TABLES = (".csv", ".tsv", ".smi", ".smiles", ".txt")
SDF = (".sdf", ".sd", ".mol")
XYZ = (".xyz", ".extxyz")
STEREO = ("@", "/", "\\")
FASTA = (".fa", ".fasta", ".fna", ".faa")


def given(**options: Any) -> dict[str, Any]:
    """Those options that have a value."""
    return {name: value for name, value in options.items() if value is not None}


def flag(name: str) -> str:
    """``max_atoms`` as the option it is."""
    return {"properties": "--property", "n": "-n"}.get(name, f"--{name.replace('_', '-')}")


def taken(verb: Callable[..., Any], who: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that were asked for, if the verb has them all.

    Raises:
        ValueError: it has not; the options are named.
    """
    known = inspect.signature(verb).parameters
    if any(p.kind is p.VAR_KEYWORD for p in known.values()):
        return dict(asked)
    if foreign := [flag(name) for name in asked if name not in known]:
        raise ValueError(f"{who} has no {', '.join(foreign)}: leave out what it does not take")
    return dict(asked)


def settings_of(words: Sequence[str] | None, option: str = "--set") -> dict[str, Any]:
    """``["ema=0.999", "sampler=s4"]`` as {"ema": 0.999, "sampler": "s4"}; values are Python literals, else text.

    Raises:
        ValueError: no ``key=value``, or a key twice.
    """
    out: dict[str, Any] = {}
    for word in words or ():
        key, equals, text = word.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key.isidentifier():
            raise ValueError(f"{option} {word}: expected key=value")
        if key in out:
            raise ValueError(f"{option} {key} is given twice")
        try:
            out[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            out[key] = text.strip()
    return out


def condition_of(verb: Callable[..., Any], words: Sequence[str] | None, scale: float | None) -> dict[str, Any]:
    """``--condition mu=2.5 --guidance-scale 2`` as the arguments of a system's `sample`.

    Raises:
        ValueError: a system without conditions, a value that is no number.
    """
    asked = settings_of(words, "--condition")
    for key, value in asked.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"--condition {key}={value}: expected a number")
    known = inspect.signature(verb).parameters
    out: dict[str, Any] = {}
    for name, value, option in (
        ("condition", asked or None, "--condition"),
        ("guidance_scale", scale, "--guidance-scale"),
    ):
        if value is None:
            continue
        if name not in known:
            raise ValueError(f"this system has no {option}: its samples cannot be asked for properties")
        out[name] = value
    return out


def policy_of(**options: Any) -> Any:
    """The policy of standardisation; None where nothing was asked for."""
    asked = given(**options)
    if not asked:
        return None
    from ..data import Standardise

    return Standardise(**asked)


def suffix_of(name: str | Path) -> str:
    """``.sdf`` of ``a.sdf.gz``."""
    return "." + Path(name).name.lower().removesuffix(".gz").rpartition(".")[2]


def read(name: str, kind: str, errors: Literal["raise", "skip"] = "raise", **options: Any) -> Any:
    """Data of a kind, from a file, a folder or a named set.

    Args:
        name: of it. kind: "graphs", "atoms" or "sequences". errors: "skip" leaves bad entries out and names them.
        options: limit, column, properties, vocabulary, max_atoms, standardise, units, alphabet, unknown, lower; None is
            as if it were not there.

    Raises:
        ValueError: an option that this format does not take, data of another kind, and what the readers say.
        FileNotFoundError: no such file.
    """
    asked = given(**options)
    readers: dict[str, Callable[..., Any]] = {"graphs": _graphs, "atoms": _atoms, "sequences": _sequences}
    data = readers[kind](name, errors, asked)
    if len(data) == 0:
        raise ValueError(f"{name} holds no entry")
    return data


def _call(reader: Callable[..., Any], name: str, asked: dict[str, Any], *first: Any, **fixed: Any) -> Any:
    """A reader, with the options that it takes; others are refused."""
    names = {"standardise": "--hydrogens, --charges ... (the policy)"}
    known = inspect.signature(reader).parameters
    rules = any(p.kind is p.VAR_KEYWORD for p in known.values())
    if foreign := [names.get(k, flag(k)) for k in asked if k not in known and not rules]:
        raise ValueError(f"{name} is read without {', '.join(foreign)}: leave it out")
    return reader(*first, **asked, **{k: v for k, v in fixed.items() if k in known or rules})


def _whole(name: str, kind: type, word: str, asked: dict[str, Any]) -> Any:
    """What :func:`..data.load` makes of it, which must be of a kind; of the options only `limit` applies."""
    from ..data import load as load_data

    if foreign := [flag(k) for k in asked if k != "limit"]:
        raise ValueError(f"{name} is read without {', '.join(foreign)}: leave it out")
    data = load_data(name)
    if not isinstance(data, kind):
        raise ValueError(f"{name} holds {type(data).__name__}, expected {word}")
    few: Any = data
    return few[: asked["limit"]] if "limit" in asked else few


def _graphs(name: str, errors: Any, asked: dict[str, Any]) -> Graphs:
    from .. import data

    suffix = suffix_of(name)
    if name == "qm9":
        return _call(data.qm9_graphs, name, asked, errors=errors)
    if name in data.NAMED or Path(name).is_dir():
        return _whole(name, data.Graphs, "graphs", asked)
    if suffix in TABLES:
        return _call(data.read_smiles, name, asked, name, errors=errors)
    if suffix in SDF:
        return _call(data.read_sdf_graphs, name, asked, name, errors=errors)
    if suffix in XYZ or suffix in FASTA:
        raise ValueError(f"{name} has no bonds, and a system of graphs needs them: give SMILES, SDF or .npz")
    return _whole(name, data.Graphs, "graphs", asked)


def _atoms(name: str, errors: Any, asked: dict[str, Any]) -> Atoms:
    from .. import data

    suffix = suffix_of(name)
    if name == "qm9":
        return _call(data.qm9_atoms, name, asked)
    if suffix in SDF or suffix in XYZ:
        reader = data.read_sdf if suffix in SDF else data.read_xyz
        return _call(reader, name, asked, name, errors=errors)
    if suffix in TABLES or suffix in FASTA:
        raise ValueError(f"{name} has no coordinates, and a system of atoms needs them: give .sdf, .xyz, .npz or qm9")
    return _whole(name, data.Atoms, "molecules with coordinates", asked)


def _sequences(name: str, errors: Any, asked: dict[str, Any]) -> Sequences:
    from .. import data

    suffix = suffix_of(name)
    asked = {"alphabet": "dna"} | asked
    if suffix in FASTA:
        if foreign := [flag(k) for k in asked if k not in ("alphabet", "limit", "unknown", "lower")]:
            raise ValueError(f"{name} is read without {', '.join(foreign)}: leave it out")
        return data.read_fasta(name, errors=errors, **asked)
    if suffix in (".csv", ".tsv"):
        column = asked.pop("column", "sequence")
        return data.read_sequence_table(name, column, errors=errors, **asked)
    raise ValueError(f"{name}: sequences are read from .fasta, .fa, or a column of a .csv or .tsv")


def strings_of(name: str, **options: Any) -> list[str]:
    """SMILES of a file of molecules as they stand, unparsed; of graphs their own, of geometries without bonds those of
    the bonds that EDM sees in the distances, as of samples. What is no molecule is left out.

    Raises:
        ValueError: graphs that are no molecules, and those of the readers.
    """
    return [s for s in entries_of(name, **options) if s is not None]


def entries_of(name: str, **options: Any) -> list[str | None]:
    """As :func:`strings_of`, one an entry of the file: None where a graph or a geometry is no molecule.

    Raises:
        ValueError: graphs that are no molecules, and those of the readers.
    """
    from ..data.qm9 import qm9_table
    from ..data.smiles import read_smiles_table

    asked, suffix = given(**options), suffix_of(name)
    if name == "qm9":
        return [str(s) for s in qm9_table(["SMILES"], asked.get("limit"))["SMILES"]]
    if suffix in TABLES:
        return list(read_smiles_table(name, **{k: v for k, v in asked.items() if k in ("column", "limit")}).smiles)
    geometric = suffix in XYZ or suffix in SDF
    if not geometric and suffix == ".npz":
        from ..data import Atoms
        from ..data import load as load_data

        geometric = isinstance(load_data(name), Atoms)
    names = ("limit", "units", "errors") if geometric else ("limit", "errors")
    found = read(name, "atoms" if geometric else "graphs", **{k: v for k, v in asked.items() if k in names})
    if found.smiles is not None:
        return list(found.smiles)
    if geometric:
        from ..chem import canonical
        from ..data.extras import chem
        from ..edm.samples import molecules_in

        return [None if m is None else canonical(chem().RemoveHs(m)) for m in molecules_in(found)[1]]
    if found.hydrogens is None:
        raise ValueError(f"{name} holds graphs, no molecules")
    return smiles_of(found)


def smiles_of(graphs: Graphs) -> list[str | None]:
    """Canonical SMILES of graphs of molecules, None where one is none: those they came with, else by the protocol that
    judges samples (N, O and S one above their valence are cations)."""
    from ..chem import canonical
    from ..metrics.validity import molecules_of

    if graphs.smiles is not None:
        return list(graphs.smiles)
    return [None if mol is None else canonical(mol) for mol in molecules_of(graphs)]


def known_of(train: str | Sequence[str], samples: Sequence[str | None], **options: Any) -> list[str] | set[str]:
    """Training molecules (a file, or their SMILES) to compare samples with: without stereo marks where no sample has
    any, since everything would be new otherwise."""
    from ..chem import canonical

    strings = strings_of(train, **options) if isinstance(train, str) else list(train)
    if any(mark in s for s in samples if s for mark in STEREO) or not any(m in s for s in strings for m in STEREO):
        return strings
    return {s for s in (canonical(text, stereo=False) for text in strings) if s is not None}


def load(model: Path | None) -> Any:
    """The model in a folder, of whatever system, or one that ships, by its name; the GDSS that ships where none is
    named."""
    from ..systems import load_model, pretrained, shipped

    if model is None:
        return load_model(pretrained())
    return load_model(pretrained(str(model)) if str(model) in shipped() and not model.exists() else model)


def scaffold_of(model: Any, scaffold: str | None) -> Any:
    """What a model takes as a scaffold: a SMILES, or of models in space the molecule in a file.

    Raises:
        ValueError: no such file, none of molecules in space.
    """
    from .. import data
    from ..systems import kind_of

    if scaffold is None or kind_of(model) != "atoms":
        return scaffold
    if not Path(scaffold).is_file():
        raise ValueError(
            f"--scaffold {scaffold}: of a model in space it is a file (.sdf, .xyz) of one molecule, and there is none "
            "of that name"
        )
    found = data.read(scaffold)
    if not isinstance(found, data.Atoms):
        raise ValueError(f"--scaffold {scaffold}: expected a molecule in space (.sdf, .xyz), got {found!r}")
    return found


def folder_of(out: Path) -> Path:
    """The folder for results, made now, so that what cannot be written is refused before the work.

    Raises:
        ValueError: the name of a file.
    """
    if out.suffix.lower() in (*TABLES, *SDF, *XYZ, *FASTA, ".npz", ".json", ".png", ".html") or out.is_file():
        raise ValueError(f"--out {out}: give a folder; it receives samples, report.json and pictures")
    out.mkdir(parents=True, exist_ok=True)
    return out
