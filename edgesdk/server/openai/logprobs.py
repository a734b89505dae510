"""Log-probabilities as OpenAI's interfaces write them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from edgesdk.decoding.logprobs import TokenLogprob
from edgesdk.text.tokenizer import Tokenizer


def chat_logprobs(found: Sequence[TokenLogprob], tokenizer: Tokenizer) -> dict[str, object]:
    """Those of a chat.

    A token that a grammar forced has none; it is certain, which is 0.
    """
    entries: list[dict[str, object]] = []
    for each in found:
        entry = _entry(each.token, each.logprob or 0.0, tokenizer)
        entry["top_logprobs"] = [_entry(token, logprob, tokenizer) for token, logprob in each.top]
        entries.append(entry)
    return {"content": entries, "refusal": None}


def completion_logprobs(
    found: Sequence[TokenLogprob], tokenizer: Tokenizer, begin: int = 0
) -> tuple[dict[str, object], int]:
    """Those of a completion, or of a piece of one.

    Args:
        found: of the tokens, in order.
        tokenizer: of the model.
        begin: characters of the tokens before them.

    Returns:
        What is sent, and the characters of the tokens up to its end.
    """
    tokens = [_text(each.token, tokenizer) for each in found]
    *offsets, end = accumulate(map(len, tokens), initial=begin)
    document: dict[str, object] = {
        "tokens": tokens,
        "token_logprobs": [each.logprob or 0.0 for each in found],
        "top_logprobs": [{_text(token, tokenizer): logprob for token, logprob in each.top} for each in found],
        "text_offset": offsets,
    }
    return document, end


def _entry(token: int, logprob: float, tokenizer: Tokenizer) -> dict[str, object]:
    text = _text(token, tokenizer)
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def _text(token: int, tokenizer: Tokenizer) -> str:
    return tokenizer.decode([token], skip_special=False)
