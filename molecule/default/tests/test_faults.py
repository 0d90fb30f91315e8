# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input and faults: each ends in an error that says what, why and what to do, and the server that runs stays as it is."""

from __future__ import annotations

import pytest

ENGINE = "gpufleet.triton.docker_engine"
REPOSITORY = "gpufleet.triton.model_repository"
SERVER = "gpufleet.triton.triton_server"
MODELS = {"add_sub": "READY", "digits": "READY"}


def state(host) -> tuple:
    container = host.triton_container()
    files = host.sh("find /etc/gpufleet /etc/systemd/system/triton.service /fileServerMountPath -printf '%p %s %m %U:%G %T@\\n' | sort")
    return container["Id"], container["State"]["StartedAt"], host.index(), files


@pytest.fixture
def untouched(gpu1):
    """The server that runs, its files and its models are the same after the test as before it."""
    before = state(gpu1)
    yield
    assert state(gpu1) == before


BAD_OPTIONS = {
    "an unknown flag": (
        {"triton_server_extra_args": ["--http-thread-cout=16"]},
        ["'--http-thread-cout' is not a flag", "'--http-thread-count'"],
    ),
    "a flag that is too new": (
        {"triton_server_extra_args": ["--allow-client-shm=true"]},
        ["came with release 26.04", "the server's is 24.10"],
    ),
    "a flag that an option sets": ({"triton_server_extra_args": ["--http-port=9000"]}, ["triton_server_http_port sets it"]),
    "a stray word": ({"triton_server_extra_args": ["verbose"]}, ["'verbose' is not an argument", "--flag=value"]),
    "a grace period that kills the server": ({"triton_server_stop_grace_period": 30}, ["must be longer than triton_server_exit_timeout"]),
    "two ports that are one": ({"triton_server_http_port": 8001}, ["must differ, but are 8001, 8001, 8002"]),
    "a variable that no shell takes": ({"triton_server_secret_environment": {"my-var": "x"}}, ["has my-var", "would not start"]),
    "a model without a name": ({"triton_models": [{"nam": "add_sub"}]}, ["1 of the 1 entries", "have no name", "They have nam."]),
    "a model's state with a typo": ({"triton_models": [{"name": "add_sub", "state": "laoded"}]}, ["but is laoded"]),
    "a user by name": ({"triton_server_user": "triton"}, ["must be numeric ids"]),
    "a GPU where there is none": (
        {"triton_server_accelerator": "gpu", "triton_server_gpus": 2},
        ["asks for 2", "shows 0 NVIDIA GPUs", "triton_server_accelerator to cpu"],
    ),
    "an option of the wrong type": ({"triton_server_http_port": "http"}, ["triton_server_http_port", "int"]),
    "a state with a typo": ({"triton_server_state": "runing"}, ["value of triton_server_state must be one of", "started"]),
    "a repository that is not there": ({"model_repository_root": "/nowhere"}, ["/nowhere/data/models does not exist", "model_repository"]),
}


@pytest.fixture(scope="module")
def bad_options(gpu1, play_cases):
    before = state(gpu1)
    results = play_cases(SERVER, cases={case: variables for case, (variables, _words) in BAD_OPTIONS.items()})
    assert state(gpu1) == before
    return results


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_bad_options_end_in_preflight(bad_options, case):
    done, words = bad_options[case], BAD_OPTIONS[case][1]
    assert done.rc != 0 and done.counts["changed"] == 0, done.text
    for word in words:
        assert word in done.text


def test_a_variable_that_is_no_option_is_noted(play):
    done = play(ENGINE, REPOSITORY, SERVER, check=True, triton_server_htpp_port=1, docker_engine_sauce="x", model_repository_rot="/")
    assert done.rc == 0, done.text
    for name in ("triton_server_htpp_port", "docker_engine_sauce", "model_repository_rot"):
        assert f"without effect in it: {name}." in done.text
    assert "No option" not in play(ENGINE, REPOSITORY, SERVER, check=True).text


def test_a_port_that_is_taken(gpu1, play, untouched):
    gpu1.sh("systemd-run --unit squatter --quiet python3 -m http.server --bind 127.0.0.1 9000")
    try:
        gpu1.sh("for n in $(seq 50); do curl -s -o /dev/null 127.0.0.1:9000 && exit 0; sleep 0.1; done; exit 1")
        done = play(SERVER, triton_server_http_port=9000)
        pid = gpu1.sh("systemctl show -P MainPID squatter")
    finally:
        gpu1.sh("systemctl stop squatter")
    assert done.rc != 0 and done.counts["changed"] == 0, done.text
    for word in ("Port 9000 on 127.0.0.1 is taken by python3", f"pid {pid}", "triton_server_http_port"):
        assert word in done.text


def test_a_repository_that_is_a_file(gpu1, play, untouched):
    gpu1.sh("mkdir -p /srv/odd/data && touch /srv/odd/data/models")
    done = play(SERVER, model_repository_root="/srv/odd")
    assert done.rc != 0 and "must be a directory of models, but it is a file" in done.text, done.text


def test_a_repository_that_the_server_cannot_read(gpu1, play, untouched):
    gpu1.sh("mkdir -p /srv/closed/data/models && chmod 0700 /srv/closed/data/models")
    done = play(SERVER, model_repository_root="/srv/closed")
    assert done.rc != 0, done.text
    for word in ("User 1000:1000", "cannot read /srv/closed/data/models", "mode 0700"):
        assert word in done.text


def test_an_image_that_cannot_be_pulled(play, untouched):
    done = play(SERVER, triton_server_image="127.0.0.1:5/no/such:1", triton_server_image_archive="")
    assert done.rc != 0 and done.counts["changed"] == 0, done.text
    for word in ("Cannot get the image 127.0.0.1:5/no/such:1 from its registry", "connection refused", "triton_server_image_archive"):
        assert word in done.text


def test_an_archive_without_the_image(play, untouched):
    done = play(SERVER, triton_server_image="gpufleet-lab/triton:9.9")
    assert done.rc != 0, done.text
    assert "holds gpufleet-lab/triton:2.51.0, but triton_server_image is gpufleet-lab/triton:9.9" in done.text


BAD_REPOSITORIES = {
    "no mount": ({"model_repository_require_mount": True}, ["/fileServerMountPath", "mount"]),
    "no room": ({"model_repository_min_free": "900T"}, ["asks for 900T", "left of", "lower model_repository_min_free"]),
    "a file": ({"model_repository_root": "/etc/hostname"}, ["/etc/hostname", "file"]),
}


def test_a_repository_that_cannot_be_used(play_cases, untouched):
    results = play_cases(REPOSITORY, cases={case: variables for case, (variables, _words) in BAD_REPOSITORIES.items()})
    for case, (_variables, words) in BAD_REPOSITORIES.items():
        done = results[case]
        assert done.rc != 0 and done.counts["changed"] == 0, done.text
        for word in words:
            assert word in done.text, case


def test_foreign_directories_in_the_repository(gpu1, play):
    folders = [f"/fileServerMountPath/data/models/{name}" for name in ("lost+found", ".git", "2.tmp", "add_sub/2.tmp")]
    gpu1.sh(f"mkdir {' '.join(folders)}")
    try:
        done = play(REPOSITORY)
    finally:
        gpu1.sh(f"rmdir {' '.join(folders)}")
    assert done.rc != 0 and done.counts["changed"] == 0, done.text
    for name in ("lost+found", ".git", "2.tmp", "add_sub"):
        assert name in done.text


def test_gpus_are_counted_on_the_pci_bus(gpu1, play, untouched):
    """A double of the silicon: one NVIDIA card, as the kernel would show it in sysfs."""
    card = "/run/pci-double/0000:01:00.0"
    gpu1.sh(f"mkdir -p {card} && echo 0x10de >{card}/vendor && echo 0x2330 >{card}/device && echo 0x030200 >{card}/class")
    gpu1.sh("mount --bind /run/pci-double /sys/bus/pci/devices")
    try:
        refused = play(SERVER, triton_server_gpus=2)
        predicted = play(SERVER, check=True, triton_server_gpus=["GPU-0123"])
    finally:
        gpu1.sh("umount /sys/bus/pci/devices")
    assert refused.rc != 0 and refused.counts["changed"] == 0, refused.text
    assert "asks for 2, but the PCI bus of this host shows 1 NVIDIA GPU." in refused.text
    assert predicted.rc == 0, predicted.text
    for word in ("+ - driver: nvidia", '+ device_ids: ["GPU-0123"]'):
        assert word in predicted.text


def test_a_bare_host_says_what_is_missing(play):
    done = play(SERVER, limit="bare")
    assert done.rc != 0 and done.counts["changed"] == 0, done.text
    assert "Docker is not installed on this host" in done.text
    assert "gpufleet.triton.docker_engine" in done.text


def test_a_bare_host_without_a_source_for_an_engine(play):
    done = play(ENGINE, limit="bare", docker_engine_source="none")
    assert done.rc != 0 and done.counts["changed"] == 0, done.text
    assert "There is no Docker Engine on this host" in done.text


def test_check_mode_leaves_a_bare_host_as_it_is(bare, play):
    bare.sh("touch /root/before && sleep 1.1")
    predicted = play(ENGINE, REPOSITORY, SERVER, limit="bare", check=True)
    assert predicted.rc == 0 and predicted.counts["changed"] >= 3, predicted.text
    assert "Docker is not on this host yet" in predicted.text
    assert bare.sh("find /etc /usr /opt /srv /home /var/lib -xdev -newer /root/before") == ""
    assert not bare.file("/fileServerMountPath").exists
    assert not bare.exists("docker")


def test_an_engine_that_is_stopped_stays_stopped_and_brings_the_server_when_it_starts(gpu1, wait_until):
    gpu1.sh("systemctl stop docker.socket docker.service")
    wait_until(lambda: gpu1.run("systemctl is-active triton").stdout.strip() == "inactive")
    assert gpu1.run("systemctl is-active docker").stdout.strip() == "inactive"
    gpu1.sh("systemctl start docker.socket docker.service")
    wait_until(lambda: gpu1.index() == MODELS)


def test_a_container_that_outlives_a_restart_of_the_engine_is_left_alone(gpu1, wait_until):
    gpu1.sh("""echo '{"live-restore": true}' >/etc/docker/daemon.json && systemctl reset-failed docker && systemctl reload docker""")
    before = gpu1.triton_container()["State"]
    starts = int(gpu1.sh("systemctl show -P NRestarts triton"))
    gpu1.sh("systemctl restart docker")
    # The unit has come back to the container.
    wait_until(lambda: int(gpu1.sh("systemctl show -P NRestarts triton")) > starts and gpu1.service("triton").is_running)
    after = gpu1.triton_container()["State"]
    gpu1.sh("rm /etc/docker/daemon.json && systemctl reload docker")
    assert (after["Pid"], after["StartedAt"]) == (before["Pid"], before["StartedAt"])
    assert gpu1.index() == MODELS


def test_an_engine_that_does_not_answer(gpu1, play, wait_until):
    """The server's role says so; the engine's role says why it cannot start it, and starts it once it can."""
    gpu1.sh("systemctl stop docker.socket docker.service && echo '{' >/etc/docker/daemon.json")
    try:
        refused, shown, unable = play(SERVER), play(playbook="gpufleet.triton.status"), play(ENGINE)
    finally:
        gpu1.sh("rm /etc/docker/daemon.json && systemctl reset-failed docker.service docker.socket")
    assert refused.rc != 0 and refused.counts["changed"] == 0, refused.text
    for word in ("Docker is installed but does not answer", "journalctl -u docker"):
        assert word in refused.text
    assert shown.rc == 0 and "gpu1 no Docker engine" in shown.text, shown.text
    assert unable.rc != 0, unable.text
    for word in ("Cannot start docker.service", "unable to configure the Docker daemon", "daemon.json"):
        assert word in unable.text
    # systemd may be about to try again by itself.
    gpu1.sh("systemctl stop docker.socket docker.service")
    mended = play(ENGINE)
    assert (mended.rc, mended.counts["changed"]) == (0, 1), mended.text
    wait_until(lambda: gpu1.index() == MODELS)


def test_a_server_that_cannot_start_says_why(gpu1, play, wait_until):
    """A flag's name is checked, its value is Triton's: the gate fails with the server's own words, and the next run mends it."""
    done = play(SERVER, triton_server_extra_args=["--rate-limit=sometimes"], triton_server_ready_timeout=20)
    assert done.rc != 0, done.text
    for word in ("not ready", "--rate-limit"):
        assert word in done.text
    assert play(SERVER).rc == 0
    wait_until(lambda: gpu1.index() == MODELS)
