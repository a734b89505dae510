"""Skipping takes halves out of a stack and changes nothing else."""

import dataclasses

import numpy as np
import pytest

from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.records import from_json, to_json
from edgesdk.errors import TransformError
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.evaluate import evaluate
from edgesdk_converters.graph.full_sequence import sequence_inputs, sequence_logits
from edgesdk_converters.graph.ops import Attend, Rotate
from edgesdk_converters.graph.program import Program
from edgesdk_converters.prepare import prepare
from edgesdk_converters.quantise.recipe import find_recipe
from edgesdk_converters.transforms.skip_layers import skip_layers
from edgesdk_converters.transforms.skip_request import SkipRequest, parse_skip

REQUESTS = ("0", "1", "0.attention", "1.attention", "0.mlp", "1.mlp", "0-1.mlp", "0.attention,1.mlp")


class Silenced:
    """Weights under which some halves add nothing: what leads into the stream is zero."""

    def __init__(self, base, request, post_norms):
        self._base = base
        self._zero = set()
        for half in request.halves:
            last = "o" if half.kind == "attention" else "down"
            norm = "attn" if half.kind == "attention" else "mlp"
            self._zero |= {f"layers.{half.layer}.{last}", f"layers.{half.layer}.{last}.bias"}
            self._zero |= {f"layers.{half.layer}.{norm}_post_norm"} if post_norms else set()

    def __iter__(self):
        return iter(self._base)

    def shape(self, name):
        return self._base.shape(name)

    def load(self, name):
        value = self._base.load(name)
        return np.zeros_like(value) if name in self._zero else value


def logits(program, tokens):
    return next(sequence_logits(program, [tokens]))


def test_skipping_nothing_is_the_same_program(any_program):
    assert skip_layers(any_program, SkipRequest()) is any_program


@pytest.mark.parametrize("text", REQUESTS)
def test_what_is_skipped_adds_nothing(uniform_program, tokens, text):
    request = parse_skip(text)
    silenced = Silenced(uniform_program.weights, request, uniform_program.spec.post_norms)
    expected = logits(Program(uniform_program.spec, uniform_program.graph, silenced), tokens)
    np.testing.assert_array_equal(logits(skip_layers(uniform_program, request), tokens), expected)
    assert np.abs(expected - logits(uniform_program, tokens)).max() > 0.01


@pytest.mark.parametrize("text", REQUESTS)
def test_the_graph_is_that_of_the_remaining_spec(uniform_program, text):
    """The rewritten graph and the one definition of a decoder agree on every node and value."""
    shallow = skip_layers(uniform_program, parse_skip(text))
    assert shallow.graph == build_decoder(shallow.spec)
    assert shallow.history[-1].settings["skipped"] == text


def test_cells_are_numbered_anew_and_keep_their_layer(make_program, tokens):
    program = make_program("gemma_like")
    shallow = skip_layers(program, parse_skip("0"))
    assert shallow.spec.layers == program.spec.layers[1:]
    assert shallow.spec.window is None
    assert "window_mask" not in shallow.graph.values
    inputs = sequence_inputs(shallow, [tokens])
    new = evaluate(shallow.graph, shallow.weights, inputs)
    assert list(new) == ["logits", "k_new.0", "v_new.0"]
    attend = [n.op for n in shallow.graph.nodes if isinstance(n.op, Attend)]
    assert [(op.layer, op.window) for op in attend] == [(0, None)]
    assert {n.op.rotary.theta for n in shallow.graph.nodes if isinstance(n.op, Rotate)} == {1e6}


def repeated(spec, times):
    """A decoder with the blocks of another again and again."""
    blocks = (dataclasses.replace(block, number=i) for i, block in enumerate(spec.blocks * times))
    return dataclasses.replace(spec, blocks=tuple(blocks))


def half_names(*numbers):
    return [f"{number}.{kind}" for number in numbers for kind in ("attention", "mlp")]


def test_a_window_stays_with_its_layer(make_program):
    program = make_program("windows")
    spec = repeated(program.spec, 2)
    shallow = skip_layers(Program(spec, build_decoder(spec), program.weights), parse_skip("0.attention,1"))
    assert [layer.window for layer in shallow.spec.layers] == [5, None]
    attend = [n for n in shallow.graph.nodes if isinstance(n.op, Attend)]
    assert [(n.op.window, n.inputs[3]) for n in attend] == [(5, "window_mask"), (None, "mask")]
    assert [str(half) for half in shallow.spec.halves] == ["0.mlp", *half_names(2, 3)]


def test_skipping_twice_is_skipping_both(make_program):
    spec = repeated(make_program("plain").spec, 2)
    program = Program(spec, build_decoder(spec), make_program("plain").weights)
    twice = skip_layers(skip_layers(program, parse_skip("1")), parse_skip("3.attention,0.mlp"))
    once = skip_layers(program, parse_skip("1,3.attention,0.mlp"))
    assert (twice.spec, twice.graph) == (once.spec, once.graph)


@pytest.mark.parametrize("recipe", ["f32", "w8-round"])
def test_it_commutes_with_every_other_transform(uniform_program, tokens, recipe):
    request = parse_skip("0.attention,1.mlp")
    before = prepare(skip_layers(uniform_program, request), find_recipe(recipe))
    after = skip_layers(prepare(uniform_program, find_recipe(recipe)), request)
    assert before.graph == after.graph
    np.testing.assert_array_equal(logits(before, tokens), logits(after, tokens))


def test_a_remaining_spec_survives_json(make_program):
    spec = skip_layers(make_program("windows"), parse_skip("1.attention")).spec
    assert from_json(DecoderSpec, to_json(spec)) == spec


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0-1", "leaves no attention of 2 layers"),
        ("0-1.attention", "leaves no attention"),
        ("1-2", "the last block is 1"),
        ("7.mlp", "the last block is 1"),
    ],
)
def test_the_impossible_is_refused(make_program, text, reason):
    with pytest.raises(TransformError, match=reason):
        skip_layers(make_program("plain"), parse_skip(text))


def test_what_is_gone_cannot_go_again(make_program):
    shallow = skip_layers(make_program("plain"), parse_skip("0"))
    with pytest.raises(TransformError, match="was removed already"):
        skip_layers(shallow, parse_skip("0.mlp"))


def test_what_others_read_stays(make_program, tokens):
    program = make_program("mixed")
    with pytest.raises(TransformError, match=r"block 0.attention cannot be skipped: block 2 reads its keys"):
        skip_layers(program, parse_skip("0"))
    shallow = skip_layers(program, parse_skip("0,2.attention"))
    assert shallow.spec.cell_layers == (0, 0)
    assert [str(half) for half in shallow.spec.halves] == half_names(1, 4)
    assert shallow.graph == build_decoder(shallow.spec)
    logits(shallow, tokens)
