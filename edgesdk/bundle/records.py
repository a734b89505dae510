"""Strict reading of JSON into frozen dataclasses.

Unknown keys, missing keys and wrong types are refused with the path of the key, so that a manifest
of a newer version or a damaged one never half-loads. Supports what manifests use: dataclasses,
tuples of one type, string-keyed mappings, unions with None, literals and JSON scalars.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import TypeVar, Union, cast

from edgesdk.errors import BundleError

T = TypeVar("T")

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]


def from_json(kind: type[T], value: object, path: str = "manifest") -> T:
    """Builds a `kind` from parsed JSON.

    Args:
        kind: a dataclass type.
        value: what `json.loads` gave.
        path: where `value` stands, for messages.

    Returns:
        The dataclass.

    Raises:
        BundleError: a key is unknown or missing, or a value has the wrong type.
    """
    return cast(T, _build(kind, value, path))


def to_json(value: object) -> JsonValue:
    """Turns dataclasses, tuples and mappings into what `json.dumps` takes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(v) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _build(kind: object, value: object, path: str) -> object:
    origin = typing.get_origin(kind)
    if origin is Union or origin is types.UnionType:
        return _build_union(typing.get_args(kind), value, path)
    if origin is typing.Literal:
        if value in typing.get_args(kind):
            return value
        raise BundleError(f"{path} is {value!r}, expected one of {typing.get_args(kind)}")
    if origin is tuple:
        if not isinstance(value, list):
            raise BundleError(f"{path} is {_name(value)}, expected a list")
        return tuple(_build(typing.get_args(kind)[0], v, f"{path}[{i}]") for i, v in enumerate(value))
    if origin in (dict, Mapping):
        if not isinstance(value, dict):
            raise BundleError(f"{path} is {_name(value)}, expected an object")
        item = typing.get_args(kind)[1]
        return {k: _build(item, v, f"{path}.{k}") for k, v in value.items()}
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, value, path)
    return _build_scalar(kind, value, path)


def _build_union(options: tuple[object, ...], value: object, path: str) -> object:
    if value is None and type(None) in options:
        return None
    rest = [o for o in options if o is not type(None)]
    for option in rest[:-1]:
        try:
            return _build(option, value, path)
        except BundleError:
            continue
    return _build(rest[-1], value, path)


def _build_dataclass(kind: type, value: object, path: str) -> object:
    if not isinstance(value, dict):
        raise BundleError(f"{path} is {_name(value)}, expected an object")
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    unknown = sorted(set(value) - set(fields))
    if unknown:
        raise BundleError(f"{path} has unknown key {unknown[0]!r}; it may come from a newer edgesdk")
    arguments = {}
    for name, field in fields.items():
        if name in value:
            arguments[name] = _build(hints[name], value[name], f"{path}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise BundleError(f"{path} lacks the key {name!r}")
    try:
        return kind(**arguments)
    except ValueError as error:
        raise BundleError(f"{path}: {error}") from error


def _build_scalar(kind: object, value: object, path: str) -> object:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, bool):
        raise BundleError(f"{path} is a boolean, expected int")
    if isinstance(kind, type) and isinstance(value, kind):
        return value
    raise BundleError(f"{path} is {_name(value)}, expected {getattr(kind, '__name__', kind)}")


def _name(value: object) -> str:
    return "null" if value is None else type(value).__name__
