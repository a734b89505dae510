"""SmolLM2's first four blocks on a GPU or a software driver: the CPU's first choices (docs/gpu.md)."""

import numpy as np
import pytest

import edgesdk
from edgesdk.errors import DeviceError
from edgesdk.evaluation.greedy import NEAR_TIE

pytestmark = [pytest.mark.real, pytest.mark.gpu]

TOKENS = 4
PROMPT = "The capital of France"


@pytest.fixture(scope="module")
def smollm2(smollm2_gguf, tmp_path_factory):
    pytest.importorskip("onnx", reason="needs the extra 'convert'")
    from edgesdk_converters.convert import ConvertOptions, convert
    from edgesdk_converters.reshape import Reshaping

    options = ConvertOptions(
        targets=("litert-static", "onnx-step"),
        recipes=("w8-round",),
        context=128,
        prove=False,
        reshaping=Reshaping(skip_layers="4-29"),
    )
    return convert(str(smollm2_gguf), tmp_path_factory.mktemp("gpu") / "b", options)


@pytest.mark.parametrize(
    ("backend", "variant"),
    [("litert-gpu", "litert-static-w8-round"), ("onnxruntime-webgpu", "onnx-step-w8-round")],
)
def test_first_choices_are_the_cpus(smollm2, backend, variant):
    """The CPU writes, the device reads the same tokens; both keep activations in floating point."""
    try:
        model = edgesdk.load(smollm2, backend=backend, variant=variant, strict=True)
    except DeviceError as error:
        pytest.skip(f"needs a GPU or a software driver: {error}")
    with model, edgesdk.load(smollm2, backend="onnxruntime-step", variant="onnx-step-w8-round") as cpu:
        assert model.receipt.device == "gpu"
        tokens = cpu.render_prompt(PROMPT, raw=True)
        here, there = cpu.new_sequence(), model.new_sequence()
        new = tokens
        for _ in range(TOKENS):
            expected = here.extend(np.array(new, np.int32)).copy()
            found = there.extend(np.array(new, np.int32))
            assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()
            mine, theirs = int(expected.argmax()), int(found.argmax())
            assert expected[mine] - expected[theirs] < NEAR_TIE
            new = [mine]
