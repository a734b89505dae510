"""Numbers that the processor gives in place of NaN and infinity."""

import numpy as np
import pytest

from edgesdk.backends.not_finite import NotFiniteError, require_finite
from edgesdk.backends.protocol import Cells
from edgesdk.backends.qnn.step_backend import mark_overflow
from edgesdk.bundle.step_contract import StepContract, cell_groups, new_groups


@pytest.mark.parametrize("value", [65504.0, 131008.0, -131008.0, -65504.0])
def test_what_float16_cannot_hold_becomes_nan(value):
    kv = np.ones((1, 2, 1, 3, 4), np.float32)
    kv[0, 1, 0, 2, 3] = value
    mark_overflow(kv)
    assert np.isnan(kv[0, 1, 0, 2, 3])
    assert np.isnan(kv).sum() == 1
    layers, kind = ((1, 4),), "float32"
    steps = StepContract((), (), cell_groups(layers, kind), new_groups(layers, kind), kind, None)
    with pytest.raises(NotFiniteError, match="NaN among the values"):
        require_finite(Cells((kv,)), steps)


def test_what_float16_can_hold_stays():
    logits = np.array([[65472.0, -65472.0, 0.0]], np.float32)
    before = logits.copy()
    mark_overflow(logits)
    np.testing.assert_array_equal(logits, before)
