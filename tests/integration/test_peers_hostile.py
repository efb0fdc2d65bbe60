# SPDX-License-Identifier: LGPL-2.1-or-later
"""What peers write into XenStore that they shouldn't, to programs that are a daemon's lower half."""

import errno

import pytest

from conftest import TIMEOUT
from lower_half import INSTANCE, ByHand, Node, Tree, exchange, fails, link, own_vchan
from messaging import eventually

BAD = ["", "x", "1", "1 ", f"1  {INSTANCE}", f"01 {INSTANCE}", "1 0123", f"-1 {INSTANCE}", f"99999999999999999999 {INSTANCE}",
       f"1 {INSTANCE[:-1]}g", "1 %ff%fe%80", f"1 {INSTANCE}%0a", "A" * 1500, "%01" * 600]


def test_bad_presence_is_absence(host):
    watchers, tree = [Node(host, domid) for domid in (0, 1)], Tree(host, 2)
    for value in BAD:
        tree.write("presence", value)
        for written, seen in ((f"1 {INSTANCE} and more", "up 2"), (value, "down 2")):
            tree.write("presence", written)
            assert [watcher.await_event("up 2", "down 2") for watcher in watchers] == [seen] * 2, value


def test_bad_hello_is_no_hello(host):
    peer = ByHand(host, 1, "timeout=600000")
    for value in BAD + [f"1 {INSTANCE}", f"1 {INSTANCE} 0123abc 1", f"1 {INSTANCE} 0123ABCD 1", f"1 {INSTANCE} 0123abcd",
                        f"1 {INSTANCE} 0123abcd 2", f"1 {INSTANCE} 0123abcd yes", f"1 {INSTANCE} ../../.. 1"]:
        peer.write("hello", value)
    peer.mark()
    assert peer.node.state(2) == "idle"
    peer.hello("0123abcd", "0 more")
    peer.await_state("await")


def test_bad_endpoints_are_none(host):
    peer = ByHand(host, 1)
    for value in ["a  b", "a b%20", ".", "a/b", "a%ffb", "b" * 64, "-a", "a%0ab", "+1 a"]:
        for written, seen in (("good", "endpoints 2 good"), (value, "endpoints 2")):
            peer.write("endpoints", written)
            assert peer.node.await_event("endpoints 2") == seen
    peer.write("endpoints", "a b +12")
    assert peer.node.await_event("endpoints 2") == "endpoints 2 a b"


def test_another_major_version_is_named(host):
    one, tree = Node(host, 1), Tree(host, 2)
    tree.write("presence", f"2 {INSTANCE} something else")
    one.connect(2)
    failed = fails(one, 2, errno.EHOSTUNREACH)
    assert "protocol 2" in failed and "same version" in failed
    tree.write("presence", f"1 {INSTANCE}")
    one.await_event("up 2")
    one.connect(2)
    tree.write("to/1/hello", "3 what ever", 1)
    failed = fails(one, 2, errno.EHOSTUNREACH)
    assert "protocol 3" in failed and "same version" in failed


@pytest.mark.parametrize("value", ["%ff", "99999"])
def test_bad_nodes_make_no_link(host, value):
    """No number (test_peers_parse.c has more of these), or one that leads nowhere."""
    peer = ByHand(host, 1, "timeout=500")
    peer.offer(value, value)
    fails(peer.node, 2, errno.EHOSTUNREACH)
    assert host.domain(1)["event_channels"]["used"] == 0 and host.domain(1)["mapped_pages"] == 0


def test_rings_of_impossible_size_make_no_link(host):
    peer, xen = ByHand(host, 1, "timeout=600000"), host.xen(2)
    memory, ref = xen.ok("share", 1, 1, 1)
    handle = xen.ok("evtchn-open")
    xen.ok("poke", memory, 16, 40)
    peer.offer(ref, xen.ok("bind-unbound", handle, 1))
    assert "impossible" in fails(peer.node, 2, errno.EHOSTUNREACH)


def test_nodes_may_appear_one_after_the_other(host):
    peer = ByHand(host, 1, "timeout=600000")
    own = own_vchan(host, 2)
    peer.offer(*own.ok("serve", 1, 4096, 4096))
    assert peer.node.await_event("connected 2", "failed 2") == "connected 2 mapped 3"
    assert own.ok("awaitstate", 1) == 0
    peer.tree.remove("to/1/hello")
    peer.node.await_event("lost 2")
    assert own.ok("awaitstate", 2) == 0


def test_a_peer_that_connects_and_goes_gets_no_second_grant(host):
    """A hostile mapper can't make the granter work in a loop."""
    peer = ByHand(host, 3, "timeout=600000")
    peer.node.connect(2)
    peer.hello("0123abcd")
    own = own_vchan(host, 2)
    assert own.ok("map", 3, *peer.nodes("0123abcd")) == 0
    assert own.ok("close") == 0
    peer.node.close(2)
    eventually(lambda: peer.node.talk.ok("granted") == 0, "the mapper has let go of it")
    peer.node.connect(2)
    peer.await_state("granted")
    granted = peer.node.talk.ok("granted")
    # The same hello again, as a dead daemon's would stay: nothing more is granted for it.
    peer.hello("0123abcd")
    peer.mark()
    assert peer.node.state(2) == "granted" and peer.node.talk.ok("granted") == granted > 0


@pytest.mark.parametrize("way, bound", [("hoard", 3 * 33), ("hoard-lying", 4096 + 10 * 33)])
def test_a_peer_that_keeps_its_mappings_gets_the_same_pages(host, way, bound):
    """Without a new nonce's pages being new ones: of 9900 that it could keep, and the domain's disk and network would lack."""
    three = Node(host, 3, "timeout=600000")
    attack = host.converse(2, "hostile-peer", 3, way, env=host.FOR_STOCK)
    line = attack.first
    while line != "KEPT 300":
        line = attack.answer()
    assert host.domain(3)["grants"]["entries"] <= bound
    assert host.domain(3)["grants"]["used_pages"] <= 3 * 33
    attack.process.stdin.close()
    assert attack.process.wait(TIMEOUT) == 0
    # What its process had mapped may be let go of only now, also a vchan that is given to the next one. Who has said that it had
    # let go, and hadn't, may have to wait for a set-up's time-out: that is its own domain.
    if way == "hoard":
        two = Node(host, 2)
        link(two, three)  # domain 3 may not yet have heard that somebody else is there
        exchange(three, two)


def test_a_peer_that_crashes_and_returns_has_its_link_each_time(host):
    three = Node(host, 3)
    for _ in range(20):
        two = Node(host, 2, settled=False)
        link(two, three)
        exchange(three, two)
        assert host.domain(3)["grants"]["entries"] == 33
        two.talk.kill()


def test_a_hello_of_an_earlier_daemon_is_not_answered(host):
    one, tree = Node(host, 1), Tree(host, 2)
    tree.write("to/1/hello", f"1 {INSTANCE[::-1].replace('-', '0')[:8]}-{INSTANCE[9:]} 0123abcd 0", 1)
    one.await_event("up 2")
    tree.write("presence", f"1 {INSTANCE}")
    one.await_event("down 2")
    one.await_event("up 2")
    tree.write("to/1/endpoints", "mark", 1)
    one.await_event("endpoints 2 mark")
    assert one.state(2) in ("idle", "hello")
    assert host.domain(1)["mapped_pages"] == 0


def test_a_peer_that_changes_its_leaves_costs_bounded_work(host):
    one, tree = Node(host, 1), Tree(host, 2)
    for number in range(300):
        tree.write("presence", f"1 {INSTANCE[:-4]}{number:04x}")
    tree.write("to/1/endpoints", "mark", 1)
    one.await_event("endpoints 2 mark")
    assert one.talk.ok("events") < 1200
    three = Node(host, 3)
    one.await_event("up 3")
    link(one, three)
