# SPDX-License-Identifier: LGPL-2.1-or-later
"""Links have larger rings while they are busy, and give them back: without a stop, and nothing is lost, comes twice or in another
order. Domain 2 grants to 1, and 3 to both; domain 0 maps."""

import contextlib

import pytest

from messaging import FAST, eventually, give_up_ring, stopped, tool, works
from renewing import renew
from test_cli_bench import serve, stop
from test_resume import resumes, traffic
from test_resume_restored import is_back

pytestmark = pytest.mark.unless(relayed="direct", strict="zero", away="counts")

# So small that the traffic of these tests is much for them.
SMALL = FAST + "ring-size = 4K\nmin-ring-size = 4K\nmax-ring-size = 256K\n"
FIRST, LARGEST = 4096, 262144


def size(node, domid):
    link = node.link(domid)
    return link["ring_bytes"] if link else 0


def moves(node, domid):
    return node.link(domid)["moves"]


def has_size(node, other, wanted):
    """Both ends say so."""
    eventually(lambda: size(node, other.domid) == size(other, node.domid) == wanted, f"rings of {wanted} bytes")


@pytest.mark.parametrize("ends", [(1, 2), (0, 1)], ids=["guests", "domain-0"])
def test_rings_grow_under_traffic_and_shrink_after_it(nodes, ends):
    one, two = nodes(*ends, config=SMALL).values()
    works(one, two)
    assert size(one, two.domid) == FIRST
    for times in (1, 2):
        with traffic(one, two) as goes_on:
            has_size(one, two, LARGEST)
            goes_on()
        has_size(one, two, FIRST)
        for node, other in ((one, two), (two, one)):
            assert moves(node, other.domid) == 2 * times
            assert resumes(node, other.domid) == 0
        assert two.link(one.domid)["pages"] == 3 and two.status()["grants"]["used_pages"] == 3
    works(one, two)


@contextlib.contextmanager
def flood(one, two, survives=True):
    """As much as goes through."""
    reader = two.popen_command("sh", "-c", f"{tool('xenmsg')} listen flood >/dev/null", binds="flood")
    writer = one.popen_command("sh", "-c", f"{tool('xenmsg')} connect {two.domid}:flood </dev/zero")
    yield
    assert not survives or writer.poll() is reader.poll() is None
    for process in (writer, reader):
        process.kill()
        process.wait()


@pytest.mark.unless(small="rings")
def test_fixed_sizes_stay(nodes):
    one, two = nodes(1, 2, config=FAST + "max-ring-size = 64K\n").values()
    server = serve(two)
    assert one.xenmsg("bench", "2", "--seconds", "0.3").returncode == 0
    assert (size(one, 2), moves(one, 2), moves(two, 1)) == (65536, 0, 0)
    stop(server)


def test_who_cannot_map_more_has_what_it_had(nodes, host):
    one, two = nodes(1, 2, config=SMALL).values()
    works(one, two)
    host.fault("refuse-map", 1, "on")
    with traffic(one, two) as goes_on:
        eventually(lambda: two.link(1)["tx"]["bytes"] > 10 << 20, "there is traffic")
        goes_on()
    assert (size(two, 1), moves(two, 1), resumes(two, 1)) == (FIRST, 0, 0)


def test_busy_links_share_the_pages(nodes, host):
    one, two, three = nodes(1, 2, 3, config=SMALL).values()
    works(one, three)
    works(two, three)
    host.fault("grant-limit", 3, 100)
    with traffic(one, three) as goes_on:
        has_size(three, one, 131072)
        with traffic(two, three, "b") as others_go_on:
            # An eighth is left free, and each has half of the rest.
            has_size(three, one, 65536)
            has_size(three, two, 65536)
            others_go_on()
            goes_on()
        has_size(three, two, FIRST)
        host.fault("grant-limit", 3, 140)
        has_size(three, one, 131072)
    assert resumes(three, 1) == resumes(three, 2) == 0


def test_a_link_that_waits_for_pages_gets_them_from_a_large_one(nodes, host):
    one, two, three = nodes(1, 2, 3, config=FAST + "ring-size = 16K\nmin-ring-size = 16K\nmax-ring-size = 64K\n").values()
    works(one, three)
    host.fault("grant-limit", 3, 48)
    with traffic(one, three) as goes_on:
        has_size(three, one, 65536)
        host.fault("grant-limit", 3, 42)
        # 33 pages are used, and 9 are needed.
        works(two, three)
        host.fault("grant-limit", 3, 37)
        goes_on()
    assert resumes(three, 1) == 0


@pytest.mark.parametrize("config", [FAST, FAST + "ring-size = 1K\n"], ids=["by default", "from small ones"])
def test_losses_while_rings_grow_and_shrink_are_a_pause(nodes, config):
    """The hello vanishes at any moment, so the other daemon lets go of what there is. What is sent again has frames as large as
    the rings that it lay in."""
    one, two = nodes(1, 2, config=config).values()
    zero = nodes(0, start=False)[0]
    works(one, two)
    with flood(one, two), traffic(one, two) as goes_on, zero.store() as store:
        for times in range(1, 4):
            has_size(one, two, 1 << 20)
            give_up_ring(store, [(one, two)[times % 2]], one, two, times)
            goes_on()
    assert moves(one, 2) >= 1  # one that a loss cuts short isn't counted


@pytest.mark.parametrize("saved, other", [(1, 0), (2, 1), (1, 2)], ids=["of domain 0", "of a guest", "that maps"])
def test_a_restored_guest_gets_its_grown_rings_by_its_session(nodes, saved, other):
    """Nobody else gets larger ones than a link begins with, so they are made a second time."""
    pair = nodes(other, saved, config=FAST + "ring-size = 1K\n")
    with flood(pair[other], pair[saved]), traffic(pair[other], pair[saved]) as goes_on:
        has_size(pair[other], pair[saved], 1 << 20)
        pair[saved].save_and_restore()
        is_back(pair[saved], pair[other], 1)
        goes_on()


def test_grown_rings_are_resumed_after_hand_overs(nodes):
    """Neither end may be given rings too small for what is sent again, whoever hands over."""
    one, two = nodes(1, 2, config=SMALL).values()
    works(one, two)
    with flood(one, two):
        has_size(one, two, LARGEST)
        for node in 4 * (one, two):
            renew(node)
            eventually(lambda: one.link(2)["state"] == two.link(1)["state"] == "up", "the link is resumed")
            has_size(one, two, LARGEST)
    for node in (one, two):
        assert "too small" not in node.log.read_text()


@pytest.mark.parametrize("crashed, other", [(0, 1), (1, 2), (2, 1)], ids=["domain 0", "that maps", "that grants"])
def test_a_grown_link_begins_anew_behind_hand_over_and_crash(nodes, crashed, other):
    """The peer stands still meanwhile, so its session is away when it hears that another daemon runs there."""
    pair = nodes(crashed, other, config=SMALL)
    works(pair[crashed], pair[other])
    with flood(pair[other], pair[crashed], survives=False):
        has_size(pair[crashed], pair[other], LARGEST)
        with stopped(pair[other].pid):
            renew(pair[crashed])
            pair[crashed].kill()
            pair[crashed].start()
    works(pair[crashed], pair[other])  # resume-for is longer than this waits
