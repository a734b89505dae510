"""A trained draft in the model's file, on tiny models: any answer as without, whatever its weights say."""

import json
from pathlib import Path

import numpy as np
import pytest

import edgesdk
from edgesdk.bundle.reader import open_bundle
from edgesdk.decoding.draft import Draft
from edgesdk.decoding.draft_source import DraftSource
from edgesdk.drafts.combine import CombinedDrafter
from edgesdk.drafts.trained_draft import open_trained_draft
from edgesdk.engine.engine import Engine
from edgesdk.errors import BundleError, DeviceError, UnsupportedOption
from edgesdk.kv.step_model import steps_of
from edgesdk.model import Model
from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.drafts.draft_checkpoint import (
    DraftCheckpoint,
    DraftConfig,
    DraftTarget,
    tokenizer_digest,
    write_draft,
)
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.evaluate import evaluate
from edgesdk_converters.graph.full_sequence import sequence_inputs
from edgesdk_converters.graph.program import Program
from edgesdk_converters.transforms.give_hidden import give_hidden

TINY = Path(__file__).parents[2] / "data" / "tiny"
CONTEXT = 128
GREEDY = {"temperature": 0.0, "repetition_penalty": 1.0, "ignore_eos": True}
SAMPLED = {"temperature": 0.9, "top_p": 0.95, "seed": 3, "ignore_eos": True}
NEAR_TIE = 1e-3
NAMES = ["llama", "gemma3"]
BACKENDS = ["litert", "litert-interpreter", "onnxruntime-step"]


def program_of(name):
    checkpoint = open_checkpoint(str(TINY / name))
    spec = read_spec(checkpoint.config)
    return Program(spec, build_decoder(spec), weights_for(checkpoint, spec)), checkpoint.tokenizer


def repeating_draft(name):
    """Says what the model would: its state stays what the head read, so it guesses the token once more."""
    program, tokenizer = program_of(name)
    spec = program.spec
    target = DraftTarget(
        spec.architecture, spec.vocab_size, spec.hidden_size, tokenizer_digest(tokenizer), name
    )
    config = DraftConfig(spec.hidden_size, 32, 1, 5, spec.norm_eps, target)
    random = np.random.default_rng(5)
    tensors = {
        key: np.ones(shape, np.float32)
        if len(shape) == 1
        else (random.standard_normal(shape) / 20).astype(np.float32)
        for key, shape in config.shapes.items()
    }
    return DraftCheckpoint(config, tensors, np.arange(spec.vocab_size, dtype=np.int32))


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def bundle(name, converted_once, tmp_path_factory):
    folder = tmp_path_factory.mktemp("draft")
    write_draft(folder, repeating_draft(name))
    return converted_once(
        TINY / name,
        targets=("litert", "onnx-step"),
        recipes=("f32",),
        context=CONTEXT,
        prove=False,
        draft=folder,
    )


@pytest.fixture(scope="module", params=BACKENDS)
def loaded(request, name, bundle):
    if name != "llama" and request.param == "litert-interpreter":
        pytest.skip("takes the file that litert takes: one model is enough")
    with edgesdk.load(bundle, backend=request.param, strict=True, threads=1) as model:
        yield model


@pytest.fixture(scope="module")
def asked(loaded):
    """Prompts of many lengths, with what the model answers them one by one, without drafts."""
    random = np.random.default_rng(4)
    size = loaded.bundle.manifest.decoder.vocab_size
    prompts = [random.integers(6, size, 3 + 9 * i).tolist() for i in range(5)]
    return [
        (prompt, options, loaded.generate(prompt, max_tokens=24, **options).tokens)
        for prompt in prompts
        for options in (GREEDY, SAMPLED)
    ]


class Noting:
    """A drafter that adds the true answer to what another says, and notes the states that it was given."""

    name = "noting"

    def __init__(self, inner, answers=()):
        self.inner = inner
        self.answers = answers
        self.states = []
        self.without = 0
        self.nbytes = 0

    def propose(self, asked):
        found = self.inner.propose(asked)
        for place, request in enumerate(asked):
            known = request.tokens.tolist()
            if request.state is None:
                self.without += 1
            else:
                self.states.append((known[: len(known) - request.pending], request.state.copy()))
            whole = next((each for each in self.answers if each[: len(known)] == known), None)
            if whole is not None and len(known) % 3:
                right = whole[len(known) :][: min(request.deepest, request.most - 1, len(known) % 5)]
                if right:
                    # A wrong branch first, so that the row that is kept last is not always the first.
                    wrong = next(token for token in range(6, 20) if token != right[0])
                    parents = [-1, -1, *range(1, len(right))]
                    found[place] = Draft(np.array([wrong, *right], np.int32), np.array(parents, np.int32))
        return found

    def learn(self, step):
        self.inner.learn(step)

    def forget(self, key):
        self.inner.forget(key)

    def close(self):
        self.inner.close()


def drafter_of(model, answers=()):
    variant = model.bundle.variant(model.receipt.variant)
    source = open_trained_draft(model.bundle, variant, steps_of(model.backend))
    return Noting(CombinedDrafter([source], weigh=False), answers)


def with_drafts(model, drafter):
    drafts = DraftSource(drafter, lambda: drafter, model.bundle.manifest.decoder.vocab_size)
    return Model(model.bundle, model.backend, model.receipt, drafts=drafts)


def same(model, prompt, found, expected):
    at = next((i for i, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b), None)
    if at is None:
        return True
    logits = model.score([*prompt, *expected[:at]])[-1]
    return abs(logits[found[at]] - logits[expected[at]]) < NEAR_TIE


def check_states(name, noted):
    """Every state is what the evaluator's head reads after the tokens that have been run."""
    program = give_hidden(program_of(name)[0])
    texts = []
    for tokens, _ in sorted(noted, key=lambda pair: -len(pair[0])):
        if not any(text[: len(tokens)] == tokens for text in texts):
            texts.append(tokens)
    for text in texts:
        inputs = sequence_inputs(program, [np.array(text, np.int32)])
        hidden = evaluate(program.graph, program.weights, inputs)["hidden"]
        for tokens, state in noted:
            if text[: len(tokens)] == tokens:
                expected = hidden[len(tokens) - 1]
                assert np.abs(state - expected).max() < 1e-3 * np.abs(expected).max(), len(tokens)


@pytest.mark.parametrize("helped", [False, True])
def test_a_model_with_a_draft_answers_as_without(name, loaded, asked, helped):
    answers = [[*prompt, *tokens] for prompt, _, tokens in asked] if helped else []
    drafter = drafter_of(loaded, answers)
    drafting = with_drafts(loaded, drafter)
    drafted = 0
    for prompt, options, expected in asked:
        found = drafting.generate(prompt, max_tokens=24, **options)
        assert same(loaded, prompt, found.tokens, expected)
        drafted += found.drafted_tokens
    assert drafted > 24 * len(asked)
    assert not drafting.drafts.notes
    assert len(drafter.states) > 50
    assert not drafter.without
    check_states(name, drafter.states)


@pytest.mark.parametrize("budget", [16, 64])
def test_a_batch_with_a_draft_answers_as_each_alone(name, loaded, asked, budget):
    drafter = drafter_of(loaded, [[*prompt, *tokens] for prompt, _, tokens in asked])
    # More than the cells hold at once, so some are preempted and computed again.
    with Engine(with_drafts(loaded, drafter), token_budget=budget, check_steps=True) as engine:
        running = [engine.submit(prompt, max_tokens=24, **options) for prompt, options, _ in asked]
        found = [generation.result(120).tokens for generation in running]
        assert not engine.model.drafts.notes
        assert engine.metrics.preemptions > 0
    for (prompt, _, expected), tokens in zip(asked, found, strict=True):
        assert same(loaded, prompt, tokens, expected)
    assert not drafter.without
    check_states(name, drafter.states)


def test_samples_sessions_and_prefixes_have_states_of_their_own(name, loaded):
    drafter = drafter_of(loaded)
    prompt = list(range(20, 60))
    with Engine(with_drafts(loaded, drafter), check_steps=True) as engine:
        four = engine.submit(prompt, n=4, max_tokens=12, temperature=1.0, seed=7, ignore_eos=True)
        texts = [answer.tokens for answer in four.results(120)]
        again = engine.submit(prompt, max_tokens=12, **GREEDY).result(120)
        session = engine.session()
        for turn in range(3):
            session.submit([30 + turn, 31, 32], max_tokens=6, **GREEDY).result(120)
        session.close()
        assert not engine.model.drafts.notes
    assert len(set(texts)) > 1
    assert again.tokens == loaded.generate(prompt, max_tokens=12, **GREEDY).tokens
    check_states(name, drafter.states)


@pytest.mark.parametrize("word", ["trained", "auto"])
def test_words_open_it_after_lookup(bundle, word):
    with edgesdk.load(bundle, backend="litert", draft=word, threads=1) as model:
        assert model.receipt.draft == "lookup+grammar+trained"
        prompt = list(range(7, 30))
        found = model.generate(prompt, max_tokens=40, **GREEDY)
        with edgesdk.load(bundle, backend="litert", threads=1) as plain:
            assert same(plain, prompt, found.tokens, plain.generate(prompt, max_tokens=40, **GREEDY).tokens)
        with Engine(model) as engine:
            assert engine.submit(prompt, max_tokens=40, **GREEDY).result(120).new_tokens == 40
        assert not model.receipt.notes or "off" not in " ".join(model.receipt.notes)


def test_a_bundle_without_one_refuses_it_in_one_line(converted_once):
    plain = converted_once(
        TINY / "llama", targets=("litert", "onnx"), recipes=("f32",), context=64, prove=False
    )
    with pytest.raises(UnsupportedOption, match="has no trained draft in litert-f32") as error:
        edgesdk.load(plain, draft="trained", backend="litert", threads=1)
    assert "\n" not in str(error.value)


def test_what_cannot_run_it_says_so(bundle):
    opened = open_bundle(bundle)
    with pytest.raises(DeviceError, match="cannot run its draft"):
        open_trained_draft(opened, opened.manifest.variants[0], None)


def test_a_list_of_other_tokens_is_refused(bundle, tmp_path):
    import shutil

    copy = tmp_path / "b"
    shutil.copytree(bundle, copy)
    path = next(copy.glob("variants/litert-f32/draft_vocabulary.json"))
    document = json.loads(path.read_text())
    document["old_ids"].pop()
    path.write_text(json.dumps(document))
    opened = open_bundle(copy)
    with edgesdk.load(bundle, backend="litert", threads=1) as model, pytest.raises(BundleError):
        open_trained_draft(opened, opened.manifest.variants[0], steps_of(model.backend))
