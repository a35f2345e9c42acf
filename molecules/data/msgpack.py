"""Reading MessagePack, of which GEOM's large files are made: what its specification calls nil, booleans, numbers,
strings, bytes, arrays and maps. A file is a row of such values, read one at a time. Extension types are refused.

Source: the MessagePack specification, github.com/msgpack/msgpack/blob/master/spec.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

__all__ = ["values"]

_NUMBERS = {
    0xCA: ">f",
    0xCB: ">d",
    0xCC: ">B",
    0xCD: ">H",
    0xCE: ">I",
    0xCF: ">Q",
    0xD0: ">b",
    0xD1: ">h",
    0xD2: ">i",
    0xD3: ">q",
}
_LENGTHS = {  # first byte -> kind, format of the length
    0xC4: ("bytes", ">B"),
    0xC5: ("bytes", ">H"),
    0xC6: ("bytes", ">I"),
    0xD9: ("text", ">B"),
    0xDA: ("text", ">H"),
    0xDB: ("text", ">I"),
    0xDC: ("array", ">H"),
    0xDD: ("array", ">I"),
    0xDE: ("map", ">H"),
    0xDF: ("map", ">I"),
}


def values(file: BinaryIO) -> Iterator[Any]:
    """The values of a file, one behind the other.

    Raises:
        ValueError: an extension type, text that is not UTF-8, a key of a map that is an array or map, values nested
            deeper than can be read, or a file that ends inside a value.
    """
    while first := file.read(1):
        try:
            value = _value(file, first[0])
        except RecursionError:
            raise ValueError("MessagePack: values nested deeper than can be read") from None
        yield value


def _value(file: BinaryIO, first: int) -> Any:
    if first < 0x80:
        return first
    if first >= 0xE0:
        return first - 0x100
    if first in _NUMBERS:
        return _unpack(file, _NUMBERS[first])
    if first in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[first]
    if first < 0x90:
        return _many(file, "map", first & 0x0F)
    if first < 0xA0:
        return _many(file, "array", first & 0x0F)
    if first < 0xC0:
        return _many(file, "text", first & 0x1F)
    if first in _LENGTHS:
        kind, form = _LENGTHS[first]
        return _many(file, kind, _unpack(file, form))
    raise ValueError(f"MessagePack: byte 0x{first:02x} begins an extension type, which is not read")


def _many(file: BinaryIO, kind: str, count: int) -> Any:
    if kind == "bytes":
        return _exactly(file, count)
    if kind == "text":
        return _exactly(file, count).decode("utf-8")
    if kind == "array":
        return [_next(file) for _ in range(count)]
    pairs = [(_next(file), _next(file)) for _ in range(count)]
    odd = [key for key, _ in pairs if isinstance(key, list | dict)]
    if odd:
        raise ValueError(f"MessagePack: the key of a map is {odd[0]!r:.40}, expected text or a number")
    return dict(pairs)


def _next(file: BinaryIO) -> Any:
    return _value(file, _exactly(file, 1)[0])


def _unpack(file: BinaryIO, form: str) -> Any:
    return struct.unpack(form, _exactly(file, struct.calcsize(form)))[0]


def _exactly(file: BinaryIO, count: int) -> bytes:
    content = file.read(count)
    if len(content) < count:
        raise ValueError("MessagePack: the file ends inside a value; fetch it again")
    return content
