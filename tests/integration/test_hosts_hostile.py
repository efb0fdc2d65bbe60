# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a gateway, another host's daemon, a guest and a program can't do to a daemon that knows of other hosts. The hosts are
those of test_hosts.py."""

import pytest

from fake_gateway import Side
from messaging import EXIT_DENIED, eventually
from test_hosts import joined_hosts  # the fixture `hosts`  # noqa: F401  pylint: disable=unused-import


@pytest.fixture(name="gateway")
def gateway_of_one_host(hosts):
    """The daemon of a host's domain 0, and the connection of a gateway to it."""
    [node] = hosts(count=1, join=False)
    side = Side(hosts.path(0))
    side.say(type="state", up=True, server="fake://here")
    yield node, side
    side.socket.close()


def tell(side, names, up=True):
    for name in names:
        side.say(type="host", host=name, instance="", up=up)


def test_invented_hosts_leave_room_in_the_log(gateway):
    node, side = gateway
    node.write_policy("")
    assert node.xenmsg("policy", "reload").returncode == 0
    tell(side, (f"host{number}" for number in range(1000)))
    eventually(lambda: len(node.json("hosts")) == 1001, "all are taken")
    node.send("host7/0:inbox", "x", exit_code=EXIT_DENIED)
    eventually(lambda: "denied: domain 0" in node.log.read_text(), "what others do is logged")
    assert node.log.read_text().count("is there") < 30
