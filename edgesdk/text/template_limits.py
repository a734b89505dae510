"""What a template that is not trusted may call: filters and methods by name, with their price known before.

The filters are jinja2's own, those that published chat templates use. A call that makes more text than it
is given is refused before it happens; one that compares, sorts or writes out whole values pays for all
that is in them. Names that are not listed here do not exist for a template.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import cast

from jinja2 import Environment, pass_environment
from jinja2.filters import FILTERS, make_attrgetter
from jinja2.tests import TESTS

from edgesdk.text.render_budget import RenderBudget, TooMuch

BUDGET: ContextVar[RenderBudget] = ContextVar("edgesdk-render-budget")
"""The budget of the rendering that this thread is in."""

_MOST_WIDTH = 999
_MOST_INDENT = 32
_MOST_BITS = 4096
_MOST_DIGITS = 1000
_MOST_PRECISION = 300
_LONGEST_SET = 256
"""Characters to strip, or to look for from the right, where the search takes the product of both lengths."""

_PLAIN_FILTERS = (
    *("abs", "attr", "capitalize", "count", "d", "default", "e", "escape", "filesizeformat", "first"),
    *("forceescape", "items", "last", "length", "list", "lower", "map", "random", "reject", "rejectattr"),
    *("reverse", "safe", "select", "selectattr", "title", "truncate", "upper", "urlencode", "wordcount"),
)
_DEEP_FILTERS = ("dictsort", "groupby", "max", "min", "sort", "unique")
"""They read all that is in a value, not just its entries."""

_COMPARING_TESTS = (
    *("==", "!=", "<", "<=", ">", ">=", "eq", "equalto", "ne", "lt", "lessthan", "le", "gt", "greaterthan"),
    *("ge", "in"),
)

_GROWING = frozenset(
    (
        *("center", "encode", "expandtabs", "format", "format_map", "ljust", "maketrans", "rjust"),
        *("translate", "zfill"),
    )
)
"""Methods of texts that make more of them, or something else."""

METHODS: Mapping[type, frozenset[str]] = {
    str: frozenset(name for name in dir(str) if not name.startswith("_")) - _GROWING,
    bytes: frozenset(),
    list: frozenset(("copy", "count", "index")),
    tuple: frozenset(("count", "index", "grouper", "list")),
    dict: frozenset(("copy", "get", "items", "keys", "values")),
    int: frozenset(("bit_length",)),
    float: frozenset(("is_integer",)),
    complex: frozenset(),
}
"""Methods that templates may call, by the type of what they belong to."""

_LONGEST_PATTERN = 10_000

_BACKWARD = ("rfind", "rindex", "rpartition", "rsplit", "strip", "lstrip", "rstrip")


def limited_filters() -> dict[str, Callable[..., object]]:
    """The filters of a template, by name; those that start with @ are put in by `count_steps`."""
    known = cast(Mapping[str, Callable[..., object]], FILTERS)
    found: dict[str, Callable[..., object]] = {}
    for name in _PLAIN_FILTERS:
        found[name] = _paid(known[name], deep=False)
    for name in _DEEP_FILTERS:
        found[name] = _paid(known[name], deep=True)
    own: dict[str, Callable[..., object]] = {
        "float": _float,
        "format": _format,
        "indent": _indent,
        "int": _int,
        "replace": _replace,
        "join": _join,
        "round": _round,
        "string": written,
        "sum": _sum,
        "tojson": _tojson,
        "trim": _trim,
    }
    return found | {name: _paid(apply, deep=False) for name, apply in own.items()}


def limited_tests() -> dict[str, Callable[..., bool]]:
    """The tests of a template: jinja2's, where those that compare pay for what they compare."""
    known = cast(Mapping[str, Callable[..., bool]], TESTS)
    return {name: _comparing(test) if name in _COMPARING_TESTS else test for name, test in known.items()}


def check_method(owner: str, name: str, arguments: tuple[object, ...]) -> tuple[object, ...]:
    """Pays for a method of a text before it is called; returns the arguments to call it with."""
    budget = BUDGET.get()
    budget.pay_text(owner)
    if name == "replace":
        check_replace(owner, *arguments[:2])
    elif name == "join" and arguments:
        parts = arguments[0] if isinstance(arguments[0], list | tuple) else list(_iterable(arguments[0]))
        check_join(owner, parts)
        return (parts, *arguments[1:])
    elif name in _BACKWARD and arguments and isinstance(arguments[0], str):
        _limit(len(arguments[0]), _LONGEST_SET, f"looks for too long a text with '{name}'")
    return arguments


def check_replace(text: str, *change: object) -> None:
    """Refuses to replace short texts by long ones so often that the whole gets too long."""
    old, new = change if len(change) == 2 else ("", "")
    if isinstance(old, str) and isinstance(new, str):
        BUDGET.get().refuse_longer(len(text) + text.count(old) * len(new))


def check_join(separator: str, parts: Iterable[object]) -> None:
    """Refuses to join so many texts that the whole gets too long."""
    sizes = [BUDGET.get().walk(part) + len(separator) for part in parts]
    BUDGET.get().refuse_longer(sum(sizes))


def written(value: object) -> str:
    """A value as text: what `str` makes of it, if that is not too long."""
    if isinstance(value, str):
        return value
    BUDGET.get().refuse_longer(BUDGET.get().walk(value))
    return str(value)


def add(left: object, right: object) -> object:
    """The sum of two values, if it is not too long."""
    if isinstance(left, str | list | tuple) and isinstance(right, str | list | tuple):
        size = len(left) + len(right)
        BUDGET.get().refuse_longer(size if isinstance(left, str) else size << 4)
        BUDGET.get().spend(1 + (size >> 8), size if isinstance(left, str) else size << 4)
    return left + right  # type: ignore[operator]


def check_format(pattern: str, values: object) -> None:
    """Refuses `%` formatting that fills up to great widths, or writes a long value many times."""
    _limit(len(pattern), _LONGEST_PATTERN, "formats by too long a pattern")
    BUDGET.get().spend(1 + (len(pattern) ** 2 >> 12))
    conversions = 0
    for found in _CONVERSION.finditer(pattern):
        if found[0] == "%%":
            continue
        conversions += 1
        if "*" in found[0][1:] or any(int(digits) > _MOST_WIDTH for digits in re.findall(r"\d+", found[1])):
            raise TooMuch(f"formats text to a width that is not limited (at most {_MOST_WIDTH})")
    if pattern.count("%(") and any(key.count("(") for key in re.findall(r"%\(([^)]*)\)", pattern)):
        raise TooMuch("formats text by a name with brackets in it")
    inside = BUDGET.get().walk(values)
    BUDGET.get().refuse_longer(len(pattern) + conversions * (_MOST_WIDTH if conversions > 64 else 0))
    BUDGET.get().refuse_longer(len(pattern) + max(conversions - 8, 0) * inside)


_CONVERSION = re.compile(r"%(?:\([^)]*\))?([#0 +\-]*(?:\d+|\*)?(?:\.(?:\d+|\*)?)?)[hlL]?.?", re.DOTALL)
"""A conversion of `%`: its key, then flags, width and precision, then the letter."""


def check_product(left: object, right: object) -> None:
    """Refuses a product that repeats a value too often, or a number with too many digits."""
    for text, count in ((left, right), (right, left)):
        if isinstance(text, str | bytes | list | tuple) and isinstance(count, int):
            BUDGET.get().spend(1 + (max(len(text) * count, 0) >> 8))
            _limit(len(text) * count, 100_000, "repeats a value too often")
    if isinstance(left, int) and isinstance(right, int):
        _limit(left.bit_length() + right.bit_length(), _MOST_BITS, "makes too large a number")


def check_power(left: object, right: object) -> None:
    """Refuses a power with too many digits."""
    if isinstance(left, int) and isinstance(right, int):
        _limit(left.bit_length() * abs(right), _MOST_BITS, "raises a number to too high a power")


def limited_range(most: int) -> Callable[..., range]:
    """A `range` for one rendering: all of its ranges together have a limit."""
    used = 0

    def limited(*bounds: int) -> range:
        nonlocal used
        found = range(*bounds)
        used += max(len(found), 1)
        _limit(used, most, "loops too often")
        return found

    return limited


def _paid(apply: Callable[..., object], *, deep: bool) -> Callable[..., object]:
    """A filter that pays for what it reads and what it makes."""
    place = 1 if hasattr(apply, "jinja_pass_arg") else 0

    @functools.wraps(apply)
    def paid(*arguments: object, **named: object) -> object:
        budget = BUDGET.get()
        value = arguments[place] if len(arguments) > place else None
        if isinstance(value, str):
            budget.pay_text(value)
        elif deep:
            budget.walk(value)
        elif isinstance(value, list | tuple | dict | range):
            budget.spend(1 + (len(value) >> 4), len(value))
        result = apply(*arguments, **named)
        if isinstance(result, str):
            budget.pay_text(result)
        elif isinstance(result, Generator):
            return _counted(result, budget)
        elif isinstance(result, list):
            budget.spend(1 + (len(result) >> 4), len(result) << 4)
        return result

    return paid


def _comparing(test: Callable[..., bool]) -> Callable[..., bool]:
    @functools.wraps(test)
    def paid(*arguments: object) -> bool:
        for each in arguments:
            BUDGET.get().walk(each)
        return test(*arguments)

    return paid


def _counted(entries: Iterable[object], budget: RenderBudget) -> Iterator[object]:
    for each in entries:
        budget.spend(1)
        yield each


def _iterable(value: object) -> Iterable[object]:
    if not isinstance(value, Iterable):
        raise TypeError("can only join an iterable")
    return _counted(value, BUDGET.get())


def _float(value: object, default: float = 0.0) -> float:
    _limit_digits(value)
    return FILTERS["float"](value, default)  # type: ignore[no-any-return]


def _int(value: object, default: int = 0, base: int = 10) -> int:
    _limit_digits(value)
    return FILTERS["int"](value, default, base)  # type: ignore[no-any-return]


def _round(value: float, precision: int = 0, method: str = "common") -> float:
    _limit(abs(precision), _MOST_PRECISION, "rounds to too many places")
    return FILTERS["round"](value, precision, method)  # type: ignore[no-any-return]


def _trim(value: object, chars: str | None = None) -> str:
    _limit(len(chars or ""), _LONGEST_SET, "trims too many characters")
    return FILTERS["trim"](value, chars)  # type: ignore[no-any-return]


def _replace(text: object, old: str, new: str, count: int | None = None) -> str:
    whole = str(text)
    check_replace(whole, old, new)
    return whole.replace(old, new, -1 if count is None else count)


def _indent(text: object, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    _limit(width if isinstance(width, int) else len(width), _MOST_INDENT, "indents too far")
    whole = str(text)
    BUDGET.get().refuse_longer(len(whole) + (len(whole.splitlines()) + 1) * _MOST_INDENT)
    return FILTERS["indent"](whole, width, first, blank)  # type: ignore[no-any-return]


@pass_environment
def _join(environment: Environment, value: object, d: str = "", attribute: str | int | None = None) -> str:
    parts = list(_iterable(value))
    if attribute is not None:
        read = make_attrgetter(environment, attribute)
        parts = [read(part) for part in parts]
    texts = [written(part) for part in parts]
    check_join(str(d), texts)
    return str(d).join(texts)


@pass_environment
def _sum(
    environment: Environment, iterable: object, attribute: str | int | None = None, start: object = 0
) -> object:
    read = None if attribute is None else make_attrgetter(environment, attribute)
    for part in _iterable(iterable):
        start = add(start, part if read is None else read(part))
    return start


def _format(pattern: object, *values: object, **named: object) -> str:
    text = str(pattern)
    check_format(text, list(values) + list(named.values()))
    return FILTERS["format"](text, *values, **named)  # type: ignore[no-any-return]


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as models were trained on it: jinja2's own filter escapes for HTML."""
    if indent is not None:
        _limit(indent, _MOST_INDENT, "indents too far")
    if separators is not None:
        _limit(max((len(text) for text in separators), default=0), _MOST_INDENT, "separates too far")
    BUDGET.get().refuse_longer(BUDGET.get().walk(value))
    coder = json.JSONEncoder(
        ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    if indent is None:
        return coder.encode(value)
    pieces = []
    for piece in coder.iterencode(value):  # deep values are mostly indentation
        BUDGET.get().pay_text(piece)
        pieces.append(piece)
    return "".join(pieces)


def _limit_digits(value: object) -> None:
    if isinstance(value, str):
        _limit(len(value), _MOST_DIGITS, "reads a number with too many digits")


def _limit(found: float, most: int, what: str) -> None:
    if found > most:
        raise TooMuch(f"{what} ({found:.0f}, at most {most})")
