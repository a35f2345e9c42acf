"""Opening what scientists have on disk: plain, gzipped, in a folder, in a tar.

A tar is read in memory, member by member, and never unpacked onto the disk.
"""

from __future__ import annotations

import gzip
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from ...core.files import existing

__all__ = ["is_tar", "read_bytes", "read_text", "tree"]

_PARTS = ("train", "test", "metadata", "metadata.json")
_TAR = (".tar", ".tar.gz", ".tgz")


def is_tar(path: Path) -> bool:
    """Whether the name is that of a tar."""
    return path.name.lower().endswith(_TAR)


def _unzipped(name: str, content: bytes) -> bytes:
    if not name.lower().endswith(".gz"):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{name} is damaged, or no gzip file: {error}; fetch it again") from error


def read_bytes(path: Path) -> bytes:
    """The content of a file, unzipped where its name ends in ``.gz``."""
    return _unzipped(path.name, existing(path).read_bytes())


def _decoded(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def read_text(path: Path) -> str:
    """The same as text: UTF-8, else Latin-1 (the Monash archive has both)."""
    return _decoded(path.name, read_bytes(path))


def tree(path: Path) -> dict[str, bytes]:
    """The files of a data set by their path inside the folder or tar, unzipped, one common leading folder dropped.

    Of a folder only ``train``, ``test`` and ``metadata`` are read; what else stands in it is listed, with no content.

    Raises:
        FileNotFoundError: nothing there. ValueError: a damaged tar.
    """
    if existing(path).is_dir():
        files = {}
        for top in sorted(path.iterdir()):
            wanted = top.name in _PARTS
            inside = sorted(top.rglob("*")) if wanted and top.is_dir() else [top]
            for file in inside:
                if not file.name.startswith(".") and (file.is_file() or not wanted):
                    name = file.relative_to(path).as_posix().removesuffix(".gz")
                    files[name] = read_bytes(file) if wanted else b""
        return files
    try:
        with tarfile.open(path) as tar:
            found = {}
            for member in sorted(tar.getmembers(), key=lambda m: m.name):
                content = tar.extractfile(member) if member.isfile() else None
                if content is not None and not PurePosixPath(member.name).name.startswith("."):
                    name = member.name.removeprefix("./")
                    found[name.removesuffix(".gz")] = _unzipped(name, content.read())
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path.name} is damaged, or no tar: {error}; fetch it again") from error
    tops = {PurePosixPath(name).parts[0] for name in found}
    if len(tops) == 1 and all(len(PurePosixPath(name).parts) > 1 for name in found):
        found = {str(PurePosixPath(*PurePosixPath(name).parts[1:])): content for name, content in found.items()}
    return found
