"""Biological sequences."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scidiffuse.molecules.data import Sequences, SkippedData, from_strings, read_fasta, read_sequence_table, write_fasta

FASTA = "; old comment\n>one first sequence\nACGT\nAC\n\n>two\nTTT\n>three\nGANC\n"


def test_letters_to_tokens_and_back():
    s = from_strings(["ACGT", "TT"])
    assert s.tokens.tolist() == [[0, 1, 2, 3], [3, 3, 0, 0]] and s.mask.tolist() == [
        [True] * 4,
        [True, True, False, False],
    ]
    assert s.strings() == ["ACGT", "TT"] and len(s) == 2
    assert from_strings(["ACDW"], "protein").strings() == ["ACDW"] and from_strings(["AB"], "BA").tokens.tolist() == [
        [1, 0]
    ]


def test_records_of_a_file(tmp_path):
    (tmp_path / "a.fa").write_text(FASTA)
    with pytest.raises(
        ValueError, match=r"a.fa, sequence 'three': letter 'N' at 3 \(1 in all\) is none of ACGT: unknown='keep'"
    ):
        read_fasta(tmp_path / "a.fa")
    s = read_fasta(tmp_path / "a.fa", limit=2)
    assert s.ids == ("one", "two") and s.strings() == ["ACGTAC", "TTT"]


def test_unknown_letters(tmp_path):
    (tmp_path / "a.fa").write_text(FASTA)
    with pytest.warns(SkippedData, match="left out 1 of 3: sequence 'three'"):
        assert read_fasta(tmp_path / "a.fa", unknown="skip").ids == ("one", "two")
    kept = read_fasta(tmp_path / "a.fa", unknown="keep")
    assert kept.strings()[2] == "GANC" and kept.known[2].tolist() == [True, True, False, True, False, False]
    assert kept.strings(unknown="-")[2] == "GA-C" and (kept.mask & ~kept.known).sum() == 1
    assert from_strings(["AXW"], "protein", unknown="keep").strings() == ["AXW"]


@pytest.mark.parametrize(
    ("text", "alphabet", "says"),
    [
        ("MKLV", "dna", r"none of ACGT: a sequence of protein\? Then say so by alphabet= \(protein\); else unknown='k"),
        ("ACGU", "dna", r"a sequence of rna\?"),
        ("ACGT", "rna", r"a sequence of dna\?"),
        ("ACGN", "dna", r"none of ACGT: unknown='keep'"),  # a nucleotide that is not known
        ("MKXLV", "dna", r"none of ACGT: unknown='keep'"),
    ],
)
def test_another_alphabet_is_guessed(text, alphabet, says):
    with pytest.raises(ValueError, match=says):
        from_strings([text], alphabet)


def test_lower_case():
    with pytest.raises(ValueError, match=r"lower case 'g' at letter 3 .*lower='upper'.*lower='unknown'"):
        from_strings(["ACgt"])
    assert from_strings(["ACgt"], lower="upper").strings() == ["ACGT"]
    masked = from_strings(["ACgt"], lower="unknown")
    assert masked.strings() == ["ACNN"] and masked.known.tolist() == [[True, True, False, False]]
    with pytest.raises(ValueError, match="letter 'n' at 1"):
        from_strings(["nA"], lower="upper")
    with pytest.raises(ValueError, match="letter 'N' at 4"):
        from_strings(["ACgN"], lower="unknown")
    with pytest.raises(ValueError, match="lower case"):  # unknown='skip' is for other letters, not for this
        from_strings(["ac", "AC"], unknown="skip")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: from_strings(["AC", ""]), "sequence 1: expected letters, got ''"),
        (lambda: from_strings([]), "holds no entry"),
        (lambda: from_strings(["A"], "A"), "at least two different capitals"),
        (lambda: from_strings(["A"], "AA"), "at least two different capitals"),
        (lambda: from_strings(["a"], "ab", lower="upper"), "at least two different capitals"),
        (lambda: from_strings(["A"], unknown="drop"), "unknown is"),
        (lambda: from_strings(["A"], lower="drop"), "unknown is"),
        (lambda: from_strings(["Aé"]), "letter 'é' at 2"),
        (lambda: from_strings(["A→"]), "letter '→' at 2"),
        (
            lambda: Sequences(torch.zeros(1, 2).long(), torch.ones(1, 3).bool(), "ACGT", (0,), {}),
            r"expected tokens \(B, L\)",
        ),
        (
            lambda: Sequences(torch.full((1, 2), 4), torch.ones(1, 2).bool(), "ACGT", (0,), {}),
            r"tokens must be -1..3, got 4..4",
        ),
    ],
)
def test_what_is_no_sequence(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_letters_before_a_header(tmp_path):
    (tmp_path / "a.fa").write_text("ACGT\n>one\nA\n")
    with pytest.raises(ValueError, match=r"a.fa, line 1: expected a header '>name', got 'ACGT'"):
        read_fasta(tmp_path / "a.fa")


@pytest.mark.parametrize("name", ["x.fa", "x.fasta.gz"])
def test_written_and_read_back(tmp_path, name):
    s = from_strings(["ACGT" * 50, "A"], ids=["a", "b"])
    again = read_fasta(write_fasta(s, tmp_path / name, width=7))
    assert again.strings() == s.strings() and again.ids == s.ids
    with pytest.raises(ValueError, match=r"expected .fa"):
        write_fasta(s, tmp_path / "x.txt")


def test_table_with_measured_activities(tmp_path):
    (tmp_path / "t.csv").write_text("seq,hepg2\nACGT,0.5\nNNNN,1\nTT,-2\n")
    with pytest.warns(SkippedData, match="row 2"):
        s = read_sequence_table(tmp_path / "t.csv", "seq", properties=["hepg2"], unknown="skip")
    assert s.strings() == ["ACGT", "TT"] and s.properties["hepg2"].tolist() == [0.5, -2.0]
    with pytest.raises(ValueError, match=r"has no column 'k562'; it has \['seq', 'hepg2'\]"):
        read_sequence_table(tmp_path / "t.csv", "seq", properties=["k562"])


@given(st.lists(st.text("ACGTN", min_size=1, max_size=30), min_size=1, max_size=5))
@settings(max_examples=50)
def test_any_letters_come_back(strings):
    s = from_strings(strings, unknown="keep")
    assert s.strings() == strings and int((s.mask & ~s.known).sum()) == sum(t.count("N") for t in strings)


def test_some_of_them():
    s = from_strings(["ACGT", "A", "CC"], ids=["a", "b", "c"], properties={"k": [1.0, 2.0, 3.0]})
    for index in ([2, 0], torch.tensor([2, 0]), np.array([2, 0])):
        some = s[index]
        assert some.strings() == ["CC", "ACGT"] and some.ids == ("c", "a") and some.properties["k"].tolist() == [3, 1]
    assert s[1].strings() == ["A"] and s[-1].ids == ("c",) and s[:2].ids == ("a", "b") and len(s[[]]) == 0
    assert s[s.mask.sum(1) > 1].ids == ("a", "c") and [t.ids for t in s] == [("a",), ("b",), ("c",)]
    for bad in (3, [0, -4], torch.tensor([True])):
        with pytest.raises(IndexError):
            s[bad]


@pytest.mark.parametrize("more", [{"ids": ("a",)}, {"properties": {"k": [1.0]}}])
def test_lists_of_another_length(more):
    with pytest.raises(ValueError, match=r"(ids|k): expected one entry for each of 2 sequences, got 1"):
        from_strings(["A", "C"], **more)
    s = from_strings(["A", "C"])
    parts = {"ids": s.ids, "properties": s.properties, **more}
    with pytest.raises(ValueError, match=r"(ids|k): expected one entry for each of 2 sequences, got 1"):
        Sequences(s.tokens, s.mask, s.alphabet, **parts)


def test_one_string_is_one_sequence():
    assert from_strings("ACGT").strings() == ["ACGT"]
