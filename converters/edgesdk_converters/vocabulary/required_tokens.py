"""The tokens that stay whatever is chosen, so that every text still encodes and chats still work.

Added tokens (specials among them), everything that spells, ids that the tokenizer or the configuration
names, and what the chat template writes: its own literals, the usual roles, and the JSON of tool calls.
For Unigram also the piece of lowest score, from which the score of unknown characters follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edgesdk.bundle.records import JsonValue
from edgesdk_converters.checkpoints.checkpoint import Checkpoint
from edgesdk_converters.vocabulary.tokenizer_data import TokenizerData

ID_KEYS = frozenset(
    {
        "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "decoder_start_token_id",
        "forced_bos_token_id", "forced_eos_token_id", "suppress_tokens", "begin_suppress_tokens",
        "bad_words_ids",
    }
)  # fmt: skip
"""Keys of a configuration that hold token ids."""

_ROLES = ("system", "user", "assistant", "tool", "developer", "function", "model", "ipython")
_TOOL_TEXT = (
    '{"name": "f", "arguments": {"x": 1, "y": "z", "ok": true, "no": false, "none": null}}',
    '{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object", '
    '"properties": {"x": {"type": "string", "enum": ["a", "b"]}}, "required": ["x"]}}}',
    '{\n    "type": "integer",\n    "items": {\n        "type": "number"\n    }\n}',
    '[{"type": "array"}, {"type": "boolean"}]\n<tool_call>\n</tool_call>\n<tools>\n</tools>\n',
)


def required_tokens(checkpoint: Checkpoint, data: TokenizerData) -> set[int]:
    """Ids that must be kept, closed under merges.

    Args:
        checkpoint: whose tokenizer it is.
        data: that tokenizer.
    """
    record = checkpoint.tokenizer.record
    found = set(data.added_ids | data.alphabet_ids)
    found.update(i for i in (record.bos_id, *record.eos_ids) if i is not None)
    for key in ID_KEYS & set(checkpoint.config):
        found.update(_integers(checkpoint.config[key]))
    found |= _model_ids(data)
    for template in (checkpoint.tokenizer.chat_template, checkpoint.tokenizer.tool_template):
        for text in _texts(template):
            found.update(data.engine.encode(text, add_special_tokens=False).ids)
    closed: set[int] = set()
    for token in found & set(data.texts):
        closed |= data.ancestors(token)
    return closed


def post_processor_ids(component: JsonValue) -> Iterator[int]:
    """Token ids that a post-processor adds."""
    if isinstance(component, list):
        for item in component:
            yield from post_processor_ids(item)
    if not isinstance(component, dict):
        return
    for key, value in component.items():
        if key == "ids" or (key in ("sep", "cls") and isinstance(value, list)):
            yield from _integers(value)
        else:
            yield from post_processor_ids(value)


def _model_ids(data: TokenizerData) -> set[int]:
    """What the model and the post-processor of the file refer to."""
    found = set(post_processor_ids(data.document.get("post_processor")))
    padding = data.document.get("padding")
    if isinstance(padding, dict):
        found.update(_integers(padding.get("pad_id")))
    if data.kind == "Unigram":
        found.update(_integers(data.model.get("unk_id")))
        scores = data.piece_scores()
        found.add(scores.index(min(scores)))
    unknown = data.model.get("unk_token")
    if isinstance(unknown, str) and unknown in data.ids:
        found.add(data.ids[unknown])
    return found


def _texts(template: str | None) -> Iterator[str]:
    """What chats are made of besides the messages."""
    yield from _ROLES
    yield from (f"{role}\n" for role in _ROLES)
    yield from ("\n", "\n\n", " ")
    if template is None:
        return
    yield from _TOOL_TEXT
    from jinja2 import Environment, nodes

    try:
        tree = Environment(extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"]).parse(template)
    except Exception:  # noqa: BLE001 - whatever is wrong with it, the runtime says so when the template is used
        return
    yield from (node.data for node in tree.find_all(nodes.TemplateData))
    yield from (node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str))


def _integers(value: JsonValue) -> Iterator[int]:
    if isinstance(value, bool):
        return
    if isinstance(value, int):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _integers(item)


def remap_ids(config: Mapping[str, JsonValue], new_ids: Mapping[int, int]) -> dict[str, JsonValue]:
    """The configuration with the ids of `ID_KEYS` replaced; ids that have no token are left out."""

    def remap(value: JsonValue) -> JsonValue:
        if isinstance(value, list):
            mapped = [remap(item) for item in value]
            return [item for item in mapped if item is not None]
        return new_ids.get(value) if isinstance(value, int) and not isinstance(value, bool) else value

    return {key: remap(value) if key in ID_KEYS else value for key, value in config.items()}
