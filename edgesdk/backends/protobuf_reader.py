"""Reads the fields of one protobuf message, bounds-checked, copying nothing that is not asked for.

The wire format is that of protobuf.dev, "Encoding". A message is walked once; length-delimited fields are
places in the data, which the caller reads or passes over. It knows no message by name.
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5

Data = bytes | memoryview
Field = tuple[int, int, int, int]
"""Number, wire type, and either the value twice or where the bytes begin and end."""


class ProtobufError(ValueError):
    """The data is no message: a field ends beyond it, or is of a kind that protobuf has not."""


def read_fields(data: Data, start: int, end: int) -> Iterator[Field]:
    """The fields of the message in `data[start:end]`, in order.

    Yields:
        (number, type, start, end) of its bytes; a varint gives (number, 0, value, value).

    Raises:
        ProtobufError: a field leaves the message, or has a type that is unknown or out of use (groups).
    """
    at = start
    while at < end:
        key, at = read_varint(data, at, end)
        number, kind = key >> 3, key & 7
        if not 0 < number < 1 << 29:
            raise ProtobufError(f"field number {number}")
        if kind == VARINT:
            value, at = read_varint(data, at, end)
            yield number, kind, value, value
            continue
        if kind == LENGTH:
            size, at = read_varint(data, at, end)
        elif kind == FIXED64:
            size = 8
        elif kind == FIXED32:
            size = 4
        else:
            raise ProtobufError(f"wire type {kind}")
        if size > end - at:
            raise ProtobufError(f"field {number} ends beyond the message around it")
        yield number, kind, at, at + size
        at += size


def read_varint(data: Data, at: int, end: int) -> tuple[int, int]:
    """The unsigned varint at a place below `end`, and the place after it.

    Raises:
        ProtobufError: it does not end, or has more than 64 bits.
    """
    if at < end and data[at] < 0x80:  # nearly all of them
        return data[at], at + 1
    value = shift = 0
    while at < end and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 1 << 64:
                break
            return value, at
        shift += 7
    raise ProtobufError("a number does not end")


def signed(value: int) -> int:
    """A varint as int64."""
    return value - (1 << 64) if value >= 1 << 63 else value
