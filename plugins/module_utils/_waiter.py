# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is private to the gpufleet.triton collection: it may change at any time.

"""The one way to wait."""

from __future__ import annotations

import time
import typing as t
from dataclasses import dataclass

from ansible_collections.gpufleet.triton.plugins.module_utils._http import HttpError

T = t.TypeVar("T")


@dataclass
class Waited(t.Generic[T]):
    """How a wait ended. `last` is the last state seen, `error` the last error if the last attempt gave none."""

    done: bool
    last: T | None
    error: HttpError | None
    elapsed: float
    attempts: int
    gave_up: str = ""


class Waiter:
    """Look at something again and again until it is as wanted, or the time is over."""

    def __init__(
        self,
        timeout: float,
        interval: float = 1.0,
        consecutive: int = 1,
        clock: t.Callable[[], float] = time.monotonic,
        sleep: t.Callable[[float], None] = time.sleep,
    ) -> None:
        self.timeout = timeout
        self.interval = interval
        self.consecutive = max(1, consecutive)
        self.clock = clock
        self.sleep = sleep

    def wait(
        self,
        probe: t.Callable[[], T],
        done: t.Callable[[T], bool],
        give_up: t.Callable[[HttpError | None], str] | None = None,
    ) -> Waited[T]:
        """Return when `done` held `consecutive` times in a row, the time is over, or `give_up` gives a reason.

        An error that waiting may cure (a refused connection, a timeout) is an attempt that failed; others are raised.
        """
        start = self.clock()
        attempts = in_a_row = 0
        last: T | None = None
        while True:
            attempts += 1
            error: HttpError | None = None
            good = False
            try:
                last = probe()
                good = done(last)
            except HttpError as caught:
                if not caught.transient:
                    raise
                error = caught
            in_a_row = in_a_row + 1 if good else 0
            elapsed = self.clock() - start
            if in_a_row >= self.consecutive:
                return Waited(True, last, None, elapsed, attempts)
            reason = "" if good or give_up is None else give_up(error)
            left = self.timeout - elapsed
            if reason or left <= 0:
                return Waited(False, last, error, elapsed, attempts, reason)
            # The last look comes when the time ends, not up to an interval before.
            self.sleep(min(self.interval, left))
