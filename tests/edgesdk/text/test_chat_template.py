import re
from datetime import datetime

import pytest

from edgesdk.errors import EdgeError
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
    tools = [{"name": "f", "text": "é<"}]
    assert render("{{ tools | tojson }}", tools=tools) == '[{"name": "f", "text": "é<"}]'
    assert render("{{ tools | tojson(indent=2) }}", tools=tools).splitlines()[1] == "  {"
    assert render("{{ bos_token }}{{ eos_token }}{% if tools is none %}none{% endif %}") == "<s></s>none"
    assert render("{% generation %}{{ messages[0].content }}{% endgeneration %}") == "Hi <b>&"
    assert render("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}") == "01"
    assert render("{{ '%05.1f|%s' % (2, 'x') }}{{ '%d' | format(3) }}") == "002.0|x3"
    assert render("{% set ns = namespace(x=1) %}{% set ns.x = 2 %}{{ ns.x }}") == "2"
    assert re.fullmatch(r"\d{4}", render("{{ strftime_now('%Y') }}"))
    assert render("{{ strftime_now('%Y') }}") == str(datetime.now().year)


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
