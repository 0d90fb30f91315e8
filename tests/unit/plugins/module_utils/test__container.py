# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils import _container
from ansible_collections.gpufleet.triton.plugins.module_utils._container import Container, Report, clean_log, lines_about, poll_failures

LOG = b"""I1124 01:25:46.1 1 model_lifecycle.cc:472] "loading: broken:1"
\x1b[31mE1124 01:25:46.2 1 model_lifecycle.cc:642] "failed to load 'broken' version 1: Internal: no weights"\x1b[0m

[libprotobuf ERROR /x/text_format.cc:337] Error parsing text-format inference.ModelConfig: 1:17: Expected integer, got: "
E1124 01:25:46.7 1 model_repository_manager.cc:1460] "Poll failed for model directory 'badcfg': failed to read text proto"
E1124 01:25:46.8 1 model_repository_manager.cc:1415] "failed to poll model 'nope': model not found in any model repository."
I1124 01:26:03.4 390 pb_stub.cc:2105]  Failed to preinitialize Python stub: Python model file not found in '/models/hang/1/model.py'
"""
LINES = clean_log(LOG)


class Fake:
    """Stands for the SDK's client and for its container at once."""

    def __init__(self, state: dict[str, t.Any], error: Exception | None = None, log: t.Any = LOG) -> None:
        self.attrs = {"State": state, "RestartCount": 2}
        self.error = error
        self.log = log
        self.asked: list[dict[str, t.Any]] = []
        self.containers = self

    def get(self, _name: str) -> Fake:
        if self.error is not None:
            raise self.error
        return self

    def logs(self, **options: t.Any) -> bytes:
        self.asked.append(options)
        if isinstance(self.log, Exception):
            raise self.log
        found: bytes = self.log
        return found


def report(state: dict[str, t.Any], **more: t.Any) -> Report:
    return Container("triton", Fake(state, **more)).report()


def test_log_lines() -> None:
    assert len(LINES) == 6
    assert LINES[1].startswith("E1124"), "without colours"


def test_poll_failures() -> None:
    assert poll_failures(LINES, "badcfg") == [
        'failed to read text proto; Error parsing text-format inference.ModelConfig: 1:17: Expected integer, got: "'
    ]
    assert poll_failures(LINES + LINES, "nope") == ["model not found in any model repository."]
    assert poll_failures(LINES, "broken") == []


def test_lines_about() -> None:
    assert lines_about(LINES, "broken") == [LINES[1]], "errors are enough where there are any"
    assert "model.py" in lines_about(LINES, "hang")[0]
    assert lines_about(LINES[:1], "broken") == LINES[:1]
    assert lines_about(LINES, "brok") == []


def test_running() -> None:
    found = report({"Status": "running", "ExitCode": 0, "Health": {"Status": "healthy"}})
    assert found.as_dict() == {
        "name": "triton",
        "state": "running",
        "exit_code": None,
        "oom_killed": False,
        "error": "",
        "health": "healthy",
        "restart_count": 2,
        "logs": LINES,
        "note": "",
    }
    assert found.problem() is None


def problem(found: Report) -> str:
    text = found.problem()
    assert text is not None
    return f"{text.what}. {text.why}. {text.remedy}"


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"Status": "exited", "ExitCode": 137, "OOMKilled": True}, "ran out of memory (exit code 137)"),
        ({"Status": "exited", "ExitCode": 137}, "killed from outside"),
        ({"Status": "exited", "ExitCode": 139}, "segmentation fault"),
        ({"Status": "exited", "ExitCode": 1}, "gave up"),
        ({"Status": "dead", "ExitCode": 3}, "is dead"),
        ({"Status": "restarting", "ExitCode": 1}, "restarted 2 times"),
        ({"Status": "paused"}, "is paused"),
        ({"Status": "created"}, "is created"),
    ],
)
def test_not_running(state: dict[str, t.Any], words: str) -> None:
    assert words in problem(report(state))


def test_the_last_error_explains_an_exit_and_the_last_line_a_kill() -> None:
    assert "failed to poll model 'nope'" in problem(report({"Status": "exited", "ExitCode": 1}))
    assert "Python model file not found" in problem(report({"Status": "exited", "ExitCode": 137}))
    assert "; its log" not in problem(report({"Status": "exited", "ExitCode": 1}, log=b""))


class NotFound(Exception):
    pass


def test_no_such_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_container, "_ERRORS", (NotFound,))
    found = report({}, error=NotFound("no such container"))
    assert found.state == "absent"
    assert "no container of that name" in problem(found)


def test_no_engine() -> None:
    container = Container("triton", Fake({}, error=ConnectionRefusedError("no engine")))
    assert "the docker engine cannot be asked: no engine" in problem(container.report())
    assert container.ended() == ""
    assert container.logs(0) == []


def test_no_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_container, "HAS_DOCKER", False)
    found = Container("triton").report()
    assert found.state == "unknown"
    assert "python3-docker" in problem(found)
    assert Container("triton").ended() == ""


def test_a_log_that_cannot_be_read() -> None:
    found = report({"Status": "running"}, log=OSError("log driver"))
    assert (found.state, found.logs) == ("running", [])
    assert "cannot be read: log driver" in found.note


def test_logs_since() -> None:
    fake = Fake({"Status": "exited"})
    container = Container("triton", fake)
    assert container.logs(1234.9, tail=5) == LINES
    assert fake.asked == [{"stdout": True, "stderr": True, "tail": 5, "since": 1234}]
    assert container.ended() == "exited"


@pytest.mark.parametrize(
    ("state", "ended"),
    [
        ({"Status": "running"}, ""),
        ({"Status": "restarting", "Error": "x"}, ""),
        ({"Status": "created", "Error": ""}, ""),
        ({"Status": "created", "Error": "port is already allocated"}, "created"),
        ({"Status": "dead"}, "dead"),
    ],
)
def test_what_does_not_come_back_by_itself(state: dict[str, t.Any], ended: str) -> None:
    assert Container("triton", Fake(state)).ended() == ended


def test_a_container_that_the_engine_cannot_start() -> None:
    text = problem(report({"Status": "created", "Error": "driver failed: port is already allocated"}))
    assert "cannot be started" in text
    assert "port is already allocated" in text
