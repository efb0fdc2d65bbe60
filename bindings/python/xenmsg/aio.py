# SPDX-License-Identifier: LGPL-2.1-or-later
"""Connections for asyncio. Whatever takes time is begun, and its outcome awaited: nothing waits for the daemon in the loop, and
no thread is needed."""

from __future__ import annotations

import asyncio
import collections
import errno
import json
import os
import socket
from typing import (Any, AsyncIterator, Awaitable, Callable, Deque, Dict, Generator, Literal, NamedTuple, Optional, Type, TypeVar,
                    Union, cast)

from . import _core
from ._core import Message
from ._errors import PATIENCE, Abandoned, Again, Full, make_error
from ._loop import BURST, How, Lazy, Link, Opened, Outcome, open_link, raise_first
from ._replies import WaitingReplies, answer_error
from ._types import Change, ConnectionState, Data, Event, Notice, Peer, make_event, message_or_notice, milliseconds, publish_with

T = TypeVar("T")


class Endpoint(Lazy[Message]):
    """An endpoint that messages and calls come to: `async for message in conn.bind("inbox")`. With taking a message it is
    delivered; what isn't taken waits, and holds its senders back."""

    def __init__(self, how: How, endpoint: str, start: Callable[[_core.Connection], Any]):
        super().__init__(how, start)
        self._endpoint = endpoint
        self._paused = False

    async def _open(self) -> Link:
        link = await super()._open()
        if self._paused:
            link.core.pause()
        return link

    def pause(self) -> None:
        """Takes no messages until resume(): recv() waits as if there were none, and the senders wait for theirs. That callers give
        up is told all the same (message.withdrawn)."""
        self._paused = True
        if self._link:
            self._link.core.pause()

    def resume(self) -> None:
        """Ends pause()."""
        self._paused = False
        if self._link:
            self._link.core.resume()
            self._link.tell([])

    async def drain(self, timeout: Optional[float] = None) -> None:
        """Lets nothing new in, and returns when all calls that were taken have their answers, which other tasks give. A sender
        gets ENOENT, also for what wasn't taken, or finds the next program that binds the endpoint. Raises TimedOut after that
        many seconds, and what is in service then ends."""
        link = await self._open()
        await link.outcome_of(link.core.begin_drain(self._endpoint, milliseconds(timeout)))

    def _take(self, core: _core.Connection) -> Optional[Message]:
        return core.recv(0)

    async def recv(self, timeout: Optional[float] = None) -> Message:
        """The next message. Raises TimedOut after that many seconds; ENOTCONN when it is closed or the daemon gone."""
        return await self._next(timeout)

    async def reply(self, message: Message, data: Data, timeout: Optional[float] = None) -> None:
        """message.reply(), which here waits while the caller doesn't read; after that many seconds TimedOut, and it isn't
        answered."""
        link = await self._open()
        until = None if timeout is None else link.loop.time() + timeout
        while True:
            try:
                return message.reply(data)
            except Full:
                pass
            if until is not None and link.loop.time() >= until:
                raise make_error(errno.ETIMEDOUT, "the caller doesn't read its replies", -1, None)
            await link.change(until)


class Subscription(Lazy[Union[Message, Notice]]):
    """The messages of a topic: `async for item in conn.subscribe("0:news")`. An item is a Message, or a Notice, which tells in
    its place what is missing: a topic waits for nobody."""

    def __init__(self, how: How, address: str, queue: int, keep: str, pattern: bool):
        super().__init__(how, lambda core: core.begin_subscribe(address, queue, keep == "oldest", pattern))

    def _take(self, core: _core.Connection) -> Optional[Union[Message, Notice]]:
        if self._link and self._link.passed_over:
            return self._link.passed_over.pop(0)
        message = core.recv(0)
        return None if message is None else message_or_notice(message)

    async def next(self, timeout: Optional[float] = None) -> Union[Message, Notice]:
        """The next message or notice. Raises as Endpoint.recv()."""
        return await self._next(timeout)


class Topic(Lazy[Message]):
    """A topic of this program's, to which others subscribe: `await topic.publish(b"news")`. `key` says whose value it is, for a
    topic that keeps the last one of each."""

    def __init__(self, how: How, name: str, retain: bool, keys: int):
        super().__init__(how, lambda core: core.begin_topic(name, retain, keys))
        self._address = f"self:{name}"

    @property
    def listeners(self) -> int:
        """How many subscribe to it, in all domains and on all hosts, as the daemon told last."""
        return self._link.core.listeners if self._link else 0

    async def wait_for_listeners(self, present: bool = True) -> int:
        """Waits until somebody subscribes, or with False until nobody does any more, so that nobody works for nobody. Returns how many
        there are."""
        link = await self._open()
        while bool(link.core.listeners) is not present:
            await link.change()
        return link.core.listeners

    async def publish(self, data: Data, *, key: Optional[str] = None, timeout: Optional[float] = None) -> None:
        """Publishes, and returns when the daemon has it, which waits for no subscriber. Raises as Connection.send()."""
        link = await self._open()
        await Connection(link, self._how)._send(publish_with(link.core, key), self._address, data, timeout)

    async def post(self, data: Data, *, key: Optional[str] = None) -> Outcome[None]:
        """Publishes without waiting for that: await what it returns."""
        link = await self._open()
        return await Connection(link, self._how)._post(publish_with(link.core, key), self._address, data, None)

    async def __aexit__(self, kind: Optional[Type[BaseException]], *_: object) -> None:
        """Waits for what was posted, raises the first error of it, and ends the topic; not if an exception ends the block."""
        try:
            if kind is None and self._link and not self._link.core.closed:
                while self._link.core.unwatched:
                    await self._link.change()
                raise_first(self._link.core)
        finally:
            self.close()


class Accepted(NamedTuple):
    """A stream that came to a listener: asyncio's reader and writer, and who opened it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    peer: Peer


class _Listening(Lazy["asyncio.Task[Accepted]"]):
    """Gives out streams while they are given to asyncio."""

    def __init__(self, how: How, start: Callable[[_core.Connection], Any]):
        super().__init__(how, start)
        # The tasks that waited for these were cancelled: they are for the next one.
        self.left: Deque[asyncio.Task[Accepted]] = collections.deque()

    def _take(self, core: _core.Connection) -> Optional[asyncio.Task[Accepted]]:
        if self.left:
            return self.left.popleft()
        come = core.accept(0)
        return come and asyncio.create_task(_accepted(socket.socket(fileno=come[0]), Peer(*come[1:])))

    def leave(self, task: asyncio.Task[Accepted]) -> None:
        if self._closed:
            task.add_done_callback(_close_opened)
        elif not task.cancelled():
            self.left.append(task)
            if self._link:
                self._link.tell([])  # others may wait already

    def close(self) -> None:
        super().close()
        while self.left:
            self.left.popleft().add_done_callback(_close_opened)


async def _accepted(stream: socket.socket, peer: Peer) -> Accepted:
    return Accepted(*await _opened(stream), peer)


class _Reader(asyncio.StreamReader):
    """Gives what came before a break, and then raises it. asyncio's own raises at once."""

    _broken: Optional[BaseException] = None

    def __init__(self, stream: socket.socket, loop: asyncio.AbstractEventLoop):
        super().__init__(loop=loop)
        self._stream = stream

    def set_exception(self, exc: Exception) -> None:
        if isinstance(exc, ConnectionResetError) and self._stream.fileno() >= 0:
            exc = ConnectionResetError(exc.errno, _core.break_reason(self._stream.fileno()))
        self._broken = exc
        self.feed_eof()  # what is there is the last; whoever waits is woken

    def _raise(self) -> None:
        if self._broken and not self._buffer:  # type: ignore[attr-defined]
            raise self._broken

    async def read(self, n: int = -1) -> bytes:
        if n != 0:
            self._raise()
        data = await super().read(n)
        if n != 0 and not data:
            self._raise()
        return data

    async def readuntil(self, separator: Any = b"\n") -> bytes:
        try:
            return await super().readuntil(separator)
        except asyncio.IncompleteReadError as error:
            raise self._broken or error

    async def readexactly(self, n: int) -> bytes:
        try:
            return await super().readexactly(n)
        except asyncio.IncompleteReadError as error:
            raise self._broken or error


async def _opened(stream: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Gives a stream to the loop. Not to be cancelled: some loops close the descriptor then, of which the socket knows nothing, and
    would close it again."""
    loop = asyncio.get_running_loop()
    reader = _Reader(stream, loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.create_unix_connection(lambda: protocol, sock=stream)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


def _close_opened(task: asyncio.Task[Any]) -> None:  # of _opened() or _accepted(): the writer is the second of what they give
    if not task.cancelled() and task.exception() is None:
        task.result()[1].close()


class Listener:
    """An endpoint that streams come to: `async for reader, writer, peer in conn.listen("shell")`."""

    def __init__(self, how: How, endpoint: str, shared: bool = False):
        self._listening = _Listening(how, lambda core: core.begin_listen(endpoint, shared))

    async def _wrapped(self, taking: Awaitable[asyncio.Task[Accepted]]) -> Accepted:
        task = await taking
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._listening.leave(task)
            raise

    async def accept(self, timeout: Optional[float] = None) -> Accepted:
        """The next stream. Raises as Endpoint.recv()."""
        return await self._wrapped(self._listening._next(timeout))

    def close(self) -> None:
        """Ends it; streams that were accepted live on."""
        self._listening.close()

    def __aiter__(self) -> AsyncIterator[Accepted]:
        return self

    async def __anext__(self) -> Accepted:
        return await self._wrapped(self._listening.__anext__())

    async def __aenter__(self) -> Listener:
        await self._listening._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __await__(self) -> Generator[Any, None, Listener]:
        yield from self._listening._open().__await__()
        return self


class Watch(Lazy[Event]):
    """Comings and goings: `async for event in conn.watch("*:print")`. First, as if they just came, those who are there."""

    def _take(self, core: _core.Connection) -> Optional[Event]:
        event = core.event()
        if event is None and self._link:
            self._link.process()
            event = core.event()
        return make_event(event) if event else None

    async def next(self, timeout: Optional[float] = None) -> Event:
        """The next event. Raises as Endpoint.recv()."""
        return await self._next(timeout)


class Connection(ConnectionState):
    """A connection to the local daemon; see open(). Time-outs are in seconds, None is for ever."""

    def __init__(self, link: Link, how: How):
        self._how = how
        self._core = link.core
        self._link = link

    def close(self) -> None:
        """Ends the connection. Sends without an outcome end here: with ECANCELED if nothing had left, else with ECONNRESET;
        flush() before waits for them."""
        self._link.close()

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, kind: Optional[Type[BaseException]], *_: object) -> None:
        """Waits for what was posted, so that nothing is given up in silence; not if an exception ends the block."""
        try:
            if kind is None and not self._core.closed:
                while self._core.unwatched:
                    await self._link.change()
                raise_first(self._core)
        finally:
            self.close()

    @property
    def on_change(self) -> Optional[Callable[[Change], None]]:
        """Called when a connection that was opened with `reconnect` loses its daemon and finds the next one."""
        return self._how.on_change

    @on_change.setter
    def on_change(self, called: Optional[Callable[[Change], None]]) -> None:
        self._how.on_change = called

    # ---- sending ----

    async def _post(self, post: Callable[[str, Data], Optional[Outcome[T]]], address: str, data: Data,
                    until: Optional[float]) -> Outcome[T]:
        link = self._link
        link.check_loop()
        while True:
            outcome = post(address, data)
            if outcome is not None:
                outcome.loop = link.loop
                if link.on_readable.kept is None:
                    link.plan()
                return outcome
            if until is not None and link.loop.time() >= until:
                raise make_error(errno.ETIMEDOUT, "", -1, address)
            await link.change(until)

    def _withdraw(self, outcome: Outcome[Any]) -> None:
        if not self._core.closed:
            outcome.withdraw()
            self._link.plan()

    async def _settle(self, outcome: Outcome[Any], until: Optional[float]) -> None:
        try:
            if await outcome._known(until):
                return
            self._withdraw(outcome)
            if not await outcome._known(self._link.loop.time() + PATIENCE):
                outcome.waiter = []  # so flush() doesn't tell of it, too
                raise make_error(errno.ECONNRESET, "the local daemon doesn't answer", -1, outcome.address)
        except asyncio.CancelledError as cancelled:
            self._withdraw(outcome)
            try:
                await outcome._known(self._link.loop.time() + PATIENCE)
            except asyncio.CancelledError:
                pass  # once more: then it isn't known
            if not outcome.done():
                outcome.waiter = []
            raise asyncio.CancelledError(*cancelled.args) from Abandoned(outcome)

    async def _send(self, post: Callable[[str, Data], Optional[Outcome[T]]], address: str, data: Data,
                    timeout: Optional[float]) -> T:
        now = self._link.loop.time
        until = None if timeout is None else now() + timeout
        again = Again()
        try:
            while True:
                outcome = await self._post(post, address, data, until)
                await self._settle(outcome, until)
                pause = again.next_pause(now(), until) if outcome.errno == errno.ENODATA else None
                if pause is None:
                    return outcome.result()
                await asyncio.sleep(pause)
        except asyncio.CancelledError as cancelled:
            if Abandoned.of(cancelled):
                raise
            raise asyncio.CancelledError(*cancelled.args) from Abandoned()

    async def send(self, address: str, data: Data, *, timeout: Optional[float] = None,
                   trace: Optional[str] = None, wait: bool = False) -> None:
        """Sends a message and returns when it was delivered, that is, taken by the receiving program; raises Error with its
        outcome if it wasn't (the table is in xenmsg.h). A message not taken in time is withdrawn: TimedOut says that it never
        will be. So is what is cancelled, and Abandoned.of(its CancelledError) tells what became of the message. Either takes up
        to 2 s more, or 12 s while the daemon here doesn't read. With `wait` it waits for its receiver, within its time-out,
        where NotFound or DomainDown would be the outcome."""
        await self._send(cast(Callable[[str, Data], Optional[Outcome[None]]], self._post_with(trace, wait)), address, data, timeout)

    async def post(self, address: str, data: Data, *, trace: Optional[str] = None, wait: bool = False) -> Outcome[None]:
        """Sends a message without waiting for its outcome: waits only while too much waits for this address. Await what it
        returns, or flush(), for the outcome. Cancelled here, nothing was sent. Messages to one address arrive in the order in
        which they were posted."""
        return await self._post(self._post_with(trace, wait), address, data, None)

    async def flush(self) -> None:
        """Returns when every message and call that was posted has its outcome; raises the first error among those for whose
        outcome nobody waited."""
        while self._core.pending:
            await self._link.change()
        raise_first(self._core)

    async def call(self, address: str, data: Data, *, timeout: Optional[float] = None,
                   trace: Optional[str] = None, wait: bool = False) -> Message:
        """Calls a program and returns its reply. Raises Error: as send(), or EPROTOTYPE (it takes no calls); or Answered, the
        server's own. `fate` says whether the request never reached it, or nobody can know.
        Cancelled, the request is withdrawn as a message is."""
        post = cast(Callable[[str, Data], Optional[Outcome[Message]]], self._call_with(trace, timeout, wait))
        return await self._send(post, address, data, timeout)

    async def begin_call(self, address: str, data: Data, *, timeout: Optional[float] = None,
                         trace: Optional[str] = None, wait: bool = False) -> Outcome[Message]:
        """Begins a call, as post() does a message: await what it returns for the reply. Thousands may be outstanding."""
        return await self._post(self._call_with(trace, timeout, wait), address, data, None)

    # ---- receiving ----

    def bind(self, endpoint: str, *, messages: bool = True, calls: bool = True, shared: bool = False) -> Endpoint:
        """An endpoint. It is bound when it is entered, awaited or iterated over, until it is closed or forgotten; that raises
        Error: EINVAL, EEXIST (somebody has it), EACCES, ENOBUFS, ENOTCONN, ETIMEDOUT. With `shared` other programs of this
        user that say so, too, may bind it beside this one, and get what this one hasn't taken when it is closed."""
        return Endpoint(self._how, endpoint, lambda core: core.begin_bind(endpoint, messages, calls, shared))

    def topic(self, name: str, *, retain: bool = False, keys: int = 0) -> Topic:
        """A topic, on which only what this returns publishes. It is there when it is entered or awaited or first published on, until it
        is closed or forgotten; raises as bind(). With `retain` the last message is kept for later subscribers; with `keys` the
        last one of each key, of so many keys, those that were published last. An empty message keeps none of its key."""
        return Topic(self._how, name, retain, keys)

    def subscribe(self, address: str, *, queue: int = 0, keep: Literal["newest", "oldest"] = "newest",
                  pattern: bool = False) -> Subscription:
        """Subscribes to a topic, when it is entered, awaited or iterated over, until it is closed or forgotten. The topic may come
        later, go, and come again. With `queue` so many messages may wait at a time, up to 65535, and of what is more those are lost
        that `keep` doesn't keep, with a Notice in their place. With `pattern` the address's domain is a shell pattern: all such topics
        are subscribed to as they come and go; of one that is none, or is refused, a Notice of kind ENDED tells once, with its address
        and errno. Raises Error: EINVAL, EACCES, EPROTOTYPE (that endpoint is no topic), ENOBUFS,
        ENOTCONN, ETIMEDOUT."""
        return Subscription(self._how, address, queue, keep, pattern)

    async def serve(self, endpoint: str, handler: Callable[[Message], Awaitable[Optional[Data]]], *,
                    concurrency: int = 64, shared: bool = False) -> None:
        """Answers calls with what `await handler(message)` returns, None is b"", up to so many at a time, until it is
        cancelled. A handler refuses by raising Answered, whose code and data the caller gets; of any other exception he gets the
        code EIO and nothing else, and the loop's exception handler is told. A handler whose caller has gone or given up is
        cancelled. A caller who doesn't read gets ENOBUFS after 5 s, or before when 16 others, who don't either, come
        behind it; such a reply doesn't count as one of those at a time."""
        tasks: Dict[asyncio.Task[None], Optional[Message]] = {}  # None: it was cancelled
        burst = 0
        async with self.bind(endpoint, messages=False, shared=shared) as inbox:
            link = await inbox._open()
            waiting = WaitingReplies()

            def done(task: asyncio.Task[None]) -> None:
                tasks.pop(task, None)
                link.tell([])  # so that this goes on below
            try:
                while True:
                    if len(tasks) - len(waiting.replies) < concurrency:
                        message = inbox._take(link.core)
                    else:
                        message = None
                        link.process()  # or nothing would tell that something has come
                    burst += 1
                    if message is not None:
                        task = asyncio.create_task(_answer(link, message, handler, waiting))
                        tasks[task] = message
                        task.add_done_callback(done)
                        if burst % BURST == 0:
                            await asyncio.sleep(0)
                        continue
                    if link.core.take_withdrawn():
                        _cancel_withdrawn(tasks)
                    await link.change()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    # ---- streams, and who is there ----

    async def connect(self, address: str, *,
                      timeout: Optional[float] = None,
                      wait: bool = False) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A byte stream to an endpoint that a program listens on. writer.write_eof() ends one direction; if something between
        the two dies, reading gives what came before and then raises ConnectionResetError. Needs the connection no longer. With
        `wait` it waits for a listener, as send() does."""
        fd = await self._link.outcome_of(self._core.begin_connect(address, milliseconds(timeout), wait))
        opened = asyncio.create_task(_opened(socket.socket(fileno=fd)))
        try:
            return await asyncio.shield(opened)
        except asyncio.CancelledError:
            opened.add_done_callback(_close_opened)
            raise

    def listen(self, endpoint: str, *, shared: bool = False) -> Listener:
        """An endpoint for streams; as bind()."""
        return Listener(self._how, endpoint, shared)

    def watch(self, pattern: str) -> Watch:
        """Comings and goings: "DOMAIN" of domains and their endpoints, "DOMAIN:ENDPOINT" of endpoints, both shell patterns; "HOST/" before either: of another host."""
        return Watch(self._how, lambda core: core.begin_watch(pattern))

    async def query(self, what: str) -> Any:
        """Asks the daemon (xenmsg_query() in xenmsg.h says what) and returns what its JSON says."""
        return json.loads(await self._link.outcome_of(self._core.begin_query(what)))

    async def status(self) -> Any:
        """The daemon's account of itself, as doc/status.schema.json has it."""
        return await self.query("status")

    async def ping(self, domain: str, *, timeout: Optional[float] = None) -> float:
        """Seconds of a round trip to the daemon of a domain. The first one may have to make the link."""
        return cast(float, await self._link.outcome_of(self._core.begin_ping(domain, milliseconds(timeout))))


def _cancel_withdrawn(tasks: Dict[asyncio.Task[None], Optional[Message]]) -> None:
    """Each once: it may have to wait for something to clean up."""
    for task, message in tasks.items():
        if message is not None and message.withdrawn:
            tasks[task] = None
            task.cancel()


async def _reply(link: Link, message: Message, data: Data, waiting: WaitingReplies) -> None:
    reply = waiting.send(message, data, link.loop.time())
    if reply is None:
        return
    link.tell([])  # another one may be taken, or has waited for too long
    try:
        while not waiting.send_again(reply, link.loop.time()):
            await link.change(reply.until)
    finally:
        waiting.end(reply)


async def _answer(link: Link, message: Message, handler: Callable[[Message], Awaitable[Optional[Data]]],
                  waiting: WaitingReplies) -> None:
    def report(words: str, error: Exception) -> None:
        link.loop.call_exception_handler({"message": words, "exception": error})
    try:
        data = await handler(message) or b""
    except Exception as error:
        answer_error(message, error, report)
        return
    try:
        await _reply(link, message, data, waiting)
    except Exception as error:
        if message.wants_reply:  # else nobody waits for the answer any more, or the handler has given it
            answer_error(message, error, report)


def open(path: Optional[str] = None, reconnect: bool = False, *, timeout: Optional[float] = None) -> Opened[Connection]:
    """Connects to the local daemon: `async with xenmsg.open() as conn`, or `conn = await xenmsg.open()`, to be closed by
    conn.close(). `path` is that of its socket, else $XENMSG_SOCKET, else /run/xenmsg/xenmsg.sock. Raises NoDaemon (there is none),
    or another Error: EACCES and others (xenmsg_open() in xenmsg.h). With `reconnect` the connection, and those of its
    endpoints, listeners and watches, outlive the daemon: what was under way when it ended has ended, all else goes on with the
    next one, and conn.on_change tells. For so long it waits for a daemon that doesn't answer: `timeout` seconds, usually 10; then it
    raises TimedOut."""
    how = How(path, reconnect, timeout)

    async def make() -> Connection:
        return Connection(await open_link(how, is_main=True), how)
    return Opened(make)


async def break_stream(writer: asyncio.StreamWriter) -> None:
    """Closes a stream so that the other side reads ECONNRESET behind what came before, and not an orderly end."""
    fd = os.dup(writer.get_extra_info("socket").fileno())
    writer.transport.abort()
    # The one thing here that may wait, while the other side doesn't read.
    try:
        breaking = asyncio.get_running_loop().run_in_executor(None, _core.break_stream, fd)
    except RuntimeError:  # it has no executor any more
        os.close(fd)
        raise
    await breaking
