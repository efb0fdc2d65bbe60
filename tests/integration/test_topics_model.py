# SPDX-License-Identifier: LGPL-2.1-or-later
"""Topics against a model, by seeds: whatever happens to publishers, subscribers, daemons and links, what a subscriber gets and what
it is told to have missed are together all that was published since it came, in its order; where nobody can know, that is told; and what
is kept comes first, once."""

import errno
import random

import pytest

from library import KEEP_OLDEST, KEPT, MISSED, RETAIN, SUBSCRIBED, TOPIC, WAITING, Connection
from messaging import eventually
from renewing import renew

SIZES = 0, 3, 40, 40, 40, 900, 3000, 20000


class Publisher:
    """One life of the topic."""
    def __init__(self, node, life, retains):
        self.conn, self.life, self.retains, self.count = Connection(node.socket), life, retains, 0
        assert self.conn.bind("news", TOPIC | (RETAIN if retains else 0)) == 0

    def publish(self, count, rng):
        outcomes = []
        for number in range(self.count, self.count + count):
            data = b"%d %d " % (self.life, number) + rng.randbytes(rng.choice(SIZES))
            while (result := self.conn.post("self:news", data, outcomes.append)) == -errno.EAGAIN:
                assert self.conn.wait(20000) >= 0
            assert result == 0
        self.count += count
        eventually(lambda: self.conn.wait(10) >= 0 and len(outcomes) == count, "publishing waits for nobody")
        assert set(outcomes) <= {0}


class Subscriber:
    """What one must be told: `position` of the messages of the topic's life it has had, or knows to be missing."""
    def __init__(self, node, bound, flags):
        self.conn = Connection(node.socket)
        self.life = self.position = None
        self.last = (-1, 0)
        self.is_subscribed = self.is_in_doubt = self.takes_kept = self.has_missed = False
        assert self.conn.subscribe("1:news", bound, flags) == 0

    def take(self, most, lives):
        """Takes what is there, up to so much. False: there was nothing."""
        for taken in range(most):
            message = self.conn.receive(0)
            if isinstance(message, int):
                assert message == -errno.EAGAIN, message
                return taken > 0
            if message.notice:
                self.hear(message.notice)
            else:
                self.have(*map(int, message.data.split(b" ")[:2]), lives)
        return True

    def hear(self, notice):
        assert notice.kind in (SUBSCRIBED, MISSED, WAITING, KEPT), notice
        assert not self.takes_kept, notice
        self.is_in_doubt |= bool(notice.unknown)
        if notice.kind == SUBSCRIBED:
            self.is_subscribed, self.position, self.life = True, notice.count, None
        elif notice.kind == WAITING:
            self.is_subscribed = False
        elif notice.kind == MISSED:
            assert notice.count or notice.unknown
            self.position += notice.count
            self.has_missed = True  # perhaps, beside messages, that another life began
        else:
            self.takes_kept = True

    def have(self, life, number, lives):
        assert self.is_subscribed and (self.life in (None, life) or self.has_missed), (self.life, life)
        self.is_in_doubt |= self.life not in (None, life)
        self.life, self.has_missed = life, False
        if self.takes_kept:
            assert lives[life].retains and number < self.position, (number, self.position)
            self.takes_kept = False
            return
        assert (life, number) > self.last, (life, number, self.last)
        assert self.is_in_doubt or number == self.position, (life, number, self.position)
        self.last = (life, number)
        self.position, self.is_in_doubt = number + 1, False

    def has_all_of(self, publisher):
        return self.is_subscribed and self.position == publisher.count and self.life in (None, publisher.life)


class Model:
    def __init__(self, seed, nodes):
        self.rng, self.nodes = random.Random(seed), nodes
        self.lives, self.subscribers, self.log = [], [], []
        self.appear()
        for node in nodes.values():
            self.come(node)

    def appear(self):
        self.publisher = Publisher(self.nodes[1], len(self.lives), self.rng.random() < 0.4)
        self.lives.append(self.publisher)

    def come(self, node=None):
        bound = self.rng.choice((0, 0, 0, 1, 5, 300))
        flags = KEEP_OLDEST if bound and self.rng.random() < 0.5 else 0
        self.subscribers.append((node := node or self.rng.choice(list(self.nodes.values())), Subscriber(node, bound, flags)))

    def go(self):
        if len(self.subscribers) > 2:
            self.subscribers.pop(self.rng.randrange(len(self.subscribers)))[1].conn.close()

    def publish(self):
        self.publisher.publish(self.rng.choice((1, 7, 60, 400)), self.rng)

    def take(self):
        for _, subscriber in self.subscribers:
            if self.rng.random() < 0.6:
                subscriber.take(self.rng.choice((1, 30, 1000)), self.lives)

    def another_publisher(self):
        self.publisher.conn.close()
        self.appear()

    def hand_over(self):
        renew(self.rng.choice(list(self.nodes.values())))

    def kill(self):
        """Who has a connection to this daemon goes with it; what others have missed, nobody knows."""
        node = self.rng.choice(list(self.nodes.values()))
        node.kill()
        for entry in [entry for entry in self.subscribers if entry[0] is node]:
            entry[1].conn.close()
            self.subscribers.remove(entry)
        if node is self.nodes[1]:
            self.publisher.conn.close()
        node.start()
        if node is self.nodes[1]:
            self.appear()
        self.come(node)

    def step(self):
        act = self.rng.choices((self.publish, self.take, self.come, self.go, self.another_publisher, self.hand_over, self.kill),
                               (40, 40, 8, 5, 3, 3, 1))[0]
        self.log.append(act.__name__)
        act()

    def finish(self):
        """The last message is behind all gaps."""
        def all_have_all():
            for _, subscriber in self.subscribers:
                subscriber.take(1 << 20, self.lives)
            return all(subscriber.has_all_of(self.publisher) for _, subscriber in self.subscribers)
        eventually(lambda: self.settle() and all(subscriber.is_subscribed for _, subscriber in self.subscribers), "all have subscribed", timeout=60)
        self.publisher.publish(1, self.rng)
        eventually(all_have_all, "all have all, or know what is missing", timeout=60)

    def settle(self):
        for _, subscriber in self.subscribers:
            subscriber.take(1 << 20, self.lives)
        return True

    def close(self):
        self.publisher.conn.close()
        for _, subscriber in self.subscribers:
            subscriber.conn.close()


@pytest.mark.parametrize("seed", range(6))
def test_what_comes_and_what_is_told_to_be_missing_is_all(nodes, memory, seed):
    here, there = nodes(1, 2).values()
    here.sees(there)
    model = Model(seed, {1: here, 2: there})
    try:
        for _ in range(60):
            model.step()
        model.finish()
    except AssertionError:
        print(f"seed {seed}: {model.log}")
        raise
    model.close()
