# SPDX-License-Identifier: LGPL-2.1-or-later
"""A gateway between simulated hosts that are on one machine: it speaks with each host's daemon as xenmsg-gateway does
(doc/protocol.md, section 7), and joins the sockets of two daemons itself, without a network."""

import array
import json
import os
import select
import socket
import threading

CHUNK = 65536


class Refused(Exception):
    pass


class Side:
    """Its connection to one host's daemon."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(20)
        self.socket.connect(path)
        try:
            self.say(type="hello", version=1)
        except BrokenPipeError:
            pass  # it is refused already, and reads why
        answer, _ = self.hear()
        if answer["type"] != "welcome":
            raise Refused(answer.get("why"))
        self.host, self.instance = answer["host"], answer["instance"]
        self.last_id = 1

    def say(self, **packet):
        self.socket.send(json.dumps(packet).encode())

    def hear(self):
        """A packet, and the socket that came with it, or None."""
        room = socket.CMSG_SPACE(array.array("i").itemsize)
        try:
            text, control, _, _ = self.socket.recvmsg(4096, room)
        except ConnectionResetError:  # it was closed before our hello was read: what it has said comes behind that
            text, control, _, _ = self.socket.recvmsg(4096, room)
        if not text:
            raise EOFError
        passed = None
        for level, kind, data in control:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                passed = socket.socket(fileno=array.array("i", data[:4])[0])
        return json.loads(text), passed


class Conversation:
    def __init__(self, asking, asked, number, end):
        self.sides = (asking, asked)
        self.ids = [number, None]
        self.ends = [end, None]
        self.waiting = [b"", b""]  # for each end

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
            passed.setblocking(False)
            self.conversations.append(talk)
            other.last_id += 2
            talk.ids[1] = other.last_id
            other.say(type="incoming", host=side.host, id=other.last_id)
        elif packet["type"] in ("accept", "decline"):
            talk = next((talk for talk in self.conversations if talk.sides[1] is side and talk.ids[1] == packet["id"]), None)
            if passed and not talk:
                passed.close()
            elif packet["type"] == "accept":
                passed.setblocking(False)
                talk.ends[1] = passed
                self.made += 1
                talk.sides[0].say(type="connected", host=side.host, id=talk.ids[0])
            elif talk:
                talk.sides[0].say(type="failed", host=side.host, id=talk.ids[0], error="EHOSTUNREACH", why="declined")
                self.drop(talk)

    # ---- bytes ----

    def carry(self, talk, start):
        """From this end to the other one. False: it has ended."""
        try:
            data = talk.ends[start].recv(CHUNK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        talk.waiting[1 - start] += data
        self.carried += len(data)
        if self.lose_after and self.carried >= self.lose_after[0]:
            self.lose_after.pop(0)
            return False
        return bool(data) and self.pour(talk, 1 - start)

    @staticmethod
    def pour(talk, end):
        try:
            while talk.waiting[end]:
                talk.waiting[end] = talk.waiting[end][talk.ends[end].send(talk.waiting[end]):]
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True

    def step(self):
        readable = {side.socket: (self.on_packet, side) for side in self.sides}
        writable = {}
        for talk in self.conversations if not self.paused else []:
            for end in (0, 1) if all(talk.ends) else ():
                if not talk.waiting[1 - end]:
                    readable[talk.ends[end]] = (self.on_bytes, talk, end)
                if talk.waiting[end]:
                    writable[talk.ends[end]] = (self.on_room, talk, end)
        return readable, writable

    def on_packet(self, side):
        self.take(side, *side.hear())

    def on_bytes(self, talk, end):
        if talk in self.conversations and not self.carry(talk, end):
            self.drop(talk)

    def on_room(self, talk, end):
        if talk in self.conversations and not self.pour(talk, end):
            self.drop(talk)

    def run(self):
        while not self.ended:
            with self.lock:
                readable, writable = self.step()
            some, others, _ = select.select([*readable, self.wake], [*writable], [])
            with self.lock:
                try:
                    if self.wake in some:
                        os.read(self.wake, 100)
                        continue
                    for chosen, what in ((some, readable), (others, writable)):
                        for one in chosen:
                            what[one][0](*what[one][1:])
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
        """As if it was killed."""
        self.ended = True
        os.write(self.woken, b"x")
        self.join()
        self.drop_all()
