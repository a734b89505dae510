"""Checks what the files of a variant hold and refer to, before any runtime opens one of them.

A bundle is untrusted, and runtimes are not: they load native libraries, other files and settings that a
model or a configuration names, and some end the process on a damaged file. Digests do not help against a
bundle that was made so. What was found right is remembered by the digests of its files, in the user's cache,
for the variants that were opened last; `load` compares these digests first.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import PurePosixPath

from edgesdk.backends.opened import Opened, OpenRequest
from edgesdk.bundle.adapter_record import ADAPTER_FILE_END
from edgesdk.bundle.drafts import is_draft
from edgesdk.bundle.manifest import Variant
from edgesdk.bundle.passed_checks import has_passed, remember_passed
from edgesdk.bundle.reader import Bundle
from edgesdk.bundle.step_contract import step_contracts

_VERSION = 6
"""To be raised with every change of a check, so that what passed before is checked again."""


def checked(open_variant: Callable[[OpenRequest], Opened]) -> Callable[[OpenRequest], Opened]:
    """The same way to open variants, behind `check_variant`; every row of the registry has it or the next."""

    @functools.wraps(open_variant)
    def check_and_open(request: OpenRequest) -> Opened:
        request.expect_whole()
        check_variant(request.bundle, request.variant)
        return open_variant(request)

    return check_and_open


def checked_beside(open_variant: Callable[[OpenRequest], Opened]) -> Callable[[OpenRequest], Opened]:
    """The same for one that opens files while their digests are still being compared.

    It calls `expect_whole` before it gives or keeps anything. What is checked here is then the bytes that
    are there, not what is remembered of their digests.
    """
    in_turn = checked(open_variant)

    @functools.wraps(open_variant)
    def check_and_open(request: OpenRequest) -> Opened:
        if request.compared:
            return in_turn(request)
        _check_files(request.bundle, request.variant)
        opened = open_variant(request)
        _remember(request.bundle, request.variant)
        return opened

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
    if not has_passed("checked", _key(bundle, variant)):
        _check_files(bundle, variant)
        _remember(bundle, variant)


def _check_files(bundle: Bundle, variant: Variant) -> None:
    check_references(bundle, variant)
    if variant.format == "litert":
        from edgesdk.backends.litert.check_litert_file import check_litert_file
        from edgesdk.backends.litert.check_signature import LitertContract

        contracts = step_contracts(bundle.manifest, variant)
        vocab_size = bundle.manifest.decoder_of(variant).vocab_size
        contract = LitertContract(contracts, variant.steps, vocab_size, variant.context)
        check_litert_file(bundle.file(variant.entry), contract)


def _remember(bundle: Bundle, variant: Variant) -> None:
    if not is_draft(bundle.path):  # of a draft nothing may be left should it fail
        remember_passed("checked", _key(bundle, variant))


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
        from edgesdk.backends.onnx_adapter_file import read_onnx_adapter

        for name in beside:
            path = bundle.file(str(folder / name))
            if name.endswith(".onnx"):
                check_onnx_file(path, beside, compiled=variant.format == "onnx-context")
            elif name.endswith(ADAPTER_FILE_END):
                read_onnx_adapter(path)
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


def _key(bundle: Bundle, variant: Variant) -> str:
    """Everything that the checks depend on, hashed."""
    vocab_size = bundle.manifest.decoder_of(variant).vocab_size
    listed = bundle.manifest.files
    files = sorted((name, listed[name].sha256, listed[name].size_bytes) for name in _files(bundle, variant))
    kind = (_VERSION, variant.format, variant.entry, variant.context, vocab_size, variant.steps)
    contracts = step_contracts(bundle.manifest, variant)
    return hashlib.sha256(repr((kind, contracts, files)).encode()).hexdigest()
