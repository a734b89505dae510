"""What the Swift sources repeat from Python is the same there: keys, names, numbers, commands."""

import dataclasses
import re

import pytest

from edgesdk.backends.coreml import step_backend
from edgesdk.bundle import manifest as kinds
from edgesdk.bundle.decoder_block import Attention, Block
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.cli.main import main

STRUCTS = {
    "Manifest": kinds.Manifest,
    "FileRecord": kinds.FileRecord,
    "DecoderShape": DecoderSpec,
    "BlockShape": Block,
    "AttentionShape": Attention,
    "TokenizerRecord": kinds.TokenizerRecord,
    "GenerationDefaults": kinds.GenerationDefaults,
    "StepShape": kinds.StepShape,
    "Variant": kinds.Variant,
}


def keys_of(source, struct):
    """The keys that a struct of Manifest.swift knows: those it reads and those it leaves to others."""
    body = re.search(rf"public struct {struct}:.*?\n}}\n", source, re.DOTALL).group()
    cases = re.search(r"enum CodingKeys[^{]*{(.*?)}", body, re.DOTALL).group(1)
    read = set()
    for line in re.findall(r"case ([^\n}]+)", cases):
        for part in line.split(","):
            name, _, key = part.partition("=")
            read.add(key.strip().strip('"') or name.strip())
    unread = re.search(r"static let unread = \[(.*?)\]", body, re.DOTALL)
    return read, set(re.findall(r'"(\w+)"', unread.group(1))) if unread else set()


@pytest.mark.parametrize("struct", STRUCTS)
def test_manifest_keys_are_those_of_python(swift, struct):
    read, unread = keys_of(swift("Bundle/Manifest.swift"), struct)
    expected = {field.name for field in dataclasses.fields(STRUCTS[struct])}
    assert not read & unread
    missing = expected - read - unread
    assert not missing, f"Manifest.swift refuses bundles with {sorted(missing)}: add them to {struct}"
    assert read | unread == expected


def constants(source):
    return dict(re.findall(r'static let (\w+) = "([^"]+)"', source))


def test_names_are_those_of_python(swift, script):
    names = constants(swift("Bundle/EdgeBundle.swift"))
    assert names == {
        "manifest": kinds.MANIFEST_NAME,
        "tokenizer": kinds.TOKENIZER_NAME,
        "chatFormat": script("prepare_bundle").CHAT_FORMAT_NAME,
        "entry": "model.mlpackage/Manifest.json",
        "format": script("prepare_bundle").FORMATS[0],
        "stateFormat": script("prepare_bundle").FORMATS[1],
    }
    assert set(script("prepare_bundle").FORMATS) <= set(kinds.Format.__args__)


def test_numbers_are_those_of_python(swift):
    (schema,) = re.findall(r"supportedSchema = (\d+)", swift("Bundle/Manifest.swift"))
    assert int(schema) == kinds.SCHEMA_VERSION
    (masked,) = re.findall(r"masked: Float = (-\d+)", swift("Steps/StepMask.swift"))
    assert float(masked) == float(step_backend.LOWEST_MASK)


def test_tensor_names_are_those_of_the_package(swift, tiny_bundle):
    from edgesdk.backends.coreml.mil_program import read_program

    source = swift("Steps/StepModel.swift")
    plain = set(constants(source).values())
    layered = {name: f"{name}0" for name in re.findall(r'"(\w+_)\\\(layer\)"', source)}
    assert set(layered) == {"k_cache_", "v_cache_", "k_new_", "v_new_"}
    folder = tiny_bundle / "variants"
    expected = {"coreml-w8-round": {"k_cache_0", "v_cache_0"}, "coreml-state-w8-round": {"start"}}
    for variant, extra in expected.items():
        program = read_program(folder / variant / "model.mlpackage")
        names = {name for function in program.functions.values() for name in function.inputs}
        first = {name for name in names if not re.search(r"_[1-9]\d*$", name)}
        assert extra <= first <= plain | set(layered.values())


def test_commands_of_the_readme_exist(ios_notes, capsys):
    text = (ios_notes / "README.md").read_text(encoding="utf-8")
    scripts = re.findall(r"python (ios_notes/\w+\.py)", text)
    assert len(scripts) >= 2
    for name in scripts:
        assert (ios_notes.parent / name).is_file()
    for path in re.findall(r"--package-path (\S+)", text):
        assert (ios_notes.parent / path / "Package.swift").is_file()
    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    shown = capsys.readouterr().out
    for option in re.findall(r"edgesdk convert [^\n`]*", text):
        for flag in re.findall(r"--[\w-]+", option):
            assert flag in shown


def test_the_workflow_pins_its_actions_and_runs_what_the_readme_says(ios_notes):
    text = (ios_notes.parent / ".github" / "workflows" / "ios.yml").read_text(encoding="utf-8")
    uses = re.findall(r"uses: \S+@(\S+)", text)
    assert uses
    assert all(re.fullmatch(r"[0-9a-f]{40}", version) for version in uses)
    assert "python ios_notes/make_test_vectors.py" in text
    assert text.count("swift test --package-path ios_notes/EdgeModel") == 2  # on a Mac and on Linux


def test_sources_stay_without_core_ml_where_linux_builds_them(ios_notes):
    sources = ios_notes / "EdgeModel" / "Sources"
    for path in sources.rglob("*.swift"):
        text = path.read_text(encoding="utf-8")
        assert ("import CoreML" in text) <= text.startswith("#if canImport(CoreML)\n"), path.name
        assert text.count("\n") < 400, path.name
