"""Chat messages to prompt text, by the model's own jinja2 template, in a sandbox.

A template comes from a checkpoint and is not trusted: it runs in jinja2's immutable sandbox, which
keeps it from files and from the interpreter, and the short ways to ask for unbounded time or memory
(repeated or doubled text, huge ranges and powers, wide formats, endless output) are limited here. A
template written to exhaust memory can still find longer ways. What is provided besides jinja2's own features
follows what published templates rely on: `tojson`, `raise_exception`, `strftime_now`, loop controls
and the `generation` block, which marks answers in training and is plain content here.

It knows nothing of token ids.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cached_property

from jinja2 import TemplateError, nodes
from jinja2.environment import Template
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from edgesdk.bundle.records import JsonValue
from edgesdk.errors import EdgeError
from edgesdk.text.messages import Message as Message

_OUTPUT_LIMIT_CHARS = 4 << 20
"""A million tokens of prompt or so; no runtime of this kind holds more."""

_REPEAT_LIMIT = 100_000
_POWER_LIMIT_BITS = 4096
_LOOP_LIMIT = 1_000_000
_INDENT_LIMIT = 32

_UNBOUNDED_FILTERS = ("batch", "center", "slice", "wordwrap")
_UNBOUNDED_GLOBALS = ("lipsum", "cycler", "joiner")
_WIDE_FORMAT = re.compile(r"%[^a-zA-Z%]*(\d{4}|\*)")
_UNBOUNDED_METHODS = {"center", "expandtabs", "format", "format_map", "ljust", "rjust", "zfill"}


class ChatTemplate:
    """A model's chat template."""

    def __init__(self, source: str, *, bos_token: str | None = None, eos_token: str | None = None) -> None:
        """Remembers the template; it is compiled on first use.

        Args:
            source: jinja2 text.
            bos_token: text of the model's start token, for templates that write it.
            eos_token: the same for the end token.
        """
        self.source = source
        """The template's text."""
        self._tokens = {"bos_token": bos_token or "", "eos_token": eos_token or ""}

    @cached_property
    def _template(self) -> Template:
        return _Sandbox().from_string(self.source)

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, JsonValue]] | None = None,
    ) -> str:
        """The prompt text of a conversation.

        Args:
            messages: each with `role` and `content`, and whatever else the template reads.
            add_generation_prompt: end with the start of an answer.
            tools: JSON schemas of functions that the model may call.

        Raises:
            EdgeError: the template is broken, refuses the messages, or produces no end of text.
        """
        pieces: list[str] = []
        size = 0
        try:
            for piece in self._template.generate(
                messages=[dict(message) for message in messages],
                tools=None if tools is None else [dict(tool) for tool in tools],
                documents=None,
                add_generation_prompt=add_generation_prompt,
                range=_limited_range(),
                **self._tokens,
            ):
                size += len(piece)
                if size > _OUTPUT_LIMIT_CHARS:
                    raise EdgeError(f"the chat template produced more than {_OUTPUT_LIMIT_CHARS} characters")
                pieces.append(piece)
        except EdgeError:
            raise
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise EdgeError(f"the chat template failed: {_one_line(error)}") from error
        except (RecursionError, MemoryError) as error:
            raise EdgeError(f"the chat template asks for too much: {type(error).__name__}") from error
        return "".join(pieces)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox, with limits on what costs more than it looks."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols])
        for name in _UNBOUNDED_FILTERS:
            del self.filters[name]
        for name in _UNBOUNDED_GLOBALS:
            del self.globals[name]
        self.filters["indent"] = _limited_indent(self.filters["indent"])
        self.filters["format"] = _limited_format(self.filters["format"])
        self.filters["tojson"] = _tojson
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now

    def is_safe_attribute(self, obj: object, attr: str, value: object) -> bool:
        if isinstance(obj, str) and attr in _UNBOUNDED_METHODS:
            return False
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: object) -> None:
        """Keeps jinja2 from making `str.format` available its own way: it is refused as an attribute."""

    def call_binop(self, context: object, operator: str, left: object, right: object) -> object:
        if operator == "*":
            for text, count in ((left, right), (right, left)):
                if isinstance(text, str | bytes | list | tuple) and isinstance(count, int):
                    _limit(len(text) * count, _REPEAT_LIMIT, "repeats a value too often")
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            _limit(left.bit_length() * abs(right), _POWER_LIMIT_BITS, "raises a number to too high a power")
        elif operator == "%" and isinstance(left, str):
            _check_widths(left)
        elif operator == "+" and isinstance(left, str | list | tuple) and isinstance(right, type(left)):
            _limit(len(left) + len(right), _OUTPUT_LIMIT_CHARS, "makes too long a value")
        return super().call_binop(context, operator, left, right)  # type: ignore[arg-type]


class _GenerationBlock(Extension):
    """`{% generation %} ... {% endgeneration %}`: its content, unchanged."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's own declaration of it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


def _limited_range() -> Callable[..., range]:
    """A `range` for one rendering: all of its ranges together have a limit."""
    used = 0

    def limited(*bounds: int) -> range:
        nonlocal used
        found = range(*bounds)
        used += max(len(found), 1)
        _limit(used, _LOOP_LIMIT, "loops too often")
        return found

    return limited


def _limited_indent(indent: Callable[..., str]) -> Callable[..., str]:
    def limited(text: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
        _limit(width if isinstance(width, int) else len(width), _INDENT_LIMIT, "indents too far")
        return indent(text, width, first, blank)

    return limited


def _limited_format(apply: Callable[..., str]) -> Callable[..., str]:
    def limited(pattern: str, *values: object, **named: object) -> str:
        _check_widths(pattern)
        return apply(pattern, *values, **named)

    return limited


def _check_widths(pattern: str) -> None:
    if _WIDE_FORMAT.search(pattern):
        raise ValueError("it formats text to an unlimited width")


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as models were trained on it: jinja2's own filter escapes for HTML."""
    if indent is not None:
        _limit(indent, _INDENT_LIMIT, "indents too far")
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: object) -> None:
    raise TemplateError(str(message))


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern[:200])


def _limit(found: float, most: int, what: str) -> None:
    if found > most:
        raise ValueError(f"it {what} ({found:.0f}, at most {most})")


def _one_line(error: Exception) -> str:
    """The error's message; its class too where that says more than the message."""
    message = " ".join(str(error).split())[:300] or type(error).__name__
    return message if isinstance(error, TemplateError) else f"{type(error).__name__}: {message}"
