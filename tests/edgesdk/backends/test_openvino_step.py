"""OpenVINO on the CPU: the same answers, attention as one operation, nothing reported, caches may break."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import edgesdk
from edgesdk.backends.registry import find_backends
from edgesdk.bundle.reader import open_bundle
from edgesdk.dispatch.candidates import list_candidates
from edgesdk.dispatch.open_candidate import open_candidate
from edgesdk.dispatch.split_steps import SplitStepBackend
from edgesdk.errors import DeviceError
from edgesdk.kv.step_model import StepModel
from edgesdk.model import Model

pytest.importorskip("openvino", reason="needs the extra 'openvino'")
from edgesdk.backends.openvino_step import OpenVinoStepBackend

TINY = Path(__file__).parents[2] / "data" / "tiny"
PROMPT = list(range(5, 45))
QUESTIONS = (
    "What is the capital of South Korea?",
    "How many days are in a leap year?",
    "Write a sentence about rain.",
    "What does HTTP stand for?",
)


@pytest.fixture(scope="module")
def path(converted_once):
    targets = ("litert", "openvino", "onnx-step")
    return converted_once(TINY / "gemma3", targets=targets, recipes=("f32",), context=128, prove=False)


@pytest.fixture
def bundle(path, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "cache"))
    return open_bundle(path)


def answer(model):
    return model.generate(PROMPT, max_tokens=24, temperature=0, ignore_eos=True).tokens


@pytest.mark.parametrize("variant", ["openvino-f32", "onnx-step-f32"])
def test_it_answers_as_litert_does(bundle, variant):
    with edgesdk.load(bundle.path, variant="litert-f32", threads=1) as model:
        expected = answer(model)
    with edgesdk.load(bundle.path, variant=variant, backend="openvino", threads=1, strict=True) as model:
        assert (model.receipt.backend, model.receipt.provider) == ("openvino", "OpenVINO CPU")
        assert model.receipt.accelerated_share == 1.0
        assert answer(model) == expected


def test_prompts_on_it_and_tokens_on_litert(bundle):
    (candidate,) = list_candidates(bundle, find_backends("litert"), variants=[bundle.variant("litert-f32")])
    decode = open_candidate(bundle, candidate, 1).step_backend
    prefill = OpenVinoStepBackend(bundle, bundle.variant("openvino-f32"), "cpu", threads=1)
    both = SplitStepBackend(prefill, decode)
    with edgesdk.load(bundle.path, variant="litert-f32", threads=1) as alone:
        expected = answer(alone)
        assert answer(Model(bundle, StepModel(both, bundle.manifest.decoder, 128), alone.receipt)) == expected
    both.close()


def test_attention_is_one_operation_in_the_open_form(bundle):
    kinds = {}
    for name in ("openvino-f32", "onnx-step-f32"):
        backend = OpenVinoStepBackend(bundle, bundle.variant(name), "cpu", threads=1)
        backend.buffers(backend.shapes[-1])
        kinds[name] = backend.runtime_operations()
        backend.close()
    assert "Softmax" in kinds["onnx-step-f32"]
    assert "Softmax" not in kinds["openvino-f32"]
    assert kinds["openvino-f32"].count("MatMul") == 0


def test_a_device_that_is_not_there_is_one_line(bundle):
    with pytest.raises(DeviceError, match="openvino has no NPU here; it has CPU"):
        OpenVinoStepBackend(bundle, bundle.variant("onnx-step-f32"), "npu", threads=1)


def test_a_damaged_cache_is_built_anew(bundle, tmp_path):
    with edgesdk.load(bundle.path, variant="openvino-f32", backend="openvino", threads=1) as model:
        assert model.receipt.weight_cache == "built"
        expected = answer(model)
    kept = [path for path in (tmp_path / "cache" / "openvino").rglob("*") if path.is_file()]
    assert kept
    with edgesdk.load(bundle.path, variant="openvino-f32", backend="openvino", threads=1) as model:
        assert model.receipt.weight_cache == "hit"
        assert answer(model) == expected
    for each in kept:
        each.write_bytes(each.read_bytes()[:100])
    with edgesdk.load(bundle.path, variant="openvino-f32", backend="openvino", threads=1) as model:
        assert answer(model) == expected


def test_nothing_is_reported(path, tmp_path):
    for name in ("home", "cache"):
        (tmp_path / name).mkdir()
    environment = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    environment |= {"HOME": str(tmp_path / "home"), "EDGESDK_CACHE": str(tmp_path / "cache")}
    script = (
        "import sys, edgesdk\n"
        f"model = edgesdk.load({str(path)!r}, variant='openvino-f32', backend='openvino')\n"
        "model.generate([5], max_tokens=2)\n"
        "assert not [name for name in sys.modules if name.startswith('openvino_telemetry')]\n"
        "import openvino\n"
        "assert openvino.convert_model\n"
    )
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=120)
    assert not list((tmp_path / "home").rglob("*"))


@pytest.mark.real
def test_smollm2_in_float32_says_what_litert_says(smollm2_gguf, converted_once):
    """The recipe `f32` asks OpenVINO for ACCURACY and float32."""
    path = converted_once(smollm2_gguf, targets=("litert", "openvino"), recipes=("f32",), prove=False)
    texts = {}
    for backend in ("litert", "openvino"):
        with edgesdk.load(path, backend=backend, strict=True) as model:
            assert model.receipt.backend == backend
            prompts = [[{"role": "user", "content": question}] for question in QUESTIONS]
            texts[backend] = [model.chat(p, max_tokens=48, temperature=0).tokens for p in prompts]
            long = model.tokenize("Water boils at one hundred degrees Celsius at sea level. " * 40)
            texts[backend].append(model.generate(long, max_tokens=24, temperature=0).tokens)
    assert texts["openvino"] == texts["litert"]
