"""The graph of a step without a stream: that of the model without any."""

import numpy as np
import pytest

from edgesdk.bundle.stack_record import STREAMS
from edgesdk_converters.emit.leave_out_streams import leave_out_streams
from edgesdk_converters.graph.evaluate import evaluate
from edgesdk_converters.graph.full_sequence import sequence_inputs
from edgesdk_converters.prepare import prepare
from edgesdk_converters.quantise.recipe import find_recipe
from edgesdk_converters.streams.add_streams import add_streams
from edgesdk_converters.transforms.cut_streams import take_below, take_top
from edgesdk_converters.transforms.give_hidden import give_hidden
from tests.converters.streams.test_add_streams import FORMS, make_streams


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("recipe", ["f32", "w8-round"])
@pytest.mark.parametrize("name", ["llama", "gemma3", "qwen3"])
def test_it_is_the_graph_without_streams(name, recipe, form):
    _, program, streams = make_streams(name, form)
    program = give_hidden(program)
    plain, grown = (prepare(each, find_recipe(recipe)) for each in (program, add_streams(program, streams)))
    left = leave_out_streams(grown.graph)
    assert left.inputs == grown.graph.inputs
    assert [type(node.op) for node in left.nodes] == [type(node.op) for node in plain.graph.nodes]
    assert {value.name for value in left.weights} == {value.name for value in plain.graph.weights}
    tokens = np.array([7], np.int32)
    found, expected = (
        evaluate(graph, each.weights, sequence_inputs(each, [tokens]))
        for graph, each in ((left, grown), (plain.graph, plain))
    )
    for output, value in expected.items():
        assert np.array_equal(found[output], value), output


def test_parts_of_a_cut_decoder():
    _, program, streams = make_streams("llama", "streams")
    grown = prepare(add_streams(program, streams), find_recipe("f32"))
    below, top = take_below(grown, 1).graph, take_top(grown, 1).graph
    assert leave_out_streams(below) is below
    assert not any(STREAMS in node.inputs for node in leave_out_streams(top).nodes)


def test_a_graph_without_streams_is_itself():
    _, program, _ = make_streams("llama", "masks")
    assert leave_out_streams(program.graph) is program.graph
