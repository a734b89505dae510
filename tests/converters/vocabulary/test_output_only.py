"""A head that writes some tokens only, through the whole pipeline and every way of decoding."""

import dataclasses
import json

import numpy as np
import pytest

import edgesdk
from edgesdk.bundle.id_map import read_id_map
from edgesdk.bundle.reader import open_bundle
from edgesdk.cli.reference import open_reference
from edgesdk.errors import BundleError, UnsupportedOption
from edgesdk.evaluation.evaluate_text import text_windows
from edgesdk.evaluation.verify_bundle import verify_bundle
from edgesdk_converters import convert as pipeline
from edgesdk_converters import read_source
from edgesdk_converters.reshape import Reshaping
from edgesdk_converters.vocabulary.choose_tokens import choose_tokens
from edgesdk_converters.vocabulary.kept_speller import kept_speller
from edgesdk_converters.vocabulary.prune_request import PruneRequest, parse_prune_option
from edgesdk_converters.vocabulary.tokenizer_data import load_engine

VARIANTS = ("litert-f32", "onnx-step-f32", "litert-w8")


def convert(
    monkeypatch, checkpoint, folder, *, recipes=("f32", "w8"), targets=("litert", "onnx-step"), **more
):
    monkeypatch.setattr(read_source, "open_checkpoint", lambda source, revision=None: checkpoint)
    options = pipeline.ConvertOptions(targets, recipes, context=96, allow_parity_miss=True, **more)
    return pipeline.convert("given", folder, options)


@pytest.fixture(scope="module", params=["llama", "llama-untied-bias"])
def bundles(request, tmp_path_factory, grown, corpus, short_text):
    """The full bundle, the same with a pruned head, and the checkpoint."""
    folder = tmp_path_factory.mktemp("output")
    checkpoint = grown("byte_level", request.param)
    with pytest.MonkeyPatch.context() as patch:
        full = convert(patch, checkpoint, folder / "full", calibration=short_text)
        asked = Reshaping(prune_vocab=f"corpus={corpus},size=500,output-only")
        pruned = convert(patch, checkpoint, folder / "pruned", reshaping=asked, calibration=short_text)
    return full, pruned, checkpoint


def kept_of(bundle):
    return np.array(read_id_map(bundle / "vocabulary.json").old_ids)


def test_the_manifest_says_what_is_pruned(bundles):
    full, pruned, _ = bundles
    whole, manifest = open_bundle(full).manifest, open_bundle(pruned).manifest
    assert manifest.vocabulary.output_only
    assert manifest.vocabulary.method.endswith("size=500,output-only")
    assert (manifest.decoder.head_rows, manifest.decoder.vocab_size) == (500, whole.decoder.vocab_size)
    assert (pruned / "tokenizer.json").read_bytes() == (full / "tokenizer.json").read_bytes()
    assert manifest.tokenizer == whole.tokenizer
    tokens = whole.decoder.vocab_size
    assert manifest.variants[0].parity.against == f"the source, with 500 of {tokens} tokens to write"


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_are_those_of_the_full_model_where_there_are_any(bundles, variant):
    full, pruned, checkpoint = bundles
    engine = load_engine(checkpoint.tokenizer.tokenizer_json)
    # Input keeps the full vocabulary, so any text will do.
    ids = np.array(engine.encode("Ein Text mit Straße und いろは, not covered.").ids, np.int32)
    rows = []
    for bundle in (full, pruned):
        with edgesdk.load(bundle, variant=variant, strict=True, threads=1) as model:
            rows.append(model.score(ids))
    kept = kept_of(pruned)
    assert not set(ids.tolist()) <= set(kept.tolist())
    if variant.endswith("f32"):
        np.testing.assert_allclose(rows[1][:, kept], rows[0][:, kept], rtol=1e-4, atol=1e-4)
    else:  # a tied head and one of its own are rounded apart
        assert np.corrcoef(rows[1][:, kept].ravel(), rows[0][:, kept].ravel())[0, 1] > 0.99
    dropped = np.setdiff1d(np.arange(rows[0].shape[1]), kept)
    assert (rows[1][:, dropped] < -1e8).all()


def test_it_is_proven_and_verified_on_texts_that_it_can_write(bundles):
    _, pruned, checkpoint = bundles
    spell = kept_speller(checkpoint.tokenizer, choice_of(pruned))
    assert set(spell("Straße いろは \x00")) <= set(kept_of(pruned).tolist())
    engine = load_engine(checkpoint.tokenizer.tokenizer_json)
    assert engine.decode(spell("Straße いろは")) == "Straße いろは"
    report = verify_bundle(pruned)
    for check in report.variants:
        # Random weights: far from likely, and as far from what has no probability at all.
        assert np.log(check.recorded.perplexity) < 100
        if check.variant.endswith("f32"):
            assert check.status == "passed"
            assert check.recorded.top1_agreement > 0.999
            assert check.measured.perplexity_ratio == pytest.approx(1, abs=1e-3)


def choice_of(bundle):
    from edgesdk_converters.vocabulary.kept_tokens import KeptTokens

    manifest = open_bundle(bundle).manifest
    return KeptTokens.from_bundle(read_id_map(bundle / "vocabulary.json"), manifest.vocabulary)


@pytest.mark.parametrize("variant", VARIANTS[:2])
@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.0},
        {"temperature": 1.5, "seed": 3},
        {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "seed": 4},
        {"temperature": 0.0, "logprobs": 5},
        {"temperature": 0.0, "regex": "[ab]{3} Straße[0-9]{4}"},
        {"temperature": 2.0, "seed": 5, "repetition_penalty": 1.4},
    ],
)
def test_every_way_of_decoding_writes_kept_tokens_in_full_ids(bundles, variant, options):
    _, pruned, _ = bundles
    kept = set(kept_of(pruned).tolist())
    with edgesdk.load(pruned, variant=variant, strict=True, threads=1) as model:
        answer = model.generate("The value of", max_tokens=24, **options)
        assert model.tokenizer.decode(answer.tokens).startswith(answer.text[:4])
        if "regex" in options:
            # What a grammar forces is read, not chosen, so it may be any token.
            assert answer.text.startswith(("aaa", "aab", "aba", "abb", "baa", "bab", "bba", "bbb"))
            assert " Straße" in answer.text
        else:
            assert set(answer.tokens) <= kept
        if "logprobs" in options:
            for entry in answer.logprobs:
                assert {entry.token, *(token for token, _ in entry.top)} <= kept
                assert all(-100 < value <= 0 for _, value in entry.top)


def test_greedy_text_is_the_full_models_while_it_stays_in_the_kept_set(bundles, held_out):
    full, pruned, _ = bundles
    kept, covered = set(kept_of(pruned).tolist()), 0
    prompts = [" ".join(line.split()[:2]) for line in held_out[:60]]
    with edgesdk.load(full, variant="litert-f32") as one, edgesdk.load(pruned, variant="litert-f32") as other:
        for prompt in prompts:
            expected = one.generate(prompt, max_tokens=2, temperature=0.0).tokens
            if set(expected) <= kept:
                covered += 1
                assert other.generate(prompt, max_tokens=2, temperature=0.0).tokens == expected
    assert covered >= 10


def test_it_composes_with_layers_and_a_shallow_stack(grown, corpus, tmp_path, monkeypatch):
    asked = Reshaping(prune_vocab=f"corpus={corpus},size=500,output-only", skip_layers="0.mlp")
    bundle = convert(
        monkeypatch,
        grown("byte_level", "llama"),
        tmp_path / "b",
        recipes=("f32", "w4b32-round"),
        targets=("litert",),
        reshaping=asked,
        shallow="1.attention",
    )
    report = verify_bundle(bundle)
    f32 = [check for check in report.variants if "f32" in check.variant]
    assert len(f32) == 2
    assert all(check.status == "passed" for check in f32), report


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"targets": ("litert", "onnx")}, "litert, litert-static, onnx-step, found onnx"),
        ({"targets": ("coreml",)}, "found coreml"),
        ({"recipes": ("w4b32",), "budget": "perplexity=1.1"}, "budget is measured"),
    ],
)
def test_what_cannot_be_is_refused_by_name(grown, corpus, tmp_path, monkeypatch, more, match):
    asked = Reshaping(prune_vocab=f"corpus={corpus},size=500,output-only")
    with pytest.raises(UnsupportedOption, match=match):
        convert(monkeypatch, grown("byte_level", "llama"), tmp_path / "b", reshaping=asked, **more)


def test_perplexity_of_ordinary_text_is_refused(bundles):
    _, pruned, _ = bundles
    with edgesdk.load(pruned, variant="litert-f32") as model:
        with pytest.raises(UnsupportedOption, match="writes 500 tokens only"):
            text_windows(model, "a text that is long enough", tokens=8, window=8)
        with pytest.raises(UnsupportedOption, match="writes 500 tokens only"):
            open_reference("anything", model.bundle)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda m: m["decoder"].update(head_rows=499), "disagree"),
        (lambda m: m["vocabulary"].update(output_only=False), "disagree"),
        (lambda m: m["files"].pop("vocabulary.json"), "lists no vocabulary.json"),
        (lambda m: (m["decoder"].update(head_rows=400), m["vocabulary"].update(tokens=400)), r"\(1, 500\)"),
    ],
)
def test_a_damaged_bundle_is_refused(bundles, tmp_path, change, match):
    import shutil

    shutil.copytree(bundles[1], tmp_path / "b")
    path = tmp_path / "b" / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises((BundleError, edgesdk.EdgeError), match=match):
        edgesdk.load(tmp_path / "b", variant="litert-f32", strict=True)


def test_the_grammar_knows_it():
    request = parse_prune_option("language=en, output-only ,size=9")
    assert request == PruneRequest(language="en", size=9, output_only=True)
    assert request.describe() == "language=en,size=9,output-only"
    with pytest.raises(UnsupportedOption, match="one of corpus"):
        parse_prune_option("output-only")


def test_the_choice_is_that_of_both_vocabularies(grown, corpus):
    full = grown("byte_level", "llama")
    both = choose_tokens(full, PruneRequest(corpus=(corpus,), size=500))
    head = choose_tokens(full, PruneRequest(corpus=(corpus,), size=500, output_only=True))
    assert head.old_ids == both.old_ids
    assert dataclasses.replace(head.record(), method=both.method, output_only=False) == both.record()
