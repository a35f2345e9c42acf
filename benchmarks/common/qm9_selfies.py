r"""Real sequences: the molecules of QM9 as SELFIES, from two packages of the `bench` extra, nothing downloaded.

    python -m benchmarks.common.qm9_selfies      prints what the data are

**What a sequence is.** qm9pack 1.0.3 (MIT) ships 130,831 molecules of QM9 (Ramakrishnan et al., "Quantum chemistry
structures and properties of 134 kilo molecules", 2014) as three csv files, which are read where they are installed:
importing the package would need `pkg_resources`. One molecule is kept for each InChI, the first: the others are the
same molecule in another tautomer or Kekulé form (3,891 rows, although all SMILES strings differ). selfies 2.2.0 writes
each as a string of symbols, `[C][=Branch1]…`; 131 molecules whose SMILES has five bonds at a nitrogen break its default
rules and are left out. 126,809 different sequences remain, of 1 to 21 symbols.

**Tokens.** 0 is `[nop]`, the padding (SELFIES' own name for it), and only stands after the end; 1 is `[eos]`, which
closes every sequence, so that a model must say how long it is; the others are the symbols of the *training* part in
alphabetical order. A sequence of another part that holds a symbol never seen in training is left out, and counted in
`report["unseen"]`: so every token can be predicted, and every model is asked about the same ones. There is no mask
token: a masked process adds its own.

**What is scored**: `mask(x)`, all tokens up to and including `[eos]`. Bits per token are the bits of whole sequences
over the number of those tokens. After `[eos]` the padding is certain, a model from left to right pays nothing for it.
A model that sees the tokens in any order must *pay* for the padding it predicts (its terms stay in the sum of bits,
only the denominator counts `mask`) and must not be told the mask: padding that is seen before the end tells the length.

**Parts.** 80/10/10 by one permutation, keyed by the seed. `load(n)` takes the beginning of each part, so that no
training part of any n meets a test part of any other n with the same seed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scidiffuse.core.datasets import cache_folder
from scidiffuse.molecules.data.qm9 import qm9_table

NOP, EOS = 0, 1
SPECIAL = ("[nop]", "[eos]")
SHARES = (0.8, 0.1, 0.1)


@dataclass(frozen=True)
class Sequences:
    """Three parts of one data set.

    Attributes:
        train, val, test: (N, L) long, `[eos]` and then `[nop]` after the symbols; L is the same for every part and n.
        vocabulary: what a token stands for; `len(vocabulary)` tokens, without a mask token.
        report: numbers of molecules, sequences and tokens, and the distribution of lengths.
    """

    train: Tensor
    val: Tensor
    test: Tensor
    vocabulary: list[str]
    report: dict[str, Any]

    @staticmethod
    def mask(tokens: Tensor) -> Tensor:
        """(N, L) bool: the tokens that are scored, all up to and including the first `[eos]` (or all, if none)."""
        end = (tokens == EOS).long()
        return end.cumsum(-1) - end == 0

    def strings(self, tokens: Tensor) -> list[str]:
        """SELFIES of (N, L) tokens, a model's too: what stands before the first `[eos]`, without `[nop]`."""
        keep = self.mask(tokens) & (tokens != EOS) & (tokens != NOP)
        rows = zip(tokens.tolist(), keep.tolist(), strict=True)
        return ["".join(self.vocabulary[t] for t, k in zip(*row, strict=True) if k) for row in rows]

    def smiles(self, tokens: Tensor) -> list[str]:
        """SMILES of (N, L) tokens by SELFIES' rules, under which every sequence is a molecule ("" if it is empty)."""
        selfies = _selfies()
        return [selfies.decoder(string) for string in self.strings(tokens)]


def load(n: int | None = None, seed: int = 0) -> Sequences:
    """QM9 as SELFIES; about twelve seconds the first time, then from the cache.

    Args:
        n: number of sequences in all parts together, at most all; default all.
        seed: of the split.
    """
    tokens, alphabet, counts = _encoded()
    data = split(tokens, alphabet, n, seed)
    data.report.update(counts)
    return data


def split(tokens: np.ndarray, alphabet: list[str], n: int | None = None, seed: int = 0) -> Sequences:
    """Parts of (N, L) `tokens` that mean `alphabet`, whose first two are `SPECIAL`; the rest as in `load`."""
    total = len(tokens)
    n = total if n is None else n
    if not 10 <= n <= total:
        raise ValueError(f"n is the number of sequences in all parts, 10 to {total}, got {n}")
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed)).numpy()
    bounds = np.rint(np.cumsum((0.0, *SHARES)) * total).astype(int)
    sizes = np.diff(np.rint(np.cumsum((0.0, *SHARES)) * n).astype(int))
    parts = [tokens[order[b : b + size]].astype(np.int64) for b, size in zip(bounds, sizes, strict=False)]
    seen = np.bincount(parts[0].ravel(), minlength=len(alphabet)) > 0
    seen[: len(SPECIAL)] = True
    known = [part[seen[part].all(1)] for part in parts]
    new = np.cumsum(seen) - 1
    train, val, test = (torch.from_numpy(new[part]) for part in known)
    vocabulary = [symbol for symbol, there in zip(alphabet, seen, strict=True) if there]
    report: dict[str, Any] = {"seed": seed, "vocabulary": len(vocabulary), "longest": tokens.shape[1]}
    report["unseen"] = sum(map(len, parts)) - sum(map(len, known))
    for name, part in (("train", train), ("val", val), ("test", test)):
        length = Sequences.mask(part).sum(1)
        report[name] = {
            "sequences": len(part),
            "tokens": int(length.sum()),
            "mean_length": round(float(length.double().mean()), 3),
            "lengths": {k: count for k, count in enumerate(torch.bincount(length).tolist()) if count},
        }
    return Sequences(train, val, test, vocabulary, report)


def encode(smiles: Iterable[str]) -> tuple[np.ndarray, list[str], int]:
    """SMILES → tokens (N, L) uint8, their alphabet, and how many SELFIES could not write. Equal strings count once."""
    selfies = _selfies()
    strings: dict[str, None] = {}
    refused = 0
    for molecule in smiles:
        try:
            strings[selfies.encoder(molecule)] = None
        except selfies.EncoderError:
            refused += 1
    symbols = [list(selfies.split_selfies(string)) for string in strings]
    alphabet = [*SPECIAL, *sorted({symbol for row in symbols for symbol in row} - set(SPECIAL))]
    index = {symbol: i for i, symbol in enumerate(alphabet)}
    tokens = np.full((len(symbols), max(map(len, symbols)) + 1), NOP, dtype=np.uint8)
    for target, row in zip(tokens, symbols, strict=True):
        target[: len(row) + 1] = [*(index[symbol] for symbol in row), EOS]
    return tokens, alphabet, refused


def _encoded() -> tuple[np.ndarray, list[str], dict[str, int]]:
    """All of QM9, from the cache or written to it."""
    if importlib.util.find_spec("qm9pack") is None:
        raise ImportError('the benchmark needs qm9pack: pip install "scidiffuse[bench]"')
    _selfies()
    path = cache_folder() / "qm9_selfies" / f"qm9pack-{version('qm9pack')}-selfies-{version('selfies')}-1.npz"
    if not path.exists():
        table = qm9_table(["SMILES", "InChi"])
        unique = table.drop_duplicates("InChi")
        tokens, alphabet, refused = encode(unique["SMILES"])
        counts = {"molecules": len(table), "same_inchi": len(table) - len(unique), "refused_by_selfies": refused}
        _write(path, tokens=tokens, alphabet=np.array(alphabet), **{k: np.array(v) for k, v in counts.items()})
    with np.load(path, allow_pickle=False) as file:
        counts = {name: int(file[name]) for name in ("molecules", "same_inchi", "refused_by_selfies")}
        return file["tokens"], file["alphabet"].tolist(), counts


def _write(path: Path, **arrays: np.ndarray) -> None:
    """npz that is whole or absent: written beside its place, then moved."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, **arrays)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def _selfies() -> Any:
    try:
        import selfies
    except ImportError as error:
        raise ImportError('the benchmark needs selfies: pip install "scidiffuse[bench]"') from error
    return selfies


def main() -> None:
    data = load()
    for key, value in data.report.items():
        print(f"{key}: {value}")
    print("vocabulary:", *data.vocabulary)
    for string, smiles in zip(data.strings(data.test[:3]), data.smiles(data.test[:3]), strict=True):
        print(smiles, string)


if __name__ == "__main__":
    main()
