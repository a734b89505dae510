"""Chosen tokens to pieces of text: detokenised, watched for stop strings, and timed.

It drives the loop of `generate` and knows nothing of models or bundles. The clock stops while the
consumer holds a piece, so slow readers do not look like slow decoding.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from edgesdk.decoding.completion import Chunk, Completion
from edgesdk.decoding.generate import ChosenToken
from edgesdk.decoding.logprobs import TokenLogprob
from edgesdk.decoding.stopping import FinishReason, StopStrings
from edgesdk.text.detokenize import Detokenizer


def stream_text(
    chosen: Iterator[ChosenToken], detokenizer: Detokenizer, stops: StopStrings, prompt_tokens: int
) -> Iterator[Chunk]:
    """Turns chosen tokens into text.

    Args:
        chosen: from `generate_tokens`: its last step says why it is the last; if it ends without one, it
            was cancelled. It is not asked for more once a stop string has come.
        detokenizer: new.
        stops: new.
        prompt_tokens: for the figures.

    Yields:
        Pieces of text that are certain; the last one, which may be empty, brings the completion.
    """
    text: list[str] = []
    tokens: list[int] = []
    logprobs: list[TokenLogprob] = []
    first_s = later_s = 0.0
    piece = ""
    finish: FinishReason | None = None
    while finish is None and stops.found is None:
        if piece:
            text.append(piece)
            yield Chunk(piece)
        began = time.perf_counter()
        step = next(chosen, None)
        if step is None:
            finish, piece = "cancelled", ""
            break
        took = time.perf_counter() - began
        if tokens:
            later_s += took
        else:
            first_s = took
        tokens.append(step.token)
        if step.logprob is not None:
            logprobs.append(step.logprob)
        ends = step.finish == "stop" and not step.complete
        piece = "" if ends else stops.push(detokenizer.push(step.token))
        finish = step.finish
    last = piece + stops.push(detokenizer.finish()) + stops.finish()
    completion = Completion(
        text="".join([*text, last]),
        tokens=tuple(tokens),
        finish_reason="stop_string" if stops.found is not None or finish is None else finish,
        prompt_tokens=prompt_tokens,
        new_tokens=len(tokens),
        ttft_ms=first_s * 1e3,
        prefill_tokens_per_s=prompt_tokens / first_s if first_s else 0.0,
        decode_tokens_per_s=(len(tokens) - 1) / later_s if later_s else None,
        logprobs=tuple(logprobs) or None,
    )
    yield Chunk(last, completion)
