import pytest

from edgesdk.errors import EdgeError, UnsupportedOption
from edgesdk.text.render_sandbox import SandboxedTemplate

DOUBLED = "{% set n = namespace(x=START) %}{% for i in range(60) %}{% set n.x = GROW %}{% endfor %}{{ n.x }}"


def render(source, **variables):
    return SandboxedTemplate(source).render(variables)


@pytest.mark.parametrize(
    ("start", "grow"),
    [
        ("'a'", "n.x ~ n.x"),
        ("2", "n.x * n.x"),
        ("[1]", "[n.x, n.x]"),
        ("(1,)", "(n.x,) * 9"),
        ("'a'", "n.x + n.x"),
    ],
)
def test_values_that_double_are_stopped(start, grow):
    with pytest.raises(EdgeError, match="line 1 of the chat template asks for too much"):
        render(DOUBLED.replace("START", start).replace("GROW", grow))


@pytest.mark.parametrize(
    "source",
    [
        "{{ ('a' * 9000) | replace('a', 'b' * 9000) }}",
        "{{ ('a' * 9000).replace('a', 'b' * 9000) }}",
        "{{ (['a' * 9000] * 9000) | join }}",
        "{{ ('a' * 9000).join('b' * 9000) }}",
        "{{ (['a' * 90000] * 90000) | sort }}",
        "{{ 3.5 | round(1000, 'floor') }}",
        "{{ '%(a)1000d' % {'a': 1} }}",
        "{{ ('9' * 2000) | int }}",
        "{{ ('a' * 900).strip('b' * 900) }}",
        "{% macro f(n) %}{{ f(n - 1) if n }}{{ f(n - 1) if n }}{% endmacro %}{{ f(40) }}",
        "{% set x %}{% for i in range(99999) %}{{ 'a' * 9000 }}{% endfor %}{% endset %}",
    ],
)
def test_what_costs_more_than_it_looks_is_refused(source):
    with pytest.raises(EdgeError, match="asks for too much"):
        render(source)


@pytest.mark.parametrize("name", ["to_bytes", "format", "encode", "translate", "zfill"])
def test_only_listed_methods_exist(name):
    with pytest.raises(EdgeError, match=f"attribute '{name}' of .* is unsafe"):
        render("{{ x.NAME(1) }}".replace("NAME", name), x=5 if name == "to_bytes" else "5")


@pytest.mark.parametrize("source", ["a\nb\n{{ 1 / 0 }}", "a\nb\n{% if %}", "a\nb\n{{ x | nothing }}"])
def test_the_line_is_named(source):
    with pytest.raises(EdgeError, match="line 3 of the chat template failed") as caught:
        render(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "source", ["x" * 200_000, "{{ 1" + " + 1" * 200 + " }}", "{{ [" + "1, " * 60_000 + "] }}"]
)
def test_large_and_deep_templates_are_refused(source):
    with pytest.raises(EdgeError, match="the chat template"):
        render(source)


def test_half_a_character_is_refused():
    with pytest.raises(UnsupportedOption, match=r"half a character \(U\+D800\) at position 1"):
        render("a{{ x }}", x="\ud800")


def test_a_long_conversation_is_within_the_budget():
    source = "{% for m in messages if 'x' in m.text and m.role == 'user' %}{{ m.text ~ '.' }}{% endfor %}"
    messages = [{"role": "user", "text": "x" * 400}] * 5000
    assert len(render(source, messages=messages)) == 5000 * 401


def test_what_is_written_stays_as_jinja2_writes_it():
    assert render("{{ [1, 2] | sum }}{{ [[1], [2]] | sum(start=[]) }}") == "3[1, 2]"
    assert render("{{ [{'a': 'x'}, {'a': 'y'}] | join('-', attribute='a') }}") == "x-y"
    assert (
        render("{% for x in [1, 2, 3] if x != 2 %}{{ loop.index }}{{ x }}{{ loop.last }}{% endfor %}")
        == "11False23True"
    )
    assert render("{{ 1 ~ none ~ [2] }}{{ x is defined }}{{ 'abc'[::-1] }}") == "1None[2]Falsecba"
    assert render("{% autoescape true %}<{{ '<' }}{{ '<' ~ '>' }}{% endautoescape %}") == "<&lt;&lt;&gt;"
