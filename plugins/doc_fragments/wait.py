# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """How long to wait. The options are in plugins/module_utils/_argspec.py."""

    DOCUMENTATION = r"""
options:
  wait_timeout:
    description:
      - Seconds until the module gives up, for everything that it does in one call.
      - Nothing waits in check mode.
    type: float
    default: 300.0
"""
