# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpufleet.triton.plugins.plugin_utils import _guard


def server(address: str = "127.0.0.1", http: int = 8000, **addresses: str) -> list[dict[str, t.Any]]:
    ports = {"http": http, "grpc": 8001, "metrics": 8002}
    return [{"name": name, "port": port, "address": addresses.get(name, address)} for name, port in ports.items()]


def guarded(plan: dict[str, t.Any]) -> dict[int, tuple[list[str], list[str]]]:
    return {row["port"]: (row["ip4"], row["ip6"]) for row in plan["ports"]}


def test_what_is_on_the_host_alone_needs_no_guard():
    assert _guard.plan({}, [], server()) == {"ports": [], "open": []}


def test_one_list_is_for_all_ports():
    plan = _guard.plan({}, ["10.1.0.0/16", "2001:db8::/32", "192.0.2.7"], server("0.0.0.0"))
    assert guarded(plan) == dict.fromkeys((8000, 8001, 8002), (["10.1.0.0/16", "192.0.2.7"], ["2001:db8::/32"]))
    assert plan["open"] == []


def test_a_port_may_have_its_own_list_by_name_and_by_number():
    plan = _guard.plan({"metrics": ["192.0.2.9"], "8001": [], 9000: ["192.0.2.8"]}, ["10.1.0.0/16"], server("0.0.0.0"))
    assert guarded(plan) == {8000: (["10.1.0.0/16"], []), 8001: ([], []), 8002: (["192.0.2.9"], []), 9000: (["192.0.2.8"], [])}


def test_a_list_guards_also_what_is_on_the_host_alone():
    assert list(guarded(_guard.plan({}, ["10.1.0.0/16"], server()))) == [8000, 8001, 8002]
    assert list(guarded(_guard.plan({"http": []}, [], server()))) == [8000]


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "[::]", "10.1.2.3", "2001:db8::1", "", "gpu1"])
def test_what_other_hosts_reach_without_a_list_is_named(address: str):
    assert _guard.plan({"http": []}, [], server(address))["open"] == [
        {"name": "grpc", "where": f"grpc on {address}:8001"},
        {"name": "metrics", "where": f"metrics on {address}:8002"},
    ]


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost"])
def test_what_is_the_hosts_own_is_known(address: str):
    assert _guard.is_loopback(address)


def test_single_ports_may_be_published():
    assert [row["name"] for row in _guard.plan({}, [], server(metrics="0.0.0.0"))["open"]] == ["metrics"]


def test_networks_that_others_hold_are_left_out():
    plan = _guard.plan({"http": ["10.0.0.0/25", "10.0.0.128/25", "10.0.0.7", "10.0.0.7/32", "fd00::/8", "fd00::1"]}, [], server())
    assert guarded(plan) == {8000: (["10.0.0.0/24"], ["fd00::/8"])}


def test_everybody_is_a_network():
    assert guarded(_guard.plan({"http": ["0.0.0.0/0", "::/0", "10.1.2.3"]}, [], server())) == {8000: (["0.0.0.0/0"], ["::/0"])}


def test_the_port_in_the_container_is_tritons_own():
    plan = _guard.plan({8000: []}, ["10.1.0.0/16"], server(http=18000))
    assert {row["port"]: row["inside"] for row in plan["ports"]} == {18000: 8000, 8001: 8001, 8002: 8002, 8000: None}


@pytest.mark.parametrize(
    ("ports", "words"),
    [
        ({"http": ["10.1.2.3/16"]}, ["triton_firewall_ports.http", "10.1.0.0/16 for the network", "10.1.2.3 for that one host"]),
        ({"http": ["fd00::1/8"]}, ["fd00::/8 for the network"]),
        ({"http": ["prometheus"]}, ["'prometheus'", "neither an address nor a network"]),
        ({"http": ["10.1.0.0/33"]}, ["'10.1.0.0/33'"]),
        ({"http": ["10.1.0.0-10.1.0.9"]}, ["'10.1.0.0-10.1.0.9'"]),
        ({"http": ["fe80::1%eth0"]}, ["'fe80::1%eth0'"]),
        ({"http": ["10.0.0.1; }"]}, ["neither an address"]),
        ({"http": [""]}, ["neither an address"]),
        ({"http": [True]}, ["'True'"]),
        ({"http": "10.1.0.0/16"}, ["triton_firewall_ports.http must be a list"]),
        ({"http": None}, ["must be a list", "[]"]),
        ({"https": []}, ["'https'", "http, grpc, metrics"]),
        ({"0": []}, ["'0'"]),
        ({"65536": []}, ["'65536'"]),
        ({"80-90": []}, ["'80-90'"]),
        ({"http": [], 8000: []}, ["two lists for port 8000"]),
    ],
)
def test_what_cannot_be_used_is_explained(ports: dict[object, object], words: list[str]):
    with pytest.raises(_guard.GuardError) as caught:
        _guard.plan(ports, [], server())
    for word in words:
        assert word in str(caught.value)


def test_a_fault_in_the_common_list_is_explained():
    with pytest.raises(_guard.GuardError, match=r"triton_firewall_allowed_networks: '10\.1\.2\.3/8'"):
        _guard.plan({}, ["10.1.2.3/8"], server())
