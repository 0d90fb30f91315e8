# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.triton.plugins.filter.docker_daemon_problems import FilterModule, docker_daemon_problems

GOOD = {
    "live-restore": True,
    "log-driver": "json-file",
    "log-opts": {"max-size": "100m", "max-file": "5"},
    "features": {"cdi": True},
    "runtimes": {"nvidia": {"path": "nvidia-container-runtime", "args": []}},
    "registry-mirrors": ["https://mirror.example.com"],
    "proxies": {"http-proxy": "http://proxy.example.com:3128"},
    "data-root": "/srv/docker",
    "mtu": 1450,
    "something-new": {"of": ["any", "kind"]},
}

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a number in log-opts": ({"log-opts": {"max-file": 5}}, "log-opts.max-file is 5, but dockerd wants a text, in quotes"),
    "a truth value in quotes": ({"live-restore": "true"}, "live-restore is a text, but dockerd wants true or false, without quotes"),
    "a feature in quotes": ({"features": {"cdi": "yes"}}, "features.cdi is a text, but dockerd wants true or false"),
    "a truth value for a number": ({"mtu": True}, "mtu is true, but dockerd wants a whole number"),
    "a fraction": ({"mtu": 1450.0}, "mtu is 1450.0, but dockerd wants a whole number"),
    "one element for a list": ({"registry-mirrors": "https://mirror"}, "registry-mirrors is a text, but dockerd wants a list"),
    "a list for a dictionary": ({"runtimes": ["nvidia"]}, "runtimes is a list, but dockerd wants a dictionary"),
    "a path for a runtime": ({"runtimes": {"nvidia": "x"}}, "runtimes.nvidia is a text, but dockerd wants a dictionary"),
    "nothing": ({"log-driver": None}, "log-driver is nothing, but dockerd wants a text"),
    "a relative path": ({"data-root": "srv/docker"}, "data-root is 'srv/docker', but dockerd wants an absolute path"),
    "hosts": ({"hosts": ["unix:///run/docker.sock"]}, "with both dockerd does not start"),
}


def test_good_settings() -> None:
    assert docker_daemon_problems(GOOD) == []
    assert docker_daemon_problems({}) == []
    assert FilterModule().filters() == {"docker_daemon_problems": docker_daemon_problems}


@pytest.mark.parametrize("case", BAD)
def test_bad_settings(case: str) -> None:
    options, words = BAD[case]
    problems = docker_daemon_problems({**GOOD, **options})
    assert len(problems) == 1
    assert words in problems[0]


def test_each_problem_is_told_and_no_secret() -> None:
    problems = docker_daemon_problems({"registry-mirrors": "https://bob:hush@mirror", "proxies": ["http://bob:hush@proxy"], "debug": "on"})
    assert len(problems) == 3
    assert "hush" not in " ".join(problems)


@pytest.mark.parametrize("options", [None, [], "live-restore"])
def test_something_else_is_refused(options: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="wants a dictionary of settings"):
        docker_daemon_problems(options)
