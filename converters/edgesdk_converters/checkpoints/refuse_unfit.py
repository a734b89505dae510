"""Refuses models that no target holds as what they are, by the names that files give them.

Without it the first key that only they have would be called unknown. Everything else about architectures
is in `edgesdk_converters.architectures`.
"""

from __future__ import annotations

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
)
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
