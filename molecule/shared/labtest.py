# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pytest plugin of the Molecule scenarios: a lab host as a fixture, and playbooks run on it.

What a test reads, it reads through `docker exec`, curl and Triton's own client, never through the modules under test.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable

import pytest
import testinfra

CHECKOUT = Path(__file__).resolve().parents[2]
KEY_FILE = "/etc/gpufleet/triton/server/admin.key"
HEADER = "x-gpufleet-admin-key"

# Fixtures around the life of models, and around what a host is found to be.
pytest_plugins = ["modeltest", "verifytest"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "thorough: runs in 'make test-all' alone, as its playbooks take long and show less than others")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get("GPUFLEET_THOROUGH"):
        return
    left_out = [item for item in items if item.get_closest_marker("thorough")]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


class LabHost:
    """One host of the scenario's lab; everything that testinfra's host has, and Triton's side of it."""

    def __init__(self, name: str) -> None:
        self.container = f"{os.environ['GPUFLEET_LAB']}-{name}"
        self.name = name
        self.host = testinfra.get_host(f"docker://{self.container}")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.host, name)

    def sh(self, command: str) -> str:
        """Run a command line that must succeed; its output without the last line break."""
        done = self.host.run(command)
        assert done.rc == 0, f"{command}: {done.rc}\n{done.stdout}\n{done.stderr}"
        return done.stdout.rstrip("\n")

    @property
    def key(self) -> str:
        return self.sh(f"cat {KEY_FILE}").strip()

    def http(self, path: str, body: object = None, key: str | None = None, post: bool = False) -> tuple[int, Any]:
        """One exchange with Triton from inside the host: status (0 when nothing answers) and decoded body."""
        argv = f"curl -s -m 20 -w '\\n%{{http_code}}' http://127.0.0.1:8000{path}"
        if key is not None:
            argv += f" -H '{HEADER}: {key}'"
        if body is not None or post:
            argv += f" -X POST -d '{json.dumps(body or {})}'"
        text, status = self.host.run(argv).stdout.rsplit("\n", 1)
        try:
            return int(status), json.loads(text) if text else None
        except ValueError:
            return int(status), text

    def index(self) -> dict[str, str]:
        """Model -> state, as the repository index has it."""
        status, rows = self.http("/v2/repository/index", post=True, key=self.key)
        assert status == 200, rows
        return {row["name"]: row.get("state", "") for row in rows}

    def add_sub(self) -> tuple[list[float], list[float]]:
        """The sum and the difference that the server finds for 1 2 3 4 and 10 20 30 40."""
        tensors = [("INPUT0", [1, 2, 3, 4]), ("INPUT1", [10, 20, 30, 40])]
        request = {"inputs": [{"name": name, "shape": [1, 4], "datatype": "FP32", "data": data} for name, data in tensors]}
        status, answer = self.http("/v2/models/add_sub/infer", request)
        assert status == 200, answer
        outputs = {output["name"]: output["data"] for output in answer["outputs"]}
        return outputs["OUTPUT0"], outputs["OUTPUT1"]

    def in_network(self, script: str) -> str:
        """Run Python with the controller's libraries in the host's network, where 127.0.0.1 is the host's."""
        pid = subprocess.run(
            ["docker", "inspect", "-f", "{{.State.Pid}}", self.container], check=True, text=True, capture_output=True
        ).stdout.strip()
        done = subprocess.run(
            ["nsenter", "-t", pid, "-n", sys.executable, "-c", script], text=True, capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.rstrip("\n")

    def triton_container(self) -> dict[str, Any]:
        return json.loads(self.sh("docker inspect triton"))[0]

    def reboot(self) -> None:
        """Shut the host down as a server is, and boot it again."""
        subprocess.run(["docker", "restart", "--time", "90", self.container], check=True, capture_output=True)


@pytest.fixture(scope="session")
def gpu1() -> LabHost:
    return LabHost("gpu1")


@pytest.fixture(scope="session")
def bare() -> LabHost:
    return LabHost("bare")


@pytest.fixture(scope="session")
def wait_until() -> Callable[..., None]:
    """Call a condition until it is true; fail with what it last said when the seconds are over."""

    def wait(condition: Callable[[], Any], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while True:
            try:
                last = condition()
            except AssertionError as exc:
                last = None
                reason = str(exc)
            else:
                reason = repr(last)
            if last:
                return
            assert time.monotonic() < end, f"not so within {seconds} s: {reason}"
            time.sleep(0.5)

    return wait


class Played:
    """The result of a playbook: its text, and the counts of its last lines, over all hosts."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.rc = done.returncode
        # Messages are folded at the terminal's width; a test looks for words, not for lines.
        self.text = re.sub(r"\s+", " ", done.stdout + done.stderr)
        counts = [(key, int(value)) for key, value in re.findall(r"(ok|changed|unreachable|failed|skipped)=(\d+)", done.stdout)]
        self.counts = {key: sum(value for other, value in counts if other == key) for key, _value in counts}


def environment() -> dict[str, str]:
    """What ansible-playbook runs in: as Molecule has it, and without colours."""
    return {
        **os.environ,
        "ANSIBLE_PIPELINING": "true",
        "ANSIBLE_INJECT_FACT_VARS": "false",
        "ANSIBLE_FORCE_COLOR": "false",
        "ANSIBLE_NOCOLOR": "true",
    }


@pytest.fixture(scope="session")
def play(wait_until: Callable[..., None]) -> Callable[..., Played]:
    """Run a playbook of the collection, or roles by name, on the scenario's hosts; kill it once a condition is true, if one is given."""

    def run(
        *roles: str,
        playbook: str = "",
        limit: str = "gpu1",
        check: bool = False,
        tags: str = "",
        kill_when: Callable[[], Any] | None = None,
        timeout: float = 600,
        **variables: object,
    ) -> Played:
        argv = [
            "ansible-playbook",
            "-i",
            os.environ["MOLECULE_INVENTORY_FILE"],
            "-i",
            str(CHECKOUT / "molecule/shared/inventory"),
            "-l",
            limit,
            "-e",
            json.dumps(variables),
        ]
        argv += ["--check", "--diff"] if check else []
        argv += ["--tags", tags] if tags else []
        if roles:
            argv.append(str(CHECKOUT / "molecule/shared/roles.yml"))
            argv += ["-e", json.dumps({"play_roles": roles})]
        else:
            argv.append(playbook)
        env = environment()
        if kill_when is None:
            return Played(subprocess.run(argv, text=True, capture_output=True, env=env, timeout=timeout, check=False))
        pipe = subprocess.PIPE
        with subprocess.Popen(argv, text=True, stdout=pipe, stderr=pipe, env=env, start_new_session=True) as process:
            try:
                wait_until(kill_when)
            finally:
                os.killpg(process.pid, signal.SIGKILL)
            said, errors = process.communicate()
        return Played(subprocess.CompletedProcess(argv, process.returncode, said, errors))

    return run


@pytest.fixture(scope="session")
def play_cases(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Played]]:
    """Run roles with the variables of each case, all in one playbook, in which gpu1 has a name for each; the results by the cases.

    For cases that end before anything is changed: they run side by side on the one host. A playbook for each would take minutes.
    """

    def run(*roles: str, cases: dict[str, dict[str, Any]]) -> dict[str, Played]:
        aliases = {f"case-{number}": case for number, case in enumerate(cases)}
        reached = {"ansible_host": f"{os.environ['GPUFLEET_LAB']}-gpu1"}
        hosts = {alias: {**reached, **cases[case]} for alias, case in aliases.items()}
        inventory = tmp_path_factory.mktemp("cases") / "inventory.json"
        inventory.write_text(json.dumps({"all": {"children": {"gpu_hosts": {"hosts": hosts}}}}))
        sources = (os.environ["MOLECULE_INVENTORY_FILE"], str(CHECKOUT / "molecule/shared/inventory"), str(inventory))
        argv = ["ansible-playbook", *(word for source in sources for word in ("-i", source)), "-l", "case-*", "--forks", "4"]
        argv += ["-e", json.dumps({"play_roles": roles}), str(CHECKOUT / "molecule/shared/roles.yml")]
        # In one stream: Molecule's configuration sends what failed to the other, and an error's words come before its host's name.
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        done = subprocess.run(argv, text=True, **pipes, env=environment(), timeout=1200, check=False)
        parts = {alias: [] for alias in aliases}
        # What a task says of a host begins with a line that names it, and goes on to the next such line or the next task.
        said: list[str] = []
        errors: list[str] = []
        for line in done.stdout.splitlines():
            named = re.match(r"(?:ok|changed|skipping|included|fatal|failed|FAILED): \[([^] ]+)|(case-\d+) +: ok=", line)
            if named:
                said = parts.get(named[1] or named[2], [])
                said.extend(errors)
                errors = []
            elif line.startswith("[ERROR]"):
                said = errors = []
            elif re.match(r"TASK |PLAY ", line):
                said, errors = [], []
            said.append(line)
        assert all(parts.values()), done.stdout
        told = {alias: "\n".join(part) for alias, part in parts.items()}
        failed = {alias: int(not re.search(r"unreachable=0 +failed=0", text)) for alias, text in told.items()}
        return {case: Played(subprocess.CompletedProcess(argv, failed[alias], told[alias], "")) for alias, case in aliases.items()}

    return run
