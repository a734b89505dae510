"""Quality of variants, as executed, beside llama.cpp's types of the same source on the same tokens.

    python benchmarks/quality.py SOURCE --bundle BUNDLE [--bundle OTHER] [--peers Q8_0,Q4_0,Q4_1,Q4_K_M]
        [--tokens 20000] [--json FILE] [--peer-python PYTHON]

SOURCE is what the bundles were converted from: a GGUF file, a named model, or a checkpoint folder (then
without peers). The reference is the float32 evaluator on the source's weights. Prose and technical text
are reported apart (benchmarks/texts.py); every window of 512 tokens is scored by itself, and every
token of it but the first counts. Token ids are made once, with the bundle's tokenizer, and given to all;
whether llama.cpp would have made the same ones is checked and reported.

Each window's figures are kept in the cache folder under the digests of candidate, reference and window,
so a run that was interrupted goes on, a changed bundle is measured again, and nothing else is.
Bytes are those of the files with weights; a GGUF file has its tokenizer inside (about 2 MB). llama.cpp
runs as it comes: activations in 8 bits per block, cells in float16, no importance data for its quantiser.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click
from candidates import BundleCandidate, Candidate, PeerCandidate, peer_engine
from peer import peer_model, peer_python
from reference_logits import ReferenceLogits, Window
from rich import box
from rich.console import Console
from rich.table import Table
from texts import TEXTS, EvaluationText
from window_figures import Measurements, sum_up

from edgesdk.backends.registry import find_backends
from edgesdk.bundle.integrity import cache_folder
from edgesdk.bundle.manifest import TOKENIZER_NAME, Source
from edgesdk.bundle.reader import Bundle, open_bundle
from edgesdk.cli.reference import open_reference
from edgesdk.devices.cpu import usable_cores
from edgesdk.errors import EdgeError
from edgesdk.text.tokenizer import Tokenizer
from edgesdk_converters.checkpoints.checkpoint import Checkpoint
from edgesdk_converters.checkpoints.default_model import fetch_default_model
from edgesdk_converters.checkpoints.named_models import NAMED_MODELS
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint

_COMPARED_CHARACTERS = 20_000


def digest_of(source: Source) -> str:
    """One digest for all files of a source."""
    lines = sorted(f"{file.sha256} {file.size_bytes}" for file in source.files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def bundle_candidates(
    bundles: Sequence[Bundle], source: Source, variants: Sequence[str], backends: Sequence[str], threads: int
) -> list[BundleCandidate]:
    """Every wanted variant with every wanted backend that opens it.

    Raises:
        click.ClickException: a bundle comes from another source, or a named variant is nowhere.
    """
    found = []
    for bundle in bundles:
        if digest_of(bundle.manifest.source) != digest_of(source):
            raise click.ClickException(
                f"{bundle.path} was converted from {bundle.manifest.source.location}, not from this "
                f"{source.location}; give the source that it was made from"
            )
        for variant in bundle.manifest.variants:
            for backend in backends:
                suits = find_backends(backend)[0].format == variant.format
                if suits and (not variants or variant.name in variants):
                    found.append(BundleCandidate(bundle.path, variant, backend, threads))
    absent = set(variants) - {candidate.name.split(" ")[0] for candidate in found}
    if absent:
        raise click.ClickException(f"no bundle has a variant {', '.join(sorted(absent))} for these backends")
    return found


def first_difference(ours: Sequence[int], theirs: Sequence[int]) -> int | None:
    """Where two tokenisations part; None when they are the same."""
    pairs = zip(ours, theirs, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(theirs)))
    return None if at == len(ours) == len(theirs) else at


def show(rows: Sequence[dict], names: Sequence[str]) -> None:
    """Prints a table that can go into a document as it is."""
    table = Table(box=box.MARKDOWN)
    table.add_column("")
    table.add_column("MB", justify="right")
    for name in names:
        for figure in ("ratio", "top-1", "KL, nats"):
            table.add_column(f"{name} {figure}", justify="right")
    for row in rows:
        cells = [row["name"], f"{row['weights_bytes'] / 1e6:.1f}"]
        for name in names:
            figures = row["texts"][name]
            error = figures["ratio_error"]
            ratio = f"{figures['perplexity_ratio']:.4f}"
            cells.append(ratio if error is None else f"{ratio} ± {error:.4f}")
            cells += [f"{figures['top1_agreement']:.4f}", f"{figures['kl_nats']:.4f}"]
        table.add_row(*cells)
    Console(width=60 + 45 * len(names), soft_wrap=False).print(table)


def peer_candidates(
    checkpoint: Checkpoint,
    path: Path,
    kinds: Sequence[str],
    given_python: str | None,
    window: int,
    threads: int,
) -> list[PeerCandidate]:
    """llama.cpp's types of the source, quantised on first use."""
    if not kinds:
        return []
    if checkpoint.source.kind != "gguf":
        raise click.ClickException("llama.cpp's types are made from a GGUF source; give one, or --peers ''")
    python = Path(given_python) if given_python else peer_python()
    engine = peer_engine(python)
    return [
        PeerCandidate(python, engine, kind, peer_model(python, kind, path), window, threads) for kind in kinds
    ]


def split_names(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    """A list of names separated by commas."""
    return tuple(name.strip() for name in value.split(",") if name.strip())


@click.command()
@click.argument("source")
@click.option("--bundle", "bundles", multiple=True, required=True, type=click.Path(file_okay=False))
@click.option("--variants", default="", callback=split_names, help="only these; default: all")
@click.option("--backends", default="litert,onnxruntime", show_default=True, callback=split_names)
@click.option("--peers", default="Q8_0,Q4_0,Q4_1,Q4_K_M", show_default=True, callback=split_names)
@click.option("--peer-python", "given_python", type=click.Path(), help="an interpreter with llama-cpp-python")
@click.option("--texts", "names", default="prose,technical", show_default=True, callback=split_names)
@click.option("--tokens", default=20_000, show_default=True, help="scored positions of each text, at least")
@click.option("--window", default=512, show_default=True, help="tokens that are scored together")
@click.option("--threads", default=None, type=click.IntRange(min=1), help="default: every usable core")
@click.option("--json", "json_file", type=click.Path(), help="write the figures to this file")
def main(
    source: str,
    bundles: tuple[str, ...],
    variants: tuple[str, ...],
    backends: tuple[str, ...],
    peers: tuple[str, ...],
    given_python: str | None,
    names: tuple[str, ...],
    tokens: int,
    window: int,
    threads: int | None,
    json_file: str | None,
) -> None:
    """Prints size, perplexity ratio, top-1 agreement and KL divergence of every candidate."""
    unknown = set(names) - set(TEXTS)
    if unknown or not names:
        raise click.UsageError(f"--texts has {', '.join(sorted(unknown))!r}, expected {', '.join(TEXTS)}")
    try:
        document = measure_all(
            source, bundles, variants, backends, peers, given_python, names, tokens, window, threads
        )
    except EdgeError as error:
        raise click.ClickException(str(error)) from error
    show(document["rows"], names)
    if json_file:
        Path(json_file).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def measure_all(
    source: str,
    bundles: Sequence[str],
    variants: Sequence[str],
    backends: Sequence[str],
    peers: Sequence[str],
    given_python: str | None,
    names: Sequence[str],
    tokens: int,
    window: int,
    threads: int | None,
) -> dict:
    """Measures whatever is not known yet; the document that `--json` writes."""
    threads = threads or usable_cores()
    path = fetch_default_model(source) if source in NAMED_MODELS else Path(source)
    checkpoint = open_checkpoint(str(path))
    opened = [open_bundle(bundle) for bundle in bundles]
    candidates: list[Candidate] = [
        *bundle_candidates(opened, checkpoint.source, variants, backends, threads),
        *peer_candidates(checkpoint, path, peers, given_python, window, threads),
    ]
    manifest = opened[0].manifest
    tokenizer = Tokenizer(opened[0].file(TOKENIZER_NAME), manifest.tokenizer)
    start = tokenizer.encode("")
    texts: dict[str, EvaluationText] = {name: TEXTS[name]() for name in names}
    windows = {
        name: text.windows(lambda s: tokenizer.encode(s, add_bos=False), tokens, window, start)
        for name, text in texts.items()
    }
    folder, source_digest = cache_folder() / "quality", digest_of(checkpoint.source)
    reference = ReferenceLogits(
        folder / "reference", source_digest, lambda: open_reference(str(path), opened[0])
    )
    rows = [measure_one(c, windows, reference, folder / "windows", source_digest) for c in candidates]
    peer = next((c for c in candidates if isinstance(c, PeerCandidate)), None)
    described = {}
    for name, text in texts.items():
        described[name] = {"origin": text.origin, "sha256": text.sha256, "windows": len(windows[name])}
        if peer is not None:
            sample = text.text[:_COMPARED_CHARACTERS]
            at = first_difference(tokenizer.encode(sample, add_bos=False), peer.tokenize(sample))
            described[name]["llama_cpp_tokenises_equally"] = at is None
            if at is not None:
                click.echo(f"{name}: llama.cpp would tokenise otherwise from token {at} on", err=True)
    if peer is not None:
        peer.close()
    return {
        "source": {"location": checkpoint.source.location, "digest": source_digest},
        "window_tokens": window,
        "texts": described,
        "rows": rows,
    }


def measure_one(
    candidate: Candidate,
    windows: dict[str, list[Window]],
    reference: ReferenceLogits,
    folder: Path,
    source_digest: str,
) -> dict:
    """One row of the table."""
    measurements = Measurements(folder, candidate, source_digest)
    figures = {}
    try:
        for name, texts in windows.items():
            label = f"{candidate.name}, {name}"
            with click.progressbar(texts, label=label, file=sys.stderr) as bar:
                figures[name] = asdict(sum_up([measurements.measure(candidate, w, reference) for w in bar]))
    finally:
        candidate.close()
    return {
        "name": candidate.name,
        "kind": candidate.kind,
        "recipe": candidate.recipe,
        "engine": candidate.engine,
        "weights_bytes": candidate.weights_bytes,
        "digest": candidate.digest,
        "texts": figures,
    }


if __name__ == "__main__":
    main()
