"""A peer that embeds texts: transformers' model on torch, mean of the last hidden states, as a process.

    python embed_worker.py MODEL THREADS DTYPE

MODEL is a Hugging Face directory or a GGUF file. Every line of standard input is a JSON list of texts; the
answer is a line with wall and processor seconds and the vectors. Texts go longest first in batches of 32, as
sentence-transformers sends them.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from transformers import AutoModel, AutoTokenizer

_BATCH = 32


def main() -> None:
    """Answers until standard input ends."""
    path, threads, dtype = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(threads)
    place = {"gguf_file": path.name} if path.suffix == ".gguf" else {}
    folder = path.parent if place else path
    tokenizer = AutoTokenizer.from_pretrained(folder, **place)
    model = AutoModel.from_pretrained(folder, dtype=getattr(torch, dtype), **place).eval()
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    tokenizer.padding_side = "right"
    print("ready", flush=True)
    for line in sys.stdin:
        texts = json.loads(line)
        wall, cpu = time.perf_counter(), time.process_time()
        vectors = embed(tokenizer, model, texts)
        seconds = time.perf_counter() - wall, time.process_time() - cpu
        print(json.dumps({"seconds": seconds, "vectors": vectors}), flush=True)


def embed(tokenizer, model, texts: list[str]) -> list[list[float]]:
    """Vectors of length 1, in the order of the texts."""
    order = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
    found: list[list[float]] = [[]] * len(texts)
    for first in range(0, len(order), _BATCH):
        places = order[first : first + _BATCH]
        batch = tokenizer([texts[place] for place in places], padding=True, return_tensors="pt")
        with torch.inference_mode():
            states = model(**batch, use_cache=False).last_hidden_state.float()
        mask = batch["attention_mask"][:, :, None].float()
        pooled = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1)
        for place, vector in zip(places, pooled.tolist(), strict=True):
            found[place] = vector
    return found


if __name__ == "__main__":
    main()
