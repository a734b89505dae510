"""A few kills and a few limits: the benchmark has hundreds."""

import pytest


@pytest.fixture(scope="module")
def faults(benchmark_module):
    return benchmark_module("faults")


@pytest.fixture(scope="module")
def bench(faults, tmp_path_factory):
    return faults.Bench(tmp_path_factory.mktemp("faults"), str(faults.TINY), None, seed=3)


@pytest.mark.parametrize("job", ["save", "fetch"])
def test_what_a_kill_leaves_is_not_believed_and_goes(faults, bench, job):
    row = faults.Row(job, kills=1)  # odd ones come before an operation on files
    bench.kill(job, row)
    assert (row.kills, row.kills_in_files + row.ended_before) == (2, 1)
    assert not row.complaints


@pytest.mark.parametrize(("job", "before_the_end"), [("fetch", 1), ("cache", 2), ("cache", 5)])
def test_what_is_left_beside_a_finished_file_goes_too(faults, bench, job, before_the_end):
    row = faults.Row(job)
    reference, names = bench.reference(job)
    home = bench.new_home(job)
    killed = bench.run(job, home, die_before=reference.document["operations"] - before_the_end)
    assert killed.code == -9
    assert set(faults.files_of(home)) - set(names)
    bench._look(job, home, row, "killed near the end", names)
    assert not row.complaints


@pytest.mark.parametrize(("job", "room", "finished"), [("convert", 20_000, 0), ("cache", 20_000, 1)])
def test_files_that_may_not_grow(faults, bench, job, room, finished):
    row = faults.Row(job)
    bench.fill(job, row, None, room)
    assert (row.disks, row.finished, row.one_line) == (1, finished, 1 - finished)
    assert not row.complaints


def test_what_is_left_is_seen(faults, bench):
    """The frame itself: a file that a job would not leave, and an answer that differs, are complaints."""
    row = faults.Row("save")
    _, names = bench.reference("save")
    home = bench.new_home("save")
    (home / "tmp" / "left").write_text("x")
    bench._look("save", home, row, "nothing", names)
    (home / "tmp" / "left").unlink()
    (home / "out" / "session").write_text("half a session")
    bench._look("save", home, row, "nothing", names)
    assert ["tmp/left" in complaint for complaint in row.complaints] == [True, False]
    assert "is no snapshot of edgesdk" in row.complaints[1]
