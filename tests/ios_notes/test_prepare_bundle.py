"""Chat templates as fixed texts, and an app's copy of a bundle."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgesdk.bundle.integrity import check_integrity
from edgesdk.bundle.reader import open_bundle
from edgesdk.errors import EdgeError
from edgesdk.text.chat_template import ChatTemplate

ROOT = Path(__file__).parents[2]
PLAIN = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="module")
def prepare(script):
    return script("prepare_bundle")


def find(prepare, source):
    return prepare.chat_format(source, bos_token="<s>", eos_token="</s>")


def test_a_format_writes_what_its_template_writes(prepare):
    form = find(prepare, "{{ bos_token }}" + PLAIN)
    chat = [
        {"role": role, "content": f"{role} says "}
        for role in ("system", "user", "assistant", "user", "assistant", "user")
    ]
    expected = ChatTemplate("{{ bos_token }}" + PLAIN, bos_token="<s>").render(chat)
    assert prepare.write_chat(form["joins"], form["trims"], chat) == expected
    assert form["joins"][""]["system"] == "<s><|system|>"
    assert form["trims"] is False


def test_trimming_is_found(prepare):
    assert find(prepare, PLAIN.replace("m.content", "m.content | trim"))["trims"] is True


def test_a_template_without_system_messages_has_no_joins_for_them(prepare):
    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}"
    joins = find(prepare, refuses + PLAIN)["joins"]
    assert "system" not in joins
    assert "system" not in joins[""]


@pytest.mark.parametrize(
    ("source", "needle"),
    [
        ("{{ strftime_now('%d') }}" + PLAIN, "strftime_now"),
        (PLAIN.replace("m.content", "m.content | upper"), "leaves out"),
        (PLAIN.replace("m.content", "m.content | replace('a', 'b')"), "does more"),
        (PLAIN.replace("m.content", "m.content[:20]"), "does more"),
        (PLAIN.replace("<|end|>", "{{ loop.index }}"), "does more"),
        (PLAIN.replace("messages", "messages[-1:]"), "leaves out"),
        ("{{ raise_exception('never') }}", "never"),
    ],
)
def test_a_template_that_is_more_than_fixed_text_is_refused(prepare, source, needle):
    with pytest.raises(EdgeError, match=needle):
        find(prepare, source)


@pytest.fixture(scope="module")
def copied(tiny_bundle, tmp_path_factory):
    out = tmp_path_factory.mktemp("app") / "Model"
    command = [sys.executable, str(ROOT / "ios_notes" / "prepare_bundle.py"), str(tiny_bundle), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def test_the_copy_is_a_bundle_of_one_variant(copied):
    bundle = open_bundle(copied)
    assert [variant.name for variant in bundle.manifest.variants] == ["coreml-w8-round"]
    check_integrity(bundle, full=True)
    listed = {*bundle.manifest.files, "manifest.json", "chat_format.json"}
    assert {str(path.relative_to(copied)) for path in copied.rglob("*") if path.is_file()} == listed
    assert set(json.loads((copied / "chat_format.json").read_text())) == {"schema_version", "trims", "joins"}


def test_a_stateful_variant_is_copied_by_name(prepare, tiny_bundle, tmp_path):
    variant = prepare.prepare_bundle(open_bundle(tiny_bundle), tmp_path / "out", "coreml-state-w8-round")
    assert variant.format == "coreml-state"
    with pytest.raises(EdgeError, match="not empty"):
        prepare.prepare_bundle(open_bundle(tiny_bundle), tmp_path / "out")
    with pytest.raises(EdgeError, match="no variant 'other'"):
        prepare.prepare_bundle(open_bundle(tiny_bundle), tmp_path / "other", "other")
