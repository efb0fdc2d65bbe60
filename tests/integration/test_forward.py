# SPDX-License-Identifier: LGPL-2.1-or-later
"""xenmsg forward: what it carries, between which kinds of places, and what becomes of it when something ends."""

import contextlib
import hashlib
import itertools
import re
import signal
import socket
import struct
import threading

import pytest

from library import Connection
from messaging import EXIT_ERROR, PATIENCE, eventually, is_listening

SIZE = 3 << 20
RESET = struct.pack("ii", 1, 0)  # for SO_LINGER: close() resets


def block(seed, size=SIZE):
    return hashlib.shake_128(str(seed).encode()).digest(size)


class Server:
    """Hands each connection that comes to `serve`, in a thread of its own."""

    def __init__(self, listener, serve):
        self.listener, self.serve = listener, serve
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                connection = self.listener.accept()[0]
                connection.settimeout(20 * PATIENCE)
                threading.Thread(target=self.serve, args=(connection,), daemon=True).start()


def echo(connection):
    """Sends all back, and then the end."""
    with connection, contextlib.suppress(ConnectionError):
        while data := connection.recv(65536):
            connection.sendall(data)


def digest(connection):
    """Takes all to the end, and answers with the digest."""
    with connection:
        whole = hashlib.sha256()
        while data := connection.recv(65536):
            whole.update(data)
        connection.sendall(whole.digest())


class Rig:
    """A client in domain 1, a server in domain 2, and forwards between them."""

    def __init__(self, one, two, path, stack):
        self.one, self.two, self.path, self.stack = one, two, path, stack
        self.names = itertools.count()
        self.is_over = threading.Event()
        self.poured = self.poured_before = 0
        stack.callback(self.is_over.set)

    def greet_and_wait(self, connection):
        """Says a first part, and nothing more."""
        with connection:
            connection.sendall(b"first part")
            self.is_over.wait()

    def pour(self, connection):
        """Sends for as long as somebody takes it."""
        with connection, contextlib.suppress(OSError):
            while not self.is_over.is_set():
                self.poured += connection.send(bytes(65536))

    def is_stuck(self):
        """Whether nothing more has been poured since the last look."""
        before, self.poured_before = self.poured_before, self.poured
        return self.poured == before > 0

    def listen(self, kind, serve):
        """A server at a place of this kind in domain 2. Returns the place as a target there."""
        name = f"s{next(self.names)}"
        if kind == "xen":
            server = Connection(self.two.socket)  # the Acceptor closes it
            server.listen(name)
            Server(Acceptor(server), serve)
            return f"xen:self:{name}"
        if kind == "tcp":
            listener = self.stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            place = f"tcp:127.0.0.1:{listener.getsockname()[1]}"
        else:
            listener = self.stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(self.path / name))
            listener.listen(100)
            place = f"unix:{self.path / name}"
        Server(listener, serve)
        return place

    def forward(self, node, kind, target, *options):
        """Starts a forward from a place of this kind. Returns its process, and the place as clients see it."""
        name = f"f{next(self.names)}"
        source = {"xen": f"xen:{name}", "tcp": "tcp:127.0.0.1:0", "unix": f"unix:{self.path / name}"}[kind]
        process = node.popen("forward", *options, source, target)
        if kind == "tcp":
            port = re.search(rb"listens on port (\d+)", process.stderr.readline())[1]
            place = process.stdout.readline().decode().rstrip("\n")
            assert place == f"tcp:127.0.0.1:{port.decode()}"  # for scripts
            return process, place
        eventually(lambda: name in node.endpoints() if kind == "xen" else is_listening(str(self.path / name)), "it listens")
        return process, source

    def dial(self, place):
        kind, _, where = place.partition(":")
        if kind == "xen":
            client = self.stack.enter_context(Connection(self.one.socket))
            connection = socket.socket(fileno=client.connect(f"2:{where}"))
        elif kind == "tcp":
            connection = socket.create_connection(("127.0.0.1", int(where.rpartition(":")[2])))
        else:
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(where)
        connection.settimeout(20 * PATIENCE)
        return self.stack.enter_context(connection)

    def between(self, serve):
        """A TCP socket in domain 1, carried to a TCP server behind domain 2. Returns both forwards and the place."""
        behind, middle = self.forward(self.two, "xen", self.listen("tcp", serve))
        before, entry = self.forward(self.one, "tcp", f"xen:2:{middle.partition(':')[2]}")
        return before, behind, entry


class Acceptor:
    """Streams that come, as from a listening socket, until the daemon has gone. The connection belongs to one thread."""

    def __init__(self, server):
        self.server = server

    def accept(self):
        descriptor = self.server.accept(int(20000 * PATIENCE))
        if descriptor < 0:
            self.server.close()
            raise OSError(-descriptor, "no stream")
        return socket.socket(fileno=descriptor), None


@pytest.fixture(name="rig")
def _rig(nodes, tmp_path):
    one, two = nodes(1, 2, config="").values()
    with contextlib.ExitStack() as stack:
        yield Rig(one, two, tmp_path, stack)


def exchange(client, data):
    """Sends all, ends its direction, and returns what comes back."""
    def send():
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    answer = b"".join(iter(lambda: client.recv(65536), b""))
    sender.join()
    return answer


@pytest.mark.parametrize("target", ["unix", "tcp", "xen"])
@pytest.mark.parametrize("source", ["unix", "tcp", "xen"])
def test_every_kind_of_place_is_carried_to_every_kind(rig, source, target):
    _, place = rig.forward(rig.two, source, rig.listen(target, echo))
    client, data = rig.dial(place), block(f"{source} {target}")
    assert exchange(client, data) == data


def test_an_answer_comes_after_one_s_own_end(rig):
    _, _, entry = rig.between(digest)
    data = block("digest")
    assert exchange(rig.dial(entry), data) == hashlib.sha256(data).digest()
    assert exchange(rig.dial(entry), b"") == hashlib.sha256(b"").digest()


def test_many_connections_carry_what_is_theirs(rig):
    _, _, entry = rig.between(echo)
    clients = [rig.dial(entry) for _ in range(50)]
    answers = {}
    threads = [threading.Thread(target=lambda i=i: answers.update({i: exchange(clients[i], block(i, 100000 + i))})) for i in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(answers[i] == block(i, 100000 + i) for i in range(50))
    # Nothing is left of them.
    for node in (rig.one, rig.two):
        eventually(lambda node=node: all(client["channels"] == 0 for client in node.status()["clients"] if client["carries_streams"]),
                   "the channels have ended")


def test_who_does_not_read_holds_up_nobody_else(rig):
    _, _, entry = rig.between(echo)
    lazy = rig.dial(entry)
    lazy.setblocking(False)
    sent, data = 0, block("lazy", 1 << 16)

    def is_full():
        nonlocal sent
        before = sent
        with contextlib.suppress(BlockingIOError):
            while True:
                sent += lazy.send(data[sent % len(data):])
        return sent == before and sent > 1 << 20

    eventually(is_full, "everything on the way is full")
    for i in range(10):
        assert exchange(rig.dial(entry), block(i, 300000)) == block(i, 300000)
    # And nothing of what waits is lost.
    lazy.setblocking(True)
    lazy.settimeout(20 * PATIENCE)
    lazy.shutdown(socket.SHUT_WR)
    got = b"".join(iter(lambda: lazy.recv(65536), b""))
    assert got == (data * (sent // len(data) + 1))[:sent]


@pytest.mark.parametrize("kind", ["unix", "tcp", "xen"])
@pytest.mark.parametrize("source", ["unix", "tcp", "xen"])
def test_an_early_answer_arrives_though_not_all_was_read(rig, kind, source):
    """As of a server that finds a request too large. Before, it was lost in 20 of 20. What TCP's first window doesn't hold goes with the reset."""
    def serve(connection):
        with connection, contextlib.suppress(OSError):
            connection.recv(10)
            connection.sendall(b"A" * 30000)

    def send(client):
        with contextlib.suppress(OSError):
            client.sendall(bytes(3000000))

    _, middle = rig.forward(rig.two, "xen", rig.listen(kind, serve))
    _, entry = (None, middle) if source == "xen" else rig.forward(rig.one, source, f"xen:2:{middle.partition(':')[2]}")
    for _ in range(5):
        client, got = rig.dial(entry), b""
        sender = threading.Thread(target=send, args=(client,))
        sender.start()
        while True:
            try:
                piece = client.recv(65536)
            except ConnectionResetError:  # TCP's, of a server that leaves bytes unread
                piece = b""
            if not piece:
                break
            got += piece
        sender.join()
        assert got == b"A" * 30000


@pytest.mark.parametrize("source", ["unix", "tcp", "xen"])
def test_a_client_that_has_enough_ends_who_pours(rig, source):
    over = threading.Event()

    def serve(connection):
        rig.pour(connection)
        over.set()

    _, middle = rig.forward(rig.two, "xen", rig.listen("unix", serve))
    _, entry = (None, middle) if source == "xen" else rig.forward(rig.one, source, f"xen:2:{middle.partition(':')[2]}")
    client = rig.dial(entry)
    client.sendall(b"more!")
    assert client.recv(100)
    client.close()
    assert over.wait(20 * PATIENCE)


@pytest.mark.parametrize("source", ["unix", "xen"])
def test_a_server_that_takes_no_more_is_seen_by_the_writer(rig, source):
    """As of a socket that is shut down for reading; forward took and dropped 400 MB. TCP can't say that of one direction."""
    told = threading.Event()

    def serve(connection):
        with connection:
            connection.recv(1)
            connection.shutdown(socket.SHUT_RD)
            told.wait(20 * PATIENCE)
            connection.sendall(b"enough")

    _, middle = rig.forward(rig.two, "xen", rig.listen("unix", serve))
    _, entry = (None, middle) if source == "xen" else rig.forward(rig.one, source, f"xen:2:{middle.partition(':')[2]}")
    client = rig.dial(entry)
    with pytest.raises(BrokenPipeError):
        client.sendall(bytes(100 << 20))
    told.set()
    assert client.recv(100) == b"enough"
    assert client.recv(100) == b""


def test_an_urgent_byte_is_one_like_others_and_holds_up_nobody(rig):
    def serve(connection):
        with connection:
            connection.sendall(b"before")
            connection.send(b"!", socket.MSG_OOB)
            connection.sendall(b"behind")
            connection.recv(1)

    for kind in ("unix", "tcp"):
        _, middle = rig.forward(rig.two, "xen", rig.listen(kind, serve))
        clients = [rig.dial(middle) for _ in range(3)]
        for client in clients:
            with client.makefile("rb") as reader:
                assert reader.read(13) == b"before!behind"
            client.sendall(b"x")


def test_a_server_that_resets_is_seen_after_what_it_said(rig):
    def serve(connection):
        with connection:
            connection.recv(100)
            connection.sendall(b"last words")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            taken.wait(20 * PATIENCE)

    taken = threading.Event()
    _, _, entry = rig.between(serve)
    client = rig.dial(entry)
    client.sendall(b"hello")
    assert client.recv(100) == b"last words"
    taken.set()
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_a_client_that_resets_is_seen_by_the_server(rig):
    def serve(connection):
        with connection:
            try:
                while data := connection.recv(100):
                    seen.append(data)
                seen.append("end")
            except ConnectionResetError:
                seen.append("reset")

    seen = []
    _, behind, entry = rig.between(serve)
    client = rig.dial(entry)
    client.sendall(b"hello")
    eventually(lambda: seen == [b"hello"], "it arrives")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()
    eventually(lambda: seen == [b"hello", "reset"], "the server sees it")
    assert b"the stream broke behind the program there: connection reset" in behind.stderr.readline()


def unix_client_of_a_broken_server(rig, *options):
    """A client at a unix: source, which has read the first part of what its server says; and what breaks the rest."""
    def serve(connection):
        with connection:
            connection.recv(100)
            connection.sendall(b"first part")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            breaks.wait(20 * PATIENCE)

    breaks = threading.Event()
    target = rig.listen("tcp", serve)
    process, entry = rig.forward(rig.one, "unix", target, *options)
    client = rig.dial(entry)
    client.sendall(b"hello")
    assert client.recv(100) == b"first part"
    return process, client, breaks


def test_a_part_that_looks_whole_is_told_by_the_exit_status(rig):
    process, client, breaks = unix_client_of_a_broken_server(rig)
    breaks.set()
    assert client.recv(1) == b""
    lines = process.stderr.readline() + process.stderr.readline()
    assert b"broke a connection" in lines and b"and reads an end of file" in lines
    process.terminate()
    assert process.wait(20 * PATIENCE) == 8


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_what_is_carried_when_it_is_stopped_is_broken(rig, kind):
    """Its TCP is reset; a Unix socket can't be, which is told, and the exit status."""
    target = rig.listen("unix", rig.greet_and_wait)
    process, entry = rig.forward(rig.one, kind, target)
    client = rig.dial(entry)
    assert client.recv(100) == b"first part"
    process.terminate()
    if kind == "tcp":
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    else:
        assert client.recv(1) == b""
    assert process.wait(20 * PATIENCE) == 8
    lines = process.stderr.read()
    assert lines.count(b"and reads an end of file") == (2 if kind == "unix" else 1), lines


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_a_slow_reader_is_told_when_the_session_ends(rig, kind):
    """It hasn't read all that had come before."""
    target = rig.listen("unix", rig.pour)
    _, place = rig.forward(rig.two, "xen", target)
    process, entry = rig.forward(rig.one, kind, f"xen:2:{place.partition(':')[2]}")
    client = rig.dial(entry)
    assert client.recv(1)
    eventually(rig.is_stuck, "nobody reads")
    rig.one.kill()
    line = process.stderr.readline()
    assert b"broke a connection" in line
    got = 1
    if kind == "tcp":
        with pytest.raises(ConnectionResetError):
            while data := client.recv(65536):
                got += len(data)
    else:
        while data := client.recv(65536):
            got += len(data)
        assert b"and reads an end of file" in process.stderr.readline()
    process.terminate()
    assert process.wait(20 * PATIENCE) == (8 if kind == "unix" else -signal.SIGTERM)


@contextlib.contextmanager
def endless_target():
    """A TCP target that takes for ever to be dialled."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):  # fill its queue
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        yield f"tcp:127.0.0.1:{full.getsockname()[1]}"


@pytest.mark.unless(small="limits")
def test_a_source_that_goes_during_a_dial_leaves_nothing(rig):
    with endless_target() as target:
        process, place = rig.forward(rig.two, "xen", target)
        clients = [rig.dial(place) for _ in range(100)]

        def channels():
            return sum(client["channels"] for client in rig.two.status()["clients"] if client["carries_streams"])

        eventually(lambda: channels() == 100, "all have arrived")
        for client in clients:
            socket.send_fds(client, [b"\0"], [0])  # as xenmsg_break() does
            client.close()
        eventually(lambda: channels() == 0, "all are noticed")
        assert process.poll() is None


def test_what_has_no_target_yet_when_it_is_stopped_is_broken(rig):
    """More of them than are dialled at once."""
    with endless_target() as target:
        process, entry = rig.forward(rig.one, "tcp", target)
        clients = [rig.dial(entry) for _ in range(70)]
        process.terminate()
        for client in clients:
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        assert process.wait(20 * PATIENCE) == -signal.SIGTERM


def test_forward_survives_a_restart_where_it_does_not_listen(rig):
    before, behind, entry = rig.between(echo)
    client = rig.dial(entry)
    client.sendall(b"hello")
    assert client.recv(100) == b"hello"
    rig.one.stop()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    rig.one.start()
    assert before.poll() is None and behind.poll() is None

    def works():
        with contextlib.suppress(ConnectionResetError):
            return exchange(rig.dial(entry), b"hello again") == b"hello again"

    eventually(works, "connections are carried again")


def test_forward_ends_with_the_daemon_that_it_listens_at(rig):
    _, behind, _ = rig.between(echo)
    rig.two.stop()
    assert behind.wait(20 * PATIENCE) != 0
    assert re.match(rb"xenmsg: forward from xen:f\d+: .+\n$", behind.stderr.read())
