# SPDX-License-Identifier: LGPL-2.1-or-later
"""Waiting for descriptors by poll(2): select(2) knows none beyond 1023, and a worker that has run a thousand tests may have those."""

import select


def _ready(wanted, seconds):
    poll = select.poll()
    numbers = {}
    for file, events in wanted:
        number = file if isinstance(file, int) else file.fileno()
        numbers[number] = file
        poll.register(number, events)
    return [numbers[number] for number, _ in poll.poll(None if seconds is None else seconds * 1000)]


def readable(files, seconds=None):
    """Those of the files (or their numbers) that can be read without waiting, or have ended; none after so many seconds."""
    return _ready([(file, select.POLLIN) for file in files], seconds)


def writable(file, seconds=None, or_readable=False):
    """Whether this one can be written, or has ended, within so many seconds."""
    return bool(_ready([(file, select.POLLOUT | (select.POLLIN if or_readable else 0))], seconds))
