# SPDX-License-Identifier: LGPL-2.1-or-later
"""Errors, as exceptions."""

from __future__ import annotations

import asyncio
import enum
import errno as _errno
import os
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from . import _core

# What waits for the daemon's answer to a withdrawal, which comes within 2 s, waits no longer than this.
PATIENCE = 5.0


class Certainty(enum.IntEnum):
    """What is known of a message or call that has failed."""

    NEVER_TAKEN = 1  # it never reached a handler and never will: it may be sent again
    ANSWERED = 2  # a handler has answered with this error, or refused this message with it: the number is its own
    UNKNOWN = 3  # it may have reached a handler, and nobody can know what came of it


class Error(OSError):
    """What failed: `errno` (one of those in xenmsg.h, or the handler's own), `strerror` (what that means), and

    certainty  what is known of the message or call
    reason    the daemon's words, "" if it had none
    address   the address, endpoint, pattern or question, if there was one
    exit_status  of the command that was run for a call, if that failed; else 0
    """

    def __init__(self, errno: int, reason: str = "", certainty: int = 0, address: Optional[str] = None,
                 exit_status: int = 0):
        super().__init__(errno, os.strerror(errno))
        self.reason = reason
        self.certainty = Certainty(certainty or (Certainty.UNKNOWN if errno in (_errno.ECONNRESET, _errno.ECHILD)
                                                 else Certainty.NEVER_TAKEN))
        self.address = address
        self.exit_status = exit_status

    @property
    def definite(self) -> bool:
        """Whether it is certain that it never reached a handler, and never will: it may be sent again."""
        return self.certainty is Certainty.NEVER_TAKEN

    @property
    def answered(self) -> bool:
        """Whether it is the answer of the handler that was called."""
        return self.certainty is Certainty.ANSWERED

    def __str__(self) -> str:
        words = self.strerror if not self.reason or self.reason == self.strerror else f"{self.strerror}: {self.reason}"
        return f"{self.address}: {words}" if self.address else str(words)


class Answered(Error):
    """The error with which the handler of a call has answered, or with which a program has refused a message. Its number is
    that program's own: ENOENT isn't "no such endpoint"."""

    def __str__(self) -> str:
        return f"{self.address}: it answered: {self.strerror}"


class TimedOut(Error, TimeoutError):
    """An Error with ETIMEDOUT of ours."""


class Cancelled(Exception):
    """A task was cancelled in send() or call(), and this is what became of the message: the cause of its CancelledError, which
    itself must be a plain one, or asyncio.timeout() wouldn't know it. Cancelled.of(error) finds it.

    `delivered` is False if it was withdrawn or failed, and never will be delivered; True if it was delivered, or answered,
    before it could be withdrawn; None if nobody can know: then it may have been, or still be.
    """

    def __init__(self, outcome: Optional[_core.Outcome] = None):
        super().__init__(f"what was sent to {outcome.address} was withdrawn" if outcome else "nothing was sent")
        self.outcome = outcome

    @staticmethod
    def of(error: Optional[BaseException]) -> Optional[Cancelled]:
        """The one behind a CancelledError, or behind the TimeoutError that asyncio makes of it; None: there is none."""
        while isinstance(error, (asyncio.CancelledError, asyncio.TimeoutError)):
            error = error.__cause__ or error.__context__
        return error if isinstance(error, Cancelled) else None

    @property
    def delivered(self) -> Optional[bool]:
        if self.outcome is None:
            return False
        if not self.outcome.done():
            return None
        try:
            self.outcome.result()
        except Error as error:
            return {Certainty.NEVER_TAKEN: False, Certainty.ANSWERED: True, Certainty.UNKNOWN: None}[error.certainty]
        return True


def make_error(errno: int, reason: str, certainty: int, address: Optional[str], exit_status: int = 0) -> Error:
    """Of certainty 0: as the number says."""
    kind = Answered if certainty == Certainty.ANSWERED else TimedOut if errno == _errno.ETIMEDOUT else Error
    return kind(errno, reason, certainty, address, exit_status)


class Again:
    """What isn't decided yet (ENODATA) is tried again, as xenmsg_send() does: after pauses that grow, until the time is up,
    30 s where there is no end."""

    def __init__(self) -> None:
        self.pause = 0.0
        self.until = 0.0

    def next_pause(self, now: float, deadline: Optional[float]) -> Optional[float]:
        """Seconds until the next try, None: it would come too late."""
        if not self.pause:
            self.until = now + 30 if deadline is None else deadline
        self.pause = min(self.pause * 2 or 0.02, 1.0, (self.until - now) / 2)
        return None if self.pause < 0.01 else self.pause
