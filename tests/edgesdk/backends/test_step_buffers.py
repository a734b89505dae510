"""Arrays of a file's sizes: what is shared, and what is not."""

import dataclasses

import numpy as np
import pytest

from edgesdk.backends.aligned_array import ALIGNMENT_BYTES
from edgesdk.backends.step_buffers import StepArrays
from edgesdk.bundle.port import LARGEST_SIZE, Port
from edgesdk.bundle.step_contract import step_contract
from edgesdk.bundle.step_shape import MAIN, StepShape
from edgesdk.bundle.uniform_decoder import LayerSpec, UniformDecoder
from edgesdk.errors import DeviceError

UNIFORM = UniformDecoder("llama", 20, 8, 8, 2, 2, 3, 16, (LayerSpec(None, None),) * 2, 1e-5, "silu", 1.0)
SPEC = UNIFORM.spec()
WINDOW = dataclasses.replace(UNIFORM, layers=(LayerSpec(4, None),)).spec()
MORE = step_contract(
    SPEC, inputs=(Port("gates", ("T", 3)),), outputs=(Port("score", ("R", 2)), Port("state", ("T", 5)))
)
CONTRACTS = {MAIN: step_contract(SPEC, "float16"), "more": MORE, "window": step_contract(WINDOW)}


def shape(tokens=4, cells=16, rows=2, signature="x", stack=MAIN):
    return StepShape(tokens, cells, rows, signature, stack)


def test_arrays_are_aligned_zeros_of_the_contract():
    buffers = StepArrays(CONTRACTS).buffers(shape())
    assert buffers.window_mask is None
    assert (buffers.mask.shape, buffers.rows.dtype, buffers.logits.shape) == ((4, 20), np.int32, (2, 20))
    assert [array.dtype for array in buffers.kv_new.arrays] == [np.float16]
    assert not buffers.extra
    for array in (buffers.tokens, buffers.mask, buffers.logits, *buffers.kv_new.arrays):
        assert array.ctypes.data % ALIGNMENT_BYTES == 0
        assert not array.any()


def test_ports_of_a_stack_are_arrays_by_their_names():
    buffers = StepArrays(CONTRACTS).buffers(shape(stack="more"))
    assert {name: array.shape for name, array in buffers.extra.items()} == {
        "gates": (4, 3),
        "score": (2, 2),
        "state": (4, 5),
    }
    assert buffers.port("gates") is buffers.extra["gates"]
    assert buffers.port("mask") is buffers.mask


def test_sizes_share_inputs_and_those_of_one_signature_outputs():
    arrays = StepArrays(CONTRACTS)
    one, other_cells = arrays.buffers(shape()), arrays.buffers(shape(cells=32))
    assert arrays.buffers(shape()) is one
    assert other_cells.tokens is one.tokens
    assert other_cells.logits is one.logits
    assert other_cells.mask is not one.mask
    all_rows = arrays.buffers(shape(rows=4, signature="y"))
    assert all_rows.mask is one.mask
    assert all_rows.kv_new.arrays[0] is not one.kv_new.arrays[0]


def test_stacks_of_equal_sizes_share_inputs_but_masks_of_other_windows():
    arrays = StepArrays(CONTRACTS)
    main, more, window = (arrays.buffers(shape(signature=stack, stack=stack)) for stack in CONTRACTS)
    assert more.tokens is main.tokens is window.tokens
    assert more.mask is main.mask
    assert window.mask is not main.mask
    assert window.window_mask is not None
    assert more.logits is not main.logits


def test_arrays_beyond_any_step_are_refused_before_memory_is_asked_for():
    wide = {MAIN: step_contract(SPEC, outputs=(Port("state", ("T", LARGEST_SIZE)),))}
    made = []
    arrays = StepArrays(wide, lambda dtype, *sizes: made.append(sizes) or np.zeros(1, dtype))
    with pytest.raises(DeviceError, match=r"'state' of shape \(256, 16777216\), more than any step needs"):
        arrays.buffers(shape(tokens=256))
    assert made
    assert all(LARGEST_SIZE not in sizes for sizes in made)
