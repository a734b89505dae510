import numpy as np
import pytest

from edgesdk.drafts.model_drafts import ModelDrafts
from edgesdk.drafts.token_bridge import TokenBridge
from edgesdk.errors import DeviceError

_SURE = np.arange(200) % 50
"""A text that the fake model is sure of, so that no chain is cut short."""


@pytest.fixture
def drafts(second_model):
    def make(backend_options=None, **options):
        backend, runner = second_model(**(backend_options or {}))
        return backend, ModelDrafts("second", runner, backend.close, **options)

    return make


def greedy(backend, tokens, count):
    """What the model itself goes on with, computed without cells."""
    text = list(tokens)
    for _ in range(count):
        text.append(int(backend.expected_logits(text)[-1].argmax()))
    return text[len(tokens) :]


def test_it_guesses_what_the_second_model_goes_on_with(drafts, ask):
    backend, source = drafts()
    rng = np.random.default_rng(0)
    text = rng.integers(0, 50, 9).tolist()
    for _ in range(6):
        (guess,) = source.guess([ask(text, most=4, deepest=4)])
        assert list(guess.tokens) == greedy(backend, text, len(guess.tokens))
        assert guess.parents == tuple(range(-1, len(guess.tokens) - 1))
        text += rng.integers(0, 50, 2).tolist()


def test_what_was_kept_need_not_be_run_again(drafts, ask):
    backend, source = drafts({"script": _SURE})
    text = _SURE[:6].tolist()
    (guess,) = source.guess([ask(text, most=4, deepest=4)])
    assert list(guess.tokens) == _SURE[6:10].tolist()
    runs = len(backend.runs)
    source.guess([ask([*text, *guess.tokens], most=1)])
    (last,) = backend.runs[runs:]
    assert last.tokens == 1  # the last token of the draft alone


def test_it_is_a_function_of_the_tokens(drafts, ask):
    _, source = drafts()
    rng = np.random.default_rng(3)
    for turn in range(30):
        key = int(rng.integers(0, 3))
        text = rng.integers(0, 3, int(rng.integers(1, 30)))  # so that beginnings are shared
        (guess,) = source.guess([ask(text, key=key, most=5, deepest=5)])
        _, anew = drafts()
        (expected,) = anew.guess([ask(text, most=5, deepest=5)])
        assert (guess.tokens, guess.kinds) == (expected.tokens, expected.kinds), turn


def test_all_answers_share_steps(drafts, ask):
    backend, source = drafts({"script": _SURE})
    texts = [_SURE[:5].tolist(), _SURE[:3].tolist(), _SURE[:4].tolist()]
    found = source.guess([ask(text, key=key, most=3, deepest=3) for key, text in enumerate(texts)])
    assert len(backend.runs) == 3
    for text, guess in zip(texts, found, strict=True):
        assert list(guess.tokens) == _SURE[len(text) : len(text) + 3].tolist()


@pytest.mark.parametrize(("most", "deepest", "expected"), [(1, 8, 1), (8, 2, 2), (5, 5, 5)])
def test_it_keeps_to_what_it_may(drafts, ask, most, deepest, expected):
    _, source = drafts({"script": _SURE})
    (guess,) = source.guess([ask(_SURE[:6], most=most, deepest=deepest)])
    assert len(guess.tokens) == expected


def test_a_chain_that_the_model_doubts_goes_no_further(drafts, ask):
    _, source = drafts()  # without a script every token has about the same share
    (guess,) = source.guess([ask(range(6), most=8)])
    assert len(guess.tokens) == 1
    assert guess.kinds == (0,)


def test_a_long_prompt_is_read_in_pieces(drafts, ask):
    backend, source = drafts({"script": _SURE}, piece=16)
    asked = ask(_SURE[:50], most=2, deepest=2)
    assert source.guess([asked]) == [None]
    assert len(backend.runs) == 1
    assert source.guess([asked]) == [None]
    (guess,) = source.guess([asked])
    assert list(guess.tokens) == _SURE[50:52].tolist()


def test_an_answer_beyond_its_context_gets_nothing(drafts, ask):
    _, source = drafts({"context": 32, "script": _SURE})
    (guess,) = source.guess([ask(_SURE[:26], most=6, deepest=6)])
    assert len(guess.tokens) == 6
    assert source.guess([ask(_SURE[:31], most=6, deepest=6)]) == [None]


def test_where_cells_are_short_others_give_way(drafts, ask):
    _, source = drafts({"script": _SURE, "capacity": 30})
    assert source.guess([ask(_SURE[:20], key=1, most=2)]) != [None]
    assert source.guess([ask(_SURE[:21], key=2, most=2)]) != [None]
    # Of two that do not both fit, one has a guess.
    for _ in range(3):
        both = source.guess([ask(_SURE[:20], key=1, most=2), ask(_SURE[:21], key=2, most=2)])
        assert sorted(guess is not None for guess in both) == [False, True]


def test_more_answers_than_a_step_has_rows(drafts, ask):
    _, source = drafts({"script": _SURE, "tokens": (1, 4)})
    found = source.guess([ask(_SURE[: key + 2], key=key, most=2, deepest=2) for key in range(6)])
    assert [guess is not None for guess in found] == [True] * 4 + [False] * 2


def test_forget_and_close_give_everything_back(drafts, ask):
    backend, source = drafts()
    source.guess([ask([1, 2, 3], key=1), ask([4, 5], key=2)])
    assert source.nbytes > 0
    source.forget(1)
    source.forget(99)
    source.close()
    source.close()
    assert source.nbytes == 0
    assert backend.closed


def test_the_price_is_that_of_a_step(drafts, ask):
    ticks = iter(range(0, 10_000, 3))
    _, source = drafts({"script": _SURE}, clock=lambda: float(next(ticks)))
    assert source.price_s == 0.0
    source.guess([ask(_SURE[:4], most=4, deepest=4)])
    assert source.price_s == 3.0


def test_tokens_of_another_vocabulary(drafts, ask):
    """Its ids are those of the answer, turned round; two of them the answer's model does not have."""
    across = np.arange(49, -1, -1, dtype=np.int32)
    back = across.copy()
    back[:2] = -1
    backend, source = drafts(bridge=TokenBridge(across, back))
    (guess,) = source.guess([ask([3, 9, 27], most=1)])
    (expected,) = greedy(backend, [46, 40, 22], 1)
    assert guess.tokens == (49 - expected,)
    backend, source = drafts({"script": [9, 9, 9, 7, 1, 5]}, bridge=TokenBridge(across, back))
    (guess,) = source.guess([ask([40, 40, 40], most=3, deepest=3)])
    assert guess.tokens == (42,)  # the second cannot be said


def test_what_fails_is_raised(drafts, ask):
    backend, source = drafts()

    def fail(*_):
        raise DeviceError("gone")

    backend.run = fail
    with pytest.raises(DeviceError, match="gone"):
        source.guess([ask([1, 2, 3])])
