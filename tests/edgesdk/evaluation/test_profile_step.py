"""Profiles of tiny bundles by every backend that has a profiler."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgesdk.backends.aligned_array import aligned_floats
from edgesdk.backends.litert.graph_operations import read_signature
from edgesdk.backends.litert.open_litert import open_compiled
from edgesdk.backends.litert.operator_profiler import OperatorProfiler
from edgesdk.backends.opened import OpenRequest
from edgesdk.bundle.reader import open_bundle
from edgesdk.errors import CapacityError, DeviceError, UnsupportedOption
from edgesdk.evaluation.profile_litert import profile_litert
from edgesdk.evaluation.profile_onnx import output_name, weight_bytes
from edgesdk.evaluation.profile_step import _fill, _new_cells, pick_shape, profile_step

TINY = Path(__file__).parents[2] / "data" / "tiny" / "llama"
LAYERS = 2
# Both layers and the head, by the tiny configuration: q, k, v, o, gate, up, down, embedding.
MATRIX_WEIGHTS = LAYERS * (64 * (64 + 2 * 32) + 64 * 64 + 3 * 64 * 96) + 288 * 64


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    pytest.importorskip("onnx", reason="needs the extra 'convert'")
    from edgesdk_converters.convert import ConvertOptions, convert

    options = ConvertOptions(("litert", "onnx", "onnx-step"), ("f32", "w8-round"), 128, prove=False)
    return convert(str(TINY), tmp_path_factory.mktemp("profile") / "bundle", options)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("target", ["litert", "onnx", "onnx-step"])
@pytest.mark.parametrize(("recipe", "width"), [("f32", 4), ("w8-round", 1)])
def test_times_and_bytes_add_up(bundle, target, recipe, width):
    found = profile_step(bundle, variant=f"{target}-{recipe}", cells=64, repeat=3, threads=1)
    attributed = sum(op.duration_us for op in found.operations)
    assert attributed > 0
    assert attributed + found.unattributed_us == pytest.approx(found.profiled_us)
    assert {op.layer for op in found.operations} == {None, *range(LAYERS)}
    parts = {(op.part, op.layer) for op in found.operations if op.weight_bytes > 1000 * width}
    assert {(p, n) for n in range(LAYERS) for p in ("q_k_v", "gate_up", "down")} <= parts
    # A step in ONNX unpacks int8 weights by a node of their own.
    assert parts & {("logits", None), ("embed", None)}
    # Scales, norms and rows of the embedding and of rotary tables come on top of the matrices.
    assert MATRIX_WEIGHTS * width <= found.weight_bytes <= MATRIX_WEIGHTS * width * 1.25 + 20_000
    assert found.cell_bytes == LAYERS * 2 * 2 * found.cells * 16 * 4
    floor_us = (found.weight_bytes + found.cell_bytes) / found.bandwidth_bytes_per_s * 1e6
    assert found.roofline_share == pytest.approx(floor_us / found.step_us)


def test_a_step_of_many_tokens_is_profiled(bundle):
    found = profile_step(bundle, backend="litert", tokens=100, cells=1, repeat=2, threads=1)
    assert (found.tokens, found.cells) == (128, 128)
    assert {op.layer for op in found.operations} == {None, *range(LAYERS)}


@pytest.mark.parametrize("target", ["litert", "onnx", "onnx-step"])
def test_fewer_cells_than_asked_for_are_noted(bundle, target):
    found = profile_step(bundle, variant=f"{target}-f32", cells=1000, repeat=2, threads=1)
    assert found.notes[0] == f"{found.cells} cells are the most there are, not 1000"
    assert found.cells in (127, 128)


def damaged(bundle, folder, *names):
    """A copy whose manifest says of these LiteRT variants what their files are not."""
    copy = shutil.copytree(bundle, folder)
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    for variant in manifest["variants"]:
        if variant["name"] in names:
            variant["cell_type"] = "int8"
    (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return copy


def test_what_cannot_be_profiled_is_passed_over_unless_it_was_named(bundle, tmp_path):
    copy = damaged(bundle, tmp_path / "copy", "litert-f32")
    found = profile_step(copy, cells=64, repeat=2, threads=1)
    assert found.variant == next(
        v.name for v in open_bundle(copy).manifest.variants if v.name != "litert-f32"
    )
    assert found.notes[0].startswith("litert-f32 is passed over: the manifest says that cells are int8")
    with pytest.raises(DeviceError, match="cells are int8"):
        profile_step(copy, variant="litert-f32", repeat=2)
    both = damaged(bundle, tmp_path / "both", "litert-f32", "litert-w8-round")
    with pytest.raises(DeviceError, match="cells are int8"):
        profile_step(both, backend="litert", repeat=2)


@pytest.mark.parametrize(("kind", "head_bytes"), [("int8", 16 + 4), ("float16", 32)])
def test_other_cells_are_profiled(tmp_path, kind, head_bytes):
    from edgesdk_converters.convert import ConvertOptions, convert

    options = ConvertOptions(("litert",), ("w8-round",), 128, prove=False, cells=kind)
    found = profile_step(convert(str(TINY), tmp_path / "bundle", options), repeat=2, threads=1)
    assert {op.layer for op in found.operations} == {None, *range(LAYERS)}
    assert found.cell_bytes == LAYERS * 2 * 2 * found.cells * head_bytes


def test_the_profiled_graph_computes_what_the_backend_does(bundle):
    opened = open_bundle(bundle)
    request = OpenRequest(opened, opened.variant("litert-w8-round"), 1)
    model = open_compiled(request).model
    shape = pick_shape(request.variant, 8, 1)
    cells = _new_cells(model.contracts[shape.stack], shape.cells)
    arrays = _fill(model, request, shape)
    model.run(shape, cells)
    logits = arrays.logits.copy()
    arrays.logits[:] = np.nan
    profile_litert(request, shape, arrays, cells, 1)
    np.testing.assert_array_equal(arrays.logits, logits)
    model.close()


def test_what_cannot_be_profiled_is_one_line(bundle):
    with pytest.raises(UnsupportedOption, match="backend 'coreml' cannot be profiled; expected litert, "):
        profile_step(bundle, backend="coreml")
    with pytest.raises(UnsupportedOption, match=r"found the formats litert, expected .* for onnxruntime"):
        profile_step(bundle, variant="litert-f32", backend="onnxruntime")
    with pytest.raises(CapacityError, match="129 tokens do not fit a step of litert-f32, which holds 128"):
        profile_step(bundle, tokens=129)
    with pytest.raises(UnsupportedOption, match="cells is 0"):
        profile_step(bundle, cells=0)


def test_a_damaged_file_is_one_line(bundle, tmp_path):
    opened = open_bundle(bundle)
    whole = opened.file(opened.variant("litert-f32").entry).read_bytes()
    for name, data in (
        ("cut", whole[:2000]),
        ("noise", np.random.default_rng(0).bytes(5000)),
        ("empty", b""),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(DeviceError, match=r"no readable LiteRT file|no signature"):
            read_signature(path, "step_1")
    assert read_signature(opened.file(opened.variant("litert-f32").entry), "step_1").index == 0


def test_a_file_that_litert_refuses_is_one_line(bundle, tmp_path):
    path = tmp_path / "bad.tflite"
    path.write_bytes(b"nothing")
    opened = open_bundle(bundle)
    graph = read_signature(opened.file(opened.variant("litert-f32").entry), "step_1")
    arrays = {name: aligned_floats(16) for name in (*graph.inputs, *graph.outputs)}
    with pytest.raises(DeviceError, match=r"LiteRT cannot load bad\.tflite with its profiler"):
        OperatorProfiler(path, graph, arrays, threads=1, weight_cache=None)


def test_gathered_tables_count_by_row(bundle):
    opened = open_bundle(bundle)
    path = opened.file(opened.variant("onnx-f32").entry)
    assert weight_bytes(path, 3)["embedded"] == 3 * 64 * 4
    assert output_name("Mul/layers.0.activated/QuickGeluFusion/") == "layers.0.activated"
    assert output_name("plain") == "plain"
