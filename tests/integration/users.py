# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs of other users, which are this one in a process of their own."""

import json
import os

import pytest

from library import Connection, load
from messaging import PATIENCE, open_to_others
from polling import readable


def become(uid, groups=()):
    os.setgroups(groups)
    os.setgid(uid)
    os.setuid(uid)


def as_user(uid, node, work, groups=()):
    """What work(path of the socket) returns for this user, as JSON can tell."""
    open_to_others(node)
    Connection.library = Connection.library or load()  # while it can be read
    results, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(results)
            become(uid, groups)
            with os.fdopen(write, "w", encoding="utf-8") as out:
                json.dump(work(node.socket), out)
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(results, encoding="utf-8") as told:
        text = told.read()
    assert os.waitpid(pid, 0)[1] == 0, text
    return json.loads(text)


class User:
    """A process of another user: work(path, tell, stopped) in it, where tell(value) is what next() returns here, and
    stopped(timeout) waits for so many seconds, None: for ever, for the end that it returns."""

    def __init__(self, uid, node, work):
        open_to_others(node)
        Connection.library = Connection.library or load()  # while it can be read
        self.results, write = os.pipe()
        self.told = b""
        stop, self.stop = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self.stop)
                os.nice(10)  # the CPUs are shared by the kernel; this is about what the daemon shares
                become(uid)
                with os.fdopen(write, "w", buffering=1, encoding="utf-8") as out:
                    work(node.socket, lambda value: out.write(json.dumps(value) + "\n"),
                         lambda timeout=0: bool(readable([stop], timeout)))
            finally:
                os._exit(0)
        os.close(write)
        os.close(stop)

    def says_more(self, seconds):
        return b"\n" in self.told or bool(readable([self.results], seconds))

    def next(self):
        while b"\n" not in self.told:
            assert self.says_more(30 * PATIENCE), "the user's process says nothing"
            more = os.read(self.results, 65536)
            assert more, "the user's process has died"
            self.told += more
        line, self.told = self.told.split(b"\n", 1)
        return json.loads(line)

    def end(self):
        if self.pid:
            os.write(self.stop, b"!")  # an end of file wouldn't do: users that came later have this end, too
            os.waitpid(self.pid, 0)
            os.close(self.stop)
            os.close(self.results)
            self.pid = None


@pytest.fixture(name="user")
def users():
    started = []

    def start(*arguments):
        started.append(User(*arguments))
        return started[-1]
    yield start
    for each in started:
        each.end()
