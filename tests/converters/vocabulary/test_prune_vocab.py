"""A pruned checkpoint is the full one with fewer tokens: same logits, same greedy text, ids to match."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest

from edgesdk.bundle.id_map import read_id_map
from edgesdk.errors import CheckpointError, TransformError
from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.graph import full_sequence
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.graph.ops import Linear
from edgesdk_converters.graph.program import Program
from edgesdk_converters.vocabulary.choose_tokens import choose_tokens
from edgesdk_converters.vocabulary.kept_tokens import KeptTokens
from edgesdk_converters.vocabulary.prune_request import PruneRequest
from edgesdk_converters.vocabulary.prune_vocab import prune_vocab

DATA = Path(__file__).parents[2] / "data" / "tiny"
TINY = (
    "llama", "llama-untied-bias", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "smollm3",
    "ernie4_5", "granitemoehybrid", "gemma4",
)  # fmt: skip


def program_of(checkpoint):
    spec = read_spec(checkpoint.config)
    return Program(spec, build_decoder(spec), weights_for(checkpoint, spec))


def logits(program, ids):
    return next(iter(sequence_logits(program, [np.asarray(ids, np.int32)])))


def linear_one_by_one(op, xp, x, weight, *bias):
    y = np.einsum("te,oe->to", x, weight)
    return (y + bias[0] if bias else y,)


def check_logits(checkpoint, pruned, kept):
    """Bit for bit when every logit is summed alone; BLAS adds up the last columns in another order."""
    new = np.random.default_rng(0).integers(0, len(kept.old_ids), 24)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(full_sequence, "APART", {**full_sequence.APART, Linear: linear_one_by_one})
        full = logits(program_of(checkpoint), kept.rows[new])[:, kept.rows]
        np.testing.assert_array_equal(logits(program_of(pruned), new), full)
    np.testing.assert_allclose(logits(program_of(pruned), new), full, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("tiny", TINY)
def test_logits_of_kept_rows_are_the_same_bits(tiny, tmp_path):
    checkpoint = open_checkpoint(str(DATA / tiny))
    text = tmp_path / "t.txt"
    text.write_text("the cat sat on the mat and it is not in the rain\n", encoding="utf-8")
    kept = choose_tokens(checkpoint, PruneRequest(corpus=(text,)))
    pruned = prune_vocab(checkpoint, kept)
    assert read_spec(pruned.config).vocab_size == len(kept.old_ids) < 288
    check_logits(checkpoint, pruned, kept)


@pytest.mark.parametrize("tiny", ["llama", "llama-untied-bias"])
def test_every_family_tied_and_not(grown, family, tiny, corpus):
    checkpoint = grown(family, tiny, padding=7)
    kept = choose_tokens(checkpoint, PruneRequest(corpus=(corpus,), coverage=0.9))
    assert kept.source_rows == kept.source_tokens + 7
    pruned = prune_vocab(checkpoint, kept)
    assert read_spec(pruned.config).tied_head == (tiny == "llama")
    check_logits(checkpoint, pruned, kept)


def greedy(program, ids, count):
    ids = list(ids)
    for _ in range(count):
        ids.append(int(logits(program, ids)[-1].argmax()))
    return ids


def test_greedy_text_that_stays_in_the_kept_set_is_the_same(tmp_path):
    """A hundred prompts; the tokens that the full model writes are asked for, and some are not."""
    checkpoint = open_checkpoint(str(DATA / "llama"))
    full = program_of(checkpoint)
    draw = np.random.default_rng(8)
    prompts = [draw.integers(3, 288, 4).tolist() for _ in range(100)]
    texts = [greedy(full, prompt, 4) for prompt in prompts]
    kept = set(range(260)) | {i for text in texts[:80] for i in text}
    choice = KeptTokens(tuple(sorted(kept)), 288, 288, "tokens=x")
    pruned = program_of(prune_vocab(checkpoint, choice))
    covered = 0
    for prompt, text in zip(prompts, texts, strict=True):
        if set(text) <= kept:
            covered += 1
            new = greedy(pruned, [choice.new_ids[i] for i in prompt], 4)
            assert [choice.old_ids[i] for i in new] == text
    assert covered >= 80


def test_ids_follow_everywhere(grown, family, corpus):
    checkpoint = grown(family, padding=3)
    kept = choose_tokens(checkpoint, PruneRequest(corpus=(corpus,), coverage=0.8))
    pruned = prune_vocab(checkpoint, kept)
    old, new = checkpoint.tokenizer.record, pruned.tokenizer.record
    assert kept.old_ids[new.bos_id] == old.bos_id
    assert [kept.old_ids[i] for i in new.eos_ids] == list(old.eos_ids)
    assert [kept.old_ids[i] for i in pruned.config["eos_token_id"]] == checkpoint.config["eos_token_id"]
    assert kept.old_ids[pruned.config["pad_token_id"]] == checkpoint.config["pad_token_id"]
    assert pruned.config["vocab_size"] == len(kept.old_ids)
    assert pruned.tokenizer.chat_template == checkpoint.tokenizer.chat_template
    assert checkpoint.config["vocab_size"] == kept.source_rows  # the full one is left alone


def test_the_record_names_the_map(grown, corpus, tmp_path):
    kept = choose_tokens(grown("byte_level"), PruneRequest(corpus=(corpus,), coverage=0.8))
    path = tmp_path / "vocabulary.json"
    path.write_text(kept.id_map.to_text(), encoding="utf-8")
    record = kept.record()
    assert record.id_map_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_id_map(path).old_ids == kept.old_ids
    assert (record.tokens, record.source_rows) == (len(kept.old_ids), kept.source_rows)
    assert record.method == "corpus=corpus.txt,coverage=0.8"
    again = KeptTokens.from_bundle(read_id_map(path), record)
    assert again.record() == record


def test_a_choice_for_another_vocabulary_is_refused(grown, corpus):
    kept = choose_tokens(grown("byte_level"), PruneRequest(corpus=(corpus,), coverage=0.8))
    with pytest.raises(TransformError, match="the choice is for 900 rows, the checkpoint has 905"):
        prune_vocab(grown("byte_level", padding=5), kept)


def test_a_choice_without_the_end_is_refused(grown, corpus):
    checkpoint = grown("byte_level")
    kept = choose_tokens(checkpoint, PruneRequest(corpus=(corpus,), coverage=0.8))
    short = dataclasses.replace(kept, old_ids=tuple(i for i in kept.old_ids if i != 2))
    with pytest.raises(TransformError, match="lacks the token 2"):
        prune_vocab(checkpoint, short)


@pytest.mark.parametrize("ids", [(), (2, 1), (1, 1), (-1, 2), (0, 9)], ids=str)
def test_kept_ids_ascend_within_the_table(ids):
    with pytest.raises(TransformError, match="ascend"):
        KeptTokens(ids, 9, 9, "tokens=x")


def test_rows_beyond_the_end_are_refused(grown, corpus):
    checkpoint = grown("byte_level")
    kept = choose_tokens(checkpoint, PruneRequest(corpus=(corpus,), coverage=0.8))
    tensors = prune_vocab(checkpoint, kept).tensors
    name = "model.embed_tokens.weight"
    rows = len(kept.old_ids)
    np.testing.assert_array_equal(
        tensors.load_rows(name, 3, rows), checkpoint.tensors.load(name)[kept.rows[3:]]
    )
    assert tensors.load_rows(name, 5, 5).shape == (0, tensors.shape(name)[1])
    with pytest.raises(CheckpointError, match="lie outside"):
        tensors.load_rows(name, 0, rows + 1)
