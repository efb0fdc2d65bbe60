# SPDX-License-Identifier: LGPL-2.1-or-later
"""As much of libxenmsg as the tests call from Python, through ctypes."""

import collections
import contextlib
import ctypes
import errno
import os
import subprocess
import sys
import threading
import time

from messaging import BINDIR, eventually

HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)


class Result(ctypes.Structure):
    """struct xenmsg_result"""
    _fields_ = [("error", ctypes.c_int), ("fate", ctypes.c_int), ("code", ctypes.c_uint), ("exit_status", ctypes.c_int),
                ("reason", ctypes.c_char_p), ("reply", ctypes.c_void_p), ("json", ctypes.c_void_p),
                ("round_trip_ns", ctypes.c_uint64), ("stream", ctypes.c_int), ("reserved", ctypes.c_uint64 * 4)]


class Options(ctypes.Structure):
    """struct xenmsg_options"""
    _fields_ = [("size", ctypes.c_size_t), ("timeout_ms", ctypes.c_int), ("flags", ctypes.c_uint), ("trace", ctypes.c_char_p)]


class Notice(ctypes.Structure):
    """struct xenmsg_notice"""
    _fields_ = [("kind", ctypes.c_int), ("error", ctypes.c_int), ("count", ctypes.c_uint64), ("unknown", ctypes.c_int)]


class KeyOptions(ctypes.Structure):
    """The same with the members that it got later."""
    _fields_ = Options._fields_ + [("key", ctypes.c_char_p), ("keys", ctypes.c_uint), ("queue", ctypes.c_uint)]


class Change(ctypes.Structure):
    """struct xenmsg_change"""
    _fields_ = [("kind", ctypes.c_int), ("error", ctypes.c_int), ("watch", ctypes.c_int), ("endpoint", ctypes.c_char_p),
                ("reason", ctypes.c_char_p), ("listeners", ctypes.c_uint64)]


CHANGED = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(Change))
Told = collections.namedtuple("Told", "kind error count unknown")
SUBSCRIBED, MISSED, WAITING, ENDED, KEPT = range(1, 6)
TOPIC, RETAIN, KEEP_OLDEST, COUNT_LISTENERS, PATTERN = 8192, 16384, 65536, 131072, 262144
LISTENERS, NOT_SUBSCRIBED = 5, 6
RECONNECT = 2048
USUAL_MS = -2**31
AT_ONCE = 1024


def options(timeout_ms=USUAL_MS, flags=0, trace=None):
    return ctypes.byref(Options(ctypes.sizeof(Options), timeout_ms, flags, trace))


DONE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(Result))
Ended = collections.namedtuple("Ended", "error fate code exit_status reason data")
FATE_UNKNOWN, FATE_DONE, FATE_NOT_DONE = range(3)


def load():
    directory = os.environ.get("XENMSG_LIBDIR") or (os.path.join(os.path.dirname(BINDIR), "lib") if BINDIR else "")
    library = ctypes.CDLL(os.path.join(directory, "libxenmsg.so.1") if directory else "libxenmsg.so.1")
    pointer, text, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
    for name, result, arguments in (
            ("open", ctypes.c_int, [ctypes.POINTER(pointer), text, pointer]),
            ("close", None, [pointer]),
            ("bind", ctypes.c_int, [pointer, text, pointer, pointer, pointer]),
            ("unbind", ctypes.c_int, [pointer, text]),
            ("send", ctypes.c_int, [pointer, text, text, size, pointer, ctypes.POINTER(Result)]),
            ("begin_send", ctypes.c_int, [pointer, text, text, size, pointer, DONE, pointer, pointer]),
            ("wait", ctypes.c_int, [pointer, ctypes.c_int]),
            ("recv", ctypes.c_int, [pointer, ctypes.POINTER(pointer), ctypes.c_int]),
            ("listen", ctypes.c_int, [pointer, text, pointer]),
            ("connect", ctypes.c_int, [pointer, text, pointer]),
            ("accept", ctypes.c_int, [pointer, pointer, pointer]),
            ("peer_host", text, [pointer]),
            ("peer_domid", ctypes.c_uint32, [pointer]),
            ("peer_domain_name", text, [pointer]),
            ("peer_uid", ctypes.c_uint32, [pointer]),
            ("peer_pid", ctypes.c_uint32, [pointer]),
            ("message_sender", pointer, [pointer]),
            ("break", None, [ctypes.c_int]),
            ("call", ctypes.c_int, [pointer, text, text, size, pointer, ctypes.POINTER(Result)]),
            ("begin_call", ctypes.c_int, [pointer, text, text, size, pointer, DONE, pointer, pointer]),
            ("on_change", None, [pointer, CHANGED, pointer]),
            ("process", ctypes.c_int, [pointer]),
            ("subscribe", ctypes.c_int, [pointer, text, pointer, pointer, pointer]),
            ("unsubscribe", ctypes.c_int, [pointer, text]),
            ("message_notice", ctypes.POINTER(Notice), [pointer]),
            ("message_endpoint", text, [pointer]),
            ("message_key", text, [pointer]),
            ("reason", text, [pointer]),
            ("domid", ctypes.c_uint32, [pointer]),
            ("message_wants_reply", ctypes.c_int, [pointer]),
            ("message_on_withdrawn", ctypes.c_int, [pointer, HANDLER, pointer]),
            ("message_time_left", ctypes.c_int, [pointer]),
            ("message_trace", text, [pointer]),
            ("message_name", ctypes.c_int, [pointer, text, size]),
            ("peer_channel", ctypes.c_int, [pointer, text, size]),
            ("sent_name", ctypes.c_int, [pointer, text, ctypes.c_uint, text, size]),
            ("pause", ctypes.c_int, [pointer]),
            ("begin_drain", ctypes.c_int, [pointer, text, pointer, DONE, pointer, pointer]),
            ("resume", ctypes.c_int, [pointer]),
            ("reply", ctypes.c_int, [pointer, text, size]),
            ("reply_error", ctypes.c_int, [pointer, ctypes.c_uint, text, size]),
            ("message_data", pointer, [pointer]),
            ("message_size", size, [pointer]),
            ("message_free", None, [pointer])):
        function = getattr(library, "xenmsg_" + name)
        function.restype, function.argtypes = result, arguments
    return library


def name_by(function, *arguments):
    """A name in traces, or a negative errno."""
    name = ctypes.create_string_buffer(128)
    return function(*arguments, name, len(name)) or name.value.decode()


class Message:
    def __init__(self, library, message, keep=False):
        self.library, self.message = library, message
        self.data = ctypes.string_at(library.xenmsg_message_data(message), library.xenmsg_message_size(message))
        sender = library.xenmsg_message_sender(message)
        self.domid = library.xenmsg_peer_domid(sender)
        self.domain = library.xenmsg_peer_domain_name(sender).decode()
        self.uid = library.xenmsg_peer_uid(sender)
        self.pid = library.xenmsg_peer_pid(sender)
        self.trace = library.xenmsg_message_trace(message).decode()
        self.name = name_by(library.xenmsg_message_name, message)
        self.time_left = library.xenmsg_message_time_left(message)
        self.endpoint = library.xenmsg_message_endpoint(message).decode()
        self.key = library.xenmsg_message_key(message).decode()
        notice = library.xenmsg_message_notice(message)
        self.notice = Told(*(getattr(notice.contents, name) for name in Told._fields)) if notice else None
        if not keep:
            self.free()

    def free(self):
        self.library.xenmsg_message_free(self.message)
        self.message = None

    # ---- only of those that are kept ----

    def wants_reply(self):
        return bool(self.library.xenmsg_message_wants_reply(self.message))

    def reply(self, data):
        return self.library.xenmsg_reply(self.message, data, len(data))

    def reply_error(self, code, data=b""):
        return self.library.xenmsg_reply_error(self.message, code, data, len(data))


class Connection:
    """Results are the library's: 0 or a negative errno."""

    library = None
    all_open = set()

    def __init__(self, path, binds=None, reconnect=False):
        """It has bound the endpoint that it `binds`."""
        if not Connection.library:
            Connection.library = load()
        self.conn = ctypes.c_void_p()
        self.callbacks = []
        self.last = None  # what became of what ended last: error, fate, code, exit status, reason, data of the reply
        options = ctypes.byref(Options(ctypes.sizeof(Options), USUAL_MS, RECONNECT)) if reconnect else None
        result = self.library.xenmsg_open(ctypes.byref(self.conn), path.encode(), options)
        assert result == 0, result
        Connection.all_open.add(self)
        assert binds is None or self.bind(binds) == 0, self.reason()

    def done(self, take):
        """A callback for an outcome, which lives as long as this connection."""
        callback = DONE(lambda _, result: take(self.note(result.contents).error))
        self.callbacks.append(callback)
        return callback

    def note(self, result):
        reply = Message(self.library, ctypes.c_void_p(result.reply)) if result.reply else None
        self.answerer = reply and reply.domid
        self.last = Ended(result.error, result.fate, result.code, result.exit_status, result.reason.decode(), reply and reply.data)
        return self.last

    @classmethod
    def result_of_opening(cls, path):
        """Of a connection that is closed at once, if it was opened."""
        cls.library = cls.library or load()
        conn = ctypes.c_void_p()
        result = cls.library.xenmsg_open(ctypes.byref(conn), path.encode(), None)
        if result == 0:
            cls.library.xenmsg_close(conn)
        return result

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.conn:
            self.library.xenmsg_close(self.conn)
            self.conn = None
            Connection.all_open.discard(self)

    @classmethod
    def close_all(cls):
        """Those that a test hasn't closed."""
        for connection in list(cls.all_open):
            connection.close()

    def bind(self, endpoint, flags=0):
        return self.library.xenmsg_bind(self.conn, endpoint.encode(), options(flags=flags), None, None)

    def bind_next(self, endpoint, flags=0):
        """Binds what was bound by a program that has just gone, as soon as the daemon has seen that (xenmsg_bind())."""
        results = []
        eventually(lambda: results.append(self.bind(endpoint, flags)) or results[-1] != -errno.EEXIST, f"{endpoint} is free")
        return results[-1]

    def bind_keys(self, endpoint, keys, flags=TOPIC | RETAIN):
        how = KeyOptions(ctypes.sizeof(KeyOptions), USUAL_MS, flags, None, None, keys, 0)
        return self.library.xenmsg_bind(self.conn, endpoint.encode(), ctypes.byref(how), None, None)

    def send_key(self, address, key, data, flags=0):
        how = KeyOptions(ctypes.sizeof(KeyOptions), USUAL_MS, flags, None, key, 0)
        return self.library.xenmsg_send(self.conn, address.encode(), data, len(data), ctypes.byref(how), None)

    def handle(self, endpoint, take):
        """Binds with a handler; take(data) is called for each message."""
        handler = HANDLER(lambda _, message: take(Message(self.library, message).data))
        self.callbacks.append(handler)  # as long as the library may call it
        return self.library.xenmsg_bind(self.conn, endpoint.encode(), None, ctypes.cast(handler, ctypes.c_void_p), None)

    def unbind(self, endpoint):
        return self.library.xenmsg_unbind(self.conn, endpoint.encode())

    def subscribe(self, address, queue=0, flags=0):
        how = KeyOptions(ctypes.sizeof(KeyOptions), USUAL_MS, flags, None, None, 0, queue)
        return self.library.xenmsg_subscribe(self.conn, address.encode(), ctypes.byref(how), None, None)

    def on_change(self, take):
        """take(change) is called for each."""
        handler = CHANGED(lambda _, change: take(change.contents))
        self.callbacks.append(handler)
        self.library.xenmsg_on_change(self.conn, handler, None)

    def on_listeners(self, take):
        """take(topic, count) is called when that changes."""
        def changed(change):
            if change.kind == LISTENERS:
                take(change.endpoint.decode(), change.listeners)
        self.on_change(changed)

    def unsubscribe(self, address):
        return self.library.xenmsg_unsubscribe(self.conn, address.encode())

    def send(self, address, data, timeout_ms=20000, trace=None):
        result = Result()
        how = options(timeout_ms, trace=trace) if timeout_ms else options(flags=AT_ONCE)
        error = self.library.xenmsg_send(self.conn, address.encode(), data, len(data), how, ctypes.byref(result))
        assert self.note(result).error == error
        return error

    def post(self, address, data, done):
        return self.library.xenmsg_begin_send(self.conn, address.encode(), data, len(data), None, self.done(done), None, None)

    def post_timed(self, address, data, timeout_ms, done):
        return self.library.xenmsg_begin_send(self.conn, address.encode(), data, len(data), options(timeout_ms), self.done(done), None, None)

    def wait(self, timeout_ms=1000):
        return self.library.xenmsg_wait(self.conn, timeout_ms)

    def listen(self, endpoint, flags=0):
        return self.library.xenmsg_listen(self.conn, endpoint.encode(), options(flags=flags))

    def connect(self, address, timeout_ms=20000):
        """The descriptor of a stream, or a negative errno."""
        return self.library.xenmsg_connect(self.conn, address.encode(), options(timeout_ms))

    def accept(self, timeout_ms=20000):
        """The descriptor of a stream, or a negative errno."""
        return self.library.xenmsg_accept(self.conn, options(timeout_ms), None)

    def accept_peer(self, timeout_ms=20000):
        """The descriptor of a stream, and of who opened it: the host, the domid, and what the stream is called in traces."""
        peer = ctypes.c_void_p()
        fd = self.library.xenmsg_accept(self.conn, options(timeout_ms), ctypes.byref(peer))
        assert fd >= 0, fd
        self.opener_domain = self.library.xenmsg_peer_domain_name(peer).decode()
        return fd, self.library.xenmsg_peer_host(peer).decode(), self.library.xenmsg_peer_domid(peer), name_by(self.library.xenmsg_peer_channel, peer)

    def sent_name(self, address, flags=0):
        """What the message is called that was sent last, or a negative errno."""
        return name_by(self.library.xenmsg_sent_name, self.conn, address.encode(), flags)

    def call(self, address, data, timeout_ms=20000, trace=None):
        """The reply's bytes, or a negative errno."""
        result = Result()
        error = self.library.xenmsg_call(self.conn, address.encode(), data, len(data), options(timeout_ms, trace=trace),
                                         ctypes.byref(result))
        assert self.note(result).error == error and (self.last.data is not None or error)
        return error or self.last.data

    def call_post(self, address, data, done, timeout_ms=-1, flags=0):
        """done gets the reply's bytes, or a negative errno."""
        result = self.library.xenmsg_begin_call(self.conn, address.encode(), data, len(data), options(timeout_ms, flags),
                                                self.done(lambda error: done(error or self.last.data)), None, None)
        self.wait(0)  # without shared memory it goes out when the connection is processed
        return result

    def on_withdrawn(self, message, take):
        """take() is called when the answer to this call is no longer wanted."""
        handler = HANDLER(lambda _, message: take())
        self.callbacks.append(handler)
        return self.library.xenmsg_message_on_withdrawn(message.message, handler, None)

    def drain(self, endpoint, done):
        return self.library.xenmsg_begin_drain(self.conn, endpoint.encode(), None, self.done(done), None, None)

    def pause(self):
        assert self.library.xenmsg_pause(self.conn) == 0

    def resume(self):
        assert self.library.xenmsg_resume(self.conn) == 0

    def domid(self):
        return self.library.xenmsg_domid(self.conn)

    def reason(self):
        return self.library.xenmsg_reason(self.conn, 0).decode()

    def take(self, timeout_ms=20000):
        """A Message that is kept until free(), or a negative errno."""
        message = ctypes.c_void_p()
        result = self.library.xenmsg_recv(self.conn, ctypes.byref(message), timeout_ms)
        return Message(self.library, message, keep=True) if result == 0 else result

    def receive(self, timeout_ms=20000):
        """A Message, or a negative errno."""
        message = self.take(timeout_ms)
        if isinstance(message, Message):
            message.free()
        return message


class Posts:
    """Messages to endpoints called inbox, for which nobody waits: what became of each is looked at when all have ended."""

    def __init__(self, sender, receiver):
        self.sender, self.receiver, self.posted, self.ended, self.got = sender, receiver, [], {}, []

    def post(self, *addresses):
        for address in addresses:
            self.posted.append(what := f"{len(self.posted)} to {address}")
            assert self.sender.post(f"{address}:inbox", what.encode(), lambda _, what=what: self.ended.update({what: self.sender.last})) == 0
        self.sender.wait(1)

    def have_ended(self):
        while isinstance(message := self.receiver.receive(10), Message):
            self.got.append(message.data.decode())
        return message == -errno.ETIMEDOUT and self.sender.wait(0) >= 0 and len(self.ended) == len(self.posted)

    def are_delivered(self, unknown=()):
        """Once each, and besides them at most what nobody could know of."""
        eventually(self.have_ended, "all have an outcome")
        assert not any(ended.error for ended in self.ended.values()), (self.ended, self.got)
        assert sorted(set(self.got) - set(unknown)) == sorted(self.posted) and len(set(self.got)) == len(self.got), self.got


@contextlib.contextmanager
def waiting_message(one, two):
    """A message from one node lies at an endpoint of the other one that takes nothing: its sender, and its outcomes."""
    with Connection(one.socket) as sender, Connection(two.socket, binds="sleeper"):
        outcomes = []
        assert sender.post(f"{two.domid}:sleeper", b"x", outcomes.append) == 0
        eventually(lambda: sender.wait(10) >= 0 and two.status()["endpoints"][0]["queued"], "it has arrived")
        yield sender, outcomes


@contextlib.contextmanager
def taking(receiver, count):
    """Takes messages in a thread, and then does what xenmsg_fd() asks for: only so a program hears that its daemon was renewed."""
    got, over = [], threading.Event()

    def run():
        got.extend(receiver.receive(60000) for _ in range(count))
        while not over.is_set():
            receiver.wait(100)
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield got
    finally:
        over.set()
        thread.join()


PROGRAM = "import os, sys, time; sys.path.insert(0, sys.argv[1]); from library import Connection; c = Connection(sys.argv[2])\n"


def program(node, text):
    """A Python program that uses the library by the connection `c`, killed with the test."""
    process = subprocess.Popen([sys.executable, "-u", "-c", PROGRAM + text, os.path.dirname(__file__), node.socket],
                               stdout=subprocess.PIPE, stdin=subprocess.PIPE)
    node.children.append(process)
    return process


DEAF_CALLS = 8  # of each caller: more than are answered while it reads nothing
CALLERS = """import os, sys
sys.path.insert(0, sys.argv[1])
from library import Connection
for _ in range(int(sys.argv[4])):
    if os.fork() == 0:
        caller = Connection(sys.argv[2])
        assert all(caller.call_post(sys.argv[3], b"", lambda result: None) == 0 for _ in range(int(sys.argv[5])))
        os.write(1, b"x")
        sys.stdin.read()
        os._exit(0)
sys.stdin.read()
"""


def deaf_callers(node, address, count):
    """Programs that make DEAF_CALLS calls each, and read no reply: until the test ends."""
    posted = subprocess.Popen([sys.executable, "-c", CALLERS, os.path.dirname(__file__), node.socket, address, str(count),
                               str(DEAF_CALLS)],
                              stdout=subprocess.PIPE, stdin=subprocess.PIPE)
    node.children.append(posted)
    assert posted.stdout.read(count) == b"x" * count


def holds_nobody_for_long(call, node, address, places):
    """Many callers of a server with so many places read no reply; a caller by call() goes on. Each of them is a program of its
    own, so waiting for each, as long as for one, would take a minute."""
    def seconds():
        started = time.monotonic()
        call()
        return time.monotonic() - started
    callers, each_waited_for = 20, 5
    seconds()  # which makes the link
    alone = seconds()
    deaf_callers(node, address, callers)
    assert seconds() < callers * each_waited_for / places / 2 + alone * callers * DEAF_CALLS
