"""Fetches one GGUF file of a hub repository, chosen by its quantisation: `owner/name:Q8_0`.

Repositories with GGUF files have a file for each quantisation, whose name ends in it, as llama.cpp and Ollama
take it, or several parts of one, which are fetched together. Pinned, cached, resumable and offline once
cached, like `fetch_hub`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from edgesdk.errors import CheckpointError, MissingExtra
from edgesdk_converters.checkpoints.fetch_hub import hub_cache, hub_errors, is_hub_id
from edgesdk_converters.checkpoints.gguf_parts import first_part, part_names
from edgesdk_converters.checkpoints.hub_blobs import damaged_files, remove_blob

_QUANTISATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
# model-Q4_K_M.gguf, model.Q8_0.gguf; of one in parts the number stands behind it.
_NAMED = re.compile(
    r"(?:.*?[-._/])?((?:UD-)?(?:I?Q\d\w*|TQ\d\w*|B?F(?:16|32)|MXFP4\w*))(?:-\d{5}-of-\d{5})?\.gguf",
    re.IGNORECASE,
)
_MOST_NAMED = 20


def split_quantised(source: str) -> tuple[str, str] | None:
    """Hub id and quantisation of `owner/name:QUANTISATION`; None for anything else."""
    hub_id, colon, quantisation = source.partition(":")
    if not colon or not is_hub_id(hub_id) or not _QUANTISATION.fullmatch(quantisation):
        return None
    return hub_id, quantisation


def fetch_hub_gguf(
    hub_id: str, quantisation: str, revision: str | None = None, cache: Path | None = None
) -> tuple[Path, str]:
    """Downloads the GGUF file of one quantisation with all its parts, or finds it in the cache.

    Args:
        hub_id: `owner/name`.
        quantisation: end of the file's name before `.gguf`; capitals do not matter.
        revision: commit, branch or tag; None for the default branch.
        cache: the hub's cache folder; None for its own choice.

    Returns:
        The file, or its first part, beside which the others lie, and the commit it is of.

    Raises:
        CheckpointError: there is no such repository, revision or file, or no network and no cached copy.
        MissingExtra: huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import HfApi, hf_hub_download, snapshot_download
        from huggingface_hub.constants import DEFAULT_REVISION
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
    except ImportError as error:
        raise MissingExtra("huggingface-hub", "convert") from error
    with hub_errors(hub_id, revision):
        kept = hub_cache(cache)
        try:
            told = HfApi().model_info(hub_id, revision=revision or DEFAULT_REVISION)
            names = choose_gguf(hub_id, [each.rfilename for each in told.siblings or ()], quantisation)
        except (CheckpointError, GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError):
            raise
        except Exception:  # noqa: BLE001 - no network, said in many ways: what is in the cache
            folder = Path(snapshot_download(hub_id, revision=revision, cache_dir=kept, local_files_only=True))
            there = [path.relative_to(folder).as_posix() for path in folder.rglob("*.gguf")]
            names = choose_gguf(f"the cached {hub_id}", there, quantisation)

        def download(name: str, at: str | None) -> Path:
            file = Path(hf_hub_download(hub_id, name, revision=at, cache_dir=kept))
            if damaged_files([file]):
                remove_blob(file)
                file = Path(hf_hub_download(hub_id, name, revision=at, cache_dir=kept))
            if damaged_files([file]):
                raise CheckpointError(f"{name} of {hub_id} is damaged, also when it is fetched again")
            return file

        first = download(names[0], revision)
        # Snapshots are folders named by their commit; a file may lie in a folder of its own there.
        commit = first.parents[names[0].count("/")].name
        for name in names[1:]:  # of the same commit, whatever a branch does meanwhile
            download(name, commit)
    return first, commit


def choose_gguf(where: str, names: Sequence[str], quantisation: str) -> tuple[str, ...]:
    """The one GGUF file of a quantisation, or all parts of it in order.

    Args:
        where: what messages call the repository.
        names: its files.
        quantisation: in any case.

    Raises:
        CheckpointError: there is none, there are several, or a part is missing.
    """
    found = {name: match[1].upper() for name in names if (match := _NAMED.fullmatch(name))}
    wanted = quantisation.upper()
    fitting = sorted(name for name, has in found.items() if has == wanted)
    if not fitting:
        there = ", ".join(sorted(set(found.values()))[:_MOST_NAMED]) or "no GGUF file"
        raise CheckpointError(f"{where} has no GGUF file of {quantisation}; it has: {there}")
    models = sorted({first_part(name) for name in fitting})
    if len(models) > 1:
        raise CheckpointError(
            f"{where} has several GGUF files of {quantisation}: "
            f"{', '.join(models[:_MOST_NAMED])}; fetch one and give the file"
        )
    parts, held = part_names(models[0]), set(fitting)
    missing = next((name for name in parts if name not in held), None)
    if missing is not None:
        raise CheckpointError(
            f"{where} has {fitting[0]}, one of {len(parts)} parts, and not {missing}; take another "
            "quantisation or revision"
        )
    return parts
