"""Adapters beside resident models: what PEFT computes, what merging gives, nothing changed without one."""

import contextlib
import gc
import hashlib
import json
import shutil
import weakref

import numpy as np
import pytest
from onnxruntime import AdapterFormat, OrtValue
from safetensors.numpy import save_file

from edgesdk.backends import resident_adapters
from edgesdk.backends.onnx_adapter_file import read_onnx_adapter
from edgesdk.bundle.adapter_record import adapter_file_name
from edgesdk.bundle.reader import open_bundle
from edgesdk.errors import BundleError, CapacityError, DeviceError, EmitError
from edgesdk.load_model import load
from edgesdk_converters.convert import ConvertOptions, convert
from tests.converters.adapters.conftest import ADAPTERS, ATTENTION, TINY, base_of, random_tensors, reference
from tests.converters.adapters.test_merge_adapter import assert_close
from tests.converters.adapters.test_runtime_adapters import CHOICES, GREEDY, RUNS, TEXT, both_and_merged

BACKENDS = ("onnxruntime", "onnxruntime_genai")


def written(source, folder, recipe="f32", **given):
    options = ConvertOptions(targets=("onnx",), recipes=(recipe,), context=64, prove=False, **given)
    convert(str(source), folder, options)
    return folder


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Two adapters of different products beside the tiny llama, and what each choice is merged."""
    root = tmp_path_factory.mktemp("resident")
    first, second = ADAPTERS / "llama-patterns", root / "second"
    shutil.copytree(first, second)
    tensors = random_tensors({name: shape for name, shape in ATTENTION.items() if "q_proj" in name}, seed=7)
    save_file(tensors, second / "adapter_model.safetensors")
    config = '{"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": ["q_proj"]}'
    (second / "adapter_config.json").write_text(config)
    made = {}
    for name, given in both_and_merged(first, second).items():
        made[name] = written(TINY / "llama", root / "bundles" / name, **given)
    return made


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", RUNS)
def test_an_adapter_is_what_peft_computes(name, backend, tmp_path):
    sequences, expected = reference(name)
    folder = written(base_of(name), tmp_path / "out", adapters=(f"a={ADAPTERS / name}",))
    with load(folder, backend=backend) as model:
        assert_close([model.score(sequence, adapter="a") for sequence in sequences], expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_at_run_time_is_merged_and_none_is_the_model(bundles, backend):
    with load(bundles["both"], backend=backend) as model:
        for name, choice in [*CHOICES.items(), ("none", None), ("none", {"first": 0.0})]:
            with load(bundles[name], backend=backend) as merged:
                expected = merged.score(TEXT)
                found = model.score(TEXT, adapter=choice)
                if name == "none":
                    assert np.array_equal(found, expected)
                assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
                tokens = merged.generate(TEXT, **GREEDY).tokens
                assert model.generate(TEXT, adapter=choice, **GREEDY).tokens == tokens
        assert model.receipt.adapters == ("first", "second")


@pytest.mark.parametrize("backend", BACKENDS)
def test_sequences_of_one_model_have_their_own(bundles, backend):
    """More sums at once than are kept, and each again after the others."""
    gates = [(0.1 * i, 1.0) for i in range(1, 8)] + [(1.0,), (), (0.0, 1.0)]
    with load(bundles["both"], backend=backend) as model:
        alone = []
        for each in gates:
            sequence = model.backend.new_sequence()
            sequence.use_gates(each)
            alone.append(sequence.score(np.asarray(TEXT, np.int32)))
            sequence.close()
        sequences = [model.backend.new_sequence() for _ in gates]
        for sequence, each in zip(sequences, gates, strict=True):
            sequence.use_gates(each)
        for i in range(len(TEXT)):  # in turn, a token each
            for sequence, expected in zip(sequences, alone, strict=True):
                found = sequence.extend(np.asarray(TEXT[i : i + 1], np.int32))
                np.testing.assert_allclose(found, expected[i], rtol=1e-4, atol=1e-4)
        with pytest.raises(CapacityError, match="holds tokens of another adapter"):
            sequences[0].use_gates(())
        sequences[0].truncate(0)
        sequences[0].use_gates(())
        np.testing.assert_array_equal(sequences[0].score(np.asarray(TEXT, np.int32)), alone[8])
        with pytest.raises(DeviceError, match="adapter 4 of the bundle has no file"):
            model.backend.new_sequence().use_gates((0.0, 0.0, 0.0, 1.0))
        for sequence in sequences:
            sequence.close()
        with pytest.raises(DeviceError, match="the sequence was closed"):
            sequence.use_gates((1.0,))


def test_sums_that_made_room_while_in_use_are_gone_later(bundles):
    with load(bundles["both"], backend="onnxruntime_genai") as model:
        sequences = [model.backend.new_sequence() for _ in range(8)]
        for i, sequence in enumerate(sequences):
            sequence.use_gates((0.1 * i + 0.1, 1.0))
            sequence.extend(np.asarray(TEXT, np.int32))
        native = model.backend._adapters.native
        for sequence in sequences:
            sequence.close()
        last = model.backend.new_sequence()
        last.use_gates((0.5, 0.5))
        last.extend(np.asarray(TEXT, np.int32))
        last.close()
        loaded = 0
        for i in range(1, 10):
            with contextlib.suppress(RuntimeError):
                native.unload(f"mixture {i}")
                loaded += 1
        assert loaded == resident_adapters.MOST_MIXTURES


@pytest.mark.parametrize("recipe", ["w8", "w8-exact", "w4b32-round", "f16"])
def test_the_model_stays_what_it_is(recipe, tmp_path):
    adapter = ADAPTERS / "llama-patterns"
    plain = written(TINY / "llama", tmp_path / "plain", recipe)
    beside = written(TINY / "llama", tmp_path / "beside", recipe, adapters=(f"a={adapter}",))
    with load(plain, backend="onnxruntime") as model:
        expected = model.score(TEXT)
    with load(beside, backend="onnxruntime") as model:
        assert np.array_equal(model.score(TEXT), expected)
        assert np.abs(model.score(TEXT, adapter="a") - expected).max() > 0.01 * np.abs(expected).max()


def test_bytes_added_are_the_adapters_own(bundles):
    """Beside it only what names its inputs: fused products are no reason for zeros."""
    manifest = open_bundle(bundles["both"]).manifest
    for record in manifest.adapters:
        (file,) = (f for name, f in manifest.files.items() if name.endswith(adapter_file_name(record)))
        assert record.size_bytes < file.size_bytes < record.size_bytes + 200 * record.products + 200


def test_a_recipe_cannot_make_integers_of_an_adapter(tmp_path):
    recipe = tmp_path / "own.json"
    rule = {"pattern": "*.lora_a", "scheme": {"bits": 8, "block": None, "algorithm": "round"}}
    recipe.write_text(json.dumps({"name": "own", "rules": [rule, {"pattern": "*", "scheme": None}]}))
    with pytest.raises(EmitError, match="adapter files of the target onnx hold floating point numbers"):
        written(TINY / "llama", tmp_path / "out", str(recipe), adapters=(str(ADAPTERS / "llama-patterns"),))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("backend", BACKENDS)
def test_files_of_strangers_are_refused(bundles, backend, tmp_path):
    folder = tmp_path / "changed"
    shutil.copytree(bundles["both"], folder)
    record = open_bundle(folder).manifest.adapters[1]
    path = folder / "variants" / "onnx-f32" / adapter_file_name(record)
    whole = path.read_bytes()
    shape = whole.index(np.asarray((64, 4), "<i8").tobytes())  # of a matrix A
    large = whole[:shape] + np.asarray((64, 1 << 30), "<i8").tobytes() + whole[shape + 16 :]
    turned = whole[:shape] + np.asarray((4, 64), "<i8").tobytes() + whole[shape + 16 :]
    renamed = whole.replace(b".lora_A", b".lora_Z", 1)
    for content, says in (
        (large, "its shape .* needs others"),
        (turned, "without the other half of its term"),
        (renamed, "without the other half of its term"),
        (whole[: len(whole) // 2], "is damaged"),
        (b"", "cannot be read"),
        (b"\0" * 64, "is damaged"),
    ):
        path.write_bytes(content)
        rewrite_digest(folder, path)
        with pytest.raises(BundleError, match=says) as error:
            load(folder, backend=backend)
        assert "\n" not in str(error.value)


def test_tensors_that_lie_in_one_place_are_refused(tmp_path):
    """A sum copies each of them: a small file could ask for any amount of memory."""
    path = tmp_path / "a.onnx_adapter"
    file = AdapterFormat()
    arrays = {f"{i}.lora_A": np.full((16, 16), i, np.float32) for i in range(1, 9)}
    file.set_parameters({name: OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()})
    file.export_adapter(str(path))
    found = read_onnx_adapter(path)
    assert sorted(found) == sorted(arrays)
    del found
    content = bytearray(path.read_bytes())
    places = [content.index(array.tobytes()) - 4 for array in arrays.values()]  # lengths of the vectors
    last, pointers = max(places), 0
    for at in range(0, len(content) - 3, 4):
        if at + int.from_bytes(content[at : at + 4], "little") in places:
            content[at : at + 4] = (last - at).to_bytes(4, "little")
            pointers += 1
    assert pointers >= 8
    shapes = np.asarray((16, 16), "<i8").tobytes()
    content = content[:last] + (content[last:].ljust(4 + 4 * 32 * 32, b"\0"))
    content[last : last + 4] = (4 * 32 * 32).to_bytes(4, "little")
    path.write_bytes(content.replace(shapes, np.asarray((32, 32), "<i8").tobytes()))
    with pytest.raises(BundleError, match="its tensors are larger than the file"):
        read_onnx_adapter(path)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_closed_model_lets_go_of_its_adapters(bundles, backend, monkeypatch):
    """Windows removes no file that is mapped."""
    mapped = []

    def read(path):
        found = read_onnx_adapter(path)
        mapped.extend(weakref.ref(array) for array in found.values())
        return found

    monkeypatch.setattr(resident_adapters, "read_onnx_adapter", read)
    gc.disable()
    try:
        model = load(bundles["both"], backend=backend)
        for choice in CHOICES.values():
            model.score(TEXT, adapter=choice)
        backend = model.backend
        assert any(ref() is not None for ref in mapped)
        model.close()
        assert not any(ref() is not None for ref in mapped)
        assert backend is not None
    finally:
        gc.enable()


def test_an_adapter_of_another_model_is_refused(bundles, tmp_path):
    folder = tmp_path / "changed"
    shutil.copytree(bundles["both"], folder)
    records = open_bundle(folder).manifest.adapters
    path = folder / "variants" / "onnx-f32" / adapter_file_name(records[0])
    content = path.read_bytes().replace(b"layers.0.q.", b"layers.7.q.")
    path.write_bytes(content)
    rewrite_digest(folder, path)
    with pytest.raises(BundleError, match=r"'layers.7.q.lora_[AB]'.*which its model has no input for"):
        load(folder, backend="onnxruntime")


@pytest.mark.parametrize(("name", "says"), [(b".rank", "which adapters"), (b"input_ids", "takes")])
def test_names_that_are_no_text_are_one_line(bundles, name, says, tmp_path):
    folder = tmp_path / "changed"
    shutil.copytree(bundles["both"], folder)
    path = folder / "variants" / "onnx-f32" / "model.onnx"
    path.write_bytes(path.read_bytes().replace(name, b"\xfd" + name[1:]))
    rewrite_digest(folder, path)
    with pytest.raises(DeviceError, match=says) as error:
        load(folder, backend="onnxruntime")
    assert "\n" not in str(error.value)


def rewrite_digest(folder, path):
    """What a stranger's manifest would say of the file."""
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    entry = manifest["files"][path.relative_to(folder).as_posix()]
    entry["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    entry["size_bytes"] = path.stat().st_size
    file.write_text(json.dumps(manifest))
