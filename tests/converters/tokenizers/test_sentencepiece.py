"""SentencePiece-type vocabularies against SentencePiece itself, trained small on the same lines."""

import io

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer

from edgesdk.errors import CheckpointError
from edgesdk_converters.tokenizers.from_gguf import tokenizer_from_gguf

LLAMA = {
    "model_type": "bpe",
    "vocab_size": 2500,
    "byte_fallback": True,
    "split_digits": True,
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
}
USER_DEFINED = ["<start_of_turn>", "▁▁", "▁▁▁", "▁▁▁▁", "\n\n"]
GEMMA = LLAMA | {
    "add_dummy_prefix": False,
    "allow_whitespace_only_pieces": True,
    "user_defined_symbols": USER_DEFINED,
}
T5 = {"model_type": "unigram", "vocab_size": 2600, "hard_vocab_limit": False}
KINDS = [("IsUnknown", 2), ("IsControl", 3), ("IsUnused", 5), ("IsByte", 6)]


def train(lines, **options):
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        # It reads its input line by line, and takes no NUL.
        sentence_iterator=(line.replace("\0", "") for line in lines),
        model_writer=out,
        character_coverage=0.99,
        minloglevel=2,
        **options,
    )
    return out.getvalue()


def as_gguf(proto, kind="llama", user_defined_pieces=()):
    """Metadata as converters to GGUF write it: user-defined pieces have real spaces and a token score."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=proto)
    model = sentencepiece_model_pb2.ModelProto.FromString(proto)
    tokens, scores, kinds = [], [], []
    for i in range(processor.vocab_size()):
        piece = processor.IdToPiece(i)
        user_defined = piece in user_defined_pieces
        tokens.append(piece.replace("▁", " ") if user_defined else piece)
        scores.append(-1000.0 if user_defined else processor.GetScore(i))
        known = [value for test, value in KINDS if getattr(processor, test)(i)]
        kinds.append(4 if user_defined else (known or [1])[0])
    metadata = {
        "tokenizer.ggml.model": kind,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": processor.bos_id(),
        "tokenizer.ggml.eos_token_id": processor.eos_id(),
        "tokenizer.ggml.unknown_token_id": processor.unk_id(),
        "tokenizer.ggml.add_space_prefix": model.normalizer_spec.add_dummy_prefix,
        "tokenizer.ggml.remove_extra_whitespaces": model.normalizer_spec.remove_extra_whitespaces,
        "tokenizer.ggml.precompiled_charsmap": list(model.normalizer_spec.precompiled_charsmap),
    }
    return processor, metadata


def rebuild(metadata):
    return Tokenizer.from_str(tokenizer_from_gguf(metadata).tokenizer_json)


@pytest.mark.parametrize("options", [LLAMA, GEMMA], ids=["llama", "gemma"])
def test_bpe_ids_are_those_of_the_original(options, lines):
    proto = train(lines, **options)
    original, metadata = as_gguf(proto, user_defined_pieces=options.get("user_defined_symbols", ()))
    rebuilt = rebuild(metadata)
    for line in lines:
        wanted = original.encode(line)
        found = rebuilt.encode(line, add_special_tokens=False).ids
        assert found == wanted, repr(line)
        assert rebuilt.decode(found, skip_special_tokens=False) == original.decode(wanted)


@pytest.mark.parametrize(
    ("options", "share"),
    [
        (T5 | {"byte_fallback": True, "normalization_rule_name": "identity"}, 0.98),
        (T5 | {"normalization_rule_name": "nmt_nfkc"}, 0.98),
    ],
    ids=["identity", "nmt_nfkc"],
)
def test_unigram_ids_are_those_of_the_original(options, share, lines):
    """The rest are ties between equally likely splits, and marks that the library joins to a control."""
    original, metadata = as_gguf(train(lines, **options), "t5")
    rebuilt = rebuild(metadata)
    equal = [original.encode(line) == rebuilt.encode(line, add_special_tokens=False).ids for line in lines]
    assert sum(equal) / len(lines) > share
    # Ordinary text has neither.
    for line in ("The quick brown fox, 12.5 km/h!", "def add(a, b): return a + b", "Съешь ещё этих булок"):
        assert original.encode(line) == rebuilt.encode(line, add_special_tokens=False).ids


def test_a_text_is_framed_as_the_file_asks(lines):
    original, metadata = as_gguf(train(lines, **LLAMA))
    bos, eos = original.bos_id(), original.eos_id()
    body = original.encode("hello there")
    assert rebuild(metadata).encode("hello there").ids == [bos, *body]
    assert rebuild(metadata | {"tokenizer.ggml.add_eos_token": True}).encode("hello there").ids == [
        bos,
        *body,
        eos,
    ]
    plain = metadata | {"tokenizer.ggml.add_bos_token": False}
    assert rebuild(plain).encode("hello there").ids == body
    assert rebuild(metadata | {"tokenizer.ggml.model": "t5"}).encode("hello there").ids[-1] == eos


def test_control_tokens_are_not_made_by_merging(lines):
    original, metadata = as_gguf(train(lines, **LLAMA))
    rebuilt = rebuild(metadata)
    assert rebuilt.encode("<s>", add_special_tokens=False).ids == [original.bos_id()]
    assert rebuilt.encode("<0x0A>", add_special_tokens=False).ids == original.encode("<0x0A>")
    assert rebuilt.encode("\n", add_special_tokens=False).ids == original.encode("\n")


def test_phi3_turn_markers_swallow_what_follows(lines):
    _, metadata = as_gguf(train(lines, **GEMMA), user_defined_pieces=USER_DEFINED)
    marker = metadata["tokenizer.ggml.tokens"].index("<start_of_turn>")
    for architecture, same in (("phi3", True), ("llama", False)):
        rebuilt = rebuild(metadata | {"general.architecture": architecture})
        ids = rebuilt.encode("<start_of_turn>\n hi", add_special_tokens=False).ids
        assert ids[0] == marker
        assert (ids == [marker, *rebuilt.encode("hi", add_special_tokens=False).ids]) is same


def test_scores_are_needed(lines):
    _, metadata = as_gguf(train(lines, **LLAMA))
    del metadata["tokenizer.ggml.scores"]
    with pytest.raises(CheckpointError, match="scores is missing"):
        tokenizer_from_gguf(metadata)
