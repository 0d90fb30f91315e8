# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's report: what it shows, and that it fails where a server answers wrongly."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest

REPORT = Path(__file__).resolve().parents[3] / "examples" / "fleet" / "tools" / "report.py"

LABELS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4]
VERSION = {"version": 1, "state": "READY", "reason": ""}
GOOD = {
    "info": {
        "server": {"version": "2.51.0"},
        "models": [
            {"name": "add_sub", "state": "READY", "versions": [VERSION]},
            {"name": "digits", "state": "READY", "versions": [VERSION, {"version": 2, "state": "UNAVAILABLE", "reason": "unloaded"}]},
        ],
        "problems": [],
    },
    "inferences": {
        "add_sub": {
            "inputs": {"INPUT0": [[1.5, 2]], "INPUT1": [[10, 20]]},
            "outputs": {"OUTPUT0": [11.5, 22], "OUTPUT1": [-8.5, -18]},
            "first_ms": 3.14,
            "median_ms": 0.42,
            "slowest_ms": 1.0,
        },
        "digits": {"labels": LABELS, "elapsed_ms": 5.0},
    },
}


def report(tmp_path: Path, answers: dict) -> subprocess.CompletedProcess[str]:
    held_out = tmp_path / "held_out.json"
    held_out.write_text(json.dumps({"images": [], "labels": LABELS}))
    argv = [sys.executable, str(REPORT), str(held_out), str(tmp_path / "made" / "report.txt")]
    done = subprocess.run(argv, input=json.dumps(answers), text=True, capture_output=True, check=False)
    assert (tmp_path / "made" / "report.txt").read_text() == done.stdout
    return done


def test_table(tmp_path: Path) -> None:
    done = report(tmp_path, {"gpu1": GOOD, "a-long-name": GOOD})
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "HOST         TRITON  MODEL    VERSION  STATE  ANSWER                                    LATENCY",
        "gpu1         2.51.0  add_sub  1        READY  1.5 + 10 = 11.5, 1.5 - 10 = -8.5          0.4 ms (first 3.1)",
        "gpu1         2.51.0  digits   1        READY  accuracy 1.000: 20 of 20 held-out images  0.25 ms per image",
        "a-long-name  2.51.0  add_sub  1        READY  1.5 + 10 = 11.5, 1.5 - 10 = -8.5          0.4 ms (first 3.1)",
        "a-long-name  2.51.0  digits   1        READY  accuracy 1.000: 20 of 20 held-out images  0.25 ms per image",
    ]


def wrong_sum(answer: dict) -> None:
    answer["inferences"]["add_sub"]["outputs"]["OUTPUT0"][1] = 21


def two_wrong_digits(answer: dict) -> None:
    answer["inferences"]["digits"]["labels"][:2] = [0, 0]


def missing_digits(answer: dict) -> None:
    answer["inferences"]["digits"]["labels"].pop()


def refused_inference(answer: dict) -> None:
    answer["inferences"]["digits"] = {"error": "POST /v2/models/digits/infer: wanted status 200, got 404"}


def unknown_model(answer: dict) -> None:
    answer["info"]["models"].pop()


def problem_of_the_server(answer: dict) -> None:
    answer["info"]["problems"].append({"what": "digits is not loaded", "why": "no such file", "remedy": "copy it"})


@pytest.mark.parametrize(
    ("spoil", "wanted"),
    [
        (wrong_sum, "gpu2: add_sub: wanted {'OUTPUT0': [11.5, 22], 'OUTPUT1': [-8.5, -18]}, got {'OUTPUT0': [11.5, 21], "),
        (two_wrong_digits, "gpu2: digits: wanted an accuracy of 0.95 or more, got 0.900"),
        (missing_digits, "gpu2: digits: wanted 20 labels, got 19"),
        (refused_inference, "gpu2: digits: POST /v2/models/digits/infer: wanted status 200, got 404"),
        (unknown_model, "gpu2: digits: the server does not know this model"),
        (problem_of_the_server, "gpu2: digits is not loaded: no such file Remedy: copy it"),
    ],
)
def test_wrong_answer_is_a_problem(tmp_path: Path, spoil, wanted: str) -> None:
    answer = copy.deepcopy(GOOD)
    spoil(answer)
    done = report(tmp_path, {"gpu1": GOOD, "gpu2": answer})
    assert done.returncode == 1
    problems = [line for line in done.stdout.splitlines() if line.startswith("PROBLEM ")]
    assert len(problems) == 1
    assert problems[0].startswith(f"PROBLEM {wanted}")


def test_host_without_an_answer_has_its_row(tmp_path: Path) -> None:
    done = report(tmp_path, {"gpu1": {"error": "the host did not answer"}})
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "HOST  TRITON  MODEL  VERSION  STATE      ANSWER  LATENCY",
        "gpu1  -       -      -        no answer",
        "",
        "PROBLEM gpu1: the host did not answer",
    ]
