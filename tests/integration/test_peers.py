# SPDX-License-Identifier: LGPL-2.1-or-later
"""How daemons learn of each other and of their endpoints (daemon/peers/peers.h), with programs that are a daemon's lower half."""

import errno
import itertools
import random
import signal

import pytest

from conftest import row, wait_for
from lower_half import Node, Tree, exchange, fails, link, pair, see_each_other, settle

# --- presence ---

@pytest.mark.parametrize("settled", [False, True], ids=["at once", "one after the other"])
def test_daemons_find_each_other_in_any_start_order(make_host, settled):
    for order in itertools.permutations([0, 1, 2]):
        host, nodes = make_host(), []
        with row(order):
            for domid in order:
                nodes.append(Node(host, domid, settled=settled))
                for other in nodes[:-1] if settled else []:
                    see_each_other(nodes[-1], other)
            if not settled:
                see_each_other(*nodes)


def test_a_daemon_does_not_see_itself(host):
    one, two = Node(host, 1), Node(host, 2)
    assert one.await_event("up 1", "up 2") == "up 2"
    two.end()
    assert one.await_event("up 1", "down 2") == "down 2"


def test_endless_touching_does_not_happen(host):
    """Each answers a new presence once: then XenStore is quiet."""
    nodes = pair(host, domids=(1, 2, 3)).values()
    settle(*nodes, *nodes, *nodes)
    watcher, marker = Tree(host, 0), Tree(host, 1)
    assert watcher.talk.ok("watch", "/local/domain") == 0
    settle(*nodes)
    marker.talk.ok("write", "/local/domain/1/data/mark", 1, -1, "x")
    assert watcher.talk.ask("event") == "ok /local/domain"
    assert watcher.talk.ask("event") == "ok /local/domain/1/data/mark"


def test_private_presence_shows_itself_to_the_allowed_only(host):
    hidden = Node(host, 1, "private=2")
    two, three = Node(host, 2), Node(host, 3)
    two.await_event("up 1")
    hidden.await_event("up 2")
    assert Tree(host, 2).read("/local/domain/1/data/xenmsg/presence") is None
    two.await_event("up 3")
    three.connect(1)
    fails(three, 1, errno.EHOSTDOWN)
    assert "up 1" not in three.passed_over
    link(two, hidden)


# --- endpoints ---

@pytest.mark.parametrize("watcher", [0, 1])
def test_endpoints_of_another_daemon_are_told_anew_even_if_equal(host, watcher):
    """Who hears that a daemon has gone takes its endpoints for gone, too."""
    one, two = Node(host, watcher), Node(host, 2)
    two.talk.ok("advertise", "inbox", "print")
    one.await_event("endpoints 2 inbox print")
    one.talk.process.send_signal(signal.SIGSTOP)  # it sees only what has become of it all
    two.talk.kill()
    other = Node(host, 2)
    other.talk.ok("advertise", "inbox", "print")
    one.talk.process.send_signal(signal.SIGCONT)
    one.await_event("down 2")
    one.await_event("up 2")
    one.await_event("endpoints 2 inbox print")


def test_nobody_but_the_peer_reads_what_is_meant_for_it(host):
    one, two = Node(host, 1), Node(host, 2)
    three = Tree(host, 3)
    assert three.talk.ok("watch", "/local/domain") == 0
    one.await_event("up 2")
    one.talk.ok("advertise", "secret")
    two.await_event("endpoints 1 secret")
    link(one, two)
    one.close(2)
    two.await_event("lost 1")
    Tree(host, 1).talk.ok("write", "/local/domain/1/data/mark", 1, -1, "x")
    seen = set()
    while "/local/domain/1/data/mark" not in seen:
        seen.add(three.talk.ask("event")[3:])
    assert not [path for path in seen if "/to/" in path]
    for leaf in ("", "/to", "/to/2", "/to/2/hello", "/to/2/endpoints"):
        assert three.read(f"/local/domain/1/data/xenmsg{leaf}") is None
    assert Tree(host, 2).read("/local/domain/1/data/xenmsg/to/2/endpoints") == "secret"
    assert Tree(host, 2).read("/local/domain/1/data/xenmsg/to/2") is None


# --- what is left ---

@pytest.mark.parametrize("seed", range(4))
def test_random_comings_and_goings_end_in_links(host, seed):
    """Whatever they have been through: who is there is found, and gets a link that works."""
    chance = random.Random(seed)
    nodes = {domid: Node(host, domid) for domid in (0, 1, 2)}
    for _ in range(120):
        one, other = chance.sample(sorted(nodes), 2)
        act = chance.choice(["connect", "connect", "connect", "close", "close", "breath", "kill", "end"])
        if act == "connect":
            nodes[one].connect(other)
        elif act == "close":
            nodes[one].close(other)
        elif act == "breath":
            nodes[one].close(other)
            nodes[one].connect(other)
        elif chance.random() < 0.3:
            if act == "kill":
                nodes[one].talk.kill()
            else:
                nodes[one].end()
            nodes[one] = Node(host, one, settled=chance.random() < 0.5)
    settle(*nodes.values(), *nodes.values())
    for one, other in itertools.combinations(nodes.values(), 2):
        # What is under way ends first, or it would be taken for what is asked for now. Who is asked again by the nonce under which it
        # has given up doesn't answer, and the asker goes on for ten times its time-out.
        one.close(other.domid)
        other.close(one.domid)
        wait_for(lambda a=one, b=other: a.state(b.domid) == b.state(a.domid) == "idle", "the link to end")
        one.settle()
        other.settle()
        one.passed_over.clear()
        other.passed_over.clear()
        link(one, other)
        exchange(one, other)
