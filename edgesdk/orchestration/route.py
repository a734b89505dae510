"""One engine that answers nodes: what all of them begin with is run once, and each goes on from its cells."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

from edgesdk.bundle.adapter_record import AdapterChoice
from edgesdk.bundle.records import JsonValue
from edgesdk.engine.engine import Engine
from edgesdk.engine.generation import Generation
from edgesdk.engine.request_options import RequestOptions
from edgesdk.orchestration.prompt_writer import PromptWriter, WrittenPrompt, common_length
from edgesdk.plans.skeleton_plan import PlanNode

KNOWN = "What is known:"
"""Heads the answers of a node's parents."""


class Route:
    """Answers nodes of one question on one engine."""

    def __init__(
        self,
        engine: Engine,
        question: str,
        instruction: str,
        template_variables: Mapping[str, JsonValue] | None,
        adapter: AdapterChoice = None,
    ) -> None:
        """Runs what all nodes begin with.

        Args:
            engine: runs the requests.
            question: that the nodes are a part of.
            instruction: what a node is told first.
            template_variables: values of what else the chat template reads.
            adapter: that answers nodes.

        Raises:
            CapacityError: the question does not fit.
        """
        self.engine = engine
        self.writer = PromptWriter(engine.model, template_variables)
        self._begin = (instruction, f"Question: {question}")
        receipt = engine.model.receipt
        self.label = f"{engine.model.bundle.manifest.name} {receipt.recipe}"
        self._open = ExitStack()
        ways = [self.writer.write(*self._begin, part).ids for part in (KNOWN, _sub_question("?"))]
        try:
            self._base = self._open.enter_context(engine.session(adapter=adapter))
            shared = ways[0][: common_length(ways)]
            if shared:
                self._base.append(shared)
        except BaseException:
            self.close()
            raise

    def prompt(self, node: PlanNode, known: Mapping[int, str]) -> WrittenPrompt:
        """A node's prompt: the question, its parents' answers, and itself.

        Args:
            node: to be answered.
            known: the answers of its parents, by their numbers.

        Raises:
            CapacityError: they are far too long.
        """
        listed = "\n".join([KNOWN, *(f"{number}. {text}" for number, text in sorted(known.items()))])
        return self.writer.write(*self._begin, listed if known else "", _sub_question(node.task))

    def submit(self, prompt: WrittenPrompt, options: RequestOptions) -> Generation:
        """Hands a node in; waits while the engine's queue is full.

        Raises:
            CapacityError: it does not fit.
            UnsupportedOption: an option has no meaning.
            DeviceError: the engine is closed.
        """
        branch = self._base.fork()
        self._open.callback(branch.close)
        return prompt.submit_in(branch, options)

    def close(self) -> None:
        """Gives the cells back; what is at work on them is cancelled."""
        self._open.close()


def _sub_question(task: str) -> str:
    return f"Sub-question: {task}"
