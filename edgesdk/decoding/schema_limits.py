"""Bounds on grammars from strangers, kept before llguidance sees them.

llguidance follows references by calling itself, so that a long chain of them in a small document ends the
process, and it computes with doubles and with tables that grow with a number. What is bounded here lies
well below what was found to fail (docs/structured_output.md has the numbers). Nothing is compiled here.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from fractions import Fraction

from edgesdk.bundle.records import JsonValue
from edgesdk.errors import UnsupportedOption

LARGEST_INTEGER = 2**53
"""Above it a double, in which llguidance computes, does not tell one integer from the next."""

DEEPEST = 60
MOST_REFERENCES = 300
"""Different targets of `$ref` in one schema."""

MOST_LEVELS = 2000
"""Of all that references lead to, together: no way through the schema is longer than the sum."""

MOST_PARTS = 20_000
MOST_MULTIPLE = 20_000
MOST_DIGITS = 6
LARGEST_FRACTION = 1_000_000
"""As far as fractions of bounds were held against exact ones, over millions of numbers."""

MOST_REGEX_CHARS = 10_000
MOST_REGEX_DEPTH = 50
MOST_REGEX_SIZE = 100_000
"""Of a regular expression with its repetitions written out."""

MOST_LARK_CHARS = 200_000
MOST_RULES = 500
MOST_LARK_DEPTH = 60

_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
"""Lower and upper ones in turn."""
_RULE = re.compile(r"^[ \t]*[?!]?[A-Za-z_][^:\"/\n]*:", re.MULTILINE)
_COUNT = re.compile(r"\{(\d+)(,?)(\d*)\}")


def check_schema_limits(schema: JsonValue) -> None:
    """Refuses a schema that is too large, too deep, or has numbers that would be changed.

    Raises:
        UnsupportedOption: by the part that is too much.
    """
    parts = 0
    targets: set[str] = set()
    for part in _walk(schema, "the JSON schema"):
        parts += 1
        if isinstance(part, bool):
            continue
        if isinstance(part, int) and abs(part) > LARGEST_INTEGER:
            raise UnsupportedOption(
                f"the JSON schema has the number {str(part)[:40]}, expected integers up to 2**53: beyond it "
                "the grammar would ask for another number; use a text with a pattern"
            )
        if isinstance(part, float) and not math.isfinite(part):
            raise UnsupportedOption(f"the JSON schema has the number {part}, which JSON does not have")
        if isinstance(part, dict) and isinstance(part.get("$ref"), str):
            targets.add(str(part["$ref"]))
    if parts > MOST_PARTS:
        raise UnsupportedOption(f"the JSON schema has {parts} parts, expected at most {MOST_PARTS}")
    if len(targets) > MOST_REFERENCES:
        raise UnsupportedOption(
            f"the JSON schema refers to {len(targets)} places, expected at most {MOST_REFERENCES}"
        )
    levels = _depth(schema) + sum(_depth(_target(schema, target)) for target in targets)
    if levels > MOST_LEVELS:
        raise UnsupportedOption(
            f"the references of the JSON schema lead through {levels} levels, expected at most {MOST_LEVELS}"
        )


def check_number_rules(place: str, schema: Mapping[str, JsonValue]) -> None:
    """Refuses bounds of numbers that llguidance would not keep.

    Raises:
        UnsupportedOption: by keyword and place.
    """
    bounds = number_bounds(schema)
    for key, value in bounds.items():
        if abs(value) > LARGEST_INTEGER:
            raise UnsupportedOption(
                f"the JSON schema's {key!r} at {place} is {schema[key]}, expected up to 2**53"
            )
        digits = fraction_digits(value)
        if digits > MOST_DIGITS or (digits and abs(value) > LARGEST_FRACTION):
            raise UnsupportedOption(
                f"the JSON schema's {key!r} at {place} is {schema[key]}; bounds are kept up to {MOST_DIGITS} "
                f"digits after the point, and with such digits up to {LARGEST_FRACTION}, so round it"
            )
    for lower, upper in itertools.product(_BOUNDS[::2], _BOUNDS[1::2]):
        if lower in bounds and upper in bounds and _lets_a_bound_in(lower, upper, bounds):
            raise UnsupportedOption(
                f"the JSON schema's {lower!r} and {upper!r} at {place} have an excluded integer within 1 of "
                "a fraction, which would not be kept out; use 'minimum' and 'maximum', with 0.001, say, for 0"
            )
    multiple = schema.get("multipleOf")
    if isinstance(multiple, int | float) and Fraction(repr(multiple)).numerator > MOST_MULTIPLE:
        raise UnsupportedOption(
            f"the JSON schema's 'multipleOf' at {place} is {multiple}, expected at most {MOST_MULTIPLE} "
            "units of its last digit"
        )


def number_bounds(schema: Mapping[str, JsonValue]) -> dict[str, Decimal]:
    """The bounds of numbers in a schema, as they are written."""
    found = {}
    for key in _BOUNDS:
        value = schema.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[key] = Decimal(repr(value))
    return found


def fraction_digits(value: Decimal) -> int:
    """Digits after the point, without zeros at the end."""
    exponent = value.normalize().as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0


def _lets_a_bound_in(lower: str, upper: str, bounds: Mapping[str, Decimal]) -> bool:
    """Whether llguidance (1.3) allows an integer that is excluded: where the other bound is in its cell."""
    least, most = bounds[lower], bounds[upper]
    if not (fraction_digits(least) or fraction_digits(most)) or most - least >= 1:
        return False
    shut = [bounds[key] for key in (lower, upper) if key.startswith("exclusive")]
    return any(not fraction_digits(value) for value in shut)


def check_regex_limits(pattern: str, what: str) -> None:
    """Refuses a regular expression that is too long, too deep, or repeats too often.

    Args:
        pattern: in the syntax of Rust's regex package; what it says wrongly is found there.
        what: what it is, as the start of a message.

    Raises:
        UnsupportedOption: by the part that is too much.
    """
    if len(pattern) > MOST_REGEX_CHARS:
        raise UnsupportedOption(f"{what} has {len(pattern)} characters, expected at most {MOST_REGEX_CHARS}")
    if _nesting(pattern) > MOST_REGEX_DEPTH:
        raise UnsupportedOption(f"{what} is nested more than {MOST_REGEX_DEPTH} deep")
    size = _written_out(pattern)
    if size > MOST_REGEX_SIZE:
        raise UnsupportedOption(
            f"{what} has about {size} parts with its repetitions written out, expected at most "
            f"{MOST_REGEX_SIZE}"
        )


def check_lark_limits(text: str) -> None:
    """Refuses a Lark grammar that is too long or too deep, has too many rules, or reads other files.

    Raises:
        UnsupportedOption: by the part that is too much.
    """
    if len(text) > MOST_LARK_CHARS:
        raise UnsupportedOption(
            f"the Lark grammar has {len(text)} characters, expected at most {MOST_LARK_CHARS}"
        )
    rules = len(_RULE.findall("\n".join(text.splitlines())))
    if rules > MOST_RULES:
        raise UnsupportedOption(f"the Lark grammar has {rules} rules, expected at most {MOST_RULES}")
    references = text.count('"$ref"') + text.count("%lark")
    if references > MOST_RULES:
        raise UnsupportedOption(
            f"the Lark grammar has {references} references, expected at most {MOST_RULES}"
        )
    if _nesting(text) > MOST_LARK_DEPTH:
        raise UnsupportedOption(f"the Lark grammar is nested more than {MOST_LARK_DEPTH} deep")
    size = max((_written_out(line) for line in text.splitlines()), default=0)
    if size > MOST_LARK_CHARS + MOST_REGEX_SIZE:
        raise UnsupportedOption(
            f"a line of the Lark grammar has about {size} parts with its repetitions written out, expected "
            f"at most {MOST_LARK_CHARS + MOST_REGEX_SIZE}"
        )


def _walk(value: JsonValue, what: str) -> Iterator[JsonValue]:
    """Every value inside a value, the outermost first; names are not values."""
    waiting: list[tuple[JsonValue, int]] = [(value, 0)]
    while waiting:
        part, depth = waiting.pop()
        if depth > DEEPEST:
            raise UnsupportedOption(f"{what} is nested more than {DEEPEST} deep")
        yield part
        inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        waiting.extend((each, depth + 1) for each in inner)


def _depth(value: JsonValue) -> int:
    level, depth = [value], 0
    while level:
        depth += 1
        level = [
            each
            for part in level
            if isinstance(part, dict | list)
            for each in (part.values() if isinstance(part, dict) else part)
        ]
    return depth


def _target(schema: JsonValue, reference: str) -> JsonValue:
    """What a reference leads to; the whole schema where it is no JSON pointer, which is deeper than any."""
    if not reference.startswith("#/"):
        return schema
    found = schema
    for step in reference[2:].split("/"):
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and name in found:
            found = found[name]
        elif isinstance(found, list) and name.isdecimal() and int(name[:9]) < len(found):
            found = found[int(name[:9])]
        else:
            return schema
    return found


def _nesting(text: str) -> int:
    """At least the deepest nesting of brackets: those in texts and classes count too."""
    deepest = depth = 0
    for char in text:
        if char in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in ")]}":
            depth = max(depth - 1, 0)
    return deepest


def _written_out(pattern: str) -> int:
    """About the parts of a pattern where each `{n}` repeats what stands before it."""
    sizes = [0]
    last = 0
    place = 0
    while place < len(pattern):
        char = pattern[place]
        count = _COUNT.match(pattern, place) if char == "{" else None
        if count is not None:
            times = min(max(int(digits[:9]) for digits in (count[1], count[3] or "1")), 10**9)
            sizes[-1] += last * max(times - 1, 0)
            last *= max(times, 1)
            place = count.end()
            continue
        if char == "(":
            sizes.append(0)
        elif char == ")" and len(sizes) > 1:
            last = sizes.pop()
            sizes[-1] += last
        else:
            last = 1
            sizes[-1] += 1
            place += char == "\\"
        place += 1
    return sum(sizes)
