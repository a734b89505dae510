"""`edgesdk devices`: what this machine can run models on."""

from __future__ import annotations

from pathlib import Path

import click

from edgesdk.cli.options import json_option, optional_bundle_argument
from edgesdk.cli.output import megabytes, print_facts, print_json, print_table
from edgesdk.errors import UnsupportedOption

EXAMPLES = """\b
Examples:
  edgesdk devices
  edgesdk devices smollm2
  edgesdk devices --bandwidth --json
  edgesdk devices --ep-library MyExecutionProvider=/opt/vendor/libmy_ep.so
"""


@click.command(short_help="List what this machine can run models on.", epilog=EXAMPLES)
@optional_bundle_argument
@click.option(
    "--ep-library",
    "libraries",
    multiple=True,
    metavar="NAME=FILE",
    help="Also ask this plugin library of ONNX Runtime, registered as NAME; may be given several times. "
    "Default: those of installed packages.",
)
@click.option("--bandwidth", is_flag=True, help="Measure memory bandwidth; takes about a second.")
@json_option
def command(bundle: Path | None, libraries: tuple[str, ...], bandwidth: bool, as_json: bool) -> None:
    """Lists the processor, every device that an installed runtime reaches, and what each backend can use.

    With BUNDLE also which of its variants are offered to which backend on which device, or why not; whether
    a backend takes the files shows when it opens them (`edgesdk verify`). Every runtime is asked in a process
    of its own and within 4 seconds: one that fails is a row with its reason.
    """
    show_devices(as_json, bundle=bundle, libraries=libraries, bandwidth=bandwidth)


def show_devices(
    as_json: bool = False,
    *,
    bundle: Path | None = None,
    libraries: tuple[str, ...] = (),
    bandwidth: bool = False,
) -> None:
    """Asks the system and the installed packages, and prints what they say."""
    from edgesdk.backends.registry import BACKENDS
    from edgesdk.bundle.reader import open_bundle
    from edgesdk.devices.bandwidth import measure_bandwidth
    from edgesdk.devices.cpu import read_processor
    from edgesdk.devices.discover import Library, backend_rows, discover, installed_probes
    from edgesdk.devices.system_devices import list_adapters
    from edgesdk.dispatch.candidates import list_candidates

    named = []
    for entry in libraries:
        name, separator, path = entry.partition("=")
        if not (name and separator and path):
            raise UnsupportedOption(f"--ep-library is {entry!r}, expected NAME=FILE")
        named.append(Library(name, path))
    opened = None if bundle is None else open_bundle(bundle)
    processor = read_processor()
    found = discover(processor, probes=installed_probes(named), adapters=list_adapters())
    rows = backend_rows(BACKENDS, found)
    candidates = None if opened is None else list_candidates(opened, BACKENDS, rows)
    bytes_per_s = measure_bandwidth() if bandwidth else None
    if as_json:
        document: dict[str, object] = {"processor": processor, "devices": found, "backends": rows}
        if bandwidth:
            document["memory_bytes_per_s"] = bytes_per_s
        if candidates is not None:
            document["candidates"] = [candidate.describe() for candidate in candidates]
        print_json(document)
        return
    kinds = ", ".join(
        f"{group.cores} of {group.capacity:.0%}" + (f" at {group.max_mhz:.0f} MHz" if group.max_mhz else "")
        for group in processor.groups
    )
    print_facts(
        [
            ("processor", f"{processor.name} ({processor.architecture})"),
            (
                "cores for this process",
                str(processor.cores) + (f" ({kinds})" if len(processor.groups) > 1 else ""),
            ),
            ("instruction sets", ", ".join(processor.features) or "none that matter, or hidden"),
            ("caches", ", ".join(f"{k} {v >> 10} KiB" for k, v in processor.caches.items()) or "hidden"),
            ("memory", f"{megabytes(processor.memory_bytes)} MB"),
            *([] if bytes_per_s is None else [("memory bandwidth", f"{bytes_per_s / 1e9:.1f} GB/s read")]),
        ]
    )
    print_table(
        ("device", "name", "reached by", "driver", "memory MB>", "usable"),
        [
            (
                device.device,
                " ".join(part for part in (device.vendor, device.name) if part) or "-",
                device.provider
                if device.version is None
                else f"{device.provider} ({device.package} {device.version})",
                device.driver or "-",
                megabytes(device.memory_bytes),
                "yes" if device.usable else f"no: {device.reason}",
            )
            for device in found
        ],
        title="Devices",
    )
    print_table(
        ("backend", "device", "package", "through", "usable"),
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
        title="Backends",
    )
    if candidates is not None and opened is not None:
        print_table(
            ("variant", "backend", "device", "offered"),
            [
                (c.variant.name, c.backend.name, c.device, "yes" if c.refusal is None else f"no: {c.refusal}")
                for c in candidates
            ],
            title=f"Variants of {opened.manifest.name}, none of them opened",
        )
