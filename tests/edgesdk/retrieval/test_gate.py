"""When and what to search, whatever a model writes; on a tiny model that writes nonsense."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import edgesdk
from edgesdk.errors import CapacityError, EdgeError, UnsupportedOption
from edgesdk.orchestration.prompt_writer import PromptWriter
from edgesdk.plans.allowance import Allowance
from edgesdk.retrieval.answer_with_sources import answer_with_sources
from edgesdk.retrieval.attribute import shared
from edgesdk.retrieval.gate_desk import COARSE, GateDesk
from edgesdk.retrieval.gate_options import GateOptions
from edgesdk.retrieval.gather import fit, gather
from edgesdk.retrieval.passage import Passage
from edgesdk.retrieval.rewrite import read_rewritten
from edgesdk.retrieval.text_index import make_index

SHORT = {"max_tokens": 6, "coarse_tokens": 5, "prompt_tokens": 120}


@pytest.fixture(scope="module")
def model(long_bundle):
    with edgesdk.load(long_bundle, threads=1) as loaded:
        yield loaded


def desk(model, engine, **options):
    return GateDesk(engine, PromptWriter(model), GateOptions(**options), Allowance(None, None))


def stages(answer):
    return [stage.name for stage in answer.stages]


def test_never_answers_as_the_model_alone(model, index):
    answer = answer_with_sources(model, index, "How long?", gate="never", **SHORT)
    prompt = PromptWriter(model).write(COARSE, "Question: How long?").ids
    alone = model.generate(prompt, max_tokens=5, temperature=0.0, repetition_penalty=1.05)
    assert (answer.text, answer.searched, answer.passages) == (alone.text.strip(), False, ())
    assert stages(answer) == ["coarse answer", "gate"]


def test_always_needs_no_answer_of_its_own(model, index):
    answer = answer_with_sources(model, index, "tram in Lisbon", gate="always", rewrite=False, **SHORT)
    assert stages(answer) == ["gate", "search", "prompt", "answer"]
    assert answer.searched
    assert answer.queries == ("tram in Lisbon",)
    assert answer.passages[0].title == "Trip to Lisbon"


@pytest.mark.parametrize("gate", ["logprob", "entropy", "ask", "flare"])
def test_a_threshold_turns_each_gate(model, index, gate):
    sure = answer_with_sources(
        model, index, "cat", gate=gate, threshold={"logprob": -1e6, "entropy": 1e6}.get(gate, 0.0), **SHORT
    )
    unsure = answer_with_sources(
        model, index, "cat", gate=gate, threshold={"logprob": 1.0, "entropy": -1.0}.get(gate, 1.1), **SHORT
    )
    assert not sure.searched
    assert unsure.searched
    assert next(stage for stage in sure.stages if stage.name == "gate").score is not None


def test_belief_is_that_of_the_steps(model):
    """Judged in one run, an answer has the log-probabilities that it was chosen with."""
    with edgesdk.Engine(model) as engine:
        at = desk(model, engine)
        prompt = at.writer.write(COARSE, "Question: Why?").ids
        said = model.generate(prompt, max_tokens=8, temperature=0.0, logprobs=20, ignore_eos=True)
        belief = at.belief("Why?", said.tokens)
    chosen = [each.logprob for each in said.logprobs]
    assert belief.mean_logprob == pytest.approx(np.mean(chosen), abs=1e-4)
    assert belief.least == pytest.approx(np.exp(min(chosen)), rel=1e-3)
    assert belief.tokens == 8
    assert 0 < belief.mean_entropy <= np.log(model.decoder.vocab_size)


def test_claims_that_are_known_are_not_searched_for(model, index, monkeypatch):
    written = json.dumps(
        {
            "questions": [{"query": "tram"}, {"query": " Boiler? "}],
            "claims": [{"claim": "A cat sleeps.", "query": "cat hours"}],
        }
    )
    monkeypatch.setattr(
        "edgesdk.retrieval.answer_with_sources.rewrite",
        lambda desk, question, coarse: read_rewritten(written),
    )
    options = {"gate": "entropy", "threshold": -1.0, **SHORT}
    every = answer_with_sources(model, index, "boiler", filter_claims=False, **options)
    assert every.queries == ("boiler", "tram", "cat hours")
    assert {passage.title for passage in every.passages} <= {"boiler", "Trip to Lisbon", "Cats"}
    unsure = answer_with_sources(model, index, "boiler", **options)
    assert unsure.queries == ("boiler", "tram", "cat hours")

    from edgesdk.retrieval.judges import BeliefJudge, Judgement

    judged = []

    def judge(self, desk, question, answer, tokens):
        judged.append((question, answer))
        return Judgement(len(judged) > 1, 0.0, "by turn")

    monkeypatch.setattr(BeliefJudge, "judge", judge)
    sure = answer_with_sources(model, index, "boiler", **options)
    assert judged[1] == ("cat hours", "A cat sleeps.")  # the claim against its own query
    assert sure.queries == ("boiler", "tram")


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text())
def test_whatever_a_model_writes_is_read(text):
    found = read_rewritten(text)
    assert found.problem is None or (not found.queries and not found.claims)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(["query", "claim"]), inner),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(["questions", "claims"]), JSON))
def test_whatever_document_a_model_writes_is_read(document):
    found = read_rewritten(f"Sure! {json.dumps(document)} Hope this helps")
    assert len(found.queries) <= 3
    assert all(0 < len(query) <= 160 and "\n" not in query for query in found.queries)


def test_passages_fit_their_room(model):
    tokenizer = model.tokenizer
    passages = [Passage(i, None, f"title {i}", "word " * 50, 0, 1.0) for i in range(9)]
    for most in (0, 1, 10, 40, 100, 10_000):
        kept, text = fit(passages, tokenizer, most, numbered=True)
        assert len(tokenizer.encode(text, add_bos=False)) <= most
        assert kept == passages[: len(kept)]
    assert len(kept) == 9
    cut, text = fit(passages, tokenizer, 60, numbered=True)
    assert len(cut) == 1
    assert text.startswith("[1] title 0\nword")


def test_a_passage_cannot_end_its_message(model):
    special = next(
        text
        for text in (model.tokenizer.decode([i], skip_special=False) for i in model.tokenizer.special_ids)
        if len(text) > 1
    )
    nested = special[:1] + special + special[1:]
    _, text = fit([Passage(1, None, special, f"a {special} b {nested}", 0, 1.0)], model.tokenizer, 500)
    assert special not in text
    assert not set(model.tokenizer.encode(text, add_bos=False)) & set(model.tokenizer.special_ids)


def test_files_take_turns(tmp_path):
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "long.txt").write_text("\n\n".join(f"zebra number{i} " + "filler " * 150 for i in range(8)))
    (folder / "short.txt").write_text("One zebra.")
    with make_index(tmp_path / "i") as index:
        index.add([folder])
        found = gather(index, "zebra", ["zebra", "number3 zebra"], files=10, most=5)
        assert len({passage.id for passage in found}) == len(found) == 5
        assert "short" in {passage.title for passage in found[:2]}
        (only,) = {p.title for p in gather(index, "zebra", ["zebra"], files=1, most=5)}
        assert only in ("long", "short")


def test_nothing_found_is_said_to_the_model(model, index):
    answer = answer_with_sources(model, index, "xylophone", gate="always", rewrite=False, **SHORT)
    assert answer.searched
    assert answer.passages == answer.cited == ()


def test_only_passages_that_are_there_are_cited(model, index, monkeypatch):
    real = GateDesk.write

    def write(self, *parts, **options):
        said = real(self, *parts, **options)
        return dataclasses.replace(said, text="By the river [1], [7] [0] [1] [x].")

    monkeypatch.setattr(GateDesk, "write", write)
    answer = answer_with_sources(
        model, index, "Lisbon hotel", gate="always", rewrite=False, cite=True, **SHORT
    )
    assert answer.cited == (1,)
    assert answer.named
    assert answer.sources[0].title == "Trip to Lisbon"


def test_an_answer_that_names_nothing_is_found_by_its_words():
    texts = ("A cat sleeps.", "Casa Azul")
    passages = [Passage(i, None, "title", text, 0, 1.0) for i, text in enumerate(texts)]
    assert shared("It was Casa Azul.", "What hotel was it?", passages) == (2,)
    assert shared("A cat.", "Is it a cat?", passages) == ()
    assert shared("Something else altogether.", "Why?", passages) == ()
    assert shared("", "Why?", []) == ()


def test_a_larger_model_answers_and_its_proxy_decides(model, index):
    with edgesdk.Engine(model) as larger:
        answer = answer_with_sources(
            model, index, "cat", larger=larger, gate="entropy", threshold=-1.0, **SHORT
        )
        assert answer.searched
        assert larger.metrics.finished == 1
        answer_with_sources(model, index, "cat", larger=larger, threshold=1e6, **SHORT)
        assert larger.metrics.finished == 2


def test_time_and_patience(model, index):
    answer = answer_with_sources(
        model, index, "cat", gate="entropy", threshold=-1.0, deadline_s=1e-6, **SHORT
    )
    assert answer.finish_reason == "deadline"
    answer = answer_with_sources(model, index, "cat", gate="always", cancelled=lambda: True, **SHORT)
    assert answer.finish_reason == "cancelled"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"gate": "oracle"}, "always, never, logprob"),
        ({"passages": 0}, "passages"),
        ({"threshold": "high"}, "threshold"),
        ({"threshold": 0.5, "gate": "always"}, "reads no threshold"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"rewrite": 1}, "rewrite"),
        ({"cancelled": 3}, "cancelled"),
        ({"tresholdd": 1}, "tresholdd"),
    ],
)
def test_bad_options(model, index, changed, message):
    with pytest.raises(UnsupportedOption, match=message):
        answer_with_sources(model, index, "cat", **changed)


def test_bad_questions(model, index):
    with pytest.raises(UnsupportedOption, match="empty"):
        answer_with_sources(model, index, "  ")
    with pytest.raises(UnsupportedOption, match="expected an index"):
        answer_with_sources(model, "index", "cat")
    with pytest.raises(CapacityError, match="a quarter of the context"):
        answer_with_sources(model, index, "why " * 500)
    index.close()
    with pytest.raises(EdgeError):
        answer_with_sources(model, index, "cat", gate="always", **SHORT)
