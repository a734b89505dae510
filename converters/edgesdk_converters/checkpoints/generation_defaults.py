"""Recommended sampling of a checkpoint, read as transformers reads generation_config.json.

Without `do_sample: true` answers are greedy, whatever else the file says; with it a missing temperature is 1
and a missing top_k is 50 (transformers 5, `GenerationConfig._get_default_generation_params`). What no answer
could be made with is refused; what this runtime has no means for is noted.
"""

from __future__ import annotations

from edgesdk.bundle.manifest import GenerationDefaults
from edgesdk.bundle.records import JsonValue
from edgesdk.errors import CheckpointError
from edgesdk_converters.checkpoints.text_file import Json

_FILE = "generation_config.json"
_LARGEST = 1e6
ABOVE_ZERO = 1e-6
"""Least value of what must be more than 0."""

_TOP_K = 50
_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p")

_NEUTRAL: Json = {
    "num_beams": 1,
    "min_length": 0,
    "min_new_tokens": 0,
    "no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "top_h": None,
    "penalty_alpha": None,
    "guidance_scale": 1.0,
    "bad_words_ids": [],
    "suppress_tokens": [],
    "begin_suppress_tokens": [],
    "sequence_bias": {},
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "exponential_decay_length_penalty": None,
    "stop_strings": [],
    "watermarking_config": None,
}
"""Values that change nothing, of what changes an answer in transformers and has no place in a bundle."""


def generation_defaults(config: Json) -> tuple[GenerationDefaults, tuple[str, ...]]:
    """What generation_config.json recommends, and a line for each thing that is left out.

    Args:
        config: its content; empty when there is none.

    Raises:
        CheckpointError: a value has no meaning.
    """
    temperature = checked_number(config, "temperature", _FILE, least=0)
    top_k = checked_number(config, "top_k", _FILE, least=-1, whole=True)
    top_p = checked_number(config, "top_p", _FILE, least=0, most=1)
    min_p = checked_number(config, "min_p", _FILE, least=0, most=1)
    typical_p = checked_number(config, "typical_p", _FILE, least=ABOVE_ZERO, most=1)
    penalty = checked_number(config, "repetition_penalty", _FILE, least=ABOVE_ZERO)
    sampled = config.get("do_sample")
    if sampled is not None and not isinstance(sampled, bool):
        raise CheckpointError(f"{_FILE} has do_sample {str(sampled)[:40]!r}, expected true or false")
    notes = [
        f"{key} of {_FILE} is left out: this runtime has no means for it"
        for key, neutral in _NEUTRAL.items()
        if config.get(key) not in (None, neutral)
    ]
    # Nothing is left to draw from at temperature 0, nor among tokens that hold no probability.
    best = temperature == 0 or top_p == 0
    if not sampled or best:
        said = [key for key in _SAMPLING if config.get(key) is not None]
        if said and not best:
            notes.append(f"{', '.join(said)} of {_FILE} are left out: without do_sample answers are greedy")
        return GenerationDefaults(repetition_penalty=penalty), tuple(notes)
    return GenerationDefaults(
        temperature=1.0 if temperature is None else temperature,
        top_k=_TOP_K if top_k is None else max(int(top_k), 0),  # -1 is vLLM's word for all
        top_p=top_p,
        repetition_penalty=penalty,
        min_p=min_p,
        typical_p=typical_p,
    ), tuple(notes)


def checked_number(
    config: Json, key: str, source: str, *, least: float, most: float = _LARGEST, whole: bool = False
) -> float | None:
    """A number of a checkpoint; None where it says nothing.

    Args:
        config: has it.
        key: its name there.
        source: file, for messages.
        least: smallest value with a meaning.
        most: largest.
        whole: it counts something.

    Raises:
        CheckpointError: it is something else.
    """
    value: JsonValue = config.get(key)
    if value is None:
        return None
    sound = isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most
    if not sound or (whole and value != int(value)):  # type: ignore[arg-type]
        kind = "a whole number" if whole else "a number"
        raise CheckpointError(
            f"{source} has {key} {str(value)[:40]}, expected {kind} from {least:g} to {most:g}"
        )
    return float(value)  # type: ignore[arg-type]
