"""`edgesdk alias`: further names of models on the shelf."""

from __future__ import annotations

import click

from edgesdk.cli.options import json_option
from edgesdk.cli.output import print_json, print_table

EXAMPLES = """\b
Examples:
  edgesdk alias chat smollm2
  edgesdk alias
  edgesdk rm chat
"""


@click.command(short_help="Give a model on the shelf another name.", epilog=EXAMPLES)
@click.argument("alias", required=False)
@click.argument("name", required=False)
@json_option
def command(alias: str | None, name: str | None, as_json: bool) -> None:
    """Lets ALIAS stand for the model NAME on the shelf, in every command; without both, lists the aliases.

    An ALIAS that stands for another model is set anew. `edgesdk rm ALIAS` removes it.
    """
    from edgesdk.bundle.shelf import shelf_folder
    from edgesdk.bundle.shelf_aliases import read_aliases
    from edgesdk.bundle.shelf_models import set_alias, shelved_model

    if alias is not None and name is None:
        raise click.UsageError("Missing argument 'NAME': the model that the alias stands for.")
    if alias is None or name is None:
        aliases = read_aliases(shelf_folder())
        if as_json:
            print_json({"aliases": aliases})
        elif aliases:
            print_table(("alias", "model"), list(aliases.items()))
        else:
            click.echo("There are no aliases; set one with: edgesdk alias ALIAS NAME")
        return
    before, target = set_alias(alias, name), shelved_model(name).name
    if as_json:
        print_json({"alias": alias, "name": target, "before": before})
        return
    instead = f", no longer for {before}" if before not in (None, target) else ""
    click.echo(f"{alias} stands for {target}{instead}")
