"""Weight files: what coremltools writes is read, what is damaged is refused."""

import struct

import numpy as np
import pytest

from edgesdk.backends.coreml.mil_program import WEIGHTS_PATH, Stored, read_program
from edgesdk.backends.coreml.weight_file import WeightFile
from edgesdk.errors import BundleError


@pytest.fixture
def write(tmp_path):
    """A file with one blob of coremltools' own."""
    from coremltools.libmilstoragepython import _BlobStorageWriter

    def run(method, array):
        writer = _BlobStorageWriter(str(tmp_path / "weight.bin"))
        offset = getattr(writer, method)(array)
        del writer
        return tmp_path / "weight.bin", offset

    return run


@pytest.mark.parametrize(
    ("method", "dtype", "stored"),
    [("write_float_data", "float32", "float32"), ("write_int8_data", "int8", "int8")],
)
def test_whole_elements(write, method, dtype, stored):
    array = np.random.default_rng(0).integers(-100, 100, 35).astype(stored)
    path, offset = write(method, array)
    np.testing.assert_array_equal(WeightFile(path).read(offset, dtype, (5, 7)), array.reshape(5, 7))


def test_float16(write):
    array = np.random.default_rng(0).standard_normal(12).astype(np.float16)
    path, offset = write("write_fp16_data", array.view(np.uint16))
    np.testing.assert_array_equal(WeightFile(path).read(offset, "float16", (12,)), array)


@pytest.mark.parametrize("count", [16, 31])
def test_int4(write, count):
    array = (np.arange(count) % 16 - 8).astype(np.int8)
    path, offset = write("write_int4_data", array)
    np.testing.assert_array_equal(WeightFile(path).read(offset, "int4", (count,)), array)


@pytest.mark.parametrize("count", [16, 31])
def test_uint4(write, count):
    array = (np.arange(count) % 16).astype(np.uint8)
    path, offset = write("write_uint4_data", array)
    np.testing.assert_array_equal(WeightFile(path).read(offset, "uint4", (count,)), array)


def patched(path, at, form, value):
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, at, value)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("at", "form", "value", "message"),
    [
        (4, "<I", 1, "version is 1"),
        (64, "<I", 7, "no blob at 64"),
        (68, "<I", 2, "element type 2"),
        (72, "<Q", 13, "has 13 bytes"),
        (80, "<Q", 2**63, "ends beyond"),
        (80, "<Q", 150, "ends beyond"),
    ],
)
def test_damaged_headers(write, at, form, value, message):
    path, offset = write("write_int8_data", np.arange(12, dtype=np.int8))
    with pytest.raises(BundleError, match=message):
        WeightFile(patched(path, at, form, value)).read(offset, "int8", (12,))


@pytest.mark.parametrize("offset", [-1, 0, 63, 65, 1 << 40])
def test_offsets_outside(write, offset):
    path, _ = write("write_int8_data", np.arange(12, dtype=np.int8))
    with pytest.raises(BundleError, match=r"weight\.bin is damaged"):
        WeightFile(path).read(offset, "int8", (12,))


@pytest.mark.parametrize("size", [0, 10, 64, 127, 128])
def test_truncated(write, size):
    path, offset = write("write_int8_data", np.arange(12, dtype=np.int8))
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(BundleError, match=r"weight\.bin"):
        WeightFile(path).read(offset, "int8", (12,))


def test_missing(tmp_path):
    with pytest.raises(BundleError, match="cannot be read"):
        WeightFile(tmp_path / "weight.bin")


def test_the_last_blob_of_a_package_counts(package):
    """Every constant is found at load, not at first use."""
    from edgesdk.backends.coreml.interpreter import MilInterpreter

    path = package / WEIGHTS_PATH
    path.write_bytes(path.read_bytes()[:-64])
    with pytest.raises(BundleError, match="ends beyond"):
        MilInterpreter(package)


def test_offsets_of_a_package_are_blobs(package):
    program = read_program(package)
    stored = [
        part
        for function in program.functions.values()
        for op in function.operations
        for parts in op.inputs.values()
        for part in parts
        if isinstance(part, Stored)
    ]
    assert len(stored) > 10
    for part in stored:
        assert program.weights.read(part.offset, part.type.dtype, part.type.shape).shape == part.type.shape
