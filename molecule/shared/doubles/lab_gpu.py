# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab host's double of what needs silicon: GPUs on the PCI bus, and a kernel that loads NVIDIA's module.

It is installed in the host as lab-gpu, modprobe, rmmod, lsmod and update-initramfs, first in the PATH. In /srv/lab:

    gpus.json   PCI device ids of the GPUs
    kernel      release of the kernel whose modules count
    nouveau     where it is there, the kernel has nouveau and loads it at boot, unless it is blacklisted
    busy        where it is there, somebody uses the module, and it can't be unloaded
    order       what was done, line by line
"""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path

LAB = Path("/srv/lab")
PROC = Path("/proc/driver/nvidia")
NOUVEAU = Path("/sys/module/nouveau")


def note(*words: str) -> None:
    with (LAB / "order").open("a", encoding="utf-8") as out:
        out.write(" ".join(words) + "\n")


def kernel() -> str:
    return (LAB / "kernel").read_text(encoding="utf-8").strip()


def modinfo(field: str) -> str:
    argv = ["/usr/sbin/modinfo", "-k", kernel(), "-F", field, "nvidia"]
    return subprocess.run(argv, text=True, capture_output=True, check=False).stdout.strip()


def modprobe(arguments: list[str]) -> int:
    names = [word for word in arguments if not word.startswith("-")]
    if "nvidia" not in names or PROC.is_dir():
        return 0
    version = modinfo("version")
    if not version or NOUVEAU.is_dir():
        print("modprobe: FATAL: Module nvidia not found in directory /lib/modules/" + kernel(), file=sys.stderr)
        return 1
    kind = "Open Kernel Module for x86_64" if "GPL" in modinfo("license") else "x86_64 Kernel Module"
    PROC.mkdir(parents=True)
    (PROC / "version").write_text(f"NVRM version: NVIDIA UNIX {kind}  {version}  Release Build\n", encoding="utf-8")
    note("load", version)
    return 0


def rmmod(arguments: list[str]) -> int:
    if (LAB / "busy").exists():
        print("rmmod: ERROR: Module nvidia is in use", file=sys.stderr)
        return 1
    if "nvidia" in arguments and PROC.is_dir():
        (PROC / "version").unlink()
        PROC.rmdir()
        note("unload")
    return 0


def lsmod(_arguments: list[str]) -> int:
    print("Module                  Size  Used by")
    if PROC.is_dir():
        print("nvidia_uvm           1234567  0\nnvidia              12345678  1 nvidia_uvm")
    if NOUVEAU.is_dir():
        print("nouveau              3456789  0")
    return 0


def mount(kind: str, source: str, target: str) -> None:
    options = ["--bind"] if kind == "bind" else ["-t", "tmpfs"]
    subprocess.run(["mount", *options, source, target], check=True)


def boot(_arguments: list[str]) -> int:
    note("boot")
    boot_id = Path("/run/lab-boot-id")
    boot_id.write_text(f"{uuid.uuid4()}\n", encoding="ascii")
    mount("bind", str(boot_id), "/proc/sys/kernel/random/boot_id")
    mount("tmpfs", "tmpfs", "/proc/driver")
    gpus = json.loads((LAB / "gpus.json").read_text(encoding="utf-8"))
    if gpus:
        mount("tmpfs", "tmpfs", "/sys/bus/pci/devices")
    for index, device in enumerate(gpus):
        folder = Path(f"/sys/bus/pci/devices/0000:{0x1A + index:02x}:00.0")
        folder.mkdir()
        for name, word in (("vendor", "0x10de"), ("device", device), ("class", "0x030200")):
            (folder / name).write_text(f"{word}\n", encoding="ascii")
    blacklisted = any("blacklist nouveau" in path.read_text(encoding="utf-8") for path in Path("/etc/modprobe.d").glob("*.conf"))
    if gpus and (LAB / "nouveau").exists() and not blacklisted:
        mount("tmpfs", "tmpfs", "/sys/module")
        NOUVEAU.mkdir()
    elif gpus:
        modprobe(["nvidia"])
    return 0


def main() -> int:
    program, arguments = Path(sys.argv[0]).name, sys.argv[1:]
    if program == "lab-gpu":
        program, arguments = arguments[0], arguments[1:]
    if program in ("note", "update-initramfs"):
        note(*([program] if program != "note" else []), *arguments)
        return 0
    return {"boot": boot, "modprobe": modprobe, "rmmod": rmmod, "lsmod": lsmod}[program](arguments)


if __name__ == "__main__":
    sys.exit(main())
