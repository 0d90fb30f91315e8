# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table and the page: that they say what there is to say, and that nothing that came from a host does more than stand there."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser
from typing import Any

import pytest
from ansible_collections.gpufleet.triton.plugins.plugin_utils import _status, _status_report
from ansible_collections.gpufleet.triton.tests.unit.plugins.plugin_utils.fleet import FAILURE, NOW, Found, digest, failed, serving, unloaded

HOSTILE = '<script>alert("x")</script><img src=//evil.example/x>&lt; \' " {{ 7 * 7 }} {% raw %}'
# A colour, a jump of the cursor, a bell, a change of the direction of writing.
CONTROLS = "\x1b[31m\x1b[2J\x07\r\u202eevil\u2066\x9b1m"
VOID = {"meta", "input", "br", "img", "link"}


def fleet(*found: Found) -> dict[str, Any]:
    return _status.fleet_status([_status.host_status(each.facts(), NOW) for each in found], NOW)


def mixed(host: str = "gpu2") -> Found:
    found = Found("fine", "broken", "old", "gone", host=host)
    found.index["broken"] = failed("broken", FAILURE)
    found.index["old"] = serving("old", digest(99))
    found.index["gone"] = unloaded("gone")
    return found


def down(host: str = "gpu3") -> Found:
    found = Found("m1", "m2", host=host)
    assert found.container is not None
    found.container.update(running=False, status="exited", exit_code=137, oom_killed=True)
    found.given["server"] = {}
    return found


def unreachable(host: str = "gpu4") -> Found:
    found = Found(host=host)
    found.given["unreachable"] = "no route to host"
    return found


def hostile() -> Found:
    text = HOSTILE + CONTROLS
    found = Found(text, host=text)
    found.index[text] = failed(text, text)
    found.plan[text].update(action="none")
    found.server.update(ready=False, problems=[{"what": text, "why": text, "remedy": text}], server={"version": text})
    assert found.container is not None
    found.container.update(image=text, health=text)
    found.disk[text]["published"] = text
    found.given["release"] = text
    return found


def text_of(fleet_: dict[str, Any], width: int = 120, only_problems: bool = False) -> str:
    return "\n".join(line for line, level in _status_report.table(fleet_, width, only_problems))


class Page(HTMLParser):
    """A page as a browser sees it. Fails on an end without a start, and on what would fetch or run anything."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.text: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.seen: set[str] = set()
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert tag not in ("script", "iframe", "object", "embed", "link", "base", "form", "img"), tag
        assert not {"src", "href", "srcset", "action", "style", "data", "poster"} & set(given), given
        assert not [name for name in given if name.startswith("on")], given
        assert tag not in ("p",) or "p" not in self.open, "a paragraph in a paragraph ends the first"
        self.tags.append((tag, given))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, (tag, self.open)

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def test_what_differs_stands_last_in_the_table_and_first_on_the_page() -> None:
    status = fleet(mixed(), Found(host="gpu1"), down(), unreachable())
    text = text_of(status)
    assert [line.split()[0] for line in text.splitlines() if re.match(r"gpu\d", line)] == ["gpu1", "gpu2", "gpu3", "gpu4"]
    page = Page(_status_report.page(status)).words
    assert page.index("gpu2 ready") < page.index("gpu1 ready")


def test_the_last_line_sums_up() -> None:
    last = text_of(fleet(mixed(), Found(host="gpu1"), down()), 300).splitlines()[-1]
    assert last == "2 of 3 hosts differ (1 stopped); 5 of 7 models differ (1 failed, 1 stale, 1 to load, 2 unknown)"
    assert text_of(fleet(Found()), 300).splitlines()[-1] == "1 host, 1 model: everything is as the inventory wants it"
    assert text_of(fleet(), 300).splitlines()[-1] == "0 hosts, 0 models: everything is as the inventory wants it"


def test_a_table_says_what_an_operator_asks() -> None:
    text = text_of(fleet(mixed()))
    for words in (
        "gpu2  ready, 3 of 4 models differ",
        "Triton 2.72.0 (26.08), mode explicit, up 3 d 3 h, 2 restarts, 123 GB of 1.0 TB free, last published 2026-11-20 01:00",
        "registry.example.com/tritonserver:26.08-py3, 127.0.0.1:8000",
        "Triton: Internal: ModuleNotFoundError: No module named 'onnx'",
    ):
        assert words in text
    rows = {line.split()[0]: " ".join(line.split()) for line in text.splitlines() if line.startswith("  ")}
    assert rows["fine"] == "fine in sync 010101010101 same same 1 -"
    assert rows["broken"].startswith("broken failed 020202020202 same - - loads it again")
    assert rows["old"] == "old stale 030303030303 same 636363636363 1 reloads it"
    assert rows["gone"] == "gone to load 040404040404 same - - loads it"


def test_only_problems() -> None:
    text = text_of(fleet(mixed(), Found(host="gpu1"), unreachable()), only_problems=True)
    assert "gpu1" not in text and "fine" not in text
    assert "1 host in sync, not shown" in text
    for word in ("broken", "old", "gone", "unreachable", "no route to host"):
        assert word in text


def test_models_of_a_server_that_is_down_take_one_line() -> None:
    text = text_of(fleet(down()))
    assert "stopped, 2 of 2 models unknown" in text
    assert "Right on disk, the server was not asked: m1, m2" in text
    assert "killed for lack of memory" in text
    assert "MODEL" not in text
    page = Page(_status_report.page(fleet(down()))).words
    assert "the server was not asked: m1, m2" in page


def test_a_server_that_is_kept_down_is_no_fault() -> None:
    found = down()
    found.given["server_state"] = "stopped"
    assert "stopped, as wanted, 2 models in sync" in text_of(fleet(found))
    running = Found()
    running.given["server_state"] = "stopped"
    assert "ready, wanted stopped" in text_of(fleet(running))


def test_what_needs_attention_though_nothing_differs() -> None:
    found = Found()
    found.looked["units"]["triton.service"].update(active_state="inactive", enabled=False)
    text = text_of(fleet(found), only_problems=True)
    assert "The unit is inactive, though the container runs" in text
    assert "unit inactive, does not start at boot" in text_of(fleet(found))


def test_a_long_reason_is_cut_in_the_table_and_whole_on_the_page() -> None:
    found = Found()
    found.index["m"] = failed("m", "\n".join(f"frame {number}" for number in range(40)))
    text = text_of(fleet(found))
    assert "frame 5" in text and "frame 30" not in text and "more lines" in text
    assert "frame 39" in _status_report.page(fleet(found))
    found.index["m"] = failed("m", "x" * 100_000)
    assert len(_status_report.page(fleet(found))) < 30_000


@pytest.mark.parametrize("width", [20, 80, 120])
def test_the_table_fits_its_width(width: int) -> None:
    lines = text_of(fleet(mixed(), down(), unreachable()), width).splitlines()
    assert max(len(line) for line in lines) <= max(width, 110)


def test_a_digest_is_the_same_only_as_a_whole() -> None:
    found = Found()
    alike = digest(1)[:-1] + "f"
    found.index["m"] = serving("m", alike)
    assert _status_report.digests(fleet(found)["hosts"][0]["models"][0]) == ("010101010101", "same", "010101010101")
    found.index["m"] = serving("m", None)
    assert _status_report.digests(fleet(found)["hosts"][0]["models"][0])[2] == "none"


def test_files_that_were_changed_by_hand_are_not_called_the_same() -> None:
    found = Found()
    found.plan["m"].update(action="repaired")
    assert _status_report.digests(fleet(found)["hosts"][0]["models"][0]) == ("010101010101", "altered", "same")


def test_what_is_not_served_because_nobody_wants_it() -> None:
    found = Found("m", "n")
    found.models[0]["state"] = "unloaded"
    found.index["m"] = unloaded("m")
    assert "- (unloaded, as wanted)" in text_of(fleet(found))
    assert "unloaded, as wanted" in Page(_status_report.page(fleet(found))).words


def test_each_line_has_the_level_of_what_it_says() -> None:
    levels = {line.split()[0]: level for line, level in _status_report.table(fleet(mixed(), Found(host="gpu1"))) if line.strip()}
    assert (levels["gpu1"], levels["gpu2"]) == ("ok", "failed")
    assert (levels["fine"], levels["old"], levels["broken"]) == ("ok", "differs", "failed")


def test_nothing_that_came_from_a_host_steers_the_terminal() -> None:
    status = fleet(hostile())
    for text in (text_of(status), text_of(status, only_problems=True), *_status_report.drift(status)):
        assert not [char for char in text if char in CONTROLS and char not in "evil[312Jm1"]


def test_nothing_that_came_from_a_host_is_markup() -> None:
    status = fleet(hostile())
    html = _status_report.page(status)
    page = Page(html)
    assert HOSTILE.split("'", maxsplit=1)[0] in page.words, "it is shown as it was said"
    assert "{{ 7 * 7 }}" in page.words and "49" not in page.words.split()
    assert not [char for char in html if char in CONTROLS and char not in "evil[312Jm1"]


def test_the_page_is_whole_in_itself() -> None:
    html = _status_report.page(fleet(mixed(), Found(host="gpu1"), down(), unreachable()))
    assert html.startswith("<!DOCTYPE html>")
    page = Page(html)
    assert "://" not in html and "url(" not in html and "@import" not in html
    metas = [given for tag, given in page.tags if tag == "meta"]
    assert {"charset": "utf-8"} in metas
    assert any(given.get("name") == "viewport" for given in metas)
    assert any("default-src 'none'" in str(given.get("content")) for given in metas)
    assert [given.get("lang") for tag, given in page.tags if tag == "html"] == ["en"]
    assert "prefers-color-scheme: dark" in html


def test_the_page_can_be_used_without_seeing_it() -> None:
    """Headings in order, one of each model in a list, the state in words and not in colours alone, a label for the one input."""
    html = _status_report.page(fleet(mixed(), down()))
    page = Page(html)
    tags = [tag for tag, given in page.tags]
    assert tags.count("h1") == tags.count("main") == tags.count("header") == 1
    assert tags.count("h2") == tags.count("summary") == 2
    assert re.search(r"<label><input [^>]*> Only what differs</label>", html)
    for words in ("failed broken", "stale old", "to load gone", "gpu3 stopped", "version 1"):
        assert words in page.words


def test_the_page_opens_what_differs_and_folds_the_rest() -> None:
    page = Page(_status_report.page(fleet(mixed(), Found(host="gpu1"))))
    assert ["open" in given for tag, given in page.tags if tag == "details"] == [True, False]


def test_the_page_says_what_a_run_would_do_and_why() -> None:
    page = Page(_status_report.page(fleet(mixed()))).words
    for words in (
        "wanted 030303030303 on disk same served 636363636363",
        "A run of models.yml: reloads it.",
        "The content on disk was not loaded since it was published.",
        "ModuleNotFoundError: No module named 'onnx'",
        "published 2026-11-20 01:00 UTC",
        "mode explicit",
        "up 3 d 3 h",
    ):
        assert words in page


def test_drift_names_what_differs() -> None:
    status = fleet(mixed(), Found(host="gpu1"), unreachable())
    assert _status_report.drift(status) == ["gpu2: broken failed, old stale, gone to load", "gpu4: unreachable"]
    many = _status_report.drift(fleet(*(unreachable(f"h{number}") for number in range(25))))
    assert (len(many), many[-1]) == (21, "and 5 more hosts")


def test_a_large_fleet() -> None:
    """Five hundred hosts with twenty models each, a tenth of them not as wanted: a page that can be sent by mail, at once."""
    names = [f"model_{number}" for number in range(20)]
    hosts = []
    for number in range(500):
        found = Found(*names, host=f"gpu{number}")
        if number % 10 == 0:
            for name in names[:5]:
                found.index[name] = failed(name, FAILURE)
        hosts.append(found)
    start = time.process_time()
    status = fleet(*hosts)
    html = _status_report.page(status)
    text = text_of(status)
    elapsed = time.process_time() - start
    assert status["summary"]["models"] == 10_000
    assert len(html) < 4_000_000
    assert text.count("\n") < 15_000
    assert elapsed < 10


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3600, "1 h 0 min"), (86399, "23 h 59 min"), (90000, "1 d 1 h")],
)
def test_durations(seconds: int, text: str) -> None:
    assert _status_report.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (123_456, "123 kB"), (5 * 10**9, "5.0 GB"), (3 * 10**15, "3000 TB"), (None, "?")],
)
def test_sizes(count: int | None, text: str) -> None:
    assert _status_report.size(count) == text


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("2026-11-20T01:00:59Z", "2026-11-20 01:00 UTC"),
        ("2026-11-20T11:00:00+10:00", "2026-11-20 01:00 UTC"),
        ("2026-11-20T01:00:00.123456Z", "2026-11-20 01:00 UTC"),
        ("never\x1b", "never�"),
        (None, ""),
    ],
)
def test_moments(given: str | None, text: str) -> None:
    assert _status_report.moment(given) == text
