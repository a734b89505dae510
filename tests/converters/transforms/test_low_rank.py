"""Gated terms of low rank: every transform carries A and B, and a gate of 1 is the merged weight."""

from dataclasses import replace

import numpy as np
import pytest

from edgesdk.errors import TransformError
from edgesdk_converters.graph.evaluate import evaluate
from edgesdk_converters.graph.full_sequence import sequence_inputs
from edgesdk_converters.graph.ops import Linear, LowRank, LowRankPart, Split
from edgesdk_converters.graph.weights import Derived, DerivedWeights
from edgesdk_converters.prepare import prepare
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import Recipe, Rule, Scheme, find_recipe
from edgesdk_converters.quantise.scalable_inputs import scalable_inputs
from edgesdk_converters.transforms.add_low_rank import LowRankTerm, add_low_rank
from edgesdk_converters.transforms.fold_attention_scale import fold_attention_scale
from edgesdk_converters.transforms.fold_norms import fold_norms
from edgesdk_converters.transforms.fuse_linears import fuse_linears
from edgesdk_converters.transforms.fuse_low_rank import fuse_low_rank
from edgesdk_converters.transforms.rotate_residual import can_rotate, rotate_residual
from edgesdk_converters.transforms.rotate_values import rotate_values
from edgesdk_converters.transforms.scale_channels import scale_channels

SOME = ("q", "v", "down")
"""Products of a block that may be all that terms are added to, by the end of their weight's name."""


def outputs_of(program, tokens, gates):
    inputs = sequence_inputs(program, [tokens])
    if gates is not None:
        inputs["gates"] = gates
    found = evaluate(program.graph, program.weights, inputs)
    return {name: value for name, value in found.items() if "_new." not in name}


def merged(program, terms, factors):
    """The program with all terms in its weights, which a tied table cannot have."""
    changed = {
        name: Derived(
            program.weights.shape(name),
            lambda base, name=name, term=term: (
                base.load(name) + term.written @ (np.repeat(factors, term.ranks)[:, None] * term.inner)
            ),
        )
        for name, term in terms.items()
    }
    return replace(program, weights=DerivedWeights(program.weights, changed, frozenset()))


@pytest.fixture
def gates(tokens):
    """Different for every token, some of them 0."""
    values = np.random.default_rng(2).standard_normal((len(tokens), 2)).astype(np.float32)
    values[::3, 0] = values[::4] = 0
    return values


def scale_all(program):
    random = np.random.default_rng(3)
    factors = {}
    for place in scalable_inputs(program):
        factors[place.value] = place.share(np.exp(random.standard_normal(place.channels)).astype(np.float32))
    assert factors
    return scale_channels(program, factors)


def rotated(program):
    return rotate_residual(fold_norms(program)) if can_rotate(program) else program


TRANSFORMS = {
    "nothing": lambda program: program,
    "fold_norms": fold_norms,
    "rotate_residual": lambda program: rotate_residual(program) if can_rotate(program) else program,
    "fold_norms, rotate_residual": rotated,
    "rotate_values": rotate_values,
    "fold_attention_scale": fold_attention_scale,
    "fuse_linears": fuse_linears,
    "fuse_linears, fuse_low_rank": lambda program: fuse_low_rank(fuse_linears(program)),
    "scale_channels": scale_all,
    "fuse_linears, scale_channels": lambda program: scale_all(fuse_linears(program)),
    "fuse_low_rank, scale_channels": lambda program: scale_all(fuse_low_rank(fuse_linears(program))),
    "prepare f32": lambda program: prepare(program, find_recipe("f32")),
    "prepare w8": lambda program: prepare(program, find_recipe("w8")),
    "prepare w8, values rotated": lambda program: prepare(
        program, replace(find_recipe("w8"), rotate_values=True)
    ),
}


@pytest.mark.parametrize("ends", [None, SOME], ids=["all", "some"])
@pytest.mark.parametrize("name", ["plain", "untied", "biases", "qk_norm", "gemma_like", "layer_inputs"])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_what_terms_add_stays(make_program, tokens, gates, transform, name, ends, random_terms):
    plain = make_program(name)
    program = add_low_rank(plain, random_terms(plain, ends), 2)
    expected = outputs_of(program, tokens, gates)["logits"]
    assert np.abs(expected - outputs_of(plain, tokens, None)["logits"]).max() > 0.1
    found = outputs_of(TRANSFORMS[transform](program), tokens, gates)["logits"]
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_gates_of_zero_are_the_program_without_terms(any_program, tokens, transform, random_terms):
    program = add_low_rank(any_program, random_terms(any_program), 2)
    none = np.zeros((len(tokens), 2), np.float32)
    expected = outputs_of(TRANSFORMS[transform](any_program), tokens, None)["logits"]
    found = outputs_of(TRANSFORMS[transform](program), tokens, none)["logits"]
    assert np.array_equal(found, expected)


def test_gates_are_merged_weights(any_program, tokens, random_terms):
    terms = random_terms(any_program, head=not any_program.spec.tied_head)
    program = add_low_rank(any_program, terms, 2)
    for factors in ((1.0, 0.0), (0.0, 1.0), (0.5, -2.0)):
        gates = np.tile(np.float32(factors), (len(tokens), 1))
        expected = outputs_of(merged(any_program, terms, np.float32(factors)), tokens, None)["logits"]
        found = outputs_of(program, tokens, gates)["logits"]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_tied_head_has_a_term_that_its_table_has_not(make_program, tokens, random_terms):
    program = make_program("plain")
    terms = {"embed": random_terms(program)["embed"]}
    grown = add_low_rank(program, terms, 2)
    one = np.ones((len(tokens), 2), np.float32)
    given = outputs_of(replace(program, graph=_with_head_input(program.graph)), tokens, None)
    added = given["final_norm.out"] @ (terms["embed"].written @ terms["embed"].inner).T
    found = outputs_of(grown, tokens, one)["logits"]
    np.testing.assert_allclose(found, given["logits"] + added, rtol=1e-4, atol=1e-4)


def _with_head_input(graph):
    return replace(graph, outputs=(*graph.outputs, "final_norm.out"))


def test_a_fused_product_has_one_operation_for_its_terms(make_program, random_terms):
    plain = make_program("plain")
    program = prepare(add_low_rank(plain, random_terms(plain, SOME, head=False), 2), find_recipe("f32"))
    terms = {node.outputs[0]: node for node in program.graph.nodes if isinstance(node.op, LowRank)}
    assert set(terms) == {f"layers.{n}.{end}" for n in (0, 1) for end in ("q_k_v.out.adapted", "down.out")}
    op = terms["layers.0.q_k_v.out.adapted"].op
    assert op.parts == (LowRankPart(64, (2, 3)), LowRankPart(32, (0, 0)), LowRankPart(32, (2, 0)))
    assert op.columns == (0, 0, 1, 1, 1, 0, 0)
    inner = program.graph.producer("layers.0.q_v.lora_a.out")
    assert isinstance(inner.op, Linear)
    assert sum(isinstance(node.op, Split) for node in program.graph.nodes) == 4


def test_parts_stay_floats_where_no_rule_names_them(make_program, random_terms):
    program = make_program("plain")
    grown = add_low_rank(program, random_terms(program), 2)
    for name in ("w8", "w4b32", "source", "p4-round"):
        weights = QuantisedWeights(grown.weights, find_recipe(name))
        assert weights.scheme("layers.0.q") is not None
        assert weights.scheme("layers.0.q.lora_a") is weights.scheme("layers.0.q.lora_b") is None
    own = Recipe("own", (Rule("*.lora_a", Scheme(8, None, "round")), Rule("*", None)))
    assert own.scheme("layers.0.q.lora_a") == Scheme(8, None, "round")


@pytest.mark.parametrize(
    ("name", "ranks", "inner", "written", "found"),
    [
        ("layers.9.q", (1,), (1, 64), (64, 1), "no product has the weight 'layers.9.q'"),
        ("final_norm", (1,), (1, 64), (64, 1), "no product has the weight 'final_norm'"),
        ("layers.0.q", (1,), (1, 63), (64, 1), r"expected 1 ranks of sum N, \(N, 64\) and \(64, N\)"),
        ("layers.0.q", (2,), (1, 64), (64, 1), "has ranks"),
        ("layers.0.q", (0,), (0, 64), (64, 0), "has ranks"),
        ("layers.0.q", (1, 1), (2, 64), (64, 2), "expected 1 ranks"),
    ],
)
def test_terms_that_do_not_fit_are_refused(make_program, name, ranks, inner, written, found):
    term = LowRankTerm(ranks, np.ones(inner, np.float32), np.ones(written, np.float32))
    with pytest.raises(TransformError, match=found):
        add_low_rank(make_program("plain"), {name: term}, 1)


def test_terms_are_finite_and_added_once(make_program, random_terms):
    program = make_program("plain")
    terms = random_terms(program)
    with pytest.raises(TransformError, match="gates already"):
        add_low_rank(add_low_rank(program, terms, 2), terms, 2)
    with pytest.raises(TransformError, match="no term"):
        add_low_rank(program, {}, 2)
    terms["layers.0.q"].written[0, 0] = np.nan
    with pytest.raises(TransformError, match=r"'layers\.0\.q' holds numbers that are not finite"):
        add_low_rank(program, terms, 2)
