# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """How to reach a server. The options are in plugins/module_utils/_argspec.py."""

    DOCUMENTATION = r"""
options:
  url:
    description:
      - Address of Triton's HTTP service. A path may follow, for a gateway that serves Triton below one.
      - A user or password in it is refused, because a URL is shown in messages. Use O(headers) instead.
      - Proxies, C(.netrc) and certificate bundles from the environment are not used.
    type: str
    default: http://127.0.0.1:8000
  admin_key:
    description:
      - Key for Triton's restricted APIs (C(--http-restricted-api)), sent in the header O(admin_header).
      - Mutually exclusive with O(admin_key_file).
    type: str
  admin_key_file:
    description:
      - File on the target whose first line is the key, so that the secret never leaves the host.
    type: path
  admin_header:
    description:
      - Name of the header that carries the key.
    type: str
    default: x-gpufleet-admin-key
  headers:
    description:
      - More headers for each request, for example what a gateway wants.
      - Their values are shown in the module's invocation. Set C(no_log) on the task if one is secret.
    type: dict
    default: {}
  validate_certs:
    description:
      - Whether the server's certificate must verify.
    type: bool
    default: true
  ca_path:
    description:
      - File or directory of the certificate authorities to trust, instead of the system's.
    type: path
  client_cert:
    description:
      - Client certificate, PEM. It may hold the key too.
    type: path
  client_key:
    description:
      - Key of O(client_cert), PEM. Requires O(client_cert).
    type: path
  timeout:
    description:
      - Seconds for one exchange with the server. Loads and unloads have a limit of their own.
    type: float
    default: 10.0
requirements:
  - requests (on the target; Debian and Ubuntu have it as python3-requests)
notes:
  - Triton compares the name in a path as it was sent and does not decode C(%20). A model whose name needs such quoting cannot be reached
    over HTTP. Names that are empty, or have a slash, C(..) or control characters are refused before any request.
"""
