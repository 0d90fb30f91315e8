# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishers at the same time, and a way back to old files: race.py FOLDER URL."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import requests
import witness
from witness import Client, Content, Repository, check

MEGABYTE = 1024**2
YEARS = 5 * 365 * 24 * 3600


def together(requested: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run the module once for each, all at the same time; return what they answered."""
    processes = [
        subprocess.Popen(witness.command("triton_repository", arguments), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for arguments in requested
    ]
    answers = []
    for process in processes:
        out, errors = process.communicate(timeout=120)
        check(process.returncode == 0, f"a publisher failed: {out}{errors}")
        answers.append(json.loads(out.splitlines()[-1])["models"][0])
    return answers


def same_model(root: Path, contents: list[Content]) -> None:
    repository = Repository(root, "same")
    for turn in range(5):
        pair = contents[turn : turn + 2]
        answers = together([repository.to_publish(content) for content in pair])
        here = repository.on_disk()
        check(here in {content.digest for content in pair}, f"on disk is {here}, which is of none of both")
        check(not repository.debris(), f"left lying about: {repository.debris()}")
        check(all(answer["action"] in ("published", "none") for answer in answers), f"wanted two publications, got {answers}")
        other = next(content.digest for content in pair if content.digest != here)
        kept = {release.name.rpartition(":")[2] for release in repository.releases.iterdir()}
        check(other.partition(":")[2] in kept, f"{other} was published and is no release: {kept}")


def other_models(root: Path, contents: list[Content]) -> None:
    repositories = [Repository(root, f"other_{number}") for number in range(3)]
    answers = together([repository.to_publish(content) for repository, content in zip(repositories, contents)])
    check([answer["action"] for answer in answers] == ["published"] * 3, f"wanted three publications, got {answers}")
    for repository, content in zip(repositories, contents):
        check(repository.on_disk() == content.digest, f"{repository.name} is {repository.on_disk()}, wanted {content.digest}")


def lock(root: Path, content: Content) -> None:
    """Whoever finds the lock taken waits, gives up when it said it would, and says why."""
    repository = Repository(root, "waits")
    arguments = repository.to_publish(content)
    with (root / "data" / ".gpufleet" / "lock").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        begin = time.monotonic()
        try:
            witness.module("triton_repository", {**arguments, "lock_timeout": 1})
        except witness.ModuleFailed as error:
            check("lock" in str(error) and "lock_timeout" in str(error), f"it does not say what it waited for: {error}")
        else:
            check(False, "it published although another held the lock")
        check(1 <= time.monotonic() - begin < 5, f"it waited {time.monotonic() - begin:.1f} s, wanted 1 s")
        check(not repository.live.exists(), "it published and failed")
        waiting = subprocess.Popen(witness.command("triton_repository", arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with contextlib.suppress(subprocess.TimeoutExpired):
            waiting.wait(1.5)
        check(waiting.poll() is None, "it did not wait for the lock")
        check(not repository.live.exists(), "it published although another held the lock")
    out, _errors = waiting.communicate(timeout=60)
    check(waiting.returncode == 0, f"it failed when the lock was free: {out!r}")
    check(repository.on_disk() == content.digest, "it did not publish when the lock was free")


def back_to_old_files(root: Path, url: str, contents: list[Content]) -> None:
    """A server goes by times, and those of the files that one goes back to are lower than what it has loaded."""
    repository = Repository(root, "back")
    old, new = contents[:2]
    for content in (old, new):
        witness.module("triton_repository", repository.to_publish(content))
        witness.load(url, "back", content.digest)
    for path in [*repository.releases.rglob("*"), repository.releases]:
        os.utime(path, (time.time() - YEARS, time.time() - YEARS))
    with Client(url, "back", [old, new], seconds=300) as client:
        done = witness.module("triton_repository", repository.to_roll_back(old))["models"][0]
        check((done["action"], done["previous_digest"]) == ("rolled_back", new.digest), f"wanted a way back, got {done}")
        check(witness.served(url, "back") == new.digest, "nothing was loaded, and yet something else is served")
        # One plain load, as anybody would ask for it: no unload, nothing from the collection.
        requests.post(f"{url}/v2/repository/models/back/load", timeout=60).raise_for_status()
        client.allow(old)
        client.wait(old)
        check(witness.served(url, "back") == old.digest, f"{witness.served(url, 'back')} is served, wanted {old.digest}")
    seen = client.seen
    check(not seen.wrong, f"{len(seen.wrong)} answers were wrong, such as {seen.wrong[:5]}")
    check(set(seen.answers) == {old.number, new.number}, f"the client saw {seen.answers}")
    print(f"back to files that are years old: {seen.answers} answers, the slowest took {seen.slowest:.3f} s")


def main(folder: Path, url: str) -> None:
    root = folder / "root"
    contents = [witness.write(folder / f"content_{number}", number, size=8 * MEGABYTE, age=YEARS) for number in range(1, 7)]
    same_model(root, contents)
    other_models(root, contents)
    lock(root, contents[0])
    back_to_old_files(root, url, contents)


main(Path(sys.argv[1]), sys.argv[2])
