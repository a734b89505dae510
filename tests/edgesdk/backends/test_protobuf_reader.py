"""The reader agrees with protobuf's own, and refuses what is cut or out of bounds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesdk.backends.protobuf_reader import ProtobufError, read_fields, read_varint, signed

onnx = pytest.importorskip("onnx", reason="needs the extra 'convert'")


def fields(data):
    return list(read_fields(data, 0, len(data)))


@given(st.text(max_size=40), st.integers(-(2**63), 2**63 - 1), st.floats(width=32), st.binary(max_size=50))
def test_it_reads_what_protobuf_writes(name, number, fraction, text):
    attribute = onnx.AttributeProto(name=name, i=number, f=fraction, s=text, ints=[number, 1])
    data = attribute.SerializeToString()
    found = {}
    for field, kind, start, end in fields(data):
        found.setdefault(field, []).append(signed(start) if kind == 0 else data[start:end])
    assert found[1] == [name.encode()]
    assert found[3] == [number]
    assert found[4] == [text]
    assert found[8] == [number, 1]
    assert len(found[2][0]) == 4


@settings(max_examples=300)
@given(st.binary(max_size=80))
def test_any_bytes_are_fields_or_refused(data):
    try:
        for _, kind, start, end in fields(data):
            assert kind == 0 or 0 <= start <= end <= len(data)
    except ProtobufError:
        return


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a\x05ab",  # five bytes, two there
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x0d\0\0",  # a fixed 32-bit number cut
        b"\x09\0",
        b"\x08\x80",  # a number that goes on
        b"\x08" + b"\xff" * 10 + b"\x01",
        b"\x0b\x0c",  # a group
        b"\x0f\0",
        b"\0\0",  # field 0
    ],
)
def test_damage_is_refused(data):
    with pytest.raises(ProtobufError):
        fields(data)


def test_numbers_of_ten_bytes():
    assert read_varint(b"\xff" * 9 + b"\x01", 0, 10) == (2**64 - 1, 10)
    assert signed(2**64 - 1) == -1
