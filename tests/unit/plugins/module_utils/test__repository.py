# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import threading
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils import _repository, _tree
from ansible_collections.gpufleet.triton.plugins.module_utils._manifest import EXCLUDE, RepositoryError
from ansible_collections.gpufleet.triton.plugins.module_utils._repository import Outcome, Wanted
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.repository_lab import (
    PYTHON,
    Files,
    Lab,
    content_of,
    digest,
    rows_of,
    sha256,
    times,
    wanted,
)

ONE: Files = {"1/model.py": b"one", "1/weights": b"w" * 5000, "config.pbtxt": PYTHON.encode()}
TWO: Files = {**ONE, "1/model.py": b"two", "2/model.py": b"another"}
THREE: Files = {"3/model.py": b"three", "config.pbtxt": PYTHON.encode()}
DAY = 86400


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "root")


def error_of(outcome: Outcome) -> str:
    assert outcome.error is not None, f"{outcome.action}: {outcome.reasons}"
    assert outcome.action == "none"
    assert outcome.problems[0]["model"] == outcome.name
    return str(outcome.error)


@contextlib.contextmanager
def mount(*args: str) -> t.Iterator[None]:
    subprocess.run(["mount", *args], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", args[-1]], check=True)


def everything(folder: Path) -> dict[str, tuple[int, int, int]]:
    return {str(path): (path.lstat().st_ino, path.lstat().st_mode, path.lstat().st_mtime_ns) for path in folder.rglob("*")}


# --- publishing --------------------------------------------------------------------------------------------------------


def test_publish(lab: Lab) -> None:
    outcome = lab.publish("m", ONE)
    assert outcome.as_row() == {
        "name": "m",
        "action": "published",
        "digest": digest(ONE),
        "previous_digest": None,
        "versions": [1],
        "steps": [],
        "bytes": sum(map(len, ONE.values())),
        "files": 3,
        "changes": {"added": sorted(ONE), "changed": [], "removed": []},
        "reasons": ["it is not in the repository"],
    }
    assert lab.live("m") == ONE
    assert lab.debris() == []


def test_nothing_to_do_reads_no_file(lab: Lab) -> None:
    lab.publish("m", ONE)
    before = everything(lab.root)
    repository = lab.repository()
    outcome = repository.plan([wanted("m", ONE)])[0]
    assert (outcome.action, outcome.lacks, outcome.digest) == ("none", [], digest(ONE))
    assert (repository.cache.read_files, everything(lab.root)) == (0, before)


def test_only_what_changed_is_lacking_and_the_rest_is_cloned(lab: Lab) -> None:
    lab.publish("m", ONE)
    old = (lab.models / "m/1/weights").stat()
    plan = lab.plan(wanted("m", TWO))
    assert sorted(plan.lacks) == sorted([sha256(b"two"), sha256(b"another")])
    outcome = lab.publish("m", TWO)
    assert outcome.changes == {"added": ["2/model.py"], "changed": ["1/model.py"], "removed": []}
    assert (outcome.previous_digest, outcome.digest) == (digest(ONE), digest(TWO))
    new = (lab.models / "m/1/weights").stat()
    assert new.st_ino != old.st_ino
    # A link that is made or removed changes the time of the file that is served.
    assert new.st_nlink == 1
    kept = lab.private / "releases/m" / digest(ONE)[7:]
    assert (kept / "1/weights").stat().st_ctime_ns == old.st_ctime_ns
    assert content_of(kept) == ONE


def test_a_model_without_a_configuration_gets_the_digest_alone(lab: Lab) -> None:
    files = {"1/model.onnx": b"x"}
    lab.publish("m", files)
    assert lab.live("m") == files
    assert (lab.models / "m/config.pbtxt").read_text().count("gpufleet.digest") == 1
    assert lab.publish("m", files).action == "none"


def test_all_kinds_of_content(lab: Lab) -> None:
    files: Files = {
        "1/": b"",
        "2/deep/": b"",
        "2/model.plan": b"",
        "config.pbtxt": b'platform: "tensorrt_plan"',
        "configs/small.pbtxt": b"max_batch_size: 1\n",
        "configs/notes.txt": b"no configuration",
        "tools/run me.sh": b"#!/bin/sh\n",
        "labels/ünï.txt": b"a\n",
    }
    outcome = lab.publish("m", files, executables=["tools/run me.sh"])
    assert outcome.error is None
    assert lab.live("m") == files
    assert os.access(lab.models / "m/tools/run me.sh", os.X_OK)
    assert lab.publish("m", files, executables=["tools/run me.sh"]).action == "none"
    assert lab.publish("m", files).changes["changed"] == ["tools/run me.sh"]


def test_holes_stay_holes(lab: Lab) -> None:
    folder = lab.root / "source"
    (folder / "1").mkdir(parents=True)
    with open(folder / "1/weights", "wb") as file:
        file.truncate(64 << 20)
        file.seek(32 << 20)
        file.write(b"in the middle")
    content = (folder / "1/weights").read_bytes()
    want = Wanted("m", files=[["1/weights", len(content), sha256(content), False]], folder=str(folder))
    assert lab.apply(want).error is None
    live = lab.models / "m/1/weights"
    assert live.read_bytes() == content
    assert live.stat().st_blocks * 512 < 1 << 20


def test_content_of_another_model_is_not_asked_for(lab: Lab) -> None:
    lab.publish("m", ONE)
    plan = lab.plan(wanted("other", ONE))
    assert plan.lacks == []
    assert lab.apply(wanted("other", ONE)).error is None
    assert lab.live("other") == ONE
    shutil.rmtree(lab.models / "m")
    lab.publish("third", TWO)
    assert lab.live("third") == TWO


def test_the_same_content_twice(lab: Lab) -> None:
    files: Files = {"1/a": b"same" * 999, "1/b": b"same" * 999, "2/a": b"same" * 999}
    wants = [wanted("m", files), wanted("n", files)]
    inbox = lab.send(files.values(), lab.plan(wants[0]).lacks)
    outcomes = lab.repository().apply(wants, inbox)
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert (lab.live("m"), lab.live("n"), lab.debris()) == (files, files, [])


def test_small_files_come_in_bundles(lab: Lab, tmp_path: Path) -> None:
    inbox = tmp_path / "elsewhere"
    inbox.mkdir()
    contents = [ONE["1/model.py"], ONE["1/weights"]]
    (inbox / "bundle-0").write_bytes(b"".join(contents))
    (inbox / "bundle-0.json").write_text(json.dumps([[sha256(content), len(content)] for content in contents]))
    assert lab.apply(wanted("m", ONE), str(inbox)).error is None
    assert (lab.live("m"), lab.debris()) == (ONE, [])
    assert sorted(path.name for path in inbox.iterdir()) == ["bundle-0", "bundle-0.json"], "not ours to remove"


def test_a_damaged_bundle(lab: Lab) -> None:
    inbox = Path(lab.send([], []))
    (inbox / "bundle-0").write_bytes(b"onE")
    (inbox / "bundle-0.json").write_text(json.dumps([[sha256(b"one"), 3]]))
    with pytest.raises(RepositoryError, match="arrived damaged"):
        lab.apply(wanted("m", ONE), str(inbox))
    assert lab.debris() == []


def test_what_arrives_is_read_before_it_is_published(lab: Lab) -> None:
    lab.publish("m", ONE)
    want = wanted("m", TWO)
    inbox = Path(lab.send(TWO.values(), lab.plan(want).lacks))
    (inbox / sha256(b"another")).write_bytes(b"notheRR")
    error = error_of(lab.apply(want, str(inbox)))
    assert "what came for 2/model.py is not what its checksum names" in error
    assert (lab.live("m"), lab.debris()) == (ONE, [])


def test_a_link_in_the_inbox_is_no_content(lab: Lab, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"two")
    want = wanted("m", TWO)
    for link in (os.symlink, os.link):
        inbox = Path(lab.send(TWO.values(), {sha256(b"another"), sha256(TWO["1/weights"])}))
        link(secret, inbox / sha256(b"two"))
        assert "the content of 1/model.py is not here" in error_of(lab.apply(want, str(inbox)))
    assert secret.read_bytes() == b"two"


def test_an_interrupted_upload_goes_on_by_the_file(lab: Lab) -> None:
    inbox = Path(lab.send(ONE.values(), [sha256(ONE["1/weights"])]))
    (inbox / sha256(b"one")).write_bytes(b"on")
    plan = lab.plan(wanted("m", ONE))
    assert plan.lacks == [sha256(b"one")]
    assert lab.apply(wanted("m", ONE), lab.send([b"one"], plan.lacks)).error is None
    assert lab.live("m") == ONE
    assert lab.debris() == [inbox.name]
    os.utime(inbox, (time.time() - DAY - 60,) * 2)
    lab.publish("m", TWO)
    assert lab.debris() == []


@pytest.mark.parametrize("goes_on", [True, False])
def test_what_a_dead_publication_was_sent_is_used_and_removed(lab: Lab, goes_on: bool) -> None:
    inbox = Path(lab.send(ONE.values(), {sha256(content) for content in ONE.values()}))
    (inbox / "publishing").write_text("")
    if goes_on:
        assert lab.plan(wanted("m", ONE)).lacks == []
        assert lab.apply(wanted("m", ONE)).action == "published"
    else:
        assert lab.plan(Wanted("m", "absent"), check_mode=True).action == "none"
        assert lab.debris() == [inbox.name]
        assert lab.plan(Wanted("m", "absent")).action == "none"
    assert lab.debris() == []


def test_a_text_that_is_not_what_its_checksum_names(lab: Lab) -> None:
    want = wanted("m", ONE)
    inbox = lab.send(ONE.values(), lab.plan(want).lacks)
    want.texts = {"config.pbtxt": 'backend: "onnxruntime"\n'}
    assert "the text of config.pbtxt is not the one" in error_of(lab.apply(want, inbox))


def test_without_texts_those_on_disk_are_taken(lab: Lab) -> None:
    lab.publish("m", ONE)
    assert lab.apply(Wanted("m", files=rows_of({**ONE, "2/model.py": b"one"}))).error is None
    assert lab.live("m") == {**ONE, "2/model.py": b"one"}


def test_one_that_fails_does_not_stop_the_others(lab: Lab) -> None:
    wants = [wanted("a", ONE), wanted("b", {**ONE, "2.tmp/model.py": b"one"}), wanted("c", ONE)]
    inbox = lab.send(ONE.values(), lab.plan(wants[0]).lacks)
    outcomes = lab.repository().apply(wants, inbox)
    assert [outcome.action for outcome in outcomes] == ["published", "none", "published"]
    assert "2.tmp" in error_of(outcomes[1])
    assert sorted(path.name for path in lab.models.iterdir()) == ["a", "c"]


def test_owner_and_group(lab: Lab) -> None:
    lab.publish("m", ONE, uid=1234, gid=2345)
    for path in [lab.models / "m", *(lab.models / "m").rglob("*")]:
        assert (path.stat().st_uid, path.stat().st_gid) == (1234, 2345), path
    assert lab.publish("m", ONE, uid=1234, gid=2345).action == "none"
    assert lab.publish("m", ONE).action == "none", "nobody asked for an owner"


def test_a_file_system_that_cannot_exchange(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tree, "exchange", lambda _one, _other: False)
    lab.publish("m", ONE)
    lab.publish("m", TWO)
    assert (lab.live("m"), lab.releases("m"), lab.debris()) == (TWO, [digest(ONE)], [])
    lab.apply(Wanted("m", "rolled_back"))
    assert (lab.live("m"), lab.releases("m"), lab.debris()) == (ONE, [digest(TWO)], [])


# --- what is seen as new -----------------------------------------------------------------------------------------------


def version_times(model: Path) -> dict[str, int]:
    return {path.name: times(path) for path in model.iterdir() if path.is_dir()}


def test_each_step_is_newer_than_what_was_there(lab: Lab) -> None:
    lab.publish("m", ONE)
    first = times(lab.models / "m"), version_times(lab.models / "m")
    lab.publish("m", TWO)
    second = times(lab.models / "m"), version_times(lab.models / "m")
    lab.apply(Wanted("m", "rolled_back"))
    third = times(lab.models / "m"), version_times(lab.models / "m")
    assert first[0] < second[0] < third[0]
    assert first[1]["1"] < second[1]["1"] < third[1]["1"]


def test_all_of_a_release_gets_a_new_time(lab: Lab) -> None:
    lab.publish("m", ONE)
    lab.publish("m", TWO)
    swapped = (lab.models / "m").stat().st_ctime_ns
    lab.apply(Wanted("m", "rolled_back"))
    assert [path.name for path in (lab.models / "m").rglob("*") if path.stat().st_ctime_ns <= swapped] == []


@pytest.mark.parametrize("state", ["present", "rolled_back"])
def test_times_in_the_future_are_outrun(lab: Lab, state: str) -> None:
    lab.publish("m", ONE)
    lab.publish("m", TWO)
    ahead = time.time_ns() + 3600 * 10**9
    os.utime(lab.models / "m/1/model.py", ns=(ahead, ahead + 5))
    before = times(lab.models / "m"), version_times(lab.models / "m")
    if state == "present":
        lab.publish("m", {**THREE, "1/model.py": b"again"})
    else:
        assert lab.apply(Wanted("m", "rolled_back")).action == "rolled_back"
    assert times(lab.models / "m") > before[0]
    assert version_times(lab.models / "m")["1"] > before[1]["1"]
    assert lab.repository().verify()[0].problems == []


# --- releases ----------------------------------------------------------------------------------------------------------


def test_releases_are_kept_by_number(lab: Lab) -> None:
    for files in (ONE, TWO, THREE, ONE, TWO):
        lab.publish("m", files, keep=2)
    assert lab.releases("m") == [digest(ONE), digest(THREE)]
    lab.publish("m", THREE, keep=0)
    assert lab.releases("m") == []
    assert lab.debris() == []


def test_roll_back_to_a_digest(lab: Lab) -> None:
    for files in (ONE, TWO, THREE):
        lab.publish("m", files)
    for text in (digest(ONE), digest(TWO)[:16], digest(ONE)[7:15]):
        outcome = lab.apply(Wanted("m", "rolled_back", digest=text))
        assert outcome.action == "rolled_back"
        assert outcome.digest.startswith(text if text.startswith("sha256:") else f"sha256:{text}")
        assert lab.live("m") == {digest(ONE): ONE, digest(TWO): TWO}[outcome.digest]
    again = lab.apply(Wanted("m", "rolled_back", digest=digest(ONE)))
    assert (again.action, again.reasons) == ("none", ["that release is live"])


def test_roll_back_to_what_is_not_there(lab: Lab) -> None:
    error = error_of(lab.apply(Wanted("m", "rolled_back")))
    assert "There is no such release" in error and "are there: none" in error
    lab.publish("m", ONE)
    lab.publish("m", TWO)
    error = error_of(lab.apply(Wanted("m", "rolled_back", digest="sha256:" + "0" * 64)))
    assert digest(ONE) in error and "retired 20" in error
    assert "8 or more" in error_of(lab.apply(Wanted("m", "rolled_back", digest="abc")))
    shutil.copytree(lab.private / "releases/m" / digest(ONE)[7:], lab.private / "releases/m" / (digest(ONE)[7:27] + "0" * 44))
    assert "Several releases" in error_of(lab.apply(Wanted("m", "rolled_back", digest=digest(ONE)[:20])))
    assert lab.live("m") == TWO


def test_a_damaged_release_is_not_gone_back_to(lab: Lab) -> None:
    lab.publish("m", ONE)
    lab.publish("m", TWO)
    weights = lab.private / "releases/m" / digest(ONE)[7:] / "1/weights"
    status = weights.stat()
    weights.write_bytes(b"v" * 5000)
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    error = error_of(lab.apply(Wanted("m", "rolled_back")))
    assert "1/weights differs from what was published" in error
    assert (lab.live("m"), lab.releases("m"), lab.debris()) == (TWO, [digest(ONE)], [])


def test_a_removed_model_is_kept_and_can_come_back(lab: Lab) -> None:
    lab.publish("m", ONE)
    outcome = lab.apply(Wanted("m", "absent"), keep=0)
    assert (outcome.action, outcome.digest, outcome.previous_digest) == ("removed", None, digest(ONE))
    assert outcome.changes["removed"] == sorted(ONE)
    assert not (lab.models / "m").exists()
    assert lab.releases("m") == [digest(ONE)]
    assert lab.apply(Wanted("m", "absent")).action == "none"
    assert lab.plan(wanted("m", ONE)).lacks == []
    assert lab.apply(Wanted("m", "rolled_back")).action == "rolled_back"
    assert (lab.live("m"), lab.releases("m"), lab.debris()) == (ONE, [], [])


# --- what somebody else did --------------------------------------------------------------------------------------------


def by_hand(lab: Lab, files: Files) -> Path:
    folder = lab.models / "m"
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


@pytest.mark.parametrize("files", [ONE, TWO], ids=["the same content", "other content"])
def test_a_folder_made_by_hand_is_adopted_and_lost_nothing(lab: Lab, files: Files) -> None:
    folder = by_hand(lab, ONE)
    (folder / ".git").mkdir()
    (folder / ".git/HEAD").write_text("ref")
    plan = lab.plan(wanted("m", files))
    assert (plan.action, plan.previous_digest) == ("published", None)
    assert not set(plan.lacks) & {sha256(content) for content in ONE.values()}, "it has that already"
    outcome = lab.publish("m", files)
    assert "not published by this collection" in outcome.reasons[0]
    assert lab.live("m") == files
    kept = lab.private / "releases/m" / digest(ONE)[7:]
    assert (kept / ".git/HEAD").read_text() == "ref"
    assert lab.publish("m", files).action == "none"
    if files is TWO:
        assert lab.apply(Wanted("m", "rolled_back")).action == "rolled_back"
        assert (lab.models / "m/1/model.py").read_bytes() == b"one"


def test_a_copy_under_another_name_is_no_publication(lab: Lab) -> None:
    lab.publish("m", ONE)
    shutil.copytree(lab.models / "m", lab.models / "copy")
    assert [(row["name"], row["managed"]) for row in lab.repository().on_disk()] == [("copy", False), ("m", True)]
    outcome = lab.publish("copy", ONE)
    assert (outcome.action, lab.live("copy")) == ("published", ONE)


def test_a_touched_file_is_read_once_and_is_no_change(lab: Lab) -> None:
    lab.publish("m", ONE)
    os.utime(lab.models / "m/1/weights", (1e9, 1e9))
    repository = lab.repository()
    assert repository.plan([wanted("m", ONE)])[0].action == "none"
    assert repository.cache.read_files == 1


def damage_missing(folder: Path) -> str:
    (folder / "1/weights").unlink()
    return "1/weights is missing"


def damage_changed(folder: Path) -> str:
    (folder / "1/weights").write_bytes(b"W" * 5000)
    return "1/weights differs from what was published"


def damage_cut(folder: Path) -> str:
    (folder / "1/weights").write_bytes(b"")
    return "1/weights differs from what was published"


def damage_extra(folder: Path) -> str:
    (folder / "9").mkdir()
    (folder / "9/model.py").write_bytes(b"x")
    return "9/ was not published"


def damage_digest(folder: Path) -> str:
    text = (folder / "config.pbtxt").read_text()
    (folder / "config.pbtxt").write_text(text.replace(digest(ONE), digest(TWO)))
    return "config.pbtxt differs from what was published"


def damage_link(folder: Path) -> str:
    (folder / "1/weights").unlink()
    (folder / "1/weights").symlink_to("/etc/hostname")
    return "1/weights differs from what was published"


@pytest.mark.parametrize(
    "damage", [damage_missing, damage_changed, damage_cut, damage_extra, damage_digest, damage_link], ids=lambda each: each.__name__[7:]
)
def test_damage_is_repaired(lab: Lab, damage: t.Callable[[Path], str]) -> None:
    lab.publish("m", TWO)
    lab.publish("m", ONE)
    reason = damage(lab.models / "m")
    words = {"missing": "missing", "extra": "not published"}
    problems = lab.repository().verify(["m"])[0].problems
    assert [problem["why"] for problem in problems] == [reason.replace("is missing", "was published, and is not there")]
    assert problems[0]["what"] == next((what for what, word in words.items() if word in reason), "corrupt")
    plan = lab.plan(wanted("m", ONE))
    assert (plan.action, plan.reasons, plan.lacks) == ("repaired", [reason], [])
    outcome = lab.publish("m", ONE)
    assert (outcome.action, outcome.digest, outcome.previous_digest) == ("repaired", digest(ONE), digest(ONE))
    assert (lab.live("m"), lab.releases("m"), lab.debris()) == (ONE, [digest(TWO)], []), "what is damaged is no release"


def test_damage_is_told_though_size_and_time_are_the_same(lab: Lab) -> None:
    lab.publish("m", ONE)
    weights = lab.models / "m/1/weights"
    status = weights.stat()
    weights.write_bytes(b"v" * 5000)
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert lab.plan(wanted("m", ONE)).reasons == ["1/weights differs from what was published"]


def test_what_python_leaves_is_no_damage(lab: Lab) -> None:
    lab.publish("m", ONE)
    (lab.models / "m/1/__pycache__").mkdir()
    (lab.models / "m/1/__pycache__/model.cpython-312.pyc").write_bytes(b"x")
    assert lab.plan(wanted("m", ONE)).action == "none"
    assert lab.repository().verify()[0].problems == []


def test_owner_and_mode_are_put_right_in_place(lab: Lab) -> None:
    lab.publish("m", ONE)
    before = everything(lab.models)
    (lab.models / "m/1/weights").chmod(0o600)
    (lab.models / "m/1").chmod(0o777)
    outcome = lab.publish("m", ONE)
    assert (outcome.action, outcome.reasons) == (
        "repaired",
        ["1/weights has the mode 0600, wanted 0644", "1/ has the mode 0777, wanted 0755"],
    )
    assert everything(lab.models) == before, "nothing was exchanged"


def test_a_new_owner_costs_no_reading(lab: Lab) -> None:
    lab.publish("m", ONE)
    outcome = lab.publish("m", ONE, uid=77)
    assert (outcome.action, outcome.reasons[0]) == ("repaired", "1/model.py has the owner 0, wanted 77")
    repository = lab.repository(uid=77)
    assert (repository.plan([wanted("m", ONE)])[0].action, repository.cache.read_files) == ("none", 0)


def test_a_broken_manifest(lab: Lab) -> None:
    lab.publish("m", ONE)
    manifest = lab.models / "m/.gpufleet.json"
    manifest.write_text(manifest.read_text().replace('"1/weights"', '"../weights"'))
    problem = lab.repository().verify()[0].problems[0]
    assert problem["what"] == "foreign" and "its manifest cannot be read" in problem["why"]
    assert lab.publish("m", ONE).action == "published"
    assert lab.live("m") == ONE


# --- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "files", "text"),
    [
        ("m", {"2.tmp/model.py": b""}, "Triton takes it for version 2"),
        ("m", {"1/a": b"", "01/a": b""}, "begins with 0"),
        ("m", {"1/a": b"", "config.pbtxt": PYTHON.encode()}, "its version 1 has no model.py"),
        ("m", {"model.onnx": b""}, "it has no version"),
        ("../m", {"1/a": b""}, "slash"),
        ("..", {"1/a": b""}, "leave the model repository"),
        ("", {"1/a": b""}, "empty"),
        ("m", {"1/../../../etc/passwd": b""}, "'..'"),
        ("m", {"/etc/passwd": b""}, "absolute"),
        ("m", {"1/a": b"", "1/a/b": b""}, "nothing in it"),
    ],
)
def test_content_that_is_refused(lab: Lab, name: str, files: Files, text: str) -> None:
    lab.publish("m", ONE)
    error = error_of(lab.apply(wanted(name, files)))
    assert text in error
    assert (lab.live("m"), lab.debris()) == (ONE, [])


def test_another_digest_than_the_wanted_one(lab: Lab) -> None:
    assert f"has the digest {digest(ONE)}, wanted {digest(TWO)}" in error_of(lab.plan(wanted("m", ONE, digest=digest(TWO))))


@pytest.mark.parametrize("state", ["present", "absent", "rolled_back"])
def test_a_model_that_is_a_link_or_a_file(lab: Lab, tmp_path: Path, state: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (lab.models / "m").symlink_to(tmp_path / "elsewhere")
    (lab.models / "n").write_text("")
    want = wanted("m", ONE) if state == "present" else Wanted("m", state)
    error = error_of(lab.plan(want))
    assert "is a symbolic link to" in error and "Put the folder itself" in error
    want.name = "n"
    assert "is no folder" in error_of(lab.plan(want))


def test_there_is_no_repository(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "root")
    lab.models.rmdir()
    with pytest.raises(RepositoryError, match=r"There is no model repository at .*Mount it if it should be a mount"):
        lab.publish("m", ONE)
    predicted = lab.plan(wanted("m", ONE), check_mode=True)
    assert (predicted.action, sorted(predicted.lacks)) == ("published", sorted({sha256(b"one"), sha256(b"w" * 5000)}))
    assert list(lab.root.rglob("*")) == [lab.root / "data"]


def test_check_mode_writes_nothing(lab: Lab) -> None:
    lab.plan(wanted("m", ONE), check_mode=True)
    assert not lab.private.exists()
    lab.publish("m", ONE)
    os.utime(lab.models / "m/1/weights", (1e9, 1e9))
    before = everything(lab.root)
    for want in (wanted("m", TWO), Wanted("m", "absent"), Wanted("m", "verified")):
        assert lab.plan(want, check_mode=True).error is None
    assert everything(lab.root) == before


# --- file systems ------------------------------------------------------------------------------------------------------


def test_no_room(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    with mount("-t", "tmpfs", "-o", "size=4m", "none", str(place)):
        lab = Lab(place / "root")
        lab.publish("m", ONE)
        large = {**ONE, "1/weights": b"x" * (3 << 20)}
        error = error_of(lab.plan(wanted("m", large)))
        assert "there is no room" in error and "3.0 MiB" in error
        assert (lab.live("m"), lab.debris()) == (ONE, [])


def test_what_an_interrupted_run_brought_is_room_already_taken(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    with mount("-t", "tmpfs", "-o", "size=11m", "none", str(place)):
        lab = Lab(place / "root")
        lab.publish("m", ONE)
        large = {**ONE, "1/weights": random.Random(1).randbytes(4 << 20)}
        plan = lab.plan(wanted("m", large))
        assert plan.error is None
        # The controller is killed after it sent all of it: 7 MiB are free, less than twice what is needed.
        lab.send(large.values(), plan.lacks)
        plan = lab.plan(wanted("m", large))
        assert (plan.error, plan.lacks) == (None, [])
        assert lab.apply(wanted("m", large)).action == "published"
        assert lab.live("m") == large


def test_the_disk_gets_full_while_a_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "small"
    place.mkdir()
    with mount("-t", "tmpfs", "-o", "size=8m", "none", str(place)):
        lab = Lab(place / "root")
        lab.publish("m", ONE)
        large = {**ONE, "1/weights": random.Random(1).randbytes(3 << 20)}
        inbox = lab.send(large.values(), lab.plan(wanted("m", large)).lacks)
        # Somebody else fills the disk after the room was looked at.
        monkeypatch.setattr(_repository, "_check_room", lambda *_arguments: None)
        (place / "others").write_bytes(b"x" * (4 << 20))
        twice = {**large, "1/copy": large["1/weights"]}
        error = error_of(lab.apply(wanted("m", twice), inbox))
        assert "ENOSPC" in error and "Free some room" in error
        assert (lab.live("m"), lab.debris()) == (ONE, [])


def test_the_disk_gets_full_in_the_middle(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    # Bytes are plenty; what runs out is the number of files, as no check in advance can tell.
    with mount("-t", "tmpfs", "-o", "size=16m,nr_inodes=60", "none", str(place)):
        lab = Lab(place / "root")
        lab.publish("m", ONE)
        many = {**ONE, **{f"1/{number}": b"one" for number in range(60)}}
        error = error_of(lab.apply(wanted("m", many)))
        assert "No space left" in error and "ENOSPC" in error and "Free some room" in error
        assert (lab.live("m"), lab.debris()) == (ONE, [])
        assert lab.publish("m", TWO).action == "published"
        assert lab.live("m") == TWO


def test_a_read_only_mount(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "root")
    lab.publish("m", ONE)
    root = str(lab.root)
    with mount("--bind", root, root):
        subprocess.run(["mount", "-o", "remount,ro,bind", root], check=True)
        for want in (wanted("m", TWO), Wanted("m", "absent")):
            error = error_of(lab.plan(want))
            assert "Read-only file system" in error and "mount it read-write" in error
        with pytest.raises(RepositoryError, match="EROFS"):
            lab.apply(wanted("m", TWO))
        assert lab.plan(wanted("m", ONE)).action == "none"
        assert lab.repository().verify()[0].problems == []
    assert (lab.live("m"), lab.debris()) == (ONE, [])


def test_a_mount_that_vanished(tmp_path: Path) -> None:
    place = tmp_path / "share"
    place.mkdir()
    with mount("-t", "tmpfs", "none", str(place)):
        lab = Lab(place / "root")
        lab.publish("m", ONE)
    with pytest.raises(RepositoryError, match="There is no model repository"):
        lab.publish("m", TWO)
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("kind", ["another file system", "the same one, mounted twice"])
def test_staging_on_another_file_system(lab: Lab, tmp_path: Path, kind: str) -> None:
    (tmp_path / "twin").mkdir()
    source = ["-t", "tmpfs", "none"] if kind == "another file system" else ["--bind", str(tmp_path / "twin")]
    with (
        mount(*source, str(lab.models)),
        pytest.raises(RepositoryError, match=r"it is on another file system than .*not at a folder in it"),
    ):
        lab.plan(wanted("m", ONE))


def test_a_mount_in_a_model(lab: Lab) -> None:
    lab.publish("m", ONE)
    with mount("-t", "tmpfs", "none", str(lab.models / "m/1")):
        for want in (wanted("m", TWO), Wanted("m", "absent")):
            error = error_of(lab.apply(want))
            assert "something is mounted at" in error and "unmount it" in error.lower()
    assert lab.live("m") == ONE


# --- locks -------------------------------------------------------------------------------------------------------------


def test_who_waits_too_long_is_told_for_whom(lab: Lab) -> None:
    lab.publish("m", ONE)
    with _tree.Lock(str(lab.private / "lock"), "present densenet", 1), pytest.raises(RepositoryError) as caught:
        lab.apply(wanted("m", TWO), lock_timeout=0.05)
    text = str(caught.value)
    assert f"Process {os.getpid()}" in text and "present densenet" in text and "lock_timeout" in text
    assert (lab.private / "lock").read_text() == ""
    assert lab.live("m") == ONE


def test_a_plan_does_not_wait(lab: Lab) -> None:
    lab.publish("m", ONE)
    with _tree.Lock(str(lab.private / "lock"), "a long work", 1):
        (lab.staging / "pub-0123456789abcdef").mkdir()
        assert lab.plan(wanted("m", ONE)).action == "none"
        assert (lab.staging / "pub-0123456789abcdef").is_dir(), "it may be in use"
    lab.plan(wanted("m", ONE))
    assert lab.debris() == []


def test_two_publish_at_once(lab: Lab) -> None:
    errors: list[t.Any] = []

    def publish(files: Files) -> None:
        for _round in range(10):
            outcome = lab.publish("m", files)
            errors.append(outcome.error)

    threads = [threading.Thread(target=publish, args=(files,)) for files in (ONE, TWO, THREE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # What one of them counted on may be pruned by another; that is said, and the next run gets it.
    assert {str(error).partition(": ")[2][:11] for error in errors if error} <= {"the content"}
    assert lab.live("m") in (ONE, TWO, THREE)
    assert lab.debris() == []


# --- content that only the host knows ----------------------------------------------------------------------------------


class FolderSources:
    """Sources that are folders of this machine; what they lead to is counted."""

    def __init__(self, folder: Path, version: str = "1") -> None:
        self.folder = folder
        self.version = version
        self.fetched = 0

    def populate(self, remote: dict[str, t.Any], folder: str, downloads: str) -> str:
        assert Path(downloads).is_dir()
        self.fetched += 1
        if remote.get("folder"):
            return str(remote["folder"])
        shutil.copytree(self.folder, folder)
        return folder

    def identity_of_rclone(self, rclone: dict[str, t.Any]) -> str:
        return f"{rclone['remote']} {self.version}"


def remote_of(**source: t.Any) -> dict[str, t.Any]:
    return {"archive": None, "folder": None, "rclone": None, "files": {}, "exclude": list(EXCLUDE), **source}


def from_source(lab: Lab, sources: FolderSources, remote: dict[str, t.Any], identity: str | None) -> Outcome:
    """What the controller does for content that it never sees."""
    plan = lab.plan(Wanted("m", identity=identity, remote=remote), sources=sources)
    if plan.action == "none":
        return plan
    if not plan.needs_fetch:
        return lab.apply(Wanted("m", identity=identity, remote=remote))
    answers, failed = lab.repository(sources=sources).fetch([{"name": "m", "remote": remote}])
    assert failed == []
    got = answers[0]
    return lab.apply(
        Wanted("m", files=got["files"], texts=got["texts"], folder=got["folder"], identity=identity, host_identity=got["host_identity"])
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for path, content in ONE.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    "remote", [remote_of(archive={"url": "u", "sha256": "0" * 64}), remote_of(rclone={"remote": "s3:m"})], ids=["archive", "rclone"]
)
def test_fetched_content_is_told_by_its_identity(lab: Lab, source: Path, remote: dict[str, t.Any]) -> None:
    sources = FolderSources(source)
    assert from_source(lab, sources, remote, "identity").action == "published"
    assert (lab.live("m"), lab.debris(), sources.fetched) == (ONE, [], 1)
    assert from_source(lab, sources, remote, "identity").action == "none"
    assert sources.fetched == 1
    (lab.models / "m/1/weights").write_bytes(b"")
    assert from_source(lab, sources, remote, "identity").action == "repaired"
    assert (lab.live("m"), sources.fetched) == (ONE, 2)
    before = everything(lab.models)
    sources.version = "2"
    assert from_source(lab, sources, remote, "another").action == "none"
    assert (everything(lab.models), sources.fetched) == (before, 3), "the same content from another source changes no file"
    assert from_source(lab, sources, remote, "another").action == "none"
    assert (sources.fetched, lab.debris()) == (3, [])


def test_a_folder_of_the_host(lab: Lab, source: Path) -> None:
    sources = FolderSources(source)
    remote = remote_of(folder=str(source))
    assert from_source(lab, sources, remote, "identity").action == "published"
    assert lab.live("m") == ONE
    assert from_source(lab, sources, remote, "identity").action == "none"
    (source / "1/model.py").write_bytes(b"changed")
    outcome = from_source(lab, sources, remote, "identity")
    assert (outcome.action, outcome.changes["changed"]) == ("published", ["1/model.py"])
    assert (source / "1/model.py").read_bytes() == b"changed", "it is not ours to move"
    assert lab.debris() == []


def test_weights_of_which_only_the_checksum_is_known(lab: Lab, source: Path) -> None:
    rows = [[path, None if path == "1/weights" else size, *rest] for path, size, *rest in rows_of(ONE)]
    want = Wanted("m", files=rows, remote=remote_of(files={"1/weights": {"url": "u", "sha256": sha256(ONE["1/weights"])}}))
    plan = lab.plan(want)
    assert (plan.action, plan.needs_fetch, plan.digest) == ("published", True, None)
    lab.publish("m", ONE)
    plan = lab.plan(want)
    assert (plan.action, plan.needs_fetch, plan.sizes) == ("none", False, {sha256(ONE["1/weights"]): 5000})


def test_what_cannot_be_fetched(lab: Lab, source: Path) -> None:
    (source / "1/pointer").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    (source / "model.sig").write_text("signature")
    remote = remote_of(archive={"url": "u", "sha256": "0" * 64})
    rows = [{"name": "m", "remote": remote, "texts": ["model.sig", "1/weights"]}]
    answers, failed = lab.repository(sources=FolderSources(source)).fetch(rows)
    assert (answers[0]["lfs"], failed) == (["1/pointer"], [])
    assert sorted(answers[0]["texts"]) == ["1/weights", "config.pbtxt", "model.sig"]
    os.mkfifo(source / "1/pipe")
    answers, failed = lab.repository(sources=FolderSources(source)).fetch([{"name": "m", "remote": remote_of(folder=str(source))}])
    assert answers == [] and "It is a pipe" in error_of(failed[0])


def test_fetched_content_that_is_refused_is_discarded(lab: Lab, source: Path) -> None:
    rows = [{"name": "m", "remote": remote_of(archive={"url": "u", "sha256": "0" * 64})}]
    answers, _failed = lab.repository(sources=FolderSources(source)).fetch(rows)
    folder = Path(answers[0]["folder"])
    assert folder.is_dir() and lab.debris() == [folder.parent.name]
    # Nothing but what was fetched goes, whoever asks.
    lab.publish("other", ONE)
    lab.repository().discard([str(source), str(lab.models / "other"), str(lab.private), f"{folder}/../../../../models/other"])
    assert lab.live("other") == ONE and source.is_dir() and folder.is_dir()
    lab.repository().discard([str(folder)])
    assert lab.debris() == []


def test_an_inbox_for_a_login(lab: Lab) -> None:
    lab.root.chmod(0o755)
    above = [path for path in lab.root.parents if not path.stat().st_mode & 1]
    inbox = lab.repository().open_inbox(4321)
    # Below a folder that others cannot pass, as pytest makes them, there is none.
    assert (inbox is None) == bool(above)
    for path in above:
        path.chmod(path.stat().st_mode | 1)
    inbox = lab.repository().open_inbox(4321)
    assert inbox is not None
    assert (Path(inbox).stat().st_uid, Path(inbox).stat().st_mode & 0o777) == (4321, 0o700)
    lab.private.chmod(0o750)
    assert lab.repository().open_inbox(4321) is None
    assert lab.repository().open_inbox(None) is not None


# --- looking -----------------------------------------------------------------------------------------------------------


def test_verify_everything(lab: Lab) -> None:
    lab.publish("m", ONE)
    (lab.models / "lost+found").mkdir()
    (lab.models / "notes.txt").write_text("x")
    found = {outcome.name: [problem["what"] for problem in outcome.problems] for outcome in lab.repository().verify()}
    assert found == {"m": [], "lost+found": ["foreign"], "notes.txt": ["foreign"]}
    found = {outcome.name: [problem["what"] for problem in outcome.problems] for outcome in lab.repository().verify(["m", "n"])}
    assert found == {"m": [], "n": ["missing"]}
    outcome = lab.apply(Wanted("m", "verified", digest=digest(TWO)))
    assert (outcome.action, [problem["what"] for problem in outcome.problems]) == ("verified", ["digest"])


def test_what_is_on_disk(lab: Lab) -> None:
    assert lab.repository().on_disk() == []
    lab.publish("m", TWO)
    by_hand(Lab(lab.root / "other"), ONE)
    (lab.models / "hand/3").mkdir(parents=True)
    rows = lab.repository().on_disk()
    published = rows[1].pop("published")
    assert abs(time.time() - time.mktime(time.strptime(published, "%Y-%m-%dT%H:%M:%SZ")) + time.timezone) < 60
    assert rows == [
        {"name": "hand", "managed": False, "digest": None, "published": None, "versions": [3]},
        {"name": "m", "managed": True, "digest": digest(TWO), "versions": [1, 2]},
    ]
    assert lab.repository().texts("m") == {"config.pbtxt": PYTHON}
    assert [lab.repository().config_of(name) for name in ("m", "hand", "none", "../models")] == [PYTHON, "", None, None]
