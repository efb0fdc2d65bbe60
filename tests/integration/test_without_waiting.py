# SPDX-License-Identifier: LGPL-2.1-or-later
"""A program with a loop opens, binds and sends without waiting for anybody, and learns each outcome once."""

import errno
import os
import signal

import pytest

from library import Connection
from messaging import stopped
from renewing import process_until


pytestmark = pytest.mark.usefixtures("memory")


def test_opening_and_binding_wait_for_no_daemon(one):
    opened, bound, taken = [], [], []
    with stopped(one.pid):
        conn = Connection(one.socket, opened.append)
        conn.wait(10)
        assert not opened and conn.bind("inbox") == -errno.ENOTCONN
    process_until(lambda: opened, "it is open", conn)
    assert opened == [0]
    with stopped(one.pid):
        assert conn.bind_post("inbox", bound.append) == 0
        conn.wait(10)
        assert not bound
    process_until(lambda: bound, "it is bound", conn)
    assert bound == [0] and "inbox" in one.endpoints()
    with Connection(one.socket) as other:
        assert other.bind_post("inbox", taken.append) == 0
        process_until(lambda: taken, "it is refused", other)
        assert taken == [-errno.EEXIST] and "bound" in other.last.reason
        assert other.post("self:inbox", b"hello", taken.append) == 0
        other.wait(10)
        assert conn.receive().data == b"hello"
    conn.close()
    assert (len(opened), len(bound), len(taken)) == (1, 1, 2)


def test_opening_ends_when_the_daemon_dies(one):
    opened = []
    os.kill(one.pid, signal.SIGSTOP)  # it never goes on
    conn = Connection(one.socket, opened.append)
    one.kill()
    process_until(lambda: opened, "it has failed", conn)
    assert opened == [-errno.ECONNREFUSED]
    conn.close()


def test_a_post_ends_in_its_time(one, two):
    with Connection(one.socket) as sender, Connection(two.socket, binds="inbox") as receiver:
        outcomes = {"taken": [], "late": [], "nobody": []}
        assert sender.post_timed("2:inbox", b"first", 20000, outcomes["taken"].append) == 0
        sender.wait(10)
        assert receiver.receive().data == b"first"
        process_until(lambda: outcomes["taken"], "it was taken", sender, receiver)
        assert sender.post_timed("2:inbox", b"second", 100, outcomes["late"].append) == 0
        assert sender.post_timed("2:nobody", b"third", 20000, outcomes["nobody"].append) == 0
        process_until(lambda: outcomes["late"] and outcomes["nobody"], "each has its outcome", sender, receiver)
        assert outcomes == {"taken": [0], "late": [-errno.ETIMEDOUT], "nobody": [-errno.ENOENT]}
        assert receiver.receive(0) == -errno.EAGAIN, "what timed out is not delivered"
