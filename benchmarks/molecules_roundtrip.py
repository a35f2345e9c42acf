"""From a SMILES to a graph of atom types and bond orders and back to a SMILES: is it the same molecule?

    python -m benchmarks.molecules_roundtrip                 all of QM9 and of the USPTO-50k test products
    python -m benchmarks.molecules_roundtrip --limit 1000    the first thousand of each, for a look

The reference is made without our code: RDKit's canonical SMILES of the file's string, without stereo. The graph is made
by the default policy (stereo and isotopes dropped, radicals and salts refused) and a vocabulary of all atom types that
occur, those with charges included. A molecule can be *refused* (it has no place in such a graph; the reason is given)
or *changed* (its SMILES comes back as another one); both count as failures, and all are listed. QM9 is done twice, with
hydrogens implied by the valences and with every hydrogen as a node. QM9 comes from qm9pack (installed with the extra);
the reactions are read where `SCIDIFFUSE_DATA` has them.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scidiffuse.molecules import data
from scidiffuse.molecules.data.extras import chem, quiet
from scidiffuse.molecules.data.files import replacing

CHUNK = 2000


def reference(smiles: str) -> str:
    """RDKit's canonical SMILES without stereo."""
    Chem = chem()
    return Chem.MolToSmiles(Chem.MolFromSmiles(smiles), isomericSmiles=False)


def one(smiles: str, policy: data.Standardise) -> str:
    """Why the molecule has no place in a graph, or `""`."""
    try:
        data.from_smiles([smiles], standardise=policy)
    except ValueError as error:
        return str(error)
    return ""


def round_trip(strings: list[str], policy: data.Standardise) -> dict[str, Any]:
    """There and back, with all failures."""
    refused, changed = [], []
    types: Counter[str] = Counter()
    start = time.process_time()
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        for begin in range(0, len(strings), CHUNK):
            chunk = strings[begin : begin + CHUNK]
            try:
                graphs = data.from_smiles(chunk, standardise=policy)
            except ValueError:
                graphs = data.from_smiles(chunk, standardise=policy, errors="skip")
                refused += [(s, one(s, policy)) for i, s in enumerate(chunk) if i not in set(graphs.ids)]
            for i, back in zip(graphs.ids, graphs.to_smiles(errors="none"), strict=True):
                if back != reference(chunk[i]):
                    changed.append((chunk[i], reference(chunk[i]), back))
            for name, count in zip(*_counts(graphs), strict=True):
                types[name] += count
    same = len(strings) - len(refused) - len(changed)
    return {
        "molecules": len(strings),
        "the_same": same,
        "share": same / len(strings),
        "atom_types": dict(types.most_common()),
        "refused": [{"smiles": s, "why": why} for s, why in refused],
        "changed": [{"smiles": s, "expected": e, "came": b} for s, e, b in changed],
        "cpu_seconds": round(time.process_time() - start, 1),
    }


def _counts(graphs: data.Graphs) -> tuple[tuple[str, ...], list[int]]:
    names = graphs.vocabulary or ()
    return names, graphs.types[graphs.mask].long().bincount(minlength=len(names)).tolist()  # type: ignore[index]


def products(limit: int | None) -> list[str] | None:
    """The products of the USPTO-50k test reactions, each once; None where the file is absent."""
    folder = Path(os.environ.get("SCIDIFFUSE_DATA", "")) / "molecules"
    path = folder / "uspto50k_canonicalized_test.csv"
    if not path.is_file():
        return None
    reactions = data.read_reactions(path, limit=limit)
    return list(dict.fromkeys(p for r in reactions for p in r.products))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, help="molecules of each set; default all")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "molecules_roundtrip.json")
    args = parser.parse_args()
    qm9 = data.qm9_table(["SMILES"], args.limit)["SMILES"].tolist()
    sets: dict[str, tuple[list[str] | None, data.Standardise]] = {
        "QM9": (qm9, data.Standardise()),
        "USPTO-50k test products": (products(args.limit), data.Standardise()),
        "QM9, explicit hydrogens": (qm9, data.Standardise(hydrogens="explicit")),
    }
    result: dict[str, Any] = {"rdkit": version("rdkit"), "qm9pack": version("qm9pack"), "limit": args.limit, "sets": {}}
    for name, (strings, policy) in sets.items():
        if strings is None:
            print(f"{name}: no file (SCIDIFFUSE_DATA)")
            continue
        row = round_trip(strings, policy)
        result["sets"][name] = row
        with replacing(args.output) as partial:  # after each set: what is known is kept
            partial.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
        print(
            f"{name}: {row['the_same']} of {row['molecules']} the same ({100 * row['share']:.4f} %), "
            f"{len(row['refused'])} refused, {len(row['changed'])} changed, {row['cpu_seconds']} s of CPU",
            flush=True,
        )


if __name__ == "__main__":
    main()
