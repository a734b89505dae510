"""A vocabulary of another language, by every initialisation: how well does it begin, and after tuning?

    python benchmarks/adapt_language.py SOURCE TEXT [--english FILE] [--size N] [--bytes N] [--inits LIST]
        [--tune STEPS] [--seeds N]

Nine tenths of TEXT train the tokenizer (and the vectors that clp, clp+ and focus need), the rest is scored in
pieces of 512 tokens: bits per byte, by each model in its own tokens, after `w8-round` for LiteRT. Beside them
stand the checkpoint as it is and, with `expand`, 4,000 tokens more behind its own. Characters per second are
those of a prompt of equal text, by processor time, and of decoding: characters per token over a step's time.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np

import edgesdk
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.convert import convert
from edgesdk_converters.convert_options import ConvertOptions
from edgesdk_converters.training.adapter_training import AdapterTraining
from edgesdk_converters.training.train_adapter import train_adapter
from edgesdk_converters.vocabulary.adapt.adapt_request import AdaptRequest
from edgesdk_converters.vocabulary.adapt.adapt_vocab import adapt_vocab

_PIECE = 512
_STEPS = 64


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source")
    parser.add_argument("text", type=Path)
    parser.add_argument("--english", type=Path)
    parser.add_argument("--size", type=int, default=8000)
    parser.add_argument("--bytes", type=int, default=24_000)
    parser.add_argument("--inits", default="random,mean,clp,clp+,heuristics,focus,expand")
    parser.add_argument(
        "--tune", type=int, default=0, help="also train adapter and tables for so many steps of 1,024 tokens"
    )
    parser.add_argument("--seeds", type=int, default=1, help="of tokenizer rows and tuning")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    text = asked.text.read_text(encoding="utf-8")
    cut = len(text) * 9 // 10
    held_out = _of_bytes(text[cut:], asked.bytes)
    english = None if asked.english is None else _of_bytes(asked.english.read_text("utf-8"), asked.bytes)
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus.txt"
        corpus.write_text(text[:cut], encoding="utf-8")
        for name, seed in product(("as it is", *asked.inits.split(",")), range(asked.seeds)):
            here = Path(folder) / f"{name}-{seed}"
            source = asked.source
            if name != "as it is":
                source = str(here)
                init, more = ("mean", {"expand": True, "size": 4000}) if name == "expand" else (name, {})
                request = AdaptRequest((corpus,), init, **{"size": asked.size, "seed": seed, **more})
                adapt_vocab(open_checkpoint(asked.source), request, here)
            row = {"init": name, "seed": seed}
            for tuned in (False, True)[: 1 + bool(asked.tune)]:
                merged = ()
                if tuned:
                    adapter = Path(folder) / f"{name}-{seed}-adapter"
                    training = AdapterTraining(
                        (str(corpus),), hours=None, steps=asked.tune, tables=True, seed=seed
                    )
                    train_adapter(source, adapter, training)
                    merged = (str(adapter),)
                bundle = Path(folder) / f"{name}-{seed}-{tuned}-bundle"
                options = ConvertOptions(
                    targets=("litert",), recipes=("w8-round",), prove=False, merge_adapters=merged
                )
                convert(source, bundle, options)
                with edgesdk.load(bundle, threads=1) as model:
                    row |= _measured(model, held_out, english, tuned)
                shutil.rmtree(bundle)
            print(
                json.dumps(row) if asked.json else "  ".join(f"{k} {_shown(v)}" for k, v in row.items()),
                flush=True,
            )
    return 0


def _measured(model: edgesdk.Model, text: str, english: str | None, tuned: bool) -> dict[str, float]:
    found = _figures(model, text)
    more = {} if english is None else {"english": _figures(model, english)["bits_per_byte"]}
    if tuned:
        return {"tuned_bits_per_byte": found["bits_per_byte"], **{f"tuned_{k}": v for k, v in more.items()}}
    return {"tokens": model.decoder.vocab_size, **found, **more}


def _figures(model: edgesdk.Model, text: str) -> dict[str, float]:
    ids = model.tokenizer.encode(text, add_bos=False)
    start = model.tokenizer.encode(" ", add_bos=False)[:1]
    nats, began = 0.0, time.process_time()
    for place in range(0, len(ids), _PIECE):
        piece = [*start, *ids[place : place + _PIECE]]
        logits = model.score(piece)[:-1].astype(np.float64)
        logits -= logits.max(1, keepdims=True)
        chosen = logits[np.arange(len(piece) - 1), piece[1:]]
        nats += float((np.log(np.exp(logits).sum(1)) - chosen).sum())
    prefill = time.process_time() - began
    began = time.process_time()
    model.generate(ids[:_PIECE], max_tokens=_STEPS, ignore_eos=True, temperature=0.0)
    step = (time.process_time() - began) / _STEPS
    size, characters = len(text.encode()), len(text)
    return {
        "tokens_per_byte": len(ids) / size,
        "bits_per_byte": nats / np.log(2) / size,
        "prompt_characters_a_second": characters / prefill,
        "decode_characters_a_second": characters / len(ids) / step,
    }


def _of_bytes(text: str, most: int) -> str:
    return text.encode()[:most].decode("utf-8", "ignore")


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
