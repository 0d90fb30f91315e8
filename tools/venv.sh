#!/usr/bin/env bash
# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Make the controller's virtual environment from requirements/dev.txt, or leave it as it is when nothing changed.
#
# usage: tools/venv.sh     PYTHON=/path/to/python tools/venv.sh takes that interpreter

set -euo pipefail
cd "$(dirname "$0")/.."

venv=.build/venv
requirements=requirements/dev.txt
stamp=$venv/.gpufleet-stamp

say() { echo "venv: $*"; }

fail() {
    say "$*" >&2
    exit 1
}

# What an environment depends on. An interpreter that was upgraded in place gets a new environment, too.
key_of() {
    "$1" -c 'import sys; print(sys.executable, sys.version)' || return 1
    sha256sum <"$requirements"
}

if [ -z "${PYTHON:-}" ] && [ -f "$stamp" ]; then
    PYTHON=$(head -n 1 "$stamp")
    if key=$(key_of "$PYTHON" 2>/dev/null) && [ "$(tail -n +2 "$stamp")" = "$key" ]; then
        exit 0
    fi
    PYTHON=
fi

if [ -z "${PYTHON:-}" ]; then
    PYTHON=$(tools/pythons.sh 3.11 | awk 'NR == 1 { print $2 }')
    [ -n "$PYTHON" ] || fail "Cannot find Python: wanted 3.11 or newer with the ssl and venv modules," \
        "found none in PATH or under ~/.pyenv/versions. Install one, or name one with PYTHON=/path/to/python."
fi

if ! "$PYTHON" -c 'import ensurepip' 2>/dev/null; then
    version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        fail "Cannot make a virtual environment: $PYTHON has no ensurepip. Install python$version-venv, as root."
    fi
    say "installing python$version-venv: $PYTHON has no ensurepip"
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "python$version-venv" >/dev/null
fi

key=$(key_of "$PYTHON")
started=$SECONDS

if [ "$("$venv/bin/python" -c 'import sys; print(sys.version)' 2>/dev/null)" != "$("$PYTHON" -c 'import sys; print(sys.version)')" ]; then
    say "making $venv with $("$PYTHON" --version) ($PYTHON)"
    rm -rf "$venv"
    "$PYTHON" -m venv "$venv"
fi

say "installing $(grep -c '==' "$requirements") pinned packages from $requirements (minutes with an empty cache)"
# The file names every package with its version, so nothing is left to resolve. Compiling the tens of thousands of
# files of the package "ansible" would take longer than everything else: Python compiles what it imports.
log=.build/venv.log
if ! "$venv/bin/python" -m pip install --disable-pip-version-check --progress-bar off --no-compile --no-deps --requirement "$requirements" 2>&1 |
    tee "$log" | { grep --line-buffered -oE '^( *Downloading .* MB\)|Building wheel .*|Installing collected packages)' || true; }; then
    cat "$log" >&2
    fail "Cannot install $requirements: pip's last lines above say why."
fi
"$venv/bin/python" -m pip --disable-pip-version-check check
printf '%s\n%s\n' "$PYTHON" "$key" >"$stamp"
say "ready after $((SECONDS - started)) s: ansible-core $("$venv/bin/python" -c 'import ansible; print(ansible.__version__)')"
