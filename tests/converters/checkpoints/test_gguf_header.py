"""Nothing in a GGUF file is believed that its size contradicts."""

import struct

import gguf
import numpy as np
import pytest
from gguf.quants import quantize
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesdk.errors import CheckpointError
from edgesdk_converters.checkpoints.gguf_file import GgufTensors
from edgesdk_converters.checkpoints.gguf_header import read_gguf_header

KIND = gguf.GGMLQuantizationType
VALUES = {
    "uint8": (7, "add_uint8"),
    "int8": (-7, "add_int8"),
    "uint16": (700, "add_uint16"),
    "int16": (-700, "add_int16"),
    "uint32": (70000, "add_uint32"),
    "int32": (-70000, "add_int32"),
    "uint64": (2**40, "add_uint64"),
    "int64": (-(2**40), "add_int64"),
    "float32": (0.5, "add_float32"),
    "float64": (0.1, "add_float64"),
    "bool": (True, "add_bool"),
    "string": ("naïve 日本", "add_string"),
    "strings": (["a", "", "ü"], "add_array"),
    "numbers": ([1, 2, 3], "add_array"),
    "floats": ([0.5, -0.25], "add_array"),
    "flags": ([True, False], "add_array"),
}


def fill(writer):
    for name, (value, add) in VALUES.items():
        getattr(writer, add)(f"test.{name}", value)


@pytest.fixture(scope="module")
def small_file(tmp_path_factory, write_gguf):
    path = tmp_path_factory.mktemp("gguf") / "m.gguf"
    weight = np.linspace(-1, 1, 128, dtype=np.float32).reshape(2, 64)
    tensors = {
        "w": (quantize(weight, KIND.Q8_0), KIND.Q8_0),
        "v": (weight, KIND.F32),
        "iq": (np.ones((1, 66), np.uint8), KIND.IQ2_XXS),
    }
    return write_gguf(path, tensors, fill).read_bytes()


@pytest.fixture
def refuses(tmp_path):
    def check(data, match):
        path = tmp_path / "bad.gguf"
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match=match) as caught:
            read_gguf_header(path)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500

    return check


def pair(key, kind, payload):
    return struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + payload


def tensor(name=b"w", shape=(32,), kind=0, offset=0, axes=None):
    dimensions = struct.pack(f"<I{len(shape)}Q", len(shape) if axes is None else axes, *shape)
    return struct.pack("<Q", len(name)) + name + dimensions + struct.pack("<IQ", kind, offset)


def file_of(pairs=(), tensors=(), data=b""):
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)) + b"".join(pairs) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + data


def test_values_of_every_kind(tmp_path, small_file):
    path = tmp_path / "m.gguf"
    path.write_bytes(small_file)
    metadata = read_gguf_header(path).metadata
    for name, (value, _) in VALUES.items():
        assert metadata[f"test.{name}"] == value, name


def test_it_reads_what_the_gguf_package_reads(tmp_path, small_file):
    path = tmp_path / "m.gguf"
    path.write_bytes(small_file)
    header = read_gguf_header(path)
    theirs = {t.name: t for t in gguf.GGUFReader(path).tensors}
    assert list(header.tensors) == list(theirs)
    for name, entry in header.tensors.items():
        assert entry.offset == theirs[name].data_offset
        assert entry.size_bytes == theirs[name].n_bytes
        assert entry.shape == tuple(int(d) for d in theirs[name].shape[::-1])


def test_version_2_is_read(tmp_path, small_file):
    path = tmp_path / "m.gguf"
    path.write_bytes(small_file[:4] + struct.pack("<I", 2) + small_file[8:])
    assert len(read_gguf_header(path).tensors) == 3


def test_broken_bytes_in_a_vocabulary_stay_tellable_apart(tmp_path):
    items = b"".join(struct.pack("<Q", 1) + item for item in (b"\xff", b"\xfe"))
    path = tmp_path / "m.gguf"
    path.write_bytes(file_of([pair(b"tokens", 9, struct.pack("<IQ", 8, 2) + items)]))
    first, second = read_gguf_header(path).metadata["tokens"]
    assert first != second
    assert first.encode("utf-8", "surrogateescape") == b"\xff"


def test_every_truncation_is_refused(tmp_path, small_file):
    path = tmp_path / "bad.gguf"
    whole = len(small_file)
    # The writer pads the last tensor, which nothing reads.
    path.write_bytes(small_file)
    end = max(t.offset + t.size_bytes for t in read_gguf_header(path).tensors.values())
    for length in range(min(whole, end)):
        path.write_bytes(small_file[:length])
        with pytest.raises(CheckpointError) as caught:
            read_gguf_header(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "empty"),
        (b"PK\x03\x04" + bytes(100), "not a GGUF file"),
        (b"GGUF" + struct.pack("<I", 99) + bytes(64), "GGUF version 99"),
        (b"GGUF" + struct.pack("<I", 1) + bytes(64), "GGUF version 1;"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(64), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0), "tensor count of 1152921504606846976"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**62), "metadata count"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 17, 0) + bytes(1 << 23), "expected at most 65536"),
    ],
)
def test_other_files_and_absurd_counts(refuses, data, match):
    refuses(data, match)


@pytest.mark.parametrize(
    ("pairs", "match"),
    [
        ([pair(b"k", 42, b"")], "unknown type 42"),
        ([pair(b"k", 8, struct.pack("<Q", 2**63))], "length of a value of 'k' of 9223372036854775808"),
        ([pair(b"k", 8, struct.pack("<Q", 1) + b"\xff")], "not UTF-8"),
        ([pair(b"\xff", 0, b"1")], "metadata key that is not UTF-8"),
        ([pair(b"k", 9, struct.pack("<IQ", 4, 2**62))], "length of 'k' of"),
        ([pair(b"k", 9, struct.pack("<IQ", 9, 1))], "items of type 9"),
        ([pair(b"k", 9, struct.pack("<IQ", 0, 1 << 24) + bytes(1 << 24))], "expected at most 8388608"),
        ([pair(b"k", 0, b"1"), pair(b"k", 0, b"1")], "'k' twice"),
        ([pair(b"k" * 70000, 0, b"1")], "expected at most 65535"),
        ([pair(b"general.alignment", 4, struct.pack("<I", 48))], "power of two"),
        ([pair(b"general.alignment", 4, struct.pack("<I", 0))], "power of two"),
        ([pair(b"general.alignment", 8, struct.pack("<Q", 2) + b"32")], "power of two"),
    ],
)
def test_absurd_metadata(refuses, pairs, match):
    refuses(file_of(pairs, data=bytes(64)), match)


@pytest.mark.parametrize(
    ("tensors", "match"),
    [
        ([tensor(axes=0, shape=())], "0 axes"),
        ([tensor(axes=5, shape=(1,) * 5)], "5 axes"),
        ([tensor(shape=(32, 0))], r"shape \(0, 32\)"),
        ([tensor(shape=(2**63, 2**63, 2**63, 2**63))], "outside its"),
        ([tensor(shape=(33,), kind=2)], "blocks of 32 do not fill"),
        ([tensor(kind=1234)], "type 1234"),
        ([tensor(offset=2**40)], "outside its"),
        ([tensor(offset=2**64 - 32)], "outside its"),
        ([tensor(offset=4)], "multiple of 32"),
        ([tensor(), tensor(offset=128)], "'w' twice"),
        ([tensor(), tensor(b"v", offset=96)], "overlap"),
    ],
)
def test_absurd_tensors(refuses, tensors, match):
    refuses(file_of(tensors=tensors, data=bytes(1024)), match)


def test_an_array_of_arrays_does_not_recurse(refuses):
    nested = struct.pack("<IQ", 9, 1) * 100_000
    refuses(file_of([pair(b"k", 9, nested)]), "items of type 9")


@settings(deadline=None, max_examples=400)
@given(st.data())
def test_flipped_bytes_load_or_are_refused(tmp_path_factory, small_file, data):
    damaged = bytearray(small_file)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "fuzz.gguf"
    path.write_bytes(bytes(damaged[: data.draw(st.integers(0, len(damaged)))] or damaged))
    try:
        tensors = GgufTensors(path, read_gguf_header(path).tensors)
        for name in tensors:
            with np.errstate(all="ignore"):
                tensors.load(name)
    except CheckpointError as error:
        assert "\n" not in str(error)
