"""The manifest of a bundle: the one thing that converters and runtime both know.

A bundle is a folder:

    manifest.json
    tokenizer.json
    chat_template.jinja           (absent for models without one)
    chat_template.tool_use.jinja  (for conversations with tools, where the checkpoint has another for them)
    parity.npz                    token ids and reference logits or vectors, for `edgesdk verify`
    vocabulary.json               old token ids by new ones (absent for a full vocabulary)
    variants/NAME/...             one folder per variant

The manifest lists every other file with its sha256; a file that is not listed is not read, nor reached by one
that is (docs/security.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edgesdk.bundle.adapter_record import AdapterRecord, check_records
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.embedding_record import EmbeddingRecord as EmbeddingRecord  # part of this record
from edgesdk.bundle.exit_record import ExitStacks, exit_stacks
from edgesdk.bundle.parity_report import ChatAgreement as ChatAgreement  # part of this record
from edgesdk.bundle.parity_report import GreedyAgreement as GreedyAgreement
from edgesdk.bundle.parity_report import ParityReport as ParityReport
from edgesdk.bundle.stack_record import StackRecord as StackRecord  # part of this record
from edgesdk.bundle.step_shape import MAIN
from edgesdk.bundle.step_shape import StepShape as StepShape  # part of this record
from edgesdk.bundle.vector_parity import VectorParity as VectorParity  # part of this record

SCHEMA_VERSION = 2
MANIFEST_NAME = "manifest.json"
TOKENIZER_NAME = "tokenizer.json"
CHAT_TEMPLATE_NAME = "chat_template.jinja"
TOOL_TEMPLATE_NAME = "chat_template.tool_use.jinja"
PARITY_NAME = "parity.npz"
ID_MAP_NAME = "vocabulary.json"

Format = Literal["litert", "onnx-resident", "onnx-step", "coreml", "coreml-state", "onnx-context"]
DeviceClass = Literal["cpu", "gpu", "npu"]
CellType = Literal["float32", "float16", "int8"]


@dataclass(frozen=True)
class FileRecord:
    """Digest (hex) and size of one file of the bundle."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class SourceFile:
    """One file the weights came from."""

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Source:
    """Where the weights came from.

    Attributes:
        kind: `huggingface` (directory or hub) or `gguf`.
        location: hub id, named model or file name; never an absolute path.
        revision: hub commit, when there is one.
        files: every weight file read.
    """

    kind: Literal["huggingface", "gguf"]
    location: str
    files: tuple[SourceFile, ...]
    revision: str | None = None


@dataclass(frozen=True)
class TokenizerRecord:
    """Ids the runtime must know by role.

    Attributes:
        bos_id: put before a prompt when `add_bos`.
        eos_ids: any of these ends generation.
        add_bos: whether plain (not chat) prompts start with `bos_id`.
        bos_token: its text, for chat templates.
        eos_token: text of the checkpoint's end token, for chat templates.
    """

    bos_id: int | None
    eos_ids: tuple[int, ...]
    add_bos: bool
    bos_token: str | None = None
    eos_token: str | None = None


@dataclass(frozen=True)
class GenerationDefaults:
    """What generation_config.json recommends; None where it says nothing."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None
    min_p: float | None = None
    typical_p: float | None = None


@dataclass(frozen=True)
class TransformRecord:
    """One change made between checkpoint and graph: its name and its settings."""

    name: str
    settings: Mapping[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True)
class WeightRecord:
    """How one matrix of a variant came from its source.

    Attributes:
        name: in the variant's graph.
        stored_type: the source's own type name; joined by `+` where tensors of different types were
            fused; None for what no file has.
        kept: `exact` for the file's own integers and scales, `requantised` for others made of integers,
            `quantised` for integers made of floating point numbers, `float` for no integers.
        bits: of the integers; None for `float`.
        block: columns per scale; None for one scale per row.
        algorithm: that chose the integers; None for `float`.
        relative_error: Frobenius norm of what was lost, over that of the weight.
    """

    name: str
    stored_type: str | None
    kept: Literal["exact", "requantised", "quantised", "float"]
    bits: int | None
    block: int | None
    algorithm: str | None
    relative_error: float


@dataclass(frozen=True)
class CalibrationSample:
    """The text that a variant was calibrated with.

    Attributes:
        name: of the built-in sample or of the file.
        sha256: digest (hex) of the text.
        tokens: how many were run.
    """

    name: str
    sha256: str
    tokens: int


@dataclass(frozen=True)
class FrontierPoint:
    """One mixture of precisions, measured on calibration text that it was not chosen on.

    Attributes:
        low: how many matrices have fewer bits.
        size_bytes: of all quantised matrices.
        perplexity_ratio: to the float32 model.
        kl_nats: mean KL(float32 || mixture).
        top1_agreement: share of equal first choices.
    """

    low: int
    size_bytes: int
    perplexity_ratio: float
    kl_nats: float
    top1_agreement: float


@dataclass(frozen=True)
class BudgetRecord:
    """How a mixture of precisions was chosen.

    Attributes:
        request: in the grammar of `convert --budget`.
        low: how many matrices have fewer bits in the mixture chosen.
        frontier: every mixture that was measured, fewest first.
    """

    request: str
    low: int
    frontier: tuple[FrontierPoint, ...]


@dataclass(frozen=True)
class AccuracyRecord:
    """Which products of an ONNX variant compute with float activations, and what that brought.

    Measured on calibration text, against the same file with float activations in every product.

    Attributes:
        wish: least agreement of first choices that was asked for.
        raised: names of their matrices; empty where the wish was met without.
        multiplications_share: theirs, of all quantised products.
        positions: that were compared.
        top1_before: share of positions with the same first choice, with int8 activations everywhere.
        top1_after: the same with those raised.
        kl_before_nats: mean KL(float activations || file) with int8 activations everywhere.
        kl_after_nats: the same with those raised.
    """

    wish: float
    raised: tuple[str, ...]
    multiplications_share: float
    positions: int
    top1_before: float
    top1_after: float
    kl_before_nats: float
    kl_after_nats: float


@dataclass(frozen=True)
class Compatibility:
    """What a variant that was compiled ahead of time runs on.

    Attributes:
        provider: execution provider that loads it.
        soc: system on a chip that it was compiled for.
        compiler: package and version that compiled it.
        source: variant that it was compiled from.
    """

    provider: str
    soc: str
    compiler: str
    source: str


@dataclass(frozen=True)
class Variant:
    """One executable form of the model.

    Attributes:
        name: folder name under `variants/`.
        format: which backends can open it.
        recipe: quantisation recipe.
        device_classes: where it is meant to run.
        entry: main file, relative to the bundle.
        steps: static sizes; empty for a graph with dynamic shapes.
        context: longest sequence this variant can hold, in tokens.
        numbers: digest (hex) of what its weights are: integers with their scales, or floating point numbers,
            under their names, before a file packs them. Variants with the same one may go on with each
            other's cells.
        parity: measured at conversion; None when it was switched off, which `inspect` shows.
        parity_skipped: why there is no report.
        vector_parity: measured at conversion in place of `parity`, of a model that gives states only.
        transforms: what was done to the checkpoint's graph and weights, in order.
        decoder: its shape where it is not the manifest's: a shallow stack beside the whole one.
        weights: how every matrix came from the source, in the order of the graph.
        calibration: text that it was calibrated with; None without.
        budget: how its mixture of precisions was chosen; None without.
        cell_type: how keys and values are cached.
        probe: file with its reference where it is not the bundle's; None for the bundle's.
        compatibility: what it runs on, for a variant that was compiled ahead of time.
        accuracy: which products compute with float activations; None where nobody asked.
        stacks: other entries into the weights of its file, and what the main one has beside the ports of
            every decoder.
    """

    name: str
    format: Format
    recipe: str
    device_classes: tuple[DeviceClass, ...]
    entry: str
    context: int
    numbers: str = field(kw_only=True)
    steps: tuple[StepShape, ...] = ()
    parity: ParityReport | None = None
    parity_skipped: str | None = None
    transforms: tuple[TransformRecord, ...] = ()
    decoder: DecoderSpec | None = None
    weights: tuple[WeightRecord, ...] = ()
    calibration: CalibrationSample | None = None
    budget: BudgetRecord | None = None
    cell_type: CellType = "float32"
    probe: str | None = None
    compatibility: Compatibility | None = None
    accuracy: AccuracyRecord | None = None
    stacks: tuple[StackRecord, ...] = ()
    vector_parity: VectorParity | None = None

    def __post_init__(self) -> None:
        """Refuses sizes of stacks that are not there, and signatures of two.

        Raises:
            ValueError: naming it; readers turn it into their own error.
        """
        names = [record.name for record in self.stacks]
        twice = [name for name, times in Counter(names).items() if times > 1]
        if twice:
            raise ValueError(f"two stacks are called {twice[0][:60]!r}")
        unknown = {step.stack for step in self.steps} - {MAIN, *names}
        if unknown:
            raise ValueError(f"a size belongs to the stack {min(unknown)[:60]!r}, which is not described")
        owners = {step.signature: step.stack for step in self.steps}
        for step in self.steps:
            if owners[step.signature] != step.stack:
                raise ValueError(f"two stacks have sizes of the signature {step.signature[:60]!r}")


@dataclass(frozen=True)
class VocabularyRecord:
    """How a vocabulary was pruned.

    Attributes:
        method: the request, in the grammar of `convert --prune-vocab`.
        source_rows: rows of the checkpoint's embedding table.
        source_tokens: tokens of its tokenizer that have a row.
        tokens: that are left.
        coverage: share of the sample's tokens that were kept; None without a sample.
        id_map_sha256: digest of the id map, which says whether two bundles share their ids.
        output_only: the head alone is pruned: ids are those of the checkpoint, and the map says which of
            them the model can write.
    """

    method: str
    source_rows: int
    source_tokens: int
    tokens: int
    coverage: float | None
    id_map_sha256: str
    output_only: bool = False


@dataclass(frozen=True)
class Manifest:
    """Everything a bundle says about itself."""

    schema_version: int
    name: str
    licence: str | None
    created_by: str
    source: Source
    decoder: DecoderSpec
    tokenizer: TokenizerRecord
    generation: GenerationDefaults
    variants: tuple[Variant, ...]
    files: Mapping[str, FileRecord]
    vocabulary: VocabularyRecord | None = None
    embedding: EmbeddingRecord | None = None
    adapters: tuple[AdapterRecord, ...] = ()

    def __post_init__(self) -> None:
        """Refuses two adapters of one name or gate.

        Raises:
            ValueError: naming it; readers turn it into their own error.
        """
        check_records(self.adapters)

    def decoder_of(self, variant: Variant) -> DecoderSpec:
        """The shape of a variant."""
        return self.decoder if variant.decoder is None else variant.decoder

    def exits_of(self, variant: Variant) -> ExitStacks | None:
        """The segments in which a variant can be run, too; None where its file has none.

        Raises:
            ValueError: its stacks are not a decoder in segments.
        """
        found = {stack.name: stack.exit for stack in variant.stacks if stack.exit is not None}
        return exit_stacks(
            found, {step.stack for step in variant.steps}, len(self.decoder_of(variant).blocks)
        )
