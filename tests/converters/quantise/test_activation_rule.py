import json

import pytest

from edgesdk.errors import UnsupportedOption
from edgesdk_converters.convert_options import ConvertOptions, check_options
from edgesdk_converters.quantise.activation_rule import ActivationRule
from edgesdk_converters.quantise.recipe import find_recipe, read_recipe


@pytest.mark.parametrize(
    ("tokens", "phase"), [(1, "decode"), (2, "few"), (16, "few"), (17, "prompt"), (128, "prompt")]
)
def test_steps_are_told_apart_by_their_tokens(tokens, phase):
    fast = dict.fromkeys(("decode", "few", "prompt"), "fast")
    assert ActivationRule("*", **fast).at(tokens) == "fast"
    assert ActivationRule("*", **{**fast, phase: "exact"}).at(tokens) == "exact"


def test_the_first_rule_that_matches_holds_and_none_is_fast(tmp_path):
    path = tmp_path / "mine.json"
    rules = [
        {"pattern": "*.down", "prompt": "fast"},
        {"pattern": "layers.{0-1}.*", "decode": "fast", "few": "fast"},
    ]
    scheme = {"bits": 8, "block": None, "algorithm": "round"}
    document = {"name": "mine", "rules": [{"pattern": "*", "scheme": scheme}], "activations": rules}
    path.write_text(json.dumps(document))
    recipe = read_recipe(path)
    assert recipe.has_exact_products
    found = {
        weight: [recipe.exact(weight, T) for T in (1, 16, 32)] for weight in ("layers.0.down", "layers.1.o")
    }
    assert found == {"layers.0.down": [True, True, False], "layers.1.o": [False, False, True]}
    assert not recipe.exact("layers.2.o", 32)
    assert not find_recipe("w8").has_exact_products


@pytest.mark.parametrize("name", ["w8", "w8-round", "w4b32", "w4c-round", "source", "source-h4"])
def test_a_recipe_has_a_form_with_exact_activations(name):
    plain, exact = find_recipe(name), find_recipe(f"{name}-exact")
    assert exact.name == f"{name}-exact"
    assert (exact.rules, exact.rotate, exact.float_type) == (plain.rules, plain.rotate, plain.float_type)
    assert all(exact.exact("layers.0.down", tokens) for tokens in (1, 8, 128))


def test_rows_of_streams_are_not_exact_unless_a_rule_names_them():
    recipe = find_recipe("w8-round-exact")
    assert not any(recipe.exact(f"layers.0.q.stream_{side}", T) for side in "ab" for T in (1, 8, 128))
    assert ActivationRule("*.stream_a").matches("layers.0.q.stream_a")


@pytest.mark.parametrize("name", ["f32-exact", "f16-exact", "p4-exact", "w8-exact-exact"])
def test_what_rounds_no_activations_has_no_such_form(name):
    with pytest.raises(UnsupportedOption, match="no products that round activations"):
        find_recipe(name)


def test_targets_whose_kernels_are_others_refuse_it():
    for target in ("litert-static", "onnx-npu"):
        with pytest.raises(UnsupportedOption, match=f"take, found {target}; leave it out") as caught:
            check_options(ConvertOptions(targets=("litert", target), recipes=("f32", "w8-exact")))
        assert "\n" not in str(caught.value)
    check_options(ConvertOptions(targets=("litert", "onnx", "onnx-step", "coreml"), recipes=("w8-exact",)))


def test_a_rule_is_read_strictly(tmp_path):
    path = tmp_path / "mine.json"
    for wrong, message in (
        ({"pattern": "*", "decode": "slow"}, "decode"),
        ({"pattern": "layers.{3-0}.*"}, "ends before it begins"),
        ({"pattern": "*", "prefill": "fast"}, "prefill"),
    ):
        path.write_text(json.dumps({"name": "mine", "rules": [], "activations": [wrong]}))
        with pytest.raises(UnsupportedOption, match=message):
            read_recipe(path)
