# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can be known of settings for dockerd before there is a dockerd to ask. Private to the collection."""

from __future__ import annotations

import typing as t

# "Daemon configuration file" in Docker's documentation of dockerd. A key that is not here is left to dockerd itself.
_BOOLEANS = (
    "debug experimental icc init ip-forward ip-masq ip6tables iptables ipv6 live-restore no-new-privileges raw-logs selinux-enabled "
    "userland-proxy"
)
_NUMBERS = "max-concurrent-downloads max-concurrent-uploads max-download-attempts mtu network-control-plane-mtu shutdown-timeout"
_TEXTS = (
    "bip bridge cgroup-parent containerd data-root default-cgroupns-mode default-ipc-mode default-runtime exec-root fixed-cidr group ip "
    "log-driver log-format log-level seccomp-profile storage-driver userns-remap"
)
_LISTS = (
    "authorization-plugins cdi-spec-dirs default-address-pools dns dns-opts dns-search exec-opts insecure-registries labels "
    "node-generic-resources registry-mirrors storage-opts"
)
_OBJECTS = "builder default-network-opts default-ulimits features log-opts proxies runtimes"

Kind = tuple[str, t.Callable[[object], bool]]


def _is_number(value: object) -> bool:
    # To Python a truth value is a number as well.
    return isinstance(value, int) and not isinstance(value, bool)


BOOLEAN: Kind = ("true or false, without quotes", lambda value: isinstance(value, bool))
NUMBER: Kind = ("a whole number, without quotes", _is_number)
TEXT: Kind = ("a text, in quotes", lambda value: isinstance(value, str))
LIST: Kind = ("a list", lambda value: isinstance(value, list))
OBJECT: Kind = ("a dictionary", lambda value: isinstance(value, dict))

KINDS: dict[str, Kind] = {
    name: kind
    for names, kind in ((_BOOLEANS, BOOLEAN), (_NUMBERS, NUMBER), (_TEXTS, TEXT), (_LISTS, LIST), (_OBJECTS, OBJECT))
    for name in names.split()
}
# Of what kind each value in an object is.
INNER_KINDS: dict[str, Kind] = {"features": BOOLEAN, "log-opts": TEXT, "proxies": TEXT, "runtimes": OBJECT, "default-ulimits": OBJECT}

_HOSTS = (
    "'hosts' cannot be set here: docker.service already names the engine's sockets with -H, and with both dockerd does not start, so that "
    "nothing on the host reaches it any more. Leave 'hosts' out. To listen elsewhere too, change -H in a drop-in of the unit ('systemctl "
    "edit docker.service': an empty ExecStart=, then one with all arguments), and protect that address with TLS."
)


def _shown(value: object) -> str:
    """What was given, without what may be a secret."""
    if isinstance(value, str):
        return "a text"
    if value is None:
        return "nothing"
    if isinstance(value, (bool, int, float)):
        return str(value).lower()
    return "a list" if isinstance(value, list) else "a dictionary" if isinstance(value, dict) else type(value).__name__


def _problem(name: str, kind: Kind, value: object) -> str:
    return f"{name} is {_shown(value)}, but dockerd wants {kind[0]}, and does not start with anything else."


def daemon_problems(options: t.Mapping[str, t.Any]) -> list[str]:
    """One sentence for each setting that dockerd would not take."""
    problems = []
    for key, value in options.items():
        kind = KINDS.get(key)
        if key == "hosts":
            problems.append(_HOSTS)
        elif kind is not None and not kind[1](value):
            problems.append(_problem(key, kind, value))
        elif key in INNER_KINDS:
            inner = INNER_KINDS[key]
            problems += [_problem(f"{key}.{name}", inner, item) for name, item in value.items() if not inner[1](item)]
        elif key == "data-root" and not value.startswith("/"):
            problems.append(f"data-root is {value!r}, but dockerd wants an absolute path such as /srv/docker.")
    return problems
