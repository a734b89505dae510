"""Drafts go with their processes, whatever ended those, and never before."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from edgesdk.bundle.drafts import Draft, scratch_folder, sweep_drafts
from edgesdk.bundle.reader import open_bundle
from edgesdk.errors import BundleError

HOLD = (
    "import sys, time; from pathlib import Path; from edgesdk.bundle.drafts import Draft\n"
    "with Draft(Path(sys.argv[1]), 'target') as draft:\n"
    "    (draft.path / 'deep' / 'er').mkdir(parents=True)\n"
    "    (draft.path / 'deep' / 'er' / 'half').write_bytes(b'x' * 1000)\n"
    "    if len(sys.argv) > 2:\n"
    "        (Path(sys.argv[1]) / 'target').rename(draft.replaced)\n"
    "    print(draft.path, flush=True); time.sleep(60)\n"
)


@pytest.fixture
def holder(tmp_path):
    """Starts another process that holds a draft in the folder, and gives the process."""
    started = []

    def start(*more):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path), *more], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline().strip()
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_draft_is_gone_afterwards(tmp_path):
    with Draft(tmp_path) as draft:
        (draft.path / "file").write_text("x")
        assert os.listdir(tmp_path) == [draft.path.name]
    with pytest.raises(ZeroDivisionError), Draft(tmp_path) as draft:
        (draft.path / "folder").mkdir(exist_ok=bool(1 // 0))
    assert not os.listdir(tmp_path)


def test_a_bundle_whose_replacement_was_killed_half_way_is_opened(tmp_path, holder):
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "manifest.json").write_text("{}")
    killed = holder("replace")
    assert not (tmp_path / "target").exists()
    with pytest.raises(BundleError, match="is not a folder"):  # who replaces it is alive
        open_bundle(tmp_path / "target")
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    with pytest.raises(BundleError, match="has no schema_version"):
        open_bundle(tmp_path / "target")
    assert os.listdir(tmp_path) == ["target"]


def test_drafts_of_the_living_stay_and_those_of_the_dead_go(tmp_path, holder):
    killed, living = holder(), holder()
    with Draft(tmp_path) as mine, Draft(tmp_path):
        assert len(os.listdir(tmp_path)) == 4
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        sweep_drafts(tmp_path)
        assert len(os.listdir(tmp_path)) == 3
        assert mine.path.exists()
    assert living.poll() is None
    assert len(os.listdir(tmp_path)) == 1


def test_an_exchange_that_was_cut_short_is_put_back(tmp_path, holder):
    (tmp_path / "target").write_text("old")
    killed = holder("exchange")
    assert not (tmp_path / "target").exists()
    killed.kill()
    killed.wait()
    with Draft(tmp_path):
        assert (tmp_path / "target").read_text() == "old"
    assert os.listdir(tmp_path) == ["target"]


def test_what_came_instead_is_not_overwritten(tmp_path, holder):
    (tmp_path / "target").write_text("old")
    killed = holder("exchange")
    (tmp_path / "target").write_text("new")
    killed.kill()
    killed.wait()
    sweep_drafts(tmp_path)
    assert (tmp_path / "target").read_text() == "new"
    assert os.listdir(tmp_path) == ["target"]


def test_a_killed_sweep_is_ended_by_the_next(tmp_path, holder):
    killed = holder()
    killed.kill()
    killed.wait()
    (draft,) = tmp_path.iterdir()
    shutil.rmtree(draft / "deep")
    sweep_drafts(tmp_path)
    (tmp_path / ".edgesdk-0123456789ab.partial").mkdir()
    sweep_drafts(tmp_path)
    assert not os.listdir(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_nothing_but_drafts_is_swept(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "lock").write_text("")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / ".edgesdk-0123456789ab.partial").symlink_to(outside)
    (folder / ".edgesdk-0123456789ac.partial").write_text("a file")
    (folder / ".edgesdk-backup.partial").mkdir()
    named = folder / ".edgesdk-0123456789ad.partial"
    named.mkdir()
    (named / "thesis").write_text("years, and no lock")
    before = sorted(os.listdir(folder))
    sweep_drafts(folder)
    assert sorted(os.listdir(folder)) == before
    assert (named / "thesis").exists()
    assert (outside / "lock").exists()


@pytest.mark.skipif(os.name == "nt", reason="descriptors are not handed on there")
def test_a_child_that_holds_the_lock_keeps_the_draft(tmp_path):
    with Draft(tmp_path) as draft:
        command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(draft.lock,))
        os.close(draft.lock)
        draft._handle = None
        sweep_drafts(tmp_path)
        assert draft.path.exists()
        child.communicate()
        sweep_drafts(tmp_path)
        assert not draft.path.exists()


def test_without_locks_only_what_is_old_goes(tmp_path, monkeypatch):
    monkeypatch.setattr("edgesdk.bundle.drafts.try_lock", lambda handle: None)
    with Draft(tmp_path) as draft:
        sweep_drafts(tmp_path)
        assert draft.path.exists()
        os.utime(draft.path, (time.time() - 2 * 86400,) * 2)
        sweep_drafts(tmp_path)
        assert not draft.path.exists()


def test_scratch_folders_are_swept_too(tmp_path, monkeypatch, holder):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    killed = holder()
    killed.kill()
    killed.wait()
    with scratch_folder() as folder:
        assert folder.parent == tmp_path
        assert os.listdir(tmp_path) == [folder.name]
    assert not os.listdir(tmp_path)
