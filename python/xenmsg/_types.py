# SPDX-License-Identifier: LGPL-2.1-or-later
"""What both kinds of connections give out."""

from __future__ import annotations

import enum
import math
from typing import NamedTuple, Optional, Tuple, Union

from . import _core

Data = Union[bytes, bytearray, memoryview]


class ConnectionState:
    """What a connection of either kind says of itself."""

    _core: _core.Connection

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


class Peer(NamedTuple):
    """Who is at the other end of a stream. The domid comes from the hypervisor; uid, gid and pid are worth what that domain
    is worth. `endpoint` is the one that it was opened to, `name` the domain's, "" if unknown, `host` the name of
    the host that the domain is on, "" for this one."""

    domid: int
    uid: int
    gid: int
    pid: int
    endpoint: str
    name: str
    host: str = ""


class EventKind(enum.IntEnum):
    DOMAIN_UP = 1
    DOMAIN_DOWN = 2
    ENDPOINT_UP = 3
    ENDPOINT_DOWN = 4
    DOMAIN_AWAY = 5
    HOST_UP = 6
    HOST_DOWN = 7


class Event(NamedTuple):
    """Somebody came or went, or the link with a domain is lost and may be resumed (DOMAIN_AWAY; then DOMAIN_UP). `name` is the endpoint, or of a domain its name; `domain_name` always the domain's; "" if
    unknown. `host`: of a watch of another host ("hostb/work:print"); "" for this one."""

    kind: EventKind
    domid: int
    name: str
    domain_name: str
    host: str


def make_event(raw: Tuple[int, int, str, str, str]) -> Event:
    return Event(EventKind(raw[0]), *raw[1:])


def milliseconds(seconds: Optional[float]) -> int:
    """As the library has it; None: for ever."""
    return -1 if seconds is None else max(0, min(math.ceil(seconds * 1000), 2**31 - 1))
