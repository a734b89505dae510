"""Calls read while they are written: in whatever pieces the text comes, the calls are those of the whole."""

import json
import random

import pytest

from edgesdk.text.call_forms import CALL_FORMS
from edgesdk.text.stream_calls import CallStream, StreamedCall, StreamedText

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
}
SCHEMAS = {"weather": SCHEMA, "news": SCHEMA}
FIRST, SECOND = ("weather", {"city": 'Bad "Ems", {x}', "days": 2}), ("news", {"city": "Rom"})


def written(form, calls):
    """An answer with calls, as models of a form write them."""
    rule = CALL_FORMS[form]
    texts = []
    for name, arguments in calls:
        style = type(rule.style).__name__
        if style == "ParameterCalls":
            tag, line = rule.style.parameter, rule.style.line
            inner = "".join(
                f"{tag.head}{key}{tag.middle}{line}{value}{line}{tag.end}{line}"
                for key, value in arguments.items()
            )
        elif style == "PythonCalls":
            inner = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        elif style == "GemmaCalls":
            quote = rule.style.quote
            pairs = (
                f"{k}:{quote}{v}{quote}" if isinstance(v, str) else f"{k}:{v}" for k, v in arguments.items()
            )
            inner = ",".join(pairs)
        else:
            inner = json.dumps(arguments)
        named = style in ("NamedCalls", "ParameterCalls", "PythonCalls", "GemmaCalls")
        text = rule.call.replace("NAME", name if named else json.dumps(name)).replace("ARGUMENTS", inner)
        texts.append(text)
    return "\n".join(texts)


def streamed(form, text, cuts):
    """(text, calls, calls' pieces) of an answer that comes in pieces."""
    stream = CallStream(form, SCHEMAS, ["<|tool_call|>"])
    pieces = []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        pieces += stream.push(text[start:end])
    pieces += stream.finish()
    calls = []
    for piece in pieces:
        if isinstance(piece, StreamedCall):
            if piece.name is not None:
                assert piece.index == len(calls)
                calls.append([piece.name, ""])
            calls[piece.index][1] += piece.arguments
    said = "".join(piece.text for piece in pieces if isinstance(piece, StreamedText))
    return said, [(name, json.loads(arguments)) for name, arguments in calls], pieces


def cuttings(text):
    yield list(range(1, len(text)))
    yield []
    random_ = random.Random(3)
    for _ in range(20):
        yield sorted(random_.sample(range(1, len(text)), min(len(text) - 1, random_.randint(1, 8))))


SEVERAL = [f for f in CALL_FORMS if f not in ("pythonic", "phi4", "granite", "mistral", "llama3")]


@pytest.mark.parametrize("form", CALL_FORMS)
def test_a_call_in_any_pieces(form):
    text = written(form, [FIRST])
    for cuts in cuttings(text):
        said, calls, _ = streamed(form, text, cuts)
        assert (said.strip(), calls) == ("", [FIRST]), cuts


@pytest.mark.parametrize("form", SEVERAL)
def test_text_before_several_calls(form):
    lead = "I look it up < now.\n"
    text = lead + written(form, [FIRST, SECOND])
    for cuts in cuttings(text):
        said, calls, _ = streamed(form, text, cuts)
        assert (said, calls) == (lead, [FIRST, SECOND]), cuts


def test_arguments_come_while_they_are_written():
    text = written("hermes", [FIRST, SECOND])
    pieces = streamed("hermes", text, list(range(1, len(text))))[2]
    assert len([piece for piece in pieces if isinstance(piece, StreamedCall)]) > 40


@pytest.mark.parametrize("form", CALL_FORMS)
@pytest.mark.parametrize(
    "text",
    [
        "No.",
        "",
        "a < b",
        "[1] is a list",
        "{} is an object",
        '{"a": 1}',
        "Write `<tool_call>` and then words.",
    ],
)
def test_text_without_calls_stays_text(form, text):
    for cuts in cuttings(text) if len(text) > 1 else [[]]:
        said, calls, _ = streamed(form, text, cuts)
        assert (said, calls) == (text, []), cuts


def test_what_cannot_be_read_is_text():
    broken = '<tool_call>\n{"name": 3}\n</tool_call>'
    assert streamed("hermes", broken, [5, 20])[:2] == (broken, [])
    turned = '<tool_call>\n{"arguments": {"city": "Rom"}, "name": "news"}\n</tool_call>'
    assert streamed("hermes", turned, list(range(1, len(turned))))[:2] == ("", [SECOND])
    listed = (
        '[TOOL_CALLS][{"name": "news", "arguments": {"city": "Rom"}}, {"name": "weather", "arguments": {}}]'
    )
    assert streamed("mistral", listed, list(range(1, len(listed))))[1] == [SECOND, ("weather", {})]


def test_a_tag_within_a_text_ends_no_call():
    text = '<function name="news"><param name="city"><![CDATA[</param></function>]]></param></function>'
    found = [("news", {"city": "</param></function>"})]
    for cuts in cuttings(text):
        assert streamed("minicpm5", text, cuts)[:2] == ("", found), cuts


def test_a_call_that_was_cut_is_as_far_as_it_came():
    text = written("hermes", [FIRST])[:50]
    stream = CallStream("hermes", SCHEMAS)
    pieces = stream.push(text) + stream.finish()
    assert stream.calls == 1
    assert all(isinstance(piece, StreamedCall) for piece in pieces)
