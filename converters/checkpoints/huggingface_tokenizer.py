"""Reads the tokenizer of a Hugging Face directory: its file as it is, and ids and texts by role.

Which token is which is spread over four files that may contradict each other. Texts come from
tokenizer_config.json; ends of generation from generation_config.json or, without it, config.json, and
always the tokenizer's own end too, since chat models are trained to stop there.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from converters.checkpoints.checkpoint import TokenizerFiles
from converters.checkpoints.text_file import Json, parse_json, read_optional_json, read_text
from edgesdk.bundle.manifest import TokenizerRecord
from edgesdk.bundle.records import JsonValue
from edgesdk.errors import CheckpointError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER = "tokenizer.json"
_LIMIT_BYTES = 128 << 20  # tokenizers of 250k words have 30 MB
_PROBE = "a"


def read_huggingface_tokenizer(folder: Path, config: Json, generation: Json) -> TokenizerFiles:
    """Reads a tokenizer.

    Args:
        folder: the directory.
        config: of the model.
        generation: generation_config.json; empty when there is none.

    Returns:
        The text of tokenizer.json, the chat template when there is one, and the record.

    Raises:
        CheckpointError: tokenizer.json is missing or does not load, or an id lies outside it.
    """
    path = folder / TOKENIZER
    if not path.is_file():
        raise CheckpointError(
            f"{folder} has no {TOKENIZER}; save it with transformers' AutoTokenizer(...).save_pretrained"
        )
    text = read_text(path, _LIMIT_BYTES)
    parse_json(path, text)
    tokenizer = _load(path, text)
    settings = read_optional_json(folder / "tokenizer_config.json")
    bos, bos_id = _role(tokenizer, settings, "bos_token", _first(config, generation, "bos_token_id"))
    eos_ids = _eos_ids(config, generation)
    eos, own_eos = _role(tokenizer, settings, "eos_token", eos_ids[:1])
    if own_eos is not None and own_eos not in eos_ids:
        eos_ids.append(own_eos)
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    for role, ids in (("bos_token_id", [bos_id] if bos_id is not None else []), ("eos_token_id", eos_ids)):
        for i in ids:
            if not 0 <= i < size:
                raise CheckpointError(f"{role} is {i}, expected an id of {path}, which has {size} tokens")
    record = TokenizerRecord(
        bos_id=bos_id,
        eos_ids=tuple(eos_ids),
        add_bos=bos_id is not None and _adds_bos(tokenizer, settings, bos_id),
        bos_token=bos,
        eos_token=eos,
    )
    return TokenizerFiles(text, _chat_template(folder, settings), record)


def _load(path: Path, text: str) -> Tokenizer:
    """Loads the file, since a bundle must never hold a tokenizer that does not load."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # the package raises nothing more precise
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise CheckpointError(f"{path} is no tokenizer that can be loaded: {reason}") from error


def _role(
    tokenizer: Tokenizer, settings: Json, key: str, configured: list[int]
) -> tuple[str | None, int | None]:
    """Text and id of a role; the text decides, and a null in the settings means that there is none."""
    value = settings.get(key)
    text = value.get("content") if isinstance(value, dict) else value
    if isinstance(text, str):
        found: int | None = tokenizer.token_to_id(text)
        return text, found if found is not None else next(iter(configured), None)
    if not configured:
        return None, None
    if key in settings or not 0 <= configured[0] < tokenizer.get_vocab_size():
        return None, configured[0]
    return tokenizer.id_to_token(configured[0]), configured[0]


def _eos_ids(config: Json, generation: Json) -> list[int]:
    return list(dict.fromkeys(_first(generation, config, "eos_token_id")))


def _first(before: Json, after: Json, key: str) -> list[int]:
    """Ids of the first of two files that has the key."""
    value = before.get(key)
    if value is None:
        value = after.get(key)
    ids: list[int] = []
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, bool) or not isinstance(item, int | None):
            raise CheckpointError(f"{key} is {str(value)[:60]!r}, expected a token id or a list of them")
        if item is not None:
            ids.append(item)
    return ids


def _adds_bos(tokenizer: Tokenizer, settings: Json, bos_id: int) -> bool:
    said = settings.get("add_bos_token")
    if isinstance(said, bool):
        return said
    ids: list[int] = tokenizer.encode(_PROBE).ids  # with what its post-processor adds
    return ids[:1] == [bos_id]


def _chat_template(folder: Path, settings: Json) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return read_text(file)
    template: JsonValue = settings.get("chat_template")
    if isinstance(template, list):  # several by name: the one for chat is called "default"
        named = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
        template = named.get("default")
    if not isinstance(template, str):
        return None
    try:
        template.encode("utf-8")
    except UnicodeEncodeError as error:  # JSON can say half a character
        raise CheckpointError("the chat template of tokenizer_config.json is not valid Unicode") from error
    return template
