"""A decoder in segments: in a row they are the whole, to the last bit, before and after every transform."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from edgesdk.bundle.exit_record import CHANGES, LABELS, NEXT_STREAM, STREAM
from edgesdk.bundle.step_names import CACHE, NEW, CellName
from edgesdk.errors import TransformError
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.evaluate import evaluate
from edgesdk_converters.graph.full_sequence import sequence_inputs
from edgesdk_converters.graph.graph import GraphBuilder
from edgesdk_converters.graph.program import Program
from edgesdk_converters.prepare import prepare
from edgesdk_converters.quantise.recipe import find_recipe
from edgesdk_converters.transforms.cut_blocks import (
    check_cuttable,
    take_blocks,
    take_fill,
    take_head,
    take_label_head,
)
from edgesdk_converters.transforms.give_hidden import give_hidden, logits_alone
from edgesdk_converters.transforms.give_states import give_states
from edgesdk_converters.transforms.head_product import head_product
from edgesdk_converters.transforms.skip_layers import skip_layers
from edgesdk_converters.transforms.skip_request import parse_skip

KINDS = ("plain", "untied", "biases", "qk_norm", "windows", "gemma_like", "norms_after", "scaled")
EXITS = (2, 4)


def deepen(program, times):
    """The program with its two blocks repeated, each with weights of its own."""
    blocks = [
        dataclasses.replace(block, number=2 * i + block.number)
        for i in range(times)
        for block in program.spec.blocks
    ]
    spec = dataclasses.replace(program.spec, blocks=tuple(blocks))
    graph = build_decoder(spec)
    shapes = {v.name: tuple(int(d) for d in v.shape) for v in graph.weights}
    return Program(spec, graph, type(program.weights)(shapes))


def run_segments(program, inputs, exits=EXITS):
    """Segments in a row: what each gives, and the streams between."""
    spec, stream, found, new = program.spec, None, [], {}
    bounds = (0, *exits, len(spec.blocks))
    for first, last in pairwise(bounds):
        part = take_blocks(program, first, last)
        given = {v.name: inputs[v.name] for v in part.graph.inputs if v.name in inputs}
        for layer in range(last - first):
            for side in "kv":
                whole = inputs[str(CellName(side, CACHE, first + layer))]
                given[str(CellName(side, CACHE, layer))] = whole
        if stream is not None:
            given[STREAM] = stream
        assert {v.name for v in part.graph.inputs} == set(given)
        out = evaluate(part.graph, part.weights, given)
        stream = out[NEXT_STREAM]
        found.append(out)
        for layer in range(last - first):
            for side in "kv":
                new[str(CellName(side, NEW, first + layer))] = out[str(CellName(side, NEW, layer))]
    return found, new


def given_inputs(program, tokens, seed=3):
    """A step of a text that has cells before it, with logits of two rows."""
    inputs = dict(sequence_inputs(program, [tokens]))
    rng, cells = np.random.default_rng(seed), 5
    for value in program.graph.inputs:
        if CellName.parse(value.name) is not None:
            heads, _, size = value.shape
            inputs[value.name] = rng.standard_normal((heads, cells, size)).astype(np.float32)
        elif value.name in ("mask", "window_mask"):
            inputs[value.name] = np.concatenate(
                [np.zeros((len(tokens), cells), np.float32), inputs[value.name]], 1
            )[:, -(cells + len(tokens)) :]
    inputs["rows"] = np.array([3, len(tokens) - 1], np.int32)
    return inputs


@pytest.mark.parametrize("recipe", [None, "f32", "w8-round"])
@pytest.mark.parametrize("kind", KINDS)
def test_segments_in_a_row_are_the_whole_to_the_last_bit(make_program, tokens, kind, recipe):
    program = deepen(make_program(kind), 3)
    if recipe is not None:
        program = prepare(program, find_recipe(recipe))
    inputs = given_inputs(program, tokens)
    whole = evaluate(program.graph, program.weights, inputs)
    parts, new = run_segments(program, inputs)
    head = take_head(program)
    said = evaluate(head.graph, head.weights, {STREAM: parts[-1][NEXT_STREAM][inputs["rows"]]})
    assert np.array_equal(said["logits"], whole["logits"])
    for name, value in new.items():
        assert np.array_equal(value, whole[name]), name
    assert set(new) == {name for name in whole if CellName.parse(name) is not None}
    assert all(part.weights is program.weights for part in (head, take_blocks(program, 0, 2)))
    labels = np.array([7, 0, 7, 3], np.int32)
    few = take_label_head(program)
    given = {STREAM: parts[-1][NEXT_STREAM][inputs["rows"]], LABELS: labels}
    chosen = evaluate(few.graph, few.weights, given)["logits"]
    assert np.abs(chosen - whole["logits"][:, labels]).max() < 1e-6 * np.abs(whole["logits"]).max()


@pytest.mark.parametrize("kind", KINDS)
def test_an_exit_says_what_a_model_of_its_blocks_would(make_program, tokens, kind):
    program = deepen(make_program(kind), 3)
    inputs = given_inputs(program, tokens)
    parts, _ = run_segments(program, inputs)
    skipped = skip_layers(program, parse_skip("4-5"))
    fewer = {v.name: inputs[v.name] for v in skipped.graph.inputs if v.name in inputs}
    shallow = evaluate(skipped.graph, skipped.weights, fewer)
    head = take_head(program)
    said = evaluate(head.graph, head.weights, {STREAM: parts[1][NEXT_STREAM][inputs["rows"]]})
    assert np.array_equal(said["logits"], shallow["logits"])


@pytest.mark.parametrize("kind", ["plain", "gemma_like", "windows"])
def test_what_the_last_block_changed_adds_up(make_program, tokens, kind):
    """The stream before the last block, and what its halves add, make the stream after it."""
    program = deepen(make_program(kind), 3)
    inputs = given_inputs(program, tokens)
    parts, _ = run_segments(program, inputs)
    attention, _, feed_forward, _, before = (parts[1][name] for name in CHANGES)
    after = parts[1][NEXT_STREAM][inputs["rows"]]
    assert np.abs(before + attention + feed_forward - after).max() < 1e-5 * np.abs(after).max()
    assert not set(CHANGES) & set(parts[2])


@pytest.mark.parametrize("kind", ["plain", "windows", "qk_norm", "biases"])
def test_a_fill_makes_the_keys_and_values_of_the_exits_stream(make_program, tokens, kind):
    """Of its first block those are the whole's own, which reads that very stream; of later ones not."""
    program = deepen(make_program(kind), 3)
    inputs = given_inputs(program, tokens)
    parts, new = run_segments(program, inputs)
    fill = take_fill(program, 2, 4)
    assert {v.name for v in fill.graph.inputs} == {"positions", STREAM}
    given = {"positions": inputs["positions"], STREAM: parts[0][NEXT_STREAM]}
    found = evaluate(fill.graph, fill.weights, given)
    assert set(found) == {str(CellName(side, NEW, layer)) for side in "kv" for layer in range(2)}
    for side in "kv":
        assert np.array_equal(found[str(CellName(side, NEW, 0))], new[str(CellName(side, NEW, 2))])
        assert not np.array_equal(found[str(CellName(side, NEW, 1))], new[str(CellName(side, NEW, 3))])


@pytest.mark.parametrize("give", [give_states, give_hidden])
def test_a_program_with_further_outputs_is_cut_without_them(make_program, tokens, give):
    plain = deepen(make_program("plain"), 3)
    program = logits_alone(give(plain))
    inputs = given_inputs(program, tokens)
    parts, _ = run_segments(program, inputs)
    head = take_head(program)
    said = evaluate(head.graph, head.weights, {STREAM: parts[-1][NEXT_STREAM][inputs["rows"]]})
    assert np.array_equal(said["logits"], evaluate(plain.graph, plain.weights, inputs)["logits"])


def test_a_head_with_a_bias_has_none_over_labels(make_program):
    program = deepen(make_program("untied"), 3)
    spec, builder = program.spec, GraphBuilder()
    for value in program.graph.inputs:
        builder.input(value.name, value.shape, value.dtype)
    for weight in program.graph.weights:
        builder.weight(weight.name, weight.shape)
    bias = builder.weight("head.bias", (spec.logits_size,))
    product = head_product(program.graph)
    for node in program.graph.nodes:
        builder.add(node.op, (*node.inputs, *([bias] if node is product else [])), *node.outputs)
    biased = dataclasses.replace(program, graph=builder.build(program.graph.outputs))
    assert "head.bias" in {value.name for value in take_head(biased).graph.weights}
    with pytest.raises(TransformError, match="the head adds a bias"):
        take_label_head(biased)


@pytest.mark.parametrize(
    ("kind", "exits", "reason"),
    [
        ("plain", (1,), "each two or more above the one before"),
        ("plain", (2, 3), "each two or more above the one before"),
        ("plain", (6,), "below 6"),
        ("plain", (4, 2), "each two or more above the one before"),
        ("mixed", (2,), "layers that read others' cells"),
        ("layer_inputs", (2,), "reads the token in every block"),
    ],
)
def test_what_cannot_be_cut_is_refused(make_program, kind, exits, reason):
    program = make_program(kind)
    spec = deepen(program, 3).spec if kind == "plain" else program.spec
    with pytest.raises(TransformError, match=reason):
        check_cuttable(spec, exits)


def test_an_exit_after_half_a_block_is_refused(make_program):
    program = skip_layers(deepen(make_program("plain"), 3), parse_skip("1.attention"))
    with pytest.raises(TransformError, match="block 1 lacks a half"):
        check_cuttable(program.spec, (2,))
