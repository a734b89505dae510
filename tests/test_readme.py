"""The README's own examples, as they stand, with the default recipe on both runtimes.

Lines that begin with `# ->` are what the code above them prints. The demo's recipe (rounded) and float16
cells are run as well: no near-tie decides any of these answers.
"""

import json
import re
import shutil
from pathlib import Path

import pytest

from edgesdk.cli import demo
from edgesdk.load_model import load
from edgesdk_converters.convert import ConvertOptions, convert

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="session")
def shelves(smollm2_gguf, converted_once, tmp_path_factory):
    """By what is on it: a shelf with one variant under the name that the README uses."""
    folder = tmp_path_factory.mktemp("readme")
    default = convert(str(smollm2_gguf), folder / "default", ConvertOptions(prove=False))
    rounded = converted_once(smollm2_gguf, recipes=("w8-round",))
    # A link would change the times of files that other tests want unchanged.
    rounded = shutil.copytree(rounded, folder / "rounded")
    options = ConvertOptions(targets=("litert",), recipes=("w8-round",), cells="float16", prove=False)
    half = convert(str(smollm2_gguf), folder / "half", options)
    return {
        "litert": shelve(default, folder / "1", "litert"),
        "onnx": shelve(default, folder / "2", "onnx-resident"),
        "litert-rounded": shelve(rounded, folder / "3", "litert"),
        "onnx-rounded": shelve(rounded, folder / "4", "onnx-resident"),
        "litert-half": shelve(half, folder / "5", "litert"),
    }


def shelve(bundle, shelf, variant_format):
    """A copy with the variants of one format, called smollm2."""
    copy = shelf / "smollm2"
    shutil.copytree(bundle, copy, copy_function=lambda a, b: Path(b).hardlink_to(a))
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    kept = [variant for variant in manifest["variants"] if variant["format"] == variant_format]
    manifest["variants"] = kept
    (copy / "manifest.json").unlink()  # the other copy's as well otherwise
    (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return shelf


def expected(example):
    return re.findall(r"^ *# -> (.*)$", example, re.MULTILINE)


def test_every_example_says_what_it_prints():
    assert len(EXAMPLES) == 2
    assert all(expected(example) for example in EXAMPLES)


def test_the_demo_s_output_is_what_the_demo_prints():
    assert f"\n  {demo.QUESTION}\n  The capital of South Korea is Seoul.\n" in README


@pytest.mark.real
@pytest.mark.parametrize("name", ["litert", "onnx", "litert-rounded", "onnx-rounded", "litert-half"])
def test_the_examples_say_what_the_readme_says(name, shelves, monkeypatch, capsys, tmp_path):
    if any("json_schema" in example for example in EXAMPLES):
        pytest.importorskip("llguidance")
    monkeypatch.setenv("EDGESDK_MODELS", str(shelves[name]))
    monkeypatch.chdir(tmp_path)  # where no folder is called smollm2
    ran = 0
    for example in EXAMPLES:
        if "Engine(" in example and not name.startswith("litert"):
            continue  # onnxruntime keeps its cells to itself, which the engine says
        exec(compile(example, "README.md", "exec"), {"__name__": "readme"})
        printed = capsys.readouterr().out.splitlines()
        assert printed[: len(expected(example))] == expected(example)
        ran += 1
    assert ran == (2 if name.startswith("litert") else 1)
    with load("smollm2") as model:
        answer = model.generate(model.render_prompt(demo.QUESTION), max_tokens=64, temperature=0.0)
    assert answer.text.strip() == "The capital of South Korea is Seoul."
