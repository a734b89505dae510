import pytest

from benchmarks import sweep_simulation as simulation
from edgesdk_converters.sweeps.drive import MOST_TRIES, drive
from edgesdk_converters.sweeps.expand_plan import SweepCell
from edgesdk_converters.sweeps.fleet import Ended
from edgesdk_converters.sweeps.job import Job, Outcome

BUNDLE = Job("b" * 64, "convert", "convert it", {})
PART = Job("c" * 64, "score", "part", {}, (BUNDLE.key,))
WHOLE = Job("d" * 64, "evaluate", "whole", {}, (BUNDLE.key, PART.key))


def cell(*jobs, task="t", error=None):
    return SweepCell("s", "plain", "f32", "litert", "here", task, jobs, "", error)


class Store(dict):
    def read_outcome(self, key):
        return self.get(key)

    def write_outcome(self, outcome):
        self[outcome.key] = outcome


class Fleet:
    """Runs what it gets at once, by a function from a job to an outcome or to why there is none."""

    slots = 2

    def __init__(self, store, do, refuse=lambda job: None):
        self.store, self.do, self.check = store, do, refuse
        self.queue, self.ran = [], []

    def submit(self, job):
        assert all(need in self.store for need in job.needs), "before what it needs"
        assert job.key not in self.store, "done twice"
        self.queue.append(job)

    def wait(self):
        job = self.queue.pop(0)
        self.ran.append(job.label)
        found = self.do(job)
        if isinstance(found, Ended):
            return [found]
        self.store.write_outcome(found)
        return [Ended(job)]

    def close(self):
        return


def done(job):
    return Outcome(job.key, "done", figures={"label": job.label})


def run(cells, do=done, store=None, **options):
    store = Store() if store is None else store
    fleet, rows = Fleet(store, do, **options), []
    drive(cells, fleet, store, rows.append)
    return rows, fleet


def test_jobs_run_behind_what_they_need_and_once():
    rows, fleet = run([cell(BUNDLE), cell(BUNDLE, PART, WHOLE), cell(BUNDLE, PART, WHOLE, task="again")])
    assert fleet.ran == ["convert it", "part", "whole"]
    assert [row.outcome.status for row in rows] == ["done"] * 3
    assert [row.tries for row in rows] == [1, 1, 1]


def test_what_was_done_before_is_not_done_again():
    store = Store({BUNDLE.key: done(BUNDLE), PART.key: done(PART)})
    rows, fleet = run([cell(BUNDLE), cell(BUNDLE, PART, WHOLE)], store=store)
    assert fleet.ran == ["whole"]
    assert [row.tries for row in rows] == [0, 1]


def test_a_whole_that_is_done_needs_nothing():
    _, fleet = run([cell(BUNDLE, PART, WHOLE)], store=Store({WHOLE.key: done(WHOLE)}))
    assert fleet.ran == []


def test_a_failure_is_the_row_of_all_that_wait_for_it():
    def fail(job):
        return Outcome(job.key, "failed", "no room") if job is PART else done(job)

    rows, fleet = run([cell(BUNDLE, PART, WHOLE), cell(BUNDLE)], fail)
    assert fleet.ran == ["convert it", "part"]
    found = {row.cell.jobs[-1].label: row.outcome for row in rows}
    assert found["whole"] == Outcome(WHOLE.key, "failed", "part failed: no room")
    assert found["convert it"].status == "done"


def test_a_failure_of_before_is_the_row_too():
    failed = Outcome(BUNDLE.key, "failed", "no room")
    rows, fleet = run([cell(BUNDLE), cell(BUNDLE, PART, WHOLE)], store=Store({BUNDLE.key: failed}))
    assert fleet.ran == []
    assert [row.outcome.error for row in rows] == ["no room", "convert it failed: no room"]


def test_a_job_whose_worker_dies_is_tried_again():
    deaths = iter([True, True, False])

    def die(job):
        return Ended(job, "its worker died", again=True) if job is BUNDLE and next(deaths) else done(job)

    rows, _ = run([cell(BUNDLE)], die)
    assert (rows[0].outcome.status, rows[0].tries) == ("done", MOST_TRIES)


@pytest.mark.parametrize(
    ("again", "tries", "error"),
    [(True, MOST_TRIES, "signal 11 (3 tries)"), (False, 1, "signal 11")],
)
def test_what_never_ends_well_is_a_row(again, tries, error):
    rows, fleet = run([cell(BUNDLE)], lambda job: Ended(job, "signal 11", again=again))
    assert len(fleet.ran) == tries
    assert rows[0].outcome == Outcome(BUNDLE.key, "failed", error)
    assert fleet.store[BUNDLE.key].error == error


def test_what_no_worker_can_run_is_a_row():
    rows, fleet = run([cell(BUNDLE)], refuse=lambda job: "no worker offers 'phone'")
    assert fleet.ran == []
    assert rows[0].outcome.error == "no worker offers 'phone'"


def test_a_cell_without_jobs_is_a_row():
    rows, _ = run([cell(error="it cannot be read")])
    assert rows[0].outcome.error == "it cannot be read"


def test_a_large_sweep_is_near_its_bound_and_small_in_memory():
    """Stragglers and dying workers; the figures of benchmarks/sweep_simulation.py, by the seed."""
    weather = simulation.Weather(stragglers=0.01, deaths=0.02, seed=0)
    small = simulation.simulate(2500, 40, weather)
    large = simulation.simulate(10_000, 40, weather)
    assert large["done"] + large["failed"] == 10_000
    assert large["over_bound"] < 1.1
    assert small["done"] + small["failed"] == 2500
    assert large["driver_peak_mb"] < 1.3 * small["driver_peak_mb"] < 10
    calm = simulation.simulate(2500, 40, simulation.Weather(0.0, 0.0, 1))
    assert calm["over_bound"] < 1.05
    assert (calm["done"], calm["failed"]) == (2500, 0)
