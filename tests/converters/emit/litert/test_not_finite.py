"""One NaN in a file whose products round activations to int8: the host sees it all the same.

It is planted in the bias of keys or of values, past what conversion refuses. Logits alone would not tell
(docs/decisions/0016 has the table): softmax and int8 products make ordinary numbers of it.
"""

import numpy as np
import pytest

from edgesdk.backends.not_finite import NotFiniteError
from edgesdk.kv.step_runner import StepEntry, StepRunner
from edgesdk_converters.graph.program import Program


class PlantedWeights:
    """Other weights with one number replaced."""

    def __init__(self, base, name, value):
        self.base, self.name, self.value = base, name, value

    def __iter__(self):
        return iter(self.base)

    def shape(self, name):
        return self.base.shape(name)

    def load(self, name):
        values = np.array(self.base.load(name))
        if name == self.name:
            values[3] = self.value
        return values


@pytest.mark.parametrize("kind", ["float32", "float16", "int8"])
@pytest.mark.parametrize("recipe", ["f32", "w8-round", "w4b32-round"])
@pytest.mark.parametrize(("part", "said"), [("k", "keys"), ("v", "values")])
def test_it_is_named_and_nothing_is_kept(
    make_program, tokens, tmp_path, cell_files, kind, recipe, part, said
):
    sound = make_program("biases")
    weights = PlantedWeights(sound.weights, f"layers.0.{part}.bias", np.nan)
    files = cell_files(kind)
    files.emit(Program(sound.spec, sound.graph, weights), tmp_path / "m.tflite", recipe)
    backend = files.open_file(tmp_path / "m.tflite", sound.spec)
    runner = StepRunner(backend, sound.spec, files.CONTEXT)
    cells = runner.new_list()
    with pytest.raises(NotFiniteError, match=f"(NaN|infinity) among the {said} of layer 0"):
        runner.run([StepEntry(cells, tokens[:8], "last")])
    assert (cells.length, runner.pool.used) == (0, 0)
    with pytest.raises(NotFiniteError, match=f"(NaN|infinity) among the {said} of layer 0"):
        runner.run_next(cells, tokens[:1])
    backend.close()


def test_keys_beyond_float16_are_named(make_program, tokens, tmp_path, cell_files):
    sound = make_program("biases")
    weights = PlantedWeights(sound.weights, "layers.1.k.bias", 1e6)
    program = Program(sound.spec, sound.graph, weights)
    for kind in ("float16", "float32"):
        files = cell_files(kind)
        files.emit(program, tmp_path / f"{kind}.tflite", "w8-round")
        backend = files.open_file(tmp_path / f"{kind}.tflite", sound.spec)
        runner = StepRunner(backend, sound.spec, files.CONTEXT)
        if kind == "float16":
            with pytest.raises(NotFiniteError, match="infinity among the keys of layer 1"):
                runner.run([StepEntry(runner.new_list(), tokens[:8], "last")])
        else:  # which float32 holds
            (logits,) = runner.run([StepEntry(runner.new_list(), tokens[:8], "last")])
            assert np.isfinite(logits).all()
        backend.close()
