"""The drafts of a step: asked for all answers at once, let in as far as the step's own work leaves room.

It knows what a plan leaves and what became of drafts; choosing and keeping are the batch's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgesdk.decoding.ahead import Ahead
from edgesdk.decoding.draft import Draft, DraftRequest, JudgedDraft, JudgedStep
from edgesdk.decoding.drafting import Drafting
from edgesdk.engine.admission import Admission
from edgesdk.engine.branch import Branch
from edgesdk.engine.step_plan import StepPlan
from edgesdk.kv.step_runner import StepRunner


class StepDrafts:
    """Drafts for the answers of one batch."""

    def __init__(self, runner: StepRunner, admission: Admission, drafting: Drafting | None) -> None:
        """Starts without figures.

        Args:
            runner: runs the steps.
            admission: lets drafts into a plan.
            drafting: proposes; None for no drafts.
        """
        self._runner = runner
        self._admission = admission
        self._drafting = drafting
        self.drafted = 0
        """Drafted tokens that steps have judged."""
        self.kept = 0
        """Those of them that answers have and needed no step for."""

    @property
    def seconds(self) -> float:
        """Time in the drafter."""
        return 0.0 if self._drafting is None else self._drafting.draft_s

    def propose(
        self, plan: StepPlan, branches: Sequence[Branch], wanted: Sequence[bool]
    ) -> list[Draft | None]:
        """A draft or none for each branch of a plan; none for a prompt.

        Args:
            plan: of the step.
            branches: of its work, in order.
            wanted: whether the next token of each is chosen after the step.
        """
        drafts: list[Draft | None] = [None] * len(branches)
        drafting = self._drafting
        if drafting is None or not drafting.on:
            return drafts
        most = min(plan.spare, self._runner.most_drafts(plan.tokens, sum(wanted)))
        places, asked = [], []
        for place, (branch, work, wants) in enumerate(zip(branches, plan.work, wanted, strict=True)):
            request = self._request(branch, most, work.count) if wants and work.kind == "decode" else None
            if request is not None:
                places.append(place)
                asked.append(request)
        if not asked:
            return drafts
        for place, request, draft in zip(places, asked, drafting.propose(asked), strict=True):
            chooser = branches[place].chooser
            if draft is not None and chooser is not None:
                drafts[place] = chooser.fit_draft(draft, request.most, request.deepest)
        sizes = {
            work.branch_id: len(draft.tokens)
            for work, draft in zip(plan.work, drafts, strict=True)
            if draft is not None
        }
        if not sizes:
            return drafts
        shared = self._admission.share_drafts(plan, sizes, most)
        return [
            None if draft is None else draft.cut(work.drafts)
            for work, draft in zip(shared.work, drafts, strict=True)
        ]

    def learn(self, plan: StepPlan, model_s: float, judged: Sequence[JudgedDraft]) -> None:
        """Counts what became of drafts, and tells the drafter.

        Args:
            plan: of the step.
            model_s: what it took.
            judged: its drafts.
        """
        self.drafted += sum(draft.drafted for draft in judged)
        self.kept += sum(draft.kept for draft in judged)
        if self._drafting is not None:
            decoding = [work.count for work in plan.work if work.kind == "decode"]
            decoded, forced = len(decoding), sum(decoding) - len(decoding)
            prefilled = sum(work.count for work in plan.work if work.kind == "prefill")
            self._drafting.learn(JudgedStep(decoded, prefilled, model_s, tuple(judged), forced))

    def note_state(
        self,
        branch: Branch,
        hidden: NDArray[np.float32] | None,
        kept: Sequence[int],
        ahead: Ahead | None = None,
    ) -> None:
        """Notes where a draft of a branch may go on from, before its new tokens are added.

        Args:
            branch: of the step.
            hidden: (1 + d, E) what the head read after its last token and each of its d drafts; None where
                the backend does not give it.
            kept: drafts that are kept.
            ahead: what the streams behind the last of them say.
        """
        if self._drafting is not None and (hidden is not None or ahead is not None or branch.ahead):
            branch.state = None if hidden is None else hidden[kept[-1] + 1 if kept else 0].copy()
            branch.ahead = ahead
            branch.seen = branch.known + len(kept)

    def forget(self, branch: Branch) -> None:
        """A branch has ended."""
        if self._drafting is not None:
            self._drafting.forget(branch.draft_key)

    def _request(self, branch: Branch, most: int, pending: int) -> DraftRequest | None:
        # The last token of an answer is never run, so nothing is drafted in its place.
        deepest = min(branch.answer.left - 1, self._runner.context - branch.known, most)
        if deepest < 1 or branch.chooser is None:
            return None
        return DraftRequest(
            branch.draft_key,
            branch.tokens,
            most,
            deepest,
            len(branch.request.asked.prompt),
            branch.chooser.draft_sampling,
            branch.state if branch.known - branch.seen == pending else None,
            branch.chooser.draft_grammar,
            pending,
            branch.ahead if branch.known - branch.seen == pending else None,
        )
