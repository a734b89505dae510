"""The resident model, run by ONNX Runtime, against the evaluator on the very same weights."""

import dataclasses
import typing

import numpy as np
import onnx
import pytest

from edgesdk.backends.not_finite import NotFiniteError
from edgesdk.backends.onnxruntime_resident import ResidentModel
from edgesdk.bundle.manifest import GenerationDefaults
from edgesdk.errors import EmitError
from edgesdk_converters.emit.onnx.resident import check_resident, emit_resident
from edgesdk_converters.emit.onnx.resident_lowering import LOWERINGS
from edgesdk_converters.graph import ops
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.graph.graph import Node
from edgesdk_converters.graph.program import Program
from edgesdk_converters.quantise.activation_rule import ActivationRule
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import find_recipe

CONTEXT = 64

# Of the largest logit. Level 0 computes in float32 on the recipe's integers; level 4 quantises
# activations to int8, whose rounding on random models of 64 channels reaches 0.045. The evaluator
# does not round weights to float16, the file does.
FLOAT = {"f32": 1e-5, "f16": 3e-3, "w8-round": 1e-5, "w4b32-round": 1e-5, "w4c-round": 1e-5}
INT8_ACTIVATIONS = 0.08


@pytest.fixture
def emit(tmp_path, tokenizer_files, quantise):
    def run(program, recipe, accuracy_level):
        quantised = quantise(program, recipe)
        emit_resident(
            quantised,
            quantised.weights,
            tmp_path,
            context=CONTEXT,
            tokenizer=tokenizer_files,
            generation=GenerationDefaults(),
            accuracy_level=accuracy_level,
        )
        return quantised, ResidentModel(tmp_path / "model.onnx", program.spec, CONTEXT, threads=1)

    return run


def error(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


def test_every_operation_has_a_lowering():
    # Without an input for gates; convolutions are refused by name.
    assert set(LOWERINGS) == set(typing.get_args(ops.Op)) - {ops.LowRank, ops.Convolve, ops.RowProducts}


@pytest.mark.parametrize("recipe", sorted(FLOAT))
def test_every_feature_matches_the_evaluator(uniform_program, tokens, emit, recipe):
    quantised, model = emit(uniform_program, recipe, 0)
    expected = next(sequence_logits(quantised, [tokens]))
    assert error(model.new_sequence().score(tokens), expected) < FLOAT[recipe]


@pytest.mark.parametrize("recipe", ["w8-round", "w4b32-round", "w4c-round"])
def test_int8_activations_stay_near(uniform_program, tokens, emit, recipe):
    quantised, model = emit(uniform_program, recipe, 4)
    expected = next(sequence_logits(quantised, [tokens]))
    found = model.new_sequence().score(tokens)
    assert error(found, expected) < INT8_ACTIVATIONS


@pytest.mark.parametrize("recipe", ["w8-round-exact", "w4b32-round-exact"])
def test_exact_activations_are_nearly_float_ones(uniform_program, tokens, emit, recipe):
    quantised, model = emit(uniform_program, recipe, 4)
    expected = next(sequence_logits(quantised, [tokens]))
    assert error(model.new_sequence().score(tokens), expected) < INT8_ACTIVATIONS / 20
    one = model.new_sequence()
    rows = [one.extend(token[None]).copy() for token in tokens]
    assert error(np.stack(rows), expected) < INT8_ACTIVATIONS / 20


@pytest.mark.parametrize(
    ("rule", "changes", "message"),
    [
        (ActivationRule("*.down", prompt="fast"), {}, "one graph for all"),
        (ActivationRule("*.down"), {"layers.0.down": (64, 100)}, "'layers.0.down' has 100 columns"),
    ],
)
def test_what_one_graph_cannot_do_exactly_is_refused(make_program, rule, changes, message):
    program = make_program("plain")
    shapes = {value.name: value.shape for value in program.graph.weights}
    weights = type(program.weights)({**shapes, **changes})
    recipe = dataclasses.replace(find_recipe("w8-round"), activations=(rule,))
    with pytest.raises(EmitError, match=message):
        check_resident(program, QuantisedWeights(weights, recipe))


def test_program_without_transforms_matches(uniform_program, tokens, tmp_path, tokenizer_files):
    """Norm weights, the attention scale and single projections have lowerings of their own."""
    weights = QuantisedWeights(uniform_program.weights, find_recipe("w8-round"))
    emit_resident(
        uniform_program,
        weights,
        tmp_path,
        context=CONTEXT,
        tokenizer=tokenizer_files,
        generation=GenerationDefaults(),
        accuracy_level=0,
    )
    found = ResidentModel(tmp_path / "model.onnx", uniform_program.spec, CONTEXT, threads=1).new_sequence()
    expected = next(sequence_logits(dataclasses.replace(uniform_program, weights=weights), [tokens]))
    assert error(found.score(tokens), expected) < FLOAT["w8-round"]


def test_tied_head_is_stored_once(make_program, tmp_path, tokenizer_files):
    for name in ("plain", "untied"):
        program = make_program(name)
        weights = QuantisedWeights(program.weights, find_recipe("w8-round"))
        folder = tmp_path / name
        folder.mkdir()
        emit_resident(
            program,
            weights,
            folder,
            context=CONTEXT,
            tokenizer=tokenizer_files,
            generation=GenerationDefaults(),
        )
    V, E = program.spec.vocab_size, program.spec.hidden_size
    tied, untied = ((tmp_path / n / "model.onnx.data").stat().st_size for n in ("plain", "untied"))
    assert V * E <= untied - tied < V * E * 1.3
    model = onnx.load(tmp_path / "plain" / "model.onnx", load_external_data=False)
    users = [node.op_type for node in model.graph.node if "embed.integers" in node.input]
    assert users == ["GatherBlockQuantized", "MatMulNBits"]


def test_qkv_goes_packed_into_attention(make_program, emit, tmp_path):
    emit(make_program("plain"), "w8-round", 4)
    nodes = onnx.load(tmp_path / "model.onnx", load_external_data=False).graph.node
    attention = next(node for node in nodes if node.op_type == "GroupQueryAttention")
    assert attention.input[1] == attention.input[2] == ""


def test_what_cannot_be_emitted_is_refused_before_a_weight_is_read(
    other_mixers, make_program, tmp_path, tokenizer_files
):
    class Unread:
        """Weights that must not be read."""

        recipe = find_recipe("f32")

        def scheme(self, name):
            return None

    def refuse(program, match):
        with pytest.raises(EmitError, match=match):
            emit_resident(
                program,
                Unread(),
                tmp_path,
                context=CONTEXT,
                tokenizer=tokenizer_files,
                generation=GenerationDefaults(),
            )
        assert list(tmp_path.iterdir()) == []

    program = make_program("plain")
    odd = other_mixers(program.spec, head_size=12, rotary=None)
    refuse(dataclasses.replace(program, spec=odd), "heads of 12 channels")

    @dataclasses.dataclass(frozen=True)
    class Unknown:
        """No operation of the set."""

    nodes = (Node(Unknown(), ("tokens",), ("y",)), *program.graph.nodes)
    graph = dataclasses.replace(program.graph, nodes=nodes)
    refuse(Program(program.spec, graph, program.weights), "no lowering for Unknown")
    mixed = (
        "4 heads over 2 of 16, 2 heads over 1 of 32, 4 heads over 1 of 32, 2 layers that read another's cells"
    )
    refuse(make_program("mixed"), f"has {mixed}, GroupQueryAttention takes one size")


@pytest.mark.parametrize("recipe", ["w8-round", "w4b32-round"])
def test_a_nan_that_the_logits_do_not_show_is_named(make_program, tokens, emit, recipe):
    sound = make_program("biases")

    class Planted:
        def __iter__(self):
            return iter(sound.weights)

        def shape(self, name):
            return sound.weights.shape(name)

        def load(self, name):
            values = np.array(sound.weights.load(name))
            if name == "layers.1.v.bias":
                values[3] = np.nan
            return values

    _, model = emit(Program(sound.spec, sound.graph, Planted()), recipe, 4)
    sequence = model.new_sequence()
    for read in (sequence.extend, sequence.score):
        with pytest.raises(NotFiniteError, match="NaN among the values of layer 1"):
            read(tokens)
        assert sequence.length == 0
