"""What onnxruntime-genai gets to see of a variant: a folder of our own with our configuration.

The runtime loads native libraries, other models and profiles that its configuration names. So the one in the
bundle is only compared with what the manifest says, key by key, and refused where it holds more; the one
that is read is made here. The folder has links to the model and its data, and nothing else of the bundle.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath

from edgesdk.bundle.drafts import scratch_folder
from edgesdk.bundle.genai_config import GENAI_CONFIG_NAME, genai_config
from edgesdk.bundle.manifest import Variant
from edgesdk.bundle.read_json import read_json
from edgesdk.bundle.reader import Bundle
from edgesdk.bundle.records import JsonValue
from edgesdk.bundle.write_file import write_file
from edgesdk.errors import BundleError, DeviceError

_LIMIT_BYTES = 1 << 16
_ENDS = "model.eos_token_id"
"""One number, or a list of them."""


def check_genai_config(bundle: Bundle, variant: Variant) -> None:
    """Refuses a configuration in the bundle that says more, or other names, than we would write.

    Raises:
        BundleError: it has a key that no bundle of ours has, a name that differs, or cannot be read.
    """
    name = str(PurePosixPath(variant.entry).parent / GENAI_CONFIG_NAME)
    if name not in bundle.manifest.files:
        return
    path = bundle.file(name)
    found = read_json(path, name, _LIMIT_BYTES)
    _compare(found, _config(bundle, variant), "", name)


@contextmanager
def genai_folder(bundle: Bundle, variant: Variant) -> Iterator[Path]:
    """A folder for onnxruntime-genai, which needs it until the model is loaded.

    Args:
        bundle: the bundle.
        variant: a resident one, already checked.

    Raises:
        DeviceError: the folder cannot be made.
    """
    entry = PurePosixPath(variant.entry)
    listed = [name for name in bundle.manifest.files if PurePosixPath(name).parent == entry.parent]
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(scratch_folder()) / variant.name
            folder.mkdir()
            for name in listed:
                if name == variant.entry or name.endswith(".data"):
                    _reach(bundle.file(name), folder / PurePosixPath(name).name)
            write_file(folder / GENAI_CONFIG_NAME, json.dumps(_config(bundle, variant)))
        except OSError as error:
            reason = error.strerror or error
            raise DeviceError(f"no folder can be made for onnxruntime-genai: {reason}") from error
        yield folder


def _config(bundle: Bundle, variant: Variant) -> dict[str, JsonValue]:
    manifest = bundle.manifest
    return genai_config(
        PurePosixPath(variant.entry).name,
        manifest.decoder_of(variant),
        variant.context,
        manifest.tokenizer,
        manifest.generation,
    )


def _compare(found: object, ours: JsonValue, place: str, name: str) -> None:
    """Numbers may differ, as they do in bundles of other versions; keys, kinds and texts may not."""
    if isinstance(ours, dict):
        if not isinstance(found, dict):
            raise BundleError(f"{name} has no object at {place or 'its top'}; convert the bundle again")
        for key, value in found.items():
            inner = f"{place}.{key}".removeprefix(".")
            if key not in ours:
                raise BundleError(
                    f"{name} sets {inner[:80]!r}, which no bundle of edgesdk does; it is not handed to "
                    "onnxruntime-genai, convert the bundle again"
                )
            _compare(value, ours[key], inner, name)
        return
    if place == _ENDS and isinstance(found, list):
        fits = all(_is_number(value) for value in found)
    elif isinstance(ours, bool | str | list):
        fits = found == ours if not isinstance(ours, bool) else isinstance(found, bool)
    else:
        fits = _is_number(found)
    if not fits:
        expected = "a number" if not isinstance(ours, bool | str | list) else repr(ours)
        raise BundleError(f"{name} has {str(found)[:60]!r} at {place}, expected {expected}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _reach(source: Path, target: Path) -> None:
    """Makes a file reachable under another name, without copying it where that can be done.

    A symbolic link first: a hard one changes what the file system says of the file, for which its digest
    would be computed anew.
    """
    for link in (os.symlink, os.link):
        try:
            link(source, target)
            return
        except OSError:  # Windows asks for a right to make the first, file systems differ for the second
            continue
    shutil.copyfile(source, target)
