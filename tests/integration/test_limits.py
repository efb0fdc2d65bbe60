# SPDX-License-Identifier: LGPL-2.1-or-later
"""Limits: each is kept, tells who meets it so, is the user's or the peer's alone, and is given back."""

import time

import protocol
from messaging import FAST, Holder, deliver, eventually, works
from protocol import OPENED, RESET, Program

ENOBUFS = 105


def open_all(program, address, count, first=0):
    """Opens channels and tells how each was answered."""
    answers = {}
    for number in range(first, first + 2 * count, 2):
        program.open(address, channel=number)
    while len(answers) < count:
        got = program.receive()
        if got.kind == OPENED:
            answers[got.channel] = 0
        elif got.kind == RESET:
            answers[got.channel] = got.u32()
        else:
            assert got.kind == protocol.CREDIT, got
    return list(answers.values())


def test_channels_per_uid_are_limited_over_all_programs_of_the_user(nodes):
    one = nodes(1, config=FAST + "[limits]\nmax-channels-per-uid = 5\n")[1]
    with Program(one.socket) as program:
        with Holder(one, "inbox"), Program(one.socket) as other:
            assert open_all(program, "self:inbox", 3) == [0] * 3
            assert open_all(other, "self:inbox", 3) == [0, 0, ENOBUFS]
    # all of it is free again
    eventually(lambda: one.status()["endpoints"] == [], "the endpoint has gone")
    with Holder(one, "inbox"), Program(one.socket) as program:
        assert open_all(program, "self:inbox", 6) == [0] * 5 + [ENOBUFS]


def test_channels_per_peer_are_limited(nodes):
    one, two, three = nodes(1, 2, 3, start=False).values()
    two.config += "[limits]\nmax-channels-per-peer = 4\n"
    for node in (one, two, three):
        node.start()
    one.sees(two)
    three.sees(two)
    with Holder(two, "inbox"), Program(one.socket) as program:
        answers = open_all(program, "2:inbox", 6)
        assert answers.count(0) == 4 and answers.count(ENOBUFS) == 2
        deliver(three, two, endpoint="another")  # another peer has channels of its own


def fill(program, channel, address):
    """Sends to somebody who doesn't take, as long as there is credit; returns how many bytes went."""
    program.open(address, channel=channel)
    limit, sent = protocol.INITIAL_LIMIT, 0
    piece = protocol.message(bytes(8176))
    idle = 0
    while idle < 2:
        while sent + len(piece) <= limit:
            program.data(channel, piece)
            sent += len(piece)
        try:
            got = program.receive(timeout=0.3)
        except protocol.Timeout:
            idle += 1
            continue
        assert got.kind in (OPENED, protocol.CREDIT), got
        assert got.channel == channel
        limit = max(limit, got.u64(0) if got.kind == OPENED else got.u64(8))
    return sent


def test_bytes_that_a_user_queues_are_limited(nodes):
    one, two = nodes(1, 2, config=FAST + "[limits]\nmax-queued-bytes-per-uid = 256K\n").values()
    with Holder(two, "sleeper"), Program(one.socket) as program:
        answers = []
        for number in range(0, 20, 2):
            program.open("2:sleeper", channel=number)
        while len(answers) < 10:
            got = program.receive()
            if got.kind in (OPENED, RESET):
                answers.append(got.u32() if got.kind == RESET else 0)
        # each channel may send 64 KiB at once
        assert answers.count(0) == 4 and answers.count(ENOBUFS) == 6
    works(one, two)


def test_bytes_that_a_peer_queues_are_limited_and_others_are_not_held_up(nodes):
    one, two, three = nodes(1, 2, 3, start=False).values()
    two.config += "[limits]\nmax-queued-bytes-per-peer = 128K\n"
    for node in (one, two, three):
        node.start()
    one.sees(two)
    three.sees(two)
    with Holder(two, "sleeper") as sleeper, Program(one.socket) as program:
        assert fill(program, 0, "2:sleeper") <= 2 * 128 * 1024
        deliver(three, two)
        assert sum(endpoint["queued"] for endpoint in two.status()["endpoints"]) <= 128 * 1024
        end = time.monotonic() + 20
        while sleeper.taken.get(1, 0) < 60000 and time.monotonic() < end:
            sleeper.take()  # what it takes makes room
        program.expect(protocol.CREDIT, channel=0)
    works(one, two)
