"""Arguments and options that several commands share, as decorators.

`answer_options` and `grammar_options` hand their values on as one argument each, with the names of what
`Model.stream` takes; so does `edgesdk.cli.load_options`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

import click

from edgesdk.devices.cpu import MOST_THREADS
from edgesdk.errors import UnsupportedOption

if TYPE_CHECKING:
    from edgesdk.bundle.records import JsonValue
    from edgesdk.decoding.options import JsonSchema

Command = Callable[..., object]
Decorator = Callable[[Command], Command]


class Answering(TypedDict):
    """How to answer."""

    max_tokens: int
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    seed: int | None
    stop: Sequence[str]


class Ruling(TypedDict):
    """What an answer must follow."""

    json_schema: JsonSchema | None
    regex: str | None
    lark: str | None


def find_bundle(name: str | Path) -> Path:
    """The folder of a bundle that was given by its path or its name; says what was passed over.

    Raises:
        BundleError: there is none.
    """
    from edgesdk.bundle.shelf import find

    found = find(name)
    if found.note is not None:
        click.echo(f"note: {found.note}", err=True)
    return found.path


def bundle_argument(function: Command) -> Command:
    """Adds the argument BUNDLE, a path or a name, handed on as the folder `bundle`."""
    return _bundle_argument(function, required=True)


def optional_bundle_argument(function: Command) -> Command:
    """The same where it may be left out."""
    return _bundle_argument(function, required=False)


def _bundle_argument(function: Command, required: bool) -> Command:
    @functools.wraps(function)
    def command(**arguments: object) -> None:
        # Not in a callback of click's, which would come before what is wrong with other arguments.
        name = cast(Path | None, arguments["bundle"])
        arguments["bundle"] = None if name is None else find_bundle(name)
        function(**arguments)

    return click.argument("bundle", type=click.Path(path_type=Path), required=required)(command)


model_argument = click.argument("model")
"""A bundle, or a checkpoint to convert once: for `edgesdk.cli.convert_once`."""

revision_option = click.option(
    "--revision", metavar="NAME", help="Commit, branch or tag of a hub id. Default: the hub's default branch."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
json_progress_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print JSON lines instead of text: the progress (event: progress), and the report as the last line "
    "(event: done).",
)


def _read_variables(_: click.Context, __: click.Parameter, given: Sequence[str]) -> dict[str, JsonValue]:
    """NAME=VALUE of each, the value as JSON where it is JSON."""
    found: dict[str, JsonValue] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{text[:60]!r} is no NAME=VALUE")
        if name in found:
            raise click.BadParameter(f"{name[:60]!r} is given twice")
        try:
            found[name] = json.loads(value, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            found[name] = value
    return found


def _refuse_constant(constant: str) -> JsonValue:
    raise ValueError(f"{constant} is no JSON number")


template_option = click.option(
    "--template-var",
    "template_variables",
    multiple=True,
    callback=_read_variables,
    metavar="NAME=VALUE",
    help="Value of a variable that the model's chat template reads, as JSON or else as text, such as "
    "enable_thinking=false; may be given several times. Default: the template's own.",
)

thinking_option = click.option(
    "--thinking-tokens",
    type=click.IntRange(min=0),
    metavar="N",
    help="Most tokens that a reasoning model thinks before it answers; then its own mark ends the thought. "
    "Default: as many as it likes.",
)


def _read_adapters(_: click.Context, __: click.Parameter, given: Sequence[str]) -> dict[str, float] | None:
    """NAME or NAME:FACTOR of each."""
    found: dict[str, float] = {}
    for text in given:
        name, colon, factor = text.partition(":")
        if name in found:
            raise click.BadParameter(f"{name[:60]!r} is given twice")
        try:
            found[name] = float(factor) if colon else 1.0
        except ValueError:
            raise click.BadParameter(f"{factor[:60]!r} is no factor; expected NAME or NAME:FACTOR") from None
    return found or None


adapter_option = click.option(
    "--adapter",
    multiple=True,
    callback=_read_adapters,
    metavar="NAME[:FACTOR]",
    help="Answer with an adapter of the bundle (`edgesdk adapter list`); may be given several times, whose "
    "changes are added. Default: none; FACTOR is 1.",
)

threads_option = click.option(
    "--threads",
    type=click.IntRange(min=1, max=MOST_THREADS),
    metavar="N",
    help="CPU threads. Default: every core that this process may use.",
)

_LONGEST_FILE_BYTES = 1 << 20


def read_text_file(path: Path) -> str:
    """A file with a schema, a grammar, rules or a text.

    Raises:
        UnsupportedOption: it cannot be read, is too large, or is no text.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LONGEST_FILE_BYTES + 1)
        if len(data) > _LONGEST_FILE_BYTES:
            raise UnsupportedOption(
                f"{path} has more than {_LONGEST_FILE_BYTES >> 20} MiB; give a smaller file"
            )
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnsupportedOption(f"{path} is not UTF-8 text (byte {error.start}); convert it first") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise UnsupportedOption(f"{path} cannot be read: {reason}; give a UTF-8 text file") from error


def read_json_file(path: Path) -> JsonValue:
    """A file with a JSON document.

    Raises:
        UnsupportedOption: as `read_text_file`, or it is no JSON.
    """
    try:
        value: JsonValue = json.loads(read_text_file(path))
    except RecursionError as error:
        raise UnsupportedOption(f"{path} is not JSON to read here: it is nested too deeply") from error
    except ValueError as error:
        raise UnsupportedOption(f"{path} is not JSON: {error}") from error
    return value


def _check_stop(_: click.Context, __: click.Parameter, texts: Sequence[str]) -> Sequence[str]:
    if "" in texts:
        raise click.BadParameter("a text is empty, expected at least one character")
    return texts


def _max_tokens(default: int) -> Decorator:
    return click.option(
        "--max-tokens",
        type=click.IntRange(min=1),
        default=default,
        show_default=True,
        metavar="N",
        help="Most tokens of an answer.",
    )


_ANSWERING: tuple[Decorator, ...] = (
    _max_tokens(256),
    click.option(
        "--temperature",
        type=click.FloatRange(min=0),
        metavar="X",
        help="0 always takes the most likely token; higher is more varied. Default: the model's, else 0.",
    ),
    click.option(
        "--top-k",
        type=click.IntRange(min=0),
        metavar="N",
        help="Choose among the N most likely tokens; 0 among all. Default: the model's, else 0.",
    ),
    click.option(
        "--top-p",
        type=click.FloatRange(min=0, max=1, min_open=True),
        metavar="X",
        help="Choose among the fewest tokens that hold this share of the probability, above 0, at most 1. "
        "Default: the model's, else 1.",
    ),
    click.option(
        "--min-p",
        type=click.FloatRange(min=0, max=1),
        metavar="X",
        help="Never choose a token less likely than this share of the most likely one. Default: 0.",
    ),
    click.option(
        "--repetition-penalty",
        type=click.FloatRange(min=0, min_open=True),
        metavar="X",
        help="Above 1 makes tokens that are already there less likely. Default: the model's, else 1.",
    ),
    click.option(
        "--seed",
        type=click.IntRange(min=0),
        metavar="N",
        help="Makes sampling repeatable. Default: random.",
    ),
    click.option(
        "--stop",
        multiple=True,
        callback=_check_stop,
        metavar="TEXT",
        help="Text that ends the answer and is no part of it; may be given several times. Default: none.",
    ),
)


def _read_schema(_: click.Context, __: click.Parameter, path: Path | None) -> JsonSchema | None:
    if path is None:
        return None
    schema = read_json_file(path)
    if not isinstance(schema, dict | bool):
        raise UnsupportedOption(f"{path} holds no JSON schema: expected an object")
    return schema


def _read_grammar(_: click.Context, __: click.Parameter, path: Path | None) -> str | None:
    return None if path is None else read_text_file(path)


_RULING: tuple[Decorator, ...] = (
    click.option(
        "--json-schema",
        type=click.Path(path_type=Path),
        callback=_read_schema,
        metavar="FILE",
        help="The answer is a JSON document of this JSON schema. Default: free text.",
    ),
    click.option(
        "--regex",
        metavar="PATTERN",
        help="The answer matches this regular expression from start to end. Default: free text.",
    ),
    click.option(
        "--grammar",
        "lark",
        type=click.Path(path_type=Path),
        callback=_read_grammar,
        metavar="FILE",
        help="The answer follows this Lark grammar. Default: free text.",
    ),
)


def answer_options(function: Command) -> Command:
    """Adds the options of `Answering`, handed on as `answering`."""
    return grouped(function, "answering", tuple(Answering.__annotations__), _ANSWERING)


def item_options(function: Command) -> Command:
    """Adds the same, for commands that write many short answers."""
    options = (_max_tokens(96), *_ANSWERING[1:])
    return grouped(function, "answering", tuple(Answering.__annotations__), options)


def grammar_options(function: Command) -> Command:
    """Adds the options of `Ruling`, handed on as `ruling`."""

    @functools.wraps(function)
    def command(**arguments: object) -> None:
        _check_ruling(cast(Ruling, arguments["ruling"]))
        function(**arguments)

    return grouped(command, "ruling", tuple(Ruling.__annotations__), _RULING)


def _check_ruling(ruling: Ruling) -> None:
    """Refuses what no model can follow before one is loaded, which may take long."""
    given = sum(rule is not None for rule in ruling.values())
    if given > 1:
        raise click.UsageError("an answer follows one of --json-schema, --regex and --grammar")
    if given:
        from edgesdk.decoding.grammar import check_grammar
        from edgesdk.decoding.options import GenerationOptions

        check_grammar(GenerationOptions(**ruling))


def list_option(name: str, meaning: str, default: str | None = None) -> Decorator:
    """An option of names that are joined by commas; one that is given again adds to them.

    Args:
        name: of the option, such as `--target`.
        meaning: the help.
        default: None where it is required; the command gets a text like it.
    """
    return click.option(
        name,
        multiple=True,
        callback=_joined,
        metavar="LIST",
        default=None if default is None else (default,),
        required=default is None,
        show_default=default is not None,
        help=meaning,
    )


def _joined(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> str:
    return ",".join(value)


def grouped(function: Command, name: str, keys: Sequence[str], options: Sequence[Decorator]) -> Command:
    """Adds options, handed on as one mapping.

    Args:
        function: a command.
        name: of its parameter that gets the mapping.
        keys: names of the options' values.
        options: in the order in which help shows them.
    """

    @functools.wraps(function)
    def command(**arguments: object) -> object:
        arguments[name] = {key: arguments.pop(key) for key in keys}
        return function(**arguments)

    for option in reversed(options):  # so that help shows them in the order above
        option(command)
    return command


early_exit_option: Decorator = click.option(
    "--early-exit",
    metavar="RULE",
    help="Take answers after fewer blocks of the model: a rule of `edgesdk train exits`, fixed:BLOCK, "
    "top_prob:CHANCE, or for labels label_prob:CHANCE; in a bundle that was converted with --exits. Answers "
    "may differ, and take no drafts (docs/exits.md). Default: the whole model.",
)
"""For commands that may leave a model early."""
