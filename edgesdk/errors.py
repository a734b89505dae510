"""Every error that edgesdk raises on purpose.

    EdgeError
    ├── CheckpointError      a checkpoint cannot be read, or says something this version does not know
    ├── TransformError       a change to a graph was asked for that cannot be made
    ├── EmitError            a target cannot express a graph
    ├── BundleError          a bundle is damaged, incomplete, or of another schema version
    ├── DeviceError          a backend or device cannot run what it was asked to run
    ├── SnapshotError        a saved sequence is damaged or belongs to another model
    ├── CapacityError        a request needs more cells than there are
    ├── QueueFull            an engine has as many waiting requests as it takes
    ├── ToolCallError        a model's answer holds a call of a function that cannot be made
    ├── UnsupportedOption    an option was given that the chosen part cannot honour
    ├── RetrievalError       a text or an index of texts cannot be read, is in use, or is of another kind
    └── MissingExtra         an optional package is needed; the message names the command that installs it

A message says what was found, what was expected, and what to do, in one line. The command line
prints that line and exits with 1.
"""

from __future__ import annotations

import reprlib

_MOST_ITEMS = 6
_MOST_LEVELS = 3


def quoted(value: object, most: int = 80) -> str:
    """A value as a message shows it: like `repr`, in one line, cut in the middle if it is long.

    Callers' input may be a megabyte of text, or a number that Python refuses to print.

    Args:
        value: anything.
        most: most characters.
    """
    short = reprlib.Repr()
    short.maxlevel = _MOST_LEVELS
    short.maxstring = short.maxother = most
    short.maxlong = min(most, 40)
    short.maxlist = short.maxtuple = short.maxdict = short.maxset = short.maxfrozenset = _MOST_ITEMS
    try:
        # A long text is cut before it is escaped: escaping may make ten characters of one.
        text = short.repr(value[: most + 1] if type(value) in (str, bytes) else value)  # type: ignore[index]
    except Exception:  # noqa: BLE001 - a repr of the caller's own, or an int of too many digits
        text = f"<{type(value).__name__}>"
    text = " ".join(text.split()) if "\n" in text else text
    return text if len(text) <= most else f"{text[: most - 3]}..."


def first_line(error: BaseException, most: int = 300) -> str:
    """The first line of an error's message that says something, or the name of its class where none does.

    Args:
        error: of a library, whose messages may have any form.
        most: most characters.
    """
    lines = (" ".join(line.split()) for line in str(error)[:10_000].splitlines())
    return next(filter(None, lines), type(error).__name__)[:most]


class EdgeError(Exception):
    """Base of every error that edgesdk raises on purpose."""


class CheckpointError(EdgeError):
    """A checkpoint cannot be read, or says something this version does not know."""


class TransformError(EdgeError):
    """A change to a graph was asked for that cannot be made."""


class EmitError(EdgeError):
    """A target cannot express a graph."""


class BundleError(EdgeError):
    """A bundle is damaged, incomplete, or of another schema version."""


class DeviceError(EdgeError):
    """A backend or device cannot run what it was asked to run."""


class SnapshotError(EdgeError):
    """A saved sequence is damaged or belongs to another model."""


class CapacityError(EdgeError):
    """A request needs more cells than there are."""


class QueueFull(EdgeError):  # noqa: N818 - as below
    """An engine has as many waiting requests as it takes."""


class ToolCallError(EdgeError):
    """A model's answer holds a call of a function that cannot be made.

    Attributes:
        answer: the text of the answer.
    """

    def __init__(self, message: str, answer: str) -> None:
        """Says what is wrong with the call in `answer`."""
        super().__init__(message)
        self.answer = answer


class UnsupportedOption(EdgeError):  # noqa: N818 - reads as what happened; part of the published tree
    """An option was given that the chosen part cannot honour."""


class RetrievalError(EdgeError):
    """A text or an index of texts cannot be read, is in use, or is of another kind."""


class MissingExtra(EdgeError):  # noqa: N818 - as above
    """An optional package is needed; the message names the command that installs it."""

    def __init__(self, package: str, extra: str) -> None:
        """Names `package` and the extra that installs it."""
        super().__init__(
            f"the package {package!r} is not installed; install it with: pip install 'edgesdk[{extra}]'"
        )
