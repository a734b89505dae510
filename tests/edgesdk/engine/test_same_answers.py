"""Whoever asks, `Model`, `Engine` or `Session`: the same answer in every field but its times."""

import dataclasses
import math
from pathlib import Path

import pytest

import edgesdk
from edgesdk.engine.engine import Engine
from edgesdk.errors import ToolCallError
from edgesdk_converters.convert import ConvertOptions, convert

TINY = Path(__file__).parents[2] / "data" / "tiny"
TIMES = ("ttft_ms", "prefill_tokens_per_s", "decode_tokens_per_s")
HOT = {"temperature": 1.5, "seed": 3, "max_tokens": 30, "ignore_eos": True}
NAMES = {
    "type": "object",
    "properties": {"name": {"enum": ["fox", "dog"]}, "of": {"const": "the field"}},
    "required": ["name", "of"],
    "additionalProperties": False,
}
PLAIN = {
    "greedy": {"max_tokens": 12},
    "one token": {"max_tokens": 1},
    "to the context's end": {"max_tokens": None, "ignore_eos": True},
    "beyond the context's end": {"max_tokens": 10_000, "ignore_eos": True},
    "sampled": HOT,
    "top-k": HOT | {"top_k": 5},
    "top-p": HOT | {"top_p": 0.7},
    "min-p": HOT | {"min_p": 0.2},
    "typical": HOT | {"typical_p": 0.5},
    "penalties": HOT | {"repetition_penalty": 1.3, "presence_penalty": 0.5, "frequency_penalty": 0.3},
    "banned tokens": {"max_tokens": 20, "logit_bias": dict.fromkeys(range(2, 60), -math.inf)},
    "wanted token": {"max_tokens": 20, "logit_bias": {70: 4.0}},
    "logprobs of what was chosen": HOT | {"logprobs": 0},
    "logprobs": {"max_tokens": 9, "logprobs": 3},
}
CONSTRAINED = {
    "schema": {"json_schema": NAMES},
    "any document": {"json_schema": True, "max_tokens": 25, "temperature": 1.0, "seed": 2},
    "choices": {"regex": "(fox|dog)"},
    "expression": {"regex": "[a-c]{3,9}", "temperature": 1.0, "seed": 1},
    "grammar": {"lark": 'start: "<" /[ab]{1,4}/ ">"'},
    "grammar with logprobs": {"json_schema": NAMES, "logprobs": 2},
    "grammar and stop string": {"json_schema": NAMES, "stop": ["name"]},
    "grammar whose last text is a stop string": {"regex": "abc", "stop": ["bc"]},
    "grammar with end tokens ignored": {"regex": "(fox|dog)", "ignore_eos": True},
    "an end token among forced ones": {"lark": 'start: "fox" <|end|> "dog" <|end|> "s"'},
    "an end token among forced ones, ignored": {
        "lark": 'start: "fox" <|end|> "dog" <|end|> "s"',
        "ignore_eos": True,
    },
    "an end token among forced ones, with logprobs": {
        "lark": 'start: /[fd]/ "ox" <|end|> "s"',
        "logprobs": 1,
    },
    "ending with an end token": {"lark": 'start: "fox" <|end|>'},
}


def fields(completion):
    return {name: value for name, value in dataclasses.asdict(completion).items() if name not in TIMES}


def ask(engine, prompt, **options):
    """What all three answer, which must be one."""
    model = engine.model
    found = fields(model.generate(prompt, **options))
    assert fields(engine.generate(prompt, **options)) == found
    with engine.session() as session:
        assert fields(session.generate(prompt, **options)) == found
    for stream in (model.stream(prompt, **options), engine.stream(prompt, **options)):
        chunks = list(stream)
        assert "".join(chunk.text for chunk in chunks) == found["text"]
        assert fields(chunks[-1].completion) == found
    return found


@pytest.fixture
def engine(make_engine):
    return make_engine()


@pytest.fixture
def prompt(prompts):
    return prompts(1, 14)[0]


@pytest.mark.parametrize("options", PLAIN.values(), ids=PLAIN)
def test_plain_answers(engine, prompt, options):
    found = ask(engine, prompt, **options)
    if found["finish_reason"] == "length":
        room = engine.model.context - len(prompt) + 1
        assert found["new_tokens"] == min(room, options["max_tokens"] or room)


def test_an_end_token(make_engine, byte_level):
    prompt = byte_level.encode("The fox")
    script = [*prompt, *byte_level.encode(" jumps"), byte_level.record.eos_ids[0]]
    engine = make_engine(script=script)
    answer = ask(engine, prompt)
    assert (answer["text"], answer["finish_reason"]) == (" jumps", "stop")
    for limit in range(1, answer["new_tokens"] + 2):
        cut = ask(engine, prompt, max_tokens=limit)
        assert cut["finish_reason"] == ("length" if limit < answer["new_tokens"] else "stop")


@pytest.mark.parametrize("stop", [["fox"], ["ox j", "zzz"], [" 😀 ov"], ["he lazy dog!"], ["r the"]])
def test_stop_strings_at_every_limit(make_engine, byte_level, stop):
    """Also those that the limit falls into, or that begin and never come."""
    prompt = byte_level.encode("Once")
    script = [*prompt, *byte_level.encode("The fox jumps 😀 over the lazy dog"), byte_level.record.eos_ids[0]]
    engine = make_engine(script=script)
    whole = ask(engine, prompt, stop=stop)
    for limit in range(1, whole["new_tokens"] + 1):
        assert ask(engine, prompt, stop=stop, max_tokens=limit)["new_tokens"] == limit


@pytest.mark.parametrize("options", CONSTRAINED.values(), ids=CONSTRAINED)
def test_constrained_answers_at_every_limit(engine, prompt, options):
    pytest.importorskip("llguidance")
    whole = ask(engine, prompt, **options)
    count = whole["new_tokens"]
    for limit in sorted({*range(1, min(6, count)), *range(max(1, count - 3), count + 2)}):
        asked = options | {"max_tokens": min(limit, options.get("max_tokens", limit))}
        found = ask(engine, prompt, **asked)
        # The limit is no reason to end what ends there anyway.
        assert found["finish_reason"] == (whole["finish_reason"] if limit >= count else "length")
        assert found["tokens"] == whole["tokens"][:limit]


def test_an_end_token_ends_an_answer_whether_it_was_chosen_or_forced(engine, prompt, byte_level):
    pytest.importorskip("llguidance")
    end = byte_level.record.eos_ids[0]
    found = ask(engine, prompt, lark='start: "fox" <|end|> "dog"')
    assert (found["text"], found["finish_reason"], found["tokens"][-1]) == ("fox", "stop", end)
    assert found["tokens"].count(end) == 1
    on = ask(engine, prompt, lark='start: "fox" <|end|> "dog"', ignore_eos=True)
    assert (on["text"], on["finish_reason"]) == ("foxdog", "stop")


def test_the_end_of_the_context_within_a_grammar(make_engine, prompts):
    pytest.importorskip("llguidance")
    engine = make_engine(context=96)
    whole = ask(engine, prompts(1, 14)[0], json_schema=NAMES)
    for over in range(-1, 3):
        (prompt,) = prompts(1, 96 + 1 - whole["new_tokens"] + over)
        found = ask(engine, prompt, json_schema=NAMES)
        assert found["new_tokens"] <= 96 + 1 - len(prompt)


def test_an_answer_that_never_began(make_engine, prompt):
    """Cancelled before the first token; what was asked for is there, and empty."""
    engine = make_engine()
    alone = engine.model.generate(prompt, logprobs=1, cancelled=lambda: True)
    asked = engine.submit(prompt, logprobs=1, deadline_s=1e-9)
    found = asked.result(20)
    assert (found.finish_reason, alone.finish_reason) == ("deadline", "cancelled")
    assert fields(dataclasses.replace(found, finish_reason="cancelled")) == fields(alone)
    assert alone.logprobs == ()


HERMES = (
    "{% for m in messages %}<|start|>{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if tools %}<tool_call></tool_call>{{ tools[0].function.name }}{% endif %}{{ closing }}"
    "<|start|>assistant: "
)
ZONE = {"type": "object", "properties": {"zone": {"enum": ["CET", "UTC"]}}, "additionalProperties": False}
CLOCK = {"name": "clock", "parameters": ZONE}
CONVERSATIONS = {
    "plain": {},
    "variables": {"template_variables": {"closing": "!"}},
    "tools that are not called": {"tools": [CLOCK]},
    "no tool": {"tools": [CLOCK], "tool_choice": "none"},
    "a required call": {"tools": [CLOCK], "tool_choice": "required", "max_tokens": 150},
    "a call of one": {"tools": [CLOCK], "tool_choice": {"name": "clock"}, "max_tokens": 150, "logprobs": 1},
    "a call in a thought": {
        "tools": [CLOCK],
        "tool_choice": "required",
        "template_variables": {"closing": "<think>"},
        "max_tokens": 170,
        "temperature": 1.0,
        "seed": 4,
    },
    "a schema": {"json_schema": NAMES},
}


@pytest.mark.parametrize("options", CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_conversations(make_engine, use_template, options):
    pytest.importorskip("llguidance")
    pytest.importorskip("jsonschema")
    use_template(HERMES)
    engine = make_engine(context=256)
    options = {"max_tokens": 40} | options
    messages = [{"role": "user", "content": "The fox?"}]

    def outcome(call):
        try:
            return fields(call())
        except ToolCallError as error:
            return str(error), error.answer

    found = outcome(lambda: engine.model.chat(messages, **options))
    assert outcome(lambda: engine.chat(messages, **options)) == found
    with engine.session() as session:
        assert outcome(lambda: session.generate(messages=messages, **options)) == found
    streams = (
        engine.model.chat_stream(messages, **options),
        engine.stream(messages=messages, **options),
    )
    for stream in streams:
        pieces = []
        last = outcome(lambda stream=stream, pieces=pieces: _read(stream, pieces))
        assert last == found
        # A call that cannot be made is raised after all of its text.
        assert "".join(pieces) == (found["text"] if isinstance(found, dict) else found[1])


def _read(stream, pieces):
    completion = None
    for chunk in stream:
        pieces.append(chunk.text)
        completion = chunk.completion
    return completion


@pytest.fixture(scope="module", params=["litert", "onnxruntime-step"])
def real(request, tmp_path_factory):
    """An engine over a tiny model, float32, as executed."""
    target = {"litert": "litert", "onnxruntime-step": "onnx-step"}[request.param]
    options = ConvertOptions(targets=(target,), recipes=("f32",), context=128, prove=False)
    bundle = convert(str(TINY / "llama"), tmp_path_factory.mktemp("bundle") / "b", options)
    with (
        edgesdk.load(bundle, backend=request.param, strict=True, threads=1) as model,
        Engine(model, token_budget=16, prefix_cache_mb=0) as engine,
    ):
        yield engine


@pytest.mark.parametrize(
    "options",
    [*PLAIN.values(), {"stop": ["e", "a"], "max_tokens": 20}],
    ids=[*PLAIN, "stop strings"],
)
def test_tiny_models_answer_alike(real, options):
    ask(real, list(range(3, 17)), **options)


@pytest.mark.parametrize(
    "options",
    [
        {"json_schema": NAMES},
        {"json_schema": NAMES, "logprobs": 2, "temperature": 1.0, "seed": 5},
        {"regex": "(fox|dog)"},
    ],
    ids=["schema", "sampled, with logprobs", "choices"],
)
def test_tiny_models_answer_alike_within_grammars(real, options):
    pytest.importorskip("llguidance")
    whole = ask(real, list(range(3, 17)), **options)
    for limit in (1, whole["new_tokens"] - 1, whole["new_tokens"]):
        ask(real, list(range(3, 17)), max_tokens=limit, **options)
