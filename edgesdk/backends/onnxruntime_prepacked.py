"""Packed weights of ONNX Runtime, kept in a file that is mapped instead of packed anew by every session.

ONNX Runtime packs weights for its kernels when it opens a model, into memory of the session's own: time and a
second copy of the weights on every load. It can write the optimised model with its packed weights beside it,
once, and map them from there; the operating system then shares the pages between sessions and processes.

The folder is keyed by everything it depends on: digests of the files, the library's version, the processor.
It is built under another name and renamed when whole, so two processes may build it at once, and lists the
sizes of its files, so that one that was cut is not mapped. It knows no model.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from edgesdk.backends.onnxruntime_session import open_session
from edgesdk.backends.processor import processor
from edgesdk.bundle.integrity import cache_folder
from edgesdk.errors import DeviceError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_MODEL = "model.onnx"
_WEIGHTS = "weights.bin"
_SIZES = "sizes.json"
_SMALLEST_BYTES = 64
"""Smaller constants stay in the model. No scales of a matrix may: ONNX Runtime packs them into the matrix,
and would do so a second time where the matrix comes packed from the file and they do not."""

_ABANDONED_S = 3600
"""A folder that is still being written after this long belongs to a process that is gone."""

_UNUSED_S = 60 * 86400
"""A folder that nothing has loaded for this long goes when another is written."""

SAVE = {
    "session.optimized_model_external_initializers_file_name": _WEIGHTS,
    "session.optimized_model_external_initializers_min_size_in_bytes": str(_SMALLEST_BYTES),
    "session.save_external_prepacked_constant_initializers": "1",
}


def open_prepacked(path: Path, digests: Iterable[str], threads: int) -> tuple[InferenceSession, str | None]:
    """Opens a model for the CPU by way of its packed weights, which are written if they are not there.

    Args:
        path: the ONNX file.
        digests: sha256 of it and of its files of weights.
        threads: CPU threads.

    Returns:
        The session, and `hit`, `built`, or None where nothing can be kept (no room, no weights worth a file):
        the session then packs its weights in memory.

    Raises:
        DeviceError: onnxruntime is missing or refuses the file.
    """
    folder = _folder(digests)
    if _whole(folder):
        with contextlib.suppress(OSError):  # of another user
            os.utime(folder)
        try:
            return open_session(folder / _MODEL, threads, optimised=True), "hit"
        except DeviceError:  # damaged in a way that sizes do not show
            shutil.rmtree(folder, ignore_errors=True)
    if not _build(path, folder):
        return open_session(path, threads), None
    return open_session(folder / _MODEL, threads, optimised=True), "built"


def _folder(digests: Iterable[str]) -> Path:
    import onnxruntime

    parts = (*sorted(digests), onnxruntime.__version__, processor())
    key = hashlib.sha256("|".join(parts).encode()).hexdigest()[:32]
    return cache_folder() / "onnxruntime" / key


def _whole(folder: Path) -> bool:
    """Whether all files are there, in the sizes that they were written in."""
    try:
        expected = json.loads((folder / _SIZES).read_text(encoding="utf-8"))
        found = {name: (folder / name).stat().st_size for name in (_MODEL, _WEIGHTS)}
    except (OSError, ValueError):
        return False
    return bool(found == expected)


def _build(path: Path, folder: Path) -> bool:
    """Writes the folder; False where that cannot be done."""
    draft = folder.with_name(f"{folder.name}.{os.getpid()}.building")
    try:
        draft.parent.mkdir(parents=True, exist_ok=True)
        _sweep(draft.parent)
        shutil.rmtree(draft, ignore_errors=True)  # of a process that had this number before
        draft.mkdir()
    except OSError:
        return False
    try:
        open_session(path, 1, save_optimised=draft / _MODEL, entries=SAVE)
        sizes = {name: (draft / name).stat().st_size for name in (_MODEL, _WEIGHTS)}
        (draft / _SIZES).write_text(json.dumps(sizes), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # another process was faster
            draft.rename(folder)
        return _whole(folder)
    except (OSError, DeviceError):  # the disk is full, there are no weights worth a file, or the model is bad
        return False
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Removes what processes left that ended while they wrote, and what nothing uses any more."""
    now = time.time()
    for left in folder.iterdir():
        most = _ABANDONED_S if left.suffix == ".building" else _UNUSED_S
        with contextlib.suppress(OSError):
            if left.stat().st_mtime < now - most:
                shutil.rmtree(left, ignore_errors=True)
