import hashlib
import os
import shutil

import numpy as np
import pytest

from edgesdk.backends.cell_arrays import allocate_cells
from edgesdk.backends.litert.compiled import CompiledStepBackend
from edgesdk.backends.litert.keep_packed import wait_for_all
from edgesdk.backends.litert.keep_signatures import keep_signatures, signature_names
from edgesdk.backends.litert.native_model import NativeModel
from edgesdk.backends.litert.open_litert import open_compiled
from edgesdk.backends.litert.signature_models import SignatureModels
from edgesdk.backends.litert.weight_cache import WeightCache
from edgesdk.backends.opened import OpenRequest
from edgesdk.bundle.reader import open_bundle
from edgesdk.bundle.step_contract import step_contracts
from edgesdk.errors import BundleError, DeviceError


@pytest.fixture(scope="module")
def path(float_bundle):
    return float_bundle.file(float_bundle.variant("litert-f32").entry)


@pytest.mark.parametrize(
    "names",
    [("step_1",), ("step_few",), ("step_many",), ("step_1", "step_many"), ("step_many", "step_few")],
)
def test_what_is_kept_is_what_litert_finds(path, names):
    before = hashlib.sha256(path.read_bytes()).digest()
    whole = NativeModel(path, threads=1, weight_cache=None)
    part = NativeModel(path, threads=1, weight_cache=None, signatures=names)
    assert signature_names(path) == ["step_1", "step_few", "step_many"]
    found = [name for name in signature_names(path) if part.index(name) >= 0]
    assert set(found) == set(names)
    for name in names:
        assert part.names(part.index(name)) == whole.names(whole.index(name))
    part.close()
    whole.close()
    assert hashlib.sha256(path.read_bytes()).digest() == before


def test_a_file_without_the_signature_or_cut_short_is_refused(path, tmp_path):
    with pytest.raises(BundleError, match="no graph"):
        keep_signatures(path, ("step_7",))
    cut = tmp_path / "model.tflite"
    cut.write_bytes(path.read_bytes()[:64])
    with pytest.raises(BundleError):
        keep_signatures(cut, ("step_1",))


def test_packed_weights_are_found_and_a_signature_is_opened_when_it_is_used(
    float_bundle, monkeypatch, tmp_path
):
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path))
    request = OpenRequest(float_bundle, float_bundle.variant("litert-f32"), 1)
    logits = []
    for expected in (NativeModel, SignatureModels):
        opened = open_compiled(request)
        model = opened.model
        assert isinstance(model._model, expected)
        shape = next(each for each in model.shapes if each.tokens == each.rows == 4)
        if expected is SignatureModels:
            assert opened.weight_cache == "hit"
            assert len(model._model._models) == 1
        arrays = model.buffers(shape)
        arrays.tokens[:] = 3, 5, 7, 9
        arrays.positions[:] = range(4)
        arrays.rows[:] = range(4)
        arrays.mask[:, : shape.cells] = -1e9
        arrays.mask[:, shape.cells :] = np.triu(np.full((4, 4), -1e9, np.float32), 1)
        model.run(shape, allocate_cells(model.contracts[shape.stack].groups, shape.cells))
        logits.append(arrays.logits.copy())
        if expected is SignatureModels:
            assert len(model._model._models) == 2
        model.close()
    np.testing.assert_array_equal(logits[0], logits[1])


def few_logits(model):
    shape = next(each for each in model.shapes if each.tokens == each.rows == 4)
    arrays = model.buffers(shape)
    arrays.tokens[:] = 3, 5, 7, 9
    arrays.positions[:] = range(4)
    arrays.rows[:] = range(4)
    arrays.mask[:] = 0
    model.run(shape, allocate_cells(model.contracts[shape.stack].groups, shape.cells))
    return arrays.logits.copy()


@pytest.fixture
def found(float_bundle, tmp_path, monkeypatch):
    """A bundle of the test's own whose packed weights are found, and what a few of its tokens give."""
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "cache"))
    bundle = open_bundle(shutil.copytree(float_bundle.path, tmp_path / "bundle"))
    request = OpenRequest(bundle, bundle.variant("litert-f32"), 1)
    first = open_compiled(request).model
    expected = few_logits(first)
    first.close()
    model = open_compiled(request).model
    assert isinstance(model._model, SignatureModels)
    yield model, bundle.file(request.variant.entry), expected
    model.close()


@pytest.mark.parametrize("what", ["replaced", "deleted"])
def test_what_is_opened_later_is_of_the_file_that_was_loaded(found, what):
    model, path, expected = found
    if what == "replaced":
        data = bytearray(path.read_bytes())
        data[len(data) // 2 :] = bytes(byte ^ 1 for byte in data[len(data) // 2 :])
        path.with_name("other").write_bytes(data)
        path.with_name("other").replace(path)
    else:
        path.unlink()
    np.testing.assert_array_equal(few_logits(model), expected)


def test_a_file_that_was_written_to_is_not_opened_any_more(found):
    model, path, _ = found
    with path.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x07")
    os.utime(path, ns=(1, 1))
    with pytest.raises(DeviceError, match="was written to since it was loaded"):
        few_logits(model)


def test_packed_weights_that_went_are_not_written_by_a_step(found, tmp_path):
    model, _, expected = found
    packed = list(tmp_path.glob("cache/xnnpack/*"))
    assert packed
    for each in packed:
        each.unlink()
    np.testing.assert_array_equal(few_logits(model), expected)
    assert not list(tmp_path.glob("cache/xnnpack/*"))


def test_what_is_packed_first_serves_every_variant_of_the_file(
    converted_once, request, tmp_path, monkeypatch
):
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path))
    source = request.config.rootpath / "tests/data/tiny/llama"
    options = {"targets": ("litert",), "recipes": ("w8-round",), "context": 128, "prove": False}
    bundle = open_bundle(converted_once(source, shallow="0", **options))
    whole, shallow = bundle.manifest.variants
    sizes = []
    for variants in ((whole,), (shallow, whole)):
        for variant in variants:
            open_compiled(OpenRequest(bundle, variant, 1)).model.close()
        wait_for_all()
        (packed,) = tmp_path.glob("xnnpack/*.bin")
        sizes.append(packed.stat().st_size)
        packed.unlink()
    assert sizes[0] == sizes[1]


def test_a_file_that_cannot_be_read_gives_packing_memory_back(float_bundle, tmp_path):
    variant = float_bundle.variant("litert-f32")
    released = []

    class Cache(WeightCache):
        def release(self):
            released.append(True)

    with pytest.raises(BundleError, match="cannot be read"):
        CompiledStepBackend(
            tmp_path / "gone.tflite",
            step_contracts(float_bundle.manifest, variant),
            variant.steps,
            threads=1,
            weight_cache=Cache("", None, None),
        )
    assert released
