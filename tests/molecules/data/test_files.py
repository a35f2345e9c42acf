"""Opening and replacing files."""

import gzip

import numpy as np
import pytest

from scidiffuse.molecules.data.files import (
    load_arrays,
    read_lines,
    read_text,
    save_arrays,
    write_text,
)


def test_plain_and_gzipped_alike(tmp_path):
    for name in ("a.txt", "a.txt.gz"):
        write_text(tmp_path / name, "ä\nb\n")
        assert list(read_lines(tmp_path / name)) == ["ä", "b"] and read_text(tmp_path / name) == "ä\nb"
    assert gzip.decompress((tmp_path / "a.txt.gz").read_bytes()) == "ä\nb\n".encode()
    once = (tmp_path / "a.txt.gz").read_bytes()
    assert write_text(tmp_path / "a.txt.gz", "ä\nb\n").read_bytes() == once


def test_line_ends_of_other_systems(tmp_path):
    (tmp_path / "w.txt").write_bytes(b"\xef\xbb\xbfa\r\nb")
    assert list(read_lines(tmp_path / "w.txt")) == ["a", "b"]


def test_damaged(tmp_path):
    (tmp_path / "no.gz").write_bytes(b"plain")
    whole = gzip.compress(b"abc" * 1000)
    (tmp_path / "cut.gz").write_bytes(whole[:-10])
    (tmp_path / "latin.txt").write_bytes(b"\xff\xfe\xfa")
    for name in ("no.gz", "cut.gz"):
        with pytest.raises(ValueError, match=f"{name} is damaged, or no gzip file"):
            list(read_lines(tmp_path / name))
    with pytest.raises(ValueError, match="no UTF-8 text"):
        list(read_lines(tmp_path / "latin.txt"))
    with pytest.raises(FileNotFoundError, match="no file"):
        read_text(tmp_path / "absent")


def test_pickled_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "p.npz", A=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r"p.npz cannot be read"):
        load_arrays(tmp_path / "p.npz")
    with pytest.raises(ValueError, match="Object arrays"):
        save_arrays(tmp_path / "q.npz", "k", {"A": np.array([{}], dtype=object)})
    assert not (tmp_path / "q.npz").exists()
