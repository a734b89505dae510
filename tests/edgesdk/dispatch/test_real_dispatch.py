"""The real model: phases split over two runtimes, and one of them lost in mid-stream."""

from dataclasses import replace

import pytest

import edgesdk
from edgesdk.backends import registry
from edgesdk.dispatch.candidates import list_candidates
from edgesdk.dispatch.join_candidates import join_candidates
from edgesdk.errors import DeviceError
from edgesdk.evaluation.greedy import NEAR_TIE

pytestmark = pytest.mark.real

GREEDY = {"temperature": 0.0, "repetition_penalty": 1.0, "max_tokens": 40, "ignore_eos": True}
QUESTION = "Explain in a few sentences why the sky is blue, and why it is red in the evening."


@pytest.fixture(scope="module")
def smollm2(smollm2_float):
    return smollm2_float


@pytest.fixture(scope="module")
def expected(smollm2):
    """Prompt and answer on LiteRT alone, and the logits by which they were chosen."""
    with edgesdk.load(smollm2, backend="litert", strict=True) as model:
        prompt = model.render_prompt(QUESTION)
        tokens = model.generate(prompt, **GREEDY).tokens
        return prompt, tokens, model.score([*prompt, *tokens])


def check(expected, found):
    prompt, tokens, logits = expected
    for at, (wanted, got) in enumerate(zip(tokens, found, strict=True)):
        if wanted != got:
            row = logits[len(prompt) + at - 1]
            assert row[wanted] - row[got] < NEAR_TIE, f"token {at} differs and is no near-tie"
            return


@pytest.mark.parametrize("pair", [("onnxruntime-step", "litert"), ("litert", "onnxruntime-step")])
def test_split_phases_write_the_text_of_one_backend(smollm2, expected, pair):
    with edgesdk.load(smollm2, backend="litert") as model:
        bundle = model.bundle
        candidates = {c.backend.name: c for c in list_candidates(bundle, registry.find_backends("auto"))}
        joined = join_candidates(bundle, candidates[pair[0]], candidates[pair[1]], 2)
        try:
            split = edgesdk.Model(bundle, joined.model, model.receipt)
            check(expected, split.generate(expected[0], **GREEDY).tokens)
        finally:
            joined.model.close()


@pytest.mark.parametrize("steps", [1, 20])
def test_a_device_lost_in_mid_stream(smollm2, expected, steps, monkeypatch):
    left = [steps]

    def change(backend):
        def open_failing(request):
            opened = backend.open(request)
            run = opened.model.run

            def failing_run(shape, cells):
                left[0] -= 1
                if left[0] < 0:
                    raise DeviceError("device lost")
                run(shape, cells)

            opened.model.run = failing_run
            return opened

        return replace(backend, open=open_failing) if backend.name == "litert" else backend

    without = [b for b in registry.BACKENDS if b.name != "litert-interpreter"]
    monkeypatch.setattr(registry, "BACKENDS", tuple(change(b) for b in without))
    with edgesdk.load(smollm2) as model:
        found = model.generate(expected[0], **GREEDY).tokens
        (incident,) = model.receipt.incidents
    assert incident.successor.backend == "onnxruntime-step"
    check(expected, found)
