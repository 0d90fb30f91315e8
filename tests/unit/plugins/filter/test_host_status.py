# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter host_status by itself, and together with fleet_status in a play."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.triton.plugins.filter.host_status import FilterModule, host_status
from ansible_collections.gpufleet.triton.tests.unit.plugins.plugin_utils.fleet import Found, digest, failed, serving

CHECKOUT = Path(__file__).resolve().parents[4]

# The host "left" has no fact: as one that left the play before it was looked at.
PLAY = """
- hosts: all
  gather_facts: false
  connection: local
  tasks:
    - ansible.builtin.set_fact:
        triton_models_status: "{{ (lookup('ansible.builtin.file', facts) | from_json)[inventory_hostname] | gpufleet.triton.host_status }}"
      when: inventory_hostname != 'left'
    - gpufleet.triton.fleet_status: "{{ {'hosts': ansible_play_hosts_all} | combine(options) }}"
      run_once: true
      register: shown
      ignore_errors: true
    - ansible.builtin.copy:
        content: "{{ shown | to_json }}"
        dest: "{{ result }}"
      run_once: true
"""
TEMPLATE = "{{ lookup('ansible.builtin.pipe', 'touch pwned') }}"


def test_it_says_where_a_host_differs() -> None:
    found = Found()
    found.index["m"] = serving("m", digest(9))
    assert host_status(found.facts())["models"][0]["status"] == "stale"
    assert FilterModule().filters() == {"host_status": host_status}


@pytest.mark.parametrize("facts", [None, [], "gpu1", {}, {"host": ""}])
def test_something_else_is_refused(facts: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="wants a dictionary with 'host'"):
        host_status(facts)


class Shown:
    def __init__(self, done: subprocess.CompletedProcess[str], folder: Path) -> None:
        self.text = done.stdout
        assert done.returncode == 0, done.stdout + done.stderr
        self.result = json.loads((folder / "result.json").read_text())


@pytest.fixture
def show(tmp_path):
    """Run the play for the hosts of a test, with options of fleet_status."""

    def run(*hosts: Found, **options: Any) -> Shown:
        facts = {found.host: found.facts() for found in hosts}
        (tmp_path / "play.yml").write_text(PLAY)
        (tmp_path / "facts.json").write_text(json.dumps(facts))
        (tmp_path / "inventory.yml").write_text(yaml.safe_dump({"all": {"hosts": dict.fromkeys([*facts, "left"])}}))
        variables = {"facts": str(tmp_path / "facts.json"), "result": str(tmp_path / "result.json"), "options": options}
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / ".build" / "collections"),
            "ANSIBLE_HOME": str(tmp_path / "home"),
            "ANSIBLE_LOCAL_TEMP": str(tmp_path / "tmp"),
            "ANSIBLE_NOCOLOR": "true",
        }
        ansible = Path(sys.executable).with_name("ansible-playbook")
        argv = [str(ansible), "-i", "inventory.yml", "play.yml", "-e", json.dumps(variables)]
        done = subprocess.run(argv, cwd=tmp_path, env=environment, text=True, capture_output=True, timeout=120, check=False)
        return Shown(done, tmp_path)

    return run


def test_a_table_a_page_and_data(show, tmp_path) -> None:
    broken = Found("m", host="gpu2")
    broken.index["m"] = failed("m", f"it said {TEMPLATE}")
    shown = show(Found(host="gpu1"), broken, html="status.html", json=str(tmp_path / "status.json"))
    # The lines stand there as they are: no quotes, no commas, no \n.
    assert "\ngpu1  ready, 1 model in sync\n" in shown.text
    assert "\n    Triton: it said {{ lookup(" in shown.text
    assert "\n2 of 3 hosts differ (1 not looked at); 1 of 2 models differs (1 failed)\n" in shown.text
    assert not (tmp_path / "pwned").exists(), "what a server says is no template"
    assert shown.result["drift"] == ["gpu2: m failed", "left: not looked at"]
    assert (shown.result["changed"], shown.result["differs"], shown.result["failed"]) == (False, True, False)
    assert (shown.result["html"], shown.result["json"]) == (str(tmp_path / "status.html"), str(tmp_path / "status.json"))
    data = json.loads((tmp_path / "status.json").read_text())
    assert data["format"] == 1 and data["summary"] == shown.result["summary"]
    assert [host["name"] for host in data["hosts"]] == ["gpu1", "gpu2", "left"]
    assert data["hosts"][1]["models"][0]["reason"] == f"it said {TEMPLATE}"
    assert TEMPLATE.replace("'", "&#39;") in (tmp_path / "status.html").read_text()
    assert (tmp_path / "status.html").stat().st_mode & 0o777 == 0o666 & ~current_umask()
    assert sorted(path.name for path in tmp_path.glob("*.new")) == []


def current_umask() -> int:
    umask = os.umask(0o022)
    os.umask(umask)
    return umask


def test_json_on_the_standard_output_is_one_line(show) -> None:
    shown = show(Found(host="gpu1"), json="-")
    (line,) = [line for line in shown.text.splitlines() if line.startswith('{"format"')]
    assert json.loads(line)["hosts"][0]["name"] == "gpu1"
    assert "MODEL" not in shown.text
    assert shown.result["json"] is None


def test_fail_on_drift(show, tmp_path) -> None:
    shown = show(Found(host="gpu1"), fail_on_drift=True, only_problems=True, html="status.html")
    assert shown.result["failed"] and shown.result["msg"] == "The fleet differs from the inventory:\n- left: not looked at"
    assert "1 host in sync, not shown" in shown.text
    assert (tmp_path / "status.html").exists(), "what was asked for is written before the failure"


def test_a_file_that_cannot_be_written(show) -> None:
    shown = show(Found(host="gpu1"), html="nowhere/status.html")
    assert shown.result["failed"]
    assert "Cannot write the status to nowhere/status.html on the controller: No such file or directory" in shown.result["msg"]
