# SPDX-License-Identifier: LGPL-2.1-or-later
"""What peers write into XenStore that they shouldn't, to programs that are a daemon's lower half."""

import errno

import pytest

from conftest import TIMEOUT, wait_for
from lower_half import INSTANCE, Node, Tree, exchange, link, our_nonce

BAD = ["", "x", "1", "1 ", f"1  {INSTANCE}", f"01 {INSTANCE}", "1 0123", f"-1 {INSTANCE}", f"99999999999999999999 {INSTANCE}",
       f"1 {INSTANCE[:-1]}g", "1 %ff%fe%80", f"1 {INSTANCE}%0a", "A" * 1500, "%01" * 600]


@pytest.mark.parametrize("watcher", [0, 1])
def test_bad_presence_is_absence(host, watcher):
    one, tree = Node(host, watcher), Tree(host, 2)
    for value in BAD:
        tree.write("presence", value)
        tree.write("presence", f"1 {INSTANCE} and more")
        assert one.await_event("up 2", "down 2") == "up 2"
        tree.write("presence", value)
        assert one.await_event("up 2", "down 2") == "down 2"


def test_bad_hello_is_no_hello(host):
    one, tree = Node(host, 1, "timeout=600000"), Tree(host, 2)
    tree.write("presence", f"1 {INSTANCE}")
    one.await_event("up 2")
    for value in BAD + [f"1 {INSTANCE}", f"1 {INSTANCE} 0123abc 1", f"1 {INSTANCE} 0123ABCD 1", f"1 {INSTANCE} 0123abcd",
                        f"1 {INSTANCE} 0123abcd 2", f"1 {INSTANCE} 0123abcd yes", f"1 {INSTANCE} ../../.. 1"]:
        tree.write("to/1/hello", value, 1)
    tree.write("to/1/endpoints", "mark", 1)
    one.await_event("endpoints 2 mark")
    assert one.state(2) == "idle"
    tree.write("to/1/hello", f"1 {INSTANCE} 0123abcd 0 more", 1)
    one.await_state(2, "await")


def test_bad_endpoints_are_none(host):
    one, tree = Node(host, 1), Tree(host, 2)
    tree.write("presence", f"1 {INSTANCE}")
    one.await_event("up 2")
    for value in ["a  b", "a b%20", ".", "a/b", "a%ffb", "b" * 64, "-a", "a%0ab", "+1 a"]:
        tree.write("to/1/endpoints", "good", 1)
        assert one.await_event("endpoints 2") == "endpoints 2 good"
        tree.write("to/1/endpoints", value, 1)
        assert one.await_event("endpoints 2") == "endpoints 2"
    tree.write("to/1/endpoints", "a b +12", 1)
    assert one.await_event("endpoints 2") == "endpoints 2 a b"


def test_another_major_version_is_named(host):
    one, tree = Node(host, 1), Tree(host, 2)
    tree.write("presence", f"2 {INSTANCE} something else")
    one.connect(2)
    failed = one.await_event("failed 2", "up 2")
    assert failed.startswith(f"failed 2 {errno.EHOSTUNREACH} ") and "protocol 2" in failed and "same version" in failed
    tree.write("presence", f"1 {INSTANCE}")
    one.await_event("up 2")
    one.connect(2)
    tree.write("to/1/hello", "3 what ever", 1)
    failed = one.await_event("failed 2")
    assert failed.startswith(f"failed 2 {errno.EHOSTUNREACH} ") and "protocol 3" in failed and "same version" in failed


@pytest.mark.parametrize("value", ["0", "-1", "x", "4294967296", "1x", " 1", "%ff", "00001", "99999"])
def test_bad_nodes_make_no_link(host, value):
    one, tree = Node(host, 1, "timeout=500"), Tree(host, 2)
    tree.write("presence", f"1 {INSTANCE}")
    one.await_event("up 2")
    one.connect(2)
    nonce = our_nonce(tree)
    tree.write("to/1/hello", f"1 {INSTANCE} 0123abcd 0", 1)
    tree.write(f"to/1/{nonce}/ring-ref", value, 1)
    tree.write(f"to/1/{nonce}/event-channel", value, 1)
    assert one.await_event("failed 2").startswith(f"failed 2 {errno.EHOSTUNREACH} ")
    assert host.domain(1)["event_channels"]["used"] == 0 and host.domain(1)["mapped_pages"] == 0


def test_rings_of_impossible_size_make_no_link(host):
    one, tree = Node(host, 1, "timeout=600000"), Tree(host, 2)
    xen = host.xen(2)
    memory, ref = xen.ok("share", 1, 1, 1)
    handle = xen.ok("evtchn-open")
    port = xen.ok("bind-unbound", handle, 1)
    xen.ok("poke", memory, 16, 40)
    tree.write("presence", f"1 {INSTANCE}")
    one.await_event("up 2")
    one.connect(2)
    nonce = our_nonce(tree)
    tree.write("to/1/hello", f"1 {INSTANCE} 0123abcd 0", 1)
    tree.write(f"to/1/{nonce}/ring-ref", ref, 1)
    tree.write(f"to/1/{nonce}/event-channel", port, 1)
    failed = one.await_event("failed 2")
    assert failed.startswith(f"failed 2 {errno.EHOSTUNREACH} ") and "impossible" in failed


def test_nodes_may_appear_one_after_the_other(host):
    one, tree = Node(host, 1, "timeout=600000"), Tree(host, 2)
    own = host.converse(2, "check-own-vchan", "server", 1, "/local/domain/2/data/elsewhere", 4096, 4096)
    ref, port = (tree.read(f"/local/domain/2/data/elsewhere/{node}") for node in ("ring-ref", "event-channel"))
    tree.write("presence", f"1 {INSTANCE}")
    one.await_event("up 2")
    one.connect(2)
    nonce = our_nonce(tree)
    tree.write("to/1/hello", f"1 {INSTANCE} 0123abcd 0", 1)
    tree.write(f"to/1/{nonce}/event-channel", port, 1)
    tree.write(f"to/1/{nonce}/ring-ref", ref, 1)
    assert one.await_event("connected 2", "failed 2") == "connected 2 mapped 3"
    assert own.ok("awaitstate", 1) == 0
    tree.remove("to/1/hello")
    one.await_event("lost 2")
    assert own.ok("awaitstate", 2) == 0


def test_a_peer_that_connects_and_goes_gets_one_grant_a_nonce(host):
    """A hostile mapper can't make the granter work in a loop."""
    three, tree = Node(host, 3, "timeout=600000"), Tree(host, 2)
    tree.write("presence", f"1 {INSTANCE}")
    three.await_event("up 2")
    three.connect(2)
    tree.write("to/3/hello", f"1 {INSTANCE} 0123abcd 1", 3)
    ref, port = (wait_for(lambda node=node: tree.read(f"/local/domain/3/data/xenmsg/to/2/0123abcd/{node}"), node)
                 for node in ("ring-ref", "event-channel"))
    own = host.converse(2, "check-own-vchan", "none")
    assert own.ok("map", 3, ref, port) == 0
    assert own.ok("close") == 0
    three.close(2)
    assert three.talk.ok("granted") == 0
    three.connect(2)
    three.await_state(2, "hello")
    # The same hello again, as a dead daemon's would stay: nothing is granted for it.
    tree.write("to/3/hello", f"1 {INSTANCE} 0123abcd 1", 3)
    tree.write("to/3/endpoints", "mark", 3)
    three.await_event("endpoints 2 mark")
    assert three.state(2) == "hello" and three.talk.ok("granted") == 0
    tree.write("to/3/hello", f"1 {INSTANCE} 99999999 1", 3)
    three.await_state(2, "granted")


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
