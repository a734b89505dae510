"""Refuses texts with half a character: a surrogate without its other half is no Unicode.

Such texts arise where bytes that are not UTF-8 were decoded (file names, arguments of commands) or where a
JSON document or another language cut a text inside a character. No tokenizer takes them.
"""

from __future__ import annotations

from edgesdk.errors import UnsupportedOption


def check_sound_text(text: str, what: str) -> None:
    """Refuses a text that is no Unicode.

    Args:
        text: any text.
        what: what it is, as the start of a message.

    Raises:
        UnsupportedOption: it has half a character.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UnsupportedOption(
            f"{what} has half a character (U+{ord(text[error.start]):04X}) at position {error.start}, "
            "expected Unicode text; encode it with errors='replace' first"
        ) from None
