"""`edgesdk devices`: what this machine can run models on."""

from __future__ import annotations

import click

from edgesdk.cli.options import json_option
from edgesdk.cli.output import print_facts, print_json, print_table

EXAMPLES = """\b
Examples:
  edgesdk devices
  edgesdk devices --json
"""


@click.command(short_help="List what this machine can run models on.", epilog=EXAMPLES)
@json_option
def command(as_json: bool) -> None:
    """Lists the processor, and for each backend and class of devices whether it is usable or why not."""
    show_devices(as_json)


def show_devices(as_json: bool = False) -> None:
    """Asks the system and the installed packages, and prints what they say."""
    from edgesdk.backends.registry import BACKENDS
    from edgesdk.devices.cpu import read_processor
    from edgesdk.devices.discover import list_devices

    processor = read_processor()
    rows = list_devices(BACKENDS)
    if as_json:
        print_json({"processor": processor, "backends": rows})
        return
    print_facts(
        [
            ("processor", f"{processor.name} ({processor.architecture})"),
            ("cores for this process", str(processor.cores)),
            ("instruction sets", ", ".join(processor.features) or "none that matter, or hidden"),
        ]
    )
    print_table(
        ("backend", "device", "package", "offers", "usable"),
        [
            (
                row.backend,
                row.device,
                row.package if row.version is None else f"{row.package} {row.version}",
                ", ".join(row.providers) or "-",
                "yes" if row.usable else f"no: {row.reason}",
            )
            for row in rows
        ],
    )
