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
import warnings
import weakref
from typing import (Any, AsyncIterator, Awaitable, Callable, Deque, Dict, Generator, Generic, List, Literal, NamedTuple, Optional, Type,
                    TypeVar, Union, cast)

from . import _core
from ._core import Message
from ._errors import PATIENCE, Again, Answered, Cancelled, Error, code_of, make_error
from ._seats import ReplySeats
from ._types import (Change, ChangeKind, ConnectionState, Data, Event, Notice, Peer, make_change, make_event, message_or_notice,
                     milliseconds, publish_with)

T = TypeVar("T")
OPEN_PATIENCE, OPEN_PAUSE = 10.0, 0.02  # seconds
BURST = 64  # what a task takes at most without letting others run


def _set(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


class _OnReadable:
    """What the loop calls. It keeps a link alive only while somebody waits for something there, so one that was forgotten is
    closed in spite of the loop."""

    def __init__(self, link: _Link):
        self.link = weakref.ref(link)
        self.kept: Optional[_Link] = None

    def __call__(self) -> None:
        link = self.link()
        if link:
            link.process()


def _remove(loop: asyncio.AbstractEventLoop, fd: int, core: _core.Connection) -> None:
    """The descriptor is the core's, so it comes out of the loop first."""
    loop.remove_reader(fd)
    core.close()


class _How:
    """How connections are made: those of a Connection's endpoints, listeners and watches like its own."""

    def __init__(self, path: Optional[str], reconnect: bool):
        self.path = path
        self.reconnect = reconnect
        self.on_change: Optional[Callable[[Change], None]] = None


class _Link:
    """A connection of the library's in the event loop."""

    def __init__(self, core: _core.Connection, forgettable: bool, how: _How, is_main: bool):
        self.core = core
        self.forgettable = forgettable
        self.how = how
        self.is_main = is_main  # and not an endpoint's, a listener's or a watch's
        self.refused: Optional[Error] = None  # what it was for, by the next daemon
        self.loop = asyncio.get_running_loop()
        self.pid = os.getpid()
        self.fd = core.fileno()
        self.on_readable = _OnReadable(self)
        self.waiting: List[asyncio.Future[None]] = []
        self.lost = False
        self.loop.add_reader(self.fd, self.on_readable)

    def __del__(self) -> None:
        if self.core.closed or self.pid != os.getpid():
            return
        if not self.forgettable:
            warnings.warn("a xenmsg connection was not closed", ResourceWarning, source=self)
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(_remove, self.loop, self.fd, self.core)

    def close(self) -> None:
        if self.core.closed:
            return
        if self.pid != os.getpid():
            self.core.close()  # the loop's epoll is its parent's, too
            return
        self.on_readable.kept = None
        if self.loop.is_closed():
            self.core.close()  # who has waited in that loop can't be told
            return
        if not self.lost:
            self.loop.remove_reader(self.fd)
        self.tell(self.core.close())

    def tell(self, outcomes: List[Outcome[Any]]) -> None:
        for outcome in outcomes:
            waiting, outcome.waiter = outcome.waiter, None
            for future in waiting:
                _set(future)
        waiting, self.waiting = self.waiting, []
        for future in waiting:
            _set(future)

    def take_changes(self) -> None:
        """Those that all of a connection's links see are told once, by its own."""
        while (raw := self.core.change()) is not None:
            change = make_change(raw)
            if change.kind is ChangeKind.REFUSED:
                self.refused = make_error(change.errno, change.reason, -1, change.endpoint)
            if self.how.on_change and (self.is_main or change.kind is ChangeKind.REFUSED):
                try:
                    self.how.on_change(change)
                except Exception as error:
                    self.loop.call_exception_handler({"message": "on_change of a xenmsg connection failed", "exception": error})

    def process(self) -> None:
        if self.core.closed:
            return
        try:
            outcomes = self.core.process()
        except Error:
            # Every outcome was told, and the others find out when they try again.
            self.lost = True
            self.loop.remove_reader(self.fd)
            outcomes = []
        self.tell(outcomes)
        self.take_changes()
        self.plan()

    def check_loop(self) -> None:
        """In another one, who waits would wait for ever."""
        if asyncio.get_running_loop() is not self.loop:
            raise RuntimeError("the xenmsg connection belongs to another event loop")

    def plan(self) -> None:
        """After everything that may have changed whether somebody waits for it: that keeps it."""
        busy = not self.lost and (self.waiting or self.core.pending)
        self.on_readable.kept = self if busy else None

    async def outcome_of(self, outcome: Outcome[T]) -> T:
        """Of what was just begun on this link. Who is cancelled meanwhile gives it up."""
        outcome.loop = self.loop
        self.plan()
        try:
            return await outcome
        except asyncio.CancelledError:
            if not self.core.closed:
                outcome.withdraw()
                outcome.waiter = []  # so flush() doesn't tell of it
                self.plan()
            raise

    async def change(self, until: Optional[float] = None) -> None:
        """Returns when something has happened, or the time is up."""
        self.check_loop()
        if self.lost or self.core.closed:
            self.core.process()  # which raises
        if self.refused:
            raise self.refused
        future: asyncio.Future[None] = self.loop.create_future()
        timer = None if until is None else self.loop.call_at(until, _set, future)
        self.waiting.append(future)
        self.plan()
        try:
            await future
        finally:
            if future in self.waiting:
                self.waiting.remove(future)
            if timer:
                timer.cancel()


class Outcome(_core.Outcome[T], Generic[T]):
    """What becomes of what was begun. Await it: of post() it returns None when the message was delivered, of begin_call() the
    reply; it raises Error if it wasn't. Who is cancelled meanwhile only stops to wait; withdraw() gives it up."""

    __slots__ = ("loop",)
    loop: asyncio.AbstractEventLoop  # of its connection

    def __await__(self) -> Generator[Any, None, T]:
        yield from self._known(None).__await__()
        return self.result()

    async def _known(self, until: Optional[float]) -> bool:
        if self.done():
            return True
        loop = asyncio.get_running_loop()
        if loop is not self.loop:
            raise RuntimeError("the outcome belongs to another event loop")
        future: asyncio.Future[None] = loop.create_future()
        timer = None if until is None else loop.call_at(until, _set, future)
        self.waiter = (self.waiter or []) + [future]
        try:
            await future
        finally:
            if timer:
                timer.cancel()
            if self.waiter:
                self.waiter = [other for other in self.waiter if other is not future] or None
        return self.done()


def _raise_first(core: _core.Connection) -> None:
    """Of what has failed and nobody has waited for."""
    failed = core.take_failed()
    if failed:
        failed.result()


async def _open_link(how: _How, forgettable: bool = False, is_main: bool = False) -> _Link:
    loop = asyncio.get_running_loop()
    until = loop.time() + OPEN_PATIENCE
    while True:
        try:
            core = _core.Connection(how.path, Outcome, True, how.reconnect)
            break
        except Error as error:
            if error.errno != errno.EAGAIN or loop.time() >= until:
                raise
            await asyncio.sleep(OPEN_PAUSE)  # too many programs are just connecting
    link = _Link(core, forgettable, how, is_main)
    try:
        await link.outcome_of(core.take_opening())
    except BaseException:
        link.close()
        raise
    return link


class _Opened(Generic[T]):
    """Something that is opened by `async with`, or by `await`, and then belongs to the caller to close."""

    def __init__(self, make: Callable[[], Awaitable[T]]):
        self._make = make
        self._made: Optional[T] = None

    def __await__(self) -> Generator[Any, None, T]:
        return self._make().__await__()

    async def __aenter__(self) -> T:
        self._made = await self._make()
        return self._made

    async def __aexit__(self, *of_what: object) -> None:
        await cast(Any, self._made).__aexit__(*of_what)


class _Lazy(Generic[T]):
    """One endpoint, listener or watch: opened by `async with`, `await`, or the first use, closed by close() or when it is
    forgotten. It has a connection to the daemon of its own, so what it doesn't take holds up nothing else."""

    def __init__(self, how: _How, start: Callable[[_core.Connection], Any]):
        self._how = how
        self._start = start
        self._link: Optional[_Link] = None
        self._opening = asyncio.Lock()
        self._closed = False
        self._burst = 0

    async def _open(self) -> _Link:
        async with self._opening:
            if self._closed:
                raise make_error(errno.ENOTCONN, "it is closed", -1, None)
            if not self._link:
                link = await _open_link(self._how, forgettable=True)
                try:
                    await link.outcome_of(self._start(link.core))
                except BaseException:
                    link.close()
                    raise
                if self._closed:
                    link.close()
                    raise make_error(errno.ENOTCONN, "it is closed", -1, None)
                self._link = link
            return self._link

    def close(self) -> None:
        """Ends it. What was not taken is not delivered; its senders are told."""
        self._closed = True
        if self._link:
            waiting = self._link.waiting
            self._link.close()
            for future in waiting:
                _set(future)

    async def aclose(self) -> None:
        self.close()

    def _take(self, core: _core.Connection) -> Optional[T]:
        raise NotImplementedError

    async def _next(self, timeout: Optional[float]) -> T:
        link = self._link or await self._open()
        until = None if timeout is None else link.loop.time() + timeout
        if self._burst >= BURST:
            self._burst = 0
            await asyncio.sleep(0)
        self._burst += 1
        while True:
            if self._closed:
                raise make_error(errno.ENOTCONN, "it is closed", -1, None)
            # Taken and returned without a pause, in which it could be lost by cancelling.
            taken = self._take(link.core)
            if taken is not None:
                return taken
            if until is not None and link.loop.time() >= until:
                raise make_error(errno.ETIMEDOUT, "", -1, None)
            self._burst = 0
            await link.change(until)

    async def __anext__(self) -> T:
        try:
            return await self._next(None)
        except Error:
            if self._closed:
                raise StopAsyncIteration from None
            raise

    def __aiter__(self: Any) -> Any:
        return self


class Endpoint(_Lazy[Message]):
    """An endpoint that messages and calls come to: `async for message in conn.bind("inbox")`. With taking a message it is
    delivered; what isn't taken waits, and holds its senders back."""

    def __init__(self, how: _How, endpoint: str, start: Callable[[_core.Connection], Any]):
        super().__init__(how, start)
        self._endpoint = endpoint
        self._paused = False

    async def _open(self) -> _Link:
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
        """Lets nothing new in, and returns when all calls that were taken have their answers, which other tasks give. Who sends
        gets ENOENT, also for what wasn't taken, or finds the next program that binds the endpoint. Raises TimedOut after that
        many seconds, and what is in service then ends; EOPNOTSUPP: the daemon is too old."""
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
            except Error as error:
                if error.errno != errno.EAGAIN:
                    raise
            if until is not None and link.loop.time() >= until:
                raise make_error(errno.ETIMEDOUT, "the caller doesn't read its replies", -1, None)
            await link.change(until)

    async def __aenter__(self) -> Endpoint:
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __await__(self) -> Generator[Any, None, Endpoint]:
        yield from self._open().__await__()
        return self


class Subscription(_Lazy[Union[Message, Notice]]):
    """What is published on a topic: `async for item in conn.subscribe("0:news")`. An item is a Message, or a Notice, which tells in
    its place what is missing: a topic waits for nobody."""

    def __init__(self, how: _How, address: str, queue: int, keep: str):
        super().__init__(how, lambda core: core.begin_subscribe(address, queue, keep == "oldest"))

    def _take(self, core: _core.Connection) -> Optional[Union[Message, Notice]]:
        message = core.recv(0)
        return None if message is None else message_or_notice(message)

    async def next(self, timeout: Optional[float] = None) -> Union[Message, Notice]:
        """The next message or notice. Raises as Endpoint.recv()."""
        return await self._next(timeout)

    async def __aenter__(self) -> Subscription:
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __await__(self) -> Generator[Any, None, Subscription]:
        yield from self._open().__await__()
        return self


class Topic(_Lazy[Message]):
    """A topic of this program's, to which others subscribe: `await topic.publish(b"news")`. `key` says whose value it is, for a
    topic that keeps the last one of each."""

    def __init__(self, how: _How, name: str, retain: bool, keys: int):
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

    async def __aenter__(self) -> Topic:
        await self._open()
        return self

    async def __aexit__(self, kind: Optional[Type[BaseException]], *_: object) -> None:
        """Waits for what was posted, raises the first error of it, and ends the topic; not if an exception ends the block."""
        try:
            if kind is None and self._link and not self._link.core.closed:
                while self._link.core.unwatched:
                    await self._link.change()
                _raise_first(self._link.core)
        finally:
            self.close()

    def __await__(self) -> Generator[Any, None, Topic]:
        yield from self._open().__await__()
        return self


class Accepted(NamedTuple):
    """A stream that came to a listener: asyncio's reader and writer, and who opened it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    peer: Peer


class _Listening(_Lazy["asyncio.Task[Accepted]"]):
    """Gives out streams while they are given to asyncio."""

    def __init__(self, how: _How, start: Callable[[_core.Connection], Any]):
        super().__init__(how, start)
        # Who waited for these was cancelled: they are for the next one.
        self.left: Deque[asyncio.Task[Accepted]] = collections.deque()

    def _take(self, core: _core.Connection) -> Optional[asyncio.Task[Accepted]]:
        if self.left:
            return self.left.popleft()
        come = core.accept(0)
        return come and asyncio.create_task(_accepted(socket.socket(fileno=come[0]), Peer(*come[1:])))

    def leave(self, task: asyncio.Task[Accepted]) -> None:
        if self._closed:
            task.add_done_callback(_close_accepted)
        elif not task.cancelled():
            self.left.append(task)
            if self._link:
                self._link.tell([])  # others may wait already

    def close(self) -> None:
        super().close()
        while self.left:
            self.left.popleft().add_done_callback(_close_accepted)


async def _accepted(stream: socket.socket, peer: Peer) -> Accepted:
    return Accepted(*await asyncio.open_unix_connection(sock=stream), peer)


def _close_accepted(task: asyncio.Task[Accepted]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().writer.close()


class Listener:
    """An endpoint that streams come to: `async for reader, writer, peer in conn.listen("shell")`."""

    def __init__(self, how: _How, endpoint: str, shared: bool = False):
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


class Watch(_Lazy[Event]):
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

    async def __aenter__(self) -> Watch:
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __await__(self) -> Generator[Any, None, Watch]:
        yield from self._open().__await__()
        return self


class Connection(ConnectionState):
    """A connection to the local daemon; see open(). Time-outs are in seconds, None is for ever."""

    def __init__(self, link: _Link, how: _How):
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
                _raise_first(self._core)
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
            raise asyncio.CancelledError(*cancelled.args) from Cancelled(outcome)

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
            if Cancelled.of(cancelled):
                raise
            raise asyncio.CancelledError(*cancelled.args) from Cancelled()

    async def send(self, address: str, data: Data, *, timeout: Optional[float] = None,
                   trace: Optional[str] = None, wait: bool = False) -> None:
        """Sends a message and returns when it was delivered, that is, taken by the receiving program; raises Error with its
        outcome if it wasn't (the table is in xenmsg.h). What is not taken in time is withdrawn: TimedOut says that it never
        will be. So is what is cancelled: the task ends up to 2 s later, and Cancelled.of(its CancelledError) tells what
        became of the message. With `wait` it waits for its receiver, within its time-out, where NotFound or DomainDown would be
        the outcome."""
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
        _raise_first(self._core)

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
        is closed or forgotten; raises as bind(). With `retain` the last message is kept for who subscribes later; with `keys` the
        last one of each key, of so many keys, those that were published last. An empty message keeps none of its key."""
        return Topic(self._how, name, retain, keys)

    def subscribe(self, address: str, *, queue: int = 0, keep: Literal["newest", "oldest"] = "newest") -> Subscription:
        """Subscribes to a topic, when it is entered, awaited or iterated over, until it is closed or forgotten. The topic may come
        later, go, and come again. With `queue` so many messages may wait at a time, up to 65535, and of what is more those are lost
        that `keep` doesn't keep, with a Notice in their place. Raises Error: EINVAL, EACCES, EPROTOTYPE (that endpoint is no topic), EOPNOTSUPP (the daemon is too
        old), ENOBUFS, ENOTCONN, ETIMEDOUT."""
        return Subscription(self._how, address, queue, keep)

    async def serve(self, endpoint: str, handler: Callable[[Message], Awaitable[Optional[Data]]], *,
                    concurrency: int = 64, shared: bool = False) -> None:
        """Answers calls with what `await handler(message)` returns, None is b"", up to so many at a time, until it is
        cancelled. A handler that raises an OSError (Error is one) answers with its errno; another exception goes to the
        loop's exception handler, and the caller gets EIO. A handler whose caller has gone or given up is cancelled. A caller
        who doesn't read gets ENOBUFS after 5 s. Few replies wait at a time without counting as one of those; when others of
        the same user, domain or host do already, a reply waits for half a second at most."""
        tasks: Dict[asyncio.Task[None], Optional[Message]] = {}  # None: it was cancelled
        burst = 0
        async with self.bind(endpoint, messages=False, shared=shared) as inbox:
            link = await inbox._open()
            seats = ReplySeats(link.core.domid, concurrency)

            def done(task: asyncio.Task[None]) -> None:
                tasks.pop(task, None)
                link.tell([])  # so that this goes on below
            try:
                while True:
                    if len(tasks) - seats.taken < concurrency:
                        message = inbox._take(link.core)
                    else:
                        message = None
                        link.process()  # or nothing would tell that something has come
                    burst += 1
                    if message is not None:
                        task = asyncio.create_task(_answer(link, message, handler, seats))
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
        `wait` it waits for who listens, as send() does."""
        fd = await self._link.outcome_of(self._core.begin_connect(address, milliseconds(timeout), wait))
        return await asyncio.open_unix_connection(sock=socket.socket(fileno=fd))

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
        """Seconds of a round trip between the local daemon and that of a domain."""
        return cast(float, await self._link.outcome_of(self._core.begin_ping(domain, milliseconds(timeout))))


def _cancel_withdrawn(tasks: Dict[asyncio.Task[None], Optional[Message]]) -> None:
    """Each once: it may have to wait for something to clean up."""
    for task, message in tasks.items():
        if message is not None and message.withdrawn:
            tasks[task] = None
            task.cancel()


async def _reply(link: _Link, message: Message, data: Data, seats: ReplySeats) -> None:
    reply = seats.send(message, data, link.loop.time())
    if reply is None:
        return
    try:
        while True:
            if seats.changed:
                seats.changed = False
                link.tell([])
            await link.change(reply.until)
            if seats.send_again(reply, link.loop.time()):
                return
    finally:
        seats.end(reply)


async def _answer(link: _Link, message: Message, handler: Callable[[Message], Awaitable[Optional[Data]]],
                  seats: ReplySeats) -> None:
    try:
        try:
            await _reply(link, message, await handler(message) or b"", seats)
        except Answered as error:
            if message.wants_reply:
                message.reply_error(code_of(error), error.data)
        except OSError as error:
            if message.wants_reply:
                message.reply_error(code_of(error))
        except Exception as error:
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"the handler of {message.endpoint} failed", "exception": error})
            message.reply_error(errno.EIO)
    except Error:
        pass  # nobody waits for the answer any more


def open(path: Optional[str] = None, reconnect: bool = False) -> _Opened[Connection]:
    """Connects to the local daemon: `async with xenmsg.open() as conn`, or `conn = await xenmsg.open()`, to be closed by
    conn.close(). `path` is that of its socket, else $XENMSG_SOCKET, else /run/xenmsg/xenmsg.sock. Raises Error: ECONNREFUSED,
    ENOENT (no daemon there), EACCES and others (xenmsg_open() in xenmsg.h). With `reconnect` the connection, and those of its
    endpoints, listeners and watches, outlive the daemon: what was under way when it ended has ended, all else goes on with the
    next one, and conn.on_change tells."""
    how = _How(path, reconnect)

    async def make() -> Connection:
        return Connection(await _open_link(how, is_main=True), how)
    return _Opened(make)


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
