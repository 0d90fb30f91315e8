# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook status against what was really done to a server. Each test uses names of its own and leaves add_sub serving."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import labtest
import pytest
from modeltest import ADD_SUB, gives

REPOSITORY = "/fileServerMountPath/data/models"
EVERYTHING = "find /etc/gpufleet /fileServerMountPath/data -printf '%p %s %m %U:%G %T@ %C@\\n' | sort"


@pytest.fixture(scope="module", autouse=True)
def add_sub_alone(gpu1: labtest.LabHost, play: Callable[..., labtest.Played], wait_until: Callable[..., None]) -> None:
    """Other tests may have left models, and a failed load that only a restart clears."""
    done = play("gpufleet.triton.triton_models", triton_models=[ADD_SUB], triton_models_purge="remove")
    assert done.rc == 0, done.text
    gpu1.sh("systemctl restart triton")
    wait_until(lambda: gpu1.http("/v2/health/ready")[0] == 200)
    wait_until(lambda: gpu1.index() == {"add_sub": "READY"})


class Seen:
    """One run of the playbook: what it printed, and its data."""

    def __init__(self, played: labtest.Played, data: Path) -> None:
        self.played = played
        self.text = played.text
        self.fleet = json.loads(data.read_text()) if data.exists() else {}
        assert played.counts.get("changed", 0) == 0, played.text

    def host(self, name: str = "gpu1") -> dict[str, Any]:
        return next(host for host in self.fleet["hosts"] if host["name"] == name)

    def row(self, model: str) -> dict[str, Any]:
        return next(row for row in self.host()["models"] if row["name"] == model)

    @property
    def statuses(self) -> dict[str, str]:
        return {row["name"]: row["status"] for row in self.host()["models"]}


@pytest.fixture
def status(play: Callable[..., labtest.Played], tmp_path: Path) -> Callable[..., Seen]:
    """Run the playbook for add_sub and the entries given."""

    def run(*entries: dict[str, Any], limit: str = "gpu1", check: bool = False, **options: Any) -> Seen:
        data = tmp_path / "status.json"
        data.unlink(missing_ok=True)
        variables = {"triton_models": [ADD_SUB, *entries], "status_json": str(data), **options}
        return Seen(play(playbook="gpufleet.triton.status", limit=limit, check=check, **variables), data)

    return run


@pytest.fixture
def afterwards(models: Callable[..., labtest.Played]) -> Any:
    """Whatever a test has left: back to add_sub alone."""
    yield
    done = models(triton_models_purge="remove")
    assert done.rc == 0, done.text


def api(gpu1: labtest.LabHost, model: str, action: str) -> tuple[int, Any]:
    return gpu1.http(f"/v2/repository/models/{model}/{action}", post=True, key=gpu1.key)


def published(play: Callable[..., labtest.Played], *entries: dict[str, Any]) -> None:
    """Put new content on disk, and load nothing."""
    done = play("gpufleet.triton.triton_models", tags="triton_models_publish", triton_models=[ADD_SUB, *entries])
    assert done.rc == 0, done.text


def test_all_as_it_should_be(gpu1, server, status, tmp_path, monkeypatch):
    calls = tmp_path / "calls"
    monkeypatch.setenv("ANSIBLE_CALLBACK_PLUGINS", str(labtest.CHECKOUT / "tests/bench/callback_plugins"))
    monkeypatch.setenv("ANSIBLE_CALLBACKS_ENABLED", "count_modules")
    monkeypatch.setenv("GPUFLEET_COUNT_MODULES", str(calls))
    before = gpu1.sh(EVERYTHING)
    seen = status(status_fail_on_drift=True, status_html=str(tmp_path / "status.html"))
    assert seen.played.rc == 0, seen.text
    assert "1 host, 1 model: everything is as the inventory wants it" in seen.text
    digest = server.manifest("add_sub")["digest"]
    assert digest == server.served_digest("add_sub")
    row = seen.row("add_sub")
    assert [row[key] for key in ("digest_wanted", "digest_disk", "digest_served")] == [digest] * 3
    assert (row["status"], row["versions"], row["recorded"]) == ("in_sync", [1], True)
    assert row["published"] == server.manifest("add_sub")["published"] == seen.host()["last_published"]
    host = seen.host()
    assert (host["state"], host["server"]["version"], host["server"]["control_mode"]) == ("ready", "2.51.0", "explicit")
    assert host["container"]["image"] == gpu1.triton_container()["Config"]["Image"]
    assert digest.removeprefix("sha256:")[:12] in (tmp_path / "status.html").read_text()
    assert Counter(line.split()[1].rpartition(".")[2] for line in calls.read_text().splitlines()) == {
        "triton_host_info": 1,
        "triton_repository": 1,
        "triton_info": 1,
    }
    assert gpu1.sh(EVERYTHING) == before


def test_check_mode_is_the_same(gpu1, status):
    before = gpu1.sh(EVERYTHING)
    seen = status(check=True)
    assert (seen.played.rc, seen.statuses) == (0, {"add_sub": "in_sync"}), seen.text
    assert gpu1.sh(EVERYTHING) == before


@pytest.mark.thorough
def test_what_is_to_be_published(status, models, workshop, afterwards):
    entry = workshop.times("coming", 2, smoke=gives(2))
    seen = status(entry)
    assert (seen.played.rc, seen.statuses) == (0, {"add_sub": "in_sync", "coming": "publish"}), seen.text
    assert "publishes it, and loads it" in seen.text
    wanted = seen.row("coming")["digest_wanted"]
    assert models(entry).rc == 0
    assert status(entry).row("coming")["digest_served"] == wanted
    changed = workshop.times("coming", 3, smoke=gives(3))
    row = status(changed).row("coming")
    assert (row["status"], row["digest_disk"], row["digest_served"]) == ("publish", wanted, wanted)
    assert row["digest_wanted"] not in (None, wanted) and row["would"] == "publishes it, and reloads it"


def test_each_way_to_differ(gpu1, server, play, status, models, workshop, afterwards):
    entries = [workshop.times(name, 2) for name in ("altered", "unload", "stale", "leaves", "never")]
    assert models(*entries).rc == 0
    assert set(status(*entries).statuses.values()) == {"in_sync"}

    gpu1.sh(f"echo '# by hand' >>{REPOSITORY}/altered/1/model.py")
    assert api(gpu1, "unload", "unload")[0] == 200
    workshop.times("stale", 3)
    published(play, *[entry for entry in entries if entry["name"] != "altered"])
    gpu1.sh(f"mkdir -p {REPOSITORY}/stranger/1 && touch {REPOSITORY}/stranger/config.pbtxt")
    entries = [{**entry, "state": {"leaves": "absent", "never": "unloaded"}.get(entry["name"], "loaded")} for entry in entries]
    try:
        seen = status(*entries, status_fail_on_drift=True)
    finally:
        gpu1.sh(f"rm -r {REPOSITORY}/stranger")
    assert seen.played.rc == 2, seen.text
    assert seen.statuses == {
        "add_sub": "in_sync",
        "altered": "publish",
        "unload": "load",
        "stale": "stale",
        "leaves": "remove",
        "never": "unload",
        "stranger": "foreign",
    }
    assert "The fleet differs from the inventory: - gpu1: altered to publish, unload to load, stale stale, leaves to remove," in seen.text
    assert seen.row("altered")["altered"] and "1/model.py" in seen.row("altered")["why"]
    stale = seen.row("stale")
    assert (stale["digest_disk"], stale["digest_served"]) == (server.manifest("stale")["digest"], server.served_digest("stale"))
    assert stale["digest_wanted"] == stale["digest_disk"] != stale["digest_served"]
    # What it says that a run would do is what a run does.
    assert models(*entries).rc == 0
    mended = status(*entries)
    assert set(mended.statuses.values()) == {"in_sync"}, mended.text
    assert server.infer("stale") == 3


def test_tritons_reason_is_shown(gpu1, play, status, models, workshop, afterwards):
    bad = workshop.broken("ill")
    published(play, bad)
    assert api(gpu1, "ill", "load")[0] == 400
    seen = status(bad)
    assert seen.statuses == {"add_sub": "in_sync", "ill": "failed"}
    assert "these weights are broken" in seen.row("ill")["reason"] and "these weights are broken" in seen.text
    # Triton stays not ready after the first load of a version failed.
    assert (seen.host()["state"], gpu1.http("/v2/health/ready")[0]) == ("not_ready", 400)
    assert "because of a failed load" in seen.host()["why"]
    assert models(workshop.times("ill", 2)).rc == 0
    assert status(workshop.times("ill", 2)).host()["differs"] is False
    # A failed reload leaves the content from before serving.
    bad = workshop.broken("ill")
    published(play, bad)
    assert api(gpu1, "ill", "load")[0] == 400
    row = status(bad).row("ill")
    assert (row["status"], row["versions"]) == ("stale", [1])
    assert models(workshop.times("ill", 4)).rc == 0


@pytest.mark.thorough
def test_a_source_that_is_not_there(status):
    seen = status({"name": "nowhere", "src": "/does/not/exist"}, status_fail_on_drift=True)
    assert seen.played.rc == 2
    assert seen.statuses == {"add_sub": "in_sync", "nowhere": "unknown"}
    assert "Cannot find the folder /does/not/exist on the controller" in seen.text


def test_a_server_that_is_down(gpu1, server, status, wait_until):
    gpu1.sh("systemctl stop triton")
    try:
        seen, wanted = status(), status(triton_server_state="stopped", status_fail_on_drift=True)
        killed = status(status_only_problems=True, status_fail_on_drift=True)
    finally:
        gpu1.sh("systemctl start triton")
    assert (seen.played.rc, seen.host()["state"], seen.statuses) == (0, "stopped", {"add_sub": "unknown"})
    assert seen.row("add_sub")["digest_disk"] == server.manifest("add_sub")["digest"]
    assert (wanted.played.rc, wanted.host()["differs"]) == (0, False), wanted.text
    assert "stopped, as wanted" in wanted.text
    assert killed.played.rc == 2 and "Right on disk, the server was not asked: add_sub" in killed.text
    wait_until(lambda: server.ready() == ["add_sub"])


@pytest.mark.thorough
def test_an_engine_that_is_down(gpu1, server, status, wait_until):
    gpu1.sh("systemctl stop docker.socket docker.service")
    try:
        seen = status()
    finally:
        gpu1.sh("systemctl start docker.service && systemctl restart triton")
    assert (seen.played.rc, seen.host()["state"]) == (0, "no_engine"), seen.text
    wait_until(lambda: server.ready() == ["add_sub"])


def test_a_host_that_cannot_be_reached_is_in_the_report(status, tmp_path, monkeypatch):
    """And the others are looked at all the same; a limit leaves out what it leaves out."""
    inventory = tmp_path / "inventory.yml"
    far = {"ansible_connection": "ansible.builtin.ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    odd = {"triton_models_url": "{{ no_such_variable }}", "ansible_host": f"{os.environ['GPUFLEET_LAB']}-gpu1"}
    inventory.write_text(json.dumps({"gpu_hosts": {"hosts": {"far": far, "gpu1": {}, "odd": odd}}}))
    monkeypatch.setenv("MOLECULE_INVENTORY_FILE", str(inventory))
    seen = status(limit="gpu_hosts")
    assert seen.played.rc == 0, seen.text
    assert {host["name"]: host["state"] for host in seen.fleet["hosts"]} == {"far": "unreachable", "gpu1": "ready", "odd": "unknown"}
    assert "Connection refused" in seen.host("far")["why"] and "no_such_variable" in seen.host("odd")["why"]
    assert seen.host()["differs"] is False
    assert [host["name"] for host in status(limit="far").fleet["hosts"]] == ["far"]
    assert status(limit="far", status_fail_on_drift=True).played.rc == 2


def test_a_folder_without_a_list(status):
    seen = status(triton_models=[], status_fail_on_drift=True)
    assert (seen.played.rc, seen.statuses) == (0, {"add_sub": "foreign"}), seen.text
    assert "1 model not listed" in seen.text
