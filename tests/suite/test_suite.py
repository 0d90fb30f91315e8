# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every integration target and every Molecule scenario on disk as one test each: none can be forgotten, all are counted.

Each test runs what an operator would run by hand, and its output is shown as it comes.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
TARGETS = CHECKOUT / "tests" / "integration" / "targets"
SCENARIOS = CHECKOUT / "molecule"


def make(capfd: pytest.CaptureFixture[str], target: str, variable: str) -> None:
    with capfd.disabled():
        print(f"\n=== make {target} {variable}", flush=True)
        done = subprocess.run(["make", target, variable], cwd=CHECKOUT, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, f"`make {target} {variable}` ended with {done.returncode}: what failed is in its output, above"


# A target setup_... only prepares something: the others name it in their meta/main.yml.
@pytest.mark.parametrize("target", sorted(path.name for path in TARGETS.glob("*/") if not path.name.startswith("setup_")))
def test_integration(capfd: pytest.CaptureFixture[str], target: str) -> None:
    make(capfd, "integration", f"TARGET={target}")


@pytest.mark.parametrize("scenario", sorted(path.parent.name for path in SCENARIOS.glob("*/molecule.yml")))
def test_molecule(capfd: pytest.CaptureFixture[str], scenario: str) -> None:
    make(capfd, "molecule", f"SCENARIO={scenario}")
