"""The options of `edgesdk.load` on the command line: one decorator for every command that loads a bundle."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from edgesdk.cli.options import Command, Decorator, grouped, read_json_file, read_text_file, threads_option
from edgesdk.errors import BundleError, UnsupportedOption

if TYPE_CHECKING:
    from edgesdk.devices.governor import Governor

_DEFAULT_RULES = "default"
_EXAMPLE_RULES = "docs/devices.md shows an example of a governor's rules"
_KEYS = ("backend", "device", "variant", "strict", "threads", "goal", "serve_meanwhile", "governor")


def _make_governor(_: click.Context, __: click.Parameter, rules: str | None) -> Governor | None:
    if rules is None:
        return None
    from edgesdk.bundle.records import from_json
    from edgesdk.devices.governor import Governor, GovernorSettings

    if rules == _DEFAULT_RULES:
        return Governor()
    read = read_json_file(Path(rules))
    try:
        return Governor(from_json(GovernorSettings, read, rules))
    except BundleError as error:
        raise UnsupportedOption(f"{error}; {_EXAMPLE_RULES}") from error
    except UnsupportedOption as error:
        raise UnsupportedOption(f"{rules}: {error}; {_EXAMPLE_RULES}") from error


_LOADING: tuple[Decorator, ...] = (
    click.option(
        "--backend",
        default="auto",
        show_default=True,
        metavar="NAME",
        help="Backend to run on; `edgesdk devices` lists them.",
    ),
    click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "gpu", "npu"]),
        default="auto",
        show_default=True,
        help="Device to run on.",
    ),
    click.option(
        "--variant",
        metavar="NAME",
        help="Variant of the bundle; `edgesdk inspect` lists them. Default: the first that suits.",
    ),
    click.option(
        "--strict", is_flag=True, help="Fail instead of falling back to a less preferred backend or device."
    ),
    threads_option,
    click.option(
        "--goal",
        type=click.Choice(["latency", "throughput", "power", "memory", "cpu", "gpu", "npu"]),
        help="Choose what runs prompts and what runs answers by measuring, once for each bundle and machine "
        "and within 10 s; `edgesdk explain` shows the figures. Default: a fixed order.",
    ),
    click.option(
        "--serve-meanwhile",
        is_flag=True,
        help="Do not wait for a GPU or NPU to open, which may mean compiling for minutes: answer on the CPU "
        "and move there between two tokens. With --device or --goal.",
    ),
    click.option(
        "--governor",
        callback=_make_governor,
        metavar="default|FILE",
        help="Lower threads, device or context while the machine is hot or its battery is low: by the "
        "default rules, or by those of a JSON file (docs/devices.md). Default: never.",
    ),
)


_DRAFT_KEYS = ("draft", "draft_texts")


def _read_draft_texts(_: click.Context, __: click.Parameter, files: Sequence[Path]) -> tuple[str, ...]:
    return tuple(read_text_file(path) for path in files)


_DRAFTING: tuple[Decorator, ...] = (
    click.option(
        "--draft",
        default="off",
        show_default=True,
        metavar="off|auto|lookup|trained|streams|shallow|BUNDLE",
        help="What proposes tokens, so that one step gives several; answers stay the same. lookup: what "
        "stood in the prompt or the answer before, and what a grammar says must come; trained: also the "
        "draft in the bundle (convert --draft); streams: also the model's own streams (convert --streams); "
        "shallow: also its shallow stack (convert --shallow-skip); "
        "auto: what the bundle has of these; BUNDLE: also a smaller one, by name or path. "
        "Off by itself while it does not pay (docs/drafts.md).",
    ),
    click.option(
        "--draft-text",
        "draft_texts",
        type=click.Path(path_type=Path),
        multiple=True,
        callback=_read_draft_texts,
        metavar="FILE",
        help="Text that answers may repeat, for --draft; may be given several times. Default: none.",
    ),
)


def load_options(function: Command) -> Command:
    """Adds the options, handed on as `loading`: a `LoadOptions`, checked before a model is sought."""
    return grouped(_checked(function), "loading", _KEYS, _LOADING)


def load_options_with_drafts(function: Command) -> Command:
    """The same with what proposes tokens, for commands that write answers."""
    return grouped(_checked(function), "loading", (*_KEYS, *_DRAFT_KEYS), (*_LOADING, *_DRAFTING))


def _checked(function: Command) -> Command:
    @functools.wraps(function)
    def command(**arguments: object) -> object:
        from edgesdk.load_options import LoadOptions  # with the backends: not for help

        arguments["loading"] = LoadOptions.of(cast("Mapping[str, object]", arguments["loading"]))
        return function(**arguments)

    return command
