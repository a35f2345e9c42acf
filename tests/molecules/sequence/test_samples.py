"""How sampled sequences are shown."""

from __future__ import annotations

import pytest

from scidiffuse import molecules as mo


@pytest.mark.parametrize(("text", "shown"), [("ACGT", "'ACGT'"), ("ACGT" * 9, "'ACGTACGTACGTACGTACGT...'")])
def test_samples_are_shown_in_a_line(text, shown, tmp_path):
    (tmp_path / "a.fasta").write_text(f">a\n{text}\n")
    sequences = mo.read_fasta(tmp_path / "a.fasta")
    expected = f"SequenceSamples(Sequences(1 of up to {len(text)} letters, alphabet ACGT), the first: {shown})"
    assert repr(mo.SequenceSamples(sequences.strings(), sequences, {})) == expected
