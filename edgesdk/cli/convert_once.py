"""A model by whatever the user calls it: a bundle's path or name, or a checkpoint, which is converted once.

A checkpoint's bundle stays on the shelf under a name made from source and recipe, and is found again by
what its manifest says of its source (`shelved_source`).
"""

from __future__ import annotations

import os
from pathlib import Path

import click

from edgesdk.bundle import shelf
from edgesdk.bundle.printable import printable
from edgesdk.cli.convert import converters_installed
from edgesdk.cli.options import find_bundle
from edgesdk.cli.progress_line import ProgressLine
from edgesdk.cli.shelved_source import ShelvedSource, making_alone
from edgesdk.errors import BundleError

RECIPE = "w8-round"
"""Quick; `edgesdk convert` calibrates, which loses half as much and takes minutes."""


def find_or_convert(model: str) -> Path:
    """The folder of a bundle, which is made if `model` is a checkpoint that never was converted.

    Args:
        model: a bundle's path or name, a `.gguf` file, a folder in Hugging Face's layout, a named model, or
            a hub id, `owner/name[:QUANTISATION]` or the same with `@revision`.

    Raises:
        BundleError: it is none of these, or the bundle cannot be written.
        CheckpointError, TransformError, EmitError: the checkpoint cannot be converted; nothing is left.
        MissingExtra: a package that conversion needs is missing; the message names the command.
    """
    shelved = model == model.lower() or not os.path.lexists(model)  # a folder here may differ in its capitals
    known = not os.path.isfile(model) and shelved and shelf.on_shelf(model) is not None
    with converters_installed():
        source = None if known else ShelvedSource.of(model)
    if source is None:
        missing = not os.path.lexists(model) and not known
        if missing and model.lower().endswith(".gguf"):
            raise BundleError(f"there is no file {printable(model[:300])}; give the path of a .gguf file")
        return find_bundle(model)
    kept = source.kept((RECIPE,))
    if kept is None or source.newer_than(kept):
        with making_alone(source.name(RECIPE) if kept is None else kept.name):
            kept = source.kept((RECIPE,))  # which another process may have made meanwhile
            if kept is None or source.newer_than(kept):
                return _convert(model, source, kept or shelf.new_place(source.new_name(RECIPE)))
    click.echo(f"{model} was converted before: it is {kept.name}", err=True)
    return kept


def _convert(model: str, source: ShelvedSource, folder: Path) -> Path:
    with converters_installed():
        from edgesdk_converters.convert import ConvertOptions, convert
        from edgesdk_converters.drafts.shipped_draft import shipped_draft

        click.echo(
            f"{model} is converted with recipe {RECIPE} and kept as {folder.name} "
            "(`edgesdk convert` calibrates, which is slower and better)",
            err=True,
        )
        options = ConvertOptions(recipes=(RECIPE,), overwrite=True, draft=shipped_draft(model))
        with ProgressLine() as line:
            return convert(source.text, folder, options, revision=source.revision, report=line)
