# SPDX-License-Identifier: LGPL-2.1-or-later
"""The checks of the chaos test find what they are there to find: journals of a client (1) and a server (2) that tell lies."""

import pytest

from chaos_checks import (ACCEPTED, BACKWARDS, CALL_ANSWERED, CALL_ENDED, CALL_MAYBE, CALL_STARTED, CLOSING, CONNECTED,
                          CONNECTING, DAMAGED, ENDED, FAULT, FINISHED, HANDLED, NAMELESS, OFFERED, PROCESS, READ, READ_END,
                          RECEIVED, RECORD, REFUSED, REPLYING, STARTED, WRITTEN, Journals, Run)
from conftest import row

ONE, TWO = 1 << 32 | 1, 2 << 32 | 1
EACCES, ETIMEDOUT, ECANCELED, ECONNRESET = 13, 110, 125, 104
SENT, CALLED = (ONE, STARTED, 1), (ONE, CALL_STARTED, 1)
OPENED = [(ONE, CONNECTING, 1), (ONE, CONNECTED, 0)]
TAKEN = (ONE, ACCEPTED, 101)


def wrote(written, offered=None, closing=True, number=ONE):
    return ([(number, OFFERED, offered or written), (number, WRITTEN, written)]
            + ([(number, CLOSING, written)] if closing else []))


def read(size, end=0, number=ONE):
    return [(number, READ, size), (number, READ_END, end)]


def check(directory, client, server, killed=()):
    runs = []
    for number, records in ((1, client), (2, server)):
        journal = directory / f"journal-{number}"
        records = [(0, PROCESS, 100 + number), *records] + ([] if number in killed else [(0, FINISHED, 0)])
        journal.write_bytes(b"".join(RECORD.pack(*record) for record in records))
        runs.append(Run(number, f"program{number}", journal, ["1:program1", "2:program2", "two:program2"]))
        runs[-1].was_killed = number in killed
    return Journals(runs).check()


GOOD = {
    "a message": ([SENT, (ONE, ENDED, 0)], [(ONE, RECEIVED, 0)], ()),
    "messages in order": ([SENT, (ONE + 1, STARTED, 1), (ONE, ENDED, 0), (ONE + 1, ENDED, 0)],
                          [(ONE, RECEIVED, 0), (ONE + 1, RECEIVED, 0)], ()),
    "messages by two addresses": ([SENT, (ONE + 1, STARTED, 2), (ONE, ENDED, 0), (ONE + 1, ENDED, 0)],
                                  [(ONE + 1, RECEIVED, 0), (ONE, RECEIVED, 0)], ()),
    "a refusal": ([SENT, (ONE, REFUSED, -EACCES)], [], ()),
    "killed before it has written down a message": ([SENT, (ONE, ENDED, 0)], [], (2,)),
    "a call": ([CALLED, (ONE, CALL_ENDED, 0)], [(ONE, HANDLED, 0), (ONE, REPLYING, 0)], ()),
    "the server's error": ([CALLED, (ONE, CALL_ANSWERED, -ECANCELED)], [(ONE, HANDLED, 0), (ONE, REPLYING, -ECANCELED)], ()),
    "a call that was given up": ([CALLED, (ONE, CALL_MAYBE, -ETIMEDOUT)], [(ONE, RECEIVED, 0)], ()),
    "a stream": (OPENED + wrote(9) + read(5, number=ONE | BACKWARDS),
                 [TAKEN, *read(9), *wrote(5, number=ONE | BACKWARDS)], ()),
    "a broken stream": (OPENED + wrote(9), [TAKEN, *read(8, -ECONNRESET)], ()),
    "a killed writer": (OPENED + wrote(9, 99, closing=False), [TAKEN, *read(12)], (1,)),
    "killed before the first byte": (OPENED, [(101, NAMELESS, 0)], (1,)),
}

BAD = {
    "received twice": ([SENT, (ONE, ENDED, 0)], [(ONE, RECEIVED, 0)] * 2, ()),
    "damaged": ([SENT, (ONE, ENDED, 0)], [(ONE, RECEIVED, 1)], ()),
    "never sent": ([], [(ONE, RECEIVED, 0)], ()),
    "lost": ([SENT, (ONE, ENDED, 0)], [], ()),
    "received in spite of an error": ([SENT, (ONE, ENDED, -EACCES)], [(ONE, RECEIVED, 0)], ()),
    "another order": ([SENT, (ONE + 1, STARTED, 1), (ONE, ENDED, 0), (ONE + 1, ENDED, 0)],
                      [(ONE + 1, RECEIVED, 0), (ONE, RECEIVED, 0)], ()),
    "received in spite of a refusal": ([SENT, (ONE, REFUSED, -EACCES)], [(ONE, RECEIVED, 0)], ()),
    "no outcome": ([SENT], [], ()),
    "two outcomes": ([SENT, (ONE, ENDED, 0), (ONE, ENDED, 0)], [(ONE, RECEIVED, 0)], ()),
    "a fault": ([(0, FAULT, -1)], [], ()),
    "a call without an outcome": ([CALLED], [], ()),
    "a call with two": ([CALLED, (ONE, CALL_ENDED, 0), (ONE, CALL_ENDED, -ECONNRESET)],
                        [(ONE, HANDLED, 0), (ONE, REPLYING, 0)], ()),
    "handled twice": ([CALLED, (ONE, CALL_ENDED, 0)], [(ONE, HANDLED, 0), (ONE, HANDLED, 0), (ONE, REPLYING, 0)], ()),
    "handled in spite of an error": ([CALLED, (ONE, CALL_ENDED, -ETIMEDOUT)], [(ONE, HANDLED, 0)], ()),
    "an answer by nobody": ([CALLED, (ONE, CALL_ENDED, 0)], [], (2,)),
    "an error by nobody": ([CALLED, (ONE, CALL_ANSWERED, -EACCES)], [(ONE, HANDLED, 0), (ONE, REPLYING, 0)], ()),
    "more than was written": (OPENED + wrote(9), [TAKEN, *read(10)], ()),
    "an end before the end": (OPENED + wrote(9), [TAKEN, *read(8)], ()),
    "an end before a killed writer's": (OPENED + wrote(9, 99, closing=False), [TAKEN, *read(8)], (1,)),
    "an end that nobody made": (OPENED + wrote(9, closing=False), [TAKEN, *read(9)], ()),
    "an end of what nobody took": (OPENED + wrote(9) + read(0, number=ONE | BACKWARDS), [], ()),
    "an end before the first byte": (OPENED + wrote(9), [(101, NAMELESS, 0)], ()),
    "another error": (OPENED + wrote(9), [TAKEN, *read(9, -EACCES)], ()),
    "other bytes": (OPENED + wrote(9), [TAKEN, (ONE, DAMAGED, 8), *read(9)], ()),
    "two ends": (OPENED + wrote(9), [TAKEN, *read(9), *read(9)], ()),
    "accepted twice": (OPENED, [TAKEN, TAKEN], ()),
    "accepted from another": (OPENED, [(ONE, ACCEPTED, 102)], ()),
    "accepted, but not connected": ([(ONE, CONNECTING, 1), (ONE, CONNECTED, -EACCES)], [TAKEN], ()),
}


def test_what_may_happen_passes(tmp_path):
    for what, journals in GOOD.items():
        with row(what):
            check(tmp_path, *journals)


def test_what_must_not_happen_is_found(tmp_path):
    for what, journals in BAD.items():
        with row(what), pytest.raises(AssertionError):
            check(tmp_path, *journals)
