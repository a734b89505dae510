"""What every training's options have in common, and how they are refused."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgesdk.errors import UnsupportedOption

ANSWERS, SAMPLE = "answers", "sample"
"""Kinds of data beside files: what the target answers, and the shipped calibration sample."""


def check_length(hours: float | None, steps: int | None) -> None:
    """Refuses a training of no length, or of two.

    Raises:
        UnsupportedOption: naming the option.
    """
    if (hours is None) == (steps is None):
        raise UnsupportedOption("give the hours to train or the steps, one of the two")
    if hours is not None and not (0 < hours <= 1000 and math.isfinite(hours)):
        raise UnsupportedOption(f"hours is {hours}, expected more than 0 and at most 1000")


def check_counts(options: object, names: Sequence[str]) -> None:
    """Refuses fields that are there and less than 1.

    Raises:
        UnsupportedOption: naming the option.
    """
    for name in names:
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UnsupportedOption(f"{name} is {value}, expected at least 1")


def check_data(data: Sequence[str], known: str) -> None:
    """Refuses no data, and data that are given twice.

    Args:
        data: as given.
        known: what is expected, in words.

    Raises:
        UnsupportedOption: naming it.
    """
    if not data:
        raise UnsupportedOption(f"data is empty, expected {known}")
    twice = [item for item in data if data.count(item) > 1]
    if twice:  # what is held back of one would be learnt from the other
        raise UnsupportedOption(f"data names {twice[0][:200]!r} twice, expected it once")
