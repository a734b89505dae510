"""Which files a bundle holds: the kinds that a writer makes, by name and place, and nothing else.

A bundle may come from a stranger, and runtimes load by name what lies beside a model: a native library, a
script, another configuration. So the list says what is allowed, not what is dangerous. It knows nothing of
what the files hold, and does not touch the file system but to ask what a path is.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from edgesdk.bundle.manifest import CHAT_TEMPLATE_NAME, ID_MAP_NAME, TOKENIZER_NAME, TOOL_TEMPLATE_NAME
from edgesdk.bundle.names import check_name
from edgesdk.errors import BundleError

_TOP = (
    re.escape(TOKENIZER_NAME),
    re.escape(CHAT_TEMPLATE_NAME),
    re.escape(TOOL_TEMPLATE_NAME),
    re.escape(ID_MAP_NAME),
    r"parity(-[a-z0-9]+)?\.npz",
)
_VARIANT = (
    r"[^/]+\.tflite",
    r"[^/]+\.onnx",
    r"[^/]+\.data",  # what ONNX models keep beside them
    r"[^/]+\.bin",  # what ONNX models compiled for a processor keep beside them
    r"[^/]+\.onnx_adapter",
    r"genai_config\.json",
    r"tokenizer_config\.json",
    r"tokenizer\.json",
    r"chat_template\.jinja",
    r"packages\.json",
    r"draft_vocabulary\.json",
    r"[^/]+\.mlpackage/Manifest\.json",
    r"[^/]+\.mlpackage/Data/com\.apple\.CoreML/model\.mlmodel",
    r"[^/]+\.mlpackage/Data/com\.apple\.CoreML/weights/weight\.bin",
)
_KINDS = re.compile(f"(?:{'|'.join(_TOP)})|variants/[^/]+/(?:{'|'.join(_VARIANT)})")


def check_kind(name: str) -> str:
    """Returns `name` when it is one of the files that a bundle holds.

    Raises:
        BundleError: a bundle may not hold a file of that name, or none of that kind.
    """
    if _KINDS.fullmatch(check_name(name)) is None:
        raise BundleError(
            f"{name[:80]!r} is of a kind that no bundle holds; expected a model, its data, a tokenizer or "
            "what `edgesdk convert` writes beside them"
        )
    return name


def check_places(folder: Path, names: Iterable[str]) -> None:
    """Refuses links and whatever is no plain file; a file that is absent is not this function's business.

    Args:
        folder: of the bundle.
        names: of files that it lists.

    Raises:
        BundleError: one of them, or a folder on the way to it, is a link or something else.
    """
    root = os.fspath(folder)
    plain: set[str] = set()
    for name in names:
        end = name.find("/")
        while end > 0:
            if name[:end] not in plain:
                _check_mode(root, name[:end], stat.S_ISDIR, "a folder")
                plain.add(name[:end])
            end = name.find("/", end + 1)
        _check_mode(root, name, stat.S_ISREG, "a plain file")


def _check_mode(root: str, name: str, fits: Callable[[int], bool], expected: str) -> None:
    try:
        mode = os.lstat(f"{root}/{name}").st_mode
    except (OSError, ValueError):
        return
    if not fits(mode):
        found = "a link" if stat.S_ISLNK(mode) else "something else"
        raise BundleError(f"{name!r} in {root} is {found}, expected {expected}; copy the file itself there")
