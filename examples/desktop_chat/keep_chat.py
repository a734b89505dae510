"""The conversation's file: whole whenever the process ends."""

from __future__ import annotations

import contextlib
from pathlib import Path

from chat_tree import ChatTree
from PySide6.QtCore import QIODevice, QSaveFile

LIMIT_BYTES = 8 << 20


def load_chat(path: Path) -> ChatTree:
    """What is kept; an empty conversation where there is none that can be read: an app must start."""
    with contextlib.suppress(OSError, ValueError):
        if path.stat().st_size <= LIMIT_BYTES:
            return ChatTree.from_json(path.read_text(encoding="utf-8"))
    return ChatTree()


def save_chat(path: Path, tree: ChatTree) -> str:
    """Keeps it, written beside the file and renamed; returns why it could not, else an empty text."""
    file = QSaveFile(str(path))
    if not file.open(QIODevice.OpenModeFlag.WriteOnly):
        return file.errorString()
    file.write(tree.to_json().encode())
    return "" if file.commit() else file.errorString()
