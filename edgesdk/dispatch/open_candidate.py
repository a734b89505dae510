"""Opens one candidate: checks its files, asks for its package, and calls its backend."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from edgesdk.backends.opened import Opened, OpenRequest
from edgesdk.backends.protocol import SequenceBackend, StepBackend
from edgesdk.backends.wide_logits import widen
from edgesdk.bundle.integrity import begin_integrity
from edgesdk.bundle.manifest import CHAT_TEMPLATE_NAME, ID_MAP_NAME, TOKENIZER_NAME, Variant
from edgesdk.bundle.reader import Bundle
from edgesdk.devices.packages import installed_version
from edgesdk.dispatch.candidates import Candidate
from edgesdk.errors import DeviceError, EdgeError


@dataclass(frozen=True)
class OpenedCandidate:
    """A candidate that runs.

    Attributes:
        candidate: what was opened.
        opened: what its backend says.
        integrity: how its files were checked.
    """

    candidate: Candidate
    opened: Opened
    integrity: str

    @property
    def step_backend(self) -> StepBackend | None:
        """What runs its steps; None where it keeps its cache to itself."""
        model = self.opened.model
        return None if isinstance(model, SequenceBackend) else model


def open_candidate(bundle: Bundle, candidate: Candidate, threads: int) -> OpenedCandidate:
    """Opens a candidate.

    Args:
        bundle: its bundle.
        candidate: not refused.
        threads: CPU threads.

    Raises:
        BundleError: a file is damaged.
        DeviceError: its package is not installed, or the backend cannot run it.
        MissingExtra: the backend needs an optional package.
    """
    if candidate.refusal is not None:
        raise DeviceError(candidate.refusal)
    integrity = begin_integrity(bundle, _needed(bundle, candidate.variant))
    backend = candidate.backend
    try:
        if installed_version(backend.package) is None:
            raise DeviceError(f"the package {backend.package} is not installed")
        request = OpenRequest(bundle, candidate.variant, threads, candidate.device, integrity)
        opened = backend.open(request)
    except EdgeError:
        integrity.result()  # what is damaged is said first, whatever came of it
        raise
    try:
        request.expect_whole()
    except EdgeError:
        opened.model.close()
        raise
    if not isinstance(opened.model, SequenceBackend):
        # A pruned head shows here and nowhere above.
        opened = replace(opened, model=widen(opened.model, bundle, candidate.variant))
    return OpenedCandidate(candidate, opened, integrity.result())


def _needed(bundle: Bundle, variant: Variant) -> list[str]:
    """The files that a load reads: the variant's folder, the tokenizer, the template, the id map."""
    folder = f"{Path(variant.entry).parent.as_posix()}/"
    files = [name for name in bundle.manifest.files if name.startswith(folder)]
    shared = (TOKENIZER_NAME, CHAT_TEMPLATE_NAME, ID_MAP_NAME)
    return files + [name for name in shared if name in bundle.manifest.files]
