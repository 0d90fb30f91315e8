# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of models on one server. Each test uses names of its own and leaves add_sub serving."""

from __future__ import annotations

import re
import signal
from collections import Counter

import labtest
import pytest
from modeltest import ADD_SUB, gives

CONVERGE = str(labtest.CHECKOUT / "molecule/models/converge.yml")


def test_what_was_converged_is_served_and_recorded(gpu1, server):
    assert server.ready() == ["add_sub"]
    assert gpu1.add_sub() == ([11, 22, 33, 44], [-9, -18, -27, -36])
    digest = server.manifest("add_sub")["digest"]
    assert server.served_digest("add_sub") == digest
    assert server.start_list() == ["add_sub"]
    assert server.recorded() == {"add_sub": digest}


def test_a_run_without_work_makes_a_fixed_number_of_module_calls(play, models, workshop, tmp_path, monkeypatch):
    calls = tmp_path / "calls"
    monkeypatch.setenv("ANSIBLE_CALLBACK_PLUGINS", str(labtest.CHECKOUT / "tests/bench/callback_plugins"))
    monkeypatch.setenv("ANSIBLE_CALLBACKS_ENABLED", "count_modules")
    monkeypatch.setenv("GPUFLEET_COUNT_MODULES", str(calls))

    def counted() -> Counter[str]:
        made = Counter(line.split()[1].rpartition(".")[2] for line in calls.read_text().splitlines())
        calls.unlink()
        return made

    entries = [workshop.times(f"call{number}", number, smoke=gives(number)) for number in range(2, 5)]
    assert models(*entries).rc == 0
    calls.unlink()
    done = models(*entries)
    assert (done.rc, done.counts["changed"]) == (0, 0), done.text
    assert counted() == {"triton_host_info": 1, "triton_repository": 1, "triton_model": 1, "triton_health": 1}
    done = play(playbook=CONVERGE, triton_models=[ADD_SUB, *entries])
    assert (done.rc, done.counts["changed"]) == (0, 0), done.text
    assert counted().total() <= 15


def test_check_mode_predicts_and_touches_nothing(gpu1, server, models, workshop):
    before = gpu1.sh("find /etc/gpufleet /fileServerMountPath/data -printf '%p %s %m %T@ %C@\\n' | sort")
    ready = server.ready()
    done = models(workshop.times("foreseen", 2, smoke=gives(2)), check=True)
    assert done.rc == 0 and done.counts["changed"] >= 3, done.text
    assert "+foreseen" in done.text.replace("+ ", "+")
    assert gpu1.sh("find /etc/gpufleet /fileServerMountPath/data -printf '%p %s %m %T@ %C@\\n' | sort") == before
    assert server.ready() == ready


def test_unloaded_absent_and_a_restart_of_the_server(gpu1, server, models, workshop, wait_until):
    entries = [workshop.times("stays", 2), workshop.times("sleeps", 3), workshop.times("goes", 4)]
    assert models(*entries).rc == 0
    changed = [entries[0], {**entries[1], "state": "unloaded"}, {"name": "goes", "state": "absent"}]
    done = models(*changed)
    assert done.rc == 0, done.text
    assert (server.ready(), server.start_list()) == (["add_sub", "stays"], ["add_sub", "stays"])
    assert server.on_disk() == ["add_sub", "sleeps", "stays"]
    gpu1.sh("systemctl restart triton")
    wait_until(lambda: server.ready() == ["add_sub", "stays"])
    assert models(*changed).counts["changed"] == 0
    assert models(*entries).rc == 0
    assert server.infer("goes") == 4


def test_a_change_is_served_without_one_failed_or_wrong_answer(server, models, workshop, client):
    done = models(workshop.times("change", 2, smoke=gives(2)))
    assert done.rc == 0, done.text
    assert (server.infer("change"), server.start_list()) == (2, ["add_sub", "change"])
    stop = client("change")
    done = models(workshop.times("change", 3, smoke=gives(3)))
    answers, failures, count = stop()
    assert done.rc == 0, done.text
    assert (answers, failures) == ([2, 3], []), count
    assert server.recorded()["change"] == server.manifest("change")["digest"] == server.served_digest("change")
    assert models(workshop.times("change", 3, smoke=gives(3))).counts["changed"] == 0


def test_what_fails_is_rolled_back_and_the_rest_is_served(server, models, workshop):
    """Everything that can go wrong with a model, in one run."""
    names = ["fragile", "known", "smoky"]
    assert models(*(workshop.times(name, 2, smoke=gives(2)) for name in names)).rc == 0
    good = {name: server.served_digest(name) for name in names}
    done = models(
        workshop.times("smoky", 5, smoke=gives(2)),
        workshop.broken("fragile", smoke=gives(2)),
        workshop.times("known", 2, smoke=gives(7)),
        workshop.times("newcomer", 2, smoke=[gives(2), gives(3)]),
        workshop.times("bystander", 4, smoke=gives(4)),
    )
    assert done.rc != 0, done.text
    story = done.text.rpartition("msg:")[2]
    for words in (
        "these weights are broken",
        "smoky failed its smoke test",
        "wanted 2, got 5",
        "known failed its smoke test",
        f"Rolled back to the release before: fragile to {good['fragile']}, smoky to {good['smoky']}.",
        "There is no earlier release of newcomer. newcomer: unloaded, no more loaded when the server starts, and left on disk.",
        f"bystander {server.served_digest('bystander')}",
    ):
        assert words in story, done.text
    # Content that was good before is not rolled back when only its test is another.
    assert {name: server.infer(name) for name in [*names, "bystander"]} == {**dict.fromkeys(names, 2), "bystander": 4}
    assert {name: server.served_digest(name) for name in names} == good
    assert {name: server.manifest(name)["digest"] for name in names} == good
    assert server.recorded() == {**server.recorded(), **good, "bystander": server.served_digest("bystander")}
    assert server.start_list() == ["add_sub", "bystander", *names]
    assert "newcomer" not in {*server.ready(), *server.recorded()} and "newcomer" in server.on_disk()


def test_without_rollback_it_is_only_told_and_the_next_run_may_go_back(server, models, workshop):
    assert models(workshop.times("kept", 2, smoke=gives(2))).rc == 0
    # As it comes from a command line: a word.
    done = models(workshop.times("kept", 3, smoke=gives(2)), triton_models_rollback="false")
    assert done.rc != 0 and "triton_models_rollback is false" in done.text, done.text
    assert server.infer("kept") == 3
    done = models(workshop.times("kept", 3, smoke=gives(2)))
    assert done.rc != 0 and server.infer("kept") == 2, done.text
    # With the content that was good nothing is left to do.
    done = models(workshop.times("kept", 2, smoke=gives(2)))
    assert (done.rc, done.counts["changed"]) == (0, 0), done.text


def test_a_new_model_that_does_not_load_leaves_the_way_open_for_a_better_one(gpu1, server, models, workshop):
    done = models(workshop.broken("stillborn"))
    assert done.rc != 0, done.text
    for word in ("these weights are broken", "no earlier release of stillborn", "stays not ready", "systemctl restart triton"):
        assert word in done.text, done.text
    assert "stillborn" not in server.ready() + server.start_list()
    done = models(workshop.times("stillborn", 2, smoke=gives(2)))
    assert done.rc == 0 and server.infer("stillborn") == 2, done.text
    assert gpu1.http("/v2/health/ready")[0] == 200


def test_models_that_left_the_list(server, models, workshop):
    assert models(workshop.times("left1", 2), workshop.times("left2", 3)).rc == 0
    server.sh("cp -r /fileServerMountPath/data/models/left1 /fileServerMountPath/data/models/foreign")
    server.sh("cd /fileServerMountPath/data/models/foreign && rm .gpufleet.json && sed -i s/left1/foreign/ config.pbtxt")
    # A copy with its manifest is no more of ours than one without.
    server.sh("cd /fileServerMountPath/data/models && cp -r left1 spare && sed -i s/left1/spare/ spare/config.pbtxt")
    try:
        done = models(workshop.times("left2", 3), triton_models_purge="false")
        assert (done.rc, done.counts["changed"]) == (0, 0), done.text
        assert "not in triton_models:" in done.text and "left1" in done.text and "never touched by it: foreign, spare" in done.text
        assert {"left1", "left2"} <= set(server.ready()) & set(server.start_list())

        done = models(workshop.times("left2", 3), triton_models_purge="unload")
        assert done.rc == 0, done.text
        assert "left1" not in server.ready() + server.start_list() and "left1" in server.on_disk()

        predicted = models(triton_models_purge="remove", check=True)
        assert predicted.rc == 0 and "left2" in server.ready(), predicted.text
        done = models(triton_models_purge="remove")
        assert done.rc == 0, done.text
        assert server.ready() == ["add_sub"] and server.on_disk() == ["add_sub", "foreign", "spare"]
        assert server.sh("ls /fileServerMountPath/data/.gpufleet/releases/left2") != ""
    finally:
        server.sh("cd /fileServerMountPath/data/models && rm -r foreign spare")


def test_an_ensemble_comes_with_its_steps_and_goes_before_them(server, models, workshop):
    entries = [workshop.ensemble("chain", "double", "triple", smoke=gives(6)), workshop.times("double", 2), workshop.times("triple", 3)]
    done = models(*entries)
    assert done.rc == 0 and server.infer("chain") == 6, done.text
    entries[2] = workshop.times("triple", 5)
    entries[0]["smoke"] = gives(10)
    done = models(*entries)
    assert done.rc == 0 and server.infer("chain") == 10, done.text
    server.sh("docker logs triton >/run/log.before 2>&1")
    done = models(triton_models_purge="remove")
    assert done.rc == 0 and server.ready() == ["add_sub"], done.text
    log = server.sh("docker logs triton 2>&1 | tail -n +$(($(wc -l </run/log.before) + 1))")
    order = re.findall(r"successfully unloaded '(\w+)'", log)
    assert order[0] == "chain" and sorted(order) == ["chain", "double", "triple"], log


def test_an_ensemble_stays_whole(server, models, workshop, client):
    """What it runs does not leave while it stays; what it ran leaves when it runs something else."""
    entries = [workshop.ensemble("whole", "twice", "thrice", smoke=gives(6)), workshop.times("twice", 2), workshop.times("thrice", 3)]
    assert models(*entries).rc == 0
    for options in ({}, {"check": True}):
        for leaves in ([], [{**entries[2], "state": "unloaded"}], [{"name": "thrice", "state": "absent"}]):
            done = models(*entries[:2], *leaves, **options)
            assert done.rc != 0 and done.counts["changed"] == 0, done.text
            assert "needs the model 'thrice', which is to be unloaded or removed" in done.text, done.text
    assert server.infer("whole") == 6
    stop = client("whole")
    done = models(workshop.ensemble("whole", "twice", "fourfold", smoke=gives(8)), entries[1], workshop.times("fourfold", 4))
    answers, failures, count = stop()
    assert done.rc == 0 and server.ready() == ["add_sub", "fourfold", "twice", "whole"], done.text
    assert (answers, failures) == ([6, 8], []), count


def test_an_ensemble_is_tested_again_when_one_of_its_steps_is_another(server, models, workshop):
    entries = [workshop.ensemble("sum", "part1", "part2", smoke=gives(6)), workshop.times("part1", 2), workshop.times("part2", 3)]
    assert models(*entries).rc == 0
    good = server.served_digest("part2")
    done = models(*entries[:2], workshop.times("part2", 5))
    assert done.rc != 0 and f"Rolled back to the release before: part2 to {good}." in done.text, done.text
    assert (server.infer("sum"), server.served_digest("part2")) == (6, good)
    done = models(*entries[:2], workshop.times("part2", 3))
    assert (done.rc, done.counts["changed"]) == (0, 0), done.text


def test_canary_by_version(server, models, workshop):
    """Version 2 beside version 1, promoted, and withdrawn."""

    def policy(*versions: int) -> dict:
        return {"config": {"version_policy": {"specific": {"versions": list(versions)}}}}

    entry = workshop.times("canary", 2)
    assert models({**entry, **policy(1)}).rc == 0
    workshop.times("canary", 3, version=2)
    done = models({**entry, **policy(1, 2), "smoke": [gives(2, version=1), gives(3, version=2)]})
    assert done.rc == 0, done.text
    assert (server.infer("canary", 1), server.infer("canary", 2), server.infer("canary")) == (2, 3, 3)
    done = models({**entry, **policy(2)})
    assert done.rc == 0 and server.infer("canary", 1) == 503 and server.infer("canary", 2) == 3, done.text
    done = models({**entry, **policy(1)})
    assert done.rc == 0 and server.infer("canary") == 2 and server.infer("canary", 2) == 503, done.text
    assert models({**entry, **policy(3)}).rc != 0
    assert server.infer("canary") == 2


def test_a_run_that_ended_after_publishing_is_finished_by_the_next(server, models, workshop):
    assert models(workshop.times("halfway", 2, smoke=gives(2))).rc == 0
    done = models(workshop.times("halfway", 3, smoke=gives(3)), tags="triton_models_publish")
    assert done.rc == 0 and server.infer("halfway") == 2, done.text
    assert server.manifest("halfway")["digest"] != server.served_digest("halfway")
    done = models(workshop.times("halfway", 3, smoke=gives(3)), tags="triton_models_load")
    assert done.rc == 0 and server.infer("halfway") == 3, done.text
    # Loaded, and never tested: content that is bad is found now, and the release before is still known.
    assert server.recorded()["halfway"] != server.served_digest("halfway")
    done = models(workshop.times("halfway", 3, smoke=gives(4)))
    assert done.rc != 0 and server.infer("halfway") == 2, done.text


def test_a_run_that_is_killed_while_it_loads_is_finished_by_the_next(server, models, workshop):
    assert models(workshop.times("slow", 2, smoke=gives(2))).rc == 0
    entry = workshop.times("slow", 3, initialize="time.sleep(4)", smoke=gives(3))
    before = server.manifest("slow")["digest"]
    done = models(entry, kill_when=lambda: server.manifest("slow")["digest"] != before)
    assert done.rc == -signal.SIGKILL, done.text
    assert "slow" in server.ready()
    done = models(entry)
    assert done.rc == 0 and server.infer("slow") == 3, done.text
    assert server.recorded()["slow"] == server.served_digest("slow") == server.manifest("slow")["digest"]


def test_a_server_that_restarts_in_the_middle_comes_back_with_what_it_should_serve(gpu1, server, models, workshop, wait_until):
    assert models(workshop.times("leaving", 2), workshop.times("staying", 3)).rc == 0
    slow = workshop.times("coming", 4, initialize="time.sleep(8)")
    done = models(slow, workshop.times("staying", 3), kill_when=lambda: gpu1.index().get("coming") == "LOADING")
    assert done.rc == -signal.SIGKILL, done.text
    # What leaves is out before it is unloaded, what comes is in after it was loaded.
    assert server.start_list() == ["add_sub", "staying"]
    gpu1.sh("systemctl restart triton")
    wait_until(lambda: server.ready() == ["add_sub", "staying"], seconds=120)
    done = models(slow, workshop.times("staying", 3))
    assert done.rc == 0 and server.ready() == ["add_sub", "coming", "staying"], done.text
    assert server.start_list() == server.ready()


def test_a_model_that_takes_the_server_down_is_rolled_back(server, models, workshop):
    assert models(workshop.times("killer", 2, smoke=gives(2)), workshop.times("victim", 3, smoke=gives(3))).rc == 0
    started = server.sh("docker inspect -f '{{.State.StartedAt}}' triton")
    deadly = workshop.times("killer", 2, initialize="__import__('os').kill(1, 15); time.sleep(60)", smoke=gives(2))
    done = models(deadly, workshop.times("victim", 3, smoke=gives(3)))
    assert done.rc != 0 and "Rolled back to the release before: killer" in done.text, done.text
    assert server.sh("docker inspect -f '{{.State.StartedAt}}' triton") != started, "it did go down"
    assert (server.infer("killer"), server.infer("victim")) == (2, 3)
    assert server.start_list() == ["add_sub", "killer", "victim"]


def test_a_release_that_cannot_be_put_back_is_told(server, models, workshop):
    assert models(workshop.times("doomed", 2, smoke=gives(2))).rc == 0
    release = server.manifest("doomed")["digest"].partition(":")[2]
    assert models(workshop.times("doomed", 3, smoke=gives(2)), triton_models_rollback=False).rc != 0
    server.sh(f"echo '# damaged' >>/fileServerMountPath/data/.gpufleet/releases/doomed/{release}/1/model.py")
    done = models(workshop.times("doomed", 3, smoke=gives(2)))
    assert done.rc != 0, done.text
    for words in ("doomed failed its smoke test", "No release could be put back", "is damaged", "1/model.py differs from what was"):
        assert words in done.text, done.text
    assert "doomed" not in server.ready() + server.start_list()


def test_a_release_that_cannot_be_put_back_takes_no_other_model_along(server, models, workshop):
    names = ["fine", "stuck"]
    assert models(*(workshop.times(name, 2, smoke=gives(2)) for name in names)).rc == 0
    good = {name: server.served_digest(name) for name in names}
    bad = [workshop.times("fine", 3, smoke=gives(2)), workshop.broken("stuck", smoke=gives(2))]
    assert models(*bad, triton_models_rollback=False).rc != 0
    release = good["stuck"].partition(":")[2]
    server.sh(f"echo '# damaged' >>/fileServerMountPath/data/.gpufleet/releases/stuck/{release}/1/model.py")
    done = models(*bad)
    assert done.rc != 0, done.text
    for words in (f"Rolled back to the release before: fine to {good['fine']}.", "served before is served on: stuck."):
        assert words in done.text, done.text
    # Triton still has the old content in memory, which is better than none.
    assert {name: server.infer(name) for name in names} == dict.fromkeys(names, 2)
    assert server.start_list() == ["add_sub", *names]


def test_what_is_rolled_back_is_loaded_at_the_next_start(server, models, workshop):
    assert models(workshop.times("returns", 2, smoke=gives(2))).rc == 0
    assert models({**workshop.times("returns", 2), "state": "unloaded"}).rc == 0
    assert "returns" not in server.start_list()
    done = models(workshop.broken("returns", smoke=gives(2)))
    assert done.rc != 0 and server.infer("returns") == 2, done.text
    assert server.start_list() == ["add_sub", "returns"]


def test_a_server_that_is_kept_down_gets_its_models_on_disk_alone(server, models, workshop):
    done = models(workshop.times("later", 2, smoke=gives(2)), triton_server_state="stopped")
    assert done.rc == 0, done.text
    assert "later" in server.on_disk() and "later" not in server.ready() + server.start_list()
    assert "later" not in server.recorded()


def test_no_model_nothing_to_do(server, play):
    done = play("gpufleet.triton.triton_models", triton_models=[])
    assert (done.rc, done.counts["changed"]) == (0, 0), done.text
    assert "triton_models is empty" in done.text
    assert "add_sub" in server.ready()


def test_the_options_reach_the_check_of_the_models(models, play_cases, workshop):
    """Each refuses a model that is right without it, and the image's own backends are known without any."""
    entry = workshop.times("checked", 2)
    plans = {"platform": "tensorrt_plan", "backend": "tensorrt", "cc_model_filenames": {"8.0": "model.py"}}
    cases = [
        ({"triton_models_backends": ["onnxruntime"]}, {}, "The image does not have the backend 'python'"),
        ({}, {"config": {"backend": "onnxruntime"}}, "The image does not have the backend 'onnxruntime'. The image has python"),
        ({}, {"config": {"backend": "tensorflow"}}, "built without TensorFlow"),
        ({}, {"config": {"instance_group": [{"kind": "KIND_GPU"}]}}, "the host has no GPU"),
        (
            {"triton_models_backends": ["tensorrt"], "triton_models_compute_capabilities": ["9.0"]},
            {"config": plans},
            "There is no plan for compute capability 9.0",
        ),
        ({"triton_models_max_unpacked": "much"}, {}, "Cannot use max_unpacked='much'"),
        ({"triton_models_require_signature": True}, {}, "Set signature_public_key or signature_certificates"),
        ({"triton_models_signature_public_key": "/no/key"}, {}, "Cannot find signature_public_key /no/key"),
        ({"triton_models_fetch_on": "controller"}, {"src": "rclone:nowhere:x"}, "the remote is not in rclone's own configuration"),
    ]
    results = play_cases(
        "gpufleet.triton.triton_models",
        cases={words: {"triton_models": [ADD_SUB, {**entry, **changes}], **options} for options, changes, words in cases},
    )
    for words, done in results.items():
        assert done.rc != 0 and done.counts["changed"] == 0, (words, done.text)
        assert words.lower() in done.text.lower(), (words, done.text)
    done = models({**entry, "config": {"backend": "onnxruntime"}}, check=True, triton_models_strict=False)
    assert done.rc == 0 and "does not have the backend 'onnxruntime'" in done.text, done.text


SOURCE = str(labtest.CHECKOUT / "examples/fleet/models/add_sub")
TYPOS = {
    "an unknown key": ([{"name": "a", "src": SOURCE, "smok": {}}], {}, ["smok", "smoke"]),
    "a state": ([{"name": "a", "src": SOURCE, "state": "laoded"}], {}, ["laoded", "loaded, unloaded, absent"]),
    "two entries of a name": ([{"name": "a", "src": SOURCE}] * 2, {}, ["More than one entry of triton_models is for a."]),
    "a number as name": ([{"name": 5, "src": SOURCE}], {}, ["not text: 5", "quotes"]),
    "names that differ in case alone are two": (
        [{"name": "Twin", "src": SOURCE}, {"name": "twin", "src": SOURCE}],
        {},
        ["The configuration says 'add_sub', the folder is 'Twin'"],
    ),
    "a mode that is not the server's": ([ADD_SUB], {"triton_models_control_mode": "poll"}, ["started in the mode explicit"]),
    "no source": ([{"name": "a"}], {}, ["where a should come from"]),
    "a key of a smoke test": (
        [{"name": "a", "src": SOURCE, "smoke": {"inputs": [{"nam": "x"}], "exepct": []}}],
        {},
        ["exepct, nam.", "triton_infer"],
    ),
    "a smoke test that is none": ([{"name": "a", "src": SOURCE, "smoke": ["x"]}], {}, ["must be a mapping"]),
    "a mode without loads": ([ADD_SUB], {"triton_models_control_mode": "none"}, ["takes up nothing new", "explicit"]),
    "unloaded in poll mode": ([{**ADD_SUB, "state": "unloaded"}], {"triton_models_control_mode": "poll"}, ["in poll mode", "absent"]),
    "unload in poll mode": ([ADD_SUB], {"triton_models_control_mode": "poll", "triton_models_purge": "unload"}, ["remove", "poll mode"]),
    "nothing to roll back to": ([ADD_SUB], {"triton_models_keep_releases": 0}, ["nothing to roll back to"]),
    "a repository that is not there": ([ADD_SUB], {"model_repository_root": "/nowhere"}, ["/nowhere/data/models is not there"]),
    "a share that is not mounted": ([ADD_SUB], {"model_repository_shared": True}, ["no mount point", "Mount it"]),
    "no such server": ([ADD_SUB], {"triton_models_container": "other"}, ["does not run on this host", "there is no container other"]),
}


@pytest.fixture(scope="module")
def typos(play_cases):
    cases = {case: {"triton_models": entries, **options} for case, (entries, options, _words) in TYPOS.items()}
    return play_cases("gpufleet.triton.triton_models", cases=cases)


@pytest.mark.parametrize("case", TYPOS)
def test_typos_end_in_preflight(typos, case):
    done, words = typos[case], TYPOS[case][2]
    assert done.rc != 0 and done.counts["changed"] == 0, done.text
    for word in words:
        assert word in done.text, done.text


def test_a_variable_that_is_no_option_is_noted(models):
    done = models(check=True, triton_models_pruge="remove")
    assert done.rc == 0 and "without effect in it: triton_models_pruge." in done.text, done.text
