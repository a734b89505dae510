"""Checks what the files of a variant hold and refer to, before any runtime opens one of them.

A bundle is untrusted, and runtimes are not: they load native libraries, other files and settings that a
model or a configuration names, and some end the process on a damaged file. Digests do not help against a
bundle that was made so. What was found right is remembered by the digests of its files, in the user's cache,
for the variants that were opened last; `load` compares these digests first.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from edgesdk.backends.opened import Opened, OpenRequest
from edgesdk.bundle.drafts import is_draft
from edgesdk.bundle.integrity import cache_folder
from edgesdk.bundle.keep_newest import MOST_RECORDS, keep_newest
from edgesdk.bundle.manifest import Variant
from edgesdk.bundle.reader import Bundle

_VERSION = 2
"""To be raised with every change of a check, so that what passed before is checked again."""


def checked(open_variant: Callable[[OpenRequest], Opened]) -> Callable[[OpenRequest], Opened]:
    """The same way to open variants, behind `check_variant`; every row of the registry has it."""

    @functools.wraps(open_variant)
    def check_and_open(request: OpenRequest) -> Opened:
        check_variant(request.bundle, request.variant)
        return open_variant(request)

    return check_and_open


def check_variant(bundle: Bundle, variant: Variant) -> None:
    """Checks all files of a variant, once for the same bytes.

    Args:
        bundle: its bundle, whose digests were compared with its files.
        variant: one of its variants.

    Raises:
        BundleError: a file is damaged, or holds or names what no bundle of edgesdk does.
        DeviceError: a file has other inputs or outputs than the manifest says.
    """
    marker = _marker(bundle, variant)
    if marker is not None and _is_there(marker):
        return
    check_references(bundle, variant)
    if variant.format == "litert":
        from edgesdk.backends.litert.check_litert_file import check_litert_file
        from edgesdk.backends.litert.step_contract import LitertContract

        spec = bundle.manifest.decoder_of(variant)
        contract = LitertContract(spec, variant.steps, variant.cell_type, variant.context)
        check_litert_file(bundle.file(variant.entry), contract)
    if marker is None or is_draft(bundle.path):  # of a draft nothing may be left should it fail
        return
    with contextlib.suppress(OSError):  # then it is checked again
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
        keep_newest(marker.parent, most=MOST_RECORDS)


def check_references(bundle: Bundle, variant: Variant) -> None:
    """Checks what the files of a variant refer to, and reads no weight.

    Raises:
        BundleError: one names a file that the manifest does not list, or something that no bundle of edgesdk
            does.
    """
    beside = _beside(bundle, variant)
    folder = PurePosixPath(variant.entry).parent
    if variant.format.startswith("onnx"):
        from edgesdk.backends.check_onnx_file import check_onnx_file
        from edgesdk.backends.genai_folder import check_genai_config

        for name in beside:
            path = bundle.file(str(folder / name))
            if name.endswith(".onnx"):
                check_onnx_file(path, beside, compiled=variant.format == "onnx-context")
        check_genai_config(bundle, variant)
    elif variant.format.startswith("coreml"):
        from edgesdk.backends.coreml.check_package import check_package

        for name in _files(bundle, variant):
            if name.endswith(".mlpackage/Manifest.json"):
                check_package(bundle.file(name))


def _beside(bundle: Bundle, variant: Variant) -> dict[str, int]:
    """Size of every listed file in the folder of the entry, by name."""
    folder = PurePosixPath(variant.entry).parent
    listed = ((PurePosixPath(name), record) for name, record in bundle.manifest.files.items())
    return {path.name: record.size_bytes for path, record in listed if path.parent == folder}


def _files(bundle: Bundle, variant: Variant) -> list[str]:
    """Names of the listed files of a variant: below the folder of its entry, or around its package."""
    folder = PurePosixPath(variant.entry).parent
    if folder.suffix == ".mlpackage":
        folder = folder.parent
    return [name for name in bundle.manifest.files if PurePosixPath(name).is_relative_to(folder)]


def _is_there(marker: Path) -> bool:
    """Whether the check has passed before; it is as good as new then."""
    try:
        os.utime(marker)
    except FileNotFoundError:
        return False
    except OSError:  # of another user, or on a disk that is only read
        return marker.exists()
    return True


def _marker(bundle: Bundle, variant: Variant) -> Path | None:
    """A file that is there once the check has passed; None for a user without a cache."""
    try:
        return cache_folder() / "checked" / _key(bundle, variant)
    except FileNotFoundError:
        return None


def _key(bundle: Bundle, variant: Variant) -> str:
    """Everything that the checks depend on, hashed."""
    spec = bundle.manifest.decoder_of(variant)
    listed = bundle.manifest.files
    files = sorted((name, listed[name].sha256, listed[name].size_bytes) for name in _files(bundle, variant))
    sizes = (spec.vocab_size, spec.head_rows, spec.heads, spec.kv_heads, spec.head_size, len(spec.layers))
    step = [(s.tokens, s.cells, s.rows, s.signature) for s in variant.steps]
    kind = (_VERSION, variant.format, variant.entry, variant.context, variant.cell_type, spec.window)
    return hashlib.sha256(repr((kind, sizes, step, files)).encode()).hexdigest()
