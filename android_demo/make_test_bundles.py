"""Makes what the Java runtimes are tested against: tiny bundles, and what edgesdk in Python says of them.

    python android_demo/make_test_bundles.py OUT
    mvn -f android_demo/pom.xml test -Dbundles=OUT

Each bundle has a variant for ONNX Runtime and one for LiteRT, in float32. `expected.json` has for each prompt
its ids, the largest logits after it, and greedy tokens with their lead over the runner-up, by LiteRT in
Python. Runtimes round differently, so a value agrees within `TOLERANCE` of the largest magnitude, and tokens
up to the first one that leads by less than twice that.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

import edgesdk
from edgesdk.bundle.manifest import CHAT_TEMPLATE_NAME
from edgesdk.bundle.reader import open_bundle
from edgesdk.bundle.records import JsonValue
from edgesdk.model import Model
from edgesdk_converters.adapters.write_peft import TrainedAdapter, write_peft
from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.convert import ConvertOptions, convert

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ios_notes"))  # its scripts are no package
from prepare_bundle import CHAT_FORMAT_NAME, chat_format, write_chat

ROOT = Path(__file__).resolve().parent.parent

CHECKPOINTS = ("qwen3", "gemma3")
"""A plain one, and one with sliding windows and capped logits."""

ADAPTED = "qwen3-adapted"
"""The plain one with two adapters beside its weights, which the Java runtimes pass over."""

CONTEXT = 256
TOLERANCE = 1e-3
_TOP = 8
_GREEDY_TOKENS = 24
_PROMPTS = (
    "The",
    "The tree stood by the house, and the wind",
    "one two three four five six seven eight nine ten. " * 4,
)
_CHAT: list[dict[str, JsonValue]] = [{"role": "user", "content": "Hello"}]


def make_bundle(checkpoint: str, folder: Path, adapters: tuple[str, ...] = ()) -> Path:
    """Converts a tiny checkpoint of the tests for both runtimes.

    Args:
        checkpoint: a folder name under tests/data/tiny.
        folder: to write to; replaced if it is there.
        adapters: written beside the weights.

    Returns:
        The bundle's folder.
    """
    shutil.rmtree(folder, ignore_errors=True)
    options = ConvertOptions(
        targets=("litert", "onnx-step"), recipes=("f32",), context=CONTEXT, prove=False, adapters=adapters
    )
    convert(str(ROOT / "tests" / "data" / "tiny" / checkpoint), folder, options)
    source = (folder / CHAT_TEMPLATE_NAME).read_text(encoding="utf-8")
    record = open_bundle(folder).manifest.tokenizer
    form = chat_format(source, bos_token=record.bos_token, eos_token=record.eos_token)
    (folder / CHAT_FORMAT_NAME).write_text(json.dumps(form, ensure_ascii=False), encoding="utf-8")
    return folder


def write_adapter(checkpoint: str, folder: Path) -> Path:
    """Writes a random adapter for a tiny checkpoint, as PEFT saves it."""
    source = open_checkpoint(str(ROOT / "tests" / "data" / "tiny" / checkpoint))
    spec, random = read_spec(source.config), np.random.default_rng(0)
    weights = weights_for(source, spec)
    names = [f"layers.{block.number}.{part}" for block in spec.blocks for part in ("q", "v", "down")]
    shapes = {name: weights.shape(name) for name in names}
    terms = {
        name: (
            random.standard_normal((4, columns)).astype(np.float32),
            random.standard_normal((rows, 4)).astype(np.float32),
        )
        for name, (rows, columns) in shapes.items()
    }
    folder.mkdir()
    write_peft(folder, TrainedAdapter(4, 4.0, terms, {}, spec.tied_head), spec.architecture, checkpoint)
    return folder


def expected(bundle: Path) -> JsonValue:
    """What Python says of a bundle."""
    form = json.loads((bundle / CHAT_FORMAT_NAME).read_text(encoding="utf-8"))
    with edgesdk.load(bundle, variant="litert-f32", strict=True, threads=2) as model:
        return {
            "name": bundle.name,
            "chat_prompt": write_chat(form["joins"], form["trims"], _CHAT),
            "cases": [_case(model, prompt) for prompt in _PROMPTS],
        }


def _case(model: Model, prompt: str) -> JsonValue:
    ids = model.tokenizer.encode(prompt)
    greedy: list[JsonValue] = []
    margins: list[JsonValue] = []
    with contextlib.closing(model.new_sequence()) as sequence:
        first = logits = np.array(sequence.extend(np.array(ids, np.int32)))
        for _ in range(_GREEDY_TOKENS):
            second, best = np.sort(logits)[-2:]
            greedy.append(int(logits.argmax()))
            margins.append(round(float(best - second), 6))
            logits = np.array(sequence.extend(np.array([greedy[-1]], np.int32)))
    top = np.argsort(-first, kind="stable")[:_TOP]
    return {
        "prompt": prompt,
        "ids": list(ids),
        "largest": round(float(np.abs(first).max()), 6),
        "top": [[int(i), round(float(first[i]), 6)] for i in top],
        "greedy": greedy,
        "margins": margins,
    }


def make_all(out: Path) -> None:
    """Writes all bundles and expected.json."""
    made = [make_bundle(name, out / name) for name in CHECKPOINTS]
    with tempfile.TemporaryDirectory() as folder:
        adapter = str(write_adapter(CHECKPOINTS[0], Path(folder) / "loud"))
        made.append(make_bundle(CHECKPOINTS[0], out / ADAPTED, (adapter, f"twice={adapter}:2")))
    document = {"tolerance": TOLERANCE, "bundles": [expected(bundle) for bundle in made]}
    (out / "expected.json").write_text(json.dumps(document, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> int:
    """Runs the script."""
    parser = argparse.ArgumentParser(description="Makes bundles that the Java runtimes are tested on.")
    parser.add_argument("out", type=Path, help="folder to write")
    make_all(parser.parse_args().out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
