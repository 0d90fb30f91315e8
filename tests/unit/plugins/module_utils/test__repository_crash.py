# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A process that publishes is killed at any point: what is live is whole, and the next run finishes the work."""

from __future__ import annotations

import inspect
import itertools
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils import _repository, _tree
from ansible_collections.gpufleet.triton.plugins.module_utils._repository import Wanted
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.repository_lab import PYTHON, Files, Lab, content_of, wanted

MEMORY = "/dev/shm"
SEED = 20260131
RANDOM_KILLS = 20

ONE: Files = {"1/model.py": b"one" * 1000, "1/data": b"same" * 5000, "config.pbtxt": PYTHON.encode()}
TWO: Files = {"1/model.py": b"two" * 900, "1/data": b"same" * 5000, "2/model.py": b"new", "config.pbtxt": PYTHON.encode()}

# The functions in whose lines something changes on disk, and the kernel's side of them.
_STEPS = (
    "_publish _stage _fill _write _swap _exchange _outrun _touch_config _retire_old _retire _to_releases _prune _remove "
    "_roll_back _freshen _trash _discard _recover _recover_one _finish_swap _abandon"
)
WORK = {getattr(_repository.Repository, name).__code__ for name in _STEPS.split()} | {
    function.__code__ for _name, function in inspect.getmembers(_tree, inspect.isfunction) if function.__module__ == _tree.__name__
}


@pytest.fixture
def lab(tmp_path: Path) -> t.Iterator[Lab]:
    """In memory, as a kill is not a loss of power and hundreds of runs should not wait for a disk."""
    if not os.access(MEMORY, os.W_OK):
        yield Lab(tmp_path / "root")
        return
    folder = Path(tempfile.mkdtemp(dir=MEMORY))
    try:
        yield Lab(folder / "root")
    finally:
        shutil.rmtree(folder)


@pytest.fixture(params=["exchange", "two renames"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With and without a file system that can exchange. What stands in for the second is its answer, nothing else."""
    if request.param == "two renames":
        monkeypatch.setattr(_tree, "exchange", lambda _one, _other: False)
    return str(request.param)


def killed_at(step: int, work: t.Callable[[], object]) -> bool:
    """Do the work in a child that kills itself before a given line of it. Whether it got that far."""
    child = os.fork()
    if child == 0:
        try:
            count = 0

            def line(_frame: t.Any, event: str, _arg: t.Any) -> t.Any:
                nonlocal count
                if event == "line":
                    count += 1
                    if count == step:
                        os.kill(os.getpid(), signal.SIGKILL)
                return line

            sys.settrace(lambda frame, _event, _arg: line if frame.f_code in WORK else None)
            work()
            os._exit(0)
        finally:
            os._exit(70)
    _pid, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the child failed by itself"
    return False


def look(lab: Lab, way: str, *allowed: Files | None) -> None:
    """What is live is one of the allowed contents, whole. Between two renames there may be nothing."""
    path = lab.models / "m"
    if not path.exists():
        assert None in allowed or way == "two renames"
        return
    assert content_of(path) in [files for files in allowed if files is not None]


def recover(lab: Lab) -> None:
    """Whatever takes the lock next: here somebody who works on another model."""
    outcome = lab.apply(Wanted("other", "absent"))
    assert outcome.error is None


def left(lab: Lab) -> list[str]:
    """What nobody needs. An upload that no publication had begun to use is none of that: it goes on for a day."""
    names = [path.name for path in lab.staging.glob("inbox-*") if not (path / "publishing").exists()]
    for name in names:
        shutil.rmtree(lab.staging / name)
    return lab.debris()


def steps(stride: int) -> t.Iterator[int]:
    """Every so many lines of the work, to its end."""
    return itertools.count(1, stride)


def test_publishing_is_killed_anywhere(lab: Lab, way: str) -> None:
    lab.publish("m", ONE)
    before, after = ONE, TWO
    kills = 0
    for step in steps(4):
        want = wanted("m", after)
        inbox = lab.send(after.values(), lab.plan(want).lacks)
        if not killed_at(step, lambda want=want, inbox=inbox: lab.apply(want, inbox)):
            break
        kills += 1
        look(lab, way, before, after)
        recover(lab)
        assert lab.live("m") in (before, after)
        assert left(lab) == []
        assert lab.publish("m", after).error is None
        assert lab.live("m") == after
        for release in (lab.private / "releases" / "m").iterdir():
            content_of(release)
        before, after = after, before
    assert kills > 30
    assert left(lab) == []


def test_a_roll_back_is_killed_anywhere(lab: Lab, way: str) -> None:
    lab.publish("m", ONE)
    lab.publish("m", TWO)
    before, after = TWO, ONE
    kills = 0
    for step in steps(4):
        if not killed_at(step, lambda: lab.apply(Wanted("m", "rolled_back"))):
            break
        kills += 1
        look(lab, way, before, after)
        recover(lab)
        assert left(lab) == []
        live = lab.live("m")
        assert live in (before, after)
        releases = [content_of(path) for path in (lab.private / "releases" / "m").iterdir()]
        assert releases == [before if live == after else after], "nothing of either is lost"
        if live == after:
            before, after = after, before
    assert kills > 30


def test_the_first_publication_and_a_removal_are_killed_anywhere(lab: Lab) -> None:
    want = wanted("m", ONE)
    kills = 0
    for step in steps(7):
        inbox = lab.send(ONE.values(), lab.plan(want).lacks)
        published = killed_at(step, lambda inbox=inbox: lab.apply(want, inbox))
        look(lab, "exchange", None, ONE)
        assert lab.publish("m", ONE).error is None
        assert lab.live("m") == ONE
        removed = killed_at(step, lambda: lab.apply(Wanted("m", "absent")))
        look(lab, "exchange", None, ONE)
        assert lab.apply(Wanted("m", "absent")).error is None
        assert not (lab.models / "m").exists()
        assert len(lab.releases("m")) == 1
        assert left(lab) == []
        kills += published + removed
        if not published and not removed:
            break
    assert kills > 30


def test_a_recovery_is_killed_as_well(lab: Lab, way: str) -> None:
    """Kill a publication late, then the run that recovers from that, and so on."""
    lab.publish("m", ONE)
    before, after = ONE, TWO
    dice = random.Random(SEED)
    for _round in range(25):
        want = wanted("m", after)
        inbox = lab.send(after.values(), lab.plan(want).lacks)
        killed_at(dice.randrange(150, 400), lambda want=want, inbox=inbox: lab.apply(want, inbox))
        for _again in range(3):
            killed_at(dice.randrange(1, 60), lambda: recover(lab))
            look(lab, way, before, after)
        assert lab.publish("m", after).error is None
        assert lab.live("m") == after
        assert left(lab) == []
        before, after = after, before


def test_killed_at_any_time(lab: Lab) -> None:
    """As a kill really comes: at a moment that nothing in the code chose."""
    dice = random.Random(SEED)
    lab.publish("m", ONE)
    for _round in range(RANDOM_KILLS):
        child = os.fork()
        if child == 0:
            try:
                for files in itertools.cycle([TWO, ONE]):
                    lab.publish("m", files)
                    lab.apply(Wanted("m", "rolled_back"))
            finally:
                os._exit(70)
        select.select([], [], [], dice.uniform(0.01, 0.08))
        os.kill(child, signal.SIGKILL)
        _pid, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "the child failed by itself"
        look(lab, "exchange", ONE, TWO)
    for files in (ONE, TWO):
        assert lab.publish("m", files).error is None
        assert lab.live("m") == files
    assert left(lab) == []
