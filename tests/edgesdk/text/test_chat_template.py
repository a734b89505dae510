import re
from datetime import datetime

import pytest

from edgesdk.errors import EdgeError, UnsupportedOption
from edgesdk.text.chat_template import ChatTemplate

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ASK = [{"role": "user", "content": "Hi <b>&"}]


def render(source, messages=ASK, **options):
    return ChatTemplate(source, bos_token="<s>", eos_token="</s>").render(messages, **options)


def test_a_published_kind_of_template():
    assert render(CHATML) == "<|im_start|>user\nHi <b>&<|im_end|>\n<|im_start|>assistant\n"
    assert render(CHATML, add_generation_prompt=False) == "<|im_start|>user\nHi <b>&<|im_end|>\n"


def test_blocks_leave_no_blank_lines():
    assert render("{% if true %}\n  {% if true %}\na\n  {% endif %}\n{% endif %}\nb") == "a\nb"


def test_what_templates_rely_on():
    odd = [{"role": "user", "text": "é<"}]
    assert render("{{ messages | tojson }}", odd) == '[{"role": "user", "text": "é<"}]'
    assert render("{{ messages | tojson(indent=2) }}", odd).splitlines()[1] == "  {"
    assert render("{{ bos_token }}{{ eos_token }}{% if tools is none %}none{% endif %}") == "<s></s>none"
    assert render("{% generation %}{{ messages[0].content }}{% endgeneration %}") == "Hi <b>&"
    assert render("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}") == "01"
    assert render("{{ '%05.1f|%s' % (2, 'x') }}{{ '%d' | format(3) }}") == "002.0|x3"
    assert render("{% set ns = namespace(x=1) %}{% set ns.x = 2 %}{{ ns.x }}") == "2"
    assert re.fullmatch(r"\d{4}", render("{{ strftime_now('%Y') }}"))
    assert render("{{ strftime_now('%Y') }}") == str(datetime.now().year)


FLAT = {"name": "f", "parameters": {"type": "object"}}


def test_tools_reach_templates_in_the_form_that_models_were_trained_on():
    wrapped = '[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]'
    assert render("{{ tools | tojson }}", tools=[FLAT]) == wrapped
    assert render("{{ xml_tools | tojson }}", tools=[FLAT]) == wrapped
    assert render("{{ tools is none }}{{ xml_tools is defined }}") == "TrueFalse"


def test_a_template_of_its_own_for_tools():
    template = ChatTemplate("plain", tool_source="{{ tools[0].function.name }}{{ word }}")
    assert template.render(ASK) == "plain"
    assert template.render(ASK, tools=[]) == "plain"
    assert template.render(ASK, tools=[FLAT], variables={"word": "!"}) == "f!"
    with pytest.raises(UnsupportedOption, match="reads no variable 'word'"):
        template.render(ASK, variables={"word": "!"})


THINKING = (
    "{% if enable_thinking is not defined %}{% set enable_thinking = true %}{% endif %}"
    "{% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
    "{{ date_string or 'today' }}{% for d in documents or [] %}{{ d.title }}{% endfor %}"
    "{{ strftime_now('') }}{% for i in range(1) %}{{ i }}{% endfor %}"
)


def test_variables_of_a_template_can_be_set():
    assert render(THINKING) == "today0"
    assert render(THINKING, variables={"enable_thinking": False}) == "<think>\n\n</think>\n\ntoday0"
    assert render(THINKING, variables={"enable_thinking": True}) == "today0"
    asked = {"date_string": "1 May", "documents": [{"title": "A"}, {"title": "B"}]}
    assert render(THINKING, variables=asked) == "1 MayAB0"


@pytest.mark.parametrize("name", ["messages", "tools", "xml_tools", "add_generation_prompt", "bos_token"])
def test_what_is_set_by_other_means_is_no_variable(name):
    with pytest.raises(UnsupportedOption, match=f"{name!r} is set from messages"):
        render("{{ " + name + " }}", variables={name: 1})


@pytest.mark.parametrize("name", ["enable_thinkin", "range", "strftime_now", "raise_exception", "i"])
def test_a_variable_that_the_template_does_not_read_is_refused(name):
    with pytest.raises(UnsupportedOption) as caught:
        render(THINKING, variables={name: False})
    assert str(caught.value) == (
        f"the model's chat template reads no variable {name!r}; it reads: "
        "date_string, documents, enable_thinking"
    )


def test_a_template_can_refuse_the_messages():
    with pytest.raises(EdgeError, match="roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")


@pytest.mark.parametrize(
    "source",
    [
        "{% if %}",
        "{% for x in %}",
        "{{ messages[0].content + 1 }}",
        "{{ 1 / 0 }}",
        "{{ undefined_thing.attribute }}",
        "{{ undefined_thing | tojson }}",
        "{% include 'x' %}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ [1][5].x }}",
    ],
)
def test_a_failing_template_is_one_line(source):
    with pytest.raises(EdgeError, match="the chat template") as caught:
        render(source)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(90000) %}{{ 'some hundred characters' * 100 }}{% endfor %}",
        "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}",
        "{{ 'a' * 10**9 }}",
        "{{ 10**9 * 'a' }}",
        "{{ [1] * 10**9 }}",
        "{{ 9**(9**9) }}",
        "{{ range(10**12) | list }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%*d' % (1000000000, 1) }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ '{:>1000000000}'.format(1) }}",
        "{{ ('{:>1000000000}' | attr('format'))(1) }}",
        "{{ 'a'.center(10**9) }}",
        "{{ 'a' | center(10**9) }}",
        "{{ 'a\nb' | indent(10**9) }}",
        "{{ messages | tojson(indent=10**9) }}",
        "{% set n = namespace(s='ab') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ],
)
def test_a_runaway_template_is_stopped(source):
    with pytest.raises(EdgeError, match="the chat template"):
        render(source)


def test_messages_are_not_changed():
    messages = [{"role": "user", "content": "x"}]
    with pytest.raises(EdgeError):
        render("{% set _ = messages[0].update({'role': 'y'}) %}", messages)
    assert messages == [{"role": "user", "content": "x"}]


@pytest.mark.parametrize("variables", [["a"], "a", 5])
def test_variables_are_a_dict(variables):
    with pytest.raises(UnsupportedOption, match=r"template_variables is .*, expected a dict"):
        ChatTemplate("{{ a }}").render([], variables=variables)
