"""Writes a file whole or not at all, and only where a plain file stands or nothing.

Everything in edgesdk that writes a file by a name it was given, or into a cache, goes through here: the
content is written in a draft beside the target, flushed to the disk and renamed. Links, devices, pipes,
sockets and folders are refused: replacing one destroys more than a file, and following one writes where
nobody said.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from edgesdk.bundle.drafts import Draft

Content = str | bytes | Callable[[Path], None]
"""Text in UTF-8, bytes, or what writes the file of the name that it is given."""

_WINDOWS = os.name == "nt"
# With any extension, in any folder ("Naming Files, Paths, and Namespaces", Win32).
_DEVICE = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3])", re.IGNORECASE
)

_KINDS = (
    (stat.S_ISLNK, "it is a link"),
    (stat.S_ISDIR, "it is a folder"),
    (stat.S_ISCHR, "it is a device"),
    (stat.S_ISBLK, "it is a device"),
    (stat.S_ISFIFO, "it is a pipe"),
    (stat.S_ISSOCK, "it is a socket"),
)


def write_file(path: Path, content: Content) -> None:
    """Writes a file; one that stands there is replaced and keeps its permissions.

    Args:
        path: a new name, or that of a plain file.
        content: what to write.

    Raises:
        OSError: the target is no plain file, or the file cannot be written. Nothing is left behind, and what
            stood there stands there still.
    """
    path = Path(os.path.abspath(path))
    mode = check_target(path)
    with Draft(path.parent) as draft:
        file = draft.path / "file"
        if isinstance(content, str):
            file.write_text(content, encoding="utf-8", newline="\n")
        elif isinstance(content, bytes):
            file.write_bytes(content)
        else:
            content(file)
        if mode is not None:
            with contextlib.suppress(OSError):
                file.chmod(mode)
        put_in_place(file, path)


def check_target(path: Path) -> int | None:
    """Whether a file of this name can be written; for commands, before they work for minutes.

    Returns:
        Permissions of the plain file that stands there; None where nothing does.

    Raises:
        OSError: what stands there is no plain file, there is no folder to write it in, or the system has no
            such names.
    """
    path = Path(os.path.abspath(path))
    check_portable(path)
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise _refused(errno.ENOENT, "its folder does not exist; make it first", path) from None
        return None
    except ValueError as error:  # a null character
        raise _refused(errno.EINVAL, f"that is no file name ({error})", path) from error
    if stat.S_ISREG(mode):
        return stat.S_IMODE(mode)
    what = next((words for matches, words in _KINDS if matches(mode)), "it is no plain file")
    raise _refused(errno.EEXIST, f"{what}; give a new name or that of a plain file", path)


def put_in_place(file: Path, target: Path) -> None:
    """Flushes a complete file to the disk and renames it.

    Raises:
        OSError: one of the two failed.
    """
    with file.open("rb+") as stream:
        os.fsync(stream.fileno())
    os.replace(file, target)
    flush_folder(target.parent)


def flush_folder(folder: Path) -> None:
    """Flushes the names in a folder; where a system or file system cannot, it does so in its own time."""
    if _WINDOWS:  # folders cannot be opened there
        return
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def check_portable(path: Path) -> None:
    """Refuses, on Windows, a last part that it takes for a device or changes before it looks it up.

    Raises:
        OSError: it is one.
    """
    name = path.name
    if _WINDOWS and (_DEVICE.fullmatch(name.partition(".")[0].rstrip(" ")) or name[-1:] in (".", " ")):
        raise _refused(errno.EINVAL, f"Windows has no file named {name[:80]!r}; choose another", path)


def _refused(code: int, why: str, path: Path) -> OSError:
    return OSError(code, why, str(path))
