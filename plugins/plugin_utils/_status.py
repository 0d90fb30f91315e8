# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the three truths differ: what is wanted, what is on disk, what is served. Private to this collection, and pure.

What the modules found on one host goes in, the status of that host comes out as plain data: it is a fact, a file of JSON
and the content of a page. `_status_report` turns the statuses of many hosts into something to read.
"""

from __future__ import annotations

import json
import typing as t
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone

#: Of the layout of the data, for those who read it by machine. Raised when a key changes its meaning.
FORMAT = 1

Facts = t.Mapping[str, t.Any]


@dataclass(frozen=True)
class Kind:
    """How a status is called, and how bad it is: ok, note, differs (a run mends it), failed (somebody must look)."""

    label: str
    level: str


#: What can be said of a model on a host.
MODEL_STATUSES: dict[str, Kind] = {
    "failed": Kind("failed", "failed"),
    "stale": Kind("stale", "differs"),
    "publish": Kind("to publish", "differs"),
    "load": Kind("to load", "differs"),
    "loading": Kind("loading", "differs"),
    "unload": Kind("to unload", "differs"),
    "unloading": Kind("unloading", "differs"),
    "remove": Kind("to remove", "differs"),
    "foreign": Kind("foreign", "differs"),
    "unknown": Kind("unknown", "failed"),
    "in_sync": Kind("in sync", "ok"),
}
#: What can be said of a host.
HOST_STATES: dict[str, Kind] = {
    "unreachable": Kind("unreachable", "failed"),
    "unknown": Kind("not looked at", "failed"),
    "no_engine": Kind("no Docker engine", "failed"),
    "absent": Kind("no Triton", "failed"),
    "stopped": Kind("stopped", "failed"),
    "not_answering": Kind("not answering", "failed"),
    "not_live": Kind("not live", "failed"),
    "not_ready": Kind("not ready", "failed"),
    "ready": Kind("ready", "ok"),
}
#: States of a host in which there is no server to ask.
WITHOUT_SERVER = frozenset({"no_engine", "absent", "stopped"})


def model_level(row: Facts) -> str:
    """Return the level of a model's row; a foreign model that nobody minds is a note."""
    if row["status"] == "foreign" and not row["differs"]:
        return "note"
    return MODEL_STATUSES[row["status"]].level


def host_level(host: Facts) -> str:
    """Return the level of a host without its models: a stopped server that is wanted stopped is all right."""
    return HOST_STATES[host["state"]].level if host["state_differs"] else "ok"


def short(digest: str | None) -> str:
    """Return enough of a digest to tell it from others."""
    return digest.removeprefix("sha256:")[:12] if digest else ""


@dataclass
class Row:
    """One model on one host, as it goes into the data."""

    name: str
    status: str = "unknown"
    differs: bool = True
    #: The state that the inventory wants; None if it does not list the model.
    wanted: str | None = None
    digest_wanted: str | None = None
    digest_disk: str | None = None
    digest_served: str | None = None
    #: Triton's word, empty when the server was not asked.
    state: str = ""
    versions: list[int] = field(default_factory=list)
    versions_disk: list[int] = field(default_factory=list)
    published: str | None = None
    #: Whether the files on disk are others than the digest on disk was made of.
    altered: bool = False
    #: Whether what is served is recorded as gated and tested by the role triton_models; None where nothing is served.
    recorded: bool | None = None
    #: Triton's reason for what did not load, in its words.
    reason: str = ""
    #: Why the status is what it is, in ours.
    why: str = ""
    #: What a run of the role triton_models would do about it.
    would: str = ""


class Host:
    """Everything that was found on one host, under names that say what it is."""

    def __init__(self, facts: Facts) -> None:
        self.name = str(facts.get("host") or "")
        self.unreachable = _said(facts.get("unreachable"))
        self.error = _said(facts.get("error"))
        self.wanted_server = str(facts.get("server_state") or "started")
        self.control_mode = str(facts.get("control_mode") or "")
        self.release = str(facts.get("release") or "")
        # Empty where the server is none that runs in a container of this host's.
        self.container_name = str(facts.get("container", "triton") or "")
        self.purge = str(facts.get("purge") or "").lower()
        self.entries = {str(entry["name"]): entry for entry in _dicts(facts.get("models")) if entry.get("name")}
        self.looked = _mapping(facts.get("looked"))
        self.disk_path = str(facts.get("path") or "")
        repository = _mapping(facts.get("repository"))
        # What is wrong with the sources of some models does not hide what is on disk.
        self.repository_known = isinstance(repository.get("on_disk"), (list, tuple))
        # The play goes on after a failure, so that a call that failed is told by what it returns.
        self.repository_error = _said(repository.get("msg"))
        self.planned = {str(row["name"]): row for row in _dicts(repository.get("models")) if row.get("name")}
        self.refused = _refused(repository)
        self.on_disk = {str(row["name"]): row for row in _dicts(repository.get("on_disk")) if row.get("name")}
        server = _mapping(facts.get("server"))
        self.server_known = isinstance(server.get("server"), t.Mapping)
        self.server = server if self.server_known else {}
        self.server_error = "" if self.server_known else _said(server.get("msg"))
        self.index = {str(row["name"]): row for row in _dicts(self.server.get("models")) if row.get("name")}
        self.index_known = self.server_known and not any(
            str(problem.get("what", "")).startswith("The repository index is restricted") for problem in _dicts(self.server.get("problems"))
        )
        self.recorded = _recorded(facts.get("record"))

    @property
    def container(self) -> Facts:
        return _mapping(self.looked.get("container"))

    @property
    def unit(self) -> Facts:
        return next(iter(_mapping(self.looked.get("units")).values()), {})

    @property
    def disk(self) -> Facts:
        rows = _dicts(self.looked.get("paths"))
        return next((row for row in rows if row.get("path") == self.disk_path), {})

    def state(self) -> tuple[str, str]:
        """Return the state of the server, and the cause if it is not ready."""
        if self.unreachable:
            return "unreachable", self.unreachable
        if self.error:
            return "unknown", self.error
        down = self._container_state() if self.container_name else None
        if down:
            return down
        if not self.server_known:
            return "not_answering", self.server_error or "The server was not asked."
        if not self.server.get("live"):
            return "not_live", "The server answers, but its initialisation failed: look at the first errors in its log."
        if not self.server.get("ready"):
            found = [str(problem.get("what", "")) for problem in _dicts(self.server.get("problems"))]
            return "not_ready", next(iter(found), "The server says so, and gives no cause.")
        return "ready", ""

    def _container_state(self) -> tuple[str, str] | None:
        """Return why there is no server to ask, or None."""
        engine = _mapping(self.looked.get("docker"))
        if not engine.get("running"):
            if engine.get("installed"):
                return "no_engine", str(engine.get("error") or "Docker does not answer.")
            return "no_engine", "Docker is not installed."
        if not self.container:
            return "absent", f"There is no container {self.container_name} on this host."
        return None if self.container.get("running") else ("stopped", _ended(self.container))


def host_status(facts: Facts, now: datetime | None = None) -> dict[str, t.Any]:
    """Return the status of one host from what was found on it."""
    host = Host(facts)
    state, why = host.state()
    wanted = {"started": "ready", "stopped": "stopped", "absent": "absent"}.get(host.wanted_server, "ready")
    # A server that is wanted stopped and was never there is as good as stopped.
    as_wanted = state == wanted or (wanted != "ready" and state in WITHOUT_SERVER)
    seen = state not in ("unreachable", "unknown")
    rows = _rows(host, as_wanted and wanted != "ready") if seen else []
    problems = _problems(host, state)
    differing = [row for row in rows if row.differs]
    published = [row.published for row in rows if row.published]
    return {
        "name": host.name,
        "state": state,
        "state_wanted": wanted,
        "state_differs": not as_wanted,
        "why": why if not as_wanted or state != "ready" else "",
        "differs": bool(not as_wanted or differing or host.repository_error),
        "problems": problems,
        "server": _server(host, seen),
        "container": _container(host.container, now),
        "unit": {key: host.unit.get(key) for key in ("active_state", "enabled")} if host.unit else None,
        "disk": _disk(host.disk),
        "last_published": max(published, default=None),
        "models_listed": len(host.entries),
        "models_differ": len(differing),
        "models": [asdict(row) for row in rows],
    }


def fleet_status(hosts: t.Iterable[Facts], now: datetime | None = None) -> dict[str, t.Any]:
    """Return the status of a fleet from those of its hosts, in the order given."""
    listed = list(hosts)
    states = Counter(host["state"] for host in listed)
    statuses = Counter(row["status"] for host in listed for row in host["models"])
    differing = sum(1 for host in listed if host["differs"])
    return {
        "format": FORMAT,
        "generated": (now or datetime.now(timezone.utc)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "differs": differing > 0,
        "summary": {
            "hosts": len(listed),
            "hosts_differ": differing,
            "models": sum(statuses.values()),
            "models_differ": sum(host["models_differ"] for host in listed),
            "host_states": {name: states[name] for name in HOST_STATES if states[name]},
            "model_statuses": {name: statuses[name] for name in MODEL_STATUSES if statuses[name]},
        },
        "hosts": listed,
    }


def plain(value: t.Any) -> t.Any:
    """Return plain data, without what Ansible has its containers do each time that they are read."""
    if isinstance(value, t.Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, str) else value


def unseen(name: str, why: str, unreachable: bool = False) -> dict[str, t.Any]:
    """Return the status of a host of which nothing is known."""
    return host_status({"host": name, "unreachable" if unreachable else "error": why})


def _rows(host: Host, server_down_wanted: bool) -> list[Row]:
    """Return the rows of a host: what is listed, in the inventory's order, and then what is not."""
    rows = [_listed(host, name, server_down_wanted) for name in host.entries]
    # Triton has an index row for each folder, so that what is on disk and what is in the index are one list.
    others = sorted({*host.on_disk, *host.index} - set(host.entries))
    return rows + [_foreign(host, name) for name in others]


def _row(host: Host, name: str) -> Row:
    """Return what is known of a model, before it is judged."""
    disk, served = _mapping(host.on_disk.get(name)), _mapping(host.index.get(name))
    versions = _dicts(served.get("versions"))
    failures = [
        str(version["reason"])
        for version in versions
        if version.get("state") == "UNAVAILABLE" and version.get("reason") and version["reason"] != "unloaded"
    ]
    return Row(
        name,
        digest_disk=disk.get("digest") or None,
        digest_served=served.get("digest") or None,
        state=str(served.get("state") or "ABSENT") if host.server_known else "",
        versions=sorted(int(version["version"]) for version in versions if version.get("state") == "READY" and version.get("version")),
        versions_disk=plain(disk.get("versions") or []),
        published=disk.get("published") or None,
        recorded=host.recorded.get(name) == served["digest"] if served.get("digest") else None,
        # Two versions may fail for one reason.
        reason="\n".join(dict.fromkeys(failures)),
    )


def _listed(host: Host, name: str, server_down_wanted: bool) -> Row:
    row, planned = _row(host, name), _mapping(host.planned.get(name))
    row.wanted = str(host.entries[name].get("state") or "loaded")
    if row.wanted == "absent":
        return _judge_absent(host, row)
    action = str(planned.get("action") or "")
    if action == "none":
        row.digest_wanted = planned.get("digest") or row.digest_disk
        row.digest_disk = row.digest_disk or row.digest_wanted
    elif action == "repaired":
        row.digest_wanted, row.altered = planned.get("digest") or row.digest_disk, True
    elif planned:
        row.digest_disk = row.digest_disk or planned.get("previous_digest")
        # A digest that is the one on disk is no news of what is wanted: content that only the host can fetch has none yet.
        row.digest_wanted = planned["digest"] if planned.get("digest") != row.digest_disk else None
    if planned and action != "none":
        return _judge_publish(host, row, planned)
    refused = _unable(host, name)
    if refused or not planned:
        return _judge_unplanned(host, row, refused)
    return _judge_unloaded(host, row) if row.wanted == "unloaded" else _judge_loaded(host, row, server_down_wanted)


def _judge_unplanned(host: Host, row: Row, refused: str) -> Row:
    """Judge a model of which it is not known what its content should be; what failed or is stale is so all the same."""
    if row.wanted == "loaded" and host.server_known:
        judged = _judge_loaded(host, row, False)
        if judged.status in ("failed", "stale"):
            judged.would = "fails before anything is touched" if refused else ""
            return judged
    if refusal := host.refused.get(row.name):
        row.why = f"What is wanted cannot be told: {refusal}"
    else:
        row.why = "What is wanted could not be compared with the disk."
    return _settle(row, "unknown", "fails before anything is touched" if refused else "")


def _judge_publish(host: Host, row: Row, planned: Facts) -> Row:
    reasons = [str(reason) for reason in planned.get("reasons") or []]
    changes = {key: len(planned.get("changes", {}).get(key) or []) for key in ("added", "changed", "removed")}
    counted = ", ".join(f"{number} {key}" for key, number in changes.items() if number)
    if planned.get("action") == "repaired":
        does, fallback = "repairs it", "The files on disk are not those that were published."
    elif row.digest_disk is None and not row.published and row.name not in host.on_disk:
        does, fallback, counted = "publishes it", "It is not on disk.", ""
    else:
        does, fallback = "publishes it", "The content on disk is another than the one wanted."
    row.why = _sentences(reasons) or fallback
    if counted:
        row.why += f" Files: {counted}."
    return _settle(row, "publish", _then(host, row, does))


def _judge_absent(host: Host, row: Row) -> Row:
    served = row.state in ("READY", "LOADING", "UNLOADING")
    if row.name in host.on_disk or served:
        row.why = "It is " + " and ".join([*(["on disk"] if row.name in host.on_disk else []), *(["served"] if served else [])])
        row.why += ", and wanted absent."
        return _settle(row, "remove", "unloads and removes it" if served else "removes it")
    if not host.repository_known:
        row.why = "The repository was not looked at."
        return _settle(row, "unknown", "")
    return _settle(row, "in_sync", "")


def _judge_unloaded(host: Host, row: Row) -> Row:
    if row.state in ("READY", "LOADING"):
        row.why = f"It is {row.state}, and wanted unloaded."
        able = host.control_mode in ("", "explicit")
        return _settle(row, "unload", "unloads it" if able else f"cannot unload it in mode {host.control_mode}")
    if row.state == "UNLOADING":
        row.why = "It is being unloaded: a request may still run in it."
        return _settle(row, "unloading", "waits for it")
    return _settle(row, "in_sync", "")


def _judge_loaded(host: Host, row: Row, server_down_wanted: bool) -> Row:
    if not host.server_known:
        if server_down_wanted:
            return _settle(row, "in_sync", "")
        row.why = "The server could not be asked."
        return _settle(row, "unknown", "loads it if it is not loaded")
    if row.state == "READY":
        wanted = row.digest_wanted or row.digest_disk
        if wanted and row.digest_served != wanted:
            if row.reason:
                row.why = "A later load failed, and Triton keeps serving the content from before."
            elif row.digest_served is None:
                row.why = "What is served has no digest: it was loaded before it was published, or with a configuration sent along."
            else:
                row.why = "The content on disk was not loaded since it was published."
            return _settle(row, "stale", _loads(host, "reloads it"))
        if row.reason:
            row.why = "One of its versions failed to load."
            return _settle(row, "failed", "leaves it: correct the model, and publish it")
        return _settle(row, "in_sync", "")
    if row.state in ("LOADING", "UNLOADING"):
        row.why = f"Triton is {row.state.lower()} it" + ("; some loads never end." if row.state == "LOADING" else ".")
        return _settle(row, row.state.lower(), "waits for it")
    if row.reason:
        row.why = "Its load failed."
        return _settle(row, "failed", _loads(host, "loads it again: correct what Triton says first"))
    if not host.index_known:
        row.why = "The server's index is restricted, and there was no key to ask with."
        return _settle(row, "unknown", _loads(host, "loads it"))
    never = row.state in ("UNKNOWN", "ABSENT")
    row.why = "It is on disk, and was never loaded." if never else "It was unloaded."
    return _settle(row, "load", _loads(host, "loads it"))


def _foreign(host: Host, name: str) -> Row:
    row = _row(host, name)
    served = row.state in ("READY", "LOADING", "UNLOADING")
    where = " and ".join([*(["on disk"] if name in host.on_disk else []), *(["served"] if served else [])]) or "in the server's index"
    row.why = f"It is {where}, and the inventory does not list it."
    # With no list at all, the repository is a folder that people put models into, and none of them is out of place.
    row.status, row.differs = "foreign", bool(host.entries)
    if not host.entries:
        row.why = f"It is {where}; the inventory lists no models."
        row.would = "leaves it"
    elif host.purge not in ("unload", "remove"):
        row.would = "leaves it: triton_models_purge is false"
    elif not _mapping(host.on_disk.get(name)).get("managed"):
        row.would = "leaves it: this collection did not publish it"
    elif host.purge == "remove":
        row.would = "unloads and removes it" if served else "removes it"
    else:
        row.would = "unloads it" if served else "leaves it: it is unloaded"
    return row


def _settle(row: Row, status: str, would: str) -> Row:
    row.status, row.differs, row.would = status, status != "in_sync", would
    return row


def _then(host: Host, row: Row, does: str) -> str:
    """Say what follows a publish."""
    if row.wanted == "unloaded":
        return f"{does}, and {'unloads it' if row.state in ('READY', 'LOADING') else 'leaves it unloaded'}"
    if host.wanted_server != "started":
        return does
    return f"{does}, and " + _loads(host, "reloads it" if row.state == "READY" else "loads it")


def _loads(host: Host, does: str) -> str:
    if host.control_mode == "poll":
        return f"waits for the poll that {does}"
    if host.control_mode == "none":
        return f"{does} by no way: in mode none only a restart of the server does"
    return does


def _unable(host: Host, name: str) -> str:
    """Say why it is not known what is wanted of a model: its source cannot be read, or all went wrong."""
    if name in host.refused:
        return host.refused[name]
    return host.repository_error if host.repository_error and not host.refused else ""


def _refused(repository: Facts) -> dict[str, str]:
    """Return, for each model that was refused, why."""
    found: dict[str, str] = {}
    for problem in _dicts(repository.get("problems")):
        if problem.get("model") and problem.get("severity", "error") == "error":
            parts = [str(problem.get(key) or "").strip() for key in ("what", "why")]
            found.setdefault(str(problem["model"]), ": ".join(part.rstrip(".") for part in parts if part) + ".")
    return found


def _problems(host: Host, state: str) -> list[dict[str, str]]:
    """Return what is wrong with the host itself; what is wrong with a model stands in its row."""
    found = []
    if host.repository_error and not host.refused:
        found.append(_problem("The models that are wanted could not be compared with the disk", host.repository_error))
    if host.refused:
        why = f"It refuses {', '.join(host.refused)}, and checks all models before it begins with one"
        found.append(_problem("A run of models.yml would change nothing here", why))
    if state == "not_ready":
        found += [_problem(row.get("what"), row.get("why"), row.get("remedy")) for row in _dicts(host.server.get("problems"))]
    elif host.server_known and not host.index_known:
        found += [_problem(row.get("what"), row.get("why"), row.get("remedy")) for row in _dicts(host.server.get("problems"))[:1]]
    if host.disk.get("error"):
        found.append(_problem(f"{host.disk_path} could not be looked at", host.disk["error"]))
    elif host.disk and not host.disk.get("exists"):
        found.append(_problem(f"{host.disk_path} does not exist", "", "mount it, or run the role gpufleet.triton.model_repository"))
    elif host.disk.get("read_only"):
        found.append(_problem(f"{host.disk_path} is mounted read-only", "", "nothing can be published until it is mounted for writing"))
    if host.unit and host.container.get("running") and host.unit.get("active_state") != "active":
        what = f"The unit is {host.unit.get('active_state') or 'unknown'}, though the container runs"
        found.append(_problem(what, "somebody started the container past systemd", "run the role gpufleet.triton.triton_server"))
    return found


def _problem(what: t.Any, why: t.Any = "", remedy: t.Any = "") -> dict[str, str]:
    return {"what": str(what or ""), "why": str(why or ""), "remedy": str(remedy or "")}


def _server(host: Host, seen: bool) -> dict[str, t.Any]:
    server = _mapping(host.server.get("server"))
    return {
        "version": server.get("version"),
        # As configured: a server tells neither.
        "release": (host.release or None) if seen else None,
        "control_mode": (host.control_mode or None) if seen else None,
        "live": host.server.get("live"),
        "ready": host.server.get("ready"),
    }


def _container(container: Facts, now: datetime | None) -> dict[str, t.Any] | None:
    if not container:
        return None
    keys = ("image", "status", "running", "health", "restart_count", "started_at", "exit_code", "oom_killed", "ports")
    return {**{key: plain(container.get(key)) for key in keys}, "up_seconds": _up(container, now or datetime.now(timezone.utc))}


def _up(container: Facts, now: datetime) -> int | None:
    if not container.get("running"):
        return None
    try:
        # Docker gives nanoseconds, which datetime does not read; whole seconds will do.
        started = datetime.strptime(str(container.get("started_at"))[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    # The host's clock may be ahead of the controller's.
    return max(0, int((now - started).total_seconds()))


def _ended(container: Facts) -> str:
    if container.get("status") == "restarting":
        text = f"It ends each time that it is started ({container.get('restart_count')} restarts), last"
    else:
        text = f"The container is {container.get('status') or 'not running'}; it ended"
    text += f" with exit code {container.get('exit_code')}"
    if container.get("oom_killed"):
        text += ", killed for lack of memory"
    return text + (f": {container['error']}" if container.get("error") else ".")


def _disk(row: Facts) -> dict[str, t.Any] | None:
    return {key: row.get(key) for key in ("path", "free_bytes", "total_bytes", "read_only", "fs_type")} if row else None


def _recorded(content: t.Any) -> dict[str, str]:
    """Return the digest that is recorded as good, by model. A record that cannot be read records nothing."""
    try:
        record = json.loads(content) if content else {}
    except (TypeError, ValueError):
        return {}
    return {str(row["name"]): str(row["digest"]) for row in _dicts(_mapping(record).get("models")) if row.get("name") and row.get("digest")}


def _sentences(parts: t.Iterable[str]) -> str:
    trimmed = [part.strip().rstrip(" .;") for part in parts]
    return " ".join(f"{part[0].upper()}{part[1:]}." for part in trimmed if part)


def _said(message: t.Any) -> str:
    """Return a message of Ansible's without its own opening words."""
    return str(message or "").removeprefix("Task failed: ")


def _mapping(value: t.Any) -> Facts:
    return value if isinstance(value, t.Mapping) else {}


def _dicts(value: t.Any) -> list[Facts]:
    return [item for item in value if isinstance(item, t.Mapping)] if isinstance(value, (list, tuple)) else []
