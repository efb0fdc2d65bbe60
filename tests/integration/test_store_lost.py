# SPDX-License-Identifier: LGPL-2.1-or-later
"""A daemon whose connection to XenStore is lost misses events, and can't read or write: what it missed it looks for afterwards."""

import contextlib
import os
import random
import threading
import time

import pytest

from frames import RESET
from lower_half import Tree, exchange, pair
from messaging import FAST, PATIENCE, TOLD_WATCHES, eventually, works
from protocol import Program
from test_discovery import all_are_told, watches


@contextlib.contextmanager
def away(node):
    """XenStore can't be connected to meanwhile, from this domain."""
    path = node.run_command("printenv", "XENSTORED_PATH").stdout.decode().strip()
    lost = "the connection to XenStore is lost"
    before = node.log.read_text().count(lost)
    os.rename(path, path + ".away")
    try:
        node.host.fault("lose-store", node.domid)
        with Program(node.socket) as program:
            program.open("77:x")  # by which it notices at once
            program.expect(RESET)
        eventually(lambda: node.log.read_text().count(lost) > before, "it notices")
        yield
    finally:
        os.rename(path + ".away", path)


def known_endpoints(node, domid):
    """What it knows of them by itself: it isn't made to ask."""
    return next((peer["endpoints"] for peer in node.status()["peers"] if peer["domid"] == domid and peer["up"]), None)


def sees(node, domid):
    return known_endpoints(node, domid) is not None


@pytest.mark.slow
def test_an_end_that_nothing_asks_for_is_noticed(host, one, two):
    host.fault("lose-store", 1)
    eventually(lambda: "connected to XenStore again" in one.log.read_text(), "it notices", 30)
    works(two, one)


def test_what_domain_0_tells_meanwhile_is_read_afterwards(host, nodes, zero, one, two):
    works(one, two)
    all_are_told(host, 2, met=1)
    with Program(two.socket) as program:
        with away(one):
            program.bind("print")
            eventually(lambda: "print" in known_endpoints(nodes.by_domid[0], 2), "domain 0 sees it")
            works(one, two)  # by their link, on which nothing is told after this
        eventually(lambda: "print" in known_endpoints(one, 2), "it is seen")
    with away(one):
        two.stop()
    eventually(lambda: known_endpoints(one, 2) is None, "its end is seen")
    assert watches(host, 1) <= TOLD_WATCHES + 1


def test_who_asks_meanwhile_is_answered_afterwards(host, nodes):
    _, one, two = nodes(0, 1, 2, start=False).values()
    one.policy = "[rule]\nfrom = 2\nto = secret\naction = allow\n"
    for node in nodes.by_domid.values():
        node.start()
    all_are_told(host, 2)
    tree = Tree(host, 2)
    with Program(one.socket) as program:
        program.bind("secret")
        with away(one):
            watch = two.popen("watch", "*:secret")
            eventually(lambda: tree.read("/local/domain/2/data/xenmsg/asks") is not None, "it asks")
        assert b"secret" in watch.stdout.readline()


@pytest.mark.parametrize("domid", [0, 1, 2])
@pytest.mark.parametrize("told", [True, False], ids=["told", "not told"])
def test_a_message_waits_until_there_is_a_connection_again(host, nodes, domid, told):
    every = nodes(*range(0 if told else 1, 3))
    if not told and domid == 0:
        pytest.skip("there is no daemon")
    if told:
        all_are_told(host, 2)
    inbox = every[2].receiver("inbox", "--count", "1")
    with away(every[domid]):
        send = every[1].popen("send", "2:inbox", "hello")
        eventually(lambda: every[1].status()["links"], "it wants a link")
    assert inbox.output() == b"hello\n"
    assert send.wait(timeout=30 * PATIENCE) == 0, send.stderr.read()


def test_a_link_comes_about_whenever_a_connection_is_lost(host):
    """Without a seed of its own: the moments are never the same."""
    one, two = pair(host, "timeout=20000").values()
    for turn in range(12):
        loses = threading.Thread(target=host.fault, args=("lose-store", 1 + turn % 2))
        loses.start()
        time.sleep(random.uniform(0, 0.02))
        one.connect(2)
        for node in (one, two):
            node.connect(77)  # it notices by that
        for node in (one, two):
            other = 3 - node.domid
            said = node.await_event(f"connected {other}", f"failed {other}")
            assert said.startswith("connected"), said
        exchange(one, two)
        one.close(2)
        two.await_event("lost 1")
        two.close(1)
        loses.join()
        eventually(lambda: host.domain(1 + turn % 2)["xenstore"]["watches"] > 0, "it watches again")


def test_a_wish_that_ends_without_a_connection_is_gone_later(host):
    one, two = pair(host, "timeout=20000").values()
    one.connect(2)
    for node in (one, two):
        node.await_event(f"connected {3 - node.domid}")
    host.fault("lose-store", 1)
    one.close(2)  # it notices by that
    two.await_event("lost 1")


@pytest.mark.unless(relayed="zero")
def test_what_is_to_be_watched_meanwhile_is_watched_afterwards(host, nodes):
    zero, one, three = nodes(0, 1, 3, start=False).values()
    zero.start()
    one.start()
    all_are_told(host, 1)
    with away(one):
        zero.stop()
        eventually(lambda: not any(link["state"] == "up" for link in one.status()["links"]), "its link with domain 0 ends")
    eventually(lambda: watches(host, 1) > TOLD_WATCHES, "it watches all for itself")
    three.start()
    one.sees(three)
    works(three, one)


PRIVATE = FAST + "presence = private\npeers = 1\n"


def test_a_later_domain_0_tells_of_a_hidden_domains_end(host, nodes):
    zero, one, hidden = nodes(0, 1, 2, start=False).values()
    hidden.config = PRIVATE
    hidden.start()
    one.start()
    eventually(lambda: sees(one, 2), "it is seen")
    zero.start()
    all_are_told(host, 1)
    assert sees(one, 2)
    host.sim("destroy", 2)
    hidden.kill()
    eventually(lambda: not sees(one, 2), "its end is seen")
    assert watches(host, 1) <= TOLD_WATCHES


def test_domain_0_tells_what_a_hidden_domain_wrote_meanwhile(host, nodes):
    zero, one, hidden = nodes(0, 1, 2, start=False).values()
    hidden.config = PRIVATE
    zero.start()
    one.start()
    all_are_told(host, 1)
    tree = Tree(host, 2)
    with away(zero):
        hidden.start()
        eventually(lambda: tree.read("/local/domain/2/data/xenmsg/to/1/endpoints") is not None, "it has written for domain 1")
    eventually(lambda: sees(one, 2), "it is seen")


@pytest.mark.slow
def test_what_is_shown_meanwhile_is_written_as_soon_as_it_can_be(one, two):
    works(one, two)
    with Program(one.socket) as program:
        with away(one):
            for name in range(5):  # each is tried to be written, in vain
                program.bind(f"print{name}")
                two.run_command("sleep", "1")
        eventually(lambda: "print4" in known_endpoints(two, 1), "it is seen", 4)
