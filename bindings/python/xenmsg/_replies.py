# SPDX-License-Identifier: LGPL-2.1-or-later
"""Replies to callers who don't read: for how long serve() waits with each."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Callable, List, Optional

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

    def __init__(self, message: _core.Message, data: Data, until: float):
        self.message = message
        self.data = data
        self.until = until  # when it is waited with no longer


class WaitingReplies:
    """They hold up nobody, as with `xenmsg serve`: each waits for PATIENCE seconds, and the oldest gives up when there are too many,
    since each may be as large as a message."""

    PATIENCE = 5.0
    MOST = 16

    def __init__(self) -> None:
        self.replies: List[WaitingReply] = []  # the oldest first

    def send(self, message: _core.Message, data: Data, now: float) -> Optional[WaitingReply]:
        """Replies; raises what reply() does. Returns what has to wait, if it does, for send_again() and in any case end()."""
        try:
            message.reply(data)
            return None
        except Full:
            patient = [reply for reply in self.replies if reply.until > now]
            if len(patient) >= self.MOST:
                patient[0].until = now  # it ends when it is tried again
            self.replies.append(WaitingReply(message, data, now + self.PATIENCE))
            return self.replies[-1]

    def send_again(self, reply: WaitingReply, now: float) -> bool:
        """Returns whether it has to wait no longer: it is sent, or was answered with ENOBUFS."""
        try:
            reply.message.reply(reply.data)
        except Full:
            if reply.until > now:
                return False
            reply.message.reply_error(errno.ENOBUFS)
        return True

    def end(self, reply: WaitingReply) -> None:
        self.replies.remove(reply)
