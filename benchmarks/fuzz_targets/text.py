"""Damaged templates, schemas, regular expressions, Lark grammars and tokenizers, one a call.

Each function makes an input from a random generator and hands it to the public entry; an EdgeError is as
it should be, anything else passes on to the caller.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random

from edgesdk.bundle.manifest import TokenizerRecord
from edgesdk.decoding.grammar import check_grammar
from edgesdk.decoding.options import GenerationOptions
from edgesdk.errors import EdgeError
from edgesdk.text.render_sandbox import SandboxedTemplate
from edgesdk.text.tokenizer import Tokenizer

_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ '<|u|>' + m['content'] | trim }}{% else %}"
    "{{ m | tojson }}"
    "{% endif %}{% endfor %}{% set n = namespace(x=1) %}{% macro f(a) %}{{ a[0:2] ~ loop }}{% endmacro %}"
    "{{ f('x') }}"
)
_SCHEMA = {
    "type": "object",
    "properties": {
        "a": {"type": "integer", "minimum": 1},
        "b": {"pattern": "^[a-z]{1,3}$"},
        "c": {"$ref": "#"},
    },
    "required": ["a"],
    "additionalProperties": False,
}
_REGEX = r"(yes|no){1,3}[a-z]*\d+(?:x|y)?"
_LARK = 'start: a b*\na: "x" | /[0-9]{1,3}/\nb: ("," a)+'
_TOKENIZER = {
    "version": "1.0",
    "added_tokens": [
        {
            "id": 3,
            "content": "<s>",
            "special": True,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
        }
    ],
    "normalizer": {
        "type": "Sequence",
        "normalizers": [
            {"type": "Replace", "pattern": {"Regex": r"(?:x{3}[^\w\s])+?y"}, "content": "ab"},
            {"type": "Replace", "pattern": {"String": "q"}, "content": "a"},
        ],
    },
    "pre_tokenizer": {
        "type": "Split",
        "pattern": {"Regex": r"(?i:'s|'t)|[^\r\n\p{L}]?\p{L}+|\p{N}{1,3}|\s+(?!\S)| "},
        "behavior": "Isolated",
        "invert": False,
    },
    "decoder": {"type": "Strip", "content": "b", "start": 1, "stop": 0},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]},
}


def damage(text: str, random: Random) -> str:
    """A text with a few parts taken out, doubled, moved or replaced."""
    for _ in range(random.randint(1, 4)):
        start = random.randrange(len(text) + 1)
        end = min(len(text), start + random.randint(0, 12))
        part = random.choice(("", text[start:end] * 2, chr(random.choice((0, 34, 92, 123, 0x20AC, 0xD800)))))
        text = text[:start] + part + text[end:]
    return text


def template(random: Random) -> None:
    SandboxedTemplate(damage(_TEMPLATE, random)).render({"messages": [{"role": "user", "content": "x"}]})


def schema(random: Random) -> None:
    try:
        changed = json.loads(damage(json.dumps(_SCHEMA), random))
    except ValueError:
        return
    check_grammar(GenerationOptions(json_schema=changed))


def regex(random: Random) -> None:
    check_grammar(GenerationOptions(regex=damage(_REGEX, random)))


def lark(random: Random) -> None:
    check_grammar(GenerationOptions(lark=damage(_LARK, random)))


def tokenizer(random: Random) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        path.write_text(damage(json.dumps(_TOKENIZER), random), "utf-8", "replace")
        loaded = Tokenizer(path, TokenizerRecord(None, (), False))
        loaded.decode(loaded.encode("ab a<s>"))


TARGETS: dict[str, Callable[[Random], None]] = {
    "template": template,
    "schema": schema,
    "regex": regex,
    "lark": lark,
    "tokenizer": tokenizer,
}


def _allow(call: Callable[[], object]) -> None:
    try:
        call()
    except EdgeError as error:
        if "\n" in str(error):
            raise AssertionError(f"more than one line: {error}") from error
