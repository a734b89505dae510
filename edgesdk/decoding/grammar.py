"""Answers that must follow a JSON schema, a regular expression or a context-free grammar.

llguidance does the parsing: for each place in an answer it says which of the model's tokens may come
next, and which must. The masks are computed in a worker thread while the model runs (llguidance works
without Python's lock), so that a choice rarely waits. A compiled grammar is kept and serves any number
of requests.

JSON documents are laid out as `json.dumps` does by default, one space after a comma and a colon: the
form that models have seen most, and one that leaves them no way to fill an answer with spaces.

It knows nothing of logits or sampling.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.native_calls import native_call, on_deep_stack
from edgesdk.bundle.records import JsonValue
from edgesdk.decoding.compile_apart import check_apart
from edgesdk.decoding.grammar_ahead import GrammarAhead, forced_tokens
from edgesdk.decoding.json_schema import grammar_schema
from edgesdk.decoding.options import GenerationOptions
from edgesdk.decoding.schema_limits import check_lark_limits, check_regex_limits
from edgesdk.errors import MissingExtra, UnsupportedOption
from edgesdk.text.sound_text import check_sound_text
from edgesdk.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

Kind = Literal["JSON schema", "regex", "Lark grammar"]

_KEPT_GRAMMARS = 32
_MOST_CHARS = 1 << 20


class GrammarTokenizer:
    """A model's tokenizer as llguidance wants it, made once; and the grammars compiled for it."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, *, isolated: bool | None = None) -> None:
        """Remembers the tokenizer; its table is built on first use, which takes a second for 50,000 tokens.

        Args:
            tokenizer: of the model.
            vocab_size: V, which may be more or less than the tokenizer's own.
            isolated: as for `check_apart`, for every grammar.
        """
        self._isolated = isolated
        self._tokenizer = tokenizer
        self.vocab_size = vocab_size
        self._compiled: OrderedDict[tuple[str, str], LLMatcher] = OrderedDict()
        self._lock = Lock()

    @cached_property
    def table(self) -> LLTokenizer:
        """The tokenizer in llguidance's form.

        Raises:
            MissingExtra: llguidance is not installed.
            UnsupportedOption: it cannot tell which bytes the tokens of this tokenizer stand for.
        """
        try:
            from llguidance import LLTokenizer
        except ImportError as error:
            raise MissingExtra("llguidance", "structured") from error
        engine = self._tokenizer.engine
        size = max(self.vocab_size, engine.get_vocab_size())
        eos_ids = [token for token in self._tokenizer.record.eos_ids if token < size]
        if not eos_ids:
            raise UnsupportedOption("grammars need a model with an end token; the bundle names none")
        with native_call("grammars do not support this tokenizer", UnsupportedOption):
            return LLTokenizer(engine.to_str(), n_vocab=size, eos_token=eos_ids)

    @cached_property
    def workers(self) -> ThreadPoolExecutor:
        """The threads that masks are computed in."""
        return ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="edgesdk-grammar")

    def compile(self, kind: Kind, text: str) -> LLMatcher:
        """A grammar's parser at its start; to be copied, not used.

        Raises:
            UnsupportedOption: the grammar is not valid or asks for something unsupported.
        """
        with self._lock:
            if (kind, text) not in self._compiled:
                self._compiled[kind, text] = self._build(kind, text)
                if len(self._compiled) > _KEPT_GRAMMARS:
                    self._compiled.popitem(last=False)
            self._compiled.move_to_end((kind, text))
            return self._compiled[kind, text]

    def _build(self, kind: Kind, text: str) -> LLMatcher:
        table = self.table
        from llguidance import LLMatcher

        source = _source(kind, text)
        check_apart(source, f"the {kind}", self._isolated)
        with native_call(f"the {kind} cannot be used", UnsupportedOption):
            matcher = on_deep_stack(lambda: LLMatcher(table, source, log_level=0))
        problem = matcher.get_error() or "; ".join(matcher.get_grammar_warnings())
        if problem:
            raise UnsupportedOption(f"the {kind} cannot be used: {_line(problem)}")
        return matcher


class Grammar:
    """What an answer must follow, compiled for one model. Any number of requests may use it."""

    def __init__(self, tokenizer: GrammarTokenizer, kind: Kind, text: str) -> None:
        """Compiles; `json_schema`, `regex` and `lark` are the ways to say it.

        Raises:
            UnsupportedOption: the grammar is not valid, or asks for something unsupported, by name.
            MissingExtra: llguidance or jsonschema is not installed.
        """
        self._tokenizer = tokenizer
        self._start = tokenizer.compile(kind, text)

    @classmethod
    def json_schema(cls, schema: Mapping[str, JsonValue] | bool, tokenizer: GrammarTokenizer) -> Grammar:
        """JSON documents of a schema (draft 2020-12), with properties in the order of the schema."""
        return cls(tokenizer, "JSON schema", grammar_schema(schema))

    @classmethod
    def regex(cls, pattern: str, tokenizer: GrammarTokenizer) -> Grammar:
        r"""Texts that match a regular expression from start to end.

        The syntax is that of Rust's regex package: `\d` is any digit of Unicode, there is no look-around.
        """
        return cls(tokenizer, "regex", _checked_text("regex", pattern))

    @classmethod
    def lark(cls, text: str, tokenizer: GrammarTokenizer) -> Grammar:
        """Texts of a context-free grammar, in llguidance's variant of Lark; its start is the rule `start`."""
        return cls(tokenizer, "Lark grammar", _checked_text("lark", text))

    @classmethod
    def of(cls, options: GenerationOptions, tokenizer: GrammarTokenizer) -> Grammar | None:
        """The grammar that options ask for; None for free text.

        Raises:
            UnsupportedOption: they ask for more than one.
        """
        asked = _asked(options)
        return None if asked is None else cls(tokenizer, *asked)

    def start(self) -> GrammarState:
        """The state at the beginning of an answer."""
        return GrammarState(self._start.deep_copy(), self._tokenizer)


class GrammarState:
    """Where one answer stands in its grammar."""

    def __init__(self, matcher: LLMatcher, tokenizer: GrammarTokenizer) -> None:
        """Takes over a parser.

        Args:
            matcher: at its start.
            tokenizer: has V and the worker threads.
        """
        self._matcher = matcher
        self._tokenizer = tokenizer
        self._mask: Future[bytes] | None = None
        self.finished = False
        """Whether the answer is complete, so that nothing may follow."""

    def start_mask(self) -> None:
        """Begins to compute what may come next; `allowed` waits for it. May be called again."""
        if self._mask is None and not self.finished:
            self._mask = self._tokenizer.workers.submit(self._matcher.compute_bitmask)

    def allowed(self) -> NDArray[np.bool_]:
        """Tokens that may come next: (V,); end tokens are among them where the answer may end.

        Raises:
            UnsupportedOption: the grammar became too complex.
        """
        self.start_mask()
        with native_call("the grammar cannot go on", UnsupportedOption):
            bits = self._mask.result() if self._mask is not None else b""
        self._check()
        return self._unpack(bits)

    def _unpack(self, bits: bytes) -> NDArray[np.bool_]:
        V = self._tokenizer.vocab_size
        mask = np.zeros(V, np.bool_)
        held = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")[:V]
        mask[: len(held)] = held
        return mask

    def allowed_after(self, tokens: Sequence[int]) -> NDArray[np.bool_] | None:
        """Tokens that might come after some others, without going on: (V,).

        Returns:
            None where the others may not come, or nothing after them.
        """
        if not tokens:
            return None if self.finished else self.allowed()
        with native_call("the grammar cannot go on", UnsupportedOption):
            matcher = self._ahead(tokens)
            return None if matcher is None else self._unpack(matcher.compute_bitmask())

    def count_allowed(self, tokens: Sequence[int]) -> int:
        """How many of some tokens may come next, one after the other; without going on."""
        if self.finished:
            return 0
        with native_call("the grammar cannot go on", UnsupportedOption):
            self._settle()
            count: int = self._matcher.validate_tokens(list(tokens))
            return count

    def forced_after(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """What must come after some tokens that may come next; without going on."""
        with native_call("the grammar cannot go on", UnsupportedOption):
            matcher = self._ahead(tokens)
            return () if matcher is None else forced_tokens(matcher, self._tokenizer.vocab_size)

    def ahead(self) -> GrammarAhead | None:
        """A state of its own that may go on from here; None where nothing may follow.

        Raises:
            UnsupportedOption: the grammar cannot go on.
        """
        with native_call("the grammar cannot go on", UnsupportedOption):
            matcher = self._ahead(())
        tokenizer = self._tokenizer
        return None if matcher is None else GrammarAhead(matcher, tokenizer.table, tokenizer.vocab_size)

    def _ahead(self, tokens: Sequence[int]) -> LLMatcher | None:
        """A copy of the parser after some tokens; None where they may not come, or nothing after them."""
        if self.finished:
            return None
        self._settle()
        matcher = self._matcher.deep_copy()
        if matcher.try_consume_tokens(list(tokens)) < len(tokens) or matcher.is_stopped():
            return None
        return matcher

    def _settle(self) -> None:
        """Waits until the worker is done with the parser."""
        if self._mask is not None:
            self._mask.result()

    def advance(self, token: int) -> tuple[int, ...]:
        """Goes on with a chosen token, and with all that follow from it; returns the latter.

        Raises:
            UnsupportedOption: the token may not come here, or the grammar became too complex.
        """
        with native_call("the grammar cannot go on", UnsupportedOption):
            if self._mask is not None:
                self._mask.result()
                self._mask = None
            forced = self._consume(token)
        self._check()
        self.finished = self._matcher.is_stopped()
        self.start_mask()
        return forced

    def _consume(self, token: int) -> tuple[int, ...]:
        """Takes a token and all that must follow; returns the latter."""
        matcher = self._matcher
        matcher.consume_token(token)
        forced: tuple[int, ...] = ()
        if not matcher.is_stopped():
            forced = forced_tokens(matcher, self._tokenizer.vocab_size)
            matcher.consume_tokens(list(forced))
        return forced

    def _check(self) -> None:
        if self._matcher.is_error():
            raise UnsupportedOption(f"the grammar cannot go on: {_line(self._matcher.get_error())}")


def _checked_text(name: str, text: str) -> str:
    if not isinstance(text, str) or not text:
        raise UnsupportedOption(f"{name} is {repr(text)[:60]}, expected a text that is not empty")
    check_sound_text(text, name)
    if name == "lark":
        check_lark_limits(text)
    return text


def check_grammar(options: GenerationOptions) -> None:
    """Refuses what no model could follow, before one is loaded.

    Raises:
        UnsupportedOption: the options ask for more than one grammar, or it is not valid.
        MissingExtra: llguidance or jsonschema is not installed.
    """
    asked = _asked(options)
    if asked is None:
        return
    try:
        from llguidance import LLMatcher
    except ImportError as error:
        raise MissingExtra("llguidance", "structured") from error
    source = _source(*asked)
    check_apart(source, f"the {asked[0]}")
    with native_call(f"the {asked[0]} cannot be used", UnsupportedOption):
        problem = on_deep_stack(lambda: LLMatcher.validate_grammar(source, None))
    if problem:
        raise UnsupportedOption(f"the {asked[0]} cannot be used: {_line(problem)}")


def _asked(options: GenerationOptions) -> tuple[Kind, str] | None:
    """The grammar that options ask for."""
    names = [name for name in ("json_schema", "regex", "lark") if getattr(options, name) is not None]
    if len(names) > 1:
        raise UnsupportedOption(f"an answer follows one grammar, found {' and '.join(names)}")
    if options.json_schema is not None:
        return "JSON schema", grammar_schema(options.json_schema)
    if options.regex is not None:
        return "regex", _checked_text("regex", options.regex)
    return None if options.lark is None else ("Lark grammar", _checked_text("lark", options.lark))


def _source(kind: Kind, text: str) -> str:
    """A grammar in llguidance's own form."""
    from llguidance import LLMatcher

    if len(text) > _MOST_CHARS:
        raise UnsupportedOption(f"the {kind} has {len(text)} characters, expected at most {_MOST_CHARS}")
    if kind == "JSON schema":
        return LLMatcher.grammar_from_json_schema(text)
    if kind == "regex":
        check_regex_limits(text, "the regex")
        return LLMatcher.grammar_from_regex(text)
    return LLMatcher.grammar_from_lark(text)


def _line(problem: object) -> str:
    """The line of a message from llguidance that says what is wrong."""
    if "oneOf constraints" in str(problem):  # its own text names an option that is not offered here
        return "'oneOf' is supported where no document fits two of its parts; use 'anyOf'"
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines or ["unknown reason"])[0][:300]
