"""Trains the tokenizer of another language, in the manner of a checkpoint's own: byte-level BPE.

Normalizer, splitting into words, decoder and special tokens stay the checkpoint's, so that its chat
template goes on to work. *Replacement* trains a vocabulary from nothing. *Expansion* goes on where the
checkpoint's merges end: words are written in its own tokens, a letter of a private alphabet for each, and
more merges are learnt over those. New merges come after all old ones, so old tokens are built as before,
and each new token out of them.

Papers: "An Empirical Study on Cross-lingual Vocabulary Adaptation" (2402.10712), replacement; "How Can We
Effectively Expand the Vocabulary of LLMs with 0.01GB of Target Language Text?" (2406.11477), expansion.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from edgesdk.bundle.records import JsonValue
from edgesdk.errors import TransformError
from edgesdk_converters.vocabulary.rewrite_tokenizer import with_new_ids
from edgesdk_converters.vocabulary.tokenizer_data import Json, TokenizerData

_BYTES = 256
_LEAST_FREQUENCY = 2
_PRIVATE = range(0xF0000, 0x110000)
"""Code points that no text has: two planes for private use, less their last two."""


@dataclass(frozen=True)
class TargetTokenizer:
    """A tokenizer for a checkpoint.

    Attributes:
        text: of its tokenizer.json.
        kept: new id by the old one, of the special tokens, and in an expansion of every token.
    """

    text: str
    kept: Mapping[int, int]


def check_byte_level(data: TokenizerData) -> None:
    """Refuses a tokenizer of another kind.

    Raises:
        TransformError: it is no byte-level BPE.
    """
    if data.kind != "BPE" or not _has_byte_level(data.document.get("decoder")):
        raise TransformError(
            f"the tokenizer is {data.kind} without a byte-level decoder; "
            "only byte-level BPE can be adapted so far"
        )


def train_replacement(
    data: TokenizerData, roles: Iterable[int], texts: Iterable[str], size: int
) -> TargetTokenizer:
    """A vocabulary of its own for some texts.

    Args:
        data: the checkpoint's tokenizer, of byte-level BPE.
        roles: ids that begin and end texts, which stay beside its added tokens.
        texts: of the language.
        size: tokens, special ones and 256 bytes among them.

    Raises:
        TransformError: the size is too small, or the texts give nothing but bytes.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    special = sorted(data.added_ids | set(roles))
    if size < len(special) + _BYTES + 1:
        raise TransformError(
            f"{size} tokens are too few: {len(special)} are special, 256 are the bytes; give more"
        )
    engine = Tokenizer(models.BPE())
    engine.normalizer, engine.pre_tokenizer = data.engine.normalizer, data.engine.pre_tokenizer
    engine.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=size - len(special),
            min_frequency=_LEAST_FREQUENCY,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    trained = json.loads(engine.to_str())["model"]
    if not trained["merges"]:
        raise TransformError("the texts give no token of more than a byte; give more of them")
    by_id = sorted(trained["vocab"], key=trained["vocab"].get)
    named = [data.texts[old] for old in special]
    vocab: Json = {text: i for i, text in enumerate(dict.fromkeys([*named, *by_id]))}
    kept = {old: i for i, old in enumerate(special)}
    document = with_new_ids(data.document, kept)
    document["model"] = {**data.model, "vocab": vocab, "merges": trained["merges"]}
    return TargetTokenizer(json.dumps(document, ensure_ascii=False), kept)


def train_expansion(data: TokenizerData, texts: Iterable[str], more: int) -> TargetTokenizer:
    """The checkpoint's own vocabulary with more tokens behind it.

    Bytes that it lacks come first: SmolLM2's has 235, and drops the others from texts.

    Args:
        data: the checkpoint's tokenizer, of byte-level BPE.
        texts: of the language.
        more: how many tokens are added at most, bytes not counted.

    Raises:
        TransformError: none can be added.
    """
    from tokenizers import pre_tokenizers

    merges = _further_merges(data, texts, more)
    known, before = data.model.get("vocab"), data.model.get("merges")
    vocab: Json = dict(known) if isinstance(known, dict) else {}
    lacking = sorted(set(pre_tokenizers.ByteLevel.alphabet()) - vocab.keys())
    vocab.update((letter, data.size + i) for i, letter in enumerate(lacking))
    written: list[JsonValue] = []
    listed = list(before) if isinstance(before, list) else []
    as_text = bool(listed) and isinstance(listed[0], str)
    added = 0
    for first, second in merges:
        text = first + second
        if text not in vocab:
            if added == more:
                break
            vocab[text] = data.size + len(lacking) + added
            added += 1
        written.append(f"{first} {second}" if as_text else [first, second])
    if not added:
        raise TransformError("the texts give no further token; give more of them")
    document: Json = {**data.document}
    document["model"] = {**data.model, "vocab": vocab, "merges": [*listed, *written]}
    return TargetTokenizer(json.dumps(document, ensure_ascii=False), {old: old for old in data.texts})


def _further_merges(data: TokenizerData, texts: Iterable[str], more: int) -> list[tuple[str, str]]:
    """Merges over the checkpoint's own tokens, the most frequent first, in its spelling."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    letters: dict[int, str] = {}
    words = list(_in_letters(data, texts, letters))
    engine = Tokenizer(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    engine.train_from_iterator(
        words,
        trainers.BpeTrainer(
            # Some merges make tokens that there are already, by another way.
            vocab_size=len(letters) + more + more // 4,
            min_frequency=_LEAST_FREQUENCY,
            initial_alphabet=sorted(letters.values()),
            show_progress=False,
        ),
    )
    spelling = {letter: data.texts[token] for token, letter in letters.items()}
    merges = json.loads(engine.to_str())["model"]["merges"]
    return [
        ("".join(spelling[c] for c in first), "".join(spelling[c] for c in second))
        for first, second in merges
    ]


def _in_letters(data: TokenizerData, texts: Iterable[str], letters: dict[int, str]) -> Iterator[str]:
    """Texts with a letter for each token, words apart; `letters` is filled on the way."""
    for text in texts:
        encoding = data.engine.encode(text, add_special_tokens=False)
        line: list[str] = []
        before: int | None = None
        for token, word in zip(encoding.ids, encoding.word_ids, strict=True):
            if word != before:
                line.append(" ")
                before = word
            if token in data.added_ids:
                line.append(" ")
                continue
            if token not in letters:
                if len(letters) == len(_PRIVATE) - 4:
                    raise TransformError(
                        "the texts use more different tokens than can be told apart; give fewer"
                    )
                # The last two code points of each plane are no characters.
                place = _PRIVATE[len(letters) + (2 if len(letters) >= 0xFFFE else 0)]
                letters[token] = chr(place)
            line.append(letters[token])
        yield "".join(line)


def _has_byte_level(component: JsonValue) -> bool:
    if isinstance(component, list):
        return any(map(_has_byte_level, component))
    if not isinstance(component, dict):
        return False
    return component.get("type") == "ByteLevel" or any(map(_has_byte_level, component.values()))
