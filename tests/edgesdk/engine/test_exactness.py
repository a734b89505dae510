"""On tiny models as executed: batched is alone, chunked whole, preempted uninterrupted, forked apart."""

from pathlib import Path

import numpy as np
import pytest

import edgesdk
from edgesdk.engine.engine import Engine
from edgesdk.errors import SnapshotError, UnsupportedOption

TINY = Path(__file__).parents[2] / "data" / "tiny"
CONTEXT = 128
GREEDY = {"temperature": 0.0, "repetition_penalty": 1.0, "ignore_eos": True}
NEAR_TIE = 1e-3


@pytest.fixture(scope="module", params=["llama", "gemma3", "mistral", "gemma4", "lfm2"])
def tiny(request, converted_once):
    """A float32 bundle: without windows, with some, with nothing else, shared cells, convolutions."""
    targets = (
        ("litert", "onnx-step") if request.param in ("gemma4", "lfm2") else ("litert", "onnx", "onnx-step")
    )
    return converted_once(
        TINY / request.param, targets=targets, recipes=("f32",), context=CONTEXT, prove=False
    )


@pytest.fixture(scope="module", params=["litert", "onnxruntime-step"])
def loaded(request, tiny):
    with edgesdk.load(tiny, backend=request.param, strict=True, threads=1) as model:
        yield model


@pytest.fixture(scope="module")
def asked(loaded):
    """Prompts of many lengths, with what the model answers them one by one."""
    random = np.random.default_rng(3)
    size = loaded.bundle.manifest.decoder.vocab_size
    prompts = [random.integers(3, size, 3 + 5 * i).tolist() for i in range(12)]
    return [(p, loaded.generate(p, max_tokens=24, **GREEDY).tokens) for p in prompts]


def same(model, prompt, found, expected):
    """Equal, or apart from where the two best logits were as good as equal."""
    pairs = enumerate(zip(found, expected, strict=True))
    at = next((i for i, (a, b) in pairs if a != b), None)
    if at is None:
        return True
    logits = model.score([*prompt, *expected[:at]])[-1]
    return abs(logits[found[at]] - logits[expected[at]]) < NEAR_TIE


@pytest.mark.parametrize("budget", [8, 32, 128])
@pytest.mark.parametrize("prefix_mb", [0, None])
def test_batched_and_chunked_is_alone(loaded, asked, budget, prefix_mb):
    with Engine(loaded, token_budget=budget, prefix_cache_mb=prefix_mb, check_steps=True) as engine:
        running = [engine.submit(p, max_tokens=24, **GREEDY) for p, _ in asked]
        found = [g.result(60).tokens for g in running]
        assert engine.metrics.steps < 12 * 24
    for (prompt, expected), tokens in zip(asked, found, strict=True):
        assert same(loaded, prompt, tokens, expected)


def test_preempted_and_recomputed_is_uninterrupted(loaded, asked):
    with Engine(loaded, token_budget=32, check_steps=True) as engine:
        long = [p for p, _ in asked[-6:]]
        running = [engine.submit(p, max_tokens=60, **GREEDY) for p in long]
        found = [g.result(60).tokens for g in running]
        windowed = all(layer.window for layer in loaded.bundle.manifest.decoder.layers)
        assert windowed or engine.metrics.preemptions > 0
    for prompt, tokens in zip(long, found, strict=True):
        assert same(loaded, prompt, tokens, loaded.generate(prompt, max_tokens=60, **GREEDY).tokens)


def test_forked_and_restored_is_apart(loaded, asked, tmp_path):
    with Engine(loaded, token_budget=32, check_steps=True) as engine:
        (prompt, expected), (more, _) = asked[5], asked[2]
        assert {a.tokens for a in engine.submit(prompt, n=4, max_tokens=24, **GREEDY).results(60)} == {
            engine.generate(prompt, max_tokens=24, **GREEDY).tokens
        }
        session = engine.session()
        session.append(prompt)
        copy = session.fork()
        first = session.generate(max_tokens=24, **GREEDY).tokens
        second = copy.generate(more, max_tokens=24, **GREEDY).tokens
        if all(layer.window for layer in loaded.bundle.manifest.decoder.layers):
            with pytest.raises(SnapshotError, match="window"):
                session.save(tmp_path / "state")
            restored = session.generate(max_tokens=8, **GREEDY).tokens
        else:
            session.save(tmp_path / "state")
            restored = engine.load_session(tmp_path / "state").generate(max_tokens=8, **GREEDY).tokens
    assert same(loaded, prompt, first, expected)
    whole = [*prompt, *more]
    assert same(loaded, whole, second, loaded.generate(whole, max_tokens=24, **GREEDY).tokens)
    whole = [*prompt, *first]
    assert same(loaded, whole, restored, loaded.generate(whole, max_tokens=8, **GREEDY).tokens)


def test_backends_with_a_cache_of_their_own_are_refused_by_name(converted_once):
    tiny = converted_once(TINY / "llama", targets=("onnx",), recipes=("f32",), context=CONTEXT, prove=False)
    with (
        edgesdk.load(tiny, backend="onnxruntime", threads=1) as model,
        pytest.raises(UnsupportedOption, match=r"cannot run on onnxruntime, .*continuous batching.* litert"),
    ):
        Engine(model)
