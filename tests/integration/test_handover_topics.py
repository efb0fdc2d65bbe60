# SPDX-License-Identifier: LGPL-2.1-or-later
"""A daemon hands over its topics and subscriptions: publishers and subscribers go on, and nothing is missing, or told to be."""

import errno
import random

import pytest

from library import ENDED, KEEP_OLDEST, KEPT, SUBSCRIBED, WAITING
from messaging import eventually
from renewing import renew, renew_while
from test_topics import Heard, account, expect, publish, publish_many, receive, rest, subscriber, topic, until


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


def test_what_a_topic_and_its_subscribers_have_stays(here, there, memory):
    """What is kept, what lies unread, also where its publisher has ended, bounds, how many listen, and what waits for a topic."""
    news, heard, several = topic(here), Heard(here, "heard"), topic(here, "few")
    assert several.bind_keys("kept", 3) == 0
    slow, listener, waits = subscriber(there), subscriber(there, "1:heard"), subscriber(there, "1:later", first=WAITING)
    bound = [subscriber(there, "1:few", queue=4, flags=flags) for flags in (0, KEEP_OLDEST)]
    heard.until(1)
    for number, key in enumerate("abcdb"):
        assert several.send_key("self:kept", key.encode(), b"%d" % number) == 0
    publish(several, *(b"%d" % number for number in range(10)), name="few")
    publish_many(news, 150, 10000)
    for node in {here, there}:
        renew(node)
    publish(several, *(b"%d" % number for number in range(10, 20)), name="few")
    for conn, keeps_oldest in zip(bound, (False, True)):
        came, missed = rest(conn, 19)
        assert 0 < sum(missed) <= 16 and (19 in came) != keeps_oldest, (came, missed)
    publish_many(news, 150, 10000, first=150)
    news.close()
    for node in {here, there}:
        renew(node)
    assert account(slow, 300) > 0  # twice as much as a log has
    expect(slow, WAITING, unknown=0)
    with subscriber(there, "1:kept") as late:
        for word in ("c2", "d3", "b4"):
            expect(late, KEPT)
            message = receive(late)
            assert message.key + message.data.decode() == word
    with subscriber(there, "1:heard"):
        heard.until(2)
        assert listener.unsubscribe("1:heard") == 0
        heard.until(1, listener)
    with topic(here, "later") as later:
        expect(waits, SUBSCRIBED, unknown=0)
        publish(later, b"one", name="later")
        assert receive(waits).data == b"one"


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


def test_who_may_subscribe_no_more_is_told_by_the_next_daemon(here, there):
    with topic(here) as publisher, subscriber(there) as conn:
        publish(publisher, b"one")
        assert receive(conn).data == b"one"
        here.write_policy("[rule]\nfrom = *, self\nto = *\naction = deny\n")
        renew(here)
        assert until(conn, ENDED).error == -errno.EACCES
