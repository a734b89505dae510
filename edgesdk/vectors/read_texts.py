"""From a caller's texts to tokens, and from wishes to the form of vectors; what is wrong shows here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.embedding_record import EmbeddingRecord, Pooling
from edgesdk.decoding.option_types import whole_number, whole_text
from edgesdk.errors import UnsupportedOption, quoted
from edgesdk.text.encode_prompt import Prompt, check_known_ids, encode_prompt
from edgesdk.text.prompt_limit import check_text_fits
from edgesdk.text.tokenizer import Tokenizer
from edgesdk.vectors.embed_texts import VectorForm

MOST_TEXTS = 1 << 20
_MOST_TAIL = 8


def vector_form(
    record: EmbeddingRecord | None,
    width: int,
    pooling: Pooling | None,
    normalise: bool | None,
    dimensions: int | None,
) -> VectorForm:
    """The form of vectors that is asked for, over the one that the model was trained for.

    Args:
        record: of the bundle; None for a model that was not trained to embed.
        width: E, the most dimensions.
        pooling: as asked for; None for the record's, or the mean.
        normalise: likewise; None for the record's, or yes.
        dimensions: likewise; None for all.

    Raises:
        UnsupportedOption: one has no meaning.
    """
    if pooling is None:
        pooling = "mean" if record is None else record.pooling
    if pooling not in get_args(Pooling):
        raise UnsupportedOption(
            f"pooling is {quoted(pooling)}, expected one of {', '.join(get_args(Pooling))}"
        )
    if normalise is None:
        normalise = record is None or record.normalise
    if not isinstance(normalise, bool):
        raise UnsupportedOption(f"normalise is {quoted(normalise)}, expected True or False")
    kept = width if dimensions is None else whole_number("dimensions", dimensions, 1, width)
    return VectorForm(pooling, normalise, kept)


class EmbeddedTexts:
    """Reads the texts that one model embeds."""

    def __init__(
        self, tokenizer: Tokenizer, record: EmbeddingRecord | None, context: int, vocab_size: int
    ) -> None:
        """Texts of one model.

        Args:
            tokenizer: the model's.
            record: how the model was trained to embed; None if it was not.
            context: most tokens of a text.
            vocab_size: V.
        """
        self._tokenizer, self._record = tokenizer, record
        self._context, self._vocab_size = context, vocab_size

    def prompt(self, prompt: str | None) -> str:
        """What stands before every text.

        Args:
            prompt: it, or its name in the record; None for the record's own.

        Raises:
            UnsupportedOption: it is no text.
        """
        record = self._record
        if prompt is None:
            return (
                ""
                if record is None or record.default_prompt is None
                else record.prompts[record.default_prompt]
            )
        asked = whole_text("prompt", prompt)
        return asked if record is None else record.prompts.get(asked, asked)

    def read(self, texts: Sequence[Prompt], prompt: str | None, *, truncate: bool) -> list[NDArray[np.int32]]:
        """Token ids of each text: (n,) int32.

        Args:
            texts: each a text or token ids.
            prompt: what stands before each text, or its name in the record.
            truncate: cut what is longer than the context.

        Raises:
            UnsupportedOption: a text is none, or has no tokens, or unknown ids.
            CapacityError: it does not fit.
        """
        before = self.prompt(prompt)
        read = []
        for place, text in enumerate(check_list("texts", texts)):
            ids = self._encode(f"texts[{place}]", text, before, truncate)
            if not ids:
                raise UnsupportedOption(
                    f"texts[{place}] is {quoted(text)}, which has no tokens; leave it out"
                )
            if truncate:
                ids = self._cut(ids)
            check_known_ids(ids, self._vocab_size, self._context)
            read.append(np.asarray(ids, np.int32))
        return read

    def _encode(self, name: str, text: object, before: str, truncate: bool) -> list[int]:
        tokenizer = self._tokenizer
        limit = self._context if not truncate else 1 << 30
        if not isinstance(text, str):
            return encode_prompt(text, tokenizer, limit)  # type: ignore[arg-type]  # which refuses others
        whole = before + whole_text(name, text)
        check_text_fits(whole, tokenizer, limit)
        if self._record is not None and self._record.frames:
            return tokenizer.frame(whole)
        return tokenizer.encode(whole)

    def _cut(self, ids: list[int]) -> list[int]:
        """The first tokens, and the last ones where the tokenizer's frame ends the text."""
        if len(ids) <= self._context:
            return ids
        tail = 0
        if self._record is not None and self._record.frames:
            special = self._tokenizer.special_ids
            while tail < min(_MOST_TAIL, self._context - 1) and ids[-1 - tail] in special:
                tail += 1
        return [*ids[: self._context - tail], *ids[len(ids) - tail :]]


def check_list(name: str, texts: object) -> Sequence[object]:
    """A caller's list of texts.

    Raises:
        UnsupportedOption: it is none, or too long.
    """
    if isinstance(texts, str | bytes) or not isinstance(texts, Sequence):
        raise UnsupportedOption(f"{name} is {quoted(texts)}, expected a list of texts")
    if len(texts) > MOST_TEXTS:
        raise UnsupportedOption(f"{name} has {len(texts)} texts, expected at most {MOST_TEXTS}")
    return texts


def check_texts(name: str, texts: object) -> list[str]:
    """A caller's list of texts, none of them token ids.

    Raises:
        UnsupportedOption: it is none.
    """
    return [whole_text(f"{name}[{place}]", text) for place, text in enumerate(check_list(name, texts))]
