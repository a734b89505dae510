"""Makes what the Swift package is tested against: vectors, which are kept, and tiny bundles, which are not.

    python ios_notes/make_test_vectors.py              # tiny Core ML bundles, for `swift test` on a Mac
    python ios_notes/make_test_vectors.py --vectors    # the vectors, too: after a change of what they say

Vectors lie in EdgeModel/Tests/EdgeModelTests/Vectors. Those of models are made by edgesdk's interpreter of
Core ML programs, which emulates float16; Core ML itself rounds otherwise, and each unit in its own way. So of
each prompt's logits the digest is the 8 largest, ids with values rounded to 3 decimals, and a value agrees
within `TOLERANCE` of the largest magnitude. Greedy tokens must be equal up to the first one whose lead over
the runner-up (its `margin`) is smaller than twice that: from there on both texts are right.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import edgesdk
from edgesdk.bundle.manifest import CHAT_TEMPLATE_NAME
from edgesdk.bundle.reader import open_bundle
from edgesdk.bundle.records import JsonValue
from edgesdk.model import Model
from edgesdk.text.chat_template import ChatTemplate
from edgesdk_converters.convert import ConvertOptions, convert
from edgesdk_converters.quantise.calibration.calibration_text import builtin_calibration

sys.path.insert(0, str(Path(__file__).parent))  # the scripts beside this one are no package
from host_vectors import TOKENIZERS, sampling_vectors, step_vectors, text_vectors, train_tokenizers
from prepare_bundle import CHAT_FORMAT_NAME, chat_format

ROOT = Path(__file__).resolve().parent.parent
VECTORS = ROOT / "ios_notes" / "EdgeModel" / "Tests" / "EdgeModelTests" / "Vectors"
BUNDLES = VECTORS / "bundle"
CHECKPOINTS = ("qwen3", "gemma3")
"""A plain one, and one with sliding windows and capped logits."""

CONTEXT = 256
"""All that the tiny checkpoints declare; the longest prompt takes more than one step of 128."""

TOLERANCE = 0.02
"""Of the largest logit: what the interpreter's own tests allow between float16 and float32."""

_TOP = 8
_GREEDY_TOKENS = 24
_PROMPTS = (
    "Once",
    "The tree stood by the house, and the wind",
    "one two three four five six seven eight nine ten. " * 4,
)
_CHATS = (
    [("user", "Hello")],
    [("system", "Be brief."), ("user", "  What is\n2 + 2? "), ("assistant", "4."), ("user", "And 你好?")],
)
_TEMPLATES = {
    "chatml": "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are helpful<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "headers": "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + "
    "'<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    "turns": "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}"
    "{% endif %}{% for message in messages %}{{ '<start_of_turn>' + ('model' "
    "if message['role'] == 'assistant' else message['role']) + '\n' + message['content'] "
    "| trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
}
"""Written for these tests in the shapes of three families: a default system message, trimmed content, and
another name for the assistant without a system role."""


def make_bundle(checkpoint: str, folder: Path) -> Path:
    """Converts a tiny checkpoint of the tests for Core ML, with cells and with states.

    Args:
        checkpoint: a folder name under tests/data/tiny.
        folder: to write to; replaced if it is there.

    Returns:
        The bundle's folder.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    options = ConvertOptions(
        targets=("coreml", "coreml-state"), recipes=("w8-round",), context=CONTEXT, prove=False
    )
    convert(str(ROOT / "tests" / "data" / "tiny" / checkpoint), folder, options)
    source = (folder / CHAT_TEMPLATE_NAME).read_text(encoding="utf-8")
    record = open_bundle(folder).manifest.tokenizer
    form = chat_format(source, bos_token=record.bos_token, eos_token=record.eos_token)
    _write(folder / CHAT_FORMAT_NAME, form)
    return folder


def model_vectors(bundles: Sequence[Path]) -> JsonValue:
    """Prompts with their ids, digests of the logits and greedy tokens, for bundles of `make_bundle`."""
    found: list[JsonValue] = []
    for bundle in bundles:
        with edgesdk.load(bundle, backend="coreml-interpreter", strict=True) as model:
            found.append({"name": bundle.name, "cases": [_case(model, prompt) for prompt in _PROMPTS]})
    return {"tolerance": TOLERANCE, "bundles": found}


def _case(model: Model, prompt: str) -> JsonValue:
    ids = model.tokenizer.encode(prompt)
    with contextlib.closing(model.new_sequence()) as sequence:
        logits = np.array(sequence.extend(np.array(ids, np.int32)))
        top = np.argsort(-logits, kind="stable")[:_TOP]
        case: dict[str, JsonValue] = {
            "prompt": prompt,
            "ids": list(ids),
            "largest": round(float(np.abs(logits).max()), 3),
            "top": [[int(i), round(float(logits[i]), 3)] for i in top],
        }
        greedy: list[JsonValue] = []
        margins: list[JsonValue] = []
        for _ in range(_GREEDY_TOKENS):
            second, best = np.sort(logits)[-2:]
            token = int(logits.argmax())
            greedy.append(token)
            margins.append(round(float(best - second), 3))
            logits = np.array(sequence.extend(np.array([token], np.int32)))
    return case | {"greedy": greedy, "margins": margins}


def chat_vectors() -> JsonValue:
    """Chat formats found in templates, and conversations as the templates themselves write them."""
    found: list[JsonValue] = []
    for name, source in _TEMPLATES.items():
        form = chat_format(source, bos_token="<s>", eos_token="</s>")
        template = ChatTemplate(source, bos_token="<s>", eos_token="</s>")
        cases: list[JsonValue] = []
        for chat in _CHATS:
            messages: list[dict[str, JsonValue]] = [{"role": role, "content": text} for role, text in chat]
            if name == "turns" and chat[0][0] == "system":
                messages = messages[1:]
            cases.append({"messages": list(messages), "prompt": template.render(messages)})
        found.append({"name": name, "format": form, "cases": cases})
    return found


def _write(path: Path, value: JsonValue) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def main() -> int:
    """Runs the script."""
    parser = argparse.ArgumentParser(description="Makes what the Swift package is tested against.")
    parser.add_argument("--vectors", action="store_true", help="write the vectors anew, too")
    parser.add_argument("--tokenizers", action="store_true", help="train the vectors' tokenizers anew before")
    options = parser.parse_args()
    bundles = [make_bundle(name, BUNDLES / name) for name in CHECKPOINTS]
    print(f"{BUNDLES}: {', '.join(CHECKPOINTS)}")
    if options.tokenizers:
        documents = [text for domain in builtin_calibration().domains for text in domain.documents]
        train_tokenizers(VECTORS, documents)
        print(f"{VECTORS}: {', '.join(TOKENIZERS)}")
    if options.vectors or options.tokenizers:
        documents_by_name = {
            "text.json": text_vectors(VECTORS),
            "sampling.json": sampling_vectors(),
            "steps.json": step_vectors(),
            "chat.json": chat_vectors(),
            "model.json": model_vectors(bundles),
        }
        for name, value in documents_by_name.items():
            _write(VECTORS / name, value)
        print(f"{VECTORS}: {', '.join(documents_by_name)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
