# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two hosts that mount the same storage: one publishes, both load, and both go back together."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import labtest
import pytest
from modeltest import ADD_SUB, ModelHost, gives

ROLE = "gpufleet.triton.triton_models"
SERIAL = str(labtest.CHECKOUT / "molecule/fleet/serial.yml")
ROOT = "/srv/shared"
BOTH = {"limit": "gpu1,gpu2", "model_repository_root": ROOT, "model_repository_shared": True}


@pytest.fixture(scope="module")
def pair(play: Callable[..., labtest.Played]) -> Iterator[tuple[ModelHost, ModelHost]]:
    """The scenario's hosts on the storage that both have mounted; afterwards each is on its own again."""
    done = play(playbook="gpufleet.triton.site", triton_models=[ADD_SUB], **BOTH)
    assert done.rc == 0, done.text
    yield ModelHost(labtest.LabHost("gpu1")), ModelHost(labtest.LabHost("gpu2"))
    done = play(playbook="gpufleet.triton.site", limit="gpu1,gpu2")
    assert done.rc == 0, done.text


def test_one_publishes_and_both_serve(pair, play, workshop):
    done = play(ROLE, triton_models=[ADD_SUB, workshop.times("common", 2, smoke=gives(2))], **BOTH)
    assert done.rc == 0, done.text
    assert [host.infer("common") for host in pair] == [2, 2]
    assert [host.start_list() for host in pair] == [["add_sub", "common"]] * 2
    published = pair[0].manifest("common", ROOT)
    assert published == pair[1].manifest("common", ROOT)
    assert [host.recorded()["common"] for host in pair] == [published["digest"]] * 2
    done = play(ROLE, triton_models=[ADD_SUB, workshop.times("common", 2, smoke=gives(2))], **BOTH)
    assert (done.rc, done.counts["changed"]) == (0, 0), done.text


def test_what_fails_on_one_is_rolled_back_on_both(pair, play, workshop):
    good = pair[0].served_digest("common")
    # The second host expects something else, as if its hardware computed differently.
    test = gives("{{ 5 if inventory_hostname == 'gpu1' else 2 }}")
    done = play(ROLE, triton_models=[ADD_SUB, workshop.times("common", 5, smoke=test)], **BOTH)
    assert done.rc != 0, done.text
    for word in ("wanted 2, got 5", "Failed on gpu2, which share the storage: common", f"common to {good}"):
        assert word in done.text, done.text
    assert [host.infer("common") for host in pair] == [2, 2]
    assert [host.served_digest("common") for host in pair] == [good, good]
    assert [host.recorded()["common"] for host in pair] == [good, good]
    assert pair[0].manifest("common", ROOT)["digest"] == good


@pytest.mark.thorough
def test_a_rollback_loads_nothing_on_a_host_that_wants_it_unloaded(pair, play, workshop):
    def run(factor: int, test: int) -> labtest.Played:
        entry = workshop.times("common", factor, smoke=gives(test))
        entry["state"] = "{{ 'loaded' if inventory_hostname == 'gpu1' else 'unloaded' }}"
        return play(ROLE, triton_models=[ADD_SUB, entry], **BOTH)

    assert run(2, 2).rc == 0
    assert [host.ready() for host in pair] == [["add_sub", "common"], ["add_sub"]]
    done = run(7, 2)
    assert done.rc != 0 and pair[0].infer("common") == 2, done.text
    assert [host.ready() for host in pair] == [["add_sub", "common"], ["add_sub"]]
    assert [host.start_list() for host in pair] == [["add_sub", "common"], ["add_sub"]]
    assert play(ROLE, triton_models=[ADD_SUB, workshop.times("common", 2, smoke=gives(2))], **BOTH).rc == 0


@pytest.mark.thorough
def test_a_publisher_that_fails_is_named_and_not_replaced(pair, play, workshop):
    entry = workshop.times("common", 3)
    entry["src"] += "/nowhere"
    done = play(ROLE, triton_models=[ADD_SUB, entry], **BOTH)
    assert done.rc != 0 and done.counts["changed"] == 0, done.text
    assert "gpu1 publishes for the storage that this host shares, and failed" in done.text
    assert [host.infer("common") for host in pair] == [2, 2]


def test_hosts_that_want_other_content_are_refused(pair, play, workshop):
    entry = workshop.times("common", 3, config="{{ {} if inventory_hostname == 'gpu1' else {'max_batch_size': 2} }}")
    done = play(ROLE, triton_models=[ADD_SUB, entry], **BOTH)
    assert done.rc != 0 and done.counts["changed"] == 0, done.text
    assert "triton_models differs between them" in done.text


def test_in_batches_of_one_each_host_finds_its_share_done(pair, play, workshop):
    done = play(
        playbook=SERIAL,
        triton_models=[ADD_SUB, workshop.times("common", 4, smoke=gives(4))],
        **BOTH,
    )
    assert done.rc == 0, done.text
    assert [host.infer("common") for host in pair] == [4, 4]


@pytest.mark.parametrize("playbook", ["gpufleet.triton.models", SERIAL])
def test_what_is_removed_is_unloaded_on_both(pair, play, workshop, playbook):
    assert play(ROLE, triton_models=[ADD_SUB, workshop.times("common", 4)], **BOTH).rc == 0
    done = play(playbook=playbook, triton_models=[ADD_SUB], triton_models_purge="remove", **BOTH)
    assert done.rc == 0, done.text
    assert [host.ready() for host in pair] == [["add_sub"]] * 2
    assert pair[0].sh(f"ls {ROOT}/data/models") == "add_sub"
