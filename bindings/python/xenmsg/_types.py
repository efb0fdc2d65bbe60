# SPDX-License-Identifier: LGPL-2.1-or-later
"""The types that both kinds of connections give out."""

from __future__ import annotations

import enum
import math
import os
import time
from typing import Any, Callable, NamedTuple, Optional, Protocol, Tuple, Type, Union

from . import _core
from ._errors import Failed, NoDaemon, NotFound


class Buffer(Protocol):
    """A holder of bytes, as type checkers see it (PEP 688): an array, an mmap, a Message."""

    def __buffer__(self, flags: int, /) -> memoryview:
        ...


# The first three for type checkers that don't know PEP 688 yet.
Data = Union[bytes, bytearray, memoryview, _core.Message, Buffer]


class ConnectionState:
    """A connection of either kind says this of itself."""

    _core: _core.Connection

    def _post_with(self, trace: Optional[str], wait: bool) -> Callable[[str, Data], Any]:
        """How a message is begun."""
        if trace is None and not wait:
            return self._core.post
        return lambda address, data: self._core.post(address, data, trace, -1, wait)

    def _call_with(self, trace: Optional[str], timeout: Optional[float], wait: bool) -> Callable[[str, Data], Any]:
        """How a call is begun: its server is told for how long the answer is wanted, counted from now."""
        if timeout is None:
            if trace is None and not wait:
                return self._core.call_post
            return lambda address, data: self._core.call_post(address, data, trace, -1, wait)
        until = time.monotonic() + timeout
        return lambda address, data: self._core.call_post(address, data, trace, milliseconds(until - time.monotonic()), wait)

    def sent_name(self, address: str, *, call: bool = False) -> Optional[str]:
        """The name in traces (xenmsg trace) of the message that was sent last to this address, or the call that was begun last:
        its receiver has the same as message.name. None: nothing was sent there, or what led there has ended since."""
        return self._core.sent_name(address, call)

    @property
    def domid(self) -> int:
        """The domain that this program runs in, as the daemon says."""
        return self._core.domid

    @property
    def max_message(self) -> int:
        """The largest message that the local daemon lets pass, in bytes. The receiving side may accept less."""
        return self._core.max_message

    @property
    def pending(self) -> int:
        """How many messages and calls have no outcome yet."""
        return self._core.pending

    @property
    def closed(self) -> bool:
        return self._core.closed


def open_core(path: Optional[str], outcome_class: Type[_core.Outcome[Any]] = _core.Outcome, begin: bool = False,
              reconnect: bool = False, timeout: Optional[float] = None) -> _core.Connection:
    """The daemon's socket isn't found here, and no endpoint is meant. Without a time-out it is the library's usual one."""
    try:
        if timeout is None:
            return _core.Connection(path, outcome_class, begin, reconnect)
        return _core.Connection(path, outcome_class, begin, reconnect, milliseconds(timeout))
    except Failed as error:
        error.address = error.address or os.environ.get("XENMSG_SOCKET") or "/run/xenmsg/xenmsg.sock"
        if not isinstance(error, NotFound):
            raise
        raise NoDaemon(error.errno or 0, error.reason, error.fate, error.address) from None


def publish_with(core: _core.Connection, key: Optional[str]) -> Callable[[str, Data], Any]:
    """How a message of a topic is begun."""
    if key is None:
        return core.post

    def publish(address: str, data: Data) -> Any:
        return core.post(address, data, None, -1, False, key)
    return publish


class Peer(NamedTuple):
    """The program at the other end of a stream. The domid comes from the hypervisor; uid, gid and pid are worth what that domain
    is worth. `endpoint` is the one that it was opened to, `name` the domain's, "" if unknown, `host` the name of
    the host that the domain is on, "" for this one, and `channel` what the stream is called in traces (xenmsg trace), "" if
    that isn't known."""

    domid: int
    uid: int
    gid: int
    pid: int
    endpoint: str
    name: str
    host: str = ""
    channel: str = ""


class _Kind(enum.IntEnum):
    @classmethod
    def _missing_(cls, value: object) -> Optional[_Kind]:
        """One of a later library's is told, too, as UNKNOWN_… with its number."""
        if not isinstance(value, int):
            return None
        kind = int.__new__(cls, value)
        kind._name_, kind._value_ = f"UNKNOWN_{value}", value
        return kind


class EventKind(_Kind):
    DOMAIN_UP = 1
    DOMAIN_DOWN = 2
    ENDPOINT_UP = 3
    ENDPOINT_DOWN = 4
    DOMAIN_AWAY = 5
    HOST_UP = 6
    HOST_DOWN = 7
    LISTED = 8


class Event(NamedTuple):
    """Somebody came or went, or the link with a domain is lost and may be resumed (DOMAIN_AWAY; then DOMAIN_UP); LISTED: what was there
    when the watch began was told. `name` is the endpoint, or of a domain its name; `domain_name` always the domain's; "" if
    unknown. `host`: of a watch of another host ("hostb/work:print"); "" for this one."""

    kind: EventKind
    domid: int
    name: str
    domain_name: str
    host: str


def make_event(raw: Tuple[int, int, str, str, str]) -> Event:
    return Event(EventKind(raw[0]), *raw[1:])


class NoticeKind(_Kind):
    SUBSCRIBED = 1
    MISSED = 2
    WAITING = 3
    ENDED = 4
    KEPT = 5


class Notice(NamedTuple):
    """A notice to a subscriber, in its place between the messages of a topic. SUBSCRIBED: from here on nothing is missing without a
    notice, and `messages` were published before; MISSED: so many are missing here; WAITING: the topic isn't there; ENDED: the
    subscription has ended, with `errno`; KEPT: the next message is the one that the topic has kept. `unknown`: perhaps more are
    missing, and nobody can know."""

    kind: NoticeKind
    messages: int
    unknown: bool
    errno: int
    endpoint: str


def message_or_notice(message: _core.Message) -> Union[_core.Message, Notice]:
    told = message.notice
    return message if told is None else Notice(NoticeKind(told[0]), told[2], told[3], told[1], message.endpoint)


class ChangeKind(_Kind):
    LOST = 1
    BACK = 2
    REFUSED = 3
    RENUMBERED = 4
    NOT_SUBSCRIBED = 6


class Change(NamedTuple):
    """What happens to a connection that outlives its daemon (open() with reconnect): that is LOST, and what watches have told is
    out of date; there is one again, with endpoints and watches (BACK), but not with this endpoint, or this one's watch, which it
    refuses (REFUSED, before BACK): a waiter there gets the error. In any connection: this domain was restored or migrated, and
    has another number (RENUMBERED). NOT_SUBSCRIBED comes as a Notice, of kind ENDED."""

    kind: ChangeKind
    errno: int
    endpoint: str
    reason: str


def passed_over(change: Change) -> Notice:
    """A subscription to a pattern gets it of an endpoint that isn't subscribed to."""
    return Notice(NoticeKind.ENDED, 0, False, change.errno, change.endpoint)


def make_change(raw: Tuple[int, int, str, str]) -> Change:
    return Change(ChangeKind(raw[0]), *raw[1:])


def milliseconds(seconds: Optional[float]) -> int:
    """As the library has it; None: for ever."""
    return -1 if seconds is None else max(0, min(math.ceil(seconds * 1000), 2**31 - 1))
