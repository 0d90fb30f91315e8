# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a converged host is and does. Tests that change the host come last, and leave it serving."""

from __future__ import annotations

import json
import shutil

import labtest
import pytest

SUM, DIFFERENCE = [11, 22, 33, 44], [-9, -18, -27, -36]
MODELS = {"add_sub": "READY", "digits": "READY"}
SERVER = "gpufleet.triton.triton_server"
CONVERGE = str(labtest.CHECKOUT / "molecule/default/converge.yml")


def test_check_mode_finds_nothing_to_change(play):
    """Molecule's own check only looks whether the play ends well."""
    predicted = play(playbook=CONVERGE, check=True)
    assert (predicted.rc, predicted.counts["changed"]) == (0, 0), predicted.text


def test_the_service_runs_and_starts_at_boot(gpu1):
    service = gpu1.service("triton")
    assert service.is_running
    assert service.is_enabled


@pytest.mark.parametrize(
    ("path", "mode", "owner"),
    [
        ("/etc/gpufleet/triton/compose.yml", "644", "0:0"),
        ("/etc/gpufleet/triton/server", "750", "0:1000"),
        ("/etc/gpufleet/triton/server/start", "755", "0:0"),
        ("/etc/gpufleet/triton/server/load-models", "644", "0:0"),
        ("/etc/gpufleet/triton/server/admin.key", "600", "1000:1000"),
        ("/etc/gpufleet/triton/server/environment", "600", "1000:1000"),
        ("/etc/systemd/system/triton.service", "644", "0:0"),
    ],
)
def test_files(gpu1, path, mode, owner):
    assert gpu1.sh(f"stat -c '%a %u:%g' {path}") == f"{mode} {owner}"


def test_the_server_can_read_the_models_and_write_none(gpu1):
    in_container = "docker exec triton sh -c"
    assert gpu1.run(f"{in_container} 'cat /models/add_sub/config.pbtxt'").rc == 0
    assert gpu1.run(f"{in_container} 'touch /models/x'").rc != 0
    # The mount is read-only; the permissions of the host must say no by themselves too.
    assert gpu1.run("setpriv --reuid 1000 --regid 1000 --clear-groups test -r /fileServerMountPath/data/models/digits/config.pbtxt").rc == 0
    assert gpu1.run("setpriv --reuid 1000 --regid 1000 --clear-groups test -w /fileServerMountPath/data/models").rc == 1
    assert gpu1.run("setpriv --reuid 1000 --regid 1000 --clear-groups test -r /fileServerMountPath/data/.gpufleet/staging").rc == 1


def test_the_container_has_no_more_rights_than_it_needs(gpu1):
    container = gpu1.triton_container()
    config = container["HostConfig"]
    assert container["Config"]["User"] == "1000:1000"
    assert config["ReadonlyRootfs"] is True
    assert config["CapDrop"] == ["ALL"]
    assert config["SecurityOpt"] == ["no-new-privileges:true"]
    assert config["ShmSize"] == 4 * 2**30
    assert {binding["HostIp"] for bindings in config["PortBindings"].values() for binding in bindings} == {"127.0.0.1"}
    assert not config["DeviceRequests"], "this host has no GPU"
    assert gpu1.sh("docker exec triton sh -c 'grep CapEff /proc/1/status'").split()[1] == "0" * 16


def test_inspect_shows_no_secret(gpu1):
    assert gpu1.key
    assert gpu1.key not in json.dumps(gpu1.triton_container())


def test_http_inference(gpu1):
    assert gpu1.add_sub() == (SUM, DIFFERENCE)


def test_grpc_inference(gpu1):
    answer = gpu1.in_network(
        """
import json, numpy, tritonclient.grpc as triton
client = triton.InferenceServerClient("127.0.0.1:8001")
inputs = [triton.InferInput(name, [1, 4], "FP32") for name in ("INPUT0", "INPUT1")]
inputs[0].set_data_from_numpy(numpy.array([[1, 2, 3, 4]], "float32"))
inputs[1].set_data_from_numpy(numpy.array([[10, 20, 30, 40]], "float32"))
result = client.infer("add_sub", inputs)
print(json.dumps([result.as_numpy(name)[0].tolist() for name in ("OUTPUT0", "OUTPUT1")]))
"""
    )
    assert json.loads(answer) == [SUM, DIFFERENCE]


@pytest.mark.parametrize("key", [None, "", "wrong"])
@pytest.mark.parametrize("path", ["/v2/repository/index", "/v2/repository/models/add_sub/unload", "/v2/trace/setting", "/v2/logging"])
def test_control_apis_are_closed_without_the_key(gpu1, key, path):
    assert gpu1.http(path, post=True, key=key)[0] == 403
    assert gpu1.http("/v2/models/add_sub/ready")[0] == 200


def test_grpc_control_apis_are_closed_without_the_key(gpu1):
    script = """
import tritonclient.grpc as triton
client = triton.InferenceServerClient("127.0.0.1:8001")
try:
    print("rows", len(client.get_model_repository_index(headers=HEADERS).models))
except triton.InferenceServerException as exc:
    print(exc.status())
"""
    header = "triton-grpc-protocol-x-gpufleet-admin-key"
    assert gpu1.in_network(script.replace("HEADERS", repr({header: "wrong"}))) == "StatusCode.UNAVAILABLE"
    assert gpu1.in_network(script.replace("HEADERS", repr({header: gpu1.key}))) == "rows 2"


def test_the_journal_and_docker_tell_the_story(gpu1):
    assert "Started HTTPService" in gpu1.sh("journalctl -u triton --no-pager -o cat")
    assert "Started HTTPService" in gpu1.sh("docker logs triton 2>&1")
    assert "blob data" not in gpu1.sh("journalctl -u triton --no-pager")


def test_status_says_what_an_operator_asks(gpu1, play):
    shown = play(playbook="gpufleet.triton.status")
    assert shown.rc == 0, shown.text
    for word in ("gpu1 ready, 2 models in sync", "gpufleet-lab/triton:2.51.0", "127.0.0.1:8000", "add_sub in sync", "digits in sync"):
        assert word in shown.text


def test_a_killed_server_comes_back_with_its_models(gpu1, wait_until):
    before = gpu1.triton_container()["State"]["StartedAt"]
    gpu1.sh("pkill -KILL -x tritonserver")
    wait_until(lambda: gpu1.triton_container()["State"]["StartedAt"] != before)
    wait_until(lambda: gpu1.index() == MODELS)
    assert gpu1.add_sub() == (SUM, DIFFERENCE)


@pytest.fixture
def models(tmp_path):
    """A copy of the demo's models as entries of triton_models, which a test may change."""
    shutil.copytree(labtest.CHECKOUT / "examples/fleet/models", tmp_path / "models")
    return [{"name": name, "src": str(tmp_path / "models" / name)} for name in MODELS]


@pytest.mark.thorough
def test_a_changed_model_is_served(gpu1, play, models, tmp_path):
    code = tmp_path / "models/add_sub/1/model.py"
    code.write_text(code.read_text().replace("left + right", "left * right"))
    before = gpu1.triton_container()["State"]["StartedAt"]
    done = play(playbook=CONVERGE, tags="triton_models", triton_models=models)
    assert done.rc == 0 and done.counts["changed"] > 0, done.text
    assert gpu1.add_sub() == ([10, 40, 90, 160], DIFFERENCE)
    assert play(playbook=CONVERGE, tags="triton_models", triton_models=models).counts["changed"] == 0
    assert play(playbook=CONVERGE, tags="triton_models").rc == 0
    assert gpu1.add_sub() == (SUM, DIFFERENCE)
    assert gpu1.triton_container()["State"]["StartedAt"] == before


@pytest.mark.thorough
def test_a_model_that_left_the_list_is_named_and_one_that_should_be_unloaded_is(gpu1, play, models):
    done = play(playbook=CONVERGE, tags="triton_models", triton_models=models[:1])
    assert (done.rc, done.counts["changed"]) == (0, 0), done.text
    assert "In the repository, but not in triton_models: digits." in done.text
    done = play(playbook=CONVERGE, tags="triton_models", triton_models=[models[0], {**models[1], "state": "unloaded"}])
    assert done.rc == 0 and done.counts["changed"] > 0, done.text
    assert gpu1.index() == {"add_sub": "READY", "digits": "UNAVAILABLE"}
    assert gpu1.sh("cat /etc/gpufleet/triton/server/load-models") == "add_sub"
    assert play(playbook=CONVERGE, tags="triton_models").rc == 0
    assert gpu1.index() == MODELS


@pytest.mark.thorough
def test_a_mode_is_repaired_without_a_restart(gpu1, play):
    before = gpu1.triton_container()["State"]["StartedAt"]
    gpu1.sh("chmod 0644 /etc/gpufleet/triton/server/admin.key")
    assert play(SERVER).counts["changed"] == 1
    assert gpu1.sh("stat -c %a /etc/gpufleet/triton/server/admin.key") == "600"
    assert gpu1.triton_container()["State"]["StartedAt"] == before


@pytest.mark.thorough
def test_a_new_list_of_models_is_none_of_the_servers_business(gpu1, play):
    """What the server loads when it starts is what was loaded, not what is listed: triton_models keeps that."""
    done = play(SERVER, triton_models=[{"name": "add_sub"}, {"name": "digits", "state": "unloaded"}, {"name": "other"}])
    assert (done.rc, done.counts["changed"]) == (0, 0), done.text
    assert gpu1.sh("cat /etc/gpufleet/triton/server/load-models") == "add_sub\ndigits"


def test_a_changed_option_restarts_once_and_waits_for_the_models(gpu1, play):
    starts = "journalctl -u triton --no-pager -o cat | grep -c 'Started triton.service'"
    before, started = gpu1.triton_container()["Id"], int(gpu1.sh(starts))
    predicted = play(SERVER, check=True, triton_server_log_max_files=3)
    assert predicted.rc == 0 and '+ max-file: "3"' in predicted.text, predicted.text
    assert gpu1.triton_container()["Id"] == before
    done = play(SERVER, triton_server_log_max_files=3, triton_server_secret_environment={"SECRET": 'it\'s $HOME "quoted"'})
    assert done.rc == 0, done.text
    # The play ended, so both models are there: that is what the gate is for.
    assert gpu1.index() == MODELS
    container = gpu1.triton_container()
    assert container["Id"] != before
    assert container["HostConfig"]["LogConfig"]["Config"]["max-file"] == "3"
    assert int(gpu1.sh(starts)) == started + 1
    environment = gpu1.sh('docker exec -u 1000 triton sh -c \'tr "\\0" "\\n" </proc/1/environ\'').splitlines()
    assert 'SECRET=it\'s $HOME "quoted"' in environment
    assert "quoted" not in json.dumps(container) and "quoted" not in done.text
    assert play(SERVER).rc == 0


@pytest.mark.thorough
def test_a_run_that_was_cut_off_before_the_restart_is_finished_by_the_next(gpu1, play):
    """As if a play had written the files and then lost its connection."""
    before = gpu1.triton_container()
    done = play(SERVER, tags="triton_server_configure", triton_server_log_max_files=4)
    assert done.rc == 0 and 'max-file: "4"' in gpu1.sh("cat /etc/gpufleet/triton/compose.yml"), done.text
    assert gpu1.triton_container()["Id"] == before["Id"]
    done = play(SERVER, triton_server_log_max_files=4)
    assert (done.rc, done.counts["changed"]) == (0, 1), done.text
    assert "the container is of another configuration" in done.text
    assert gpu1.triton_container()["HostConfig"]["LogConfig"]["Config"]["max-file"] == "4"
    assert gpu1.index() == MODELS
    assert play(SERVER, triton_server_log_max_files=4).counts["changed"] == 0
    assert play(SERVER).rc == 0


OPTIONS = {
    "triton_server_grpc_bind_address": ("0.0.0.0", '- "0.0.0.0:8001:8001"'),
    "triton_server_http_port": (18000, '- "127.0.0.1:18000:8000"'),
    "triton_server_model_control_mode": ("none", '- "--model-control-mode=none"'),
    "triton_server_auto_complete_config": (False, '- "--disable-auto-complete-config"'),
    "triton_server_exit_on_error": (True, '- "--exit-on-error=true"'),
    "triton_server_strict_readiness": (False, '- "--strict-readiness=false"'),
    "triton_server_pinned_memory_pool_bytes": (1048576, '- "--pinned-memory-pool-byte-size=1048576"'),
    "triton_server_cuda_memory_pool_bytes": (
        {"0": 1024, "1": 2048},
        '- "--cuda-memory-pool-byte-size=0:1024" + - "--cuda-memory-pool-byte-size=1:2048"',
    ),
    "triton_server_response_cache_bytes": (1048576, '- "--cache-config=local,size=1048576"'),
    "triton_server_extra_args": (["--log-verbose=1"], '- "--log-verbose=1"'),
    "triton_server_extra_backends": (["mine"], "/containers/triton/backends/mine:/opt/tritonserver/backends/mine:ro"),
    "triton_server_shm_size": ("1g", 'shm_size: "1g"'),
    "triton_server_memory_limit": ("2g", 'mem_limit: "2g"'),
    "triton_server_cpu_limit": ("1.5", 'cpus: "1.5"'),
    "triton_server_ulimits": ({"nofile": 4096}, "nofile: 4096"),
    "triton_server_user": ("1001:1002", 'user: "1001:1002"'),
    "triton_server_read_only": (False, "read_only: false"),
    "triton_server_timezone": ("Europe/Berlin", 'TZ: "Europe/Berlin"'),
    "triton_server_environment": ({"PRICE": "5$"}, '"PRICE": "5$$"'),
    "triton_server_restricted_apis": (["trace"], "--http-restricted-api=trace:"),
    "triton_server_admin_header": ("x-other", "trace:x-other=$key"),
    "triton_server_log_max_size": ("7m", 'max-size: "7m"'),
    "triton_server_exit_timeout": (7, '- "--exit-timeout-secs=7"'),
    "triton_server_stop_grace_period": (77, "stop_grace_period: 77s"),
    "triton_server_restart_policy": ("no", 'restart: "no"'),
    "triton_server_healthcheck_interval": (11, "interval: 11s"),
    "triton_server_healthcheck_timeout": (12, "timeout: 12s"),
    "triton_server_healthcheck_retries": (13, "retries: 13"),
    "triton_server_healthcheck_start_period": (14, "start_period: 14s"),
}


def test_options_reach_the_configuration(play):
    """In check mode: the files are not written, but Compose itself has looked at the one that would be."""
    done = play(SERVER, check=True, **{name: value for name, (value, line) in OPTIONS.items()})
    assert done.rc == 0, done.text
    assert [line for value, line in OPTIONS.values() if line not in done.text] == []


@pytest.mark.thorough
def test_a_newer_image_of_the_same_name(gpu1, play):
    """With a real registry on the host itself: Docker wants no TLS of 127.0.0.0/8."""
    image, lab = "127.0.0.1:5001/triton:stable", "gpufleet-lab/triton:2.51.0"
    gpu1.sh("apt-get install -y -qq --no-install-recommends docker-registry")
    config = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": "/srv/registry"}},
        "http": {"addr": "127.0.0.1:5001"},
    }
    gpu1.sh(f"echo '{json.dumps(config)}' >/srv/registry.yml")
    gpu1.sh("systemd-run --unit registry --quiet docker-registry serve /srv/registry.yml")
    gpu1.sh("for n in $(seq 50); do curl -fs 127.0.0.1:5001/v2/ && exit 0; sleep 0.1; done; exit 1")
    gpu1.sh(f"docker tag {lab} {image} && docker push -q {image} && docker image rm {image}")
    options = {"triton_server_image": image, "triton_server_image_archive": "", "triton_server_pull": "always"}
    done = play(SERVER, **options)
    assert done.rc == 0, done.text
    assert gpu1.triton_container()["Config"]["Image"] == image
    assert play(SERVER, **options).counts["changed"] == 0

    gpu1.sh(f"docker create --name newer {lab} true && docker commit -c 'LABEL newer=yes' newer newer:1 && docker rm newer")
    gpu1.sh(f"docker tag newer:1 {image} && docker push -q {image} && docker tag {lab} {image}")
    assert play(SERVER, **{**options, "triton_server_pull": "missing"}).counts["changed"] == 0
    predicted = play(SERVER, check=True, **options)
    assert predicted.rc == 0, predicted.text
    done = play(SERVER, **options)
    assert done.rc == 0 and "a newer image" in done.text, done.text
    assert gpu1.triton_container()["Image"] == gpu1.sh("docker image inspect -f '{{.Id}}' newer:1")
    assert gpu1.index() == MODELS
    assert play(SERVER, **options).counts["changed"] == 0
    assert play(SERVER).rc == 0
    gpu1.sh("systemctl stop registry")


def test_stop_and_start(gpu1, play):
    done = play(playbook=CONVERGE, triton_server_state="stopped")
    assert done.rc == 0, done.text
    assert not gpu1.service("triton").is_running
    assert not gpu1.service("triton").is_enabled
    assert gpu1.triton_container()["State"]["Running"] is False
    assert gpu1.triton_container()["State"]["ExitCode"] == 0
    assert gpu1.http("/v2/health/live")[0] == 0
    assert play(playbook=CONVERGE, triton_server_state="stopped").counts["changed"] == 0
    shown = play(playbook="gpufleet.triton.status")
    assert shown.rc == 0 and "gpu1 stopped" in shown.text and "ended with exit code 0" in shown.text, shown.text
    assert play(SERVER).rc == 0
    assert gpu1.service("triton").is_enabled
    assert gpu1.index() == MODELS


def test_it_survives_a_reboot(gpu1, wait_until):
    gpu1.reboot()
    wait_until(lambda: gpu1.http("/v2/health/ready")[0] == 200)
    wait_until(lambda: gpu1.index() == MODELS)
    assert gpu1.add_sub() == (SUM, DIFFERENCE)


def test_absent_removes_the_server_and_no_model(gpu1, play):
    listing = "find /fileServerMountPath/data -printf '%p %s %m %U:%G %T@\\n' | sort"
    before = gpu1.sh(listing)
    predicted = play(SERVER, check=True, triton_server_state="absent")
    assert predicted.rc == 0 and gpu1.service("triton").is_running, predicted.text
    done = play(SERVER, triton_server_state="absent")
    assert done.rc == 0, done.text
    assert gpu1.run("docker inspect triton").rc != 0
    assert not gpu1.file("/etc/gpufleet/triton").exists
    assert not gpu1.file("/etc/systemd/system/triton.service").exists
    assert gpu1.sh(listing) == before
    assert play(SERVER, triton_server_state="absent").counts["changed"] == 0
    assert play(SERVER).rc == 0
    # A new server begins with what is wanted and on disk.
    assert gpu1.index() == MODELS
    assert gpu1.sh("cat /etc/gpufleet/triton/server/load-models") == "add_sub\ndigits"
    assert play(playbook=CONVERGE, tags="triton_models").rc == 0
    assert play(playbook=CONVERGE).counts["changed"] == 0
