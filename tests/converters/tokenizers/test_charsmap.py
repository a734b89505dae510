"""A damaged table of replacements is refused, never run."""

import random

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import normalizers

from edgesdk.errors import CheckpointError
from edgesdk_converters.tokenizers.charsmap import charsmap_normalizer

KEY = "tokenizer.ggml.precompiled_charsmap"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """SentencePiece's own NMT table with case folding."""
    prefix = tmp_path_factory.mktemp("spm") / "model"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a few words of text", "ab abc abcd"] * 20),
        model_prefix=str(prefix),
        vocab_size=24,
        hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc_cf",
        minloglevel=2,
    )
    proto = prefix.with_suffix(".model").read_bytes()
    return sentencepiece_model_pb2.ModelProto.FromString(proto).normalizer_spec.precompiled_charsmap


def test_it_is_carried_over(table):
    import base64

    made = charsmap_normalizer({KEY: list(table)})
    assert base64.b64decode(made["precompiled_charsmap"]) == table
    signed = [byte - 256 if byte > 127 else byte for byte in table]
    assert charsmap_normalizer({KEY: signed}) == made
    assert normalizers.Precompiled(table).normalize_str("Ａｂ①") == "ab1"


@pytest.mark.parametrize("value", [None, []])
def test_none_is_none(value):
    assert charsmap_normalizer({KEY: value}) is None


@pytest.mark.parametrize("value", ["text", [1, 2, 300], [1, None], 7])
def test_something_else_is_refused(value):
    with pytest.raises(CheckpointError, match="expected a list of bytes"):
        charsmap_normalizer({KEY: value})


def test_a_cut_table_is_refused(table):
    for length in (1, 3, 4, 7, 100, len(table) // 2):
        with pytest.raises(CheckpointError, match="precompiled_charsmap"):
            charsmap_normalizer({KEY: list(table[:length])})


def test_what_passes_can_be_run(table, lines):
    """Flipped bytes in the trie: each is refused or harmless, and a panic in the library fails the test."""
    dice = random.Random(7)
    size = int.from_bytes(table[:4], "little")
    refused = 0
    for _ in range(60):
        damaged = bytearray(table)
        for _ in range(dice.randint(1, 40)):
            damaged[4 + dice.randrange(size)] ^= 1 << dice.randrange(8)
        try:
            charsmap_normalizer({KEY: list(damaged)})
        except CheckpointError:
            refused += 1
            continue
        engine = normalizers.Precompiled(bytes(damaged))
        for line in lines[:400]:
            engine.normalize_str(line)
    assert 0 < refused < 60
