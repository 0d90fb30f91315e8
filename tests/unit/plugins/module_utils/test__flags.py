# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from ansible_collections.gpufleet.triton.plugins.module_utils._flags import FLAGS, OWNED, argument_problems

ROLES = Path(__file__).resolve().parents[4] / "roles"


@pytest.mark.parametrize(
    ("argument", "release", "words"),
    [
        ("--log-verbos=1", "26.08", ["'--log-verbos' is not a flag", "Did you mean '--log-verbose'?"]),
        ("--qqqq=1", "", ["'--qqqq' is not a flag"]),
        ("--allow-client-shm=true", "24.10", ["26.04", "24.10", "newer image"]),
        ("--http-port=1", "26.08", ["triton_server_http_port"]),
        ("--log-verbose", "26.08", ["needs a value"]),
        ("--log-verbose 1", "26.08", ["--flag=value, in one word"]),
        ("-log-verbose=1", "26.08", ["not an argument"]),
        ("log-verbose=1", "26.08", ["not an argument"]),
        ("", "26.08", ["'' is not an argument"]),
        ("--LOG-VERBOSE=1", "26.08", ["not an argument"]),
    ],
)
def test_each_problem_is_one_sentence_that_names_it(argument, release, words):
    (problem,) = argument_problems([argument], release)
    for word in words:
        assert word in problem
    assert problem.count("\n") == 0


@pytest.mark.parametrize(
    ("argument", "release"),
    [
        ("--log-verbose=1", "23.10"),
        ("--allow-client-shm=true", "26.04"),
        ("--allow-client-shm=true", "26.08"),
        ("--allow-client-shm=true", ""),
        ("--backend-config=python,shm-default-byte-size=16777216", "26.08"),
        ("--trace-config=triton,file=/var/log/triton/a=b.json", "26.08"),
        ("--metrics-config=", "26.08"),
    ],
)
def test_what_the_server_takes_is_no_problem(argument, release):
    assert argument_problems([argument], release) == []


def test_a_release_that_is_none_is_said_once_and_flags_are_still_checked():
    problems = argument_problems(["--log-verbose=1", "--nope=1"], "2.51.0")
    assert len(problems) == 2
    assert "'2.51.0' is not a release" in problems[0]
    assert "--nope" in problems[1]


def test_flags_that_options_own_exist_and_so_do_the_options():
    assert set(OWNED) <= set(FLAGS)
    options = yaml.safe_load((ROLES / "triton_server/meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    assert set(OWNED.values()) <= set(options)


def test_releases_are_releases():
    assert all(re.fullmatch(r"(\d\d\.\d\d)?", release) for release in FLAGS.values())
