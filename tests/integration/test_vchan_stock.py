# SPDX-License-Identifier: LGPL-2.1-or-later
"""daemon/xen/vchan.c makes what stock libxenvchan makes: each at one end of a vchan, in both roles, in every layout."""

import errno
import struct

import pytest

from conftest import row, wait_for
from lower_half import own_vchan
from messaging import stopped

WAITING, CONNECTED, CLOSED, BROKEN = range(4)
OWN, STOCK = "own", "stock"

# What is asked for (the server's read ring, and its write ring), what comes of it, and the pages.
LAYOUTS = [
    (1024, 2048, 1024, 2048, 1),
    (2048, 1024, 2048, 1024, 1),
    (1024, 1024, 1024, 2048, 1),
    (2048, 2048, 2048, 4096, 2),
    (1024, 4096, 2048, 4096, 2),
    (4096, 1024, 4096, 2048, 2),
    (4096, 4096, 4096, 4096, 3),
    (4096, 65536, 4096, 65536, 18),
    (65536, 65536, 65536, 65536, 33),
    (1048576, 1048576, 1048576, 1048576, 513),
]


BASE = "/local/domain/1/data/v"
NODES = ("ring-ref", "event-channel")


def serve(host, own, left=65536, right=65536):
    """In domain 1, with what leads domain 2 to it."""
    xen = host.xen(1)
    for node, value in zip(NODES, own.ok("serve", 2, left, right)):
        xen.ok("xs-write", f"{BASE}/{node}", value)
        xen.ok("xs-chmod", f"{BASE}/{node}", "n1,r2")


class Pair:
    """A vchan between domain 1, the server, and domain 2."""

    def __init__(self, host, server, left=65536, right=65536):
        if server == OWN:
            self.own = own_vchan(host, 1)
            serve(host, self.own, left, right)
            self.stock = host.vchan_client(2, 1)
        else:
            self.stock, self.own = host.vchan_server(1, 2, left=left, right=right), own_vchan(host, 2)
            assert self.own.ok("map", 1, *(host.xen(2).ok("xs-read", f"{BASE}/{node}") for node in NODES)) == 0
        assert self.stock.first.startswith("ok")
        assert self.own.ok("awaitstate", CONNECTED) == 0

    def stock_sees_the_end(self):
        while self.stock.ok("open"):
            assert self.stock.ok("wait", 10000) == 1


@pytest.fixture(name="pair", params=[OWN, STOCK])
def each_as_the_server(request, host):
    return Pair(host, request.param)


@pytest.mark.parametrize("server", [OWN, STOCK])
def test_each_layout_carries_data_both_ways(host, server):
    for layout in LAYOUTS:
        with row(layout):
            carries_data_both_ways(host, server, *layout)


def carries_data_both_ways(host, server, left, right, real_left, real_right, pages):
    pair = Pair(host, server, left, right)
    ours, theirs = (real_left, real_right) if server == OWN else (real_right, real_left)
    assert pair.own.ok("sizes") == [ours, theirs]
    assert pair.own.ok("pages") == pages
    # Three ringfuls each way, so that both wrap, with the writer ahead of the reader.
    total = 3 * max(real_left, real_right) // 2 + 77
    pair.own.tell("writeall", total)
    got = 0
    while got < total:
        got += pair.stock.ok("read", min(total - got, 100000))
    assert pair.own.answer() == "ok 0"
    pair.own.tell("readall", total)
    assert pair.stock.ok("write", total) == total
    assert pair.own.answer() == "ok 0"
    pair.own.kill()
    pair.stock.kill()


def test_stock_close_is_seen_and_leaves_the_data_readable(pair):
    assert pair.stock.ok("write", 1000) == 1000
    assert pair.stock.ok("close") == 0
    assert pair.own.ok("awaitstate", CLOSED) == 0
    assert pair.own.ok("read", 2000) == 1000
    assert pair.own.ok("close") == 0


def test_own_close_is_seen_and_leaves_the_data_readable(pair):
    assert pair.own.ok("write", 1000) == 1000
    assert pair.own.ok("close") == 0
    pair.stock_sees_the_end()
    assert pair.stock.ok("read", 2000) == 1000


def test_death_of_the_stock_side_is_seen_at_once(pair):
    pair.stock.kill()
    assert pair.own.ok("awaitstate", CLOSED) == 0


def test_death_of_our_side_is_seen_at_once(pair):
    pair.own.kill()
    pair.stock_sees_the_end()


def used(host, domid):
    domain = host.domain(domid)
    return domain["grants"]["used_pages"], domain["mapped_pages"], domain["event_channels"]["used"]


def test_a_closed_vchan_leaves_no_page_mapping_or_port(host, pair):
    assert used(host, 1) == (33, 0, 1) and used(host, 2) == (0, 33, 1)
    assert pair.own.ok("close") == 0
    assert pair.stock.ok("close") == 0
    wait_for(lambda: pair.own.ok("granted") == 0, "the pages are given back, once they are unmapped")
    assert used(host, 1) == (0, 0, 0) and used(host, 2) == (0, 0, 0)


def test_waiting_server_is_told_when_the_client_comes(host):
    own = own_vchan(host, 1)
    serve(host, own)
    assert own.ok("state") == WAITING
    own.tell("awaitstate", CONNECTED)
    host.vchan_client(2, 1)
    assert own.answer() == "ok 0"


def test_idle_vchan_is_silent(host):
    pair = Pair(host, OWN)
    # Nobody sleeps for data that has not been asked for: the first write finds the request of the set-up, the others none.
    for _ in range(10):
        assert pair.own.ok("write", 10) == 10
    assert pair.own.ok("notified") <= 1


def test_sizes_that_are_no_ring_are_refused(host):
    own = own_vchan(host, 1)
    for size in (0, 1, 512, 1000, 3000, 65537, 2097152, 4294967295):
        assert own.error("grant", 2, size, 4096) == errno.EINVAL
        assert own.error("grant", 2, 4096, size) == errno.EINVAL
    assert own.ok("granted") == 0


def test_exhausted_pages_are_an_error_that_costs_nothing(make_host):
    host = make_host(13)
    own = own_vchan(host, 1)
    pages = 0
    for number in range(31):  # a domain has three at most
        pages += own.ok("grant", 2 + number // 3, 65536, 65536)
    assert pages == 31 * 33
    assert own.error("grant", 13, 65536, 65536) == errno.ENOSPC
    assert own.ok("granted") == pages
    assert used(host, 1) == (pages, 0, 31)
    assert own.ok("grant", 13, 1024, 1024) == 1  # the single-page layout still fits
    assert own.ok("ungrant") == 31
    assert own.ok("ungrant") == 30
    assert own.ok("grant", 12, 65536, 65536) == 33


def page_by_hand(host, *orders):
    """The shared page of a server in domain 1 for domain 2, without what it grants besides: who has it, where, and what leads to it."""
    xen = host.xen(1)
    memory, ref = xen.ok("share", 2, 1, 1)
    port = xen.ok("bind-unbound", xen.ok("evtchn-open"), 2)
    for offset, byte in enumerate(struct.pack("<IIIIHHBBBB", 0, 0, 0, 0, *orders, 2, 1, 1, 0)):
        xen.ok("poke", memory, offset, byte)
    return xen, memory, ref, port


def test_grant_list_of_a_hostile_server_is_refused_whole(host):
    xen, memory, ref, port = page_by_hand(host, 12, 12)
    for offset, byte in enumerate(struct.pack("<II", ref, 999999)):
        xen.ok("poke", memory, 24 + offset, byte)
    own = own_vchan(host, 2)
    assert own.error("map", 1, ref, port) > 0
    assert used(host, 2) == (0, 0, 0)


def test_map_of_what_is_not_there_fails(host):
    own = own_vchan(host, 2)
    for ref, port in ((0, 1), (999999, 1), (1, 999999)):
        assert own.error("map", 1, ref, port) > 0


def test_live_byte_of_the_peer_is_believed_only_if_possible(host):
    xen, memory, ref, port = page_by_hand(host, 10, 11)
    for live, state in ((0, CLOSED), (1, CONNECTED), (2, BROKEN), (3, BROKEN), (255, BROKEN)):
        xen.ok("poke", memory, 21, 1)  # srv_live
        own = own_vchan(host, 2)
        assert own.ok("map", 1, ref, port) == 0
        assert own.ok("state") == CONNECTED
        xen.ok("poke", memory, 21, live)
        assert own.ok("state") == state, live
        own.kill()


def test_events_of_a_closed_port_disturb_nobody(host):
    """One handle serves all vchans: an event on its way while its port is closed is nobody else's."""
    pair = Pair(host, OWN)
    with stopped(pair.stock.process.pid):
        assert pair.own.ok("grant", 3, 4096, 4096) == 3
    assert pair.stock.ok("write", 10) == 10
    pair.own.ok("close")
    assert pair.own.ok("ungrant") == 0
    pair.stock.kill()
    wait_for(lambda: pair.own.ok("granted") == 3, "what domain 2 had mapped is given back")  # domain 3 may map the rest still
