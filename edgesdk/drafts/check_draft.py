"""What may be said to have tokens drafted, checked before anything is opened.

Apart from `open_drafter`, so that who loads a model without drafts does not load the drafters.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgesdk.errors import UnsupportedOption, quoted
from edgesdk.text.sound_text import check_sound_text

OFF = "off"
WORDS = ("auto", OFF, "lookup", "trained", "streams", "shallow")
"""What is no name of a bundle."""

_LONGEST = 4096
_MOST_TEXT = 16 << 20


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
