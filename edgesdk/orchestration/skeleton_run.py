"""One answer by its skeleton: the planner writes, nodes start as they can, and what comes is put in order.

It waits for whatever speaks first, the planner or a node. A node that fails or is late does not stop the
others; those that need it go without, and say so. A plan that breaks its form is given up for a plain answer.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import cast

from edgesdk.decoding.completion import Completion
from edgesdk.decoding.options import GenerationOptions
from edgesdk.engine.generation import Generation
from edgesdk.engine.request_options import RequestOptions
from edgesdk.errors import EdgeError, UnsupportedOption
from edgesdk.orchestration.desk import stopped
from edgesdk.orchestration.node_board import NodeBoard
from edgesdk.orchestration.plan_prompt import EXAMPLES, plan_instruction, plan_question, plan_regex
from edgesdk.orchestration.reading import Ended, Event, Piece, Reading
from edgesdk.orchestration.route import Route
from edgesdk.plans.allowance import Allowance
from edgesdk.plans.read_plan import PlanReader
from edgesdk.plans.skeleton_answer import NodeAnswer, SkeletonAnswer, SkeletonChunk
from edgesdk.plans.skeleton_options import SkeletonOptions
from edgesdk.plans.skeleton_plan import Plan, PlanNode

_PLANNER, _PLAIN = 0, -1
"""What reports call the planner and the plain answer; nodes are called by their numbers."""

_LOOK_S = 0.05


class SkeletonRun:
    """The state of one call."""

    def __init__(
        self,
        question: str,
        planning: SkeletonOptions,
        answering: GenerationOptions,
        easy: Route,
        hard: Route,
        began_s: float,
    ) -> None:
        """Starts nothing yet.

        Args:
            question: to be answered.
            planning: how to plan.
            answering: how nodes are answered.
            easy: answers most nodes, and plans.
            hard: answers the difficult ones.
            began_s: when the call came, on the clock of `time.perf_counter`.
        """
        self._question = question
        self._planning = planning
        self._answering = answering
        self._easy, self._hard = easy, hard
        self._began_s = began_s
        self._allowance = Allowance(planning.deadline_s, planning.cancelled)
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._readings: dict[int, Reading] = {}
        self._ready_s: dict[int, float] = {}
        self._board = NodeBoard(edges=planning.edges)
        self._reader = PlanReader()
        self._plan_text = ""
        self._plan_s = 0.0
        self._plan_tokens = 0
        self._planned = False
        self._fallback: str | None = None

    def chunks(self) -> Iterator[SkeletonChunk]:
        """The answer piece by piece; the last piece has the whole."""
        shown = False
        try:
            for text, node in self._by_plan():
                shown = True
                yield SkeletonChunk(text, node)
            if self._fallback is None:
                yield SkeletonChunk("", answer=self._answer(self._board.text, None))
                return
            yield from self._plainly(shown)
        finally:
            self.stop()

    def stop(self) -> None:
        """Cancels what runs and waits for its end."""
        for reading in self._readings.values():
            reading.cancel()
        for reading in self._readings.values():
            reading.join()

    def _by_plan(self) -> Iterator[tuple[str, int]]:
        """Pieces of the nodes' answers, until all have ended or the plan is given up."""
        given = self._planning.given_plan
        if given is not None:
            for node in given.nodes:
                self._board.add(node)
            self._planned = True
        else:
            self._begin(_PLANNER, self._submit_plan)
        stopping = False
        while True:
            if self._fallback is None:
                if self._planned or self._planning.pipelined:
                    self._start_ready(stopping)
                for number, text in self._board.read():
                    yield text, number
            if not self._readings:
                return
            event = self._next()
            if not stopping and self._allowance.is_cancelled():
                stopping = True
                for reading in self._readings.values():
                    reading.cancel()
            if event is not None:
                self._take(event)

    def _next(self) -> Event | None:
        """Waits for what comes next; None when it is time to look whether the caller has had enough."""
        try:
            return self._events.get(timeout=None if self._planning.cancelled is None else _LOOK_S)
        except queue.Empty:
            return None

    def _take(self, event: Event) -> None:
        if isinstance(event, Ended):
            del self._readings[event.source]
        if event.source == _PLANNER:
            self._take_plan(event)
        elif isinstance(event, Piece):
            self._board.piece(event.source, event.text)
        else:
            self._board.end(self._node_answer(event))

    def _take_plan(self, event: Event) -> None:
        """Goes on with the plan; what breaks its form ends it, and all nodes that have begun."""
        try:
            if isinstance(event, Piece):
                self._plan_text += event.text
                if self._fallback is None:
                    for node in self._reader.feed(event.text):
                        self._board.add(node)
                return
            self._plan_s = time.perf_counter() - self._began_s
            if event.completion is None:
                raise event.error or EdgeError("the planner ended without an answer")
            self._plan_tokens = event.completion.new_tokens
            reason = event.completion.finish_reason
            if reason in ("cancelled", "deadline"):
                raise EdgeError(stopped(reason, self._plan_tokens).replace("answer", "plan"))
            if self._fallback is None:
                try:
                    for node in self._reader.end():
                        self._board.add(node)
                except UnsupportedOption as error:
                    cut = f"; it was cut after {self._plan_tokens} tokens" if reason == "length" else ""
                    raise UnsupportedOption(f"{error}{cut}") from error
                self._planned = True
        except EdgeError as error:
            self._give_up(str(error))

    def _give_up(self, reason: str) -> None:
        if self._fallback is None:
            self._fallback = reason
        for reading in self._readings.values():
            reading.cancel()

    def _start_ready(self, stopping: bool) -> None:
        # A node that may not begin any more ends at once, and those that waited for it follow.
        while ready := self._board.ready():
            for node in ready:
                self._ready_s[node.number] = time.perf_counter() - self._began_s
                if stopping or self._allowance.is_over() or self._allowance.is_cancelled():
                    why = "deadline" if self._allowance.is_over() else "cancelled"
                    self._board.end(self._unanswered(node, stopped(why, 0)))
                    continue
                route = self._route(node)
                self._board.start(node)
                self._begin(node.number, self._node_request(route, node))

    def _route(self, node: PlanNode) -> Route:
        return self._hard if node.difficulty >= self._planning.hard_from else self._easy

    def _node_request(self, route: Route, node: PlanNode) -> Callable[[], Generation]:
        most = [s for s in (self._planning.node_deadline_s, self._allowance.left_s()) if s is not None]
        options = self._options(self._answering, deadline_s=min(most, default=None))
        known = self._board.known(node)
        # Also what is wrong with its prompt ends that node alone.
        return lambda: route.submit(route.prompt(node, known), options)

    def _submit_plan(self) -> Generation:
        rule = plan_regex(self._planning.most_nodes) if self._planning.constrained else None
        asked = replace(
            self._answering,
            max_tokens=self._planning.planner_tokens,
            json_schema=None,
            lark=None,
            regex=rule,
            stop=(),
        )
        prompt = self._easy.writer.write(
            plan_instruction(self._planning.most_nodes), EXAMPLES, plan_question(self._question)
        )
        return prompt.submit(self._easy.engine, self._options(asked))

    def _options(self, answer: GenerationOptions, **changed: object) -> RequestOptions:
        given = {each.name: getattr(answer, each.name) for each in fields(answer)}
        return cast(RequestOptions, given | {"deadline_s": self._allowance.left_s()} | changed)

    def _begin(self, source: int, submit: Callable[[], Generation]) -> None:
        self._readings[source] = Reading(source, submit, self._events.put)

    def _plainly(self, shown: bool) -> Iterator[SkeletonChunk]:
        """A plain answer in place of a plan's, unless the caller has had enough."""
        if shown:
            yield SkeletonChunk("", withdrawn=True)
        if self._allowance.is_over() or self._allowance.is_cancelled():
            yield SkeletonChunk("", answer=self._answer("", None))
            return
        most = (self._answering.max_tokens or 1) * self._planning.most_nodes
        asked = replace(self._answering, max_tokens=most)
        prompt = self._easy.writer.write(self._question)
        self._begin(
            _PLAIN,
            lambda: prompt.submit(self._easy.engine, self._options(asked)),
        )
        while True:
            event = self._next()
            if self._allowance.is_cancelled():
                self._readings[_PLAIN].cancel()
            if isinstance(event, Piece):
                yield SkeletonChunk(event.text)
            elif isinstance(event, Ended):
                del self._readings[_PLAIN]
                if event.completion is None:
                    raise event.error or EdgeError("the plain answer ended without a completion")
                yield SkeletonChunk("", answer=self._answer(event.completion.text, event.completion))
                return

    def _answer(self, text: str, plain: Completion | None) -> SkeletonAnswer:
        given_up = self._fallback is not None
        nodes = self._board.nodes
        return SkeletonAnswer(
            text=text,
            plan=None if given_up or not nodes else Plan(nodes),
            nodes=() if given_up else tuple(self._board.answers[node.number] for node in nodes),
            fallback=self._fallback,
            finish_reason=None if plain is None else plain.finish_reason,
            plan_text=self._plan_text,
            plan_s=self._plan_s,
            plan_tokens=self._plan_tokens,
            wall_s=time.perf_counter() - self._began_s,
        )

    def _node_answer(self, event: Ended) -> NodeAnswer:
        node = next(node for node in self._board.nodes if node.number == event.source)
        answer = self._unanswered(node, None)
        done, metrics = event.completion, event.metrics
        if metrics is not None:
            times = metrics.token_times_s
            answer = replace(
                answer,
                first_s=times[0] - self._began_s if times else None,
                prompt_tokens=metrics.prompt_tokens,
                cached_tokens=metrics.cached_tokens,
                new_tokens=metrics.new_tokens,
            )
        if done is None:
            return replace(answer, error=str(event.error))
        text, reason = done.text.strip(), done.finish_reason
        error = stopped(reason, done.new_tokens) if reason in ("cancelled", "deadline") else None
        if error is None and not text:
            error = "the answer is empty"
        return replace(answer, text=text, finish_reason=reason, error=error)

    def _unanswered(self, node: PlanNode, error: str | None) -> NodeAnswer:
        return NodeAnswer(
            node=node,
            text="",
            by=self._route(node).label,
            finish_reason=None,
            error=error,
            missing=self._board.missing(node),
            ready_s=self._ready_s.get(node.number, 0.0),
            first_s=None,
            ended_s=time.perf_counter() - self._began_s,
            prompt_tokens=0,
            cached_tokens=0,
            new_tokens=0,
        )
