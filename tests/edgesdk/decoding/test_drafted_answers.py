"""With drafts that are right, wrong or partly right: exactly the answer without."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgesdk.backends.fake import FakeStepBackend
from edgesdk.bundle.manifest import GenerationDefaults, StepShape
from edgesdk.bundle.uniform_decoder import LayerSpec, UniformDecoder
from edgesdk.decoding.answer import Answer
from edgesdk.decoding.choose import Chooser
from edgesdk.decoding.draft import Draft, DraftRequest
from edgesdk.decoding.drafting import Drafting
from edgesdk.decoding.generate import generate
from edgesdk.decoding.grammar import Grammar, GrammarTokenizer
from edgesdk.decoding.judging import first_path
from edgesdk.decoding.options import GenerationOptions
from edgesdk.drafts.combine import CombinedDrafter
from edgesdk.drafts.grammar_drafts import GrammarDrafts
from edgesdk.kv.cell_sequence import CellSequence

V = 330
RELAXED = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)


class Guess:
    """A drafter that proposes what a function makes of each request."""

    name = "guess"
    nbytes = 0

    def __init__(self, make):
        self.make = make
        self.asked = []
        self.steps = []
        self.forgotten = []
        self.closed = 0

    def propose(self, asked):
        self.asked += [(request.tokens.tolist(), request.most, request.deepest) for request in asked]
        return [self.make(request) for request in asked]

    def learn(self, step):
        self.steps.append(step)

    def forget(self, key):
        self.forgotten.append(key)

    def close(self):
        self.closed += 1


class PlainSequence:
    """A sequence whose backend runs chains only: nothing but what `TokenSequence` says."""

    def __init__(self, sequence):
        self.sequence = sequence
        for name in ("extend", "score", "truncate", "close"):
            setattr(self, name, getattr(sequence, name))

    @property
    def context(self):
        return self.sequence.context

    @property
    def length(self):
        return self.sequence.length


def make_sequence(script=None, context=48, sizes=((1, 1), (4, 4), (16, 16))):
    layers = (LayerSpec(None, None), LayerSpec(5, None))
    spec = UniformDecoder("llama", V, 8, 8, 1, 1, 2, 64, layers, 1e-5, "silu", 1.0).spec()
    shapes = [StepShape(T, 64, R, f"t{T}") for T, R in sizes]
    backend = FakeStepBackend(spec, shapes, script=script)
    return backend, CellSequence(backend, spec, context)


@pytest.fixture
def run(byte_level):
    """An answer to a prompt: its completion, its pieces of text, and the sequence after it."""

    def answer_to(prompt, drafter=None, *, limit=20, sequence=None, grammar=None, script=None, **options):
        asked = GenerationOptions(**options)
        found = None
        if grammar is not None:
            found = Grammar.of(GenerationOptions(**grammar), GrammarTokenizer(byte_level, V))
        chooser = Chooser(asked, GenerationDefaults(), V, grammar=found)
        chooser.observe(prompt)
        sequence = make_sequence(script)[1] if sequence is None else sequence
        limit = min(limit, sequence.context - len(prompt) + 1)
        answer = Answer(byte_level, asked, limit=limit, prompt_tokens=len(prompt))
        drafting = None if drafter is None else Drafting(drafter, V)
        ids = np.array(prompt, np.int32)
        pieces = list(generate(sequence, ids, chooser, answer, lambda: False, drafting))
        completion = pieces[-1].completion
        assert completion.text == "".join(piece.text for piece in pieces)
        if grammar is None:  # else the last choice may be several tokens
            assert sequence.length == len(prompt) + len(completion.tokens) - 1
        return completion, drafting

    return answer_to


def same(one, other):
    for name in ("text", "tokens", "finish_reason", "prompt_tokens", "new_tokens", "logprobs"):
        assert getattr(one, name) == getattr(other, name)


def right(tokens, count):
    """A drafter that knows the answer, `count` tokens of it at a time."""

    def make(request):
        begun = len(request.tokens) - request.prompt
        chain = tokens[begun : begun + min(count, request.deepest)]
        return Draft.chain(chain) if chain else None

    return Guess(make)


def test_right_drafts_save_steps(run):
    plain, _ = run([1, 2, 3])
    assert (plain.steps, plain.drafted_tokens, plain.kept_tokens) == (20, 0, 0)
    drafter = right(plain.tokens, 4)
    found, drafting = run([1, 2, 3], drafter)
    same(found, plain)
    # One of the prompt, then four drafted and one more: 1 + 5 + 5 + 5 + 4.
    assert (found.steps, found.drafted_tokens, found.kept_tokens) == (5, 15, 15)
    assert found.tokens_per_step == 4
    assert [(most, deepest) for _, most, deepest in drafter.asked] == [(15, 15), (15, 13), (15, 8), (15, 3)]
    assert [tokens for tokens, _, _ in drafter.asked][1] == [1, 2, 3, *plain.tokens[:6]]
    assert len(drafter.forgotten) == 1
    assert [(s.decoded, s.prefilled, [(d.drafted, d.kept) for d in s.drafts]) for s in drafter.steps] == [
        (0, 3, []),
        *[(1, 0, [(4, 4)])] * 3,
        (1, 0, [(3, 3)]),
    ]
    drafting.close()
    drafting.close()
    assert drafter.closed == 1


def test_wrong_and_partly_right_drafts_cost_nothing_but_rows(run):
    plain, _ = run([1, 2, 3])
    found, _ = run([1, 2, 3], Guess(lambda request: Draft.chain([7, 7])))
    same(found, plain)
    assert (found.steps, found.kept_tokens) == (20, 0)

    def half(request):
        begun = len(request.tokens) - request.prompt
        return Draft.chain([plain.tokens[begun], (plain.tokens[begun + 1] + 1) % V, 5][: request.deepest])

    found, _ = run([1, 2, 3], Guess(half))
    same(found, plain)
    assert (found.steps, found.kept_tokens) == (11, 9)


def tree(tokens, parents):
    return Draft(np.array(tokens, np.int32), np.array(parents, np.int32))


OPTIONS = {
    "greedy": {},
    "sampled": {"temperature": 0.8, "top_p": 0.9, "seed": 5},
    "top_k": {"temperature": 1.5, "top_k": 3, "seed": 6},
    "penalties": {
        "temperature": 0.4,
        "seed": 1,
        "repetition_penalty": 1.5,
        "frequency_penalty": 0.5,
        "presence_penalty": 0.3,
    },
    "logprobs": {"logprobs": 3},
    "stop": {"stop": ("a", "e", " t")},
    "bias": {"logit_bias": {70: 1.9, 71: 1.8, 72: 1.8}},
}


def random_tree(random, right_tokens, request, most):
    """A tree in which some tokens are right, some are not."""
    begun = len(request.tokens) - request.prompt
    tokens, parents, depths = [], [], []
    for _ in range(int(random.integers(1, most + 1))):
        row = len(tokens)
        parent = int(random.integers(-1, row)) if random.random() < 0.5 else row - 1
        depth = 0 if parent < 0 else depths[parent] + 1
        if depth >= request.deepest:
            parent, depth = -1, 0
        at = begun + depth
        token = right_tokens[at] if at < len(right_tokens) and random.random() < 0.7 else None
        token = int(random.integers(0, V)) if token is None else token
        if (parent, token) in set(zip(parents, tokens, strict=True)):
            continue
        tokens.append(token)
        parents.append(parent)
        depths.append(depth)
    return Draft(np.array(tokens, np.int32), np.array(parents, np.int32))


@RELAXED
@given(
    seed=st.integers(0, 1 << 30),
    options=st.sampled_from(sorted(OPTIONS)),
    limit=st.integers(1, 30),
    prompt=st.lists(st.integers(2, V - 1), min_size=1, max_size=40),
    chains=st.booleans(),
)
def test_any_tree_gives_the_answer_without_drafts(run, seed, options, limit, prompt, chains):
    plain, _ = run(prompt, limit=limit, **OPTIONS[options])
    random = np.random.default_rng(seed)
    drafter = Guess(
        lambda request: (
            random_tree(random, plain.tokens, request, request.most) if random.random() < 0.8 else None
        )
    )
    sequence = make_sequence()[1]
    found, drafting = run(
        prompt,
        drafter,
        limit=limit,
        sequence=PlainSequence(sequence) if chains else sequence,
        **OPTIONS[options],
    )
    same(found, plain)
    assert drafting.note is None
    assert found.kept_tokens <= found.drafted_tokens
    assert found.steps + found.kept_tokens >= found.new_tokens


def test_nothing_after_an_end_token_gets_a_cell(run, byte_level):
    eos = byte_level.record.eos_ids[0]
    script = [1, 2, 3, 70, 71, 72, eos, 74, 75]
    drafter = right([70, 71, 72, eos, 74, 75], 6)
    _, sequence = make_sequence(script)
    found, _ = run([1, 2, 3], drafter, sequence=sequence)
    assert (found.tokens, found.finish_reason, found.steps) == ((70, 71, 72, eos), "stop", 2)
    assert sequence.length == 6
    ignoring, _ = run([1, 2, 3], right([70, 71, 72, eos, 74, 75], 6), script=script, limit=6, ignore_eos=True)
    assert (ignoring.tokens, ignoring.finish_reason) == ((70, 71, 72, eos, 74, 75), "length")


def test_the_end_of_the_context_is_reached_and_not_passed(run):
    plain, _ = run([1, 2, 3], limit=100)
    assert (plain.new_tokens, plain.finish_reason) == (46, "length")
    found, _ = run([1, 2, 3], right(plain.tokens, 15), limit=100)
    same(found, plain)
    assert found.steps == 4  # 1 + 16 + 16 + 13


def test_sizes_say_how_many_drafts_there_are(run):
    plain, _ = run([1, 2, 3])
    for sizes, most in ((((1, 1), (8, 1)), 0), (((8, 4),), 3), (((1, 1), (2, 2), (32, 3)), 2)):
        drafter = right(plain.tokens, 15)
        drafter.make = lambda request, make=drafter.make: make(request) and make(request).cut(request.most)
        found, drafting = run([1, 2, 3], drafter, sequence=make_sequence(sizes=sizes)[1])
        same(found, plain)
        assert drafting.note is None
        assert max((m for _, m, _ in drafter.asked), default=0) == most


GRAMMARS = {
    "json": {
        "json_schema": {
            "type": "object",
            "properties": {"name": {"type": "string", "maxLength": 4}, "kind": {"enum": ["fox", "dog"]}},
            "required": ["name", "kind"],
            "additionalProperties": False,
        }
    },
    "regex": {"regex": "(the|quick) (brown fox|lazy dog) jumps [0-9]{1,3} times"},
}


@pytest.mark.parametrize("grammar", sorted(GRAMMARS))
@pytest.mark.parametrize("options", ["greedy", "sampled", "penalties", "logprobs"])
def test_grammars_and_what_they_force(run, grammar, options):
    plain, _ = run([1, 2, 3], limit=44, grammar=GRAMMARS[grammar], **OPTIONS[options])
    for seed in range(8):
        random = np.random.default_rng(seed)
        drafters = [
            Guess(lambda request, random=random: random_tree(random, plain.tokens, request, request.most)),
            right(plain.tokens, 1 + seed),
            CombinedDrafter([GrammarDrafts()], weigh=False),
        ]
        for drafter in drafters:
            found, drafting = run([1, 2, 3], drafter, limit=44, grammar=GRAMMARS[grammar], **OPTIONS[options])
            same(found, plain)
            assert drafting.note is None


def test_text_that_a_grammar_forces_saves_steps(run):
    # ' t' must come each time, and is one token or the beginning of one.
    pattern = {"regex": "(x|y)( t[a-z]{3}){8}"}
    plain, _ = run([1, 2, 3], limit=44, grammar=pattern)
    drafter = CombinedDrafter([GrammarDrafts()], weigh=False)
    found, _ = run([1, 2, 3], drafter, limit=44, grammar=pattern)
    same(found, plain)
    assert found.steps + found.kept_tokens == plain.steps
    assert found.kept_tokens >= 3
    assert drafter.figures.sources == ("grammar",)


def test_a_grammar_takes_from_a_draft_and_adds_to_it(run):
    pattern = {"regex": "(cats|dogs) like to sleep"}
    plain, _ = run([1, 2, 3], limit=44, grammar=pattern)
    drafted = []

    def first(request):
        begun = len(request.tokens) - request.prompt
        drafted.append(list(plain.tokens[begun:][:1]))
        return Draft.chain([*drafted[-1], 7, 7]) if drafted[-1] else None

    found, _ = run([1, 2, 3], Guess(first), limit=44, grammar=pattern)
    same(found, plain)
    # One token was known, and the two after it may not come: all that follows from it is judged in its place.
    assert found.kept_tokens == found.drafted_tokens
    assert found.kept_tokens >= len(drafted)
    found, _ = run([1, 2, 3], Guess(lambda request: tree([7, 5, 7], [-1, 0, -1])), limit=44, grammar=pattern)
    same(found, plain)
    assert found.drafted_tokens == 0


class Broken(Guess):
    """Fails in one of its methods, from its n-th proposal on."""

    def __init__(self, make, at, method="propose"):
        super().__init__(make)
        self.left = at
        self.method = method

    def propose(self, asked):
        self.left -= 1
        if self.left < 0 and self.method == "propose":
            raise RuntimeError("lost its mind")
        return super().propose(asked)

    def learn(self, step):
        if self.method == "learn":
            raise KeyError("x")

    def forget(self, key):
        if self.method == "forget":
            raise OSError("x")


NONSENSE = {
    "ids out of range": (lambda r: Draft.chain([V]), "outside the vocabulary of 330"),
    "negative ids": (lambda r: Draft.chain([-1]), "outside the vocabulary of 330"),
    "too many": (
        lambda r: Draft(np.arange(r.most + 1, dtype=np.int32), np.full(r.most + 1, -1, np.int32)),
        "at most",
    ),
    "too deep": (lambda r: Draft.chain([5] * (r.deepest + 1)), "at most"),
    "a cycle": (
        lambda r: tree([5, 6], [1, 0]),
        "expected one before",
    ),
    "twins": (lambda r: tree([5, 5], [-1, -1]), "drafted twice"),
    "other types": (lambda r: Draft(np.array([5.0]), np.array([-1])), "not int32"),
    "nothing at all": (lambda r: Draft.chain([]), "0"),
    "no draft": (lambda r: [5, 6], "a draft is a list"),
}


@pytest.mark.parametrize("name", sorted(NONSENSE))
def test_a_drafter_that_talks_nonsense_is_switched_off(run, name):
    make, message = NONSENSE[name]
    plain, _ = run([1, 2, 3])
    drafter = Guess(make)
    found, drafting = run([1, 2, 3], drafter, sequence=make_sequence(sizes=((1, 1), (8, 8)))[1])
    same(found, plain)
    assert message in drafting.note
    assert drafting.note.startswith("drafts by guess are off: it failed: ")
    assert len(drafter.asked) == 1
    assert not drafting.on


@pytest.mark.parametrize("method", ["propose", "learn", "forget"])
def test_a_drafter_that_raises_is_switched_off(run, method):
    plain, _ = run([1, 2, 3])
    drafter = Broken(right(plain.tokens, 2).make, 3, method)
    found, drafting = run([1, 2, 3], drafter)
    same(found, plain)
    assert "it failed" in drafting.note
    assert found.kept_tokens == {"propose": 6, "learn": 0, "forget": 12}[method]


def test_drafts_of_another_number_are_none(run):
    plain, _ = run([1, 2, 3])
    drafter = Guess(None)
    drafter.propose = lambda asked: []
    found, drafting = run([1, 2, 3], drafter)
    same(found, plain)
    assert "0 drafts for 1 answers" in drafting.note


def test_a_drafter_that_hangs_for_a_while_is_asked_once(byte_level):
    now = [0.0]
    drafter = Guess(lambda request: Draft.chain([5]))
    drafting = Drafting(drafter, V, clock=lambda: now[0])
    request = DraftRequest(1, np.zeros(3, np.int32), 4, 4)
    assert drafting.propose([request])[0] is not None
    make = drafter.make

    def slowly(request):
        now[0] += 30.0
        return make(request)

    drafter.make = slowly
    assert drafting.propose([request])[0] is not None
    assert drafting.note == "drafts by guess are off: it took 30.0 s for a draft"
    assert drafting.propose([request]) == [None]
    assert drafting.draft_s == 30.0


def test_parts_of_a_draft():
    draft = tree([5, 6, 7, 8, 9], [-1, -1, 0, 1, 2])
    assert draft.paths() == [[5], [6], [5, 7], [6, 8], [5, 7, 9]]
    assert draft.depths().tolist() == [0, 0, 1, 1, 2]
    assert not draft.is_chain
    picked = draft.pick([True, True, False, True, True])
    assert (picked.tokens.tolist(), picked.parents.tolist()) == ([5, 6, 8], [-1, -1, 1])
    assert draft.pick([False, False, True, True, True]) is None
    cut = draft.cut(3)
    assert (cut.tokens.tolist(), cut.parents.tolist()) == ([5, 6, 7], [-1, -1, 0])
    assert (draft.cut(0), draft.cut(5)) == (None, draft)
    chain = first_path(draft)
    assert (chain.tokens.tolist(), chain.is_chain) == ([5, 7, 9], True)


def test_an_interrupt_is_the_callers(run):
    def strike(request):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run([1, 2, 3], Guess(strike))


def test_an_answer_that_is_found_dead_in_the_middle_of_a_proposal_is_forgotten_later():
    drafting = None

    def collect(request):
        drafting.forget(77)  # as the collector of garbage may, in this very thread
        return

    drafter = Guess(collect)
    drafting = Drafting(drafter, V)
    request = DraftRequest(1, np.zeros(3, np.int32), 4, 4)
    assert drafting.propose([request]) == [None]
    assert drafter.forgotten == []
    drafting.propose([request])
    assert drafter.forgotten == [77]
    drafting.forget(78)
    assert drafter.forgotten == [77, 77, 78]


def test_a_drafter_that_is_off_leaves_nothing_behind_of_later_answers():
    dropped = []

    class Key(int):
        def __del__(self):
            dropped.append(int(self))

    drafting = Drafting(Guess(None), V)  # raises
    assert drafting.propose([DraftRequest(1, np.zeros(3, np.int32), 4, 4)]) == [None]
    assert not drafting.on
    for key in range(100, 110):
        drafting.forget(Key(key))
    assert dropped == list(range(100, 110))


def test_a_stream_that_is_cancelled_or_left_forgets_its_drafts(byte_level):
    for cancel in (True, False):
        drafter = Guess(lambda request: None)
        asked = GenerationOptions()
        chooser = Chooser(asked, GenerationDefaults(), V)
        answer = Answer(byte_level, asked, limit=20, prompt_tokens=3)
        stop = []
        sequence = make_sequence()[1]
        pieces = generate(
            sequence, np.array([1, 2, 3], np.int32), chooser, answer, stop.__len__, Drafting(drafter, V)
        )
        next(pieces)
        if cancel:
            stop.append(1)
            assert list(pieces)[-1].completion.finish_reason == "cancelled"
        else:
            pieces.close()
        assert len(drafter.forgotten) == 1


def test_what_was_held_before_is_unknown_to_a_drafter_so_it_is_not_asked(byte_level):
    sequence = make_sequence()[1]
    sequence.extend(np.array([4, 5], np.int32))
    drafter = Guess(lambda request: Draft.chain([7]))
    asked = GenerationOptions()
    chooser = Chooser(asked, GenerationDefaults(), V)
    answer = Answer(byte_level, asked, limit=5, prompt_tokens=1)
    pieces = generate(sequence, np.array([1], np.int32), chooser, answer, lambda: False, Drafting(drafter, V))
    assert list(pieces)[-1].completion.new_tokens == 5
    assert not drafter.asked
