#!/usr/bin/env python
# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab: a fleet of simulated GPU servers on one machine.

Each host is a Debian system in a container with systemd, and gets its own Docker Engine and a real Triton (the CPU
build) from the roles under test, as a real server would. Standard library only: it runs before the virtual
environment exists, and on a machine without an engine.

  lab.py engine start|stop|status     an engine that answers is used as it is; what this starts, only this stops
  lab.py programs                     install what the tests run beside Python: rclone, zstd, ...
  lab.py images                       build what is missing; images are tagged by the content of their recipe
  lab.py up LAB HOST...               containers LAB-HOST, booted, in a network of their own
  lab.py down LAB                     remove the lab's containers, volumes and network
  lab.py clean                        remove every lab of this checkout, then stop the engine if this started it
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import zipfile
from pathlib import Path
from typing import Callable

CHECKOUT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("GPUFLEET_BUILD", CHECKOUT / ".build"))
ENGINE_STATE = BUILD / "engine.json"
# Images are tagged by the content of their recipe, so every checkout of the machine can share them and their archives.
CACHE = Path(os.environ.get("GPUFLEET_CACHE", "/var/cache/gpufleet-lab"))

SUITE = "trixie"  # Debian 13: the first release with the Compose v2 plugin in its archive
PYTRITON = "nvidia-pytriton==0.7.0"  # Apache-2.0; holds a real tritonserver 2.51.0 (24.10), CPU and python backend
TRITON_VERSION = "2.51.0"

HOST_PACKAGES = "systemd systemd-sysv dbus python3 python3-apt ca-certificates iproute2 iptables procps kmod curl openssh-server sudo"
# Downloaded, not installed: the roles (and one test) install them, and a lab that is made ten times asks the mirror once.
HOST_CACHED_PACKAGES = "docker.io docker-cli docker-compose docker-registry python3-requests python3-docker nftables dkms gcc make"
# Programs that the tests run for real on the controller, and the Debian package of each.
TEST_PROGRAMS = {"rclone": "rclone", "zstd": "zstd", "openssl": "openssl", "ssh": "openssh-client", "nft": "nftables", "ip": "iproute2"}
# Debian 12 for Triton: its Python backend reads the outputs of a model as NumPy 1 lays them out, and with the NumPy 2 of
# Debian 13 every output is empty.
TRITON_SUITE = "bookworm"
TRITON_PYTHON = "3.11"
TRITON_PACKAGES = f"python3 libpython{TRITON_PYTHON} python3-numpy curl ca-certificates"

# What a host container may do. --privileged would ask for CAP_SYS_RESOURCE, which the machine itself may lack.
HOST_CAPABILITIES = "SYS_ADMIN NET_ADMIN NET_RAW SYS_PTRACE MKNOD SYS_CHROOT SETFCAP AUDIT_WRITE SYS_NICE IPC_LOCK SYS_MODULE SYSLOG"


class LabError(Exception):
    """Something the lab needs is not there; the text says what, why and what to do."""


def say(text: str) -> None:
    print(f"[lab] {text}", flush=True)


def run(*argv: str, **kwargs: object) -> str:
    """Run a command to its end and return its standard output; raise LabError with its standard error."""
    try:
        done = subprocess.run(argv, check=True, text=True, capture_output=True, **kwargs)
    except FileNotFoundError as exc:
        raise LabError(f"cannot run {argv[0]}: it is not installed") from exc
    except subprocess.CalledProcessError as exc:
        raise LabError(f"'{' '.join(argv)}' ended with {exc.returncode}: {exc.stderr.strip()}") from exc
    return done.stdout.strip()


def ask(*argv: str) -> str | None:
    """The output of a command that may fail; None when it did, or is not installed."""
    try:
        done = subprocess.run(argv, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def need(packages: dict[str, str]) -> None:
    """Install the Debian packages of what is not there: {program on the PATH, or absolute path of a file: package}."""
    missing = sorted({package for thing, package in packages.items() if not (shutil.which(thing) or Path(thing).is_file())})
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise LabError(f"cannot install {', '.join(missing)}: not root, or not a Debian system. Install them, then run this again.")
    say(f"installing {' '.join(missing)}")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", "-qq", env=env)
    run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing, env=env)


# ---------------------------------------------------------------------------------------------------------- engine


def engine_answers() -> bool:
    return ask("docker", "info") is not None


def wait_for(what: str, condition: Callable[[], bool], seconds: float, cause: Callable[[], str] = lambda: "") -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise LabError(f"{what} did not happen within {seconds:.0f} s. {cause()}")
        time.sleep(0.25)


def default_mtu() -> int:
    """The MTU of the interface with the default route: a bridge with a larger one loses the large packets."""
    for route in json.loads(run("ip", "-json", "route", "show", "default") or "[]"):
        return int(Path(f"/sys/class/net/{route['dev']}/mtu").read_text(encoding="ascii"))
    return 1500


def engine_start() -> None:
    if engine_answers():
        return
    need({"docker": "docker.io", "dockerd": "docker.io", "iptables": "iptables", "ip": "iproute2", "unshare": "util-linux"})
    if Path("/run/systemd/system").is_dir():
        say("starting the Docker Engine (systemctl start docker)")
        run("systemctl", "start", "docker")
        wait_for("The start of the Docker Engine", engine_answers, 60)
        return
    BUILD.mkdir(parents=True, exist_ok=True)
    log = BUILD / "dockerd.log"
    command = f"exec dockerd --mtu {default_mtu()}"
    if run("stat", "-fc", "%T", "/sys/fs/cgroup") != "cgroup2fs":
        # systemd in a container needs cgroup v2; the rest of the machine keeps what it has.
        command = f"umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && {command}"
    say(f"starting a Docker Engine (log: {log})")
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "bash", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def last_lines() -> str:
        return "The engine's last lines: " + " | ".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])

    ENGINE_STATE.write_text(json.dumps({"pid": process.pid, "started": process_start(process.pid)}), encoding="ascii")
    wait_for("The start of the Docker Engine", lambda: engine_answers() or process.poll() is not None, 60, last_lines)
    if process.poll() is not None:
        ENGINE_STATE.unlink()
        raise LabError(f"cannot start a Docker Engine: dockerd ended with {process.returncode}. {last_lines()}")


def process_start(pid: int) -> str | None:
    """The start time of a process in clock ticks after boot: with the pid it names one process for good."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19]
    except OSError:
        return None


def engine_stop() -> None:
    """Stop the engine that this checkout started; any other is left alone."""
    if not ENGINE_STATE.is_file():
        return
    state = json.loads(ENGINE_STATE.read_text(encoding="ascii"))
    pid = state["pid"]
    if process_start(pid) == state["started"]:
        say("stopping the Docker Engine")
        os.kill(pid, signal.SIGTERM)
        wait_for("The stop of the Docker Engine", lambda: process_start(pid) != state["started"], 60)
    ENGINE_STATE.unlink()


# ---------------------------------------------------------------------------------------------------------- images


def recipe_tag(*ingredients: str) -> str:
    return hashlib.sha256("\0".join(ingredients).encode()).hexdigest()[:12]


def image_exists(name: str) -> bool:
    return ask("docker", "image", "inspect", name) is not None


HOST_HOOK = f"""\
set -eu
root="$1"
chroot "$root" apt-get update -qq
chroot "$root" apt-get install -y -qq --download-only --no-install-recommends {HOST_CACHED_PACKAGES} >/dev/null
# dpkg of a host that was made ten times must not start services while it installs, but a lab host should, as a server does
rm -f "$root/usr/sbin/policy-rc.d" "$root/etc/ssh/"ssh_host_*_key*
chroot "$root" systemctl mask -q systemd-modules-load.service systemd-udevd.service systemd-udev-trigger.service systemd-timesyncd.service
chroot "$root" systemctl disable -q ssh.service ssh.socket
echo 'Binary::apt::APT::Keep-Downloaded-Packages "true";' > "$root/etc/apt/apt.conf.d/01lab-keep-packages"
"""

TRITON_HOOK = """\
set -eu
root="$1" wheel="$2" python="$3"
triton="$root/opt/tritonserver"
mkdir -p "$triton"
cp -a "$wheel/pytriton/tritonserver/bin" "$wheel/pytriton/tritonserver/backends" "$wheel/pytriton/tritonserver/caches" "$triton/"
mkdir -p "$triton/lib"
cp -a "$wheel"/nvidia_pytriton.libs/. "$triton/lib/"
[ ! -d "$wheel/pytriton/tritonserver/external_libs" ] || cp -a "$wheel/pytriton/tritonserver/external_libs/." "$triton/lib/"
find "$wheel/pytriton" -path "*python_backend_stubs/$python/triton_python_backend_stub" -exec cp -a {} "$triton/backends/python/" ';'
chmod 0755 "$triton/bin/tritonserver" "$triton/backends/python/triton_python_backend_stub"
rm -f "$triton/lib/"libpython3*  # of another Python, for a stub that is not here
chroot "$root" groupadd -g 1000 triton-server
chroot "$root" useradd -u 1000 -g 1000 -m triton-server
rm -rf "$root/var/lib/apt/lists/"*
"""


def debootstrap(tar: Path, suite: str, packages: str, hook: str, *hook_args: str) -> None:
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    need({"mmdebstrap": "mmdebstrap", keyring: "debian-archive-keyring"})
    with tempfile.NamedTemporaryFile("w", suffix=".sh", delete=False) as script:
        script.write(hook)
    try:
        run(
            "mmdebstrap",
            "--variant=minbase",
            "--mode=root",
            f"--include={','.join(packages.split())}",
            f"--keyring={keyring}",
            "--aptopt=Apt::Install-Recommends false",
            "--skip=cleanup/apt",
            f'--customize-hook=sh {script.name} "$1" {" ".join(hook_args)}',
            suite,
            str(tar),
        )
    finally:
        os.unlink(script.name)


def host_image() -> str:
    return f"gpufleet-lab/host:{recipe_tag(SUITE, HOST_PACKAGES, HOST_CACHED_PACKAGES, HOST_HOOK)}"


def triton_image() -> str:
    return f"gpufleet-lab/triton:{TRITON_VERSION}-{recipe_tag(TRITON_SUITE, PYTRITON, TRITON_PACKAGES, TRITON_HOOK)}"


def build_host_image(name: str, work: Path) -> None:
    tar = work / "host.tar"
    debootstrap(tar, SUITE, HOST_PACKAGES, HOST_HOOK)
    run("docker", "import", "--change", 'CMD ["/sbin/init"]', "--change", "ENV container=docker", str(tar), name)
    tar.unlink()


def build_triton_image(name: str, work: Path) -> None:
    say(f"fetching {PYTRITON}, which holds Triton {TRITON_VERSION}")
    # Any pip will do: the wheel is unpacked, not installed, so it needs to fit the image's Python, not this one's.
    run(
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--only-binary=:all:",
        "--python-version=3.12",
        "-d",
        str(work),
        PYTRITON,
    )
    wheel = next(work.glob("nvidia_pytriton-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(work / "wheel")
    tar = work / "triton.tar"
    debootstrap(tar, TRITON_SUITE, TRITON_PACKAGES, TRITON_HOOK, str(work / "wheel"), TRITON_PYTHON)
    changes = {
        "ENV": "LD_LIBRARY_PATH=/opt/tritonserver/lib PATH=/opt/tritonserver/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "WORKDIR": "/opt/tritonserver",
        "LABEL": f"com.nvidia.tritonserver.version={TRITON_VERSION}",
    }
    run("docker", "import", *(part for key, value in changes.items() for part in ("--change", f"{key} {value}")), str(tar), name)
    tar.unlink()


def triton_archive() -> Path:
    return CACHE / f"{triton_image().replace('/', '_').replace(':', '_')}.tar"


def images() -> None:
    """Build the lab's images where missing, and save Triton's as the archive that the lab's hosts load."""
    CACHE.mkdir(parents=True, exist_ok=True)
    for name, builder in ((host_image(), build_host_image), (triton_image(), build_triton_image)):
        if not image_exists(name):
            say(f"building {name} (half a minute or two)")
            begin = time.monotonic()
            with tempfile.TemporaryDirectory(prefix="gpufleet-image-") as work:
                os.chmod(work, 0o755)
                builder(name, Path(work))
            say(f"built {name} in {time.monotonic() - begin:.0f} s")
        run("docker", "tag", name, name.rpartition("-")[0] if name.startswith("gpufleet-lab/triton:") else f"gpufleet-lab/host:{SUITE}")
    archive = triton_archive()
    if not archive.is_file():
        partial = archive.with_suffix(".partial")
        run("docker", "save", "-o", str(partial), f"gpufleet-lab/triton:{TRITON_VERSION}")
        partial.rename(archive)


# ----------------------------------------------------------------------------------------------------------- hosts


def up(lab: str, hosts: list[str], volumes: list[str]) -> None:
    engine_start()
    images()
    if ask("docker", "network", "inspect", lab) is None:
        run("docker", "network", "create", "--label", f"gpufleet.lab={lab}", "--label", f"gpufleet.checkout={CHECKOUT}", lab)
    for host in hosts:
        container = f"{lab}-{host}"
        owner = ask("docker", "inspect", "-f", '{{index .Config.Labels "gpufleet.checkout"}}', container)
        if owner not in (None, str(CHECKOUT)):
            raise LabError(f"{container} belongs to the checkout {owner or 'of somebody else'}: set GPUFLEET_LAB to another name")
        running = ask("docker", "inspect", "-f", "{{.State.Running}}", container)
        if running == "false":
            run("docker", "start", container)
        if running is not None:
            continue
        say(f"starting {container}")
        run(
            "docker", "run", "-d", "--name", container, "--hostname", host, "--network", lab, "--network-alias", host,
            "--stop-signal", "SIGRTMIN+3",
            "--label", f"gpufleet.lab={lab}", "--label", f"gpufleet.checkout={CHECKOUT}",
            *(f"--cap-add={capability}" for capability in HOST_CAPABILITIES.split()),
            "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined", "--security-opt", "systempaths=unconfined",
            "--device-cgroup-rule", "a *:* rwm", "--cgroupns", "private",
            "--tmpfs", "/run:exec,mode=755", "--tmpfs", "/tmp:exec,mode=1777",
            "--volume", "/var/lib/docker", "--volume", f"{triton_archive()}:/srv/images/triton.tar:ro",
            *(f"--volume={volume}" for volume in volumes),
            host_image(), "sh", "-c", "mount -o remount,rw /sys/fs/cgroup && exec /sbin/init",
        )  # fmt: skip
    for host in hosts:
        wait_boot(f"{lab}-{host}")


def wait_boot(container: str) -> None:
    # Until it is up, systemctl ends with an error; "degraded" is up with a failed unit, and is an error too.
    answer = "case $(systemctl is-system-running) in running|degraded) ;; *) exit 1 ;; esac"

    def cause() -> str:
        state = ask("docker", "inspect", "-f", "{{json .State}}", container)
        jobs = ask("docker", "exec", container, "sh", "-c", "systemctl is-system-running; systemctl list-jobs; systemctl --failed")
        return f"The container's state: {state}. Its systemd: {jobs}. Its log: {ask('docker', 'logs', '--tail', '20', container)}"

    wait_for(f"The boot of {container}", lambda: ask("docker", "exec", container, "sh", "-c", answer) is not None, 180, cause)


def down(lab: str) -> None:
    if not engine_answers():
        return
    labels = ("--filter", f"label=gpufleet.lab={lab}", "--filter", f"label=gpufleet.checkout={CHECKOUT}")
    containers = run("docker", "ps", "-aq", "--no-trunc", *labels).split()
    for container in containers:
        run("docker", "rm", "-fv", container)
    say(f"removed {len(containers)} hosts of {lab}")
    for network in run("docker", "network", "ls", "-q", "--no-trunc", *labels).split():
        run("docker", "network", "rm", network)


def clean() -> None:
    if engine_answers():
        mine = ("--filter", f"label=gpufleet.checkout={CHECKOUT}")
        for lab in sorted(set(run("docker", "network", "ls", *mine, "--format", '{{.Label "gpufleet.lab"}}').split())):
            say(f"removing the lab {lab}")
            down(lab)
    engine_stop()


def main() -> int:
    parser = argparse.ArgumentParser(description=textwrap.dedent(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("engine").add_argument("action", choices=["start", "stop", "status"])
    commands.add_parser("programs")
    commands.add_parser("images")
    commands.add_parser("clean")
    for name in ("up", "down"):
        command = commands.add_parser(name)
        command.add_argument("lab", help="the lab's name: the prefix of its containers")
        if name == "up":
            command.add_argument("hosts", nargs="+")
            command.add_argument("--volume", action="append", default=[], dest="volumes", help="SOURCE:TARGET[:ro], for every host")
    args = parser.parse_args()
    try:
        if args.command == "engine":
            if args.action == "status":
                return 0 if engine_answers() else 1
            {"start": engine_start, "stop": engine_stop}[args.action]()
        elif args.command == "programs":
            need(TEST_PROGRAMS)
        elif args.command == "images":
            engine_start()
            images()
        elif args.command == "up":
            up(args.lab, args.hosts, args.volumes)
        elif args.command == "down":
            down(args.lab)
        else:
            clean()
    except LabError as exc:
        print(f"[lab] {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
