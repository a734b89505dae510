"""Verifies a bundle on this machine: every file against its digest, every variant against the reference.

The reference is the bundle's parity probe; the source is not needed. A variant whose backend does not
run here is not a failure: it is reported as not checked, with the reason. One that a backend refuses,
although it runs here, is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgesdk.backends.qnn.provider import is_simulated
from edgesdk.backends.registry import find_backends
from edgesdk.bundle.integrity import check_integrity
from edgesdk.bundle.manifest import PARITY_NAME, ParityReport, Variant
from edgesdk.bundle.reader import Bundle, open_bundle
from edgesdk.bundle.vector_parity import VectorFigures, VectorParity
from edgesdk.devices.cpu import read_processor
from edgesdk.devices.discover import backend_rows, discover, installed_probes
from edgesdk.dispatch.candidates import list_candidates
from edgesdk.errors import BundleError, DeviceError, MissingExtra
from edgesdk.evaluation.gate import misses_gate
from edgesdk.evaluation.probe import Probe, ProbeReport, check_probe, read_probe
from edgesdk.evaluation.vector_agreement import misses_vector_gate
from edgesdk.evaluation.vector_probe import VectorProbe, check_vector_probe, read_vector_probe
from edgesdk.load_model import load
from edgesdk.model import Model

Status = Literal["passed", "failed", "not checked"]


@dataclass(frozen=True)
class VariantCheck:
    """One variant.

    Attributes:
        variant: its name.
        backend: what ran it, or would have; None when the variant was never proven.
        status: `passed`, `failed` or `not checked`.
        reason: why it was not checked, what it misses, or why its files were refused.
        measured: here and now; None when it did not run.
        recorded: at conversion, with the gate.
    """

    variant: str
    backend: str | None
    status: Status
    reason: str | None
    measured: ProbeReport | VectorFigures | None
    recorded: ParityReport | VectorParity | None


@dataclass(frozen=True)
class VerifyReport:
    """A whole bundle.

    Attributes:
        bundle: name of the model.
        files: files whose digest was computed and is right.
        bytes: their size.
        variants: one check each.
        passed: at least one variant passed and none failed.
    """

    bundle: str
    files: int
    bytes: int
    variants: tuple[VariantCheck, ...]
    passed: bool


def verify_bundle(
    path: Path | str, *, backend: str | None = None, report: Callable[[str], None] | None = None
) -> VerifyReport:
    """Verifies the bundle in the folder `path`.

    Args:
        path: the bundle's folder.
        backend: what to run the variants with; None for the one that each was proven with.
        report: told what happens.

    Returns:
        The report.

    Raises:
        BundleError: a file differs from its digest, or the bundle is not one.
        UnsupportedOption: there is no such backend.
    """
    say = report or (lambda line: None)
    if backend is not None:
        find_backends(backend)
    bundle = open_bundle(path)
    files = bundle.manifest.files
    size = sum(record.size_bytes for record in files.values())
    say(f"hashing {len(files)} files, {size / 1e6:.0f} MB")
    check_integrity(bundle, full=True)
    names = {variant.probe or PARITY_NAME for variant in bundle.manifest.variants}
    probes = {name: _read(bundle, name) for name in sorted(names) if name in files}
    checks = []
    for variant in bundle.manifest.variants:
        say(f"running {variant.name}")
        checks.append(_check(bundle, variant, backend, probes.get(variant.probe or PARITY_NAME)))
    statuses = {check.status for check in checks}
    passed = "passed" in statuses and "failed" not in statuses
    return VerifyReport(bundle.manifest.name, len(files), size, tuple(checks), passed)


def _read(bundle: Bundle, name: str) -> Probe | VectorProbe:
    spec = bundle.manifest.decoder
    if spec.is_causal:
        return read_probe(bundle.file(name), spec.vocab_size)
    return read_vector_probe(bundle.file(name), spec.vocab_size, spec.states_size)


def _check(
    bundle: Bundle, variant: Variant, backend: str | None, probe: Probe | VectorProbe | None
) -> VariantCheck:
    recorded = variant.parity if variant.vector_parity is None else variant.vector_parity
    if probe is None or recorded is None:
        reason = variant.parity_skipped or "the bundle carries no reference"
        return VariantCheck(variant.name, backend, "not checked", f"not proven: {reason}", None, recorded)
    chosen = backend or recorded.backend
    if backend is None and variant.compatibility is not None and is_simulated():
        soc = variant.compatibility.soc
        reason = f"it is for {soc}, whose simulator takes seconds for every token; verify it there"
        return VariantCheck(variant.name, chosen, "not checked", reason, None, recorded)
    try:
        with load(bundle.path, backend=chosen, variant=variant.name, strict=True) as model:
            measured, miss = _measure(model, probe, recorded)
    except MissingExtra as error:
        return VariantCheck(variant.name, chosen, "not checked", str(error), None, recorded)
    except DeviceError as error:
        refused: Status = "failed" if _runs_here(bundle, variant, chosen) else "not checked"
        return VariantCheck(variant.name, chosen, refused, str(error), None, recorded)
    status: Status = "passed" if miss is None else "failed"
    return VariantCheck(variant.name, chosen, status, miss, measured, recorded)


def _measure(
    model: Model, probe: Probe | VectorProbe, recorded: ParityReport | VectorParity
) -> tuple[ProbeReport | VectorFigures, str | None]:
    """What a model gives now, and why that misses its gate; None if it does not."""
    if isinstance(probe, VectorProbe) and isinstance(recorded, VectorParity):
        figures = check_vector_probe(model, probe)
        return figures, misses_vector_gate(figures, recorded)
    if isinstance(probe, Probe) and isinstance(recorded, ParityReport):
        report = check_probe(model, probe)
        return report, misses_gate(report, recorded)
    raise BundleError(
        "the manifest records another proof than its reference is for; convert the bundle again"
    )


def _runs_here(bundle: Bundle, variant: Variant, backend: str) -> bool:
    """Whether a backend that did not run a variant runs others of its kind on this machine."""
    backends = find_backends(backend)
    packages = {each.package for each in backends}
    probes = [probe for probe in installed_probes() if probe.package in packages]
    rows = backend_rows(backends, discover(read_processor(), probes=probes))
    found = list_candidates(bundle, backends, rows, variants=[variant])
    return any(candidate.refusal is None for candidate in found)
