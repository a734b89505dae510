"""NaN and infinity among new keys and values: found in every type, with layer, kind and token."""

import numpy as np
import pytest

from edgesdk.backends.not_finite import NotFiniteError
from edgesdk.backends.not_finite import require_finite as require_finite_cells
from edgesdk.backends.protocol import Cells
from edgesdk.bundle.step_contract import StepContract, cell_groups, new_groups

SHAPE = (3, 2, 2, 5, 8)  # L, 2, K, n, D
LAYERS = ((2, 8),) * 3


def contract(cell_type, layers=LAYERS):
    return StepContract(
        (), (), cell_groups(layers, cell_type), new_groups(layers, cell_type), cell_type, None
    )


def require_finite(kv):
    require_finite_cells(Cells((kv,)), contract(kv.dtype.name))


def sound(dtype):
    return np.random.default_rng(0).standard_normal(SHAPE).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
def test_one_number_is_found_wherever_it_is(dtype, value):
    for place in ((0, 0, 0, 0, 0), (2, 1, 1, 4, 7), (1, 0, 1, 3, 2)):
        kv = sound(dtype)
        require_finite(kv)
        kv[place] = value
        with pytest.raises(NotFiniteError) as caught:
            require_finite(kv)
        kind = "NaN" if np.isnan(value) else "infinity"
        assert f"{kind} among the {('keys', 'values')[place[1]]} of layer {place[0]} (of 0 to 2)" in str(
            caught.value
        )
        assert "\n" not in str(caught.value)
        assert caught.value.columns.tolist() == [place[3]]
        with pytest.raises(NotFiniteError) as caught:
            require_finite(kv[:, :, :, place[3]])  # one token, strided
        assert caught.value.columns.tolist() == [0]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_largest_and_smallest_numbers_are_finite(dtype):
    kv = sound(dtype)
    kv[0, 0, 0, 0, :4] = np.finfo(dtype).max, np.finfo(dtype).min, np.finfo(dtype).smallest_subnormal, -0.0
    with np.errstate(all="raise"):  # what an app may ask of numpy for itself
        require_finite(kv)
        require_finite(kv[:, :, :, :0])


def test_every_bad_token_is_told():
    kv = sound(np.float32)
    kv[0, 1, 0, 1, 3], kv[2, 0, 1, 4, 0] = np.nan, np.inf
    with pytest.raises(NotFiniteError) as caught:
        require_finite(kv)
    assert caught.value.columns.tolist() == [1, 4]


def test_of_int8_cells_the_scales_are_looked_at():
    scales = np.ones(SHAPE[:-1], np.float32)
    cells = Cells((np.zeros(SHAPE, np.int8), scales))
    require_finite_cells(cells, contract("int8"))
    scales[1, 1, 0, 2] = np.nan
    with pytest.raises(NotFiniteError, match="values of layer 1") as caught:
        require_finite_cells(cells, contract("int8"))
    assert caught.value.columns.tolist() == [2]


@pytest.mark.parametrize("cell_type", ["float32", "float16", "int8"])
def test_of_several_kinds_of_layers_the_model_s_own_numbers_are_told(cell_type):
    layers = ((2, 8), (1, 16), None, (1, 16), (2, 8))  # the third reads another layer's cells
    steps = contract(cell_type, layers)
    cells = Cells(tuple(np.zeros(group.shape(4), group.dtype) for group in steps.groups))
    require_finite_cells(cells, steps)
    # The second of the layers with one head, and the second of those with two.
    later, earlier = (cells.arrays[i] for i in ((0, 1) if cell_type != "int8" else (1, 3)))
    later[1, 0, 0, 1], earlier[1, 1, 0, 3] = np.inf, np.nan
    with pytest.raises(NotFiniteError, match=r"NaN among the values of layer 3 \(of 0 to 4\)") as caught:
        require_finite_cells(cells, steps)
    assert caught.value.columns.tolist() == [1, 3]
