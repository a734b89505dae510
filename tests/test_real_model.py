"""SmolLM2-135M-Instruct through the public API: what the README promises, and what theory does."""

import importlib.util

import numpy as np
import pytest

import edgesdk
from edgesdk.bundle.reader import open_bundle

pytestmark = pytest.mark.real

QUESTION = [{"role": "user", "content": "What is the capital of South Korea?"}]
PROMPTS = [
    "Name three primary colours.",
    "How many days are in a leap year?",
    "Write a sentence about rain.",
    "What does HTTP stand for?",
    "Give me a synonym for quick.",
    "Which planet is closest to the sun?",
]
BACKENDS = ["litert", "onnxruntime"] + (
    ["onnxruntime_genai"] if importlib.util.find_spec("onnxruntime_genai") else []
)


@pytest.fixture(scope="module")
def bundle(smollm2_gguf, converted_once):
    """int8 for LiteRT and ONNX, as `edgesdk demo` makes it: without two minutes of calibration."""
    return converted_once(smollm2_gguf, recipes=("w8-round",))


@pytest.fixture(scope="module", params=BACKENDS)
def model(request, bundle):
    with edgesdk.load(bundle, backend=request.param, strict=True) as loaded:
        yield loaded


def test_conversion_meets_its_gate(bundle):
    for variant in open_bundle(bundle).manifest.variants:
        assert variant.parity.perplexity_ratio < 1.03, variant.name
        assert variant.parity.top1_agreement > 0.92, variant.name


def test_it_knows_a_capital(model):
    answer = model.chat(QUESTION, max_tokens=24, temperature=0.0)
    assert answer.text.strip() == "The capital of South Korea is Seoul."
    assert answer.finish_reason == "stop"


def test_streamed_text_is_the_whole_text(model):
    pieces = list(model.chat_stream(QUESTION, max_tokens=24, temperature=0.0))
    assert "".join(p.text for p in pieces) == pieces[-1].completion.text
    assert pieces[-1].completion.text == model.chat(QUESTION, max_tokens=24, temperature=0.0).text


def test_sampling_repeats_with_its_seed(model):
    prompt = model.render_prompt("Tell me a story.")
    answers = [model.generate(prompt, max_tokens=16, temperature=1.0, seed=seed).tokens for seed in (1, 1, 2)]
    assert answers[0] == answers[1] != answers[2]


def test_a_text_scored_twice_scores_the_same(model):
    ids = model.tokenize("The quick brown fox jumps over the lazy dog. " * 8)
    first = model.score(ids)
    np.testing.assert_array_equal(first, model.score(ids))


def test_backends_agree_on_what_is_likely(bundle):
    """int8 activations are rounded differently by each kernel: logits agree in rank, not in digits."""
    text = "Water boils at one hundred degrees Celsius at sea level. " * 6
    logits = {}
    for backend in BACKENDS:
        with edgesdk.load(bundle, backend=backend, strict=True) as loaded:
            logits[backend] = loaded.score(loaded.tokenize(text))
    for backend in BACKENDS[1:]:
        same = logits[backend].argmax(-1) == logits["litert"].argmax(-1)
        assert same.mean() > 0.85, backend
    if "onnxruntime_genai" in logits:  # the same file, the same kernels
        difference = np.abs(logits["onnxruntime_genai"] - logits["onnxruntime"]).max()
        assert difference < 0.05


@pytest.mark.skipif("onnxruntime_genai" not in BACKENDS, reason="onnxruntime-genai is not installed")
def test_genai_writes_what_onnxruntime_writes(bundle):
    answers = {}
    for backend in ("onnxruntime", "onnxruntime_genai"):
        with edgesdk.load(bundle, backend=backend, strict=True) as loaded:
            answers[backend] = [
                loaded.generate(loaded.render_prompt(p), max_tokens=32, temperature=0.0).tokens
                for p in PROMPTS
            ]
    assert answers["onnxruntime"] == answers["onnxruntime_genai"]


def test_a_second_load_finds_its_weights_packed_and_its_files_unchanged(bundle):
    with edgesdk.load(bundle, backend="litert", strict=True) as first:
        assert first.receipt.weight_cache in ("built", "hit")
    with edgesdk.load(bundle, backend="litert", strict=True) as second:
        assert second.receipt.weight_cache == "hit"
        assert second.receipt.integrity == "unchanged"
