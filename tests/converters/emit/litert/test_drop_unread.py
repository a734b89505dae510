"""What leads to no output goes, what is left means the same."""

import numpy as np
import pytest

from edgesdk.errors import EmitError
from edgesdk_converters.emit.litert.drop_unread import drop_unread
from edgesdk_converters.emit.litert.model_file import ModelFile, Quantisation

pytest.importorskip("ai_edge_litert", reason="LiteRT has no wheel for this platform")


def names(subgraph, indices):
    return [None if index < 0 else subgraph.tensors[index].name for index in indices]


def add(subgraph, code, inputs, name):
    out = subgraph.tensor(name, (2, 2))
    subgraph.op(code, 1, inputs, [out])
    return out


def test_a_chain_that_nothing_reads_goes():
    subgraph = ModelFile("test").subgraph("step")
    x = subgraph.input("x", (2, 2))
    unread = add(subgraph, "TANH", [add(subgraph, "FLOOR", [x], "first")], "second")
    subgraph.output("y", add(subgraph, "LOGISTIC", [x], "y"))
    assert unread == 2
    drop_unread(subgraph)
    assert [tensor.name for tensor in subgraph.tensors] == ["x", "y"]
    (operator,) = subgraph.operators
    assert names(subgraph, operator.inputs) == ["x"]
    assert names(subgraph, operator.outputs) == ["y"]
    assert (subgraph.inputs, subgraph.outputs) == ([("x", 0)], [("y", 1)])


def test_inputs_and_outputs_that_nothing_reads_stay():
    subgraph = ModelFile("test").subgraph("step")
    subgraph.input("unused", (1,))
    x = subgraph.input("x", (2, 2))
    first = add(subgraph, "FLOOR", [x], "first")
    subgraph.output("first", first)
    subgraph.output("second", add(subgraph, "TANH", [first], "second"))
    drop_unread(subgraph)
    assert len(subgraph.operators) == 2
    assert [name for name, _ in subgraph.inputs] == ["unused", "x"]


def test_scales_of_blocks_follow_their_matrix():
    model = ModelFile("test")
    subgraph = model.subgraph("step")
    x = subgraph.input("x", (2, 32))
    add(subgraph, "FLOOR", [x], "unread")
    scales = subgraph.constant("scales", (2, 1), "FLOAT16", lambda: np.ones((2, 1), np.float16))
    blocks = Quantisation(block=32, block_scales=scales)
    matrix = subgraph.constant("matrix", (2, 32), "INT4", lambda: np.zeros(32, np.uint8), blocks)
    subgraph.output("y", add(subgraph, "FULLY_CONNECTED", [x, matrix, -1], "y"))
    drop_unread(subgraph)
    (operator,) = subgraph.operators
    assert names(subgraph, operator.inputs) == ["x", "matrix", None]
    details = subgraph.tensors[operator.inputs[1]].quantization.details
    assert names(subgraph, [details.scales]) == ["scales"]


@pytest.mark.parametrize("kind", ["input", "output"])
def test_an_output_has_a_tensor_of_its_own(kind):
    subgraph = ModelFile("test").subgraph("step")
    x = subgraph.input("x", (2, 2))
    y = add(subgraph, "FLOOR", [x], "y")
    subgraph.output("x", y)
    with pytest.raises(EmitError, match=f"very tensor of {kind} 'x', expected one of its own"):
        subgraph.output("again", x if kind == "input" else y)
