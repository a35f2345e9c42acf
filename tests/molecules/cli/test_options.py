"""What words on the command line mean."""

from __future__ import annotations

import pytest

from scidiffuse import molecules as mo
from scidiffuse.molecules.cli.messages import in_flags
from scidiffuse.molecules.cli.options import (
    condition_of,
    known_of,
    read,
    settings_of,
    strings_of,
    suffix_of,
)


def test_settings_are_literals_or_text():
    words = ["ema=0.99", "sampler=s4", "x-process=('VE', 0.1, 1.0)", "val=None", "name=a=b"]
    expected = {"ema": 0.99, "sampler": "s4", "x_process": ("VE", 0.1, 1.0), "val": None, "name": "a=b"}
    assert settings_of(words) == expected and settings_of(None) == {}
    for bad in ("ema", "=3", "1x=3"):
        with pytest.raises(ValueError, match="expected key=value"):
            settings_of([bad])
    with pytest.raises(ValueError, match="--set a is given twice"):
        settings_of(["a=1", "a=2"])


def test_conditions_become_arguments():
    def one(n, *, condition=None, guidance_scale=1.0): ...
    def none(n): ...

    assert condition_of(one, ["mu=2.5"], 3.0) == {"condition": {"mu": 2.5}, "guidance_scale": 3.0}
    assert condition_of(one, ["mu=2.5", "gap=1"], None) == {"condition": {"mu": 2.5, "gap": 1}}
    assert condition_of(none, None, None) == {}
    with pytest.raises(ValueError, match="this system has no --condition"):
        condition_of(none, ["mu=2.5"], None)
    with pytest.raises(ValueError, match="--condition mu=high: expected a number"):
        condition_of(one, ["mu=high"], None)


def test_suffixes():
    assert [suffix_of(n) for n in ("a/b.SDF.gz", "x.smi", "qm9")] == [".sdf", ".smi", ".qm9"]


def test_data_of_another_kind_are_refused(tmp_path):
    graphs = mo.load("community_small")[:3]
    path = str(graphs.save(tmp_path / "g.npz"))
    assert len(read(path, "graphs")) == 3 and len(read(path, "graphs", limit=2)) == 2
    with pytest.raises(ValueError, match="holds Graphs, expected molecules with coordinates"):
        read(path, "atoms")
    with pytest.raises(ValueError, match="is read without --column"):
        read(path, "graphs", column="smiles")
    with pytest.raises(ValueError, match="holds graphs, no molecules"):
        strings_of(path)


def test_stereo_marks_of_the_training_count_only_where_samples_have_some(tmp_path):
    (tmp_path / "t.smi").write_text("C[C@H](N)O\nCC\n")
    path = str(tmp_path / "t.smi")
    assert known_of(path, ["CCO", None]) == {"CC(N)O", "CC"}
    assert known_of(path, ["C[C@@H](N)O"]) == ["C[C@H](N)O", "CC"]


def test_geometries_give_the_smiles_of_their_bonds(tmp_path):
    (tmp_path / "a.xyz").write_text("3\nwater\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n")
    assert strings_of(str(tmp_path / "a.xyz")) == ["O"]
    assert strings_of(str(mo.read_xyz(tmp_path / "a.xyz").save(tmp_path / "a.npz"))) == ["O"]


def test_messages_speak_of_flags(tmp_path):
    (tmp_path / "p.fa").write_text(">x\nMKLV\n")
    with pytest.raises(ValueError, match="is none of ACGT") as error:
        read(str(tmp_path / "p.fa"), "sequences")
    assert "a sequence of protein? Then say so by --alphabet (protein); else --unknown keep" in in_flags(
        str(error.value)
    )
    assert in_flags("pass resume=True, or") == "add --resume, or"
    assert (
        in_flags("cannot be computed without train=: pass it, or") == "cannot be computed without --train: give it, or"
    )
    assert in_flags("(errors='skip' leaves them out)") == "(--errors skip leaves them out)"
    assert in_flags("up to max_steps=2: ask") == "up to --max-steps 2: ask"
