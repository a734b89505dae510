import pytest

from edgesdk.bundle.manifest import GenerationDefaults
from edgesdk.decoding.choose import Chooser
from edgesdk.decoding.generate import check_request, generate_tokens
from edgesdk.decoding.options import GenerationOptions
from edgesdk.errors import CapacityError, UnsupportedOption

SCRIPT = [1, 2, 3, 10, 11, 12, 13, 0, 14]
GREEDY = GenerationOptions()


def generate(sequence, prompt=(1, 2, 3), options=GREEDY, **limits):
    steps = list(generate_tokens(sequence, prompt, Chooser(options, GenerationDefaults(), 40), **limits))
    assert all(step.finish is None for step in steps[:-1])
    return [step.token for step in steps], steps[-1].finish


def test_an_end_token_ends_it(scripted):
    backend, sequence = scripted(SCRIPT)
    assert generate(sequence, eos_ids={0}) == ([10, 11, 12, 13, 0], "stop")
    assert [shape.tokens for shape in backend.runs] == [8, 1, 1, 1, 1]
    assert sequence.length == 3 + 4


def test_the_limit_ends_it_without_running_the_last_token(scripted):
    backend, sequence = scripted(SCRIPT)
    assert generate(sequence, max_tokens=2, eos_ids={0}) == ([10, 11], "length")
    assert len(backend.runs) == 2
    _, sequence = scripted(SCRIPT)
    assert generate(sequence, max_tokens=5, eos_ids={0}) == ([10, 11, 12, 13, 0], "stop")


def test_the_end_of_the_context_ends_it(scripted):
    _, sequence = scripted(SCRIPT, context=5)
    assert generate(sequence, max_tokens=100) == ([10, 11, 12], "length")
    assert sequence.length == 5
    _, full = scripted(SCRIPT, context=3)
    assert generate(full) == ([10], "length")


def test_a_prompt_that_does_not_fit_runs_nothing(scripted):
    backend, sequence = scripted(SCRIPT, context=2)
    with pytest.raises(CapacityError, match="3 tokens, there is room for 2"):
        generate(sequence)
    assert not backend.runs


def test_what_the_sequence_holds_comes_first(scripted):
    _, sequence = scripted(SCRIPT)
    assert generate(sequence, max_tokens=1) == ([10], "length")
    assert generate(sequence, prompt=[10], max_tokens=2) == ([11, 12], "length")


def test_reading_no_further_runs_no_further(scripted):
    backend, sequence = scripted(SCRIPT)
    steps = generate_tokens(sequence, [1, 2, 3], Chooser(GREEDY, GenerationDefaults(), 40))
    assert next(steps).token == 10
    assert len(backend.runs) == 1
    steps.close()
    assert len(backend.runs) == 1


def test_the_penalty_counts_the_prompt(scripted):
    _, sequence = scripted([5, 6, 5])
    strong = GenerationOptions(repetition_penalty=1e6)
    tokens, _ = generate(sequence, prompt=[5, 6], options=strong, max_tokens=20)
    assert 5 not in tokens
    assert len(set(tokens)) == 20


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "error", "message"),
    [
        ([1], 0, UnsupportedOption, "max_tokens is 0"),
        ([], None, UnsupportedOption, "no tokens"),
        ([1, 40], None, UnsupportedOption, "token 40, expected ids from 0 to 39"),
        ([-1], None, UnsupportedOption, "token -1"),
        ([1] * 33, None, CapacityError, "33 tokens, the context holds 32"),
    ],
)
def test_requests_that_cannot_be_met(prompt, max_tokens, error, message):
    with pytest.raises(error, match=message):
        check_request(prompt, max_tokens, 32, 40)


def test_requests_that_can():
    check_request([0, 39] * 16, 1000, 32, 40)
