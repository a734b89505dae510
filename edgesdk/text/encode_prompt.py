"""A caller's prompt, text or token ids, to token ids; what is neither is refused in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import UnsupportedOption, quoted
from edgesdk.text.prompt_limit import check_count_fits, check_text_fits
from edgesdk.text.tokenizer import Tokenizer

Prompt = str | Sequence[int]
"""Text, taken as it is, or token ids."""


def encode_prompt(
    prompt: Prompt | NDArray[np.int32], tokenizer: Tokenizer, context: int, *, add_bos: bool | None = None
) -> list[int]:
    """Token ids of a prompt; `check_known_ids` says whether the vocabulary has them.

    Args:
        prompt: text, or (n,) token ids.
        tokenizer: the model's.
        context: most tokens.
        add_bos: for text, whether to start with the start token; None does what the manifest says.

    Raises:
        UnsupportedOption: it is neither text nor token ids.
        CapacityError: it is too long.
    """
    if isinstance(prompt, str):
        check_text_fits(prompt, tokenizer, context)
        return tokenizer.encode(prompt, add_bos=add_bos)
    if isinstance(prompt, np.ndarray):
        if prompt.ndim != 1 or (prompt.size and prompt.dtype.kind not in "iu"):
            raise UnsupportedOption(
                f"the prompt is an array of {prompt.dtype} {prompt.shape}, expected token ids: (n,) integers"
            )
        check_count_fits(len(prompt), context)
        ids: list[int] = prompt.tolist()
        return ids
    if isinstance(prompt, bytes | bytearray | Mapping) or not isinstance(prompt, Sequence):
        raise UnsupportedOption(
            f"the prompt is {quoted(prompt)}, expected a text or a list of token ids; "
            "a conversation goes to chat, or to messages="
        )
    check_count_fits(len(prompt), context)
    return [_token(each) for each in prompt]


def check_known_ids(ids: Sequence[int], vocab_size: int, context: int) -> None:
    """Refuses token ids that no model could run.

    Args:
        ids: a prompt.
        vocab_size: V.
        context: most tokens.

    Raises:
        CapacityError: they do not fit.
        UnsupportedOption: there are none, or one is unknown.
    """
    if not len(ids):
        raise UnsupportedOption("the prompt has no tokens, expected at least one")
    check_count_fits(len(ids), context)
    for token in (min(ids), max(ids)):
        if not 0 <= token < vocab_size:
            raise UnsupportedOption(
                f"the prompt holds token {quoted(token)}, expected ids from 0 to {vocab_size - 1}"
            )


def _token(value: object) -> int:
    if type(value) is int:
        return value
    if not isinstance(value, bool) and isinstance(value, Integral):
        return int(value)
    hint = "; a conversation goes to chat, or to messages=" if isinstance(value, Mapping) else ""
    raise UnsupportedOption(f"the prompt holds {quoted(value)}, expected token ids (int){hint}")
