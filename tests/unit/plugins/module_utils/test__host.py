# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import socket
import socketserver
import threading
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils import _host
from ansible_collections.gpufleet.triton.plugins.module_utils._proc import CommandResult, Mount
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.commands import run

IS_ROOT = os.geteuid() == 0
# Without root only this user's own view can be asked for.
UID, GID = (12345, 12345) if IS_ROOT else (os.getuid(), os.getgid())
CONTAINER_ID = "ab" * 32

INFO = {
    "ServerVersion": "26.1.5",
    "DockerRootDir": "/var/lib/docker",
    "Architecture": "x86_64",
    "Runtimes": {"runc": {}, "nvidia": {}},
    "CDISpecDirs": ["/etc/cdi", "/var/run/cdi"],
}
CONTAINER = {
    "Id": CONTAINER_ID,
    "Image": "sha256:1234",
    "RestartCount": 2,
    "Config": {"Image": "triton:1", "Labels": {"made.by": "us"}, "Cmd": ["tritonserver", "--id=x"]},
    "HostConfig": {"NetworkMode": "triton_default"},
    "State": {
        "Status": "exited",
        "Running": False,
        "Pid": 0,
        "OOMKilled": True,
        "ExitCode": 137,
        "Error": "",
        "StartedAt": "2026-01-01T00:00:00Z",
        "Health": {"Status": "unhealthy"},
    },
    "NetworkSettings": {"Ports": {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8000"}], "8001/tcp": None}},
}


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    answers: dict[str, tuple[int, bytes]]
    asked: list[str]


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = t.cast("_Server", self.server)
        server.asked.append(self.path)
        status, body = server.answers.get(self.path, (404, b'{"message": "no such object"}'))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_args: object) -> None:
        """The tests read the list of what was asked."""


@pytest.fixture
def engine(tmp_path: Path) -> t.Iterator[_Server]:
    """A Docker Engine's side of the socket, with answers that the test fills in."""
    with _Server(str(tmp_path / "docker.sock"), _Handler) as server:
        server.answers, server.asked = {"/info": (200, json.dumps(INFO).encode())}, []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def listening(address: str = "127.0.0.1", family: int = socket.AF_INET) -> t.Iterator[int]:
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.bind((address, 0))
        server.listen()
        yield server.getsockname()[1]


def ask(server: _Server) -> _host.Engine:
    return _host.Engine(t.cast("str", server.server_address), 5)


# --- Docker ------------------------------------------------------------------------------------------------------------


def test_a_container_is_told_in_full(engine: _Server) -> None:
    engine.answers["/containers/triton/json"] = (200, json.dumps(CONTAINER).encode())
    assert _host.find_container(ask(engine), "triton") == {
        "exists": True,
        "id": CONTAINER_ID,
        "image": "triton:1",
        "image_id": "sha256:1234",
        "status": "exited",
        "running": False,
        "pid": None,
        "started_at": "2026-01-01T00:00:00Z",
        "exit_code": 137,
        "oom_killed": True,
        "error": None,
        "health": "unhealthy",
        "restart_count": 2,
        "network_mode": "triton_default",
        "ports": [{"container_port": "8000/tcp", "address": "127.0.0.1", "port": 8000}],
        "labels": {"made.by": "us"},
        "command": ["tritonserver", "--id=x"],
        "backends": None,
    }


def test_the_backends_of_a_server_are_those_in_its_own_root(tmp_path: Path) -> None:
    folder = tmp_path / "4711/root/opt/tritonserver/backends"
    (folder / "python").mkdir(parents=True)
    (folder / "onnxruntime").mkdir()
    (folder / "README").write_text("no backend")
    assert _host.backends_of(4711, str(tmp_path)) == ["onnxruntime", "python"]
    assert _host.backends_of(4712, str(tmp_path)) is None
    assert _host.backends_of(None, str(tmp_path)) is None


def test_a_container_that_is_not_there_is_none(engine: _Server) -> None:
    assert _host.find_container(ask(engine), "triton") is None
    engine.answers["/containers/a%20b/json"] = (400, b'{"message": "invalid name"}')
    assert _host.find_container(ask(engine), "a b") is None


def test_an_image_by_a_name_with_slashes(engine: _Server) -> None:
    engine.answers["/images/registry.example.com/tritonserver:26.08-py3/json"] = (200, b'{"Id": "sha256:1", "Size": 5, "Created": "now"}')
    found = _host.find_image(ask(engine), "registry.example.com/tritonserver:26.08-py3")
    assert found == {"present": True, "id": "sha256:1", "size": 5, "created": "now", "error": None}


def test_an_image_that_is_not_there_and_one_that_cannot_be(engine: _Server) -> None:
    assert _host.find_image(ask(engine), "none")["present"] is False
    engine.answers["/images/UPPER/json"] = (400, b'{"message": "invalid reference format"}')
    refused = _host.find_image(ask(engine), "UPPER")
    assert refused["present"] is False
    assert "invalid reference format" in refused["error"]


def test_no_socket_is_an_error_with_its_cause(tmp_path: Path) -> None:
    with pytest.raises(_host.ApiError, match=r"Cannot connect to the Docker Engine at .*No such file or directory"):
        _host.Engine(str(tmp_path / "none")).get("/info")


def test_an_engine_that_hangs_is_given_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        hung = _host.Engine(str(tmp_path / "s"), timeout=0.2)
        with pytest.raises(_host.ApiError, match=r"did not answer within 0\.2 s"):
            hung.get("/info")
        # The limit is for all questions together.
        with pytest.raises(_host.ApiError, match=r"did not answer within 0\.2 s"):
            hung.get("/info")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((200, b"<html>"), "not a Docker Engine"),
        ((500, b'{"message": "broken"}'), "wanted status 200, got 500: broken"),
        ((500, b"[]"), "got 500"),
    ],
)
def test_an_odd_answer_is_an_error(engine: _Server, answer: tuple[int, bytes], message: str) -> None:
    engine.answers["/info"] = answer
    with pytest.raises(_host.ApiError, match=message):
        ask(engine).get("/info")


def test_published_ports_are_those_of_tcp() -> None:
    rows = _host.published_ports(
        [
            {
                "Id": "1",
                "Names": ["/triton"],
                "Ports": [
                    {"IP": "127.0.0.1", "PrivatePort": 8000, "PublicPort": 9000, "Type": "tcp"},
                    {"PrivatePort": 8001, "Type": "tcp"},
                    {"IP": "0.0.0.0", "PrivatePort": 53, "PublicPort": 53, "Type": "udp"},
                ],
            },
            {"Id": "2" * 64, "Names": None, "Ports": [{"PrivatePort": 1, "PublicPort": 1, "Type": "tcp"}]},
        ]
    )
    assert rows == [
        {"address": "127.0.0.1", "port": 9000, "container": "triton", "id": "1"},
        {"address": "0.0.0.0", "port": 1, "container": "2" * 12, "id": "2" * 64},
    ]


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Docker version 26.1.5+dfsg1, build a72d7cd", "26.1.5"),
        ("2.26.1-4\n", "2.26.1"),
        ("v2.40.0", "2.40.0"),
        ("none", None),
    ],
)
def test_the_version_in_a_text(text: str, version: str | None) -> None:
    assert _host.version_in(text) == version


@pytest.mark.parametrize(
    ("script", "legacy"),
    [
        ("#!/usr/bin/python3\nraise SystemExit\n", True),
        ("#!/bin/sh\necho 1.29.2\n", False),
        (None, False),
    ],
)
def test_compose_1_as_a_script(tmp_path: Path, script: str | None, legacy: bool) -> None:
    path = tmp_path / "docker-compose"
    if script is not None:
        path.write_text(script)
        path.chmod(0o755)
    assert _host.is_legacy_compose(run, str(path) if script else None) is legacy


def test_only_version_1_is_old() -> None:
    assert [_host.is_old_version(version) for version in ("1.29.2", "2.26.1", "12.0", None)] == [True, False, False, False]


# --- Python ------------------------------------------------------------------------------------------------------------


def test_libraries_that_are_there_and_that_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "an_empty_folder").mkdir()
    (tmp_path / "a_library_without_metadata.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert _host.library_version("pytest") == pytest.__version__
    assert _host.library_version("no_such_library") is None
    assert _host.library_version("an_empty_folder") is None
    assert _host.library_version("a_library_without_metadata") == "unknown"


# --- systemd -----------------------------------------------------------------------------------------------------------

SHOWN = """\
LoadState=loaded
ActiveState=active
SubState=running
UnitFileState=enabled

LoadState=not-found
ActiveState=inactive
SubState=dead
UnitFileState=
"""


def test_units_in_the_order_of_their_names() -> None:
    units = _host.parse_units(SHOWN, ["docker", "triton.service"])
    assert units == {
        "docker": {
            "load_state": "loaded",
            "active_state": "active",
            "sub_state": "running",
            "enabled": True,
            "unit_file_state": "enabled",
        },
        "triton.service": {
            "load_state": "not-found",
            "active_state": "inactive",
            "sub_state": "dead",
            "enabled": False,
            "unit_file_state": "",
        },
    }


def test_a_name_without_suffix_is_a_service() -> None:
    assert [_host.full_unit_name(name) for name in ("a", "a.socket", "a@b", "my.app")] == [
        "a.service",
        "a.socket",
        "a@b.service",
        "my.app.service",
    ]


def test_all_units_are_asked_for_in_one_command() -> None:
    commands: list[list[str]] = []

    def note(argv: list[str]) -> CommandResult:
        commands.append(argv)
        return CommandResult(0, SHOWN, "")

    units = _host.ask_units(note, ["docker.socket", "triton"])
    assert [argv[-2:] for argv in commands] == [["docker.socket", "triton.service"]]
    assert list(units) == ["docker.socket", "triton"]


@pytest.mark.parametrize(
    ("service", "socket_state", "blocked"),
    [
        ("inactive", "active", True),
        ("failed", "active", True),
        ("active", "active", False),
        ("activating", "active", False),
        ("inactive", "inactive", False),
    ],
)
def test_an_engine_that_asking_would_start_is_not_asked(service: str, socket_state: str, blocked: bool) -> None:
    units = {
        "docker.service": {"active_state": service, "sub_state": "dead"},
        "docker.socket": {"active_state": socket_state, "sub_state": "listening"},
    }
    reason = _host.sleeping_engine(units)
    assert (reason == f"docker.service is {service} (dead)") is blocked
    assert (reason is None) is not blocked


def test_without_systemd_the_engine_is_asked() -> None:
    assert _host.sleeping_engine({}) is None


# --- ports -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "decoded"),
    [
        ("0100007F:1F40", ("127.0.0.1", 8000)),
        ("00000000:0016", ("0.0.0.0", 22)),
        ("00000000000000000000000001000000:1F41", ("::1", 8001)),
        ("00000000000000000000000000000000:1F42", ("::", 8002)),
    ],
)
def test_addresses_of_the_kernels_table(text: str, decoded: tuple[str, int]) -> None:
    assert _host.decode_address(text) == decoded


@pytest.mark.parametrize(
    ("wanted", "held", "overlap"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.1", "0.0.0.0", True),
        ("127.0.0.1", "::", True),
        ("0.0.0.0", "127.0.0.1", True),
        ("0.0.0.0", "::1", False),
        ("0.0.0.0", "::", True),
        ("::", "127.0.0.1", True),
        ("::1", "0.0.0.0", False),
        ("::1", "::1", True),
        ("10.0.0.1", "::ffff:10.0.0.1", True),
    ],
)
def test_which_listener_is_in_the_way(wanted: str, held: str, overlap: bool) -> None:
    assert _host.overlaps(wanted, held) is overlap


def test_a_free_port() -> None:
    with listening() as port:
        pass
    (row,) = _host.port_facts([{"address": "127.0.0.1", "port": port}])
    assert row == {
        "address": "127.0.0.1",
        "port": port,
        "free": True,
        "reason": None,
        "held_by": None,
        "pid": None,
        "process": None,
        "container": None,
    }


def test_a_taken_port_names_its_process() -> None:
    with listening() as port:
        (row,) = _host.port_facts([{"address": "127.0.0.1", "port": port}])
    assert (row["free"], row["reason"], row["held_by"], row["pid"]) == (False, "in_use", "process", os.getpid())
    assert row["process"] == Path("/proc/self/comm").read_text().strip()


def test_a_wildcard_listener_takes_the_port_of_every_address() -> None:
    with listening("::", socket.AF_INET6) as port:
        (row,) = _host.port_facts([{"address": "127.0.0.1", "port": port}])
    assert (row["free"], row["pid"]) == (False, os.getpid())


@pytest.mark.parametrize(
    ("address", "port", "reason"),
    [("192.0.2.1", 8000, "no_such_address"), ("not an address", 8000, "invalid_address"), ("127.0.0.1", 70000, "invalid_port")],
)
def test_what_cannot_be_bound_has_a_reason(address: str, port: int, reason: str) -> None:
    (row,) = _host.port_facts([{"address": address, "port": port}])
    assert (row["free"], row["reason"], row["held_by"]) == (False, reason, None)


def test_a_privileged_port_is_looked_up_in_the_kernels_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_host, "try_bind", lambda _address, _port: "not_permitted")
    monkeypatch.setattr(_host, "listeners", lambda: [("127.0.0.1", 80, "0")])
    rows = _host.port_facts([{"address": "127.0.0.1", "port": 80}, {"address": "127.0.0.1", "port": 81}])
    assert [(row["free"], row["reason"]) for row in rows] == [(False, "in_use"), (True, None)]


@pytest.mark.parametrize(("own", "held_by"), [(CONTAINER_ID, "container"), ("another", "process")])
def test_a_published_port_is_told_by_its_container(own: str, held_by: str) -> None:
    with listening() as port:
        published = [{"address": "0.0.0.0", "port": port, "container": "triton", "id": CONTAINER_ID}]
        (row,) = _host.port_facts(
            [{"address": "127.0.0.1", "port": port}], published, {"id": own}, "mine" if own != CONTAINER_ID else "triton"
        )
    assert (row["free"], row["held_by"], row["container"], row["pid"]) == (False, held_by, "triton", os.getpid())


def test_a_published_port_without_a_listener_is_taken_too() -> None:
    with listening() as port:
        pass
    published = [{"address": "127.0.0.1", "port": port, "container": "other", "id": "2"}]
    (row,) = _host.port_facts([{"address": "127.0.0.1", "port": port}], published)
    assert (row["free"], row["reason"], row["held_by"], row["container"], row["pid"]) == (False, "in_use", "process", "other", None)


def test_a_container_on_the_hosts_network_is_told_by_its_control_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_host, "process_container", lambda _pid: CONTAINER_ID)
    with listening() as port:
        wanted = [{"address": "127.0.0.1", "port": port}]
        (own,) = _host.port_facts(wanted, [], {"id": CONTAINER_ID}, "triton")
        (other,) = _host.port_facts(wanted, [], {"id": "another"}, "triton")
    assert (own["held_by"], own["container"]) == ("container", "triton")
    assert (other["held_by"], other["container"]) == ("process", None)


@pytest.mark.parametrize(
    "line",
    [
        f"0::/system.slice/docker-{CONTAINER_ID}.scope",
        f"12:memory:/docker/{CONTAINER_ID}",
        f"0::/system.slice/docker-{'cd' * 32}.scope/docker/{CONTAINER_ID}",
    ],
)
def test_the_container_in_a_control_group(tmp_path: Path, line: str) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "cgroup").write_text(line + "\n")
    assert _host.process_container(1, str(tmp_path)) == CONTAINER_ID


def test_no_container_in_a_control_group(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "cgroup").write_text("0::/system.slice/ssh.service\n")
    assert _host.process_container(1, str(tmp_path)) is None
    assert _host.process_container(2, str(tmp_path)) is None
    assert _host.process_name(2, str(tmp_path)) is None


# --- paths -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A repository that everybody may reach: pytest's own folders are its user's alone."""
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    top = tmp_path / "models"
    for name in ("add_sub/1", "densenet/2.tmp", ".git"):
        (top / name).mkdir(parents=True)
    (top / "add_sub" / "config.pbtxt").touch()
    (top / "README").touch()
    (top / "link").symlink_to("add_sub")
    return top


def test_a_folder_two_levels_deep(models: Path) -> None:
    row = _host.path_facts(str(models) + "/", 2, UID, GID)
    assert {entry["name"]: [child["name"] for child in entry["entries"]] for entry in row["entries"]} == {
        ".git": [],
        "README": [],
        "add_sub": ["1", "config.pbtxt"],
        "densenet": ["2.tmp"],
        "link": ["1", "config.pbtxt"],
    }
    assert {entry["name"]: entry["type"] for entry in row["entries"]} == {
        ".git": "directory",
        "README": "file",
        "add_sub": "directory",
        "densenet": "directory",
        "link": "link",
    }
    assert row["path"] == str(models)
    assert (row["exists"], row["is_dir"], row["type"], row["entries_truncated"], row["error"]) == (True, True, "directory", False, None)


def test_one_level_is_the_default(models: Path) -> None:
    row = _host.path_facts(str(models), uid=UID, gid=GID)
    assert row["entries"][0] == {"name": ".git", "type": "directory"}


def test_owner_mode_and_room(models: Path) -> None:
    models.chmod(0o755)
    row = _host.path_facts(str(models), uid=UID, gid=GID)
    system = os.statvfs(models)
    assert (row["mode"], row["uid"], row["gid"]) == ("0755", os.getuid(), os.getgid())
    assert row["total_bytes"] == system.f_blocks * system.f_frsize
    assert 0 < row["free_bytes"] <= row["total_bytes"]
    assert row["read_only"] is False
    assert row["mount_point"]
    assert row["fs_type"]


def test_a_path_that_is_not_there_tells_of_its_file_system(models: Path) -> None:
    row = _host.path_facts(str(models / "a" / "b"), uid=UID, gid=GID)
    there = _host.path_facts(str(models), uid=UID, gid=GID)
    assert (row["exists"], row["type"], row["mode"], row["readable"], row["entries"]) == (False, None, None, None, [])
    assert (row["mount_point"], row["total_bytes"]) == (there["mount_point"], there["total_bytes"])


def test_a_link_that_points_nowhere(models: Path) -> None:
    (models / "broken").symlink_to("nowhere")
    row = _host.path_facts(str(models / "broken"), uid=UID, gid=GID)
    assert (row["exists"], row["type"], row["error"]) == (False, "link", None)


def test_a_file_is_no_folder(models: Path) -> None:
    row = _host.path_facts(str(models / "README"), uid=UID, gid=GID)
    assert (row["exists"], row["is_dir"], row["type"], row["readable"]) == (True, False, "file", True)


def content(path: Path) -> str | None:
    return _host.path_facts(str(path), uid=UID, gid=GID, content=True)["content"]


def test_the_content_of_a_small_text_and_of_nothing_else(models: Path) -> None:
    text = models / "README"
    text.write_text("é\n", encoding="utf-8")
    assert content(text) == "é\n"
    assert _host.path_facts(str(text), uid=UID, gid=GID)["content"] is None, "nobody asked"
    text.write_bytes(b"x" * _host.CONTENT_LIMIT)
    assert content(text) == "x" * _host.CONTENT_LIMIT
    text.write_bytes(b"x" * (_host.CONTENT_LIMIT + 1))
    assert content(text) is None
    text.write_bytes(b"\xff")
    assert content(text) is None
    os.mkfifo(models / "pipe")
    assert [content(models / name) for name in ("pipe", "add_sub", "none")] == [None, None, None]


def test_only_the_path_itself_is_a_mount(models: Path) -> None:
    mounts = [Mount("/", "ext4", "/dev/vda"), Mount(str(models.parent), "nfs4", "server:/x"), Mount(str(models), "xfs", "/dev/vdb")]
    assert _host.path_facts(str(models), uid=UID, gid=GID, mounts=mounts)["is_mount"] is True
    inside = _host.path_facts(str(models / "add_sub"), uid=UID, gid=GID, mounts=mounts)
    assert (inside["is_mount"], inside["mount_point"], inside["fs_type"]) == (False, str(models), "xfs")
    assert _host.path_facts(str(models / "link"), uid=UID, gid=GID, mounts=mounts)["mount_point"] == str(models)
    assert _host.path_facts(str(models / "gone"), uid=UID, gid=GID, mounts=mounts)["is_mount"] is False


def test_what_the_user_can_read(models: Path) -> None:
    row = _host.path_facts(str(models), uid=UID, gid=GID)
    assert (row["readable"], row["unreadable"]) == (True, [])
    assert row["writable_by_user"] is (not IS_ROOT)


def test_what_the_user_cannot_read_is_named(models: Path) -> None:
    # For a user who is not root these are their own files: then nobody at all may read them.
    (models / "densenet").chmod(0o600 if not IS_ROOT else 0o700)
    (models / "README").chmod(0o200)
    row = _host.path_facts(str(models), uid=UID, gid=GID)
    (models / "densenet").chmod(0o755)
    assert (row["readable"], row["unreadable"]) == (False, ["README", "densenet"])


def test_a_closed_folder_above_closes_all_below(models: Path) -> None:
    models.parent.chmod(0o700 if IS_ROOT else 0o600)
    row = _host.path_facts(str(models), uid=UID, gid=GID)
    models.parent.chmod(0o755)
    assert row["readable"] is (False if IS_ROOT else None)


def test_the_module_itself_stays_who_it_was(models: Path) -> None:
    _host.path_facts(str(models), uid=UID, gid=GID)
    assert os.getresuid() == (os.getuid(),) * 3
    assert os.geteuid() == (0 if IS_ROOT else UID)


def test_more_entries_than_the_limit(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries, truncated = _host.list_entries(str(models), 2, limit=3)
    assert ([entry["name"] for entry in entries], truncated) == ([".git", "README", "add_sub"], True)
    for number in range(4):
        (models / "add_sub" / str(number)).mkdir(exist_ok=True)
    assert _host.list_entries(str(models), 2, limit=5)[1] is False
    assert _host.list_entries(str(models), 2, limit=4)[1] is True
    monkeypatch.setattr(_host, "ENTRIES_LIMIT", 2)
    assert _host.access_as_this_user(str(models))["readable"] is True


def test_a_mount_that_is_gone_holds_nothing_up(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dead(*_args: object) -> dict[str, t.Any]:
        signal.pause()
        raise AssertionError

    monkeypatch.setattr(_host, "look_at_path", dead)
    row = _host.path_facts(str(models), uid=UID, gid=GID, timeout=0.2)
    assert row["exists"] is False
    assert "did not answer within 0.2 s" in row["error"]


def test_a_fault_of_the_disk_is_told(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object) -> dict[str, t.Any]:
        raise OSError(5, "Input/output error", str(models))

    monkeypatch.setattr(_host, "look_at_path", broken)
    assert _host.path_facts(str(models), uid=UID, gid=GID)["error"] == f"{models}: Input/output error"


def test_a_child_that_dies_is_told(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_args: object) -> dict[str, t.Any]:
        os._exit(9)

    monkeypatch.setattr(_host, "look_at_path", crash)
    assert "could not be looked at" in _host.path_facts(str(models), uid=UID, gid=GID)["error"]


def test_names_that_are_not_text_do_no_harm(models: Path) -> None:
    Path(os.fsdecode(os.fsencode(str(models)) + b"/\xff")).touch()
    row = _host.path_facts(str(models), uid=UID, gid=GID)
    assert len(row["entries"]) == 6


# --- hardware ----------------------------------------------------------------------------------------------------------


def test_gpus_are_nvidias_display_and_3d_controllers(tmp_path: Path) -> None:
    cards = {
        "0000:65:00.0": ("0x10de", "0x2330", "0x030200"),
        "0000:01:00.0": ("0x10de", "0x1eb8", "0x030000"),
        "0000:01:00.1": ("0x10de", "0x10f8", "0x040300"),
        "0000:00:02.0": ("0x8086", "0x3e98", "0x030000"),
    }
    for name, values in cards.items():
        folder = tmp_path / "bus/pci/devices" / name
        folder.mkdir(parents=True)
        for file, value in zip(("vendor", "device", "class"), values):
            (folder / file).write_text(value + "\n")
    assert _host.gpu_facts(str(tmp_path)) == {
        "count": 2,
        "devices": [
            {"pci": "0000:01:00.0", "vendor_id": "0x10de", "device_id": "0x1eb8"},
            {"pci": "0000:65:00.0", "vendor_id": "0x10de", "device_id": "0x2330"},
        ],
    }


def test_a_host_without_a_pci_bus_has_no_gpu(tmp_path: Path) -> None:
    assert _host.gpu_facts(str(tmp_path)) == {"count": 0, "devices": []}


# --- all of it ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A host with no programs at all and no systemd; programs put into the folder are there."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setattr(_host, "find_program", lambda name: str(tmp_path / "bin" / name) if (tmp_path / "bin" / name).exists() else None)
    monkeypatch.setattr(_host, "has_systemd", lambda: False)
    return tmp_path


def program(folder: Path, name: str, text: str) -> None:
    path = folder / "bin" / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_a_virgin_host_fails_nothing(bare: Path) -> None:
    facts = _host.collect(
        run,
        paths=[_host.PathQuery("/no/such/path", 2)],
        ports=[{"address": "127.0.0.1", "port": 0}],
        container="triton",
        units=["docker"],
        image="triton:1",
        docker_socket=str(bare / "none"),
        sysfs=str(bare),
    )
    assert facts["docker"] == {
        "installed": False,
        "client_version": None,
        "running": False,
        "server_version": None,
        "error": f"Cannot connect to the Docker Engine at {bare}/none: No such file or directory",
        "compose_version": None,
        "compose_legacy": False,
        "root_dir": None,
        "architecture": None,
        "runtimes": [],
        "cdi": False,
    }
    assert (facts["container"], facts["image"]["present"], facts["units"], facts["systemd"]) == (None, False, {}, False)
    assert facts["image"]["error"] == facts["docker"]["error"]
    assert facts["gpus"]["count"] == 0
    assert facts["cpus"] >= 1
    assert facts["memory_bytes"] > 0
    assert facts["hostname"]
    assert facts["kernel"]


def test_a_host_that_has_everything(bare: Path, engine: _Server) -> None:
    program(bare, "docker", 'case "$1" in --version) echo "Docker version 26.1.5, build 1";; compose) echo 2.26.1-4;; esac')
    engine.answers["/containers/triton/json"] = (200, json.dumps(CONTAINER).encode())
    engine.answers["/containers/json"] = (200, b"[]")
    engine.answers["/images/triton:1/json"] = (200, b'{"Id": "sha256:1"}')
    facts = _host.collect(
        run, container="triton", image="triton:1", ports=[{"address": "127.0.0.1", "port": 0}], docker_socket=str(engine.server_address)
    )
    assert facts["docker"] == {
        "installed": True,
        "client_version": "26.1.5",
        "running": True,
        "server_version": "26.1.5",
        "error": None,
        "compose_version": "2.26.1",
        "compose_legacy": False,
        "root_dir": "/var/lib/docker",
        "architecture": "x86_64",
        "runtimes": ["nvidia", "runc"],
        "cdi": True,
    }
    assert facts["container"]["id"] == CONTAINER_ID
    assert facts["image"]["id"] == "sha256:1"
    assert engine.asked == ["/info", "/containers/json", "/containers/triton/json", "/images/triton:1/json"]


def test_a_client_without_the_plugin(bare: Path) -> None:
    program(bare, "docker", 'case "$1" in --version) echo "Docker version 20.10.24";; *) echo "not a docker command" >&2; exit 1;; esac')
    program(bare, "docker-compose", "echo 1.29.2")
    (bare / "bin" / "docker-compose").write_text("#!/usr/bin/python3\n")
    docker = _host.collect(run, docker_socket=str(bare / "none"))["docker"]
    assert (docker["installed"], docker["client_version"], docker["compose_version"], docker["compose_legacy"]) == (
        True,
        "20.10.24",
        None,
        True,
    )


def test_something_else_on_the_socket(bare: Path, engine: _Server) -> None:
    engine.answers["/info"] = (200, b"{}")
    docker = _host.collect(run, docker_socket=str(engine.server_address))["docker"]
    assert docker["running"] is False
    assert "is not a Docker Engine" in docker["error"]
    assert (bare / "bin").exists()


def test_units_of_the_engine_are_asked_for_but_not_told(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_host, "has_systemd", lambda: True)
    blocks = ["LoadState=loaded\nActiveState=inactive\nSubState=dead\nUnitFileState=enabled", "ActiveState=active", "LoadState=not-found"]

    def systemctl(_argv: list[str]) -> CommandResult:
        return CommandResult(0, "\n\n".join(blocks) + "\n", "")

    facts = _host.collect(systemctl, units=["triton"], docker_socket=str(bare / "none"))
    assert list(facts["units"]) == ["triton"]
    assert facts["units"]["triton"]["load_state"] == "not-found"
    assert facts["docker"]["error"] == "docker.service is inactive (dead)"
