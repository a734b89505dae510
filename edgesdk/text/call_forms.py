"""The forms of calls that models are taught, as data: how each is read, written, and shown to a model.

Sources: the chat templates that publishers ship, as they render a call. A form not listed here is refused
by name of what is known; adding one is a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgesdk.text.call_styles import (
    BareJsonCalls,
    CallStyle,
    GemmaCalls,
    JsonCalls,
    NamedCalls,
    PythonCalls,
)
from edgesdk.text.parameter_calls import ParameterCalls, Tags


@dataclass(frozen=True)
class CallForm:
    """A form of calls.

    Attributes:
        style: how it is read.
        shown: regular expression for what a prompt shows that teaches it by words alone.
        call: one call for the grammar of `tool_choice='required'`: NAME and ARGUMENTS stand for a function's
            name and its arguments.
        last: the characters that such a call ends with where no mark does; empty where one does.
    """

    style: CallStyle
    shown: str
    call: str
    last: str = ""


CALL_FORMS: Mapping[str, CallForm] = {
    "qwen-xml": CallForm(
        ParameterCalls(
            Tags("<function=", ">", "</function>"),
            Tags("<parameter=", ">", "</parameter>"),
            line="\n",
            call=("<tool_call>", "</tool_call>"),
        ),
        r"<function=[^>]*>\s*<parameter=",
        "<tool_call>\n<function=NAME>\nARGUMENTS</function>\n</tool_call>",
    ),
    "minicpm5": CallForm(
        ParameterCalls(
            Tags('<function name="', '">', "</function>"),
            Tags('<param name="', '">', "</param>"),
            raw=("<![CDATA[", "]]>"),
        ),
        r'<function name="[^>]*>\s*<param name="',
        '<function name="NAME">ARGUMENTS</function>',
    ),
    "functionary": CallForm(
        NamedCalls("<function=", r"<function=(?P<name>[^>\n]+)>\s*(?=\{)", "</function>"),
        r"<function=[^>]*>\s*\{",
        "<function=NAME>ARGUMENTS</function>",
    ),
    "harmony": CallForm(
        NamedCalls("to=functions.", r"to=functions\.(?P<name>[\w.-]+)[^{]*?<\|message\|>\s*(?=\{)"),
        r"to=functions\.",
        "<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>ARGUMENTS",
        "}",
    ),
    "mistral-args": CallForm(
        NamedCalls(
            "[TOOL_CALLS]",
            r"\[TOOL_CALLS\]\s*(?P<name>[^\s\[{]+)\s*(?:\[CALL_ID\][^\[{]*)?(?:\[ARGS\])?\s*(?=\{)",
        ),
        r"\[ARGS\]",
        "[TOOL_CALLS]NAME[ARGS]ARGUMENTS",
        "}",
    ),
    "mistral": CallForm(
        JsonCalls("[TOOL_CALLS]"),
        r"\[TOOL_CALLS\]|\[AVAILABLE_TOOLS\]",
        '[TOOL_CALLS][{"name": NAME, "arguments": ARGUMENTS}]',
        "]",
    ),
    "lfm2": CallForm(
        PythonCalls("<|tool_call_start|>", "<|tool_call_end|>"),
        r"<\|tool_call_start\|>|<\|tool_list_start\|>",
        "<|tool_call_start|>[NAME(ARGUMENTS)]<|tool_call_end|>",
    ),
    "tool-code": CallForm(
        PythonCalls("```tool_code", "```"),
        r"```tool_code",
        "```tool_code\nNAME(ARGUMENTS)\n```",
    ),
    "phi4": CallForm(
        JsonCalls("<|tool_call|>", "<|/tool_call|>", open_end=True),
        r"<\|/tool_call\|>|<\|tool\|>",
        '<|tool_call|>[{"name": NAME, "arguments": ARGUMENTS}]<|/tool_call|>',
    ),
    "granite": CallForm(
        JsonCalls("<|tool_call|>"),
        r"<\|tool_call\|>",
        '<|tool_call|>[{"name": NAME, "arguments": ARGUMENTS}]',
        "]",
    ),
    "nemotron": CallForm(
        JsonCalls("<TOOLCALL>", "</TOOLCALL>"),
        r"<TOOLCALL>",
        '<TOOLCALL>[{"name": NAME, "arguments": ARGUMENTS}]</TOOLCALL>',
    ),
    "gemma4": CallForm(
        GemmaCalls("<|tool_call>", "<tool_call|>", '<|"|>'),
        r"<\|tool_call>|<\|tool>",
        "<|tool_call>call:NAME{ARGUMENTS}<tool_call|>",
    ),
    "function-gemma": CallForm(
        GemmaCalls("<start_function_call>", "<end_function_call>", "<escape>"),
        r"<start_function_call>|<start_function_declaration>",
        "<start_function_call>call:NAME{ARGUMENTS}<end_function_call>",
    ),
    "hermes": CallForm(
        JsonCalls("<tool_call>", "</tool_call>"),
        r"<tool_call>(?!\s*<(?!/tool_call>))",
        '<tool_call>\n{"name": NAME, "arguments": ARGUMENTS}\n</tool_call>',
    ),
    "llama3": CallForm(
        BareJsonCalls("<|python_tag|>"),
        r"<\|python_tag\|>|\{\"name\": (?!\"probe_)[^{}]{0,120}\"parameters\":",
        '{"name": NAME, "parameters": ARGUMENTS}',
        "}",
    ),
    "pythonic": CallForm(
        PythonCalls(),
        r"\[\w+\(\w+=[^\]]{0,120}\]",
        "[NAME(ARGUMENTS)]",
        "]",
    ),
}
"""By name; where a prompt shows several, the first counts."""
