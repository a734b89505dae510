import pytest

from edgesdk.text.loose_values import LooseReader, NoValueError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("-0.5e2", -50.0),
        ("True", True),
        ("null", None),
        ("'it''s'", "it"),
        (r"'it\'s'", "it's"),
        (r'"\ud83d\ude00 \n"', "😀 \n"),
        ("[1, ('a', False), []]", [1, ["a", False], []]),
        ("{'a': 1, b: {\"c\": None}}", {"a": 1, "b": {"c": None}}),
    ],
)
def test_values(text, value):
    assert LooseReader(text).value() == value


def test_marks_around_texts():
    reader = LooseReader('{a:<|"|>x "y" <|"|>,b:[<|"|><|"|>]}', mark='<|"|>')
    assert reader.value() == {"a": 'x "y" ', "b": [""]}


@pytest.mark.parametrize(
    "text", ["", "x", "f(1)", "'a", "[1", "{1: 2}", "1 +", "__import__('os')", "1" * 500, "[" * 50 + "]" * 50]
)
def test_what_is_no_value_is_refused(text):
    reader = LooseReader(text)

    def read():
        reader.value()
        reader.expect("the end")

    with pytest.raises(NoValueError, match="at character"):
        read()
