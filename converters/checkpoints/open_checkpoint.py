"""Opens a checkpoint, whatever form its source has."""

from __future__ import annotations

from pathlib import Path

from converters.checkpoints.checkpoint import Checkpoint
from converters.checkpoints.default_model import NAMED_MODELS, fetch_default_model
from converters.checkpoints.fetch_hub import fetch_hub, is_hub_id
from converters.checkpoints.open_gguf import open_gguf
from converters.checkpoints.open_huggingface import CONFIG, open_huggingface
from edgesdk.errors import CheckpointError, UnsupportedOption


def open_checkpoint(source: str, *, revision: str | None = None) -> Checkpoint:
    """Opens a checkpoint.

    Args:
        source: a directory in Hugging Face's layout, a `.gguf` file, a named model, or a hub id.
        revision: commit, branch or tag, for a hub id.

    Raises:
        CheckpointError: there is nothing of that name, or it cannot be read.
        UnsupportedOption: a revision is given for something that has none.
        MissingExtra: a package of the `convert` extra is missing.
    """
    path = Path(source)
    local = path.is_dir() or path.is_file() or source in NAMED_MODELS
    if local and revision is not None:
        raise UnsupportedOption(f"{source} is not a hub id, so it has no revision {revision!r}")
    if path.is_dir():
        if not (path / CONFIG).is_file():
            ggufs = sorted(path.glob("*.gguf"))
            hint = f"; did you mean {ggufs[0]}?" if ggufs else ""
            raise CheckpointError(f"{source} has no {CONFIG}; expected a Hugging Face directory{hint}")
        return open_huggingface(path)
    if path.is_file():
        return open_gguf(path)
    if source in NAMED_MODELS:
        return open_gguf(fetch_default_model(source), name=NAMED_MODELS[source].title)
    if is_hub_id(source) and path.suffix != ".gguf":
        folder, commit = fetch_hub(source, revision)
        return open_huggingface(folder, location=source, revision=commit)
    raise CheckpointError(
        f"{source!r} is no directory, no file, no hub id (owner/name) and no named model "
        f"({', '.join(NAMED_MODELS)})"
    )
