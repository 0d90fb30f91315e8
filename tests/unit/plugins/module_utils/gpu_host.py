# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A GPU host that is made of files and of programs that answer what a test tells them to."""

from __future__ import annotations

import importlib.util
import os
import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils import _gpu, _host
from ansible_collections.gpufleet.triton.plugins.module_utils._proc import CommandResult

KERNEL = "6.12.94+deb13-amd64"
DRIVER = "580.159.03"
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (dvs-builder@U22-I3-AE18-23-3)\nGCC version: gcc 14\n"
PROPRIETARY = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Wed Oct 25 08:30:57 UTC 2025\nGCC version: gcc 14\n"
LICENCES = {"open": "Dual MIT/GPL", "proprietary": "NVIDIA"}
TOOLKIT = _gpu.TOOLKIT_PACKAGES
SPEC = """\
---
cdiVersion: 0.5.0
containerEdits:
  deviceNodes:
  - path: /dev/nvidiactl
  env:
  - NVIDIA_VISIBLE_DEVICES=void
  mounts:
  - containerPath: /usr/lib/x86_64-linux-gnu/libcuda.so.{driver}
    hostPath: /usr/lib/x86_64-linux-gnu/libcuda.so.{driver}
    options:
    - ro
    - bind
devices:
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
  name: "0"
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
  name: all
kind: nvidia.com/gpu
"""


def load_double() -> t.Any:
    """The double of nvidia-smi that the integration tests run as a program."""
    path = Path(__file__).resolve().parents[3] / "integration/targets/gpu_info/files/nvidia_smi.py"
    spec = importlib.util.spec_from_file_location("nvidia_smi_double", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


DOUBLE = load_double()


class GpuHost:
    """Starts bare; `healthy` makes it one that serves. A test then breaks one thing."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.programs: dict[str, t.Callable[[list[str]], tuple[int, str]]] = {}
        self.smi: dict[str, t.Any] = {"driver": DRIVER, "gpus": []}
        self.docker: dict[str, t.Any] | None = None
        self.units: dict[str, dict[str, str]] = {}
        self.packages: dict[str, tuple[str, str]] = {}
        self.modules: dict[str, tuple[str, str]] = {}
        self.dkms = ""
        self.log = ""
        monkeypatch.setattr(_host, "find_program", self.find)
        monkeypatch.setattr(_host, "has_systemd", lambda: bool(self.units))
        monkeypatch.setattr(_host, "ask_units", lambda _run, names: {name: self.units.get(name, {}) for name in names})
        monkeypatch.setattr(_host, "ask_engine", self._ask_engine)

    def _ask_engine(self, _engine: object, blocked: str | None) -> tuple[dict[str, t.Any], str | None]:
        return (self.docker, None) if self.docker else ({}, blocked or "Cannot connect to the Docker Engine")

    def find(self, name: str) -> str | None:
        return str(self.root / "programs" / name) if name in self.programs else None

    def run(self, argv: list[str]) -> CommandResult:
        rc, text = self.programs[os.path.basename(argv[0])](argv[1:])
        return CommandResult(rc, text, "")

    def collect(self, expected: int | None = None, kernel: str = KERNEL) -> dict[str, t.Any]:
        return _gpu.collect(_gpu.Machine(self.run, str(self.root), kernel), expected_gpus=expected)

    # What the host has

    def write(self, name: str, content: str | bytes = "") -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def install(self, *names: str) -> None:
        """Programs that are only there."""
        for name in names:
            self.write(f"programs/{name}")
            self.programs[name] = lambda _arguments: (0, "")

    def cards(self, *ids: str, first: int = 0x1A) -> None:
        for number, device_id in enumerate(ids):
            folder = f"sys/bus/pci/devices/0000:{first + number:02x}:00.0"
            for name, text in (("vendor", "0x10de"), ("device", device_id), ("class", "0x030200")):
                self.write(f"{folder}/{name}", text + "\n")
            self.write(f"{folder}/config", b"\xde\x10\x30\x23" + bytes(60))

    def load(self, version: str, text: str = OPEN) -> None:
        self.write("proc/driver/nvidia/version", text.format(version))

    def libraries(self, version: str) -> None:
        for name in ("libnvidia-ml", "libcuda"):
            for suffix in ("1", version):
                self.write(f"usr/lib/x86_64-linux-gnu/{name}.so.{suffix}")

    def kernel(self, release: str, *modules: str) -> None:
        lines = [f"updates/dkms/{name}.ko.xz: kernel/drivers/acpi/video.ko.xz" for name in modules]
        others = ("kernel/drivers/video/fbdev/nvidia/nvidiafb.ko.xz:", "updates/dkms/nvidia-drm.ko.xz: updates/dkms/nvidia.ko.xz")
        self.write(f"lib/modules/{release}/modules.dep", "\n".join([*lines, *others]) + "\n")

    def module(self, name: str, version: str, flavour: str = "open") -> None:
        """A driver on disk, for the running kernel."""
        self.modules[name] = (version, flavour)
        self.kernel(KERNEL, *self.modules)

    def spec(self, text: str, path: str = "var/run/cdi/nvidia.yaml") -> None:
        self.write(path, text)

    # How its programs answer

    def _dpkg(self, _arguments: list[str]) -> tuple[int, str]:
        return 1, "".join(f"{name}|{version}|{status}\n" for name, (version, status) in self.packages.items())

    def _modinfo(self, arguments: list[str]) -> tuple[int, str]:
        version, flavour = self.modules[arguments[-1]]
        return 0, f"filename:       /lib/modules/x\nlicense:        {LICENCES[flavour]}\nversion:        {version}\nsrcversion:     1.2\n"

    def healthy(self, gpus: int = 1) -> GpuHost:
        """Everything right, as after an installation that went well."""
        self.cards(*["0x2330"] * gpus)
        self.smi["gpus"] = [{} for _number in range(gpus)]
        self.load(DRIVER)
        self.libraries(DRIVER)
        self.module("nvidia", DRIVER)
        self.dkms = f"nvidia/{DRIVER}, {KERNEL}, x86_64: installed\n"
        self.packages = dict.fromkeys(TOOLKIT, ("1.20.0-1", "ii "))
        self.install("dockerd", "rpm", "journalctl", *_gpu.TOOLKIT_PROGRAMS)
        self.programs |= {
            "nvidia-smi": lambda arguments: DOUBLE.answer(self.smi, arguments),
            "dpkg-query": self._dpkg,
            "modinfo": self._modinfo,
            "dkms": lambda _arguments: (0, self.dkms),
            "dmesg": lambda _arguments: (0, self.log),
        }
        self.docker = {
            "ServerVersion": "28.5.1",
            "CDISpecDirs": ["/etc/cdi", "/var/run/cdi"],
            "Runtimes": {"runc": {"path": "runc"}, "nvidia": {"path": "nvidia-container-runtime"}},
            "DefaultRuntime": "runc",
            "CgroupDriver": "systemd",
        }
        self.write("var/run/docker.pid", "1")
        for node in ("nvidiactl", *(f"nvidia{number}" for number in range(gpus))):
            self.write(f"dev/{node}")
        text = SPEC.format(driver=DRIVER)
        more = "".join(
            f'- containerEdits:\n    deviceNodes:\n    - path: /dev/nvidia{number}\n  name: "{number}"\n' for number in range(1, gpus)
        )
        self.spec(text.replace("kind:", more + "kind:"))
        return self
