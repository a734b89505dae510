"""No path runs on another device than its receipt says: each runtime's own profile is asked.

One row for each way to run a bundle; those whose package or device is not here are skipped with the reason.
"""

import contextlib
import importlib.util
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

import edgesdk
from edgesdk.backends import onnxruntime_genai
from edgesdk.backends.aligned_array import aligned_array
from edgesdk.backends.cell_arrays import allocate_cells, cell_views
from edgesdk.backends.litert import compiled
from edgesdk.backends.litert.graph_operations import read_signature
from edgesdk.backends.litert.open_litert import open_compiled, open_compiled_on_gpu, open_interpreter
from edgesdk.backends.litert.operator_profiler import OperatorProfiler
from edgesdk.backends.opened import OpenRequest
from edgesdk.backends.step_buffers import StepArrays
from edgesdk.bundle.reader import open_bundle
from edgesdk.bundle.step_contract import step_contracts
from edgesdk.bundle.step_names import has_few_columns, litert_tensors
from edgesdk.errors import DeviceError

TINY = Path(__file__).parents[2] / "data" / "tiny" / "llama"
PROMPT = [5, 17, 211, 40, 99, 3]
GREEDY = {"temperature": 0.0, "repetition_penalty": 1.0, "ignore_eos": True, "max_tokens": 3}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    from edgesdk_converters.convert import ConvertOptions, convert

    targets = ["litert", "litert-static", "onnx", "onnx-step"]
    if importlib.util.find_spec("coremltools") is not None:
        targets.append("coreml")
    options = ConvertOptions(tuple(targets), ("f32", "w8-round"), 64, prove=False)
    return convert(str(TINY), tmp_path_factory.mktemp("profiles") / "bundle", options)


def load(bundle, backend, variant):
    try:
        return edgesdk.load(bundle, backend=backend, variant=variant, strict=True, threads=1)
    except DeviceError as error:
        if backend.startswith(("onnxruntime-webgpu", "onnxruntime-qnn", "onnxruntime_genai")):
            pytest.skip(str(error))
        raise


def nodes_by_provider(files):
    """How many of the nodes that ran did so on each execution provider, by ONNX Runtime's profiles."""
    counts = {}
    for file in files:
        for event in json.loads(file.read_text(encoding="utf-8")):
            provider = event.get("args", {}).get("provider")
            if event.get("cat") == "Node" and provider:
                counts[provider] = counts.get(provider, 0) + 1
    return counts


@pytest.fixture
def profiles(monkeypatch, tmp_path):
    """Has every session of ONNX Runtime write a profile; returns what ends them and lists the files."""
    import onnxruntime

    sessions = []

    class Profiled(onnxruntime.InferenceSession):
        def __init__(self, path, options, **others):
            options.enable_profiling = True
            options.profile_file_prefix = str(tmp_path / f"run{len(sessions)}")
            sessions.append(self)
            super().__init__(path, options, **others)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Profiled)

    def finish():
        for session in sessions:
            session.end_profiling()
        return sorted(tmp_path.glob("run*.json"))

    return finish


@pytest.mark.parametrize(
    ("backend", "variant"),
    [
        ("onnxruntime", "onnx-f32"),
        ("onnxruntime", "onnx-w8-round"),
        ("onnxruntime-step", "onnx-step-f32"),
        ("onnxruntime-step", "onnx-step-w8-round"),
        pytest.param("onnxruntime-webgpu", "onnx-step-f32", marks=pytest.mark.gpu),
        pytest.param("onnxruntime-webgpu", "onnx-step-w8-round", marks=pytest.mark.gpu),
    ],
)
def test_onnxruntime(bundle, profiles, backend, variant):
    with load(bundle, backend, variant) as model:
        model.generate(PROMPT, **GREEDY)
        receipt = model.receipt
        ran = nodes_by_provider(profiles())
    check_providers(receipt, ran)


@pytest.mark.qnn
def test_the_hexagon_processor(npu_bundle, profiles):
    with load(npu_bundle, "onnxruntime-qnn", "onnx-npu-w8") as model:
        model.generate(PROMPT[:1], **{**GREEDY, "max_tokens": 1})
        receipt = model.receipt
        ran = nodes_by_provider(profiles())
    assert receipt.device == "npu"
    check_providers(receipt, ran)


def check_providers(receipt, ran):
    """All on the receipt's provider where its share is whole; else some, and the rest on the CPU."""
    assert ran.get(receipt.provider), f"nothing ran on {receipt.provider}: {ran}"
    if receipt.accelerated_share == 1.0:
        assert set(ran) == {receipt.provider}
    else:
        assert set(ran) == {receipt.provider, "CPUExecutionProvider"}
        assert any("runs on the CPU" in note for note in receipt.notes)


def test_onnxruntime_genai(bundle, monkeypatch, tmp_path):
    package = pytest.importorskip("onnxruntime_genai", reason="needs the extra 'genai'")

    class Config(package.Config):
        def overlay(self, text):
            settings = json.loads(text)
            settings["model"]["decoder"]["session_options"]["enable_profiling"] = str(tmp_path / "run")
            super().overlay(json.dumps(settings))

    profiled = SimpleNamespace(**{**vars(package), "Config": Config})
    monkeypatch.setattr(onnxruntime_genai, "_import", lambda: profiled)
    with load(bundle, "onnxruntime_genai", "onnx-f32") as model:
        model.generate(PROMPT, **GREEDY)
        receipt = model.receipt
    # It has no call that ends a profile; the file is complete when the session is gone.
    ran = nodes_by_provider(tmp_path.glob("run*.json"))
    assert set(ran) == {receipt.provider} == {"CPUExecutionProvider"}
    assert receipt.device == "cpu"


def litert_events(request):
    """The operators of a step of one token, as LiteRT's profiler reports them."""
    variant = request.variant
    shape = min(variant.steps)
    contracts = step_contracts(request.bundle.manifest, variant)
    path = request.bundle.file(variant.entry)
    graph = read_signature(path, shape.signature)
    tensors = litert_tensors(contracts[shape.stack], few=has_few_columns(graph.inputs))
    arrays = StepArrays(contracts).buffers(shape)
    named = {tensor.name: arrays.port(tensor.port.name) for tensor in tensors.ports_out}
    # Zeros, so that the order of a mask makes no difference.
    named |= {
        tensor.name: aligned_array(tensor.dtype, *tensor.shape(shape)) for tensor in tensors.inputs_of(shape)
    }
    cells = allocate_cells(contracts[shape.stack].groups, shape.cells)
    for parts, held in ((tensors.cells, cells), (tensors.new, arrays.kv_new)):
        named |= dict(zip([part.name for part in parts], cell_views(parts, held), strict=True))
    profiler = OperatorProfiler(path, graph, named, threads=1, weight_cache=None)
    try:
        return graph, profiler.profile()[1]
    finally:
        profiler.close()


@pytest.mark.parametrize("variant", ["litert-f32", "litert-w8-round", "litert-static-w8-round"])
def test_litert_on_the_cpu(bundle, variant):
    """XNNPACK reports its own operators; LiteRT reports, by their place in the graph, those that it kept."""
    opened = open_bundle(bundle)
    request = OpenRequest(opened, opened.variant(variant), 1)
    found = open_compiled(request)
    graph, events = litert_events(request)
    kept = [graph.operations[event.node].kind for event in events if event.node is not None]
    assert found.provider == "XNNPACK"
    assert found.accelerated_share == (None if kept else 1.0)
    # The rows of tables are all that XNNPACK leaves: no product, no attention.
    assert set(kept) <= {"GATHER"}
    assert len(events) - len(kept) > 10 * len(kept)


def test_litert_interpreter(bundle):
    opened = open_bundle(bundle)
    found = open_interpreter(OpenRequest(opened, opened.variant("litert-f32"), 1))
    shape = min(found.model.shapes)
    found.model.run(shape, allocate_cells(found.model.contracts[shape.stack].groups, shape.cells))
    assert found.provider == "XNNPACK"
    # Delegates are operators of the graph, and this one has no other.
    assert any(op["op_name"] == "DELEGATE" for op in found.model._interpreter._get_ops_details())


@pytest.mark.gpu
def test_litert_on_a_gpu(bundle, monkeypatch, capfd):
    """LiteRT's profiler does not run there: its log names the delegate of every graph, and no other one."""
    opened = open_bundle(bundle)
    request = OpenRequest(opened, opened.variant("litert-static-f32"), 1, "gpu")
    monkeypatch.setattr(compiled, "caught_native_log", contextlib.nullcontext)
    try:
        found = open_compiled_on_gpu(request)
    except DeviceError as error:
        pytest.skip(f"needs a GPU or a software driver: {error}")
    log = capfd.readouterr().err
    # Every operator is in a delegate, by LiteRT's own count.
    assert (found.provider, found.accelerated_share) == ("LiteRT GPU", 1.0)
    assert len(re.findall("Initializing (?:WebGPU|OpenCL|Metal)-based API", log)) == len(
        request.variant.steps
    )
    assert "XNNPACK delegate" not in log


def test_core_ml_interpreter(bundle, monkeypatch):
    """Numpy computes; Core ML itself is never asked."""
    coremltools = pytest.importorskip("coremltools", reason="needs the extra 'coreml'")

    def refuse(*_, **__):
        raise AssertionError("Core ML was asked")

    monkeypatch.setattr(coremltools.models.MLModel, "__init__", refuse)
    with load(bundle, "coreml-interpreter", "coreml-f32") as model:
        model.generate(PROMPT[:2], **{**GREEDY, "max_tokens": 1})
        assert (model.receipt.provider, model.receipt.device) == ("interpreter", "cpu")
