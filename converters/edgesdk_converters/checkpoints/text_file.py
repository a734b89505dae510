"""Reads the small text files of a checkpoint, which come from strangers, within bounds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from edgesdk.bundle.records import JsonValue
from edgesdk.errors import CheckpointError, first_line

Json = Mapping[str, JsonValue]

LIMIT_BYTES = 16 << 20
"""Parsed JSON takes many times the memory of its text."""


def read_text(path: Path, limit_bytes: int = LIMIT_BYTES) -> str:
    """Reads a UTF-8 file; the byte order mark that some editors write is no part of it.

    Raises:
        CheckpointError: it cannot be read, is too large, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit_bytes + 1)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > limit_bytes:
        raise CheckpointError(f"{path} is larger than {limit_bytes >> 20} MB; it will not be read")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not UTF-8 text; download it again") from error


def parse_json(path: Path, text: str) -> Json:
    """Parses the text of a JSON file that holds an object.

    Args:
        path: for messages.
        text: its content.

    Raises:
        CheckpointError: it is not JSON, or not an object.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = first_line(error, 80)
        raise CheckpointError(f"{path} is not valid JSON ({reason}); download it again") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path} holds a {type(document).__name__}, expected an object")
    return document


def read_json(path: Path) -> Json:
    """Reads a JSON file that holds an object.

    Raises:
        CheckpointError: as `read_text` and `parse_json`.
    """
    return parse_json(path, read_text(path))


def read_optional_json(path: Path) -> Json:
    """The same, but empty when there is no such file."""
    return read_json(path) if path.is_file() else {}
