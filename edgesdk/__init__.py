"""On-device language models.

    import edgesdk

    with edgesdk.load("bundle") as model:
        print(model.generate("The sea is").text)
        print(model.receipt)

The public names are imported when they are first used: `import edgesdk` itself costs next to nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgesdk.backends.protocol import Between as Between
    from edgesdk.backends.protocol import TokenSequence as TokenSequence
    from edgesdk.bundle.adapter_record import AdapterChoice as AdapterChoice
    from edgesdk.bundle.adapter_record import AdapterRecord as AdapterRecord
    from edgesdk.bundle.decoder_block import Attention as Attention
    from edgesdk.bundle.decoder_block import Block as Block
    from edgesdk.bundle.decoder_block import Convolution as Convolution
    from edgesdk.bundle.decoder_block import FeedForward as FeedForward
    from edgesdk.bundle.decoder_block import LayerInputs as LayerInputs
    from edgesdk.bundle.decoder_block import RotarySpec as RotarySpec
    from edgesdk.bundle.decoder_spec import DecoderSpec as DecoderSpec
    from edgesdk.bundle.decoder_spec import Half as Half
    from edgesdk.bundle.embedding_record import EmbeddingRecord as EmbeddingRecord
    from edgesdk.bundle.exit_record import ExitRecord as ExitRecord
    from edgesdk.bundle.exit_record import ExitStacks as ExitStacks
    from edgesdk.bundle.import_bundle import ImportProgress as ImportProgress
    from edgesdk.bundle.import_bundle import import_bundle as import_bundle
    from edgesdk.bundle.manifest import AccuracyRecord as AccuracyRecord
    from edgesdk.bundle.manifest import BudgetRecord as BudgetRecord
    from edgesdk.bundle.manifest import CalibrationSample as CalibrationSample
    from edgesdk.bundle.manifest import Compatibility as Compatibility
    from edgesdk.bundle.manifest import FileRecord as FileRecord
    from edgesdk.bundle.manifest import FrontierPoint as FrontierPoint
    from edgesdk.bundle.manifest import GenerationDefaults as GenerationDefaults
    from edgesdk.bundle.manifest import Manifest as Manifest
    from edgesdk.bundle.manifest import Source as Source
    from edgesdk.bundle.manifest import SourceFile as SourceFile
    from edgesdk.bundle.manifest import TokenizerRecord as TokenizerRecord
    from edgesdk.bundle.manifest import TransformRecord as TransformRecord
    from edgesdk.bundle.manifest import Variant as Variant
    from edgesdk.bundle.manifest import VocabularyRecord as VocabularyRecord
    from edgesdk.bundle.manifest import WeightRecord as WeightRecord
    from edgesdk.bundle.parity_report import ChatAgreement as ChatAgreement
    from edgesdk.bundle.parity_report import GreedyAgreement as GreedyAgreement
    from edgesdk.bundle.parity_report import ParityReport as ParityReport
    from edgesdk.bundle.port import Port as Port
    from edgesdk.bundle.reader import Bundle as Bundle
    from edgesdk.bundle.reader import open_bundle as open_bundle
    from edgesdk.bundle.records import JsonValue as JsonValue
    from edgesdk.bundle.shelf_models import ShelvedModel as ShelvedModel
    from edgesdk.bundle.shelf_models import shelved_models as shelved_models
    from edgesdk.bundle.stack_record import DraftRecord as DraftRecord
    from edgesdk.bundle.stack_record import StackRecord as StackRecord
    from edgesdk.bundle.stack_record import StreamsRecord as StreamsRecord
    from edgesdk.bundle.step_shape import StepShape as StepShape
    from edgesdk.bundle.stream_part import StreamPart as StreamPart
    from edgesdk.bundle.vector_parity import VectorFigures as VectorFigures
    from edgesdk.bundle.vector_parity import VectorParity as VectorParity
    from edgesdk.decoding.beam import Beam as Beam
    from edgesdk.decoding.completion import Chunk as Chunk
    from edgesdk.decoding.completion import Completion as Completion
    from edgesdk.decoding.logprobs import TokenLogprob as TokenLogprob
    from edgesdk.decoding.options import GenerationKeywords as GenerationKeywords
    from edgesdk.decoding.options import GenerationOptions as GenerationOptions
    from edgesdk.decoding.options import JsonSchema as JsonSchema
    from edgesdk.decoding.stopping import FinishReason as FinishReason
    from edgesdk.decoding.stream import Cancelled as Cancelled
    from edgesdk.decoding.stream import Stream as Stream
    from edgesdk.devices.governor import Governor as Governor
    from edgesdk.devices.governor import GovernorLimits as GovernorLimits
    from edgesdk.devices.governor import GovernorRule as GovernorRule
    from edgesdk.devices.governor import GovernorSettings as GovernorSettings
    from edgesdk.devices.measurement import Measurement as Measurement
    from edgesdk.devices.measurement import PhaseFigures as PhaseFigures
    from edgesdk.devices.power_readings import PowerReadings as PowerReadings
    from edgesdk.devices.python_process import command_line as command_line
    from edgesdk.devices.python_process import freeze_support as freeze_support
    from edgesdk.devices.receipt import Incident as Incident
    from edgesdk.devices.receipt import Phase as Phase
    from edgesdk.devices.receipt import Receipt as Receipt
    from edgesdk.devices.receipt import Refusal as Refusal
    from edgesdk.devices.receipt import Runner as Runner
    from edgesdk.dispatch.exit_rule import EarlyExit as EarlyExit
    from edgesdk.dispatch.exit_rule import ExitRule as ExitRule
    from edgesdk.dispatch.exit_sequence import ExitFigures as ExitFigures
    from edgesdk.engine.engine import Engine as Engine
    from edgesdk.engine.engine_options import EngineKeywords as EngineKeywords
    from edgesdk.engine.generation import Generation as Generation
    from edgesdk.engine.metrics import EngineMetrics as EngineMetrics
    from edgesdk.engine.metrics import RequestMetrics as RequestMetrics
    from edgesdk.engine.request_options import RequestOptions as RequestOptions
    from edgesdk.engine.scheduler import Policy as Policy
    from edgesdk.engine.session import Session as Session
    from edgesdk.errors import BundleError as BundleError
    from edgesdk.errors import CapacityError as CapacityError
    from edgesdk.errors import CheckpointError as CheckpointError
    from edgesdk.errors import DeviceError as DeviceError
    from edgesdk.errors import EdgeError as EdgeError
    from edgesdk.errors import EmitError as EmitError
    from edgesdk.errors import MissingExtra as MissingExtra
    from edgesdk.errors import QueueFull as QueueFull
    from edgesdk.errors import RetrievalError as RetrievalError
    from edgesdk.errors import SnapshotError as SnapshotError
    from edgesdk.errors import ToolCallError as ToolCallError
    from edgesdk.errors import TransformError as TransformError
    from edgesdk.errors import UnsupportedOption as UnsupportedOption
    from edgesdk.load_model import load as load
    from edgesdk.load_options import LoadKeywords as LoadKeywords
    from edgesdk.load_options import LoadOptions as LoadOptions
    from edgesdk.model import Model as Model
    from edgesdk.orchestration.answer_by_skeleton import answer_by_skeleton as answer_by_skeleton
    from edgesdk.orchestration.answer_by_skeleton import stream_by_skeleton as stream_by_skeleton
    from edgesdk.orchestration.ask_many import ask_many as ask_many
    from edgesdk.orchestration.draw_plan import plan_svg as plan_svg
    from edgesdk.orchestration.draw_plan import plan_tree as plan_tree
    from edgesdk.plans.ask_options import AskKeywords as AskKeywords
    from edgesdk.plans.ask_options import AskOptions as AskOptions
    from edgesdk.plans.ask_options import Merge as Merge
    from edgesdk.plans.many_answers import AskMode as AskMode
    from edgesdk.plans.many_answers import HowAnswered as HowAnswered
    from edgesdk.plans.many_answers import ItemAnswer as ItemAnswer
    from edgesdk.plans.many_answers import ManyAnswers as ManyAnswers
    from edgesdk.plans.model_or_engine import ModelOrEngine as ModelOrEngine
    from edgesdk.plans.read_plan import read_plan as read_plan
    from edgesdk.plans.skeleton_answer import NodeAnswer as NodeAnswer
    from edgesdk.plans.skeleton_answer import SkeletonAnswer as SkeletonAnswer
    from edgesdk.plans.skeleton_answer import SkeletonChunk as SkeletonChunk
    from edgesdk.plans.skeleton_options import SkeletonKeywords as SkeletonKeywords
    from edgesdk.plans.skeleton_options import SkeletonOptions as SkeletonOptions
    from edgesdk.plans.skeleton_plan import Plan as Plan
    from edgesdk.plans.skeleton_plan import PlanNode as PlanNode
    from edgesdk.retrieval.answer_with_sources import answer_with_sources as answer_with_sources
    from edgesdk.retrieval.embedder import Embedder as Embedder
    from edgesdk.retrieval.gate_options import GateKeywords as GateKeywords
    from edgesdk.retrieval.gate_options import GateOptions as GateOptions
    from edgesdk.retrieval.passage import IndexReport as IndexReport
    from edgesdk.retrieval.passage import IndexStats as IndexStats
    from edgesdk.retrieval.passage import Passage as Passage
    from edgesdk.retrieval.passage import Unread as Unread
    from edgesdk.retrieval.sourced_answer import GateName as GateName
    from edgesdk.retrieval.sourced_answer import SourcedAnswer as SourcedAnswer
    from edgesdk.retrieval.sourced_answer import Stage as Stage
    from edgesdk.retrieval.sourced_answer import StageName as StageName
    from edgesdk.retrieval.text_index import IndexProgress as IndexProgress
    from edgesdk.retrieval.text_index import TextIndex as TextIndex
    from edgesdk.retrieval.text_index import make_index as make_index
    from edgesdk.retrieval.text_index import open_index as open_index
    from edgesdk.text.chat_template import ChatTemplate as ChatTemplate
    from edgesdk.text.chat_template import TemplateVariables as TemplateVariables
    from edgesdk.text.encode_prompt import Prompt as Prompt
    from edgesdk.text.messages import Message as Message
    from edgesdk.text.tokenizer import Tokenizer as Tokenizer
    from edgesdk.text.tools import Tool as Tool
    from edgesdk.text.tools import ToolCall as ToolCall
    from edgesdk.text.tools import ToolChoice as ToolChoice
    from edgesdk.vectors.classify import Classification as Classification
    from edgesdk.vectors.classify import ClassifiedTexts as ClassifiedTexts
    from edgesdk.vectors.encoder import Encoder as Encoder
    from edgesdk.vectors.encoder import open_encoder as open_encoder
    from edgesdk.vectors.model_embedder import ModelEmbedder as ModelEmbedder
    from edgesdk.vectors.rerank import RankedPassage as RankedPassage

    __version__: str

# ONNX Runtime reads it when it is loaded (edgesdk/backends/onnxruntime_telemetry.py). Here it stands before
# any import of ours, in probes too; who has set it has chosen.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_NAMES = {
    "edgesdk.backends.protocol": "Between TokenSequence",
    "edgesdk.bundle.adapter_record": "AdapterChoice AdapterRecord",
    "edgesdk.bundle.decoder_block": "Attention Block Convolution FeedForward LayerInputs RotarySpec",
    "edgesdk.bundle.decoder_spec": "DecoderSpec Half",
    "edgesdk.bundle.import_bundle": "ImportProgress import_bundle",
    "edgesdk.bundle.manifest": (
        "AccuracyRecord BudgetRecord CalibrationSample Compatibility FileRecord FrontierPoint "
        "GenerationDefaults Manifest Source SourceFile TokenizerRecord TransformRecord Variant "
        "VocabularyRecord WeightRecord"
    ),
    "edgesdk.bundle.embedding_record": "EmbeddingRecord",
    "edgesdk.bundle.exit_record": "ExitRecord ExitStacks",
    "edgesdk.bundle.parity_report": "ChatAgreement GreedyAgreement ParityReport",
    "edgesdk.bundle.vector_parity": "VectorFigures VectorParity",
    "edgesdk.bundle.port": "Port",
    "edgesdk.bundle.reader": "Bundle open_bundle",
    "edgesdk.bundle.records": "JsonValue",
    "edgesdk.bundle.shelf_models": "ShelvedModel shelved_models",
    "edgesdk.bundle.stack_record": "DraftRecord StackRecord StreamsRecord",
    "edgesdk.bundle.step_shape": "StepShape",
    "edgesdk.bundle.stream_part": "StreamPart",
    "edgesdk.decoding.beam": "Beam",
    "edgesdk.decoding.completion": "Chunk Completion",
    "edgesdk.decoding.logprobs": "TokenLogprob",
    "edgesdk.decoding.options": "GenerationKeywords GenerationOptions JsonSchema",
    "edgesdk.decoding.stopping": "FinishReason",
    "edgesdk.decoding.stream": "Cancelled Stream",
    "edgesdk.devices.governor": "Governor GovernorLimits GovernorRule GovernorSettings",
    "edgesdk.devices.measurement": "Measurement PhaseFigures",
    "edgesdk.devices.power_readings": "PowerReadings",
    "edgesdk.devices.python_process": "command_line freeze_support",
    "edgesdk.devices.receipt": "Incident Phase Receipt Refusal Runner",
    "edgesdk.dispatch.exit_rule": "EarlyExit ExitRule",
    "edgesdk.dispatch.exit_sequence": "ExitFigures",
    "edgesdk.engine.engine": "Engine",
    "edgesdk.engine.engine_options": "EngineKeywords",
    "edgesdk.engine.generation": "Generation",
    "edgesdk.engine.metrics": "EngineMetrics RequestMetrics",
    "edgesdk.engine.request_options": "RequestOptions",
    "edgesdk.engine.scheduler": "Policy",
    "edgesdk.engine.session": "Session",
    "edgesdk.errors": (
        "BundleError CapacityError CheckpointError DeviceError EdgeError EmitError MissingExtra "
        "QueueFull RetrievalError SnapshotError ToolCallError TransformError UnsupportedOption"
    ),
    "edgesdk.load_model": "load",
    "edgesdk.load_options": "LoadKeywords LoadOptions",
    "edgesdk.model": "Model",
    "edgesdk.orchestration.answer_by_skeleton": "answer_by_skeleton stream_by_skeleton",
    "edgesdk.orchestration.ask_many": "ask_many",
    "edgesdk.orchestration.draw_plan": "plan_svg plan_tree",
    "edgesdk.plans.ask_options": "AskKeywords AskOptions Merge",
    "edgesdk.plans.many_answers": "AskMode HowAnswered ItemAnswer ManyAnswers",
    "edgesdk.plans.model_or_engine": "ModelOrEngine",
    "edgesdk.plans.read_plan": "read_plan",
    "edgesdk.plans.skeleton_answer": "NodeAnswer SkeletonAnswer SkeletonChunk",
    "edgesdk.plans.skeleton_options": "SkeletonKeywords SkeletonOptions",
    "edgesdk.plans.skeleton_plan": "Plan PlanNode",
    "edgesdk.retrieval.answer_with_sources": "answer_with_sources",
    "edgesdk.retrieval.embedder": "Embedder",
    "edgesdk.retrieval.gate_options": "GateKeywords GateOptions",
    "edgesdk.retrieval.passage": "IndexReport IndexStats Passage Unread",
    "edgesdk.retrieval.sourced_answer": "GateName SourcedAnswer Stage StageName",
    "edgesdk.retrieval.text_index": "IndexProgress TextIndex make_index open_index",
    "edgesdk.text.chat_template": "ChatTemplate TemplateVariables",
    "edgesdk.text.encode_prompt": "Prompt",
    "edgesdk.text.messages": "Message",
    "edgesdk.text.tokenizer": "Tokenizer",
    "edgesdk.text.tools": "Tool ToolCall ToolChoice",
    "edgesdk.vectors.classify": "Classification ClassifiedTexts",
    "edgesdk.vectors.encoder": "Encoder open_encoder",
    "edgesdk.vectors.model_embedder": "ModelEmbedder",
    "edgesdk.vectors.rerank": "RankedPassage",
}
"""What is public, by the module that has it: what somebody calls, and every type that it takes or returns."""

_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> object:
    if name == "__version__":
        from edgesdk.version import read_version

        return read_version()
    if name not in _HOMES:
        raise AttributeError(f"module 'edgesdk' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
