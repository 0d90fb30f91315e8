#!/usr/bin/env python
# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the scenario's hosts have before any role: the toolkit's repository, and two of them eight GPUs each.

gpu1 has the repository files of an earlier installation; gpu2 has settings of Docker that somebody else made, and a driver whose module
is called as Debian calls the open one.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
DOUBLES = CHECKOUT / "molecule/shared/doubles"
NVIDIA_SMI = CHECKOUT / "tests/integration/targets/gpu_info/files/nvidia_smi.py"

# With them apt can update nothing, which is what whoever has them knows. Docker is there already, as it is on such a host.
OLD_FILES = """
set -e
apt-get --quiet --quiet update
DEBIAN_FRONTEND=noninteractive apt-get --quiet --quiet --yes --no-install-recommends install \\
    docker.io docker-cli docker-compose python3-docker python3-requests >/dev/null
cd /etc/apt/sources.list.d
echo 'deb [signed-by=/usr/share/keyrings/other.gpg] file:///srv/toolkit/deb/$(ARCH) /' >nvidia-container-toolkit.list
echo 'deb file:///srv/nowhere /' >nvidia-docker.list
"""
OWN_SETTINGS = """
set -e
mkdir -p /etc/docker /lib/modules/$(uname -r)
cat >/etc/docker/daemon.json <<'END'
{
    "runtimes": {"other": {"path": "/usr/bin/runc"}},
    "features": {"buildkit": true},
    "log-driver": "json-file",
    "default-address-pools": [ {"base": "10.200.0.0/16", "size": 24} ]
}
END
cp /etc/docker/daemon.json /root/daemon.json
echo 'updates/dkms/nvidia-current-open.ko.xz:' >/lib/modules/$(uname -r)/modules.dep
"""


def run(*argv: str) -> None:
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    lab = sys.argv[1]
    with tempfile.TemporaryDirectory(prefix="gpufleet-toolkit-") as work:
        repository = Path(work) / "toolkit"
        run(sys.executable, str(DOUBLES / "toolkit.py"), str(repository))
        repository.chmod(0o755)
        for host in ("gpu1", "gpu2", "plain"):
            run("docker", "cp", str(repository), f"{lab}-{host}:/srv/toolkit")
    for host in ("gpu1", "gpu2"):
        container = f"{lab}-{host}"
        run("docker", "exec", container, "mkdir", "-p", "/opt/doubles")
        for file in (DOUBLES / "gpu_host.py", NVIDIA_SMI):
            run("docker", "cp", str(file), f"{container}:/opt/doubles/{file.name}")
        run("docker", "exec", container, "python3", "/opt/doubles/gpu_host.py", "8")
    run("docker", "exec", f"{lab}-gpu1", "sh", "-c", OLD_FILES)
    run("docker", "exec", f"{lab}-gpu2", "sh", "-c", OWN_SETTINGS)


if __name__ == "__main__":
    main()
