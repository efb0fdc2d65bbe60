# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many streams at once: what is over a limit waits until others have ended, and nothing is reset; an idle one costs little."""

import contextlib
import json
import os
import resource
import selectors
import socket
import socketserver
import subprocess
import threading
import time

import pytest

from frames import BIND, STREAMS, WELCOME, bind_payload, hello
from library import Connection
from messaging import EXIT_OK, PATIENCE, eventually, feed, is_listening, is_sanitized, tool
from mux import Mux, until
from protocol import Program
from test_shares import cpu_of
from test_streams import RawStream, open_stream


class Echo(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Answers each connection's bytes with the same, until it ends."""
    daemon_threads = True
    request_queue_size = 1024

    class RequestHandlerClass(socketserver.BaseRequestHandler):
        def handle(self):
            while data := self.request.recv(65536):
                self.request.sendall(data)

    def __init__(self):
        super().__init__(("127.0.0.1", 0), self.RequestHandlerClass)
        threading.Thread(target=self.serve_forever, daemon=True).start()


@pytest.fixture(name="many_descriptors", autouse=True)
def _many_descriptors():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextlib.contextmanager
def forwarded(one, two, path):
    """Two forwards behind one another: a Unix socket in domain 1, an echo behind domain 2."""
    with Echo() as server:
        behind = two.popen("forward", "xen:echo", f"tcp:127.0.0.1:{server.server_address[1]}", binds="echo")
        before = one.popen("forward", f"unix:{path}", "xen:2:echo")
        eventually(lambda: is_listening(str(path)), "forward listens")
        yield before, behind
        server.shutdown()


def dial(path):
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(60 * PATIENCE)
    client.connect(str(path))
    return client


def answered(clients):
    """The clients in the order in which the bytes that they sent come back. A reset raises an error."""
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client, selectors.EVENT_READ)
        while selector.get_map():
            found = selector.select(60 * PATIENCE)
            assert found, f"{len(selector.get_map())} are never answered"
            for key, _ in found:
                assert key.fileobj.recv(100) == b"hello"
                selector.unregister(key.fileobj)
                yield key.fileobj


@pytest.mark.parametrize("limit", ["max-channels = 40", "max-queued-bytes = 6M"])
def test_connections_over_a_limit_wait_until_others_have_ended(nodes, tmp_path, limit):
    one, two = nodes(1, config=f"[limits]\n{limit}\n")[1], nodes(2, config="")[2]
    with forwarded(one, two, tmp_path / "s") as (before, _):
        clients = [dial(tmp_path / "s") for _ in range(100)]
        for client in clients:
            client.sendall(b"hello")
        count = 0
        for client in answered(clients):
            client.close()
            count += 1
        assert count == 100
        before.terminate()
        _, err = before.communicate()
        assert b"waiting" in err and b"can't be reached" not in err


class Full:
    """The programs of one user have all the descriptors of the daemon that they may have, until `stack` is closed."""

    resource = "descriptors"

    def __init__(self, node):
        self.stack = contextlib.ExitStack()
        self.asks = self.stack.enter_context(Program(node.socket))
        more = True
        while more:
            program = self.stack.enter_context(Program(node.socket, greet=False))
            with contextlib.suppress(BrokenPipeError):  # it is refused already
                program.socket.sendall(hello())
            more = program.receive_from_socket().kind == WELCOME

    def refused(self):
        """How often somebody got none."""
        return sum(account[self.resource]["refused"] for account in json.loads(self.asks.query("status all"))["accounts"])

    def refuses(self, times=3):
        before = self.refused()
        eventually(lambda: self.refused() >= before + times, "it is tried, and refused")


class FullOfChannels(Full):
    """Likewise of the channels."""

    resource = "channels"

    def __init__(self, node, address, count):
        self.stack = contextlib.ExitStack()
        self.asks = self.stack.enter_context(Program(node.socket))
        session = self.stack.enter_context(Mux(node))
        streams = [session.connect(address) for _ in range(count)]
        until(lambda: all(stream.opened for stream in streams), session)


FILES = 64 + 80  # of which 64 are for the daemon itself, and a user has 40


def few_files(nodes, *domids):
    """Daemons that may have so few open."""
    few = nodes(*domids, start=False)
    for node in few.values():
        node.files = FILES, FILES
        node.start()
    for node in few.values():
        for other in few.values():
            if other is not node:
                node.sees(other)
    return few


@pytest.mark.parametrize("server", [["listen", "t", "--", "cat"], ["listen", "t"], ["listen", "t", "--run", "--", "cat"],
                                    ["bench", "--serve", "t"]], ids=" ".join)
def test_who_accepts_streams_waits_over_a_limit_and_goes_on(nodes, server):
    one, two = nodes(1, config="")[1], few_files(nodes, 2)[2]
    one.sees(two)
    endpoint, first = ("t-stream", b"e") if server[0] == "bench" else ("t", b"")
    with contextlib.ExitStack() as stack:
        serves = two.popen_command(tool("xenmsg"), *server, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, binds=endpoint)
        full = Full(two)
        client = stack.enter_context(Connection(one.socket))
        stream = stack.enter_context(socket.socket(fileno=client.connect(f"2:{endpoint}")))
        stream.settimeout(20 * PATIENCE)
        stream.sendall(first + b"hello")
        full.refuses()
        before, start = cpu_of(serves.pid), time.monotonic()
        full.refuses(5)
        assert cpu_of(serves.pid) - before < 0.3 * (time.monotonic() - start)
        full.stack.close()
        if server == ["listen", "t"]:
            assert serves.stdout.read(5) == b"hello"
            feed(serves, b"hello")
        if "--run" in server:  # which breaks what isn't of 'xenmsg run'
            with pytest.raises(ConnectionResetError):
                stream.recv(5)
        else:
            assert stream.recv(5) == b"hello"
        stream.close()  # its command, which has the same standard error, ends
        serves.terminate()
        told = serves.stderr.read().splitlines()
        assert sum(b"; waiting" in line for line in told) == sum(b": going on" in line for line in told) == 1, told


def test_forward_carries_on_while_its_user_has_no_descriptors(nodes, tmp_path):
    """Once it has its session, neither end takes one more of the daemon for a connection."""
    one, two = few_files(nodes, 1, 2).values()
    with forwarded(one, two, tmp_path / "s"), contextlib.ExitStack() as stack:
        with dial(tmp_path / "s") as first:
            first.sendall(b"hello")
            assert first.recv(5) == b"hello"
        for node in (one, two):
            full = Full(node)
            stack.enter_context(full.stack)
        clients = [stack.enter_context(dial(tmp_path / "s")) for _ in range(100)]
        for client in clients:
            client.sendall(b"hello")
        assert len(list(answered(clients))) == 100
        data = os.urandom(100000)
        for client in clients[:10]:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            assert client.makefile("rb").read() == data


def test_dials_that_take_long_hold_up_no_others(nodes, tmp_path):
    one, clients = nodes(1)[1], 30
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as stack:
        listener.bind(str(tmp_path / "slow"))
        listener.listen(0)  # all dials but one wait in connect(2)
        forward = one.popen("forward", f"unix:{tmp_path / 's'}", f"unix:{tmp_path / 'slow'}")
        eventually(lambda: is_listening(str(tmp_path / "s")), "forward listens")
        connections = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(clients)]
        for connection in connections:
            connection.settimeout(20 * PATIENCE)
            connection.connect(str(tmp_path / "s"))
        eventually(lambda: len(os.listdir(f"/proc/{forward.pid}/task")) >= clients, "each dial has a thread")
        for _ in range(clients):
            accepted = stack.enter_context(listener.accept()[0])
            accepted.sendall(b"x")
        assert [connection.recv(1) for connection in connections] == [b"x"] * clients


def test_forward_accepts_nothing_at_a_limit_and_says_so_once(nodes, tmp_path):
    one, two = nodes(1, config="[limits]\nmax-channels = 40\n")[1], nodes(2, config="")[2]
    path = tmp_path / "s"
    two.popen("listen", "echo", "--", "cat", binds="echo")
    forward = one.popen("forward", f"unix:{path}", "xen:2:echo")
    eventually(lambda: is_listening(str(path)), "forward listens")

    def sockets():
        return len(os.listdir(f"/proc/{forward.pid}/fd"))
    with contextlib.ExitStack() as stack:
        full = FullOfChannels(one, "2:echo", 20)
        clients = [stack.enter_context(dial(path))]
        assert b"; waiting" in forward.stderr.readline()
        before = sockets()
        clients += [stack.enter_context(dial(path)) for _ in range(10)]
        full.refuses(8)
        assert sockets() < before + 5  # one more while it dials
        full.stack.close()
        for client in clients:
            client.sendall(b"hello")
        for client in answered(clients):
            client.close()
        assert b": going on" in forward.stderr.readline()
        forward.terminate()
        later = forward.stderr.read().splitlines()  # some of the clients may have met the limit among themselves
        assert len(later) <= 6 and all((b"; waiting", b": going on")[i % 2] in line for i, line in enumerate(later)), later


def test_a_stream_that_is_being_opened_is_no_client(nodes):
    one = nodes(1, config="[limits]\nmax-clients = 4\n")[1]
    with Program(one.socket) as server, contextlib.ExitStack() as stack:
        assert server.request(BIND, bind_payload(b"lazy", STREAMS))[0] == 0
        streams = [stack.enter_context(RawStream(one.socket, open_stream("self:lazy"))) for _ in range(300)]
        assert {stream.answer() for stream in streams} == {0}
        with Program(one.socket):
            pass


def resident(node):
    with open(f"/proc/{node.pid}/smaps_rollup", encoding="utf-8") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Rss:"))


def test_an_idle_stream_costs_little_and_many_are_seen_in_status(nodes):
    """Measured: 16 KiB at each end; what is reserved for it is 26 times as much."""
    one, two = nodes(1, 2, config="[limits]\nmax-queued-bytes = 1G\n").values()
    with Program(two.socket) as server, contextlib.ExitStack() as stack:
        assert server.request(BIND, bind_payload(b"lazy", STREAMS))[0] == 0
        before = resident(one), resident(two)
        streams = [stack.enter_context(RawStream(one.socket, open_stream("2:lazy"))) for _ in range(1000)]
        assert {stream.answer() for stream in streams} == {0}
        after = resident(one), resident(two)
        if not is_sanitized():  # it keeps what was freed
            assert all(b - a < 1000 * 32768 for a, b in zip(before, after))
        for node, kind in ((one, "uid"), (two, "peer")):
            account = next(each for each in node.status()["accounts"] if each["kind"] == kind and each["channels"]["used"])
            assert account["channels"]["used"] == 1000
            assert account["descriptors"]["used"] >= 1000
        assert one.xenmsg("ping", "--count", "1", "2").returncode == EXIT_OK
