"""Folders and tars read the same; text of two encodings."""

from __future__ import annotations

import gzip
import tarfile

from scidiffuse.timeseries.data.files import read_text, tree


def test_a_folder_and_its_tar_are_the_same_tree(tmp_path):
    folder = tmp_path / "set"
    (folder / "train").mkdir(parents=True)
    (folder / "train" / "a.json.gz").write_bytes(gzip.compress(b"A"))
    (folder / "metadata.json").write_bytes(b"B")
    (folder / ".hidden").write_bytes(b"?")
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        tar.add(folder, "./set")
    expected = {"train/a.json": b"A", "metadata.json": b"B"}
    assert tree(folder) == expected == tree(tmp_path / "set.tar")


def test_a_wrong_folder_is_listed_and_not_read(tmp_path):
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "large.gz").write_bytes(b"no gzip: reading it would fail")
    (tmp_path / "x.csv.gz").write_bytes(b"nor this")
    assert tree(tmp_path) == {"films": b"", "x.csv": b""}


def test_encodings(tmp_path):
    for encoding in ("utf-8", "utf-8-sig", "latin-1"):
        (tmp_path / "x").write_bytes("Zürich".encode(encoding))
        assert read_text(tmp_path / "x") == "Zürich"
