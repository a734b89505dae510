"""Imports point one way: every file may import only what stands below it (docs/architecture.md).

Rooms are in an order, and inside a room files have one too: no chain of imports leads from a file back to
it. Imports inside functions and those that only type checkers read count like any other, so nothing is
made loadable by putting an import where it does not show.
"""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Top first. A room may import itself and whatever comes after it.
RUNTIME = [
    "edgesdk.__main__",
    "edgesdk.cli",
    "edgesdk.server",
    "edgesdk.compile",
    "edgesdk.evaluation",
    "edgesdk.retrieval",
    "edgesdk.orchestration",
    "edgesdk.engine",
    "edgesdk.load_model",
    "edgesdk.plan_load",
    "edgesdk.model",
    "edgesdk.load_options",
    "edgesdk.drafts",
    "edgesdk.plans",
    "edgesdk.vectors",
    "edgesdk.decoding",
    "edgesdk.dispatch",
    "edgesdk.kv",
    "edgesdk.text",
    "edgesdk.backends",
    "edgesdk.devices",
    "edgesdk.bundle",
    "edgesdk.errors",
    "edgesdk.version",
]
CONVERTERS = [
    "edgesdk_converters.sweeps",
    "edgesdk_converters.training",
    "edgesdk_converters.add_adapter",
    "edgesdk_converters.estimate",
    "edgesdk_converters.convert",
    "edgesdk_converters.prove_variants",
    "edgesdk_converters.prove_vectors",
    "edgesdk_converters.write_variants",
    "edgesdk_converters.read_source",
    "edgesdk_converters.plan_stages",
    "edgesdk_converters.check_whole_text",
    "edgesdk_converters.convert_options",
    "edgesdk_converters.check_targets",
    "edgesdk_converters.reshape",
    "edgesdk_converters.stream_stacks",
    "edgesdk_converters.streams",
    "edgesdk_converters.drafts",
    "edgesdk_converters.check_targets",
    "edgesdk_converters.targets",
    "edgesdk_converters.parity",
    "edgesdk_converters.shallow_stack",
    "edgesdk_converters.exit_stacks",
    "edgesdk_converters.quantise_program",
    "edgesdk_converters.prepare",
    "edgesdk_converters.calibration_windows",
    "edgesdk_converters.emit",
    "edgesdk_converters.layers",
    "edgesdk_converters.drafts",
    "edgesdk_converters.transforms",
    "edgesdk_converters.quantise",
    "edgesdk_converters.vocabulary",
    "edgesdk_converters.adapters",
    "edgesdk_converters.architectures",
    "edgesdk_converters.graph",
    "edgesdk_converters.checkpoints",
    "edgesdk_converters.tokenizers",
    "edgesdk_converters.step_sizes",
    "edgesdk_converters.progress",
    "edgesdk_converters.draw_svg",
]
# What converters may use of edgesdk (agreement is arithmetic on logits); those that run what was
# written, or tokenize text, may use all of it.
SHARED = ("edgesdk.bundle", "edgesdk.errors", "edgesdk.evaluation.agreement")
PROVERS = (
    "edgesdk_converters.convert",
    "edgesdk_converters.prove_variants",
    "edgesdk_converters.prove_vectors",
    "edgesdk_converters.parity",
    "edgesdk_converters.sweeps",
    "edgesdk_converters.calibration_windows",
    "edgesdk_converters.training.learning_texts",
    "edgesdk_converters.training.running_target",
    "edgesdk_converters.training.teach_texts",
    "edgesdk_converters.training.train_judge",
    "edgesdk_converters.training.train_exits",
    "edgesdk_converters.training.watch_exits",
)


def root_of(path):
    """Where a package's folder lies: the converters' is one level down."""
    return ROOT / "converters" if path.is_relative_to(ROOT / "converters") else ROOT


def module_name(path):
    parts = path.relative_to(root_of(path)).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(text: str) -> Iterator[str]:
    """Everything that a file imports anywhere in it; of `from x import y`, `x.y`."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def starts(module, prefix):
    return module == prefix or module.startswith(prefix + ".")


def rank(layers, module):
    return next((i for i, room in enumerate(layers) if starts(module, room)), None)


def circle(texts: Mapping[str, str]) -> list[str]:
    """Modules that import each other in a circle, the first one again at the end; empty if there is none.

    Args:
        texts: source by module name. A package counts for what its `__init__` imports, and is imported
            where a name of it is.
    """
    read: dict[str, set[str]] = {}
    for module, text in texts.items():
        named = {name if name in texts else name.rpartition(".")[0] for name in imports(text)}
        read[module] = (named & texts.keys()) - {module}
    try:
        TopologicalSorter(read).prepare()
    except CycleError as error:
        return error.args[1]
    return []


FILES = sorted([*(ROOT / "edgesdk").rglob("*.py"), *(ROOT / "converters").rglob("*.py")])


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_point_down(path):
    here = module_name(path)
    layers = RUNTIME if starts(here, "edgesdk") else CONVERTERS
    mine = rank(layers, here)
    for module in imports(path.read_text(encoding="utf-8")):
        if starts(module, "edgesdk_converters") and starts(here, "edgesdk"):
            assert starts(here, "edgesdk.cli"), f"{here} imports {module}"
        if starts(module, "edgesdk") and starts(here, "edgesdk_converters"):
            allowed = any(starts(module, prefix) for prefix in SHARED)
            assert allowed or any(starts(here, p) for p in PROVERS), f"{here} imports {module}"
        theirs = rank(layers, module)
        assert mine is None or theirs is None or theirs >= mine, f"{here} imports {module}"


def test_no_circles_of_files():
    texts = {module_name(path): path.read_text(encoding="utf-8") for path in FILES}
    found = circle(texts)
    assert not found, " -> ".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "import p.b",
        "from p.b import name",
        "from p import b",
        "def f():\n    from p.b import name",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.b import name",
    ],
)
def test_a_circle_is_found_wherever_it_hides(line):
    texts = {"p": "", "p.a": line, "p.b": "from p.c import x", "p.c": "import p.a", "p.d": "import p.a"}
    assert set(circle(texts)) == {"p.a", "p.b", "p.c"}
    assert not circle({**texts, "p.c": ""})


def test_every_file_has_a_place():
    for module in map(module_name, FILES):
        if module.count("."):  # a package's own `__init__` stands above its rooms
            layers = RUNTIME if starts(module, "edgesdk") else CONVERTERS
            assert rank(layers, module) is not None, f"{module} has no place in the order of imports"
