"""What `import edgesdk` offers, and what it costs."""

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import ParamSpec, TypeVar, get_origin

import numpy as np
import pytest

import edgesdk

NAMES = [
    "AccuracyRecord",
    "AdapterChoice",
    "AdapterRecord",
    "AskKeywords",
    "AskMode",
    "AskOptions",
    "Attention",
    "Beam",
    "Between",
    "Block",
    "BudgetRecord",
    "Bundle",
    "BundleError",
    "CalibrationSample",
    "Cancelled",
    "CapacityError",
    "ChatAgreement",
    "ChatTemplate",
    "CheckpointError",
    "Chunk",
    "Classification",
    "ClassifiedTexts",
    "Compatibility",
    "Completion",
    "Convolution",
    "DecoderSpec",
    "DeviceError",
    "DraftRecord",
    "EarlyExit",
    "EdgeError",
    "Embedder",
    "EmbeddingRecord",
    "EmitError",
    "Encoder",
    "Engine",
    "EngineKeywords",
    "EngineMetrics",
    "ExitFigures",
    "ExitRecord",
    "ExitRule",
    "ExitStacks",
    "FeedForward",
    "FileRecord",
    "FinishReason",
    "FrontierPoint",
    "GateKeywords",
    "GateName",
    "GateOptions",
    "Generation",
    "GenerationDefaults",
    "GenerationKeywords",
    "GenerationOptions",
    "Governor",
    "GovernorLimits",
    "GovernorRule",
    "GovernorSettings",
    "GreedyAgreement",
    "Half",
    "HowAnswered",
    "ImportProgress",
    "Incident",
    "IndexProgress",
    "IndexReport",
    "IndexStats",
    "ItemAnswer",
    "JsonSchema",
    "JsonValue",
    "LayerInputs",
    "LoadKeywords",
    "LoadOptions",
    "Manifest",
    "ManyAnswers",
    "Measurement",
    "Merge",
    "Message",
    "MissingExtra",
    "Model",
    "ModelEmbedder",
    "ModelOrEngine",
    "NodeAnswer",
    "ParityReport",
    "Passage",
    "Phase",
    "PhaseFigures",
    "Plan",
    "PlanNode",
    "Policy",
    "Port",
    "PowerReadings",
    "Prompt",
    "QueueFull",
    "RankedPassage",
    "Receipt",
    "Refusal",
    "RequestMetrics",
    "RequestOptions",
    "RetrievalError",
    "RotarySpec",
    "Runner",
    "Session",
    "ShelvedModel",
    "SkeletonAnswer",
    "SkeletonChunk",
    "SkeletonKeywords",
    "SkeletonOptions",
    "SnapshotError",
    "Source",
    "SourceFile",
    "SourcedAnswer",
    "StackRecord",
    "Stage",
    "StageName",
    "StepShape",
    "Stream",
    "StreamPart",
    "StreamsRecord",
    "TemplateVariables",
    "TextIndex",
    "TokenLogprob",
    "TokenSequence",
    "Tokenizer",
    "TokenizerRecord",
    "Tool",
    "ToolCall",
    "ToolCallError",
    "ToolChoice",
    "TransformError",
    "TransformRecord",
    "Unread",
    "UnsupportedOption",
    "Variant",
    "VectorFigures",
    "VectorParity",
    "VocabularyRecord",
    "WeightRecord",
    "__version__",
    "answer_by_skeleton",
    "answer_with_sources",
    "ask_many",
    "command_line",
    "freeze_support",
    "import_bundle",
    "load",
    "make_index",
    "open_bundle",
    "open_encoder",
    "open_index",
    "plan_svg",
    "plan_tree",
    "read_plan",
    "shelved_models",
    "stream_by_skeleton",
]
HOUSE = {
    "Encoder.__init__",
    "Engine.adopt_session",
    "Engine.drop_session",
    "Engine.runner",
    "Engine.sessions",
    "Engine.submit_in_session",
    "GenerationOptions.sampling",
    "Generation.__init__",
    "Model.__init__",
    "Model.backend",
    "Model.drafts",
    "Model.reader",
    "Session.__init__",
    "Stream.__init__",
}
"""Members that only other rooms use, each by its own words: their types are not for callers."""


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_public_names_are_these():
    assert edgesdk.__all__ == NAMES
    assert set(NAMES) <= set(dir(edgesdk))
    for name in NAMES:
        assert getattr(edgesdk, name) is not None


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(edgesdk.__file__).read_text("utf-8"))
    found = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }
    assert found == edgesdk._HOMES


def source_of(module):
    return ast.parse(Path(import_module(module).__file__).read_text("utf-8"))


def is_ours(module):
    return module == "edgesdk" or module.startswith("edgesdk.")


def known_names(module):
    """What names of ours mean in a module, those for type checkers included."""
    found = {}
    tree = source_of(module)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and is_ours(node.module):
            found |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found[node.name] = (module, node.name)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = (module, node.targets[0].id)
    return found


def meaning(module, name):
    """An object of ours, or a module."""
    value = getattr(import_module(module), name, None)
    return import_module(f"{module}.{name}") if value is None else value


def parts_of(function):
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every = [each for each in (*named, arguments.vararg, arguments.kwarg) if each is not None]
    yield from (each.annotation for each in every if each.annotation is not None)
    if function.returns is not None:
        yield function.returns


def annotations(module, name):
    """The annotations that a caller of a public name meets, with where they stand."""
    for node in source_of(module).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            yield from ((name, each) for each in parts_of(node))
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            yield name, node.value
        elif isinstance(node, ast.ClassDef) and node.name == name:
            for member in node.body:
                if isinstance(member, ast.AnnAssign) and not ast.unparse(member.target).startswith("_"):
                    yield f"{name}.{ast.unparse(member.target)}", member.annotation
                elif isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) and (
                    not member.name.startswith("_") or member.name == "__init__"
                ):
                    yield from ((f"{name}.{member.name}", each) for each in parts_of(member))


def types_in(annotation, known):
    """The objects of ours that an annotation names; an array of numpy's by a short name is none."""
    for node in ast.walk(annotation):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in known:
            inside = meaning(*known[ast.unparse(node.value)])
            yield node.attr, getattr(inside, node.attr)
        elif isinstance(node, ast.Name) and node.id in known:
            value = meaning(*known[node.id])
            if (
                not isinstance(value, ModuleType | TypeVar | ParamSpec)
                and get_origin(value) is not np.ndarray
            ):
                yield node.id, value


def test_every_type_that_a_public_name_takes_or_returns_is_public():
    """Of attributes the classes only: texts among a few, as a `Literal`, need no name to be written."""
    missing = {}
    looked_at = 0
    for name, module in edgesdk._HOMES.items():
        known = known_names(module)
        assert known[name] == (module, name), f"{name} comes from {known[name][0]}"
        for place, annotation in annotations(module, name):
            if place in HOUSE:
                continue
            looked_at += 1
            called = (
                callable(getattr(getattr(edgesdk, name), place.partition(".")[2], None)) or "." not in place
            )
            for used, value in types_in(annotation, known):
                if getattr(edgesdk, used, None) is not value and (called or isinstance(value, type)):
                    missing[used] = place
    assert not missing
    assert looked_at > 400


def test_members_for_the_house_say_so():
    for place in HOUSE:
        owner, member = place.split(".")
        cls = getattr(edgesdk, owner)
        said = cls.__doc__ if member == "__init__" else getattr(cls, member).__doc__
        assert re.search(r"\bmakes? one\b|; for (the|tests)\b|; for `Session`", said), f"{place}: {said}"


def test_every_error_of_the_tree_is_public():
    from edgesdk import errors

    tree = {n for n, v in vars(errors).items() if isinstance(v, type) and issubclass(v, errors.EdgeError)}
    assert tree <= set(edgesdk.__all__)
    assert all(getattr(edgesdk, name) is getattr(errors, name) for name in tree)


def test_importing_costs_nothing():
    heavy = "{'numpy', 'onnxruntime', 'ai_edge_litert', 'tokenizers', 'click', 'edgesdk_converters'}"
    assert run(f"import sys, edgesdk; print(sorted({heavy} & set(sys.modules)))") == "[]"


def test_load_is_the_function_whatever_was_imported_before():
    assert run("import edgesdk.load_model, edgesdk; print(type(edgesdk.load).__name__)") == "function"
    assert run("import edgesdk; edgesdk.Model; print(type(edgesdk.load).__name__)") == "function"


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        edgesdk.nonsense  # noqa: B018


def test_loading_without_a_goal_imports_nothing_that_measures_or_probes():
    heavy = "{'edgesdk.dispatch.measure', 'edgesdk.devices.run_probe', 'subprocess', 'psutil'}"
    assert run(f"import sys, edgesdk; edgesdk.load; print(sorted({heavy} & set(sys.modules)))") == "[]"


def test_load_brings_nothing_that_only_some_bundles_need():
    seldom = ("jinja2", "tokenizers", "edgesdk.backends.coreml.interpreter", "edgesdk.dispatch.plan_for_goal")
    code = f"import sys, edgesdk; edgesdk.load; print([name for name in {seldom} if name in sys.modules])"
    assert run(code) == "[]"


def test_load_brings_nothing_of_adapter_files_and_early_exits():
    seldom = (
        "edgesdk.backends.genai_adapters",
        "edgesdk.backends.onnx_adapter_file",
        "edgesdk.backends.resident_adapters",
        "edgesdk.dispatch.exit_features",
        "edgesdk.dispatch.exit_prompts",
        "edgesdk.dispatch.exit_rule",
        "edgesdk.dispatch.exit_sequence",
        "edgesdk.dispatch.exit_steps",
        "edgesdk.vectors.classify",
        "edgesdk.vectors.open_exits",
    )
    code = f"import sys, edgesdk.load_model; print([name for name in {seldom} if name in sys.modules])"
    assert run(code) == "[]"
