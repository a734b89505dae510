import numpy as np
import pytest

from edgesdk.bundle.manifest import GenerationDefaults
from edgesdk.decoding.choose import Chooser, TokenChoice
from edgesdk.decoding.grammar import Grammar, GrammarTokenizer
from edgesdk.decoding.options import GenerationOptions
from edgesdk.errors import UnsupportedOption

LOGITS = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))


def chooser(size=4, grammar=None, **options):
    return Chooser(GenerationOptions(**options), GenerationDefaults(), size, grammar=grammar)


def test_a_plain_choice():
    assert chooser().choose(LOGITS) == TokenChoice(0)


def test_logprobs_come_from_the_raw_logits():
    choice = chooser(logprobs=2, temperature=9.0, top_k=1, logit_bias={3: 50.0}).choose(LOGITS)
    assert choice.token == 3
    assert choice.logprob == pytest.approx(np.log(0.05), abs=1e-6)
    assert [token for token, _ in choice.top_logprobs] == [0, 1]
    assert chooser(logprobs=0).choose(LOGITS).top_logprobs == ()
    assert len(chooser(logprobs=3).choose(LOGITS).top_logprobs) == 3
    assert len(chooser(logprobs=None).choose(LOGITS).top_logprobs) == 0


def test_more_logprobs_than_anybody_reads_are_refused():
    for bad in (-1, 101):
        with pytest.raises(UnsupportedOption, match=f"logprobs is {bad}"):
            chooser(logprobs=bad)


def test_the_bundle_recommends():
    recommended = GenerationDefaults(repetition_penalty=1000.0)
    choose = Chooser(GenerationOptions(), recommended, 4)
    choose.observe([0, 1])
    assert choose.choose(LOGITS * 0 + 1).token == 2


@pytest.fixture
def grammar(byte_level):
    pytest.importorskip("llguidance")
    pytest.importorskip("jsonschema")
    tokenizer = GrammarTokenizer(byte_level, byte_level.engine.get_vocab_size())
    return Grammar.json_schema({"const": {"fox": "the dog"}}, tokenizer)


def test_a_grammar_rules_and_forces(byte_level, grammar):
    V = byte_level.engine.get_vocab_size()
    logits = np.random.default_rng(0).normal(size=V).astype(np.float32)
    before = logits.copy()
    for temperature in (0.0, 2.0):
        choose = chooser(V, grammar=grammar, temperature=temperature, logprobs=1)
        choose.observe([5, 6])
        choose.start_mask()
        choice = choose.choose(logits)
        assert choice.finished
        assert byte_level.decode([choice.token, *choice.forced]) == '{"fox": "the dog"}'
        # The model would have said another token: log-probabilities are its own.
        assert choice.top_logprobs[0][0] == int(np.argmax(logits)) != choice.token
    assert np.array_equal(logits, before)


def test_forced_tokens_count_for_penalties(byte_level, grammar):
    V = byte_level.engine.get_vocab_size()
    choose = chooser(V, grammar=grammar, frequency_penalty=1.0)
    choice = choose.choose(np.zeros(V, np.float32))
    counts = np.bincount([choice.token, *choice.forced], minlength=V)
    assert np.array_equal(choose._sampler._counts, counts)
