# SPDX-License-Identifier: LGPL-2.1-or-later
"""Shares: what all have in common is divided, so whoever takes all that he can leaves the others their part, and their pace."""

import errno
import itertools
import json
import os
import re
import resource
import statistics
import time

import pytest

from frames import (BIND, CALL, CREDIT, DATA, GOODBYE, REPLY, STREAMS, bind_payload, credit_frame, frame, open_frame, question_frames, u32,
                    u64)
from library import Connection
from messaging import EXIT_LIMIT, PATIENCE, SOURCES, Holder, eventually, is_sanitized
from polling import readable
from protocol import Program
from test_limits import limits
from test_streams import RawStream, open_stream, sees_reset

GREEDY, NEWCOMER = 1000, 1001
REPORTS = 16  # in the flags of HELLO,
MORE = 2  # and of CREDIT
PACE_FIRST = 16384  # bytes: outlet.c
FILES, RESERVE = 200, 64
pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be several users"), pytest.mark.unless(small="limits")]


def try_to_come(path, shared):
    """A program that was let in, or (error, text)."""
    program = Program(path, greet=False)
    try:
        program.greet(shared)
        return program
    except (AssertionError, OSError):  # GOODBYE instead of WELCOME, or even before the HELLO
        pass
    with program:
        got = program.welcome or program.receive_from_socket()
        assert got.kind == GOODBYE, got
        return got.u32(), got.payload[4:].decode()


def comes_until_refused(shared):
    """Tells how many programs of this user were let in, and why no more; then tries on and on."""
    def work(path, tell, stopped):
        programs = []
        while isinstance(program := try_to_come(path, shared), Program):
            programs.append(program)
        tell([len(programs), *program])
        while not stopped():
            again = try_to_come(path, shared)
            if isinstance(again, Program):
                programs.append(again)
    return work


def pool(node, name):
    return node.status()["pools"][name]


class Pace:
    """How long a message takes from one node to another, there and back, for programs of root."""

    def __init__(self, sender, receiver, endpoint="pace"):
        self.address = f"{receiver.domid}:{endpoint}"
        self.inbox, self.conn = Connection(receiver.socket), Connection(sender.socket)
        assert self.inbox.bind(endpoint) == 0
        self.measure()  # makes the link
        self.alone = self.measure()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.conn.close()
        self.inbox.close()

    def measure(self, count=200):
        times = []
        for _ in range(count):
            ended = []
            start = time.monotonic()
            assert self.conn.post(self.address, b"x" * 1000, ended.append) == 0
            assert hasattr(self.inbox.receive(), "data")
            while not ended:
                assert self.conn.wait(1000) >= 0
            times.append(time.monotonic() - start)
            assert ended == [0]
        return statistics.median(times)

    def is_kept(self):
        """The greedy one takes CPU time, and tests run side by side: while the CPUs are busy, a receipt may be noticed only when
        the daemon looks the next time, after some milliseconds. So the bound is wide, but far below what it would be if messages
        had to wait for a refusal, a time-out or a pause."""
        now = self.measure()
        print(f"a message takes {now * 1e6:.0f} us, and {self.alone * 1e6:.0f} us without the greedy")
        assert now < 10 * self.alone + 0.02 * PATIENCE, (now, self.alone)


def few_files(nodes, domid, **options):
    node = nodes(domid, start=False, **options)[domid]
    node.files = FILES, FILES
    node.start()
    return node


def holds_nothing(node):
    """Of the greedy user there is at most what it has done so far."""
    account = node.account("uid", GREEDY) or {}
    return not any(resource["used"] for resource in account.values() if isinstance(resource, dict) and "used" in resource)


def left_is_for_others(node, name):
    one = pool(node, name)
    assert one["size"] - one["used"] >= one["size"] // (one["accounts"] + 1), one


# ---- users ----

@pytest.mark.parametrize("shared", [True, False])
def test_a_greedy_user_takes_no_more_than_its_descriptors(nodes, two, user, shared):
    one = few_files(nodes, 1)
    one.sees(two)
    two.sees(one)
    assert pool(one, "descriptors")["size"] == FILES - RESERVE
    idle = one.descriptors() - pool(one, "descriptors")["used"]
    with Pace(one, two) as pace:
        greedy = user(GREEDY, one, comes_until_refused(shared))
        count, error, text = greedy.next()
        assert error == errno.ENOBUFS and "its share of the daemon's descriptors" in text, text
        assert count > 10
        has = one.account("uid", GREEDY)
        assert has["descriptors"]["refused"] > 0 and has["clients"]["refused"] == 0
        assert (3 if shared else 1) * count <= has["descriptors"]["used"] <= (FILES - RESERVE) // 2
        left_is_for_others(one, "descriptors")
        pace.is_kept()
        # Who comes now finds something, too.
        newcomer = user(NEWCOMER, one, comes_until_refused(shared))
        assert newcomer.next()[0] >= 3
        left_is_for_others(one, "descriptors")
        assert one.xenmsg("status").returncode == 0
        # What is charged is what is open, give or take who comes at this moment, and those who were refused and aren't closed yet.
        status, opened = one.status(), one.descriptors()
        assert abs(opened - status["pools"]["descriptors"]["used"] - idle) <= 16
        newcomer.end()
        greedy.end()
        eventually(lambda: holds_nothing(one), "all that the greedy one had is given back")
    eventually(lambda: pool(one, "descriptors")["used"] == 1, "only who asks has one")


MIB = 1 << 20


def fills_memory_until_refused(path, tell, stopped):
    """Tells how many programs of this user got shared memory, how many got none, why no more came, and how much memory there is: every
    page of it is filled."""
    programs = []
    while isinstance(program := try_to_come(path, True), Program):
        programs.append(program)
        if program.rings:
            for page in range(4096, len(program.memory), 4096):  # but for the control blocks, which would end the session
                program.memory[page] = 1
    sharing = [each for each in programs if each.rings]
    tell([len(sharing), len(programs) - len(sharing), *program,
          sum(os.fstat(each.descriptors[0]).st_blocks * 512 for each in sharing)])
    stopped(None)


def private_memory(node):
    with open(f"/proc/{node.pid}/status", encoding="ascii") as file:
        return int(re.search(r"RssAnon:\s+(\d+)", file.read())[1]) << 10


def test_users_share_the_memory_that_is_there_and_all_get_some(nodes, user):
    one = nodes(1, config=limits(max_memory=96 * MIB))[1]
    before = private_memory(one)
    greedy = user(GREEDY, one, fills_memory_until_refused)
    sharing, other, error, text, filled = greedy.next()
    assert error == errno.ENOBUFS and "its share of the daemon's bytes of memory (max-memory)" in text, text
    # It is the only one: a half of all, and of that a quarter is for those without shared memory.
    assert 48 * MIB // 2 < filled <= 48 * MIB * 3 // 4 and sharing * 2 * MIB < filled, (sharing, filled)
    assert other >= 16, other
    left_is_for_others(one, "memory")
    newcomer = user(NEWCOMER, one, fills_memory_until_refused)
    more_sharing, more_other, *_, more_filled = newcomer.next()
    assert more_sharing >= 3 and more_other >= 3
    left_is_for_others(one, "memory")
    # What is charged is never less than what there is.
    used = pool(one, "memory")["used"]
    if not is_sanitized():  # it keeps what was freed
        assert filled + more_filled + private_memory(one) - before < used <= 96 * MIB, (filled, more_filled, used)
    greedy.end()
    newcomer.end()
    eventually(lambda: pool(one, "memory")["used"] < MIB, "only who asks has some")


def test_all_that_users_and_domains_may_take_fits_into_the_unit(one):
    with open(os.path.join(SOURCES, "systemd/xenmsgd.service.in"), encoding="utf-8") as file:
        most = int(re.search(r"^MemoryMax=(\d+)G$", file.read(), re.MULTILINE)[1]) << 30
    assert pool(one, "memory")["size"] + 2 * pool(one, "queued_bytes")["size"] + 512 * MIB <= most


def test_a_newcomer_finds_a_client_an_endpoint_and_a_channel(nodes, user):
    one = nodes(1, start=False, config=limits(max_clients=24, max_endpoints=12, max_channels=12))[1]
    one.policy += "[bind]\nname = *\nuid = *\naction = allow\n"
    one.start()

    def takes_all(path, tell, stopped):
        programs = []
        while isinstance(program := try_to_come(path, False), Program):
            programs.append(program)
        bound, error = 0, 0
        while error == 0:
            error, text = programs[0].request(BIND, bind_payload(f"u{os.getuid()}-{bound}"))
            bound += error == 0
        for number in range(0, 32, 2):
            programs[0].open("1:sleeper", number)
        tell([len(programs), bound, error, text.decode()])
        stopped(None)

    with Holder(one, "sleeper"):
        first = user(GREEDY, one, takes_all)
        clients, endpoints, error, text = first.next()
        # Where root has one already, n is 2: (23 + 0) / 3, or less while one that has just left is counted, and (11 + 0) / 3.
        assert clients in (6, 7) and endpoints == 3 and error == errno.ENOBUFS and "(max-endpoints)" in text, text
        assert eventually(lambda: one.account("uid", GREEDY)["channels"]["refused"] == 10, "the channels have been asked for")
        assert one.account("uid", GREEDY)["channels"]["used"] == 6  # the only one: a half
        second = user(NEWCOMER, one, takes_all)
        clients, endpoints, error, text = second.next()
        assert clients >= 3 and endpoints == 2, (clients, endpoints)
        eventually(lambda: one.account("uid", NEWCOMER)["channels"]["used"] == 2, "it has channels")
        for name in ("clients", "endpoints", "channels"):
            left_is_for_others(one, name)
        first.end()
        second.end()
    eventually(lambda: [pool(one, name)["used"] for name in ("clients", "endpoints", "channels", "queued_bytes")] == [1, 0, 0, 0],
               "everything is given back but the asker's")


def test_streams_of_a_greedy_user_end_in_enobufs_that_says_why(nodes, two, user):
    one = few_files(nodes, 1)

    def connects(path, tell, stopped):
        with Connection(path) as conn:
            conn.send("1:nobody", b"")  # the program has four descriptors: that of its memory is for the next daemon
            streams = [conn.connect("2:lazy") for _ in range(FILES)]
            tell([[0 if stream >= 0 else stream for stream in streams], conn.reason()])
            stopped(None)

    with Program(two.socket) as server, Pace(one, two) as pace:
        assert server.request(BIND, bind_payload(b"lazy", STREAMS))[0] == 0
        greedy = user(GREEDY, one, connects)
        answers, why = greedy.next()
        taken = answers.count(0)
        assert answers == [0] * taken + [-errno.ENOBUFS] * (FILES - taken) and taken > 10, answers
        assert why == "this user has its share of the daemon's descriptors (its limit of open files), the rest is for others"
        pace.is_kept()
        assert one.account("uid", GREEDY)["descriptors"]["used"] == 2 * taken + 4 <= (FILES - RESERVE) // 2
        # At the other end the domain pays, for what waits there.
        assert two.account("peer", 1)["descriptors"]["used"] == taken
        greedy.end()
    # Streams of programs that have gone wait on, as connections in the backlog of listen(2) do, until the program that should fetch them goes.
    eventually(lambda: not (account := two.account("peer", 1)) or not account["descriptors"]["used"], "nothing waits any more")
    eventually(lambda: holds_nothing(one), "it has nothing here any more")


def test_answers_that_nobody_reads_take_little_memory(nodes, user):
    def asks(path, tell, stopped):
        programs, channels = [Program(path) for _ in range(200)], itertools.count(0, 2)
        for _ in range(30):
            for program in programs:
                program.socket.send(question_frames(next(channels), "status"))
        tell(True)
        stopped(None)

    def memory():
        with open(f"/proc/{one.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize() >> 20
    one = nodes(1)[1]
    before = memory()
    user(GREEDY, one, asks).next()
    for _ in range(300):
        one.status()
    if not is_sanitized():  # it keeps what was freed
        assert memory() - before < 120, (before, memory())


def test_a_program_too_many_always_hears_that_it_is_over_a_limit(nodes):
    """Never that there is no daemon, even if it was refused before it could say a word."""
    one = nodes(1, config=limits(max_clients=2))[1]
    path = one.socket

    def first():
        try:
            return Connection(path)
        except AssertionError:  # who has looked whether it listens is still counted
            return None

    with eventually(first, "the first one is let in"):
        assert {Connection.result_of_opening(path) for _ in range(200)} == {-errno.ENOBUFS}
        done = one.xenmsg("status")
        assert done.returncode == EXIT_LIMIT and b"limit" in done.stderr, done.stderr


# ---- peers ----

def test_a_greedy_peer_takes_no_more_than_its_descriptors(nodes, one, three):
    two = few_files(nodes, 2)
    for node in (one, three):
        node.sees(two)
        two.sees(node)
    with Program(two.socket) as server, Pace(three, two) as pace:
        assert server.request(BIND, bind_payload(b"lazy", STREAMS))[0] == 0
        streams = [RawStream(one.socket, open_stream("2:lazy")) for _ in range(80)]
        eventually(lambda: len(readable([s.socket for s in streams], 0)) == 80, "all are answered")
        answers = [stream.answer() for stream in streams]
        waiting = answers.count(0)
        assert sorted(set(answers)) == [0, errno.ENOBUFS] and waiting > 20, answers
        has = two.account("peer", 1)["descriptors"]
        assert has["used"] == waiting <= (FILES - RESERVE) // 2 and has["refused"] == 80 - waiting
        left_is_for_others(two, "descriptors")
        pace.is_kept()
        with RawStream(three.socket, open_stream("2:lazy")) as stream:
            assert stream.answer() == 0
            assert two.account("peer", 3)["descriptors"]["used"] == 1
    for stream, answer in zip(streams, answers):
        if answer == 0:
            sees_reset(stream)
        else:
            stream.socket.close()
    eventually(lambda: pool(two, "descriptors")["used"] == 1, "only who asks has one")


def test_unfetched_streams_of_one_peer_do_not_keep_out_another(nodes):
    one, two, three = nodes(1, 2, 3, config="[limits]\nmax-queued-bytes = 1G\n").values()
    with Program(two.socket) as server:
        assert server.request(BIND, bind_payload(b"lazy", STREAMS))[0] == 0
        streams = [RawStream(one.socket, open_stream("2:lazy")) for _ in range(1030)]
        assert [stream.answer() for stream in streams].count(0) == 1024
        with RawStream(three.socket, open_stream("2:lazy")) as stream:
            assert stream.answer() == 0
        for stream in streams:
            stream.socket.close()


def test_a_greedy_peer_takes_its_share_of_channels_and_memory(nodes, one, three):
    two = nodes(2, config=limits(max_channels=40, max_queued_bytes="2M"))[2]
    names = [f"sleeper{i}" for i in range(40)]
    with Holder(two, *names), Pace(three, two) as pace, Connection(one.socket) as conn:
        ended = []
        for name in names:
            assert conn.post(f"2:{name}", bytes(100), ended.append) == 0
        eventually(lambda: conn.wait(10) >= 0 and len(ended) >= 20
                   and two.account("peer", 1)["channels"]["used"] == len(names) - len(ended), "the rest of them is refused")
        assert set(ended) == {-errno.ENOBUFS}
        has = two.account("peer", 1)
        assert has["queued_bytes"]["used"] == 65536 * has["channels"]["used"] <= 1 << 20
        left_is_for_others(two, "channels")
        left_is_for_others(two, "queued_bytes")
        pace.is_kept()
        with Connection(one.socket) as other:  # the peer has used up its account, whoever in it tries
            assert other.send("2:sleeper39", b"x") == -errno.ENOBUFS
        with Connection(three.socket) as other:  # a new program of another peer
            answers = []
            assert other.post("2:sleeper0", b"x", answers.append) == 0
            eventually(lambda: two.account("peer", 3)["channels"]["used"] >= 2, "its channel is there")
            assert not answers


# ---- no descriptors at all ----

def cpu_of(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.unless(away="limits")  # in xensim a link that comes back needs one
def test_without_any_descriptor_left_it_waits_and_does_not_spin(one, two):
    with Pace(one, two) as pace:
        usual = resource.prlimit(one.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(one.pid, resource.RLIMIT_NOFILE, (3, usual[1]))
        with Program(one.socket, greet=False) as program:
            eventually(lambda: "accepting a program: Too many open files" in one.log.read_text(), "it has noticed")
            before, start = cpu_of(one.pid), time.monotonic()
            assert not readable([program.socket], 1)
            assert cpu_of(one.pid) - before < 0.3 * (time.monotonic() - start)
            pace.is_kept()
            resource.prlimit(one.pid, resource.RLIMIT_NOFILE, usual)
            program.greet()
            assert "pools" in json.loads(program.query("status"))


@pytest.mark.skipif(is_sanitized(), reason="LeakSanitizer needs a descriptor")
def test_without_any_descriptor_left_it_stops_in_order(one):
    """For the end of libxenstore's thread, glibc loads a library, or ends the process."""
    resource.prlimit(one.pid, resource.RLIMIT_NOFILE, (3, resource.prlimit(one.pid, resource.RLIMIT_NOFILE)[1]))
    one.stop()


def test_the_limit_of_open_files_is_raised_as_far_as_it_goes(alone):
    alone.files = 100, FILES
    alone.start()
    assert resource.prlimit(alone.pid, resource.RLIMIT_NOFILE) == (FILES, FILES)
    assert alone.descriptors() < RESERVE


@pytest.mark.parametrize("without", ("0", "1"), ids=("by memory", "by its socket"))
def test_a_program_gets_messages_by_turns_of_senders(nodes, monkeypatch, without):
    monkeypatch.setenv("XENMSG_NO_SHARED_MEMORY", without)
    one, two, three = nodes(1, 2, 3).values()
    got = []

    def used(domid, resource):
        account = two.account("peer", domid)
        return account[resource]["used"] if account else 0

    with Connection(two.socket) as server, Connection(one.socket) as greedy, Connection(one.socket) as too, Connection(three.socket) as other:
        server.handle("inbox", got.append)
        for sender in greedy, too:
            before = used(1, "queued_bytes")
            while used(1, "queued_bytes") < before + 40000:
                for _ in range(1000):
                    sender.post("2:inbox", b"many", lambda result: None)
                assert sender.wait(10) >= 0
        assert other.post("2:inbox", b"one", lambda result: None) == 0 and other.wait(100) >= 0
        eventually(lambda: used(3, "channels"), "it waits as well")
        eventually(lambda: server.wait(100) >= 0 and b"one" in got, "it comes")
    assert got.index(b"one") < 2000  # of several thousand that wait


def test_a_program_that_never_reports_is_given_no_more(one):
    with Program(one.socket, flags=REPORTS) as program, Connection(one.socket) as sender:
        program.bind("inbox")
        for _ in range(400):
            assert sender.post("self:inbox", bytes(100), lambda result: None) == 0
        assert sender.wait(0) >= 0
        eventually(lambda: [of["messages"] for of in one.status()["endpoints"]] == [400], "the daemon has them all")
        program.send_bytes(frame(BIND, bind_payload("other"), channel=5))
        given = 0
        while (got := program.receive()).kind != REPLY:
            given += len(got.payload) * (got.kind == DATA)
        assert 0 < given <= PACE_FIRST


def test_a_slow_program_that_also_asks_is_given_less(one):
    """What it reports of answers to itself is no end of what it was given for its endpoints."""
    with Program(one.socket, flags=REPORTS) as program, Connection(one.socket) as sender:
        program.bind("inbox")
        program.send_bytes(open_frame(0, "self:xenmsg", CALL))
        for _ in range(500):
            assert sender.post("self:inbox", bytes(100), lambda result: None) == 0
        assert sender.wait(0) >= 0
        eventually(lambda: [of["messages"] for of in one.status()["endpoints"]] == [500], "the daemon has them all")

        def given():
            count = 0
            for fence in "one", "two":  # what is given may come behind the answer
                program.send_bytes(frame(BIND, bind_payload(f"{fence}{next(numbers)}"), channel=5))
                while (got := program.receive()).kind != REPLY:
                    count += len(got.payload) * (got.kind == DATA)
            return count

        def report(upto, flags):
            program.send_bytes(frame(CREDIT, u64(upto, 0) + u32(flags), channel=1))
        numbers = itertools.count()
        first = given()
        report(first // 2, MORE)
        more = given()
        program.send_bytes(credit_frame(0, 0))
        time.sleep(0.02)  # it is slow
        report(first, MORE)
        assert given() <= PACE_FIRST / 2 and more <= PACE_FIRST / 2 + 128  # messages are whole


@pytest.mark.parametrize("count", (256, 1), ids=("small", "large"))
@pytest.mark.parametrize("without", ("0", "1"), ids=("by memory", "by its socket"))
def test_a_program_that_looks_by_a_clock_gets_more_each_time(one, monkeypatch, without, count):
    monkeypatch.setenv("XENMSG_NO_SHARED_MEMORY", without)
    got, looks, posted = [], 0, 0
    with Connection(one.socket) as program, Connection(one.socket) as sender:
        program.handle("inbox", got.append)
        while len(got) < count:
            while posted < count and sender.post("self:inbox", bytes((1 << 20) // count), lambda result: None) == 0:
                posted += 1
            assert sender.wait(0) >= 0
            time.sleep(0.045)
            assert program.wait(0) >= 0
            looks += 1
    assert looks < 64  # of 128 with the least that it may be given
