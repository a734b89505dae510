"""Reads the tokenizer of a Hugging Face directory: its file, with the tokens that others add, and the roles.

Which token is which is spread over six files that may contradict each other. Texts come from
tokenizer_config.json (`added_tokens` says when special_tokens_map.json counts); ends of generation from
generation_config.json or, without it, config.json, and always the tokenizer's own end too, since chat models
are trained to stop there.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgesdk.bundle.check_tokenizer import check_tokenizer_document
from edgesdk.bundle.manifest import TokenizerRecord
from edgesdk.errors import BundleError, CheckpointError
from edgesdk_converters.checkpoints.added_tokens import add_tokens, listed_tokens, read_settings
from edgesdk_converters.checkpoints.chat_templates import read_chat_templates
from edgesdk_converters.checkpoints.text_file import Json, parse_json, read_text
from edgesdk_converters.tokenizers.tokenizer_files import TokenizerFiles

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
        The text of tokenizer.json, the chat templates when there are some, and the record.

    Raises:
        CheckpointError: tokenizer.json is missing, passes a bound or does not load, an id lies outside it, or
            the files beside it contradict it.
    """
    path = folder / TOKENIZER
    if not path.is_file():
        raise CheckpointError(
            f"{folder} has no {TOKENIZER}; save it with transformers' AutoTokenizer(...).save_pretrained"
        )
    text = read_text(path, _LIMIT_BYTES)
    try:
        check_tokenizer_document(parse_json(path, text))
    except BundleError as error:
        raise CheckpointError(f"{folder}: {error}") from error
    tokenizer = _load(path, text)
    settings = read_settings(folder)
    listed = listed_tokens(folder, settings)
    special = {token.text for token in listed if token.flags.get("special")}
    text, notes = add_tokens(text, tokenizer, listed, special, _rows(config))
    tokenizer = _load(path, text)
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
    templates = read_chat_templates(folder, settings)
    notes += templates.notes()
    return TokenizerFiles(text, templates.default, record, templates.tool_use, notes)


def _rows(config: Json) -> int | None:
    """Rows of the model's embedding table, as far as the configuration says."""
    for place in (config, config.get("text_config")):
        rows = place.get("vocab_size") if isinstance(place, dict) else None
        if isinstance(rows, int) and not isinstance(rows, bool):
            return rows
    return None


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
