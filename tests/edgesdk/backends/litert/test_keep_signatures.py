import hashlib

import numpy as np
import pytest

from edgesdk.backends.cell_arrays import allocate_cells
from edgesdk.backends.litert.keep_signatures import keep_signatures, signature_names
from edgesdk.backends.litert.native_model import NativeModel
from edgesdk.backends.litert.open_litert import open_compiled
from edgesdk.backends.litert.signature_models import SignatureModels
from edgesdk.backends.opened import OpenRequest
from edgesdk.errors import BundleError


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
