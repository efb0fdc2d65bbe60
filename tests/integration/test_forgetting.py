# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two that had to do with each other and have no more leave nothing in XenStore, and find each other again when they have."""

import json
import random

import pytest

from conftest import wait_for
from lower_half import INSTANCE, Node, Tree, exchange, link, settle
from messaging import FAST, TOLD_WATCHES, eventually, start_all
from protocol import Program

FEW = ("few=yes", "forget=300")


def written(host, writer, reader):
    return Tree(host, 0).read(f"/local/domain/{writer}/data/xenmsg/to/{reader}")


def watches(host, domid):
    return host.domain(domid)["xenstore"]["watches"]


def meet_and_part(one, two):
    link(one, two)
    exchange(one, two)
    one.close(two.domid)
    two.close(one.domid)


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("first, forgets", [(1, (1,)), (1, (1, 3)), (3, (1, 3)), (3, (3,))])
def test_peers_that_are_idle_are_forgotten_by_both(host, zero, first, forgets):
    """Who wanted to know the other begins, and the other one follows."""
    if zero:
        Node(host, 0)
    one, two = (Node(host, domid, "few=yes", *(["forget=300"] if domid in forgets else [])) for domid in (1, 3))
    for node in (one, two) if zero else ():
        node.await_event("up 0")
        node.settle()
    before = watches(host, 1), watches(host, 3)
    meet_and_part(*((one, two) if first == 1 else (two, one)))
    one.await_event("forgotten 3")
    two.await_event("forgotten 1")
    settle(one, two)
    for node, other in ((one, 3), (two, 1)):
        assert f"down {other}" not in node.passed_over
        assert node.talk.ok("nodes") == (2 if zero else 1)  # what everybody may read, and domain 0's leaf
        assert written(host, node.domid, other) is None
    assert (watches(host, 1), watches(host, 3)) == before
    meet_and_part(two, one)


def test_who_did_not_begin_waits_for_who_did(host):
    """Else what domain 1 wants to know of it would vanish."""
    one, two, three = Node(host, 1, "few=yes"), Node(host, 2, *FEW), Node(host, 3, *FEW)
    meet_and_part(one, two)
    for _ in range(2):
        meet_and_part(two, three)
        two.await_event("forgotten 3")
    assert "forgotten 1" not in two.passed_over
    assert written(host, 2, 1) is not None


def test_who_is_needed_again_is_known_again_and_notices_nothing(host):
    one, two = Node(host, 1, *FEW), Node(host, 2)  # which wants to know all
    one.talk.ok("advertise", "inbox")
    two.await_event("endpoints 1 inbox")
    meet_and_part(one, two)
    one.await_event("forgotten 2")
    one.await_event("up 2")
    one.await_event("up 2")
    wait_for(lambda: Tree(host, 2).read("/local/domain/1/data/xenmsg/to/2/endpoints") == "inbox", "it is told again")
    one.talk.ok("advertise", "inbox", "outbox")
    assert two.await_event("endpoints 1") == "endpoints 1 inbox outbox"
    assert not {"down 1", "forgotten 1", "endpoints 1"} & set(two.passed_over)
    # And so it stays: others come and go meanwhile.
    three = Node(host, 3, *FEW)
    for _ in range(2):
        meet_and_part(one, three)
        one.await_event("forgotten 3")
    assert "forgotten 2" not in one.passed_over


def test_what_was_removed_makes_nobody_known(host):
    """It costs one request to see that nothing is there any more."""
    one, hand = Node(host, 1, *FEW), Tree(host, 2)
    hand.write("presence", f"1 {INSTANCE}")
    one.connect(2)
    one.await_event("up 2")
    hand.write("to/1/endpoints", "print", 1)
    one.await_event("endpoints 2 print")
    one.close(2)
    one.await_event("forgotten 2")
    one.settle()
    before = host.domain(1)["xenstore"]
    hand.remove("to/1/endpoints")
    one.settle()  # which looks three leaves up itself
    after = host.domain(1)["xenstore"]
    assert after["requests"] - before["requests"] <= 5
    assert after["writes"] == before["writes"]
    assert "up 2" not in one.passed_over
    hand.write("to/1/endpoints", "scan", 1)
    one.await_event("up 2")
    one.await_event("endpoints 2 scan")


def test_those_whom_a_private_daemon_shows_itself_are_kept(host):
    hidden, two = Node(host, 1, "private=2", *FEW), Node(host, 2, *FEW)
    meet_and_part(hidden, two)
    three = Node(host, 3, *FEW)
    for _ in range(2):
        meet_and_part(two, three)
        two.await_event("forgotten 3")
    settle(hidden, two)
    assert "forgotten 1" not in two.passed_over and "forgotten 2" not in hidden.passed_over
    assert written(host, 1, 2) is not None


@pytest.mark.parametrize("seed", range(3))
def test_who_is_being_forgotten_can_be_reached(host, seed):
    """At any moment of it, by either."""
    pick = random.Random(seed)
    nodes = [Node(host, domid, "few=yes", f"forget={pick.choice((1, 5, 20))}") for domid in (1, 2, 3)]
    for _ in range(40):
        one, two = pick.sample(nodes, 2)
        meet_and_part(one, two)
        for _ in range(pick.randrange(8)):
            pick.choice(nodes).settle()


@pytest.mark.parametrize("zero", [pytest.param(False, marks=pytest.mark.unless(relayed="zero", strict="zero")), True])
def test_daemons_forget_each_other_some_time_after_their_link(host, nodes, zero):
    """Both begin with a link of which nothing remains; what it costs to forget is counted."""
    every = nodes(*([0] if zero else []), 1, 2, start=False, config=FAST + "idle-close = 1s\n")
    start_all(*every.values())
    one, two = every[1], every[2]
    if zero:
        eventually(lambda: watches(host, 1) <= TOLD_WATCHES and watches(host, 2) <= TOLD_WATCHES, "domain 0 tells both")

    def state(node):
        found = host.domain(node.domid)["xenstore"]
        return found["nodes"], found["watches"], [peer["domid"] for peer in node.status()["peers"]]

    def answers():
        process = one.popen("ping", "--count", "1000000", "--interval", "0.05", "2")  # so that the link isn't idle meanwhile
        assert process.stdout.readline().startswith(b"2: ")
        assert written(host, 1, 2) is not None
        process.terminate()
        process.wait()
    answers()
    eventually(lambda: written(host, 1, 2) is None and written(host, 2, 1) is None, "nothing is left")
    before = state(one), state(two)
    assert before[0][2] == before[1][2] == ([0] if zero else [])
    requests = host.domain(1)["xenstore"]["requests"]
    answers()
    eventually(lambda: (state(one), state(two)) == before, "nothing is left once more")
    assert written(host, 1, 2) is None and written(host, 2, 1) is None
    assert host.domain(1)["xenstore"]["requests"] - requests < 50


@pytest.mark.unless(away="zero")  # by whose absence each of them tells the other that it is needed
def test_a_watch_hears_nothing_of_who_forgets(host, nodes):
    """Domain 1 has an endpoint for domain 2 alone, and no use for it; a program there watches."""
    every = nodes(0, 1, 2, start=False)
    zero, one, two = every.values()
    for node in (zero, one, two):
        node.config = "[daemon]\nlog-level = debug\n" + FAST + "idle-close = 1s\n"
        node.start()
    one.set_policy("[rule]\nfrom = 2\nto = secret-*\naction = allow\n")
    eventually(lambda: watches(host, 1) <= TOLD_WATCHES and watches(host, 2) <= TOLD_WATCHES, "domain 0 tells both")
    with Program(one.socket) as program:
        program.bind("secret-1")
        watch = two.popen("watch", "1:*", "--json")
        seen = []
        while "secret-1" not in seen:
            seen.append(json.loads(watch.stdout.readline()).get("name"))
        eventually(lambda: "domain 2 is forgotten" in one.log.read_text(), "domain 1 forgets domain 2")
        eventually(lambda: "there" in one.log.read_text().split("domain 2 is forgotten")[1], "it knows it again")
        program.bind("secret-2")
        event = {"event": "listed"}
        while event["event"] == "listed":
            event = json.loads(watch.stdout.readline())
        assert (event["event"], event["name"]) == ("up", "secret-2")
