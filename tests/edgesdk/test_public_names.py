"""What `import edgesdk` offers, and what it costs."""

import subprocess
import sys

import pytest

import edgesdk

NAMES = [
    "Beam",
    "Bundle",
    "BundleError",
    "CapacityError",
    "CheckpointError",
    "Chunk",
    "Completion",
    "DeviceError",
    "EdgeError",
    "EmitError",
    "Engine",
    "EngineMetrics",
    "Generation",
    "GenerationOptions",
    "Governor",
    "GovernorRule",
    "GovernorSettings",
    "LoadOptions",
    "Message",
    "MissingExtra",
    "Model",
    "QueueFull",
    "Receipt",
    "Refusal",
    "RequestMetrics",
    "RequestOptions",
    "Session",
    "SnapshotError",
    "Stream",
    "TokenLogprob",
    "Tool",
    "ToolCall",
    "ToolCallError",
    "TransformError",
    "UnsupportedOption",
    "__version__",
    "load",
    "open_bundle",
]


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_public_names_are_these():
    assert edgesdk.__all__ == NAMES
    assert set(NAMES) <= set(dir(edgesdk))
    for name in NAMES:
        assert getattr(edgesdk, name) is not None


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
