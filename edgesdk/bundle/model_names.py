"""What a model on the shelf may be called: one rule for bundles and aliases, good for every file system.

It does not look at any folder.
"""

from __future__ import annotations

import re

from edgesdk.errors import BundleError

LONGEST_NAME = 80

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9_-])?")
# Devices on Windows whatever follows the dot; a shelf that is copied there must not meet them.
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?")
_OTHERS = re.compile(r"[^a-z0-9._-]+")
_SHOWN = 80


def is_name(text: str) -> bool:
    """Whether a model may be called so: lower-case letters, digits, `.`, `_` and `-`, at most 80 of them."""
    return len(text) <= LONGEST_NAME and bool(_NAME.fullmatch(text)) and not _DEVICES.fullmatch(text)


def check_model_name(text: str) -> str:
    """Returns a name that a model may have.

    Raises:
        BundleError: none may be called so.
    """
    if not is_name(text):
        raise BundleError(
            f"{text[:_SHOWN]!r} is no name for a model; expected at most {LONGEST_NAME} lower-case letters, "
            "digits, '.', '_' and '-', with a letter or digit first"
        )
    return text


def make_name(*parts: str) -> str:
    """A name made from a few texts, for instance a file's stem and a recipe."""
    cleaned = "-".join(_OTHERS.sub("-", part.lower()).strip("-.") for part in parts)
    name = cleaned[-LONGEST_NAME:].strip("-.") or "model"
    return name if is_name(name) else f"model-{name}"[:LONGEST_NAME].rstrip(".")
