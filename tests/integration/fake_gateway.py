# SPDX-License-Identifier: LGPL-2.1-or-later
"""A gateway between simulated hosts that are on one machine: it speaks with each host's daemon as xenmsg-gateway does
(doc/protocol.md, section 7), and joins the rings of two daemons itself, without a network."""

import contextlib
import json
import os
import socket
import threading

from gateway_rings import DESCRIPTORS, LOOK, RING, GatewayEnd, descriptors_in
from messaging import eventually
from polling import readable

CHUNK = 65536


class Refused(Exception):
    pass


class Side:
    """Its connection to one host's daemon."""

    def __init__(self, path):
        answer = eventually(lambda: self.greet(path), "the daemon answers its gateway")
        if answer["type"] != "welcome":
            raise Refused(answer.get("why"))
        self.host, self.instance = answer["host"], answer["instance"]
        self.last_id = 1

    def greet(self, path):
        """None: the daemon hands over, so nobody listens there, or the next one doesn't know of this connection."""
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(20)
        try:
            self.socket.connect(path)
            with contextlib.suppress(BrokenPipeError):  # it is refused already, and reads why
                self.say(type="hello", version=1)
            return self.hear()[0]
        except (ConnectionRefusedError, EOFError):
            return None

    def say(self, **packet):
        self.socket.send(json.dumps(packet).encode())

    def hear(self):
        """A packet, and the memory that came with it, or None."""
        room = socket.CMSG_SPACE(4 * DESCRIPTORS)
        try:
            text, control, _, _ = self.socket.recvmsg(4096, room)
        except ConnectionResetError:  # it was closed before our hello was read: what it has said comes behind that
            text, control, _, _ = self.socket.recvmsg(4096, room)
        if not text:
            raise EOFError
        fds = descriptors_in(control)
        return json.loads(text), GatewayEnd(fds) if fds else None


class Conversation:
    def __init__(self, asking, asked, number, end):
        self.sides = (asking, asked)
        self.ids = [number, None]
        self.ends = [end, None]

    def close(self):
        for end in self.ends:
            if end:
                end.close()
        self.ends = [None, None]


class FakeGateway(threading.Thread):
    """Joins the daemons whose gateway sockets are at `paths`, until close()."""

    def __init__(self, *paths):
        super().__init__()
        self.sides = []
        try:
            for path in paths:
                self.sides.append(Side(path))
        except BaseException:
            self.drop_all()
            raise
        self.conversations = []
        self.lock = threading.RLock()
        self.wake, self.woken = os.pipe()
        self.carried = 0  # bytes, in both directions
        self.made = 0  # conversations
        self.lose_after = []  # numbers of bytes: when so many were carried, a conversation is lost
        self.paused = False  # carries nothing
        self.ended = False
        self.down = set()  # names of hosts that are said to be down
        for side in self.sides:
            side.say(type="state", up=True, server="fake://here")
        self.tell_all()
        self.start()

    def tell_all(self):
        for side in self.sides:
            for other in self.sides:
                if other is not side:
                    side.say(type="host", host=other.host, instance=other.instance, up=other.host not in self.down)

    def side(self, host):
        return next(side for side in self.sides if side.host == host)

    # ---- packets ----

    def between(self, *sides):
        return next((talk for talk in self.conversations if set(talk.sides) == set(sides)), None)

    def drop(self, conversation):
        conversation.close()
        if conversation in self.conversations:
            self.conversations.remove(conversation)

    def take(self, side, packet, passed):
        if packet["type"] == "connect":
            other = self.side(packet["host"])
            before = self.between(side, other)
            if before and before.sides[0] is other and not before.ends[1]:  # both ask at once
                if other.host < side.host:
                    passed.close()
                    side.say(type="failed", host=other.host, id=packet["id"], error="EAGAIN")
                    return
                other.say(type="failed", host=side.host, id=before.ids[0], error="EAGAIN")
            if before:
                self.drop(before)
            talk = Conversation(side, other, packet["id"], passed)
            self.conversations.append(talk)
            other.last_id += 2
            talk.ids[1] = other.last_id
            other.say(type="incoming", host=side.host, id=other.last_id)
        elif packet["type"] in ("accept", "decline"):
            talk = next((talk for talk in self.conversations if talk.sides[1] is side and talk.ids[1] == packet["id"]), None)
            if passed and not talk:
                passed.close()
            elif packet["type"] == "accept":
                talk.ends[1] = passed
                self.made += 1
                talk.sides[0].say(type="connected", host=side.host, id=talk.ids[0])
            elif talk:
                talk.sides[0].say(type="failed", host=side.host, id=talk.ids[0], error="EHOSTUNREACH", why="declined")
                self.drop(talk)

    # ---- bytes ----

    def carry(self, talk, start):
        """From this end to the other one. Returns how many bytes; None: it has ended."""
        here, there = talk.ends[start], talk.ends[1 - start]
        has_ended = here.has_ended()
        size = here.reads.ready()
        assert size <= RING
        self.carried += size
        if self.lose_after and self.carried >= self.lose_after[0]:
            self.lose_after.pop(0)
            return None
        if size:
            for at in range(0, size, CHUNK):
                there.writes.put(here.reads.get(min(CHUNK, size - at), at), publish=False)
            here.reads.consume(size, release=False)
            there.writes.producer = there.writes.index
            there.wake()
        processed = there.writes.consumer
        if here.reads.consumer != processed:
            here.reads.consumer = processed
            here.wake()
        return None if has_ended else size

    def carry_all(self, talk):
        """In both directions, until both are quiet."""
        while all(talk.ends):
            sizes = [self.carry(talk, end) for end in (0, 1)]
            if None in sizes:
                self.drop(talk)
            elif not any(sizes):
                return

    def on_packet(self, side):
        self.take(side, *side.hear())

    def step(self, readable):
        for side in self.sides:
            if side.socket in readable:
                self.on_packet(side)
        for talk in list(self.conversations) if not self.paused else []:
            self.carry_all(talk)

    def run(self):
        while not self.ended:
            ready = readable([self.wake, *(side.socket for side in self.sides)], LOOK)
            with self.lock:
                try:
                    if self.wake in ready:
                        os.read(self.wake, 100)
                    self.step(ready)
                except (EOFError, OSError):
                    self.drop_all()  # a daemon has gone
                    return

    # ---- for tests ----

    def lose(self):
        """Loses all conversations, with what is on its way."""
        with self.lock:
            for talk in list(self.conversations):
                self.drop(talk)
        os.write(self.woken, b"x")

    def pause(self, paused):
        with self.lock:
            self.paused = paused
        os.write(self.woken, b"x")

    def say_down(self, host, down=True):
        with self.lock:
            (self.down.add if down else self.down.discard)(host)
            self.tell_all()

    def drop_all(self):
        for talk in list(getattr(self, "conversations", [])):
            self.drop(talk)
        for side in self.sides:
            side.socket.close()

    def close(self):
        """As if it was killed. It may be closed twice."""
        if self.ended:
            return
        self.ended = True
        os.write(self.woken, b"x")
        self.join()
        self.drop_all()
        os.close(self.wake)
        os.close(self.woken)
