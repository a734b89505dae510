"""What is wrong with one request ends that one: those beside it get the answers that they get alone."""

import asyncio
import inspect
import logging
import math
import threading
import time
import typing
from dataclasses import fields

import numpy as np
import pytest

from edgesdk.decoding.answer import Answer
from edgesdk.decoding.choose import Chooser
from edgesdk.engine.engine import Engine
from edgesdk.engine.engine_options import EngineKeywords, EngineOptions
from edgesdk.errors import CapacityError, DeviceError, EdgeError, UnsupportedOption
from edgesdk.load_options import LoadOptions
from edgesdk.text.detokenize import Detokenizer

ANYTHING = (
    *("x", b"x", 1.5, math.nan, True, None, [1], [None], {}, {"a": 1}, object(), np.zeros(2), -1, 10**400),
)
FINE = {  # of the above, what an option takes, by its place there
    "max_tokens": (5, 13),
    "temperature": (2, 5),
    "top_k": (5, 13),
    "top_p": (5,),
    "min_p": (5,),
    "repetition_penalty": (2, 5),
    "seed": (5,),
    "stop": (5,),
    "ignore_eos": (4,),
    "typical_p": (5,),
    "presence_penalty": (2, 5, 12),
    "frequency_penalty": (2, 5, 12),
    "logit_bias": (5, 8),
    "logprobs": (5,),
    "regex": (0, 5),
    "lark": (5,),
    "json_schema": (4, 5, 8),
    "n": (),
    "priority": (12,),
    "deadline_s": (2, 5),
    "tools": (5,),
    "template_variables": (5, 8),
    "calls_as_text": (4,),
    "thinking_tokens": (5,),
    "adapter": (5, 8),
    "messages": (5,),
}
OWN = ("n", "priority", "deadline_s")


def bad_values(name):
    return [value for place, value in enumerate(ANYTHING) if place not in FINE[name]]


def ask_model(model, prompt, name, value):
    if name == "messages":
        return model.chat_stream(value)
    if name == "template_variables":
        return model.chat_stream([{"role": "user", "content": "x"}], template_variables=value)
    if name == "calls_as_text":
        return model.chat_stream([{"role": "user", "content": "x"}], calls_as_text=value)
    if name == "tools":
        return model.chat_stream([{"role": "user", "content": "x"}], tools=value)
    return model.stream(prompt, **{name: value})


@pytest.mark.parametrize("name", FINE)
def test_a_bad_value_is_refused_beside_an_innocent_request(make_engine, prompts, greedy, name):
    engine = make_engine()
    innocent, other = prompts(2, 12)
    with engine.session() as session:
        session.append(other)
        running = engine.submit(innocent, max_tokens=60, ignore_eos=True)
        for value in bad_values(name):
            asked = {"prompt": other, name: value} if name != "messages" else {name: value}
            with pytest.raises(EdgeError) as caught:
                engine.submit(**asked)
            assert isinstance(caught.value, UnsupportedOption)
            assert len(str(caught.value)) < 300
            assert "\n" not in str(caught.value)
            with pytest.raises(EdgeError):
                session.submit(**{k: v for k, v in asked.items() if k != "prompt"})
            if name not in OWN:
                with pytest.raises(EdgeError):
                    ask_model(engine.model, other, name, value)
        assert running.result(20).tokens == greedy(innocent, 60)
        assert session.tokens == tuple(other)
        assert session.generate(max_tokens=3, ignore_eos=True).tokens == greedy(other, 3)
    engine.check()


def test_every_option_is_in_the_table():
    from edgesdk.engine.request_options import RequestOptions

    assert set(FINE) == {*RequestOptions.__annotations__, "messages"} - {"tool_choice"}


@pytest.mark.parametrize(
    "prompt", [5, b"x", [None], [1.5], [10**9], [-1], {"a": 1}, [True], np.zeros((2, 2))]
)
def test_a_prompt_that_is_none(make_engine, prompts, prompt):
    engine = make_engine()
    for ask in (engine.submit, engine.model.stream, engine.session().submit, engine.model.score):
        with pytest.raises(UnsupportedOption, match="the prompt"):
            ask(prompt)
    with pytest.raises(CapacityError, match="characters"):
        engine.submit("x" * 100_000)
    with pytest.raises(CapacityError, match="characters"):
        engine.chat([{"role": "user", "content": "x" * 100_000}])
    for bad in ("x", math.nan, -1, True):
        with pytest.raises(UnsupportedOption, match="timeout"):
            engine.submit([5], timeout=bad)
    with pytest.raises(UnsupportedOption, match="block is 1"):
        engine.submit([5], block=1)
    generation = engine.submit([5], max_tokens=1)
    with pytest.raises(UnsupportedOption, match="timeout is nan"):
        generation.result(math.nan)


class Odd(BaseException):
    """Passes every handler of exceptions, as a native library's panic does."""

    def __str__(self):
        raise ValueError


@pytest.mark.parametrize("error", [ValueError("odd"), Odd(), SystemExit(3), MemoryError()])
@pytest.mark.parametrize(
    ("part", "method", "calls"),
    [
        *((Chooser, "choose", 3), (Chooser, "start_mask", 2)),
        *((Detokenizer, "push", 3), (Detokenizer, "finish", 1), (Answer, "complete", 1)),
    ],
)
def test_what_one_answer_raises_ends_that_one(
    make_engine, prompts, greedy, monkeypatch, part, method, calls, error
):
    engine = make_engine()
    asked = prompts(4, 12)
    engine.backend.gate = pace = threading.Event()
    pace.wait = lambda timeout: time.sleep(0.01)
    running = [engine.submit(p, max_tokens=20, ignore_eos=True, n=2) for p in asked[:1]]
    running += [engine.submit(p, max_tokens=20, ignore_eos=True) for p in asked[1:]]
    session = engine.session
    guilty = {id(each) for each in _parts(engine, running[1], part)}
    plain, left = getattr(part, method), [calls]

    def raising(self, *arguments, **options):
        if id(self) in guilty:
            left[0] -= 1
            if left[0] <= 0:
                raise error
        return plain(self, *arguments, **options)

    monkeypatch.setattr(part, method, raising)
    results = [generation.results(20) for generation in (running[0], *running[2:])]
    assert [r[0].tokens for r in results] == [greedy(p, 20) for p in (asked[0], *asked[2:])]
    if method == "start_mask":  # nothing that a choice depends on, without a grammar
        assert running[1].result(20).tokens == greedy(asked[1], 20)
    else:
        with pytest.raises(DeviceError, match=f"the answer failed: {type(error).__name__}"):
            running[1].result(20)
    monkeypatch.undo()
    engine.check()
    assert engine.generate(asked[1], max_tokens=5, ignore_eos=True).tokens == greedy(asked[1], 5)
    assert session().length == 0


def _parts(engine, generation, part):
    """The objects of one class that a request has."""
    (request,) = [r for r in engine.call(lambda: set(engine._batch.requests)) if r.generation is generation]
    answers = request.asked.answers
    return {
        Chooser: request.asked.choosers,
        Answer: answers,
        Detokenizer: [answer._detokenizer for answer in answers],
    }[part]


def test_a_backend_that_panics_ends_its_step_with_the_reason(make_engine, prompts, greedy):
    engine = make_engine()
    prompt, other = prompts(2, 10)
    engine.backend.failure = Odd()
    with pytest.raises(DeviceError, match=r"the step failed: Odd$"):
        engine.generate(prompt)
    assert engine.generate(other, max_tokens=5, ignore_eos=True).tokens == greedy(other, 5)


def test_an_event_loop_that_fails_to_wake_harms_nobody(make_engine, prompts, greedy, monkeypatch):
    engine = make_engine()
    prompt, other = prompts(2, 10)
    engine.backend.gate = gate = threading.Event()

    async def leave():
        generation = engine.submit(prompt, max_tokens=5, ignore_eos=True)
        loop = asyncio.get_running_loop()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(generation), 0.01)
        woken = []

        def call_soon(*arguments):
            woken.append(True)
            raise Odd

        loop.call_soon_threadsafe = call_soon
        return generation, woken

    loop = asyncio.new_event_loop()
    generation, woken = loop.run_until_complete(leave())
    loop.close()
    running = engine.submit(other, max_tokens=5, ignore_eos=True)
    gate.set()
    assert running.result(20).tokens == greedy(other, 5)
    assert generation.result(20).tokens == greedy(prompt, 5)
    assert woken


def test_a_log_handler_that_fails_harms_nobody(make_engine, prompts, greedy, monkeypatch):
    class Broken(logging.Handler):
        def handle(self, record):
            raise Odd

    logger = logging.getLogger("edgesdk.engine")
    monkeypatch.setattr(logger, "handlers", [Broken()])
    monkeypatch.setattr(logger, "level", logging.DEBUG)
    logger.manager._clear_cache()
    engine = make_engine()
    (prompt,) = prompts(1, 10)
    assert engine.generate(prompt, max_tokens=5, ignore_eos=True).tokens == greedy(prompt, 5)
    logger.manager._clear_cache()


def test_a_command_that_fails_is_raised_where_it_was_given(make_engine, prompts, greedy):
    engine = make_engine()
    (prompt,) = prompts(1, 10)

    def fail():
        raise Odd

    with pytest.raises(Odd):
        engine.call(fail)
    engine._loop.post(fail)
    assert engine.generate(prompt, max_tokens=5, ignore_eos=True).tokens == greedy(prompt, 5)


@pytest.mark.parametrize(
    "value", ["x", math.nan, math.inf, True, -1, [], 10**400], ids=lambda value: str(value)[:9]
)
@pytest.mark.parametrize(
    "name", ["max_queue", "max_running", "token_budget", "tbt_target_ms", "prefix_cache_mb", "chunked"]
)
def test_limits_of_a_wrong_type_are_refused_at_construction(make_engine, name, value):
    if name == "chunked" and value is True:
        value = None
    with pytest.raises(UnsupportedOption, match=name):
        make_engine(**{name: value})


def test_an_engine_takes_what_load_takes(fake_runtime, make_engine):
    names = [field.name for field in fields(LoadOptions)]
    own = [field.name for field in fields(EngineOptions)]
    listed = [n for n, p in inspect.signature(Engine).parameters.items() if p.kind is p.KEYWORD_ONLY]
    assert listed == [*own, *names]
    assert typing.get_type_hints(EngineKeywords) == {
        **typing.get_type_hints(EngineOptions),
        **typing.get_type_hints(LoadOptions),
    }
    with Engine(fake_runtime(), token_budget=8, threads=1, backend="fake", variant="only") as engine:
        assert (engine.model.receipt.threads, engine.model.receipt.backend) == (1, "fake")
    with Engine(fake_runtime(), LoadOptions(threads=2, variant="only"), token_budget=8, threads=1) as engine:
        assert (engine.model.receipt.threads, engine.policy.budget) == (1, 8)
    with pytest.raises(UnsupportedOption, match="threads cannot be changed"):
        Engine(make_engine().model, threads=1)
    with pytest.raises(UnsupportedOption, match="loading cannot be changed"):
        Engine(make_engine().model, LoadOptions(threads=1))
    for wrong, meant in (("max_que", "max_queue"), ("treads", "threads")):
        with pytest.raises(UnsupportedOption, match=f"no option '{wrong}'; did you mean {meant}"):
            Engine(fake_runtime(), **{wrong: 1})
    with pytest.raises(UnsupportedOption, match="backend"):
        Engine(fake_runtime(), backend="nonsense")
    with pytest.raises(UnsupportedOption, match="the model is 5"):
        Engine(5)
