# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils import _dockerd
from ansible_collections.gpufleet.triton.plugins.module_utils._proc import CommandResult

# As systemd 257 shows Debian's unit.
EXEC_START = (
    "{ path=/usr/sbin/dockerd ; argv[]=/usr/sbin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock $DOCKER_OPTS ; "
    "ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }\n"
)


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A process 42 of any name, as the kernel would show it."""
    folder = tmp_path / "proc/42"
    folder.mkdir(parents=True)
    (folder / "stat").write_text("42 (do) ck er)) S " + " ".join(str(number) for number in range(4, 53)) + "\n")
    (folder / "cmdline").write_bytes(b"/usr/sbin/dockerd\0-H\0fd://\0")
    (tmp_path / "pid").write_text("42")
    monkeypatch.setattr(_dockerd, "PROC", str(tmp_path / "proc"))
    return folder


def test_the_process_of_the_pidfile(proc: Path, tmp_path: Path) -> None:
    assert _dockerd.running(str(tmp_path / "pid")) == ("42:22", ["-H", "fd://"])


@pytest.mark.parametrize(
    ("file", "content"),
    [("pid", b""), ("pid", b"4711\n"), ("proc/42/cmdline", b""), ("proc/42/cmdline", b"/usr/bin/vi\0/usr/sbin/dockerd\0")],
    ids=["an empty pidfile", "a process that is gone", "a process that ends", "another process of that number"],
)
def test_no_dockerd(proc: Path, tmp_path: Path, file: str, content: bytes) -> None:
    (tmp_path / file).write_bytes(content)
    assert _dockerd.running(str(tmp_path / "pid")) is None


def test_no_pidfile(tmp_path: Path) -> None:
    assert _dockerd.running(str(tmp_path / "none")) is None


def test_the_arguments_of_a_unit() -> None:
    asked = []

    def run(argv: list[str]) -> CommandResult:
        asked.append(argv)
        return CommandResult(0, EXEC_START, "")

    arguments = _dockerd.unit_arguments(run, "docker.service")
    assert arguments == ["-H", "fd://", "--containerd=/run/containerd/containerd.sock"]
    assert asked == [["systemctl", "show", "--property", "ExecStart", "--value", "docker.service"]]


@pytest.mark.parametrize(
    "result", [CommandResult(0, "\n", ""), CommandResult(1, EXEC_START, "no"), CommandResult(None, "", "no systemctl")]
)
def test_a_unit_that_is_not_there(result: CommandResult) -> None:
    assert _dockerd.unit_arguments(lambda _argv: result, "docker.service") == []


@pytest.mark.parametrize(
    ("arguments", "file", "others"),
    [
        ([], None, []),
        (["-H", "fd://"], None, ["-H", "fd://"]),
        (["--config-file", "/a", "--debug"], "/a", ["--debug"]),
        (["--debug", "--config-file=/a"], "/a", ["--debug"]),
        (["--config-file=/a", "--config-file", "/b"], "/b", []),
        (["--config-file"], "", []),
    ],
)
def test_the_file_among_the_arguments(arguments: list[str], file: str | None, others: list[str]) -> None:
    assert _dockerd.config_file(arguments) == file
    assert _dockerd.without_config_file(arguments) == others
