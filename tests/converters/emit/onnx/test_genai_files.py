"""The emitted folder as onnxruntime-genai sees it: it loads, tokenises alike and says the same."""

import dataclasses
import json

import numpy as np
import pytest

from edgesdk.backends.onnxruntime_resident import ResidentModel
from edgesdk.bundle.genai_config import genai_config
from edgesdk.bundle.manifest import GenerationDefaults, TokenizerRecord
from edgesdk.errors import EmitError
from edgesdk_converters.emit.onnx.resident import emit_resident

CONTEXT = 64


@pytest.fixture
def folder(make_program, quantise, tokenizer_files, tmp_path):
    program = quantise(make_program("plain"), "w8-round")
    emit_resident(
        program,
        program.weights,
        tmp_path,
        context=CONTEXT,
        tokenizer=tokenizer_files,
        generation=GenerationDefaults(),
    )
    return tmp_path


def test_greedy_text_is_our_own(folder, make_program):
    og = pytest.importorskip("onnxruntime_genai", reason="needs the extra 'genai'")
    prompt = np.arange(5, 25, dtype=np.int32)
    model = og.Model(str(folder))
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=40, do_sample=False)
    generator = og.Generator(model, params)
    generator.append_tokens(prompt)
    theirs = []
    while not generator.is_done():
        generator.generate_next_token()
        theirs.append(int(generator.get_next_tokens()[0]))
    sequence = ResidentModel(
        folder / "model.onnx", make_program("plain").spec, CONTEXT, threads=1
    ).new_sequence()
    ours, logits = [], sequence.extend(prompt)
    while len(ours) < len(theirs):
        ours.append(int(logits.argmax()))
        logits = sequence.extend(np.array(ours[-1:], np.int32))
    assert len(theirs) > 0
    assert ours == theirs


def test_padded_batches_give_what_each_prompt_gives_alone(folder):
    """Prompts of unequal length are padded on the right; each row must ignore the padding."""
    og = pytest.importorskip("onnxruntime_genai", reason="needs the extra 'genai'")
    model = og.Model(str(folder))
    pad = json.loads((folder / "genai_config.json").read_text())["model"]["pad_token_id"]
    prompts = [[7, 8, 9, 10, 11, 12], [20, 21, 22]]

    def generate(rows):
        params = og.GeneratorParams(model)
        params.set_search_options(max_length=16, do_sample=False, batch_size=len(rows))
        generator = og.Generator(model, params)
        longest = max(map(len, rows))
        padded = [row + [pad] * (longest - len(row)) for row in rows]
        generator.append_tokens(np.array(padded, np.int32).reshape(len(rows), longest))
        generator.generate_next_token()
        return [int(token) for token in generator.get_next_tokens()]

    assert generate(prompts) == [generate([prompt])[0] for prompt in prompts]


def test_tokenizer_gives_the_same_ids(folder, tokenizer_files):
    og = pytest.importorskip("onnxruntime_genai", reason="needs the extra 'genai'")
    from tokenizers import Tokenizer

    theirs = og.Tokenizer(og.Model(str(folder)))
    ours = Tokenizer.from_str(tokenizer_files.tokenizer_json)
    for text in ("abc 123", "<s>x</s>"):
        assert list(theirs.encode(text)) == ours.encode(text, add_special_tokens=False).ids
    message = json.dumps([{"role": "user", "content": "abc"}])
    assert theirs.apply_chat_template(message, add_generation_prompt=True) == "<s>abc"


def test_config_says_what_the_checkpoint_says(make_program, tokenizer_files):
    record = TokenizerRecord(None, (2, 5), False)
    files = dataclasses.replace(tokenizer_files, record=record)
    generation = GenerationDefaults(temperature=0.6, top_p=0.9)
    config = genai_config("m.onnx", make_program("plain").spec, 64, files.record, generation)
    model, search = config["model"], config["search"]
    assert (model["eos_token_id"], model["bos_token_id"], model["context_length"]) == ([2, 5], 2, 64)
    assert (search["do_sample"], search["temperature"], search["top_p"]) == (True, 0.6, 0.9)
    assert search["past_present_share_buffer"] is True


def test_other_tokenizers_are_refused(make_program, quantise, tokenizer_files, tmp_path):
    program = quantise(make_program("plain"), "f32")
    for text in ('{"model": {"type": "WordLevel"}}', "{}", "no json"):
        files = dataclasses.replace(tokenizer_files, tokenizer_json=text)
        with pytest.raises(EmitError, match="reads tokenizers of type BPE"):
            emit_resident(
                program,
                program.weights,
                tmp_path,
                context=CONTEXT,
                tokenizer=files,
                generation=GenerationDefaults(),
            )
    assert list(tmp_path.iterdir()) == []
