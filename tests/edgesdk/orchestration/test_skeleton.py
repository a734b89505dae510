"""On a tiny real model: nodes see exactly their parents, in company as alone, whatever fails beside them."""

import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import edgesdk
from edgesdk.engine.session import Session
from edgesdk.errors import CapacityError, DeviceError, UnsupportedOption
from edgesdk.orchestration.plan_prompt import plan_regex
from edgesdk.plans.read_plan import read_plan
from edgesdk.plans.skeleton_plan import Plan, PlanNode

QUESTION = "How is tea made?"
PLAN = "1 | Which pot? | - | 1\n2 | Which leaves? | - | 2\n3 | How hot? | 1 | 4\n4 | All of it? | 2, 3 | 5"
GREEDY = {"temperature": 0.0, "repetition_penalty": 1.0, "ignore_eos": True, "max_tokens": 10}


def asked(options):
    """The words of a request."""
    return options["messages"][0]["content"]


def texts(answer):
    return [node.text for node in answer.nodes]


def expected(answer, node):
    """The end of a node's prompt, as text."""
    known = [f"{p}. {answer.nodes[p - 1].text}" for p in node.parents if answer.nodes[p - 1].text]
    return "\n".join(["What is known:", *known]) + "\n\n" if known else ""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=12, deadline=None)
@given(st.data())
def test_any_plan_runs_in_order_and_nodes_see_exactly_their_parents(engine, data):
    nodes = []
    for number in range(1, data.draw(st.integers(1, 7)) + 1):
        parents = data.draw(st.sets(st.integers(1, number - 1), max_size=2)) if number > 1 else set()
        nodes.append(PlanNode(number, f"Task {number}?", tuple(parents), data.draw(st.integers(1, 5))))
    seen = {}
    with pytest.MonkeyPatch.context() as patch:
        submit = Session.submit

        def watched(self, prompt=(), **options):
            text = asked(options)
            seen[int(text.rpartition("Task ")[2].partition("?")[0])] = text
            return submit(self, prompt, **options)

        patch.setattr(Session, "submit", watched)
        answer = engine.answer_by_skeleton(QUESTION, plan=Plan(tuple(nodes)), **GREEDY)
    assert answer.plan == Plan(tuple(nodes))
    assert answer.complete
    assert answer.fallback is None
    assert answer.text == "\n\n".join(text for text in texts(answer) if text)
    for node in answer.nodes:
        number = node.node.number
        begin = f"Question: {QUESTION}\n\n"
        ends = f"{begin}{expected(answer, node.node)}Sub-question: Task {number}?"
        decoded = seen[number]
        assert decoded == f"{edgesdk.SkeletonOptions().instruction}\n\n{ends}"
        for parent in node.node.parents:
            assert answer.nodes[parent - 1].ended_s <= node.ready_s
        assert node.cached_tokens > 60


def test_a_node_in_company_is_the_node_alone(model, engine):
    together = engine.answer_by_skeleton(QUESTION, plan=PLAN, **GREEDY)
    for node in together.nodes:
        known = expected(together, node.node)
        parts = [edgesdk.SkeletonOptions().instruction, f"Question: {QUESTION}"]
        parts += [known.removesuffix("\n\n")] if known else []
        alone = model.generate(
            model.render_prompt("\n\n".join([*parts, f"Sub-question: {node.node.task}"])), **GREEDY
        )
        assert node.text == alone.text.strip()
        assert (node.prompt_tokens, node.new_tokens) == (alone.prompt_tokens, alone.new_tokens)


def test_without_edges_nobody_waits_and_nobody_sees(engine):
    flat = engine.answer_by_skeleton(QUESTION, plan=PLAN, edges=False, **GREEDY)
    lone = engine.answer_by_skeleton(QUESTION, plan=str(read_plan(PLAN).without_edges()), **GREEDY)
    assert texts(flat) == texts(lone)
    assert all(node.missing == () for node in flat.nodes)


def test_pieces_come_in_reading_order(engine):
    chunks = list(engine.stream_by_skeleton(QUESTION, plan=PLAN, **GREEDY))
    answer = chunks[-1].answer
    assert "".join(chunk.text for chunk in chunks) == answer.text
    order = [chunk.node for chunk in chunks[:-1]]
    assert order == sorted(order)
    assert not any(chunk.withdrawn for chunk in chunks)


@pytest.fixture
def planner(monkeypatch):
    """Has the planner write a text of ours, in pieces, and keeps the engine's own answers for the rest."""
    from edgesdk.decoding.completion import Chunk, Completion
    from edgesdk.engine.engine import Engine
    from edgesdk.engine.generation import Generation
    from edgesdk.engine.metrics import RequestMetrics

    submit = Engine.submit

    def write(text, *, finish="stop", pause_s=0.0, fails=None, hold=None):
        def planned(self, prompt=None, **options):
            if "Split the question into" not in asked(options):
                return submit(self, prompt, **options)
            made = Generation(1, lambda: None, lambda index: RequestMetrics(1, 0, 1, 0, 0.0, 0.0, ()))

            def speak():
                for at in range(0, len(text), 7):
                    made.put(Chunk(text[at : at + 7]))
                    time.sleep(pause_s)
                if hold is not None:
                    hold.wait(10)
                if fails is not None:
                    made.fail(fails)
                else:
                    made.put(Chunk("", Completion(text, (), finish, 1, 9, 1.0, 1.0, None)))

            threading.Thread(target=speak, daemon=True).start()
            return made

        monkeypatch.setattr(Engine, "submit", planned)

    return write


def test_a_planned_answer_is_that_of_the_same_plan_given(engine, planner):
    planner(PLAN)
    planned = engine.answer_by_skeleton(QUESTION, **GREEDY)
    given_ = engine.answer_by_skeleton(QUESTION, plan=PLAN, **GREEDY)
    assert planned.plan == given_.plan
    assert texts(planned) == texts(given_)
    assert planned.plan_text == PLAN
    assert (planned.plan_tokens, given_.plan_tokens) == (9, 0)


def test_nodes_start_while_the_plan_is_being_written(engine, planner):
    hold = threading.Event()
    planner(PLAN + "\n", hold=hold)
    chunks = engine.stream_by_skeleton(QUESTION, **GREEDY)
    first = next(chunks)
    assert first.node == 1
    assert not hold.is_set()
    hold.set()
    answer = [*chunks][-1].answer
    assert answer.nodes[0].first_s < answer.plan_s


def test_or_wait_for_the_whole_plan(engine, planner):
    planner(PLAN, pause_s=0.01)
    answer = engine.answer_by_skeleton(QUESTION, pipelined=False, **GREEDY)
    assert all(node.ready_s >= answer.plan_s for node in answer.nodes)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("I think we should first look for a pot.", "line 1 of the plan is 'I think"),
        ("1 | a | 2 | 1\n", "node 1 has parent 2"),
        ("1 | a | - | 1\n3 | b | - | 1\n", "node 3 at place 2"),
        ("", "the plan is empty"),
    ],
)
def test_a_malformed_plan_is_answered_plainly_and_says_so(engine, model, planner, text, says):
    planner(text)
    answer = engine.answer_by_skeleton(QUESTION, most_nodes=2, **GREEDY)
    plain = model.generate(model.render_prompt(QUESTION), **{**GREEDY, "max_tokens": 20})
    assert (answer.text, answer.plan, answer.nodes) == (plain.text, None, ())
    assert says in answer.fallback
    assert answer.finish_reason == "length"


def test_a_plan_that_is_cut_or_fails_is_answered_plainly(engine, planner):
    planner("1 | a | - | 1\n2 | b", finish="length")
    assert "it was cut after 9 tokens" in engine.answer_by_skeleton(QUESTION, **GREEDY).fallback
    planner("1 | a | - | 1\n", fails=DeviceError("the step failed"))
    answer = engine.answer_by_skeleton(QUESTION, **GREEDY)
    assert answer.fallback == "the step failed"
    assert answer.text


def test_what_was_shown_of_a_plan_that_breaks_is_withdrawn(engine, planner):
    planner("1 | Which pot? | - | 1\n" + " " * 700 + "\n2 | b | 5 | 1\n", pause_s=0.005)
    chunks = list(engine.stream_by_skeleton(QUESTION, **GREEDY))
    at = next(i for i, chunk in enumerate(chunks) if chunk.withdrawn)
    assert [chunk.node for chunk in chunks[:at]] == [1] * at
    assert at > 0
    assert "".join(chunk.text for chunk in chunks[at:]) == chunks[-1].answer.text


@pytest.mark.parametrize("most", [1, 2, 6])
def test_the_grammar_lets_only_plans_through(model, most):
    regex = plan_regex(most)
    for seed in range(3):
        text = model.generate("1", regex=regex, max_tokens=900, temperature=1.0, seed=seed).text
        plan = read_plan(text)
        assert 1 <= len(plan.nodes) <= most


def test_a_tiny_model_plans_by_grammar_and_answers(engine):
    answer = engine.answer_by_skeleton(
        QUESTION, planner_tokens=700, most_nodes=3, temperature=1.0, seed=1, max_tokens=8
    )
    assert answer.fallback is None
    assert answer.plan is not None
    assert read_plan(answer.plan_text) == answer.plan
    assert len(answer.nodes) == len(answer.plan.nodes)


def test_one_node_that_fails_does_not_stop_the_others(engine, monkeypatch):
    submit = Session.submit

    def failing(self, prompt=(), **options):
        generation = submit(self, prompt, **options)
        if "Which pot?" in asked(options).rpartition("Sub-q")[2]:
            generation.cancel()
            generation.fail(DeviceError("the step failed"))
        return generation

    monkeypatch.setattr(Session, "submit", failing)
    answer = engine.answer_by_skeleton(QUESTION, plan=PLAN, **GREEDY)
    assert [node.error for node in answer.nodes] == ["the step failed", None, None, None]
    assert [node.missing for node in answer.nodes] == [(), (), (1,), ()]
    assert not answer.complete
    assert answer.text == "\n\n".join(texts(answer)[1:])


def test_a_node_that_does_not_fit_fails_alone(engine):
    plan = Plan((PlanNode(1, "long " * 2000), PlanNode(2, "Which leaves?")))
    answer = engine.answer_by_skeleton(QUESTION, plan=plan, **GREEDY)
    assert "the context holds" in answer.nodes[0].error
    assert answer.nodes[1].error is None


def test_a_deadline_of_a_node_ends_that_one(engine):
    answer = engine.answer_by_skeleton(
        QUESTION, plan=PLAN, node_deadline_s=0.01, **{**GREEDY, "max_tokens": 1300}
    )
    assert {node.finish_reason for node in answer.nodes} == {"deadline"}
    assert all("the deadline has passed" in node.error for node in answer.nodes)
    whole = engine.answer_by_skeleton(QUESTION, plan=PLAN, deadline_s=0.1, **{**GREEDY, "max_tokens": 1300})
    assert whole.nodes[3].finish_reason is None
    assert "the deadline has passed" in whole.nodes[3].error


def test_cancelling_ends_all_and_gives_the_cells_back(engine):
    calls = []

    def soon():
        calls.append(1)
        return len(calls) > 20

    answer = engine.answer_by_skeleton(QUESTION, plan=PLAN, cancelled=soon, **{**GREEDY, "max_tokens": 1300})
    assert all("cancelled" in node.error for node in answer.nodes)
    engine.check()
    assert engine.metrics.cells_used == 0


def test_closing_the_stream_cancels_all(engine):
    chunks = engine.stream_by_skeleton(QUESTION, plan=PLAN, **{**GREEDY, "max_tokens": 1300})
    next(chunks)
    chunks.close()
    engine.check()
    assert engine.metrics.cells_used == 0
    assert engine.metrics.running == engine.metrics.waiting == 0
    assert not [t for t in threading.enumerate() if t.name.startswith("edgesdk-plan")]


def test_difficult_nodes_go_to_the_other_engine(model, engine):
    with edgesdk.Engine(model, token_budget=128, check_steps=True) as hard:
        answer = engine.answer_by_skeleton(QUESTION, plan=PLAN, hard=hard, hard_from=4, **GREEDY)
        assert hard.metrics.chosen_tokens == 20
        hard.check()
    assert engine.metrics.chosen_tokens == 20
    assert texts(answer) == texts(engine.answer_by_skeleton(QUESTION, plan=PLAN, **GREEDY))


def test_models_open_engines_for_the_call(model):
    answer = model.answer_by_skeleton(QUESTION, plan=PLAN, hard=model, **GREEDY)
    assert answer.nodes[0].by == "long-llama f32"
    assert texts(answer) == texts(edgesdk.answer_by_skeleton(model, QUESTION, plan=PLAN, **GREEDY))


def test_a_question_that_does_not_fit_is_one_error(engine):
    with pytest.raises(CapacityError):
        engine.answer_by_skeleton("why " * 2000, plan=PLAN)
    with pytest.raises(UnsupportedOption, match="the question is empty"):
        engine.stream_by_skeleton(" ")


def test_a_closed_engine_says_so(model):
    engine = edgesdk.Engine(model, token_budget=16)
    engine.close()
    with pytest.raises(DeviceError, match="closed"):
        engine.answer_by_skeleton(QUESTION)
