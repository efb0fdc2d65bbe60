# SPDX-License-Identifier: LGPL-2.1-or-later
"""A peer daemon in Python, written from doc/protocol.md alone: it meets a real xenmsgd through XenStore and speaks link frames
with it over the real rings, by stock libxenstore and libxenvchan. Numbers in brackets are sections of that document.

    link_peer.py grant|map DOMID [FLAGS] [resume] [keep] [as INSTANCE]
        run inside a domain; takes a command a line, answers each with "ok ..." or "error ..."; FLAGS are those of its HELLO (2:
        it moves); with resume its session can be resumed; it may show another's instance; with keep it unmaps nothing
"""

import ctypes
import ctypes.util
import hashlib
import hmac
import json
import os
import struct
import sys
import time
import uuid

from frames import (ACK, ANSWER, CALL, CANCELLED, CREDIT, DATA, DECLINE, DIRECTORY, ERROR, FIN, GOODBYE, HEADER, HELLO, IDLE, INITIAL_LIMIT, MESSAGE,
                    MOVE, NOTICE, OFFER, OPEN, OPENED, PART, PAYLOAD_MAX, PING, PLAIN, POLICY, PONG, PROPERTIES, PROVE, REQUEST, RESET, RESUME,
                    RESUMES, SENDER, SUBSCRIBES, WITHDRAW, Frame, frame,
                    link_hello_payload, message, open_payload, properties, reset_payload, size_at, u32, u64)
from polling import readable

PIECE = 16384  # with its header and a few more frames it fits into the smallest rings that a link begins with
PATIENCE = 30
NONE, READ = 0, 1  # XenStore's permissions


class Permission(ctypes.Structure):
    _fields_ = [("id", ctypes.c_uint), ("perms", ctypes.c_int)]


class Store:
    """libxenstore, as far as it is needed."""

    def __init__(self):
        self.library = ctypes.CDLL("libxenstore.so.4")
        self.library.xs_open.restype = self.library.xs_read.restype = ctypes.c_void_p
        for name in ("write", "set_permissions", "transaction_end"):
            getattr(self.library, "xs_" + name).restype = ctypes.c_bool
        self.handle = ctypes.c_void_p(self.library.xs_open(ctypes.c_ulong(0)))
        assert self.handle, "no XenStore"

    def read(self, path):
        size = ctypes.c_uint()
        found = self.library.xs_read(self.handle, 0, path.encode(), ctypes.byref(size))
        if not found:
            return None
        value = ctypes.string_at(found, size.value).decode()
        ctypes.CDLL(None).free(ctypes.c_void_p(found))
        return value

    def write(self, path, value, *permissions):
        """With its permissions in one transaction, so that nobody else sees it before it has them [5.1]."""
        perms = (Permission * len(permissions))(*permissions)
        while True:
            transaction = self.library.xs_transaction_start(self.handle)
            assert self.library.xs_write(self.handle, transaction, path.encode(), value.encode(), len(value))
            assert self.library.xs_set_permissions(self.handle, transaction, path.encode(), perms, len(perms))
            if self.library.xs_transaction_end(self.handle, transaction, False):
                return

    def remove(self, path):
        self.library.xs_rm(self.handle, 0, path.encode())


class Vchan:
    """libxenvchan, as far as it is needed."""

    keeps = False

    def __init__(self, server, peer, path, size=65536):
        library = self.library = ctypes.CDLL(ctypes.util.find_library("xenvchan"))
        library.libxenvchan_server_init.restype = library.libxenvchan_client_init.restype = ctypes.c_void_p
        if server:
            rings = ctypes.c_size_t(size)
            control = library.libxenvchan_server_init(None, peer, path.encode(), rings, rings)
        else:
            control = library.libxenvchan_client_init(None, peer, path.encode())
        self.control = ctypes.c_void_p(control)
        assert self.control, f"no vchan at {path}"
        # struct libxenvchan: three pointers, the port, and then bits: server, persist, blocking. libxenvchan leaves the last
        # two undefined.
        bits = ctypes.c_uint32.from_address(control + 28)
        bits.value = 1 if server else 0
        self.fd = library.libxenvchan_fd_for_select(self.control)
        self.room = library.libxenvchan_buffer_space(self.control)

    def ready(self):
        return self.library.libxenvchan_data_ready(self.control)

    def all_is_read(self):
        return self.library.libxenvchan_buffer_space(self.control) == self.room

    def is_open(self):
        return self.library.libxenvchan_is_open(self.control)

    def receive(self, size):
        data = ctypes.create_string_buffer(size)
        return data.raw if self.library.libxenvchan_recv(self.control, data, ctypes.c_size_t(size)) == size else None

    def send(self, data):
        """The whole of it, or nothing if there is no room."""
        return self.library.libxenvchan_send(self.control, data, ctypes.c_size_t(len(data))) == len(data)

    def wait(self, seconds, *others):
        """For an event, or for the others to be readable. Those that are."""
        ready = readable([self.fd, *others], seconds)
        if self.fd in ready:
            self.library.libxenvchan_wait(self.control)
        return ready

    def leave(self, server):
        """Closes it, and says before that another one is wanted [5.2]."""
        page = ctypes.c_uint64.from_address(self.control.value + 8).value  # struct libxenvchan: ring
        ctypes.c_uint8.from_address(page + (22 if server else 23)).value |= 0x80  # struct vchan_interface: cli_notify, srv_notify
        self.close()

    def close(self):
        if not self.keeps:
            self.library.libxenvchan_close(self.control)


class Channel:
    def __init__(self, limit):
        self.limit = limit  # of what we may send
        self.sent = self.consumed = self.received = 0
        self.buffer = self.out = b""
        self.endpoint = self.identity = self.error = self.answer = None
        self.fin_sent = self.fin_received = False


class Peer:
    def __init__(self, role, domid, flags, resumes, instance):
        self.is_alone = False  # the other end has left, or is to
        self.role, self.resumes = role, resumes
        self.secret = self.nonce = self.their_hello = None
        self.epoch, self.sent, self.kept = 1, 0, []  # of what was sent: (position of its end, frame)
        self.store = Store()
        self.flags, self.claimed = flags | (RESUMES if self.resumes else 0), 4711
        self.me, self.peer = int(self.store.read("domid")), domid
        self.instance = uuid.UUID(instance) if instance else uuid.uuid4()
        self.base = f"/local/domain/{self.me}/data/xenmsg"
        self.leaf = f"{self.base}/to/{domid}"
        self.theirs = f"/local/domain/{domid}/data/xenmsg/to/{self.me}"
        self.out_sequence = self.in_sequence = self.processed = self.acknowledged = 0
        self.hello, self.pongs, self.pings, self.goodbye, self.peer_ack = None, [], 0, None, 0
        self.channels, self.messages = {}, []
        self.asked, self.lie, self.publishes, self.subscribed = 0, [], [], None
        self.sizes, self.other = [], None  # of the rings that it has moved to; while it moves, the other vchan
        self.next = 0 if self.me < domid else 1  # [2]
        self.meet()
        self.begin()

    # ---- rendezvous [5.1] ----

    def meet(self):
        role, before = self.role, self.their_hello
        private = Permission(self.me, NONE), Permission(self.peer, READ)
        nonce = os.urandom(4).hex()
        self.store.write(f"{self.base}/presence", f"1 {self.instance}", Permission(self.me, READ))
        self.store.write(f"{self.leaf}/endpoints", "echo", *private)
        self.store.write(f"{self.leaf}/hello", f"1 {self.instance} {nonce} {int(role == 'map')}", *private)
        self.their_hello = self.await_leaf(f"{self.theirs}/hello", before)
        hello = self.their_hello.split(" ")
        assert hello[0] == "1", hello
        if role == "grant":
            self.vchan = Vchan(True, self.peer, f"{self.leaf}/{hello[2]}")
        else:
            self.await_leaf(f"{self.theirs}/{nonce}/event-channel")
            self.vchan = Vchan(False, self.peer, f"{self.theirs}/{nonce}")
        self.published = f"{self.leaf}/{hello[2]}" if role == "grant" else None
        self.nonce = os.urandom(16)
        self.inlet = self.vchan  # where it reads; it writes into the other

    def hello_payload(self, again):  # [5.3]
        secret = os.urandom(32) if self.me < self.peer else bytes(32)
        if not again:
            self.secret = secret if self.me < self.peer else None
        tags = (self.tag(True) if again else os.urandom(8)) + os.urandom(56)
        return link_hello_payload(self.instance.bytes, self.flags) + b"\0" + self.nonce + secret + b"\0" + tags

    def check_hello(self):
        if self.published:
            self.store.remove(self.published)
        major, minor, _, instance, _ = struct.unpack_from("<HHI16sQ", self.hello)
        assert (major, minor) == (1, 0)
        assert str(uuid.UUID(bytes=instance)) == self.their_hello.split(" ")[1], "the instance in HELLO is that of the leaf"
        self.their_instance = instance
        at = self.hello.index(b"\0", 32) + 1
        self.their_nonce, secret = struct.unpack_from("<16s32s", self.hello, at)
        at += 49 + self.hello[at + 48]  # behind the host's name
        self.their_tags = [self.hello[at + 8 * i:at + 8 * i + 8] for i in range(8)]
        assert len(self.hello) >= at + 64 and len(set(self.their_tags)) == 8
        return secret

    def begin(self):
        self.send(HELLO, 0, self.hello_payload(False))
        self.until(lambda: self.hello)
        secret = self.check_hello()
        if self.me > self.peer:
            assert secret != bytes(32), "the lower domid chooses it"
            self.secret = secret

    # ---- resume [5.7] ----

    def say(self, kind, payload):
        """A frame before those of the session."""
        assert self.vchan.send(HEADER.pack(len(payload), kind, 0, 0, 0, 0) + payload + bytes(-len(payload) % 8))

    def expect(self, kind):
        end = time.monotonic() + PATIENCE
        while not self.vchan.ready():
            assert self.vchan.is_open() and time.monotonic() < end, "no answer"
            self.vchan.wait(1)
        length, got, _, _, _, sequence = HEADER.unpack(self.vchan.receive(16))
        assert (got, sequence) == (kind, 0)
        return self.vchan.receive(length + -length % 8)[:length]

    def proof(self, ours, epoch):
        mine, theirs = (self.me, self.nonce, self.instance.bytes), (self.peer, self.their_nonce, self.their_instance)
        first, second = (mine, theirs) if ours else (theirs, mine)
        told = b"xenmsg prove" + u32(first[0], second[0]) + first[1] + second[1] + first[2] + second[2]
        return hmac.new(self.secret, told + u32(epoch), hashlib.sha256).digest()

    def tag(self, ours):
        mine, theirs = (self.me, self.instance.bytes), (self.peer, uuid.UUID(self.their_hello.split(" ")[1]).bytes)
        first, second = (mine, theirs) if ours else (theirs, mine)
        told = u32(first[0], second[0]) + (self.nonce if ours else self.their_nonce) + first[1] + second[1]
        return hmac.new(self.secret, b"xenmsg hello" + told, hashlib.sha256).digest()[:8]

    def do_impression(self):
        """What we were shown of the peer, but for what is new each time."""
        version, instance, _, *rest = self.their_hello.split(" ")
        self.check_hello()
        return repr([version, instance, rest, len(self.hello), self.hello[:24], self.vchan.room])

    def do_resume(self, lie=None):
        """Says what is so, or something else in one place; then whether the other end has left."""
        for vchan in {self.inlet, self.vchan, self.other} - {None}:  # while it moves, both [5.9]
            vchan.leave(self.role == "grant")
        self.other, self.is_alone = None, False
        self.meet()
        self.say(HELLO, self.hello_payload(True))
        self.hello = self.expect(HELLO)
        self.check_hello()
        assert self.tag(False) in self.their_tags
        proof = self.proof(True, self.epoch)
        self.say(PROVE, u32(self.epoch, 0) + (bytes(len(proof)) if lie == "secret" else proof))
        if lie == "secret":
            return self.is_left()
        epoch, _, proof = struct.unpack("<II32s", self.expect(PROVE))
        assert proof == self.proof(False, epoch)
        if self.role == "map":
            self.epoch = max(self.epoch, epoch) + 1
        processed = {"more": self.processed + (1 << 20), "less": 0}.get(lie, self.processed)
        self.say(RESUME, u64(processed) + u32(self.epoch, 0))
        if lie:
            return self.is_left()
        received, epoch, _ = struct.unpack("<QII", self.expect(RESUME))
        assert received <= self.sent
        if self.role == "grant":
            assert epoch > self.epoch
            self.epoch = epoch
        self.kept = [(end, whole) for end, whole in self.kept if end > received]
        for _, whole in self.kept:
            self.put(whole)
        self.send(PING, 0, bytes(8))
        return f"again {len(self.kept) - 1}"

    def do_left(self):
        self.is_alone = True
        while self.inlet.ready() or self.inlet.is_open():
            if self.inlet.ready():
                self.take_frame()
            else:
                self.inlet.wait(1)
        return "left"

    def is_left(self):
        self.is_alone, end = True, time.monotonic() + PATIENCE
        while self.vchan.is_open():
            assert time.monotonic() < end, "it is believed"
            if self.vchan.ready():
                self.vchan.receive(1)
            else:
                self.vchan.wait(1)
        return "left"

    # ---- moving to other rings [5.9] ----

    def do_move(self, size):
        path = f"{self.base}/other"
        self.other = Vchan(True, self.peer, path, int(size))
        place = [int(self.store.read(f"{path}/{leaf}")) for leaf in ("ring-ref", "event-channel")]
        self.store.remove(path)
        count = len(self.sizes)
        self.send(OFFER, 0, u32(*place, self.epoch if self.resumes else 0, 0))
        self.until(lambda: len(self.sizes) > count or not self.other)
        return self.do_moved() if len(self.sizes) > count else "declined"

    def take_decline(self, payload):
        assert self.role == "grant" and self.other
        assert struct.unpack_from("<I", payload) == (self.epoch if self.resumes else 0,)
        self.other.close()
        self.other = None

    def do_moved(self):
        """The sizes of the rings that it has moved to, which are some."""
        self.until(lambda: self.sizes)
        return " ".join(map(str, self.sizes))

    def take_offer(self, payload):
        assert self.role == "map" and not self.other
        ring_ref, port, epoch, _ = struct.unpack("<IIII", payload)
        assert epoch == (self.epoch if self.resumes else 0)
        path, private = f"{self.base}/other", Permission(self.me, NONE)
        self.store.write(f"{path}/ring-ref", str(ring_ref), private)
        self.store.write(f"{path}/event-channel", str(port), private)
        self.other = Vchan(False, self.peer, path)
        self.store.remove(path)
        self.say_move()

    def say_move(self):
        """The last frame here; then waits until it was read, and goes on in the other one."""
        self.put(frame(MOVE))
        end = time.monotonic() + PATIENCE
        while True:
            is_open = self.vchan.is_open()  # the peer closes it when it has read it
            if self.vchan.all_is_read():
                break
            assert is_open and time.monotonic() < end, "the peer doesn't read"
            self.vchan.wait(0.01)
        self.vchan = self.other

    def take_move(self):
        assert self.other
        if self.role == "grant":
            self.say_move()
        self.inlet.close()
        self.inlet, self.other = self.vchan, None
        self.sizes.append(self.vchan.room)

    def await_leaf(self, path, other_than=None):
        end = time.monotonic() + PATIENCE
        while (value := self.store.read(path)) in (None, "", other_than):
            assert time.monotonic() < end, f"{path} doesn't appear"
            time.sleep(0.01)
        return value

    # ---- frames [1] ----

    def send(self, kind, number=0, payload=b""):
        whole = frame(kind, payload, number, sequence=self.out_sequence)
        self.sent += len(whole)
        self.kept.append((self.sent, whole))
        self.out_sequence += 1
        self.put(whole)

    def put(self, whole):
        end = time.monotonic() + PATIENCE
        while not self.vchan.send(whole):
            if self.is_alone and not self.vchan.is_open():
                return  # it is sent again when the session is resumed
            assert self.vchan.is_open() and time.monotonic() < end, f"the peer doesn't read, or has gone: {self.goodbye}"
            self.vchan.wait(1)

    def until(self, condition, *others):
        """Deals with frames until the condition is true, or one of the others is readable."""
        end = time.monotonic() + PATIENCE
        while not condition():
            if self.inlet.ready():
                self.take_frame()
                continue
            assert self.inlet.is_open(), "the peer has closed the vchan"
            assert others or time.monotonic() < end, "not in time"
            if any(other in others for other in self.inlet.wait(1, *others)):
                return

    def take_frame(self):
        header = self.inlet.receive(HEADER.size)
        assert header, "an incomplete header in the ring"
        size = size_at(header)
        assert size <= HEADER.size + PAYLOAD_MAX
        got = Frame(header + self.inlet.receive(size - HEADER.size) if size > HEADER.size else header)
        if got.kind == MOVE:
            assert (got.length, got.sequence) == (0, 0)
            self.take_move()
            return
        assert got.sequence == self.in_sequence, f"frame {got.sequence} instead of {self.in_sequence}"
        self.in_sequence += 1
        self.processed += size
        self.take(got.kind, got.channel, got.payload)
        if self.processed - self.acknowledged >= 65536:
            self.acknowledge()

    def acknowledge(self):  # [5.4]
        self.acknowledged = self.processed
        self.send(ACK, 0, u64(self.acknowledged))

    def take(self, kind, number, payload):
        assert self.hello or kind == HELLO, "the first frame is HELLO"
        if kind == HELLO:
            assert not self.hello, "HELLO comes once"
            self.hello = payload
        elif kind == PING:
            self.pings += 1
            self.send(PONG, 0, payload)
            self.acknowledge()
        elif kind == PONG:
            self.pongs.append(payload)
        elif kind == ACK:
            self.peer_ack, = struct.unpack_from("<Q", payload)
            self.kept = [(end, whole) for end, whole in self.kept if end > self.peer_ack]
        elif kind == GOODBYE:
            self.goodbye = struct.unpack_from("<I", payload)[0], payload[4:].decode()
        elif kind == OFFER:
            self.take_offer(payload)
        elif kind == DECLINE:
            self.take_decline(payload)
        elif kind in (DIRECTORY, POLICY):
            assert self.peer == 0  # [5.6, 5.12]
        elif kind in (SENDER, WITHDRAW):
            pass  # nothing is kept
        elif kind == IDLE:
            self.send(IDLE, 0, u32(1))
        elif kind == OPEN:
            assert number % 2 == (self.me < self.peer) and number not in self.channels
            channel = self.channels[number] = Channel(0)
            channel.endpoint, channel.identity = payload[20:].decode(), struct.unpack_from("<4I", payload, 4)
            if payload[0] == CALL and self.publishes:
                self.publish(number, channel)
                return
            self.send(OPENED, number, u64(65536, 1 << 24) + bytes(4))
        elif number in self.channels and OPENED <= kind <= CANCELLED:
            self.take_of(self.channels[number], kind, number, payload)
        else:
            assert kind not in (OPENED, DATA) and OPENED < kind <= CANCELLED or kind >= 128, kind

    def answer_question(self, number, channel, asked, what):
        """By an error, or parts that were made up: (part, whether there are more, bytes); of none at all by one whole reply. Who wasn't
        told what to answer knows ping."""
        self.asked += 1
        if self.lie == [] and what == b"ping":
            self.give(number, channel, message(b"{}", kind=ANSWER, number=asked))
            return
        if isinstance(self.lie, int):
            self.give(number, channel, message(b"", kind=ERROR, number=asked, error=self.lie))
            return
        for part, more, data in self.lie:
            is_whole = part == 0 and not more
            self.give(number, channel, message(data if is_whole else properties((PART, u32(part, more))) + data,
                                              kind=ANSWER if is_whole else ANSWER | PROPERTIES, number=asked))

    def give(self, number, channel, stream):
        """Sends it as there is credit."""
        channel.out += stream
        while channel.out and channel.limit > channel.sent:
            size = min(PIECE, channel.limit - channel.sent, len(channel.out))
            self.write(number, channel, channel.out[:size])
            channel.out = channel.out[size:]

    def take_of(self, channel, kind, number, payload):
        if kind == OPENED:
            channel.limit = max(channel.limit, struct.unpack_from("<Q", payload)[0])
        elif kind == CREDIT:
            channel.consumed, limit = struct.unpack_from("<QQ", payload)
            assert channel.consumed <= channel.sent
            channel.limit = max(channel.limit, limit)
            self.give(number, channel, b"")
        elif kind == DATA:
            assert not channel.fin_received
            channel.received += len(payload)
            channel.buffer += payload
            self.take_messages(number, channel)
            self.send(CREDIT, number, u64(channel.received, channel.received + 65536))
        elif kind == FIN:
            assert struct.unpack_from("<Q", payload)[0] == channel.received
            channel.fin_received = True
            if not channel.fin_sent:
                self.send(FIN, number, u64(channel.sent))
                channel.fin_sent = True
            self.forget_ended(number)
        elif kind == RESET:
            channel.error, _, consumed, _ = struct.unpack_from("<IIQQ", payload)
            channel.consumed = max(channel.consumed, consumed)
            self.send(RESET, number, reset_payload(channel.error, channel.received))
            del self.channels[number]
        self.forget_ended(number)

    def forget_ended(self, number):
        channel = self.channels.get(number)
        if channel and channel.fin_sent and channel.fin_received and channel.consumed == channel.sent:
            del self.channels[number]

    def take_messages(self, number, channel):  # [2.1]
        while len(channel.buffer) >= 8:
            size, kind, _, error = struct.unpack_from("<IBBH", channel.buffer)
            whole = 16 + size + -size % 8
            if len(channel.buffer) < whole:
                break
            state, asked = struct.unpack_from("<II", channel.buffer, whole - 8)
            if kind & ~PROPERTIES == REQUEST and channel.endpoint.split("\0")[0].rpartition(":")[2] == "xenmsg":
                self.answer_question(number, channel, asked, channel.buffer[8:8 + size])
            if kind in (ANSWER, ERROR) and channel.answer is None:
                channel.answer = kind, error
            if state == 0 and kind == 0:
                self.messages.append((channel, channel.buffer[8:8 + size]))
            channel.buffer = channel.buffer[whole:]

    # ---- commands ----

    def open(self, endpoint, kind=MESSAGE):
        number, self.next = self.next, self.next + 2
        self.channels[number] = channel = Channel(65536)
        self.send(OPEN, number, open_payload(endpoint, kind, identity=(self.claimed, 1000, 100, 42)))
        return number, channel

    # ---- topics [2.8] ----

    def write(self, number, channel, stream):
        self.send(DATA, number, stream)
        channel.sent += len(stream)

    def publish(self, number, channel):
        """Accepts the channel as a topic does, and sends what it was told to."""
        self.send(OPENED, number, u64(INITIAL_LIMIT, 1 << 24) + struct.pack("<HH", 0, 2))
        self.subscribed = number, channel
        self.tell(self.publishes)

    def tell(self, words):
        for word in words:
            notice, _, text = word.partition("=")
            data, kind = text.encode(), REQUEST if notice == "request" else PROPERTIES if notice else PLAIN
            if kind == PROPERTIES:
                what, flags, count = map(int, notice.split(","))
                data = properties((NOTICE, struct.pack("<BBHIQ", what, flags, 0, 0, count))) + data
            self.write(*self.subscribed, message(data, kind=kind))

    def do_topic(self, *words):
        """What it tells whoever subscribes from now on: a message is =TEXT, a notice KIND,FLAGS,COUNT, and what is neither request=."""
        self.publishes = words
        return str(len(words))

    def do_tell(self, *words):
        """Who has subscribed last."""
        self.tell(words)
        return str(len(words))

    def do_listen(self, endpoint, *counts):
        """Subscribes for so many, and then for so many; x is another request. Whether all was taken."""
        number, channel = self.open(endpoint, CALL)
        for count in counts:
            data, kind = (b"", REQUEST) if count == "x" else (properties((SUBSCRIBES, u32(int(count)))), REQUEST | PROPERTIES)
            self.write(number, channel, message(data, kind=kind, number=1))
        self.until(lambda: channel.error is not None or channel.consumed == channel.sent)
        return "taken" if channel.error is None else f"reset {channel.error}"

    def do_send(self, endpoint, size):
        """A message to an endpoint of the peer, on a channel of its own, which is ended in order."""
        number, channel = self.open(endpoint)
        data = pattern(int(size))
        stream = message(data)
        total = len(stream)
        while stream and channel.error is None:
            size = min(PIECE, channel.limit - channel.sent, len(stream))
            if size:
                self.send(DATA, number, stream[:size])
                channel.sent, stream = channel.sent + size, stream[size:]
            else:
                self.until(lambda: channel.error is not None or channel.limit > channel.sent)
        self.until(lambda: channel.error is not None or channel.consumed == total)
        if channel.error is not None:  # its receiver may have gone when it had taken it [2.4]
            return "delivered" if channel.consumed == total else f"reset {channel.error}"
        self.send(FIN, number, u64(channel.sent))
        channel.fin_sent = True
        self.until(lambda: number not in self.channels)
        return "delivered"

    def do_hello(self, other):
        """For another daemon, with which no link can be made: this domain isn't willing to map."""
        self.store.write(f"{self.base}/to/{other}/hello", f"1 {self.instance} {os.urandom(4).hex()} 0", Permission(self.me, NONE),
                         Permission(int(other), READ))
        return other

    def do_claim(self, domid):
        """The domid in the OPENs from now on."""
        self.claimed = int(domid)
        return domid

    def do_lie(self, path):
        """What it answers when it is asked from now on: an error, the text of a file, or of *.parts these parts."""
        if path.startswith("error:"):
            self.lie = int(path[6:])
            return path
        with open(path, "rb") as file:
            data = file.read()
        self.lie = [(part, more, bytes.fromhex(text)) for part, more, text in json.loads(data)] if path.endswith(".parts") else [(0, 0, data)]
        return path

    def do_question(self, *words):
        """Asks its daemon so many times, by the last word. The errors of the answers, 0: it was told something."""
        *text, count = words
        number, channel = self.open("xenmsg", CALL)
        self.send(CREDIT, number, u64(0, INITIAL_LIMIT))
        errors = set()
        for _ in range(int(count)):
            channel.answer = None
            self.write(number, channel, message(" ".join(text).encode(), kind=REQUEST, number=1))
            self.until(lambda: channel.answer is not None)
            errors.add(channel.answer[1])
        return ",".join(map(str, sorted(errors)))

    def do_asked(self, count):
        self.until(lambda: self.asked >= int(count))
        return count

    def do_flood(self, count, address, *text):
        """Asks so many times, each by a channel of its own, and reads nothing, as long as there is room."""
        for _ in range(int(count)):
            number, self.next = self.next, self.next + 2
            self.channels[number] = Channel(65536)
            for kind, payload in ((OPEN, open_payload(address, CALL)), (DATA, message(" ".join(text).encode(), kind=REQUEST, number=1))):
                if not self.vchan.send(frame(kind, payload, number, sequence=self.out_sequence)):
                    break
                self.out_sequence += 1
        return str(self.out_sequence)

    def do_policy(self, text, times):  # [5.12]
        """Tells a share of the host's policy: so many times this text, in hexadecimal."""
        for left in range(int(times) - 1, -1, -1):
            flags = (left == int(times) - 1) + 2 * (left > 0)
            self.send(POLICY, 0, u32(flags) + bytes.fromhex(text))
        return times

    def do_names(self, domid, name):  # [5.6]
        """Tells a complete list of domains: this one."""
        self.send(DIRECTORY, 0, u32(1, 1, int(domid)) + b"\1" + bytes(16) + bytes([len(name)]) + name.encode())
        return name

    def do_ping(self):
        count = len(self.pongs)
        self.send(PING, 0, b"a token!")
        self.until(lambda: len(self.pongs) > count)
        assert self.pongs[-1] == b"a token!"
        self.until(lambda: self.peer_ack > 0)
        return f"acknowledged {self.peer_ack}"

    def do_pinged(self):
        count = self.pings
        self.until(lambda: self.pings > count)
        return str(self.pings)

    def do_take(self, size):
        """The next message that came; its data must be the pattern of this size."""
        self.until(lambda: self.messages)
        channel, data = self.messages.pop(0)
        assert data == pattern(int(size)), f"{len(data)} other bytes"
        return f"{channel.endpoint} {channel.identity[1]}"

    def do_channels(self):
        self.until(lambda: not self.channels)
        return "none"

    def do_close(self):
        self.send(GOODBYE, 0, u32(0))
        self.store.remove(f"{self.base}/presence")
        self.store.remove(self.base)
        self.do_left()
        self.vchan.close()
        return "closed"


def pattern(size):
    return bytes((i * 5 + size) & 0xFF for i in range(size))


def main():
    words = sys.argv[3:]
    Vchan.keeps = "keep" in words
    instance = words.pop() if "as" in words else None
    flags = next((int(word) for word in words if word.isdigit()), 0)
    peer = Peer(sys.argv[1], int(sys.argv[2]), flags, "resume" in words, instance)
    print("ok met", flush=True)
    words = [""]
    while words[0] != "close":
        if not peer.is_alone:
            peer.until(lambda: False, 0)
        words = os.read(0, 4096).decode().split()
        if not words:
            break
        print("ok", getattr(peer, "do_" + words[0])(*words[1:]), flush=True)


if __name__ == "__main__":
    try:
        main()
    except AssertionError as error:
        print(f"error {error}", flush=True)
        raise
