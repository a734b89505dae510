"""What a server has in an engine's place for a model that gives states only: it embeds and writes nothing."""

from __future__ import annotations

from edgesdk.bundle.whole_text import expect_causal
from edgesdk.engine.generation import Generation
from edgesdk.engine.metrics import EngineMetrics
from edgesdk.errors import UnsupportedOption
from edgesdk.model import Model

_NOTHING = EngineMetrics(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0, 0.0, 0, 0)


class VectorsOnly:
    """A loaded model whose tokens see the whole text, as a server asks an engine."""

    def __init__(self, model: Model) -> None:
        """Takes over a model."""
        self.model = model
        """What embeds."""
        self.metrics = _NOTHING
        """Of steps that an engine would have run."""

    def submit(self, prompt: object = None, *, messages: object = None, **options: object) -> Generation:
        """Refuses a request to write.

        Raises:
            UnsupportedOption: saying why.
        """
        expect_causal(self.model.decoder)
        raise UnsupportedOption("this model is served for its vectors alone")

    def close(self, drain: bool = True) -> None:
        """Releases the model; no request waits."""
        self.model.close()
