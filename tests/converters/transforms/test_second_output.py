"""Every transform keeps what a second output says, and what the logits say beside it.

Embeddings and trained drafts read what the head reads; exits and probes will come. Each reads the residual
stream, or what stands inside a block, in a place where there was one reader before.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from edgesdk.errors import TransformError
from edgesdk_converters.graph import ops
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.evaluate import evaluate
from edgesdk_converters.graph.full_sequence import sequence_inputs
from edgesdk_converters.graph.graph import Graph, GraphBuilder, Node, Value, rebuild
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import Weights
from edgesdk_converters.prepare import prepare
from edgesdk_converters.quantise.block_kernels import LITERT_BLOCKS
from edgesdk_converters.quantise.peak_activations import peak_activations
from edgesdk_converters.quantise.recipe import find_recipe
from edgesdk_converters.quantise.scalable_inputs import scalable_inputs
from edgesdk_converters.transforms.fold_attention_scale import fold_attention_scale
from edgesdk_converters.transforms.fold_norms import fold_norms
from edgesdk_converters.transforms.fuse_linears import fuse_linears
from edgesdk_converters.transforms.give_hidden import give_hidden
from edgesdk_converters.transforms.give_states import give_states
from edgesdk_converters.transforms.keep_blocks import keep_blocks
from edgesdk_converters.transforms.prune_head import prune_head
from edgesdk_converters.transforms.rotate_residual import rotate_residual
from edgesdk_converters.transforms.rotate_values import rotate_values
from edgesdk_converters.transforms.scale_channels import scale_channels
from edgesdk_converters.transforms.separate_outliers import separate_outliers
from edgesdk_converters.transforms.skip_layers import skip_layers
from edgesdk_converters.transforms.skip_request import parse_skip
from edgesdk_converters.transforms.split_minimums import split_minimums

E = 64
EPS = 1e-5
Outputs = Mapping[str, NDArray[np.float32]]
Grow = Callable[[GraphBuilder], Sequence[str]]


def exit_head(norm: str, head: str) -> Grow:
    """An exit after the first block: a norm and a head, each of its own or the model's."""

    def grow(g: GraphBuilder) -> Sequence[str]:
        norm_weight, table = g.weight(norm, (E,)), g.weight(head, (96, E))
        g.add(ops.TakeRows(), ["layers.0.mlp.sum", "rows"], "exit.rows")
        g.add(ops.RmsNorm(EPS), ["exit.rows", norm_weight], "exit.normed")
        return g.add(ops.Linear(), ["exit.normed", table], "exit.logits")

    return grow


def probe(value: str, width: int = E) -> Grow:
    """A product of its own that reads a value which something else reads."""

    def grow(g: GraphBuilder) -> Sequence[str]:
        g.add(ops.Linear(), [value, g.weight("probe", (5, width))], "probe.raw")
        return g.add(ops.Scale(0.5), ["probe.raw"], "probe.out")

    return grow


def as_it_is(value: str) -> Grow:
    """A value that is an output."""
    return lambda g: [value]


def drafting_block(g: GraphBuilder) -> Sequence[str]:
    """What joins the stream of a second branch is a product of the stream itself, as in trained drafts."""
    g.add(ops.RmsNorm(EPS), ["layers.1.mlp.sum", g.weight("draft.norm", (E,))], "draft.normed")
    g.add(ops.Linear(), ["draft.normed", g.weight("draft.mix", (E, E))], "draft.mixed")
    g.add(ops.Add(), ["layers.1.mlp.sum", "draft.mixed"], "draft.sum")
    g.add(ops.RmsNorm(EPS), ["draft.sum", g.weight("draft.last_norm", (E,))], "draft.last")
    return g.add(ops.Linear(), ["draft.last", g.weight("embed", (96, E))], "draft.logits")


SECOND: dict[str, Grow] = {
    "exit on the table, norm of its own": exit_head("exit.norm", "embed"),
    "exit on the table, the last norm": exit_head("final_norm", "embed"),
    "exit on the head": exit_head("exit.norm", "head"),
    "exit with everything of its own": exit_head("exit.norm", "exit.head"),
    "exit with the last norm": exit_head("final_norm", "exit.head"),
    "draft": drafting_block,
    "probe of the last norm": probe("final_norm.out"),
    "probe of the stream": probe("layers.0.attn.sum"),
    "probe of a norm": probe("layers.1.mlp_norm.out"),
    "probe of attention": probe("layers.0.merged"),
    "probe of a product": probe("layers.0.up.out", 96),
    "probe of the gated": probe("layers.1.gated", 96),
    "probe of queries": probe("layers.1.q.out"),
    "probe of values": probe("layers.1.v.out", 32),
    "stream": as_it_is("layers.0.mlp.sum"),
    "embedding": as_it_is("embedded"),
    "hidden": give_hidden,
    "states": give_states,
    "normed": as_it_is("final_norm.out"),
    "norm inside": as_it_is("layers.1.attn_norm.out"),
    "product": as_it_is("layers.1.up.out"),
    "attended": as_it_is("layers.0.merged"),
    "queries": as_it_is("layers.0.q.out"),
}


def split_all(program: Program) -> Program:
    return split_minimums(program, [n.inputs[1] for n in program.graph.nodes if _splits(program, n)])


def _splits(program, node):
    embeds = any(isinstance(user.op, ops.Embed) for user in program.graph.users(node.inputs[-1]))
    return isinstance(node.op, ops.Linear) and len(node.inputs) == 2 and not embeds


def outliers_of_all(program: Program) -> Program:
    layers = {n.inputs[1] for n in program.graph.nodes if isinstance(n.op, ops.Linear)}
    return separate_outliers(program, {name: (1, 7) for name in layers if ".minimums" not in name})


def scale_all(program: Program) -> Program:
    random = np.random.default_rng(3)
    factors = {}
    for place in scalable_inputs(program):
        factors[place.value] = place.share(np.exp(random.standard_normal(place.channels)).astype(np.float32))
    return scale_channels(program, factors)


def keep_all(program: Program) -> Program:
    recipe = find_recipe("source")
    peaks = peak_activations(program, [np.arange(20, dtype=np.int32)])
    return keep_blocks(program, recipe, LITERT_BLOCKS, peaks)[0]


IN_BLOCKS = ("split_minimums", "split_minimums, separate_outliers", "keep_blocks")
TRANSFORMS: dict[str, Callable[[Program], Program]] = {
    "fold_norms": fold_norms,
    "rotate_residual": rotate_residual,
    "fold_norms, rotate_residual": lambda program: rotate_residual(fold_norms(program)),
    "rotate_values": rotate_values,
    "fold_attention_scale": fold_attention_scale,
    "fuse_linears": fuse_linears,
    "scale_channels": scale_all,
    "fuse_linears, scale_channels": lambda program: scale_all(fuse_linears(program)),
    "separate_outliers": outliers_of_all,
    "split_minimums": split_all,
    "split_minimums, separate_outliers": lambda program: outliers_of_all(split_all(program)),
    "keep_blocks": keep_all,
    "prepare f32": lambda program: prepare(program, find_recipe("f32")),
    "prepare w8": lambda program: prepare(program, find_recipe("w8")),
    "prepare w8, values rotated": lambda program: prepare(
        program, replace(find_recipe("w8"), rotate_values=True)
    ),
}
ONE_READER = ("rotate_values", "prepare w8, values rotated")
"""What refuses, in one line, a reader of attention or values besides their projections."""
READ_INSIDE = ("probe of attention", "probe of values", "attended")


def with_output(program: Program, grow: Grow) -> Program:
    """A program with outputs beside its own; weights are drawn by name, so both have the same numbers.

    A transform of a program gives what the head reads.
    """
    if grow in (give_hidden, give_states):
        return grow(program)
    graph, g = program.graph, GraphBuilder()
    for value in graph.inputs:
        g.input(value.name, value.shape, value.dtype)
    for value in graph.weights:
        g.weight(value.name, value.shape)
    for node in graph.nodes:
        g.add(node.op, node.inputs, *node.outputs)
    grown = g.build([*graph.outputs, *grow(g)])
    return replace(program, graph=grown, weights=weights_like(program, grown))


def weights_like(program: Program, graph: Graph) -> Weights:
    return type(program.weights)({v.name: tuple(int(d) for d in v.shape) for v in graph.weights})


def outputs_of(program: Program, tokens: NDArray[np.int32]) -> Outputs:
    """All but cells, which may hold rotated or scaled values."""
    found = evaluate(program.graph, program.weights, sequence_inputs(program, [tokens]))
    return {name: value for name, value in found.items() if "_new." not in name}


def assert_same(found: Outputs, expected: Outputs) -> None:
    assert found.keys() == expected.keys()
    assert len(found) == 2
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=2e-4, err_msg=name)


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def whole(request, make_program) -> Program:
    """A program without a second output."""
    plain, biased = make_program("plain"), request.param
    blocks = tuple(
        replace(
            block,
            mixer=replace(block.attention, qkv_bias=biased, out_bias=biased, qk_norm=not biased),
            feed_forward=replace(block.ffn, bias=biased),
        )
        for block in plain.spec.blocks
    )
    spec = replace(plain.spec, blocks=blocks, tied_head=request.param, residual_scale=0.5, logits_scale=0.25)
    graph = build_decoder(spec)
    return Program(spec, graph, weights_like(plain, graph))


@pytest.mark.parametrize("second", SECOND)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_both_outputs_stay(whole, in_blocks, tokens, transform, second):
    program = with_output(whole, SECOND[second])
    if transform in IN_BLOCKS:
        program = in_blocks(program, lambda name: "Q4_1")
    expected = outputs_of(program, tokens)
    if transform in ONE_READER and second in READ_INSIDE:
        with pytest.raises(TransformError, match="no value and output projection of its own"):
            TRANSFORMS[transform](program)
        return
    assert_same(outputs_of(TRANSFORMS[transform](program), tokens), expected)


@pytest.mark.parametrize("second", [name for name in SECOND if name != "exit on the head"])
def test_a_pruned_head_leaves_the_second_output(whole, tokens, second):
    program, kept = with_output(whole, SECOND[second]), np.arange(3, 90, 4)
    expected = dict(outputs_of(program, tokens))
    expected["logits"] = expected["logits"][:, kept]
    assert_same(outputs_of(prune_head(program, kept), tokens), expected)


def test_a_head_of_two_outputs_is_not_pruned(make_program):
    program = with_output(make_program("untied"), SECOND["exit on the head"])
    with pytest.raises(TransformError, match="makes another output"):
        prune_head(program, np.arange(9))


@pytest.mark.parametrize(
    "second",
    ["exit on the table, norm of its own", "draft", "probe of a norm", "embedding", "hidden", "states"],
)
def test_what_is_skipped_is_gone_for_both_outputs(whole, tokens, second):
    request = parse_skip("0.attention")
    expected = with_output(skip_layers(whole, request), SECOND[second])
    found = skip_layers(with_output(whole, SECOND[second]), request)
    assert_same(outputs_of(found, tokens), outputs_of(expected, tokens))


def test_an_output_is_not_skipped(whole):
    program = with_output(whole, SECOND["stream"])
    with pytest.raises(TransformError, match=r"'layers\.0\.mlp\.sum' is an output"):
        skip_layers(program, parse_skip("0.mlp"))


@pytest.mark.parametrize(
    ("grow", "found"),
    [
        (lambda g: g.add(ops.Softcap(3.0), ["layers.0.mlp.sum"], "bent"), "Softcap makes 'bent' from"),
        (lambda g: g.add(ops.Add(), ["layers.0.mlp.sum", "layers.1.merged"], "mixed"), "MergeHeads makes"),
        (lambda g: g.add(ops.Linear(), ["layers.1.merged", "embed"], "odd"), "inside and outside"),
    ],
)
def test_what_a_rotation_does_not_pass_through_is_refused(whole, grow, found):
    with pytest.raises(TransformError, match=found):
        rotate_residual(with_output(whole, grow))


def test_a_rotation_is_named_after_its_norm(whole):
    program = with_output(whole, SECOND["exit on the table, norm of its own"])
    turned = rotate_residual(fold_norms(program))
    added = {value.name for value in turned.graph.weights} - {value.name for value in program.graph.weights}
    assert added == {"exit.norm.rotation", *(["final_norm.rotation"] if program.spec.tied_head else [])}


def test_an_input_that_joins_the_stream_is_refused(make_program):
    program = make_program("plain")
    graph = program.graph
    shift = Value("shift", ("T", E))
    nodes = []
    for node in graph.nodes:
        if isinstance(node.op, ops.Embed):
            nodes.append(replace(node, outputs=("looked_up",)))
            nodes.append(Node(ops.Add(), ("looked_up", "shift"), node.outputs))
        else:
            nodes.append(node)
    grown = rebuild(replace(graph, inputs=(*graph.inputs, shift)), nodes, graph.weights)
    with pytest.raises(TransformError, match="the input 'shift' joins the residual stream"):
        rotate_residual(replace(program, graph=grown))
