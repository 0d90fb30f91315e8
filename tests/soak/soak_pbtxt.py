# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Damaged configurations, merged with configurations of chance: each is read, or refused with the place of what is wrong."""

from __future__ import annotations

import random
import sys
import typing as t
import warnings

from ansible_collections.gpufleet.triton.plugins.plugin_utils._pbtxt import dump, from_dict
from ansible_collections.gpufleet.triton.tests.unit.plugins.plugin_utils.generator import Generator
from ansible_collections.gpufleet.triton.tests.unit.plugins.plugin_utils.test__pbtxt import FULL, SCHEMA, check_merge, mutated


class Reader:
    def __init__(self) -> None:
        self.texts = [FULL, *(dump(from_dict(Generator(seed, share=0.25).message(SCHEMA))) for seed in range(40))]
        self.read = self.refused = 0

    def make(self, choice: random.Random) -> tuple[str | bytes, dict[str, t.Any]]:
        text = mutated(choice.choice(self.texts), choice)
        data = text.encode("utf-8", "surrogatepass") if choice.random() < 0.2 else text
        return data, Generator(choice.randrange(1 << 32), share=0.1).message(SCHEMA)

    def check(self, given: tuple[str | bytes, dict[str, t.Any]]) -> None:
        if check_merge(*given):
            self.read += 1
        else:
            self.refused += 1


if __name__ == "__main__":
    from soaking import soak

    warnings.simplefilter("error")
    reader = Reader()
    sys.exit(soak("pbtxt", 120_000, reader.make, reader.check, lambda: f"{reader.read} read, {reader.refused} refused"))
