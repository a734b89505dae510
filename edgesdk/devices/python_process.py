"""How Python is started again for what must run in a process of its own, also from a packaged program.

Probes, measurements, the packing of weights and the check of a new library each run in another process, which
may crash. From an interpreter that is `python -m edgesdk...`. A program that PyInstaller, cx_Freeze or the
like has packaged has no interpreter: `sys.executable` is the program itself, which would open its window once
more, and load its model, and start a process again. So a packaged program begins with `freeze_support()`, as
those that use `multiprocessing` do with that module's function of this name.

It knows nothing of what is run.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence

from edgesdk.errors import DeviceError

_CHILD = "--edgesdk-python"
_OURS = ("edgesdk", "edgesdk_converters")
_supported = False


def freeze_support() -> None:
    """Makes a packaged program able to start parts of edgesdk in processes of their own.

    Call it first of all where the program begins, before windows and models:

        if __name__ == "__main__":
            edgesdk.freeze_support()
            main()

    In a process that was started for such a part it runs that and does not return. Elsewhere, and in a
    program that is not packaged, it does nothing that can be seen.

    Raises:
        SystemExit: the part has ended.
    """
    global _supported
    if not _is_packaged():
        return
    _supported = True
    if len(sys.argv) > 1 and sys.argv[1] == _CHILD:
        _run(sys.argv[2:])
        sys.exit(0)


def command_line(*arguments: str) -> list[str]:
    """The command that runs edgesdk's command line in a process of its own, also from a packaged program.

    For work that is better done apart from a window, such as `convert`, `pull` and `import` with `--json`,
    which tell how far they are in JSON lines; ending the process leaves nothing half-made.

    Args:
        arguments: of the command `edgesdk`.

    Returns:
        A list for `subprocess.Popen` or the like.

    Raises:
        DeviceError: the program is packaged and has not called `freeze_support`.
    """
    return python_command(("-m", "edgesdk", *arguments))


def python_command(arguments: Sequence[str]) -> list[str]:
    """The command that runs Python in another process.

    Args:
        arguments: of the interpreter: `-m MODULE ...`, with a module of edgesdk's, or `-c CODE ...`.

    Raises:
        DeviceError: the program is packaged and has not called `freeze_support`.
    """
    if not _is_packaged():
        # -P: a file of a package's name in the current folder is not the package.
        return [sys.executable, "-P", *arguments]
    if not _supported:
        raise DeviceError(
            "this packaged program cannot start parts of edgesdk in processes of their own; call "
            "edgesdk.freeze_support() first in it"
        )
    return [sys.executable, _CHILD, *arguments]


def _is_packaged() -> bool:
    return bool(getattr(sys, "frozen", False))


def _run(arguments: Sequence[str]) -> None:
    kind, what, *rest = (*arguments, "", "")[: max(len(arguments), 2)]
    sys.argv = [what, *rest]
    if kind == "-c":
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
    elif kind == "-m" and what.partition(".")[0] in _OURS:
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.exit(f"{_CHILD} expects -m and a module of edgesdk, or -c and code")
