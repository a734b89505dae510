"""Opens a bundle on the best backend that works, and writes a receipt of what was refused."""

from __future__ import annotations

import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edgesdk.backends.opened import Opened, OpenRequest
from edgesdk.backends.protocol import LoadedBackend
from edgesdk.backends.registry import Backend, find_backends
from edgesdk.bundle.integrity import check_integrity
from edgesdk.bundle.manifest import CHAT_TEMPLATE_NAME, TOKENIZER_NAME, Variant
from edgesdk.bundle.reader import Bundle, open_bundle
from edgesdk.devices.cpu import usable_cores
from edgesdk.devices.receipt import Receipt, Refusal
from edgesdk.errors import DeviceError, MissingExtra, UnsupportedOption
from edgesdk.kv.step_model import StepModel
from edgesdk.model import Model

DEVICES = ("auto", "cpu", "gpu", "npu")


def load(
    path: str | Path,
    *,
    device: str = "auto",
    backend: str = "auto",
    variant: str | None = None,
    recipe: str | None = None,
    strict: bool = False,
    threads: int | None = None,
) -> Model:
    """Loads a bundle.

    Args:
        path: the bundle's folder.
        device: `auto`, `cpu`, `gpu` or `npu`.
        backend: `auto` or the name of one.
        variant: name of a variant; None for the first that suits.
        recipe: only variants of this quantisation recipe; None for any.
        strict: raise where `load` would fall back to a less preferred device or backend.
        threads: CPU threads; None for every core that this process may use.

    Returns:
        The model; its `receipt` says what runs it and what was refused.

    Raises:
        BundleError: the bundle is damaged or of another version.
        DeviceError: nothing can run it, or, with `strict`, the first choice cannot.
        UnsupportedOption: an argument names something unknown.
    """
    started = time.perf_counter()
    if device not in DEVICES:
        raise UnsupportedOption(f"device {device!r} is unknown; expected {', '.join(DEVICES)}")
    if threads is not None and threads < 1:
        raise UnsupportedOption(f"threads is {threads}, expected at least 1")
    threads = threads or usable_cores()
    backends = find_backends(backend)
    bundle = open_bundle(path)
    wanted = _variants(bundle, variant, recipe)
    refusals: list[Refusal] = []
    if device in ("gpu", "npu"):
        _refuse(refusals, Refusal("-", "-", device, f"no backend runs on a {device} in this version"), strict)
    for candidate in backends:
        suited = [v for v in wanted if v.format == candidate.format]
        if not suited:
            reason = f"the bundle has no {candidate.format} variant"
            # A target that was not converted is no fallback, unless it was asked for.
            if backend != "auto":
                raise DeviceError(f"{candidate.name} cannot run {bundle.manifest.name}: {reason}")
            continue
        chosen = suited[0]
        try:
            integrity = check_integrity(bundle, _needed(bundle, chosen))
            opened = _open(candidate, OpenRequest(bundle, chosen, threads))
        except (DeviceError, MissingExtra) as error:
            _refuse(refusals, Refusal(candidate.name, chosen.name, "cpu", str(error)), strict)
            continue
        receipt = Receipt(
            bundle=bundle.manifest.name,
            variant=chosen.name,
            recipe=chosen.recipe,
            backend=candidate.name,
            device="cpu",
            provider=opened.provider,
            accelerated_share=opened.accelerated_share,
            threads=threads,
            load_ms=(time.perf_counter() - started) * 1e3,
            weight_cache=opened.weight_cache,
            integrity=integrity,
            refusals=tuple(refusals),
            notes=opened.notes,
        )
        return Model(bundle, _with_cells(opened, bundle, chosen), receipt)
    reasons = "; ".join(f"{r.backend}: {r.reason}" for r in refusals) or "it has no variant for them"
    tried = ", ".join(candidate.name for candidate in backends)
    raise DeviceError(f"nothing can run {bundle.manifest.name} (tried {tried}): {reasons}")


def _variants(bundle: Bundle, name: str | None, recipe: str | None) -> list[Variant]:
    variants = [bundle.variant(name)] if name is not None else list(bundle.manifest.variants)
    suited = [v for v in variants if recipe is None or v.recipe == recipe]
    if not suited:
        there = ", ".join(sorted({v.recipe for v in variants}))
        raise UnsupportedOption(f"no variant has the recipe {recipe!r}; the bundle has {there}")
    return suited


def _needed(bundle: Bundle, variant: Variant) -> list[str]:
    """The files that a load reads: the variant's folder, the tokenizer, the template."""
    folder = f"{Path(variant.entry).parent.as_posix()}/"
    files = [name for name in bundle.manifest.files if name.startswith(folder)]
    return files + [name for name in (TOKENIZER_NAME, CHAT_TEMPLATE_NAME) if name in bundle.manifest.files]


def _open(backend: Backend, request: OpenRequest) -> Opened:
    try:
        version(backend.package)
    except PackageNotFoundError as error:
        raise DeviceError(f"the package {backend.package} is not installed") from error
    return backend.open(request)


def _with_cells(opened: Opened, bundle: Bundle, variant: Variant) -> LoadedBackend:
    if isinstance(opened.model, LoadedBackend):
        return opened.model
    return StepModel(opened.model, bundle.manifest.decoder_of(variant), variant.context)


def _refuse(refusals: list[Refusal], refusal: Refusal, strict: bool) -> None:
    if strict:
        raise DeviceError(f"{refusal.device} with {refusal.backend} was refused: {refusal.reason}")
    refusals.append(refusal)
