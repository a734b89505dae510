"""Makes the tiny random model of EmbeddingGemma's layout, and its reference vectors, in tests/data/embedders.

Needs torch and transformers, which nothing else in the project does; run it by hand, with the versions that
tests/data/embedders/README.md names:

    python tests/data/make_tiny_whole_text.py

Four layers, of which the second and the last see everything and the others a window of both ways, which most
texts are longer than; two dense modules behind mean pooling. `reference.npz` has what sentence-transformers
computes, step by step in float64: last hidden states by transformers, their mean, the dense modules,
length 1.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from transformers import AutoModel, AutoTokenizer, Gemma3TextConfig, Gemma3TextModel

HERE = Path(__file__).parent
OUT = HERE / "embedders" / "embeddinggemma"
BASE = HERE / "tiny" / "gemma3"
WIDTH, INNER = 64, 128
TEXTS = (
    "What is the capital of China?",
    "The capital of China is Beijing.",
    "a",
    "",
    "Gravity is a force that attracts two bodies towards each other. " * 3,
    "Bread is made of flour, water, salt and yeast, and baked. " * 12,
)
PROMPTS = {"query": "task: search result | query: ", "document": "title: none | text: "}
KINDS = ("Transformer", "Pooling", "Dense", "Dense", "Normalize")


def main() -> None:
    """Writes the directory and its references."""
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    settings = json.loads((BASE / "config.json").read_text())
    torch.manual_seed(51)
    config = Gemma3TextConfig(
        **{
            **settings,
            "num_hidden_layers": 4,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "max_position_embeddings": 1024,
            "sliding_window": 13,  # an odd one: halves are not whole
            "use_bidirectional_attention": True,
            "final_logit_softcapping": None,
            "architectures": None,
            "initializer_range": 0.3,
        }
    )
    model = Gemma3TextModel(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.normal_(0, 0.2)
    model.to(torch.bfloat16).save_pretrained(OUT)
    write_tokenizer()
    write_modules()
    texts = list(TEXTS)
    np.savez_compressed(
        OUT / "reference.npz",
        texts=np.array(texts),
        **vectors_of(texts),
        queries=vectors_of([PROMPTS["query"] + text for text in texts])["vectors"],
    )
    readme = OUT.parent / "README.md"
    told = readme.read_text().split("\nMade by `tests/data/make_tiny_whole_")[0].rstrip("\n")
    readme.write_text(
        f"{told}\n\nMade by `tests/data/make_tiny_whole_text.py` with torch {torch.__version__}, "
        f"transformers {transformers.__version__}: embeddinggemma.\n"
    )


def write_tokenizer() -> None:
    """The base's tokenizer, with a token of its own at both ends of a text."""
    tokenizer = json.loads((BASE / "tokenizer.json").read_text())
    settings = json.loads((BASE / "tokenizer_config.json").read_text())
    ids = {entry["content"]: entry["id"] for entry in tokenizer["added_tokens"]}
    first, last = settings["bos_token"], settings["eos_token"]
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": first, "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": last, "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {
            name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in (first, last)
        },
    }
    Tokenizer.from_str(json.dumps(tokenizer)).save(str(OUT / "tokenizer.json"), pretty=False)
    write("tokenizer_config.json", settings)


def write_modules() -> None:
    """What sentence-transformers reads beside the model."""
    paths = [f"{i}_{kind}" if i else "" for i, kind in enumerate(KINDS)]
    write(
        "modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(zip(paths, KINDS, strict=True))
        ],
    )
    write("config_sentence_transformers.json", {"prompts": PROMPTS, "default_prompt_name": None})
    write("1_Pooling/config.json", {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True})
    rng = np.random.default_rng(51)
    for path, (out, into) in {"2_Dense": (INNER, WIDTH), "3_Dense": (WIDTH, INNER)}.items():
        write(
            f"{path}/config.json",
            {
                "in_features": into,
                "out_features": out,
                "bias": False,
                "activation_function": "torch.nn.modules.linear.Identity",
            },
        )
        matrix = (rng.standard_normal((out, into)) / into**0.5).astype(np.float32)
        save_file({"linear.weight": matrix}, OUT / path / "model.safetensors")


def vectors_of(texts: list[str]) -> dict[str, np.ndarray]:
    """Vectors of texts (n, W), and mean and first of the states before the dense modules (n, E) each."""
    from safetensors.numpy import load_file

    tokenizer = AutoTokenizer.from_pretrained(OUT)
    model = AutoModel.from_pretrained(OUT, dtype=torch.float64, attn_implementation="eager").eval()
    dense = [load_file(OUT / path / "model.safetensors")["linear.weight"] for path in ("2_Dense", "3_Dense")]
    vectors, firsts = [], []
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            states = model(ids, use_cache=False).last_hidden_state[0].numpy()
        found = []
        for pooled in (states.mean(axis=0), states[0]):
            for matrix in dense:
                pooled = matrix.astype(np.float64) @ pooled
            found.append(pooled)
        vectors.append(found[0] / np.linalg.norm(found[0]))
        firsts.append(found[1])
    return {"vectors": np.stack(vectors), "firsts": np.stack(firsts)}


def write(name: str, document: object) -> None:
    """A JSON file of the directory."""
    path = OUT / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
