#!/usr/bin/python
# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_repository
short_description: Publish, verify, roll back and remove models of a Triton model repository
version_added: 0.2.0
author:
  - The gpufleet.triton authors (@gpufleet)
description:
  - Publishes models into the folder that Triton serves from, so that a server never reads a half-written model. New content is staged on
    the same file system, made durable, and swapped in by one exchange. What was there before is kept as a release.
  - Only what changed travels. The host is told what a model consists of, answers what it lacks, and clones the rest from what it has.
    Where nothing changed, no file is read, on the controller or on the host.
  - Each published model carries a manifest with the checksums of its files, and its digest in the parameter C(gpufleet.digest) of its
    C(config.pbtxt). Triton gives that back for what it has loaded, so M(gpufleet.triton.triton_model) and
    M(gpufleet.triton.triton_health) can tell whether it is served.
  - All models are checked before any is touched. Folders that Triton would take for a version, a python model without C(model.py), links
    that lead out of the model, pipes and devices, pointers of Git LFS, a configuration that Triton's schema does not know, and a file
    system without room are refused.
  - An interrupted run leaves the old model. The next one cleans up and goes on with what has arrived.
  - It does not load anything. A server in poll mode finds the change itself, in explicit mode use M(gpufleet.triton.triton_model).
  - Works over every connection, and with a login that becomes root.
extends_documentation_fragment:
  - gpufleet.triton.attributes
attributes:
  check_mode:
    support: full
    details:
      - Content that only the host reaches, and that is not what was published, is not fetched. So such a model is predicted to be
        published without its digest.
      - With O(state=verified) everything is verified, as nothing is changed by that.
  diff_mode:
    support: full
    details:
      - Shows which files are added, changed and removed, and the difference of the configurations.
  idempotent:
    support: partial
    details:
      - O(state=rolled_back) without O(digest) goes from one release to the other each time.
options:
  root:
    description:
      - The folder that holds the repository, as O(ignore:model_repository_root) of the role P(gpufleet.triton.model_repository#role).
      - Models are published to C(data/models) in it. C(data/.gpufleet) has the staging folder and the releases.
    type: path
    required: true
  _request:
    description:
      - What the action plugin asks of the host. It is not for use in a playbook.
    type: dict
  name:
    description:
      - Name of one model.
      - Exactly one of O(name) and O(models) must be given.
    type: str
  models:
    description:
      - Models to work on, in one run however many they are.
      - All are checked first, and one that cannot be published stops all before any is touched. One that fails after that does not stop the
        others. The module fails at its end, and names each model that failed.
      - With an empty list nothing is changed, and RV(on_disk) tells what is there. With O(state=verified) all models of the repository
        are verified then.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - Name of the model, which is the name of its folder in the repository.
        type: str
        required: true
      state:
        description:
          - What is wanted of this model, if not the same as O(state).
        type: str
        choices: [present, absent, verified, rolled_back]
      src: &src
        description:
          - Where the content comes from.
          - A path is a folder of the controller. A relative one is looked for as Ansible looks for files, and beside the playbook and the
            inventory.
          - An https URL is an archive, C(tar), C(tar.gz), C(tar.bz2), C(tar.xz), C(tar.zst) or C(zip), told by its content. It needs
            a checksum.
          - V(host:/path) is a folder of the host.
          - V(rclone:remote:path) is what C(rclone) reaches.
        type: str
      remote_src: &remote_src
        description:
          - Whether the path is one of the host.
        type: bool
      checksum: &checksum
        description:
          - The sha256 checksum of the archive, as V(sha256:) and 64 hexadecimal digits.
        type: str
      files: &files
        description:
          - Files that come from elsewhere, such as weights on a model hub beside a configuration that is kept in git. The key is the
            path in the model.
          - Each has C(url) and C(checksum), and may have C(headers), which are sent instead of the model's own. With a URL of a presigned
            or private kind, keep these in a vault.
          - They come on top of what C(src) has, or make the model alone.
        type: dict
      config: &config
        description:
          - What the model's C(config.pbtxt) shall say. It is merged over the file, whose comments and order stay where nothing is merged.
        type: dict
      digest: &digest
        description:
          - With V(present), the digest that the content must have. Any other content is refused.
          - With V(rolled_back), the release to go to. The first eight or more digits do, if only one release begins so. By default it is
            the release that was retired last.
          - With V(verified), the digest that the published model must have.
        type: str
      signature: &signature
        description:
          - A signature of the content in the format of OpenSSF Model Signing, which must be good, or the model is refused.
          - A path in the model, or a path of the controller.
        type: str
      headers: &headers
        description:
          - Headers to send when the archive or the files are fetched, such as C(Authorization). They are sent to the named host only.
        type: dict
      fetch_on: &fetch_on
        description:
          - Whether the host or the controller fetches what comes by URL. The controller fetches once for all hosts of the play, and sends
            it to each.
          - By default it is the host.
        type: str
        choices: [host, controller]
      rclone_config: &rclone_config
        description:
          - Path of the configuration file of C(rclone), where it runs. By default its own.
        type: str
  state:
    description:
      - V(present) publishes content that differs from what is there. A published model that was changed, or lost something, is repaired.
      - V(absent) takes the model out of the repository, and keeps it as a release. Unload it before, or Triton serves it until then.
      - V(verified) reads every file again, and fails if a model differs from its manifest. It names corrupt, missing and extra files, and
        what was not published by this module.
      - V(rolled_back) verifies an earlier release, and swaps it in. All of it gets a new time, as Triton would take older files for
        unchanged ones.
    type: str
    choices: [present, absent, verified, rolled_back]
    default: present
  src: *src
  remote_src: *remote_src
  checksum: *checksum
  files: *files
  config: *config
  digest: *digest
  signature: *signature
  headers: *headers
  fetch_on: *fetch_on
  rclone_config: *rclone_config
  keep:
    description:
      - How many releases of each model to keep besides the live one, for a roll back.
      - The last one of a model that was removed is kept in any case.
    type: int
    default: 2
  owner:
    description:
      - Name or numeric id of the owner of what is published. By default the user that the module runs as.
    type: str
  group:
    description:
      - Name or numeric id of the group of what is published.
    type: str
  lock_timeout:
    description:
      - How many seconds to wait for another run that works on the same repository, on this host or on another that shares it.
    type: float
    default: 600.0
  max_unpacked:
    description:
      - How large an archive may become, such as V(500M) or V(200G), so that a small one cannot fill the disk.
      - A link in it counts as what it leads to.
    type: str
    default: 200G
  exclude:
    description:
      - Patterns of names that are no part of a model. One with a slash is compared with the path in the model.
    type: list
    elements: str
    default: [.git, .gitignore, .gitattributes, .github, __pycache__, .DS_Store, .ipynb_checkpoints, '*.pyc']
  require_signature:
    description:
      - Refuse models without a good signature. One that does not name its signature must have it in C(model.sig).
    type: bool
    default: false
  signature_public_key:
    description:
      - Path of the public key on the controller that signatures must be made with.
    type: str
  signature_certificates:
    description:
      - Paths of certificates on the controller, to one of which the signer's must lead.
    type: list
    elements: str
  context:
    description:
      - What is known of the host and its server, for the check of configurations. It has the keys C(gpus), C(backends), C(models),
        C(compute_capabilities), C(release) and C(auto_complete), each of which may be left out.
      - C(leaving) has the names of models that are about to be unloaded or removed. An ensemble that needs one of them is refused.
    type: dict
  strict:
    description:
      - Whether a finding of that check with the severity V(error) refuses the model. Otherwise it is a warning.
    type: bool
    default: true
  timeout:
    description:
      - Seconds to wait for a server to answer, or to send more, when something is fetched.
    type: float
    default: 60.0
  validate_certs:
    description:
      - Whether the certificates of servers that something is fetched from must be valid.
    type: bool
    default: true
  ca_path:
    description:
      - Path of a file with the certificates that these must lead to, where the fetching is done.
    type: str
requirements:
  - tritonclient and protobuf (on the controller)
  - requests (where archives and files are fetched)
  - rclone (where such a source is fetched)
  - zstd (where an archive that is packed with it is fetched)
  - model-signing or cryptography (on the controller, for signatures)
notes:
  - No user and password may be part of a URL, as URLs are shown.
  - Links in a model's folder that stay inside it are followed, and what they point to is published.
  - Where several hosts share the repository, run it on one of them.
seealso:
  - module: gpufleet.triton.triton_model
  - module: gpufleet.triton.triton_health
"""

EXAMPLES = r"""
- name: Publish a model that lies beside the playbook
  gpufleet.triton.triton_repository:
    root: /fileServerMountPath
    name: densenet
    src: models/densenet
  register: published

- name: Load it
  gpufleet.triton.triton_model:
    name: densenet
    digest: "{{ published.digest }}"

- name: Publish several models in one run
  gpufleet.triton.triton_repository:
    root: /fileServerMountPath
    keep: 3
    models:
      - name: densenet
        src: https://models.example.com/densenet-3.tar.zst
        checksum: sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
        headers:
          Authorization: "Bearer {{ models_token }}"
      - name: resnet
        src: models/resnet
        files:
          1/model.onnx:
            url: https://hub.example.com/resnet/resolve/main/model.onnx
            checksum: sha256:fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9
        config:
          max_batch_size: 8
      - name: whisper
        src: rclone:s3:models/whisper
        rclone_config: /etc/rclone.conf
      - name: old_model
        state: absent

- name: Go back to the content before
  gpufleet.triton.triton_repository:
    root: /fileServerMountPath
    name: densenet
    state: rolled_back

- name: Verify every file of all models
  gpufleet.triton.triton_repository:
    root: /fileServerMountPath
    models: []
    state: verified
"""

RETURN = r"""
models:
  description: One entry for each model, in the order given. Returned on failure as well, once the host was asked.
  returned: when the host was asked
  type: list
  elements: dict
  contains: &model
    name:
      description: Name of the model.
      returned: always
      type: str
      sample: densenet
    action:
      description:
        - What was done, or would be in check mode.
        - V(published) is new content, V(repaired) the same content or its owner and mode put right, V(removed), V(rolled_back),
          V(verified), and V(none).
        - V(none) for a model that failed and kept what it had.
      returned: always
      type: str
      sample: published
    digest:
      description:
        - Digest of what is published now. Null if nothing is, if what is there has no manifest, or if check mode cannot know it.
      returned: always
      type: str
      sample: sha256:0f343b0931126a20f133d67c2b018a3b5fc9a1a5c5ea1d4b8a4b6c6f2a1b1c11
    previous_digest:
      description: Digest of what was published before. Null if nothing was, or if it had no manifest.
      returned: always
      type: str
      sample: sha256:5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9
    versions:
      description: The versions that the model has now.
      returned: always
      type: list
      elements: int
      sample: [1, 2]
    steps:
      description: Of an ensemble, the models that it runs, for O(gpufleet.triton.triton_model#module:models[].steps).
      returned: always
      type: list
      elements: str
      sample: []
    bytes:
      description: The size of its content.
      returned: always
      type: int
      sample: 32719461
    files:
      description: The number of its files.
      returned: always
      type: int
      sample: 3
    changes:
      description: Paths of the content by what happened to them.
      returned: always
      type: dict
      contains:
        added:
          description: Files that were not there.
          returned: always
          type: list
          elements: str
          sample: [2/model.onnx]
        changed:
          description: Files with other content, or another right to execute.
          returned: always
          type: list
          elements: str
          sample: [config.pbtxt]
        removed:
          description: Files that are not there any more.
          returned: always
          type: list
          elements: str
          sample: []
    reasons:
      description: Why there was something to do.
      returned: always
      type: list
      elements: str
      sample: [its content changed]
    bytes_sent:
      description: How much of its content went from the controller to the host, or would.
      returned: always
      type: int
      sample: 1048576
    notes:
      description: What the check of its configuration found and did not refuse.
      returned: always
      type: list
      elements: str
      sample: []
name:
  description: As in RV(models).
  returned: when O(name) is given
  type: str
  sample: densenet
action:
  description: As in RV(models).
  returned: when O(name) is given
  type: str
  sample: published
digest:
  description: As in RV(models).
  returned: when O(name) is given
  type: str
  sample: sha256:0f343b0931126a20f133d67c2b018a3b5fc9a1a5c5ea1d4b8a4b6c6f2a1b1c11
previous_digest:
  description: As in RV(models).
  returned: when O(name) is given
  type: str
  sample: sha256:5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9
versions:
  description: As in RV(models).
  returned: when O(name) is given
  type: list
  elements: int
  sample: [1, 2]
steps:
  description: As in RV(models).
  returned: when O(name) is given
  type: list
  elements: str
  sample: []
bytes:
  description: As in RV(models).
  returned: when O(name) is given
  type: int
  sample: 32719461
files:
  description: As in RV(models).
  returned: when O(name) is given
  type: int
  sample: 3
changes:
  description: As in RV(models).
  returned: when O(name) is given
  type: dict
  sample: {"added": ["2/model.onnx"], "changed": ["config.pbtxt"], "removed": []}
reasons:
  description: As in RV(models).
  returned: when O(name) is given
  type: list
  elements: str
  sample: [its content changed]
notes:
  description: As in RV(models).
  returned: when O(name) is given
  type: list
  elements: str
  sample: []
on_disk:
  description: Every folder of the repository after the run, as Triton takes each for a model.
  returned: when the host was asked
  type: list
  elements: dict
  contains:
    name:
      description: Name of the folder.
      returned: always
      type: str
      sample: densenet
    managed:
      description: Whether this module published it.
      returned: always
      type: bool
      sample: true
    digest:
      description: Digest of what is published, null if it was not by this module.
      returned: always
      type: str
      sample: sha256:0f343b0931126a20f133d67c2b018a3b5fc9a1a5c5ea1d4b8a4b6c6f2a1b1c11
    published:
      description: When it was published, in UTC.
      returned: always
      type: str
      sample: "2026-01-31T12:00:00Z"
    versions:
      description: The versions that it has.
      returned: always
      type: list
      elements: int
      sample: [1, 2]
problems:
  description: What was refused, what failed, and what a verification found.
  returned: always
  type: list
  elements: dict
  contains:
    model:
      description: Name of the model, empty if it concerns all.
      returned: always
      type: str
      sample: densenet
    path:
      description: The file of it.
      returned: with O(state=verified)
      type: str
      sample: 1/model.onnx
    severity:
      description: V(error), or V(warning).
      returned: when it was found on the controller
      type: str
      sample: error
    what:
      description:
        - What is wrong. With O(state=verified) it is one of V(corrupt), V(missing), V(extra), V(foreign), V(attributes) and V(digest).
      returned: always
      type: str
      sample: corrupt
    why:
      description: The cause, or what was found.
      returned: always
      type: str
      sample: 1/model.onnx differs from what was published
    remedy:
      description: What to do about it.
      returned: always
      type: str
      sample: publish the model again
bytes_sent:
  description: How many bytes the controller sent to the host, those of the questions included.
  returned: always
  type: int
  sample: 1052012
module_calls:
  description: How many times the host was asked something. It does not depend on the number of models.
  returned: always
  type: int
  sample: 1
diff:
  description: The files by what happens to them, and the configurations before and after.
  returned: in diff mode
  type: list
  elements: dict
"""

import grp
import pwd
import typing as t
from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.parameters import remove_values
from ansible_collections.gpufleet.triton.plugins.module_utils import _proc, _sources
from ansible_collections.gpufleet.triton.plugins.module_utils._manifest import RepositoryError
from ansible_collections.gpufleet.triton.plugins.module_utils._repository import (
    NONE,
    VERIFIED,
    Outcome,
    Repository,
    Settings,
    Wanted,
)
from ansible_collections.gpufleet.triton.plugins.module_utils._repository_options import module_options

HIDDEN = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"
# What is shorter is part of many a word, and no secret.
SHORTEST_SECRET = 8


class RepositoryModule(AnsibleModule):
    """An AnsibleModule whose request, which carries the headers that lead to the sources, stays out of logs and answers."""

    #: Values of headers, which errors must not show. Not Ansible's own list: that blanks them in paths and checksums as well.
    secrets: frozenset[str] = frozenset()

    def _log_invocation(self) -> None:
        request = self.params.get("_request") or {}
        names = [str(row.get("name")) for row in request.get("models") or []]
        self.log("Invoked for {} in {}: {}".format(request.get("phase"), self.params["root"], " ".join(names)))

    def exit_json(self, **kwargs: t.Any) -> t.NoReturn:
        self._hide_request()
        super().exit_json(**kwargs)

    def fail_json(self, msg: str, **kwargs: t.Any) -> t.NoReturn:
        self._hide_request()
        if "problems" in kwargs:
            kwargs["problems"] = remove_values(kwargs["problems"], self.secrets)
        super().fail_json(remove_values(msg, self.secrets), **kwargs)

    def _hide_request(self) -> None:
        if self.params.get("_request"):
            self.params["_request"] = HIDDEN


class HostSources:
    """What the host fetches, with the programs that it has."""

    def __init__(self, module: AnsibleModule) -> None:
        self._run = partial(_proc.run, module.run_command)

    def populate(self, remote: dict[str, t.Any], folder: str, downloads: str) -> str:
        return _sources.populate(remote, folder, downloads, self._run)

    def identity_of_rclone(self, rclone: dict[str, t.Any]) -> str:
        return _sources.identity_of_rclone(rclone, self._run)


def secrets_of(request: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    for row in request.get("models") or []:
        remote = row.get("remote") or {}
        for source in (remote.get("archive") or {}, *(remote.get("files") or {}).values()):
            yield from (text for text in map(str, (source.get("headers") or {}).values()) if len(text) >= SHORTEST_SECRET)


def id_of(what: str, name: str | None, lookup: t.Callable[[str], int]) -> int | None:
    if name is None or name.isdigit():
        return None if name is None else int(name)
    try:
        return lookup(name)
    except KeyError:
        raise RepositoryError(
            f"Cannot publish for the {what} {name!r}", "it does not exist on this host", "create it, or give a numeric id"
        ) from None


def open_repository(module: AnsibleModule) -> Repository:
    params = module.params
    settings = Settings(
        root=params["root"],
        keep=max(0, params["keep"]),
        uid=id_of("owner", params["owner"], lambda name: pwd.getpwnam(name).pw_uid),
        gid=id_of("group", params["group"], lambda name: grp.getgrnam(name).gr_gid),
        lock_timeout=params["lock_timeout"],
    )
    return Repository(settings, HostSources(module), module.check_mode)


def explain(outcomes: t.Sequence[Outcome]) -> str:
    """All that failed, in one text."""
    lines = []
    for outcome in outcomes:
        if outcome.error:
            lines.append(str(outcome.error))
        elif outcome.problems:
            found = "; ".join(f"{problem['what']}: {problem['why']}" for problem in outcome.problems[:20])
            more = f"; and {len(outcome.problems) - 20} more" if len(outcome.problems) > 20 else ""
            lines.append(f"Model {outcome.name!r} is not as it was published. {found}{more}.")
    if len(lines) < 2:
        return "".join(lines)
    return "\n".join([f"{len(lines)} of {len(outcomes)} models failed.", *(f"- {line}" for line in lines)])


def report(module: AnsibleModule, repository: Repository, outcomes: t.Sequence[Outcome], planned: bool = False) -> t.NoReturn:
    rows = [outcome.as_row(planned) for outcome in outcomes]
    request = module.params["_request"]
    if request.get("diff"):
        for row in rows:
            row["texts"] = repository.texts(row["name"])
    result: dict[str, t.Any] = {
        "changed": any(outcome.action not in (NONE, VERIFIED) for outcome in outcomes),
        "models": rows,
        "on_disk": repository.on_disk(),
        "problems": [problem for outcome in outcomes for problem in outcome.problems],
    }
    if planned:
        result["changed"] = result["changed"] and module.check_mode
        result["free_bytes"] = repository.free_bytes()
        configs = {name: repository.config_of(name) for name in request.get("configs") or []}
        result["configs"] = {name: text for name, text in configs.items() if text is not None}
    failure = explain(outcomes)
    if failure:
        module.fail_json(msg=failure, **result)
    module.exit_json(**result)


def run(module: AnsibleModule, request: dict[str, t.Any]) -> t.NoReturn:
    repository = open_repository(module)
    phase, rows = request.get("phase"), request.get("models") or []
    if phase == "open":
        module.exit_json(changed=False, inbox=repository.open_inbox(request.get("uid")))
    if phase == "fetch":
        answers, failed = repository.fetch(rows)
        if failed:
            module.fail_json(msg=explain(failed), problems=[problem for outcome in failed for problem in outcome.problems])
        module.exit_json(changed=False, models=answers)
    if phase == "discard":
        repository.discard([str(path) for path in request.get("folders") or []])
        module.exit_json(changed=False)
    wants = [Wanted.from_row(row) for row in rows]
    if request.get("everything"):
        report(module, repository, repository.verify())
    if phase == "plan":
        report(module, repository, repository.plan(wants), planned=True)
    if phase == "publish":
        report(module, repository, repository.apply(wants, request.get("inbox")))
    module.fail_json(msg=f"Cannot do {phase!r}: wanted plan, open, fetch, discard or publish.")


def main() -> None:
    module = RepositoryModule(argument_spec=module_options(), supports_check_mode=True)
    request = module.params["_request"]
    if not request:
        module.fail_json(
            msg="Cannot publish: the action plugin gpufleet.triton.triton_repository did not run. "
            "It reads the models on the controller. Call the module by its full name, and not through another action."
        )
    module.secrets = frozenset(secrets_of(request))
    try:
        run(module, request)
    except RepositoryError as error:
        problem = {"model": "", "path": "", **error.as_problem()}
        module.fail_json(msg=str(error), problems=[problem])


if __name__ == "__main__":
    main()
