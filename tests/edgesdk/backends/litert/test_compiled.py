import dataclasses
import os

import numpy as np
import pytest

from edgesdk.backends.cell_arrays import allocate_cells
from edgesdk.backends.litert import compiled
from edgesdk.backends.litert.open_litert import open_compiled
from edgesdk.backends.opened import OpenRequest
from edgesdk.bundle.step_contract import step_contracts
from edgesdk.errors import DeviceError
from edgesdk.kv.cell_memory import CellMemory


def test_an_interrupted_first_run_still_ends_quietly(float_bundle, monkeypatch):
    """LiteRT has set up by then what it talks about at the end."""
    variant = float_bundle.variant("litert-f32")
    model = open_compiled(OpenRequest(float_bundle, variant, 1)).model
    hushed = []
    monkeypatch.setattr(compiled, "hush_the_end", lambda: hushed.append(True))

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(model._model, "run", interrupt)
    shape = model.shapes[0]
    model.buffers(shape)
    cells = allocate_cells(model.contracts[shape.stack].groups, shape.cells)
    with pytest.raises(KeyboardInterrupt):
        model.run(shape, cells)
    assert hushed


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs memory with the name of a file")
def test_after_closing_nothing_is_asked_of_the_library_and_its_memory_is_given_back(
    float_bundle, monkeypatch, tmp_path
):
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path))
    model = open_compiled(OpenRequest(float_bundle, float_bundle.variant("litert-f32"), 1)).model
    memory = model._weight_cache._memory
    assert os.path.exists(memory.path)
    model.close()
    assert not os.path.exists(memory.path)
    with pytest.raises(DeviceError, match="was closed"):
        model.accelerated_share  # noqa: B018
    with pytest.raises(DeviceError, match="was closed"):
        model._model.input_shape(0, 0)


def filled(bundle, variant, shape, seed):
    """Memory of as many cells as a size has, with random numbers in them."""
    memory = CellMemory(step_contracts(bundle.manifest, variant)[shape.stack], shape.cells)
    memory.lay_out(shape.cells, 0)
    (array,) = memory.cells.arrays
    array[...] = np.random.default_rng(seed).standard_normal(array.shape)
    return memory


def logits_of(model, shape, memory):
    """A step whose tokens see everything."""
    arrays = model.buffers(shape)
    arrays.tokens[:] = np.arange(shape.tokens) + 5
    arrays.positions[:] = np.arange(shape.tokens)
    arrays.rows[:] = shape.tokens - 1
    arrays.mask[:] = 0
    model.run(shape, memory.cells)
    return arrays.logits.copy()


def test_sizes_and_cells_in_any_order_give_what_each_gives_alone(float_bundle):
    """Also over cells that were laid out anew, and after a size that LiteRT refused."""
    variant = float_bundle.variant("litert-f32")

    def opened():
        return open_compiled(OpenRequest(float_bundle, variant, 1)).model

    model = opened()
    name = model.shapes[0].signature
    shapes = [shape for shape in model.shapes if shape.signature == name][:2]
    assert len(shapes) == 2
    runs = [(shape, filled(float_bundle, variant, shape, seed)) for shape in shapes for seed in (1, 2)]
    alone = [logits_of(opened(), *run) for run in runs]
    for number in (0, 0, 1, 0, 2, 2, 3, 1, 2, 0):
        assert np.array_equal(logits_of(model, *runs[number]), alone[number])
    shape, memory = runs[1]
    memory.lay_out(0, 0)
    memory.lay_out(shape.cells, 0)
    memory.cells.arrays[0][...] = filled(float_bundle, variant, shape, 1).cells.arrays[0]
    assert np.array_equal(logits_of(model, shape, memory), alone[0])
    resize = model._model.resize

    def refuse(index, sizes):
        raise RuntimeError("status 1")

    model._model.resize = refuse
    with pytest.raises(DeviceError, match="LiteRT failed in step"):
        logits_of(model, *runs[2])
    with pytest.raises(DeviceError, match="LiteRT failed in step"):  # its shapes are not known any more
        logits_of(model, shape, memory)
    model._model.resize = resize
    assert np.array_equal(logits_of(model, *runs[2]), alone[2])


def test_sizes_of_a_signature_may_differ_in_their_rows_alone(float_bundle):
    variant = float_bundle.variant("litert-f32")
    many = next(shape for shape in sorted(variant.steps) if shape.rows > 1)
    one = dataclasses.replace(many, rows=1)
    both = dataclasses.replace(variant, steps=(*variant.steps, one))
    model = open_compiled(OpenRequest(float_bundle, both, 1)).model
    memory = filled(float_bundle, variant, many, 1)
    expected = logits_of(model, many, memory)
    for shape in (one, many, one):
        found = logits_of(model, shape, memory)
        assert found.shape[0] == shape.rows
        assert np.array_equal(found, expected[: shape.rows])
