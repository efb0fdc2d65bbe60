# SPDX-License-Identifier: LGPL-2.1-or-later
"""Replies to callers who don't read: for how long serve() waits with each, and which of them hold up others meanwhile."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Callable, Dict, List, Optional, Tuple, Union

from ._errors import Answered, Error, Full, TooLarge, code_of

if TYPE_CHECKING:
    from . import _core
    from ._types import Data


def answer_error(message: _core.Message, error: Exception, report: Callable[[str, Exception], None]) -> None:
    """Answers a call whose handler has raised this. Only what it means for its caller is told to him; all else is an error of the
    program's own, which is reported here, and has a number that means something else to others."""
    try:
        if isinstance(error, Answered):
            try:
                if message.wants_reply:
                    message.reply_error(code_of(error), error.data)
                return
            except (TypeError, TooLarge) as wrong:
                error = wrong
        report(f"the handler of {message.endpoint} failed", error)
        if message.wants_reply:
            message.reply_error(errno.EIO)
    except Error:
        pass  # nobody waits for the answer any more


class WaitingReply:
    """One that its caller must make room for."""

    def __init__(self, message: _core.Message, data: Data, who: Union[str, Tuple[str, int]], since: float, until: float):
        self.message = message
        self.data = data
        self.who = who
        self.since = since
        self.until = until  # when it is waited with no longer
        self.seated = False


class ReplySeats:
    """Replies with a seat hold up nobody. There are few seats, since each may hold the largest message; when they are taken,
    the one with the most of them gives one to one with fewer. A reply without a seat holds up others, so only until somebody of its
    account should have read. An account is who the daemon charges: a user here, another domain, another host. So one that has
    many callers, all of which read nothing, holds up the others as briefly as one caller does.

    A caller whose reply has waited in vain isn't waited for again until one to it is accepted, or there are many others since.
    """

    PATIENCE = 5.0  # with a seat
    MOMENT = 0.5  # without
    SLOW_CALLERS = 64

    def __init__(self, domid: int, places: int):
        self._domid = domid
        self._most = min(max(places, 2), 16)
        self._replies: List[WaitingReply] = []  # the oldest first
        self._slow: Dict[Tuple[str, int, int, int], None] = {}
        self.taken = 0
        self.changed = False  # since somebody looked: another one may be waited with, or others may be taken

    @staticmethod
    def _caller(message: _core.Message) -> Tuple[str, int, int, int]:
        return (message.sender_host, message.sender_domid, message.sender_uid, message.sender_pid)

    def _who(self, message: _core.Message) -> Union[str, Tuple[str, int]]:
        if message.sender_host:
            return message.sender_host
        return ("user", message.sender_uid) if message.sender_domid == self._domid else ("domain", message.sender_domid)

    def _seats_of(self, who: Union[str, Tuple[str, int]]) -> int:
        return sum(1 for reply in self._replies if reply.seated and reply.who == who)

    def send(self, message: _core.Message, data: Data, now: float) -> Optional[WaitingReply]:
        """Replies, or answers ENOBUFS; raises what reply() does. Returns what has to wait, if it does, for send_again() and in any case end()."""
        if self._accepted(message, data):
            return None
        if self._caller(message) in self._slow:
            message.reply_error(errno.ENOBUFS)
            return None
        who = self._who(message)
        first = next((reply.since for reply in self._replies if reply.who == who), now)
        reply = WaitingReply(message, data, who, now, first + self.MOMENT)
        self._replies.append(reply)
        self._seat(reply)
        if reply.until > now:
            return reply
        self.end(reply)
        message.reply_error(errno.ENOBUFS)
        return None

    def send_again(self, reply: WaitingReply, now: float) -> bool:
        """Returns whether it has to wait no longer: it is sent, or was answered with ENOBUFS."""
        if self._accepted(reply.message, reply.data):
            return True
        if not reply.seated:
            self._seat(reply)
        if reply.until > now:
            return False
        self._slow[self._caller(reply.message)] = None
        if len(self._slow) > self.SLOW_CALLERS:
            del self._slow[next(iter(self._slow))]
        reply.message.reply_error(errno.ENOBUFS)
        return True

    def end(self, reply: WaitingReply) -> None:
        self._replies.remove(reply)
        self.taken -= reply.seated

    def _accepted(self, message: _core.Message, data: Data) -> bool:
        try:
            message.reply(data)
        except Full:
            return False
        if self._slow:
            self._slow.pop(self._caller(message), None)
        return True

    def _seat(self, reply: WaitingReply) -> None:
        if self.taken == self._most:
            other = max((other for other in self._replies if other.seated), key=lambda other: self._seats_of(other.who))
            if self._seats_of(other.who) < self._seats_of(reply.who) + 2:
                return
            other.seated = False
            other.until = 0.0  # it ends when it is tried again
            self.taken -= 1
        reply.seated = True
        reply.until = reply.since + self.PATIENCE
        self.taken += 1
        self.changed = True
