# SPDX-License-Identifier: LGPL-2.1-or-later
"""XenStore's quota of watches, which all programs of a guest share, and which ends the connection of who exceeds it."""

import pytest

from lower_half import INSTANCE, Node, Tree
from messaging import eventually, works


@pytest.mark.unless(renewed="log")
@pytest.mark.parametrize("left", [4, 2, 1])
def test_a_used_up_watch_quota_costs_watches_and_no_link(host, nodes, left):
    room = int(host.xen(1).ok("xs-watches-room", "data/w"))
    greedy = host.xen(1)
    greedy.ok("xs-watches", "data/w", room - left)
    one, two, three = nodes(1, 2, 3, start=False).values()
    for node in (one, two, three):
        node.start()
    if left > 1:  # enough for what all discovery hangs on, which has the room of the rest
        works(one, two)
        works(one, three)
    eventually(lambda: "the quota of watches is used up" in one.log.read_text(), "it notices")
    greedy.kill()
    eventually(lambda: "all is watched again" in one.log.read_text(), "it watches again", 40)
    works(one, two)
    assert "the connection to XenStore is lost" not in one.log.read_text()
    assert one.log.read_text().count("the quota of watches is used up") == 1


def test_who_lost_its_watches_for_a_moment_shows_itself_again(host):
    """By that, a watcher that asked for it meanwhile, and wasn't heard, sees it."""
    one = Node(host, 1, "few=yes")
    one.settle()
    other = host.xen(2)
    other.ok("xs-watch", "/local/domain/1/data/xenmsg/presence")
    other.ok("xs-event", 20000)  # of the watch itself
    room = int(host.xen(1).ok("xs-watches-room", "data/w"))
    host.xen(1).ok("xs-watches", "data/w", room)
    assert other.ok("xs-event", 100) == "none"
    hand = Tree(host, 2)
    hand.write("presence", f"1 {INSTANCE}")
    hand.write("asks", f"1 {INSTANCE}")
    assert other.ok("xs-event", 20000).endswith("/presence")
