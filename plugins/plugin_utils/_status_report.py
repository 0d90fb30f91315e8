# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status of a fleet as a table for a terminal and as one page. Private to this collection, and pure.

What Triton, a disk or an inventory said is printed here, so it is taken for hostile: no control character reaches the
terminal, no markup the page.
"""

from __future__ import annotations

import textwrap
import typing as t
import unicodedata
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

from ansible_collections.gpufleet.triton.plugins.plugin_utils._status import (
    HOST_STATES,
    MODEL_STATUSES,
    WITHOUT_SERVER,
    Facts,
    host_level,
    model_level,
    short,
)
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

#: A line of text and its level: ok, note, differs, failed, or nothing for a plain one.
Line = tuple[str, str]

LEVELS = ("ok", "note", "differs", "failed")
HEADINGS = ("MODEL", "STATUS", "WANTED", "ON DISK", "SERVED", "READY", "A RUN OF models.yml")
SAME = "same"
ALTERED = "altered"
# What is said of why a model failed: its whole stack may be hundreds of lines, and is in the page.
_REASON_LINES = 8
_REASON_PAGE = 8192
_INDENT = "  "


def table(fleet: Facts, width: int = 120, only_problems: bool = False) -> list[Line]:
    """Return the fleet's status for a terminal. What differs stands last, where the eyes are when a play has ended."""
    width = max(width, 60)
    lines: list[Line] = []
    hosts = sorted(fleet["hosts"], key=lambda host: LEVELS.index(level_of(host)))
    hidden = [host for host in hosts if only_problems and level_of(host) == "ok"]
    names = max((len(clean(host["name"])) for host in hosts), default=0)
    for host in hosts:
        if host not in hidden:
            lines += _host_lines(host, min(names, 32), width, only_problems)
    if hidden:
        lines.append((f"{_count(len(hidden), 'host')} in sync, not shown", "ok"))
    lines.append(("", ""))
    lines.extend((line, "failed" if fleet["differs"] else "ok") for line in _wrap(headline(fleet), width))
    return lines


def headline(fleet: Facts, counted: bool = True) -> str:
    """Sum a fleet up in one sentence; `counted` says of each state how often it is there."""
    summary = fleet["summary"]
    hosts, models = _count(summary["hosts"], "host"), _count(summary["models"], "model")
    if not fleet["differs"]:
        return f"{hosts}, {models}: everything is as the inventory wants it"
    parts = []
    for differing, counts, kinds, whole in (
        (summary["hosts_differ"], summary["host_states"], HOST_STATES, hosts),
        (summary["models_differ"], summary["model_statuses"], MODEL_STATUSES, models),
    ):
        named = [f"{number} {kinds[name].label}" for name, number in counts.items() if kinds[name].level != "ok"]
        parts.append(f"{differing} of {whole} {_differ(differing)}" + (f" ({', '.join(named)})" if named and counted else ""))
    return ", ".join(parts) if not counted else "; ".join(parts)


def drift(fleet: Facts, limit: int = 20) -> list[str]:
    """Name what differs, one text for each host, at most `limit` of them."""
    found = []
    for host in fleet["hosts"]:
        if not host["differs"]:
            continue
        parts = [HOST_STATES[host["state"]].label] if host["state_differs"] else []
        parts += [f"{row['name']} {MODEL_STATUSES[row['status']].label}" for row in host["models"] if row["differs"]]
        found.append(clean(f"{host['name']}: {', '.join(parts) or 'not compared'}"))
    return found[:limit] + ([f"and {len(found) - limit} more hosts"] if len(found) > limit else [])


def page(fleet: Facts) -> str:
    """Return the whole page. It needs nothing from anywhere else, and runs no script."""
    order = sorted(fleet["hosts"], key=lambda host: -LEVELS.index(level_of(host)))
    return _template().render(fleet=fleet, hosts=order, headline=headline(fleet, counted=False), generated=moment(fleet["generated"]))


def level_of(host: Facts) -> str:
    """Return the worst level of a host and its models."""
    levels = [host_level(host), *(model_level(row) for row in host["models"])]
    if host["differs"] or host["problems"]:
        levels.append("differs")
    return max(levels, key=LEVELS.index)


def verdict(host: Facts) -> str:
    """Say in a few words how the models of a host are."""
    rows = host["models"]
    if not rows:
        return "no models" if host["state"] not in ("unreachable", "unknown") else "models unknown"
    unknown = sum(row["status"] == "unknown" for row in rows)
    if unknown and unknown == host["models_differ"]:
        return f"{unknown} of {_count(len(rows), 'model')} unknown"
    if host["models_differ"]:
        return f"{host['models_differ']} of {_count(len(rows), 'model')} {_differ(host['models_differ'])}"
    foreign = sum(row["status"] == "foreign" for row in rows)
    if foreign:
        return f"{_count(foreign, 'model')} not listed"
    return f"{_count(len(rows), 'model')} in sync"


def unasked(host: Facts) -> list[Facts]:
    """Return the models of which one line is enough: nobody needs to read of each that a server that is down was not asked."""
    if host["state"] not in (*WITHOUT_SERVER, "not_answering"):
        return []
    return [row for row in host["models"] if row["status"] == "unknown" and row["digest_wanted"] and row["digest_disk"]]


def facts_of(host: Facts) -> list[str]:
    """Return what else an operator asks of a host, a few words each."""
    server, container, unit, disk = host["server"], host["container"], host["unit"], host["disk"]
    found = []
    if server["version"]:
        found.append(f"Triton {server['version']}" + (f" ({server['release']})" if server["release"] else ""))
    if server["control_mode"]:
        found.append(f"mode {server['control_mode']}")
    if container:
        if container["up_seconds"] is not None:
            found.append(f"up {duration(container['up_seconds'])}")
        found.append(_count(container["restart_count"] or 0, "restart"))
        if container["health"] and container["health"] != "healthy":
            found.append(f"health check {container['health']}")
    if unit and (unit["active_state"] != "active" or not unit["enabled"]):
        found.append(f"unit {unit['active_state'] or 'unknown'}" + ("" if unit["enabled"] else ", does not start at boot"))
    if disk and disk["free_bytes"] is not None:
        found.append(f"{size(disk['free_bytes'])} of {size(disk['total_bytes'])} free")
    if host["last_published"]:
        found.append(f"last published {moment(host['last_published'])}")
    return found


def where_of(host: Facts) -> list[str]:
    """Return the image and the ports of a host's server."""
    container = host["container"] or {}
    ports = [f"{port.get('address')}:{port.get('port')}" for port in container.get("ports") or []]
    return [*([str(container["image"])] if container.get("image") else []), *ports]


def digests(row: Facts) -> tuple[str, str, str]:
    """Return the three digests of a model, short; one that equals the one wanted is only called the same."""
    wanted, disk, served = row["digest_wanted"], row["digest_disk"], row["digest_served"]
    return (
        short(wanted) or ("-" if row["wanted"] in (None, "absent") else "?"),
        ALTERED if row["altered"] else SAME if disk and disk == wanted else short(disk) or "-",
        # Something that is served without a digest is not the same as nothing that is served.
        SAME if served and served == (wanted or disk) else short(served) or ("none" if row["versions"] else "-" if row["state"] else "?"),
    )


def numbers(versions: t.Sequence[int]) -> str:
    return ", ".join(str(version) for version in versions) or "-"


def clean(text: t.Any, keep_lines: bool = False) -> str:
    """Return a text without what could move a cursor, change a colour or turn the direction of writing."""
    kept = "\n" if keep_lines else ""
    found = str(text).replace("\t", "    ")
    return "".join(
        char if char in kept or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp") else " " if char in "\r\n" else "�"
        for char in found
    )


def duration(seconds: int) -> str:
    """Return a time span in its two largest units."""
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{seconds} s"


def size(count: int | None) -> str:
    if count is None:
        return "?"
    value = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if value >= 100 or unit == "B" else f"{value:.1f} {unit}"


def moment(text: str | None) -> str:
    """Return a time of the data without what nobody reads: 2026-01-31 12:00 UTC."""
    try:
        found = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        return clean(text or "")
    return (found if found.tzinfo is None else found.astimezone(timezone.utc)).strftime("%Y-%m-%d %H:%M UTC")


def _host_lines(host: Facts, names: int, width: int, only_problems: bool) -> list[Line]:
    level = level_of(host)
    kind = HOST_STATES[host["state"]]
    # A stopped server is not called by the word for a fault where it is wanted stopped.
    state = kind.label + (", as wanted" if not host["state_differs"] and host["state"] != "ready" else "")
    if host["state_differs"] and host["state_wanted"] != "ready":
        state += f", wanted {HOST_STATES[host['state_wanted']].label}"
    head = f"{clean(host['name']):<{names}}  {state}, {verdict(host)}"
    lines: list[Line] = [("", ""), (head, level)]
    facts = ", ".join(facts_of(host))
    if facts and not (only_problems and host["state"] == "ready"):
        lines += [(_INDENT + line, "") for line in _wrap(clean(facts), width - len(_INDENT))]
    if where_of(host) and not only_problems:
        lines += [(_INDENT + line, "") for line in _wrap(clean(", ".join(where_of(host))), width - len(_INDENT))]
    if host["why"] and not any(problem["what"] == host["why"] for problem in host["problems"]):
        lines += [(_INDENT + line, level) for line in _wrap(clean(host["why"]), width - len(_INDENT))]
    for problem in host["problems"]:
        lines += [(_INDENT + line, level) for line in _problem_lines(problem, width - len(_INDENT))]
    return lines + _model_lines(host, width, only_problems)


def _model_lines(host: Facts, width: int, only_problems: bool) -> list[Line]:
    rows = [row for row in host["models"] if not only_problems or model_level(row) != "ok"]
    silent = unasked(host)
    rows = [row for row in rows if row not in silent]
    lines: list[Line] = []
    if rows:
        cells = [(clean(row["name"]), MODEL_STATUSES[row["status"]].label, *digests(row), numbers(row["versions"])) for row in rows]
        widths = [max(len(heading), *(len(row[column]) for row in cells)) for column, heading in enumerate(HEADINGS[:-1])]
        lines.append((_INDENT + _columns(HEADINGS[:-1], widths) + _INDENT + HEADINGS[-1], ""))
        used = len(_INDENT) + sum(widths) + len(_INDENT) * len(widths)
        for row, shown in zip(rows, cells):
            level = model_level(row)
            would = clean(row["would"]) or ("-" if row["status"] == "in_sync" else "?")
            if row["status"] == "in_sync" and row["wanted"] != "loaded":
                would += f" ({row['wanted']}, as wanted)"
            first, *rest = _wrap(would, max(width - used, 24))
            lines.append(((_INDENT + _columns(shown, widths) + _INDENT + first).rstrip(), level))
            lines += [(" " * used + line, level) for line in rest]
            if row["why"]:
                lines += [(_INDENT * 2 + line, level) for line in _wrap(clean(row["why"]), width - 4)]
            lines += [(_INDENT * 2 + line, level) for line in _reason_lines(row["reason"], width - 4)]
    if silent:
        text = f"Right on disk, the server was not asked: {', '.join(clean(row['name']) for row in silent)}"
        lines += [(_INDENT + line, "failed") for line in _wrap(text, width - len(_INDENT))]
    return lines


def _columns(cells: t.Sequence[str], widths: t.Sequence[int]) -> str:
    return _INDENT.join(cell.ljust(width) for cell, width in zip(cells, widths))


def _problem_lines(problem: Facts, width: int) -> list[str]:
    parts = [problem[key].strip().rstrip(".") for key in ("what", "why", "remedy") if problem[key].strip()]
    text = ". ".join(part[:1].upper() + part[1:] for part in parts) + "."
    return _limited(clean(text, keep_lines=True), width)


def _reason_lines(reason: str, width: int) -> list[str]:
    return _limited("Triton: " + clean(reason, keep_lines=True).strip(), width) if reason else []


def _limited(text: str, width: int) -> list[str]:
    """Fold a text that may be long, and stop where it is clear what it is about."""
    lines = [line for part in text.splitlines() if part.strip() for line in _wrap(part.rstrip(), width)]
    return lines if len(lines) <= _REASON_LINES else [*lines[: _REASON_LINES - 1], f"... {len(lines) - _REASON_LINES + 1} more lines"]


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False, subsequent_indent="") or [""]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _differ(number: int) -> str:
    return "differs" if number == 1 else "differ"


def _shortened(text: str) -> str:
    cleaned = clean(text, keep_lines=True).strip()
    return cleaned if len(cleaned) <= _REASON_PAGE else f"{cleaned[:_REASON_PAGE]}\n... {len(cleaned) - _REASON_PAGE} more characters"


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        # Everything is escaped, whatever it is called.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        MODEL_STATUSES=MODEL_STATUSES,
        HOST_STATES=HOST_STATES,
        level_of=level_of,
        host_level=host_level,
        model_level=model_level,
        verdict=verdict,
        facts_of=facts_of,
        where_of=where_of,
        digests=digests,
        numbers=numbers,
        unasked=unasked,
        SAME=SAME,
    )
    environment.filters.update(clean=clean, reason=_shortened, moment=moment, short=short)
    return environment.get_template("_status.html.j2")
