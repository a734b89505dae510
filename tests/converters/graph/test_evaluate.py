"""The evaluator: every operation lowered, prefill and steps alike, sequences side by side apart."""

import typing

import numpy as np
import pytest

from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.step_contract import step_contract
from edgesdk.bundle.step_names import graph_tensors
from edgesdk_converters.graph import ops
from edgesdk_converters.graph.evaluate import LOWERINGS, evaluate
from edgesdk_converters.graph.full_sequence import MASKED, sequence_logits


def test_every_operation_has_a_lowering():
    assert set(LOWERINGS) == set(typing.get_args(ops.Op))


def test_steps_with_cells_give_what_the_whole_sequence_gives(any_program, tokens):
    whole = next(sequence_logits(any_program, [tokens]))
    spec = any_program.spec
    n = len(tokens)
    tensors = graph_tensors(step_contract(spec))
    room = StepShape(1, n, 1, "")
    cells = {tensor.name: np.zeros(tensor.shape(room), np.float32) for tensor in tensors.cells}
    for position, token in enumerate(tokens):
        seen = np.arange(n) < position
        near = seen & (position - np.arange(n) < (spec.window or n))
        inputs = {
            "tokens": np.array([token], np.int32),
            "positions": np.array([position], np.int32),
            "mask": np.append(np.where(seen, np.float32(0), MASKED), np.float32(0))[None],
            "rows": np.zeros(1, np.int32),
            **cells,
        }
        if spec.window is not None:
            inputs["window_mask"] = np.append(np.where(near, np.float32(0), MASKED), np.float32(0))[None]
        out = evaluate(any_program.graph, any_program.weights, inputs)
        np.testing.assert_allclose(out["logits"][0], whole[position], rtol=1e-4, atol=1e-4)
        for old, new in zip(tensors.cells, tensors.new, strict=True):
            cells[old.name][:, position] = out[new.name][:, 0]


def test_sequences_in_one_pass_do_not_see_each_other(any_program, tokens):
    together = list(sequence_logits(any_program, [tokens, tokens[::-1].copy(), tokens[:5]]))
    for text, logits in zip((tokens, tokens[::-1], tokens[:5]), together, strict=True):
        alone = next(sequence_logits(any_program, [np.ascontiguousarray(text)]))
        np.testing.assert_allclose(logits, alone, rtol=1e-4, atol=1e-4)


def test_a_window_hides_what_lies_before_it(make_program, tokens):
    program = make_program("windows")
    changed = tokens.copy()
    changed[0] = (changed[0] + 1) % program.spec.vocab_size
    one_window = make_program("windows")
    # Both layers look back at most 5 and unlimited tokens: the change must reach the end only
    # through the unlimited layer, so with a window in both it must not reach it at all.
    a = next(sequence_logits(one_window, [tokens]))[-1]
    b = next(sequence_logits(one_window, [changed]))[-1]
    assert np.abs(a - b).max() > 1e-6


def test_jax_gives_what_numpy_gives(any_program, tokens):
    jnp = pytest.importorskip("jax.numpy", reason="jax is not installed")
    ours = next(sequence_logits(any_program, [tokens]))
    theirs = next(sequence_logits(any_program, [tokens], xp=jnp))
    np.testing.assert_allclose(theirs, ours, rtol=1e-3, atol=1e-3)
