# SPDX-License-Identifier: LGPL-2.1-or-later
"""The fan-out at each event, wherever subscribers are: in the topic's domain, in another one, behind domain 0, and on another host."""

import errno
import os

import pytest

from library import ENDED, KEPT, RETAIN, SUBSCRIBED, WAITING
from messaging import eventually, lost_after
from test_topics import Heard, account, expect, publish, publish_many, receive, subscriber, topic, until

SESSION = lost_after("3s") + "resume-for = 2s\n"
EVERYWHERE = pytest.mark.parametrize("way", ["within", "link", "domain-0", "hosts"], indirect=True)
OVER_LINKS = pytest.mark.parametrize("way", ["link", "domain-0", "hosts"], indirect=True)


class Way:
    """From the topic of `here` to subscribers `there`."""
    def __init__(self, here, there, address=None, lose=None):
        self.here, self.there, self.lose = here, there, lose
        self.address = address or f"{here.domid}:news"

    def subscriber(self, first=SUBSCRIBED):
        return subscriber(self.there, self.address, first)


def lose_link(one, two):
    """For so long that the session has ended."""
    two.host.sim("pause", two.domid)
    eventually(lambda: one.link_state(two.domid) not in ("up", "away"), "the session has ended", timeout=60)
    two.host.sim("unpause", two.domid)


def start_again(node):
    node.kill()
    node.start()


def start_again_and_join(hosts, node):
    hosts.gateway.close()
    start_again(node)
    hosts.join()


@pytest.fixture(name="way")
def way_to_subscribers(request):
    if request.param == "hosts":
        hosts = request.getfixturevalue("hosts")
        first, second = hosts(guests=1)
        return Way(first[1], second[1], "hosta/1:news", lambda: start_again_and_join(hosts, second[0]))
    nodes = request.getfixturevalue("nodes")
    if request.param == "within":
        node = nodes(1)[1]
        return Way(node, node)
    if request.param == "link":
        one, two = nodes(1, 2, config=SESSION).values()
        return Way(one, two, lose=lambda: lose_link(one, two))
    zero = request.getfixturevalue("zero")
    return Way(*request.getfixturevalue("guests")(2), lose=lambda: start_again(zero))


@EVERYWHERE
def test_all_comes_and_who_is_late_gets_what_is_kept(way):
    conn = way.subscriber(first=WAITING)
    publisher = topic(way.here, flags=RETAIN)
    expect(conn, SUBSCRIBED)
    publish_many(publisher, 500, 100)
    assert account(conn, 500) == 0
    late = way.subscriber()
    expect(late, KEPT)
    message = receive(late)
    assert (message.domid, message.uid, message.pid) == (way.here.domid, os.getuid(), os.getpid())
    assert message.endpoint == way.address


@EVERYWHERE
def test_who_publishes_is_told_how_many_listen(way):
    heard = Heard(way.here)
    conns = [way.subscriber() for _ in range(3)]
    heard.until(3)
    conns.pop().close()
    heard.until(2)
    for conn in conns:
        conn.close()
    heard.until(0)


@EVERYWHERE
def test_who_is_slow_is_told_how_many(way):
    publisher, slow = topic(way.here), way.subscriber()
    publish_many(publisher, 1200, 8000)
    publish_many(publisher, 1, 8000, 1200)  # after a pause, so that the last gap isn't the end
    assert account(slow, 1201) > 0


@EVERYWHERE
def test_who_dies_takes_nothing_from_others(way):
    publisher, some = topic(way.here), [way.subscriber() for _ in range(4)]
    for number in range(4):
        publish_many(publisher, 50, 1000, 50 * number)
        if number < 3:
            some[number].close()
    assert account(some[3], 200) == 0


@EVERYWHERE
def test_who_is_denied_by_a_reload_is_told(way):
    publisher, conn = topic(way.here), way.subscriber()
    publish(publisher, b"0")
    assert account(conn, 1) == 0
    way.here.set_policy("[rule]\nfrom = *, */*\nto = *\naction = deny\n")
    assert until(conn, ENDED).error == -errno.EACCES
    publish(publisher, b"1")
    assert conn.unsubscribe(way.address) == 0
    assert conn.subscribe(way.address) == -errno.EACCES


@OVER_LINKS
@pytest.mark.unless(relayed="direct")
def test_a_lost_link_is_told_as_unknown(way):
    publisher, conn = topic(way.here), way.subscriber()
    publish_many(publisher, 20, 100)
    assert account(conn, 20) == 0
    way.lose()
    assert until(conn, WAITING).unknown
    until(conn, SUBSCRIBED)
    publish_many(publisher, 1, 100, 20)
    assert receive(conn).data.split()[0] == b"20"


@EVERYWHERE
def test_a_publisher_that_comes_again_is_told(way):
    publisher, conn = topic(way.here), way.subscriber()
    publish_many(publisher, 20, 100)
    publisher.close()
    assert account(conn, 20) == 0
    expect(conn, WAITING, unknown=0)
    with topic(way.here) as publisher:
        expect(conn, SUBSCRIBED)
        publish_many(publisher, 20, 100)
        assert account(conn, 20) == 0


@EVERYWHERE
def test_a_saved_domain_loses_nothing(way):
    publisher, conn = topic(way.here), way.subscriber()
    meanwhile = 20 if way.here is not way.there else 0  # a domain that is saved publishes nothing
    publish_many(publisher, 20, 1000)
    way.there.suspend()
    if meanwhile:
        publish_many(publisher, meanwhile, 1000, 20)
    way.there.resume()
    publish_many(publisher, 20, 1000, 20 + meanwhile)
    way.there.knows_its_number()
    publish_many(publisher, 20, 1000, 40 + meanwhile)
    assert account(conn, 60 + meanwhile) == 0
