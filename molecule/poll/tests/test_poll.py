# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Poll mode: what lies in the repository is served."""

from __future__ import annotations

import subprocess

import labtest

MODELS = "/fileServerMountPath/data/models"
STAGING = "/fileServerMountPath/data/.gpufleet/staging"


def test_an_empty_repository_is_a_ready_server(gpu1):
    assert gpu1.http("/v2/health/ready")[0] == 200
    assert gpu1.index() == {}


def test_a_folder_that_is_copied_in_is_served(gpu1, wait_until):
    model = labtest.CHECKOUT / "examples/fleet/models/add_sub"
    subprocess.run(["docker", "cp", str(model), f"{gpu1.container}:/srv/add_sub"], check=True)
    # Beside the repository first, then in with one rename: the poll must not see half of it.
    gpu1.sh(f"cp -r /srv/add_sub {STAGING}/ && mv {STAGING}/add_sub {MODELS}/")
    wait_until(lambda: gpu1.index() == {"add_sub": "READY"}, seconds=3 + 10)
    assert gpu1.add_sub() == ([11, 22, 33, 44], [-9, -18, -27, -36])


def test_loading_by_name_says_why_it_cannot(gpu1, play):
    done = play(playbook=str(labtest.CHECKOUT / "molecule/poll/load_by_name.yml"))
    assert done.rc != 0
    for word in ("poll", "triton_server_model_control_mode", "explicit"):
        assert word in done.text


def test_a_second_run_changes_nothing(gpu1, play):
    for check in (True, False):
        done = play(playbook="gpufleet.triton.site", check=check)
        assert (done.rc, done.counts["changed"]) == (0, 0), done.text


def test_a_folder_that_is_taken_away_is_not_served(gpu1, wait_until):
    gpu1.sh(f"rm -r {MODELS}/add_sub")
    wait_until(lambda: gpu1.http("/v2/models/add_sub/ready")[0] in (400, 404), seconds=3 + 10)
