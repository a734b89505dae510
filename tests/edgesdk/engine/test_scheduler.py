"""Plans over integers: every promise of the scheduler, for whatever arrives and whatever cells there are."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesdk.engine.scheduler import Policy, Scheduler


class Machine:
    """Cells and branches without a model: runs plans and notes what happened."""

    def __init__(self, policy, capacity):
        self.scheduler = Scheduler(policy)
        self.capacity = capacity
        self.held = {}
        self.answers = {}  # tokens still to choose
        self.chosen = {}
        self.prompt = {}
        self.ended = []
        self.refused = []
        self.preemptions = 0
        self.recomputing = set()

    @property
    def free(self):
        return self.capacity - sum(self.held.values())

    def add(self, branch_id, prompt, answer, priority=0):
        self.scheduler.add(branch_id, prompt, priority=priority)
        self.prompt[branch_id], self.answers[branch_id], self.chosen[branch_id] = prompt, answer, 0

    def preempt(self, branch_id):
        self.preemptions += 1
        self.recomputing.add(branch_id)
        del self.held[branch_id]
        return self.free

    def step(self):
        before = self.free
        decoding = {b for b in self.complete() - self.recomputing if self.chosen[b] and self.answers[b]}
        plan = self.scheduler.plan(before, self.preempt)
        assert plan.tokens <= self.free
        for work in plan.work:
            assert work.count > 0
            assert work.start == self.held.get(work.branch_id, 0)
            self.held[work.branch_id] = work.start + work.count
        for branch_id in plan.refused:
            self.held.pop(branch_id, None)
            self.refused.append(branch_id)
        self.scheduler.ran(plan)
        for work in plan.work:
            b = work.branch_id
            if self.held[b] == self.prompt[b] + self.chosen[b]:
                self.recomputing.discard(b)
                self.answers[b] -= 1
                if self.answers[b]:
                    self.chosen[b] += 1
                    self.scheduler.grow(b, 1)
                else:
                    self.scheduler.remove(b)
                    del self.held[b]
                    self.ended.append(b)
        return plan, decoding

    def complete(self):
        """Branches with all but their newest token run."""
        return {b for b, n in self.held.items() if n == self.prompt[b] + self.chosen[b] - 1}


POLICIES = st.builds(
    lambda seats, more, idle, chunked, hybrid: Policy(
        seats + more, seats, seats + more + idle, chunked, hybrid, head_start_steps=4
    ),
    st.integers(1, 8),
    st.integers(0, 30),
    st.integers(0, 30),
    st.booleans(),
    st.booleans(),
)
ARRIVALS = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 60), st.integers(1, 20), st.integers(-2, 2)), max_size=25
)


@settings(max_examples=300, deadline=None)
@given(policy=POLICIES, arrivals=ARRIVALS, capacity=st.integers(80, 200))
def test_everything_ends_within_its_budget_and_no_decode_is_left_out(policy, arrivals, capacity):
    machine = Machine(policy, capacity)
    arrivals = sorted(arrivals)
    added = steps = 0
    while added < len(arrivals) or machine.scheduler.running or machine.scheduler.waiting:
        while added < len(arrivals) and arrivals[added][0] <= steps:
            _, prompt, answer, priority = arrivals[added]
            machine.add(added, prompt, answer, priority)
            added += 1
        plan, decoding = machine.step()
        steps += 1
        assert steps < 20_000, "something is stuck"
        if policy.hybrid:
            ran = {work.branch_id for work in plan.work}
            assert decoding <= ran | set(plan.preempted), "a decode was left out"
        if policy.chunked:
            assert plan.tokens <= (policy.budget if decoding else policy.idle_budget)
        assert machine.scheduler.running <= policy.seats
        assert sum(machine.held.values()) <= capacity
    # One branch alone always fits here, so none may have been refused.
    assert not machine.refused
    assert sorted(machine.ended) == list(range(len(arrivals)))


def test_decodes_come_first_and_prompts_fill_the_rest():
    machine = Machine(Policy(8, 4, 8), 100)
    machine.add(0, 3, 10)
    machine.add(1, 20, 10)
    plan, _ = machine.step()
    assert [(w.branch_id, w.count, w.kind) for w in plan.work] == [(0, 3, "prefill"), (1, 5, "prefill")]
    assert plan.admitted == (0, 1)
    plan, _ = machine.step()
    assert [(w.branch_id, w.start, w.count, w.kind) for w in plan.work] == [
        (0, 3, 1, "decode"),
        (1, 5, 7, "prefill"),
    ]


def test_without_chunks_a_prompt_runs_whole_and_without_hybrid_alone():
    for hybrid, expected in ((True, [(0, 1), (1, 50)]), (False, [(1, 50)])):
        machine = Machine(Policy(8, 4, 8, chunked=False, hybrid=hybrid), 200)
        machine.add(0, 3, 30)
        machine.step()
        machine.step()
        machine.add(1, 50, 5)
        plans = [machine.step()[0] for _ in range(2)]
        found = next(p for p in plans if any(w.branch_id == 1 for w in p.work))
        assert [(w.branch_id, w.count) for w in found.work] == expected


def test_the_idle_budget_holds_only_while_nothing_decodes():
    machine = Machine(Policy(4, 4, 32), 200)
    machine.add(0, 40, 5)
    assert machine.step()[0].tokens == 32
    assert machine.step()[0].tokens == 8
    machine.add(1, 40, 5)
    assert machine.step()[0].tokens == 4


def test_the_last_in_rank_is_preempted_and_computed_again():
    machine = Machine(Policy(8, 4, 8), 24)
    machine.add(0, 7, 12)
    machine.add(1, 7, 12)
    seen = []
    while len(machine.ended) < 2:
        plan, _ = machine.step()
        seen += plan.preempted
    assert seen
    assert set(seen) == {1}
    assert machine.ended == [0, 1]


def test_priority_goes_first_but_a_head_start_ends():
    def order(low_waits):
        machine = Machine(Policy(2, 1, 2, head_start_steps=10), 100)
        machine.add(0, 1, 1 + low_waits)  # takes the only seat
        machine.step()
        machine.add(1, 1, 1, priority=0)
        while 0 not in machine.ended:
            machine.step()
        machine.add(2, 1, 1, priority=1)
        while len(machine.ended) < 3:
            machine.step()
        return machine.ended

    assert order(3) == [0, 2, 1]
    assert order(30) == [0, 1, 2]


def test_nobody_starves_under_endless_important_arrivals():
    machine = Machine(Policy(4, 2, 4, head_start_steps=8), 60)
    machine.add(0, 10, 4, priority=-1)
    for step in range(1, 400):
        machine.add(step, 3, 2, priority=1)
        machine.step()
        if 0 in machine.ended:
            return
    pytest.fail("the unimportant branch never ended")


def test_a_fork_takes_a_seat_that_was_kept_for_it():
    scheduler = Scheduler(Policy(8, 3, 8))
    scheduler.add(0, 4, width=3)
    scheduler.add(1, 4)
    plan = scheduler.plan(100, lambda _: 100)
    assert plan.admitted == (0,)
    assert scheduler.candidates() == []
    scheduler.ran(plan)
    scheduler.fork(0, 2)
    scheduler.fork(0, 3)
    for branch in (0, 2, 3):
        scheduler.grow(branch, 1)
    assert scheduler.candidates() == []
    assert [w.branch_id for w in scheduler.plan(100, lambda _: 100).work] == [0, 2, 3]
    scheduler.remove(2)
    assert scheduler.candidates() == [1]


def test_reused_cells_are_not_run_again():
    scheduler = Scheduler(Policy(8, 2, 8))
    scheduler.add(0, 20)
    scheduler.reuse(0, 15)
    assert scheduler.cells_to_admit(0) == 5
    plan = scheduler.plan(100, lambda _: 100)
    assert [(w.start, w.count) for w in plan.work] == [(15, 5)]


def test_what_cannot_ever_run_is_refused():
    machine = Machine(Policy(8, 2, 8), 5)
    machine.add(0, 6, 1)
    assert machine.step()[0].refused == (0,)
    machine.add(1, 3, 9)
    while not machine.refused or machine.refused == [0]:
        machine.step()
    assert machine.refused == [0, 1]
    assert not machine.scheduler.running


def test_a_policy_without_room_is_refused():
    with pytest.raises(ValueError, match="ascend"):
        Scheduler(Policy(2, 3, 4))
