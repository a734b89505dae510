"""Every architecture through both emitters and back, against what transformers computed for it."""

from pathlib import Path

import numpy as np
import pytest

from edgesdk.backends.onnxruntime_resident import ResidentModel
from edgesdk.backends.onnxruntime_session import open_session
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.step_contract import predecessor_ports, step_contract
from edgesdk.bundle.step_names import graph_tensors
from edgesdk.errors import EmitError
from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.emit.onnx.resident import check_decoder, emit_resident
from edgesdk_converters.emit.onnx.step import emit_step
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.program import Program

TINY = Path(__file__).parents[4] / "tests" / "data" / "tiny"
TOLERANCE = 1e-4  # of the largest logit, float32 throughout


@pytest.fixture(params=sorted(path.name for path in TINY.iterdir() if path.is_dir()))
def checkpoint(request):
    return open_checkpoint(str(TINY / request.param))


@pytest.fixture
def program(checkpoint, quantise):
    spec = read_spec(checkpoint.config)
    return quantise(Program(spec, build_decoder(spec), weights_for(checkpoint, spec)), "f32")


@pytest.fixture
def reference(checkpoint):
    with np.load(TINY / checkpoint.source.location / "reference.npz") as file:
        cuts = np.cumsum(file["lengths"])[:-1]
        return list(zip(np.split(file["tokens"], cuts), np.split(file["logits"], cuts), strict=True))


def test_resident(checkpoint, program, reference, tmp_path):
    if not program.spec.is_uniform or program.spec.convolving:
        with pytest.raises(EmitError, match="emit the step variant"):
            check_decoder(program)
        return
    emit_resident(
        program,
        program.weights,
        tmp_path,
        context=128,
        tokenizer=checkpoint.tokenizer,
        generation=checkpoint.generation,
    )
    model = ResidentModel(tmp_path / "model.onnx", program.spec, 128, threads=1)
    for tokens, expected in reference:
        found = model.new_sequence().score(tokens.astype(np.int32))
        assert np.abs(found - expected).max() < TOLERANCE * np.abs(expected).max()


def test_step(program, reference, tmp_path):
    tokens, expected = reference[0]
    T, spec = len(tokens), program.spec
    emit_step(program, program.weights, tmp_path, [StepShape(T, 1, T, "whole")], 128)
    distance = np.arange(T)[:, None] - np.arange(T)[None, :]
    steps = np.arange(T, dtype=np.int32)
    inputs = {"tokens": tokens.astype(np.int32), "positions": steps, "rows": steps}
    masks = [("mask", T)] if spec.window is None else [("mask", T), ("window_mask", spec.window)]
    for name, window in masks:
        seen = np.concatenate([np.zeros((T, 1), bool), (distance >= 0) & (distance < window)], axis=1)
        inputs[name] = np.where(seen, np.float32(0), np.float32(-1e9))
    for j, port in enumerate(predecessor_ports(spec)):
        inputs[port.name] = np.zeros(port.shape(StepShape(T, 1, T, "")), np.float32)
        if j:
            inputs[port.name][distance == j] = 1
    for cells in graph_tensors(step_contract(spec)).cells:
        inputs[cells.name] = np.ones(cells.shape(StepShape(T, 1, T, "whole")), np.float32)
    found = open_session(tmp_path / "whole.onnx", 1).run(["logits"], inputs)[0]
    assert np.abs(found - expected).max() < TOLERANCE * np.abs(expected).max()
