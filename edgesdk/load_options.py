"""How to load a bundle: the options of `load`, checked when they are made, for everybody who loads one.

It knows neither bundles nor what is installed; what of it a bundle can honour is `plan_load`'s to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TypedDict, cast, get_args

from edgesdk.backends.registry import find_backends
from edgesdk.bundle.manifest import DeviceClass
from edgesdk.decoding.option_names import check_names
from edgesdk.decoding.option_types import flag, whole_number
from edgesdk.devices.choose import GOALS, Goal
from edgesdk.devices.cpu import MOST_THREADS
from edgesdk.devices.governor import Governor
from edgesdk.drafts.check_draft import OFF, check_draft, check_draft_texts
from edgesdk.errors import UnsupportedOption, quoted

DEVICES = ("auto", *get_args(DeviceClass))
_LONGEST_NAME = 200


@dataclass(frozen=True)
class LoadOptions:
    """How to load a bundle.

    Without a goal, backends are tried in a fixed order. With one, what suits the bundle is measured once on
    this machine, within 10 seconds, and kept; later loads look it up.

    Attributes:
        device: `auto`, `cpu`, `gpu` or `npu`.
        backend: `auto` or the name of one.
        variant: name of a variant; None for the first that suits.
        recipe: only variants of this quantisation recipe; None for any.
        strict: raise where `load` would fall back to a less preferred device or backend, and where a
            device that fails later would be replaced.
        threads: CPU threads, at most 256; None for every core that this process may use, or with a goal for
            as many as measure best for it.
        goal: `latency`, `throughput`, `power`, `memory`, or a device, which becomes `device`.
        measure: with a goal: None to measure what never was, False not to measure, True to measure anew.
        cancelled: asked while measuring, which ends when it says so.
        serve_meanwhile: do not wait for an accelerator to open, which may mean compiling for minutes: answer
            on the CPU until it is, then move there between two tokens.
        governor: lowers threads, device or context while the machine is hot or its battery is low; None to
            never do so.
        isolate_grammars: compile each new grammar in a process of its own first, for servers that take
            grammars from strangers; None for what the environment variable EDGESDK_ISOLATE_GRAMMARS says.
        draft: what proposes tokens, several of which a step then judges at once, without changing an answer:
            `off`; `lookup` in prompt, answer and grammar; `trained` for the draft in the same file;
            `streams` for the model's own streams; `shallow` for a stack of it with fewer layers; `auto` for
            the best of these that the bundle has; or the name or path of a smaller bundle with the same
            tokens. Off by itself while it does not pay.
        draft_texts: looked up in, beside prompt and answer.
    """

    device: str = "auto"
    backend: str = "auto"
    variant: str | None = None
    recipe: str | None = None
    strict: bool = False
    threads: int | None = None
    goal: str | None = None
    measure: bool | None = None
    cancelled: Callable[[], bool] | None = None
    serve_meanwhile: bool = False
    governor: Governor | None = None
    isolate_grammars: bool | None = None
    draft: str = OFF
    draft_texts: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Refuses what has no meaning.

        Raises:
            UnsupportedOption: naming the option.
        """
        checked: dict[str, object] = {}
        for name in ("backend", "variant", "recipe"):
            _check_name(name, getattr(self, name), optional=name != "backend")
        for name in ("strict", "serve_meanwhile", "measure", "isolate_grammars"):
            value = getattr(self, name)
            if value is not None or name in ("strict", "serve_meanwhile"):
                checked[name] = flag(name, value)
        if self.threads is not None:
            checked["threads"] = whole_number("threads", self.threads, 1, MOST_THREADS)
        if self.cancelled is not None and not callable(self.cancelled):
            raise UnsupportedOption(f"cancelled is {quoted(self.cancelled)}, expected a function")
        if self.governor is not None and not isinstance(self.governor, Governor):
            raise UnsupportedOption(f"governor is {quoted(self.governor)}, expected an edgesdk.Governor")
        checked["device"], checked["goal"] = _device_and_goal(self.device, self.goal)
        checked["draft"] = check_draft(self.draft)
        checked["draft_texts"] = check_draft_texts(self.draft_texts)
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        find_backends(self.backend)
        self._check_together()

    def _check_together(self) -> None:
        if self.draft_texts and self.draft == OFF:
            raise UnsupportedOption("draft_texts are given, but draft is off; say draft='lookup' or 'auto'")
        if self.goal is None and self.measure is not None:
            raise UnsupportedOption(f"measure={self.measure} needs a goal: {', '.join(GOALS)}")
        if self.serve_meanwhile and self.strict:
            raise UnsupportedOption(
                "serve_meanwhile answers on the CPU first, which strict forbids; give one of them"
            )
        if self.serve_meanwhile and (self.device == "cpu" or (self.device == "auto" and self.goal is None)):
            raise UnsupportedOption(
                f"serve_meanwhile needs something to wait for: device gpu or npu, or goal {', '.join(GOALS)}"
            )

    @classmethod
    def of(cls, keywords: Mapping[str, object], base: LoadOptions | None = None) -> LoadOptions:
        """Options from the keywords of a call.

        Args:
            keywords: as a caller wrote them.
            base: options that the keywords change; None for the defaults.

        Raises:
            UnsupportedOption: there is no such option, or one has no meaning.
        """
        if base is not None and not isinstance(base, LoadOptions):
            raise UnsupportedOption(f"options is {quoted(base)}, expected an edgesdk.LoadOptions")
        check_names(keywords, [field.name for field in fields(cls)])
        changed = cast(LoadKeywords, keywords)
        return cls(**changed) if base is None else replace(base, **changed)

    @property
    def kind(self) -> DeviceClass | None:
        """The class of devices that was asked for; None for any."""
        return None if self.device == "auto" else cast(DeviceClass, self.device)

    @property
    def measured_goal(self) -> Goal | None:
        """The goal, which is none that names a device."""
        return cast("Goal | None", self.goal)

    @property
    def falls_back(self) -> bool:
        """Whether another backend may take over from one that fails."""
        return not self.strict and self.backend == "auto"


class LoadKeywords(TypedDict, total=False):
    """The fields of `LoadOptions`, as keywords of what loads a bundle itself; see there."""

    device: str
    backend: str
    variant: str | None
    recipe: str | None
    strict: bool
    threads: int | None
    goal: str | None
    measure: bool | None
    cancelled: Callable[[], bool] | None
    serve_meanwhile: bool
    governor: Governor | None
    isolate_grammars: bool | None
    draft: str
    draft_texts: Sequence[str]


def _check_name(option: str, name: object, *, optional: bool) -> None:
    if optional and name is None:
        return
    if not isinstance(name, str) or len(name) > _LONGEST_NAME:
        raise UnsupportedOption(
            f"{option} is {quoted(name)}, expected a name of at most {_LONGEST_NAME} characters"
        )


def _device_and_goal(device: str, goal: str | None) -> tuple[str, str | None]:
    """Refuses what is unknown; a goal that is a device becomes one."""
    if device not in DEVICES:
        raise UnsupportedOption(f"device {quoted(device)} is unknown; expected {', '.join(DEVICES)}")
    if goal in get_args(DeviceClass):
        if device not in ("auto", goal):
            raise UnsupportedOption(f"the goal is {goal}, but device is {device}; give one of them")
        return str(goal), None
    if goal is not None and goal not in GOALS:
        expected = ", ".join((*GOALS, *get_args(DeviceClass)))
        raise UnsupportedOption(f"goal {quoted(goal)} is unknown; expected {expected}")
    return device, goal
