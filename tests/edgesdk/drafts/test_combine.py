import numpy as np
import pytest

from edgesdk.decoding.draft import Draft, JudgedDraft, JudgedStep
from edgesdk.drafts.combine import CombinedDrafter
from edgesdk.drafts.guess import Guess
from edgesdk.drafts.lookup import Lookup

V8 = {1: 1.0, 2: 1.1, 3: 1.15, 4: 1.2, 6: 1.4, 8: 1.6, 12: 2.2, 16: 2.6}


def v(tokens):
    """Time of a step: what rows cost where sizes are well made."""
    return next(cost for size, cost in V8.items() if size >= tokens) if tokens <= 16 else tokens / 6


class Answers:
    """Plain decoding of known texts with a drafter beside it, and what it costs."""

    def __init__(self, drafter, texts, prompt, cost=v, most=8):
        self.drafter, self.texts, self.cost, self.most = drafter, texts, cost, most
        self.at = [prompt] * len(texts)
        self.model_s = 0.0
        self.plain_s = 0.0
        self.drafted_steps = []

    def run(self, ask, steps=10**6):
        """Runs until every text is at its end, or for so many steps."""
        while steps and (running := [i for i, at in enumerate(self.at) if at < len(self.texts[i])]):
            steps -= 1
            asked = [
                ask(self.texts[i][: self.at[i]], key=i, most=self.most, deepest=self.most) for i in running
            ]
            drafts = self.drafter.propose(asked)
            judged = []
            for i, draft in zip(running, drafts, strict=True):
                kept = 0 if draft is None else self.judge(i, draft)
                if draft is not None:
                    judged.append(JudgedDraft(i, len(draft.tokens), kept))
                self.at[i] = min(self.at[i] + kept + 1, len(self.texts[i]))
            took = self.cost(len(running) + sum(draft.drafted for draft in judged)) * 0.01
            self.model_s += took
            self.plain_s += self.cost(len(running)) * 0.01 * (1 + sum(d.kept for d in judged) / len(running))
            self.drafted_steps.append(sum(draft.drafted for draft in judged))
            self.drafter.learn(JudgedStep(len(running), 0, took, tuple(judged)))
        return self

    def judge(self, i, draft: Draft):
        """How many tokens of the draft the text has."""
        at, kept = -1, 0
        while True:
            found = [
                row
                for row in np.flatnonzero(draft.parents == at)
                if self.at[i] + kept < len(self.texts[i])
                and draft.tokens[row] == self.texts[i][self.at[i] + kept]
            ]
            if not found:
                return kept
            at, kept = int(found[0]), kept + 1

    @property
    def gain(self):
        return self.plain_s / self.model_s


def copying(seed, length=300):
    """A text that is half new and half copied, in runs."""
    rng = np.random.default_rng(seed)
    text = rng.integers(0, 5000, length).tolist()
    while len(text) < 2 * length:
        start = int(rng.integers(0, length - 40))
        text += text[start : start + int(rng.integers(10, 40))] + rng.integers(0, 5000, 4).tolist()
    return text, length


def chatter(seed, length=600):
    """A text without sense, whose words repeat as words do: pairs occur again, and go on otherwise."""
    rng = np.random.default_rng(seed)
    return (rng.zipf(1.3, length) % 300).tolist(), length // 4


def test_copied_texts_become_faster(ask):
    text, prompt = copying(0)
    drafter = CombinedDrafter([Lookup()])
    found = Answers(drafter, [text], prompt).run(ask)
    assert found.gain > 2.0
    figures = drafter.figures
    assert figures.kept == len(text) - prompt - figures.steps
    assert figures.saved_s == pytest.approx(found.plain_s - found.model_s, rel=0.15)
    assert figures.block_efficiency == pytest.approx((len(text) - prompt) / figures.steps, rel=0.01)
    assert 0 < figures.drafted_share < 1
    assert figures.kept_per_step > 2


def test_texts_without_repetition_lose_next_to_nothing(ask):
    text, prompt = chatter(1)
    found = Answers(CombinedDrafter([Lookup()]), [text], prompt).run(ask)
    assert found.gain > 0.98


def test_where_rows_are_dear_it_switches_itself_off(ask):
    text, prompt = copying(2)
    found = Answers(CombinedDrafter([Lookup()]), [text], prompt, cost=lambda tokens: float(tokens)).run(ask)
    assert found.gain > 0.96
    tried = np.flatnonzero(found.drafted_steps[40:])
    assert len(tried) <= 1 + len(found.drafted_steps) // 256


def test_a_bad_moment_is_forgotten(ask):
    text, prompt = copying(13, 1500)
    drafter = CombinedDrafter([Lookup()])
    answers = Answers(drafter, [text], prompt, cost=lambda tokens: 1.0 if tokens == 1 else 9.0)
    answers.run(ask, steps=100)
    answers.cost = v
    answers.run(ask, steps=700)
    assert np.mean(answers.drafted_steps[-50:]) > 1


def test_what_first_steps_lay_out_switches_nothing_off(ask):
    """The first step of every size takes half as long again, as it does on LiteRT."""
    text, prompt = chatter(10, 200)
    seen = set()

    def cost(tokens):
        first = tokens not in seen
        seen.add(tokens)
        return v(tokens) + 0.6 * first

    oracle = Oracle(text, 0.6, 0.0)
    answers = Answers(CombinedDrafter([oracle]), [text], prompt, cost=cost).run(ask, steps=40)
    assert np.mean(np.array(answers.drafted_steps) > 0) > 0.8


def test_off_in_chatter_and_on_again_in_copies(ask):
    chat, _ = chatter(3, 800)
    copied, start = copying(4)
    text = copied[:start] + chat + copied[start:]
    drafter = CombinedDrafter([Lookup()])
    answers = Answers(drafter, [text], start)
    answers.run(ask, steps=700)
    assert np.mean(np.array(answers.drafted_steps[-100:]) > 0) < 0.3
    before = drafter.figures
    answers.run(ask)
    steps = drafter.figures.steps - before.steps
    assert 1 + (drafter.figures.kept - before.kept) / steps > 2.0


def test_answers_share_the_rows(ask):
    texts = [copying(5)[0], copying(6)[0], chatter(7)[0], chatter(8)[0]]
    drafter = CombinedDrafter([Lookup()])
    found = Answers(drafter, texts, 300).run(ask)
    assert found.gain > 1.1


def test_steps_without_drafts_come_now_and_then(ask):
    text = np.tile(np.arange(40), 60)
    found = Answers(CombinedDrafter([Lookup()]), [text], 80).run(ask)
    plain = [place for place, drafted in enumerate(found.drafted_steps) if not drafted]
    assert plain[0] == 0  # to have something to compare with
    gaps = np.diff(plain)
    assert len(gaps)
    assert gaps.max() <= 70


def test_it_gives_the_same_drafts_for_the_same_steps(ask):
    runs = [
        Answers(CombinedDrafter([Lookup()]), [copying(9)[0]], 300).run(ask).drafted_steps for _ in range(2)
    ]
    assert runs[0] == runs[1]


def test_steps_with_prompts_say_nothing_of_costs(ask):
    drafter = CombinedDrafter([Lookup()])
    drafter.learn(JudgedStep(1, 100, 5.0, ()))
    assert not drafter.costs.known
    drafter.learn(JudgedStep(0, 0, 1.0, ()))
    assert drafter.figures.steps == 1


def test_without_weighing_everything_is_drafted(ask):
    drafter = CombinedDrafter([Lookup()], weigh=False)
    (draft,) = drafter.propose([ask([1, 2, 3, 4, 1, 2], most=3, deepest=3)])
    assert draft.tokens.tolist() == [3, 4, 1]
    assert drafter.propose([ask(range(9), key=2)]) == [None]


class Oracle:
    """A second model that is right with a chance of its own."""

    name = "oracle"
    asks_model = True
    nbytes = 7

    def __init__(self, text, right, price_s):
        self.text, self.right, self.price_s = text, right, price_s
        self.priors = (0.6,)
        self.rng = np.random.default_rng(0)
        self.calls = 0
        self.forgotten = []
        self.closed = False

    def guess(self, asked):
        self.calls += 1
        found = []
        for request in asked:
            start, count = len(request.tokens), min(request.most, request.deepest)
            tokens = [
                int(token) if self.rng.random() < self.right else 9999
                for token in self.text[start : start + count]
            ]
            found.append(
                Guess(tuple(tokens), tuple(range(-1, len(tokens) - 1)), (0,) * len(tokens))
                if tokens
                else None
            )
        return found

    def forget(self, key):
        self.forgotten.append(key)

    def close(self):
        self.closed = True


def test_a_second_model_that_pays_is_used(ask):
    text, prompt = chatter(10)
    oracle = Oracle(text, 0.9, 0.001)
    drafter = CombinedDrafter([Lookup(), oracle])
    found = Answers(drafter, [text], prompt).run(ask)
    spent_s = 0.001 * sum(found.drafted_steps)
    assert found.plain_s / (found.model_s + spent_s) > 1.8
    assert drafter.name == "lookup+oracle"
    assert drafter.figures.kept_by_source[1] > drafter.figures.kept_by_source[0]


def test_a_bad_moment_of_a_second_model_is_forgotten(ask):
    """What it guesses is asked for only where steps seem cheap enough; so trials must be judged, too."""
    text, prompt = chatter(14, 1500)
    answers = Answers(CombinedDrafter([Oracle(text, 0.8, 0.0005)]), [text], prompt)
    answers.cost = lambda tokens: 1.0 if tokens == 1 else 9.0
    answers.run(ask, steps=30)
    answers.cost = v
    answers.run(ask, steps=200)
    assert np.mean(answers.drafted_steps[-50:]) > 1


@pytest.mark.parametrize(("right", "price_s"), [(0.1, 0.001), (0.7, 0.009)])
def test_a_second_model_that_does_not_pay_is_tried_now_and_then(ask, right, price_s):
    text, prompt = chatter(11, 4000)
    oracle = Oracle(text, right, price_s)
    Answers(CombinedDrafter([oracle]), [text], prompt).run(ask)
    assert 3 <= oracle.calls <= 40


def test_a_second_model_that_becomes_right_comes_on_again(ask):
    text, prompt = chatter(12, 4000)
    oracle = Oracle(text, 0.0, 0.001)
    answers = Answers(CombinedDrafter([oracle]), [text], prompt)
    answers.run(ask, steps=200)
    oracle.right = 0.95
    answers.run(ask, steps=600)
    assert np.mean(answers.drafted_steps[-50:]) > 1.5


def test_what_lookup_knows_the_second_model_is_not_asked(ask):
    text = np.tile(np.arange(50), 20).tolist()
    oracle = Oracle(text, 0.9, 0.001)
    Answers(CombinedDrafter([Lookup(), oracle]), [text], 200).run(ask)
    assert oracle.calls <= 5


def test_all_sources_hear_of_the_end(ask):
    oracle = Oracle([1, 2, 3], 1.0, 0.001)
    drafter = CombinedDrafter([Lookup(), oracle])
    drafter.propose([ask([1, 2])])
    drafter.forget(1)
    drafter.close()
    assert oracle.forgotten == [1]
    assert oracle.closed
    assert drafter.nbytes >= 7


def test_the_last_step_of_an_answer_counts_for_who_drafted_it(ask):
    text = list(range(100, 160))  # in which lookup finds nothing
    drafter = CombinedDrafter([Lookup(), Oracle(text, 1.0, 0.001)], weigh=False)
    request = ask(text[:20], most=4, deepest=4)
    (draft,) = drafter.propose([request])
    drafter.forget(request.key)  # as engines do, which end an answer before they tell of its step
    judged = JudgedStep(1, 0, 0.01, (JudgedDraft(request.key, len(draft.tokens), 1),))
    drafter.learn(judged)
    assert drafter.figures.drafted_by_source == (0, 4)
    drafter.learn(judged)
    assert drafter.figures.drafted_by_source == (4, 4)  # nothing is kept of it
