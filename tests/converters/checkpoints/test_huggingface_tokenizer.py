"""Which token has which role, by the files that say so."""

import json
import shutil
from pathlib import Path

import pytest

from edgesdk.errors import CheckpointError
from edgesdk_converters.checkpoints.huggingface_tokenizer import read_huggingface_tokenizer

BOS, EOS = "<|im_start|>", "<|im_end|>"


@pytest.fixture
def folder(tmp_path, tiny_folder):
    """A tiny checkpoint's tokenizer without settings."""
    shutil.copy(tiny_folder / "llama" / "tokenizer.json", tmp_path)
    return tmp_path


@pytest.fixture
def read(folder):
    def read(settings=None, config=None, generation=None):
        if settings is not None:
            (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        return read_huggingface_tokenizer(folder, config or {}, generation or {})

    return read


def refused(read, *files):
    with pytest.raises(CheckpointError) as caught:
        read(*files)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def frame(folder, before=(), after=()):
    """Makes the tokenizer put tokens before and after a text."""
    path = Path(folder) / "tokenizer.json"
    document = json.loads(path.read_text())
    special = [{"SpecialToken": {"id": t, "type_id": 0}} for t in (*before, *after)]
    single = [*special[: len(before)], {"Sequence": {"id": "A", "type_id": 0}}, *special[len(before) :]]
    ids = {token["content"]: token["id"] for token in document["added_tokens"]}
    document["post_processor"] = {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {t: {"id": t, "ids": [ids[t]], "tokens": [t]} for t in (*before, *after)},
    }
    path.write_text(json.dumps(document))


def test_the_file_is_kept_as_it_is(folder, read):
    assert read().tokenizer_json == (folder / "tokenizer.json").read_text()


def test_texts_decide(read):
    record = read({"bos_token": BOS, "eos_token": {"content": EOS}}, {"bos_token_id": 9}).record
    assert (record.bos_id, record.bos_token) == (1, BOS)
    assert (record.eos_ids, record.eos_token) == ((2,), EOS)


def test_without_texts_the_configuration_decides(read):
    record = read(None, {"bos_token_id": 1, "eos_token_id": 2}).record
    assert (record.bos_id, record.bos_token, record.eos_ids, record.eos_token) == (1, BOS, (2,), EOS)


def test_a_null_means_that_there_is_no_such_text(read):
    record = read({"bos_token": None}, {"bos_token_id": 1}).record
    assert (record.bos_id, record.bos_token) == (1, None)


def test_several_ends_of_generation(read):
    record = read({"eos_token": EOS}, {"eos_token_id": 5}, {"eos_token_id": [7, 9, 7]}).record
    assert record.eos_ids == (7, 9, 2)
    assert read({"eos_token": EOS}, {"eos_token_id": [2, 5]}, {}).record.eos_ids == (2, 5)
    assert read({}, {}, {}).record.eos_ids == ()


def test_whether_prompts_start_with_bos(folder, read):
    settings = {"bos_token": BOS}
    assert not read(settings).record.add_bos
    assert read({**settings, "add_bos_token": True}).record.add_bos
    frame(folder, after=[BOS])  # at the end, it is no start
    assert not read(settings).record.add_bos
    frame(folder, before=[BOS], after=[EOS])
    assert read(settings).record.add_bos
    assert not read({**settings, "add_bos_token": False}).record.add_bos
    assert not read({"bos_token": None}).record.add_bos


def test_chat_templates(folder, read):
    assert read({}).chat_template is None
    assert read({"chat_template": "{{ a }}"}).chat_template == "{{ a }}"
    several = [{"name": "tools", "template": "{{ t }}"}, {"name": "default", "template": "{{ d }}"}]
    assert read({"chat_template": several}).chat_template == "{{ d }}"
    assert read({"chat_template": several}).notes == ("the chat template named 'tools' is left out",)
    several[0]["name"] = "tool_use"
    assert read({"chat_template": several}).tool_template == "{{ t }}"
    (folder / "chat_template.jinja").write_text("{{ file }}")
    assert read({"chat_template": "{{ a }}"}).chat_template == "{{ file }}"


@pytest.mark.parametrize("ids", [-1, 288, 10**30, [2, 999], "2", [None, "2"], True, 2.0])
def test_ids_that_are_none_are_refused(read, ids):
    assert "eos_token_id" in refused(read, {}, {"eos_token_id": ids})


@pytest.mark.parametrize(
    "text", ["{}", '{"model": 7}', '{"version": "1.0", "model": {"type": "Magic"}}', "[]"]
)
def test_a_tokenizer_that_does_not_load_is_refused(folder, read, text):
    (folder / "tokenizer.json").write_text(text)
    assert "tokenizer.json" in refused(read)


def test_a_tokenizer_that_passes_a_bound_is_refused(folder, read):
    path = folder / "tokenizer.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    pattern = {"Regex": "(?:x+)+"}
    document["pre_tokenizer"] = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    path.write_text(json.dumps(document), encoding="utf-8")
    assert "its pre_tokenizer has a pattern with a repeat without an end around a repeat" in refused(read)


def test_a_template_that_is_no_text_is_refused(folder, read):
    (folder / "tokenizer_config.json").write_text('{"chat_template": "\\ud800"}')
    assert "Unicode" in refused(read)
    (folder / "chat_template.jinja").write_bytes(b"\xff")
    assert "UTF-8" in refused(read)
