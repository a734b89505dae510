"""Makes an app's copy of a bundle: one variant, its tokenizer, and chat_format.json.

    python ios_notes/prepare_bundle.py BUNDLE OUT [--variant NAME]

For iOS that is a Core ML variant, for Android and the JVM (android_demo/) one for ONNX Runtime or LiteRT.

A chat template is a jinja2 program, and neither package has an engine for these. Most templates come down
to fixed text between two messages that depends on their roles only. This script finds those texts by running
the bundle's own template on marked messages, and checks on other conversations that they say what the
template says. A template that is more than that (a date, content that is cut or rewritten) is refused; then
the app needs an engine, such as the `Jinja` package that swift-transformers uses. Tools are never passed.

What the copy leaves out (other variants, the parity probe) is taken out of its manifest, too.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from edgesdk.bundle.manifest import CHAT_TEMPLATE_NAME, MANIFEST_NAME, TOKENIZER_NAME, Variant
from edgesdk.bundle.reader import Bundle, open_bundle
from edgesdk.bundle.records import JsonValue, to_json
from edgesdk.errors import BundleError, EdgeError, UnsupportedOption
from edgesdk.text.chat_template import ChatTemplate

CHAT_FORMAT_NAME = "chat_format.json"
FORMATS = ("coreml", "coreml-state")
ANDROID_FORMATS = ("onnx-step", "litert")

Message = dict[str, JsonValue]
Render = Callable[[list[Message], bool], str]
Joins = dict[str, dict[str, str]]

_MARKS = ("qzxfirstqzx", "qzxsecondqzx", "qzxthirdqzx")
_CHECKED_TEXTS = (
    "Hello",
    "  two  spaces ",
    "a\nb\n\n",
    "How are you? 你好 🙂",
    "{{ x }} {% y %}",
    "1 < 2 & 3",
    "long " * 99,
)
_MOVES = ("strftime_now",)


def chat_format(source: str, *, bos_token: str | None, eos_token: str | None) -> dict[str, JsonValue]:
    """The fixed texts of a chat template.

    Args:
        source: jinja2 text.
        bos_token: text of the start token, for templates that write it.
        eos_token: the same for the end token.

    Returns:
        What chat_format.json holds: `joins[from][to]` is the text between two messages of these roles, empty
        for the start and for the answer to come; `trims` says that content loses white space at its ends.

    Raises:
        EdgeError: the template is more than fixed text, or broken.
    """
    moving = next((name for name in _MOVES if name in source), None)
    if moving is not None:
        raise UnsupportedOption(
            f"the chat template calls {moving}, so its text changes; use a template engine"
        )
    template = ChatTemplate(source, bos_token=bos_token, eos_token=eos_token)

    def render(messages: list[Message], answer: bool) -> str:
        return template.render(messages, add_generation_prompt=answer)

    joins = _find_joins(render)
    for trims in (False, True):
        if all(_holds(render, joins, trims, messages) for messages in _conversations("system" in joins)):
            return {"schema_version": 1, "trims": trims, "joins": to_json(joins)}
    raise UnsupportedOption(
        "the chat template does more than put text between messages; use a template engine"
    )


def prepare_bundle(bundle: Bundle, out: Path, variant_name: str | None = None) -> Variant:
    """Writes an app's copy of a bundle.

    Args:
        bundle: with a variant for apps.
        out: a folder that is not there yet, or an empty one.
        variant_name: which variant; None for the first Core ML one, or else the first for Android.

    Returns:
        The variant that was copied.

    Raises:
        EdgeError: there is no such variant, `out` is not empty, or the chat template is more than fixed text.
    """
    manifest = bundle.manifest
    variant = _choose(bundle, variant_name)
    if out.exists() and any(out.iterdir()):
        raise UnsupportedOption(f"{out} is not empty; name a folder that is not there yet")
    folder = f"{PurePosixPath('variants') / variant.name}/"
    kept = {name: record for name, record in manifest.files.items() if name.startswith(folder)}
    for name in (TOKENIZER_NAME, CHAT_TEMPLATE_NAME):
        if name in manifest.files:
            kept[name] = manifest.files[name]
    form = None
    if CHAT_TEMPLATE_NAME in kept:
        source = bundle.file(CHAT_TEMPLATE_NAME).read_text(encoding="utf-8")
        record = manifest.tokenizer
        form = chat_format(source, bos_token=record.bos_token, eos_token=record.eos_token)
    for name in kept:
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.file(name), target)
    copy = dataclasses.replace(manifest, variants=(variant,), files=kept)
    _write_json(out / MANIFEST_NAME, to_json(copy))
    if form is not None:
        _write_json(out / CHAT_FORMAT_NAME, form)
    return variant


def _choose(bundle: Bundle, name: str | None) -> Variant:
    if name is not None:
        variant = bundle.variant(name)
        if variant.format not in FORMATS + ANDROID_FORMATS:
            raise BundleError(
                f"variant {name!r} has the format {variant.format}, expected one of "
                f"{', '.join(FORMATS + ANDROID_FORMATS)}"
            )
        return variant
    for form in FORMATS + ANDROID_FORMATS:
        for variant in bundle.manifest.variants:
            if variant.format == form:
                return variant
    raise BundleError(
        f"{bundle.path} has no variant for apps; convert with --target coreml, onnx-step or litert"
    )


def _find_joins(render: Render) -> Joins:
    first, second, third = _MARKS
    start, end = _cut(render([_message("user", first)], True), first)
    joins: Joins = {"": {"user": start}, "user": {"": end}}
    parts = _cut(render(_alternate(_MARKS), True), first, second, third)
    joins["user"]["assistant"] = parts[1]
    joins["assistant"] = {"user": parts[2]}
    try:
        text = render([_message("system", first), _message("user", second)], True)
    except EdgeError:  # some templates refuse a system message
        return joins
    start, between, _ = _cut(text, first, second)
    joins[""]["system"] = start
    joins["system"] = {"user": between}
    return joins


def _conversations(system: bool) -> list[list[Message]]:
    """What the joins are checked on: every text in every role, and chats of several lengths."""
    texts = _CHECKED_TEXTS
    found = [_alternate([*texts[i:], *texts[:i]][:count]) for i in range(len(texts)) for count in (1, 3, 5)]
    if system:
        found += [[_message("system", text), *chat] for text, chat in zip(texts, found, strict=False)]
    return found


def _holds(render: Render, joins: Joins, trims: bool, messages: list[Message]) -> bool:
    return render(messages, True) == write_chat(joins, trims, messages)


def write_chat(joins: Joins, trims: bool, messages: Sequence[Message]) -> str:
    """A conversation as the Swift package writes it, ending where the answer begins."""
    text, last = "", ""
    for message in messages:
        role, content = str(message["role"]), str(message["content"])
        text += joins[last][role] + (content.strip() if trims else content)
        last = role
    return text + joins[last][""]


def _alternate(texts: Sequence[str]) -> list[Message]:
    return [_message(("user", "assistant")[i % 2], text) for i, text in enumerate(texts)]


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _cut(text: str, *marks: str) -> list[str]:
    """The text before, between and after marks that each occur once, in this order."""
    parts = []
    for mark in marks:
        before, found, text = text.partition(mark)
        if not found or mark in text:
            raise UnsupportedOption(
                "the chat template leaves out, repeats or moves messages; use a template engine"
            )
        parts.append(before)
    return [*parts, text]


def _write_json(path: Path, value: JsonValue) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> int:
    """Runs the script."""
    parser = argparse.ArgumentParser(description="Makes an app's copy of a bundle.")
    parser.add_argument("bundle", type=Path, help="folder that `edgesdk convert` wrote")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--variant", help="which variant; the first for apps by default")
    options = parser.parse_args()
    try:
        variant = prepare_bundle(open_bundle(options.bundle), options.out, options.variant)
    except EdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{options.out}: variant {variant.name}, context {variant.context}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
