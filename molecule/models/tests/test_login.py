# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Over ssh, with a login that has no rights of its own and becomes root: as most fleets are run."""

from __future__ import annotations

import hashlib
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import labtest
import pytest
from modeltest import ADD_SUB, gives

# More than goes to Ansible's own folder without a question.
WEIGHTS = 40 * 1024**2
PRIVATE = "/fileServerMountPath/data/.gpufleet"


@pytest.fixture(scope="module")
def login(gpu1: labtest.LabHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Variables that lead to gpu1 as deploy, who may become root by sudo."""
    key = tmp_path_factory.mktemp("ssh") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    gpu1.sh("id deploy >/dev/null 2>&1 || useradd --create-home --shell /bin/bash deploy")
    gpu1.sh("echo 'deploy ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/deploy && chmod 0440 /etc/sudoers.d/deploy")
    public = key.with_suffix(".pub").read_text().strip()
    gpu1.sh(f"install -d -m 0700 -o deploy -g deploy /home/deploy/.ssh && echo '{public}' >/home/deploy/.ssh/authorized_keys")
    gpu1.sh("ssh-keygen -A >/dev/null && systemctl start ssh")
    inspected = subprocess.run(
        ["docker", "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", gpu1.container],
        check=True,
        text=True,
        capture_output=True,
    )
    yield {
        "ansible_connection": "ssh",
        "ansible_host": inspected.stdout.strip(),
        "ansible_user": "deploy",
        "ansible_become": True,
        "ansible_ssh_private_key_file": str(key),
        "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o IdentitiesOnly=yes",
    }
    gpu1.sh("systemctl stop ssh; rm /etc/sudoers.d/deploy; userdel --force --remove deploy 2>/dev/null || true")


@pytest.mark.parametrize("place", ["beside the models", "in the login's own folder"])
@pytest.mark.thorough
def test_a_login_that_becomes_root_sends_what_is_large(
    gpu1: labtest.LabHost, server: Any, models: Callable[..., labtest.Played], workshop: Any, login: dict[str, Any], place: str
) -> None:
    entry = workshop.times("sent", 2, smoke=gives(2))
    weights = Path(entry["src"]) / "1" / "weights.bin"
    weights.write_bytes(random.Random(place).randbytes(WEIGHTS))
    if place != "beside the models":
        # Where a login may not pass, Ansible's own folder takes what is sent.
        gpu1.sh(f"chmod 0750 {PRIVATE}")
    try:
        done = models(entry, **login)
    finally:
        gpu1.sh(f"chmod 0751 {PRIVATE}")
    assert done.rc == 0 and server.infer("sent") == 2, done.text
    published = "/fileServerMountPath/data/models/sent/1/weights.bin"
    assert gpu1.sh(f"sha256sum <{published}").split()[0] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert gpu1.sh(f"stat -c '%U %a %h' {published}") == "root 644 1"
    # Nothing of it stays where it passed through.
    assert gpu1.sh(f"find {PRIVATE}/staging -mindepth 1 ! -name downloads") == ""
    assert gpu1.sh("find /home/deploy -size +1M") == ""
    done = models(entry, **login)
    assert (done.rc, done.counts["changed"]) == (0, 0), done.text
    # What other tests begin with.
    assert models().rc == 0 and server.ready() == [ADD_SUB["name"]]
