"""The chat templates of a Hugging Face directory, one or several by name, in the places that have held them.

Files win over tokenizer_config.json, as in transformers: `chat_template.jinja`, and beside it
`additional_chat_templates/NAME.jinja`. Which of several is used, `choose_templates` says.
"""

from __future__ import annotations

from pathlib import Path

from edgesdk.bundle.records import JsonValue
from edgesdk.errors import CheckpointError
from edgesdk_converters.checkpoints.text_file import Json, read_text
from edgesdk_converters.tokenizers.choose_templates import ChatTemplates, choose_templates

_FILE = "chat_template.jinja"
_FOLDER = "additional_chat_templates"
_MOST = 64


def read_chat_templates(folder: Path, settings: Json) -> ChatTemplates:
    """Reads the templates of a directory.

    Args:
        folder: the directory.
        settings: of tokenizer_config.json.

    Raises:
        CheckpointError: one cannot be read, or is no text.
    """
    named = _files(folder) or _settings(settings.get("chat_template"))
    return choose_templates(named)


def _files(folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    if (folder / _FILE).is_file():
        found["default"] = read_text(folder / _FILE)
    if (folder / _FOLDER).is_dir():
        paths = sorted(path for path in (folder / _FOLDER).glob("*.jinja") if path.is_file())
        if len(paths) > _MOST:
            raise CheckpointError(f"{folder / _FOLDER} has {len(paths)} templates, expected at most {_MOST}")
        found |= {path.name.removesuffix(".jinja"): read_text(path) for path in paths}
    return found


def _settings(value: JsonValue) -> dict[str, str]:
    """What tokenizer_config.json says: one template, or several by name."""
    if isinstance(value, str):
        return {"default": _sound(value)}
    found: dict[str, str] = {}
    if isinstance(value, dict):
        found = {name: template for name, template in value.items() if isinstance(template, str)}
    for entry in value if isinstance(value, list) else []:
        if isinstance(entry, dict):
            name, template = entry.get("name"), entry.get("template")
            if isinstance(name, str) and isinstance(template, str):
                found[name] = template
    return {name: _sound(template) for name, template in found.items()}


def _sound(template: str) -> str:
    try:
        template.encode("utf-8")
    except UnicodeEncodeError as error:  # JSON can say half a character
        raise CheckpointError("the chat template of tokenizer_config.json is not valid Unicode") from error
    return template
