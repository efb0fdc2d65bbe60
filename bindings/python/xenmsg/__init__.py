# SPDX-License-Identifier: LGPL-2.1-or-later
"""Messages between programs in different Xen domains: libxenmsg for Python.

With asyncio:

    async with xenmsg.open() as conn:
        await conn.send("5:inbox", b"hello")
        async for message in conn.bind("inbox", calls=False):
            print(message.sender_domid, bytes(message))

and without, in xenmsg.blocking, the same names:

    with xenmsg.blocking.open() as conn:
        conn.send("5:inbox", b"hello")
"""

from . import blocking
from ._core import Message, __version__
from ._errors import (Abandoned, Answered, Cancelled, Denied, DomainDown, Error, Exists, Failed, Fate, Full, NoDaemon, NotFound,
                      OverQuota, Reset, TimedOut, TooLarge, Undecided, Unreachable, WrongKind)
from ._loop import Outcome
from ._types import Buffer, Change, ChangeKind, Data, Event, EventKind, Notice, NoticeKind, Peer
from .aio import Accepted, Connection, Endpoint, Listener, Subscription, Topic, Watch, break_stream, open

__all__ = ["Abandoned", "Accepted", "Answered", "Buffer", "Cancelled", "Change", "ChangeKind", "Connection", "Data", "Denied",
           "DomainDown", "Endpoint", "Error", "Event", "EventKind", "Exists", "Failed", "Fate", "Full", "Listener", "Message",
           "NoDaemon", "NotFound", "Notice", "NoticeKind", "Outcome", "OverQuota", "Peer", "Reset", "Subscription", "TimedOut",
           "TooLarge", "Topic", "Undecided", "Unreachable", "Watch", "WrongKind", "blocking", "break_stream", "open"]
