# SPDX-License-Identifier: LGPL-2.1-or-later
"""The memory of a conversation that a daemon shares with its gateway (doc/protocol.md, section 7), with either end of it
played in Python. An end looks at the indices now and then instead of waiting to be woken, and wakes the other one always."""

import array
import mmap
import os
import socket
import struct
import threading
import time

from protocol import seal

RING, HEAD = 1 << 20, 4096
SIZE = HEAD + 2 * RING
OUT, IN = 0, 1  # seen from the daemon
HEADER = struct.Struct("<IBBHII")  # of a frame: length, type, flags, messages, channel, sequence
FRAME_DATA = 18
PIECE = 65536  # the most bytes in a frame
LOOK = 0.001
DESCRIPTORS = 4
PLENTY = 1 << 63


def doorbell():
    fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK | os.EFD_SEMAPHORE)
    os.eventfd_write(fd, PLENTY)
    return fd


def padded(length):
    return HEADER.size + length + -length % 8


class Ring:
    def __init__(self, memory, which):
        self.memory, self.data = memory, HEAD + which * RING
        self.words = memoryview(memory)[which * 256:(which + 1) * 256].cast("I")

    def release(self):
        self.words.release()

    @property
    def producer(self):
        return self.words[0]

    @producer.setter
    def producer(self, value):
        self.words[0] = value & 0xffffffff

    @property
    def consumer(self):
        return self.words[16]

    @consumer.setter
    def consumer(self, value):
        self.words[16] = value & 0xffffffff

    def read(self, at, size):
        at %= RING
        first = self.memory[self.data + at:self.data + min(at + size, RING)]
        return first + self.memory[self.data:self.data + size - len(first)]

    def write(self, at, data):
        at %= RING
        first = min(len(data), RING - at)
        self.memory[self.data + at:self.data + at + first] = data[:first]
        self.memory[self.data:self.data + len(data) - first] = data[first:]


class End:
    """One end: a ring that it reads, one that it writes, and what tells of both."""

    def __init__(self, memory, life, wakes, woken, is_daemon):
        self.memory, self.life, self.wakes, self.woken = memory, life, wakes, woken
        self.reads, self.writes = Ring(memory, IN if is_daemon else OUT), Ring(memory, OUT if is_daemon else IN)
        life.setblocking(False)
        self.lock = threading.RLock()
        self.is_closed = False

    def wake(self):
        os.preadv(self.wakes, [bytearray(8)], -1, os.RWF_NOWAIT)

    def has_ended(self):
        """Whether the other end has: what it wrote before is in the ring then."""
        if self.is_closed:
            return True
        try:
            self.life.recv(1, socket.MSG_PEEK)
            return True
        except BlockingIOError:
            return False
        except OSError:
            return True

    def next_frame(self):
        """Its kind and payload; None: there is none. It is processed with that."""
        with self.lock:
            ring = self.reads
            if self.is_closed or ring.producer == ring.consumer:
                return None
            at = ring.consumer
            length, kind, *_ = HEADER.unpack(ring.read(at, HEADER.size))
            assert ring.producer - at & 0xffffffff >= padded(length), "only whole frames are seen"
            payload = ring.read(at + HEADER.size, length)
            ring.consumer = at + padded(length)
            self.wake()
            return kind, payload

    def close(self):
        with self.lock:
            if self.is_closed:
                return
            self.is_closed = True
            self.wake()
            self.life.close()
            for fd in (self.wakes, self.woken):
                os.close(fd)
            self.reads.release()
            self.writes.release()
            self.memory.close()


class GatewayEnd(End):
    """Of the descriptors that came with a CONNECT or ACCEPT."""

    def __init__(self, fds):
        life, memory, wakes, woken = fds
        super().__init__(mmap.mmap(memory, SIZE), socket.socket(fileno=life), wakes, woken, False)
        seal(memory)
        os.close(memory)
        self.wake()  # the daemon waits for the mapping and the seal

    def put(self, frames):
        """Whole ones, one behind another, as fast as the daemon takes them."""
        ring, at = self.writes, 0
        while at < len(frames):
            size = padded(HEADER.unpack_from(frames, at)[0])
            while not self.is_closed and RING - (ring.producer - ring.consumer & 0xffffffff) < size:
                time.sleep(LOOK)
            with self.lock:
                if self.is_closed:
                    raise BrokenPipeError
                ring.write(ring.producer, frames[at:at + size])
                ring.producer += size
                self.wake()
            at += size


class DaemonEnd(End):
    """Makes the descriptors, of which `passed` are the gateway's. Looks like a socket: each write is a frame or some."""

    def __init__(self):
        ours, theirs = socket.socketpair()
        memory = os.memfd_create("conversation", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(memory, SIZE)
        wakes, woken = doorbell(), doorbell()
        self.passed = [theirs.detach(), memory, woken, wakes]
        super().__init__(mmap.mmap(memory, SIZE), ours, wakes, woken, True)
        self.sequence = 0
        self.rest = b""
        self.timeout = None

    def was_passed(self):
        os.close(self.passed[0])
        os.close(self.passed[1])

    def settimeout(self, timeout):
        self.timeout = timeout

    def wait(self, condition):
        end = time.monotonic() + self.timeout if self.timeout else None
        while not condition():
            if end and time.monotonic() > end:
                raise TimeoutError
            time.sleep(LOOK)

    def send(self, data):
        data = bytes(data[:PIECE])
        frame = HEADER.pack(len(data), FRAME_DATA, 0, 0, 0, self.sequence) + data + bytes(-len(data) % 8)
        ring = self.writes

        def there_is_room():
            if self.has_ended():
                raise BrokenPipeError
            return RING - (ring.producer - ring.consumer & 0xffffffff) >= len(frame)
        self.wait(there_is_room)
        with self.lock:
            if self.is_closed:
                raise BrokenPipeError
            self.sequence += 1
            ring.write(ring.producer, frame)
            ring.producer += len(frame)
            self.wake()
        return len(data)

    def sendall(self, data):
        view = memoryview(data)
        while view:
            view = view[self.send(view):]

    def take(self):
        """Whether there was another frame, of which the payload is to be read now."""
        frame = self.next_frame()
        if frame:
            self.rest = frame[1]
        return frame is not None

    def recv(self, size):
        ended = []

        def there_is_some():
            has_ended = self.has_ended()  # before the ring is looked at
            if not self.rest and not self.take() and has_ended:
                ended.append(True)
            return self.rest or ended
        self.wait(there_is_some)
        got, self.rest = self.rest[:size], self.rest[size:]
        return got


def descriptors_in(control):
    """Those that came with a packet."""
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            return list(array.array("i", data[:len(data) - len(data) % 4]))
    return []
