"""The shelf: the one folder in which models are kept under names.

    <platform's data folder>/edgesdk/models/NAME, or $EDGESDK_MODELS/NAME

A name is what `edgesdk.load`, `edgesdk.Engine` and every command take in place of a path. It knows folders
only: what is in a bundle is the reader's business, and `BundleWriter` writes one there whole or not at all.
Drafts of a writer begin with a dot, which no name does, so they are never taken for models.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from edgesdk.bundle.manifest import MANIFEST_NAME
from edgesdk.errors import BundleError

SHELF_VARIABLE = "EDGESDK_MODELS"
DEMO_NAME = "smollm2"
"""What `edgesdk demo` leaves."""

_LONGEST_NAME = 80
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9_-])?")
# Devices on Windows whatever follows the dot; a shelf that is copied there must not meet them.
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_OTHERS = re.compile(r"[^a-z0-9._-]+")
_MOST_NAMED = 8
_SHOWN = 80


@dataclass(frozen=True)
class Found:
    """Where a bundle is.

    Attributes:
        path: its folder, or what will be refused as one when it is opened.
        note: what else of that name was passed over; None if nothing was.
    """

    path: Path
    note: str | None = None


def shelf_folder() -> Path:
    """The folder of all named models: `$EDGESDK_MODELS`, or the platform's data folder; it may be absent."""
    named = os.environ.get(SHELF_VARIABLE)
    if named:
        return Path(named)
    from platformdirs import user_data_dir

    return Path(user_data_dir("edgesdk", appauthor=False)) / "models"


def is_name(text: str) -> bool:
    """Whether a model may be called so: lower-case letters, digits, `.`, `_` and `-`, at most 80 of them."""
    return len(text) <= _LONGEST_NAME and bool(_NAME.fullmatch(text)) and not _DEVICES.fullmatch(text)


def make_name(*parts: str) -> str:
    """A name made from a few texts, for instance a file's stem and a recipe."""
    cleaned = "-".join(_OTHERS.sub("-", part.lower()).strip("-.") for part in parts)
    name = cleaned[-_LONGEST_NAME:].strip("-.") or "model"
    return name if is_name(name) else f"model-{name}"[:_LONGEST_NAME].rstrip(".")


def place(name: str) -> Path:
    """The folder of a name on the shelf, whether or not it is there.

    Raises:
        BundleError: no model may be called so.
    """
    if not is_name(name):
        raise BundleError(
            f"{name[:_SHOWN]!r} is no name for a model; expected at most {_LONGEST_NAME} lower-case letters, "
            "digits, '.', '_' and '-', with a letter or digit first"
        )
    return shelf_folder() / name


def names() -> list[str]:
    """The names of all bundles on the shelf, sorted."""
    try:
        found = [entry.name for entry in os.scandir(shelf_folder()) if is_name(entry.name)]
    except OSError:  # no shelf yet, or none that may be read
        return []
    return sorted(name for name in found if _is_bundle(shelf_folder() / name))


def find(name_or_path: str | Path) -> Found:
    """Finds a bundle by its path or its name.

    A folder that holds a bundle wins over a name; so does anything else at that path unless the shelf has
    the name. Capitals in a name do not matter.

    Args:
        name_or_path: as users type it.

    Returns:
        Where it is. What is written like a path need not be there; opening it says so.

    Raises:
        BundleError: it is written like a name, and neither a path nor on the shelf, or it is a checkpoint.
            The message says what there is, and the command to type.
    """
    text, path = os.fspath(name_or_path), Path(name_or_path)
    exists = os.path.lexists(text)
    if _is_path(text):
        if not exists:
            what = "file" if text.lower().endswith(".gguf") else "folder"
            raise BundleError(f"there is no {what} {text[:_SHOWN]}; {_what_to_type(text)}")
        return _opened(text, path)
    shelved = place(text.lower()) if is_name(text.lower()) else None
    if shelved is not None and _is_bundle(shelved):
        if not exists:
            return Found(shelved)
        if _is_bundle(path):
            return Found(path, f"the folder {text} is used, not the model of that name in {shelved}")
        return Found(shelved, f"the model in {shelved} is used; {text} here is not a bundle")
    if exists:
        return _opened(text, path)
    what = "file" if text.lower().endswith(".gguf") else "folder and no model"
    raise BundleError(f"there is no {what} {text[:_SHOWN]!r}; {_what_to_type(text)}")


def _opened(text: str, path: Path) -> Found:
    if path.suffix == ".gguf" and path.is_file():
        raise BundleError(
            f"{text} is a checkpoint, expected a bundle; convert it with: edgesdk convert {text}"
        )
    return Found(path)


def _is_path(text: str) -> bool:
    """Whether it can only be a path: it names a folder, or begins like one."""
    return (
        "/" in text
        or os.sep in text
        or text in ("", ".", "..")
        or text.startswith("~")
        or os.path.isabs(text)
    )


def _is_bundle(folder: Path) -> bool:
    return os.path.isfile(folder / MANIFEST_NAME)  # which, unlike Path's, never raises


def _what_to_type(text: str) -> str:
    there = names()
    shown = ", ".join(there[:_MOST_NAMED]) + (", ..." if len(there) > _MOST_NAMED else "")
    kept = f"the shelf {shelf_folder()} has {shown}" if there else f"the shelf {shelf_folder()} is empty"
    if text.lower() == DEMO_NAME:
        how = "edgesdk demo"
    else:
        missing = text.lower().endswith(".gguf")
        source = text[:_SHOWN] if _HUB_ID.fullmatch(text) and not missing else "SOURCE"
        how = f"edgesdk convert {source} --name {text if is_name(text) and not missing else 'NAME'}"
    return f"{kept}; make one with: {how}"
