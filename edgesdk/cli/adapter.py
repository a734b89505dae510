"""`edgesdk adapter`: adapters of a bundle, which requests ask for by their names."""

from __future__ import annotations

import time
from pathlib import Path

import click

from edgesdk.cli.convert import converters_installed, show_conversion
from edgesdk.cli.options import bundle_argument, json_option, json_progress_option
from edgesdk.cli.output import describe_adapter, print_json, print_table

EXAMPLES = """\b
Examples:
  edgesdk adapter list styles
  edgesdk adapter add styles terse=my-lora styles2 --source model.gguf
"""

LIST_EXAMPLES = """\b
Examples:
  edgesdk adapter list styles
  edgesdk adapter list styles --json
"""

ADD_EXAMPLES = """\b
Examples:
  edgesdk adapter add plain formal=my-lora styles
  edgesdk adapter add styles formal=my-lora terse=terse.gguf:0.5 styles2 --source model.gguf
"""


@click.group(short_help="Adapters of a bundle: list them, add one.", epilog=EXAMPLES)
def command() -> None:
    """Lists the LoRA adapters of a bundle, or adds one."""


@command.command(name="list", short_help="List the adapters of a bundle.", epilog=LIST_EXAMPLES)
@bundle_argument
@json_option
def list_(bundle: Path, as_json: bool) -> None:
    """Lists the adapters of BUNDLE: what `--adapter` of `edgesdk run` and `adapter=` may name."""
    from edgesdk.bundle.reader import open_bundle

    records = open_bundle(bundle).manifest.adapters
    if as_json:
        print_json(records)
        return
    if not records:
        click.echo("no adapters")
        return
    rows = [(record.name, describe_adapter(record)) for record in records]
    print_table(("adapter", "what it adds"), rows)


@command.command(short_help="Write a bundle again with another adapter.", epilog=ADD_EXAMPLES)
@bundle_argument
@click.argument("adapters", nargs=-1, required=True, metavar="[NAME=]PATH[:SCALE]...")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--source",
    metavar="SOURCE",
    help="The checkpoint that the bundle was made from, as for `edgesdk convert`. Default: the one that its "
    "manifest names.",
)
@click.option("--overwrite", is_flag=True, help="Replace the bundle that is in OUT.")
@click.option("--no-prove", is_flag=True, help="Do not measure the variants against the original.")
@json_progress_option
def add(
    bundle: Path,
    adapters: tuple[str, ...],
    out: Path,
    source: str | None,
    overwrite: bool,
    no_prove: bool,
    as_json: bool,
) -> None:
    """Writes BUNDLE again, in the folder OUT, with the adapters PATH beside its weights.

    PATH is a folder as PEFT saves it, or a GGUF file. Adapters that BUNDLE has already are to be given again
    under their names, because their files are not in it. Needs the `convert` extra and the checkpoint that
    the bundle was made from, whose digests are compared. BUNDLE stays as it is.
    """
    with converters_installed():
        from edgesdk.cli.progress_line import ProgressLine, print_event
        from edgesdk_converters.add_adapter import add_adapter

        started = time.perf_counter()
        with ProgressLine() as line:
            folder = add_adapter(
                bundle,
                adapters,
                out,
                source=source,
                overwrite=overwrite,
                prove=not no_prove,
                report=print_event if as_json else line,
            )
    show_conversion(folder, time.perf_counter() - started, as_json)
