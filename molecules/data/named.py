"""Data by name or by path: one verb for every format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...core import datasets
from . import generators
from .atoms import Atoms
from .geom import read_geom
from .graphs import Graphs
from .interchange import read_adjacency
from .pickles import read_networkx_pickle, read_spectre
from .qm9 import qm9_graphs, read_qm9_raw
from .reactions import Reaction, read_reactions
from .sdf import read_sdf
from .sequences import Sequences, read_fasta
from .smiles import read_smiles
from .tudataset import read_tudataset
from .xyz import read_xyz

__all__ = ["NAMED", "load", "read"]

Data = Graphs | Atoms | Sequences | list[Reaction]


def _enzymes() -> Graphs:
    return read_tudataset(_folder("enzymes"), min_nodes=10, drop_isolated=True)


def _community() -> Graphs:
    return read_spectre(_folder("spectre_community_small") / "spectre_community_12_21_100.pt")


def _uspto() -> list[Reaction]:
    return read_reactions(_folder("uspto50k_test") / "uspto50k_canonicalized_test.csv")


def _folder(name: str) -> Path:
    from .. import registry  # noqa: F401  (importing it registers the sets)

    return datasets.locate(name)


#: Named sets. The first comes with the ``molecules`` extra, the next three are files of the registry, the last five are
#: made by their recipe with seed 0.
NAMED: dict[str, Callable[[], Data]] = {
    "qm9": qm9_graphs,
    "enzymes": _enzymes,
    "spectre_community_small": _community,
    "uspto50k_test": _uspto,
    "community_small": lambda: generators.community_small(seed=0),
    "ego_small_synthetic": lambda: generators.ego_small(seed=0),
    "grid": lambda: generators.grid(seed=0),
    "planar": lambda: generators.planar(seed=0),
    "sbm": lambda: generators.sbm(seed=0),
}


def load(name: str | Path, **options: Any) -> Data:
    """A named data set, or a file or folder in a layout of the field.

    - ``"qm9"``: 130,831 molecules as graphs (:func:`.qm9_graphs`; :func:`.qm9_atoms` has the coordinates);
    - ``"enzymes"``: 587 graphs as GDSS takes them; ``"spectre_community_small"``: the published file, 100 graphs;
      ``"uspto50k_test"``: 5,007 reactions;
    - ``"community_small"``, ``"grid"``, ``"planar"``, ``"sbm"``: regenerated with seed 0; ``"ego_small_synthetic"``:
      not Citeseer's, see :func:`.ego_small`.

    Args:
        name: of a set, or a path for :func:`read`. options: of the function that reads it.

    Raises:
        ValueError: neither a name nor a path (the names are listed), options for a set that takes none, or what the
            reader says.
    """
    if isinstance(name, str) and name in NAMED:
        if options and name != "qm9":
            raise ValueError(f"the data set {name!r} takes no options, got {sorted(options)}")
        return NAMED[name](**options)
    if not Path(name).exists():
        raise ValueError(f"{str(name)!r} is neither a file nor a named data set; the names are {sorted(NAMED)}")
    return read(name, **options)


def read(path: str | Path, **options: Any) -> Data:
    """A file or folder, told apart by name.

    ================================================  ============================================================
    ``.csv .tsv .smi .smiles .txt``                   :func:`.read_smiles`
    ``.sdf .mol``                                     :func:`.read_sdf`, with coordinates; drawings: read_sdf_graphs
    ``.xyz .extxyz``                                  :func:`.read_xyz`
    ``.fa .fasta .fna .faa``                          :func:`.read_fasta`
    ``.npz``                                          what ``save`` wrote, else :func:`.read_adjacency`
    ``.pt``, ``.pkl``                                 :func:`.read_spectre`, :func:`.read_networkx_pickle`
    ``.msgpack``, ``summary_*.json``, ``.pickle``     :func:`.read_geom`
    folder                                            QM9's files (:func:`.read_qm9_raw`), or TUDataset
    ================================================  ============================================================

    The text formats also with ``.gz``. Tables of reactions, of sequences, MOSES and GuacaMol folders and PyG's files
    have readers of their own.

    Raises:
        FileNotFoundError: nothing there. ValueError: a format that cannot be told, and those of the reader.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no file {path}")
    if path.is_dir():
        raw = any(path.glob("gdb9.sdf*")) or any(path.glob("dsgdb9nsd_*.xyz"))
        return read_qm9_raw(path, **options) if raw else read_tudataset(path, **options)
    suffix = "." + path.name.lower().removesuffix(".gz").rpartition(".")[2]
    if suffix == ".npz":
        return _npz(path, **options)
    for suffixes, reader in _READERS.items():
        if suffix in suffixes:
            return reader(path, **options)
    known = sorted([".npz", *(s for suffixes in _READERS for s in suffixes)])
    raise ValueError(f"cannot tell the format of {path.name}: expected one of {known}, the text formats also with .gz")


def _npz(path: Path, **options: Any) -> Graphs | Atoms:
    for kind in (Graphs, Atoms):
        try:
            return kind.load(path)
        except ValueError as error:
            if "expected scidiffuse" not in str(error):
                raise
    return read_adjacency(path, **options)


_READERS: dict[tuple[str, ...], Callable[..., Data]] = {
    (".csv", ".tsv", ".smi", ".smiles", ".txt"): read_smiles,
    (".sdf", ".sd", ".mol"): read_sdf,
    (".xyz", ".extxyz"): read_xyz,
    (".fa", ".fasta", ".fna", ".faa"): read_fasta,
    (".npy",): read_adjacency,
    (".pt",): read_spectre,
    (".pkl",): read_networkx_pickle,
    (".msgpack", ".json", ".pickle"): read_geom,
}
