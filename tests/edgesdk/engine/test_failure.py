"""What was raised becomes an error of the caller's own."""

import numpy as np
import pytest

from edgesdk.backends.not_finite import NotFiniteError
from edgesdk.engine.failure import as_edge_error
from edgesdk.errors import CapacityError, DeviceError, ToolCallError


@pytest.mark.parametrize(
    ("error", "held"),
    [
        (CapacityError("full"), {}),
        (ToolCallError("no call", "the answer"), {"answer": "the answer"}),
        (NotFiniteError("NaN", np.arange(2), ("s",)), {"sequences": ("s",)}),
    ],
)
def test_our_own_errors_are_told_alike_to_each(error, held):
    one, other = as_edge_error(error, "x"), as_edge_error(error, "x")
    assert len({id(one), id(other), id(error)}) == 3
    for told in (one, other):
        assert (type(told), str(told)) == (type(error), str(error))
        assert {name: getattr(told, name) for name in held} == held
        assert told.__cause__ is error
        with pytest.raises(type(error)):
            raise told
    assert error.__traceback__ is None


def test_the_cause_of_an_error_stays_its_cause():
    cause = ValueError("why")
    error = DeviceError("what")
    error.__cause__ = cause
    assert as_edge_error(error, "x").__cause__ is cause


def test_other_errors_are_named_with_what_failed():
    told = as_edge_error(ValueError("a\nb"), "the step")
    assert (type(told), str(told)) == (DeviceError, "the step failed: ValueError: a b")
