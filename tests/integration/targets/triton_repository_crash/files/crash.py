# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kill the module while it publishes and while it rolls back, and infer all the time: crash.py FOLDER URL SEED.

Two contents change places. In each round the module is killed with SIGKILL on the way to the other one: at a random time, or
before a random one of its operations on files. Then what is on disk must be one of both contents, whole; the server loads it;
the next run must bring what was wanted, and leave nothing lying about.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import requests
import witness
from witness import Client, Content, Repository, check

MEGABYTE = 1024**2
KILLS = 20
OF_ANSIBLE = 3
MODEL = "witness"


class Crash:
    def __init__(self, folder: Path, url: str, seed: int) -> None:
        self.url = url
        self.folder = folder
        print(f"the random points are those of the seed {seed}", flush=True)
        self.random = random.Random(seed)
        self.repository = Repository(folder / "root", MODEL)
        self.contents = [
            witness.write(folder / f"content_{number}", number, size=16 * MEGABYTE, unchanged=8 * MEGABYTE) for number in (1, 2)
        ]
        self.debris_seen = False
        self.after: collections.Counter[str] = collections.Counter()

    def other(self, digest: str) -> Content:
        return next(content for content in self.contents if content.digest != digest)

    def measure(self, ask: Any, wanted: Content) -> tuple[float, int]:
        """How long the module takes from its begin on, and how many operations it does."""
        count = self.folder / "count"
        process = self.begin(ask(wanted), WITNESS_COUNT=str(count))
        begin = time.monotonic()
        process.wait(120)
        return time.monotonic() - begin, int(count.read_text())

    def begin(self, arguments: dict[str, Any], **environment: str) -> subprocess.Popen[bytes]:
        argv = witness.command("triton_repository", arguments)
        process = subprocess.Popen(
            argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, **environment}, start_new_session=True
        )
        assert process.stderr is not None
        process.stderr.readline()
        return process

    def kill(self, ask: Any, wanted: Content, length: float, operations: int, at_operation: bool) -> bool:
        """Kill the module; false if it was too late."""
        if at_operation:
            process = self.begin(ask(wanted), WITNESS_DIE_AT=str(self.random.randint(1, operations)))
            process.wait(120)
        else:
            process = self.begin(ask(wanted))
            try:
                process.wait(self.random.uniform(0, length))
            except subprocess.TimeoutExpired:
                process.kill()
            process.wait(120)
        return process.returncode == -signal.SIGKILL

    def kill_ansible(self, wanted: Content) -> bool:
        """Kill all of an Ansible that publishes, with the module that it started, once something lies in staging."""
        source = f"root={self.repository.root} name={MODEL} src={wanted.folder} remote_src=true"
        argv = ["ansible", "localhost", "-c", "local", "-m", "gpufleet.triton.triton_repository", "-a", source]
        argv += ["-e", f"ansible_python_interpreter={sys.executable}"]
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        while process.poll() is None and not self.repository.staged():
            time.sleep(0.002)
        time.sleep(self.random.uniform(0, 0.2))
        if process.poll() is None:
            # Ansible gives its workers sessions of their own.
            for pid in [*descendants(process.pid), process.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        process.wait(60)
        return process.returncode == -signal.SIGKILL

    def converge(self, client: Client, ask: Any, wanted: Content) -> None:
        """What the killed run left is whole and can be served; the next run brings what is wanted."""
        half = self.repository.on_disk()
        check(half in {content.digest for content in self.contents}, f"after the kill {half} is on disk")
        self.after["the new content was there" if half == wanted.digest else "the old content was there"] += 1
        if self.repository.debris():
            self.after["something lay in staging"] += 1
            self.debris_seen = True
        # As anybody may ask for it at any time, or a server that starts: what was left is loaded without a look at its digest.
        client.allow(*self.contents)
        requests.post(f"{self.url}/v2/repository/models/{MODEL}/load", timeout=60).raise_for_status()
        check(witness.served(self.url, MODEL) == half, f"{half} was left on disk, {witness.served(self.url, MODEL)} is served")
        client.allow(*(content for content in self.contents if content.digest == half))
        witness.module("triton_repository", ask(wanted))
        check(self.repository.on_disk() == wanted.digest, f"wanted {wanted.digest}, on disk is {self.repository.on_disk()}")
        check(not self.repository.debris(), f"left lying about: {self.repository.debris()}")
        self.load(client, wanted.digest)

    def load(self, client: Client, wanted: str) -> None:
        """From here on the new content may be served, and when the load has ended, it alone."""
        client.allow(*self.contents)
        witness.load(self.url, MODEL, wanted)
        client.allow(*(content for content in self.contents if content.digest == wanted))

    def rounds(self, client: Client, what: str, ask: Any) -> None:
        length, operations = self.measure(ask, self.other(self.repository.on_disk()))
        kills = 0
        self.load(client, self.repository.on_disk())
        for _attempt in range(3 * KILLS):
            if kills == KILLS:
                break
            wanted = self.other(self.repository.on_disk())
            if not self.kill(ask, wanted, length, operations, at_operation=kills % 2 == 0):
                self.load(client, self.repository.on_disk())
                continue
            kills += 1
            self.converge(client, ask, wanted)
        print(f"{what}: {kills} kills in {length:.2f} s or {operations} operations; {dict(self.after)}", flush=True)
        check(kills == KILLS, f"only {kills} kills of {what} came in time")
        self.after.clear()

    def rounds_of_ansible(self, client: Client) -> None:
        kills = 0
        for _attempt in range(3 * OF_ANSIBLE):
            if kills == OF_ANSIBLE:
                break
            wanted = self.other(self.repository.on_disk())
            kills += self.kill_ansible(wanted)
            self.converge(client, self.repository.to_publish, wanted)
        print(f"ansible: {kills} kills; {dict(self.after)}", flush=True)
        check(kills == OF_ANSIBLE, f"only {kills} kills of ansible came in time")

    def run(self) -> None:
        for content in self.contents:
            witness.module("triton_repository", self.repository.to_publish(content))
        witness.load(self.url, MODEL, self.contents[-1].digest)
        with Client(self.url, MODEL, self.contents, seconds=3600) as client:
            self.rounds(client, "publish", self.repository.to_publish)
            check(self.debris_seen, "no kill came while it worked")
            self.rounds(client, "rollback", self.repository.to_roll_back)
            self.rounds_of_ansible(client)
        seen = client.seen
        print(json.dumps({"answers": seen.answers, "slowest": round(seen.slowest, 3), "wrong": len(seen.wrong)}), flush=True)
        check(not seen.wrong, f"{len(seen.wrong)} answers were wrong, such as {seen.wrong[:5]}")
        check(sum(seen.answers.values()) > 1000, f"the client had no more than {seen.answers} answers")


def descendants(pid: int) -> list[int]:
    children = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            children += [child, *descendants(child)]
    return children


Crash(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])).run()
