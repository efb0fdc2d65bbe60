# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs written for vchans run over xenmsg unchanged (vchan/): check-vchan, which knows libxenvchan alone, Debian's
vchan-socket-proxy, and libvchan's interface. What both have is compared with stock libxenvchan."""

import errno
import glob
import os
import socket
import subprocess
import threading

import pytest

from conftest import Conversation, row
from frames import receive_exactly
from installed import is_sanitized, program
from messaging import PATIENCE, EXIT_DENIED, eventually, tool

PATH = "data/vchan/2/7"
FAR = f"/local/domain/1/{PATH}"
NAME = "vchan-2-7"
GONE, OPEN, WAITS = range(3)
PROXY = next(iter(sorted(glob.glob("/usr/lib/xen-*/bin/vchan-socket-proxy"))), None)


def converse(node, *words):
    """check-vchan, by xenmsg vchan."""
    process = node.popen_command(tool("xenmsg"), "vchan", "--", program("check-vchan"), *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    talk = Conversation(process)
    talk.first = talk.answer()
    return talk


def server(node, left=65536, right=65536, path=PATH, peer=2):
    talk = converse(node, "server", peer, path, left, right)
    assert talk.first == "ok 0", talk.first
    return talk


def client(node, path=FAR):
    talk = converse(node, "client", 1, path)
    assert talk.first == "ok 0", talk.first
    return talk


def goes(talk, *words, wanted):
    eventually(lambda: talk.ok(*words) == wanted, f"{words} is {wanted}")


def is_readable(talk, within=0):
    """Whether an event was there, which is taken then."""
    return talk.ok("wait", within) == 1


def awaits(talk, *words, wanted):
    """As a program does that sleeps until there is an event."""
    while talk.ok(*words) != wanted:
        assert talk.ok("wait", int(30000 * PATIENCE)) == 1, f"no event, and {words} isn't {wanted}"


@pytest.mark.skipif(not PROXY or is_sanitized(), reason="needs vchan-socket-proxy (xen-utils-4.17), and no sanitizer, which it isn't built with")
def test_the_proxy_of_debian_serves_client_after_client(one, two, tmp_path):
    paths = [str(tmp_path / end) for end in ("far", "near")]
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(paths[0])
    listener.listen()
    one.popen("vchan", "--", PROXY, "-m", "server", "2", PATH, paths[0], binds=NAME)
    two.popen("vchan", "--", PROXY, "1", FAR, paths[1])
    eventually(lambda: os.path.exists(paths[1]), "the client's socket")
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as near:
            eventually(lambda near=near: near.connect_ex(paths[1]) == 0, "the client listens")
            far, _ = listener.accept()
            with far:
                data = os.urandom(300000)
                threading.Thread(target=near.sendall, args=(data,)).start()
                assert receive_exactly(far, len(data)) == data
                far.sendall(data[:100000])
                assert receive_exactly(near, 100000) == data[:100000]
                near.close()
                assert far.recv(1) == b""


@pytest.fixture(name="ends", params=["stock", "ours"])
def both_ends(request, host, nodes):
    """A server in domain 1 with rings of 4096 bytes and its client in domain 2, by stock libxenvchan and by ours."""
    if request.param == "stock":
        far = host.vchan_server(1, 2, PATH, 4096, 4096)
        return far, lambda: host.vchan_client(2, 1, FAR)
    both = nodes(1, 2)
    return server(both[1], 4096, 4096), lambda: client(both[2])


def test_what_is_written_before_the_client_comes_is_delivered(ends):
    far, connect = ends
    assert far.ok("open") == WAITS and far.ok("space") == 4096
    assert far.ok("write", 100) == 100 and far.ok("space") == 3996
    near = connect()
    assert near.ok("recv", 100) == 100
    awaits(far, "space", wanted=4096)
    assert far.ok("open") == OPEN and near.ok("open") == OPEN


def test_the_descriptor_tells_of_each_new_byte_once(ends):
    far, connect = ends
    near = connect()
    awaits(far, "open", wanted=OPEN)
    while is_readable(far, 50):
        pass
    assert far.ok("ready") == 0
    near.ok("write", 10)
    assert is_readable(far, 10000) and not is_readable(far, 100)
    assert far.ok("ready") == 10  # it is told though they are unread
    near.ok("write", 1)
    assert is_readable(far, 10000) and not is_readable(far)
    assert far.ok("recv", 11) == 11


def test_all_or_nothing_and_blocking_as_there(ends):
    far, connect = ends
    near = connect()
    for end in (far, near):
        end.ok("blocking", 0)
    assert near.ok("read", 10) == 0 and near.ok("recv", 10) == 0
    assert far.ok("send", 5000) == 0  # larger than the ring
    assert far.ok("send", 4000) == 4000
    goes(near, "ready", wanted=4000)
    assert near.ok("recv", 4001) == 0 and near.ok("recv", 4000) == 4000
    far.ok("blocking", 1)
    assert far.ask("send", 5000).startswith("error")


def test_room_is_told_after_a_short_write(ends):
    """To a reader that doesn't read, so that it must come to that, and then reads all."""
    far, connect = ends
    near = connect()
    far.ok("blocking", 0)
    sent = 0
    while (n := far.ok("write", 1 << 20)) > 0 or far.ok("wait", 200) > 0:
        sent += n
    assert sent >= 4096
    assert 0 <= far.ok("space") < 4096
    got = 0
    while got < sent:
        got += near.ok("read", 65536)
    awaits(far, "space", wanted=4096)


def test_an_end_is_seen_at_once_and_what_came_before_is_read(ends):
    far, connect = ends
    near = connect()
    assert near.ok("write", 1000) == 1000
    near.ok("close")
    awaits(far, "open", wanted=GONE)
    assert far.ok("ready") == 1000 and far.ask("write", 1).startswith("error")  # which isn't an end of reading
    assert far.ok("recv", 1000) == 1000
    assert far.ask("read", 1).startswith("error")
    near = connect()
    awaits(far, "open", wanted=OPEN)
    assert near.ok("text", "again") == 5
    assert far.ok("gettext", 9) == "again"
