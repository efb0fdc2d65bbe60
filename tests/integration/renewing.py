# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of hand-overs share: daemons that hand over while programs go on."""

import errno
import signal

from library import Connection
from messaging import EXIT_OK, PATIENCE, eventually, stopped


def took_over(node):
    return node.log.read_text().count("took over from")


def renew(node):
    before = took_over(node)

    def is_renewed():
        """A program that takes longer to start than the daemon waits for it is ended, which harms nobody."""
        done = node.xenmsg("daemon", "renew")
        assert done.returncode == EXIT_OK or b"doesn't answer; the daemon goes on as it was" in done.stderr, done.stderr
        return done.returncode == EXIT_OK

    eventually(is_renewed, "the daemon hands over")
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


def send_under_hand_overs(source, target, address, renewed):
    """Messages wait between two programs, of which one is stopped, while these daemons hand over: each comes once, in its order."""
    outcomes = []
    receiver = target.receiver("inbox")
    with Connection(source.socket) as sender:
        assert sender.send(address, b"before") == 0
        with stopped(receiver.process.pid):
            for number in range(12):
                assert sender.post(address, b"%d" % number, outcomes.append) == 0
            sender.wait(0)
            for node in renewed:
                renew(node)
        process_until(lambda: len(outcomes) == 12, "all have ended", sender)
        assert outcomes == [0] * 12
        assert sender.send(address, b"after") == 0
    assert ended(receiver.process).splitlines() == ["before", *(str(number) for number in range(12)), "after"]


def call_under_hand_overs(source, target, address, renewed):
    """Calls are in service, and others lie in their server's ring, while these daemons hand over: each is answered."""
    answers = []
    with Connection(source.socket) as caller, Connection(target.socket) as server:
        assert server.bind("upper") == 0
        for number in range(8):
            assert caller.call_post(address, b"q%d" % number, answers.append) == 0
        taken = [server.take() for _ in range(4)]
        for node in renewed:
            renew(node)
        taken += [server.take() for _ in range(4)]
        for request in taken:
            assert request.reply(request.data.upper()) == 0
            request.free()
        process_until(lambda: len(answers) == 8, "all are answered", caller, server)
    assert answers == [b"Q%d" % number for number in range(8)]
