"""SmolLM2-135M with exact activations: what runtimes compute is what its stored weights say, in floats."""

import numpy as np
import pytest

import edgesdk
from edgesdk.evaluation.agreement import Agreement
from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import ResidentWeights
from edgesdk_converters.prepare import prepare
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import find_recipe

pytestmark = pytest.mark.real

RECIPE = "w8-round-exact"
TEXT = (
    "Water boils at one hundred degrees Celsius at sea level. In the hills it boils earlier, so that tea "
    "has less taste and beans take longer. def boils(metres): return 100 - metres / 300. Why is that so?"
)


@pytest.fixture(scope="module")
def bundle(smollm2_gguf, converted_once):
    return converted_once(
        smollm2_gguf, targets=("litert", "onnx"), recipes=(RECIPE,), context=512, prove=False
    )


@pytest.fixture(scope="module")
def program(smollm2_gguf):
    """The evaluator with float activations on the weights that the bundle stores."""
    checkpoint, recipe = open_checkpoint(str(smollm2_gguf)), find_recipe(RECIPE)
    spec = read_spec(checkpoint.config)
    prepared = prepare(Program(spec, build_decoder(spec), weights_for(checkpoint, spec)), recipe)
    return Program(spec, prepared.graph, ResidentWeights(QuantisedWeights(prepared.weights, recipe)))


@pytest.mark.parametrize("backend", ["litert", "onnxruntime"])
def test_two_rows_are_float_activations(bundle, program, backend):
    """KL of at most 1e-4 was asked for; one row has 5e-3 on LiteRT and 1.5e-3 on ONNX Runtime."""
    with edgesdk.load(bundle, backend=backend, strict=True, threads=1) as model:
        tokens = np.array(model.tokenize(TEXT), np.int32)
        found = model.score(tokens)
        steps = np.concatenate([model.score(tokens[:n])[-1:] for n in (1, 2, 7)])  # other sizes of steps
    expected = next(sequence_logits(program, [tokens]))
    agreement = Agreement()
    agreement.add(tokens, found, expected)
    report = agreement.report()
    assert report.kl_nats < 1e-6
    np.testing.assert_allclose(steps, expected[[0, 1, 6]], rtol=0, atol=0.05)
