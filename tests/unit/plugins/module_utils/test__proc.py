# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils import _proc
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.commands import run

MOUNTINFO = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:25 / /mnt/my\\040models rw shared:5 master:2 - nfs4 server:/my\\040models rw,vers=4.2
31 22 0:26 / /mnt rw - tmpfs tmpfs rw
40 22 0:27 / /mnt/my\\040models rw - xfs /dev/vdb1 rw
broken line
"""


def test_mounts_are_read_in_order_and_unescaped() -> None:
    mounts = _proc.parse_mountinfo(MOUNTINFO)
    assert [mount.point for mount in mounts] == ["/", "/mnt/my models", "/mnt", "/mnt/my models"]
    assert mounts[1] == ("/mnt/my models", "nfs4", "server:/my models")


@pytest.mark.parametrize(
    ("path", "fs_type"),
    [
        ("/", "ext4"),
        ("/mntother", "ext4"),
        ("/mnt", "tmpfs"),
        ("/mnt/x", "tmpfs"),
        # The later of two mounts at one point is the one that is seen.
        ("/mnt/my models", "xfs"),
        ("/mnt/my models/deep/er", "xfs"),
    ],
)
def test_the_mount_of_a_path(path: str, fs_type: str) -> None:
    mount = _proc.mount_of(path, _proc.parse_mountinfo(MOUNTINFO))
    assert mount is not None
    assert mount.fs_type == fs_type


def test_no_mounts_no_mount() -> None:
    assert _proc.mount_of("/x", []) is None


def test_mounts_below_a_path() -> None:
    mounts = _proc.parse_mountinfo(MOUNTINFO)
    assert _proc.mounts_below("/mnt", mounts) == ["/mnt", "/mnt/my models"]
    assert _proc.mounts_below("/mnt/my", mounts) == []


def test_the_real_mounts_hold_the_root() -> None:
    mount = _proc.mount_of("/", _proc.read_mounts())
    assert mount is not None
    assert mount.point == "/"


def test_a_missing_table_has_no_mounts(tmp_path: Path) -> None:
    assert _proc.read_mounts(str(tmp_path / "none")) == []


def test_a_command_is_run_in_the_c_locale(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    result = run(["sh", "-c", "echo $LC_ALL; pwd; echo wrong >&2; exit 3"], cwd=str(tmp_path))
    assert result == (3, f"C\n{tmp_path}\n", "wrong\n")
    assert not result.ok
    assert result.cause() == "wrong"


@pytest.mark.parametrize(
    ("result", "cause"),
    [
        (_proc.CommandResult(1, "out\nput", " \n"), "out put"),
        (_proc.CommandResult(7, "", ""), "it ended with status 7 and said nothing"),
    ],
)
def test_the_cause_is_the_best_that_there_is(result: _proc.CommandResult, cause: str) -> None:
    assert result.cause() == cause


def test_a_command_that_is_not_there_is_a_result() -> None:
    result = run(["/no/such/program"])
    assert not result.ok
    assert "/no/such/program" in result.cause()


def test_a_host_that_cannot_run_commands_at_all_is_a_result() -> None:
    def broken(*_args: object, **_options: object) -> tuple[int, str, str]:
        raise FileNotFoundError(2, "No such file or directory", "timeout")

    result = _proc.run(broken, ["docker"])
    assert result.rc is None
    assert "cannot start docker: " in result.cause()


def test_words_of_a_command_are_taken_as_they_are() -> None:
    options: dict[str, object] = {}

    def note(_argv: list[str], **given: object) -> tuple[int, str, str]:
        options.update(given)
        return 0, "", ""

    _proc.run(note, ["echo", "$HOME", "~"])
    assert options["expand_user_and_vars"] is False


def test_a_command_that_does_not_end_is_ended() -> None:
    result = run([sys.executable, "-c", "import signal; signal.pause()"], timeout=0.2)
    assert result.rc is None
    assert "did not end within 0.2 s" in result.cause()


def test_odd_bytes_are_no_obstacle() -> None:
    assert run(["printf", "\\377"]).stdout == "\ufffd"
