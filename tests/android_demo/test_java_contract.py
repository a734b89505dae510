"""What the Java sources repeat from Python is the same there: keys, names, numbers."""

import dataclasses
import re
from pathlib import Path

import pytest

from edgesdk.backends.protocol import MASKED
from edgesdk.bundle import manifest as kinds
from edgesdk.bundle.decoder_block import Attention, Block
from edgesdk.bundle.decoder_spec import DecoderSpec

COMMENT_OR_TEXT = re.compile(r"/\*.*?\*/|//[^\n]*|\"(\\.|[^\"\\])*\"", re.DOTALL)
ROOT = Path(__file__).parents[2] / "android_demo"

CLASSES = {
    ("Manifest", ""): kinds.Manifest,
    ("FileRecord", ""): kinds.FileRecord,
    ("DecoderShape", ""): DecoderSpec,
    ("DecoderShape", "BLOCK_"): Block,
    ("DecoderShape", "MIXER_"): Attention,
    ("TokenizerRecord", ""): kinds.TokenizerRecord,
    ("GenerationDefaults", ""): kinds.GenerationDefaults,
    ("StepShape", ""): kinds.StepShape,
    ("Variant", ""): kinds.Variant,
}


def java(name):
    return (ROOT / "edgemodel/src/main/java/edgemodel" / name).read_text(encoding="utf-8")


def keys_of(source, constant):
    found = re.search(rf"static final String\[\] {constant} = {{(.*?)}};", source, re.DOTALL)
    return set(re.findall(r'"(\w+)"', found.group(1))) if found else set()


@pytest.mark.parametrize(("name", "prefix"), CLASSES)
def test_manifest_keys_are_those_of_python(name, prefix):
    source = java(f"bundle/{name}.java")
    read, unread = keys_of(source, f"{prefix}KEYS"), keys_of(source, f"{prefix}UNREAD")
    expected = {field.name for field in dataclasses.fields(CLASSES[name, prefix])}
    assert not read & unread
    missing = expected - read - unread
    assert not missing, f"{name}.java refuses bundles with {sorted(missing)}: add them to {prefix}UNREAD"
    assert read | unread == expected


def test_names_and_numbers_are_those_of_python():
    bundle = java("bundle/EdgeBundle.java")
    names = dict(re.findall(r'static final String (\w+) = "([^"]+)"', bundle))
    assert names == {
        "MANIFEST": kinds.MANIFEST_NAME,
        "TOKENIZER": kinds.TOKENIZER_NAME,
        "CHAT_FORMAT": "chat_format.json",
    }
    (schema,) = re.findall(r"SUPPORTED_SCHEMA = (\d+)", java("bundle/Manifest.java"))
    assert int(schema) == kinds.SCHEMA_VERSION
    (masked,) = re.findall(r"MASKED = (-[\de]+)f", java("steps/StepMask.java"))
    assert float(masked) == float(MASKED)


def test_what_goes_to_a_phone_needs_no_lambda_support(script):
    """Class files of Java 8 with lambdas need rewriting (docs/decisions/0028)."""
    for folder in script("build_apk").SOURCES:
        for path in (ROOT / folder / "src" / "main").rglob("*.java"):
            code = re.sub(
                r"/\*.*?\*/|//[^\n]*|\"(\\.|[^\"\\])*\"", "", path.read_text("utf-8"), flags=re.DOTALL
            )
            assert "->" not in code, path
            assert not re.search(r"\w::\w", code), path
