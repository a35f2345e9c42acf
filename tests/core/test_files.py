"""Files that are there, and files that are replaced at once."""

import pytest

from scidiffuse.core.files import existing, replacing


def test_replacing_cleans_up(tmp_path):
    path = tmp_path / "deep" / "x"
    with replacing(path) as partial:
        partial.write_text("1")
        assert not path.exists()
    assert path.read_text() == "1"
    with pytest.raises(FileNotFoundError), replacing(path) as partial:
        partial.with_name("elsewhere").rename(partial)
    assert path.read_text() == "1" and [p.name for p in path.parent.iterdir()] == ["x"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with replacing(path) as partial:
            partial.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old" and [f.name for f in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*absent"):
        existing(tmp_path / "absent")
    assert existing(str(tmp_path)) == tmp_path
