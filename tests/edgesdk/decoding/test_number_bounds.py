"""Bounds of numbers with fractions: llguidance's grammar allows the numbers that jsonschema allows."""

import random
from decimal import Decimal

import pytest

from edgesdk.decoding.grammar import GrammarTokenizer
from edgesdk.decoding.json_schema import grammar_schema
from edgesdk.decoding.schema_limits import LARGEST_FRACTION, MOST_DIGITS
from edgesdk.errors import UnsupportedOption

jsonschema = pytest.importorskip("jsonschema")
pytest.importorskip("llguidance")


@pytest.fixture(scope="module")
def tokenizer(byte_level):
    return GrammarTokenizer(byte_level, byte_level.engine.get_vocab_size())


def allows(schema, tokenizer, byte_level):
    """A function that says whether the grammar of a schema takes a text as a whole document."""
    start = tokenizer.compile("JSON schema", grammar_schema(schema))

    def look(text):
        matcher = start.deep_copy()
        ids = byte_level.encode(text, add_bos=False)
        if matcher.validate_tokens(ids) < len(ids):
            return False
        matcher.consume_tokens(ids)
        return bool(matcher.is_accepting())

    return look


def near(bound, digits):
    """Texts of numbers on both sides of a bound, of any precision up to its own and one more."""
    for places in range(digits + 2):
        step = Decimal(1).scaleb(-places)
        for count in (-11, -2, -1, 0, 1, 2, 11):
            value = (bound.quantize(step) + count * step).normalize()
            yield format(value if value else abs(value), "f")


def draw_schema(draw):
    digits = draw.randint(1, MOST_DIGITS)
    scale = draw.choice([1, 10, 1000])
    least = Decimal(draw.randint(-scale * 10**digits, scale * 10**digits)).scaleb(-digits)
    most = least + Decimal(draw.randint(1, 2 * 10 ** draw.randint(0, digits))).scaleb(-digits)
    if draw.random() < 0.2:
        least = Decimal(int(least) - 1)
    schema = {"type": draw.choice(["number", "number", ["number", "null"], "integer", ["integer", "null"]])}
    lower = draw.choice(["minimum", "minimum", "exclusiveMinimum", None])
    upper = draw.choice(["maximum", "maximum", "exclusiveMaximum", None])
    schema |= {key: float(value) for key, value in ((lower, least), (upper, most)) if key is not None}
    return schema, sorted({*near(least, digits), *near(most, digits)})


@pytest.mark.parametrize("seed", range(60))
def test_the_grammar_allows_what_the_schema_allows(seed, tokenizer, byte_level):
    schema, texts = draw_schema(random.Random(seed))
    try:
        look = allows(schema, tokenizer, byte_level)
    except UnsupportedOption as error:
        assert "Unsatisfiable" in str(error) or "excluded integer" in str(error)
        return
    validator = jsonschema.Draft202012Validator(schema)
    for text in texts:
        value = float(text) if "." in text else int(text)
        assert look(text) == validator.is_valid(value), (schema, text)


@pytest.mark.parametrize(
    ("schema", "inside", "outside"),
    [
        ({"maximum": 0.95}, ["0.9", "0.95", "0", "-3.25", "0.949"], ["0.96", "1", "0.951"]),
        ({"minimum": 0.05, "maximum": 0.95}, ["0.05", "0.1", "0.9", "0.5"], ["0", "0.0", "0.04", "1"]),
        ({"exclusiveMinimum": -0.25}, ["-0.2", "-0.24", "0"], ["-0.25", "-0.3", "-1"]),
        ({"exclusiveMinimum": 0, "maximum": 1.5}, ["0.001", "1", "1.5"], ["0", "0.0", "1.51"]),
        ({"minimum": 1.346, "type": ["number", "null"]}, ["1.35", "null", "2"], ["1.34", "1.3", "1"]),
    ],
)
def test_examples(schema, inside, outside, tokenizer, byte_level):
    look = allows({"type": "number"} | schema, tokenizer, byte_level)
    assert [text for text in inside if not look(text)] == []
    assert [text for text in outside if look(text)] == []


def test_rules_beside_a_bound_are_left_alone(tokenizer, byte_level):
    schema = {"type": "number", "maximum": 0.95, "multipleOf": 0.05}
    look = allows(schema, tokenizer, byte_level)
    assert look("0.95")
    assert not look("1")
    assert not look("0.93")
    assert "anyOf" not in grammar_schema(schema)
    assert "anyOf" not in grammar_schema({"type": ["integer", "string"], "maximum": 0.95})


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"maximum": 0.1234567}, "6 digits after the point"),
        ({"minimum": LARGEST_FRACTION + 0.25}, "up to 1000000"),
        ({"exclusiveMinimum": 0, "maximum": 0.5}, "excluded integer"),
        ({"minimum": 0.5, "exclusiveMaximum": 1}, "excluded integer"),
    ],
)
def test_what_would_not_be_kept_is_refused(schema, message):
    with pytest.raises(UnsupportedOption, match=message) as caught:
        grammar_schema({"properties": {"a": schema}})
    assert "at #/properties/a" in str(caught.value)
