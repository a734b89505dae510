"""Every architecture on the targets that `test_pipeline` does not convert it to, against transformers."""

import numpy as np
import pytest

import edgesdk
from edgesdk_converters.convert import ConvertOptions, convert
from edgesdk_converters.targets import find_targets
from tests.test_pipeline import MODELS, TINY, program_of, reference_of, refusal

# Of the largest logit. Core ML's states are float16, and what an NPU keeps in floats, too.
TARGETS_TESTED = {
    "litert-static": ("f32", 1e-4),
    "openvino": ("f32", 1e-4),
    "onnx-npu": ("f32", 3e-3),
    "coreml-state": ("f16", 2e-2),
}
"""Recipe and tolerance of each; Core ML packages with cells outside are compared where they are emitted."""


@pytest.mark.parametrize("target", TARGETS_TESTED)
@pytest.mark.parametrize("model", MODELS)
def test_a_target_gives_the_logits_of_transformers(model, target, tmp_path):
    if refusal(program_of(model), target):
        pytest.skip("the target refuses this architecture, which another test asks for")
    recipe, tolerance = TARGETS_TESTED[target]
    options = ConvertOptions(targets=(target,), recipes=(recipe,), context=64, prove=False)
    bundle = convert(str(TINY / model), tmp_path / "b", options)
    tokens, expected = reference_of(model)
    (proven,) = find_targets([target])
    with edgesdk.load(bundle, backend=proven.proof_backend, strict=True, threads=1) as loaded:
        found = loaded.score(tokens)
    assert np.abs(found - expected).max() < tolerance * np.abs(expected).max()
