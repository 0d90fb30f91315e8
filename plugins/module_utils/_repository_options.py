# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is private to the gpufleet.triton collection: it may change at any time.

"""The options of triton_repository, which its action plugin and its module share."""

from __future__ import annotations

import copy
import typing as t

from ansible_collections.gpufleet.triton.plugins.module_utils._manifest import EXCLUDE

STATES = ["present", "absent", "verified", "rolled_back"]
FETCH_ON = ["host", "controller"]

# What an entry of `models` has, and the top level as well, for a single `name`.
_MODEL: dict[str, t.Any] = {
    "src": {"type": "str"},
    "remote_src": {"type": "bool"},
    "checksum": {"type": "str"},
    # Path in the model: url, checksum, headers.
    "files": {"type": "dict"},
    "config": {"type": "dict"},
    "digest": {"type": "str"},
    "signature": {"type": "str"},
    "headers": {"type": "dict", "no_log": True},
    "fetch_on": {"type": "str", "choices": FETCH_ON},
    "rclone_config": {"type": "str"},
}

_COMMON: dict[str, t.Any] = {
    "root": {"type": "path", "required": True},
    "name": {"type": "str"},
    "state": {"type": "str", "choices": STATES, "default": "present"},
    "keep": {"type": "int", "default": 2},
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "lock_timeout": {"type": "float", "default": 600.0},
    "max_unpacked": {"type": "str", "default": "200G"},
    "exclude": {"type": "list", "elements": "str", "default": list(EXCLUDE)},
    "require_signature": {"type": "bool", "default": False},
    # Paths on the controller, so no module may expand them on the host.
    "signature_public_key": {"type": "str", "no_log": False},
    "signature_certificates": {"type": "list", "elements": "str"},
    "context": {"type": "dict"},
    "strict": {"type": "bool", "default": True},
    "timeout": {"type": "float", "default": 60.0},
    "validate_certs": {"type": "bool", "default": True},
    "ca_path": {"type": "str"},
}

REQUIRED_ONE_OF: list[tuple[str, ...]] = [("name", "models")]
MUTUALLY_EXCLUSIVE: list[tuple[str, ...]] = [
    ("name", "models"),
    # The rest of an entry's options are defaults of all entries.
    *(("models", option) for option in ("src", "remote_src", "checksum", "files", "config", "digest", "signature", "headers")),
    ("signature_public_key", "signature_certificates"),
]

# What the module itself needs; the rest of the options is the action plugin's, which says in `_request` what it makes of them.
HOST_OPTIONS = ("root", "keep", "owner", "group", "lock_timeout")


def model_options() -> dict[str, t.Any]:
    """The options of one model, without its name and state."""
    return copy.deepcopy(_MODEL)


def public_options() -> dict[str, t.Any]:
    """The argument spec as users know it."""
    entry = {**model_options(), "name": {"type": "str", "required": True}, "state": {"type": "str", "choices": STATES}}
    return {**copy.deepcopy(_COMMON), **model_options(), "models": {"type": "list", "elements": "dict", "options": entry}}


def module_options() -> dict[str, t.Any]:
    """The module's argument spec: what users know, and what its action plugin asks of it."""
    return {**public_options(), "_request": {"type": "dict"}}
