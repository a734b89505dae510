"""Engines with drafts: every answer as without, whatever is drafted, preempted, forked, restored or full."""

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgesdk.decoding.draft import Draft
from edgesdk.decoding.draft_source import DraftSource
from edgesdk.drafts.combine import CombinedDrafter
from edgesdk.drafts.grammar_drafts import GrammarDrafts
from edgesdk.engine.engine import Engine
from edgesdk.engine.scheduler import share_drafts
from edgesdk.engine.step_plan import PlannedWork, StepPlan
from edgesdk.errors import DeviceError
from edgesdk.kv.step_model import StepModel
from edgesdk.model import Model

from .conftest import CONTEXT, RECEIPT, SlowBackend, fake_shapes

V = 330


class Oracle:
    """A drafter that knows what each prompt is answered, and errs as often as it is told to."""

    name = "oracle"
    nbytes = 0

    def __init__(self, answers, count=4, wrong=0.0, trees=False, seed=0):
        self.answers = answers
        self.count = count
        self.wrong = wrong
        self.trees = trees
        self.random = np.random.default_rng(seed)
        self.asked = []
        self.steps = []
        self.forgotten = []
        self.closed = False

    def propose(self, asked):
        self.asked.append([(request.key, len(request.tokens), request.most) for request in asked])
        return [self.draft(request) for request in asked]

    def draft(self, request):
        tokens = request.tokens.tolist()
        whole = next((a for a in self.answers if a[: len(tokens)] == tokens), None)
        if whole is None:
            return None
        depth = min(self.count, request.deepest, request.most)
        found = []
        for token in whole[len(tokens) : len(tokens) + depth]:
            found.append((token + 1) % V if self.random.random() < self.wrong else token)
        if not found:
            return None
        if not self.trees or len(found) == request.most:
            return Draft.chain(found)
        # A wrong sibling first, with a child of its own where there is room.
        tokens, parents = [(found[0] + 2) % V], [-1]
        for row, token in enumerate(found[: request.most - 1]):
            tokens.append(token)
            parents.append(-1 if row == 0 else row)
        return Draft(np.array(tokens, np.int32), np.array(parents, np.int32))

    def learn(self, step):
        self.steps.append(step)

    def forget(self, key):
        self.forgotten.append(key)

    def close(self):
        self.closed = True


@pytest.fixture
def make_drafting(fake_bundle):
    """Engines over the fake backend with a drafter; they check their cells after every step."""
    engines = []

    def make(drafter, *, script=None, context=CONTEXT, token_budget=16, rows=16, **options):
        decoder = fake_bundle.manifest.decoder
        backend = SlowBackend(decoder, fake_shapes(cells=(48, context), rows=rows), script=script)
        drafts = DraftSource(drafter, lambda: drafter, V)
        model = Model(fake_bundle, StepModel(backend, decoder, context), RECEIPT, drafts=drafts)
        engine = Engine(model, token_budget=token_budget, check_steps=True, **options)
        engine.backend = backend
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        engine.close(drain=False)


@pytest.fixture
def knowing(prompts, greedy):
    """Some prompts, their answers, and an oracle that knows them."""

    def make(number, length, tokens, **options):
        asked = prompts(number, length)
        answers = [greedy(prompt, tokens) for prompt in asked]
        return asked, answers, Oracle([[*p, *a] for p, a in zip(asked, answers, strict=True)], **options)

    return make


@pytest.mark.parametrize("trees", [False, True])
@pytest.mark.parametrize("wrong", [0.0, 0.3, 1.0])
def test_batched_answers_are_those_without_drafts(make_drafting, knowing, wrong, trees):
    asked, answers, oracle = knowing(3, 7, 24, wrong=wrong, trees=trees)
    engine = make_drafting(oracle)
    running = [engine.submit(prompt, max_tokens=24, ignore_eos=True) for prompt in asked]
    assert [g.result(20).tokens for g in running] == answers
    engine.check()
    metrics = engine.metrics
    assert metrics.chosen_tokens == 72
    if wrong < 1:
        assert metrics.steps < 30
        assert 0 < metrics.kept_tokens <= metrics.drafted_tokens
        assert {g.result().kept_tokens > 0 for g in running} == {True}
    else:
        assert metrics.kept_tokens == 0
    assert metrics.kept_tokens == sum(g.metrics.kept_tokens for g in running)
    assert metrics.drafted_tokens == sum(g.result().drafted_tokens for g in running)
    # Every token is run once: prompts, and answers without their last.
    assert metrics.tokens == 3 * (7 + 23)
    assert len(set(oracle.forgotten)) == 3
    judged = [draft for step in oracle.steps for draft in step.drafts]
    assert sum(draft.drafted for draft in judged) == metrics.drafted_tokens
    assert sum(draft.kept for draft in judged) == metrics.kept_tokens


def test_drafts_take_what_a_step_leaves(make_drafting, knowing):
    asked, answers, oracle = knowing(3, 40, 12, count=12)
    engine = make_drafting(oracle, token_budget=8, context=160)
    running = [engine.submit(prompt, max_tokens=12, ignore_eos=True) for prompt in asked]
    assert [g.result(20).tokens for g in running] == answers
    for shape in engine.backend.runs:
        assert shape.tokens <= 16
    # While a prompt takes the rest of the budget nobody drafts; alone, one has all of it but its own token.
    assert max(most for call in oracle.asked for _, _, most in call) == 7


def test_rows_beyond_those_of_one_run_are_not_drafted(make_drafting, knowing):
    asked, answers, oracle = knowing(2, 5, 16, count=12)
    engine = make_drafting(oracle, rows=4)
    running = [engine.submit(prompt, max_tokens=16, ignore_eos=True) for prompt in asked]
    assert [g.result(20).tokens for g in running] == answers
    assert max(most for call in oracle.asked for _, _, most in call) <= 3
    assert len(engine.backend.runs) == engine.metrics.steps


def test_preempted_answers_go_on_with_drafts(make_drafting, knowing):
    asked, answers, oracle = knowing(3, 10, 60, wrong=0.2)
    engine = make_drafting(oracle, prefix_cache_mb=0)
    running = [engine.submit(prompt, max_tokens=60, ignore_eos=True) for prompt in asked]
    assert [g.result(30).tokens for g in running] == answers
    assert engine.metrics.preemptions > 0
    engine.check()


def test_a_full_pool_drafts_only_what_has_cells(make_drafting, knowing):
    asked, answers, oracle = knowing(1, 10, 87, count=12)
    engine = make_drafting(oracle, prefix_cache_mb=0)
    assert engine.generate(asked[0], max_tokens=200, ignore_eos=True).tokens == answers[0]
    assert engine.metrics.steps < 20
    engine.check()


def test_the_prefix_cache_makes_room_for_drafts(make_drafting, knowing):
    asked, answers, oracle = knowing(8, 30, 20, count=8)
    engine = make_drafting(oracle)
    for prompt, answer in zip(asked, answers, strict=True):
        before = engine.metrics.kept_tokens
        assert engine.generate(prompt, max_tokens=20, ignore_eos=True).tokens == answer
        assert engine.metrics.kept_tokens == before + 16  # as many as with an empty cache
        engine.check()
    again = engine.submit(asked[-1], max_tokens=20, ignore_eos=True)
    assert again.result(20).tokens == answers[-1]
    assert again.metrics.cached_tokens == 29


def test_samples_fork_and_draft_apart(make_drafting, knowing):
    asked, answers, oracle = knowing(1, 9, 20, wrong=0.3)
    engine = make_drafting(oracle, token_budget=16)
    found = engine.submit(asked[0], n=4, max_tokens=20, ignore_eos=True).results(20)
    assert {each.tokens for each in found} == {answers[0]}
    keys = {key for call in oracle.asked for key, _, _ in call}
    assert len(keys) == 4
    assert set(oracle.forgotten) == keys


@pytest.mark.parametrize("temperature", [0.7, 1.5])
def test_sampled_with_a_seed_is_plain_with_that_seed(make_drafting, make_engine, prompts, temperature):
    options = {"temperature": temperature, "top_p": 0.95, "seed": 11, "max_tokens": 20, "ignore_eos": True}
    asked = prompts(3, 6)
    plain = make_engine(token_budget=16)
    expected = [[r.tokens for r in plain.submit(p, n=2, **options).results(20)] for p in asked]
    oracle = Oracle([[*p, *a] for p, each in zip(asked, expected, strict=True) for a in each], wrong=0.2)
    engine = make_drafting(oracle)
    running = [engine.submit(p, n=2, **options) for p in asked]
    assert [[r.tokens for r in g.results(20)] for g in running] == expected
    assert engine.metrics.kept_tokens > 20


def test_sessions_keep_what_was_kept_and_nothing_else(make_drafting, knowing, greedy, tmp_path):
    asked, answers, oracle = knowing(1, 12, 14, count=5, wrong=0.3)
    engine = make_drafting(oracle, prefix_cache_mb=0)
    with engine.session() as session:
        session.append(asked[0])
        assert session.generate(max_tokens=14, ignore_eos=True).tokens == answers[0]
        assert session.tokens == (*asked[0], *answers[0])
        copy = session.fork()
        session.save(tmp_path / "state")
        whole = [*asked[0], *answers[0], 9, 8]
        oracle.answers = [[*whole, *greedy(whole, 10)]]
        assert session.generate([9, 8], max_tokens=10, ignore_eos=True).tokens == greedy(whole, 10)
        assert copy.generate([9, 8], max_tokens=10, ignore_eos=True).tokens == greedy(whole, 10)
        copy.rewind(20)
        back = [*whole[:20], 9, 8]
        oracle.answers = [[*back, *greedy(back, 10)]]
        assert copy.generate([9, 8], max_tokens=10, ignore_eos=True).tokens == greedy(back, 10)
        copy.close()
    restored = engine.load_session(tmp_path / "state")
    assert restored.generate([9, 8], max_tokens=10, ignore_eos=True).tokens == greedy(whole, 10)
    restored.close()
    engine.check()
    assert engine.metrics.cells_used == 0


def test_an_end_token_among_drafts_ends_an_answer(make_drafting, byte_level):
    eos = byte_level.record.eos_ids[0]
    script = [5, 6, 7, 70, 71, 72, eos, 73, 74, 75, 76]
    oracle = Oracle([script], count=6)
    engine = make_drafting(oracle, script=script)
    done = engine.generate([5, 6, 7], max_tokens=20)
    assert (done.tokens, done.finish_reason, done.steps) == ((70, 71, 72, eos), "stop", 2)
    assert engine.metrics.cached_cells == 6
    done = engine.generate([5, 6, 7], max_tokens=20, stop=[byte_level.decode([72])])
    assert (done.finish_reason, done.tokens) == ("stop_string", (70, 71, 72))
    engine.check()


def test_the_limit_ends_an_answer_among_drafts(make_drafting, knowing):
    asked, answers, oracle = knowing(1, 5, 30, count=12)
    engine = make_drafting(oracle)
    for most in range(1, 16):
        done = engine.generate(asked[0], max_tokens=most, ignore_eos=True)
        assert (done.tokens, done.finish_reason) == (answers[0][:most], "length")
        engine.check()


def test_a_failing_drafter_is_switched_off_for_the_engine(make_drafting, knowing):
    asked, answers, oracle = knowing(2, 6, 20)
    draft, calls = oracle.draft, itertools.count()

    def fail(request):
        if next(calls) > 5:
            raise RuntimeError("lost its mind")
        return draft(request)

    oracle.draft = fail
    engine = make_drafting(oracle)
    running = [engine.submit(prompt, max_tokens=20, ignore_eos=True) for prompt in asked]
    assert [g.result(20).tokens for g in running] == answers
    (note,) = engine.model.receipt.notes
    assert note == "drafts by oracle are off: it failed: RuntimeError: 'lost its mind'"
    count = len(oracle.asked)
    assert engine.generate(asked[0], max_tokens=20, ignore_eos=True).tokens == answers[0]
    assert len(oracle.asked) == count
    engine.close()
    assert oracle.closed


def test_a_step_that_fails_takes_its_answers_along_and_leaves_no_cell(make_drafting, knowing):
    asked, answers, oracle = knowing(2, 6, 20)
    engine = make_drafting(oracle, prefix_cache_mb=0)
    draft = oracle.draft

    def break_the_step(request):
        engine.backend.failure = DeviceError("device lost")
        return draft(request)

    oracle.draft = break_the_step
    with pytest.raises(DeviceError, match="device lost"):
        engine.generate(asked[0], max_tokens=20, ignore_eos=True)
    oracle.draft = draft
    assert engine.generate(asked[1], max_tokens=20, ignore_eos=True).tokens == answers[1]
    engine.check()
    assert engine.metrics.cells_used == 0
    assert len(set(oracle.forgotten)) == 2


def test_cancelled_while_drafting(make_drafting, knowing):
    asked, answers, oracle = knowing(3, 6, 60)
    engine = make_drafting(oracle, prefix_cache_mb=0, context=160)
    running = [engine.submit(prompt, max_tokens=60, ignore_eos=True) for prompt in asked]
    next(running[0])
    running[0].cancel()
    for generation, answer in zip(running, answers, strict=True):
        tokens = generation.result(20).tokens
        assert tokens == answer[: len(tokens)]
    engine.check()
    assert engine.metrics.cells_used == 0
    assert len(set(oracle.forgotten)) == 3


def test_what_grammars_force_is_drafted_beside_free_answers(make_drafting, make_engine, prompts):
    pytest.importorskip("llguidance")
    pattern = "(x|y)( t[a-z]{3}){4}"
    asked = prompts(4, 9)
    drafter = CombinedDrafter([GrammarDrafts()], weigh=False)
    found = []
    for engine in (make_engine(), make_drafting(drafter)):
        options = {"max_tokens": 30, "ignore_eos": True}
        running = [
            engine.submit(prompt, **options, **({"regex": pattern} if i % 2 else {}), temperature=0.7, seed=i)
            for i, prompt in enumerate(asked)
        ]
        found.append([one.result(30).tokens for one in running])
        engine.check()
    assert found[0] == found[1]
    assert engine.metrics.kept_tokens > 0
    assert not engine.model.drafts.notes
    assert drafter.figures.kept == engine.metrics.kept_tokens


def work(branch_id, kind="decode"):
    return PlannedWork(branch_id, 5, 1, kind)


@settings(deadline=None)
@given(
    offered=st.dictionaries(st.integers(0, 5), st.integers(0, 9)),
    spare=st.integers(0, 20),
    most=st.integers(-3, 20),
)
def test_drafts_share_what_is_left_in_equal_parts(offered, spare, most):
    plan = StepPlan(tuple(map(work, range(4))), spare=spare)
    shared = share_drafts(plan, offered, most)
    assert [(w.branch_id, w.start, w.count, w.kind) for w in shared.work] == [
        (w.branch_id, w.start, w.count, w.kind) for w in plan.work
    ]
    given = {w.branch_id: w.drafts for w in shared.work}
    wanted = {branch_id: offered.get(branch_id, 0) for branch_id in range(4)}
    assert all(0 <= given[b] <= wanted[b] for b in given)
    assert shared.drafts == max(0, min(sum(wanted.values()), spare, most))
    for a in given:
        for b in given:
            if given[a] < wanted[a]:
                assert given[b] <= given[a] + 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(data=st.data())
def test_any_mixture_is_each_alone(make_drafting, greedy, data):
    """Prompts of any length, drafts of any quality, pools of any size: the tokens of each alone."""
    count = data.draw(st.integers(1, 4))
    lengths = [data.draw(st.integers(1, 30)) for _ in range(count)]
    seed = data.draw(st.integers(0, 1 << 20))
    random = np.random.default_rng(seed)
    asked = [random.integers(2, V, length).tolist() for length in lengths]
    limits = [data.draw(st.integers(1, 40)) for _ in range(count)]
    answers = [greedy(p, most) for p, most in zip(asked, limits, strict=True)]
    oracle = Oracle(
        [[*p, *a] for p, a in zip(asked, answers, strict=True)],
        count=data.draw(st.integers(1, 8)),
        wrong=data.draw(st.sampled_from([0.0, 0.2, 0.6])),
        trees=data.draw(st.booleans()),
        seed=seed,
    )
    engine = make_drafting(
        oracle,
        token_budget=data.draw(st.sampled_from([8, 16])),
        rows=data.draw(st.sampled_from([4, 8, 16])),
        prefix_cache_mb=data.draw(st.sampled_from([0, None])),
        chunked=data.draw(st.booleans()),
        hybrid=data.draw(st.booleans()),
    )
    running = [
        engine.submit(p, max_tokens=most, ignore_eos=True) for p, most in zip(asked, limits, strict=True)
    ]
    assert [g.result(30).tokens for g in running] == answers
    engine.check()
    engine.close()
