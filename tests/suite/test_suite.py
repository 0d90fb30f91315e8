# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every integration target and every Molecule scenario on disk as one test each: none can be forgotten, all are counted.

Each test runs what an operator would run by hand. They often wait (for a model that loads, for a server that starts), so two
run side by side; more would wait for the processor. What a run prints is shown when it has ended, and stays in .build/suite.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
TARGETS = CHECKOUT / "tests" / "integration" / "targets"
SCENARIOS = CHECKOUT / "molecule"
LOGS = CHECKOUT / ".build" / "suite"

# A target setup_... only prepares something: the others name it in their meta/main.yml.
INTEGRATION = sorted(path.name for path in TARGETS.glob("*/") if not path.name.startswith("setup_"))
# A scenario with a file OPT_IN, which says why, is run by its name alone.
MOLECULE = sorted(path.parent.name for path in SCENARIOS.glob("*/molecule.yml") if not (path.parent / "OPT_IN").exists())

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# Where a long output says why a run failed: pytest's lines, and Ansible's, which go on in the lines that follow.
TELLING = re.compile(r"[ │]*(E  |FAILED |ERROR |CRITICAL )|[ │]*(fatal: |failed: |\[ERROR\])")


def make(target: str, variable: str, name: str) -> int:
    began = time.monotonic()
    with (LOGS / f"{target}-{name}.log").open("wb") as log:
        command = ["make", target, f"{variable}={name}"]
        done = subprocess.run(command, cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, check=False)
    print(f"=== {' '.join(command)}: {time.monotonic() - began:.0f} s, status {done.returncode}", flush=True)
    return done.returncode


@pytest.fixture(scope="session")
def runs(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[int]]]:
    """Test -> exit status of its run. All that was selected is begun here, in the order of the tests."""
    LOGS.mkdir(parents=True, exist_ok=True)
    selected = [item for item in request.session.items if item.path == Path(__file__)]
    begun: dict[str, Future[int]] = {item.name: Future() for item in selected}

    def go_through(items: list[pytest.Function]) -> None:
        for item in items:
            target, variable = ("integration", "TARGET") if item.originalname == "test_integration" else ("molecule", "SCENARIO")
            try:
                begun[item.name].set_result(make(target, variable, item.callspec.params["name"]))
            except OSError as exc:
                begun[item.name].set_exception(exc)

    with ThreadPoolExecutor(2) as pool:
        # ansible-test works on one copy of the checkout, so its targets go one after the other.
        pool.submit(go_through, [item for item in selected if item.originalname == "test_integration"])
        for item in selected:
            if item.originalname == "test_molecule":
                pool.submit(go_through, [item])
        yield begun
        pool.shutdown(cancel_futures=True)


@pytest.fixture
def status(request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str], runs: dict[str, Future[int]]) -> int:
    with capfd.disabled():
        print(flush=True)
        return runs[request.node.name].result()


def show(capfd: pytest.CaptureFixture[str], log: str) -> str:
    """Print what a run has printed; what of it tells why it failed."""
    text = COLOUR.sub("", (LOGS / log).read_text(errors="replace"))
    with capfd.disabled():
        print(text, flush=True)
    lines = text.splitlines()
    telling: list[str] = []
    more = 0
    for line in lines:
        found = TELLING.match(line)
        more = 12 if found and found[2] else more - 1
        if found or more > 0:
            telling.append(line)
    return "\n".join((*telling[-80:], "...", *lines[-20:]))


@pytest.mark.parametrize("name", INTEGRATION)
def test_integration(capfd: pytest.CaptureFixture[str], status: int, name: str) -> None:
    reasons = show(capfd, f"integration-{name}.log")
    assert status == 0, reasons


@pytest.mark.parametrize("name", MOLECULE)
def test_molecule(capfd: pytest.CaptureFixture[str], status: int, name: str) -> None:
    reasons = show(capfd, f"molecule-{name}.log")
    assert status == 0, reasons
