# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils._http import HttpConnectError, HttpError, HttpTlsError
from ansible_collections.gpufleet.triton.plugins.module_utils._waiter import Waited, Waiter
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.scripted import Clock


def wait(states: list[t.Any], timeout: float = 10.0, give_up: t.Any = None, **options: t.Any) -> tuple[Waited[t.Any], Clock]:
    clock = Clock()
    left = iter(states)
    last = states[-1]

    def probe() -> t.Any:
        state = next(left, last)
        if isinstance(state, HttpError):
            raise state
        return state

    waiter: Waiter = Waiter(timeout, clock=clock, sleep=clock.sleep, **options)
    return waiter.wait(probe, lambda state: state == "good", give_up), clock


def test_at_once() -> None:
    waited, clock = wait(["good"])
    assert (waited.done, waited.last, waited.attempts, waited.elapsed, clock.slept) == (True, "good", 1, 0.0, [])


def test_after_a_while() -> None:
    waited, clock = wait(["bad", "bad", "good"], interval=2.0)
    assert (waited.done, waited.attempts, waited.elapsed, clock.slept) == (True, 3, 4.0, [2.0, 2.0])


def test_errors_of_the_way_there_are_retried() -> None:
    waited, _clock = wait([HttpConnectError("refused"), "bad", HttpConnectError("refused"), "good"])
    assert (waited.done, waited.attempts, waited.error) == (True, 4, None)


def test_errors_that_waiting_does_not_cure_are_raised() -> None:
    with pytest.raises(HttpTlsError):
        wait([HttpTlsError("no")])


def test_time_is_over_and_the_last_state_is_known() -> None:
    waited, clock = wait(["bad"], timeout=2.5)
    assert (waited.done, waited.last, waited.error, waited.attempts) == (False, "bad", None, 4)
    assert clock.slept == [1.0, 1.0, 0.5], "the last look comes when the time ends"


def test_the_last_state_stays_known_behind_an_error() -> None:
    waited, _clock = wait(["bad", HttpConnectError("refused")], timeout=2)
    assert (waited.done, waited.last, waited.error and waited.error.what) == (False, "bad", "refused")


def test_no_time_is_one_look() -> None:
    waited, clock = wait(["bad", "good"], timeout=0)
    assert (waited.done, waited.attempts, clock.slept) == (False, 1, [])


def test_several_good_looks_in_a_row() -> None:
    waited, _clock = wait(["good", "good", "bad", "good", HttpConnectError("x"), "good", "good", "good"], consecutive=3)
    assert (waited.done, waited.attempts) == (True, 8)


def test_giving_up() -> None:
    errors: list[HttpError | None] = []

    def give_up(error: HttpError | None) -> str:
        errors.append(error)
        return "enough" if len(errors) == 3 else ""

    refused = HttpConnectError("refused")
    waited, _clock = wait(["bad", refused, refused], give_up=give_up)
    assert (waited.done, waited.gave_up, waited.attempts, errors) == (False, "enough", 3, [None, refused, refused])
