"""The sequences of the benchmarks: what is left out, what leaks, what is scored."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from scidiffuse.benchmarks.common import qm9_selfies
from scidiffuse.benchmarks.common.qm9_selfies import EOS, NOP, SPECIAL, Sequences, split


def table(n: int = 1000) -> tuple[np.ndarray, list[str]]:
    """n different sequences, the binary digits of their number; symbol `x` stands in exactly one."""
    tokens = np.full((n, 12), NOP, dtype=np.uint8)
    for i, row in enumerate(tokens):
        digits = [2 + int(digit) for digit in f"{i:b}"]
        row[: len(digits) + 1] = [*digits, EOS]
    tokens[7, 0] = 4
    return tokens, [*SPECIAL, "[0]", "[1]", "[x]"]


def rows(*parts: torch.Tensor) -> list[tuple[int, ...]]:
    return [tuple(row) for part in parts for row in part.tolist()]


def test_parts_are_disjoint_whole_and_keyed() -> None:
    tokens, alphabet = table()
    data = split(tokens, alphabet)
    every = rows(data.train, data.val, data.test)
    assert len(set(every)) == len(every) == 1000 - data.report["unseen"]
    assert (len(data.train), data.report["seed"]) == (800, 0)
    assert rows(split(tokens, alphabet).test) == rows(data.test)
    assert rows(split(tokens, alphabet, seed=1).test) != rows(data.test)


def test_no_training_part_of_any_n_meets_a_test_part_of_another() -> None:
    tokens, alphabet = table()
    data = [split(tokens, alphabet, n) for n in (100, 400, 1000)]
    train = {row for d in data for row in rows(d.train)}
    held = {row for d in data for row in rows(d.val, d.test)}
    assert len(train) == 800
    assert not train & held
    assert [len(d.train) for d in data] == [80, 320, 800]
    assert set(rows(data[0].test)) <= set(rows(data[2].test))


def test_symbol_that_training_lacks_leaves_with_its_sequence() -> None:
    tokens, alphabet = table()
    seen = set()
    for seed in range(20):
        data = split(tokens, alphabet, seed=seed)
        there = "[x]" in data.vocabulary
        assert data.report["unseen"] == (not there)
        assert len(data.train) + len(data.val) + len(data.test) == 1000 - (not there)
        assert sorted(set(data.train.flatten().tolist())) == list(range(len(data.vocabulary)))
        assert max(data.val.max(), data.test.max()) < len(data.vocabulary)
        seen.add(there)
    assert seen == {True, False}, "20 seeds show both cases"


def test_tokens_follow_the_vocabulary_of_the_training_part() -> None:
    tokens, alphabet = table()
    alphabet = [*alphabet[:2], "[absent]", *alphabet[2:]]
    tokens = np.where(tokens > EOS, tokens + 1, tokens)
    data = split(tokens, alphabet)
    assert "[absent]" not in data.vocabulary
    words = {"".join(alphabet[t] for t in row if t > EOS) for row in tokens}
    assert set(data.strings(data.test)) <= words
    assert len(set(data.strings(data.test))) == len(data.test)


def test_mask_and_report_count_the_end_and_no_padding() -> None:
    tokens = torch.tensor([[2, 3, EOS, NOP, NOP], [EOS, NOP, NOP, NOP, NOP], [2, 2, 2, 2, 2], [2, EOS, 3, EOS, 2]])
    assert Sequences.mask(tokens).sum(1).tolist() == [3, 1, 5, 2]
    assert Sequences.mask(tokens)[0].tolist() == [True, True, True, False, False]
    data = split(*table())
    for name in ("train", "val", "test"):
        part, report = getattr(data, name), data.report[name]
        assert report["tokens"] == int((part != NOP).sum()) == sum(k * n for k, n in report["lengths"].items())
        assert report["sequences"] == len(part) == sum(report["lengths"].values())
        assert ((part == EOS).sum(1) == 1).all()


def test_strings_stop_at_the_end_and_skip_padding_of_a_model() -> None:
    data = Sequences(*[torch.zeros(0, 5).long()] * 3, [*SPECIAL, "[C]", "[O]"], {})
    assert data.strings(torch.tensor([[2, 0, 3, EOS, 2], [EOS, 2, 2, 2, 2]])) == ["[C][O]", ""]


@pytest.mark.parametrize("n", [0, 9, 1001, -1])
def test_number_out_of_range(n: int) -> None:
    with pytest.raises(ValueError, match=f"10 to 1000, got {n}"):
        split(*table(), n=n)


def test_encode_and_back() -> None:
    pytest.importorskip("selfies")
    smiles = ["C", "CCO", "C1CC1", "CCO", "O=N(=O)C1=CC=CO1", "C#N"]
    tokens, alphabet, refused = qm9_selfies.encode(smiles)
    assert refused == 1, "a nitro group with a nitrogen of five bonds"
    assert alphabet[:2] == list(SPECIAL)
    assert alphabet[2:] == sorted(alphabet[2:])
    data = Sequences(*[torch.from_numpy(tokens).long()] * 3, alphabet, {})
    assert data.smiles(data.train) == ["C", "CCO", "C1CC1", "C#N"]
    assert Sequences.mask(data.train).sum(1).tolist() == [2, 4, 6, 3]  # a ring is two symbols


def test_load_keeps_one_tautomer_and_uses_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("selfies")
    pytest.importorskip("pandas")
    (tmp_path / "data").mkdir()
    chains = [f"{i},{'C' * i}O,InChI=chain{i}" for i in range(1, 19)]
    tautomers = ["90,CC(=O)C,InChI=acetone", "91,CC(O)=C,InChI=acetone"]
    for i, lines in enumerate((chains[:9], chains[9:], tautomers), start=1):
        (tmp_path / "data" / f"qm9_part{i}.csv").write_text("\n".join(["Index,SMILES,InChi", *lines]))
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setattr(qm9_selfies, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(qm9_selfies, "version", lambda name: "0")
    data = qm9_selfies.load()
    assert (data.report["molecules"], data.report["same_inchi"], data.report["refused_by_selfies"]) == (20, 1, 0)
    strings = data.smiles(torch.cat([data.train, data.val, data.test]))
    assert "CC(O)=C" not in strings
    assert len(strings) == 19 - data.report["unseen"]
    for file in (tmp_path / "data").iterdir():
        file.unlink()
    again = qm9_selfies.load()
    assert torch.equal(again.train, data.train)
    assert again.report == data.report
    assert [path.suffix for path in (tmp_path / "cache" / "qm9_selfies").iterdir()] == [".npz"]


def test_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(file: object, **arrays: np.ndarray) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", stop)
    with pytest.raises(KeyboardInterrupt):
        qm9_selfies._write(tmp_path / "x.npz", a=np.zeros(3))
    assert not list(tmp_path.iterdir())


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'qm9pack: pip install "scidiffuse\[bench\]"'):
        qm9_selfies._encoded()
