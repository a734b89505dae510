"""SmolLM2-135M through the resident model: near the evaluator, and onnxruntime-genai says the same."""

import numpy as np
import pytest

from edgesdk.backends.onnxruntime_genai import GenaiModel
from edgesdk.backends.onnxruntime_resident import ResidentModel
from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.emit.onnx.resident import emit_resident
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.graph.program import Program

pytestmark = pytest.mark.real

CONTEXT = 512
QUESTION = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
PROMPTS = [
    QUESTION,
    "The three primary colours are",
    "def add(a, b):\n    return",
    "Once upon a time, in a village",
]
# Mean KL per position in nats: activations in int8 blocks of 32, against the recipe's own integers.
KL_NATS = 0.02


def log_softmax(logits):
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def greedy(sequence, prompt, count):
    logits, text = sequence.extend(prompt), []
    for _ in range(count):
        text.append(int(logits.argmax()))
        logits = sequence.extend(np.array(text[-1:], np.int32))
    return text


@pytest.mark.parametrize("recipe", ["w8-round", "w4b32-round"])
def test_smollm2(smollm2_gguf, quantise, tmp_path, recipe):
    from tokenizers import Tokenizer

    checkpoint = open_checkpoint(str(smollm2_gguf))
    spec = read_spec(checkpoint.config)
    program = quantise(Program(spec, build_decoder(spec), weights_for(checkpoint, spec)), recipe)
    emit_resident(
        program,
        program.weights,
        tmp_path,
        context=CONTEXT,
        tokenizer=checkpoint.tokenizer,
        generation=checkpoint.generation,
    )
    ours = ResidentModel(tmp_path / "model.onnx", spec, CONTEXT, threads=2)
    engine = Tokenizer.from_str(checkpoint.tokenizer.tokenizer_json)
    prompts = [np.array(engine.encode(text).ids, np.int32) for text in PROMPTS]

    expected = log_softmax(np.concatenate(list(sequence_logits(program, prompts))))
    found = log_softmax(np.concatenate([ours.new_sequence().score(prompt) for prompt in prompts]))
    assert (np.exp(expected) * (expected - found)).sum(-1).mean() < KL_NATS

    texts = [greedy(ours.new_sequence(), prompt, 32) for prompt in prompts]
    assert recipe != "w8-round" or "Paris" in engine.decode(texts[0])

    pytest.importorskip("onnxruntime_genai", reason="needs the extra 'genai'")
    theirs = GenaiModel(tmp_path, spec.vocab_size, CONTEXT, threads=2)
    assert [greedy(theirs.new_sequence(), prompt, 32) for prompt in prompts] == texts
