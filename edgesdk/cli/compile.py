"""`edgesdk compile`: compile a bundle's NPU variant ahead of time."""

from __future__ import annotations

from pathlib import Path

import click

from edgesdk.cli.options import bundle_argument, json_option
from edgesdk.cli.output import megabytes, print_json, stage_printer

EXAMPLES = """\b
Examples:
  edgesdk compile smollm2 --soc sm8750
  edgesdk compile smollm2 --soc sm8650 --variant onnx-npu-w8 --out smollm2-phone
"""


@click.command(short_help="Compile a bundle's NPU variant for a phone's chip.", epilog=EXAMPLES)
@bundle_argument
@click.option("--soc", required=True, metavar="NAME", help="Qualcomm system on a chip, for example sm8750.")
@click.option(
    "--variant", metavar="NAME", help="Step variant to compile. Default: the bundle's only one for NPUs."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Bundle to write. Default: the variant is added to BUNDLE.",
)
@click.option(
    "--prove-positions",
    "positions",
    type=click.IntRange(min=0),
    default=4,
    show_default=True,
    metavar="N",
    help="Tokens after which it is compared with its source in the simulator, up to half a minute each; 0 to "
    "run nothing.",
)
@json_option
def command(
    bundle: Path, soc: str, variant: str | None, out: Path | None, positions: int, as_json: bool
) -> None:
    """Compiles the NPU variant of BUNDLE for one system on a chip, on any x86-64 machine.

    The result is one more variant, which loads without the compiler and in a fraction of the time, on that
    chip only. Needs the extra qnn, and a variant made by `convert --target onnx-npu`. It is compared with its
    source where the processor is simulated; `edgesdk inspect` shows the result.
    """
    from edgesdk.compile.compile_bundle import compile_bundle

    done = compile_bundle(bundle, soc, variant=variant, out=out, positions=positions, report=stage_printer())
    if as_json:
        print_json(done)
        return
    click.echo(
        f"{done.variant}: {megabytes(done.bytes)} MB for {done.soc}, by {done.compiler}, in {done.bundle}"
    )
    click.echo(done.proof)
