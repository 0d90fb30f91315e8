# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What file systems, other people and other runs do to a publication: nothing is lost, and nothing wrong is called right."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils import _repository, _tree
from ansible_collections.gpufleet.triton.plugins.module_utils._manifest import EXCLUDE, HashCache, RepositoryError
from ansible_collections.gpufleet.triton.plugins.module_utils._repository import Wanted
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.repository_lab import (
    PYTHON,
    Files,
    Lab,
    content_of,
    digest,
    sha256,
    times,
    wanted,
)

ONE: Files = {"1/model.py": b"one", "1/weights": b"w" * 5000, "config.pbtxt": PYTHON.encode()}
TWO: Files = {**ONE, "1/model.py": b"two"}
DAY = 86400


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "root")


def bind(source: Path, target: Path) -> None:
    subprocess.run(["mount", "--bind", str(source), str(target)], check=True)


def unmount(target: Path) -> None:
    subprocess.run(["umount", "--lazy", str(target)], check=True)


def killed_between_the_renames(lab: Lab) -> Path:
    """A publication of TWO over ONE that ends after the old content left, where a file system cannot exchange."""
    lab.publish("m", ONE)
    want = wanted("m", TWO)
    inbox = lab.send(TWO.values(), lab.plan(want).lacks)
    child = os.fork()
    if child == 0:
        rename = os.rename

        def until_the_second(source: str, target: str) -> None:
            if target == str(lab.models / "m"):
                os._exit(9)
            rename(source, target)

        _tree.exchange = lambda _one, _other: False  # type: ignore[assignment]
        os.rename = until_the_second  # type: ignore[assignment]
        lab.apply(want, inbox)
        os._exit(70)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert not (lab.models / "m").exists()
    (staged,) = lab.staging.glob("pub-*")
    return staged


# --- recovery ----------------------------------------------------------------------------------------------------------


def test_a_marker_that_cannot_be_read_now_costs_no_content(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    killed_between_the_renames(lab)

    def stale(path: t.Any, *args: t.Any, **keys: t.Any) -> t.Any:
        if str(path).endswith("marker.json"):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)
        return open(path, *args, **keys)

    monkeypatch.setattr(_repository, "open", stale, raising=False)
    with pytest.raises(RepositoryError, match="Cannot clean up"):
        lab.apply(Wanted("other", "absent"))
    monkeypatch.undo()
    assert lab.apply(Wanted("other", "absent")).error is None
    assert (lab.live("m"), lab.releases("m"), lab.debris()) == (TWO, [digest(ONE)], [])


@pytest.mark.parametrize("text", [None, "", "{}", '{"model": "m"}'])
def test_a_marker_that_says_nothing_costs_no_content(lab: Lab, text: str | None) -> None:
    staged = killed_between_the_renames(lab)
    marker = staged / "marker.json"
    before = marker.read_text()
    marker.unlink()
    if text is not None:
        marker.write_text(text)
    with pytest.raises(RepositoryError, match="move away what you need, and remove it"):
        lab.apply(Wanted("other", "absent"))
    assert content_of(staged / "new") == TWO and content_of(staged / "old") == ONE
    marker.write_text(before)
    assert lab.apply(Wanted("other", "absent")).error is None
    assert lab.live("m") == TWO


def test_rubbish_that_cannot_be_removed_stops_nobody(lab: Lab, tmp_path: Path) -> None:
    lab.publish("m", ONE)
    busy = lab.staging / "trash-0000/busy"
    busy.mkdir(parents=True)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_text("precious")
    bind(tmp_path / "precious", busy)
    try:
        assert lab.publish("m", TWO).action == "published"
    finally:
        unmount(busy)
    assert (tmp_path / "precious/file").read_text() == "precious"
    assert lab.live("m") == TWO
    assert lab.publish("m", TWO).action == "none"
    assert lab.debris() == []


def test_what_an_abandoned_upload_left_goes_though_nothing_is_published(lab: Lab) -> None:
    lab.publish("m", ONE)
    old = Path(lab.send([b"abandoned"], [sha256(b"abandoned")]))
    young = Path(lab.send([b"under way"], [sha256(b"under way")]))
    (lab.staging / "downloads").mkdir(exist_ok=True)
    part = lab.staging / "downloads/x.part"
    part.write_bytes(b"half")
    for path in (old, part):
        os.utime(path, (time.time() - 2 * DAY,) * 2)
    assert lab.plan(wanted("m", ONE)).action == "none"
    assert (old.exists(), part.exists(), young.exists()) == (False, False, True)


def test_a_publication_that_failed_does_not_make_triton_reload(lab: Lab) -> None:
    lab.publish("m", ONE)
    before = times(lab.models / "m")
    want = wanted("m", TWO)
    inbox = lab.send(TWO.values(), lab.plan(want).lacks)
    Path(inbox, sha256(b"two")).write_bytes(b"owt")
    outcome = lab.apply(want, inbox)
    assert outcome.error is not None and "changed on its way" in str(outcome.error)
    assert (lab.live("m"), times(lab.models / "m"), lab.debris()) == (ONE, before, [])


def test_a_recovery_keeps_as_many_releases_as_the_run_that_made_them(lab: Lab) -> None:
    killed_between_the_renames(lab)
    assert lab.apply(Wanted("other", "absent"), keep=0).error is None
    assert lab.releases("m") == [digest(ONE)]


# --- content -----------------------------------------------------------------------------------------------------------


class HostFolder:
    """A folder of this host as a source."""

    def __init__(self, folder: Path, during: t.Callable[[], object] = lambda: None) -> None:
        self.remote = {"archive": None, "folder": str(folder), "rclone": None, "files": {}, "exclude": list(EXCLUDE)}
        self.folder = folder
        self.during = during
        self.version = "1"

    def populate(self, remote: dict[str, t.Any], folder: str, _downloads: str) -> str:
        if remote["rclone"]:
            shutil.copytree(self.folder, folder)
        self.during()
        return str(self.folder) if remote["folder"] else folder

    def identity_of_rclone(self, _rclone: dict[str, t.Any]) -> str:
        return self.version

    def publish(self, lab: Lab) -> _repository.Outcome:
        plan = lab.plan(Wanted("m", identity="i", remote=self.remote), sources=self)
        if not plan.needs_fetch:
            return plan
        ((got,), failed) = lab.repository(sources=self).fetch([{"name": "m", "remote": self.remote}])
        assert failed == []
        want = Wanted("m", files=got["files"], texts=got["texts"], folder=got["folder"], identity="i", host_identity=got["host_identity"])
        return lab.apply(want)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for path, content in ONE.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
        os.utime(folder / path, (time.time() - DAY,) * 2)
    return folder


@pytest.mark.parametrize("size", [5000, 6000])
def test_a_source_that_changes_before_it_is_copied_is_not_published_under_its_old_digest(
    lab: Lab, source: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = _tree.clone

    def after_a_while(path: str, target: str, mode: int) -> os.stat_result:
        if path.endswith("weights"):
            Path(path).write_bytes(b"X" * size)
        return clone(path, target, mode)

    # As if it had been known for long: a file that is too young is read again in any case.
    monkeypatch.setattr("ansible_collections.gpufleet.triton.plugins.module_utils._manifest._RACY", -1)
    monkeypatch.setattr(_tree, "clone", after_a_while)
    outcome = HostFolder(source).publish(lab)
    assert outcome.error is not None and "while it was read from" in str(outcome.error)
    assert not (lab.models / "m").exists() and lab.debris() == []
    monkeypatch.setattr(_tree, "clone", clone)
    assert HostFolder(source).publish(lab).action == "published"
    assert lab.live("m")["1/weights"] == b"X" * size


def test_a_remote_that_changes_while_it_is_copied_is_looked_at_again(lab: Lab, source: Path) -> None:
    remote = HostFolder(source)
    remote.remote.update(folder=None, rclone={"remote": "s3:m"})

    def upload() -> None:
        (source / "1/model.py").write_bytes(b"newer")
        remote.version = "2"

    remote.during = upload
    assert remote.publish(lab).action == "published"
    assert lab.live("m") == ONE
    remote.during = lambda: None
    assert remote.publish(lab).action == "published"
    assert lab.live("m")["1/model.py"] == b"newer"
    assert remote.publish(lab).action == "none"


def test_a_configuration_that_is_no_text_is_refused_by_name(lab: Lab, source: Path) -> None:
    (source / "config.pbtxt").write_bytes(b'backend: "python"\n# caf\xe9\n')
    answers, failed = lab.repository(sources=HostFolder(source)).fetch([{"name": "m", "remote": HostFolder(source).remote}])
    assert answers == []
    assert "config.pbtxt:2: it is not UTF-8" in str(failed[0].error)


def test_content_that_moves_from_one_model_to_another(lab: Lab) -> None:
    weights = b"w" * 5000
    first: Files = {"1/model.py": weights, "config.pbtxt": PYTHON.encode()}
    second: Files = {"1/model.py": b"small", "config.pbtxt": PYTHON.encode()}
    lab.publish("a", first)
    wants = [wanted("a", second), wanted("b", first)]
    plans = lab.repository(keep=0).plan(wants)
    assert [plan.lacks for plan in plans] == [[sha256(b"small")], []]
    outcomes = lab.repository(keep=0).apply(wants, lab.send([b"small"], plans[0].lacks))
    assert [(outcome.action, outcome.error) for outcome in outcomes] == [("published", None)] * 2
    assert (lab.live("a"), lab.live("b"), lab.releases("a"), lab.debris()) == (second, first, [], [])


def test_what_was_made_by_hand_is_kept_though_no_release_is(lab: Lab) -> None:
    (lab.models / "m/1").mkdir(parents=True)
    (lab.models / "m/1/model.py").write_bytes(b"by hand")
    assert lab.publish("m", ONE, keep=0).action == "published"
    (release,) = (lab.private / "releases/m").iterdir()
    assert (release / "1/model.py").read_bytes() == b"by hand"
    # And goes back to be what it was: it has no digest, and is known by its content.
    outcome = lab.apply(Wanted("m", "rolled_back", digest=f"sha256:{release.name}"))
    assert (outcome.action, outcome.digest) == ("rolled_back", None)
    assert (lab.models / "m/1/model.py").read_bytes() == b"by hand"
    again = lab.apply(Wanted("m", "rolled_back", digest=f"sha256:{release.name}"))
    assert (again.action, again.error) == ("none", None)


def test_a_damaged_model_is_not_called_rolled_back(lab: Lab) -> None:
    lab.publish("m", ONE)
    (lab.models / "m/1/model.py").write_bytes(b"damaged")
    outcome = lab.plan(Wanted("m", "rolled_back", digest=digest(ONE)))
    assert outcome.error is not None and "it is live, and damaged" in str(outcome.error)


def test_the_release_before_is_kept_though_the_clock_was_set_back(lab: Lab) -> None:
    for files in (ONE, TWO):
        lab.publish("m", files, keep=1)
    (release,) = (lab.private / "releases/m").iterdir()
    os.utime(release, (time.time() + DAY,) * 2)
    three: Files = {**ONE, "1/model.py": b"three"}
    lab.publish("m", three, keep=1)
    assert (lab.live("m"), lab.releases("m")) == (three, [digest(TWO)])


# --- the place ---------------------------------------------------------------------------------------------------------


def test_a_mount_in_a_model_is_seen_through_a_link(lab: Lab, tmp_path: Path) -> None:
    (lab.root / "data").rename(tmp_path / "elsewhere")
    (lab.root / "data").symlink_to(tmp_path / "elsewhere")
    lab.publish("m", {**ONE, "cache/": b""})
    assert lab.debris() == [], "what was sent is known for its own, and gone"
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("precious")
    bind(precious, tmp_path / "elsewhere/models/m/cache")
    try:
        outcome = lab.publish("m", TWO, keep=0)
        assert outcome.error is not None and "something is mounted at" in str(outcome.error)
    finally:
        unmount(tmp_path / "elsewhere/models/m/cache")
    assert (precious / "file").read_text() == "precious"


def test_a_file_server_that_gives_no_folder_away(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, *_args: t.Any, **_keys: t.Any) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)

    lab.publish("m", ONE)
    for path in (lab.root, *lab.root.parents):
        path.chmod(path.stat().st_mode | 1)
    monkeypatch.setattr(os, "chown", refuse)
    assert lab.repository().open_inbox(4321) is None
    assert lab.debris() == []


def test_a_lock_that_cannot_be_opened_is_explained(lab: Lab) -> None:
    lab.publish("m", ONE)
    (lab.private / "lock").unlink()
    (lab.private / "lock").mkdir()
    with pytest.raises(RepositoryError, match="Cannot open the lock"):
        lab.apply(wanted("m", TWO))


def test_a_model_that_is_swapped_while_it_is_looked_at(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.publish("m", ONE)
    repository = lab.repository()
    drift = repository._drift
    moved: list[str] = []

    def while_another_publishes(folder: str, *args: t.Any) -> t.Any:
        if not moved:
            moved.append(folder)
            os.rename(folder, f"{lab.root}/moved")
            shutil.copytree(f"{lab.root}/moved", f"{lab.root}/copy")
            try:
                return drift(folder, *args)
            finally:
                os.rename(f"{lab.root}/copy", folder)
        return drift(folder, *args)

    monkeypatch.setattr(repository, "_drift", while_another_publishes)
    (plan,) = repository.plan([wanted("m", ONE)])
    assert moved and plan.error is None


def test_two_that_learn_at_once_forget_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "hashes.json")
    files = [tmp_path / name for name in ("a", "b")]
    caches = [HashCache(path), HashCache(path)]
    for file, cache in zip(files, caches):
        file.write_text(file.name)
        cache.remember(str(file), file.stat(), sha256(file.read_bytes()))
        cache.save()
    assert all(HashCache(path).knows(str(file), file.stat()) for file in files)
