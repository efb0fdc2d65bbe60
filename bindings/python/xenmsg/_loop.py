# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ties connections of the library to asyncio's loop: tasks that wait are told when the descriptor is readable."""

from __future__ import annotations

import asyncio
import errno
import os
import warnings
import weakref
from typing import Any, Awaitable, Callable, Generator, Generic, List, Optional, Type, TypeVar, cast

from . import _core
from ._errors import Error, make_error
from ._types import Change, ChangeKind, Notice, make_change, open_core, passed_over

T = TypeVar("T")
LazyT = TypeVar("LazyT", bound="Lazy[Any]")
OPEN_PATIENCE, OPEN_PAUSE = 10.0, 0.02  # seconds
BURST = 64  # what a task takes at most without letting others run


def _set(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


class _OnReadable:
    """The loop calls it. It keeps a link alive only while somebody waits for something there, so one that was forgotten is
    closed in spite of the loop."""

    def __init__(self, link: Link):
        self.link = weakref.ref(link)
        self.kept: Optional[Link] = None

    def __call__(self) -> None:
        link = self.link()
        if link:
            link.process()


def _remove(loop: asyncio.AbstractEventLoop, fd: int, core: _core.Connection) -> None:
    """The descriptor is the core's, so it comes out of the loop first."""
    loop.remove_reader(fd)
    core.close()


class How:
    """How connections are made: those of a Connection's endpoints, listeners and watches like its own."""

    def __init__(self, path: Optional[str], reconnect: bool, timeout: Optional[float]):
        self.path = path
        self.reconnect = reconnect
        self.timeout = timeout
        self.on_change: Optional[Callable[[Change], None]] = None


class Link:
    """A connection of the library's in the event loop."""

    def __init__(self, core: _core.Connection, forgettable: bool, how: How, is_main: bool):
        self.core = core
        self.forgettable = forgettable
        self.how = how
        self.is_main = is_main  # and not an endpoint's, a listener's or a watch's
        self.refused: Optional[Error] = None  # what it was for, by the next daemon
        self.passed_over: List[Notice] = []  # by a subscription to a pattern
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
            if change.kind is ChangeKind.NOT_SUBSCRIBED:
                self.passed_over.append(passed_over(change))
                continue
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
        """In another one, a waiter would wait for ever."""
        if asyncio.get_running_loop() is not self.loop:
            raise RuntimeError("the xenmsg connection belongs to another event loop")

    def plan(self) -> None:
        """After everything that may have changed whether somebody waits for it: that keeps it."""
        busy = not self.lost and (self.waiting or self.core.pending)
        self.on_readable.kept = self if busy else None

    async def outcome_of(self, outcome: Outcome[T]) -> T:
        """The outcome of what was just begun on this link. A task that is cancelled meanwhile gives it up."""
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
    """An outcome to come. Await it: of post() it returns None when the message was delivered, of begin_call() the
    reply; it raises Error if it wasn't. A task that is cancelled meanwhile only stops waiting; withdraw() gives it up."""

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


def raise_first(core: _core.Connection) -> None:
    """For failures that nobody has waited for."""
    failed = core.take_failed()
    if failed:
        failed.result()


async def open_link(how: How, forgettable: bool = False, is_main: bool = False) -> Link:
    loop = asyncio.get_running_loop()
    until = loop.time() + OPEN_PATIENCE
    while True:
        try:
            core = open_core(how.path, Outcome, True, how.reconnect, how.timeout)
            break
        except Error as error:
            if error.errno != errno.EAGAIN or loop.time() >= until:
                raise
            await asyncio.sleep(OPEN_PAUSE)  # too many programs are just connecting
    link = Link(core, forgettable, how, is_main)
    try:
        await link.outcome_of(core.take_opening())
    except BaseException:
        link.close()
        raise
    return link


class Opened(Generic[T]):
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


class Lazy(Generic[T]):
    """One endpoint, listener or watch: opened by `async with`, `await`, or the first use, closed by close() or when it is
    forgotten. It has a connection to the daemon of its own, so what it doesn't take holds up nothing else."""

    def __init__(self, how: How, start: Callable[[_core.Connection], Any]):
        self._how = how
        self._start = start
        self._link: Optional[Link] = None
        self._opening = asyncio.Lock()
        self._closed = False
        self._burst = 0

    async def _open(self) -> Link:
        async with self._opening:
            if self._closed:
                raise make_error(errno.ENOTCONN, "the connection is closed", -1, None)
            if not self._link:
                link = await open_link(self._how, forgettable=True)
                try:
                    await link.outcome_of(self._start(link.core))
                except BaseException:
                    link.close()
                    raise
                if self._closed:
                    link.close()
                    raise make_error(errno.ENOTCONN, "the connection is closed", -1, None)
                self._link = link
            return self._link

    def close(self) -> None:
        """Ends it. Messages that were not taken are not delivered; their senders are told."""
        self._closed = True
        if self._link:
            waiting = self._link.waiting
            self._link.close()
            for future in waiting:
                _set(future)

    async def aclose(self) -> None:
        self.close()

    async def __aenter__(self: LazyT) -> LazyT:
        await self._open()
        return self

    async def __aexit__(self, kind: Optional[Type[BaseException]], *_: object) -> None:
        self.close()

    def __await__(self: LazyT) -> Generator[Any, None, LazyT]:
        yield from self._open().__await__()
        return self

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
                raise make_error(errno.ENOTCONN, "the connection is closed", -1, None)
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

    def __aiter__(self: LazyT) -> LazyT:
        return self
