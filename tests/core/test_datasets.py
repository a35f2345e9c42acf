"""The registry of data sets: the order of the three places, and what is refused."""

import functools
import hashlib
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from scidiffuse.core import datasets
from scidiffuse.core.datasets import DatasetInfo, RemoteFile, locate, register

CONTENT = {"a.csv": b"x,y\n1,2\n", "sub/b.csv": b"hello"}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write(folder, **changes):
    for path, data in (CONTENT | changes).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A registered set of two files behind a local server; an empty cache; the list of paths asked for."""
    write(tmp_path / "web")
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path / "web")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("SCIDIFFUSE_DATA", raising=False)
    monkeypatch.setattr(datasets, "_REGISTRY", {})
    monkeypatch.setattr(datasets, "cache_folder", lambda: tmp_path / "cache")
    url = f"http://127.0.0.1:{server.server_address[1]}"
    files = {path: RemoteFile(f"{url}/{path}", digest(data)) for path, data in CONTENT.items()}
    register(DatasetInfo("toy", files, licence="CC0", layout="two files", folder="field/toy"))
    yield asked
    server.shutdown()
    server.server_close()


def test_download_once_then_cache(served, tmp_path):
    assert datasets.where("toy") == "absent"
    folder = locate("toy")
    assert folder == tmp_path / "cache" / "field" / "toy" and datasets.where("toy") == "cache"
    assert {path: (folder / path).read_bytes() for path in CONTENT} == CONTENT
    assert sorted(served) == ["/a.csv", "/sub/b.csv"]
    assert locate("toy") == folder and len(served) == 2


def test_data_folder_comes_first(served, tmp_path, monkeypatch):
    locate("toy")
    monkeypatch.setenv("SCIDIFFUSE_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    assert locate("toy") == tmp_path / "cache" / "field" / "toy"
    write(tmp_path / "data" / "field" / "toy")
    assert locate("toy") == tmp_path / "data" / "field" / "toy" and datasets.where("toy") == "folder"


def test_wrong_file_is_refused_by_name_in_both_places(served, tmp_path, monkeypatch):
    folder = locate("toy")
    (folder / "a.csv").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"'a\.csv' of data set 'toy' in the cache.*5 bytes.*expected"):
        locate("toy")
    write(tmp_path / "data" / "field" / "toy", **{"sub/b.csv": b"changed"})
    monkeypatch.setenv("SCIDIFFUSE_DATA", str(tmp_path / "data"))
    with pytest.raises(ValueError, match=r"'sub/b\.csv' of data set 'toy' in \$SCIDIFFUSE_DATA"):
        locate("toy")


def test_changed_at_the_source(served, tmp_path):
    (tmp_path / "web" / "a.csv").write_bytes(b"new version")
    with pytest.raises(ValueError, match=r"no longer serves 'a\.csv'.*Three ways"):
        locate("toy")
    assert not (tmp_path / "cache" / "field" / "toy" / "a.csv").exists()


def test_offline_names_the_three_ways(served, tmp_path):
    gone = RemoteFile("http://127.0.0.1:9/a.csv", digest(b""))
    register(DatasetInfo("gone", {"a.csv": gone}, licence="CC0", layout="-"))
    with pytest.raises(ConnectionError) as error:
        locate("gone")
    for way in ("$SCIDIFFUSE_DATA", str(tmp_path / "cache" / "gone"), gone.url):
        assert way in str(error.value)
    with pytest.raises(FileNotFoundError, match="Three ways"):
        locate("gone", download=False)


def test_missing_at_the_source_is_a_connection_error(served, tmp_path):
    (tmp_path / "web" / "a.csv").unlink()
    with pytest.raises(ConnectionError, match="404"):
        locate("toy")


def test_bad_data_folder(served, tmp_path, monkeypatch):
    monkeypatch.setenv("SCIDIFFUSE_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="not a folder"):
        locate("toy")


def test_names(served):
    toy = datasets.info("toy")
    assert register(toy) is toy and list(datasets.available()) == ["toy"]
    with pytest.raises(ValueError, match="registered already"):
        register(DatasetInfo("toy", toy.files, licence="MIT", layout="other"))
    with pytest.raises(ValueError, match="no data set is named 'toi'; registered: toy"):
        locate("toi")


def test_bad_entries():
    good = RemoteFile("https://example.org/a", "0" * 64)
    with pytest.raises(ValueError, match="64 lower-case"):
        RemoteFile("https://example.org/a", "A" * 64)
    with pytest.raises(ValueError, match="URL starts with"):
        RemoteFile("file:///etc/passwd", "0" * 64)
    for path in ("../a", "/a", "x\\a"):
        with pytest.raises(ValueError, match="relative path"):
            DatasetInfo("t", {path: good}, licence="", layout="")
    with pytest.raises(ValueError, match="names no file"):
        DatasetInfo("t", {}, licence="", layout="")
    with pytest.raises(ValueError, match="letters"):
        DatasetInfo("a b", {"a": good}, licence="", layout="")
