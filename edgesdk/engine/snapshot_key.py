"""What a snapshot's cells are worth nothing without: the model, its weights' numbers and its vocabulary."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from edgesdk.bundle.adapter_record import Gates
from edgesdk.bundle.manifest import TOKENIZER_NAME
from edgesdk.bundle.reader import Bundle


def snapshot_key(bundle: Bundle, variant: str) -> str:
    """Digest (hex) of what makes keys and values what they are.

    It is the same for all targets that store the same numbers, so a snapshot goes from backend to backend.

    Args:
        bundle: the model.
        variant: name of the variant that runs.
    """
    manifest, chosen = bundle.manifest, bundle.variant(variant)
    facts = {
        "decoder": asdict(manifest.decoder_of(chosen)),
        "tokenizer": manifest.files[TOKENIZER_NAME].sha256,
        "numbers": chosen.numbers,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def gated_key(key: str, gates: Gates) -> str:
    """The key of cells that were run with adapters, whose numbers are the variant's own; `key` for none."""
    return hashlib.sha256(f"{key} {gates!r}".encode()).hexdigest() if gates else key
