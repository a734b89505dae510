"""Which of a model's chat templates a bundle keeps.

Of those by name a model uses `default`, and `tool_use` for conversations with tools; what others are for
only their publishers know. It does not know where templates come from.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ChatTemplates:
    """The templates that a bundle keeps.

    Attributes:
        default: for chats; None where there is none.
        tool_use: for chats with tools, where it is another.
        others: names of those that are left out.
    """

    default: str | None
    tool_use: str | None
    others: tuple[str, ...]

    def notes(self) -> tuple[str, ...]:
        """What is left out, a line each."""
        missing = (
            "; there is none named 'default', so none is used" if self.others and not self.default else ""
        )
        return tuple(f"the chat template named {name[:60]!r} is left out{missing}" for name in self.others)


def choose_templates(named: dict[str, str]) -> ChatTemplates:
    """Of templates by name, those that are used."""
    default = named.get("default")
    used = () if default is None else ("default", "tool_use")
    return ChatTemplates(
        default, named.get("tool_use") if used else None, tuple(sorted(set(named) - set(used)))
    )
