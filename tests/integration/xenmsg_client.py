# SPDX-License-Identifier: LGPL-2.1-or-later
"""A client for xenmsgd over the plain socket, written from doc/protocol.md alone: numbers in brackets are its sections."""

import collections
import errno
import itertools
import socket
import struct
import time

HELLO, WELCOME, GOODBYE, BIND, REPLY = 1, 2, 3, 32, 39
OPEN, OPENED, DATA, CREDIT, FIN, RESET, CANCEL, CANCELLED, _, WITHDRAW = range(16, 26)
MESSAGE, CALL, PLAIN, REQUEST, ANSWER, ERROR, PROPERTIES, PART = 1, 2, *range(4), 128, 6  # kinds of channels, types of messages [2.1], a property
HEADER = struct.Struct("<IBBHII")  # length, type, flags, messages, channel, sequence
Received = collections.namedtuple("Received", "endpoint domid uid gid pid name data channel state number")


class Channel:
    def __init__(self, number, endpoint=None, sender=None, limit=0):
        self.number, self.endpoint, self.sender, self.limit = number, endpoint, sender, limit
        self.sent = self.consumed = self.taken = self.received = 0  # ours: sent, taken there; theirs: taken here, received
        self.fin = self.ended = self.error = self.unsure = 0  # the last two of the RESET
        self.buffer, self.cancelled, self.answers, self.parts, self.owed = b"", {}, {}, {}, set()


class Client:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self.input, self.inbox, self.channels, self.open_to, self.replies = b"", collections.deque(), {}, {}, {}
        self.even, self.numbers, self.instance = itertools.cycle(range(0, 65536, 2)), itertools.count(1), None
        self._frame(HELLO, 0, struct.pack("<HHI", 1, 0, 0))
        self.wait(lambda: self.instance, 10)

    def close(self):
        self._frame(GOODBYE, 0, struct.pack("<I", 0))
        self.socket.close()

    def _frame(self, kind, number, payload=b""):  # [1]
        self.socket.settimeout(30)
        self.socket.sendall(HEADER.pack(len(payload), kind, 0, 0, number, 0) + payload + bytes(-len(payload) % 8))

    def wait(self, condition, timeout):
        deadline = time.monotonic() + timeout
        while not condition():
            length, kind, flags, _, number, _ = HEADER.unpack(self.input[:16].ljust(16))
            end = 16 + length + -length % 8
            if len(self.input) >= end:
                payload, self.input = self.input[16:16 + length], self.input[end:]
                self._take(kind, flags, number, payload)
                continue
            self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
            self.input += (data := self.socket.recv(65536))
            if not data:
                raise ConnectionResetError(errno.ECONNRESET, "the daemon has gone")

    def _take(self, kind, flags, number, payload):  # [3]
        channel = self.channels.get(number)
        if kind == WELCOME:
            _, _, _, self.domid, _, self.max_message, self.instance = struct.unpack_from("<HHIIIQ16s", payload)
        elif kind == GOODBYE:
            raise OSError(struct.unpack_from("<I", payload)[0] or errno.ECONNRESET, payload[4:].decode())
        elif kind == REPLY:
            self.replies[number] = payload[8:], struct.unpack_from("<I", payload)[0]
        elif kind == OPEN:
            endpoint, name = (payload[20:].decode() + "\0\0").split("\0")[:2]
            self.channels[number] = Channel(number, endpoint, (*struct.unpack_from("<4I", payload, 4), name))
        elif kind == RESET:  # [2]: answered for a channel that has ended, too
            channel = self.channels.pop(number, None) or Channel(number)
            if not channel.ended:
                error, _, consumed, channel.unsure = struct.unpack_from("<IIQQ", payload)
                channel.consumed = max(channel.consumed, consumed)
                self._reset(channel, error)
        elif channel is None or channel.ended:
            return
        elif kind == OPENED:
            channel.limit = max(channel.limit, struct.unpack_from("<Q", payload)[0])
        elif kind == CREDIT:
            channel.consumed, limit = struct.unpack_from("<QQ", payload)
            channel.limit = max(channel.limit, limit)
        elif kind == CANCEL:  # [2.2]: what waits here for the program we hold ourselves
            offset, = struct.unpack_from("<Q", payload)
            held = [other for other in self.inbox if other.channel is channel and other.state == offset]
            self.inbox = collections.deque(other for other in self.inbox if other not in held)
            self._frame(CANCELLED, number, struct.pack("<QI", offset, errno.ECANCELED if held else 0))
            self._consume(channel)
        elif kind == WITHDRAW:  # [2.3]
            channel.owed.discard(struct.unpack_from("<I", payload)[0])
            self._consume(channel)
        elif kind == FIN:
            channel.fin = True
            self._consume(channel)
        elif kind == CANCELLED:
            channel.cancelled.update([struct.unpack_from("<QI", payload)])
        elif kind == DATA:
            self._take_messages(channel, payload)

    def _reset(self, channel, error):
        channel.ended, channel.error = True, error
        self._frame(RESET, channel.number, struct.pack("<IIQQ", error, 0, channel.taken, channel.taken))

    def _take_messages(self, channel, payload):  # [2.1]
        channel.buffer, channel.received = channel.buffer + payload, channel.received + len(payload)
        while len(channel.buffer) >= 8:
            size, kind, _, error = struct.unpack_from("<IBBH", channel.buffer)
            if size > self.max_message:
                return self._reset(channel, errno.EMSGSIZE)
            whole = 16 + size + -size % 8
            if len(channel.buffer) < whole:
                break
            data, (state, number) = channel.buffer[8:8 + size], struct.unpack_from("<II", channel.buffer, whole - 8)
            channel.buffer, end = channel.buffer[whole:], channel.received - len(channel.buffer) + whole
            part, more = 0, 0
            if kind & PROPERTIES:  # [2.5]
                length, _, _, first = struct.unpack_from("<4H", data)
                part, more = struct.unpack_from("<II", data, 8) if first == PART else (0, 0)
                kind, data = kind - PROPERTIES, data[length:]
            if state == 2:
                channel.owed.discard(number)
            elif kind in (PLAIN, REQUEST):
                channel.owed.update([number] * kind)
                self.inbox.append(Received(channel.endpoint, *channel.sender, data, channel, end - 8, number))
            else:  # [2.3]: it may come in parts
                data = channel.parts.pop(number, b"") * (part > 0) + data
                (channel.parts if more else channel.answers)[number] = data if more else (error, data)
        self._consume(channel)

    def _consume(self, channel):  # all but the end of the first message that still waits for the program
        upto = next((other.state for other in self.inbox if other.channel is channel), channel.received)
        if upto > channel.taken and not channel.ended:
            channel.taken = upto
            self._frame(CREDIT, channel.number, struct.pack("<QQ", upto, 0))
        if channel.fin and not channel.ended and upto == channel.received and not channel.owed:
            self._frame(FIN, channel.number, struct.pack("<Q", channel.sent))
            self.channels.pop(channel.number).ended = True

    def _write(self, channel, data, kind, number, timeout, error=0):
        stream = struct.pack("<IBBH", len(data), kind, 0, error) + data + bytes(-len(data) % 8) + struct.pack("<II", 0, number)
        while stream and not channel.ended:
            self.wait(lambda: channel.ended or channel.limit - channel.sent >= 8, timeout)
            size = min(len(stream), 65536, (channel.limit - channel.sent) & ~7)
            if not channel.ended:
                self._frame(DATA, channel.number, stream[:size])
                channel.sent, stream = channel.sent + size, stream[size:]

    def _deliver(self, address, kind, data, timeout, what=PLAIN, number=0):  # [2.2, 2.4]
        channel = self.open_to.get((address, kind))
        if not channel or channel.ended:
            free = next(even for even in self.even if even not in self.channels)
            channel = self.channels[free] = self.open_to[address, kind] = Channel(free, limit=65536)
            self._frame(OPEN, free, struct.pack("<BBHIIII", kind, 0, 0, 0, 0, 0, 0) + address.encode())
        begin, end = channel.sent, channel.sent + 16 + len(data) + -len(data) % 8
        try:
            self._write(channel, data, what, number, timeout)
            self.wait(lambda: channel.ended or channel.consumed >= end, timeout)
        except TimeoutError:
            if channel.sent < end:  # without its end nobody takes it
                self._reset(channel, errno.ECANCELED)
                raise
            self._frame(CANCEL, channel.number, struct.pack("<Q", end - 8))
            self.wait(lambda: channel.ended or end - 8 in channel.cancelled, 10)
            if result := channel.cancelled.pop(end - 8, 0):
                raise OSError(errno.ETIMEDOUT if result == errno.ECANCELED else result, "not in time") from None
        if channel.ended and channel.consumed < end:
            raise OSError(channel.error if begin >= channel.unsure else errno.ECONNRESET, f"{address}: not delivered")
        return channel

    def send(self, address, data, timeout=30):
        self._deliver(address, MESSAGE, data, timeout)

    def call(self, address, data, timeout=30):  # [2.3]
        number = next(self.numbers)
        channel = self._deliver(address, CALL, data, timeout, REQUEST, number)
        try:
            self.wait(lambda: channel.ended or number in channel.answers, timeout)
        except TimeoutError:
            self._frame(WITHDRAW, channel.number, struct.pack("<I", number))
            raise
        error, reply = channel.answers.pop(number, (errno.ECONNRESET, b""))
        if error:
            raise OSError(error, f"{address}: the call has failed")
        return reply

    def request(self, kind, payload):
        number = next(self.numbers)
        self._frame(kind, number, payload)
        self.wait(lambda: number in self.replies, 30)
        body, error = self.replies.pop(number)
        if error:
            raise OSError(error, body.decode())
        return body

    def bind(self, endpoint, kinds=1):  # bit 0 for messages, bit 1 for calls
        self.request(BIND, struct.pack("<I", kinds) + endpoint.encode())

    def receive(self, timeout=30):
        while True:
            self.wait(lambda: self.inbox, timeout)
            got = self.inbox.popleft()
            self._consume(got.channel)  # with this it is delivered
            if not got.channel.error and (not got.number or got.number in got.channel.owed):
                return got

    def reply(self, got, data, error=0, timeout=30):
        if got.number in got.channel.owed:  # it wasn't withdrawn
            self._write(got.channel, data, ERROR if error else ANSWER, got.number, timeout, error)
            got.channel.owed.discard(got.number)
            self._consume(got.channel)
