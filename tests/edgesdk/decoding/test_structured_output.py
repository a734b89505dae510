"""Whole documents from a backend that says anything: each is valid, or was cut by its limit and says so."""

import json
from pathlib import Path

import numpy as np
import pytest

from edgesdk.backends.fake import FakeStepBackend
from edgesdk.bundle.manifest import GenerationDefaults, StepShape
from edgesdk.bundle.uniform_decoder import LayerSpec, UniformDecoder
from edgesdk.decoding.answer import Answer
from edgesdk.decoding.choose import Chooser
from edgesdk.decoding.generate import generate
from edgesdk.decoding.grammar import Grammar, GrammarTokenizer
from edgesdk.decoding.options import GenerationOptions
from edgesdk.kv.cell_sequence import CellSequence

pytest.importorskip("llguidance")
jsonschema = pytest.importorskip("jsonschema")

SCHEMAS = json.loads((Path(__file__).parents[3] / "benchmarks" / "schemas.json").read_text("utf-8"))
DOCUMENTS = 10
LIMIT = 150


@pytest.fixture(scope="module")
def write(byte_level):
    """`write(schema, seed, limit)` gives the text and why it ended."""
    V = byte_level.engine.get_vocab_size()
    spec = UniformDecoder("llama", V, 8, 8, 1, 1, 2, 256, (LayerSpec(None, None),), 1e-5, "silu", 1.0).spec()
    shapes = [StepShape(T, S, 1, f"t{T}_s{S}") for T in (1, 8) for S in (64, 256)]
    backend = FakeStepBackend(spec, shapes)
    grammars = GrammarTokenizer(byte_level, V)

    def document(schema, seed, limit=LIMIT):
        sequence = CellSequence(backend, spec, 256)
        options = GenerationOptions(temperature=1.0, seed=seed)
        grammar = Grammar.json_schema(schema, grammars)
        chooser = Chooser(options, GenerationDefaults(), V, grammar=grammar)
        chooser.observe([seed])
        answer = Answer(byte_level, options, limit=limit, prompt_tokens=1)
        prompt = np.array([seed], np.int32)
        *_, last = generate(sequence, prompt, chooser, answer, lambda: False)
        sequence.close()
        assert last.completion.new_tokens <= limit
        return last.completion.text, last.completion.finish_reason

    return document


def test_there_are_enough_schemas():
    assert len(SCHEMAS) >= 20
    assert len(SCHEMAS) * DOCUMENTS >= 200


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_document_is_valid_or_cut(name, write):
    schema = SCHEMAS[name]
    validator = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
    check = validator(schema, format_checker=validator.FORMAT_CHECKER)
    ends = []
    for seed in range(DOCUMENTS):
        text, finish = write(schema, seed)
        ends.append(finish)
        if finish == "stop":
            check.validate(json.loads(text))
        else:
            assert finish == "length"
            with pytest.raises(ValueError, match=r"."):  # a cut document is no JSON, or the cut came too late
                json.loads(text)
    if name not in ("free text", "map"):  # these hold texts of any length
        assert ends.count("stop") >= DOCUMENTS // 2


def test_a_short_limit_cuts_cleanly_also_within_forced_tokens(write):
    schema = {"const": {"a long key": "a long value"}}
    whole, finish = write(schema, 0)
    assert finish == "stop"
    for limit in range(1, 12):
        text, finish = write(schema, 0, limit)
        assert finish == "length"
        assert whole.startswith(text)
        assert text != whole
