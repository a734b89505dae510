import threading

import pytest

from edgesdk.bundle.native_calls import native_call, on_deep_stack
from edgesdk.errors import BundleError, CapacityError, EdgeError


class Panic(BaseException):
    """What a library in Rust raises: no Exception."""


@pytest.mark.parametrize(
    "error",
    [Panic("a\nb"), MemoryError(), RecursionError("deep"), SystemError("x"), OverflowError("x"), Panic()],
)
def test_whatever_comes_out_is_one_line(error):
    with (
        pytest.raises(BundleError, match=r"^the file is bad: .*; convert it$") as caught,
        native_call("the file is bad", BundleError, "convert it"),
    ):
        raise error
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(1), GeneratorExit(), CapacityError("full")]
)
def test_what_asks_for_an_end_or_is_ours_goes_through(error):
    with pytest.raises(type(error)) as caught, native_call("x"):
        raise error
    assert caught.value is error


def test_a_deep_stack_returns_and_raises_as_the_call_does():
    before = threading.stack_size()
    assert on_deep_stack(lambda: 3) == 3
    with pytest.raises(EdgeError, match="no"):
        on_deep_stack(lambda: (_ for _ in ()).throw(EdgeError("no")))
    assert threading.stack_size() == before
