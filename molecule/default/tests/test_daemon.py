# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of a real Docker below a Triton that serves: merged, brought into force, refused, taken back.

These tests come before the others of the scenario, and leave the host as they found it: without a daemon.json.
"""

from __future__ import annotations

import json

import labtest
import pytest

ENGINE = "gpufleet.triton.docker_engine"
CONVERGE = str(labtest.CHECKOUT / "molecule/default/converge.yml")
MODELS = {"add_sub": "READY", "digits": "READY"}
SUM, DIFFERENCE = [11, 22, 33, 44], [-9, -18, -27, -36]
FILE = "/etc/docker/daemon.json"
PENDING = "/run/gpufleet/docker.pending"

# Somebody's own, in a hand of its own.
FOREIGN = """\
{
     "runtimes" : { "other" : { "path" : "/usr/sbin/runc" } },
     "features" : {"buildkit":true,   "time-namespaces":false},
     "max-concurrent-downloads" : 2
}
"""
ROTATION = {"log-driver": "json-file", "log-opts": {"max-size": "10m", "max-file": "3"}}


class Docker:
    """The engine of a host, asked by other ways than the modules'."""

    def __init__(self, host: labtest.LabHost) -> None:
        self.host = host

    @property
    def pid(self) -> int:
        return int(self.host.sh("systemctl show -P MainPID docker"))

    @property
    def starts(self) -> int:
        return int(self.host.sh("journalctl -u docker --no-pager -o cat | grep -c 'Started docker.service'"))

    def info(self, field: str) -> object:
        return json.loads(self.host.sh(f"docker info -f '{{{{json .{field}}}}}'"))

    def write(self, text: str) -> None:
        # printf knows more than it should of a backslash or a percent sign; the texts of these tests have none.
        self.host.sh(f"mkdir -p /etc/docker && printf '{text}' >{FILE}")

    @property
    def text(self) -> str:
        return self.host.run(f"cat {FILE}").stdout


def as_found(gpu1, wait_until):
    """No file, an engine that has read none, and the server below it."""
    gpu1.sh(f"rm -f {FILE} {FILE}.*~ {PENDING} && systemctl reset-failed docker.service docker.socket && systemctl restart docker")
    wait_until(lambda: gpu1.service("triton").is_running and gpu1.index() == MODELS, 120)


@pytest.fixture(scope="module", autouse=True)
def _left_as_found(gpu1, wait_until):
    assert not gpu1.file(FILE).exists
    yield
    as_found(gpu1, wait_until)


@pytest.fixture
def docker(gpu1):
    return Docker(gpu1)


def test_check_mode_on_a_bare_host_predicts_the_file(bare, play):
    predicted = play(ENGINE, limit="bare", check=True, docker_engine_daemon_options=ROTATION)
    assert predicted.rc == 0, predicted.text
    assert f"after: {FILE}" in predicted.text and '+ "log-driver": "json-file"' in predicted.text
    assert not bare.file("/etc/docker").exists


def test_what_somebody_else_has_set_is_kept(gpu1, play, docker):
    docker.write(FOREIGN)
    before, started = docker.pid, gpu1.triton_container()["State"]["StartedAt"]
    options = {"labels": ["rack=7"], "features": {"buildkit": True}}
    predicted = play(ENGINE, check=True, docker_engine_daemon_options=options)
    assert predicted.rc == 0 and docker.text == FOREIGN, predicted.text
    done = play(ENGINE, docker_engine_daemon_options=options)
    assert done.rc == 0 and "Docker is reloaded to take labels" in done.text, done.text
    assert docker.text == FOREIGN.replace(": 2\n}", ': 2,\n     "labels" : [\n          "rack=7"\n     ]\n}')
    assert gpu1.sh(f"cat {FILE}.*~") == FOREIGN.rstrip("\n")
    assert docker.info("Labels") == ["rack=7"]
    assert "other" in docker.info("Runtimes")
    # The engine is the one that it was, and so is the server.
    assert docker.pid == before
    assert gpu1.triton_container()["State"]["StartedAt"] == started
    assert gpu1.index() == MODELS


def test_a_second_run_changes_nothing(gpu1, play, docker):
    before = gpu1.sh(f"stat -c '%i %Z' {FILE}"), docker.pid
    options = {"labels": ["rack=7"], "features": {"buildkit": True}}
    for check in (True, False):
        assert play(ENGINE, check=check, docker_engine_daemon_options=options).counts["changed"] == 0
    # What is no longer asked for stays.
    assert play(ENGINE).counts["changed"] == 0
    assert (gpu1.sh(f"stat -c '%i %Z' {FILE}"), docker.pid) == before


def test_log_rotation_restarts_docker_once_and_the_server_is_gated(gpu1, play, docker):
    before, starts = docker.pid, docker.starts
    done = play(playbook=CONVERGE, docker_engine_daemon_options=ROTATION)
    assert done.rc == 0 and "Docker is restarted to take log-driver, log-opts.max-size, log-opts.max-file" in done.text, done.text
    # The play ended, so the models are there: that is what the gate is for.
    assert gpu1.index() == MODELS
    assert gpu1.add_sub() == (SUM, DIFFERENCE)
    assert (docker.pid != before, docker.starts) == (True, starts + 1)
    assert json.loads(docker.text)["runtimes"] == {"other": {"path": "/usr/sbin/runc"}}
    gpu1.sh("docker create --name rotated gpufleet-lab/triton:2.51.0 true")
    try:
        config = json.loads(gpu1.sh("docker inspect -f '{{json .HostConfig.LogConfig}}' rotated"))
    finally:
        gpu1.sh("docker rm rotated")
    assert config == {"Type": "json-file", "Config": ROTATION["log-opts"]}
    before = docker.pid
    assert play(playbook=CONVERGE, docker_engine_daemon_options=ROTATION).counts["changed"] == 0
    assert docker.pid == before


def test_with_live_restore_the_server_runs_on(gpu1, play, docker, wait_until):
    """Also when it is set in the same run as what needs the restart."""
    before, server = docker.pid, gpu1.triton_container()["State"]
    done = play(ENGINE, docker_engine_daemon_options={"live-restore": True, "mtu": 1400})
    assert done.rc == 0, done.text
    assert docker.pid != before
    after = gpu1.triton_container()["State"]
    assert (after["Pid"], after["StartedAt"]) == (server["Pid"], server["StartedAt"])
    wait_until(lambda: gpu1.service("triton").is_running and gpu1.index() == MODELS)


def test_a_run_that_was_cut_off_before_the_restart_is_finished_by_the_next(gpu1, play, docker):
    """As if a play had written the file and then lost its connection."""
    before = docker.pid
    done = play(ENGINE, tags="docker_engine_configure", docker_engine_daemon_options={"mtu": 1380})
    assert done.rc == 0 and json.loads(docker.text)["mtu"] == 1380 and docker.pid == before, done.text
    done = play(ENGINE, docker_engine_daemon_options={"mtu": 1380})
    assert done.rc == 0 and "Docker is restarted to take mtu" in done.text, done.text
    assert docker.pid != before
    assert not gpu1.file(PENDING).exists
    assert play(ENGINE, docker_engine_daemon_options={"mtu": 1380}).counts["changed"] == 0


def test_several_roles_have_one_restart(play, docker):
    starts = docker.starts
    done = play(ENGINE, docker_engine_daemon_options={"mtu": 1390}, docker_engine_daemon_restart="later")
    assert done.rc == 0 and "Docker has not taken mtu yet" in done.text, done.text
    assert docker.starts == starts
    done = play(ENGINE, docker_engine_daemon_options={"mtu": 1390, "icc": True})
    assert done.rc == 0 and "Docker is restarted to take mtu, icc" in done.text, done.text
    assert docker.starts == starts + 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        # Passes 'dockerd --validate', and the reload too.
        ({"log-opts": {"max-filex": "3"}}, ["new log-opts.max-filex", "unknown log opt 'max-filex'"]),
        # Passes 'dockerd --validate', and the reload is refused.
        ({"registry-mirrors": ["https://bob:hush@mirror.example.com"]}, ["new registry-mirrors", "username/password not allowed"]),
    ],
    ids=["at the start", "at the reload"],
)
def test_settings_that_docker_does_not_take_are_taken_back(gpu1, play, docker, wait_until, options, words):
    before, server = docker.text, gpu1.triton_container()["State"]["Pid"]
    done = play(ENGINE, docker_engine_daemon_options=options)
    assert done.rc != 0, done.text
    for word in (*words, "The settings before are in force again, and Docker runs with them"):
        assert word in done.text
    assert "hush" not in done.text
    assert docker.text == before
    assert gpu1.sh("systemctl is-active docker") == "active"
    assert gpu1.triton_container()["State"]["Pid"] == server, "live-restore is on"
    assert not gpu1.file(PENDING).exists
    wait_until(lambda: gpu1.service("triton").is_running and gpu1.index() == MODELS)


REFUSED = {
    "sockets": ({"hosts": ["unix:///run/docker.sock"]}, ["'hosts' cannot be set here", "systemctl edit docker.service"]),
    "a number in log-opts": ({"log-opts": {"max-file": 3}}, ["log-opts.max-file is 3, but dockerd wants a text"]),
    "a truth value in quotes": ({"live-restore": "yes"}, ["live-restore is a text, but dockerd wants true or false"]),
    "what is an argument of the unit": (
        {"containerd": "/run/other.sock"},
        ["specified both as a flag and in the configuration file: containerd", "leave it out of the settings"],
    ),
    "an unknown setting": ({"log-optz": "x"}, ["don't match any configuration option"]),
    "another place for the data": ({"data-root": "/srv/docker"}, ["nothing is moved", "accept it with docker_engine_daemon_accept"]),
}


def test_bad_settings_end_in_preflight(play_cases, docker):
    before = docker.text, docker.pid
    results = play_cases(ENGINE, cases={case: {"docker_engine_daemon_options": options} for case, (options, _words) in REFUSED.items()})
    for case, (_options, words) in REFUSED.items():
        done = results[case]
        assert done.rc != 0 and done.counts["changed"] == 0, done.text
        for word in words:
            assert word in done.text, case
    assert (docker.text, docker.pid) == before


def test_a_file_that_is_broken_is_refused_and_left(gpu1, play, docker):
    before, pid = docker.text, docker.pid
    broken = '{\n  // for now\n  "debug": true\n}\n'
    docker.write(broken)
    try:
        done = play(ENGINE, docker_engine_daemon_options={"debug": False})
        left = docker.text
    finally:
        docker.write(before)
    assert done.rc != 0 and done.counts["changed"] == 0, done.text
    assert f"{FILE}: line 2, column 3: there is a comment" in done.text
    assert left == broken
    assert docker.pid == pid


def test_the_settings_can_be_taken_out_again(gpu1, play, docker, tmp_path):
    """Everything that these tests have set, in one call of the module; what is left is somebody else's, as it was."""
    keys = ["labels", "log-driver", "log-opts", "live-restore", "mtu", "icc"]
    playbook = tmp_path / "absent.yml"
    task = {"gpufleet.triton.docker_daemon_config": {"state": "absent", "keys": keys}}
    playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [task]}]))
    done = play(playbook=str(playbook))
    assert (done.rc, done.counts["changed"]) == (0, 1), done.text
    assert docker.text == FOREIGN
