#!/usr/bin/env bash
# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# List the Pythons of this machine that really run, newest first, one "<version> <path>" per minor version.
# A name in PATH proves nothing: pyenv puts shims there that fail unless the version is activated.
#
# usage: tools/pythons.sh [OLDEST]     (default 3.9, the oldest that the modules run on)

set -euo pipefail

newest=3.14
oldest=${1:-3.9}

# Print "<version> <path>", the path as the interpreter itself knows it: a shim that works leads to the real one.
ask() {
    "$1" -c 'import ctypes, ssl, venv, zlib, sys; print("%d.%d" % sys.version_info[:2], sys.executable)' 2>/dev/null || true
}

for minor in $(seq "${newest#3.}" -1 "${oldest#3.}"); do
    version=3.$minor
    # The system's own interpreter comes last: it is often without the venv module.
    mapfile -t candidates < <(
        type -ap "python$version" || true
        compgen -G "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version.*/bin/python$version" | sort -rV || true
        type -ap python3 || true
    )
    for candidate in "${candidates[@]}"; do
        # A virtual environment that is active must not become the parent of another one.
        case $candidate in */.build/*) continue ;; esac
        answer=$(ask "$candidate")
        if [ "${answer%% *}" = "$version" ]; then
            echo "$answer"
            break
        fi
    done
done
