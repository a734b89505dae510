"""What the ONNX emitters need besides a program."""

import json

import pytest

from edgesdk.bundle.manifest import TokenizerRecord
from edgesdk_converters.graph.program import Program
from edgesdk_converters.prepare import prepare
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import find_recipe
from edgesdk_converters.tokenizers.tokenizer_files import TokenizerFiles

pytest.importorskip("onnx", reason="needs the extra 'convert'")


@pytest.fixture
def tokenizer_files():
    """A byte-level tokenizer of 96 letters, as large as the programs' vocabulary."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = ["Ġ", *sorted(pre_tokenizers.ByteLevel.alphabet())[:92]]
    vocabulary = {text: i for i, text in enumerate(["<unk>", "<s>", "</s>", *alphabet])}
    engine = Tokenizer(models.BPE(vocabulary, []))
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    engine.add_special_tokens(["<s>", "</s>"])
    template = "{% for m in messages %}<s>{{ m.content }}{% endfor %}"
    text = json.dumps(json.loads(engine.to_str()))
    return TokenizerFiles(text, template, TokenizerRecord(1, (2,), False, "<s>", "</s>"))


@pytest.fixture
def quantise():
    """A prepared program whose weights are what the recipe makes of them."""

    def run(program, recipe):
        prepared = prepare(program, find_recipe(recipe))
        weights = QuantisedWeights(prepared.weights, find_recipe(recipe))
        return Program(prepared.spec, prepared.graph, weights)

    return run
