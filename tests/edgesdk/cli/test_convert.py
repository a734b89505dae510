import json
import shutil
from pathlib import Path

import pytest

from edgesdk.cli.convert import converters_installed
from edgesdk.cli.convert_options import draft_folder
from edgesdk.errors import MissingExtra


def test_a_conversion_reports_itself(edgesdk, tiny_checkpoint, tmp_path):
    out = tmp_path / "out"
    result = edgesdk("convert", tiny_checkpoint, out, "--recipe", "f32", "--context", "64", "--json")
    assert result.code == 0
    assert result.err == ""
    *events, document = map(json.loads, result.out.splitlines())
    assert {event["event"] for event in events} == {"progress"}
    stages = list(dict.fromkeys(event["stage"] for event in events))
    assert stages == ["reading", "quantising", "writing", "scoring", "proving", "comparing"]
    shares = [event["share"] for event in events]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1] < 1) == (0, True)
    assert events[0]["remaining_s"] is None
    assert events[-1]["remaining_s"] >= 0
    assert {event["steps"] for event in events} == {events[-1]["step"]}
    assert document["event"] == "done"
    assert document["bundle"] == str(out)
    assert document["wall_s"] > 0
    assert document["peak_rss_bytes"] > 1 << 20
    assert [v["variant"]["name"] for v in document["variants"]] == ["litert-f32", "onnx-f32"]
    for entry in document["variants"]:
        folder = out / "variants" / entry["variant"]["name"]
        assert entry["size_bytes"] == sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        assert entry["variant"]["context"] == 64
    again = edgesdk("convert", tiny_checkpoint, out)
    assert again.code == 1
    assert "holds a bundle; choose another folder" in again.error


def test_text_is_a_table(edgesdk, tiny_checkpoint, tmp_path):
    arguments = ("--target", "litert", "--recipe", "f32", "--no-prove", "--context", "64")
    result = edgesdk("convert", tiny_checkpoint, tmp_path / "out", *arguments)
    assert result.code == 0
    assert "litert-f32" in result.out
    assert "not proven: switched off" in result.out
    again = edgesdk("convert", tiny_checkpoint, tmp_path / "out", *arguments)
    assert (again.code, "or give --overwrite to replace it" in again.error) == (1, True)
    replaced = edgesdk("convert", tiny_checkpoint, tmp_path / "out", *arguments, "--overwrite")
    assert replaced.code == 0


def test_a_list_that_is_given_again_adds_to_itself(edgesdk, tiny_checkpoint, tmp_path):
    once = ("--target", "onnx,litert", "--recipe", "f32,f16", "--context", "64", "--estimate", "--json")
    again = ("--target", "onnx", "--target", "litert", "--recipe", "f32", "--recipe", "f16", *once[4:])
    found = [edgesdk("convert", tiny_checkpoint, *arguments) for arguments in (once, again)]
    assert [len(json.loads(each.out)["variants"]) for each in found] == [4, 4]
    assert found[0].out == found[1].out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--target", "tensorflow"], "target 'tensorflow' is unknown"),
        (["--target", ""], "no target is named"),
        (["--recipe", "w3"], "recipe 'w3' is unknown"),
        (["--recipe", ","], "no recipe is named"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_unknown_options_are_one_line_and_leave_nothing(arguments, line, edgesdk, tiny_checkpoint, tmp_path):
    result = edgesdk("convert", tiny_checkpoint, tmp_path / "out", *arguments)
    assert result.code == 1
    assert line in result.error
    assert not list(tmp_path.glob("*out*"))


def test_a_source_that_is_nothing_is_one_line(edgesdk, tmp_path):
    result = edgesdk("convert", tmp_path / "nothing.gguf", tmp_path / "out")
    assert result.code == 1
    assert "nothing.gguf" in result.error
    assert not list(tmp_path.glob("*out*"))


def test_a_missing_package_names_the_extra():
    with (
        pytest.raises(MissingExtra, match=r"'onnx' is not installed.*edgesdk\[convert\]"),
        converters_installed(),
    ):
        raise ModuleNotFoundError("No module named 'onnx.helper'", name="onnx.helper")


def test_a_module_of_our_own_is_no_missing_package():
    with pytest.raises(ModuleNotFoundError), converters_installed():
        raise ModuleNotFoundError("No module named 'edgesdk_converters.x'", name="edgesdk_converters.x")


def test_a_bundle_keeps_the_template_for_tools_and_says_what_is_left_out(edgesdk, tiny_checkpoint, tmp_path):
    source = shutil.copytree(tiny_checkpoint, tmp_path / "source")
    named = {"default": "{{ messages }}", "tool_use": "{{ tools }}", "rag": "{{ documents }}"}
    settings = json.loads((source / "tokenizer_config.json").read_text())
    listed = [{"name": name, "template": template} for name, template in named.items()]
    (source / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": listed}))
    (source / "generation_config.json").write_text('{"do_sample": true, "num_beams": 2}')
    out = tmp_path / "out"
    arguments = ("--target", "litert", "--recipe", "f32", "--no-prove", "--context", "64")
    result = edgesdk("convert", source, out, *arguments)
    assert result.code == 0
    assert "note: the chat template named 'rag' is left out" in result.err
    assert "note: num_beams of generation_config.json is left out" in result.err
    assert (out / "chat_template.jinja").read_text() == named["default"]
    assert (out / "chat_template.tool_use.jinja").read_text() == named["tool_use"]
    manifest = json.loads((out / "manifest.json").read_text())
    assert "chat_template.tool_use.jinja" in manifest["files"]
    assert (manifest["generation"]["temperature"], manifest["generation"]["top_k"]) == (1.0, 50)


def test_an_adapter_of_another_model_is_one_line(edgesdk, tiny_checkpoint, tmp_path):
    data = tiny_checkpoint.parents[1]
    out = tmp_path / "out"
    done = edgesdk(
        "convert", data / "tiny" / "phi3", out, "--merge-adapter", data / "adapters" / "llama-patterns"
    )
    assert done.code == 1
    assert "the adapter llama-patterns does not belong to phi3: " in done.error
    assert not out.exists()


def test_the_draft_that_ships_is_named_by_a_word():
    assert draft_folder("smollm2-135m", None) is None
    assert draft_folder("smollm2-135m", Path("own")) == Path("own")
    assert (draft_folder("smollm2-135m", Path("shipped")) / "config.json").is_file()


def test_another_model_has_no_draft_that_ships(edgesdk, tiny_checkpoint, tmp_path):
    out = tmp_path / "out"
    result = edgesdk("convert", tiny_checkpoint, out, "--draft", "shipped")
    assert (result.code, out.exists()) == (1, False)
    assert result.error.startswith("error: no draft ships for ")
    assert "only for smollm2-135m; train one with edgesdk train draft" in result.error
