# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Publish 30 times under a server that polls its repository, and infer all the time: poll.py FOLDER URL."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path

import requests
import witness
from witness import Client, Content, Repository, Seen, check

MEGABYTE = 1024**2
EXCHANGES = 30
AT_ONCE = 8
MODEL = "witness"
YEARS = 5 * 365 * 24 * 3600


def wait_for(url: str, content: Content, seconds: float = 30) -> None:
    """The server polls once in a second."""
    end = time.monotonic() + seconds
    while witness.served(url, MODEL) != content.digest:
        check(time.monotonic() < end, f"wanted {content.digest} to be served within {seconds} s, got {witness.served(url, MODEL)}")
        time.sleep(0.1)


def publish(repository: Repository, content: Content) -> None:
    done = witness.module("triton_repository", repository.to_publish(content))
    check(done["models"][0]["action"] == "published", f"{content.folder}: {done['models']}")


def report(seen: Seen) -> None:
    answers = sum(seen.answers.values())
    told = {"contents": len(seen.answers), "answers": answers, "mixed": seen.mixed, "slowest": round(seen.slowest, 3)}
    print(json.dumps({**told, "wrong": len(seen.wrong)}), flush=True)
    check(not seen.wrong, f"{len(seen.wrong)} answers were wrong, such as {seen.wrong[:5]}")


def main(folder: Path, url: str) -> None:
    repository = Repository(folder / "root", MODEL)
    contents = [witness.write(folder / f"content_{number}", number, size=2 * MEGABYTE) for number in range(1, EXCHANGES + AT_ONCE + 2)]
    first, gated, at_once = contents[0], contents[1 : EXCHANGES + 1], contents[EXCHANGES + 1 :]
    before, last = at_once[-2:]
    witness.module("triton_repository", repository.to_publish(first))
    end = time.monotonic() + 30
    while not requests.get(f"{url}/v2/models/{MODEL}/ready", timeout=10).ok:
        check(time.monotonic() < end, "the first content was not served within 30 s")
        time.sleep(0.1)
    pauses = random.Random(30)

    # As the role does: the next one is published when the one before is served.
    with Client(url, MODEL, [first, *gated], seconds=600, forward=True) as client:
        for content in gated:
            publish(repository, content)
            wait_for(url, content)
            # No rhythm, so that an exchange comes at any point between two polls.
            time.sleep(pauses.uniform(0, 0.6))
        client.wait(gated[-1])
    report(client.seen)
    check(set(client.seen.answers) == {content.number for content in [first, *gated]}, f"the client saw {sorted(client.seen.answers)}")

    # Without that, an exchange may come while the server loads. It opens the files of a model one by one by their names, so it
    # may get a configuration and later weights: never older ones than its digest says, never a failure, and not for long.
    with Client(url, MODEL, [gated[-1], *at_once], seconds=300, forward=True, mixed=True) as client:
        for content in at_once:
            publish(repository, content)
        wait_for(url, last)
        client.wait(last)
        client.allow(last)
        client.wait(last, answers=client.seen.answers[last.number] + 20)
    report(client.seen)
    check(repository.on_disk() == last.digest and not repository.debris(), f"on disk: {repository.on_disk()}, {repository.debris()}")

    # Back to files that are years old: a server that polls goes by times.
    with Client(url, MODEL, [last, before], seconds=300) as client:
        for path in [*repository.releases.rglob("*"), repository.releases]:
            os.utime(path, (time.time() - YEARS, time.time() - YEARS))
        witness.module("triton_repository", repository.to_roll_back(before))
        wait_for(url, before)
        client.allow(before)
        client.wait(before)
    report(client.seen)
    check(set(client.seen.answers) == {last.number, before.number}, f"the client saw {client.seen.answers}")


main(Path(sys.argv[1]), sys.argv[2])
