"""The whole runtime over the fake backend: bundle, tokenizer, template, cells, loop, text."""

import dataclasses
import json
import threading
import typing

import numpy as np
import pytest

from edgesdk.backends.fake import FakeStepBackend
from edgesdk.bundle.manifest import (
    SCHEMA_VERSION,
    GenerationDefaults,
    Manifest,
    Source,
    StepShape,
    Variant,
)
from edgesdk.bundle.reader import open_bundle
from edgesdk.bundle.uniform_decoder import LayerSpec, UniformDecoder
from edgesdk.bundle.writer import BundleWriter
from edgesdk.devices.receipt import Receipt
from edgesdk.errors import CapacityError, DeviceError, EdgeError, ToolCallError, UnsupportedOption
from edgesdk.kv.step_model import StepModel
from edgesdk.model import Model
from edgesdk.text.tool_calls import ToolCall

TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if tools %}{{ tools | tojson }}{% endif %}{{ closing }}"
    "{% if add_generation_prompt %}<|start|>assistant: {% endif %}"
)
QUESTION = "The fox?"
ANSWER = "The quick brown fox 😀 jumps."
STEPS = tuple(StepShape(T, S, 1, f"t{T}_s{S}") for T in (1, 16) for S in (32, 128, 256))
RECEIPT = Receipt("tiny", "fake", "f32", "fake", "cpu", "fake", 1.0, 1, 0.0, None, "hashed")


@pytest.fixture
def make_bundle(byte_level, tmp_path):
    def make(template=TEMPLATE, generation=GenerationDefaults(), tool_template=None):  # noqa: B008 - frozen
        size = byte_level.engine.get_vocab_size()
        layers = (LayerSpec(None, None), LayerSpec(8, None))
        decoder = UniformDecoder("llama", size, 8, 8, 2, 1, 4, 256, layers, 1e-5, "silu", 1.0).spec()
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            name="tiny",
            licence=None,
            created_by="tests",
            source=Source("gguf", "tiny.gguf", ()),
            decoder=decoder,
            tokenizer=byte_level.record,
            generation=generation,
            variants=(
                Variant(
                    "fake",
                    "litert",
                    "f32",
                    ("cpu",),
                    "variants/fake/model.tflite",
                    128,
                    STEPS,
                    numbers="0" * 64,
                ),
            ),
            files={},
        )
        target = tmp_path / "bundle"
        with BundleWriter(target, overwrite=True) as writer:
            writer.path("tokenizer.json").write_text(byte_level.engine.to_str())
            writer.path("variants/fake/model.tflite").write_bytes(b"")
            if template is not None:
                writer.path("chat_template.jinja").write_text(template)
            if tool_template is not None:
                writer.path("chat_template.tool_use.jinja").write_text(tool_template)
            writer.finish(manifest)
        return open_bundle(target)

    return make


@pytest.fixture
def make_model(make_bundle, byte_level):
    """A model that answers any of `prompts` of one length with `ANSWER`, then an end token."""

    def make(prompt=QUESTION, answer=ANSWER, context=128, **options):
        bundle = make_bundle(**options)
        script = [*byte_level.encode(prompt), *byte_level.encode(answer), byte_level.record.eos_ids[0]]
        backend = FakeStepBackend(bundle.manifest.decoder, STEPS, script=script)
        return backend, Model(bundle, StepModel(backend, bundle.manifest.decoder, context), RECEIPT)

    return make


def test_a_prompt_is_answered(make_model, byte_level):
    _, model = make_model()
    completion = model.generate(QUESTION)
    assert completion.text == ANSWER
    assert completion.finish_reason == "stop"
    assert completion.prompt_tokens == len(model.tokenize(QUESTION))
    assert completion.tokens == (*byte_level.encode(ANSWER), byte_level.record.eos_ids[0])
    assert model.generate(model.tokenize(QUESTION)).tokens == completion.tokens
    assert model.generate(np.array(model.tokenize(QUESTION), np.int32)).tokens == completion.tokens
    assert model.receipt is RECEIPT
    assert model.context == 128


def test_the_stream_is_the_answer_in_pieces(make_model):
    _, model = make_model()
    chunks = list(model.stream(QUESTION))
    assert len(chunks) > 5
    assert "".join(chunk.text for chunk in chunks) == ANSWER
    assert [chunk.completion is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]


def test_a_conversation_goes_through_the_template(make_model):
    _, model = make_model(prompt=f"<|start|>user: {QUESTION}\n<|start|>assistant: ")
    messages = [{"role": "user", "content": QUESTION}]
    assert model.chat(messages).text == ANSWER
    assert "".join(chunk.text for chunk in model.chat_stream(messages)) == ANSWER
    assert model.render_prompt(QUESTION) == model.render_chat(messages)
    assert model.render_prompt(QUESTION, raw=True) == model.tokenize(QUESTION)
    with_tools = model.tokenizer.decode(model.render_chat(messages, tools=[{"name": "f"}]))
    assert '[{"type": "function", "function": {"name": "f", "parameters": ' in with_tools


def test_variables_of_the_template_are_set_by_name(make_model):
    _, model = make_model(prompt=f"<|start|>user: {QUESTION}\n!<|start|>assistant: ")
    messages, asked = [{"role": "user", "content": QUESTION}], {"template_variables": {"closing": "!"}}
    assert model.chat(messages, **asked).text == ANSWER
    assert "".join(chunk.text for chunk in model.chat_stream(messages, **asked)) == ANSWER
    assert model.render_prompt(QUESTION, **asked) == model.render_chat(messages, **asked)
    assert model.render_chat(messages, **asked) != model.render_chat(messages)
    with pytest.raises(UnsupportedOption, match="reads no variable 'opening'; it reads: closing"):
        model.chat(messages, template_variables={"opening": 1})
    with pytest.raises(UnsupportedOption, match="'messages' is set from"):
        model.chat_stream(messages, template_variables={"messages": []})
    with pytest.raises(UnsupportedOption, match="go with a chat template"):
        model.render_prompt(QUESTION, raw=True, **asked)


def test_a_bundle_may_have_a_template_of_its_own_for_tools(make_model, tool_templates):
    _, model = make_model(template="plain", tool_template=tool_templates["hermes"])
    messages = [{"role": "user", "content": QUESTION}]
    assert model.tokenizer.decode(model.render_chat(messages)) == "plain"
    assert '"name": "f"' in model.tokenizer.decode(model.render_chat(messages, tools=[{"name": "f"}]))


def test_a_model_without_template(make_model):
    _, model = make_model(template=None)
    assert model.render_prompt(QUESTION) == model.tokenize(QUESTION)
    for call in (model.chat, model.chat_stream):
        with pytest.raises(UnsupportedOption, match="tiny has no chat template"):
            call([{"role": "user", "content": "x"}])


def test_limits_and_stop_strings(make_model):
    _, model = make_model()
    short = model.generate(QUESTION, max_tokens=3)
    assert (short.new_tokens, short.finish_reason) == (3, "length")
    stopped = model.generate(QUESTION, stop=["fox 😀", "zzz"])
    assert (stopped.text, stopped.finish_reason) == ("The quick brown ", "stop_string")
    on = model.generate(QUESTION, max_tokens=60, ignore_eos=True)
    assert (on.new_tokens, on.finish_reason) == (60, "length")
    assert on.text.startswith(ANSWER)


def test_generation_ends_with_the_context(make_model, byte_level):
    context = len(byte_level.encode(QUESTION)) + 3
    _, model = make_model(context=context)
    completion = model.generate(QUESTION, max_tokens=100)
    assert completion.finish_reason == "length"
    # The last token is chosen from a full context and not run.
    assert completion.prompt_tokens + completion.new_tokens == context + 1


@pytest.mark.parametrize("method", ["generate", "stream"])
def test_errors_come_with_the_call_before_anything_runs(make_model, method):
    backend, model = make_model(context=20)
    call = getattr(model, method)
    with pytest.raises(CapacityError, match="30 tokens, the context holds 20"):
        call([5] * 30)
    for options in ({"temperature": -1}, {"stop": [""]}, {"max_tokens": 0}, {"top_p": 2}):
        with pytest.raises(UnsupportedOption):
            call(QUESTION, **options)
    for prompt in ("", [], [10**6]):
        with pytest.raises(UnsupportedOption, match="prompt"):
            call(prompt)
    assert not backend.runs


def test_a_stream_closed_early_stops_and_leaves_the_model_usable(make_model):
    backend, model = make_model()
    stream = model.stream(QUESTION)
    next(stream)
    stream.close()
    runs = len(backend.runs)
    assert model.generate(QUESTION).text == ANSWER
    assert len(backend.runs) > runs
    unread = model.stream(QUESTION)
    del unread
    assert model.generate(QUESTION).text == ANSWER


def test_streams_may_be_read_in_turn(make_model):
    _, model = make_model()
    one, other = model.stream(QUESTION), model.stream(QUESTION)
    texts = ["", ""]
    for first, second in zip(one, other, strict=True):
        texts[0] += first.text
        texts[1] += second.text
    assert texts == [ANSWER, ANSWER]


def test_sequences_are_reused(make_model, monkeypatch):
    _, model = make_model()
    model.generate(QUESTION)
    monkeypatch.setattr(model._backend, "new_sequence", None)
    assert model.generate(QUESTION).text == ANSWER


def test_a_sequence_that_failed_is_not_used_again(make_model, monkeypatch):
    backend, model = make_model()
    stream = model.stream(QUESTION)
    next(stream)
    monkeypatch.setattr(backend, "run", lambda shape, cells: (_ for _ in ()).throw(DeviceError("lost")))
    with pytest.raises(DeviceError, match="lost"):
        list(stream)
    monkeypatch.undo()
    assert not model._sequences._idle
    assert model.generate(QUESTION).text == ANSWER


def test_sampling_is_repeatable(make_model):
    _, model = make_model(answer="")
    options = {"temperature": 5.0, "max_tokens": 30, "ignore_eos": True}
    one, same, other = (model.generate(QUESTION, seed=seed, **options).tokens for seed in (1, 1, 2))
    assert one == same != other


def test_the_bundle_recommends_and_the_caller_decides(make_model):
    hot = GenerationDefaults(temperature=50.0)
    _, model = make_model(generation=hot)
    assert model.generate(QUESTION, seed=1, max_tokens=9).text != ANSWER
    assert model.generate(QUESTION, temperature=0.0).text == ANSWER


def test_closing(make_model):
    backend, model = make_model()
    with model:
        model.generate(QUESTION)
    assert backend.closed
    model.close()
    with pytest.raises(DeviceError, match="model is closed"):
        model.generate(QUESTION)


def test_a_failing_template_is_one_line(make_model):
    _, model = make_model(template="{{ raise_exception('no system messages\nhere') }}")
    with pytest.raises(EdgeError, match="no system messages here") as caught:
        model.chat([{"role": "system", "content": "x"}])
    assert "\n" not in str(caught.value)


def test_every_method_offers_every_option():
    """Help lists the fields of one dataclass, and type checkers the keys of one TypedDict: the same."""
    import inspect

    from edgesdk.decoding.options import GenerationKeywords, GenerationOptions

    assert typing.get_type_hints(GenerationKeywords) == typing.get_type_hints(GenerationOptions)
    names = [field.name for field in dataclasses.fields(GenerationOptions)]
    for method in (Model.generate, Model.stream, Model.chat, Model.chat_stream):
        parameters = [
            n
            for n in inspect.signature(method).parameters
            if n not in ("self", "prompt", "messages", "cancelled", "early_exit", "template_variables")
            and not n.startswith("tool")
        ]
        assert parameters == names


def test_an_option_that_does_not_exist_is_refused(make_model):
    _, model = make_model()
    with pytest.raises(UnsupportedOption, match="'temprature'; did you mean temperature"):
        model.generate(QUESTION, temprature=1.0)


PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 6}, "city": {"const": "A long, long name"}},
    "required": ["name", "city"],
    "additionalProperties": False,
}


def test_an_answer_follows_a_schema_and_forced_tokens_are_one_step(make_model):
    pytest.importorskip("llguidance")
    backend, model = make_model()
    completion = model.generate(QUESTION, json_schema=PERSON, temperature=1.0, seed=3, logprobs=2)
    person = json.loads(completion.text)
    assert completion.finish_reason == "stop"
    assert person["city"] == "A long, long name"
    assert len(person["name"]) <= 6
    assert len(backend.runs) < completion.new_tokens / 2
    assert len(completion.logprobs) == completion.new_tokens
    assert [each.token for each in completion.logprobs] == list(completion.tokens)
    forced = [each for each in completion.logprobs if each.logprob is None]
    assert len(forced) > completion.new_tokens / 2
    pieces = [chunk.text for chunk in model.stream(QUESTION, json_schema=PERSON, temperature=1.0, seed=3)]
    assert "".join(pieces) == completion.text


def test_an_answer_matches_an_expression_or_a_grammar(make_model):
    pytest.importorskip("llguidance")
    _, model = make_model()
    assert model.generate(QUESTION, regex="(yes|no) sir").text in ("yes sir", "no sir")
    assert model.generate(QUESTION, lark='start: "<" /[ab]/ ">"').text in ("<a>", "<b>")
    assert model.generate(QUESTION, regex="(yes|no) sir", ignore_eos=True).finish_reason == "stop"
    assert model.generate(QUESTION).logprobs is None


def test_a_grammar_is_checked_with_the_call(make_model):
    pytest.importorskip("llguidance")
    backend, model = make_model()
    with pytest.raises(UnsupportedOption, match="'not' at #"):
        model.stream(QUESTION, json_schema={"not": {}})
    with pytest.raises(UnsupportedOption, match="unclosed group"):
        model.stream(QUESTION, regex="(")
    assert not backend.runs


TOOL_TEMPLATE = (
    "{% if tools %}{{ tools[0].function.name }}<tool_call></tool_call>{% endif %}"
    "{% for m in messages %}<|start|>{{ m.role }}: {{ m.content }}\n{% endfor %}<|start|>assistant: "
)
ZONE = {"type": "object", "properties": {"zone": {"enum": ["CET", "UTC"]}}, "additionalProperties": False}
CLOCK = {"name": "clock", "parameters": ZONE}


def asked_with_tools(call):
    prompt = f"clock<tool_call></tool_call><|start|>user: {QUESTION}\n<|start|>assistant: "
    return {"template": TOOL_TEMPLATE, "prompt": prompt, "answer": call}


@pytest.mark.parametrize("streamed", [False, True])
def test_tool_calls_are_read_from_the_answer(make_model, streamed):
    answer = '<tool_call>{"name": "clock", "arguments": {"zone": "UTC"}}</tool_call>'
    _, model = make_model(context=256, **asked_with_tools(answer))
    messages = [{"role": "user", "content": QUESTION}]
    if streamed:
        completion = list(model.chat_stream(messages, tools=[CLOCK]))[-1].completion
    else:
        completion = model.chat(messages, tools=[CLOCK])
    assert completion.text == answer
    assert completion.tool_calls == (ToolCall("clock", {"zone": "UTC"}),)


def test_a_wrong_call_is_an_error_after_its_text(make_model):
    answer = '<tool_call>{"name": "clock", "arguments": {"zone": "GMT"}}</tool_call>'
    _, model = make_model(context=256, **asked_with_tools(answer))
    messages = [{"role": "user", "content": QUESTION}]
    pieces = []
    with pytest.raises(ToolCallError, match="'GMT' is not one of") as caught:
        pieces.extend(chunk.text for chunk in model.chat_stream(messages, tools=[CLOCK]))
    assert caught.value.answer == answer


def test_a_required_call_is_valid(make_model):
    pytest.importorskip("llguidance")
    _, model = make_model(context=256, **asked_with_tools("I will not."))
    messages = [{"role": "user", "content": QUESTION}]
    asked = {"tools": [CLOCK], "tool_choice": "required", "temperature": 1.0, "max_tokens": 150}
    for seed in range(5):
        completion = model.chat(messages, seed=seed, **asked)
        (call,) = completion.tool_calls
        assert call.name == "clock"
        assert call.arguments.get("zone") in (None, "CET", "UTC")
    named = asked | {"tool_choice": {"type": "function", "function": {"name": "clock"}}}
    assert model.chat(messages, seed=0, **named).tool_calls[0].name == "clock"
    with pytest.raises(UnsupportedOption, match="there are no tools"):
        model.chat(messages, tool_choice="required")
    with pytest.raises(UnsupportedOption, match="ask for no other"):
        model.chat(messages, tools=[CLOCK], tool_choice="required", regex="a")


def test_a_tool_that_cannot_be_checked_is_refused_before_the_answer(make_model):
    backend, model = make_model(context=256, **asked_with_tools("I will not."))
    tool = {"name": "clock", "parameters": {"properties": {"n": {"minimum": 0, "exclusiveMinimum": True}}}}
    with pytest.raises(UnsupportedOption, match="not a JSON schema of draft 2020-12"):
        model.chat_stream([{"role": "user", "content": QUESTION}], tools=[tool])
    assert not backend.runs


def test_a_choice_of_no_tool_leaves_them_out_of_the_prompt(make_model):
    _, model = make_model(template=TOOL_TEMPLATE, prompt=f"<|start|>user: {QUESTION}\n<|start|>assistant: ")
    completion = model.chat([{"role": "user", "content": QUESTION}], tools=[CLOCK], tool_choice="none")
    assert (completion.text, completion.tool_calls) == (ANSWER, ())


def test_tools_need_a_template_that_teaches_them(make_model):
    _, model = make_model()
    with pytest.raises(UnsupportedOption, match="form of tool calls"):
        model.chat([{"role": "user", "content": QUESTION}], tools=[CLOCK])
    _, plain = make_model(template=None)
    with pytest.raises(UnsupportedOption, match="no chat template"):
        plain.chat([{"role": "user", "content": QUESTION}], tools=[CLOCK])


def test_beam_search_finds_the_likely_and_leaves_the_model_usable(make_model, byte_level):
    _, model = make_model()
    best, *others = model.beam_search(QUESTION, width=3, max_tokens=40, length_penalty=0.0)
    assert len(others) == 2
    assert best.finished
    assert byte_level.decode(best.tokens) == ANSWER
    assert best.logprob >= max(other.logprob for other in others)
    assert model.generate(QUESTION).text == ANSWER
    model._backend = object()
    with pytest.raises(UnsupportedOption, match="fake keeps its cache to itself"):
        model.beam_search(QUESTION)


def long_prompt(model, tokens=100):
    return (model.tokenize(QUESTION) * tokens)[:tokens]


def test_a_stream_is_cancelled_between_two_tokens(make_model):
    backend, model = make_model()
    stream = model.stream(QUESTION)
    said = next(stream).text
    stream.cancel()
    rest = list(stream)
    runs = len(backend.runs)
    assert [chunk.completion is not None for chunk in rest] == [True]
    assert stream.completion is rest[-1].completion
    assert stream.completion.finish_reason == "cancelled"
    assert stream.completion.text == said + rest[-1].text
    assert ANSWER.startswith(stream.completion.text)
    stream.cancel()
    assert list(stream) == []
    assert len(backend.runs) == runs
    assert model.generate(QUESTION).text == ANSWER


def test_a_stream_is_cancelled_between_two_pieces_of_the_prompt(make_model, monkeypatch):
    backend, model = make_model()
    whole = model.generate(long_prompt(model), max_tokens=1)
    pieces = len(backend.runs)
    assert pieces > 3
    stop, run = threading.Event(), backend.run

    def run_and_stop(shape, cells):
        run(shape, cells)
        if len(backend.runs) == pieces + 2:
            stop.set()

    monkeypatch.setattr(backend, "run", run_and_stop)
    done = model.generate(long_prompt(model), max_tokens=1, cancelled=stop.is_set)
    assert (done.finish_reason, done.text, done.tokens, done.new_tokens) == ("cancelled", "", (), 0)
    assert (done.ttft_ms, done.prefill_tokens_per_s, done.decode_tokens_per_s) == (0.0, 0.0, None)
    assert done.prompt_tokens == 100
    assert len(backend.runs) == pieces + 2
    stop.clear()
    monkeypatch.undo()
    assert model.generate(long_prompt(model), max_tokens=1, cancelled=stop.is_set).tokens == whole.tokens


def test_another_thread_cancels_or_closes(make_model, monkeypatch):
    backend, model = make_model()
    for end in ("cancel", "close"):
        inside, going_on, run = threading.Event(), threading.Event(), FakeStepBackend.run

        def run_slowly(shape, cells, inside=inside, going_on=going_on, run=run):
            inside.set()
            assert going_on.wait(20)
            run(backend, shape, cells)

        monkeypatch.setattr(backend, "run", run_slowly)
        stream = model.stream(long_prompt(model))
        read = []
        worker = threading.Thread(target=lambda stream=stream, read=read: read.extend(stream))
        worker.start()
        assert inside.wait(20)
        getattr(stream, end)()
        going_on.set()
        worker.join(20)
        assert [chunk.completion.finish_reason for chunk in read] == ["cancelled"]
        monkeypatch.undo()
    assert model.generate(QUESTION).text == ANSWER


def test_cancelled_before_it_began_nothing_runs(make_model):
    backend, model = make_model()
    with model.stream(QUESTION) as stream:
        stream.cancel()
        assert stream.result().finish_reason == "cancelled"
    assert not backend.runs
    assert model.chat([{"role": "user", "content": "x"}], cancelled=lambda: True).text == ""
    with model.stream(QUESTION) as stream:
        pass
    with pytest.raises(DeviceError, match="given up before its end"):
        stream.result()
    for bad in (threading.Event(), True, "stop"):
        with pytest.raises(UnsupportedOption, match="expected a function that says whether to stop"):
            model.stream(QUESTION, cancelled=bad)


def test_a_cancelled_conversation_with_tools_is_no_wrong_call(make_model):
    answer = '<tool_call>{"name": "clock", "arguments": {"zone": "UTC"}}</tool_call>'
    _, model = make_model(context=256, **asked_with_tools(answer))
    stream = model.chat_stream([{"role": "user", "content": QUESTION}], tools=[CLOCK])
    next(stream)
    stream.cancel()
    assert stream.result().finish_reason == "cancelled"
    assert stream.completion.tool_calls == ()


def test_an_answer_has_a_limit_unless_there_is_to_be_none(make_model, monkeypatch):
    from edgesdk.decoding import options

    _, model = make_model(context=256, answer="")
    assert options.DEFAULT_MAX_TOKENS == 256
    whole = model.generate(QUESTION, ignore_eos=True, max_tokens=None)
    assert whole.new_tokens == 256 - whole.prompt_tokens + 1
    for limit in (None, 10):
        asked = model.generate(QUESTION, ignore_eos=True, max_tokens=limit)
        assert asked.finish_reason == "length"


def test_content_in_parts_and_messages_that_are_none(make_model):
    _, model = make_model(prompt=f"<|start|>user: {QUESTION}\n<|start|>assistant: ")
    parts = [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]
    assert model.chat(parts).text == ANSWER
    for bad in ("Hello", [], [{"role": "user"}], [{"role": "user", "content": [{"type": "image_url"}]}]):
        for call in (model.chat, model.chat_stream, model.render_chat):
            with pytest.raises(UnsupportedOption, match="messages"):
                call(bad)
    with pytest.raises(UnsupportedOption, match="a conversation goes to chat"):
        model.generate([{"role": "user", "content": QUESTION}])


def test_scoring_refuses_ids_that_the_model_does_not_have(make_model):
    backend, model = make_model(context=20)
    for bad in ([10**6], [-1], [10**30], [1.5], np.zeros((2, 2), np.int32), []):
        with pytest.raises(UnsupportedOption, match="the prompt"):
            model.score(bad)
    with pytest.raises(CapacityError, match="21 tokens, the context holds 20"):
        model.score([5] * 21)
    assert not backend.runs
    assert model.score(np.array([5, 6], np.int64)).shape == (2, model.decoder.vocab_size)


@pytest.mark.parametrize("bad", [{"width": 1.5}, {"width": True}, {"length_penalty": "x"}, {"max_tokens": 0}])
def test_a_beam_search_without_meaning_is_refused_before_anything_runs(make_model, bad):
    backend, model = make_model()
    with pytest.raises(UnsupportedOption, match=next(iter(bad))):
        model.beam_search(QUESTION, **bad)
    assert not backend.runs
