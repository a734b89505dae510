"""What is known of the contents of arrays that belong to a backend: kept once for each array.

Several runners may use the arrays in turn, and several sizes may share them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from weakref import WeakKeyDictionary

from edgesdk.backends.protocol import StepBackend

State = TypeVar("State")
ArrayStates = WeakKeyDictionary[StepBackend, dict[int, tuple[object, State]]]


def state_of(
    states: ArrayStates[State], backend: StepBackend, array: object, make: Callable[[], State]
) -> State:
    """What is known of an array.

    Args:
        states: of all such arrays.
        backend: whose array it is.
        array: one of its step's buffers.
        make: what is known of one that is new.
    """
    known = states.setdefault(backend, {})
    key = id(array)  # which nothing else can have: the array is kept beside it
    if key not in known:
        known[key] = (array, make())
    return known[key][1]
