"""`edgesdk rm`: models off the shelf."""

from __future__ import annotations

import click

from edgesdk.cli.options import json_option
from edgesdk.cli.output import megabytes, print_json

EXAMPLES = """\b
Examples:
  edgesdk rm smollm2
  edgesdk rm old older
"""


@click.command(short_help="Take models off the shelf.", epilog=EXAMPLES)
@click.argument("names", nargs=-1, required=True)
@json_option
def command(names: tuple[str, ...], as_json: bool) -> None:
    """Takes the models NAMES off the shelf, each with its aliases, and frees their disk space.

    An alias is removed alone; its model stays. Only names are taken, never paths. A process that has a model
    loaded goes on with it. What was downloaded to make a model stays in the caches.
    """
    from edgesdk.bundle.shelf_models import remove_model

    removed = []
    for name in dict.fromkeys(name.lower() for name in names):
        model = remove_model(name)
        removed.append(
            {"name": name, "alias": model is None, "freed_bytes": model.size_bytes if model else 0}
        )
        if not as_json:
            click.echo(
                f"{name} was an alias" if model is None else f"{name}: {megabytes(model.size_bytes)} MB freed"
            )
    if as_json:
        print_json({"removed": removed})
