"""Values in messages: short, in one line, whatever they are."""

import pytest

from edgesdk.errors import first_line, quoted


class Silent:
    def __repr__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "expected"),
    [("a", "'a'"), (1.5, "1.5"), (None, "None"), (["x", 1], "['x', 1]"), (Silent(), "<Silent>")],
)
def test_short_values_are_shown_as_they_are(value, expected):
    assert quoted(value) == expected or (expected == "<Silent>" and "Silent" in quoted(value))


@pytest.mark.parametrize(
    "value",
    ["x" * 200_000, b"x" * 200_000, ["y" * 9000] * 5000, {"k" * 500: "v" * 500}, "\n\ud800" * 999, 10**9000],
    ids=("text", "bytes", "list", "dict", "lines", "number"),
)
def test_long_values_are_cut_to_one_line(value):
    assert len(quoted(value)) <= 80
    assert len(quoted(value, 20)) <= 20
    assert "\n" not in quoted(value)
    quoted(value).encode("utf-8")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("one\ntwo", "one"),
        ("\n \n  a\tb \r\nc", "a b"),
        ("", "ValueError"),
        ("\n", "ValueError"),
        ("x" * 999, "x" * 300),
    ],
)
def test_an_error_of_a_library_is_its_first_line_or_its_name(message, expected):
    assert first_line(ValueError(message)) == expected
    assert len(first_line(ValueError(message), 20)) <= 20
