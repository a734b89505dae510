"""Which .litertlm file a request runs with; apart from the worker, which needs LiteRT-LM to be imported."""

from pathlib import Path


def fitting(model: Path, tokens: int) -> Path:
    """The file to run so many tokens with.

    Args:
        model: a file, or a folder of files that are named by the tokens that their caches hold.
        tokens: of prompt and answer.

    Returns:
        The smallest that holds them; the largest where none does.
    """
    if model.is_file():
        return model
    sizes = sorted(int(path.stem) for path in model.glob("*.litertlm"))
    return model / f"{next((size for size in sizes if size >= tokens), sizes[-1])}.litertlm"
