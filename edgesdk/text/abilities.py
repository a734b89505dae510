"""What a model's chat template provides for: what `edgesdk show` and the server say that it can do."""

from __future__ import annotations

from contextlib import suppress

from edgesdk.bundle.reader import Bundle
from edgesdk.errors import EdgeError

_SIGNS = ("enable_thinking", "reasoning_content", "reasoning_effort", "<|channel|>analysis")
"""Of a template for a model that thinks, beside the marks of a thought."""


def find_abilities(bundle: Bundle) -> dict[str, str | None]:
    """What a bundle's chat template provides for; of a model that gives vectors only, nothing.

    Returns:
        `chat` and `thinking`: `yes`; `tools`: the form of its calls (`call_forms`); None for what it lacks.

    Raises:
        BundleError: the template cannot be read.
    """
    from edgesdk.text.call_format import call_format
    from edgesdk.text.read_chat_template import read_chat_template
    from edgesdk.text.thoughts import MARKS

    abilities: dict[str, str | None] = {"chat": None, "tools": None, "thinking": None}
    found = read_chat_template(bundle) if bundle.manifest.decoder.is_causal else None
    if found is None:
        return abilities
    abilities["chat"] = "yes"
    with suppress(EdgeError):  # no place for tools, a form that is not known, or a template that does not run
        abilities["tools"] = call_format(found)
    if any(found.mentions(word, with_tools=False) for word in (*(start for start, _ in MARKS), *_SIGNS)):
        abilities["thinking"] = "yes"
    return abilities
