"""Masks in the order of a file."""

import numpy as np
import pytest

from edgesdk.backends.litert.cell_inputs import turn_mask
from edgesdk.backends.protocol import MASKED


@pytest.mark.parametrize("columns", [3, 16])
def test_new_tokens_stand_first_in_as_many_columns_as_the_file_has(columns):
    mask = np.arange(3 * 8, dtype=np.float32).reshape(3, 8)  # T = 3, S = 5
    turned = np.full((3, columns + 5), 7, np.float32)
    turn_mask(mask, turned)
    assert np.array_equal(turned[:, :3], mask[:, 5:])
    assert (turned[:, 3:columns] == MASKED).all()
    assert np.array_equal(turned[:, columns:], mask[:, :5])
