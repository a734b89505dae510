"""Grammars, log-probabilities and tool calls in requests that share their steps with others."""

import json
import math

import pytest

from edgesdk.decoding import compile_apart
from edgesdk.engine.engine import Engine
from edgesdk.errors import ToolCallError, UnsupportedOption

TOOLS = [
    {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"a": {"enum": [1, 2]}, "b": {"enum": [3]}},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    }
]
MESSAGES = [{"role": "user", "content": "The fox?"}]
HERMES = (
    "{% for m in messages %}<|start|>{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if tools %}<tool_call></tool_call>{{ tools[0].function.name }}{% endif %}{{ closing }}"
    "<|start|>assistant: "
)


def test_constrained_and_free_requests_share_steps(make_engine, prompts, greedy):
    pytest.importorskip("llguidance")
    engine = make_engine()
    first, second = prompts(2, 10)
    free = engine.submit(first, max_tokens=20, ignore_eos=True)
    schema = {"type": "object", "properties": {"n": {"enum": [12, 345]}}, "required": ["n"]}
    schema["additionalProperties"] = False
    bound = engine.submit(second, json_schema=schema, max_tokens=40, temperature=1.0, seed=1, n=2)
    assert free.result(30).tokens == greedy(first, 20)
    for answer in bound.results(30):
        assert json.loads(answer.text)["n"] in (12, 345)
        assert answer.finish_reason == "stop"
    # What the grammar forces is run as one piece, without a step of its own.
    engine.check()
    assert engine.metrics.chosen_tokens > engine.metrics.steps
    with pytest.raises(UnsupportedOption):
        engine.submit(first, regex="(")


def test_log_probabilities(make_engine, prompts):
    engine = make_engine()
    (prompt,) = prompts(1, 10)
    answer = engine.generate(prompt, max_tokens=4, logprobs=2, ignore_eos=True)
    assert [entry.token for entry in answer.logprobs] == list(answer.tokens)
    for entry in answer.logprobs:
        assert math.exp(entry.logprob) <= 1
        assert len(entry.top) == 2
        assert entry.top[0] == (entry.token, entry.logprob)  # greedy takes the likeliest
    assert engine.generate(prompt, max_tokens=4).logprobs is None


def test_required_tool_calls(make_engine, use_template):
    pytest.importorskip("llguidance")
    use_template(HERMES)
    engine = make_engine(context=256)
    answer = engine.chat(MESSAGES, tools=TOOLS, tool_choice="required", max_tokens=160)
    (call,) = answer.tool_calls
    assert (call.name, call.arguments["b"]) == ("add", 3)
    *_, last = engine.stream(messages=MESSAGES, tools=TOOLS, tool_choice="required", max_tokens=160)
    assert last.completion.tool_calls == answer.tool_calls
    named = {"type": "function", "function": {"name": "add"}}
    assert engine.chat(MESSAGES, tools=TOOLS, tool_choice=named, max_tokens=160).tool_calls[0].name == "add"
    cut = engine.submit(messages=MESSAGES, tools=TOOLS, tool_choice="required", max_tokens=40)
    with pytest.raises(ToolCallError):
        cut.result(20)
    with pytest.raises(ToolCallError):
        list(cut)


def test_tools_that_cannot_be_used_are_refused(make_engine, use_template):
    engine = make_engine()
    with pytest.raises(UnsupportedOption, match="no place for tools"):
        engine.chat(MESSAGES, tools=TOOLS)
    with pytest.raises(UnsupportedOption, match="there are no tools"):
        engine.chat(MESSAGES, tool_choice="required")
    with pytest.raises(UnsupportedOption, match="tools go with messages"):
        engine.session().generate("x", tools=TOOLS)
    with pytest.raises(UnsupportedOption, match="tools go with messages"):
        engine.submit("x", tools=TOOLS)


def test_variables_of_the_template_go_with_messages(make_engine, use_template):
    use_template(HERMES)
    engine = make_engine()
    closing = {"template_variables": {"closing": "<think>"}}
    plain, changed = (engine.submit(messages=MESSAGES, max_tokens=1, **asked) for asked in ({}, closing))
    assert changed.result(20).prompt_tokens > plain.result(20).prompt_tokens
    with pytest.raises(UnsupportedOption, match="reads no variable 'opening'; it reads: closing"):
        engine.chat(MESSAGES, template_variables={"opening": 1})
    with pytest.raises(UnsupportedOption, match="go with messages"):
        engine.submit("x", **closing)
    with pytest.raises(UnsupportedOption, match="go with messages"):
        engine.session().generate("x", **closing)


def test_grammars_of_strangers_are_compiled_apart(fake_runtime, monkeypatch):
    """A compiler that ends its process, which the child's code stands for here, refuses one request."""
    pytest.importorskip("llguidance")
    monkeypatch.delenv(compile_apart.SWITCH, raising=False)
    bundle = fake_runtime()
    with Engine(bundle, token_budget=8, isolate_grammars=True) as engine:
        assert engine.generate("a", regex="[ab]", max_tokens=4).text in ("a", "b")
        monkeypatch.setattr(compile_apart, "_CHILD", "import os; os.abort()")
        with pytest.raises(UnsupportedOption, match="ended the process that compiled it"):
            engine.submit("a", regex="[cd]")
        assert engine.generate("a", regex="[ab]", max_tokens=4).text in ("a", "b")  # compiled before
    with Engine(bundle, token_budget=8) as engine:
        assert engine.generate("a", regex="[cd]", max_tokens=4).text in ("c", "d")
    monkeypatch.setenv(compile_apart.SWITCH, "1")
    with Engine(bundle, token_budget=8, isolate_grammars=False) as engine:
        assert engine.generate("a", regex="[cd]", max_tokens=4).text in ("c", "d")
    with (
        Engine(bundle, token_budget=8) as engine,
        pytest.raises(UnsupportedOption, match="ended the process"),
    ):
        engine.submit("a", regex="[cd]")


LOOP = (
    "{% for t in tools or [] %}{{ t.function.name }}{% endfor %}"
    "{% if tools %}<tool_call></tool_call>{% endif %}"
    "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}"
    '<tool_call>{"name": "{{ c.function.name }}", '
    '"arguments": {{ c.function.arguments | tojson }}}</tool_call>'
    "{% endfor %}\n{% endfor %}<|start|>assistant: "
)


def test_a_loop_of_calls(make_engine, use_template):
    """The loop of docs/structured_output.md: calls are made by the caller, and their results go back."""
    pytest.importorskip("llguidance")
    use_template(LOOP)
    engine = make_engine(context=256)
    functions = {"add": lambda a, b: a + b}
    messages, made = [*MESSAGES], []
    for turn in range(3):
        # A model without training calls only where it has to.
        choice = "required" if turn < 2 else "none"
        answer = engine.chat(messages, tools=TOOLS, tool_choice=choice, max_tokens=70)
        if not answer.tool_calls:
            break
        messages.append(
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {
                        "id": f"call_{turn}_{place}",
                        "type": "function",
                        "function": {"name": call.name, "arguments": call.arguments},
                    }
                    for place, call in enumerate(answer.tool_calls)
                ],
            }
        )
        for place, call in enumerate(answer.tool_calls):
            made.append(functions[call.name](**call.arguments))
            result = {"role": "tool", "tool_call_id": f"call_{turn}_{place}", "content": str(made[-1])}
            messages.append(result)
    assert len(made) == 2
    assert set(made) <= {4, 5}
    assert answer.finish_reason in ("stop", "length")
    assert answer.prompt_tokens > len(str(made))
    engine.check()
