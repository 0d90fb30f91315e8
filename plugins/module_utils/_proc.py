# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands and mount tables of this machine, read with the standard library. Private to the collection."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import typing as t

MOUNTINFO = "/proc/self/mountinfo"
_OCTAL = re.compile(r"\\([0-7]{3})")


class CommandResult(t.NamedTuple):
    """What a command answered; C(rc) is None when it could not be started or did not end in time."""

    rc: int | None
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        return self.rc == 0

    def cause(self) -> str:
        """The most useful text that the command left, in one line."""
        text = self.stderr.strip() or self.stdout.strip() or f"it ended with status {self.rc} and said nothing"
        return " ".join(text.split())


def run(argv: t.Sequence[str], timeout: float = 10.0, cwd: str | None = None) -> CommandResult:
    """Run a command to its end in the C locale. A command that cannot be run is a result as well."""
    env = dict(os.environ, LC_ALL="C", LANGUAGE="C")
    try:
        done = subprocess.run(list(argv), stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, cwd=cwd, env=env, check=False)
    except subprocess.TimeoutExpired:
        return CommandResult(None, "", f"{argv[0]} did not end within {timeout:g} s")
    except (OSError, ValueError) as exc:
        return CommandResult(None, "", f"cannot start {argv[0]}: {exc}")
    return CommandResult(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


class Command:
    """A command that runs while the caller does other things, ended after a time limit."""

    def __init__(self, argv: t.Sequence[str], timeout: float = 10.0) -> None:
        self._result = CommandResult(None, "", "")
        self._thread = threading.Thread(target=self._run, args=(argv, timeout), daemon=True)
        self._thread.start()

    def _run(self, argv: t.Sequence[str], timeout: float) -> None:
        self._result = run(argv, timeout)

    def result(self) -> CommandResult:
        self._thread.join()
        return self._result


class Mount(t.NamedTuple):
    point: str
    fs_type: str
    source: str


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match.group(1), 8)), text)


def parse_mountinfo(text: str) -> list[Mount]:
    """The rows of a mountinfo file in the kernel's order (a later mount at the same point hides the earlier one)."""
    mounts = []
    for line in text.splitlines():
        left, separator, right = line.partition(" - ")
        before, after = left.split(), right.split()
        if separator and len(before) > 4 and len(after) > 1:
            mounts.append(Mount(_unescape(before[4]), after[0], _unescape(after[1])))
    return mounts


def read_mounts(path: str = MOUNTINFO) -> list[Mount]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as handle:
            return parse_mountinfo(handle.read())
    except OSError:
        return []


def mount_of(path: str, mounts: t.Iterable[Mount]) -> Mount | None:
    """The mount that holds an absolute path without links."""
    best: Mount | None = None
    for mount in mounts:
        point = mount.point.rstrip("/")
        if (path == mount.point or path.startswith(point + "/")) and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def mounts_below(path: str, mounts: t.Iterable[Mount]) -> list[str]:
    """Mount points at a path or anywhere under it."""
    return sorted({mount.point for mount in mounts if mount.point == path or mount.point.startswith(path.rstrip("/") + "/")})
