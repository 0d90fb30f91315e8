#!/usr/bin/env python
# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Doubles of the four packages of the NVIDIA Container Toolkit, in a signed repository laid out as NVIDIA's.

  toolkit.py FOLDER     FOLDER/deb/<architecture>/ and FOLDER/gpgkey

The packages have the real ones' names, versions and dependencies. What is in them stands in toolkit/: it does what the real programs are
asked for here, and a container gets device nodes from it as it would from the real ones.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from debs import Deb, write_repository

SOURCES = Path(__file__).resolve().parent / "toolkit"
# Below the floor, at the floor, the role's default, and newer than that.
VERSIONS = ("1.18.2", "1.19.1", "1.20.0", "1.21.0")
ARCHITECTURES = ("amd64", "arm64")
UNITS = ("nvidia-cdi-refresh.service", "nvidia-cdi-refresh.path")
POSTINST = f"""\
#!/bin/sh
set -e
if [ "$1" = configure ]; then
    nvidia-ctk config --in-place
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload
        systemctl enable --now {UNITS[1]} {UNITS[0]} || true
    fi
fi
"""
PRERM = f"""\
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    systemctl disable --now {UNITS[1]} {UNITS[0]} || true
fi
"""


RUNTIME = """\
#!/bin/sh
# A double: what the container needs comes from the hook, or from Docker.
exec runc "$@"
"""
STUB = """\
#!/bin/sh
# A double of a program that is only looked for.
exit 0
"""


def program(name: str, version: str) -> tuple[int, bytes]:
    text = (SOURCES / name).read_text(encoding="utf-8").replace("@VERSION@", version)
    return 0o755, f"#!/usr/bin/python3\n{text}".encode()


def packages(version: str) -> list[Deb]:
    full = f"{version}-1"
    base = {
        "/usr/bin/nvidia-ctk": program("nvidia_ctk.py", version),
        "/usr/bin/nvidia-container-runtime": (0o755, RUNTIME.encode()),
        "/usr/bin/nvidia-cdi-hook": (0o755, STUB.encode()),
    }
    base.update({f"/usr/lib/systemd/system/{name}": (0o644, (SOURCES / name).read_bytes()) for name in UNITS})
    tools = {"/usr/bin/nvidia-container-cli": (0o755, STUB.encode())}
    hook = {"/usr/bin/nvidia-container-runtime-hook": program("nvidia_container_runtime_hook.py", version)}
    return [
        Deb("libnvidia-container1", full, files={"/usr/lib/libnvidia-container.so.1": (0o644, b"A double\n")}),
        Deb("libnvidia-container-tools", full, [f"libnvidia-container1 (= {full})"], tools),
        Deb("nvidia-container-toolkit-base", full, files=base, scripts={"postinst": POSTINST, "prerm": PRERM}),
        Deb(
            "nvidia-container-toolkit",
            full,
            [f"nvidia-container-toolkit-base (= {full})", f"libnvidia-container-tools (= {full})"],
            hook,
        ),
    ]


def main() -> None:
    folder = Path(sys.argv[1])
    debs = [deb for version in VERSIONS for deb in packages(version)]
    first = folder / "deb" / ARCHITECTURES[0]
    write_repository(first, debs, signer="Double of NVIDIA <double@localhost>")
    for other in ARCHITECTURES[1:]:
        (folder / "deb" / other).symlink_to(ARCHITECTURES[0])
    (folder / "gpgkey").write_bytes((first / "key.asc").read_bytes())


if __name__ == "__main__":
    main()
