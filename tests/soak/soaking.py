# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many inputs of chance, one after another, each from a number of its own so that it can be made again."""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
import traceback
import typing as t
from pathlib import Path

SAVED = Path(__file__).parents[2] / ".build" / "soak"
#: How long one input may take. They take milliseconds.
LIMIT = 20


class Hang(BaseException):
    """An input took too long. No handler of errors may take it for one of its own."""


def soak(
    name: str,
    inputs: int,
    make: t.Callable[[random.Random], t.Any],
    check: t.Callable[[t.Any], None],
    counts: t.Callable[[], str],
) -> int:
    """Run what the command line asks for, and return the exit status. The first input that fails ends it, and is saved."""
    parser = argparse.ArgumentParser(description=f"Soak test: {name}.")
    parser.add_argument("--inputs", type=int, default=inputs, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="where the numbers begin (default: %(default)s)")
    asked = parser.parse_args()
    signal.signal(signal.SIGALRM, _ring)
    started, worst = time.monotonic(), (0.0, asked.seed)
    for seed in range(asked.seed, asked.seed + asked.inputs):
        began = time.monotonic()
        given: t.Any = None
        try:
            signal.alarm(LIMIT)
            given = make(random.Random(seed))
            check(given)
        except BaseException as error:
            signal.alarm(0)
            if isinstance(error, KeyboardInterrupt):
                raise
            SAVED.mkdir(parents=True, exist_ok=True)
            path = SAVED / f"{name}-{seed}"
            path.write_bytes(given if isinstance(given, bytes) else repr(given).encode("utf-8", "surrogatepass"))
            traceback.print_exc()
            print(f"{name}: seed {seed} FAILED. Its input is in {path}; run it again with --seed {seed} --inputs 1.", file=sys.stderr)
            return 1
        finally:
            signal.alarm(0)
        worst = max(worst, (time.monotonic() - began, seed))
    took = time.monotonic() - started
    print(
        f"{name}: seeds {asked.seed} to {asked.seed + asked.inputs - 1}, {asked.inputs} inputs in {took:.0f} s: {counts()}; "
        f"the slowest took {worst[0]:.2f} s (seed {worst[1]})"
    )
    return 0


def _ring(*_unused: object) -> t.NoReturn:
    raise Hang(f"no end within {LIMIT} s")
