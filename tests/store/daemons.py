# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian's xenstoreds and xensim's XenStore, each with clients in several domains and without Xen.

A store has connections by name: "0a" and "0b" are two programs of domain 0, by the daemon's socket, and "1", "2" and so on the
guests' rings. The real daemons run with librig.so (rig.c), which gives them the pages of those rings and the event channels.
"""

import mmap
import os
import pathlib
import socket
import struct
import subprocess
import tempfile
import time

TIMEOUT = float(os.environ.get("XENMSG_TEST_TIMEOUT", "30"))
BUILD = pathlib.Path(os.environ.get("XENMSG_BUILDDIR", "."))
GUESTS = 3
HEADER = struct.Struct("<IIII")
FIRST_PORT = 10

(CONTROL, DIRECTORY, READ, GET_PERMS, WATCH, UNWATCH, TRANSACTION_START, TRANSACTION_END, INTRODUCE, RELEASE, GET_DOMAIN_PATH,
 WRITE, MKDIR, RM, SET_PERMS, WATCH_EVENT, ERROR, IS_DOMAIN_INTRODUCED, RESUME, SET_TARGET, _, RESET_WATCHES,
 DIRECTORY_PART) = range(23)

# Quotas that requests by chance can reach. oxenstored's conflict limit only makes a domain wait.
LIMITS = {"nodes": 30, "watches": 8, "transactions": 4, "transaction-requests": 20}


def real_daemon(name):
    """The path of Debian's daemon; None if its package is not installed."""
    found = sorted(pathlib.Path("/usr/lib").glob(f"xen-*/bin/{name}"))
    return found[-1] if found else None


class Connection:
    """Messages both ways. The transport is in send() and fill(), which adds to self.input, and waits for it."""

    def __init__(self):
        self.input = b""

    def request(self, kind, request_id, transaction, payload):
        self.send(HEADER.pack(kind, request_id, transaction, len(payload)) + payload)

    def message(self):
        """The next one, as (type, request, transaction, payload)."""
        end = time.monotonic() + TIMEOUT
        while len(self.input) < HEADER.size or len(self.input) < HEADER.size + HEADER.unpack_from(self.input)[3]:
            if not self.fill(end):
                raise TimeoutError("the store does not answer")
        kind, request_id, transaction, length = HEADER.unpack_from(self.input)
        payload = self.input[HEADER.size:HEADER.size + length]
        self.input = self.input[HEADER.size + length:]
        return kind, request_id, transaction, payload


class Socket(Connection):
    """A connection by a daemon's socket."""

    def __init__(self, path):
        super().__init__()
        self.socket = socket.socket(socket.AF_UNIX)
        # Waits, which a socket with a time-out doesn't: oxenstored lets one connection wait.
        self.socket.connect(str(path))
        self.socket.settimeout(TIMEOUT)

    def send(self, data):
        self.socket.sendall(data)

    def fill(self, end):
        data = self.socket.recv(65536)
        if not data:
            raise EOFError("the store has closed the connection")
        self.input += data
        return True

    def close(self):
        self.socket.close()


class Ring(Connection):
    """A domain's ring, as its kernel uses it (xen/io/xs_wire.h)."""

    SIZE = 1024
    REQUESTS, RESPONSES = 0, 1024
    REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD = range(512, 516)  # in words, each of which is written at once

    def __init__(self, store, domid):
        super().__init__()
        self.store = store
        self.port = FIRST_PORT + domid
        with open(store.page(domid), "r+b") as page:
            self.page = mmap.mmap(page.fileno(), 4096)
        self.words = memoryview(self.page).cast("I")

    def send(self, data):
        end = time.monotonic() + TIMEOUT
        while data:
            produced = self.words[self.REQ_PROD]
            room = self.SIZE - (produced - self.words[self.REQ_CONS] & 0xffffffff)
            at = produced % self.SIZE
            piece = data[:min(room, self.SIZE - at)]
            if not piece:
                self.store.wait_for_event(end)
                continue
            self.page[self.REQUESTS + at:self.REQUESTS + at + len(piece)] = piece
            self.words[self.REQ_PROD] = produced + len(piece) & 0xffffffff
            self.store.send_event(self.port)
            data = data[len(piece):]

    def fill(self, end):
        while True:
            consumed = self.words[self.RSP_CONS]
            available = self.words[self.RSP_PROD] - consumed & 0xffffffff
            at = consumed % self.SIZE
            piece = self.page[self.RESPONSES + at:self.RESPONSES + at + min(available, self.SIZE - at)]
            if piece:
                self.input += piece
                self.words[self.RSP_CONS] = consumed + len(piece) & 0xffffffff
                self.store.send_event(self.port)
                return True
            if not self.store.wait_for_event(end):
                return False

    def close(self):
        self.words.release()
        self.page.close()


class Store:
    """What is common to the real and the simulated one."""

    def __init__(self):
        self.temporary = tempfile.TemporaryDirectory(prefix="xenstore-")
        self.folder = pathlib.Path(self.temporary.name)
        self.connections = {}

    def connect_all(self):
        """Domain 0's programs. Guests are connected when they have been introduced."""
        self.connections["0a"] = self.dom0()
        self.connections["0b"] = self.dom0()

    def close(self):
        for connection in self.connections.values():
            connection.close()
        self.stop()
        self.temporary.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class RealStore(Store):
    """Debian's oxenstored or xenstored."""

    def __init__(self, name):
        super().__init__()
        for domid in range(GUESTS + 1):
            with open(self.page(domid), "wb") as page:
                page.write(bytes(4096))
        (self.folder / "port").write_text(str(FIRST_PORT))
        (self.folder / "conf").write_text(
            f"pid-file = {self.folder}/pid\nxenstored-kva = {self.page(0)}\nxenstored-port = {self.folder}/port\n"
            f"xenstored-log-file = {self.folder}/log\nconflict-burst-limit = 1000000.0\nquota-path-max = 1024\n"
            f"quota-maxentity = {LIMITS['nodes']}\nquota-maxwatch = {LIMITS['watches']}\n"
            f"quota-transaction = {LIMITS['transactions']}\nquota-maxrequests = {LIMITS['transaction-requests']}\n")
        self.events, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # In a build with AddressSanitizer its run-time must be loaded first.
        preload = f"{os.environ.get('XENSIM_PRELOAD_FIRST', '')} {BUILD}/.libs/librig.so".strip()
        environment = dict(os.environ, LD_PRELOAD=preload, STORE_RIG=str(self.folder), STORE_RIG_EVENTS=str(other.fileno()),
                           XENSTORED_RUNDIR=str(self.folder), XENSTORED_ROOTDIR=str(self.folder),
                           XENSTORED_PATH=str(self.folder / "socket"))
        if name == "oxenstored":
            command = ["--no-fork", "--no-access-log", "--config-file", self.folder / "conf"]
        else:
            command = ["--no-fork", "--entry-nb", str(LIMITS["nodes"]), "--watch-nb", str(LIMITS["watches"]), "--transaction",
                       str(LIMITS["transactions"]), "--quota", f"transaction-nodes={LIMITS['transaction-requests']}"]
        self.process = subprocess.Popen([real_daemon(name), *command], env=environment, pass_fds=[other.fileno()],
                                        stdout=subprocess.DEVNULL)
        other.close()
        end = time.monotonic() + TIMEOUT
        while not self.listens():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{name} does not start")
            time.sleep(0.002)
        self.connect_all()

    def listens(self):
        try:
            self.dom0().close()
        except OSError:
            return False
        return True

    def page(self, domid):
        return self.folder / f"page-{domid}"

    def send_event(self, port):
        self.events.send(struct.pack("<I", port))

    def wait_for_event(self, end):
        """Waits for an event on any port. Returns whether one came in time."""
        self.events.settimeout(max(0.001, end - time.monotonic()))
        try:
            return bool(self.events.recv(4))
        except TimeoutError:
            return False

    def dom0(self):
        return Socket(self.folder / "socket")

    def prepare_guest(self, name):
        """Empties its ring."""
        with open(self.page(name), "r+b") as page:
            page.write(bytes(4096))

    def guest(self, name):
        return Ring(self, int(name))

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.events.close()


class SimulatedStore(Store):
    """xensim's, in a process of its own (serve.c)."""

    def __init__(self, *options):
        super().__init__()
        self.process = subprocess.Popen([BUILD / "store-serve", self.folder, str(GUESTS), *options,
                                         *(f"{name}={value}" for name, value in LIMITS.items())],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.process.stdout.readline() != b"ready\n":
            raise RuntimeError("store-serve does not start")
        self.connect_all()

    def dom0(self):
        return Socket(self.folder / "dom-0")

    def prepare_guest(self, name):
        """Has nothing to do: its connection is made new."""

    def guest(self, name):
        return Socket(self.folder / f"dom-{name}")

    def stop(self):
        """In order, so that a sanitizer can tell what it has found."""
        self.process.stdin.close()
        self.process.stdout.close()
        if self.process.wait(TIMEOUT):
            raise RuntimeError(f"store-serve ended with {self.process.returncode}")
