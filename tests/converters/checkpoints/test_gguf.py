"""GGUF files: every type, and nothing believed that the file's size contradicts."""

import struct

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize, quantize
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.checkpoints.gguf_file import GgufTensors
from converters.checkpoints.gguf_header import read_gguf_header
from edgesdk.errors import CheckpointError

KIND = gguf.GGMLQuantizationType
PLAIN = {KIND.F32: np.float32, KIND.F16: np.float16, KIND.F64: np.float64}
INTEGERS = {KIND.I8: np.int8, KIND.I16: np.int16, KIND.I32: np.int32, KIND.I64: np.int64}


def write_gguf(path, tensors, metadata=()):
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in metadata:
        writer.add_string(key, value)
    writer.add_array("test.names", ["a", "b", "ü"])
    writer.add_array("test.numbers", [1, 2, 3])
    for name, (data, kind) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def open_tensors(path):
    return GgufTensors(path, read_gguf_header(path).tensors)


def dequantisable():
    """Types the gguf package can dequantise, with random blocks."""
    found = []
    for kind, (block, size) in gguf.GGML_QUANT_SIZES.items():
        if kind in PLAIN or kind in INTEGERS:
            continue
        raw = np.random.default_rng(int(kind)).integers(0, 100, (6, 512 // block * size), np.uint8)
        try:
            dequantize(raw, kind)
        except NotImplementedError:
            continue
        found.append((kind, raw))
    return found


@pytest.mark.parametrize(("kind", "raw"), [pytest.param(k, r, id=k.name) for k, r in dequantisable()])
def test_every_type_that_can_be_dequantised_is(tmp_path, kind, raw):
    write_gguf(tmp_path / "m.gguf", {"w": (raw, kind)})
    tensors = open_tensors(tmp_path / "m.gguf")
    expected = dequantize(raw, kind).astype(np.float32)
    assert tensors.stored_type("w") == kind.name
    assert tensors.shape("w") == expected.shape == (6, 512)
    np.testing.assert_array_equal(tensors.load("w"), expected)
    np.testing.assert_array_equal(tensors.load_rows("w", 2, 5), expected[2:5])


@pytest.mark.parametrize("kind", [*PLAIN, *INTEGERS], ids=lambda k: k.name)
def test_plain_types(tmp_path, kind):
    data = np.arange(24).reshape(4, 6).astype({**PLAIN, **INTEGERS}[kind])
    write_gguf(tmp_path / "m.gguf", {"w": (data, kind), "v": (data[0], kind)})
    tensors = open_tensors(tmp_path / "m.gguf")
    np.testing.assert_array_equal(tensors.load("w"), data.astype(np.float32))
    np.testing.assert_array_equal(tensors.load_rows("v", 1, 3), data[0, 1:3].astype(np.float32))


def test_a_type_without_dequantisation_is_named(tmp_path):
    rest = [
        k
        for k in gguf.GGML_QUANT_SIZES
        if k not in PLAIN and k not in INTEGERS and k not in [d[0] for d in dequantisable()]
    ]
    if not rest:
        pytest.skip("this gguf package dequantises everything it knows")
    block, size = gguf.GGML_QUANT_SIZES[rest[0]]
    write_gguf(tmp_path / "m.gguf", {"w": (np.zeros((1, 512 // block * size), np.uint8), rest[0])})
    with pytest.raises(CheckpointError, match=rest[0].name):
        open_tensors(tmp_path / "m.gguf").load("w")


def test_metadata_of_every_kind(tmp_path):
    write_gguf(tmp_path / "m.gguf", {}, [("general.license", "apache-2.0")])
    metadata = read_gguf_header(tmp_path / "m.gguf").metadata
    assert metadata["general.license"] == "apache-2.0"
    assert metadata["test.names"] == ["a", "b", "ü"]
    assert metadata["test.numbers"] == [1, 2, 3]


@pytest.fixture(scope="module")
def small_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "m.gguf"
    weight = np.linspace(-1, 1, 128, dtype=np.float32).reshape(2, 64)
    tensors = {"w": (quantize(weight, KIND.Q8_0), KIND.Q8_0), "v": (weight, KIND.F32)}
    write_gguf(path, tensors, [("general.name", "test")])
    return path.read_bytes()


def refuses(tmp_path, data, match):
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=match) as caught:
        read_gguf_header(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.5, 0.8, 0.99])
def test_a_truncated_file_is_refused(tmp_path, small_file, share):
    refuses(tmp_path, small_file[: int(len(small_file) * share)], "bad.gguf")


def test_an_absurd_tensor_count_is_refused(tmp_path, small_file):
    refuses(
        tmp_path,
        small_file[:8] + struct.pack("<Q", 2**60) + small_file[16:],
        "tensor count of 1152921504606846976",
    )


def test_an_absurd_metadata_count_is_refused(tmp_path, small_file):
    refuses(tmp_path, small_file[:16] + struct.pack("<Q", 2**62) + small_file[24:], "metadata count")


def test_an_absurd_offset_is_refused(tmp_path, small_file):
    at = small_file.index(b"\x01\x00\x00\x00\x00\x00\x00\x00w") + 9  # after the name of `w`
    at += 4 + 2 * 8 + 4  # rank, shape, type
    refuses(tmp_path, small_file[:at] + struct.pack("<Q", 2**40) + small_file[at + 8 :], "outside its")


def test_other_files_are_refused(tmp_path, small_file):
    refuses(tmp_path, b"PK\x03\x04" + bytes(100), "not a GGUF file")
    refuses(tmp_path, b"", "empty")
    refuses(tmp_path, b"GGUF" + struct.pack("<I", 99) + bytes(64), "GGUF version 99")
    refuses(tmp_path, b"GGUF" + struct.pack(">I", 3) + bytes(64), "big-endian")


def test_an_unknown_tensor_is_named(tmp_path, small_file):
    (tmp_path / "m.gguf").write_bytes(small_file)
    with pytest.raises(CheckpointError, match="no tensor 'nothing'"):
        open_tensors(tmp_path / "m.gguf").load("nothing")


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_flipped_bytes_load_or_are_refused(tmp_path_factory, small_file, data):
    damaged = bytearray(small_file)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "fuzz.gguf"
    path.write_bytes(bytes(damaged[: data.draw(st.integers(0, len(damaged)))] or damaged))
    try:
        tensors = open_tensors(path)
        for name in tensors:
            with np.errstate(all="ignore"):
                tensors.load(name)
    except CheckpointError as error:
        assert "\n" not in str(error)
