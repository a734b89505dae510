"""The decoder against transformers: every architecture's logits, whole, step by step and in chunks."""

import numpy as np
import pytest

from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.step_contract import step_contract
from edgesdk.bundle.step_names import graph_tensors
from edgesdk_converters.graph.evaluate import evaluate
from edgesdk_converters.graph.full_sequence import MASKED, sequence_logits
from tests.converters.predecessor_inputs import predecessor_inputs

TOLERANCE = 1e-4  # of the largest logit; float32 against a float64 reference


def relative_error(found, expected):
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def run_in_chunks(program, tokens, sizes):
    """Logits after every token of one sequence, with the cache in cells as the runtime keeps it.

    There are as many cells as tokens; those not yet written hold rubbish that the mask must hide.
    """
    spec, S = program.spec, len(tokens)
    tensors, room = graph_tensors(step_contract(spec)), StepShape(1, S, 1, "")
    cells = {tensor.name: np.full(tensor.shape(room), 1e3, np.float32) for tensor in tensors.cells}
    kept = np.zeros((len(spec.convolving), S, spec.hidden_size), np.float32)
    logits, start = [], 0
    for size in sizes:
        T = min(size, S - start)
        positions = np.arange(start, start + T, dtype=np.int32)
        # Columns: S cells, then the T new tokens.
        column = np.concatenate([np.arange(S), positions])
        there = np.concatenate([np.arange(S) < start, np.ones(T, bool)])
        distance = positions[:, None] - column[None, :]
        seen = there[None, :] & (distance >= 0)
        inputs = {
            "tokens": tokens[start : start + T],
            "positions": positions,
            "mask": np.where(seen, np.float32(0), MASKED),
            "rows": np.arange(T, dtype=np.int32),
            **predecessor_inputs(spec, kept, start, T),
        }
        if spec.window is not None:
            inputs["window_mask"] = np.where(seen & (distance < spec.window), np.float32(0), MASKED)
        outputs = evaluate(program.graph, program.weights, inputs | cells)
        for old, new in zip(tensors.cells, tensors.new, strict=False):  # convolutions have no cells here
            cells[old.name][:, start : start + T] = outputs[new.name]
        for place in range(len(kept)):
            kept[place, start : start + T] = outputs[f"x_new.{place}"][0]
        logits.append(outputs["logits"])
        start += T
    assert start == S
    return np.concatenate(logits)


def test_whole_sequences(any_tiny):
    found = list(sequence_logits(any_tiny.program(), any_tiny.sequences))
    for logits, expected in zip(found, any_tiny.logits, strict=True):
        assert logits.shape == expected.shape
        assert relative_error(logits, expected) < TOLERANCE


def test_step_by_step(any_tiny):
    program = any_tiny.program()
    for tokens, expected in zip(any_tiny.sequences, any_tiny.logits, strict=True):
        assert relative_error(run_in_chunks(program, tokens, [1] * len(tokens)), expected) < TOLERANCE


def test_in_chunks(any_tiny):
    program, tokens, expected = any_tiny.program(), any_tiny.sequences[0], any_tiny.logits[0]
    for sizes in ([16, 16, 16], [5, 1, 8, 3, 20]):
        assert relative_error(run_in_chunks(program, tokens, sizes), expected) < TOLERANCE


def test_jax_gives_what_numpy_gives(any_tiny):
    jnp = pytest.importorskip("jax.numpy", reason="jax is not installed")
    program = any_tiny.program()
    ours = list(sequence_logits(program, any_tiny.sequences))
    for a, b in zip(ours, sequence_logits(program, any_tiny.sequences, jnp), strict=True):
        assert relative_error(b, a) < TOLERANCE


def test_every_architecture_has_a_reference(tiny):
    from edgesdk_converters.architectures.registry import ARCHITECTURES
    from tests.converters.architectures.conftest import TINY

    folders = [path.parent.name for path in TINY.glob("*/reference.npz")]
    covered = {tiny(folder).program().spec.architecture for folder in folders}
    assert covered == {architecture.name for architecture in ARCHITECTURES}
