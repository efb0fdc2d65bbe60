# SPDX-License-Identifier: LGPL-2.1-or-later
"""The same for programs without asyncio: what asyncio's side awaits, this one waits for.

A connection, and each endpoint, listener and watch (which have connections of their own), belongs to one thread at a time: what
another thread does with it while it waits raises RuntimeError. Signals are handled while anything waits: after Ctrl-C in send()
or call() what was sent is withdrawn before KeyboardInterrupt goes on.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import select
import socket
import time
import warnings
from typing import Any, Callable, Generic, Iterator, List, Literal, Optional, Tuple, Type, TypeVar, Union, cast

from . import _core
from ._core import Message
from ._errors import PATIENCE, Again, Error, Fate, Full, make_error
from ._replies import WaitingReplies, answer_error
from ._types import (Change, ChangeKind, ConnectionState, Data, Event, Notice, Peer, make_change, make_event, message_or_notice,
                     milliseconds, open_core, passed_over, publish_with)

T = TypeVar("T")
ClosingT = TypeVar("ClosingT", bound="_Closing")


def _until(timeout: Optional[float]) -> Optional[float]:
    return None if timeout is None else time.monotonic() + timeout


def _left(until: Optional[float]) -> int:
    return milliseconds(None if until is None else until - time.monotonic())


def _sleep(core: _core.Connection, until: Optional[float]) -> None:
    """Until something comes that process() hasn't seen, a second at most."""
    something = select.poll()
    something.register(core.fileno(), select.POLLIN)
    something.poll(1000 if until is None else min(1000, _left(until)))


def _outcome_of(core: _core.Connection, outcome: _core.Outcome[T]) -> T:
    """The outcome of what was just begun. What is raised meanwhile, as after Ctrl-C, gives it up."""
    outcome.waiter = True  # so flush() doesn't tell of it, too
    try:
        while not outcome.done():
            core.wait(-1)
    except BaseException:
        if not core.closed:
            outcome.withdraw()
        raise
    return outcome.result()


class Outcome(_core.Outcome[T], Generic[T]):
    """An outcome to come: done(), result(), withdraw(), and the connection's wait()."""

    __slots__ = ()


class _Closing:
    """Closed by close(), or by `with`."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self: ClosingT) -> ClosingT:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], *_: object) -> None:
        self.close()


class _Source(_Closing, Generic[T]):
    """One endpoint, listener or watch, with a connection to the daemon of its own, so what it doesn't take holds up nothing
    else. Closed by close(), `with`, or when it is forgotten."""

    def __init__(self, path: Optional[str], reconnect: bool, start: Callable[[_core.Connection], Any]):
        self._core = open_core(path, reconnect=reconnect)
        self._looks_at_changes = reconnect
        _outcome_of(self._core, start(self._core))

    def fileno(self) -> int:
        """A selector watches it for reading; then take what there is, with timeout=0, until TimedOut."""
        return self._core.fileno()

    def close(self) -> None:
        """Ends it. Messages that were not taken are not delivered; their senders are told."""
        self._core.close()

    def _take(self, timeout_ms: int) -> Optional[T]:
        raise NotImplementedError

    def _pass_over(self, change: Change) -> T:
        raise NotImplementedError

    def _next(self, timeout: Optional[float]) -> T:
        until = _until(timeout)
        while True:
            left = _left(until) if until is not None else -1
            if self._looks_at_changes:  # it may be refused meanwhile, which ends no wait
                left = 1000 if left < 0 else min(left, 1000)
            taken = self._take(left)
            if taken is not None:
                return taken
            while (raw := self._core.change()) is not None:
                change = make_change(raw)
                if change.kind is ChangeKind.REFUSED:
                    raise make_error(change.errno, change.reason, -1, change.endpoint)
                if change.kind is ChangeKind.NOT_SUBSCRIBED:
                    return self._pass_over(change)
            if until is not None and time.monotonic() >= until:
                raise make_error(errno.ETIMEDOUT, "", -1, None)

    def __iter__(self: ClosingT) -> ClosingT:
        return self

    def __next__(self) -> T:
        try:
            if not self._core.closed:
                return self._next(None)
        except Error:
            if not self._core.closed:  # by a signal's handler, say
                raise
        raise StopIteration


class Endpoint(_Source[Message]):
    """An endpoint that messages and calls come to: `for message in conn.bind("inbox")`. With taking a message it is delivered;
    what isn't taken waits, and holds its senders back."""

    def __init__(self, path: Optional[str], reconnect: bool, endpoint: str, start: Callable[[_core.Connection], Any]):
        super().__init__(path, reconnect, start)
        self._endpoint = endpoint

    def pause(self) -> None:
        """Takes no messages until resume(): recv() waits as if there were none, and the senders wait for theirs. That callers give
        up is told all the same (message.withdrawn)."""
        self._core.pause()

    def resume(self) -> None:
        """Ends pause()."""
        self._core.resume()

    def drain(self, timeout: Optional[float] = None) -> None:
        """Lets nothing new in, and returns when all callers have the answers that were given: a call without one holds this
        up, for nothing else uses the connection meanwhile. A sender gets ENOENT, also for what wasn't taken, or finds the
        next program that binds the endpoint. Raises TimedOut after that many seconds, and what is in service then ends."""
        _outcome_of(self._core, self._core.begin_drain(self._endpoint, milliseconds(timeout)))

    def _take(self, timeout_ms: int) -> Optional[Message]:
        return self._core.recv(timeout_ms)

    def recv(self, timeout: Optional[float] = None) -> Message:
        """The next message. Raises TimedOut after that many seconds; ENOTCONN when the daemon is gone."""
        return self._next(timeout)

    def reply(self, message: Message, data: Data, timeout: Optional[float] = None) -> None:
        """message.reply(), which here waits while the caller doesn't read; after that many seconds TimedOut, and it isn't
        answered."""
        until = _until(timeout)
        while True:
            try:
                return message.reply(data)
            except Full:
                pass
            if until is not None and time.monotonic() >= until:
                raise make_error(errno.ETIMEDOUT, "the caller doesn't read its replies", -1, None)
            self._wait_for_room(until)

    def _wait_for_room(self, until: Optional[float]) -> None:
        # Not wait(): messages that lie there for recv() would end it at once.
        self._core.process()
        _sleep(self._core, until)


class _Replies:
    """Calls that come, and replies that wait meanwhile."""

    def __init__(self, inbox: Endpoint):
        self._inbox = inbox
        self._waiting = WaitingReplies()

    def calls(self) -> Iterator[Message]:
        core = self._inbox._core
        while not core.closed:
            self._send_again()
            message: Optional[Message] = core.recv(0) if self._waiting.replies else self._inbox.recv()
            if message is not None:
                yield message
                del message
            elif self._waiting.replies:
                self._inbox._wait_for_room(min(reply.until for reply in self._waiting.replies))

    def answer(self, message: Message, handler: Callable[[Message], Optional[Data]]) -> None:
        try:
            data = handler(message) or b""
        except Exception as error:
            answer_error(message, error, _log)
            return
        try:
            self._waiting.send(message, data, time.monotonic())
        except Exception as error:
            if message.wants_reply:  # else nobody waits for the answer any more, or the handler has given it
                answer_error(message, error, _log)

    def _send_again(self) -> None:
        for reply in list(self._waiting.replies):
            try:
                if not self._waiting.send_again(reply, time.monotonic()):
                    continue
            except Error as error:
                if reply.message.wants_reply:
                    answer_error(reply.message, error, _log)
            self._waiting.end(reply)


def _log(words: str, error: Exception) -> None:
    logging.getLogger("xenmsg").error(words, exc_info=error)


class Listener(_Source[Tuple[socket.socket, Peer]]):
    """An endpoint that streams come to: `for stream, peer in conn.listen("shell")`; a stream is a connected socket."""

    def _take(self, timeout_ms: int) -> Optional[Tuple[socket.socket, Peer]]:
        come = self._core.accept(timeout_ms)
        return (socket.socket(fileno=come[0]), Peer(*come[1:])) if come else None

    def accept(self, timeout: Optional[float] = None) -> Tuple[socket.socket, Peer]:
        """The next stream and who opened it. Raises as Endpoint.recv()."""
        return self._next(timeout)


class Watch(_Source[Event]):
    """Comings and goings: `for event in conn.watch("*:print")`. First, as if they just came, those who are there."""

    def _take(self, timeout_ms: int) -> Optional[Event]:
        event = self._core.event()
        if event is None:
            self._core.wait(timeout_ms)
            event = self._core.event()
        return make_event(event) if event else None

    def next(self, timeout: Optional[float] = None) -> Event:
        """The next event. Raises as Endpoint.recv()."""
        return self._next(timeout)


class _Sending:
    """For all that sends by a connection to the daemon of its own."""

    _core: _core.Connection

    def _post(self, post: Callable[[str, Data], Optional[Outcome[T]]], address: str, data: Data,
              until: Optional[float]) -> Outcome[T]:
        has_looked = False
        while True:
            outcome = post(address, data)
            if outcome is not None:
                return outcome
            if until is not None and time.monotonic() >= until:
                raise make_error(errno.ETIMEDOUT, "", -1, address)
            # Not wait(): what was withdrawn makes room, too, without an outcome. One looks before one sleeps.
            if has_looked:
                _sleep(self._core, until)
            self._core.process()
            has_looked = True

    def _known(self, outcome: Outcome[Any], until: Optional[float]) -> bool:
        while not outcome.done() and (until is None or time.monotonic() < until):
            self._core.wait(_left(until))
        return outcome.done()

    def _settle(self, outcome: Outcome[Any], until: Optional[float]) -> None:
        try:
            if self._known(outcome, until):
                return
        except BaseException:  # KeyboardInterrupt, or what a signal's handler has raised
            if not self._core.closed and outcome.withdraw():
                self._known(outcome, time.monotonic() + PATIENCE)
            raise
        outcome.withdraw()
        if not self._known(outcome, time.monotonic() + PATIENCE):
            raise make_error(errno.ECONNRESET, "the local daemon doesn't answer", -1, outcome.address)

    def _send(self, post: Callable[[str, Data], Optional[Outcome[T]]], address: str, data: Data,
              timeout: Optional[float]) -> T:
        until, again = _until(timeout), Again()
        while True:
            outcome = self._post(post, address, data, until)
            outcome.waiter = True  # so flush() doesn't tell of it, too
            self._settle(outcome, until)
            pause = again.next_pause(time.monotonic(), until) if outcome.errno == errno.ENODATA else None
            if pause is None:
                return outcome.result()
            time.sleep(pause)


class Subscription(_Source[Union[Message, Notice]]):
    """The messages of a topic: `for item in conn.subscribe("0:news")`. An item is a Message, or a Notice, which tells in its
    place what is missing: a topic waits for nobody."""

    def __init__(self, path: Optional[str], reconnect: bool, address: str, queue: int, keep: str, pattern: bool):
        super().__init__(path, reconnect, lambda core: core.begin_subscribe(address, queue, keep == "oldest", pattern))
        self._looks_at_changes = reconnect or pattern

    def _pass_over(self, change: Change) -> Union[Message, Notice]:
        return passed_over(change)

    def _take(self, timeout_ms: int) -> Optional[Union[Message, Notice]]:
        message = self._core.recv(timeout_ms)
        return None if message is None else message_or_notice(message)

    def next(self, timeout: Optional[float] = None) -> Union[Message, Notice]:
        """The next message or notice. Raises as Endpoint.recv()."""
        return self._next(timeout)


class Topic(_Sending, _Closing):
    """A topic of this program's, to which others subscribe: `topic.publish(b"news")`. Closed by close(), `with`, or when it is
    forgotten. `key` says whose value it is, for a topic that keeps the last one of each."""

    def __init__(self, path: Optional[str], reconnect: bool, name: str, retain: bool, keys: int):
        self._core = open_core(path, Outcome, reconnect=reconnect)
        self._address = f"self:{name}"
        _outcome_of(self._core, self._core.begin_topic(name, retain, keys))

    @property
    def listeners(self) -> int:
        """How many subscribe to it, in all domains and on all hosts, as far as the daemon has told."""
        self._core.process()
        return self._core.listeners

    def publish(self, data: Data, *, key: Optional[str] = None, timeout: Optional[float] = None) -> None:
        """Publishes, and returns when the daemon has it, which waits for no subscriber. Raises as Connection.send()."""
        self._send(publish_with(self._core, key), self._address, data, timeout)

    def close(self) -> None:
        """Ends it. Subscribers get what was published, and wait for the next one."""
        self._core.close()


class Connection(_Sending, _Closing, ConnectionState):
    """A connection to the local daemon; see open(). Time-outs are in seconds, None is for ever."""

    def __init__(self, path: Optional[str] = None, reconnect: bool = False, *, timeout: Optional[float] = None):
        self._path = path
        self._reconnect = reconnect
        self._core = open_core(path, Outcome, reconnect=reconnect, timeout=timeout)
        self._pid = os.getpid()

    def __del__(self) -> None:
        core = getattr(self, "_core", None)
        if core is not None and not core.closed and self._pid == os.getpid():
            warnings.warn("a xenmsg connection was not closed", ResourceWarning, source=self)

    def changes(self) -> List[Change]:
        """The changes, since this was called last, of a connection that was opened with `reconnect`: it has lost its daemon,
        or found the next one."""
        self._core.process()
        found = []
        while (raw := self._core.change()) is not None:
            found.append(make_change(raw))
        return found

    def close(self) -> None:
        """Ends the connection. Sends without an outcome end here: with ECANCELED if nothing had left, else with ECONNRESET;
        flush() before waits for them."""
        self._core.close()

    def __exit__(self, kind: Optional[Type[BaseException]], *_: object) -> None:
        """Waits for what was posted, so that nothing is given up in silence; not if an exception ends the block."""
        try:
            if kind is None and not self._core.closed:
                while self._core.unwatched:
                    self._core.wait(-1)
                self._raise_first()
        finally:
            self.close()

    # ---- sending ----

    def send(self, address: str, data: Data, *, timeout: Optional[float] = None,
             trace: Optional[str] = None, wait: bool = False) -> None:
        """Sends a message and returns when it was delivered, that is, taken by the receiving program; raises Error with its
        outcome if it wasn't (the table is in xenmsg.h). A message not taken in time is withdrawn: TimedOut says that it never
        will be, for which it may wait 2 s more, or 12 s while the daemon here doesn't read. With `wait` it waits for its
        receiver, within its time-out, where NotFound or DomainDown would be the outcome."""
        self._send(cast(Callable[[str, Data], Optional[Outcome[None]]], self._post_with(trace, wait)), address, data, timeout)

    def post(self, address: str, data: Data, *, trace: Optional[str] = None, wait: bool = False) -> Outcome[None]:
        """Sends a message without waiting for its outcome: waits only while too much waits for this address. flush(), or
        wait() with what it returns, waits for the outcome. Messages to one address arrive in the order in which they were
        posted."""
        self._core.process()  # nothing else may have used this connection since another daemon took over
        return self._post(self._post_with(trace, wait), address, data, None)

    def wait(self, outcome: Outcome[T], timeout: Optional[float] = None) -> T:
        """Waits for the outcome of what was begun here; returns it (None: it was delivered; of a call the reply), or raises its
        Error. When the time is up, TimedOut, and it goes on: outcome.done() is False then."""
        if not self._known(outcome, _until(timeout)):
            raise make_error(errno.ETIMEDOUT, "the message isn't delivered yet", Fate.UNKNOWN, outcome.address)
        return outcome.result()

    def flush(self, timeout: Optional[float] = None) -> None:
        """Waits until every message that was posted has its outcome; raises the first error among those that nobody has looked
        at, or TimedOut."""
        until = _until(timeout)
        while self._core.pending:
            if until is not None and time.monotonic() >= until:
                raise make_error(errno.ETIMEDOUT, "not all is delivered yet", Fate.UNKNOWN, None)
            self._core.wait(_left(until))
        self._raise_first()

    def _raise_first(self) -> None:
        failed = self._core.take_failed()
        if failed:
            failed.result()

    def call(self, address: str, data: Data, *, timeout: Optional[float] = None,
             trace: Optional[str] = None, wait: bool = False) -> Message:
        """Calls a program and returns its reply. Raises Error: as send(), or EPROTOTYPE (it takes no calls); or Answered, the
        server's own. `fate` says whether the request never reached it, or nobody can know."""
        post = cast(Callable[[str, Data], Optional[Outcome[Message]]], self._call_with(trace, timeout, wait))
        return self._send(post, address, data, timeout)

    def begin_call(self, address: str, data: Data, *, timeout: Optional[float] = None,
                   trace: Optional[str] = None, wait: bool = False) -> Outcome[Message]:
        """Begins a call, as post() does a message; wait() returns the reply. Thousands may be outstanding."""
        self._core.process()
        return self._post(self._call_with(trace, timeout, wait), address, data, None)

    # ---- receiving ----

    def bind(self, endpoint: str, *, messages: bool = True, calls: bool = True, shared: bool = False) -> Endpoint:
        """An endpoint, until it is closed or forgotten. Raises Error: EINVAL, EEXIST (somebody has it), EACCES, ENOBUFS,
        ENOTCONN, ETIMEDOUT. With `shared` other programs of this user that say so, too, may bind it beside this one, and get
        what this one hasn't taken when it is closed."""
        return Endpoint(self._path, self._reconnect, endpoint, lambda core: core.begin_bind(endpoint, messages, calls, shared))

    def topic(self, name: str, *, retain: bool = False, keys: int = 0) -> Topic:
        """A topic, on which only what this returns publishes, until it is closed or forgotten; raises as bind(). With `retain` the last
        message is kept for later subscribers; with `keys` the last one of each key, of so many keys, those that were published
        last. An empty message keeps none of its key."""
        return Topic(self._path, self._reconnect, name, retain, keys)

    def subscribe(self, address: str, *, queue: int = 0, keep: Literal["newest", "oldest"] = "newest",
                  pattern: bool = False) -> Subscription:
        """Subscribes to a topic, until it is closed or forgotten. The topic may come later, go, and come again. With `queue` so many
        messages may wait at a time, up to 65535, and of what is more those are lost that `keep` doesn't keep, with a Notice in their
        place. With `pattern` the address's domain is a shell pattern: all such topics are subscribed to as they come and go; of one that
        is none, or is refused, a Notice of kind ENDED tells once, with its address and errno. Raises Error: EINVAL,
        EACCES, EPROTOTYPE (that endpoint is no topic), ENOBUFS, ENOTCONN, ETIMEDOUT."""
        return Subscription(self._path, self._reconnect, address, queue, keep, pattern)

    def serve(self, endpoint: str, handler: Callable[[Message], Optional[Data]], *, shared: bool = False) -> None:
        """Answers calls, one after the other, with what handler(message) returns, None is b"", until the daemon has gone, or a signal's
        handler raises something, as Ctrl-C does. A handler refuses by raising Answered, whose code and data the caller gets; any other
        exception is logged (logging.getLogger("xenmsg")), and the caller gets the code EIO and nothing else. A caller who doesn't
        read gets ENOBUFS after 5 s, or before when 16 others, who don't either, come behind it; others are answered meanwhile."""
        with self.bind(endpoint, messages=False, shared=shared) as inbox:
            replies = _Replies(inbox)
            for message in replies.calls():
                replies.answer(message, handler)
                del message  # or it would live until the next one comes

    # ---- streams, and who is there ----

    def connect(self, address: str, *, timeout: Optional[float] = None, wait: bool = False) -> socket.socket:
        """A byte stream to an endpoint that a program listens on, as a connected socket, which needs the connection no longer.
        shutdown() ends one direction; if something between the two dies, reading gives what came before and then raises
        ConnectionResetError. With `wait` it waits for a listener, as send() does."""
        return socket.socket(fileno=_outcome_of(self._core, self._core.begin_connect(address, milliseconds(timeout), wait)))

    def listen(self, endpoint: str, *, shared: bool = False) -> Listener:
        """An endpoint for streams; as bind()."""
        return Listener(self._path, self._reconnect, lambda core: core.begin_listen(endpoint, shared))

    def watch(self, pattern: str) -> Watch:
        """Comings and goings: "DOMAIN" of domains and their endpoints, "DOMAIN:ENDPOINT" of endpoints, both shell patterns; "HOST/" before either: of another host."""
        return Watch(self._path, self._reconnect, lambda core: core.begin_watch(pattern))

    def query(self, what: str) -> Any:
        """Asks the daemon (xenmsg_query() in xenmsg.h says what) and returns what its JSON says."""
        return json.loads(_outcome_of(self._core, self._core.begin_query(what)))

    def status(self) -> Any:
        """The daemon's account of itself, as doc/status.schema.json has it."""
        return self.query("status")

    def ping(self, domain: str, *, timeout: Optional[float] = None) -> float:
        """Seconds of a round trip to the daemon of a domain. The first one may have to make the link."""
        return cast(float, _outcome_of(self._core, self._core.begin_ping(domain, milliseconds(timeout))))


def open(path: Optional[str] = None, reconnect: bool = False, *, timeout: Optional[float] = None) -> Connection:
    """Connects to the local daemon: `with xenmsg.blocking.open() as conn`. `path` is that of its socket, else $XENMSG_SOCKET,
    else /run/xenmsg/xenmsg.sock. Raises NoDaemon (there is none), or another Error: EACCES and others (xenmsg_open() in
    xenmsg.h). With `reconnect` the connection, and those of its endpoints, listeners and watches, outlive the daemon: what was
    under way when it ended has ended, and all else goes on with the next one. For so long it waits for a daemon that doesn't
    answer: `timeout` seconds, usually 10; then it raises TimedOut."""
    return Connection(path, reconnect, timeout=timeout)


def break_stream(stream: socket.socket) -> None:
    """Closes a stream so that the other side reads ECONNRESET behind what came before, and not an orderly end. May wait while
    the other side doesn't read."""
    _core.break_stream(stream.detach())


def break_reason(stream: socket.socket) -> str:
    """Says in words why a stream has broken, of which reading has raised ConnectionResetError: who has ended it, and where it
    leads to a target that couldn't be reached, why not. To be asked before the stream is closed."""
    return _core.break_reason(stream.fileno())
