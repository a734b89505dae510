"""What compare_checkouts.py converts: every tiny checkpoint of the tests, by recipe and target.

Each job is one source and one target, for one process; its conversions are the arguments of `edgesdk convert`
by label. Beside the plain recipes there are the options that change what is written, a GGUF file's own
blocks, and the rotary tables of the configurations that lie beside a checkpoint's own.
"""

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
TINY = ROOT / "tests" / "data" / "tiny"
CONTEXT = 160  # more than the 128 cells of the smallest cache, so that two sizes of S are run

TARGETS = ("litert", "litert-static", "onnx", "onnx-step", "onnx-npu", "coreml", "coreml-state")
RECIPES = ("f32", "f16", "w8", "w8-round", "w4b32", "w4c", "p4", "source", "source-h4")
CORE_ML = ("coreml", "coreml-state")
FULLY = ("llama", "gemma3", "llama.Q4_1.gguf")
"""Sources that are compared in every recipe and, if checkpoints, with every option."""
FEW_RECIPES = {False: ("f32", "w8", "w4b32"), True: ("f16", "w8", "p4")}
"""Recipes of the other sources, for targets other than Core ML and for those."""
ROTARY_RECIPES = {False: ("f32",), True: ("f16",)}
"""Recipes of sources that differ from another by their rotary tables alone."""
OPTIONS = {
    "half cells": (("litert",), "w8-round", ("--cells", "float16")),
    "int8 cells": (("litert",), "w8-round", ("--cells", "int8")),
    "shallow stack": (("litert",), "w8-round", ("--shallow-skip", "1")),
    "fewer layers": (TARGETS, "f16", ("--skip-layers", "0.attention,1.mlp")),
    "fewer tokens": (TARGETS, "f16", ("--prune-vocab", "tokens={tokens}")),
    "smaller head": (("litert", "litert-static", "onnx-step"), "f32", ("--prune-vocab", "{tokens_of_head}")),
    "mixture": (("litert", "onnx"), "w4b32", ("--budget", "perplexity=1.2")),
    "float products": (("onnx",), "w8-round", ("--onnx-accuracy", "0.95")),
    "two packages": (CORE_ML, "f16", ("--package-limit", "0.12")),
}
"""Targets, recipe and arguments by label."""


@dataclass(frozen=True)
class Job:
    """Conversions of one source for one target.

    Attributes:
        source: the name that the table shows.
        path: what is converted.
        target: name of the target.
        conversions: arguments of `edgesdk convert` by label: a recipe, or an option with its own.
    """

    source: str
    path: str
    target: str
    conversions: dict[str, list[str]]


def list_jobs(
    folder: Path,
    targets: Sequence[str],
    recipes: Sequence[str],
    sources: Sequence[str],
    more: Sequence[str],
    thorough: bool = False,
) -> list[Job]:
    """Every job.

    Args:
        folder: gets the sources that are made here.
        targets: of `TARGETS`.
        recipes: of `RECIPES`.
        sources: parts of the names of sources; empty for all.
        more: paths of further checkpoints, which are compared in every recipe.
        thorough: compare every source in every recipe.
    """
    found = []
    made = {**dict(_tiny()), **dict(_rotary(folder)), **dict(_gguf(folder))}
    named = {name: path for name, path in made.items() if not sources or any(s in name for s in sources)}
    named.update({Path(path).name: Path(path).resolve() for path in more})
    tokens = folder / "tokens.json"
    tokens.write_text(json.dumps(list(range(120))), encoding="utf-8")
    for name, path in named.items():
        for target in targets:
            chosen = RECIPES
            if not (thorough or name in FULLY or name not in made):
                few = ROTARY_RECIPES if "rope" in name else FEW_RECIPES
                chosen = (*few[target in CORE_ML], "source")
            conversions = {
                recipe: _arguments(target, recipe)
                for recipe in recipes
                if recipe in chosen
                and recipe.startswith("source") <= (path.suffix == ".gguf")
                and (recipe != "p4" or target in CORE_ML)
                and (recipe != "f32" or target != "coreml-state")
            }
            if name in FULLY and path.is_dir():
                for label, (suits, recipe, arguments) in OPTIONS.items():
                    if target in suits and recipe in recipes:
                        filled = [
                            each.format(tokens=tokens, tokens_of_head=f"tokens={tokens},output-only")
                            for each in arguments
                        ]
                        conversions[label] = [*_arguments(target, recipe), *filled]
            if conversions:
                found.append(Job(name, str(path), target, conversions))
    return found


def _arguments(target: str, recipe: str) -> list[str]:
    return ["--target", target, "--recipe", recipe, "--context", str(CONTEXT), "--no-prove"]


def _tiny() -> Iterator[tuple[str, Path]]:
    for path in sorted(TINY.glob("*/config.json")):
        yield path.parent.name, path.parent


def _rotary(folder: Path) -> Iterator[tuple[str, Path]]:
    """Checkpoints with another configuration: a copy of the folder, in which it is the first."""
    for path in sorted(TINY.glob("*/config.*.json")):
        name = f"{path.parent.name}.{path.name.removeprefix('config.').removesuffix('.json')}"
        shutil.copytree(path.parent, folder / name, dirs_exist_ok=True)
        shutil.copy(path, folder / name / "config.json")
        yield name, folder / name


def _gguf(folder: Path) -> Iterator[tuple[str, Path]]:
    """GGUF files whose matrices lie in blocks of several types."""
    sys.path.insert(0, str(ROOT / "tests" / "data"))
    from tiny_gguf import KINDS, write_tiny_gguf

    for name, table, matrices in (
        ("llama", KINDS.Q8_0, KINDS.Q4_1),
        ("qwen3", KINDS.Q4_0, KINDS.Q8_0),
        ("gemma2", KINDS.F32, KINDS.Q4_0),
    ):
        path = folder / f"{name}.{matrices.name}.gguf"

        def kind_of(tensor: str, table: KINDS = table, matrices: KINDS = matrices) -> KINDS:
            return table if tensor.startswith("token_embd") else matrices

        yield path.name, write_tiny_gguf(path, name, kind_of=kind_of)
