# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The dockerd of this machine: which process it is, and with which arguments it runs. Private to the collection."""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.gpufleet.triton.plugins.module_utils._proc import CommandResult

PROC = "/proc"
_ARGUMENTS = re.compile(r"argv\[\]=(.*?) ; ignore_errors=")
_CONFIG_FILE = "--config-file"


class Engine(t.NamedTuple):
    """A dockerd that runs. C(identity) is another one after each start."""

    identity: str
    arguments: list[str]


def running(pidfile: str) -> Engine | None:
    """The process that a pidfile names, if that is a dockerd."""
    try:
        with open(pidfile, encoding="ascii") as handle:
            pid = int(handle.read())
        with open(f"{PROC}/{pid}/cmdline", "rb") as handle:
            words = [os.fsdecode(word) for word in handle.read().split(b"\0")[:-1]]
        with open(f"{PROC}/{pid}/stat", encoding="utf-8", errors="replace") as handle:
            # The second field is the program's name in parentheses, which may hold anything.
            fields = handle.read().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    if not words or os.path.basename(words[0]) != "dockerd":
        return None
    # Field 22 of proc(5): when the process started. A number of a process alone is used again.
    return Engine(f"{pid}:{fields[19]}", words[1:])


def unit_arguments(run: t.Callable[[list[str]], CommandResult], unit: str) -> list[str]:
    """The arguments that a unit would start dockerd with; variables in them are left out, as systemd alone knows their values."""
    result = run(["systemctl", "show", "--property", "ExecStart", "--value", unit])
    match = _ARGUMENTS.search(result.stdout) if result.ok else None
    words = match.group(1).split() if match else []
    return [word for word in words[1:] if not word.startswith("$")]


def config_file(arguments: t.Sequence[str]) -> str | None:
    """The file that --config-file names among the arguments."""
    found = None
    for word, following in zip(arguments, [*arguments[1:], ""]):
        if word == _CONFIG_FILE:
            found = following
        elif word.startswith(_CONFIG_FILE + "="):
            found = word.partition("=")[2]
    return found


def without_config_file(arguments: t.Sequence[str]) -> list[str]:
    kept: list[str] = []
    skip = False
    for word in arguments:
        if skip:
            skip = False
        elif word == _CONFIG_FILE:
            skip = True
        elif not word.startswith(_CONFIG_FILE + "="):
            kept.append(word)
    return kept
