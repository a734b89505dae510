"""A checkpoint as the shelf can know it again: what it is called there, and which bundle was made from it.

A bundle is known by what its manifest says of its source: the digests of the weights, or hub id and revision.
A checkpoint whose weights have changed is another one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import click

from edgesdk.bundle import shelf
from edgesdk.bundle.checked_json import read_checked, write_checked
from edgesdk.bundle.integrity import cache_folder, fingerprint
from edgesdk.bundle.manifest import MANIFEST_NAME, Manifest
from edgesdk.bundle.reader import open_bundle
from edgesdk.bundle.shelf_models import making
from edgesdk.errors import BundleError

SHORT_NAMES = {shelf.DEMO_NAME: "smollm2-135m"}
"""Named models by the names that their bundles have."""

_RESHAPING = {"skip_layers", "repair_stack", "prune_head"}
_CONFIG = "config.json"
_GGUF = re.compile(r"[-_.]gguf$", re.IGNORECASE)
_RECORD_LIMIT_BYTES = 1 << 20


class ShelvedSource:
    """A checkpoint that is converted once.

    Attributes:
        text: what `convert` takes.
        revision: of a hub id, where one was given.
        base: what a bundle of it may be called.
    """

    def __init__(
        self,
        text: str,
        base: str,
        *,
        files: Sequence[Path] = (),
        sha256: str | None = None,
        revision: str | None = None,
    ) -> None:
        """Describes a checkpoint; `of` finds out.

        Args:
            text: what `convert` takes.
            base: what a bundle of it may be called.
            files: of its weights, where they lie here.
            sha256: of its only file, of a named model.
            revision: of a hub id, where one was given.
        """
        self.text, self.base, self.revision = text, base, revision
        self._files, self._sha256 = files, sha256

    @classmethod
    def of(cls, model: str) -> Self | None:
        """The checkpoint that a user has named; None for what is none.

        Args:
            model: a `.gguf` file or the first part of one, a folder in Hugging Face's layout, a named model,
                or a hub id, `owner/name[:QUANTISATION][@REVISION]`.
        """
        from edgesdk_converters.checkpoints.fetch_hub import is_hub_id
        from edgesdk_converters.checkpoints.fetch_hub_gguf import split_quantised
        from edgesdk_converters.checkpoints.gguf_parts import model_name, part_paths
        from edgesdk_converters.checkpoints.named_models import NAMED_MODELS

        path = Path(model)
        if os.path.isfile(model):
            is_gguf = path.suffix.lower() == ".gguf"
            files = tuple(filter(os.path.isfile, part_paths(path)))  # what is missing, its reader names
            return cls(model, model_name(path.resolve().name), files=files) if is_gguf else None
        if os.path.isdir(model):
            whole = os.path.isfile(path / _CONFIG) and not os.path.isfile(path / MANIFEST_NAME)
            files = tuple(sorted(path.glob("*.safetensors")))
            return cls(model, path.resolve().name, files=files) if whole else None
        if model in NAMED_MODELS:
            return cls(model, model, sha256=NAMED_MODELS[model].sha256)
        name, _, revision = model.partition("@")
        if os.path.lexists(model) or (":" not in name and name.lower().endswith(".gguf")):
            return None
        quantised = split_quantised(name)
        if quantised is not None:
            hub_id, quantisation = quantised[0], quantised[1].upper()
            base = f"{_GGUF.sub('', hub_id.rpartition('/')[2])}-{quantisation}"
            return cls(f"{hub_id}:{quantisation}", base, revision=revision or None)
        if is_hub_id(name):
            return cls(name, name.rpartition("/")[2], revision=revision or None)
        return None

    def kept(self, recipes: Collection[str]) -> Path | None:
        """The bundle on the shelf that was made from it, whole and with these recipes."""
        return next(
            (shelf.place(name) for name in shelf.names() if self.made(shelf.place(name), recipes)), None
        )

    def made(self, bundle: Path, recipes: Collection[str]) -> bool:
        """Whether a bundle was made from it, whole and with these recipes.

        Args:
            bundle: its folder; a damaged one is no such bundle, and its own user will hear of that.
            recipes: names.
        """
        with contextlib.suppress(BundleError):
            manifest = open_bundle(bundle).manifest
            return _is_plain(manifest, recipes) and self._is_source_of(manifest)
        return False

    def name(self, *more: str) -> str:
        """What a bundle of it is called.

        Args:
            more: what the name says beside source and revision.
        """
        return shelf.make_name(self.base, *filter(None, [self.revision]), *more)

    def new_name(self, *more: str) -> str:
        """The same, or another where something of that name is on the shelf."""
        name = self.name(*more)
        if os.path.lexists(shelf.place(name)):
            # Of another file of the same name, or of this one as it was: both stay.
            digest = self._sha256 or "".join(self._digests().values()) or f"{self.text}@{self.revision}"
            name = shelf.make_name(self.base, hashlib.sha256(digest.encode()).hexdigest()[:8], *more)
        return name

    def newer_than(self, bundle: Path) -> bool:
        """Whether what stands beside the weights of a folder was written after the bundle."""
        folder = Path(self.text)
        if not os.path.isdir(folder) or not self._files:
            return False
        beside = [*folder.glob("*.json"), *folder.glob("*.jinja")]
        made_ns = (bundle / MANIFEST_NAME).stat().st_mtime_ns
        return any(path.stat().st_mtime_ns > made_ns for path in beside)

    def _is_source_of(self, manifest: Manifest) -> bool:
        source = manifest.source
        recorded = {file.name: file.sha256 for file in source.files}
        if self._sha256 is not None:
            return list(recorded.values()) == [self._sha256]
        if not self._files:
            kind = "gguf" if ":" in self.text else "huggingface"
            same = source.kind == kind and source.location == self.text
            return same and self.revision in (None, source.revision)
        sizes = sorted(file.size_bytes for file in source.files)
        if sizes != sorted(path.stat().st_size for path in self._files):
            return False
        return sorted(recorded.values()) == sorted(self._digests().values())

    def _digests(self) -> Mapping[str, str]:
        return {path.name: _digest(path) for path in self._files}


@contextmanager
def making_alone(name: str) -> Iterator[Path]:
    """Makes the bundle of a name while no other process does; waits for one that does.

    Raises:
        BundleError: no model may be called so.
    """

    def waiting() -> None:
        click.echo(f"another process is making {name}; waiting for it", err=True)

    with making(name, waiting) as folder:
        yield folder


def _is_plain(manifest: Manifest, recipes: Collection[str]) -> bool:
    """Whether nothing was left out of a bundle, and the recipes are in it."""
    done = {record.name for variant in manifest.variants for record in variant.transforms}
    made = {variant.recipe for variant in manifest.variants}
    return manifest.vocabulary is None and not done & _RESHAPING and set(recipes) <= made


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
