"""Safetensors files: every type, and a header that is checked."""

import json
import struct

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from edgesdk.errors import CheckpointError
from edgesdk_converters.checkpoints.safetensors_file import SafetensorsTensors

TYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I32": np.int32,
    "I8": np.int8,
    "U8": np.uint8,
}


def write(path, tensors):
    header, blobs, at = {}, b"", 0
    for name, (dtype, array) in tensors.items():
        raw = array.tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [at, at + len(raw)]}
        blobs, at = blobs + raw, at + len(raw)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + blobs)
    return path


@pytest.mark.parametrize("dtype", TYPES)
def test_types_become_float32(tmp_path, dtype):
    array = np.arange(24).reshape(4, 6).astype(TYPES[dtype])
    tensors = SafetensorsTensors([write(tmp_path / "m.safetensors", {"w": (dtype, array)})])
    assert tensors.shape("w") == (4, 6)
    assert tensors.stored_type("w") == dtype
    np.testing.assert_array_equal(tensors.load("w"), array.astype(np.float32))
    np.testing.assert_array_equal(tensors.load_rows("w", 1, 3), array[1:3].astype(np.float32))


def test_two_files_may_hold_one_name_if_they_hold_the_same(tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    write(tmp_path / "0.safetensors", {"w": ("F32", array)})
    write(tmp_path / "same.safetensors", {"w": ("F32", array), "v": ("F32", array)})
    tensors = SafetensorsTensors([tmp_path / "0.safetensors", tmp_path / "same.safetensors"])
    np.testing.assert_array_equal(tensors.load("w"), array)
    assert tensors.files_of("w") == ("0.safetensors", "same.safetensors")
    others = {"1": ("F32", array + 1), "2": ("F32", array.T.copy()), "3": ("I32", array.astype(np.int32))}
    for name, (dtype, other) in others.items():
        file = write(tmp_path / f"{name}.safetensors", {"w": (dtype, other)})
        with pytest.raises(CheckpointError, match=rf"'w' is in 0\.safetensors and in {name}\.safetensors"):
            SafetensorsTensors([tmp_path / "0.safetensors", file])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["F64", "F32", "F16"])
def test_numbers_that_are_not_finite_are_refused_by_their_tensor(tmp_path, dtype, value):
    array = np.zeros((4, 6), TYPES[dtype])
    array[2, 5] = value
    file = write(
        tmp_path / "m.safetensors", {"good": (dtype, np.ones((4, 6), TYPES[dtype])), "bad": (dtype, array)}
    )
    tensors = SafetensorsTensors([file])
    tensors.load("good")
    for _ in range(2):  # these rows were looked at, others were not
        assert np.isfinite(tensors.load_rows("bad", 0, 2)).all()
    assert np.isfinite(tensors.load_rows("bad", 3, 4)).all()
    kind = "NaN" if np.isnan(value) else "infinity"
    for read in (lambda: tensors.load("bad"), lambda: tensors.load_rows("bad", 2, 3)):
        for _ in range(2):  # what was refused once is refused again
            with pytest.raises(CheckpointError, match=rf"m\.safetensors has 1 of \d+ .* in 'bad' .* {kind}"):
                read()


def test_bfloat16_that_is_not_finite_and_float64_beyond_float32_are_refused(tmp_path):
    bits = np.full((2, 2), 0x3F80, np.uint16)
    bits[1, 0] = 0x7FC0
    for dtype, array in (("BF16", bits), ("F64", np.array([[1.0, 1e300]]))):
        tensors = SafetensorsTensors([write(tmp_path / f"{dtype}.safetensors", {"w": (dtype, array)})])
        with pytest.raises(CheckpointError, match=r"1 of . numbers in 'w' that are not finite"):
            tensors.load("w")


def header(entry):
    text = json.dumps({"w": entry}).encode()
    return struct.pack("<Q", len(text)) + text + bytes(16)


GOOD = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "has 0 bytes"),
        (struct.pack("<Q", 2**50) + b"{}", "announces a header"),
        (struct.pack("<Q", 2) + b"[]", "no object"),
        (struct.pack("<Q", 2) + b"xx", "no valid JSON"),
        (header({**GOOD, "dtype": "F99"}), "F99"),
        (header({**GOOD, "shape": [-4]}), "without a valid shape"),
        (header({**GOOD, "shape": [5]}), "of shape"),
        (header({**GOOD, "data_offsets": [16, 32]}), "truncated"),
        (header({**GOOD, "data_offsets": [0]}), "without a valid shape"),
        (header({**GOOD, "shape": [True, 4]}), "without a valid shape"),
        (header(7), "by a int"),
        (header({**GOOD, "shape": [1] * 9 + [4]}), "without a valid shape"),
        (header({**GOOD, "shape": [2**47] * 8}), "of shape"),
        (header({**GOOD, "shape": [2], "data_offsets": [0, 8]}), "its tensors end at"),
        (header({**GOOD, "shape": [2], "data_offsets": [8, 16]}), "have a hole"),
        (header({**GOOD, "dtype": "F8_E4M3"}), "F8_E4M3"),
        (header({**GOOD, "shape": [4.0]}), "without a valid shape"),
        (struct.pack("<Q", 2 * 10**5) + b"[" * 2 * 10**5, "no valid JSON"),
    ],
)
def test_damaged_headers_are_refused(tmp_path, data, match):
    (tmp_path / "m.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError, match=match) as caught:
        SafetensorsTensors([tmp_path / "m.safetensors"])
    assert "\n" not in str(caught.value)


def test_it_reads_what_the_safetensors_package_writes(tmp_path):
    arrays = {
        "matrix": np.random.default_rng(0).standard_normal((7, 5)).astype(np.float32),
        "half": np.arange(6, dtype=np.float16).reshape(2, 3),
        "brain": np.linspace(-3, 3, 12).astype(ml_dtypes.bfloat16).reshape(3, 4),
        "scalar": np.array(2.5, np.float32),
        "empty": np.zeros((0, 4), np.float32),
        "flags": np.array([True, False]),
    }
    save_file(arrays, tmp_path / "m.safetensors", metadata={"format": "np"})
    tensors = SafetensorsTensors([tmp_path / "m.safetensors"])
    assert set(tensors) == set(arrays)
    for name, array in arrays.items():
        loaded = tensors.load(name)
        assert loaded.dtype == np.float32
        assert loaded.flags.writeable
        np.testing.assert_array_equal(loaded, array.astype(np.float32))
        assert loaded.shape == tensors.shape(name) == array.shape


def test_every_truncation_is_refused(tmp_path):
    path = write(tmp_path / "m.safetensors", {"w": ("F32", np.ones(3, np.float32))})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError) as caught:
            SafetensorsTensors([path])
        assert "\n" not in str(caught.value)


def test_a_name_that_is_there_twice_is_refused(tmp_path):
    text = b'{"w": %b, "w": %b}' % (json.dumps(GOOD).encode(), json.dumps(GOOD).encode())
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))
    with pytest.raises(CheckpointError, match="no valid JSON"):
        SafetensorsTensors([tmp_path / "m.safetensors"])


def test_what_is_not_there_is_named(tmp_path):
    path = write(tmp_path / "m.safetensors", {"w": ("F32", np.ones((3, 2), np.float32))})
    tensors = SafetensorsTensors([path])
    with pytest.raises(CheckpointError, match="no tensor 'nothing'"):
        tensors.load("nothing")
    for start, stop in ((-1, 2), (0, 4), (2, 1)):
        with pytest.raises(CheckpointError, match="outside its shape"):
            tensors.load_rows("w", start, stop)


def test_overlapping_tensors_are_refused(tmp_path):
    entries = {"a": GOOD, "b": {**GOOD, "data_offsets": [8, 24]}}
    text = json.dumps(entries).encode()
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(32))
    with pytest.raises(CheckpointError, match="overlap"):
        SafetensorsTensors([tmp_path / "m.safetensors"])


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_flipped_bytes_load_or_are_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    write(path, {"w": ("F32", np.ones((2, 3), np.float32)), "v": ("BF16", np.ones(4, ml_dtypes.bfloat16))})
    damaged = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))
    try:
        tensors = SafetensorsTensors([path])
        for name in tensors:
            tensors.load(name)
    except CheckpointError as error:
        assert "\n" not in str(error)


def test_a_damaged_file_is_named_with_its_folder(tmp_path):
    """Drafts, streams and checkpoints all call theirs model.safetensors, and one command may read three."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\xff" * 8 + b"{}")
    with pytest.raises(CheckpointError) as refused:
        SafetensorsTensors([path])
    assert str(refused.value).startswith(f"{path} announces a header of ")
