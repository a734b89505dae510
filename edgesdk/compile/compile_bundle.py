"""Compiles a bundle's step variant ahead of time for one system on a chip, and keeps the result beside it.

The new variant has the same sizes and cells, opens without the compiler, and says in the manifest what it
runs on. The bundle is replaced as a whole or not at all. It does not know how a compiler is called.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgesdk.backends.check_variant import check_variant
from edgesdk.backends.qnn.compile_context import compile_context, compiler_name
from edgesdk.backends.qnn.provider import NAME
from edgesdk.backends.qnn.socs import Soc, find_soc
from edgesdk.bundle.integrity import check_integrity
from edgesdk.bundle.manifest import Compatibility, Manifest, Variant
from edgesdk.bundle.reader import Bundle, open_bundle
from edgesdk.bundle.writer import BundleWriter
from edgesdk.compile.prove_compiled import prove_compiled
from edgesdk.errors import UnsupportedOption

Report = Callable[[str], None]
"""Called with one line before each stage."""

SOURCE_FORMAT = "onnx-step"
PROVED_POSITIONS = 4


@dataclass(frozen=True)
class Compiled:
    """What was compiled.

    Attributes:
        bundle: folder that holds it.
        variant: its name.
        soc: what for.
        source: variant that it was compiled from.
        compiler: package and version.
        bytes: of its files.
        proof: how it agreed with its source, or why nothing was run.
    """

    bundle: str
    variant: str
    soc: str
    source: str
    compiler: str
    bytes: int
    proof: str


def compile_bundle(
    path: str | Path,
    soc: str,
    *,
    variant: str | None = None,
    out: str | Path | None = None,
    positions: int = PROVED_POSITIONS,
    report: Report | None = None,
) -> Compiled:
    """Adds a compiled variant to a bundle.

    Args:
        path: the bundle's folder.
        soc: name of a system on a chip, for example `sm8750`.
        variant: name of a step variant; None for the bundle's only one for NPUs.
        out: folder of the bundle to write; None to add to this one.
        positions: tokens after which it is compared with its source, where its processor is simulated; each
            takes up to half a minute. 0 to run nothing.
        report: told what happens.

    Raises:
        BundleError: the bundle is damaged, or cannot be written.
        DeviceError: the compiler refused a model, or what it made is broken.
        MissingExtra: the compiler's package is not installed.
        UnsupportedOption: there is no such SoC or no such variant.
    """
    say = report or (lambda line: None)
    chosen = find_soc(soc)
    bundle = open_bundle(path)
    source = _to_compile(_source(bundle, variant))
    check_integrity(bundle, list(bundle.manifest.files))
    check_variant(bundle, source)
    target = bundle.path if out is None else Path(out)
    with BundleWriter(target, overwrite=out is None) as writer:
        made = _compiled(source, chosen)
        kept = [v for v in bundle.manifest.variants if v.name != made.name]
        _carry(bundle, writer, made.name, link=out is None)
        for step in source.steps:
            say(f"compiling {step.signature} for {chosen.name}")
            model = bundle.file(str(PurePosixPath(source.entry).parent / f"{step.signature}.onnx"))
            compile_context(model, writer.path(f"{_folder(made)}/{step.signature}.onnx"), chosen)
        draft = writer.preview(dataclasses.replace(bundle.manifest, variants=(*kept, made)))
        say(f"comparing {made.name} with {source.name}")
        made = prove_compiled(draft, source, made, positions)
        folder = writer.finish(dataclasses.replace(bundle.manifest, variants=(*kept, made)))
    return Compiled(
        str(folder),
        made.name,
        chosen.name,
        source.name,
        compiler_name(),
        _size(open_bundle(folder).manifest, made),
        _proof(made),
    )


def _source(bundle: Bundle, name: str | None) -> Variant:
    there = [v for v in bundle.manifest.variants if v.format == SOURCE_FORMAT and "npu" in v.device_classes]
    names = ", ".join(v.name for v in there)
    if name is not None:
        found = bundle.variant(name)
        if found not in there:
            raise UnsupportedOption(
                f"variant {name!r} is {found.format}, expected an {SOURCE_FORMAT} variant for NPUs"
                + (f": {names}" if names else "; convert with --target onnx-npu")
            )
        return found
    if not there:
        raise UnsupportedOption(
            f"{bundle.manifest.name} has no {SOURCE_FORMAT} variant; convert with --target onnx-npu"
        )
    if len(there) > 1:
        raise UnsupportedOption(
            f"the bundle has several variants to compile: {names}; name one with --variant"
        )
    return there[0]


def _to_compile(source: Variant) -> Variant:
    """A variant with the sizes that are compiled: to decode and to read prompts.

    Each takes minutes and holds a copy of the weights.
    """
    tokens = [step.tokens for step in source.steps]
    few = (min(tokens), max(tokens))
    return dataclasses.replace(source, steps=tuple(step for step in source.steps if step.tokens in few))


def _compiled(source: Variant, soc: Soc) -> Variant:
    name = f"{source.name}-{soc.name}"
    return dataclasses.replace(
        source,
        name=name,
        format="onnx-context",
        device_classes=("npu",),
        entry=f"variants/{name}/{PurePosixPath(source.entry).name}",
        parity=None,
        parity_skipped=None,
        compatibility=Compatibility(NAME, soc.name, compiler_name(), source.name),
    )


def _carry(bundle: Bundle, writer: BundleWriter, replaced: str, *, link: bool) -> None:
    """Takes over every file but those of the variant that is made anew."""
    for name in bundle.manifest.files:
        if name.startswith(f"variants/{replaced}/"):
            continue
        source, target = bundle.file(name), writer.path(name)
        if link:
            try:
                os.link(source, target)
                continue
            except OSError:  # a file system without hard links
                pass
        shutil.copyfile(source, target)


def _folder(variant: Variant) -> str:
    return str(PurePosixPath(variant.entry).parent)


def _size(manifest: Manifest, variant: Variant) -> int:
    prefix = f"{_folder(variant)}/"
    return sum(record.size_bytes for name, record in manifest.files.items() if name.startswith(prefix))


def _proof(variant: Variant) -> str:
    found = variant.parity
    if found is None:
        return f"not proven: {variant.parity_skipped}"
    return (
        f"perplexity ratio {found.perplexity_ratio:.4f}, KL {found.kl_nats:.4f} nats, "
        f"top-1 {found.top1_agreement:.3f} against {found.against}"
    )
