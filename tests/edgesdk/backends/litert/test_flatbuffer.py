"""Offsets are followed only where they lead into the file."""

import struct

import pytest

from edgesdk.backends.litert.flatbuffer import Flatbuffer, FlatbufferError

flatbuffers = pytest.importorskip("flatbuffers", reason="needs the extra 'convert'")


def build(fill):
    builder = flatbuffers.Builder(64)
    builder.Finish(fill(builder), b"TEST")
    return bytes(builder.Output())


def small(builder):
    name = builder.CreateString("abc")
    builder.StartVector(4, 3, 4)
    for value in (3, -2, 1):
        builder.PrependInt32(value)
    numbers = builder.EndVector()
    builder.StartObject(1)
    builder.PrependInt32Slot(0, 77, 0)
    child = builder.EndObject()
    builder.StartVector(4, 1, 4)
    builder.PrependUOffsetTRelative(child)
    children = builder.EndVector()
    builder.StartObject(6)
    builder.PrependUOffsetTRelativeSlot(0, name, 0)
    builder.PrependUOffsetTRelativeSlot(1, numbers, 0)
    builder.PrependUOffsetTRelativeSlot(2, child, 0)
    builder.PrependInt8Slot(3, -5, 0)
    builder.PrependUOffsetTRelativeSlot(4, children, 0)
    return builder.EndObject()


def read(data):
    """Everything that the file has."""
    flat = Flatbuffer(memoryview(data))
    root = flat.root(b"TEST")
    child = flat.child(root, 2)
    return (
        flat.text(root, 0),
        flat.integers(root, 1, 10),
        None if child is None else flat.scalar(child, 0, "i"),
        flat.scalar(root, 3, "b"),
        [flat.scalar(each, 0, "i") for each in flat.tables(root, 4, 10)],
        flat.scalar(root, 5, "i", 9),
        flat.present(root),
    )


def test_it_reads_what_the_builder_writes():
    assert read(build(small)) == ("abc", (1, -2, 3), 77, -5, [77], 9, [0, 1, 2, 3, 4])


def test_every_byte_may_be_anything():
    whole = build(small)
    refused = 0
    for at in range(len(whole)):
        for value in (0, 1, 3, 4, 127, 128, 254, 255):
            data = bytearray(whole)
            data[at] = value
            try:
                read(bytes(data))
            except FlatbufferError:
                refused += 1
    assert refused > len(whole)


def test_every_length_is_refused_or_read():
    whole = build(small)
    for size in range(len(whole)):
        try:
            read(whole[:size])
        except FlatbufferError:
            continue
        pytest.fail(f"{size} of {len(whole)} bytes were taken")


def test_limits_and_kinds():
    flat = Flatbuffer(memoryview(build(small)))
    root = flat.root(b"TEST")
    with pytest.raises(FlatbufferError, match="3 numbers in field 1, expected 2 at most"):
        flat.integers(root, 1, 2)
    with pytest.raises(FlatbufferError, match="1 tables in field 4, expected 0 at most"):
        flat.tables(root, 4, 0)
    with pytest.raises(FlatbufferError, match="a file of the kind NONE"):
        flat.root(b"NONE")
    with pytest.raises(FlatbufferError):
        Flatbuffer(memoryview(struct.pack("<I4s", 2**32 - 4, b"TEST"))).root(b"TEST")


def test_tables_that_are_referred_to_again_and_again_are_counted(monkeypatch):
    flat = Flatbuffer(memoryview(build(small)))
    root = flat.root(b"TEST")
    monkeypatch.setattr(flat, "_left", 5)
    for _ in range(5):
        flat.tables(root, 4, 10)
    with pytest.raises(FlatbufferError, match="far more often"):
        flat.tables(root, 4, 10)
