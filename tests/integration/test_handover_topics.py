# SPDX-License-Identifier: LGPL-2.1-or-later
"""A daemon hands over its topics and subscriptions: publishers and subscribers go on, and nothing is missing, or told to be."""

import errno
import random

import pytest

from library import COUNT_LISTENERS, ENDED, KEEP_OLDEST, KEPT, MISSED, RETAIN, SUBSCRIBED, TOPIC, WAITING, Connection
from messaging import eventually
from renewing import process_until, renew, renew_while
from test_topics import account, expect, publish, publish_keyed, publish_many, receive, subscriber, topic, until


def content(number):
    rng = random.Random(number)
    return b"%d " % number + rng.randbytes(rng.choice((0, 10, 500, 20000)))


class Published:
    """Messages of a topic, as fast as they go, each of which is compared at every subscriber."""
    def __init__(self, publisher, *subscribers):
        self.publisher, self.subscribers = publisher, subscribers
        self.posted, self.outcomes = 0, []
        self.got = [0] * len(subscribers)

    def go_on(self, more=16):
        while self.posted - min(self.got, default=len(self.outcomes)) < more and self.posted - len(self.outcomes) < more:
            result = self.publisher.post("self:news", content(self.posted), self.outcomes.append)
            assert result in (0, -errno.EAGAIN), result
            if result:
                break
            self.posted += 1
        self.take()

    def take(self):
        assert self.publisher.wait(0) >= 0
        assert not any(self.outcomes), (set(self.outcomes), self.publisher.reason())
        for i, conn in enumerate(self.subscribers):
            while not isinstance(message := conn.receive(0), int):
                assert not message.notice, (i, self.got[i], message.notice)
                assert message.data == content(self.got[i]), (i, self.got[i], message.data[:20])
                self.got[i] += 1
            assert message == -errno.EAGAIN, message

    def finish(self):
        def all_have_all():
            self.take()
            return len(self.outcomes) == self.posted and all(got == self.posted for got in self.got)
        eventually(all_have_all, f"all have got all {self.posted}", timeout=60)


def renew_under(node, published):
    """The node hands over while there is more and more; all have got something since."""
    renew_while(node, published.go_on, lambda: published.got)


def test_all_that_is_published_reaches_all_of_this_domain(nodes, memory):
    node = nodes(1)[1]
    with topic(node) as publisher, subscriber(node, "self:news") as one, subscriber(node, "1:news") as other:
        published = Published(publisher, one, other)
        for _ in range(5):
            renew_under(node, published)
        published.finish()


def test_who_lags_gets_what_waits_and_is_told_what_not(one, memory):
    """It reads nothing before all was published, twice as much as a log has, and the daemon has handed over in between."""
    with topic(one) as publisher, subscriber(one, "self:news") as slow:
        publish_many(publisher, 150, 10000)
        renew(one)
        publish_many(publisher, 150, 10000, first=150)
        renew(one)
        assert account(slow, 300) > 0


@pytest.mark.parametrize("oldest", [False, True], ids=["newest", "oldest"])
def test_a_bound_stays(one, memory, oldest):
    with topic(one) as publisher, Connection(one.socket) as conn:
        assert conn.subscribe("self:news", 4, KEEP_OLDEST if oldest else 0) == 0
        expect(conn, SUBSCRIBED)
        publish(publisher, *(b"%d" % number for number in range(10)))
        renew(one)
        publish(publisher, *(b"%d" % number for number in range(10, 20)))
        got, missed = [], 0
        while len(got) + missed < 20:
            message = receive(conn)
            if message.notice:
                assert message.notice.kind == MISSED and not message.notice.unknown, message.notice
                missed += message.notice.count
            else:
                got.append(int(message.data))
        assert got == sorted(set(got)) and 0 < missed <= 16, (got, missed)
        assert (19 in got) != oldest, got


def test_what_is_kept_stays(one, memory):
    with Connection(one.socket) as publisher:
        assert publisher.bind_keys("news", 3) == 0
        publish_keyed(publisher, "a 1", "b 1", "c 1", "d 1", "b 2")
        renew(one)
        with subscriber(one, "self:news") as early:
            def kept(conn):
                told = []
                for _ in range(3):
                    expect(conn, KEPT)
                    message = receive(conn)
                    told.append((message.key, message.data))
                return told
            before = kept(early)
            renew(one)
            publish_keyed(publisher, "e 1")
            assert receive(early).key == "e"
            with subscriber(one, "self:news") as late:
                after = kept(late)
    assert [key for key, _ in before] == ["c", "d", "b"]
    assert [key for key, _ in after] == ["d", "b", "e"]


def test_listeners_are_counted_on(nodes, memory):
    node = nodes(1)[1]
    counts = []
    with Connection(node.socket) as publisher:
        publisher.on_listeners(lambda endpoint, count: counts.append(count))
        assert publisher.bind("news", TOPIC | COUNT_LISTENERS) == 0
        one = subscriber(node, "self:news")
        process_until(lambda: counts and counts[-1] == 1, "it hears of one", publisher)
        renew(node)
        with subscriber(node, "self:news"):
            process_until(lambda: counts[-1] == 2, "it hears of the second", publisher)
            one.close()
            process_until(lambda: counts[-1] == 1, "it hears of the end of the first", publisher)


def test_a_subscription_waits_on_for_its_topic(one, memory):
    with subscriber(one, "self:news", first=WAITING) as conn:
        renew(one)
        with topic(one) as publisher:
            expect(conn, SUBSCRIBED, unknown=0)
            publish(publisher, b"one")
            assert receive(conn).data == b"one"
            renew(one)
        assert until(conn, WAITING).unknown == 0
        renew(one)
        with topic(one) as publisher:
            until(conn, SUBSCRIBED)
            publish(publisher, b"two")
            assert receive(conn).data == b"two"


def test_who_unsubscribes_or_unbinds_after_it_has_ended_it(one, memory):
    with topic(one) as publisher, subscriber(one, "self:news") as conn:
        renew(one)
        assert conn.subscribe("self:news") == -errno.EEXIST
        assert conn.unsubscribe("self:news") == 0
        assert conn.subscribe("self:news") == 0
        expect(conn, SUBSCRIBED)
        renew(one)
        assert publisher.unbind("news") == 0
        process_until(lambda: not one.status()["endpoints"], "it is unbound", publisher)  # where it lies nobody reads any more
        expect(conn, WAITING)
        assert publisher.bind("news", TOPIC) == 0
        expect(conn, SUBSCRIBED)


def test_the_last_message_of_who_ended_before_it_comes(one, memory):
    """The topic itself goes on for a while, since who subscribes is slow."""
    publisher = topic(one)
    with subscriber(one, "self:news") as slow:
        publish_many(publisher, 60, 10000)
        publisher.close()
        renew(one)
        assert account(slow, 60) == 0
        expect(slow, WAITING, unknown=0)


@pytest.mark.parametrize("who", ["publisher", "subscriber"])
def test_over_a_link_all_comes_whoever_hands_over(one, two, memory, who):
    with topic(one) as publisher, subscriber(two) as far, subscriber(one) as near:
        published = Published(publisher, far, near)
        for _ in range(4):
            renew_under(one if who == "publisher" else two, published)
        published.finish()


def test_through_domain_0_all_comes_whoever_hands_over(guests, zero, memory):
    one, two = guests(2)
    with topic(one) as publisher, subscriber(two, f"{one.domid}:news") as far:
        published = Published(publisher, far)
        for node in (zero, one, two, zero):
            renew_under(node, published)
        published.finish()


def test_retained_at_the_next_daemon_too(one, two, memory):
    with topic(one, flags=RETAIN) as publisher, subscriber(two) as conn:
        publish(publisher, b"kept")
        assert receive(conn).data == b"kept"
        renew(two)
        renew(one)
        with subscriber(two) as late:
            expect(late, KEPT)
            assert receive(late).data == b"kept"


def test_who_may_subscribe_no_more_is_told_by_the_next_daemon(here, there):
    with topic(here) as publisher, subscriber(there) as conn:
        publish(publisher, b"one")
        assert receive(conn).data == b"one"
        here.write_policy("[rule]\nfrom = *, self\nto = *\naction = deny\n")
        renew(here)
        assert until(conn, ENDED).error == -errno.EACCES
