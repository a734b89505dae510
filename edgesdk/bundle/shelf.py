"""The shelf: the one folder in which models are kept under names.

    <platform's data folder>/edgesdk/models/NAME, or $EDGESDK_MODELS/NAME

A name, or an alias of it, is what `edgesdk.load`, `edgesdk.Engine` and every command take in place of a path.
It knows folders only: what is in a bundle is the reader's business, and `BundleWriter` writes one there whole
or not at all. Drafts of a writer begin with a dot, which no name does, so they are never taken for models.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from edgesdk.bundle.drafts import sweep_drafts
from edgesdk.bundle.manifest import MANIFEST_NAME
from edgesdk.bundle.model_names import check_model_name, is_name
from edgesdk.bundle.model_names import make_name as make_name  # part of what the shelf offers
from edgesdk.bundle.shelf_aliases import read_aliases
from edgesdk.errors import BundleError

SHELF_VARIABLE = "EDGESDK_MODELS"
DEMO_NAME = "smollm2"
"""What `edgesdk demo` and `edgesdk pull smollm2` leave."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}(?::[A-Za-z0-9][\w.-]{0,39})?")
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


def place(name: str) -> Path:
    """The folder of a name on the shelf, whether or not it is there.

    Raises:
        BundleError: no model may be called so.
    """
    return shelf_folder() / check_model_name(name)


def new_place(name: str) -> Path:
    """The folder of a name that a bundle is to get.

    Raises:
        BundleError: no model may be called so, or the name is an alias.
    """
    folder = place(name)
    target = read_aliases(shelf_folder()).get(name)
    if target is not None and not is_bundle(folder):
        raise BundleError(
            f"{name} is an alias of {target}; choose another name, or remove it with: edgesdk rm {name}"
        )
    return folder


def names() -> list[str]:
    """The names of all bundles on the shelf, sorted."""
    try:
        found = [entry.name for entry in os.scandir(shelf_folder()) if is_name(entry.name)]
    except OSError:  # no shelf yet, or none that may be read
        return []
    return sorted(name for name in found if is_bundle(shelf_folder() / name))


def on_shelf(name: str) -> Path | None:
    """The folder of the bundle that a name or an alias stands for, in any case; None where there is none.

    Raises:
        BundleError: no bundle has the name, and the aliases cannot be read.
    """
    name = name.lower()
    if not is_name(name):
        return None
    folder = shelf_folder()
    if not is_bundle(folder / name):  # who was replacing it may have been killed between two renames
        sweep_drafts(folder)
    if is_bundle(folder / name):
        return folder / name
    target = read_aliases(folder).get(name)
    return folder / target if target is not None and is_bundle(folder / target) else None


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
    shelved = on_shelf(text)
    if shelved is not None:
        if not exists:
            return Found(shelved)
        if is_bundle(path):
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


def is_bundle(folder: Path) -> bool:
    """Whether a folder has a manifest, whatever that says."""
    return os.path.isfile(folder / MANIFEST_NAME)  # which, unlike Path's, never raises


def _what_to_type(text: str) -> str:
    there = names()
    shown = ", ".join(there[:_MOST_NAMED]) + (", ..." if len(there) > _MOST_NAMED else "")
    kept = f"the shelf {shelf_folder()} has {shown}" if there else f"the shelf {shelf_folder()} is empty"
    missing = text.lower().endswith(".gguf")
    if text.lower() == DEMO_NAME or (_HUB_ID.fullmatch(text) and not missing):
        how = f"edgesdk pull {text[:_SHOWN]}"
    else:
        how = f"edgesdk pull SOURCE --name {text if is_name(text) and not missing else 'NAME'}"
    return f"{kept}; get one with: {how}"
