"""The cells of a plan, one after the other, each with its jobs: what stands first makes what later ones read.

Sources, texts and adapters are read once, for their digests; nothing is converted or loaded. Cells of one
bundle follow each other, so whoever works from the front holds few bundles in mind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgesdk.bundle.records import JsonValue, to_json
from edgesdk.errors import EdgeError, UnsupportedOption
from edgesdk_converters.adapters.adapter import parse_adapter
from edgesdk_converters.checkpoints.digests import describe_file
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.convert_options import ConvertOptions, check_options
from edgesdk_converters.reshape import Reshaping
from edgesdk_converters.sweeps.job import Job, JobKind, address
from edgesdk_converters.sweeps.plan import (
    CONVERT,
    EvaluateTask,
    PlannedDevice,
    PlannedSource,
    PlannedTask,
    PlannedTransform,
    ProveTask,
    SweepPlan,
    recipe_name,
)
from edgesdk_converters.vocabulary.prune_request import parse_prune_option

_TIMED: tuple[JobKind, ...] = ("bench", "sustained")


@dataclass(frozen=True)
class SweepCell:
    """One row of the table.

    Attributes:
        source: its name in the plan, as in the next five.
        transform: before quantising.
        recipe: how weights are stored.
        target: what is written.
        device: where it is measured; `-` for a conversion.
        task: what is measured; `convert` for a conversion.
        jobs: what it takes, each behind what it needs; the last one's outcome is the row.
        source_digest: of the checkpoint; empty where it could not be read.
        error: why there are no jobs: the source cannot be read, or nobody can convert so.
    """

    source: str
    transform: str
    recipe: str
    target: str
    device: str
    task: str
    jobs: tuple[Job, ...]
    source_digest: str
    error: str | None = None

    @property
    def place(self) -> tuple[str, str, str, str, str, str]:
        """What tells it from all others."""
        return self.source, self.transform, self.recipe, self.target, self.device, self.task


def expand_plan(plan: SweepPlan, digests: PlanDigests | None = None) -> Iterator[SweepCell]:
    """Every cell: of each bundle its conversion first, then each task on each device.

    Args:
        plan: what to do.
        digests: of an earlier expansion, so that nothing is read again; None to read.
    """
    digests = PlanDigests() if digests is None else digests
    for source in plan.sources:
        try:
            digest, error = digests.source(source), None
        except (EdgeError, OSError) as failure:
            digest, error = "", str(failure)
        for transform in plan.transforms:
            for recipe in plan.recipes:
                for target in plan.targets:
                    where = (source.name, transform.name, recipe_name(recipe), target)
                    made = _Conversion(plan, source, transform, recipe, target, digest)
                    yield from _bundle_cells(plan, made, where, digests, error)


def check_plan(plan: SweepPlan) -> None:
    """Refuses what no conversion can come of, before anything is made.

    Raises:
        UnsupportedOption: every target refuses a recipe, or names are unknown.
    """
    errors = []
    for transform in plan.transforms:
        for recipe in plan.recipes:
            for target in plan.targets:
                try:
                    check_options(conversion_options(plan, transform, recipe, target))
                    return
                except EdgeError as error:
                    errors.append(str(error))
    raise UnsupportedOption(f"no cell of the plan can be converted: {errors[0]}")


def conversion_options(
    plan: SweepPlan, transform: PlannedTransform, recipe: str, target: str
) -> ConvertOptions:
    """How one bundle is converted; a miss of its gate becomes a figure, not a failure."""
    return ConvertOptions(
        targets=(target,),
        recipes=(recipe,),
        context=plan.context,
        prove=any(isinstance(task, ProveTask) for task in plan.tasks),
        allow_parity_miss=True,
        reshaping=Reshaping(
            transform.prune_vocab, transform.skip_layers, transform.layer_budget, transform.repair_layers
        ),
        calibration=None if plan.calibration is None else Path(plan.calibration),
        cells=plan.cell_type,
        merge_adapters=transform.merge_adapters,
    )


@dataclass(frozen=True)
class _Conversion:
    plan: SweepPlan
    source: PlannedSource
    transform: PlannedTransform
    recipe: str
    target: str
    digest: str

    def options(self) -> ConvertOptions:
        return conversion_options(self.plan, self.transform, self.recipe, self.target)


def _bundle_cells(
    plan: SweepPlan,
    made: _Conversion,
    where: tuple[str, str, str, str],
    digests: PlanDigests,
    error: str | None,
) -> Iterator[SweepCell]:
    conversion: Job | None = None
    if error is None:
        try:
            conversion = _conversion_job(made, where, digests)
        except (EdgeError, OSError) as failure:
            error = str(failure)
    jobs = () if conversion is None else (conversion,)
    yield SweepCell(*where, "-", CONVERT, jobs, made.digest, error)
    for device in plan.devices:
        for task in plan.tasks:
            if conversion is None:
                yield SweepCell(*where, device.name, task.name, (), made.digest, f"not converted: {error}")
                continue
            steps = _task_jobs(made, conversion, device, task, digests)
            yield SweepCell(*where, device.name, task.name, (conversion, *steps), made.digest)


def _conversion_job(made: _Conversion, where: tuple[str, str, str, str], digests: PlanDigests) -> Job:
    """Raises EdgeError where options contradict each other."""
    options = made.options()
    check_options(options)
    transform = made.transform
    identity: dict[str, JsonValue] = {
        "source": made.digest,
        "target": made.target,
        "recipe": digests.recipe(made.recipe),
        "context": options.context,
        "cells": options.cells,
        "prove": options.prove,
        "calibration": None if options.calibration is None else digests.path(options.calibration),
        "prune_vocab": None if transform.prune_vocab is None else digests.prune(transform.prune_vocab),
        "skip_layers": transform.skip_layers,
        "layer_budget": transform.layer_budget,
        "repair_layers": transform.repair_layers,
        "merge_adapters": [digests.adapter(text) for text in transform.merge_adapters],
    }
    settings: dict[str, JsonValue] = {
        "source": made.source.path,
        "revision": made.source.revision,
        "options": to_json(options),
    }
    label = f"convert {' '.join(where)}"
    timeout = made.plan.timeout_s
    return Job(address("convert", identity), "convert", label, settings, timeout_s=timeout)


def _task_jobs(
    made: _Conversion, conversion: Job, device: PlannedDevice, task: PlannedTask, digests: PlanDigests
) -> tuple[Job, ...]:
    """The jobs of one task on one device; the last one's outcome is the task's."""
    asked = to_json(task)
    assert isinstance(asked, dict)  # a dataclass is an object in JSON
    loading: dict[str, JsonValue] = {
        "backend": device.backend,
        "device": device.device,
        "threads": device.threads,
    }
    for name in ("name", "kind"):
        asked.pop(name)
    shards = asked.pop("shards", 1)
    assert isinstance(shards, int)  # checked with the plan
    identity: dict[str, JsonValue] = {**asked, **loading, "measured_on": device.name}
    options: dict[str, JsonValue] = {**asked, "loading": loading}
    if isinstance(task, EvaluateTask):
        identity["text"] = digests.path(Path(task.text))
        options["source"] = made.source.path if task.reference else None
        options["revision"] = made.source.revision
    if asked.get("include_path") is not None:
        identity["include_path"] = digests.path(Path(str(asked["include_path"])))
    label = f"{task.name} of {conversion.label.removeprefix('convert ')} on {device.name}"
    key = address(task.kind, identity, (conversion.key,))
    pieces: list[Job] = []
    if shards > 1:
        for i in range(shards):
            part: dict[str, JsonValue] = {"shard": i, "shards": shards}
            piece_key = address("score", {**identity, **part}, (conversion.key,))
            pieces.append(
                Job(
                    piece_key,
                    "score",
                    f"{label}, part {i + 1} of {shards}",
                    {**options, **part},
                    (conversion.key,),
                    timeout_s=made.plan.timeout_s,
                    worker=device.worker,
                )
            )
    needs = (conversion.key, *(piece.key for piece in pieces))
    whole = Job(
        key,
        task.kind,
        label,
        options,
        needs,
        alone=task.kind in _TIMED,
        timeout_s=made.plan.timeout_s,
        worker=device.worker,
    )
    return (*pieces, whole)


class PlanDigests:
    """SHA-256 of what a plan names, each read once."""

    def __init__(self) -> None:
        """Nothing is read yet."""
        self._known: dict[str, str] = {}
        self._sources: dict[PlannedSource, str] = {}

    def source(self, source: PlannedSource) -> str:
        """Of weights, configuration, tokenizer and templates.

        Raises:
            CheckpointError: it cannot be read.
        """
        known = self._sources.get(source)
        if known is not None:
            return known
        checkpoint = open_checkpoint(source.path, revision=source.revision)
        tokenizer = checkpoint.tokenizer
        parts: list[JsonValue] = [to_json(checkpoint.source.files), to_json(checkpoint.config)]
        parts += [tokenizer.tokenizer_json, tokenizer.chat_template, tokenizer.tool_template]
        known = self._sources[source] = address("convert", {"parts": parts})
        return known

    def path(self, path: Path) -> str:
        """Of a file, or of all files below a folder with their names.

        Raises:
            CheckpointError: it cannot be read.
        """
        known = self._known.get(str(path))
        if known is None:
            known = self._known[str(path)] = _hash(path)
        return known

    def recipe(self, recipe: str) -> str:
        """A name as it is; of a file, what is in it."""
        return self.path(Path(recipe)) if recipe.endswith(".json") else recipe

    def prune(self, spec: str) -> str:
        """The request with digests beside its files' names."""
        request = parse_prune_option(spec)
        files = [*request.corpus, *([] if request.tokens is None else [request.tokens])]
        return " ".join([request.describe(), *(self.path(file) for file in files)])

    def adapter(self, text: str) -> str:
        """Digest and scale."""
        request = parse_adapter(text)
        return f"{self.path(request.path)} {request.scale!r}"


def _hash(path: Path) -> str:
    if path.is_file():
        return describe_file(path).sha256
    digest = hashlib.sha256()
    for file in sorted(each for each in path.rglob("*") if each.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()} {describe_file(file).sha256}\n".encode())
    return digest.hexdigest()
