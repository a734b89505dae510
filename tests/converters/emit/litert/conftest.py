"""LiteRT files with cells that are not float32: written, opened in both ways, run in pieces."""

import numpy as np
import pytest

from edgesdk.backends.litert.compiled import CompiledStepBackend
from edgesdk.backends.litert.interpreter import InterpreterStepBackend
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.step_contract import main_stack
from edgesdk.kv.step_runner import StepEntry
from edgesdk_converters.emit.litert.emit_litert import LitertOptions, emit_litert
from edgesdk_converters.graph.program import Program
from edgesdk_converters.prepare import prepare
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import find_recipe


class CellFiles:
    """Writes and opens files whose cells are of one type, if no other is asked for."""

    CONTEXT = 64
    STEPS = tuple(
        sorted(
            StepShape(tokens, cells, rows, name)
            for tokens, rows, name in (
                (1, 1, "step_1"),
                (4, 4, "step_few"),
                (12, 12, "step_few"),
                (32, 2, "step_many"),
            )
            for cells in (16, 64)
        )
    )

    def __init__(self, kind):
        self.kind = kind

    def emit(self, program, path, recipe="f32", kind=None):
        """Returns the program as the file has it."""
        prepared = prepare(program, find_recipe(recipe))
        weights = QuantisedWeights(prepared.weights, find_recipe(recipe))
        options = LitertOptions(kind or self.kind)
        emit_litert(prepared, weights, path, self.STEPS, self.CONTEXT, options=options)
        return Program(prepared.spec, prepared.graph, weights)

    def open_file(self, path, spec, kind=None, steps=STEPS):
        contracts = main_stack(spec, kind or self.kind)
        return CompiledStepBackend(path, contracts, steps, threads=1, weight_cache=None)

    def open_interpreter(self, path, spec, kind=None):
        contracts = main_stack(spec, kind or self.kind)
        return InterpreterStepBackend(path, contracts, self.STEPS, threads=1, package="ai_edge_litert")

    @staticmethod
    def run_pieces(runner, tokens, pieces):
        """A sequence, and logits after each of its tokens."""
        cells, rows, start = runner.new_list(), [], 0
        for count in pieces:
            (logits,) = runner.run([StepEntry(cells, tokens[start : start + count], "all")])
            rows.append(np.array(logits))
            start += count
        return cells, np.concatenate(rows)


@pytest.fixture
def cell_files():
    return CellFiles
