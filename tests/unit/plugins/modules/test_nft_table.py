# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.triton.plugins.module_utils import _proc
from ansible_collections.gpufleet.triton.plugins.modules import nft_table
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.network import network
from ansible_collections.gpufleet.triton.tests.unit.plugins.modules.runner import Runner

DOCUMENTED = yaml.safe_load(nft_table.RETURN)
RULES = "table inet guard\ndelete table inet guard\ntable inet guard {\n  chain empty { }\n}\n"
PRESENT = {"name": "guard", "ruleset": RULES}
ABSENT = {"name": "guard", "state": "absent"}


@pytest.fixture
def in_a_network(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[None]:
    with network() as net:
        monkeypatch.setattr(_proc, "run", lambda _command, argv, data, **_options: net.run(argv, data))
        yield


@pytest.fixture
def without_nft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AnsibleModule, "get_bin_path", lambda _self, _name: None)


def test_the_result_has_the_documented_keys(run: Runner, in_a_network: None) -> None:
    result = run("nft_table", PRESENT, diff=True)
    assert set(result) - {"changed"} == set(DOCUMENTED)
    assert set(result["diff"]) == set(DOCUMENTED["diff"]["contains"])


def test_check_mode_tells_what_the_real_run_does(run: Runner, in_a_network: None) -> None:
    for args, action in ((PRESENT, "created"), (ABSENT, "removed")):
        predicted = run("nft_table", args, check=True, diff=True)
        assert (predicted["changed"], predicted["action"]) == (True, action)
        assert run("nft_table", args, diff=True) == predicted
        for check in (True, False):
            again = run("nft_table", args, check=check)
            assert again == {"changed": False, "action": "none", "notes": []}


def test_an_error_is_a_failure_with_its_text(run: Runner, in_a_network: None) -> None:
    for check in (True, False):
        result = run("nft_table", {**PRESENT, "ruleset": "table inet guard {"}, check=check)
        assert result["failed"] is True
        assert "nft does not take the ruleset" in result["msg"]


def test_a_table_needs_rules(run: Runner) -> None:
    assert "ruleset" in run("nft_table", {"name": "guard"})["msg"]


def test_without_nft_check_mode_predicts_and_a_run_says_what_is_missing(run: Runner, without_nft: None) -> None:
    predicted = run("nft_table", PRESENT, check=True, diff=True)
    assert (predicted["changed"], predicted["diff"]["after"]) == (True, RULES)
    assert "was not validated" in predicted["notes"][0]
    assert "Install the package nftables" in run("nft_table", PRESENT)["msg"]
    assert run("nft_table", ABSENT) == {"changed": False, "action": "none", "notes": []}
