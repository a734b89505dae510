"""Layer ranges, and recipes read from files."""

import json

import pytest

from edgesdk.errors import UnsupportedOption
from edgesdk_converters.quantise.recipe import Recipe, Rule, Scheme, find_recipe

OWN = {
    "name": "first-layers-8",
    "rules": [
        {"pattern": "layers.{0-3}.*", "scheme": {"bits": 8, "block": None, "algorithm": "round"}},
        {"pattern": "*", "scheme": {"bits": 4, "block": 32, "algorithm": "gptq"}},
    ],
}


@pytest.fixture
def write(tmp_path):
    def write(value):
        path = tmp_path / "own.json"
        path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
        return str(path)

    return write


def test_a_file_becomes_a_recipe(write):
    recipe = find_recipe(write(OWN))
    assert recipe.name == "first-layers-8"
    assert recipe.scheme("layers.3.down") == Scheme(8, None, "round")
    assert recipe.scheme("layers.4.down") == Scheme(4, 32, "gptq")
    assert recipe.needs_data
    assert not recipe.rotate


@pytest.mark.parametrize(
    ("pattern", "weight", "expected"),
    [
        ("layers.{0-3}.*", "layers.0.q", True),
        ("layers.{0-3}.*", "layers.30.q", False),
        ("layers.{8-11}.down", "layers.10.down", True),
        ("layers.{8-11}.down", "layers.10.up", False),
        ("layers.{0-99}.*", "embed", False),
        ("layers.*.o", "layers.7.o", True),
    ],
)
def test_ranges_of_layers(pattern, weight, expected):
    assert Rule(pattern, None).matches(weight) is expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rules": [{"pattern": "layers.{3-0}.*", "scheme": None}]}, "ends before it begins"),
        ({"rules": [{"pattern": "layers.{x}.*", "scheme": None}]}, "expected a range like"),
        ({"rules": [{"pattern": "{0-3}.q", "scheme": None}]}, "expected a range like"),
        (
            {"rules": [{"pattern": "*", "scheme": {"bits": 3, "block": None, "algorithm": "round"}}]},
            "bits is 3",
        ),
        (
            {"rules": [{"pattern": "*", "scheme": {"bits": 4, "block": 16, "algorithm": "round"}}]},
            "block is 16",
        ),
        (
            {"rules": [{"pattern": "*", "scheme": {"bits": 4, "block": 32, "algorithm": "x"}}]},
            "algorithm is 'x'",
        ),
        ({"rules": [{"pattern": "*"}]}, "lacks the key 'scheme'"),
        ({"rulez": []}, "unknown key 'rulez'"),
        ({"gate_top1_agreement": 2.0}, "expected 0 to 1"),
        ({"gate_perplexity_ratio": 0}, "expected 1 to"),
        ({"name": "w8"}, "not the name of a built-in"),
        ({"name": "../x"}, "names its recipe '../x'"),
    ],
)
def test_bad_files_are_refused_in_one_line(write, change, message):
    with pytest.raises(UnsupportedOption, match=message) as caught:
        find_recipe(write({**OWN, **change}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\x00", "[]", "3"])
def test_what_is_no_recipe_is_refused(write, text):
    with pytest.raises(UnsupportedOption, match="recipe file"):
        find_recipe(write(text))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UnsupportedOption, match="cannot be read: No such file"):
        find_recipe(str(tmp_path / "none.json"))


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "big.json"
    path.write_bytes(b" " * ((1 << 20) + 1))
    with pytest.raises(UnsupportedOption, match="longer than"):
        find_recipe(str(path))


def test_round_names_the_uncalibrated_form():
    for name in ("w4b32-round", "w4b64-round", "w4c-round"):
        assert not find_recipe(name).needs_data
        assert find_recipe(name).scheme("layers.0.q").algorithm == "clip_search"


def test_recipes_that_move_magnitude_need_data():
    assert Recipe("own", (), scale_channels=True).needs_data
    assert not Recipe("own", ()).needs_data


def test_a_rule_may_give_up_a_files_blocks(write):
    rules = [
        {"pattern": "head", "scheme": {"bits": 4, "block": 32, "algorithm": "gptq"}, "requantise": True},
        {"pattern": "*", "scheme": {"bits": 8, "block": None, "algorithm": "round"}},
    ]
    recipe = find_recipe(write({"name": "own", "rules": rules, "keep_blocks": True}))
    assert recipe.requantises("head")
    assert not recipe.requantises("layers.0.down")


def test_a_smaller_table_is_part_of_a_recipes_name():
    recipe = find_recipe("source-h4")
    assert recipe.keep_blocks
    assert recipe.scheme("embed") == recipe.scheme("head") == Scheme(4, 32, "gptq")
    assert recipe.requantises("embed")
    assert not find_recipe("source").requantises("embed")
