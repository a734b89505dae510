"""A second trained model that converts in seconds: it writes what its own package writes, token by token.

Its sizes are awkward without being made so: a feed-forward of 341, heads of 32, a tied table of 1,024 words.
"""

import numpy as np
import pytest

import edgesdk
from edgesdk.bundle.reader import open_bundle
from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.convert import ConvertOptions, convert
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.graph.program import Program

pytestmark = pytest.mark.real

# Greedy, by `glassllm.model.GlassLM.generate(ids, 40, greedy=True)` of the package itself.
PROMPTS = {"en": "The old man said that the", "pt": "O velho homem disse que a"}
PROMPT_TOKENS = {"en": [185, 552, 391, 151, 169, 97], "pt": [45, 260, 544, 576, 339, 136, 118]}
WRITTEN = {
    "en": [
        4, 42, 418, 13, 4, 4, 185, 434, 160, 94, 274, 115, 291, 156, 13, 4, 4, 185, 434, 160,
        94, 274, 115, 291, 156, 13, 4, 4, 185, 434, 160, 94, 274, 115, 291, 156, 13, 4, 4, 185,
    ],
    "pt": [
        4, 72, 217, 611, 206, 118, 742, 353, 182, 119, 118, 123, 178, 177, 123, 901, 698, 4, 4, 509,
        116, 54, 33, 39, 54, 4, 4, 31, 78, 367, 14, 118, 226, 85, 135, 134, 161, 360, 139, 134,
    ],
}  # fmt: skip
TARGETS = {"en": ("litert", "onnx", "onnx-step"), "pt": ("litert",)}
CASES = [(language, target) for language, targets in TARGETS.items() for target in targets]
CLOSE = 0.025  # of the best logit: two words so near each other may change places in 8 bits


@pytest.fixture(scope="module")
def bundle_of(glassllm, converted_once):
    def make(language):
        options = {"targets": TARGETS[language], "recipes": ("f32", "w8-round"), "context": 128}
        return converted_once(glassllm(language), **options)

    return make


def logits_of(folder, tokens):
    checkpoint = open_checkpoint(str(folder))
    spec = read_spec(checkpoint.config)
    program = Program(spec, build_decoder(spec), weights_for(checkpoint, spec))
    return next(sequence_logits(program, [np.array(tokens, np.int32)]))


@pytest.mark.parametrize(("language", "target"), CASES)
def test_it_writes_what_its_own_package_writes(bundle_of, language, target):
    with edgesdk.load(bundle_of(language), variant=f"{target}-f32", threads=1) as model:
        done = model.generate(PROMPTS[language], max_tokens=40, temperature=0.0, ignore_eos=True)
    assert list(done.tokens) == WRITTEN[language]


@pytest.mark.parametrize(("language", "target"), CASES)
def test_in_8_bits_it_chooses_the_same_words_wherever_two_are_not_close(
    bundle_of, glassllm, language, target
):
    text = PROMPT_TOKENS[language] + WRITTEN[language]
    with edgesdk.load(bundle_of(language), variant=f"{target}-w8-round", threads=1) as model:
        found = model.score(np.array(text, np.int32))
    places = range(len(PROMPT_TOKENS[language]) - 1, len(text) - 1)
    best = np.sort(logits_of(glassllm(language), text), axis=1)
    far = [i for i in places if best[i, -1] - best[i, -2] > CLOSE * abs(best[i, -1])]
    assert len(far) > 0.7 * len(places)
    assert [int(found[i].argmax()) for i in far] == [text[i + 1] for i in far]


@pytest.mark.parametrize("language", TARGETS)
def test_text_becomes_the_tokens_of_its_own_package_and_comes_back(bundle_of, language):
    with edgesdk.load(bundle_of(language), threads=1) as model:
        text = PROMPTS[language]
        assert list(model.tokenizer.encode(text)) == PROMPT_TOKENS[language]
        assert model.tokenizer.decode(PROMPT_TOKENS[language]) == text


@pytest.mark.parametrize("language", TARGETS)
def test_chunks_are_the_whole(bundle_of, glassllm, language):
    """A trained model, too: what a runtime reads in pieces is what the evaluator reads at once."""
    tokens = PROMPT_TOKENS[language] + WRITTEN[language]
    expected = logits_of(glassllm(language), tokens)
    with edgesdk.load(bundle_of(language), variant="litert-f32", threads=1) as model:
        found = model.score(np.array(tokens, np.int32))
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("language", TARGETS)
def test_every_variant_met_its_gate(bundle_of, language):
    for variant in open_bundle(bundle_of(language)).manifest.variants:
        assert variant.parity is not None
        assert variant.parity.perplexity_ratio < (1.001 if variant.recipe == "f32" else 1.05)


@pytest.mark.parametrize("recipe", ["w4b32-round", "w4b64-round"])
def test_blocks_that_do_not_divide_341_are_refused_by_name(glassllm, tmp_path, recipe):
    options = ConvertOptions(targets=("litert",), recipes=(recipe,), context=128)
    with pytest.raises(edgesdk.EdgeError, match=r"'layers\.0\.down' has 341 columns; use w8 or w4c"):
        convert(str(glassllm("en")), tmp_path / "b", options)
    assert list(tmp_path.iterdir()) == []
