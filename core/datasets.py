"""A registry of named data sets, each file pinned by its SHA-256.

`locate(name)` looks in three places, in this order, and returns the folder that holds the verified files:

1. ``$SCIDIFFUSE_DATA/<folder of the set>``, read-only, when the variable is set;
2. the cache, ``pooch.os_cache("scidiffuse")/<folder of the set>``;
3. the network: the files are downloaded to the cache and verified.

A file with another digest is refused wherever it lies: results on a file that is not the named one would carry its
name wrongly. The core knows the mechanism only; a wing registers the sets of its field.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import urlsplit

__all__ = ["DatasetInfo", "RemoteFile", "available", "cache_folder", "info", "locate", "register", "where"]

VARIABLE = "SCIDIFFUSE_DATA"
"""The environment variable that names a folder of data sets."""


@dataclass(frozen=True)
class RemoteFile:
    """One file: where it comes from and what it must be."""

    url: str
    sha256: str

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme not in ("http", "https", "ftp"):
            raise ValueError(f"a data file's URL starts with https://, http:// or ftp://, got {self.url!r}")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(f"a SHA-256 is 64 lower-case hexadecimal digits, got {self.sha256!r} for {self.url}")


@dataclass(frozen=True)
class DatasetInfo:
    """A named data set.

    Attributes:
        name: what `locate` is called with.
        files: path inside the set's folder (forward slashes) -> its URL and digest.
        licence: the licence, or what is known about it.
        layout: one sentence on what the files hold, for who reads them.
        folder: where the set lies below ``$SCIDIFFUSE_DATA`` and below the cache; default: its name.
        source: where it was published.
    """

    name: str
    files: Mapping[str, RemoteFile]
    licence: str
    layout: str
    folder: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9._-]+", self.name):
            raise ValueError(f"a data set's name is made of letters, digits, '.', '_' and '-', got {self.name!r}")
        if not self.files:
            raise ValueError(f"data set {self.name!r} names no file")
        if not self.folder:
            object.__setattr__(self, "folder", self.name)
        for path in (self.folder, *self.files):
            if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or "\\" in path:
                raise ValueError(f"data set {self.name!r}: {path!r} must be a relative path without '..'")
        object.__setattr__(self, "files", dict(self.files))


_REGISTRY: dict[str, DatasetInfo] = {}


def register(dataset: DatasetInfo) -> DatasetInfo:
    """Add `dataset` to the registry and return it; registering the same entry again changes nothing.

    Raises:
        ValueError: if another entry has that name.
    """
    known = _REGISTRY.setdefault(dataset.name, dataset)
    if known != dataset:
        raise ValueError(
            f"a different data set named {dataset.name!r} is registered already (source {known.source!r}); "
            "choose another name"
        )
    return dataset


def available() -> dict[str, DatasetInfo]:
    """All registered data sets by name. A wing registers its own when it is imported."""
    return dict(sorted(_REGISTRY.items()))


def info(name: str) -> DatasetInfo:
    """The entry of `name`.

    Raises:
        ValueError: if no such set is registered, naming those that are.
    """
    try:
        return _REGISTRY[name]
    except KeyError:
        known = ", ".join(sorted(_REGISTRY)) or "none; import the wing that knows it, e.g. scidiffuse.timeseries"
        raise ValueError(f"no data set is named {name!r}; registered: {known}") from None


def cache_folder() -> Path:
    """The folder that downloads go to."""
    import pooch

    return Path(pooch.os_cache("scidiffuse"))


def where(name: str) -> Literal["folder", "cache", "absent"]:
    """Whether all files of `name` lie in ``$SCIDIFFUSE_DATA``, in the cache, or must be downloaded (not verified)."""
    dataset = info(name)
    data = _data_folder()
    if data is not None and _complete(data / dataset.folder, dataset):
        return "folder"
    return "cache" if _complete(cache_folder() / dataset.folder, dataset) else "absent"


def locate(name: str, *, download: bool = True) -> Path:
    """The folder with the verified files of the data set `name`.

    Args:
        name: a registered name.
        download: fetch what is missing; False raises instead.

    Raises:
        ValueError: unknown name, ``$SCIDIFFUSE_DATA`` not a folder, or a file whose SHA-256 is another.
        FileNotFoundError: the files are in neither place and `download` is False.
        ConnectionError: the download failed, with the three ways to supply the files.
    """
    dataset = info(name)
    data = _data_folder()
    if data is not None and _complete(data / dataset.folder, dataset):
        return _verified(data / dataset.folder, dataset, f"${VARIABLE}")
    cached = cache_folder() / dataset.folder
    if not _complete(cached, dataset):
        if not download:
            raise FileNotFoundError(f"data set {name!r} is not on this machine. {_ways(dataset)}")
        _fetch(cached, dataset)
    return _verified(cached, dataset, "the cache")


def _data_folder() -> Path | None:
    value = os.environ.get(VARIABLE)
    if not value:
        return None
    folder = Path(value).expanduser()
    if not folder.is_dir():
        raise ValueError(f"${VARIABLE} is {value!r}, which is not a folder; set it to an existing one or unset it")
    return folder


def _complete(folder: Path, dataset: DatasetInfo) -> bool:
    return all((folder / path).is_file() for path in dataset.files)


def _verified(folder: Path, dataset: DatasetInfo, place: str) -> Path:
    for path, remote in dataset.files.items():
        with (folder / path).open("rb") as file:
            came = hashlib.file_digest(file, "sha256").hexdigest()
        if came != remote.sha256:
            size = (folder / path).stat().st_size
            raise ValueError(
                f"{path!r} of data set {dataset.name!r} in {place} ({folder}) is not the named file: SHA-256 {came} "
                f"({size} bytes), expected {remote.sha256}. Delete it so that it is fetched again from {remote.url}, "
                "or read your own version by its path"
            )
    return folder


def _fetch(folder: Path, dataset: DatasetInfo) -> None:
    import pooch

    quiet = pooch.get_logger()
    level = quiet.level
    quiet.setLevel("WARNING")
    try:
        for path, remote in dataset.files.items():
            target = folder / path
            if target.is_file():
                continue
            try:
                pooch.retrieve(remote.url, f"sha256:{remote.sha256}", fname=target.name, path=target.parent)
            except ValueError as error:  # pooch deletes what it fetched
                raise ValueError(
                    f"{remote.url} no longer serves {path!r} of data set {dataset.name!r}: {error}. {_ways(dataset)}"
                ) from error
            except OSError as error:  # requests' exceptions are OSErrors
                raise ConnectionError(
                    f"data set {dataset.name!r}: {remote.url} could not be fetched ({type(error).__name__}: {error}). "
                    f"{_ways(dataset)}"
                ) from error
    finally:
        quiet.setLevel(level)


def _ways(dataset: DatasetInfo) -> str:
    files = ", ".join(dataset.files)
    urls = ", ".join(remote.url for remote in dataset.files.values())
    return (
        f"Three ways to supply it: (1) set ${VARIABLE} to a folder that holds {dataset.folder}/ with {files}; "
        f"(2) put the same files into {cache_folder() / dataset.folder}; "
        f"(3) go online and call again (it fetches {urls})"
    )
