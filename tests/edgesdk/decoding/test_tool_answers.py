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
from edgesdk.text.call_forms import CALL_FORMS
from edgesdk.text.chat_template import ChatTemplate

pytest.importorskip("llguidance")
pytest.importorskip("jsonschema")

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
    {"name": "stop-now", "parameters": NOTHING},
]
JSON_FORMS = ["hermes", "llama3", "mistral", "phi4", "granite", "nemotron"]
UNQUOTED = ["qwen-xml", "minicpm5", "lfm2", "pythonic", "tool-code", "gemma4", "function-gemma"]
MARKS = [
    *("[TOOL_CALLS]", "[ARGS]", "<tool_call>", "</tool_call>", "<|python_tag|>", "<|tool_call|>"),
    *("<|/tool_call|>", "<|tool_call_start|>", "<|tool_call_end|>", "<|tool_call>", "<tool_call|>", '<|"|>'),
    *("<start_function_call>", "<end_function_call>", "<escape>", "<|channel|>", "<|constrain|>"),
    *("<|message|>", "<think>", "</think>", "<function", "</function>", "<param", "</param>"),
]
CLOSING = ("\n</parameter>\n", "</think>", '"', "</param>", "]]>")
WHOLE = {
    "hermes": '<tool_call>\n{"name": "move_to", "arguments": {"x": 1}}\n</tool_call>',
    "llama3": '{"name": "move_to", "parameters": {"x": 1}}',
    "mistral": '[TOOL_CALLS][{"name": "move_to", "arguments": {"x": 1}}]',
    "mistral-args": '[TOOL_CALLS]move_to[ARGS]{"x": 1}',
    "qwen-xml": "<tool_call>\n<function=move_to>\n<parameter=x>\n1\n</parameter>\n</function>\n</tool_call>",
    "minicpm5": '<function name="move_to"><param name="x">1</param></function>',
    "lfm2": "<|tool_call_start|>[move_to(x=1)]<|tool_call_end|>",
    "gemma4": "<|tool_call>call:move_to{x:1}<tool_call|>",
}


@pytest.fixture(params=[False, True], ids=["text", "special"])
def marked(request, byte_level, save):
    """A tokenizer without and with the marks of calls as special tokens."""
    if not request.param:
        return byte_level
    engine = Engine.from_str(byte_level.engine.to_str())
    engine.add_special_tokens([AddedToken(mark, special=True) for mark in MARKS])
    return save(engine, "<|start|>", "<|end|>")


@pytest.fixture
def make_answers(tool_templates, marked):
    def make(form, tools=TOOLS, choice="required"):
        return ToolAnswers(ChatTemplate(tool_templates[form]), marked, tools, choice)

    return make


def completion(tokenizer, tokens):
    text = tokenizer.decode(tokens)
    return Completion(text, tuple(tokens), "stop", 1, len(tokens), 1.0, 1.0, None)


def draw(tokenizer, answers, seed, prompt=()):
    """An answer that random logits and the grammar of a required call make."""
    V = tokenizer.engine.get_vocab_size()
    random = np.random.default_rng(seed)
    options = answers.prepare(GenerationOptions(temperature=1.0, seed=seed), prompt)
    chooser = Chooser(
        options, GenerationDefaults(), V, grammar=Grammar.of(options, GrammarTokenizer(tokenizer, V))
    )
    closing = [token for mark in CLOSING for token in tokenizer.encode(mark)]
    tokens, finished, steps = [], False, 0
    while not finished:
        logits = random.normal(size=V).astype(np.float32)
        if steps > 30:  # letters drawn at random would rarely spell the mark that ends a text
            logits[closing[steps % len(closing)]] += 50
        steps += 1
        choice = chooser.choose(logits)
        tokens += [choice.token, *choice.forced]
        finished = choice.finished
        assert len(tokens) < 3000
    return tokens


def drawn_call(tokenizer, answers, seed):
    (call,) = answers.read(completion(tokenizer, draw(tokenizer, answers, seed))).tool_calls
    return call


@pytest.mark.parametrize("form", CALL_FORMS)
def test_a_required_call_is_always_valid(marked, make_answers, form):
    names = set()
    for seed in range(12):
        call = drawn_call(marked, make_answers(form), seed)
        names.add(call.name)
        if call.name == "move_to":
            assert 0 <= call.arguments["x"] <= 9
        else:
            assert call.arguments == {}
    assert names == {"move_to", "stop-now"}


@pytest.mark.parametrize("form", JSON_FORMS)
def test_a_name_may_be_any_text_where_it_is_json(marked, make_answers, form):
    answers = make_answers(form, [{"name": 'odd "name"', "parameters": NOTHING}])
    assert drawn_call(marked, answers, 0).name == 'odd "name"'


@pytest.mark.parametrize("form", UNQUOTED)
def test_a_name_that_a_form_cannot_write_is_refused(make_answers, form):
    answers = make_answers(form, [{"name": 'odd "name"', "parameters": NOTHING}])
    with pytest.raises(UnsupportedOption, match="no way to write the name 'odd"):
        answers.prepare(GenerationOptions(), ())


@pytest.mark.parametrize("form", CALL_FORMS)
@pytest.mark.parametrize(
    "choice", [{"type": "function", "function": {"name": "stop-now"}}, {"name": "stop-now"}]
)
def test_a_choice_of_one_function(marked, make_answers, form, choice):
    for seed in range(3):
        call = drawn_call(marked, make_answers(form, choice=choice), seed)
        assert (call.name, call.arguments) == ("stop-now", {})


MIXED = {
    "type": "object",
    "properties": {
        "far": {"type": "boolean"},
        "colour": {"enum": ["red", "blue"]},
        "count": {"type": "integer", "minimum": 1, "maximum": 3},
        "note": {"type": ["string", "null"], "description": "any text"},
        "share": {"type": "number", "minimum": 0, "maximum": 1},
    },
    "required": ["count", "colour"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("form", UNQUOTED)
def test_forms_without_json_hold_each_argument_to_its_schema(marked, make_answers, form):
    seen = set()
    for seed in range(8):
        call = drawn_call(marked, make_answers(form, [{"name": "paint", "parameters": MIXED}]), seed)
        seen |= call.arguments.keys()
        assert call.arguments["count"] in (1, 2, 3)
        assert call.arguments["colour"] in ("red", "blue")
    assert set(MIXED["required"]) < seen  # and some of the others


@pytest.mark.parametrize("form", UNQUOTED)
def test_arguments_that_may_all_be_left_out(marked, make_answers, form):
    tool = {"name": "paint", "parameters": {**MIXED, "required": []}}
    seen = {tuple(drawn_call(marked, make_answers(form, [tool]), seed).arguments) for seed in range(8)}
    assert len(seen) > 2


@pytest.mark.parametrize("form", ["qwen-xml", "minicpm5"])
def test_tags_hold_nested_values_to_their_schema(marked, make_answers, form):
    schema = {
        "type": "object",
        "properties": {"path": {"type": "array", "items": {"$ref": "#/$defs/p"}, "maxItems": 2}},
        "required": ["path"],
        "additionalProperties": False,
        "$defs": {"p": {"enum": [[1, 2], [3, 4]]}},
    }
    for seed in range(4):
        call = drawn_call(marked, make_answers(form, [{"name": "walk", "parameters": schema}]), seed)
        assert all(point in ([1, 2], [3, 4]) for point in call.arguments["path"])


@pytest.mark.parametrize(
    ("form", "part", "message"),
    [
        ("qwen-xml", {"type": "string", "minLength": 2}, "'minLength' of a text cannot be enforced"),
        ("qwen-xml", {"type": ["string", "integer"]}, "may be integer or string, which look alike"),
        ("lfm2", {"type": "array"}, "array values cannot be held"),
        ("gemma4", {"type": "object"}, "object values cannot be held"),
    ],
)
def test_what_a_form_cannot_hold_to_a_schema_is_refused_by_name(make_answers, form, part, message):
    tool = {"name": "f", "parameters": {"type": "object", "properties": {"x": part}}}
    answers = make_answers(form, [tool])
    with pytest.raises(UnsupportedOption, match=f"the argument 'x' of the tool f .*{message}"):
        answers.prepare(GenerationOptions(), ())


def test_what_the_schema_of_a_tool_cannot_enforce_is_refused(make_answers):
    tool = {"name": "f", "parameters": {"type": "object", "dependentRequired": {"a": ["b"]}}}
    for form in ("hermes", "qwen-xml"):
        with pytest.raises(UnsupportedOption, match="'dependentRequired'"):
            make_answers(form, [tool]).prepare(GenerationOptions(), ())


@pytest.mark.parametrize("form", ["hermes", "qwen-xml"])
def test_a_thought_that_the_prompt_begins_comes_before_a_required_call(marked, make_answers, form):
    prompt = marked.encode("assistant\n<think>\n")
    answers = make_answers(form)
    tokens = draw(marked, answers, 0, prompt)
    assert "</think>" in marked.decode(tokens, skip_special=False)
    assert len(answers.read(completion(marked, tokens)).tool_calls) == 1


def test_a_call_that_is_only_thought_of_is_none(marked, make_answers):
    answers = make_answers("hermes", choice="auto")
    assert answers.prepare(GenerationOptions(), marked.encode("<think>\n")) == GenerationOptions()
    drafted = f"I may write {WHOLE['hermes']} or not.</think>No."
    assert answers.read(completion(marked, marked.encode(drafted))).tool_calls == ()


def test_tools_are_refused_before_anything_is_generated(make_answers):
    with pytest.raises(UnsupportedOption, match="unknown reference"):
        make_answers("hermes", [{"name": "f", "parameters": {"$ref": "#/no"}}], "auto")
    with pytest.raises(
        UnsupportedOption, match="tool_choice names 'other', expected one of move_to, stop-now"
    ):
        make_answers("hermes", choice={"name": "other"})


def test_without_tools_there_is_nothing_to_read(byte_level, tool_templates):
    template = ChatTemplate(tool_templates["hermes"])
    assert ToolAnswers.of(template, byte_level, None, "auto") is None
    assert ToolAnswers.of(None, byte_level, [], "none") is None
    assert ToolAnswers.of(template, byte_level, TOOLS, "none") is None
    with pytest.raises(UnsupportedOption, match="but there are no tools"):
        ToolAnswers.of(template, byte_level, None, "required")
    with pytest.raises(UnsupportedOption, match="tool_choice names 'f', but there are no tools"):
        ToolAnswers.of(template, byte_level, [], {"name": "f"})
    with pytest.raises(UnsupportedOption, match="no chat template"):
        ToolAnswers.of(None, byte_level, TOOLS, "auto")


@pytest.mark.parametrize("form", WHOLE)
def test_a_required_call_that_was_cut_is_an_error_wherever_the_cut_is(marked, make_answers, form):
    free = make_answers(form, choice="auto")
    assert free.read(completion(marked, marked.encode("No."))).tool_calls == ()
    answers = make_answers(form)
    tokens = marked.encode(WHOLE[form])
    assert len(answers.read(completion(marked, tokens)).tool_calls) == 1
    for length in range(1, len(tokens)):
        if "</function>" in marked.decode(tokens[:length], skip_special=False):
            continue  # whole: Qwen's models leave the mark after it out at times
        with pytest.raises(ToolCallError):
            answers.read(completion(marked, tokens[:length]))


def test_the_end_token_is_no_part_of_a_call(byte_level, tool_templates):
    answers = ToolAnswers(ChatTemplate(tool_templates["llama3"]), byte_level, TOOLS)
    text = '{"name": "move_to", "parameters": {"x": 1}}'
    tokens = [*byte_level.encode(text), *byte_level.record.eos_ids]
    assert answers.read(completion(byte_level, tokens)).tool_calls[0].arguments == {"x": 1}
    with pytest.raises(ToolCallError, match="'x' is a required"):
        answers.read(completion(byte_level, byte_level.encode(text.replace('"x"', '"y"'))))
