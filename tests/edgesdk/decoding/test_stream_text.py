import pytest

from edgesdk.decoding.generate import ChosenToken
from edgesdk.decoding.stopping import StopStrings
from edgesdk.decoding.stream_text import stream_text
from edgesdk.text.detokenize import Detokenizer


@pytest.fixture
def stream(byte_level):
    def run(text, finish="length", stop=(), extra=()):
        ids = [*byte_level.encode(text), *extra]
        asked = []

        def chosen():
            for index, token in enumerate(ids):
                asked.append(token)
                yield ChosenToken(token, finish if index == len(ids) - 1 else None)

        chunks = list(stream_text(chosen(), Detokenizer(byte_level), StopStrings(stop), 7))
        assert all(chunk.completion is None for chunk in chunks[:-1])
        assert all(chunk.text for chunk in chunks[:-1])
        completion = chunks[-1].completion
        assert completion.text == "".join(chunk.text for chunk in chunks)
        assert list(completion.tokens) == asked
        assert completion.new_tokens == len(asked)
        assert completion.prompt_tokens == 7
        return completion

    return run


def test_pieces_and_completion_agree(stream):
    completion = stream("The fox 😀 日本")
    assert completion.text == "The fox 😀 日本"
    assert completion.finish_reason == "length"
    assert completion.ttft_ms > 0
    assert completion.prefill_tokens_per_s == pytest.approx(7e3 / completion.ttft_ms)
    assert completion.decode_tokens_per_s > 0


def test_the_end_token_is_no_text(stream, byte_level):
    end = byte_level.record.eos_ids[0]
    completion = stream("The fox", "stop", extra=[end])
    assert (completion.text, completion.finish_reason, completion.tokens[-1]) == ("The fox", "stop", end)
    only = stream("", "stop", extra=[end])
    assert (only.text, only.new_tokens, only.decode_tokens_per_s) == ("", 1, None)


@pytest.mark.parametrize("stop", ["fox", "x j", "😀", "T"])
def test_a_stop_string_ends_it_at_once(stream, byte_level, stop):
    text = "The fox jumps 😀 over the dog"
    completion = stream(text, stop=[stop])
    assert completion.finish_reason == "stop_string"
    assert completion.text == text[: text.index(stop)]
    assert stop in byte_level.decode(completion.tokens)
    assert stop not in byte_level.decode(completion.tokens[:-1])


def test_text_held_for_a_stop_string_that_never_comes_is_not_lost(stream):
    assert stream("The fo", stop=["fox"]).text == "The fo"
    assert stream("The fo", stop=["fox"]).finish_reason == "length"


def test_a_stop_string_in_the_very_last_piece_counts(stream):
    completion = stream("The fox", stop=["fox"])
    assert (completion.text, completion.finish_reason) == ("The ", "stop_string")


def test_half_a_character_at_the_end_is_shown_as_such(stream, byte_level):
    half = byte_level.encode("日")[0]
    completion = stream("The ", extra=[half])
    assert completion.text == "The \N{REPLACEMENT CHARACTER}"
