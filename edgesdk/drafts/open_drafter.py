"""From what a user says to a drafter: `off`, `auto`, `lookup`, `shallow`, or a bundle's name or path.

Whatever model drafts, lookup goes first: it costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgesdk.backends.protocol import Int
from edgesdk.bundle.manifest import TOKENIZER_NAME, DeviceClass, Variant
from edgesdk.bundle.reader import Bundle
from edgesdk.drafts.bundle_drafts import open_bundle_drafts
from edgesdk.drafts.combine import CombinedDrafter
from edgesdk.drafts.guess import Source
from edgesdk.drafts.lookup import Lookup
from edgesdk.drafts.stack_drafts import open_stack_drafts, shallow_stack
from edgesdk.errors import UnsupportedOption, quoted
from edgesdk.text.sound_text import check_sound_text
from edgesdk.text.tokenizer import Tokenizer

OFF = "off"
WORDS = ("auto", OFF, "lookup", "shallow")
"""What is no name of a bundle."""

_LONGEST = 4096
_MOST_TEXT = 16 << 20


@dataclass(frozen=True)
class RunningVariant:
    """What drafts are for.

    Attributes:
        bundle: the bundle.
        variant: of it, that runs.
        backend: name of what runs it.
        device: class of devices.
        threads: CPU threads.
    """

    bundle: Bundle
    variant: Variant
    backend: str
    device: DeviceClass
    threads: int


def check_draft(draft: object) -> str:
    """Refuses what names no drafter, before anything is opened.

    Raises:
        UnsupportedOption: it is no text, or none that a name or path can be.
    """
    if not isinstance(draft, str) or not draft or len(draft) > _LONGEST or "\0" in draft:
        raise UnsupportedOption(
            f"draft is {quoted(draft)}, expected {', '.join(WORDS)}, or the name or path of a bundle"
        )
    return draft


def check_draft_texts(texts: object) -> tuple[str, ...]:
    """Refuses what is no list of texts.

    Raises:
        UnsupportedOption: it is none, or holds more than 16 Mi characters.
    """
    if isinstance(texts, str) or not isinstance(texts, Sequence):
        raise UnsupportedOption(f"draft_texts is {quoted(texts)}, expected a list of texts")
    for text in texts:
        if not isinstance(text, str):
            raise UnsupportedOption(f"draft_texts holds {quoted(text)}, expected texts")
        check_sound_text(text, "a text of draft_texts")
    length = sum(map(len, texts))
    if length > _MOST_TEXT:
        raise UnsupportedOption(f"draft_texts have {length} characters, expected at most {_MOST_TEXT}")
    return tuple(texts)


def open_drafter(
    draft: str, running: RunningVariant, *, texts: Sequence[str] = (), remember: bool = True
) -> CombinedDrafter | None:
    """Opens what drafts.

    Args:
        draft: `off` for nothing; `lookup`; `shallow` for the stack beside the variant that runs, after
            lookup; `auto` for the same where there is such a stack, else for lookup; or a smaller bundle,
            after lookup.
        running: what drafts are for.
        texts: looked up in, beside prompt and answer.
        remember: look up in answers that have ended, too.

    Returns:
        The drafter; None for `off`.

    Raises:
        UnsupportedOption: it names nothing, texts are none, or the bundle has no shallow stack or other
            tokens.
        BundleError, DeviceError, MissingExtra: what it names cannot be opened.
    """
    draft = check_draft(draft)
    if draft == OFF:
        return None
    bundle, variant = running.bundle, running.variant
    sources: list[Source] = [Lookup(_ids(bundle, check_draft_texts(texts)), remember=remember)]
    if draft == "shallow" or (draft == "auto" and shallow_stack(bundle, variant) is not None):
        sources.append(
            open_stack_drafts(
                bundle, variant, backend=running.backend, device=running.device, threads=running.threads
            )
        )
    elif draft not in WORDS:
        sources.append(open_bundle_drafts(bundle, draft, threads=running.threads))
    return CombinedDrafter(sources)


def _ids(bundle: Bundle, texts: Sequence[str]) -> list[Int]:
    if not texts:
        return []  # the tokenizer's file need not be read
    tokenizer = Tokenizer(bundle.path / TOKENIZER_NAME, bundle.manifest.tokenizer)
    return [np.array(tokenizer.encode(text, add_bos=False), np.int32) for text in texts]
