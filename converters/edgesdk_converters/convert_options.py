"""What a conversion may be asked for, and which wishes are refused before anything is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgesdk.bundle.manifest import CellType
from edgesdk.errors import UnsupportedOption
from edgesdk_converters.adapters.adapter import (
    MERGE_OPTION,
    RUN_OPTION,
    AdapterRequest,
    parse_adapter,
    parse_named_adapter,
)
from edgesdk_converters.check_targets import check_exact, check_package_limit, check_palettes
from edgesdk_converters.drafts.draft_checkpoint import DraftCheckpoint, read_draft
from edgesdk_converters.drafts.shipped_draft import ships
from edgesdk_converters.exit_stacks import parse_exits
from edgesdk_converters.quantise.budget import Budget, parse_budget
from edgesdk_converters.quantise.calibration.calibration_text import (
    CalibrationText,
    builtin_calibration,
    read_calibration,
)
from edgesdk_converters.quantise.recipe import Recipe, find_recipe
from edgesdk_converters.quantise_program import check_mixable
from edgesdk_converters.reshape import Reshaping
from edgesdk_converters.shallow_stack import ShallowStack
from edgesdk_converters.step_sizes import LARGEST_CONTEXT
from edgesdk_converters.streams.stream_checkpoint import StreamCheckpoint, read_streams
from edgesdk_converters.targets import TARGETS, Target, find_targets
from edgesdk_converters.transforms.skip_request import parse_skip
from edgesdk_converters.vocabulary.prune_request import parse_prune_option

DEFAULT_TARGETS = ("litert", "onnx")
DEFAULT_CONTEXT = 2048
OUTPUT_ONLY_TARGETS = ("litert", "litert-static", "onnx-step")


@dataclass(frozen=True)
class ConvertOptions:
    """How to convert.

    Attributes:
        targets: names from `edgesdk_converters.targets`.
        recipes: names in the grammar of `edgesdk_converters.quantise.recipe`; each target gets each.
        context: longest sequence, in tokens; cut to what the checkpoint declares.
        overwrite: replace a bundle that is there.
        prove: measure every variant and fail when one misses its gate.
        allow_parity_miss: record a miss instead of failing.
        reshaping: tokens and layers to leave out.
        calibration: text file to calibrate with; None for the built-in sample.
        cells: type of cached keys and values; float16 takes half the memory, int8 a quarter (LiteRT only).
        budget: mix the recipe with int8 to a budget (`quantise.budget`); None for no mixture.
        shallow: what a second stack on the same weights goes without (`shallow_stack`, LiteRT
            only); None for no second stack.
        package_limit_mb: largest Core ML package, in 10^6 bytes: a variant that needs more is cut between
            blocks into several; None for one of any size.
        onnx_accuracy: raise products of the target onnx to float activations until so large a share of
            first choices is that of float activations everywhere (`parity.raise_accuracy`);
            None raises none.
        merge_adapters: adapters that become part of the weights before anything else is done, each a folder
            or file, with `:SCALE` behind it if that is not 1 (`adapters.adapter`).
        adapters: adapters that are written beside the weights, for requests to ask for, each a folder or file
            with `NAME=` before it if its own name is not wanted, and `:SCALE` behind it.
        hidden_states: give what the head reads beside the logits (`transforms.give_hidden`): for embeddings,
            and for drafts that were trained to start from it.
        embeddings: give the state of every token (`transforms.give_states`), for `Model.embed`; a model that
            was trained to embed does so without being asked.
        draft: folder of a trained draft, to be written into the files (`drafts.draft_checkpoint`); None for
            none.
        streams: folder of streams that were trained for the model, to be rows of its steps; None for none.
        exits: after how many blocks an answer may be taken, such as `12,18,24`: the decoder is written in
            segments beside the whole (`exit_stacks`; LiteRT and ONNX steps); None for none.
    """

    targets: tuple[str, ...] = DEFAULT_TARGETS
    recipes: tuple[str, ...] = ("w8",)
    context: int = DEFAULT_CONTEXT
    overwrite: bool = False
    prove: bool = True
    allow_parity_miss: bool = False
    reshaping: Reshaping = field(default_factory=Reshaping)
    calibration: Path | None = None
    budget: str | None = None
    cells: CellType = "float32"
    shallow: str | None = None
    package_limit_mb: float | None = None
    onnx_accuracy: float | None = None
    merge_adapters: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    hidden_states: bool = False
    embeddings: bool = False
    draft: Path | None = None
    streams: Path | None = None
    exits: str | None = None

    @property
    def exit_blocks(self) -> tuple[int, ...]:
        """Blocks before each exit; none without exits."""
        return () if self.exits is None else parse_exits(self.exits)

    @property
    def stacks(self) -> tuple[ShallowStack, ...]:
        """Further stacks on the weights of each variant."""
        return () if self.shallow is None else (ShallowStack(parse_skip(self.shallow)),)

    def needs_text(self, targets: Sequence[Target], recipes: Sequence[Recipe]) -> bool:
        """Whether anything reads the calibration text."""
        return (
            self.reshaping.needs_text
            or self.onnx_accuracy is not None
            or any(recipe.needs_data for recipe in recipes)
            or any(target.range_texts for target in targets)
        )


@dataclass(frozen=True)
class CheckedOptions:
    """What the names in options stand for.

    Attributes:
        targets: in their own order.
        recipes: each once.
        budget: to mix precisions to; None for no mixture.
        sample: calibration text; None where nothing reads any.
        adapters: to merge.
        run_adapters: to be written beside the weights.
        draft: to be written beside the model; None for none.
        streams: that its rows can be; None for none.
    """

    targets: tuple[Target, ...]
    recipes: tuple[Recipe, ...]
    budget: Budget | None
    sample: CalibrationText | None
    adapters: tuple[AdapterRequest, ...] = ()
    run_adapters: tuple[AdapterRequest, ...] = ()
    draft: DraftCheckpoint | None = None
    streams: StreamCheckpoint | None = None

    def notes(self, options: ConvertOptions) -> list[str]:
        """Which targets go without something that others get, a line each."""
        found = []
        plain = ", ".join(target.name for target in self.targets if target.logits_only)
        if (options.hidden_states or options.embeddings) and plain:
            found.append(f"{plain} gives logits only, without states")
        bare = ", ".join(target.name for target in self.targets if not target.draft_tokens)
        # The draft of a named model comes along unasked.
        if options.draft is not None and not ships(options.draft) and bare:
            found.append(f"{bare} holds no draft and is written without")
        return found


def check_options(options: ConvertOptions) -> CheckedOptions:
    """Refuses what cannot come out well, before a checkpoint is opened.

    Raises:
        UnsupportedOption: an option names something unknown or impossible, or suits no target or recipe.
        TransformError: a recipe cannot be mixed to a budget.
        CheckpointError: the draft cannot be read.
    """
    targets = find_targets(options.targets)
    recipes = tuple(find_recipe(name) for name in dict.fromkeys(options.recipes))
    if not recipes:
        raise UnsupportedOption("no recipe is named; expected for example w8")
    check_palettes(targets, recipes)
    check_package_limit(targets, options.package_limit_mb)
    for target in targets:
        target.steps(min(options.context, LARGEST_CONTEXT))  # the checkpoint may cut a longer one
    others = ", ".join(target.name for target in targets if target.name != "litert")
    if options.cells != "float32" and others:
        raise UnsupportedOption(
            f"{options.cells} cells are for the target litert only, found {others}; leave it out"
        )
    _check_stacks(options, targets)
    _check_further(options, targets)
    _check_exits(options, targets)
    check_exact(targets, recipes)
    options.reshaping.check()
    _check_output_only(options, targets)
    _check_accuracy(options, targets, recipes)
    budget = None if options.budget is None else parse_budget(options.budget)
    if budget is not None:
        for recipe in recipes:
            check_mixable(recipe)
    adapters = tuple(parse_adapter(text) for text in options.merge_adapters)
    run_adapters = tuple(parse_named_adapter(text) for text in options.adapters)
    _check_run_adapters(options, targets)
    draft = None if options.draft is None else read_draft(options.draft)
    _check_streams(options, targets)
    streams = None if options.streams is None else read_streams(options.streams)
    sample = _read_sample(options, targets, recipes)
    return CheckedOptions(targets, recipes, budget, sample, adapters, run_adapters, draft, streams)


def _read_sample(
    options: ConvertOptions, targets: Sequence[Target], recipes: Sequence[Recipe]
) -> CalibrationText | None:
    """The calibration text, where something reads it.

    Raises:
        UnsupportedOption: one is given and nothing reads it, or it cannot be read.
    """
    if options.needs_text(targets, recipes):
        return builtin_calibration() if options.calibration is None else read_calibration(options.calibration)
    if options.calibration is not None:
        raise UnsupportedOption(
            "a calibration text is given and nothing uses it; leave it out, or choose a calibrated recipe"
        )
    return None


def _check_stacks(options: ConvertOptions, targets: Sequence[Target]) -> None:
    """Refuses further stacks for targets whose files hold none.

    Raises:
        UnsupportedOption: naming them.
    """
    without = ", ".join(target.name for target in targets if not target.stacks)
    if options.stacks and without:
        takes = ", ".join(target.name for target in TARGETS if target.stacks)
        raise UnsupportedOption(
            f"a shallow stack is for the target {takes} only, found {without}; leave it out"
        )


def _check_exits(options: ConvertOptions, targets: Sequence[Target]) -> None:
    """Refuses exits for targets and cells that go without.

    Raises:
        UnsupportedOption: naming them.
    """
    if not options.exit_blocks:
        return
    without = ", ".join(target.name for target in targets if not target.exits)
    if without:
        takes = ", ".join(target.name for target in TARGETS if target.exits)
        raise UnsupportedOption(f"exits are for the targets {takes}, found {without}; leave one of them out")
    if options.streams is not None:
        raise UnsupportedOption(
            "streams are for whole decoders, and exits cut them; leave one of the two out"
        )
    if options.cells != "float32":
        raise UnsupportedOption(f"exits need float32 cells, found {options.cells}; leave --cells out")


def _check_further(options: ConvertOptions, targets: Sequence[Target]) -> None:
    """Refuses hidden states and a draft where no file can have them, or where the draft's model is another.

    Beside a target that has them, others are written without, which `CheckedOptions.notes` says.

    Raises:
        UnsupportedOption: naming it.
    """
    wishes = []
    if options.hidden_states or options.embeddings:
        asked = "hidden states are" if options.hidden_states else "embeddings are"
        wishes.append((asked, [target for target in TARGETS if not target.logits_only]))
    if options.draft is not None:
        wishes.append(("a trained draft is", [target for target in TARGETS if target.draft_tokens]))
    for what, takes in wishes:
        if not any(target in takes for target in targets):
            raise UnsupportedOption(
                f"{what} for the targets {', '.join(target.name for target in takes)}, found "
                f"{', '.join(target.name for target in targets)}; leave one of the two out"
            )
    if options.draft is not None and options.reshaping.changes:
        raise UnsupportedOption(
            "a draft was trained for a whole model, and layers or tokens are to be left out; train one for "
            "what is left, or leave one of the two out"
        )


def _check_run_adapters(options: ConvertOptions, targets: Sequence[Target]) -> None:
    """Refuses adapters for requests where a file cannot have them, or beside what has none.

    Raises:
        UnsupportedOption: naming it.
    """
    others = ", ".join(target.name for target in targets if not target.adapters)
    if options.adapters and others:
        takes = ", ".join(target.name for target in TARGETS if target.adapters)
        raise UnsupportedOption(
            f"{RUN_OPTION} is for the targets {takes}, found {others}; leave that "
            f"target out, or merge with {MERGE_OPTION}"
        )
    if options.adapters and options.exit_blocks:
        raise UnsupportedOption(
            f"{RUN_OPTION} is for whole decoders, and exits cut them into segments; leave one of the two "
            f"out, or merge with {MERGE_OPTION}"
        )
    if options.adapters and options.reshaping.prune_vocab is not None:
        raise UnsupportedOption(
            f"{RUN_OPTION} is for a whole vocabulary, and tokens are to be left out; merge it with "
            f"{MERGE_OPTION}"
        )


def _check_streams(options: ConvertOptions, targets: Sequence[Target]) -> None:
    """Refuses streams where a file cannot have them, or where their model is another.

    Raises:
        UnsupportedOption: naming it.
    """
    if options.streams is None:
        return
    others = ", ".join(target.name for target in targets if not target.streams)
    if others:
        takes = ", ".join(target.name for target in TARGETS if target.streams)
        raise UnsupportedOption(
            f"streams are for the targets {takes}, found {others}; leave one of the two out"
        )
    if options.reshaping.changes or options.stacks or options.adapters:
        what = "a shallow stack" if options.stacks else "layers or tokens to be left out"
        what = f"{RUN_OPTION}" if options.adapters else what
        raise UnsupportedOption(
            f"streams were trained for a whole model as it is, and there is {what}; leave one of the two out"
        )


def _check_output_only(options: ConvertOptions, targets: Sequence[Target]) -> None:
    """Refuses a pruned head where something would take its columns for token ids.

    Raises:
        UnsupportedOption: naming it.
    """
    asked = options.reshaping.prune_vocab
    if asked is None or not parse_prune_option(asked).output_only:
        return
    others = ", ".join(target.name for target in targets if target.name not in OUTPUT_ONLY_TARGETS)
    if others:
        raise UnsupportedOption(
            f"an output-only vocabulary is for the targets {', '.join(OUTPUT_ONLY_TARGETS)}, found "
            f"{others}, where ids would be those of the head; leave it out, or prune both vocabularies"
        )
    if options.budget is not None:
        raise UnsupportedOption(
            "a budget is measured on texts that an output-only vocabulary cannot write; give one of the two"
        )


def _check_accuracy(options: ConvertOptions, targets: Sequence[Target], recipes: Sequence[Recipe]) -> None:
    """Refuses a wish that no target heeds, or that none or every file meets.

    Raises:
        UnsupportedOption: naming it.
    """
    wish = options.onnx_accuracy
    if wish is None:
        return
    if not 0 < wish < 1:
        raise UnsupportedOption(f"the accuracy wished for is {wish:g}, expected a share above 0 and below 1")
    if not any(target.raises_accuracy for target in targets):
        takes = ", ".join(target.name for target in TARGETS if target.raises_accuracy)
        raise UnsupportedOption(
            f"an accuracy is for the target {takes}, found "
            f"{', '.join(target.name for target in targets)}; leave it out"
        )
    if not any(recipe.stores_integers for recipe in recipes):
        raise UnsupportedOption(
            f"an accuracy is for recipes that compute with int8, found "
            f"{', '.join(recipe.name for recipe in recipes)}; leave it out"
        )
