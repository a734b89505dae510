"""Makes the tiny random embedding model and reference vectors in tests/data/embedders.

Needs torch, transformers and sentence-transformers, which nothing else in the project does; run it by hand,
with the versions that tests/data/embedders/README.md names:

    python tests/data/make_tiny_embedder.py

A directory in the layout of Qwen3-Embedding: tensors without the prefix `model.`, a tokenizer that ends every
text with a token of its own, modules for pooling (last token) and normalising, prompts. `reference.npz` has
vectors by sentence-transformers in float32, and by transformers in float64 the mean and the first state of
each text, not normalised.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import sentence_transformers
import torch
import transformers
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from transformers import AutoModel, AutoTokenizer

HERE = Path(__file__).parent
OUT = HERE / "embedders" / "qwen3"
BASE = HERE / "tiny" / "qwen3"
TEXTS = (
    "What is the capital of China?",
    "The capital of China is Beijing.",
    "Gravity is a force that attracts two bodies towards each other. " * 4,
    "a",
    "",
)
PROMPTS = {"query": "Instruct: find what answers\nQuery:", "document": ""}
POOLING = {
    "word_embedding_dimension": 64,
    "pooling_mode_cls_token": False,
    "pooling_mode_mean_tokens": False,
    "pooling_mode_max_tokens": False,
    "pooling_mode_mean_sqrt_len_tokens": False,
    "pooling_mode_weightedmean_tokens": False,
    "pooling_mode_lasttoken": True,
    "include_prompt": True,
}
KINDS = ("Transformer", "Pooling", "Normalize")


def main() -> None:
    """Writes the directory and its references."""
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    AutoModel.from_pretrained(BASE, dtype=torch.bfloat16).save_pretrained(OUT)
    tokenizer = json.loads((BASE / "tokenizer.json").read_text())
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "<|im_end|>", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<|im_end|>": {"id": "<|im_end|>", "ids": [2], "tokens": ["<|im_end|>"]}},
    }
    Tokenizer.from_str(json.dumps(tokenizer)).save(str(OUT / "tokenizer.json"), pretty=False)
    settings = json.loads((BASE / "tokenizer_config.json").read_text())
    write("tokenizer_config.json", settings)
    write(
        "modules.json",
        [
            {
                "idx": i,
                "name": str(i),
                "path": f"{i}_{kind}" if i else "",
                "type": f"sentence_transformers.models.{kind}",
            }
            for i, kind in enumerate(KINDS)
        ],
    )
    (OUT / "1_Pooling").mkdir()
    write("1_Pooling/config.json", POOLING)
    write("config_sentence_transformers.json", {"prompts": PROMPTS, "default_prompt_name": None})
    (OUT / "2_Normalize").mkdir()
    embedder = SentenceTransformer(str(OUT), device="cpu", model_kwargs={"dtype": torch.float32})
    texts = list(TEXTS)
    np.savez_compressed(
        OUT / "reference.npz",
        texts=np.array(texts),
        vectors=embedder.encode(texts),
        short=embedder.encode(texts, truncate_dim=16, normalize_embeddings=True),
        queries=embedder.encode(texts, prompt_name="query"),
        **states_of(texts),
    )
    (OUT.parent / "README.md").write_text(
        "# Tiny random embedding models\n\nMade by `tests/data/make_tiny_embedder.py` with "
        f"sentence-transformers {sentence_transformers.__version__}, torch {torch.__version__}, transformers "
        f"{transformers.__version__}.\n"
    )
    (OUT / "2_Normalize").rmdir()


def states_of(texts: list[str]) -> dict[str, np.ndarray]:
    """Mean and first of the last hidden states, in float64: (n, E) each."""
    tokenizer = AutoTokenizer.from_pretrained(OUT)
    model = AutoModel.from_pretrained(OUT, dtype=torch.float64, attn_implementation="eager").eval()
    means, firsts = [], []
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            states = model(ids, use_cache=False).last_hidden_state[0]
        means.append(states.mean(0).numpy())
        firsts.append(states[0].numpy())
    return {"means": np.stack(means), "firsts": np.stack(firsts)}


def write(name: str, document: object) -> None:
    """A JSON file of the directory."""
    (OUT / name).write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
