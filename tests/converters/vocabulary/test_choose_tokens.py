"""Choosing tokens: what has to stay, size, coverage, lists, languages, and requests that cannot be met."""

import dataclasses
import json
import sys

import numpy as np
import pytest

from edgesdk.errors import MissingExtra, TransformError, UnsupportedOption
from edgesdk_converters.vocabulary.choose_tokens import choose_tokens
from edgesdk_converters.vocabulary.count_tokens import count_tokens
from edgesdk_converters.vocabulary.prune_request import PruneRequest
from edgesdk_converters.vocabulary.required_tokens import required_tokens
from edgesdk_converters.vocabulary.tokenizer_data import TokenizerData


def test_every_choice_is_closed_under_merges(grown, family, corpus):
    checkpoint = grown(family)
    data = TokenizerData(checkpoint.tokenizer.tokenizer_json)
    for request in (
        PruneRequest(corpus=(corpus,), size=600),
        PruneRequest(corpus=(corpus,), coverage=0.5),
        PruneRequest(language="en"),
    ):
        kept = set(choose_tokens(checkpoint, request).old_ids)
        assert all(data.ancestors(token) <= kept for token in kept)
        assert required_tokens(checkpoint, data) <= kept


def test_what_has_to_stay(grown, family):
    checkpoint = grown(family)
    data = TokenizerData(checkpoint.tokenizer.tokenizer_json)
    required = required_tokens(checkpoint, data)
    assert data.added_ids <= required
    assert {0, 1, 2, 4} <= required
    for text in ("<|im_start|>assistant\n", "user", '{"name": "f"'):
        assert set(data.engine.encode(text, add_special_tokens=False).ids) <= required
    if family == "unigram":
        assert {i for t, i in data.ids.items() if len(t) == 1} <= required
    if family == "unigram_bytes":
        assert len(data.byte_ids & required) == 256
        scores = data.piece_scores()
        assert scores.index(min(scores)) in required


def test_size_is_met_exactly(grown, family, corpus):
    for size in (500, 700):
        if size == 500 and family == "sentencepiece":
            size = 560
        kept = choose_tokens(grown(family), PruneRequest(corpus=(corpus,), size=size))
        assert len(kept.old_ids) == size


def test_coverage_is_met_and_hardly_more(grown, family, corpus):
    checkpoint = grown(family)
    data = TokenizerData(checkpoint.tokenizer.tokenizer_json)
    counts = count_tokens(data.engine, [corpus.read_text("utf-8")], data.size)
    for asked in (1.0, 0.95, 0.8):
        kept = choose_tokens(checkpoint, PruneRequest(corpus=(corpus,), coverage=asked))
        covered = counts[list(kept.old_ids)].sum() / counts.sum()
        assert covered == pytest.approx(kept.coverage, abs=2e-3)  # which was counted in blocks of lines
        assert asked - 1e-9 <= kept.coverage <= asked + 0.02
    whole = choose_tokens(checkpoint, PruneRequest(corpus=(corpus,)))
    assert whole.coverage == 1
    assert len(whole.old_ids) < data.size


def test_a_choice_is_the_same_every_time(grown, corpus):
    request = PruneRequest(corpus=(corpus,), size=600)
    assert choose_tokens(grown("byte_level"), request) == choose_tokens(grown("byte_level"), request)


def test_the_corpus_decides(grown, tmp_path):
    """A German corpus keeps the tokens of German that an English one drops."""
    checkpoint = grown("byte_level")
    data = TokenizerData(checkpoint.tokenizer.tokenizer_json)
    sentence = "Die Straße führt über die Brücke, sagte das Mädchen und lächelte.\n"
    kept = []
    for name, text in (("de", sentence), ("en", "the function returns a new list of values\n")):
        path = tmp_path / name
        path.write_text(text * 50, encoding="utf-8")
        kept.append(choose_tokens(checkpoint, PruneRequest(corpus=(path,), coverage=1.0)))
    used = set(data.engine.encode(sentence).ids)
    assert used <= set(kept[0].old_ids)
    assert not used <= set(kept[1].old_ids)


def test_a_token_list(grown, tmp_path):
    checkpoint = grown("byte_level")
    data = TokenizerData(checkpoint.tokenizer.tokenizer_json)
    longest = max(data.ids, key=len)
    path = tmp_path / "list.json"
    path.write_text(json.dumps([longest, 300]), encoding="utf-8")
    kept = choose_tokens(checkpoint, PruneRequest(tokens=path))
    expected = required_tokens(checkpoint, data) | data.ancestors(data.ids[longest]) | data.ancestors(300)
    assert set(kept.old_ids) == expected
    assert kept.coverage is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "is not JSON"),
        ("{}", "holds no list"),
        ("[]", "holds no list"),
        ("[99999]", "99999', which is no token"),
        ('["nonsense nonsense"]', "which is no token"),
        ("[true]", "which is no token"),
        ("[1.5]", "which is no token"),
        ("[" * 100_000, "is not JSON"),
    ],
    ids=range(8),
)
def test_a_damaged_list_is_refused(grown, tmp_path, content, message):
    path = tmp_path / "list.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UnsupportedOption, match=message):
        choose_tokens(grown("byte_level"), PruneRequest(tokens=path))


def test_requests_that_cannot_be_met(grown, corpus, tmp_path):
    checkpoint = grown("byte_level")
    empty, binary = tmp_path / "empty.txt", tmp_path / "binary"
    empty.write_text("", encoding="utf-8")
    binary.write_bytes(b"\xff\xfe\x00")
    for request, message in (
        (PruneRequest(corpus=(corpus,), size=10), r"size=10, but \d+ tokens have to stay"),
        (PruneRequest(corpus=(corpus,), size=10**6), "but the vocabulary has 900 tokens"),
        (PruneRequest(corpus=(empty,)), "empty.txt is empty; expected text"),
        (PruneRequest(corpus=(binary,)), "is not UTF-8 text"),
        (PruneRequest(corpus=(tmp_path / "none",)), "cannot be read: No such file"),
        (PruneRequest(corpus=(tmp_path,)), "cannot be read: Is a directory"),
        (PruneRequest(language="../x"), "is no code"),
    ):
        with pytest.raises(UnsupportedOption, match=message) as caught:
            choose_tokens(checkpoint, request)
        assert "\n" not in str(caught.value)


def test_a_language_that_is_in_a_package_names_the_extra(grown, monkeypatch):
    monkeypatch.setitem(sys.modules, "wordfreq", None)
    with pytest.raises(MissingExtra, match="'wordfreq' is not installed"):
        choose_tokens(grown("byte_level"), PruneRequest(language="de"))


def test_an_unknown_language_is_refused(grown):
    pytest.importorskip("wordfreq")
    with pytest.raises(UnsupportedOption, match=r"'xx' is not known; known are .*\bde\b.*\ben\b"):
        choose_tokens(grown("byte_level"), PruneRequest(language="xx"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "WordPiece", "unk_token": "<unk>"}, "'WordPiece'; only BPE and Unigram"),
        ({"end_of_word_suffix": "</w>"}, "end_of_word_suffix"),
    ],
    ids=["kind", "suffix"],
)
def test_other_models_are_refused(grown, change, message):
    checkpoint = grown("byte_level")
    document = json.loads(checkpoint.tokenizer.tokenizer_json)
    document["model"].update(change)
    if "type" in change:
        document["model"] = {
            "type": "WordPiece",
            "unk_token": "<unk>",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": document["model"]["vocab"],
        }
    files = dataclasses.replace(checkpoint.tokenizer, tokenizer_json=json.dumps(document))
    with pytest.raises(TransformError, match=message):
        choose_tokens(dataclasses.replace(checkpoint, tokenizer=files), PruneRequest(language="en"))


def test_counts_add_up(grown):
    data = TokenizerData(grown("byte_level").tokenizer.tokenizer_json)
    texts = ["the cat", "the the"] * 70
    counts = count_tokens(data.engine, texts, data.size)
    assert counts.sum() == sum(len(data.engine.encode(t).ids) for t in texts)
    weighted = count_tokens(data.engine, texts, data.size, [2.0, 0.0] * 70)
    assert weighted.sum() == 140 * len(data.engine.encode("the cat").ids)
    assert np.isfinite(weighted).all()
