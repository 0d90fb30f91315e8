# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A network namespace of its own for a test, so that no rule ever meets a packet of the machine's."""

from __future__ import annotations

import contextlib
import subprocess
import typing as t

from ansible_collections.gpufleet.triton.plugins.module_utils._proc import CommandResult


class Network:
    """Runs commands in the namespace."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def run(self, argv: list[str], data: str | None = None) -> CommandResult:
        done = subprocess.run(
            ["nsenter", "--target", str(self.pid), "--net", "--", *argv], input=data, text=True, capture_output=True, check=False
        )
        return CommandResult(done.returncode, done.stdout, done.stderr)

    def must(self, *argv: str, data: str | None = None) -> str:
        done = self.run(list(argv), data)
        assert done.ok, f"{argv}: {done.cause()}"
        return done.stdout


@contextlib.contextmanager
def network() -> t.Iterator[Network]:
    # It says a word when it is in its namespace, and ends when its input does.
    with subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        assert process.stdout.readline(), "cannot make a network namespace: are you root?"
        try:
            yield Network(process.pid)
        finally:
            process.stdin.close()
