# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a lab's host one with GPUs, as far as that goes without silicon: run in the host, by gpu-host.service at each boot.

  gpu_host.py GPUS [DRIVER]

On the PCI bus, as device nodes, and for nvidia-smi (a double) and the driver's libraries (empty files).
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

HERE = Path("/opt/doubles")
BUS = Path("/sys/bus/pci/devices")
LIBRARIES = Path("/usr/lib") / f"{os.uname().machine}-linux-gnu"
UNIT = """\
[Unit]
Description=Doubles of GPUs
Before=docker.service nvidia-cdi-refresh.service

[Service]
Type=oneshot
ExecStart={command}

[Install]
WantedBy=multi-user.target
"""


def on_the_bus(gpus: int) -> None:
    if not os.path.ismount(BUS):
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(BUS)], check=True)
    for index in range(gpus):
        device = BUS / f"0000:{0x1A + index:02x}:00.0"
        device.mkdir(exist_ok=True)
        for name, text in {"vendor": "0x10de", "class": "0x030200", "device": "0x2330"}.items():
            (device / name).write_text(text + "\n", encoding="ascii")
        # The first bytes of the configuration space: the vendor and the device. A card that is lost answers with ones.
        (device / "config").write_bytes(bytes.fromhex("de103023"))


def nodes(gpus: int) -> None:
    for name, minor in [("nvidiactl", 255), *((f"nvidia{index}", index) for index in range(gpus))]:
        path = f"/dev/{name}"
        if not os.path.exists(path):
            os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(195, minor))
            os.chmod(path, 0o666)


def driver(gpus: int, version: str) -> None:
    (HERE / "state.json").write_text(json.dumps({"driver": version, "gpus": [{}] * gpus}), encoding="ascii")
    for name in ("libcuda", "libnvidia-ml"):
        for old in LIBRARIES.glob(f"{name}.so.*"):
            old.unlink()
        (LIBRARIES / f"{name}.so.{version}").touch()
    program = Path("/usr/bin/nvidia-smi")
    program.write_text(f'#!/bin/sh\nexec python3 {HERE}/nvidia_smi.py "$@"\n', encoding="ascii")
    program.chmod(0o755)


def at_each_boot(gpus: int, version: str) -> None:
    unit = Path("/etc/systemd/system/gpu-host.service")
    unit.write_text(UNIT.format(command=f"/usr/bin/python3 {HERE}/gpu_host.py {gpus} {version}"), encoding="ascii")
    link = Path("/etc/systemd/system/multi-user.target.wants/gpu-host.service")
    link.parent.mkdir(exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(unit)


def main() -> None:
    gpus = int(sys.argv[1])
    version = sys.argv[2] if len(sys.argv) > 2 else "580.159.03"
    on_the_bus(gpus)
    nodes(gpus)
    driver(gpus, version)
    at_each_boot(gpus, version)


if __name__ == "__main__":
    main()
