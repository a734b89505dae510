"""A step backend as a model that makes sequences: what joins `StepBackend` to `SequenceBackend`."""

from __future__ import annotations

from edgesdk.backends.protocol import SequenceBackend, StepBackend
from edgesdk.backends.turns import turns_of
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.whole_text import expect_causal
from edgesdk.kv.cell_sequence import CellSequence


class StepModel:
    """Implements `SequenceBackend` over a `StepBackend`."""

    def __init__(self, backend: StepBackend, spec: DecoderSpec, context: int) -> None:
        """Takes over a backend.

        Args:
            backend: runs the steps; closed with this object.
            spec: the model's shape.
            context: most tokens that a sequence holds.
        """
        self._backend = backend
        self._spec = spec
        self._context = context

    @property
    def backend(self) -> StepBackend:
        """The backend, for those who schedule steps themselves."""
        return self._backend

    @property
    def context(self) -> int:
        """Most tokens that a sequence holds, or a text."""
        return self._context

    def new_sequence(self) -> CellSequence:
        """An empty sequence.

        Raises:
            UnsupportedOption: the model gives states only.
            DeviceError: the backend's sizes do not suit the model, or it cannot be used any more.
        """
        expect_causal(self._spec)
        turns_of(self._backend).expect_open()
        return CellSequence(self._backend, self._spec, self._context)

    def close(self) -> None:
        """Releases the model, once the step that runs is over."""
        turns_of(self._backend).end(self._backend.close)


def steps_of(model: SequenceBackend) -> StepBackend | None:
    """What runs the steps of a model; None where a backend keeps its cells to itself."""
    return model.backend if isinstance(model, StepModel) else None
