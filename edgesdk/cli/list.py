"""`edgesdk list`: what is on the shelf, and how much of the disk it takes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from edgesdk.cli.options import json_option
from edgesdk.cli.output import megabytes, print_json, print_table

if TYPE_CHECKING:
    from edgesdk.bundle.shelf_models import ShelvedModel

EXAMPLES = """\b
Examples:
  edgesdk list
  edgesdk list --json
"""


@click.command(short_help="List the models on the shelf.", epilog=EXAMPLES)
@json_option
def command(as_json: bool) -> None:
    """Lists the models on the shelf, with their aliases, recipes and disk use.

    The shelf is $EDGESDK_MODELS, or the platform's folder for the data of users. Nothing is hashed or run;
    `edgesdk verify NAME` does that.
    """
    from edgesdk.bundle.shelf import shelf_folder
    from edgesdk.bundle.shelf_models import shelf_space, shelved_models

    models = shelved_models()
    space = shelf_space(models)
    if as_json:
        print_json({"shelf": str(shelf_folder()), "models": [summary(m) for m in models], "space": space})
        return
    if models:
        print_table(("name", "aliases", "model", "recipes", "size MB>", "made"), [_row(m) for m in models])
    else:
        click.echo(f"The shelf {shelf_folder()} is empty; get a model with: edgesdk pull smollm2")
    free = "" if space.free_bytes is None else f", {space.free_bytes / 1e9:.1f} GB free"
    busy = f", {megabytes(space.unfinished_bytes)} MB being written" if space.unfinished_bytes else ""
    if models or busy:
        click.echo(f"{megabytes(space.models_bytes)} MB in {shelf_folder()}{busy}{free}")


def summary(model: ShelvedModel) -> dict[str, object]:
    """A model in a few fields, for JSON."""
    manifest = model.manifest
    return {
        "name": model.name,
        "aliases": list(model.aliases),
        "path": str(model.path),
        "size_bytes": model.size_bytes,
        "made": made(model),
        "model": None if manifest is None else manifest.name,
        "source": None if manifest is None else manifest.source,
        "recipes": [] if manifest is None else recipes(model),
        "damage": model.damage,
    }


def recipes(model: ShelvedModel) -> list[str]:
    """The recipes of its variants, each once."""
    return [] if model.manifest is None else list(dict.fromkeys(v.recipe for v in model.manifest.variants))


def made(model: ShelvedModel) -> str:
    """When it was finished: date and time, UTC."""
    return datetime.fromtimestamp(model.made_ns / 1e9, UTC).isoformat(sep=" ", timespec="minutes")[:16]


def _row(model: ShelvedModel) -> tuple[str, ...]:
    what = model.manifest.name if model.manifest is not None else f"cannot be read: {model.damage}"
    aliases = ", ".join(model.aliases) or "-"
    return (
        model.name,
        aliases,
        what,
        ", ".join(recipes(model)) or "-",
        megabytes(model.size_bytes),
        made(model),
    )
