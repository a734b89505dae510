"""Adapters on the command line: written, listed, asked for, added to a bundle that is there."""

import json
from pathlib import Path

import numpy as np
import pytest

from edgesdk.bundle.reader import open_bundle
from edgesdk.load_model import load

ADAPTER = Path(__file__).parents[2] / "data" / "adapters" / "llama-patterns"
TEXT = [3, 41, 7, 19, 88, 5, 60, 12, 33, 9, 71]
LOUD = f"loud={ADAPTER}:3"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("adapters")


@pytest.fixture
def adapted(folder, edgesdk, tiny_checkpoint):
    """A bundle with one adapter, made once by the command."""
    out = folder / "adapted"
    if not out.exists():
        options = ("--target", "litert", "--recipe", "f32", "--context", 64, "--no-prove")
        result = edgesdk("convert", tiny_checkpoint, out, *options, "--adapter", LOUD)
        assert result.code == 0, result.err
    return out


def test_list_and_inspect_say_what_there_is(edgesdk, adapted, tiny_bundle):
    (record,) = edgesdk("adapter", "list", adapted, "--json").json
    assert (record["name"], record["gate"], record["scale"]) == ("loud", 0, 3.0)
    for command in (("adapter", "list"), ("inspect",)):
        text = edgesdk(*command, adapted).out
        assert "loud" in text
        assert f"rank {record['rank']} of {record['products']} products, scale 3" in text
        assert record["sha256"] in text
    assert edgesdk("adapter", "list", tiny_bundle).out == "no adapters\n"
    assert edgesdk("adapter", "list", tiny_bundle, "--json").json == []


def test_an_answer_is_the_adapters(edgesdk, adapted):
    asked = ("run", adapted, "--raw", "hello world", "--max-tokens", 8, "--temperature", 0, "--json")
    answers = {}
    for choice in ((), ("loud",), ("loud:0.5",), ("loud:0",)):
        result = edgesdk(*asked, *(("--adapter", *choice) if choice else ()))
        assert result.code == 0, result.err
        answers[choice] = result.json["completion"]["tokens"]
    assert answers[()] == answers[("loud:0",)]
    assert len({tuple(tokens) for tokens in answers.values()}) == 3


def test_a_chat_is_the_adapters(edgesdk, adapted):
    asked = ("chat", adapted, "--max-tokens", 8, "--temperature", 0)
    plain, loud = (edgesdk(*asked, *more, stdin="hello\n") for more in ((), ("--adapter", "loud")))
    assert plain.code == loud.code == 0, loud.err
    assert plain.out != loud.out


@pytest.mark.parametrize(
    ("choice", "code", "says"),
    [
        (("soft",), 1, "no adapter 'soft'; there is loud"),
        (("loud:nan",), 1, "factor of adapter loud is nan"),
        (("loud:much",), 2, "'much' is no factor"),
        (("loud", "--adapter", "loud"), 2, "'loud' is given twice"),
    ],
)
def test_a_wrong_choice_is_one_line(edgesdk, adapted, choice, code, says):
    result = edgesdk("run", adapted, "--raw", "hello", "--adapter", *choice)
    assert result.code == code
    assert says in result.err
    assert "Traceback" not in result.err


def test_adding_writes_the_bundle_again(edgesdk, adapted, folder, tiny_checkpoint):
    out = folder / "two"
    given = (LOUD, f"half={ADAPTER}:0.5")
    result = edgesdk(
        "adapter", "add", adapted, *given, out, "--source", tiny_checkpoint, "--no-prove", "--json"
    )
    assert result.code == 0, result.err
    assert json.loads(result.out.splitlines()[-1])["event"] == "done"
    first, second = open_bundle(out).manifest.adapters
    assert (first.name, second.name, second.scale) == ("loud", "half", 0.5)
    with load(adapted) as before, load(out) as after:
        assert np.array_equal(after.score(TEXT), before.score(TEXT))
        found = after.score(TEXT, adapter="loud")
        np.testing.assert_allclose(found, before.score(TEXT, adapter="loud"), rtol=1e-4, atol=1e-4)
        same = after.score(TEXT, adapter={"half": 6.0})
        np.testing.assert_allclose(same, found, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("target", ["litert", "onnx"])
def test_adding_to_a_bundle_without_adapters(edgesdk, tiny_checkpoint, folder, target):
    plain, out = folder / f"plain-{target}", folder / f"one-{target}"
    options = ("--target", target, "--recipe", "w8-round", "--context", 64, "--no-prove")
    assert edgesdk("convert", tiny_checkpoint, plain, *options).code == 0
    result = edgesdk("adapter", "add", plain, LOUD, out, "--source", tiny_checkpoint, "--no-prove")
    assert result.code == 0, result.err
    with load(plain) as before, load(out) as after:
        assert np.array_equal(after.score(TEXT), before.score(TEXT))
        assert not np.array_equal(after.score(TEXT, adapter="loud"), before.score(TEXT))


def test_what_cannot_be_added_is_one_line(edgesdk, adapted, folder, tmp_path, tiny_checkpoint):
    other = tiny_checkpoint.parent / "qwen3"
    pruned = folder / "skipped"
    options = ("--target", "litert", "--recipe", "f32", "--context", 64, "--no-prove", "--skip-layers", "1")
    assert edgesdk("convert", tiny_checkpoint, pruned, *options).code == 0
    for arguments, says in (
        ((adapted, f"half={ADAPTER}"), "has the adapter loud"),
        ((adapted, LOUD, f"loud={ADAPTER}"), "two adapters the name loud"),
        ((adapted, LOUD, "half=nowhere"), "names 'nowhere'"),
        ((adapted, LOUD, f"half={ADAPTER}", other), "is not the checkpoint"),
        ((pruned, LOUD), "went through skip_layers"),
        ((tmp_path, LOUD), "manifest.json"),
    ):
        bundle, *given = arguments
        source = given.pop() if given[-1] is other else tiny_checkpoint
        result = edgesdk("adapter", "add", bundle, *given, tmp_path / "out", "--source", source)
        assert result.code == 1
        assert says in result.error, result.err
        assert not (tmp_path / "out").exists()


def test_a_checkpoint_that_only_the_manifest_names_is_asked_for(edgesdk, adapted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where no folder has the name
    result = edgesdk("adapter", "add", adapted, LOUD, tmp_path / "out")
    assert result.code == 1
    assert result.error.startswith("error: the checkpoint that llama was made from is not found by the name")
    assert result.error.endswith("give its folder or file with --source")
    assert not (tmp_path / "out").exists()
