"""An adapted checkpoint among everything else: targets, other readers' view of its tokenizer, what was made
for the old vocabulary."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, pre_tokenizers

import edgesdk
from edgesdk.bundle.reader import open_bundle
from edgesdk.dispatch.exit_rule import ExitRule, read_rule
from edgesdk.errors import CheckpointError, UnsupportedOption
from edgesdk_converters.adapters.adapter import AdapterRequest
from edgesdk_converters.adapters.merge_adapter import merge_adapters
from edgesdk_converters.adapters.runtime_adapters import read_runtime_adapters
from edgesdk_converters.architectures.read_program import read_program
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.convert import ConvertOptions, convert
from edgesdk_converters.drafts.draft_checkpoint import (
    DraftCheckpoint,
    DraftConfig,
    DraftTarget,
    tokenizer_digest,
)
from edgesdk_converters.drafts.fit_draft import fit_draft
from edgesdk_converters.streams.stream_checkpoint import StreamCheckpoint, fit_streams
from edgesdk_converters.streams.stream_config import StreamConfig
from edgesdk_converters.vocabulary.adapt.adapt_request import AdaptRequest
from edgesdk_converters.vocabulary.adapt.adapt_vocab import adapt_vocab

DATA = Path(__file__).parents[2] / "data"
LLAMA = DATA / "tiny" / "llama"
ADAPTER = DATA / "adapters" / "llama-patterns"
WORDS = ("der Zug nach Hamburg", "fährt über die große Brücke", "und hält nicht", "in jeder schönen Stadt")
TARGETS = ("litert", "onnx-step", "coreml")
ROUNDING = 2e-4
MODES = ("own", "more")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    random = np.random.default_rng(0)
    corpus = tmp_path_factory.mktemp("corpus") / "de.txt"
    corpus.write_text(
        "\n".join(" ".join(random.choice(" ".join(WORDS).split(), 12)) for _ in range(300)), encoding="utf-8"
    )
    return corpus


@pytest.fixture(scope="module")
def adapted(corpus, tmp_path_factory):
    """A vocabulary of its own, and one that was expanded."""
    folder = tmp_path_factory.mktemp("adapted")
    source = open_checkpoint(str(LLAMA))
    adapt_vocab(source, AdaptRequest((corpus,), "mean", 380), folder / "own")
    adapt_vocab(source, AdaptRequest((corpus,), "mean", 40, expand=True), folder / "more")
    return folder


@pytest.fixture(scope="module")
def bundle(adapted):
    options = ConvertOptions(targets=TARGETS, recipes=("f32",), context=64)
    return convert(str(adapted / "own"), adapted / "bundle", options)


def test_every_target_is_proven_and_says_the_same(adapted, bundle):
    ids = Tokenizer.from_file(str(adapted / "own" / "tokenizer.json")).encode("der Zug fährt über").ids
    answers, scores = {}, {}
    for variant in open_bundle(bundle).manifest.variants:
        assert variant.parity is not None
        assert variant.parity.top1_agreement == 1
        backend = {"coreml": "coreml-interpreter"}.get(variant.format, "auto")
        with edgesdk.load(bundle, variant=variant.name, backend=backend, threads=1) as model:
            assert model.tokenizer.encode("der Zug fährt über", add_bos=False) == ids
            answers[variant.format] = model.generate(
                ids, max_tokens=6, temperature=0.0, ignore_eos=True
            ).tokens
            scores[variant.format] = model.score(ids)
            assert scores[variant.format].shape == (len(ids), model.decoder.vocab_size)
    assert answers.keys() == set(TARGETS)
    for target in TARGETS[1:]:
        np.testing.assert_allclose(scores[target], scores["litert"], atol=ROUNDING, rtol=0)
        assert answers[target] == answers["litert"]


@pytest.mark.parametrize("mode", MODES)
def test_every_token_is_built_by_merges_and_every_byte_is_one(adapted, mode):
    engine = Tokenizer.from_file(str(adapted / mode / "tokenizer.json"))
    added = {token.content for token in engine.get_added_tokens_decoder().values()}
    for text, i in engine.get_vocab().items():
        if text not in added:
            assert [token.id for token in engine.model.tokenize(text)] == [i], text
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    assert len(alphabet) == 256
    assert all(engine.token_to_id(letter) is not None for letter in alphabet)


@pytest.mark.parametrize("mode", MODES)
def test_bytes_one_by_one_are_the_text(adapted, mode):
    """What falls back to bytes decodes, whatever the bytes are part of."""
    engine = Tokenizer.from_file(str(adapted / mode / "tokenizer.json"))
    for text in ("Straße 日本語 \U0010fffd\x00\ufeff", "ሰላም 👩‍👩‍👧"):
        letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
        ids = [engine.token_to_id(letter) for letter in "".join(word for word, _ in letters)]
        assert len(ids) == len(text.encode())
        assert engine.decode(ids) == text


@pytest.mark.parametrize("mode", MODES)
def test_a_draft_of_the_old_vocabulary_is_refused(adapted, mode):
    program = read_program(new := open_checkpoint(str(adapted / mode)))
    config = DraftConfig(program.spec.hidden_size, 96, 2, 4, program.spec.norm_eps, about_the_old())
    tensors = {name: np.ones(shape, np.float32) for name, shape in config.shapes.items()}
    draft = DraftCheckpoint(config, tensors, np.arange(2, 200, 3, dtype=np.int32))
    with pytest.raises(CheckpointError, match=r"'llama', whose vocabulary is 288; .*train a draft for this"):
        fit_draft(draft, program, new.tokenizer)


def test_a_draft_of_as_many_other_tokens_is_refused(adapted):
    """The same number of tokens is not the same tokens."""
    new = open_checkpoint(str(adapted / "own"))
    program = read_program(new)
    about = dataclasses.replace(about_the_old(), vocab_size=program.spec.vocab_size)
    config = DraftConfig(program.spec.hidden_size, 96, 2, 4, program.spec.norm_eps, about)
    tensors = {name: np.ones(shape, np.float32) for name, shape in config.shapes.items()}
    draft = DraftCheckpoint(config, tensors, np.arange(2, 200, 3, dtype=np.int32))
    with pytest.raises(CheckpointError, match="'llama', whose tokenizer is another"):
        fit_draft(draft, program, new.tokenizer)


def test_streams_of_the_old_vocabulary_are_refused(adapted):
    new = open_checkpoint(str(adapted / "own"))
    config = StreamConfig("masks", 2, 0, 3, ("q", "v"), about_the_old())
    with pytest.raises(CheckpointError, match="streams were trained for 'llama', whose vocabulary is 288"):
        fit_streams(StreamCheckpoint(config, {}), read_program(new), new.tokenizer)


def test_a_rule_for_exits_of_the_old_model_is_refused(corpus, tmp_path):
    source, new = DATA / "tiny" / "cwm", tmp_path / "new"  # which has a block more
    adapt_vocab(open_checkpoint(str(source)), AdaptRequest((corpus,), "mean", 380), new)
    options = ConvertOptions(targets=("litert",), recipes=("f32",), context=64, prove=False, exits="2")
    manifests = [
        open_bundle(convert(str(each), tmp_path / f"{each.name}-bundle", options)).manifest
        for each in (source, new)
    ]
    old, adapted = (manifest.variants[0] for manifest in manifests)
    rule = ExitRule("fixed", (2,), numbers=old.numbers)
    assert read_rule(rule, manifests[0].exits_of(old), old.numbers) is rule
    with pytest.raises(UnsupportedOption, match="made for a bundle with other weights"):
        read_rule(rule, manifests[1].exits_of(adapted), adapted.numbers)


def test_an_adapter_of_the_old_vocabulary_is_refused(adapted, tmp_path):
    """Its products would fit; what it learnt, it learnt of other tokens."""
    new, old = open_checkpoint(str(adapted / "own")), open_checkpoint(str(LLAMA))
    folder = tmp_path / "adapter"
    shutil.copytree(ADAPTER, folder)
    merge_adapters(new, [AdapterRequest(folder)])  # which says nothing of a vocabulary
    note = folder / "training.json"
    note.write_text(json.dumps({"target": {"name": "llama", "vocab_size": 288}}))
    merge_adapters(old, [AdapterRequest(folder)])
    message = "does not belong to own: it was trained for a vocabulary of 288, the model's is 3"
    with pytest.raises(CheckpointError, match=message):
        merge_adapters(new, [AdapterRequest(folder)])
    with pytest.raises(CheckpointError, match=message):
        read_runtime_adapters(new, [AdapterRequest(folder)])
    for strange in ("[]", "{", '{"target": 3}', '{"target": {"vocab_size": "288"}}'):
        note.write_text(strange)  # of another tool
        merge_adapters(new, [AdapterRequest(folder)])


def about_the_old():
    checkpoint = open_checkpoint(str(LLAMA))
    spec = read_program(checkpoint).spec
    digest = tokenizer_digest(checkpoint.tokenizer)
    return DraftTarget(spec.architecture, spec.vocab_size, spec.hidden_size, digest, "llama")
