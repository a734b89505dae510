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
    └── MissingExtra         an optional package is needed; the message names the command that installs it

A message says what was found, what was expected, and what to do, in one line. The command line
prints that line and exits with 1.
"""

from __future__ import annotations


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


class MissingExtra(EdgeError):  # noqa: N818 - as above
    """An optional package is needed; the message names the command that installs it."""

    def __init__(self, package: str, extra: str) -> None:
        """Names `package` and the extra that installs it."""
        super().__init__(
            f"the package {package!r} is not installed; install it with: pip install 'edgesdk[{extra}]'"
        )
