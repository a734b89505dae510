"""What each kind of job does: bundles and figures from bundles and texts.

A function for each kind takes the job and the store, and returns figures by the names that the table has. It
does not know whether the job was done before, nor where it runs. Converters are imported where a job needs
them: one that only measures starts in half the time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgesdk.bundle.reader import open_bundle
from edgesdk.bundle.records import JsonValue, from_json, to_json
from edgesdk.bundle.shelf import is_bundle
from edgesdk.errors import BundleError, EdgeError, UnsupportedOption
from edgesdk.evaluation.agreement import ScoredPositions, join_positions
from edgesdk.evaluation.bench import measure_speed
from edgesdk.evaluation.bench_sustained import measure_sustained
from edgesdk.evaluation.evaluate_text import score_windows, text_windows
from edgesdk.evaluation.probe import ProbeReport
from edgesdk.evaluation.verify_bundle import verify_bundle
from edgesdk.load_model import load
from edgesdk.load_options import LoadOptions
from edgesdk.model import Model
from edgesdk_converters.sweeps.job import Job, JobKind
from edgesdk_converters.sweeps.job_store import JobStore

if TYPE_CHECKING:
    from edgesdk_converters.convert_options import ConvertOptions

Figures = dict[str, JsonValue]


@dataclass(frozen=True)
class _Loading:
    backend: str
    device: str
    threads: int | None


@dataclass(frozen=True)
class _Scoring:
    text: str
    tokens: int
    window: int
    reference: bool
    source: str | None
    revision: str | None
    loading: _Loading
    shard: int = 0
    shards: int = 1


@dataclass(frozen=True)
class _Bench:
    prompt_tokens: int
    new_tokens: int
    repeat: int
    loading: _Loading


@dataclass(frozen=True)
class _Sustained:
    seconds: float
    prompt_tokens: int
    new_tokens: int
    loading: _Loading


@dataclass(frozen=True)
class _Harness:
    tasks: tuple[str, ...]
    loading: _Loading
    include_path: str | None = None
    limit: int | None = None
    num_fewshot: int | None = None


def carry_out(job: Job, store: JobStore) -> Figures:
    """Does a job.

    Returns:
        Figures by name; `backend` says what ran the model.

    Raises:
        EdgeError: it cannot be done; the message is the row's line.
    """
    return _KINDS[job.kind](job, store)


def _convert(job: Job, store: JobStore) -> Figures:
    """Writes a bundle, unless one stands there: who wrote it was killed before it could say so."""
    from edgesdk_converters.convert import convert

    folder = store.bundle(job.key)
    if not is_bundle(folder):
        source, revision = job.options["source"], job.options.get("revision")
        options = _convert_options(job.options["options"])
        convert(str(source), folder, options, revision=None if revision is None else str(revision))
    bundle = open_bundle(folder)
    variant = bundle.manifest.variants[0]
    figures: Figures = {"size_bytes": bundle.variant_bytes(variant), "variant": variant.name}
    if variant.parity is not None:
        figures["backend"] = variant.parity.backend
        figures["proven_perplexity_ratio"] = variant.parity.perplexity_ratio
        figures["proven_top1_agreement"] = variant.parity.top1_agreement
    return figures


def _convert_options(document: JsonValue) -> ConvertOptions:
    """The options that a plan's conversion was described with."""
    from edgesdk_converters.convert_options import ConvertOptions
    from edgesdk_converters.reshape import Reshaping

    if not isinstance(document, dict):
        raise UnsupportedOption("a conversion has no options; run `edgesdk sweep` instead")
    values: dict[str, object] = dict(document)
    values["reshaping"] = from_json(Reshaping, values["reshaping"], "reshaping")
    for name in ("targets", "recipes", "merge_adapters"):
        listed = values[name]
        assert isinstance(listed, list)  # written by `to_json`
        values[name] = tuple(listed)
    if values["calibration"] is not None:
        values["calibration"] = Path(str(values["calibration"]))
    return ConvertOptions(**values)  # type: ignore[arg-type]  # written by `to_json` of the same class


def _prove(job: Job, store: JobStore) -> Figures:
    loading = from_json(_Loading, job.options["loading"], "loading")
    backend = None if loading.backend == "auto" else loading.backend
    report = verify_bundle(store.bundle(job.needs[0]), backend=backend)
    check = report.variants[0]
    if not report.passed:
        raise EdgeError(f"{check.status}: {check.reason}")
    if not isinstance(check.measured, ProbeReport):
        raise EdgeError("this model gives vectors only, which have no perplexity; leave proofs of it out")
    return {
        "backend": check.backend,
        "perplexity": check.measured.perplexity,
        "perplexity_ratio": check.measured.perplexity_ratio,
        "kl_nats": check.measured.kl_nats,
        "top1_agreement": check.measured.top1_agreement,
    }


def _scored(job: Job, store: JobStore) -> tuple[ScoredPositions, Figures]:
    """The positions of a shard's windows: every n-th one, so that shards take about as long as each other."""
    asked = from_json(_Scoring, _options(job), job.label)
    text = Path(asked.text).read_text(encoding="utf-8")
    with load(store.bundle(job.needs[0]), _load_options(asked.loading)) as model:
        windows = text_windows(model, text, tokens=asked.tokens, window=asked.window)
        mine = windows[asked.shard :: asked.shards]
        reference = None
        if asked.source is not None:
            from edgesdk_converters.parity.score_source import score_source

            reference = score_source(asked.source, model.bundle, asked.revision)
        return score_windows(model, mine, reference), _ran(model)


def _score(job: Job, store: JobStore) -> Figures:
    scored, figures = _scored(job, store)
    store.write_positions(job.key, scored)
    return {**figures, "positions": len(scored.loss)}


def _evaluate(job: Job, store: JobStore) -> Figures:
    """Sums up the shards, or scores the whole text where there are none."""
    parts = job.needs[1:]
    if parts:
        scored = join_positions([store.read_positions(key) for key in parts])
        outcome = store.read_outcome(parts[0])
        if outcome is None:
            raise BundleError(f"{job.label}: what its parts have made is gone; run the sweep again")
        figures = {"backend": outcome.figures.get("backend"), "variant": outcome.figures.get("variant")}
    else:
        scored, figures = _scored(job, store)
    try:
        report = scored.report()
    except ValueError as error:
        raise UnsupportedOption(str(error)) from error
    return {**figures, **_figures(report)}


def _bench(job: Job, store: JobStore) -> Figures:
    asked = from_json(_Bench, _options(job), job.label)
    with load(store.bundle(job.needs[0]), _load_options(asked.loading)) as model:
        report = measure_speed(model, asked.prompt_tokens, asked.new_tokens, asked.repeat)
        found = asdict(report)
        del found["receipt"]
        return {**_ran(model), **_figures(found)}


def _sustained(job: Job, store: JobStore) -> Figures:
    asked = from_json(_Sustained, _options(job), job.label)
    with load(store.bundle(job.needs[0]), _load_options(asked.loading)) as model:
        report = measure_sustained(model, asked.seconds, asked.prompt_tokens, asked.new_tokens)
        return {**_ran(model), **_figures(report)}


def _harness(job: Job, store: JobStore) -> Figures:
    from edgesdk.evaluation.lm_eval_model import run_harness  # with lm-evaluation-harness

    asked = from_json(_Harness, _options(job), job.label)
    with load(store.bundle(job.needs[0]), _load_options(asked.loading)) as model:
        results = run_harness(
            model,
            asked.tasks,
            include_path=None if asked.include_path is None else Path(asked.include_path),
            limit=asked.limit,
            num_fewshot=asked.num_fewshot,
        )
        return {**_ran(model), **_figures(results)}


_KINDS: dict[JobKind, Callable[[Job, JobStore], Figures]] = {
    "convert": _convert,
    "prove": _prove,
    "score": _score,
    "evaluate": _evaluate,
    "bench": _bench,
    "sustained": _sustained,
    "harness": _harness,
}


def _options(job: Job) -> dict[str, JsonValue]:
    return dict(job.options)


def _load_options(loading: _Loading) -> LoadOptions:
    return LoadOptions(device=loading.device, backend=loading.backend, threads=loading.threads, strict=True)


def _ran(model: Model) -> Figures:
    """What ran a model; read at the end, since a receipt may change."""
    receipt = model.receipt
    return {"backend": receipt.backend, "variant": receipt.variant, "threads": receipt.threads}


def _figures(report: object) -> Figures:
    """A report's fields that have a value."""
    document = dict(report) if isinstance(report, Mapping) else to_json(report)
    assert isinstance(document, dict)  # of a dataclass
    return {name: to_json(value) for name, value in document.items() if value is not None}
