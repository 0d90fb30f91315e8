#!/usr/bin/env bash
# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Run ansible-test on a copy of the checkout: it insists on a real folder ansible_collections/gpufleet/triton, where a
# link is not enough, and in the checkout itself it would look into .build as well.
#
# usage: tools/ansible-test.sh COMMAND [ARGUMENT...]     COMMAND: sanity, integration, ...

set -euo pipefail
cd "$(dirname "$0")/.."

build=$PWD/.build/ansible-test
copy=$build/ansible_collections/gpufleet/triton
venv=$PWD/.build/venv

# One at a time: a second run would take the copy away from under the first. The lock ends with this process.
mkdir -p "$build"
exec 9>"$build/lock"
flock --nonblock 9 || { echo "ansible-test.sh: waiting for another run to end"; flock 9; }

# What git tracks or would track: a new file is tested before it is committed, a build result never is.
rm -rf "$copy"
mkdir -p "$copy" "$build/home" "$build/bin"
git ls-files --cached --others --exclude-standard -z | tar --null --files-from=- --ignore-failed-read -cf - 2>/dev/null | tar -xf - -C "$copy"
# Without a repository of its own the copy would be part of the checkout's, where .build is ignored: nothing to test.
git -C "$copy" init --quiet

# The variables of the integration targets: ansible-test hands no environment on.
echo "thorough: $([ -n "${GPUFLEET_THOROUGH:-}" ] && echo true || echo false)" >"$copy/tests/integration/integration_config.yml"

# ansible-test takes any pythonX.Y in PATH for one that runs. Here PATH begins with those that do, and has no shims.
find "$build/bin" -type l -delete
while read -r version path; do
    ln -s "$path" "$build/bin/python$version"
done < <(tools/pythons.sh)
path=$venv/bin:$build/bin
IFS=: read -ra entries <<<"$PATH"
for entry in "${entries[@]}"; do
    case $entry in
        */shims | "$venv/bin") ;;
        *) path+=:$entry ;;
    esac
done

# ansible-test fills its virtual environments with the pip that a "bootstrap script" brings, which it downloads from a
# server of its own. The same pip from the package index does as well, and answers wherever packages can be had at all.
pip_version=$("$venv/bin/python" - <<'EOF'
import re
from pathlib import Path

import ansible_test

source = Path(ansible_test.__path__[0], "_internal", "python_requirements.py").read_text()
print(re.search(r"pip='([0-9.]+)'", source).group(1))
EOF
)
bootstrap=$build/home/.ansible/test/cache/get_pip_${pip_version//./_}.py
wheel=$build/home/pip-$pip_version-py3-none-any.whl
if [ ! -e "$bootstrap" ]; then
    "$venv/bin/python" -m pip --disable-pip-version-check --quiet download --no-deps --dest "$build/home" "pip==$pip_version"
    mkdir -p "$(dirname "$bootstrap")"
    cat >"$bootstrap" <<EOF
import runpy
import sys

sys.argv[1:] = ["install"] + [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
sys.path.insert(0, "$wheel")
runpy.run_module("pip", run_name="__main__", alter_sys=True)
EOF
fi

# A home of its own keeps the environments that ansible-test makes inside the checkout, where `make clean` finds them.
# pip's settings and cache stay the user's.
export XDG_CACHE_HOME=${XDG_CACHE_HOME:-$HOME/.cache} XDG_CONFIG_HOME=${XDG_CONFIG_HOME:-$HOME/.config}
export HOME=$build/home PATH=$path
cd "$copy"
exec ansible-test "$@"
