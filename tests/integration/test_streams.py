# SPDX-License-Identifier: LGPL-2.1-or-later
"""Byte streams between domains: every byte in order, half-close, back-pressure, and an error at both ends when something
in between dies: never an end that looks clean."""

import contextlib
import hashlib
import http.server
import os
import pty
import shutil
import signal
import socket
import struct
import subprocess
import threading
import tty

import pytest

from conftest import children
from frames import (ACCEPT, BECOMES_STREAM, GOODBYE, HELLO, MESSAGE, OPEN, REPLY, STREAM, Frame, frame, hello, open_frame,
                    open_payload, receive_exactly, receive_frame, u64)
from gateway_rig import free_port
from library import Connection
from messaging import EXIT_UNKNOWN, PATIENCE, eventually, feed, is_listening


def listen(node, endpoint, *command, **options):
    """`xenmsg listen`, once it does."""
    return node.popen("listen", endpoint, *(("--",) + command if command else ()), binds=endpoint, **options)


def end_of(process, timeout=30):
    """(exit code, stdout, stderr)"""
    out, err = process.communicate(timeout=timeout * PATIENCE)
    return process.returncode, out, err.decode()


def idle(*nodes):
    """Nothing is left of any stream."""
    eventually(lambda: not any(link["channels"] for node in nodes for link in node.status()["links"]), "no channel is left")


class RawStream:
    """The connection that becomes a stream, from doc/protocol.md section 6 alone."""

    def __init__(self, path, request, guard=b"!"):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(20 * PATIENCE)
        self.socket.connect(path)
        self.socket.sendall(hello(flags=BECOMES_STREAM))
        receive_frame(self.socket)
        self.socket.sendall(request + guard)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def answer(self):
        got = receive_frame(self.socket)
        assert got.kind == REPLY
        return got.u32()


def open_stream(address):
    return open_frame(0, address, STREAM)


# ---- data ----

def test_bytes_go_both_ways_and_each_way_ends_by_itself(one, two):
    listener = listen(two, "pipe", stdin=subprocess.PIPE)
    caller = one.popen("connect", "2:pipe", stdin=subprocess.PIPE)
    caller.stdin.write(b"question\n")
    caller.stdin.close()
    caller.stdin = None
    assert listener.stdout.readline() == b"question\n"
    assert listener.stdout.read() == b""  # the caller's way has ended, and
    listener.stdin.write(b"answer\n")  # the other one goes on
    listener.stdin.close()
    listener.stdin = None
    assert end_of(caller) == (0, b"answer\n", "")
    assert end_of(listener)[0] == 0
    idle(one, two)


@pytest.mark.parametrize("target", ["2:sink", "self:sink"])
def test_twenty_megabytes_arrive_as_they_were(one, two, target, tmp_path):
    receiver = two if target == "2:sink" else one
    data = os.urandom(1 << 20) * 20
    source, sink = tmp_path / "source", tmp_path / "sink"
    source.write_bytes(data)
    with open(source, "rb") as input_, open(sink, "wb") as output:
        listener = listen(receiver, "sink", stdout=output)
        caller = one.popen("connect", target, stdin=input_)
        assert end_of(caller, 60) == (0, b"", "")
        assert listener.wait(timeout=30 * PATIENCE) == 0
    assert hashlib.sha256(sink.read_bytes()).digest() == hashlib.sha256(data).digest()
    idle(one, two)


def test_one_byte_arrives_without_a_second_one(one, two):
    listener = listen(two, "pipe")  # its standard input has ended
    caller = one.popen("connect", "2:pipe", stdin=subprocess.PIPE)
    for byte in b"abc":
        feed(caller, bytes([byte]))
        assert listener.stdout.read(1) == bytes([byte])
    assert end_of(caller)[0] == end_of(listener)[0] == 0


def test_a_reader_that_stops_bounds_the_writer(one, two):
    with Connection(two.socket) as server:
        assert server.listen("slow") == 0
        with RawStream(one.socket, open_stream("2:slow")) as writer:
            stream = server.accept()
            assert stream >= 0 and writer.answer() == 0
            writer.socket.settimeout(2 * PATIENCE)
            sent = 0
            with pytest.raises(socket.timeout):
                while sent < 64 << 20:
                    sent += writer.socket.send(bytes(65536))
            assert sent < 16 << 20
            # Nobody else waits for them.
            eventually(lambda: one.xenmsg("ping", "--count", "1", "2").returncode == 0, "it answers a ping")
            # And it goes on as soon as the reader does.
            got = 0
            while got < sent:
                got += len(os.read(stream, 1 << 20))
            writer.socket.settimeout(20 * PATIENCE)
            writer.socket.sendall(b"end")
            assert os.read(stream, 10) == b"end"
            os.close(stream)


def test_a_write_to_a_stream_waits_for_its_reader_without_an_end(one, two):
    with Connection(one.socket) as client, Connection(two.socket) as server:
        assert server.listen("slow") == 0
        for descriptor in client.connect("2:slow"), server.accept():
            assert descriptor >= 0
            with socket.socket(fileno=descriptor) as stream:
                for option in socket.SO_SNDTIMEO, socket.SO_RCVTIMEO:
                    assert struct.unpack("ll", stream.getsockopt(socket.SOL_SOCKET, option, 16)) == (0, 0)


def test_the_command_learns_who_has_connected(one, two):
    listen(two, "who", "sh", "-c", "echo $XENMSG_SENDER_DOMID $XENMSG_SENDER_UID")
    done = one.xenmsg("connect", "2:who")
    assert done.stdout == f"1 {os.getuid()}\n".encode()


def test_a_command_that_has_closed_its_stream_holds_nobody(one, two, tmp_path):
    """Though it runs on, and is seen to break nothing when it is killed."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    listener = listen(two, "brief", "sh", "-c", f"echo hello; exec <&- >&-; read line <{fifo}; kill -9 $$")
    assert end_of(one.popen("connect", "2:brief", stdin=subprocess.DEVNULL))[:2] == (0, b"hello\n")
    with open(fifo, "w", encoding="ascii") as command:  # which waits until the command reads
        command.write("end\n")
    assert b"was killed by signal 9" in listener.stderr.readline()


# ---- what breaks ----

def stream_in_use(one, two):
    """From domain 1 to domain 2: `xenmsg listen` there, and its raw end here."""
    listener = listen(two, "pipe", stdin=subprocess.PIPE)
    stream = RawStream(one.socket, open_stream("2:pipe"))
    assert stream.answer() == 0
    stream.socket.sendall(b"hello\n")
    assert listener.stdout.readline() == b"hello\n"
    feed(listener, b"welcome\n")
    assert receive_exactly(stream.socket, 8) == b"welcome\n"
    return listener, stream


def sees_reset(stream):
    with pytest.raises(ConnectionResetError):
        while stream.socket.recv(65536):
            pass
    stream.socket.close()


def child_of(process):
    """`xensim exec` becomes the command or starts it."""
    return next(iter(children(process.pid)), process.pid)


def test_a_listener_killed_without_a_word_breaks_the_stream(one, two):
    listener = listen(two, "pipe", stdin=subprocess.PIPE)
    stream = RawStream(one.socket, open_stream("2:pipe"))
    assert stream.answer() == 0
    stream.socket.sendall(b"hello\n")
    assert listener.stdout.readline() == b"hello\n"
    os.kill(child_of(listener), signal.SIGSTOP)
    stream.socket.sendall(bytes(1000))
    eventually(lambda: sum(link["rx"]["bytes"] for link in two.status()["links"]) >= 1000, "it has come")
    one.xenmsg("ping", "--count", "1", "2")
    os.kill(child_of(listener), signal.SIGKILL)
    sees_reset(stream)
    idle(one, two)


def test_writing_to_a_program_that_is_gone_breaks_the_stream(one, two):
    listener, stream = stream_in_use(one, two)
    os.kill(child_of(listener), signal.SIGKILL)
    assert stream.socket.recv(1) == b""  # to the kernel, its death is a close
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        while True:
            stream.socket.sendall(bytes(1000))
    stream.socket.close()
    idle(one, two)


@pytest.mark.parametrize("how", ["kill", "stop"])
@pytest.mark.parametrize("whose", [0, 1])
def test_a_daemon_that_is_killed_breaks_the_stream_at_both_ends(one, two, whose, how):
    listener, stream = stream_in_use(one, two)
    getattr((one, two)[whose], how)()
    sees_reset(stream)
    code, _, err = end_of(listener)
    assert code == EXIT_UNKNOWN, err


def all_before_the_reset(fd):
    """What a stream gives before ECONNRESET; a clean end instead is a failure."""
    got = b""
    with socket.socket(fileno=fd) as stream, pytest.raises(ConnectionResetError):
        stream.settimeout(20 * PATIENCE)
        while piece := stream.recv(65536):
            got += piece
    return got


@pytest.mark.parametrize("target", ["self", "2"])
@pytest.mark.parametrize("who", ["opener", "acceptor"])
def test_what_was_written_before_a_break_is_read_before_it(one, two, target, who):
    there = one if target == "self" else two
    with Connection(there.socket) as server, Connection(one.socket) as client:
        assert server.listen("pipe") == 0
        for size in [5000] * 30 + [60000] * 10 + [1, 0]:
            opened, data = client.connect(f"{target}:pipe"), os.urandom(size)
            accepted = server.accept()
            assert opened >= 0 and accepted >= 0
            breaks, sees = (opened, accepted) if who == "opener" else (accepted, opened)
            os.write(breaks, data)
            client.library.xenmsg_break(breaks)
            assert all_before_the_reset(sees) == data
    idle(one, two)


@pytest.mark.parametrize("who", ["opener", "acceptor"])
def test_a_writer_that_reads_nothing_learns_of_a_break(one, who):
    """Of which it would else read behind all that came."""
    with Connection(one.socket) as server, Connection(one.socket) as client:
        assert server.listen("pipe") == 0
        opened, accepted = client.connect("self:pipe"), server.accept()
        breaks, sees = (opened, accepted) if who == "opener" else (accepted, opened)
        data = os.urandom(240000)  # more than its socket takes
        os.write(breaks, data)
        client.library.xenmsg_break(breaks)
        with socket.socket(fileno=os.dup(sees)) as writer, pytest.raises((BrokenPipeError, ConnectionResetError)):
            writer.settimeout(20 * PATIENCE)
            while True:
                writer.sendall(bytes(65536))
        assert all_before_the_reset(sees) == data
    idle(one)


def send_file(stream, source):
    while os.sendfile(stream.fileno(), source.fileno(), None, 1 << 20):
        pass


def send_small(stream, source):
    """With a buffer of which one write takes more than a quarter, so that Linux wakes it only when all is read."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    while piece := source.read(6000):
        stream.sendall(piece)


@pytest.mark.parametrize("send", [send_file, send_small])
@pytest.mark.parametrize("who", ["opener", "acceptor"])
def test_large_buffers_go_through_whatever_room_a_writer_has(one, two, who, send, tmp_path):
    data = os.urandom(3 << 20)
    (tmp_path / "data").write_bytes(data)
    with Connection(two.socket) as server, Connection(one.socket) as client:
        assert server.listen("pipe") == 0
        opened, accepted = socket.socket(fileno=client.connect("2:pipe")), socket.socket(fileno=server.accept())
        writer, reader = (opened, accepted) if who == "opener" else (accepted, opened)
        with opened, accepted, open(tmp_path / "data", "rb", buffering=0) as source:
            sends = threading.Thread(target=lambda: (send(writer, source), writer.shutdown(socket.SHUT_WR)), daemon=True)
            sends.start()
            reader.settimeout(20 * PATIENCE)
            assert b"".join(iter(lambda: reader.recv(65536), b"")) == data
            sends.join()
            reader.sendall(b"all of it")  # the other way is what it was
            assert writer.recv(100) == b"all of it"
    idle(one, two)


def test_what_was_sent_before_the_end_outlives_its_sender(one, two):
    listener = listen(two, "pipe", stdin=subprocess.PIPE)
    data = os.urandom(300000)
    with RawStream(one.socket, open_stream("2:pipe")) as stream:
        assert stream.answer() == 0
        stream.socket.sendall(data)
        stream.socket.shutdown(socket.SHUT_WR)
        got = b""
        while len(got) < len(data):
            got += listener.stdout.read1(65536)
        assert got == data
        assert listener.stdout.read() == b""
        listener.stdin.close()
        listener.stdin = None
        assert stream.socket.recv(1) == b""
    assert listener.wait(timeout=30 * PATIENCE) == 0


# ---- the handshake ----

def test_nonsense_in_the_handshake_of_a_stream_is_refused(one):
    requests = (
        frame(OPEN, b""),
        frame(OPEN, open_payload(b"self:x", MESSAGE)),
        frame(OPEN, open_payload(b"self:x\0y", STREAM)),
        frame(OPEN, open_payload(b"x" * 400, STREAM)),
        frame(OPEN, open_payload(b"", STREAM)),
        open_stream("self:nothing"),
        frame(ACCEPT, b"\1"),
        frame(ACCEPT, u64(0)),
        frame(ACCEPT, u64(4711)),
        frame(HELLO, b"\0" * 8),
        frame(99, b"what?"),
    )
    before = one.descriptors()
    for request in requests:
        for guard in (b"!", b"", b"much more than one byte"):
            with RawStream(one.socket, request, guard) as stream:
                if not guard:
                    stream.socket.shutdown(socket.SHUT_WR)
                data = b""
                try:
                    while more := stream.socket.recv(4096):
                        data += more
                except ConnectionResetError:
                    pass
                if data:
                    assert Frame(data).kind in (REPLY, GOODBYE) and Frame(data).u32() != 0, data
    eventually(lambda: one.descriptors() <= before, "nothing is left of them")
    assert one.alive()


# ---- forward, with real programs ----

def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(name="web")
def web_server(tmp_path):
    """Python's HTTP server on a directory with a file of 5 MB."""
    directory = tmp_path / "web"
    directory.mkdir()
    (directory / "file").write_bytes(os.urandom(5_000_000))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(directory))

        def log_message(self, *_):  # pylint: disable=arguments-differ
            pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1], directory
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not there")
def test_curl_reaches_an_http_server_of_another_domain(one, two, web, tmp_path):
    port, directory = web
    local = free_port()
    server = two.popen("forward", "xen:web", f"tcp:127.0.0.1:{port}", binds="web")
    client = one.popen("forward", f"tcp:127.0.0.1:{local}", "xen:2:web")
    eventually(lambda: listens(local), "the port is forwarded")
    url = f"http://127.0.0.1:{local}/file"
    processes = [subprocess.Popen(["curl", "--silent", "--show-error", "--fail", "--max-time", str(60 * PATIENCE), "--noproxy", "*",
                                   "-o", tmp_path / f"got{i}", url]) for i in range(8)]
    assert [process.wait(timeout=90 * PATIENCE) for process in processes] == [0] * 8
    for i in range(8):
        assert (tmp_path / f"got{i}").read_bytes() == (directory / "file").read_bytes()
    assert subprocess.run(["curl", "--silent", "--fail", "--noproxy", "*", url.replace("file", "none")],
                          check=False).returncode == 22
    idle(one, two)
    for process in (server, client):
        os.kill(child_of(process), signal.SIGTERM)
        code, _, err = end_of(process)
        assert code in (-signal.SIGTERM, 128 + signal.SIGTERM), err
    assert not listens(local)


def test_a_forward_resets_if_its_target_refuses_and_goes_on(one, two, tmp_path):
    path = str(tmp_path / "outer")
    process = one.popen("forward", f"unix:{path}", "xen:2:none")
    eventually(lambda: is_listening(path), "the socket is forwarded")
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20 * PATIENCE)
            client.connect(path)
            assert client.recv(1) == b""
    assert process.poll() is None
    assert b"xen:2:none can't be reached" in process.stderr.readline()
    assert two.alive()


@pytest.mark.parametrize("target, why", [("tcp:127.0.0.1:{port}", b"connection refused"), ("unix:{path}/none", b"no such socket"),
                                         ("unix:{path}", b"connection refused"), ("tcp:nosuch.invalid:80", b"no such host"),
                                         ("xen:1:nobody", b"no such socket or endpoint")])
def test_a_forward_whose_target_refuses_breaks_the_stream(one, two, target, why, tmp_path):
    """And why is said on the other side, to `connect` and to another `forward`."""
    two.popen("forward", "xen:none", target.format(port=free_port(), path=tmp_path), binds="none")
    client = one.popen("connect", "2:none", stdin=subprocess.PIPE)
    assert client.wait(timeout=30 * PATIENCE) == EXIT_UNKNOWN
    outer = one.popen("forward", f"unix:{tmp_path}/outer", "xen:2:none")
    eventually(lambda: is_listening(str(tmp_path / "outer")), "the socket is forwarded")
    with socket.socket(socket.AF_UNIX) as program:
        program.connect(str(tmp_path / "outer"))
        for words in (client.stderr.read(), outer.stderr.readline()):
            assert b"the program there can't reach its target: " + why in words


@pytest.mark.parametrize("command, output, words", [
    ("#!/bin/sh\necho half; kill -9 $$", b"half\n", b"the command there was killed before it had ended"),
    ("#!/bin/sh\nkill -SEGV $$", b"", b"the command there was killed before it had ended"),
    ("#!/of/another/system", b"", b"the command there can't be started"),
    ("#!/bin/sh\necho all; exit 1", b"all\n", b"")])  # as grep says that there is nothing
def test_a_command_that_dies_breaks_its_stream_behind_its_output(one, two, tmp_path, command, output, words):
    """And why is said on the other side, to `connect` and to a `forward`."""
    script, entry = tmp_path / "command", str(tmp_path / "entry")
    script.write_text(command)
    script.chmod(0o755)
    two.popen("listen", "t", "--", script, binds="t")
    done = one.xenmsg("connect", "2:t")
    assert (done.returncode, done.stdout) == (EXIT_UNKNOWN if words else 0, output) and words in done.stderr, done
    outer = one.popen("forward", f"unix:{entry}", "xen:2:t")
    eventually(lambda: is_listening(entry), "the socket is forwarded")
    with socket.socket(socket.AF_UNIX) as program:
        program.connect(entry)
        assert not words or words in outer.stderr.readline()


def is_told(one, two, before, target, words):
    """A forward that these words start can't reach its target, and `connect` says why."""
    with subprocess.Popen(two.command(*before, two.tool("xenmsg"), "forward", "xen:none", target), env=two.environment) as forward:
        try:
            client = one.popen("connect", "--wait", "2:none", stdin=subprocess.PIPE)
            assert client.wait(timeout=60 * PATIENCE) == EXIT_UNKNOWN
            assert b"the program there can't reach its target: " + words in client.stderr.read()
        finally:
            forward.terminate()


def test_a_target_that_a_forward_may_not_use_is_told_its_cause(one, two, tmp_path):
    """Root may use each socket, so it has no capabilities here."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "closed"))
        server.listen()
        os.chmod(tmp_path / "closed", 0)
        less = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"] if os.geteuid() == 0 else []
        is_told(one, two, less, f"unix:{tmp_path}/closed", b"permission denied")


# In a network of its own: becomes the program that its arguments name, with the port of a server that takes no more.
FULL_SERVER = """
import fcntl, os, socket, struct, sys
server = socket.socket()
fcntl.ioctl(server, 0x8914, struct.pack("16sH14x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
with open("/proc/sys/net/ipv4/tcp_syn_retries", "w") as file:
    file.write("1")
server.bind(("127.0.0.1", 0))
server.listen(0)
kept = [server] + [socket.socket() for _ in range(4)]
for each in kept:
    os.set_inheritable(each.fileno(), True)
for each in kept[1:]:
    each.setblocking(False)
    each.connect_ex(server.getsockname())
if sys.argv[1:]:
    os.execvp(sys.argv[1], [each.format(port=server.getsockname()[1]) for each in sys.argv[1:]])
"""


def test_a_target_that_does_not_answer_is_told_its_cause(one, two):
    alone = ["unshare", "--map-root-user", "--net", "/usr/bin/python3", "-c", FULL_SERVER]
    if subprocess.run(alone, check=False, capture_output=True).returncode:
        pytest.skip("no network of one's own here")
    is_told(one, two, alone, "tcp:127.0.0.1:{port}", b"connection timed out")


@pytest.mark.skipif(not os.path.exists("/usr/sbin/sshd") or os.geteuid() != 0, reason="no sshd, or not root")
def test_ssh_reaches_another_domain(one, two, tmp_path):
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    os.chmod(tmp_path, 0o700)
    os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
    config = tmp_path / "sshd_config"
    config.write_text(f"HostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/user.pub\nStrictModes no\nUsePAM no\n"
                      "PermitRootLogin yes\nPasswordAuthentication no\nPidFile none\n")
    listen(two, "ssh", "env", "-u", "LD_PRELOAD", "/usr/sbin/sshd", "-i", "-e", "-f", config)
    proxy = " ".join(one.command(one.tool("xenmsg"), "connect", "2:ssh"))
    ssh = ["ssh", "-F", "none", "-i", tmp_path / "user", "-o", f"ProxyCommand={proxy}", "-o", "StrictHostKeyChecking=no",
           "-o", f"UserKnownHostsFile={tmp_path}/known", "-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes", "root@domain-2"]
    data = os.urandom(2_000_000)
    done = subprocess.run([*ssh, "cat; exit 7"], input=data, capture_output=True, timeout=60 * PATIENCE, check=False,
                          env=one.environment)
    assert done.returncode == 7, done.stderr
    assert done.stdout == data


@pytest.mark.parametrize("how", ["connect", "listen"])
def test_a_terminal_that_is_full_holds_up_one_direction_alone(one, how):
    """Nor does it keep a signal from ending the command."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    with Connection(one.socket) as other, contextlib.closing(os.fdopen(ours, "rb", buffering=0)):
        if how == "connect":
            assert other.listen("pipe") == 0
            command = one.popen("connect", "self:pipe", stdin=subprocess.PIPE, stdout=theirs)
            stream = other.accept()
        else:
            command = listen(one, "pipe", stdin=subprocess.PIPE, stdout=theirs)
            stream = other.connect("self:pipe")
        os.close(theirs)
        with socket.socket(fileno=stream) as program:
            program.settimeout(2 * PATIENCE)
            with pytest.raises(socket.timeout):
                while True:
                    program.send(bytes(65536))
            program.settimeout(20 * PATIENCE)
            feed(command, b"the other way")
            assert program.recv(100) == b"the other way"
            os.kill(child_of(command), signal.SIGTERM)
            command.wait(timeout=20 * PATIENCE)
