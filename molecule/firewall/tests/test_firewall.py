# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who reaches a server: from a second host, through everything that a day brings."""

from __future__ import annotations

import pytest
from labtest import LabHost

FIREWALL = "gpufleet.triton.triton_firewall"
SITE = "gpufleet.triton.site"
UNIT = "triton-firewall.service"
HEALTH = "/v2/health/ready"
# Of the lab's second network, all of which is listed but for the metrics.
SERVER, LISTED, PROMETHEUS = "10.9.9.1", "10.9.9.2", "10.9.9.3"
SERVER6, LISTED6, OTHER6 = "fd09::1", "fd09::2", "fd08::2"
WIRES = {"gpu1": [f"{SERVER}/24", f"{SERVER6}/64"], "client": [f"{LISTED}/24", f"{PROMETHEUS}/24", f"{LISTED6}/64", f"{OTHER6}/64"]}


def wire(host: LabHost) -> None:
    """Give a host its addresses of the second network. They don't outlive a reboot, as the lab gives a host its network anew."""
    host.sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.eth0.disable_ipv6=0")
    for address in WIRES[host.name]:
        host.sh(f"ip address replace {address} dev eth0 {'nodad' if ':' in address else ''}")


def own_address(host: LabHost) -> str:
    """The address that the lab gave a host, which no list has."""
    return host.sh("getent ahostsv4 $(hostname) | awk '{print $1; exit}'")


class Peer:
    """The second host, as seen from the server."""

    def __init__(self, host: LabHost) -> None:
        self.host = host
        self.unlisted = own_address(host)

    def status(self, source: str, port: int = 8000, path: str = HEALTH, to: str = "") -> int:
        """The status of an answer; 0 when there is none within three seconds."""
        to = to or (f"[{SERVER6}]" if ":" in source else SERVER)
        done = self.host.host.run(f"curl -s -o /dev/null -m 3 -w '%{{http_code}}' --interface {source} 'http://{to}:{port}{path}'")
        # 28 is nothing at all until the time was over: a refused connection or an answer that breaks off would say that something is there.
        assert (done.rc, done.stdout) in ((0, "200"), (28, "000")), (done.rc, done.stdout, done.stderr)
        return int(done.stdout)


@pytest.fixture(scope="module")
def client() -> LabHost:
    return LabHost("client")


@pytest.fixture
def peer(gpu1: LabHost, client: LabHost) -> Peer:
    for host in (gpu1, client):
        wire(host)
    return Peer(client)


@pytest.fixture
def in_force(gpu1: LabHost, peer: Peer, wait_until):
    """Says whether the guard does what the inventory says, as soon as the server answers on the host itself."""

    def check() -> bool:
        wire(gpu1)
        wait_until(lambda: gpu1.http(HEALTH)[0] == 200, seconds=120)
        return (peer.status(LISTED), peer.status(peer.unlisted)) == (200, 0)

    return check


def table(host: LabHost) -> str:
    return host.host.run("nft --stateless list table inet triton_guard").stdout


def test_who_is_listed_gets_an_answer_and_others_get_nothing(gpu1, peer):
    assert peer.status(LISTED) == 200
    assert peer.status(peer.unlisted) == 0
    # Also at the address that the lab gave the server.
    assert peer.status(peer.unlisted, to=own_address(gpu1)) == 0


def test_the_grpc_port_is_guarded_as_well(peer):
    script = "import socket, sys; socket.create_connection((sys.argv[2], 8001), 3, (sys.argv[1], 0))"
    for source, reached in ((LISTED, True), (peer.unlisted, False)):
        done = peer.host.host.run(f'python3 -c "{script}" {source} {SERVER}')
        assert (done.rc == 0) == reached and ("TimeoutError" in done.stderr) != reached, done.stderr


def test_the_metrics_have_a_list_of_their_own(peer):
    assert [peer.status(source, 8002, "/metrics") for source in (LISTED, PROMETHEUS, peer.unlisted)] == [0, 200, 0]


def test_the_host_itself_always_gets_an_answer(gpu1):
    for address in ("127.0.0.1", SERVER, own_address(gpu1)):
        assert gpu1.sh(f"curl -s -o /dev/null -w '%{{http_code}}' http://{address}:8000{HEALTH}") == "200"
        assert gpu1.sh(f"curl -s -o /dev/null -w '%{{http_code}}' http://{address}:8002/metrics") == "200"


def test_ipv6_and_a_process_of_the_hosts_own(gpu1, peer):
    """Triton is published by IPv4 alone here, so a process of the host's own is asked, as with host networking."""
    gpu1.sh("systemd-run --unit nine --collect python3 -m http.server --bind :: --directory /etc/gpufleet/triton/server 9000")
    try:
        gpu1.sh("for i in $(seq 50); do curl -s -o /dev/null http://127.0.0.1:9000/start && exit 0; sleep 0.1; done; exit 1")
        assert [peer.status(source, 9000, "/start", SERVER) for source in (LISTED, PROMETHEUS)] == [200, 0]
        gpu1.sh(f"ip -6 route replace {OTHER6} dev eth0")
        assert [peer.status(source, 9000, "/start") for source in (LISTED6, OTHER6)] == [200, 0]
        assert gpu1.sh("curl -s -o /dev/null -w '%{http_code}' 'http://[::1]:9000/start'") == "200"
    finally:
        gpu1.sh("systemctl stop nine")


def test_the_way_past_the_published_ports_is_guarded(gpu1, peer):
    """Docker before 28 lets a neighbour in that routes to the container's own address."""
    inside = gpu1.sh("docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' triton")
    peer.host.sh(f"ip route replace {inside} via {SERVER}")
    gpu1.sh("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0")
    assert [peer.status(source, to=inside) for source in (LISTED, peer.unlisted)] == [200, 0]


def test_no_rule_of_anybody_elses_lets_in_what_the_guard_drops(gpu1, peer):
    """What ufw and firewalld do when they open a port, and more than that."""
    gpu1.sh("iptables -I INPUT -j ACCEPT && iptables -I FORWARD -j ACCEPT && iptables -I DOCKER-USER -j ACCEPT")
    for hook in ("input", "forward"):
        gpu1.sh(f"nft 'add table inet open; add chain inet open {hook} {{ type filter hook {hook} priority -300; policy accept; }}'")
        gpu1.sh(f"nft add rule inet open {hook} accept")
    try:
        assert (peer.status(peer.unlisted), peer.status(LISTED)) == (0, 200)
    finally:
        gpu1.sh("iptables -D INPUT -j ACCEPT && iptables -D FORWARD -j ACCEPT && iptables -D DOCKER-USER -j ACCEPT")
        gpu1.sh("nft delete table inet open")


def test_a_restart_of_docker_changes_nothing(gpu1, in_force):
    gpu1.sh("systemctl restart docker")
    assert in_force()


@pytest.mark.thorough
def test_a_change_by_hand_is_taken_back(gpu1, play, in_force):
    before = table(gpu1)
    gpu1.sh("nft add element inet triton_guard port_8000_ip4 '{ 0.0.0.0/0 }'")
    done = play(FIREWALL, check=True)
    assert (done.rc, done.counts["changed"]) == (0, 1) and "changed by hand" in done.text, done.text
    done = play(FIREWALL)
    assert (done.rc, done.counts["changed"]) == (0, 1) and "changed by hand" in done.text, done.text
    assert table(gpu1) == before
    assert play(FIREWALL).counts["changed"] == 0
    assert in_force()


def test_a_table_that_was_flushed_is_put_back(gpu1, play, in_force):
    before = table(gpu1)
    gpu1.sh("nft flush ruleset")
    done = play(FIREWALL)
    assert (done.rc, done.counts["changed"]) == (0, 1) and "flushed or deleted" in done.text, done.text
    assert table(gpu1) == before
    # Its own rules Docker only makes when it starts.
    gpu1.sh("systemctl restart docker")
    assert in_force()


@pytest.mark.thorough
def test_who_restarts_docker_after_a_flush_has_the_guard_back_as_well(gpu1, in_force):
    gpu1.sh("nft flush ruleset")
    gpu1.sh("systemctl restart docker")
    assert in_force()


@pytest.mark.thorough
def test_nftables_service_and_the_guard_live_together(gpu1, play, wait_until):
    before = table(gpu1)

    def becomes(text: str) -> None:
        # systemctl waits for the one unit; the guard's comes right after it.
        wait_until(lambda: table(gpu1) == text)

    assert "flush ruleset" in gpu1.sh("cat /etc/nftables.conf")
    done = play(FIREWALL)
    assert "flush ruleset" not in done.text, done.text
    gpu1.sh("systemctl enable --now nftables")
    try:
        done = play(FIREWALL)
        assert done.rc == 0 and "its configuration has 'flush ruleset'" in done.text, done.text
        for verb in ("restart", "reload", "stop", "start"):
            gpu1.sh(f"systemctl {verb} nftables")
            becomes("" if verb == "stop" else before)
        gpu1.reboot()
        becomes(before)
        wait_until(lambda: gpu1.host.run("systemctl is-active docker").rc == 0)
        assert table(gpu1) == before
    finally:
        gpu1.sh("systemctl disable nftables")
    assert play(FIREWALL).counts["changed"] == 0


def test_after_a_reboot_the_guard_is_there_before_docker(gpu1, peer, in_force):
    gpu1.reboot()
    assert in_force()
    started = [
        int(gpu1.sh(f"systemctl show --value -p {moment}TimestampMonotonic {unit}"))
        for unit, moment in ((UNIT, "ActiveEnter"), ("docker.service", "ExecMainStart"))
    ]
    assert 0 < started[0] < started[1]


def test_a_second_run_changes_nothing(play):
    for check in (True, False):
        done = play(playbook=SITE, check=check)
        assert (done.rc, done.counts["changed"]) == (0, 0), done.text


@pytest.mark.thorough
def test_an_admin_can_open_the_guard_and_close_it_again(gpu1, peer, in_force):
    gpu1.sh("nft delete table inet triton_guard")
    assert peer.status(peer.unlisted) == 200
    gpu1.sh(f"systemctl reload {UNIT}")
    assert in_force()


def test_a_new_list_takes_effect(gpu1, peer, play, in_force):
    done = play(FIREWALL, triton_firewall_ports={"http": [peer.unlisted], "metrics": []})
    assert (done.rc, done.counts["changed"]) == (0, 2), done.text
    assert (peer.status(LISTED), peer.status(peer.unlisted)) == (0, 200)
    assert [peer.status(source, 8002, "/metrics") for source in (LISTED, PROMETHEUS)] == [0, 0]
    assert play(FIREWALL).rc == 0
    assert in_force()


def test_what_is_published_without_a_list_is_refused(gpu1, play, in_force):
    before = table(gpu1)
    done = play(playbook=SITE, triton_firewall_allowed_networks=[], triton_firewall_ports={"http": []})
    assert done.rc != 0 and done.counts["changed"] == 0, done.text
    for word in ("grpc on 0.0.0.0:8001, metrics on 0.0.0.0:8002", "triton_firewall_allowed_networks", "triton_firewall_ports"):
        assert word in done.text
    assert table(gpu1) == before
    assert in_force()


def test_networks_that_cannot_be_used_are_explained(play):
    done = play(FIREWALL, triton_firewall_ports={"metrics": ["10.9.9.3/24"]})
    assert done.rc != 0 and "write 10.9.9.0/24 for the network, or 10.9.9.3 for that one host" in done.text, done.text


@pytest.mark.thorough
def test_a_server_for_the_host_alone_needs_no_guard(gpu1, play):
    done = play(FIREWALL, triton_server_bind_address="127.0.0.1", triton_firewall_allowed_networks=[], triton_firewall_ports={})
    assert done.rc == 0 and table(gpu1) == "", done.text
    assert play(FIREWALL).rc == 0 and table(gpu1)


def test_absent_gives_the_host_back(gpu1, peer, play):
    done = play(FIREWALL, check=True, triton_firewall_state="absent")
    assert done.rc == 0 and done.counts["changed"] > 0 and table(gpu1), done.text
    done = play(FIREWALL, triton_firewall_state="absent")
    assert done.rc == 0, done.text
    assert table(gpu1) == ""
    assert not gpu1.file("/etc/gpufleet/firewall.nft").exists
    assert gpu1.sh(f"find /etc/systemd -name {UNIT}") == ""
    assert gpu1.host.run(f"systemctl cat {UNIT}").rc != 0
    assert play(FIREWALL, triton_firewall_state="absent").counts["changed"] == 0
    # It was the guard that kept it closed, and nothing else.
    assert (peer.status(peer.unlisted), peer.status(peer.unlisted, 8002, "/metrics")) == (200, 200)
