# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a gateway and a guest can't do to a daemon that knows of other hosts. The hosts are those of test_hosts.py; what another
host's daemon can't do is in test_inquiries.c and test_host_watches.c."""

import contextlib
import socket

import pytest

from fake_gateway import Side
from messaging import EXIT_DENIED, EXIT_ERROR, EXIT_NO_ENDPOINT, EXIT_OK, EXIT_UNREACHABLE, GIVES_UP, PATIENCE, eventually

HOSTS_MAX = 16384


@pytest.fixture(name="gateway")
def gateway_of_one_host(hosts):
    """The daemon of a host's domain 0, and the connection of a gateway to it."""
    [node] = hosts(count=1, join=False, config=GIVES_UP)
    side = Side(hosts.path(0))
    side.say(type="state", up=True, server="fake://here")
    yield node, side
    side.socket.close()


def tell(side, names, up=True):
    for name in names:
        side.say(type="host", host=name, instance="", up=up)


def test_invented_hosts_leave_room_in_the_log(gateway):
    node, side = gateway
    node.set_policy("")
    tell(side, (f"host{number}" for number in range(1000)))
    eventually(lambda: len(node.json("hosts")) == 1001, "all are taken")
    node.send("host7/0:inbox", "x", exit_code=EXIT_DENIED)
    eventually(lambda: "denied: domain 0" in node.log.read_text(), "what others do is logged")
    assert node.log.read_text().count("is there") < 30


# ---- a gateway ----

JUNK = (b"", b"{", b"[]", b"null", b"7", b'"hello"', b'{"type":7}', b'{"type":"nothing"}', b'{"type":"host"}', b"\0", b"\xff" * 4096,
        b'{"type":"host","host":"","up":true}', b'{"type":"host","host":"-a","instance":"","up":true}',
        b'{"type":"host","host":["hostb"],"instance":{},"up":"yes"}', b'{"type":"host","host":"' + b"x" * 64 + b'","up":true}',
        b"[" * 4000, b'{"type":"connected","host":"hostb","id":1e400}', b'{"type":"incoming","host":"hostb","id":-1}')
# Those that can be read, but say what can't be.
WRONG = ({"type": "hello", "version": 2}, {"type": "welcome", "version": 1, "host": "hosta", "instance": ""},
         {"type": "connect", "host": "hostb", "id": 2}, {"type": "connected", "host": "hostb", "id": 2},
         {"type": "failed", "host": "hostb", "id": 2, "error": "EHOSTDOWN"}, {"type": "host", "host": "hosta", "instance": "", "up": True},
         {"type": "incoming", "host": "hosta", "id": 3}, {"type": "accept", "host": "hostb", "id": 4},
         {"type": "decline", "host": "hostb", "id": 4}, {"type": "failed", "host": "nobody", "id": 2 ** 53 - 1, "error": "E"})


def is_closed(side):
    try:
        while side.socket.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True


def test_what_a_gateway_says_ends_its_connection_at_most(hosts):
    [node] = hosts(count=1, join=False, config=GIVES_UP)
    Side(hosts.path(0)).socket.close()
    eventually(lambda: node.status()["hosts"]["gateway"] == "missing", "it has gone")
    before = node.descriptors()
    for junk in JUNK:
        side = Side(hosts.path(0))
        side.socket.send(junk)
        with contextlib.suppress(BrokenPipeError):  # it may be closed already
            side.say(type="state", up=True, server="fake://here")
        side.socket.close()
        eventually(lambda: node.status()["hosts"]["gateway"] == "missing", "it has gone")
    for packet in WRONG:
        side = Side(hosts.path(0))
        side.say(**packet)
        side.socket.close()
        eventually(lambda: node.status()["hosts"]["gateway"] == "missing", "it has gone")
    eventually(lambda: node.descriptors() <= before, "no descriptor is kept")
    side = Side(hosts.path(0))
    side.say(type="state", up=True, server="fake://here")
    eventually(lambda: node.json("hosts")[0]["gateway"] == "connected", "the next one is served")
    side.socket.close()


@pytest.mark.parametrize("count", (1, 3, 200))
def test_descriptors_of_a_gateway_are_closed(hosts, count):
    [node] = hosts(count=1, join=False, config=GIVES_UP)
    before = node.descriptors()
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        side = Side(hosts.path(0))
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        socket.send_fds(side.socket, [b'{"type":"incoming","host":"hostb","id":3}'], [theirs.fileno()] * count)
        theirs.close()
        assert is_closed(side)
        side.socket.close()
        ours.close()
    eventually(lambda: node.descriptors() <= before, "no descriptor is kept")


def test_a_gateway_that_tells_of_hosts_without_end_holds_nobody(gateway):
    """Of more hosts than the table has, and of the same one again and again; programs watch and send."""
    node, side = gateway
    tell(side, ["hostb"])
    process = node.popen("watch", "hostb/*")  # of a host that never answers
    tell(side, (f"n{number}" for number in range(HOSTS_MAX + 1000)))
    for number in range(3000):
        tell(side, ["hostb"], up=bool(number % 2))
    node.send("self:nobody", "x", exit_code=EXIT_NO_ENDPOINT)
    eventually(lambda: len(node.json("hosts")) == HOSTS_MAX + 1, "as many as there may be are taken")
    assert node.xenmsg("peers", "hostb").returncode == EXIT_UNREACHABLE
    assert process.wait(timeout=30 * PATIENCE) == EXIT_UNREACHABLE
    process.communicate()


# ---- a guest ----

def test_a_guest_that_asks_on_and_reads_nothing_holds_nobody(hosts):
    [nodes] = hosts(count=1, guests=2, join=False)
    nodes[1].stop()
    peer = hosts.nodes[0].host.peer(1, "grant", 0)
    try:
        for asks in ("xenmsg hosts", "hostb/0:xenmsg peers", "hosta/0:xenmsg endpoints self", "hostb/0:xenmsg watch *", "x" * 60 + " ping"):
            assert peer.ask(f"flood 1500 {asks}").startswith("ok")
            assert nodes[2].json("hosts")[0]["host"] == "hosta"
            assert nodes[0].json("hosts")[0]["host"] == "hosta"
    finally:
        peer.kill()
    eventually(lambda: not (nodes[0].link(1) or {"state": "idle"})["state"] == "up", "it has gone")
    eventually(lambda: not any((account["kind"], account["id"]) == ("peer", 1) and account["queued_bytes"]["used"]
                               for account in nodes[0].status()["accounts"]), "nothing is kept for it")


ANSWERS = ("", "{", "{}", "[", "7", '[1, "x", null, []]', "[" * 2000,
           '[{"host": 5, "domid": "x", "domain": [], "name": "\\u001b[31mred", "kind": {}, "address": 1}]',
           '[{"host": "hosta", "domid": -1, "domain": "a\\u0000b", "name": null, "kind": null, "whole": 3}]',
           '[{"domid": 1, "name": "x", "pid": 1, "uid": [], "comm": {}, "programs": 7}]')


@pytest.mark.parametrize("answer", ANSWERS, ids=range(len(ANSWERS)))
def test_what_another_hosts_domain_answers_is_a_strangers_word(hosts, tmp_path, answer):
    here, there = hosts(guests=1)
    there[1].stop()
    path = tmp_path / "answer"
    path.write_text(answer)
    peer = hosts.nodes[1].host.peer(1, "grant", 0)
    try:
        assert peer.ask("lie", path).startswith("ok")
        peer.tell("asked", 3)
        for arguments in ((), ("--json",), ("-o", "name,host")):
            done = here[0].xenmsg("endpoints", "hostb/1", *arguments)
            assert done.returncode in (EXIT_OK, EXIT_ERROR) and b"\x1b" not in done.stdout + done.stderr, done
        assert here[0].xenmsg("ping", "--count", "1", "hostb/0").returncode == EXIT_OK
    finally:
        peer.kill()
