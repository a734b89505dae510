"""Levels of single nodes: what changes in the file, and what does not."""

import onnx
import pytest

from edgesdk.bundle.manifest import GenerationDefaults
from edgesdk.errors import EmitError
from edgesdk_converters.emit.onnx.node_accuracy import quantised_products, set_float_activations
from edgesdk_converters.emit.onnx.resident import emit_resident


@pytest.fixture
def path(make_program, quantise, tokenizer_files, tmp_path):
    quantised = quantise(make_program("untied"), "w4b32-round")
    emit_resident(
        quantised,
        quantised.weights,
        tmp_path,
        context=32,
        tokenizer=tokenizer_files,
        generation=GenerationDefaults(),
    )
    return tmp_path / "model.onnx"


def levels(path):
    nodes = onnx.load(path, load_external_data=False).graph.node
    return {
        node.input[1].removesuffix(".integers"): attribute.i
        for node in nodes
        for attribute in node.attribute
        if attribute.name == "accuracy_level"
    }


def test_products_are_those_with_integers(path):
    products = quantised_products(path)
    assert {product.weight for product in products} == set(levels(path))
    bits = {product.weight: product.bits for product in products}
    assert bits["head"] == 8
    assert bits["layers.0.down"] == 4
    down = next(product for product in products if product.weight == "layers.0.down")
    assert down.multiplications == down.cost == 64 * 96


def test_only_levels_change_and_they_change_back(path):
    before, data = path.read_bytes(), (path.parent / "model.onnx.data").read_bytes()
    set_float_activations(path, ["layers.0.down", "head"])
    assert {weight for weight, level in levels(path).items() if level == 1} == {"layers.0.down", "head"}
    assert set(levels(path).values()) == {1, 4}
    set_float_activations(path, [])
    assert path.read_bytes() == before
    assert (path.parent / "model.onnx.data").read_bytes() == data


def test_unknown_products_are_refused(path):
    with pytest.raises(EmitError, match=r"no quantised product with layers\.9\.down"):
        set_float_activations(path, ["layers.9.down"])
