"""Names of weights by pattern, as recipes write them: shell style, with at most one range of layers.

`*` means the model: the low-rank parts of its streams are spoken of by patterns alone that say `stream_`.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

from edgesdk_converters.graph.low_rank_term import STREAM_INNER, STREAM_WRITTEN

_RANGE = re.compile(r"\{(\d{1,4})-(\d{1,4})\}")
_LAYER = re.compile(r"layers\.(\d+)\.")


def check_pattern(pattern: str) -> None:
    """Refuses a range that can match nothing, or that is no range.

    Args:
        pattern: with both ends of a range included: `layers.{0-3}.*`, `layers.{20-29}.down`, `*.o`, `head`.

    Raises:
        ValueError: it is not as expected.
    """
    ranges = _RANGE.findall(pattern)
    bare = _RANGE.sub("", pattern)
    wrong = len(ranges) > 1 or "{" in bare or "}" in bare
    if wrong or (ranges and "layers.{" not in pattern):
        raise ValueError(f"pattern {pattern!r} is wrong; expected a range like layers.{{0-3}}.*")
    if ranges and int(ranges[0][0]) > int(ranges[0][1]):
        raise ValueError(f"pattern {pattern!r} has a range that ends before it begins")


def matches(pattern: str, weight: str) -> bool:
    """Whether a pattern speaks of a weight."""
    if weight.endswith((STREAM_INNER, STREAM_WRITTEN)) and "stream_" not in pattern:
        return False
    span = _RANGE.search(pattern)
    if span is None:
        return fnmatchcase(weight, pattern)
    layer = _LAYER.match(weight)
    if layer is None or not int(span[1]) <= int(layer[1]) <= int(span[2]):
        return False
    return fnmatchcase(weight, pattern.replace(span[0], layer[1]))
