# SPDX-License-Identifier: LGPL-2.1-or-later
"""A program with a loop opens, binds and sends without waiting for anybody, and learns each outcome once."""

import errno
import os
import signal

import pytest

from library import Connection
from messaging import eventually, stopped


pytestmark = pytest.mark.usefixtures("memory")


def process(*connections):
    for conn in connections:
        conn.wait(10)


def test_opening_and_binding_wait_for_no_daemon(one):
    opened, bound, taken = [], [], []
    with stopped(one.pid):
        conn = Connection(one.socket, opened.append)
        process(conn)
        assert not opened and conn.bind("inbox") == -errno.ENOTCONN
    eventually(lambda: process(conn) or opened, "it is open")
    assert opened == [0]
    with stopped(one.pid):
        assert conn.bind_post("inbox", bound.append) == 0
        process(conn)
        assert not bound
    eventually(lambda: process(conn) or bound, "it is bound")
    assert bound == [0] and "inbox" in one.endpoints()
    with Connection(one.socket) as other:
        assert other.bind_post("inbox", taken.append) == 0
        eventually(lambda: process(other) or taken, "it is refused")
        assert taken == [-errno.EEXIST] and "bound" in other.last.reason
        assert other.post("self:inbox", b"hello", taken.append) == 0
        process(other)
        assert conn.receive().data == b"hello"
    conn.close()
    assert (len(opened), len(bound), len(taken)) == (1, 1, 2)


def test_opening_ends_when_the_daemon_dies(one):
    opened = []
    os.kill(one.pid, signal.SIGSTOP)  # it never goes on
    conn = Connection(one.socket, opened.append)
    one.kill()
    eventually(lambda: process(conn) or opened, "it has failed")
    assert opened == [-errno.ECONNREFUSED]
    conn.close()


def test_a_post_ends_in_its_time(nodes):
    one, two = nodes(1, 2).values()
    one.sees(two)
    with Connection(one.socket) as sender, Connection(two.socket) as receiver:
        assert receiver.bind("inbox") == 0
        outcomes = {"taken": [], "late": [], "nobody": []}
        assert sender.post_timed("2:inbox", b"first", 20000, outcomes["taken"].append) == 0
        process(sender)
        assert receiver.receive().data == b"first"
        eventually(lambda: process(sender, receiver) or outcomes["taken"], "it was taken")
        assert sender.post_timed("2:inbox", b"second", 100, outcomes["late"].append) == 0
        assert sender.post_timed("2:nobody", b"third", 20000, outcomes["nobody"].append) == 0
        eventually(lambda: process(sender, receiver) or (outcomes["late"] and outcomes["nobody"]), "each has its outcome")
        assert outcomes == {"taken": [0], "late": [-errno.ETIMEDOUT], "nobody": [-errno.ENOENT]}
        assert receiver.receive(0) == -errno.EAGAIN, "what timed out is not delivered"
