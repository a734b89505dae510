"""Imports point one way: every file may import only what stands below it (docs/architecture.md)."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Top first. A room may import itself and whatever comes after it.
RUNTIME = [
    ("edgesdk.cli",),
    ("edgesdk.compile",),
    ("edgesdk.evaluation",),
    ("edgesdk.engine",),
    ("edgesdk.load_model",),
    ("edgesdk.plan_load",),
    ("edgesdk.model",),
    ("edgesdk.load_options",),
    ("edgesdk.decoding",),
    ("edgesdk.dispatch",),
    ("edgesdk.kv",),
    ("edgesdk.text",),
    ("edgesdk.backends",),
    ("edgesdk.devices",),
    ("edgesdk.bundle",),
    ("edgesdk.errors",),
]
CONVERTERS = [
    ("edgesdk_converters.convert",),
    (
        "edgesdk_converters.targets",
        "edgesdk_converters.parity",
        "edgesdk_converters.quantise_program",
        "edgesdk_converters.reshape",
    ),
    ("edgesdk_converters.shallow_stack",),
    ("edgesdk_converters.prepare", "edgesdk_converters.calibration_windows"),
    ("edgesdk_converters.emit",),
    ("edgesdk_converters.step_sizes", "edgesdk_converters.layers", "edgesdk_converters.transforms"),
    ("edgesdk_converters.quantise",),
    ("edgesdk_converters.graph",),
    ("edgesdk_converters.vocabulary",),
    ("edgesdk_converters.architectures",),
    ("edgesdk_converters.checkpoints",),
    ("edgesdk_converters.tokenizers",),
]
# What converters may use of edgesdk (agreement is arithmetic on logits); those that run what was
# written, or tokenize text, may use all of it.
SHARED = ("edgesdk.bundle", "edgesdk.errors", "edgesdk.evaluation.agreement")
PROVERS = (
    "edgesdk_converters.convert",
    "edgesdk_converters.parity",
    "edgesdk_converters.calibration_windows",
)
# A GGUF file brings its tokenizer along, and the tokenizers room returns the record of checkpoints.
ALLOWED_UP = {
    ("edgesdk_converters.tokenizers", "edgesdk_converters.checkpoints"),
    ("edgesdk_converters.architectures", "edgesdk_converters.graph"),
}


def root_of(path):
    """Where a package's folder lies: the converters' is one level down."""
    return ROOT / "converters" if path.is_relative_to(ROOT / "converters") else ROOT


def module_name(path):
    parts = path.relative_to(root_of(path)).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            # `from package import module` names the module; a plain name harms nothing here.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def starts(module, prefix):
    return module == prefix or module.startswith(prefix + ".")


def rank(layers, module):
    found = [i for i, layer in enumerate(layers) if any(starts(module, prefix) for prefix in layer)]
    return found[0] if found else None


def room(layers, module):
    return next(prefix for layer in layers for prefix in layer if starts(module, prefix))


FILES = sorted([*(ROOT / "edgesdk").rglob("*.py"), *(ROOT / "converters").rglob("*.py")])


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_point_down(path):
    here = module_name(path)
    layers = RUNTIME if starts(here, "edgesdk") else CONVERTERS
    mine = rank(layers, here)
    for module in imports(path):
        if starts(module, "edgesdk_converters") and starts(here, "edgesdk"):
            assert starts(here, "edgesdk.cli"), f"{here} imports {module}"
        if starts(module, "edgesdk") and starts(here, "edgesdk_converters"):
            allowed = any(starts(module, prefix) for prefix in SHARED)
            assert allowed or any(starts(here, p) for p in PROVERS), f"{here} imports {module}"
        theirs = rank(layers, module)
        if mine is None or theirs is None or theirs >= mine:
            continue
        assert (room(layers, here), room(layers, module)) in ALLOWED_UP, f"{here} imports {module}"


def test_every_room_has_a_layer():
    packages = {
        module_name(p) for p in FILES if p.name == "__init__.py" and len(p.relative_to(root_of(p)).parts) == 3
    }
    for package in packages:
        layers = RUNTIME if starts(package, "edgesdk") else CONVERTERS
        assert rank(layers, package) is not None, f"{package} has no place in the order of imports"
