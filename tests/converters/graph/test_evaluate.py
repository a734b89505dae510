"""The evaluator: every operation lowered, prefill and steps alike, sequences side by side apart."""

import typing

import numpy as np
import pytest

from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.step_contract import step_contract
from edgesdk.bundle.step_names import graph_tensors
from edgesdk_converters.graph import ops
from edgesdk_converters.graph.evaluate import LOWERINGS, evaluate
from edgesdk_converters.graph.full_sequence import MASKED, sequence_inputs, sequence_logits
from tests.converters.predecessor_inputs import predecessor_inputs


def test_every_operation_has_a_lowering():
    assert set(LOWERINGS) == set(typing.get_args(ops.Op))


def test_steps_with_cells_give_what_the_whole_sequence_gives(any_program, tokens):
    whole = next(sequence_logits(any_program, [tokens]))
    spec = any_program.spec
    n = len(tokens)
    tensors = graph_tensors(step_contract(spec))
    room = StepShape(1, n, 1, "")
    cells = {tensor.name: np.zeros(tensor.shape(room), np.float32) for tensor in tensors.cells}
    kept = np.zeros((len(spec.convolving), n, spec.hidden_size), np.float32)
    for position, token in enumerate(tokens):
        seen = np.arange(n) < position
        near = seen & (position - np.arange(n) < (spec.window or n))
        inputs = {
            "tokens": np.array([token], np.int32),
            "positions": np.array([position], np.int32),
            "mask": np.append(np.where(seen, np.float32(0), MASKED), np.float32(0))[None],
            "rows": np.zeros(1, np.int32),
            **cells,
            **predecessor_inputs(spec, kept, position, 1),
        }
        if spec.window is not None:
            inputs["window_mask"] = np.append(np.where(near, np.float32(0), MASKED), np.float32(0))[None]
        out = evaluate(any_program.graph, any_program.weights, inputs)
        np.testing.assert_allclose(out["logits"][0], whole[position], rtol=1e-4, atol=1e-4)
        for old, new in zip(tensors.cells, tensors.new, strict=False):
            cells[old.name][:, position] = out[new.name][:, 0]
        for place in range(len(kept)):
            kept[place, position] = out[f"x_new.{place}"][0, 0]


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


@pytest.mark.parametrize("name", ["plain", "gemma_like", "mixed", "norms_of_rotated", "longrope"])
def test_jax_gives_what_numpy_gives(make_program, name, tokens):
    jnp = pytest.importorskip("jax.numpy", reason="needs the extra 'train'")
    program = make_program(name)
    ours = next(sequence_logits(program, [tokens]))
    theirs = next(sequence_logits(program, [tokens], xp=jnp))
    np.testing.assert_allclose(theirs, ours, rtol=1e-3, atol=1e-3)


@pytest.fixture
def jax_float64():
    jax = pytest.importorskip("jax", reason="needs the extra 'train'")
    jax.config.update("jax_enable_x64", True)
    yield jax
    jax.config.update("jax_enable_x64", False)


@pytest.mark.parametrize("name", ["plain", "gemma_like", "mixed"])
def test_gradients_are_finite_differences(make_program, name, tokens, jax_float64):
    """The evaluator is the differentiable model: in float64, for a matrix, a norm and the table."""
    jax, program = jax_float64, make_program(name)
    graph = program.graph
    names = [value.name for value in graph.weights]
    weights = {name: jax.numpy.asarray(program.weights.load(name), "float64") for name in names}
    inputs = sequence_inputs(program, [tokens[:6]])

    class Changed:
        def __init__(self, changed):
            self.changed = changed

        def load(self, name):
            return self.changed.get(name, weights[name])

    def loss(changed):
        logits = evaluate(graph, Changed(changed), inputs, jax.numpy)["logits"]
        return jax.nn.log_softmax(logits)[:, 3].sum()

    at = next(name for name in names if name.endswith(".q"))
    learnt = {name: weights[name] for name in (at, "final_norm", "embed")}
    gradients = jax.grad(loss)(learnt)
    random = np.random.default_rng(1)
    for name, value in learnt.items():
        way = random.standard_normal(value.shape)
        step = 1e-5
        ends = [float(loss({**learnt, name: value + sign * step * way})) for sign in (1, -1)]
        expected = (ends[0] - ends[1]) / (2 * step)
        assert float((gradients[name] * way).sum()) == pytest.approx(expected, rel=1e-5, abs=1e-7)
