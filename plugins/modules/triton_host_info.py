#!/usr/bin/python
# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_host_info
short_description: Tell everything that a Triton host's preflight needs, in one call
version_added: 0.1.0
author:
  - The gpufleet.triton authors (@gpufleet)
description:
  - Tells about the Docker Engine, the Python libraries, systemd units, ports, folders, a container, an image and the
    GPUs of a host.
  - It needs nothing but Python on the host and does not fail where something is missing. What is missing is what it
    tells.
  - It changes nothing. A stopped Docker Engine that systemd would start on the first connection is told from systemd's
    answer and is not connected to.
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode) and return the changed status prediction without modifying the target.
    details:
      - This module never changes anything.
  diff_mode:
    support: N/A
    description: Returns details on what has changed, or what would change in C(check_mode), when in diff mode.
    details:
      - This module never changes anything.
  idempotent:
    support: full
    description: When run twice in a row outside check mode with the same options, the second call changes nothing.
  platform:
    support: full
    platforms: posix
    description: The operating systems that the module works on.
options:
  paths:
    description:
      - Paths to look at. Each is a text, or a dictionary with C(path), C(depth) and C(content).
      - C(depth) is V(1) or V(2). It says how far down RV(paths[].entries) goes. The default is V(1).
      - C(content) says whether RV(paths[].content) is wanted. The default is V(false).
    type: list
    elements: raw
    default: []
  uid:
    description: Numeric id of the user that must be able to read the paths, with no supplementary groups.
    type: int
    default: 1000
  gid:
    description: Numeric id of that user's group.
    type: int
    default: 1000
  ports:
    description: TCP ports to look at.
    type: list
    elements: dict
    default: []
    suboptions:
      address:
        description: The address that something is going to be bound to.
        type: str
        default: 127.0.0.1
      port:
        description: The port.
        type: int
        required: true
  container:
    description: Name of a container to look at. A port that this container holds is told apart from one that something
      else holds.
    type: str
  units:
    description: Names of systemd units to look at. A name without a suffix is a service.
    type: list
    elements: str
    default: []
  image:
    description: Name of a container image to look for.
    type: str
  docker_socket:
    description: The socket of the host's Docker Engine.
    type: path
    default: /var/run/docker.sock
seealso:
  - module: gpufleet.triton.host_files
"""

EXAMPLES = r"""
- name: Look at the host
  gpufleet.triton.triton_host_info:
    paths:
      - /fileServerMountPath
      - path: /fileServerMountPath/data/models
        depth: 2
    ports:
      - address: 127.0.0.1
        port: 8000
    container: triton
    units: [docker.service, triton.service]
    image: registry.example.com/tritonserver:26.08-py3
  register: host

- name: Stop when somebody else has the port
  ansible.builtin.assert:
    that: host.ports[0].free or host.ports[0].held_by == 'container'
    fail_msg: "Port 8000 is held by {{ host.ports[0].process }}"
"""

RETURN = r"""
docker:
  description: The Docker Engine of the host.
  returned: success
  type: dict
  contains:
    installed:
      description: Whether the C(docker) command is there.
      returned: always
      type: bool
      sample: true
    client_version:
      description: Version of the C(docker) command, or null.
      returned: always
      type: str
      sample: 26.1.5
    running:
      description: Whether the engine answers on its socket within 10 seconds.
      returned: always
      type: bool
      sample: true
    server_version:
      description: Version of the engine, or null.
      returned: always
      type: str
      sample: 26.1.5+dfsg1
    error:
      description: Why the engine does not run, or null.
      returned: always
      type: str
      sample: "Cannot connect to the Docker Engine at /var/run/docker.sock: No such file or directory"
    compose_version:
      description: Version of the Compose plugin (C(docker compose)), or null.
      returned: always
      type: str
      sample: 2.26.1
    compose_legacy:
      description: Whether C(docker-compose) is there and is Compose 1.x.
      returned: always
      type: bool
      sample: false
    root_dir:
      description: Where the engine keeps images and containers, or null.
      returned: always
      type: str
      sample: /var/lib/docker
    architecture:
      description: The machine as the engine names it, or null.
      returned: always
      type: str
      sample: x86_64
    runtimes:
      description: Names of the engine's container runtimes.
      returned: always
      type: list
      elements: str
      sample: [io.containerd.runc.v2, runc]
    cdi:
      description: Whether the engine gives devices to containers by CDI.
      returned: always
      type: bool
      sample: false
python:
  description: The Python that runs modules on the host, and the libraries that it can import.
  returned: success
  type: dict
  contains:
    version:
      description: Version of the interpreter.
      returned: always
      type: str
      sample: 3.13.5
    requests:
      description: Version of the library C(requests), or null. It is C(unknown) where the library does not say.
      returned: always
      type: str
      sample: 2.32.3
    docker:
      description: Version of the library C(docker), or null. It is C(unknown) where the library does not say.
      returned: always
      type: str
      sample: 7.1.0
systemd:
  description: Whether systemd runs the host.
  returned: success
  type: bool
  sample: true
units:
  description: For each name of O(units) the state of the unit. Empty where systemd does not run the host.
  returned: success
  type: dict
  sample:
    docker.service:
      load_state: loaded
      active_state: active
      sub_state: running
      enabled: true
      unit_file_state: enabled
ports:
  description: One row for each entry of O(ports), in the same order.
  returned: success
  type: list
  elements: dict
  contains:
    address:
      description: The address.
      returned: always
      type: str
      sample: 127.0.0.1
    port:
      description: The port.
      returned: always
      type: int
      sample: 8000
    free:
      description: Whether the port can be bound now.
      returned: always
      type: bool
      sample: false
    reason:
      description:
        - Why it is not free, or null.
        - One of C(in_use), C(no_such_address) (the host does not have the address), C(invalid_address),
          C(invalid_port).
      returned: always
      type: str
      sample: in_use
    held_by:
      description:
        - C(container) when the container named by O(container) holds the port, C(process) when anything else does,
          null when it is free.
      returned: always
      type: str
      sample: process
    pid:
      description: Process that listens on the port, or null when it can not be told.
      returned: always
      type: int
      sample: 4711
    process:
      description: Name of that process, or null.
      returned: always
      type: str
      sample: nginx
    container:
      description: Name of the container that publishes the port, also of another one than O(container), or null.
      returned: always
      type: str
      sample: other-triton
paths:
  description: One row for each entry of O(paths), in the same order.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: The path.
      returned: always
      type: str
      sample: /fileServerMountPath
    exists:
      description: Whether it is there. A symbolic link that points nowhere is not.
      returned: always
      type: bool
      sample: true
    type:
      description: One of C(file), C(directory), C(link) (one that points nowhere), C(other), or null.
      returned: always
      type: str
      sample: directory
    is_dir:
      description: Whether it is a directory.
      returned: always
      type: bool
      sample: true
    is_mount:
      description: Whether the path itself is a mount point.
      returned: always
      type: bool
      sample: true
    mount_point:
      description: Where the file system is mounted that holds the path, or its nearest existing parent.
      returned: always
      type: str
      sample: /fileServerMountPath
    fs_type:
      description: Type of that file system.
      returned: always
      type: str
      sample: ext4
    free_bytes:
      description: Bytes that users can still write there.
      returned: always
      type: int
      sample: 21474836480
    total_bytes:
      description: Size of that file system.
      returned: always
      type: int
      sample: 42949672960
    read_only:
      description: Whether that file system is mounted read-only.
      returned: always
      type: bool
      sample: false
    mode:
      description: Permissions as four octal digits, or null.
      returned: always
      type: str
      sample: "0755"
    uid:
      description: Numeric id of the owner, or null.
      returned: always
      type: int
      sample: 0
    gid:
      description: Numeric id of the group, or null.
      returned: always
      type: int
      sample: 0
    modified:
      description: When the content was last changed, in UTC, or null. Sorts as text, also against a container's C(started_at).
      returned: always
      type: str
      sample: "2026-01-31T12:00:00.123456Z"
    content:
      description:
        - The text of a file of 4 MiB at most, where O(paths) asks for it. Null where it does not, and for a file that is larger or is not
          UTF-8.
      returned: always
      type: str
      sample: null
    readable:
      description:
        - Whether the user of O(uid) and O(gid) can list the directory and read everything directly in it, tried as
          that user.
        - Null when the path is not there, or when the module runs neither as root nor as that user.
      returned: always
      type: bool
      sample: true
    unreadable:
      description: Names of what that user can not read, at most 20.
      returned: always
      type: list
      elements: str
      sample: []
    writable_by_user:
      description: Whether that user can write there. Null like RV(paths[].readable).
      returned: always
      type: bool
      sample: false
    entries:
      description:
        - What a directory holds, sorted by name, at most 1000 rows for each directory. Each row has C(name), C(type)
          (C(file), C(directory), C(link), C(other)) and, at depth 2, C(entries).
      returned: always
      type: list
      elements: dict
      sample: [{name: add_sub, type: directory}]
    entries_truncated:
      description: Whether there are more entries than that.
      returned: always
      type: bool
      sample: false
    error:
      description: Why the path could not be looked at, for example a network mount that does not answer within 10
        seconds, or null.
      returned: always
      type: str
      sample: null
container:
  description: The container named by O(container). Null when none is named, it is not there, or the engine does not run.
  returned: success
  type: dict
  contains:
    exists:
      description: Always true.
      returned: always
      type: bool
      sample: true
    id:
      description: Its id.
      returned: always
      type: str
      sample: 4f66ad9a0b2e
    image:
      description: The image as it was named when the container was made.
      returned: always
      type: str
      sample: registry.example.com/tritonserver:26.08-py3
    image_id:
      description: Id of the image that it was made from.
      returned: always
      type: str
      sample: sha256:0123
    labels:
      description: Its labels.
      returned: always
      type: dict
      sample: {com.docker.compose.project: triton}
    status:
      description: For example C(running), C(exited), C(restarting).
      returned: always
      type: str
      sample: running
    running:
      description: Whether it runs.
      returned: always
      type: bool
      sample: true
    pid:
      description: Its first process, or null.
      returned: always
      type: int
      sample: 4711
    started_at:
      description: When it was last started.
      returned: always
      type: str
      sample: "2026-01-31T12:00:00.123456789Z"
    exit_code:
      description: Status of its last end.
      returned: always
      type: int
      sample: 0
    oom_killed:
      description: Whether the kernel killed it for memory.
      returned: always
      type: bool
      sample: false
    error:
      description: Why the engine could not start it, or null.
      returned: always
      type: str
      sample: null
    health:
      description: State of its health check, or null.
      returned: always
      type: str
      sample: healthy
    restart_count:
      description: How often the engine restarted it.
      returned: always
      type: int
      sample: 0
    network_mode:
      description: The network that it is in.
      returned: always
      type: str
      sample: triton_default
    ports:
      description: Its published ports, each with C(container_port), C(address) and C(port).
      returned: always
      type: list
      elements: dict
      sample: [{container_port: 8000/tcp, address: 127.0.0.1, port: 8000}]
    command:
      description: The arguments that it was made with.
      returned: always
      type: list
      elements: str
      sample: [/etc/gpufleet/start, --model-control-mode=explicit]
    backends:
      description: The backends in its C(/opt/tritonserver/backends), null if it does not run or has no such folder.
      returned: always
      type: list
      elements: str
      sample: [onnxruntime, python]
image:
  description: The image named by O(image). Null when none is named.
  returned: success
  type: dict
  contains:
    present:
      description: Whether the engine has it.
      returned: always
      type: bool
      sample: true
    id:
      description: Its id, or null.
      returned: always
      type: str
      sample: sha256:0123
    size:
      description: Its size in bytes, or null.
      returned: always
      type: int
      sample: 388000000
    created:
      description: When it was made, or null.
      returned: always
      type: str
      sample: "2026-01-31T12:00:00Z"
    error:
      description: Why it can not be looked for, for example because the engine does not run, or null.
      returned: always
      type: str
      sample: null
gpus:
  description: NVIDIA GPUs on the PCI bus, whether a driver is there or not.
  returned: success
  type: dict
  contains:
    count:
      description: How many.
      returned: always
      type: int
      sample: 1
    devices:
      description: Each with C(pci), C(vendor_id) and C(device_id).
      returned: always
      type: list
      elements: dict
      sample: [{pci: "0000:65:00.0", vendor_id: "0x10de", device_id: "0x2330"}]
hostname:
  description: Name of the host.
  returned: success
  type: str
  sample: gpu1
kernel:
  description: Release of the kernel.
  returned: success
  type: str
  sample: 6.12.94+deb13-amd64
memory_bytes:
  description: Memory of the machine.
  returned: success
  type: int
  sample: 67108864000
cpus:
  description: Processors of the machine.
  returned: success
  type: int
  sample: 32
"""

import typing as t
from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.gpufleet.triton.plugins.module_utils import _host, _proc


def read_path(module: AnsibleModule, entry: t.Any) -> _host.PathQuery:
    """A path and what to tell of it, from either form of the option."""
    given = entry if isinstance(entry, dict) else {"path": entry}
    path, depth = given.get("path"), given.get("depth", 1)
    try:
        content = boolean(given.get("content", False))
    except TypeError:
        content = None
    odd = set(given) - {"path", "depth", "content"}
    if not isinstance(path, str) or not path.startswith("/") or str(depth) not in ("1", "2") or content is None or odd:
        module.fail_json(
            msg=f"Cannot look at {entry!r}: wanted an absolute path, or a dictionary with 'path', a 'depth' of 1 or 2 and a truth value"
            " as 'content'."
        )
    return _host.PathQuery(path, int(depth), bool(content))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "paths": {"type": "list", "elements": "raw", "default": []},
            "uid": {"type": "int", "default": 1000},
            "gid": {"type": "int", "default": 1000},
            "ports": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "address": {"type": "str", "default": "127.0.0.1"},
                    "port": {"type": "int", "required": True},
                },
            },
            "container": {"type": "str"},
            "units": {"type": "list", "elements": "str", "default": []},
            "image": {"type": "str"},
            "docker_socket": {"type": "path", "default": _host.DOCKER_SOCKET},
        },
        supports_check_mode=True,
    )
    params = module.params
    facts = _host.collect(
        partial(_proc.run, module.run_command),
        paths=[read_path(module, entry) for entry in params["paths"]],
        uid=params["uid"],
        gid=params["gid"],
        ports=params["ports"],
        container=params["container"],
        units=params["units"],
        image=params["image"],
        docker_socket=params["docker_socket"],
    )
    module.exit_json(changed=False, **facts)


if __name__ == "__main__":
    main()
