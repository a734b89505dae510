"""Pruned tokenizers of every family: any text still encodes, and covered text keeps its tokens."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgesdk.errors import TransformError
from edgesdk_converters.vocabulary.choose_tokens import choose_tokens
from edgesdk_converters.vocabulary.kept_tokens import KeptTokens
from edgesdk_converters.vocabulary.prune_request import PruneRequest
from edgesdk_converters.vocabulary.rewrite_tokenizer import rewrite_tokenizer
from edgesdk_converters.vocabulary.tokenizer_data import TokenizerData, load_engine


@pytest.fixture(scope="module")
def pruned(grown, corpus):
    made = {}

    def get(family):
        if family not in made:
            checkpoint = grown(family)
            data = TokenizerData(checkpoint.tokenizer.tokenizer_json)
            kept = choose_tokens(checkpoint, PruneRequest(corpus=(corpus,), coverage=0.9))
            made[family] = data, kept, load_engine(rewrite_tokenizer(data, kept))
        return made[family]

    return get


def encode(engine, lines):
    return [e.ids for e in engine.encode_batch_fast(lines, add_special_tokens=False)]


def test_most_of_it_is_gone(pruned, family):
    data, kept, _ = pruned(family)
    assert len(kept.old_ids) < 0.95 * data.size
    assert 0.9 <= kept.coverage < 0.95


def test_any_line_decodes_as_before(pruned, family, mixed_lines):
    data, _, engine = pruned(family)
    before, after = encode(data.engine, mixed_lines), encode(engine, mixed_lines)
    assert data.engine.decode_batch(before) == engine.decode_batch(after)
    if family in ("byte_level", "whole_words"):
        assert engine.decode_batch(after) == mixed_lines


def test_a_line_whose_tokens_are_kept_keeps_them(pruned, family, mixed_lines, held_out):
    data, kept, engine = pruned(family)
    lines = mixed_lines + held_out + [w for line in held_out for w in line.split()]
    stayed = changed = 0
    for old, new in zip(encode(data.engine, lines), encode(engine, lines), strict=True):
        if all(i in kept.new_ids for i in old):
            assert [kept.old_ids[i] for i in new] == old
            stayed += 1
        else:
            changed += 1
            assert [kept.old_ids[i] for i in new] != old
    assert stayed > 1000
    assert changed > 100


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=80))
def test_any_text_decodes_as_before(pruned, family, text):
    data, kept, engine = pruned(family)
    (old,), (new,) = encode(data.engine, [text]), encode(engine, [text])
    assert data.engine.decode(old) == engine.decode(new)
    if all(i in kept.new_ids for i in old):
        assert [kept.old_ids[i] for i in new] == old


def test_every_kept_token_encodes_alone_as_before(pruned, family):
    data, kept, engine = pruned(family)
    whole = 0
    for old in set(kept.old_ids) - data.added_ids - data.byte_ids:
        before = [t.id for t in data.engine.model.tokenize(data.texts[old])]
        after = [kept.old_ids[t.id] for t in engine.model.tokenize(data.texts[old])]
        assert before == after
        whole += before == [old]
    assert whole > 0.9 * len(set(kept.old_ids) - data.added_ids - data.byte_ids)


def test_nothing_but_ids_pieces_and_merges_changes(pruned, family):
    data, kept, _ = pruned(family)
    document = json.loads(rewrite_tokenizer(data, kept))
    for key in ("normalizer", "pre_tokenizer", "decoder"):
        assert document[key] == data.document[key]
    for key in set(document["model"]) - {"vocab", "merges", "unk_id"}:
        assert document["model"][key] == data.document["model"][key]


def test_tokens_behind_the_model_and_the_post_processor_follow(pruned):
    data, kept, engine = pruned("whole_words")
    assert engine.token_to_id("<|tool|>") == len(kept.old_ids) - 1
    ids = engine.encode("the<|tool|>").ids
    assert ids[0] == engine.token_to_id("<s>")
    assert ids[-1] == engine.token_to_id("<|tool|>")
    assert [kept.old_ids[i] for i in ids] == data.engine.encode("the<|tool|>").ids


def test_a_choice_without_a_needed_id_is_refused(pruned):
    data, kept, _ = pruned("whole_words")
    without = dataclasses.replace(kept, old_ids=tuple(i for i in kept.old_ids if i != 1))
    with pytest.raises(TransformError, match="refers to the id 1"):
        rewrite_tokenizer(data, without)


def test_an_added_token_without_a_row_is_left_out(grown):
    """Published files exist whose last added token lies beyond the embedding table."""
    data = TokenizerData(grown("whole_words").tokenizer.tokenizer_json)
    last = data.size - 1
    kept = KeptTokens(tuple(range(last)), last, last, "tokens=x")
    engine = load_engine(rewrite_tokenizer(data, kept))
    assert engine.token_to_id("<|tool|>") is None
    assert engine.decode(engine.encode("a<|tool|>b", add_special_tokens=False).ids) == "a<|tool|>b"


@pytest.mark.real
def test_smollm2_round_trips(smollm2_gguf, corpus, mixed_lines, held_out):
    from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint

    checkpoint = open_checkpoint(str(smollm2_gguf))
    data = TokenizerData(checkpoint.tokenizer.tokenizer_json)
    kept = choose_tokens(checkpoint, PruneRequest(language="en", size=16000))
    assert len(kept.old_ids) == 16000
    assert 1 - 16000 / kept.source_rows >= 0.65  # of head and embedding bytes, which are one table
    engine = load_engine(rewrite_tokenizer(data, kept))
    before, after = encode(data.engine, mixed_lines), encode(engine, mixed_lines)
    assert data.engine.decode_batch(before) == engine.decode_batch(after)
    for old, new in zip(before, after, strict=True):
        if all(i in kept.new_ids for i in old):
            assert [kept.old_ids[i] for i in new] == old
    own = choose_tokens(checkpoint, PruneRequest(corpus=(corpus,), size=16000))
    engine = load_engine(rewrite_tokenizer(data, own))
    tokens = [sum(map(len, encode(e, held_out))) for e in (data.engine, engine)]
    assert tokens[1] <= 1.03 * tokens[0]
    assert np.diff(own.rows).min() > 0
