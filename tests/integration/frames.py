# SPDX-License-Identifier: LGPL-2.1-or-later
"""Frames, written from doc/protocol.md alone and not from the library, for whoever plays an end of a hop in Python. Nothing here
is refused: a test may say what is wrong.

test_protocol.py compares the numbers with those of wire/frame.h.
"""

import struct

HELLO, WELCOME, GOODBYE, PING, PONG, ACK, DIRECTORY, PROVE, RESUME, OFFER, MOVE, DECLINE = range(1, 13)
POLICY = 48
LISTENERS = 49
IDLE = 50
OPEN, OPENED, DATA, CREDIT, FIN, RESET, CANCEL, CANCELLED, SENDER, WITHDRAW, REASSIGNED = range(16, 27)
BIND, UNBIND = 32, 33
REPLY, ACCEPT, INCOMING, DRAIN, SELF, SUBSCRIBE = range(39, 45)
MEMORY = 46
OPTIONAL = 128  # frames from here on may be skipped

HEADER = struct.Struct("<IBBHII")  # length, type, flags, messages, channel, sequence
SHARED_MEMORY, BECOMES_STREAM, MUX = 1, 2, 4  # in the flags of a program's HELLO
RELAYS, RESUMES, OBEYS = 1, 2, 4  # in those of a daemon's
MESSAGE, CALL, STREAM = 1, 2, 3  # kinds of channels
PLAIN, REQUEST, ANSWER, ERROR, REFUSAL, PROPERTIES = 0, 1, 2, 3, 4, 128  # types of messages; the last is a bit
SUBSCRIBE_LEAVE = 4  # in the flags of SUBSCRIBE
DEADLINE, TRACE, SUBSCRIBES, NOTICE, KEY, PART = range(1, 7)  # kinds of properties
MESSAGES, CALLS, STREAMS, SHARED, HOSTS = 1, 2, 4, 1 << 30, 1 << 31  # in the kinds of BIND
PAYLOAD_MAX = 65536
INITIAL_LIMIT = 65536


class Closed(Exception):
    """The other end has closed the connection."""


def u32(*values):
    return struct.pack(f"<{len(values)}I", *values)


def u64(*values):
    return struct.pack(f"<{len(values)}Q", *values)


def padded(size):
    return (size + 7) & ~7


def bytes_of(text):
    """Of bytes, too, if they are to be no text."""
    return text if isinstance(text, bytes) else text.encode()


# ---- payloads ----

def open_payload(address, kind=MESSAGE, identity=(0, 0, 0, 0)):
    return bytes((kind, 0, 0, 0)) + u32(*identity) + bytes_of(address)


def reset_payload(error, consumed=0):
    return u32(error, 0) + u64(consumed, consumed)


def bind_payload(endpoint, kinds=MESSAGES):
    return u32(kinds) + bytes_of(endpoint)


def link_hello_payload(instance, flags=0, minor=0, version=b"python"):
    return struct.pack("<HHI16sQ", 1, minor, flags, instance, 1 << 24) + version


def message(data, state=0, size=None, kind=0, number=0, error=0):
    """A message as it stands in a channel's stream."""
    return (struct.pack("<IBBH", len(data) if size is None else size, kind, 0, error) + data
            + bytes(padded(len(data)) - len(data)) + u32(state, number))


def properties(*pairs):
    """The block of these (kind, bytes), which stands before the payload of a message of the type PROPERTIES."""
    block = b"".join(struct.pack("<HH", len(data), kind) + data + bytes(-len(data) % 4) for kind, data in pairs)
    size = padded(4 + len(block))
    return struct.pack("<HH", size, 0) + block + bytes(size - 4 - len(block))


# ---- frames ----

def frame(kind, payload=b"", channel=0, flags=0, messages=0, length=None, sequence=0):
    """A whole frame; `length` may lie."""
    header = HEADER.pack(len(payload) if length is None else length, kind, flags, messages, channel, sequence)
    return header + payload + bytes(padded(len(payload)) - len(payload))


def hello(major=1, minor=0, flags=0):
    return frame(HELLO, struct.pack("<HHI", major, minor, flags))


def welcome(flags=0):
    """Of domain 1."""
    return frame(WELCOME, struct.pack("<HHIIIQ16x", 1, 0, flags, 1, 0, 1 << 24))


def open_frame(channel, address, kind=MESSAGE):
    return frame(OPEN, open_payload(address, kind), channel=channel)


def question_frames(channel, *questions, to="self"):
    """Calls to the daemon of a domain, and the end of what is asked on this channel."""
    asked = [message(bytes_of(what), kind=REQUEST, number=number) for number, what in enumerate(questions)]
    return (open_frame(channel, f"{to}:xenmsg", CALL) + b"".join(frame(DATA, each, channel=channel, messages=1) for each in asked)
            + fin_frame(channel, sum(map(len, asked))))


def answer_frames(channel, number, text, error=0, piece=None):
    """The answers to a call: one, or parts of so many bytes, each a frame."""
    if error or not piece:
        yield frame(DATA, message(bytes_of(text), kind=ERROR if error else ANSWER, number=number, error=error), channel=channel)
        return
    for at in range(0, len(text), piece):
        part = properties((PART, u32(at // piece, at + piece < len(text)))) + text[at:at + piece]
        yield frame(DATA, message(part, kind=ANSWER | PROPERTIES, number=number), channel=channel)


def told_frames(channel, number, *told):
    """The answer to a call that stands: that it does, and each thing that is told, as parts of which there are always more."""
    for at, each in enumerate((b"", *told)):
        part = properties((PART, u32(at, 1))) + each
        yield frame(DATA, message(part, kind=ANSWER | PROPERTIES, number=number), channel=channel)


def credit_frame(channel, consumed, limit=0):
    return frame(CREDIT, u64(consumed, limit), channel=channel)


def fin_frame(channel, total):
    return frame(FIN, u64(total), channel=channel)


def reset_frame(channel, error, consumed=0):
    return frame(RESET, reset_payload(error, consumed), channel=channel)


def size_at(data, at=0):
    """Of the frame whose header is there."""
    return HEADER.size + padded(struct.unpack_from("<I", data, at)[0])


class Frame:
    """The one that begins there, and is whole."""

    def __init__(self, data, at=0):
        self.length, self.kind, self.flags, self.messages, self.channel, self.sequence = HEADER.unpack_from(data, at)
        self.payload = bytes(data[at + HEADER.size:at + HEADER.size + self.length])

    def u32(self, offset=0):
        return struct.unpack_from("<I", self.payload, offset)[0]

    def u64(self, offset=0):
        return struct.unpack_from("<Q", self.payload, offset)[0]

    def identity(self):
        """Of OPEN: domid, uid, gid, pid."""
        return struct.unpack_from("<4I", self.payload, 4)

    def __repr__(self):
        return f"<frame type {self.kind} channel {self.channel} {self.payload[:40]!r}>"


def receive_exactly(connection, size):
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise Closed
        data += more
    return data


def receive_frame(connection):
    header = receive_exactly(connection, HEADER.size)
    return Frame(header + receive_exactly(connection, size_at(header) - HEADER.size))
