# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two hosts with eight GPUs each, one by Docker's hook and one by CDI, and a host without any."""

from __future__ import annotations

import json

import pytest
from labtest import LabHost

TOOLKIT = "gpufleet.triton.nvidia_container_toolkit"
SERVER = "gpufleet.triton.triton_server"
SITE = "gpufleet.triton.site"
PACKAGES = ["libnvidia-container-tools", "libnvidia-container1", "nvidia-container-toolkit", "nvidia-container-toolkit-base"]
SPECIFICATION = "/etc/cdi/nvidia.yaml"
SOURCES = "/etc/apt/sources.list.d"
NODES = {
    "gpu1": ["nvidia0", "nvidia1", "nvidia2", "nvidia3", "nvidiactl"],
    "gpu2": ["nvidia4", "nvidia5", "nvidia6", "nvidia7", "nvidiactl"],
}


@pytest.fixture(scope="module")
def gpu2() -> LabHost:
    return LabHost("gpu2")


@pytest.fixture(scope="module")
def plain() -> LabHost:
    return LabHost("plain")


def versions(host: LabHost) -> dict[str, str]:
    """Package -> version of what is installed. A package that was removed and whose settings stayed is in it, too, with a status."""
    rows = host.host.run(f"dpkg-query -W -f '${{Package}} ${{Version}} ${{db:Status-Abbrev}}\\n' {' '.join(PACKAGES)}").stdout
    return {name: version if status == "hi" else f"{version} {status}" for name, version, status in map(str.split, rows.splitlines())}


def devices(host: LabHost) -> list[str]:
    return [name for name in host.sh("docker exec triton ls /dev").split() if name.startswith("nvidia")]


def starts_of_docker(host: LabHost) -> int:
    return int(host.sh("journalctl --unit docker.service --identifier systemd --grep '^Started docker' --output cat | wc -l"))


def daemon_json(host: LabHost) -> dict:
    return json.loads(host.sh("cat /etc/docker/daemon.json"))


def started_at(host: LabHost) -> str:
    return host.triton_container()["State"]["StartedAt"]


def test_docker_was_restarted_once(gpu1, gpu2):
    """For the settings of two roles and for the hook. The other start is the one that installed it."""
    assert [starts_of_docker(host) for host in (gpu1, gpu2)] == [2, 2]
    for host in (gpu1, gpu2):
        assert daemon_json(host)["log-opts"] == {"max-size": "50m"} and not host.file("/run/gpufleet/docker.pending").exists


def test_eight_gpus_are_split_by_ids(gpu1, gpu2):
    assert {host.name: devices(host) for host in (gpu1, gpu2)} == NODES
    environment = gpu1.triton_container()["Config"]["Env"]
    assert not any("NVIDIA_VISIBLE_DEVICES" in entry for entry in environment), "the hook's, not the container's own"
    drivers = [host.triton_container()["HostConfig"]["DeviceRequests"][0]["Driver"] for host in (gpu1, gpu2)]
    assert drivers == ["nvidia", "cdi"]
    assert [host.http("/v2/health/ready")[0] for host in (gpu1, gpu2)] == [200, 200]


def test_the_packages_are_pinned_and_held(gpu1, gpu2):
    for host in (gpu1, gpu2):
        assert versions(host) == dict.fromkeys(PACKAGES, "1.20.0-1")
        assert "1.21.0-1" in host.sh("apt-cache madison nvidia-container-toolkit"), "there is a newer one that it is pinned against"
        assert "Candidate: 1.20.0-1" in host.sh("apt-cache policy nvidia-container-toolkit")
        host.sh("mv /etc/apt/preferences.d/nvidia-container-toolkit /root/pin")
        held = host.sh("apt-get --simulate dist-upgrade")
        host.sh("mv /root/pin /etc/apt/preferences.d/nvidia-container-toolkit")
        assert "Inst nvidia" not in held and "Inst libnvidia" not in held, held


def test_what_others_had_set_stays_in_its_order(gpu2):
    before = gpu2.sh("cat /root/daemon.json")
    after = gpu2.sh("cat /etc/docker/daemon.json")
    assert list(daemon_json(gpu2)) == [*json.loads(before), "log-opts"]
    assert daemon_json(gpu2)["runtimes"]["other"] == {"path": "/usr/bin/runc"}
    assert list(daemon_json(gpu2)["features"].items()) == [("buildkit", True), ("cdi", True)]
    assert '"default-address-pools": [ {"base": "10.200.0.0/16", "size": 24} ]' in after, "as it was written"
    assert {"other", "nvidia", "runc"} <= set(json.loads(gpu2.sh("docker info -f '{{json .Runtimes}}'")))


def test_old_repositories_are_gone_and_apt_takes_the_new_one(gpu1):
    assert "nvidia-docker.list" not in gpu1.sh(f"ls {SOURCES}") and not gpu1.file(f"{SOURCES}/nvidia-container-toolkit.list").exists
    done = gpu1.host.run("apt-get update")
    # Other repositories may be out of reach; of this one nothing is said against.
    assert "Signed-By" not in done.stderr and "/srv/" not in done.stderr, done.stderr


def test_settings_of_the_toolkit_are_set(gpu1, gpu2):
    key = "accept-nvidia-visible-devices-envvar-when-unprivileged"
    values = [host.sh(f"grep '^{key}' /etc/nvidia-container-runtime/config.toml") for host in (gpu1, gpu2)]
    assert values == [f"{key} = true", f"{key} = false"]


def test_the_unit_renews_the_specification_with_debians_open_module(gpu2):
    """Its own condition knows the names nvidia and nvidia-current alone."""
    text = gpu2.sh(f"cat {SPECIFICATION}")
    gpu2.sh(f"rm {SPECIFICATION} && systemctl restart nvidia-cdi-refresh.service")
    assert gpu2.sh(f"cat {SPECIFICATION}") == text
    assert not gpu2.file("/var/run/cdi/nvidia.yaml").exists, "Docker would take this one"
    assert gpu2.sh("systemctl is-enabled nvidia-cdi-refresh.service nvidia-cdi-refresh.path").split() == ["enabled", "enabled"]


def test_a_host_without_a_gpu_is_left_as_it_is(plain, play):
    listed = "find /etc /usr/bin /opt -newer /srv/toolkit/gpgkey -type f | sort"
    before = plain.sh(listed)
    done = play(TOOLKIT, limit="plain")
    assert (done.rc, done.counts["changed"]) == (0, 0) and "shows no NVIDIA GPU" in done.text, done.text
    assert plain.sh(listed) == before and versions(plain) == {}


def test_after_a_change_of_the_driver_the_specification_is_another(gpu2, play):
    docker, server = starts_of_docker(gpu2), started_at(gpu2)
    gpu2.sh("python3 /opt/doubles/gpu_host.py 8 580.173.02")
    assert "580.159.03" in gpu2.sh(f"cat {SPECIFICATION}")
    done = play(TOOLKIT, SERVER, limit="gpu2")
    assert done.rc == 0 and "made anew: it was made for the driver 580.159.03" in done.text, done.text
    text = gpu2.sh(f"cat {SPECIFICATION}")
    assert "580.173.02" in text and "580.159.03" not in text
    # The server has the new libraries, and Docker was none the wiser.
    assert started_at(gpu2) != server and starts_of_docker(gpu2) == docker
    assert "libcuda.so.580.173.02" in gpu2.sh("docker exec triton cat /proc/mounts") and devices(gpu2) == NODES["gpu2"]


@pytest.mark.thorough
def test_after_a_boot_the_server_has_its_gpus_again(gpu2, wait_until):
    """By CDI this Docker can't start it again, so it is the unit that does."""
    gpu2.reboot()
    wait_until(lambda: gpu2.http("/v2/health/ready")[0] == 200, seconds=120)
    assert devices(gpu2) == NODES["gpu2"]


@pytest.mark.thorough
def test_a_version_with_a_hole_is_refused_and_can_be_insisted_on(gpu1, play):
    done = play(TOOLKIT, nvidia_container_toolkit_version="1.18.2")
    assert done.rc != 0 and done.counts["changed"] == 0, done.text
    for word in ("CVE-2026-24260", "Set it to 1.19.1 or newer", "nvidia_container_toolkit_accept_known_holes"):
        assert word in done.text
    done = play(TOOLKIT, nvidia_container_toolkit_version="1.18.2", nvidia_container_toolkit_accept_known_holes=True)
    assert done.rc == 0 and versions(gpu1) == dict.fromkeys(PACKAGES, "1.18.2-1"), done.text
    done = play(TOOLKIT)
    assert done.rc == 0 and versions(gpu1) == dict.fromkeys(PACKAGES, "1.20.0-1"), done.text
    done = play(TOOLKIT)
    assert (done.rc, done.counts["changed"]) == (0, 0), done.text


@pytest.mark.parametrize(
    ("role", "options", "words"),
    [
        (
            TOOLKIT,
            {"nvidia_container_toolkit_version": "9.9.9"},
            ["Cannot install the NVIDIA Container Toolkit 9.9.9", "apt-cache policy", "Docker was not touched"],
        ),
        (
            TOOLKIT,
            {"nvidia_container_toolkit_config": {"no-such-setting": 1}},
            ["does not take nvidia_container_toolkit_config", "no-such-setting", "Nothing was set"],
        ),
        (SERVER, {"triton_server_gpus": [0, 8]}, ["triton_server_gpus has GPU 8", "8 NVIDIA GPUs, and the first is 0"]),
        (SERVER, {"triton_server_gpus": [1, 1]}, ["at least one GPU, each once"]),
        (SERVER, {"triton_server_gpus": ["the big one"]}, ["the big one, which is no index and no UUID"]),
        (SERVER, {"triton_server_gpus": 9}, ["asks for 9", "shows 8"]),
    ],
    ids=["a version that is not there", "an unknown setting", "an index too high", "a GPU twice", "a word", "too many"],
)
def test_what_cannot_be_done_is_explained(gpu1, play, role, options, words):
    server, docker = started_at(gpu1), starts_of_docker(gpu1)
    done = play(role, **options)
    assert done.rc != 0, done.text
    for word in words:
        assert word in done.text, done.text
    assert versions(gpu1) == dict.fromkeys(PACKAGES, "1.20.0-1")
    assert "1.20.0-*" in gpu1.sh("cat /etc/apt/preferences.d/nvidia-container-toolkit")
    assert (started_at(gpu1), starts_of_docker(gpu1)) == (server, docker)


def test_absent_gives_the_hosts_back(gpu1, gpu2, play):
    done = play(TOOLKIT, limit="gpu1:gpu2", check=True, nvidia_container_toolkit_state="absent")
    assert done.rc == 0 and done.counts["changed"] > 0, done.text
    assert versions(gpu2) == dict.fromkeys(PACKAGES, "1.20.0-1") and "nvidia" in daemon_json(gpu2)["runtimes"]
    starts = starts_of_docker(gpu1)
    done = play(TOOLKIT, limit="gpu1:gpu2", nvidia_container_toolkit_state="absent")
    assert done.rc == 0, done.text
    for host in (gpu1, gpu2):
        assert versions(host) == {} and host.sh("apt-mark showhold") == ""
        left = host.sh("find /etc /run/cdi -path '*nvidia-c*' -not -path '/etc/systemd/system/docker*' 2>/dev/null || true")
        assert left == "" and not host.file(SPECIFICATION).exists and not host.file("/etc/gpufleet/nvidia_container_toolkit.json").exists
        assert "nvidia" not in json.loads(host.sh("docker info -f '{{json .Runtimes}}'"))
        assert host.file("/etc/gpufleet/triton/compose.yml").exists, "that is triton_server's"
    assert starts_of_docker(gpu1) == starts + 1
    # What is there beside the other role's is what was there before any.
    own = daemon_json(gpu2)
    assert own.pop("log-opts") and json.dumps(own) == json.dumps(json.loads(gpu2.sh("cat /root/daemon.json")))
    assert daemon_json(gpu1) == {"log-opts": {"max-size": "50m"}}
    done = play(TOOLKIT, limit="gpu1:gpu2", nvidia_container_toolkit_state="absent")
    assert (done.rc, done.counts["changed"]) == (0, 0), done.text
