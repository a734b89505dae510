import pytest

from edgesdk.bundle.manifest import Variant
from edgesdk_converters.parity.explain_miss import explain_miss


@pytest.mark.parametrize(
    ("recipe", "advice"),
    [
        ("w4c", "use recipe w4b32, or keep it"),
        ("w8-round", "use recipe w8, which is calibrated, or keep it"),
        ("mine", "use a recipe with more bits, or keep it"),
        ("mine-round", "use a recipe with more bits, or keep it"),
    ],
)
def test_it_says_what_to_try(recipe, advice):
    variant = Variant("litert-x", "litert", recipe, ("cpu",), "model.tflite", 64, numbers="0" * 64)
    line = explain_miss(variant, "perplexity is twice the reference's", ())
    assert line.startswith(f"litert-x: perplexity is twice the reference's; {advice}")
