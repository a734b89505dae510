"""Writes docs/cli.md from the commands themselves.

python docs/make_cli_reference.py
"""

import inspect
from pathlib import Path

import click

from edgesdk.cli.main import COMMANDS, cli

TARGET = Path(__file__).parent / "cli.md"

HEAD = """# Command line

Made by `docs/make_cli_reference.py` from the code; edit the help texts there.

Results go to standard output, progress and receipts to standard error. Every command that reports
takes `--json`, which prints exactly one JSON document.

Exit codes: 0 done, 1 an error (one line says what was found, what was expected and what to do) or an
interruption, 2 wrong usage.

`EDGESDK_CACHE` names the folder for downloads, packed weights and remembered digests;
`EDGESDK_DEBUG=1` shows where an internal error comes from.
"""


def make_reference() -> str:
    """The whole document."""
    context = click.Context(cli, info_name="edgesdk")
    sections = [HEAD]
    for name in COMMANDS:
        command = cli.get_command(context, name)
        if command is None:
            raise LookupError(f"the command {name} cannot be imported")
        sections.append(describe(name, command))
        if isinstance(command, click.Group):
            sections += [describe(f"{name} {sub}", command.commands[sub]) for sub in command.commands]
    return "\n".join(sections)


def describe(name: str, command: click.Command) -> str:
    """The section of one command."""
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    options = [p for p in command.params if isinstance(p, click.Option)]
    ends = ["COMMAND"] if isinstance(command, click.Group) else ["[OPTIONS]"]
    given = (str(a.name).upper() if a.required else f"[{str(a.name).upper()}]" for a in arguments)
    usage = " ".join(["edgesdk", name, *given, *ends])
    help_text = inspect.cleandoc(command.help or "").replace("\b\n", "")
    lines = [f"{'###' if ' ' in name else '##'} {name}", "", "```", usage, "```", "", *unwrap(help_text), ""]
    if options:
        lines += ["| option | meaning | default |", "|---|---|---|", *map(option_row, options), ""]
    examples = inspect.cleandoc((command.epilog or "").replace("\b\n", "")).splitlines()
    lines += ["```sh", *(line.strip() for line in examples if line.strip() != "Examples:"), "```", ""]
    return "\n".join(lines)


def option_row(option: click.Option) -> str:
    """One option as a row of a table."""
    value = ""
    if not option.is_flag:
        value = option.metavar or "|".join(getattr(option.type, "choices", [])) or option.type.name.upper()
    names = f"`{', '.join(option.opts)}{' ' + value if value else ''}`".replace("|", "\\|")
    text, _, stated = (option.help or "").partition(" Default: ")
    default = ",".join(option.default) if isinstance(option.default, tuple) else option.default
    shown = f"`{default}`" if option.show_default else stated.rstrip(".")
    if option.is_flag:
        shown = "off"
    return f"| {names} | {text} | {shown or ('required' if option.required else '')} |"


def unwrap(text: str) -> list[str]:
    """Paragraphs, each on a line of its own."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n")).splitlines()


if __name__ == "__main__":
    TARGET.write_text(make_reference(), encoding="utf-8")
