"""The form of calls is what a template renders: one short template in each form, of our own making."""

import pytest

from edgesdk.errors import UnsupportedOption
from edgesdk.text.call_format import call_format
from edgesdk.text.call_forms import CALL_FORMS
from edgesdk.text.chat_template import ChatTemplate

OTHER_FORM = (
    "{{ tools | tojson }} <tool_call>"
    "{% for m in messages %}{{ m.content }}{% for call in m.tool_calls or [] %}"
    "<tool_call>{{ call.function.name }}<arg_key>a</arg_key></tool_call>{% endfor %}{% endfor %}"
)
CHAT = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


@pytest.mark.parametrize("form", CALL_FORMS)
def test_a_template_that_renders_calls_says_the_form(tool_templates, form):
    assert call_format(tool_templates[form]) == form
    assert call_format(ChatTemplate(tool_templates[form], bos_token="<s>")) == form


@pytest.mark.parametrize(
    ("words", "form"),
    [
        ('<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>', "hermes"),
        ("answer in <tool_call></tool_call>", "hermes"),
        (
            "<tool_call>\n<function=NAME>\n<parameter=KEY>\nvalue\n</parameter>\n</function>\n</tool_call>",
            "qwen-xml",
        ),
        ("<function=NAME>{...}</function>", "functionary"),
        ('<function name="f"><param name="p">value</param></function>', "minicpm5"),
        ("[AVAILABLE_TOOLS]", "mistral"),
        ('{"name": function name, "parameters": dictionary of arguments}', "llama3"),
        ("```tool_code", "tool-code"),
        ("<start_function_declaration>", "function-gemma"),
    ],
)
def test_a_template_that_renders_no_calls_shows_the_form_in_words(words, form):
    assert call_format("{% if tools %}" + words + "{{ tools | tojson }}{% endif %}" + CHAT) == form


def test_tools_may_be_read_under_another_name(tool_templates):
    source = tool_templates["hermes"].replace("tools", "xml_tools")
    assert call_format(source) == "hermes"
    assert '"name": "clock"' in ChatTemplate(source).render([], tools=[{"name": "clock"}])


def test_a_template_of_its_own_for_tools_says_the_form(tool_templates):
    assert call_format(ChatTemplate(CHAT, tool_source=tool_templates["phi4"])) == "phi4"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ messages }}", "no place for tools"),
        ("{% if tools %}<tool_call>{% endif %}" + CHAT, "a tool's name is not in the prompt"),
        ("{# tools <tool_call> #}" + CHAT, "no place for tools"),
        ("{{ tools | tojson }}" + CHAT, "not known .known are qwen-xml, "),
        (OTHER_FORM, "not known"),
        ("{{ tools[0].missing.part }}", "does not take tools"),
    ],
)
def test_other_templates_are_refused(template, message):
    with pytest.raises(UnsupportedOption, match=message) as caught:
        call_format(template)
    assert "\n" not in str(caught.value)


def test_a_template_that_prints_arguments_is_asked_with_arguments_in_a_text():
    template = (
        "{{ tools | tojson }}{% for m in messages %}{{ m.content }}{% for call in m.tool_calls or [] %}"
        '<tool_call>{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments }}}'
        "</tool_call>{% endfor %}{% endfor %}"
    )
    assert call_format(template) == "hermes"
