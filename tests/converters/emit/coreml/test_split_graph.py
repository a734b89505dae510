"""Parts of a graph: together the whole, each within its limit, cut at the residual stream."""

from itertools import pairwise

import numpy as np
import pytest

from edgesdk.bundle.manifest import StepShape
from edgesdk.errors import EmitError
from edgesdk_converters.emit.coreml.split_graph import split_graph
from edgesdk_converters.graph.evaluate import evaluate

STEP = StepShape(5, 24, 3, "step_5")


def count(nodes):
    return len(nodes)


@pytest.mark.parametrize("limit", [20, 30, 1000])
def test_parts_in_a_row_give_what_the_whole_gives(uniform_program, random_step, limit):
    program, inputs = uniform_program, random_step(uniform_program.spec, STEP)
    parts = split_graph(program.graph, count, limit)
    assert (len(parts) == 1) == (limit == 1000)
    assert [node for part in parts for node in part.nodes] == list(program.graph.nodes)
    values = dict(inputs)
    for part in parts:
        assert len(part.nodes) <= limit
        given = evaluate(part, program.weights, {value.name: values[value.name] for value in part.inputs})
        assert set(given) == set(part.outputs)
        values.update(given)
    for name, expected in evaluate(program.graph, program.weights, inputs).items():
        np.testing.assert_array_equal(values[name], expected)
    # Every input of the whole belongs to some part, and nothing else comes from outside.
    made = {name for part in parts for name in part.outputs}
    assert {v.name for part in parts for v in part.inputs} - made == {v.name for v in program.graph.inputs}


def test_keys_that_later_blocks_read_are_not_cut_off(make_program):
    """Only the stream goes from package to package, so a block and those that read it stay together."""
    graph = make_program("mixed").graph
    with pytest.raises(EmitError, match=r"what reads 'layers\.0\..*' to 'layers\.4\.o' alone"):
        split_graph(graph, count, 30)
    parts = split_graph(graph, count, 70)
    assert [sum("_new." in name for name in part.outputs) for part in parts] == [4, 0]


def test_one_stream_goes_from_part_to_part(make_program):
    graph = make_program("plain").graph
    parts = split_graph(graph, count, 20)
    for before, after in pairwise(parts):
        handed = {value.name for value in after.inputs} & set(before.outputs)
        assert len(handed) == 1
        assert graph.values[handed.pop()].shape == ("T", 64)


def test_a_weight_that_two_parts_read_stands_in_both(make_program):
    parts = split_graph(make_program("plain").graph, count, 20)
    assert [any(v.name == "embed" for v in part.weights) for part in (parts[0], parts[-1])] == [True, True]
    assert all(len(part.weights) < len(make_program("plain").graph.weights) for part in parts)


def test_what_cannot_be_cut_is_refused_by_name(make_program):
    what = r"what reads 'layers\.0\..*the limit of a package is 5e-06 MB; give at least 0\.\d{3}, or"
    with pytest.raises(EmitError, match=what):
        split_graph(make_program("plain").graph, count, 5)
