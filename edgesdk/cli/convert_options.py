"""What `edgesdk convert` may be asked for: its options, and what they are in `ConvertOptions`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, get_args

import click

from edgesdk.bundle.manifest import CellType
from edgesdk.cli.options import Command, Decorator, grouped, list_option
from edgesdk.errors import UnsupportedOption, quoted

if TYPE_CHECKING:
    from edgesdk_converters.convert_options import ConvertOptions


class Converting(TypedDict):
    """How to convert, as it was typed."""

    target: str
    recipe: str
    context: int
    revision: str | None
    prune_vocab: str | None
    skip_layers: str | None
    layer_budget: str | None
    repair_layers: Literal["linear", "matrix", "scale"] | None
    calibration: Path | None
    budget: str | None
    cells: CellType
    shallow_skip: str | None
    package_limit: float | None
    onnx_accuracy: float | None
    merge_adapter: tuple[str, ...]
    adapter: tuple[str, ...]
    hidden_states: bool
    embeddings: bool
    draft: Path | None
    streams: Path | None
    exits: str | None
    overwrite: bool
    no_prove: bool
    allow_parity_miss: bool


_CONVERTING: tuple[Decorator, ...] = (
    list_option(
        "--target",
        "What to write: litert, litert-static, onnx, onnx-step, openvino, onnx-npu, coreml, "
        "coreml-state, joined by commas.",
        default="litert,onnx",
    ),
    list_option(
        "--recipe",
        "How to quantise: f32, f16, source, source-h4, w8, w4b32, w4b64, w4c, p4 (palettes, for coreml "
        "only), or a .json file, joined by commas; each target gets each. Those with w and p are calibrated, "
        "or with -round just rounded, which is faster and worse. With -exact products read activations "
        "without loss.",
        default="w8",
    ),
    click.option(
        "--context",
        type=click.IntRange(min=16),
        default=2048,
        show_default=True,
        metavar="N",
        help="Longest sequence in tokens; cut to what the checkpoint declares.",
    ),
    click.option(
        "--revision",
        metavar="NAME",
        help="Commit, branch or tag of a hub id. Default: the hub's default branch.",
    ),
    click.option(
        "--prune-vocab",
        metavar="SPEC",
        help="Keep some tokens only: language=en,size=24000 or corpus=FILE,coverage=0.999 or tokens=FILE; "
        "with ,output-only the head alone. Default: all.",
    ),
    click.option(
        "--skip-layers",
        metavar="LIST",
        help="Leave blocks out, or halves of them: 20-23 or 5.attention,7.mlp. Default: none.",
    ),
    click.option(
        "--layer-budget",
        metavar="LIMIT",
        help="Leave out as many blocks as a budget allows: perplexity=1.05 or layers=26. Default: none.",
    ),
    click.option(
        "--repair-layers",
        type=click.Choice(["linear", "matrix", "scale"]),
        help="Fit the layer before each gap to what is gone. Default: leave it as it is.",
    ),
    click.option(
        "--calibration",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Text to calibrate with. Default: a sample that comes with the package.",
    ),
    click.option(
        "--budget",
        metavar="LIMIT",
        help="Mix a calibrated recipe with int8: perplexity=1.02, kl=0.01 or size_mb=90. Default: no "
        "mixture.",
    ),
    click.option(
        "--cells",
        type=click.Choice(get_args(CellType)),
        default="float32",
        show_default=True,
        help="Type of cached keys and values: float16 takes half the memory and less time, int8 a quarter "
        "and more time. Both with --target litert only.",
    ),
    click.option(
        "--shallow-skip",
        metavar="LIST",
        help="Write a second stack on the same weights, for drafts, that goes without these blocks or "
        "halves: 20-29, with --target litert only. Default: none.",
    ),
    click.option(
        "--package-limit",
        type=click.FloatRange(min=0, min_open=True),
        metavar="MB",
        help="Largest Core ML package in 10^6 bytes; a larger model becomes several, with --target coreml or "
        "coreml-state only. Default: one package.",
    ),
    click.option(
        "--onnx-accuracy",
        type=click.FloatRange(min=0, max=1, min_open=True, max_open=True),
        metavar="SHARE",
        help="For the target onnx: compute with float activations where int8 changes the answer, until this "
        "share of first choices (0.98, say) is that of float activations everywhere; slower. Default: int8 "
        "activations everywhere.",
    ),
    click.option(
        "--merge-adapter",
        multiple=True,
        metavar="PATH[:SCALE]",
        help="Merge a LoRA into the weights first: a folder as PEFT saves it, or a GGUF file; may be given "
        "several times. Default: none; SCALE is 1.",
    ),
    click.option(
        "--adapter",
        multiple=True,
        metavar="[NAME=]PATH[:SCALE]",
        help="Write a LoRA beside the weights, for requests to ask for by its name: a folder as PEFT saves "
        "it, or a GGUF file; may be given several times. Not for the target coreml-state. Default: none; "
        "SCALE is 1, NAME that of the folder or file.",
    ),
    click.option(
        "--hidden-states",
        is_flag=True,
        help="Have every step give what the head reads, too: for embeddings and trained drafts. The targets "
        "onnx and coreml-state go without.",
    ),
    click.option(
        "--embeddings",
        is_flag=True,
        help="Have every step give the state of every token, for `edgesdk embed`; models that were trained "
        "to embed do so without being asked. The targets onnx and coreml-state are written without.",
    ),
    click.option(
        "--draft",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="FOLDER|shipped",
        help="Write a trained draft into the file, for --draft trained of the commands that answer; shipped "
        "is the one that comes with edgesdk for smollm2-135m. Targets other than litert, litert-static and "
        "onnx-step go without. Default: none.",
    ),
    click.option(
        "--streams",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="FOLDER",
        help="Give the model streams (edgesdk train streams), for --draft streams of the commands that "
        "answer. For the targets litert, litert-static and onnx-step. Default: none.",
    ),
    click.option(
        "--exits",
        metavar="BLOCKS",
        help="Write the model in segments, too, so that an answer can be taken after so many blocks: "
        "20,24,27, for `edgesdk classify` and --early-exit, with --target litert or onnx-step only. "
        "Default: none.",
    ),
    click.option("--overwrite", is_flag=True, help="Replace the bundle that is in OUT."),
    click.option("--no-prove", is_flag=True, help="Do not measure the variants against the original."),
    click.option(
        "--allow-parity-miss", is_flag=True, help="Keep a variant that misses its gate, and record the miss."
    ),
)


def convert_options(function: Command) -> Command:
    """Adds the options of `Converting`, handed on as `converting`."""
    return grouped(function, "converting", tuple(Converting.__annotations__), _CONVERTING)


def read_options(source: str, converting: Converting) -> ConvertOptions:
    """The same for `edgesdk_converters.convert.convert`.

    Raises:
        UnsupportedOption: no draft ships for the source.
    """
    from edgesdk_converters.convert_options import ConvertOptions
    from edgesdk_converters.reshape import Reshaping

    return ConvertOptions(
        targets=split_list(converting["target"]),
        recipes=split_list(converting["recipe"]),
        context=converting["context"],
        overwrite=converting["overwrite"],
        prove=not converting["no_prove"],
        allow_parity_miss=converting["allow_parity_miss"],
        reshaping=Reshaping(
            converting["prune_vocab"],
            converting["skip_layers"],
            converting["layer_budget"],
            converting["repair_layers"],
        ),
        calibration=converting["calibration"],
        budget=converting["budget"],
        cells=converting["cells"],
        shallow=converting["shallow_skip"],
        package_limit_mb=converting["package_limit"],
        onnx_accuracy=converting["onnx_accuracy"],
        merge_adapters=converting["merge_adapter"],
        adapters=converting["adapter"],
        hidden_states=converting["hidden_states"],
        embeddings=converting["embeddings"],
        draft=draft_folder(source, converting["draft"]),
        streams=converting["streams"],
        exits=converting["exits"],
    )


def draft_folder(source: str, draft: Path | None) -> Path | None:
    """The folder of a draft as it was named for a source.

    Raises:
        UnsupportedOption: no draft ships for the source.
    """
    from edgesdk_converters.drafts.shipped_draft import FOLDER, shipped_draft

    if draft != Path("shipped"):
        return draft
    found = shipped_draft(source)
    if found is None:
        known = ", ".join(sorted(each.name for each in FOLDER.glob("*") if each.is_dir()))
        raise UnsupportedOption(
            f"no draft ships for {quoted(source)}, only for {known}; train one with edgesdk train draft, and "
            "give its folder"
        )
    return found


def split_list(text: str) -> tuple[str, ...]:
    """Names that are joined by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())
