"""Streams in a draft: never chosen, never kept, and what they say reaches the next draft; answers stay."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgesdk.backends.fake import FakeStepBackend
from edgesdk.bundle.manifest import GenerationDefaults
from edgesdk.bundle.port import Port
from edgesdk.bundle.stack_record import STREAMS
from edgesdk.bundle.step_contract import step_contract
from edgesdk.bundle.step_shape import MAIN, StepShape
from edgesdk.bundle.uniform_decoder import LayerSpec, UniformDecoder
from edgesdk.decoding.accept import accept
from edgesdk.decoding.ahead import read_ahead, stream_rows
from edgesdk.decoding.answer import Answer
from edgesdk.decoding.choose import Chooser
from edgesdk.decoding.draft import Draft
from edgesdk.decoding.drafting import Drafting
from edgesdk.decoding.generate import generate
from edgesdk.decoding.judging import first_path
from edgesdk.decoding.options import GenerationOptions
from edgesdk.drafts.combine import CombinedDrafter
from edgesdk.drafts.lookup import Lookup
from edgesdk.drafts.stream_drafts import StreamDrafts
from edgesdk.drafts.stream_places import hang_streams
from edgesdk.kv.cell_sequence import CellSequence
from edgesdk.kv.step_runner import DraftTree, StepEntry, StepRunner

V, G = 330, 3


def make_backend(script=None, sizes=(1, 4, 16)):
    layers = (LayerSpec(None, None), LayerSpec(5, None))
    spec = UniformDecoder("llama", V, 8, 8, 1, 1, 2, 64, layers, 1e-5, "silu", 1.0).spec()
    contracts = {MAIN: step_contract(spec, inputs=(Port(STREAMS, ("T", G)),))}
    shapes = [StepShape(T, 64, T, f"t{T}") for T in sizes]
    return spec, FakeStepBackend(spec, shapes, script=script, contracts=contracts)


class Everywhere:
    """Drafts what it knows, errs now and then, has streams behind random rows, and notes what they said."""

    name = "everywhere"
    nbytes = 0

    def __init__(self, answer=(), seed=0):
        self.answer = list(answer)
        self.random = np.random.default_rng(seed)
        self.heard = []
        self.steps = []

    def propose(self, asked):
        return [self.one(request) for request in asked]

    def one(self, request):
        if request.ahead is not None:
            self.heard.append((request.tokens.tolist(), request.pending, request.ahead))
        draft = None
        known = request.tokens.tolist()
        after = self.answer[len(known) :] if self.answer[: len(known)] == known else []
        count = min(len(after), request.deepest, max(request.most // 2, 1), int(self.random.integers(0, 5)))
        if count:
            wrong = self.random.random(count) < 0.2
            chain = [5 if w else t for t, w in zip(after[:count], wrong, strict=True)]
            draft = Draft.chain(chain)
        size = 0 if draft is None else len(draft.tokens)
        nodes = [node for node in range(-1, size) if self.random.random() < 0.7]
        each = int(self.random.integers(1, G + 1))
        return hang_streams(draft, nodes, each, request.most - size, request.deepest)

    def learn(self, step):
        self.steps.append(step)

    def forget(self, key):
        pass

    def close(self):
        pass


def answer_with(byte_level, drafter=None, *, prompt=(1, 2, 3), limit=20, script=None, **options):
    spec, backend = make_backend(script)
    sequence = CellSequence(backend, spec, 64)
    asked = GenerationOptions(**options)
    chooser = Chooser(asked, GenerationDefaults(), V)
    chooser.observe(list(prompt))
    answer = Answer(byte_level, asked, limit=limit, prompt_tokens=len(prompt))
    drafting = None if drafter is None else Drafting(drafter, V)
    pieces = list(generate(sequence, np.array(prompt, np.int32), chooser, answer, lambda: False, drafting))
    if drafting is not None:
        assert drafting.on, drafting.note
    return pieces[-1].completion


@pytest.mark.parametrize("options", [{}, {"temperature": 0.9, "seed": 4}, {"repetition_penalty": 1.3}])
def test_streams_change_no_answer_and_say_what_a_plain_step_would(byte_level, options):
    plain = answer_with(byte_level, **options)
    drafter = Everywhere([1, 2, 3, *plain.tokens])
    found = answer_with(byte_level, drafter, **options)
    assert found.tokens == plain.tokens
    assert found.text == plain.text
    assert drafter.heard
    assert sum(d.streams for s in drafter.steps for d in s.drafts) > 0
    assert found.drafted_tokens == sum(d.drafted for s in drafter.steps for d in s.drafts)
    for tokens, pending, ahead in drafter.heard:
        spec, backend = make_backend()
        runner = StepRunner(backend, spec, 64)
        before = np.array(tokens[: len(tokens) - pending], np.int32)
        count = len(ahead.tokens)
        tree = DraftTree(
            np.zeros(count, np.int32),
            np.arange(-1, count - 1, dtype=np.int32),
            np.arange(1, count + 1, dtype=np.int32),
        )
        cells = runner.new_list()
        for at in range(0, len(before) - 1, 12):
            runner.run([StepEntry(cells, before[at : min(at + 12, len(before) - 1)], "none")])
        (rows,) = runner.run([StepEntry(cells, before[-1:], "last", tree)])
        again = read_ahead(rows, range(1, count + 1))
        np.testing.assert_array_equal(again.tokens, ahead.tokens)
        np.testing.assert_array_equal(again.shares, ahead.shares)


def test_a_combined_drafter_goes_on_with_what_streams_say(byte_level):
    plain = answer_with(byte_level)
    drafter = CombinedDrafter([Lookup(), StreamDrafts()], weigh=False, streams=G)
    found = answer_with(byte_level, drafter)
    assert found.tokens == plain.tokens
    figures = drafter.figures
    assert figures.stream_rows > 0
    assert figures.drafted_by_source[1] > 0


@pytest.mark.parametrize("place", [1, 2])
def test_what_streams_guess_right_saves_steps(byte_level, place):
    """The script is a text that repeats one token, which streams, as any row, say at once."""
    script = [1, 2, 3, *[7] * 40]
    plain = answer_with(byte_level, script=script, temperature=0.0, repetition_penalty=1.0)
    drafter = CombinedDrafter([StreamDrafts()], weigh=False, streams=place)
    found = answer_with(byte_level, drafter, script=script, temperature=0.0, repetition_penalty=1.0)
    assert found.tokens == plain.tokens
    assert found.steps < plain.steps / (1 + 0.7 * place)


def random_tree(random, tokens, streams):
    """A tree of tokens with streams behind some of them."""
    parents, numbers, said = [], [], []
    for _ in range(tokens):
        parent = int(random.integers(-1, len(parents)))
        token = int(random.integers(0, 4))
        if (parent, token) not in zip(parents, said, strict=True):
            parents.append(parent)
            said.append(token)
            numbers.append(0)
    draft = Draft(np.array(said, np.int32), np.array(parents, np.int32)) if said else None
    nodes = [n for n in range(-1, len(said)) if random.random() < 0.6]
    return hang_streams(draft, nodes, streams, 40, 40)


class Scripted:
    """Chooses the largest logit."""

    def choose(self, row, drawn=()):
        return int(row.argmax())


class Collect:
    """As much of an answer as `accept` uses."""

    def __init__(self, limit):
        self.tokens = []
        self.limit = limit
        self.counted = None

    def push(self, choice, now):
        self.tokens.append(choice)
        return [choice], "length" if len(self.tokens) >= self.limit else None

    def count_step(self, drafted, kept):
        self.counted = (drafted, kept)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 1 << 30), tokens=st.integers(0, 9), streams=st.integers(0, 3), limit=st.integers(1, 6)
)
def test_accepting_a_tree_is_enumerating_its_paths(seed, tokens, streams, limit):
    """The longest path of tokens from the root that the model's own choices agree with, by brute force."""
    random = np.random.default_rng(seed)
    draft = random_tree(random, tokens, streams)
    count = 0 if draft is None else len(draft.tokens)
    rows = random.standard_normal((1 + count, 4)).astype(np.float32)
    answer = Collect(limit)
    found = accept(Scripted(), answer, draft, rows, 0.0)

    choice = {-1: int(rows[0].argmax()), **{r: int(rows[r + 1].argmax()) for r in range(count)}}
    numbers = [0] * count if draft is None or draft.streams is None else draft.streams.tolist()
    best = ()
    for length in range(1, min(count, limit - 1) + 1):
        for path in itertools.combinations([row for row in range(count) if not numbers[row]], length):
            steps = zip((-1, *path), path, strict=False)
            if all(
                draft.parents[row] == before and draft.tokens[row] == choice[before] for before, row in steps
            ):
                best = path
    assert found.path == tuple(best)
    expected = [int(draft.tokens[row]) for row in best]
    expected.append(choice[best[-1] if best else -1])
    assert list(found.tokens) == expected[:limit]
    assert answer.counted == (sum(n == 0 for n in numbers), len(best))
    ahead = found.ahead(draft, rows)
    behind = stream_rows(draft.parents, draft.streams, best[-1] if best else -1) if any(numbers) else []
    if behind:
        assert ahead.tokens[:, 0].tolist() == [int(rows[row + 1].argmax()) for row in behind]
    else:
        assert ahead is None


def test_streams_out_of_order_are_no_draft():
    ids, two = np.zeros(2, np.int32), np.array([-1, 0], np.int32)
    Draft(ids, two, streams=np.array([1, 2], np.int32))
    for numbers in ([2, 1], [1, 0], [0, 2], [1, 1]):
        with pytest.raises(ValueError, match=r"is stream . and follows stream"):
            Draft(ids, two, streams=np.array(numbers, np.int32))
    with pytest.raises(ValueError, match="drafted twice"):
        Draft(ids, np.array([-1, -1], np.int32), streams=np.array([1, 1], np.int32))


def test_streams_are_cut_picked_and_left_out_of_chains():
    draft = hang_streams(Draft.chain([4, 5]), [-1, 0, 1], 2, 40, 40)
    assert draft.guesses == 2
    assert draft.streams.tolist() == [0, 0, 1, 2, 1, 2, 1, 2]
    assert draft.depths().tolist() == [0, 1, 0, 1, 1, 2, 2, 3]
    assert draft.cut(3).streams.tolist() == [0, 0, 1]
    kept = draft.pick([True, False, *[True] * 6])
    assert (kept.tokens.tolist(), kept.streams.tolist()) == ([4, 0, 0, 0, 0], [0, 1, 2, 1, 2])
    assert first_path(draft).tokens.tolist() == [4, 5]
    assert hang_streams(None, [], 2, 40, 40) is None
    assert len(hang_streams(None, [-1], 2, 40, 1).tokens) == 1


def test_a_stack_without_streams_refuses_them():
    layers = (LayerSpec(None, None),)
    spec = UniformDecoder("llama", V, 8, 8, 1, 1, 2, 64, layers, 1e-5, "silu", 1.0).spec()
    runner = StepRunner(FakeStepBackend(spec, [StepShape(4, 64, 4, "t4")]), spec, 64)
    tree = DraftTree(np.zeros(1, np.int32), np.array([-1], np.int32), np.array([1], np.int32))
    with pytest.raises(ValueError, match="the stack that runs has none"):
        runner.run([StepEntry(runner.new_list(), np.array([1], np.int32), "last", tree)])


def test_a_stream_is_never_kept():
    spec, backend = make_backend()
    runner = StepRunner(backend, spec, 64)
    cells = runner.new_list()
    tree = DraftTree(np.zeros(2, np.int32), np.array([-1, 0], np.int32), np.array([0, 1], np.int32))
    runner.run([StepEntry(cells, np.array([1], np.int32), "last", tree)])
    with pytest.raises(ValueError, match="no path"):
        runner.keep(cells, [0, 1])
    runner.keep(cells, [0])
    assert cells.length == 2


def test_numbers_that_are_none_say_nothing():
    rows = np.array([[0.0, 1.0], [np.nan, 0.0]], np.float32)
    assert read_ahead(rows, [1]) is None
    assert len(read_ahead(rows, [0, 1]).tokens) == 1
    assert SimpleNamespace(found=read_ahead(rows, [])).found is None
