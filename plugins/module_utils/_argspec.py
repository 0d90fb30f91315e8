# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is private to the gpufleet.triton collection: it may change at any time.

"""What the modules share towards Ansible: options, the way to a client, and the way out with an error."""

from __future__ import annotations

import copy
import os
import traceback
import typing as t

from ansible.module_utils.basic import missing_required_lib
from ansible_collections.gpufleet.triton.plugins.module_utils._client import TritonClient, connect, options_from
from ansible_collections.gpufleet.triton.plugins.module_utils._container import Container
from ansible_collections.gpufleet.triton.plugins.module_utils._http import (
    REQUESTS_IMPORT_ERROR,
    HttpConnectError,
    HttpError,
    HttpOptionsError,
)
from ansible_collections.gpufleet.triton.plugins.module_utils._problem import sentence

if t.TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

_CONNECTION: dict[str, t.Any] = {
    "url": {"type": "str", "default": "http://127.0.0.1:8000"},
    "admin_key": {"type": "str", "no_log": True},
    "admin_key_file": {"type": "path", "no_log": False},
    "admin_header": {"type": "str", "default": "x-gpufleet-admin-key"},
    "headers": {"type": "dict", "default": {}},
    "validate_certs": {"type": "bool", "default": True},
    "ca_path": {"type": "path"},
    "client_cert": {"type": "path"},
    "client_key": {"type": "path", "no_log": False},
    "timeout": {"type": "float", "default": 10.0},
}
_WAIT: dict[str, t.Any] = {
    "wait_timeout": {"type": "float", "default": 300.0},
}
MUTUALLY_EXCLUSIVE: list[tuple[str, ...]] = [("admin_key", "admin_key_file")]
REQUIRED_BY: dict[str, str] = {"client_key": "client_cert"}


def connection_options() -> dict[str, t.Any]:
    return copy.deepcopy(_CONNECTION)


def wait_options() -> dict[str, t.Any]:
    return copy.deepcopy(_WAIT)


def not_there_yet(module: AnsibleModule, error: HttpError | None = None) -> str:
    """In check mode, say what a run would have brought to this host before this task: check mode goes on without it.

    Called before a client is opened, and again with the error if nobody answers. Returns nothing where the module should fail.
    """
    if not module.check_mode:
        return ""
    if error is not None:
        return str(error).rstrip(".") if isinstance(error, HttpConnectError) else ""
    if REQUESTS_IMPORT_ERROR is not None:
        return "the Python library requests is not installed"
    key_file = module.params["admin_key_file"]
    return f"{key_file} does not exist" if key_file and not os.path.exists(key_file) else ""


def open_client(module: AnsibleModule, pool: int = 4) -> TritonClient:
    """Return a client for the module's options, or leave with a clear error."""
    if REQUESTS_IMPORT_ERROR is not None:
        module.fail_json(msg=missing_required_lib("requests"), exception=REQUESTS_IMPORT_ERROR)
    for name in ("timeout", "wait_timeout", "interval"):
        value = module.params.get(name)
        if value is not None and not 0 < value < 604800:
            module.fail_json(msg=f"Cannot use {name}={value:g}: wanted seconds, more than 0 and less than a week.")
    for name in ("parallel", "consecutive"):
        value = module.params.get(name)
        if value is not None and not 0 < value <= 64:
            module.fail_json(msg=f"Cannot use {name}={value}: wanted a number from 1 to 64.")
    try:
        options = options_from(module.params, pool)
        if options.admin_key:
            # A key that was read from a file is as secret as one that was given.
            module.no_log_values.add(options.admin_key)
        return connect(options)
    except HttpError as error:
        fail(module, error)
        raise


def client_or_error(module: AnsibleModule) -> TritonClient:
    """Return a client for a module that tells an error as one of several things, and does not end with it.

    Health is told without a key, and that a server was never set up explains more than that its key is not there.
    """
    if REQUESTS_IMPORT_ERROR is not None:
        raise HttpOptionsError("Triton cannot be asked", "the Python library requests is not on this host", "install python3-requests")
    key_file = module.params["admin_key_file"]
    options = options_from(module.params if not key_file or os.path.exists(key_file) else {**module.params, "admin_key_file": None})
    if options.admin_key:
        module.no_log_values.add(options.admin_key)
    return connect(options)


def fail(module: AnsibleModule, error: HttpError, container: Container | None = None, **result: t.Any) -> None:
    """The one place where an error of the server or the way to it becomes the module's."""
    problems = [error.as_problem()]
    if container is not None:
        report = container.report()
        result["container"] = report.as_dict()
        found = report.problem()
        if found is not None:
            # A container that ended explains a refused connection; one that cannot be looked at explains nothing.
            problems.insert(1 if report.note else 0, found.as_dict())
    module.fail_json(
        msg=" ".join(sentence(**problem) for problem in problems),
        problems=problems,
        exception=traceback.format_exc(),
        **result,
    )
