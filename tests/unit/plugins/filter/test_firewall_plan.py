# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.triton.plugins.filter.firewall_plan import FilterModule

firewall_plan = FilterModule().filters()["firewall_plan"]
SERVER = [{"name": "http", "port": "8000", "address": "0.0.0.0"}]


def test_a_plan_without_a_problem():
    assert firewall_plan({}, ["10.1.0.0/16"], SERVER) == {
        "ports": [{"port": 8000, "inside": 8000, "ip4": ["10.1.0.0/16"], "ip6": []}],
        "open": [],
        "problem": "",
    }


def test_a_problem_is_a_sentence_and_no_plan():
    plan = firewall_plan({"http": ["10.1.2.3/16"]}, [], SERVER)
    assert (plan["ports"], plan["open"]) == ([], [])
    assert plan["problem"].startswith("triton_firewall_ports.http: ") and plan["problem"].endswith(".")


def test_what_is_no_dictionary_is_an_error_of_the_caller():
    with pytest.raises(AnsibleFilterError, match="wants a dictionary"):
        firewall_plan(["http"], [], SERVER)
