"""int8 bundles decode on 64-bit Arm, emulated, and say what they say on x86-64 (docs/devices.md).

Kernels of the two architectures add in different orders, so that a token may differ where the two likeliest
lie closer together than that; from there on the texts are different ones and are not compared. They take
minutes, so they run when asked for: `pytest -m arm`.
"""

import numpy as np
import pytest

import edgesdk
from edgesdk.evaluation.greedy import NEAR_TIE, first_divergence

pytestmark = pytest.mark.arm

TINY_PROMPTS = [[5, 17, 211, 40, 99, 3, 121, 64, 8], [7], list(range(40, 60))]
TINY = ["llama", "gemma3"]
TINY_CONTEXT = 64
TIE = {"litert": 0.1, "onnxruntime": NEAR_TIE, "onnxruntime-step": NEAR_TIE}
"""Logits. LiteRT rounds activations to int8 by row, and the last bit of a sum tips such roundings: 0.057 of
35 was the largest gap seen where texts parted. ONNX Runtime's texts did not part."""
ROUNDING_GAP = 0.1
"""Nats; 0.052 was the largest seen, where the same graph in float32 differs by 2e-6: one rounding that tips
moves a model of 64 channels so far."""
FLOAT_GAP = 1e-4
QUESTIONS = ["What is the capital of France?", "Name three primary colours."]
BACKENDS = {
    "litert": "XNNPACK",
    "onnxruntime": "CPUExecutionProvider",
    "onnxruntime-step": "CPUExecutionProvider",
}


@pytest.fixture(scope="session")
def convert_w8(answer_on_arm, tmp_path_factory):
    """Converts a checkpoint for every backend; asks for the emulator first, because that may skip."""
    pytest.importorskip("onnx", reason="needs the extra 'convert'")
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")
    from edgesdk_converters.convert import ConvertOptions, convert

    def make(source, targets, context):
        recipes = ("w8-round", "f32") if context == TINY_CONTEXT else ("w8-round",)
        options = ConvertOptions(targets=targets, recipes=recipes, context=context, prove=False)
        return convert(str(source), tmp_path_factory.mktemp("w8") / "bundle", options)

    return make


@pytest.fixture(scope="session", params=TINY)
def tiny(request, convert_w8):
    source = request.config.rootpath / "tests/data/tiny" / request.param
    return convert_w8(source, ("litert", "onnx", "onnx-step"), TINY_CONTEXT)


@pytest.fixture(scope="session")
def smollm2(convert_w8, smollm2_gguf):
    return convert_w8(smollm2_gguf, ("litert", "onnx"), 256)


def ask(bundle, backend, prompts, tokens, recipe="w8-round"):
    return {
        "bundle": str(bundle),
        "backend": backend,
        "recipe": recipe,
        "prompts": prompts,
        "tokens": tokens,
    }


def check_ran_on_arm(answer, backend):
    """The receipt and the processor's facts come from inside the emulator."""
    assert answer["processor"]["architecture"] == "aarch64"
    assert "dotprod" in answer["processor"]["features"]
    receipt = answer["receipt"]
    assert (receipt["backend"], receipt["device"], receipt["provider"]) == (backend, "cpu", BACKENDS[backend])
    assert receipt["refusals"] == receipt["incidents"] == []


def compare(request, here, there, tie):
    """Fails where a token differs that is no near-tie; returns how many tokens were equal."""
    assert here["processor"]["architecture"] != there["processor"]["architecture"]
    equal = 0
    for prompt, mine, theirs in zip(request["prompts"], here["tokens"], there["tokens"], strict=True):
        assert len(mine) == len(theirs) == request["tokens"]
        same = next(
            (at for at, pair in enumerate(zip(mine, theirs, strict=True)) if pair[0] != pair[1]), None
        )
        equal += len(mine) if same is None else same
        if same is None:
            continue
        text = np.asarray([*prompt, *theirs[: same + 1]], np.int32)
        with edgesdk.load(request["bundle"], backend=request["backend"], recipe=request["recipe"]) as model:
            gap = first_divergence(len(text) - 1, text, model.score(text))
        assert gap is None or gap.gap < tie, (
            f"token {same} of {prompt}: {mine[same]} here, {theirs[same]} on Arm"
        )
    return equal


@pytest.mark.parametrize("backend", BACKENDS)
def test_tiny_decoders_say_the_same(tiny, backend, answer_on_arm, answer_here):
    request = ask(tiny, backend, TINY_PROMPTS, 16)
    there, here = answer_on_arm(request), answer_here(request)
    check_ran_on_arm(there, backend)
    assert compare(request, here, there, TIE[backend]) > 0
    # The first token's log-probability follows the same prompt on both. It moves by more than a float sum
    # does: a last bit tips the rounding of an activation to int8.
    for mine, theirs in zip(here["logprobs"], there["logprobs"], strict=True):
        assert abs(mine[0] - theirs[0]) < ROUNDING_GAP


@pytest.mark.parametrize("backend", BACKENDS)
def test_floats_are_the_same(tiny, backend, answer_on_arm, answer_here):
    """The graph, without any rounding to int8: signatures that are resized among it."""
    request = ask(tiny, backend, TINY_PROMPTS, 8, "f32")
    there, here = answer_on_arm(request), answer_here(request)
    assert here["tokens"] == there["tokens"]
    for mine, theirs in zip(here["logprobs"], there["logprobs"], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=FLOAT_GAP)


@pytest.mark.real
@pytest.mark.parametrize("backend", ["litert", "onnxruntime"])
def test_smollm2_says_the_same(smollm2, backend, answer_on_arm, answer_here):
    with edgesdk.load(smollm2) as model:
        prompts = [model.render_prompt(question) for question in QUESTIONS]
    request = ask(smollm2, backend, prompts, 12)
    there, here = answer_on_arm(request), answer_here(request)
    check_ran_on_arm(there, backend)
    assert compare(request, here, there, TIE[backend]) > 0
