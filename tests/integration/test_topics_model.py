# SPDX-License-Identifier: LGPL-2.1-or-later
"""Topics against a model, by seeds: whatever happens to publishers, subscribers, daemons and links, what a subscriber gets and what
it is told to have missed are together all that was published since it came, in its order; where nobody can know, that is told; and what
is kept comes first, once."""

import errno
import random

import pytest

from installed import seeds
from library import KEEP_OLDEST, KEPT, MISSED, RETAIN, SUBSCRIBED, TOPIC, WAITING, Connection
from messaging import LOST_SOON, eventually
from renewing import renew
from test_resume import resumes

SIZES = 0, 3, 40, 40, 40, 900, 3000, 20000


class Publisher:
    """One life of the topic."""
    def __init__(self, node, life, retains):
        self.conn, self.life, self.retains, self.count = Connection(node.socket), life, retains, 0
        assert self.conn.bind_next("news", TOPIC | (RETAIN if retains else 0)) == 0

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
    """What one must be told: `position` of the messages of the topic's life it has had, or knows to be missing. `is_sure`: whatever
    happens, somebody knows how many are missing, and the topic stays there."""
    def __init__(self, node, address, bound, flags, is_sure, keeps):
        self.conn, self.is_sure, self.keeps = Connection(node.socket), is_sure, keeps
        self.life = self.position = None
        self.last = (-1, 0)
        self.is_subscribed = self.is_in_doubt = self.takes_kept = self.has_missed = False
        assert self.conn.subscribe(address, bound, flags) == 0

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
        if self.is_sure:  # but how many of those that were kept are missing, nobody counts
            assert not notice.unknown or (self.keeps and notice.kind == MISSED), notice
            assert not self.is_subscribed or notice.kind not in (SUBSCRIBED, WAITING), notice
        self.is_in_doubt |= bool(notice.unknown)
        if notice.kind == SUBSCRIBED:
            self.is_subscribed, self.position, self.life = True, notice.count, None
        elif notice.kind == WAITING:
            self.is_subscribed = False
        elif notice.kind == MISSED:
            assert notice.count or notice.unknown
            if not self.is_subscribed:  # who was so slow that the topic's coming back is among what he has missed
                self.is_subscribed = self.is_in_doubt = True
            self.position = (self.position or 0) + notice.count
            self.has_missed = True  # perhaps, beside messages, that another life began
        else:
            self.takes_kept = True

    def have(self, life, number, lives):
        assert self.is_subscribed and (self.life in (None, life) or self.has_missed), (self.life, life)
        self.is_in_doubt |= self.life not in (None, life)
        self.life, self.has_missed = life, False
        if self.takes_kept:
            assert lives[life].retains and (self.is_in_doubt or number < self.position), (number, self.position)
            self.takes_kept = False
            return
        assert (life, number) > self.last, (life, number, self.last)
        assert self.is_in_doubt or number == self.position, (life, number, self.position)
        self.last = (life, number)
        self.position, self.is_in_doubt = number + 1, False

    def has_all_of(self, publisher):
        return self.is_subscribed and self.position == publisher.count and self.life in (None, publisher.life)


class Model:
    def __init__(self, seed, host, one, two, store, acts):
        self.rng, self.host, self.nodes, self.store, self.acts = random.Random(seed), host, {1: one, 2: two}, store, acts
        self.is_sure = not {"another_publisher", "kill", "lose_link"} & set(acts)
        self.lives, self.subscribers, self.log = [], [], []
        self.appear()
        for node in self.nodes.values():
            self.come(node)

    def appear(self):
        self.publisher = Publisher(self.nodes[1], len(self.lives), self.rng.random() < 0.4)
        self.lives.append(self.publisher)

    def come(self, node=None):
        bound = self.rng.choice((0, 0, 0, 1, 5, 300))
        flags = KEEP_OLDEST if bound and self.rng.random() < 0.5 else 0
        node = node or self.any_node()
        self.subscribers.append((node, Subscriber(node, f"{self.nodes[1].domid}:news", bound, flags, self.is_sure, self.publisher.retains)))

    def any_node(self):
        return self.rng.choice(list(self.nodes.values()))

    def one_to_save(self):
        """The publisher's domain has another number afterwards, by which no new subscription would find it."""
        return self.any_node() if self.is_sure else self.nodes[2]

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

    def ends(self):
        one, two = self.nodes.values()
        return (one, two), (two, one)

    def link_is_up(self):
        return all(end.link_state(other.domid) == "up" for end, other in self.ends())

    def link_is_settled(self):
        """It is up; or its session has ended, and nobody subscribes over it, who would have it made again."""
        is_used = any(node is not self.nodes[1] for node, _ in self.subscribers)
        return self.link_is_up() or not is_used and all(end.link_state(other.domid) != "away" for end, other in self.ends())

    def hand_over(self):
        if self.is_sure or "save" in self.acts:  # a link that was just restored can't be handed over
            eventually(self.link_is_settled, "the link is up, if it is used", timeout=60)
        renew(self.any_node())

    def kill(self):
        """Who has a connection to this daemon goes with it; what others have missed, nobody knows."""
        node = self.any_node()
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

    def lose_link(self):
        """For so long that the session has ended: what was published meanwhile, nobody knows."""
        one, two = self.nodes.values()
        self.host.sim("pause", two.domid)
        eventually(lambda: one.link_state(two.domid) not in ("up", "away"), "the session has ended", timeout=60)
        self.host.sim("unpause", two.domid)

    def lose_ring(self):
        """Of a session that goes on over another one."""
        eventually(self.link_is_up, "the link is up", timeout=60)
        before, whose = [resumes(end, other.domid) for end, other in self.ends()], self.rng.choice(self.ends())

        def is_resumed():
            return self.link_is_up() and (all(resumes(end, other.domid) > was for (end, other), was in zip(self.ends(), before))
                                          or self.store.take_away_hello(whose[0], whose[1].domid))

        eventually(is_resumed, "the link is resumed", timeout=60)

    def save(self):
        node = self.one_to_save()
        node.save_and_restore()

    def migrate(self):
        node = self.one_to_save()
        moved = self.host.sim("migrate", node.domid, "--stale", self.rng.randrange(40), "--seed", self.rng.randrange(100))
        node.domid = int(moved.stdout)
        node.knows_its_number()

    def step(self):
        act = self.rng.choices(list(self.acts), list(self.acts.values()))[0]
        self.log.append(act)
        getattr(self, act)()

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


USUAL = {"publish": 40, "take": 40, "come": 8, "go": 5, "hand_over": 3}


def play(model, steps):
    try:
        for _ in range(steps):
            model.step()
        model.finish()
    except AssertionError:
        print(model.log)
        raise
    model.close()


@pytest.mark.parametrize("seed", seeds(0, 6, each=2))
def test_what_comes_and_what_is_told_to_be_missing_is_all(nodes, memory, host, seed):
    here, there = nodes(1, 2, config=LOST_SOON + "resume-for = 2s\n").values()
    here.sees(there)
    play(Model(seed, host, here, there, None, {**USUAL, "another_publisher": 3, "kill": 1, "lose_link": 1}), 60)


@pytest.mark.unless(renewed="restores", small="limits")
@pytest.mark.parametrize("seed", seeds(0, 8, each=2))
def test_lost_links_saves_and_killed_daemons_together(nodes, memory, host, seed):
    """Whatever of these comes first: a session that waits for a restore is lost, a restored daemon is killed, and all that hand over."""
    here, there = nodes(1, 2, config=LOST_SOON + "resume-for = 2s\n").values()
    here.sees(there)
    play(Model(seed, host, here, there, None, {**USUAL, "another_publisher": 2, "kill": 3, "lose_link": 3, "save": 3, "migrate": 2}), 60)


@pytest.mark.parametrize("seed", seeds(0, 6, each=2))
def test_saves_migrations_and_lost_rings_cost_nothing(nodes, one, two, memory, host, seed):
    """Nor hand-overs: nobody who subscribes is told of any, nor that perhaps something is missing."""
    with nodes(0, start=False)[0].store() as store:
        play(Model(seed, host, one, two, store, {**USUAL, "lose_ring": 4, "save": 3, "migrate": 3}), 50)
    assert host.list()["kernel_log"] == []
