# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Poll mode: what lies in the repository is served."""

from __future__ import annotations

import subprocess

import labtest
from modeltest import gives

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


def test_what_is_published_is_gated_by_its_digest(server, models, workshop):
    entry = workshop.times("published", 2, smoke=gives(2))
    done = models(entry, triton_models_wait_timeout=60)
    assert done.rc == 0, done.text
    assert server.infer("published") == 2
    assert server.served_digest("published") == server.manifest("published")["digest"] == server.recorded()["published"]
    done = models(entry)
    assert (done.rc, done.counts["changed"]) == (0, 0), done.text


def test_a_mode_that_is_not_the_servers_blames_no_model(server, models, workshop):
    done = models(workshop.times("published", 3, smoke=gives(3)), triton_models_control_mode="explicit")
    assert (done.rc != 0, done.counts["changed"]) == (True, 0), done.text
    assert "triton_models_control_mode says explicit, but the server was started in the mode poll" in done.text, done.text
    # Where what runs the server cannot be looked at, the server itself says so. A load may come after the poll, and be none; an unload not.
    done = models(workshop.times("published", 3, state="unloaded"), triton_models_control_mode="explicit", triton_models_container="")
    assert done.rc != 0 and "triton_models_control_mode says explicit, the server says otherwise" in done.text, done.text
    assert "Rolled back" not in done.text
    # The content is on disk, and so it comes with the next poll.
    done = models(workshop.times("published", 3, smoke=gives(3)))
    assert done.rc == 0 and server.infer("published") == 3, done.text


def test_thirty_changes_without_one_failed_or_wrong_answer(server, models, workshop, client, play, tmp_path):
    sources = [workshop.times("restless", number, folder=f"content{number}")["src"] for number in range(1, 31)]
    assert models(workshop.times("restless", 1, folder="content1")).rc == 0
    stop = client("restless")
    done = play(playbook=str(labtest.CHECKOUT / "molecule/poll/publish.yml"), publish_name="restless", publish_sources=sources)
    assert (done.rc, done.counts["changed"]) == (0, 1), done.text
    done = models(workshop.times("restless", 30, folder="content30", smoke=gives(30)))
    answers, failures, count = stop()
    assert done.rc == 0, done.text
    assert failures == [], count
    # Each poll takes what lies there then: never older content than before, and in the end the last.
    assert answers == sorted(answers) and set(answers) <= set(range(1, 31)) and answers[-1] == 30 and len(answers) > 3
    assert server.served_digest("restless") == server.manifest("restless")["digest"]


def test_a_failed_smoke_test_is_rolled_back_by_the_poll(server, models, workshop):
    assert models(workshop.times("smoky", 2, smoke=gives(2))).rc == 0
    good = server.served_digest("smoky")
    done = models(workshop.times("smoky", 5, smoke=gives(2)))
    assert done.rc != 0, done.text
    for word in ("wanted 2, got 5", f"smoky to {good}"):
        assert word in done.text, done.text
    assert (server.infer("smoky"), server.served_digest("smoky")) == (2, good)


def test_a_change_that_does_not_load_is_rolled_back_by_the_poll(server, models, workshop):
    assert models(workshop.times("fragile", 2, smoke=gives(2))).rc == 0
    done = models(workshop.broken("fragile", smoke=gives(2)), triton_models_wait_timeout=4)
    assert done.rc != 0 and "Rolled back to the release before: fragile" in done.text, done.text
    assert (server.infer("fragile"), server.manifest("fragile")["digest"]) == (2, server.recorded()["fragile"])


def test_a_new_model_that_is_no_good_leaves_the_disk(server, models, workshop, wait_until):
    done = models(workshop.times("newcomer", 2, smoke=gives(3)))
    assert done.rc != 0 and "newcomer: taken from the disk and kept as a release" in done.text, done.text
    assert "newcomer" not in server.on_disk()
    wait_until(lambda: server.infer("newcomer") != 2, seconds=3 + 10)


def test_what_should_be_absent_is_gone_when_the_play_ends(server, models, workshop):
    assert models(workshop.times("passing", 2)).rc == 0
    done = models({"name": "passing", "state": "absent"})
    assert done.rc == 0, done.text
    assert server.infer("passing") != 2 and "passing" not in server.on_disk()
