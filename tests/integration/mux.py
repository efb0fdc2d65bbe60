# SPDX-License-Identifier: LGPL-2.1-or-later
"""A program whose one session carries many byte streams (doc/protocol.md, 6.1), from the document and not from the library.

Nothing here waits in one session for another one: both ends of a stream may be in one thread, which calls turn().
"""

import hashlib
import socket
import time

from frames import (BIND, CREDIT, DATA, FIN, GOODBYE, HEADER, INITIAL_LIMIT, MUX, OPEN, OPENED, PAYLOAD_MAX,
                    REPLY, RESET, SHARED_MEMORY, STREAM, STREAMS, UNBIND, Frame, bind_payload, credit_frame, fin_frame, frame,
                    open_frame, reset_frame, size_at)
from messaging import PATIENCE
from polling import readable
from protocol import Program

BACKLOG = 1 << 18  # bytes that a session of these keeps to be written


class Stream:
    """One end. It takes what comes, and says so, while `reads`."""

    def __init__(self, mux, number, limit):
        self.mux, self.number = mux, number
        self.limit, self.sent, self.consumed = limit, 0, 0
        self.received, self.told, self.total = 0, 0, None
        self.data, self.keeps, self.digest = bytearray(), True, hashlib.sha256()
        self.queue, self.wants_fin, self.fin_sent = bytearray(), False, False
        self.reads, self.opened = True, False
        self.reset = None  # the error that has come
        self.reset_sent = self.ended = False
        self.domid = self.uid = self.pid = self.endpoint = self.name = None

    # ---- what the test does ----

    def write(self, data):
        self.queue += data
        self.mux.busy.add(self)

    def end(self):
        self.wants_fin = True
        self.mux.busy.add(self)

    def break_off(self, error=104):
        self.reset_sent = True
        self.mux.put(reset_frame(self.number, error, self.told))

    def read_on(self):
        self.reads = True
        self.tell()

    # ---- what is so ----

    def at_end(self):
        """All that the other side sent has come, and its FIN."""
        return self.total is not None

    def is_over(self):
        return self.ended or self.reset is not None

    def __repr__(self):
        return (f"<{self.number}: sent {self.sent} of {self.sent + len(self.queue)}, limit {self.limit}, consumed {self.consumed}; "
                f"received {self.received}, told {self.told}, of {self.total}; opened {self.opened}, fin {self.fin_sent}, "
                f"reset {self.reset}, {self.reset_sent}>")

    # ---- machinery ----

    def tell(self):
        if self.reads and self.told < self.received and not (self.reset_sent or self.is_over()):
            self.told = self.received
            self.mux.put(credit_frame(self.number, self.told))
            self.forget_if_done()

    def send(self):
        """True: there is more, which waits for room in the session."""
        while self.queue and self.sent < self.limit and not self.reset_sent:
            if self.mux.backlog() > BACKLOG:
                return True
            size = min(len(self.queue), self.limit - self.sent, PAYLOAD_MAX)
            self.mux.put(frame(DATA, bytes(self.queue[:size]), channel=self.number))
            del self.queue[:size]
            self.sent += size
        if self.wants_fin and not (self.queue or self.fin_sent or self.reset_sent):
            self.fin_sent = True
            self.mux.put(fin_frame(self.number, self.sent))
            self.forget_if_done()
        return False

    def forget_if_done(self):
        if not self.ended and self.fin_sent and self.at_end() and self.consumed == self.sent and self.told == self.total:
            self.forget()

    def forget(self):
        self.ended = True
        self.mux.streams.pop(self.number, None)
        if not self.number & 1:
            self.mux.free.append(self.number)


class Mux(Program):
    def __init__(self, node, shared=False, flags=MUX, timeout=20 * PATIENCE):
        self.node = node
        super().__init__(node.socket, shared, timeout=timeout, flags=flags)
        assert bool(self.flags & SHARED_MEMORY) == shared, self.flags
        self.streams, self.incoming, self.busy, self.replies = {}, [], set(), {}
        self.free, self.highest = [], 0
        self.takes = True  # reads what comes
        self.adopt = None  # called with each stream that comes
        self.outbox = bytearray()
        self.over = None  # (error, text) of a GOODBYE, or "closed"
        self.input = bytearray(self.buffer)
        self.socket.setblocking(False)

    # ---- bytes, of which none waits ----

    def put(self, data):
        self.outbox += data

    def backlog(self):
        return len(self.outbox)

    def flush(self):
        if self.rings:
            size = min(len(self.outbox), self.out.space())
            # A ring has whole frames only, for which the indices are moved at once.
            whole = 0
            while whole + HEADER.size <= size and whole + size_at(self.outbox, whole) <= size:
                whole += size_at(self.outbox, whole)
            if whole:
                self.out.put(bytes(self.outbox[:whole]))
                del self.outbox[:whole]
                self.notify()
            if self.outbox:
                self.out.want_space()
            return
        while self.outbox:
            try:
                size = self.socket.send(self.outbox)
            except BlockingIOError:
                return
            except ConnectionError:
                self.outbox.clear()  # its GOODBYE may be there to be read
                return
            del self.outbox[:size]

    def frames(self):
        if self.rings:
            while got := self.incoming_ring().take():
                yield got
            assert not self.deliveries.ready(), "a session of streams has one ring"
        try:
            data, descriptors, ended = b"", [], False
            data, descriptors, _, _ = socket.recv_fds(self.socket, 1 << 18, 3)
            ended = not data
        except BlockingIOError:
            pass
        except ConnectionError:
            ended = True
        self.descriptors += descriptors
        self.input += data
        at = 0
        while len(self.input) - at >= HEADER.size and at + size_at(self.input, at) <= len(self.input):
            yield Frame(self.input, at)
            at += size_at(self.input, at)
        del self.input[:at]
        if ended:
            self.over = self.over or "closed"

    def incoming_ring(self):
        return self.rings[1]

    # ---- frames ----

    def step(self):
        """Does what can be done now. True: something came."""
        came = False
        if self.takes and self.over != "closed":
            for got in self.frames():
                came = True
                self.handle(got)
        if self.over:
            self.end_all()
            return came
        for stream in list(self.busy):
            if stream.is_over() or not stream.send():  # else CREDIT lets it go on
                self.busy.discard(stream)
        self.flush()
        return came

    def end_all(self):
        for stream in list(self.streams.values()):
            stream.reset = stream.reset or 104
        self.streams.clear()
        self.outbox.clear()

    def handle(self, got):
        if got.kind == GOODBYE:
            self.over = (got.u32(), got.payload[4:].decode())
        elif got.kind == REPLY:
            self.replies[got.channel] = got.u32(), got.payload[8:]
        elif got.kind == OPEN:
            assert got.channel & 1 and got.channel not in self.streams and got.payload[0] == STREAM, got
            stream = Stream(self, got.channel, 0)
            stream.domid, stream.uid, _, stream.pid = got.identity()
            stream.endpoint, _, stream.name = got.payload[20:].decode().partition("\0")
            stream.opened = True
            self.streams[got.channel] = stream
            self.incoming.append(stream)
            if self.adopt:
                self.adopt(stream)
        else:
            stream = self.streams.get(got.channel)
            if not stream:
                assert got.kind in (CREDIT, RESET), got  # it has ended here
                if got.kind == RESET:
                    self.put(reset_frame(got.channel, got.u32()))
                return
            self.handle_of(stream, got)

    def handle_of(self, stream, got):
        if got.kind == RESET:
            if not stream.reset_sent:
                self.put(reset_frame(stream.number, got.u32(), stream.told))
                stream.reset = got.u32()
            stream.forget()
        elif stream.reset_sent:
            assert got.kind in (OPENED, CREDIT, DATA, FIN), got
        elif got.kind == OPENED:
            assert not stream.opened and not stream.number & 1
            stream.opened = True
            stream.limit = max(stream.limit, got.u64())
            self.busy.add(stream)
        elif got.kind == CREDIT:
            assert got.u64() <= stream.sent
            assert got.u64() >= stream.consumed and got.u64(8) >= stream.limit, "it never falls"
            stream.consumed, stream.limit = got.u64(), got.u64(8)
            self.busy.add(stream)
            stream.forget_if_done()
        elif got.kind == DATA:
            assert stream.opened and not stream.at_end()
            stream.received += len(got.payload)
            stream.digest.update(got.payload)
            if stream.keeps:
                stream.data += got.payload
            stream.tell()
        elif got.kind == FIN:
            assert not stream.at_end() and got.u64() == stream.received
            stream.total = got.u64()
            stream.forget_if_done()
        else:
            raise AssertionError(got)

    # ---- what programs do ----

    def number(self):
        """One that was free for the longest time."""
        if self.free and (self.highest > 64 or len(self.free) > 8):
            return self.free.pop(0)
        self.highest += 2
        return self.highest - 2

    def connect(self, address, number=None):
        number = self.number() if number is None else number
        stream = self.streams[number] = Stream(self, number, INITIAL_LIMIT)
        self.put(open_frame(number, address, STREAM))
        return stream

    def request(self, kind, payload, number=7):
        """(error, body) of the answer; what else comes meanwhile is handled."""
        self.replies.pop(number, None)
        self.put(frame(kind, payload, channel=number))
        until(lambda: number in self.replies or self.over, self)
        assert not self.over, self.over
        return self.replies.pop(number)

    def listen(self, endpoint, kinds=STREAMS):
        error, text = self.request(BIND, bind_payload(endpoint, kinds))
        assert error == 0, (error, text)

    def unbind(self, endpoint):
        error, text = self.request(UNBIND, endpoint.encode())
        assert error == 0, (error, text)

    def __repr__(self):
        return (f"session {self.socket.fileno()}: {len(self.outbox)} bytes to be written, over: {self.over}, "
                f"{len(self.streams)} streams, the first of them " + ", ".join(map(repr, list(self.streams.values())[:5])))

    def accept(self, *others):
        """The next stream that comes; the sessions of others go on meanwhile."""
        until(lambda: self.incoming, self, *others)
        return self.incoming.pop(0)

    def error(self):
        """That of the GOODBYE that ends this session."""
        until(lambda: self.over, self)
        assert self.over != "closed", "there was no GOODBYE"
        return self.over[0]


def turn(*some):
    """Each of these sessions does what it can; waits for a moment if that is nothing."""
    if any([mux.step() for mux in some]):
        return
    waits = []
    for mux in some:
        if mux.over or not mux.takes:
            continue
        waits.append(mux.socket)
        if mux.rings:
            mux.incoming_ring().want_data()
            if mux.incoming_ring().ready():
                return
            waits.append(mux.wakeups)
    ready = readable(waits, 0.01)
    for mux in some:
        if mux.rings and mux.wakeups in ready:
            mux.wakeups.poll(0)


def until(condition, *some, seconds=30):
    """These sessions go on until it is so."""
    end = time.monotonic() + seconds * PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain:\n" + "\n".join(map(repr, some))
        turn(*some)


def quiet(*some, seconds=0.3):
    """These sessions go on until nothing has come for a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if any([mux.step() for mux in some]):
            end = time.monotonic() + seconds
        else:
            turn(*some)


def pair(client, server, address):
    """Both ends of a new stream."""
    near = client.connect(address)
    far = server.accept(client)
    until(lambda: near.opened, client, server)
    return near, far
