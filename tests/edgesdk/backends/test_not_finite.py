"""NaN and infinity among new keys and values: found in every type, with layer, kind and token."""

import numpy as np
import pytest

from edgesdk.backends.not_finite import NotFiniteError, require_finite
from edgesdk.backends.protocol import Int8Cells

SHAPE = (3, 2, 2, 5, 8)  # L, 2, K, n, D


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
    cells = Int8Cells(np.zeros(SHAPE, np.int8), scales)
    require_finite(cells)
    scales[1, 1, 0, 2] = np.nan
    with pytest.raises(NotFiniteError, match="values of layer 1") as caught:
        require_finite(cells)
    assert caught.value.columns.tolist() == [2]
