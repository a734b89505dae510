"""Options as keywords: which names there are, what a wrong one may mean, and what `help()` shows of them."""

from __future__ import annotations

import difflib
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import ParamSpec, TypeVar

from edgesdk.errors import UnsupportedOption, quoted

P = ParamSpec("P")
R = TypeVar("R")


def check_names(
    given: Iterable[str], names: Sequence[str], elsewhere: Mapping[str, str] | None = None
) -> None:
    """Refuses keywords that name no option.

    Args:
        given: what a caller wrote.
        names: the options there are.
        elsewhere: what others call options of ours.

    Raises:
        UnsupportedOption: naming the first, and the option that it may have meant.
    """
    for name in given:
        if name not in names:
            near = difflib.get_close_matches((elsewhere or {}).get(name, name)[:100], names, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
            raise UnsupportedOption(f"there is no option {quoted(name)}; {hint}")


def lists_fields(*records: type) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Makes `help()` list the options of a function that takes them as `**options`: defaults and meanings.

    Type checkers see the keywords by themselves (PEP 692).

    Args:
        records: dataclasses whose fields are the options, each described under `Attributes:`.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        options = [
            inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type
            )
            for record in records
            for field in fields(typing.cast("typing.Any", record))
        ]
        # setattr, because type checkers do not know that a function has one.
        setattr(function, "__signature__", signature.replace(parameters=[*own, *options]))  # noqa: B010
        if function.__doc__:  # there is none under -OO
            listed = "\n".join(_attributes(record) for record in records)
            function.__doc__ = f"{inspect.cleandoc(function.__doc__)}\n\nOptions:\n{listed}\n"
        return function

    return decorate


def _attributes(record: type) -> str:
    return inspect.cleandoc(record.__doc__ or "").partition("Attributes:\n")[2].rstrip()
