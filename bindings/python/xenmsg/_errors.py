# SPDX-License-Identifier: LGPL-2.1-or-later
"""Errors, as exceptions."""

from __future__ import annotations

import asyncio
import enum
import errno as _errno
import os
from typing import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:
    from . import _core

# A task that waits for the outcome of a withdrawal waits no longer than this. The library has it within 12 s even where the daemon
# doesn't read.
PATIENCE = 20.0


class Fate(enum.IntEnum):
    """How much is known of a message or call."""

    UNKNOWN = 0  # it may have been done, and nobody can know
    DONE = 1  # it was delivered; of a call: a handler has answered it
    NOT_DONE = 2  # it wasn't, and never will be: it may be sent again

    @classmethod
    def _missing_(cls, value: object) -> Fate:
        return cls.UNKNOWN  # what a later library says isn't known here


class Error(OSError):
    """A failure: `errno` (one of those in xenmsg.h), `strerror` (what that means), and

    fate      what is known of the message or call
    reason    why, in words for people: the daemon's, or what the error means
    address   the address, endpoint, pattern or question, if there was one
    """

    def __init__(self, errno: int, reason: str = "", fate: int = -1, address: Optional[str] = None):
        super().__init__(errno, os.strerror(errno))
        self.reason = reason
        self.fate = Fate(fate) if fate >= 0 else (Fate.UNKNOWN if errno in (_errno.ECONNRESET, _errno.ECHILD) else Fate.NOT_DONE)
        self.address = address

    @property
    def definite(self) -> bool:
        """Whether it is certain that it never was taken, and never will be: it may be sent again."""
        return self.fate is Fate.NOT_DONE

    def __str__(self) -> str:
        words = self.reason or self.strerror
        return f"{self.address}: {words}" if self.address else str(words)


class Failed(Error):
    """Whatever isn't another program's own answer. Its subclasses say what it means; of an errno without one it is this."""


class NotFound(Failed):
    """ENOENT: there is no such endpoint."""


class Denied(Failed, PermissionError):
    """EACCES: a policy denies it."""


class Undecided(Failed):
    """ENODATA: policy can't decide it yet, since a name isn't known."""


class DomainDown(Failed):
    """EHOSTDOWN: no such domain, or no daemon in it."""


class Unreachable(Failed):
    """EHOSTUNREACH: nothing leads there."""


class OverQuota(Failed):
    """ENOBUFS: over a quota."""


class TooLarge(Failed):
    """EMSGSIZE: larger than is accepted."""


class WrongKind(Failed):
    """EPROTOTYPE: that endpoint takes no calls, or no messages, or no streams."""


class Exists(Failed):
    """EEXIST: somebody has it already."""


class NoDaemon(Failed, ConnectionError):
    """ENOTCONN, ECONNREFUSED, of opening also ENOENT: the local daemon has gone, or isn't there."""


class Full(Failed, BlockingIOError):
    """EAGAIN: there is no room now; of a reply: the caller doesn't read. The endpoint's reply() waits for room."""


class Reset(Failed, ConnectionResetError):
    """ECONNRESET: something between the two has died. Nobody can know what came of it."""


class Cancelled(Failed):
    """ECANCELED: given up before it had left, or nobody waits for the answer any more."""


class Answered(Error):
    """The handler of a call has answered with an error of its own, or a program has refused a message, which isn't delivered
    then. Its errno is EREMOTEIO, and

    code         which error it is to that program
    data         what it has sent along, bytes
    exit_status  of the command that was run for the call; 0: there was none

    Its code is UNANSWERED if that program has dropped the call without an answer.
    """

    UNANSWERED = 125  # XENMSG_UNANSWERED

    def __init__(self, code: int, data: bytes = b"", exit_status: int = 0, fate: int = Fate.DONE, address: Optional[str] = None):
        super().__init__(_errno.EREMOTEIO, "", fate, address)
        self.code = code
        self.data = data
        self.exit_status = exit_status

    def __str__(self) -> str:
        try:
            words = self.data.decode()
        except UnicodeDecodeError:
            words = ""
        words = f"error {self.code}: {words}" if words.isprintable() and words else f"error {self.code}"
        return f"{self.address} answered: {words}" if self.address else f"answered: {words}"


class TimedOut(Failed, TimeoutError):
    """ETIMEDOUT: not in time. `fate` says whether it may have been done."""


class Abandoned(Exception):
    """A task was cancelled in send() or call(), and this is what became of the message: the cause of its CancelledError, which
    itself must be a plain one, or asyncio.timeout() wouldn't know it. Abandoned.of(error) finds it.

    `delivered` is False if it was withdrawn or failed, and never will be delivered; True if it was delivered, or answered,
    before it could be withdrawn; None if nobody can know: then it may have been, or still be.
    """

    def __init__(self, outcome: Optional[_core.Outcome[Any]] = None):
        super().__init__(f"what was sent to {outcome.address} was withdrawn" if outcome else "nothing was sent")
        self.outcome = outcome

    @staticmethod
    def of(error: Optional[BaseException]) -> Optional[Abandoned]:
        """The one behind a CancelledError, or behind the TimeoutError that asyncio makes of it; None: there is none."""
        while isinstance(error, (asyncio.CancelledError, asyncio.TimeoutError)):
            error = error.__cause__ or error.__context__
        return error if isinstance(error, Abandoned) else None

    @property
    def delivered(self) -> Optional[bool]:
        if self.outcome is None:
            return False
        if not self.outcome.done():
            return None
        try:
            self.outcome.result()
        except Error as error:
            return {Fate.NOT_DONE: False, Fate.DONE: True, Fate.UNKNOWN: None}[error.fate]
        return True


def make_error(errno: int, reason: str, fate: int, address: Optional[str], code: int = 0, exit_status: int = 0,
               data: Optional[_core.Message] = None) -> Error:
    """A negative fate: as the number says."""
    if errno == _errno.EREMOTEIO:
        return Answered(code, bytes(data) if data is not None else b"", exit_status, fate, address)
    return _BY_ERRNO.get(errno, Failed)(errno, reason, fate, address)


def code_of(error: Answered) -> int:
    """With which code a call is answered whose handler has raised this."""
    code: object = error.code
    return code if isinstance(code, int) and 0 < code < 65536 else _errno.EIO


_BY_ERRNO = {
    _errno.ENOENT: NotFound, _errno.EACCES: Denied, _errno.ENODATA: Undecided, _errno.EHOSTDOWN: DomainDown,
    _errno.EHOSTUNREACH: Unreachable, _errno.ENOBUFS: OverQuota, _errno.EMSGSIZE: TooLarge, _errno.EPROTOTYPE: WrongKind,
    _errno.EEXIST: Exists, _errno.ENOTCONN: NoDaemon, _errno.ECONNREFUSED: NoDaemon, _errno.ECONNRESET: Reset,
    _errno.ECANCELED: Cancelled, _errno.ETIMEDOUT: TimedOut, _errno.EAGAIN: Full,
}


class Again:
    """Tries again where nothing is decided yet (ENODATA), as xenmsg_send() does: after pauses that grow, until the time is up,
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
