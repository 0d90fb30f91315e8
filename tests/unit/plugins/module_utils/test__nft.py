# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""With the real nft, in a network namespace of its own."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils import _nft
from ansible_collections.gpufleet.triton.plugins.module_utils._proc import CommandResult
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.network import Network, network

RULES = """\
table inet guard
delete table inet guard
table inet guard {
  set peers { type ipv4_addr; flags interval; auto-merge; elements = { 10.3.0.0/16, 10.1.0.0/16 } }
  chain input {
    type filter hook input priority filter - 10; policy accept;
    tcp dport 8000 ip saddr != @peers counter drop
  }
}
"""


@pytest.fixture
def net() -> t.Iterator[Network]:
    with network() as made:
        yield made


@pytest.fixture
def table(net: Network) -> _nft.Table:
    return _nft.Table("inet", "guard", net.run)


def test_a_table_that_is_not_there_is_made_and_then_is_as_it_should_be(table: _nft.Table):
    plan = table.plan(RULES)
    assert (plan.action, plan.before) == (_nft.CREATED, "")
    assert "10.1.0.0/16, 10.3.0.0/16" in plan.after
    assert table.listed() == ""
    table.apply(RULES)
    assert table.listed() == plan.after
    assert table.plan(RULES).action == _nft.NONE


def test_the_same_rules_written_differently_are_no_change(table: _nft.Table):
    table.apply(RULES)
    other = RULES.replace("10.3.0.0/16, 10.1.0.0/16", "10.1.0.0/16, 10.1.7.0/24, 10.3.0.0/16").replace("filter - 10", "-10")
    assert table.plan(other).action == _nft.NONE


@pytest.mark.parametrize(
    "damage",
    [
        "add element inet guard peers { 0.0.0.0/0 }",
        "flush chain inet guard input",
        "delete chain inet guard input",
        "insert rule inet guard input accept",
    ],
)
def test_a_change_by_hand_is_seen_and_taken_back(table: _nft.Table, net: Network, damage: str):
    table.apply(RULES)
    before = table.listed()
    net.must("nft", damage)
    plan = table.plan(RULES)
    assert (plan.action, plan.after) == (_nft.CHANGED, before)
    table.apply(RULES)
    assert table.listed() == before


def test_a_flushed_table_is_seen(table: _nft.Table, net: Network):
    table.apply(RULES)
    net.must("nft", "flush", "ruleset")
    assert table.plan(RULES).action == _nft.CREATED


def test_packets_that_were_counted_are_no_change(table: _nft.Table, net: Network):
    table.apply(RULES)
    net.must("ip", "link", "set", "lo", "up")
    net.run(["python3", "-c", "import socket; s = socket.socket(); s.settimeout(0.1); s.connect(('127.0.0.1', 8000))"])
    assert "counter packets 0" not in net.must("nft", "list", "table", "inet", "guard")
    assert table.plan(RULES).action == _nft.NONE


def test_absent_takes_one_table_and_leaves_the_others(table: _nft.Table, net: Network):
    net.must("nft", "add table inet other")
    assert table.plan(None).action == _nft.NONE
    table.apply(None)
    table.apply(RULES)
    assert table.plan(None).action == _nft.REMOVED
    table.apply(None)
    assert net.must("nft", "list", "tables").split("\n") == ["table inet other", ""]


def test_rules_that_nft_does_not_take_change_nothing(table: _nft.Table):
    table.apply(RULES)
    before = table.listed()
    bad = RULES.replace("10.1.0.0/16", "prometheus.example.com.invalid")
    with pytest.raises(_nft.NftError, match=r"nothing was changed: .*prometheus"):
        table.plan(bad)
    with pytest.raises(_nft.NftError, match="it is as it was"):
        table.apply(bad)
    assert table.listed() == before


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (CommandResult(1, "", "unshare: unshare failed: Operation not permitted"), ["CAP_SYS_ADMIN", "Operation not permitted"]),
        (CommandResult(None, "", "unshare did not end within 60 s"), ["did not end within 60 s"]),
    ],
)
def test_a_host_that_cannot_try_rules_says_so(answer: CommandResult, words: list[str]):
    table = _nft.Table("inet", "guard", lambda _argv, _data: answer)
    with pytest.raises(_nft.NftError) as caught:
        table.previewed(RULES)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        CommandResult(1, "", "Operation not permitted (you must be root)"),
        CommandResult(None, "", "cannot start timeout: [Errno 2] No such file or directory"),
    ],
)
def test_what_cannot_be_listed_is_not_called_absent(answer: CommandResult):
    with pytest.raises(_nft.NftError, match="Cannot list the table inet guard"):
        _nft.Table("inet", "guard", lambda _argv, _data: answer).listed()
