"""Rebuilds a tokenizer.json from the metadata of a GGUF file.

Ids come out as the original tokenizer gives them, as far as the file says how: it names the
pre-tokenizer instead of describing it, and says nothing of white space that a special token swallows.
Vocabularies that decoders do not use (WordPiece, RWKV, ...) are refused by name. It knows nothing of
where the metadata came from (title: GGUF, section "Tokenizer").
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from edgesdk.bundle.records import JsonValue
from edgesdk.errors import CheckpointError, first_line
from edgesdk_converters.tokenizers.byte_level import byte_level_parts, gemma4_parts
from edgesdk_converters.tokenizers.choose_templates import ChatTemplates, choose_templates
from edgesdk_converters.tokenizers.parts import Parts
from edgesdk_converters.tokenizers.roles import added_tokens, frame, token_roles
from edgesdk_converters.tokenizers.sentencepiece import llama_parts, unigram_parts
from edgesdk_converters.tokenizers.tokenizer_files import TokenizerFiles
from edgesdk_converters.tokenizers.vocabulary import (
    AddedToken,
    Vocabulary,
    read_flag,
    read_text,
    read_vocabulary,
)

_TEMPLATE = "tokenizer.chat_template"

_KINDS: Mapping[str, Callable[[Mapping[str, object], Vocabulary], Parts]] = {
    "gpt2": byte_level_parts,
    "gemma4": gemma4_parts,
    "llama": llama_parts,
    "t5": unigram_parts,
}


def tokenizer_from_gguf(metadata: Mapping[str, object]) -> TokenizerFiles:
    """Rebuilds a tokenizer.

    Args:
        metadata: keys and values of a GGUF file as plain Python values; those that begin with
            `tokenizer.` are read, and `general.architecture`.

    Returns:
        The text of a tokenizer.json, the chat template when there is one, and ids by role.

    Raises:
        CheckpointError: the tokenizer is missing, damaged, or of a kind that this version does not know.
    """
    kind = read_text(metadata, "tokenizer.ggml.model")
    if kind is None or kind not in _KINDS:
        raise CheckpointError(
            f"tokenizer.ggml.model is {kind!r}, expected one of {', '.join(_KINDS)}; "
            "convert from the Hugging Face checkpoint, which has a tokenizer.json"
        )
    vocabulary = read_vocabulary(metadata)
    parts = _KINDS[kind](metadata, vocabulary)
    record = token_roles(metadata, vocabulary, parts)
    asked = read_flag(metadata, "add_eos_token")
    add_eos = parts.adds_eos if asked is None else asked
    added = added_tokens(metadata, vocabulary, record)
    # Phi-3's published tokenizer.json drops the spaces and line breaks that follow its turn markers.
    rstrip = kind == "llama" and metadata.get("general.architecture") == "phi3"
    text = json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [_added_token(token, rstrip=rstrip) for token in added],
            "normalizer": parts.normalizer,
            "pre_tokenizer": parts.pre_tokenizer,
            "post_processor": frame(record, vocabulary, add_eos=add_eos),
            "decoder": parts.decoder,
            "model": parts.model,
        },
        ensure_ascii=False,
    )
    _check(text, vocabulary, added)
    templates = _templates(metadata)
    return TokenizerFiles(text, templates.default, record, templates.tool_use, templates.notes())


def _templates(metadata: Mapping[str, object]) -> ChatTemplates:
    """The chat template, and those by name."""
    named: dict[str, str] = {}
    for key in metadata:
        name = "default" if key == _TEMPLATE else key.removeprefix(_TEMPLATE + ".")
        template = read_text(metadata, key) if name != key else None
        if template is not None:
            named[name] = template
    return choose_templates(named)


_NEVER_RSTRIP = frozenset({"<unk>", "<s>", "<|endoftext|>"})


def _added_token(token: AddedToken, *, rstrip: bool) -> JsonValue:
    return {
        "id": token.id,
        "content": token.text,
        "single_word": False,
        "lstrip": False,
        "rstrip": rstrip and token.text not in _NEVER_RSTRIP,
        "normalized": False,
        "special": token.special,
    }


def _check(text: str, vocabulary: Vocabulary, added: list[AddedToken]) -> None:
    """Loads what was made, since a bundle must never hold a tokenizer that does not load."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the package raises nothing more precise
        reason = first_line(error, 160)
        raise CheckpointError(f"the rebuilt tokenizer does not load: {reason}") from error
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    if size != len(vocabulary.tokens):
        raise CheckpointError(f"the rebuilt tokenizer has {size} tokens, expected {len(vocabulary.tokens)}")
    for token in added:
        if tokenizer.token_to_id(token.text) != token.id:
            raise CheckpointError(
                f"the rebuilt tokenizer has another id for {token.text[:40]!r} than {token.id}"
            )
