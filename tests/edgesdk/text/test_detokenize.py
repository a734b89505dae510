import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgesdk.text.detokenize import Detokenizer

RELAXED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\N{REPLACEMENT CHARACTER}▁"))


def pieces(tokenizer, ids, **options):
    stream = Detokenizer(tokenizer, **options)
    return [*[stream.push(token) for token in ids], stream.finish()]


@RELAXED
@given(text=TEXT)
def test_pieces_join_to_the_whole(tokenizer, text):
    ids = tokenizer.encode(text, add_bos=False)
    found = pieces(tokenizer, ids)
    assert "".join(found) == tokenizer.decode(ids)
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(found)


@pytest.mark.parametrize(
    "text", ["日本語のテキスト" * 20, "👩‍👩‍👧 👍🏽" * 30, "the " * 100, " " * 100, "é" * 70 + " the"]
)
def test_long_texts_join_to_the_whole(tokenizer, text):
    ids = tokenizer.encode(text, add_bos=False)
    assert "".join(pieces(tokenizer, ids)) == tokenizer.decode(ids) == text


def test_a_character_comes_out_with_its_last_token(tokenizer):
    ids = tokenizer.encode("x😀é", add_bos=False)
    found = pieces(tokenizer, ids)
    assert found[-1] == ""
    assert [piece for piece in found if piece and piece not in ("x", " ")] == ["😀", "é"]


@RELAXED
@given(data=st.data())
def test_any_tokens_at_all_lose_nothing_but_broken_bytes(tokenizer, data):
    size = tokenizer.engine.get_vocab_size()
    ids = data.draw(st.lists(st.integers(0, size + 3), max_size=80))
    streamed = "".join(pieces(tokenizer, ids))
    whole = tokenizer.decode(ids)
    if "\N{REPLACEMENT CHARACTER}" not in whole:
        assert streamed == whole
    else:
        assert "\N{REPLACEMENT CHARACTER}" in streamed


def test_byte_level_pieces_are_exact_even_where_tokens_straddle_characters(byte_level):
    # Tokens that end one character and begin the next: there is never a clean boundary to cut at.
    alphabet = {byte: byte_level.engine.token_to_id(c) for byte, c in _byte_names().items()}
    text = "日本語" * 40
    ids = [alphabet[byte] for byte in text.encode()]
    assert "".join(pieces(byte_level, ids)) == text
    broken = [alphabet[0xFF]] * 50
    assert "".join(pieces(byte_level, broken)) == "\N{REPLACEMENT CHARACTER}" * 50


def _byte_names():
    """GPT-2's printable stand-ins for bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + i) for i, byte in enumerate(rest)}


def test_special_tokens_are_left_out_or_kept(byte_level):
    end = byte_level.record.eos_ids[0]
    ids = [*byte_level.encode("the"), end, *byte_level.encode(" dog")]
    assert "".join(pieces(byte_level, ids)) == "the dog"
    assert "".join(pieces(byte_level, ids, skip_special=False)) == "the<|end|> dog"


def test_the_space_after_a_special_token_is_kept(sentencepiece):
    end = sentencepiece.record.eos_ids[0]
    ids = [
        *sentencepiece.encode("the", add_bos=False),
        *[end] * 40,
        *sentencepiece.encode("the", add_bos=False),
    ]
    assert "".join(pieces(sentencepiece, ids)) == sentencepiece.decode(ids) == "the the"


def test_the_window_stays_small(tokenizer):
    longest = 0
    stream = Detokenizer(tokenizer)
    ids = tokenizer.encode("the 日本語 dog 😀 " * 100) + [10**6] * 100 + [200] * 100
    for token in ids:
        stream.push(token)
        longest = max(longest, len(stream._window))
    assert longest <= 16


def test_a_stream_can_be_used_again(tokenizer):
    stream = Detokenizer(tokenizer)
    ids = tokenizer.encode("the dog", add_bos=False)
    first = "".join(map(stream.push, ids)) + stream.finish()
    assert first == "".join(map(stream.push, ids)) + stream.finish() == "the dog"
