# SPDX-License-Identifier: LGPL-2.1-or-later
"""doc/protocol.md is enough to implement the link from: a peer in Python, on stock libxenvchan and libxenstore, and a real
daemon meet, and programs at the daemon exchange messages with it; with either as the one that grants."""

import errno
import os
import subprocess
import uuid

import pytest

from library import Connection
from messaging import FAST, Node, eventually
from renewing import post, process_until, renew, took_over


def pattern(size):
    return bytes((i * 5 + size) & 0xFF for i in range(size))


@pytest.fixture(name="met", params=["grant", "map"])
def met_peer(request, host, tmp_path):
    """(a node with a daemon, the domid of the peer, a conversation with the peer once the link is up)"""
    yield from meet(request.param, host=host, tmp_path=tmp_path)


@pytest.fixture(name="met_to_resume", params=["grant", "map"])
def met_peer_that_resumes(request, host, tmp_path):
    yield from meet(request.param, "resume", host=host, tmp_path=tmp_path)


@pytest.fixture(name="met_to_move", params=["grant", "map", "grant resume", "map resume"])
def met_peer_that_moves(request, host, tmp_path):
    role, *version = request.param.split()
    yield from meet(role, *version, host=host, tmp_path=tmp_path, config="ring-size = 4K\nmax-ring-size = 64K\n")


def meet(role, *version, host, tmp_path, config=""):
    # Of two that are willing the lower domid maps.
    domid, other = (1, 2) if role == "grant" else (2, 1)
    node = Node(host, domid, tmp_path, FAST + config).start()
    try:
        yield node, other, host.peer(other, role, domid, *version)
        assert node.alive()
        node.stop()
        assert host.domain(domid)["grants"]["used_pages"] == host.domain(domid)["mapped_pages"] == 0
    finally:
        node.end()
        print(node.log.read_text())


def link_of(node):
    links = node.status()["links"]
    return links[0] if links else None


def test_both_greet_and_hear_each_others_heartbeat(met):
    node, other, peer = met
    link = link_of(node)
    assert link["peer"]["domid"] == other and link["peer"]["version"] == "python" and link["state"] == "up"
    assert peer.ask("pinged").startswith("ok")
    assert peer.ask("ping").startswith("ok acknowledged")
    assert node.xenmsg("ping", str(other), "--count", "2").returncode == 0
    assert peer.ask("close") == "ok closed"
    eventually(lambda: not link_of(node) or link_of(node)["state"] == "idle", "the link is idle")


def test_messages_go_from_the_peer_to_programs_at_the_daemon(met, tmp_path):
    node, _, peer = met
    sizes = [0, 5, 8, 70000, 500000]
    with open(tmp_path / "received", "wb") as file:
        receiver = node.receiver("inbox", "--count", len(sizes), "--raw", stdout=file)
    for size in sizes:
        assert peer.ask("send", "inbox", size) == "ok delivered"
    receiver.output()
    assert (tmp_path / "received").read_bytes() == b"".join(map(pattern, sizes))
    assert peer.ask("send", "nobody", 5) == f"ok reset {errno.ENOENT}"
    assert peer.ask("channels") == "ok none"


def test_messages_go_from_programs_at_the_daemon_to_the_peer(met):
    node, other, peer = met
    for size in (0, 5, 8, 70000, 500000):
        node.send(f"{other}:echo", None, data=pattern(size))
        assert peer.ask("take", size) == f"ok echo {os.getuid()}"
    assert peer.ask("channels") == "ok none"


def test_a_session_goes_on_over_another_vchan_as_documented(met_to_resume):
    node, other, peer = met_to_resume
    with node.receiver("inbox", "--count", "6", stdout=subprocess.DEVNULL).process as receiver:
        for times in range(3):
            assert peer.ask("send", "inbox", 5) == "ok delivered"
            assert peer.ask("resume").startswith("ok again")
            eventually(lambda times=times: link_of(node)["resumes"] == times + 1, "the link is resumed")
            assert peer.ask("send", "inbox", 70000) == "ok delivered"
            node.send(f"{other}:echo", None, data=pattern(9000))
            assert peer.ask("take", 9000) == f"ok echo {os.getuid()}"
            assert peer.ask("ping").startswith("ok acknowledged")
        assert receiver.wait(30) == 0
    assert peer.ask("channels") == "ok none"


LIES = {"secret": 0, "more": -errno.EHOSTUNREACH, "less": 0}


@pytest.mark.parametrize("lie", LIES)
def test_who_lies_after_a_hand_over_harms_its_own_session(met_to_resume, lie):
    """What can't be believed (it doesn't know the secret, or takes back what it has processed) ends the attempt, and the session waits on.
    Who says that it has processed more than was sent ends the session, with what is certain."""
    node, other, peer = met_to_resume
    receiver, outcomes = node.receiver("inbox", stdout=subprocess.DEVNULL), []
    assert peer.ask("send", "inbox", 70000) == "ok delivered"
    node.send(f"{other}:echo", None, data=pattern(9000))
    assert peer.ask("take", 9000) == f"ok echo {os.getuid()}"
    assert peer.ask("ping").startswith("ok acknowledged")
    with Connection(node.socket) as sender:
        peer.tell("left")
        renew(node)
        assert peer.answer() == "ok left"
        post(f"{other}:echo", pattern(9000), outcomes, sender)
        assert peer.ask("resume", lie) == "ok left"
        node.send("self:inbox", "others go on")
        if LIES[lie] == 0:
            assert peer.ask("resume").startswith("ok again")
            assert peer.ask("take", 9000).startswith("ok echo")
        process_until(lambda: outcomes, "it has ended", sender)
    assert outcomes == [LIES[lie]]
    assert receiver.process.poll() is None and took_over(node) == 1
    receiver.stop()


def shown_to(host, domid, role, victim, instance):
    """What the daemon shows a domain that shows this instance, and names no session."""
    peer = host.peer(domid, role, victim, "resume", "as", instance)
    impression = peer.ask("impression")
    assert impression.startswith("ok [")
    assert peer.ask("ping").startswith("ok acknowledged")
    assert peer.ask("close") == "ok closed"
    assert peer.process.wait(30) == 0
    return impression


@pytest.mark.parametrize("role", ["grant", "map"])
def test_a_third_domain_sees_the_same_with_or_without_a_session(role, host, tmp_path):
    stranger, victim = (2, 1) if role == "grant" else (1, 2)
    with_daemons = [Node(host, domid, tmp_path, FAST).start() for domid in (victim, 3)]
    one, other = with_daemons
    with other.receiver("inbox", "--count", "1", stdout=subprocess.DEVNULL).process as receiver:
        one.send("3:inbox", "hello")
        assert receiver.wait(30) == 0
    instance = other.status()["instance"]
    shown = [shown_to(host, stranger, role, victim, which) for which in (instance, str(uuid.uuid4()), instance)]
    assert shown[0] == shown[1] == shown[2]
    session = one.link(3)
    assert (session["state"], session["resumes"]) == ("up", 0)
    for node in with_daemons:
        node.end()


def exchange(node, other, peer, size):
    assert peer.ask("send", "inbox", size) == "ok delivered"
    node.send(f"{other}:echo", None, data=pattern(size))
    assert peer.ask("take", size) == f"ok echo {os.getuid()}"


def test_a_session_moves_to_other_rings_as_the_document_says(met_to_move):
    node, other, peer = met_to_move
    receiver = node.receiver("inbox", stdout=subprocess.DEVNULL)
    if link_of(node)["role"] == "maps":
        sizes = (1 << 20, 16384, 32768, 262144)
        for times, size in enumerate(sizes, 1):
            exchange(node, other, peer, 9000)
            while (answer := peer.ask("move", size)) == "ok declined":  # a third one within 2 s is
                assert times > 2
            assert answer == " ".join(map(str, ("ok", *sizes[:times])))
            eventually(lambda size=size: link_of(node)["ring_bytes"] == size, "it says so")
    else:
        while link_of(node)["moves"] == 0:
            node.send(f"{other}:echo", None, data=pattern(2 << 20))
            assert peer.ask("take", 2 << 20).startswith("ok")
        assert peer.ask("moved").startswith("ok 65536")  # and to small ones again, if nothing came for some seconds
        eventually(lambda: peer.ask("moved").endswith(f' {link_of(node)["ring_bytes"]}'), "it says so")
    exchange(node, other, peer, 3000)
    assert peer.ask("ping").startswith("ok acknowledged")
    assert link_of(node)["resumes"] == 0
    receiver.stop()


def test_who_resumes_moves_and_unmaps_nothing_has_three_vchans(host, tmp_path):
    """Each resume would pin 17 pages more, and each move 33. What it gets instead is what it has still mapped, and its kernel,
    which is to tell of the end of the mapping by the same port, doesn't bind that once more: so it comes to an end by itself."""
    for node, _, peer in meet("map", "resume", "keep", config="ring-size = 32K\nmax-ring-size = 64K\n", host=host, tmp_path=tmp_path):
        receiver, entries = node.receiver("inbox", stdout=subprocess.DEVNULL), []
        while len(entries) < 24:
            answer = peer.ask(*(("resume",) if len(entries) % 2 else ("send", "inbox", 1 << 20)))
            if answer.startswith("error no vchan"):
                break
            assert answer.startswith(("ok again", "ok delivered")), answer
            entries.append(host.domain(node.domid)["grants"]["entries"])
        assert len(entries) >= 2 and max(entries) <= 3 * 33, entries
        receiver.stop()


def test_a_peer_that_does_not_resume_leaves_for_good(met):
    node, _, peer = met
    assert peer.ask("close") == "ok closed"
    eventually(lambda: not link_of(node) or link_of(node)["state"] == "idle", "the link is idle, and not away")
