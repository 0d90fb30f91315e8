# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a table of what the servers answered, and fail if one of them did not serve as it should.

usage: report.py HELD_OUT REPORT < ANSWERS     report.yml runs it on the controller
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

WANTED_ACCURACY = 0.95
COLUMNS = ("HOST", "TRITON", "MODEL", "VERSION", "STATE", "ANSWER", "LATENCY")


def add_sub_cells(answer: dict) -> tuple[str, str, str]:
    """Return what was answered, how fast, and what is wrong with it."""
    left, right = (answer["inputs"][name][0] for name in ("INPUT0", "INPUT1"))
    wanted = {"OUTPUT0": [a + b for a, b in zip(left, right)], "OUTPUT1": [a - b for a, b in zip(left, right)]}
    total, difference = (answer["outputs"][name][0] for name in ("OUTPUT0", "OUTPUT1"))
    shown = f"{left[0]:g} + {right[0]:g} = {total:g}, {left[0]:g} - {right[0]:g} = {difference:g}"
    speed = f"{answer['median_ms']:.1f} ms (first {answer['first_ms']:.1f})"
    return shown, speed, "" if answer["outputs"] == wanted else f"add_sub: wanted {wanted}, got {answer['outputs']}"


def digits_cells(answer: dict, labels: list[int]) -> tuple[str, str, str]:
    right = sum(got == wanted for got, wanted in zip(answer["labels"], labels))
    accuracy = right / len(labels)
    speed = f"{answer['elapsed_ms'] / len(labels):.2f} ms per image"
    problem = "" if accuracy >= WANTED_ACCURACY else f"digits: wanted an accuracy of {WANTED_ACCURACY} or more, got {accuracy:.3f}"
    if len(answer["labels"]) != len(labels):
        problem = f"digits: wanted {len(labels)} labels, got {len(answer['labels'])}"
    return f"accuracy {accuracy:.3f}: {right} of {len(labels)} held-out images", speed, problem


def model_rows(host: str, seen: dict, labels: list[int], problems: list[str]) -> list[tuple[str, ...]]:
    """Return a host's rows, and add what is wrong to the problems."""
    rows = []
    for model in seen["info"]["models"]:
        answer = seen["inferences"].get(model["name"])
        shown, speed, problem = "", "", ""
        if answer and "error" in answer:
            shown, problem = "none", f"{model['name']}: {answer['error']}"
        elif answer and model["name"] == "add_sub":
            shown, speed, problem = add_sub_cells(answer)
        elif answer:
            shown, speed, problem = digits_cells(answer, labels)
        if problem:
            problems.append(f"{host}: {problem}")
        versions = ", ".join(str(row["version"]) for row in model["versions"] if row["state"] == "READY")
        rows.append((host, seen["info"]["server"]["version"], model["name"], versions or "-", model["state"], shown, speed))
    missing = sorted(set(seen["inferences"]) - {model["name"] for model in seen["info"]["models"]})
    problems += [f"{host}: {name}: the server does not know this model" for name in missing]
    problems += [f"{host}: {row['what']}: {row['why']} Remedy: {row['remedy']}" for row in seen["info"]["problems"]]
    return rows


def table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def main() -> int:
    labels = json.loads(Path(sys.argv[1]).read_text())["labels"]
    rows: list[tuple[str, ...]] = [COLUMNS]
    problems: list[str] = []
    for host, seen in json.load(sys.stdin).items():
        if "error" in seen:
            problems.append(f"{host}: {seen['error']}")
            rows.append((host, *["-"] * 3, "no answer", "", ""))
        else:
            rows += model_rows(host, seen, labels, problems)
    lines = [*table(rows), *([""] if problems else []), *(f"PROBLEM {problem}" for problem in problems)]
    text = "\n".join(lines) + "\n"
    report = Path(sys.argv[2])
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(text)
    print(text, end="")
    if problems:
        print(f"{len(problems)} problem(s); the whole report is in {report}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
