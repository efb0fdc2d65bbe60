# SPDX-License-Identifier: LGPL-2.1-or-later
"""doc/protocol.md is enough to implement from: a client of its own, written from it alone, talks through real daemons to
programs that use libxenmsg."""

import contextlib
import errno
import json
import os
import re
import signal
import socket
import struct
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import frames
import xenmsg_client
from messaging import EXIT_ANSWERED, EXIT_NO_ENDPOINT, EXIT_TIMEOUT, EXIT_UNKNOWN, PATIENCE, eventually, given_time, read_source
from xenmsg_client import CREDIT, DATA, HEADER, OPENED, REPLY, WELCOME, Client

SIZES = [0, 1, 7, 8, 9, 4096, 65519, 65536, 1000003]


@pytest.fixture(name="client")
def client_in_domain_1(one):
    client = Client(one.socket)
    yield client
    client.close()


@contextlib.contextmanager
def inattentive(node, endpoint, kinds=1):
    """A client that deals with frames and takes nothing; yields it and a function that lets it go."""
    client = Client(node.socket)
    client.bind(endpoint, kinds)
    stop = threading.Event()

    def deal():
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                client.wait(stop.is_set, 0.02)

    with ThreadPoolExecutor(1) as worker:
        dealing = worker.submit(deal)

        def attend():
            stop.set()
            dealing.result()
            return client

        try:
            yield attend
        finally:
            attend().close()


def body(size):
    return bytes((i * 7 + size) & 0xFF for i in range(size))


def test_client_is_small_and_stands_alone():
    path = os.path.join(os.path.dirname(__file__), "xenmsg_client.py")
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    imported = [line.split()[1] for line in lines if line.startswith(("import ", "from "))]
    assert len(lines) <= 210
    assert set(imported) <= sys.stdlib_module_names


def constants_of_the_header():
    """{name: value} of what wire/frame.h gives a number, by the names that frames.py has for it."""
    text = read_source("wire", "frame.h")
    found = {name: int(value, 0) for name, value in re.findall(r"^(?:\t|#define )(\w+)\s*(?:= )?(0x[0-9a-f]+|\d+)u?\b", text, re.M)}
    named = {name.removeprefix("FRAME_"): value for name, value in found.items() if name.startswith("FRAME_")}
    named |= {kind: found["CHANNEL_" + kind] for kind in ("MESSAGE", "CALL", "STREAM")}
    named |= {"INITIAL_LIMIT": found["CHANNEL_INITIAL_LIMIT"], "HOSTS": found["BIND_HOSTS"], "SHARED": found["BIND_SHARED"],
              "BECOMES_STREAM": found["HELLO_STREAM"]}
    named |= {flag: found["HELLO_" + flag] for flag in ("SHARED_MEMORY", "MUX", "RELAYS", "RESUMES", "OBEYS")}
    return named


def test_python_has_the_numbers_of_the_c_header():
    constants = constants_of_the_header()
    types = re.findall(r"\bFRAME_(\w+) = \d+,", read_source("wire", "frame.h"))
    assert len(types) > 30 and not [name for name in types if getattr(frames, name, None) != constants[name]]
    text = read_source("wire", "frame.c")
    assert [name for name in types if f'[FRAME_{name}] = "{name}",' not in text] == ["OPTIONAL"]
    same = set(vars(frames)) & set(constants)
    assert {"PAYLOAD_MAX", "HOSTS", "MUX", "MESSAGE"} <= same
    assert {name: getattr(frames, name) for name in same} == {name: constants[name] for name in same}
    assert frames.HEADER.size == constants["HEADER_SIZE"]
    ours = [name for name in types if name in vars(xenmsg_client)]
    assert {name: getattr(xenmsg_client, name) for name in ours} == {name: constants[name] for name in ours}


def test_client_learns_who_it_talks_to(one, client):
    assert client.domid == 1
    assert client.max_message == 16 << 20
    status = json.loads(client.call("self:xenmsg", b"status"))
    assert status["instance"].replace("-", "") == client.instance.hex() == one.instance().replace("-", "")


def test_what_the_client_sends_arrives_at_the_command(two, client, tmp_path):
    with open(tmp_path / "received", "wb") as file:
        receiver = two.receiver("inbox", "--count", len(SIZES), "--raw", stdout=file)
    for size in SIZES:
        client.send("2:inbox", body(size))
    receiver.output()
    assert (tmp_path / "received").read_bytes() == b"".join(map(body, SIZES))


def test_what_the_command_sends_arrives_at_the_client(one, two, client):
    client.bind("inbox")
    for size in SIZES:
        command = two.popen("send", "1:inbox", data=body(size))
        got = client.receive()
        assert (got.endpoint, got.domid, got.uid, got.data) == ("inbox", 2, os.getuid(), body(size))
        assert command.wait(30) == 0
    with pytest.raises(OSError) as refused:
        client.bind("inbox")
    assert refused.value.errno == errno.EEXIST
    one.send("self:inbox", "from here", "--no-wait")
    assert client.receive().data == b"from here"


def test_a_message_that_the_client_did_not_take_is_not_delivered(one, two):
    with inattentive(one, "inbox") as attend:
        two.send("1:inbox", "late", "--timeout", "0.2", exit_code=EXIT_TIMEOUT)
        two.send("1:inbox", "in time", "--no-wait")
        assert attend().receive().data == b"in time"


def test_client_is_told_why_its_message_was_not_delivered(two, client):
    with pytest.raises(OSError) as refused:
        client.send("2:nobody", b"x")
    assert refused.value.errno == errno.ENOENT
    with pytest.raises(OSError) as refused:
        client.send("3:nobody", b"x")
    assert refused.value.errno == errno.EHOSTDOWN
    two.send("1:nobody", "x", exit_code=EXIT_NO_ENDPOINT)


def test_client_takes_back_what_nobody_took_in_time(two, client):
    with inattentive(two, "slow") as attend:
        for size in (10, 300000):  # the larger one doesn't get away whole
            with pytest.raises(TimeoutError):
                client.send("2:slow", body(size), timeout=0.2)
        with pytest.raises(TimeoutError):
            attend().receive(timeout=0.2)


def test_the_clients_call_is_answered_by_the_command(two, client):
    two.popen("serve", "upper", "--", "tr", "a-z", "A-Z", binds="upper")
    for size in (0, 5, 200000):
        assert client.call("2:upper", b"a" * size) == b"A" * size
    with pytest.raises(OSError) as refused:
        client.send("2:upper", b"not a call")
    assert refused.value.errno == errno.EPROTOTYPE


def test_the_commands_call_is_answered_by_the_client(two, client):
    client.bind("add", kinds=2)
    for size in (0, 5, 200000):
        command = two.popen("call", "1:add", data=b"x" * size)
        request = client.receive()
        assert request.domid == 2 and request.data == b"x" * size
        client.reply(request, request.data + b"+1")
        assert command.stdout.read() == b"x" * size + b"+1"
        assert command.wait(30) == 0
    command = two.popen("call", "1:add", "bad")
    client.reply(client.receive(), b"", error=errno.EDOM)
    _, err = command.communicate(timeout=30 * PATIENCE)
    assert command.returncode == EXIT_ANSWERED and b"answered with error 33" in err


def test_a_call_that_nobody_answers_is_withdrawn(two, client):
    with inattentive(two, "slow", kinds=2) as attend:
        with pytest.raises(TimeoutError):
            client.call("2:slow", b"never taken", timeout=0.2)
        slow = attend()

        def taken(seconds):
            command = two.popen("call", "self:slow", "taken", "--timeout", seconds)
            with contextlib.suppress(TimeoutError):  # else its time was up before it came
                request = slow.receive(seconds)
                assert request.data == b"taken"
                assert command.wait(60 * PATIENCE) == EXIT_UNKNOWN
                return request
        request = given_time(taken, 1)
        slow.wait(lambda: not request.channel.owed, 10)
        slow.reply(request, b"too late")
        with pytest.raises(TimeoutError):
            slow.receive(timeout=0.1)


def test_two_clients_without_the_library_talk_to_each_other(two, client):
    with contextlib.closing(Client(two.socket)) as there:
        there.bind("one")
        there.bind("two", kinds=3)
        with ThreadPoolExecutor(1) as worker:
            for i in range(50):
                sent = worker.submit(client.send, "2:one" if i % 2 else "2:two", b"%d" % i)
                assert there.receive().data == b"%d" % i
                sent.result()
            answer = worker.submit(client.call, "2:two", b"question")
            there.reply(there.receive(), b"answer")
            assert answer.result() == b"answer"


def example_frames(section):
    """(direction, bytes) of each frame of an example in the document."""
    block = read_source("doc", "protocol.md").split(f"### {section} An example")[1].split("```")[1]
    frames = []
    for line in block.strip().splitlines():
        if line[0] in "→←":
            frames.append((line[0], b""))
        found = re.match(r"[→←]? *[A-Z]* +((?:[0-9a-f]{2} )*[0-9a-f]{2})(?:  |$)", line)
        frames[-1] = frames[-1][0], frames[-1][1] + bytes.fromhex(found.group(1))
    return frames


@contextlib.contextmanager
def plain_socket(node):
    """The daemon's socket, and a function that reads that many bytes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as plain:
        plain.connect(node.socket)
        plain.settimeout(30)
        yield plain, lambda size: frames.receive_exactly(plain, size)


# What is no promise: WELCOME's instance, the receiver's uid, gid and pid, and the limits, which are the larger the sooner the
# message was taken.
EXAMPLES_IN = {WELCOME: [slice(40, 56)], OPENED: [slice(16, 24), slice(40, 52)], CREDIT: [slice(24, 32)]}


def without(frame, slices):
    return bytes(0 if any(s.start <= i < s.stop for s in slices) else byte for i, byte in enumerate(frame))


def test_the_documents_bytes_deliver_a_message(one, two, tmp_path):
    with open(tmp_path / "received", "wb") as file:
        receiver = two.receiver("inbox", stdout=file)
    with plain_socket(one) as (plain, read):
        for direction, expected in example_frames("4.1"):
            if direction == "→":
                plain.sendall(expected)
                continue
            got = read(len(expected))
            examples = EXAMPLES_IN[expected[4]]
            assert without(got, examples) == without(expected, examples)
    eventually(lambda: (tmp_path / "received").read_bytes() == b"hello\n", "hello is printed")
    receiver.stop()
    assert receiver.process.returncode == -signal.SIGTERM, "it hears the signal whenever it comes"


@pytest.mark.unless(relayed="zero", strict="zero")
def test_the_documents_receiver_takes_more_than_its_window(one, two):
    hello, (_, welcome) = example_frames("4.1")[:2]
    identity = slice(24, 36)  # OPEN's uid, gid and pid are the sender's
    with plain_socket(two) as (plain, read), ThreadPoolExecutor(1) as worker:
        plain.sendall(hello[1])
        read(len(welcome))
        stream = b""
        for direction, expected in example_frames("4.2"):
            kind = expected[4]
            if direction == "→":
                plain.sendall(expected)
            elif kind == DATA:
                size, = struct.unpack_from("<I", expected)
                begin = len(stream)
                while len(stream) < begin + size:
                    header = HEADER.unpack(read(16))
                    assert header[1] == DATA and header[4] == 1 and header[0] % 8 == 0
                    stream += read(header[0])
                assert len(stream) == begin + size and stream[begin:begin + 16] == expected[16:32]
                assert stream.endswith(expected[32:])
            else:
                got = read(len(expected))
                assert got[:identity.start] + got[identity.stop:] == expected[:identity.start] + expected[identity.stop:]
                if kind == REPLY:
                    sent = worker.submit(one.send, "2:inbox", None, data=b"x" * 100000)
        assert stream[8:100008] == b"x" * 100000
        sent.result()
