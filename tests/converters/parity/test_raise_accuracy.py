"""Products whose int8 activations change answers: found where they were planted, and nowhere else."""

import json

import numpy as np
import pytest

from edgesdk.backends.onnxruntime_resident import ResidentModel
from edgesdk.bundle.manifest import GenerationDefaults, TokenizerRecord
from edgesdk_converters.emit.onnx.node_accuracy import quantised_products
from edgesdk_converters.emit.onnx.resident import emit_resident
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import Derived, DerivedWeights
from edgesdk_converters.parity.raise_accuracy import raise_accuracy
from edgesdk_converters.prepare import prepare
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import find_recipe
from edgesdk_converters.tokenizers.tokenizer_files import TokenizerFiles

CONTEXT = 64
PLANTED = "layers.1.gate_up"


@pytest.fixture
def texts(make_program):
    random = np.random.default_rng(2)
    vocabulary = make_program("untied").spec.vocab_size
    return [random.integers(0, vocabulary, CONTEXT).astype(np.int32) for _ in range(6)]


@pytest.fixture
def planted(make_program):
    """A model with one very large channel in every block of what one product reads.

    Its columns in that product are small in turn, so that in float nothing stands out.
    """
    program = make_program("untied")
    large = np.ones(program.spec.hidden_size, np.float32)
    large[::32] = 300

    def scaled(name, factors):
        shape = program.weights.shape(name)
        return Derived(shape, lambda base: base.load(name) * factors)

    changed = {
        "layers.1.mlp_norm": scaled("layers.1.mlp_norm", large),
        "layers.1.gate": scaled("layers.1.gate", 1 / large),
        "layers.1.up": scaled("layers.1.up", 1 / large),
    }
    weights = DerivedWeights(program.weights, changed, frozenset())
    return Program(program.spec, program.graph, weights)


@pytest.fixture
def emit(tmp_path):
    tokenizer = json.dumps({"model": {"type": "BPE"}})
    files = TokenizerFiles(tokenizer, None, TokenizerRecord(1, (2,), False, "<s>", "</s>"))

    def run(program):
        recipe = find_recipe("w4b32-round")
        prepared = prepare(program, recipe)
        emit_resident(
            prepared,
            QuantisedWeights(prepared.weights, recipe),
            tmp_path,
            context=CONTEXT,
            tokenizer=files,
            generation=GenerationDefaults(),
        )
        return tmp_path / "model.onnx"

    return run


def logits(path, spec, text):
    model = ResidentModel(path, spec, CONTEXT, threads=1)
    found = np.array(model.new_sequence().score(text))
    model.close()
    return found


def test_the_planted_product_alone_is_raised(planted, emit, texts):
    path = emit(planted)
    data = (path.parent / "model.onnx.data").read_bytes()
    before = logits(path, planted.spec, texts[5])
    record = raise_accuracy(path, planted.spec, CONTEXT, texts[:4], 0.93)
    assert record.raised == (PLANTED,)
    assert record.top1_before < 0.9 < 0.93 <= record.top1_after
    assert record.kl_after_nats < 0.2 * record.kl_before_nats
    assert 0 < record.multiplications_share < 0.5
    assert (path.parent / "model.onnx.data").read_bytes() == data
    # On a text that nothing was chosen on, greedy choices come back as well.
    after = logits(path, planted.spec, texts[5])
    raise_accuracy(path, planted.spec, CONTEXT, texts[:4], 0.9999)
    exact = logits(path, planted.spec, texts[5]).argmax(-1)
    assert (before.argmax(-1) == exact).mean() < (after.argmax(-1) == exact).mean()


def test_the_same_file_gives_the_same_record(planted, emit, texts):
    path = emit(planted)
    first = raise_accuracy(path, planted.spec, CONTEXT, texts[:2], 0.97)
    written = path.read_bytes()
    assert raise_accuracy(path, planted.spec, CONTEXT, texts[:2], 0.97) == first
    assert path.read_bytes() == written


def test_nothing_is_raised_where_the_wish_is_met(make_program, emit, texts):
    program = make_program("untied")
    path = emit(program)
    before = path.read_bytes()
    record = raise_accuracy(path, program.spec, CONTEXT, texts[:2], 0.5)
    assert record.raised == ()
    assert record.top1_after == record.top1_before >= 0.5
    assert path.read_bytes() == before


def test_the_last_product_can_be_needed(make_program, emit, texts):
    program = make_program("untied")
    path = emit(program)
    said = []
    record = raise_accuracy(path, program.spec, CONTEXT, texts[:4], 0.99999, said.append)
    assert record.top1_after >= 0.99999
    assert 0 < len(record.raised) <= len(quantised_products(path))
    assert any("group" in line for line in said)
