import numpy as np
import pytest

from edgesdk.bundle.manifest import GenerationDefaults
from edgesdk.decoding.answer import Answer
from edgesdk.decoding.choose import Chooser
from edgesdk.decoding.generate import generate
from edgesdk.decoding.options import GenerationOptions
from edgesdk.errors import CapacityError

V = 330


def never():
    return False


@pytest.fixture
def answer_of(byte_level):
    """The pieces of an answer to [1, 2, 3], or to another prompt."""

    def start(sequence, prompt=(1, 2, 3), limit=20, cancelled=never, **options):
        asked = GenerationOptions(**options)
        chooser = Chooser(asked, GenerationDefaults(), V)
        chooser.observe(prompt)
        answer = Answer(byte_level, asked, limit=limit, prompt_tokens=len(prompt))
        return generate(sequence, np.array(prompt, np.int32), chooser, answer, cancelled)

    return start


@pytest.fixture
def said(answer_of):
    """Its tokens and why it ended."""

    def read(sequence, prompt=(1, 2, 3), **options):
        *pieces, last = answer_of(sequence, prompt, **options)
        assert all(piece.completion is None for piece in pieces)
        completion = last.completion
        assert completion.text == "".join(piece.text for piece in [*pieces, last])
        assert completion.prompt_tokens == len(prompt)
        return list(completion.tokens), completion.finish_reason

    return read


@pytest.fixture
def script(byte_level):
    return [1, 2, 3, 70, 71, 72, 73, byte_level.record.eos_ids[0], 74]


def test_an_end_token_ends_it(scripted, said, script):
    backend, sequence = scripted(script, vocab_size=V)
    assert said(sequence) == (script[3:8], "stop")
    assert [shape.tokens for shape in backend.runs] == [8, 1, 1, 1, 1]
    assert sequence.length == 3 + 4


def test_the_limit_ends_it_without_running_the_last_token(scripted, said, script):
    backend, sequence = scripted(script, vocab_size=V)
    assert said(sequence, limit=2) == ([70, 71], "length")
    assert len(backend.runs) == 2
    _, sequence = scripted(script, vocab_size=V)
    assert said(sequence, limit=5) == (script[3:8], "stop")


def test_a_full_context_gives_one_token(scripted, said, script):
    _, full = scripted(script, context=3, vocab_size=V)
    assert said(full, limit=1) == ([70], "length")
    assert full.length == 3


def test_a_prompt_that_does_not_fit_runs_nothing(scripted, said, script):
    backend, sequence = scripted(script, context=2, vocab_size=V)
    with pytest.raises(CapacityError, match=r"3 .*2"):
        said(sequence)
    assert not backend.runs


def test_what_the_sequence_holds_comes_first(scripted, said, script):
    _, sequence = scripted(script, vocab_size=V)
    assert said(sequence, limit=1) == ([70], "length")
    assert said(sequence, prompt=[70], limit=2) == ([71, 72], "length")


def test_reading_no_further_runs_no_further(scripted, answer_of, script):
    backend, sequence = scripted(script, vocab_size=V)
    pieces = answer_of(sequence)
    assert next(pieces).text
    assert len(backend.runs) == 1
    pieces.close()
    assert len(backend.runs) == 1


def test_the_penalty_counts_the_prompt(scripted, said):
    _, sequence = scripted([5, 6, 5], vocab_size=V)
    tokens, _ = said(sequence, prompt=[5, 6], repetition_penalty=1e6)
    assert 5 not in tokens
    assert len(set(tokens)) == 20


def test_cancelled_between_two_pieces_of_the_prompt_or_two_tokens(scripted, said):
    prompt = list(range(2, 30))  # in pieces of 8
    for steps in range(6):
        backend, sequence = scripted([], vocab_size=V)
        tokens, finish = said(sequence, prompt, cancelled=lambda: len(backend.runs) >= steps)  # noqa: B023
        assert finish == "cancelled"
        assert len(backend.runs) == steps
        assert len(tokens) == max(0, steps - 3)


def test_the_clock_stops_while_the_reader_holds_a_piece(scripted, answer_of, script, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    backend, sequence = scripted(script, vocab_size=V)
    run = backend.run

    def run_for_a_second(shape, cells):
        now[0] += 1.0
        run(shape, cells)

    backend.run = run_for_a_second
    pieces = []
    for piece in answer_of(sequence):
        pieces.append(piece)
        now[0] += 100.0
    completion = pieces[-1].completion
    assert completion.ttft_ms == pytest.approx(1e3)
    assert completion.prefill_tokens_per_s == pytest.approx(3)
    assert completion.decode_tokens_per_s == pytest.approx(1)
