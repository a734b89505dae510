"""Refuses models that no target holds as what they are, by the names that files give them.

Without it the first key that only they have would be called unknown. Everything else about architectures
is in `edgesdk_converters.architectures`.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgesdk.errors import CheckpointError

_WHY = (
    (
        "layers whose state is no list of keys and values",
        "qwen3_5 qwen3_5_text qwen35 qwen3_next mamba mamba2 falcon_h1 falcon-h1 jamba bamba zamba2 "
        "granitehybrid nemotron_h plamo2 rwkv6 rwkv7",
    ),
    (
        "a mixture of experts",
        "mixtral qwen2_moe qwen3_moe qwen2moe qwen3moe gpt_oss gpt-oss olmoe granitemoe deepseek_v3 "
        "deepseek2 ernie4_5_moe lfm2_moe lfm2moe",
    ),
    ("several residual streams side by side", "gemma3n gemma3n_text"),
    (
        "tokens that see the whole text, as encoders have",
        "gemma-embedding bert modern-bert modernbert nomic-bert nomic_bert jina-bert-v2 eurobert roberta "
        "xlm-roberta",
    ),
)
_WHOLE_TEXT = {("gemma3_text", "use_bidirectional_attention")}
"""Architectures that are read so, by the key that says it."""

UNFIT = {name: why for why, names in _WHY for name in names.split()}
"""`model_type`, or `general.architecture` of a GGUF file -> what it has."""


def refuse_unfit(model_type: str) -> None:
    """Refuses a model of these.

    Raises:
        CheckpointError: saying what it has.
    """
    if model_type in UNFIT:
        raise CheckpointError(
            f"the architecture {model_type!r} has {UNFIT[model_type]}, which no target holds; docs/models.md "
            "lists those that can be converted"
        )


def refuse_encoder(config: Mapping[str, object]) -> None:
    """Refuses a decoder's architecture that was trained to see what comes after a token, too.

    Args:
        config: of the text model, with Hugging Face's keys.

    Raises:
        CheckpointError: naming the key that says so (docs/decisions/0051).
    """
    for key, value in (("use_bidirectional_attention", True), ("is_causal", False)):
        if config.get(key) is value and (config.get("model_type"), key) not in _WHOLE_TEXT:
            raise CheckpointError(
                f"config.{key} is {value}: tokens of this model see the whole text, which is known of "
                "EmbeddingGemma (gemma3_text) alone; to compare texts take that, a causal embedder, such as "
                "Qwen3-Embedding, or an encoder with an ONNX file (docs/embeddings.md)"
            )
