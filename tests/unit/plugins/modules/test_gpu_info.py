# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import platform
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.gpufleet.triton.plugins.module_utils import _gpu
from ansible_collections.gpufleet.triton.plugins.modules import gpu_info
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.commands import run as run_here
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.gpu_host import KERNEL, GpuHost
from ansible_collections.gpufleet.triton.tests.unit.plugins.modules.runner import Runner
from ansible_collections.gpufleet.triton.tests.unit.plugins.modules.test_return_documented import documented, fields

DOCUMENTED = yaml.safe_load(gpu_info.RETURN)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GpuHost:
    """The module looks at this host instead of at its own."""
    host = GpuHost(tmp_path, monkeypatch)

    def machine(_run: t.Any, kernel: str = KERNEL) -> t.Any:
        return made(host.run, str(tmp_path), kernel)

    made = _gpu.Machine
    monkeypatch.setattr(_gpu, "Machine", machine)
    return host


def results(run: Runner, host: GpuHost) -> t.Iterator[dict[str, t.Any]]:
    """Hosts that together have a value for everything that is documented."""
    yield run("gpu_info", {})
    host.healthy(2)
    host.smi.update(unknown_fields=["compute_mode"])
    host.smi["gpus"][1]["lost"] = True
    host.smi["gpus"][0]["cells"] = {"retired_pages.pending": "No"}
    host.log = "NVRM: Xid (PCI:0000:1b:00): 79, GPU has fallen off the bus."
    host.packages["nvidia-fabricmanager"] = ("580.159.03-1", "iF ")
    host.write("proc/driver/nvidia-nvswitch/devices/0000:05:00.0")
    host.units = {name: {"active_state": "active"} for name in _gpu.UNITS}
    host.write("etc/nvidia-container-runtime/config.toml", 'mode = "cdi"\n')
    host.write("usr/lib/systemd/system/nvidia-cdi-refresh.service", "[Service]\n")
    host.spec("kind: a\n", "etc/cdi/a.yaml")
    host.spec("a", "etc/cdi/b.yaml")
    (host.root / "dev/nvidia1").unlink()
    host.dkms += "nvidia/1.2: added\n"
    host.write("var/lib/dkms/nvidia/1.2/build/make.log", "error: no\n")
    host.cards("0x2e12", "0x1db6")
    driver = host.root / "sys/bus/pci/devices/0000:1a:00.0/driver"
    driver.symlink_to(host.root)
    yield run("gpu_info", {"expected_gpus": 2})
    host.smi.update(unknown_fields=[])
    host.docker = None
    yield run("gpu_info", {"kernel": KERNEL})
    host.smi["fault"] = "no_driver"
    yield run("gpu_info", {})


def test_results_are_documented(run: Runner, host: GpuHost) -> None:
    seen: set[str] = set()
    for result in results(run, host):
        assert result.pop("changed") is False
        assert set(result) == set(DOCUMENTED)
        fields(result, DOCUMENTED, "", seen)
    assert set(documented(DOCUMENTED)) - seen == set(), "documented, and in no result"


@pytest.mark.parametrize("check", [False, True])
def test_this_host_as_it_is(run: Runner, tmp_path: Path, check: bool) -> None:
    """Whatever the host has: nothing fails, nothing changes, and it is the same in check mode."""
    result = run("gpu_info", {"docker_socket": str(tmp_path / "none")}, check=check)
    assert result["changed"] is False
    assert result["kernel"] == platform.release()
    assert result["docker"]["running"] is False


def test_the_kernel_that_counts(run: Runner, host: GpuHost) -> None:
    host.healthy()
    assert run("gpu_info", {})["driver"]["state"] == "ok"
    other = run("gpu_info", {"kernel": "6.99"})
    assert (other["kernel"], other["driver"]["on_disk"]) == ("6.99", None)


def test_how_many_there_must_be(run: Runner, host: GpuHost) -> None:
    host.healthy()
    assert run("gpu_info", {"expected_gpus": 1})["fit"] is True
    result = run("gpu_info", {"expected_gpus": 2})
    assert (result["fit"], result["problems"][0]["what"]) == (False, "There are fewer GPUs than expected")


@pytest.mark.parametrize("programs", [["nvidia-smi", "modinfo", "dkms", "dpkg-query", "rpm", "dmesg", "journalctl", "nvidia-ctk"]])
def test_programs_that_fail_fail_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, programs: list[str]) -> None:
    """Real processes: they end with an error, with bytes that are no text, or can't be started at all."""
    for number, name in enumerate(programs):
        path = tmp_path / name
        path.write_text(("#!/bin/sh\nprintf 'x\\377|,:\\n%s' \"$*\"; exit 3\n", "#!/no/such/interpreter\n")[number % 3 == 2])
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    facts = _gpu.collect(_gpu.Machine(run_here, str(tmp_path / "root")), str(tmp_path / "none"))
    assert (facts["fit"], facts["gpus"], facts["driver"]["state"]) == (None, [], "absent")
