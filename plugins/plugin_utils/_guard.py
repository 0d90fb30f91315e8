# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may use which port of a host, out of the options of the role triton_firewall. Private to the collection."""

from __future__ import annotations

import ipaddress
import typing as t

Network = t.Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

# Triton's ports by name, as they are inside of its container.
INSIDE = {"http": 8000, "grpc": 8001, "metrics": 8002}
_PORTS = "triton_firewall_ports"
_NETWORKS = "triton_firewall_allowed_networks"


class GuardError(Exception):
    """An option that cannot be used; the text says why and what to write."""


def read_network(text: object) -> Network:
    """An address or a network in CIDR notation."""
    try:
        network = ipaddress.ip_network(str(text), strict=False)
    except ValueError as exc:
        raise GuardError(f"'{text}' is neither an address nor a network such as 10.1.0.0/16 or 2001:db8::/32 ({exc})") from exc
    address, _slash, _size = str(text).partition("/")
    if "%" in address:
        raise GuardError(f"'{text}' names an interface, which a list of networks can't: write {address.partition('%')[0]}")
    if ipaddress.ip_address(address) != network.network_address:
        raise GuardError(f"'{text}' is a host in its network: write {network} for the network, or {address} for that one host")
    return network


def read_networks(texts: t.Iterable[object]) -> tuple[list[str], list[str]]:
    """The IPv4 and the IPv6 networks, sorted, without those that others hold."""
    networks = [read_network(text) for text in texts]
    merged4 = ipaddress.collapse_addresses(network for network in networks if isinstance(network, ipaddress.IPv4Network))
    merged6 = ipaddress.collapse_addresses(network for network in networks if isinstance(network, ipaddress.IPv6Network))
    return [_written(network) for network in merged4], [_written(network) for network in merged6]


def _written(network: Network) -> str:
    """A network of one host as its address."""
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def is_loopback(address: str) -> bool:
    """Whether what is bound to an address is for the host alone. What isn't known to be is not."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return False


def _lists(ports: t.Mapping[object, object], server: t.Mapping[str, int]) -> dict[int, tuple[str, t.Sequence[object]]]:
    """For each port that has a list of its own: its key in the option, and the list."""
    found: dict[int, tuple[str, t.Sequence[object]]] = {}
    for key, networks in ports.items():
        name = str(key)
        if name not in server and not (name.isdigit() and 0 < int(name) < 65536):
            raise GuardError(f"{_PORTS} has '{name}', but its keys are port numbers and {', '.join(server)}")
        if isinstance(networks, str) or not isinstance(networks, t.Sequence):
            raise GuardError(
                f"{_PORTS}.{name} must be a list of networks; an empty one, [], keeps the port to the host itself. It is {networks!r}"
            )
        port = server[name] if name in server else int(name)
        if port in found:
            raise GuardError(f"{_PORTS} has two lists for port {port}: {found[port][0]} and {name}. Leave one of them out")
        found[port] = (name, networks)
    return found


def _row(port: int, inside: int, option: str, networks: t.Iterable[object]) -> dict[str, t.Any]:
    try:
        ip4, ip6 = read_networks(networks)
    except GuardError as exc:
        raise GuardError(f"{option}: {exc}") from exc
    return {"port": port, "inside": inside, "ip4": ip4, "ip6": ip6}


def plan(ports: t.Mapping[object, object], allowed: t.Sequence[object], server: t.Sequence[t.Mapping[str, t.Any]]) -> dict[str, t.Any]:
    """The ports to guard, each with who may use it, and the ports that need a list and have none.

    C(server) has a row for each of Triton's ports: its name, port, and the address that it is bound to.
    """
    numbers = {row["name"]: int(row["port"]) for row in server}
    own = _lists(ports, numbers)
    rows, open_ports = [], []
    for name, port in numbers.items():
        if port in own:
            key, networks = own.pop(port)
            rows.append(_row(port, INSIDE[name], f"{_PORTS}.{key}", networks))
        elif allowed:
            rows.append(_row(port, INSIDE[name], _NETWORKS, allowed))
    rows += [_row(port, port, f"{_PORTS}.{key}", networks) for port, (key, networks) in sorted(own.items())]
    guarded = {row["port"] for row in rows}
    for row in server:
        if int(row["port"]) not in guarded and not is_loopback(str(row["address"])):
            open_ports.append({"name": row["name"], "where": f"{row['name']} on {row['address']}:{row['port']}"})
    # A port inside of a container that two rows name is Triton's, which come first.
    seen: set[int] = set()
    for row in rows:
        row["inside"] = None if row["inside"] in seen else row["inside"]
        seen.add(row["inside"])
    return {"ports": rows, "open": open_ports}
