"""An adapted checkpoint's tokenizer in the field's other readers: the same ids everywhere?

    python benchmarks/vocabulary_peers.py FOLDER TEXT --llama LLAMA.CPP --python peer/bin/python
        --llama-python llama/bin/python

FOLDER is what `edgesdk vocab adapt` wrote, TEXT any text. PYTHON has transformers, torch and gguf; LLAMA.CPP
is a folder with convert_hf_to_gguf.py, LLAMA_PYTHON has llama-cpp-python. The file that the converter writes
is also read back by ours. Compared are every line of TEXT, texts of every script and of code points that no
language has, and the text of every token. llama.cpp's converter tells how a tokenizer splits words by a hash
of what it makes of a text, and knows no tokenizer that was trained here: it is told the name of the source's
way (`--pre`).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import click
from tokenizers import Tokenizer

from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint

_ODD = (
    "", " ", "  a  b", "\n\n\t x", "Straße über Flüsse", "日本語のテキスト。カタカナ", "ሰላም ዓለም",
    "नमस्ते दुनिया", "\U0001f469\u200d\U0001f467 e\u0301", "\u0000\u0007\ufeff", "\U0010fffd\ue000",
    "1234567890 3.14 a1b2", "don't I'LL we've",
)  # fmt: skip

_TRANSFORMERS = """
import json, sys
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
texts = json.load(open(sys.argv[2], encoding="utf-8"))
print(json.dumps({
    "ids": [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts],
    "texts": [tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts],
    "template": tokenizer.apply_chat_template([{"role": "user", "content": "Hallo"}], tokenize=False,
        add_generation_prompt=True) if tokenizer.chat_template else None,
    "size": len(tokenizer), "eos": tokenizer.eos_token_id}))
"""

_LLAMA = """
import json, sys
import llama_cpp
model = llama_cpp.Llama(sys.argv[1], vocab_only=True, verbose=False)
texts = json.load(open(sys.argv[2], encoding="utf-8"))
ids = [model.tokenize(text.encode(), add_bos=False, special=False) for text in texts]
print(json.dumps({
    "ids": ids,
    "texts": [model.detokenize(each).decode("utf-8", "replace") for each in ids],
    "size": model.n_vocab(), "eos": model.token_eos()}))
"""

_CONVERT = """
import runpy, sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/gguf-py"]
from conversion.base import TextModel
TextModel.get_vocab_base_pre = lambda self, tokenizer, pre=sys.argv[2]: pre
sys.argv = sys.argv[3:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("text", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--llama", type=click.Path(exists=True, path_type=Path))
@click.option("--python", required=True)
@click.option("--llama-python")
@click.option("--pre", default="smollm", show_default=True)
@click.option("--lines", default=400, show_default=True, help="Of TEXT, at most.")
def main(
    folder: Path,
    text: Path,
    llama: Path | None,
    python: str,
    llama_python: str | None,
    pre: str,
    lines: int,
) -> None:
    engine = Tokenizer.from_file(str(folder / "tokenizer.json"))
    added = set(engine.get_added_tokens_decoder())
    shown = (engine.decode([i]) for i in range(engine.get_vocab_size()) if i not in added)
    texts = [*text.read_text(encoding="utf-8").splitlines()[:lines], *_ODD]
    texts += [each for each in shown if "\ufffd" not in each]
    ours = [engine.encode(each, add_special_tokens=False).ids for each in texts]
    print(f"{len(texts)} texts, {sum(map(len, ours))} tokens, vocabulary {engine.get_vocab_size()}")
    with tempfile.TemporaryDirectory() as scratch:
        given = Path(scratch) / "texts.json"
        given.write_text(json.dumps(texts), encoding="utf-8")
        _compare("transformers", texts, ours, _said(python, _TRANSFORMERS, folder, given))
        if llama is None:
            return
        file = Path(scratch) / "model.gguf"
        command = [python, "-c", _CONVERT, str(llama), pre, str(llama / "convert_hf_to_gguf.py"), str(folder)]
        done = subprocess.run(
            [*command, "--outfile", str(file), "--outtype", "f16"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise click.ClickException(f"its converter failed: {done.stderr.strip().splitlines()[-1][:300]}")
        back = Tokenizer.from_str(open_checkpoint(str(file)).tokenizer.tokenizer_json)
        ids = [back.encode(each, add_special_tokens=False).ids for each in texts]
        _compare(
            "the GGUF file, read by ours",
            texts,
            ours,
            {"ids": ids, "texts": list(map(back.decode, ids)), "size": back.get_vocab_size()},
        )
        if llama_python is not None:
            _compare("llama.cpp", texts, ours, _said(llama_python, _LLAMA, file, given))


def _said(python: str, script: str, *arguments: Path) -> dict:
    done = subprocess.run(
        [python, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise click.ClickException((done.stderr.strip().splitlines() or ["it failed"])[-1][:300])
    return json.loads(done.stdout.splitlines()[-1])


def _compare(name: str, texts: list[str], ours: list[list[int]], theirs: dict) -> None:
    other = [i for i, ids in enumerate(theirs["ids"]) if ids != ours[i]]
    lossy = sum(text != back for text, back in zip(texts, theirs["texts"], strict=True))
    rest = {key: value for key, value in theirs.items() if key not in ("ids", "texts")}
    print(f"{name}: {len(other)} texts have other ids, {lossy} do not come back; {rest}")
    for i in other[:5]:
        print(f"   {texts[i][:40]!r}: {ours[i][:8]} here, {theirs['ids'][i][:8]} there")


if __name__ == "__main__":
    sys.exit(main())
