"""On a tiny real model: branches are separate calls, N answers whatever fails, long texts by parts."""

import json
import threading

import pytest

import edgesdk
from edgesdk.engine.session import Session
from edgesdk.errors import CapacityError, DeviceError, UnsupportedOption
from edgesdk.orchestration.ask_together import together_prompt

TEXT = "Anna opens the meeting. The budget is 400. Ben brings the cake on Friday.\n" * 4
QUERIES = ["What is the budget?", "Who opens?", "When?", "Who brings the cake, and what else?"]
GREEDY = {"temperature": 0.0, "repetition_penalty": 1.0, "ignore_eos": True, "max_tokens": 16}


@pytest.mark.parametrize("count", [1, 2, 4, 12])
def test_branches_are_separate_calls(model, engine, count):
    queries = [f"{n}. {QUERIES[n % 4]}" for n in range(count)]
    forked = engine.ask_many(TEXT, queries, **GREEDY)
    apart = engine.ask_many(TEXT, queries, mode="single", **GREEDY)
    assert [a.query for a in forked.answers] == queries
    assert forked.texts == apart.texts
    assert {a.how for a in forked.answers} == {"fork"}
    assert forked.complete
    # And as calls of the model's own, by the very same prompts.
    assert apart.prompt_tokens == apart.prompt_tokens_apart == forked.prompt_tokens_apart
    if count > 1:
        rest = sum(len(model.tokenizer.encode(q)) + 40 for q in queries)
        assert forked.prompt_tokens <= forked.prompt_tokens_apart / count + rest


def test_a_model_opens_an_engine_for_the_call(model):
    one = model.ask_many(TEXT, QUERIES, **GREEDY)
    prompt = model.render_prompt(f"{edgesdk.AskOptions().instruction}\n\n{TEXT}\n\nQuestion: {QUERIES[1]}")
    assert one.answers[1].text == model.generate(prompt, **GREEDY).text.strip()
    assert edgesdk.ask_many(model, TEXT, QUERIES, **GREEDY).texts == one.texts
    assert not [t for t in threading.enumerate() if t.name.startswith("edgesdk-engine")]


def test_the_text_is_run_once(engine):
    before = engine.metrics
    found = engine.ask_many(TEXT, QUERIES, **GREEDY)
    after = engine.metrics
    ran = after.tokens - before.tokens - (after.chosen_tokens - before.chosen_tokens)
    # Each branch runs its last prompt token with its first choice; its last choice is never run.
    assert abs(ran - found.prompt_tokens) <= len(QUERIES) + 1
    assert found.new_tokens == after.chosen_tokens - before.chosen_tokens == 16 * len(QUERIES)


def test_a_long_text_is_read_by_parts_and_merged(engine):
    found = engine.ask_many(TEXT * 12, QUERIES, **GREEDY)
    assert found.parts > 2
    assert all(a.parts == found.parts and a.how == "merged" and a.text for a in found.answers)
    seen = []

    def merge(place, texts):
        seen.append((place, len(texts)))
        return "+".join(texts)

    joined = engine.ask_many(TEXT * 12, QUERIES, merge=merge, **GREEDY)
    assert seen == [(place, joined.parts) for place in range(len(QUERIES))]
    assert all("+" in text for text in joined.texts)


def test_no_room_for_a_text_is_one_line(engine):
    with pytest.raises(CapacityError, match="room for 0 tokens of the text"):
        engine.ask_many(TEXT, ["Why? " * 400], **GREEDY)
    with pytest.raises(CapacityError, match="ask shorter or fewer questions"):
        engine.ask_many(TEXT, QUERIES, **{**GREEDY, "max_tokens": 2000})


def test_a_grammar_makes_a_list_of_as_many_items(engine):
    schema = {"enum": ["yes", "no", "not said"]}
    found = engine.ask_many(TEXT, QUERIES, mode="constrained", json_schema=schema, temperature=0.0)
    assert found.list_kept
    assert [a.value for a in found.answers] == list(found.texts)
    assert set(found.texts) <= {"yes", "no", "not said"}
    assert {a.how for a in found.answers} == {"constrained"}


def test_each_item_may_have_a_schema_of_its_own_with_references(engine):
    person = {
        "$defs": {"name": {"enum": ["Anna", "Ben"]}},
        "type": "object",
        "properties": {"who": {"$ref": "#/$defs/name"}},
        "required": ["who"],
    }
    schemas = [{"type": "integer", "minimum": 0, "maximum": 9}, person]
    for mode in ("constrained", "fork"):
        found = engine.ask_many(TEXT, QUERIES[:2], mode=mode, json_schemas=schemas, temperature=0.0)
        assert found.complete
        assert 0 <= found.answers[0].value <= 9
        assert found.answers[1].value["who"] in ("Anna", "Ben")


def test_what_a_plain_prompt_does_not_give_is_asked_for_alone(engine):
    found = engine.ask_many(TEXT, QUERIES, mode="paper", max_tokens=8, temperature=0.0)
    assert found.list_kept is False
    assert [a.query for a in found.answers] == QUERIES
    assert {a.how for a in found.answers} == {"alone"}
    assert all("no JSON list" in a.note and a.text and a.error is None for a in found.answers)


def test_a_list_of_the_model_s_is_taken_item_by_item(engine, monkeypatch):
    from edgesdk.orchestration import ask_together as module

    monkeypatch.setattr(module, "read_list", lambda text, n: module_read('["400", "", "Friday"', n))
    from edgesdk.orchestration.read_list import read_list as module_read

    found = engine.ask_many(TEXT, QUERIES, mode="paper", max_tokens=8, temperature=0.0)
    assert [a.how for a in found.answers] == ["paper", "alone", "paper", "alone"]
    assert found.texts[0] == "400"
    assert found.texts[2] == "Friday"
    assert found.answers[1].note == "the answer is empty"
    assert "ends after 3 of 4" in found.answers[3].note


def test_one_branch_that_fails_is_asked_again_and_the_others_stay(engine, monkeypatch):
    plain = engine.ask_many(TEXT, QUERIES, **GREEDY)
    submit = Session.submit
    count = []

    def failing(self, prompt=(), **options):
        count.append(1)
        generation = submit(self, prompt, **options)
        if len(count) == 2:
            generation.fail(DeviceError("the step failed"))
        return generation

    monkeypatch.setattr(Session, "submit", failing)
    found = engine.ask_many(TEXT, QUERIES, **GREEDY)
    assert [a.how for a in found.answers] == ["fork", "alone", "fork", "fork"]
    assert found.answers[1].note == "the step failed"
    assert found.answers[1].text
    for place in (0, 2, 3):
        assert found.texts[place] == plain.texts[place]


def test_there_are_always_as_many_answers_also_when_all_fail(engine, monkeypatch):
    from edgesdk.engine.generation import Generation

    def fails(self, timeout=None):
        self.cancel()
        raise DeviceError("the step failed")

    monkeypatch.setattr(Generation, "result", fails)
    found = engine.ask_many(TEXT, QUERIES, mode="single", **GREEDY)
    assert [(a.text, a.error, a.note) for a in found.answers] == [
        ("", "the step failed", "the step failed")
    ] * 4
    assert not found.complete


def test_cancelling_and_deadlines_keep_what_there_is(engine):
    calls = []

    def soon():
        calls.append(1)
        return len(calls) > 2  # on a busy machine answers are long done at the seventh look

    found = engine.ask_many(TEXT, QUERIES, cancelled=soon, **{**GREEDY, "max_tokens": 800})
    assert len(found.answers) == 4
    assert all("cancelled" in a.error for a in found.answers)
    late = engine.ask_many(TEXT, QUERIES, deadline_s=1e-3, **GREEDY)
    assert all("the deadline has passed" in a.error for a in late.answers)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mode": "paper", "json_schema": {"type": "string"}}, "use mode constrained or fork"),
        ({"mode": "constrained", "regex": "a+"}, "regex goes for single answers"),
        ({"mode": "paper", "stop": ["x"]}, "stop goes for single answers"),
        ({"json_schemas": [{"type": "string"}] * 4, "regex": "a"}, "one of json_schemas, regex and lark"),
        ({"json_schemas": [{"requires": 1}] * 4}, "requires"),
        ({"regex": "("}, "regex cannot be used"),
    ],
)
def test_rules_that_do_not_go_together_are_refused(engine, options, says):
    with pytest.raises(UnsupportedOption) as caught:
        engine.ask_many(TEXT, QUERIES, **options)
    assert says in str(caught.value)


def test_others_are_refused():
    with pytest.raises(UnsupportedOption, match="expected a loaded model or an engine"):
        edgesdk.ask_many("bundle", TEXT, QUERIES)


def test_a_closed_engine_says_so(model):
    engine = edgesdk.Engine(model, token_budget=16)
    engine.close()
    for mode in ("fork", "single", "paper", "constrained"):
        with pytest.raises(DeviceError, match="closed"):
            engine.ask_many(TEXT, QUERIES, mode=mode)


def test_answers_can_be_written_as_json(engine):
    from edgesdk.bundle.records import to_json

    found = engine.ask_many(TEXT, QUERIES[:1], **GREEDY)
    assert json.loads(json.dumps(to_json(found)))["answers"][0]["query"] == QUERIES[0]


def test_the_paper_s_prompt_has_instruction_format_questions_text_in_this_order(model):
    from edgesdk.orchestration.desk import Desk
    from edgesdk.orchestration.prompt_writer import PromptWriter
    from edgesdk.plans.allowance import Allowance
    from edgesdk.plans.ask_options import split_ask_keywords

    desk = Desk(None, PromptWriter(model), *split_ask_keywords({}), Allowance(None, None))
    prompt = model.tokenizer.decode(together_prompt(desk, TEXT, QUERIES).ids, skip_special=False)
    places = [
        prompt.index(part) for part in ("Answer from the text", "JSON list of exactly 4", QUERIES[0], TEXT)
    ]
    assert places == sorted(places)


def test_a_model_without_chat_template_gets_plain_prompts(model, engine, monkeypatch):
    from edgesdk.decoding.request_reader import RequestReader

    # A property goes before what a reader has kept of its template.
    monkeypatch.setattr(RequestReader, "chat_template", property(lambda _: None))
    forked = engine.ask_many(TEXT, QUERIES, **GREEDY)
    prompt = f"{edgesdk.AskOptions().instruction}\n\n{TEXT}\n\nQuestion: {QUERIES[2]}\n\nAnswer:"
    assert forked.answers[2].text == model.generate(prompt, **GREEDY).text.strip()
    answer = engine.answer_by_skeleton("How?", plan="1 | A? | - | 1\n2 | B? | 1 | 1", **GREEDY)
    assert answer.complete
    assert answer.nodes[1].cached_tokens > 60
