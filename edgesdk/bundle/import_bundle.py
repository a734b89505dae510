"""Puts a bundle from elsewhere onto the shelf: a folder, or a zip of one, such as a user chooses in an app.

What comes is a stranger's. The manifest is read first and checked as when a bundle is opened; then the files
that it lists, no others, are copied, each no further than its manifest says, and compared with their digests
on the way. The bundle appears on the shelf whole or not at all (`BundleWriter`). It does not run it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edgesdk.bundle import shelf
from edgesdk.bundle.integrity import forget
from edgesdk.bundle.manifest import MANIFEST_NAME, FileRecord, Manifest
from edgesdk.bundle.model_names import make_name
from edgesdk.bundle.reader import MANIFEST_LIMIT_BYTES, Bundle, open_bundle
from edgesdk.bundle.shelf_models import making
from edgesdk.bundle.writer import BundleWriter
from edgesdk.errors import BundleError, first_line, quoted

_PIECE_BYTES = 1 << 20
_MOST_ENTRIES = 10_000
"""Of a zip: its list is read as a whole."""

_LARGEST_LIST_BYTES = 8 << 20
"""Of a zip's list of entries, which zipfile reads whole before it counts them."""
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Others take as much memory as a stranger's header says."""

_UNREADABLE = (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)
"""What zipfile raises for damaged entries, unknown compression and passwords."""

_Open = Callable[[str], IO[bytes]]


@dataclass(frozen=True)
class ImportProgress:
    """How far an import is.

    Attributes:
        name: the file that is copied.
        done_bytes: copied so far.
        total_bytes: of all files.
    """

    name: str
    done_bytes: int
    total_bytes: int

    @property
    def share(self) -> float:
        """Of the whole, 0 to 1."""
        return self.done_bytes / self.total_bytes if self.total_bytes else 1.0


def import_bundle(
    source: str | Path,
    name: str | None = None,
    *,
    replace: bool = False,
    report: Callable[[ImportProgress], None] | None = None,
) -> Path:
    """Copies a bundle onto the shelf and compares every file with its digest.

    Args:
        source: a bundle's folder, or a `.zip` with one, at its top or in one folder.
        name: what it is called on the shelf; None for one made from the name of `source`.
        replace: take the place of what has the name.
        report: told how far it is, after every piece of at most 1 MiB. What it raises ends the import, which
            leaves nothing.

    Returns:
        Its folder; `edgesdk.load` takes the folder or the name.

    Raises:
        BundleError: it is no bundle or is damaged, something else has the name, or the shelf cannot be
            written.
    """
    path = Path(source)
    called = make_name(path.stem if path.suffix.lower() == ".zip" else path.resolve().name)
    called = called if name is None else name.lower()
    with _opened(path) as (manifest, open_file), making(called, _busy(called)) as place:
        if shelf.is_bundle(place) and not replace:
            raise BundleError(f"{called} is on the shelf; give another name, or ask to replace it")
        with BundleWriter(place, overwrite=replace) as writer:
            done = 0
            total = sum(record.size_bytes for record in manifest.files.values())
            free = shutil.disk_usage(place.parent).free
            if total > free:  # of a zip, that is what it may grow to
                raise BundleError(
                    f"the manifest lists files of {quoted(total)} bytes, {place.parent} has room for {free}; "
                    "make room, or copy the bundle again"
                )
            for file, record in sorted(manifest.files.items()):
                with open_file(file) as stream, writer.path(file).open("wb") as target:
                    for size in _copy(stream, target, file, record):
                        done += size
                        if report is not None:
                            report(ImportProgress(file, done, total))
            finished = writer.finish(manifest)
    forget(finished)
    return finished


def _busy(name: str) -> Callable[[], None]:
    def refuse() -> None:
        raise BundleError(f"another process is making {name}; wait until it is done, or give another name")

    return refuse


def _copy(stream: IO[bytes], target: IO[bytes], name: str, record: FileRecord) -> Iterator[int]:
    """Copies a file, and yields the size of every piece; at the end its size and digest are compared."""
    digest, left = hashlib.sha256(), record.size_bytes
    while True:
        try:
            piece = stream.read(min(_PIECE_BYTES, left + 1))
        except _UNREADABLE as error:
            raise BundleError(f"{name} cannot be read: {first_line(error)}; copy the bundle again") from error
        left -= len(piece)
        if left < 0 or (not piece and left > 0):
            found = "more than" if left < 0 else f"{record.size_bytes - left} of"
            raise BundleError(
                f"{name} has {found} the {record.size_bytes} bytes that its manifest says; copy "
                "the bundle again"
            )
        if not piece:
            break
        digest.update(piece)
        target.write(piece)
        yield len(piece)
    if digest.hexdigest() != record.sha256.lower():
        raise BundleError(
            f"{name} is damaged: sha256 {digest.hexdigest()[:12]}..., expected {record.sha256[:12]}...; copy "
            "the bundle again"
        )


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Manifest, _Open]]:
    if path.suffix.lower() == ".zip" and path.is_file():
        with _opened_zip(path) as found:
            yield found
        return
    bundle = open_bundle(path)
    yield bundle.manifest, lambda name: _open_plain(bundle, name)


def _open_plain(bundle: Bundle, name: str) -> IO[bytes]:
    file = bundle.file(name)
    try:
        return file.open("rb")
    except OSError as error:
        raise BundleError(f"{name} in {bundle.path} cannot be read: {error.strerror or error}") from error


class _ZipFile(io.FileIO):
    """A zip, of which no more than `_LARGEST_LIST_BYTES` is read at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        """As a file's.

        Raises:
            BadZipFile: that is more than the list of any bundle's files takes.
        """
        asked = _LARGEST_LIST_BYTES + 1 if size is None or size < 0 else size
        data = b"" if asked > _LARGEST_LIST_BYTES + 1 else super().read(asked)
        if max(asked if size == asked else 0, len(data)) > _LARGEST_LIST_BYTES:
            raise zipfile.BadZipFile(f"its list of files has more than {_LARGEST_LIST_BYTES >> 20} MiB")
        return data


@contextmanager
def _opened_zip(path: Path) -> Iterator[tuple[Manifest, _Open]]:
    with contextlib.ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(stack.enter_context(_ZipFile(path))))
        except (*_UNREADABLE, ValueError) as error:
            raise BundleError(f"{path} is no zip that can be read: {first_line(error)}") from error
        entries = archive.infolist()
        if len(entries) > _MOST_ENTRIES:
            raise BundleError(f"{path} has {len(entries)} entries, expected at most {_MOST_ENTRIES}")
        top = _top_of(path, [entry.filename for entry in entries])
        found = {entry.filename: entry for entry in entries}

        def open_file(name: str) -> IO[bytes]:
            entry = found.get(top + name)
            if entry is None:
                raise BundleError(
                    f"{path} lacks {quoted(name)}, which its manifest lists; make the zip again"
                )
            if stat.S_ISLNK(entry.external_attr >> 16):
                raise BundleError(f"{quoted(name)} in {path} is a link; a bundle holds plain files")
            if entry.compress_type not in _COMPRESSIONS:
                raise BundleError(
                    f"{quoted(name)} in {path} is compressed in a way that is not read; make the zip again "
                    "with deflate"
                )
            try:
                return archive.open(entry)
            except _UNREADABLE as error:
                raise BundleError(f"{name} in {path} cannot be read: {first_line(error)}") from error

        yield _manifest_of(path, open_file), open_file


def _top_of(path: Path, names: list[str]) -> str:
    """What stands before the names of a bundle's files in a zip: nothing, or one folder."""
    tops = [name.removesuffix(MANIFEST_NAME) for name in names if name.rpartition("/")[2] == MANIFEST_NAME]
    found = [top for top in tops if top.count("/") <= 1 and not top.startswith("/")]
    if len(found) != 1:
        what = f"{len(found)} bundles" if found else f"no {MANIFEST_NAME}"
        raise BundleError(f"{path} has {what}; expected a zip of one bundle, as `edgesdk convert` writes it")
    return found[0]


def _manifest_of(path: Path, open_file: _Open) -> Manifest:
    """Checked as that of a folder, in a folder that has nothing else."""
    with open_file(MANIFEST_NAME) as stream, tempfile.TemporaryDirectory() as folder:
        try:
            text = stream.read(MANIFEST_LIMIT_BYTES + 1)
        except _UNREADABLE as error:
            raise BundleError(f"{MANIFEST_NAME} in {path} cannot be read: {first_line(error)}") from error
        (Path(folder) / MANIFEST_NAME).write_bytes(text)
        try:
            return open_bundle(folder).manifest
        except BundleError as error:
            raise BundleError(str(error).replace(folder, str(path))) from error
