# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import json
import random
import typing as t

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils import _daemon_json as daemon_json

FOREIGN = """{
    "runtimes": {
        "kata": { "path": "/usr/bin/kata-runtime" }
    },
    "features": {"buildkit": true, "containerd-snapshotter": false},
    "dns": ["192.0.2.1", "192.0.2.2"],
    "mtu": 1.45e3,
    "labels": ["caf\\u00e9=1"]
}
"""


# ---------------------------------------------------------------------------------------------------------- reading


def test_it_reads_what_json_reads() -> None:
    assert daemon_json.parse(FOREIGN).value == json.loads(FOREIGN)
    nested = '{"a": [1, [], {"b": {}}, "x"], "c": {"d": [ ]}, "e": null, "f": -0.5, "g": false}'
    assert daemon_json.parse(nested).value == json.loads(nested)


@pytest.mark.parametrize("text", ["", " \n\t", "\ufeff", "{}", "{ }", "\ufeff{}"])
def test_an_empty_object(text: str) -> None:
    assert daemon_json.parse(text).value == {}


BROKEN = {
    "a comment before a key": ('{\n  // rotate\n  "a": 1\n}', "line 2, column 3: there is a comment"),
    "a comment at an end": ('{\n  "a": 1 # one\n}', "line 2, column 10: there is a comment"),
    "a comment after all": ("{}\n/* the end */", "line 2, column 1: there is a comment"),
    "a comment in a list": ('{"a": [1, /* two */ 2]}', "line 1, column 11: there is a comment"),
    "a comma too much": ('{\n  "a": 1,\n}\n', "line 3, column 1: wanted a key in double quotes, got '}'"),
    "a comma too much in a list": ('{"a": [1,]}', "line 1, column 10: wanted a value, got ']'"),
    "a comma too little": ('{\n  "a": 1\n  "b": 2\n}', "line 3, column 3: wanted ',' or '}' after the value of 'a', got '\"'"),
    "no comma in a list": ('{"a": [1 2]}', "line 1, column 10: wanted ',' or ']', got '2'"),
    "no colon": ('{"a" 1}', "line 1, column 6: wanted ':' after the key 'a', got '1'"),
    "a key without quotes": ("{a: 1}", "line 1, column 2: wanted a key in double quotes, got 'a'"),
    "single quotes": ("{'a': 1}", "line 1, column 2: wanted a key in double quotes"),
    "cut off": ('{"a": {', "line 1, column 8: wanted a key in double quotes, got the end of the file"),
    "cut off in a text": ('{"a": "x', "line 1, column 7: Unterminated string"),
    "a word": ('{"a": tru}', "line 1, column 7: Expecting value"),
    "no number": ('{"a": NaN}', "line 1, column 7: wanted a value, got 'N'"),
    "minus infinity": ('{"a": -Infinity}', "line 1, column 7: -Infinity is no JSON"),
    "a control character": ('{"a": "x\ty"}', "line 1, column 9: Invalid control character"),
    "a list": ("[]", "line 1, column 1: wanted an object"),
    "null": ("null", "line 1, column 1: wanted an object"),
    "two objects": ("{}\n{}", "line 2, column 1: wanted nothing more after the last '}', got '{'"),
    "a key twice": ('{"a": 1,\n "b": 2, "a": 3}', "line 2, column 10: the key 'a' is there a second time"),
    "a key twice, deep": ('{"a": [{"b": 1, "b": 1}]}', "line 1, column 17: the key 'b' is there a second time"),
    "too deep": ('{"a": ' + "[" * 100000, "nested too deeply"),
    "a number without end": ('{"a": ' + "1" * 5000 + "}", "line 1, column 7: "),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_json_is_refused_with_its_place(case: str) -> None:
    text, reason = BROKEN[case]
    with pytest.raises(daemon_json.DaemonJsonError) as refused:
        daemon_json.parse(text)
    assert reason in str(refused.value)


def test_what_is_no_text_is_refused_with_its_place() -> None:
    with pytest.raises(daemon_json.DaemonJsonError, match=r"line 2, column 3: wanted text in UTF-8, got the byte 0xff"):
        daemon_json.decode(b'{\n "\xff": 1}')
    assert daemon_json.decode("{\u00e9".encode()) == "{\u00e9"


# ------------------------------------------------------------------------------------------------------------ paths


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("debug", ("debug",)),
        ("log-opts.max-size", ("log-opts", "max-size")),
        ('runtimes."io.containerd.kata.v2".path', ("runtimes", "io.containerd.kata.v2", "path")),
        ('""."a\\"b"', ("", 'a"b')),
    ],
)
def test_a_path_is_one_text_in_both_directions(text: str, path: tuple[str, ...]) -> None:
    assert daemon_json.parse_path(text) == path
    assert daemon_json.show_path(path) == text


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", 'a."b', 'a"b"', '"a"b', '"a"."'])
def test_what_is_no_path(text: str) -> None:
    with pytest.raises(daemon_json.DaemonJsonError, match="is no path of a setting"):
        daemon_json.parse_path(text)


def test_leaves() -> None:
    assert daemon_json.leaves({"a": {"b": 1, "c": {}}, "d": [{"e": 1}]}) == [("a", "b"), ("a", "c"), ("d",)]


def test_a_setting_without_a_value_is_refused() -> None:
    with pytest.raises(daemon_json.DaemonJsonError, match=r"log-opts\.max-size has no value.*'state: absent'"):
        daemon_json.check_settings({"log-opts": {"max-size": None}})
    daemon_json.check_settings({"log-opts": {}, "debug": False, "dns": [None]})


# ---------------------------------------------------------------------------------------------------------- merging

MERGES: dict[str, tuple[str, dict[str, t.Any], str]] = {
    "into nothing": ("", {"a": 1, "b": {"c": []}}, '{\n  "a": 1,\n  "b": {\n    "c": []\n  }\n}\n'),
    "into an empty object": ("{}\n", {"a": 1}, '{\n  "a": 1\n}\n'),
    "nothing": (FOREIGN, {}, FOREIGN),
    "what is there": (FOREIGN, json.loads(FOREIGN), FOREIGN),
    "at the end, with the file's indentation": (
        '{\n    "a": 1\n}',
        {"b": {"c": [1, "x"]}},
        '{\n    "a": 1,\n    "b": {\n        "c": [\n            1,\n            "x"\n        ]\n    }\n}',
    ),
    "with tabs": ('{\n\t"a": 1\n}\n', {"b": {"c": 2}}, '{\n\t"a": 1,\n\t"b": {\n\t\t"c": 2\n\t}\n}\n'),
    "with the line ends of another system": ('{\r\n  "a": 1\r\n}\r\n', {"b": [1]}, '{\r\n  "a": 1,\r\n  "b": [\r\n    1\r\n  ]\r\n}\r\n'),
    "with a byte order mark": ('\ufeff{\n "a": 1}', {"b": 2}, '\ufeff{\n "a": 1,\n "b": 2}'),
    "on one line": ('{"a":1,"b":2}', {"c": {"d": [1, 2]}}, '{"a":1,"b":2,"c":{"d":[1,2]}}'),
    "on one line, with room": ('{ "a": 1 }', {"b": [1, 2]}, '{ "a": 1, "b": [1, 2] }'),
    "into an object on one line": (
        '{\n  "x": {"a": 1, "b": 2}\n}\n',
        {"x": {"c": 3}},
        '{\n  "x": {"a": 1, "b": 2, "c": 3}\n}\n',
    ),
    "into an empty object in it": ('{\n  "x": {},\n  "y": 1\n}\n', {"x": {"a": 1}}, '{\n  "x": {\n    "a": 1\n  },\n  "y": 1\n}\n'),
    "into an empty object on one line": ('{"x":{}}', {"x": {"a": 1}}, '{"x":{"a":1}}'),
    "beside other runtimes": (
        FOREIGN,
        {"runtimes": {"nvidia": {"path": "nvidia-container-runtime", "args": []}}},
        FOREIGN.replace(
            '-runtime" }\n',
            '-runtime" },\n        "nvidia": {\n            "path": "nvidia-container-runtime",\n            "args": []\n        }\n',
        ),
    ),
    "a new value": (FOREIGN, {"features": {"buildkit": False}}, FOREIGN.replace('"buildkit": true', '"buildkit": false')),
    "a new list, on its line": (FOREIGN, {"dns": ["192.0.2.3"]}, FOREIGN.replace('"192.0.2.1", "192.0.2.2"', '"192.0.2.3"')),
    "a new list over its lines": ('{\n  "a": [\n    1\n  ]\n}', {"a": [2, 3]}, '{\n  "a": [\n    2,\n    3\n  ]\n}'),
    "an object in the place of a value": ('{\n  "a": 1\n}', {"a": {"b": 2}}, '{\n  "a": {\n    "b": 2\n  }\n}'),
    "a value in the place of an object": ('{\n  "a": {"b": 2}\n}', {"a": 1}, '{\n  "a": 1\n}'),
    "a number of another kind": ('{"mtu": 1450.0}', {"mtu": 1450}, '{"mtu": 1450}'),
    "true is not 1": ('{"a": 1}', {"a": True}, '{"a": true}'),
    "text beyond ASCII": ("{}", {"labels": ["café=1"]}, '{\n  "labels": [\n    "café=1"\n  ]\n}'),
    "a name with a dot": ('{"runtimes": {"a.b": {}}}', {"runtimes": {"a.b": {"path": "x"}}}, '{"runtimes": {"a.b": {"path": "x"}}}'),
}


@pytest.mark.parametrize("case", MERGES)
def test_merge(case: str) -> None:
    before, settings, after = MERGES[case]
    assert daemon_json.merge(before, settings) == after
    assert daemon_json.merge(after, settings) == after


REMOVALS: dict[str, tuple[str, list[str], str]] = {
    "what is not there": (FOREIGN, ["debug", "runtimes.nvidia", "dns.x", "mtu.x.y"], FOREIGN),
    "the first": ('{\n  "a": 1,\n  "b": 2\n}', ["a"], '{\n  "b": 2\n}'),
    "one between": ('{"a":1, "b":2,  "c":3}', ["b"], '{"a":1, "c":3}'),
    "the last": ('{\n  "a": 1,\n  "b": 2\n}', ["b"], '{\n  "a": 1\n}'),
    "the only one": ('{\n  "a": 1\n}\n', ["a"], "{}\n"),
    "a parent that is empty because of it": ('{"a": {"b": {"c": 1}}, "d": 2}', ["a.b.c"], '{"d": 2}'),
    "a parent that is not": ('{"a": {"b": 1, "c": 2}}', ["a.b"], '{"a": {"c": 2}}'),
    "all of a parent": ('{"a": {"b": 1, "c": 2}, "d": {}}', ["a.b", "a.c"], '{"d": {}}'),
    "in an empty parent": ('{"a": {}}', ["a.b"], '{"a": {}}'),
    "a name with a dot": ('{"r": {"a.b": 1, "a": {"b": 1}}}', ['r."a.b"'], '{"r": {"a": {"b": 1}}}'),
}


@pytest.mark.parametrize("case", REMOVALS)
def test_remove(case: str) -> None:
    before, paths, after = REMOVALS[case]
    assert daemon_json.remove(before, map(daemon_json.parse_path, paths)) == after


class Generator:
    """Documents as people write them, and settings for them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def value(self, depth: int) -> t.Any:
        kind = self.random.randrange(8 if depth else 5)
        if kind < 5:
            return self.random.choice([True, False, None, 0, -1.5, "x", 'é\n"\\', [], ["a", 1], [{"b": {}}], 10**20])
        return self.object(depth - 1)

    def object(self, depth: int) -> dict[str, t.Any]:
        names = self.random.sample(["a", "b", "c.d", "é", 'q"', "log-opts", ""], self.random.randrange(5))
        return {name: self.value(depth) for name in names}

    def text(self, value: dict[str, t.Any]) -> str:
        style = self.random.randrange(4)
        indent = [None, None, self.random.choice([1, 2, 4]), "\t"][style]
        separators = self.random.choice([(",", ":"), (", ", ": "), (",", " : ")]) if style < 2 else (",", ": ")
        text = json.dumps(value, indent=indent, separators=separators, ensure_ascii=self.random.random() < 0.5)
        if self.random.random() < 0.2:
            text = text.replace("\n", "\r\n")
        return self.random.choice(["", "\ufeff", "\n"]) + text + self.random.choice(["", "\n"])


def merged(before: dict[str, t.Any], settings: dict[str, t.Any]) -> dict[str, t.Any]:
    """The same in a few words, without the text."""
    after = copy.deepcopy(before)
    for key, value in settings.items():
        both = isinstance(after.get(key), dict) and isinstance(value, dict)
        after[key] = merged(after[key], value) if both else copy.deepcopy(value)
    return after


@pytest.mark.parametrize("seed", range(300))
def test_a_merge_has_the_settings_and_everything_else_in_its_order(seed: int) -> None:
    generator = Generator(seed)
    before, settings = generator.object(3), generator.object(3)
    text = generator.text(before)
    after = daemon_json.merge(text, settings)
    wanted = merged(before, settings)
    # As text, so that the order counts, and 1 is not 1.0.
    assert json.dumps(daemon_json.parse(after).value) == json.dumps(wanted)
    assert json.dumps(json.loads(after.lstrip("\ufeff"))) == json.dumps(wanted)
    assert daemon_json.merge(after, settings) == after
    changed = daemon_json.changed_paths(before, wanted)
    assert (changed == []) == (after == text)


@pytest.mark.parametrize("seed", range(300))
def test_what_was_merged_in_and_is_taken_out_leaves_no_trace(seed: int) -> None:
    generator = Generator(seed)
    before = generator.object(3)
    text = generator.text(before)
    settings = generator.object(3)
    # Only keys that are not there yet, on the top and inside what is there: an empty object is not told from one that
    # was emptied.
    fresh = {key: value for key, value in settings.items() if key not in before}
    inside = {key: {"new": value, "newer": 1} for key, value in before.items() if isinstance(value, dict) and value}
    settings = {**fresh, **inside}
    after = daemon_json.merge(text, settings)
    paths = daemon_json.leaves(settings)
    generator.random.shuffle(paths)
    assert daemon_json.remove(after, paths) == text


# ---------------------------------------------------------------------------------------------------------- effects


def show(before: dict[str, t.Any], after: dict[str, t.Any]) -> list[str]:
    return [daemon_json.show_path(path) for path in daemon_json.changed_paths(before, after)]


def test_changed_paths() -> None:
    before = {"a": 1, "b": {"c": 1, "d": {}}, "e": [1], "f": {"g": 1}, "same": {"x": [1]}}
    after = {"b": {"c": 2, "d": {"x": 1}}, "e": [1, 2], "f": 3, "h": {}, "i": {"j": {"k": 1}}, "same": {"x": [1]}}
    assert show(before, after) == ["a", "b.c", "b.d.x", "e", "f", "h", "i.j.k"]
    assert show({"a": {"b": 1}}, {"a": {}}) == ["a.b"]
    assert show({"a": {}}, {}) == ["a"]


@pytest.mark.parametrize(
    ("before", "after", "restart"),
    [
        ({}, {"debug": True, "live-restore": True, "labels": ["a=b"]}, []),
        ({}, {"runtimes": {"nvidia": {"path": "x"}}, "default-runtime": "nvidia"}, []),
        ({}, {"registry-mirrors": ["https://x"], "insecure-registries": ["x"], "shutdown-timeout": 20}, []),
        ({}, {"max-concurrent-downloads": 1, "max-concurrent-uploads": 1, "max-download-attempts": 1}, []),
        ({}, {"authorization-plugins": ["x"]}, []),
        ({}, {"log-driver": "local", "log-opts": {"max-size": "1m"}, "debug": True}, ["log-driver", "log-opts.max-size"]),
        ({}, {"data-root": "/srv/docker", "something-new": 1}, ["data-root", "something-new"]),
        ({}, {"features": {"cdi": True, "buildkit": False}}, ["features.cdi"]),
        ({}, {"features": {}}, ["features"]),
        # A reload looks at what the file has. What it no longer has stays in force, but for what always gets a value.
        ({"live-restore": True, "debug": True}, {"debug": False}, ["live-restore"]),
        ({"runtimes": {"a": {"path": "x"}, "b": {"path": "y"}}}, {"runtimes": {"a": {"path": "x"}}}, []),
        ({"runtimes": {"a": {"path": "x"}}}, {}, ["runtimes.a.path"]),
        ({"max-concurrent-downloads": 1, "authorization-plugins": ["x"]}, {}, []),
    ],
)
def test_what_needs_a_restart(before: dict[str, t.Any], after: dict[str, t.Any], restart: list[str]) -> None:
    paths = daemon_json.changed_paths(before, after)
    assert [daemon_json.show_path(path) for path in paths if daemon_json.needs_restart(path, after)] == restart


# ---------------------------------------------------------------------------------------------------------- secrets


def test_secrets_are_masked() -> None:
    settings = {
        "proxies": {"http-proxy": "http://bob:hu/sh@proxy:80", "https-proxy": 'https://bob:h "ush@hush@proxy', "no-proxy": "a@b"},
        "registry-mirrors": ["https://mirror/x", "https://bob:hush@mirror"],
        "log-opts": {"splunk-token": "hush", "splunk-url": "https://splunk"},
    }
    masked = daemon_json.mask_value(settings)
    assert masked == {
        "proxies": {"http-proxy": "http://****@proxy:80", "https-proxy": "https://****@proxy", "no-proxy": "a@b"},
        "registry-mirrors": ["https://mirror/x", "https://****@mirror"],
        "log-opts": {"splunk-token": "****", "splunk-url": "https://splunk"},
    }
    for indent in (None, 2):
        assert daemon_json.mask(json.dumps(settings, indent=indent)) == json.dumps(masked, indent=indent)
    assert "hush" not in daemon_json.mask(json.dumps(settings).replace("/", "\\/"))
