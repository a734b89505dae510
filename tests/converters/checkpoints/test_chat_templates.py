"""Templates by name, in each of the places that have held them; files win, as in transformers."""

import pytest

from edgesdk.errors import CheckpointError
from edgesdk_converters.checkpoints.chat_templates import read_chat_templates
from edgesdk_converters.tokenizers.choose_templates import ChatTemplates

SEVERAL = {"default": "{{ d }}", "tool_use": "{{ t }}"}


@pytest.mark.parametrize(
    "value", [SEVERAL, [{"name": name, "template": template} for name, template in SEVERAL.items()]]
)
def test_a_list_in_the_settings(tmp_path, value):
    found = read_chat_templates(tmp_path, {"chat_template": value})
    assert found == ChatTemplates("{{ d }}", "{{ t }}", ())


def test_files_beside_each_other_win(tmp_path):
    (tmp_path / "chat_template.jinja").write_text("file")
    assert read_chat_templates(tmp_path, {"chat_template": SEVERAL}) == ChatTemplates("file", None, ())
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text("tools")
    (tmp_path / "additional_chat_templates" / "rag.jinja").write_text("rag")
    found = read_chat_templates(tmp_path, {"chat_template": SEVERAL})
    assert found == ChatTemplates("file", "tools", ("rag",))
    assert found.notes() == ("the chat template named 'rag' is left out",)


def test_half_a_character_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="not valid Unicode"):
        read_chat_templates(tmp_path, {"chat_template": {"default": "\ud800"}})
