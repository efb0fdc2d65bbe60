# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two PV guests, of which neither may map, talk through the daemon of domain 0 (doc/protocol.md, 5.8)."""

import os
import re
import threading

import pytest

from library import Connection
from messaging import (ALLOW_ALL, EXIT_DENIED, EXIT_NO_ENDPOINT, EXIT_OK, EXIT_UNREACHABLE, FAST, PATIENCE, eventually)
from protocol import OPEN, Program, frame

MIB = 1 << 20


@pytest.fixture(name="pv")
def pv_guests(host, nodes):
    """pv(2): the nodes of domain 0 and of two new PV guests, without their daemons; what the domid is says the host."""
    def make(count=2, **options):
        domids = [int(host.sim("create", "--name", f"pv-{number}", "--type", "pv").stdout) for number in range(count)]
        return tuple(nodes(0, *domids, start=False, **options).values())
    return make


def start(*some):
    for node in some:
        node.start(wait=False)
    for node in some:
        node.wait_ready()


def pattern(number, size):
    return bytes([number & 0xff]) * size


def send_one(source, target, endpoint="inbox", data=b"hello"):
    with Connection(source.socket) as sender, Connection(target.socket) as receiver:
        assert receiver.bind(endpoint) == 0
        got = []
        reader = threading.Thread(target=lambda: got.append(receiver.receive()))
        reader.start()
        assert sender.send(f"{target.domid}:{endpoint}", data) == 0
        reader.join()
        assert got[0].data == data
        return got[0]


# --- it works, whoever comes first ---

def test_messages_go_through_domain_0_with_the_true_source(pv):
    zero, one, two = pv()
    start(zero, one, two)
    for source, target in ((one, two), (two, one)):
        message = send_one(source, target)
        assert (message.domid, message.uid, message.pid) == (source.domid, os.getuid(), os.getpid())
    assert one.link(two.domid)["role"] == two.link(one.domid)["role"] == ""
    done = two.popen("recv", "--json", "--count", "1", "named")
    eventually(lambda: "named" in two.endpoints(), "the endpoint is bound")
    one.send(f"pv-1:named", "hello")
    assert b'"name":"pv-0"' in done.communicate(timeout=20 * PATIENCE)[0].replace(b" ", b"")
