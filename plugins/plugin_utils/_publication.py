# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One task of triton_repository from its options to its result: what is asked of the host, in which order.

Everything is checked first, then the host says what it lacks, gets it, and publishes. The number of questions does not
depend on the number of models. Private to this collection.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import time
import typing as t
from pathlib import Path

from ansible_collections.gpufleet.triton.plugins.module_utils._manifest import CONFIG, FileEntry, RepositoryError, digest_of
from ansible_collections.gpufleet.triton.plugins.module_utils._proc import CommandResult
from ansible_collections.gpufleet.triton.plugins.plugin_utils import _publish as publish
from ansible_collections.gpufleet.triton.plugins.plugin_utils import _transfer as transfer
from ansible_collections.gpufleet.triton.plugins.plugin_utils._pbtxt import PbtxtError, parse

if t.TYPE_CHECKING:
    Answer = dict[str, t.Any]
    Populate = t.Callable[..., str]

# Up to here asking for a place beside the models takes longer than having the host copy what came to Ansible's own folder.
AT_ONCE = 32 * 1024 * 1024
# How long the controller keeps what it fetched for hosts and nobody asked for since.
KEPT_FETCHED = 14 * 86400


class Host(t.Protocol):
    """The way to the host that the task is for."""

    check_mode: bool
    diff: bool
    local_tmp: str

    def call(self, request: dict[str, t.Any]) -> Answer: ...
    def put(self, source: str, target: str) -> None: ...
    def denied(self, error: Exception) -> bool: ...
    def login_uid(self) -> int | None: ...
    def temporary_folder(self) -> str: ...
    def make_readable(self, folder: str, names: t.Sequence[str]) -> None: ...
    def find(self, path: str) -> str | None: ...
    def say(self, text: str) -> None: ...
    def warn(self, text: str) -> None: ...


class HostError(Exception):
    """The host's side failed, and its answer says why."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(str(answer.get("msg", "the module failed")))
        self.answer = answer


class Publication:
    """A task's work on one host."""

    def __init__(self, args: t.Mapping[str, t.Any], host: Host, verify: publish.Verify, populate: Populate) -> None:
        self.args = args
        self.host = host
        self.verify = verify
        self.populate = populate
        self.calls = 0
        self.bytes_sent = 0
        self.models: list[publish.Model] = []
        self.rows: dict[str, Answer] = {}
        self.on_disk: list[Answer] | None = None
        self.sent: dict[str, int] = {}
        #: Configurations of models on the host that ensembles need; None before it was asked.
        self.others: dict[str, t.Any] | None = None
        #: What every answer may carry for Ansible itself.
        self.extra: Answer = {}

    def run(self) -> Answer:
        answer = self._run_or_fail()
        if answer.get("failed"):
            self._discard_fetched()
        return answer

    def _run_or_fail(self) -> Answer:
        try:
            return self._run()
        except publish.RefusedError as error:
            return self._failed(str(error), error.problems)
        except transfer.ChangedError as error:
            problem = publish.Problem(error.model, error.what, error.why, error.remedy)
            return self._failed(str(problem), [problem])
        except RepositoryError as error:
            return self._failed(str(error), [publish.Problem("", error.what, error.why, error.remedy)])
        except HostError as error:
            answer = dict(error.answer)
            answer.pop("invocation", None)
            return {**self.extra, **answer, "failed": True, "module_calls": self.calls}

    def _run(self) -> Answer:
        params = publish.read_options(self.args)
        self.settings = publish.settings_of(params, self.host.find)
        self.single = params["models"] is None
        self.models = publish.models_of(params, self.settings, self.host.find)
        present = [model for model in self.models if model.state == "present"]
        with transfer.Ticker("the controller reads the models", self.host.say):
            self._prepare(present)
        self._refuse_or_go_on(look=True)
        if not self.models and params["state"] == "verified":
            return self._verify_everything()
        todo = self._plan(present)
        if self.host.check_mode or not todo:
            return self._result()
        self._fetch([model for model in todo if model.state == "present"])
        inbox = self._send(todo)
        self._publish(todo, inbox)
        return self._result()

    def _verify_everything(self) -> Answer:
        phase = "plan" if self.host.check_mode else "publish"
        with transfer.Ticker("the host verifies all models", self.host.say):
            answer = self._call({"phase": phase, "models": [], "everything": True})
        self._take(answer)
        self.models = [publish.Model(row["name"], "verified") for row in answer["models"]]
        return self._result()

    # Before anything is asked

    def _prepare(self, present: list[publish.Model]) -> None:
        with publish.cached_hashes() as cache:
            for model in present:
                if model.kind == "folder" and model.folder:
                    publish.read_folder(model, cache, self.settings)
        for model in present:
            if model.base is not None:
                beside = [FileEntry(path, -1, each["sha256"] or "") for path, each in model.files.items()]
                self._settle(model, model.base, [*model.base, *beside])
            if not model.refused:
                model.identity = publish.identity_of(model, self.settings)
                if model.fetched_here and model.remote.get("rclone"):
                    model.identity = self._rclone_identity(model)
        publish.check_models(self.models, self.settings)

    def _settle(self, model: publish.Model, base: t.Sequence[FileEntry], signed: t.Sequence[FileEntry], text: str | None = None) -> None:
        publish.check_signature(model, signed, self.settings, self.host.find, text, self.verify)
        publish.settle(model, base)
        publish.check_digest(model)

    def _refuse_or_go_on(self, look: bool = False) -> None:
        """Stop with everything that is wrong, if anything is. In check mode what is on the host is told all the same."""
        if not any(model.refused for model in self.models):
            return
        if look and self.host.check_mode:
            sound = [model for model in self.models if not model.refused]
            with contextlib.suppress(HostError):
                self._take(self._call({"phase": "plan", "models": [publish.plan_row(model) for model in sound]}))
        raise publish.RefusedError([problem for model in self.models for problem in model.findings], len(self.models))

    # The host's side

    def _call(self, request: Answer) -> Answer:
        self.calls += 1
        self.bytes_sent += len(json.dumps(request, default=str))
        answer = self.host.call(request)
        for key in ("warnings", "deprecations"):
            if answer.get(key):
                self.extra.setdefault(key, []).extend(answer[key])
        if answer.get("ansible_facts"):
            self.extra.setdefault("ansible_facts", {}).update(answer["ansible_facts"])
        if answer.get("failed"):
            raise HostError(answer)
        return answer

    def _take(self, answer: Answer) -> None:
        for row in answer.get("models") or []:
            self.rows[row["name"]] = {**self.rows.get(row["name"], {}), **row}
        self.on_disk = answer.get("on_disk", self.on_disk)

    def _plan(self, present: list[publish.Model]) -> list[publish.Model]:
        """Ask what there is to do; return the models that need anything."""
        check_mode = self.host.check_mode
        if self.models and not present and not check_mode:
            return self.models
        asked = [model for model in self.models if check_mode or model.state != "verified"]
        unknown = publish.unknown_steps(self.models, self.settings.context) if "models" not in self.settings.context else []
        request: Answer = {"phase": "plan", "models": [publish.plan_row(model) for model in asked]}
        if self.host.diff:
            request["diff"] = True
        if unknown:
            request["configs"] = unknown
        answer = self._call(request)
        self._take(answer)
        if unknown:
            self._check_with(answer.get("configs") or {})
        self._check_steps(present)
        return [model for model in self.models if self._action(model) != "none"]

    def _action(self, model: publish.Model) -> str:
        return str(self.rows.get(model.name, {}).get("action") or model.state)

    def _check_with(self, configs: t.Mapping[str, str]) -> None:
        """Check ensembles once more, now that the host has said what it has of their steps."""
        self.others = {}
        for name, text in configs.items():
            # What is on the host is not this task's to judge.
            with contextlib.suppress(PbtxtError):
                self.others[name] = parse(text, f"{name}/{CONFIG}")
        publish.check_models(self.models, self.settings, self.others, certain=not self.host.check_mode)
        self._refuse_or_go_on()

    def _check_steps(self, models: list[publish.Model]) -> None:
        """Check ensembles against what leaves. The host knows the steps of one that only it has, if that stays what it is."""
        for model in models:
            known = model.message is not None or self._action(model) == "none"
            steps = publish.step_names(model) or self.rows.get(model.name, {}).get("steps") or []
            publish.check_steps(model, steps if known else (), self.settings.leaving)
        self._refuse_or_go_on()

    def _fetch(self, todo: list[publish.Model]) -> None:
        """Have the sources that the host reaches fetched, by it or by the controller, and check what came as everything else was."""
        for model in todo:
            sizes = self.rows[model.name].get("sizes")
            if sizes and model.entries is not None:
                publish.take_sizes(model, sizes)
                publish.check_digest(model)
        needing = [model for model in todo if self.rows[model.name].get("needs_fetch")]
        here = [model for model in needing if model.fetched_here]
        there = [model for model in needing if model not in here]
        for model in here:
            self._fetch_here(model)
        if there:
            self._fetch_there(there)
        if needing:
            publish.check_models(self.models, self.settings, self.others)
            self._check_steps(needing)
        self._refuse_or_go_on()
        if here:
            # Now that their content is known, the host can say what it lacks of it.
            self._take(self._call({"phase": "plan", "models": [publish.plan_row(model) for model in here]}))

    def _fetch_there(self, models: list[publish.Model]) -> None:
        with transfer.Ticker(f"the host fetches {_names(models)}", self.host.say):
            answer = self._call({"phase": "fetch", "models": [publish.fetch_row(model, self.settings) for model in models]})
        rows = {row["name"]: row for row in answer["models"]}
        for model in models:
            row = rows[model.name]
            source = publish.take_fetched(model, row)
            if model.kind == "folder":
                publish.check_digest(model)
            else:
                signature = publish.signature_wanted(model, self.settings) or ""
                self._settle(model, source, source, (row.get("texts") or {}).get(signature))

    def _discard_fetched(self) -> None:
        """What the host fetched and will not publish is in the way of the next try. What cannot be removed now goes in a day."""
        folders = [model.fetched for model in self.models if model.fetched]
        if folders:
            with contextlib.suppress(HostError):
                self._call({"phase": "discard", "folders": folders})

    def _fetch_here(self, model: publish.Model) -> None:
        root = self._fetched_root(model)
        with publish.cached_hashes() as cache:
            if model.kind == "remote":
                model.folder = root
                publish.read_folder(model, cache, self.settings)
            else:
                beside = publish.Model(model.name, model.state, folder=root)
                publish.read_folder(beside, cache, self.settings)
                model.findings += beside.findings
                model.paths = {**beside.paths, **model.paths}
                publish.take_sizes(model, {entry.sha256: entry.size for entry in beside.base or []})
        if model.kind == "folder":
            publish.check_digest(model)
        elif model.base is not None:
            self._settle(model, model.base, model.base)

    def _fetched_root(self, model: publish.Model) -> str:
        """A folder of the controller with what a model's URLs lead to."""
        sources, downloads = publish.cache_folder() / "sources", publish.cache_folder() / "downloads"
        for folder in (sources, downloads):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _forget(sources)
        place = sources / str(model.identity)
        progress = transfer.Throttle(lambda text: self.host.say(f"the controller fetches {model.name}: {text}"))
        with _locked(sources / f"{place.name}.lock"):
            root = _fetched(place)
            if root is None:
                shutil.rmtree(place, ignore_errors=True)
                remote = publish.fetch_row(model, self.settings)["remote"]
                root = self.populate(remote, str(place), str(downloads), run_here, progress=progress)
                _mark_of(place).write_text(json.dumps({"root": root}), encoding="utf-8")
        return root

    def _rclone_identity(self, model: publish.Model) -> str:
        from ansible_collections.gpufleet.triton.plugins.module_utils._sources import identity_of_rclone

        parts = [model.identity, identity_of_rclone(model.remote["rclone"], run_here)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _send(self, todo: list[publish.Model]) -> str | None:
        """Send what the host lacks; return where it is."""
        items = []
        for model in todo:
            sizes = {entry.sha256: entry.size for entry in model.entries or []}
            for sha256 in self.rows.get(model.name, {}).get("lacks") or []:
                if sha256 in model.paths and sha256 in sizes:
                    items.append(transfer.Item(sha256, sizes[sha256], model.paths[sha256], model.name))
        if not items:
            return None
        shipment = transfer.shipment_of(items)
        folder = None
        if shipment.size > AT_ONCE:
            request = {"phase": "open", "uid": self.host.login_uid(), "bytes": shipment.size}
            folder = self._call(request).get("inbox")
        inbox = transfer.Inbox(folder, self.host.temporary_folder, self.host.denied)
        with transfer.Progress(shipment, self.host.say) as progress:
            self.bytes_sent += transfer.send(shipment, self.host.put, inbox, self.host.local_tmp, progress)
        if inbox.foreign:
            self.host.make_readable(inbox.folder, inbox.names)
        self.sent = {model.name: shipment.bytes_of(model.name) for model in todo}
        return inbox.folder

    def _publish(self, todo: list[publish.Model], inbox: str | None) -> None:
        with transfer.Ticker(f"the host publishes {_names(todo)}", self.host.say):
            request = {"phase": "publish", "inbox": inbox, "models": [publish.publish_row(model) for model in todo]}
            answer = self._call(request)
        self._take(answer)

    # The result

    def _result(self) -> Answer:
        rows = [self._row(model) for model in self.models]
        changed = any(row["action"] not in ("none", "verified") for row in rows)
        sent = self.bytes_sent if changed and not self.host.check_mode else sum(row["bytes_sent"] for row in rows)
        result: Answer = {
            **self.extra,
            "changed": changed,
            "models": rows,
            "on_disk": self.on_disk or [],
            "bytes_sent": sent,
            "module_calls": self.calls,
            "problems": [],
        }
        if self.single:
            result.update({key: value for key, value in rows[0].items() if key not in result})
        if self.host.diff:
            result["diff"] = [part for model in self.models for part in self._diff(model)]
        self._say_warnings()
        return result

    def _row(self, model: publish.Model) -> Answer:
        row = dict(self.rows.get(model.name, {}))
        lacks = set(row.pop("lacks", None) or [])
        for key in ("needs_fetch", "sizes", "texts"):
            row.pop(key, None)
        row.setdefault("name", model.name)
        row.setdefault("action", "none")
        if model.state == "present" and model.complete:
            row["digest"] = digest_of(model.entries or [])
        if self.host.check_mode:
            sizes = {entry.sha256: entry.size for entry in model.entries or []}
            row["bytes_sent"] = sum(max(0, sizes.get(sha256, 0)) for sha256 in lacks)
        else:
            row["bytes_sent"] = self.sent.get(model.name, 0)
        row["notes"] = [str(problem) for problem in model.findings]
        return row

    def _say_warnings(self) -> None:
        for model in self.models:
            for problem in model.findings:
                self.host.warn(str(problem))

    def _failed(self, text: str, problems: t.Sequence[publish.Problem]) -> Answer:
        result: Answer = {
            **self.extra,
            "failed": True,
            "changed": False,
            "msg": text,
            "problems": [problem.as_dict() for problem in problems],
            "module_calls": self.calls,
        }
        if self.on_disk is not None:
            result["on_disk"] = self.on_disk
            result["models"] = [self._row(model) for model in self.models if model.name in self.rows]
        return result

    def _diff(self, model: publish.Model) -> t.Iterator[Answer]:
        row = self.rows.get(model.name, {})
        changes = row.get("changes") or {}
        marks = (("added", "+"), ("changed", "~"), ("removed", "-"))
        lines = sorted((path, mark) for kind, mark in marks for path in changes.get(kind) or [])
        if lines:
            text = "".join(f"{mark} {path}\n" for path, mark in lines)
            yield {"prepared": f"{model.name}: {self._action(model)}\n{text}"}
        before = row.get("texts") or {}
        if model.state != "present" or model.entries is None or self._action(model) == "none":
            return
        for path in sorted({*before, *model.texts}):
            if before.get(path, "") != model.texts.get(path, ""):
                name = f"{model.name}/{path}"
                yield {"before_header": name, "after_header": name, "before": before.get(path, ""), "after": model.texts.get(path, "")}


def _names(models: t.Sequence[publish.Model]) -> str:
    names = [model.name for model in models]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


# What the controller fetches itself


def run_here(argv: t.Sequence[str], timeout: float = 10.0, cwd: str | None = None) -> CommandResult:
    """Run a command on the controller, as a module does on a host."""
    try:
        done = subprocess.run(
            list(argv),
            cwd=cwd,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env={**os.environ, "LC_ALL": "C", "LANGUAGE": "C"},
        )
    except subprocess.TimeoutExpired:
        return CommandResult(None, "", f"{argv[0]} did not end within {timeout:g} s")
    except (OSError, ValueError) as error:
        return CommandResult(None, "", f"cannot start {argv[0]}: {error}")
    return CommandResult(done.returncode, done.stdout, done.stderr)


@contextlib.contextmanager
def _locked(path: Path) -> t.Iterator[None]:
    """One process at a time, as the hosts of a play want the same archive at the same time."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _mark_of(place: Path) -> Path:
    return place.with_name(f"{place.name}.json")


def _fetched(place: Path) -> str | None:
    """Where the content is, if an earlier run fetched it whole."""
    try:
        root = str(json.loads(_mark_of(place).read_text(encoding="utf-8"))["root"])
        os.utime(_mark_of(place))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return root if os.path.isdir(root) else None


def _forget(sources: Path) -> None:
    """Remove what nobody asked for in a long time, and what an interrupted run left behind."""
    limit = time.time() - KEPT_FETCHED
    for path in sources.iterdir():
        mark = _mark_of(path)
        with contextlib.suppress(OSError):
            if path.is_dir() and (mark if mark.exists() else path).stat().st_mtime < limit:
                mark.unlink(missing_ok=True)
                shutil.rmtree(path, ignore_errors=True)
