# SPDX-License-Identifier: LGPL-2.1-or-later
"""What messages say beside their payload, and withdrawals that go past them: between libraries, and with programs that lie."""

import contextlib
import errno
import struct
import threading

import pytest

from frames import (CALL, CALLS, DATA, DEADLINE, OPEN, OPENED, PROPERTIES, REQUEST, RESET, TRACE, WITHDRAW, frame, message, properties,
                    u32)
from library import FATE_NOT_DONE, Connection
from messaging import eventually
from protocol import EPROTO, Program, Timeout

TRACEPARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


pytestmark = pytest.mark.usefixtures("memory")


def start(work):
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def take_request(caller, server):
    """The next call, while its caller goes on, too."""
    requests = []

    def take():
        caller.wait(10)
        requests.append(server.take(0))
        return not isinstance(requests[-1], int)
    eventually(take, "it is taken")
    return requests[-1]


def test_a_deadline_and_a_trace_arrive_with_their_call(here, there):
    with Connection(here.socket) as caller, Connection(there.socket, binds="work") as server:
        seen = []

        def serve():
            for _ in range(3):
                request = server.take()
                seen.append((request.data, request.trace, request.time_left))
                assert request.reply(b"yes") == 0
                request.free()
        thread = start(serve)
        assert caller.call(f"{there.domid}:work", b"both", 60000, TRACEPARENT) == b"yes"
        assert caller.call(f"{there.domid}:work", b"neither", -1) == b"yes"
        large = bytes(200000)
        assert caller.call(f"{there.domid}:work", large, 60000, TRACEPARENT) == b"yes"
        thread.join()
    assert [data for data, _, _ in seen] == [b"both", b"neither", large]
    assert [trace for _, trace, _ in seen] == [TRACEPARENT.decode(), "", TRACEPARENT.decode()]
    assert 0 < seen[0][2] <= 60000 and seen[1][2] == -1 and 0 < seen[2][2] <= 60000


def test_properties_of_a_later_version_arrive_as_they_were_sent(here, there):
    with Program(here.socket, minor=7) as caller, Program(there.socket, minor=7) as server:
        server.bind("work", kinds=CALLS)
        caller.open(f"{there.domid}:work", kind=CALL)
        reserved, flags, domid = struct.unpack_from("<HHI", caller.expect(OPENED).payload, 16)
        assert (reserved, flags, domid) == (0, 1, there.domid)
        came = server.expect(OPEN)
        assert came.payload[:2] == bytes((CALL, 0))
        block = properties((9, b"later"), (DEADLINE, u32(1000)), (TRACE, b"t"))
        caller.data(0, message(block + b"hello", kind=REQUEST | PROPERTIES, number=7))
        assert server.expect(DATA).payload == message(block + b"hello", kind=REQUEST | PROPERTIES, number=7)
        caller.send_bytes(frame(WITHDRAW, u32(7)))
        assert server.expect(WITHDRAW, came.channel).u32() == 7


def test_a_full_server_hears_at_once_that_its_caller_gave_up(here, there, memory):
    address = f"{there.domid}:work"
    with Connection(here.socket) as caller, Connection(there.socket, binds="work") as server:
        results, withdrawn = [], []
        assert caller.call_post(address, b"first", results.append, 60000) == 0
        request = take_request(caller, server)
        assert server.on_withdrawn(request, lambda: withdrawn.append(1)) == 0
        server.pause()
        # More than the server's ring takes lies before what would say it in the stream.
        for _ in range(40):
            caller.call_post(address, bytes(60000), results.append, 60000)
        with Connection(here.socket) as other:
            # Without shared memory only the server could take it back, and it sleeps; unless it is late, and hasn't come so far.
            assert -other.call(address, b"never taken", 300) in ((errno.ETIMEDOUT,) if memory == "0" else (errno.ETIMEDOUT, errno.ECONNRESET))
        caller.close()
        eventually(lambda: server.wait(10) >= 0 and withdrawn, "it hears of it")
        assert not request.wants_reply() and request.reply(b"") == -errno.ECANCELED
        request.free()
        server.resume()


BAD = {
    "no length": b"\0\0\0\0\0\0\0\0",
    "beyond the end": b"\xf8\xff\0\0\0\0\0\0",
    "a property beyond the block": b"\x08\0\0\0\xff\xff\x01\0",
    "a short deadline": properties((DEADLINE, b"abc")),
    "two deadlines": properties((DEADLINE, u32(1)), (DEADLINE, u32(2))),
    "a trace with a newline": properties((TRACE, b"a\nb")),
    "a trace that is too long": properties((TRACE, b"x" * 256)),
    "filling with bytes": properties((0, b"fill")),
    "half a length": b"\x08",
}


def refused(hostile, channel, receiver):
    """The RESET of what the library at the other end has looked at, and not handed out."""
    def reset():
        assert receiver.receive(10) in (-errno.ETIMEDOUT, -errno.EAGAIN)
        with contextlib.suppress(Timeout):
            return hostile.expect(RESET, channel, timeout=0.01)
    return eventually(reset, f"channel {channel} is reset")


def test_properties_that_make_no_sense_harm_only_their_channel(here, there):
    with Connection(there.socket, binds="inbox") as receiver, Program(here.socket) as hostile:
        for number, (name, block) in enumerate(BAD.items()):
            channel = 2 * number
            hostile.open(f"{there.domid}:inbox", channel)
            hostile.data(channel, message(block + (b"" if name == "half a length" else b"payload"), kind=PROPERTIES))
            reset = refused(hostile, channel, receiver)
            assert (reset.u32(), reset.u64(8)) == (EPROTO, 0), name
            hostile.send_bytes(frame(RESET, reset.payload, channel=channel))
        hostile.open(f"{there.domid}:inbox", 100)
        hostile.data(100, message(properties((TRACE, b"t")) + b"fine", kind=PROPERTIES))
        got = receiver.receive()
        assert (got.data, got.trace) == (b"fine", "t")


def test_a_withdrawal_that_means_nothing_is_ignored(here, there):
    with Connection(there.socket, binds="work") as server, Program(here.socket) as hostile:
        hostile.open(f"{there.domid}:work", kind=CALL)
        hostile.expect(OPENED)
        for number in range(5000):  # more than are kept
            hostile.send_bytes(frame(WITHDRAW, u32(number)))
        hostile.data(0, message(b"hello", kind=REQUEST, number=5000))
        request = server.take()
        assert request.data == b"hello" and request.wants_reply()
        hostile.send_bytes(frame(WITHDRAW, u32(5000)))
        eventually(lambda: server.wait(10) >= 0 and not request.wants_reply(), "that one means something")
        request.free()


def test_a_withdrawal_of_a_message_harms_only_its_sender(here, there):
    with Connection(there.socket, binds="inbox") as receiver, Program(here.socket) as hostile:
        hostile.open(f"{there.domid}:inbox")
        hostile.expect(OPENED)
        hostile.send_bytes(frame(WITHDRAW, u32(1)))
        assert hostile.goodbye()[0] == EPROTO
        with Connection(here.socket) as sender:
            assert sender.post(f"{there.domid}:inbox", b"fine", lambda error: None) == 0
            sender.wait(0)
            assert receiver.receive().data == b"fine"


def test_an_endpoint_is_drained_and_a_successor_gets_what_is_new(here, there):
    address = f"{there.domid}:work"
    with Connection(here.socket) as caller, Connection(there.socket, binds="work") as server, Connection(there.socket) as successor:
        results, drained = [], []
        assert caller.call_post(address, b"in service", results.append, 60000) == 0
        request = take_request(caller, server)
        assert server.drain("work", drained.append) == 0
        server.wait(0)
        eventually(lambda: successor.bind("work") == 0, "the name is free")
        # On the channel that the caller has it is refused, for certain; the next one finds the successor.
        assert caller.call_post(address, b"too late", results.append, 60000) == 0
        eventually(lambda: caller.wait(10) >= 0 and server.wait(10) >= 0 and server.take(0) and results, "it is refused")
        assert results == [-errno.ENOENT] and caller.last.fate == FATE_NOT_DONE
        assert caller.call_post(address, b"new", results.append, 60000) == 0
        new = take_request(caller, successor)
        assert new.data == b"new" and new.reply(b"by the successor") == 0
        new.free()
        assert not drained
        assert request.reply(b"to the end") == 0
        request.free()
        eventually(lambda: caller.wait(10) >= 0 and server.wait(10) >= 0 and drained and len(results) == 3, "all is answered")
        assert drained == [0] and sorted(results[1:]) == [b"by the successor", b"to the end"]
