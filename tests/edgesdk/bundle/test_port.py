"""Ports of a step: shapes by letters, and what no file has."""

import pytest

from edgesdk.bundle.port import Port
from edgesdk.bundle.records import from_json, to_json
from edgesdk.bundle.step_shape import StepShape
from edgesdk.errors import BundleError

STEP = StepShape(4, 16, 2, "t4")


@pytest.mark.parametrize(
    ("dims", "shape"),
    [(("T",), (4,)), (("R", 7), (2, 7)), (("T", "S+T"), (4, 20)), (("S", 3), (16, 3)), ((5,), (5,))],
)
def test_letters_become_sizes(dims, shape):
    port = Port("x", dims)
    assert port.shape(STEP) == shape
    assert port.is_mask == (dims[-1] == "S+T")


@pytest.mark.parametrize(
    ("name", "dims", "match"),
    [
        ("", ("T",), "names no port"),
        ("../x", ("T",), "names no port"),
        ("x.0", ("T",), "names no port"),
        ("x", (), "0 dimensions"),
        ("x", ("T", 2, 2, 2, 2), "5 dimensions"),
        ("x", ("Q",), "the dimension 'Q'"),
        ("x", ("T", 0), "the dimension 0"),
        ("x", ("T", 1 << 25), "the dimension 33554432"),
        ("x", ("T", 1 << 13, 1 << 12), "at most 16777216 numbers a row"),
        ("x", ("S+T", "T"), "of a mask"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(name, dims, match):
    with pytest.raises(ValueError, match=match):
        Port(name, dims)
    with pytest.raises(BundleError) as caught:
        from_json(Port, {"name": name, "dims": list(dims)})
    assert "\n" not in str(caught.value)


def test_a_port_comes_back_from_json():
    port = Port("gates", ("T", 3), "float16")
    assert from_json(Port, to_json(port)) == port
    with pytest.raises(BundleError, match="dims"):
        from_json(Port, {"name": "x", "dims": ["T", True]})
    with pytest.raises(BundleError, match="dtype"):
        from_json(Port, {"name": "x", "dims": ["T"], "dtype": "float64"})
