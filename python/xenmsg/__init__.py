# SPDX-License-Identifier: LGPL-2.1-or-later
"""Messages between programs in different Xen domains: libxenmsg for Python.

With asyncio:

    async with xenmsg.open() as conn:
        await conn.send("5:inbox", b"hello")
        async for message in conn.bind("inbox"):
            print(message.sender_domid, bytes(message))

and without, in xenmsg.blocking, the same names:

    with xenmsg.blocking.open() as conn:
        conn.send("5:inbox", b"hello")
"""

from . import blocking
from ._core import Message
from ._errors import Answered, Cancelled, Error, Fate, TimedOut
from ._types import Event, EventKind, Peer
from .aio import Accepted, Connection, Endpoint, Listener, Outcome, Watch, break_stream, open

__all__ = ["Accepted", "Answered", "Cancelled", "Connection", "Endpoint", "Error", "Event", "EventKind", "Fate", "Listener",
           "Message", "Outcome", "Peer", "TimedOut", "Watch", "blocking", "break_stream", "open"]
