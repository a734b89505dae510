"""What a sweep is asked to do: sources x transforms x recipes x targets x devices x tasks, from a TOML file.

A plan is checked as a whole before anything runs: unknown keys, two things of one name, texts that are not
there, options that no conversion takes. Paths in it are relative to its folder.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from edgesdk.bundle.manifest import CellType
from edgesdk.bundle.records import from_json
from edgesdk.errors import BundleError, UnsupportedOption, quoted
from edgesdk.load_options import LoadOptions
from edgesdk_converters.layers.repair_stack import RepairMethod

CONVERT = "convert"
"""The task of a conversion's row."""
_MOST_BYTES = 1 << 20
_MOST_SHARDS = 1024
"""Each is a job of its own."""
_MOST_COUNT = 1 << 31
_LONGEST_S = 30 * 86_400.0


@dataclass(frozen=True)
class PlannedSource:
    """A checkpoint.

    Attributes:
        name: in the table.
        path: whatever `edgesdk convert` takes.
        revision: of a hub id.
    """

    name: str
    path: str
    revision: str | None = None


@dataclass(frozen=True)
class PlannedTransform:
    """What is changed in a checkpoint before it is quantised; the options of `edgesdk convert`.

    Attributes:
        name: in the table.
        prune_vocab: tokens to keep.
        skip_layers: layers to leave out.
        layer_budget: leave out what a budget allows.
        repair_layers: fit the layer before each gap.
        merge_adapters: adapters to merge, `PATH` or `PATH:SCALE`.
    """

    name: str = "plain"
    prune_vocab: str | None = None
    skip_layers: str | None = None
    layer_budget: str | None = None
    repair_layers: RepairMethod | None = None
    merge_adapters: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlannedDevice:
    """Where and how a bundle is loaded; the options of `edgesdk.load`.

    Attributes:
        name: in the table; results belong to it, so another machine is another name.
        backend: `auto` or a name.
        device: `auto`, `cpu`, `gpu` or `npu`.
        threads: CPU threads; None for every core.
        worker: resource that the worker must offer (`dask worker --resources NAME=1`); None for any worker.
    """

    name: str = "here"
    backend: str = "auto"
    device: str = "auto"
    threads: int | None = None
    worker: str | None = None


@dataclass(frozen=True)
class ProveTask:
    """Every file against its digest, the variant against the reference that its bundle carries."""

    kind: Literal["prove"]
    name: str = "prove"


@dataclass(frozen=True)
class EvaluateTask:
    """Perplexity of a text, and with a reference how far the model is from its source in float32.

    Attributes:
        kind: `evaluate`.
        text: UTF-8 file.
        name: in the table.
        tokens: most tokens to score.
        window: tokens that are scored together.
        reference: compare with the source.
        shards: jobs that share the windows; the figures are the same bits for any number.
    """

    kind: Literal["evaluate"]
    text: str
    name: str = "evaluate"
    tokens: int = 5000
    window: int = 512
    reference: bool = True
    shards: int = 1


@dataclass(frozen=True)
class BenchTask:
    """Speed of one sequence, as `edgesdk bench`."""

    kind: Literal["bench"]
    name: str = "bench"
    prompt_tokens: int = 512
    new_tokens: int = 128
    repeat: int = 3


@dataclass(frozen=True)
class SustainedTask:
    """Speed over minutes of load without a pause, as `edgesdk bench --sustained`."""

    kind: Literal["sustained"]
    name: str = "sustained"
    seconds: float = 600.0
    prompt_tokens: int = 128
    new_tokens: int = 128


@dataclass(frozen=True)
class HarnessTask:
    """Tasks of lm-evaluation-harness.

    Attributes:
        kind: `harness`.
        tasks: names of its tasks.
        name: in the table.
        include_path: folder with tasks of one's own, as its YAML files.
        limit: most documents of each task; None for all.
        num_fewshot: examples before each question; None for what the task says.
    """

    kind: Literal["harness"]
    tasks: tuple[str, ...]
    name: str = "harness"
    include_path: str | None = None
    limit: int | None = None
    num_fewshot: int | None = None


PlannedTask = ProveTask | EvaluateTask | BenchTask | SustainedTask | HarnessTask
_TASKS: dict[str, type[PlannedTask]] = {
    "prove": ProveTask,
    "evaluate": EvaluateTask,
    "bench": BenchTask,
    "sustained": SustainedTask,
    "harness": HarnessTask,
}


@dataclass(frozen=True)
class SweepPlan:
    """A whole plan.

    Attributes:
        sources: checkpoints.
        recipes: as `edgesdk convert --recipe`.
        targets: as `edgesdk convert --target`.
        tasks: what is measured of each bundle.
        transforms: changes before quantising; each source gets each.
        devices: where and how each bundle is measured.
        name: title of the report.
        context: longest sequence, in tokens.
        cell_type: of cached keys and values.
        calibration: text to calibrate with; None for the built-in sample.
        timeout_s: seconds until a job is given up.
    """

    sources: tuple[PlannedSource, ...]
    recipes: tuple[str, ...]
    targets: tuple[str, ...]
    tasks: tuple[PlannedTask, ...]
    transforms: tuple[PlannedTransform, ...] = (PlannedTransform(),)
    devices: tuple[PlannedDevice, ...] = (PlannedDevice(),)
    name: str = "sweep"
    context: int = 2048
    cell_type: CellType = "float32"
    calibration: str | None = None
    timeout_s: float = 14400.0

    def __post_init__(self) -> None:
        """Refuses what is empty, twice there, or cannot be loaded so.

        Raises:
            UnsupportedOption: in one line.
        """
        for what, items in self._lists():
            if not items:
                raise UnsupportedOption(f"the plan has no {what}; give at least one")
            twice = sorted(name for name, times in Counter(items).items() if times > 1)
            if twice:
                raise UnsupportedOption(f"the plan has two {what} named {quoted(twice[0])}; rename one")
        for device in self.devices:
            LoadOptions(device=device.device, backend=device.backend, threads=device.threads, strict=True)
        _check_seconds("timeout_s", self.timeout_s)
        _check_count("context", self.context, 1, _MOST_COUNT)
        for task in self.tasks:
            _check_task(task)

    def _lists(self) -> tuple[tuple[str, Sequence[str]], ...]:
        return (
            ("sources", _names(self.sources)),
            ("transforms", _names(self.transforms)),
            ("recipes", tuple(map(recipe_name, self.recipes))),
            ("targets", self.targets),
            ("devices", _names(self.devices)),
            ("tasks", _names(self.tasks)),
        )

    @property
    def cells(self) -> int:
        """How many cells it has."""
        total = 1
        for _, items in self._lists():
            total *= len(items)
        return total


class _Named(Protocol):
    @property
    def name(self) -> str: ...


def _names(items: Sequence[_Named]) -> tuple[str, ...]:
    return tuple(item.name for item in items)


def recipe_name(recipe: str) -> str:
    """What a recipe is called in the table: of a file, the name without its ending."""
    return Path(recipe).stem if recipe.endswith(".json") else recipe


def _check_task(task: PlannedTask) -> None:
    if task.name == CONVERT:
        raise UnsupportedOption(f"a task is named {CONVERT!r}, as conversions are; rename it")
    bounds = {
        "tokens": (2, _MOST_COUNT),
        "window": (2, _MOST_COUNT),
        "shards": (1, _MOST_SHARDS),
        "prompt_tokens": (1, _MOST_COUNT),
        "new_tokens": (1, _MOST_COUNT),
        "repeat": (1, _MOST_COUNT),
        "limit": (1, _MOST_COUNT),
        "num_fewshot": (0, _MOST_COUNT),
    }
    for name, (least, most) in bounds.items():
        value = getattr(task, name, None)
        if value is not None:
            _check_count(f"task {task.name}: {name}", value, least, most)
    if isinstance(task, SustainedTask):
        _check_seconds(f"task {task.name}: seconds", task.seconds)
    if isinstance(task, HarnessTask) and not task.tasks:
        raise UnsupportedOption(f"task {task.name} names no task of lm-evaluation-harness")


def _check_count(what: str, value: int, least: int, most: int) -> None:
    if value < least:
        raise UnsupportedOption(f"{what} is {quoted(value)}, expected at least {least}")
    if value > most:
        raise UnsupportedOption(f"{what} is {quoted(value)}, expected at most {most}")


def _check_seconds(what: str, value: float) -> None:
    if not 0 < value <= _LONGEST_S:  # NaN, too
        raise UnsupportedOption(f"{what} is {value:g}, expected above 0 and at most {_LONGEST_S:.0f} seconds")


def read_plan(path: Path) -> SweepPlan:
    """Reads a plan; its paths become absolute.

    Raises:
        UnsupportedOption: the file cannot be read, is no TOML, or is no plan.
    """
    try:
        with path.open("rb") as stream:
            text = stream.read(_MOST_BYTES + 1)
        if len(text) > _MOST_BYTES:
            raise UnsupportedOption(f"{path} has more than {_MOST_BYTES >> 20} MiB; expected a sweep's plan")
        document = tomllib.loads(text.decode("utf-8"))
    except OSError as error:
        raise UnsupportedOption(f"{path} cannot be read: {error.strerror}; give a TOML file") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, or not TOML
        raise UnsupportedOption(f"{path} is no TOML: {error}; docs/sweeps.md shows a plan") from error
    try:
        _check_kinds(document.get("tasks"), path.name)
        plan = from_json(SweepPlan, document, path.name)
    except BundleError as error:
        raise UnsupportedOption(f"{error}; docs/sweeps.md shows a plan") from error
    return _anchored(plan, path.resolve().parent)


def _check_kinds(tasks: object, name: str) -> None:
    """Reads each task by its kind, so that what is wrong with it is said of that kind.

    Raises:
        BundleError: one is no task.
    """
    for i, task in enumerate(tasks if isinstance(tasks, list) else []):
        kind = task.get("kind") if isinstance(task, dict) else None
        if not isinstance(kind, str) or kind not in _TASKS:
            expected = ", ".join(_TASKS)
            raise BundleError(f"{name}.tasks[{i}] has the kind {quoted(kind)}, expected {expected}")
        from_json(_TASKS[kind], task, f"{name}.tasks[{i}]")


def _anchored(plan: SweepPlan, folder: Path) -> SweepPlan:
    """The plan with absolute paths.

    Raises:
        UnsupportedOption: a text or a folder is not there.
    """

    def there(text: str, what: str) -> str:
        found = folder / text
        if not found.exists():
            raise UnsupportedOption(f"{what} {quoted(text)} is not there; paths are relative to the plan")
        return str(found)

    def maybe(text: str) -> str:
        return str(folder / text) if (folder / text).exists() else text

    tasks: list[PlannedTask] = []
    for task in plan.tasks:
        if isinstance(task, EvaluateTask):
            task = replace(task, text=there(task.text, "the text"))
        elif isinstance(task, HarnessTask) and task.include_path is not None:
            task = replace(task, include_path=there(task.include_path, "the folder of tasks"))
        tasks.append(task)
    transforms = tuple(
        replace(
            each,
            prune_vocab=None if each.prune_vocab is None else _anchored_spec(each.prune_vocab, folder),
            merge_adapters=tuple(_anchored_adapter(text, folder) for text in each.merge_adapters),
        )
        for each in plan.transforms
    )
    calibration = None if plan.calibration is None else there(plan.calibration, "the calibration text")
    sources = tuple(replace(source, path=maybe(source.path)) for source in plan.sources)
    recipes = tuple(maybe(recipe) if recipe.endswith(".json") else recipe for recipe in plan.recipes)
    return replace(
        plan,
        sources=sources,
        transforms=transforms,
        recipes=recipes,
        tasks=tuple(tasks),
        calibration=calibration,
    )


def _anchored_spec(spec: str, folder: Path) -> str:
    """`corpus=FILE` and `tokens=FILE` with absolute paths."""
    parts = []
    for part in spec.split(","):
        name, equals, value = part.partition("=")
        is_file = name.strip() in ("corpus", "tokens")
        parts.append(f"{name}={folder / value.strip()}" if equals and is_file else part)
    return ",".join(parts)


def _anchored_adapter(text: str, folder: Path) -> str:
    """`PATH` or `PATH:SCALE` with an absolute path, where there is one."""
    before, _, after = text.rpartition(":")
    if not (folder / text).exists() and before and (folder / before).exists():
        return f"{folder / before}:{after}"
    return str(folder / text)
