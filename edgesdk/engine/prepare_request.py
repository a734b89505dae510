"""From a caller's options to a request that the engine can run; whatever is wrong with it shows here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgesdk.decoding.choose import Chooser
from edgesdk.decoding.generate import check_request
from edgesdk.decoding.options import GenerationOptions
from edgesdk.decoding.tool_answers import ToolAnswers
from edgesdk.engine.answer import Answer
from edgesdk.engine.branch import Request
from edgesdk.engine.request_options import RequestOptions, check_options
from edgesdk.model import Model


def prepare_request(
    model: Model,
    context: int,
    ids: Sequence[int],
    options: RequestOptions,
    seats: int,
    *,
    answers: bool = True,
    tools: ToolAnswers | None = None,
) -> Request:
    """Checks a request and makes what it needs.

    Args:
        model: gives tokenizer and recommendations.
        context: most tokens of prompt and answer.
        ids: the prompt.
        options: what the caller said.
        seats: most samples.
        answers: whether tokens are to be chosen, or the prompt only run.
        tools: what knows the form of calls, if the conversation has tools.

    Raises:
        UnsupportedOption: an option has no meaning, or the prompt is empty or holds unknown ids.
        CapacityError: the prompt does not fit.
    """
    submitted_s = time.perf_counter()
    checked = check_options(options, seats)
    wanted = checked.answer
    if tools is not None and options.get("tool_choice", "auto") == "required":
        wanted = tools.require(wanted)
    manifest = model.bundle.manifest
    check_request(ids, wanted.max_tokens, context, manifest.decoder.vocab_size)
    # A full context still gives one token: it is chosen from the last logits and never run.
    limit = context - len(ids) + 1
    if wanted.max_tokens is not None:
        limit = min(limit, wanted.max_tokens)
    eos_ids = frozenset(() if wanted.ignore_eos else manifest.tokenizer.eos_ids)
    choosers = _new_choosers(model, wanted, checked.samples) if answers else ()
    for chooser in choosers:
        chooser.observe(ids)
    return Request(
        prompt=np.asarray(ids, np.int32),
        limit=limit,
        priority=checked.priority,
        deadline_s=None if checked.deadline_s is None else submitted_s + checked.deadline_s,
        submitted_s=submitted_s,
        choosers=choosers,
        answers=tuple(
            Answer(model.tokenizer, wanted.stop, eos_ids, limit, logprobs=wanted.logprobs is not None)
            for _ in range(checked.samples)
        ),
    )


def _new_choosers(model: Model, wanted: GenerationOptions, samples: int) -> tuple[Chooser, ...]:
    """One for each sample; the first draws as it would without the others."""
    manifest = model.bundle.manifest
    grammar = model.grammar(wanted)
    return tuple(
        Chooser(
            replace(wanted, seed=_derive_seed(wanted.seed, index)),
            manifest.generation,
            manifest.decoder.vocab_size,
            grammar=grammar,
        )
        for index in range(samples)
    )


def _derive_seed(seed: int | None, index: int) -> int | None:
    if seed is None or seed < 0 or index == 0:
        return seed
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0])
