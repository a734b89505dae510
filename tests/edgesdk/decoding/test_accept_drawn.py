"""What is drawn with drafts is distributed as without them: chi-square over many draws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesdk.bundle.manifest import GenerationDefaults
from edgesdk.decoding.accept import accept
from edgesdk.decoding.accept_drawn import accept_drawn
from edgesdk.decoding.answer import Answer
from edgesdk.decoding.choose import Chooser
from edgesdk.decoding.draft import Chances, Draft
from edgesdk.decoding.grammar import Grammar, GrammarTokenizer
from edgesdk.decoding.options import GenerationOptions
from edgesdk.decoding.sampling import Sampler, SamplingOptions, draw
from edgesdk.drafts.stream_places import hang_streams

DRAWS = 20_000
MOST_Z = 3.7
"""What chance passes once in ten thousand runs; the seeds are fixed."""


def chances(shares, ids=None):
    shares = np.asarray(shares, np.float64)
    return Chances(np.arange(len(shares)) if ids is None else np.asarray(ids), shares / shares.sum())


def draw_siblings(q, count, random):
    """Tokens without replacement, in order."""
    left = q.shares.copy()
    found = []
    for _ in range(min(count, int((left > 0).sum()))):
        at = draw(left, random)
        found.append((int(q.ids[at]), q))
        left[at] = 0.0
    return found


def expect_distribution(counts, p):
    """Refuses counts that do not come from p: chi-square, its normal approximation by Wilson and Hilferty."""
    counts, p = np.asarray(counts, float), np.asarray(p, float)
    assert not counts[p == 0].any()
    rare = p * counts.sum() < 5
    counts = np.array([*counts[~rare], counts[rare].sum()])
    expected = np.array([*p[~rare], p[rare].sum()]) * counts.sum()
    if expected[-1] < 5:
        assert counts[-1] <= 20
        counts, expected = counts[:-1], expected[:-1]
    free = len(counts) - 1
    if not free:
        return
    statistic = float(((counts - expected) ** 2 / expected).sum())
    spread = 2 / (9 * free)
    assert ((statistic / free) ** (1 / 3) - (1 - spread)) / spread**0.5 < MOST_Z


P = [0.4, 0.3, 0.15, 0.1, 0.05, 0.0]
QS = {
    "equal": P,
    "flat": [1, 1, 1, 1, 1, 1],
    "turned": P[::-1],
    "a point": [0, 0, 1, 0, 0, 0],
    "elsewhere": [0, 0, 0, 0, 0, 1],
    "half": [0.5, 0.5, 0, 0, 0, 0],
}


@pytest.mark.parametrize("siblings", [1, 2, 4])
@pytest.mark.parametrize("name", sorted(QS))
def test_what_comes_out_is_distributed_as_p(name, siblings):
    random = np.random.default_rng(7)
    p, q = np.array(P), chances(QS[name])
    ids = np.arange(6)
    counts = np.zeros(6, int)
    kept = 0
    for _ in range(DRAWS):
        token, left = accept_drawn(ids, p, draw_siblings(q, siblings, random), random)
        kept += token is not None
        assert abs(left.sum() - 1) < 1e-9
        counts[draw(left, random) if token is None else token] += 1
    expect_distribution(counts, p)
    if siblings == 1:  # acceptance is what the two have in common
        common = float(np.minimum(p, q.shares).sum())
        assert abs(kept / DRAWS - common) < 4 * np.sqrt(max(common * (1 - common), 1e-9) / DRAWS) + 1e-9


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_exactly_by_every_way_that_there_is(data):
    """Sums over all drafts and all random numbers, instead of draws."""
    numbers = st.lists(st.integers(0, 5), min_size=4, max_size=4).filter(any)
    p = chances(data.draw(numbers)).shares
    q = chances(data.draw(numbers))

    class Fixed:
        """Says whether to keep."""

        def __init__(self, keep):
            self.keep = keep

        def random(self):
            return 0.0 if self.keep else 1.0

    found = np.zeros(4)
    for token in np.flatnonzero(q.shares):
        keeps = min(1.0, p[token] / q.shares[token])
        one = accept_drawn(np.arange(4), p, [(int(token), q)], Fixed(True))
        assert (one[0] is not None) == (p[token] > 0)
        found[token] += q.shares[token] * keeps
        if keeps < 1:
            other, left = accept_drawn(np.arange(4), p, [(int(token), q)], Fixed(False))
            assert other is None
            found += q.shares[token] * (1 - keeps) * left
    np.testing.assert_allclose(found, p, atol=1e-12)


V = 12
LOGITS = np.random.default_rng(0).normal(0, 1.5, (4, V)).astype(np.float32)
DRAFT_LOGITS = LOGITS + np.random.default_rng(1).normal(0, 1, (4, V)).astype(np.float32)

OPTIONS = {
    "plain": {"temperature": 1.0},
    "cool, top-p": {"temperature": 0.6, "top_p": 0.8},
    "top-k, min-p": {"temperature": 1.3, "top_k": 5, "min_p": 0.05},
    "penalties": {
        "temperature": 1.0,
        "repetition_penalty": 1.4,
        "presence_penalty": 0.4,
        "frequency_penalty": 0.3,
    },
    "typical, bias": {"temperature": 1.0, "typical_p": 0.9, "logit_bias": {3: 1.0, 4: -100.0}},
}


def plain_pairs(sampler_of, tokens):
    """The distribution of the first two tokens without drafts: (V, V), by the sampler's own shape."""
    first = sampler_of()
    shares = np.zeros((V, V))
    one = first.shape(LOGITS[0])
    for token, share in zip(one.ids, one.shares, strict=True):
        two = first.shape(LOGITS[1 + token % 3], None, [int(token)])
        shares[token, two.ids] = share * two.shares
    return shares


@pytest.mark.parametrize("name", sorted(OPTIONS))
@pytest.mark.parametrize("tree", [False, True])
def test_two_tokens_of_an_answer_with_drawn_drafts(byte_level, name, tree):
    """Through `accept`, with the request's own shaping on both sides: as drawn one by one from the target."""
    options = GenerationOptions(**OPTIONS[name], ignore_eos=True)
    sampling = options.sampling(GenerationDefaults())
    expected = plain_pairs(lambda: Sampler(sampling, V), V)
    counts = np.zeros((V, V), int)
    kept = 0
    draws = DRAWS if (name, tree) == ("cool, top-p", False) else DRAWS // 8  # each makes a request
    for seed in range(draws):
        chooser = Chooser(
            GenerationOptions(**OPTIONS[name], seed=seed, ignore_eos=True), GenerationDefaults(), V
        )
        answer = Answer(byte_level, options, limit=2, prompt_tokens=1)
        shaping = chooser.draft_sampling
        q = shaping.shape(DRAFT_LOGITS[0], [])
        first = shaping.draw(q)
        tokens, parents, of = [first], [-1], [q]
        if tree:
            others = q.shares.copy()
            others[np.searchsorted(q.ids, first)] = 0.0
            if others.any():
                rest = Chances(q.ids, others / others.sum())
                tokens.append(shaping.draw(rest))
                parents.append(-1)
                of.append(q)
        heads = len(tokens)
        for row in range(heads):
            after = shaping.shape(DRAFT_LOGITS[1 + tokens[row] % 3], [tokens[row]])
            tokens.append(shaping.draw(after))
            parents.append(row)
            of.append(after)
        draft = Draft(np.array(tokens, np.int32), np.array(parents, np.int32), tuple(of))
        # What the model would say after each row; of what follows the second token nothing is drawn.
        rows = np.stack(
            [
                LOGITS[0],
                *(LOGITS[1 + t % 3] if p < 0 else LOGITS[0] for t, p in zip(tokens, parents, strict=True)),
            ]
        )
        accepted = accept(chooser, answer, draft, rows, 0.0)
        kept += len(accepted.path)
        found = list(accepted.tokens)
        if len(found) == 1:  # the first was not drafted: the next step draws the second
            found += accept(chooser, answer, None, LOGITS[None, 1 + found[0] % 3], 0.0).tokens
        counts[found[0], found[1]] += 1
    assert kept > draws / 4
    expect_distribution(counts.ravel(), expected.ravel())


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_two_tokens_of_an_answer_that_streams_draft(byte_level, name):
    """Their guesses are points, two side by side, with further streams behind every row."""
    options = GenerationOptions(**OPTIONS[name], ignore_eos=True)
    expected = plain_pairs(lambda: Sampler(options.sampling(GenerationDefaults()), V), V)
    guessed = [*np.argsort(-DRAFT_LOGITS[0], kind="stable")[:2].tolist()]
    guessed.append(int(DRAFT_LOGITS[1 + guessed[0] % 3].argmax()))
    draft = hang_streams(
        Draft(np.array(guessed, np.int32), np.array([-1, -1, 0], np.int32)), [-1, 0, 1, 2], 2, 40, 40
    )
    rows = [LOGITS[0]]
    for token, parent, number in zip(draft.tokens, draft.parents, draft.streams, strict=True):
        rows.append(DRAFT_LOGITS[3] if number else LOGITS[1 + token % 3] if parent < 0 else LOGITS[0])
    counts, kept, draws = np.zeros((V, V), int), 0, DRAWS // 8
    for seed in range(draws):
        pairs = []
        for drafted in (draft, None):
            chooser = Chooser(
                GenerationOptions(**OPTIONS[name], seed=seed, ignore_eos=True), GenerationDefaults(), V
            )
            answer = Answer(byte_level, options, limit=2, prompt_tokens=1)
            judged = np.stack(rows if drafted is not None else rows[:1])
            accepted = accept(chooser, answer, drafted, judged, 0.0)
            found = list(accepted.tokens)
            kept += len(accepted.path)
            if len(found) == 1:
                found += accept(chooser, answer, None, LOGITS[None, 1 + found[0] % 3], 0.0).tokens
            pairs.append(found)
        assert pairs[0] == pairs[1]
        counts[tuple(pairs[0])] += 1
    assert kept > draws / 10
    expect_distribution(counts.ravel(), expected.ravel())


def test_drawn_drafts_within_a_grammar(byte_level):
    size = 330
    pattern = "(a|b|c)(d|e)"
    options = {"temperature": 1.0, "ignore_eos": False}
    grammar = Grammar.of(GenerationOptions(regex=pattern), GrammarTokenizer(byte_level, size))
    logits = np.zeros((2, size), np.float32)
    letters = {letter: byte_level.encode(letter)[0] for letter in "abcde"}
    for letter, value in zip("abcde", (0.0, 1.0, 2.0, 0.0, 1.0), strict=True):
        logits[:, letters[letter]] += value
    q_logits = logits[::-1].copy()
    q_logits[:, letters["a"]] += 2.0
    counts = {a + b: 0 for a in "abc" for b in "de"}
    draws, kept = 3000, 0
    for seed in range(draws):
        chooser = Chooser(
            GenerationOptions(**options, seed=seed), GenerationDefaults(), size, grammar=grammar
        )
        answer = Answer(byte_level, GenerationOptions(**options), limit=10, prompt_tokens=1)
        shaping = chooser.draft_sampling
        first = shaping.shape(q_logits[0], [])
        assert set(first.ids[first.shares > 0].tolist()) == {letters[each] for each in "abc"}
        tokens = [shaping.draw(first)]
        second = shaping.shape(q_logits[1], tokens)
        assert set(second.ids[second.shares > 0].tolist()) == {letters[each] for each in "de"}
        tokens.append(shaping.draw(second))
        draft = Draft.chain(tokens, (first, second))
        accepted = accept(chooser, answer, draft, np.stack([*logits, logits[0]]), 0.0)
        kept += len(accepted.path)
        while accepted.finish is None:
            accepted = accept(chooser, answer, None, logits[1:], 0.0)
        counts[answer.complete("stop", None).completion.text] += 1
    weights = {
        a + b: np.exp(va + vb)
        for a, va in zip("abc", (0, 1, 2), strict=True)
        for b, vb in (("d", 0), ("e", 1))
    }
    total = sum(weights.values())
    expected = [weights[pair] / total for pair in counts]
    expect_distribution(list(counts.values()), expected)
    assert kept > draws / 3


@pytest.mark.parametrize(
    ("ids", "shares", "message"),
    [
        ([1, 1], [0.5, 0.5], "do not ascend"),
        ([2, 1], [0.5, 0.5], "do not ascend"),
        ([1, 2], [0.5, 0.6], "sum to 1"),
        ([1, 2], [1.5, -0.5], "sum to 1"),
        ([1], [0.5, 0.5], "ids have"),
        ([], [], "ids have"),
        ([1, 2], [np.nan, 0.5], "sum to 1"),
    ],
)
def test_what_is_no_distribution_is_refused(ids, shares, message):
    with pytest.raises(ValueError, match=message):
        Chances(np.array(ids, np.int64), np.array(shares, np.float64))


def test_the_same_seed_draws_the_same_with_drafts_that_are_none(byte_level):
    """Greedy requests, and drafts of guesses, ask no random numbers of their own."""
    sampler = Sampler(SamplingOptions(), V)
    drawn = [(5, chances(np.ones(V)))]
    assert sampler.choose(LOGITS[0], None, drawn) == int(LOGITS[0].argmax())
    assert Chooser(GenerationOptions(temperature=0.0), GenerationDefaults(), V).draft_sampling is None
