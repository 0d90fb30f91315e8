# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line flags of tritonserver, and what is wrong with a list of them.

Triton ends with its usage text when it meets a flag that it does not know, which under a restart policy is a crash
loop: so flags are checked before anything is written. Private to this collection.

Source: server/src/command_line_parser.cc of the Triton repository, release 26.08 (2.72.0), compared with 24.10 (2.51.0).
"""

from __future__ import annotations

import difflib
import re

# The flags that all supported releases (23.10 and newer) know.
_ALWAYS = (
    "id",
    "exit-timeout-secs",
    "log-verbose",
    "log-info",
    "log-warning",
    "log-error",
    "log-format",
    "log-file",
    "model-repository",
    "model-store",
    "exit-on-error",
    "disable-auto-complete-config",
    "strict-readiness",
    "model-control-mode",
    "repository-poll-secs",
    "load-model",
    "model-load-thread-count",
    "model-namespacing",
    "allow-http",
    "http-address",
    "http-port",
    "reuse-http-port",
    "http-header-forward-pattern",
    "http-thread-count",
    "allow-grpc",
    "grpc-address",
    "grpc-port",
    "reuse-grpc-port",
    "grpc-header-forward-pattern",
    "grpc-infer-allocation-pool-size",
    "grpc-use-ssl",
    "grpc-use-ssl-mutual",
    "grpc-server-cert",
    "grpc-server-key",
    "grpc-root-cert",
    "grpc-infer-response-compression-level",
    "grpc-keepalive-time",
    "grpc-keepalive-timeout",
    "grpc-keepalive-permit-without-calls",
    "grpc-http2-max-pings-without-data",
    "grpc-http2-min-recv-ping-interval-without-data",
    "grpc-http2-max-ping-strikes",
    "grpc-restricted-protocol",
    "allow-metrics",
    "allow-gpu-metrics",
    "allow-cpu-metrics",
    "metrics-address",
    "metrics-port",
    "metrics-interval-ms",
    "metrics-config",
    "trace-config",
    "backend-directory",
    "backend-config",
    "repoagent-directory",
    "cache-config",
    "cache-directory",
    "rate-limit",
    "rate-limit-resource",
    "pinned-memory-pool-byte-size",
    "cuda-memory-pool-byte-size",
    "min-supported-compute-capability",
    "buffer-manager-thread-count",
    "host-policy",
    "model-load-gpu-limit",
    "allow-sagemaker",
    "sagemaker-port",
    "sagemaker-safe-port-range",
    "sagemaker-thread-count",
    "allow-vertex-ai",
    "vertex-ai-port",
    "vertex-ai-thread-count",
    "vertex-ai-default-model",
    "strict-model-config",
    "response-cache-byte-size",
    "trace-file",
    "trace-level",
    "trace-rate",
    "trace-count",
    "trace-log-frequency",
)

# The release that brought a flag; empty for those that were always there.
FLAGS: dict[str, str] = {
    **dict.fromkeys(_ALWAYS, ""),
    "http-restricted-api": "23.11",
    "cuda-virtual-address-size": "23.11",
    "model-load-retry-count": "24.01",
    "grpc-max-connection-age": "24.01",
    "grpc-max-connection-age-grace": "24.01",
    "model-config-name": "24.05",
    "enable-peer-access": "24.06",
    "grpc-max-response-pool-size": "25.03",
    "grpc-infer-thread-count": "25.04",
    "http-max-input-size": "25.06",
    "allow-client-shm": "26.04",
}

# Flags that an option of the role triton_server sets, directly or through the container: given twice they would fight.
OWNED: dict[str, str] = {
    "model-repository": "model_repository_root",
    "model-store": "model_repository_root",
    "model-control-mode": "triton_server_model_control_mode",
    "repository-poll-secs": "triton_server_poll_interval",
    "load-model": "triton_models",
    "disable-auto-complete-config": "triton_server_auto_complete_config",
    "strict-model-config": "triton_server_auto_complete_config",
    "exit-on-error": "triton_server_exit_on_error",
    "strict-readiness": "triton_server_strict_readiness",
    "exit-timeout-secs": "triton_server_exit_timeout",
    "pinned-memory-pool-byte-size": "triton_server_pinned_memory_pool_bytes",
    "cuda-memory-pool-byte-size": "triton_server_cuda_memory_pool_bytes",
    "response-cache-byte-size": "triton_server_response_cache_bytes",
    "http-restricted-api": "triton_server_restricted_apis",
    "grpc-restricted-protocol": "triton_server_restricted_apis",
    "http-address": "triton_server_http_bind_address",
    "http-port": "triton_server_http_port",
    "grpc-address": "triton_server_grpc_bind_address",
    "grpc-port": "triton_server_grpc_port",
    "metrics-address": "triton_server_metrics_bind_address",
    "metrics-port": "triton_server_metrics_port",
    "backend-directory": "triton_server_extra_backends",
}

# The only flags that may stand without a value; every other one takes the next word as its value.
WITHOUT_VALUE = frozenset({"disable-auto-complete-config"})

_ARGUMENT = re.compile(r"--(?P<flag>[a-z0-9-]+)(?:=(?P<value>.*))?", re.DOTALL)
_RELEASE = re.compile(r"[0-9]{2}\.[0-9]{2}")


def argument_problems(arguments: list[str], release: str = "") -> list[str]:
    """Say what is wrong with extra arguments for tritonserver.

    :param arguments: each ``--flag=value``.
    :param release: Triton's release as ``YY.MM``, such as ``26.08``; empty when it is not known, and then flags are
        checked for their names alone.
    :returns: one sentence for each argument that Triton, or the role, would not take; empty when all is well.
    """
    problems = []
    if release and not _RELEASE.fullmatch(release):
        problems.append(f"'{release}' is not a release of Triton: wanted YY.MM, such as 26.08.")
        release = ""
    for argument in arguments:
        problem = _argument_problem(str(argument), release)
        if problem:
            problems.append(problem)
    return problems


def _argument_problem(argument: str, release: str) -> str:
    match = _ARGUMENT.fullmatch(argument)
    if not match:
        return f"'{argument}' is not an argument of tritonserver: wanted --flag=value, in one word."
    flag, value = match["flag"], match["value"]
    if flag in OWNED:
        return f"'--{flag}' cannot be given here: the option {OWNED[flag]} sets it."
    if flag not in FLAGS:
        near = difflib.get_close_matches(flag, FLAGS, n=1)
        hint = f" Did you mean '--{near[0]}'?" if near else ""
        return f"'--{flag}' is not a flag of tritonserver: it would end with its usage text.{hint}"
    if release and FLAGS[flag] > release:
        return f"'--{flag}' came with release {FLAGS[flag]}, but the server's is {release}: use a newer image, or leave it out."
    if value is None and flag not in WITHOUT_VALUE:
        return f"'--{flag}' needs a value: write --{flag}=VALUE."
    if value is not None and flag in WITHOUT_VALUE:
        return f"'--{flag}' takes no value: write --{flag}."
    return ""
