"""Grammars over tokenizers of both families; answers are drawn blindly from what is allowed."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from edgesdk.bundle.manifest import TokenizerRecord
from edgesdk.decoding.grammar import Grammar, GrammarTokenizer, check_grammar
from edgesdk.decoding.options import GenerationOptions
from edgesdk.errors import MissingExtra, UnsupportedOption
from edgesdk.text.tokenizer import Tokenizer

pytest.importorskip("llguidance")

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "maximum": 150}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture
def grammars(tokenizer):
    return GrammarTokenizer(tokenizer, tokenizer.engine.get_vocab_size() + 7)


def draw(grammar, tokenizer, seed=0, limit=400):
    """Tokens drawn evenly from what is allowed, without the end token; and whether the answer ended."""
    random = np.random.default_rng(seed)
    state, tokens = grammar.start(), []
    while not state.finished and len(tokens) < limit:
        token = int(random.choice(np.flatnonzero(state.allowed())))
        if token in tokenizer.record.eos_ids:
            return tokens, True
        tokens += [token, *state.advance(token)]
    return tokens, state.finished


def test_documents_follow_the_schema(grammars, tokenizer):
    grammar = Grammar.json_schema(PERSON, grammars)
    for seed in range(20):
        tokens, ended = draw(grammar, tokenizer, seed)
        assert ended
        person = json.loads(tokenizer.decode(tokens))
        assert set(person) == {"name", "age"}
        assert len(person["name"]) <= 8
        assert person["age"] <= 150
        assert tokenizer.decode(tokens).startswith('{"name": "')


def test_forced_tokens_are_those_that_leave_no_choice(grammars, tokenizer):
    grammar = Grammar.json_schema({"const": {"a key": ["the value", 1]}}, grammars)
    state = grammar.start()
    allowed = np.flatnonzero(state.allowed())
    first = int(allowed[0])
    forced = state.advance(first)
    assert state.finished
    assert tokenizer.decode([first, *forced]) == '{"a key": ["the value", 1]}'
    assert len(forced) > 5
    # One at a time, a state that takes no shortcut allows just these.
    slow = grammar.start()
    assert first in np.flatnonzero(slow.allowed())


def test_the_answer_may_end_only_where_it_is_complete(grammars, tokenizer):
    state = Grammar.regex("a(bc)*", grammars).start()
    (end,) = tokenizer.record.eos_ids
    assert not state.allowed()[end]
    state.advance(tokenizer.engine.token_to_id("a"))
    assert state.allowed()[end]
    state.advance(tokenizer.engine.token_to_id("b"))
    assert state.allowed()[end]  # the c was forced
    assert not state.finished
    state.advance(end)
    assert state.finished


def test_ids_that_the_tokenizer_lacks_are_never_allowed(grammars, tokenizer):
    mask = Grammar.regex("(?s).*", grammars).start().allowed()
    assert len(mask) == grammars.vocab_size == tokenizer.engine.get_vocab_size() + 7
    assert not mask[-7:].any()
    assert mask.any()


def test_a_model_with_fewer_rows_than_the_tokenizer(byte_level):
    size = byte_level.engine.get_vocab_size() - 20
    grammar = Grammar.json_schema(PERSON, GrammarTokenizer(byte_level, size))
    tokens, ended = draw(grammar, byte_level)
    assert ended
    assert max(tokens) < size


@pytest.mark.parametrize("pattern", [r"[a-f]{3}-\d{2}", "^(yes|no)$", "(?i)fox", "é+日", "x"])
def test_texts_match_the_expression(grammars, tokenizer, pattern):
    grammar = Grammar.regex(pattern, grammars)
    for seed in range(5):
        tokens, ended = draw(grammar, tokenizer, seed, limit=60)
        assert not ended or re.fullmatch(pattern, tokenizer.decode(tokens))
        if "+" not in pattern:
            assert ended


def test_texts_follow_the_context_free_grammar(grammars, tokenizer):
    grammar = Grammar.lark('start: "<" start ">" | "x"', grammars)
    for seed in range(5):
        tokens, ended = draw(grammar, tokenizer, seed)
        text = tokenizer.decode(tokens)
        assert ended
        assert text == "<" * text.count("<") + "x" + ">" * text.count("<")


def test_many_states_of_one_grammar_do_not_disturb_each_other(grammars, tokenizer):
    grammar = Grammar.json_schema(PERSON, grammars)
    alone = [draw(grammar, tokenizer, seed)[0] for seed in range(4)]
    states = [grammar.start() for _ in range(4)]
    random = [np.random.default_rng(seed) for seed in range(4)]
    for step in range(5):
        for state in states:
            state.start_mask()
            state.start_mask()
        for n, state in enumerate(states):
            if not state.finished:
                token = int(random[n].choice(np.flatnonzero(state.allowed())))
                if step == 0:
                    assert token == alone[n][0]
                state.advance(token)


def test_a_grammar_is_compiled_once(grammars):
    one, same = (Grammar.json_schema(dict(PERSON), grammars) for _ in range(2))
    assert one._start is same._start
    for n in range(40):
        Grammar.regex(f"a{{{n + 1}}}", grammars)
    assert len(grammars._compiled) == 32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"regex": "("}, "the regex cannot be used: unclosed group"),
        ({"regex": "a(?=b)"}, "look-around"),
        ({"regex": r"(a)\1"}, "backreferences are not supported"),
        ({"regex": ""}, "expected a text that is not empty"),
        ({"regex": 3}, "regex is 3"),
        ({"lark": "start: word"}, "the Lark grammar cannot be used: .*word"),
        ({"lark": "!!!"}, "the Lark grammar cannot be used"),
        ({"lark": "a" * (1 << 21)}, "expected at most"),
        ({"regex": "a", "lark": "start: /a/"}, "follows one grammar, found regex and lark"),
        ({"json_schema": {"$ref": "https://example.org/other"}}, "the JSON schema cannot be used: .*other"),
        ({"json_schema": {"$ref": "#/$defs/none"}}, "/\\$defs/none"),
        ({"json_schema": {"type": "string", "format": "wibble"}}, "Unknown format: wibble"),
        ({"json_schema": {"type": "string", "pattern": "a(?=b)"}}, "look-around"),
        ({"json_schema": {"type": "integer", "minimum": 5, "maximum": 3}}, "Unsatisfiable"),
        ({"json_schema": {"oneOf": [{"type": "string"}, {"minLength": 2}]}}, "'oneOf' is supported where"),
        ({"json_schema": {"not": {}}}, "'not'"),
    ],
)
def test_what_cannot_be_used_is_one_line(byte_level, options, message):
    tokenizer = GrammarTokenizer(byte_level, byte_level.engine.get_vocab_size())
    with pytest.raises(UnsupportedOption, match=message) as caught:
        Grammar.of(GenerationOptions(**options), tokenizer)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"regex": "("}, "the regex cannot be used: unclosed group"),
        ({"lark": "start: word"}, "the Lark grammar cannot be used: .*word"),
        ({"regex": "a", "lark": "start: /a/"}, "follows one grammar, found regex and lark"),
        ({"json_schema": {"type": "strin"}}, "the JSON schema is not valid at #/type"),
        ({"json_schema": {"$ref": "https://example.org/other"}}, "the JSON schema cannot be used: .*other"),
    ],
)
def test_what_no_model_can_follow_is_known_without_one(options, message):
    with pytest.raises(UnsupportedOption, match=message):
        check_grammar(GenerationOptions(**options))


@pytest.mark.parametrize("options", [{}, {"regex": "a|b"}, {"json_schema": True}, {"lark": "start: /a/"}])
def test_what_some_model_can_follow_passes(options):
    check_grammar(GenerationOptions(**options))


def test_free_text_has_no_grammar(grammars):
    assert Grammar.of(GenerationOptions(), grammars) is None


@pytest.mark.parametrize(
    "schema", [{"$ref": "#"}, {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}]
)
def test_a_schema_that_only_names_itself_is_an_error(byte_level, schema):
    tokenizer = GrammarTokenizer(byte_level, byte_level.engine.get_vocab_size())
    with pytest.raises(UnsupportedOption):
        Grammar.json_schema(schema, tokenizer).start().allowed().any() or pytest.fail("nothing is allowed")


def test_a_token_that_may_not_come_is_an_error(grammars, tokenizer):
    state = Grammar.regex("a", grammars).start()
    with pytest.raises(UnsupportedOption, match="the grammar cannot go on"):
        state.advance(tokenizer.engine.token_to_id("b"))


def test_a_model_without_end_token_is_refused(byte_level):
    record = TokenizerRecord(None, (), False, None, None)
    tokenizer = Tokenizer(byte_level._path, record)
    with pytest.raises(UnsupportedOption, match="need a model with an end token"):
        Grammar.regex("a", GrammarTokenizer(tokenizer, 400))


def test_a_tokenizer_of_an_unknown_kind_is_refused(save):
    from tokenizers import Tokenizer as Engine
    from tokenizers import models

    engine = Engine(models.WordLevel({"<s>": 0, "</s>": 1, "a": 2}, unk_token="<s>"))
    with pytest.raises(UnsupportedOption, match="do not support this tokenizer"):
        Grammar.regex("a", GrammarTokenizer(save(engine, "<s>", "</s>"), 3))


def test_without_the_package_the_extra_is_named(byte_level, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(MissingExtra, match=r"edgesdk\[structured\]"):
        Grammar.regex("a", GrammarTokenizer(byte_level, 400))


@pytest.fixture(params=["tiny", pytest.param("real", marks=pytest.mark.real)])
def checkpoint_tokenizer(request, tmp_path):
    from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint

    tiny = Path(__file__).parents[2] / "data" / "tiny" / "llama"  # all tiny checkpoints share its tokenizer
    source = tiny if request.param == "tiny" else request.getfixturevalue("smollm2_gguf")
    files = open_checkpoint(str(source)).tokenizer
    (tmp_path / "tokenizer.json").write_text(files.tokenizer_json, "utf-8")
    return Tokenizer(tmp_path / "tokenizer.json", files.record)


def test_tokenizers_of_checkpoints(checkpoint_tokenizer):
    tokenizer = checkpoint_tokenizer
    grammars = GrammarTokenizer(tokenizer, tokenizer.engine.get_vocab_size())
    schema = {"type": "object", "properties": {"ein Wörtchen": PERSON}, "required": ["ein Wörtchen"]}
    schema["additionalProperties"] = False
    for seed in range(5):
        tokens, ended = draw(Grammar.json_schema(schema, grammars), tokenizer, seed)
        assert ended
        assert set(json.loads(tokenizer.decode(tokens))["ein Wörtchen"]) == {"name", "age"}
    # What is forced is written with the tokens that the tokenizer itself would use.
    text = json.dumps({"the capital of France": ["Paris", 2]})
    state = Grammar.json_schema({"const": json.loads(text)}, grammars).start()
    first = tokenizer.encode(text, add_bos=False)[0]
    assert [first, *state.advance(first)] == tokenizer.encode(text, add_bos=False)
