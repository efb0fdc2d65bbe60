# SPDX-License-Identifier: LGPL-2.1-or-later
"""The memory of a conversation that a daemon shares with its gateway (doc/protocol.md, section 7), with either end of it
played in Python. An end looks at the indices now and then instead of waiting to be woken, and wakes the other one always."""

import array
import mmap
import os
import socket
import threading
import time

from frames import DATA, frame, size_at
from protocol import Ring, seal

RING, HEAD = 1 << 20, 4096
SIZE = HEAD + 2 * RING
OUT, IN = 0, 1  # seen from the daemon
PIECE = 65536  # the most bytes in a frame
LOOK = 0.001
DESCRIPTORS = 4
PLENTY = 1 << 63


def doorbell():
    fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK | os.EFD_SEMAPHORE)
    os.eventfd_write(fd, PLENTY)
    return fd


class End:
    """One end: a ring that it reads, one that it writes, and what tells of both."""

    def __init__(self, memory, life, wakes, woken, is_daemon):
        self.memory, self.life, self.wakes, self.woken = memory, life, wakes, woken
        rings = [Ring(memory, which * 256, HEAD + which * RING, RING) for which in (OUT, IN)]
        self.writes, self.reads = rings if is_daemon else rings[::-1]
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
        """None: there is none. It is processed with that."""
        with self.lock:
            got = None if self.is_closed else self.reads.take()
            if got:
                self.wake()
            return got

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
            size = size_at(frames, at)
            while not self.is_closed and ring.space() < size:
                time.sleep(LOOK)
            with self.lock:
                if self.is_closed:
                    raise BrokenPipeError
                ring.put(frames[at:at + size])
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
        whole = frame(DATA, data, sequence=self.sequence)

        def there_is_room():
            if self.has_ended():
                raise BrokenPipeError
            return self.writes.space() >= len(whole)
        self.wait(there_is_room)
        with self.lock:
            if self.is_closed:
                raise BrokenPipeError
            self.sequence += 1
            self.writes.put(whole)
            self.wake()
        return len(data)

    def sendall(self, data):
        view = memoryview(data)
        while view:
            view = view[self.send(view):]

    def take(self):
        """Whether there was another frame, of which the payload is to be read now."""
        got = self.next_frame()
        if got:
            self.rest = got.payload
        return got is not None

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
