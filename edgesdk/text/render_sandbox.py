"""Jinja2's sandbox with a budget, for templates that come from strangers.

A template runs in jinja2's immutable sandbox, which keeps it from files and from the interpreter. What it
may call is listed (`template_limits`), and everything it does is paid from a budget of steps and text
(`render_budget`, `count_steps`). Whatever goes wrong becomes one line that names the template's line.
What is provided besides jinja2's own features follows what published templates rely on: `tojson`,
`raise_exception`, `strftime_now`, loop controls and the `generation` block, which marks answers in
training and is plain content here.

It knows nothing of messages or models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cached_property

from jinja2 import TemplateError, TemplateSyntaxError, meta, nodes, pass_environment, pass_eval_context
from jinja2.environment import Environment, Template
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import EvalContext
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro, markup_join, str_join
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from edgesdk.errors import EdgeError
from edgesdk.text.count_steps import BUILT, CONCAT, READ, STEP, count_steps
from edgesdk.text.render_budget import RenderBudget, TooMuch
from edgesdk.text.sound_text import check_sound_text
from edgesdk.text.template_limits import (
    BUDGET,
    METHODS,
    add,
    check_format,
    check_method,
    check_power,
    check_product,
    limited_filters,
    limited_range,
    limited_tests,
    written,
)

_MOST_SOURCE_CHARS = 1 << 17
"""Four times the longest published template known; jinja2's own parser is not counted."""

_MOST_RANGE = 1_000_000
_FILE = "<chat template>"


class SandboxedTemplate:
    """A template that is not trusted, compiled once."""

    def __init__(self, source: str) -> None:
        """Remembers the template; it is compiled on first use.

        Args:
            source: jinja2 text.
        """
        self.source = source
        """The template's text."""

    @cached_property
    def _template(self) -> Template:
        self._check_length()
        sandbox = _Sandbox()
        code = sandbox.compile(count_steps(sandbox.parse(self.source)), filename=_FILE)
        return Template.from_code(sandbox, code, sandbox.make_globals(None))

    @cached_property
    def variables(self) -> frozenset[str]:
        """Names of what the template reads from outside, without what is always there.

        Raises:
            EdgeError: the template is broken.
        """
        self._check_length()
        sandbox = _Sandbox()
        try:
            names = meta.find_undeclared_variables(sandbox.parse(self.source))
        except Exception as error:  # as in `render`
            raise EdgeError(_explain(error)) from error
        return frozenset(names) - frozenset(sandbox.globals) - {"range"}

    def _check_length(self) -> None:
        if len(self.source) > _MOST_SOURCE_CHARS:
            raise EdgeError(
                f"the chat template has {len(self.source)} characters, expected at most {_MOST_SOURCE_CHARS}"
            )

    def render(self, variables: Mapping[str, object]) -> str:
        """The text that the template makes of `variables`.

        Raises:
            EdgeError: the template is broken, refuses the variables, or asks for too much.
            UnsupportedOption: the text has half a character in it, from the variables.
        """
        token = BUDGET.set(RenderBudget())
        try:
            pieces = list(_limited(self._template.generate(range=limited_range(_MOST_RANGE), **variables)))
        except EdgeError:
            raise
        except Exception as error:  # a stranger's template can raise whatever Python has
            raise EdgeError(_explain(error)) from error
        finally:
            BUDGET.reset(token)
        text = "".join(pieces)
        check_sound_text(text, "the prompt that the chat template makes")
        return text


class _Namespace(Namespace):
    """A namespace that is not written out: one may hold another, and that one the first."""

    def __repr__(self) -> str:
        return "<Namespace>"


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox, where everything is paid for."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "**", "%"})

    def __init__(self) -> None:
        # The optimizer would compute constants while it compiles, before there is a budget.
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_GenerationBlock, loopcontrols],
            optimized=False,
            finalize=_finalize,
        )
        self.filters = limited_filters()
        self.filters |= {STEP: _step, BUILT: _built, READ: _read, CONCAT: _concat}
        self.tests = dict(limited_tests())
        self.globals = {
            "dict": dict,
            "namespace": _Namespace,
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
        }

    def is_safe_attribute(self, obj: object, attr: str, value: object) -> bool:
        known = METHODS.get(type(obj))
        if known is not None:
            return attr in known
        for kind, allowed in METHODS.items():
            if isinstance(obj, kind):
                return attr in allowed
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: object) -> None:
        """Keeps jinja2 from making `str.format` available its own way: it is refused as an attribute."""

    def call(
        __self,  # noqa: N805 - as jinja2 has it, so that named arguments of any name can pass
        __context: Context,
        __obj: object,
        *args: object,
        **kwargs: object,
    ) -> object:
        budget = BUDGET.get()
        budget.spend(1)
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str):
            args = check_method(owner, getattr(__obj, "__name__", ""), args)
        elif isinstance(owner, list | tuple) or __obj is _raise_exception:
            budget.walk([*(owner if isinstance(owner, list | tuple) else ()), *args])
        elif isinstance(__obj, Macro) and (__obj.catch_varargs or __obj.catch_kwargs):
            budget.walk([*args, *kwargs.values()])
        result = super().call(__context, __obj, *args, **kwargs)
        if isinstance(result, str):
            budget.pay_text(result)
        elif isinstance(result, list):
            budget.spend(1 + (len(result) >> 4), len(result) << 4)
        elif __obj is dict:
            budget.walk(result)
        return result

    def call_binop(self, context: Context, operator: str, left: object, right: object) -> object:
        BUDGET.get().spend(1)
        if operator == "+":
            return add(left, right)
        if operator == "*":
            check_product(left, right)
        elif operator == "**":
            check_power(left, right)
        elif operator == "%" and isinstance(left, str):
            check_format(left, right)
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, str):
            BUDGET.get().pay_text(result)
        return result


class _GenerationBlock(Extension):
    """`{% generation %} ... {% endgeneration %}`: its content, unchanged."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's own declaration of it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


@pass_environment  # marked so that jinja2 does not call it while it compiles
def _finalize(_environment: Environment, value: object) -> object:
    """Pays for a piece of output."""
    if isinstance(value, str):
        BUDGET.get().pay_text(value)
        return value
    return written(value)


def _step(_value: object) -> bool:
    BUDGET.get().spend(1)
    return True


def _built(value: object) -> object:
    BUDGET.get().walk(value)
    return value


def _read(value: object) -> object:
    if isinstance(value, str):
        BUDGET.get().spend(1 + (len(value) >> 8))
    elif isinstance(value, list | tuple | dict):
        BUDGET.get().walk(value)
    return value


@pass_eval_context
def _concat(context: EvalContext, parts: tuple[object, ...]) -> str:
    budget = BUDGET.get()
    texts = [part if isinstance(part, str) else written(part) for part in parts]
    budget.refuse_longer(sum(map(len, texts)))
    text = markup_join(texts) if context.autoescape else str_join(texts)
    budget.pay_text(text)
    return text


def _limited(pieces: Iterator[str]) -> Iterator[str]:
    size = 0
    for piece in pieces:
        size += len(piece)
        BUDGET.get().refuse_longer(size)
        yield piece


def _raise_exception(message: object) -> None:
    raise TemplateError(written(message))


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern[:200])


def _explain(error: Exception) -> str:
    """One line of what went wrong where, with the error's class where that says more than its message."""
    line = error.lineno if isinstance(error, TemplateSyntaxError) else _line_of(error)
    place = "the chat template" if line is None else f"line {line} of the chat template"
    told = str(error.message if isinstance(error, TemplateError) else error)
    message = " ".join(told[:2000].split())[:300] or type(error).__name__
    if isinstance(error, TooMuch):
        return f"{place} asks for too much: it {message}"
    if isinstance(error, RecursionError | MemoryError):
        return f"{place} asks for too much: {type(error).__name__}"
    return f"{place} failed: {message if isinstance(error, TemplateError) else _named(error, message)}"


def _named(error: Exception, message: str) -> str:
    return message if message == type(error).__name__ else f"{type(error).__name__}: {message}"


def _line_of(error: Exception) -> int | None:
    """The line of the template that an error came from; jinja2 puts it into the traceback."""
    line = None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == _FILE:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
