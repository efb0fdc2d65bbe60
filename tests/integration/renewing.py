# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of hand-overs share: daemons that hand over while programs go on."""

import errno
import signal

from messaging import EXIT_OK, PATIENCE, eventually


def took_over(node):
    return node.log.read_text().count("took over from")


def renew(node):
    before = took_over(node)
    done = node.xenmsg("daemon", "renew")
    assert done.returncode == EXIT_OK, done.stderr
    eventually(lambda: took_over(node) == before + 1, f"the next daemon has taken over: {node.log.read_text()}")


def ended(process, how=signal.SIGTERM):
    process.send_signal(how)
    out, err = process.communicate(timeout=20 * PATIENCE)
    assert err == b"", err
    return out and out.decode()


def process_until(condition, what, *connections):
    def processed():
        for connection in connections:
            connection.wait(0)
        return condition()
    eventually(processed, what)


def post(address, data, outcomes, sender, *others):
    """Its queue takes no more than some, so it and the others go on until it does."""
    def posted():
        result = sender.post(address, data, outcomes.append)
        assert result in (0, -errno.EAGAIN), (result, len(outcomes))
        return result == 0
    process_until(posted, "it is posted", sender, *others)
