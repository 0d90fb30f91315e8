# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filters of nvidia_driver hand on what they get. What they decide is tested beside _driver_plan."""

from __future__ import annotations

from typing import Any, Callable

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.triton.plugins.filter import (
    gpu_containers,
    nvidia_driver_candidate,
    nvidia_driver_pending,
    nvidia_driver_plan,
    nvidia_packages,
)

MODULES = (gpu_containers, nvidia_driver_candidate, nvidia_driver_pending, nvidia_driver_plan, nvidia_packages)
FILTERS: dict[str, Callable[..., Any]] = {name: call for module in MODULES for name, call in module.FilterModule().filters().items()}
WANTED = {"source": "nvidia", "branch": "580", "version": "", "flavour": "auto", "floor": "fail", "secure_boot": "fail"}


def test_a_floor_may_be_a_number_in_yaml() -> None:
    """A branch that is written without quotes is one, too."""
    found = FILTERS["nvidia_driver_candidate"]("package | 580.159.03-1 | repository", WANTED, {580: "580.178.04"})
    assert found["version"] == "580.159.03" and "known security holes" in found["problem"]


def test_packages_are_told() -> None:
    rows = FILTERS["nvidia_packages"]("libcuda1|580.159.03-1|hold|installed\n")
    assert rows == [{"name": "libcuda1", "version": "580.159.03-1", "driver": "580.159.03", "hold": True, "ok": True}]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("gpu_containers", ["[]"]),
        ("nvidia_driver_candidate", [None, {}, {}]),
        ("nvidia_driver_pending", ["mismatch"]),
        ("nvidia_driver_plan", [{}, WANTED, []]),
        ("nvidia_packages", [None]),
    ],
)
def test_what_is_not_meant_for_it_is_refused(name: str, arguments: list[Any]) -> None:
    with pytest.raises(AnsibleFilterError, match=f"{name} wants"):
        FILTERS[name](*arguments)
