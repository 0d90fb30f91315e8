# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong, why, and what to do: in parts and as one text. Private to the collection; standard library only."""

from __future__ import annotations

from dataclasses import dataclass


def sentence(what: str, why: str = "", remedy: str = "") -> str:
    """Join the three parts of an error into one readable text."""
    parts = [part.strip().rstrip(" .;\n") for part in (what, why, remedy) if part and part.strip()]
    return " ".join(part[0].upper() + part[1:] + "." for part in parts)


@dataclass(frozen=True)
class Problem:
    what: str
    why: str = ""
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        return {"what": self.what, "why": self.why, "remedy": self.remedy}


class ProblemError(Exception):
    """Something that stops the work. `what` is the fact, `why` the likely cause, `remedy` what to do about it."""

    def __init__(self, what: str, why: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.remedy = remedy

    def __str__(self) -> str:
        return sentence(self.what, self.why, self.remedy)

    def as_problem(self) -> dict[str, str]:
        return Problem(self.what, self.why, self.remedy).as_dict()
