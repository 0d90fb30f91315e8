# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is private to the gpufleet.triton collection: it may change at any time.

"""What a container can tell about a server that does not answer as wanted. The docker SDK is optional."""

from __future__ import annotations

import re
import typing as t
from dataclasses import asdict, dataclass, field

from ansible_collections.gpufleet.triton.plugins.module_utils._state import Problem

try:
    import docker
    import docker.errors

    # The SDK lets errors of requests through, besides its own: those are OSErrors.
    _ERRORS: tuple[type[Exception], ...] = (docker.errors.DockerException, OSError, ValueError)
    HAS_DOCKER = True
except ImportError:
    _ERRORS = (OSError, ValueError)
    HAS_DOCKER = False

#: Container states from which nothing comes back by itself.
ENDED = ("exited", "dead")


@dataclass
class Report:
    """A container as the engine sees it. `note` says why nothing is known."""

    name: str
    state: str = "unknown"
    exit_code: int | None = None
    oom_killed: bool = False
    error: str = ""
    health: str = ""
    restart_count: int = 0
    logs: list[str] = field(default_factory=list)
    note: str = ""

    def as_dict(self) -> dict[str, t.Any]:
        return asdict(self)

    def problem(self) -> Problem | None:
        """Return the container's state as a problem; nothing if it runs."""
        if self.note:
            return Problem(
                f"Cannot look at container {self.name!r}",
                self.note,
                "correct it to see the server's state and log here",
            )
        if self.oom_killed and self.state != "running":
            return Problem(
                f"Container {self.name!r} is {self.state}: it was killed because it ran out of memory (exit code {self.exit_code})",
                "the models, the shared memory and the pools need more than its memory limit or the host has",
                "raise the memory limit, load fewer models, or lower instance counts",
            )
        if self.state in ENDED or self.state == "restarting":
            # Who is killed has no time for an error: what it did last tells more than an error long ago.
            killed = self.exit_code is not None and self.exit_code > 128
            errors = [] if killed else [line for line in self.logs if re.match(r"^E\d{4} |error:", line)]
            last = (errors or self.logs or [""])[-1]
            return Problem(
                f"Container {self.name!r} is {self.state} (exit code {self.exit_code}, restarted {self.restart_count} times)",
                _why(self.exit_code) + (f"; its log: {last}" if last else ""),
                "correct the cause that its log shows, then start it again",
            )
        if self.error and self.state == "created":
            return Problem(
                f"Container {self.name!r} cannot be started",
                f"the engine says: {self.error}",
                "correct what it names (a port that is taken, a device or runtime that is missing, a limit that is too high)",
            )
        if self.state not in ("running", "unknown"):
            return Problem(f"Container {self.name!r} is {self.state}", "it does not serve in that state", "start it")
        return None


def _why(exit_code: int | None) -> str:
    if exit_code in (137, 143):
        return "the server was killed from outside (by docker stop or kill, or by the kernel)"
    if exit_code == 139:
        return "the server crashed (segmentation fault)"
    if exit_code == 1:
        return "the server gave up: a start-up model failed, an option is wrong, or it was stopped while clients held connections"
    return "the server ended"


def clean_log(raw: bytes) -> list[str]:
    text = re.sub(r"\x1b\[[0-9;]*m", "", raw.decode("utf-8", "replace"))
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def poll_failures(lines: t.Iterable[str], model: str) -> list[str]:
    """Return the causes that Triton logs and does not answer when it cannot read a model from the repository."""
    marks = (f"Poll failed for model directory '{model}':", f"failed to poll model '{model}':")
    found: list[str] = []
    parser: list[str] = []
    for line in lines:
        # The parser says line, column and what it expected, in lines of their own before.
        if line.startswith("[libprotobuf "):
            parser.append(line.rsplit("]", 1)[-1].strip())
            continue
        mark = next((mark for mark in marks if mark in line), "")
        if mark:
            cause = "; ".join([line.split(mark, 1)[1].strip().rstrip('"'), *parser])
            if cause not in found:
                found.append(cause)
        parser = []
    return found


def lines_about(lines: t.Iterable[str], model: str, limit: int = 5) -> list[str]:
    """Return the last lines that name a model, errors and warnings first."""
    name = re.escape(model)
    about = [line for line in lines if re.search(rf"['/\"]{name}['/\"]|\b{name}:\d|\b{name}_\d", line)]
    serious = [line for line in about if re.match(r"^[EW]\d{4} ", line) or "fail" in line.lower() or "error" in line.lower()]
    return (serious or about)[-limit:]


class Container:
    """A container by its name. Nothing here raises: a diagnosis must not hide the error that asked for it."""

    def __init__(self, name: str, client: t.Any = None, timeout: int = 10) -> None:
        self.name = name
        self.timeout = timeout
        self._client = client

    def report(self, tail: int = 20) -> Report:
        report = Report(self.name)
        found = self._get(report)
        if found is None:
            return report
        state = found.attrs.get("State") or {}
        report.state = str(state.get("Status") or "unknown")
        report.exit_code = state.get("ExitCode") if report.state != "running" else None
        report.oom_killed = bool(state.get("OOMKilled"))
        report.error = str(state.get("Error") or "")
        report.health = str((state.get("Health") or {}).get("Status") or "")
        report.restart_count = int(found.attrs.get("RestartCount") or 0)
        report.logs = self._logs(found, report, tail=tail)
        return report

    def ended(self) -> str:
        """Return the state, if nothing comes back from it by itself; also of a container that the engine could not start."""
        found = self._get(Report(self.name))
        state = (found.attrs.get("State") or {}) if found is not None else {}
        status = str(state.get("Status") or "")
        return status if status in ENDED or (status == "created" and state.get("Error")) else ""

    def logs(self, since: float, tail: int = 500) -> list[str]:
        """Return the log since a time, in seconds of the system's clock."""
        report = Report(self.name)
        found = self._get(report)
        # The engine takes whole seconds.
        return [] if found is None else self._logs(found, report, tail=tail, since=int(since))

    def _logs(self, found: t.Any, report: Report, **options: t.Any) -> list[str]:
        try:
            return clean_log(found.logs(stdout=True, stderr=True, **options))
        except _ERRORS as error:
            report.note = f"its log cannot be read: {error}"
            return []

    def _get(self, report: Report) -> t.Any:
        if self._client is None and not HAS_DOCKER:
            report.note = "the docker SDK for Python is not installed on the target (package python3-docker)"
            return None
        try:
            if self._client is None:
                self._client = docker.from_env(timeout=self.timeout)
            return self._client.containers.get(self.name)
        except _ERRORS as error:
            if type(error).__name__ == "NotFound":
                report.state = "absent"
                report.note = f"the engine has no container of that name: {error}"
            else:
                report.note = f"the docker engine cannot be asked: {error}"
            return None
