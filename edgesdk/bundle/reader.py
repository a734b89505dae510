"""Opens a bundle: parses its manifest, checks it against itself, and hands out the files it lists.

It does not hash files (`integrity` does) and does not open models. A manifest is untrusted: it is
size-limited before it is parsed, and no name in it reaches the file system unchecked. Only files of the
kinds that a bundle holds may be listed (`file_kinds`), and none that is a link or no plain file.
"""

from __future__ import annotations

import json
import string
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from edgesdk.bundle.decoder_block import Block
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.drafts import sweep_drafts
from edgesdk.bundle.exit_record import ExitRecord
from edgesdk.bundle.file_kinds import check_kind, check_places
from edgesdk.bundle.manifest import (
    ID_MAP_NAME,
    MANIFEST_NAME,
    SCHEMA_VERSION,
    TOKENIZER_NAME,
    Manifest,
    Variant,
)
from edgesdk.bundle.names import check_name
from edgesdk.bundle.port import LARGEST_SIZE
from edgesdk.bundle.records import from_json
from edgesdk.bundle.stack_record import HIDDEN, StackRecord
from edgesdk.bundle.step_shape import MAIN
from edgesdk.bundle.stream_part import BELOW, TOP
from edgesdk.bundle.whole_text import WHOLE_TEXT_FORMATS
from edgesdk.errors import BundleError, first_line, quoted

MANIFEST_LIMIT_BYTES = 16 << 20
"""Far above any real manifest (tens of kilobytes), far below what hurts to parse."""


@dataclass(frozen=True)
class Bundle:
    """An opened bundle.

    Attributes:
        path: its folder.
        manifest: what it says about itself.
    """

    path: Path
    manifest: Manifest

    def file(self, name: str) -> Path:
        """The path of a listed file.

        Raises:
            BundleError: the manifest does not list it, it is absent, or it is a link or no plain file.
        """
        if name not in self.manifest.files:
            raise BundleError(f"{name!r} is not a file of the bundle {self.path}; see its {MANIFEST_NAME}")
        root = self.path.resolve()
        check_places(root, (name,))
        found = root / name
        if not found.is_file():
            raise BundleError(f"{self.path} lacks {name!r}, which it lists; copy or convert it again")
        return found

    def variant(self, name: str) -> Variant:
        """The variant of that name.

        Raises:
            BundleError: there is none; the message lists those there are.
        """
        for variant in self.manifest.variants:
            if variant.name == name:
                return variant
        names = ", ".join(v.name for v in self.manifest.variants) or "none"
        raise BundleError(f"{self.path} has no variant {name!r}; it has: {names}")

    def variant_bytes(self, variant: Variant) -> int:
        """Size of all files of one variant."""
        folder = f"{PurePosixPath(variant.entry).parent}/"
        files = self.manifest.files
        return sum(record.size_bytes for name, record in files.items() if name.startswith(folder))


def open_bundle(path: Path | str) -> Bundle:
    """Opens the bundle in the folder `path`.

    Raises:
        BundleError: there is no bundle, its schema is another, its manifest is damaged, or it lists what no
            bundle holds.
    """
    folder = Path(path)
    if not folder.exists():  # who was replacing it may have been killed between two renames
        sweep_drafts(folder.parent)
    document = _parse(folder)
    version = document.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool):
        raise BundleError(f"{folder / MANIFEST_NAME} has no schema_version; it is not an edgesdk manifest")
    if version > SCHEMA_VERSION:
        raise BundleError(
            f"{folder} has manifest schema {version}, this edgesdk reads {SCHEMA_VERSION}; upgrade edgesdk"
        )
    if version < SCHEMA_VERSION:
        raise BundleError(
            f"{folder} has manifest schema {version}, this edgesdk reads {SCHEMA_VERSION}; convert it again"
        )
    manifest = from_json(Manifest, document)
    _check(manifest)
    check_places(folder, manifest.files)
    return Bundle(folder, manifest)


def _parse(folder: Path) -> dict[str, object]:
    file = folder / MANIFEST_NAME
    check_places(folder, (MANIFEST_NAME,))
    if not file.is_file():  # a pipe is none, so nothing waits for one to be written
        what = f"has no {MANIFEST_NAME}" if folder.is_dir() else "is not a folder"
        raise BundleError(f"{folder} {what}; expected a bundle as `edgesdk convert` writes it")
    try:
        with file.open("rb") as stream:
            text = stream.read(MANIFEST_LIMIT_BYTES + 1)
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error.strerror}") from error
    if len(text) > MANIFEST_LIMIT_BYTES:
        raise BundleError(f"{file} is larger than {MANIFEST_LIMIT_BYTES >> 20} MiB; it is not a manifest")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested too deep
        reason = first_line(error, 120)
        raise BundleError(f"{file} is not valid JSON ({reason}); copy or convert the bundle again") from error
    if not isinstance(document, dict):
        raise BundleError(f"{file} holds a {type(document).__name__}, expected an object")
    return document


def _check(manifest: Manifest) -> None:
    """Refuses what is well-formed but cannot be true."""
    for name, record in manifest.files.items():
        check_kind(name)
        if not _is_digest(record.sha256) or record.size_bytes < 0:
            raise BundleError(f"manifest.files.{name} has no valid sha256 and size; convert the bundle again")
    if TOKENIZER_NAME not in manifest.files:
        raise BundleError(f"the manifest lists no {TOKENIZER_NAME}; convert the bundle again")
    for token in (*manifest.tokenizer.eos_ids, manifest.tokenizer.bos_id):
        if token is not None and not 0 <= token < manifest.decoder.vocab_size:
            raise BundleError(f"manifest.tokenizer names token {token}, outside the vocabulary")
    _check_head(manifest)
    names = [variant.name for variant in manifest.variants]
    if len(set(names)) != len(names):
        raise BundleError("two variants of the manifest have the same name")
    for variant in manifest.variants:
        _check_variant(variant, manifest)


def _check_head(manifest: Manifest) -> None:
    """A head that writes some tokens only needs the map that says which."""
    pruned = manifest.vocabulary
    rows = pruned.tokens if pruned is not None and pruned.output_only else None
    heads = {manifest.decoder_of(variant).head_rows for variant in manifest.variants}
    if heads | {manifest.decoder.head_rows} != {rows}:
        raise BundleError("the heads and the vocabulary of the manifest disagree; convert the bundle again")
    if rows is not None and ID_MAP_NAME not in manifest.files:
        raise BundleError(f"the manifest lists no {ID_MAP_NAME}; convert the bundle again")


def _is_digest(text: str) -> bool:
    return len(text) == 64 and set(text) <= set(string.hexdigits)


def _check_variant(variant: Variant, manifest: Manifest) -> None:
    where = f"variant {variant.name!r}"
    if "/" in check_name(variant.name):
        raise BundleError(f"{where} has a slash in its name")
    if variant.entry not in manifest.files:
        raise BundleError(f"{where} starts from {variant.entry[:80]!r}, which the manifest does not list")
    if manifest.decoder_of(variant).vocab_size != manifest.decoder.vocab_size:
        raise BundleError(f"{where} has another vocabulary than the bundle; convert the bundle again")
    if not _is_digest(variant.numbers):
        raise BundleError(f"{where} has no valid digest of its weights' numbers; convert the bundle again")
    if variant.context < 1:
        raise BundleError(f"{where} holds {quoted(variant.context)} tokens, expected at least 1")
    _check_whole_text(where, variant, manifest)
    _check_draft(where, variant, manifest)
    _check_exits(where, variant, manifest)
    _check_stream_parts(where, variant, manifest)
    for step in variant.steps:
        sizes = (step.tokens, step.cells, step.rows)
        if not all(1 <= size <= LARGEST_SIZE for size in sizes) or step.rows > step.tokens:
            T, S, R = map(quoted, sizes)
            raise BundleError(f"{where} has an impossible step size: T={T} S={S} R={R}")


def _check_whole_text(where: str, variant: Variant, manifest: Manifest) -> None:
    """What gives states only has sizes, of one stack, and nothing that belongs to cells or a head."""
    spec = manifest.decoder_of(variant)
    seen = (spec.is_causal, spec.states_size)
    if seen[0] != manifest.decoder.is_causal or (not seen[0] and seen[1] != manifest.decoder.states_size):
        raise BundleError(f"{where} and its bundle disagree on what tokens see; convert the bundle again")
    if spec.is_causal:
        if variant.vector_parity is not None:
            raise BundleError(f"{where} gives logits and is proven by vectors; convert the bundle again")
        return
    sized = bool(variant.steps) and all(step.cells == 1 for step in variant.steps)
    beside = variant.stacks or manifest.adapters or variant.parity or variant.cell_type != "float32"
    if variant.format not in WHOLE_TEXT_FORMATS or not sized or beside:
        raise BundleError(f"{where} gives states only and has more than that; convert the bundle again")


def _check_draft(where: str, variant: Variant, manifest: Manifest) -> None:
    """A trained draft starts from an output of the model, and has tokens of its own in each of its rows."""
    record = next((stack for stack in variant.stacks if stack.draft is not None), None)
    if record is None or record.draft is None:
        return
    draft, sizes = record.draft, [step for step in variant.steps if step.stack == record.name]
    outputs = [port for stack in variant.stacks if stack.name == MAIN for port in stack.outputs]
    if (HIDDEN, ("R", draft.hidden_size)) not in [(port.name, port.dims) for port in outputs]:
        raise BundleError(f"{where} has a draft, whose first state nothing gives; convert the bundle again")
    if draft.ids not in manifest.files or any(step.rows != step.tokens for step in sizes) or not sizes:
        raise BundleError(f"{where} has a draft without tokens or sizes; convert the bundle again")
    if draft.hidden_size != manifest.decoder.hidden_size or draft.vocabulary > manifest.decoder.vocab_size:
        raise BundleError(f"{where} has a draft for another model; convert the bundle again")


def _check_exits(where: str, variant: Variant, manifest: Manifest) -> None:
    """Segments are the variant's own decoder, block by block, and what goes with them is there."""
    spec = manifest.decoder_of(variant)
    try:
        manifest.exits_of(variant)
    except ValueError as error:
        raise BundleError(f"{where}: {error}; convert the bundle again") from error
    for stack in variant.stacks:
        part = stack.exit
        if part is None:
            continue
        if stack.decoder is not None and stack.decoder != _cut(spec, part):
            raise BundleError(f"{where} has the stack {stack.name!r} of another decoder; convert it again")


def _check_stream_parts(where: str, variant: Variant, manifest: Manifest) -> None:
    """Streams that run in the top blocks only have both parts, of the variant's own decoder."""
    found = {stack.name: stack for stack in variant.stacks if stack.streamed is not None}
    if not found:
        return
    spec = manifest.decoder_of(variant)
    main = next((stack for stack in variant.stacks if stack.name == MAIN), StackRecord(MAIN))
    sized = {step.stack for step in variant.steps}
    streams = main.streams
    for name in (BELOW, TOP):
        stack = found.get(name)
        part = None if stack is None else stack.streamed
        sound = False
        if stack is not None and part is not None and streams is not None and name in sized:
            blocks = spec.blocks[: part.first] if name == BELOW else spec.blocks[part.first :]
            sound = (
                streams.form == "streams"
                and (streams.count, streams.layers) == (part.count, len(spec.blocks) - part.first)
                and stack.decoder == _of_blocks(spec, blocks)
                and (name == BELOW or stack.outputs == main.outputs)
            )
        if not sound:
            raise BundleError(f"{where} has no stack {name!r} that fits its streams; convert it again")


def _of_blocks(spec: DecoderSpec, blocks: tuple[Block, ...]) -> DecoderSpec | None:
    """The decoder of some blocks; None where they are none, as without attention of their own."""
    try:
        return replace(spec, blocks=blocks)
    except ValueError:
        return None


def _cut(spec: DecoderSpec, part: ExitRecord) -> DecoderSpec | None:
    return _of_blocks(spec, spec.blocks[part.first : part.last])
