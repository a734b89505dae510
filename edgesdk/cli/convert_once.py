"""A model by whatever the user calls it: a bundle's path or name, or a checkpoint, which is converted once.

A checkpoint's bundle stays on the shelf under a name made from source and recipe, and is found again by
what its manifest says of its source: the digests of the weights, or hub id and revision. A checkpoint whose
weights have changed is another one and is kept beside the first.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from edgesdk.bundle import shelf
from edgesdk.bundle.checked_json import read_checked, write_checked
from edgesdk.bundle.integrity import cache_folder, fingerprint
from edgesdk.bundle.manifest import MANIFEST_NAME, Manifest
from edgesdk.bundle.printable import printable
from edgesdk.bundle.reader import open_bundle
from edgesdk.cli.convert import converters_installed
from edgesdk.cli.options import find_bundle
from edgesdk.cli.progress_line import ProgressLine
from edgesdk.errors import BundleError

RECIPE = "w8-round"
"""Quick; `edgesdk convert` calibrates, which loses half as much and takes minutes."""

_RESHAPING = {"skip_layers", "repair_stack", "prune_head"}
_CONFIG = "config.json"
_RECORD_LIMIT_BYTES = 1 << 20


def find_or_convert(model: str) -> Path:
    """The folder of a bundle, which is made if `model` is a checkpoint that never was converted.

    Args:
        model: a bundle's path or name, a `.gguf` file, a folder in Hugging Face's layout, a named model, or
            a hub id, `owner/name` or `owner/name@revision`.

    Raises:
        BundleError: it is none of these, or the bundle cannot be written.
        CheckpointError, TransformError, EmitError: the checkpoint cannot be converted; nothing is left.
        MissingExtra: a package that conversion needs is missing; the message names the command.
    """
    with converters_installed():
        source = _Source.of(model)
    if source is None:
        missing = not os.path.lexists(model) and model not in shelf.names()
        if missing and model.lower().endswith(".gguf"):
            raise BundleError(f"there is no file {printable(model[:300])}; give the path of a .gguf file")
        return find_bundle(model)
    kept = source.kept()
    if kept is not None and not source.newer_than(kept):
        click.echo(f"{model} was converted before: it is {kept.name}", err=True)
        return kept
    return _convert(model, source, kept or source.new_place())


class _Source:
    """A checkpoint as the shelf can know it again.

    Attributes:
        text: what `convert` takes.
        revision: of a hub id, where one was given.
    """

    def __init__(self, text: str, files: Sequence[Path], sha256: str | None, revision: str | None) -> None:
        self.text, self.revision = text, revision
        self._files, self._sha256 = files, sha256

    @classmethod
    def of(cls, model: str) -> _Source | None:
        """None for what is no checkpoint, or is on the shelf under that very name."""
        from edgesdk_converters.checkpoints.fetch_hub import is_hub_id
        from edgesdk_converters.checkpoints.named_models import NAMED_MODELS

        path = Path(model)
        if os.path.isfile(model):
            return cls(model, (path,), None, None) if path.suffix.lower() == ".gguf" else None
        if model in shelf.names():
            return None
        if os.path.isdir(model):
            whole = os.path.isfile(path / _CONFIG) and not os.path.isfile(path / MANIFEST_NAME)
            return cls(model, tuple(sorted(path.glob("*.safetensors"))), None, None) if whole else None
        if model in NAMED_MODELS:
            return cls(model, (), NAMED_MODELS[model].sha256, None)
        name, _, revision = model.partition("@")
        if is_hub_id(name) and not name.endswith(".gguf") and not os.path.lexists(model):
            return cls(name, (), None, revision or None)
        return None

    def kept(self) -> Path | None:
        """The bundle on the shelf that was made from it, whole and with this recipe."""
        for name in shelf.names():
            with contextlib.suppress(BundleError):  # a damaged one, which its own user will hear of
                manifest = open_bundle(shelf.place(name)).manifest
                if _is_plain(manifest) and self._is_source_of(manifest):
                    return shelf.place(name)
        return None

    def newer_than(self, bundle: Path) -> bool:
        """Whether what stands beside the weights of a folder was written after the bundle."""
        folder = Path(self.text)
        if not os.path.isdir(folder) or not self._files:
            return False
        beside = [*folder.glob("*.json"), *folder.glob("*.jinja")]
        made_ns = (bundle / MANIFEST_NAME).stat().st_mtime_ns
        return any(path.stat().st_mtime_ns > made_ns for path in beside)

    def new_place(self) -> Path:
        """A folder on the shelf that holds nothing yet."""
        base = Path(self.text).resolve().name if self._files else self.text.rpartition("/")[2]
        base = base[: -len(".gguf")] if base.lower().endswith(".gguf") else base
        name = shelf.make_name(base, *filter(None, [self.revision]), RECIPE)
        if os.path.lexists(shelf.place(name)):
            # Of another file of the same name, or of this one as it was: both stay.
            digest = self._sha256 or "".join(self._digests().values()) or f"{self.text}@{self.revision}"
            name = shelf.make_name(base, hashlib.sha256(digest.encode()).hexdigest()[:8], RECIPE)
        return shelf.place(name)

    def _is_source_of(self, manifest: Manifest) -> bool:
        source = manifest.source
        recorded = {file.name: file.sha256 for file in source.files}
        if self._sha256 is not None:
            return list(recorded.values()) == [self._sha256]
        if not self._files:
            same = source.kind == "huggingface" and source.location == self.text
            return same and self.revision in (None, source.revision)
        sizes = sorted(file.size_bytes for file in source.files)
        if sizes != sorted(path.stat().st_size for path in self._files):
            return False
        return sorted(recorded.values()) == sorted(self._digests().values())

    def _digests(self) -> Mapping[str, str]:
        return {path.name: _digest(path) for path in self._files}


def _is_plain(manifest: Manifest) -> bool:
    """Whether a bundle is what this module would have made: nothing left out, and the recipe in it."""
    done = {record.name for variant in manifest.variants for record in variant.transforms}
    recipes = {variant.recipe for variant in manifest.variants}
    return manifest.vocabulary is None and not done & _RESHAPING and RECIPE in recipes


def _convert(model: str, source: _Source, folder: Path) -> Path:
    with converters_installed():
        from edgesdk_converters.convert import ConvertOptions, convert

        click.echo(
            f"{model} is converted with recipe {RECIPE} and kept as {folder.name} "
            "(`edgesdk convert` calibrates, which is slower and better)",
            err=True,
        )
        options = ConvertOptions(recipes=(RECIPE,), overwrite=True)
        with ProgressLine() as line:
            return convert(source.text, folder, options, revision=source.revision, report=line)


def _digest(path: Path) -> str:
    """sha256 of a file, remembered with what the file system says of it."""
    key = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]
    record = cache_folder() / "sources" / f"{key}.json"
    known = read_checked(record, _RECORD_LIMIT_BYTES)
    if (
        isinstance(known, list)
        and known
        and isinstance(known[-1], str)
        and known == fingerprint(path, known[-1])
    ):
        return known[-1]
    from edgesdk_converters.checkpoints.digests import describe_file

    before = fingerprint(path, "")[:-1]
    found = describe_file(path).sha256
    with contextlib.suppress(OSError):  # a cache that cannot be written means hashing again
        write_checked(record, [*before, found])
    return found
