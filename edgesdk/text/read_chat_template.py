"""A bundle's chat template, read from its file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgesdk.bundle.manifest import CHAT_TEMPLATE_NAME
from edgesdk.bundle.reader import Bundle
from edgesdk.errors import BundleError

if TYPE_CHECKING:
    from edgesdk.text.chat_template import ChatTemplate  # with jinja2, which only templates need


def read_chat_template(bundle: Bundle) -> ChatTemplate | None:
    """The model's chat template, if it has one.

    Raises:
        BundleError: its file cannot be read.
    """
    if CHAT_TEMPLATE_NAME not in bundle.manifest.files:
        return None
    from edgesdk.text.chat_template import ChatTemplate

    record = bundle.manifest.tokenizer
    try:
        source = bundle.file(CHAT_TEMPLATE_NAME).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise BundleError(f"{CHAT_TEMPLATE_NAME} of {bundle.path} cannot be read: {error}") from error
    return ChatTemplate(source, bos_token=record.bos_token, eos_token=record.eos_token)
