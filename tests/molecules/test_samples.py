"""Files of sampled graphs: whole, in folders that are made, zipped where the name says so, or not at all."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

pytest.importorskip("rdkit")

from scidiffuse import molecules as mo
from scidiffuse.molecules.samples import graph_samples


@pytest.fixture(scope="module")
def samples():
    graphs = mo.from_smiles(["CCO", "CC"], "CO")
    return graph_samples(
        mo.Graphs(graphs.A, graphs.mask, graphs.types, graphs.vocabulary, "implicit", ids=(0, 2)), 3, {}
    )


def test_text_is_written_into_a_folder_that_is_made(samples, tmp_path):
    expected = "CCO 0\nCC 2\n"  # sample 1 had no node
    assert samples.write(tmp_path / "a" / "b" / "s.smi").read_text() == expected
    zipped = samples.write(tmp_path / "c" / "s.smi.gz")
    assert gzip.decompress(zipped.read_bytes()).decode() == expected
    assert len(mo.Graphs.load(samples.write(tmp_path / "d" / "s.npz"))) == 2


def test_samples_are_shown_in_a_line(samples):
    text = repr(samples)
    assert text.startswith("GraphSamples(3, 2 with a molecule, Graphs(2 molecules, implicit hydrogens")
    assert "; valid_uncorrected_gdss 0.667, " in text and "rdkit" not in text and "\n" not in text and len(text) < 250
    other = mo.GraphSamples(mo.load("community_small")[:1], None, None, {}, {})
    assert repr(other) == "GraphSamples(1, Graphs(1 graphs, up to 20 nodes))"


def test_nothing_is_left_of_what_fails(samples, tmp_path, monkeypatch):
    def full(self, data):
        Path.open(self, "wb").close()
        raise OSError("no space left on device")

    (tmp_path / "s.smi").write_text("before")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space left"):
        samples.write(tmp_path / "s.smi")
    assert [p.name for p in tmp_path.iterdir()] == ["s.smi"] and (tmp_path / "s.smi").read_text() == "before"


def test_other_files_are_refused(samples, tmp_path):
    with pytest.raises(ValueError, match=r"\.smi or \.npz, got 's\.csv'"):
        samples.write(tmp_path / "s.csv")
    other = mo.GraphSamples(mo.load("community_small")[:1], None, None, {}, {})
    with pytest.raises(ValueError, match=r"write an \.npz"):
        other.write(tmp_path / "s.smi")
