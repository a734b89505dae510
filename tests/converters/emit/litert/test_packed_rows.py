"""Tables of int4, tied to the head and not: rows come out exactly, and the file holds them once."""

import numpy as np
import pytest

from edgesdk.backends.litert.compiled import CompiledStepBackend
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.step_contract import main_stack
from edgesdk.kv.cell_sequence import CellSequence
from edgesdk_converters.emit.litert.emit_litert import emit_litert
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.graph.program import Program
from edgesdk_converters.prepare import prepare
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import Recipe, Rule, Scheme

pytest.importorskip("ai_edge_litert", reason="LiteRT has no wheel for this platform")

STEPS = (
    StepShape(1, 64, 1, "step_1"),
    *(StepShape(tokens, 64, tokens, "step_few") for tokens in (8, 16)),
    *(StepShape(tokens, cells, 8, "step_many") for tokens in (24, 32) for cells in (32, 64)),
)


def table_recipe(block, head=True):
    scheme = Scheme(4, block, "clip_search")
    names = ("embed", "head") if head else ("embed",)
    return Recipe("tables", tuple(Rule(name, scheme) for name in names))


def emit(program, recipe, path):
    prepared = prepare(program, recipe)
    weights = QuantisedWeights(prepared.weights, recipe)
    emit_litert(prepared, weights, path, STEPS, 64)
    return Program(prepared.spec, prepared.graph, weights)


@pytest.mark.parametrize("block", [32, 64, None])
def test_rows_alone_are_exact(make_program, tokens, tmp_path, block):
    # Only the table is quantised, so no kernel rounds activations.
    program = make_program("untied")
    quantised = emit(program, table_recipe(block, head=False), tmp_path / "m.tflite")
    expected = next(sequence_logits(quantised, [tokens]))
    backend = CompiledStepBackend(
        tmp_path / "m.tflite", main_stack(program.spec), STEPS, threads=1, weight_cache=None
    )
    found = CellSequence(backend, program.spec, 64).score(tokens)
    atol = 2e-4 * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=atol)
    for count in (24, 10, 20):  # T = 32, 16, 32 of one signature
        last = CellSequence(backend, program.spec, 64).extend(tokens[:count])
        np.testing.assert_allclose(last, expected[count - 1], atol=atol)


def test_a_tied_table_is_stored_once(make_program, tokens, tmp_path):
    program = make_program("plain")
    quantised = emit(program, table_recipe(32), tmp_path / "m.tflite")
    expected = next(sequence_logits(quantised, [tokens]))
    backend = CompiledStepBackend(
        tmp_path / "m.tflite", main_stack(program.spec), STEPS, threads=1, weight_cache=None
    )
    found = CellSequence(backend, program.spec, 64).score(tokens)
    assert np.abs(found - expected).max() < 0.2 * max(1, np.abs(expected).max())
    data = (tmp_path / "m.tflite").read_bytes()
    values = quantised.weights.quantised("embed").values
    packed = (values[:, 0::2].view(np.uint8) & 15) | (values[:, 1::2].view(np.uint8) << 4)
    assert data.count(packed.astype(np.uint8).tobytes()) == 1
