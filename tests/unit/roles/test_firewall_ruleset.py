# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rules of triton_firewall, as the role's template writes them: nft takes them, and packets meet what they say.

Three network namespaces: a peer, the host, and a container behind a bridge of the host's, whose ports the host publishes as Docker does.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import typing as t
from pathlib import Path

import jinja2
import pytest
from ansible_collections.gpufleet.triton.plugins.filter.firewall_plan import firewall_plan
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.network import Network, network

TEMPLATE = Path(__file__).resolve().parents[3] / "roles/triton_firewall/templates/firewall.nft.j2"
SERVER = [{"name": name, "port": port, "address": "0.0.0.0"} for name, port in (("http", 18000), ("grpc", 8001), ("metrics", 8002))]
# Listens on ports of all addresses, until its input ends.
SERVE = """
import socket, sys
listeners = [socket.create_server(("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True) for port in sys.argv[1:]]
print(flush=True)
sys.stdin.read()
"""
# Tries to connect, to all at once; says to which it could.
CONNECT = """
import concurrent.futures, json, socket, sys
def connects(source, address, port):
    try:
        socket.create_connection((address, port), timeout=0.7, source_address=(source, 0) if source else None).close()
    except TimeoutError:
        return False
    return True
with concurrent.futures.ThreadPoolExecutor(32) as pool:
    print(json.dumps(list(pool.map(lambda probe: connects(*probe), json.loads(sys.argv[1])))))
"""
PUBLISH = """
table ip nat {
  chain prerouting {
    type nat hook prerouting priority dstnat;
    fib daddr type local dnat to tcp dport map { 18000 : 10.8.0.2 . 8000, 9500 : 10.8.0.2 . 8000, 8001 : 10.8.0.2 . 8001 }
  }
}
table ip6 nat {
  chain prerouting {
    type nat hook prerouting priority dstnat;
    fib daddr type local dnat to tcp dport map { 18000 : fd08::2 . 8000, 9500 : fd08::2 . 8000, 8001 : fd08::2 . 8001 }
  }
}
"""


def rules(allowed: t.Sequence[str] = (), interfaces: t.Sequence[str] = (), **ports: list[str]) -> str:
    environment = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined, autoescape=False)
    environment.filters.update({"comment": lambda text: f"# {text}", "to_json": json.dumps})
    plan = firewall_plan(ports, allowed, SERVER)
    assert plan["problem"] == ""
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        ansible_managed="Ansible managed",
        triton_firewall_interfaces=interfaces,
        __triton_firewall_plan=plan,
        __triton_firewall_table="triton_guard",
        __triton_firewall_unit="triton-firewall.service",
    )


class Lab:
    """The three, and who can connect to what."""

    def __init__(self, peer: Network, host: Network, container: Network) -> None:
        self.peer, self.host, self.container = peer, host, container

    def wire(self) -> None:
        ip = ("ip",)
        self.host.must(*ip, "link", "add", "uplink", "type", "veth", "peer", "name", "uplink", "netns", str(self.peer.pid))
        self.host.must(*ip, "link", "add", "inside", "type", "veth", "peer", "name", "uplink", "netns", str(self.container.pid))
        self.host.must(*ip, "link", "add", "bridge", "type", "bridge")
        self.host.must(*ip, "link", "set", "inside", "master", "bridge", "up")
        links = [
            (self.peer, "uplink", ["10.7.0.2/24", "10.7.0.3/24", "fd07::2/64", "fd07::3/64"]),
            (self.host, "uplink", ["10.7.0.1/24", "fd07::1/64"]),
            (self.host, "bridge", ["10.8.0.1/24", "fd08::1/64"]),
            (self.container, "uplink", ["10.8.0.2/24", "fd08::2/64"]),
        ]
        for net, link, addresses in links:
            for address in addresses:
                net.must(*ip, "address", "add", address, "dev", link, *(["nodad"] if ":" in address else []))
            net.must(*ip, "link", "set", link, "up")
            net.must(*ip, "link", "set", "lo", "up")
        for net, here, there in ((self.peer, "07::1", "08"), (self.container, "08::1", "07")):
            net.must(*ip, "route", "add", f"10.{int(there)}.0.0/24", "via", f"10.{int(here[:2])}.0.1")
            net.must(*ip, "route", "add", f"fd{there}::/64", "via", f"fd{here}")
        self.host.must("sysctl", "--quiet", "--write", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        self.host.must("nft", "--file", "-", data=PUBLISH)

    @staticmethod
    def reached(net: Network, *probes: tuple[str, str, int]) -> list[bool]:
        """For each (source, address, port) whether it connects; any source where it is empty."""
        return json.loads(net.must("python3", "-c", CONNECT, json.dumps(probes)))

    def load(self, text: str) -> None:
        self.host.must("nft", "--file", "-", data=text)


@pytest.fixture(scope="module")
def lab() -> t.Iterator[Lab]:
    with contextlib.ExitStack() as stack:
        made = Lab(*(stack.enter_context(network()) for _number in range(3)))
        made.wire()
        for net, ports in ((made.container, ("8000", "8001", "9000")), (made.host, ("8002", "9000"))):
            server = stack.enter_context(
                subprocess.Popen(
                    ["nsenter", "--target", str(net.pid), "--net", "--", "python3", "-c", SERVE, *ports],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            )
            assert server.stdin and server.stdout and server.stdout.readline()
            stack.callback(server.stdin.close)
        # A new bridge takes a moment before it forwards.
        for _attempt in range(20):
            if all(made.reached(made.peer, *everything())):
                break
        yield made


def everything(peer: str = "") -> list[tuple[str, str, int]]:
    """What a peer may try by IPv4 and IPv6: the published ports, and the container past them."""
    published = [(f"{net}{peer}" if peer else "", f"{net}1", port) for net in ("10.7.0.", "fd07::") for port in (18000, 8001, 8002)]
    return published + [
        (f"{net}{peer}" if peer else "", to, port) for net, to in (("10.7.0.", "10.8.0.2"), ("fd07::", "fd08::2")) for port in (8000, 8001)
    ]


def test_the_lab_lets_everybody_in_without_the_guard(lab: Lab):
    lab.load("table inet triton_guard\ndelete table inet triton_guard\n")
    assert all(lab.reached(lab.peer, *everything()))


def test_who_is_listed_comes_in_and_others_do_not(lab: Lab):
    lab.load(rules(["10.7.0.2", "fd07::2"]))
    assert all(lab.reached(lab.peer, *everything("2")))
    assert not any(lab.reached(lab.peer, *everything("3")))


def test_an_address_family_without_a_list_is_closed(lab: Lab):
    lab.load(rules(["10.7.0.0/16"]))
    assert lab.reached(lab.peer, *everything()) == [not probe[1].startswith("fd") for probe in everything()]


def test_each_port_has_its_own_list(lab: Lab):
    lab.load(rules(["10.7.0.0/24", "fd07::/16"], grpc=["10.7.0.3"], metrics=[]))
    assert lab.reached(lab.peer, *(("10.7.0.2", "10.7.0.1", port) for port in (18000, 8001, 8002))) == [True, False, False]
    assert lab.reached(lab.peer, *(("10.7.0.3", "10.7.0.1", port) for port in (18000, 8001, 8002))) == [True, True, False]


def test_what_is_not_tritons_is_left_alone(lab: Lab):
    lab.load(rules(http=[], grpc=[], metrics=[]))
    assert not any(lab.reached(lab.peer, *everything()))
    assert all(lab.reached(lab.peer, ("", "10.7.0.1", 9000), ("", "10.8.0.2", 9000), ("", "fd07::1", 9000)))
    # Published by another container, which happens to have the same port inside.
    assert all(lab.reached(lab.peer, ("", "10.7.0.1", 9500), ("", "fd07::1", 9500)))


def test_the_host_uses_its_own_ports_by_any_of_its_addresses(lab: Lab):
    lab.load(rules(http=[], grpc=[], metrics=[]))
    assert all(lab.reached(lab.host, *(("", address, 8002) for address in ("127.0.0.1", "::1", "10.7.0.1", "fd07::1", "10.8.0.1"))))
    assert all(lab.reached(lab.host, ("", "10.8.0.2", 8000), ("", "fd08::2", 8000)))


def test_a_container_uses_the_same_ports_of_other_hosts(lab: Lab):
    lab.load(rules(http=[], grpc=[], metrics=[]))
    script = ["nsenter", "--target", str(lab.peer.pid), "--net", "--", "python3", "-c", SERVE, "8001", "8002"]
    with subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin and server.stdout and server.stdout.readline()
        try:
            assert all(lab.reached(lab.container, ("", "10.7.0.2", 8001), ("", "10.7.0.2", 8002), ("", "fd07::2", 8001)))
            assert all(lab.reached(lab.host, ("", "10.7.0.2", 8001)))
        finally:
            server.stdin.close()


def test_a_container_of_the_host_is_a_peer_like_any_other(lab: Lab):
    lab.load(rules(["10.7.0.0/24"]))
    assert lab.reached(lab.container, ("", "10.7.0.1", 8002)) == [False]
    lab.load(rules(["10.8.0.0/24"]))
    assert lab.reached(lab.container, ("", "10.7.0.1", 8002)) == [True]


def test_no_packet_slips_through_while_the_table_is_replaced(lab: Lab):
    lab.load(rules(["10.9.0.0/16"]))
    knock = """
import select, socket, sys, time
knocks, end = [], time.monotonic() + 1.5
while time.monotonic() < end and len(knocks) < 500:
    for port in (18000, 8002):
        knock = socket.socket()
        knock.setblocking(False)
        knock.connect_ex(("10.7.0.1", port))
        knocks.append(knock)
    time.sleep(0.005)
time.sleep(0.2)
print(len(knocks), len(select.select([], knocks, [], 0)[1]))
"""
    script = ["nsenter", "--target", str(lab.peer.pid), "--net", "--", "python3", "-c", knock]
    with subprocess.Popen(script, stdout=subprocess.PIPE, text=True) as client:
        replaced = 0
        while client.poll() is None:
            lab.load(rules(["10.7.0.3"] if replaced % 2 else ["10.9.0.0/16"]))
            replaced += 1
        assert client.stdout
        knocks, answered = map(int, client.stdout.read().split())
    assert knocks > 100 and replaced > 5
    assert answered == 0


def test_other_interfaces_than_the_named_ones_are_open(lab: Lab):
    lab.load(rules(interfaces=["elsewhere", "eth0.100"], http=[], grpc=[], metrics=[]))
    assert all(lab.reached(lab.peer, *everything()))
    lab.load(rules(interfaces=["elsewhere", "uplink"], http=[], grpc=[], metrics=[]))
    assert not any(lab.reached(lab.peer, *everything()))


def test_an_open_connection_ends_when_its_peer_is_taken_from_the_list_and_not_before(lab: Lab):
    lab.load(rules(["10.7.0.2"]))
    talk = """
import socket, sys
talk = socket.create_connection(("10.7.0.1", 18000), 3, source_address=("10.7.0.2", 0))
print(flush=True)
for line in sys.stdin:
    talk.sendall(line.encode())
    print(flush=True)
"""
    script = ["nsenter", "--target", str(lab.peer.pid), "--net", "--", "python3", "-c", talk]
    with subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdin and client.stdout and client.stdout.readline()

        def unacknowledged() -> int:
            """Bytes that the client has sent and that nobody has answered for."""
            client.stdin.write("word\n")
            client.stdin.flush()
            client.stdout.readline()
            lab.peer.must("sleep", "0.3")
            return int(lab.peer.must("ss", "--no-header", "--tcp", "state", "established", "dst", "10.7.0.1").split()[1])

        try:
            lab.load(rules(["10.7.0.2", "10.7.0.3"]))
            assert unacknowledged() == 0
            lab.load(rules(["10.7.0.3"]))
            assert unacknowledged() > 0
        finally:
            client.stdin.close()
