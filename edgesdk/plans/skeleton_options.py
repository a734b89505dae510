"""How to answer by a skeleton, checked before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import cast

from edgesdk.bundle.records import JsonValue
from edgesdk.decoding.option_names import check_names
from edgesdk.decoding.option_types import flag, seconds, whole_number, whole_text
from edgesdk.decoding.options import GenerationKeywords, GenerationOptions
from edgesdk.errors import UnsupportedOption, quoted
from edgesdk.plans.allowance import check_cancelled
from edgesdk.plans.model_or_engine import ModelOrEngine
from edgesdk.plans.read_plan import read_plan
from edgesdk.plans.skeleton_plan import EASIEST, HARDEST, MOST_NODES, Plan

NODE_INSTRUCTION = "Answer the sub-question in one or two sentences, and nothing else."

_NODE_TOKENS = 96


@dataclass(frozen=True)
class SkeletonOptions:
    """How to plan, and how to run the plan.

    Attributes:
        plan: a plan, or its text, one `number | sub-problem | parents | difficulty` a line; None has the
            model write one.
        most_nodes: most nodes that the model may plan.
        planner_tokens: most tokens of the plan.
        constrained: a grammar keeps the planner to the form of a plan; False lets it write freely, and a plan
            that breaks the form is answered plainly.
        pipelined: nodes start as soon as their lines are complete; False waits for the whole plan.
        edges: nodes wait for their parents and see their answers; False is the ablation without.
        hard: what answers the difficult nodes, such as a larger bundle or a finer recipe; None for the same
            as the others.
        hard_from: the least difficulty that `hard` answers, 1 to 5.
        instruction: what a node is told first.
        node_deadline_s: seconds that each node may take, from when its parents are there.
        deadline_s: seconds for everything; what is not written by then says so.
        cancelled: asked now and then whether to stop; what is not written by then says so.
        template_variables: values of what else the chat template reads, such as `enable_thinking`.
    """

    plan: Plan | str | None = None
    most_nodes: int = 8
    planner_tokens: int = 320
    constrained: bool = True
    pipelined: bool = True
    edges: bool = True
    hard: ModelOrEngine | None = None
    hard_from: int = 4
    instruction: str = NODE_INSTRUCTION
    node_deadline_s: float | None = None
    deadline_s: float | None = None
    cancelled: Callable[[], bool] | None = None
    template_variables: Mapping[str, JsonValue] | None = None

    def __post_init__(self) -> None:
        """Refuses what has no meaning, and reads a plan that is given as text.

        Raises:
            UnsupportedOption: naming the option, or the line of the plan.
        """
        checked: dict[str, object] = {
            "most_nodes": whole_number("most_nodes", self.most_nodes, 1, MOST_NODES),
            "planner_tokens": whole_number("planner_tokens", self.planner_tokens, 1),
            "hard_from": whole_number("hard_from", self.hard_from, EASIEST, HARDEST),
            "instruction": whole_text("instruction", self.instruction),
        }
        for name in ("constrained", "pipelined", "edges"):
            checked[name] = flag(name, getattr(self, name))
        for name in ("node_deadline_s", "deadline_s"):
            if seconds(name, getattr(self, name)) == 0:
                raise UnsupportedOption(f"{name} is 0, expected seconds above 0")
        if isinstance(self.plan, str):
            checked["plan"] = read_plan(whole_text("plan", self.plan))
        elif self.plan is not None and not isinstance(self.plan, Plan):
            raise UnsupportedOption(f"plan is {quoted(self.plan)}, expected an edgesdk.Plan or its text")
        if self.hard is not None and not isinstance(self.hard, ModelOrEngine):
            raise UnsupportedOption(f"hard is {quoted(self.hard)}, expected a loaded model or an engine")
        check_cancelled(self.cancelled)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def given_plan(self) -> Plan | None:
        """The plan of the caller's, if there is one."""
        return self.plan if isinstance(self.plan, Plan) else None


class SkeletonKeywords(GenerationKeywords, total=False):
    """The fields of `SkeletonOptions` and of `GenerationOptions`, as keywords; see there."""

    plan: Plan | str | None
    most_nodes: int
    planner_tokens: int
    constrained: bool
    pipelined: bool
    edges: bool
    hard: ModelOrEngine | None
    hard_from: int
    instruction: str
    node_deadline_s: float | None
    deadline_s: float | None
    cancelled: Callable[[], bool] | None
    template_variables: Mapping[str, JsonValue] | None


def split_skeleton_keywords(
    keywords: Mapping[str, object],
) -> tuple[SkeletonOptions, GenerationOptions]:
    """How to plan, and how nodes are answered, of what a caller wrote.

    Raises:
        UnsupportedOption: there is no such option, or one has no meaning.
    """
    own = {field.name for field in fields(SkeletonOptions)}
    check_names(keywords, [*own, *(field.name for field in fields(GenerationOptions))])
    planning = SkeletonOptions(**cast(SkeletonKeywords, {k: v for k, v in keywords.items() if k in own}))  # type: ignore[misc]
    answering = {"max_tokens": _NODE_TOKENS} | {k: v for k, v in keywords.items() if k not in own}
    if answering["max_tokens"] is None:
        raise UnsupportedOption("max_tokens is None, expected a number: the most tokens of each node")
    return planning, GenerationOptions.of(answering)
