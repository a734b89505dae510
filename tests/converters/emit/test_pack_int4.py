"""Packing of 4-bit values."""

import numpy as np
import pytest

from edgesdk_converters.emit.pack_int4 import pack_int4


@pytest.mark.parametrize(
    ("values", "packed"),
    [
        ([[1, -1, 7], [-8, 0, 3]], [0xF1, 0x87, 0x30]),
        ([[1, -8], [7, -1]], [0x81, 0xF7]),
        ([[3, 2, 1]], [0x23, 0x01]),
    ],
)
def test_the_first_value_is_the_low_half(values, packed):
    assert pack_int4(np.array(values, np.int8)).tolist() == packed
