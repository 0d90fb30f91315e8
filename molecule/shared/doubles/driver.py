# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Doubles of NVIDIA's driver packages, named and versioned as the real ones, in a signed repository laid out as NVIDIA's is.

The module in them is a few lines of C that DKMS, make and gcc really build, against the headers of a kernel that are a few lines too. It is
never loaded: see lab_gpu.py for what stands in for the kernel.

  driver.py FILE.tar       write what a host gets: /srv/repository/debian13/x86_64, and the doubles of its hardware
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from pathlib import Path

from debs import Deb, write_repository

CHECKOUT = Path(__file__).resolve().parents[3]
# As new as the current kernel of Debian 13, on which drivers before 580.126.09 do not build. Debian has no such package.
KERNEL = "6.12.107+lab-amd64"
BROKEN = "580.105.08"
VERSIONS = (BROKEN, "580.159.03", "580.178.04", "595.71.05")

DKMS = """\
PACKAGE_NAME="nvidia"
PACKAGE_VERSION="{version}"
BUILT_MODULE_NAME[0]="nvidia"
DEST_MODULE_LOCATION[0]="/updates/dkms"
MAKE[0]="make SYSSRC=$kernel_source_dir"
CLEAN="make clean"
AUTOINSTALL="yes"
"""
MAKEFILE = """\
nvidia.ko: nvidia.c
\tgcc -c -ffreestanding -I$(SYSSRC)/include -o $@ $<
clean:
\trm -f nvidia.ko
"""
SOURCE = """\
#include <linux/pci.h>
static const char version[] __attribute__((section(".modinfo"), used)) = "version={version}";
static const char license[] __attribute__((section(".modinfo"), used)) = "license={licence}";
int nvidia_resize(struct pci_dev *dev) {{ return pci_resize_resource({arguments}); }}
"""
PCI_H = "struct pci_dev;\nint pci_resize_resource(struct pci_dev *dev, int bar, int size, int exclude_bars);\n"
SMI = """\
#!/usr/bin/python3
# A double of nvidia-smi: what it tells follows from the double of the kernel, and from its own version.
import json, re, sys
sys.path.insert(0, "/usr/share/nvidia-double")
import nvidia_smi
LIBRARY = "{version}"
try:
    loaded = re.search(r"\\d{{3,}}\\.\\d+\\.\\d+", open("/proc/driver/nvidia/version").read()).group()
except OSError:
    loaded = None
fault = "no_driver" if loaded is None else "mismatch" if loaded != LIBRARY else None
gpus = json.load(open("/srv/lab/gpus.json"))
rc, text = nvidia_smi.answer({{"gpus": [{{}}] * len(gpus), "driver": loaded, "fault": fault, "library": LIBRARY}}, sys.argv[1:])
print(text)
sys.exit(rc)
"""
PERSISTENCED = """\
[Unit]
Description=Double of the NVIDIA Persistence Daemon

[Service]
ExecStartPre=/usr/local/sbin/lab-gpu note start nvidia-persistenced
ExecStart=/bin/sleep infinity
ExecStopPost=/usr/local/sbin/lab-gpu note stop nvidia-persistenced

[Install]
WantedBy=multi-user.target
"""
# As dh_dkms writes them.
DKMS_POSTINST = '#!/bin/sh\nset -e\n[ "$1" != configure ] || /usr/lib/dkms/common.postinst nvidia {version} /usr/share/nvidia \'\' "$2"\n'
DKMS_PRERM = "#!/bin/sh\nset -e\n[ ! -d /var/lib/dkms/nvidia/{version} ] || dkms remove -m nvidia -v {version} --all || true\n"
# As those of Debian's headers: what is there to be built for this kernel is built, and fails with it. Before that, as much of the kernel as
# DKMS and depmod want to see, which is a module of its own.
HEADERS_POSTINST = f"""\
#!/bin/sh
set -e
modules=/usr/lib/modules/{KERNEL}
mkdir -p $modules/kernel
gcc -c -x c /dev/null -o $modules/kernel/lab.ko
touch $modules/modules.order $modules/modules.builtin
depmod {KERNEL}
hooks=/etc/kernel/header_postinst.d
[ "$1" != configure ] || [ ! -d $hooks ] || run-parts --report --exit-on-error --arg={KERNEL} $hooks
"""
SYSTEMD_POST = "#!/bin/sh\nsystemctl daemon-reload\n"
PERSISTENCED_PRERM = '#!/bin/sh\n[ "$1" != remove ] || systemctl disable --now nvidia-persistenced.service || true\n'


def kernel_packages(version: str) -> list[Deb]:
    rows = []
    for name, other, licence in (
        ("nvidia-kernel-open-dkms", "nvidia-kernel-dkms", "Dual MIT/GPL"),
        ("nvidia-kernel-dkms", "nvidia-kernel-open-dkms", "NVIDIA"),
    ):
        arguments = "dev, 0, 0" if version == BROKEN else "dev, 0, 0, 0"
        texts = {
            "dkms.conf": DKMS.format(version=version),
            "Makefile": MAKEFILE,
            "nvidia.c": SOURCE.format(version=version, licence=licence, arguments=arguments),
        }
        rows.append(
            Deb(
                name,
                f"{version}-1",
                ["dkms"],
                {f"/usr/src/nvidia-{version}/{file}": (0o644, text.encode()) for file, text in texts.items()},
                {"postinst": DKMS_POSTINST.format(version=version), "prerm": DKMS_PRERM.format(version=version)},
                fields={"Conflicts": other, "Replaces": other},
            )
        )
    return rows


def driver_packages(version: str) -> list[Deb]:
    full = f"{version}-1"
    double = (CHECKOUT / "tests/integration/targets/gpu_info/files/nvidia_smi.py").read_bytes()
    unit = {"/usr/lib/systemd/system/nvidia-persistenced.service": (0o644, PERSISTENCED.encode())}
    return [
        *kernel_packages(version),
        Deb("libcuda1", full, files={f"/usr/lib/x86_64-linux-gnu/libcuda.so.{version}": (0o644, b"")}),
        Deb(
            "nvidia-driver-cuda",
            full,
            [f"libcuda1 (= {full})"],
            {
                "/usr/bin/nvidia-smi": (0o755, SMI.format(version=version).encode()),
                "/usr/share/nvidia-double/nvidia_smi.py": (0o644, double),
            },
        ),
        Deb("nvidia-persistenced", full, files=unit, scripts={"postinst": SYSTEMD_POST, "prerm": PERSISTENCED_PRERM}),
    ]


def repository() -> list[Deb]:
    build = f"/usr/lib/modules/{KERNEL}/build"
    headers = {f"{build}/include/linux/pci.h": (0o644, PCI_H.encode()), f"{build}/.config": (0o644, b"CONFIG_MODULES=y\n")}
    # The trap: with this one comes a kernel that does not run.
    trap = Deb("linux-headers-amd64", "6.12.199-1", ["linux-image-6.12.199+deb13-amd64"])
    image = Deb("linux-image-6.12.199+deb13-amd64", "6.12.199-1")
    toolkit = Deb("nvidia-container-toolkit", "1.20.0-1")
    own = Deb(f"linux-headers-{KERNEL}", "6.12.107-1", ["gcc"], files=headers, scripts={"postinst": HEADERS_POSTINST})
    return [own, trap, image, toolkit] + [package for version in VERSIONS for package in driver_packages(version)]


LAB_GPU_UNIT = """\
[Unit]
Description=Double of GPUs and of the kernel's module loader

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/lab-gpu boot

[Install]
WantedBy=sysinit.target
"""
TRITON_UNIT = """\
[Unit]
Description=Double of Triton

[Service]
ExecStartPre=/usr/local/sbin/lab-gpu note start triton
ExecStart=/usr/bin/python3 /srv/lab/triton.py
ExecStopPost=/usr/local/sbin/lab-gpu note stop triton

[Install]
WantedBy=multi-user.target
"""
# One container that holds a GPU, where /srv/lab/container has what Docker tells of it.
DOCKER = """\
#!/bin/sh
case $1 in
    ps) [ ! -e /srv/lab/container ] || echo 4f66ad9a0b2e ;;
    inspect) cat /srv/lab/container ;;
    *) /usr/local/sbin/lab-gpu note docker "$@" ;;
esac
"""


def lay_out(root: Path) -> None:
    """Everything that a host gets, below a folder."""
    write_repository(root / "srv/repository/debian13/x86_64", repository(), signer="Doubles of NVIDIA's packages")
    here = Path(__file__).parent
    for name, mode, text in (
        ("usr/local/sbin/lab-gpu", 0o755, "#!/usr/bin/python3\n" + (here / "lab_gpu.py").read_text(encoding="utf-8")),
        ("usr/local/bin/docker", 0o755, DOCKER),
        ("srv/lab/triton.py", 0o644, (here / "triton.py").read_text(encoding="utf-8")),
        ("srv/lab/kernel", 0o644, f"{KERNEL}\n"),
        ("etc/systemd/system/lab-gpu.service", 0o644, LAB_GPU_UNIT),
        ("etc/systemd/system/triton.service", 0o644, TRITON_UNIT),
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
    for name in ("modprobe", "rmmod", "lsmod", "update-initramfs"):
        (root / "usr/local/sbin" / name).symlink_to("lab-gpu")
    # The role looks for it by its path; the double comes first in the PATH.
    (root / "usr/sbin").mkdir()
    (root / "usr/sbin/update-initramfs").symlink_to("/usr/local/sbin/lab-gpu")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="gpufleet-doubles-") as work:
        lay_out(Path(work))
        with tarfile.open(sys.argv[1], "w") as tar:
            for path in sorted(Path(work).rglob("*")):
                # No folder, which would give the host's own another mode.
                if not path.is_dir():
                    tar.add(path, arcname=str(path.relative_to(work)))


if __name__ == "__main__":
    main()
