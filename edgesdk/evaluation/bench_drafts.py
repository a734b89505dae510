"""What drafts bring a loaded model: the same answers with and without, in turn.

Two prompts: to repeat a text, where nearly everything can be looked up, and to write one, where hardly
anything can. Both models share one backend, so nothing but drafts differs. Answers that have ended are not
looked up in: the same prompt comes several times.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from edgesdk.bundle.manifest import DeviceClass
from edgesdk.decoding.completion import Completion
from edgesdk.decoding.draft_source import DraftSource
from edgesdk.drafts.open_drafter import RunningVariant, open_drafter
from edgesdk.errors import CapacityError, UnsupportedOption
from edgesdk.kv.step_model import steps_of
from edgesdk.model import Model

_COPY = "Repeat this text word for word.\n\n"
_OPEN = "Write a story about a ship that is lost at sea."
_TEXT = """\
The mill stands where the stream leaves the wood. Its wheel has not turned since the flood of 1953, but \
the stones are still in their place, and the miller's name can be read above the door. In summer swallows \
nest under the roof, and children come to look for trout below the weir. The last miller, Jonas Feld, sold \
flour in bags of ten pounds, which his daughter sewed from old sails. When he died, the house was bought \
by a painter from the city, who wanted to turn the upper floor into a studio. He mended the roof, put \
glass into the north wall and found, behind the stove, a chest with forty letters. They were from a sailor \
who had never come back, and they were all addressed to the miller's wife."""


@dataclass(frozen=True)
class DraftedText:
    """One prompt, answered with and without drafts.

    Attributes:
        name: `copy` or `open`.
        prompt_tokens: of the prompt.
        new_tokens: of each answer.
        plain_tokens_per_s: decode speed without drafts, the median of the rounds.
        drafted_tokens_per_s: with drafts.
        speedup: the median over rounds of the one over the other.
        kept_per_step: drafted tokens that a step keeps.
        block_efficiency: tokens that a step of the model gives; 1 without drafts.
        drafted_share: of the answer's tokens, those that were drafted.
        saved_ms: of the answer's decoding, by the medians.
        same: whether all answers are the same.
    """

    name: str
    prompt_tokens: int
    new_tokens: int
    plain_tokens_per_s: float
    drafted_tokens_per_s: float
    speedup: float
    kept_per_step: float
    block_efficiency: float
    drafted_share: float
    saved_ms: float
    same: bool


@dataclass(frozen=True)
class DraftsReport:
    """What drafts bring.

    Attributes:
        drafter: what drafted.
        memory_bytes: that it held in the end.
        texts: figures by prompt.
    """

    drafter: str
    memory_bytes: int
    texts: tuple[DraftedText, ...]


def measure_drafts(
    model: Model, draft: str, new_tokens: int, repeat: int, *, texts: Sequence[str] = ()
) -> DraftsReport:
    """Measures drafts on a model.

    Args:
        model: loaded, without drafts of its own.
        draft: as in `LoadOptions`.
        new_tokens: tokens of an answer, at least 2; end tokens do not end it.
        repeat: counted answers of each prompt, with and without, after one that is not counted.
        texts: as `draft_texts` in `LoadOptions`.

    Raises:
        UnsupportedOption: a count is too small, or `draft` is off or names nothing.
        CapacityError: a prompt and its answer do not fit the context.
        BundleError, DeviceError: what drafts cannot be opened, or fails.
    """
    if new_tokens < 2 or repeat < 1:
        raise UnsupportedOption(
            f"new tokens are {new_tokens} and repeat is {repeat}, expected at least 2 and 1 to measure drafts"
        )
    bundle, receipt = model.bundle, model.receipt
    device = cast(DeviceClass, receipt.device)
    variant, steps = bundle.variant(receipt.variant), steps_of(model.backend)
    running = RunningVariant(bundle, variant, receipt.backend, device, receipt.threads, steps)
    drafter = open_drafter(draft, running, texts=texts, remember=False)
    if drafter is None:
        raise UnsupportedOption("drafts are off; say what drafts: auto, lookup, trained, shallow or a bundle")
    source = DraftSource(drafter, lambda: drafter, bundle.manifest.decoder.vocab_size)
    try:
        drafted = Model(bundle, model.backend, receipt, drafts=source)
        prompts = {"copy": _copy_prompt(model, new_tokens), "open": _prompt(model, _OPEN, new_tokens)}
        found = tuple(
            _measure(name, ids, model, drafted, new_tokens, repeat) for name, ids in prompts.items()
        )
        return DraftsReport(drafter.name, drafter.nbytes, found)
    finally:
        source.close()


def _measure(
    name: str, ids: list[int], plain: Model, drafted: Model, new_tokens: int, repeat: int
) -> DraftedText:
    rounds: list[tuple[Completion, Completion]] = []
    for turn in range(repeat + 1):
        first, second = (plain, drafted) if turn % 2 == 0 else (drafted, plain)
        answers = [_answer(model, ids, new_tokens) for model in (first, second)]
        rounds.append((answers[0], answers[1]) if first is plain else (answers[1], answers[0]))
    same = len({answer.tokens for pair in rounds for answer in pair}) == 1
    rounds = rounds[1:]
    speeds = [(_speed(one), _speed(other)) for one, other in rounds]
    plain_speed, drafted_speed = (statistics.median(speed) for speed in zip(*speeds, strict=True))
    steps = sum(other.steps for _, other in rounds)
    kept = sum(other.kept_tokens for _, other in rounds)
    tokens = sum(other.new_tokens for _, other in rounds)
    return DraftedText(
        name=name,
        prompt_tokens=len(ids),
        new_tokens=new_tokens,
        plain_tokens_per_s=plain_speed,
        drafted_tokens_per_s=drafted_speed,
        speedup=statistics.median(other / one for one, other in speeds),
        kept_per_step=kept / steps,
        block_efficiency=tokens / steps,
        drafted_share=kept / tokens,
        saved_ms=(new_tokens - 1) * (1 / plain_speed - 1 / drafted_speed) * 1e3,
        same=same,
    )


def _answer(model: Model, ids: list[int], new_tokens: int) -> Completion:
    return model.generate(
        ids, max_tokens=new_tokens, temperature=0.0, repetition_penalty=1.0, ignore_eos=True
    )


def _speed(answer: Completion) -> float:
    """Decode speed; an answer that one step gave whole took no time that can be told."""
    return answer.decode_tokens_per_s or 1e9


def _copy_prompt(model: Model, new_tokens: int) -> list[int]:
    """The text to repeat, or as much of it as the context allows."""
    words = _TEXT.split()
    while True:
        ids = model.render_prompt(_COPY + " ".join(words))
        if len(ids) + new_tokens <= model.context or len(words) <= 4:
            return _fitting(model, ids, new_tokens)
        words = words[: len(words) * 3 // 4]


def _prompt(model: Model, text: str, new_tokens: int) -> list[int]:
    return _fitting(model, model.render_prompt(text), new_tokens)


def _fitting(model: Model, ids: list[int], new_tokens: int) -> list[int]:
    if len(ids) + new_tokens > model.context:
        raise CapacityError(
            f"a prompt of {len(ids)} tokens and {new_tokens} new ones do not fit the context of "
            f"{model.context} tokens; measure fewer or convert with a larger --context"
        )
    return ids
