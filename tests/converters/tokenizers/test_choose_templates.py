"""Of templates by name, two are used and the rest are named."""

from edgesdk_converters.tokenizers.choose_templates import ChatTemplates, choose_templates


def test_without_a_default_none_is_used():
    found = choose_templates({"tool_use": "t"})
    assert found == ChatTemplates(None, None, ("tool_use",))
    assert found.notes()[0].endswith("there is none named 'default', so none is used")


def test_what_is_neither_is_left_out_and_named():
    found = choose_templates({"default": "d", "tool_use": "t", "rag": "r"})
    assert found == ChatTemplates("d", "t", ("rag",))
    assert found.notes() == ("the chat template named 'rag' is left out",)
