"""Opens an adapter, whichever form its file has: a directory as PEFT writes it, or a GGUF file."""

from __future__ import annotations

from pathlib import Path

from edgesdk.errors import CheckpointError
from edgesdk_converters.adapters.adapter import Adapter
from edgesdk_converters.adapters.gguf_adapter import read_gguf_adapter
from edgesdk_converters.adapters.peft_adapter import read_peft_adapter
from edgesdk_converters.checkpoints.refuse_derived import ADAPTER


def read_adapter(path: Path) -> Adapter:
    """Opens an adapter and reads its low-rank parts; whole tensors stay in the file.

    Args:
        path: the directory or the file.

    Raises:
        CheckpointError: it cannot be read, is damaged, or changes a model in a way that is not known.
        MissingExtra: the gguf package is not installed.
    """
    if path.is_dir():
        if not (path / ADAPTER).is_file():
            raise CheckpointError(f"{path} has no {ADAPTER}; expected an adapter as PEFT saves it")
        return read_peft_adapter(path)
    if path.name == ADAPTER or path.suffix in (".safetensors", ".bin"):
        raise CheckpointError(f"{path} is one file of an adapter; give its folder")
    if not path.is_file():  # a pipe would be waited for
        raise CheckpointError(f"{path} is no plain file; give an adapter's folder or GGUF file")
    return read_gguf_adapter(path)
