"""`edgesdk add`: a bundle from elsewhere onto the shelf."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgesdk.cli.options import json_progress_option
from edgesdk.cli.output import print_json
from edgesdk.cli.progress_line import ProgressLine

if TYPE_CHECKING:
    from edgesdk.bundle.import_bundle import ImportProgress

EXAMPLES = """\b
Examples:
  edgesdk add ~/Downloads/smollm2.zip
  edgesdk add OUT --name mine
  edgesdk add OUT --name mine --replace --json
"""


@click.command(short_help="Put a bundle onto the shelf.", epilog=EXAMPLES)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="What it is called on the shelf. Default: made from BUNDLE.")
@click.option("--replace", is_flag=True, help="Take the place of what has the name.")
@json_progress_option
def command(bundle: Path, name: str | None, replace: bool, as_json: bool) -> None:
    """Copies BUNDLE, a folder or a .zip of one, onto the shelf, where every command finds it by its name.

    Every file is compared with the digest in the manifest, and what the manifest does not list stays behind.
    The bundle appears whole or not at all. With --json, progress is JSON lines, as of `edgesdk convert`; the
    last one is the report (event: done).
    """
    from edgesdk.bundle.import_bundle import import_bundle

    with ProgressLine() as line:

        def show(progress: ImportProgress) -> None:
            line.show(f"[{progress.share:4.0%}] {_what(progress)}", step=0)

        place = import_bundle(bundle, name, replace=replace, report=_print_event if as_json else show)
    if as_json:
        print_json({"event": "done", "bundle": str(place), "name": place.name}, one_line=True)
    else:
        click.echo(f'{place}\nNext:  edgesdk run {place.name} "Hello."   edgesdk show {place.name}')


def _print_event(progress: ImportProgress) -> None:
    print_json(
        {"event": "progress", "stage": "copying", "what": _what(progress), "share": progress.share},
        one_line=True,
    )


def _what(progress: ImportProgress) -> str:
    return f"copying {progress.name}"
