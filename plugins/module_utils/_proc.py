# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands and mount tables of this machine, read with the standard library. Private to the collection."""

from __future__ import annotations

import re
import typing as t

MOUNTINFO = "/proc/self/mountinfo"
# The status of timeout(1) itself, and of a command that it had to kill.
_TIMED_OUT = (124, 137)
_OCTAL = re.compile(r"\\([0-7]{3})")

# AnsibleModule.run_command, or what behaves like it.
RunCommand = t.Callable[..., "tuple[int, str, str]"]


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


def run(
    run_command: RunCommand, argv: t.Sequence[str], timeout: float = 10.0, cwd: str | None = None, data: str | None = None
) -> CommandResult:
    """Run a command to its end in the C locale, with a time limit. A command that cannot be run is a result as well."""
    try:
        rc, out, err = run_command(
            # run_command itself waits for ever.
            ["timeout", "--kill-after=2", f"{timeout:g}", *argv],
            cwd=cwd,
            data=data,
            environ_update={"LC_ALL": "C", "LANGUAGE": "C"},
            expand_user_and_vars=False,
            handle_exceptions=False,
        )
    except (OSError, ValueError) as exc:
        return CommandResult(None, "", f"cannot start {argv[0]}: {exc}")
    if rc in _TIMED_OUT:
        return CommandResult(None, out, f"{argv[0]} did not end within {timeout:g} s")
    return CommandResult(rc, out, err)


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
