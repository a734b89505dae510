"""Required calls in each form: whatever the logits say, the answer is one call that satisfies its schema."""

import numpy as np
import pytest
from tokenizers import AddedToken
from tokenizers import Tokenizer as Engine

from edgesdk.bundle.manifest import GenerationDefaults
from edgesdk.decoding.choose import Chooser
from edgesdk.decoding.completion import Completion
from edgesdk.decoding.grammar import Grammar, GrammarTokenizer
from edgesdk.decoding.options import GenerationOptions
from edgesdk.decoding.tool_answers import ToolAnswers
from edgesdk.errors import ToolCallError, UnsupportedOption
from edgesdk.text.chat_template import ChatTemplate

pytest.importorskip("llguidance")
pytest.importorskip("jsonschema")

TEMPLATES = {
    "hermes": "{{ tools }}<tool_call>",
    "llama3": "{{ tools }}<|python_tag|>",
    "mistral": "{{ tools }}[TOOL_CALLS]",
}
POINT = {
    "$defs": {"n": {"type": "integer", "minimum": 0, "maximum": 9}},
    "type": "object",
    "properties": {"x": {"$ref": "#/$defs/n"}, "y": {"$ref": "#/$defs/n"}},
    "required": ["x"],
    "additionalProperties": False,
}
NOTHING = {"type": "object", "additionalProperties": False}
TOOLS = [
    {"type": "function", "function": {"name": "move_to", "parameters": POINT}},
    {"name": 'odd "name"', "parameters": NOTHING},
]


@pytest.fixture(params=[False, True], ids=["text", "special"])
def marked(request, byte_level, save):
    """A tokenizer without and with the mark of Mistral's calls as a special token."""
    if not request.param:
        return byte_level
    engine = Engine.from_str(byte_level.engine.to_str())
    engine.add_special_tokens([AddedToken("[TOOL_CALLS]", special=True)])
    return save(engine, "<|start|>", "<|end|>")


def completion(tokenizer, tokens):
    text = tokenizer.decode(tokens)
    return Completion(text, tuple(tokens), "stop", 1, len(tokens), 1.0, 1.0, None)


@pytest.mark.parametrize("form", TEMPLATES)
def test_a_required_call_is_always_valid(marked, form):
    answers = ToolAnswers(ChatTemplate(TEMPLATES[form]), marked, TOOLS)
    V = marked.engine.get_vocab_size()
    grammars = GrammarTokenizer(marked, V)
    random = np.random.default_rng(0)
    names = set()
    for seed in range(12):
        options = answers.require(GenerationOptions(temperature=1.0, seed=seed))
        chooser = Chooser(options, GenerationDefaults(), V, grammar=Grammar.of(options, grammars))
        tokens, finished = [], False
        while not finished:
            choice = chooser.choose(random.normal(size=V).astype(np.float32))
            tokens += [choice.token, *choice.forced]
            finished = choice.finished
            assert len(tokens) < 200
        (call,) = answers.read(completion(marked, tokens)).tool_calls
        names.add(call.name)
        if call.name == "move_to":
            assert 0 <= call.arguments["x"] <= 9
        else:
            assert call.arguments == {}
    assert names == {"move_to", 'odd "name"'}


def test_what_the_schema_of_a_tool_cannot_enforce_is_refused(byte_level):
    tool = {"name": "f", "parameters": {"type": "object", "dependentRequired": {"a": ["b"]}}}
    answers = ToolAnswers(ChatTemplate(TEMPLATES["hermes"]), byte_level, [tool])
    with pytest.raises(UnsupportedOption, match="'dependentRequired'"):
        answers.require(GenerationOptions())


@pytest.mark.parametrize("form", TEMPLATES)
def test_a_required_call_that_was_cut_is_an_error_wherever_the_cut_is(byte_level, form):
    answers = ToolAnswers(ChatTemplate(TEMPLATES[form]), byte_level, TOOLS)
    assert answers.read(completion(byte_level, byte_level.encode("No."))).tool_calls == ()
    answers.require(GenerationOptions())
    whole = {
        "hermes": '<tool_call>\n{"name": "move_to", "arguments": {"x": 1}}\n</tool_call>',
        "llama3": '{"name": "move_to", "parameters": {"x": 1}}',
        "mistral": '[TOOL_CALLS][{"name": "move_to", "arguments": {"x": 1}}]',
    }[form]
    tokens = byte_level.encode(whole)
    assert len(answers.read(completion(byte_level, tokens)).tool_calls) == 1
    for length in range(1, len(tokens)):
        with pytest.raises(ToolCallError):
            answers.read(completion(byte_level, tokens[:length]))


def test_the_end_token_is_no_part_of_a_call(byte_level):
    answers = ToolAnswers(ChatTemplate(TEMPLATES["llama3"]), byte_level, TOOLS)
    text = '{"name": "move_to", "parameters": {"x": 1}}'
    tokens = [*byte_level.encode(text), *byte_level.record.eos_ids]
    assert answers.read(completion(byte_level, tokens)).tool_calls[0].arguments == {"x": 1}
    with pytest.raises(ToolCallError, match="'x' is a required"):
        answers.read(completion(byte_level, byte_level.encode(text.replace('"x"', '"y"'))))
