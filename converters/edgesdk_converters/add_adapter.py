"""Adds an adapter to a bundle: the model is converted again as it was, with one more.

Weights of LiteRT and ONNX files are constants, and an adapter has to go through the rotations, folds and
scales of its model, so the file is written again from the checkpoint that the bundle was made from. Its files
are checked by the digests that the manifest has. A bundle that more was done to than converting is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from edgesdk.bundle.manifest import Manifest, Variant
from edgesdk.bundle.reader import open_bundle
from edgesdk.bundle.stack_record import HIDDEN, STATES
from edgesdk.bundle.step_shape import MAIN
from edgesdk.errors import CheckpointError, UnsupportedOption, first_line
from edgesdk_converters.adapters.adapter import parse_named_adapter
from edgesdk_converters.adapters.read_adapter import read_adapter
from edgesdk_converters.checkpoints.named_models import NAMED_MODELS
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.convert import ConvertOptions, convert
from edgesdk_converters.progress import Report
from edgesdk_converters.quantise.calibration.calibration_text import builtin_calibration
from edgesdk_converters.targets import TARGETS

_BY_OPTIONS = ("skip_layers", "repair_stack", "prune_head", "merge_adapter")
"""Transforms that only options of a conversion bring, whose words a manifest does not have."""


def add_adapter(
    bundle: Path,
    adapters: Sequence[str],
    out: Path,
    *,
    source: str | None = None,
    overwrite: bool = False,
    prove: bool = True,
    report: Report | None = None,
) -> Path:
    """Writes a bundle again with more adapters.

    Args:
        bundle: folder of the bundle, which stays as it is.
        adapters: as `ConvertOptions.adapters`; those that the bundle has already are among them, under their
            names, since their files are not in it.
        out: folder of the new bundle.
        source: the checkpoint that it was made from; None for the one that the manifest names.
        overwrite: replace a bundle that is in `out`.
        prove: as in `ConvertOptions`.
        report: told how far it is.

    Returns:
        The new bundle's folder.

    Raises:
        UnsupportedOption: the bundle cannot be made again from what it says about itself, or an adapter that
            it has is missing.
        CheckpointError: the source is another, or an adapter cannot be read or does not fit.
        BundleError: the bundle cannot be read, or `out` is taken.
    """
    manifest = open_bundle(bundle).manifest
    options = dataclasses.replace(
        options_of(manifest), adapters=tuple(adapters), overwrite=overwrite, prove=prove
    )
    _check_kept(manifest, adapters)
    found = _find_source(manifest) if source is None else source
    _check_source(manifest, found, given=source is not None)
    return convert(found, out, options, revision=None, report=report)


def options_of(manifest: Manifest) -> ConvertOptions:
    """The options that made a bundle.

    Raises:
        UnsupportedOption: something was done to it that they do not say.
    """
    if not manifest.variants:
        raise UnsupportedOption(f"{manifest.name} has no variant to be written again")
    if manifest.vocabulary is not None:
        raise _refusal(manifest, "its vocabulary was pruned")
    pairs = [_target_and_recipe(manifest, variant) for variant in manifest.variants]
    targets = tuple(dict.fromkeys(target for target, _ in pairs))
    recipes = tuple(dict.fromkeys(recipe for _, recipe in pairs))
    kinds = {(variant.context, variant.cell_type) for variant in manifest.variants}
    if len(set(pairs)) != len(targets) * len(recipes) or len(kinds) != 1:
        raise _refusal(manifest, "its variants were converted apart")
    ((context, cells),) = kinds
    outputs = {port.name for v in manifest.variants for s in v.stacks if s.name == MAIN for port in s.outputs}
    return ConvertOptions(
        targets=targets,
        recipes=recipes,
        context=context,
        cells=cells,
        hidden_states=HIDDEN in outputs,
        embeddings=STATES in outputs and manifest.embedding is None,
    )


def _target_and_recipe(manifest: Manifest, variant: Variant) -> tuple[str, str]:
    done = next((record.name for record in variant.transforms if record.name in _BY_OPTIONS), None)
    sample = variant.calibration
    for problem, is_there in (
        (f"{variant.name} went through {done}", done is not None),
        (f"{variant.name} mixes precisions to a budget", variant.budget is not None),
        (f"{variant.name} was raised to an accuracy", variant.accuracy is not None),
        (f"{variant.name} was compiled", variant.compatibility is not None),
        (f"{variant.name} is a shallow stack", variant.decoder is not None),
        (f"{variant.name} has a trained draft", any(stack.draft for stack in variant.stacks)),
        (f"{variant.name} has streams", any(stack.streams for stack in variant.stacks)),
        (f"{variant.name} has exits", any(stack.exit for stack in variant.stacks)),
        (
            f"{variant.name} was calibrated with another text",
            sample is not None and sample.sha256 != builtin_calibration().sha256,
        ),
    ):
        if is_there:
            raise _refusal(manifest, problem)
    for target in TARGETS:
        if variant.name.startswith(f"{target.name}-{variant.recipe}") and target.format == variant.format:
            return target.name, variant.recipe
    raise _refusal(manifest, f"{variant.name} was not written by a target of this version")


def _refusal(manifest: Manifest, problem: str) -> UnsupportedOption:
    return UnsupportedOption(
        f"{manifest.name} cannot be made again from its manifest: {problem}; convert its checkpoint with "
        "--adapter"
    )


def _check_kept(manifest: Manifest, adapters: Sequence[str]) -> None:
    """Refuses to lose an adapter, or to replace one silently."""
    digests: dict[str, str] = {}
    for request in map(parse_named_adapter, adapters):
        adapter = read_adapter(request.path)
        digests[request.name or adapter.name] = adapter.file.sha256
    for record in manifest.adapters:
        if digests.get(record.name) != record.sha256:
            raise UnsupportedOption(
                f"{manifest.name} has the adapter {record.name} (sha256 {record.sha256[:12]}), whose file is "
                f"not in it; give that one, too: {record.name}=PATH"
            )


def _find_source(manifest: Manifest) -> str:
    files = {file.sha256 for file in manifest.source.files}
    for name, model in NAMED_MODELS.items():
        if files == {model.sha256}:
            return name
    return manifest.source.location


def _check_source(manifest: Manifest, source: str, *, given: bool) -> None:
    try:
        checkpoint = open_checkpoint(source)
    except CheckpointError as error:
        if given:
            raise
        raise CheckpointError(
            f"the checkpoint that {manifest.name} was made from is not found by the name in its manifest "
            f"({first_line(error)}); give its folder or file with --source"
        ) from error
    theirs = [(file.sha256, file.size_bytes) for file in checkpoint.source.files]
    ours = [(file.sha256, file.size_bytes) for file in manifest.source.files]
    if theirs != ours:
        raise CheckpointError(
            f"{source} is not the checkpoint that {manifest.name} was made from: its weight files have other "
            "digests; give that one with --source"
        )
