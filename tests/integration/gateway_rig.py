# SPDX-License-Identifier: LGPL-2.1-or-later
"""Real nats-servers on the loopback, real gateways, and for each of these a daemon that is played in Python."""

import array
import contextlib
import itertools
import json
import os
import random
import shutil
import socket
import subprocess
import threading
import time
import uuid

import pytest

from conftest import TIMEOUT, program, wait_for
from gateway_rings import DaemonEnd


def nats_server():
    path = shutil.which("nats-server", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if not path:
        pytest.skip("nats-server is not installed")
    return path


PORTS = itertools.count(random.SystemRandom().randrange(10000, 30000))


@contextlib.contextmanager
def running(*words, **options):
    """A server of others; it ends also where it doesn't do what it should."""
    with subprocess.Popen(words, **{"stderr": subprocess.DEVNULL} | options) as process:
        try:
            yield process
        finally:
            process.terminate()


def free_port():
    """Of no connection's own, which the kernel chooses from 32768 on, and of none that another test is about to take: each process
    goes on from a port of its own."""
    for port in PORTS:
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


class Server:
    """A nats-server, with what `config` says besides its port."""

    def __init__(self, directory, name="nats", config="", port=None):
        self.port = port or free_port()
        self.directory, self.name = directory, name
        self.path = directory / f"{name}.conf"
        self.path.write_text(f'listen: "127.0.0.1:{self.port}"\nserver_name: "{name}"\n{config}\n')
        self.process = None
        self.start()

    @property
    def url(self):
        return f"nats://127.0.0.1:{self.port}"

    def start(self):
        self.log = self.directory / f"{self.name}.log"
        with self.log.open("ab") as log:
            before = log.tell()
            self.process = subprocess.Popen([nats_server(), "-c", self.path], stdout=log, stderr=log)

        def listens():
            if self.process.poll() is not None:
                pytest.fail(f"nats-server ends: {self.log.read_text()}")
            return "Server is ready" in self.log.read_text()[before:]
        wait_for(listens, "nats-server listens")

    def kill(self):
        self.process.kill()
        self.process.wait()


class Daemon:
    """The daemon's side of the socket to a gateway."""

    def __init__(self, path, host, instance=None):
        self.path, self.host = str(path), host
        self.instance = instance or str(uuid.uuid4())
        self.packets = []
        self.ends = []
        self.changed = threading.Condition()
        self.connection = None
        self.next_id = 2
        self.closed = False
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(self.path)
        self.listener.listen()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
                hello = json.loads(connection.recv(65536))
                assert hello["type"] == "hello" and hello["version"] == 1
                connection.send(json.dumps({"type": "welcome", "version": 1, "host": self.host,
                                            "instance": self.instance}).encode())
            except OSError:
                return
            with self.changed:
                self.connection = connection
                self.changed.notify_all()
            while True:
                try:
                    data = connection.recv(65536)
                except OSError:
                    data = b""
                if not data:
                    break
                with self.changed:
                    self.packets.append(json.loads(data))
                    self.changed.notify_all()
            with self.changed:
                if self.connection is connection:
                    self.connection = None
                self.changed.notify_all()
            connection.close()

    def wait(self, timeout=TIMEOUT, take=True, **members):
        """Waits for a packet with these members, and takes it and all before it."""
        def find():
            for index, packet in enumerate(self.packets):
                if all(packet.get(name) == value for name, value in members.items()):
                    if take:
                        del self.packets[:index + 1]
                    return packet
            return None
        with self.changed:
            found = []

            def there():
                packet = find()
                if packet:
                    found.append(packet)
                return packet is not None
            if not self.changed.wait_for(there, timeout):
                pytest.fail(f"{self.host}: no packet {members} within {timeout} s, but {self.packets}")
        return found[0]

    def say(self, packet, fds=()):
        with self.changed:
            assert self.changed.wait_for(lambda: self.connection, TIMEOUT), f"{self.host}: no gateway"
            connection = self.connection
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        connection.sendmsg([json.dumps(packet).encode()], ancillary)

    def answer(self, packet_type, host, number):
        """Sends memory for a conversation with a packet; returns our end of it."""
        ours = DaemonEnd()
        self.ends.append(ours)
        self.say({"type": packet_type, "host": host, "id": number}, ours.passed)
        ours.was_passed()
        return ours

    def ask(self, host):
        """Asks for a conversation. Returns its number and our end of it."""
        number, self.next_id = self.next_id, self.next_id + 2
        return number, self.answer("connect", host, number)

    def close(self):
        self.listener.close()
        with self.changed:
            connection = self.connection
        if connection:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for end in self.ends:
            end.close()
        with contextlib.suppress(OSError):
            os.unlink(self.path)


class Gateway:
    """A gateway process for a host, with its daemon."""

    def __init__(self, directory, host, servers, nats="", settings="", daemon=None, start=True, environment=(), dead_after="20s"):
        self.directory = directory / f"{host}-{uuid.uuid4().hex[:6]}"
        self.directory.mkdir()
        self.host = host
        self.environment = dict(os.environ, **dict(environment))
        self.daemon = daemon or Daemon(self.directory / "gateway.sock", host)
        self.config = self.directory / "gateway.conf"
        self.log_path = self.directory / "log"
        self.config.write_text(f"[nats]\nservers = {', '.join(servers)}\n{nats}\n[gateway]\n"
                               f"daemon-socket = {self.daemon.path}\nlog-level = debug\n"
                               f"presence-interval = 500ms\ndead-after = {dead_after}\n{settings}\n")
        self.process = None
        if start:
            self.start()

    def start(self):
        if not any(os.path.exists(os.path.join(os.environ.get(name, "/usr/sbin"), "xenmsg-gateway"))
                   for name in ("XENMSG_SBINDIR", "XENMSG_BUILDDIR")):
            pytest.skip("built without NATS")
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen([program("xenmsg-gateway"), "--config", self.config], stderr=log,
                                            env=self.environment)

    def log(self):
        return self.log_path.read_text()

    def says(self, text, timeout=TIMEOUT):
        wait_for(lambda: text in self.log(), f"{text!r} in the log of {self.host}", timeout)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        return self.process.wait(TIMEOUT)

    def is_up(self):
        self.daemon.wait(type="state", up=True)


def connected(a, b):
    """Makes a conversation between the daemons of two gateways. Returns its ends, a's first."""
    for attempt in range(20):
        number, ours = a.daemon.ask(b.host)
        outcome = []

        def decided():
            with a.daemon.changed:
                for packet in a.daemon.packets:
                    if packet.get("id") == number and packet["type"] in ("connected", "failed"):
                        outcome.append(packet["type"])
                        a.daemon.packets.remove(packet)
                        return True
            return False
        accepting = []
        end = time.monotonic() + TIMEOUT
        while not decided():
            with b.daemon.changed:
                waits = next((packet for packet in b.daemon.packets
                              if packet["type"] == "incoming" and packet["host"] == a.host), None)
                if waits:
                    b.daemon.packets.remove(waits)
            if waits:
                accepting.append(b.daemon.answer("accept", a.host, waits["id"]))
            assert time.monotonic() < end, "the conversation is neither connected nor failed"
            time.sleep(0.005)
        if outcome == ["connected"]:
            return ours, accepting[-1]
        ours.close()
        for stream in accepting:
            stream.close()
        time.sleep(0.2)
    pytest.fail("no conversation came about in 20 attempts")


def carries(a, b, data=b"again"):
    """A new conversation between the daemons of two gateways carries this. Returns its ends, a's first."""
    at_a, at_b = connected(a, b)
    assert pump(at_a, at_b, data) == data
    return at_a, at_b


def pump(writer, reader, data):
    """Writes data at one end while it is read at the other one. Returns what was read."""
    got = bytearray()

    def write():
        with contextlib.suppress(OSError):
            writer.sendall(data)
    thread = threading.Thread(target=write)
    thread.start()
    reader.settimeout(TIMEOUT)
    while len(got) < len(data):
        piece = reader.recv(1 << 20)
        if not piece:
            break
        got += piece
    thread.join(TIMEOUT)
    return bytes(got)
