"""What a caller may ask of an answer, and how it joins what a bundle recommends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TypedDict, TypeVar, cast

from edgesdk.bundle.adapter_record import AdapterChoice
from edgesdk.bundle.manifest import GenerationDefaults
from edgesdk.decoding.option_names import check_names, lists_fields
from edgesdk.decoding.option_types import biases, flag, number, stop_texts, whole_number, whole_text
from edgesdk.decoding.sampling import SamplingOptions

Number = TypeVar("Number", int, float)

MOST_LOGPROBS = 100
"""More alternatives than anybody reads."""

DEFAULT_MAX_TOKENS = 256
"""Of `Model`, `Engine` and the command line alike: an answer that does not end must not take minutes."""

_MOST_SEED = (1 << 64) - 1
_NUMBERS = (
    *("temperature", "top_p", "min_p", "repetition_penalty", "typical_p"),
    *("presence_penalty", "frequency_penalty"),
)

JsonSchema = Mapping[str, object] | bool
"""A JSON Schema, draft 2020-12."""


_ELSEWHERE = {"max_new_tokens": "max_tokens", "n_predict": "max_tokens", "stop_sequences": "stop"}
"""What others call options of ours."""


@dataclass(frozen=True)
class GenerationOptions:
    """How to answer.

    A sampling option that is None takes what the bundle recommends; where that says nothing, the
    value that changes nothing (for the temperature 0, which is greedy). Values are checked when it is made
    and kept as plain Python values; those of numpy are taken, too.

    Attributes:
        max_tokens: most tokens to generate; None for as many as the context holds. An answer that is cut
            says so by `finish_reason` "length".
        temperature: 0 always takes the most likely token; above, logits are divided by it.
        top_k: choose among this many of the most likely tokens; 0 among all.
        top_p: choose among the fewest tokens whose probabilities reach this sum; 1 among all.
        min_p: never choose tokens less likely than this share of the most likely one.
        repetition_penalty: above 1 makes tokens already in the sequence less likely.
        seed: makes sampling repeatable.
        stop: texts that end the answer and are no part of it; at most 128 of 1,000 characters each.
        ignore_eos: go on after end tokens; for measurements.
        typical_p: choose among the tokens whose surprise is nearest to the expected one, up to this sum
            of probabilities; 1 among all.
        presence_penalty: taken off the logits of tokens that the answer holds.
        frequency_penalty: taken off them once for each time that the answer holds them.
        logit_bias: added to the logits of these token ids; minus infinity bans a token.
        logprobs: report the log-probability of each token and of this many of the likeliest; from the
            model's raw logits, before anything above. None for no report.
        json_schema: the answer is a JSON document of this schema, laid out as `json.dumps` does.
        regex: the answer matches this regular expression from start to end.
        lark: the answer follows this context-free grammar, in the Lark-like language of llguidance.
        thinking_tokens: in a conversation, most tokens of the thought before the answer: with the last of
            them the model's own mark ends it, and the answer follows. None leaves its length to the model.
        adapter: which of the bundle's adapters writes the answer, or several with a factor each; None for
            the model alone.
    """

    max_tokens: int | None = DEFAULT_MAX_TOKENS
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: Sequence[str] | None = ()
    ignore_eos: bool = False
    typical_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Mapping[int, float] | None = None
    logprobs: int | None = None
    json_schema: JsonSchema | None = None
    regex: str | None = None
    lark: str | None = None
    thinking_tokens: int | None = None
    adapter: AdapterChoice = None

    def __post_init__(self) -> None:
        """Refuses values of the wrong type, and those without meaning that `sampling` does not know.

        Raises:
            UnsupportedOption: naming the option.
        """
        checked: dict[str, object] = {
            name: number(name, getattr(self, name)) for name in _NUMBERS if getattr(self, name) is not None
        }
        for name, least, most in (
            ("max_tokens", 1, None),
            ("top_k", 0, None),
            ("seed", 0, _MOST_SEED),
            ("logprobs", 0, MOST_LOGPROBS),
            ("thinking_tokens", 0, None),
        ):
            if getattr(self, name) is not None:
                checked[name] = whole_number(name, getattr(self, name), least, most)
        for name in ("regex", "lark"):
            if getattr(self, name) is not None:
                checked[name] = whole_text(name, getattr(self, name))
        checked["stop"] = stop_texts(self.stop)
        checked["ignore_eos"] = flag("ignore_eos", self.ignore_eos)
        if self.logit_bias is not None:
            checked["logit_bias"] = biases(self.logit_bias)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, options: Mapping[str, object]) -> GenerationOptions:
        """Options from the keywords of a method.

        Raises:
            UnsupportedOption: there is no such option, or one has no meaning.
        """
        check_names(options, [field.name for field in fields(cls)], _ELSEWHERE)
        return cls(**cast(GenerationKeywords, options))

    def sampling(self, defaults: GenerationDefaults) -> SamplingOptions:
        """These options over a bundle's recommendations; for the sampler.

        Raises:
            UnsupportedOption: a value has no meaning.
        """
        top_k = _first(self.top_k, defaults.top_k, 0)
        return SamplingOptions(
            temperature=_first(self.temperature, defaults.temperature, 0.0),
            top_k=top_k or None,
            top_p=_first(self.top_p, defaults.top_p, 1.0),
            min_p=_first(self.min_p, defaults.min_p, 0.0),
            repetition_penalty=_first(self.repetition_penalty, defaults.repetition_penalty, 1.0),
            seed=self.seed,
            typical_p=_first(self.typical_p, defaults.typical_p, 1.0),
            presence_penalty=_first(self.presence_penalty, None, 0.0),
            frequency_penalty=_first(self.frequency_penalty, None, 0.0),
            logit_bias=dict(self.logit_bias or {}),
        )


class GenerationKeywords(TypedDict, total=False):
    """The fields of `GenerationOptions`, as keywords of the methods that take them; see there."""

    max_tokens: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    seed: int | None
    stop: Sequence[str] | None
    ignore_eos: bool
    typical_p: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    logit_bias: Mapping[int, float] | None
    logprobs: int | None
    json_schema: JsonSchema | None
    regex: str | None
    lark: str | None
    thinking_tokens: int | None
    adapter: AdapterChoice


lists_options = lists_fields(GenerationOptions)
"""Makes `help()` list the options of an answer, for functions that take them as `**options`."""


def _first(asked: Number | None, recommended: Number | None, neutral: Number) -> Number:
    if asked is not None:
        return asked
    return neutral if recommended is None else recommended
