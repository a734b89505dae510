"""The builder refuses what is inconsistent, and drops what nothing needs."""

import pytest

from edgesdk.errors import TransformError
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.graph import GraphBuilder, rebuild
from edgesdk_converters.graph.ops import Add, Linear, RmsNorm, Split, SplitHeads


@pytest.fixture
def builder():
    b = GraphBuilder()
    b.input("x", ("T", 8))
    return b


def test_unknown_input_is_refused(builder):
    with pytest.raises(TransformError, match="'y', which nothing has made"):
        builder.add(Add(), ["x", "y"], "z")


def test_second_definition_is_refused(builder):
    builder.add(RmsNorm(1e-5), ["x"], "y")
    with pytest.raises(TransformError, match="already has a value named 'y'"):
        builder.add(RmsNorm(1e-5), ["x"], "y")


@pytest.mark.parametrize(
    ("op", "inputs"),
    [(Linear(), ["x", "w"]), (Split((4, 5)), ["x"]), (SplitHeads(3), ["x"]), (Add(), ["x", "w"])],
)
def test_wrong_shapes_are_refused(builder, op, inputs):
    builder.weight("w", (4, 7))
    with pytest.raises(TransformError, match="cannot take shapes"):
        builder.add(op, inputs, *[f"out{i}" for i in range(2 if isinstance(op, Split) else 1)])


def test_a_weight_has_one_shape(builder):
    builder.weight("w", (4, 8))
    assert builder.weight("w", (4, 8)) == "w"
    with pytest.raises(TransformError, match="used as"):
        builder.weight("w", (8, 4))


def test_what_no_output_needs_is_left_out(builder):
    builder.weight("w", (4, 8))
    builder.add(RmsNorm(1e-5), ["x"], "y")
    builder.add(Linear(), ["x", "w"], "unused")
    graph = builder.build(["y"])
    assert [n.outputs for n in graph.nodes] == [("y",)]
    assert graph.weights == ()


def test_an_output_that_is_not_there_is_refused(builder):
    with pytest.raises(TransformError, match="'nothing' is not a value"):
        builder.build(["nothing"])


def test_rebuilding_changes_nothing(any_program):
    graph = any_program.graph
    again = rebuild(graph, graph.nodes, graph.weights)
    assert again == graph


def test_the_decoder_has_the_contract_of_the_step(any_program):
    spec = any_program.spec
    graph = build_decoder(spec)
    shapes = {v.name: v.shape for v in graph.inputs}
    assert shapes["tokens"] == shapes["positions"] == ("T",)
    assert shapes["mask"] == ("T", "S+T")
    assert ("window_mask" in shapes) == (spec.window is not None)
    K, D = spec.layers[1].cells
    assert shapes["k_cache.1"] == shapes["v_cache.1"] == (K, "S", D)
    assert graph.values["logits"].shape == ("R", spec.vocab_size)
    assert graph.values["k_new.1"].shape == (K, "T", D)
    own = [layer for layer, mixer in enumerate(spec.layers) if mixer.reads is None]
    assert {name for name in shapes if "_cache" in name} == {f"{s}_cache.{i}" for s in "kv" for i in own}
