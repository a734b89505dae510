"""What is on the shelf: every bundle with its aliases and its disk use; and taking one away.

A bundle that cannot be read is shown with the reason, and can be taken away like any other.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgesdk.bundle import shelf
from edgesdk.bundle.drafts import Draft, is_draft, sweep_drafts
from edgesdk.bundle.file_lock import FileLock
from edgesdk.bundle.integrity import forget
from edgesdk.bundle.manifest import MANIFEST_NAME, Manifest
from edgesdk.bundle.model_names import check_model_name
from edgesdk.bundle.reader import open_bundle
from edgesdk.bundle.shelf_aliases import change_aliases, read_aliases
from edgesdk.bundle.write_file import flush_folder
from edgesdk.errors import BundleError


@dataclass(frozen=True)
class ShelvedModel:
    """A bundle on the shelf.

    Attributes:
        name: its own.
        aliases: other names for it, sorted.
        path: its folder.
        size_bytes: of all files in the folder.
        made_ns: when it was finished, nanoseconds since 1970.
        manifest: what it says; None where that cannot be read.
        damage: why not; None where it can.
    """

    name: str
    aliases: tuple[str, ...]
    path: Path
    size_bytes: int
    made_ns: int
    manifest: Manifest | None
    damage: str | None = None


@dataclass(frozen=True)
class ShelfSpace:
    """Disk use of the shelf.

    Attributes:
        models_bytes: of all bundles.
        unfinished_bytes: of what other processes are writing.
        free_bytes: left on the disk; None where the system does not say.
    """

    models_bytes: int
    unfinished_bytes: int
    free_bytes: int | None


def shelved_models() -> list[ShelvedModel]:
    """All bundles on the shelf, by name. What killed processes left is removed first.

    Raises:
        BundleError: the aliases are damaged.
    """
    folder = shelf.shelf_folder()
    sweep_drafts(folder)
    aliases = read_aliases(folder)
    return [_describe(folder / name, aliases) for name in shelf.names()]


def shelved_model(name: str) -> ShelvedModel:
    """The bundle that a name or an alias stands for.

    Raises:
        BundleError: there is none; the message says which there are.
    """
    path = shelf.on_shelf(name)
    if path is None:
        there = ", ".join(shelf.names())
        raise BundleError(
            f"there is no model {check_model_name(name.lower())!r} on the shelf {shelf.shelf_folder()}; "
            + (f"it has: {there}" if there else "it is empty; get a model with: edgesdk pull smollm2")
        )
    return _describe(path, read_aliases(shelf.shelf_folder()))


def shelf_space(models: list[ShelvedModel]) -> ShelfSpace:
    """Disk use of the shelf.

    Args:
        models: all of it.
    """
    folder = shelf.shelf_folder()
    unfinished = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        unfinished = sum(_size(Path(entry.path)) for entry in entries if is_draft(Path(entry.name)))
    free: int | None = None
    for place in (folder, *folder.absolute().parents):
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(place).free
            break
    return ShelfSpace(sum(model.size_bytes for model in models), unfinished, free)


def set_alias(alias: str, name: str) -> str | None:
    """Lets an alias stand for a bundle on the shelf.

    Args:
        alias: a new name, or an alias that shall stand for another bundle.
        name: of a bundle, or another alias of it.

    Returns:
        What the alias stood for before; None if it is new.

    Raises:
        BundleError: there is no such bundle, or the alias is no name or that of a bundle.
        OSError: the shelf cannot be written.
    """
    check_model_name(alias)
    folder = shelf.shelf_folder()
    before: str | None = None

    def change(aliases: dict[str, str]) -> dict[str, str]:
        nonlocal before
        target = shelved_model(name).name
        if shelf.is_bundle(folder / alias):
            raise BundleError(f"{alias} is the name of a bundle on the shelf; choose another alias")
        before = aliases.get(alias)
        return {**aliases, alias: target}

    shelved_model(name)  # before the folder is written to, which may not be there
    change_aliases(folder, change)
    return before


def remove_model(name: str) -> ShelvedModel | None:
    """Takes a bundle off the shelf, with its aliases, or an alias alone.

    A process that has the bundle loaded goes on with it, except on Windows, which refuses.

    Args:
        name: of a bundle, or an alias.

    Returns:
        What was there; None where it was an alias, whose bundle stays.

    Raises:
        BundleError: there is neither, or another process is writing a bundle of that name.
        OSError: it cannot be removed; it is still there then.
    """
    name = check_model_name(name.lower())
    folder = shelf.shelf_folder()
    if not shelf.is_bundle(folder / name) and name in read_aliases(folder):
        change_aliases(folder, lambda aliases: {a: t for a, t in aliases.items() if a != name})
        return None
    model = shelved_model(name)

    def busy() -> None:
        raise BundleError(f"another process is making {name}; wait until it is done, or stop it")

    with making(model.name, busy):
        change_aliases(folder, lambda aliases: {a: t for a, t in aliases.items() if t != name})
        with Draft(folder) as draft:  # renamed at once: whoever looks meanwhile finds all of it or nothing
            model.path.rename(draft.path / "removed")
            flush_folder(folder)
    forget(model.path)
    return model


@contextmanager
def making(name: str, waiting: Callable[[], None]) -> Iterator[Path]:
    """Holds a name while its bundle is made or removed, so that no two processes do that at once.

    Args:
        name: of the bundle.
        waiting: called when another process holds it, before waiting; what it raises ends the wait.

    Yields:
        The folder of the name, whose parent is there; a shelf that is made here and stays empty goes again.

    Raises:
        BundleError: no model may be called so, the name is an alias, or the shelf cannot be written.
    """
    place = shelf.new_place(name)
    made = [folder for folder in place.parents if not folder.exists()]
    try:
        with contextlib.ExitStack() as held:
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                held.enter_context(FileLock(place.parent / f".edgesdk-{name}.making.lock", waiting))
            except OSError as error:
                raise BundleError(f"{place.parent} cannot be written: {error.strerror or error}") from error
            yield place
    finally:
        for folder in made:
            with contextlib.suppress(OSError):  # something is in it
                folder.rmdir()


def _describe(path: Path, aliases: dict[str, str]) -> ShelvedModel:
    manifest, damage = None, None
    try:
        manifest = open_bundle(path).manifest
    except BundleError as error:
        damage = str(error)
    made_ns = 0
    with contextlib.suppress(OSError):
        made_ns = (path / MANIFEST_NAME).stat().st_mtime_ns
    others = tuple(alias for alias, target in aliases.items() if target == path.name and alias != path.name)
    return ShelvedModel(path.name, others, path, _size(path), made_ns, manifest, damage)


def _size(folder: Path) -> int:
    """Bytes of all files below a folder, links not followed; of what goes meanwhile, nothing."""
    total = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    total += _size(Path(entry.path))
                else:
                    total += entry.stat(follow_symlinks=False).st_size
    return total
