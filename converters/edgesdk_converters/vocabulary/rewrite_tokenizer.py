"""Rewrites a tokenizer.json for fewer tokens, as data: only ids, pieces and merges change.

Normalizer, pre-tokenizer and decoder stay as they are. A merge stays when both sides and its result do;
the order of merges stays too, so a text whose tokens are all kept still becomes the same tokens. Loading
the result checks every id. It chooses no tokens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from edgesdk.bundle.records import JsonValue
from edgesdk.errors import TransformError
from edgesdk_converters.vocabulary.kept_tokens import KeptTokens
from edgesdk_converters.vocabulary.tokenizer_data import Json, TokenizerData, load_engine, split_merge


def rewrite_tokenizer(data: TokenizerData, kept: KeptTokens) -> str:
    """The text of the pruned tokenizer.json.

    Args:
        data: the full tokenizer.
        kept: which tokens stay; closed under merges.

    Raises:
        TransformError: the result does not load, or gives a token another id than it should.
    """
    document = with_new_ids(data.document, kept.new_ids)
    document["model"] = _model(data, kept.new_ids)
    text = json.dumps(document, ensure_ascii=False)
    _check(text, data, kept)
    return text


def with_new_ids(document: Json, new_ids: Mapping[int, int]) -> Json:
    """A tokenizer.json whose parts beside its model name tokens by new ids; tokens without one are left out.

    Args:
        document: the file.
        new_ids: new id by old one.

    Raises:
        TransformError: a part needs a token that has no new id.
    """
    changed: Json = {**document}
    changed["added_tokens"] = _added_tokens(document.get("added_tokens"), new_ids)
    changed["post_processor"] = _post_processor(document.get("post_processor"), new_ids)
    padding = changed.get("padding")
    if isinstance(padding, dict):
        changed["padding"] = {**padding, "pad_id": _new(padding.get("pad_id"), new_ids)}
    return changed


def _model(data: TokenizerData, new_ids: Mapping[int, int]) -> Json:
    model: Json = {**data.model}
    if data.kind == "Unigram":
        pieces = model.get("vocab")
        listed = pieces if isinstance(pieces, list) else []
        model["vocab"] = [piece for old, piece in enumerate(listed) if old in new_ids]
        model["unk_id"] = _new(model.get("unk_id"), new_ids)
        return model
    vocab = model.get("vocab")
    texts = vocab if isinstance(vocab, dict) else {}
    left: dict[str, JsonValue] = {
        text: new_ids[old] for text, old in texts.items() if isinstance(old, int) and old in new_ids
    }
    merges = model.get("merges")
    model["vocab"] = left
    model["merges"] = [
        entry for entry in (merges if isinstance(merges, list) else []) if _stays(split_merge(entry), left)
    ]
    return model


def _stays(pair: tuple[str, str], vocab: Mapping[str, JsonValue]) -> bool:
    return pair[0] in vocab and pair[1] in vocab and pair[0] + pair[1] in vocab


def _added_tokens(tokens: JsonValue, new_ids: Mapping[int, int]) -> JsonValue:
    """Added tokens with their new ids; one that has no row in the embedding table is left out."""
    kept: list[JsonValue] = []
    for token in tokens if isinstance(tokens, list) else []:
        old = token.get("id") if isinstance(token, dict) else None
        if isinstance(token, dict) and isinstance(old, int) and old in new_ids:
            kept.append({**token, "id": new_ids[old]})
    return kept


def _post_processor(component: JsonValue, new_ids: Mapping[int, int]) -> JsonValue:
    if isinstance(component, list):
        return [_post_processor(item, new_ids) for item in component]
    if not isinstance(component, dict):
        return component
    changed: Json = {}
    for key, value in component.items():
        if key == "ids" and isinstance(value, list):
            changed[key] = [_new(item, new_ids) for item in value]
        elif key in ("sep", "cls") and isinstance(value, list) and len(value) == 2:
            changed[key] = [value[0], _new(value[1], new_ids)]
        else:
            changed[key] = _post_processor(value, new_ids)
    return changed


def _new(old: JsonValue, new_ids: Mapping[int, int]) -> JsonValue:
    if old is None:
        return None
    if not isinstance(old, int) or old not in new_ids:
        raise TransformError(f"the tokenizer refers to the id {old!r}, which is not among the kept tokens")
    return new_ids[old]


def _check(text: str, data: TokenizerData, kept: KeptTokens) -> None:
    engine = load_engine(text)
    if engine.get_vocab_size(with_added_tokens=True) != len(kept.old_ids):
        raise TransformError(
            f"the pruned tokenizer has {engine.get_vocab_size(with_added_tokens=True)} tokens, "
            f"expected {len(kept.old_ids)}"
        )
    for new, old in enumerate(kept.old_ids):
        if engine.token_to_id(data.texts[old]) != new:
            raise TransformError(
                f"the pruned tokenizer gives {data.texts[old][:40]!r} the id "
                f"{engine.token_to_id(data.texts[old])}, expected {new}"
            )
