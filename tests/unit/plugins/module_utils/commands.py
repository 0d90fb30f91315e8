# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands that really run, without an AnsibleModule to run them."""

from __future__ import annotations

import os
import subprocess
import typing as t
from functools import partial

from ansible_collections.gpufleet.triton.plugins.module_utils import _proc


def run_command(
    argv: list[str], cwd: str | None = None, environ_update: dict[str, str] | None = None, data: str | None = None, **_options: t.Any
) -> tuple[int, str, str]:
    """What AnsibleModule.run_command does with these options."""
    env = {**os.environ, **(environ_update or {})}
    done = subprocess.run(argv, cwd=cwd, env=env, input=data, capture_output=True, check=False, encoding="utf-8", errors="replace")
    return done.returncode, done.stdout, done.stderr


run = partial(_proc.run, run_command)
