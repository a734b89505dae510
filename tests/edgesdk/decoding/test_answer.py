import pytest

from edgesdk.decoding.answer import Answer
from edgesdk.decoding.choose import TokenChoice
from edgesdk.decoding.logprobs import TokenLogprob
from edgesdk.decoding.options import GenerationOptions


@pytest.fixture
def make(byte_level):
    def answer(limit=100, index=0, **options):
        return Answer(byte_level, GenerationOptions(**options), limit=limit, prompt_tokens=7, index=index)

    return answer


@pytest.fixture
def write(byte_level, make):
    """Pushes a text token by token, then ends the answer; gives the completion."""

    def run(text, stop=(), extra=(), limit=100):
        answer = make(limit=limit, stop=stop)
        pieces = []
        ids = [*byte_level.encode(text), *extra]
        for count, token in enumerate(ids, start=1):
            tokens, finish = answer.push(TokenChoice(token), count / 10)
            assert tokens == (token,)
            if finish is not None:
                break
            pieces += answer.take()
        last = answer.complete(finish or "cancelled", 0.0)
        assert all(piece.text and piece.completion is None for piece in pieces)
        completion = last.completion
        assert completion.text == "".join(piece.text for piece in [*pieces, last])
        assert list(completion.tokens) == ids[:count] == answer.tokens
        assert completion.new_tokens == len(answer.times_s) == count
        assert completion.prompt_tokens == 7
        return completion

    return run


def test_pieces_and_completion_agree(write):
    completion = write("The fox 😀 日本")
    assert completion.text == "The fox 😀 日本"
    assert completion.finish_reason == "cancelled"
    assert completion.ttft_ms == pytest.approx(100)
    assert completion.prefill_tokens_per_s == pytest.approx(70)
    assert completion.decode_tokens_per_s == pytest.approx(10)


def test_the_end_token_is_no_text(write, byte_level):
    end = byte_level.record.eos_ids[0]
    completion = write("The fox", extra=[end, 70])
    assert (completion.text, completion.finish_reason, completion.tokens[-1]) == ("The fox", "stop", end)
    only = write("", extra=[end])
    assert (only.text, only.new_tokens, only.decode_tokens_per_s) == ("", 1, None)


@pytest.mark.parametrize("stop", ["fox", "x j", "😀", "T"])
def test_a_stop_string_ends_it_at_once(write, byte_level, stop):
    text = "The fox jumps 😀 over the dog"
    completion = write(text, stop=[stop])
    assert completion.finish_reason == "stop_string"
    assert completion.text == text[: text.index(stop)]
    assert stop in byte_level.decode(completion.tokens)
    assert stop not in byte_level.decode(completion.tokens[:-1])


def test_text_held_for_a_stop_string_that_never_comes_is_not_lost(write):
    whole = write("The fo", stop=["fox"])
    assert whole.text == "The fo"
    cut = write("The fo", stop=["fox"], limit=whole.new_tokens)
    assert (cut.text, cut.finish_reason) == ("The fo", "length")


def test_a_stop_string_in_the_very_last_piece_counts(write):
    completion = write("The fox", stop=["fox"])
    assert (completion.text, completion.finish_reason) == ("The ", "stop_string")


def test_a_stop_string_that_only_the_last_bytes_complete_counts(make, byte_level):
    half = byte_level.encode("日")[0]
    answer = make(stop=["\N{REPLACEMENT CHARACTER}"])
    for token in (*byte_level.encode("The "), half):
        assert answer.push(TokenChoice(token), 1.0)[1] is None
    completion = answer.complete("length", 0.0).completion
    assert (completion.text, completion.finish_reason) == ("The ", "stop_string")


def test_half_a_character_at_the_end_is_shown_as_such(write, byte_level):
    half = byte_level.encode("日")[0]
    completion = write("The ", extra=[half])
    assert completion.text == "The \N{REPLACEMENT CHARACTER}"


@pytest.fixture
def forced(byte_level):
    """A choice that forces the rest of a text."""

    def choice(text, *after, finished=False, **more):
        first, *rest = [*byte_level.encode(text), *after]
        return TokenChoice(first, forced=tuple(rest), finished=finished, **more)

    return choice


def test_a_grammar_that_is_complete_at_the_limit_is_complete(make, forced):
    count = 1 + len(forced("The fox").forced)
    for limit in range(1, count + 2):
        answer = make(limit=limit)
        tokens, finish = answer.push(forced("The fox", finished=True), 1.0)
        assert len(tokens) == min(limit, count)
        assert finish == ("stop" if limit >= count else "length")
        assert answer.complete(finish, 0.0).completion.finish_reason == finish
    answer = make(limit=count)
    assert answer.push(forced("The fox"), 1.0)[1] == "length"
    assert make(limit=count + 1).push(forced("The fox"), 1.0)[1] is None


def test_an_end_token_ends_it_also_where_it_was_forced(make, forced, byte_level):
    end = byte_level.record.eos_ids[0]
    whole = byte_level.encode("The fox")
    answer = make()
    tokens, finish = answer.push(forced("The fox", end, 70, 71), 1.0)
    assert (tokens, finish) == ((*whole, end), "stop")
    assert answer.complete(finish, 0.0).completion.text == "The fox"
    answer = make(ignore_eos=True)
    tokens, finish = answer.push(forced("The fox", end, *whole), 1.0)
    assert (len(tokens), finish) == (2 * len(whole) + 1, None)
    assert "".join(chunk.text for chunk in answer.take()) == "The foxThe fox"


def test_a_stop_string_comes_before_the_limit_and_the_end_of_a_grammar(make, forced):
    count = 1 + len(forced("The fox").forced)
    answer = make(stop=["fox"], limit=count)
    assert answer.push(forced("The fox", finished=True), 1.0)[1] == "stop_string"
    assert answer.complete("stop_string", 0.0).text == "The "


def test_log_probabilities_are_of_what_the_model_was_asked(make, forced):
    answer = make(logprobs=1)
    choice = forced("The fox", logprob=-0.5, top_logprobs=((3, -0.1),))
    answer.push(choice, 1.0)
    first, *rest = answer.complete("length", 0.0).completion.logprobs
    assert first == TokenLogprob(choice.token, -0.5, ((3, -0.1),))
    assert rest == [TokenLogprob(token, None) for token in choice.forced]
    assert make(logprobs=1).complete("cancelled", None).completion.logprobs == ()
    assert make().complete("cancelled", None).completion.logprobs is None


def test_pieces_are_taken_once_and_know_their_sample(make, forced):
    answer = make(index=2)
    answer.push(forced("The fox"), 1.0)
    (piece,) = answer.take()
    assert (piece.text, piece.index, piece.completion) == ("The fox", 2, None)
    assert answer.take() == []
    last = answer.complete("length", 0.0)
    assert (last.text, last.index, last.completion.text) == ("", 2, "The fox")


def test_what_gave_all_its_tokens_at_once_or_none_has_no_rate(make, forced):
    answer = make()
    answer.push(forced("The fox"), 1.0)
    assert answer.complete("length", 0.0).completion.decode_tokens_per_s is None
    never = make().complete("deadline", None).completion
    assert (never.ttft_ms, never.prefill_tokens_per_s, never.decode_tokens_per_s) == (0.0, 0.0, None)
