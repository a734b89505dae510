"""Every architecture as a Core ML package, against what transformers computed for it."""

from pathlib import Path

import numpy as np
import pytest

from edgesdk.backends.coreml.interpreter import MilInterpreter
from edgesdk.backends.coreml.step_backend import CoreMLStepBackend
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.step_contract import main_stack
from edgesdk.errors import EmitError
from edgesdk.kv.cell_sequence import CellSequence
from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.emit.coreml.emit_coreml import emit_coreml
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.graph.program import Program

TINY = Path(__file__).parents[4] / "tests" / "data" / "tiny"
STEPS = (StepShape(1, 64, 1, "step_1"), StepShape(16, 64, 16, "step_16"))


@pytest.fixture(params=sorted(path.name for path in TINY.iterdir() if path.is_dir()))
def checkpoint(request):
    return open_checkpoint(str(TINY / request.param))


@pytest.mark.parametrize(("recipe", "tolerance"), [("f32", 1e-4), ("w8-round", 0.02)])
def test_logits(checkpoint, quantise, tmp_path, recipe, tolerance):
    spec = read_spec(checkpoint.config)
    program = quantise(Program(spec, build_decoder(spec), weights_for(checkpoint, spec)), recipe)
    with np.load(TINY / checkpoint.source.location / "reference.npz") as file:
        count = min(int(file["lengths"][0]), 24)
        tokens, reference = file["tokens"][:count].astype(np.int32), file["logits"][:count]
    if spec.convolving:
        with pytest.raises(EmitError, match="convolutions, which a Core ML package does not hold"):
            emit_coreml(program, program.weights, tmp_path / "m.mlpackage", STEPS, 64)
        assert not list(tmp_path.iterdir())
        return
    emit_coreml(program, program.weights, tmp_path / "m.mlpackage", STEPS, 64)
    backend = CoreMLStepBackend(MilInterpreter(tmp_path / "m.mlpackage"), main_stack(spec), STEPS)
    found = CellSequence(backend, spec, 64).score(tokens)
    # gemma4 does not scale its scores: random ones reach 30, where float16 steps by 0.02.
    tolerance *= 5 if recipe != "f32" and spec.architecture == "gemma4" else 1
    # Of a quantised model only its own evaluator knows the logits.
    expected = reference if recipe == "f32" else next(sequence_logits(program, [tokens]))
    assert np.abs(found - expected).max() < tolerance * np.abs(expected).max()
