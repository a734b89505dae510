"""Arrays of cells: checked against a contract, and seen as a file's tensors."""

import numpy as np
import pytest

from edgesdk.backends.cell_arrays import all_finite, allocate_cells, cell_views, check_cells
from edgesdk.backends.protocol import Cells
from edgesdk.bundle.step_contract import StepContract, cell_groups, new_groups
from edgesdk.bundle.step_names import litert_tensors, onnx_tensors
from edgesdk.errors import DeviceError

LAYERS = ((2, 8), (1, 16), (2, 8))


def contract(kind="float32"):
    return StepContract((), (), cell_groups(LAYERS, kind), new_groups(LAYERS, kind), kind, None)


def test_cells_have_the_shape_of_every_group():
    cells = allocate_cells(contract("int8").groups, 5)
    assert [(array.shape, array.dtype.name) for array in cells.arrays] == [
        ((2, 2, 2, 5, 8), "int8"),
        ((2, 2, 2, 5), "float32"),
        ((1, 2, 1, 5, 16), "int8"),
        ((1, 2, 1, 5), "float32"),
    ]
    assert (cells.count, cells.cell_type) == (5, "int8")
    check_cells(cells, contract("int8"), 5, "x")
    taken = cells.take(np.array([0, 3]))
    assert [array.shape[3] for array in taken.arrays] == [2, 2, 2, 2]
    assert cells.take(slice(2)).copy().count == 2


@pytest.mark.parametrize("kind", ["float16", "int8"])
def test_other_cells_are_refused_by_type_count_and_shape(kind):
    good = allocate_cells(contract().groups, 5)
    with pytest.raises(DeviceError, match=f"x reads {kind} cells, found float32"):
        check_cells(good, contract(kind), 5, "x")
    with pytest.raises(DeviceError, match="cells are 1 arrays, expected 2"):
        check_cells(Cells(good.arrays[:1]), contract(), 5, "x")
    with pytest.raises(DeviceError, match=r"cells are float32 \(2, 2, 2, 5, 8\), expected contiguous"):
        check_cells(good, contract(), 6, "x")
    strided = Cells(tuple(array[:, :, :, ::2] for array in allocate_cells(contract().groups, 10).arrays))
    with pytest.raises(DeviceError, match="expected contiguous"):
        check_cells(strided, contract(), 5, "x")


def test_views_are_the_very_memory_of_each_layer():
    cells = allocate_cells(contract().groups, 5)
    tensors = onnx_tensors(contract()).cells
    views = dict(zip([tensor.name for tensor in tensors], cell_views(tensors, cells), strict=True))
    assert list(views) == [f"{side}_cache.{layer}" for layer in (0, 2, 1) for side in "kv"]
    views["v_cache.2"][:] = 7
    assert (cells.arrays[0][1, 1] == 7).all()
    assert sum(array.sum() for array in cells.arrays) == 7 * 2 * 5 * 8
    assert all(view.flags.c_contiguous for view in views.values())


def test_scales_are_rows_in_a_litert_file():
    cells = allocate_cells(contract("int8").groups, 5)
    tensors = litert_tensors(contract("int8")).cells
    for tensor, view in zip(tensors, cell_views(tensors, cells), strict=True):
        heads = LAYERS[int(tensor.name.split(".")[1])][0]
        assert view.shape[0] == heads
        assert view.shape[1:] == ((1, 5) if "scale" in tensor.name else view.shape[1:])


def test_numbers_of_integers_are_finite():
    cells = allocate_cells(contract("int8").groups, 5)
    assert all_finite(cells)
    cells.arrays[3][0, 0, 0, 0] = np.nan
    assert not all_finite(cells)
