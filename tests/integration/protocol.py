# SPDX-License-Identifier: LGPL-2.1-or-later
"""The program's side of the local hop, written from doc/protocol.md alone and not from the library.

It does what it is told, right or wrong: the tests use it to be a bad client, and to see that somebody else could
implement the protocol from its document.
"""

import fcntl
import itertools
import mmap
import os
import select
import socket
import struct
import time

from frames import (BIND, CALL, CREDIT, DATA, FIN, GOODBYE, HEADER, MESSAGE, MESSAGES, PART, PAYLOAD_MAX, PROPERTIES, REPLY, REQUEST, RESET,
                    SHARED_MEMORY, WELCOME, Closed, Frame, bind_payload, bytes_of, credit_frame, frame, hello, message, open_frame, padded,
                    reset_frame, size_at)
from polling import readable

EINVAL, EBUSY, EPROTO, EPROTONOSUPPORT, ENOENT, EMSGSIZE, ECANCELED, ECONNRESET = 22, 16, 71, 93, 2, 90, 125, 104


# Sanitizers and valgrind are slow; everything that waits gets this much more time.
PATIENCE = float(os.environ.get("XENMSG_TEST_PATIENCE", "1"))


class Timeout(Exception):
    """Nothing came in time."""


class Ring:
    """One direction through the shared memory."""

    def __init__(self, memory, control, data, size):
        self.memory, self.control, self.data, self.size = memory, control, data, size
        self.index = 0  # ours
        # struct writes byte by byte: the daemon would see indices that never were. A view's items are read and written at once.
        self.words = memoryview(memory)[control:control + 256].cast("I")

    def release(self):
        self.words.release()

    def word(self, offset):
        return self.words[offset // 4]

    def set_word(self, offset, value):
        self.words[offset // 4] = value & 0xFFFFFFFF

    producer = property(lambda self: self.word(0), lambda self, value: self.set_word(0, value))
    consumer = property(lambda self: self.word(64), lambda self, value: self.set_word(64, value))

    def want_data(self, wanted=1):
        self.memory[self.control + 128] = wanted

    def want_space(self, wanted=1):
        self.memory[self.control + 192] = wanted

    def space(self):
        return self.size - ((self.index - self.consumer) & 0xFFFFFFFF)

    def put(self, data, publish=True):
        at = self.index % self.size
        first = min(len(data), self.size - at)
        self.memory[self.data + at:self.data + at + first] = data[:first]
        self.memory[self.data:self.data + len(data) - first] = data[first:]
        self.index = (self.index + len(data)) & 0xFFFFFFFF
        if publish:
            self.producer = self.index

    def ready(self):
        return (self.producer - self.index) & 0xFFFFFFFF

    def get(self, size, offset=0):
        at = (self.index + offset) % self.size
        first = min(size, self.size - at)
        return (bytes(self.memory[self.data + at:self.data + at + first])
                + bytes(self.memory[self.data:self.data + size - first]))

    def consume(self, size, release=True):
        self.index = (self.index + size) & 0xFFFFFFFF
        if release:
            self.consumer = self.index

    def take(self):
        """The next frame, which is processed with that; None: there is none."""
        if not self.ready():
            return None
        size = size_at(self.get(HEADER.size))
        assert size <= min(self.ready(), HEADER.size + PAYLOAD_MAX), "only whole frames are seen"
        got = Frame(self.get(size))
        self.consume(size)
        return got


def seal(memory):
    """Against holes, and mappings that can be written to: before that the other end doesn't touch it."""
    future_write = 0x10  # F_SEAL_FUTURE_WRITE, which Python doesn't know
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, future_write | fcntl.F_SEAL_SEAL)


class Answers:
    """What comes on a channel of calls."""

    def __init__(self, channel):
        self.channel, self.stream, self.taken, self.answer, self.is_whole, self.is_over = channel, b"", 0, (0, b""), False, False
        self.parts = None  # of a call that stands: those that nobody has looked at

    def take(self, payload):
        """Sets (error, text) of the last answer, and whether it is whole."""
        self.stream += payload
        self.taken += len(payload)
        while len(self.stream) >= 8:
            size, kind, _, error = struct.unpack_from("<IBBH", self.stream)
            if len(self.stream) < 16 + padded(size):
                break
            data, part, more = self.stream[8:8 + size], 0, 0
            if kind & PROPERTIES:
                assert struct.unpack_from("<HH", data, 4) == (8, PART)
                part, more = struct.unpack_from("<II", data, 8)
                data = data[struct.unpack_from("<H", data)[0]:]
            if self.parts is None:
                self.answer = error, (self.answer[1] if part else b"") + data
            else:
                self.parts.append((error, data))
            self.is_whole = not more
            self.stream = self.stream[16 + padded(size):]


class Program:
    """A connection to a daemon. `shared` asks for shared memory in HELLO, `flags` for more; `minor` is that of a later
    version."""

    def __init__(self, path, shared=False, greet=True, timeout=10 * PATIENCE, flags=0, minor=0):
        self.timeout = timeout
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.socket.settimeout(timeout)
        self.socket.connect(path)
        self.buffer = b""
        self.descriptors = []
        self.rings = None
        self.welcome = None
        self.questions, self.for_questions = None, itertools.count(60000, 2)  # the channel on which the daemon is asked
        if greet:
            self.greet(shared, flags, minor)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.rings:
            for ring in self.rings:
                ring.release()
            self.memory.close()
            self.wakeups.close()
            self.rings = None
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = []
        self.socket.close()

    def greet(self, shared=False, flags=0, minor=0):
        self.socket.sendall(hello(minor=minor, flags=(SHARED_MEMORY if shared else 0) | flags))
        self.welcome = self.receive_from_socket()
        assert self.welcome.kind == WELCOME, self.welcome
        (self.major, self.minor, self.flags, self.domid, _, self.max_message,
         self.instance) = struct.unpack_from("<HHIIIQ16s", self.welcome.payload)
        if self.flags & SHARED_MEMORY:
            assert len(self.descriptors) == 3
            self.wakeups = select.epoll()
            self.wakeups.register(self.descriptors[2], select.EPOLLOUT | select.EPOLLET)
            self.memory = mmap.mmap(self.descriptors[0], os.fstat(self.descriptors[0]).st_size)
            seal(self.descriptors[0])
            self.rings = [Ring(self.memory, *struct.unpack_from("<III", self.welcome.payload, 40 + 16 * i))
                          for i in range(3)]
            self.out, self.incoming, self.deliveries = self.rings

    # ---- frames ----

    def send_bytes(self, data):
        """Into the ring if memory is shared, else over the socket."""
        if not self.rings:
            self.socket.sendall(data)
            return
        end = time.monotonic() + self.timeout
        while self.out.space() < len(data):
            if time.monotonic() > end:
                raise Timeout("the daemon doesn't read")
            self.out.want_space()
            self.wait(0.2)
        self.out.put(data)
        self.notify()

    def notify(self):
        os.preadv(self.descriptors[1], [bytearray(8)], -1, os.RWF_NOWAIT)

    def wait(self, seconds):
        """Until the daemon notifies, or for a while; Closed if it has gone."""
        ready = readable([self.wakeups, self.socket], seconds)
        if self.wakeups in ready:
            self.wakeups.poll(0)  # takes the edge
        return self.socket in ready

    def receive_from_socket(self, timeout=None):
        def fill(size):
            while len(self.buffer) < size:
                self.socket.settimeout(self.timeout if timeout is None else timeout)
                try:
                    data, descriptors, _, _ = socket.recv_fds(self.socket, 65536, 3)
                except socket.timeout as error:
                    raise Timeout("no frame came over the socket") from error
                except ConnectionError as error:
                    raise Closed from error
                self.descriptors += descriptors
                if not data:
                    raise Closed
                self.buffer += data

        fill(HEADER.size)
        size = size_at(self.buffer)
        assert size <= HEADER.size + PAYLOAD_MAX
        fill(size)
        got, self.buffer = Frame(self.buffer), self.buffer[size:]
        return got

    def receive(self, ring=None, timeout=None):
        """The next frame, from the ring `in` unless another one is named, or from the socket if no memory is shared."""
        if not self.rings:
            return self.receive_from_socket(timeout)
        ring = ring or self.incoming
        end = time.monotonic() + (self.timeout if timeout is None else timeout)
        while not (got := ring.take()):
            ring.want_data()
            if ring.ready():
                continue
            if time.monotonic() > end:
                raise Timeout("no frame came")
            if self.wait(0.2):
                raise Closed
        return got

    def expect(self, kind, channel=None, timeout=None):
        """The next frame of this type; others are left out. GOODBYE fails unless it is asked for."""
        while True:
            got = self.receive(timeout=timeout)
            if got.kind == kind and (channel is None or got.channel == channel):
                return got
            assert got.kind != GOODBYE, got

    def goodbye(self, timeout=None):
        """(error, text) of the GOODBYE that ends this session; then the socket is closed."""
        while True:
            got = self.receive_from_socket(timeout)
            if got.kind == GOODBYE:
                break
        try:
            self.receive_from_socket(timeout)
        except Closed:
            pass
        else:
            raise AssertionError("the daemon went on after its GOODBYE")
        return got.u32(), got.payload[4:].decode()

    # ---- what programs do ----

    def request(self, kind, payload, number=1):
        """(error, body) of the answer."""
        self.send_bytes(frame(kind, payload, channel=number))
        return self.answer(number)

    def answer(self, number):
        """(error, body) of the answer to a request."""
        got = self.expect(REPLY, channel=number)
        return got.u32(), got.payload[8:]

    def ask(self, what):
        """(error, text) of the daemon's answer to a question."""
        if not self.questions:
            self.questions = Answers(next(self.for_questions))
            self.open("self:xenmsg", self.questions.channel, CALL)
        self.data(self.questions.channel, message(bytes_of(what), kind=REQUEST, number=1))
        self.read_answer(self.questions)
        error, text = self.questions.answer
        if self.questions.is_over:
            self.questions = None
        return error, text

    def watch(self, pattern, channel=61000):
        """Each (error, bytes) that a watch tells, of which the first says whether it watches."""
        answers = Answers(channel)
        answers.parts = []
        self.open("self:xenmsg", channel, CALL)
        self.data(channel, message(b"watch " + bytes_of(pattern), kind=REQUEST, number=1))
        while not answers.is_over:
            while answers.parts:
                yield answers.parts.pop(0)
            self.read_answer(answers, once=True)

    def told(self, channel):
        """(error, text) of the last answer that comes on a channel, which ends with it."""
        answers = Answers(channel)
        while not answers.is_over:
            self.read_answer(answers)
        return answers.answer

    def read_answer(self, answers, once=False):
        """Waits for the next one, or for bytes of it, or the end of the channel."""
        answers.is_whole = False
        while not answers.is_whole and not answers.is_over:
            got = self.receive()
            assert got.kind != GOODBYE, got
            if got.channel != answers.channel:
                continue
            if got.kind == RESET:
                self.send_bytes(reset_frame(got.channel, got.u32(), answers.taken))
                answers.answer, answers.is_over = (got.u32(), b""), True
            elif got.kind == FIN:
                answers.is_over = True
            elif got.kind == DATA:
                answers.take(got.payload)
                if not self.rings:
                    self.send_bytes(credit_frame(got.channel, answers.taken))
                if once:
                    return

    def bind(self, endpoint, number=1, kinds=MESSAGES):
        error, text = self.request(BIND, bind_payload(endpoint, kinds), number)
        assert error == 0, (error, text)

    def query(self, what):
        error, text = self.ask(what)
        assert error == 0, (error, text)
        return text.decode()

    def open(self, address, channel=0, kind=MESSAGE):
        self.send_bytes(open_frame(channel, address, kind))

    def data(self, channel, payload, messages=1):
        for at in range(0, len(payload), PAYLOAD_MAX):
            piece = payload[at:at + PAYLOAD_MAX]
            self.send_bytes(frame(DATA, piece, channel=channel, messages=messages if at + len(piece) == len(payload) else 0))

    def consumed(self, channel, offset, timeout=None):
        """Waits until the receiver has taken the stream up to the offset."""
        while True:
            got = self.receive(timeout=timeout)
            if got.channel == channel and got.kind == CREDIT and got.u64() >= offset:
                return
            if got.channel == channel and got.kind == RESET and got.u64(8) >= offset:
                return  # the receiver has gone, but not before it took all
            assert got.kind not in (RESET, GOODBYE), got


def cut_off(node):
    """Has the daemon of a node end a session that breaks the protocol."""
    with Program(node.socket) as program:
        program.open("self:nobody")
        program.open("self:nobody")
        program.goodbye()
