# SPDX-License-Identifier: LGPL-2.1-or-later
"""The fan-out at each event, wherever subscribers are: in the topic's domain, in another one, behind domain 0, and on another host."""

import errno

import pytest

from library import ENDED, SUBSCRIBED, WAITING
from messaging import EXIT_OK, eventually, lost_after
from renewing import renew
from test_hosts import joined_hosts  # the fixture `hosts`  # noqa: F401  pylint: disable=unused-import
from test_relay import domain_0, pv_guests  # the fixtures `zero` and `guests`  # noqa: F401  pylint: disable=unused-import
from test_resume import state
from test_resume_restored import knows_its_number, save_and_restore
from test_topics import account, expect, publish, publish_many, receive, subscriber, topic, until

SESSION = lost_after("3s") + "resume-for = 2s\n"
EVERYWHERE = pytest.mark.parametrize("way", ["within", "link", "domain-0", "hosts"], indirect=True)
OVER_LINKS = pytest.mark.parametrize("way", ["link", "domain-0", "hosts"], indirect=True)


class Way:
    """From the topic of `here` to subscribers `there`, by way of the daemons of `between`."""
    def __init__(self, host, here, there, *between, address=None, lose=None):
        self.host, self.here, self.there, self.between, self.lose = host, here, there, between, lose
        self.address = address or f"{here.domid}:news"

    def subscriber(self):
        return subscriber(self.there, self.address)

    def nodes(self):
        return list(dict.fromkeys((self.here, *self.between, self.there)))


def lose_link(host, one, two):
    """For so long that the session has ended."""
    host.sim("pause", two.domid)
    eventually(lambda: state(one, two.domid) not in ("up", "away"), "the session has ended", timeout=60)
    host.sim("unpause", two.domid)


def start_again(node):
    node.kill()
    node.start()


def start_again_and_join(hosts, node):
    hosts.gateway.close()
    start_again(node)
    hosts.join()


@pytest.fixture(name="way")
def way_to_subscribers(request):
    host, nodes = request.getfixturevalue("host"), request.getfixturevalue("nodes")
    if request.param == "within":
        node = nodes(1)[1]
        return Way(host, node, node)
    if request.param == "link":
        one, two = nodes(1, 2, config=SESSION).values()
        one.sees(two)
        return Way(host, one, two, lose=lambda: lose_link(host, one, two))
    if request.param == "domain-0":
        zero = request.getfixturevalue("zero")
        one, two = request.getfixturevalue("guests")(2)
        return Way(host, one, two, zero, lose=lambda: start_again(zero))
    hosts = request.getfixturevalue("hosts")
    first, second = hosts(guests=1)
    return Way(hosts.nodes[1].host, first[1], second[1], first[0], second[0], address="hosta/1:news",
               lose=lambda: start_again_and_join(hosts, second[0]))


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
    way.here.write_policy("[rule]\nfrom = *, */*\nto = *\naction = deny\n")
    assert way.here.xenmsg("policy", "reload").returncode == EXIT_OK
    assert until(conn, ENDED).error == -errno.EACCES
    publish(publisher, b"1")
    assert conn.unsubscribe(way.address) == 0
    assert conn.subscribe(way.address) == -errno.EACCES


@OVER_LINKS
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


@pytest.mark.parametrize("way", ["within", "link", "domain-0"], indirect=True)
def test_who_hands_over_loses_nothing(way):
    publisher, conn = topic(way.here), way.subscriber()
    for number, node in enumerate(way.nodes()):
        publish_many(publisher, 20, 1000, 40 * number)
        renew(node)
        publish_many(publisher, 20, 1000, 40 * number + 20)
    assert account(conn, 40 * len(way.nodes())) == 0


def goes_on(publisher, conn, first):
    """Publishes until the last one comes; where one hasn't come, that was told before. The number of the next one."""
    number = expected = first
    is_told = False
    while expected == first or expected < number:
        publish(publisher, b"%d" % number)
        number += 1
        while not isinstance(message := conn.receive(100), int):
            if message.notice:
                is_told |= bool(message.notice.unknown)
            else:
                assert int(message.data) == expected or (is_told and int(message.data) > expected)
                expected, is_told = int(message.data) + 1, False
    return number


@pytest.mark.parametrize("way", ["hosts"], indirect=True)
def test_who_hands_over_between_hosts_says_what_is_lost(way, hosts):
    """A channel to another host isn't handed over (doc/handover.md), so the subscription begins again."""
    publisher, conn = topic(way.here), way.subscriber()
    number = goes_on(publisher, conn, 0)
    for node in way.nodes():
        renew(node)
        if node in way.between:
            hosts.gateway.close()  # which doesn't come again by itself, as others do
            hosts.join()
        number = goes_on(publisher, conn, number)


@EVERYWHERE
def test_a_saved_domain_loses_nothing(way):
    publisher, conn = topic(way.here), way.subscriber()
    publish_many(publisher, 20, 1000)
    save_and_restore(way.host, way.there)
    publish_many(publisher, 20, 1000, 20)
    knows_its_number(way.there)
    publish_many(publisher, 20, 1000, 40)
    assert account(conn, 60) == 0
